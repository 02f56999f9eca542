"""What Prometheus is told: every number right, bounded, and the sum of all workers."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from feature_material import a_route, a_snapshot
from jwsgate import __version__
from jwsgate.adapters.metrics import Metrics
from jwsgate.adapters.records import DecisionRecord
from jwsgate.core.decision import Snapshot
from jwsgate.core.reasons import Reason
from record_material import a_record, run_python

type Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Metrics) -> Samples:
    """The exposition as Prometheus reads it; no series comes twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        assert family.documentation
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One series; None when there is none."""
    return samples(metrics).get((f"jwsgate_{name}", frozenset(labels.items())))


def labelled(metrics: Metrics, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """All series of one metric."""
    return {labels: number for (found, labels), number in samples(metrics).items() if found == f"jwsgate_{name}"}


# Decisions


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_there_at_start(reason: Reason) -> None:
    """With 0, so that the first one shows in a rate."""
    labels = {"decision": "rejected", "reason": reason.value, "route": ""}
    assert value(Metrics(), "decisions_total", **labels) == 0


def test_nothing_else_is_there_at_start() -> None:
    """One series for each reason, and one for what is allowed."""
    assert len(labelled(Metrics(), "decisions_total")) == len(Reason) + 1


def test_decisions() -> None:
    """By outcome, reason and route; two `Metrics` share nothing."""
    metrics, other = Metrics(), Metrics()
    for record in (
        a_record(),
        a_record(),
        a_record(reason=Reason.JWS_EXPIRED),
        a_record(reason=Reason.ROUTE_UNKNOWN, route=None),
    ):
        metrics.record(record)
    assert {labels: number for labels, number in labelled(metrics, "decisions_total").items() if number} == {
        frozenset({("decision", "allowed"), ("reason", ""), ("route", "orders")}): 2,
        frozenset({("decision", "rejected"), ("reason", "jws_expired"), ("route", "orders")}): 1,
        frozenset({("decision", "rejected"), ("reason", "route_unknown"), ("route", "")}): 1,
    }
    assert sum(labelled(other, "decisions_total").values()) == 0


def test_routes_are_bounded() -> None:
    """Ten thousand routes cost no more than 5,000 series and those for the rest; each decision is still counted."""
    metrics = Metrics()
    for number in range(10_000):
        metrics.record(a_record(route=f"route {number}"))
        metrics.record(a_record(route=f"route {number}", reason=Reason.JWS_MISSING))
    found = labelled(metrics, "decisions_total")
    assert sum(found.values()) == 20_000
    assert 4_000 < len(found) <= 5_000 + 2 * len(Reason)
    assert found[frozenset({("decision", "allowed"), ("reason", ""), ("route", "(more)")})] > 7_000
    assert found[frozenset({("decision", "allowed"), ("reason", ""), ("route", "route 0")})] == 1


@given(st.lists(st.text(max_size=200), max_size=5))
def test_any_route_name_is_a_label(names: list[str]) -> None:
    """Whatever a policy calls its routes, surrogates and newlines too: the exposition can be read, and all is there."""
    metrics = Metrics()
    for name in (*names, "\ud800", 'a"b\\c\nd', "long" * 1000):
        metrics.record(a_record(route=name))
    assert sum(labelled(metrics, "decisions_total").values()) == len(names) + 3


def test_what_is_told_of_a_request() -> None:
    """No client ID, application, path, thumbprint or transaction of a request is in the metrics."""
    metrics = Metrics()
    metrics.record(a_record(detail="the detail", peer="192.0.2.7"))
    text = metrics.exposition().decode()
    for secret in ("479b3df9", "shop", "/orders/17", "abab", "0123456789abcdef", "192.0.2.7", "the detail", "4bf92f"):
        assert secret not in text


# Durations


@given(st.lists(st.floats(0, 100), max_size=20))
def test_durations(durations: list[float]) -> None:
    """Each bucket has all that took no longer, as Prometheus wants it."""
    metrics = Metrics()
    for seconds in durations:
        metrics.record(a_record(duration=seconds))
        metrics.request_finished(seconds)
    for name in ("decision_duration_seconds", "request_duration_seconds"):
        buckets = {float(dict(labels)["le"]): number for labels, number in labelled(metrics, f"{name}_bucket").items()}
        assert buckets == {bound: sum(seconds <= bound for seconds in durations) for bound in buckets}
        assert math.inf in buckets
        assert value(metrics, f"{name}_count") == len(durations)
        assert value(metrics, f"{name}_sum") == pytest.approx(sum(durations))
    assert min(float(dict(labels)["le"]) for labels in labelled(metrics, "decision_duration_seconds_bucket")) == 1e-5


# The rest


class Cache:
    """A cache of a given size."""

    octets = 4711

    def __len__(self) -> int:
        return 3


def test_cache() -> None:
    """Hits and misses are of JWS that verified; what failed before, or at the signature, is neither."""
    metrics = Metrics(cache=Cache())
    metrics.record(a_record(reason=Reason.SIGNATURE_MISMATCH, thumbprint=None))
    metrics.record(a_record())
    metrics.record(a_record(cached=True))
    metrics.record(a_record(cached=True, reason=Reason.BINDING_MISMATCH))
    assert value(metrics, "verified_jws_cache_hits_total") == 2
    assert value(metrics, "verified_jws_cache_misses_total") == 1
    assert value(metrics, "verified_jws_cache_entries") == 3
    assert value(metrics, "verified_jws_cache_bytes") == 4711


def test_events() -> None:
    """Each call counts in its own metric."""
    metrics = Metrics()
    calls = {
        "upstream_connection_failures_total": metrics.upstream_failed,
        "protocol_refusals_total": metrics.protocol_refused,
        "audit_write_failures_total": metrics.audit_failed,
        "client_connections": metrics.connection_opened,
    }
    for count, call in enumerate(calls.values(), 1):
        for _ in range(count):
            call()
    assert [value(metrics, name) for name in calls] == [1, 2, 3, 4]
    metrics.connection_closed()
    assert value(metrics, "client_connections") == 3


def test_reloads() -> None:
    """By result; one that found problems leaves the time of the last good one."""
    metrics = Metrics()
    assert {dict(labels)["result"]: number for labels, number in labelled(metrics, "reloads_total").items()} == {
        "loaded": 0,
        "unchanged": 0,
        "refused": 0,
    }
    metrics.reloaded("refused")
    assert value(metrics, "last_successful_reload_timestamp_seconds") == 0
    before = time.time()
    metrics.reloaded("loaded")
    first = value(metrics, "last_successful_reload_timestamp_seconds")
    assert first is not None
    assert before <= first <= time.time()
    metrics.reloaded("refused")
    assert value(metrics, "last_successful_reload_timestamp_seconds") == first
    metrics.reloaded("unchanged")
    later = value(metrics, "last_successful_reload_timestamp_seconds")
    assert later is not None
    assert later > first
    assert value(metrics, "reloads_total", result="refused") == 2


def test_snapshot() -> None:
    """What is in force now, and nothing before there is one; a policy's routes are there before their first request."""
    current: list[Snapshot | None] = [None]
    metrics = Metrics(snapshot=lambda: current[0])
    metrics.reloaded("refused")
    assert value(metrics, "routes") is None
    current[0] = a_snapshot([], a_route("/a"), a_route("/b"))
    metrics.reloaded("loaded")
    assert value(metrics, "snapshot_info", revision="test") == 1
    assert (value(metrics, "applications"), value(metrics, "routes")) == (0, 2)
    assert value(metrics, "decisions_total", decision="allowed", reason="", route="/a route") == 0
    metrics.record(a_record(route="/a route"))
    metrics.reloaded("loaded")
    assert value(metrics, "decisions_total", decision="allowed", reason="", route="/a route") == 1


def test_build_info() -> None:
    """Which version runs."""
    [labels] = labelled(Metrics(), "build_info")
    assert dict(labels)["version"] == __version__


def test_exposition_beside_counting() -> None:
    """A scrape in another thread, while new series come, is complete each time."""
    metrics, failures = Metrics(), list[BaseException]()

    def scrape() -> None:
        try:
            for _ in range(30):
                samples(metrics)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(4_000):
        metrics.record(a_record(route=f"{number}"))
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(labelled(metrics, "decisions_total").values()) == 4_000


# Several workers

COUNTING = """
import os, signal, sys
from pathlib import Path
from jwsgate.adapters.metrics import Metrics
from jwsgate.core.reasons import Reason
from record_material import a_record
metrics = Metrics(multiprocess_dir=Path(sys.argv[1]), worker=int(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    metrics.record(a_record(cached=True))
    metrics.request_finished(0.02)
metrics.record(a_record(route=f"only {sys.argv[2]}", reason=Reason.JWS_MISSING))
metrics.connection_opened()
metrics.reloaded("loaded")
os.kill(os.getpid(), signal.SIGKILL)
"""


def work(folder: Path, *workers: tuple[int, int]) -> None:
    """Workers that count so many decisions each and are killed."""
    for worker, decisions in workers:
        assert run_python(COUNTING, folder, str(worker), str(decisions)).returncode == -9


def test_sum_of_workers(tmp_path: Path) -> None:
    """Their parent tells the sum, also of those that were killed and of those that took their places."""
    parent = Metrics(multiprocess_dir=tmp_path)
    before = time.time()
    work(tmp_path, (0, 10), (1, 20), (0, 5))
    labels = {"decision": "allowed", "reason": "", "route": "orders"}
    assert value(parent, "decisions_total", **labels) == 35
    for worker, count in ((0, 2), (1, 1)):
        rejected = {"decision": "rejected", "reason": "jws_missing", "route": f"only {worker}"}
        assert value(parent, "decisions_total", **rejected) == count
    assert value(parent, "request_duration_seconds_count") == 35
    assert value(parent, "request_duration_seconds_bucket", le="0.025") == 35
    assert value(parent, "request_duration_seconds_bucket", le="0.01") == 0
    assert value(parent, "verified_jws_cache_hits_total") == 35
    assert value(parent, "reloads_total", result="loaded") == 3
    reload = value(parent, "last_successful_reload_timestamp_seconds")
    assert reload is not None
    assert before < reload < time.time()


def test_connections_of_dead_workers(tmp_path: Path) -> None:
    """They are gone when the worker is reported dead, or its place is taken; its counts are not."""
    parent = Metrics(multiprocess_dir=tmp_path)
    work(tmp_path, (0, 1), (1, 1))
    assert value(parent, "client_connections") == 2
    Metrics.worker_ended(tmp_path, 0)
    assert value(parent, "client_connections") == 1
    replacement = Metrics(multiprocess_dir=tmp_path, worker=1)
    assert value(parent, "client_connections") == 0
    replacement.connection_opened()
    assert value(parent, "client_connections") == value(replacement, "client_connections") == 1
    replacement.close()
    assert value(parent, "client_connections") == 0
    assert value(parent, "verified_jws_cache_hits_total") == 2


def test_a_worker_tells_the_sum_too(tmp_path: Path) -> None:
    """Whichever process answers, its own counts are in it once."""
    work(tmp_path, (0, 10))
    worker = Metrics(multiprocess_dir=tmp_path, worker=1)
    worker.record(a_record())
    labels = {"decision": "allowed", "reason": "", "route": "orders"}
    assert value(worker, "decisions_total", **labels) == 11
    worker.close()


def test_routes_stay_bounded_over_restarts(tmp_path: Path) -> None:
    """A policy that changes all its names again and again fills a worker's file; then the rest is told together."""
    labels = {"decision": "allowed", "reason": "", "route": "(more)"}
    counted = 0
    for restart in range(3):
        worker = Metrics(multiprocess_dir=tmp_path, worker=0)
        for number in range(4_000):
            worker.record(a_record(route=f"{restart} {number}"))
            counted += 1
        worker.close()
    parent = Metrics(multiprocess_dir=tmp_path)
    assert sum(labelled(parent, "decisions_total").values()) == counted
    assert (value(parent, "decisions_total", **labels) or 0) > 3_000


def test_directory_that_is_missing(tmp_path: Path) -> None:
    """A worker does not start without its files."""
    with pytest.raises(OSError, match="No such file"):
        Metrics(multiprocess_dir=tmp_path / "missing", worker=0)


# Faults in what is asked


def test_broken_snapshot_breaks_the_scrape_only() -> None:
    """Counting does not ask for it."""

    def broken() -> Snapshot:
        raise RuntimeError

    metrics = Metrics(snapshot=broken)
    metrics.record(a_record())
    with pytest.raises(RuntimeError):
        metrics.exposition()


@given(
    st.builds(
        DecisionRecord,
        time=st.floats(),
        duration=st.floats(),
        transaction_id=st.text(),
        method=st.text(),
        path=st.text(),
        peer=st.text(),
        reason=st.none() | st.sampled_from(Reason),
        route=st.none() | st.text(st.characters()),
        thumbprint=st.none() | st.text(),
        cached=st.booleans(),
    )
)
def test_counting_never_raises(record: DecisionRecord) -> None:
    """Whatever a record holds, one decision is counted."""
    metrics = Metrics()
    metrics.record(record)
    assert sum(labelled(metrics, "decisions_total").values()) == 1


def documented() -> Sequence[str]:
    """The metrics that the documentation names."""
    text = (Path(__file__).parents[1] / "docs" / "observability.md").read_text()
    return [line.split("`")[1].partition("{")[0] for line in text.splitlines() if line.startswith("| `jwsgate_")]


def test_documentation() -> None:
    """docs/observability.md has each metric, and no other."""
    metrics = Metrics(snapshot=lambda: a_snapshot([]))
    families = text_string_to_metric_families(metrics.exposition().decode())
    assert sorted(documented()) == sorted(
        family.name + ("_total" if family.type == "counter" else "") for family in families
    )
