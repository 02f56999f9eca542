"""Help in the order of a manual page: what a command is for, its options, examples, exit codes."""

from collections.abc import Mapping
from typing import Any

import click

__all__ = ["Manual"]


class Manual(click.Command):
    """A command whose help ends in `examples` (command line: what it does) and `exit_codes` (code: when)."""

    def __init__(
        self, *arguments: Any, examples: Mapping[str, str], exit_codes: Mapping[int, str], **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self.examples = examples
        self.exit_codes = exit_codes

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and exit codes, then whatever epilog there is."""
        with formatter.section("Examples"):
            for line, what in self.examples.items():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
                with formatter.indentation():
                    formatter.write_text(what)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), when) for code, when in self.exit_codes.items()])
        super().format_epilog(ctx, formatter)
