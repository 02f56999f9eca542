"""`jwsgate run` waits only so long for an upstream that says nothing, and as long as need be for one that goes on."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import HTTP_POLICY, credentials, write_files
from e2e.gates import Gate
from e2e.http_client import Connection, H2Connection, exchange, request_octets
from e2e.test_websocket import BINARY, ROUTE, accept, frame, handshake, read_frame
from e2e.upstream import RecordingUpstream, Wire

pytestmark = pytest.mark.e2e

ANY = "/orders/7"
LIMIT = 1
LATER = LIMIT + 2.5
"""Seconds after which what is to be cut is cut: the gate looks once a second."""


@contextlib.contextmanager
def gate_before(url: str, home: Path, directory: Path) -> Iterator[Gate]:
    """A sidecar that waits for its upstream for LIMIT seconds."""
    files = write_files(directory, policy=HTTP_POLICY)
    with gates.running(
        lambda port: gates.command(
            "jwsgate run",
            upstream=url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=[f"jwsgate_upstream_seconds={LIMIT}"],
        ),
        env=gates.environment(home),
        directory=files.directory,
        name="jwsgate run",
    ) as gate:
        yield gate
        assert "Traceback" not in gate.log(), gate.log()


@pytest.fixture(scope="module")
def patient_gate(
    home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """One before the recording upstream."""
    with gate_before(session_upstream.url, home, tmp_path_factory.mktemp("patient")) as gate:
        yield gate


@pytest.mark.parametrize("size", [0, 3, 100_000], ids=["bare", "held", "streamed"])
def test_no_answer(patient_gate: Gate, upstream: RecordingUpstream, size: int) -> None:
    """The client is told, over HTTP/1.1 and 2, and the upstream's connection is ended."""
    headers = [(name.lower(), value) for name, value in credentials()]
    cut: list[bool] = []

    def script(wire: Wire) -> None:
        wire.head()
        cut.append(wire.was_cut(LATER + 2))

    with upstream.scripted(script):
        with Connection(patient_gate.port, timeout=LATER + 2) as connection:
            connection.send(request_octets("POST", ANY, credentials(), b"x" * size))
            assert_rejected(connection.read("POST"), "backside")
        with H2Connection(patient_gate.port, timeout=LATER + 2) as h2_connection:
            stream = h2_connection.start("POST", ANY, headers, ends=not size)
            if size:
                h2_connection.send(stream, b"x" * size, ends=True)
            assert_rejected(h2_connection.read(stream), "backside")
    assert cut == [True, True]
    assert f"no answer from upstream: silent for {LIMIT} s" in patient_gate.log()
    assert exchange(patient_gate.port, "GET", ANY, credentials()).status == 200


def test_others_of_the_client_go_on(patient_gate: Gate, upstream: RecordingUpstream) -> None:
    """Of two requests of one HTTP/2 client, only the one that nobody answers is ended."""
    headers = [(name.lower(), value) for name, value in credentials()]

    def script(wire: Wire) -> None:
        if b"/silent" in wire.head():
            wire.was_cut(LATER + 2)
            return
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            time.sleep(0.8)
            wire.send(b"1\r\nx\r\n")
        wire.send(b"0\r\n\r\n")

    with upstream.scripted(script), H2Connection(patient_gate.port, timeout=LATER + 3) as connection:
        going_on = connection.start("GET", "/going-on", headers, ends=True)
        silent = connection.start("GET", "/silent", headers, ends=True)
        assert_rejected(connection.read(silent), "backside")
        assert connection.read(going_on).body == b"xxxxx"


def test_requests_that_wait_for_their_turn(patient_gate: Gate, upstream: RecordingUpstream) -> None:
    """mitmproxy opens five connections at a time for a client; the sixth request waits, however long that takes."""
    headers = [(name.lower(), value) for name, value in credentials()]

    def script(wire: Wire) -> None:
        wire.head()
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n")
        time.sleep(LATER)
        wire.send(b"0\r\n\r\n")

    with upstream.scripted(script), H2Connection(patient_gate.port, timeout=3 * LATER) as connection:
        streams = [connection.start("GET", ANY, headers, ends=True) for _ in range(6)]
        assert [connection.read(stream).status for stream in streams] == [200] * 6


def test_a_slow_answer_that_has_begun(patient_gate: Gate, upstream: RecordingUpstream) -> None:
    """Downloads and events may pause for longer than an answer may take to begin."""

    def script(wire: Wire) -> None:
        wire.head()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        time.sleep(LATER)
        wire.send(b"data: 2\n\n")

    with upstream.scripted(script):
        assert exchange(patient_gate.port, "GET", ANY, credentials()).body == b"data: 1\n\ndata: 2\n\n"


def test_each_request_has_its_own_time(patient_gate: Gate, upstream: RecordingUpstream) -> None:
    """On a kept connection the time of one request is not counted against the next."""

    def script(wire: Wire) -> None:
        with contextlib.suppress(ConnectionError):
            while wire.head():
                time.sleep(0.7 * LIMIT)
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with upstream.scripted(script), Connection(patient_gate.port, timeout=LATER) as connection:
        for _ in range(6):
            assert connection.exchange("GET", ANY, credentials()).body == b"ok"


def test_quiet_websockets(patient_gate: Gate, upstream: RecordingUpstream) -> None:
    """A WebSocket has been answered by its handshake, and may then be quiet."""

    def script(wire: Wire) -> None:
        accept(wire)
        wire.send(frame(read_frame(wire)[1], masked=False))

    with upstream.scripted(script), Connection(patient_gate.port, timeout=LATER) as connection:
        connection.send(request_octets("GET", ROUTE, [*credentials(), *handshake()]))
        assert connection.read().status == 101
        time.sleep(LATER)
        connection.send(frame(b"still there", masked=True))
        assert read_frame(connection) == (BINARY, b"still there")


def test_slow_upload(patient_gate: Gate, upstream: RecordingUpstream) -> None:
    """While the client still sends, the upstream is not expected to answer."""
    del upstream
    body = b"x" * 70_000
    head = [*credentials(), ("Content-Length", str(2 * len(body)))]
    with Connection(patient_gate.port, timeout=LATER) as connection:
        connection.send(request_octets("POST", ANY, head) + body)
        time.sleep(LATER)
        connection.send(body)
        assert connection.read().status == 200


def test_connection_not_accepted(home: Path, tmp_path: Path) -> None:
    """An upstream whose queue of connections is full, so that the system does not answer at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        with gate_before(f"http://127.0.0.1:{busy.getsockname()[1]}", home, tmp_path / "files") as gate:
            started = time.monotonic()
            with Connection(gate.port, timeout=LATER + 2) as connection:
                assert_rejected(connection.exchange("GET", ANY, credentials()), "backside")
            assert time.monotonic() - started > LIMIT, "the queue was not full"


def test_handshake_not_answered(home: Path, tmp_path: Path) -> None:
    """An upstream that takes the connection and says nothing of TLS; the next request of the client finds another."""
    headers = [(name.lower(), value) for name, value in credentials()]
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        gate_before(f"https://127.0.0.1:{mute.getsockname()[1]}", home, tmp_path / "files") as gate,
        H2Connection(gate.port, timeout=LATER + 2) as connection,
    ):
        assert_rejected(connection.read(connection.start("GET", ANY, headers, ends=True)), "backside")
        mute.accept()[0].close()
        connection.start("GET", ANY, headers, ends=True)
        mute.settimeout(5)
        mute.accept()[0].close()  # it is asked anew, and not told of the error before


def test_no_negative_times(home: Path, tmp_path: Path, session_upstream: RecordingUpstream) -> None:
    """A time below 0 is refused at start."""
    files = write_files(tmp_path / "files", policy=HTTP_POLICY)
    finished = gates.run_to_end(
        lambda port: gates.command(
            "jwsgate run",
            upstream=session_upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=["jwsgate_upstream_seconds=-1"],
        ),
        env=gates.environment(home),
        directory=tmp_path,
    )
    assert finished.returncode == 1
    assert "jwsgate_upstream_seconds is less than 0" in finished.output
