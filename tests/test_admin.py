"""The admin port, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from jwsgate.adapters.admin import AdminServer

EXPOSITION = b"# HELP a b\n# TYPE a counter\na_total 1.0\n"


@dataclass
class Estate:
    """What the port asks, and what it said."""

    missing: Sequence[str] = ()
    exposition: Callable[[], bytes] = field(default=lambda: EXPOSITION)
    host: str = "127.0.0.1"
    server: AdminServer = field(init=False)

    async def exchange(self, octets: bytes, *, then_close: bool = False) -> bytes:
        """Send octets on a connection of its own, and read to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.address[1])
        try:
            writer.write(octets)
            if then_close:
                writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def get(self, path: str, method: str = "GET", *headers: str, host: str = "127.0.0.1:9") -> tuple[int, bytes]:
        """Status and body."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
        head, _, body = (await self.exchange("\r\n".join(lines).encode("latin-1"))).partition(b"\r\n\r\n")
        self.head = head.decode()
        return int(head.split()[1]), body


def within(estate: Estate, test: Callable[[Estate], Awaitable[None]]) -> None:
    """Run a test against the open port."""

    faults: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        estate.server = AdminServer(estate.host, 0, lambda: estate.missing, estate.exposition)
        await estate.server.start()
        try:
            await test(estate)
        finally:
            await estate.server.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(asyncio.wait_for(run(), 60))
    assert faults == []


def test_what_is_served() -> None:
    """Metrics, life and readiness; a query changes nothing."""

    async def ask(estate: Estate) -> None:
        assert await estate.get("/metrics") == (200, EXPOSITION)
        assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in estate.head
        assert await estate.get("/metrics?name[]=a") == (200, EXPOSITION)
        for path in ("/livez", "/healthz", "/readyz", "/readyz?verbose"):
            assert await estate.get(path) == (200, b"ok\n")
        assert "Connection: close" in estate.head
        assert "Access-Control" not in estate.head

    within(Estate(), ask)


def test_readiness() -> None:
    """What is missing, a word a line; it lives all the same, and follows at once."""

    async def ask(estate: Estate) -> None:
        assert await estate.get("/readyz") == (503, b"snapshot\ndraining\n")
        assert await estate.get("/readyz", "HEAD") == (503, b"")
        assert await estate.get("/livez") == (200, b"ok\n")
        estate.missing = ()
        assert await estate.get("/readyz") == (200, b"ok\n")

    within(Estate(missing=["snapshot", "draining"]), ask)


def test_head() -> None:
    """The length of the body, and no body."""

    async def ask(estate: Estate) -> None:
        assert await estate.get("/metrics", "HEAD") == (200, b"")
        assert f"Content-Length: {len(EXPOSITION)}" in estate.head

    within(Estate(), ask)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/metrics/", "GET", 404),
        ("/METRICS", "GET", 404),
        ("//metrics", "GET", 404),
        ("/%6detrics", "GET", 404),
        ("/x/../metrics", "GET", 404),
        ("http://127.0.0.1/metrics", "GET", 404),
        ("*", "OPTIONS", 404),
        ("/", "POST", 404),
        ("/metrics", "POST", 405),
        ("/metrics", "OPTIONS", 405),
        ("/readyz", "PUT", 405),
        ("/livez", "get", 405),
        ("/metrics", "TRACE", 405),
    ],
)
def test_everything_else(path: str, method: str, status: int) -> None:
    """No other path, no other method; nothing of the request is in the answer."""

    async def ask(estate: Estate) -> None:
        found, body = await estate.get(path, method, "X-Mark: needle", "Content-Length: 6")
        assert found == status
        assert b"needle" not in body
        assert ("Allow: GET, HEAD" in estate.head) == (status == 405)

    within(Estate(), ask)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9", 200),
        ("127.0.0.1", 200),
        ("localhost:9100", 200),
        ("LOCALHOST", 200),
        ("[::1]:9100", 200),
        ("10.1.2.3:9100", 200),
        ("", 403),
        ("evil.example", 403),
        ("evil.example:9100", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.0.0.1@evil.example", 403),
        ("evil.example#127.0.0.1", 403),
        ("\xe9", 403),
    ],
)
def test_dns_rebinding(host: str, status: int) -> None:
    """On a loopback address only addresses and localhost; elsewhere Prometheus may know it by any name."""

    async def ask(estate: Estate) -> None:
        assert (await estate.get("/metrics", host=host))[0] == status

    async def ask_elsewhere(estate: Estate) -> None:
        assert (await estate.get("/metrics", host=host))[0] == 200

    within(Estate(), ask)
    within(Estate(host="0.0.0.0"), ask_elsewhere)


def test_probes_without_a_host() -> None:
    """HTTP/1.0 has none."""

    async def ask(estate: Estate) -> None:
        assert (await estate.exchange(b"GET /readyz HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\nok\n")

    within(Estate(), ask)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_web_pages(host: str) -> None:
    """A request with an origin is refused, whatever it says."""

    async def ask(estate: Estate) -> None:
        for origin in ("http://evil.example", "null", "http://127.0.0.1"):
            assert (await estate.get("/metrics", "GET", f"Origin: {origin}"))[0] == 403

    within(Estate(host=host), ask)


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"404", id="http-2"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n\r\n", b"400", id="no-host"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", b"400", id="two-hosts"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 20000 + b"\r\n\r\n", b"431", id="long-header"),
        pytest.param(b"GET /" + b"a" * 20000, b"431", id="long-path"),
        pytest.param(b"GET /metrics\r\n\r\n", b"400", id="http-0.9"),
        pytest.param(b"\0" * 100 + b"\r\n\r\n", b"400", id="nul"),
    ],
)
def test_broken_requests(octets: bytes, status: bytes) -> None:
    """Refused, and the port goes on."""

    async def ask(estate: Estate) -> None:
        assert (await estate.exchange(octets)).split(b" ")[:2][1:] == [status]
        assert await estate.get("/livez") == (200, b"ok\n")

    within(Estate(), ask)


@pytest.mark.parametrize("octets", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: a\r\n"])
def test_client_that_leaves(octets: bytes) -> None:
    """Nothing is logged, nothing stays."""

    async def ask(estate: Estate) -> None:
        answer = await estate.exchange(octets, then_close=True)
        assert answer == b"" or b" 400 " in answer.splitlines()[0]
        assert await estate.get("/livez") == (200, b"ok\n")

    within(Estate(), ask)


def test_one_request_for_each_connection() -> None:
    """A second one on the same connection gets no answer."""

    async def ask(estate: Estate) -> None:
        request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
        assert (await estate.exchange(request * 3)).count(b"HTTP/1.1 200") == 1

    within(Estate(), ask)


def test_slow_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends nothing, or does not read, is cut off; until then too many of them are not let in."""
    monkeypatch.setattr("jwsgate.adapters.admin._SECONDS", 1.0)

    async def ask(estate: Estate) -> None:
        idle = [await asyncio.open_connection(*estate.server.address) for _ in range(64)]
        idle[0][1].write(b"GET /metrics HTTP/1.1\r\n")
        assert await estate.exchange(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        for reader, writer in idle:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert await estate.get("/livez") == (200, b"ok\n")

    within(Estate(), ask)


def test_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut off, and holds nobody else up."""
    monkeypatch.setattr("jwsgate.adapters.admin._SECONDS", 1.0)

    async def ask(estate: Estate) -> None:
        deaf = socket.create_connection(estate.server.address)
        deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await estate.get("/livez") == (200, b"ok\n")
        while estate.server._connections:
            await asyncio.sleep(0.05)
        deaf.close()

    within(Estate(exposition=lambda: b"x" * 50_000_000), ask)


def test_slow_scrape_holds_nobody_up() -> None:
    """The event loop answers while the metrics are written; two scrapes wait for each other."""
    release, running = threading.Event(), []

    def slow() -> bytes:
        running.append(threading.current_thread() is not threading.main_thread())
        assert release.wait(30)
        return EXPOSITION

    async def ask(estate: Estate) -> None:
        scrapes = [asyncio.create_task(estate.get("/metrics")) for _ in range(3)]
        while not running:
            await asyncio.sleep(0.01)
        assert await estate.get("/livez") == (200, b"ok\n")
        assert running == [True]
        release.set()
        assert await asyncio.gather(*scrapes) == [(200, EXPOSITION)] * 3

    within(Estate(exposition=slow), ask)


def test_faults(caplog: pytest.LogCaptureFixture) -> None:
    """What fails inside is told as 500, without saying what; the log has its kind, at a level that ends nothing."""

    def broken() -> bytes:
        raise ValueError("the secret")

    async def ask(estate: Estate) -> None:
        status, body = await estate.get("/metrics")
        assert (status, body) == (500, b"internal error\n")
        assert await estate.get("/livez") == (200, b"ok\n")

    with caplog.at_level(logging.DEBUG, "jwsgate"):
        within(Estate(exposition=broken), ask)
    assert [(entry.levelname, entry.getMessage()) for entry in caplog.records if entry.name.startswith("jwsgate")] == [
        ("WARNING", "jwsgate: ValueError at the admin port, /metrics")
    ]


def test_busy_port() -> None:
    """An OSError, before anything else is done."""

    async def start_twice() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            server = AdminServer("127.0.0.1", other.getsockname()[1], tuple, lambda: b"")
            with pytest.raises(OSError, match="address already in use"):
                await server.start()
            with pytest.raises(RuntimeError):
                _ = server.address
            await server.close()

    asyncio.run(start_twice())


def test_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for no client, and the port is free afterwards."""
    monkeypatch.setattr("jwsgate.adapters.admin._SECONDS", 1000.0)  # more than a test may take

    async def ask() -> None:
        server = AdminServer("127.0.0.1", 0, tuple, lambda: b"")
        await server.start()
        reader, writer = await asyncio.open_connection(*server.address)
        address = server.address
        await asyncio.sleep(0.1)
        await server.close()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*address)
        writer.close()
        assert await reader.read() == b""

    asyncio.run(ask())
