"""Report mode: what passes that would be rejected, what stays refused, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import material
from core_gate import NOW, application, certificate_of, good_claims, reason_of, request_with, router, signed
from jwsgate.adapters.metrics import Metrics
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.portal import Portal
from jwsgate.core.reasons import REPORTABLE, Reason
from jwsgate.files.lint import lint
from record_material import a_record
from unit_material import policy_problems, policy_routes

KEY = material.private_key("p256")
REPORT = {"mode": "report", "upstream": {"client_id": "X-Caller"}}


def snapshot(**demands: object) -> Snapshot:
    """One client, and one route in report mode."""
    return Snapshot(Portal((application("client", certificate_of(KEY)),)), router(**{**REPORT, **demands}), "revision")


def would_reject(decision: Decision) -> Reason | None:
    """Why a request passed only for the mode."""
    assert isinstance(decision, Allowed)
    return None if decision.would_reject is None else decision.would_reject.reason


def with_headers(*headers: tuple[bytes, bytes], target: bytes = b"/protected") -> RequestFacts:
    """A request with these headers and no others."""
    return RequestFacts("GET", target, headers)


def test_what_may_pass() -> None:
    """Only what says who called; spelled out, so that a new reason has to be thought about."""
    refused = {
        *("route_unknown", "request_unsafe", "body_malformed", "headers_too_large", "body_too_large"),
        *("request_timeout", "policy_unavailable", "audit_unavailable", "internal_error"),
    }
    assert {reason.value for reason in Reason} - refused == {reason.value for reason in REPORTABLE}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (with_headers(), Reason.CLIENT_ID_MISSING),
        (request_with(None, "nobody"), Reason.CLIENT_ID_UNKNOWN),
        (request_with(None), Reason.JWS_MISSING),
        (request_with("a.b.c"), Reason.JWS_MALFORMED),
        (request_with(signed(material.private_key("p256", "other"))), Reason.SIGNATURE_MISMATCH),
        (request_with(signed(KEY, good_claims(exp=NOW - 1))), Reason.JWS_EXPIRED),
    ],
)
def test_would_be_rejected(facts: RequestFacts, reason: Reason) -> None:
    """It passes with the reason, and nothing is told of a caller that was not verified."""
    decision = decide(snapshot(), facts, NOW)
    assert would_reject(decision) == reason
    assert isinstance(decision, Allowed)
    assert (decision.added, decision.certificate, decision.claims) == ((), None, {})


def test_good_request_is_as_ever() -> None:
    """Nothing is reported, and the caller is told."""
    decision = decide(snapshot(), request_with(signed(KEY)), NOW)
    assert would_reject(decision) is None
    assert isinstance(decision, Allowed)
    assert decision.added == ((b"X-Caller", b"client"),)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (with_headers((b"X_IBM_Client_Id", b"client")), Reason.REQUEST_UNSAFE),
        (with_headers((b"j.w.t", b"x")), None),
        (request_with("a.b.c").__class__("GET", b"/protected/../x", ()), Reason.REQUEST_UNSAFE),
        (with_headers((b"Host", b"a"), (b"Host", b"b")), Reason.REQUEST_UNSAFE),
        (with_headers((b"Upgrade", b"h2c"), (b"Connection", b"upgrade")), Reason.REQUEST_UNSAFE),
        (with_headers((b"Content-Length", b"11")), Reason.BODY_TOO_LARGE),
        (with_headers(target=b"/other"), Reason.ROUTE_UNKNOWN),
        (with_headers((b"X-Cert", b"x")), Reason.REQUEST_UNSAFE),
    ],
)
def test_unsafe_requests_stay_refused(facts: RequestFacts, reason: Reason | None) -> None:
    """The mode is about who called, never about what a request is."""
    certificate = {"header": "X-Cert", "format": "xfcc", "from": ["10.0.0.0/8"]}
    decision = decide(snapshot(max_body_octets=10, client_certificate=certificate), facts, NOW)
    assert reason_of(decision) == reason


@pytest.mark.parametrize("name", [b"x_partner_jws", b"X.Partner.JWS"])
def test_look_alikes_after_an_early_rejection(name: bytes) -> None:
    """Without a client ID, nobody has looked at the JWS yet."""
    facts = with_headers((name, b"a.b.c"))
    assert reason_of(decide(snapshot(jws={"header": "X-Partner-JWS"}), facts, NOW)) == Reason.REQUEST_UNSAFE


def test_body_that_does_not_fit() -> None:
    """What only the body shows is reported as well."""
    awaiting = decide(snapshot(bind={"body": {"claim": "d"}}), request_with(signed(KEY, good_claims(d="AA"))), NOW)
    assert isinstance(awaiting, AwaitsBody)
    assert would_reject(decide_body(awaiting, b"body")) == Reason.BINDING_MISMATCH


def test_uses_do_not_mix() -> None:
    """A JWS that passed in report mode is still good once where it counts."""
    token = signed(KEY, good_claims(jti="1"))
    keys = [
        decision.replay.jti
        for mode in ("report", "enforce")
        if isinstance(decision := decide(snapshot(single_use=True, mode=mode), request_with(token), NOW), Allowed)
        and decision.replay is not None
    ]
    assert len(set(keys)) == 2


def test_modes_of_routes() -> None:
    """Of the defaults, unless a route says its own; other routes are not touched."""
    text = "defaults: {mode: report}\nroutes:\n  - {path: /a}\n  - {path: /b, mode: enforce}\n"
    assert [route.report for route in policy_routes(text)] == [True, False]
    text = "routes:\n  - {path: /a, mode: report}\n  - {path: /b}\n"
    assert [route.report for route in policy_routes(text)] == [True, False]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (
            "routes:\n  - {path: /a, respond: claims, mode: report}\n",
            "routes[0].mode",
            "cannot be report on a route that answers itself, which has nothing to answer then",
        ),
        (
            "defaults: {mode: report}\nroutes:\n  - {path: /a, respond: claims}\n",
            "routes[0]",
            "mode cannot be report on a route that answers itself, which has nothing to answer then",
        ),
        ("routes:\n  - {path: /a, mode: shadow}\n", "routes[0].mode", "is not one of the known values"),
    ],
)
def test_mistakes(text: str, path: str, message: str) -> None:
    """Told at their place."""
    (problem,) = policy_problems(text)
    assert (path, message) == (problem.path, problem.message)


def test_metrics_count_them_apart() -> None:
    """A decision of their own, and a gauge of the routes."""
    metrics = Metrics(snapshot)
    metrics.record(a_record(route="r", reason=Reason.JWS_MISSING, reported=True))
    metrics.record(a_record(route="r", reason=Reason.JWS_MISSING))
    told = metrics.exposition().decode()
    for outcome in ("would_reject", "rejected"):
        assert f'jwsgate_decisions_total{{decision="{outcome}",reason="jws_missing",route="r"}} 1.0' in told
    assert "jwsgate_routes_in_report_mode 1.0" in told


def test_reported_in_json() -> None:
    """The word that the audit log writes."""
    record = a_record(reason=Reason.JWS_MISSING, reported=True)
    assert (record.allowed, json.dumps(record.outcome)) == (True, '"would_reject"')


def test_lint_tells(tmp_path: Path) -> None:
    """With the place, for defaults and routes."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "defaults: {mode: report}\nroutes:\n  - {path: /a, mode: report}\n  - {path: /b, mode: enforce}\n"
    )
    found = [
        (finding.rule.name, finding.problem.path, finding.problem.line) for finding in lint(None, [policy], NOW, 1)
    ]
    assert found == [("route-report", "defaults.mode", 1), ("route-report", "routes[0].mode", 3)]
