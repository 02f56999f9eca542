"""`jwsgate serve` behind proxies when things go wrong: nothing unverified passes, and it recovers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse, OkHttpResponse
from hpack import Encoder
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, SettingsFrame

import material
from e2e import gates
from e2e.answers import assert_rejected, body_of
from e2e.estate import KEYS, RSA, Files, credentials, write_files
from e2e.http_client import Connection, Header, NoResponse, exchange
from e2e.proxies import PROXIES, Guarded, Proxy, guarded, proxy_before, serve_command
from e2e.upstream import RecordingUpstream, Wire

pytestmark = pytest.mark.e2e

ANY = "/orders/7"
POLICY = "routes:\n  - {name: everything, path: /**}\n"
FORGED: list[Header] = [("X-IBM-Client-Id", RSA), ("jwt", "x.y.z")]


@pytest.fixture(scope="module")
def plain_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_files(tmp_path_factory.mktemp("serve"), policy=POLICY)


GREETING = SettingsFrame(0).serialize()
"""With which HTTP/2 begins."""


class Fake:
    """Something that listens where the service should, and answers every question with the same octets."""

    def __init__(self, listener: RecordingUpstream) -> None:
        self.port = listener.port
        self.answer: bytes | None = b""
        """None says nothing, for ever."""

    def play(self, wire: Wire) -> None:
        """One connection, which is kept as long as whole answers are given."""
        while True:
            wire.head()
            answer = self.answer
            if answer is None:
                wire.until(b"\0\0\x04\x03\0")  # RST_STREAM, by which Envoy gives up over gRPC; or the end
                return
            if answer.startswith(GREETING):
                wire.until(ANY.encode())  # which is in the message, so that the call has begun
            wire.send(answer)
            if answer.startswith(GREETING):
                wire.was_cut(0.5)
            if not answer.endswith(b"length: 0\r\n\r\n"):
                return


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    """Where a proxy asks that is misled."""
    with RecordingUpstream() as listener:
        fake = Fake(listener)
        with listener.scripted(fake.play):
            yield fake


@pytest.fixture(scope="module", params=PROXIES)
def misled(
    request: pytest.FixtureRequest,
    fake: Fake,
    home: Path,
    session_upstream: RecordingUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[gates.Gate]:
    """A proxy that asks the fake, and is less patient than usual."""
    changes = {
        "nginx": {"proxy_read_timeout 2s;": "proxy_read_timeout 300ms;"},
        "envoy": {"timeout: 2s": "timeout: 0.3s"},
        "envoy-grpc": {"timeout: 2s": "timeout: 0.3s"},
        "haproxy": {},
        "traefik": {},
        "caddy": {"response_header_timeout 2s": "response_header_timeout 300ms"},
    }
    directory = tmp_path_factory.mktemp("misled")
    place = f"127.0.0.1:{fake.port}"
    with proxy_before(request.param, place, session_upstream.port, home, directory, changes[request.param]) as gate:
        yield gate


NONSENSE = [
    pytest.param(b"", id="closes"),
    pytest.param(None, id="silent"),
    pytest.param(b"hello\r\n\r\n", id="no-http"),
    pytest.param(b"HTTP/1.1 200", id="half-a-line"),
    pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n", id="half-a-head"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="interim-only"),
    pytest.param(b"HTTP/1.1 500 OK\r\ncontent-length: 0\r\n\r\n", id="fault"),
    pytest.param(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", id="redirect"),
    pytest.param(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", id="denial-without-words"),
    pytest.param(
        b"HTTP/1.1 403 No\r\nX-Jwsgate-Status: 200\r\nX-Jwsgate-Body: yes\r\ncontent-length: 0\r\n\r\n", id="yes-and-no"
    ),
]


STRICT = ("haproxy", "caddy")
"""Proxies whose configuration makes the same answer of all nonsense."""


@pytest.mark.parametrize("answer", NONSENSE)
def test_nonsense_denies(misled: gates.Gate, fake: Fake, upstream: RecordingUpstream, answer: bytes | None) -> None:
    """Whatever the proxy hears that is no plain yes, and silence, is a denial."""

    fake.answer = answer
    if answer is None and misled.door == "traefik":  # which waits for 30 seconds
        with pytest.raises(NoResponse):
            exchange(misled.port, "GET", ANY, credentials(), timeout=1)
        upstream.assert_untouched()
        return
    response = exchange(misled.port, "GET", ANY, credentials())
    assert response.status >= 300, response
    if misled.door in STRICT:
        assert (response.status, response.body) == (500, body_of("internal_error"))
    upstream.assert_untouched()


def grpc_answer(message: bytes, *trailers: tuple[str, str]) -> bytes:
    """What answers Envoy's first call on a connection: a message of gRPC and trailers, in frames of HTTP/2."""
    encoder = Encoder()
    head = HeadersFrame(1, encoder.encode([(":status", "200"), ("content-type", "application/grpc")]))
    head.flags.add("END_HEADERS")
    data = DataFrame(1, b"\0" + len(message).to_bytes(4) + message if message else b"")
    end = HeadersFrame(1, encoder.encode(trailers))
    end.flags |= {"END_HEADERS", "END_STREAM"}
    goodbye = GoAwayFrame(0, last_stream_id=1)  # the next call comes on a connection of its own
    frames = (head, data, end, goodbye) if trailers else (head, data, goodbye)
    return GREETING + b"".join(frame.serialize() for frame in frames)


OK = ("grpc-status", "0")
YES = CheckResponse(ok_response=OkHttpResponse()).SerializeToString()
GRPC_NONSENSE = [
    pytest.param(grpc_answer(b"", OK), id="nothing"),
    pytest.param(grpc_answer(YES), id="no-end"),
    pytest.param(grpc_answer(YES, ("grpc-status", "13")), id="error"),
    pytest.param(grpc_answer(YES + YES[:1], OK), id="garbage"),
    pytest.param(grpc_answer(YES, ("grpc-status", "yes")), id="no-status"),
    pytest.param(grpc_answer(CheckResponse(status={"code": 7}).SerializeToString(), OK), id="denial-without-words"),
]


@pytest.mark.parametrize("misled", ["envoy-grpc"], indirect=True)
def test_nonsense_over_grpc_denies(misled: gates.Gate, fake: Fake, upstream: RecordingUpstream) -> None:
    """Over gRPC too, what is no plain yes is a denial; a yes made in the same way lets the request pass."""
    for case in GRPC_NONSENSE:
        (fake.answer,) = case.values  # type: ignore[assignment]
        response = exchange(misled.port, "GET", ANY, credentials())
        assert response.status >= 400, (case.id, response)
    upstream.assert_untouched()
    fake.answer = grpc_answer(YES, OK)
    assert exchange(misled.port, "GET", ANY, []).status == 200


@pytest.mark.parametrize("misled", STRICT, indirect=True)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", id="somebody-elses-yes"),
        pytest.param(b"HTTP/1.1 204 No\r\nX-Global-Transaction-ID: 1\r\n\r\n", id="almost"),
        pytest.param(b"HTTP/1.1 302 No\r\nX-Global-Transaction-ID: 1\r\ncontent-length: 0\r\n\r\n", id="elsewhere"),
    ],
)
def test_only_the_services_own_yes(misled: gates.Gate, fake: Fake, upstream: RecordingUpstream, answer: bytes) -> None:
    """A 200 that the service did not make, and any other 2xx or 3xx, denies where the configuration can tell."""
    test_nonsense_denies(misled, fake, upstream, answer)


@contextlib.contextmanager
def service(proxy: Proxy, where: str, files: Files, home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service in the place of one that is gone."""
    with log.open("wb") as output:
        command = serve_command(proxy, where, files)
        process = subprocess.Popen(command, env=gates.environment(home), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 20
        while b"listening on" not in log.read_bytes():
            assert time.monotonic() < deadline and process.poll() is None, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def wait_until_it_passes(guard: Guarded) -> None:
    """Wait for what recovers by itself: a good request passes again."""
    deadline = time.monotonic() + 15
    while exchange(guard.port, "GET", ANY, credentials()).status != 200:
        assert time.monotonic() < deadline, guard.service.log()
        time.sleep(0.1)


@pytest.mark.parametrize("proxy", PROXIES)
def test_service_gone_and_back(
    proxy: Proxy, plain_files: Files, home: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """Killed, the service takes everything with it; when it is back, so are the requests, by themselves."""
    with guarded(proxy, upstream=upstream.port, files=plain_files, home=home, directory=tmp_path) as guard:
        # The upstream closes the connection; Envoy tells nonsense from that, nginx takes it for HTTP/0.9.
        for said in (b"", b"nonsense\r\n\r\n") if proxy.startswith("envoy") else (b"",):
            with upstream.scripted(lambda wire, said=said: [wire.head(), wire.send(said)]):  # type: ignore[misc]
                response = exchange(guard.port, "GET", ANY, credentials())
            if proxy == "traefik":  # which has words of its own
                assert response.status == 502
            else:
                assert (response.status, response.body) == (500, body_of("backside"))
        assert exchange(guard.port, "GET", ANY, credentials()).status == 200
        upstream.clear()
        guard.service.process.kill()
        guard.service.process.wait()
        for headers in (credentials(), FORGED, []):
            response = exchange(guard.port, "GET", ANY, headers)
            assert (response.status, response.body) == (500, b"" if proxy == "traefik" else body_of("internal_error"))
        upstream.assert_untouched()
        with service(proxy, guard.where, plain_files, home, tmp_path / "again"):
            wait_until_it_passes(guard)
            assert_rejected(exchange(guard.port, "GET", ANY, FORGED), "jws_malformed")


@contextlib.contextmanager
def under_load(port: int, upstream: RecordingUpstream) -> Iterator[list[tuple[bool, int]]]:
    """Good and forged requests all the while; in the end, nothing forged has passed, or arrived.

    What it yields grows: whether a request was good, and the status that it was answered.
    """
    over = threading.Event()
    answers: list[tuple[bool, int]] = []
    good = credentials()
    stranger = credentials(RSA, material.jws(material.private_key("rsa", "stranger")))

    def ask(headers: list[Header]) -> None:
        while not over.wait(0.002):
            with contextlib.suppress(NoResponse, OSError):
                answers.append((headers is good, exchange(port, "GET", ANY, headers).status))

    threads = [threading.Thread(target=ask, args=(each,)) for each in (good, FORGED, good, stranger, [])]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert [status for is_good, status in answers if not is_good and status < 400] == []
    assert {tuple(each.values("jwt")) for each in upstream.requests} == {(str(dict(good)["jwt"]).encode(),)}


def wait_until_good_ones_pass(answers: list[tuple[bool, int]], guard: Guarded, count: int = 20) -> None:
    """Wait for good requests of a load to pass from now on."""
    deadline, begun = time.monotonic() + 15, len(answers)
    while answers[begun:].count((True, 200)) < count:
        assert time.monotonic() < deadline, guard.service.log() + guard.proxy.log()
        time.sleep(0.02)


def test_worker_killed_under_load(plain_files: Files, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """With two workers one is killed again and again: what arrives was verified, and afterwards all is well."""
    arguments = ["--workers", "2", "--drain-seconds", "1"]
    with guarded(
        "nginx", upstream=upstream.port, files=plain_files, home=home, directory=tmp_path, arguments=arguments
    ) as guard:
        with under_load(guard.port, upstream) as answers:
            for _ in range(3):
                time.sleep(0.3)
                children = Path(f"/proc/{guard.service.process.pid}/task/{guard.service.process.pid}/children")
                if workers := children.read_text().split():
                    os.kill(int(workers[0]), signal.SIGKILL)
            time.sleep(0.5)
        assert (True, 200) in answers
        wait_until_it_passes(guard)


@pytest.mark.parametrize("proxy", PROXIES)
def test_service_killed_under_load(
    proxy: Proxy, plain_files: Files, home: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """Killed among requests, the service takes them with it: nothing passes until it is back, and then good ones do."""
    with (
        guarded(proxy, upstream=upstream.port, files=plain_files, home=home, directory=tmp_path) as guard,
        under_load(guard.port, upstream) as answers,
    ):
        wait_until_good_ones_pass(answers, guard)
        guard.service.process.kill()
        guard.service.process.wait()
        time.sleep(0.3)  # what it had granted is on its way
        arrived, begun = len(upstream.requests), len(answers)
        time.sleep(0.3)
        assert len(upstream.requests) == arrived
        assert min((status for _, status in answers[begun:]), default=0) >= 400
        with service(proxy, guard.where, plain_files, home, tmp_path / "again"):
            wait_until_good_ones_pass(answers, guard)
            assert_rejected(exchange(guard.port, "GET", ANY, FORGED), "jws_malformed")


def test_workers_end_unnoticed(plain_files: Files, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Over gRPC a worker that is to end says so to Envoy, answers what it was asked, and no request suffers."""
    over, statuses = threading.Event(), []
    arguments = {"upstream": upstream.port, "files": plain_files, "home": home, "directory": tmp_path}
    with guarded("envoy-grpc", arguments=["--workers", "2"], **arguments) as guard:  # type: ignore[arg-type]
        headers = credentials()

        def load() -> None:
            while not over.is_set():
                statuses.append(exchange(guard.port, "GET", ANY, headers).status)

        guard.service.wait_for_log("2 workers serve")
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        children = Path(f"/proc/{guard.service.process.pid}/task/{guard.service.process.pid}/children")
        for count, worker in enumerate(children.read_text().split(), 3):
            os.kill(int(worker), signal.SIGTERM)
            guard.service.wait_for_log(f"(process {worker}) ended with exit code 0; replaced")
            guard.service.wait_for_log(" applications, ", count)  # or there is none, for longer than Envoy waits
            time.sleep(0.7)
        over.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}, statuses


def test_reload(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """A changed policy counts within a second or so; one that the dialect cannot carry out changes nothing."""
    files = write_files(tmp_path / "files", policy=POLICY)
    with guarded("nginx", upstream=upstream.port, files=files, home=home, directory=tmp_path) as guard:
        assert os.sched_getscheduler(guard.service.process.pid) == os.SCHED_BATCH  # as docs/serve.md says
        assert exchange(guard.port, "GET", ANY, credentials()).status == 200
        files.policy.write_text("routes:\n  - {name: other, path: /other}\n")
        guard.service.wait_for_log("in force: read")
        assert_rejected(exchange(guard.port, "GET", ANY, credentials()), "route_unknown")
        files.policy.write_text(POLICY + "  - {name: page, path: /page, cors: {origins: ['https://app.example']}}\n")
        guard.service.wait_for_log("cors of route 'page' cannot be had behind nginx")
        assert_rejected(exchange(guard.port, "GET", ANY, credentials()), "route_unknown")
        assert exchange(guard.port, "GET", "/other", credentials()).status == 200


def test_nginx_keeps_no_path_for_itself(
    plain_files: Files, home: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """Its own locations are none that a client could ask for; a limit of bodies is told in the words of the gate."""
    changes = {"client_max_body_size 0;": "client_max_body_size 1k;"}
    with guarded(
        "nginx", upstream=upstream.port, files=plain_files, home=home, directory=tmp_path, changes=changes
    ) as guard:
        assert exchange(guard.port, "GET", "/jwsgate-check", credentials()).status == 200
        assert upstream.only_request().target == b"/jwsgate-check"
        upstream.clear()
        for name in ("check", "unsafe", "headers", "body"):
            for path in ("/../jwsgate-", "/%2e%2e/jwsgate-", "/a/../../jwsgate-", "//../jwsgate-"):
                response = exchange(guard.port, "GET", path + name, credentials())
                assert (response.status, response.body) == (400, body_of("request_unsafe"))
        response = exchange(guard.port, "POST", ANY, credentials(), b"x" * 1025)
        assert (response.status, response.body) == (413, body_of("body_too_large"))
        upstream.assert_untouched()


def test_trailers_behind_haproxy(plain_files: Files, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """They go upstream as they came, unless two lines are changed: then a body needs a length, and has no trailers."""
    chunked: list[Header] = [*credentials(), ("Transfer-Encoding", "chunked")]
    octets = b"3\r\nabc\r\n0\r\nX-Subject: spoof\r\n\r\n"
    arrangement = {"upstream": upstream.port, "files": plain_files, "home": home}
    with guarded("haproxy", directory=tmp_path, **arrangement) as guard:  # type: ignore[arg-type]
        assert exchange(guard.port, "POST", ANY, chunked, octets).status == 200
        assert b"spoof" in upstream.octets  # or docs/serve.md and haproxy.cfg need not say so
        upstream.clear()
    changes = {
        "\n    # Trailers of requests": " proto h1\n    # Trailers of requests",
        "# http-request return status 411": "http-request return status 411",
    }
    with guarded("haproxy", directory=tmp_path, changes=changes, **arrangement) as guard:  # type: ignore[arg-type]
        for more in ([], [("Content-Length", "3")]):
            response = exchange(guard.port, "POST", ANY, [*chunked, *more], octets)
            assert (response.status, response.json()["httpMessage"]) == (411, "Length Required")
        with Connection(guard.port) as connection:
            connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")  # with which HTTP/2 begins
            assert connection.read().status == 400
        upstream.assert_untouched()
        assert exchange(guard.port, "POST", ANY, credentials(), b"abc").status == 200
        assert upstream.only_request().body == b"abc"


BODIES = """\
routes:
  - {name: signed, path: /**, jws: {detached: true}}
  - {name: bound, path: /bound, bind: {body: {claim: d}}}
"""


@pytest.mark.parametrize("proxy", ["envoy", "envoy-grpc"])
def test_body_behind_envoy(proxy: Proxy, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Envoy passes the body on where it is told to, and the JWS has to be over that very body."""
    files = write_files(tmp_path / "files", policy=BODIES)
    body = b'{"amount": 1, "octets": "\xff"}'
    header, _, last = material.jws(KEYS[RSA], payload=body).split(".")
    headers: list[Header] = [("X-IBM-Client-Id", RSA), ("jwt", f"{header}..{last}")]
    partial = ("x-envoy-auth-partial-body", "false")
    arrangement = {"upstream": upstream.port, "files": files, "home": home}
    told = {"# with_request_body:": "with_request_body:"}
    with guarded(proxy, directory=tmp_path, changes=told, **arrangement) as guard:  # type: ignore[arg-type]
        assert_rejected(exchange(guard.port, "POST", ANY, headers, body + b" "), "signature_mismatch")
        assert_rejected(exchange(guard.port, "POST", ANY, [*headers, partial], b""), "internal_error")
        response = exchange(guard.port, "POST", ANY, headers, body * 40_000)
        assert (response.status, response.body) == (413, body_of("body_too_large"))
        upstream.assert_untouched()
        assert exchange(guard.port, "POST", ANY, headers, body).status == 200
        assert upstream.only_request().body == body
        upstream.clear()
        digest = material.b64url(hashlib.sha256(body).digest())
        bound = credentials(RSA, material.jws(KEYS[RSA], material.default_claims(d=digest)))
        assert_rejected(exchange(guard.port, "POST", "/bound", bound, body + b" "), "binding_mismatch")
        assert_rejected(exchange(guard.port, "POST", "/bound", credentials(), body), "claim_missing")
        upstream.assert_untouched()
        assert exchange(guard.port, "POST", "/bound", bound, body).status == 200
        upstream.clear()
        with proxy_before(proxy, guard.where, upstream.port, home, tmp_path) as untold:
            for more in ([], [partial]):
                assert_rejected(exchange(untold.port, "POST", ANY, [*headers, *more], body), "internal_error")
                assert_rejected(exchange(untold.port, "POST", ANY, [*headers, *more], b""), "internal_error")
        upstream.assert_untouched()


def test_problem_details(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """With the profile rfc, each proxy carries status, challenge and body."""
    files = write_files(tmp_path / "files", policy="errors: {profile: rfc}\n" + POLICY)
    found = []
    for proxy in PROXIES:
        directory = tmp_path / proxy
        directory.mkdir()
        with guarded(proxy, upstream=upstream.port, files=files, home=home, directory=directory) as guard:
            response = exchange(guard.port, "GET", ANY, FORGED)
            found.append((response.status, response.json()["status"], response.value("content-type")))
            assert response.value("www-authenticate") == 'Bearer error="invalid_token"'
    assert found == [(401, 401, "application/problem+json")] * len(PROXIES)
    upstream.assert_untouched()


def run_serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jwsgate", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_bad_starts(plain_files: Files, tmp_path: Path) -> None:
    """What cannot be is told in a line, with the right exit code and no traceback."""
    files = ["--portal", str(plain_files.portal), "--policy", str(plain_files.policy)]
    told = tmp_path / "told.yaml"
    told.write_text("routes:\n  - {name: a, path: /a, upstream: {claims: {X-Subject: sub}}}\n")
    once = tmp_path / "once.yaml"
    once.write_text("routes:\n  - {name: once, path: /once, single_use: true}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for code, said, arguments in (
            (2, "Missing option '--dialect'", files),
            (2, "Missing option '--portal'", ["--dialect", "envoy"]),
            (2, "write an address such as 10.0.0.7", ["--dialect", "envoy", "--peers", "10.0.0.1/8", *files]),
            (1, "cannot listen on", ["--dialect", "envoy", "--listen", f"127.0.0.1:{port}", *files]),
            (1, "say so with --proxy-sets", ["--dialect", "nginx", *files[:2], "--policy", str(told)]),
            (1, "once per worker", ["--dialect", "nginx", "--workers", "2", *files[:2], "--policy", str(once)]),
            (1, "nowhere.yaml: (file): does not exist", ["--dialect", "nginx", *files[:2], "--policy", "nowhere.yaml"]),
        ):
            done = run_serve(*arguments)
            assert done.returncode == code, done
            assert said in done.stderr
            # What is refused is not announced as if it were in force.
            assert ("revision" in done.stdout) == (said == "cannot listen on")
            assert "Traceback" not in done.stderr
