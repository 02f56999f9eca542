"""Options that several commands have."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from jwsgate.files.problems import Unfit
from jwsgate.files.report_formats import report_target
from jwsgate.files.tally import FAIL_ON

__all__ = [
    "LinesParameter",
    "expect_option",
    "fail_on_option",
    "given_files",
    "policy_option",
    "portal_option",
    "report_option",
]

type _Decorator = Callable[[Any], Any]


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


portal_option: Final[_Decorator] = click.option(
    "--portal",
    envvar="JWSGATE_PORTAL",
    show_envvar=True,
    metavar="PATH",
    type=click.Path(),
    help="Portal export: a file, or a folder of them.",
)
policy_option: Final[_Decorator] = click.option(
    "--policy",
    "policies",
    envvar="JWSGATE_POLICY",
    show_envvar=True,
    metavar="PATH",
    type=click.Path(),  # in the environment several are joined as in PATH
    multiple=True,
    help="Policy file, or API definition of API Connect; may be given more than once.",
)
expect_option: Final[_Decorator] = click.option(
    "--expect",
    envvar="JWSGATE_EXPECT",
    show_envvar=True,
    metavar="PATH",
    help="File with what is expected to be decided (docs/ci.md); what is not met is a finding.",
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
    for name, value in (("--portal", portal), ("--policy", any(policies))):
        if not value:
            raise click.UsageError(f"Missing option '{name}'.")
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
