"""Metrics for Prometheus. They say how often and how long, never who: no client ID, no path, no text of a client.

Rule 1. Counting never fails, never waits, and takes the same time however many routes and applications there are.
Rule 2. The number of series is bounded: reasons come from an enum, routes from the policy, and past 5,000 sets
        of the two the route is told as `(more)`. A policy loaded anew keeps what was counted before.
Rule 3. What is known of the files (revision, certificates) is told by the process that answers the scrape, from its
        own snapshot; all else is the sum over the workers, those that died included.
"""

import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jwsgate import __version__
from jwsgate.core.decision import Snapshot
from jwsgate.core.reasons import REPORTABLE, Reason

from .expiry import CertificateExpiry, label_value
from .metric_cells import Key, MetricCells, read_cells
from .records import DecisionRecord

__all__ = ["CacheSize", "Metrics", "ReloadResult"]

type ReloadResult = Literal["loaded", "unchanged", "refused"]
"""`refused`: the files had problems, and what was loaded before stays in force."""

_DECISIONS: Final = "jwsgate_decisions"
_RELOADS: Final = "jwsgate_reloads"
_MAX_DECISION_SERIES: Final = 5_000
_MAX_ROUTES_BEFOREHAND: Final = 1_000
_MORE: Final = "(more)"
_SUM: Final = "sum"


class CacheSize(Protocol):
    """What is asked of the cache of verified JWS (core/verified_cache.py)."""

    octets: int

    def __len__(self) -> int:
        """The number of its entries."""


@dataclass(frozen=True, slots=True)
class _Simple:
    """A metric of one number for each set of labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["counter", "gauge", "latest"] = "counter"
    """`latest`: of several workers the largest number counts, not the sum."""


_SIMPLE: Final = (
    _Simple(_DECISIONS, "Decisions by outcome; reason is empty where allowed.", ("decision", "reason", "route")),
    _Simple("jwsgate_verified_jws_cache_hits", "Requests whose JWS had been verified before."),
    _Simple("jwsgate_verified_jws_cache_misses", "Requests whose JWS was verified afresh, and was good."),
    _Simple("jwsgate_verified_jws_cache_entries", "JWS in the cache.", kind="gauge"),
    _Simple("jwsgate_verified_jws_cache_bytes", "Size of the cache as it reckons.", kind="gauge"),
    _Simple(_RELOADS, "Readings of portal export and policy: loaded, unchanged or refused.", ("result",)),
    _Simple(
        "jwsgate_last_successful_reload_timestamp_seconds",
        "When portal export and policy were last read without a problem, changed or not; 0 before.",
        kind="latest",
    ),
    _Simple("jwsgate_upstream_connection_failures", "Connections to the upstream that could not be made."),
    _Simple("jwsgate_client_connections", "Open connections from clients.", kind="gauge"),
    _Simple("jwsgate_protocol_refusals", "Requests refused before any decision, as their framing was broken."),
    _Simple("jwsgate_audit_write_failures", "Decisions that could not be written to the audit log."),
)


class _Histogram:
    """Counts of durations in seconds, in cells that follow each other: the buckets, then the sum."""

    def __init__(self, name: str, help_text: str, bounds: tuple[float, ...]) -> None:
        self.name, self.help, self.bounds = name, help_text, bounds

    def keys(self) -> list[Key]:
        return [(self.name, last) for last in (*map(str, self.bounds), "+Inf", _SUM)]

    def family(self, numbers: dict[Key, float]) -> Metric:
        buckets, count = [], 0.0
        for key in self.keys()[:-1]:
            count += numbers.get(key, 0.0)
            buckets.append((key[1], count))
        family = HistogramMetricFamily(self.name, self.help)
        family.add_metric([], buckets, sum_value=numbers.get((self.name, _SUM), 0.0))
        return family


_DECISION_SECONDS: Final = _Histogram(
    "jwsgate_decision_duration_seconds",
    "Time to decide, waiting for the client left out.",
    (1e-05, 2.5e-05, 5e-05, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0),
)
_REQUEST_SECONDS: Final = _Histogram(
    "jwsgate_request_duration_seconds",
    "Time from the first octet of a request to the last of its response, the upstream's included.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_HISTOGRAMS: Final = (_DECISION_SECONDS, _REQUEST_SECONDS)


def _decision_key(reason: Reason | None, route: str, reported: bool = False) -> Key:
    if reason is None:
        return _DECISIONS, "allowed", "", route
    return _DECISIONS, "would_reject" if reported else "rejected", reason.value, route


def _sum(numbers: Iterator[tuple[Key, float]]) -> dict[Key, float]:
    latest = {metric.name for metric in _SIMPLE if metric.kind == "latest"}
    sums: dict[Key, float] = {}
    for key, number in numbers:
        before = sums.get(key, 0.0)
        sums[key] = max(before, number) if key[0] in latest else before + number
    return sums


class Metrics(Collector):
    """A `RecordSink` that counts, and the exposition of the counts. Nothing in it is shared between two of them."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot | None] = lambda: None,
        cache: CacheSize | None = None,
        multiprocess_dir: Path | None = None,
        worker: int | None = None,
    ) -> None:
        """For one process, without `multiprocess_dir`.

        For several, each worker gets the same empty, private directory and a number that no other living process
        has; one that replaces a dead worker gets its number. Without a number, as for their parent, only the sum
        of what the workers count is told. Make it after the fork.

        Raises:
            OSError: when the worker's files cannot be made.
        """
        self.snapshot = snapshot
        self.cache = cache
        self._directory = multiprocess_dir
        self._cells = MetricCells(None if worker is None else multiprocess_dir, worker or 0)
        self._writes_files = multiprocess_dir is not None and worker is not None
        self._numbers = self._cells.numbers
        self._single = {metric.name: self._cells.cell((metric.name,)) for metric in _SIMPLE if not metric.labels}
        self._reloads = {result: self._cells.cell((_RELOADS, result)) for result in ("loaded", "unchanged", "refused")}
        self._first_bucket = {histogram.name: self._cells_of(histogram) for histogram in _HISTOGRAMS}
        # Both for requests without a route, and for what does not fit any more: neither may fail later.
        self._decisions = {
            (route, reason, reported): self._cells.cell(_decision_key(reason, route or "", reported))
            for reason in (None, *Reason)
            for route in (None, _MORE)
            for reported in ((False, True) if route and reason in REPORTABLE else (False,))
        }
        self._hits = self._single["jwsgate_verified_jws_cache_hits"]
        self._misses = self._single["jwsgate_verified_jws_cache_misses"]
        self._entries = self._single["jwsgate_verified_jws_cache_entries"]
        self._octets = self._single["jwsgate_verified_jws_cache_bytes"]
        self._first_decision_bucket = self._first_bucket[_DECISION_SECONDS.name]
        self._expiry = CertificateExpiry()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._forget_gauges()

    def _cells_of(self, histogram: _Histogram) -> int:
        """The first of a histogram's cells, which follow each other."""
        return [self._cells.cell(key) for key in histogram.keys()][0]  # noqa: RUF015, SIM118 - all of them are to be made

    def _forget_gauges(self) -> None:
        # A dead worker's connections and cache are gone, whoever takes its place.
        for metric in _SIMPLE:
            if metric.kind == "gauge":
                self._numbers[self._single[metric.name]] = 0.0

    # Counting

    def record(self, record: DecisionRecord) -> None:
        """Count a decision. Never raises."""
        numbers = self._numbers
        key = record.route, record.reason, record.reported
        cell = self._decisions.get(key)
        numbers[self._new_decision(*key) if cell is None else cell] += 1.0
        first = self._first_decision_bucket
        numbers[first + bisect_left(_DECISION_SECONDS.bounds, record.duration)] += 1.0
        numbers[first + len(_DECISION_SECONDS.bounds) + 1] += record.duration
        if record.thumbprint is not None:
            numbers[self._hits if record.cached else self._misses] += 1.0
        if self.cache is not None:
            numbers[self._entries] = len(self.cache)
            numbers[self._octets] = self.cache.octets

    def _new_decision(self, route: str | None, reason: Reason | None, reported: bool = False) -> int:
        """The cell for what was not seen yet."""
        if len(self._decisions) >= _MAX_DECISION_SERIES:
            return self._decisions[_MORE, reason, reported]
        try:
            cell = self._cells.cell(_decision_key(reason, label_value(route or ""), reported))
        except OSError:
            return self._decisions[_MORE, reason, reported]
        self._decisions[route, reason, reported] = cell
        return cell

    def request_finished(self, seconds: float) -> None:
        """Count a request whose response has gone out."""
        first = self._first_bucket[_REQUEST_SECONDS.name]
        self._numbers[first + bisect_left(_REQUEST_SECONDS.bounds, seconds)] += 1.0
        self._numbers[first + len(_REQUEST_SECONDS.bounds) + 1] += seconds

    def reloaded(self, result: ReloadResult) -> None:
        """Count a reading of the files; the first one, at start, too. Call it when `snapshot` gives what is new."""
        self._numbers[self._reloads[result]] += 1.0
        if result != "refused":
            self._numbers[self._single["jwsgate_last_successful_reload_timestamp_seconds"]] = time.time()
        snapshot = self.snapshot()
        if snapshot is not None:
            # There from the start, with 0, so that the first request of a route shows in a rate.
            for route in islice(snapshot.router, _MAX_ROUTES_BEFOREHAND):
                if (route.name, None, False) not in self._decisions:
                    self._new_decision(route.name, None)

    def upstream_failed(self) -> None:
        """Count a connection to the upstream that could not be made."""
        self._numbers[self._single["jwsgate_upstream_connection_failures"]] += 1.0

    def connection_opened(self) -> None:
        """Count a client's connection in."""
        self._numbers[self._single["jwsgate_client_connections"]] += 1.0

    def connection_closed(self) -> None:
        """Count a client's connection out."""
        self._numbers[self._single["jwsgate_client_connections"]] -= 1.0

    def protocol_refused(self) -> None:
        """Count a request that was refused before any decision."""
        self._numbers[self._single["jwsgate_protocol_refusals"]] += 1.0

    def audit_failed(self) -> None:
        """Count a decision that could not be written to the audit log."""
        self._numbers[self._single["jwsgate_audit_write_failures"]] += 1.0

    # Telling

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4. May run in another thread than the counting."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics of now, for `prometheus_client`."""
        numbers = _sum(self._all_numbers())
        labelled: dict[str, list[tuple[Key, float]]] = {}
        for key, number in numbers.items():
            labelled.setdefault(key[0], []).append((key[1:], number))
        for metric in _SIMPLE:
            family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                metric.name, metric.help, labels=metric.labels
            )
            for labels, number in labelled.get(metric.name, []):
                if _MORE in labels and not number:
                    continue  # kept ready, and seldom used
                family.add_metric(labels, number)
            yield family
        for histogram in _HISTOGRAMS:
            yield histogram.family(numbers)
        yield from self._of_the_files()
        build = GaugeMetricFamily("jwsgate_build_info", "Versions, as labels.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build

    def _all_numbers(self) -> Iterator[tuple[Key, float]]:
        if not self._writes_files:
            yield from self._cells.items()
        if self._directory is not None:
            yield from read_cells(self._directory)

    def _of_the_files(self) -> Iterator[Metric]:
        snapshot = self.snapshot()
        if snapshot is None:
            return
        info = GaugeMetricFamily("jwsgate_snapshot_info", "The revision in force, a label.", labels=["revision"])
        info.add_metric([snapshot.revision], 1)
        yield info
        yield GaugeMetricFamily(
            "jwsgate_applications", "Applications in the portal export.", len(snapshot.portal.applications)
        )
        yield GaugeMetricFamily("jwsgate_routes", "Routes of the policy.", len(snapshot.router))
        yield GaugeMetricFamily(
            "jwsgate_routes_in_report_mode",
            "Routes on which requests without a good JWS pass.",
            sum(route.report for route in snapshot.router),
        )
        yield GaugeMetricFamily(
            "jwsgate_client_ids_in_report_mode",
            "Client IDs of the applications whose requests pass without a good JWS where others' do not.",
            len(snapshot.router.reported),
        )
        yield GaugeMetricFamily(
            "jwsgate_open_routes",
            "Routes on which every request passes.",
            sum(route.open for route in snapshot.router),
        )
        yield from self._expiry.families(snapshot.portal, time.time())

    def close(self) -> None:
        """Count no more. A worker that ends in order takes its gauges with it."""
        self._forget_gauges()
        self._cells.close()

    @staticmethod
    def worker_ended(multiprocess_dir: Path, worker: int) -> None:
        """Take a dead worker's gauges out of the sum; its counts stay. Only after it ended, and before it is replaced.

        Raises:
            OSError: when its files cannot be read.
        """
        cells = MetricCells(multiprocess_dir, worker)
        for key, _ in cells.items():
            if any(metric.kind == "gauge" and metric.name == key[0] for metric in _SIMPLE):
                cells.numbers[cells.cell(key)] = 0.0
        cells.close()
