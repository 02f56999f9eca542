"""Which certificates end when: the soonest by name, all by count, at any number of applications."""

from __future__ import annotations

from dataclasses import replace

import material
from feature_material import DAY, NOW, an_application, certificate_for
from jwsgate.adapters.expiry import CertificateExpiry
from jwsgate.core.certificates import RegisteredCertificate, Thumbprint
from jwsgate.core.portal import Application, Portal

ONE = certificate_for(material.private_key("ed25519", "expiry")).registered()


def certificate(name: str, days: float) -> RegisteredCertificate:
    """One that ends so many days from NOW."""
    return replace(ONE, thumbprint=Thumbprint(name), not_after=NOW + days * DAY)


def application(name: str, *certificates: RegisteredCertificate, enabled: bool = True) -> Application:
    """An application by name."""
    return replace(an_application(*certificates, enabled=enabled), name=name)


def told(*applications: Application, now: float = NOW) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """The counts, and the days of each with a series of its own, in order."""
    counts, days = CertificateExpiry().families(Portal(applications), now)
    return (
        {sample.labels["expires"]: sample.value for sample in counts.samples},
        {(sample.labels["application"], sample.labels["thumbprint"]): sample.value for sample in days.samples},
    )


def test_no_certificates() -> None:
    """All counts are there, with 0."""
    assert told(application("a")) == ({"expired": 0, "7d": 0, "30d": 0, "90d": 0, "later": 0}, {})


def test_ranges() -> None:
    """Each certificate is in one range, and has a series of its own: the soonest first, then the latest expired."""
    ends = {
        "old": -91,
        "gone": -89,
        "yesterday": -1,
        "today": 0.5,
        "week": 7,
        "month": 30,
        "quarter": 90,
        "far": 91,
    }
    counts, days = told(application("app", *(certificate(name, end) for name, end in ends.items())))
    assert counts == {"expired": 3, "7d": 2, "30d": 1, "90d": 1, "later": 1}
    assert list(days.items()) == [
        (("app", name), ends[name]) for name in ("today", "week", "month", "quarter", "far", "yesterday", "gone")
    ]


def test_replaced() -> None:
    """A warning can leave out what is replaced in time: by one that is good when this one ends, and for longer."""
    later = replace(certificate("later", 400), not_before=NOW + 5 * DAY)
    too_late = replace(certificate("late", 400), not_before=NOW + 5.1 * DAY)
    for other, replaced in ((later, "true"), (too_late, "false"), (certificate("same", 5), "false")):
        _, days = CertificateExpiry().families(Portal((application("app", certificate("c", 5), other),)), NOW)
        assert [sample.labels["replaced"] for sample in days.samples if sample.labels["thumbprint"] == "c"] == [
            replaced
        ]


def test_last_second() -> None:
    """A certificate is good at the second of its end, as in decisions, and expired after it."""
    app = application("app", certificate("c", 0))
    assert told(app)[0]["7d"] == 1
    assert told(app, now=NOW + 0.001)[0]["expired"] == 1


def test_disabled_applications() -> None:
    """They are counted, and nobody is warned for them."""
    counts, days = told(application("off", certificate("c", 3), enabled=False))
    assert (counts["7d"], days) == (1, {})


def test_names_that_repeat() -> None:
    """The same certificate of applications of one name, as across consumer organizations, is one series."""
    twin = application("app", certificate("c", 3), certificate("c", 3))
    counts, days = told(twin, twin, application("other", certificate("c", 3)))
    assert counts["7d"] == 2
    assert days == {("app", "c"): 3, ("other", "c"): 3}


def test_names_that_cannot_be_written() -> None:
    """Long names are cut, surrogates replaced."""
    _, days = told(application("x" * 500, certificate("a", 1)), application("\ud800", certificate("b", 2)))
    assert list(days) == [("x" * 128, "a"), ("?", "b")]


def test_many() -> None:
    """Of 20,000 certificates the 1,000 that end first have series of their own; expired ones do not crowd them out."""
    expired = [application(f"old {n}", certificate(f"old {n}", -1 - n / 1000)) for n in range(10_000)]
    ending = [application(f"{n}", certificate(f"{n}", 50 - n / 1000)) for n in range(10_000)]
    counts, days = told(*expired, *ending)
    assert (counts["expired"], counts["90d"]) == (10_000, 10_000)
    assert list(days) == [(f"{n}", f"{n}") for n in range(9_999, 8_999, -1)]
    few = told(*expired, *ending[:300])[1]
    assert len(few) == 1_000
    assert list(few)[299:301] == [("0", "0"), ("old 0", "old 0")]


def test_portal_changes() -> None:
    """A new export shows at once."""
    expiry = CertificateExpiry()
    one = Portal((application("a", certificate("a", 1)),))
    two = Portal((application("b", certificate("b", 1)),))
    for portal, name in ((one, "a"), (two, "b"), (one, "a")):
        _, days = expiry.families(portal, NOW)
        assert [sample.labels["application"] for sample in days.samples] == [name]
