"""Decisions of a test run or a recording, held against what is expected of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from jwsgate.core.reasons import Reason

from .annotations import Annotation
from .expectations import Expectation
from .problems import printable

__all__ = ["FAIL_ON", "Case", "DecidedRequest", "FailOn", "Report", "Tally", "Unmet"]

type FailOn = Literal["none", "reject", "would-reject"]

FAIL_ON: Final[tuple[FailOn, ...]] = ("none", "reject", "would-reject")
"""Which decisions are findings where no expectation says otherwise; each one those before it too."""
_MAX_KEPT: Final = 100_000
"""How many requests a report lists; of further ones only the number is kept, and whether they were findings."""
_MAX_EXPLAINED: Final = 200
"""How many of its findings a report explains."""


@dataclass(frozen=True, slots=True)
class DecidedRequest:
    """One decision; `method` and `path` are free of anything that looks like a JWS, `path` without the query."""

    place: str
    """Where to look for it, such as `flows.mitm: flow 17`; the same in each run."""
    file: str
    """The file that annotations of it point to."""
    time: float
    method: str
    path: str
    reason: Reason | None = None
    reported: bool = False
    """Whether it passed in spite of the reason, as its route is in report mode."""
    detail: str = ""
    route: str | None = None
    client_id: str | None = None
    application: str | None = None
    transaction_id: str = ""
    """What the gate's log calls it; another one in each run."""
    explained: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Gives the mistake and what to do, in lines; asked only for what a report tells."""

    @property
    def decision(self) -> Literal["allowed", "rejected", "would_reject"]:
        """In one word."""
        if self.reason is None:
            return "allowed"
        return "would_reject" if self.reported else "rejected"

    @property
    def outcome(self) -> str:
        """As expectations write it."""
        if self.reason is None:
            return "allowed"
        return f"would_reject {self.reason}" if self.reported else str(self.reason)

    @property
    def title(self) -> str:
        """The request in a few words."""
        return printable(f"{self.method} {self.path}" if self.method else "(malformed request)")

    @property
    def told(self) -> str:
        """The decision in words."""
        if self.reason is None:
            return "allowed"
        return printable(f"{'would be rejected' if self.reported else 'rejected'}: {self.reason}: {self.detail}")


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and what is wrong with its decision; empty when nothing is."""

    request: DecidedRequest
    failure: str


@dataclass(frozen=True, slots=True)
class Unmet:
    """One expectation, how many requests were decided so, and what is wrong; empty when nothing is."""

    expectation: Expectation
    count: int
    failure: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that reports tell."""

    cases: Sequence[Case]
    expectations: Sequence[Unmet]
    findings: Sequence[Annotation]
    """Everything for which the run fails, those of `cases` and `expectations` included."""
    other_failures: Sequence[str]
    """The messages of the findings that are about neither."""
    counts: dict[str, int] = field(default_factory=dict)
    """Requests `allowed`, `rejected`, `would_reject`, and `unlisted`: those too many to list."""


class Tally:
    """Takes decisions one by one; bounded in memory."""

    def __init__(self, fail_on: FailOn, expectations: Sequence[Expectation], file: str) -> None:
        """`file` is what annotations point to that are about no request."""
        self._fail_on = fail_on
        self._expectations = expectations
        self._file = file
        self._met = Counter[int]()
        self._cases: list[Case] = []
        self._findings: list[Annotation] = []
        self._others: list[str] = []
        self._counts = Counter[str]()
        self._unlisted_failures = 0
        self._explained = 0

    def _failure(self, request: DecidedRequest, path: str) -> str:
        about = [
            (number, each)
            for number, each in enumerate(self._expectations)
            if each.is_about(request.method, path, request.client_id, request.application, request.route)
        ]
        for number, each in about:
            if each.shape.expect == request.outcome:
                self._met[number] += 1
                return ""
        if about:
            first = about[0][1]
            name = printable(first.shape.name)
            return f"{request.told}, not {first.shape.expect} as expected by {name!r} ({first.file}:{first.line})"
        rejected = request.reason is not None
        fails = rejected and (self._fail_on == "would-reject" or (self._fail_on == "reject" and not request.reported))
        return request.told if fails else ""

    def add(self, request: DecidedRequest, path: str) -> None:
        """Take a decision. `path` is the request's as it was sent, which expectations are held against."""
        self._counts[request.decision] += 1
        failure = self._failure(request, path)
        if len(self._cases) >= _MAX_KEPT:
            self._counts["unlisted"] += 1
            self._unlisted_failures += bool(failure)
            return
        if request.explained is not None:
            self._explained += bool(failure)
            if not failure or self._explained > _MAX_EXPLAINED:
                request = replace(request, explained=None)  # it keeps the request and its body
        self._cases.append(Case(request, failure))
        if failure:
            rule = "decision-unexpected" if request.reason is None else request.reason.value
            about = f" ({request.application})" if request.application else ""
            logged = f", transaction {request.transaction_id}" if request.transaction_id else ""
            message = printable(f"{request.place}{logged}: {request.title}{about}: {failure}")
            self._findings.append(Annotation(rule, "error", request.file, 0, 0, message))

    def fail(self, rule: str, file: str, message: str) -> None:
        """Take note of a failure that is about no single decision."""
        self._others.append(message)
        self._findings.append(Annotation(rule, "error", file, 0, 0, message))

    def report(self) -> Report:
        """What came of it."""
        findings, others = [*self._findings], [*self._others]
        further = []
        if self._unlisted_failures:
            further.append(("too-many", f"{self._unlisted_failures} more are among requests too many to be listed"))
        if not self._cases and self._fail_on != "none":
            further.append(("no-request", "no request came, so that nothing was shown"))
        for rule, message in further:
            others.append(message)
            findings.append(Annotation(rule, "error", self._file, 0, 0, message))
        unmet = []
        for number, each in enumerate(self._expectations):
            count, wanted = self._met[number], each.shape.times
            failure = ""
            if count == 0 if wanted is None else count != wanted:
                times = "at least once" if wanted is None else f"{wanted} times"
                failure = f"expected {each.shape.expect} {times}, found it {count} times"
                message = printable(f"{each.shape.name}: {failure}")
                findings.append(Annotation("expectation-unmet", "error", each.file, each.line, each.column, message))
            unmet.append(Unmet(each, count, failure))
        names = ("allowed", "rejected", "would_reject", "unlisted")
        return Report(self._cases, unmet, findings, others, {name: self._counts[name] for name in names})
