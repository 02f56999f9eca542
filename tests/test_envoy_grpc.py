"""What Envoy asks over gRPC and is answered: the messages, and the server, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from core_gate import application, certificate_of, snapshot_of
from jwsgate import cli
from jwsgate.adapters.accounts import Accounts
from jwsgate.adapters.check_server import MAX_BODY_OCTETS, CheckServer
from jwsgate.adapters.checking import Checker
from jwsgate.adapters.dialects import Tongue, check_policy, denied
from jwsgate.adapters.envoy_grpc import ENVOY_GRPC, read_question
from jwsgate.adapters.grpc_server import GrpcConnection
from jwsgate.adapters.listening import bind
from jwsgate.adapters.state import GateState
from jwsgate.core.answers import API_CONNECT, Reply, reply_table
from jwsgate.core.decision import Allowed
from jwsgate.core.facts import RequestFacts
from jwsgate.core.reasons import Reason
from jwsgate.core.upstream import lines_of
from jwsgate.files.problems import Unfit
from test_check_server import KEY, LOOPBACK, _break, good
from test_dialects import IMPOSSIBLE, snapshot

ID = "0123456789abcdef01234567"
OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def asked(*headers: tuple[str, bytes], method: str = "GET", target: str = "/protected", **http: Any) -> CheckRequest:
    """As Envoy asks with `encode_raw_headers`."""
    request = CheckRequest()
    request.attributes.source.address.socket_address.address = "10.1.2.3"
    found = request.attributes.request.http
    found.method, found.path = method, target
    for name, value in ((":authority", b"api"), (":path", target.encode()), (":method", method.encode()), *headers):
        found.header_map.headers.add(key=name, raw_value=value)
    for name, value in http.items():
        setattr(found, name, value)
    return request


def read(request: CheckRequest) -> RequestFacts:
    """The facts of a request to a policy without particular demands."""
    plain = snapshot("  - {path: /**}\n")
    return Tongue(ENVOY_GRPC, frozenset(), plain).read(read_question(request.SerializeToString(), "127.0.0.1"))


# In


def test_reads_the_request() -> None:
    """What Envoy names with a colon is no header but for the Host; all others are there as they came."""
    sent = (("jwt", b"a.b.c"), ("x-latin", b"caf\xe9"), ("jwt", b"d.e.f"), ("accept", b"a,b"), ("x-empty", b""))
    facts = read(asked((":scheme", b"http"), *sent, target="/orders/1?a=b"))
    assert (facts.method, facts.target, facts.peer) == ("GET", b"/orders/1?a=b", "10.1.2.3")
    assert facts.headers == ((b"host", b"api"), *((name.encode(), value) for name, value in sent))


def test_joined_headers_are_parted() -> None:
    """Without `encode_raw_headers` Envoy joins what is repeated: a client ID or JWS with a comma is several."""
    request = asked()
    request.attributes.request.http.ClearField("header_map")
    told = {":authority": "api", ":path": "/", "jwt": "a.b.c,d.e.f", "accept": "text/plain,text/html"}
    request.attributes.request.http.headers.update(told)
    assert sorted(read(request).headers) == [
        (b"accept", b"text/plain,text/html"),
        (b"host", b"api"),
        (b"jwt", b"a.b.c"),
        (b"jwt", b"d.e.f"),
    ]


@pytest.mark.parametrize(
    ("marks", "http", "body"),
    [
        pytest.param([b"false"], {"raw_body": b"\xff{}"}, b"\xff{}", id="whole"),
        pytest.param([b"true"], {"raw_body": b"{}"}, None, id="partial"),
        pytest.param([], {"raw_body": b"{}"}, None, id="unmarked"),
        pytest.param([b"false", b"false"], {"raw_body": b"{}"}, None, id="marked-twice"),
        pytest.param([b"false"], {"body": "{}"}, None, id="as-text"),
        pytest.param([b"false"], {}, None, id="none"),
    ],
)
def test_body(marks: list[bytes], http: dict[str, Any], body: bytes | None) -> None:
    """Only a body that Envoy passed whole, and as octets, is the request's."""
    request = asked(*(("x-envoy-auth-partial-body", mark) for mark in marks), **http)
    question = read_question(request.SerializeToString(), "")
    tongue = Tongue(ENVOY_GRPC, frozenset(), snapshot("  - {path: /**}\n"))
    assert tongue.body(question) == body
    assert all(b"partial" not in name for name, _ in tongue.read(question).headers)


@given(st.binary(max_size=200))
def test_octets_are_a_question_or_refused(octets: bytes) -> None:
    """Nothing else is raised, whatever comes."""
    try:
        read_question(octets, "")
    except ValueError:
        return
    CheckRequest.FromString(octets)


# Out


def allowed(routes: str, target: bytes, added: tuple[tuple[bytes, bytes], ...], *sent: tuple[bytes, bytes]) -> Any:
    """What Envoy is told of a request that passes, as a message."""
    found = snapshot(routes)
    route = found.router.find("GET", target)
    assert route is not None
    facts = RequestFacts("GET", target, sent)
    answer = Tongue(ENVOY_GRPC, frozenset(), found).allow(Allowed(route, None, None, lines=lines_of(added)), facts, ID)
    response = CheckResponse.FromString(answer)
    assert response.status.code == 0
    assert response.WhichOneof("http_response") == "ok_response"
    return response.ok_response


def fields(options: Any) -> dict[str, bytes]:
    """Headers that Envoy is to set, each in place of all that there are."""
    assert all(option.append_action == OVERWRITE for option in options)
    assert len({option.header.key.lower() for option in options}) == len(options)
    return {option.header.key: option.header.raw_value or option.header.value.encode() for option in options}


def test_permission() -> None:
    """Told headers take the place of what was sent, in every spelling; upstream and client learn the transaction."""
    routes = "  - {path: /told/**, upstream: {claims: {X-Subject: sub}}}\n  - {path: /orders/**}\n"
    sent = ((b"x-subject", b"me"), (b"x_subject", b"me"), (b"x.subject", b"me"), (b"x-other", b"1"))
    answer = allowed(routes, b"/told/1", ((b"X-Subject", b"you"),), *sent)
    assert fields(answer.headers) == {"X-Global-Transaction-ID": ID.encode(), "X-Subject": b"you"}
    assert fields(answer.response_headers_to_add) == {"X-Global-Transaction-ID": ID.encode()}
    assert list(answer.headers_to_remove) == ["x.subject", "x_subject"]
    answer = allowed(routes, b"/orders/1", (), *sent)
    assert list(answer.headers_to_remove) == ["x-subject", "x.subject", "x_subject"]


def test_strips_the_jws() -> None:
    """A JWS in a cookie goes, and the others stay, in the octets they came in."""
    routes = "  - {path: /a, jws: {cookie: token}, upstream: {strip_jws: true}}\n"
    answer = allowed(routes, b"/a", (), (b"cookie", b"a=\xe9; token=a.b.c; c=2"))
    assert fields(answer.headers)["cookie"] == b"a=\xe9; c=2"
    assert list(answer.headers_to_remove) == []
    answer = allowed(routes, b"/a", (), (b"cookie", b"token=a.b.c"))
    assert list(answer.headers_to_remove) == ["cookie"]


@pytest.mark.parametrize("reason", Reason)
def test_no_denial_lets_anything_pass(reason: Reason) -> None:
    """No reason, in no profile, is a yes; status, words and headers are the reply's own."""
    for table, method in itertools.product((API_CONNECT, reply_table("rfc", {})), ("GET", "HEAD")):
        reply = table[reason]
        response = CheckResponse.FromString(denied(ENVOY_GRPC, reply, ID, method))
        assert response.status.code == 7
        answer = response.denied_response
        assert (answer.status.code, answer.body.encode()) == (reply.status, reply.body)
        found = fields(answer.headers)
        assert found["content-type"] == reply.content_type.encode()
        assert found["X-Global-Transaction-ID"] == ID.encode()
        assert found.get("WWW-Authenticate") == (reply.challenge and reply.challenge.encode())


@pytest.mark.parametrize(("demand", "where", "what"), IMPOSSIBLE)
def test_refuses_what_cannot_be_had(demand: str, where: list[str], what: str) -> None:
    """It can what Envoy can over HTTP, and needs no headers to be declared."""
    found = snapshot(f"  - {{name: r, path: /a, {demand}}}\n")
    if "envoy" not in where or "upstream: {claims:" in demand:
        check_policy(found, ENVOY_GRPC, frozenset())
    else:
        with pytest.raises(Unfit, match=what):
            check_policy(found, ENVOY_GRPC, frozenset())


# The server

CHECK = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/envoy.service.auth.v3.Authorization/Check"),
    (b":authority", b"jwsgate"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
NOT_CHECK = [
    (name, b"/envoy.service.auth.v2.Authorization/Check" if name == b":path" else value) for name, value in CHECK
]
BROKEN_OFF = -1
"""In place of a status: the call came to nothing."""


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it."""
    return b"\0" + len(message).to_bytes(4) + message


class Caller:
    """A client of gRPC, as far as Envoy is one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(header_encoding=None))
        self.h2.initiate_connection()
        self._heard: dict[int, list[tuple[bytes, bytes]]] = {}
        self._octets: dict[int, bytes] = {}
        self._ended: set[int] = set()
        self.goodbye = False

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def begin(self, octets: bytes, headers: list[tuple[bytes, bytes]] = CHECK) -> int:
        """Call, without waiting for the answer."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers)
        self.h2.send_data(stream, octets, end_stream=True)
        self.flush()
        return stream

    async def hear(self) -> bool:
        """Read once; whether there was something."""
        async with asyncio.timeout(5):
            octets = await self._reader.read(65536)
        for event in self.h2.receive_data(octets):
            match event:
                case ResponseReceived(stream_id=stream) | TrailersReceived(stream_id=stream):
                    self._heard.setdefault(stream, []).extend(event.headers)
                case DataReceived(stream_id=stream):
                    self._octets[stream] = self._octets.get(stream, b"") + event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                case StreamEnded(stream_id=stream) | StreamReset(stream_id=stream):
                    self._ended.add(stream)
                case ConnectionTerminated():
                    self.goodbye = True
                case _:
                    pass
        self.flush()
        return bool(octets)

    async def end(self, stream: int) -> tuple[int, Any]:
        """The status of gRPC and the answer to a call, when it has come whole."""
        while stream not in self._ended and await self.hear():
            pass
        octets, heard = self._octets.get(stream, b""), dict(self._heard.get(stream, []))
        if b"grpc-status" not in heard:
            return BROKEN_OFF, None
        if heard[b"grpc-status"] != b"0":
            return int(heard[b"grpc-status"]), None
        assert heard[b":status"] == b"200" and heard[b"content-type"] == b"application/grpc"
        assert octets == framed(octets[5:]) and octets[5:], "nothing said is a yes to Envoy"
        return 0, CheckResponse.FromString(octets[5:])

    async def ask(self, request: CheckRequest) -> int:
        """The status that the client gets; 200 when the request passes."""
        status, response = await self.end(self.begin(framed(request.SerializeToString())))
        return _status(status, response)


def _status(status: int, response: Any) -> int:
    if status:
        return BROKEN_OFF
    return int(response.denied_response.status.code) if response.status.code else 200


def request(token: str | None) -> CheckRequest:
    """A request to the protected route."""
    more = [] if token is None else [("jwt", token.encode())]
    return asked(("x-ibm-client-id", b"client"), *more)


type Job = Callable[[CheckServer, Caller], Awaitable[None]]


class Service:
    """A server on a free port, and a connection to it."""

    def __init__(self, **demands: Any) -> None:
        self.state, self.accounts = GateState(), Accounts()
        self.state.take_up(snapshot_of(application("client", certificate_of(KEY)), **demands))
        self.checker = Checker(ENVOY_GRPC, frozenset(), self.state, self.accounts)

    def run(self, job: Job, peers: Any = LOOPBACK) -> None:
        async def main() -> None:
            (listener,) = bind(("127.0.0.1", 0))
            server = CheckServer(self.checker, peers, [listener], GrpcConnection)
            await server.start()
            caller = Caller(*await asyncio.open_connection(*listener.getsockname()))
            caller.flush()
            try:
                await job(server, caller)
            finally:
                caller.writer.close()
                await server.drain(0)
                await asyncio.sleep(0)

        asyncio.run(main())

    def store(self, wait: Callable[[], Awaitable[None]]) -> None:
        """A replay store that knows no jti, and takes its time."""

        class Store:
            async def first_use(self, *_: Any) -> bool:
                await wait()
                return True

        self.state.replay_store = Store()


def test_answers_on_one_connection() -> None:
    """Yes and no, one after the other."""

    async def job(_server: CheckServer, caller: Caller) -> None:
        for _ in range(2):
            assert [await caller.ask(request(good())), await caller.ask(request(None))] == [200, 500]

    Service().run(job)


def test_calls_at_once() -> None:
    """Each of many calls that wait at once gets its own answer, whichever comes first."""
    service = Service(single_use=True)
    waits = itertools.cycle([0.02, 0.01, 0])
    service.store(lambda: asyncio.sleep(next(waits)))

    async def job(_server: CheckServer, caller: Caller) -> None:
        calls = {
            caller.begin(framed(request(token).SerializeToString())): 500 if token is None else 200
            for token in [good(), None, good()] * 10
        }
        for stream in reversed(calls):
            assert _status(*await caller.end(stream)) == calls[stream]

    service.run(job)


BAD_MESSAGES = [
    pytest.param(lambda octets: b"", id="nothing"),
    pytest.param(lambda octets: octets[:-1], id="short"),
    pytest.param(lambda octets: octets + b"\0", id="long"),
    pytest.param(lambda octets: octets + octets, id="twice"),
    pytest.param(lambda octets: b"\1" + octets[1:], id="compressed"),
    pytest.param(lambda octets: framed(b"\xff" + octets[6:]), id="no-protobuf"),
    pytest.param(lambda octets: framed(octets[5:].replace(b"GET", b"G\xffT")), id="no-utf-8"),
    pytest.param(lambda octets: framed(b""), id="empty"),
    pytest.param(lambda octets: framed(asked(method="").SerializeToString()), id="no-method"),
    pytest.param(lambda octets: framed(asked(target="").SerializeToString()), id="no-target"),
]


@pytest.mark.parametrize("spoil", BAD_MESSAGES)
def test_garbage_is_denied(spoil: Callable[[bytes], bytes]) -> None:
    """A call with another message than one question is a denial; the connection goes on."""

    async def job(_server: CheckServer, caller: Caller) -> None:
        octets = framed(request(good()).SerializeToString())
        assert _status(*await caller.end(caller.begin(spoil(octets)))) == 400
        assert await caller.ask(request(good())) == 200

    Service().run(job)


def test_other_methods_are_errors() -> None:
    """To call another method is an error of gRPC, and so is too much."""

    async def job(_server: CheckServer, caller: Caller) -> None:
        octets = framed(request(good()).SerializeToString())
        assert (await caller.end(caller.begin(octets, NOT_CHECK)))[0] == 12
        get = [(name, b"GET" if name == b":method" else value) for name, value in CHECK]
        assert (await caller.end(caller.begin(octets, get)))[0] == 12
        assert await caller.ask(request(good())) == 200

    Service().run(job)


def test_too_much_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than any question is not kept."""
    assert MAX_BODY_OCTETS == 10 * 1024 * 1024
    monkeypatch.setattr("jwsgate.adapters.grpc_server.MAX_BODY_OCTETS", 10_000)

    async def job(_server: CheckServer, caller: Caller) -> None:
        assert (await caller.end(caller.begin(framed(bytes(12_000)))))[0] == 12
        assert await caller.ask(request(good())) == 200

    Service().run(job)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" + bytes(100), id="http-1"),
        pytest.param(b"\xff" * 100, id="noise"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x01\x04\0\0\0\0", id="frames"),
    ],
)
def test_what_is_no_http_2_ends(octets: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The connection is over, and nothing was said on it that could be taken for an answer."""

    async def job(server: CheckServer, _caller: Caller) -> None:
        name = server._sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*name)
        writer.write(octets)
        async with asyncio.timeout(5):
            heard = await reader.read(-1)
        assert b"grpc" not in heard
        writer.close()

    with caplog.at_level("INFO"):
        Service().run(job)
    assert "request_unsafe" in caplog.text
    assert "Traceback" not in caplog.text


def test_question_in_pieces() -> None:
    """A question is whole when its end has come, wherever the network cut it."""

    async def job(server: CheckServer, caller: Caller) -> None:
        assert await caller.ask(request(None)) == 500  # the greetings are over
        (connection,) = server.connections
        stream = caller.h2.get_next_available_stream_id()
        caller.h2.send_headers(stream, CHECK)
        caller.h2.send_data(stream, framed(request(good()).SerializeToString()), end_stream=True)
        for octet in caller.h2.data_to_send():
            assert stream not in caller._ended
            connection.data_received(bytes([octet]))  # type: ignore[attr-defined]
        assert _status(*await caller.end(stream)) == 200

    Service().run(job)


def test_little_room_for_the_answer() -> None:
    """An answer goes out as Envoy makes room for it, whole in the end."""

    async def job(_server: CheckServer, caller: Caller) -> None:
        caller.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        caller.flush()
        stream = caller.begin(framed(request(None).SerializeToString()))
        for _ in range(3):
            await caller.hear()
        assert stream not in caller._ended
        caller.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65535})
        caller.flush()
        assert _status(*await caller.end(stream)) == 500

    Service().run(job)


def test_other_peers_get_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Only listed peers are answered, and the log says that there was another."""

    async def job(_server: CheckServer, caller: Caller) -> None:
        with contextlib.suppress(ConnectionError):
            assert await caller.ask(request(good())) == BROKEN_OFF

    with caplog.at_level("INFO"):
        Service().run(job, peers=[ipaddress.ip_network("10.0.0.0/8")])
    assert "the peer is not one of --peers" in caplog.text


@pytest.mark.parametrize(
    "part",
    [
        "jwsgate.adapters.checking.decide",
        "jwsgate.adapters.checking.Tongue",
        "jwsgate.adapters.checking.new_transaction_id",
        "jwsgate.adapters.checking.Tongue.read",
        "jwsgate.adapters.checking.Tongue.allow",
        "jwsgate.adapters.accounts.Accounts.wants",
        "jwsgate.adapters.envoy_grpc._set",
        "jwsgate.adapters.grpc_server.read_question",
        "jwsgate.adapters.grpc_server.GrpcConnection._heed",
        "jwsgate.adapters.grpc_server.GrpcConnection._receive",
        "jwsgate.adapters.grpc_server.GrpcConnection._answer",
        "jwsgate.adapters.grpc_server.GrpcConnection._send",
        "jwsgate.adapters.grpc_server.GrpcConnection._push",
        "jwsgate.adapters.checking.Checker.answer",
    ],
)
@pytest.mark.parametrize("single_use", [False, True], ids=["plain", "single-use"])
def test_whatever_breaks_denies(part: str, single_use: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception anywhere on the way is a denial or no answer at all, and the service goes on."""
    service = Service(single_use=single_use)
    faults: list[Any] = []

    async def job(_server: CheckServer, caller: Caller) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        with monkeypatch.context() as broken:
            broken.setattr(part, _break)
            assert await caller.ask(request(good())) in {500, BROKEN_OFF}

    async def again(_server: CheckServer, caller: Caller) -> None:
        assert await caller.ask(request(good())) == 200

    service.run(job)
    service.run(again)
    assert faults == []


def test_refusal_that_breaks_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    """When not even the refusal can be recorded."""
    monkeypatch.setattr("jwsgate.adapters.checking.Checker.refuse", _break)

    async def job(_server: CheckServer, caller: Caller) -> None:
        assert _status(*await caller.end(caller.begin(b"garbage"))) == 500
        assert (await caller.end(caller.begin(b"", NOT_CHECK)))[0] == BROKEN_OFF

    Service().run(job)


@pytest.mark.parametrize(
    "fault", [RuntimeError(), asyncio.CancelledError(), TimeoutError()], ids=["exception", "cancelled", "timeout"]
)
def test_replay_store_that_breaks_denies(fault: BaseException) -> None:
    """When it cannot be told whether a jti was used, nothing passes."""
    service = Service(single_use=True)

    async def wait() -> None:
        raise fault

    service.store(wait)

    async def job(_server: CheckServer, caller: Caller) -> None:
        assert await caller.ask(request(good())) == 500

    service.run(job)


def test_nothing_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message without octets, which Envoy would take for a yes, is not sent, whoever made it."""
    assert CheckResponse.FromString(b"").status.code == 0
    monkeypatch.setattr(Checker, "answer", lambda *_: b"")

    async def job(_server: CheckServer, caller: Caller) -> None:
        assert await caller.ask(request(good())) == BROKEN_OFF

    Service().run(job)


def test_nobody_waits_any_more() -> None:
    """A call that Envoy gave up is not answered, and the others are."""
    service = Service(single_use=True)
    go_on = asyncio.Event()
    service.store(go_on.wait)  # type: ignore[arg-type]

    async def job(server: CheckServer, caller: Caller) -> None:
        given_up, waiting = (caller.begin(framed(request(good()).SerializeToString())) for _ in range(2))
        while not server.connections or len(next(iter(server.connections))._tasks) < 2:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        caller.h2.reset_stream(given_up, ErrorCodes.CANCEL)
        assert await caller.ask(request(None)) == 500
        go_on.set()
        assert _status(*await caller.end(waiting)) == 200
        assert given_up not in caller._heard
        assert not any(connection.busy for connection in server.connections)

    service.run(job)


def test_drain_answers_what_was_asked() -> None:
    """Envoy is asked to call no more, what is under way is answered, and then the connection ends."""
    service = Service(single_use=True)
    go_on = asyncio.Event()
    service.store(go_on.wait)  # type: ignore[arg-type]

    async def job(server: CheckServer, caller: Caller) -> None:
        stream = caller.begin(framed(request(good()).SerializeToString()))
        while not any(connection.busy for connection in server.connections):
            await asyncio.sleep(0)
        _, silent = await asyncio.open_connection(*server._sockets[0].getsockname())
        draining = asyncio.ensure_future(server.drain(5))
        # h2's client takes a GOAWAY for the end of everything, so its word for it is looked for here by hand.
        octets = b""
        while b"\0\0\x08\x07\0\0\0\0\0" not in octets:
            async with asyncio.timeout(5):
                octets += await caller._reader.read(65536)
        late = caller.begin(framed(request(good()).SerializeToString()))
        caller.writer.write(b"\0\0\x08\x06\x01\0\0\0\0finished")  # it has heard that
        go_on.set()
        async with asyncio.timeout(5):
            octets += await caller._reader.read(-1)
        assert await draining == 0
        for each in (stream, late):
            assert each.to_bytes(4) + framed(b"")[:1] in octets
        assert octets.count(ID_HEADER) == 2 * 2
        assert not server.is_listening
        silent.close()

    service.run(job)


ID_HEADER = b"X-Global-Transaction-ID"


def test_drain_cuts_off_what_hangs() -> None:
    """In the end who still waits is cut off, without an answer that lets it pass."""
    service = Service(single_use=True)
    service.store(lambda: asyncio.sleep(60))

    async def job(server: CheckServer, caller: Caller) -> None:
        stream = caller.begin(framed(request(good()).SerializeToString()))
        while not any(connection.busy for connection in server.connections):
            await asyncio.sleep(0)
        assert await server.drain(0.01) == 1
        with contextlib.suppress(ConnectionError, ProtocolError):  # h2's client heeds no more after a GOAWAY
            assert _status(*await caller.end(stream)) == BROKEN_OFF

    service.run(job)


def test_denial_of_odd_words() -> None:
    """Words that gRPC cannot carry raise, which the checker makes its last resort of."""
    with pytest.raises(UnicodeDecodeError):
        denied(ENVOY_GRPC, Reply(500, b"\xff", "text/plain"), ID)


# The extra


def test_others_do_not_wait_for_it() -> None:
    """The other dialects start without protobuf and HTTP/2."""
    code = "import sys, jwsgate.cli.serve, jwsgate.adapters.serving; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"h2", "google.protobuf", "envoy", "grpc"} & set(done.stdout.split())


@pytest.mark.parametrize("missing", ["h2", "envoy.service.auth.v3", "envoy"])
def test_without_the_extra(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install; a package of another that is called envoy too does not count."""
    if missing == "envoy":
        for name in [name for name in sys.modules if name.startswith("envoy.")]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, ModuleType("envoy") if missing == "envoy" else None)  # type: ignore[arg-type]
    arguments = ["--dialect", "envoy-grpc", "--portal", str(tmp_path), "--policy", str(tmp_path)]
    done = CliRunner().invoke(cli.main, ["serve", *arguments])
    assert done.exit_code == 1
    assert done.output == "Error: --dialect envoy-grpc needs h2 and xds-protos: pip install 'jwsgate[grpc]'\n"
