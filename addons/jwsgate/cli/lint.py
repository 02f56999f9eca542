"""`jwsgate lint`."""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import click

from jwsgate.files.lint import RULES, LintFinding, lint
from jwsgate.files.lint_formats import FORMATS
from jwsgate.files.policy_tests import run_policy_tests

from .manual import Manual
from .options import policy_option, portal_option

__all__ = ["lint_command"]


def _rules(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        for rule in RULES.values():
            click.echo(f"{rule.name} ({rule.level}): {rule.about}")
        context.exit()


class _Ignored(NamedTuple):
    """What a user knows of already: a rule, everywhere or of one route or application."""

    rule: str
    name: str

    def covers(self, finding: LintFinding) -> bool:
        return self.rule == finding.rule.name and self.name in {"", finding.route, finding.application}


def _ignored(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[_Ignored, ...]:
    ignored = []
    for value in values:
        rule, at, name = value.partition("@")
        if rule not in RULES:
            raise click.BadParameter(f"{rule!r} is no rule: jwsgate lint --rules lists them.")
        if RULES[rule].level == "error":
            raise click.BadParameter(f"{rule} is an error, which does not go away by being known.")
        if at and not name:
            raise click.BadParameter(f"name the route or the application behind {value}")
        ignored.append(_Ignored(rule, name))
    return tuple(ignored)


@click.command(
    "lint",
    cls=Manual,
    examples={
        "jwsgate lint --portal portal.yaml --policy policy.yaml": "Everything that is wrong, or soon will be.",
        "jwsgate lint --policy policies/sidecar.yaml --run-tests": "Whether a policy decides as its tests say.",
        "jwsgate lint --policy policy.yaml --ignore route-open@/health": "All but what is meant to be so.",
        "jwsgate lint --portal exports --expires-within 60 --format github": "Annotations in a workflow of GitHub.",
    },
    exit_codes={0: "nothing to tell", 1: "findings, as --fail-on has it", 2: "called wrongly"},
)
@portal_option
@policy_option
@click.option(
    "--expires-within",
    envvar="JWSGATE_EXPIRES_WITHIN",
    show_envvar=True,
    metavar="DAYS",
    type=click.IntRange(0, 36500),
    default=30,
    show_default=True,
    help="Tell of certificates that expire within so many days.",
)
@click.option(
    "--format",
    "form",
    envvar="JWSGATE_FORMAT",
    show_envvar=True,
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="How to tell: for people, programs, code scanning, or GitHub's annotations.",
)
@click.option(
    "--fail-on",
    envvar="JWSGATE_LINT_FAIL_ON",
    show_envvar=True,
    type=click.Choice(["warning", "error"]),
    default="warning",
    show_default=True,
    help="The least finding for which the exit code is 1.",
)
@click.option(
    "--ignore",
    "ignored",
    envvar="JWSGATE_LINT_IGNORE",
    show_envvar=True,
    metavar="RULE[@NAME]",
    multiple=True,
    callback=_ignored,
    help="Leave out the warnings of a rule, or those of one route or application. May be repeated.",
)
@click.option(
    "--run-tests",
    is_flag=True,
    envvar="JWSGATE_RUN_TESTS",
    show_envvar=True,
    help="Also decide the example requests under `tests` of the policies.",
)
@click.option(
    "--rules",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_rules,
    help="List the rules that findings go by, and end.",
)
def lint_command(
    portal: str | None,
    policies: tuple[str, ...],
    expires_within: int,
    form: str,
    fail_on: str,
    ignored: tuple[_Ignored, ...],
    run_tests: bool,
) -> None:
    """Check a portal export and policies.

    Tells everything that is wrong or soon will be, with its place and a remedy. An error keeps the gate from starting,
    or an application from calling; a warning does not yet.
    """
    names = tuple(filter(None, policies))
    if not portal and not names:
        raise click.UsageError("Missing option '--portal' or '--policy'.")
    # No decision depends on this clock: it only counts the days that certificates have left.
    now = time.time()  # noqa: TID251 - see above
    findings = lint(Path(portal) if portal else None, [Path(name) for name in names], now, expires_within)
    if run_tests:
        tested, count = run_policy_tests([Path(name) for name in names], now)
        click.echo(f"{count} test{'' if count == 1 else 's'} ran", err=True)  # whatever the format of the findings
        findings = sorted([*findings, *tested], key=lambda finding: (finding.problem, finding.rule.name))
    findings = [finding for finding in findings if not any(each.covers(finding) for each in ignored)]
    click.echo(FORMATS[form](findings), nl=False)
    sys.exit(any(_counts(finding, fail_on) for finding in findings))


def _counts(finding: LintFinding, fail_on: str) -> bool:
    return fail_on == "warning" or finding.rule.level == "error"
