"""A JWS that is bound to its request or signs its body, at both doors.

The body reaches the upstream octet for octet when it is the one that was signed, and not one octet of it before that.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import itertools
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import pytest

import material
from e2e import gates
from e2e.estate import ED25519, KEYS, P256, RSA, write_files
from e2e.gates import Door, Gate
from e2e.http_client import HOST, Connection, Header, NoResponse, Response, exchange, h2_exchange, request_octets
from e2e.upstream import BODY, RecordingUpstream
from feature_material import detached

pytestmark = pytest.mark.e2e

POLICY = """\
routes:
  - path: /bound/**
    bind: {method: htm, url: htu, base_url: "https://api.example", body: {claim: body_hash}}
  - path: /hex/**
    bind: {body: {claim: d, algorithm: sha-512, encoding: hex}}
  - path: /answer
    respond: claims
    bind: {body: {claim: d}}
  - path: /path/**
    bind: {method: htm, path: p}
  - path: /detached/**
    jws: {header: x-jws-signature, detached: true}
  - path: /unencoded/**
    jws: {header: x-jws-signature, detached: true, unencoded: true}
"""

BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b'{"amount" : 12.50}\r\n', id="json"),
    pytest.param(bytes(range(256)) * 3, id="all-octets"),
    pytest.param(b"\r\n\r\nGET /bound/x HTTP/1.1\r\nHost: x\r\n\r\n", id="request-in-body"),
    pytest.param(os.urandom(60_000), id="large"),
]
SOME_BODY = b'{"amount":1}'

type Signer = Callable[[str, bytes], list[Header]]
"""Makes the headers of a good request from its path and its body."""


def digest(body: bytes) -> str:
    """The SHA-256 of a body as base64url."""
    return material.b64url(hashlib.sha256(body).digest())


def bound(path: str, body: bytes, method: str = "POST", **claims: Any) -> list[Header]:
    """A JWS over claims that name method, URL and body."""
    url = "https://api.example" + path.partition("?")[0]
    members = material.default_claims(**{"htm": method, "htu": url, "body_hash": digest(body), **claims})
    return [("X-IBM-Client-Id", P256), ("jwt", material.jws(KEYS[P256], members))]


def in_hex(_path: str, body: bytes) -> list[Header]:
    """A JWS over the body's SHA-512 in hex."""
    members = material.default_claims(d=hashlib.sha512(body).hexdigest())
    return [("X-IBM-Client-Id", ED25519), ("jwt", material.jws(KEYS[ED25519], members))]


def signing(_path: str, body: bytes) -> list[Header]:
    """A detached JWS over the body."""
    return [("X-IBM-Client-Id", RSA), ("x-jws-signature", detached(KEYS[RSA], body))]


def signing_unencoded(_path: str, body: bytes) -> list[Header]:
    """A detached JWS over the body as it is."""
    return [("X-IBM-Client-Id", ED25519), ("x-jws-signature", detached(KEYS[ED25519], body, unencoded=True))]


WAYS = [
    pytest.param("/bound/7?x=1", bound, "binding_mismatch", id="digest"),
    pytest.param("/hex/7", in_hex, "binding_mismatch", id="digest-in-hex"),
    pytest.param("/detached/7", signing, "signature_mismatch", id="detached"),
    pytest.param("/unencoded/7", signing_unencoded, "signature_mismatch", id="detached-b64-false"),
]
TOLD = {
    "binding_mismatch": b"JWS doesn't belong to this request",
    "signature_mismatch": b"JWS signature doesn't match the application's client cert",
    "claim_missing": b"JWS lacks a required claim",
    "claims_malformed": b"JWS claims are malformed",
    "jws_malformed": b"JWS is malformed",
    "jws_missing": b"JWS is missing",
    "header_parameter_unsupported": b"JWS has an unsupported header parameter",
}


def assert_refused(response: Response, reason: str) -> None:
    """The answer of that reason, whole and exact."""
    expected = b'{ "httpCode":"500", "httpMessage":"Internal Error", "moreInformation":"' + TOLD[reason] + b'" }'
    assert (response.status, response.body) == (500, expected)


@pytest.fixture(scope="module")
def binding_gate(
    door: Door, home: Any, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate with the policy of this module."""
    files = write_files(tmp_path_factory.mktemp("bindings"), policy=POLICY)
    with gates.running(
        lambda port: gates.command(
            door, upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate
        alive = gate.process.poll() is None
    assert alive, gate.log()
    assert "Traceback" not in gate.log(), gate.log()


def chunked(body: bytes, size: int = 5000) -> bytes:
    """A body in chunks, the first one of a single octet."""
    cuts = [0, *range(1, len(body), size), len(body)]
    parts = [body[a:b] for a, b in itertools.pairwise(cuts) if b > a]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def send(gate: Gate, framing: str, path: str, headers: list[Header], body: bytes) -> Response:
    """One POST in the given framing."""
    if framing == "h2":
        lower: list[Header] = [(name.lower(), value) for name, value in headers]
        return h2_exchange(gate.port, "POST", path, lower, body)
    if framing == "chunked":
        headers = [*headers, ("Transfer-Encoding", "chunked")]
        return exchange(gate.port, "POST", path, headers, chunked(body))
    return exchange(gate.port, "POST", path, headers, body, tls=framing == "tls")


FRAMINGS = ["content-length", "tls", "chunked", "h2"]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("path", "sign", "_reason"), WAYS)
def test_good_body_arrives_as_it_was_signed(
    binding_gate: Gate, upstream: RecordingUpstream, path: str, sign: Signer, _reason: str, body: bytes, framing: str
) -> None:
    """However the body is framed, what was signed is what arrives."""
    response = send(binding_gate, framing, path, sign(path, body), body)
    assert (response.status, response.body) == (200, BODY)
    request = upstream.only_request()
    assert (request.method, request.target, request.body) == ("POST", path.encode(), body)


ALTERED: list[Any] = [
    pytest.param(lambda body: body + b"\n", id="longer"),
    pytest.param(lambda _body: b"", id="empty"),
    pytest.param(lambda body: body[:-1] + bytes([body[-1] ^ 1]), id="last-bit"),
    pytest.param(lambda body: body.replace(b"1", b"9"), id="amount"),
]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("alter", ALTERED)
@pytest.mark.parametrize(("path", "sign", "reason"), WAYS)
def test_altered_body_never_arrives(
    binding_gate: Gate,
    upstream: RecordingUpstream,
    path: str,
    sign: Signer,
    reason: str,
    alter: Callable[[bytes], bytes],
    framing: str,
) -> None:
    """One bit, one octet, or all of it: an altered body is refused, and the upstream hears nothing."""
    response = send(binding_gate, framing, path, sign(path, SOME_BODY), alter(SOME_BODY))
    assert_refused(response, reason)
    upstream.assert_untouched()


# Nothing before the decision


class Sender:
    """Sends one request in pieces."""

    def __init__(self, port: int, framing: str) -> None:
        self._framing = framing
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(validate_outbound_headers=False, header_encoding="latin-1")
        )
        if framing == "h2":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            plain = socket.create_connection(("127.0.0.1", port), timeout=10)
            self._wire: socket.socket = context.wrap_socket(plain, server_hostname=HOST)
        else:
            self._connection = Connection(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._framing == "h2":
            self._wire.close()
        else:
            self._connection.__exit__(kind, error, trace)

    def head(self, path: str, headers: list[Header], length: int) -> None:
        """Send the request up to its body."""
        if self._framing == "h2":
            pseudo = [(":method", "POST"), (":path", path), (":scheme", "https"), (":authority", HOST)]
            self._h2.initiate_connection()
            self._h2.send_headers(1, [*pseudo, *((name.lower(), value) for name, value in headers)])
            self._wire.sendall(self._h2.data_to_send())
            return
        framing: Header = ("Content-Length", str(length))
        if self._framing == "chunked":
            framing = ("Transfer-Encoding", "chunked")
        self._connection.send(request_octets("POST", path, [*headers, framing]))

    def part(self, octets: bytes, last: bool = False) -> None:
        """Send a piece of the body."""
        if self._framing == "h2":
            self._h2.send_data(1, octets, end_stream=last)
            self._wire.sendall(self._h2.data_to_send())
        elif self._framing == "chunked":
            self._connection.send(b"%x\r\n%s\r\n" % (len(octets), octets) + (b"0\r\n\r\n" if last else b""))
        else:
            self._connection.send(octets)

    def status(self) -> int:
        """The status of the answer."""
        if self._framing != "h2":
            return self._connection.read("POST").status
        while octets := self._wire.recv(1 << 16):
            for event in self._h2.receive_data(octets):
                if isinstance(event, h2.events.ResponseReceived):
                    return int(dict(event.headers)[":status"])
            self._wire.sendall(self._h2.data_to_send())
        raise NoResponse("closed")


@pytest.mark.parametrize("good", [True, False], ids=["good", "altered"])
@pytest.mark.parametrize("framing", ["content-length", "chunked", "h2"])
@pytest.mark.parametrize(("path", "sign", "_reason"), WAYS)
def test_no_octet_arrives_before_the_decision(
    binding_gate: Gate, upstream: RecordingUpstream, path: str, sign: Signer, _reason: str, framing: str, good: bool
) -> None:
    """A body that comes slowly is held back to its last octet, and goes on only when it is the signed one."""
    body = b"first part, " * 2000 + b"and its end"
    with Sender(binding_gate.port, framing) as sender:
        sender.head(path, sign(path, body), len(body))
        upstream.assert_untouched(0.1)
        for start in range(0, 15_000, 5000):
            sender.part(body[start : start + 5000])
            upstream.assert_untouched(0.05)
        sender.part(body[15_000:-1])
        upstream.assert_untouched(0.1)
        sender.part(body[-1:] if good else b"!", last=True)
        status = sender.status()
    if good:
        assert status == 200
        assert upstream.only_request().body == body
    else:
        assert status == 500
        upstream.assert_untouched()


@pytest.mark.parametrize("framing", ["content-length", "chunked", "h2"])
def test_body_that_ends_early_never_arrives(binding_gate: Gate, upstream: RecordingUpstream, framing: str) -> None:
    """A client that goes away in the middle of a body leaves nothing upstream, though the part be the signed one."""
    with Sender(binding_gate.port, framing) as sender:
        sender.head("/bound/7", bound("/bound/7", SOME_BODY), len(SOME_BODY) + 5)
        sender.part(SOME_BODY)
        time.sleep(0.05)
    upstream.assert_untouched(0.2)


def test_expect_continue(binding_gate: Gate, upstream: RecordingUpstream) -> None:
    """A client that waits to be asked for its body gets asked, and the upstream hears of it only afterwards."""
    headers = [*bound("/bound/7", SOME_BODY), ("Expect", "100-continue"), ("Content-Length", str(len(SOME_BODY)))]
    with Connection(binding_gate.port) as connection:
        connection.send(request_octets("POST", "/bound/7", headers))
        upstream.assert_untouched(0.2)
        connection.send(SOME_BODY)
        response = connection.read()
    assert (response.status, response.interim) == (200, [100])
    assert upstream.only_request().body == SOME_BODY


def test_compressed_body_is_signed_as_it_travels(binding_gate: Gate, upstream: RecordingUpstream) -> None:
    """The digest is that of the octets on the wire, whatever Content-Encoding says of them."""
    body = gzip.compress(SOME_BODY)
    encoding: list[Header] = [("Content-Encoding", "gzip")]
    response = exchange(binding_gate.port, "POST", "/bound/7", bound("/bound/7", body) + encoding, body)
    assert response.status == 200
    request = upstream.only_request()
    assert (request.body, request.values("content-encoding")) == (body, [b"gzip"])
    upstream.clear()
    response = exchange(binding_gate.port, "POST", "/bound/7", bound("/bound/7", SOME_BODY) + encoding, body)
    assert_refused(response, "binding_mismatch")
    upstream.assert_untouched()


# The rest of the request


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"htm": "PUT"}, "binding_mismatch", id="method"),
        pytest.param({"htm": "post"}, "binding_mismatch", id="method-case"),
        pytest.param({"htu": "https://api.example/bound/8"}, "binding_mismatch", id="path"),
        pytest.param({"htu": "https://api.example/bound/7?x=1"}, "binding_mismatch", id="query"),
        pytest.param({"htu": "http://api.example/bound/7"}, "binding_mismatch", id="scheme"),
        pytest.param({"htu": f"https://{HOST}/bound/7"}, "binding_mismatch", id="host-of-the-request"),
        pytest.param({"htm": None}, "claims_malformed", id="null"),
        pytest.param({"htm": ["POST"]}, "claims_malformed", id="list"),
        pytest.param({"body_hash": 5}, "claims_malformed", id="digest-number"),
        pytest.param({"body_hash": digest(SOME_BODY) + "="}, "claims_malformed", id="digest-padded"),
        pytest.param({"body_hash": digest(b"")}, "binding_mismatch", id="digest-of-nothing"),
    ],
)
def test_made_for_another_request(
    binding_gate: Gate, upstream: RecordingUpstream, claims: dict[str, Any], reason: str
) -> None:
    """A good JWS that was made for another request is refused."""
    headers = bound("/bound/7", SOME_BODY, **claims)
    assert_refused(exchange(binding_gate.port, "POST", "/bound/7?x=1", headers, SOME_BODY), reason)
    upstream.assert_untouched()


@pytest.mark.parametrize("name", ["htm", "htu", "body_hash"])
def test_unbound_jws(binding_gate: Gate, upstream: RecordingUpstream, name: str) -> None:
    """A JWS that lacks one of the bound claims is refused."""
    claims = {"htm": "POST", "htu": "https://api.example/bound/7", "body_hash": digest(SOME_BODY)}
    del claims[name]
    token = material.jws(KEYS[P256], material.default_claims(**claims))
    headers: list[Header] = [("X-IBM-Client-Id", P256), ("jwt", token)]
    assert_refused(exchange(binding_gate.port, "POST", "/bound/7", headers, SOME_BODY), "claim_missing")
    upstream.assert_untouched()


def test_escaped_path_is_bound_as_sent(binding_gate: Gate, upstream: RecordingUpstream) -> None:
    """The path in the claim is the one on the wire, escapes included."""
    claims = material.default_claims(htm="GET", p="/path/%61")
    headers: list[Header] = [("X-IBM-Client-Id", P256), ("jwt", material.jws(KEYS[P256], claims))]
    assert exchange(binding_gate.port, "GET", "/path/%61?x", headers).status == 200
    assert upstream.only_request().target == b"/path/%61?x"
    upstream.clear()
    assert_refused(exchange(binding_gate.port, "GET", "/path/a", headers), "binding_mismatch")
    upstream.assert_untouched()


def test_one_jws_for_one_body_only(binding_gate: Gate, upstream: RecordingUpstream) -> None:
    """On one connection, with the JWS in the cache: the same body passes again, another one does not."""
    headers = bound("/bound/7", SOME_BODY)
    with Connection(binding_gate.port) as connection:
        found = [
            connection.exchange("POST", "/bound/7", headers, body).status
            for body in (SOME_BODY, b"other", SOME_BODY, b"", SOME_BODY)
        ]
    assert found == [200, 500, 200, 500, 200]
    assert [request.body for request in upstream.requests] == [SOME_BODY] * 3


def test_request_without_a_body(binding_gate: Gate, upstream: RecordingUpstream) -> None:
    """No body is a body of no octets: its digest passes, another does not."""
    good, bad = bound("/bound/7", b"", "GET"), bound("/bound/7", SOME_BODY, "GET")
    assert exchange(binding_gate.port, "GET", "/bound/7", good).status == 200
    upstream.only_request()
    upstream.clear()
    assert_refused(exchange(binding_gate.port, "GET", "/bound/7", bad), "binding_mismatch")
    upstream.assert_untouched()


def test_bound_request_answered_by_the_gate(binding_gate: Gate, upstream: RecordingUpstream) -> None:
    """A route that answers the claims looks at the body's digest too."""
    claims = material.default_claims(d=digest(SOME_BODY))
    headers: list[Header] = [("X-IBM-Client-Id", P256), ("jwt", material.jws(KEYS[P256], claims))]
    good = exchange(binding_gate.port, "POST", "/answer", headers, SOME_BODY)
    assert (good.status, good.body) == (200, material.compact_json(claims))
    assert_refused(exchange(binding_gate.port, "POST", "/answer", headers, b"other"), "binding_mismatch")
    upstream.assert_untouched()


def test_pipelined_request_behind_a_bound_one(binding_gate: Gate, upstream: RecordingUpstream) -> None:
    """What follows a bound request in the same packet is judged for itself."""
    first = request_octets("POST", "/bound/7", bound("/bound/7", SOME_BODY), SOME_BODY)
    with Connection(binding_gate.port) as connection:
        connection.send(first + request_octets("GET", "/bound/8", [("X-IBM-Client-Id", P256)]))
        assert connection.read().status == 200
        with contextlib.suppress(NoResponse):
            assert_refused(connection.read(), "jws_missing")
    assert upstream.only_request().target == b"/bound/7"


# Detached JWS


@pytest.mark.parametrize(
    ("path", "make", "reason"),
    [
        pytest.param("/detached/7", signing_unencoded, "header_parameter_unsupported", id="b64-false-not-allowed"),
        pytest.param(
            "/detached/7",
            lambda _path, _body: [("X-IBM-Client-Id", RSA), ("x-jws-signature", material.jws(KEYS[RSA]))],
            "jws_malformed",
            id="attached",
        ),
        pytest.param(
            "/detached/7",
            lambda _path, body: [("X-IBM-Client-Id", RSA), ("x-jws-signature", detached(KEYS[P256], body))],
            None,
            id="other-key",
        ),
        pytest.param(
            "/detached/7",
            lambda _path, body: [("X-IBM-Client-Id", RSA), ("jwt", detached(KEYS[RSA], body))],
            "jws_missing",
            id="other-header",
        ),
        pytest.param(
            "/path/7",
            lambda _path, body: [("X-IBM-Client-Id", RSA), ("jwt", detached(KEYS[RSA], body))],
            None,
            id="route-not-detached",
        ),
        pytest.param(
            "/unencoded/7",
            lambda _path, body: [
                ("X-IBM-Client-Id", ED25519),
                ("x-jws-signature", _mixed(body)),
            ],
            "signature_mismatch",
            id="b64-false-over-the-encoded-body",
        ),
    ],
)
def test_bad_detached_jws(
    binding_gate: Gate, upstream: RecordingUpstream, path: str, make: Signer, reason: str | None
) -> None:
    """What is no detached JWS of this client over this body is refused; the reason is exact where there is one."""
    response = exchange(binding_gate.port, "POST", path, make(path, SOME_BODY), SOME_BODY)
    assert response.status == 500
    if reason is not None:
        assert_refused(response, reason)
    upstream.assert_untouched()


def _mixed(body: bytes) -> str:
    """A header that says `b64` false, and a signature over the base64url of the body."""
    first = material.b64url(material.compact_json({"alg": "EdDSA", "b64": False, "crit": ["b64"]}))
    text = first + "." + base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    return f"{first}..{material.b64url(material.signature(KEYS[ED25519], 'EdDSA', text.encode()))}"
