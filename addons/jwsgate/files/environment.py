"""Values that a policy takes from the environment, only where it says so: `{env: NAME}`.

Other ways to say it, which would stand as they are, are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .documents import Document
from .problems import Finding, Location, ProblemsFound

__all__ = ["filled"]

_REFERENCE: Final = {"env"}
_EXAMPLES: Final = "tests"
_PLACEHOLDER: Final = re.compile(
    r"\$\{\s*([A-Za-z_]\w*)[^}]*\}|^\$([A-Z_][A-Z0-9_]*)$|^\{\{\s*\.?([A-Za-z_]\w*)\s*\}\}$"
)


def filled(document: Document, environment: Mapping[str, str]) -> Document:
    """The document with the values of the variables that it names; as it is when it names none.

    Raises:
        ProblemsFound: for every variable that is not set, or empty, and for every placeholder of another kind.
    """
    findings: list[Finding] = []

    def value_of(value: Any, place: Location) -> Any:
        if place[:1] == (_EXAMPLES,):
            return value
        if isinstance(value, list):
            return [value_of(inner, (*place, number)) for number, inner in enumerate(value)]
        if isinstance(value, str) and (placeholder := _PLACEHOLDER.search(value)) is not None:
            remedy = f"write {{env: {next(filter(None, placeholder.groups()))}}} in place of the whole value"
            findings.append((place, f"has the placeholder {placeholder[0]}, which nobody fills in", remedy))
        if not isinstance(value, dict):
            return value
        name = value.get("env")
        if value.keys() != _REFERENCE or not isinstance(name, str):
            return {key: value_of(inner, (*place, key)) for key, inner in value.items()}
        if not environment.get(name):
            findings.append(
                (place, f"takes the variable {name!r}, which is not set", "set it, or write the value here")
            )
        return environment.get(name, "")

    if not re.search(rb"env|\$|\{\{", document.octets):
        return document
    data = value_of(document.data, ())
    if findings:
        raise ProblemsFound(document.problem_list(findings))
    return replace(document, data=data)
