"""Reports of a running gate: its decisions, held against what is expected, written when it ends."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from jwsgate.core.decision import Allowed, Rejected, Snapshot
from jwsgate.core.facts import RequestFacts
from jwsgate.core.redaction import redacted
from jwsgate.files.expectations import read_expectations
from jwsgate.files.explained import explained
from jwsgate.files.report_files import prepare_targets, write_reports
from jwsgate.files.report_formats import summary
from jwsgate.files.tally import DecidedRequest, FailOn, Tally

from .records import DecisionRecord

__all__ = ["Reporter"]

logger = logging.getLogger(__name__)

_MAX_CHARACTERS: Final = 256
_MAX_LOGGED: Final = 20


class Reporter:
    """A `RecordSink` that says in the end whether all was as expected."""

    def __init__(self) -> None:
        self._tally: Tally | None = None
        self._targets: list[tuple[str, str]] = []
        self._chosen: tuple[tuple[str, ...], str, str] = (), "", "none"
        self._file = ""
        self._number = 0
        self.snapshot: Callable[[], Snapshot | None] = lambda: None
        """What is in force, by which decisions are explained."""
        self.is_wanted = False
        """Whether decisions are to be recorded."""
        self.failed = False
        """Whether there were findings, once it has finished."""

    def configure(self, reports: Sequence[str], expect: str, fail_on: FailOn, file: str) -> None:
        """Begin, when something is wanted that was not before; `file` is what annotations of requests point to.

        Raises:
            ProblemsFound: when the expectations cannot be used; nothing has changed then.
            Unfit: when a report cannot be written; likewise.
        """
        if (chosen := (tuple(reports), expect, fail_on)) == self._chosen:
            return
        expectations = read_expectations(Path(expect)) if expect else ()
        self._targets = prepare_targets(reports)
        self._chosen, self._file = chosen, file
        self.is_wanted = bool(expectations or reports or fail_on != "none")
        self._tally = Tally(fail_on, expectations, file) if self.is_wanted else None

    def record(
        self,
        record: DecisionRecord,
        facts: RequestFacts | None = None,
        decision: Allowed | Rejected | None = None,
    ) -> None:
        """Count a decision in, and keep of what was refused what explains it in the end."""
        if self._tally is None:
            return
        self._number += 1
        why = None
        if record.reason is not None and facts is not None and decision is not None:
            why = partial(explained, self.snapshot(), facts, record.time, None, decision)
        request = DecidedRequest(
            f"request {self._number}",
            self._file,
            record.time,
            redacted(record.method, _MAX_CHARACTERS),
            redacted(record.path, _MAX_CHARACTERS),
            record.reason,
            record.reported,
            record.detail,
            record.route,
            record.client_id,
            record.application,
            record.transaction_id,
            why,
        )
        self._tally.add(request, record.path)

    def finish(self) -> None:
        """Write the reports, once."""
        if self._tally is None:
            return
        report, self._tally = self._tally.report(), None
        faults = write_reports(report, self._targets)
        for fault in faults:
            logger.error("jwsgate: %s", fault)
        self.failed = bool(faults or report.findings)
        told = logging.ERROR if report.findings else logging.INFO
        logger.log(told, "jwsgate: %s", summary(report))
        for finding in report.findings[:_MAX_LOGGED]:
            logger.error("jwsgate: %s", finding.message)
