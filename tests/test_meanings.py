"""What the reasons mean: the code's own words and docs/reasons.md, complete and in accord."""

from __future__ import annotations

import re

import pytest

from jwsgate.core.answers import ANSWERS
from jwsgate.core.explain import MEANINGS, reason_link
from jwsgate.core.reasons import REPORTABLE, Reason
from unit_material import ROOT

PAGE = (ROOT / "docs" / "reasons.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))


def test_complete() -> None:
    """A section for each reason, in their order, and none besides; the same in the code."""
    assert list(Reason) == list(SECTIONS)
    assert list(Reason) == list(MEANINGS)


@pytest.mark.parametrize("reason", Reason)
def test_section(reason: Reason) -> None:
    """The page says what the code says: what it means, what mends it, what is answered, and whether it is reported."""
    section = " ".join(SECTIONS[reason].split())
    answer = ANSWERS[reason]
    assert MEANINGS[reason].meaning in section
    assert f"**To mend it:** {MEANINGS[reason].remedy}" in section
    assert f"Answer: {answer.status} {answer.message}, `{answer.information}`." in section
    assert ("Passes in report mode." in section) == (reason in REPORTABLE)


@pytest.mark.parametrize("reason", Reason)
def test_link(reason: Reason) -> None:
    """The link that `explain` prints leads to a file that is there, and to the section's anchor."""
    file, _, anchor = reason_link(reason).partition("#")
    assert (ROOT / file).is_file()
    assert anchor in SECTIONS
