"""`jwsgate init`."""

import datetime
import os
import re
import shlex
import uuid
from pathlib import Path

import click

from jwsgate.core.algorithms import ALGORITHMS
from jwsgate.files.problems import printable
from jwsgate.files.scaffold import scaffold

from .manual import Manual

__all__ = ["init_command"]

_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _client_id(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    if value and not _CLIENT_ID.fullmatch(value):
        raise click.BadParameter("write letters, digits, '.', '_' and '-'")
    return value or str(uuid.uuid4())


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not 0 < len(value) <= 64 or not value.isprintable() or value != value.strip():
        raise click.BadParameter("write 1 to 64 printable characters")  # as a common name may have
    return value


def _write(path: Path, octets: bytes, mode: int) -> None:
    # Made anew with its mode, so that nobody else can read a key even for a moment.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)


@click.command(
    "init",
    cls=Manual,
    examples={
        "jwsgate init try-out": "Key, certificate, portal export, policy, and a README to go on with.",
        "jwsgate init shop --name Shop --alg ES256": "The same, with a name and a kind of key of your choice.",
    },
    exit_codes={0: "made", 1: "could not be made; nothing is ever overwritten", 2: "called wrongly"},
)
@click.option("--name", default="client", show_default=True, callback=_name, help="Name of the application.")
@click.option("--client-id", metavar="ID", callback=_client_id, help="Its client ID; if not said, a random UUID.")
@click.option(
    "--alg", type=click.Choice(ALGORITHMS), default="RS256", show_default=True, help="What its key is to sign by."
)
@click.argument("directory", type=click.Path(file_okay=False))
def init_command(name: str, client_id: str, alg: str, directory: str) -> None:
    """Make a folder in which everything works.

    DIRECTORY gets a private key, its certificate, a portal export that has it registered, a policy, and a README with
    commands that work as they stand there. Files that are there already are left alone, and then nothing is made.
    """
    folder = Path(directory)
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - the command line is where the clock is
    files = scaffold(name, client_id, alg, now)
    there = [file for file in files if os.path.lexists(folder / file)]
    if there:
        raise click.ClickException(printable(f"{directory} has {', '.join(there)} already; choose another folder"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, (octets, mode) in files.items():
            _write(folder / file, octets, mode)
    except OSError as error:
        raise click.ClickException(printable(f"{error.filename or directory}: {error.strerror}")) from None
    click.echo(f"made {len(files)} files for the client ID {client_id}; go on with {shlex.quote(directory)}/README.md")
