"""Reports of a running gate: bounded, and never silent about what could not be written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jwsgate.core.reasons import Reason
from jwsgate.files import tally
from jwsgate.files.problems import Unfit
from jwsgate.files.report_files import prepare_targets, write_reports
from jwsgate.files.report_formats import FORMATS
from jwsgate.files.tally import DecidedRequest, Report, Tally


def decided(number: int, reason: Reason | None = None) -> DecidedRequest:
    """One request."""
    return DecidedRequest(f"request {number}", "policy.yaml", 0.0, "GET", f"/{number}", reason, detail="so")


def report_of(fail_on: tally.FailOn, *reasons: Reason | None) -> Report:
    """What comes of some decisions."""
    made = Tally(fail_on, (), "policy.yaml")
    for number, reason in enumerate(reasons):
        made.add(decided(number, reason), f"/{number}")
    return made.report()


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much to be listed still fails the run, in every format."""
    monkeypatch.setattr(tally, "_MAX_KEPT", 2)
    report = report_of("reject", None, None, None, Reason.JWS_EXPIRED)
    assert [case.request.path for case in report.cases] == ["/0", "/1"]
    assert report.counts == {"allowed": 3, "rejected": 1, "would_reject": 0, "unlisted": 2}
    (finding,) = report.findings
    assert finding.message == "1 more are among requests too many to be listed"
    assert ElementTree.fromstring(FORMATS["junit"](report)).get("failures") == "1"


def test_names_are_the_same_in_each_run() -> None:
    """What differs from run to run is a property, so that no CI server takes a test for a new one."""
    made = Tally("reject", (), "policy.yaml")
    for number in (1, 2):
        made.add(replace(decided(17), place=f"request {number}", transaction_id=f"{number:024x}"), "/17")
    root = ElementTree.fromstring(FORMATS["junit"](made.report()))
    assert [case.get("name") for case in root.iter("testcase")] == ["GET /17 (request 1)", "GET /17 (request 2)"]
    assert [(each.get("name"), each.get("value")) for each in root.iter("property")] == [
        ("transaction", f"{number:024x}") for number in (1, 2)
    ]


def test_explained_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a report has patience for; what is no finding is not asked about, and not kept."""
    monkeypatch.setattr(tally, "_MAX_EXPLAINED", 1)
    made = Tally("reject", (), "policy.yaml")
    asked: list[int] = []
    for number, reason, reported in ((0, Reason.JWS_MISSING, True), (1, Reason.JWS_EXPIRED, False)) * 2:

        def why(number: int = number) -> str:
            asked.append(number)
            return "mistake\nWhat to do: mend it"

        made.add(replace(decided(number, reason), reported=reported, explained=why), f"/{number}")
    report = made.report()
    assert [case.request.explained is not None for case in report.cases] == [False, True, False, False]
    texts = [failure.text for failure in ElementTree.fromstring(FORMATS["junit"](report)).iter("failure")]
    assert texts == ["rejected: jws_expired: so\nmistake\nWhat to do: mend it", "rejected: jws_expired: so"]
    assert asked == [1]


def test_without_a_request() -> None:
    """A finding, but for those who fail on nothing."""
    assert [finding.rule for finding in report_of("reject").findings] == ["no-request"]
    assert list(report_of("none").findings) == []


@pytest.mark.parametrize(
    ("fail_on", "findings"), [("none", 0), ("reject", 1), ("would-reject", 2)], ids=["none", "reject", "would-reject"]
)
def test_fail_on(fail_on: tally.FailOn, findings: int) -> None:
    """Each is stricter than the one before."""
    made = Tally(fail_on, (), "policy.yaml")
    made.add(decided(0), "/0")
    made.add(decided(1, Reason.JWS_EXPIRED), "/1")
    made.add(DecidedRequest("r", "p", 0.0, "GET", "/", Reason.JWS_MISSING, reported=True), "/")
    assert len(made.report().findings) == findings


def test_disk_that_is_full() -> None:
    """It is told, so that an empty report is not taken for a good one."""
    assert write_reports(report_of("none"), [("json", "/dev/full")]) == [
        "the report '/dev/full' cannot be written: No space left on device"
    ]


def test_earlier_report_goes_at_once(tmp_path: Path) -> None:
    """If this run is killed, the last one's report must not speak for it."""
    path = tmp_path / "r.xml"
    path.write_text("old")
    assert prepare_targets([str(path), "github=-"]) == [("junit", str(path)), ("github", "-")]
    assert path.read_text() == ""
    with pytest.raises(Unfit, match="cannot be written: Is a directory"):
        prepare_targets([f"json={tmp_path}"])
