"""The first lines of the account of a decision, for reports."""

from typing import Final

from jwsgate.core.decision import Allowed, Rejected, Snapshot
from jwsgate.core.explain import explain
from jwsgate.core.facts import RequestFacts
from jwsgate.core.redaction import redacted

from .problems import printable

__all__ = ["explained"]

_MAX_CHARACTERS: Final = 1000
_SEARCHED: Final = 200
"""How many applications are searched for the one that signed: a report is not to take minutes."""


def explained(
    snapshot: Snapshot | None, facts: RequestFacts, now: float, body: bytes | None, decision: Allowed | Rejected
) -> str:
    """The mistake, what to do, and where the docs tell more, of a refusal decided at `now` (Unix seconds)."""
    account = explain(snapshot, facts, now, body, decision, _SEARCHED)
    lines = (account.headline, f"What to do: {account.remedy}", f"More: {account.link}")
    return "\n".join(printable(redacted(line, _MAX_CHARACTERS)) for line in lines)
