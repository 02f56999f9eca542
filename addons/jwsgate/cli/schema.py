"""`jwsgate schema`."""

import json

import click

from jwsgate.files.portal_shapes import PortalShape
from jwsgate.files.schemas import policy_schema, schema_of

from .manual import Manual

__all__ = ["schema_command"]


@click.command(
    "schema",
    cls=Manual,
    examples={"jwsgate schema policy >policy.schema.json": "For editors, which complete and check policies with it."},
    exit_codes={0: "printed", 2: "called wrongly"},
)
@click.argument("kind", type=click.Choice(["portal", "policy"]))
def schema_command(kind: str) -> None:
    """Print the JSON Schema of portal exports or of policies."""
    click.echo(json.dumps(schema_of(PortalShape) if kind == "portal" else policy_schema(), indent=2))
