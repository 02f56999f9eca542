"""The loaded portal export: applications by client ID, and which certificate of one can be used now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NewType

from .certificates import RegisteredCertificate
from .reasons import Reason, Rejection
from .trust import Trust

__all__ = ["Application", "ClientId", "FileEnd", "Portal", "gap", "usable_certificates"]

_RECENT: Final = 131_072
ClientId = NewType("ClientId", str)
"""Any text: UUIDs are usual, 32 hex digits and all digits occur."""


@dataclass(frozen=True, slots=True)
class Application:
    """One application of the developer portal."""

    name: str
    title: str
    enabled: bool
    client_ids: tuple[ClientId, ...]
    certificates: tuple[RegisteredCertificate, ...]
    """More than one while a certificate is being replaced; each is good for its own time."""
    algorithms: frozenset[str] | None = None
    """Narrows the algorithms that a policy allows; None leaves them."""
    catalog: str = ""
    """The catalog it belongs to, as the export names it; empty where it does not."""
    organization: str = ""
    """The consumer organization it belongs to, as the export names it; empty where it does not."""
    status: str = ""
    """Why it is enabled or not: "enabled", or which of disabled or pending, and suspended, it is."""


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The end of a file whose syntax would not tell that more should follow."""

    file: str
    line: int
    column: int
    is_closed: bool
    """Whether the last line has its line break."""
    path: str = ""
    """Where the application stands that the file ends with; empty when it ends with something else."""
    number: int = -1
    """That application among those of the portal."""
    said: frozenset[str] = frozenset()
    """Keys that it has in whole, of those that decide over what it may do."""
    lacking: frozenset[str] = frozenset()
    """Keys that it has not, and all others of the file have."""
    nameless: int = 0
    """Applications of the portal whose organization has no name in it."""
    organizations: int = 0
    """Organizations that have a name in the portal."""


@dataclass(frozen=True, slots=True)
class Portal:
    """All applications of an export, immutable."""

    applications: Sequence[Application]
    index: Mapping[bytes, int] = field(default_factory=dict, repr=False, compare=False)
    """Where the application of each client ID stands; made if not given."""

    ends: tuple[FileEnd, ...] = field(default=(), repr=False, compare=False)
    """Of all files of it that may have been cut short unnoticed."""

    _recent: dict[bytes, tuple[ClientId, Application]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What was found lately; never what was not, which clients could make endless."""

    def __post_init__(self) -> None:
        if not self.index:
            index = {
                client_id.encode("utf-8"): number
                for number, application in enumerate(self.applications)
                for client_id in application.client_ids
            }
            object.__setattr__(self, "index", index)

    @property
    def by_client_id(self) -> dict[ClientId, Application]:
        """Every client ID with its application."""
        return {ClientId(octets.decode("utf-8")): self.applications[number] for octets, number in self.index.items()}

    def find(self, octets: bytes) -> tuple[ClientId, Application] | None:
        """The application of a client ID, given in the octets of a request; None when there is none."""
        found = self._recent.get(octets)
        if found is None and (number := self.index.get(octets)) is not None:
            found = ClientId(octets.decode("utf-8")), self.applications[number]
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[octets] = found
        return found


def _trusted(
    certificates: tuple[RegisteredCertificate, ...], trust: Trust, now: float
) -> tuple[RegisteredCertificate, ...]:
    trusted = tuple(c for c in certificates if trust.fault(c.thumbprint, now) is None)
    if not trusted:
        fault = trust.fault(certificates[0].thumbprint, now)
        raise Rejection(Reason.CERTIFICATE_UNUSABLE, f"the registered certificate {fault}")
    return trusted


def gap(certificates: Iterable[RegisteredCertificate], now: float) -> tuple[float, float] | None:
    """The first stretch of time after `now`, between two certificates, in which none of them can be used."""
    end: float | None = None
    for one in sorted((c for c in certificates if now <= c.not_after), key=lambda c: c.not_before):
        if end is not None and one.not_before > end + 1:  # the second that is an end is still good
            return end, one.not_before
        end = one.not_after if end is None else max(end, one.not_after)
    return None


def usable_certificates(
    application: Application, now: float, trust: Trust | None = None
) -> tuple[RegisteredCertificate, ...]:
    """The certificates of an application that are valid, and trusted, at `now` (Unix seconds); never empty.

    Raises:
        Rejection: `certificate_missing`, `certificate_not_yet_valid`, `certificate_expired` or
            `certificate_unusable`.
    """
    certificates = application.certificates
    if not certificates:
        raise Rejection(Reason.CERTIFICATE_MISSING, "the application has no certificate registered")
    usable = certificates
    for certificate in certificates:
        if not certificate.not_before <= now <= certificate.not_after:
            # Rare, so that the usual request builds no tuple.
            usable = tuple(c for c in certificates if c.not_before <= now <= c.not_after)
            break
    if usable:
        return usable if trust is None else _trusted(usable, trust, now)
    if any(now < c.not_before for c in certificates):
        raise Rejection(Reason.CERTIFICATE_NOT_YET_VALID, "the registered certificate is not valid yet")
    raise Rejection(Reason.CERTIFICATE_EXPIRED, "the registered certificate has expired")
