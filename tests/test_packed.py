"""Applications in little room: the same ones once they are asked for, and a denial when they cannot be made."""

from __future__ import annotations

import time

import pytest

import material
from jwsgate.core import packed
from jwsgate.core.certificates import check_certificate
from jwsgate.core.decision import Allowed, Rejected, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.packed import PackedApplications, Registration, outlines, pack
from jwsgate.core.policy import Router
from jwsgate.core.portal import Application, ClientId, Portal
from jwsgate.core.reasons import Reason
from unit_material import route

KEY = material.private_key("p256")
DERS = check_certificate(material.certificate(KEY))


def some(count: int) -> PackedApplications:
    """Applications with one certificate and two client IDs each."""
    records = [
        pack(
            f"app-{n}",
            "T",
            "disabled" if n % 2 else "enabled",
            [Registration(DERS, None, 5.0 if n else None)],
            ["ES256"],
            "c",
            "o",
        )
        for n in range(count)
    ]
    return PackedApplications(records, [f"id-{n}\nother {n}" for n in range(count)])


def test_all_of_an_application_comes_back() -> None:
    """Nothing is lost in packing."""
    found = some(2)[1]
    assert (found.name, found.title, found.enabled, found.catalog, found.organization) == (
        "app-1",
        "T",
        False,
        "c",
        "o",
    )
    assert found.client_ids == ("id-1", "other 1")
    assert found.algorithms == {"ES256"}
    assert [certificate.not_after for certificate in found.certificates] == [5.0]


def test_the_same_application_each_time() -> None:
    """One that is in use is made once; going through all of them makes each anew and keeps none."""
    applications = some(3)
    assert applications[1] is applications[1]
    assert applications[1] == list(applications)[1]
    assert applications[1] is not list(applications)[1]
    assert [one.name for one in applications[1:]] == ["app-1", "app-2"]


def test_what_is_made_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many applications in use do not fill the memory; the longest made goes."""
    monkeypatch.setattr(packed, "_MOST_MADE", 2)
    applications = some(4)
    first, second = applications[0], applications[1]
    assert applications[2] is applications[2]
    assert applications[0] is not first
    assert applications[1] is not second
    assert applications[0] == first


@pytest.mark.parametrize("number", [4, -5])
def test_no_such_application(number: int) -> None:
    """A number beyond the end is an error, as in any list."""
    with pytest.raises(IndexError):
        some(4)[number]


def test_outlines_tell_what_applications_do() -> None:
    """With and without packing."""
    applications = some(3)
    expected = [
        (one.name, one.enabled, [(c.thumbprint, c.not_before, c.not_after) for c in one.certificates])
        for one in applications
    ]
    for kind in (applications, list[Application](applications)):
        assert expected == [
            (one.name, one.enabled, [(c.thumbprint, c.not_before, c.not_after) for c in one.certificates])
            for one in outlines(kind)
        ]


@pytest.mark.parametrize("name", ["registered_certificate", "Application", "ClientId"])
@pytest.mark.parametrize("exception", [ValueError, MemoryError, KeyError, RecursionError])
def test_an_application_that_cannot_be_made_is_denied(
    monkeypatch: pytest.MonkeyPatch, name: str, exception: type[Exception]
) -> None:
    """Whatever fails on the first request of an application, that request is rejected, and the next is judged anew."""
    router = Router()
    router.add(route("/**"))
    applications = some(1)
    snapshot = Snapshot(Portal(applications, {b"id-0": 0}), router, "r")
    headers = ((b"X-IBM-Client-Id", b"id-0"), (b"jwt", material.jws(KEY).encode()))
    facts = RequestFacts("GET", b"/", headers)

    def fail(*_arguments: object, **_options: object) -> None:
        raise exception

    with monkeypatch.context() as patched:
        patched.setattr(packed, name, fail)
        decision = decide(snapshot, facts, time.time())
    assert isinstance(decision, Rejected)
    assert decision.reason is Reason.INTERNAL_ERROR
    assert isinstance(decide(snapshot, facts, time.time()), Allowed)
    assert snapshot.portal.find(b"id-0") == (ClientId("id-0"), applications[0])
