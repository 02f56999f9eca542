"""What rejected clients are told where the policy has its own words."""

from __future__ import annotations

import json

import pytest

from jwsgate.core.answers import ANSWERS, API_CONNECT, Override, reply_table
from jwsgate.core.policy import Router
from jwsgate.core.reasons import REPORTABLE, Reason
from unit_material import policy_problems, policy_routes, read_policy

RFC = reply_table("rfc", {})


@pytest.mark.parametrize("reason", Reason)
def test_usual_answers(reason: Reason) -> None:
    """API Connect's words, unless the policy says otherwise."""
    reply = API_CONNECT[reason]
    answer = ANSWERS[reason]
    assert (reply.status, reply.body, reply.content_type, reply.challenge) == (
        answer.status, answer.body, "application/json", None,
    )  # fmt: skip


@pytest.mark.parametrize("reason", Reason)
def test_problem_details(reason: Reason) -> None:
    """RFC 9457: an object with status, title and detail; RFC 9110: a 401 has a challenge, nothing else has."""
    reply = RFC[reason]
    problem = json.loads(reply.body)
    assert (problem["type"], problem["status"]) == ("about:blank", reply.status)
    assert problem["detail"] == ANSWERS[reason].information
    assert reply.content_type == "application/problem+json"
    assert (reply.challenge is not None) == (reply.status == 401)
    assert (reply.status in {400, 401, 403}) or reason not in REPORTABLE


@pytest.mark.parametrize(
    ("reason", "status", "challenge"),
    [
        (Reason.JWS_MISSING, 401, "Bearer"),
        (Reason.CLIENT_ID_MISSING, 401, "Bearer"),
        (Reason.JWS_EXPIRED, 401, 'Bearer error="invalid_token"'),
        (Reason.SIGNATURE_MISMATCH, 401, 'Bearer error="invalid_token"'),
        (Reason.JWS_REPEATED, 400, None),
        (Reason.CERTIFICATE_EXPIRED, 403, None),
        (Reason.APPLICATION_DISABLED, 403, None),
        (Reason.ROUTE_UNKNOWN, 404, None),
        (Reason.POLICY_UNAVAILABLE, 503, None),
        (Reason.INTERNAL_ERROR, 500, None),
    ],
)
def test_statuses_of_the_rfcs(reason: Reason, status: int, challenge: str | None) -> None:
    """RFC 6750 section 3."""
    assert (RFC[reason].status, RFC[reason].challenge) == (status, challenge)


@pytest.mark.parametrize("profile", ["api-connect", "rfc"])
def test_override(profile: str) -> None:
    """Texts with quotes and backslashes stay JSON; only that reason changes."""
    text = 'say "no" \\ }'
    overrides = {Reason.JWS_EXPIRED: Override(403, text, text)}
    table = reply_table("rfc" if profile == "rfc" else "api-connect", overrides)
    said = json.loads(table[Reason.JWS_EXPIRED].body)
    expected = (
        {"type": "about:blank", "title": text, "status": 403, "detail": text}
        if profile == "rfc"
        else {"httpCode": "403", "httpMessage": text, "moreInformation": text}
    )
    assert said == expected
    assert table[Reason.JWS_EXPIRED].challenge is None
    assert table[Reason.JWS_MISSING] == (RFC if profile == "rfc" else API_CONNECT)[Reason.JWS_MISSING]


def test_status_alone() -> None:
    """The message is that of the status, so that the two do not contradict each other."""
    table = reply_table("api-connect", {Reason.JWS_MISSING: Override(401)})
    assert table[Reason.JWS_MISSING].body == (
        b'{ "httpCode":"401", "httpMessage":"Unauthorized", "moreInformation":"JWS is missing" }'
    )


def test_policies_have_their_own() -> None:
    """Each for its routes; the first one's where there is no route."""
    router = Router()
    texts = [
        "routes:\n  - path: /a\n",
        "errors: {profile: rfc}\nroutes:\n  - path: /b\n",
        "errors: {overrides: {route_unknown: {status: 410}}}\nroutes:\n  - path: /c\n",
    ]
    for text in texts:
        assert read_policy(text, router=router)[1] == []
    assert [route.errors[Reason.ROUTE_UNKNOWN].status for route in router] == [404, 404, 410]
    assert [route.errors[Reason.JWS_MISSING].status for route in router] == [500, 401, 500]
    assert router.errors[Reason.JWS_MISSING].status == 401


@pytest.mark.parametrize(
    ("errors", "path", "message", "remedy"),
    [
        ("{profile: apic}", "profile", "is not one of the known values", "use 'api-connect' or 'rfc'"),
        ("{overrides: {jws_mising: {status: 401}}}", "jws_mising", "is no reason", "did you mean jws_missing?"),
        ("{overrides: {jws_missing: {status: 200}}}", "jws_missing.status", "is too small", "use at least 400"),
        ("{overrides: {jws_missing: {status: 600}}}", "jws_missing.status", "is too large", "use at most 599"),
        ("{overrides: {jws_missing: {status: 499}}}", "jws_missing.status", "is no status of HTTP", None),
        (
            '{overrides: {jws_missing: {message: "a\\nb"}}}',
            "jws_missing.message",
            "is not printable ASCII",
            "write plain text of one line",
        ),
        ("{overrides: {jws_missing: {information: ü}}}", "jws_missing.information", "is not printable ASCII", None),
        ("{overrides: {jws_missing: {text: a}}}", "jws_missing.text", "is not a known key", None),
    ],
)
def test_mistakes(errors: str, path: str, message: str, remedy: str | None) -> None:
    """Told at their place, and once."""
    (problem,) = policy_problems(f"errors: {errors}\nroutes:\n  - path: /a\n")
    assert (path, message) == (problem.path.removeprefix("errors.").removeprefix("overrides."), problem.message)
    assert (remedy or problem.remedy) == problem.remedy


def test_routes_without_errors() -> None:
    """The one table, not a copy for each route."""
    assert all(route.errors is API_CONNECT for route in policy_routes("routes:\n  - path: /a\n  - path: /b\n"))
