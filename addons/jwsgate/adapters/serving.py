"""`jwsgate serve`: the decisions as a service for proxies of others. Imports nothing of mitmproxy."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop

from jwsgate.core.decision import JwsCache
from jwsgate.core.verified_cache import VerifiedCache
from jwsgate.files.problems import Unfit

from .accounts import Accounts
from .audit import STANDARD_OUTPUT
from .check_server import CheckServer, Connection, HttpConnection, Network
from .checking import Checker
from .dialects import DIALECTS, Dialect, check_policy
from .lifecycle import Lifecycle
from .listening import Address, CannotListen, address_text, bind, bind_sockets, inherited_sockets
from .plain_log import write_log
from .reload import Outcome, Reloader
from .state import CannotTakeUp, GateState
from .worker import WorkerLink

__all__ = ["ServeSettings", "serve"]

_ENTRY_OCTETS = 6144
"""What a remembered JWS may take on average, as the cache reckons (and `--remember` says); the usual one takes less."""

_COLLECT_AFTER = 20_000, 50, 100
"""Objects more before the collector looks at the new ones, and how many such looks before it looks at older ones."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What `jwsgate serve` was asked for."""

    dialect: str
    listen: Address
    portal: str
    policies: Sequence[str]
    peers: Sequence[Network] = ()
    proxy_sets: Sequence[str] = ()
    """The headers that the proxy sets from each answer."""
    socket_mode: int = 0o660
    remember: int = 0
    """How many verified JWS are remembered."""
    replay_store: str = "memory"
    admin: tuple[str, int] | None = None
    audit: str = ""
    rejection_log_level: str = "info"
    watch: bool = True
    drain_seconds: float = 30.0


def _spoken(name: str) -> tuple[Dialect, Callable[[CheckServer], Connection]]:
    """A dialect, and what its questions come on."""
    if name == "envoy-grpc":
        from .envoy_grpc import ENVOY_GRPC  # noqa: PLC0415 - an extra, that the others do not wait for
        from .grpc_server import GrpcConnection  # noqa: PLC0415

        return ENVOY_GRPC, GrpcConnection
    return DIALECTS[name], HttpConnection


class _CheckService:
    """The gate as a service, as its life cycle sees it."""

    can_drain = True

    def __init__(self, settings: ServeSettings) -> None:
        dialect, self.connection = _spoken(settings.dialect)
        sets = frozenset(name.lower().encode("ascii") for name in settings.proxy_sets)
        cache: JwsCache = VerifiedCache(settings.remember, settings.remember * _ENTRY_OCTETS)
        self.state = GateState(cache, lambda snapshot: check_policy(snapshot, dialect, sets))
        self.accounts = Accounts()
        self.on_reload: Callable[[Outcome], None] = lambda _outcome: None
        self.reloader = Reloader(self.state, self._reloaded)
        self.checker = Checker(dialect, sets, self.state, self.accounts)
        self.server: CheckServer | None = None
        self.ended = asyncio.Event()

    def _reloaded(self, outcome: Outcome) -> None:
        if self.accounts.metrics is not None:
            self.accounts.metrics.reloaded(outcome)
        self.on_reload(outcome)

    def opened(self, by: int) -> None:
        """Count a connection in or out."""
        if (metrics := self.accounts.metrics) is not None:
            (metrics.connection_opened if by > 0 else metrics.connection_closed)()

    @property
    def is_listening(self) -> bool:
        return self.server is not None and self.server.is_listening

    async def drain(self, seconds: float) -> int:
        return 0 if self.server is None else await self.server.drain(seconds)

    def reopen(self) -> None:
        """There is nothing but the audit file."""

    def end(self) -> None:
        self.ended.set()


def _yield_to_proxies() -> None:
    """Not to take the core from a proxy that shares it each time it asks: so questions and answers gather."""
    if hasattr(os, "SCHED_BATCH"):  # Linux
        with suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # nobody has chosen another
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _serve(settings: ServeSettings) -> int:
    write_log(logging.getLogger(), stdout_is_taken=settings.audit == STANDARD_OUTPUT)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    link = WorkerLink.take()
    service = _CheckService(settings)
    service.state.is_alone = link is None
    made: Path | None = None
    try:
        service.state.configure(settings.portal, settings.policies, settings.replay_store)
        service.accounts.configure(settings.audit, settings.rejection_log_level)
        if link is not None:
            sockets, admin_sockets = link.sockets, link.admin_sockets
        else:
            sockets = inherited_sockets()
            if not sockets:
                sockets = bind(settings.listen, settings.socket_mode)
                made = settings.listen if isinstance(settings.listen, Path) else None
            admin_sockets = bind_sockets(*settings.admin) if settings.admin is not None else []
    except Unfit as error:
        sys.stderr.write(f"jwsgate: {error} ({error.remedy})\n")
        return 1
    except (CannotTakeUp, CannotListen) as error:
        sys.stderr.write(f"jwsgate: {str(error).removeprefix('jwsgate: ')}\n")
        return 1
    lifecycle = Lifecycle(service, settings.drain_seconds, link)
    service.server = CheckServer(service.checker, settings.peers, sockets, service.connection)
    service.server.opened = service.opened
    with lifecycle.listening():
        async with lifecycle.admin(settings.admin, admin_sockets):
            # What is there now stays, and so does what is remembered of each JWS; neither has cycles to be found.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_COLLECT_AFTER)
            _yield_to_proxies()
            await service.server.start()
            # One watches for all: its supervisor has the others follow.
            service.reloader.start(watch=settings.watch and (link is None or link.number == 0))
            for each in sockets:
                name = each.getsockname()
                place = f"unix:{name}" if isinstance(name, str) else address_text(name)
                lifecycle.announce(f"jwsgate: listening on {place} (dialect {settings.dialect})")
            lifecycle.running()
            await service.ended.wait()
            service.reloader.stop()
    if made is not None:
        made.unlink(missing_ok=True)
    return 0


def serve(settings: ServeSettings) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code.

    0: ended as asked. 1: could not start. 3: something that it cannot run without broke.
    """
    try:
        return uvloop.run(_serve(settings))
    except Exception as error:
        with suppress(OSError):
            sys.stderr.write(f"jwsgate: cannot go on, {type(error).__name__}: {error}\n")
        return 3
