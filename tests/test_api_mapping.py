"""API definitions as exported: what of them may stay, what the user may map, and that neither opens the gate."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest

import api_material
from api_material import (
    CLAIMS,
    CONSTANTS,
    GENERATE,
    INVOKE,
    JWS_BODY,
    REFERENCES,
    VALIDATE,
    jwt_validate,
    only,
    read,
    refused,
    routes,
)
from jwsgate.core.claims import ClaimRules, Matching
from jwsgate.core.policy import Forward, RespondClaims, Route, Sign
from jwsgate.core.sources import Source
from jwsgate.files.api_connect import convert
from jwsgate.files.documents import read_document
from jwsgate.files.policy_tests import run_policy_tests
from unit_material import ROOT, problems_in, read_policy

EXPORT = ROOT / "tests" / "orders-api-connect.yaml"


def definition(*steps: Any, **more: Any) -> dict[str, Any]:
    """As `api_material.definition`, with `ignore` for short."""
    if "ignore" in more:
        more["extension"] = {"ignore": more.pop("ignore"), **more.get("extension", {})}
    return api_material.definition(*steps, **more)


def invoke(**more: Any) -> dict[str, Any]:
    """An invoke step with more keys; _ stands for -."""
    return {"invoke": INVOKE["invoke"] | {key.replace("_", "-"): value for key, value in more.items()}}


def generate(**more: Any) -> dict[str, Any]:
    """A jwt-generate step with more keys; _ stands for -."""
    return {"jwt-generate": GENERATE["jwt-generate"] | {key.replace("_", "-"): value for key, value in more.items()}}


def problems(data: Any) -> list[tuple[str, str]]:
    """The last part of the path, and the remedy, of each problem."""
    _, found = read(data)
    return [(problem.path.rpartition(".")[2], problem.remedy) for problem in found]


# The export of a whole API


def test_export_loads() -> None:
    """With a few words of ours, and with nothing of it changed."""
    found = routes(EXPORT.read_text())
    assert [(route.name, route.open) for route in found] == [
        ("list", False), ("create", False), ("read", False), ("files", False), ("health", True),
    ]  # fmt: skip
    assert all(isinstance(route.claims.issuer, Matching) for route in found if not route.open)


def test_export_converted_decides_the_same(tmp_path: Any) -> None:
    """Its own tests pass before and after; and each route has each field, patterns aside, which the tests try."""
    own = tmp_path / "own.yaml"
    own.write_text(convert(read_document(EXPORT.name, EXPORT.read_bytes()), REFERENCES))
    found, count = run_policy_tests([EXPORT], time.time())
    assert (found, count > 0) == ([], True)
    assert run_policy_tests([own], time.time()) == ([], count)
    router, found = read_policy(own.read_text())
    assert found == []
    for mine, theirs in zip(router, routes(EXPORT.read_text()), strict=True):
        for field in dataclasses.fields(Route):
            if field.init and field.name != "claims":  # the others follow from these, or are the route's own
                assert getattr(mine, field.name) == getattr(theirs, field.name), field.name
        patterns = {"issuer": (), "audience": ()}
        assert dataclasses.replace(mine.claims, **patterns) == dataclasses.replace(theirs.claims, **patterns)  # type: ignore[arg-type]


def test_export_without_our_words() -> None:
    """Everything that has to be said is told at once."""
    text = EXPORT.read_text().partition("x-jwsgate:\n")[0].replace("x-jwsgate: {open: true}", "x-any: 1")
    assert {path.rpartition(".")[2] for path, _ in refused(text)} == {
        "clientSecret", "ratelimit", "jws-jwk", "security",
    }  # fmt: skip


# Keys of steps


@pytest.mark.parametrize(
    "more",
    [
        {"timeout": "5"},
        {"header_control": {"type": "blocklist", "values": []}},
        {"header_control": {"type": "blacklist"}},
        {"parameter_control": {"type": "allowlist", "values": []}},
        {"parameter_control": {"type": "blocklist", "values": []}},
        {"backend_type": "detect"},
        {"websocket_upgrade": "false"},
        {"verb": "keep"},
        {"verb": "GET"},
        {"follow_redirects": "true", "inject_proxy_headers": "true", "use_http_10": "true"},
        {"username": "", "password": None, "output": "", "header_control": {}},
        {"description": None},
    ],
)
def test_what_only_steers(more: dict[str, Any]) -> None:
    """What decides nothing, and changes nothing of what is forwarded, may stay."""
    assert only(definition(VALIDATE, invoke(**more))).action == Forward()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("header-control", {"type": "blocklist", "values": ["^X-IBM-Client-Id$"]}),
        ("header-control", {"type": "allowlist", "values": []}),
        ("header-control", {"values": []}),
        ("header-control", "blocklist"),
        ("header-control", ["blocklist"]),
        ("parameter-control", {"type": "blocklist", "values": ["x"]}),
        ("parameter-control", {"type": "allowlist", "values": ["x"]}),
        ("backend-type", "json"),
        ("backend-type", ["detect"]),
        ("websocket-upgrade", "true"),
        ("verb", "POST"),
        ("verb", ""),
        ("username", "u"),
        ("password", "p"),
        ("output", "response"),
        ("some-new-key", "x"),
    ],
)
def test_what_changes_the_request(key: str, value: Any) -> None:
    """It is told, with the word that maps it; and with that word it may stay."""
    step = {"invoke": INVOKE["invoke"] | {key: value}}
    ((path, remedy),) = problems(definition(VALIDATE, step))
    assert path == key
    assert f"ignore: [invoke.{key}]" in remedy
    assert "did you mean" not in remedy
    assert only(definition(VALIDATE, step, ignore=f"invoke.{key}")).jws == Source("header", "jwt")


def test_a_slip_is_still_told_as_one() -> None:
    """Where the product has no such key."""
    ((_, remedy),) = problems(definition(jwt_validate(iss_clam="tvo"), INVOKE))
    assert remedy == "did you mean iss-claim?"
    assert problems(definition(jwt_validate(iss_clam="tvo"), INVOKE, ignore="jwt-validate.iss-clam"))


def test_fixed_address() -> None:
    """It may be mapped to --upstream; without one the step is a slip."""
    step = {"invoke": {"target-url": "https://backend.example/x"}}
    ((path, remedy),) = problems(definition(VALIDATE, step))
    assert (path, "invoke.target-url" in remedy) == ("target-url", True)
    assert only(definition(VALIDATE, step, ignore="invoke.target-url")).action == Forward()
    assert problems(definition(VALIDATE, {"invoke": {}})) == [("target-url", "add it")]


def test_empty_is_not_set() -> None:
    """As exports write it."""
    step = jwt_validate(jws_crypto="", jws_jwk="", jwe_crypto="", jwe_jwk="", output_claims="")
    assert only(definition(step, CLAIMS)).action == RespondClaims()
    assert only(definition({"jwt-validate": {"jwt": ""}}, INVOKE)).jws == Source("header", "authorization", "Bearer")
    empty = generate(sub_claim="", custom_kid_value_jws="", jws_jwk="", jwe_alg="", jti_claim="false")
    action = only(definition(CONSTANTS, empty, JWS_BODY, extension={"sign": {"key": "k"}})).action
    assert isinstance(action, Sign)


@pytest.mark.parametrize(
    ("key", "value"),
    [("sub-claim", "s"), ("custom-kid-value-jws", "k"), ("jti-claim", "true"), ("jws-jwk", "k"), ("jwe-crypto", "k")],
)
def test_what_changes_the_signed(key: str, value: str) -> None:
    """The same for what jwt-generate says more than the gate signs."""
    steps = CONSTANTS, {"jwt-generate": GENERATE["jwt-generate"] | {key: value}}, JWS_BODY
    sign = {"sign": {"key": "k"}}
    ((path, remedy),) = problems(definition(*steps, extension=sign))
    assert (path, f"ignore: [jwt-generate.{key}]" in remedy) == (key, True)
    assert isinstance(only(definition(*steps, extension=sign, ignore=f"jwt-generate.{key}")).action, Sign)


def test_throw_says_what_it_likes() -> None:
    """It refuses in any case."""
    step = {"throw": {"name": "x", "error-status-code": "403", "error-status-reason": "No", "anything": ["else"]}}
    data = definition({"if": {"condition": "request.verb === 'PUT'", "execute": [step]}}, VALIDATE, INVOKE)
    data["paths"]["/item"]["put"] = {}
    assert [route.methods for route in routes(data)] == [frozenset({"GET"})]


# The key, and what says who may pass


@pytest.mark.parametrize("key", ["jwe-crypto", "jwe-jwk", "jws-crypto", "jws-jwk"])
def test_keys_of_the_step(key: str) -> None:
    """None of them can be had here, each can be mapped, and the registered certificate verifies whatever is said."""
    step = jwt_validate(**{key: "k"})
    ((path, remedy),) = problems(definition(step, INVOKE))
    assert path == key
    assert "did you mean" not in remedy
    assert only(definition(step, INVOKE, ignore=f"jwt-validate.{key}")).claims == ClaimRules(required=())


@pytest.mark.parametrize("value", ['{"kty":"oct"}', "x"])
def test_fixed_key(value: str) -> None:
    """Not the registered certificate's, whatever is said of its variable: it has a remedy of its own."""
    assign = {"set-variable": {"actions": [{"set": "k", "value": value, "type": "string"}]}}
    for extension in ({}, {"registered_certificate": "k"}):
        ((path, remedy),) = problems(definition(assign, jwt_validate(jws_jwk="k"), INVOKE, extension=extension))
        assert (path, "jwt-validate.jws-jwk" in remedy, "registered_certificate" in remedy) == ("jws-jwk", True, False)
    ((_, remedy),) = problems(definition(jwt_validate(jws_jwk='{"kty":"oct"}'), INVOKE))
    assert "registered_certificate" not in remedy


def test_registered_key_by_the_name_that_is_told() -> None:
    """The remedy helps, even where the variable is set anew after the step."""
    later = {"set-variable": {"actions": [{"set": "k", "value": "x"}]}}
    data = definition(jwt_validate(jws_jwk="k"), later, INVOKE)
    ((_, remedy),) = problems(data)
    assert "registered_certificate: k" in remedy
    assert only(data | {"x-jwsgate": {"registered_certificate": "k"}})


@pytest.mark.parametrize(
    "word",
    [
        "jwt-validate", "throw", "operation-switch", "jwt-validate.output-claims", "jwt-validate.", "throw.name",
        "operation-switch.case", "switch.case", "switch.otherwise", "if.condition", "if.execute",
        "set-variable.actions",
    ],
)  # fmt: skip
def test_never_ignored(word: str) -> None:
    """What says who may pass, or what leads there."""
    for where in ("extension", "of_operation"):
        found = refused(definition(VALIDATE, INVOKE, **{where: {"ignore": ["x", word]}}))
        assert f"names {word}, which cannot be ignored" in [message for _, message in found]


@pytest.mark.parametrize(
    ("key", "value", "instead", "expected"),
    [
        ("iss-claim", "(?=a)a", {"claims": {"issuer": "a"}}, ("issuer", ("a",))),
        ("iss-claim", "tvo", {"claims": {"issuer_pattern": "a|b"}}, ("issuer", ("a", "b"))),
        ("aud-claim", "$(audience)", {"claims": {"audience": ["a"]}}, ("audience", ("a",))),
    ],
)
def test_rules_ignored_only_with_others_in_their_place(
    key: str, value: str, instead: dict[str, Any], expected: tuple[str, Any]
) -> None:
    """A rule that the gate cannot run may be said otherwise, and never left out."""
    step, word = {"jwt-validate": VALIDATE["jwt-validate"] | {key: value}}, f"jwt-validate.{key}"
    ((path, message),) = refused(definition(step, INVOKE, ignore=word))
    assert (path.rpartition(".")[2], message.startswith("says who may pass")) == (key, True)
    other = "audience" if key == "iss-claim" else "issuer"
    assert refused(definition(step, INVOKE, ignore=word, extension={"claims": {other: "x", "leeway": "5"}}))
    assert refused(definition(step, INVOKE, extension=instead))
    for where in ("extension", "of_operation"):
        rules = only(definition(step, INVOKE, **{where: {"ignore": word, **instead}})).claims
        assert getattr(rules, expected[0]) == expected[1]


def test_ignored_for_one_operation() -> None:
    """What one operation ignores of a step, the next that comes by it does not."""
    said = {"ignore": "jwt-validate.iss-claim", "claims": {"issuer": "other"}}
    data = definition(jwt_validate(iss_claim="tvo"), INVOKE, of_operation=said)
    data["paths"]["/item"]["put"] = {}
    assert [route.claims.issuer for route in routes(data)] == [("other",), ("tvo",)]


@pytest.mark.parametrize("key", ["iss-claim", "aud-claim"])
def test_empty_rule(key: str) -> None:
    """It demands nothing, if the user says so."""
    step = {"jwt-validate": VALIDATE["jwt-validate"] | {key: ""}}
    ((path, remedy),) = problems(definition(step, INVOKE))
    assert (path, f"ignore: [jwt-validate.{key}]" in remedy) == (key, True)
    assert only(definition(step, INVOKE, ignore=f"jwt-validate.{key}")).claims == ClaimRules(required=())


def test_place_of_the_jws() -> None:
    """Where a script makes it, x-jwsgate says where it was; nobody falls back to a default."""
    step = jwt_validate(jwt="my.jwt", iss_claim="tvo")
    ((path, message),) = refused(definition(step, INVOKE, ignore="jwt-validate.jwt"))
    assert (path.rpartition(".")[2], message.startswith("says who may pass")) == ("jwt", True)
    assert refused(definition(step, INVOKE, ignore="jwt-validate.jwt", extension={"jws": {"max_octets": "500"}}))
    assert refused(definition(step, INVOKE, extension={"jws": {"header": "x"}}))
    for where in ("extension", "of_operation"):
        route = only(definition(step, INVOKE, **{where: {"ignore": "jwt-validate.jwt", "jws": {"header": "x"}}}))
        assert (route.jws, route.claims.issuer) == (Source("header", "x"), ("tvo",))
    data = definition(step, INVOKE, extension={"ignore": "jwt-validate.jwt", "jws": {"query": "q"}},
                      of_operation={"jws": {"scheme": "Bearer"}})  # fmt: skip
    assert [path for path, _ in refused(data)] == ["paths./item.get.x-jwsgate.jws"]
    detached = {"ignore": "jwt-validate.jwt", "jws": {"header": "x", "detached": "true"}}
    assert refused(definition(step, INVOKE, extension=detached))


@pytest.mark.parametrize("name", ["jwt-validate", "throw"])
def test_after_invoke(name: str) -> None:
    """No remedy says to ignore what cannot be ignored."""
    found = problems(definition(VALIDATE, INVOKE, {name: {}}))
    assert (name, "move it before invoke") in found
    assert not any("ignore" in remedy for _, remedy in found)


# Who may call, and what becomes of it


def anonymous(*steps: Any, of_operation: Any = None, **more: Any) -> dict[str, Any]:
    """A definition whose one operation has `security: []`."""
    data = definition(*steps, of_operation=of_operation, **more)
    data["paths"]["/item"]["get"]["security"] = []
    return data


def test_without_security() -> None:
    """Refused, unless the user says that everybody may call or where the client ID is."""
    for steps in ((INVOKE,), (VALIDATE, INVOKE)):
        for said in (None, {"forward": "true"}, {"mode": "report"}):
            ((path, message),) = refused(anonymous(*steps, of_operation=said))
            assert path.endswith(".get.security")
            assert message.startswith("is without security")
    route = only(anonymous(INVOKE, of_operation={"open": "true"}))
    assert (route.open, route.action) == (True, Forward())
    route = only(anonymous(VALIDATE, INVOKE, of_operation={"client_id": {"query": "id"}}))
    assert (route.open, route.client_id, route.jws) == (False, Source("query", "id"), Source("header", "jwt"))
    data = anonymous(VALIDATE, INVOKE, extension={"client_id": {"query": "id"}})
    assert only(data).client_id == Source("query", "id")


def test_client_id_of_other_security() -> None:
    """Where security asks for nothing that the gate has, x-jwsgate may say where the client ID is besides."""
    data = definition(VALIDATE, INVOKE, securityDefinitions={"o": {"type": "oauth2"}}, security=[{"o": []}])
    said = {"ignore": "o", "client_id": {"header": "X"}}
    assert {path for path, _ in refused(data | {"x-jwsgate": {"ignore": "o"}})} == {"security"}
    assert only(data | {"x-jwsgate": said}).client_id == Source("header", "X")


def test_client_id_at_the_top_beside_security() -> None:
    """What one operation's security says, the top cannot say for it."""
    data = definition(VALIDATE, INVOKE, extension={"client_id": {"query": "id"}})
    data["paths"]["/other"] = {"get": {"security": []}}
    assert refused(data) == [("x-jwsgate.client_id", "is what securityDefinitions say")]


OPEN = {"open": "true"}
NEVER_OPEN: list[Any] = [
    pytest.param(definition(INVOKE, of_operation=OPEN), "lets everybody pass where security", id="secured"),
    pytest.param(definition(INVOKE, extension=OPEN), "is not a known key", id="at-the-top"),
    pytest.param(anonymous(INVOKE, of_operation={"open": "false"}), "is not one of the known values", id="false"),
    pytest.param(anonymous(VALIDATE, INVOKE, of_operation=OPEN), "opens an operation that comes to jwt-validate",
                 id="validated"),
    pytest.param(anonymous(VALIDATE, CLAIMS, of_operation=OPEN), "opens an operation that comes to jwt-validate",
                 id="answers"),
    pytest.param(anonymous(CONSTANTS, GENERATE, JWS_BODY, extension={"sign": {"key": "k"}}, of_operation=OPEN),
                 "opens an operation that comes to jwt-generate", id="signs"),
    pytest.param(anonymous({"if": {"condition": "x", "execute": [VALIDATE]}}, INVOKE, ignore="if", of_operation=OPEN),
                 "is a condition that only a request decides", id="undecided"),
    pytest.param(anonymous({"client-security": {}}, INVOKE, ignore="client-security", of_operation=OPEN),
                 "opens an operation that comes to client-security", id="client-security"),
    pytest.param(anonymous({"group": {"execute": [{"oauth": {}}]}}, INVOKE, ignore="group", of_operation=OPEN),
                 "opens an operation that comes to group", id="oauth-in-a-group"),
    pytest.param(anonymous({"if": {"condition": "x", "execute": [{"user-security": {}}]}}, INVOKE, ignore="if",
                           of_operation=OPEN), "opens an operation that comes to if", id="user-security-in-an-if"),
    pytest.param(anonymous(INVOKE, of_operation=OPEN | {"claims": {"issuer": "x"}}), "is open, so that claims",
                 id="with-demands"),
    pytest.param(anonymous(INVOKE, of_operation=OPEN | {"client_id": {"header": "X"}}), "is open, so that client_id",
                 id="with-a-client-id"),
    pytest.param(anonymous(INVOKE, of_operation=OPEN | {"respond": "claims"}), "is open and answers by itself",
                 id="responds"),
    pytest.param(anonymous(INVOKE, of_operation=OPEN,
                           **{"x-ibm-configuration": {"assembly": {"execute": [INVOKE]},
                                                      "application-authentication": {"certificate": "true"}}}),
                 "contradicts application-authentication", id="certificate"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "why"), NEVER_OPEN)
def test_never_open(data: dict[str, Any], why: str) -> None:
    """An operation of which the document demands anything is not opened."""
    assert any(message.startswith(why) for _, message in refused(data)), refused(data)


def test_open_leaves_the_others_closed() -> None:
    """It is said of one operation."""
    data = anonymous(
        {"operation-switch": {"case": [{"operations": [{"verb": "put", "path": "/item"}], "execute": [VALIDATE]}]}},
        INVOKE,
        of_operation={"open": "true"},
    )
    data["paths"]["/item"]["put"] = {}
    assert [(route.methods, route.open) for route in routes(data)] == [
        (frozenset({"GET"}), True), (frozenset({"PUT"}), False),
    ]  # fmt: skip
    data["paths"]["/item"]["get"].pop("x-jwsgate")
    data["paths"]["/item"]["put"] |= {"security": []}
    assert len(refused(data)) == 2


def test_forward_for_all() -> None:
    """Said at the top, it holds where an operation says nothing else; the JWS is demanded as ever."""
    script = {"gatewayscript": {}}
    data = definition(script, VALIDATE, extension={"ignore": "gatewayscript", "forward": "true"})
    data["paths"]["/item"]["put"] = {"x-jwsgate": {"respond": "claims"}}
    assert [(route.action, route.jws.name) for route in routes(data)] == [
        (Forward(), "jwt"), (RespondClaims(), "jwt"),
    ]  # fmt: skip
    route = only(definition(INVOKE, extension={"forward": "true"}))
    assert (route.open, route.jws, route.claims) == (False, Source("header", "jwt"), ClaimRules())


def test_forward_for_all_signs_and_throws_still() -> None:
    """It does not lead past a throw, and what signs does."""
    signs = definition(CONSTANTS, GENERATE, JWS_BODY, extension={"forward": "true", "sign": {"key": "k"}})
    assert isinstance(only(signs).action, Sign)
    data = definition(
        {"if": {"condition": "request.verb === 'PUT'", "execute": [{"throw": {}}]}},
        VALIDATE,
        extension={"forward": "true"},
    )
    data["paths"]["/item"]["put"] = {}
    assert [route.methods for route in routes(data)] == [frozenset({"GET"})]


# Paths


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("/a/{+rest}", ["/a/b", "/a/b/c", "/a/b/"], ["/a", "/a/", "/", "/ab"]),
        ("/a/{*rest}", ["/a", "/a/", "/a/b", "/a/b/c"], ["/", "/ab"]),
        ("/a/*", ["/a/b", "/a/b/c"], ["/a", "/a/", "/ab"]),
        ("/{id}/{+rest}", ["/a/b", "/a/b/c"], ["/a"]),
        ("/{+rest}", ["/a", "/a/b"], ["/"]),
        ("/a/**", ["/a", "/a/b/c"], ["/ab"]),
    ],
)
def test_rest_of_a_path(path: str, good: list[str], bad: list[str]) -> None:
    """One segment or more, or any number, at the end."""
    router, found = read(definition(VALIDATE, INVOKE, paths={path: {"get": {}}}))
    assert found == []
    for each in (*good, *bad):
        matched = router.match("GET", tuple(f"/base{each}".split("/")[1:]))
        assert (matched is not None) == (each in good), each


@pytest.mark.parametrize("path", ["/{+rest}/a", "/*/a", "/a*", "/{+}", "/{+a}b", "/a/{-rest}", "/{+a b}"])
def test_no_rest_of_a_path(path: str) -> None:
    """Anywhere else there is none, and the remedy says so; told together with all else that is wrong."""
    data = definition({"script": {}}, jwt_validate(jws_crypto="k"), INVOKE, paths={path: {"get": {}, "put": {}}})
    _, found = read(data)
    assert [problem.path for problem in found if "{+name}" in problem.remedy] == [f"paths.{path}"]
    assert {"script", "jws-crypto"} <= {problem.path.rpartition(".")[2] for problem in found}


def test_path_of_the_rest_is_not_known() -> None:
    """A condition on the request's path is only decided by requests there."""
    for path in ("/a/*", "/a/{*rest}", "/**"):
        for condition in (f"request.path === '/base{path}'", "request.path !== '/base/a/b'"):
            step = {"if": {"condition": condition, "execute": [VALIDATE]}}
            assert refused(definition(step, INVOKE, paths={path: {"get": {}}}, extension={"forward": "true"}))


def test_problems_of_the_policy_beside_those_of_the_document() -> None:
    """What the routes themselves are refused for does not wait; what hangs on routes that are left out does."""
    extension = {"applications": [{"client_id": "a", "routes": ["get /x"]}]}
    paths = {"/{a}": {"get": {}}, "/{b}": {"get": {}}, "/x": {"get": {"security": []}}}
    data = definition({"script": {}}, VALIDATE, INVOKE, extension=extension, paths=paths)
    assert sorted(path.rpartition(".")[2] for path, _ in refused(data)) == ["get", "script", "security"]


def test_convert_tells_all_too() -> None:
    """And prints nothing."""
    data = definition({"script": {}}, VALIDATE, INVOKE, paths={"/a*b": {"get": {}}})
    document = read_document("api.yaml", json.dumps(data).encode())
    assert len(problems_in(lambda: convert(document, REFERENCES))) == 2
