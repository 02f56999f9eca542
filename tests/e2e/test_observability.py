"""What a running gate tells of its decisions: audit log, log, metrics and health, and what it never tells."""

from __future__ import annotations

import contextlib
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import material
from e2e import gates
from e2e.estate import KEYS, NO_CERTIFICATE, RSA, Files, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Connection, Header, exchange, request_octets
from e2e.lifecycle_material import started
from e2e.proxies import serve_command
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e

POLICY = """\
routes:
  - {name: strict, path: "/strict/**"}
  - {name: lax, path: "/lax/**", audit_failure: continue}
  - {name: claims, path: "/claims", respond: claims}
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@contextlib.contextmanager
def audited(
    door: Door,
    home: Path,
    upstream: RecordingUpstream,
    directory: Path,
    audit: str,
    *,
    options: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
) -> Iterator[Gate]:
    """A gate that writes an audit log."""
    files: Files = write_files(directory / "files", policy=POLICY)
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=(f"jwsgate_audit={audit}", *options),
            arguments=arguments,
        ),
        env=gates.environment(home),
        directory=directory,
        name=door,
    ) as gate:
        upstream.clear()
        yield gate


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The records of an audit log, the start's probe left out."""
    records = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    return [record for record in records if record["path"] != "/"]


def test_one_line_for_each_decision(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Allowed, answered, rejected and malformed requests each leave exactly one line, which holds no JWS and no key."""
    audit = tmp_path / "audit.jsonl"
    token = material.jws(KEYS[RSA])
    forged = material.jws(material.private_key("rsa", "stranger"))
    good = credentials(RSA, token)
    with audited(door, home, upstream, tmp_path, str(audit)) as gate:
        answers = [
            exchange(gate.port, "GET", "/strict/1?token=" + token, [*good, ("traceparent", PARENT)]),
            exchange(gate.port, "GET", "/strict/2", good),
            exchange(gate.port, "POST", "/strict/3", good, b"x" * 300_000),
            exchange(gate.port, "GET", "/claims", good),
            exchange(gate.port, "GET", "/strict/4", credentials(NO_CERTIFICATE, token)),
            exchange(gate.port, "POST", "/strict/5", credentials(RSA, forged), b"x" * 300_000),
            exchange(gate.port, "GET", "/" + token, good),
        ]
        with Connection(gate.port) as connection:
            connection.send(b"GET /strict/6 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
            malformed = connection.read()
    text = audit.read_text()
    records = lines_of(audit)
    assert [(record["decision"], record["reason"], record["route"]) for record in records] == [
        ("allowed", None, "strict"),
        ("allowed", None, "strict"),
        ("allowed", None, "strict"),
        ("allowed", None, "claims"),
        ("rejected", "certificate_missing", "strict"),
        ("rejected", "signature_mismatch", "strict"),
        ("rejected", "route_unknown", None),
        ("rejected", "request_unsafe", None),
    ]
    assert [record["transaction_id"] for record in records] == [
        answer.value("X-Global-Transaction-ID") for answer in [*answers, malformed]
    ]
    first = records[0]
    assert (first["client_id"], first["application"], first["alg"], first["trace_id"]) == (RSA, "rsa", "RS256", TRACE)
    assert (first["method"], first["path"], first["peer"]) == ("GET", "/strict/1", "127.0.0.1")
    assert [record["cached"] for record in records] == [False, True, True, False, False, False, False, False]
    assert all(0 <= record["duration_us"] < 5_000_000 for record in records)
    for part in token.split("."):
        assert part not in text
    assert "PRIVATE" not in text
    # W3C trace context goes on untouched.
    assert upstream.requests[0].values("traceparent") == [PARENT.encode()]


def test_audit_log_that_cannot_be_written(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """On a full disk an allowed request is denied, unless its route says otherwise; a denied one stays denied."""
    with audited(door, home, upstream, tmp_path, "/dev/full") as gate:
        strict = exchange(gate.port, "GET", "/strict/1", credentials())
        assert (strict.status, b"could not be recorded" in strict.body) == (500, True)
        large = exchange(gate.port, "POST", "/strict/1", credentials(), b"x" * 300_000)
        assert (large.status, b"could not be recorded" in large.body) == (500, True)
        assert exchange(gate.port, "GET", "/claims", credentials()).status == 500
        assert exchange(gate.port, "GET", "/lax/1", [("X-IBM-Client-Id", RSA)]).status == 500
        upstream.assert_untouched()
        assert exchange(gate.port, "GET", "/lax/1", credentials()).status == 200
        upstream.only_request()


def test_audit_log_that_cannot_be_opened(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The gate does not start, and says why in a line."""
    files = write_files(tmp_path / "files", policy=POLICY)
    finished = gates.run_to_end(
        lambda port: gates.command(
            door,
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=(f"jwsgate_audit={tmp_path / 'nowhere' / 'audit'}",),
        ),
        env=gates.environment(home),
        directory=tmp_path,
    )
    assert finished.returncode == 1
    assert "jwsgate_audit" in finished.output
    assert "Traceback" not in finished.output


def test_audit_log_is_opened_anew(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """logrotate: after the file was moved and SIGHUP, lines go to a new one, and none is lost."""
    audit, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    with audited("jwsgate run", home, upstream, tmp_path, str(audit)) as gate:
        exchange(gate.port, "GET", "/strict/1", credentials())
        audit.rename(moved)
        exchange(gate.port, "GET", "/strict/2", credentials())
        gate.process.send_signal(signal.SIGHUP)
        for _ in range(500):
            if audit.exists():
                break
            exchange(gate.port, "GET", "/other", credentials())
        assert audit.exists()
        exchange(gate.port, "GET", "/strict/3", credentials())
    assert [record["path"] for record in lines_of(moved)][:2] == ["/strict/1", "/strict/2"]
    assert [record["path"] for record in lines_of(audit)][-1] == "/strict/3"


def assert_nothing_but_records(gate: Gate, count: int) -> None:
    """Each line on stdout is a record, and the log is on stderr."""
    gate.process.terminate()
    assert gate.process.wait(10) == 0
    records = lines_of(gate.directory / "stdout")
    assert len(records) == count
    log = (gate.directory / "stderr").read_text()
    for said in ("listening on", "revision", "rejected: client_id_missing"):
        assert said in log


@pytest.mark.parametrize(
    "arguments",
    [
        ("--audit", "-"),
        ("--audit", "-", "--workers", "2"),
        ("--set", "jwsgate_audit=-"),
        ("--set", "jwsgate_audit=-", "--workers", "2"),
        ("--audit", "-", "--ui", "web", "--set", "web_open_browser=false"),
    ],
    ids=" ".join,
)
def test_audit_log_on_standard_output(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """It has standard output to itself, whoever writes the log."""
    if "web" in arguments:
        arguments = (*arguments, "--set", f"web_port={gates.free_port()}")
    files = write_files(tmp_path / "files", policy=POLICY)
    with started(home, upstream, files, *arguments) as gate:
        for number in range(6):
            exchange(gate.port, "GET", f"/strict/{number}", credentials() if number % 2 else ())
        assert_nothing_but_records(gate, 6)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_audit_log_of_the_service_on_standard_output(home: Path, tmp_path: Path, workers: str) -> None:
    """The same of `jwsgate serve`."""
    files = write_files(tmp_path / "files", policy=POLICY.replace(", respond: claims", ""))
    arguments = ("--audit", "-", "--workers", workers)
    with gates.running(
        lambda port: serve_command("traefik", f"127.0.0.1:{port}", files, arguments),
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate serve",
    ) as gate:
        gate.wait_for_log("listening on")
        asked = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/strict/1"), ("X-Forwarded-Host", "x")]
        for headers in (asked, [*asked, *credentials()]):
            exchange(gate.port, "GET", "/", headers)
        assert_nothing_but_records(gate, 3)  # the probe of the start was the first


@pytest.mark.parametrize(("level", "expected"), [("info", True), ("warning", True), ("debug", False), ("off", False)])
def test_level_of_rejections(
    door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path, level: str, expected: bool
) -> None:
    """Whether the log tells of rejections is for the user to say."""
    options = (f"jwsgate_rejection_log_level={level}",)
    with audited(door, home, upstream, tmp_path, str(tmp_path / "audit"), options=options) as gate:
        assert exchange(gate.port, "GET", "/strict/1", [("X-IBM-Client-Id", RSA)]).status == 500
    assert ("rejected: jws_missing" in gate.log()) == expected


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer of the admin port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_and_health(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The admin port counts what was decided; while what is in flight finishes, the gate is not ready any more."""
    admin = gates.free_port()
    arguments = ("--admin", f"127.0.0.1:{admin}")
    good: list[Header] = credentials()
    with audited("jwsgate run", home, upstream, tmp_path, str(tmp_path / "audit"), arguments=arguments) as gate:
        before = _samples(fetch(admin, "/metrics")[1])
        for path in ("/strict/1", "/strict/2"):
            assert exchange(gate.port, "GET", path, good).status == 200
        assert exchange(gate.port, "GET", "/strict/3", [("X-IBM-Client-Id", RSA)]).status == 500
        assert (fetch(admin, "/livez")[0], fetch(admin, "/readyz")[0]) == (200, 200)
        after = _samples(fetch(admin, "/metrics")[1])
        assert _grown(before, after, "jwsgate_decisions_total", decision="allowed", reason="", route="strict") == 2
        rejected = {"decision": "rejected", "reason": "jws_missing", "route": "strict"}
        assert _grown(before, after, "jwsgate_decisions_total", **rejected) == 1
        assert _grown(before, after, "jwsgate_verified_jws_cache_hits_total") == 1
        assert _grown(before, after, "jwsgate_request_duration_seconds_count") == 3
        gate.process.send_signal(signal.SIGHUP)
        gate.wait_for_log("nothing has changed")
        upstream.clear()
        with Connection(gate.port) as connection:
            with upstream.holding():
                connection.send(request_octets("GET", "/strict/9", good))
                upstream.wait_for_requests(1)
                gate.process.send_signal(signal.SIGTERM)
                gate.wait_for_log("stopping")
                status, reasons = fetch(admin, "/readyz")
                assert (status, "draining" in reasons) == (503, True)
                assert fetch(admin, "/livez")[0] == 200
            assert connection.read().status == 200
    assert gate.process.returncode == 0


def test_dead_upstream_is_counted(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Clients that have to be told so are counted apart from rejections."""
    admin = gates.free_port()
    files = write_files(tmp_path / "files", policy=POLICY)
    with gates.running(
        lambda port: gates.command(
            "jwsgate run",
            upstream=f"http://127.0.0.1:{gates.free_port()}",
            port=port,
            portal=files.portal,
            policy=files.policy,
            arguments=("--admin", f"127.0.0.1:{admin}"),
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run",
    ) as gate:
        answer = exchange(gate.port, "GET", "/strict/1", credentials())
        assert (answer.status, b"backside connection" in answer.body) == (500, True)
        samples = _samples(fetch(admin, "/metrics")[1])
    assert samples["jwsgate_upstream_connection_failures_total", ()] == 1


type Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    key = name, tuple(sorted(labels.items()))
    return after[key] - before.get(key, 0)
