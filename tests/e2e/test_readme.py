"""The README's commands, run as they stand there; only the ports are replaced by free ones."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import gates
from e2e.upstream import RecordingUpstream

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian package curl)"),
]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- run: (\w+) -->\n```sh\n(.*?)```", README, re.DOTALL))
NO_CERTIFICATE = (
    '{ "httpCode":"500", "httpMessage":"Internal Error", '
    '"moreInformation":"application doesn\'t have a client cert registered" }'
)


def with_ports(script: str, ports: dict[str, int]) -> str:
    """A script with its ports replaced; each must occur, and none of the README's may stay."""
    for port, free in ports.items():
        assert port in script
        script = re.sub(rf"\b{port}\b", str(free), script)
    assert not re.search(r"\b(?:844\d|9000|8081)\b", script)
    return script


@contextlib.contextmanager
def running(script: str, log: Path, home: Path) -> Iterator[None]:
    """A script that runs until it is stopped, once it has said that it listens."""
    environment = os.environ | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["bash", "-euc", script], cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not re.search(r"listening (?:on|at)", log.read_text("utf-8", "replace")):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            time.sleep(0.2)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def output_of(script: str, home: Path, timeout: float = 60) -> str:
    """What a script that ends by itself prints; it must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[int]:
    """The demo, as ./run_proxy.sh starts it, but on a free port; makes the demo's keys as a first run does."""
    port = gates.free_port()
    log = tmp_path_factory.mktemp("demo") / "log"
    with running(f"exec ./run_proxy.sh --demo --listen 127.0.0.1:{port}", log, home):
        yield port


def curl(port: int, scheme: str = "http") -> str:
    """The status of a request without a JWS."""
    return subprocess.run(
        [
            *("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}"),
            *("-H", "X-IBM-Client-Id: 479b3df9-380e-4bda-8cc1-92718c88f9cd"),
            f"{scheme}://127.0.0.1:{port}/orders/17",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout


def test_every_block_is_run() -> None:
    """This file runs exactly the marked blocks."""
    assert {"demo", "sidecar", "web", "script", "ci"} == set(BLOCKS)


def test_demo(demo: int, home: Path) -> None:
    """The four calls of the first page."""
    output = output_of(with_ports(BLOCKS["demo"], {"8443": demo}), home)
    claims = r'\{"iss":"tvo","aud":"the world","exp":\d+,"iat":\d+,"t":"t"\}'
    pattern = f"{claims}{re.escape(NO_CERTIFICATE)}(.*)"
    match = re.fullmatch(pattern, output, re.DOTALL)
    assert match, output
    assert '"path": "/orders/17"' in match[1]


def test_seed_calls_over_both_schemes(demo: int, home: Path) -> None:
    """/sign and /validate over http and https alike."""
    for scheme in ("http", "https"):
        script = with_ports(BLOCKS["demo"], {"8443": demo}).replace("https:", f"{scheme}:")
        assert '{"iss":"tvo","aud":"the world","exp":' in output_of(script, home)


@pytest.mark.usefixtures("demo")
def test_sidecar(tmp_path: Path, home: Path, upstream: RecordingUpstream) -> None:
    """The sidecar listens for http and https, and lets nothing through without a JWS."""
    port = gates.free_port()
    script = with_ports(BLOCKS["sidecar"], {"9000": upstream.port, "8444": port})
    with running(script, tmp_path / "log", home):
        assert [curl(port), curl(port, "https")] == ["500", "500"]
    upstream.assert_untouched()
    assert (tmp_path / "log").read_text().count("rejected: jws_missing") == 2


@pytest.mark.usefixtures("demo")
def test_web(tmp_path: Path, home: Path) -> None:
    """mitmweb shows the refused request with its reason."""
    port, web = gates.free_port(), gates.free_port()
    with running(with_ports(BLOCKS["web"], {"8445": port, "8081": web}), tmp_path / "log", home):
        assert curl(port) == "500"
        token = re.search(r"token=(\w+)", (tmp_path / "log").read_text())
        assert token
        page = f"http://127.0.0.1:{web}/flows?token={token[1]}"
        assert "jws_missing" in output_of(f"curl -s '{page}'", home)


@pytest.mark.usefixtures("demo")
def test_script(tmp_path: Path, home: Path, upstream: RecordingUpstream) -> None:
    """The plain addon under mitmdump."""
    port = gates.free_port()
    script = with_ports(BLOCKS["script"], {"9000": upstream.port, "8446": port})
    with running(script, tmp_path / "log", home):
        assert curl(port) == "500"
    upstream.assert_untouched()


@pytest.mark.usefixtures("demo")
def test_ci(home: Path, upstream: RecordingUpstream) -> None:
    """The script for CI ends by itself and finds the reason in the log."""
    script = with_ports(BLOCKS["ci"], {"9000": upstream.port, "8447": gates.free_port()})
    log = home / "gate.log"
    assert "rejected: jws_missing" in output_of(script.replace("gate.log", str(log)), home)
    upstream.assert_untouched()
