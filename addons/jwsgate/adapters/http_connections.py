"""mitmproxy's HTTP/1 and HTTP/2 connections with what a gate in production needs of them besides.

mitmproxy has no limit for headers, stops at trailers, takes an upstream's interim answer for the final one, and tells
its name and the upstream's address in its error pages.
"""

import re
import time
from collections.abc import Generator
from typing import Any, Final, Protocol

import h2.errors
import h2.events
import h2.stream
from h11 import EndOfMessage
from h11._readers import ChunkedReader
from mitmproxy import version
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, context, events
from mitmproxy.proxy.layers.http._base import HttpConnection, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Server

from jwsgate.core.answers import ANSWERS, TRANSACTION_HEADER, Answer
from jwsgate.core.reasons import Reason

from .gatekeeper import Gatekeeper

__all__ = ["GateHttp1Client", "GateHttp1Server", "GateHttp2Server", "Steps"]

type Steps[T] = Generator[commands.Command, Any, T]

_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[^\r\n]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_STRIPPED: Final = re.compile(rb"[\x0b\x0c]|\r(?!\n)")
"""Control characters that mitmproxy takes for white space, and removes before anybody can judge them."""
_LINGER_SECONDS: Final = 2.0
_LINGER_OCTETS: Final = 1024 * 1024
_AHEAD_OCTETS: Final = 1024 * 1024
"""How much a client may send ahead of its next turn."""
_MITMPROXY: Final = b"Server: " + version.MITMPROXY.encode()


class Owner(Protocol):
    """What a connection asks the layer that it belongs to."""

    context: context.Context
    gate: Gatekeeper
    streams: dict[int, Any]

    @property
    def draining(self) -> bool:
        """Whether the connection is to end after what is in flight."""
        ...

    def error_answer(self, event: ResponseProtocolError) -> tuple[Answer, str] | None:
        """What a client is told of a failure, and the transaction ID; None when it cannot be told any more."""
        ...


def _nothing() -> Steps[None]:
    yield from ()


class _WithoutTrailers:
    """A reader of h11's that lets no trailers through: RFC 9110 section 6.5.1 allows to drop them."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __call__(self, buffer: Any) -> Any:
        event = self._reader(buffer)
        return EndOfMessage() if isinstance(event, EndOfMessage) else event

    def read_eof(self) -> Any:
        return self._reader.read_eof()


class _DropsTrailers(HttpConnection):
    body_reader: Any

    def read_body(self, event: events.Event) -> Steps[None]:
        if type(self.body_reader) is ChunkedReader:  # no other has trailers
            self.body_reader = _WithoutTrailers(self.body_reader)
        return super().read_body(event)  # type: ignore[misc, no-any-return]  # of the class that this is mixed into


class GateHttp1Server(_DropsTrailers, Http1Server):
    """A client's HTTP/1 connection."""

    def __init__(self, parent: Owner) -> None:
        super().__init__(parent.context.fork())
        self._parent = parent
        self._lingered = 0
        self._alarm: commands.RequestWakeup | None = None
        """The one wake-up that counts."""
        self.head_since: float | None = None
        """Since when the head of a request is incomplete, on the monotonic clock."""

    @property
    def busy(self) -> bool:
        """Whether a part of a head has come, or the client is still to read the answer that ends the connection."""
        return self.head_since is not None or self.state == self.linger

    def read_headers(self, event: events.Event) -> Steps[None]:
        while self.buf._data[:2] == b"\r\n" or self.buf._data[:1] == b"\n":
            self.buf.maybe_extract_lines()  # RFC 9112 section 2.2: empty lines before a request are passed over
        head = _BLANK_LINE.search(self.buf._data)
        if (head.end() if head else len(self.buf)) > self._parent.gate.max_header_octets:
            yield from self._refuse_head(Reason.HEADERS_TOO_LARGE, "the headers are larger than the gate reads")
            return
        if head and _STRIPPED.search(self.buf._data, 0, head.end()):
            yield from self._refuse_head(
                Reason.REQUEST_UNSAFE, "the request line or a header holds a control character"
            )
            return
        refused = False
        for command in super().read_headers(event):  # type: ignore[arg-type]  # any event comes
            refused = refused or (isinstance(command, commands.SendData) and _MITMPROXY in command.data)
            if not refused:  # mitmproxy closes at once, and decides on what it could not read
                yield command
        if refused:
            detail = "the request line, a header or the framing is malformed"
            yield from self._refuse_head(Reason.REQUEST_UNSAFE, detail)
        elif self.state != self.read_headers or not self.buf:
            self.head_since = None
        elif self.head_since is None:
            self.head_since = time.monotonic()
            if self._alarm is None:
                yield from self._wake_in(self._parent.gate.header_seconds)

    def read_body(self, event: events.Event) -> Steps[None]:
        steps = super().read_body(event)
        is_chunked = type(self.body_reader) is _WithoutTrailers and isinstance(event, events.DataReceived)
        return self._read_chunks(steps) if is_chunked else steps

    def _read_chunks(self, steps: Steps[None]) -> Steps[None]:
        told = None
        for command in steps:
            if type(command) is commands.CloseConnection and self.state == self.read_body and self.response is None:
                # mitmproxy closes without a word; only the stream, which is told next, knows the transaction ID.
                malformed = ResponseProtocolError(self.stream_id, "malformed", ErrorCode.GENERIC_CLIENT_ERROR)
                told = self._parent.error_answer(malformed)
            else:
                yield command
        if told is not None:
            self.send = lambda _event: _nothing()  # type: ignore[method-assign, assignment]  # what else would come of the stream
            yield from self._refuse(*told)
        elif self.state == self.read_body and len(self.buf) > self._parent.gate.max_header_octets:
            yield from self._cut("a chunk's size, or the trailers, are larger than the gate reads")

    def wait(self, event: events.Event) -> Steps[None]:
        yield from super().wait(event)
        if self.state == self.wait and len(self.buf) > _AHEAD_OCTETS:
            yield from self._cut("the client sends too much ahead")

    def _cut(self, why: str) -> Steps[None]:
        self.state = self.done
        self.buf.maybe_extract_at_most(len(self.buf))
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(RequestProtocolError(self.stream_id, why, ErrorCode.GENERIC_CLIENT_ERROR))

    def _wake_in(self, seconds: float) -> Steps[None]:
        self._alarm = commands.RequestWakeup(seconds)
        yield self._alarm

    def _handle_event(self, event: Any) -> Steps[None]:
        return self._wake(event) if isinstance(event, events.Wakeup) else super()._handle_event(event)

    def _wake(self, event: events.Wakeup) -> Steps[None]:
        if event.command is not self._alarm:
            return
        self._alarm = None
        if self.state == self.linger:
            yield from self.linger(event)
        elif self.head_since is not None:
            # The alarm may have been set for an earlier request on the same connection.
            remaining = self.head_since + self._parent.gate.header_seconds - time.monotonic()
            if remaining <= 0:
                yield from self._refuse_head(Reason.REQUEST_TIMEOUT, "the headers did not arrive in time")
            else:
                yield from self._wake_in(remaining)

    def _refuse_head(self, reason: Reason, detail: str) -> Steps[None]:
        self.head_since = None
        transaction = self._parent.gate.refused_by_protocol(self.conn, reason, detail)  # type: ignore[arg-type]  # a client here
        yield from self._refuse(ANSWERS[reason], transaction)

    def send(self, event: Any) -> Steps[None]:
        if isinstance(event, ResponseHeaders) and event.response.status_code != 100 and not self._parent.draining:
            return super().send(event)  # the usual case, at the usual cost
        return self._send(event)

    def _send(self, event: Any) -> Steps[None]:
        if isinstance(event, ResponseProtocolError):
            told = None if self.response else self._parent.error_answer(event)
            if told is None or not self.conn.state & ConnectionState.CAN_WRITE:
                yield commands.CloseConnection(self.conn)
            else:
                yield from self._refuse(*told)
            return
        if isinstance(event, ResponseData) and not event.data:
            return  # as a chunk it would end the body
        is_interim = isinstance(event, ResponseHeaders) and event.response.status_code == 100
        if isinstance(event, ResponseHeaders) and self._parent.draining and not is_interim:
            event.response.headers["Connection"] = "close"
        yield from super().send(event)
        if is_interim:
            self.response = None  # the answer is still to come
        if isinstance(event, ResponseEndOfMessage) and self.response_done and not self.request_done:
            yield from self._linger()

    def _page(self, answer: Answer, transaction: str) -> bytes:
        body = answer.body
        head = (
            f"HTTP/1.1 {answer.status} {answer.message}\r\nContent-Type: application/json\r\n"
            f"Cache-Control: no-store\r\n{TRANSACTION_HEADER}: {transaction}\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        is_head = self.request is not None and self.request.method == "HEAD"
        return head.encode("ascii") + (b"" if is_head else body)

    def _refuse(self, answer: Answer, transaction: str) -> Steps[None]:
        yield commands.SendData(self.conn, self._page(answer, transaction))
        yield from self._linger()

    def _linger(self) -> Steps[None]:
        """Let the client read the answer: closing while it still sends would make its system throw the answer away."""
        self.state = self.linger
        self.buf.maybe_extract_at_most(len(self.buf))
        yield commands.CloseTcpConnection(self.conn, half_close=True)
        yield from self._wake_in(_LINGER_SECONDS)

    def linger(self, event: events.Event) -> Steps[None]:
        """What a client still sends after its answer is not looked at."""
        if isinstance(event, events.DataReceived):
            self._lingered += len(event.data)
            self.buf.maybe_extract_at_most(len(self.buf))
            if self._lingered <= _LINGER_OCTETS:
                return
        self.state = self.done
        yield commands.CloseConnection(self.conn)


class GateHttp2Server(Http2Server):
    """A client's HTTP/2 connection."""

    def __init__(self, parent: Owner) -> None:
        super().__init__(parent.context.fork())
        self._parent = parent

    def _handle_event(self, event: events.Event) -> Steps[None]:
        if isinstance(event, ResponseProtocolError) and self._can_answer(event.stream_id):
            told = self._parent.error_answer(event)
            if told is not None:
                yield from self._refuse(event.stream_id, *told)
                return
        yield from super()._handle_event(event)
        if isinstance(event, ResponseEndOfMessage):
            yield from self._end_upload(event.stream_id)
            if self.is_closed(event.stream_id):
                self.streams.pop(event.stream_id, None)  # mitmproxy keeps them until the client goes

    def _can_answer(self, stream_id: int) -> bool:
        stream = self.h2_conn.streams.get(stream_id)
        return self.is_open_for_us(stream_id) and stream is not None and not stream.state_machine.headers_sent

    def _refuse(self, stream_id: int, answer: Answer, transaction: str) -> Steps[None]:
        its_flow = getattr(self._parent.streams.get(stream_id), "flow", None)
        is_head = its_flow is not None and its_flow.request.method == "HEAD"
        headers = [
            (b":status", b"%d" % answer.status),
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (TRANSACTION_HEADER.lower().encode(), transaction.encode()),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        self.h2_conn.send_headers(stream_id, headers, end_stream=is_head)
        if not is_head:
            self.h2_conn.send_data(stream_id, answer.body)
            self.h2_conn.end_stream(stream_id)
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        yield from self._end_upload(stream_id)

    def _end_upload(self, stream_id: int) -> Steps[None]:
        """RFC 9113 section 8.1: a client that is still sending is told that nobody reads it any more."""
        stream = self.h2_conn.streams.get(stream_id)
        if stream is not None and stream.state_machine.state is h2.stream.StreamState.HALF_CLOSED_LOCAL:
            self.h2_conn.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
            self.streams.pop(stream_id, None)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    def handle_h2_event(self, event: h2.events.Event) -> Steps[bool]:
        if isinstance(event, h2.events.RequestReceived) and self._parent.draining:
            # RFC 9113 section 8.7: the client knows that it can try again elsewhere.
            self.h2_conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            return False
        return (yield from super().handle_h2_event(event))


class GateHttp1Client(_DropsTrailers, Http1Client):
    """An upstream's HTTP/1 connection; made of mitmproxy's by `__class__`, so that it has no members of its own."""

    def read_headers(self, event: events.Event) -> Steps[None]:
        if self.request and isinstance(event, events.DataReceived):
            while interim := _INTERIM.match(self.buf._data):
                # RFC 9110 section 15.2: what follows is the answer. mitmproxy would take this for it.
                self.buf.maybe_extract_at_most(interim.end())
            if not self.buf:
                return _nothing()
        return super().read_headers(event)  # type: ignore[arg-type]  # any event comes

    def send(self, event: Any) -> Steps[None]:
        if isinstance(event, RequestHeaders) and event.end_stream:
            return super().send(event)  # the usual case, at the usual cost
        return self._send(event)

    def _send(self, event: Any) -> Steps[None]:
        if isinstance(event, RequestData) and not event.data:
            return  # an empty DATA frame of HTTP/2; as a chunk it would end the body, and what follows be a request
        if isinstance(event, RequestHeaders) and not event.end_stream:
            request = event.request
            if (request.is_http2 or request.is_http3) and "content-length" not in request.headers:
                # Without it, an HTTP/1 upstream would read the body as a second request that nobody decided.
                request.headers["transfer-encoding"] = "chunked"
        yield from super().send(event)
