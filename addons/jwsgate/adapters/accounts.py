"""Who is told of decisions: audit log, log and metrics. Each request leaves one record with all of them."""

from jwsgate.core.decision import Allowed, Rejected
from jwsgate.core.facts import RequestFacts
from jwsgate.core.reasons import Reason
from jwsgate.core.trace import trace_id_of

from .audit import AuditLog
from .decision_log import REJECTION_LEVELS, DecisionLog
from .metrics import Metrics
from .random_pool import random_hex
from .records import DecisionRecord, RecordSink
from .report import Reporter

__all__ = ["Accounts", "new_transaction_id"]


def new_transaction_id() -> str:
    """24 hex digits, as API Connect has them."""
    return random_hex(12)


def _record(
    facts: RequestFacts, decision: Allowed | Rejected, transaction_id: str, now: float, seconds: float, cached: bool
) -> DecisionRecord:
    reason, detail, thumbprint, alg = None, "", None, None
    would_reject = decision.would_reject if isinstance(decision, Allowed) else None
    if would_reject is not None:
        reason, detail = would_reject.reason, would_reject.detail
    elif isinstance(decision, Allowed):
        alg = decision.alg
        if decision.certificate is not None:
            thumbprint = decision.certificate.thumbprint
    else:
        reason, detail = decision.reason, decision.detail
    return DecisionRecord(
        time=now,
        duration=seconds,
        transaction_id=transaction_id,
        method=facts.method,
        path=facts.target.partition(b"?")[0].decode("latin-1"),
        peer=facts.peer,
        reason=reason,
        detail=detail,
        route=decision.route.name if decision.route else None,
        client_id=decision.client_id,
        application=decision.application.name if decision.application else None,
        thumbprint=thumbprint,
        alg=alg,
        cached=cached and thumbprint is not None,
        trace_id=trace_id_of(facts.headers),
        reported=would_reject is not None,
    )


class Accounts:
    """Makes the record of each decision and gives it to all who keep account."""

    def __init__(self) -> None:
        self.log: RecordSink = DecisionLog()
        self.audit: AuditLog | None = None
        self.metrics: Metrics | None = None
        self.report = Reporter()
        self._audit_path = ""

    def configure(self, audit_path: str, rejection_level: str) -> None:
        """Open the audit log, when it is another than before, and set the level of rejections (`REJECTION_LEVELS`).

        Raises:
            Unfit: when the audit log cannot be opened; nothing has changed then.
        """
        if audit_path != self._audit_path:
            audit = AuditLog(audit_path) if audit_path else None
            if self.audit is not None:
                self.audit.close()
            self.audit, self._audit_path = audit, audit_path
        self.log = DecisionLog(REJECTION_LEVELS[rejection_level])

    def wants(self, decision: Allowed | Rejected) -> bool:
        """Whether anybody is to be told: the log leaves out what is allowed."""
        is_plain = isinstance(decision, Allowed) and decision.would_reject is None
        return not is_plain or self.audit is not None or self.metrics is not None or self.report.is_wanted

    def decided(
        self,
        facts: RequestFacts,
        decision: Allowed | Rejected,
        transaction_id: str,
        now: float,
        seconds: float,
        cached: bool,
    ) -> Allowed | Rejected:
        """Keep account of a decision that was made at `now` (Unix seconds) in so many seconds.

        Returns the decision that holds: an allowed request is rejected when its audit record cannot be written
        and its route's policy does not say otherwise.
        """
        record = _record(facts, decision, transaction_id, now, seconds, cached)
        if not self._is_audited(record) and isinstance(decision, Allowed) and decision.route.audit_failure == "deny":
            detail = "the audit record could not be written"
            route, client_id, application = decision.route, decision.client_id, decision.application
            decision = Rejected(Reason.AUDIT_UNAVAILABLE, detail, route, client_id, application)
            record = _record(facts, decision, transaction_id, now, seconds, cached)
        self._count(record, facts, decision)
        return decision

    def refused_by_protocol(self, peer: str, now: float, reason: Reason, detail: str) -> str:
        """Keep account of a request of `peer` that never came to a decision; returns its transaction ID."""
        transaction_id = new_transaction_id()
        record = DecisionRecord(now, 0.0, transaction_id, "", "", peer, reason, detail)
        self._is_audited(record)
        self._count(record)
        if self.metrics is not None:
            self.metrics.protocol_refused()
        return transaction_id

    def _is_audited(self, record: DecisionRecord) -> bool:
        if self.audit is not None:
            try:
                self.audit.record(record)
            except OSError:
                if self.metrics is not None:
                    self.metrics.audit_failed()
                return False
        return True

    def _count(
        self,
        record: DecisionRecord,
        facts: RequestFacts | None = None,
        decision: Allowed | Rejected | None = None,
    ) -> None:
        self.log.record(record)
        self.report.record(record, facts, decision)
        if self.metrics is not None:
            self.metrics.record(record)
