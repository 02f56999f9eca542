"""Recorded requests, decided as the gate would have decided them at the time of the recording."""

from dataclasses import dataclass

from .decision import Allowed, AwaitsBody, JwsCache, Rejected, Snapshot, decide, decide_body, reported
from .facts import RequestFacts
from .policy import Sign
from .reasons import Reason, Rejection
from .replay import MemoryReplayStore, ReplayKey, check_replay
from .signing import sign_posted_claims
from .verified_cache import VerifiedCache

__all__ = ["RecordedGate", "RecordedRequest"]


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request of a recording."""

    place: str
    """Where it stands in the file, for people: `flow 17`."""
    time: float
    """When it began, in Unix seconds."""
    facts: RequestFacts
    body: bytes | None
    """None where the recording does not hold it."""


def _use_up(store: MemoryReplayStore, key: ReplayKey, now: float) -> None:
    """`check_replay` with a store that never waits; raises `Rejection`."""
    steps = check_replay(store, key, now)
    try:
        steps.send(None)
    except StopIteration:
        return
    steps.close()
    raise Rejection(Reason.INTERNAL_ERROR, "the replay store did not answer at once")


class RecordedGate:
    """Decides recorded requests one after the other, in their order in the recording.

    What only the connection knows is left out: how a message was framed, and the limits for headers and their time.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._cache: JwsCache = VerifiedCache()
        self._store = MemoryReplayStore()

    def decide(self, request: RecordedRequest) -> Allowed | Rejected:
        """The decision at the time of the request. Never raises an `Exception`."""
        decision = decide(self._snapshot, request.facts, request.time, self._cache)
        if isinstance(decision, AwaitsBody):
            if request.body is None:
                missing = "the decision needs the body, which the recording does not hold"
                return Rejected(
                    Reason.INTERNAL_ERROR, missing, decision.route, decision.client_id, decision.application
                )
            decision = decide_body(decision, request.body)
        if isinstance(decision, Rejected):
            return decision
        try:
            self._finish(decision, request)
        except Rejection as rejection:
            route, client_id, application = decision.route, decision.client_id, decision.application
            return reported(Rejected(rejection.reason, rejection.detail, route, client_id, application))
        return decision

    def _finish(self, allowed: Allowed, request: RecordedRequest) -> None:
        limit, body = allowed.route.max_body_octets, request.body or b""
        if limit is not None and len(body) > limit:
            raise Rejection(Reason.BODY_TOO_LARGE, f"the body has more than {limit} octets")
        if allowed.replay is not None:
            _use_up(self._store, allowed.replay, request.time)
        if isinstance(allowed.route.action, Sign) and allowed.preflight is None:
            sign_posted_claims(allowed.route.action, body, request.time)
