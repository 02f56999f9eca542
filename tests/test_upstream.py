"""What the upstream is told of the caller, what cannot be told, and how the JWS is taken off."""

from __future__ import annotations

import base64
from typing import Any

import pytest

import material
from core_gate import NOW, application, certificate_of, good_claims, reason_of, request_with, router, signed
from jwsgate.core.decision import Allowed, JwsCache, Snapshot, decide
from jwsgate.core.portal import ClientId, Portal
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.sources import Source, single_value, stripped
from jwsgate.core.upstream import MAX_JSON_OCTETS, MAX_VALUE_OCTETS, Upstream, dropped_name, without
from jwsgate.core.verified_cache import VerifiedCache
from unit_material import policy_problems

KEY = material.private_key("p256")
ALL = {
    "claims": {"X-Sub": "sub", "X-Level": "level"},
    "claims_json": "X-Claims",
    "application": "X-App",
    "client_id": "X-Client",
    "thumbprint": "X-Thumbprint",
}


def added(upstream: dict[str, Any], cache: JwsCache | None = None, **claims: Any) -> dict[str, str] | Reason | None:
    """The headers that a good JWS with these claims adds, or why it is refused."""
    portal = Portal((application("client", certificate_of(KEY)),))
    snapshot = Snapshot(portal, router(upstream=upstream), "revision")
    facts = request_with(signed(KEY, good_claims(**claims)))
    decision = decide(snapshot, facts, NOW, cache)
    if not isinstance(decision, Allowed):
        return reason_of(decision)
    if cache is not None:
        assert decision == decide(snapshot, facts, NOW, cache)
    return {name.decode(): value.decode() for name, value in decision.added}


def test_everything_that_can_be_told() -> None:
    """Each header with what was verified; the payload as it was signed; the same from the cache."""
    found = added(ALL, VerifiedCache(), sub="alice", level=3)
    assert isinstance(found, dict)
    payload = base64.urlsafe_b64decode(found.pop("X-Claims") + "==")
    assert payload == material.compact_json(good_claims(sub="alice", level=3))
    thumbprint = certificate_of(KEY).thumbprint
    expected = {
        "X-Sub": "alice", "X-Level": "3", "X-App": "client", "X-Client": "client", "X-Thumbprint": thumbprint,
    }  # fmt: skip
    assert expected == found


def test_nothing_is_told_unasked() -> None:
    """A route that says nothing adds nothing."""
    assert added({"strip_jws": True}, sub="alice") == {}


def test_absent_claim_adds_no_header() -> None:
    """What is not there is not told as empty."""
    assert added({"claims": {"X-Sub": "sub"}}) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b", "a b"),
        ("", ""),
        ("100%", "100%25"),
        ("Jürgen", "J%C3%BCrgen"),
        ("a\r\nX-Admin: 1", "a%0D%0AX-Admin: 1"),
        ("\x00\x7f", "%00%7F"),
        (" a", "%20a"),
        ("a, b; \"c\" 'd' \\", "a, b; \"c\" 'd' \\"),
        (True, "true"),
        (False, "false"),
        (-17, "-17"),
        (1.5, "1.5"),
    ],
)
def test_values_that_can_be_carried(value: object, expected: str) -> None:
    """As they are, but for what a header cannot carry, which reads back in one way."""
    assert added({"claims": {"X-V": "v"}}, v=value) == {"X-V": expected}


@pytest.mark.parametrize(
    "value", [None, [], ["a"], {}, {"a": 1}, "x" * (MAX_VALUE_OCTETS + 1), "ü" * (MAX_VALUE_OCTETS // 6 + 1)]
)
def test_values_that_cannot_be_carried(value: object) -> None:
    """No single value, or too long: refused, and never cut."""
    assert added({"claims": {"X-V": "v"}}, v=value) == Reason.CLAIMS_MALFORMED


def test_longest_value() -> None:
    """The limit itself is good."""
    assert added({"claims": {"X-V": "v"}}, v="x" * MAX_VALUE_OCTETS) == {"X-V": "x" * MAX_VALUE_OCTETS}


def test_claims_too_large_for_a_header() -> None:
    """All claims together are refused where servers would refuse the header."""
    assert added({"claims_json": "X-Claims"}, v="x" * MAX_JSON_OCTETS) == Reason.CLAIMS_MALFORMED


def test_names_of_the_portal_are_carried() -> None:
    """Application and organization in any language."""
    upstream = Upstream(application="X-App", organization="X-Org")
    person = application("Käse", certificate_of(KEY))
    headers = upstream.headers(person, ClientId("client"), certificate_of(KEY), {}, b"")
    assert headers == ((b"X-App", b"K%C3%A4se"),)


@pytest.mark.parametrize("name", [b"X-Sub", b"x-sub", b"X_Sub", b"X.SUB", b"x_sub", b"X!Sub", b"X~sub"])
def test_every_spelling_is_dropped(name: bytes) -> None:
    """However an upstream folds names."""
    assert without(((name, b"admin"), (b"X-Sub-2", b"kept")), {dropped_name(b"X-Sub")}) == ((b"X-Sub-2", b"kept"),)


@pytest.mark.parametrize("name", [b"Transfer_Encoding", b"content.length", b"HTTP2_Settings", b"Keep~Alive"])
def test_look_alikes_of_framing_headers_are_dropped(name: bytes) -> None:
    """They go whatever the policy adds; the framing headers themselves stay."""
    kept = ((b"Transfer-Encoding", b"chunked"), (b"HOST", b"h"), (b"X_Any", b"kept"))
    assert without(((name, b"chunked"), *kept), frozenset()) == kept


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a?jwt=X", b"/a"),
        (b"/a?jwt=X&b=%41+c", b"/a?b=%41+c"),
        (b"/a?b=1&jwt=X&&c", b"/a?b=1&&c"),
        (b"/a?b=1&jw%74=X", b"/a?b=1"),
        (b"/a?b=jwt", b"/a?b=jwt"),
        (b"/a", b"/a"),
        (b"/a?", b"/a?"),
    ],
)
def test_jws_leaves_the_query(target: bytes, expected: bytes) -> None:
    """That one parameter, and not one octet more."""
    assert stripped(Source("query", "jwt"), target, ()) == (expected, ())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"jwt=X", []),
        (b"a=1; jwt=X; b=2", [b"a=1; b=2"]),
        (b"jwt=X; b=2", [b"b=2"]),
        (b"a=1;  b=jwt", [b"a=1;  b=jwt"]),
    ],
)
def test_jws_leaves_the_cookies(value: bytes, expected: list[bytes]) -> None:
    """That one cookie; the header goes with the last one."""
    _, headers = stripped(Source("cookie", "jwt"), b"/", ((b"Cookie", value),))
    assert [kept for _, kept in headers] == expected


def test_jws_leaves_all_its_places() -> None:
    """Another scheme's header stays."""
    source = Source("header", "Authorization", "Bearer", (Source("header", "jwt"),))
    basic = (b"authorization", b"Basic eDp5")
    assert stripped(source, b"/", (basic, (b"JWT", b"X"), (b"Authorization", b"bearer X"))) == (b"/", (basic,))


# Where it may be


PLACES = Source(
    "header", "Authorization", "Bearer", (Source("header", "jwt"), Source("query", "jwt"), Source("cookie", "jwt"))
)


def found(source: Source, *headers: tuple[bytes, bytes], target: bytes = b"/protected") -> bytes | Reason:
    """The value of a source, or why there is none."""
    facts = request_with(None)
    try:
        facts = type(facts)(facts.method, target, (*facts.headers, *headers))
        return single_value(facts, source, Reason.JWS_MISSING, Reason.JWS_REPEATED)
    except Rejection as rejection:
        return rejection.reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"jwt=X", b"X"),
        (b"a=1; jwt=X;b=2", b"X"),
        (b"a=jwt", Reason.JWS_MISSING),
        (b"jwt=", Reason.JWS_MISSING),
        (b"jwt=X; jwt=Y", Reason.JWS_REPEATED),
        (b"jwt=X; JWT=Y", Reason.REQUEST_UNSAFE),
        (b"JWT=Y", Reason.REQUEST_UNSAFE),
        (b"jwt=X; jwt =Y", Reason.REQUEST_UNSAFE),
        (b"jwt=X; a=b,jwt=Y", Reason.REQUEST_UNSAFE),
        (b"jwt=X; jwt", Reason.REQUEST_UNSAFE),
    ],
)
def test_cookie(value: bytes, expected: bytes | Reason) -> None:
    """One cookie of that name, and none that a server might take for it."""
    assert found(Source("cookie", "jwt"), (b"Cookie", value)) == expected


def test_cookie_in_a_second_header() -> None:
    """HTTP/2 clients send several Cookie fields."""
    assert found(Source("cookie", "jwt"), (b"cookie", b"a=1"), (b"cookie", b"jwt=X")) == b"X"
    assert found(Source("cookie", "jwt"), (b"cookie", b"jwt=X"), (b"cookie", b"jwt=X")) == Reason.JWS_REPEATED


@pytest.mark.parametrize(
    ("headers", "target", "expected"),
    [
        ([(b"Authorization", b"Bearer X")], b"/", b"X"),
        ([(b"jwt", b"X")], b"/", b"X"),
        ([], b"/?jwt=X", b"X"),
        ([(b"Cookie", b"jwt=X")], b"/", b"X"),
        ([(b"Authorization", b"Basic X"), (b"jwt", b"X")], b"/", b"X"),
        ([], b"/", Reason.JWS_MISSING),
        ([(b"jwt", b"X")], b"/?jwt=X", Reason.JWS_REPEATED),
        ([(b"Cookie", b"jwt=X"), (b"Authorization", b"Bearer X")], b"/", Reason.JWS_REPEATED),
        ([(b"jwt", b"X"), (b"jwt", b"X")], b"/", Reason.JWS_REPEATED),
        ([(b"jwt", b"X"), (b"Cookie", b"JWT=X")], b"/", Reason.REQUEST_UNSAFE),
        ([(b"jwt", b"X")], b"/?jwt[]=X", Reason.REQUEST_UNSAFE),
    ],
)
def test_exactly_one_of_several_places(
    headers: list[tuple[bytes, bytes]], target: bytes, expected: bytes | Reason
) -> None:
    """Whichever it is; look-alikes in the others are refused too."""
    assert found(PLACES, *headers, target=target) == expected


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ("upstream: {claims: {X_Sub: sub}}", "upstream.claims.X_Sub", "is no name for a header of ours"),
        ("upstream: {claims: {Host: sub}}", "upstream.claims.Host", "is a header with a meaning of its own"),
        ("upstream: {application: Sec-App}", "upstream.application", "is a header with a meaning of its own"),
        ("upstream: {claims: {X-A: sub}, client_id: x-a}", "upstream", "adds the header x-a twice"),
        ("upstream: {claims: {X-A: sub}}, respond: claims", "upstream", "does nothing on a route that answers itself"),
        (
            "jws: {detached: true}, upstream: {claims: {X-A: sub}}",
            "upstream.claims",
            "cannot be had from a detached JWS, which has no claims",
        ),
        ("jws: {header: a, also: [{header: A}]}", "jws", "names a place twice"),
        ("jws: {header: a, also: [{scheme: b}]}", "jws", "lists a place that is none"),
        ("jws: {cookie: a, scheme: b}", "jws", "has a scheme for a cookie"),
        ("jws: {cookie: a, query: b}", "jws", "names a query parameter and a cookie"),
    ],
)
def test_mistakes(more: str, path: str, message: str) -> None:
    """Each is told at its place."""
    (problem,) = policy_problems(f"routes:\n  - {{path: /a, {more}}}\n")
    assert (f"routes[0].{path}", message) == (problem.path, problem.message)
    assert problem.remedy


def test_route_and_defaults_do_not_fit() -> None:
    """Two headers of one name, one from each."""
    text = "defaults: {upstream: {claims: {X-A: sub}}}\nroutes:\n  - {path: /a, upstream: {client_id: X-A}}\n"
    (problem,) = policy_problems(text)
    assert (
        problem.path, problem.message,
    ) == ("routes[0].upstream", "does not fit the defaults: adds the header x-a twice")  # fmt: skip
