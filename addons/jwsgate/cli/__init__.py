"""The command line, one module a command. Every option can also come from the environment, as JWSGATE_ and its name."""

import click

from jwsgate import __version__
from jwsgate.files.pages import page_name

from .check import check_command
from .completion import completion_command
from .explain import explain_command
from .init import init_command
from .lint import lint_command
from .policy import policy_group
from .portal import portal_group
from .run import run_command
from .schema import schema_command
from .serve import serve_command
from .sign import sign_command

__all__ = ["main", "run_command"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`jwsgate COMMAND --help` has the command's options, their environment variables, examples and exit codes. "
    f"Begin with {page_name('sidecar.md')}.",
)
@click.version_option(__version__, prog_name="jwsgate")
def main() -> None:
    """A gate in front of an API: a request passes only with a JWS signed by its application's certificate."""


for _command in (
    run_command,
    serve_command,
    check_command,
    init_command,
    sign_command,
    explain_command,
    lint_command,
    policy_group,
    portal_group,
    schema_command,
    completion_command,
):
    main.add_command(_command)
