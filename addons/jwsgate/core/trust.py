"""Optional trust in a CA: whether registered certificates chain to it, and are not revoked, at a given time.

Everything that needs files is worked out when they are loaded; what is left for a request is to compare times.
Nothing is ever fetched from the network, and what is not known to be good is not good (hard-fail).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .certificates import Thumbprint

__all__ = ["ChainState", "Trust"]


@dataclass(frozen=True, slots=True)
class ChainState:
    """What is known of one certificate's chain. Unix seconds, both ends included.

    `fault` ends the matter when set; otherwise the chain is good while `now` lies between the two times,
    which are the narrowest of all certificates and revocation lists in it.
    """

    fault: str | None = None
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class Trust:
    """The chain state of every registered certificate."""

    chains: Mapping[Thumbprint, ChainState]

    def fault(self, thumbprint: Thumbprint, now: float) -> str | None:
        """Why a certificate is not trusted at `now`, None when it is. Reads on from "the certificate …"."""
        state = self.chains.get(thumbprint)
        if state is None:
            return "was not checked against the CA"
        if state.fault is not None:
            return state.fault
        if not state.start <= now <= state.end:
            return "has a chain or a revocation list whose time is over or has not come"
        return None
