"""The replay store in Redis, against a real one: who was first, for how long, and what happens when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

import feature_material
from e2e.gates import free_port
from feature_material import NOW, Redis, running_redis, silent_server
from jwsgate.adapters.replay_redis import RedisReplayStore
from jwsgate.core.portal import ClientId
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.replay import ReplayKey, check_replay
from jwsgate.files.problems import Unfit

BOUND_SECONDS = 3.0
"""Within this a failing Redis must have shown as an exception; a request waits no longer."""
MARGIN_SECONDS = 4000
"""A use may be known for so much longer than its JWS, so that clocks may differ."""
FAR_END = 253_402_300_799  # 31 December 9999


@pytest.fixture(scope="module")
def shared() -> Iterator[Redis]:
    """A Redis for the tests that do not harm it."""
    with running_redis() as redis:
        yield redis


@pytest.fixture
def redis(shared: Redis) -> Redis:
    """It, with nothing in it."""
    assert shared.ask("FLUSHALL") == b"+OK\r\n"
    return shared


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisReplayStore]:
    """A store, closed in the end."""
    store = RedisReplayStore(url)
    try:
        yield store
    finally:
        await store.close()


def key(jti: str = "one", client_id: str = "client", expires: float = NOW + 60) -> ReplayKey:
    """A use of a JWS."""
    return ReplayKey(ClientId(client_id), jti, expires)


def uses(url: str, *keys: ReplayKey, now: float = NOW) -> list[bool]:
    """Whether each is the first use, one after another."""

    async def ask() -> list[bool]:
        async with opened(url) as store:
            return [await store.first_use(each, now) for each in keys]

    return asyncio.run(ask())


def failure(url: str) -> tuple[type[BaseException] | None, float]:
    """The exception of one use, and how long it took to come."""

    async def ask() -> tuple[type[BaseException] | None, float]:
        async with opened(url) as store:
            before = time.monotonic()
            try:
                await check_replay(store, key(), NOW)
            except Exception as error:
                return type(error), time.monotonic() - before
            return None, time.monotonic() - before

    return asyncio.run(ask())


def assert_fails_in_time(url: str) -> None:
    """A use ends in an exception that is no first use, and does so within the bound."""
    error, seconds = failure(url)
    assert error is not None
    assert not issubclass(error, Rejection)
    assert seconds < BOUND_SECONDS


# Uses


def test_first_and_later_uses(redis: Redis) -> None:
    """The first use is told from all later ones."""
    assert uses(redis.url, *[key()] * 4) == [True, False, False, False]


def test_each_jti_and_each_client_for_itself(redis: Redis) -> None:
    """Two clients may choose the same jti, and one client any number of them."""
    different = [key(), key("two"), key(client_id="other"), key("ne", "cliento"), key("ONE"), key("", "clientone")]
    assert uses(redis.url, *different) == [True] * len(different)
    assert uses(redis.url, *different) == [False] * len(different)
    assert len(redis.keys()) == len(different)


def test_keys_hold_no_client_text(redis: Redis) -> None:
    """Whoever reads the Redis sees digests: neither client IDs nor what clients chose as jti."""
    uses(redis.url, key("se cret\r\nFLUSHALL\r\n", "customer"), key("x" * 100_000))
    names = redis.keys()
    assert len(names) == 2
    assert all(re.fullmatch(r"jwsgate:use:[0-9a-f]{64}", name) for name in names)


def test_second_use_is_a_rejection(redis: Redis) -> None:
    """`check_replay` lets one through."""

    async def ask() -> Reason | None:
        async with opened(redis.url) as store:
            await check_replay(store, key(), NOW)
            try:
                await check_replay(store, key(), NOW)
            except Rejection as rejection:
                return rejection.reason
            return None

    assert asyncio.run(ask()) == Reason.JWS_REPLAYED


@pytest.mark.parametrize("late", [0, 5])
def test_use_at_or_after_the_end_is_refused(redis: Redis, late: float) -> None:
    """A JWS that expired while its body came in is refused: its first use may be forgotten by now."""

    async def ask() -> None:
        async with opened(redis.url) as store:
            await check_replay(store, key(expires=NOW), NOW + late)

    with pytest.raises(Rejection):
        asyncio.run(ask())


@pytest.mark.parametrize("lifetime", [0.001, 1, 59.5, 60, 86_400, FAR_END - NOW])
def test_key_lives_as_long_as_the_jws(redis: Redis, lifetime: float) -> None:
    """Redis forgets a use by itself after the end of its JWS: never before it, and not much later."""
    assert uses(redis.url, key(expires=NOW + lifetime)) == [True]
    (name,) = redis.keys()
    left = int(redis.ask("PTTL", name)[1:]) / 1000
    # What it took to ask is not more than a tenth of a second.
    assert lifetime - 0.1 < left < lifetime + MARGIN_SECONDS


@pytest.mark.parametrize("behind", [2, 5])
def test_gate_whose_clock_is_behind(redis: Redis, behind: float) -> None:
    """A gate whose clock is some seconds behind takes a JWS for good that has ended by the clock of the first one.

    Its use must be known as long as that lasts, or the JWS passes once more there.
    """
    assert uses(redis.url, key(expires=NOW + 1), now=NOW) == [True]
    (name,) = redis.keys()
    assert int(redis.ask("PTTL", name)[1:]) / 1000 > 1 + behind


def test_second_use_does_not_prolong_the_first(redis: Redis) -> None:
    """A refused use changes nothing: neither its own end nor anything else."""
    uses(redis.url, key(expires=NOW + 60), key(expires=NOW + 6000))
    (name,) = redis.keys()
    assert int(redis.ask("TTL", name)[1:]) < 60 + MARGIN_SECONDS


# Together


def test_of_many_at_once_one_is_first(redis: Redis) -> None:
    """Many uses at once, over many connections: exactly one is the first."""

    async def race() -> list[bool]:
        async with contextlib.AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(opened(redis.url)) for _ in range(4)]
            return await asyncio.gather(*(store.first_use(key(), NOW) for _ in range(15) for store in stores))

    assert Counter(asyncio.run(race())) == {True: 1, False: 59}


def test_two_gates_share_their_uses(redis: Redis) -> None:
    """What one gate let through, another one refuses, whatever their clocks say."""
    assert uses(redis.url, key(), now=NOW) == [True]
    assert uses(redis.url, key(), now=NOW + 30) == [False]
    assert uses(redis.url, key(), now=NOW - 3000) == [False]


def test_gates_race_for_the_first_use(redis: Redis) -> None:
    """Gates in threads of their own, each with its own event loop, over and over: one first use for each jti."""
    keys = [key(str(number)) for number in range(25)]
    found: list[list[bool]] = []
    start = threading.Barrier(4)

    def gate() -> None:
        start.wait(10)
        found.append(uses(redis.url, *keys))

    threads = [threading.Thread(target=gate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [sum(answers) for answers in zip(*found, strict=True)] == [1] * 25


def test_databases_are_separate(redis: Redis) -> None:
    """Gates that are to share nothing name different databases of one Redis."""
    assert uses(redis.url, key()) == [True]
    assert uses(redis.url.replace("/0", "/1"), key()) == [True]
    assert uses(redis.url, key()) == [False]


# Failures


def test_nobody_listens() -> None:
    """No Redis at all is an exception, and so a rejection."""
    assert_fails_in_time(f"redis://127.0.0.1:{free_port()}/0")


def test_silence() -> None:
    """A Redis that takes the connection and never answers is an exception within a bounded time."""
    with silent_server() as port:
        assert_fails_in_time(f"redis://127.0.0.1:{port}/0")


def test_full_backlog() -> None:
    """A host that does not even take the connection is an exception within a bounded time."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        assert_fails_in_time(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closes"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="http"),
        pytest.param(b"-ERR no\r\n", id="error"),
        pytest.param(b"-LOADING Redis is loading the dataset in memory\r\n", id="loading"),
        pytest.param(b"$-1", id="cut-short"),
        pytest.param(b"\x00\xff\r\n" * 9, id="garbage"),
    ],
)
def test_strange_answers(answer: bytes) -> None:
    """Whatever stands on that port and is no Redis, nothing it says is a first use."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    wire, _ = listener.accept()
                    with wire:
                        wire.settimeout(1)
                        wire.recv(4096)
                        wire.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        try:
            assert_fails_in_time(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        finally:
            stop.set()
            server.join(10)


def test_killed_redis_and_one_in_its_place() -> None:
    """While it is dead each use fails, through a connection that worked; a new one in its place is taken up."""

    async def ask(redis: Redis) -> None:
        async with opened(redis.url) as store:
            assert await store.first_use(key("before"), NOW)
            redis.kill()
            for number in range(3):
                before = time.monotonic()
                with pytest.raises((ConnectionError, OSError, _redis_error())):
                    await store.first_use(key(str(number)), NOW)
                assert time.monotonic() - before < BOUND_SECONDS

    with running_redis() as redis:
        asyncio.run(ask(redis))


def _redis_error() -> type[Exception]:
    from redis.exceptions import RedisError

    return RedisError


async def _failing(call: Callable[[], Awaitable[object]]) -> None:
    before = time.monotonic()
    with pytest.raises((OSError, _redis_error())):
        await call()
    assert time.monotonic() - before < BOUND_SECONDS


@contextlib.contextmanager
def stopped(redis: Redis) -> Iterator[None]:
    """The process stands still while the context lasts."""
    os.kill(redis.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(redis.process.pid, signal.SIGCONT)


def test_hanging_redis_that_comes_back() -> None:
    """A late answer belongs to the use that gave up waiting, and is never taken for another one's."""

    async def ask(redis: Redis) -> list[bool]:
        async with opened(redis.url) as store:
            assert await store.first_use(key("known"), NOW)
            with stopped(redis):
                # Their answers, when they come, would be a first use each.
                await asyncio.gather(*(_failing(lambda n=n: store.first_use(key(f"lost-{n}"), NOW)) for n in range(3)))
            return [await store.first_use(key("known"), NOW) for _ in range(6)]

    with running_redis() as redis:
        assert asyncio.run(ask(redis)) == [False] * 6


def test_cancelled_use_leaves_no_answer_behind() -> None:
    """The same when a task is cancelled while it waits: the connection is not used with an answer pending."""

    async def ask(redis: Redis) -> list[bool]:
        async with opened(redis.url) as store:
            assert await store.first_use(key("known"), NOW)
            for number in range(3):
                with stopped(redis):
                    task = asyncio.create_task(store.first_use(key(f"cancelled-{number}"), NOW))
                    await asyncio.sleep(0.05)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
            return [await store.first_use(key("known"), NOW) for _ in range(6)]

    with running_redis() as redis:
        assert asyncio.run(ask(redis)) == [False] * 6


def test_full_redis_refuses() -> None:
    """Without room and with `noeviction` a use cannot be remembered, and so is none."""
    with running_redis("--maxmemory", "1") as redis:
        assert_fails_in_time(redis.url)


def test_read_only_replica_refuses() -> None:
    """A replica takes no uses."""
    with running_redis() as redis:
        assert redis.ask("REPLICAOF", "127.0.0.1", str(free_port())) == b"+OK\r\n"
        assert_fails_in_time(redis.url)


def test_password() -> None:
    """The URL's password is used; a wrong one or none is an exception."""
    with running_redis("--requirepass", "right") as redis:
        assert uses(redis.url.replace("//", "//:right@"), key()) == [True]
        assert_fails_in_time(redis.url.replace("//", "//:wrong@"))
        assert_fails_in_time(redis.url)


def test_database_that_is_not_there(redis: Redis) -> None:
    """A database beyond the configured number is an exception, not database 0."""
    assert_fails_in_time(redis.url.replace("/0", "/99"))


# Making one


@pytest.mark.parametrize("url", ["", "memoryy", "http://127.0.0.1", "127.0.0.1:6379", "rediss//x"])
def test_what_is_no_redis_url(url: str) -> None:
    """A URL that names no Redis is told when the gate starts, not at the first request."""
    with pytest.raises(ValueError, match=r".+"):
        RedisReplayStore(url)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional package the message says what to install."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(Unfit) as caught:
        RedisReplayStore("redis://127.0.0.1/0")
    assert caught.value.remedy == "pip install 'jwsgate[redis]'"


def test_making_one_connects_to_nothing() -> None:
    """A gate starts while its Redis is still on its way."""

    async def make() -> None:
        async with opened(f"redis://127.0.0.1:{free_port()}/0"):
            pass

    asyncio.run(make())


# The tests' own means


def test_missing_program_skips_but_fails_where_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-server these tests are skipped with the package's name; in CI they fail instead."""
    monkeypatch.setattr(feature_material.shutil, "which", lambda _name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Debian package redis-server"):
        feature_material.redis_server()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="Debian package redis-server"):
        feature_material.redis_server()
