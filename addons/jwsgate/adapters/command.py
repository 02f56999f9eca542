"""A command that runs beside the gate, as tests of a client in CI do; the gate ends with it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from mitmproxy.utils import asyncio_utils

from .listening import address_text
from .signals import listen

__all__ = ["Command", "command_environment", "inherited_environment", "reached_at"]

logger = logging.getLogger(__name__)

_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where such a listener can be reached
_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM)
_NOT_FOR_OTHERS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_BROKE: Final = 3


def reached_at(host: str, port: int) -> str:
    """`HOST:PORT` under which a listener can be reached that may listen on every address."""
    return address_text((_ANY_ADDRESS.get(host, host), port))


def inherited_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the gate's own environment is the command's too."""
    return {name: value for name, value in environment.items() if name not in _NOT_FOR_OTHERS}


def command_environment(
    environment: Mapping[str, str], host: str, port: int, *, https: bool, ca_file: str | None
) -> dict[str, str]:
    """The command's environment: the caller's, and where the gate is.

    The gate is no forward proxy, so that HTTP_PROXY stays as it is; but no other proxy is to be asked for the gate.
    """
    host = _ANY_ADDRESS.get(host, host)
    added = {"JWSGATE_URL": f"{'https' if https else 'http'}://{reached_at(host, port)}"}
    if ca_file is not None:
        added["JWSGATE_CA_FILE"] = ca_file
    for name in ("NO_PROXY", "no_proxy"):
        added[name] = ",".join(filter(None, (environment.get(name), host)))
    return inherited_environment(environment) | added


class Command:
    """Starts a command, hands signals on to it, and tells when it has ended."""

    def __init__(self, arguments: Sequence[str], seconds: float, ended: Callable[[], None]) -> None:
        """`seconds` is how long it may take to end after a signal; `ended` is called once it has, or never began."""
        self._arguments = arguments
        self._seconds = seconds
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._signalled: signal.Signals | None = None
        self.code: int | None = None
        """Its exit code as a shell has it; None while it runs."""

    def listen(self) -> None:
        """Listen to the signals that are the command's, in the running event loop."""
        listen({number: partial(self._hand_on, number) for number in _FORWARDED})

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it, in the running event loop."""
        asyncio_utils.create_task(self._run(environment), name="jwsgate command", keep_ref=True)

    async def _run(self, environment: Mapping[str, str]) -> None:
        try:
            if self._signalled is None:
                process = self._process = await asyncio.create_subprocess_exec(*self._arguments, env=environment)
                self._hand_on_late()
                code = await process.wait()
                self.code = code if code >= 0 else 128 - code
            else:
                self.code = 128 + self._signalled
        except (OSError, ValueError) as error:
            # As shells have it: 127 for a command that is not there, 126 for one that cannot be run.
            self.code = 127 if isinstance(error, FileNotFoundError) else 126
            why = getattr(error, "strerror", None) or error
            logger.error("jwsgate: %s: %s", self._arguments[0], why)
        finally:
            self.code = _BROKE if self.code is None else self.code
            self._ended()

    def _hand_on(self, number: signal.Signals) -> None:
        again, self._signalled = self._signalled is not None, number
        if self.code is not None:
            self._ended()  # it has ended; now it is the gate that is in no hurry
            return
        if self._process is None:
            return
        if again:
            self._send(signal.SIGKILL)
            return
        if number is not signal.SIGINT or not _reaches_all():
            self._send(number)
        asyncio.get_running_loop().call_later(self._seconds, self._send, signal.SIGKILL)

    def _hand_on_late(self) -> None:
        """What came while the command was started, when it ran already and could not be reached yet."""
        if (number := self._signalled) is not None:
            self._send(number)
            asyncio.get_running_loop().call_later(self._seconds, self._send, signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def end(self) -> None:
        """Do not leave it behind when the gate ends first."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        logger.error("jwsgate: the gate ends before the command")
        self._send(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._seconds):
                await process.wait()
        except TimeoutError:
            self._send(signal.SIGKILL)
            await process.wait()
        self.code = _BROKE


def _reaches_all() -> bool:
    """Whether a SIGINT most likely comes from the terminal, which sends it to the command too."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
