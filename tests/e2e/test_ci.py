"""The gate around the tests of a client: the command runs beside it, and the exit codes and reports tell what came."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

import material
from e2e import gates
from e2e.estate import KEYS, RSA, Files, credentials
from e2e.http_client import exchange
from e2e.upstream import RecordingUpstream
from recordings import Sent, flow_file, har_file

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian package curl)"),
]

CURL = 'curl -s -o /dev/null -w "%{http_code} " -H "X-IBM-Client-Id: $ID"'


def run(
    home: Path,
    files: Files,
    upstream: RecordingUpstream,
    options: Sequence[str | Path],
    command: Sequence[str],
    **environment: str,
) -> subprocess.Popen[str]:
    """`jwsgate run … -- COMMAND`, on a free port, with no terminal."""
    argv = [
        *(sys.executable, "-m", "jwsgate", "run", "--upstream", upstream.url, "--listen", "127.0.0.1:0"),
        *("--portal", str(files.portal), "--policy", str(files.policy), *map(str, options), "--", *command),
    ]
    return subprocess.Popen(
        argv,
        env=gates.environment(home, extra={"ID": RSA, **environment}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_rejected_request_fails_the_build(
    home: Path, files: Files, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """The reports show which and why; standard output is the command's alone, and it knows where the gate is."""
    junit, whole = tmp_path / "junit.xml", tmp_path / "report.json"
    whole.write_text("of an earlier run")
    token = material.jws(KEYS[RSA])
    script = (
        f'{CURL} -H "jwt: $TOKEN" "$JWSGATE_URL/orders/1"; {CURL} "$JWSGATE_URL/orders/2?jwt=$TOKEN"; echo "$NO_PROXY"'
    )
    process = run(
        home,
        files,
        upstream,
        ["--report", junit, "--report", whole],
        ["sh", "-c", script],
        TOKEN=token,
        http_proxy="http://127.0.0.1:9",
        NO_PROXY="example.org",
    )
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (1, "200 500 example.org,127.0.0.1\n"), stderr
    assert [request.target for request in upstream.requests] == [b"/orders/1"]
    root = ElementTree.parse(junit).getroot()
    (failure,) = root.iter("failure")
    (case,) = [case for case in root.iter("testcase") if failure in case]
    assert case.get("name") == "GET /orders/2 (request 2)"  # by which CI servers know it again
    assert (failure.get("type"), failure.get("message")) == (
        "jws_missing",
        "rejected: jws_missing: header jwt is missing",
    )
    lines = (failure.text or "").splitlines()
    assert lines[:2] == [failure.get("message"), "The JWS is in query jwt, where nobody looks for it"]
    assert lines[2].startswith("What to do: ")
    (transaction,) = case.iter("property")
    assert f"{transaction.get('value')} rejected: jws_missing" in stderr
    told = json.loads(whole.read_text())
    assert (told["counts"]["allowed"], told["counts"]["rejected"], told["passed"]) == (1, 1, False)
    assert "2 requests: 1 allowed, 1 rejected, 0 would be rejected; 1 findings" in stderr
    for text in (junit.read_text(), whole.read_text(), stderr):
        assert token.split(".")[2] not in text


def test_expected_rejection_passes(home: Path, files: Files, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Exit code 0: all was as the file says, though a request was rejected."""
    expect = tmp_path / "expect.yaml"
    expect.write_text(
        "expectations: [{name: unsigned, request: {path: '/orders/{id}'}, expect: jws_missing, times: 1}]\n"
    )
    script = f'{CURL} --cacert "$JWSGATE_CA_FILE" "$JWSGATE_URL/orders/2"'
    process = run(home, files, upstream, ["--expect", expect, "--tls-only"], ["sh", "-c", script])
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (0, "500 "), stderr
    upstream.assert_untouched()


def test_signals_and_exit_code_of_the_command(home: Path, files: Files, upstream: RecordingUpstream) -> None:
    """SIGTERM reaches the command, whose own exit code is the one that counts; nothing is left running."""
    script = "trap 'echo told; exit 7' TERM; echo up; while :; do sleep 0.1; done"
    with run(home, files, upstream, [], ["sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (7, "told\n"), stderr


def test_no_request_is_a_finding(home: Path, files: Files, upstream: RecordingUpstream) -> None:
    """Tests that went past the gate have shown nothing; a command that a signal ended has its code."""
    process = run(home, files, upstream, [], ["true"])
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (1, ""), stderr
    assert "no request came" in stderr


def test_empty_command(home: Path, files: Files, upstream: RecordingUpstream) -> None:
    """`-- $TESTS` without TESTS is a mistake in the build, which must not hang."""
    process = run(home, files, upstream, [], [])
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, "-- has no COMMAND after it" in stderr) == (2, True), stderr


def test_gate_that_cannot_start_runs_no_command(
    home: Path, files: Files, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """Exit code 1 with the reason, and the command is not run without its gate."""
    mark = tmp_path / "ran"
    process = run(home, files, upstream, ["--expect", tmp_path / "none.yaml"], ["touch", str(mark)])
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "none.yaml" in stderr
    assert "does not exist" in stderr
    assert "Traceback" not in stderr
    assert not mark.exists()


def test_mitmdump(home: Path, files: Files, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """As a plain add-on it writes the same reports at its end, and the exit code tells of findings."""
    junit = tmp_path / "junit.xml"
    options = (f"jwsgate_report={junit}", "jwsgate_fail_on=reject")
    with gates.running(
        lambda port: gates.command(
            "mitmdump -s", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy, options=options
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name="mitmdump -s",
    ) as gate:
        assert exchange(gate.port, "GET", "/orders/1", credentials()).status == 200
        gate.process.terminate()
        assert gate.process.wait(10) == 1
        assert "1 allowed, 1 rejected" in gate.log()  # the start's probe was rejected
    assert ElementTree.parse(junit).getroot().get("failures") == "1"


@pytest.mark.parametrize(("write", "name"), [(flow_file, "long.mitm"), (har_file, "long.har")], ids=["flows", "har"])
def test_progress_bar_on_a_terminal_only(
    home: Path, files: Files, tmp_path: Path, write: Callable[[Iterable[Sent]], bytes], name: str
) -> None:
    """It moves while a long recording is decided, on stderr, and nothing of it goes anywhere else."""
    token = material.jws(KEYS[RSA])
    one = Sent("/orders/1", time.time(), [("X-IBM-Client-Id", RSA), ("jwt", token)])
    (tmp_path / name).write_bytes(write([one] * (2**20 // len(write([one])) * 2)))
    argv = [
        *(sys.executable, "-m", "jwsgate", "check", "--portal", str(files.portal), "--policy", str(files.policy)),
        str(tmp_path / name),
    ]
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, env=gates.environment(home), stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        bar = b""
        with contextlib.suppress(OSError):  # as soon as the other end is closed
            while octets := os.read(ours, 100_000):
                bar += octets
        os.close(ours)
        stdout, _ = process.communicate()
    silent = subprocess.run(argv, env=gates.environment(home), capture_output=True, check=False)
    assert name.encode() in bar
    told = list(dict.fromkeys(int(each) for each in re.findall(rb"(\d+)%", bar)))
    assert (told[0], told[-1]) == (0, 100)
    assert len(told) > 50
    assert told == sorted(told)
    assert (silent.returncode, silent.stderr) == (0, b"")
    assert (process.returncode, silent.stdout) == (0, stdout)
