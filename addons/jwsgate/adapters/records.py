"""Decision records: what the gate tells of each request to whoever keeps account of it (audit, metrics, reports)."""

from dataclasses import dataclass
from typing import Literal, Protocol

from jwsgate.core.reasons import Reason

__all__ = ["DecisionRecord", "RecordSink"]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision. It never holds a JWS, a key, a claim or a query; `method` and `path` are the client's text."""

    time: float
    """When it was decided, in Unix seconds."""
    duration: float
    """How long deciding took, in seconds, waiting for the client left out."""
    transaction_id: str
    method: str
    path: str
    """As it came, without the query; may hold anything, so that whoever writes it has to escape it."""
    peer: str
    """The address that the connection came from."""
    reason: Reason | None = None
    """Why the request was rejected, or would have been; None when nothing was wrong."""
    detail: str = ""
    route: str | None = None
    client_id: str | None = None
    """Set once it was found in the portal."""
    application: str | None = None
    thumbprint: str | None = None
    """SHA-256 of the certificate that verified the JWS, in hex."""
    alg: str | None = None
    cached: bool = False
    """Whether the JWS had been verified before."""
    trace_id: str | None = None
    """The trace of a well-formed W3C `traceparent`, 32 hex digits."""

    reported: bool = False
    """Whether the request may go on in spite of the reason, as its route is in report mode."""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
        return self.reason is None or self.reported

    @property
    def outcome(self) -> Literal["allowed", "rejected", "would_reject"]:
        """The decision in one word."""
        if self.reason is None:
            return "allowed"
        return "would_reject" if self.reported else "rejected"


class RecordSink(Protocol):
    """Takes each record as it is decided, in the event loop: it must not wait."""

    def record(self, record: DecisionRecord) -> None:
        """Keep a record.

        Raises:
            OSError: when it cannot be kept; the route's policy says what becomes of the request.
        """
        ...
