"""Paths that can be read in two ways, as raw octets over HTTP/1.1 and HTTP/2 at both doors.

Each is refused, or it reaches the upstream as the very path that the decision was made on, by the route that a strict
upstream would choose, and every laxer one. "The decision's path" is that of the audit log; what upstreams read is
worked out here once more, by other means than the package's.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import h2.events
import pytest

from e2e import gates
from e2e.estate import P256, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Connection, H2Connection, NoResponse, Response, request_octets
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e

type Send = Callable[..., Iterator[tuple[bytes, Response]]]

POLICY = """\
routes:
  - {name: open, path: "/open/**", open: true}
  - {name: admin, path: "/admin/**"}
  - {name: list, path: /orders}
  - {name: item, path: "/orders/{id}"}
  - {name: own, path: /orders/own, open: true}
  - {name: parts, path: "/orders/{id}/parts"}
  - {name: text, path: "/caf%C3%A9"}
  - {name: lax, path: "/lax/**", open: true}
  - {name: read, path: /lax/read, methods: [GET]}
  - {name: page, path: "/lax/pages/{page}", open: true}
  - {name: own page, path: /lax/pages/own/}
"""

# What upstreams choose by: a path as they read it. The first that fits.
HANDLERS: Final = [
    ("own", rb"/orders/own"),
    ("parts", rb"/orders/[^/]+/parts"),
    ("item", rb"/orders/[^/]+"),
    ("list", rb"/orders"),
    ("text", "/café".encode()),
    ("open", rb"/open(/.*)?"),
    ("admin", rb"/admin(/.*)?"),
    ("read", rb"/lax/read/?"),
    ("own page", rb"/lax/pages/own/?"),
    ("page", rb"/lax/pages/[^/]+"),
    ("lax", rb"/lax(/.*)?"),
]

CORPUS: Final[dict[str, list[bytes]]] = {
    "plain": [b"/open/x", b"/admin/x", b"/orders", b"/orders/7", b"/orders/own", b"/orders/7/parts", b"/caf%C3%A9"],
    "encoded slash": [
        *(b"/open%2Fx", b"/open/..%2Fadmin", b"/open/%2e%2e%2fadmin", b"/open/..%2f..%2fadmin/x", b"/orders%2Fown"),
        *(b"/orders/own%2F", b"/orders/7%2fparts", b"%2Fopen/x"),
        *(b"/%2fopen/x", b"/open/a%2Fb", b"/open/%EF%BC%8Fadmin"),
        *(b"/open/..%c0%afadmin", b"/open/..%e0%80%afadmin", b"/open/%u002e%u002e/admin", b"/open/x%2F..%2F..%2Fadmin"),
    ],
    "dot segments": [
        *(b"/open/../admin/x", b"/open/./x", b"/open/..", b"/open/.", b"/..", b"/.", b"/open/x/../../admin"),
        *(b"/open/%2e%2e/admin", b"/open/%2E./admin", b"/open/.%2e/admin", b"/open/%2e/x", b"/./admin", b"/../open/x"),
        *(b"/open/...", b"/open/.../admin", b"/open/..a", b"/open/a..", b"/open/.hidden", b"/open/%2e%2e%2e/x"),
        *(b"/open/..%20/admin", b"/open/%20../admin", b"/open/..%09/admin", b"/open/..%00/admin", b"/open/..%ff/admin"),
    ],
    "double slashes": [
        *(b"//admin/x", b"//open/x", b"/open//x", b"/open//../admin"),
        *(b"/open/x//", b"//", b"/orders//7", b"/orders//own"),
        *(b"//gate.test/admin", b"///admin", b"/open///admin", b"/orders/7//parts", b"//admin@open/x"),
    ],
    "case": [b"/OPEN/x", b"/Admin/x", b"/orders/OWN", b"/orders/Own", b"/ORDERS/own", b"/caf%c3%a9", b"/CAF%C3%89"],
    "matrix parameters": [
        *(b"/open;a=b/x", b"/open/x;a=b", b"/open/..;/admin", b"/open/..;a=b/admin", b"/open/.;/x", b"/admin;/x"),
        *(b"/orders/own;", b"/orders/own;v=1", b"/orders/own%3Bv=1", b"/orders/7;v=1", b"/orders;x/own", b"/;/admin"),
        *(b"/open;/../admin", b"/open/x;/..;/..;/admin", b"/orders/own;/parts", b"/orders/7%3b/parts", b"/open/;x"),
    ],
    "absolute form": [
        *(b"http://gate.test/admin/x", b"http://gate.test/open/x", b"http://evil.test/open/../admin", b"http:/admin/x"),
        *(b"http://gate.test//admin", b"http://gate.test", b"http://gate.test?/open/x", b"HTTP://gate.test/open/x"),
        *(b"https://gate.test/orders/own", b"ftp://gate.test/open/x", b"http:///open/x", b"://open/x", b"http:open/x"),
        *(b"http://open/x@gate.test/admin", b"http://gate.test/open/x#/admin", b"http://gate.test:80/admin/x"),
    ],
    "trailing slash": [
        *(b"/open", b"/open/", b"/admin", b"/admin/", b"/orders/", b"/orders/7/", b"/orders/own/", b"/orders/7/parts/"),
        *(b"/caf%C3%A9/", b"/", b"/orders/own/.", b"/orders/own%20"),
        *(b"/orders/own%09", b"/orders/own.", b"/orders/%6fwn/"),
        *(b"/lax/read", b"/lax/read/", b"/lax/pages/own", b"/lax/pages/own/", b"/lax/pages/7", b"/lax/pages/7/"),
    ],
    "backslash": [
        *(b"/open\\x", b"/open/..\\admin", b"\\admin\\x", b"/open%5Cx", b"/open/..%5cadmin", b"/open/%2e%2e%5Cadmin"),
        *(b"/orders\\own", b"/orders%5Cown", b"/open\\..\\admin", b"/\\admin", b"/open/%255c..%255cadmin"),
    ],
    "encoded NUL and control characters": [
        *(b"/open/%00", b"/orders/own%00", b"/admin/x%00/open", b"/%00/open/x", b"/open/x%0a", b"/open/x%0d%0aX:%201"),
        *(b"/orders/own%01", b"/open/%7f", b"/open/%1b", b"/open/x\x00", b"/open/\x01", b"/open/x\x7f", b"/open/x\x0b"),
    ],
    "encoded twice": [
        *(b"/open/%252e%252e/admin", b"/open/%252e%252e%252fadmin"),
        *(b"/open/..%252fadmin", b"/open/%25252e%25252e/admin"),
        *(b"/orders%252Fown", b"/orders/own%252F", b"/orders/%256fwn", b"/orders/%25%36%66wn", b"/orders/7%252Fparts"),
        *(b"/open/%25", b"/open/100%25", b"/open/%2525", b"/open/a%252Fb", b"/orders/%2561", b"/orders/own%2500"),
        *(b"/orders/%25%32%66own", b"/open/%25%32%65%25%32%65/admin", b"/open%252f..%252fadmin", b"/%2561dmin/x"),
    ],
    "no escapes": [b"/open/%", b"/open/%4", b"/open/%zz", b"/open/%-1", b"/open/% 41", b"/open/%+1", b"/open/%%36%31"],
    "octets beyond ASCII": [
        *(b"/caf\xc3\xa9", b"/caf\xe9", b"/caf%e9"),
        *(b"/open/\xff", b"/open/\xc0\xae\xc0\xae/admin", b"/open/%c0%ae%c0%ae/admin"),
        *(b"/open/\xef\xbc\x8fadmin", b"/orders/\xef\xbd\x8fwn", b"/orders/%ef%bd%8fwn"),
        *(b"/caf%65%CC%81", b"/open/\x85"),
        *(b"/open/\xe2\x80\xae", b"/open/%E2%80%AE", b"/op\xc2\xaden/x", b"/open/%C3", b"/open/\xa0"),
    ],
    "other spellings of plain characters": [
        *(b"/%6fpen/x", b"/%61dmin/x", b"/orders/%6fwn", b"/orders/%6F%77%6E", b"/orders/7/%70arts", b"/orders/o%77n"),
        *(b"/open/%41", b"/open/%7Ex", b"/open/%2Dx", b"/open/%3A", b"/open/%40", b"/open/x%2Cy", b"/orders/7%2E5"),
        *(b"/open/+x", b"/open/%2Bx", b"/orders/o+wn", b"/orders/own%2B", b"/orders/!$&'()*,=:@", b"/orders/~7"),
    ],
    "question marks and hashes": [
        *(b"/open/x?/../admin", b"/open/x??y", b"/open/x?", b"/orders/own?;x", b"/orders/7?a=b/own", b"/admin?/open/x"),
        *(b"/open/x#/admin", b"/open/x%23", b"/open/x%3Fy", b"/orders/own%3F"),
        *(b"/orders/own%3Fx", b"/orders/own#", b"#/open"),
        *(b"/orders/own%23", b"/admin/x?#", b"?/open/x", b"/?/open/x"),
        *(b"/open?x", b"/orders/own?%00", b"/open/x?%2e%2e/"),
        *(b"/open/x?a b", b"/open/x?\xff", b"/open/x?\x00", b"/open/x?a=\\..\\", b"/open/%3F/../admin", b"/open/x&y"),
    ],
    "no paths": [
        *(b"*", b"open/x", b"", b"gate.test:80", b".", b".."),
        *(b"~", b"@open/x", b":80/open/x", b"%", b"[::1]/open"),
    ],
    "characters that no path has": [
        *(b"/open/<x>", b'/open/"x"', b"/open/{x}", b"/open/[x]", b"/open/x|y", b"/open/^", b"/open/`", b"/open/x y"),
        *(b"/open/%3Cx%3E", b"/open/%22", b"/open/%7Bx%7D", b"/open/%5Bx%5D", b"/open/%7C", b"/open/%5E", b"/open/%60"),
        *(b"/open/x\t", b"/ open/x", b"/open/%20", b"/open/x%20HTTP/1.1", b"/orders/%20own", b"/orders/ own"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def paths_gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate with open routes beside closed ones, and an audit log."""
    files = write_files(tmp_path_factory.mktemp("paths"), policy=POLICY)
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=session_upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=[f"jwsgate_audit={files.directory / 'audit.jsonl'}"],
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate


def tidy(path: bytes) -> bytes:
    """As file servers have it: no dot segments, no empty ones, and no backslashes."""
    return b"/" + posixpath.normpath(b"/" + path.replace(b"\\", b"/")).lstrip(b"/")


READINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "strict": unquote_to_bytes,
    "tidy": lambda path: tidy(unquote_to_bytes(path)),
    "tidy first": lambda path: unquote_to_bytes(tidy(path)),
    "twice": lambda path: tidy(unquote_to_bytes(unquote_to_bytes(path))),
    "without parameters": lambda path: tidy(unquote_to_bytes(re.sub(rb";[^/]*", b"", path))),
    "without parameters, late": lambda path: tidy(re.sub(rb";[^/]*", b"", unquote_to_bytes(path))),
    "without NUL": lambda path: tidy(unquote_to_bytes(path).partition(b"\0")[0]),
}


def routes_of(target: bytes) -> dict[str, str | None]:
    """The route that each kind of upstream would choose."""
    path = target.partition(b"?")[0]
    return {
        kind: next((name for name, pattern in HANDLERS if re.fullmatch(pattern, read(path), re.DOTALL)), None)
        for kind, read in READINGS.items()
    }


def over_http1(port: int, targets: list[bytes], method: str = "GET") -> Iterator[tuple[bytes, Response]]:
    """What is answered to each target, sent on a connection of its own; nothing for one that is not answered."""
    for target in targets:
        with contextlib.suppress(NoResponse), Connection(port, timeout=5) as connection:
            connection.send(request_octets(method, target, [*credentials(P256), ("Connection", "close")]))
            yield target, connection.read()


def over_http2(port: int, targets: list[bytes], method: str = "GET") -> Iterator[tuple[bytes, Response]]:
    """The same, one stream after another, on a new connection after one that the gate ended."""
    waiting = targets[::-1]
    while waiting:
        with contextlib.suppress(NoResponse, OSError), H2Connection(port, timeout=5) as connection:
            while waiting:
                target = waiting.pop()
                lower = [(name.lower(), value) for name, value in credentials(P256)]
                stream = connection.start(method, target.decode("latin-1"), lower, ends=True)
                if (response := answer(connection, stream)) is not None:
                    yield target, response


def answer(connection: H2Connection, stream: int) -> Response | None:
    """The head of what is answered; None when the stream is reset."""
    head = None
    while True:
        match connection.wait_for(h2.events.Event):
            case h2.events.ResponseReceived(stream_id=number, headers=fields) if number == stream:
                pairs = [(str(name), str(value)) for name, value in fields]
                head = Response(int(dict(pairs)[":status"]), "", pairs, b"")
            case h2.events.StreamEnded(stream_id=number) if number == stream:
                return head
            case h2.events.StreamReset(stream_id=number) if number == stream:
                return None
            case h2.events.ConnectionTerminated():
                raise NoResponse("terminated")


def faults(gate: Gate, upstream: RecordingUpstream, targets: list[bytes], send: Send) -> Iterator[str]:
    """What is wrong with how the targets were treated."""
    passed = {}
    for target, response in send(gate.port, targets):
        if response.status == 200:
            passed[response.value("X-Global-Transaction-ID").encode()] = target
        elif response.status not in {400, 404}:
            yield f"{target!r} was answered {response.status}"
    upstream.settle()
    received = {request.values("X-Global-Transaction-ID")[0]: request.target for request in upstream.requests}
    if len(upstream.requests) != len(passed) or received.keys() != passed.keys():
        yield f"{[*passed.values()]} passed, and {[*received.values()]} arrived"
    lines = (gate.directory.parent / "audit.jsonl").read_text().splitlines()
    records = {record["transaction_id"].encode(): record for record in map(json.loads, lines)}
    for number, target in passed.items():
        arrived, record = received[number], records[number]
        # White space around the target belongs to the request line (RFC 9112 section 3).
        if arrived != target.strip(b" \t") and target.startswith(b"/"):
            yield f"{target!r} arrived as {arrived!r}"
        if record["path"].encode() != arrived.partition(b"?")[0]:
            yield f"{target!r} was decided as {record['path']}, and arrived as {arrived!r}"
        for kind, route in routes_of(arrived).items():
            if route != record["route"]:
                yield f"{target!r} passed by {record['route']}, and upstreams that read {kind} have {route}"


@pytest.mark.parametrize("send", [over_http1, over_http2], ids=["h1", "h2"])
@pytest.mark.parametrize("kind", CORPUS)
def test_one_path_for_all(paths_gate: Gate, upstream: RecordingUpstream, kind: str, send: Send) -> None:
    """Refused, or the decision, what the upstream saw and every way to read it mean the same."""
    assert [*faults(paths_gate, upstream, CORPUS[kind], send)] == []
    if kind == "plain":
        assert [request.target for request in upstream.requests] == CORPUS[kind]


@pytest.mark.parametrize("send", [over_http1, over_http2], ids=["h1", "h2"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "get", "X"])
def test_no_method_finds_a_laxer_route(paths_gate: Gate, upstream: RecordingUpstream, method: str, send: Send) -> None:
    """What a strict route does not have the method for goes by no other route, whatever way its path is written."""
    strict = b"/lax/read"
    targets = [strict, *(strict + end for end in (b"/", b";", b";v=1", b"/;", b"/;v=1", b"%20", b"/%20", b"?", b"/?x"))]
    targets += [
        b"/lax;/read/",
        b"/lax/%72ead/",
        b"/lax/re%61d/;",
        b"/lax/pages/own",
        b"/lax/pages/own;",
        b"/lax/pages/o%77n",
    ]
    answered = {target: response.status for target, response in send(paths_gate.port, targets, method)}
    assert {*answered.values()} <= {400, 404}
    assert len(answered) == len(targets)
    upstream.settle()
    assert upstream.requests == []
