"""`jwsgate run`: a mitmproxy master that cannot forget the gate."""

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from mitmproxy import certs, exceptions, log, master, options
from mitmproxy.addons import core, disable_h2c, errorcheck, next_layer, termlog, tlsconfig
from mitmproxy.utils import vt_codes

from jwsgate.files.problems import Unfit
from jwsgate.files.tls_files import check_ca_file

from .audit import STANDARD_OUTPUT
from .command import Command, command_environment, inherited_environment, reached_at
from .connection import SidecarProxyserver
from .dispatch import seal_manager
from .event_loop import new_event_loop
from .forward_proxy import ca_bundle, proxy_environment
from .gate import JwsGate
from .lean import lean_process
from .lifecycle import Lifecycle
from .listening import CannotListen, address_text, bind_sockets, inherited_sockets
from .option_owners import add_owners, check_effective, check_known
from .reload import Outcome
from .seal import install
from .worker import WorkerLink

__all__ = ["RunSettings", "run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What `jwsgate run` was asked for. `mitmproxy_options` are `name=value` texts."""

    upstream: str
    """Empty where the gate is a forward proxy."""
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
    reports: Sequence[str] = ()
    """Reports to write at the end, by ending or as `FORMAT=PATH`."""
    expect: str = ""
    """File of expectations."""
    fail_on: str = "none"
    """Which requests make the exit code 1."""
    command: Sequence[str] = ()
    """A command to run beside the gate, which ends with it."""
    proxy: bool = False
    """Whether it is a forward proxy, for whatever hosts its clients call."""

    @property
    def is_sidecar(self) -> bool:
        """Whether the process is a sidecar alone, without a user interface."""
        return self.ui == "none" and not self.proxy

    @property
    def stdout_is_taken(self) -> bool:
        """Whether standard output is the command's, or the audit log's, so that the log goes to standard error."""
        audits = self.audit == STANDARD_OUTPUT or f"jwsgate_audit={STANDARD_OUTPUT}" in self.mitmproxy_options
        return audits or bool(self.command)


class _Log(termlog.TermLogHandler):
    """mitmproxy's, which ends the process when a line cannot be written; here the line is dropped."""

    fault: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=self.file)
        except OSError as error:
            self.fault = error
        except Exception:  # noqa: S110 - asyncio logs what its callbacks raise: raised here too, it ends the event loop
            pass


class SidecarMaster(master.Master):
    """Only the add-ons that a reverse proxy needs: each one more is asked about every event."""

    def __init__(self, opts: options.Options) -> None:
        super().__init__(opts, with_termlog=True)
        self.log_handler: Any = self._termlog_addon and self._termlog_addon.logger
        self.log_handler.__class__ = _Log
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


class _SidecarService:
    """The gate in mitmproxy, as its life cycle sees it."""

    def __init__(self, the_master: Any, gate: JwsGate) -> None:
        self._master, self._gate = the_master, gate
        self.state, self.accounts, self.reloader = gate.state, gate.accounts, gate.reloader
        self.reopen = gate.tls.reload

    @property
    def on_reload(self) -> Callable[[Outcome], None]:
        return self._gate.on_reload

    @on_reload.setter
    def on_reload(self, told: Callable[[Outcome], None]) -> None:
        self._gate.on_reload = told

    @property
    def _server(self) -> Any:
        return self._master.addons.get("proxyserver")

    @property
    def is_listening(self) -> bool:
        return bool(self._server.listen_addrs())

    @property
    def can_drain(self) -> bool:
        return isinstance(self._server, SidecarProxyserver)

    async def drain(self, seconds: float) -> int:
        self._gate.draining = True
        return int(await self._server.drain(seconds))

    def end(self) -> None:
        getattr(self._master, "prompt_for_exit", self._master.shutdown)()


class _Announcer:
    """Tells where the gate listens, once it does."""

    name = "jwsgate-announcer"

    def __init__(
        self,
        the_master: Any,
        settings: RunSettings,
        lifecycle: Lifecycle,
        command: Command | None = None,
        bundle: str | None = None,
    ) -> None:
        """`bundle` is the file of CA certificates for the command of a forward proxy."""
        self._master = the_master
        self._settings = settings
        self._lifecycle = lifecycle
        self._command = command
        self._bundle = bundle

    def running(self) -> None:
        server = self._master.addons.get("proxyserver")
        spoken = "https only" if self._master.options.jwsgate_tls_only else "http and https"
        for each in dict.fromkeys(server.listen_addrs()):
            address = address_text(each)
            what = "as a proxy" if self._settings.proxy else f"({spoken}) for {self._settings.upstream}"
            self._lifecycle.announce(f"jwsgate: listening on {address} {what}")
        self._lifecycle.running()
        if self._command is not None:
            self._command.start(self._environment(*server.listen_addrs()[0][:2]))

    def _environment(self, host: str, port: int) -> dict[str, str]:
        if self._bundle is not None:
            environment = inherited_environment(os.environ)
            return proxy_environment(environment, reached_at(host, port), bundle=self._bundle)
        ca_file = self._settings.tls_certificate or str(_ca_file(self._master.options))
        https = self._master.options.jwsgate_tls_only
        return command_environment(os.environ, host, port, https=https, ca_file=ca_file)


def _ca_file(opts: Any) -> Path:
    return Path(opts.confdir).expanduser() / f"{options.CONF_BASENAME}-ca-cert.pem"


def _master_class(ui: str, proxy: bool) -> Callable[[options.Options], master.Master]:
    # The user interfaces are slow to import, and a sidecar has none.
    match ui:
        case "web":
            from mitmproxy.tools.web.master import WebMaster  # noqa: PLC0415 - see above

            return WebMaster
        case "console":
            if not (sys.stdin.isatty() and sys.stdout.isatty()):
                raise exceptions.OptionsError("--ui console needs a terminal; use --ui web, or none")
            from mitmproxy.tools.console.master import ConsoleMaster  # noqa: PLC0415 - see above

            return ConsoleMaster
        case _ if proxy:
            from mitmproxy.tools.dump import DumpMaster  # noqa: PLC0415 - see above

            # mitmproxy's own server: what the sidecar's does faster, it does for one upstream.
            return partial(DumpMaster, with_dumper=False)
        case _:
            return SidecarMaster


def _check_ca(name: str, file: str, settings: RunSettings) -> None:
    if not settings.proxy and not settings.upstream.startswith("https:"):
        raise exceptions.OptionsError(f"{name} verifies nothing for an upstream without TLS; use https://")
    try:
        check_ca_file(Path(file).expanduser())
    except (Unfit, RuntimeError) as error:
        remedy = f" ({error.remedy})" if isinstance(error, Unfit) else ""
        raise exceptions.OptionsError(f"{name} {file}: {error}{remedy}") from None


def _check_options(opts: options.Options, settings: RunSettings) -> None:
    """What mitmproxy itself would only find out with the first request, if ever."""
    if not opts.server:
        raise exceptions.OptionsError("--set server=false: a gate has to listen; leave it true")
    given, folder = opts.ssl_verify_upstream_trusted_ca, opts.ssl_verify_upstream_trusted_confdir
    if given:
        _check_ca(
            "--upstream-ca" if given == settings.upstream_ca else "--set ssl_verify_upstream_trusted_ca",
            given,
            settings,
        )
    if folder and not Path(folder).expanduser().is_dir():
        raise exceptions.OptionsError(f"--set ssl_verify_upstream_trusted_confdir={folder}: there is no such folder")


_END_SECONDS: Final = 3.0
_OF_OUR_OWN: Final = {"mode": "--upstream", "listen_host": "--listen", "listen_port": "--listen"}


def _make_ca(opts: options.Options, chosen: Mapping[str, str | None]) -> None:
    """Make mitmproxy's CA where there is none: left to itself, it does so after the port is open, or never says why."""
    folder = Path(chosen.get("confdir") or opts.confdir)
    size, passphrase = chosen.get("key_size") or "", chosen.get("cert_passphrase")
    try:
        folder = folder.expanduser()
        certs.CertStore.from_store(
            folder,
            options.CONF_BASENAME,
            int(size) if size.isdigit() else opts.key_size,
            passphrase.encode() if passphrase else None,
        )
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise exceptions.OptionsError(
            f"{folder}: {why} (mitmproxy keeps its CA there; name a folder that can be written, --set confdir=PATH)"
        ) from None


def _apply(opts: options.Options, the_master: Any, settings: RunSettings, link: WorkerLink | None) -> JwsGate:
    """Raises OptionsError, for options and for the files alike."""
    opts.update(
        mode=["regular" if settings.proxy else f"reverse:{settings.upstream}"],
        listen_host=settings.listen_host,
        listen_port=settings.listen_port,
        # A sidecar's upstream sees the host that the client asked for.
        keep_host_header=True,
    )
    if settings.upstream_ca is not None:
        opts.update(ssl_verify_upstream_trusted_ca=settings.upstream_ca)
    opts.update_defer(
        jwsgate_portal=settings.portal,
        jwsgate_policy=list(settings.policies),
        jwsgate_replay_store=settings.replay_store,
        jwsgate_audit=settings.audit,
        jwsgate_rejection_log_level=settings.rejection_log_level,
        jwsgate_tls_cert=settings.tls_certificate or "",
        jwsgate_tls_only=settings.tls_only,
        jwsgate_report=list(settings.reports),
        jwsgate_expect=settings.expect,
        jwsgate_fail_on=settings.fail_on,
        # One watches for all: its supervisor has the others follow.
        jwsgate_watch=settings.watch and (link is None or link.number == 0),
    )
    if "web_columns" in opts:  # mitmweb: the comments tell why requests were refused
        opts.update(web_columns=["method", "path", "status", "comment"])
    chosen = dict(option.partition("=")[::2] for option in settings.mitmproxy_options)
    for name in chosen:
        if (ours := _OF_OUR_OWN.get(name)) is not None:
            used = "--proxy" if settings.proxy and name == "mode" else ours
            raise exceptions.OptionsError(f"--set {name} would take the place of {used}; use {used}")
    check_effective(chosen)
    if isinstance(the_master, SidecarMaster):
        add_owners(the_master, chosen)
    gate = install(the_master)
    gate.tls.verifies_upstream = True
    gate.state.is_alone = link is None
    _make_ca(opts, chosen)
    opts.set(*settings.mitmproxy_options, defer=True)
    check_known(opts)
    _check_options(opts, settings)
    gate.start()
    return gate


async def _serve(settings: RunSettings) -> int:
    if settings.is_sidecar:
        lean_process()
    # As mitmproxy's own entry point does it: everything reaches its log handlers, which choose.
    logging.getLogger().setLevel(logging.DEBUG if settings.ui != "none" else logging.INFO)
    for chatty in ("asyncio", "hpack", "tornado", "quic", "urwid"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    link = WorkerLink.take()
    opts = options.Options()
    try:
        the_master: Any = _master_class(settings.ui, settings.proxy)(opts)
        if settings.stdout_is_taken and the_master._termlog_addon is not None:
            handler = the_master._termlog_addon.logger
            handler.file = sys.stderr
            handler.formatter = log.MitmFormatter(vt_codes.ensure_supported(sys.stderr))
        gate = _apply(opts, the_master, settings, link)
        if isinstance(the_master, SidecarMaster):
            _take_sockets(the_master, settings, link)
        admin_sockets = _admin_sockets(settings, link)
        bundle = ca_bundle(_ca_file(opts), os.environ) if settings.proxy and settings.command else None
    except (exceptions.OptionsError, CannotListen) as error:
        sys.stderr.write(f"jwsgate: {str(error).removeprefix('jwsgate: ')}\n")
        return 1
    lifecycle = Lifecycle(_SidecarService(the_master, gate), settings.drain_seconds, link)
    command = Command(settings.command, settings.drain_seconds, lifecycle.stop) if settings.command else None
    the_master.addons.add(_Announcer(the_master, settings, lifecycle, command, bundle.name if bundle else None))
    with bundle or nullcontext(), lifecycle.listening():
        if command is not None:
            command.listen()
        async with lifecycle.admin(settings.admin, admin_sockets):
            try:
                await the_master.run()
            finally:
                if command is not None:
                    await command.end()
    # What the command says of itself comes first: its tests have failed, whatever the gate saw.
    code = (command.code if command is not None else 0) or int(gate.accounts.report.failed)
    _end_soon(code)
    return code


def _end_soon(code: int) -> None:
    """What is left is done; Python would go on waiting for the threads that an add-on may have left behind."""

    def end() -> None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(_END_SECONDS, end)
    timer.daemon = True
    timer.start()


def _take_sockets(the_master: SidecarMaster, settings: RunSettings, link: WorkerLink | None) -> None:
    """Raises CannotListen, also when there would be no log."""
    if (fault := the_master.log_handler.fault) is not None:
        place = "stderr" if settings.stdout_is_taken else "stdout"
        raise CannotListen(f"the log cannot be written to {place}: {fault.strerror}")
    server: Any = the_master.addons.get("proxyserver")
    if link is not None:
        server.sockets = link.sockets
    else:
        server.sockets = inherited_sockets() or bind_sockets(settings.listen_host, settings.listen_port)


def _admin_sockets(settings: RunSettings, link: WorkerLink | None) -> Sequence[socket.socket]:
    if link is not None:
        return link.admin_sockets
    return bind_sockets(*settings.admin) if settings.admin is not None else ()


def run(settings: RunSettings) -> int:
    """Run the gate until SIGINT or SIGTERM. Returns the exit code.

    0: ended as asked. 1: could not start, or findings. 3: something that it cannot run without broke. With a command,
    its own exit code where that is not 0. The process is to end soon afterwards: an add-on's threads that still run a
    few seconds later are ended with it.
    """
    try:
        return asyncio.run(_serve(settings), loop_factory=new_event_loop if settings.is_sidecar else None)
    except Exception as error:
        with suppress(OSError):
            sys.stderr.write(f"jwsgate: cannot go on, {type(error).__name__}: {error}\n")
        return 3
