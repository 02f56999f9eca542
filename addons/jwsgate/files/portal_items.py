"""What the items of an export are, and which of them belong together, by their keys and URLs."""

import re
from typing import Any, Final

__all__ = ["OF_APPLICATIONS", "is_credential", "is_list_of_credentials", "last_segment", "list_of", "plain_path"]

_HOST: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
OF_APPLICATIONS: Final = {"client_id", "credentials", "app_credential_urls", "application_public_certificate_entry"}
"""Keys by which a file is told to be one application that does not say its type."""


def plain_path(url: object) -> str:
    """What identifies a thing by its URL: absolute in one export, relative or behind another prefix in the next."""
    if not isinstance(url, str):
        return ""
    path = _HOST.sub("", url, count=1).partition("?")[0].rstrip("/")
    for prefix in ("/consumer-api/", "/api/"):
        if path.startswith(prefix):
            return path[len(prefix) - 1 :]
    return path


def last_segment(url: object) -> str:
    """How a thing is called in the URL of what belongs to it; empty for what is no URL."""
    return url.rstrip("/").rpartition("/")[2] if isinstance(url, str) else ""


def is_credential(item: object) -> bool:
    """Whether an item is a credential that stands apart from its application."""
    if not isinstance(item, dict) or "type" in item:
        return isinstance(item, dict) and item["type"] == "credential"
    return "app_url" in item or (isinstance(url := item.get("url"), str) and "/credentials/" in url)


def is_list_of_credentials(rest: dict[str, Any]) -> bool:
    """Whether a file is nothing but credentials that stand apart, as a portal snapshot has them."""
    lists = [rest.get(key) for key in ("credentials", "app_credentials")]
    others = rest.keys() - {"credentials", "app_credentials"}
    return not others & (OF_APPLICATIONS | {"type", "name", "title"}) and any(
        is_credential(item) for items in lists if isinstance(items, list) for item in items
    )


def list_of(file: str, first: Any) -> tuple[str, str, str]:
    """What the pages of one list have in common, by an item: their folder, what is listed, and of which catalog."""
    item = first if isinstance(first, dict) else {}
    kind = "credential" if is_credential(item) else str(item.get("type", "app"))
    return file.rpartition("/")[0], kind, plain_path(item.get("catalog_url"))
