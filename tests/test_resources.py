"""Inputs made to exhaust the gate: each is decided at once, and costs memory in proportion to its size.

Time is not measured but bounded: a case that takes two seconds is stopped and has failed; watching memory makes
everything slower, and has ten times as much. bench/abuse.py prints what each of them costs.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable

import pytest

from abuse import CERTIFICATE_TEXTS, REQUESTS, SNAPSHOTS, Abuse
from core_gate import NOW, reason_of
from jwsgate.core.certificates import CertificateError, read_certificate
from jwsgate.core.decision import decide
from jwsgate.core.reasons import Reason

ALLOWED = {
    "token-at-the-limit",
    "token-at-the-widest-limit",
    "kid-at-the-widest-limit",
    "header-of-brackets-in-a-string",
    "payload-of-brackets-in-a-string",
    "payload-of-escapes-in-a-string",
    "payload-of-60000-members",
    "payload-of-250000-zeros",
    "100000-headers",
}
"""Large, but within the limits of the policy, well-formed, and signed by the right key."""

REASONS = {
    "token-over-the-limit": Reason.JWS_TOO_LARGE,
    "token-over-the-widest-limit": Reason.JWS_TOO_LARGE,
    "kid-of-a-megabyte": Reason.JWS_TOO_LARGE,
    "dots-at-the-widest-limit": Reason.JWS_MALFORMED,
    "signature-of-half-a-megabyte": Reason.SIGNATURE_MISMATCH,
    "header-of-100000-brackets": Reason.JWS_TOO_LARGE,
    "header-of-100000-brackets-read": Reason.JWS_MALFORMED,
    "payload-of-100000-brackets": Reason.JWS_TOO_LARGE,
    "payload-of-100000-brackets-read": Reason.CLAIMS_MALFORMED,
    "payload-of-100000-open-brackets": Reason.CLAIMS_MALFORMED,
    "exp-of-ten-to-the-400": Reason.CLAIMS_MALFORMED,
    "exp-of-1e400": Reason.CLAIMS_MALFORMED,
    "exp-of-5000-digits": Reason.CLAIMS_MALFORMED,
    "header-member-of-5000-digits": Reason.JWS_MALFORMED,
    "100000-tokens": Reason.JWS_REPEATED,
}
"""Why some of them are refused, where just one reason is right."""


def peak_of(call: Callable[[], object]) -> int:
    """The most memory that a call held at one time, in octets."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(2)
@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_decided_at_once(name: str) -> None:
    """One decision, never an internal error, allowed only what is well-formed and within the limits."""
    abuse = REQUESTS[name]()
    reason = reason_of(decide(SNAPSHOTS[abuse.policy], abuse.facts, NOW))
    assert reason is not Reason.INTERNAL_ERROR
    assert (reason is None) is (name in ALLOWED)
    assert reason is REASONS.get(name, reason)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", REQUESTS)
def test_memory_of_a_request(name: str) -> None:
    """The memory for a decision is a small multiple of the request, and next to nothing for one over the limits."""
    abuse: Abuse = REQUESTS[name]()
    peak = peak_of(lambda: decide(SNAPSHOTS[abuse.policy], abuse.facts, NOW))
    assert peak < min(abuse.octets * abuse.multiple + 65_536, 64_000_000)


@pytest.mark.timeout(2)
@pytest.mark.parametrize("name", CERTIFICATE_TEXTS)
def test_certificate_text_is_read_at_once(name: str) -> None:
    """Whatever the owner of an application pastes into the portal, loading the export does not hang on it."""
    text = CERTIFICATE_TEXTS[name]()
    try:
        read_certificate(text)
    except CertificateError as error:
        assert len(str(error)) < 200


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", CERTIFICATE_TEXTS)
def test_memory_of_a_certificate_text(name: str) -> None:
    """Reading a text costs a small multiple of it."""
    text = CERTIFICATE_TEXTS[name]()[:1_000_000]

    def read() -> None:
        with contextlib.suppress(CertificateError):
            read_certificate(text)

    assert peak_of(read) < len(text) * 16 + 65_536
