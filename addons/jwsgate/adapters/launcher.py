"""`jwsgate run`: a mitmproxy master that cannot forget the gate."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitmproxy import exceptions, master, options
from mitmproxy.addons import core, disable_h2c, errorcheck, next_layer, tlsconfig

from jwsgate.files.problems import Unfit
from jwsgate.files.tls_files import check_ca_file

from .admin import AdminServer
from .connection import SidecarProxyserver
from .dispatch import seal_manager
from .gate import JwsGate
from .lean import lean_process
from .lifecycle import Lifecycle
from .metrics import Metrics
from .seal import install

__all__ = ["RunSettings", "run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What `jwsgate run` was asked for. `mitmproxy_options` are `name=value` texts."""

    upstream: str
    listen_host: str
    listen_port: int
    portal: str
    policies: Sequence[str]
    tls_certificate: str | None = None
    tls_only: bool = False
    upstream_ca: str | None = None
    ui: str = "none"
    replay_store: str = "memory"
    drain_seconds: float = 30.0
    admin: tuple[str, int] | None = None
    """Where the admin port listens."""
    audit: str = ""
    rejection_log_level: str = "info"
    watch: bool = True
    """Whether changed files are taken up without being asked to."""
    mitmproxy_options: Sequence[str] = field(default_factory=tuple)


class SidecarMaster(master.Master):
    """Only the add-ons that a reverse proxy needs: each one more is asked about every event."""

    def __init__(self, opts: options.Options) -> None:
        super().__init__(opts, with_termlog=True)
        # It turns each line of the log into an event for add-ons, of which none here listens.
        self._legacy_log_events.uninstall()
        seal_manager(self.addons, fixed=True)
        self.addons.add(
            core.Core(),
            SidecarProxyserver(),
            next_layer.NextLayer(),
            tlsconfig.TlsConfig(),
            disable_h2c.DisableH2C(),
            errorcheck.ErrorCheck(),
        )


class _Announcer:
    """Tells where the gate listens, once it does."""

    name = "jwsgate-announcer"

    def __init__(self, the_master: Any, settings: RunSettings) -> None:
        self._master = the_master
        self._settings = settings

    def running(self) -> None:
        server = self._master.addons.get("proxyserver")
        for host, port, *_ in dict.fromkeys(server.listen_addrs()):
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            spoken = "https only" if self._master.options.jwsgate_tls_only else "http and https"
            logger.info("jwsgate: listening on %s (%s) for %s", address, spoken, self._settings.upstream)


def _master_class(ui: str) -> type[master.Master]:
    # The user interfaces are slow to import, and a sidecar has none.
    match ui:
        case "web":
            from mitmproxy.tools.web.master import WebMaster  # noqa: PLC0415 - see above

            return WebMaster
        case "console":
            from mitmproxy.tools.console.master import ConsoleMaster  # noqa: PLC0415 - see above

            return ConsoleMaster
        case _:
            return SidecarMaster


def _checked_ca(settings: RunSettings) -> str:
    path = Path(str(settings.upstream_ca))
    if not settings.upstream.startswith("https:"):
        raise exceptions.OptionsError("--upstream-ca verifies nothing for an upstream without TLS; use https://")
    try:
        check_ca_file(path)
    except Unfit as error:
        raise exceptions.OptionsError(f"--upstream-ca {path}: {error} ({error.remedy})") from None
    return str(path)


def _apply(opts: options.Options, the_master: Any, settings: RunSettings) -> JwsGate:
    """Raises OptionsError, for options and for the files alike."""
    opts.update(
        mode=[f"reverse:{settings.upstream}"],
        listen_host=settings.listen_host,
        listen_port=settings.listen_port,
        # A sidecar's upstream sees the host that the client asked for.
        keep_host_header=True,
    )
    if settings.upstream_ca is not None:
        opts.update(ssl_verify_upstream_trusted_ca=_checked_ca(settings))
    opts.update_defer(
        jwsgate_portal=settings.portal,
        jwsgate_policy=list(settings.policies),
        jwsgate_replay_store=settings.replay_store,
        jwsgate_audit=settings.audit,
        jwsgate_rejection_log_level=settings.rejection_log_level,
        jwsgate_tls_cert=settings.tls_certificate or "",
        jwsgate_tls_only=settings.tls_only,
        jwsgate_watch=settings.watch,
    )
    gate = install(the_master)
    gate.tls.verifies_upstream = True
    if any(option.partition("=")[0] == "mode" for option in settings.mitmproxy_options):
        raise exceptions.OptionsError("--set mode would take the place of --upstream; use --upstream")
    opts.set(*settings.mitmproxy_options)
    if opts.deferred:
        unknown = ", ".join(sorted(opts.deferred))
        raise exceptions.OptionsError(f"--set {unknown}: mitmproxy has no such option here; check the spelling")
    gate.start()
    return gate


async def _serve(settings: RunSettings) -> int:
    if settings.ui == "none":
        lean_process()
    # As mitmproxy's own entry point does it: everything reaches its log handlers, which choose.
    logging.getLogger().setLevel(logging.DEBUG if settings.ui != "none" else logging.INFO)
    for chatty in ("asyncio", "hpack", "tornado", "quic", "urwid"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    opts = options.Options()
    the_master: Any = _master_class(settings.ui)(opts)
    try:
        gate = _apply(opts, the_master, settings)
    except exceptions.OptionsError as error:
        sys.stderr.write(f"jwsgate: {error}\n")
        return 1
    the_master.addons.add(_Announcer(the_master, settings))
    lifecycle = Lifecycle(the_master, gate, settings.drain_seconds)
    lifecycle.install()
    async with _admin(settings, gate, lifecycle):
        await the_master.run()
    return 0


@asynccontextmanager
async def _admin(settings: RunSettings, gate: JwsGate, lifecycle: Lifecycle) -> AsyncIterator[None]:
    if settings.admin is None:
        yield
        return
    metrics = gate.accounts.metrics = Metrics(lambda: gate.state.snapshot, gate.state.cache)
    server = AdminServer(*settings.admin, lifecycle.not_ready, metrics.exposition)
    try:
        await server.start()
    except OSError as error:
        # mitmproxy does not start after an ERROR in the log.
        logger.error("jwsgate: cannot listen on the admin port: %s", error.strerror or error)
        yield
        return
    host, port = server.address
    logger.info("jwsgate: metrics and health on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    try:
        yield
    finally:
        await server.close()
        metrics.close()


def run(settings: RunSettings) -> int:
    """Run the gate until SIGINT or SIGTERM. Returns the exit code: 1 when it could not start, else 0."""
    return asyncio.run(_serve(settings))
