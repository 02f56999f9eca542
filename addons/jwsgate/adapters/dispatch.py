"""How hooks reach add-ons in a sealed master.

mitmproxy looks each hook up in each add-on for each event, and forwards a request when an add-on raises or halts the
chain. Here the functions of a hook are looked up once, nothing that one of them does keeps the others from their turn,
and what must come last does.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mitmproxy import addonmanager, exceptions, hooks

__all__ = ["SealedAddonManager", "seal_manager"]

logger = logging.getLogger(__name__)

_DEADLINE_SECONDS: Final = 10.0
"""How long a hook of an add-on that is not ours may wait for something."""

type _Functions = tuple[tuple[Callable[..., Any], bool], ...]
"""The functions of a hook in their order, and whether each is ours."""


class _Hung(Exception):
    """An add-on that waits for too long."""


_abandoned: set[asyncio.Task[Any]] = set()
"""What add-ons still do. The event loop itself does not keep tasks alive."""


async def _outcome(work: Awaitable[object]) -> BaseException | None:
    """What some work raised: an exit out of a task of its own would end the event loop there and then."""
    try:
        await work
    except BaseException as error:
        return error
    return None


async def _wait_a_while(work: Awaitable[object]) -> BaseException | None:
    """Wait for what an add-on does, and no longer than the deadline, even if it does not heed being cancelled.

    Returns what it raised, or `_Hung` when it was given up. So what is raised here is never the add-on's, and tells
    nothing of how far that came.
    """
    task = asyncio.get_running_loop().create_task(_outcome(work), name="add-on")
    if not task.done():
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)
        # The end of the process waits for all tasks that the event loop knows of: this one might never come to an end.
        asyncio._unregister_task(task)
        try:
            await asyncio.wait((task,), timeout=_DEADLINE_SECONDS)
        finally:
            task.cancel()
    return task.result() if task.done() else _Hung(f"no end after {_DEADLINE_SECONDS:g} s")


class SealedAddonManager(addonmanager.AddonManager):
    """An add-on manager that always comes to `last`. Made of mitmproxy's own with `seal_manager`."""

    last: dict[str, Callable[[Any], None]]
    """What runs after all add-ons, however they ended, by the name of the hook; it must not raise."""
    trusted: tuple[object, ...]
    """Add-ons that may wait as long as they like."""
    _table: dict[str, _Functions]
    _fixed: bool

    def forget_lookups(self) -> None:
        """To be called when the chain was changed other than by this class's methods."""
        self._table.clear()

    def register(self, addon: Any) -> Any:
        self._table.clear()
        return super().register(addon)

    def add(self, *addons: Any) -> None:
        super().add(*addons)
        self._table.clear()

    def remove(self, addon: Any) -> None:
        super().remove(addon)
        self._table.clear()

    def clear(self) -> None:
        super().clear()
        self._table.clear()

    def functions(self, name: str) -> _Functions:
        """The functions that add-ons have for a hook."""
        found = self._table.get(name)
        if found is None:
            found = ()
            trusted = set(map(id, self.trusted))
            for addon in addonmanager.traverse(self.chain):
                function = getattr(addon, name, None)
                if callable(function):
                    found += ((function, id(addon) in trusted),)
            if self._fixed:
                self._table[name] = found
        return found

    async def trigger_event(self, event: hooks.Hook) -> None:
        waiting = self.dispatch(event)
        if waiting is not None:
            await waiting

    def dispatch(self, event: hooks.Hook) -> Awaitable[None] | None:
        """Run a hook at once, as far as no add-on has to be waited for; returns what is left to be awaited."""
        name = event.name
        functions = self.functions(name)
        if not functions and name not in self.last:
            return None
        arguments = event.args()
        for index, (function, _) in enumerate(functions):
            try:
                result = function(*arguments)
            except BaseException as error:
                if not self._goes_on(error):
                    break
                continue
            if result is not None and inspect.isawaitable(result):
                return self._dispatch_rest(name, arguments, functions, index, result)
        self._finish(name, arguments)
        return None

    async def _dispatch_rest(
        self, name: str, arguments: list[Any], functions: _Functions, index: int, result: Any
    ) -> None:
        try:
            while True:
                is_ours, raised = functions[index][1], None
                try:
                    if result is not None and inspect.isawaitable(result):
                        if is_ours:
                            await result
                        else:
                            raised = await _wait_a_while(result)
                except BaseException as error:
                    current = asyncio.current_task()
                    if isinstance(error, asyncio.CancelledError) and current is not None and current.cancelling():
                        raise  # here it is real: the task is being ended
                    if not (self._goes_on(error) and is_ours):
                        return
                if raised is not None and not self._goes_on(raised):
                    return
                index += 1
                if index >= len(functions):
                    return
                try:
                    result = functions[index][0](*arguments)
                except BaseException as error:
                    result = None
                    if not self._goes_on(error):
                        return
        finally:
            self._finish(name, arguments)

    def _goes_on(self, error: BaseException) -> bool:
        """Whether the chain goes on after an add-on has raised. When it does not, nothing is released."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise error
        if isinstance(error, exceptions.AddonHalt):
            return False
        goes_on = isinstance(error, Exception) and not isinstance(error, exceptions.OptionsError | _Hung)
        logger.error("Addon error: %r", error, exc_info=error if goes_on else None)
        return goes_on

    def _finish(self, name: str, arguments: list[Any]) -> None:
        last = self.last.get(name)
        if last is not None:
            last(*arguments)


def seal_manager(manager: addonmanager.AddonManager, *, fixed: bool) -> SealedAddonManager:
    """Make a master's add-on manager a sealed one.

    Args:
        manager: The one that the master made for itself, which the master's parts already know.
        fixed: Whether add-ons keep the hooks that they have, so that each needs to be looked up only once. The
            user interfaces load and unload scripts beneath other add-ons, without telling the manager.
    """
    manager.__class__ = SealedAddonManager
    sealed: Any = manager
    sealed.last, sealed.trusted, sealed._table, sealed._fixed = {}, (), {}, fixed
    return sealed  # type: ignore[no-any-return]  # its class was changed
