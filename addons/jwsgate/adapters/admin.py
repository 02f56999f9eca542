"""The admin port: /metrics for Prometheus, /livez (or /healthz) and /readyz for whoever starts and stops the gate.

Plain HTTP without a login: it changes nothing and tells no key, no JWS and no client ID. Bind it to the loopback or
to a network of one's own all the same. What a web page could do in the browser of somebody who reaches the port:

- Ask from a page of another origin: the answer has no CORS header, so that the page cannot read it; requests with
  `Origin`, which neither Prometheus nor a probe sends, are refused besides.
- Ask under a name that the page's own DNS lets point here (DNS rebinding): on a loopback address the request's `Host`
  has to be `localhost` or an address. Elsewhere Prometheus asks for hosts by name, and any name has to do.

Each connection is good for one request, of 16 KiB and 5 seconds at most, and there are 64 at a time.
"""

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import h11

__all__ = ["AdminServer"]

logger = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 64
_MAX_UNFINISHED_OCTETS: Final = 8192
_SECONDS: Final = 5.0
_TEXT: Final = "text/plain; charset=utf-8"
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*))(?::[0-9]{0,5})?")

type _Answer = tuple[int, str, bytes]
"""Status, content type, body."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _names_this_machine(host: str) -> bool:
    """Whether a `Host` is an address or localhost, so that no DNS of others can have brought the request here."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1] or match[2]
    return name.lower() == "localhost" or _is_address(name)


class AdminServer:
    """Serves in the running event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        readiness: Callable[[], Sequence[str]],
        exposition: Callable[[], bytes],
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """`port` 0 takes any; `sockets` are those of the address, where somebody has bound them already.

        `readiness` gives what is missing, a word each, and nothing when the gate is ready.

        `exposition` gives the metrics in Prometheus' text format 0.0.4; it runs in a thread of its own, so that a
        scrape does not hold requests up.
        """
        self._host, self._port = host, port
        self._is_loopback = _is_loopback(host)
        self._readiness, self._exposition = readiness, exposition
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._scrape = asyncio.Lock()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: when the address cannot be had.
        """
        places: list[dict[str, Any]] = [{"sock": each} for each in self._sockets]
        for place in places or [{"host": self._host, "port": self._port}]:
            self._servers.append(await asyncio.start_server(self._connected, **place, limit=_MAX_UNFINISHED_OCTETS))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on, once it was started."""
        if not self._servers or not self._servers[0].sockets:
            raise RuntimeError("the admin port is not open")
        host, port, *_ = self._servers[0].sockets[0].getsockname()
        return host, port

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            async with asyncio.timeout(_SECONDS):
                await self._serve(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            pass  # the client is gone or too slow, or the gate ends: there is nobody to tell
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_UNFINISHED_OCTETS)
        with_body = True
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await reader.read(_MAX_UNFINISHED_OCTETS))
            if not isinstance(event, h11.Request):
                return  # the client closed without asking anything
            with_body = event.method != b"HEAD"
            status, content_type, body = await self._answer(event)
        except h11.RemoteProtocolError as error:
            status, content_type, body = error.error_status_hint, _TEXT, b"not an HTTP request\n"
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        if status == 405:
            headers.append(("Allow", "GET, HEAD"))
        writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
        if with_body:
            writer.write(connection.send(h11.Data(data=body)) or b"")
        await writer.drain()

    async def _answer(self, request: h11.Request) -> _Answer:
        headers = dict(request.headers)
        if b"origin" in headers:
            return 403, _TEXT, b"not for web pages\n"
        if self._is_loopback and not _names_this_machine(headers.get(b"host", b"localhost").decode("latin-1")):
            return 403, _TEXT, b"ask for localhost or for an address\n"
        path = request.target.partition(b"?")[0]
        if path not in {b"/metrics", b"/livez", b"/healthz", b"/readyz"}:
            return 404, _TEXT, b"not found: there are /metrics, /livez, /healthz and /readyz\n"
        if request.method not in {b"GET", b"HEAD"}:
            return 405, _TEXT, b"only GET and HEAD\n"
        try:
            if path == b"/metrics":
                async with self._scrape:
                    return 200, _EXPOSITION, await asyncio.to_thread(self._exposition)
            if path == b"/readyz" and (missing := self._readiness()):
                return 503, _TEXT, "".join(f"{reason}\n" for reason in missing).encode("utf-8", "replace")
        except Exception as error:
            logger.warning("jwsgate: %s at the admin port, %s", type(error).__name__, path.decode("ascii"))
            return 500, _TEXT, b"internal error\n"
        return 200, _TEXT, b"ok\n"
