"""`jwsgate check`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import click

from jwsgate.core.decision import Allowed, Rejected, Snapshot
from jwsgate.core.recorded import RecordedGate, RecordedRequest
from jwsgate.core.redaction import redacted
from jwsgate.files.expectations import read_expectations
from jwsgate.files.explained import explained
from jwsgate.files.loading import load_snapshot
from jwsgate.files.problems import ProblemsFound, Unfit, printable
from jwsgate.files.report_files import STANDARD_OUTPUT, prepare_targets, write_reports
from jwsgate.files.report_formats import FORMATS
from jwsgate.files.tally import DecidedRequest, FailOn, Tally

from .manual import Manual
from .options import FILES, expect_option, fail_on_option, given_files, policy_option, portal_option, report_option

__all__ = ["check_command"]

_LONG_OCTETS: Final = 1 << 20
_STEPS: Final = 200
_MAX_CHARACTERS: Final = 256
_MAX_BODY_OCTETS: Final = 65536


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """Called with how many octets were read; a bar for a long file on a terminal, and nothing else anywhere."""
    size = path.stat().st_size if path.is_file() else 0
    if size < _LONG_OCTETS or not sys.stderr.isatty():
        yield lambda _position: None
        return
    with click.progressbar(length=size, label=path.name, file=sys.stderr) as bar:

        def move(position: int) -> None:
            if position - bar.pos >= size // _STEPS:
                bar.update(position - bar.pos)

        yield move
        bar.update(size - bar.pos)


def _told(
    path: Path, snapshot: Snapshot, request: RecordedRequest, decision: Allowed | Rejected
) -> tuple[DecidedRequest, str]:
    """The decision for the tally, and the path as it was sent."""
    rejected = decision if isinstance(decision, Rejected) else decision.would_reject
    why = None
    if rejected is not None:
        # A long body is not kept until the report is written; without it the account names less.
        body = request.body if request.body is None or len(request.body) <= _MAX_BODY_OCTETS else None
        why = partial(explained, snapshot, request.facts, request.time, body, decision)
    sent = request.facts.target.partition(b"?")[0].decode("latin-1")
    told = DecidedRequest(
        f"{path}: {request.place}",
        str(path),
        request.time,
        redacted(request.facts.method, _MAX_CHARACTERS),
        redacted(sent, _MAX_CHARACTERS),
        None if rejected is None else rejected.reason,
        rejected is not None and not isinstance(decision, Rejected),
        "" if rejected is None else rejected.detail,
        decision.route.name if decision.route else None,
        decision.client_id,
        decision.application.name if decision.application else None,
        explained=why,
    )
    return told, sent


class _Checker:
    """Decides recordings, one after the other, with one gate."""

    def __init__(self, portal: Path, policies: list[Path], tally: Tally) -> None:
        self._files = portal, policies
        self._tally = tally
        self._in_force: tuple[Snapshot, RecordedGate] | None = None
        self.is_damaged = False
        """Whether a recording cannot be read, or not to its end."""

    def _in_force_at(self, now: float) -> tuple[Snapshot, RecordedGate]:
        if self._in_force is None:
            # Chains of certificates are judged by the time of the recording, as all else.
            snapshot = load_snapshot(*self._files, now)
            self._in_force = snapshot, RecordedGate(snapshot)
        return self._in_force

    def check(self, path: Path) -> None:
        """Decide all requests of a file; raises `ProblemsFound` for a portal or policy that cannot be used."""
        with _progress(path) as move:
            from jwsgate.adapters.flow_files import Recording  # noqa: PLC0415 - mitmproxy is slow to import

            recording = Recording(path)
            try:
                for request in recording:
                    snapshot, gate = self._in_force_at(request.time)
                    self._tally.add(*_told(path, snapshot, request, gate.decide(request)))
                    move(recording.position)
            except Unfit as error:
                self.is_damaged = True
                self._tally.fail("recording-damaged", str(path), f"{path}: {error} ({error.remedy})")
        if recording.others:
            click.echo(f"{path}: {recording.others} records are no HTTP requests, and were passed over", err=True)

    def load(self) -> None:
        """Have portal and policies told even where there was no request."""
        # Nothing is decided by this clock.
        self._in_force_at(time.time())  # noqa: TID251 - see above


def _give_up(why: str) -> NoReturn:
    click.echo(f"Error: {why}", err=True)
    sys.exit(2)


@click.command(
    "check",
    cls=Manual,
    examples={
        "jwsgate check flows.mitm --portal portal.yaml --policy policy.yaml": "What the gate would have decided.",
        "jwsgate check browser.har --portal p.yaml --policy q.yaml --report junit.xml": "With a report for CI servers.",
    },
    exit_codes={
        0: "all as expected",
        1: "findings, or a report that cannot be written in the end",
        2: "called wrongly, or files that cannot be used, recordings that are damaged among them",
    },
)
@portal_option
@policy_option
@expect_option
@fail_on_option("reject")
@report_option
@click.argument("flows", nargs=-1, required=True, type=FILES)
def check_command(
    portal: str | None,
    policies: tuple[str, ...],
    expect: str | None,
    fail_on: FailOn,
    reports: tuple[str, ...],
    flows: tuple[str, ...],
) -> None:
    """Decide recorded requests as of when they were sent.

    FLOWS are files that mitmproxy saved (mitmdump -w), or HAR files of browsers. What only the connection knows is left
    out: how a message was framed, and the limits for headers and their time.
    """
    files = given_files(portal, policies)
    try:
        expectations = read_expectations(Path(expect)) if expect else ()
        targets = prepare_targets(reports)
        tally = Tally(fail_on, expectations, flows[0])
        checker = _Checker(*files, tally)
        for name in flows:
            checker.check(Path(name))
        checker.load()
    except ProblemsFound as error:
        _give_up(f"the files cannot be used:\n{error}")
    except Unfit as error:
        _give_up(printable(f"{error} ({error.remedy})"))
    report = tally.report()
    if all(path != STANDARD_OUTPUT for _, path in targets):
        click.echo(FORMATS["text"](report), nl=False)
    faults = write_reports(report, targets)
    for fault in faults:
        click.echo(f"jwsgate: {fault}", err=True)
    # What is not there was not decided, whatever was found in what is.
    sys.exit(2 if checker.is_damaged else int(bool(faults or report.findings)))
