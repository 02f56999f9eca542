"""The main job, as a user who believes nothing would try it: each test runs at both doors.

"Nothing reached the upstream" always means: no connection and no octet, not merely no request.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import material
from e2e import gates
from e2e.answers import TRANSACTION_ID, assert_rejected, body_of
from e2e.estate import (
    ALL_DIGITS,
    DISABLED,
    ED25519,
    EMPTY_CERTIFICATE,
    EXPIRED_CERTIFICATE,
    FUTURE_CERTIFICATE,
    KEYS,
    NO_CERTIFICATE,
    P256,
    P384,
    P521,
    PENDING,
    RSA,
    TWO_CREDENTIALS,
    credentials,
    write_files,
)
from e2e.gates import Door, Gate
from e2e.http_client import (
    Connection,
    H2Request,
    Header,
    NoResponse,
    Response,
    exchange,
    h2_exchange,
    h2_exchanges,
    request_octets,
)
from e2e.upstream import BODY, Answer, RecordingUpstream
from material import Application

pytestmark = pytest.mark.e2e

SIGN = "/tvo/sandbox/signvalidate/sign"
VALIDATE = "/tvo/sandbox/signvalidate/validate"
ANY = "/orders/7?full=yes"
COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def signed_by(key: material.PrivateKey | bytes, client_id: str = RSA, **options: Any) -> list[Header]:
    """The two headers of a request whose JWS is signed with any key."""
    return credentials(client_id, material.jws(key, **options))


def sign(gate: Gate, posted: bytes) -> str:
    """Have the gate's sign route make a JWS."""
    headers: list[Header] = [("X-IBM-Client-Id", RSA), ("Content-Type", "application/json")]
    response = exchange(gate.port, "POST", SIGN, headers, posted)
    assert response.status == 200, response
    (token,) = COMPACT.findall(response.body)
    return str(token, "ascii")


def assert_still_good(gate: Gate, upstream: RecordingUpstream) -> None:
    """A good request passes: the gate has neither died nor locked up, and the upstream is there."""
    upstream.clear()
    response = exchange(gate.port, "GET", ANY, credentials())
    assert (response.status, response.body) == (200, BODY)
    upstream.only_request()


# Sign and validate


def test_signed_token_validates(gate: Gate, upstream: RecordingUpstream) -> None:
    """The demo of 2018: sign makes the claims in their order, validate answers them octet for octet."""
    before = int(time.time())
    token = sign(gate, b'{"t":"t"}')
    header, payload, _ = token.split(".")
    assert header == material.b64url(b'{"alg":"RS256"}')
    signed = material.unb64url(payload)
    claims = json.loads(signed)
    assert list(claims) == ["iss", "aud", "exp", "iat", "t"]
    assert before <= claims["iat"] <= int(time.time())
    expected = {
        "iss": "tvo",
        "aud": "the world",
        "exp": claims["iat"] + 3600,
        "iat": claims["iat"],
        "t": "t",
    }
    assert signed == material.compact_json(expected)

    response = exchange(gate.port, "GET", VALIDATE, credentials(RSA, token))
    assert (response.status, response.body) == (200, signed)
    assert response.value("content-type") == "application/json"
    assert TRANSACTION_ID.fullmatch(response.value("X-Global-Transaction-ID"))
    upstream.assert_untouched()


def test_posted_claims_cannot_override(gate: Gate) -> None:
    """Posted iss, aud, exp and iat are dropped; the other posted members keep their order and their values."""
    now = int(time.time())
    posted = {"z": [1, {"b": None}], "exp": now + 10**6, "iat": 1, "iss": "evil", "aud": "evil", "a": "\u00e9"}
    payload = material.unb64url(sign(gate, json.dumps(posted).encode()).split(".")[1])
    claims = json.loads(payload)
    assert list(claims) == ["iss", "aud", "exp", "iat", "z", "a"]
    assert claims["iss"] == "tvo"
    assert claims["aud"] == "the world"
    assert claims["iat"] >= now
    assert claims["exp"] == claims["iat"] + 3600
    assert (claims["z"], claims["a"]) == (posted["z"], posted["a"])


@pytest.mark.parametrize("posted", [b"[]", b"{", b'"text"', b'{"a":1,"a":2}', b"\xff"])
def test_sign_refuses_what_is_no_object(gate: Gate, upstream: RecordingUpstream, posted: bytes) -> None:
    """Sign answers 400 to a body that is not one JSON object."""
    response = exchange(gate.port, "POST", SIGN, [("X-IBM-Client-Id", RSA)], posted)
    assert_rejected(response, "body_malformed")
    upstream.assert_untouched()


def test_sign_needs_a_known_client(gate: Gate, upstream: RecordingUpstream) -> None:
    """Sign makes nothing for a client ID that the portal doesn't know, or one without a certificate."""
    assert_rejected(exchange(gate.port, "POST", SIGN, [], b"{}"), "client_id_missing")
    assert_rejected(exchange(gate.port, "POST", SIGN, [("X-IBM-Client-Id", "no")], b"{}"), "client_id_unknown")
    response = exchange(gate.port, "POST", SIGN, [("X-IBM-Client-Id", NO_CERTIFICATE)], b"{}")
    assert_rejected(response, "certificate_missing")
    upstream.assert_untouched()


def test_validate_answers_the_signed_octets(gate: Gate, upstream: RecordingUpstream) -> None:
    """White space, escapes and member order of the payload come back as they were signed."""
    exp = int(time.time()) + 60
    payload = f' {{ "iss" : "tvo" ,\r\n\t"exp":{exp}.5, "\\u0061ud":"the\\/world",\n"1":[ ],"é":1e2 }}\n'.encode()
    response = exchange(gate.port, "GET", VALIDATE, signed_by(KEYS[RSA], payload=payload))
    assert (response.status, response.body) == (200, payload)
    upstream.assert_untouched()


def test_no_certificate_body_is_exact(gate: Gate, upstream: RecordingUpstream) -> None:
    """An application without a certificate gets the very body of the original, with a JWS or without."""
    expected = (
        b'{ "httpCode":"500", "httpMessage":"Internal Error", '
        b'"moreInformation":"application doesn\'t have a client cert registered" }'
    )
    for headers in ([("X-IBM-Client-Id", NO_CERTIFICATE)], signed_by(KEYS[RSA], NO_CERTIFICATE)):
        for path in (VALIDATE, ANY):
            response = exchange(gate.port, "GET", path, headers)
            assert (response.status, response.body) == (500, expected)
            assert response.value("content-type") == "application/json"
    upstream.assert_untouched()


# What passes


FORWARDED = [
    pytest.param("GET", b"/", b"", id="root"),
    pytest.param("GET", b"/a/b%20c;p=1/~x,y?q=%2F%2F..&q=/../&jwt=x&client_id=y", b"", id="odd-query"),
    pytest.param("GET", VALIDATE.encode() + b"/more", b"", id="beyond-validate"),
    pytest.param("POST", VALIDATE.encode(), b"body", id="other-method"),
    pytest.param("GET", SIGN.encode(), b"", id="get-sign"),
    pytest.param("POST", b"/octets?", bytes(range(256)), id="all-octets"),
    pytest.param("PUT", b"/a+b%20c/%E2%82%AC", b"\r\n\r\nGET /x HTTP/1.1\r\n\r\n", id="request-in-body"),
    pytest.param("PATCH", b"/x", b'{"a" : 1 }\n', id="patch"),
    pytest.param("DELETE", b"/x/", b"", id="delete"),
    pytest.param("OPTIONS", b"/x", b"", id="options"),
    pytest.param("PROPFIND", b"/x", b"<a/>", id="unusual-method"),
    pytest.param("HEAD", b"/x", b"", id="head"),
]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize(("method", "target", "body"), FORWARDED)
def test_good_requests_pass_unchanged(
    gate: Gate, upstream: RecordingUpstream, method: str, target: bytes, body: bytes, tls: bool
) -> None:
    """With a good JWS the request arrives octet for octet but for the host and what the gate adds."""
    headers: list[Header] = [
        *credentials(),
        ("Accept", "text/plain"),
        ("X-ODD-Case", "  inner  spaces  ".strip()),
        ("accept", "application/json;q=0.5"),
        ("X-Latin", b"caf\xe9"),
        ("Cookie", "a=b; c=d"),
    ]
    response = exchange(gate.port, method, target, headers, body, tls=tls)
    assert response.status == 200, response
    assert response.body == (b"" if method == "HEAD" else BODY)

    request = upstream.only_request()
    assert (request.method, request.target, request.body) == (method, target, body)
    sent = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    names = {name.lower() for name, _ in sent}
    assert [each for each in request.headers if each[0].lower() in names] == sent
    added = [name.lower() for name, _ in request.headers if name.lower() not in names]
    assert sorted(added) == sorted([b"host", b"x-global-transaction-id", *([b"content-length"] if body else [])])


def test_chunked_body_passes(gate: Gate, upstream: RecordingUpstream) -> None:
    """A chunked body arrives whole."""
    headers: list[Header] = [*credentials(), ("Transfer-Encoding", "chunked")]
    octets = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
    assert exchange(gate.port, "POST", ANY, headers, octets).status == 200
    assert upstream.only_request().body == b"abcdefg"


def test_large_body_passes(gate: Gate, upstream: RecordingUpstream) -> None:
    """Two megabytes with a good JWS arrive unchanged."""
    body = os.urandom(1 << 21)
    assert exchange(gate.port, "POST", ANY, credentials(), body).status == 200
    assert upstream.only_request().body == body


@pytest.mark.parametrize(
    ("client_id", "algorithm"),
    [
        (RSA, "RS256"),
        (RSA, "RS384"),
        (RSA, "RS512"),
        (RSA, "PS256"),
        (RSA, "PS384"),
        (RSA, "PS512"),
        (P256, "ES256"),
        (P384, "ES384"),
        (P521, "ES512"),
        (ED25519, "EdDSA"),
        (ALL_DIGITS, "ES256"),
        (TWO_CREDENTIALS[0], "EdDSA"),
        (TWO_CREDENTIALS[1], "EdDSA"),
    ],
)
def test_each_application_passes(gate: Gate, upstream: RecordingUpstream, client_id: str, algorithm: str) -> None:
    """Each kind of key, an all-digit client ID, and either of two credentials get a good JWS through."""
    headers = signed_by(KEYS[client_id], client_id, algorithm=algorithm)
    assert exchange(gate.port, "GET", ANY, headers).status == 200
    upstream.only_request()


@pytest.mark.parametrize("names", [("x-ibm-client-id", "JWT"), ("X-IBM-CLIENT-ID", "Jwt"), ("X-Ibm-Client-Id", "jWT")])
def test_header_names_ignore_case(gate: Gate, upstream: RecordingUpstream, names: tuple[str, str]) -> None:
    """Header names are what HTTP says they are: without case."""
    (_, client_id), (_, token) = credentials()
    assert exchange(gate.port, "GET", ANY, [(names[0], client_id), (names[1], token)]).status == 200
    upstream.only_request()


def test_same_token_passes_again(gate: Gate, upstream: RecordingUpstream) -> None:
    """One JWS serves any number of requests on any path: no replay rule stands in the policy."""
    headers = credentials()
    for target in (ANY, ANY, "/other", VALIDATE):
        assert exchange(gate.port, "GET", target, headers).status == 200
    assert len(upstream.requests) == 3


# What does not pass


def reject(
    gate: Gate,
    upstream: RecordingUpstream,
    headers: list[Header],
    *reasons: str,
    target: str | bytes = ANY,
    method: str = "GET",
    body: bytes = b"",
) -> Response:
    """Expect one of the reasons, with nothing upstream, on a forwarding and on an answering route."""
    response = exchange(gate.port, method, target, headers, body)
    assert_rejected(response, *reasons)
    upstream.assert_untouched()
    return response


CLIENT_IDS: list[Any] = [
    pytest.param("client_id_missing", [], id="missing"),
    pytest.param("client_id_missing", [("X-IBM-Client-Id", "")], id="empty"),
    pytest.param("client_id_missing", [("Client-Id", RSA)], id="other-name"),
    pytest.param("client_id_repeated", [("X-IBM-Client-Id", RSA)] * 2, id="repeated"),
    pytest.param("client_id_repeated", [("X-IBM-Client-Id", RSA), ("x-ibm-client-id", P256)], id="repeated-other"),
    pytest.param("client_id_unknown", [("X-IBM-Client-Id", f"{RSA}, {RSA}")], id="joined"),
    pytest.param("client_id_unknown", [("X-IBM-Client-Id", "nobody")], id="unknown"),
    pytest.param("client_id_unknown", [("X-IBM-Client-Id", RSA.upper())], id="upper-case"),
    pytest.param("client_id_unknown", [("X-IBM-Client-Id", "123456")], id="digits-without-zero"),
    pytest.param("client_id_unknown", [("X-IBM-Client-Id", "42798")], id="digits-read-as-octal"),
    pytest.param("client_id_unknown", [("X-IBM-Client-Id", b"\xe9\xff")], id="not-utf-8"),
    pytest.param("application_disabled", [("X-IBM-Client-Id", DISABLED)], id="disabled"),
    pytest.param("application_disabled", [("X-IBM-Client-Id", PENDING)], id="pending"),
    pytest.param("request_unsafe", [("X_IBM_Client_Id", RSA)], id="underscores"),
    pytest.param("request_unsafe", [("X-IBM-Client-Id", RSA), ("X_IBM_Client_Id", P256)], id="underscores-too"),
    pytest.param("request_unsafe", [("X-IBM-Client-Id", RSA), ("X-IBM-Client_Id", RSA)], id="half-and-half"),
]


@pytest.mark.parametrize(("reason", "headers"), CLIENT_IDS)
def test_client_id_rejected(gate: Gate, upstream: RecordingUpstream, reason: str, headers: list[Header]) -> None:
    """Without exactly one known, enabled client ID nothing passes, however good the JWS."""
    client_id = str(headers[-1][1]) if headers else RSA
    token = material.jws(KEYS.get(client_id, KEYS[RSA]))
    reject(gate, upstream, [*headers, ("jwt", token)], reason)
    reject(gate, upstream, [*headers, ("jwt", token)], reason, target=VALIDATE)


@pytest.mark.parametrize(
    ("client_id", "reason"),
    [
        (NO_CERTIFICATE, "certificate_missing"),
        (EMPTY_CERTIFICATE, "certificate_missing"),
        (EXPIRED_CERTIFICATE, "certificate_expired"),
        (FUTURE_CERTIFICATE, "certificate_not_yet_valid"),
    ],
)
def test_certificate_rejected(gate: Gate, upstream: RecordingUpstream, client_id: str, reason: str) -> None:
    """Without a certificate that is usable now nothing passes, though the key be the right one."""
    reject(gate, upstream, signed_by(KEYS.get(client_id, KEYS[RSA]), client_id), reason)


def good() -> str:
    """A good JWS of the RSA application."""
    return material.jws(KEYS[RSA])


TOKENS: list[Any] = [
    pytest.param("jws_missing", lambda: [], id="missing"),
    pytest.param("jws_missing", lambda: [("jwt", "")], id="empty"),
    pytest.param("jws_missing", lambda: [("Authorization", f"Bearer {good()}")], id="in-authorization"),
    pytest.param("jws_repeated", lambda: [("jwt", good())] * 2, id="twice-the-same"),
    pytest.param("jws_repeated", lambda: [("jwt", good()), ("JWT", "x")], id="good-then-bad"),
    pytest.param("jws_repeated", lambda: [("jwt", "x"), ("jwt", good())], id="bad-then-good"),
    pytest.param("jws_repeated", lambda: [("jwt", good()), ("jwt", "")], id="good-then-empty"),
    pytest.param("jws_malformed", lambda: [("jwt", f"{good()}, {good()}")], id="joined"),
    pytest.param("jws_malformed", lambda: [("jwt", f"{good()},x")], id="joined-with-bad"),
    pytest.param("jws_malformed", lambda: [("jwt", f"Bearer {good()}")], id="bearer"),
    pytest.param("jws_malformed", lambda: [("jwt", f'"{good()}"')], id="quoted"),
    pytest.param("jws_malformed", lambda: [("jwt", good() + "=")], id="padded"),
    pytest.param("jws_malformed", lambda: [("jwt", good() + ".")], id="four-segments"),
    pytest.param("jws_malformed", lambda: [("jwt", good() + ".x.y")], id="five-segments"),
    pytest.param("jws_malformed", lambda: [("jwt", good().rpartition(".")[0])], id="two-segments"),
    pytest.param("jws_malformed", lambda: [("jwt", good().replace(".", ". "))], id="inner-spaces"),
    pytest.param("jws_malformed", lambda: [("jwt", b"\xe9" + good().encode())], id="latin-1"),
    pytest.param("jws_malformed", lambda: [("jwt", "..")], id="dots"),
    pytest.param(
        "jws_malformed",
        lambda: [("jwt", '{"payload":"e30","signatures":[]}')],
        id="json-serialization",
    ),
    pytest.param(
        "jws_too_large",
        lambda: signed_by(KEYS[RSA], claims=material.default_claims(pad="x" * 12300))[1:],
        id="oversize",
    ),
]


@pytest.mark.parametrize(("reason", "headers"), TOKENS)
def test_jws_spelling_rejected(
    gate: Gate, upstream: RecordingUpstream, reason: str, headers: Callable[[], list[Header]]
) -> None:
    """Exactly one compact JWS in its one spelling, or nothing passes."""
    reject(gate, upstream, [("X-IBM-Client-Id", RSA), *headers()], reason)
    reject(gate, upstream, [("X-IBM-Client-Id", RSA), *headers()], reason, target=VALIDATE)


def test_largest_token_passes(gate: Gate, upstream: RecordingUpstream) -> None:
    """The cap on the JWS cuts where it says: 16384 octets pass and one more does not."""
    found = {}
    # The length grows by 4/3 of an octet for each octet of padding: not every length can be had.
    for size in range(12100, 12250):
        token = material.jws(KEYS[ED25519], material.default_claims(pad="x" * size))
        found[len(token)] = token
    short = max(length for length in found if length <= 16384)
    long = min(length for length in found if length > 16384)
    assert long - short <= 2
    assert exchange(gate.port, "GET", ANY, credentials(ED25519, found[short])).status == 200
    upstream.only_request()
    upstream.clear()
    reject(gate, upstream, credentials(ED25519, found[long]), "jws_too_large")


def test_altered_tokens_rejected(gate: Gate, upstream: RecordingUpstream) -> None:
    """One character changed at the start, middle or end of any segment: nothing passes.

    At the end of each segment every other character is tried, because the last one holds unused bits.
    """
    for client_id in (RSA, P256, ED25519):
        token = material.jws(KEYS[client_id])
        first, second = token.index("."), token.rindex(".")
        bounds = [(0, first), (first + 1, second), (second + 1, len(token))]
        variants = [
            material.altered(token, position)
            for start, end in bounds
            for position in (start, (start + end) // 2, end - 1)
        ]
        variants += [
            material.altered(token, end - 1, by)
            for _, end in bounds
            for by in material.BASE64URL
            if by != token[end - 1]
        ]
        with Connection(gate.port) as connection:
            for variant in variants:
                response = connection.exchange("GET", ANY, credentials(client_id, variant))
                assert_rejected(
                    response,
                    "jws_malformed",
                    "signature_mismatch",
                    "algorithm_not_allowed",
                    "header_parameter_unsupported",
                )
            upstream.assert_untouched()
            assert connection.exchange("GET", ANY, credentials(client_id, token)).status == 200
        upstream.clear()


def test_swapped_segments_rejected(gate: Gate, upstream: RecordingUpstream) -> None:
    """Segments of two good tokens of one application don't make a third."""
    one = material.jws(KEYS[RSA], material.default_claims(n=1)).split(".")
    two = material.jws(KEYS[RSA], material.default_claims(n=2)).split(".")
    reject(gate, upstream, credentials(RSA, ".".join([one[0], two[1], one[2]])), "signature_mismatch")


@pytest.mark.parametrize("client_id", [RSA, P256, P384, P521, ED25519])
def test_foreign_key_rejected(gate: Gate, upstream: RecordingUpstream, client_id: str) -> None:
    """A JWS by another key of the same kind, or by another application, does not pass."""
    kind = next(kind for kind in material.ALGORITHM_OF if material.private_key(kind) is KEYS[client_id])
    stranger = material.private_key(kind, "stranger")
    reject(gate, upstream, signed_by(stranger, client_id), "signature_mismatch")
    for other in {RSA, P256, P384, P521, ED25519} - {client_id}:
        reject(gate, upstream, signed_by(KEYS[other], client_id), "algorithm_not_allowed")
    # The same algorithm by name, so that only the key tells.
    reject(
        gate,
        upstream,
        credentials(client_id, material.jws(KEYS[ALL_DIGITS])),
        "signature_mismatch",
        "algorithm_not_allowed",
    )


def forged_headers() -> Iterator[Any]:
    """Headers that try to talk the verifier out of verifying with the registered certificate."""
    stranger = material.private_key("rsa", "stranger")
    numbers = stranger.public_key().public_numbers()  # type: ignore[union-attr]
    jwk = {
        "kty": "RSA",
        "n": material.b64url(numbers.n.to_bytes(256)),  # type: ignore[union-attr]
        "e": "AQAB",
    }
    pem = material.certificate(stranger, "stranger")
    der = "".join(pem.splitlines()[1:-1])
    for name, member in {
        "jwk": jwk,
        "x5c": [der],
        "jku": "http://127.0.0.1/keys",
        "x5u": "http://127.0.0.1/certificate",
        "kid": "../../dev/null",
    }.items():
        yield pytest.param(stranger, {"alg": "RS256", name: member}, id=f"stranger-with-{name}")


@pytest.mark.parametrize(("key", "header"), list(forged_headers()))
def test_header_names_no_key(
    gate: Gate, upstream: RecordingUpstream, key: material.PrivateKey, header: dict[str, Any]
) -> None:
    """A key that the JOSE header brings along is never used."""
    reject(
        gate,
        upstream,
        signed_by(key, header=header),
        "signature_mismatch",
        "header_parameter_unsupported",
        "jws_malformed",
    )


HMAC_SECRETS: dict[str, Callable[[], bytes]] = {
    "certificate": lambda: material.certificate(KEYS[RSA], "rsa").encode(),
    "certificate-stripped": lambda: material.certificate(KEYS[RSA], "rsa").strip().encode(),
    "public-key": lambda: material.public_pem(KEYS[RSA]).encode(),
    "public-key-stripped": lambda: material.public_pem(KEYS[RSA]).strip().encode(),
    "public-key-der": lambda: material.public_der(KEYS[RSA]),
    "empty": lambda: b"",
}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", list(HMAC_SECRETS))
def test_public_key_is_no_secret(gate: Gate, upstream: RecordingUpstream, secret: str, algorithm: str) -> None:
    """An HMAC with anything public for a secret does not pass."""
    headers = signed_by(HMAC_SECRETS[secret](), algorithm=algorithm)
    reject(gate, upstream, headers, "algorithm_not_allowed")


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_alg_none_rejected(gate: Gate, upstream: RecordingUpstream, alg: str) -> None:
    """No signature is no signature, with an empty last segment or any other."""
    payload = material.compact_json(material.default_claims())
    token = material.jws(KEYS[RSA], header={"alg": alg}, payload=payload, algorithm="RS256")
    reject(gate, upstream, credentials(RSA, token), "algorithm_not_allowed", "jws_malformed")
    for last in (b"", b"\0", b"x" * 256):
        token = material.unsigned({"alg": alg}, payload, last)
        reject(gate, upstream, credentials(RSA, token), "algorithm_not_allowed", "jws_malformed")


ALG_HEADERS: list[Any] = [
    pytest.param({"alg": "rs256"}, ["algorithm_not_allowed"], id="lower-case"),
    pytest.param({"alg": "ES256"}, ["algorithm_not_allowed"], id="other-kind"),
    pytest.param({"alg": "RS512"}, ["signature_mismatch"], id="other-hash"),
    pytest.param({"alg": "PS256"}, ["signature_mismatch"], id="other-padding"),
    pytest.param({"alg": ["RS256"]}, ["jws_malformed", "algorithm_not_allowed"], id="list"),
    pytest.param({"alg": None}, ["jws_malformed", "algorithm_not_allowed"], id="null"),
    pytest.param({"typ": "JWT"}, ["jws_malformed", "algorithm_not_allowed"], id="missing"),
    pytest.param({"alg": "RS256", "crit": ["exp"], "exp": 1}, ["header_parameter_unsupported"], id="crit"),
    pytest.param({"alg": "RS256", "crit": []}, ["header_parameter_unsupported"], id="crit-empty"),
    pytest.param({"alg": "RS256", "b64": False}, ["header_parameter_unsupported"], id="b64"),
    pytest.param({"alg": "RS256", "zip": "DEF"}, ["header_parameter_unsupported"], id="zip"),
    pytest.param({"alg": "RS256", "enc": "A128GCM"}, ["header_parameter_unsupported"], id="enc"),
    pytest.param(b'{"alg":"none","alg":"RS256"}', ["jws_malformed"], id="duplicate"),
    pytest.param(b'\xef\xbb\xbf{"alg":"RS256"}', ["jws_malformed"], id="bom"),
    pytest.param('{"alg":"RS256"}'.encode("utf-16"), ["jws_malformed"], id="utf-16"),
    pytest.param(b'["RS256"]', ["jws_malformed"], id="array"),
    pytest.param(b'{"alg":"RS256","a":NaN}', ["jws_malformed"], id="nan"),
    pytest.param(b'{"alg":"RS256","a":' + b"[" * 3000 + b"]" * 3000 + b"}", ["jws_malformed"], id="deep"),
    pytest.param(b'{"alg":"RS256","a":' + b"9" * 5000 + b"}", ["jws_malformed"], id="long-integer"),
]


@pytest.mark.parametrize(("header", "reasons"), ALG_HEADERS)
def test_jose_header_rejected(
    gate: Gate, upstream: RecordingUpstream, header: dict[str, Any] | bytes, reasons: list[str]
) -> None:
    """JOSE headers that are not plain do not pass, though the right key signed them."""
    reject(gate, upstream, signed_by(KEYS[RSA], header=header, algorithm="RS256"), *reasons)


def test_odd_signatures_rejected(gate: Gate, upstream: RecordingUpstream) -> None:
    """Signatures of another length or encoding do not pass: empty, zero, DER, padded out, cut short."""
    for client_id in (RSA, P256, P521, ED25519):
        token = material.jws(KEYS[client_id])
        signing_input, _, last = token.rpartition(".")
        raw = material.unb64url(last)
        half = len(raw) // 2
        for octets in (
            b"",
            bytes(len(raw)),
            b"\xff" * len(raw),
            b"\0" + raw,
            raw + b"\0",
            raw[:-1],
            raw[1:],
            b"\0" + raw[:half] + b"\0" + raw[half:],
            raw + raw,
            raw[half:] + raw[:half],
        ):
            forged = f"{signing_input}.{material.b64url(octets)}"
            response = exchange(gate.port, "GET", ANY, credentials(client_id, forged))
            assert_rejected(response, "signature_mismatch", "jws_malformed")
    upstream.assert_untouched()


def payloads() -> Iterator[Any]:
    """Payloads that are signed well and yet must not pass."""
    now = int(time.time())
    good = {"iss": "tvo", "iat": now}

    def case(name: str, claims: dict[str, Any], *reasons: str) -> Any:
        return pytest.param(material.compact_json(claims), list(reasons), id=name)

    yield case("expired", good | {"exp": now - 1}, "jws_expired")
    yield case("expired-this-second", good | {"exp": now}, "jws_expired")
    yield case("expired-long-ago", good | {"exp": 0}, "jws_expired")
    yield case("not-yet-valid", good | {"exp": now + 6000, "nbf": now + 5000}, "jws_not_yet_valid")
    yield case("no-exp", good, "claim_missing")
    yield case("exp-negative", good | {"exp": -1}, "jws_expired", "claims_malformed")
    for name, value in {"true": True, "text": str(now + 60), "null": None, "list": [now + 60], "object": {}}.items():
        yield case(f"exp-{name}", good | {"exp": value}, "claims_malformed")
        yield case(f"nbf-{name}", good | {"exp": now + 6000, "nbf": value}, "claims_malformed")
    for name, text in {
        "exp-infinite": b'{"exp":1e400}',
        "exp-huge": b'{"exp":1' + b"0" * 400 + b"}",
        "exp-nan": b'{"exp":NaN}',
        "exp-duplicate": f'{{"exp":1,"exp":{now + 6000}}}'.encode(),
        "array": b"[]",
        "text": b'"exp"',
        "null": b"null",
        "empty": b"",
        "no-json": b"exp=1",
        "bom": b"\xef\xbb\xbf" + material.compact_json(good | {"exp": now + 6000}),
        "utf-16": json.dumps(good | {"exp": now + 6000}).encode("utf-16"),
        "not-utf-8": b'{"a":"\xff","exp":%d}' % (now + 6000),
        "deep": b'{"exp":%d,"a":' % (now + 6000) + b"[" * 5000 + b"]" * 5000 + b"}",
        "deep-open": b"[" * 9000,
        "trailing": material.compact_json(good | {"exp": now + 6000}) + b"{}",
    }.items():
        yield pytest.param(text, ["claims_malformed", "jws_malformed"], id=name)


@pytest.mark.parametrize(("payload", "reasons"), list(payloads()))
def test_claims_rejected(gate: Gate, upstream: RecordingUpstream, payload: bytes, reasons: list[str]) -> None:
    """Claims that are expired, not yet valid, or no claims at all do not pass, well signed as they are."""
    reject(gate, upstream, signed_by(KEYS[RSA], payload=payload), *reasons)
    reject(gate, upstream, signed_by(KEYS[RSA], payload=payload), *reasons, target=VALIDATE)


def test_token_expires_while_in_use(gate: Gate, upstream: RecordingUpstream) -> None:
    """A JWS that passed a moment ago no longer passes once it has expired: no cache outlives it."""
    exp = int(time.time()) + 2
    headers = signed_by(KEYS[ED25519], ED25519, claims=material.default_claims(exp=exp))
    assert exchange(gate.port, "GET", ANY, headers).status == 200
    time.sleep(max(0.0, exp - time.time()) + 0.01)
    upstream.clear()
    reject(gate, upstream, headers, "jws_expired")


def test_remembered_token_is_no_passport(gate: Gate, upstream: RecordingUpstream) -> None:
    """A JWS that has passed passes for nobody else, and under no other rules, whatever the gate remembers of it."""
    token = material.jws(KEYS[RSA], material.default_claims(order=1), algorithm="RS512")
    for _ in range(3):
        assert exchange(gate.port, "GET", ANY, credentials(RSA, token)).status == 200
    upstream.clear()
    reject(gate, upstream, credentials(P256, token), "algorithm_not_allowed")
    reject(gate, upstream, credentials(DISABLED, token), "application_disabled")
    reject(gate, upstream, credentials(NO_CERTIFICATE, token), "certificate_missing")
    partner: list[Header] = [("X-Partner", RSA), ("X-Partner-JWS", token)]
    reject(gate, upstream, partner, "algorithm_not_allowed", target="/narrow/x")
    for variant in (token + "=", token[:-1], token + "A", token.lower(), f"{token},{token}"):
        reject(gate, upstream, credentials(RSA, variant), "jws_malformed", "signature_mismatch")
    wordy = material.jws(KEYS[RSA], material.default_claims(order="x" * 600))
    assert exchange(gate.port, "GET", ANY, credentials(RSA, wordy)).status == 200
    upstream.clear()
    partner = [("X-Partner", RSA), ("X-Partner-JWS", wordy)]
    reject(gate, upstream, partner, "jws_too_large", target="/narrow/x")


def test_certificate_expires_while_in_use(
    home: Path, session_upstream: RecordingUpstream, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """A certificate that expires while the gate runs counts as expired from then on, remembered tokens or not."""
    key = material.private_key("ed25519", "short")
    ends = int(time.time()) + 8  # a busy machine needs some of it to start the gate
    pem = material.certificate(key, "short", to_days=(ends - time.time()) / 86400)
    files = write_files(tmp_path, material.portal_yaml([Application("short", ("short",), pem)]))
    with gates.running(
        lambda port: gates.command(
            "jwsgate run", upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run",
    ) as gate:
        headers = signed_by(key, "short")
        for _ in range(2):
            assert exchange(gate.port, "GET", ANY, headers).status == 200
        time.sleep(max(0.0, ends + 1.1 - time.time()))
        upstream.clear()
        reject(gate, upstream, headers, "certificate_expired")


# A route with names and rules of its own


def narrow(claims: dict[str, Any], algorithm: str = "RS256") -> list[Header]:
    """The headers of a request for the route `narrow`."""
    return [
        ("X-Partner", RSA),
        ("X-Partner-JWS", material.jws(KEYS[RSA], material.default_claims(**claims), algorithm=algorithm)),
    ]


def test_route_rules_let_pass(gate: Gate, upstream: RecordingUpstream) -> None:
    """Names, leeway and claims that the route asks for are the ones that count."""
    now = int(time.time())
    for claims in ({"order": 1}, {"order": 0, "exp": now - 10}, {"order": "", "aud": ["x", "the world"]}):
        assert exchange(gate.port, "GET", "/narrow/x", narrow(claims)).status == 200
    assert len(upstream.requests) == 3


NARROW: list[Any] = [
    pytest.param("claim_missing", lambda: narrow({}), id="claim-missing"),
    pytest.param("jws_expired", lambda: narrow({"order": 1, "exp": int(time.time()) - 31}), id="beyond-leeway"),
    pytest.param("claim_mismatch", lambda: narrow({"order": 1, "iss": "TVO"}), id="issuer"),
    pytest.param("claim_mismatch", lambda: narrow({"order": 1, "aud": "the moon"}), id="audience"),
    pytest.param("claims_malformed", lambda: narrow({"order": 1, "aud": []}), id="audience-empty"),
    pytest.param("algorithm_not_allowed", lambda: narrow({"order": 1}, "RS512"), id="algorithm"),
    pytest.param("jws_too_large", lambda: narrow({"order": "x" * 600}), id="too-large"),
    pytest.param("client_id_missing", credentials, id="usual-names"),
    pytest.param("jws_missing", lambda: [("X-Partner", RSA), ("jwt", good())], id="usual-jws-name"),
    pytest.param("request_unsafe", lambda: [*narrow({"order": 1}), ("X_Partner", RSA)], id="client-id-imitated"),
    pytest.param("request_unsafe", lambda: [*narrow({"order": 1}), ("X-Partner_JWS", "x")], id="jws-imitated"),
]


@pytest.mark.parametrize(("reason", "headers"), NARROW)
def test_route_rules_reject(
    gate: Gate, upstream: RecordingUpstream, reason: str, headers: Callable[[], list[Header]]
) -> None:
    """Each rule of a route rejects on its own."""
    reject(gate, upstream, headers(), reason, target="/narrow/x")


@pytest.mark.parametrize("target", ["/narrow/x", "/%6earrow/x", "/n%61rro%77/x?y", "/narrow", "/narrow/"])
def test_spelling_leads_to_the_same_route(gate: Gate, upstream: RecordingUpstream, target: str) -> None:
    """A path spelled so that the upstream reads it as another is judged by that other path's rules."""
    reject(gate, upstream, credentials(), "client_id_missing", "request_unsafe", target=target)
    assert exchange(gate.port, "GET", target, narrow({"order": 1})).status in (200, 400)


@pytest.fixture(scope="module")
def closed_gate(
    door: Door, home: Any, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate whose policy knows one route only."""
    policy = "routes:\n  - {name: one, path: '/one/{id}', methods: [GET, POST]}\n"
    files = write_files(tmp_path_factory.mktemp("closed"), policy=policy)
    with gates.running(
        lambda port: gates.command(
            door, upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/one"),
        ("GET", "/one/"),
        ("GET", "/one/2/3"),
        ("GET", "/One/2"),
        ("GET", "/two/2"),
        ("PUT", "/one/2"),
        ("OPTIONS", "/one/2"),
        ("GET", "/two?/one/2"),
    ],
)
def test_unknown_route_rejected(closed_gate: Gate, upstream: RecordingUpstream, method: str, target: str) -> None:
    """What no route names does not pass, though everything else be right."""
    reject(closed_gate, upstream, credentials(), "route_unknown", method=method, target=target)


def test_known_route_passes(closed_gate: Gate, upstream: RecordingUpstream) -> None:
    """The one route of that policy passes, so that its other tests mean something."""
    assert exchange(closed_gate.port, "GET", "/one/2?x", credentials()).status == 200
    assert upstream.only_request().target == b"/one/2?x"


# Connections


def bad(reason: str = "signature_mismatch") -> list[Header]:
    """The headers of a bad request."""
    if reason == "jws_missing":
        return [("X-IBM-Client-Id", RSA)]
    return signed_by(material.private_key("rsa", "stranger"))


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_kept_connection_judged_one_by_one(gate: Gate, upstream: RecordingUpstream, tls: bool) -> None:
    """On one connection each request stands for itself: good, bad, good, without, good."""
    with Connection(gate.port, tls=tls) as connection:
        for number, headers in enumerate([credentials(), bad(), credentials(), bad("jws_missing"), credentials()]):
            response = connection.exchange("POST", f"/kept/{number}", headers, b"x" * number)
            if number % 2:
                assert_rejected(response, "signature_mismatch", "jws_missing")
            else:
                assert response.status == 200
    assert [request.target for request in upstream.requests] == [b"/kept/0", b"/kept/2", b"/kept/4"]


def test_pipelined_requests_judged_one_by_one(gate: Gate, upstream: RecordingUpstream) -> None:
    """Requests sent in one go get their own answers, in order."""
    with Connection(gate.port) as connection:
        octets = b""
        for number, headers in enumerate([credentials(), bad(), credentials(), bad("jws_missing")]):
            octets += request_octets("POST", f"/piped/{number}", headers, b"body")
        connection.send(octets)
        responses = [connection.read() for _ in range(4)]
    assert [response.status for response in responses] == [200, 500, 200, 500]
    assert_rejected(responses[1], "signature_mismatch")
    assert_rejected(responses[3], "jws_missing")
    assert [request.target for request in upstream.requests] == [b"/piped/0", b"/piped/2"]
    assert sum(len(request.body) for request in upstream.requests) == 8


def test_connections_side_by_side(gate: Gate, upstream: RecordingUpstream) -> None:
    """Many connections at once, good and bad mixed: no verdict, body or ID strays from one to another."""
    identities: list[str] = []

    def client(number: int) -> list[int]:
        statuses = []
        with Connection(gate.port, tls=number % 3 == 0) as connection:
            for turn in range(10):
                headers = bad() if (number + turn) % 2 else credentials(ED25519)
                response = connection.exchange("POST", f"/many/{number}/{turn}", headers, b"%d" % number)
                statuses.append(response.status)
                identities.append(transaction_id(response))
        return statuses

    with ThreadPoolExecutor(8) as pool:
        for number, statuses in enumerate(pool.map(client, range(8))):
            assert statuses == [500 if (number + turn) % 2 else 200 for turn in range(10)]
    good_ones = {(n, t) for n in range(8) for t in range(10) if (n + t) % 2 == 0}
    expected = sorted((f"/many/{number}/{turn}".encode(), b"%d" % number) for number, turn in good_ones)
    assert sorted((request.target, request.body) for request in upstream.requests) == expected
    assert len(set(identities)) == 80


def test_rejected_head_has_no_body(gate: Gate, upstream: RecordingUpstream) -> None:
    """No octet follows the head of a rejected HEAD: the next answer on the connection is read cleanly."""
    with Connection(gate.port) as connection:
        for headers in (bad(), bad("jws_missing"), []):
            connection.send(request_octets("HEAD", ANY, headers) + request_octets("GET", ANY, headers))
            reasons = ("signature_mismatch", "jws_missing", "client_id_missing")
            assert_rejected(connection.read("HEAD"), *reasons, head=True)
            assert_rejected(connection.read("GET"), *reasons)
    upstream.assert_untouched()


def test_rejected_upload(gate: Gate, upstream: RecordingUpstream) -> None:
    """Two megabytes under a bad JWS stay out, from the first octet on."""
    body = b"x" * (1 << 21)
    with Connection(gate.port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(request_octets("POST", ANY, bad(), body))
        assert_rejected(connection.read(), "signature_mismatch")
    upstream.assert_untouched()


def test_rejected_before_its_body_is_there(gate: Gate, upstream: RecordingUpstream) -> None:
    """Nothing goes upstream while the body of a bad request is still coming, and none when it never comes."""
    with Connection(gate.port) as connection:
        head = request_octets("POST", ANY, [*bad(), ("Content-Length", "1000")])
        connection.send(head + b"x" * 500)
        upstream.assert_untouched(grace=0.2)
    upstream.assert_untouched(grace=0.1)


def test_expect_continue(gate: Gate, upstream: RecordingUpstream) -> None:
    """`Expect: 100-continue` changes no verdict."""
    expect: Header = ("Expect", "100-continue")
    with Connection(gate.port) as connection:
        connection.send(request_octets("POST", ANY, [*bad(), expect], b"body"))
        assert_rejected(connection.read(), "signature_mismatch")
    upstream.assert_untouched()
    with Connection(gate.port) as connection:
        connection.send(request_octets("POST", ANY, [*credentials(), expect], b"body"))
        assert connection.read().status == 200
    assert upstream.only_request().body == b"body"


def test_preflight_is_no_way_in(gate: Gate, upstream: RecordingUpstream) -> None:
    """A CORS preflight needs the same as any other request unless the policy says otherwise."""
    preflight: list[Header] = [
        ("Origin", "https://x.test"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "jwt"),
    ]
    response = exchange(gate.port, "OPTIONS", ANY, preflight)
    assert_rejected(response, "client_id_missing")
    upstream.assert_untouched()


# Requests that gate and upstream could read differently


UNSAFE_TARGETS = [
    b"//orders",
    b"/orders//7",
    b"/orders/./7",
    b"/orders/../7",
    b"/orders/..",
    b"/orders/.",
    b"/orders/%2e%2e/7",
    b"/orders/.%2E/7",
    b"/orders/%2e/7",
    b"/orders%2f7",
    b"/orders%2F7",
    b"/orders%5c7",
    b"/orders\\7",
    b"/orders#7",
    b"/orders?a#7",
    b"/orders/7%00",
    b"/orders/7%0d%0a",
    b"/orders/7%7f",
    b"/orders/\x007",
    b"/orders/\x017",
    b"/orders/7\x7f",
    b"/orders/7?\x00",
    b"/orders/7?a\x0bb",
    b"/orders/%",
    b"/orders/%zz",
    b"/orders/..;x/7",
    b"/orders/..%3Bx/7",
    b"/orders/..%20/7",
    # Another, stricter route to upstreams that decode more, know path parameters, or do not mind a slash.
    b"/narrow;v=1/x",
    b"/narrow%3Bv=1/x",
    b"/narrow%20/x",
    b"/ORG/CATALOG/signvalidate/validate/",
]


@pytest.mark.parametrize("target", UNSAFE_TARGETS, ids=repr)
def test_ambiguous_targets_rejected(gate: Gate, upstream: RecordingUpstream, target: bytes) -> None:
    """A path that an upstream may read otherwise does not pass, with a good JWS either."""
    response = exchange(gate.port, "GET", target, credentials())
    assert response.status == 400
    # A few octets are refused by the parser of mitmproxy itself, which has a page of its own.
    if response.value("content-type") == "application/json":
        assert_rejected(response, "request_unsafe")
    upstream.assert_untouched()
    assert exchange(gate.port, "GET", target, bad()).status in (400, 500)
    upstream.assert_untouched()


@pytest.mark.parametrize(
    "target", [b"/a/..;/b", b"/a/%252e%252e/b", b"/a%252fb", b"/caf\xc3\xa9", b"/a|b", b"*", b"orders"], ids=repr
)
def test_odd_targets_pass_unchanged_or_not_at_all(gate: Gate, upstream: RecordingUpstream, target: bytes) -> None:
    """A path that is merely odd is never rewritten on the way."""
    response = exchange(gate.port, "GET", target, credentials())
    if response.status == 200:
        assert upstream.only_request().target == target
    else:
        assert response.status in (400, 404)
        upstream.assert_untouched()


@pytest.mark.parametrize("target", ["http://evil.test/x", "http://evil.test" + VALIDATE, "https://evil.test/x"])
def test_absolute_form(gate: Gate, upstream: RecordingUpstream, target: str) -> None:
    """A request line with a whole URI is judged like any other, and the foreign host goes no further."""
    assert exchange(gate.port, "GET", target, bad()).status in (400, 500)
    upstream.assert_untouched()
    response = exchange(gate.port, "GET", target, credentials())
    if response.status == 200 and response.body == BODY:
        assert upstream.only_request().target == b"/x"
    else:
        # On the validate path the gate may answer by itself; there is nothing upstream then either.
        assert response.status == 400 or target.endswith(VALIDATE)
        upstream.assert_untouched()


def test_connect_is_no_way_in(gate: Gate, upstream: RecordingUpstream) -> None:
    """A CONNECT opens no tunnel."""
    with Connection(gate.port, timeout=3) as connection:
        connection.send(request_octets("CONNECT", f"127.0.0.1:{upstream.port}", credentials()))
        with contextlib.suppress(NoResponse):
            assert connection.read("CONNECT").status >= 400
    upstream.assert_untouched()


UNSAFE_HEADERS: list[Any] = [
    pytest.param([("Connection", "jwt")], id="connection-jwt"),
    pytest.param([("Connection", "X-IBM-Client-Id")], id="connection-client-id"),
    pytest.param([("Connection", "close, JWT")], id="connection-list"),
    pytest.param([("Connection", "keep-alive"), ("Connection", "jwt")], id="connection-second"),
    pytest.param([("Upgrade", "foo"), ("Connection", "Upgrade")], id="upgrade"),
    pytest.param([("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings")], id="upgrade-h2c"),
    pytest.param(
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ],
        id="upgrade-websocket",
    ),
    pytest.param([("X-A", b"a\x00b")], id="nul"),
    pytest.param([("X-A", b"a\x0bb")], id="vertical-tab"),
    pytest.param([("X-A", b"a\rjwt: b")], id="bare-cr"),
    pytest.param([("X-A", b"a\r\n folded")], id="folded"),
]


@pytest.mark.parametrize("headers", UNSAFE_HEADERS)
def test_ambiguous_headers_rejected(gate: Gate, upstream: RecordingUpstream, headers: list[Header]) -> None:
    """Headers that make an upstream see another request than the gate did do not pass."""
    response = exchange(gate.port, "GET", ANY, [*credentials(), *headers])
    assert response.status == 400
    upstream.assert_untouched()


FRAMINGS: list[Any] = [
    pytest.param([("Content-Length", "4"), ("Transfer-Encoding", "chunked")], id="both"),
    pytest.param([("Content-Length", "4"), ("Content-Length", "5")], id="two-lengths"),
    pytest.param([("Content-Length", "4, 4")], id="joined-lengths"),
    pytest.param([("Content-Length", "+4")], id="signed-length"),
    pytest.param([("Transfer-Encoding", "identity")], id="identity"),
    pytest.param([("Transfer-Encoding", "chunked, identity")], id="chunked-not-last"),
    pytest.param([("Transfer-Encoding", "xchunked")], id="unknown-coding"),
    pytest.param([("Transfer-Encoding ", "chunked"), ("Content-Length", "4")], id="space-before-colon"),
]


@pytest.mark.parametrize("headers", FRAMINGS)
def test_request_smuggling(gate: Gate, upstream: RecordingUpstream, headers: list[Header]) -> None:
    """However a request is framed, the upstream never reads more requests than the gate has judged."""
    smuggled = request_octets("GET", "/smuggled", [("X-A", "b")])
    with Connection(gate.port, timeout=1) as connection:
        connection.send(request_octets("POST", ANY, [*credentials(), *headers], b"0\r\n\r\n" + smuggled))
        with contextlib.suppress(NoResponse):
            connection.read()
    time.sleep(0.05)
    assert all(request.target == ANY.encode() for request in upstream.requests)
    assert len(upstream.requests) <= 1
    assert_still_good(gate, upstream)


def test_trailers_bring_nothing_in(closed_gate: Gate, upstream: RecordingUpstream) -> None:
    """Trailers of a chunked body neither supply a JWS nor reach the upstream.

    mitmproxy cannot read them and drops the connection with a traceback, hence not at the gate whose log is
    looked through for such.
    """
    gate, target = closed_gate, "/one/2"
    chunked: Header = ("Transfer-Encoding", "chunked")
    trailers = f"0\r\njwt: {good()}\r\nX-IBM-Client-Id: {P256}\r\n\r\n".encode()
    for headers in ([], [("X-IBM-Client-Id", RSA)]):
        with Connection(gate.port, timeout=0.3) as connection:
            connection.send(request_octets("POST", target, [*headers, chunked], b"3\r\nabc\r\n" + trailers))
            with contextlib.suppress(NoResponse):
                assert connection.read().status >= 400
        upstream.assert_untouched()
    with Connection(gate.port, timeout=0.3) as connection:
        connection.send(request_octets("POST", target, [*credentials(), chunked], b"3\r\nabc\r\n" + trailers))
        with contextlib.suppress(NoResponse):
            connection.read()
    upstream.settle()
    assert P256.encode() not in upstream.octets
    assert len(upstream.requests) <= 1
    upstream.clear()
    assert exchange(gate.port, "GET", target, credentials()).status == 200


def test_one_host_goes_upstream(gate: Gate, upstream: RecordingUpstream) -> None:
    """Two hosts in one request don't get through as two: upstreams differ in which of them they believe."""
    for headers in (
        [("Host", "one.test"), ("Host", "two.test")],
        [("Host", "one.test, two.test")],
        [("Host", "one.test"), ("host", "")],
    ):
        upstream.clear()
        response = exchange(gate.port, "GET", ANY, [*credentials(), *headers])
        if response.status == 200:
            (host,) = upstream.only_request().values("Host")
            assert b"," not in host
        else:
            assert response.status == 400
            upstream.assert_untouched()
    upstream.clear()
    with contextlib.suppress(NoResponse):
        h2_exchange(gate.port, "GET", ANY, [*lower(credentials()), ("host", "two.test")])
    assert all(len(request.values("Host")) == 1 for request in upstream.requests)


GARBAGE = [
    b"\r\n\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/3.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"SSH-2.0-x\r\n",
    b"\x00" * 64,
    b"*1\r\n$4\r\nPING\r\n",
]


@pytest.mark.parametrize("octets", GARBAGE, ids=repr)
def test_garbage_goes_nowhere(gate: Gate, upstream: RecordingUpstream, octets: bytes) -> None:
    """What is not HTTP is not passed on as something else."""
    with Connection(gate.port, timeout=0.3) as connection:
        connection.send(octets)
        with contextlib.suppress(NoResponse):
            assert not connection.read_to_end().startswith(b"HTTP/1.1 200")
    upstream.assert_untouched()
    assert_still_good(gate, upstream)


# HTTP/2


def lower(headers: list[Header]) -> list[Header]:
    """Header names as HTTP/2 wants them."""
    return [(name.lower(), value) for name, value in headers]


def test_h2_request_passes(gate: Gate, upstream: RecordingUpstream) -> None:
    """HTTP/2 comes in and HTTP/1.1 goes out, with the same verdicts."""
    response = h2_exchange(gate.port, "GET", ANY, lower(credentials()))
    assert (response.status, response.body) == (200, BODY)
    assert upstream.only_request().target == ANY.encode()
    upstream.clear()
    assert_rejected(h2_exchange(gate.port, "GET", ANY, lower(bad())), "signature_mismatch")
    assert_rejected(h2_exchange(gate.port, "HEAD", ANY, lower(bad())), "signature_mismatch", head=True)
    response = h2_exchange(gate.port, "GET", ANY, lower(credentials()) * 2)
    assert_rejected(response, "client_id_repeated")
    upstream.assert_untouched()


def test_h2_streams_judged_one_by_one(gate: Gate, upstream: RecordingUpstream) -> None:
    """Requests side by side on one HTTP/2 connection get their own verdicts and their own bodies."""
    requests = [
        H2Request("POST", f"/side/{number}", lower(bad() if number % 2 else credentials()), b"%d" % number)
        for number in range(8)
    ]
    responses = h2_exchanges(gate.port, requests)
    assert [response.status for response in responses] == [200, 500] * 4
    for response in responses[1::2]:
        assert_rejected(response, "signature_mismatch")
    got = sorted((request.target, request.body) for request in upstream.requests)
    assert got == [(b"/side/%d" % number, b"%d" % number) for number in (0, 2, 4, 6)]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_h2_body_is_no_second_request(gate: Gate, upstream: RecordingUpstream, method: str) -> None:
    """A body without a length stays a body: the request hidden in it never becomes one."""
    smuggled = request_octets("DELETE", "/smuggled", [("X-IBM-Client-Id", RSA)])
    response = h2_exchange(gate.port, method, ANY, lower(credentials()), smuggled)
    assert response.status == 200
    request = upstream.only_request()
    assert (request.method, request.target, request.body) == (method, ANY.encode(), smuggled)
    upstream.clear()
    assert_rejected(h2_exchange(gate.port, method, ANY, lower(bad()), smuggled), "signature_mismatch")
    upstream.assert_untouched()


@pytest.mark.parametrize("length", ["0", "3", "300"])
def test_h2_wrong_length_is_no_second_request(gate: Gate, upstream: RecordingUpstream, length: str) -> None:
    """A content-length that belies the body of an HTTP/2 request smuggles nothing."""
    smuggled = request_octets("DELETE", "/smuggled", [("X-IBM-Client-Id", RSA)])
    headers = [*lower(credentials()), ("content-length", length)]
    with contextlib.suppress(NoResponse):
        h2_exchange(gate.port, "POST", ANY, headers, smuggled, timeout=1)
    time.sleep(0.05)
    assert all(request.target == ANY.encode() for request in upstream.requests)
    assert_still_good(gate, upstream)


@pytest.mark.parametrize(
    "headers",
    [
        [("transfer-encoding", "chunked")],
        [("connection", "jwt")],
        [("x-a", "b\r\njwt: c")],
        [("x-a\r\nx-b", "c")],
        [("x_ibm_client_id", P256)],
        [("X-IBM-Client-Id", P256)],
    ],
    ids=repr,
)
def test_h2_unsafe_headers(gate: Gate, upstream: RecordingUpstream, headers: list[Header]) -> None:
    """HTTP/2 headers that would mean something else in HTTP/1.1 do not pass."""
    with contextlib.suppress(NoResponse):
        response = h2_exchange(gate.port, "POST", ANY, [*lower(credentials()), *headers], b"0\r\n\r\n")
        assert response.status >= 400
    upstream.assert_no_request()
    assert_still_good(gate, upstream)


def test_h2_trailers(gate: Gate, upstream: RecordingUpstream) -> None:
    """Trailers bring in nothing: neither a JWS too late nor headers after the verdict."""
    late = lower(credentials())
    with contextlib.suppress(NoResponse):
        response = h2_exchange(gate.port, "POST", ANY, late[:1], b"body", trailers=late[1:], timeout=3)
        assert_rejected(response, "jws_missing", "request_unsafe")
    upstream.assert_untouched()
    with contextlib.suppress(NoResponse):
        trailers: list[Header] = [("x-ibm-client-id", P256)]
        h2_exchange(gate.port, "POST", ANY, late, b"body", trailers=trailers, timeout=3)
    time.sleep(0.05)
    assert P256.encode() not in upstream.octets
    assert_still_good(gate, upstream)


@pytest.mark.parametrize("path", ["//x", "/a/../b", "/a%2fb", "/a#b", "http://evil.test/x", "*", "x", "/a b"])
def test_h2_ambiguous_paths(gate: Gate, upstream: RecordingUpstream, path: str) -> None:
    """Over HTTP/2 the same paths are refused as over HTTP/1.1."""
    with contextlib.suppress(NoResponse):
        assert h2_exchange(gate.port, "GET", path, lower(credentials()), timeout=3).status in (400, 404)
    upstream.assert_no_request()
    assert_still_good(gate, upstream)


# X-Global-Transaction-ID


def transaction_id(response: Response) -> str:
    """The one transaction ID of a response."""
    value = response.value("X-Global-Transaction-ID")
    assert TRANSACTION_ID.fullmatch(value)
    return value


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_transaction_id(gate: Gate, upstream: RecordingUpstream, sent: int) -> None:
    """One and the same fresh ID goes upstream and back to the client; what the client sent is replaced."""
    forged = [("X-Global-Transaction-ID", "f" * 24), ("x-global-transaction-id", "a" * 24)][:sent]
    seen = set()
    for headers in (credentials(), credentials()):
        upstream.clear()
        response = exchange(gate.port, "GET", ANY, [*headers, *forged])
        identity = transaction_id(response)
        assert upstream.only_request().values("X-Global-Transaction-ID") == [identity.encode()]
        seen.add(identity)
    for target in (ANY, VALIDATE):
        seen.add(transaction_id(exchange(gate.port, "GET", target, [*bad(), *forged])))
    seen.add(transaction_id(exchange(gate.port, "GET", VALIDATE, [*credentials(), *forged])))
    assert len(seen) == 5
    assert not seen & {"f" * 24, "a" * 24}


def test_transaction_id_of_the_upstream_is_replaced(gate: Gate, upstream: RecordingUpstream) -> None:
    """An ID that the upstream answers with does not reach the client beside or instead of the gate's."""
    upstream.answer_with(Answer(headers=[("X-Global-Transaction-ID", "f" * 24), ("X-B", "c")]))
    response = exchange(gate.port, "GET", ANY, credentials())
    assert transaction_id(response) != "f" * 24
    assert response.value("X-B") == "c"


def test_imitated_transaction_id_is_not_forwarded(gate: Gate, upstream: RecordingUpstream) -> None:
    """The ID spelled with underscores, which some upstreams read as the same header, does not get through."""
    response = exchange(gate.port, "GET", ANY, [*credentials(), ("X_Global_Transaction_ID", "f" * 24)])
    assert response.status in (200, 400)
    assert b"f" * 24 not in upstream.octets


# What the answers give away


def test_rejections_echo_nothing(gate: Gate) -> None:
    """No rejection repeats anything of the request, names the proxy, or says where the upstream is."""
    mark = "mark4711"
    for headers in (
        [("X-IBM-Client-Id", mark)],
        credentials(RSA, mark),
        credentials(RSA, f"{mark}.{mark}.{mark}"),
        signed_by(KEYS[RSA], header={"alg": mark}, algorithm="RS256"),
        signed_by(KEYS[RSA], claims=material.default_claims(exp=mark)),
    ):
        response = exchange(gate.port, "GET", f"/{mark}?{mark}", headers)
        told = repr(response.headers).encode() + response.body
        assert mark.encode() not in told
        assert b"mitmproxy" not in told.lower()
        assert b"127.0.0.1" not in told


def test_upstream_answers_pass_unchanged(gate: Gate, upstream: RecordingUpstream) -> None:
    """The upstream's own errors and headers reach the client as they are."""
    upstream.answer_with(Answer("418 Teapot", [("X-B", "c"), ("x-b", "d"), ("Set-Cookie", "e")], b"\x00\xff"))
    response = exchange(gate.port, "GET", ANY, credentials())
    assert (response.status, response.body) == (418, b"\x00\xff")
    assert response.values("X-B") == ["c", "d"]
    assert response.value("set-cookie") == "e"


def test_dead_upstream_is_no_open_door(door: Door, home: Any, tmp_path: Any, files: Any) -> None:
    """With the upstream down, good requests get a 5xx, and bad ones the gate's answer. What page is the proxy's own."""
    dead = gates.free_port()
    with gates.running(
        lambda port: gates.command(
            door, upstream=f"http://127.0.0.1:{dead}", port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name=door,
    ) as gate:
        assert_rejected(exchange(gate.port, "GET", ANY, bad()), "signature_mismatch")
        response = exchange(gate.port, "GET", ANY, credentials())
        assert response.status in (500, 502, 503, 504)
        # And it still judges.
        assert exchange(gate.port, "GET", VALIDATE, credentials()).status == 200


def test_answers_of_the_table_are_what_clients_know() -> None:
    """The table of this bench has the one body that is known from the original."""
    assert body_of("certificate_missing").endswith(b"application doesn't have a client cert registered\" }")
