"""Replay protection in memory: each use once, forgotten when it may be, and bounded."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_material import NOW
from jwsgate.core.portal import ClientId
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.replay import REMEMBER_SECONDS, MemoryReplayStore, ReplayKey, ReplayStore, StoreFull, check_replay

CLIENT, OTHER = ClientId("client"), ClientId("other")


def key(jti: str = "one", client_id: ClientId = CLIENT, expires: float = NOW + 60) -> ReplayKey:
    """A use of a JWS."""
    return ReplayKey(client_id, jti, expires)


def first(store: MemoryReplayStore, used: ReplayKey, now: float = NOW) -> bool | str:
    """Whether it is the first use, or "full"."""
    try:
        return asyncio.run(store.first_use(used, now))
    except StoreFull:
        return "full"


def verdict(store: ReplayStore, used: ReplayKey, now: float = NOW) -> Reason | None:
    """Why `check_replay` refuses; None when it lets through."""
    try:
        asyncio.run(check_replay(store, used, now))
    except Rejection as rejection:
        return rejection.reason
    return None


def assert_consistent(store: MemoryReplayStore) -> None:
    """The two sides of the store tell of the same uses, and nothing empty is left behind."""
    by_client = Counter((client_id, jti, end) for client_id, uses in store._seen.items() for jti, end in uses.items())
    by_end = Counter((client_id, jti, end) for end, client_id, jti in store._ends)
    assert by_client == by_end
    assert len(store) == by_end.total()
    assert all(store._seen.values())
    ends = [end for end, _, _ in store._ends]
    assert all(ends[(at - 1) // 2] <= ends[at] for at in range(1, len(ends))), "not a heap"


def test_first_and_later_uses() -> None:
    """The first use passes, each later one does not."""
    store = MemoryReplayStore()
    assert [first(store, key()) for _ in range(4)] == [True, False, False, False]
    assert len(store) == 1


def test_each_jti_and_each_client_for_itself() -> None:
    """Two clients may choose the same jti, and one client any number of them."""
    store = MemoryReplayStore()
    uses = [key(), key(client_id=OTHER), key("two"), key("ONE"), key("one ")]
    assert [first(store, each) for each in uses] == [True] * 5
    assert [first(store, each) for each in uses] == [False] * 5


def test_same_jti_with_another_end_is_the_same_use() -> None:
    """A client that gives one jti to two JWS has used it, whichever ends later."""
    store = MemoryReplayStore()
    assert first(store, key(expires=NOW + 60)) is True
    assert first(store, key(expires=NOW + 600)) is False
    assert first(store, key(expires=NOW + 6)) is False


def test_known_until_its_end_and_freed_then() -> None:
    """A use is known as long as its JWS holds on any route, whatever its leeway, and is forgotten then."""
    store = MemoryReplayStore()
    assert first(store, key(expires=NOW + 60), NOW) is True
    assert first(store, key(expires=NOW + 60), NOW + 59.999) is False
    assert first(store, key(expires=NOW + 60), NOW + 60 + REMEMBER_SECONDS - 0.001) is False
    assert first(store, key("two", expires=NOW + 99999), NOW + 60 + REMEMBER_SECONDS) is True
    assert len(store) == 1
    assert_consistent(store)


@pytest.mark.parametrize("late", [0, 0.001, 1, 10**6])
def test_use_at_or_after_the_end_is_refused(late: float) -> None:
    """Between the decision on the headers and the end of the body a JWS can expire.

    The store has then forgotten its first use, or is about to: such a use must be refused, not taken for the first.
    """
    store = MemoryReplayStore()
    assert verdict(store, key(expires=NOW + 60), NOW) is None
    assert verdict(store, key(expires=NOW + 60), NOW + 60 + late) in {Reason.JWS_REPLAYED, Reason.JWS_EXPIRED}
    assert verdict(store, key("fresh", expires=NOW + 60), NOW + 60 + late) in {Reason.JWS_REPLAYED, Reason.JWS_EXPIRED}


def test_verdicts() -> None:
    """`check_replay` lets the first use through and rejects the second."""
    store = MemoryReplayStore()
    assert [verdict(store, key()) for _ in range(2)] == [None, Reason.JWS_REPLAYED]


def test_full_store_refuses() -> None:
    """What cannot be remembered is not let through; what is remembered stays refused; room comes back with time."""
    store = MemoryReplayStore(max_entries=3)
    clients = [ClientId(str(number)) for number in range(5)]
    assert [first(store, key(client_id=each, expires=NOW + 60)) for each in clients] == [True] * 3 + ["full"] * 2
    assert verdict(store, key(client_id=clients[4])) == Reason.JWS_REPLAYED
    assert verdict(store, key(client_id=clients[0])) == Reason.JWS_REPLAYED
    assert first(store, key(client_id=clients[0])) is False
    assert len(store) == 3
    assert_consistent(store)
    assert first(store, key(client_id=clients[4], expires=NOW + 9000), NOW + 60 + REMEMBER_SECONDS) is True
    assert_consistent(store)


def test_one_client_cannot_crowd_out_others() -> None:
    """With its own share used up, a client is refused, and the next one is not."""
    store = MemoryReplayStore(max_entries=10, max_entries_per_client=3)
    assert [first(store, key(str(number))) for number in range(5)] == [True] * 3 + ["full"] * 2
    assert [first(store, key(str(number), OTHER)) for number in range(5)] == [True] * 3 + ["full"] * 2
    assert verdict(store, key("5")) == Reason.JWS_REPLAYED
    assert len(store) == 6
    assert_consistent(store)


def test_share_comes_back_with_time() -> None:
    """As the uses of a client end, it may make new ones."""
    store = MemoryReplayStore(max_entries_per_client=2)
    assert first(store, key("a", expires=NOW + 10)) is True
    assert first(store, key("b", expires=NOW + 20)) is True
    assert first(store, key("c", expires=NOW + 30)) == "full"
    later = NOW + REMEMBER_SECONDS
    assert first(store, key("c", expires=later + 30), later + 10) is True
    assert first(store, key("d", expires=later + 40), later + 11) == "full"
    assert first(store, key("b", expires=NOW + 20), later + 11) is False


@pytest.mark.parametrize(("entries", "per_client"), [(0, 10), (10, 0)], ids=["none-at-all", "none-per-client"])
def test_bound_of_nothing_refuses_all(entries: int, per_client: int) -> None:
    """A store without room lets nothing through."""
    store = MemoryReplayStore(entries, per_client)
    assert verdict(store, key()) == Reason.JWS_REPLAYED
    assert len(store) == 0
    assert_consistent(store)


def test_of_many_at_once_one_is_first() -> None:
    """Concurrent uses in one event loop: exactly one is the first."""

    async def race() -> list[bool]:
        store = MemoryReplayStore()
        return await asyncio.gather(*(store.first_use(key(), NOW) for _ in range(100)))

    assert Counter(asyncio.run(race())) == {True: 1, False: 99}


@pytest.mark.parametrize("exception", [RuntimeError, ConnectionError, TimeoutError, ValueError])
def test_exception_of_a_store_is_not_swallowed(exception: type[Exception]) -> None:
    """A store that fails is no first use: the exception goes on to the addon, which denies."""

    class Failing:
        async def first_use(self, _key: ReplayKey, _now: float) -> bool:
            raise exception

    with pytest.raises(exception):
        verdict(Failing(), key())


def test_memory_of_a_full_store() -> None:
    """The default bounds are ones of memory too: a full store takes some hundred octets for each use."""
    store = MemoryReplayStore()

    async def fill() -> None:
        for number in range(5000):
            client = ClientId(f"479b3df9-380e-4bda-8cc1-{number % 100:012d}")
            await store.first_use(ReplayKey(client, f"{number:064x}", NOW + number), NOW - 1)

    tracemalloc.start()
    asyncio.run(fill())
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(store) == 5000
    assert taken / 5000 < 600


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 8),
    st.integers(0, 5),
    st.lists(
        st.tuples(st.integers(-3, 6), st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 12)),
        max_size=50,
    ),
)
def test_like_a_plain_set_of_uses(max_entries: int, per_client: int, steps: list[tuple[int, str, str, int]]) -> None:
    """Against a model without heap or nesting, with a clock that also goes back: the same answers, the same bounds."""
    store = MemoryReplayStore(max_entries, per_client)
    model: dict[tuple[str, str], float] = {}
    now = float(NOW)
    for delta, client, jti, lifetime in steps:
        now += delta
        used = key(jti, ClientId(client), now + lifetime)
        model = {use: end for use, end in model.items() if end > now}
        expected: bool | str
        if (client, jti) in model:
            expected = False
        elif len(model) >= max_entries or sum(owner == client for owner, _ in model) >= per_client:
            expected = "full"
        else:
            expected = True
            model[client, jti] = used.expires + REMEMBER_SECONDS
        assert first(store, used, now) == expected
        assert len(store) == len(model) <= max_entries
        assert {(client, jti): end for client, uses in store._seen.items() for jti, end in uses.items()} == model
        assert_consistent(store)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("xy"), st.integers(0, 12)), max_size=40))
def test_no_use_passes_twice_while_the_clock_goes_on(steps: list[tuple[int, str, int]]) -> None:
    """Whenever a JWS is presented, within its time or after it, it passes at most once."""
    store = MemoryReplayStore()
    now = float(NOW)
    passed: Counter[tuple[str, float]] = Counter()
    for delta, jti, end in steps:
        now += delta
        used = key(jti, expires=NOW + end)
        if verdict(store, used, now) is None:
            passed[jti, used.expires] += 1
            assert now < used.expires
    assert all(count == 1 for count in passed.values())


def test_no_second_use_on_a_more_lenient_route() -> None:
    """The same JWS ends later where a route gives it leeway; its use on the strict route is known until then."""
    store = MemoryReplayStore()
    assert verdict(store, key(expires=NOW + 60), NOW) is None
    assert verdict(store, key(expires=NOW + 60 + 3600), NOW + 61) == Reason.JWS_REPLAYED
    assert verdict(store, key(expires=NOW + 60 + 3600), NOW + 60 + 3599) == Reason.JWS_REPLAYED
