"""Several workers on one port: they start together or not at all, die alone, and never outlive their supervisor."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import POLICY, Files, credentials, write_files
from e2e.gates import Finished, Gate
from e2e.http_client import Connection, NoResponse, exchange, request_octets
from e2e.lifecycle_material import (
    LOAD_KINDS,
    Load,
    assert_each_right,
    children,
    ends,
    is_alive,
    resident_kib,
    send_signal,
    started,
    wait_until,
)
from e2e.upstream import BODY, RecordingUpstream

pytestmark = pytest.mark.e2e

SINGLE_USE = 'routes:\n  - {name: once, path: "/**", single_use: true}\n'
ENTRY = re.compile(r"\d\d:\d\d:\d\d\.\d{3}\] ")


@pytest.fixture
def gate(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> Iterator[Gate]:
    """A gate with two workers."""
    with started(home, upstream, write_files(tmp_path), workers=2) as gate:
        yield gate
    assert "Traceback" not in gate.log()


def refuse(
    home: Path,
    upstream: RecordingUpstream,
    files: Files,
    *arguments: str,
    options: Sequence[str] = (),
    port: int | None = None,
    listen: str | None = None,
) -> Finished:
    """Start a gate of two workers that is to refuse, and keep looking whether anybody could connect meanwhile."""

    def argv(free: int) -> list[str]:
        words = gates.command(
            "jwsgate run",
            upstream=upstream.url,
            port=port or free,
            portal=files.portal,
            policy=files.policy,
            options=options,
            arguments=["--workers", "2", *arguments],
        )
        if listen is not None:
            words[words.index("--listen") + 1] = listen
        return words

    finished = gates.run_to_end(argv, env=gates.environment(home), directory=files.directory)
    assert "Traceback" not in finished.output
    upstream.assert_untouched()
    return finished


# Start


def test_two_workers_serve_one_port(gate: Gate, upstream: RecordingUpstream) -> None:
    """It is announced once, when all are there; requests are decided by either as by one."""
    assert gate.log().count("listening on") == 1
    assert re.search(rf"listening on 127\.0\.0\.1:{gate.port} \(http and https\) for http://\S+\n", gate.log())
    assert "jwsgate: 2 workers serve" in gate.log()
    assert len(children(gate.process.pid)) == 2
    for _ in range(10):
        assert exchange(gate.port, "GET", "/", credentials()).body == BODY
        assert_rejected(exchange(gate.port, "GET", "/", credentials(token="x.y.z"), tls=True), "jws_malformed")
    assert len(upstream.requests) == 10


def test_both_workers_get_connections(gate: Gate, upstream: RecordingUpstream) -> None:
    """Of many connections that are kept, neither worker has none."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Connection(gate.port)).send(request_octets("GET", "/", credentials()))
        upstream.wait_for_requests(40)
        shares = [
            sum(1 for entry in Path(f"/proc/{worker}/fd").iterdir() if "socket:" in str(entry.readlink()))
            for worker in children(gate.process.pid)
        ]
    assert min(shares) > 10, shares


def test_supervisor_has_no_proxy_in_it(gate: Gate) -> None:
    """It neither takes the memory of one, nor the time to load it."""
    worker = children(gate.process.pid)[0]
    assert "mitmproxy" in Path(f"/proc/{worker}/maps").read_text()
    assert "mitmproxy" not in Path(f"/proc/{gate.process.pid}/maps").read_text()
    assert resident_kib(gate.process.pid) < resident_kib(worker) * 0.75


def test_first_start_makes_one_ca(upstream: RecordingUpstream, tmp_path: Path) -> None:
    """In an empty home, all workers show certificates of one CA."""
    home = tmp_path / "home"
    home.mkdir()
    with started(home, upstream, write_files(tmp_path / "files"), workers=2) as gate:
        made = (home / ".mitmproxy" / "mitmproxy-ca.pem").read_bytes()
        for _ in range(6):
            assert exchange(gate.port, "GET", "/", credentials(), tls=True).status == 200
        assert (home / ".mitmproxy" / "mitmproxy-ca.pem").read_bytes() == made
        assert "Traceback" not in gate.log()


@pytest.mark.parametrize(
    ("listen", "host"), [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("localhost:0", "127.0.0.1")]
)
def test_any_port(home: Path, upstream: RecordingUpstream, tmp_path: Path, listen: str, host: str) -> None:
    """The port that it got is announced once for each address, and is one for all of them."""
    files = write_files(tmp_path)
    words = gates.command("jwsgate run", upstream=upstream.url, port=0, portal=files.portal, policy=files.policy)
    words[words.index("--listen") + 1] = listen
    with gates.running(
        lambda _: [*words, "--workers", "2"],
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run",
        wait=False,
    ) as gate:
        gate.wait_for_log("listening on", seconds=30)
        announced = re.findall(r"listening on (\S+):(\d+) ", gate.log())
        (port,) = {int(each) for _, each in announced}
        assert len({place for place, _ in announced}) == len(announced)
        with socket.create_connection((host, port), timeout=10) as client:
            client.sendall(request_octets("GET", "/", credentials()))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_busy_port(home: Path, upstream: RecordingUpstream, tmp_path: Path, workers: str) -> None:
    """One line that names the address; with workers, not one of them is started."""
    files = write_files(tmp_path)
    finished = refuse(home, upstream, files, "--workers", workers, port=upstream.port)
    assert finished.returncode == 1
    assert finished.stderr == f"jwsgate: cannot listen on 127.0.0.1:{upstream.port}: Address already in use\n"
    assert workers == "1" or finished.stdout == ""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("listen", ["192.0.2.1:1", "no-such-host.invalid:1", "[2001:db8::1]:1"])
def test_wrong_address(home: Path, upstream: RecordingUpstream, tmp_path: Path, listen: str, workers: str) -> None:
    """One line here as well."""
    finished = refuse(home, upstream, write_files(tmp_path), "--workers", workers, listen=listen)
    assert finished.returncode == 1
    assert re.fullmatch(rf"jwsgate: cannot listen on {re.escape(listen)}: .+\n", finished.stderr)


def test_bad_files_are_told_once(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """One worker reads them, and tells; nobody could connect before."""
    files = write_files(tmp_path, policy="routes:\n  - {path: /a, metods: [GET]}\n")
    finished = refuse(home, upstream, files)
    assert finished.returncode == 1
    assert finished.output.count("metods") == 1
    assert len(finished.output.splitlines()) == 2


@pytest.mark.parametrize("option", ["no_such_option=1", "stream_large_bodies=1", "listen_port=1", "listen_host=::"])
def test_bad_options_are_told_once(home: Path, upstream: RecordingUpstream, tmp_path: Path, option: str) -> None:
    """As bad files are."""
    finished = refuse(home, upstream, write_files(tmp_path), options=[option])
    assert finished.returncode == 1
    assert finished.output.count(option.partition("=")[0]) == 1


@pytest.mark.parametrize("arguments", [["--demo"], ["--ui", "web"], ["--ui", "console"]])
def test_what_runs_in_one_process(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, arguments: list[str]
) -> None:
    """Demo and user interfaces refuse several workers as a wrong usage."""
    finished = refuse(home, upstream, write_files(tmp_path), *arguments)
    assert finished.returncode == 2
    assert "--workers" in finished.stderr


@pytest.mark.parametrize("value", ["0", "-1", "1025", "two", "", "1.5", "٢", "9" * 5000])
def test_wrong_number(home: Path, upstream: RecordingUpstream, tmp_path: Path, value: str) -> None:
    """Everything but a sensible number is a wrong usage."""
    finished = refuse(home, upstream, write_files(tmp_path), "--workers", value)
    assert finished.returncode == 2
    assert "write a number from 1 to 1024, or auto" in finished.stderr


def test_auto(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """One for each core that the process may use: told to use one, it is a gate without a supervisor."""
    one = min(os.sched_getaffinity(0))
    files = write_files(tmp_path)
    with gates.running(
        lambda port: [
            *("taskset", "--cpu-list", str(one)),
            *gates.command("jwsgate run", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy),
            *("--workers", "auto"),
        ],
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run",
    ) as gate:
        gate.wait_for_log("listening on")
        assert children(gate.process.pid) == []
        assert "workers serve" not in gate.log()


# Replays


def test_single_use_needs_a_shared_memory(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Each worker would let a jti through: refused, with what to do."""
    finished = refuse(home, upstream, write_files(tmp_path, policy=SINGLE_USE))
    assert finished.returncode == 1
    assert "'once'" in finished.stderr
    assert "--replay-store redis://" in finished.stderr
    assert finished.stderr.count("single_use") == 1


def test_single_use_by_reload(gate: Gate, upstream: RecordingUpstream) -> None:
    """It cannot come in by a reload either."""
    (gate.directory.parent / "policy.yaml").write_text(SINGLE_USE)
    send_signal(gate, signal.SIGHUP)
    gate.wait_for_log("not reloaded, ")
    gate.wait_for_log("--replay-store redis://")
    headers = credentials()
    assert [exchange(gate.port, "GET", "/", headers).status for _ in range(4)] == [200] * 4  # the old policy


def test_changed_files_are_taken_up_by_all(gate: Gate, upstream: RecordingUpstream) -> None:
    """One worker watches them; what it finds wrong is told once, and what is good is taken up by all."""
    policy = gate.directory.parent / "policy.yaml"
    policy.write_text("routes: 1\n")
    gate.wait_for_log("not reloaded, ")
    assert gate.log().count("not reloaded, ") == 1
    policy.write_text('routes:\n  - {name: other, path: "/other/**"}\n')
    gate.wait_for_log("in force: read in", 2)
    for _ in range(6):
        assert_rejected(exchange(gate.port, "GET", "/", credentials()), "route_unknown")


# Deaths


def test_killed_worker_is_replaced(gate: Gate, upstream: RecordingUpstream) -> None:
    """Under load, a worker is killed: connections are cut, nothing is answered wrongly, and two workers serve again."""
    before = children(gate.process.pid)
    with Load(gate.port, LOAD_KINDS, clients=4, pause=0.002) as tally:
        wait_until(lambda: len(tally.responses) > 100, "a load")
        for killed in before:
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: killed not in children(gate.process.pid), "the death")  # noqa: B023
            wait_until(lambda: gate.log().count(": 13 applications, 6 routes") >= 3, "a replacement")
        wait_until(lambda: gate.log().count(": 13 applications, 6 routes") == 4, "both replacements")
        so_far = len(tally.responses)
        wait_until(lambda: len(tally.responses) > so_far + 100, "the load going on")
    assert_each_right(tally, upstream, 200)
    after = children(gate.process.pid)
    assert len(after) == 2
    assert not set(before) & set(after)
    assert gate.log().count("was ended by SIGKILL") == 2
    assert all("refused" not in each.lower() for each in tally.lost), tally.lost
    send_signal(gate)
    assert ends(gate) == 0


def test_only_the_killed_workers_connections_are_cut(gate: Gate, upstream: RecordingUpstream) -> None:
    """A request that the other worker has in flight is answered."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(gate.port)) for _ in range(40)]
        with upstream.holding():
            for connection in connections:
                connection.send(request_octets("GET", "/", credentials()))
            upstream.wait_for_requests(40)
            os.kill(children(gate.process.pid)[0], signal.SIGKILL)
            gate.wait_for_log("was ended by SIGKILL")
        statuses = []
        for connection in connections:
            try:
                statuses.append(connection.read().status)
            except NoResponse:
                statuses.append(0)
    assert set(statuses) == {0, 200}


def test_killed_supervisor(gate: Gate, upstream: RecordingUpstream) -> None:
    """Its workers finish what is in flight, take nothing new in, and end."""
    workers = children(gate.process.pid)
    with Connection(gate.port) as connection:
        with upstream.holding():
            connection.send(request_octets("GET", "/", credentials()))
            upstream.wait_for_requests(1)
            send_signal(gate, signal.SIGKILL)
            gate.process.wait(5)
            wait_until(lambda: not any(listens(worker, gate.port) for worker in workers), "no more listening")
        response = connection.read()
        assert (response.status, response.values("connection")) == (200, ["close"])
    wait_until(lambda: not any(map(is_alive, workers)), "the workers' end")


def listens(process: int, port: int) -> bool:
    """Whether a process has the listening socket of the port."""
    ours = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in ours if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    with contextlib.suppress(OSError):
        return any(str(entry.readlink())[8:-1] in inodes for entry in Path(f"/proc/{process}/fd").iterdir())
    return False


def test_hanging_worker(gate: Gate, upstream: RecordingUpstream) -> None:
    """One that is stopped is killed and replaced; requests in the meantime are answered by the other."""
    stopped = children(gate.process.pid)[0]
    os.kill(stopped, signal.SIGSTOP)
    gate.wait_for_log(f"(process {stopped}) hangs", seconds=40)
    wait_until(lambda: gate.log().count(": 13 applications, 6 routes") == 3, "a replacement")
    assert not is_alive(stopped)
    wait_until(lambda: len(children(gate.process.pid)) == 2, "two workers")
    assert exchange(gate.port, "GET", "/", credentials()).status == 200


SPINS = """
import os, signal
if "JWSGATE_WORKER" in os.environ:
    def spin(*_):
        while True:
            pass
    signal.signal(signal.SIGUSR2, spin)
"""


def test_spinning_worker_of_a_dead_supervisor(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Nobody is left to kill it: the kernel does, by an alarm that the worker set itself."""
    (tmp_path / "spins").mkdir()
    (tmp_path / "spins" / "sitecustomize.py").write_text(SPINS)
    with started(home, upstream, write_files(tmp_path), workers=2, pythonpath=[tmp_path / "spins"]) as gate:
        spinning, other = children(gate.process.pid)
        os.kill(spinning, signal.SIGUSR2)
        send_signal(gate, signal.SIGKILL)
        gate.process.wait(5)
        wait_until(lambda: not is_alive(other), "the other's end")
        wait_until(lambda: not is_alive(spinning), "its end", 40)


def test_files_that_went_bad_after_the_start(gate: Gate, upstream: RecordingUpstream) -> None:
    """A replacement cannot start; the other worker serves on, and all is well again with the files."""
    policy = gate.directory.parent / "policy.yaml"
    policy.write_text("routes: 1\n")
    os.kill(children(gate.process.pid)[0], signal.SIGKILL)
    gate.wait_for_log("ended with exit code 1", 2, seconds=20)
    for _ in range(4):
        assert exchange(gate.port, "GET", "/", credentials()).status == 200
    policy.write_text(POLICY)
    wait_until(lambda: gate.log().count(": 13 applications, 6 routes") == 3, "a replacement", 30)
    assert gate.process.poll() is None


def test_other_files_at_a_replacement(gate: Gate, upstream: RecordingUpstream) -> None:
    """A replacement reads the files as they are then; the others follow, so that there is one revision."""
    (gate.directory.parent / "policy.yaml").write_text('routes:\n  - {name: other, path: "/other/**"}\n')
    os.kill(children(gate.process.pid)[0], signal.SIGKILL)
    gate.wait_for_log("in force: read in", seconds=20)
    for _ in range(6):
        assert_rejected(exchange(gate.port, "GET", "/", credentials()), "route_unknown")


def test_nobody_is_left(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """When every worker dies, and so do the replacements, the gate ends and says so."""
    files = write_files(tmp_path)
    with started(home, upstream, files, workers=2) as gate:
        files.policy.write_text("routes: 1\n")
        for worker in children(gate.process.pid):
            os.kill(worker, signal.SIGKILL)
        assert ends(gate, 60) == 3
        assert "times in a row, giving up" in gate.log()
        assert children(gate.process.pid) == []


DIES_AT_START = "import os, sys\nif 'JWSGATE_WORKER' in os.environ: os.kill(os.getpid(), 9)\n"


def test_workers_that_die_at_once(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """A gate that cannot even start gives up after some attempts."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(DIES_AT_START)
    files = write_files(tmp_path / "files")
    finished = subprocess.run(
        [
            *gates.command("jwsgate run", upstream=upstream.url, port=0, portal=files.portal, policy=files.policy),
            *("--workers", "2"),
        ],
        env=gates.environment(home, pythonpath=[tmp_path / "broken"]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 1
    assert "was ended by SIGKILL; that was so 5 times in a row, giving up" in finished.stdout
    assert "Traceback" not in finished.stdout + finished.stderr


# The admin port, and what is apart from the files


def metric(port: int, name: str) -> float:
    """The sum over all series of a metric, as anybody who asks is told."""
    text = exchange(port, "GET", "/metrics", [("Host", "localhost")]).body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


def test_admin_port(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Whichever worker answers, it tells of all of them, those that died included; not ready is who misses one."""
    admin = gates.free_port()
    files = write_files(tmp_path)
    with started(home, upstream, files, "--admin", f"127.0.0.1:{admin}", workers=2) as gate:
        assert gate.log().count(f"metrics and health on http://127.0.0.1:{admin}") == 1

        def ready() -> int:
            return exchange(admin, "GET", "/readyz", [("Host", "localhost")]).status

        wait_until(lambda: {ready() for _ in range(10)} == {200}, "both ready")
        before = metric(admin, "jwsgate_decisions_total")
        for _ in range(20):
            assert exchange(gate.port, "GET", "/", credentials()).status == 200
            assert exchange(gate.port, "GET", "/", []).status == 401
        for _ in range(6):
            assert metric(admin, "jwsgate_decisions_total") == before + 40
        files.policy.write_text("routes: 1\n")
        os.kill(children(gate.process.pid)[0], signal.SIGKILL)
        gate.wait_for_log("was ended by SIGKILL")
        wait_until(lambda: ready() == 503, "not ready")
        assert b"workers-missing" in exchange(admin, "GET", "/readyz", [("Host", "localhost")]).body
        assert exchange(admin, "GET", "/livez", [("Host", "localhost")]).status == 200
        assert metric(admin, "jwsgate_decisions_total") == before + 40
        files.policy.write_text(POLICY)
        wait_until(lambda: {ready() for _ in range(10)} == {200}, "both ready again", 30)
        assert metric(admin, "jwsgate_decisions_total") == before + 40


def test_busy_admin_port(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Told as the other port is."""
    for workers in ("1", "2"):
        arguments = ("--admin", f"127.0.0.1:{upstream.port}", "--workers", workers)
        finished = refuse(home, upstream, write_files(tmp_path), *arguments)
        assert finished.returncode == 1
        assert finished.stderr == f"jwsgate: cannot listen on 127.0.0.1:{upstream.port}: Address already in use\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_audit_file_is_opened_anew_by_all(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, number: signal.Signals
) -> None:
    """Also when portal or policy cannot be taken up: who rotates the file does not know of those."""
    files, audit = write_files(tmp_path), tmp_path / "audit.jsonl"
    with started(home, upstream, files, "--audit", str(audit), workers=2) as gate:
        files.policy.write_text("routes: 1\n")
        rotated = audit.rename(tmp_path / "audit.1")
        send_signal(gate, number)
        workers = children(gate.process.pid)
        wait_until(lambda: all(has_open(worker, audit) for worker in workers), "all have the new file open")
        before = rotated.read_text()
        for _ in range(20):
            assert exchange(gate.port, "GET", "/", credentials()).status == 200
        assert rotated.read_text() == before
        assert len(audit.read_text().splitlines()) == 20


def has_open(process: int, path: Path) -> bool:
    """Whether a process has that very file open."""
    if not path.exists():
        return False
    with contextlib.suppress(OSError):
        return any(entry.readlink() == path for entry in Path(f"/proc/{process}/fd").iterdir())
    return False


# Signals


def test_signal_to_all_of_them(gate: Gate, upstream: RecordingUpstream) -> None:
    """Who signals the supervisor and its workers alike, as systemd does, does not end them in haste."""
    with Connection(gate.port) as connection:
        with upstream.holding():
            connection.send(request_octets("GET", "/", credentials()))
            upstream.wait_for_requests(1)
            for process in (*children(gate.process.pid), gate.process.pid):
                os.kill(process, signal.SIGTERM)
            gate.wait_for_log("stopping")
        assert connection.read().status == 200
    assert ends(gate) == 0


def test_one_workers_end(gate: Gate, upstream: RecordingUpstream) -> None:
    """A worker that somebody ended in order is replaced too."""
    ended = children(gate.process.pid)[0]
    os.kill(ended, signal.SIGTERM)
    gate.wait_for_log("ended with exit code 0; replaced at once")
    wait_until(lambda: gate.log().count(": 13 applications, 6 routes") == 3, "a replacement")
    assert exchange(gate.port, "GET", "/", credentials()).status == 200


INTERRUPTED = """
import os, signal, sys
def interrupt(event, arguments):
    if event != "import":
        return
    importer = sys._getframe().f_back
    if importer and importer.f_globals.get("__name__") == "__main__":
        print("importing", arguments[0], flush=True)
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
"""


def test_interrupt_at_the_first_import(home: Path, tmp_path: Path) -> None:
    """The very first thing that the command loads: it ends without a word."""
    (tmp_path / "interrupted").mkdir()
    (tmp_path / "interrupted" / "sitecustomize.py").write_text(INTERRUPTED)
    finished = subprocess.run(
        [sys.executable, "-m", "jwsgate", "--version"],
        env=gates.environment(home, pythonpath=[tmp_path / "interrupted"]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == -signal.SIGINT
    assert finished.stdout.startswith("importing ")
    assert finished.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_during_the_start(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, number: signal.Signals
) -> None:
    """At any moment of it: the gate ends, or goes on, but leaves no worker and no traceback."""
    files = write_files(tmp_path)
    for moment in (0.02, 0.1, 0.2, 0.4, 0.7, 1.1, 1.6):
        with gates.running(
            lambda port: gates.command(
                "jwsgate run",
                upstream=upstream.url,
                port=port,
                portal=files.portal,
                policy=files.policy,
                arguments=["--workers", "2"],
            ),
            env=gates.environment(home),
            directory=tmp_path,
            name="jwsgate run",
            wait=False,
        ) as gate:
            time.sleep(moment)
            workers = children(gate.process.pid)
            gate.process.send_signal(number)
            if number == signal.SIGHUP:  # it goes on once the signal is listened to, which is before the first worker
                wait_until(lambda: gate.process.poll() is not None or "listening on" in gate.log(), "end or serve")
                gate.process.terminate()
            code = ends(gate)
        if gate.log().endswith("KeyboardInterrupt\n") and "jwsgate/__main__.py" not in gate.log():
            continue  # the interpreter itself was still starting: nothing of ours had run
        assert code in ({0, -number} if not workers else {0}), gate.log()
        assert not any(map(is_alive, workers))
        assert "Traceback" not in gate.log(), f"after {moment} s:\n{gate.log()}"
