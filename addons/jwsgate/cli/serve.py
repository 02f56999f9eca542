"""`jwsgate serve`. Every option can also come from the environment, as JWSGATE_ and its name."""

import importlib.util
import ipaddress
import re
import sys
from pathlib import Path
from typing import Final

import click

from jwsgate.adapters.listening import Address
from jwsgate.adapters.supervisor import supervise
from jwsgate.adapters.worker import has_supervisor
from jwsgate.core.upstream import TRANSACTION_HEADER
from jwsgate.files.pages import page_name

from .manual import Manual
from .options import (
    admin_option,
    audit_option,
    drain_seconds_option,
    policy_option,
    portal_option,
    rejection_log_level_option,
    replay_store_option,
    require,
    split_listen,
    watch_option,
    workers_option,
)

__all__ = ["serve_command"]

_LOOPBACK: Final = "127.0.0.0/8", "::1"
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _split_address(context: click.Context, parameter: click.Parameter, value: str) -> Address:
    return Path(value[5:]).absolute() if value[:5] == "unix:" and value[5:] else split_listen(context, parameter, value)


class _Network(click.ParamType[ipaddress.IPv4Network | ipaddress.IPv6Network]):
    """An address, or a network in CIDR notation."""

    name = "ADDRESS|CIDR"

    def convert(
        self, value: str, parameter: click.Parameter | None, context: click.Context | None
    ) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            self.fail(f"write an address such as 10.0.0.7 or a network such as 10.0.0.0/8: {error}", parameter, context)


class _Mode(click.ParamType[int]):
    """File permissions in octal."""

    name = "MODE"

    def convert(self, value: str | int, parameter: click.Parameter | None, context: click.Context | None) -> int:
        text = str(value)
        if len(text) > 4 or not text.isascii() or set(text) - set("01234567"):
            self.fail("write permissions in octal, such as 660", parameter, context)
        return int(text, 8)


def _check_names(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _NAME.fullmatch(value):
            raise click.BadParameter("write the name of one HTTP header, such as X-Subject")
    return values


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # what it is part of is not there, or another
        return False


@click.command(
    "serve",
    cls=Manual,
    examples={
        "jwsgate serve --dialect nginx --portal portal.yaml --policy policy.yaml": "For nginx's auth_request.",
        "jwsgate serve --dialect envoy --workers auto …": "For Envoy's ext_authz over HTTP, on every core.",
        "jwsgate serve --dialect envoy-grpc …": "For Envoy's ext_authz over gRPC (jwsgate[grpc]).",
    },
    exit_codes={
        0: "ended as asked (SIGTERM, SIGINT)",
        1: "could not start (files, options, port)",
        2: "called wrongly",
        3: "something it cannot run without broke, such as workers that keep dying",
    },
    epilog="SIGTERM and SIGINT let requests in flight finish, a second one ends at once. SIGHUP reads the files anew, "
    f"SIGUSR1 only opens the audit file anew. More: {page_name('serve.md')}",
)
@click.option(
    "--dialect",
    envvar="JWSGATE_DIALECT",
    show_envvar=True,
    type=click.Choice(["nginx", "envoy", "envoy-grpc", "traefik", "caddy", "haproxy"]),
    required=True,
    help="Whose questions are answered: of nginx auth_request, Envoy ext_authz over HTTP or gRPC, Traefik "
    "forwardAuth, Caddy, or HAProxy.",
)
@click.option(
    "--listen",
    envvar="JWSGATE_LISTEN",
    show_envvar=True,
    metavar="HOST:PORT|unix:PATH",
    default="127.0.0.1:8480",
    show_default=True,
    callback=_split_address,
    help="Where the proxy asks, without TLS.",
)
@click.option(
    "--socket-mode",
    envvar="JWSGATE_SOCKET_MODE",
    show_envvar=True,
    type=_Mode(),
    default="660",
    show_default=True,
    help="Permissions of a Unix socket: whoever may write to it is taken for the proxy.",
)
@click.option(
    "--peers",
    envvar="JWSGATE_PEERS",
    show_envvar=True,
    type=_Network(),
    multiple=True,
    default=_LOOPBACK,
    show_default=True,
    help="Addresses that the proxy asks from; all others are refused. May be given more than once.",
)
@click.option(
    "--proxy-sets",
    envvar="JWSGATE_PROXY_SETS",
    show_envvar=True,
    metavar="HEADER",
    multiple=True,
    default=(TRANSACTION_HEADER,),
    show_default=True,
    callback=_check_names,
    help="A header that the proxy sets from each answer whatever the client sent, and takes off when the answer has "
    "none. All that the policy tells the upstream have to be named, but for envoy-grpc. May be given more than once.",
)
@portal_option
@policy_option
@click.option(
    "--remember",
    envvar="JWSGATE_REMEMBER",
    show_envvar=True,
    metavar="N",
    type=click.IntRange(0, 10_000_000),
    default=100_000,
    show_default=True,
    help="How many verified JWS are remembered, so that seen ones cost no signature; up to 6 KiB each on average, so "
    "fewer of large ones.",
)
@replay_store_option
@admin_option
@audit_option
@rejection_log_level_option
@watch_option
@workers_option
@drain_seconds_option
def serve_command(
    dialect: str,
    listen: Address,
    socket_mode: int,
    peers: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
    proxy_sets: tuple[str, ...],
    portal: str | None,
    policies: tuple[str, ...],
    remember: int,
    replay_store: str,
    admin: tuple[str, int] | None,
    audit: str,
    rejection_log_level: str,
    watch: bool,
    workers: int,
    drain_seconds: int,
) -> None:
    """Decide for proxies such as nginx and Envoy.

    The proxy forwards a request only when the service says so. deploy/ has configurations that are tested.
    """
    require({"--portal": portal, "--policy": any(policies)})
    for module in ("uvloop", "httptools"):
        if importlib.util.find_spec(module) is None:
            raise click.ClickException(f"jwsgate serve needs {module}: pip install 'jwsgate[serve]'")
    if dialect == "envoy-grpc" and not (_is_there("h2") and _is_there("envoy.service.auth.v3")):
        raise click.ClickException("--dialect envoy-grpc needs h2 and xds-protos: pip install 'jwsgate[grpc]'")
    if workers > 1 and not has_supervisor():
        command = [sys.executable, *sys.orig_argv[1:]]
        sys.exit(supervise(command, workers, listen, admin, drain_seconds, socket_mode, stdout_is_taken=audit == "-"))
    from jwsgate.adapters.serving import ServeSettings, serve  # noqa: PLC0415 - what it imports is an extra

    sys.exit(
        serve(
            ServeSettings(
                dialect=dialect,
                listen=listen,
                portal=portal or "",
                policies=tuple(filter(None, policies)),
                peers=peers,
                proxy_sets=(*proxy_sets, TRANSACTION_HEADER),
                socket_mode=socket_mode,
                remember=remember,
                replay_store=replay_store,
                admin=admin,
                audit=audit,
                rejection_log_level=rejection_log_level,
                watch=watch,
                drain_seconds=float(drain_seconds),
            )
        )
    )
