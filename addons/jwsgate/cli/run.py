"""`jwsgate run`. Every option can also come from the environment, as JWSGATE_ and its name."""

import ipaddress
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from jwsgate.adapters.supervisor import supervise
from jwsgate.adapters.worker import has_supervisor
from jwsgate.files.pages import page_name

from .manual import Manual
from .options import (
    LinesParameter,
    admin_option,
    audit_option,
    drain_seconds_option,
    expect_option,
    fail_on_option,
    policy_option,
    portal_option,
    rejection_log_level_option,
    replay_store_option,
    report_option,
    require,
    split_listen,
    watch_option,
    workers_option,
)

__all__ = ["run_command"]

_EXAMPLES: Final = {
    "jwsgate run --upstream http://127.0.0.1:9000 --portal portal.yaml --policy policy.yaml": "A sidecar.",
    "jwsgate run --demo --ui web": "The project's demo, with every request shown in mitmweb.",
    "jwsgate run … --listen 127.0.0.1:0 --report junit.xml -- pytest": "A gate around a test run.",
    "jwsgate run --proxy … --listen 127.0.0.1:0 -- pytest": "The same for a client whose URLs are fixed.",
    "jwsgate run … --workers auto --admin 127.0.0.1:9090 --audit audit.jsonl": "In production.",
}
_EXIT_CODES: Final = {
    0: "ended as asked (SIGTERM, SIGINT); with a COMMAND, it and the requests were as expected",
    1: "could not start (files, options, port), or findings (--fail-on, --expect)",
    2: "called wrongly",
    3: "something it cannot run without broke, such as workers that keep dying",
}
_SIGNALS: Final = (
    "A COMMAND's own exit code comes first where it is not 0. SIGTERM and SIGINT let requests in flight finish, a "
    "second one ends at once; a COMMAND is sent them first, and killed by the second. SIGHUP reads the files anew, "
    "SIGUSR1 only opens the audit file anew. More: "
    f"{page_name('operation.md')}"
)

_UPSTREAM = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?/?")


def _check_upstream(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if not value:
        return None
    match = _UPSTREAM.fullmatch(value)
    if match is None or not 0 < int(match["port"] or 80) <= 65535:
        raise click.BadParameter("write http://HOST[:PORT] or https://HOST[:PORT], without a path")
    return value.rstrip("/")


class _MitmproxyOption(LinesParameter):
    """NAME=VALUE."""

    name = "NAME=VALUE"

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        if not value.partition("=")[0].strip():
            self.fail("write NAME=VALUE", parameter, context)
        return value


class _Run(Manual):
    """The command, which tells a COMMAND that is empty from none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ends_in_dashes = args[-1:] == ["--"]
        rest = super().parse_args(ctx, args)
        if ends_in_dashes and not ctx.params["command"]:
            # Without its command the gate would run until it is killed, and a build with it.
            raise click.UsageError("-- has no COMMAND after it; is a variable empty that was to name one?", ctx)
        return rest


@click.command(
    "run",
    cls=_Run,
    examples=_EXAMPLES,
    exit_codes=_EXIT_CODES,
    epilog=_SIGNALS,
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--upstream",
    envvar="JWSGATE_UPSTREAM",
    show_envvar=True,
    metavar="URL",
    callback=_check_upstream,
    help="The API behind the gate: http://HOST[:PORT] or https://HOST[:PORT].",
)
@click.option(
    "--proxy",
    envvar="JWSGATE_PROXY",
    show_envvar=True,
    is_flag=True,
    help="Be an HTTP proxy, in place of --upstream, for whatever hosts are called; for clients whose URLs are fixed.",
)
@click.option(
    "--listen",
    envvar="JWSGATE_LISTEN",
    show_envvar=True,
    metavar="HOST:PORT",
    default="127.0.0.1:8443",
    show_default=True,
    callback=split_listen,
    help="Where to listen, for http and https alike.",
)
@portal_option
@policy_option
@click.option(
    "--tls-cert",
    envvar="JWSGATE_TLS_CERT",
    show_envvar=True,
    metavar="PEM",
    help="Certificate (chain) and key that the gate shows, in one file; taken up anew when it changes. "
    "mitmproxy's own CA makes one otherwise.",
)
@click.option(
    "--tls-only",
    envvar="JWSGATE_TLS_ONLY",
    show_envvar=True,
    is_flag=True,
    help="Close connections that do not begin with TLS.",
)
@click.option(
    "--upstream-ca",
    envvar="JWSGATE_UPSTREAM_CA",
    show_envvar=True,
    metavar="PEM",
    help="CA certificates that an https upstream must chain to, in place of the public ones.",
)
@click.option(
    "--ui",
    envvar="JWSGATE_UI",
    show_envvar=True,
    type=click.Choice(["none", "web", "console"]),
    default="none",
    show_default=True,
    help="Show the traffic in mitmweb or in mitmproxy's console.",
)
@replay_store_option
@admin_option
@audit_option
@rejection_log_level_option
@watch_option
@workers_option
@drain_seconds_option
@click.option(
    "--set",
    "mitmproxy_options",
    envvar="JWSGATE_SET",
    show_envvar=True,
    metavar="NAME=VALUE",
    type=_MitmproxyOption(),
    multiple=True,
    help="A mitmproxy option; may be given more than once.",
)
@report_option
@expect_option
@fail_on_option(None)
@click.option(
    "--demo",
    envvar="JWSGATE_DEMO",
    show_envvar=True,
    is_flag=True,
    help="Run the demo of the project's folder: its portal, policy and an echo upstream.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARGUMENTS]...]")
def run_command(
    upstream: str | None,
    proxy: bool,
    listen: tuple[str, int],
    portal: str | None,
    policies: tuple[str, ...],
    tls_cert: str | None,
    tls_only: bool,
    upstream_ca: str | None,
    ui: str,
    replay_store: str,
    watch: bool,
    admin: tuple[str, int] | None,
    audit: str,
    rejection_log_level: str,
    workers: int,
    drain_seconds: int,
    mitmproxy_options: tuple[str, ...],
    reports: tuple[str, ...],
    expect: str | None,
    fail_on: str | None,
    demo: bool,
    command: tuple[str, ...],
) -> None:
    """Run the gate in front of an upstream.

    With a COMMAND, such as the tests of a client: the gate starts, the command runs with JWSGATE_URL set to the URL of
    the gate, or with --proxy HTTP_PROXY and HTTPS_PROXY, and the gate ends with it. Its log then goes to stderr. Port 0
    in --listen is a free one.
    """
    if proxy:
        _check_proxy(
            {"--upstream": upstream, "--tls-cert": tls_cert, "--tls-only": tls_only, "--demo": demo}, listen[0]
        )
        if workers > 1:
            raise click.UsageError("--workers is for production; --proxy runs a single process.")
    _check_command(command, ui, workers > 1 and bool(reports or expect or (fail_on or "none") != "none" or command))
    if workers > 1 and not has_supervisor():
        if demo or ui != "none":
            raise click.UsageError("--workers is for production; --ui and --demo run a single process.")
        _require(upstream, portal, policies)
        # The very command line that started this process, the interpreter's own options included.
        own = [sys.executable, *sys.orig_argv[1:]]
        audited = audit == "-" or "jwsgate_audit=-" in mitmproxy_options
        sys.exit(supervise(own, workers, listen, admin, drain_seconds, stdout_is_taken=audited))
    from jwsgate.adapters.launcher import RunSettings, run  # noqa: PLC0415 - mitmproxy is slow to import, and --help needs none of it

    settings = RunSettings(
        upstream=upstream or "",
        listen_host=listen[0],
        listen_port=listen[1],
        portal=portal or "",
        policies=tuple(filter(None, policies)),
        tls_certificate=tls_cert,
        tls_only=tls_only,
        upstream_ca=upstream_ca,
        ui=ui,
        replay_store=replay_store,
        watch=watch,
        admin=admin,
        audit=audit,
        rejection_log_level=rejection_log_level,
        drain_seconds=drain_seconds,
        mitmproxy_options=mitmproxy_options,
        reports=reports,
        expect=expect or "",
        fail_on=fail_on or ("reject" if command else "none"),
        command=command,
        proxy=proxy,
    )
    if demo:
        from jwsgate.demo import demo_settings  # noqa: PLC0415 - it imports the launcher

        try:
            settings = demo_settings(settings)
        except OSError as error:
            raise click.ClickException(f"the demo cannot start: {error}") from None
    _require(settings.upstream or proxy, settings.portal, settings.policies)
    sys.exit(run(settings))


def _check_proxy(others: Mapping[str, object], host: str) -> None:
    for name, value in others.items():
        if value:
            raise click.UsageError(f"{name} is for a gate in front of one upstream; leave it out with --proxy.")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise click.UsageError("--proxy would call any host for whoever reaches it; listen on 127.0.0.1 or [::1].")


def _check_command(command: Sequence[str], ui: str, needs_one_process: bool) -> None:
    if needs_one_process:
        raise click.UsageError(
            "--workers is for production; a COMMAND, --report, --expect and --fail-on need one process."
        )
    if command and ui == "console":
        raise click.UsageError("--ui console and a COMMAND both want the terminal; use --ui web.")
    if command and shutil.which(command[0]) is None:
        if "/" in command[0] and Path(command[0]).is_file():
            raise click.UsageError(f"{command[0]!r} is not executable; chmod +x makes it so.")
        message = f"there is no command {command[0]!r} to run beside the gate; options come before it, after them --."
        raise click.UsageError(message)


def _require(upstream: object, portal: str | None, policies: Sequence[str]) -> None:
    demo = "; ./run_proxy.sh without arguments runs the demo"
    require({"--upstream": upstream, "--portal": portal, "--policy": any(policies)}, demo)
