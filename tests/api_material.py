"""What the tests of API definitions share: small ones, and ways to read their routes and problems."""

from __future__ import annotations

import json
from typing import Any

import material
from jwsgate.core.policy import Route, Router
from jwsgate.files.api_connect import build_api_routes, is_api_definition
from jwsgate.files.documents import read_document
from jwsgate.files.problems import Problem, ProblemsFound
from unit_material import ROOT, KeyFiles

SAMPLE = (ROOT / "policies" / "signvalidate-api-connect.yaml").read_text()
KEY = material.private_pem(material.private_key("rsa")).encode()
REFERENCES = KeyFiles(lambda _name: KEY)

VALIDATE: dict[str, Any] = {"jwt-validate": {"jwt": "request.headers.jwt"}}
CLAIMS: dict[str, Any] = {"set-variable": {"actions": [{"set": "message.body", "value": "$(decoded.claims)"}]}}
INVOKE: dict[str, Any] = {"invoke": {"target-url": "$(target-url)$(request.path)"}}
GENERATE: dict[str, Any] = {
    "jwt-generate": {
        "iss-claim": "i", "aud-claim": "a", "private-claims": "request.body", "jws-alg": "RS256", "jws-crypto": "key",
    }
}  # fmt: skip
CONSTANTS: dict[str, Any] = {
    "set-variable": {"actions": [{"set": "i", "value": "tvo"}, {"set": "a", "value": "the world"}]}
}
JWS_BODY: dict[str, Any] = {"set-variable": {"actions": [{"set": "message.body", "value": "$(generated.jwt)"}]}}


def definition(*steps: Any, extension: Any = None, of_operation: Any = None, **top: Any) -> dict[str, Any]:
    """A definition of one operation, GET /base/item, with these steps."""
    operation: dict[str, Any] = {"responses": {}}
    data: dict[str, Any] = {
        "swagger": "2.0",
        "basePath": "/base",
        "securityDefinitions": {"id": {"type": "apiKey", "in": "header", "name": "X-IBM-Client-Id"}},
        "security": [{"id": []}],
        "paths": {"/item": {"get": operation}},
        "x-ibm-configuration": {"assembly": {"execute": [*steps]}},
    }
    if extension is not None:
        data["x-jwsgate"] = extension
    if of_operation is not None:
        operation["x-jwsgate"] = of_operation
    return data | top


def jwt_validate(**more: str) -> dict[str, Any]:
    """A jwt-validate step with more keys; _ stands for -."""
    return {"jwt-validate": VALIDATE["jwt-validate"] | {key.replace("_", "-"): value for key, value in more.items()}}


def read(data: Any) -> tuple[Router, list[Problem]]:
    """The routes of a definition, given as data or as text, and its problems."""
    text = data if isinstance(data, str | bytes) else json.dumps(data, indent=1)
    octets = text if isinstance(text, bytes) else text.encode()
    router = Router()
    try:
        document = read_document("api.yaml", octets)
    except ProblemsFound as error:
        return router, list(error.problems)
    assert is_api_definition(document)
    return router, sorted(build_api_routes(document, router, REFERENCES))


def routes(data: Any) -> list[Route]:
    """The routes of a definition without a problem."""
    router, problems = read(data)
    assert problems == []
    return list(router)


def only(data: Any) -> Route:
    """The route of a definition that has one."""
    (route,) = routes(data)
    return route


def refused(data: Any) -> list[tuple[str, str]]:
    """Path and message of each problem; there must be one, each with a place and a remedy."""
    _, problems = read(data)
    assert problems
    for problem in problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.remedy
    return [(problem.path, problem.message) for problem in problems]
