"""gRPC for `jwsgate serve --dialect envoy-grpc`: one unary method over HTTP/2 without TLS.

HTTP/2 is h2's. It is not grpcio's server, which takes no socket that is listened on already: one that workers share,
that systemd hands over, or that has its permissions.

Rule 1. A call is answered with a `CheckResponse` or broken off with an error; either way Envoy denies what was not
        allowed. Rule 2. What cannot be read is a denial, and what is no HTTP/2 ends its connection.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from hyperframe.frame import GoAwayFrame

from jwsgate.core.reasons import Reason

from .check_server import MAX_BODY_OCTETS, Connection
from .envoy_grpc import read_question

if TYPE_CHECKING:
    from .check_server import CheckServer

__all__ = ["GrpcConnection"]

_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    # What is sent is written here.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
_CHECK: Final = {(b":method", b"POST"), (b":path", b"/envoy.service.auth.v3.Authorization/Check")}
_HEAD: Final = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_DONE: Final = ((b"grpc-status", b"0"),)
_UNIMPLEMENTED: Final = (*_HEAD, (b"grpc-status", b"12"))
_PREFIX_OCTETS: Final = 5
_LAST_STREAM: Final = 2**31 - 1


class GrpcConnection(Connection):
    """Questions over HTTP/2, as many at a time as h2 allows."""

    def __init__(self, server: "CheckServer") -> None:
        """Belongs to a server."""
        super().__init__(server)
        self._h2 = H2Connection(_CONFIG)
        self._calls: dict[int, bytearray] = {}
        """What was received of each call that is not answered yet, by its stream."""
        self._unsent: dict[int, bytes] = {}
        """What is left of answers that Envoy has no room for."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ending = self._was_heard = self._knows = False

    @property
    def busy(self) -> bool:
        """Whether a question has begun that is not answered yet."""
        return bool(self._calls)

    # What the transport calls

    def connection_made(self, transport: Any) -> None:
        """Called by the transport."""
        super().connection_made(transport)
        self._h2.initiate_connection()
        self._write()

    def data_received(self, octets: bytes) -> None:
        """Called by the transport."""
        if self._transport.is_closing():
            return
        self._was_heard = True
        try:
            for event in self._h2.receive_data(octets):
                self._heed(event)
        except BaseException as error:
            with suppress(Exception):
                self._checker.refuse(self._peer, Reason.REQUEST_UNSAFE, "the proxy's question cannot be read")
            self._write()  # why, in the words of HTTP/2
            self.close()
            if not isinstance(error, Exception):
                raise
        self._write()

    def pause_writing(self) -> None:
        """Called by the transport: whoever does not read is not listened to."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._transport.resume_reading()

    def _write(self) -> None:
        if (octets := self._h2.data_to_send()) and not self._transport.is_closing():
            self._transport.write(octets)

    # Calls

    def _heed(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=stream, headers=headers):
                if set(headers) >= _CHECK:
                    self._calls[stream] = bytearray()
                else:
                    self._refuse(stream, "the proxy calls another method than Check")
            case DataReceived(stream_id=stream, data=data, flow_controlled_length=length):
                self._h2.acknowledge_received_data(length, stream)
                self._receive(stream, data)
            case StreamEnded(stream_id=stream) if stream in self._calls:
                self._answer(stream, bytes(self._calls[stream]))
            case StreamReset(stream_id=stream):
                self._calls.pop(stream, None)
                self._unsent.pop(stream, None)
            case WindowUpdated() | RemoteSettingsChanged():
                for stream in list(self._unsent):
                    self._push(stream)
            case PingAckReceived():
                self._knows = self._is_ending
            case ConnectionTerminated():
                self.close()
            case _:
                pass

    def _receive(self, stream: int, data: bytes) -> None:
        if (received := self._calls.get(stream)) is not None:
            received += data
            if len(received) > MAX_BODY_OCTETS:
                del self._calls[stream]
                self._refuse(stream, "the proxy's question is too large")

    def _refuse(self, stream: int, why: str) -> None:
        self._checker.refuse(self._peer, Reason.REQUEST_UNSAFE, why)
        self._h2.send_headers(stream, _UNIMPLEMENTED, end_stream=True)

    def _answer(self, stream: int, octets: bytes) -> None:
        answer: bytes | Awaitable[bytes] = self._checker.last_resort
        try:
            message = octets[_PREFIX_OCTETS:]
            if octets[:_PREFIX_OCTETS] != b"\0" + len(message).to_bytes(4):
                raise ValueError("no message, or several, or one that is compressed")
            question = read_question(message, self._peer)
        except ValueError:
            with suppress(Exception):
                why = "the proxy's question cannot be read"
                answer = self._checker.refuse(self._peer, Reason.REQUEST_UNSAFE, why)
        else:
            answer = self._checker.answer(question)
        if isinstance(answer, bytes):
            self._send(stream, answer)
        else:
            task = asyncio.get_running_loop().create_task(self._send_later(stream, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_later(self, stream: int, awaited: Awaitable[bytes]) -> None:
        answer = self._checker.last_resort
        try:
            answer = await awaited
        finally:
            try:
                self._send(stream, answer)
                self._write()
            except Exception:
                self.close()

    def _send(self, stream: int, answer: bytes) -> None:
        if stream not in self._calls or self._transport.is_closing():
            return  # nobody waits for it any more
        if not answer:
            self._h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)  # Envoy would take it for a yes
            del self._calls[stream]
            return
        self._h2.send_headers(stream, _HEAD)
        self._unsent[stream] = b"\0" + len(answer).to_bytes(4) + answer
        self._push(stream)

    def _push(self, stream: int) -> None:
        octets = self._unsent[stream]
        while octets:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room <= 0:
                self._unsent[stream] = octets
                return
            self._h2.send_data(stream, octets[:room])
            octets = octets[room:]
        self._h2.send_headers(stream, _DONE, end_stream=True)
        del self._unsent[stream], self._calls[stream]

    # The end

    def finish(self) -> None:
        """Ask Envoy to call no more here, and end once it knows and all calls are answered."""
        if not self._was_heard:
            self.close()
        elif not self._is_ending:
            self._is_ending = True
            # h2 knows no GOAWAY after which what is under way goes on (RFC 9113 section 6.8).
            self._transport.write(GoAwayFrame(0, last_stream_id=_LAST_STREAM).serialize())
            self._h2.ping(b"finished")
            self._write()
        elif self._knows:
            super().finish()

    def abort(self) -> None:
        """End the connection at once."""
        for task in self._tasks:
            task.cancel()
        super().abort()
