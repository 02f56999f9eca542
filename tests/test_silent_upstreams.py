"""When `jwsgate run` gives up waiting for an upstream, on a clock of the test's own; tests/e2e has real upstreams."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.connection import Server
from mitmproxy.test import tflow

from jwsgate.adapters import connection as adapter
from jwsgate.adapters.http_layers import GateHttpStream

LIMIT = 10


class Stream(GateHttpStream):
    """One that awaits its answer, or not."""

    awaits_answer = True  # type: ignore[assignment]

    def __init__(self, server: Server) -> None:
        self.context: Any = SimpleNamespace(server=server)


@dataclass
class Transport:
    """A connection's octets."""

    reader: object = "reader"
    unsent: int = 0
    cut: bool = False
    writer: Any = field(init=False)
    handler: Any = field(init=False)

    def __post_init__(self) -> None:
        self.handler = SimpleNamespace(cancel=lambda _why: setattr(self, "cut", True))
        self.writer = SimpleNamespace(transport=SimpleNamespace(get_write_buffer_size=lambda: self.unsent))


@dataclass
class Client:
    """What `end_silent_upstreams` looks at."""

    streams: dict[int, Stream] = field(default_factory=dict)
    transports: dict[Any, Transport] = field(default_factory=dict)
    client: object = field(default_factory=tflow.tclient_conn)
    _waits_since: dict[object, float] = field(default_factory=dict)

    def open(self, *, tls: bool = False) -> tuple[Server, Transport]:
        """An upstream connection that is there."""
        server = Server(address=("upstream.test", 80))
        server.timestamp_start, server.tls = 1.0, tls
        self.transports[server] = Transport()
        return server, self.transports[server]

    def look(self, now: float) -> None:
        """What happens once a second."""
        adapter._Connection.end_silent_upstreams(self, now, LIMIT)  # type: ignore[arg-type]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """One without connections."""
    made = Client()
    made.transports[made.client] = Transport(reader=None)
    monkeypatch.setattr(adapter, "http_layer_of", lambda _client: SimpleNamespace(streams=made.streams))
    return made


def test_limit(client: Client) -> None:
    """Not before the time is over, and then at once."""
    server, transport = client.open()
    client.streams[1] = Stream(server)
    for now in (0, 1, LIMIT):
        client.look(now)
        assert not transport.cut
    client.look(LIMIT + 1)
    assert transport.cut


def test_connecting_and_answering_have_their_own_time(client: Client) -> None:
    """What connecting and its handshake took is not taken from the answer."""
    server, transport = client.open(tls=True)
    client.streams[1] = Stream(server)
    transport.reader = None
    client.look(0)
    transport.reader = "reader"
    client.look(LIMIT)
    server.timestamp_tls_setup = 2.0
    client.look(LIMIT + 1)
    client.look(2 * LIMIT)
    assert not transport.cut
    client.look(2 * LIMIT + 2)
    assert transport.cut


def test_waiting_for_a_turn(client: Client) -> None:
    """A connection that is not even tried yet has all the time that those before it take."""
    server, transport = client.open()
    server.timestamp_start, transport.reader = None, None
    client.streams[1] = Stream(server)
    for now in (0, 5 * LIMIT):
        client.look(now)
    server.timestamp_start = 3.0
    client.look(5 * LIMIT + 1)
    assert not transport.cut
    client.look(6 * LIMIT + 2)
    assert transport.cut


def test_an_upload_under_way(client: Client) -> None:
    """The time begins when the upstream has taken what there was to send."""
    server, transport = client.open()
    client.streams[1] = Stream(server)
    transport.unsent = 1
    for now in (0, 5 * LIMIT):
        client.look(now)
    transport.unsent = 0
    client.look(5 * LIMIT + 1)
    assert not transport.cut
    client.look(6 * LIMIT + 2)
    assert transport.cut


@pytest.mark.parametrize("is_answered", [False, True])
def test_others_on_the_connection(client: Client, is_answered: bool) -> None:
    """A connection of HTTP/2 stays while another request on it is answered, or has waited for less."""
    server, transport = client.open()
    client.streams[1] = Stream(server)
    client.look(0)
    client.streams[3] = Stream(server)
    client.streams[3].awaits_answer = not is_answered  # type: ignore[assignment]
    client.look(LIMIT)
    client.look(LIMIT + 1)
    assert not transport.cut
    client.look(2 * LIMIT + 1)
    assert transport.cut is not is_answered


def test_nothing_is_kept(client: Client) -> None:
    """What is over is forgotten."""
    server, _ = client.open()
    client.streams[1] = Stream(server)
    client.look(0)
    assert len(client._waits_since) == 1
    client.streams.clear()
    client.look(1)
    assert client._waits_since == {}
