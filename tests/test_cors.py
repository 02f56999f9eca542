"""Open routes, and what browsers are told: which requests pass without a JWS, and that no other does."""

from __future__ import annotations

from pathlib import Path

import pytest

import material
from core_gate import NOW, application, certificate_of, reason_of, router
from jwsgate.core.cors import Cors, is_cors_header, requested_method
from jwsgate.core.decision import Allowed, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.portal import Portal
from jwsgate.core.reasons import Reason
from jwsgate.files.lint import lint
from unit_material import policy_problems, policy_routes

ORIGIN = (b"Origin", b"https://app.example")
ASKS = (b"Access-Control-Request-Method", b"GET")
PREFLIGHT = (ORIGIN, ASKS)


def options(*headers: tuple[bytes, bytes], method: str = "OPTIONS", target: bytes = b"/protected") -> RequestFacts:
    """A request with these headers."""
    return RequestFacts(method, target, headers)


def snapshot(**demands: object) -> Snapshot:
    """The one route, with CORS."""
    cors = {"origins": ["https://app.example"]}
    portal = Portal((application("client", certificate_of(material.private_key("p256"))),))
    return Snapshot(portal, router(**{"cors": cors, **demands}), "revision")


def test_preflight_passes() -> None:
    """Although the route is for GET alone; it says nothing of who called."""
    decision = decide(snapshot(), options(*PREFLIGHT), NOW)
    assert isinstance(decision, Allowed)
    assert (decision.preflight, decision.application, decision.added) == ("GET", None, ())


@pytest.mark.parametrize(
    "facts",
    [
        options(ORIGIN),
        options(ASKS),
        options(),
        options(*PREFLIGHT, method="GET"),
        options(*PREFLIGHT, method="POST"),
        options(*PREFLIGHT, ORIGIN),
        options(*PREFLIGHT, ASKS),
        options(ORIGIN, (b"Access-Control-Request-Method", b"")),
        options(ORIGIN, (b"Access-Control-Request-Method", b"GET, PUT")),
        options(ORIGIN, (b"Access_Control_Request_Method", b"GET")),
        options(*PREFLIGHT, (b"Content-Length", b"1")),
        options(*PREFLIGHT, (b"Transfer-Encoding", b"chunked")),
        options(ORIGIN, (b"Access-Control-Request-Method", b"DELETE")),
        options(*PREFLIGHT, target=b"/other"),
    ],
)
def test_nothing_else_is_a_preflight(facts: RequestFacts) -> None:
    """Not true preflights, and those for a route that there is not."""
    assert reason_of(decide(snapshot(), facts, NOW)) in {Reason.ROUTE_UNKNOWN, Reason.CLIENT_ID_MISSING}


def test_route_without_cors() -> None:
    """No preflight passes unasked."""
    assert reason_of(decide(snapshot(cors={"origins": ["*"]}), options(*PREFLIGHT), NOW)) is None
    bare = Snapshot(snapshot().portal, router(), "revision")
    assert reason_of(decide(bare, options(*PREFLIGHT), NOW)) == Reason.ROUTE_UNKNOWN


@pytest.mark.parametrize("target", [b"/protected/../x", b"/%2e/protected", b"//protected", b"/protected#"])
def test_unsafe_preflights(target: bytes) -> None:
    """As any other request."""
    assert reason_of(decide(snapshot(), options(*PREFLIGHT, target=target), NOW)) == Reason.REQUEST_UNSAFE


def told(cors: Cors, *headers: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    """What goes with every response."""
    return dict(cors.response_headers(headers))


def test_headers() -> None:
    """The origin is named only where it is one of the policy's, and every answer varies by it."""
    cors = Cors(frozenset({b"https://app.example"}), ("jwt",), ("X-A", "X-B"), True, 60)
    assert told(cors, ORIGIN) == {
        b"access-control-allow-origin": b"https://app.example",
        b"vary": b"Origin",
        b"access-control-allow-credentials": b"true",
        b"access-control-expose-headers": b"X-A, X-B",
    }
    for origin in (b"https://evil.example", b"https://app.example.evil", b"null", b"https://APP.example", b""):
        assert told(cors, (b"Origin", origin)) == {b"vary": b"Origin"}
        assert cors.preflight_headers(((b"Origin", origin),), "GET") == ()
    assert told(cors) == {b"vary": b"Origin"}
    assert told(cors, ORIGIN, ORIGIN) == {b"vary": b"Origin"}
    assert dict(cors.preflight_headers((ORIGIN,), "GET")) == {
        b"access-control-allow-methods": b"GET",
        b"access-control-allow-headers": b"jwt",
        b"access-control-max-age": b"60",
    }


def test_every_origin() -> None:
    """The word itself, and no echo."""
    assert told(Cors(None), ORIGIN)[b"access-control-allow-origin"] == b"*"


def test_headers_of_the_gate_alone() -> None:
    """Whatever the upstream sends of these is replaced."""
    assert is_cors_header(b"Access-Control-Allow-Origin")
    assert not is_cors_header(b"Access-Control-Allow-Methods")


def test_requested_method() -> None:
    """As the browser asks for it."""
    assert requested_method(options(*PREFLIGHT)) == "GET"


def test_sources_may_be_sent() -> None:
    """The headers that a good request needs, without saying so."""
    (route,) = policy_routes(
        "routes:\n  - {path: /a, cors: {origins: [https://a.example], headers: [Content-Type, jwt]}}\n"
    )
    assert route.cors is not None
    assert route.cors.headers == ("X-IBM-Client-Id", "jwt", "Content-Type")


def test_open_route() -> None:
    """Every request passes and nobody is told of; a JWS is not verified."""
    snapshot = Snapshot(Portal(()), router(open=True), "revision")
    for facts in (options(method="GET"), options((b"jwt", b"x"), (b"X-IBM-Client-Id", b"nobody"), method="GET")):
        decision = decide(snapshot, facts, NOW)
        assert isinstance(decision, Allowed)
        assert (decision.application, decision.client_id, decision.certificate, decision.added) == (
            None,
            None,
            None,
            (),
        )


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (options(method="POST"), Reason.ROUTE_UNKNOWN),
        (options(method="GET", target=b"/protected/x"), Reason.ROUTE_UNKNOWN),
        (options(method="GET", target=b"/x/../protected"), Reason.REQUEST_UNSAFE),
        (options((b"Content-Length", b"11"), method="GET"), Reason.BODY_TOO_LARGE),
        (options((b"Connection", b"X-A"), method="GET"), Reason.REQUEST_UNSAFE),
    ],
)
def test_open_is_no_wider(facts: RequestFacts, reason: Reason) -> None:
    """Method, path, size and safety count as ever."""
    snapshot = Snapshot(Portal(()), router(open=True, max_body_octets=10), "revision")
    assert reason_of(decide(snapshot, facts, NOW)) == reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param([(b"jwt", b"x"), (b"jwt", b"y")], Reason.JWS_REPEATED, id="jws-repeated"),
        pytest.param([(b"jwt", b"x,y")], Reason.JWS_REPEATED, id="jws-joined"),
        pytest.param([(b"j_w_t", b"x"), (b"jw.t", b"x")], None, id="other-names"),
        pytest.param(
            [(b"X-IBM-Client-Id", b"a"), (b"x-ibm-CLIENT-id", b"a")], Reason.CLIENT_ID_REPEATED, id="repeated"
        ),
        pytest.param([(b"X-IBM-Client-Id", b"a, b")], Reason.CLIENT_ID_REPEATED, id="joined"),
        pytest.param([(b"X_IBM_Client_Id", b"a")], Reason.REQUEST_UNSAFE, id="underscores"),
        pytest.param([(b"X-IBM-Client-Id", b"a"), (b"X.IBM.Client.Id", b"b")], Reason.REQUEST_UNSAFE, id="dots"),
        pytest.param([(b"X-IBM-Client-Id", b"")], None, id="empty"),
        pytest.param([(b"Authorization", b"Basic x, Bearer a.b.c")], None, id="other-header"),
    ],
)
def test_open_route_has_no_second_client_id_or_jws(headers: list[tuple[bytes, bytes]], reason: Reason | None) -> None:
    """An upstream that reads them there is not given two to choose from, nor one by another name."""
    snapshot = Snapshot(Portal(()), router(open=True), "revision")
    decision = decide(snapshot, options(*headers, method="GET"), NOW)
    assert (None if isinstance(decision, Allowed) else reason_of(decision)) == reason


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ("open: true, claims: {leeway: 1}", "", "is open, so that claims is never looked at"),
        ("open: true, single_use: true", "", "is open, so that single_use is never looked at"),
        ("open: true, client_certificate: required", "", "is open, so that client_certificate is never looked at"),
        ("open: true, mode: report", "", "is open, so that mode is never looked at"),
        ("open: true, respond: claims", "", "is open and answers by itself, without a JWS to answer from"),
        ("open: true, upstream: {client_id: X-A}", ".upstream", "has nobody to tell of on an open route"),
        ("cors: {origins: []}", ".cors.origins", "is empty"),
        ("cors: {origins: [app.example]}", ".cors.origins[0]", "is no origin"),
        ("cors: {origins: ['https://app.example/']}", ".cors.origins[0]", "is no origin"),
        ("cors: {origins: ['https://App.example']}", ".cors.origins[0]", "is no origin"),
        ("cors: {origins: ['null']}", ".cors.origins[0]", "is no origin"),
        ("cors: {origins: ['https://']}", ".cors.origins[0]", "is no origin"),
        ("cors: {origins: ['*'], credentials: true}", ".cors", "lets every origin use credentials"),
        ("cors: {origins: ['*', 'https://a.example']}", ".cors", "names * beside other origins"),
        ("cors: {origins: ['https://a.example'], headers: ['a b']}", ".cors.headers[0]", "is not of the right form"),
    ],
)
def test_mistakes(more: str, path: str, message: str) -> None:
    """Told at their place."""
    (problem,) = policy_problems(f"routes:\n  - {{path: /a, {more}}}\n")
    assert (f"routes[0]{path}", message) == (problem.path, problem.message)


def test_defaults_cannot_be_open() -> None:
    """Only a route can."""
    (problem,) = policy_problems("defaults: {open: true}\nroutes:\n  - {path: /a}\n")
    assert (problem.path, problem.message) == ("defaults.open", "is not a known key")


def test_lint_tells(tmp_path: Path) -> None:
    """With the place."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("routes:\n  - {path: /a, open: true}\n  - {path: /b}\n")
    (found,) = lint(None, [policy], NOW, 1)
    assert (found.rule.name, found.rule.level, found.problem.path) == ("route-open", "warning", "routes[0].open")
