"""`jwsgate completion`."""

import click
from click.shell_completion import get_completion_class

from .manual import Manual

__all__ = ["completion_command"]


@click.command(
    "completion",
    cls=Manual,
    examples={
        'eval "$(jwsgate completion bash)"': "In ~/.bashrc.",
        "jwsgate completion fish >~/.config/fish/completions/jwsgate.fish": "Once, for fish.",
    },
    exit_codes={0: "printed", 2: "called wrongly"},
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print a script that completes commands in a shell."""
    root = context.find_root()
    made = get_completion_class(shell)
    if made is None:
        raise click.ClickException(f"click has no completion for {shell}")
    click.echo(made(root.command, {}, "jwsgate", "_JWSGATE_COMPLETE").source())
