"""One client's connection to the sidecar, and the listener that takes connections in.

mitmproxy starts a task for each hook of each request. Here a hook whose add-ons have nothing to wait for is done on
the spot, which is what most of the sidecar's speed comes from.
"""

import asyncio
import collections
import logging
import socket
import time
from collections.abc import Awaitable, Sequence, Set
from contextlib import suppress
from typing import Any, Final

from mitmproxy import ctx, exceptions, flow, http
from mitmproxy.addonmanager import Loader
from mitmproxy.addons import proxyserver
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, layers, mode_servers, mode_specs, server
from mitmproxy.utils import asyncio_utils

from .dispatch import SealedAddonManager
from .http_layers import GateHttpStream, http_layer_of
from .listening import BACKLOG

__all__ = ["SidecarProxyserver"]

logger = logging.getLogger(__name__)


_UNSENT_OCTETS: Final = 1024 * 1024


class _Connection(mode_servers.ProxyConnectionHandler):
    """Runs the layers of one connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        manager: Any = self.master.addons
        self._manager: SealedAddonManager = manager
        self._events: collections.deque[events.Event] = collections.deque()
        self._running = self._failed = False
        self._idle_since = time.monotonic()
        self._waits_since: dict[object, float] = {}
        """Since when each thing upstream is waited for, as far as it has been looked at."""

    async def server_event(self, event: events.Event) -> None:
        self.feed(event)

    def feed(self, event: events.Event) -> None:
        """Give an event to the layers, after those that are under way."""
        self._events.append(event)
        if self._running:
            return  # a task that started eagerly, from within a command
        self._running = True
        try:
            while self._events:
                self.timeout_watchdog.register_activity()
                self._process(self._events.popleft())
        finally:
            self._running = False

    def _process(self, event: events.Event) -> None:
        if self._failed:
            return
        try:
            for command in self.layer.handle_event(event):
                self._execute(command)
        except BaseException as error:
            # The layers are in no state to go on. What has no answer yet gets none, and nothing more goes upstream.
            self._failed = True
            for transport in list(self.transports.values()):
                if transport.handler is not None:
                    transport.handler.cancel("layers failed")
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise
            logger.exception("jwsgate: a connection was closed because of an error in its layers")

    def _execute(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendData):  # the most frequent one
            transport = self.transports.get(command.connection)
            writer = None if transport is None else transport.writer
            if writer is not None and not writer.is_closing():
                writer.write(command.data)
            return
        match command:
            case commands.StartHook():
                self._start_hook(command)
            case commands.OpenConnection():
                self.transports[command.connection] = server.ConnectionIO(
                    handler=self._start_task(self.open_connection(command))
                )
            case commands.RequestWakeup():
                self.wakeup_timer.add(self._start_task(self.wakeup(command)))
            case commands.Log():
                if command.level > logging.INFO:
                    self.log(command.message, command.level)
            case commands.ConnectionCommand() if command.connection not in self.transports:
                pass  # closed in the meantime
            case commands.CloseTcpConnection():
                self.close_connection(command.connection, command.half_close)
            case commands.CloseConnection():
                self.close_connection(command.connection)
            case _:
                raise RuntimeError(f"unknown command {command}")

    def _start_task(self, work: Any) -> asyncio.Task[None]:
        return asyncio_utils.create_task(work, name="connection", keep_ref=False, client=self.client.peername)

    def _start_hook(self, hook: commands.StartHook) -> None:
        waiting = self._manager.dispatch(hook)
        data = hook.args()[0]
        its_flow = data if isinstance(data, flow.Flow) else None
        if waiting is not None or (its_flow is not None and its_flow.intercepted):
            self._start_task(self._finish_hook(hook, waiting, its_flow)).add_done_callback(_KEPT.discard)
        elif hook.blocking:
            self._events.append(events.HookCompleted(hook))

    async def _finish_hook(
        self, hook: commands.StartHook, waiting: Awaitable[None] | None, its_flow: flow.Flow | None
    ) -> None:
        current = asyncio.current_task()
        if current is not None:
            _KEPT.add(current)
        with self.timeout_watchdog.disarm():
            if waiting is not None:
                await waiting
            if its_flow is not None:
                await its_flow.wait_for_resume()
        if hook.blocking:
            self.feed(events.HookCompleted(hook))

    async def drain_writers(self) -> None:
        # Most of the time everything has gone out at once, and there is nothing to wait for.
        for transport in self.transports.values():
            writer: Any = transport.writer
            if writer is not None and writer.transport.get_write_buffer_size():
                await super().drain_writers()
                break
        client = self.transports.get(self.client)
        http_layer = http_layer_of(self.client)
        if http_layer is not None and client is not None and client.handler is not asyncio.current_task():
            # HTTP/2 clients make room themselves. Until they do, no more is read from the upstream.
            while http_layer.unsent > _UNSENT_OCTETS and self.client in self.transports:
                await asyncio.sleep(0.02)

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        if level > logging.INFO:
            super().log(message, level, exc_info)

    # What the listener asks

    def end_if_idle(self, now: float, first_seconds: float, next_seconds: float) -> None:
        """End a connection that has been without a request for too long, whatever else arrives on it.

        Args:
            now: The monotonic time.
            first_seconds: How long it may take to the first request, TLS handshake included.
            next_seconds: How long from one request to the next.
        """
        http_layer = http_layer_of(self.client)
        if http_layer is not None and http_layer.busy:
            self._idle_since = now
        elif now - self._idle_since > (first_seconds if http_layer is None or not http_layer.used else next_seconds):
            self.end()

    def end_silent_upstreams(self, now: float, seconds: float) -> None:
        """Cut what upstream does not accept a connection, or does not begin to answer, for too long.

        A connection stays as long as anything else is under way on it; over HTTP/2 there may be such.

        Args:
            now: The monotonic time.
            seconds: How long the upstream may be silent.
        """
        waits: dict[object, Connection] = {}
        kept: set[Connection] = set()
        for connection, transport in self.transports.items():
            if connection is not self.client and _is_opening(connection, transport):
                waits[connection] = connection
        http_layer = http_layer_of(self.client)
        for stream in () if http_layer is None else http_layer.streams.values():
            its_upstream = stream.context.server
            its_transport = self.transports.get(its_upstream)
            if its_transport is None or its_transport.reader is None or its_upstream in waits:
                continue  # it has no connection yet
            if isinstance(stream, GateHttpStream) and stream.awaits_answer and not _is_sending(its_transport):
                waits[stream, its_upstream] = its_upstream
            else:
                kept.add(its_upstream)
        self._waits_since = {each: self._waits_since.get(each, now) for each in waits}
        kept.update(waits[each] for each, since in self._waits_since.items() if now - since <= seconds)
        for upstream in set(waits.values()) - kept:
            handler = self.transports[upstream].handler
            if handler is not None:
                # Whoever waits is told that there is no connection, as if the upstream had closed it.
                upstream.error = f"silent for {seconds:g} s"
                handler.cancel(upstream.error)

    def drain(self) -> None:
        """End the connection unless a request is in flight, or on its way as the client has only just connected."""
        http_layer = http_layer_of(self.client)
        is_used = http_layer is not None and http_layer.used
        is_busy = http_layer is not None and http_layer.busy
        if not is_busy and (is_used or time.monotonic() - self._idle_since > _JUST_CONNECTED_SECONDS):
            self.end()

    def end(self) -> None:
        """End the connection at once, whatever is in flight."""
        transport = self.transports.get(self.client)
        if transport is not None and transport.handler is not None:
            transport.handler.cancel("ended by the gate")


def _is_opening(connection: Connection, transport: server.ConnectionIO) -> bool:
    if connection.timestamp_start is None:
        return False  # it waits for its turn, as mitmproxy opens only so many at a time
    return transport.reader is None or (connection.tls and connection.timestamp_tls_setup is None)


def _is_sending(transport: server.ConnectionIO) -> bool:
    writer: Any = transport.writer
    return writer is not None and writer.transport.get_write_buffer_size() > 0


_SWEEP_SECONDS: Final = 1.0
_KEEPALIVE_SECONDS: Final = 75.0
_JUST_CONNECTED_SECONDS: Final = 1.0
_DRAIN_POLL_SECONDS: Final = 0.05
_KEPT: set[asyncio.Task[Any]] = set()
"""Tasks that nobody else refers to: the event loop itself does not keep them alive."""


class SidecarProxyserver(proxyserver.Proxyserver):
    """Listens on sockets that are bound already."""

    # mitmproxy asks for add-ons by name.
    name = "proxyserver"

    def __init__(self) -> None:
        super().__init__()
        self.sockets: Sequence[socket.socket] = ()
        self._servers: list[asyncio.Server] = []
        self._mode: mode_specs.ReverseMode | None = None

    def load(self, loader: Loader) -> None:
        super().load(loader)
        loader.add_option(
            "jwsgate_upstream_seconds",
            int,
            60,
            "How long the upstream may take to accept a connection, or to begin its answer; 0 for as long as it likes.",
        )

    def configure(self, updated: Set[str]) -> None:
        super().configure(updated)
        if "jwsgate_upstream_seconds" in updated and ctx.options.jwsgate_upstream_seconds < 0:
            raise exceptions.OptionsError("jwsgate_upstream_seconds is less than 0 (give seconds, or 0 for no limit)")

    def running(self) -> None:
        """Leaves `is_running` unset: mitmproxy would start listeners of its own when the mode changes."""

    async def setup_servers(self) -> bool:
        (spec,) = ctx.options.mode
        mode = mode_specs.ProxyMode.parse(spec)
        if not isinstance(mode, mode_specs.ReverseMode):
            raise TypeError("a sidecar has one upstream")
        self._mode = mode
        try:
            for each in self.sockets:
                # asyncio takes as many connections at once as the backlog has; one at a time leaves some to others.
                self._servers.append(await asyncio.start_server(self._take_in, sock=each, backlog=1))
                each.listen(BACKLOG)
        except OSError as error:
            logger.error("jwsgate: cannot listen: %s", error.strerror or error)
            return False
        self._sweeper = asyncio_utils.create_task(self._sweep(), name="sweeper", keep_ref=True)
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            silence = ctx.options.jwsgate_upstream_seconds
            for connection in list(self.connections.values()):
                try:
                    if isinstance(connection, _Connection):
                        connection.end_if_idle(now, ctx.options.jwsgate_header_seconds, _KEEPALIVE_SECONDS)
                        if silence:
                            connection.end_silent_upstreams(now, silence)
                except Exception:
                    logger.exception("jwsgate: looking whether a connection is idle failed; it goes on")

    async def drain(self, seconds: float) -> int:
        """Take nothing new in, and let what is in flight finish; returns how many connections were cut off.

        Args:
            seconds: How long that may take.
        """
        for listener in self._servers:
            listener.close()
        deadline = time.monotonic() + seconds
        while self.connections and time.monotonic() < deadline:
            for connection in list(self.connections.values()):
                if isinstance(connection, _Connection):
                    connection.drain()
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        cut_off = list(self.connections.values())
        for connection in cut_off:
            if isinstance(connection, _Connection):
                # The client's side first: when the upstream's goes first, the client is told that the upstream failed.
                connection.end()
        if cut_off:
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        return len(cut_off)

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """mitmproxy keeps all messages of a WebSocket; a sidecar has nobody to show them to."""
        if flow.websocket is not None:
            del flow.websocket.messages[:-1]

    def listen_addrs(self) -> list[Any]:
        return [each.getsockname() for listener in self._servers for each in listener.sockets]

    async def _take_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is None:
            writer.close()
            return
        connection = _Connection(ctx.master, reader, writer, ctx.options, self._mode)
        connection.layer = layers.modes.ReverseProxy(connection.layer.context)
        # Or mitmproxy would look for the name in its certificate that the client says in its own handshake.
        connection.layer.context.server.sni = self._mode.address[0]
        with self.register_connection(connection.client.id, connection):
            await connection.handle_client()
            # It has been told to close, and may still have octets to send: until then it is in flight.
            with suppress(OSError):
                await writer.wait_closed()

    def server_connect(self, data: Any) -> None:
        super().server_connect(data)
        for address in self.listen_addrs():
            if data.server.address[:2] == address[:2]:
                data.server.error = "the upstream is this gate itself"
