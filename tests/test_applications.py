"""`applications` of a policy: more is demanded of some, and never less; report mode of single ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import material
from core_gate import NOW, NoFiles, certificate_of, good_claims, request_with, signed
from jwsgate.adapters.metrics import Metrics
from jwsgate.adapters.state import GateState
from jwsgate.core.claims import Matching
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, Rejected, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.narrowing import Narrowing, excess, narrowed
from jwsgate.core.packed import Names, PackedApplications, names, pack
from jwsgate.core.policy import Router
from jwsgate.core.portal import Application, ClientId, Portal
from jwsgate.core.verified_cache import VerifiedCache
from jwsgate.files.documents import read_document
from jwsgate.files.lint import lint
from jwsgate.files.loading import load_snapshot
from jwsgate.files.policy_file import build_routes
from jwsgate.files.policy_tests import run_policy_tests
from jwsgate.files.problems import Problem
from unit_material import OTHER_CLIENT_ID, good_files

RSA, EC = material.private_key("rsa"), material.private_key("p256")
BILLING = Application(
    name="billing",
    title="Billing & more",
    enabled=True,
    client_ids=(ClientId("client"), ClientId("spare")),
    certificates=(certificate_of(RSA), certificate_of(EC)),
    catalog="live",
    organization="acme",
)
OTHER = replace(BILLING, name="other", title="other", client_ids=(ClientId("elsewhere"),), organization="b")
OFF = replace(BILLING, name="off", client_ids=(ClientId("off"),), enabled=False)
PORTAL = Portal((BILLING, OTHER, OFF))


class Files(NoFiles):
    """No files, and the applications of the portal."""

    def applications(self) -> Iterable[Names]:
        """Those above."""
        return names(PORTAL.applications)


def build(*entries: dict[str, object], routes: Sequence[dict[str, object]] = ()) -> tuple[Router, list[Problem]]:
    """The routes of a policy with these applications."""
    policy = {"routes": routes or [{"path": "/protected"}, {"path": "/second"}], "applications": entries}
    router = Router()
    return router, build_routes(read_document("policy.json", json.dumps(policy).encode()), router, Files())


def snapshot(*entries: dict[str, object], routes: Sequence[dict[str, object]] = ()) -> Snapshot:
    """The same in force."""
    router, problems = build(*entries, routes=routes)
    assert problems == []
    return Snapshot(PORTAL, router, "revision")


def outcome(decision: Decision) -> str:
    """Allowed, the reason, or the reason for which it would be rejected."""
    match decision:
        case Allowed(would_reject=Rejected() as rejected):
            return f"would_reject {rejected.reason}"
        case Rejected():
            return str(decision.reason)
    return "allowed" if isinstance(decision, Allowed) else "awaits body"


ROUTE = {"path": "/protected", "algorithms": ["RS256", "ES256"], "max_body_octets": 100}
SECOND = {"path": "/second"}


@pytest.mark.parametrize(
    "who",
    [
        {"client_id": "client"},
        {"client_id": ["nobody", "spare"]},
        {"application": "billing"},
        {"application": "Billing & more"},
        {"organization": "acme"},
        {"catalog": "live", "organization": ["acme", "c"]},
        {"application": "billing", "catalog": "live", "organization": "acme", "client_id": "client"},
    ],
    ids=repr,
)
def test_who_is_meant(who: dict[str, object]) -> None:
    """The application, whichever of its client IDs a request brings; and no other."""
    made = snapshot({**who, "algorithms": ["ES256"]}, routes=[ROUTE])
    found = [outcome(decide(made, request_with(signed(RSA), each), NOW)) for each in ("client", "spare", "elsewhere")]
    assert found == ["algorithm_not_allowed", "algorithm_not_allowed", "allowed"]


@pytest.mark.parametrize(
    "who",
    [
        {"client_id": "Client"},
        {"application": "Billing"},
        {"organization": "b", "application": "billing"},
        {"catalog": "", "application": "billing"},
    ],
    ids=repr,
)
def test_who_is_not_meant(who: dict[str, object]) -> None:
    """All that is said must be so, to the letter; and a value that is empty is a mistake."""
    router, problems = build({**who, "algorithms": ["ES256"]}, routes=[ROUTE])
    if problems:
        assert [problem.message for problem in problems] == ["is empty"]
        return
    assert outcome(decide(Snapshot(PORTAL, router, "r"), request_with(signed(RSA)), NOW)) == "allowed"


@pytest.mark.parametrize(
    ("entry", "claims", "outcomes"),
    [
        ({"algorithms": ["RS256"]}, {}, "allowed algorithm_not_allowed"),
        ({"claims": {"required": ["role"]}}, {}, "claim_missing claim_missing"),
        ({"claims": {"required": ["role"]}}, {"role": 1}, "allowed allowed"),
        ({"claims": {"required": ["role"]}}, {"role": 1, "exp": None}, "claim_missing claim_missing"),
        ({"claims": {"max_lifetime": 600}}, {}, "allowed allowed"),
        ({"claims": {"max_lifetime": 599}}, {}, "claim_mismatch claim_mismatch"),
        ({"claims": {"leeway": 3}}, {"exp": -4}, "jws_expired jws_expired"),
        ({"claims": {"issuer": "tvo"}}, {}, "allowed allowed"),
        ({"claims": {"issuer": ["a", "b"]}}, {}, "claim_mismatch claim_mismatch"),
        ({"claims": {"audience": "a"}}, {}, "claim_mismatch claim_mismatch"),
        ({"claims": {"audience": "a"}}, {"aud": ["x", "a"]}, "allowed allowed"),
        ({"claims": {"subject": "s"}}, {"sub": "s"}, "allowed allowed"),
        ({"claims": {"typ": "JOSE"}}, {}, "claim_missing claim_missing"),
        ({"claims": {"client_id_claim": "azp"}}, {"azp": "client"}, "allowed allowed"),
        ({"claims": {"client_id_claim": "azp"}}, {"azp": "spare"}, "claim_mismatch claim_mismatch"),
        ({"jws": {"max_octets": 256}}, {"pad": "x" * 99}, "jws_too_large jws_too_large"),
        ({"routes": "/second"}, {}, "route_not_allowed route_not_allowed"),
        ({"routes": ["/second", "/protected"]}, {}, "allowed allowed"),
    ],
    ids=repr,
)
def test_what_is_demanded(entry: dict[str, object], claims: dict[str, object], outcomes: str) -> None:
    """Of the application that is meant, with RS256 and ES256; all others call as ever."""
    routes = [{**ROUTE, "claims": {"leeway": 5}}, {**SECOND, "claims": {"leeway": 5}}]
    made = snapshot({"client_id": "client", **entry}, routes=routes)
    if isinstance(exp := claims.get("exp"), int):
        claims = {**claims, "exp": NOW + exp}
    said = {name: value for name, value in good_claims(**claims).items() if value is not None}
    jws = [signed(key, said) for key in (RSA, EC)]
    assert " ".join(outcome(decide(made, request_with(each), NOW)) for each in jws) == outcomes
    if "exp" not in claims:
        assert {outcome(decide(made, request_with(each, "elsewhere"), NOW)) for each in jws} == {"allowed"}


def test_body_limit() -> None:
    """By content-length, and on the route that the body is counted by."""
    made = snapshot({"client_id": "client", "max_body_octets": 10}, routes=[ROUTE])
    facts = request_with(signed(RSA))
    decisions = [
        decide(made, facts._replace(headers=(*facts.headers, (b"Content-Length", size))), NOW)
        for size in (b"10", b"11")
    ]
    assert [outcome(each) for each in decisions] == ["allowed", "body_too_large"]
    assert isinstance(decisions[0], Allowed)
    assert decisions[0].route.max_body_octets == 10


def test_detached() -> None:
    """Algorithms and typ hold for what the body shows."""
    routes = [{"path": "/protected", "jws": {"header": "jwt", "detached": True}}]
    made = snapshot({"client_id": "client", "algorithms": ["ES256"], "claims": {"typ": "JOSE"}}, routes=routes)
    for key, header, expected in (
        (EC, {"alg": "ES256", "typ": "JOSE"}, "allowed"),
        (RSA, {"alg": "RS256", "typ": "JOSE"}, "algorithm_not_allowed"),
        (EC, {"alg": "ES256"}, "claim_missing"),
    ):
        first, _, last = signed(key, header=header, payload=b"body").split(".")
        awaiting = decide(made, request_with(f"{first}..{last}"), NOW)
        assert isinstance(awaiting, AwaitsBody)
        assert outcome(decide_body(awaiting, b"body")) == expected


def test_several_hold_at_once() -> None:
    """Each demands its own; what they leave nothing of is refused."""
    first = {"organization": "acme", "claims": {"issuer": ["tvo", "x"], "leeway": 2}, "algorithms": ["RS256", "ES256"]}
    second = {"catalog": "live", "claims": {"issuer": ["tvo"], "required": ["role"]}, "algorithms": ["RS256"]}
    routes = [{**ROUTE, "claims": {"leeway": 5}}]
    made = snapshot(first, second, routes=routes)
    (route,) = made.router
    assert route.narrowed is not None
    both, only_second = (
        route.narrowed.routes[route.narrowed.groups[ClientId(each)]] for each in ("client", "elsewhere")
    )
    assert (both.algorithms, both.claims.issuer, both.claims.leeway) == ({"RS256"}, ("tvo",), 2)
    assert (both.claims.required, only_second.claims.leeway) == (("exp", "role"), 5)


@pytest.mark.parametrize(
    "entry",
    [
        {"claims": {"issuer": "b"}},
        {"claims": {"audience": "b"}},
        {"claims": {"subject": "b"}},
        {"claims": {"typ": "b"}},
        {"claims": {"client_id_claim": "b"}},
        {"algorithms": ["ES256"]},
        {"routes": ["/second"]},
    ],
    ids=repr,
)
def test_nothing_left(entry: dict[str, object]) -> None:
    """An empty rule demands nothing, so that contradictions must not come to one."""
    first = {
        "client_id": "client",
        "routes": ["/protected"],
        "algorithms": ["RS256"],
        "claims": {"issuer": "a", "audience": "a", "subject": "a", "typ": "a", "client_id_claim": "a"},
    }
    claims = good_claims(iss="a", aud=["a", "b"], sub="a", a="client", b="client")
    token = signed(RSA, claims, header={"alg": "RS256", "typ": "a"})
    assert outcome(decide(snapshot(first), request_with(token), NOW)) == "allowed"
    made = snapshot(first, {"application": "billing", **entry})
    assert outcome(decide(made, request_with(token), NOW)) == "route_not_allowed"


def test_a_cached_jws_does_not_pass_for_another() -> None:
    """One application's JWS was verified under the laxer rules of its other route."""
    cache: VerifiedCache[tuple[bytes, ClientId, object], Allowed] = VerifiedCache()
    made = snapshot({"client_id": "client", "routes": ["/second"]})
    facts = request_with(signed(RSA))
    for target, expected in ((b"/second", "allowed"), (b"/protected", "route_not_allowed"), (b"/second", "allowed")):
        assert outcome(decide(made, facts._replace(target=target), NOW, cache)) == expected  # type: ignore[arg-type]


# Mistakes


@pytest.mark.parametrize(
    ("entry", "path", "message"),
    [
        ({"algorithms": ["PS256"]}, "algorithms", "names PS256, which route '/protected' does not allow"),
        ({"claims": {"issuer": ["tvo", "x"]}}, "claims.issuer", "names 'x', which route '/protected' does not allow"),
        ({"claims": {"typ": "JOSE"}}, "claims.typ", "names 'JOSE', which route '/protected' does not allow"),
        ({"claims": {"leeway": 6}}, "claims.leeway", "is more than the 5 of route '/protected'"),
        ({"claims": {"max_lifetime": 601}}, "claims.max_lifetime", "is more than the 600 of route '/protected'"),
        (
            {"claims": {"client_id_claim": "b"}},
            "claims.client_id_claim",
            "is another than the 'azp' of route '/protected'",
        ),
        ({"jws": {"max_octets": 20000}}, "jws.max_octets", "is more than the 16384 of route '/protected'"),
        ({"max_body_octets": 101}, "max_body_octets", "is more than the 100 of route '/protected'"),
        ({"routes": ["/protekted"]}, "routes", "names '/protekted', which is no route of this policy"),
        (
            {"routes": ["signed"], "claims": {"issuer": "tvo"}},
            "claims",
            "cannot be checked on route 'signed', whose JWS is detached and has no claims",
        ),
        ({}, "", "demands nothing"),
        ({"single_use": True}, "single_use", "is not a known key"),
        ({"client_id": None}, "client_id", "is empty"),
    ],
    ids=repr,
)
def test_never_wider(entry: dict[str, object], path: str, message: str) -> None:
    """What would let more pass is refused when the policy is loaded, with place and remedy."""
    claims = {"issuer": "tvo", "typ": "JWT", "leeway": 5, "max_lifetime": 600, "client_id_claim": "azp"}
    routes = [{**ROUTE, "claims": claims}, {"name": "signed", "path": "/s", "jws": {"header": "x", "detached": True}}]
    if "routes" not in entry:
        entry = {"routes": ["/protected"], **entry} if entry else entry
    _, (problem,) = build({"client_id": "client", **entry}, routes=routes)
    place = f"applications[0].{path}" if path else "applications[0]"
    assert (problem.path, problem.message) == (place, message)
    assert problem.remedy
    assert (problem.line, problem.column > 1) == (1, True)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"algorithms": ["ES256"]}, "names no application"),
        ({"application": "billing", "mode": "report"}, "has mode: report for whoever takes such a name in the portal"),
        ({"organization": "acme", "mode": "report"}, "has mode: report for whoever takes such a name in the portal"),
    ],
    ids=repr,
)
def test_whom_nobody_can_be_sure_of(entry: dict[str, object], message: str) -> None:
    """Developers choose the names of their applications, and must not choose to be in report mode."""
    _, problems = build(entry)
    assert [problem.message for problem in problems] == [message]


def test_pattern_of_an_api_definition() -> None:
    """Where a route takes what a pattern matches, an application may be held to some of that."""
    (route,) = snapshot({"client_id": "client", "mode": "enforce"}, routes=[SECOND]).router
    rules = replace(route.claims, issuer=Matching(lambda text: text.startswith("a")))
    route = replace(route, claims=rules, narrowed=None)
    good, bad = Narrowing(claims={"issuer": ("ab",)}), Narrowing(claims={"issuer": ("ab", "b")})
    assert [*excess(route, good)] == []
    assert [key for key, _ in excess(route, bad)] == [("claims", "issuer")]
    assert narrowed(route, [good]).claims.issuer == ("ab",)


# Report mode


REPORT = {"client_id": "client", "mode": "report"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (request_with(signed(RSA)), "allowed"),
        (request_with(None), "would_reject jws_missing"),
        (request_with(None, "spare"), "would_reject jws_missing"),
        (request_with("a.b.c"), "would_reject jws_malformed"),
        (request_with(None, "elsewhere"), "jws_missing"),
        (request_with(None, "nobody"), "client_id_unknown"),
        (request_with(None, "off"), "application_disabled"),
        (RequestFacts("GET", b"/protected", ()), "client_id_missing"),
        (RequestFacts("GET", b"/protected", ((b"X-IBM-Client-Id", b"client"),) * 2), "client_id_repeated"),
        (RequestFacts("GET", b"/protected", ((b"X-IBM-Client-Id", b"client"), (b"j-w-t", b"x"))), None),
        (RequestFacts("GET", b"/protected", ((b"X_IBM_Client_Id", b"client"),)), "request_unsafe"),
        (RequestFacts("GET", b"/nowhere", ((b"X-IBM-Client-Id", b"client"),)), "route_unknown"),
    ],
    ids=[str(number) for number in range(12)],
)
def test_report_mode_of_one(facts: RequestFacts, expected: str | None) -> None:
    """Only what an application that is known to be in the mode would be refused; nobody else, and nothing unsafe."""
    made = snapshot(REPORT, {"client_id": "off", "mode": "report"})
    assert outcome(decide(made, facts, NOW)) == (expected or "would_reject jws_missing")


def test_report_mode_only_where_the_entry_says() -> None:
    """On the routes that it lets the application call, and that have something to pass to."""
    routes = [{"path": "/protected"}, {"path": "/second"}, {"path": "/third", "respond": "claims"}]
    made = snapshot({**REPORT, "routes": ["/second", "/third"]}, routes=routes)
    facts = request_with(None)
    found = [outcome(decide(made, facts._replace(target=route.name.encode()), NOW)) for route in made.router]
    assert found == ["route_not_allowed", "would_reject jws_missing", "jws_missing"]


@pytest.mark.parametrize(
    ("mode", "entries", "expected"),
    [
        ("report", [], "would_reject jws_missing"),
        ("report", [{"mode": "enforce"}], "jws_missing"),
        ("enforce", [{"mode": "report"}, {"mode": "enforce"}], "jws_missing"),
        ("enforce", [{"mode": "enforce"}, {"mode": "report"}], "jws_missing"),
        ("enforce", [{"mode": "report"}, {"routes": ["/second"]}], "route_not_allowed"),
        ("report", [{"routes": ["/second"]}], "would_reject route_not_allowed"),
        ("report", [{"routes": ["/second"], "mode": "enforce"}], "route_not_allowed"),
        ("enforce", [{"mode": "report"}, {"algorithms": ["ES256"]}], "would_reject jws_missing"),
    ],
    ids=repr,
)
def test_the_stricter_mode_holds(mode: str, entries: list[dict[str, object]], expected: str) -> None:
    """Of the route's and all that concern the application."""
    routes = [{"path": "/protected", "mode": mode}, SECOND]
    made = snapshot(*({"client_id": "client", **entry} for entry in entries), routes=routes)
    assert outcome(decide(made, request_with(None), NOW)) == expected


def test_report_mode_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At start, in the metrics, and by lint, which also tells whom the portal does not have."""
    portal, policy = good_files(tmp_path)
    text = policy.read_text() + (
        f"applications:\n  - client_id: {OTHER_CLIENT_ID}\n    mode: report\n  - application: gone\n    routes: [/**]\n"
    )
    policy.write_text(text)
    loaded = load_snapshot(portal, [policy], NOW)
    assert "jwsgate_client_ids_in_report_mode 1.0" in Metrics(lambda: loaded).exposition().decode()
    GateState().take_up(loaded)
    assert f"REPORT MODE, requests pass without a good JWS from the client IDs '{OTHER_CLIENT_ID}'" in caplog.text
    found = [
        (each.rule.name, each.problem.path, each.problem.line)
        for each in lint(portal, [policy], NOW, 1)
        if each.rule.name.startswith("application-")
    ]
    count = text.count("\n")
    assert found == [
        ("application-report", "applications[0].mode", count - 2),
        ("application-unknown", "applications[1]", count - 1),
    ]
    assert not [each for each in lint(None, [policy], NOW, 1) if each.rule.name == "application-unknown"]


# What is left as it is


def test_routes_that_nobody_is_named_on() -> None:
    """Without entries, or without an application that one concerns, a route costs nothing more."""
    for entries in ([], [{"application": "gone", "algorithms": ["ES256"]}]):
        assert [route.narrowed for route in snapshot(*entries).router] == [None, None]
    (route,) = snapshot({**REPORT}, routes=[{"path": "/x", "open": True}]).router
    assert route.narrowed is None


def test_names_without_making_keys() -> None:
    """As the applications themselves have them."""
    record = pack("n", "t", "enabled", (), None, "c", "o")
    packed = PackedApplications([record], ["a\nb"])
    assert [*names(packed)] == [Names(["a", "b"], "n", "t", "c", "o")]
    assert [*names([*packed])] == [Names((ClientId("a"), ClientId("b")), "n", "t", "c", "o")]


def test_policy_tests_know_them(tmp_path: Path) -> None:
    """A case is decided as the application that it names would be."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "routes:\n  - {path: /a}\n  - {path: /b, certificates: {ca_file: ca.pem}}\n"
        "applications:\n  - {organization: acme, routes: [/a]}\n  - {client_id: c, mode: report}\n"
        "tests:\n"
        "  - {name: 1, request: {path: /b}, sign: {}, expect: allowed}\n"
        "  - {name: 2, request: {path: /b}, sign: {}, organization: acme, expect: route_not_allowed}\n"
        "  - {name: 3, request: {path: /a}, client_id: c, expect: would_reject jws_missing}\n"
        "  - {name: 4, request: {path: /a}, application: c, expect: jws_missing}\n"
    )
    ca = material.certificate(EC)
    (tmp_path / "ca.pem").write_text(ca)
    assert [(each.problem.path, each.problem.message) for each in run_policy_tests([policy], NOW)[0]] == []


# Never wider


_SOME = st.sampled_from
_ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "algorithms": _SOME([["RS256"], ["ES256"], ["RS256", "ES256"]]),
        "claims": st.fixed_dictionaries(
            {},
            optional={
                "required": _SOME([["exp"], ["role"], ["iat", "role"]]),
                "leeway": _SOME([0, 5]),
                "max_lifetime": _SOME([599, 600]),
                "issuer": _SOME([["tvo"], ["a"], ["a", "tvo"]]),
                "audience": _SOME([["the world"], ["a"]]),
            },
        ).filter(bool),
        "routes": _SOME([["/protected"], ["/second"], ["/protected", "/second"]]),
        "jws": _SOME([{"max_octets": 256}, {"max_octets": 16384}]),
        "mode": _SOME(["enforce"]),
    },
).filter(bool)
_REQUESTS = [
    signed(key, {name: value for name, value in good_claims(**claims).items() if value is not None})
    for key in (RSA, EC)
    for claims in ({}, {"role": 1}, {"exp": NOW - 3}, {"iss": "a"}, {"aud": ["a"]}, {"iat": None}, {"pad": "x" * 200})
]


@given(entries=st.lists(_ENTRIES, max_size=3))
def test_property_never_wider(entries: list[dict[str, object]]) -> None:
    """Whatever a policy says of an application: what passes passes without it too, and it passes each one alone."""
    routes = [{"path": "/protected", "claims": {"leeway": 5, "issuer": ["tvo", "a"]}}, {"path": "/second"}]
    said = [{"client_id": "client", **entry} for entry in entries]
    groups = [(), said, *([entry] for entry in said)]
    built = [build(*group, routes=routes) for group in groups]
    if any(problems for _, problems in built):
        return
    usual, together, *alone = (Snapshot(PORTAL, router, "r") for router, _ in built)
    for token in _REQUESTS:
        facts = request_with(token)
        if outcome(decide(together, facts, NOW)) == "allowed":
            assert {outcome(decide(each, facts, NOW)) for each in (usual, *alone)} == {"allowed"}
