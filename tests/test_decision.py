"""The decision: which fault is told when there are several, what a record holds, and which certificate counts."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import material
from feature_material import (
    CLIENT_ID,
    DAY,
    NOW,
    Issued,
    a_request,
    a_route,
    a_snapshot,
    an_application,
    certificate_for,
    detached,
    good_claims,
    issue,
    reason_of,
)
from jwsgate.core import decision as module
from jwsgate.core.bindings import Bindings, BodyDigest
from jwsgate.core.claims import ClaimRules
from jwsgate.core.client_certificate import CertificateHeader, ClientCertificate
from jwsgate.core.cors import Cors
from jwsgate.core.decision import Allowed, AwaitsBody, JwsCache, Rejected, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import NarrowedRoutes, RespondClaims, Route, Router, Sign
from jwsgate.core.portal import ClientId, Portal
from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source
from jwsgate.core.trust import ChainState, Trust
from jwsgate.core.upstream import Upstream
from jwsgate.core.verified_cache import VerifiedCache

KEY = material.private_key("ed25519", "feature-client")
STRANGER = material.private_key("ed25519", "feature-stranger")
BODY = b"body"
DIGEST = "Iw2DWNyOiJC0xY3utikS7i8gNXrpKlzIYbmOaP4xrLU"  # printf body | openssl sha256 -binary | basenc --base64url
PATH = b"/orders/1"
BALANCER = "10.0.0.1"
CARRIED = ClientCertificate(CertificateHeader("Client-Cert", "xfcc", (ip_network(BALANCER),)))


def carried(key: Any = KEY) -> tuple[bytes, bytes]:
    """The header in which a balancer passes the client certificate on."""
    return b"Client-Cert", b"Hash=" + certificate_for(key).registered().thumbprint.encode()


# The order of the steps


@dataclass
class World:
    """A good request to a gate that demands all that can be demanded; each fault spoils one thing."""

    loaded: bool = True
    method: str = "POST"
    target: bytes = PATH
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    length: list[tuple[bytes, bytes]] = field(default_factory=list)
    client_ids: list[tuple[bytes, bytes]] = field(default_factory=lambda: [(b"X-IBM-Client-Id", CLIENT_ID.encode())])
    enabled: bool = True
    certificates: list[Issued] = field(default_factory=lambda: [certificate_for(KEY)])
    trust_fault: str | None = None
    carried: list[tuple[bytes, bytes]] = field(default_factory=lambda: [carried()])
    imitations: list[tuple[bytes, bytes]] = field(default_factory=list)
    jws_count: int = 1
    max_octets: int = 16384
    spelling: str = "{}"
    jose_header: dict[str, Any] = field(default_factory=lambda: {"alg": "EdDSA"})
    algorithms: frozenset[str] = frozenset({"EdDSA"})
    key: Any = KEY
    cut: int = 0
    claims: dict[str, Any] = field(default_factory=lambda: good_claims(jti="j", htm="POST", d=DIGEST))

    def snapshot(self) -> Snapshot | None:
        """What the gate has loaded."""
        if not self.loaded:
            return None
        registered = [each.registered() for each in self.certificates]
        trust = Trust({each.thumbprint: ChainState(self.trust_fault, NOW - DAY, NOW + DAY) for each in registered})
        route = a_route(
            "/orders/{id}",
            max_jws_octets=self.max_octets,
            algorithms=self.algorithms,
            claims=ClaimRules(required=("exp", "iat"), issuer=("tvo",), max_lifetime=3600),
            bindings=Bindings(method="htm", body=BodyDigest("d")),
            single_use=True,
            trust=trust,
            client_certificate=CARRIED,
            max_body_octets=1000,
        )
        return a_snapshot([an_application(*registered, enabled=self.enabled)], route)

    def request(self) -> RequestFacts:
        """What the client sends."""
        payload = material.compact_json(self.claims)
        payload = payload[: len(payload) - self.cut]
        token = self.spelling.format(material.jws(self.key, header=self.jose_header, payload=payload)).encode()
        jws = [(b"jwt", token)] * self.jws_count
        fields = (*self.headers, *self.client_ids, *self.carried, *self.imitations, *self.length, *jws)
        return RequestFacts(self.method, self.target, fields, BALANCER)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and the reason that tells it. Faults of one step exclude each other."""

    step: int
    reason: Reason
    spoil: Callable[[World], object]
    name: str


def _faults() -> list[Fault]:
    made: list[Fault] = []
    step = itertools.count()

    def add(number: int, name: str, reason: Reason, **values: Any) -> None:
        def spoil(world: World) -> None:
            for key, value in values.items():
                setattr(world, key, value(world) if callable(value) else value)

        made.append(Fault(number, reason, spoil, name))

    add(next(step), "nothing-loaded", Reason.POLICY_UNAVAILABLE, loaded=False)
    unsafe = next(step)
    add(unsafe, "upgrade", Reason.REQUEST_UNSAFE, headers=[(b"Upgrade", b"websocket")])
    add(unsafe, "connection", Reason.REQUEST_UNSAFE, headers=[(b"Connection", b"jwt")])
    add(unsafe, "control", Reason.REQUEST_UNSAFE, headers=[(b"X-Comment", b"\0")])
    add(unsafe, "method", Reason.REQUEST_UNSAFE, method="POST ")
    target = next(step)
    add(target, "dot-segment", Reason.REQUEST_UNSAFE, target=b"/orders/../1")
    add(target, "no-route", Reason.ROUTE_UNKNOWN, target=b"/nowhere")
    add(next(step), "body-too-large", Reason.BODY_TOO_LARGE, length=[(b"Content-Length", b"1001")])
    add(next(step), "certificate-imitated", Reason.REQUEST_UNSAFE, imitations=[(b"Client_Cert", b"x")])
    client = next(step)
    name = b"X-IBM-Client-Id"
    add(client, "client-id-missing", Reason.CLIENT_ID_MISSING, client_ids=[])
    add(client, "client-id-repeated", Reason.CLIENT_ID_REPEATED, client_ids=[(name, CLIENT_ID.encode())] * 2)
    add(client, "client-id-unknown", Reason.CLIENT_ID_UNKNOWN, client_ids=[(name, b"nobody")])
    add(client, "client-id-imitated", Reason.REQUEST_UNSAFE, client_ids=[(b"X_IBM_Client_Id", CLIENT_ID.encode())])
    add(next(step), "disabled", Reason.APPLICATION_DISABLED, enabled=False)
    certificate = next(step)
    past, future = certificate_for(KEY, "past", -30, -1), certificate_for(KEY, "future", 1, 30)
    add(certificate, "no-certificate", Reason.CERTIFICATE_MISSING, certificates=[])
    add(certificate, "expired-certificate", Reason.CERTIFICATE_EXPIRED, certificates=[past])
    add(certificate, "future-certificate", Reason.CERTIFICATE_NOT_YET_VALID, certificates=[future])
    add(next(step), "untrusted", Reason.CERTIFICATE_UNUSABLE, trust_fault="is revoked")
    shown = next(step)
    add(shown, "client-certificate-missing", Reason.CLIENT_CERTIFICATE_MISSING, carried=[])
    add(shown, "client-certificate-garbled", Reason.REQUEST_UNSAFE, carried=[(b"Client-Cert", b"Hash=a")])
    add(shown, "client-certificate-of-another", Reason.CLIENT_CERTIFICATE_MISMATCH, carried=[carried(STRANGER)])
    jws = next(step)
    add(jws, "jws-missing", Reason.JWS_MISSING, jws_count=0)
    add(jws, "jws-repeated", Reason.JWS_REPEATED, jws_count=2)
    add(next(step), "jws-too-large", Reason.JWS_TOO_LARGE, max_octets=64)
    add(next(step), "jws-malformed", Reason.JWS_MALFORMED, spelling="{}.")
    add(
        next(step),
        "zip",
        Reason.HEADER_PARAMETER_UNSUPPORTED,
        jose_header=lambda world: {**world.jose_header, "zip": "DEF"},
    )
    add(next(step), "algorithm", Reason.ALGORITHM_NOT_ALLOWED, algorithms=frozenset({"ES256"}))
    add(next(step), "stranger", Reason.SIGNATURE_MISMATCH, key=STRANGER)
    add(next(step), "no-json", Reason.CLAIMS_MALFORMED, cut=1)
    for reason, label, change in (
        (Reason.CLAIM_MISSING, "no-iat", {"iat": None}),
        (Reason.JWS_EXPIRED, "expired", {"exp": NOW}),
        (Reason.CLAIM_MISMATCH, "issuer", {"iss": "other"}),
        (Reason.CLAIM_MISSING, "no-jti", {"jti": None}),
        (Reason.BINDING_MISMATCH, "method-bound", {"htm": "PUT"}),
        (Reason.CLAIM_MISSING, "no-digest", {"d": None}),
    ):
        number = next(step)

        def changed(world: World, change: dict[str, Any] = change) -> dict[str, Any]:
            claims = {**world.claims, **change}
            return {key: value for key, value in claims.items() if value is not None}

        add(number, label, reason, claims=changed)
    return made


FAULTS = _faults()
ROUTE_STEP = next(fault.step for fault in FAULTS if fault.reason == Reason.ROUTE_UNKNOWN)
CLIENT_STEP = next(fault.step for fault in FAULTS if fault.reason == Reason.CLIENT_ID_UNKNOWN)


def by_step(faults: Sequence[Fault]) -> list[list[Fault]]:
    """The faults of each step."""
    return [list(group) for _, group in itertools.groupby(faults, lambda fault: fault.step)]


def decided(*faults: Fault, cache: JwsCache | None = None) -> Allowed | Rejected | AwaitsBody:
    """The decision on a request with these faults."""
    world = World()
    for fault in faults:
        fault.spoil(world)
    return decide(world.snapshot(), world.request(), NOW, cache)


def test_without_a_fault() -> None:
    """The world in which the faults are tried is a good one."""
    decision = decided()
    assert isinstance(decision, AwaitsBody)
    assert isinstance(decide_body(decision, BODY), Allowed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_alone(fault: Fault) -> None:
    """Each fault is told by its own reason, or the pairs below would prove nothing."""
    assert reason_of(decided(fault)) == fault.reason


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(first, second, id=f"{first.name}-before-{second.name}")
        for one, two in itertools.pairwise(by_step(FAULTS))
        for first in one
        for second in two
    ],
)
def test_earlier_of_two_adjacent_faults_wins(earlier: Fault, later: Fault) -> None:
    """With a fault in two neighbouring steps, the reason is that of the earlier one."""
    assert reason_of(decided(earlier, later)) == earlier.reason


@settings(max_examples=300, deadline=None)
@given(st.tuples(*(st.sampled_from([None, *group]) for group in by_step(FAULTS))))
def test_earliest_of_many_faults_wins(chosen: tuple[Fault | None, ...]) -> None:
    """Whatever is wrong at once, the earliest step speaks, and the record has what was established until then."""
    faults = [fault for fault in chosen if fault is not None]
    decision = decided(*faults, cache=VerifiedCache())
    if not faults:
        assert isinstance(decision, AwaitsBody)
        return
    first = faults[0]
    assert isinstance(decision, Rejected)
    assert decision.reason == first.reason
    assert (decision.route is not None) == (first.step > ROUTE_STEP)
    if first.reason != Reason.APPLICATION_DISABLED:  # below
        assert decision.client_id == (CLIENT_ID if first.step > CLIENT_STEP else None)


def test_imitated_jws_header_is_told_when_the_jws_is_looked_for() -> None:
    """A look-alike of the JWS's header is found in its own step: after the certificate, before the JWS."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(jws=Source("header", "x-jws")))
    no_certificate = a_snapshot([an_application()], a_route(jws=Source("header", "x-jws")))
    request = a_request(None, (b"x_jws", b"a.b.c"))
    assert reason_of(decide(snapshot, request, NOW)) == Reason.REQUEST_UNSAFE
    assert reason_of(decide(no_certificate, request, NOW)) == Reason.CERTIFICATE_MISSING


def test_disabled_application_is_named_in_the_record() -> None:
    """A client ID that was found in the portal is in the record, also when its application is disabled."""
    rejected = decide(a_snapshot([an_application(certificate_for(KEY), enabled=False)]), a_request("a.b.c"), NOW)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.client_id) == (Reason.APPLICATION_DISABLED, CLIENT_ID)


@pytest.mark.parametrize("client_id", ["", "nobody", CLIENT_ID.upper(), "x" * 5000, "\n[allowed]"], ids=repr)
def test_unknown_client_id_is_never_in_the_record(client_id: str) -> None:
    """What a client claims to be, and is not, stays out of the record and out of the log's text."""
    rejected = decide(a_snapshot([an_application(certificate_for(KEY))]), a_request("a.b.c", client_id=client_id), NOW)
    assert isinstance(rejected, Rejected)
    assert rejected.client_id is None
    assert not client_id or client_id not in rejected.detail


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_details_hold_nothing_that_the_client_sent(fault: Fault) -> None:
    """Details go to the log: printable, one line, and with no octet of the JWS or of an unknown claim."""
    rejected = decided(fault)
    assert isinstance(rejected, Rejected)
    assert rejected.detail.isprintable()
    token = dict(World().request().headers)[b"jwt"].decode()
    assert not any(part in rejected.detail for part in token.split("."))


# What is allowed


def test_allowed_holds_what_the_request_was_judged_by() -> None:
    """The record of an allowed request: route, application, client ID, certificate, algorithm, payload, claims."""
    certificate = certificate_for(KEY)
    application, route = an_application(certificate), a_route()
    payload = b' { "exp" : %d , "n": [1] } ' % (NOW + 60)
    allowed = decide(a_snapshot([application], route), a_request(material.jws(KEY, payload=payload)), NOW)
    assert isinstance(allowed, Allowed)
    assert (allowed.route, allowed.application, allowed.client_id) == (route, application, CLIENT_ID)
    assert (allowed.certificate, allowed.alg, allowed.payload) == (certificate.registered(), "EdDSA", payload)
    assert (dict(allowed.claims), allowed.replay) == ({"exp": NOW + 60, "n": [1]}, None)
    with pytest.raises(TypeError):
        allowed.claims["exp"] = 0  # type: ignore[index]


@pytest.mark.parametrize("route", [a_route(), a_route(bindings=Bindings(method="htm"))], ids=["plain", "bound"])
def test_allowed_again_says_the_same(route: Route) -> None:
    """What is allowed by what is remembered tells all that it told when its JWS was verified."""
    route = replace(route, upstream=Upstream(claims=(("X-Subject", "sub"), ("X-Empty", "none")), client_id="X-Client"))
    snapshot = a_snapshot([an_application(certificate_for(KEY))], route)
    claims = good_claims(htm="GET", sub="a: b", none="")
    cache: JwsCache = VerifiedCache()
    for _ in range(2):
        allowed = decide(snapshot, a_request(material.jws(KEY, claims)), NOW, cache)
        assert isinstance(allowed, Allowed)
        assert (dict(allowed.claims), allowed.payload) == (claims, material.compact_json(claims))
        assert allowed.added == ((b"X-Subject", b"a: b"), (b"X-Empty", b""), (b"X-Client", CLIENT_ID.encode()))
    assert cache.stored == 1


def test_single_use_names_what_is_used_up() -> None:
    """The use to be remembered: the application's first client ID, a digest of the jti, and the JWS's end."""
    route = a_route(single_use=True, claims=ClaimRules(leeway=30))
    snapshot = a_snapshot([an_application(certificate_for(KEY), client_ids=(CLIENT_ID, "second"))], route)
    token = material.jws(KEY, good_claims(jti="one"))
    first = decide(snapshot, a_request(token), NOW)
    second = decide(snapshot, a_request(token, client_id="second"), NOW)
    other = decide(snapshot, a_request(material.jws(KEY, good_claims(jti="o" * 9000))), NOW)
    assert isinstance(first, Allowed) and isinstance(second, Allowed) and isinstance(other, Allowed)
    assert first.replay and second.replay and other.replay
    assert (first.replay.client_id, first.replay.expires) == (CLIENT_ID, NOW + 630)
    assert (second.replay.client_id, second.replay.jti) == (CLIENT_ID, first.replay.jti)
    assert other.replay.jti != first.replay.jti
    assert len(other.replay.jti) == len(first.replay.jti) == 64


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param({"jti": "x"}, "allowed", id="good"),
        pytest.param({}, Reason.CLAIM_MISSING, id="no-jti"),
        pytest.param({"jti": None}, Reason.CLAIM_MISSING, id="null"),
        pytest.param({"jti": ""}, Reason.CLAIMS_MALFORMED, id="empty"),
        pytest.param({"jti": 7}, Reason.CLAIMS_MALFORMED, id="number"),
        pytest.param({"jti": 0}, Reason.CLAIMS_MALFORMED, id="zero"),
        pytest.param({"jti": False}, Reason.CLAIMS_MALFORMED, id="false"),
        pytest.param({"jti": ["x"]}, Reason.CLAIMS_MALFORMED, id="list"),
        pytest.param({"jti": {}}, Reason.CLAIMS_MALFORMED, id="object"),
    ],
)
def test_single_use_needs_a_jti(claims: dict[str, Any], expected: Reason | str) -> None:
    """Without a jti of text nothing can be remembered, and so nothing passes."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(single_use=True))
    assert reason_of(decide(snapshot, a_request(material.jws(KEY, good_claims(**claims))), NOW)) == expected


def test_single_use_needs_an_exp_even_where_claims_do_not() -> None:
    """A JWS that never ends would have to be remembered for ever."""
    route = a_route(single_use=True, claims=ClaimRules(required=()))
    snapshot = a_snapshot([an_application(certificate_for(KEY))], route)
    assert reason_of(decide(snapshot, a_request(material.jws(KEY, {"jti": "x"})), NOW)) == Reason.CLAIM_MISSING


def test_sign_route_asks_for_a_certificate_but_no_jws() -> None:
    """The demo's sign route knows its client and that it has a certificate; a JWS beside it is not looked at."""
    action = Sign(SimpleNamespace(), "RS256", "tvo", "the world")  # type: ignore[arg-type]
    route = a_route(action=action)
    good = a_snapshot([an_application(certificate_for(KEY))], route)
    allowed = decide(good, a_request(), NOW)
    assert isinstance(allowed, Allowed)
    assert (allowed.payload, dict(allowed.claims), allowed.certificate, allowed.replay) == (b"", {}, None, None)
    assert reason_of(decide(good, a_request("garbage"), NOW)) == "allowed"
    assert reason_of(decide(good, a_request(client_id=None), NOW)) == Reason.CLIENT_ID_MISSING
    assert reason_of(decide(a_snapshot([an_application()], route), a_request(), NOW)) == Reason.CERTIFICATE_MISSING


def test_decision_is_that_of_the_most_specific_route() -> None:
    """The demands are those of the route found, not of any other that fits too."""
    strict = a_route("/orders/{id}", ["POST"], claims=ClaimRules(required=("exp", "order")))
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route("/**"), strict, a_route("/orders/**"))
    request = a_request(material.jws(KEY, good_claims()), method="POST", target=b"/orders/7?x")
    rejected = decide(snapshot, request, NOW)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.route) == (Reason.CLAIM_MISSING, strict)


# Exceptions inside


def _worlds() -> dict[str, tuple[Route, str, bytes | None]]:
    """For each way through the decision: a route, a good token for it, and the body where one is awaited."""
    bindings = Bindings(method="htm", body=BodyDigest("d"))
    token = material.jws(KEY, good_claims(jti="j", htm="GET", d=DIGEST))
    return {
        "plain": (a_route(single_use=True, algorithms=frozenset({"EdDSA"}), action=RespondClaims()), token, None),
        "bound": (a_route(bindings=bindings, max_body_octets=1000), token, BODY),
        "detached": (a_route(detached=True), detached(KEY, BODY), BODY),
        "mutual": (a_route(client_certificate=CARRIED), token, None),
        "preflight": (a_route(cors=Cors(None)), token, None),
        "report": (a_route(client_certificate=CARRIED, report=True), "a.b.c", None),
        "overridden": (a_route(), token, None),
        "cached": (a_route(), token, None),
        "told": (a_route(upstream=Upstream(claims=(("X-Subject", "sub"),))), token, None),
        "open": (a_route(open=True), token, None),
        "narrowed": (a_route(narrowed=NarrowedRoutes({ClientId(CLIENT_ID): 0}, (a_route(),))), token, None),
    }


FUNCTIONS = {
    "check_request": ("plain", "bound", "detached"),
    "single_value": ("plain", "bound", "detached"),
    "usable_certificates": ("plain", "bound", "detached"),
    "parse_compact": ("plain", "bound", "detached"),
    "verify": ("plain", "bound", "detached"),
    "parse_claims": ("plain", "bound"),
    "check_claims": ("plain", "bound"),
    "good_between": ("plain", "bound"),
    "check_request_bindings": ("bound",),
    "check_body_digest": ("bound",),
    "attach": ("detached",),
    "check_certificate_headers": ("mutual", "report"),
    "check_client_certificate": ("mutual", "report"),
    "check_look_alikes": ("report",),
    "check_unread": ("open",),
    "_check_extent": ("bound", "narrowed", "overridden"),
    "_check_oddities": ("bound", "overridden"),
    "overrides": ("overridden",),
    "_narrowed": ("narrowed",),
    "_preflight": ("preflight",),
    "requested_method": ("preflight",),
    "reported": ("report",),
    "_checked_report": ("report",),
    "_client_steps": ("plain", "bound", "detached"),
    "_text_and_key": ("plain", "bound", "detached", "cached"),
    "lines_of": ("told",),
    "_find_application": ("plain", "bound", "detached"),
    "_allowed_algorithms": ("plain", "bound", "detached"),
    "_verify_with_any": ("plain", "bound", "detached"),
    "_verify_fresh": ("plain", "bound"),
    "_octets": ("bound",),
    "check_typ": ("detached",),
    "_declared_length": ("bound",),
    "_replay_key": ("plain", "bound"),
    "_steps": ("plain", "bound", "detached"),
    "_body_steps": ("bound", "detached"),
}
"""Every function that the decision uses, and on which ways."""


TOP = {"decide", "decide_body", "_broken"}
"""What catches, and so is not made to fail."""

LATER = {"payload_of", "fields_of"}
"""What only those call who read an `Allowed`, after the decision."""


def test_every_function_is_in_the_table() -> None:
    """A function added to the decision must be added here, so that its failing is tried."""
    used = {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__.startswith("jwsgate.") and name not in TOP | LATER
    }
    assert used == set(FUNCTIONS)


def outcome(way: str, cache: JwsCache | None = None) -> Allowed | Rejected:
    """The last word on a good request of one way."""
    cache = VerifiedCache() if way == "cached" else cache
    route, token, body = _worlds()[way]
    more = [(b"X-HTTP-Method-Override", b"PUT")] if way == "overridden" else []
    request = a_request(token, carried(), *more)._replace(peer=BALANCER)
    if route.cors is not None:
        headers = ((b"Origin", b"https://a.example"), (b"Access-Control-Request-Method", b"GET"))
        request = request._replace(method="OPTIONS", headers=headers)
    decision = decide(a_snapshot([an_application(certificate_for(KEY))], route), request, NOW, cache)
    if isinstance(decision, AwaitsBody):
        assert body is not None
        decision = decide_body(decision, body)
    return decision


@pytest.mark.parametrize(
    "way",
    [
        *("plain", "bound", "detached", "mutual", "report"),
        *("narrowed", "overridden", "preflight", "cached", "open", "told"),
    ],
)
def test_ways_are_good(way: str) -> None:
    """Without an exception each way ends in an allowed request."""
    assert isinstance(outcome(way), Allowed)


EXCEPTIONS = [RuntimeError, ValueError, KeyError, TypeError, RecursionError, MemoryError, AssertionError, StopIteration]


@pytest.mark.parametrize("exception", EXCEPTIONS, ids=lambda exception: exception.__name__)
@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in FUNCTIONS.items() for way in ways])
def test_exception_in_a_step(monkeypatch: pytest.MonkeyPatch, name: str, way: str, exception: type[Exception]) -> None:
    """Whatever a step raises is a rejection; the exception's text, which may hold secrets, is not told."""

    def fail(*_args: object, **_keywords: object) -> None:
        raise exception("secret")

    monkeypatch.setattr(module, name, fail)
    rejected = outcome(way)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == Reason.INTERNAL_ERROR
    assert "secret" not in rejected.detail
    assert exception.__name__ in rejected.detail


@pytest.mark.parametrize(
    ("owner", "name", "way"),
    [
        pytest.param(Router, "find", "plain", id="router"),
        pytest.param(Allowed, "__new__", "plain", id="allowed"),
        pytest.param(Allowed, "__new__", "detached", id="allowed-detached"),
        pytest.param(AwaitsBody, "__init__", "bound", id="awaits-body"),
        pytest.param(AwaitsBody, "__init__", "detached", id="awaits-body-detached"),
        pytest.param(VerifiedCache, "put", "plain", id="cache-put"),
        pytest.param(module.hashlib, "sha256", "plain", id="digest-of-the-jti"),
        pytest.param(module, "MappingProxyType", "bound", id="read-only-claims"),
        pytest.param(Portal, "find", "plain", id="portal"),
    ],
)
def test_exception_in_an_object(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, way: str) -> None:
    """The same for what is no function of the module: the router, the cache, the making of the decision itself."""

    def fail(*_args: object, **_keywords: object) -> None:
        raise RuntimeError("secret")

    # Made before anything is broken.
    certificate_for(KEY).registered()
    route, token, body = _worlds()[way]
    snapshot, cache = a_snapshot([an_application(certificate_for(KEY))], route), VerifiedCache[Any, Allowed]()
    monkeypatch.setattr(owner, name, fail)
    decision = decide(snapshot, a_request(token), NOW, cache)
    if isinstance(decision, AwaitsBody):
        decision = decide_body(decision, body or b"")
    monkeypatch.undo()
    assert isinstance(decision, Rejected)
    assert decision.reason == Reason.INTERNAL_ERROR


def test_exception_in_the_cache_look_up() -> None:
    """A cache that fails rejects; it is not merely passed by."""
    cache = VerifiedCache[Any, Allowed]()

    def fail(_key: object) -> None:
        raise RuntimeError("secret")

    cache.get = fail
    assert reason_of(outcome("plain", cache)) == Reason.INTERNAL_ERROR


@pytest.mark.parametrize("snapshot", [object(), 5, "", SimpleNamespace(router=None, portal=None)], ids=type)
def test_broken_snapshot(snapshot: Any) -> None:
    """A snapshot that is none rejects."""
    assert reason_of(decide(snapshot, a_request("a.b.c"), NOW)) == Reason.INTERNAL_ERROR


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_is_no_exception_goes_through(monkeypatch: pytest.MonkeyPatch, exception: type[BaseException]) -> None:
    """The end of the process or of a task is no verdict; whoever called must deny, and the addon does."""

    def fail(*_args: object) -> None:
        raise exception

    monkeypatch.setattr(module, "check_request", fail)
    with pytest.raises(exception):
        outcome("plain")


def test_awaiting_for_nothing_is_refused() -> None:
    """An `AwaitsBody` in which neither a digest nor a signature is open is a fault of the gate."""
    route, client_id = a_route(), ClientId(CLIENT_ID)
    awaiting = AwaitsBody(route, an_application(), client_id, (), None, None)
    rejected = decide_body(awaiting, b"")
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.route, rejected.client_id) == (Reason.INTERNAL_ERROR, route, client_id)


def test_no_certificate_to_verify_with_is_refused() -> None:
    """Even if the certificates got lost on the way, nothing is allowed."""
    route, token, body = _worlds()["detached"]
    awaiting = decide(a_snapshot([an_application(certificate_for(KEY))], route), a_request(token), NOW)
    assert isinstance(awaiting, AwaitsBody)
    without = AwaitsBody(route, awaiting.application, awaiting.client_id, (), None, awaiting.jws)
    assert reason_of(decide_body(without, body or b"")) == Reason.INTERNAL_ERROR


# Several certificates

OLD_KEY, NEW_KEY = material.private_key("p256", "feature-old"), material.private_key("p256", "feature-new")


def verdict(certificates: Sequence[Issued], token: str, now: float = NOW, **demands: Any) -> Reason | str:
    """The reason or "allowed"."""
    return reason_of(decide(a_snapshot([an_application(*certificates)], a_route(**demands)), a_request(token), now))


def used(certificates: Sequence[Issued], token: str, now: float = NOW) -> str:
    """The thumbprint of the certificate that verified."""
    allowed = decide(a_snapshot([an_application(*certificates)]), a_request(token), now)
    assert isinstance(allowed, Allowed), allowed
    assert allowed.certificate is not None
    return allowed.certificate.thumbprint


@pytest.mark.parametrize("order", [0, 1], ids=["old-first", "new-first"])
def test_rotation_never_breaks_a_client(order: int) -> None:
    """Old good until day 10, new good from day 5 on: whichever valid key signs, at any time, passes."""
    certificates = [certificate_for(OLD_KEY, "old", -30, 10), certificate_for(NEW_KEY, "new", 5, 90)]
    if order:
        certificates.reverse()
    for day in (0, 4.99, 5, 7, 10, 10.01, 50, 90):
        now = NOW + day * DAY
        for key, good in ((OLD_KEY, day <= 10), (NEW_KEY, day >= 5)):
            token = material.jws(key, {"exp": now + 60})
            assert verdict(certificates, token, now) == ("allowed" if good else Reason.SIGNATURE_MISMATCH), day
    assert verdict(certificates, material.jws(NEW_KEY, {"exp": NOW + 99 * DAY}), NOW + 91 * DAY) == (
        Reason.CERTIFICATE_EXPIRED
    )


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_certificate_counts_exactly_while_it_is_valid(data: st.DataObject) -> None:
    """Any number of certificates with any times: a token passes exactly when its key's certificate is valid then."""
    keys = [material.private_key("ed25519", f"feature-many-{number}") for number in range(4)]
    spans = data.draw(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=4))
    certificates = [
        certificate_for(key, f"many-{number}", start, start + length)
        for number, (key, (start, length)) in enumerate(zip(keys, spans, strict=False))
    ]
    now = NOW + data.draw(st.integers(-4, 8)) * DAY + data.draw(st.sampled_from([-1, 0, 1]))
    signer = data.draw(st.integers(0, len(certificates) - 1))
    valid = [start * DAY <= now - NOW <= (start + length) * DAY for start, length in spans]
    token = material.jws(keys[signer], {"exp": now + 60})
    found = verdict(data.draw(st.permutations(certificates)), token, now)
    if valid[signer]:
        assert found == "allowed"
    elif any(valid):
        assert found == Reason.SIGNATURE_MISMATCH
    elif any(start * DAY > now - NOW for start, _ in spans):
        assert found == Reason.CERTIFICATE_NOT_YET_VALID
    else:
        assert found == Reason.CERTIFICATE_EXPIRED


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        pytest.param(-DAY - 0.001, Reason.CERTIFICATE_NOT_YET_VALID, id="just-before"),
        pytest.param(-DAY, "allowed", id="first-moment"),
        pytest.param(DAY, "allowed", id="last-moment"),
        pytest.param(DAY + 0.001, Reason.CERTIFICATE_EXPIRED, id="just-after"),
    ],
)
def test_both_ends_of_the_validity_are_included(moment: float, expected: Reason | str) -> None:
    """RFC 5280 section 4.1.2.5: from notBefore through notAfter, inclusive."""
    certificate = certificate_for(KEY, "ends", -1, 1)
    assert verdict([certificate], material.jws(KEY, {"exp": NOW + 9 * DAY}), NOW + moment) == expected


def test_expired_beside_valid_and_not_yet_valid() -> None:
    """A certificate whose time is over or has not come verifies nothing, though another one is good."""
    future_key = material.private_key("p256", "feature-future")
    certificates = [
        certificate_for(OLD_KEY, "over", -30, -1),
        certificate_for(NEW_KEY, "good", -1, 30),
        certificate_for(future_key, "ahead", 1, 30),
    ]
    for each in itertools.permutations(certificates):
        found = {key: verdict(each, material.jws(key, good_claims())) for key in (OLD_KEY, NEW_KEY, future_key)}
        assert list(found.values()) == [Reason.SIGNATURE_MISMATCH, "allowed", Reason.SIGNATURE_MISMATCH]


def test_all_over_or_ahead() -> None:
    """Expired and not yet valid together, with a gap between them: the one that is still to come is told."""
    over, ahead = certificate_for(OLD_KEY, "over", -30, -1), certificate_for(NEW_KEY, "ahead", 1, 30)
    token = material.jws(OLD_KEY, good_claims())
    assert verdict([over], token) == Reason.CERTIFICATE_EXPIRED
    assert verdict([ahead], token) == Reason.CERTIFICATE_NOT_YET_VALID
    assert verdict([over, ahead], token) == verdict([ahead, over], token) == Reason.CERTIFICATE_NOT_YET_VALID


def test_different_kinds_of_key() -> None:
    """Each of five kinds side by side verifies its own; of several failures the signature's tells most."""
    kinds: list[material.KeyKind] = ["rsa", "p256", "p384", "p521", "ed25519"]
    keys = [material.private_key(kind, "feature-kinds") for kind in kinds]
    certificates = [certificate_for(key, kind) for key, kind in zip(keys, kinds, strict=True)]
    for key, certificate in zip(keys, certificates, strict=True):
        assert used(certificates, material.jws(key, good_claims())) == certificate.registered().thumbprint
        stranger = material.private_key(kinds[keys.index(key)], "feature-stranger")
        assert verdict(certificates, material.jws(stranger, good_claims())) == Reason.SIGNATURE_MISMATCH
    foreign = material.jws(keys[0], good_claims(), header={"alg": "HS256"})
    assert verdict(certificates, foreign) == Reason.ALGORITHM_NOT_ALLOWED
    for pair in itertools.permutations(certificates[:2]):
        stranger_token = material.jws(material.private_key("p256", "feature-stranger"), good_claims())
        assert verdict(pair, stranger_token) == Reason.SIGNATURE_MISMATCH
        assert verdict(pair, material.jws(keys[4], good_claims())) == Reason.ALGORITHM_NOT_ALLOWED


def test_algorithm_confusion_between_two_certificates() -> None:
    """A signature by one registered key under the algorithm of another never passes."""
    rsa, ec = material.private_key("rsa", "feature-kinds"), material.private_key("p256", "feature-kinds")
    certificates = [certificate_for(rsa, "rsa"), certificate_for(ec, "p256")]
    for key, alg in ((ec, "RS256"), (rsa, "ES256"), (ec, "PS256")):
        token = material.jws(key, good_claims(), header={"alg": alg})
        assert verdict(certificates, token) == Reason.SIGNATURE_MISMATCH
    public = material.public_pem(rsa).encode()
    assert verdict(certificates, material.jws(public, good_claims())) == Reason.ALGORITHM_NOT_ALLOWED


def x5t(issued: Issued) -> str:
    """The header parameter x5t#S256 that names a certificate."""
    return material.b64url(bytes.fromhex(issued.registered().thumbprint))


def test_x5t_names_one_of_several() -> None:
    """x5t#S256 must name the certificate whose key signed; naming its neighbour, or a stranger, does not do."""
    old, new = certificate_for(OLD_KEY, "old"), certificate_for(NEW_KEY, "new")
    stranger = certificate_for(STRANGER, "stranger")
    for certificates in ([old, new], [new, old]):
        for named, expected in (
            (new, "allowed"),
            (old, Reason.SIGNATURE_MISMATCH),
            (stranger, Reason.SIGNATURE_MISMATCH),
        ):
            token = material.jws(NEW_KEY, good_claims(), header={"alg": "ES256", "x5t#S256": x5t(named)})
            assert verdict(certificates, token) == expected


def test_x5t_names_one_of_two_with_the_same_key() -> None:
    """Renewed with the same key: x5t#S256 chooses between the two, and cannot choose one that is over."""
    first, renewed = certificate_for(OLD_KEY, "first", -30, 1), certificate_for(OLD_KEY, "renewed", -1, 90)
    for named in (first, renewed):
        token = material.jws(OLD_KEY, good_claims(), header={"alg": "ES256", "x5t#S256": x5t(named)})
        assert used([first, renewed], token) == used([renewed, first], token) == named.registered().thumbprint
    later = NOW + 2 * DAY
    claims = {"exp": later + 60}
    over = material.jws(OLD_KEY, claims, header={"alg": "ES256", "x5t#S256": x5t(first)})
    assert verdict([first, renewed], over, later) == Reason.SIGNATURE_MISMATCH
    assert verdict([first, renewed], material.jws(OLD_KEY, claims), later) == "allowed"


def test_removed_certificate_is_out_at_once() -> None:
    """After a removal the old key's tokens fail, though they have not expired, with the same cache in use."""
    cache: JwsCache = VerifiedCache()
    old, new = certificate_for(OLD_KEY, "old"), certificate_for(NEW_KEY, "new")
    token = a_request(material.jws(OLD_KEY, good_claims()))
    assert reason_of(decide(a_snapshot([an_application(old, new)]), token, NOW, cache)) == "allowed"
    assert reason_of(decide(a_snapshot([an_application(new)]), token, NOW, cache)) == Reason.SIGNATURE_MISMATCH


def test_certificate_of_another_application() -> None:
    """A key that is registered, but for another application, is a stranger's here."""
    mine, theirs = certificate_for(KEY), certificate_for(STRANGER, "theirs")
    snapshot = a_snapshot([an_application(mine), an_application(theirs, client_ids=("theirs",))])
    token = material.jws(STRANGER, good_claims())
    assert reason_of(decide(snapshot, a_request(token, client_id="theirs"), NOW)) == "allowed"
    assert reason_of(decide(snapshot, a_request(token), NOW)) == Reason.SIGNATURE_MISMATCH


def test_untrusted_beside_trusted() -> None:
    """Of two valid certificates only the one that the CA vouches for verifies."""
    good, bad = issue("trusted", kind="ed25519"), issue("untrusted", kind="ed25519")
    states = {
        good.registered().thumbprint: ChainState(None, NOW - 1, NOW + 1),
        bad.registered().thumbprint: ChainState("is revoked"),
    }
    trust = Trust(states)
    for certificates in ([good, bad], [bad, good]):
        assert verdict(certificates, material.jws(good.key, good_claims()), trust=trust) == "allowed"
        assert verdict(certificates, material.jws(bad.key, good_claims()), trust=trust) == Reason.SIGNATURE_MISMATCH
        later = verdict(certificates, material.jws(good.key, good_claims()), NOW + 2, trust=trust)
        assert later == Reason.CERTIFICATE_UNUSABLE


# Algorithms of route and application

SETS = [None, frozenset({"RS256"}), frozenset({"RS256", "PS256"}), frozenset({"PS512"}), frozenset({"ES256"})]


@pytest.mark.parametrize("by_application", SETS, ids=lambda names: "-".join(sorted(names)) if names else "unsaid")
@pytest.mark.parametrize("by_route", SETS, ids=lambda names: "-".join(sorted(names)) if names else "unsaid")
def test_algorithms_are_the_intersection(
    by_route: frozenset[str] | None, by_application: frozenset[str] | None
) -> None:
    """An application can narrow what its routes allow, never widen it; nothing in common lets nothing pass."""
    key = material.private_key("rsa", "feature-kinds")
    application = an_application(certificate_for(key, "rsa"), algorithms=by_application)
    snapshot = a_snapshot([application], a_route(algorithms=by_route))
    for alg in ("RS256", "RS384", "PS256", "PS512"):
        expected = all(names is None or alg in names for names in (by_route, by_application))
        decision = decide(snapshot, a_request(material.jws(key, good_claims(), algorithm=alg)), NOW)
        assert reason_of(decision) == ("allowed" if expected else Reason.ALGORITHM_NOT_ALLOWED)


def test_algorithms_of_one_application_do_not_bind_another() -> None:
    """Narrowing is an application's own."""
    key = material.private_key("rsa", "feature-kinds")
    certificate = certificate_for(key, "rsa")
    snapshot = a_snapshot(
        [an_application(certificate, algorithms={"PS256"}), an_application(certificate, client_ids=("wide",))]
    )
    token = material.jws(key, good_claims(), algorithm="RS256")
    assert reason_of(decide(snapshot, a_request(token), NOW)) == Reason.ALGORITHM_NOT_ALLOWED
    assert reason_of(decide(snapshot, a_request(token, client_id="wide"), NOW)) == "allowed"


# Lengths and WebSockets


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"0", "allowed", id="nothing"),
        pytest.param(b"1000", "allowed", id="exactly"),
        pytest.param(b"1001", Reason.BODY_TOO_LARGE, id="one-more"),
        pytest.param(b"0001001", Reason.BODY_TOO_LARGE, id="zeros"),
        pytest.param(b"9" * 19, Reason.BODY_TOO_LARGE, id="huge"),
    ],
)
def test_declared_length(value: bytes, expected: str) -> None:
    """A content-length above the route's limit is refused before anything is verified."""
    token = material.jws(KEY, good_claims())
    route = a_route(max_body_octets=1000)
    snapshot = a_snapshot([an_application(certificate_for(KEY).registered())], route)
    request = a_request(token, (b"CONTENT-length", value), method="POST")
    assert reason_of(decide(snapshot, request, NOW)) == expected


@pytest.mark.parametrize("websocket", [False, True])
def test_websocket_only_where_the_route_says(websocket: bool) -> None:
    """A handshake with a good JWS passes on a route that says so, and on no other; bad ones on none."""
    token = material.jws(KEY, good_claims())
    snapshot = a_snapshot([an_application(certificate_for(KEY).registered())], a_route(websocket=websocket))
    handshake = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
    request = a_request(token, *handshake)
    assert reason_of(decide(snapshot, request, NOW)) == ("allowed" if websocket else Reason.REQUEST_UNSAFE)
    stranger = material.jws(STRANGER, good_claims())
    request = a_request(stranger, *handshake)
    expected = Reason.SIGNATURE_MISMATCH if websocket else Reason.REQUEST_UNSAFE
    assert reason_of(decide(snapshot, request, NOW)) == expected
