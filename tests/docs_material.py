"""The documents that users read, as blocks that can be run and checked.

A comment on the line above a block says what to do with it:

- `<!-- run -->`: run it; it has to succeed. A block of `text` right after it is what it prints, with `…` for anything.
  After a colon, separated by commas: `exit 1` is the exit code that is expected, `background` a command that runs to
  the end of the document, `NAME=value` a variable of its environment, and any other word a name for tests to ask for.
- `<!-- file: NAME -->`: write it to a file of this name.
- `<!-- shown: WHY -->`: only look at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from jwsgate.cli import main

ROOT = Path(__file__).parents[1]
SHELL = ("sh", "bash", "shell", "console", "")
"""Languages of blocks that hold commands; unnamed ones might."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_PORT = re.compile(r"(?<=[:= ])(?:80|84|90)\d\d\b")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    line: int
    language: str
    mark: str
    text: str
    printed: str | None
    """The block of text right after it."""

    @property
    def verb(self) -> str:
        """`run`, `file`, `shown` or nothing."""
        return self.mark.partition(":")[0]

    @property
    def words(self) -> list[str]:
        """What the mark says more."""
        return [word.strip() for word in self.mark.partition(":")[2].split(",") if word.strip()]


def documents() -> list[Path]:
    """All that users read, in order of name; the README first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(document: Path) -> str:
    """How tests call a document."""
    return str(document.relative_to(ROOT))


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a document."""
    found = list(_BLOCK.finditer(text))
    followers = (*found[1:], None)
    return [
        Block(
            line=text.count("\n", 0, match.start("text")),
            language=match["language"],
            mark=match["mark"] or "",
            text=match["text"],
            printed=after["text"]
            if after and after["language"] == "text" and not text[match.end() : after.start()].strip()
            else None,
        )
        for match, after in zip(found, followers, strict=False)
    ]


def ports_in(text: str) -> list[str]:
    """The ports that a document speaks of."""
    return sorted(set(_PORT.findall(text)))


def pattern_of(printed: str) -> re.Pattern[str]:
    """What matches the output that a document shows: `…` is anything within a line, on a line alone any lines."""
    lines = []
    for line in printed.strip().splitlines():
        if line.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            lines.append(r"[^\n]*".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n")
    return re.compile("".join(lines))


def lines_of_commands(text: str) -> Iterator[str]:
    """The words after `jwsgate` or run_proxy.sh, wherever they are called, whole lines with their continuations."""
    for match in re.finditer(
        r"(?:^|[`$(] ?|\| |exec |bin/|\./)(jwsgate|run_proxy\.sh) (?=([^`|)]*))", text, re.MULTILINE
    ):
        whole = re.match(r"(?:[^\n]*\\\n)*[^\n]*", match[2])
        assert whole
        words = whole[0].replace("\\\n", " ").partition("  #")[0].partition(" -- ")[0]
        yield f"run {words}" if match[1] == "run_proxy.sh" else words


def command_of(words: list[str]) -> click.Command | None:
    """The command that some words call, None for prose."""
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        if word not in command.commands:
            return None
        command = command.commands[word]
    return command


def unknown_options(text: str) -> list[str]:
    """What is given to commands of jwsgate that do not have it, and commands that there are not."""
    unknown = []
    for line in lines_of_commands(text):
        words = line.split()
        command = command_of(words)
        if command is None:
            # Prose that goes on behind the name has no options.
            unknown += words[:1] if "--" in line else []
            continue
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        given = re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)
        name = " ".join(word for word in words[:2] if word.isalpha())
        unknown += [f"{name}: {option}" for option in given if option not in known | {"--help", "--version"}]
    return unknown
