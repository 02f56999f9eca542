"""The pages of docs/ that go with the package: found in a checkout, and from a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwsgate.files import pages
from jwsgate.files.pages import page_name, section
from unit_material import ROOT


def test_section() -> None:
    """What stands beneath a heading, up to the next one."""
    text = section("reasons.md", "jws_expired")
    assert text is not None
    assert text.startswith("The time in exp has come or passed.")
    assert "## " not in text
    assert section("reasons.md", "jws_expire") is None
    assert section("nowhere.md", "jws_expired") is None


def test_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel has the pages in the package, and help names them by where they are."""
    assert page_name("sidecar.md") == "docs/sidecar.md"
    assert (ROOT / "docs" / "sidecar.md").is_file()
    monkeypatch.setattr(pages, "_INSTALLED", tmp_path)
    (tmp_path / "sidecar.md").write_text("# A\n\n## b\n\nc\n\n## d\n")
    assert page_name("sidecar.md") == str(tmp_path / "sidecar.md")
    assert (section("sidecar.md", "b"), section("sidecar.md", "d")) == ("c", "")
