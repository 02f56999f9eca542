"""The sealed add-on manager: whatever add-ons do, the last step comes, and no release without it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from mitmproxy import exceptions, hooks, master, options

from jwsgate.adapters import dispatch
from jwsgate.adapters.dispatch import SealedAddonManager, seal_manager


@dataclass
class PokeHook(hooks.Hook):
    """A hook of this test's own."""

    trace: list[str]


@dataclass
class PeekHook(hooks.Hook):
    """A hook that nothing comes last of."""

    trace: list[str]


class Addon:
    """Notes its turn, then does what it was given."""

    def __init__(self, name: str, act: Callable[[], Any] = lambda: None, *addons: object) -> None:
        self.name = name
        self.addons = list(addons)
        self._act = act

    def poke(self, trace: list[str]) -> Any:
        trace.append(self.name)
        return self._act()


@pytest.fixture
def manager() -> Iterator[SealedAddonManager]:
    """A sealed manager of a real master, with a last step."""
    yield sealed()


def sealed(*, fixed: bool = True) -> SealedAddonManager:
    """A sealed manager whose last step for `poke` notes that it came."""
    loop = asyncio.new_event_loop()
    the_master = master.Master(options.Options(), event_loop=loop)
    the_master._legacy_log_events.uninstall()
    loop.close()
    found = seal_manager(the_master.addons, fixed=fixed)
    found.last = {"poke": lambda trace: trace.append("last")}
    return found


def poked(manager: SealedAddonManager) -> list[str]:
    """Whose turn came, awaited where that was asked for."""
    trace: list[str] = []
    asyncio.run(manager.trigger_event(PokeHook(trace)))
    return trace


def raising(error: BaseException) -> Callable[[], Any]:
    """Something that raises."""

    def act() -> Any:
        raise error

    return act


def later(act: Callable[[], Any] = lambda: None) -> Callable[[], Awaitable[Any]]:
    """The same, only after the event loop had its turn."""

    async def wait() -> Any:
        await asyncio.sleep(0)
        return act()

    return wait


def test_order(manager: SealedAddonManager) -> None:
    """Add-ons have their turn in the order of the chain, nested ones after their parents, and then the last step."""
    manager.add(Addon("a", later(), Addon("a1"), Addon("a2", later(), Addon("a21"))), Addon("b"), Addon("c", later()))
    assert poked(manager) == ["a", "a1", "a2", "a21", "b", "c", "last"]


def test_nothing_to_wait_for_is_done_at_once(manager: SealedAddonManager) -> None:
    """With synchronous add-ons alone a hook is done without the event loop."""
    manager.add(Addon("a"), Addon("b"))
    trace: list[str] = []
    assert manager.dispatch(PokeHook(trace)) is None
    assert trace == ["a", "b", "last"]


def test_what_is_to_be_waited_for_comes_before_the_rest(manager: SealedAddonManager) -> None:
    """While an add-on is waited for, neither the next one nor the last step has its turn."""
    manager.add(Addon("a", later()), Addon("b"))
    trace: list[str] = []
    waiting = manager.dispatch(PokeHook(trace))
    assert trace == ["a"]

    async def finish() -> None:
        assert waiting is not None
        await waiting

    asyncio.run(finish())
    assert trace == ["a", "b", "last"]


def test_hooks_without_functions_cost_nothing(manager: SealedAddonManager) -> None:
    """A hook that nobody has is no work, unless something comes last of it."""
    manager.add(Addon("a"))
    assert manager.dispatch(PeekHook([])) is None
    assert poked(sealed()) == ["last"]


@pytest.mark.parametrize("turn", [lambda act: act, later], ids=["sync", "async"])
@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), MemoryError(), RecursionError(), ValueError(), TimeoutError()],
    ids=lambda e: type(e).__name__,
)
def test_an_exception_costs_nobody_else_the_turn(
    manager: SealedAddonManager, caplog: pytest.LogCaptureFixture, error: Exception, turn: Any
) -> None:
    """What one add-on raises is logged, and the next ones have their turn, and the last step comes."""
    manager.add(Addon("a", turn(raising(error))), Addon("b", turn(lambda: None)), Addon("c"))
    assert poked(manager) == ["a", "b", "c", "last"]
    assert "Addon error" in caplog.text


class Doom(BaseException):
    """What `except Exception` does not catch."""


ENDS = [exceptions.AddonHalt(), exceptions.OptionsError("x"), asyncio.CancelledError(), Doom(), GeneratorExit()]


@pytest.mark.parametrize("turn", [lambda act: act, later], ids=["sync", "async"])
@pytest.mark.parametrize("error", ENDS, ids=lambda e: type(e).__name__)
def test_what_ends_the_chain_does_not_skip_the_last_step(
    manager: SealedAddonManager, error: BaseException, turn: Any
) -> None:
    """AddonHalt and its like keep later add-ons, also the one that releases, from their turn: not the last step."""
    manager.add(Addon("a"), Addon("b", turn(raising(error))), Addon("release"))
    assert poked(manager) == ["a", "b", "last"]


@pytest.mark.parametrize("turn", [lambda act: act, later], ids=["sync", "async"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_the_process_can_be_ended(manager: SealedAddonManager, error: BaseException, turn: Any) -> None:
    """Who ends the process ends it; nothing is released any more."""
    manager.add(Addon("a", turn(raising(error))), Addon("release"))
    trace: list[str] = []

    async def run() -> None:
        with pytest.raises(type(error)):
            await manager.trigger_event(PokeHook(trace))

    asyncio.run(run())
    assert "release" not in trace


def hang() -> Awaitable[None]:
    """Something that takes far too long."""
    return asyncio.sleep(3600)


def test_hanging_addon_ends_the_chain(
    manager: SealedAddonManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An add-on that waits beyond the deadline is given up, and nothing is released."""
    monkeypatch.setattr(dispatch, "_DEADLINE_SECONDS", 0.05)
    manager.add(Addon("a", hang), Addon("release"))
    assert poked(manager) == ["a", "last"]
    assert "no end after 0.05 s" in caplog.text


@pytest.mark.parametrize("eager", [False, True])
def test_addon_that_does_not_heed_being_cancelled(
    manager: SealedAddonManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eager: bool
) -> None:
    """It is given up just so, and keeps neither the request nor the end of the process waiting."""
    monkeypatch.setattr(dispatch, "_DEADLINE_SECONDS", 0.05)
    monkeypatch.setattr(dispatch, "_abandoned", kept := set())
    ends = False

    async def hang_for_good() -> None:
        while not ends:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    manager.add(Addon("a", hang_for_good), Addon("release"))
    trace: list[str] = []

    async def run() -> None:
        nonlocal ends
        if eager:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await asyncio.wait_for(manager.trigger_event(PokeHook(trace)), 5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        ends = True
        (still,) = kept
        still.cancel()
        await asyncio.wait([still])

    asyncio.run(run())
    assert trace == ["a", "last"]
    assert "no end after 0.05 s" in caplog.text
    assert not kept


def test_a_timeout_of_its_own_is_no_hanging(manager: SealedAddonManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TimeoutError from within an add-on is an exception like any other."""
    monkeypatch.setattr(dispatch, "_DEADLINE_SECONDS", 5)

    async def own_deadline() -> None:
        async with asyncio.timeout(0.01):
            await hang()

    manager.add(Addon("a", own_deadline), Addon("b"))
    assert poked(manager) == ["a", "b", "last"]


def test_ours_may_take_their_time(manager: SealedAddonManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusted add-ons have no deadline; being equal to one is not being one."""
    monkeypatch.setattr(dispatch, "_DEADLINE_SECONDS", 0.02)

    class Equal(Addon):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = Addon.__hash__

    ours = Addon("ours", lambda: asyncio.sleep(0.1))
    manager.trusted = (ours,)
    manager.add(ours, Equal("equal", lambda: asyncio.sleep(0.1)), Addon("release"))
    assert poked(manager) == ["ours", "equal", "last"]


def test_real_cancellation_passes(manager: SealedAddonManager) -> None:
    """When the task itself is being ended, it ends, after the last step."""
    manager.add(Addon("a", hang), Addon("release"))
    trace: list[str] = []

    async def run() -> None:
        task = asyncio.ensure_future(manager.trigger_event(PokeHook(trace)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert trace == ["a", "last"]


@pytest.mark.parametrize("fixed", [True, False])
def test_addons_come_and_go(fixed: bool) -> None:
    """Looked-up functions are forgotten when add-ons are added, registered or removed, or when told so."""
    manager = sealed(fixed=fixed)
    a, b = Addon("a"), Addon("b", lambda: None, Addon("b1"))
    manager.add(a)
    assert poked(manager) == ["a", "last"]
    manager.add(b)
    assert poked(manager) == ["a", "b", "b1", "last"]
    manager.remove(a)
    assert poked(manager) == ["b", "b1", "last"]
    nested = Addon("b2")
    manager.register(nested)
    b.addons.append(nested)
    assert poked(manager) == ["b", "b1", "b2", "last"]
    manager.chain.insert(0, Addon("first"))
    manager.forget_lookups()
    assert poked(manager) == ["first", "b", "b1", "b2", "last"]
    manager.clear()
    assert poked(manager) == ["last"]


def test_addons_that_load_others_silently() -> None:
    """In a user interface, scripts come and go beneath other add-ons: no look-up is kept there."""
    manager = sealed(fixed=False)
    loader = Addon("loader")
    manager.add(loader)
    assert poked(manager) == ["loader", "last"]
    loader.addons.append(Addon("script"))
    assert poked(manager) == ["loader", "script", "last"]
    loader.addons.clear()
    assert poked(manager) == ["loader", "last"]


def test_what_is_no_function_is_passed_over(manager: SealedAddonManager) -> None:
    """A module or a value of a hook's name is no hook."""

    class Odd:
        name = "odd"
        poke = logging

    manager.add(Odd(), Addon("b"))
    assert poked(manager) == ["b", "last"]
