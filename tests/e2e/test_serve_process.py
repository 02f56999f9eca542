"""`jwsgate serve` as a process of its own, asked over HTTP as Envoy asks: life, signals, health, peers, files."""

from __future__ import annotations

import contextlib
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import RSA, Files, applications, credentials, write_files
from e2e.gates import Gate
from e2e.http_client import Connection, Header, NoResponse, Tls, exchange, request_octets
from e2e.proxies import serve_command

pytestmark = pytest.mark.e2e

ANY = "/orders/7"
POLICY = "routes:\n  - {name: everything, path: /**}\n"
OTHER = "routes:\n  - {name: other, path: /other}\n"
UNSIGNED: list[Header] = [("X-IBM-Client-Id", RSA)]


@contextlib.contextmanager
def serving(home: Path, files: Files, *arguments: str, wait: bool = True) -> Iterator[Gate]:
    """A service whose questions are the requests themselves."""
    with gates.running(
        lambda port: serve_command("envoy", f"127.0.0.1:{port}", files, arguments),
        env=gates.environment(home),
        directory=files.directory,
        name="jwsgate serve",
        wait=wait,
    ) as gate:
        gate.wait_for_log("listening on")
        yield gate
    assert "Traceback" not in gate.log()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_files(tmp_path, policy=POLICY)


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer of the admin port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_admin_and_end(home: Path, files: Files, workers: int) -> None:
    """It tells its health and counts decisions; told to end, it is not ready, and answers what was begun."""
    admin = gates.free_port()
    with serving(home, files, "--admin", f"127.0.0.1:{admin}", "--workers", str(workers)) as gate:
        assert exchange(gate.port, "GET", ANY, credentials()).status == 200
        assert exchange(gate.port, "GET", ANY, UNSIGNED).status == 490  # 500, as Envoy is told
        assert (fetch(admin, "/livez")[0], fetch(admin, "/readyz")[0]) == (200, 200)
        metrics = fetch(admin, "/metrics")[1]
        assert 'jwsgate_decisions_total{decision="allowed",reason="",route="everything"} 1.0' in metrics
        assert 'jwsgate_decisions_total{decision="rejected",reason="jws_missing",route="everything"} 1.0' in metrics
        octets = request_octets("GET", ANY, credentials())
        with Connection(gate.port) as begun, Connection(gate.port) as idle:
            assert idle.exchange("GET", ANY, credentials()).status == 200
            begun.send(octets[:-10])
            time.sleep(0.2)  # to be read
            gate.process.send_signal(signal.SIGTERM)
            gate.wait_for_log("stopping")
            assert idle.is_closed()
            assert gate.process.poll() is None
            assert (fetch(admin, "/livez")[0], fetch(admin, "/readyz")[0]) == (200, 503)
            with pytest.raises((NoResponse, OSError)):
                exchange(gate.port, "GET", ANY, credentials())
            begun.send(octets[-10:])
            assert begun.read().status == 200
            assert begun.is_closed()
        assert gate.process.wait(10) == 0


def test_not_asked_in_time(home: Path, files: Files) -> None:
    """A question that is not finished when the time is over is cut off; that too is an end as asked for."""
    with serving(home, files, "--drain-seconds", "1") as gate, Connection(gate.port) as begun:
        begun.send(b"GET / HTTP/1.1\r\n")
        assert exchange(gate.port, "GET", ANY, credentials()).status == 200
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(10) == 0
        assert begun.is_closed()
        assert "1 connections did not finish in time" in gate.log()


def test_hangup_reads_anew(home: Path, files: Files) -> None:
    """SIGHUP has changed files read, without anybody watching them, and good ones count; bad ones change nothing."""
    with serving(home, files, "--no-watch") as gate:
        files.policy.write_text(OTHER)
        assert exchange(gate.port, "GET", ANY, credentials()).status == 200
        gate.process.send_signal(signal.SIGHUP)
        gate.wait_for_log("in force: read")
        assert_rejected(exchange(gate.port, "GET", ANY, credentials()), "route_unknown")
        files.policy.write_text("routes: [")
        gate.process.send_signal(signal.SIGHUP)
        gate.wait_for_log("is not YAML")
        assert exchange(gate.port, "GET", "/other", credentials()).status == 200


def test_only_peers_are_answered(home: Path, files: Files) -> None:
    """Others are let know nothing, not even that it speaks HTTP, and are told in the log."""
    with serving(home, files, "--peers", "127.0.0.2", wait=False) as gate:
        octets = request_octets("GET", ANY, credentials())
        for source, is_answered in (("127.0.0.1", False), ("127.0.0.3", False), ("127.0.0.2", True)):
            with Connection(gate.port, tls=Tls(source=source)) as connection:
                with contextlib.suppress(OSError):
                    connection.send(octets)
                if is_answered:
                    assert connection.read().status == 200
                else:
                    assert connection.read_to_end() == b""
        assert gate.log().count("the peer is not one of --peers") == 2


def test_config_map(home: Path, tmp_path: Path) -> None:
    """Kubernetes puts another folder in the place of the files' own: portal and policy are taken up, and soon."""
    mount = tmp_path / "mount"
    before = write_files(mount / "..1", policy=POLICY)
    after = write_files(mount / "..2", material.portal_yaml(applications()[1:]), OTHER)
    (mount / "..data").symlink_to(before.directory.name)
    for name in ("portal.yaml", "policy.yaml"):
        (mount / name).symlink_to(f"..data/{name}")
    with serving(home, Files(tmp_path, mount / "portal.yaml", mount / "policy.yaml")) as gate:
        assert exchange(gate.port, "GET", ANY, credentials()).status == 200
        (mount / "..data_tmp").symlink_to(after.directory.name)
        (mount / "..data_tmp").replace(mount / "..data")
        gate.wait_for_log("1 removed")
        assert_rejected(exchange(gate.port, "GET", ANY, credentials()), "route_unknown")
        assert_rejected(exchange(gate.port, "GET", "/other", credentials()), "client_id_unknown")


def test_audit_log_that_cannot_be_written(home: Path, files: Files) -> None:
    """On a full disk nothing passes."""
    with serving(home, files, "--audit", "/dev/full") as gate:
        response = exchange(gate.port, "GET", ANY, credentials())
        assert (response.status, b"could not be recorded" in response.body) == (490, True)
