"""A JWS that is good once, at both doors: in the memory of one gate, and in a Redis that gates share."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import material
from e2e import gates
from e2e.estate import ED25519, KEYS, P256, TWO_CREDENTIALS, Files, write_files
from e2e.gates import DOORS, Door, Gate
from e2e.http_client import Connection, Header, Response, exchange, h2_exchange, request_octets
from e2e.upstream import BODY, RecordingUpstream
from feature_material import Redis, running_redis, silent_server

pytestmark = pytest.mark.e2e

POLICY = """\
routes:
  - path: /once/**
    single_use: true
  - path: /again/**
    single_use: true
  - path: /bound/**
    single_use: true
    bind: {method: htm, body: {claim: d}}
  - path: /leeway/**
    single_use: true
    claims: {leeway: 3}
  - path: /answer
    single_use: true
    respond: claims
  - path: /lax/**
"""
REPLAYED = b'{ "httpCode":"500", "httpMessage":"Internal Error", "moreInformation":"JWS has been used before" }'
SOME_BODY = b'{"amount":1}'


def credentials(client_id: str = ED25519, **claims: Any) -> list[Header]:
    """The headers of a good request whose jti nobody has used, unless it is told."""
    members = material.default_claims(**{"jti": secrets.token_hex(8), **claims})
    return [("X-IBM-Client-Id", client_id), ("jwt", material.jws(KEYS[client_id], members))]


def assert_replayed(response: Response) -> None:
    """The answer to a JWS that was used before, whole and exact."""
    assert (response.status, response.body) == (500, REPLAYED)


@contextlib.contextmanager
def started(
    door: Door, home: Path, files: Files, upstream: RecordingUpstream, store: str | None = None
) -> Iterator[Gate]:
    """A gate with these files and, unless it is memory, this store."""
    options = [] if store is None else [f"jwsgate_replay_store={store}"]
    with gates.running(
        lambda port: gates.command(
            door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy, options=options
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate
        alive = gate.process.poll() is None
    assert alive, gate.log()
    assert "Traceback" not in gate.log(), gate.log()


@pytest.fixture(scope="module")
def replay_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of all gates of this module."""
    return write_files(tmp_path_factory.mktemp("replay"), policy=POLICY)


@pytest.fixture(scope="module")
def once_gate(door: Door, home: Path, replay_files: Files, session_upstream: RecordingUpstream) -> Iterator[Gate]:
    """A gate that remembers in its memory."""
    with started(door, home, replay_files, session_upstream) as gate:
        yield gate


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[Redis]:
    """A Redis that lives as long as the module's tests."""
    with running_redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def redis_gates(
    shared_redis: Redis, home: Path, replay_files: Files, session_upstream: RecordingUpstream
) -> Iterator[list[Gate]]:
    """One gate of each door, both with that Redis."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(started(door, home, replay_files, session_upstream, shared_redis.url)) for door in DOORS
        ]


def race(ports: Sequence[int], headers: list[Header], count: int) -> Counter[int]:
    """The statuses of many uses at once, each on a connection of its own, spread over gates."""
    statuses: list[int] = []
    barrier = threading.Barrier(count)

    def use(port: int) -> None:
        with Connection(port) as connection:
            barrier.wait(10)
            statuses.append(connection.exchange("POST", "/once/race", headers, b"x").status)

    threads = [threading.Thread(target=use, args=(ports[number % len(ports)],)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return Counter(statuses)


# In memory


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_second_use_is_refused(once_gate: Gate, upstream: RecordingUpstream, tls: bool) -> None:
    """The first use arrives, the second and third do not, on the same connection or another."""
    headers = credentials()
    with Connection(once_gate.port, tls=tls) as connection:
        response = connection.exchange("GET", "/once/1", headers)
        assert (response.status, response.body) == (200, BODY)
        upstream.only_request()
        upstream.clear()
        assert_replayed(connection.exchange("GET", "/once/1", headers))
    assert_replayed(exchange(once_gate.port, "GET", "/once/1", headers))
    upstream.assert_untouched()
    once_gate.wait_for_log("rejected: jws_replayed")


def test_second_use_by_h2(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """Over HTTP/2, with a body that comes without a length, a JWS is good once too."""
    headers: list[Header] = [(name.lower(), value) for name, value in credentials()]
    assert h2_exchange(once_gate.port, "POST", "/once/1", headers, SOME_BODY).status == 200
    assert upstream.only_request().body == SOME_BODY
    upstream.clear()
    assert_replayed(h2_exchange(once_gate.port, "POST", "/once/1", headers, SOME_BODY))
    upstream.assert_untouched()


def test_each_jws_is_good_once(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """Other JWS pass, also with the same jti when they are another client's; with the same client's they do not."""
    jti = secrets.token_hex(8)
    for headers in (credentials(jti=jti), credentials(P256, jti=jti), credentials()):
        assert exchange(once_gate.port, "GET", "/once/1", headers).status == 200
    assert len(upstream.requests) == 3
    upstream.clear()
    assert_replayed(exchange(once_gate.port, "GET", "/once/1", credentials(jti=jti, order=5)))
    upstream.assert_untouched()


def test_client_ids_of_one_application_share_their_uses(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """A use counts for the application: its other client ID does not let the same JWS through again."""
    token = material.jws(KEYS[TWO_CREDENTIALS[0]], material.default_claims(jti=secrets.token_hex(8)))
    statuses = [
        exchange(once_gate.port, "GET", "/once/1", [("X-IBM-Client-Id", client_id), ("jwt", token)]).status
        for client_id in (*TWO_CREDENTIALS, *TWO_CREDENTIALS)
    ]
    assert statuses == [200, 500, 500, 500]
    assert len(upstream.requests) == 1


def test_used_on_one_route_is_used_on_all(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """A use counts wherever it was made; routes without `single_use` neither make one nor ask."""
    headers = credentials()
    found = [
        exchange(once_gate.port, "GET", path, headers).status
        for path in ("/lax/1", "/lax/1", "/once/1", "/again/1", "/once/1", "/lax/1")
    ]
    assert found == [200, 200, 200, 500, 500, 200]
    assert [request.target for request in upstream.requests] == [b"/lax/1", b"/lax/1", b"/once/1", b"/lax/1"]


def test_of_twenty_at_once_one_passes(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """However the uses race, exactly one arrives upstream."""
    for _ in range(3):
        upstream.clear()
        assert race([once_gate.port], credentials(), 20) == {200: 1, 500: 19}
        upstream.only_request()


def test_claims_are_answered_once(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """A route that answers the claims itself counts uses too."""
    headers = credentials()
    assert exchange(once_gate.port, "GET", "/answer", headers).status == 200
    assert_replayed(exchange(once_gate.port, "GET", "/answer", headers))
    upstream.assert_untouched()


def test_refused_for_another_reason_is_not_used(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """Neither an altered body, nor another method, client, route or spelling burns a JWS for its rightful use."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(SOME_BODY).digest()).rstrip(b"=").decode()
    headers = credentials(htm="POST", d=digest)
    ((_, client_id), (_, token)) = headers
    attempts: list[tuple[str, str, list[Header], bytes]] = [
        ("POST", "/bound/1", headers, b"altered"),
        ("PUT", "/bound/1", headers, SOME_BODY),
        ("POST", "/bound/../1", headers, SOME_BODY),
        ("POST", "/bound/1", [*headers, ("jwt", token)], SOME_BODY),
        ("POST", "/bound/1", [*headers, ("Upgrade", "x")], SOME_BODY),
        ("POST", "/bound/1", [("X-IBM-Client-Id", P256), ("jwt", token)], SOME_BODY),
        ("POST", "/bound/1", [("X-IBM-Client-Id", client_id), ("jwt", material.altered(str(token), -1))], SOME_BODY),
        ("POST", "/unknown", headers, SOME_BODY),
    ]
    for method, path, sent, body in attempts:
        assert exchange(once_gate.port, method, path, sent, body).status >= 400, (method, path)
    upstream.assert_untouched()
    assert exchange(once_gate.port, "POST", "/bound/1", headers, SOME_BODY).status == 200
    assert upstream.only_request().body == SOME_BODY
    assert_replayed(exchange(once_gate.port, "POST", "/bound/1", headers, SOME_BODY))


def test_upload_given_up_is_not_used(once_gate: Gate, upstream: RecordingUpstream) -> None:
    """A body that never came to its end has used nothing up."""
    headers = credentials()
    with Connection(once_gate.port) as connection:
        connection.send(request_octets("POST", "/once/1", [*headers, ("Content-Length", "10")], b"half"))
        time.sleep(0.1)
    upstream.assert_untouched(0.1)
    assert exchange(once_gate.port, "POST", "/once/1", headers, b"x" * 10).status == 200


@pytest.mark.parametrize(("path", "leeway"), [("/once/1", 0), ("/leeway/1", 3)], ids=["without-leeway", "with-leeway"])
def test_slow_body_does_not_outlive_the_memory(
    once_gate: Gate, upstream: RecordingUpstream, path: str, leeway: int
) -> None:
    """A second use whose headers came before exp, and whose body ends after it, is refused.

    By then the store has forgotten the first use, as a JWS that has expired cannot be used any more.
    """
    exp = int(time.time()) + 3
    headers = credentials(exp=exp)
    assert exchange(once_gate.port, "POST", path, headers, b"x").status == 200
    upstream.only_request()
    upstream.clear()
    with Connection(once_gate.port) as connection:
        connection.send(request_octets("POST", path, [*headers, ("Content-Length", "2")], b"x"))
        time.sleep(max(0.0, exp + leeway + 0.3 - time.time()))
        connection.send(b"y")
        assert connection.read().status == 500
    upstream.assert_untouched()


# In a Redis


def test_gates_share_uses(redis_gates: list[Gate], upstream: RecordingUpstream) -> None:
    """What one gate let through, the other one refuses, in either direction."""
    for first, second in (redis_gates, redis_gates[::-1]):
        upstream.clear()
        headers = credentials()
        assert exchange(first.port, "GET", "/once/1", headers).status == 200
        upstream.only_request()
        upstream.clear()
        assert_replayed(exchange(second.port, "GET", "/once/1", headers))
        assert_replayed(exchange(first.port, "GET", "/once/1", headers))
        upstream.assert_untouched()


def test_gates_race_for_one_use(redis_gates: list[Gate], upstream: RecordingUpstream) -> None:
    """Twenty uses at once over two gates: exactly one arrives."""
    for _ in range(3):
        upstream.clear()
        assert race([gate.port for gate in redis_gates], credentials(), 20) == {200: 1, 500: 19}
        upstream.only_request()


def test_redis_is_asked_for_single_use_only(
    redis_gates: list[Gate], shared_redis: Redis, upstream: RecordingUpstream
) -> None:
    """Neither a route without `single_use` nor a refused request leaves anything in Redis."""
    shared_redis.ask("FLUSHALL")
    gate = redis_gates[0]
    assert exchange(gate.port, "GET", "/lax/1", credentials()).status == 200
    assert exchange(gate.port, "GET", "/bound/1", credentials(htm="PUT", d="x")).status == 500
    assert exchange(gate.port, "GET", "/once/1", [("X-IBM-Client-Id", ED25519), ("jwt", "a.b.c")]).status == 500
    assert shared_redis.keys() == []
    assert exchange(gate.port, "GET", "/once/1", credentials()).status == 200
    assert len(shared_redis.keys()) == 1


def test_killed_redis(door: Door, home: Path, replay_files: Files, upstream: RecordingUpstream) -> None:
    """Without its Redis a gate refuses every single use and nothing else, and goes on when there is one again."""
    with running_redis() as redis, started(door, home, replay_files, upstream, redis.url) as gate:
        assert exchange(gate.port, "GET", "/once/1", credentials()).status == 200
        redis.kill()
        upstream.clear()
        for path in ("/once/1", "/again/1", "/answer", "/once/1"):
            response = exchange(gate.port, "GET", path, credentials())
            assert response.status == 500
            assert b"httpCode" in response.body
        upstream.assert_untouched()
        assert exchange(gate.port, "GET", "/lax/1", credentials()).status == 200
        upstream.clear()
        with running_redis(at=redis.port):
            headers = credentials()
            assert exchange(gate.port, "GET", "/once/1", headers).status == 200
            upstream.only_request()
            assert_replayed(exchange(gate.port, "GET", "/once/1", headers))


def test_redis_that_was_never_there(door: Door, home: Path, replay_files: Files, upstream: RecordingUpstream) -> None:
    """A gate whose Redis is missing from the start refuses every single use."""
    with started(door, home, replay_files, upstream, f"redis://127.0.0.1:{gates.free_port()}/0") as gate:
        for _ in range(3):
            assert exchange(gate.port, "GET", "/once/1", credentials()).status == 500
        upstream.assert_untouched()
        assert exchange(gate.port, "GET", "/lax/1", credentials()).status == 200


def test_silent_redis(door: Door, home: Path, replay_files: Files, upstream: RecordingUpstream) -> None:
    """A Redis that never answers: single uses are refused in bounded time, and nobody else waits for them."""
    with (
        silent_server() as port,
        started(door, home, replay_files, upstream, f"redis://127.0.0.1:{port}/0") as gate,
        Connection(gate.port) as slow,
    ):
        begun = time.monotonic()
        slow.send(request_octets("GET", "/once/1", credentials()))
        time.sleep(0.1)
        assert exchange(gate.port, "GET", "/lax/1", credentials()).status == 200
        assert time.monotonic() - begun < 0.9
        upstream.only_request()
        upstream.clear()
        assert slow.read().status == 500
        assert time.monotonic() - begun < 4
        upstream.assert_untouched()


@pytest.mark.parametrize("store", ["redis", "http://127.0.0.1:6379/0", "Memory", "memcached://127.0.0.1"])
def test_store_that_is_none(
    door: Door, home: Path, replay_files: Files, upstream: RecordingUpstream, tmp_path: Path, store: str
) -> None:
    """A store that cannot be one is told at the start, and the gate does not start."""
    finished = gates.run_to_end(
        lambda port: gates.command(
            door,
            upstream=upstream.url,
            port=port,
            portal=replay_files.portal,
            policy=replay_files.policy,
            options=[f"jwsgate_replay_store={store}"],
        ),
        env=gates.environment(home),
        directory=tmp_path,
    )
    assert finished.returncode == 1
    assert "jwsgate_replay_store" in finished.output
    upstream.assert_untouched()
