"""A recording upstream: an HTTP/1.1 server that keeps every connection and every octet it was sent.

It parses strictly by the framing of RFC 9112 and nothing else, so that octets which a proxy took for a body
but sent without a length show up here as what they are to a real server: the next request.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

BODY = b'{"upstream":"answered"}'


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request as it stood on the wire."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int

    def values(self, name: str) -> list[bytes]:
        """All values of a header, whatever the case of its name."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]


@dataclass(slots=True)
class Answer:
    """What the upstream answers to every request until it is cleared."""

    status: str = "200 OK"
    headers: list[tuple[str, str]] = field(default_factory=lambda: [("content-type", "application/json")])
    body: bytes = BODY


@dataclass(slots=True)
class _Record:
    """Everything received since the last clearing."""

    connections: int = 0
    octets: bytearray = field(default_factory=bytearray)
    requests: list[ReceivedRequest] = field(default_factory=list)
    malformed: list[bytes] = field(default_factory=list)


class _Closed(Exception):
    """The peer closed the connection."""


class RecordingUpstream:
    """A recording upstream on a free loopback port, to be used as a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._changed = threading.Condition()
        self._record = _Record()
        self._answer = Answer()
        self._free = threading.Event()
        self._free.set()
        self._barriers: dict[tuple[str, int], threading.Event] = {}
        self._open: set[socket.socket] = set()
        self._script: Callable[[Wire], None] | None = None
        self._threads: list[threading.Thread] = []
        self._scripted: list[threading.Thread] = []
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._free.set()
        # Closing a listening socket does not wake the thread that accepts on it; a shutdown does.
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    # What the tests ask

    @property
    def url(self) -> str:
        """The origin, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests received whole since the last clearing."""
        with self._changed:
            return list(self._record.requests)

    @property
    def connections(self) -> int:
        """The number of connections accepted since the last clearing."""
        with self._changed:
            return self._record.connections

    @property
    def octets(self) -> bytes:
        """All octets received since the last clearing, also those that make no request."""
        with self._changed:
            return bytes(self._record.octets)

    @property
    def malformed(self) -> list[bytes]:
        """What came in and was no request."""
        with self._changed:
            return list(self._record.malformed)

    def clear(self) -> None:
        """Forget what was received and answer in the plain way again."""
        self._free.set()
        self.settle()
        with self._changed:
            self._record = _Record()
            self._answer = Answer()
            self._script = None

    def answer_with(self, answer: Answer) -> None:
        """Answer otherwise until cleared."""
        with self._changed:
            self._answer = answer

    @contextlib.contextmanager
    def scripted(self, script: Callable[[Wire], None]) -> Iterator[None]:
        """Have a function play the server on each connection made while the context lasts."""
        self.settle()
        with self._changed:
            self._script = script
        try:
            yield
        finally:
            self.settle()
            with self._changed:
                self._script = None
            for thread in self._scripted:
                thread.join(2)  # so that nothing of it shows in what is recorded next
            self._scripted.clear()

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Receive requests but keep the answers back while the context lasts."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def wait_for_requests(self, count: int, seconds: float = 5) -> list[ReceivedRequest]:
        """Wait until so many requests have come in whole; say what came instead if they do not."""
        with self._changed:
            come = self._changed.wait_for(lambda: len(self._record.requests) >= count, seconds)
            assert come, f"{count} requests expected, got {self._record!r}"
            return list(self._record.requests)

    def only_request(self) -> ReceivedRequest:
        """The one request received; more, fewer, or octets that make none are an error."""
        self.settle()
        with self._changed:
            assert not self._record.malformed, self._record.malformed
            assert len(self._record.requests) == 1, self._record
            return self._record.requests[0]

    def assert_untouched(self, grace: float = 0.01) -> None:
        """Nothing at all arrived: no connection, no octet.

        The grace is for a gate that answers the client first and forwards afterwards. Connections are
        accepted in the order in which they were made, so our own coming through shows all earlier ones.
        """
        time.sleep(grace)
        self.settle()
        with self._changed:
            assert (self._record.connections, bytes(self._record.octets)) == (0, b"")

    def assert_no_request(self, grace: float = 0.01) -> None:
        """No octet arrived. For peers that may open a connection before they decide."""
        time.sleep(grace)
        self.settle()
        with self._changed:
            assert bytes(self._record.octets) == b""

    # The server

    def settle(self) -> None:
        """Wait until every connection made before now has been accepted and counted."""
        passed = threading.Event()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            with self._changed:
                self._barriers[probe.getsockname()] = passed
            probe.settimeout(5)
            probe.connect(("127.0.0.1", self.port))
            assert passed.wait(5), "the upstream does not accept"

    def _start(self, target: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads = [each for each in self._threads if each.is_alive()]
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            with self._changed:
                passed = self._barriers.pop(peer, None)
                if passed is None:
                    self._record.connections += 1
                    self._open.add(connection)
                    number = self._record.connections
                    script = self._script
            if passed is not None:
                connection.close()
                passed.set()
            else:
                thread = self._start(self._serve, connection, number, script)
                if script is not None:
                    self._scripted.append(thread)

    def _serve(self, connection: socket.socket, number: int, script: Callable[[Wire], None] | None) -> None:
        try:
            if self._tls is not None:
                connection = self._secured(self._tls, connection)
            reader = Wire(connection, self._keep)
            if script is not None:
                script(reader)
                return
            while (request := _read_request(reader, number)) is not None:
                with self._changed:
                    self._record.requests.append(request)
                    answer = self._answer
                    self._changed.notify_all()
                self._free.wait(30)
                connection.sendall(_encode(answer, request))
                if b"close" in b",".join(request.values("connection")).lower():
                    break
        except (_Closed, OSError):
            pass
        except ValueError:
            with self._changed:
                self._record.malformed.append(bytes(reader.buffer))
        finally:
            with self._changed:
                self._open.discard(connection)
            connection.close()

    def _secured(self, tls: ssl.SSLContext, plain: socket.socket) -> socket.socket:
        connection = tls.wrap_socket(plain, server_side=True)
        with self._changed:
            self._open.discard(plain)
            self._open.add(connection)
        return connection

    def _keep(self, octets: bytes) -> None:
        with self._changed:
            self._record.octets += octets


class Wire:
    """A connection that was accepted: buffered reading that reports every octet as soon as it comes."""

    def __init__(self, connection: socket.socket, keep: object) -> None:
        self.connection = connection
        self._keep = keep
        self.buffer = bytearray()

    def _more(self) -> None:
        octets = self.connection.recv(1 << 16)
        if not octets:
            raise _Closed
        self._keep(octets)  # type: ignore[operator]
        self.buffer += octets

    def until(self, mark: bytes) -> bytes:
        """Everything before the mark; the mark is taken too."""
        while (at := self.buffer.find(mark)) < 0:
            self._more()
        taken = bytes(self.buffer[:at])
        del self.buffer[: at + len(mark)]
        return taken

    def exactly(self, count: int) -> bytes:
        """So many octets."""
        while len(self.buffer) < count:
            self._more()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def head(self) -> bytes:
        """The head of a request, without its last empty line."""
        return self.until(b"\r\n\r\n")

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.connection.sendall(octets)

    def was_cut(self, seconds: float = 5) -> bool:
        """Whether the peer ends the connection in time, whatever it still sends."""
        self.connection.settimeout(seconds)
        try:
            while True:
                self._more()
        except TimeoutError:
            return False
        except (_Closed, OSError):
            return True


def _read_request(reader: Wire, connection: int) -> ReceivedRequest | None:
    """The next request; ValueError when it is none."""
    lines = reader.until(b"\r\n\r\n").split(b"\r\n")
    method, target, version = lines[0].split(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError(version)
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(line)
        headers.append((name, value.strip(b" \t")))
    request = ReceivedRequest(method.decode("latin-1"), target, headers, b"", connection)
    if any(b"chunked" in value.lower() for value in request.values("transfer-encoding")):
        body = _read_chunks(reader)
    elif lengths := request.values("content-length"):
        body = reader.exactly(int(lengths[0]))
    else:
        body = b""
    return ReceivedRequest(request.method, target, headers, body, connection)


def _read_chunks(reader: Wire) -> bytes:
    body = b""
    while size := int(reader.until(b"\r\n").split(b";")[0], 16):
        body += reader.exactly(size)
        reader.until(b"\r\n")
    while reader.until(b"\r\n"):  # trailers
        pass
    return body


def _encode(answer: Answer, request: ReceivedRequest) -> bytes:
    head = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in answer.headers)]
    head.append(f"content-length: {len(answer.body)}")
    octets = "\r\n".join(head).encode() + b"\r\n\r\n"
    return octets if request.method == "HEAD" else octets + answer.body
