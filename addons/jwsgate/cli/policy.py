"""`jwsgate policy`."""

import sys
import time
from pathlib import Path

import click

from jwsgate.files.loading import convert_policy
from jwsgate.files.problems import ProblemsFound

from .manual import Manual
from .options import FILES

__all__ = ["policy_group"]


@click.group("policy")
def policy_group() -> None:
    """Look after policies."""


@policy_group.command(
    "convert",
    cls=Manual,
    examples={"jwsgate policy convert orders-api.yaml >policy.yaml": "What the gate would make of an API definition."},
    exit_codes={0: "printed", 1: "the definition has something that cannot be enforced", 2: "called wrongly"},
)
@click.argument("file", type=FILES)
def convert_command(file: str) -> None:
    """Print an API definition as a policy.

    FILE is an OpenAPI document with API Connect's x-ibm-configuration. What of it cannot be enforced is told with its
    place, and nothing is printed then.
    """
    try:
        # Nothing is decided by this clock: certificate chains are built only to see that the CA can be used.
        text = convert_policy(Path(file), time.time())  # noqa: TID251 - see above
    except ProblemsFound as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(text, nl=False)
