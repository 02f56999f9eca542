"""How long the registered certificates last, as metrics: those that end soonest one by one, all of them counted."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from jwsgate.core.certificates import CertificateOutline, RegisteredCertificate
from jwsgate.core.packed import Outline, outlines
from jwsgate.core.portal import Portal

__all__ = ["CertificateExpiry", "label_value"]

_DAY: Final = 86_400.0
_TOLD_AFTER_DAYS: Final = 90
_MAX_OWN_SERIES: Final = 1_000
_RANGES: Final = (("expired", 0.0), ("7d", 7 * _DAY), ("30d", 30 * _DAY), ("90d", 90 * _DAY), ("later", math.inf))


@dataclass(frozen=True, slots=True, order=True)
class _End:
    not_after: float
    application: str
    thumbprint: str
    replaced: bool


def _is_replaced(certificate: CertificateOutline | RegisteredCertificate, application: Outline) -> bool:
    """Whether another certificate of the application is good when this one ends, and for longer."""
    return any(other.not_before <= certificate.not_after < other.not_after for other in application.certificates)


def _ends(applications: Iterable[Outline]) -> list[_End]:
    # Names may repeat across consumer organizations, and a series that comes twice breaks a scrape.
    return sorted(
        {
            _End(
                certificate.not_after,
                label_value(application.name),
                certificate.thumbprint,
                _is_replaced(certificate, application),
            )
            for application in applications
            for certificate in application.certificates
        }
    )


def label_value(text: str) -> str:
    """A text as the value of a label: short, and without what is no UTF-8."""
    return text[:128].encode("utf-8", "replace").decode("utf-8")


class CertificateExpiry:
    """Sorted once for each portal, so that a scrape costs the same however many applications there are."""

    def __init__(self) -> None:
        self._portal: Portal | None = None
        self._all: list[_End] = []
        self._enabled: list[_End] = []

    def families(self, portal: Portal, now: float) -> Iterator[GaugeMetricFamily]:
        """The metrics at `now` (Unix seconds).

        Certificates of enabled applications have a series each, up to 90 days after their end, and 1,000 at most:
        those to come first, soonest first, then the latest expired.
        """
        if portal is not self._portal:
            applications = list(outlines(portal.applications))
            self._all = _ends(applications)
            self._enabled = _ends(application for application in applications if application.enabled)
            self._portal = portal
        counts = GaugeMetricFamily(
            "jwsgate_certificates",
            "Registered certificates by when they expire: expired, within 7, 30 or 90 days, later. Each is in one.",
            labels=["expires"],
        )
        before = 0
        for name, seconds in _RANGES:
            # The last second of a certificate still counts, as in decisions.
            until = _before(self._all, now) if name == "expired" else _until(self._all, now + seconds)
            counts.add_metric([name], until - before)
            before = until
        yield counts
        days = GaugeMetricFamily(
            "jwsgate_certificate_expiry_days",
            "Days until a certificate of an enabled application expires, negative for 90 days afterwards. "
            "Replaced: another one of the application is good by then, and for longer.",
            labels=["application", "thumbprint", "replaced"],
        )
        first, oldest = _before(self._enabled, now), _before(self._enabled, now - _TOLD_AFTER_DAYS * _DAY)
        to_come = self._enabled[first : first + _MAX_OWN_SERIES]
        room = _MAX_OWN_SERIES - len(to_come)
        expired = self._enabled[oldest:first][::-1][:room]
        for end in (*to_come, *expired):
            days.add_metric([end.application, end.thumbprint, str(end.replaced).lower()], (end.not_after - now) / _DAY)
        yield days


def _before(ends: list[_End], time: float) -> int:
    """How many end before a time."""
    return bisect_left(ends, time, key=lambda end: end.not_after)


def _until(ends: list[_End], time: float) -> int:
    """How many end at a time or before."""
    return bisect_right(ends, time, key=lambda end: end.not_after)
