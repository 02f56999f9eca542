"""What the parts of a connection ask the gate."""

from typing import Protocol
from weakref import WeakSet

from mitmproxy import http
from mitmproxy.connection import Client

from jwsgate.core.reasons import Reason

__all__ = ["Gatekeeper"]


class Gatekeeper(Protocol):
    """The gate, as its HTTP layers see it."""

    max_header_octets: int
    header_seconds: float
    body_seconds: float
    """How long a body that is held may take, and a second more for each 1,000 octets of it."""
    bodyless: WeakSet[http.HTTPFlow]
    """HTTP/2 requests that end with their headers, which nothing in the headers tells."""
    draining: bool

    def answers_early(self, flow: http.HTTPFlow) -> bool:
        """Whether a request is denied, whatever still arrives of it, and too much may arrive to wait for it."""
        ...

    def is_denied(self, flow: http.HTTPFlow) -> bool:
        """Whether a request is denied, whatever still arrives of it."""
        ...

    def body_limit(self, flow: http.HTTPFlow) -> int | None:
        """How many octets a body may have; None for any number."""
        ...

    def upstream_failed(self, transaction_id: str, cause: str) -> None:
        """Note that a client had to be told so; the cause may hold what the upstream sent."""
        ...

    def refuse(self, flow: http.HTTPFlow, reason: Reason, detail: str) -> None:
        """Take an allowance back: what arrived since does not keep to it."""
        ...

    def transaction_id(self, flow: http.HTTPFlow) -> str | None:
        """What the decision on a flow is filed under."""
        ...

    def refused_by_protocol(self, client: Client, reason: Reason, detail: str) -> str:
        """Keep account of a request that no decision was made on; returns its transaction ID."""
        ...
