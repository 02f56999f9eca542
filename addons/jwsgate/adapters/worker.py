"""The pipe between a worker and its supervisor: what either tells the other, one line each.

A worker says `announce TEXT`, `ready REVISION`, `alive`, `reloading`, `reloaded REVISION`, `refused REVISION` and
`stopping`; the supervisor says `serving N OF`, and by its end that it is gone.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["HANG_SECONDS", "Shared", "WorkerLink", "has_supervisor", "worker_environment"]

HANG_SECONDS: Final = 10
"""A worker that is not heard of for so long is taken to hang."""

_VARIABLE: Final = "JWSGATE_WORKER"


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers of a gate have in common."""

    sockets: Sequence[socket.socket]
    admin_sockets: Sequence[socket.socket] = ()
    metrics: Path | None = None
    """A folder for what they count."""

    @property
    def descriptors(self) -> list[int]:
        """Of all sockets."""
        return [each.fileno() for each in (*self.sockets, *self.admin_sockets)]


def worker_environment(number: int, pipe: socket.socket, shared: Shared) -> dict[str, str]:
    """What a worker's environment needs besides; it inherits the descriptors under their own numbers."""
    handed = {
        "number": number,
        "pipe": pipe.fileno(),
        "sockets": [each.fileno() for each in shared.sockets],
        "admin_sockets": [each.fileno() for each in shared.admin_sockets],
        "metrics": shared.metrics and str(shared.metrics),
    }
    return {_VARIABLE: json.dumps(handed)}


def has_supervisor() -> bool:
    """Whether a supervisor started this process."""
    return _VARIABLE in os.environ


def _take(descriptor: int) -> socket.socket:
    taken = socket.socket(fileno=descriptor)
    taken.set_inheritable(False)
    return taken


class WorkerLink:
    """The worker's end."""

    def __init__(self, handed: Mapping[str, Any]) -> None:
        self.number: int = handed["number"]
        """From 0; a worker in place of a dead one has the dead one's."""
        self.sockets = list(map(_take, handed["sockets"]))
        self.admin_sockets = list(map(_take, handed["admin_sockets"]))
        self.metrics = handed["metrics"] and Path(handed["metrics"])
        self.all_serve = False
        """Whether all of the workers are ready."""
        self._pipe = _take(handed["pipe"])
        self._pipe.setblocking(False)

    @classmethod
    def take(cls) -> "WorkerLink | None":
        """The link that a supervisor gave this process; None when it has no supervisor."""
        handed = os.environ.pop(_VARIABLE, None)
        return None if handed is None else cls(json.loads(handed))

    def tell(self, word: str, text: str = "") -> None:
        """Tell the supervisor. Never waits, and never fails."""
        if word == "alive":
            # Should the supervisor die and this process hang, nobody is left to end it but the kernel.
            signal.alarm(2 * HANG_SECONDS)
        with suppress(OSError):
            self._pipe.send(f"{word} {text}\n".encode())

    def listen(self, gone: Callable[[], None]) -> None:
        """Heed the supervisor, in the running event loop; `gone` is called when it ends."""

        def read() -> None:
            with suppress(BlockingIOError):
                try:
                    octets = self._pipe.recv(4096)
                except ConnectionError:
                    octets = b""
                if not octets:
                    asyncio.get_running_loop().remove_reader(self._pipe)
                    gone()
                elif octets.endswith(b"\n"):
                    _, ready, count = octets.split(b"\n")[-2].split()
                    self.all_serve = ready == count

        asyncio.get_running_loop().add_reader(self._pipe, read)
