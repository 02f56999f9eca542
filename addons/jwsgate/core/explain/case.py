"""A decision with all that it was made from: what an account of it, and the naming of mistakes, work on."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from jwsgate.core.certificates import RegisteredCertificate
from jwsgate.core.decision import Allowed, AwaitsBody, Rejected, Snapshot
from jwsgate.core.facts import RequestFacts
from jwsgate.core.jws import CompactJws
from jwsgate.core.policy import Route
from jwsgate.core.portal import Application, usable_certificates
from jwsgate.core.reasons import Rejection
from jwsgate.core.sources import Source
from jwsgate.core.wording import ago, moment, shown, span

__all__ = ["Case", "Step", "allowed_algorithms", "certificate_text", "place_text", "usable"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the decision. `ok` None: it was not reached."""

    name: str
    ok: bool | None
    found: str = ""
    expected: str = ""


class Case(NamedTuple):
    """A decision with all that it was made from."""

    snapshot: Snapshot
    facts: RequestFacts
    now: float
    decision: Allowed | Rejected | AwaitsBody
    route: Route | None
    application: Application | None
    text: bytes | None
    """The JWS as it was sent, if there is exactly one."""
    jws: CompactJws | None
    """None where it cannot be read."""
    claims: dict[str, Any] | None
    """None where there are none, or none that can be read."""
    searched: int
    """How many applications of the portal are searched for the one that was meant."""

    @property
    def rejected(self) -> Rejected | None:
        """Why it is, or would be, rejected."""
        match self.decision:
            case Rejected():
                return self.decision
            case Allowed():
                return self.decision.would_reject
            case AwaitsBody():
                return None

    @property
    def path(self) -> str:
        """The path without the query, which may hold a JWS."""
        return shown(self.facts.target.partition(b"?")[0].decode("latin-1"))


def place_text(source: Source) -> str:
    """Where the policy looks for a value: `header jwt`, `header Authorization after Bearer`, `cookie a or query b`."""
    places = (source, *source.others)
    return " or ".join(f"{p.place} {p.name}" + (f" after {p.scheme}" if p.scheme else "") for p in places)


def usable(case: Case) -> tuple[RegisteredCertificate, ...]:
    """The certificates of the application that count now."""
    if case.application is None:
        return ()
    try:
        return usable_certificates(case.application, case.now, case.route.trust if case.route else None)
    except Rejection:
        return ()


def allowed_algorithms(case: Case) -> frozenset[str] | None:
    """What the policy and the application leave; None: all of the key's."""
    limits = [each.algorithms for each in (case.route, case.application) if each and each.algorithms is not None]
    return frozenset.intersection(*limits) if limits else None


def certificate_text(certificate: RegisteredCertificate, now: float) -> str:
    """Subject, key, thumbprint and validity."""
    if now < certificate.not_before:
        when = f"valid {ago(certificate.not_before, now)}, from {moment(certificate.not_before)}"
    elif now > certificate.not_after:
        when = f"expired {ago(certificate.not_after, now)}, at {moment(certificate.not_after)}"
    else:
        when = f"valid for {span(certificate.not_after - now)} more, until {moment(certificate.not_after)}"
    key = f"{certificate.key.kind} {certificate.key.bits}" if certificate.key.kind == "RSA" else certificate.key.kind
    return f"{shown(certificate.subject)}, {key}, SHA-256 {certificate.thumbprint}, {when}"
