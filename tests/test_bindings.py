"""Bindings: a JWS made for one request is good for no other."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import material
from feature_material import (
    NOW,
    a_request,
    a_route,
    a_snapshot,
    an_application,
    certificate_for,
    detached,
    good_claims,
    reason_of,
)
from jwsgate.core.bindings import DIGESTS, Bindings, BodyDigest, check_body_digest, check_request_bindings
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, Rejected, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.reasons import Reason, Rejection

KEY = material.private_key("ed25519", "feature-client")
MISSING, MALFORMED, MISMATCH = Reason.CLAIM_MISSING, Reason.CLAIMS_MALFORMED, Reason.BINDING_MISMATCH
BODY = b'{"amount" : 12.50}\r\n\x00\xff'
EMPTY_SHA256 = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
WRONG_TYPES: list[Any] = [
    *(None, True, False, 0, 1, 1.5, [], {}),
    ["POST"],
    {"POST": "POST"},
]


def request_reason(claims: dict[str, Any], bindings: Bindings, request: RequestFacts) -> Reason | None:
    """Why claims do not belong to a request; None when they do."""
    try:
        check_request_bindings(claims, bindings, request)
    except Rejection as rejection:
        return rejection.reason
    return None


def body_reason(claim: object, digest: BodyDigest, body: bytes = BODY) -> Reason | None:
    """Why a claim is not the digest of a body; None when it is."""
    try:
        check_body_digest({digest.claim: claim}, digest, body)
    except Rejection as rejection:
        return rejection.reason
    return None


def spelled(octets: bytes, encoding: str) -> str:
    """Octets as a claim writes them."""
    match encoding:
        case "hex":
            return octets.hex()
        case "base64":
            return base64.b64encode(octets).decode()
        case _:
            return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


# Method, path, URL


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        pytest.param("POST", None, id="same"),
        pytest.param("post", MISMATCH, id="other-case"),
        pytest.param("GET", MISMATCH, id="other"),
        pytest.param("", MISMATCH, id="empty"),
        pytest.param(" POST", MISMATCH, id="space"),
        pytest.param("POST\n", MISMATCH, id="newline"),
        pytest.param("POSTS", MISMATCH, id="longer"),
    ],
)
def test_method(claim: str, expected: Reason | None) -> None:
    """The method is compared exactly."""
    request = RequestFacts("POST", b"/a", ())
    assert request_reason({"htm": claim}, Bindings(method="htm"), request) == expected


@pytest.mark.parametrize(
    ("target", "claim", "expected"),
    [
        pytest.param(b"/a/b", "/a/b", None, id="same"),
        pytest.param(b"/a/b?c=d", "/a/b", None, id="query-is-no-part"),
        pytest.param(b"/a/b?c=d", "/a/b?c=d", MISMATCH, id="query-claimed"),
        pytest.param(b"/a/b?", "/a/b", None, id="empty-query"),
        pytest.param(b"/a/b/", "/a/b", MISMATCH, id="trailing-slash-sent"),
        pytest.param(b"/a/b", "/a/b/", MISMATCH, id="trailing-slash-claimed"),
        pytest.param(b"/a/%62", "/a/b", MISMATCH, id="escaped-sent"),
        pytest.param(b"/a/%62", "/a/%62", None, id="escaped-both"),
        pytest.param(b"/a/%c3%a9", "/a/\u00e9", MISMATCH, id="unescaped-claimed"),
        pytest.param(b"/a/%c3%a9", "/a/%C3%A9", MISMATCH, id="hex-case"),
        pytest.param(b"/A/b", "/a/b", MISMATCH, id="case"),
        pytest.param(b"/a/b", "a/b", MISMATCH, id="no-slash"),
        pytest.param(b"/a/b", "", MISMATCH, id="empty"),
        pytest.param(b"/a/b", "/a", MISMATCH, id="prefix"),
        pytest.param(b"/a/b", "https://api.example/a/b", MISMATCH, id="whole-url"),
    ],
)
def test_path(target: bytes, claim: str, expected: Reason | None) -> None:
    """The path is compared as sent, octet for octet, without the query."""
    assert request_reason({"p": claim}, Bindings(path="p"), RequestFacts("GET", target, ())) == expected


@pytest.mark.parametrize(
    ("target", "claim", "expected"),
    [
        pytest.param(b"/a/b?c=d", "https://api.example:8443/a/b", None, id="same"),
        pytest.param(b"/", "https://api.example:8443/", None, id="root"),
        pytest.param(b"/a/b", "http://api.example:8443/a/b", MISMATCH, id="scheme"),
        pytest.param(b"/a/b", "HTTPS://api.example:8443/a/b", MISMATCH, id="scheme-case"),
        pytest.param(b"/a/b", "https://api.example/a/b", MISMATCH, id="port"),
        pytest.param(b"/a/b", "https://evil.example:8443/a/b", MISMATCH, id="host"),
        pytest.param(b"/a/b", "https://api.example:8443/a/b?c=d", MISMATCH, id="query"),
        pytest.param(b"/a/b", "https://api.example:8443/a/b#f", MISMATCH, id="fragment"),
        pytest.param(b"/a/b", "/a/b", MISMATCH, id="path-alone"),
        pytest.param(b"/", "https://api.example:8443", MISMATCH, id="no-path"),
    ],
)
def test_url(target: bytes, claim: str, expected: Reason | None) -> None:
    """The URL is the policy's base and the path; never the Host header, which the client chooses."""
    request = RequestFacts("GET", target, ((b"Host", b"evil.example:8443"),))
    bindings = Bindings(url="htu", base_url="https://api.example:8443")
    assert request_reason({"htu": claim}, bindings, request) == expected


@pytest.mark.parametrize("claim", ["htm", "p", "htu", "digest"])
def test_missing_claims(claim: str) -> None:
    """A bound claim that is absent is `claim_missing`, whichever it is; the body's is asked for at once."""
    bindings = Bindings("htm", "p", "htu", "https://api.example", BodyDigest("digest"))
    claims = {"htm": "POST", "p": "/a", "htu": "https://api.example/a", "digest": EMPTY_SHA256}
    request = RequestFacts("POST", b"/a?q", ())
    assert request_reason(claims, bindings, request) is None
    del claims[claim]
    assert request_reason(claims, bindings, request) == MISSING


@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
@pytest.mark.parametrize("claim", ["htm", "p", "htu", "digest"])
def test_wrong_types(claim: str, value: object) -> None:
    """A claim that is no string is malformed, not converted to one."""
    bindings = Bindings("htm", "p", "htu", "https://api.example", BodyDigest("digest"))
    claims: dict[str, Any] = {"htm": "POST", "p": "/a", "htu": "https://api.example/a", "digest": EMPTY_SHA256}
    assert request_reason({**claims, claim: value}, bindings, RequestFacts("POST", b"/a", ())) == MALFORMED


def test_nothing_bound() -> None:
    """Without names nothing is asked, whatever the claims hold."""
    assert request_reason({"htm": "GET"}, Bindings(), RequestFacts("POST", b"/a", ())) is None


def test_one_claim_for_two_parts() -> None:
    """Two parts bound to one claim must both fit, which no request can do for method and path."""
    bindings = Bindings(method="x", path="x")
    assert request_reason({"x": "POST"}, bindings, RequestFacts("POST", b"/a", ())) == MISMATCH
    assert request_reason({"x": "/a"}, bindings, RequestFacts("POST", b"/a", ())) == MISMATCH


@given(
    st.sampled_from(["GET", "PUT"]), st.sampled_from(["/a", "/b", "/a/"]), st.sampled_from(["GET", "PUT"]),
    st.sampled_from(["/a", "/b", "/a/"]),
)  # fmt: skip
def test_good_for_one_request_only(method: str, path: str, sent_method: str, sent_path: str) -> None:
    """Method and path together: accepted exactly when both are those of the request."""
    request = RequestFacts(sent_method, sent_path.encode() + b"?q=1", ())
    found = request_reason({"m": method, "p": path}, Bindings(method="m", path="p"), request)
    assert (found is None) == ((method, path) == (sent_method, sent_path))


# The digest of the body


def test_the_digests() -> None:
    """Exactly these; a weaker one cannot be configured."""
    assert set(DIGESTS) == {"sha-256", "sha-384", "sha-512"}


@pytest.mark.parametrize("encoding", ["base64url", "base64", "hex"])
@pytest.mark.parametrize(
    ("algorithm", "function"),
    [("sha-256", hashlib.sha256), ("sha-384", hashlib.sha384), ("sha-512", hashlib.sha512)],
    ids=["sha-256", "sha-384", "sha-512"],
)
@pytest.mark.parametrize("body", [BODY, b"", b"x" * 70_000], ids=["octets", "empty", "large"])
def test_digest(algorithm: str, function: Any, encoding: Any, body: bytes) -> None:
    """Each digest in each encoding; another body, another digest, or another encoding does not do."""
    digest = BodyDigest("d", algorithm, encoding)
    good = spelled(function(body).digest(), encoding)
    assert body_reason(good, digest, body) is None
    assert body_reason(good, digest, body + b"\n") == MISMATCH
    assert body_reason(good, digest, body[:-1] or b"{}") == MISMATCH
    for other in {"sha-256", "sha-384", "sha-512"} - {algorithm}:
        assert body_reason(good, BodyDigest("d", other, encoding), body) == MISMATCH


def test_known_digest_of_nothing() -> None:
    """The SHA-256 of no octets, from the literature and not from our own code."""
    assert body_reason(EMPTY_SHA256, BodyDigest("d"), b"") is None
    assert body_reason("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", HEX, b"") is None


HEX = BodyDigest("d", "sha-256", "hex")
GOOD_HEX = hashlib.sha256(BODY).hexdigest()
URL = BodyDigest("d")
GOOD_URL = spelled(hashlib.sha256(BODY).digest(), "base64url")
STANDARD = BodyDigest("d", "sha-256", "base64")
GOOD_STANDARD = spelled(hashlib.sha256(BODY).digest(), "base64")


def with_bits_over(text: str) -> str:
    """The same octets by a lenient decoder: another last character before the padding."""
    body, padding = text.rstrip("="), "=" * text.count("=")
    alphabet = material.BASE64URL.replace("-_", "+/") if padding else material.BASE64URL
    other = body[:-1] + alphabet[alphabet.index(body[-1]) + 1]
    filled = other.replace("-", "+").replace("_", "/")
    assert base64.b64decode(filled + "=" * (-len(filled) % 4)) == hashlib.sha256(BODY).digest()
    return other + padding


@pytest.mark.parametrize(
    ("digest", "claim", "expected"),
    [
        pytest.param(HEX, GOOD_HEX.upper(), None, id="hex-upper"),
        pytest.param(HEX, GOOD_HEX.upper()[:32] + GOOD_HEX[32:], MALFORMED, id="hex-mixed"),
        pytest.param(HEX, GOOD_HEX[:-1], MALFORMED, id="hex-odd"),
        pytest.param(HEX, GOOD_HEX[:-2], MISMATCH, id="hex-short"),
        pytest.param(HEX, GOOD_HEX + "00", MISMATCH, id="hex-long"),
        pytest.param(HEX, "0x" + GOOD_HEX, MALFORMED, id="hex-0x"),
        pytest.param(HEX, " " + GOOD_HEX, MALFORMED, id="hex-space"),
        pytest.param(HEX, GOOD_HEX + "\n", MALFORMED, id="hex-newline"),
        pytest.param(HEX, ":".join(GOOD_HEX[i : i + 2] for i in range(0, 64, 2)), MALFORMED, id="hex-colons"),
        pytest.param(HEX, GOOD_HEX.replace(GOOD_HEX[0], "\uff11", 1), MALFORMED, id="hex-wide-digit"),
        pytest.param(HEX, "", MISMATCH, id="hex-empty"),
        pytest.param(HEX, GOOD_URL, MALFORMED, id="hex-is-base64url"),
        pytest.param(URL, GOOD_URL + "=", MALFORMED, id="url-padded"),
        pytest.param(URL, GOOD_URL + "==", MALFORMED, id="url-padded-twice"),
        pytest.param(URL, GOOD_URL[:-1], MALFORMED, id="url-short"),
        pytest.param(URL, GOOD_URL + "A", MISMATCH, id="url-one-octet-more"),
        pytest.param(URL, GOOD_URL + "AA", MALFORMED, id="url-bad-length"),
        pytest.param(URL, with_bits_over(GOOD_URL), MALFORMED, id="url-bits-over"),
        pytest.param(URL, GOOD_URL[:5] + "\n" + GOOD_URL[5:], MALFORMED, id="url-newline"),
        pytest.param(URL, GOOD_URL[:5] + "." + GOOD_URL[5:], MALFORMED, id="url-dot"),
        pytest.param(URL, "\u00e9" + GOOD_URL[1:], MALFORMED, id="url-not-ascii"),
        pytest.param(URL, "", MISMATCH, id="url-empty"),
        pytest.param(URL, "sha-256=:" + GOOD_STANDARD + ":", MALFORMED, id="url-as-content-digest"),
        pytest.param(STANDARD, GOOD_STANDARD.rstrip("="), MALFORMED, id="standard-unpadded"),
        pytest.param(STANDARD, GOOD_STANDARD + "=", MALFORMED, id="standard-padded-more"),
        pytest.param(STANDARD, with_bits_over(GOOD_STANDARD), MALFORMED, id="standard-bits-over"),
        pytest.param(STANDARD, GOOD_STANDARD + "\r\n", MALFORMED, id="standard-newline"),
        pytest.param(STANDARD, " " + GOOD_STANDARD, MALFORMED, id="standard-space"),
        pytest.param(STANDARD, GOOD_STANDARD + GOOD_STANDARD, MALFORMED, id="standard-twice"),
        pytest.param(STANDARD, "", MISMATCH, id="standard-empty"),
        pytest.param(STANDARD, GOOD_HEX, MISMATCH, id="standard-is-hex"),
    ],
)
def test_spelling_of_the_digest(digest: BodyDigest, claim: str, expected: Reason | None) -> None:
    """Only the one canonical spelling counts; what a lenient decoder would take is malformed."""
    assert body_reason(claim, digest) == expected


@pytest.mark.parametrize(
    "octets",
    [octets for octets in (hashlib.sha256(bytes([n])).digest() for n in range(256))
     if {"+", "/"} <= set(spelled(octets, "base64"))][:1],
    ids=["both"],
)  # fmt: skip
def test_alphabets_are_not_mixed(octets: bytes) -> None:
    """`+/` for `-_` and the other way round is not the same claim."""
    body = next(bytes([n]) for n in range(256) if hashlib.sha256(bytes([n])).digest() == octets)
    standard, url = spelled(octets, "base64"), spelled(octets, "base64url")
    assert body_reason(standard, STANDARD, body) is None
    assert body_reason(url, URL, body) is None
    assert body_reason(standard.rstrip("="), URL, body) == MALFORMED
    assert body_reason(url + "=", STANDARD, body) == MALFORMED
    assert body_reason(url.replace("-", "+"), URL, body) == MALFORMED


@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
def test_digest_of_wrong_type(value: object) -> None:
    """A digest that is no string is malformed."""
    assert body_reason(value, URL) == MALFORMED


@given(st.text(max_size=70), st.sampled_from([HEX, URL, STANDARD]))
def test_any_text_is_a_rejection(text: str, digest: BodyDigest) -> None:
    """Whatever text a client signs as digest, nothing but a `Rejection` comes of it."""
    assert body_reason(text, digest) in {MALFORMED, MISMATCH}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_digest_of_that_body_only(body: bytes, other: bytes) -> None:
    """The digest of one body is accepted for that body alone."""
    claim = spelled(hashlib.sha256(body).digest(), "base64url")
    assert (body_reason(claim, URL, other) is None) == (body == other)


# In a decision


def bound_snapshot(**bindings: Any) -> Snapshot:
    """A snapshot whose one route has these bindings."""
    return a_snapshot([an_application(certificate_for(KEY))], a_route(bindings=Bindings(**bindings)))


def after_body(decision: Decision, body: bytes) -> Allowed | Rejected:
    """The decision once the body is there."""
    assert isinstance(decision, AwaitsBody), decision
    return decide_body(decision, body)


def test_body_binding_waits_for_the_body() -> None:
    """With a digest to compare, nothing is allowed before the whole body is there."""
    snapshot = bound_snapshot(body=URL)
    token = material.jws(KEY, good_claims(d=GOOD_URL))
    decision = decide(snapshot, a_request(token, method="POST"), NOW)
    assert reason_of(decision) == "awaits body"
    allowed = after_body(decision, BODY)
    assert isinstance(allowed, Allowed)
    assert (allowed.claims["d"], allowed.alg) == (GOOD_URL, "EdDSA")
    assert reason_of(after_body(decision, BODY + b" ")) == MISMATCH
    assert reason_of(after_body(decision, b"")) == MISMATCH


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param({}, MISSING, id="missing"),
        pytest.param({"d": 5}, MALFORMED, id="number"),
        pytest.param({"d": None}, MALFORMED, id="null"),
        pytest.param({"d": GOOD_URL, "exp": NOW}, Reason.JWS_EXPIRED, id="expired"),
    ],
)
def test_body_binding_refuses_early(claims: dict[str, Any], expected: Reason) -> None:
    """What can be known without the body is not put off until it has come."""
    token = material.jws(KEY, good_claims(**claims))
    assert reason_of(decide(bound_snapshot(body=URL), a_request(token), NOW)) == expected


def test_rejection_of_a_body_names_route_and_client() -> None:
    """The record of a refused body has what was established from the headers."""
    token = material.jws(KEY, good_claims(d=GOOD_URL))
    decision = decide(bound_snapshot(body=URL), a_request(token), NOW)
    rejected = after_body(decision, b"other")
    assert isinstance(decision, AwaitsBody)
    assert isinstance(rejected, Rejected)
    assert (rejected.route, rejected.client_id) == (decision.route, decision.client_id)


def test_all_parts_together() -> None:
    """Method, path, URL and body at once; one wrong part is enough to refuse."""
    snapshot = bound_snapshot(method="htm", path="p", url="htu", base_url="https://api.example", body=URL)
    good = {"htm": "PUT", "p": "/a", "htu": "https://api.example/a", "d": GOOD_URL}
    for name in (None, "htm", "p", "htu"):
        claims = good_claims(**{**good, **({name: "other"} if name else {})})
        decision = decide(snapshot, a_request(material.jws(KEY, claims), method="PUT", target=b"/a?x"), NOW)
        assert reason_of(decision) == ("awaits body" if name is None else MISMATCH)


@pytest.mark.parametrize("unencoded", [False, True], ids=["encoded", "b64-false"])
def test_detached_jws_signs_the_body(unencoded: bool) -> None:
    """A detached JWS is good with the body that it signs, and with no other."""
    route = a_route(detached=True, unencoded=unencoded)
    snapshot = a_snapshot([an_application(certificate_for(KEY))], route)
    for body in (BODY, b"", b"a.b", b"..", b"\xff" * 1000):
        decision = decide(snapshot, a_request(detached(KEY, body, unencoded=unencoded), method="POST"), NOW)
        allowed = after_body(decision, body)
        assert isinstance(allowed, Allowed)
        assert (allowed.payload, dict(allowed.claims), allowed.alg) == (body, {}, "EdDSA")
        for other in (body + b"\n", b"." + body, body[:-1] if body else b"x"):
            assert reason_of(after_body(decision, other)) == Reason.SIGNATURE_MISMATCH


def test_unencoded_only_where_the_policy_says_so() -> None:
    """`b64: false` is refused on a detached route that does not name it, and plain detached works on one that does."""
    application = an_application(certificate_for(KEY))
    plain = a_snapshot([application], a_route(detached=True))
    both = a_snapshot([application], a_route(detached=True, unencoded=True))
    request = a_request(detached(KEY, BODY, unencoded=True))
    assert reason_of(decide(plain, request, NOW)) == Reason.HEADER_PARAMETER_UNSUPPORTED
    assert reason_of(after_body(decide(both, a_request(detached(KEY, BODY)), NOW), BODY)) == "allowed"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"b64": False}, id="b64-without-crit"),
        pytest.param({"b64": True, "crit": ["b64"]}, id="b64-true"),
        pytest.param({"b64": 0, "crit": ["b64"]}, id="b64-zero"),
        pytest.param({"b64": "false", "crit": ["b64"]}, id="b64-text"),
        pytest.param({"b64": False, "crit": ["b64", "exp"]}, id="crit-names-more"),
        pytest.param({"b64": False, "crit": ["b64", "b64"]}, id="crit-twice"),
        pytest.param({"b64": False, "crit": []}, id="crit-empty"),
        pytest.param({"b64": False, "crit": "b64"}, id="crit-text"),
        pytest.param({"crit": ["b64"]}, id="crit-without-b64"),
        pytest.param({"b64": False, "crit": ["b64"], "zip": "DEF"}, id="zip-beside"),
    ],
)
def test_only_the_one_form_of_b64(header: dict[str, Any]) -> None:
    """RFC 7797 section 6: `b64` false, named by `crit` alone; anything else is refused."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(detached=True, unencoded=True))
    for unencoded in (False, True):
        token = detached(KEY, BODY, unencoded=unencoded, header={"b64": None, "crit": None, **header})
        first, _, last = token.split(".")
        members = {"alg": "EdDSA", **header}
        first = material.b64url(material.compact_json(members))
        request = a_request(f"{first}..{last}")
        assert reason_of(decide(snapshot, request, NOW)) == Reason.HEADER_PARAMETER_UNSUPPORTED


def test_attached_jws_on_a_detached_route() -> None:
    """A JWS with its payload in it is refused where the policy asks for a detached one, and the other way round."""
    application = an_application(certificate_for(KEY))
    attached = material.jws(KEY, good_claims())
    on_detached = decide(a_snapshot([application], a_route(detached=True)), a_request(attached), NOW)
    on_attached = decide(a_snapshot([application]), a_request(detached(KEY, BODY)), NOW)
    assert reason_of(on_detached) == Reason.JWS_MALFORMED
    assert isinstance(on_attached, Rejected)
    assert on_attached.reason in {Reason.JWS_MALFORMED, Reason.SIGNATURE_MISMATCH}


def test_detached_jws_with_any_certificate_of_a_rotation() -> None:
    """Both keys of a rotation can sign a body; the record names the one that did."""
    old, new = certificate_for(KEY), certificate_for(material.private_key("p256", "feature-new"), "new")
    snapshot = a_snapshot([an_application(old, new)], a_route(detached=True))
    for each in (old, new):
        allowed = after_body(decide(snapshot, a_request(detached(each.key, BODY)), NOW), BODY)
        assert isinstance(allowed, Allowed)
        assert allowed.certificate == each.registered()


def test_detached_jws_honours_algorithms() -> None:
    """The algorithms of route and application bind a detached JWS too, told once the body is there."""
    key = material.private_key("rsa", "feature-rsa")
    application = an_application(certificate_for(key), algorithms={"PS256"})
    snapshot = a_snapshot([application], a_route(detached=True, algorithms=frozenset({"RS256", "PS256"})))
    decision = decide(snapshot, a_request(detached(key, BODY)), NOW)
    assert reason_of(after_body(decision, BODY)) == Reason.ALGORITHM_NOT_ALLOWED
