"""The service that proxies ask, in this process: what it answers, and to whom."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import stat
import time
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import material
from core_gate import application, certificate_of, good_claims, signed, snapshot_of
from jwsgate.adapters.accounts import Accounts
from jwsgate.adapters.check_server import CheckServer
from jwsgate.adapters.checking import Checker
from jwsgate.adapters.dialects import DIALECTS
from jwsgate.adapters.listening import CannotListen, bind
from jwsgate.adapters.state import GateState

KEY = material.private_key("p256")
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
SETS = frozenset({b"x-global-transaction-id"})


def good() -> str:
    """A JWS that is good by the real clock, which the service goes by."""
    now = int(time.time())
    return signed(KEY, good_claims(jti=os.urandom(8).hex(), iat=now, exp=now + 600))


type Ask = Callable[[bytes], Awaitable[bytes]]


class Service:
    """A server on a free port, and a connection to it."""

    def __init__(self, dialect: str = "nginx", **demands: Any) -> None:
        self.state = GateState()
        self.state.take_up(snapshot_of(application("client", certificate_of(KEY)), **demands))
        self.accounts = Accounts()
        self.checker = Checker(DIALECTS[dialect], SETS, self.state, self.accounts)
        self.dialect = DIALECTS[dialect]

    def run(self, job: Callable[[CheckServer, Ask], Awaitable[None]], **how: Any) -> None:
        """Run a job with the server, and with a function that sends octets on one connection and reads the answer."""

        async def main() -> None:
            sockets = bind(how.get("listen", ("127.0.0.1", 0)))
            server = CheckServer(self.checker, how.get("peers", LOOPBACK), sockets)
            await server.start()
            name = sockets[0].getsockname()
            if isinstance(name, str):
                reader, writer = await asyncio.open_unix_connection(name)
            else:
                reader, writer = await asyncio.open_connection(*name)

            async def ask(octets: bytes) -> bytes:
                writer.write(octets)
                answer = b""
                async with asyncio.timeout(5):
                    while b"\r\n\r\n" not in answer and (part := await reader.read(65536)):
                        answer += part
                return answer

            await job(server, ask)
            writer.close()
            await server.drain(0)

        asyncio.run(main())


async def wait_for(server: CheckServer) -> list[Any]:
    """The connections, once there are some."""
    while not server.connections:
        await asyncio.sleep(0)
    return list(server.connections)


def question(token: str | None, *more: str, target: str = "/protected") -> bytes:
    """As nginx asks."""
    lines = ["GET / HTTP/1.1", "Host: api", "X-Original-Method: GET", f"X-Original-URI: {target}"]
    lines += ["X-IBM-Client-Id: client"]
    lines += [f"jwt: {token}"] if token is not None else []
    return "\r\n".join([*lines, *more, "", ""]).encode()


def test_answers_on_one_connection() -> None:
    """Yes and no, one after the other, with the connection kept."""

    async def job(_server: CheckServer, ask: Ask) -> None:
        for _ in range(2):
            assert (await ask(question(good()))).startswith(b"HTTP/1.1 200 OK\r\n")
            assert (await ask(question(None))).startswith(b"HTTP/1.1 401 \r\n")

    Service().run(job)


def test_a_closed_connection_leaves_no_cycle() -> None:
    """The collector looks seldom, so that what a connection took must be free without it."""
    alive: list[weakref.ref[Any]] = []

    async def job(server: CheckServer, ask: Ask) -> None:
        alive.extend(map(weakref.ref, await wait_for(server)))
        assert b"200 OK" in await ask(question(good(), "Connection: close"))

    gc.collect()
    gc.disable()
    try:
        Service().run(job)
        assert [each() for each in alive] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("more", [[], ["X-Original-URI: /protected"], ["X-Forwarded-Uri: /protected"]])
def test_ingress_nginx_is_denied(dialect: str, more: list[str]) -> None:
    """Its `auth-url` speaks no dialect, and hands on what clients write into the headers of those; the log says so."""
    sent = [
        "GET /protected HTTP/1.1",
        "Host: jwsgate.jwsgate.svc.cluster.local",
        "X-Request-ID: 0123456789abcdef0123456789abcdef",
        "X-Original-URL: https://api.example/protected",
        "X-Original-Method: GET",
        "X-Sent-From: nginx-ingress-controller",
        "X-Real-IP: 10.0.0.1",
        "X-Forwarded-For: 10.0.0.1",
        "X-Auth-Request-Redirect: /protected",
        "X-IBM-Client-Id: client",
        f"jwt: {good()}",
    ]

    async def job(_server: CheckServer, ask: Ask) -> None:
        answer = await ask("\r\n".join([*sent, *more, "", ""]).encode())
        assert answer.startswith(b"HTTP/1.1 401 " if dialect == "nginx" else b"HTTP/1.1 400 ")
        assert b"request is ambiguous or malformed" in answer

    Service(dialect).run(job)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_others_may_say_who_sent_what(dialect: str) -> None:
    """Only what ingress-nginx says of itself is refused, however often others were let pass."""
    own = DIALECTS[dialect]
    told = [f"{own.method.decode()}: GET", f"{own.target.decode()}: /protected"] if own.method else []
    sent = ["GET /protected HTTP/1.1", "Host: api", *told, "X-IBM-Client-Id: client", f"jwt: {good()}"]

    async def job(_server: CheckServer, ask: Ask) -> None:
        for _ in range(2):
            answer = await ask("\r\n".join([*sent, "X-Sent-From: nginx", "", ""]).encode())
            assert answer.startswith(b"HTTP/1.1 200 ")
        answer = await ask("\r\n".join([*sent, "x-sent-from: nginx-ingress-controller", "", ""]).encode())
        assert not answer.startswith(b"HTTP/1.1 200 ")

    Service(dialect).run(job)


def test_question_in_pieces() -> None:
    """A question is whole when its end has come, wherever the network cut it."""

    async def job(server: CheckServer, ask: Ask) -> None:
        (connection,) = await wait_for(server)
        answers: list[bytes] = []
        connection._send = answers.append  # type: ignore[method-assign]
        octets = question(good())
        for at in range(len(octets)):
            assert answers == []
            connection.data_received(octets[at : at + 1])
        assert answers[0].startswith(b"HTTP/1.1 200 OK\r\n")

    Service().run(job)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"hello\r\n\r\n", id="no-http"),
        pytest.param(b"GET / HTTP/1.1\r\nX: \0\r\n\r\n", id="nul"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", id="length"),
        pytest.param(question("x" * 600_000), id="too-large"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n" + bytes(11_000_000), id="large-body"),
        pytest.param(question(None, "Connection: upgrade", "Upgrade: websocket"), id="upgrade"),
    ],
)
def test_garbage_is_denied(octets: bytes) -> None:
    """What is no question gets a denial or nothing, and the connection is over."""

    async def job(server: CheckServer, ask: Ask) -> None:
        answer = await ask(octets)
        assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403")) or not answer
        await asyncio.sleep(0.01)
        assert not server.connections

    Service().run(job)


def test_other_peers_get_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Only listed peers are answered, and the log says that there was another."""

    async def job(_server: CheckServer, ask: Ask) -> None:
        try:
            answer = await ask(question(good()))
        except ConnectionError:
            answer = b""
        assert answer == b""

    with caplog.at_level(logging.INFO):
        Service().run(job, peers=[ipaddress.ip_network("10.0.0.0/8")])
    assert "the peer is not one of --peers" in caplog.text


def test_unix_socket(tmp_path: Path) -> None:
    """A Unix socket has the permissions that were asked for; a stale one is replaced, one in use is not."""
    place = tmp_path / "check.sock"

    async def job(_server: CheckServer, ask: Ask) -> None:
        assert stat.S_IMODE(place.stat().st_mode) == 0o660
        assert (await ask(question(good()))).startswith(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(CannotListen, match=r"unix:.*in use"):
            bind(place)

    for _ in range(2):
        Service().run(job, listen=place)


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    """A file of another kind is not removed."""
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(CannotListen):
        bind(place)
    assert place.read_text() == "mine"


def test_a_socket_needs_its_folder(tmp_path: Path) -> None:
    """As /run/jwsgate, which only the systemd unit makes by itself."""
    with pytest.raises(CannotListen, match=r"No such file or directory \(make its folder first\)$"):
        bind(tmp_path / "jwsgate" / "check.sock")


class _Broken(Exception):
    """Raised by what stands in for a part that breaks."""


def _break(*_arguments: Any, **_named: Any) -> Any:
    raise _Broken


@pytest.mark.parametrize(
    "part",
    [
        "jwsgate.adapters.checking.decide",
        "jwsgate.adapters.checking.Tongue",
        "jwsgate.adapters.checking.new_transaction_id",
        "jwsgate.adapters.checking.Tongue.read",
        "jwsgate.adapters.checking.Tongue.allow",
        "jwsgate.adapters.accounts.Accounts.wants",
        "jwsgate.adapters.accounts.Accounts.decided",
    ],
)
def test_whatever_breaks_denies(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception anywhere on the way is a denial, and the service goes on."""
    service = Service()
    service.accounts.configure(str(tmp_path / "audit"), "info")  # without it, nobody is told of what is allowed

    async def job(_server: CheckServer, ask: Ask) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(part, _break)
            assert (await ask(question(good()))).startswith(b"HTTP/1.1 401 \r\n")

    async def again(_server: CheckServer, ask: Ask) -> None:
        assert (await ask(question(good()))).startswith(b"HTTP/1.1 200 OK\r\n")

    service.run(job)
    service.run(again)


@pytest.mark.parametrize(
    "fault", [_Broken(), asyncio.CancelledError(), TimeoutError()], ids=["exception", "cancelled", "timeout"]
)
def test_replay_store_that_breaks_denies(fault: BaseException) -> None:
    """When it cannot be told whether a jti was used, nothing passes."""
    service = Service(single_use=True)

    class Store:
        async def first_use(self, *_: Any) -> bool:
            raise fault

    service.state.replay_store = Store()

    async def job(_server: CheckServer, ask: Ask) -> None:
        assert (await ask(question(good()))).startswith(b"HTTP/1.1 401 \r\n")

    service.run(job)


def test_no_second_question_before_the_answer() -> None:
    """Two questions at once, the first of which waits for the replay store: nobody gets the other's answer."""
    service = Service(single_use=True)

    class Store:
        async def first_use(self, *_: Any) -> bool:
            await asyncio.sleep(0.05)
            return True

    service.state.replay_store = Store()

    async def job(_server: CheckServer, ask: Ask) -> None:
        assert b"200 OK" not in await ask(question(good()) + question(None))

    service.run(job)


def test_nothing_loaded_denies() -> None:
    service = Service()
    service.state.snapshot = None

    async def job(_server: CheckServer, ask: Ask) -> None:
        assert b"policy is not available" in await ask(question(good()))

    service.run(job)


def test_drain_answers_what_was_asked() -> None:
    """While it ends, a question under way is answered; nobody new is taken in, and what hangs is cut off in time."""
    service = Service(single_use=True)

    class Store:
        seconds = 0.05

        async def first_use(self, *_: Any) -> bool:
            await asyncio.sleep(self.seconds)
            return True

    service.state.replay_store = Store()

    async def job(server: CheckServer, ask: Ask) -> None:
        asking = asyncio.ensure_future(ask(question(good())))
        while not any(connection.busy for connection in server.connections):
            await asyncio.sleep(0)
        assert await server.drain(5) == 0
        assert (await asking).startswith(b"HTTP/1.1 200 OK\r\n")
        assert not server.is_listening

    async def hanging(server: CheckServer, ask: Ask) -> None:
        asking = asyncio.ensure_future(ask(question(good())))
        while not any(connection.busy for connection in server.connections):
            await asyncio.sleep(0)
        assert await server.drain(0.01) == 1
        assert b"200 OK" not in await asking

    service.run(job)
    Store.seconds = 60
    service.run(hanging)
