"""Who is told of decisions: the log, and whatever else keeps account of them (records.py)."""

import logging
import time
from contextlib import suppress
from typing import Any, Final

from mitmproxy import connection, http

from jwsgate.core.decision import Allowed, Rejected
from jwsgate.core.reasons import Reason

from .random_pool import random_hex
from .records import DecisionRecord, RecordSink

__all__ = ["Accounts", "new_transaction_id"]

logger: Final = logging.getLogger(__name__)
logger.setLevel(logging.INFO)  # mitmproxy's root logger takes in everything, and each line costs before it is dropped


def new_transaction_id() -> str:
    """24 hex digits, as API Connect has them."""
    return random_hex(12)


def _peer(client: connection.Client) -> str:
    peername: Any = client.peername  # None when the peer was gone before it could be asked
    return str(peername[0]) if peername else ""


class Accounts:
    """Makes the record of each decision and hands it to every sink."""

    def __init__(self) -> None:
        self.sinks: list[RecordSink] = []

    def decided(
        self, flow: http.HTTPFlow, decision: Allowed | Rejected, transaction_id: str, seconds: float, cached: bool
    ) -> None:
        """Keep account of a decision that took so many seconds.

        Raises:
            OSError: when a sink could not keep it; the others have it all the same.
        """
        reason, detail, thumbprint, alg = None, "", None, None
        # Nothing that the client sent is logged: an unprintable octet could break the log, or forge it.
        if isinstance(decision, Allowed):
            logger.debug("jwsgate: %s allowed on route %s", transaction_id, decision.route.name)
            alg = decision.alg
            if decision.certificate is not None:
                thumbprint = decision.certificate.thumbprint
        else:
            reason, detail = decision.reason, decision.detail
            logger.info("jwsgate: %s rejected: %s: %s", transaction_id, reason, detail)
        if not self.sinks:
            return
        self._give(
            DecisionRecord(
                time=time.time(),
                duration=seconds,
                transaction_id=transaction_id,
                method=flow.request.data.method.decode("latin-1"),
                path=flow.request.data.path.partition(b"?")[0].decode("latin-1"),
                peer=_peer(flow.client_conn),
                reason=reason,
                detail=detail,
                route=decision.route.name if decision.route else None,
                client_id=decision.client_id,
                application=decision.application.name if decision.application else None,
                thumbprint=thumbprint,
                alg=alg,
                cached=cached,
            )
        )

    def refused_by_protocol(self, client: connection.Client, reason: Reason, detail: str) -> str:
        """Keep account of a request that never came to a decision; returns its transaction ID."""
        transaction_id = new_transaction_id()
        logger.info("jwsgate: %s rejected: %s: %s", transaction_id, reason, detail)
        with suppress(OSError):
            self._give(DecisionRecord(time.time(), 0.0, transaction_id, "", "", _peer(client), reason, detail))
        return transaction_id

    def _give(self, record: DecisionRecord) -> None:
        failure = None
        for sink in self.sinks:
            try:
                sink.record(record)
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure
