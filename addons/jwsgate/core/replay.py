"""Replay protection: each `jti` (RFC 7519 section 4.1.7) of an application is good once. Off unless a route asks.

The reach of `MemoryReplayStore` is one process: a JWS used at one worker or machine is unknown to the next,
and to the same one after a restart. For more, give all of them one shared `ReplayStore`.
"""

import heapq
from dataclasses import dataclass
from typing import Final, Protocol

from .portal import ClientId
from .reasons import Reason, Rejection

__all__ = ["REMEMBER_SECONDS", "MemoryReplayStore", "ReplayKey", "ReplayStore", "StoreFull", "check_replay"]


REMEMBER_SECONDS: Final = 3600
"""How much longer than to its end a use is remembered: another route may give the same JWS more leeway, up to this."""


@dataclass(frozen=True, slots=True)
class ReplayKey:
    """One use of a JWS. `expires` (Unix seconds) is when the JWS itself ends on its route.

    `client_id` is the first of its application's, and stands for all of them.
    """

    client_id: ClientId
    jti: str
    expires: float


class StoreFull(Exception):
    """The store cannot remember one more use without forgetting one that still counts."""


class ReplayStore(Protocol):
    """Remembers uses. Any exception from it is a rejection."""

    async def first_use(self, key: ReplayKey, now: float) -> bool:
        """Remember a use, atomically; False when it was remembered before.

        Raises:
            StoreFull: when it can hold no more.
        """
        ...


class MemoryReplayStore:
    """Uses in the memory of this process, bounded in all and for each application."""

    def __init__(self, max_entries: int = 200_000, max_entries_per_client: int = 50_000) -> None:
        self._seen: dict[ClientId, dict[str, float]] = {}
        self._ends: list[tuple[float, ClientId, str]] = []
        self._max_entries = max_entries
        self._max_per_client = max_entries_per_client

    def __len__(self) -> int:
        return len(self._ends)

    def _forget_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, client_id, jti = heapq.heappop(self._ends)
            uses = self._seen[client_id]
            del uses[jti]
            if not uses:
                del self._seen[client_id]

    async def first_use(self, key: ReplayKey, now: float) -> bool:
        self._forget_ended(now)
        uses = self._seen.get(key.client_id, {})
        if key.jti in uses:
            return False
        if len(self._ends) >= self._max_entries or len(uses) >= self._max_per_client:
            raise StoreFull
        end = key.expires + REMEMBER_SECONDS
        self._seen.setdefault(key.client_id, uses)[key.jti] = end
        heapq.heappush(self._ends, (end, key.client_id, key.jti))
        return True


async def check_replay(store: ReplayStore, key: ReplayKey, now: float) -> None:
    """Let a JWS through once.

    Raises:
        Rejection: `jws_replayed`, also when the store is full: what cannot be remembered is not let through.
            `jws_expired` when it ended between the decision and now, as while the body was on its way.
    """
    if now >= key.expires:
        # A store forgets at that moment, and would take the second use for the first.
        raise Rejection(Reason.JWS_EXPIRED, "exp has passed while the request arrived")
    try:
        first = await store.first_use(key, now)
    except StoreFull:
        raise Rejection(Reason.JWS_REPLAYED, "the replay store is full of JWS that have not expired") from None
    if not first:
        raise Rejection(Reason.JWS_REPLAYED, "the jti was used before")
