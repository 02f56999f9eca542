"""Signals: SIGTERM and SIGINT let what is in flight finish, SIGHUP reads the files anew, SIGUSR1 only opens the audit
file anew and reads the TLS certificate.

What happens is told to systemd or, in a worker, to its supervisor.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

from jwsgate.files.problems import Unfit

from .accounts import Accounts
from .admin import AdminServer
from .listening import address_text
from .metrics import Metrics
from .reload import Outcome, Reloader
from .signals import listen, stop_listening
from .state import GateState
from .systemd import notify, watchdog_seconds
from .worker import WorkerLink

__all__ = ["Lifecycle", "Service"]

logger = logging.getLogger(__name__)


class Service(Protocol):
    """A gate in whichever server it runs."""

    state: GateState
    accounts: Accounts
    reloader: Reloader
    on_reload: Callable[[Outcome], None]

    @property
    def is_listening(self) -> bool:
        """Whether it takes requests."""
        ...

    @property
    def can_drain(self) -> bool:
        """Whether it knows how to finish what is in flight."""
        ...

    async def drain(self, seconds: float) -> int:
        """Take nothing new in, and finish what is in flight; returns how many connections were cut off."""
        ...

    def reopen(self) -> None:
        """Read anew what is no part of the snapshot, but for the audit file."""
        ...

    def end(self) -> None:
        """Have the server end."""
        ...


class Lifecycle:
    """Ends and reloads a running gate."""

    def __init__(self, service: Service, drain_seconds: float, link: WorkerLink | None = None) -> None:
        """`link` leads to the supervisor, in a process that has one."""
        self._service = service
        self._link = link
        self._drain_seconds = drain_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the signals, in the running event loop, which is to end afterwards."""
        handlers = {
            signal.SIGINT: self.stop,
            signal.SIGTERM: self.stop,
            signal.SIGHUP: self.reload,
            signal.SIGUSR1: self.reopen,
        }
        listen(handlers)
        try:
            yield
        finally:
            stop_listening(*handlers)

    def not_ready(self) -> list[str]:
        """Why requests should go elsewhere, a word each; empty when they should not."""
        reasons = {
            "draining": self.draining,
            "unloaded": self._service.state.snapshot is None,
            "not-listening": not self._service.is_listening,
            "workers-missing": self._link is not None and not self._link.all_serve,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def announce(self, line: str) -> None:
        """Log what is to be logged once, however many workers there are."""
        if self._link is None:
            logger.info("%s", line)
        else:
            self._link.tell("announce", line)

    def running(self) -> None:
        """Tell that requests are being answered, and keep telling."""
        self._service.on_reload = self._reloaded
        watchdog = watchdog_seconds()
        if self._link is not None:
            self._link.listen(self.stop)
        self._tell("ready", "READY=1")
        if self._link is not None or watchdog is not None:
            period = 1.0 if watchdog is None else min(1.0, watchdog / 2)
            self._begin(self._beat(period))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _beat(self, period: float) -> None:
        while True:
            if self._link is None:
                notify("WATCHDOG=1")
            else:
                self._link.tell("alive")
            await asyncio.sleep(period)

    def _tell(self, word: str, *lines: str) -> None:
        revision = self._service.state.revision or "none"
        if self._link is None:
            notify(*lines, f"STATUS={word}, revision {revision}")
        else:
            self._link.tell(word, revision)

    def stop(self) -> None:
        """Let what is in flight finish, then end; asked twice, end at once."""
        if self.draining and self._link is not None:
            return  # whoever signals a whole group of processes reaches a worker twice; its supervisor sets it an end
        self._tell("stopping", "STOPPING=1")
        if self.draining or not self._service.can_drain:
            self._service.end()
            return
        self.draining = True
        self._begin(self._drain())

    async def _drain(self) -> None:
        if self._link is None:  # else the supervisor says so
            logger.info("jwsgate: stopping; requests in flight have %g s to finish", self._drain_seconds)
        cut_off = await self._service.drain(self._drain_seconds)
        if cut_off:
            logger.warning("jwsgate: %d connections did not finish in time", cut_off)
        self._service.end()

    def reopen(self) -> None:
        """Open the audit file anew, and read the TLS certificate; what is wrong is logged, and the last one stays."""
        self._service.reopen()
        if (audit := self._service.accounts.audit) is not None:
            try:
                audit.reopen()
            except Unfit as error:
                logger.error("jwsgate: audit: %s; what was open stays open (%s)", error, error.remedy)

    def reload(self) -> None:
        """Read portal export and policy anew too; what is wrong is logged, and the last good state stays."""
        self.reopen()
        self._tell("reloading", "RELOADING=1")
        self._service.reloader.request()

    def _reloaded(self, outcome: Outcome) -> None:
        self._tell("refused" if outcome == "refused" else "reloaded", "READY=1")

    @asynccontextmanager
    async def admin(self, address: tuple[str, int] | None, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Have an admin port, and metrics to tell there, if an address is given; `sockets` are bound to it.

        Raises:
            OSError: when it cannot be had.
        """
        if address is None:
            yield
            return
        # Of several workers any one answers: each knows what all have counted, and whether all are ready.
        shared = () if self._link is None else (self._link.metrics, self._link.number)
        state = self._service.state
        metrics = self._service.accounts.metrics = Metrics(lambda: state.snapshot, state.cache, *shared)
        server = AdminServer(*address, self.not_ready, metrics.exposition, sockets)
        await server.start()
        self.announce(f"jwsgate: metrics and health on http://{address_text(server.address)}")
        try:
            yield
        finally:
            await server.close()
            metrics.close()
