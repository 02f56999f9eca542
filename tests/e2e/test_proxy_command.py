"""A command whose URLs are fixed, with the gate as its proxy: http and https, and nothing that goes past it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.estate import KEYS, RSA, Files
from e2e.http_client import Connection, request_octets
from e2e.test_tls import FIRST, MIDDLE, ROOT, secured_upstream
from e2e.upstream import RecordingUpstream

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian package curl)"),
]

CURL = 'curl -s -o /dev/null -w "%{http_code} " -H "X-IBM-Client-Id: $ID"'
URLLIB = """\
import os, urllib.error, urllib.request
for headers in ({"X-IBM-Client-Id": os.environ["ID"], "jwt": os.environ["TOKEN"]}, {}):
    try:
        print(urllib.request.urlopen(urllib.request.Request(os.environ["API"] + "/orders/1", headers=headers)).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@pytest.fixture(params=["http", "https"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RecordingUpstream, str]]:
    """A recording upstream, and its URL."""
    if request.param == "http":
        with RecordingUpstream() as upstream:
            yield upstream, upstream.url
    else:
        with secured_upstream(tmp_path, FIRST, MIDDLE) as upstream:
            yield upstream, f"https://127.0.0.1:{upstream.port}"


def run(
    home: Path, files: Files, tmp_path: Path, options: Sequence[str], command: Sequence[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """`jwsgate run --proxy … -- COMMAND`, which trusts one CA of its own upstream."""
    (tmp_path / "ca.pem").write_text(ROOT.pem)
    argv = [
        *(sys.executable, "-m", "jwsgate", "run", "--proxy", "--listen", "127.0.0.1:0", "--portal", str(files.portal)),
        *("--policy", str(files.policy), "--upstream-ca", str(tmp_path / "ca.pem"), *options, "--", *command),
    ]
    token = material.jws(KEYS[RSA])
    return subprocess.run(
        argv,
        env=gates.environment(
            home, extra={"ID": RSA, "TOKEN": token, "NO_PROXY": "127.0.0.1,localhost", **environment}
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("client", ["curl", "urllib"])
def test_fixed_url(home: Path, files: Files, tmp_path: Path, api: tuple[RecordingUpstream, str], client: str) -> None:
    """The client knows nothing of the gate: what is signed reaches the API, what is not does not, and is a finding."""
    upstream, url = api
    script = f'{CURL} -H "jwt: $TOKEN" $API/orders/1; {CURL} $API/orders/2; echo'
    command = ["sh", "-c", script] if client == "curl" else [sys.executable, "-c", URLLIB]
    report = tmp_path / "report.json"
    done = run(home, files, tmp_path, ["--report", str(report)], command, API=url)
    assert (done.returncode, done.stdout.split()) == (1, ["200", "500" if client == "curl" else "401"]), done.stderr
    assert upstream.only_request().target == b"/orders/1"
    told = json.loads(report.read_text())
    assert [each["decision"] for each in told["requests"]] == ["allowed", "rejected"]
    assert "Traceback" not in done.stderr


def test_denied_requests_do_not_even_connect(
    home: Path, files: Files, tmp_path: Path, api: tuple[RecordingUpstream, str]
) -> None:
    """Neither by a request of their own nor by the CONNECT in front of it."""
    upstream, url = api
    done = run(
        home, files, tmp_path, ["--fail-on", "none"], ["sh", "-c", f"{CURL} $API/a; {CURL} -d x $API/b"], API=url
    )
    assert (done.returncode, done.stdout) == (0, "500 500 "), done.stderr
    upstream.assert_untouched()


def test_raw_octets_after_connect(home: Path, files: Files, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """What is no request ends the connection, and has gone nowhere."""
    argv = [*(sys.executable, "-m", "jwsgate", "run", "--proxy"), "--portal", str(files.portal), "--policy"]
    with gates.running(
        lambda port: [*argv, str(files.policy), "--listen", f"127.0.0.1:{port}"],
        env=gates.environment(home),
        directory=tmp_path,
        name="proxy",
    ) as gate:
        for raw in (b"EHLO client.test\r\n\r\n", b"\x00\x01\x02\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n\r\n"):
            with Connection(gate.port) as connection:
                address = f"127.0.0.1:{upstream.port}"
                connection.send(request_octets("CONNECT", address, [("Host", address)]))
                assert connection.read("CONNECT").status == 200
                connection.send(raw)
                connection.read_to_end()
        upstream.assert_untouched()


def test_upstream_is_verified(home: Path, files: Files, tmp_path: Path) -> None:
    """A host whose certificate is another's gets no request."""
    with secured_upstream(tmp_path, FIRST, MIDDLE) as upstream:
        url = f"https://localhost:{upstream.port}"
        done = run(home, files, tmp_path, [], ["sh", "-c", f'{CURL} -H "jwt: $TOKEN" $API/a'], API=url)
        assert int(done.stdout) >= 500, done.stderr
        upstream.assert_no_request()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--upstream", "http://127.0.0.1:9"], "--upstream is for a gate in front of one upstream"),
        (["--tls-only"], "--tls-only is for a gate in front of one upstream"),
        (["--demo"], "--demo is for a gate in front of one upstream"),
        (["--listen", "0.0.0.0:0"], "--proxy would call any host for whoever reaches it"),
        (["--listen", "gate.test:0"], "--proxy would call any host for whoever reaches it"),
        (["--workers", "2"], "--workers is for production"),
    ],
    ids=["upstream", "tls-only", "demo", "everywhere", "name", "workers"],
)  # fmt: skip
def test_usage(home: Path, files: Files, tmp_path: Path, options: list[str], told: str) -> None:
    """What does not go with it is refused, and the command is not run."""
    done = run(home, files, tmp_path, options, ["echo", "ran"])
    assert (done.returncode, done.stdout) == (2, "")
    assert told in " ".join(done.stderr.split())
