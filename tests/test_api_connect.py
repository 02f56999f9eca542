"""API definitions of API Connect as policies: what they demand is demanded, and what cannot be is told."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from api_material import (
    CLAIMS,
    CONSTANTS,
    GENERATE,
    INVOKE,
    JWS_BODY,
    KEY,
    REFERENCES,
    SAMPLE,
    VALIDATE,
    definition,
    jwt_validate,
    only,
    read,
    refused,
    routes,
)
from jwsgate import cli
from jwsgate.core.claims import ClaimRules, Matching
from jwsgate.core.client_certificate import ClientCertificate
from jwsgate.core.policy import Forward, RespondClaims, Route, Router, Sign
from jwsgate.core.sources import Source
from jwsgate.files.api_connect import build_api_routes, convert, is_api_definition
from jwsgate.files.documents import read_document
from jwsgate.files.handover import LENGTH_OCTETS, Assembly, main, order
from jwsgate.files.lint import lint
from jwsgate.files.loading import load_snapshot
from jwsgate.files.openapi_shapes import DocumentExtension, OperationExtension
from jwsgate.files.policy_shapes import PolicyShape
from jwsgate.files.policy_tests import run_policy_tests
from jwsgate.files.problems import ProblemsFound
from jwsgate.files.schemas import schema_of
from unit_material import ROOT, read_policy

# What a definition comes to


DEMANDS = [each for each in dataclasses.fields(Route) if each.init]
"""The fields of a route that say what it demands; the others follow from these, or are its own."""


def test_sample_is_the_sample() -> None:
    """Each route of the definition is, field by field, the one of policies/signvalidate.yaml."""
    router, problems = read_policy((ROOT / "policies" / "signvalidate.yaml").read_text(), lambda _: KEY)
    assert problems == []
    ours = {route.name: route for route in router}
    theirs = routes(SAMPLE)
    assert [route.name for route in theirs] == ["sign", "validate"]
    for route in theirs:
        for field in DEMANDS:
            assert getattr(route, field.name) == getattr(ours[route.name], field.name), field.name


def test_validate_and_forward() -> None:
    """A step that validates, and one that calls: forward with a JWS."""
    route = only(definition(VALIDATE, INVOKE))
    assert (route.name, route.pattern.segments, route.methods) == ("get /item", ("base", "item"), frozenset({"GET"}))
    assert route.client_id == Source("header", "X-IBM-Client-Id")
    assert route.jws == Source("header", "jwt")
    assert route.claims == ClaimRules(required=())
    assert route.action == Forward()


@pytest.mark.parametrize(
    ("jwt", "source"),
    [
        ("request.headers.x-token", Source("header", "x-token")),
        ("request.headers.authorization", Source("header", "authorization", "Bearer")),
        ("request.headers.Authorization", Source("header", "Authorization", "Bearer")),
    ],
)
def test_jwt_source(jwt: str, source: Source) -> None:
    """A header holds the JWS as it is, but Authorization has its scheme."""
    assert only(definition(jwt_validate(jwt=jwt), INVOKE)).jws == source


def test_default_jwt_source() -> None:
    """As in the product: Authorization with Bearer."""
    assert only(definition({"jwt-validate": {}}, INVOKE)).jws == Source("header", "authorization", "Bearer")


def test_jwt_source_by_variable() -> None:
    """A variable that was set to a header is that header; one set to anything else is refused."""
    copied = {"set-variable": {"actions": [{"set": "my.jwt", "value": "$(request.headers.x)"}]}}
    assert only(definition(copied, jwt_validate(jwt="my.jwt"), INVOKE)).jws == Source("header", "x")
    for value in ("text", "Bearer $(request.headers.x)", "$(request.body)"):
        changed = {"set-variable": {"actions": [{"set": "my.jwt", "value": value}]}}
        ((path, _),) = refused(definition(changed, jwt_validate(jwt="my.jwt"), INVOKE))
        assert path.endswith("jwt-validate.jwt")


@pytest.mark.parametrize(
    ("scheme", "source"),
    [
        ({"type": "apiKey", "in": "query", "name": "client_id"}, Source("query", "client_id")),
        ({"type": "apiKey", "in": "header", "name": "X-Me", "x-key-type": "client_id"}, Source("header", "X-Me")),
    ],
)
def test_client_id_source(scheme: dict[str, str], source: Source) -> None:
    """The place and the name that the security definition says."""
    assert only(definition(VALIDATE, INVOKE, securityDefinitions={"id": scheme})).client_id == source


def test_openapi_3() -> None:
    """Servers in place of a base path, components in place of securityDefinitions."""
    data = definition(VALIDATE, INVOKE)
    schemes = data.pop("securityDefinitions")
    del data["swagger"], data["basePath"]
    data |= {
        "openapi": "3.0.3",
        "servers": [{"url": "https://one.example/v1/"}, {"url": "/v1"}],
        "components": {"securitySchemes": schemes},
    }
    ((path, _),) = refused(data)
    assert path == "servers"
    del data["servers"][0]
    assert only(data).pattern.segments == ("v1", "item")


def test_claims_as_listed() -> None:
    """Patterns that only list texts are texts."""
    route = only(definition(jwt_validate(iss_claim="^tvo$", aud_claim=r"(a|b\.example)"), INVOKE))
    assert (route.claims.issuer, route.claims.audience) == (("tvo",), ("a", "b.example"))


def test_claims_as_patterns() -> None:
    """Others are matched, always whole."""
    route = only(definition(jwt_validate(iss_claim="tvo-[0-9]+"), INVOKE))
    assert isinstance(route.claims.issuer, Matching)
    assert "tvo-17" in route.claims.issuer
    other: list[object] = ["tvo-", "x tvo-17", "tvo-17\n", "tvo-\u0661", 17, None]
    assert [each for each in other if each in route.claims.issuer] == []


def test_application_authentication() -> None:
    """A certificate in the handshake, as the document demands it."""
    data = definition(VALIDATE, INVOKE)
    for asked in ({"certificate": "true"}, "certificate", [{"certificate": "true"}]):
        data["x-ibm-configuration"]["application-authentication"] = asked
        assert only(data).client_certificate == ClientCertificate()
    data["x-jwsgate"] = {"client_certificate": "none"}
    assert ("x-jwsgate.client_certificate", "contradicts application-authentication") in refused(data)
    for asked in ({"password": "true"}, {}, "", None, {"certificate": "yes"}, [[]]):
        data["x-ibm-configuration"]["application-authentication"] = asked
        assert next(path for path, _ in refused(data)).endswith("application-authentication")


def test_extension_demands_more() -> None:
    """What a policy can demand, the extension can, for all operations or one."""
    route = only(
        definition(
            jwt_validate(iss_claim="tvo"),
            INVOKE,
            extension={"claims": {"max_lifetime": "60", "required": ["exp"]}, "algorithms": ["RS256"]},
            of_operation={"claims": {"leeway": "5"}, "jws": {"max_octets": "500"}, "single_use": "true"},
        )
    )
    assert route.claims == ClaimRules(required=("exp",), leeway=5, max_lifetime=60, issuer=("tvo",))
    assert (route.algorithms, route.max_jws_octets, route.single_use) == (frozenset({"RS256"}), 500, True)


@pytest.mark.parametrize("where", ["extension", "of_operation"])
@pytest.mark.parametrize(
    "said",
    [
        {"claims": {"issuer": "evil"}},
        {"claims": {"audience": "evil"}},
        {"jws": {"header": "other"}},
        {"jws": {"query": "other"}},
        {"jws": {"detached": "true"}},
        {"jws": {"also": [{"query": "jwt"}]}},
        {"client_id": {"header": "Other"}},
        {"ignore": "jwt-validate"},
        {"ignore": ["gatewayscript", "operation-switch"]},
        {"ignore": "throw"},
        {"ignored": "x"},
        {"sign": {}},
    ],
)
def test_extension_takes_nothing_away(where: str, said: Any) -> None:
    """What the document states, the extension cannot replace."""
    steps = jwt_validate(iss_claim="tvo", aud_claim="a.*"), INVOKE
    assert refused(
        definition(*steps, extension=said) if where == "extension" else definition(*steps, of_operation=said)
    )


@pytest.mark.parametrize(
    "condition",
    [
        "request.verb==='GET'",
        '((request.verb === "GET") && (api.operation.path == "/item"))',
        "request.path === '/base/item'",
        "$httpVerb() = 'GET' and $operationPath() = '/item'",
        "!(request.verb === 'POST') && 'GET' === request.verb",
        "request.verb !== 'POST' || request.headers.x === '1'",
        "api.operation.id === 'getItem'",
    ],
)
def test_switch(condition: str) -> None:
    """Conditions on the operation choose its steps; the others are not taken."""
    data = definition({"switch": {"case": [
        {"condition": f"!({condition})", "execute": [{"throw": {}}]},
        {"condition": condition, "execute": [jwt_validate(iss_claim="tvo"), INVOKE]},
        {"otherwise": [{"throw": {}}]},
    ]}})  # fmt: skip
    data["paths"]["/item"]["get"]["operationId"] = "getItem"
    assert only(data).claims.issuer == ("tvo",)


@pytest.mark.parametrize(
    "condition",
    [
        "request.headers.x === '1'",
        "request.verb === 'GET' && request.headers.x === '1'",
        "request.verb = 'GET'",
        "request.verb === 'get'",
        "request.verb",
        "GET",
        "!request.verb === 'GET'",
        "request.verb === 'GET' ? true : false",
        "require('x')",
        "request.verb === 'G\\x45T'",
        "(" * 5000,
        "!" * 5000,
        "request.verb === 'GET'" + " || request.verb === 'GET'" * 2000,
        "",
        "'GET' === 'GET'",
        "request.path === request.path",
    ],
)
def test_unknown_condition(condition: str) -> None:
    """A condition that only a request decides, or that is not understood, is never guessed."""
    for step in (
        {"switch": {"case": [{"condition": condition, "execute": [VALIDATE]}]}},
        {"if": {"condition": condition, "execute": [VALIDATE]}},
        {"if": {"condition": condition, "execute": [{"throw": {}}]}},
    ):
        for ignore in ({}, {"ignore": ["switch", "if"]}):
            assert refused(definition(step, VALIDATE, INVOKE, extension=ignore))
    harmless = {"if": {"condition": condition, "execute": [{"activity-log": {}}]}}
    if condition:
        assert refused(definition(harmless, VALIDATE, INVOKE))
        assert only(definition(harmless, VALIDATE, INVOKE, extension={"ignore": "if"}))


def test_operation_switch_by_id() -> None:
    """Operations may be named by ID too; what no case names goes otherwise."""
    data = definition({"operation-switch": {
        "case": [{"operations": ["getItem"], "execute": [jwt_validate(iss_claim="one")]}],
        "otherwise": [jwt_validate(iss_claim="two")],
    }}, INVOKE)  # fmt: skip
    data["paths"]["/item"] = {"get": {"operationId": "getItem"}, "put": {}}
    assert [route.claims.issuer for route in routes(data)] == [("one",), ("two",)]


@pytest.mark.parametrize(
    "operations",
    [["getitem"], [{"verb": "get", "path": "/items"}], [{"verb": "get"}], [[]], [{"verb": "get", "path": "/item"}] * 2,
     ["getItem", {"verb": "get", "path": "/item"}]],
)  # fmt: skip
def test_operation_switch_slips(operations: list[Any]) -> None:
    """A case for an operation that is not there, or twice there, is a slip that could skip the check."""
    cases = [{"operations": [each], "execute": [VALIDATE]} for each in operations]
    data = definition({"operation-switch": {"case": cases, "otherwise": [jwt_validate(iss_claim="x")]}}, INVOKE)
    data["paths"]["/item"]["get"]["operationId"] = "getItem"
    assert refused(data)


def test_throw() -> None:
    """An operation that always throws has no route. Alone on its path it has to go: it must not fall to a /**."""
    execute = [{"throw": {"name": "No"}}, {"never": {}}]
    step = {"if": {"condition": "request.verb === 'PUT'", "execute": execute}}
    data = definition(step, VALIDATE, INVOKE)
    data["paths"]["/item"]["put"] = {}
    router, problems = read(data)
    assert problems == []
    read_policy("routes:\n  - path: /**\n", router=router)
    assert router.match("PUT", ("base", "item")) is None
    assert router.match("GET", ("base", "item")) is not None
    data["paths"]["/other"] = {"put": {}}
    assert refused(data) == [("paths./other.put", "always comes to throw")]


# What is refused


UNENFORCEABLE: list[Any] = [
    pytest.param(definition({"gatewayscript": {"source": "x"}}, VALIDATE, INVOKE), "gatewayscript", id="script"),
    pytest.param(definition(VALIDATE, {"redact": {}}, INVOKE), "redact", id="unknown-step"),
    pytest.param(definition(VALIDATE, INVOKE, {"map": {}}), "map", id="after-invoke"),
    pytest.param(definition({"group": {"execute": [VALIDATE]}}, VALIDATE, INVOKE, extension={"ignore": "group"}),
                 "group", id="demand-inside-an-ignored-step"),
    pytest.param(definition(INVOKE, VALIDATE), "jwt-validate", id="validate-after-invoke"),
    pytest.param(definition(VALIDATE, VALIDATE, INVOKE), "jwt-validate", id="two-validations"),
    pytest.param(definition(INVOKE), "get", id="no-validation"),
    pytest.param(definition(VALIDATE), "get", id="no-end"),
    pytest.param(definition(CLAIMS), "get", id="claims-of-nothing"),
    pytest.param(definition(VALIDATE, CLAIMS, INVOKE), "get", id="body-replaced"),
    pytest.param(definition(jwt_validate(jws_crypto="k"), INVOKE), "jws-crypto", id="other-key"),
    pytest.param(definition(jwt_validate(jws_jwk="k"), INVOKE), "jws-jwk", id="other-jwk"),
    pytest.param(
        definition({"set-variable": {"actions": [{"set": "k", "value": "{}"}]}}, jwt_validate(jws_jwk="k"), INVOKE,
                   extension={"registered_certificate": "k"}), "jws-jwk", id="fixed-jwk"),
    pytest.param(definition(jwt_validate(jwe_crypto="k"), INVOKE), "jwe-crypto", id="decryption"),
    pytest.param(definition(jwt_validate(jwt="request.body"), INVOKE), "jwt", id="jws-in-body"),
    pytest.param(definition(jwt_validate(iss_claim="(?=a)a"), INVOKE), "iss-claim", id="look-ahead"),
    pytest.param(definition(jwt_validate(aud_claim=r"(a)\1"), INVOKE), "aud-claim", id="back-reference"),
    pytest.param(definition(jwt_validate(aud_claim="(?>a+)b"), INVOKE), "aud-claim", id="atomic-group"),
    pytest.param(definition(jwt_validate(aud_claim="(a"), INVOKE), "aud-claim", id="no-pattern"),
    pytest.param(definition(jwt_validate(aud_claim="é+"), INVOKE), "aud-claim", id="beyond-ascii"),
    pytest.param(definition(jwt_validate(aud_claim="(x{1000}){1000}"), INVOKE), "aud-claim", id="huge-pattern"),
    pytest.param(definition(jwt_validate(aud_claim="a" * 1001), INVOKE), "aud-claim", id="long-pattern"),
    pytest.param(definition(jwt_validate(aud_claim="$(audience)"), INVOKE), "aud-claim", id="pattern-by-variable"),
    pytest.param(definition(jwt_validate(aud_claim=""), INVOKE), "aud-claim", id="empty-pattern"),
    pytest.param(definition(VALIDATE, {"invoke": {"target-url": "https://other.example/x"}}), "target-url", id="url"),
    pytest.param(definition(VALIDATE, {"invoke": INVOKE["invoke"] | {"verb": "POST"}}), "verb", id="other-verb"),
    pytest.param(definition(VALIDATE, {"set-variable": {"actions": [{"set": "message.headers.x", "value": "1"}]}},
                            INVOKE), "set", id="header-changed"),
    pytest.param(definition(VALIDATE, INVOKE, security=[]), "get", id="no-security"),
    pytest.param(definition(VALIDATE, INVOKE, security=[{}]), "security", id="empty-security"),
    pytest.param(definition(VALIDATE, INVOKE, security=[{"id": []}, {}]), "security", id="optional-security"),
    pytest.param(definition(VALIDATE, INVOKE, security=[{"id": [], "oauth": []}]), "oauth", id="undefined-security"),
    pytest.param(definition(VALIDATE, INVOKE, security=[{"id": [], "too": []}],
                            securityDefinitions={name: {"type": "apiKey", "in": "query", "name": "client_id"}
                                                 for name in ("id", "too")}), "security", id="two-client-ids"),
    pytest.param(definition(VALIDATE, INVOKE, securityDefinitions={"id": {"type": "basic"}}), "id", id="basic"),
    pytest.param(definition(CONSTANTS, {"jwt-generate": GENERATE["jwt-generate"] | {"private-claims": "mine"}},
                            JWS_BODY, extension={"sign": {"key": "k"}}), "private-claims", id="other-claims"),
    pytest.param(definition(CONSTANTS, GENERATE, JWS_BODY), "jws-crypto", id="no-key"),
    pytest.param(definition(GENERATE, JWS_BODY), "iss-claim", id="no-issuer"),
    pytest.param(definition(CONSTANTS, GENERATE, extension={"sign": {"key": "k"}}), "jwt-generate", id="jws-unused"),
    pytest.param(definition(VALIDATE, CONSTANTS, GENERATE, JWS_BODY, extension={"sign": {"key": "k"}}),
                 "jwt-generate", id="validate-and-generate"),
    pytest.param(definition(VALIDATE, INVOKE, of_operation={"sign": {"key": "k"}}), "sign", id="sign-nothing"),
    pytest.param(definition(VALIDATE, INVOKE, swagger="1.2"), "swagger", id="old-swagger"),
    pytest.param(definition(VALIDATE, INVOKE, secruity=[]), "secruity", id="slip-at-the-top"),
    pytest.param(definition(VALIDATE, INVOKE, basePath="base"), "basePath", id="base-path"),
    pytest.param(definition(VALIDATE, INVOKE, paths={}), "paths", id="no-paths"),
    pytest.param(definition(VALIDATE, INVOKE, paths={"/x": {"$ref": "y"}}), "$ref", id="reference"),
    pytest.param(definition(VALIDATE, INVOKE, paths={"/x": {"gett": {}}}), "gett", id="slip-in-a-verb"),
    pytest.param(definition(VALIDATE, INVOKE, paths={"/x": {"get": {"secruity": []}}}), "secruity",
                 id="slip-in-operation"),
    pytest.param(definition(VALIDATE, INVOKE, paths={f"/{each}": {"get": {"operationId": "o"}} for each in "xy"}),
                 "operationId", id="operation-id-twice"),
    pytest.param(definition(VALIDATE, INVOKE, paths={"/a*b": {"get": {}}}), "/a*b", id="path-pattern"),
    pytest.param(definition(VALIDATE, INVOKE, paths={"/x": {"get": {}, "x-jwsgate": {"single_use": "true"}}}),
                 "x-jwsgate", id="extension-of-path"),
    pytest.param(definition(VALIDATE, INVOKE, **{"X_JWSGate": {"single_use": "true"}}), "X_JWSGate",
                 id="slip-in-extension"),
    pytest.param(definition(VALIDATE, INVOKE, **{"x-ibm-configuration": {}}), "execute", id="no-assembly"),
    pytest.param(definition(VALIDATE, INVOKE, **{"x-ibm-configuration": None}), "x-ibm-configuration", id="none"),
    pytest.param({"swagger": "2.0"}, "paths", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "named"), UNENFORCEABLE)
def test_unenforceable_is_named(data: dict[str, Any], named: str) -> None:
    """With its place and a remedy; and nothing of it is used."""
    assert any(path.rpartition(".")[2].partition("[")[0] == named for path, _ in refused(data)), refused(data)


def test_place_of_a_problem() -> None:
    """File, line and column of the step's own name."""
    text = SAMPLE.replace(
        "                - jwt-validate:\n",
        "                - gatewayscript: {source: x}\n                - jwt-validate:\n",
    )
    line = text.splitlines().index("                - gatewayscript: {source: x}") + 1
    _, (problem,) = read(text)
    assert str(problem).startswith(f"api.yaml:{line}:19: x-ibm-configuration.assembly.execute[0].operation-switch.")
    assert str(problem).endswith(
        "gatewayscript: is a step that the gate cannot carry out (remove it, or if nothing depends on it say "
        "x-jwsgate: {ignore: [gatewayscript]})"
    )


def test_all_problems_at_once() -> None:
    """A step that is not understood does not hide what is wrong with the others."""
    data = definition({"script": {}}, jwt_validate(iss_claim="(?=a)a"), security=[{"id": [], "secret": []}])
    assert [path.rpartition(".")[2] for path, _ in refused(data)] == ["secret", "script", "iss-claim"]


def test_mapped_by_the_user() -> None:
    """What cannot be enforced may be ignored by name, and what the steps come to be said."""
    script = {"gatewayscript": {"source": "x"}}
    assert only(definition(script, VALIDATE, script, of_operation={"ignore": "gatewayscript", "respond": "claims"}))
    route = only(definition(script, extension={"ignore": "gatewayscript"}, of_operation={"forward": "true"}))
    assert (route.action, route.jws, route.claims) == (Forward(), Source("header", "jwt"), ClaimRules())
    registered = {"registered_certificate": "app.jwk"}
    assert only(definition(jwt_validate(jws_jwk="app.jwk"), CLAIMS, extension=registered)).action == RespondClaims()
    secret = {"type": "apiKey", "in": "header", "name": "X-IBM-Client-Secret"}
    data = definition(VALIDATE, INVOKE, security=[{"id": [], "secret": []}])
    data["securityDefinitions"]["secret"] = secret
    assert [path for path, _ in refused(data)] == ["securityDefinitions.secret"]
    assert only(data | {"x-jwsgate": {"ignore": "secret"}}).client_id == Source("header", "X-IBM-Client-Id")
    data = definition(VALIDATE, INVOKE)
    data["x-ibm-configuration"]["assembly"]["catch"] = [{"default": []}]
    assert [path for path, _ in refused(data)] == ["x-ibm-configuration.assembly.catch"]
    assert only(data | {"x-jwsgate": {"ignore": "catch"}})


def test_sign_by_script() -> None:
    """Where a script makes the JWS the response, the operation's own key says so."""
    script = {"gatewayscript": {"source": "x"}}
    said = {"ignore": "gatewayscript", "sign": {"key": "k"}}
    action = only(definition(CONSTANTS, GENERATE, script, of_operation=said)).action
    assert isinstance(action, Sign)
    assert (action.algorithm, action.issuer, action.audience, action.lifetime) == ("RS256", "tvo", "the world", 3600)


# Convert


@pytest.mark.parametrize(
    "data",
    [
        SAMPLE,
        definition(jwt_validate(iss_claim="(no|0123|é|a: b|#c)", aud_claim="null"), INVOKE),
        definition(
            VALIDATE,
            INVOKE,
            extension={
                "client_certificate": {"header": "X-C", "format": "xfcc", "from": ["10.0.0.0/8"]},
                "claims": {"leeway": "5"},
                "max_body_octets": "1000",
                "upstream": {"strip_jws": "true", "claims": {"X-Subject": "sub"}},
                "cors": {"origins": ["https://app.example"]},
            },
            of_operation={"client_certificate": "none", "bind": {"method": "htm"}, "single_use": "true"},
        ),
    ],
)
def test_convert(data: Any) -> None:
    """The text is a policy whose routes are those of the definition, each with the place that it comes from."""
    text = data if isinstance(data, str) else json.dumps(data)
    converted = convert(read_document("api.yaml", text.encode()), REFERENCES)
    router, problems = read_policy(converted, lambda _: KEY)
    assert problems == []
    for own, theirs in zip(router, routes(text), strict=True):
        for field in DEMANDS:
            assert getattr(own, field.name) == getattr(theirs, field.name), field.name
    assert converted.count("\n  # paths./") == len(router)
    # As an editor reads it: numbers are numbers.
    jsonschema.Draft202012Validator(schema_of(PolicyShape)).validate(yaml.safe_load(converted))


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (
            "https://idp.example/realm",
            ["https://idp.example/realm", "https://idpxexample/realm"],
            ["https://idp.example"],
        ),
        ("tvo-[0-9]+", ["tvo-1"], ["tvo-", "tvo-1x"]),
    ],
)
def test_convert_writes_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    """As patterns, so that the policy demands what the definition does: no less, and no more."""
    data = definition(jwt_validate(iss_claim=pattern, aud_claim=pattern), INVOKE)
    converted = convert(read_document("api.yaml", json.dumps(data).encode()), REFERENCES)
    router, problems = read_policy(converted)
    assert problems == []
    for (route,) in (routes(data), list(router)):
        for rule in (route.claims.issuer, route.claims.audience):
            assert [text for text in (*good, *bad) if text in rule] == good
    assert f"issuer_pattern: {pattern}\n" in converted


@pytest.mark.parametrize("where", ["extension", "of_operation"])
@pytest.mark.parametrize(("rule", "key"), [("issuer", "iss_claim"), ("audience", "aud_claim")])
@pytest.mark.parametrize("pattern", ["tvo", "tvo.*"])
def test_extension_replaces_no_rule(where: str, rule: str, key: str, pattern: str) -> None:
    """Neither by values nor by a pattern, whichever the document has."""
    for said in (rule, f"{rule}_pattern"):
        data = definition(jwt_validate(**{key: pattern}), INVOKE, **{where: {"claims": {said: "evil"}}})
        assert f"says what x-jwsgate says as {said}" in [message for _, message in refused(data)]


def test_convert_command(tmp_path: Path) -> None:
    """What it prints loads beside the portal; what is wrong is told on stderr, with nothing printed."""
    (tmp_path / "certs").mkdir()
    (tmp_path / "policies").mkdir()
    (tmp_path / "certs" / "demo-client.key").write_bytes(KEY)
    (tmp_path / "policies" / "api.yaml").write_text(SAMPLE)
    (tmp_path / "portal.yaml").write_text("results: []\n")
    result = CliRunner().invoke(cli.main, ["policy", "convert", str(tmp_path / "policies" / "api.yaml")])
    assert (result.exit_code, result.stderr) == (0, "")
    own = tmp_path / "policies" / "own.yaml"
    own.write_text(result.stdout)
    for path in (own, tmp_path / "policies" / "api.yaml"):
        assert len(load_snapshot(tmp_path / "portal.yaml", [path], time.time()).router) == 2
    result = CliRunner().invoke(cli.main, ["policy", "convert", str(own)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is no API definition" in result.stderr
    result = CliRunner().invoke(cli.main, ["policy", "convert", str(tmp_path / "none")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "does not exist" in result.stderr


# Applications and tests


def test_applications_of_a_definition() -> None:
    """Narrowed as in a policy, a pattern included; mistakes are told where they stand."""
    step = jwt_validate(iss_claim="tvo-[0-9]+")
    entry = {"client_id": "a", "claims": {"issuer": ["tvo-1"]}, "routes": ["get /item"]}
    assert only(definition(step, INVOKE, extension={"applications": [entry]})).narrowed is None  # nobody has that ID
    for wrong, place, message in (
        ({"claims": {"issuer": ["x"]}}, "claims.issuer", "names 'x', which route 'get /item' does not allow"),
        ({"routes": ["item"]}, "routes", "names 'item', which is no route of this policy"),
    ):
        data = definition(step, INVOKE, extension={"applications": [entry | wrong]})
        assert refused(data) == [(f"x-jwsgate.applications[0].{place}", message)]


def test_what_lint_and_tests_tell_of_a_definition(tmp_path: Path) -> None:
    """At the places of the definition, which `convert` carries over to a policy."""
    case = {"name": "n", "request": {"path": "/base/item"}, "expect": "allowed"}
    extension = {"mode": "report", "applications": [{"client_id": "a", "mode": "report"}], "tests": [case]}
    path = tmp_path / "api.json"
    path.write_text(json.dumps(definition(VALIDATE, INVOKE, extension=extension)))
    found = {(each.rule.name, each.problem.path) for each in lint(None, [path], time.time(), 1)}
    assert found == {("route-report", "x-jwsgate.mode"), ("application-report", "x-jwsgate.applications[0].mode")}
    (failed,), _ = run_policy_tests([path], time.time())
    assert failed.problem.path == "x-jwsgate.tests[0].expect"
    assert "would_reject jws_missing was decided" in failed.problem.message
    own = tmp_path / "own.yaml"
    own.write_text(convert(read_document(str(path), path.read_bytes()), REFERENCES))
    assert [each.problem.message for each in run_policy_tests([own], time.time())[0]] == [failed.problem.message]


# Together with the rest


def test_pattern_is_handed_over(tmp_path: Path) -> None:
    """A reload reads in another process; the pattern arrives as the demand that it was."""
    (tmp_path / "portal.yaml").write_text("results: []\n")
    (tmp_path / "api.json").write_text(json.dumps(definition(jwt_validate(iss_claim="tvo-[0-9]+"), INVOKE)))
    out = io.BytesIO()
    main(json.loads(order(tmp_path / "portal.yaml", [tmp_path / "api.json"], time.time())), out)
    octets, assembly = out.getvalue(), Assembly()
    while octets:
        end = LENGTH_OCTETS + int.from_bytes(octets[:LENGTH_OCTETS])
        assembly.take(octets[LENGTH_OCTETS:end])
        octets = octets[end:]
    assert assembly.snapshot is not None
    (route,) = assembly.snapshot.router
    assert "tvo-1" in route.claims.issuer
    assert "tvo" not in route.claims.issuer


def test_document_names_what_there_is() -> None:
    """Each key of the extension that the document shows is one, at the place that it says."""
    page = (ROOT / "docs/policy.md").read_text("utf-8")
    (block,) = re.findall(r"^```yaml\n(x-jwsgate:.*?)^```", page, re.MULTILINE | re.DOTALL)
    shown = yaml.safe_load(block)["x-jwsgate"]
    assert {key for key in shown if key not in DocumentExtension.model_fields} == {"open"}
    assert {key for key in shown if key not in OperationExtension.model_fields} == {"prefix", "tests"}


# Broken documents


def _paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for key, inner in items for below in _paths_in(inner, (*path, key)))]


def _strict() -> dict[str, Any]:
    """A definition with every kind of demand: sign and validate by operation-switch, and two more in front."""
    data: dict[str, Any] = yaml.safe_load(SAMPLE)
    data["x-ibm-configuration"]["application-authentication"] = {"certificate": "true"}
    cases = data["x-ibm-configuration"]["assembly"]["execute"][0]["operation-switch"]["case"]
    cases[1]["execute"][0]["jwt-validate"] |= {"iss-claim": "tvo", "aud-claim": "the w.*"}
    data["x-jwsgate"]["claims"] = {"max_lifetime": "60"}
    return data


STRICT = _strict()
PLACES = _paths_in(STRICT)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", "true", "0", [], {}, [[]], [{}], [None], {"x": None}, "$(x)", "/", "/**", "get", "jwt",
     "request.headers.jwt", "jwt-validate",
     {"jwt-validate": {}}, {"throw": {}}, {"ignore": ["jwt-validate"]}, {"open": "true"}, {"forward": "true"},
     {"ignore": ["jwt-validate.iss-claim", "jwt-validate.jwt"]}, {"client_id": {"header": "x"}}, "(" * 3000,
     "é\u0000", -1, True]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The strict definition with a few parts replaced, removed, renamed, or copied from elsewhere in it."""
    data = copy.deepcopy(STRICT)
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(PLACES[1:]))
        how = draw(st.sampled_from(["replace", "remove", "rename", "copy"]))
        try:
            parent = data
            for step in path[:-1]:
                parent = parent[step]
            old = parent[path[-1]]
            if how == "replace":
                parent[path[-1]] = draw(ODD)
            elif how == "remove":
                del parent[path[-1]]
            elif how == "rename" and isinstance(parent, dict):
                del parent[path[-1]]
                parent[draw(st.sampled_from(["x", "x-jwsgate", "jwt", "get", "post", "ignore", "otherwise", "if"]))] = (
                    old
                )
            else:
                source: Any = data
                for step in draw(st.sampled_from(PLACES)):
                    source = source[step]
                parent[path[-1]] = copy.deepcopy(source)
        except (KeyError, IndexError, TypeError):
            continue
    return data


def steps_named(data: Any, name: str) -> list[Any]:
    """All steps of a name, wherever they stand."""
    found = [data[name]] if isinstance(data, dict) and name in data else []
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return found + [each for value in inner for each in steps_named(value, name)]


def assert_demands(router: Router, data: dict[str, Any]) -> None:
    """No route demands less than the document states, told from the document by simpler means than the gate's."""
    # What no operation comes by may be anything.
    definitions = [each for each in data["securityDefinitions"].values() if isinstance(each, dict)]
    schemes = [(each.get("in"), each.get("name")) for each in definitions]
    generated = steps_named(data["x-ibm-configuration"], "jwt-generate")
    validated = [each for each in steps_named(data["x-ibm-configuration"], "jwt-validate") if isinstance(each, dict)]
    top = data.get("x-jwsgate", {})
    for route in router:
        assert route.methods is not None
        operation = next(
            item[verb]
            for path, item in data["paths"].items()
            for verb in item
            if {verb.upper()} == route.methods
            and path.split("/")[1:] == [each or "" for each in route.pattern.segments][-path.count("/") :]
        )
        mapped = operation.get("x-jwsgate", {})
        asked = data["x-ibm-configuration"].get("application-authentication", [])
        assert (
            asked in ([], {"certificate": "false"}, [{"certificate": "false"}]) or route.client_certificate is not None
        )
        if route.open:
            assert mapped.get("open")
            assert not operation.get("security", data.get("security"))
            continue
        own = mapped.get("client_id", top.get("client_id"))
        assert (route.client_id.place, route.client_id.name) in schemes or own == {"header": route.client_id.name}
        if isinstance(route.action, Sign):
            assert generated
            continue
        assert validated or any(said.get(key) for said in (mapped, top) for key in ("forward", "respond"))
        if not validated or mapped:
            continue
        # Where every jwt-validate step states a rule, so does every route that demands a JWS.
        if all(each.get("iss-claim") for each in validated):
            assert route.claims.issuer
        if all(each.get("aud-claim") for each in validated):
            assert route.claims.audience
        headers = [str(each.get("jwt", "request.headers.authorization")).rpartition(".")[2] for each in validated]
        assert route.jws.name in headers
        if top.get("claims", {}).get("max_lifetime"):
            assert route.claims.max_lifetime is not None


def test_strict_definition_is_good() -> None:
    """So that its mutations begin at something that is accepted."""
    router, problems = read(STRICT)
    assert problems == []
    assert_demands(router, STRICT)
    validate = next(route for route in router if route.name == "validate")
    assert (validate.claims.issuer, validate.claims.max_lifetime) == (("tvo",), 60)
    assert isinstance(validate.claims.audience, Matching)


@settings(max_examples=600, deadline=None)
@given(mutated())
def test_mutated_documents(data: Any) -> None:
    """Problems or routes, never an exception; and never a route that demands less than is stated."""
    try:
        document = read_document("api.yaml", json.dumps(data).encode())
    except ProblemsFound:
        return  # copies in copies can be nested too deep
    if not is_api_definition(document):
        return
    router = Router()
    problems = build_api_routes(document, router, REFERENCES)
    for problem in problems:
        assert problem.remedy
        assert "\n" not in str(problem)
    if not problems:
        assert len(router)
        assert_demands(router, document.data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SAMPLE)), st.binary(max_size=8), st.integers(0, 40))
def test_damaged_text(start: int, octets: bytes, removed: int) -> None:
    """Octets removed and put in anywhere: problems or routes, never an exception."""
    text = SAMPLE.encode()
    damaged = text[:start] + octets + text[start + removed :]
    router = Router()
    try:
        document = read_document("api.yaml", damaged)
    except ProblemsFound:
        return
    if is_api_definition(document):
        assert build_api_routes(document, router, REFERENCES) or len(router)


def test_truncated_text() -> None:
    """Cut short anywhere: the routes are those of the whole, or there are problems."""
    whole = {route.name: route for route in routes(SAMPLE)}
    for end in range(0, len(SAMPLE), 7):
        text = SAMPLE[:end]
        try:
            document = read_document("api.yaml", text.encode())
        except ProblemsFound:
            continue
        router = Router()
        if not is_api_definition(document) or build_api_routes(document, router, REFERENCES):
            continue
        for route in router:
            assert (route.claims, route.jws, route.client_id) == (
                whole[route.name].claims, whole[route.name].jws, whole[route.name].client_id,
            )  # fmt: skip


def test_yaml_and_json_alike() -> None:
    """The sample as JSON has the same routes."""
    assert [route.name for route in routes(json.dumps(yaml.safe_load(SAMPLE)))] == ["sign", "validate"]


def test_many_operations() -> None:
    """Two thousand operations with as many cases are read in time that grows with their number, not its square."""
    paths = {f"/item/{number}": {"get": {"operationId": f"o{number}"}} for number in range(2000)}
    cases = [{"operations": [f"o{number}"], "execute": [VALIDATE, INVOKE]} for number in range(2000)]
    assert len(routes(definition({"operation-switch": {"case": cases}}, paths=paths))) == 2000
