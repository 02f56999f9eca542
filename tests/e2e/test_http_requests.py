"""Requests that mean to be read in two ways, are malformed, too large or too slow: raw octets at both doors."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h2.events
import h2.exceptions
import pytest

import material
from e2e import gates
from e2e.answers import TRANSACTION_ID, assert_rejected, body_of
from e2e.estate import KEYS, P256, RSA, Files, credentials
from e2e.gates import Door, Gate
from e2e.http_client import (
    HOST,
    Connection,
    H2Connection,
    Header,
    NoResponse,
    exchange,
    h2_exchange,
    request_octets,
)
from e2e.upstream import BODY, Answer, RecordingUpstream, Wire
from feature_material import detached

pytestmark = pytest.mark.e2e

ANY = "/orders/7"
LARGE = 200_000
"""More than the gate holds, so that it is passed on as it comes."""


def lower(headers: list[Header]) -> list[Header]:
    """Header names as HTTP/2 wants them."""
    return [(name.lower(), value) for name, value in headers]


def bad() -> list[Header]:
    """Headers with another key's signature."""
    return credentials(RSA, material.jws(material.private_key("rsa", "stranger")))


def framing(upstream: RecordingUpstream) -> tuple[list[bytes], list[bytes]]:
    """How the one request at the upstream was framed: its content-length and its transfer-encoding."""
    request = upstream.only_request()
    return request.values("content-length"), request.values("transfer-encoding")


# HTTP/2 in, HTTP/1 out


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, LARGE])
@pytest.mark.parametrize("told", [False, True], ids=["no-length", "length"])
@pytest.mark.parametrize("trailers", [[], [("x-checksum", "1"), ("jwt", "x")]], ids=["", "trailers"])
def test_h2_body_arrives_as_one_request(
    http_gate: Gate, upstream: RecordingUpstream, size: int, told: bool, trailers: list[Header]
) -> None:
    """Held or streamed, with a length or without: one request with one framing, and no trailer in it."""
    hidden = request_octets("DELETE", "/smuggled", [("X-A", "b")])
    body = (hidden + b"x" * size)[:size]
    headers = [*lower(credentials()), *([("content-length", str(size))] if told else [])]
    with H2Connection(http_gate.port) as connection:
        stream = connection.start("POST", ANY, headers)
        connection.send(stream, body, ends=not trailers)
        if trailers:
            connection.machine.send_headers(stream, trailers, end_stream=True)
            connection.flush()
        assert connection.read(stream).status == 200
        # And the connection goes on.
        stream = connection.start("GET", "/second", lower(credentials()), ends=True)
        assert connection.read(stream).status == 200
    first, second = upstream.wait_for_requests(2)
    assert not upstream.malformed
    assert (first.method, first.target, first.body) == ("POST", ANY.encode(), body)
    assert len(first.values("content-length")) + len(first.values("transfer-encoding")) <= 1
    assert not first.values("x-checksum")
    assert second.target == b"/second"


@pytest.mark.parametrize(
    "lengths",
    [["10"], [str(LARGE + 5)], ["0"], ["5", str(LARGE)], ["-1"], [f"+{LARGE}"], ["0x10"], ["1_0"], [""], [" 5"], ["²"]],
    ids=repr,
)
@pytest.mark.parametrize("size", [100, LARGE])
def test_h2_lying_length(http_gate: Gate, upstream: RecordingUpstream, lengths: list[str], size: int) -> None:
    """A content-length that belies the body makes no whole request upstream, and no second one."""
    hidden = request_octets("DELETE", "/smuggled", [("X-A", "b")])
    body = (hidden * (size // len(hidden) + 1))[:size]
    headers = [*lower(credentials()), *(("content-length", length.encode()) for length in lengths)]
    connection = H2Connection(http_gate.port, timeout=2)
    with connection, contextlib.suppress(NoResponse, OSError, h2.exceptions.ProtocolError):
        stream = connection.start("POST", ANY, headers)
        connection.send(stream, body, ends=True)
        assert connection.read(stream).status >= 400
    time.sleep(0.05)
    upstream.settle()
    assert b"/smuggled" not in b"".join(request.target for request in upstream.requests)
    assert upstream.requests == []
    assert exchange(http_gate.port, "GET", ANY, credentials()).status == 200


@pytest.mark.parametrize("size", [100, LARGE])
def test_h2_data_after_the_end(http_gate: Gate, upstream: RecordingUpstream, size: int) -> None:
    """DATA after END_STREAM belongs to no request."""
    with H2Connection(http_gate.port, timeout=2) as connection:
        stream = connection.start("POST", ANY, lower(credentials()))
        connection.send(stream, b"x" * size, ends=True)
        hidden = request_octets("DELETE", "/smuggled", [("X-A", "b")])
        # A DATA frame made by hand: the client's own machine knows better.
        connection.raw(len(hidden).to_bytes(3) + b"\0\1" + stream.to_bytes(4) + hidden)
        with contextlib.suppress(NoResponse, h2.exceptions.ProtocolError):
            connection.read(stream)
    time.sleep(0.1)
    upstream.settle()
    assert b"/smuggled" not in upstream.octets
    assert len(upstream.requests) <= 1


def test_h2_chunks_in_a_body_stay_a_body(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """A streamed body that looks like the end of a chunked one is carried inside chunks of the gate's own."""
    body = b"0\r\n\r\n" + request_octets("DELETE", "/smuggled", [("X-A", "b")]) + b"x" * LARGE
    with H2Connection(http_gate.port) as connection:
        stream = connection.start("POST", ANY, lower(credentials()))
        connection.send(stream, body, ends=True)
        assert connection.read(stream).status == 200
    assert upstream.only_request().body == body
    assert framing(upstream) == ([], [b"chunked"])


def test_h2_empty_frames_do_not_end_a_body(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """An empty DATA frame in the midst of a streamed body makes no last chunk, and what follows no request."""
    hidden = request_octets("DELETE", "/smuggled", [("X-A", "b")])
    with H2Connection(http_gate.port) as connection:
        stream = connection.start("POST", ANY, lower(credentials()))
        for part in (b"", b"abc", b"", hidden, b"", b""):
            connection.machine.send_data(stream, part)
            connection.flush()
        connection.send(stream, ends=True)
        assert connection.read(stream).status == 200
    assert upstream.only_request().body == b"abc" + hidden


def test_h2_stream_reset_midway(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """A client that takes a streamed upload back leaves the upstream with a cut connection, not with a request."""
    with H2Connection(http_gate.port) as connection:
        stream = connection.start("POST", ANY, lower(credentials()))
        connection.send(stream, b"x" * LARGE)
        wait_until(lambda: len(upstream.octets) > LARGE // 2)
        connection.machine.reset_stream(stream, 8)
        connection.flush()
        stream = connection.start("GET", "/second", lower(credentials()), ends=True)
        assert connection.read(stream).status == 200
    assert [request.target for request in upstream.requests] == [b"/second"]


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# The names that matter, in other spellings


TRANSACTION_SPELLINGS = [
    "X-Global-Transaction-ID",
    "x-global-transaction-id",
    "X-GLOBAL-TRANSACTION-ID",
    "X_Global_Transaction_ID",
    "X.Global.Transaction.ID",
    "X-Global_Transaction-ID",
]


@pytest.mark.parametrize("name", TRANSACTION_SPELLINGS)
@pytest.mark.parametrize("large", [False, True], ids=["held", "streamed"])
def test_transaction_id_is_never_the_clients(
    http_gate: Gate, upstream: RecordingUpstream, name: str, large: bool
) -> None:
    """However the client spells the header, it does not get through, streamed or not, over HTTP/1.1 or 2."""
    body = b"x" * (LARGE if large else 3)
    forged: Header = (name, "f" * 24)
    response = exchange(http_gate.port, "POST", ANY, [*credentials(), forged], body)
    assert response.status in (200, 400)
    assert b"f" * 24 not in upstream.octets
    if response.status == 200:
        assert upstream.only_request().values("X-Global-Transaction-ID") == [
            response.value("X-Global-Transaction-ID").encode()
        ]
    upstream.clear()
    with H2Connection(http_gate.port) as connection:
        stream = connection.start("POST", ANY, lower([*credentials(), forged]))
        connection.send(stream, body, ends=True)
        assert connection.read(stream).status in (200, 400)
    assert b"f" * 24 not in upstream.octets


SPELLINGS: list[Any] = [
    pytest.param(lambda: [*credentials(), ("X.IBM.Client.Id", P256)], 400, id="client-id-dotted"),
    pytest.param(lambda: [*credentials(), ("X_IBM_Client_Id", P256)], 400, id="client-id-underscores"),
    pytest.param(lambda: [*credentials(), ("x-IBM-client-ID", P256)], 401, id="client-id-other-case"),
    pytest.param(lambda: [("X-IBM-Client-Id", f"{RSA},{P256}"), credentials()[1]], 401, id="client-id-joined"),
    pytest.param(lambda: [*credentials(), ("JWT", "x")], 500, id="jws-other-case"),
    pytest.param(lambda: [credentials()[0], ("jwt", credentials()[1][1] + ",x")], 500, id="jws-joined"),  # type: ignore[operator]
]


@pytest.mark.parametrize(("headers", "status"), SPELLINGS)
@pytest.mark.parametrize("path", [ANY, "/medium/1", "/once/1", "/claims", "/socket/1", "/open/1"])
def test_spellings_on_every_path(
    http_gate: Gate, upstream: RecordingUpstream, headers: Callable[[], list[Header]], status: int, path: str
) -> None:
    """What repeats or imitates the client ID or the JWS is refused on every route, with a body or without."""
    for body in (b"", b"x" * LARGE):
        assert exchange(http_gate.port, "POST", path, headers(), body).status == status
    assert h2_exchange(http_gate.port, "GET", path, lower(headers())).status in (status, 401, 500)
    upstream.assert_untouched()


# Malformed requests


def malformed() -> dict[str, bytes]:
    """Requests that are not HTTP, or not quite; each with good credentials where it has headers at all."""
    good = "".join(f"{name}: {value!s}\r\n" for name, value in credentials()).encode()
    host = f"Host: {HOST}\r\n".encode()
    head = host + good
    post = b"POST /x HTTP/1.1\r\n" + head
    return {
        "http-0.9": b"GET /x\r\n\r\n",
        "http-0.9-with-headers": b"GET /x\r\n" + head + b"\r\n",
        "http-0.9-version": b"GET /x HTTP/0.9\r\n" + head + b"\r\n",
        "http-1.2": b"GET /x HTTP/1.2\r\n" + head + b"\r\n",
        "http-2.0": b"GET /x HTTP/2.0\r\n" + head + b"\r\n",
        "http-3.0": b"GET /x HTTP/3.0\r\n" + head + b"\r\n",
        "http-9.9": b"GET /x HTTP/9.9\r\n" + head + b"\r\n",
        "http-1.10": b"GET /x HTTP/1.10\r\n" + head + b"\r\n",
        "http-lower": b"GET /x http/1.1\r\n" + head + b"\r\n",
        "http-no-number": b"GET /x HTTP\r\n" + head + b"\r\n",
        "https-version": b"GET /x HTTPS/1.1\r\n" + head + b"\r\n",
        "no-method": b"/x HTTP/1.1\r\n" + head + b"\r\n",
        "no-target": b"GET HTTP/1.1\r\n" + head + b"\r\n",
        "no-host": b"GET /x HTTP/1.1\r\n" + good + b"\r\n",
        "two-hosts": b"GET /x HTTP/1.1\r\n" + host + head + b"\r\n",
        "four-words": b"GET /x y HTTP/1.1\r\n" + head + b"\r\n",
        "method-lower": b"get /x HTTP/1.1\r\n" + head + b"\r\n",
        "method-odd": b"GE(T /x HTTP/1.1\r\n" + head + b"\r\n",
        "method-latin": b"G\xc9T /x HTTP/1.1\r\n" + head + b"\r\n",
        "method-nul": b"G\x00T /x HTTP/1.1\r\n" + head + b"\r\n",
        "target-nul": b"GET /x\x00 HTTP/1.1\r\n" + head + b"\r\n",
        "target-tab": b"GET /x\ty HTTP/1.1\r\n" + head + b"\r\n",
        "target-cr": b"GET /x\ry HTTP/1.1\r\n" + head + b"\r\n",
        "target-latin": b"GET /\xe9 HTTP/1.1\r\n" + head + b"\r\n",
        "target-relative": b"GET x HTTP/1.1\r\n" + head + b"\r\n",
        "target-no-host": b"GET http:///x HTTP/1.1\r\n" + head + b"\r\n",
        "target-bad-port": b"GET http://a:b/x HTTP/1.1\r\n" + head + b"\r\n",
        "target-user": b"GET http://u:p@gate.test/x HTTP/1.1\r\n" + head + b"\r\n",
        "target-other-scheme": b"GET gopher://gate.test/x HTTP/1.1\r\n" + head + b"\r\n",
        "asterisk": b"GET * HTTP/1.1\r\n" + head + b"\r\n",
        "options-asterisk": b"OPTIONS * HTTP/1.1\r\n" + head + b"\r\n",
        "connect": b"CONNECT gate.test:443 HTTP/1.1\r\n" + head + b"\r\n",
        "connect-path": b"CONNECT /x HTTP/1.1\r\n" + head + b"\r\n",
        "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "header-no-colon": b"GET /x HTTP/1.1\r\n" + head + b"nonsense\r\n\r\n",
        "header-no-name": b"GET /x HTTP/1.1\r\n" + head + b": x\r\n\r\n",
        "header-space-before-colon": b"GET /x HTTP/1.1\r\n" + head + b"X-A : b\r\n\r\n",
        "header-space-in-name": b"GET /x HTTP/1.1\r\n" + head + b"X A: b\r\n\r\n",
        "header-nul-in-name": b"GET /x HTTP/1.1\r\n" + head + b"X\x00A: b\r\n\r\n",
        "header-latin-name": b"GET /x HTTP/1.1\r\n" + head + b"X-\xe9: b\r\n\r\n",
        "header-nul": b"GET /x HTTP/1.1\r\n" + head + b"X-A: a\x00b\r\n\r\n",
        "header-escape": b"GET /x HTTP/1.1\r\n" + head + b"X-A: a\x1bb\r\n\r\n",
        "header-delete": b"GET /x HTTP/1.1\r\n" + head + b"X-A: a\x7fb\r\n\r\n",
        "header-bare-cr": b"GET /x HTTP/1.1\r\n" + head + b"X-A: a\rX-B: c\r\n\r\n",
        "header-cr-cr-lf": b"GET /x HTTP/1.1\r\n" + head + b"X-A: a\r\r\n\r\n",
        "header-folded": b"GET /x HTTP/1.1\r\n" + head + b"X-A: a\r\n b\r\n\r\n",
        "header-folded-tab": b"GET /x HTTP/1.1\r\n" + head + b"X-A: a\r\n\tjwt: b\r\n\r\n",
        "header-folded-first": b"GET /x HTTP/1.1\r\n X-A: a\r\n" + head + b"\r\n",
        "length-not-a-number": post + b"Content-Length: x\r\n\r\n",
        "length-empty": post + b"Content-Length: \r\n\r\n",
        "length-negative": post + b"Content-Length: -1\r\n\r\n",
        "length-signed": post + b"Content-Length: +1\r\n\r\nx",
        "length-hex": post + b"Content-Length: 0x1\r\n\r\nx",
        "length-zeros": post + b"Content-Length: 01\r\n\r\nx",
        "length-underscore": post + b"Content-Length: 1_0\r\n\r\n0123456789",
        "length-list": post + b"Content-Length: 1, 1\r\n\r\nx",
        "length-twice": post + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "length-differing": post + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        "length-endless": post + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx",
        "length-and-chunked": post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "coding-unknown": post + b"Transfer-Encoding: x\r\n\r\nx",
        "coding-identity": post + b"Transfer-Encoding: identity\r\n\r\nx",
        "coding-gzip": post + b"Transfer-Encoding: gzip\r\n\r\nx",
        "coding-twice": post + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "coding-chunked-chunked": post + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "coding-vertical-tab": post + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "coding-http-1.0": post.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "chunk-no-hex": post + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
        "chunk-negative": post + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
        "chunk-huge": post + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 30 + b"\r\nabc",
        "chunk-0x": post + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        "chunk-longer-than-told": post + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        "chunk-bare-lf": post + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
        "nul-octets": b"\x00" * 40 + b"\r\n\r\n",
        "upgrade-h2c": b"GET /x HTTP/1.1\r\n" + head + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        "upgrade-foo": b"GET /x HTTP/1.1\r\n" + head + b"Connection: Upgrade\r\nUpgrade: foo\r\n\r\n",
    }


GETS_A_HOST = {"no-host", "two-hosts"}
"""mitmdump's reverse mode puts the upstream's own Host in the place of the client's."""


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("name", list(malformed()))
def test_malformed_requests(http_gate: Gate, upstream: RecordingUpstream, name: str, tls: bool) -> None:
    """Nothing malformed reaches the upstream, and no answer to it says what the gate is made of."""
    if name in GETS_A_HOST and http_gate.door != "jwsgate run":
        pytest.skip("it is not malformed any more")
    with Connection(http_gate.port, tls=tls, timeout=0.4) as connection:
        connection.send(malformed()[name])
        answer = b""
        with contextlib.suppress(NoResponse):
            answer = connection.read_to_end()
    assert not re.match(rb"HTTP/1\.[01] [123]", answer), answer
    assert b"mitmproxy" not in answer.lower()
    assert b"<html" not in answer
    assert b"127.0.0.1" not in answer
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert TRANSACTION_ID.search(head.decode("latin-1").partition("X-Global-Transaction-ID: ")[2])
        assert body == body_of("request_unsafe") or body.startswith(b'{ "httpCode":"'), answer
    upstream.settle()
    assert upstream.requests == []
    if not name.startswith("chunk-"):  # a chunked body may be on its way before it turns out to be malformed
        upstream.assert_untouched()


def test_bare_line_feeds_mean_the_same_on_both_sides(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """Lines that end in LF alone are read as lines (RFC 9112 section 2.2), and leave with CRLF."""
    good = b"".join(f"{name}: {value!s}\n".encode() for name, value in credentials())
    with Connection(http_gate.port) as connection:
        connection.send(b"GET /x HTTP/1.1\nHost: gate.test\nX-A: b\nX-C: d\n" + good + b"\n")
        assert connection.read().status in (200, 400)
    for request in upstream.requests:
        assert (request.values("X-A"), request.values("X-C")) == ([b"b"], [b"d"])
    assert b"b\nX" not in upstream.octets


LOOK_ALIKES = ["Transfer_Encoding", "transfer.encoding", "Content_Length", "HTTP2_Settings", "Keep_Alive"]


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alikes_of_framing_headers_go_no_further(http_gate: Gate, upstream: RecordingUpstream, name: str) -> None:
    """An upstream that folds names could read them as the framing; over HTTP/2 too."""
    headers: list[Header] = [*credentials(), (name, "chunked"), ("X_Any", "kept")]
    assert exchange(http_gate.port, "POST", ANY, headers, b"body").status == 200
    assert h2_exchange(http_gate.port, "POST", ANY, lower(headers), b"body").status == 200
    for request in upstream.wait_for_requests(2):
        assert request.values(name) == []
        assert request.values("X_Any") == [b"kept"]
        assert request.body == b"body"


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("path", [ANY, "/signed/1"])
@pytest.mark.parametrize("start", [b"", b"3\r\nabc\r\n"], ids=["first", "later"])
def test_malformed_chunk_is_answered(
    http_gate: Gate, upstream: RecordingUpstream, start: bytes, path: str, tls: bool
) -> None:
    """Who was allowed, and then sends a chunk that is none, is told so; the upstream gets no whole request."""
    headers: list[Header] = (
        credentials() if path == ANY else [("X-IBM-Client-Id", RSA), ("jwt", detached(KEYS[RSA], b"x"))]
    )
    with Connection(http_gate.port, tls=tls) as connection:
        connection.send(request_octets("POST", path, [*headers, ("Transfer-Encoding", "chunked")]) + start)
        time.sleep(0.1)
        connection.send(b"zz\r\nabc\r\n0\r\n\r\n")
        response = connection.read()
        assert_rejected(response, "request_unsafe")
        assert response.value("Connection") == "close"
        assert connection.is_closed()
    upstream.settle()
    assert upstream.requests == []


def test_early_answer_to_a_malformed_head_is_readable(http_gate: Gate) -> None:
    """The answer to a malformed head is not lost because the client goes on sending."""
    with Connection(http_gate.port) as connection:
        connection.send(b"POST /x HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n")
        time.sleep(0.05)
        for _ in range(5):
            with contextlib.suppress(OSError):
                connection.send(b"x" * 1000)
        assert_rejected(connection.read(), "request_unsafe")


# Trailers, empty lines, pipelines


def test_trailers_are_dropped(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """HTTP/1.1 request trailers go no further; the connection stays usable."""
    chunked: Header = ("Transfer-Encoding", "chunked")
    with Connection(http_gate.port) as connection:
        for number in range(2):
            octets = request_octets("POST", f"/x/{number}", [*credentials(), chunked, ("Trailer", "X-Sum")])
            connection.send(octets + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\njwt: x\r\n\r\n")
            assert connection.read().status == 200
    assert [request.body for request in upstream.requests] == [b"abc"] * 2
    assert b"X-Sum: 1" not in upstream.octets


def test_trailers_of_the_upstream_are_dropped(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """The upstream's trailers do not break the answer, nor the connection."""

    def script(wire: Wire) -> None:
        for _ in range(2):
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            wire.send(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")

    with upstream.scripted(script), Connection(http_gate.port) as connection:
        for _ in range(2):
            response = connection.exchange("GET", ANY, credentials())
            assert (response.status, response.body) == (200, b"abc")


@pytest.mark.parametrize("blank", [b"\r\n", b"\n", b"\r\n\r\n\n\r\n"], ids=repr)
def test_empty_lines_before_a_request(http_gate: Gate, upstream: RecordingUpstream, blank: bytes) -> None:
    """Empty lines before a request, in the same packet or in one of their own, are passed over."""
    with Connection(http_gate.port) as connection:
        for _ in range(2):
            connection.send(blank + request_octets("GET", ANY, credentials()))
            assert connection.read().status == 200
            connection.send(blank)
            time.sleep(0.01)
    assert len(upstream.requests) == 2


def test_pipeline_cut_anywhere(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """Good and bad requests with bodies in one stream, cut in two packets at any octet: each gets its own verdict."""
    token = credentials()
    chunked: Header = ("Transfer-Encoding", "chunked")
    stream = (
        request_octets("POST", "/1", token, b"one")
        + request_octets("POST", "/2", bad(), b"GET /smuggled HTTP/1.1\r\n\r\n")
        + request_octets("POST", "/3", [*token, chunked], b"3;a=b\r\nabc\r\n0\r\n\r\n")
        + request_octets("GET", "/4", [])
        + request_octets("GET", "/5", token)
    )
    for at in range(1, len(stream), 7):
        upstream.clear()
        with Connection(http_gate.port) as connection:
            connection.send(stream[:at])
            time.sleep(0.002)
            connection.send(stream[at:])
            statuses = [connection.read().status for _ in range(5)]
        assert statuses == [200, 500, 200, 401, 200], at
        got = [(request.target, request.body) for request in upstream.requests]
        assert got == [(b"/1", b"one"), (b"/3", b"abc"), (b"/5", b"")], at


def test_octet_by_octet(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """Two requests that come octet by octet are two requests."""
    with Connection(http_gate.port) as connection:
        for octet in request_octets("POST", "/1", credentials(P256), b"x") + request_octets("GET", "/2", bad()):
            connection.send(bytes([octet]))
        assert [connection.read().status for _ in range(2)] == [200, 500]
    assert [request.target for request in upstream.requests] == [b"/1"]


def test_endless_pipeline_is_not_kept(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """What a client sends ahead while its request is answered slowly is not heaped up without end."""
    with upstream.holding(), Connection(http_gate.port, timeout=2) as connection:
        connection.send(request_octets("GET", ANY, credentials()))
        upstream.wait_for_requests(1)
        with pytest.raises(OSError):
            for _ in range(400):
                connection.send(b"x" * (1 << 16))


def test_rejected_head_gets_no_body_over_either(http_gate: Gate) -> None:
    """The error pages of the connection have no body for HEAD either."""
    headers: list[Header] = [*credentials(), ("Content-Length", "x")]
    with Connection(http_gate.port) as connection:
        connection.send(request_octets("HEAD", ANY, headers))
        head, _, rest = connection.read_to_end().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert rest == b""


# Headers: how large, how slow


def padded(size: int, target: str = ANY, headers: list[Header] | None = None) -> bytes:
    """A request whose head has so many octets."""
    headers = credentials() if headers is None else headers
    empty = len(request_octets("GET", target, [*headers, ("X-Padding", "")]))
    return request_octets("GET", target, [*headers, ("X-Padding", "x" * (size - empty))])


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_header_cap(http_gate: Gate, upstream: RecordingUpstream, tls: bool) -> None:
    """A head of 64 KiB passes, one octet more does not, however the packets fall."""
    with Connection(http_gate.port, tls=tls) as connection:
        connection.send(padded(65536))
        assert connection.read().status == 200
        connection.send(padded(65536))
        assert connection.read().status == 200
    assert len(upstream.requests) == 2
    upstream.clear()
    for size in (65537, 70_000, 100_000, 131_072):
        for cut in (1, 60_000, size // 2):
            octets = padded(size)
            with Connection(http_gate.port, tls=tls) as connection:
                connection.send(octets[:cut])
                time.sleep(0.01)
                with contextlib.suppress(OSError):
                    connection.send(octets[cut:])
                assert_rejected(connection.read(), "headers_too_large")
                assert connection.is_closed(), size
    upstream.assert_untouched()


def test_header_cap_is_an_option(
    door: Door,
    home: Path,
    files: Files,
    session_upstream: RecordingUpstream,
    upstream: RecordingUpstream,
    tmp_path: Path,
) -> None:
    """jwsgate_max_header_octets is the cap, for whoever needs another."""
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=session_upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=["jwsgate_max_header_octets=2000"],
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name=door,
    ) as gate:
        for size, expected in ((2000, 200), (2001, 431), (66_000, 431)):
            with Connection(gate.port) as connection:
                connection.send(padded(size))
                assert connection.read().status == expected
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("line", [b"X-A: b\r\n", b"x", b"a\n"], ids=repr)
def test_endless_headers(http_gate: Gate, upstream: RecordingUpstream, line: bytes, tls: bool) -> None:
    """Headers that never end are cut off soon after 64 KiB."""
    with Connection(http_gate.port, tls=tls) as connection:
        connection.send(request_octets("GET", ANY, credentials())[:-2])
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.send(line * (10_000 // len(line)))
        assert_rejected(connection.read(), "headers_too_large")
    upstream.assert_untouched()


def test_header_cap_counts_each_request(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """A pipeline of many requests is no large head."""
    many = request_octets("GET", ANY, credentials()) * 150
    assert len(many) > 65536
    with Connection(http_gate.port) as connection:
        connection.send(many)
        assert [connection.read().status for _ in range(150)] == [200] * 150
    assert len(upstream.requests) == 150


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_slow_headers(http_gate: Gate, upstream: RecordingUpstream, tls: bool) -> None:
    """A head that drips in gets 408 when its time is up, however regularly it drips."""
    octets = padded(2000)
    with Connection(http_gate.port, tls=tls, timeout=5) as connection:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for at in range(40):
                connection.send(octets[at : at + 1])
                time.sleep(0.05)
        assert_rejected(connection.read(), "request_timeout")
        assert 0.5 < time.monotonic() - started < 4
        assert connection.is_closed()
    upstream.assert_untouched()


def test_slow_second_head(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """The time counts for each head anew: many quick ones in two packets each are no slow one."""
    octets = request_octets("GET", ANY, credentials())
    with Connection(http_gate.port, timeout=5) as connection:
        for _ in range(15):
            connection.send(octets[:30])
            time.sleep(0.1)
            connection.send(octets[30:])
            assert connection.read().status == 200
        connection.send(octets[:30])
        assert_rejected(connection.read(), "request_timeout")
    assert len(upstream.requests) == 15


def test_slow_answer_is_no_slow_head(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """The time for headers does not count while the upstream thinks, nor while a body is uploaded."""
    with Connection(http_gate.port, timeout=10) as connection:
        with upstream.holding():
            connection.send(request_octets("GET", ANY, credentials()))
            upstream.wait_for_requests(1)
            time.sleep(2.5)
        assert connection.read().status == 200
        connection.send(request_octets("POST", ANY, [*credentials(), ("Content-Length", "10")]))
        for _ in range(5):
            time.sleep(0.5)
            connection.send(b"xx")
        assert connection.read().status == 200


def only_the_sidecar(gate: Gate) -> None:
    """mitmdump's own listener has no timeout for connections without a request."""
    if gate.door != "jwsgate run":
        pytest.skip("only the sidecar ends them")


@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n"], ids=repr)
def test_silent_connections_end(http_gate: Gate, octets: bytes) -> None:
    """Connections without a request, and handshakes that never finish, are ended by the sidecar."""
    only_the_sidecar(http_gate)
    with Connection(http_gate.port) as connection:
        connection.send(octets)
        with contextlib.suppress(AssertionError):  # a TLS alert may come first
            assert connection.is_closed(6)
        assert connection.is_closed(6)


def test_silent_tls_connection_ends(http_gate: Gate) -> None:
    """A finished handshake is no request."""
    only_the_sidecar(http_gate)
    with Connection(http_gate.port, tls=True) as connection:
        assert connection.is_closed(6)


def test_h2_headers_that_never_end(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """HTTP/2 headers without END_HEADERS hold nothing open for ever, dripping or not."""
    only_the_sidecar(http_gate)
    with H2Connection(http_gate.port, timeout=8) as connection:
        connection.raw(b"\0\0\1\1\0\0\0\0\1\x82")  # HEADERS of one octet, to be continued
        with pytest.raises(NoResponse, match="closed"):
            connection.wait_for(h2.events.ResponseReceived)
    upstream.assert_untouched()


def test_h2_headers_too_large(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """HTTP/2 headers of more than 64 KiB end at the gate, which may close before the last of them is sent."""
    with contextlib.suppress(NoResponse, ConnectionError):
        response = h2_exchange(http_gate.port, "GET", ANY, [*lower(credentials()), ("x-a", "b" * 70_000)], timeout=3)
        assert response.status >= 400
    upstream.assert_untouched()
    assert exchange(http_gate.port, "GET", ANY, credentials()).body == BODY


def test_answers_are_the_upstreams_again(http_gate: Gate, upstream: RecordingUpstream) -> None:
    """After all that, the gate still carries plain answers."""
    upstream.answer_with(Answer("204 No Content", [], b""))
    assert exchange(http_gate.port, "DELETE", ANY, credentials()).status == 204
