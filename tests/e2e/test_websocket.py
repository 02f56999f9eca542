"""WebSockets: only where the route says so, only after a true handshake, and without growth. At both doors."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
from pathlib import Path

import h2.exceptions
import pytest

import material
from e2e.answers import assert_rejected
from e2e.estate import RSA, credentials
from e2e.gates import Gate
from e2e.http_client import Connection, H2Connection, Header, NoResponse, exchange, request_octets
from e2e.upstream import RecordingUpstream, Wire

pytestmark = pytest.mark.e2e

ROUTE = "/socket/1"


def handshake(**changed: str | None) -> list[Header]:
    """The headers of a handshake (RFC 6455 section 4.1) but for what is changed or, by None, left out."""
    fields = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": base64.b64encode(os.urandom(16)).decode(),
        **changed,
    }
    return [(name.replace("_", "-"), value) for name, value in fields.items() if value is not None]


TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89
"""First octets of frames: the opcode, with the bit that says that the message ends here."""


def frame(payload: bytes, *, masked: bool, first: int = BINARY) -> bytes:
    """One frame; masked, as a client has to send it, with a key that changes nothing."""
    bit = 0x80 if masked else 0
    size = len(payload)
    lengths = bytes([bit | size]) if size < 126 else bytes([bit | 126]) + size.to_bytes(2)
    return bytes([first]) + lengths + (b"\0\0\0\0" if masked else b"") + payload


def read_frame(wire: Connection | Wire) -> tuple[int, bytes]:
    """First octet and payload of the next frame, from either side."""
    first, second = wire.exactly(2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(wire.exactly(2))
    key = wire.exactly(4) if second & 0x80 else bytes(4)
    payload = wire.exactly(size)
    return first, bytes(octet ^ key[at % 4] for at, octet in enumerate(payload))


def accept(wire: Wire) -> None:
    """Play the server's part of the handshake."""
    head = wire.head()
    (key,) = (line.partition(b": ")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n")
    wire.send(b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n")


def echo(wire: Wire) -> None:
    """A WebSocket server that greets, then sends back what it gets."""
    accept(wire)
    wire.send(frame(b"hello", masked=False, first=TEXT))
    while True:
        first, payload = read_frame(wire)
        wire.send(frame(payload, masked=False, first=first))
        if first == CLOSE:
            return


def resident(gate: Gate) -> int:
    """The gate's memory in octets."""
    status = Path(f"/proc/{gate.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_frames_pass_both_ways(http_gate: Gate, upstream: RecordingUpstream, tls: bool) -> None:
    """The handshake goes through on a route that allows it, then text, octets, fragments and pings do."""
    with upstream.scripted(echo), Connection(http_gate.port, tls=tls) as connection:
        response = connection.exchange("GET", ROUTE, [*credentials(), *handshake()])
        assert response.status == 101
        assert response.value("X-Global-Transaction-ID")
        assert read_frame(connection) == (TEXT, b"hello")
        for first, payload in (
            (TEXT, b"text"),
            (BINARY, bytes(range(256))),
            (BINARY, b""),
            (PING, b"ping"),
            (BINARY, b"x" * 60_000),
        ):
            connection.send(frame(payload, masked=True, first=first))
            assert read_frame(connection) == (first, payload)
        connection.send(frame(b"ab", masked=True, first=TEXT & 0x7F) + frame(b"cd", masked=True, first=0x80))
        assert [read_frame(connection) for _ in range(2)] == [(TEXT & 0x7F, b"ab"), (0x80, b"cd")]
        connection.send(frame((1000).to_bytes(2), masked=True, first=CLOSE))
        assert read_frame(connection)[0] == CLOSE
        assert connection.is_closed()


def test_frames_in_the_same_packet(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """Frames sent right behind the handshake are not lost, and make no request."""
    with upstream.scripted(echo), Connection(http_gate.port) as connection:
        hidden = request_octets("GET", "/smuggled", [])
        connection.send(request_octets("GET", ROUTE, [*credentials(), *handshake()]) + frame(hidden, masked=True))
        assert connection.read().status == 101
        assert read_frame(connection) == (TEXT, b"hello")
        assert read_frame(connection) == (BINARY, hidden)


def test_messages_are_not_kept(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """Forty megabytes in messages through one WebSocket leave no trace in the sidecar's memory."""
    if http_gate.door != "jwsgate run":
        pytest.skip("mitmdump keeps all messages of a flow")
    with upstream.scripted(echo), Connection(http_gate.port) as connection:
        assert connection.exchange("GET", ROUTE, [*credentials(), *handshake()]).status == 101
        read_frame(connection)
        before = 0
        for number in range(1000):
            connection.send(frame(os.urandom(20_000), masked=True))
            connection.exactly(20_004)
            if number == 50:
                before = resident(http_gate)
        assert resident(http_gate) - before < 8 * 1024 * 1024


REFUSED = [
    pytest.param("/orders/1", handshake(), id="other-route"),
    pytest.param(ROUTE, handshake(Upgrade="foo"), id="other-protocol"),
    pytest.param(ROUTE, handshake(Upgrade="h2c"), id="h2c"),
    pytest.param(ROUTE, handshake(Upgrade="websocket, foo"), id="websocket-or-foo"),
    pytest.param(ROUTE, [*handshake(), ("Upgrade", "foo")], id="second-upgrade"),
    pytest.param(ROUTE, handshake(Connection="Upgrade, jwt"), id="connection-names-more"),
    pytest.param(ROUTE, handshake(Connection=None), id="no-connection"),
    pytest.param(ROUTE, handshake(Connection="close"), id="connection-close"),
    pytest.param(ROUTE, handshake(Upgrade=None), id="no-upgrade"),
    pytest.param(ROUTE, [*handshake(), ("Content-Length", "0")], id="content-length"),
    pytest.param(ROUTE, [*handshake(), ("Transfer-Encoding", "chunked")], id="chunked"),
]


@pytest.mark.parametrize(("path", "headers"), REFUSED)
def test_other_upgrades_are_refused(
    http_gate: Gate, upstream: RecordingUpstream, path: str, headers: list[Header]
) -> None:
    """Any other upgrade, and any on another route, ends at the gate."""
    assert_rejected(exchange(http_gate.port, "GET", path, [*credentials(), *headers]), "request_unsafe")
    upstream.assert_untouched()


def test_other_methods_are_refused(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """A handshake is a GET."""
    for method in ("POST", "PUT", "OPTIONS"):
        assert_rejected(exchange(http_gate.port, method, ROUTE, [*credentials(), *handshake()]), "request_unsafe")
    upstream.assert_untouched()


def test_handshake_needs_a_jws(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """A handshake is decided like any other request."""
    stranger = credentials(RSA, material.jws(material.private_key("rsa", "stranger")))
    assert_rejected(exchange(http_gate.port, "GET", ROUTE, [*stranger, *handshake()]), "signature_mismatch")
    assert_rejected(exchange(http_gate.port, "GET", ROUTE, handshake()), "client_id_missing")
    upstream.assert_untouched()


@pytest.mark.parametrize("version", ["8", "12", "14", "013", "", None])
def test_other_versions_make_no_tunnel(http_gate: Gate, upstream: RecordingUpstream, version: str | None) -> None:
    """With a version that mitmproxy would not treat as a WebSocket, an upstream's 101 is cut off."""
    cut = threading.Event()

    def script(wire: Wire) -> None:
        accept(wire)
        wire.send(frame(b"free", masked=False))
        if wire.was_cut():
            cut.set()

    with upstream.scripted(script), Connection(http_gate.port) as connection:
        headers = handshake(Sec_WebSocket_Version=version)
        connection.send(request_octets("GET", ROUTE, [*credentials(), *headers]))
        answer = connection.read_to_end()
        assert not answer.startswith((b"HTTP/1.1 1", b"HTTP/1.1 2"))
        assert b"free" not in answer
        if upstream.connections:
            assert cut.wait(5)


@pytest.mark.parametrize("upgrade", [b"foo", b"h2c", b"websocket, foo", b""])
def test_upstream_that_upgrades_to_something_else(http_gate: Gate, upstream: RecordingUpstream, upgrade: bytes) -> None:
    """An upstream that answers a handshake with another protocol is cut off."""
    cut = threading.Event()

    def script(wire: Wire) -> None:
        wire.head()
        wire.send(b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n\r\nfree")
        if wire.was_cut():
            cut.set()

    with upstream.scripted(script), Connection(http_gate.port) as connection:
        connection.send(request_octets("GET", ROUTE, [*credentials(), *handshake()]))
        answer = connection.read_to_end()
        assert b"free" not in answer
        assert not answer.startswith(b"HTTP/1.1 1")
        assert cut.wait(5)


def test_upstream_that_refuses(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """An upstream may answer a handshake with something else, and the connection goes on as HTTP."""

    def script(wire: Wire) -> None:
        wire.head()
        wire.send(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
        wire.head()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with upstream.scripted(script), Connection(http_gate.port) as connection:
        assert connection.exchange("GET", ROUTE, [*credentials(), *handshake()]).status == 426
        assert connection.exchange("GET", ROUTE, credentials()).body == b"ok"
        assert_rejected(connection.exchange("GET", ROUTE, []), "client_id_missing")


def test_h2_opens_none(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """HTTP/2 has no Upgrade; an extended CONNECT (RFC 8441) opens nothing either."""
    lower = [(name.lower(), value) for name, value in credentials()]
    with (
        contextlib.suppress(NoResponse, OSError, h2.exceptions.ProtocolError),
        H2Connection(http_gate.port, timeout=2) as connection,
    ):
        upgrade = [(name.lower(), value) for name, value in handshake()]
        assert connection.read(connection.start("GET", ROUTE, [*lower, *upgrade], ends=True)).status >= 400
    with (
        contextlib.suppress(NoResponse, OSError, h2.exceptions.ProtocolError),
        H2Connection(http_gate.port, timeout=2) as connection,
    ):
        stream = connection.start("CONNECT", ROUTE, [(":protocol", "websocket"), *lower])
        assert connection.read(stream).status >= 400
    upstream.assert_untouched()
