"""How findings are told: to people, to programs, to code scanning (SARIF 2.1.0), as GitHub's annotations."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any, Final

from jwsgate import __version__

from .lint import RULES, LintFinding
from .problems import printable

__all__ = ["FORMATS"]


def _text(findings: Sequence[LintFinding]) -> str:
    lines = []
    for finding in findings:
        problem, rule = finding.problem, finding.rule
        about = f" ({finding.application})" if finding.application else ""
        lines.append(
            f"{problem.file}:{problem.line}:{problem.column}: {rule.level}: {problem.path}{about}: "
            f"{problem.message} ({problem.remedy}) [{rule.name}]"
        )
    errors = sum(finding.rule.level == "error" for finding in findings)
    lines.append(f"{errors} errors, {len(findings) - errors} warnings" if findings else "nothing to mend")
    return "".join(printable(line) + "\n" for line in lines)


def _fields(finding: LintFinding) -> dict[str, Any]:
    problem = finding.problem
    return {
        "rule": finding.rule.name,
        "level": finding.rule.level,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "application": finding.application,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def _json(findings: Sequence[LintFinding]) -> str:
    errors = sum(finding.rule.level == "error" for finding in findings)
    whole = {"findings": [*map(_fields, findings)], "errors": errors, "warnings": len(findings) - errors}
    return json.dumps(whole, indent=2) + "\n"


def _message(finding: LintFinding) -> str:
    about = f" ({finding.application})" if finding.application else ""
    return f"{finding.problem.path}{about}: {finding.problem.message} ({finding.problem.remedy})"


def _uri(file: str) -> str:
    path = Path(file).absolute()
    here = Path.cwd()
    return PurePath(path.relative_to(here)).as_posix() if path.is_relative_to(here) else path.as_uri()


def _sarif(findings: Sequence[LintFinding]) -> str:
    rules = [
        {
            "id": rule.name,
            "shortDescription": {"text": rule.about},
            "defaultConfiguration": {"level": rule.level},
        }
        for rule in RULES.values()
    ]
    results = []
    for finding in findings:
        problem = finding.problem
        place: dict[str, Any] = {"artifactLocation": {"uri": _uri(problem.file)}}
        if problem.line:
            place["region"] = {"startLine": problem.line, "startColumn": problem.column}
        results.append(
            {
                "ruleId": finding.rule.name,
                "level": finding.rule.level,
                "message": {"text": _message(finding)},
                "locations": [{"physicalLocation": place}],
            }
        )
    driver = {"name": "jwsgate", "version": __version__, "rules": rules}
    whole = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
    return json.dumps(whole, indent=2) + "\n"


def _escaped(text: str, more: str = "") -> str:
    # Workflow commands: data escapes %, CR and LF, properties : and , as well.
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _github(findings: Sequence[LintFinding]) -> str:
    lines = []
    for finding in findings:
        problem = finding.problem
        place = f",line={problem.line},col={problem.column}" if problem.line else ""
        file, title = _escaped(problem.file, ":,"), f"jwsgate {finding.rule.name}"
        lines.append(
            f"::{finding.rule.level} file={file}{place},title={title}::{_escaped(printable(_message(finding)))}"
        )
    return "".join(f"{line}\n" for line in lines)


FORMATS: Final[dict[str, Callable[[Sequence[LintFinding]], str]]] = {
    "text": _text,
    "json": _json,
    "sarif": _sarif,
    "github": _github,
}
