"""Rules on claims as a policy says them: values or a pattern, of the route or of the defaults."""

from __future__ import annotations

import sys

import pytest

from jwsgate.core.claims import ClaimRules, Matching
from jwsgate.core.policy import Router
from unit_material import places, read_policy


def rules(claims: str, defaults: str = "{}") -> ClaimRules:
    """The rules of a policy's one route."""
    router, problems = read_policy(policy(claims, defaults))
    assert problems == []
    (route,) = router
    return route.claims


def policy(claims: str, defaults: str = "{}") -> str:
    """A policy of one route."""
    return f"defaults:\n  claims: {defaults}\nroutes:\n  - path: /a\n    claims: {claims}\n"


def test_pattern() -> None:
    """It has to match the whole value, and printable ASCII only; a dot is any character."""
    made = rules(r"{issuer_pattern: 'https://idp.example/[a-z]+', audience_pattern: 'orders-\d'}")
    assert isinstance(made.issuer, Matching)
    assert isinstance(made.audience, Matching)
    good, bad = ["https://idp.example/realm", "https://idpxexample/realm"], ["https://idp.example/realm1", "", 7, None]
    assert [each in made.issuer for each in (*good, *bad)] == [True, True, False, False, False, False]
    assert ["orders-1" in made.audience, "orders-11" in made.audience] == [True, False]


def test_pattern_that_lists() -> None:
    """One that only lists texts is these texts, without an engine."""
    assert rules("{issuer_pattern: ^(a|b)$}").issuer == ("a", "b")


@pytest.mark.parametrize(
    ("claims", "defaults", "good", "bad"),
    [
        ("{issuer_pattern: x+}", "{issuer: tvo}", "xx", "tvo"),
        ("{issuer: tvo}", "{issuer_pattern: x+}", "tvo", "xx"),
        ("{leeway: 5}", "{issuer_pattern: x+}", "xx", "tvo"),
        ("{issuer_pattern: x+}", "{issuer_pattern: y+}", "xx", "yy"),
    ],
)
def test_either_replaces_the_other(claims: str, defaults: str, good: str, bad: str) -> None:
    """Values and pattern are one rule, of which the route's own counts."""
    made = rules(claims, defaults)
    assert good in made.issuer
    assert bad not in made.issuer


def test_defaults_of_another_claim_stay() -> None:
    """A pattern for iss leaves aud as the defaults have it."""
    assert rules("{issuer_pattern: x+}", "{audience: orders}").audience == ("orders",)


@pytest.mark.parametrize(
    ("claims", "defaults", "place", "message"),
    [
        ("{issuer: a, issuer_pattern: a.}", "{}", "routes[0].claims", "says issuer and issuer_pattern"),
        ("{audience: a, audience_pattern: a.}", "{}", "routes[0].claims", "says audience and audience_pattern"),
        ("{issuer_pattern: ''}", "{}", "routes[0].claims.issuer_pattern", "is empty"),
        ("{issuer_pattern: [a]}", "{}", "routes[0].claims.issuer_pattern", "is not text"),
        ("{audience_pattern: (a.}", "{}", "routes[0].claims.audience_pattern", "is a pattern that cannot run"),
        ("{leeway: 5}", "{issuer_pattern: (a.}", "defaults.claims.issuer_pattern", "is a pattern that cannot run"),
    ],
)
def test_refused(claims: str, defaults: str, place: str, message: str) -> None:
    """At the place that says it."""
    _, problems = read_policy(policy(claims, defaults))
    ((_, _, path, text),) = places(problems)
    assert path == place
    assert text.startswith(message)


def test_told_once_of_the_defaults() -> None:
    """However many routes they hold for."""
    text = policy("{}", "{issuer_pattern: (a.}") + "  - path: /b\n"
    _, problems = read_policy(text)
    assert len(problems) == 1


def test_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is asked for by name; never a route without the rule."""
    monkeypatch.setitem(sys.modules, "re2", None)
    _, (problem,) = read_policy(policy("{issuer_pattern: a.}"))
    assert "jwsgate[api-connect]" in problem.remedy


def test_applications_have_no_patterns() -> None:
    """Of two patterns nobody can tell which is narrower."""
    text = policy("{}") + "applications:\n  - client_id: a\n    claims: {issuer_pattern: a.}\n"
    _, (problem,) = read_policy(text, router=Router())
    assert problem.path == "applications[0].claims.issuer_pattern"
    assert problem.message == "is not a known key"
