"""Reports of a running gate: its decisions, held against what is expected, written when it ends."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mitmproxy import exceptions
from mitmproxy.addonmanager import Loader

from jwsgate.core.redaction import redacted
from jwsgate.files.expectations import read_expectations
from jwsgate.files.problems import ProblemsFound, Unfit
from jwsgate.files.report_files import prepare_targets, write_reports
from jwsgate.files.report_formats import summary
from jwsgate.files.tally import FAIL_ON, DecidedRequest, Tally

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
        self._options: tuple[object, ...] = ()
        self._file = ""
        self._number = 0
        self.failed = False
        """Whether there were findings, once it has finished."""

    def add_options(self, loader: Loader) -> None:
        """Tell mitmproxy of the options read here."""
        loader.add_option(
            "jwsgate_report", Sequence[str], [], "Reports to write at the end, by ending or as FORMAT=PATH."
        )
        loader.add_option("jwsgate_expect", str, "", "File with what is expected to be decided.")
        loader.add_option(
            "jwsgate_fail_on", str, "none", "Decisions for which the exit code is 1.", choices=list(FAIL_ON)
        )

    def configure(self, options: Any) -> None:
        """Take up the options.

        Raises:
            mitmproxy.exceptions.OptionsError: when they cannot be used; nothing has changed then.
        """
        expect, fail_on, reports = options.jwsgate_expect, options.jwsgate_fail_on, tuple(options.jwsgate_report)
        if (chosen := (expect, fail_on, reports)) == self._options:
            return
        try:
            expectations = read_expectations(Path(expect)) if expect else ()
            targets = prepare_targets(reports)
        except ProblemsFound as error:
            raise exceptions.OptionsError(f"jwsgate_expect: {error}") from None
        except Unfit as error:
            raise exceptions.OptionsError(f"jwsgate_report: {error} ({error.remedy})") from None
        self._options, self._targets = chosen, targets
        policies = options.jwsgate_policy
        self._file = policies[0] if policies else ""
        wanted = bool(expectations or targets or fail_on != "none")
        self._tally = Tally(fail_on, expectations, self._file) if wanted else None

    @property
    def is_wanted(self) -> bool:
        """Whether decisions are to be recorded."""
        return self._tally is not None

    def record(self, record: DecisionRecord) -> None:
        """Count a decision in."""
        if self._tally is None:
            return
        self._number += 1
        request = DecidedRequest(
            f"request {self._number}, transaction {record.transaction_id}",
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
