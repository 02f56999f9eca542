"""The server of `jwsgate serve`, and its connections over HTTP/1: proxies ask, on connections that they keep.

Parsing is llhttp's (httptools). Rule 1: one question at a time on a connection; whoever asks the next before the last
was answered is cut off. Rule 2: what cannot be parsed is answered with a denial, and its connection closed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import httptools

from jwsgate.core.reasons import Reason

from .checking import Checker
from .dialects import Question
from .listening import BACKLOG

__all__ = ["MAX_BODY_OCTETS", "CheckServer", "Connection", "HttpConnection", "Network"]

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_HEAD_OCTETS: Final = 128 * 1024
MAX_BODY_OCTETS: Final = 10 * 1024 * 1024
_POLL_SECONDS: Final = 0.02


class _TooMuch(Exception):
    """A question that is larger than any that is answered."""


class Connection(asyncio.Protocol):
    """One connection of a proxy that is trusted, in whichever protocol it asks."""

    def __init__(self, server: "CheckServer") -> None:
        """Belongs to a server."""
        self._server, self._checker = server, server.checker
        self._transport: Any = None
        self._peer = ""

    @property
    def busy(self) -> bool:
        """Whether a question has begun that is not answered yet."""
        raise NotImplementedError

    def connection_made(self, transport: Any) -> None:
        """Called by the transport."""
        self._transport = transport
        peername = transport.get_extra_info("peername")
        self._peer = str(peername[0]) if isinstance(peername, tuple) else ""
        if not self._server.trusts(self._peer, transport):
            self._checker.refuse(self._peer, Reason.REQUEST_UNSAFE, "the peer is not one of --peers")
            transport.abort()
            return
        self._server.connections.add(self)
        self._server.opened(1)

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the transport."""
        if self in self._server.connections:
            self._server.connections.discard(self)
            self._server.opened(-1)

    def finish(self) -> None:
        """End the connection if nobody waits for an answer; called again and again while the server drains."""
        if not self.busy:
            self.close()

    def close(self) -> None:
        """End the connection once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()


class HttpConnection(Connection):
    """Questions over HTTP/1, one after the other."""

    def __init__(self, server: "CheckServer") -> None:
        """Belongs to a server."""
        super().__init__(server)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._octets, self._most = 0, _MAX_HEAD_OCTETS

    @property
    def busy(self) -> bool:
        """Whether a question has begun that is not answered yet."""
        return self._task is not None or bool(self._target)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the transport."""
        self._parser = None  # which holds this object: without it, the collector need not find them (serving.py)
        super().connection_lost(error)

    def data_received(self, octets: bytes) -> None:
        """Called by the transport."""
        if self._transport.is_closing():
            return
        try:
            self._octets += len(octets)
            self._parser.feed_data(octets)
            if self._octets > self._most:
                raise _TooMuch
        except BaseException as error:
            # An error of a callback comes wrapped in the parser's own.
            self._end(error.__context__ or error)
            if not isinstance(error, Exception):
                raise

    def _end(self, error: BaseException) -> None:
        if self._task is None:
            answer = self._checker.last_resort
            with suppress(Exception):
                reason = Reason.HEADERS_TOO_LARGE if isinstance(error, _TooMuch) else Reason.REQUEST_UNSAFE
                answer = self._checker.refuse(self._peer, reason, "the proxy's question cannot be read")
            self._transport.write(answer)
        self.close()

    # What the parser calls

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, part: bytes) -> None:
        self._most = MAX_BODY_OCTETS
        self._body.append(part)

    def on_message_complete(self) -> None:
        if self._task is not None:
            raise _TooMuch
        method = self._parser.get_method().decode("latin-1")
        body = b"".join(self._body) if self._body else b""
        question = Question(method, self._target, tuple(self._headers), body, self._peer)
        self._begin()
        answer = self._checker.answer(question)
        if isinstance(answer, bytes):
            self._send(answer)
        else:
            self._task = asyncio.get_running_loop().create_task(self._send_later(answer))

    async def _send_later(self, awaited: Awaitable[bytes]) -> None:
        answer = self._checker.last_resort
        try:
            answer = await awaited
        finally:
            self._task = None
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
            if answer is self._checker.last_resort or self._server.draining or not self._parser.should_keep_alive():
                self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._task is not None:
            self._task.cancel()
        super().abort()


class CheckServer:
    """Serves in the running event loop."""

    def __init__(
        self,
        checker: Checker,
        peers: Sequence[Network],
        sockets: Sequence[socket.socket],
        connection: Callable[["CheckServer"], Connection] = HttpConnection,
    ) -> None:
        """`peers` are the networks that proxies ask from; who may use a Unix socket, its mode decides."""
        self._connection = connection
        self.checker = checker
        self._peers = peers
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self.connections: set[Connection] = set()
        self.draining = False
        self.opened: Callable[[int], None] = lambda _by: None
        """Told of connections that come (1) and go (-1)."""

    def trusts(self, peer: str, transport: Any) -> bool:
        """Whether a question from there is answered."""
        if transport.get_extra_info("socket").family == socket.AF_UNIX:
            return True
        address = ipaddress.ip_address(peer.partition("%")[0])
        return any(address in network for network in self._peers)

    async def start(self) -> None:
        """Take questions.

        Raises:
            OSError: when a socket cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            make = loop.create_unix_server if each.family == socket.AF_UNIX else loop.create_server
            self._servers.append(await make(lambda: self._connection(self), sock=each, backlog=BACKLOG))

    @property
    def is_listening(self) -> bool:
        """Whether questions are taken."""
        return bool(self._servers) and not self.draining

    async def drain(self, seconds: float) -> int:
        """Take no new connection, answer what has been asked; returns how many connections were cut off."""
        loop = asyncio.get_running_loop()
        self.draining = True
        for server in self._servers:
            server.close()
        deadline = loop.time() + seconds
        while self.connections and loop.time() < deadline:
            for connection in list(self.connections):
                connection.finish()
            await asyncio.sleep(_POLL_SECONDS)
        cut_off = list(self.connections)
        for connection in cut_off:
            connection.abort()
        return len(cut_off)
