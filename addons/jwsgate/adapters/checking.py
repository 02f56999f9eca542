"""From a proxy's question to the answer: the core's decision, with everything that has to hold around it.

Rule 1. An answer that lets a request pass is made in one place, `Checker._finish`, of an `Allowed` whose replay check,
        where it has one, and whose record are done.
Rule 2. Whatever raises on the way makes an answer that denies, which is ready-made in the end.
"""

import logging
import time
from collections.abc import Awaitable
from typing import Final

from jwsgate.core.answers import API_CONNECT
from jwsgate.core.decision import Allowed, AwaitsBody, Rejected, Snapshot, decide, decide_body, reported
from jwsgate.core.facts import RequestFacts
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.replay import check_replay

from .accounts import Accounts, new_transaction_id
from .dialects import Dialect, Question, Tongue, denied
from .state import GateState

__all__ = ["Checker"]

logger = logging.getLogger(__name__)

_NOTHING: Final = RequestFacts("", b"", ())


class Checker:
    """Answers questions of one dialect."""

    def __init__(self, dialect: Dialect, sets: frozenset[bytes], state: GateState, accounts: Accounts) -> None:
        """`sets` are the headers that the proxy sets from each answer, in lower case."""
        self._dialect, self._sets, self._state, self._accounts = dialect, sets, state, accounts
        self._tongue: Tongue | None = None
        self._snapshot: Snapshot | None = None
        self.last_resort = denied(dialect, API_CONNECT[Reason.INTERNAL_ERROR], "0" * 24)
        """Ready-made, so that denying needs no code that could itself fail. The connection is closed after it."""

    def answer(self, question: Question) -> bytes | Awaitable[bytes]:
        """The answer, or what to await for it. Never raises an `Exception`."""
        try:
            return self._answer(question)
        except Exception as error:
            return self._broken(error)

    def refuse(self, peer: str, reason: Reason, detail: str) -> bytes:
        """The answer to what is no question."""
        transaction_id = self._accounts.refused_by_protocol(peer, time.time(), reason, detail)
        return denied(self._dialect, API_CONNECT[reason], transaction_id)

    def _broken(self, error: Exception) -> bytes:
        logger.error("jwsgate: %s while deciding; denied", type(error).__name__)
        return self.last_resort

    def _answer(self, question: Question) -> bytes | Awaitable[bytes]:
        started = time.perf_counter()
        state = self._state
        snapshot = state.snapshot
        if snapshot is None:
            return self._finish(question, _NOTHING, Rejected(Reason.POLICY_UNAVAILABLE, "no files are loaded"), started)
        tongue = self._tongue
        if tongue is None or snapshot is not self._snapshot:
            tongue = self._tongue = Tongue(self._dialect, self._sets, snapshot)
            self._snapshot = snapshot
        try:
            facts = tongue.read(question)
        except Rejection as rejection:
            return self._finish(question, _NOTHING, Rejected(rejection.reason, rejection.detail), started)
        verified = state.cache.stored
        now = time.time()
        decision = decide(snapshot, facts, now, state.cache)
        cached = state.cache.stored == verified
        if isinstance(decision, AwaitsBody):
            body = tongue.body(question)
            if body is None:
                route, client_id, application = decision.route, decision.client_id, decision.application
                detail = "the proxy did not pass the body on"
                decision = Rejected(Reason.INTERNAL_ERROR, detail, route, client_id, application)
            else:
                decision = decide_body(decision, body)
        if isinstance(decision, Allowed) and decision.replay is not None:
            return self._once(question, facts, decision, started, cached)
        return self._finish(question, facts, decision, started, cached)

    async def _once(
        self, question: Question, facts: RequestFacts, allowed: Allowed, started: float, cached: bool
    ) -> bytes:
        decision: Allowed | Rejected = allowed
        try:
            if allowed.replay is None:
                raise Rejection(Reason.INTERNAL_ERROR, "there is nothing to be used up")
            await check_replay(self._state.replay_store, allowed.replay, time.time())
        except Rejection as rejection:
            route, client_id, application = allowed.route, allowed.client_id, allowed.application
            decision = reported(Rejected(rejection.reason, rejection.detail, route, client_id, application))
        except Exception as error:
            return self._broken(error)
        try:
            return self._finish(question, facts, decision, started, cached)
        except Exception as error:
            return self._broken(error)

    def _finish(
        self,
        question: Question,
        facts: RequestFacts,
        decision: Allowed | Rejected,
        started: float,
        cached: bool = False,
    ) -> bytes:
        transaction_id = new_transaction_id()
        accounts = self._accounts
        if accounts.wants(decision):
            seconds = time.perf_counter() - started
            decision = accounts.decided(facts, decision, transaction_id, time.time(), seconds, cached)
        tongue = self._tongue
        if isinstance(decision, Rejected) or tongue is None:
            return self._deny(decision, transaction_id, question.method)
        return tongue.allow(decision, facts, transaction_id)

    def _deny(self, decision: Allowed | Rejected, transaction_id: str, method: str) -> bytes:
        reason = decision.reason if isinstance(decision, Rejected) else Reason.INTERNAL_ERROR
        if decision.route is not None:
            table = decision.route.errors
        else:
            table = API_CONNECT if self._snapshot is None else self._snapshot.router.errors
        return denied(self._dialect, table[reason], transaction_id, method)
