"""The gates of one test session."""

import contextlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .applications import ClientApplication, portal_export
from .gate import DEFAULT_POLICY, Gate, start_gate
from .serving import App

__all__ = ["GatePool"]

_MOST_SHARED: Final = 4


class GatePool:
    """Starts gates, and stops them all when its context closes."""

    def __init__(self) -> None:
        self._started = contextlib.ExitStack()
        self._shared: OrderedDict[Hashable, tuple[Gate, contextlib.ExitStack, App]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, stack, _ in self._shared.values():
            self._started.push(stack)
        self._started.close()

    def start(
        self,
        app: App,
        applications: Iterable[ClientApplication],
        policy: str | Path = DEFAULT_POLICY,
        options: Sequence[str] = (),
    ) -> Gate:
        """A gate of the caller's own, as `start_gate` has it, which runs until the session ends."""
        return self._started.enter_context(start_gate(app, applications, policy, options))

    def shared(
        self, app: App, applications: Sequence[ClientApplication], policy: str | Path, options: Sequence[str]
    ) -> Gate:
        """The gate for just this, started only when there is none; the longest unused is stopped for a fifth."""
        # The pool keeps the callable, so that no other one can have its id.
        key = (app if isinstance(app, str) else id(app), portal_export(applications), policy, tuple(options))
        if key not in self._shared:
            if len(self._shared) >= _MOST_SHARED:
                self._shared.popitem(last=False)[1][1].close()
            with contextlib.ExitStack() as stack:
                gate = stack.enter_context(start_gate(app, applications, policy, options))
                self._shared[key] = (gate, stack.pop_all(), app)
        self._shared.move_to_end(key)
        return self._shared[key][0].from_now()
