"""The pages of docs/: within the package where it was installed from a wheel, beside it in a checkout."""

import re
from pathlib import Path
from typing import Final

__all__ = ["page_name", "section"]

_PACKAGE: Final = Path(__file__).parents[1]
_INSTALLED: Final = _PACKAGE / "docs"
_CHECKOUT: Final = _PACKAGE.parents[1] / "docs"


def page_name(page: str) -> str:
    """How people find a page such as `sidecar.md`: by its path in an installation, or as docs/… in a checkout."""
    path = _INSTALLED / page
    return str(path) if path.is_file() else f"docs/{page}"


def section(page: str, heading: str) -> str | None:
    """What stands beneath a second-level heading of a page; None where there is no such page or heading."""
    for folder in (_INSTALLED, _CHECKOUT):
        try:
            text = (folder / page).read_text("utf-8")
        except OSError:
            continue
        found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        return None if found is None else found[1].strip()
    return None
