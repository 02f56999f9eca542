"""Client certificates: what counts as one, from where, and compared with what."""

from __future__ import annotations

import base64
import hashlib
import json
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import material
from core_gate import NOW, NoFiles, application, certificate_of, decision_on, reason_of, request_with, signed
from feature_material import CA_BASIC, issue
from jwsgate.core.client_certificate import CertificateHeader
from jwsgate.core.decision import Allowed, JwsCache, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Router
from jwsgate.core.portal import Portal
from jwsgate.core.reasons import Reason
from jwsgate.core.verified_cache import VerifiedCache
from jwsgate.files.documents import read_document
from jwsgate.files.policy_file import build_routes

KEY = material.private_key("p256", "mutual")
NEXT_KEY = material.private_key("p256", "mutual-next")
OTHER_KEY = material.private_key("p256", "mutual-other")
OURS, NEXT, OTHER = (certificate_of(key) for key in (KEY, NEXT_KEY, OTHER_KEY))
MISSING, MISMATCH = Reason.CLIENT_CERTIFICATE_MISSING, Reason.CLIENT_CERTIFICATE_MISMATCH
PEER = "10.1.2.3"
DER = base64.b64decode("".join(material.certificate(KEY).splitlines()[1:-1]))
HEADER: dict[str, Any] = {"header": "Client-Cert", "format": "base64-der", "from": ["10.0.0.0/8"]}
TEXT = base64.b64encode(DER)


def facts(token: str, *headers: tuple[bytes, bytes], peer: str = PEER, shown: str | None = None) -> RequestFacts:
    """A request of the one client."""
    request = request_with(token)
    return RequestFacts(request.method, request.target, (*request.headers, *headers), peer, shown)


def snapshot(policy: dict[str, Any], *certificates: Any) -> Snapshot:
    """A snapshot with one application, of which a policy is asked."""
    router = Router()
    assert build_routes(read_document("policy.json", json.dumps(policy).encode()), router, NoFiles()) == []
    return Snapshot(Portal((application("client", *(certificates or (OURS,))),)), router, "revision")


def one_route(**demands: Any) -> dict[str, Any]:
    """A policy with one route."""
    return {"routes": [{"path": "/protected", **demands}]}


def reason(policy: dict[str, Any], request: RequestFacts, *certificates: Any) -> Reason | None:
    """Why a request is rejected, None when it is allowed."""
    return reason_of(decide(snapshot(policy, *certificates), request, NOW))


# The connection's


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (OURS.thumbprint, None),
        (OTHER.thumbprint, MISMATCH),
        (None, MISSING),
        ("", MISMATCH),
        (OURS.thumbprint[:-1], MISMATCH),
        (OURS.thumbprint.upper(), MISMATCH),
    ],
    ids=["ours", "another", "none", "empty", "cut", "upper-case"],
)
@pytest.mark.parametrize("action", [{}, {"respond": "claims"}], ids=["forward", "respond"])
def test_required(shown: str | None, expected: Reason | None, action: dict[str, str]) -> None:
    """Exactly the registered certificate, whatever comes of the request."""
    policy = one_route(client_certificate="required", **action)
    assert reason(policy, facts(signed(KEY), shown=shown)) == expected


def test_callers_without_tls() -> None:
    """Facts say nothing of a certificate unless told, and that is none."""
    decision = decision_on(signed(KEY), KEY, client_certificate="required")
    assert reason_of(decision) == MISSING


@pytest.mark.parametrize(
    ("default", "route", "expected"),
    [
        (None, None, None),
        ("required", None, MISSING),
        (None, "required", MISSING),
        ("required", "none", None),
        ("none", "required", MISSING),
        ("none", None, None),
        (HEADER, "required", MISSING),
        (HEADER, "none", None),
    ],
)
def test_defaults_and_routes(default: Any, route: Any, expected: Reason | None) -> None:
    """What a route says stands in place of the defaults."""
    policy = one_route(**({} if route is None else {"client_certificate": route}))
    if default is not None:
        policy["defaults"] = {"client_certificate": default}
    assert reason(policy, facts(signed(KEY))) == expected


def test_certificates_usable_now() -> None:
    """During a rotation either of the two; none that has expired or is not valid yet."""
    old = issue("mutual-old", end=NOW - 1, start=NOW - 99)
    new = issue("mutual-new", start=NOW + 99, end=NOW + 999)
    registered = OURS, NEXT, old.registered(), new.registered()
    policy = one_route(client_certificate="required")
    for certificate, expected in zip(registered, (None, None, MISMATCH, MISMATCH), strict=True):
        assert reason(policy, facts(signed(KEY), shown=certificate.thumbprint), *registered) == expected
    # The JWS may be of the other certificate, as one program may be renewed before the other.
    assert reason(policy, facts(signed(NEXT_KEY), shown=OURS.thumbprint), *registered) is None


def test_order_of_the_steps() -> None:
    """After the registered certificate, before the JWS."""
    policy = one_route(client_certificate="required")
    assert reason(policy, facts("not a JWS")) == MISSING
    expired = issue("mutual-expired", end=NOW - 1, start=NOW - 99)
    assert reason(policy, facts("not a JWS"), expired.registered()) == Reason.CERTIFICATE_EXPIRED


@pytest.mark.parametrize("demand", ["required", HEADER], ids=["connection", "header"])
def test_the_cache_skips_nothing(demand: Any) -> None:
    """A JWS that was verified before still needs the certificate of its connection."""
    made = snapshot(one_route(client_certificate=demand))
    cache: JwsCache = VerifiedCache()
    token = signed(KEY)
    ours = (b"client-cert", TEXT)
    theirs = (b"client-cert", base64.b64encode(b"another"))
    for _ in range(2):
        good = facts(token, ours, shown=OURS.thumbprint) if demand == HEADER else facts(token, shown=OURS.thumbprint)
        assert isinstance(decide(made, good, NOW, cache), Allowed)
        assert len(cache) == 1
        assert reason_of(decide(made, facts(token), NOW, cache)) == MISSING
        bad = facts(token, theirs) if demand == HEADER else facts(token, shown=OTHER.thumbprint)
        assert reason_of(decide(made, bad, NOW, cache)) == MISMATCH


def test_what_the_listener_has_to_ask_for() -> None:
    """A certificate, when any route demands one of the connection."""
    for demand, expected in (("required", True), ("none", False), (HEADER, False)):
        router = snapshot(one_route(client_certificate=demand)).router
        assert router.asks_client_certificate is expected
        assert bool(router.certificate_headers) is (demand is HEADER)


# In a header


FORMS: list[Any] = [
    pytest.param("base64-der", TEXT, id="der"),
    pytest.param("rfc9440", b":" + TEXT + b":", id="rfc9440"),
    pytest.param("url-encoded-pem", quote(material.certificate(KEY), safe="").encode(), id="nginx"),
    pytest.param("url-encoded-pem", quote(material.certificate(KEY), safe="+=/").encode(), id="aws"),
    pytest.param("xfcc", b"Hash=" + OURS.thumbprint.encode(), id="xfcc"),
    pytest.param("xfcc", b'By=a;hash=%s;Subject="O=a,b;c=\\"d"' % OURS.thumbprint.upper().encode(), id="xfcc-whole"),
]


@pytest.mark.parametrize(("form", "value"), FORMS)
def test_forms(form: str, value: bytes) -> None:
    """Each form gives the certificate, and every other one refuses it."""
    assert (
        reason(one_route(client_certificate={**HEADER, "format": form}), facts(signed(KEY), (b"client-cert", value)))
        is None
    )
    other = application("client", OTHER)
    for each in ("base64-der", "rfc9440", "url-encoded-pem", "xfcc"):
        made = snapshot(one_route(client_certificate={**HEADER, "format": each}), OTHER)
        assert made.portal.applications == (other,)
        found = reason_of(decide(made, facts(signed(OTHER_KEY), (b"client-cert", value)), NOW))
        assert found == (MISMATCH if each == form else Reason.REQUEST_UNSAFE)


@pytest.mark.parametrize("form", ["base64-der", "rfc9440", "url-encoded-pem", "xfcc"])
@given(value=st.binary(max_size=200).map(lambda octets: octets.strip()))
def test_property_no_octets_break_it(form: str, value: bytes) -> None:
    """Anything but the certificate is refused, for one of three reasons; nothing raises."""
    request = facts(signed(KEY), (b"client-cert", value))
    found = reason(one_route(client_certificate={**HEADER, "format": form}), request)
    assert found in {MISSING, MISMATCH, Reason.REQUEST_UNSAFE}


def test_large_values_cost_little() -> None:
    """Each form meets a value of a megabyte made to be slow; the suite's own limit on time is the measure."""
    for form in ("base64-der", "rfc9440", "url-encoded-pem", "xfcc"):
        for piece in (b"A", b"A=;", b'A="\\', b"%2D", b"-----BEGIN CERTIFICATE-----A", b":A", b'A="";'):
            request = facts(signed(KEY), (b"client-cert", piece * (1_000_000 // len(piece))))
            found = reason(one_route(client_certificate={**HEADER, "format": form}), request)
            assert found in {MISMATCH, Reason.REQUEST_UNSAFE}
            request = facts(signed(KEY), (b"client-cert", piece * (60_000 // len(piece))))
            assert reason(one_route(client_certificate={**HEADER, "format": form}), request) is not None


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("192.168.7.7", True),
        ("192.168.7.8", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", True),
        ("::a00:1", False),
        ("", False),
        ("localhost", False),
        ("10.0.0.1:80", False),
        ("010.0.0.1", False),
    ],
)
def test_peers(peer: str, expected: bool) -> None:
    """Addresses, also as a listener on [::] sees them."""
    networks = tuple(map(ip_network, ("10.0.0.0/8", "192.168.7.7", "2001:db8::/32", "fe80::/10")))
    assert CertificateHeader("Client-Cert", "rfc9440", networks).trusts(peer) is expected


TWO_BALANCERS = {
    "routes": [
        {"path": "/protected", "client_certificate": HEADER},
        {"path": "/other", "client_certificate": {**HEADER, "from": ["192.168.0.0/16"]}},
        {"path": "/free"},
    ]
}


@pytest.mark.parametrize(
    ("target", "peer", "expected"),
    [
        (b"/protected", "10.0.0.1", None),
        (b"/protected", "192.168.0.1", Reason.REQUEST_UNSAFE),
        (b"/other", "192.168.0.1", None),
        (b"/other", "10.0.0.1", Reason.REQUEST_UNSAFE),
        (b"/free", "10.0.0.1", None),
        (b"/free", "192.168.0.1", None),
        (b"/free", "172.16.0.1", Reason.REQUEST_UNSAFE),
        (b"/nowhere", "172.16.0.1", Reason.ROUTE_UNKNOWN),
    ],
)
def test_two_balancers(target: bytes, peer: str, expected: Reason | None) -> None:
    """Each route believes its own; the others' header may pass where nobody relies on it here."""
    request = facts(signed(KEY), (b"Client-Cert", TEXT), peer=peer)
    moved = RequestFacts(request.method, target, request.headers, request.peer)
    assert reason(TWO_BALANCERS, moved) == expected


TWO_SPELLINGS = {
    "routes": [
        {"path": "/protected", "client_certificate": HEADER},
        {"path": "/other", "client_certificate": {**HEADER, "header": "Client_Cert"}},
    ]
}


def test_two_spellings_of_one_name() -> None:
    """Each is read from its own route's header only."""
    assert reason(TWO_SPELLINGS, facts(signed(KEY), (b"client-cert", TEXT))) is None
    assert reason(TWO_SPELLINGS, facts(signed(KEY), (b"client_cert", TEXT))) == MISSING
    both = facts(signed(KEY), (b"client-cert", TEXT), (b"client_cert", TEXT))
    assert reason(TWO_SPELLINGS, both) == Reason.REQUEST_UNSAFE


@pytest.mark.parametrize("name", [b"Client_Cert", b"client.cert", b"CLIENT_CERT"])
@pytest.mark.parametrize("target", [b"/protected", b"/other", b"/free"])
def test_look_alikes(name: bytes, target: bytes) -> None:
    """Even alone and from a listed balancer, which lets its clients' other headers through."""
    request = facts(signed(KEY), (name, TEXT))
    moved = RequestFacts(request.method, target, request.headers, request.peer)
    assert reason(TWO_BALANCERS, moved) == Reason.REQUEST_UNSAFE


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t "])
def test_white_space_around_a_value(space: bytes) -> None:
    """RFC 9110 section 5.5: no part of the value."""
    policy = one_route(client_certificate=HEADER)
    assert reason(policy, facts(signed(KEY), (b"client-cert", space + TEXT + space))) is None
    assert reason(policy, facts(signed(KEY), (b"client-cert", space))) == MISSING


def test_what_is_compared_is_the_whole_certificate() -> None:
    """Another certificate over the same key is another certificate."""
    again = issue("mutual-again", key=KEY, extensions=[(CA_BASIC, True)], start=NOW - 9, end=NOW + 99).registered()
    assert hashlib.sha256(DER).hexdigest() == OURS.thumbprint != again.thumbprint
    assert reason(one_route(client_certificate="required"), facts(signed(KEY), shown=again.thumbprint)) == MISMATCH


# The policy


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ("optional", "client_certificate", "known words"),
        ("", "client_certificate", "known words"),
        (["required"], "client_certificate", "not a mapping"),
        ({}, "client_certificate.header", "missing"),
        ({**HEADER, "header": "a b"}, "client_certificate.header", "right form"),
        ({**HEADER, "format": "pem"}, "client_certificate.format", "known values"),
        ({**HEADER, "from": []}, "client_certificate.from", "empty"),
        ({**HEADER, "from": "10.0.0.0/8"}, "client_certificate.from", "not a list"),
        ({**HEADER, "from": ["10.0.0.1/8"]}, "client_certificate.from[0]", "beyond its prefix"),
        ({**HEADER, "from": ["::1", "10.0.0.0/33"]}, "client_certificate.from[1]", "not a network"),
        ({**HEADER, "from": ["example.com"]}, "client_certificate.from[0]", "not a network"),
        ({**HEADER, "from": [""]}, "client_certificate.from[0]", "not a network"),
        ({**HEADER, "from": [["10.0.0.0/8"]]}, "client_certificate.from[0]", "not a network"),
        ({**HEADER, "from": ["0.0.0.0/0"]}, "client_certificate.from[0]", "everybody"),
        ({**HEADER, "from": ["::/0"]}, "client_certificate.from[0]", "everybody"),
        ({**HEADER, "networks": ["10.0.0.0/8"]}, "client_certificate.networks", "not a known key"),
    ],
)
@pytest.mark.parametrize("where", ["defaults", "routes[0]"])
def test_problems(where: str, value: Any, path: str, message: str) -> None:
    """Each with its place, and what to do."""
    policy: dict[str, Any] = one_route()
    (policy["routes"][0] if where == "routes[0]" else policy.setdefault("defaults", {}))["client_certificate"] = value
    octets = json.dumps(policy, indent=1).encode()
    found = build_routes(read_document("policy.json", octets), Router(), NoFiles())
    (problem,) = [each for each in found if each.path == f"{where}.{path}"]
    assert message in problem.message
    assert problem.remedy
    assert problem.line > 1
