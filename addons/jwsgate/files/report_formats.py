"""How the decisions of a test run or a recording are told: to people, CI servers, programs and code hosts."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Final
from xml.etree import ElementTree

from jwsgate.core.answers import ANSWERS
from jwsgate.core.reasons import Reason

from .annotations import Level, github, sarif
from .problems import Unfit, printable
from .tally import Report

__all__ = ["FORMATS", "report_target", "summary"]

_OWN_RULES: Final = (
    ("decision-unexpected", "a request was allowed against an expectation"),
    ("expectation-unmet", "an expectation was not met"),
    ("no-request", "no request came"),
    ("recording-damaged", "a recording cannot be read, or not to its end"),
    ("too-many", "findings among requests that are too many to be listed"),
)


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return ""


def summary(report: Report) -> str:
    """One line."""
    counts = report.counts
    met = sum(not each.failure for each in report.expectations)
    expected = f", {met} of {len(report.expectations)} expectations met" if report.expectations else ""
    total = counts["allowed"] + counts["rejected"] + counts["would_reject"]
    return (
        f"{total} requests: {counts['allowed']} allowed, {counts['rejected']} rejected, "
        f"{counts['would_reject']} would be rejected{expected}; {len(report.findings)} findings"
    )


def _text(report: Report) -> str:
    lines = []
    for each in report.findings:
        place = f"{each.file}:{each.line}:{each.column}: " if each.line else ""
        lines.append(printable(f"{place}{each.message} [{each.rule}]"))
    return "".join(f"{line}\n" for line in (*lines, summary(report)))


def _json(report: Report) -> str:
    requests = [
        {
            "place": case.request.place,
            "transaction_id": case.request.transaction_id or None,
            "time": _time(case.request.time),
            "method": case.request.method,
            "path": case.request.path,
            "decision": case.request.decision,
            "reason": case.request.reason,
            "detail": case.request.detail,
            "route": case.request.route,
            "client_id": case.request.client_id,
            "application": case.request.application,
            "failure": case.failure or None,
        }
        for case in report.cases
    ]
    expectations = [
        {
            "name": each.expectation.shape.name,
            "file": each.expectation.file,
            "line": each.expectation.line,
            "expect": each.expectation.shape.expect,
            "requests": each.count,
            "failure": each.failure or None,
        }
        for each in report.expectations
    ]
    findings = [
        {"rule": each.rule, "file": each.file, "line": each.line, "column": each.column, "message": each.message}
        for each in report.findings
    ]
    whole = {
        "passed": not report.findings,
        "counts": report.counts,
        "requests": requests,
        "expectations": expectations,
        "findings": findings,
    }
    return json.dumps(whole, indent=2) + "\n"


def _suite(root: ElementTree.Element, name: str, cases: int, failures: int) -> ElementTree.Element:
    counted = {"tests": str(cases), "failures": str(failures), "errors": "0", "skipped": "0", "time": "0"}
    return ElementTree.SubElement(root, "testsuite", {"name": name, **counted})


def _failed(parent: ElementTree.Element, kind: str, message: str, more: str = "") -> None:
    failure = ElementTree.SubElement(parent, "failure", {"type": kind, "message": printable(message)})
    failure.text = printable(message) + (f"\n{more}" if more else "")


def _junit(report: Report) -> str:
    """The format that CI servers read; it has no schema of its own, and this keeps to what all of them know."""
    root = ElementTree.Element("testsuites", {"name": "jwsgate"})
    suite = _suite(root, "requests", len(report.cases), sum(bool(case.failure) for case in report.cases))
    if report.cases:
        suite.set("timestamp", _time(report.cases[0].request.time).removesuffix("Z"))
    for case in report.cases:
        request = case.request
        name = printable(f"{request.title} ({request.place})")
        made = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": printable(request.application or request.route or "jwsgate"), "name": name, "time": "0"},
        )
        if request.transaction_id:
            # Not in the name, by which CI servers know a test again.
            made_of = ElementTree.SubElement(made, "properties")
            ElementTree.SubElement(made_of, "property", {"name": "transaction", "value": request.transaction_id})
        if case.failure:
            more = request.explained() if request.explained is not None else ""
            _failed(made, request.reason or "decision-unexpected", case.failure, more)
        elif request.reason is not None:
            ElementTree.SubElement(made, "system-out").text = request.told
    expected = report.expectations
    suite = _suite(root, "expectations", len(expected), sum(bool(each.failure) for each in expected))
    for each in expected:
        place = {"classname": printable(each.expectation.file), "name": printable(each.expectation.shape.name)}
        made = ElementTree.SubElement(suite, "testcase", {**place, "time": "0"})
        if each.failure:
            _failed(made, "expectation-unmet", each.failure)
    others = report.other_failures
    if others:
        suite = _suite(root, "run", len(others), len(others))
        for message in others:
            made = ElementTree.SubElement(suite, "testcase", {"classname": "jwsgate", "name": "run", "time": "0"})
            _failed(made, "run", message)
    tests = len(report.cases) + len(expected) + len(others)
    failures = sum(int(each.attrib["failures"]) for each in root)
    for key, value in (("tests", tests), ("failures", failures), ("errors", 0)):
        root.set(key, str(value))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _sarif(report: Report) -> str:
    level: Level = "error"
    reasons = [(reason.value, level, ANSWERS[reason].information) for reason in Reason]
    return sarif(report.findings, [*reasons, *((name, level, about) for name, about in _OWN_RULES)])


def _github(report: Report) -> str:
    return github(report.findings)


FORMATS: Final[dict[str, Callable[[Report], str]]] = {
    "junit": _junit,
    "json": _json,
    "sarif": _sarif,
    "github": _github,
    "text": _text,
}
_BY_SUFFIX: Final = {".xml": "junit", ".json": "json", ".sarif": "sarif", ".txt": "text"}


def report_target(text: str) -> tuple[str, str]:
    """Format and path of `FORMAT=PATH`, or of a path whose ending tells the format. The path `-` is standard output.

    Raises:
        Unfit: when it does not tell.
    """
    form, equals, path = text.partition("=")
    if equals and form in FORMATS and path:
        return form, path
    told: Any = _BY_SUFFIX.get(PurePath(text).suffix.lower())
    if told is None:
        remedy = f"end it in {', '.join(_BY_SUFFIX)}, or write FORMAT=PATH with {', '.join(FORMATS)}; - is stdout"
        raise Unfit(f"{text!r} does not tell the format", remedy)
    return told, text
