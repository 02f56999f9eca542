"""How findings are told: to people, to programs, to code scanning (SARIF 2.1.0), as GitHub's annotations."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from .annotations import Annotation, github, sarif
from .lint import RULES, LintFinding
from .problems import printable

__all__ = ["FORMATS"]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _text(findings: Sequence[LintFinding]) -> str:
    lines = []
    for finding in findings:
        problem, rule = finding.problem, finding.rule
        about = f" ({finding.application})" if finding.application else ""
        lines.append(
            f"{problem.place}: {rule.level}: {problem.path}{about}: {problem.message} ({problem.remedy}) [{rule.name}]"
        )
    errors = sum(finding.rule.level == "error" for finding in findings)
    counts = f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}"
    lines.append(counts if findings else "nothing to mend")
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


def _annotations(findings: Sequence[LintFinding]) -> list[Annotation]:
    return [
        Annotation(
            finding.rule.name,
            finding.rule.level,
            finding.problem.file,
            finding.problem.line,
            finding.problem.column,
            _message(finding),
        )
        for finding in findings
    ]


def _sarif(findings: Sequence[LintFinding]) -> str:
    return sarif(_annotations(findings), ((rule.name, rule.level, rule.about) for rule in RULES.values()))


def _github(findings: Sequence[LintFinding]) -> str:
    return github(_annotations(findings))


FORMATS: Final[dict[str, Callable[[Sequence[LintFinding]], str]]] = {
    "text": _text,
    "json": _json,
    "sarif": _sarif,
    "github": _github,
}
