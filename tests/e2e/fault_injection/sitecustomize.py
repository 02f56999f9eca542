"""Raises exceptions inside the package under test, on command. Put on the path of a gate by the tests only.

`JWSGATE_TEST_FAULT_FILE` names a JSON file that the test replaces while the gate runs:

    {"epoch": 3, "called": "/path"}
    {"epoch": 4, "fault": "jwsgate.core.jws:verify", "at": "start", "exception": "RuntimeError", "fired": "/path"}

Each function of the package that starts is written to the file `called`, once per epoch. The one that `fault`
names raises: at its start, as though its first line had, or at its end instead of returning; and the file
`fired` comes into being. `"at": "start", "seconds": 0.2` has it hang for so long in place of raising.

    {"epoch": 5, "garbage": "jwsgate.core.jws:verify", "value": "true", "fired": "/path"}

has a function do its work and then return something else than what it found. Functions that are generators or
coroutines are left as they are, since what they give comes piece by piece.

This uses the interpreter's own monitoring events rather than wrappers put around functions. So it reaches
every function written in Python in the package's files, whoever holds a reference to it: hooks, methods,
properties, slotted classes, closures, coroutines. What is generated (the methods of dataclasses) has no file
of the package and is left out. So is what the clock calls: it comes at any time, and takes no part in a request.
"""

import asyncio
import builtins
import gc
import inspect
import json
import os
import re
import sys
import time
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NoReturn

TOOL = 4  # of the six identifiers, one that is reserved for nobody
# The checkout and its environment may stand in a folder of the package's name, so that the name alone tells nothing.
PACKAGE = f"{Path(__file__).resolve().parents[3] / 'addons' / 'jwsgate'}{os.sep}"

CLOCK = "SidecarProxyserver._sweep"

GARBAGE = {"none": None, "true": True, "text": "", "object": object()}


def _stub(*args: Any, **kwargs: Any) -> object:
    return _jwsgate_garbage(args, kwargs)  # type: ignore[name-defined]  # noqa: F821 - a builtin while it is needed


class Doom(BaseException):
    """An exception that `except Exception` does not catch."""


def _exception(name: str) -> BaseException:
    # What mitmproxy itself treats in its own way is imported only when asked for: this file is loaded by
    # every Python process that the gate may start.
    if name in {"AddonHalt", "OptionsError"}:
        from mitmproxy import exceptions

        return getattr(exceptions, name)("injected")  # type: ignore[no-any-return]
    if name == "CancelledError":
        return asyncio.CancelledError("injected")
    if name == "Doom":
        return Doom("injected")
    if name == "Rejection":
        # The package's own exception, thrown where nobody expects it.
        reasons = next(module for name, module in sys.modules.items() if re.fullmatch(r"jwsgate\b.*\.reasons", name))
        return reasons.Rejection(next(iter(reasons.Reason)), "injected")  # type: ignore[no-any-return]
    return getattr(sys.modules["builtins"], name)("injected")  # type: ignore[no-any-return]


def _is_the_clocks() -> bool:
    """Whether what runs now was called by the clock and not for a request."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_qualname != CLOCK:
        frame = frame.f_back
    return frame is not None


class _Injector:
    """Follows the fault file and raises what it says."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._stamp: tuple[int, int] | None = None
        self._order: dict[str, Any] = {}
        self._seen: set[str] = set()
        self._names: dict[CodeType, str] = {}
        self._spoilt: list[tuple[FunctionType, CodeType]] = []

    def _follow(self) -> dict[str, Any]:
        status = Path(self._place).stat()
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            order = json.loads(Path(self._place).read_text(encoding="utf-8"))
            if order.get("epoch") != self._order.get("epoch"):
                self._seen.clear()
            self._stamp, self._order = stamp, order
            self._spoil(order)
        return self._order

    def _spoil(self, order: dict[str, Any]) -> None:
        for function, code in self._spoilt:
            function.__code__ = code
        self._spoilt.clear()
        wanted = [code for code, name in self._names.items() if name == order.get("garbage")]
        for code in wanted:
            if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
                continue
            for function in gc.get_referrers(code):
                if isinstance(function, FunctionType) and function.__code__ is code:
                    self._spoilt.append((function, code))
                    self._spoil_function(function, order)

    def _spoil_function(self, function: FunctionType, order: dict[str, Any]) -> None:
        whole = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        whole.__kwdefaults__ = function.__kwdefaults__

        def garbage(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
            whole(*args, **kwargs)
            Path(order["fired"]).touch()
            return GARBAGE[order["value"]]

        # Functions with a closure take only code that names as many variables of it.
        vars(builtins)["_jwsgate_garbage"] = garbage
        function.__code__ = _stub.__code__.replace(co_freevars=function.__code__.co_freevars)

    def _name(self, code: CodeType) -> str | None:
        if (name := self._names.get(code)) is None:
            file = code.co_filename
            # The bodies of modules and classes are code objects too, but no functions.
            if not file.startswith(PACKAGE) or not code.co_flags & inspect.CO_OPTIMIZED:
                return None
            module = "jwsgate." + file.removeprefix(PACKAGE).removesuffix(".py").replace(os.sep, ".")
            name = self._names[code] = f"{module}:{code.co_qualname}"
        return name

    def _raise(self, order: dict[str, Any]) -> NoReturn:
        # Made first: making it may import, and what is imported must not count as the fault.
        exception = _exception(order["exception"])
        Path(order["fired"]).touch()
        raise exception

    def started(self, code: CodeType, _offset: int) -> object:
        """A function starts."""
        name = self._name(code)
        if name is None:
            return sys.monitoring.DISABLE
        order = self._follow()
        if name not in self._seen and "called" in order and not _is_the_clocks():
            self._seen.add(name)
            with Path(order["called"]).open("a", encoding="utf-8") as called:
                called.write(name + "\n")
        if order.get("fault") == name and order.get("at") == "start" and not _is_the_clocks():
            if "seconds" in order:
                Path(order["fired"]).touch()
                time.sleep(order["seconds"])
            else:
                self._raise(order)
        return None

    def returning(self, code: CodeType, _offset: int, _value: object) -> object:
        """A function is about to return."""
        name = self._name(code)
        if name is None:
            return sys.monitoring.DISABLE
        order = self._follow()
        if order.get("fault") == name and order.get("at") == "return" and not _is_the_clocks():
            self._raise(order)
        return None


def _install() -> None:
    place = os.environ.get("JWSGATE_TEST_FAULT_FILE")
    if place is None:
        return
    injector = _Injector(place)
    events = sys.monitoring.events
    sys.monitoring.use_tool_id(TOOL, "jwsgate-faults")
    sys.monitoring.register_callback(TOOL, events.PY_START, injector.started)
    sys.monitoring.register_callback(TOOL, events.PY_RETURN, injector.returning)
    sys.monitoring.set_events(TOOL, events.PY_START | events.PY_RETURN)


_install()
