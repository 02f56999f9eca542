"""Findings with places in files, as code scanning (SARIF 2.1.0) and GitHub's workflow commands have them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from jwsgate import __version__

from .problems import printable

__all__ = ["Annotation", "Level", "github", "sarif"]

type Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One finding of a rule. Line and column count from 1; 0 where a file has none to name."""

    rule: str
    level: Level
    file: str
    line: int
    column: int
    message: str


def _uri(file: str) -> str:
    path = Path(file).absolute()
    here = Path.cwd()
    return PurePath(path.relative_to(here)).as_posix() if path.is_relative_to(here) else path.as_uri()


def sarif(annotations: Sequence[Annotation], rules: Iterable[tuple[str, Level, str]]) -> str:
    """SARIF; `rules` are name, level and what each is about."""
    told = [
        {"id": name, "shortDescription": {"text": about}, "defaultConfiguration": {"level": level}}
        for name, level, about in rules
    ]
    results = []
    for each in annotations:
        place: dict[str, Any] = {"artifactLocation": {"uri": _uri(each.file)}}
        if each.line:
            place["region"] = {"startLine": each.line, "startColumn": each.column}
        results.append(
            {
                "ruleId": each.rule,
                "level": each.level,
                "message": {"text": each.message},
                "locations": [{"physicalLocation": place}],
            }
        )
    driver = {"name": "jwsgate", "version": __version__, "rules": told}
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


def github(annotations: Iterable[Annotation]) -> str:
    """GitHub's annotations, a line each."""
    lines = []
    for each in annotations:
        place = f",line={each.line},col={each.column}" if each.line else ""
        file, message = _escaped(each.file, ":,"), _escaped(printable(each.message))
        lines.append(f"::{each.level} file={file}{place},title=jwsgate {each.rule}::{message}")
    return "".join(f"{line}\n" for line in lines)
