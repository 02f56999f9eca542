"""The loaded portal: finding applications, and which of their certificates can be used at a time."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

import material
from jwsgate.core.certificates import RegisteredCertificate, Thumbprint, read_certificate
from jwsgate.core.portal import Application, ClientId, Portal, usable_certificates
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.trust import ChainState, Trust

KEY = material.private_key("p256")
BASE = read_certificate(material.certificate(KEY))


def certificate(start: float, end: float) -> RegisteredCertificate:
    """A certificate valid from one second to another, both included."""
    return replace(BASE, thumbprint=Thumbprint(f"{start}-{end}"), not_before=start, not_after=end)


def application(*certificates: RegisteredCertificate, client_ids: tuple[str, ...] = ("a",)) -> Application:
    """An application with certificates."""
    return Application("app", "App", True, tuple(map(ClientId, client_ids)), certificates)


def reason(found: Application, now: float, trust: Trust | None = None) -> Reason:
    """Why none of an application's certificates can be used."""
    with pytest.raises(Rejection) as caught:
        usable_certificates(found, now, trust)
    return caught.value.reason


# Client IDs


def test_every_client_id_is_found() -> None:
    """Each client ID of each application leads to it, in the octets that a request carries."""
    first, second = application(client_ids=("a", "0123")), application(client_ids=("größe",))
    portal = Portal((first, second))
    assert {"a": first, "0123": first, "größe": second} == portal.by_client_id
    assert [("a", first), ("0123", first), ("größe", second)] == [
        portal.find(octets) for octets in (b"a", b"0123", "größe".encode())
    ]


@pytest.mark.parametrize(
    "octets", [b"", b"A", b"a ", b" a", b"a\0", b"aa", b"123", b"\xff", "größe".encode("latin-1"), b"null", b"None"]
)
def test_unknown_client_ids(octets: bytes) -> None:
    """Anything else leads nowhere: letter case, white space and encoding count."""
    assert Portal((application(client_ids=("a", "0123", "größe")),)).find(octets) is None


def test_empty_portal() -> None:
    """No application, no client ID."""
    assert Portal(()).by_client_id == {}
    assert Portal(()).find(b"") is None


def test_portal_is_immutable() -> None:
    """What is handed out changes nothing in the portal."""
    portal = Portal((application(),))
    portal.by_client_id.clear()
    assert portal.find(b"a") is not None
    with pytest.raises(FrozenInstanceError):
        portal.applications = ()  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        portal.applications[0].enabled = False  # type: ignore[misc]


def test_equal_portals() -> None:
    """Two loads of the same export are equal."""
    assert Portal((application(BASE),)) == Portal((application(BASE),))


# Certificates


def test_no_certificate() -> None:
    """None registered is a reason of its own."""
    assert reason(application(), 100) is Reason.CERTIFICATE_MISSING


@pytest.mark.parametrize("now", [100, 100.5, 150, 199.999, 200], ids=str)
def test_valid(now: float) -> None:
    """Both ends are included (RFC 5280 section 4.1.2.5)."""
    only = certificate(100, 200)
    assert (only,) == usable_certificates(application(only), now)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(99.999, Reason.CERTIFICATE_NOT_YET_VALID, id="just-before"),
        pytest.param(0, Reason.CERTIFICATE_NOT_YET_VALID, id="long-before"),
        pytest.param(-1e12, Reason.CERTIFICATE_NOT_YET_VALID, id="clock-far-in-the-past"),
        pytest.param(201, Reason.CERTIFICATE_EXPIRED, id="just-after"),
        pytest.param(1e12, Reason.CERTIFICATE_EXPIRED, id="clock-far-in-the-future"),
    ],
)
def test_out_of_time(now: float, expected: Reason) -> None:
    """Before and after are told apart."""
    assert expected is reason(application(certificate(100, 200)), now)


def test_not_a_number_is_no_time() -> None:
    """Should the clock ever give nonsense, no certificate is valid."""
    reason(application(certificate(100, 200)), float("nan"))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(150, ["100-300"], id="old"),
        pytest.param(250, ["100-300", "200-400"], id="both"),
        pytest.param(350, ["200-400"], id="new"),
    ],
)
def test_rotation(now: float, expected: list[str]) -> None:
    """While one certificate replaces the other, each is good for its own time, in the order of the export."""
    both = application(certificate(100, 300), certificate(200, 400))
    assert expected == [each.thumbprint for each in usable_certificates(both, now)]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        pytest.param([(0, 1), (2, 3)], Reason.CERTIFICATE_EXPIRED, id="both-expired"),
        pytest.param([(200, 300), (300, 400)], Reason.CERTIFICATE_NOT_YET_VALID, id="none-valid-yet"),
        pytest.param([(0, 1), (200, 300)], Reason.CERTIFICATE_NOT_YET_VALID, id="gap"),
        pytest.param([(200, 300), (0, 1)], Reason.CERTIFICATE_NOT_YET_VALID, id="gap-other-order"),
    ],
)
def test_none_of_several(windows: list[tuple[float, float]], expected: Reason) -> None:
    """In a gap the next certificate is what matters."""
    assert expected is reason(application(*(certificate(*window) for window in windows)), 100)


# Trust in a CA


def test_trusted_ones_are_left() -> None:
    """Of the valid certificates those that the CA stands behind."""
    good, bad = certificate(0, 200), certificate(0, 300)
    trust = Trust({good.thumbprint: ChainState(None, 0, 200), bad.thumbprint: ChainState("is revoked")})
    assert (good,) == usable_certificates(application(bad, good), 100, trust)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(ChainState("does not chain to the CA of the policy"), id="fault"),
        pytest.param(ChainState(None, 0, 99), id="chain-expired"),
        pytest.param(ChainState(None, 101, 200), id="chain-not-yet-valid"),
        pytest.param(None, id="unknown"),
    ],
)
def test_untrusted(state: ChainState | None) -> None:
    """What is not known to be good is not good."""
    only = certificate(0, 200)
    trust = Trust({} if state is None else {only.thumbprint: state})
    assert reason(application(only), 100, trust) is Reason.CERTIFICATE_UNUSABLE


def test_expiry_comes_before_trust() -> None:
    """An expired certificate is told as expired, whatever its chain."""
    assert reason(application(certificate(0, 50)), 100, Trust({})) is Reason.CERTIFICATE_EXPIRED
