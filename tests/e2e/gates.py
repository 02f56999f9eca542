"""Starts the gate as users do, as a real process, by either of its two doors."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
ADDONS = ROOT / "addons"
SCRIPT = ADDONS / "jws_gate.py"
BIND_AUDIT = Path(__file__).parent / "bind_audit"

type Door = Literal["mitmdump -s", "jwsgate run"]
DOORS: tuple[Door, ...] = ("mitmdump -s", "jwsgate run")

START_SECONDS = 20.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Gate:
    """One running gate, or any other process that listens on a port."""

    door: str
    port: int
    process: subprocess.Popen[bytes]
    directory: Path

    def log(self) -> str:
        """All that the process has written so far, stdout before stderr."""
        return _text(self.directory / "stdout") + _text(self.directory / "stderr")

    def wait_for_log(self, text: str, count: int = 1, seconds: float = 10) -> None:
        """Wait until the process has written a text so many times."""
        deadline = time.monotonic() + seconds
        while self.log().count(text) < count:
            assert time.monotonic() < deadline, f"{text!r} not logged {count} times:\n{self.log()}"
            assert self.process.poll() is None, f"exit {self.process.returncode}:\n{self.log()}"
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that has ended by itself. `bound` are the ports it ever bound a socket to."""

    returncode: int
    stdout: str
    stderr: str
    bound: frozenset[int]

    @property
    def output(self) -> str:
        """stdout, then stderr."""
        return self.stdout + self.stderr


class StillRunning(AssertionError):
    """A process that was expected to end goes on."""


def command(
    door: Door,
    *,
    upstream: str,
    port: int,
    portal: Path,
    policy: Path,
    options: Sequence[str] = (),
    script: Path = SCRIPT,
    scripts_before: Sequence[Path] = (),
    scripts_after: Sequence[Path] = (),
    mode: str | None = None,
    program: str = "mitmdump",
    arguments: Sequence[str] = (),
) -> list[str]:
    """The command line of a door. `options` are mitmproxy options as `name=value`, for either door alike."""
    sets = [word for option in options for word in ("--set", option)]
    if door == "jwsgate run":
        return [
            *(sys.executable, "-m", "jwsgate", "run"),
            *("--upstream", upstream, "--listen", f"127.0.0.1:{port}"),
            *("--portal", str(portal), "--policy", str(policy), *sets, *arguments),
        ]
    scripts = [word for each in (*scripts_before, script, *scripts_after) for word in ("-s", str(each))]
    return [
        *(str(Path(sys.executable).parent / program), *scripts),
        *("--mode", mode or f"reverse:{upstream}@127.0.0.1:{port}"),
        *("--set", f"jwsgate_portal={portal}", "--set", f"jwsgate_policy={policy}", *sets, *arguments),
    ]


def environment(
    home: Path, *, pythonpath: Sequence[Path] = (), extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a gate: its own home, and nothing of the caller's that could steer it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JWSGATE_", "MITMPROXY_")) and not name.lower().endswith("_proxy")
    }
    paths = [str(path) for path in pythonpath]
    if importlib.util.find_spec("jwsgate") is None:
        # Not installed: the package is taken from the source tree.
        paths.append(str(ADDONS))
    # The gate runs in a directory of its own, where relative entries would mean something else.
    inherited = os.environ.get("PYTHONPATH", "")
    paths += [str(Path(entry).absolute()) for entry in inherited.split(os.pathsep) if entry]
    return {
        **kept,
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        **(extra or {}),
    }


@contextlib.contextmanager
def running(
    argv: Callable[[int], Sequence[str]],
    *,
    env: Mapping[str, str],
    directory: Path,
    name: str,
    wait: bool = True,
    cwd: Path | None = None,
    output: int | None = None,
) -> Iterator[Gate]:
    """Run a process that listens on the port given to `argv`; stop it, and only it, in the end.

    Between our finding a free port and the process binding it somebody else may take it: then the process is
    started once more on another one. `output` is a descriptor to take stdout and
    stderr in place of the files of the log.
    """
    for attempt in range(5):
        port = free_port()
        place = Path(tempfile.mkdtemp(prefix=f"{attempt}-", dir=directory))
        with (place / "stdout").open("wb") as stdout, (place / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                list(argv(port)),
                env=dict(env),
                cwd=cwd or place,
                stdin=subprocess.DEVNULL,
                stdout=stdout if output is None else output,
                stderr=stderr if output is None else output,
            )
        gate = Gate(name, port, process, place)
        try:
            if wait and not _wait_until_serving(gate):
                if "ddress already in use" in gate.log():
                    continue
                raise AssertionError(f"{name} ended with {process.returncode}:\n{gate.log()}")
            yield gate
        finally:
            _stop(process)
        return
    raise AssertionError(f"no free port for {name}")


def run_to_end(
    argv: Callable[[int], Sequence[str]],
    *,
    env: Mapping[str, str],
    directory: Path,
    cwd: Path | None = None,
    seconds: float = START_SECONDS,
) -> Finished:
    """Run a process that is to end by itself, noting every port it binds; StillRunning if it stays."""
    place = Path(tempfile.mkdtemp(dir=directory))
    bound = place / "bound"
    env = dict(env)
    env["JWSGATE_TEST_BIND_LOG"] = str(bound)
    env["PYTHONPATH"] = f"{BIND_AUDIT}{os.pathsep}{env['PYTHONPATH']}"
    with (place / "stdout").open("wb") as stdout, (place / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            list(argv(free_port())),
            env=env,
            cwd=cwd or place,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise StillRunning(_text(place / "stdout") + _text(place / "stderr")) from None
    finally:
        _stop(process)
    assert bound.exists(), "the bind audit did not load, so that it would prove nothing"
    ports = frozenset(int(line) for line in bound.read_text().splitlines())
    return Finished(process.returncode, _text(place / "stdout"), _text(place / "stderr"), ports)


def free_port() -> int:
    """A loopback port that is free just now, and that no outgoing connection is likely to be given meanwhile.

    Of those that the system gives away, it may give the same one to the next connection, or to the next test.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", secrets.randbelow(22_000) + 10_000))
            return int(probe.getsockname()[1])


def listening(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether this very process listens on the port; without /proc, whether anybody does."""
    try:
        tables = Path("/proc/net/tcp").read_text().splitlines()[1:]
        tables += Path("/proc/net/tcp6").read_text().splitlines()[1:]
    except FileNotFoundError:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False
    fields = [line.split() for line in tables]
    # Columns: number, local address, remote address, state (0A is LISTEN), …, inode.
    inodes = {row[9] for row in fields if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    if not inodes:
        return False
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink())[len("socket:[") : -1] in inodes:
                    return True
    return False


def _wait_until_serving(gate: Gate) -> bool:
    """Wait until the process answers a request; False when it ends instead.

    mitmproxy binds its port before it has loaded its scripts, so that a listener alone does not tell. The request
    is one that no gate lets pass, so it does not show at the upstream.
    """
    deadline = time.monotonic() + START_SECONDS
    while gate.process.poll() is None:
        assert time.monotonic() < deadline, f"{gate.door} does not serve:\n{gate.log()}"
        if listening(gate.process, gate.port):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", gate.port), timeout=5) as probe:
                probe.sendall(b"GET / HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n")
                if probe.recv(1):
                    return True
        time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
