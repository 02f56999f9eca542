"""`jwsgate schema`."""

import json
from typing import Final

import click
from pydantic import BaseModel

from jwsgate.files.expectations import ExpectationsShape
from jwsgate.files.policy_shapes import PolicyShape
from jwsgate.files.portal_shapes import PortalShape
from jwsgate.files.schemas import schema_of

from .manual import Manual

__all__ = ["schema_command"]

_KINDS: Final[dict[str, type[BaseModel]]] = {
    "portal": PortalShape,
    "policy": PolicyShape,
    "expectations": ExpectationsShape,
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
    click.echo(json.dumps(schema_of(_KINDS[kind]), indent=2))
