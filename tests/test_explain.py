"""The account of a decision: it says what the decision says, for any request, and never shows a signature."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import material
from core_gate import ALGORITHM_KEYS, certificate_of
from core_gate import NOW as MUTATED_AT
from feature_material import (
    CLIENT_ID,
    NOW,
    a_request,
    a_route,
    a_snapshot,
    an_application,
    certificate_for,
    good_claims,
)
from jwsgate.core.claims import ClaimRules
from jwsgate.core.decision import Allowed, AwaitsBody, Rejected, Snapshot, decide, decide_body
from jwsgate.core.explain import MEANINGS, Explanation, explain, render_text, to_json
from jwsgate.core.facts import RequestFacts
from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source
from mutator import MUTATIONS, genuine, mutated
from test_decision import BODY, FAULTS, KEY, Fault, World, by_step

STEP_NAMES = {
    "nothing-loaded": None,
    "no-route": "route",
    "body-too-large": "request",
    "certificate-imitated": "TLS certificate",
    "disabled": "application",
    "zip": "JWS",
    "algorithm": "algorithm",
    "stranger": "signature",
    "no-json": "claims",
    "no-iat": "claims",
    "expired": "times",
    "issuer": "issuer",
    "no-jti": "jti",
    "method-bound": "binding",
    "no-digest": "binding",
}
"""The step that each fault of test_decision breaks; those not named here, by the words below."""
STEP_WORDS = {
    "client-certificate": "TLS certificate", "client-id": "client ID", "certificate": "certificate", "jws": "JWS",
    "untrusted": "certificate",
}  # fmt: skip


def step_of(fault: Fault) -> str | None:
    """The name of the step that a fault breaks."""
    if fault.name in STEP_NAMES:
        return STEP_NAMES[fault.name]
    return next((name for word, name in STEP_WORDS.items() if word in fault.name), "request")


def agree(snapshot: Snapshot | None, facts: RequestFacts, now: float, body: bytes | None = None) -> Explanation:
    """An explanation, seen to say what the decision says."""
    decision = decide(snapshot, facts, now)
    if isinstance(decision, AwaitsBody) and body is not None:
        decision = decide_body(decision, body)
    explanation = explain(snapshot, facts, now, body)
    match decision:
        case Rejected():
            assert (explanation.outcome, explanation.reason) == ("rejected", decision.reason)
            assert explanation.detail == decision.detail
        case Allowed():
            assert (explanation.outcome, explanation.reason) == ("allowed", None)
        case AwaitsBody():
            assert (explanation.outcome, explanation.reason) == ("awaits_body", None)
    failed = [step.name for step in explanation.steps if step.ok is False]
    assert len(failed) == (isinstance(decision, Rejected) and snapshot is not None)
    text = render_text(explanation)
    assert all(line.isprintable() for line in text.splitlines())
    assert json.loads(to_json(explanation))["reason"] == explanation.reason
    return explanation


@settings(max_examples=300, deadline=None)
@given(st.tuples(*(st.sampled_from([None, *group]) for group in by_step(FAULTS))), st.sampled_from([None, BODY, b"x"]))
def test_reason_and_step_are_those_of_the_decision(chosen: tuple[Fault | None, ...], body: bytes | None) -> None:
    """Whatever is wrong at once, the account has the decision's reason, and the step in which it fell."""
    world = World()
    faults = [fault for fault in chosen if fault is not None]
    for fault in faults:
        fault.spoil(world)
    explanation = agree(world.snapshot(), world.request(), NOW, body)
    if faults and step_of(faults[0]) is not None:
        failed = next(index for index, step in enumerate(explanation.steps) if step.ok is False)
        assert explanation.steps[failed].name == step_of(faults[0])
        assert all(step.ok for step in explanation.steps[:failed])
        assert all(step.ok is None for step in explanation.steps[failed + 1 :])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_step_of_each_fault(fault: Fault) -> None:
    """Each fault alone is found in its step, with words on what is wrong and what mends it."""
    world = World()
    fault.spoil(world)
    explanation = agree(world.snapshot(), world.request(), NOW, BODY)
    assert [step.name for step in explanation.steps if step.ok is False] == [n for n in [step_of(fault)] if n]
    assert explanation.headline and explanation.remedy
    assert f"({fault.reason})" in render_text(explanation).splitlines()[0]
    assert f"docs/reasons.md#{fault.reason}" in render_text(explanation)


@pytest.mark.parametrize("algorithm", ALGORITHM_KEYS)
def test_agreement_on_spoilt_tokens(algorithm: str) -> None:
    """Spoilt in every way that the mutator knows, a JWS is explained with the decision's reason."""
    random = Random(algorithm)
    token = genuine(random, algorithm)
    route = a_route(claims=ClaimRules(required=("exp", "iat"), issuer=("tvo",), audience=("the world",)))
    snapshot = a_snapshot([an_application(certificate_of(token.key))], route)
    for _ in range(150):
        text = mutated(random, token, random.sample(list(MUTATIONS), random.choice([1, 1, 2, 3])))
        facts = RequestFacts("GET", b"/x", ((b"X-IBM-Client-Id", CLIENT_ID.encode()), (b"jwt", text)))
        agree(snapshot, facts, MUTATED_AT)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": NOW}, id="expired"),
        pytest.param({"iat": NOW + 5}, id="ahead"),
        pytest.param({"exp": str(NOW)}, id="text"),
        pytest.param({"exp": NOW * 1000}, id="milliseconds"),
        pytest.param({"exp": True, "iat": []}, id="no-number"),
        pytest.param({"exp": 10**400}, id="huge"),
        pytest.param({"aud": ["a", 5]}, id="audience-of-numbers"),
        pytest.param({"iss": None}, id="null"),
        pytest.param({"azp": {"a": ["\u202e\x1b[31m"]}}, id="steers-a-terminal"),
        pytest.param({"exp": NOW + 9000}, id="lives-long"),
    ],
)
def test_agreement_on_odd_claims(claims: dict[str, Any]) -> None:
    """Claims of any type, properly signed."""
    rules = ClaimRules(
        required=("exp", "iat"), issuer=("tvo",), audience=("x",), max_lifetime=3600, client_id_claim="azp"
    )
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(claims=rules))
    token = material.jws(KEY, good_claims(**{"aud": "x", "azp": CLIENT_ID, **claims}))
    explanation = agree(snapshot, a_request(token), NOW)
    assert explanation.reason is not None and explanation.verified


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_agreement_on_any_octets(client_id: bytes, token: bytes, rest: bytes) -> None:
    """Any octets in the client ID, the JWS, the target."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(jws=Source("header", "jwt", "Bearer")))
    headers = ((b"X-IBM-Client-Id", client_id), (b"jwt", token), (b"Cookie", rest))
    agree(snapshot, RequestFacts("GET", b"/" + rest, headers), NOW)


def test_signature_is_never_shown() -> None:
    """Neither the text nor the JSON holds the signature, or another header's value."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))])
    token = material.jws(KEY, good_claims())
    signature = token.rpartition(".")[2]
    for sent in (token, f"Bearer {token}", f'"{token}"', token[:-3], token + "%3D"):
        explanation = agree(snapshot, a_request(sent, (b"Authorization", b"Basic c2VjcmV0")), NOW)
        for text in (render_text(explanation), to_json(explanation)):
            assert signature[:12] not in text
            assert "c2VjcmV0" not in text


def test_allowed_account() -> None:
    """Who signed, with what, how long it lasts."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))])
    text = render_text(agree(snapshot, a_request(material.jws(KEY, good_claims())), NOW))
    assert text.splitlines()[0].startswith("Allowed: Signed by CN=client")
    assert re.search(r"ok +times +exp in 10 minutes \(2030-03-17 17:56:40 UTC\), iat just now", text)
    assert "Claims (verified):" in text
    assert "exp: 1900000600  2030-03-17 17:56:40 UTC, in 10 minutes" in text


def test_report_mode_is_told() -> None:
    """A request that passes only because its route is in report mode is not said to be good."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(report=True))
    explanation = explain(snapshot, a_request("x"), NOW)
    assert (explanation.outcome, explanation.reason) == ("would_reject", Reason.JWS_MALFORMED)
    assert render_text(explanation).startswith("Would be rejected (the route is in report mode) (jws_malformed): ")


def test_decision_of_the_gate_is_explained() -> None:
    """What only the running gate knew, such as a jti that was used before, is explained from its own decision."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(single_use=True))
    facts = a_request(material.jws(KEY, good_claims(jti="once")))
    allowed = decide(snapshot, facts, NOW)
    assert isinstance(allowed, Allowed)
    decided = Rejected(
        Reason.JWS_REPLAYED, "the jti was used before", allowed.route, allowed.client_id, allowed.application
    )
    explanation = explain(snapshot, facts, NOW, None, decided)
    assert explanation.reason == Reason.JWS_REPLAYED
    assert explanation.headline == 'The JWS was used before: its jti "once" is good once'
    assert [step.name for step in explanation.steps if step.ok is False] == ["single use"]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason: Reason) -> None:
    """Whatever reason a gate hands in, there are words for it."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))])
    facts = a_request(material.jws(KEY, good_claims()))
    explanation = explain(snapshot, facts, NOW, None, Rejected(reason, "a detail"))
    assert explanation.reason == reason
    assert explanation.headline and explanation.remedy
    assert MEANINGS[reason].meaning.endswith(".") and MEANINGS[reason].remedy.endswith(".")


def test_open_and_preflight() -> None:
    """Where no JWS is asked for, none of its steps is told of."""
    snapshot = a_snapshot([], replace(a_route("/**"), open=True))
    explanation = agree(snapshot, a_request(), NOW)
    assert [step.name for step in explanation.steps] == ["request", "route"]
    assert explanation.headline == "The route asks for no JWS"


@pytest.mark.parametrize(("header", "step"), [(b"X.IBM.Client.Id", "client ID"), (b"X-Other", None), (b"jwt", "JWS")])
def test_open_route_that_refuses(header: bytes, step: str | None) -> None:
    """What is refused even there is told of as the step that it belongs to."""
    snapshot = a_snapshot([], replace(a_route("/**"), open=True))
    explanation = agree(snapshot, a_request("x", (header, b"y")), NOW)
    assert [each.name for each in explanation.steps if each.ok is False] == ([] if step is None else [step])
