"""Rules on claims, checked at a given time after the signature was verified."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import material
from core_gate import NOW, decision_on, reason_of, signed
from jwsgate.core.claims import LATEST_TIME, ClaimRules, check_claims, good_between, parse_claims
from jwsgate.core.jws import JoseHeader
from jwsgate.core.reasons import Reason, Rejection

KEY = material.private_key("p256")


def header(typ: str | None = None) -> JoseHeader:
    """A JOSE header with or without `typ`."""
    return JoseHeader("ES256", typ, ())


def reason(
    claims: dict[str, Any], rules: ClaimRules | None = None, now: float = 1000, typ: str | None = None
) -> Reason | None:
    """Why claims are refused; None when they pass."""
    try:
        check_claims(claims, header(typ), rules or ClaimRules(), "client", now)
    except Rejection as rejection:
        return rejection.reason
    return None


# The payload as JSON


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Payload", id="text"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'[{"exp":9999999999}]', id="array-of-claims"),
        pytest.param(b'"exp"', id="string"),
        pytest.param(b"9999999999", id="number"),
        pytest.param(b"null", id="null"),
        pytest.param(b"true", id="true"),
        pytest.param(b'\xef\xbb\xbf{"exp":9999999999}', id="byte-order-mark"),
        pytest.param('{"exp":9999999999}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'{"exp":9999999999,"a":"\xff"}', id="no-utf-8"),
        pytest.param(b'{"exp":1,"exp":9999999999}', id="exp-twice-last-would-pass"),
        pytest.param(b'{"exp":9999999999,"exp":1}', id="exp-twice-first-would-pass"),
        pytest.param(b'{"exp":9999999999,"e\\u0078p":1}', id="exp-twice-once-escaped"),
        pytest.param(b'{"exp":9999999999,"a":{"b":1,"b":2}}', id="nested-duplicate"),
        pytest.param(b'{"exp":NaN}', id="nan"),
        pytest.param(b'{"exp":Infinity}', id="infinity"),
        pytest.param(b'{"exp":9999999999,"sub":"\\ud800"}', id="lone-surrogate"),
        pytest.param(b'{"exp":%s}' % (b"9" * 5000), id="integer-of-5000-digits"),
        pytest.param(b'{"exp":9999999999,"a":%s}' % (b"[" * 40 + b"]" * 40), id="deep"),
        pytest.param(b'{"exp":9999999999}{}', id="two-objects"),
        pytest.param(b'{"exp":9999999999}\0', id="nul-after"),
        pytest.param(b"eyJleHAiOjk5OTk5OTk5OTl9", id="base64url-once-more"),
    ],
)
def test_payload_must_be_a_strict_json_object(payload: bytes) -> None:
    """Whatever is validly signed and no strict JSON object is refused, and not let through unchecked."""
    with pytest.raises(Rejection) as caught:
        parse_claims(payload)
    assert caught.value.reason is Reason.CLAIMS_MALFORMED
    assert reason_of(decision_on(signed(KEY, payload=payload), KEY)) is Reason.CLAIMS_MALFORMED


# exp, nbf, iat


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("true", id="true"),
        pytest.param("false", id="false"),
        pytest.param('"9999999999"', id="digits-as-string"),
        pytest.param('"2099-01-01T00:00:00Z"', id="date-as-string"),
        pytest.param('""', id="empty-string"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="empty-array"),
        pytest.param("[9999999999]", id="array"),
        pytest.param("{}", id="object"),
        pytest.param("1e400", id="float-beyond-range"),
        pytest.param("-1e400", id="negative-float-beyond-range"),
        pytest.param("1" + "0" * 400, id="ten-to-the-400"),
        pytest.param("-1" + "0" * 400, id="minus-ten-to-the-400"),
        pytest.param("1e300", id="large-float"),
        pytest.param("-1e300", id="large-negative-float"),
        pytest.param("1531300344000", id="milliseconds"),
        pytest.param(str(LATEST_TIME + 1), id="year-10000"),
    ],
)
def test_times_that_are_no_times_are_malformed(name: str, value: str) -> None:
    """Each of these passes some library or brings it down; here each is one rejection."""
    good_exp = f'"exp":{NOW + 600},' if name != "exp" else ""
    payload = f'{{{good_exp}"{name}":{value}}}'.encode()
    assert reason(parse_claims(payload)) is Reason.CLAIMS_MALFORMED
    assert reason_of(decision_on(signed(KEY, payload=payload), KEY)) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize("exp", [-1, -0.5, 0, 0.0, -LATEST_TIME, 1, 999, 999.999])
def test_past_exp_is_expired(exp: float) -> None:
    """Negative numbers and fractions are times like all others (RFC 7519 section 2)."""
    assert reason({"exp": exp}) is Reason.JWS_EXPIRED


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (999, None),
        (999.999, None),
        (1000, Reason.JWS_EXPIRED),
        (1000.001, Reason.JWS_EXPIRED),
        (1001, Reason.JWS_EXPIRED),
    ],
)
def test_exp_boundary(now: float, expected: Reason | None) -> None:
    """RFC 7519 section 4.1.4: must not be accepted on or after exp."""
    assert expected is reason({"exp": 1000}, now=now)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(1000.2, None), (1000.499, None), (1000.5, Reason.JWS_EXPIRED), (1001, Reason.JWS_EXPIRED)],
)
def test_exp_with_a_fraction(now: float, expected: Reason | None) -> None:
    """A fraction of a second counts."""
    assert expected is reason({"exp": 1000.5}, now=now)


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(
    ("now", "expected"),
    [(999, Reason.JWS_NOT_YET_VALID), (999.999, Reason.JWS_NOT_YET_VALID), (1000, None), (1001, None)],
)
def test_nbf_and_iat_boundary(name: str, now: float, expected: Reason | None) -> None:
    """RFC 7519 section 4.1.5: must not be accepted before nbf; a JWS issued in the future is refused too."""
    assert expected is reason({"exp": 2000, name: 1000}, now=now)


@pytest.mark.parametrize(
    ("claims", "now", "expected"),
    [
        ({"exp": 1000}, 1029, None),
        ({"exp": 1000}, 1029.999, None),
        ({"exp": 1000}, 1030, Reason.JWS_EXPIRED),
        ({"exp": 2000, "nbf": 1000}, 970, None),
        ({"exp": 2000, "nbf": 1000}, 969.999, Reason.JWS_NOT_YET_VALID),
        ({"exp": 2000, "iat": 1000}, 970, None),
        ({"exp": 2000, "iat": 1000}, 969.999, Reason.JWS_NOT_YET_VALID),
    ],
)
def test_leeway(claims: dict[str, Any], now: float, expected: Reason | None) -> None:
    """Leeway moves each boundary by so many seconds and leaves it as sharp."""
    assert expected is reason(claims, ClaimRules(leeway=30), now)


def test_leeway_is_zero_unless_said() -> None:
    """Libraries forgive 60 seconds silently; here nothing is forgiven."""
    assert ClaimRules().leeway == 0
    token = signed(KEY, {"exp": NOW})
    assert reason_of(decision_on(token, KEY, now=NOW)) is Reason.JWS_EXPIRED
    assert reason_of(decision_on(token, KEY, now=NOW, claims={"leeway": 1})) is None


def test_exp_is_required_unless_said() -> None:
    """A JWS without exp would be good for ever."""
    assert reason({}) is Reason.CLAIM_MISSING
    assert reason({"iat": 1}) is Reason.CLAIM_MISSING
    assert reason({}, ClaimRules(required=())) is None
    assert reason({"exp": 1000}, ClaimRules(required=())) is Reason.JWS_EXPIRED


def test_required_claims() -> None:
    """Each name must be there, even with null as its value; names have one case."""
    rules = ClaimRules(required=("exp", "sub"))
    assert reason({"exp": 2000}, rules) is Reason.CLAIM_MISSING
    assert reason({"exp": 2000, "Sub": "a"}, rules) is Reason.CLAIM_MISSING
    assert reason({"exp": 2000, "sub": "a"}, rules) is None
    assert reason({"EXP": 2000, "sub": "a"}, rules) is Reason.CLAIM_MISSING


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": 1300, "iat": 1000}, None),
        ({"exp": 1300.5, "iat": 1000}, Reason.CLAIM_MISMATCH),
        ({"exp": 1301, "iat": 1000}, Reason.CLAIM_MISMATCH),
        ({"exp": 1001, "iat": 700}, Reason.CLAIM_MISMATCH),
        ({"exp": LATEST_TIME, "iat": 0}, Reason.CLAIM_MISMATCH),
        ({"exp": 1300}, Reason.CLAIM_MISSING),
        ({"iat": 1000}, Reason.CLAIM_MISSING),
    ],
)
def test_max_lifetime(claims: dict[str, Any], expected: Reason | None) -> None:
    """The time from iat to exp is bounded, and both are then needed."""
    assert expected is reason(claims, ClaimRules(required=(), max_lifetime=300))


# iss, sub, aud, the client ID, typ


@pytest.mark.parametrize("name", ["iss", "sub"])
@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param({"value": "tvo"}, None, id="equal"),
        pytest.param({"value": "other"}, None, id="equal-to-the-second"),
        pytest.param({"value": "Tvo"}, Reason.CLAIM_MISMATCH, id="another-case"),
        pytest.param({"value": "tvo "}, Reason.CLAIM_MISMATCH, id="space-after"),
        pytest.param({"value": "tv"}, Reason.CLAIM_MISMATCH, id="shorter"),
        pytest.param({"value": "tvotvo"}, Reason.CLAIM_MISMATCH, id="longer"),
        pytest.param({"value": "tvo\0"}, Reason.CLAIM_MISMATCH, id="nul-after"),
        pytest.param({"value": ""}, Reason.CLAIM_MISMATCH, id="empty"),
        pytest.param({"value": ["tvo"]}, Reason.CLAIMS_MALFORMED, id="array"),
        pytest.param({"value": {"tvo": 1}}, Reason.CLAIMS_MALFORMED, id="object"),
        pytest.param({"value": 5}, Reason.CLAIMS_MALFORMED, id="number"),
        pytest.param({"value": None}, Reason.CLAIMS_MALFORMED, id="null"),
        pytest.param({"value": True}, Reason.CLAIMS_MALFORMED, id="bool"),
        pytest.param({}, Reason.CLAIM_MISSING, id="absent"),
    ],
)
def test_issuer_and_subject(name: str, claims: dict[str, Any], expected: Reason | None) -> None:
    """Equal, character for character, to one of the values that the policy names."""
    rules = ClaimRules(issuer=("tvo", "other")) if name == "iss" else ClaimRules(subject=("tvo", "other"))
    assert expected is reason({"exp": 2000} | ({name: claims["value"]} if claims else {}), rules)


@pytest.mark.parametrize(
    ("aud", "expected"),
    [
        pytest.param("the world", None, id="string"),
        pytest.param("The World", Reason.CLAIM_MISMATCH, id="string-in-another-case"),
        pytest.param("world", Reason.CLAIM_MISMATCH, id="part-of-the-string"),
        pytest.param("", Reason.CLAIM_MISMATCH, id="empty-string"),
        pytest.param(["the world"], None, id="array"),
        pytest.param(["a", "the world", "b"], None, id="array-with-one-match"),
        pytest.param(["a", "b"], Reason.CLAIM_MISMATCH, id="array-without-match"),
        pytest.param([""], Reason.CLAIM_MISMATCH, id="array-of-empty-string"),
        pytest.param([], Reason.CLAIMS_MALFORMED, id="empty-array"),
        pytest.param([5], Reason.CLAIMS_MALFORMED, id="array-of-number"),
        pytest.param(["the world", 5], Reason.CLAIMS_MALFORMED, id="array-with-a-number-behind-the-match"),
        pytest.param(["the world", None], Reason.CLAIMS_MALFORMED, id="array-with-null"),
        pytest.param([["the world"]], Reason.CLAIMS_MALFORMED, id="array-in-array"),
        pytest.param({"the world": 1}, Reason.CLAIMS_MALFORMED, id="object"),
        pytest.param(5, Reason.CLAIMS_MALFORMED, id="number"),
        pytest.param(True, Reason.CLAIMS_MALFORMED, id="bool"),
        pytest.param(None, Reason.CLAIMS_MALFORMED, id="null"),
    ],
)
def test_audience(aud: Any, expected: Reason | None) -> None:
    """RFC 7519 section 4.1.3: a string, or an array of strings of which one is enough."""
    assert expected is reason({"exp": 2000, "aud": aud}, ClaimRules(audience=("the world", "else")))


@pytest.mark.parametrize("aud", [[], [5], 5, None, True, {}, [["a"]]], ids=json.dumps)
def test_malformed_audience_without_a_rule(aud: Any) -> None:
    """RFC 7519 types the claim: what is there must be of its type, whether or not the policy asks."""
    assert reason({"exp": 2000, "aud": aud}) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize("aud", ["", "x", ["x"], ["", "x"]], ids=json.dumps)
def test_any_audience_without_a_rule(aud: Any) -> None:
    """Without a rule any well-formed audience passes."""
    assert reason({"exp": 2000, "aud": aud}) is None


def test_audience_absent() -> None:
    """Absent passes only when the policy names none."""
    assert reason({"exp": 2000}) is None
    assert reason({"exp": 2000}, ClaimRules(audience=("a",))) is Reason.CLAIM_MISSING


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param({"azp": "client"}, None, id="equal"),
        pytest.param({"azp": "other"}, Reason.CLAIM_MISMATCH, id="another-client"),
        pytest.param({"azp": "Client"}, Reason.CLAIM_MISMATCH, id="another-case"),
        pytest.param({"azp": ["client"]}, Reason.CLAIM_MISMATCH, id="array"),
        pytest.param({"azp": None}, Reason.CLAIM_MISMATCH, id="null"),
        pytest.param({}, Reason.CLAIM_MISSING, id="absent"),
    ],
)
def test_claim_that_names_the_client(claims: dict[str, Any], expected: Reason | None) -> None:
    """With `client_id_claim` a JWS is good only with the client ID that it names."""
    assert expected is reason({"exp": 2000, **claims}, ClaimRules(client_id_claim="azp"))


@pytest.mark.parametrize("value", [0, False, 0.0])
def test_client_id_is_compared_as_text(value: Any) -> None:
    """A number that reads like the client ID is another thing."""
    rules = ClaimRules(client_id_claim="azp")
    with pytest.raises(Rejection):
        check_claims({"exp": 2000, "azp": value}, header(), rules, "0", 1000)


@pytest.mark.parametrize(
    ("typ", "expected"),
    [
        ("at+jwt", None),
        ("AT+JWT", None),
        ("application/at+jwt", None),
        ("Application/AT+jwt", None),
        ("JWT", Reason.CLAIM_MISMATCH),
        ("at+jwt ", Reason.CLAIM_MISMATCH),
        ("application/application/at+jwt", Reason.CLAIM_MISMATCH),
        ("", Reason.CLAIM_MISMATCH),
        (None, Reason.CLAIM_MISSING),
    ],
)
def test_typ(typ: str | None, expected: Reason | None) -> None:
    """RFC 7515 section 4.1.9: a media type without regard to case, "application/" left out or not."""
    for wanted in ("at+jwt", "application/at+jwt"):
        assert expected is reason({"exp": 2000}, ClaimRules(typ=(wanted,)), typ=typ)


def test_unknown_claims_are_let_through() -> None:
    """Claims that no rule names may hold anything."""
    claims = {"exp": 2000, "t": "t", "deep": {"a": [1, None]}, "jti": 5, "": False, "scope": ["a"]}
    assert reason(claims) is None


def test_policy_rules_reach_the_decision() -> None:
    """The rules as a policy file writes them, on a signed JWS."""
    rules = {
        "issuer": "tvo",
        "audience": ["the world"],
        "subject": "s",
        "client_id_claim": "azp",
        "max_lifetime": 600,
        "typ": "JWT",
    }
    good = {"iss": "tvo", "aud": "the world", "sub": "s", "azp": "client", "exp": NOW + 600, "iat": NOW}
    typed = {"alg": "ES256", "typ": "JWT"}
    assert reason_of(decision_on(signed(KEY, good, header=typed), KEY, claims=rules)) is None
    assert reason_of(decision_on(signed(KEY, good), KEY, claims=rules)) is Reason.CLAIM_MISSING
    for name in good:
        without = {key: value for key, value in good.items() if key != name}
        assert reason_of(decision_on(signed(KEY, without, header=typed), KEY, claims=rules)) is Reason.CLAIM_MISSING
    for name, value in {"iss": "x", "aud": "x", "sub": "x", "azp": "x", "exp": NOW + 601}.items():
        wrong = signed(KEY, good | {name: value}, header=typed)
        assert reason_of(decision_on(wrong, KEY, claims=rules)) is Reason.CLAIM_MISMATCH


# Any claims at all

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(["exp", "nbf", "iat", "iss", "sub", "aud", "azp", "jti"])
_RULES = st.builds(
    ClaimRules,
    required=st.lists(_NAMES, max_size=3).map(tuple),
    leeway=st.integers(0, 3600),
    max_lifetime=st.none() | st.integers(1, 10**6),
    issuer=st.just(()) | st.just(("a",)),
    audience=st.just(()) | st.just(("a",)),
    subject=st.just(()) | st.just(("a",)),
    client_id_claim=st.none() | st.just("azp"),
)


@settings(deadline=None)
@given(st.dictionaries(_NAMES, _VALUES), _RULES, st.floats(0, 1e11))
def test_any_claims_pass_or_are_rejected(claims: dict[str, Any], rules: ClaimRules, now: float) -> None:
    """Never another exception than Rejection, and nothing passes whose exp is over or whose nbf is ahead."""
    outcome = reason(claims, rules, now)
    if outcome is not None:
        assert outcome in {
            Reason.CLAIMS_MALFORMED,
            Reason.CLAIM_MISSING,
            Reason.CLAIM_MISMATCH,
            Reason.JWS_EXPIRED,
            Reason.JWS_NOT_YET_VALID,
        }
        return
    assert all(name in claims for name in rules.required)
    if "exp" in claims:
        assert now < claims["exp"] + rules.leeway
    if "nbf" in claims:
        assert now >= claims["nbf"] - rules.leeway


@settings(deadline=None)
@given(
    st.integers(-(10**6), 10**6),
    st.none() | st.integers(-(10**6), 10**6),
    st.integers(0, 3600),
    st.lists(st.floats(-(2e6), 2e6), min_size=2, max_size=6),
)
def test_a_jws_is_good_for_one_stretch_of_time(exp: int, nbf: int | None, leeway: int, times: list[float]) -> None:
    """Once expired it stays expired, and it never becomes early again."""
    claims = {"exp": exp} if nbf is None else {"exp": exp, "nbf": nbf}
    order = [Reason.JWS_NOT_YET_VALID, None, Reason.JWS_EXPIRED]
    outcomes = [order.index(reason(claims, ClaimRules(leeway=leeway), now)) for now in sorted(times)]
    if nbf is None or nbf - leeway <= exp + leeway:
        assert outcomes == sorted(outcomes)
    else:
        assert 1 not in outcomes


_TIMES = st.integers(-10, 10) | st.floats(-10, 10)


@settings(deadline=None)
@given(
    st.fixed_dictionaries({}, optional={"exp": _TIMES, "nbf": _TIMES, "iat": _TIMES}),
    st.integers(0, 5),
    st.integers(-30, 30) | st.floats(-30, 30),
)
def test_stretch_of_time_told_to_the_cache(claims: dict[str, Any], leeway: int, now: float) -> None:
    """`good_between` says of every moment what the check of the claims says."""
    rules = ClaimRules(required=(), leeway=leeway)
    start, end = good_between(claims, rules)
    assert (start <= now < end) is (reason(claims, rules, now) is None)
