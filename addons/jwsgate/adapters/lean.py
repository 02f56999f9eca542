"""Where mitmproxy spends most of a request's time, done with less; only in a process that is a sidecar alone.

Each replacement answers what the original answers (tests/test_lean.py holds them against each other).
"""

import copy
import dataclasses
import logging
import sys
from typing import Any, Final

from mitmproxy import connection, flow, hooks, http, optmanager
from mitmproxy.proxy import commands, context

from .lean_http import lean_http
from .random_pool import random_hex

__all__ = ["lean_process"]


class _Ids:
    """Stands in for the module `uuid` where mitmproxy only wants the text of a random UUID (RFC 9562 section 5.4)."""

    @staticmethod
    def uuid4() -> str:
        text = random_hex(16)
        variant = "89ab"[int(text[16], 16) & 3]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


_MOST_NAMES, _MOST_CHARACTERS = 1000, 64
_folded: dict[str | bytes, bytes] = {}
"""Names that were asked for, in lower case: programs ask for the same few again and again."""


def _octets(name: Any) -> bytes:
    if isinstance(name, str):
        folded = name.encode("utf-8", "surrogateescape").lower()
    elif isinstance(name, bytes):
        folded = name.lower()
    else:
        raise TypeError(f"header names are text or octets, not {type(name).__name__}")
    if len(_folded) < _MOST_NAMES and len(name) <= _MOST_CHARACTERS:
        _folded[name] = folded
    return folded


def _get_all(self: http.Headers, name: str | bytes) -> list[str]:
    wanted = _folded.get(name) or _octets(name)
    size = len(wanted)
    return [
        value.decode("utf-8", "surrogateescape")
        for key, value in self.fields
        if len(key) == size and key.lower() == wanted
    ]


def _getitem(self: http.Headers, name: str | bytes) -> str:
    values = _get_all(self, name)
    if not values:
        raise KeyError(name)
    return values[0] if len(values) == 1 else ", ".join(values)


def _get(self: http.Headers, name: str | bytes, default: Any = None) -> Any:
    values = _get_all(self, name)
    return ", ".join(values) if values else default


def _contains(self: http.Headers, name: Any) -> bool:
    wanted = _folded.get(name) or _octets(name)
    size = len(wanted)
    for key, _ in self.fields:  # noqa: SIM110 - a generator takes as long as the loop
        if len(key) == size and key.lower() == wanted:
            return True
    return False


_ATOMS: Final = frozenset({bool, int, float, str, type(None)})


def _option(self: optmanager.OptManager, name: str) -> Any:
    option = self._options.get(name) if name != "_options" else None
    if option is None:
        raise AttributeError(f"No such option: {name}")
    value = option._default if option.value is optmanager.unset else option.value
    # The original copies twice, whatever it is: other values could be changed by whoever gets them.
    return value if type(value) in _ATOMS else copy.deepcopy(value)


_members: dict[type, tuple[str, ...]] = {}


def _args(self: hooks.Hook) -> list[Any]:
    kind = type(self)
    names = _members.get(kind)
    if names is None:
        names = _members[kind] = tuple(field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]  # each subclass is one
    return [getattr(self, name) for name in names]


def _new(cls: type, *_args: Any, **_kwargs: Any) -> Any:
    if cls not in _members and (cls is commands.StartHook or not dataclasses.is_dataclass(cls)):
        raise TypeError(f"{cls.__name__} is no hook to be started")
    return object.__new__(cls)


def _fork(self: context.Context) -> context.Context:
    # The original makes a server of its own first, only to drop it.
    fork = context.Context.__new__(context.Context)
    fork.client, fork.options, fork.server = self.client, self.options, self.server
    fork.layers = self.layers.copy()
    return fork


def lean_process() -> None:
    """Leave out what mitmproxy does for its developers and user interfaces, and do the rest with less."""
    lean_http()
    # mitmproxy checks the type of each member of each message; under `python -O` it leaves that out as well.
    http.MessageData.__post_init__ = lambda _self: None  # type: ignore[method-assign]  # on purpose, as those below
    for name, replacement in (
        ("get_all", _get_all),
        ("__getitem__", _getitem),
        ("get", _get),
        ("__contains__", _contains),
    ):
        setattr(http.Headers, name, replacement)
    for module in (flow, connection):
        setattr(module, "uuid", _Ids)  # noqa: B010 - not a name of the modules' own
    context.Context.fork = _fork  # type: ignore[method-assign]
    optmanager.OptManager.__getattr__ = _option  # type: ignore[method-assign]
    hooks.Hook.args = _args  # type: ignore[method-assign]
    commands.StartHook.__new__ = _new  # type: ignore[method-assign]
    # A log line names none of these, and looking them up takes longer than all else about it.
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a line of the log is of use when it is there
