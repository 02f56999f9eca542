"""`jwsgate policy`."""

import sys
import time
from pathlib import Path

import click

from jwsgate.files.loading import convert_policy
from jwsgate.files.problems import ProblemsFound

__all__ = ["policy_group"]


@click.group("policy")
def policy_group() -> None:
    """Look after policies."""


@policy_group.command("convert")
@click.argument("file", type=click.Path())
def convert_command(file: str) -> None:
    """Print an API definition of API Connect as a policy of jwsgate's own.

    What cannot be enforced is told, and nothing is printed. The exit code is then 1.
    """
    try:
        # Nothing is decided by this clock: certificate chains are built only to see that the CA can be used.
        text = convert_policy(Path(file), time.time())  # noqa: TID251 - see above
    except ProblemsFound as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(text, nl=False)
