"""The cache of verified JWS: bounded, and never the reason for another decision."""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import material
from feature_material import (
    CLIENT_ID,
    NOW,
    OTHER_CLIENT_ID,
    a_request,
    a_route,
    a_snapshot,
    an_application,
    certificate_for,
    detached,
    good_claims,
    issue,
    reason_of,
)
from jwsgate.core import decision as decision_module
from jwsgate.core.bindings import Bindings, BodyDigest
from jwsgate.core.claims import ClaimRules
from jwsgate.core.client_certificate import ClientCertificate
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, JwsCache, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import NarrowedRoutes, Route, Sign
from jwsgate.core.portal import Portal
from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source
from jwsgate.core.trust import ChainState, Trust
from jwsgate.core.verified_cache import VerifiedCache

KEY, NEXT_KEY = material.private_key("ed25519", "feature-client"), material.private_key("ed25519", "feature-next")
OVERHEAD = 2048


# Bounds


@dataclass(frozen=True)
class Sized:
    """An entry of a given size."""

    octets: int


def size_of(key: int) -> int:
    """Each key's entry always has the same size, as the text of a JWS is part of its key."""
    return (key * 7919) % 9000


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 6),
    st.integers(0, 40_000),
    st.lists(st.tuples(st.sampled_from(["put", "put", "get", "discard"]), st.integers(0, 12)), max_size=60),
)
def test_bounds_are_never_exceeded(max_entries: int, max_octets: int, steps: list[tuple[str, int]]) -> None:
    """After every step both bounds hold, the octets are those of what is kept, and the oldest went first."""
    cache = VerifiedCache[int, Sized](max_entries, max_octets)
    model: OrderedDict[int, Sized] = OrderedDict()
    for action, key in steps:
        entry = Sized(size_of(key))
        if action == "put":
            cache.put(key, entry)
            if max_entries and entry.octets + OVERHEAD <= max_octets:
                model.pop(key, None)
                model[key] = entry
                while len(model) > max_entries or sum(e.octets + OVERHEAD for e in model.values()) > max_octets:
                    model.popitem(last=False)
        elif action == "discard":
            cache.discard(key)
            model.pop(key, None)
        assert {k: cache.get(k) for k in range(13) if cache.get(k) is not None} == dict(model)
        assert len(cache) == len(model) <= max_entries
        assert cache.octets == sum(each.octets + OVERHEAD for each in model.values()) <= max_octets


def test_newest_entry_is_kept() -> None:
    """What was put in last is there, as long as it fits at all."""
    cache = VerifiedCache[int, Sized](2, 3 * OVERHEAD)
    for key in range(20):
        cache.put(key, Sized(0))
        assert cache.get(key) == Sized(0)
    assert (len(cache), cache.octets) == (2, 2 * OVERHEAD)
    cache.put(99, Sized(3 * OVERHEAD))
    assert (cache.get(99), len(cache)) == (None, 2)


@pytest.mark.parametrize(
    ("max_entries", "max_octets"), [(0, 1 << 20), (10, 0), (10, OVERHEAD - 1)], ids=["entries", "octets", "overhead"]
)
def test_switched_off(max_entries: int, max_octets: int) -> None:
    """A bound of nothing keeps nothing, and decisions are made all the same."""
    cache: JwsCache = VerifiedCache(max_entries, max_octets)
    snapshot, request = good_pair()
    for _ in range(3):
        assert reason_of(decide(snapshot, request, NOW, cache)) == "allowed"
    assert (len(cache), cache.octets) == (0, 0)


def test_bounds_under_a_flood() -> None:
    """Many good JWS of one client, of very different sizes, do not get the cache over its bounds."""
    cache: JwsCache = VerifiedCache(30, 200_000)
    snapshot = a_snapshot([an_application(certificate_for(KEY))])
    for number in range(200):
        token = material.jws(KEY, good_claims(jti=number, pad="x" * (number * 997 % 9000)))
        assert reason_of(decide(snapshot, a_request(token), NOW, cache)) == "allowed"
        assert len(cache) <= 30
        assert cache.octets <= 200_000


PAYLOADS = {
    "short": b"1",
    "text": b'"' + b"a" * 11_000 + b'"',
    "wide-text": '"\U0001f600'.encode() + b"a" * 11_000 + b'"',
    "empty-lists": b"[" + b",".join([b"[]"] * 3800) + b"]",
    "empty-objects": b"[" + b",".join([b"{}"] * 3800) + b"]",
    "small-objects": b"[" + b",".join([b'{"":0}'] * 1600) + b"]",
    "many-members": b"{" + b",".join(b'"%x":0' % n for n in range(1400)) + b"}",
    "floats": b"[" + b",".join([b"1.5"] * 2800) + b"]",
}


@pytest.mark.parametrize("bindings", [None, Bindings(method="htm")], ids=["plain", "bound"])
@pytest.mark.parametrize("claim", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_bound_in_octets_is_one_of_memory(claim: bytes, bindings: Bindings | None) -> None:
    """Whatever a client signs, the memory behind an entry is not more than what is reckoned for it.

    Claims of many small parts take far more memory than their text; they are kept where bindings are to be checked.
    """
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(bindings=bindings))
    requests = [
        a_request(material.jws(KEY, payload=b'{"htm":"GET","exp":%d,"n":%d,"x":%s}' % (NOW + 600, number, claim)))
        for number in range(20)
    ]
    cache: JwsCache = VerifiedCache()
    assert reason_of(decide(snapshot, requests[0], NOW)) == "allowed"
    gc.collect()
    tracemalloc.start()
    for request in requests:
        decide(snapshot, request, NOW, cache)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(cache) in {0, len(requests)}
    # A tenth more for what the first use of anything costs.
    assert taken <= cache.octets * 1.1 + 20_000


# When an entry counts


def good_pair(route: Route | None = None, **claims: Any) -> tuple[Snapshot, RequestFacts]:
    """A snapshot, and a request that it allows."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], route or a_route())
    return snapshot, a_request(material.jws(KEY, good_claims(**claims)))


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows by one with each signature that is verified."""
    seen: list[int] = []
    verify = decision_module.verify

    def counting(*args: Any) -> None:
        seen.append(1)
        verify(*args)

    monkeypatch.setattr(decision_module, "verify", counting)
    yield seen


def test_second_use_verifies_nothing(verifications: list[int]) -> None:
    """The point of the cache: the same request again costs no signature, and gives the same decision."""
    snapshot, request = good_pair()
    cache: JwsCache = VerifiedCache()
    first = decide(snapshot, request, NOW, cache)
    second = decide(snapshot, request, NOW + 1, cache)
    assert first == second
    assert (len(verifications), len(cache)) == (1, 1)


def test_white_space_around_a_jws_makes_no_second_entry(verifications: list[int]) -> None:
    """The one JWS has the one entry, however it is padded on the wire."""
    snapshot, _ = good_pair()
    cache: JwsCache = VerifiedCache()
    token = material.jws(KEY, good_claims())
    for text in (token, f" {token}", f"{token}\t "):
        assert reason_of(decide(snapshot, a_request(text), NOW, cache)) == "allowed"
    assert (len(verifications), len(cache)) == (1, 1)


@pytest.mark.parametrize("leeway", [0, 30])
def test_times_are_asked_at_each_use(leeway: int) -> None:
    """A kept JWS ends at exp and begins at iat and nbf, to the moment, also when the clock goes back."""
    snapshot, request = good_pair(a_route(claims=ClaimRules(leeway=leeway)), nbf=NOW - 5, exp=NOW + 60)
    cache: JwsCache = VerifiedCache()
    end, start = NOW + 60 + leeway, NOW - leeway
    expected = [
        (NOW, "allowed"),
        (end - 0.001, "allowed"),
        (end, Reason.JWS_EXPIRED),
        (end + 1e6, Reason.JWS_EXPIRED),
        (start, "allowed"),
        (start - 0.001, Reason.JWS_NOT_YET_VALID),
        (NOW, "allowed"),
    ]
    for now, reason in expected:
        assert reason_of(decide(snapshot, request, now, cache)) == reason
        assert reason_of(decide(snapshot, request, now)) == reason


def test_only_what_passed_is_kept() -> None:
    """Refused JWS leave nothing behind, so that they cannot crowd out good ones."""
    snapshot, _ = good_pair()
    cache: JwsCache = VerifiedCache()
    stranger = material.private_key("ed25519", "feature-stranger")
    for token in (
        material.jws(stranger, good_claims()),
        material.jws(KEY, good_claims(exp=NOW)),
        material.jws(KEY, {"iat": NOW}),
        material.jws(KEY, payload=b"[]"),
        material.jws(KEY, good_claims()) + "=",
        "a.b.c",
    ):
        assert reason_of(decide(snapshot, a_request(token), NOW, cache)) != "allowed"
        assert reason_of(decide(snapshot, a_request(token), NOW, cache)) != "allowed"
    assert (len(cache), cache.octets) == (0, 0)


def test_one_changed_character_is_another_jws() -> None:
    """No changed spelling of a kept JWS is ever found under its entry."""
    snapshot, _ = good_pair()
    token = material.jws(KEY, good_claims())
    cache: JwsCache = VerifiedCache()
    assert reason_of(decide(snapshot, a_request(token), NOW, cache)) == "allowed"
    for position in (0, 5, token.index("."), token.index(".") + 3, token.rindex(".") + 1, len(token) - 1):
        by = "A" if token[position] == "." else None
        found = reason_of(decide(snapshot, a_request(material.altered(token, position, by)), NOW, cache))
        assert found in {Reason.JWS_MALFORMED, Reason.SIGNATURE_MISMATCH}


def test_kept_for_one_client_id_only() -> None:
    """A JWS kept for one client ID is verified anew for another, whose claims or certificate may not fit."""
    route = a_route(claims=ClaimRules(client_id_claim="azp"))
    mine = an_application(certificate_for(KEY), client_ids=(CLIENT_ID, "second"))
    theirs = an_application(certificate_for(NEXT_KEY, "theirs"), client_ids=(OTHER_CLIENT_ID,))
    snapshot = a_snapshot([mine, theirs], route)
    token = material.jws(KEY, good_claims(azp=CLIENT_ID))
    cache: JwsCache = VerifiedCache()
    expected = {CLIENT_ID: "allowed", "second": Reason.CLAIM_MISMATCH, OTHER_CLIENT_ID: Reason.SIGNATURE_MISMATCH}
    for _ in range(2):
        for client_id, reason in expected.items():
            assert reason_of(decide(snapshot, a_request(token, client_id=client_id), NOW, cache)) == reason


def test_kept_for_one_route_only() -> None:
    """A JWS kept on a lax route does not pass on a strict one."""
    routes = [
        a_route("/lax"),
        a_route("/required", claims=ClaimRules(required=("exp", "order"))),
        a_route("/issuer", claims=ClaimRules(issuer=("other",))),
        a_route("/algorithm", algorithms=frozenset({"ES256"})),
        a_route("/size", max_jws_octets=40),
        a_route("/once", single_use=True),
        a_route("/detached", detached=True),
        a_route("/lifetime", claims=ClaimRules(max_lifetime=10)),
    ]
    snapshot = a_snapshot([an_application(certificate_for(KEY))], *routes)
    token = material.jws(KEY, good_claims())
    cache: JwsCache = VerifiedCache()
    for _ in range(2):
        found = [
            reason_of(decide(snapshot, a_request(token, target=b"/" + route.name.split()[0][1:].encode()), NOW, cache))
            for route in routes
        ]
        assert found == [
            "allowed",
            Reason.CLAIM_MISSING,
            Reason.CLAIM_MISMATCH,
            Reason.ALGORITHM_NOT_ALLOWED,
            Reason.JWS_TOO_LARGE,
            Reason.CLAIM_MISSING,
            Reason.JWS_MALFORMED,
            Reason.CLAIM_MISMATCH,
        ]


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.text("a.\n", max_size=3).map(str.encode)] * 2), min_size=2, max_size=2, unique=True))
def test_no_two_share_a_key(pairs: list[tuple[bytes, bytes]]) -> None:
    """JWS and client ID are told apart wherever one ends; what cannot be a JWS has no key that anything is kept by."""
    route = a_route(jws=Source("query", "jws"))  # where a value can hold a line break
    keys = []
    for text, raw in pairs:
        if text:
            target = b"/?jws=" + quote_from_bytes(text).encode()
            sent, key = decision_module._text_and_key(route, raw, RequestFacts("GET", target, ()))
            assert sent == text
            assert bool(key) is (b"\n" not in text)
            keys += [key] if key else []
    assert len(set(keys)) == len(keys)


def test_bindings_are_checked_at_each_use() -> None:
    """A kept JWS made for one method, path and body is refused for others."""
    bindings = Bindings(method="htm", path="p", body=BodyDigest("d"))
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(bindings=bindings))
    token = material.jws(KEY, good_claims(htm="PUT", p="/a", d="x"))
    cache: JwsCache = VerifiedCache()
    expected = {
        ("PUT", b"/a"): "awaits body",
        ("GET", b"/a"): "no",
        ("PUT", b"/b"): "no",
        ("PUT", b"/a?q"): "awaits body",
    }
    for _ in range(2):
        for (method, target), reason in expected.items():
            found = reason_of(decide(snapshot, a_request(token, method=method, target=target), NOW, cache))
            assert found == (Reason.BINDING_MISMATCH if reason == "no" else reason)
    assert len(cache) == 1


def test_single_use_is_asked_at_each_use() -> None:
    """The cache remembers that a JWS is good, and so not that it is unused: each hit names the use again."""
    snapshot, request = good_pair(a_route(single_use=True), jti="one")
    cache: JwsCache = VerifiedCache()
    keys = []
    for _ in range(3):
        allowed = decide(snapshot, request, NOW, cache)
        assert isinstance(allowed, Allowed)
        keys.append(allowed.replay)
    assert keys[0] is not None
    assert keys == [keys[0]] * 3


def test_detached_jws_is_not_kept() -> None:
    """What signs a body is nothing without it."""
    snapshot = a_snapshot([an_application(certificate_for(KEY))], a_route(detached=True))
    cache: JwsCache = VerifiedCache()
    assert reason_of(decide(snapshot, a_request(detached(KEY, b"x")), NOW, cache)) == "awaits body"
    assert len(cache) == 0


def test_certificate_and_trust_are_asked_at_each_use() -> None:
    """A kept JWS falls with its certificate: when that expires, and when its chain or revocation list does."""
    certificate = certificate_for(KEY, "short", -1, 1)
    thumbprint = certificate.registered().thumbprint
    cache: JwsCache = VerifiedCache()
    request = a_request(material.jws(KEY, {"exp": NOW + 10**6}))
    plain = a_snapshot([an_application(certificate)])
    trust = Trust({thumbprint: ChainState(None, NOW - 10, NOW + 10)})
    trusting = a_snapshot([an_application(certificate)], a_route(trust=trust))
    for snapshot, now, expected in (
        (plain, NOW, "allowed"),
        (plain, NOW + 86_401, Reason.CERTIFICATE_EXPIRED),
        (plain, NOW - 86_401, Reason.CERTIFICATE_NOT_YET_VALID),
        (trusting, NOW, "allowed"),
        (trusting, NOW + 10, "allowed"),
        (trusting, NOW + 10.001, Reason.CERTIFICATE_UNUSABLE),
        (trusting, NOW - 10.001, Reason.CERTIFICATE_UNUSABLE),
        (trusting, NOW, "allowed"),
    ):
        assert reason_of(decide(snapshot, request, now, cache)) == expected


def test_renewed_certificate_over_the_same_key() -> None:
    """A JWS kept under the old certificate passes under the renewed one; the one named is always good at the time."""
    old, renewed = certificate_for(KEY, "old", -30, 1), certificate_for(KEY, "renewed", -1, 90)
    snapshot = a_snapshot([an_application(old, renewed)])
    request = a_request(material.jws(KEY, {"exp": NOW + 10**7}))
    cache: JwsCache = VerifiedCache()
    for days in (0, 0.5, 2, 80, 0):
        now = NOW + days * 86_400
        allowed = decide(snapshot, request, now, cache)
        assert isinstance(allowed, Allowed)
        assert allowed.certificate is not None
        assert allowed.certificate.not_before <= now <= allowed.certificate.not_after


def test_portal_is_asked_anew_when_it_is_another() -> None:
    """An entry counts under the portal that it was made with, even where a route were to outlive it."""
    snapshot, request = good_pair()
    cache: JwsCache = VerifiedCache()
    for applications, expected in (
        ([an_application(certificate_for(KEY))], "allowed"),
        ([an_application(certificate_for(KEY), enabled=False)], Reason.APPLICATION_DISABLED),
        ([an_application(certificate_for(NEXT_KEY))], Reason.SIGNATURE_MISMATCH),
        ([an_application()], Reason.CERTIFICATE_MISSING),
        ([], Reason.CLIENT_ID_UNKNOWN),
    ):
        assert reason_of(decide(snapshot, request, NOW, cache)) == "allowed"
        other = replace(snapshot, portal=Portal(tuple(applications)))
        assert reason_of(decide(other, request, NOW, cache)) == expected


def test_only_where_nothing_else_counts() -> None:
    """Routes on which a kept JWS is not enough have every request go the whole way."""
    certificate = certificate_for(KEY)
    trust = Trust({certificate.registered().thumbprint: ChainState(None, NOW - 10, NOW + 10)})
    narrowed = NarrowedRoutes({}, ())
    assert all(a_route(**how).remembers for how in ({}, {"single_use": True}, {"report": True}, {"websocket": True}))
    for how in (
        {"bindings": Bindings(method="htm")},
        {"trust": trust},
        {"client_certificate": ClientCertificate()},
        {"narrowed": narrowed},
        {"detached": True},
        {"open": True},
        {"action": Sign(SimpleNamespace(), "ES256", "tvo", "the world")},  # type: ignore[arg-type]
    ):
        assert not a_route(**how).remembers, how  # type: ignore[arg-type]


def test_use_is_remembered_for_as_long_as_the_jws_lives() -> None:
    """Not only until the end of the certificate, which may be renewed over the same key."""
    snapshot = a_snapshot([an_application(certificate_for(KEY, "short", -1, 1))], a_route(single_use=True))
    allowed = decide(snapshot, a_request(material.jws(KEY, {"exp": NOW + 10**7, "jti": "one"})), NOW)
    assert isinstance(allowed, Allowed)
    assert allowed.replay is not None
    assert allowed.replay.expires == NOW + 10**7
    assert allowed.end < NOW + 10**6


# The cache never changes a decision

KEYS = {"a": KEY, "b": NEXT_KEY, "rsa": material.private_key("rsa", "feature-client")}
CERTIFICATES = {
    "a": issue("a", key=KEYS["a"], start=NOW - 100, end=NOW + 60),
    "b": issue("b", key=KEYS["b"], start=NOW - 20, end=NOW + 200),
    "rsa": issue("rsa", key=KEYS["rsa"], start=NOW - 300, end=NOW + 300),
}


def _tokens() -> list[str]:
    times: list[dict[str, Any]] = [
        {"exp": NOW + 50, "iat": NOW},
        {"exp": NOW + 100, "nbf": NOW + 10},
        {"exp": NOW + 50.5, "jti": "one", "htm": "PUT"},
        {"exp": NOW + 40, "iat": NOW - 10, "azp": CLIENT_ID, "jti": "two"},
        {"iat": NOW - 5, "htm": "GET"},
    ]
    return [material.jws(key, claims) for key in KEYS.values() for claims in times]


TOKENS = _tokens()
TIMES = sorted(
    NOW + base + offset
    for base in (-100, -20, -10, -5, 0, 10, 40, 45, 50, 50.5, 60, 100, 105, 200)
    for offset in (-0.5, 0, 0.5)
)

ROUTES: dict[str, dict[str, Any]] = {
    "plain": {},
    "leeway": {"claims": ClaimRules(leeway=5)},
    "nothing-required": {"claims": ClaimRules(required=())},
    "azp": {"claims": ClaimRules(client_id_claim="azp")},
    "once": {"single_use": True},
    "bound": {"bindings": Bindings(method="htm")},
    "body": {"bindings": Bindings(body=BodyDigest("jti"))},
    "ps256": {"algorithms": frozenset({"PS256", "EdDSA"})},
    "short": {"claims": ClaimRules(max_lifetime=50)},
}


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A gate's files: who is registered with which certificates, enabled or not, and what two paths demand."""
    applications = []
    for client_ids in ((CLIENT_ID, "second"), (OTHER_CLIENT_ID,)):
        names = draw(st.lists(st.sampled_from(sorted(CERTIFICATES)), unique=True))
        applications.append(
            an_application(
                *(CERTIFICATES[name] for name in names),
                client_ids=client_ids,
                enabled=draw(st.integers(0, 4)) > 0,
                algorithms=draw(st.sampled_from([None, None, {"EdDSA"}, {"RS256"}])),
            )
        )
    trust = None
    if draw(st.booleans()):
        trust = Trust(
            {
                each.registered().thumbprint: draw(
                    st.sampled_from(
                        [ChainState(None, NOW - 50, NOW + 45), ChainState(None, NOW, NOW + 100), ChainState("is bad")]
                    )
                )
                for each in CERTIFICATES.values()
            }
        )
    demands = [dict(ROUTES[draw(st.sampled_from(sorted(ROUTES)))]) for _ in range(2)]
    return a_snapshot(
        applications, a_route("/one", trust=trust, **demands[0]), a_route("/two", ["GET", "PUT"], **demands[1])
    )


def requests() -> st.SearchStrategy[RequestFacts]:
    """A request: any JWS, any client ID, any of two paths."""
    return st.builds(
        lambda token, client_id, method, target: a_request(token, client_id=client_id, method=method, target=target),
        st.sampled_from(TOKENS),
        st.sampled_from([CLIENT_ID, CLIENT_ID, OTHER_CLIENT_ID, "second", "nobody"]),
        st.sampled_from(["GET", "PUT"]),
        st.sampled_from([b"/one", b"/two", b"/one?x"]),
    )


def told(decision: Decision) -> object:
    """A decision in full, so that any difference shows."""
    if isinstance(decision, Allowed):
        return decision, decision.payload, dict(decision.claims), decision.added
    if isinstance(decision, AwaitsBody) and decision.but_body is not None:
        return decision.route, decision.application, decision.certificates, told(decision.but_body)
    return decision


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_cache_never_changes_a_decision(data: st.DataObject) -> None:
    """Whatever is asked in whatever order, while files are exchanged and the clock jumps: as without a cache."""
    cache: JwsCache = VerifiedCache(data.draw(st.sampled_from([1, 2, 5, 100])), 1 << 20)
    loaded = data.draw(st.lists(snapshots(), min_size=1, max_size=3))
    snapshot, now = loaded[0], float(NOW)
    asked: list[RequestFacts] = []
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["ask", "ask", "again", "time", "swap"])):
            case "time":
                now = data.draw(st.sampled_from(TIMES))
                continue
            case "swap":
                snapshot = data.draw(st.sampled_from(loaded))
                continue
            case "again" if asked:
                request = data.draw(st.sampled_from(asked))
            case _:
                request = data.draw(requests())
        asked.append(request)
        assert told(decide(snapshot, request, now, cache)) == told(decide(snapshot, request, now))


def test_property_meets_hits_and_refusals(verifications: list[int]) -> None:
    """The material of the property above does both: it allows often, from the cache too, and refuses often."""
    applications = [an_application(*CERTIFICATES.values())]
    snapshot = a_snapshot(applications, a_route("/one", claims=ClaimRules(leeway=5)))
    cache: JwsCache = VerifiedCache()
    found = [
        reason_of(decide(snapshot, a_request(token, target=b"/one"), now, cache)) for now in TIMES for token in TOKENS
    ]
    with_cache = len(verifications)
    without = [reason_of(decide(snapshot, a_request(token, target=b"/one"), now)) for now in TIMES for token in TOKENS]
    assert found == without
    assert found.count("allowed") > 100
    assert with_cache < (len(verifications) - with_cache) * 0.9
    assert {Reason.JWS_EXPIRED, Reason.JWS_NOT_YET_VALID, Reason.SIGNATURE_MISMATCH, Reason.CLAIM_MISSING} <= set(found)
