"""mitmproxy's HTTP layers with what a gate in production needs of them besides.

mitmproxy reads a refused upload to its end, and goes on after an error of its own. The classes here and in
http_connections.py change that and nothing else. They are put in place of mitmproxy's own by `adopt`, layer by layer,
as connections come in.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from mitmproxy import flow, http
from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    HttpLayer,
    HttpStream,
    RegisterHttpConnection,
    SendHttp,
    is_h3_alpn,
)
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client

from jwsgate.core.answers import ANSWERS, BACKSIDE, Answer
from jwsgate.core.reasons import Reason

from .gatekeeper import Gatekeeper
from .http_connections import GateHttp1Client, GateHttp1Server, GateHttp2Server, Steps

__all__ = ["GateHttpLayer", "GateHttpStream", "adopt", "http_layer_of"]

_BAD_REQUEST: Final = ANSWERS[Reason.REQUEST_UNSAFE]
_LOOK_SECONDS: Final = 1.0
"""How often bodies that are held, and not there yet, are looked at; also how long a denied request's small body is
waited for: a client whose body is there in time keeps its connection."""
_SLOWEST_OCTETS_PER_SECOND: Final = 1000


class _BodyDue(RequestData):
    """Comes in place of more of a body, to ask whether to go on waiting for it."""


# By ID, and weakly: a layer refers to its client, which would so keep itself alive.
_http_layers: WeakValueDictionary[str, "GateHttpLayer"] = WeakValueDictionary()


def http_layer_of(client: Client) -> "GateHttpLayer | None":
    """The HTTP layer of a client's connection, once it has one."""
    return _http_layers.get(client.id)


def adopt(top: layer.Layer | None, gate: Gatekeeper) -> None:
    """Put ours in the place of mitmproxy's HTTP layer, which may lie beneath a TLS layer."""
    while top is not None:
        if type(top) is HttpLayer:
            # The same object: mitmproxy's layers know each other, and nothing has happened in this one yet.
            top.__class__ = GateHttpLayer
            top.gate = gate  # type: ignore[attr-defined]  # of the new class, as those below
            top.used = top.failed = False  # type: ignore[attr-defined]
            top.ended = []  # type: ignore[attr-defined]
            top.held, top.next_look = set(), None  # type: ignore[attr-defined]
            _http_layers[top.context.client.id] = top  # type: ignore[assignment]
            return
        top = getattr(top, "child_layer", None)


class GateHttpLayer(HttpLayer):
    """Makes our kinds of connections and streams."""

    gate: Gatekeeper
    used: bool
    """Whether there was a request yet."""
    failed: bool
    """Whether something broke in these layers."""
    ended: list[Connection]
    """Upstream connections that have ended. mitmproxy keeps each, and looks through all, while the client stays."""

    held: set["GateHttpStream"]
    """Streams whose body is held until it is whole, and was not yet when last looked at."""
    next_look: commands.RequestWakeup | None

    def _handle_event(self, event: events.Event) -> Steps[None]:
        if self.failed:
            return
        if isinstance(event, events.Start):
            alpn = self.context.client.alpn
            if alpn == b"h2":
                self.connections.setdefault(self.context.client, GateHttp2Server(self))
            elif not is_h3_alpn(alpn):
                self.connections.setdefault(self.context.client, GateHttp1Server(self))
        try:
            if isinstance(event, events.Wakeup) and event.command is self.next_look:
                yield from self._look()
            else:
                yield from super()._handle_event(event)
            if self.held:
                yield from self._look_again()
            if isinstance(event, events.ConnectionClosed) and event.connection is not self.context.client:
                self.ended.append(event.connection)
        except GeneratorExit:
            raise
        except BaseException:
            # mitmproxy would go on with the next event, and forward a request without what was lost here.
            self.failed = True
            for connection in list(self.connections):
                yield commands.CloseConnection(connection)
            raise

    def _look(self) -> Steps[None]:
        self.next_look = None
        for stream in list(self.held):
            if stream.awaits_body:
                yield from self.event_to_child(stream, _BodyDue(stream.stream_id, b""))

    def _look_again(self) -> Steps[None]:
        self.held = {stream for stream in self.held if stream.awaits_body}
        if self.held and self.next_look is None:
            self.next_look = commands.RequestWakeup(_LOOK_SECONDS)
            yield self.next_look

    def make_stream(self, stream_id: int) -> Steps[None]:
        self.used = True
        stream = self.streams[stream_id] = GateHttpStream(self, stream_id)
        yield from self.event_to_child(stream, events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Steps[None]:
        for connection in list(self.connections):
            # mitmproxy would give every later request of the client the same error.
            if connection.error and connection not in self.waiting_for_establishment and connection not in self.ended:
                self.ended.append(connection)
        for connection in self.ended[:]:
            in_use = any(stream.context.server is connection for stream in self.streams.values())
            if connection.state is ConnectionState.CLOSED and not in_use:
                self.ended.remove(connection)
                self.connections.pop(connection, None)
        return super().get_connection(event, reuse=reuse)

    def register_connection(self, command: RegisterHttpConnection) -> Steps[None]:
        below: Any = self.connections.get(command.connection)
        while below is not None:
            if type(below) is Http1Client:
                below.__class__ = GateHttp1Client
                below.state = below.read_headers
                break
            below = getattr(below, "child_layer", None)
        yield from super().register_connection(command)

    @property
    def unsent(self) -> int:
        """How many octets of answers wait for an HTTP/2 client to make room for them."""
        server = self.connections.get(self.context.client)
        if not isinstance(server, GateHttp2Server):
            return 0
        return sum(len(part.data) for parts in server.h2_conn.stream_buffers.values() for part in parts)

    @property
    def draining(self) -> bool:
        """Whether the connection is to end after what is in flight."""
        return self.gate.draining

    @property
    def busy(self) -> bool:
        """Whether a request is on its way in or out."""
        server = self.connections.get(self.context.client)
        return bool(self.streams) or (isinstance(server, GateHttp1Server) and server.busy)

    def error_answer(self, event: ResponseProtocolError) -> tuple[Answer, str] | None:
        """What a client is told of a failure, and the transaction ID; None when it cannot be told any more."""
        stream = self.streams.get(event.stream_id)
        its_flow: http.HTTPFlow | None = getattr(stream, "flow", None)
        transaction = (its_flow and self.gate.transaction_id(its_flow)) or secrets.token_hex(12)
        match event.code:
            case ErrorCode.GENERIC_CLIENT_ERROR | ErrorCode.REQUEST_VALIDATION_FAILED | ErrorCode.DESTINATION_UNKNOWN:
                return _BAD_REQUEST, transaction
            case ErrorCode.REQUEST_TOO_LARGE:
                return ANSWERS[Reason.BODY_TOO_LARGE], transaction
            case _:
                pass
        if event.code.http_status_code() is None:
            return None
        self.gate.upstream_failed(transaction, (stream and stream.context.server.error) or event.message)
        return BACKSIDE, transaction


class GateHttpStream(HttpStream):
    """One request and its response."""

    def __init__(self, parent: GateHttpLayer, stream_id: int) -> None:
        super().__init__(parent.context.fork(), stream_id)
        self._layer, self._gate = parent, parent.gate
        self._received = 0
        self._held_since = 0.0
        self._answered_early = False

    @property
    def awaits_answer(self) -> bool:
        """Whether the whole request has come in, and nothing of a response has."""
        return (
            self.server_state == self.state_wait_for_response_headers
            and self.client_state == self.state_done
            and self.flow.response is None
        )

    @property
    def awaits_body(self) -> bool:
        """Whether the body is held until it is whole, and is not yet."""
        return bool(self.client_state == self.state_consume_request_body)

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Steps[None]:
        steps = super().state_wait_for_request_headers(event)
        reply = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                if not event.end_stream and self.awaits_body:
                    self._held_since = time.monotonic()
                    self._layer.held.add(self)
                return
            if isinstance(command, HttpRequestHeadersHook) and event.end_stream and event.request.is_http2:
                self._gate.bodyless.add(self.flow)
            reply = yield command
            if (
                isinstance(command, HttpRequestHeadersHook)
                and not event.end_stream
                and self.flow.response is not None
                and self.flow.error is None
                and self._gate.answers_early(self.flow)
            ):
                steps.close()
                yield from self._answer_early()
                return

    def _answer_early(self) -> Steps[None]:
        """Answer a denied request at once: its body is of no interest, and may be endless."""
        if (yield from self.check_killed(True)):
            return
        self.flow.request.timestamp_end = time.time()
        self.client_state = self.state_done
        self._answered_early = True
        yield HttpRequestHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        if self.flow.response is not None:  # the seal sees to it that there is one
            self.flow.response.timestamp_start = time.time()
            if not (self.flow.request.is_http2 or self.flow.request.is_http3):
                self.flow.response.headers["Connection"] = "close"
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        yield from self.send_response()

    def _wait_no_longer(self) -> Steps[None]:
        """Answer a request whose body is of no interest, or arrives too slowly."""
        waited = time.monotonic() - self._held_since
        if self._gate.is_denied(self.flow):
            if waited >= _LOOK_SECONDS or self._layer.draining:
                yield from self._answer_early()
        elif waited > self._gate.body_seconds + self._received / _SLOWEST_OCTETS_PER_SECOND:
            self._gate.refuse(self.flow, Reason.REQUEST_TIMEOUT, "the body did not arrive in time")
            yield from self._answer_early()

    def state_done(self, event: events.Event) -> Steps[None]:
        if not self._answered_early:  # else what still arrives of the request is not looked at
            yield from super().state_done(event)

    def state_consume_request_body(self, event: events.Event) -> Steps[None]:
        if isinstance(event, _BodyDue):
            return self._wait_no_longer()
        consume = super().state_consume_request_body
        return self._unless_too_large(event, consume) if isinstance(event, RequestData) else consume(event)

    def state_stream_request_body(self, event: events.Event) -> Steps[None]:
        stream = super().state_stream_request_body
        return self._unless_too_large(event, stream) if isinstance(event, RequestData) else stream(event)

    def _unless_too_large(self, event: RequestData, state: Callable[[events.Event], Steps[None]]) -> Steps[None]:
        if not (yield from self._is_too_large(event)):
            yield from state(event)

    def _is_too_large(self, event: RequestData) -> Steps[bool]:
        self._received += len(event.data)
        limit = self._gate.body_limit(self.flow)
        if limit is None or self._received <= limit:
            return False
        self._gate.refuse(self.flow, Reason.BODY_TOO_LARGE, f"the body has more than {limit} octets")
        self.flow.error = flow.Error("the body is too large")
        yield HttpErrorHook(self.flow)
        if self.client_state == self.state_stream_request_body:
            # The upstream has the start of it; without its end it is no request there either.
            cut = RequestProtocolError(self.stream_id, "cut off", ErrorCode.CANCEL)
            yield SendHttp(cut, self.context.server)
        refusal = ResponseProtocolError(self.stream_id, "the body is too large", ErrorCode.REQUEST_TOO_LARGE)
        yield SendHttp(refusal, self.context.client)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)
        return True

    def send_response(self, already_streamed: bool = False) -> Steps[None]:
        yield from super().send_response(already_streamed)
        if self.client_state == self.state_stream_request_body and self.server_state == self.state_done:
            # The upstream has answered before it had the whole request; mitmproxy would keep the answer's end back.
            cut = RequestProtocolError(self.stream_id, "answered early", ErrorCode.CANCEL)
            yield SendHttp(cut, self.context.server)
            self.client_state = self.state_done
            self._answered_early = True
            yield from self.flow_done()
