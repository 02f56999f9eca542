"""The ways in which a mitmproxy add-on comes to be open: each is set up for real, and stays closed.

The measure is always what the recording upstream got: only requests with the very JWS that the test knows to be
good, on the path that it was sent to.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import material
from e2e import gates
from e2e.estate import ED25519, KEYS, RSA, Files, applications, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Connection, Header, NoResponse, exchange, h2_exchange, request_octets
from e2e.upstream import RecordingUpstream
from material import Application

with warnings.catch_warnings():
    # mitmproxy's filters use old names of pyparsing.
    warnings.simplefilter("ignore", DeprecationWarning)
    from mitmproxy import http as mitm_http
    from mitmproxy.connection import Client, Server
    from mitmproxy.io import FlowReader, FlowWriter

pytestmark = pytest.mark.e2e

GOOD = "/good/path"
BODY = b'{"order":7}'


def forged() -> list[Header]:
    """Credentials with a signature by a stranger."""
    return credentials(RSA, material.jws(material.private_key("rsa", "stranger")))


def bad_requests() -> list[bytes]:
    """Requests that must not pass, of various framings."""
    return [
        request_octets("POST", "/bad", forged(), BODY),
        request_octets("POST", "/bad", [("X-IBM-Client-Id", RSA)], BODY),
        request_octets("GET", "/bad"),
        request_octets("POST", "/bad", [*forged(), ("Transfer-Encoding", "chunked")], b"3\r\nabc\r\n0\r\n\r\n"),
        request_octets("GET", "/tvo/sandbox/signvalidate/validate", forged()),
    ]


def send(port: int, octets: bytes, timeout: float = 3) -> int | None:
    """The status that a request gets; None when it gets no answer."""
    with contextlib.suppress(NoResponse, OSError), Connection(port, timeout=timeout) as connection:
        connection.send(octets)
        return connection.read().status
    return None


def assert_only_verified(upstream: RecordingUpstream, token: str = "") -> None:
    """Each request that arrived is the good one, unchanged in method, path and JWS, and nothing else arrived."""
    upstream.settle()
    for request in upstream.requests:
        assert request.values("jwt") == [token.encode()], request
        assert (request.method, request.target) == ("POST", GOOD.encode())
    assert not upstream.malformed


def assert_closed(gate: Gate, upstream: RecordingUpstream) -> None:
    """Bad requests do not pass."""
    for octets in bad_requests():
        send(gate.port, octets)
    upstream.assert_no_request()


def good(token: str) -> bytes:
    """The good request."""
    return request_octets("POST", GOOD, credentials(ED25519, token), BODY)


def good_token() -> str:
    """The JWS of the good request."""
    return material.jws(KEYS[ED25519])


@contextlib.contextmanager
def mitmdump(
    home: Path,
    upstream: RecordingUpstream,
    files: Files,
    directory: Path,
    *,
    door: Door = "mitmdump -s",
    **how: Any,
) -> Iterator[Gate]:
    """A gate, by its script unless told otherwise, together with what else is to be in the way."""
    pythonpath = how.pop("pythonpath", ())
    mode = how.pop("mode", None)
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            mode=mode and mode.format(port=port, upstream=upstream.port),
            **how,
        ),
        env=gates.environment(home, pythonpath=pythonpath),
        directory=directory,
        name=door,
    ) as gate:
        yield gate


# The script while it runs


def break_script(script: Path) -> None:
    """A syntax error, saved by an editor."""
    script.write_text("def broken(:\n")


def raise_in_script(script: Path) -> None:
    """A script that fails while it is loaded."""
    script.write_text("raise RuntimeError('no')\n")


def empty_script(script: Path) -> None:
    """A script without the gate."""
    script.write_text("")


def delete_script(script: Path) -> None:
    """The script is gone, as for a moment during an upgrade."""
    script.unlink()


def touch_script(script: Path) -> None:
    """The same script saved again."""
    os.utime(script)


@pytest.mark.parametrize(
    ("harm", "logged"),
    [
        pytest.param(break_script, "error in script", id="syntax-error"),
        pytest.param(raise_in_script, "error in script", id="raises"),
        pytest.param(empty_script, "Loading script", id="empty"),
        pytest.param(delete_script, "Removing script", id="deleted"),
        pytest.param(touch_script, "Loading script", id="saved-again"),
    ],
)
def test_script_changes_while_it_runs(
    home: Path,
    upstream: RecordingUpstream,
    files: Files,
    tmp_path: Path,
    addons_copy: Path,
    harm: Callable[[Path], None],
    logged: str,
) -> None:
    """Whatever happens to the script file, before, while and after mitmproxy takes note, bad requests are denied."""
    script = addons_copy / "jws_gate.py"
    with mitmdump(home, upstream, files, tmp_path, script=script, pythonpath=[addons_copy]) as gate:
        assert_closed(gate, upstream)
        before = gate.log().count(logged)
        harm(script)
        deadline = time.monotonic() + 10
        while gate.log().count(logged) == before:
            assert time.monotonic() < deadline, gate.log()
            assert_closed(gate, upstream)
        assert_closed(gate, upstream)
        time.sleep(0.1)
        assert_closed(gate, upstream)
        token = good_token()
        status = send(gate.port, good(token))
        # The gate stands apart from its script: it goes on working.
        assert status == 200, gate.log()
        assert_only_verified(upstream, token)
        assert len(upstream.requests) == 1


# Other add-ons


WEB_OPTIONS = ["web_open_browser=false", "web_port=0"]

MEDDLER = """
import pathlib
from mitmproxy import exceptions, http

place = pathlib.Path({place!r})

def meddle(hook, flow):
    scope = {{"exceptions": exceptions, "http": http}}
    exec(place.read_text(), scope)
    return scope[hook](flow) if hook in scope else None

def requestheaders(flow):
    return meddle("requestheaders", flow)

def request(flow):
    return meddle("request", flow)
"""
"""An add-on that does what stands in a file at that moment, so that one process serves all cases."""
ADDONS = {
    "halts-at-headers": """
def requestheaders(flow):
    raise exceptions.AddonHalt
""",
    "halts-at-request": """
def request(flow):
    raise exceptions.AddonHalt
""",
    "halts": """
def requestheaders(flow):
    raise exceptions.AddonHalt
def request(flow):
    raise exceptions.AddonHalt
""",
    "raises": """
def requestheaders(flow):
    raise RuntimeError
def request(flow):
    raise RuntimeError
""",
    "streams": """
def requestheaders(flow):
    flow.request.stream = True
""",
    "streams-by-function": """
def requestheaders(flow):
    flow.request.stream = lambda octets: octets
""",
    "streams-and-halts": """
def requestheaders(flow):
    flow.request.stream = True
    raise exceptions.AddonHalt
""",
    "clears": """
def requestheaders(flow):
    flow.response = None
def request(flow):
    flow.response = None
""",
    "clears-with-an-empty-text": """
def requestheaders(flow):
    flow.response = ""
def request(flow):
    flow.response = ""
""",
    "clears-and-halts": """
def requestheaders(flow):
    flow.response = None
    raise exceptions.AddonHalt
def request(flow):
    flow.response = None
    raise exceptions.AddonHalt
""",
    "clears-and-streams": """
def requestheaders(flow):
    flow.response = None
    flow.request.stream = True
    raise exceptions.AddonHalt
""",
    "plays-dead": """
def requestheaders(flow):
    flow.live = False
    flow.response = None
def request(flow):
    flow.live = False
    flow.response = None
""",
    "clears-slowly": """
import asyncio
async def requestheaders(flow):
    await asyncio.sleep(0.02)
    flow.response = None
async def request(flow):
    await asyncio.sleep(0.02)
    flow.response = None
""",
    "hangs": """
import asyncio
async def requestheaders(flow):
    await asyncio.sleep(3600)
async def request(flow):
    await asyncio.sleep(3600)
""",
    "hangs-for-good": """
import asyncio
async def requestheaders(flow):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
""",
    "rewrites-early": """
def requestheaders(flow):
    flow.request.path = "/admin"
""",
    "rewrites": """
def request(flow):
    flow.request.path = "/admin"
""",
    "rewrites-and-halts": """
def request(flow):
    flow.request.path = "/admin"
    raise exceptions.AddonHalt
""",
    "rewrites-the-method": """
def request(flow):
    flow.request.method = "DELETE"
    raise exceptions.AddonHalt
""",
    "rewrites-the-request": """
def request(flow):
    other = http.Request.make("DELETE", f"http://127.0.0.1:{flow.request.port}/admin")
    flow.request = other
    raise exceptions.AddonHalt
""",
    "smuggles-by-path": """
def request(flow):
    flow.request.data.path = b"/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\nGET /admin"
""",
}


@pytest.fixture(scope="module", params=["before", "after"])
def meddled(
    request: pytest.FixtureRequest,
    home: Path,
    session_upstream: RecordingUpstream,
    files: Files,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Gate, Path]]:
    """A gate with the meddler before it or after it, and the file that says what the meddler does."""
    directory = tmp_path_factory.mktemp("meddled")
    place = directory / "what"
    place.touch()
    script = directory / "meddler.py"
    script.write_text(MEDDLER.format(place=str(place)))
    scripts: dict[str, Any] = {f"scripts_{request.param}": [script]}
    with mitmdump(home, session_upstream, files, directory, **scripts) as gate:
        yield gate, place


def test_meddler_meddles(meddled: tuple[Gate, Path], upstream: RecordingUpstream) -> None:
    """What stands in the file does happen to requests, so that the cases to follow mean something."""
    gate, place = meddled
    place.write_text('def request(flow): flow.request.headers["X-Meddled"] = flow.request.method\n')
    assert send(gate.port, good(good_token())) == 200
    place.write_text("")
    assert upstream.only_request().values("X-Meddled") == [b"POST"]


@pytest.mark.parametrize("name", list(ADDONS))
def test_other_addon(meddled: tuple[Gate, Path], upstream: RecordingUpstream, name: str) -> None:
    """Another add-on, before the gate or after it, that halts, raises, streams, clears or rewrites, opens nothing."""
    gate, place = meddled
    place.write_text(ADDONS[name])
    for octets in bad_requests():
        send(gate.port, octets, timeout=0.3)
    upstream.assert_no_request()
    token = good_token()
    send(gate.port, good(token), timeout=0.5)
    assert_only_verified(upstream, token)
    # Without the add-on's doings the gate works on, as before.
    place.write_text("")
    upstream.clear()
    token = good_token()
    assert send(gate.port, good(token)) == 200
    assert upstream.only_request().values("jwt") == [token.encode()]


HANGS = {
    "waits": """
import asyncio
async def requestheaders(flow):
    while flow.request.path in ("/good/path", "/bad"):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
""",
    "thread": """
import asyncio, time
async def request(flow):
    if flow.request.path in ("/good/path", "/bad"):
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
""",
}


@pytest.mark.parametrize(
    ("hang", "door"), [("waits", "mitmdump -s"), ("waits", "jwsgate run"), ("thread", "jwsgate run")]
)
def test_addon_that_hangs_for_good(
    home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path, hang: str, door: Door
) -> None:
    """After ten seconds a request is denied, good or bad; others go on, and the process ends when it is asked to."""
    script = tmp_path / "hangs.py"
    script.write_text(HANGS[hang])
    how: dict[str, Any] = {"scripts_after": [script]}
    if door == "jwsgate run":
        how = {"options": [f"scripts={script}", *WEB_OPTIONS], "arguments": ["--ui", "web"]}
    with mitmdump(home, upstream, files, tmp_path, door=door, **how) as gate:
        statuses: list[int | None] = []
        threads = [
            threading.Thread(target=lambda octets=octets: statuses.append(send(gate.port, octets, 15)))
            for octets in (good(good_token()), bad_requests()[0])
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert exchange(gate.port, "GET", "/well", credentials(ED25519)).status == 200
        for thread in threads:
            thread.join()
        assert statuses == [500, 500]
        assert [request.target for request in upstream.requests] == [b"/well"]
        gate.process.terminate()
        assert gate.process.wait(8) == 0


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_other_addon_changes_the_client_id(
    meddled: tuple[Gate, Path], upstream: RecordingUpstream, protocol: str
) -> None:
    """A header changed after the first hook is decided anew, over HTTP/2 too, where a body might yet have come."""
    gate, place = meddled
    place.write_text(f'def request(flow): flow.request.headers["X-IBM-Client-Id"] = "{RSA}"\n')
    ask = h2_exchange if protocol == "h2" else exchange
    headers = [(name.lower(), value) for name, value in credentials(ED25519, good_token())]
    response = ask(gate.port, "GET", GOOD, headers)
    place.write_text("")
    assert response.status == 500
    upstream.assert_no_request()


# mitmweb


WEB_PASSWORD = "secret"


class Web:
    """The API of a running mitmweb, as its own page uses it."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(self, method: str, path: str, value: object = None) -> tuple[int, Any]:
        """Status and JSON of a call."""
        headers: list[Header] = [
            ("Authorization", f"Bearer {WEB_PASSWORD}"),
            # The page proves that it is no other site's by sending the same value twice.
            ("Cookie", "_mitmproxy_xsrf=00ff"),
            ("X-XSRFToken", "00ff"),
            ("Content-Type", "application/json"),
        ]
        body = b"" if value is None else json.dumps(value).encode()
        response = exchange(self._port, method, path, [*headers, ("Content-Length", str(len(body)))], body)
        with contextlib.suppress(ValueError):
            return response.status, response.json()
        return response.status, response.body


@pytest.fixture
def mitmweb(
    door: Door, home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path
) -> Iterator[tuple[Gate, Web]]:
    """The gate in a real mitmweb, by either door."""
    web_port = gates.free_port()
    options = [f"web_port={web_port}", "web_open_browser=false", f"web_password={WEB_PASSWORD}"]
    arguments = ["--ui", "web"] if door == "jwsgate run" else []
    with mitmdump(
        home, upstream, files, tmp_path, door=door, program="mitmweb", options=options, arguments=arguments
    ) as gate:
        deadline = time.monotonic() + 10
        while not gates.listening(gate.process, web_port):
            assert time.monotonic() < deadline, gate.log()
            time.sleep(0.02)
        yield gate, Web(web_port)


RUNTIME_OPTIONS: list[dict[str, Any]] = [
    {"scripts": []},
    {"stream_large_bodies": "1"},
    {"ignore_hosts": ["."]},
    {"allow_hosts": ["x"]},
    {"tcp_hosts": ["."]},
    {"map_remote": ["|.|http://127.0.0.1:9/"]},
    {"validate_inbound_headers": False},
    {"connection_strategy": "eager"},
    {"jwsgate_portal": "/nowhere.yaml"},
    {"jwsgate_policy": []},
    {"jwsgate_portal": ""},
]


def test_options_changed_in_mitmweb(mitmweb: tuple[Gate, Web], upstream: RecordingUpstream) -> None:
    """Options changed in the running mitmweb are refused, or change nothing, one after the other."""
    gate, web = mitmweb
    for change in RUNTIME_OPTIONS:
        status, answer = web.call("PUT", "/options", change)
        assert status in (200, 400), (change, status, answer)
        assert_closed(gate, upstream)
        _, options = web.call("GET", "/options")
        if status != 200:
            # Refused means refused: the page must not show what does not hold.
            assert all(options[name]["value"] != value for name, value in change.items()), change
    token = good_token()
    assert send(gate.port, good(token)) in (200, 500)
    assert_only_verified(upstream, token)


def test_mode_changed_in_mitmweb(mitmweb: tuple[Gate, Web], upstream: RecordingUpstream) -> None:
    """A raw TCP mode added to the running mitmweb is refused, and brings no second door."""
    gate, web = mitmweb
    second = gates.free_port()
    mode = f"reverse:{upstream.url}@127.0.0.1:{gate.port}"
    web.call("PUT", "/options", {"mode": [mode, f"reverse:tcp://127.0.0.1:{upstream.port}@127.0.0.1:{second}"]})
    time.sleep(0.2)
    for octets in bad_requests():
        send(second, octets, timeout=0.5)
    upstream.assert_no_request()
    assert_closed(gate, upstream)


def test_edited_in_mitmweb(mitmweb: tuple[Gate, Web], upstream: RecordingUpstream) -> None:
    """A request that the page holds back and edits does not go on as another than was decided on."""
    gate, web = mitmweb
    web.call("PUT", "/options", {"intercept": "~m POST", "intercept_active": True})
    token = good_token()
    with Connection(gate.port, timeout=1) as connection:
        connection.send(good(token))
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            _, flows = web.call("GET", "/flows")
            for flow in flows:
                if flow["intercepted"]:
                    web.call("PUT", f"/flows/{flow['id']}", {"request": {"path": "/admin"}})
                    web.call("POST", f"/flows/{flow['id']}/resume")
        with contextlib.suppress(NoResponse):
            connection.read()
    assert_only_verified(upstream, token)


def test_replay_in_mitmweb(mitmweb: tuple[Gate, Web], upstream: RecordingUpstream) -> None:
    """A rejected request replayed from the page is rejected again, and so is a good one whose path was edited."""
    gate, web = mitmweb
    token = good_token()
    assert send(gate.port, good(token)) == 200
    assert send(gate.port, bad_requests()[0]) == 500
    upstream.clear()
    _, flows = web.call("GET", "/flows")
    paths = {flow["request"]["path"]: flow["id"] for flow in flows if flow["request"]["method"] == "POST"}
    assert web.call("PUT", f"/flows/{paths[GOOD]}", {"request": {"headers": [["jwt", token[:-4] + "AAAA"]]}})[0] == 200
    for identity in paths.values():
        status, answer = web.call("POST", f"/flows/{identity}/replay")
        assert status == 200, answer
    time.sleep(0.3)
    upstream.assert_no_request()


# Modes in which other things than HTTP requests to one upstream come in


RAW = [
    b"\x00\x01\x02\x03" * 8,
    b"SSH-2.0-OpenSSH_9\r\n",
    b"GET\x00/ HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"x",
]


@contextlib.contextmanager
def in_mode(
    mode: str, home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path, options: Sequence[str] = ()
) -> Iterator[Gate]:
    """The gate's script in another mode of mitmproxy."""
    with mitmdump(home, upstream, files, tmp_path, mode=mode + "@127.0.0.1:{port}", options=options) as gate:
        yield gate


@contextlib.contextmanager
def as_proxy(home: Path, files: Files, tmp_path: Path) -> Iterator[Gate]:
    """`jwsgate run --proxy`."""
    with gates.running(
        lambda port: [
            *(sys.executable, "-m", "jwsgate", "run", "--proxy", "--listen", f"127.0.0.1:{port}"),
            *("--portal", str(files.portal), "--policy", str(files.policy)),
        ],
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run --proxy",
    ) as gate:
        yield gate


@pytest.mark.parametrize(
    "mode", ["regular", "upstream:http://127.0.0.1:{upstream}", "--proxy"], ids=["regular", "upstream", "jwsgate-run"]
)
def test_forward_proxy_modes(home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path, mode: str) -> None:
    """As a forward proxy the gate judges requests the same; a CONNECT brings in nothing that is no request."""
    by_script = in_mode(mode, home, upstream, files, tmp_path)
    with as_proxy(home, files, tmp_path) if mode == "--proxy" else by_script as gate:
        origin = f"http://127.0.0.1:{upstream.port}"
        for headers in ([], forged()):
            assert exchange(gate.port, "POST", origin + "/bad", headers, BODY).status >= 400
        upstream.assert_untouched()

        connect = request_octets("CONNECT", f"127.0.0.1:{upstream.port}", [("Host", f"127.0.0.1:{upstream.port}")])
        for raw in [*RAW, *bad_requests()]:
            with Connection(gate.port, timeout=0.15) as connection:
                connection.send(connect)
                with contextlib.suppress(NoResponse):
                    if connection.read("CONNECT").status == 200:
                        connection.send(raw)
                        connection.read_to_end()
        upstream.assert_untouched(grace=0.1)

        # A client that waits for the server to speak first must not get a connection either.
        with Connection(gate.port, timeout=0.5) as connection:
            connection.send(connect)
            with contextlib.suppress(NoResponse):
                connection.read_to_end()
        upstream.assert_untouched()

        token = good_token()
        response = exchange(gate.port, "POST", origin + GOOD, credentials(ED25519, token), BODY)
        assert response.status == 200
        request = upstream.only_request()
        assert request.values("jwt") == [token.encode()]
        assert request.target.decode().removeprefix(origin) == GOOD


def test_raw_octets_in_tls(home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path) -> None:
    """What is not HTTP inside TLS goes nowhere, whatever protocol the client says it speaks."""
    with mitmdump(home, upstream, files, tmp_path) as gate:
        for protocol in (None, "foo", "http/1.1", "h2"):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if protocol:
                context.set_alpn_protocols([protocol])
            for raw in RAW:
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", gate.port), timeout=0.1) as plain,
                    context.wrap_socket(plain, server_hostname="gate.test") as wrapped,
                ):
                    wrapped.sendall(raw)
                    while wrapped.recv(4096):
                        pass
        upstream.assert_untouched()
        assert_closed(gate, upstream)


# Recorded flows


def test_recorded_decision_does_not_count(
    home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path
) -> None:
    """A flow recorded when it was allowed, changed in the file and replayed with all its metadata, is denied."""
    recorded = tmp_path / "recorded"
    with mitmdump(home, upstream, files, tmp_path, options=[f"save_stream_file={recorded}"]) as gate:
        assert send(gate.port, good(good_token())) == 200
    with recorded.open("rb") as file:
        flows = [flow for flow in FlowReader(file).stream() if isinstance(flow, mitm_http.HTTPFlow)]
    (flow,) = [flow for flow in flows if flow.request.path == GOOD]
    forgeries = tmp_path / "forgeries"
    with forgeries.open("wb") as file:
        writer = FlowWriter(file)
        for change in (
            {"jwt": material.jws(material.private_key("ed25519", "stranger"))},
            {"jwt": ""},
            {"X-IBM-Client-Id": RSA},
        ):
            copy = flow.copy()
            assert isinstance(copy, mitm_http.HTTPFlow)
            copy.request.headers.update(change)
            # Whatever key a gate may keep its verdict under.
            for key in ("jwsgate", "jwsgate.core.decision", "jwsgate_allowed", "allowed"):
                copy.metadata.setdefault(key, True)
            writer.add(copy)
    upstream.clear()
    finished = gates.run_to_end(
        lambda port: [
            *gates.command("mitmdump -s", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy),
            *("-C", str(forgeries)),
        ],
        env=gates.environment(home),
        directory=tmp_path,
    )
    assert len(re.findall(r"<< 500", finished.output)) == 3, finished.output
    upstream.assert_no_request()


def test_recorded_good_request_replays(home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path) -> None:
    """A replayed request with a good JWS passes: what denies the forgeries is their signature."""
    flow = mitm_http.HTTPFlow(*_connections(upstream.port))
    flow.request = mitm_http.Request.make("POST", upstream.url + GOOD, BODY)
    token = good_token()
    for name, value in credentials(ED25519, token):
        flow.request.headers[name] = value
    recorded = tmp_path / "recorded"
    with recorded.open("wb") as file:
        FlowWriter(file).add(flow)
    gates.run_to_end(
        lambda port: [
            *gates.command("mitmdump -s", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy),
            *("-C", str(recorded)),
        ],
        env=gates.environment(home),
        directory=tmp_path,
    )
    assert upstream.only_request().target == GOOD.encode()
    assert_only_verified(upstream, token)


def _connections(port: int) -> tuple[Any, Any]:
    """The two ends that a recorded flow needs."""
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=time.time())
    return client, Server(address=("127.0.0.1", port))


# A log that cannot be written


@pytest.mark.parametrize("broken", [False, True], ids=["ascii-only", "broken-pipe"])
def test_log_that_cannot_be_written(
    door: Door, home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path, broken: bool
) -> None:
    """Neither a log that takes only ASCII nor one that nobody reads any more opens the gate."""
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb") as reading,
        os.fdopen(writer, "wb") as writing,
        gates.running(
            lambda port: gates.command(
                door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy
            ),
            env=gates.environment(home, extra={"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C", "PYTHONUTF8": "0"}),
            directory=tmp_path,
            name=door,
            output=writing.fileno() if broken else None,
        ) as gate,
    ):
        reading.close()
        assert_closed(gate, upstream)
        for octets in ("\u20ac\xe9".encode(), b"\xff\xe9", b"\xf0\x9f\x98\x80"):
            cases: list[list[Header]] = [
                [("X-IBM-Client-Id", octets)],
                [("X-IBM-Client-Id", RSA), ("jwt", octets)],
                [*forged(), ("X-A", octets), ("User-Agent", octets)],
            ]
            for headers in cases:
                send(gate.port, request_octets("GET", b"/bad?" + octets, headers))
                send(gate.port, request_octets("POST", b"/bad", headers, octets))
        upstream.assert_untouched()
        token = good_token()
        status = send(gate.port, good(token))
        assert_only_verified(upstream, token)
        # mitmproxy ends when it cannot write its log, and that is closed too.
        assert status == 200 or broken


# Starting


class Hammer:
    """Bad requests without pause, from before the process runs until it is stopped."""

    def __init__(self, port: int) -> None:
        self.answers: list[int | None] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Hammer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        octets = request_octets("POST", "/bad", forged(), BODY)
        while not self._stop.is_set():
            status = send(self._port, octets, timeout=1)
            if status is None:
                time.sleep(0.001)
            else:
                self.answers.append(status)


def many() -> str:
    """A portal export that takes a while to load."""
    pem = material.certificate(KEYS[RSA], "rsa")
    return material.portal_yaml(
        [*applications(), *(Application(f"app-{number}", (f"id-{number}",), pem) for number in range(1500))]
    )


def test_requests_during_start(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Requests that come in from the first moment on are denied, the very first one answered included."""
    files = write_files(tmp_path, portal=many())
    hammers: list[Hammer] = []

    def argv(port: int) -> list[str]:
        hammers.append(Hammer(port))
        hammers[-1].__enter__()
        return gates.command(door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy)

    try:
        with gates.running(argv, env=gates.environment(home), directory=tmp_path, name=door) as gate:
            deadline = time.monotonic() + 10
            while len(hammers[-1].answers) < 20:
                assert time.monotonic() < deadline, gate.log()
                time.sleep(0.01)
    finally:
        for hammer in hammers:
            hammer.__exit__()
    assert set(hammers[-1].answers) == {500}
    upstream.assert_untouched()


@pytest.mark.parametrize("option", ["stream_large_bodies=1", "ignore_hosts=."])
def test_requests_during_a_start_that_fails(
    door: Door, home: Path, upstream: RecordingUpstream, files: Files, option: str
) -> None:
    """While a gate finds out that it cannot start, it lets nothing pass either."""
    hammers: list[Hammer] = []

    def argv(port: int) -> list[str]:
        hammers.append(Hammer(port))
        hammers[-1].__enter__()
        return gates.command(
            door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy, options=[option]
        )

    try:
        finished = gates.run_to_end(argv, env=gates.environment(home), directory=files.directory)
    finally:
        for hammer in hammers:
            hammer.__exit__()
    assert finished.returncode == 1
    assert 200 not in hammers[-1].answers
    upstream.assert_untouched()


def test_requests_while_stopping(
    door: Door, home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path
) -> None:
    """A gate that is being stopped lets nothing pass on its way out."""
    with (
        gates.running(
            lambda port: gates.command(
                door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy
            ),
            env=gates.environment(home),
            directory=tmp_path,
            name=door,
        ) as gate,
        Hammer(gate.port) as hammer,
    ):
        while len(hammer.answers) < 5:
            time.sleep(0.005)
        gate.process.terminate()
        gate.process.wait(10)
    assert set(hammer.answers) == {500}
    upstream.assert_untouched()
