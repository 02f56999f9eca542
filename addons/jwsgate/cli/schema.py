"""`jwsgate schema`."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click

from jwsgate.files.expectations import ExpectationsShape
from jwsgate.files.portal_shapes import PortalShape
from jwsgate.files.schemas import policy_schema, schema_of

from .manual import Manual

__all__ = ["schema_command"]

_KINDS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "portal": partial(schema_of, PortalShape),
    "policy": policy_schema,
    "expectations": partial(schema_of, ExpectationsShape),
}


@click.command(
    "schema",
    cls=Manual,
    examples={"jwsgate schema policy >policy.schema.json": "For editors, which complete and check policies with it."},
    exit_codes={0: "printed", 2: "called wrongly"},
)
@click.argument("kind", type=click.Choice(list(_KINDS)))
def schema_command(kind: str) -> None:
    """Print the JSON Schema of a file format."""
    click.echo(json.dumps(_KINDS[kind](), indent=2))
