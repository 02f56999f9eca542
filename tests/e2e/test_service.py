"""The gate as a service: what it tells systemd, the sockets it is given, its exit codes, and odd surroundings."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import gates
from e2e.estate import Files, credentials, write_files
from e2e.gates import Gate
from e2e.http_client import exchange
from e2e.lifecycle_material import arguments_for, children, ends, send_signal, started, wait_until
from e2e.upstream import BODY, RecordingUpstream

pytestmark = pytest.mark.e2e


@pytest.fixture(params=[1, 2], ids=["alone", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    """With and without a supervisor."""
    count: int = request.param
    return count


# systemd


class Systemd:
    """A socket for notifications."""

    def __init__(self, place: Path) -> None:
        self.environment = {"NOTIFY_SOCKET": str(place)}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(place))
        self._socket.settimeout(20)

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def until(self, wanted: str) -> list[str]:
        """All messages up to the first that has that line."""
        heard = []
        while not heard or wanted not in heard[-1].splitlines():
            heard.append(self._socket.recv(4096).decode())
        return heard


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """A systemd to start gates."""
    systemd = Systemd(tmp_path / "notify")
    yield systemd
    systemd.close()


def test_notifications(home: Path, upstream: RecordingUpstream, tmp_path: Path, systemd: Systemd, workers: int) -> None:
    """READY when it answers, RELOADING and READY around a reload, good or bad, STOPPING at the end."""
    files = write_files(tmp_path)
    with started(home, upstream, files, workers=workers, extra=systemd.environment) as gate:
        assert not any("RELOADING" in each for each in systemd.until("READY=1"))
        for policy in ('routes:\n  - {path: "/**"}\n', "routes: 1\n"):
            files.policy.write_text(policy)
            send_signal(gate, signal.SIGHUP)
            (*_, message) = systemd.until("RELOADING=1")
            assert "MONOTONIC_USEC=" in message
            systemd.until("READY=1")
        assert exchange(gate.port, "GET", "/", credentials()).status == 200
        send_signal(gate)
        systemd.until("STOPPING=1")
        assert ends(gate) == 0


def test_ready_is_not_said_before_all_workers_are(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, systemd: Systemd
) -> None:
    """The states on the way are told as a text."""
    with started(home, upstream, write_files(tmp_path), workers=2, extra=systemd.environment):
        heard = systemd.until("READY=1")
        assert any("STATUS=1 of 2 workers ready" in each for each in heard)
        assert not any("2 of 2" in each for each in heard)
        assert "2 of 2 workers ready, revision " in systemd._socket.recv(4096).decode()


def test_watchdog(home: Path, upstream: RecordingUpstream, tmp_path: Path, systemd: Systemd, workers: int) -> None:
    """Told as long as the gate is well, and no longer."""
    extra = {**systemd.environment, "WATCHDOG_USEC": "400000"}
    with started(home, upstream, write_files(tmp_path), workers=workers, extra=extra) as gate:
        systemd.until("READY=1")
        for _ in range(5):
            systemd.until("WATCHDOG=1")
        send_signal(gate, signal.SIGSTOP)
        time.sleep(0.2)
        systemd._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.until("never")
        systemd._socket.settimeout(1.5)
        with pytest.raises(TimeoutError):
            systemd.until("never")
        send_signal(gate, signal.SIGCONT)
        systemd.until("WATCHDOG=1")


ACTIVATE = """
import os, sys
descriptor, argv = int(sys.argv[1]), sys.argv[2:]
os.dup2(descriptor, 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="gate")
os.execv(argv[0], argv)
"""


def test_socket_activation(home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int) -> None:
    """A socket that systemd listens on takes the place of --listen; who connected before is answered."""
    files = write_files(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        port = listener.getsockname()[1]
        words = gates.command("jwsgate run", upstream=upstream.url, port=1, portal=files.portal, policy=files.policy)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as early,
            subprocess.Popen(
                [sys.executable, "-c", ACTIVATE, str(listener.fileno()), *words, *arguments_for(workers)],
                env=gates.environment(home),
                pass_fds=[listener.fileno()],
                stdout=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            early.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert early.recv(4096).startswith(b"HTTP/1.1 401 ")
            assert process.stdout is not None
            for line in process.stdout:
                if "listening on" in line:
                    assert f"127.0.0.1:{port} " in line
                    break
            assert exchange(port, "GET", "/", credentials()).body == BODY
            process.terminate()
            process.stdout.read()
            assert process.wait(15) == 0


# Exit codes and odd surroundings


def to_end(
    home: Path, files: Files, upstream: str, *arguments: str, shell: str = ""
) -> subprocess.CompletedProcess[str]:
    """A gate that is to end by itself; `shell` are redirections."""
    words = gates.command("jwsgate run", upstream=upstream, port=0, portal=files.portal, policy=files.policy)
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *words, *arguments],
        env=gates.environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    """What a gate said that could not start: a single line on stderr, with exit code 1."""
    assert finished.returncode == 1, finished
    (line,) = finished.stderr.splitlines()
    return line


def test_folder_that_cannot_be_written(upstream: RecordingUpstream, tmp_path: Path, workers: int) -> None:
    """The home folder, where mitmproxy keeps its CA, is told with what to do."""
    line = one_line(to_end(Path("/proc/none"), write_files(tmp_path), upstream.url, *arguments_for(workers)))
    assert line.startswith("jwsgate: /proc/none/.mitmproxy: ")
    assert "--set confdir=PATH" in line


@pytest.mark.parametrize("folder", ["/dev/null/x", "/proc/none", "~nobody-of-that-name/x"])
def test_confdir_that_cannot_be_written(home: Path, upstream: RecordingUpstream, tmp_path: Path, folder: str) -> None:
    """Named, it is told the same way."""
    finished = to_end(home, write_files(tmp_path), upstream.url, "--set", f"confdir={folder}")
    assert "--set confdir=PATH" in one_line(finished)


def test_spoilt_ca(upstream: RecordingUpstream, tmp_path: Path) -> None:
    """A CA file with something else in it, too."""
    home = tmp_path / "home"
    (home / ".mitmproxy").mkdir(parents=True)
    (home / ".mitmproxy" / "mitmproxy-ca.pem").write_text("not PEM\n")
    assert ".mitmproxy" in one_line(to_end(home, write_files(tmp_path / "files"), upstream.url))


def test_console_without_a_terminal(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """It could show nothing."""
    finished = to_end(home, write_files(tmp_path), upstream.url, "--ui", "console")
    assert one_line(finished) == "jwsgate: --ui console needs a terminal; use --ui web, or none"


@pytest.mark.parametrize(
    "url", ["redis://h/notanumber", "redis://h/1x", "redis://h/0/1", "redis://h/٢", "rediss://h/-1"]
)
def test_redis_database_that_is_no_number(home: Path, upstream: RecordingUpstream, tmp_path: Path, url: str) -> None:
    """The library would use database 0."""
    finished = to_end(home, write_files(tmp_path), upstream.url, "--replay-store", url)
    assert "redis://HOST[:PORT][/DB]" in one_line(finished)


def test_log_that_cannot_be_written(home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int) -> None:
    """A gate that nobody would hear does not start."""
    finished = to_end(home, write_files(tmp_path), upstream.url, *arguments_for(workers), shell=">/dev/full")
    assert one_line(finished) == "jwsgate: the log cannot be written to stdout: No space left on device"


@pytest.mark.parametrize(
    "arguments",
    [
        ["schema", "policy"],
        ["schema", "portal"],
        ["--help"],
        ["run", "--help"],
        ["portal", "list"],
    ],
)
def test_output_that_cannot_be_written(tmp_path: Path, arguments: list[str]) -> None:
    """One line, and exit code 1."""
    portal = str(write_files(tmp_path).portal)
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "jwsgate", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=gates.environment(Path("/"), extra={"JWSGATE_PORTAL": portal}),
        )
    assert finished.returncode == 1
    assert finished.stderr == "jwsgate: cannot write what was asked for: No space left on device\n"


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int, shell: str) -> None:
    """A gate without stdout or stderr serves; what it would print goes nowhere, and into no connection."""
    files = write_files(tmp_path)
    # Nothing binds the port in between, as a gate that finds it taken could not say so here.
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        held_port = held.getsockname()[1]
        words = gates.command(
            "jwsgate run", upstream=upstream.url, port=held_port, portal=files.portal, policy=files.policy
        )
        with subprocess.Popen(
            ["sh", "-c", f'exec "$@" {shell}', "sh", *words, *arguments_for(workers)], env=gates.environment(home)
        ) as process:
            wait_until(lambda: gates.listening(process, held_port), "listening")
            response = exchange(held_port, "GET", "/", credentials())
            assert (response.status, response.body) == (200, BODY)
            assert exchange(held_port, "GET", "/", [], tls=True).status == 401
            process.terminate()
            assert process.wait(15) == 0


def test_log_that_breaks_later(home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: int) -> None:
    """Whoever read the log is gone: the gate decides on as before."""
    reader, writer = os.pipe()
    with started(home, upstream, write_files(tmp_path), workers=workers, output=writer) as gate:
        os.close(writer)
        os.close(reader)
        for _ in range(5):
            assert exchange(gate.port, "GET", "/", []).status == 401
            assert exchange(gate.port, "GET", "/", credentials()).status == 200
        before = children(gate.process.pid)
        send_signal(gate, signal.SIGHUP)
        assert exchange(gate.port, "GET", "/", credentials()).status == 200
        assert children(gate.process.pid) == before
        send_signal(gate)
        assert ends(gate) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_very_early(home: Path, upstream: RecordingUpstream, tmp_path: Path, number: signal.Signals) -> None:
    """From the interpreter's first moments on, it ends the process without a traceback."""
    files = write_files(tmp_path)
    for moment in (0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2):
        with gates.running(
            lambda port: gates.command(
                "jwsgate run", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy
            ),
            env=gates.environment(home),
            directory=tmp_path,
            name="jwsgate run",
            wait=False,
        ) as gate:
            time.sleep(moment)
            gate.process.send_signal(number)
            assert ends(gate) in (0, -number)
        log = gate.log()
        assert "jwsgate" not in log.partition("Traceback")[2], f"after {moment} s:\n{log}"


# The clock


STEPS = """
import os, pathlib, time
real, place = time.time, os.environ["JWSGATE_TEST_CLOCK"]
time.time = lambda: real() + float(pathlib.Path(place).read_text())
"""


def test_clock_steps(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """A day ahead a good JWS has expired, a day back it is not yet valid; and both times it is good again after."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "sitecustomize.py").write_text(STEPS)
    clock = tmp_path / "clock"

    def step(days: int) -> None:
        clock.with_suffix(".new").write_text(str(days * 86400))
        clock.with_suffix(".new").replace(clock)

    def status(gate: Gate) -> int:
        return exchange(gate.port, "GET", "/", headers).status

    step(0)
    headers = credentials()
    extra = {"JWSGATE_TEST_CLOCK": str(clock)}
    files = write_files(tmp_path / "files")
    with started(home, upstream, files, extra=extra, pythonpath=[tmp_path / "steps"]) as gate:
        assert status(gate) == 200
        for days, reason in ((1, "jws_expired"), (-1, "jws_not_yet_valid")) * 2:
            step(days)
            assert [status(gate), status(gate)] == [500, 500]
            assert f"rejected: {reason}" in gate.log()
            step(0)
            assert status(gate) == 200
        assert len(upstream.requests) == 5
        send_signal(gate)
        assert ends(gate) == 0


def test_clock_steps_and_single_use(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """What was used stays used when the clock steps back, and while it is ahead."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "sitecustomize.py").write_text(STEPS)
    clock = tmp_path / "clock"
    clock.write_text("0")
    headers = credentials()
    extra = {"JWSGATE_TEST_CLOCK": str(clock)}
    files = write_files(tmp_path / "files", policy='routes:\n  - {path: "/**", single_use: true}\n')
    with started(home, upstream, files, extra=extra, pythonpath=[tmp_path / "steps"]) as gate:
        assert exchange(gate.port, "GET", "/", headers).status == 200
        for seconds in (0, -86400, 0, -600, 600, 0):
            clock.with_suffix(".new").write_text(str(seconds))
            clock.with_suffix(".new").replace(clock)
            assert exchange(gate.port, "GET", "/", headers).status == 500
        assert len(upstream.requests) == 1
