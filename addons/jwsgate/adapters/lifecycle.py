"""Signals: SIGTERM and SIGINT let what is in flight finish, SIGHUP reads the files anew."""

import asyncio
import logging
import signal
from typing import Any

from mitmproxy.utils import asyncio_utils

from jwsgate.files.problems import Unfit

from .connection import SidecarProxyserver
from .gate import JwsGate

__all__ = ["Lifecycle"]

logger = logging.getLogger(__name__)


class Lifecycle:
    """Ends and reloads a running gate."""

    def __init__(self, master: Any, gate: JwsGate, drain_seconds: float) -> None:
        self._master = master
        self._gate = gate
        self._drain_seconds = drain_seconds
        self.draining = False

    def install(self) -> None:
        """Listen to the signals, in the running event loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def not_ready(self) -> list[str]:
        """Why requests should go elsewhere, a word each; empty when they should not."""
        reasons = {
            "draining": self.draining,
            "unloaded": self._gate.state.snapshot is None,
            "not-listening": not self._master.addons.get("proxyserver").listen_addrs(),
        }
        return [reason for reason, holds in reasons.items() if holds]

    def stop(self) -> None:
        """Let what is in flight finish, then end; asked twice, end at once."""
        server = self._master.addons.get("proxyserver")
        if self.draining or not isinstance(server, SidecarProxyserver):
            getattr(self._master, "prompt_for_exit", self._master.shutdown)()
            return
        self.draining = True
        asyncio_utils.create_task(self._drain(server), name="drain", keep_ref=True)

    async def _drain(self, server: SidecarProxyserver) -> None:
        logger.info("jwsgate: stopping; requests in flight have %g s to finish", self._drain_seconds)
        cut_off = await server.drain(self._drain_seconds)
        if cut_off:
            logger.warning("jwsgate: %d connections did not finish in time", cut_off)
        self._master.shutdown()

    def reload(self) -> None:
        """Open the audit file and read the files anew; what is wrong is logged, and the last good state stays."""
        self._gate.tls.reload()
        if (audit := self._gate.accounts.audit) is not None:
            try:
                audit.reopen()
            except Unfit as error:
                logger.error("jwsgate: audit: %s; what was open stays open (%s)", error, error.remedy)
        self._gate.reloader.request()
