"""How a gate ends and reads its files anew: nothing that was begun is lost, and nothing passes meanwhile."""

from __future__ import annotations

import itertools
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

import material
from e2e.answers import assert_rejected
from e2e.estate import KEYS, P384, POLICY, Files, applications, credentials, write_files
from e2e.gates import Gate
from e2e.http_client import HOST, Connection, NoResponse, _connect, exchange, request_octets
from e2e.lifecycle_material import (
    LOAD_KINDS,
    LOAD_STATUSES,
    Load,
    assert_each_right,
    children,
    descriptors,
    ends,
    is_alive,
    resident_kib,
    send_signal,
    started,
    threads,
)
from e2e.upstream import BODY, Answer, RecordingUpstream

pytestmark = pytest.mark.e2e


@pytest.fixture(params=[1, 2], ids=["alone", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    """With and without a supervisor."""
    count: int = request.param
    return count


@pytest.fixture
def ending(home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int) -> Iterator[Gate]:
    """A gate that is to be ended by the test."""
    with started(home, upstream, write_files(tmp_path), "--no-watch", workers=workers) as gate:
        yield gate
    assert "Traceback" not in gate.log()


def begin_to_end(gate: Gate) -> None:
    """Ask the gate to end, and wait until it is at it."""
    send_signal(gate)
    gate.wait_for_log("stopping")
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", gate.port), timeout=1).close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < deadline, "still takes connections in"
        time.sleep(0.02)


def refuses_connections(gate: Gate) -> bool:
    """Whether nobody listens on its port any more."""
    try:
        socket.create_connection(("127.0.0.1", gate.port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


# Ending


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_request_in_flight_finishes(ending: Gate, upstream: RecordingUpstream, tls: bool) -> None:
    """Its answer comes whole, and says that the connection is not to be used again; new clients are refused."""
    with Connection(ending.port, tls=tls) as connection:
        with upstream.holding():
            connection.send(request_octets("GET", "/slow", credentials()))
            upstream.wait_for_requests(1)
            begin_to_end(ending)
            assert ending.process.poll() is None
        response = connection.read()
        assert (response.status, response.body) == (200, BODY)
        assert response.values("connection") == ["close"]
        assert connection.read_to_end() == b""
    assert ends(ending) == 0


def test_idle_connections_are_closed(ending: Gate, upstream: RecordingUpstream) -> None:
    """A kept connection without a request does not hold the end up."""
    with Connection(ending.port) as idle, Connection(ending.port, tls=True) as idle_tls:
        for each in (idle, idle_tls):
            assert each.exchange("GET", "/", credentials()).status == 200
        begin_to_end(ending)
        assert idle.read_to_end() == b""
        assert idle_tls.read_to_end() == b""
    assert ends(ending) == 0


def test_connected_a_moment_before(ending: Gate, upstream: RecordingUpstream) -> None:
    """Who was let in, and sends right away, is answered."""
    with Connection(ending.port) as connection:
        send_signal(ending)
        ending.wait_for_log("stopping")
        response = connection.exchange("GET", "/", credentials())
        assert (response.status, response.values("connection")) == (200, ["close"])
    assert ends(ending) == 0


def test_upload_under_way_finishes(ending: Gate, upstream: RecordingUpstream) -> None:
    """A body that is still being sent is taken to its end, and is whole at the upstream."""
    body = bytes(range(256)) * 4096
    octets = request_octets("POST", "/upload", credentials(), body)
    with Connection(ending.port) as connection:
        connection.send(octets[: len(octets) // 2])
        begin_to_end(ending)
        connection.send(octets[len(octets) // 2 :])
        response = connection.read("POST")
        assert (response.status, response.values("connection")) == (200, ["close"])
    assert upstream.only_request().body == body
    assert ends(ending) == 0


def test_download_under_way_finishes(ending: Gate, upstream: RecordingUpstream) -> None:
    """A client that reads slowly still gets all of it."""
    body = bytes(range(256)) * 65536
    upstream.answer_with(Answer(body=body))
    with Connection(ending.port, timeout=20) as connection:
        connection.send(request_octets("GET", "/download", credentials()))
        upstream.wait_for_requests(1)
        begin_to_end(ending)
        time.sleep(0.5)
        assert connection.read().body == body
    assert ends(ending) == 0


def test_denied_while_ending(ending: Gate, upstream: RecordingUpstream) -> None:
    """Whoever still gets in has to be allowed as ever."""
    with Connection(ending.port) as connection:
        send_signal(ending)
        ending.wait_for_log("stopping")
        assert_rejected(connection.exchange("GET", "/", credentials(token="x.y.z")), "jws_malformed")
    assert ends(ending) == 0
    upstream.assert_untouched()


@pytest.mark.parametrize("dripping", [False, True], ids=["silent", "dripping"])
def test_denied_and_unfinished(ending: Gate, upstream: RecordingUpstream, dripping: bool) -> None:
    """A denied request whose body does not come is answered, and does not keep the process from its end."""
    with Connection(ending.port) as connection, Connection(ending.port, timeout=4) as late:
        connection.send(request_octets("POST", "/orders/1", [("Content-Length", "60000")]))
        late.send(request_octets("POST", "/orders/1", [("Content-Length", "60000")]))
        time.sleep(0.3)
        begin_to_end(ending)
        while dripping and not connection.has_octets():
            connection.send(b"x")
            time.sleep(0.1)
        for each in (connection, late):
            assert_rejected(each.read(), "client_id_missing")
        assert ends(ending, 5) == 0
    upstream.assert_untouched()


def test_http2_streams(ending: Gate, upstream: RecordingUpstream) -> None:
    """On one connection, the stream in flight finishes and a new one is told to go elsewhere."""
    machine = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    pseudo = [(":method", "GET"), (":path", "/h2"), (":scheme", "https"), (":authority", HOST)]
    lower = [(name.lower(), str(value)) for name, value in credentials()]
    statuses: dict[int, str] = {}
    resets: dict[int, object] = {}
    finished: set[int] = set()
    with _connect(ending.port, True, 10, "h2") as wire:

        def pump(*until: int) -> None:
            while not set(until) <= finished | set(resets):
                octets = wire.recv(1 << 16)
                if not octets:
                    raise NoResponse(f"closed; {statuses} {resets}")
                for event in machine.receive_data(octets):
                    match event:
                        case h2.events.ResponseReceived():
                            statuses[event.stream_id] = str(dict(event.headers)[":status"])
                        case h2.events.StreamEnded():
                            finished.add(event.stream_id)
                        case h2.events.StreamReset():
                            resets[event.stream_id] = event.error_code
                        case _:
                            pass
                wire.sendall(machine.data_to_send())

        machine.initiate_connection()
        with upstream.holding():
            machine.send_headers(1, [*pseudo, *lower], end_stream=True)
            wire.sendall(machine.data_to_send())
            upstream.wait_for_requests(1)
            begin_to_end(ending)
            machine.send_headers(3, [*pseudo, *lower], end_stream=True)
            wire.sendall(machine.data_to_send())
            pump(3)
        pump(1)
    assert statuses == {1: "200"}
    assert resets == {3: h2.errors.ErrorCodes.REFUSED_STREAM}
    assert len(upstream.requests) == 1
    assert ends(ending) == 0


def test_deadline(home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int) -> None:
    """What does not finish in time is cut off; that too is an end as asked for."""
    with started(home, upstream, write_files(tmp_path), "--drain-seconds", "1", workers=workers) as gate:
        with Connection(gate.port) as connection, upstream.holding():
            connection.send(request_octets("GET", "/slow", credentials()))
            upstream.wait_for_requests(1)
            send_signal(gate)
            assert ends(gate) == 0
            with pytest.raises(NoResponse):
                connection.read()
        assert "requests in flight have 1 s to finish" in gate.log()
        assert "1 connections did not finish in time" in gate.log()
        assert "Traceback" not in gate.log()


def test_deadline_from_the_environment(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The variable is the option."""
    extra = {"JWSGATE_DRAIN_SECONDS": "3"}
    with started(home, upstream, write_files(tmp_path), extra=extra) as gate:
        send_signal(gate)
        assert ends(gate) == 0
        assert "have 3 s to finish" in gate.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(ending: Gate, upstream: RecordingUpstream, number: signal.Signals) -> None:
    """Who does not want to wait says so again."""
    with Connection(ending.port) as connection, upstream.holding():
        connection.send(request_octets("GET", "/slow", credentials()))
        upstream.wait_for_requests(1)
        send_signal(ending, number)
        ending.wait_for_log("stopping")
        assert ending.process.poll() is None
        send_signal(ending, number)
        assert ends(ending, 8) == 0


def test_web_socket_is_cut_at_the_deadline(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int
) -> None:
    """A WebSocket has no end of its own: it lives until the deadline, and no longer."""
    files = write_files(tmp_path, policy=POLICY.replace('path: "/**"\n', 'path: "/**"\n    websocket: true\n'))
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    upstream.answer_with(
        Answer(
            "101 Switching Protocols",
            [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ],
            b"",
        )
    )
    with started(home, upstream, files, "--drain-seconds", "2", workers=workers) as gate:
        with Connection(gate.port) as connection:
            connection.send(request_octets("GET", "/ws", [*credentials(), *upgrade, key]))
            assert connection.read().status == 101
            begin_to_end(gate)
            assert gate.process.poll() is None
            connection.send(b"\x81\x82\x00\x00\x00\x00hi")
            assert ends(gate) == 0
        assert "1 connections did not finish in time" in gate.log()


def test_signal_with_a_user_interface(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """mitmweb ends as it always did."""
    files = write_files(tmp_path)
    options = ["web_port=0", "web_open_browser=false"]
    with started(home, upstream, files, "--ui", "web", options=options) as gate:
        with Connection(gate.port) as connection:
            assert connection.exchange("GET", "/", credentials()).status == 200
            send_signal(gate)
            assert ends(gate) == 0
        assert "Traceback" not in gate.log()


# Reading the files anew

ONE_ROUTE = 'routes:\n  - {name: other, path: "/other/**"}\n'


def test_reload(ending: Gate, upstream: RecordingUpstream, workers: int) -> None:
    """SIGHUP puts what the files say now in force, and the log says from what to what."""
    files = Files(*(ending.directory.parent / name for name in ("", "portal.yaml", "policy.yaml")))
    assert exchange(ending.port, "GET", "/load/x", credentials()).status == 200
    files.policy.write_text(ONE_ROUTE)
    send_signal(ending, signal.SIGHUP)
    ending.wait_for_log("in force: read in", workers)
    for _ in range(4):
        assert_rejected(exchange(ending.port, "GET", "/load/x", credentials()), "route_unknown")
        assert exchange(ending.port, "GET", "/other/x", credentials()).status == 200
    send_signal(ending, signal.SIGHUP)
    ending.wait_for_log("nothing has changed", workers)


def test_reload_of_bad_files(ending: Gate, upstream: RecordingUpstream) -> None:
    """What was in force stays so, and what is wrong is in the log, once."""
    policy = ending.directory.parent / "policy.yaml"
    portal = ending.directory.parent / "portal.yaml"
    policy.write_text("routes:\n  - {path: /a, metods: [GET]}\n")
    portal.unlink()
    send_signal(ending, signal.SIGHUP)
    ending.wait_for_log("stays in force")
    ending.wait_for_log("portal.yaml: (file): does not exist")
    assert exchange(ending.port, "GET", "/load/x", credentials()).status == 200
    policy.write_text(ONE_ROUTE)
    portal.write_text(material.portal_yaml(applications()))
    send_signal(ending, signal.SIGHUP)
    ending.wait_for_log("in force: read in")
    assert ending.log().count("policy.yaml:2:") == 1
    assert ending.log().count("metods") == 1


def replace(path: Path, text: str) -> None:
    """Put a new file in the place of the old one, as whoever has a gate running should."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize(("workers", "count"), [(1, 1000), (2, 200)], ids=["alone", "two-workers"])
def test_a_thousand_reloads_under_load(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int, count: int
) -> None:
    """Three states of the files in turn, one of them bad, while clients go on: no request is lost or wrongly answered.

    One client's application is in one of the portals alone, so that it is allowed or unknown; all others are to
    be answered alike whatever is in force.
    """
    portals = [material.portal_yaml(applications()[:size]) for size in (2, 3)]
    files = write_files(tmp_path, portals[0])
    states = [(portals[0], POLICY), (portals[1], POLICY + ONE_ROUTE.partition("\n")[2]), (portals[0], "routes: 1\n")]
    token = material.jws(KEYS[P384], material.default_claims(jti="load"))
    kinds = {**LOAD_KINDS, "sometimes": lambda: [("X-IBM-Client-Id", P384), ("jwt", token)]}
    with started(home, upstream, files, "--no-watch", workers=workers) as gate:
        serving = children(gate.process.pid) if workers > 1 else [gate.process.pid]
        before: dict[int, tuple[int, int]] = {}
        with (
            (gate.directory / "stdout").open() as log,
            Load(gate.port, kinds, clients=2, pause=0.01) as tally,
        ):
            for number, (portal, policy) in enumerate(itertools.islice(itertools.cycle(states), count)):
                replace(files.portal, portal)
                replace(files.policy, policy)
                log.read()
                send_signal(gate, signal.SIGHUP)
                told, deadline = "", time.monotonic() + 20
                # Bad files are read by one worker alone.
                while told.count("reloaded, ") < (1 if policy == "routes: 1\n" else workers):
                    assert time.monotonic() < deadline, gate.log()[-3000:]
                    time.sleep(0.002)
                    told += log.read()
                if number == count // 4:
                    before = {each: (threads(each), resident_kib(each)) for each in serving}
            after = {each: (threads(each), resident_kib(each)) for each in serving}
        assert not tally.lost
        assert_each_right(tally, upstream, count, LOAD_STATUSES | {("sometimes", 200), ("sometimes", 401)})
        for each in serving:
            assert is_alive(each)
            assert after[each][0] <= before[each][0] + 1, "threads are left over"
            assert after[each][1] - before[each][1] < 10_000, f"memory grew: {before[each]} to {after[each]} KiB"
            assert descriptors(each) < 60
        assert gate.log().count("not reloaded, ") >= count // 4
        assert gate.log().count("in force: read in") >= count // 4
        assert "Traceback" not in gate.log()
