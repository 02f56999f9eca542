"""A client that puts exactly the octets on the wire that a test wants there."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.settings

type Header = tuple[str, str | bytes]

HOST = "gate.test"
H2_FRAME = 16384


@dataclass(frozen=True, slots=True)
class Response:
    """One final response; interim ones are kept by their status alone."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """All values of a header, whatever the case of its name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str:
        """The value of a header that must be there once."""
        (value,) = self.values(name)
        return value

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class NoResponse(Exception):
    """The connection ended, or stayed silent, before a whole response."""


def request_octets(
    method: str,
    target: str | bytes,
    headers: Iterable[Header] = (),
    body: bytes = b"",
) -> bytes:
    """An HTTP/1.1 request; a length is added to a body unless the headers frame it."""
    headers = list(headers)
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        headers.insert(0, ("Host", HOST))
    if body and not names & {"content-length", "transfer-encoding"}:
        headers.append(("Content-Length", str(len(body))))
    target = target if isinstance(target, bytes) else target.encode()
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    for name, value in headers:
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def tls_context(protocol: str = "http/1.1") -> ssl.SSLContext:
    """A context that takes any certificate of the gate: who it is does not matter to most tests."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


@dataclass(frozen=True, slots=True)
class Tls:
    """How to connect, where a test cares: its own context, a session to resume, the address to come from."""

    context: ssl.SSLContext | None = None
    session: ssl.SSLSession | None = None
    source: str = "127.0.0.1"


def _connect(port: int, tls: bool | Tls, timeout: float, protocol: str) -> socket.socket:
    how = tls if isinstance(tls, Tls) else Tls(tls_context(protocol) if tls else None)
    plain = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=(how.source, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if how.context is None:
        return plain
    try:
        return how.context.wrap_socket(plain, server_hostname=HOST, session=how.session)
    except BaseException:
        plain.close()
        raise


class Connection:
    """One client connection, plaintext or TLS, to be used as a context manager."""

    def __init__(self, port: int, *, tls: bool | Tls = False, timeout: float = 10) -> None:
        self._socket = _connect(port, tls, timeout, "http/1.1")
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def secured(self) -> ssl.SSLSocket:
        """The TLS connection."""
        assert isinstance(self._socket, ssl.SSLSocket)
        return self._socket

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(octets)

    def read(self, method: str = "GET") -> Response:
        """Read one response to a request of that method."""
        interim: list[int] = []
        while True:
            status, reason, headers = self._read_head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        head = Response(status, reason, headers, b"")
        if method == "HEAD" or status in (101, 204, 304) or (method == "CONNECT" and status < 300):
            body = b""
        elif "chunked" in ",".join(head.values("transfer-encoding")).lower():
            body = self._read_chunks()
        elif lengths := head.values("content-length"):
            body = self._exactly(int(lengths[0]))
        else:
            body = self.read_to_end()
        return Response(status, reason, headers, body, interim)

    def exchange(self, method: str, target: str | bytes, headers: Iterable[Header] = (), body: bytes = b"") -> Response:
        """Send one request and read its response."""
        self.send(request_octets(method, target, headers, body))
        return self.read(method)

    def read_to_end(self) -> bytes:
        """Whatever comes until the peer closes; NoResponse when it keeps the connection open."""
        while True:
            try:
                octets = self._socket.recv(1 << 16)
            except TimeoutError as error:
                raise NoResponse(f"still open after {bytes(self._buffer)!r}") from error
            except (ConnectionError, ssl.SSLError):
                break
            if not octets:
                break
            self._buffer += octets
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken

    def exactly(self, count: int) -> bytes:
        """So many octets, without asking what they mean."""
        return self._exactly(count)

    def has_octets(self) -> bool:
        """Whether anything of an answer has come."""
        timeout = self._socket.gettimeout()
        self._socket.settimeout(0.01)
        with contextlib.suppress(TimeoutError):
            self._buffer += self._socket.recv(1 << 16)
        self._socket.settimeout(timeout)
        return bool(self._buffer)

    def is_closed(self, seconds: float = 5) -> bool:
        """Whether the peer closes in time, without sending anything more."""
        self._socket.settimeout(seconds)
        try:
            octets = self._socket.recv(1 << 16)
        except TimeoutError:
            return False
        except (ConnectionError, ssl.SSLError):
            return True
        assert not octets, octets
        return True

    def _more(self) -> None:
        try:
            octets = self._socket.recv(1 << 16)
        except (TimeoutError, ConnectionError, ssl.SSLError) as error:
            raise NoResponse(f"{error!r} after {bytes(self._buffer)!r}") from error
        if not octets:
            raise NoResponse(f"closed after {bytes(self._buffer)!r}")
        self._buffer += octets

    def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            self._more()
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return taken

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _read_head(self) -> tuple[int, str, list[tuple[str, str]]]:
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.[01] (\d{3})(?: (.*))?", lines[0])
        if match is None:
            raise NoResponse(f"not a status line: {lines[0]!r}")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        return int(match[1]), match[2] or "", headers

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            body += self._exactly(size)
            self._until(b"\r\n")
        while self._until(b"\r\n"):
            pass
        return body


def exchange(
    port: int,
    method: str,
    target: str | bytes,
    headers: Iterable[Header] = (),
    body: bytes = b"",
    *,
    tls: bool | Tls = False,
    timeout: float = 10,
) -> Response:
    """One request on a connection of its own."""
    with Connection(port, tls=tls, timeout=timeout) as connection:
        return connection.exchange(method, target, headers, body)


@dataclass(frozen=True, slots=True)
class H2Request:
    """One HTTP/2 request, sent with nothing added: in particular without a content-length."""

    method: str
    path: str
    headers: Iterable[Header] = ()
    body: bytes = b""
    trailers: Iterable[Header] = ()


def h2_exchange(
    port: int,
    method: str,
    path: str,
    headers: Iterable[Header] = (),
    body: bytes = b"",
    *,
    trailers: Iterable[Header] = (),
    tls: bool | Tls = True,
    timeout: float = 10,
) -> Response:
    """One HTTP/2 request on a TLS connection of its own."""
    (response,) = h2_exchanges(port, [H2Request(method, path, headers, body, trailers)], tls=tls, timeout=timeout)
    return response


def h2_exchanges(
    port: int, requests: Iterable[H2Request], *, tls: bool | Tls = True, timeout: float = 10
) -> list[Response]:
    """HTTP/2 requests side by side on one TLS connection: all headers first, then all bodies."""
    # Validation off: what a careful client would never send is what is to be sent here.
    config = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="latin-1"
    )
    machine = h2.connection.H2Connection(config)
    streams = {1 + 2 * number: request for number, request in enumerate(requests)}
    with _connect(port, tls, timeout, "h2") as wire:
        assert isinstance(wire, ssl.SSLSocket)
        assert wire.selected_alpn_protocol() == "h2"
        machine.initiate_connection()
        for stream, request in streams.items():
            pseudo = [(":method", request.method), (":path", request.path), (":scheme", "https"), (":authority", HOST)]
            ends = not (request.body or request.trailers)
            machine.send_headers(stream, [*pseudo, *request.headers], end_stream=ends)
        for stream, request in streams.items():
            for start in range(0, len(request.body), H2_FRAME):
                last = start + H2_FRAME >= len(request.body) and not request.trailers
                machine.send_data(stream, request.body[start : start + H2_FRAME], end_stream=last)
            if request.trailers:
                machine.send_headers(stream, request.trailers, end_stream=True)
        wire.sendall(machine.data_to_send())
        answers = _h2_responses(machine, wire, set(streams))
    return [answers[stream] for stream in streams]


def _h2_responses(machine: h2.connection.H2Connection, wire: ssl.SSLSocket, streams: set[int]) -> dict[int, Response]:
    heads: dict[int, tuple[int, list[tuple[str, str]]]] = {}
    bodies = dict.fromkeys(streams, b"")
    answers: dict[int, Response] = {}
    while len(answers) < len(streams):
        try:
            octets = wire.recv(1 << 16)
        except (TimeoutError, ConnectionError, ssl.SSLError) as error:
            raise NoResponse(repr(error)) from error
        if not octets:
            raise NoResponse("closed")
        for event in machine.receive_data(octets):
            match event:
                case h2.events.ResponseReceived():
                    fields = [(str(name), str(value)) for name, value in event.headers]
                    kept = [each for each in fields if not each[0].startswith(":")]
                    heads[event.stream_id] = int(dict(fields)[":status"]), kept
                case h2.events.DataReceived():
                    bodies[event.stream_id] += event.data
                    machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    status, headers = heads[event.stream_id]
                    answers[event.stream_id] = Response(status, "", headers, bodies[event.stream_id])
                case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                    raise NoResponse(repr(event))
                case _:
                    pass
        wire.sendall(machine.data_to_send())
    return answers


class H2Connection:
    """One HTTP/2 connection for tests that need to see, or to do, one thing after another."""

    def __init__(self, port: int, *, tls: bool = True, timeout: float = 10, window: int = 65535) -> None:
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="latin-1"
        )
        self.machine = h2.connection.H2Connection(config)
        self.wire = _connect(port, tls, timeout, "h2")
        self._events: list[h2.events.Event] = []
        self.machine.initiate_connection()
        if window != 65535:
            self.machine.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
            self.machine.increment_flow_control_window(window - 65535)
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.close()

    def flush(self) -> None:
        """Send what the machine has to send."""
        self.wire.sendall(self.machine.data_to_send())

    def start(self, method: str, path: str, headers: Iterable[Header] = (), *, ends: bool = False) -> int:
        """Send the headers of a request; returns its stream."""
        stream = self.machine.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "https"), (":authority", HOST)]
        self.machine.send_headers(stream, [*pseudo, *headers], end_stream=ends)
        self.flush()
        return stream

    def send(self, stream: int, octets: bytes = b"", *, ends: bool = False) -> None:
        """Send a part of a body, waiting for the peer to make room."""
        while True:
            room = min(self.machine.local_flow_control_window(stream), H2_FRAME)
            if room or not octets:
                part, octets = octets[:room], octets[room:]
                self.machine.send_data(stream, part, end_stream=ends and not octets)
                self.flush()
                if not octets:
                    return
            else:
                self._receive()

    def raw(self, octets: bytes) -> None:
        """Send octets past the machine."""
        self.wire.sendall(octets)

    def wait_for[E: h2.events.Event](self, kind: type[E], stream: int | None = None) -> E:
        """The next event of a kind, of one stream or of any; those that came before it stay."""
        while True:
            for event in self._events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    self._events.remove(event)
                    return event
            self._receive()

    def read(self, stream: int) -> Response:
        """A whole response; what comes after its end stays."""
        head = self.wait_for(h2.events.ResponseReceived, stream)
        fields = [(str(name), str(value)) for name, value in head.headers]
        self.wait_for(h2.events.StreamEnded, stream)
        parts = [each for each in self._events if isinstance(each, h2.events.DataReceived) and each.stream_id == stream]
        self._events = [event for event in self._events if event not in parts]
        body = b"".join(part.data for part in parts)
        kept = [each for each in fields if not each[0].startswith(":")]
        return Response(int(dict(fields)[":status"]), "", kept, body)

    def _receive(self) -> None:
        try:
            octets = self.wire.recv(1 << 16)
        except (TimeoutError, ConnectionError, ssl.SSLError) as error:
            raise NoResponse(f"{error!r} after {self._events!r}") from error
        if not octets:
            raise NoResponse(f"closed after {self._events!r}")
        for event in self.machine.receive_data(octets):
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._events.append(event)
        self.flush()
