"""Signals: SIGTERM and SIGINT let what is in flight finish, SIGHUP reads the files anew, SIGUSR1 only opens the audit
file anew and reads the TLS certificate.

What happens is told to systemd or, in a worker, to its supervisor.
"""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mitmproxy.utils import asyncio_utils

from jwsgate.files.problems import Unfit

from .connection import SidecarProxyserver
from .gate import JwsGate
from .reload import Outcome
from .signals import listen, stop_listening
from .systemd import notify, watchdog_seconds
from .worker import WorkerLink

__all__ = ["Lifecycle"]

logger = logging.getLogger(__name__)


class Lifecycle:
    """Ends and reloads a running gate."""

    def __init__(self, master: Any, gate: JwsGate, drain_seconds: float, link: WorkerLink | None = None) -> None:
        """`link` leads to the supervisor, in a process that has one."""
        self._master = master
        self._link = link
        self._gate = gate
        self._drain_seconds = drain_seconds
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
            "unloaded": self._gate.state.snapshot is None,
            "not-listening": not self._master.addons.get("proxyserver").listen_addrs(),
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
        self._gate.on_reload = self._reloaded
        watchdog = watchdog_seconds()
        if self._link is not None:
            self._link.listen(self.stop)
        self._tell("ready", "READY=1")
        if self._link is not None or watchdog is not None:
            period = 1.0 if watchdog is None else min(1.0, watchdog / 2)
            asyncio_utils.create_task(self._beat(period), name="heartbeat", keep_ref=True)

    async def _beat(self, period: float) -> None:
        while True:
            if self._link is None:
                notify("WATCHDOG=1")
            else:
                self._link.tell("alive")
            await asyncio.sleep(period)

    def _tell(self, word: str, *lines: str) -> None:
        revision = self._gate.state.revision or "none"
        if self._link is None:
            notify(*lines, f"STATUS={word}, revision {revision}")
        else:
            self._link.tell(word, revision)

    def stop(self) -> None:
        """Let what is in flight finish, then end; asked twice, end at once."""
        server = self._master.addons.get("proxyserver")
        if self.draining and self._link is not None:
            return  # whoever signals a whole group of processes reaches a worker twice; its supervisor sets it an end
        self._tell("stopping", "STOPPING=1")
        if self.draining or not isinstance(server, SidecarProxyserver):
            getattr(self._master, "prompt_for_exit", self._master.shutdown)()
            return
        self.draining = self._gate.draining = True
        asyncio_utils.create_task(self._drain(server), name="drain", keep_ref=True)

    async def _drain(self, server: SidecarProxyserver) -> None:
        if self._link is None:  # else the supervisor says so
            logger.info("jwsgate: stopping; requests in flight have %g s to finish", self._drain_seconds)
        cut_off = await server.drain(self._drain_seconds)
        if cut_off:
            logger.warning("jwsgate: %d connections did not finish in time", cut_off)
        self._master.shutdown()

    def reopen(self) -> None:
        """Open the audit file anew, and read the TLS certificate; what is wrong is logged, and the last one stays."""
        self._gate.tls.reload()
        if (audit := self._gate.accounts.audit) is not None:
            try:
                audit.reopen()
            except Unfit as error:
                logger.error("jwsgate: audit: %s; what was open stays open (%s)", error, error.remedy)

    def reload(self) -> None:
        """Read portal export and policy anew too; what is wrong is logged, and the last good state stays."""
        self.reopen()
        self._tell("reloading", "RELOADING=1")
        self._gate.reloader.request()

    def _reloaded(self, outcome: Outcome) -> None:
        self._tell("refused" if outcome == "refused" else "reloaded", "READY=1")
