"""bench/portal.py and bench/reload.py run and tell all that they promise; how fast anything is, is not looked at."""

from __future__ import annotations

import collections
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))
portal = importlib.import_module("portal")
reload = importlib.import_module("reload")
sys.path.remove(str(BENCH))


def run(program: str, *arguments: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(BENCH / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


@pytest.mark.e2e
def test_loading_is_told_of_every_contestant() -> None:
    """Each line has all its numbers, with CSafeLoader as the measure; small files have no limits to miss."""
    _, *rows, last = run("portal.py", "--sizes", "500", "--rounds", "1", "--check").splitlines()
    numbers = {row[14:36].strip(): [float(number) for number in row[36:].split()] for row in rows}
    assert list(numbers) == [portal.CSAFE, portal.YAML, portal.JSON]
    assert [len(found) for found in numbers.values()] == [3, 5, 5]
    assert all(number > 0 for found in numbers.values() for number in found)
    assert numbers[portal.CSAFE][1] == 1
    assert last.endswith("times than YAML")


@pytest.mark.e2e
def test_reload_is_told() -> None:
    """Requests, latencies, the time until the change was in force, and memory."""
    *_, row = run("reload.py", "--sizes", "50", "--clients", "20", "--rate", "50", "--quiet", "1").splitlines()
    size, before, during, lost, median, calm, busy, _, worst, seconds, *memory = map(float, row.split())
    assert (size, lost) == (50, 0)
    assert before >= 40
    assert during >= 50 * reload.SECONDS_AFTER
    assert 0 < median <= calm
    assert 0 < busy <= worst
    assert seconds > 0
    assert len(memory) == 3
    assert 0 < memory[0] <= memory[1]


def measured(yaml: float, json: float, mib: float = 100, first: float = 80) -> dict[str, dict[str, float]]:
    """What one size might have given, with CSafeLoader at 10 s."""
    own: dict[str, Any] = {"mib": mib, "first": first, "again": 0.2}
    return {portal.CSAFE: {"seconds": 10}, portal.YAML: {"seconds": yaml, **own}, portal.JSON: {"seconds": json, **own}}


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        pytest.param(measured(10, 1.25), measured(12, 1.25, 572), [], id="met"),
        pytest.param(measured(10.1, 1), measured(12.1, 1), ["10,000 in YAML", "100,000 in YAML"], id="seconds"),
        pytest.param(measured(8, 1.3), measured(8, 1.3), ["10,000 in JSON", "100,000 in JSON"], id="json"),
        pytest.param(measured(8, 1, 573), measured(8, 1, 573), ["100,000 took 601 MB"] * 2, id="memory"),
        pytest.param(measured(8, 1), measured(8, 1, first=161), ["a look-up (first)"], id="look-up"),
    ],
)
def test_limits_of_loading(small: Any, large: Any, expected: list[str]) -> None:
    """Each is told when it is missed."""
    found = list(portal.missed({10_000: small, 100_000: large}))
    assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected


def test_limits_of_a_reload() -> None:
    """No request may be lost, and few may take longer."""
    assert list(reload.missed(10_000, 0, 49.9)) == []
    assert [text.split(" at ")[0] for text in reload.missed(10_000, 2, 50)] == [
        "2 requests were lost",
        "the 99th percentile rose by 50.0 ms",
    ]


def test_check_fails_when_a_limit_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 1; without --check it is only measured."""
    monkeypatch.setattr(portal, "LARGE", 1)
    monkeypatch.setattr(portal, "MOST_RATIO", {1: -1.0})
    monkeypatch.setattr(portal, "measure", lambda *_: {"seconds": 1, "mib": 1, "first": 1, "again": 1})

    async def bench(*_arguments: object) -> dict[str, float]:
        return collections.defaultdict(lambda: 1)  # one request is lost

    monkeypatch.setattr(reload, "bench", bench)
    for program in (portal, reload):
        for more, code in ((["--check"], 1), ([], 0)):
            monkeypatch.setattr(sys, "argv", ["bench", "--sizes", "1", *more])
            with pytest.raises(SystemExit) as ended:
                program.main()
            assert (ended.value.code, "missed: " in capsys.readouterr().out) == (code, code == 1)
