"""Patterns of claims: bounded in time, matched whole, and never looser than PCRE."""

from __future__ import annotations

import sys

import pytest

from jwsgate.core.claims import ClaimRules, Matching, check_claims
from jwsgate.core.jws import JoseHeader
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.files.patterns import texts_of_pattern
from jwsgate.files.problems import Unfit


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("tvo", ("tvo",)),
        ("^tvo$", ("tvo",)),
        ("the world", ("the world",)),
        (r"a\.example", ("a.example",)),
        ("a|b", ("a", "b")),
        ("^(a|b)$", ("a", "b")),
        ("^(?:a|b)$", ("a", "b")),
        (r"tvo\$", ("tvo$",)),
        ("https://a/é", ("https://a/é",)),
    ],
)
def test_lists(pattern: str, texts: tuple[str, ...]) -> None:
    """Patterns that only list texts need no engine."""
    assert texts_of_pattern(pattern) == texts


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (".*", ["", "a"], ["a\n", "é", "\x00", "a\u2028", "\ud800"]),
        ("a.example", ["a.example", "axexample"], ["a.example.evil", "evil a.example"]),
        ("^a|b$", ["a", "b"], ["ax", "xb", "a|b"]),
        (r"(?i)k\d+", ["k1", "K1"], ["\u212a1", "k\u0661"]),
        (r"\S+", ["a"], ["a b", "\x0b", "\xa0"]),
        (r"^(a)|(b)$", ["a", "b"], ["ax", "a|b", "a)|(b"]),
        (r"(?i:a|b)", ["A"], ["i:a", "ab"]),
        ("tvo\\\\$", ["tvo\\"], ["tvo", "tvo$"]),
        ("[a|b]", ["a", "|"], ["[a", "b]"]),
    ],
)
def test_matches(pattern: str, good: list[str], bad: list[str]) -> None:
    """The whole text, and printable ASCII only."""
    texts = texts_of_pattern(pattern)
    assert isinstance(texts, Matching)
    assert [text for text in good if text not in texts] == []
    assert [text for text in bad if text in texts] == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["(a+)+", "(a|aa)+", "(a*)*b", "(.*a){25}", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_catastrophic_patterns_end(pattern: str) -> None:
    """What would keep a backtracking engine busy for longer than the universe is old."""
    texts = texts_of_pattern(pattern)
    assert "a" * 100_000 + "!" not in texts
    for length in range(20, 60):
        assert "a" * length + "!" not in texts


@pytest.mark.parametrize(
    "pattern", ["(?=a)a", r"(a)\1", "(?>a)", "a++", "(a", "[", "*", "é.", "a\tb.", "$(x)", "a" * 1001]
)
def test_refused(pattern: str) -> None:
    """With a remedy."""
    with pytest.raises(Unfit) as caught:
        texts_of_pattern(pattern)
    assert caught.value.remedy


def test_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is asked for by name; lists do without."""
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(Unfit) as caught:
        texts_of_pattern("a+")
    assert "jwsgate[api-connect]" in caught.value.remedy
    assert texts_of_pattern("a") == ("a",)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "tvo-1", "aud": "x"}, None),
        ({"iss": "tvo-1", "aud": ["other", "x"]}, None),
        ({"iss": "tvo-", "aud": "x"}, Reason.CLAIM_MISMATCH),
        ({"aud": "x"}, Reason.CLAIM_MISSING),
        ({"iss": 1, "aud": "x"}, Reason.CLAIMS_MALFORMED),
        ({"iss": "tvo-1"}, Reason.CLAIM_MISSING),
        ({"iss": "tvo-1", "aud": []}, Reason.CLAIMS_MALFORMED),
        ({"iss": "tvo-1", "aud": ["y", "other"]}, Reason.CLAIM_MISMATCH),
    ],
)
def test_as_claim_rules(claims: dict[str, object], reason: Reason | None) -> None:
    """A pattern demands the claim as a list of texts does."""
    issuer, audience = texts_of_pattern("tvo-[0-9]"), texts_of_pattern("x+")
    rules = ClaimRules(required=(), issuer=issuer, audience=audience)
    header = JoseHeader("RS256", None, ())
    if reason is None:
        check_claims(claims, header, rules, "id", 0)
        return
    with pytest.raises(Rejection) as caught:
        check_claims(claims, header, rules, "id", 0)
    assert caught.value.reason is reason
