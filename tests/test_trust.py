"""Trust at a request: what was worked out about a chain, compared with the time."""

from __future__ import annotations

import itertools

import pytest

import material
from feature_material import (
    DAY,
    NOW,
    Issued,
    a_request,
    a_route,
    a_snapshot,
    an_application,
    good_claims,
    issue,
    reason_of,
)
from jwsgate.core.certificates import Thumbprint
from jwsgate.core.decision import Rejected, decide
from jwsgate.core.portal import usable_certificates
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.trust import ChainState, Trust

ONE, TWO = Thumbprint("11" * 32), Thumbprint("22" * 32)
CLIENT = issue("trust-client", kind="ed25519")
SECOND = issue("trust-second", kind="ed25519")


def state_of(issued: Issued, state: ChainState) -> Trust:
    """A trust that knows one certificate."""
    return Trust({issued.registered().thumbprint: state})


@pytest.mark.parametrize(
    ("now", "good"),
    [
        pytest.param(NOW - 0.001, False, id="before"),
        pytest.param(NOW, True, id="first-moment"),
        pytest.param(NOW + 5, True, id="between"),
        pytest.param(NOW + 10, True, id="last-moment"),
        pytest.param(NOW + 10.001, False, id="after"),
        pytest.param(float("inf"), False, id="never"),
        pytest.param(float("nan"), False, id="no-time"),
    ],
)
def test_times_of_a_chain(now: float, good: bool) -> None:
    """Both ends are included; a time that is none is never good."""
    trust = Trust({ONE: ChainState(None, NOW, NOW + 10)})
    assert (trust.fault(ONE, now) is None) == good


def test_unknown_certificate_is_not_trusted() -> None:
    """What was never looked at is not good."""
    assert Trust({}).fault(ONE, NOW) is not None
    assert Trust({ONE: ChainState(None, 0, 2 * NOW)}).fault(TWO, NOW) is not None


def test_fault_ends_the_matter() -> None:
    """No time makes a faulty chain good."""
    trust = Trust({ONE: ChainState("is revoked", 0, 2 * NOW)})
    assert [trust.fault(ONE, now) for now in (-1, 0, NOW, 2 * NOW)] == ["is revoked"] * 4


def test_empty_state_is_not_trusted() -> None:
    """A chain state of which nothing is known holds at no time of this century."""
    assert Trust({ONE: ChainState()}).fault(ONE, NOW) is not None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(ChainState(None, NOW - DAY, NOW + DAY), "allowed", id="good"),
        pytest.param(ChainState("does not chain to the CA of the policy"), Reason.CERTIFICATE_UNUSABLE, id="fault"),
        pytest.param(ChainState(None, NOW + 1, NOW + DAY), Reason.CERTIFICATE_UNUSABLE, id="ahead"),
        pytest.param(ChainState(None, NOW - DAY, NOW - 1), Reason.CERTIFICATE_UNUSABLE, id="over"),
        pytest.param(None, Reason.CERTIFICATE_UNUSABLE, id="unknown"),
    ],
)
def test_in_a_decision(state: ChainState | None, expected: Reason | str) -> None:
    """Only a chain that is good now lets a request pass; the fault is in the record's detail."""
    trust = Trust({}) if state is None else state_of(CLIENT, state)
    snapshot = a_snapshot([an_application(CLIENT)], a_route(trust=trust))
    decision = decide(snapshot, a_request(material.jws(CLIENT.key, good_claims())), NOW)
    assert reason_of(decision) == expected
    if isinstance(decision, Rejected):
        assert decision.detail.startswith("the registered certificate ")
        assert decision.detail.isprintable()


def test_route_without_trust_asks_for_none() -> None:
    """Where a route names no CA, registration alone counts."""
    trust = state_of(CLIENT, ChainState("is revoked"))
    snapshot = a_snapshot([an_application(CLIENT)], a_route("/ca/**", trust=trust), a_route("/**"))
    token = material.jws(CLIENT.key, good_claims())
    assert reason_of(decide(snapshot, a_request(token, target=b"/ca/1"), NOW)) == Reason.CERTIFICATE_UNUSABLE
    assert reason_of(decide(snapshot, a_request(token, target=b"/free/1"), NOW)) == "allowed"


def test_two_routes_with_two_cas() -> None:
    """Each route asks its own CA."""
    one, two = state_of(CLIENT, ChainState(None, 0, 2 * NOW)), state_of(CLIENT, ChainState("is revoked"))
    snapshot = a_snapshot([an_application(CLIENT)], a_route("/one", trust=one), a_route("/two", trust=two))
    token = material.jws(CLIENT.key, good_claims())
    found = [reason_of(decide(snapshot, a_request(token, target=target), NOW)) for target in (b"/one", b"/two")]
    assert found == ["allowed", Reason.CERTIFICATE_UNUSABLE]


def test_only_trusted_certificates_are_usable() -> None:
    """Of several certificates those are left whose chain is good at that time, in the order registered."""
    one, two = CLIENT.registered(), SECOND.registered()
    trust = Trust(
        {one.thumbprint: ChainState(None, NOW, NOW + 20), two.thumbprint: ChainState(None, NOW + 10, NOW + 30)}
    )
    application = an_application(one, two)
    for now, expected in ((NOW, (one,)), (NOW + 15, (one, two)), (NOW + 25, (two,))):
        assert usable_certificates(application, now, trust) == expected
    for now in (NOW - 1, NOW + 31):
        with pytest.raises(Rejection) as caught:
            usable_certificates(application, now, trust)
        assert caught.value.reason == Reason.CERTIFICATE_UNUSABLE


def test_dates_are_told_before_trust() -> None:
    """An expired certificate is told as expired, whatever its chain; an untrusted valid one as unusable."""
    over = issue("trust-over", kind="ed25519", end=NOW - 1)
    ahead = issue("trust-ahead", kind="ed25519", start=NOW + 1)
    trust = Trust({each.registered().thumbprint: ChainState("is revoked") for each in (over, ahead, CLIENT)})
    expected = {
        (over,): Reason.CERTIFICATE_EXPIRED,
        (ahead,): Reason.CERTIFICATE_NOT_YET_VALID,
        (CLIENT,): Reason.CERTIFICATE_UNUSABLE,
        (over, ahead): Reason.CERTIFICATE_NOT_YET_VALID,
        (over, CLIENT): Reason.CERTIFICATE_UNUSABLE,
        (ahead, CLIENT): Reason.CERTIFICATE_UNUSABLE,
    }
    for certificates, reason in expected.items():
        for order in itertools.permutations(certificates):
            with pytest.raises(Rejection) as caught:
                usable_certificates(an_application(*order), NOW, trust)
            assert caught.value.reason == reason


def test_trust_does_not_bring_a_certificate_back() -> None:
    """A certificate that is trusted but expired beside a valid, untrusted one: nothing is usable."""
    over = issue("trust-over", kind="ed25519", end=NOW - 1)
    trust = Trust(
        {
            over.registered().thumbprint: ChainState(None, 0, 2 * NOW),
            CLIENT.registered().thumbprint: ChainState("is revoked"),
        }
    )
    snapshot = a_snapshot([an_application(over, CLIENT)], a_route(trust=trust))
    for each in (over, CLIENT):
        decision = decide(snapshot, a_request(material.jws(each.key, good_claims())), NOW)
        assert reason_of(decision) == Reason.CERTIFICATE_UNUSABLE


def test_sign_and_detached_routes_ask_too() -> None:
    """Every kind of route that has a CA asks it."""
    trust = state_of(CLIENT, ChainState("is revoked"))
    snapshot = a_snapshot([an_application(CLIENT)], a_route(trust=trust, detached=True))
    assert reason_of(decide(snapshot, a_request("a..b"), NOW)) == Reason.CERTIFICATE_UNUSABLE
