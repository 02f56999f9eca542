"""bench/proxy.py and check.py run and tell all that they promise; how fast anything is, is not looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))
import proxy  # noqa: E402

sys.path.remove(str(BENCH))

CONTESTANTS = (
    "bare mitmdump",
    "jwsgate run, JWS seen before",
    "jwsgate run, fresh JWS",
    "jwsgate run, denied: bad signature",
    "jwsgate run, fresh, audit and metrics",
    "mitmdump -s, JWS seen before",
    "mitmdump -s, fresh JWS",
)


def need_programs() -> None:
    """What the benchmark needs; without it a test is skipped, but fails where the tests decide over a change."""
    missing = proxy.missing_packages()
    if not missing:
        return
    message = f"not installed: the Debian packages {missing}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def programs() -> None:
    """See `need_programs`."""
    need_programs()


def run(*arguments: str, script: str = "proxy.py") -> subprocess.CompletedProcess[str]:
    """The benchmark as a command."""
    command = [sys.executable, str(BENCH / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.e2e
@pytest.mark.usefixtures("programs")
def test_speed_is_told_of_every_contestant() -> None:
    """Each line has all its numbers, with bare mitmdump as the measure."""
    done = run("--quick")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert "the proxy on core" in lines[0]
    columns = re.split(r"  +", lines[1].strip())
    assert columns == ["requests/s", "x bare", "least-most", "core", "CPU us", "p50 ms", "p99 ms", "peak MB"]
    rows = {line[:38].strip(): line[38:].split() for line in lines[2 : 2 + len(CONTESTANTS)]}
    assert tuple(rows) == CONTESTANTS
    for rate, ratio, spread, core, *others in rows.values():
        least, most = map(float, spread.split("-"))
        assert least <= float(ratio) <= most
        assert core.endswith("%")
        assert all(float(number) > 0 for number in (rate, ratio, *others))
        assert 4 + len(others) == len(columns)
    assert float(rows["bare mitmdump"][1]) == 1


@pytest.mark.e2e
def test_recordings_of_each_kind_are_checked() -> None:
    """Each with its ratio; that the progress bar was drawn is seen to by the benchmark."""
    done = run("--quick", script="check.py")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = {line[:12].strip(): line[12:].split() for line in done.stdout.splitlines()[1:-1]}
    assert list(rows) == ["ES256 flows", "ES256 HAR", "RS256 flows", "RS256 HAR"]
    assert all(float(number) > 0 for row in rows.values() for number in row if number != "s")


@pytest.mark.e2e
@pytest.mark.usefixtures("programs")
def test_memory_is_told() -> None:
    """After the first and the last of the requests, and what the two large bodies added."""
    done = run("--quick", "--memory")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    starts = [line.split(" of ")[0] for line in done.stdout.splitlines()[1:]]
    assert [start.split(" ")[0] for start in starts[:5]] == ["jwsgate", "jwsgate", "jwsgate", "upload", "download"]


@pytest.mark.e2e
@pytest.mark.usefixtures("programs")
def test_check_fails_when_a_limit_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here one that nothing can meet."""
    monkeypatch.setattr(proxy, "MOST_BODY_MB", -1000)
    monkeypatch.setattr(sys, "argv", ["proxy.py", "--quick", "--memory", "--check"])
    with pytest.raises(SystemExit) as ended:
        proxy.main()
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "missed: upload" in told
    assert "missed: download" in told


@pytest.mark.e2e
@pytest.mark.usefixtures("programs")
def test_no_number_from_a_broken_run(tmp_path: Path) -> None:
    """Requests refused that should pass, passed that should be refused, or too few fresh JWS, end the run."""
    with proxy.bench_running(tmp_path) as bench, proxy.proxy(bench, "jwsgate run", bench.upstream.port) as process:
        refused = proxy.Contestant("refused", process, bench.forged)
        with pytest.raises(proxy.Broken, match="not every request was forwarded"):
            bench.measure(refused, 2, 1)
        passed = proxy.Contestant("passed", process, bench.seen, allowed=False)
        with pytest.raises(proxy.Broken, match="not every request was denied"):
            bench.measure(passed, 2, 1)
        too_few = proxy.Contestant("too few", process, None, fastest=1)
        with pytest.raises(proxy.Broken, match="too few fresh JWS"):
            bench.measure(too_few, 2, 1)
        with pytest.raises(proxy.Broken, match="answers"):
            bench.probe(passed, gated=True)


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, by the skip, and by the failure in CI."""
    monkeypatch.setattr(proxy.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["proxy.py"])
    with pytest.raises(SystemExit, match="apt-get install wrk nginx-light"):
        proxy.main()
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="wrk nginx-light"):
        need_programs()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="wrk nginx-light"):
        need_programs()
