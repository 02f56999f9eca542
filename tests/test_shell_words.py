"""Pieces of shell script as words: what a shell makes of quotes, escapes, variables and operators."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwsgate.files.problems import Unfit
from jwsgate.files.shell_words import commands


@given(st.text("ab '\"\\\tü\v"))
def test_words_are_those_of_shlex(text: str) -> None:
    """Whatever is quoted and escaped, and whatever is not closed."""
    try:
        words = shlex.split(text)
    except ValueError:
        with pytest.raises(Unfit, match="cannot be split into words"):
            commands(text)
    else:
        assert [word for command in commands(text) for word in command.words] == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a;b|c||d&&e&f\ng", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"], ["g"]], id="operators"),
        pytest.param("a >b c 2>d e &>f g <h >&2 i 12>&1", [["a", "c", "e", "g", "i"]], id="redirections"),
        pytest.param("a ''\"\" b'c'd", [["a", "", "bcd"]], id="joined"),
        pytest.param("a#b #c\nd", [["a#b"], ["d"]], id="comments"),
        pytest.param('a=b c=d\n"$a${c}" $a', [["bd", "b"]], id="variables"),
        pytest.param('a="b\\$c"\n$a', [["b$c"]], id="escaped-dollar"),
        pytest.param("'$a' $ b$", [["$a", "$", "b$"]], id="no-variables"),
        pytest.param("$ a\n% b", [["a"], ["b"]], id="prompts"),
        pytest.param("sudo a=b time c", [["c"]], id="before"),
    ],
)
def test_commands(text: str, words: list[list[str]]) -> None:
    """Each command has its own words, and nothing else."""
    found = commands(text)
    assert [command.words for command in found] == words
    assert all(command.unfit is None for command in found)


def test_unfit_commands() -> None:
    """What only a shell knows spoils the commands that hold it, and those that hold it through a variable."""
    found = commands('a $(b "c")\nd\ne=`f`\ng "$e" $h\n$h')
    unfit = [None if command.unfit is None else str(command.unfit) for command in found]
    runs = "and explain runs nothing"
    assert unfit == [
        f'holds $(b "c"), {runs}',
        None,
        f"holds `f`, {runs}",
        "holds $h, whose value only your shell knows",
    ]
