"""What proxies ask and are answered, dialect by dialect."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from core_gate import NoFiles
from jwsgate.adapters.dialects import DIALECTS, Dialect, Question, Tongue, check_policy, denied
from jwsgate.core.answers import API_CONNECT, Reply, reply_table
from jwsgate.core.decision import Allowed, Snapshot
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import NarrowedRoutes, Route, Router
from jwsgate.core.portal import Portal
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.upstream import lines_of
from jwsgate.files.documents import read_document
from jwsgate.files.policy_file import build_routes
from jwsgate.files.problems import Unfit

TOLD = [name for name in DIALECTS if name != "envoy"]
SETS = frozenset({b"x-global-transaction-id", b"x-subject"})
ID = "0123456789abcdef01234567"


def snapshot(routes: str) -> Snapshot:
    """A snapshot with these routes and nobody in its portal."""
    made = Router()
    assert build_routes(read_document("policy.yaml", f"routes:\n{routes}".encode()), made, NoFiles()) == []
    return Snapshot(Portal(()), made, "1")


PLAIN = "  - {path: /told/**, upstream: {claims: {X-Subject: sub}}}\n  - {path: /orders/**}\n"


@pytest.fixture
def plain() -> Snapshot:
    return snapshot(PLAIN)


def tongue(name: str, plain: Snapshot) -> Tongue:
    return Tongue(DIALECTS[name], SETS, plain)


def asked(dialect: Dialect, *more: tuple[bytes, bytes]) -> Question:
    """A question about GET /orders/1?a=b, with more headers."""
    if dialect.is_envoy:
        return Question("GET", b"/orders/1?a=b", more)
    return Question("POST", b"/", ((dialect.method, b"GET"), *more, (dialect.target, b"/orders/1?a=b")))


@pytest.mark.parametrize("name", DIALECTS)
def test_reads_the_request(name: str, plain: Snapshot) -> None:
    """Method and target are the client's; its other headers are there as they came."""
    headers = ((b"Host", b"api"), (b"jwt", b"a.b.c"), (b"jwt", b"d.e.f"), (b"X-Latin", b"caf\xe9"))
    facts = tongue(name, plain).read(asked(DIALECTS[name], *headers))
    assert (facts.method, facts.target, sorted(facts.headers)) == ("GET", b"/orders/1?a=b", sorted(headers))


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda d: [(d.target, b"/a")], id="no-method"),
        pytest.param(lambda d: [(d.method, b"GET")], id="no-target"),
        pytest.param(lambda d: [(d.method, b""), (d.target, b"/a")], id="empty-method"),
        pytest.param(lambda d: [(d.method, b"GET"), (d.target, b"")], id="empty-target"),
        pytest.param(lambda d: [(d.method, b"GET"), (d.method, b"GET"), (d.target, b"/a")], id="repeated-method"),
        pytest.param(lambda d: [(d.method, b"GET"), (d.target, b"/a"), (d.target, b"/a")], id="repeated-target"),
        pytest.param(lambda d: [(d.method, b"GET"), (d.target, b"/a,/b")], id="joined-target"),
        pytest.param(lambda d: [(d.method.swapcase(), b"GET"), (d.target, b"/a")], id="method-in-other-case"),
        pytest.param(lambda d: [(d.method, b"GET"), (d.target.upper(), b"/a")], id="target-in-upper-case"),
        pytest.param(
            lambda d: [(d.method, b"GET"), (d.target, b"/a"), (d.target.replace(b"-", b"_"), b"/b")], id="imitated"
        ),
        pytest.param(lambda d: [(d.method, b"GET"), (d.target, b"/a"), (b"X_Subject", b"me")], id="imitated-identity"),
    ],
)
def test_refuses_other_forms(name: str, spoil: object, plain: Snapshot) -> None:
    """Metadata that is missing, repeated, joined or spelled otherwise than the proxy does is a denial."""
    headers = spoil(DIALECTS[name])  # type: ignore[operator]
    with pytest.raises(Rejection) as caught:
        tongue(name, plain).read(Question("GET", b"/", tuple(headers)))
    assert caught.value.reason is Reason.REQUEST_UNSAFE


def test_joined_method_is_no_method(plain: Snapshot) -> None:
    """`GET, POST` comes through the dialect, and the core refuses it."""
    from jwsgate.core.sources import check_request

    headers = ((b"X-Original-Method", b"GET, POST"), (b"X-Original-URI", b"/a"))
    with pytest.raises(Rejection):
        check_request(tongue("nginx", plain).read(Question("GET", b"/", headers)))


def test_forms_do_not_mix(plain: Snapshot) -> None:
    """Another dialect's headers say nothing."""
    headers = ((b"X-Forwarded-Method", b"GET"), (b"X-Forwarded-Uri", b"/orders/1"))
    for name in ("nginx", "haproxy"):
        with pytest.raises(Rejection):
            tongue(name, plain).read(Question("GET", b"/orders/1", headers))
    assert tongue("envoy", plain).read(Question("PUT", b"/told/x", headers)).target == b"/told/x"


def test_envoy_joins(plain: Snapshot) -> None:
    """What Envoy joined is parted where a client ID or a JWS stands, so that it counts as repeated."""
    facts = tongue("envoy", plain).read(
        Question("GET", b"/", ((b"jwt", b"a.b.c,a.b.c"), (b"accept", b"text/plain,text/html")))
    )
    assert sorted(facts.headers) == [(b"accept", b"text/plain,text/html"), (b"jwt", b"a.b.c"), (b"jwt", b"a.b.c")]


@pytest.mark.parametrize("name", ["nginx", "haproxy", "caddy", "traefik"])
def test_address_is_the_clients(name: str, plain: Snapshot) -> None:
    """The audit log tells who called, where the proxy says so."""
    question = asked(DIALECTS[name], (DIALECTS[name].address, b"10.1.2.3"))
    assert tongue(name, plain).read(question).peer == "10.1.2.3"


def allowed(plain: Snapshot, target: bytes, added: tuple[tuple[bytes, bytes], ...] = ()) -> Allowed:
    route = plain.router.find("GET", target)
    assert route is not None
    return Allowed(route, None, None, lines=lines_of(added))


def test_envoy_is_told_what_to_take_off(plain: Snapshot) -> None:
    """Every spelling of an identity header that is not set anew goes, and nothing else."""
    sent = ((b"x-subject", b"me"), (b"x_subject", b"me"), (b"x.subject", b"me"), (b"x-other", b"1"))
    facts = RequestFacts("GET", b"/orders/1", sent)
    envoy = tongue("envoy", plain)
    answer = envoy.allow(allowed(plain, b"/orders/1"), facts, ID)
    assert b"\r\nx-envoy-auth-headers-to-remove: x-subject,x.subject,x_subject\r\n" in answer
    answer = envoy.allow(allowed(plain, b"/told/1", ((b"X-Subject", b"you"),)), facts, ID)
    assert b"\r\nx-envoy-auth-headers-to-remove: x.subject,x_subject\r\n" in answer
    assert b"\r\nX-Subject: you\r\n" in answer


@pytest.mark.parametrize(
    ("jws", "sent", "expected"),
    [
        pytest.param("{header: jwt}", (b"jwt", b"a.b.c"), [b"x-envoy-auth-headers-to-remove: jwt"], id="header"),
        pytest.param(
            "{cookie: token}", (b"cookie", b"token=a.b.c"), [b"x-envoy-auth-headers-to-remove: cookie"], id="cookie"
        ),
        pytest.param("{cookie: token}", (b"cookie", b"a=1; token=a.b.c; c=2"), [b"cookie: a=1; c=2"], id="of-cookies"),
    ],
)
def test_envoy_strips_the_jws(jws: str, sent: tuple[bytes, bytes], expected: list[bytes]) -> None:
    """`strip_jws` takes the JWS off, and leaves the other cookies."""
    strict = snapshot(f"  - {{path: /orders/**, jws: {jws}, upstream: {{strip_jws: true}}}}\n")
    facts = RequestFacts("GET", b"/orders/1", ((b"host", b"api"), sent))
    lines = tongue("envoy", strict).allow(allowed(strict, b"/orders/1"), facts, ID).split(b"\r\n")
    assert lines[3:-2] == expected


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("reason", Reason)
def test_no_denial_lets_anything_pass(name: str, reason: Reason) -> None:
    """No reason, in no profile, is answered with what a proxy takes for a yes; its words come whole."""
    for table in (API_CONNECT, reply_table("rfc", {})):
        answer = denied(DIALECTS[name], table[reason], ID)
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        assert 400 <= status < 600
        assert table[reason].body in answer
        assert f"content-length: {len(body)}".encode() in head
        if name == "envoy":
            assert status < 500
        elif name == "nginx":
            assert status in {401, 403}
        else:
            assert (status, body) == (table[reason].status, table[reason].body)


def test_head_has_no_body() -> None:
    answer = denied(DIALECTS["envoy"], Reply(404, b"{}", "application/json"), ID, "HEAD")
    assert answer.endswith(b"content-length: 2\r\n\r\n")


IMPOSSIBLE = [
    pytest.param("respond: claims", DIALECTS, "sign or respond", id="respond"),
    pytest.param("cors: {origins: ['https://app.example']}", DIALECTS, "cors", id="cors"),
    pytest.param("websocket: true", DIALECTS, "websocket", id="websocket"),
    pytest.param("max_body_octets: 1000", DIALECTS, "max_body_octets", id="max-body"),
    pytest.param("client_certificate: required", DIALECTS, "client_certificate", id="client-certificate"),
    pytest.param("jws: {detached: true}", TOLD, "a JWS over the body", id="detached"),
    pytest.param("bind: {body: {claim: d}}", TOLD, "a JWS over the body", id="body"),
    pytest.param("upstream: {strip_jws: true}", TOLD, "upstream.strip_jws", id="strip"),
    pytest.param("jws: {query: t}, upstream: {strip_jws: true}", DIALECTS, "upstream.strip_jws", id="strip-query"),
    pytest.param("upstream: {claims: {X-Other: sub}}", DIALECTS, "the header x-other", id="undeclared"),
]


@pytest.mark.parametrize(("demand", "where", "what"), IMPOSSIBLE)
def test_refuses_what_cannot_be_had(demand: str, where: list[str], what: str) -> None:
    """Each demand that a dialect cannot meet is named, and only there."""
    found = snapshot(f"  - {{name: r, path: /a, {demand}}}\n")
    refused = []
    for name in DIALECTS:
        try:
            check_policy(found, DIALECTS[name], SETS)
        except Unfit as error:
            assert str(error).startswith(what)
            refused.append(name)
    assert refused == list(where)


def test_refuses_it_of_single_applications() -> None:
    """What only some applications are held to counts as well."""
    made = Router()
    (route,) = snapshot("  - {name: r, path: /a}\n").router
    made.add(replace(route, narrowed=NarrowedRoutes({}, (replace(route, max_body_octets=1),))))
    with pytest.raises(Unfit, match="max_body_octets of route 'r'"):
        check_policy(Snapshot(Portal(()), made, "1"), DIALECTS["nginx"], SETS)


def test_every_part_of_a_route_is_known() -> None:
    """Whatever a route gets to demand one day has to be looked at here: can the dialects do it?"""
    decided_by_the_core = {
        *("name", "pattern", "methods", "client_id", "jws", "max_jws_octets", "algorithms", "claims", "bindings"),
        *("single_use", "unencoded", "trust", "audit_failure", "open", "errors", "report", "upstream"),
        *("barred", "narrowed"),
    }
    refused_somewhere = {"action", "cors", "websocket", "max_body_octets", "client_certificate", "detached"}
    demands = {each.name for each in fields(Route) if each.init}  # the others follow from these
    assert demands == decided_by_the_core | refused_somewhere
