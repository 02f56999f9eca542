"""API Connect's API definitions as policies: OpenAPI 2 and 3 with `x-ibm-configuration`."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from jwsgate.core.policy import Router

from .api_definition import TranslatedPolicy, translate
from .documents import Document
from .policy_file import PolicyReferences, add_routes
from .problems import Location, Problem, ProblemsFound, path_text, printable

__all__ = ["build_api_routes", "convert", "is_api_definition", "policy_data"]


def is_api_definition(document: Document) -> bool:
    """Whether a document is an API definition and no policy of our own."""
    return isinstance(document.data, dict) and not {"swagger", "openapi"}.isdisjoint(document.data)


def policy_data(document: Document) -> tuple[Any, Callable[[Location], Location]]:
    """What a document says as the data of a policy, sound or not, and where in the document each part stands."""
    if not is_api_definition(document):
        return document.data, lambda location: location
    policy = translate(document.data)
    return policy.data(), policy.origin


def _add(document: Document, policy: TranslatedPolicy, router: Router, references: PolicyReferences) -> list[Problem]:
    findings = list(policy.findings)
    if not document.problems:
        for location, message, remedy in add_routes(policy.data(), router, references):
            # Of routes that are left out for a finding, applications and tests would be told that there are none.
            of_its_own = location[:1] == ("defaults",) or (location[:1] == ("routes",) and len(location) > 1)
            if of_its_own or not policy.findings:
                findings.append((policy.origin(location), message, remedy))
    return [*document.problems, *document.problem_list(findings)]


def build_api_routes(document: Document, router: Router, references: PolicyReferences) -> list[Problem]:
    """Add the routes of an API definition to the router; every problem in it is returned."""
    return _add(document, translate(document.data), router, references)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(value: Mapping[str, Any] | list[Any]) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10**6)
    return text


def convert(document: Document, references: PolicyReferences) -> str:
    """An API definition as the text of a policy of our own.

    Raises:
        ProblemsFound: with every problem in it.
    """
    policy = translate(document.data)
    problems = _add(document, policy, Router(), references)
    if problems:
        raise ProblemsFound(problems)
    origins = [policy.origins["routes", index, "path"] for index in range(len(policy.routes))]
    positions = document.locate(origins)
    text = f"# From {printable(document.file)}. Names of files are relative to where that one is.\n"
    if policy.defaults:
        text += _yaml({"defaults": policy.defaults})
    text += "routes:\n"
    for route, origin in zip(policy.routes, origins, strict=True):
        line, column = positions[origin]
        text += f"  # {printable(path_text(origin))}, line {line}, column {column}\n"
        text += "".join(f"  {each}\n" for each in _yaml([route]).splitlines())
    return text + (_yaml(policy.lists) if policy.lists else "")
