"""Options that several commands have. Each can also come from the environment, as JWSGATE_ and its name."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from jwsgate.adapters.supervisor import usable_cores
from jwsgate.files.pages import page_name
from jwsgate.files.problems import Unfit
from jwsgate.files.report_formats import report_target
from jwsgate.files.tally import FAIL_ON

__all__ = [
    "FILES",
    "LinesParameter",
    "admin_option",
    "audit_option",
    "drain_seconds_option",
    "expect_option",
    "fail_on_option",
    "given_files",
    "policy_option",
    "portal_option",
    "rejection_log_level_option",
    "replay_store_option",
    "report_option",
    "require",
    "split_listen",
    "watch_option",
    "workers_option",
]

_MAX_WORKERS: Final = 1024
type _Decorator = Callable[[Any], Any]

_LISTEN = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:\[\]\s]*)):(?P<port>[0-9]{1,5})")


class LinesParameter(click.ParamType[str]):
    """Values that may hold spaces and colons; in an environment variable, several stand on lines of their own."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.splitlines() if line.strip()]


class _ReportParameter(LinesParameter):
    name = "[FORMAT=]PATH"

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        try:
            report_target(value)
        except Unfit as error:
            self.fail(f"{error} ({error.remedy})", parameter, context)
        return value


def split_listen(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, for click."""
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > 65535:
        raise click.BadParameter("write HOST:PORT, such as 127.0.0.1:8443 or [::1]:8443")
    return match["ipv6"] or match["host"], int(match["port"])


def _split_admin(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    return split_listen(context, parameter, value) if value else None


class _Workers(click.ParamType[int]):
    """A number of processes, or `auto`."""

    name = "N|auto"

    def convert(self, value: str | int, parameter: click.Parameter | None, context: click.Context | None) -> int:
        if value == "auto":
            return usable_cores()
        text = str(value)
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= _MAX_WORKERS and len(text) <= 4):
            self.fail(f"write a number from 1 to {_MAX_WORKERS}, or auto", parameter, context)
        return int(text)


def require(options: Mapping[str, object], hint: str = "") -> None:
    """Demand options that may come from elsewhere too.

    Raises:
        click.UsageError: for the first that is missing.
    """
    for name, value in options.items():
        if not value:
            raise click.UsageError(f"Missing option '{name}'{hint}.")


FILES: Final = click.Path(readable=False)
"""What can be wrong with it is left to those who read it, whose messages and exit codes are the commands' own."""

portal_option = click.option(
    "--portal",
    envvar="JWSGATE_PORTAL",
    show_envvar=True,
    metavar="PATH",
    type=FILES,
    help="Portal export: a file, or a folder of them.",
)
policy_option = click.option(
    "--policy",
    "policies",
    envvar="JWSGATE_POLICY",
    show_envvar=True,
    metavar="PATH",
    type=FILES,  # in the environment several are joined as in PATH
    multiple=True,
    help="Policy file, or API definition of API Connect; may be given more than once.",
)
replay_store_option = click.option(
    "--replay-store",
    envvar="JWSGATE_REPLAY_STORE",
    show_envvar=True,
    metavar="memory|URL",
    default="memory",
    show_default=True,
    help="Where single_use routes remember what was used: this process, or redis://HOST[:PORT][/DB].",
)
admin_option = click.option(
    "--admin",
    envvar="JWSGATE_ADMIN",
    show_envvar=True,
    metavar="HOST:PORT",
    callback=_split_admin,
    help="Where /metrics, /livez and /readyz are answered; nowhere if not said.",
)
audit_option = click.option(
    "--audit",
    envvar="JWSGATE_AUDIT",
    show_envvar=True,
    metavar="PATH|-",
    default="",
    help="File for one JSON line per decision; - is standard output, and the log then goes to stderr.",
)
rejection_log_level_option = click.option(
    "--rejection-log-level",
    envvar="JWSGATE_REJECTION_LOG_LEVEL",
    show_envvar=True,
    type=click.Choice(["debug", "info", "warning", "error", "off"]),
    default="info",
    show_default=True,
    help="Level at which the log tells of rejections.",
)
watch_option = click.option(
    "--watch/--no-watch",
    envvar="JWSGATE_WATCH",
    show_envvar=True,
    default=True,
    show_default=True,
    help="Take up portal and policies when their files change; SIGHUP always does.",
)
workers_option = click.option(
    "--workers",
    envvar="JWSGATE_WORKERS",
    show_envvar=True,
    metavar="N|auto",
    type=_Workers(),
    default=1,
    show_default=True,
    help="How many processes serve the port, one that dies being replaced; auto is one for each core.",
)
drain_seconds_option = click.option(
    "--drain-seconds",
    envvar="JWSGATE_DRAIN_SECONDS",
    show_envvar=True,
    metavar="SECONDS",
    type=click.IntRange(0, 86400),
    default=30,
    show_default=True,
    help="How long requests in flight may take to finish after SIGTERM or SIGINT.",
)
expect_option: Final[_Decorator] = click.option(
    "--expect",
    envvar="JWSGATE_EXPECT",
    show_envvar=True,
    metavar="PATH",
    help=f"File with what is expected to be decided ({page_name('ci.md')}); what is not met is a finding.",
)
report_option: Final[_Decorator] = click.option(
    "--report",
    "reports",
    envvar="JWSGATE_REPORT",
    show_envvar=True,
    type=_ReportParameter(),
    multiple=True,
    help="Report to write: the ending tells the format (.xml JUnit, .json, .sarif, .txt), or FORMAT= before it "
    "(junit, json, sarif, github, text); - is stdout. May be given more than once.",
)


def given_files(portal: str | None, policies: Sequence[str]) -> tuple[Path, list[Path]]:
    """Portal and policies, for commands that need both; raises `click.UsageError`."""
    require({"--portal": portal, "--policy": any(policies)})
    return Path(portal or ""), [Path(name) for name in policies if name]


def fail_on_option(default: str | None) -> _Decorator:
    """`--fail-on`; without a default, the command finds one itself."""
    return click.option(
        "--fail-on",
        envvar="JWSGATE_FAIL_ON",
        show_envvar=True,
        type=click.Choice(FAIL_ON),
        default=default,
        show_default=default is not None or "reject with a COMMAND, else none",
        help="Which requests are findings, so that the exit code is 1, where no expectation says otherwise: none, "
        "rejected ones, or also those that would be but for the mode of their route.",
    )
