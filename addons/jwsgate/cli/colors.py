"""Colours, only where somebody looks at a terminal and has not said NO_COLOR (https://no-color.org)."""

import os
import sys

import click

__all__ = ["colored"]


def colored(text: str, color: str) -> str:
    """The text for standard output, in colour where that is wanted."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, fg=color, bold=True)
