"""Values that a policy takes from the environment, only where it says so: `{env: NAME}`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .documents import Document
from .problems import Finding, Location, ProblemsFound

__all__ = ["filled"]

_REFERENCE: Final = {"env"}
_EXAMPLES: Final = "tests"


def filled(document: Document, environment: Mapping[str, str]) -> Document:
    """The document with the values of the variables that it names; as it is when it names none.

    Raises:
        ProblemsFound: for every variable that is not set, or empty.
    """
    findings: list[Finding] = []

    def value_of(value: Any, place: Location) -> Any:
        if isinstance(value, list):
            return [value_of(inner, (*place, number)) for number, inner in enumerate(value)]
        if not isinstance(value, dict) or place[:1] == (_EXAMPLES,):
            return value
        name = value.get("env")
        if value.keys() != _REFERENCE or not isinstance(name, str):
            return {key: value_of(inner, (*place, key)) for key, inner in value.items()}
        if not environment.get(name):
            findings.append(
                (place, f"takes the variable {name!r}, which is not set", "set it, or write the value here")
            )
        return environment.get(name, "")

    if b"env" not in document.octets:
        return document
    data = value_of(document.data, ())
    if findings:
        raise ProblemsFound(document.problem_list(findings))
    return replace(document, data=data)
