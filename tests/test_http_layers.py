"""The HTTP layers where raw sockets are too blunt: which commands they give, and what they keep."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, context, events, layers
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.test import taddons, tflow

from jwsgate.adapters.gate import JwsGate
from jwsgate.adapters.http_connections import GateHttp1Server
from jwsgate.adapters.http_layers import GateHttpLayer, adopt, http_layer_of
from jwsgate.core.answers import BACKSIDE


@pytest.fixture
def place() -> Iterator[context.Context]:
    """A client's connection in a proxy with mitmproxy's own options."""
    with taddons.context(Proxyserver()) as tctx:
        found = context.Context(tflow.tclient_conn(), tctx.options)
        found.client.alpn = None
        yield found


@pytest.fixture
def layer(place: context.Context) -> GateHttpLayer:
    """A layer of ours in the place of mitmproxy's."""
    found = layers.HttpLayer(place, HTTPMode.transparent)
    adopt(found, JwsGate())
    assert isinstance(found, GateHttpLayer)
    return found


@pytest.fixture
def server(layer: GateHttpLayer) -> GateHttp1Server:
    """The client's HTTP/1 connection."""
    found = GateHttp1Server(layer)
    assert list(found.handle_event(events.Start())) == []
    return found


def received(server: GateHttp1Server, octets: bytes) -> list[commands.Command]:
    """What the connection does with octets of the client."""
    return list(server.handle_event(events.DataReceived(server.conn, octets)))


def sent(server: GateHttp1Server, *messages: events.Event) -> bytes:
    """What the client is sent of a response."""
    given = [command for message in messages for command in server.handle_event(message)]
    return b"".join(command.data for command in given if isinstance(command, commands.SendData))


def response(status: int, **headers: str) -> ResponseHeaders:
    """The head of a response to the first request."""
    return ResponseHeaders(1, http.Response.make(status, b"", headers), end_stream=False)


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_adopt(place: context.Context) -> None:
    """Only mitmproxy's own HTTP layer is taken, also beneath others; nothing else is touched."""
    gate = JwsGate()
    adopt(None, gate)
    raw = layers.TCPLayer(place)
    adopt(raw, gate)
    assert type(raw) is layers.TCPLayer

    class Other(layers.HttpLayer):
        pass

    other = Other(place, HTTPMode.regular)
    adopt(other, gate)
    assert type(other) is Other
    assert http_layer_of(place.client) is None

    tls = layers.ClientTLSLayer(place)
    tls.child_layer = layers.HttpLayer(place, HTTPMode.transparent)
    adopt(tls, gate)
    assert type(tls.child_layer) is GateHttpLayer
    assert http_layer_of(place.client) is tls.child_layer


def test_layers_are_forgotten(place: context.Context) -> None:
    """The look-up by client keeps no layer alive, nor does a layer itself by its client."""
    top = layers.HttpLayer(context.Context(place.client, place.options), HTTPMode.transparent)
    adopt(top, JwsGate())
    assert http_layer_of(place.client) is top
    del top
    gc.collect()
    assert http_layer_of(place.client) is None


def test_one_alarm_for_many_slow_heads(server: GateHttp1Server) -> None:
    """Heads in two packets each set one alarm together, which is set again for what remains of the last one's time."""
    (alarm,) = received(server, HEAD[:9])
    assert isinstance(alarm, commands.RequestWakeup)
    for _ in range(3):
        done = received(server, HEAD[9:])
        assert [type(command) for command in done] == [ReceiveHttp] * 2
        assert sent(server, ResponseHeaders(server.stream_id, http.Response.make(204), end_stream=True))
        sent(server, ResponseEndOfMessage(server.stream_id))
        assert received(server, HEAD[:9]) == []
    assert list(server.handle_event(events.Wakeup(commands.RequestWakeup(1)))) == []  # somebody else's
    (again,) = server.handle_event(events.Wakeup(alarm))
    assert isinstance(again, commands.RequestWakeup)
    assert 15 < again.delay <= 20
    assert server.head_since is not None
    server.head_since = time.monotonic() - 21
    page = sent(server, events.Wakeup(again))
    assert page.startswith(b"HTTP/1.1 408 ")


def test_no_alarm_for_whole_heads(server: GateHttp1Server) -> None:
    """A head in one packet costs no timer."""
    assert not [each for each in received(server, HEAD) if isinstance(each, commands.RequestWakeup)]


def test_empty_parts_end_no_chunked_answer(server: GateHttp1Server) -> None:
    """An empty DATA frame of an HTTP/2 upstream is no last chunk for the client."""
    received(server, HEAD)
    head = sent(server, ResponseHeaders(1, http.Response.make(200, b"", {"Transfer-Encoding": "chunked"}), False))
    assert head.startswith(b"HTTP/1.1 200 ")
    body = sent(server, *(ResponseData(1, part) for part in (b"", b"abc", b"", b"de", b"")), ResponseEndOfMessage(1))
    assert body == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def test_continue_is_no_answer(server: GateHttp1Server) -> None:
    """After 100 Continue a failure can still be told, once."""
    received(server, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    interim = http.Response.make(100)
    interim.headers.clear()
    assert sent(server, ResponseHeaders(1, interim, False)) == b"HTTP/1.1 100 Continue\r\n\r\n"
    page = sent(server, ResponseProtocolError(1, "127.0.0.1 is down", ErrorCode.CONNECT_FAILED))
    assert page.startswith(b"HTTP/1.1 500 ")
    assert page.endswith(BACKSIDE.body)


def test_failure_after_the_answer_began(server: GateHttp1Server) -> None:
    """A failure in the midst of an answer closes the connection, and adds nothing to the answer."""
    received(server, HEAD)
    assert sent(server, response(200, Content_Length="5"))
    (command,) = server.handle_event(ResponseProtocolError(1, "gone", ErrorCode.GENERIC_SERVER_ERROR))
    assert isinstance(command, commands.CloseConnection)


@pytest.mark.parametrize("octet", [b"\x0b", b"\x0c", b"\r"])
@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1@", b"GET@/ HTTP/1.1", b"GET / HTTP/1.1\r\nA:@b", b"GET / HTTP/1.1\r\nA: b@"]
)
def test_stripped_controls_are_seen(server: GateHttp1Server, head: bytes, octet: bytes) -> None:
    """What mitmproxy removes as white space is refused before it does."""
    octets = b"".join(
        command.data
        for command in received(server, head.replace(b"@", octet) + b"\r\nHost: a\r\n\r\n")
        if isinstance(command, commands.SendData)
    )
    assert octets.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("body", [b"1" * 70_000, b"1;" + b"x" * 70_000, b"0\r\n" + b"X-A: b\r\n" * 9000])
def test_endless_lines_in_a_chunked_body(server: GateHttp1Server, body: bytes) -> None:
    """A chunk's size, its extensions and the trailers are not kept without limit."""
    received(server, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    given = received(server, body)
    assert any(isinstance(command, commands.CloseConnection) for command in given)
    assert len(server.buf) == 0
    assert received(server, body) == []


def test_nothing_goes_on_after_a_fault(layer: GateHttpLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception inside closes what is open, comes out, and leaves a layer that does nothing any more."""
    list(layer.handle_event(events.Start()))
    (server,) = layer.connections.values()
    monkeypatch.setattr(server, "state", lambda _event: 1 / 0)
    given = layer.handle_event(events.DataReceived(layer.context.client, HEAD))
    assert isinstance(next(given), commands.CloseConnection)
    with pytest.raises(ZeroDivisionError):
        next(given)
    assert layer.failed
    assert list(layer.handle_event(events.DataReceived(layer.context.client, HEAD))) == []
