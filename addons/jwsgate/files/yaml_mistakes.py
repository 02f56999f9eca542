"""What most likely went wrong where a YAML parser stumbled, and where that is.

The parser's own words name the place where it could not go on, which is often not the one to mend.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

import yaml

__all__ = ["Mark", "yaml_mistake"]


class Mark(Protocol):
    """A place in a text, in lines and characters from 0."""

    line: int
    column: int


class _At:
    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column


_ODD_BLANK: Final = re.compile("(?:^ *|[:,-])([\u00a0\u2000-\u200b\u202f\u3000\ufeff])")
_COLON: Final = "write key: value, with a colon and a blank, here or in the line before"
_CLOSE: Final = "close the quotation marks that begin here"
_TABS: Final = "indent with blanks, not with tabs"
_WORDS: Final = {
    "unknown escape character": "write it in single quotation marks, in which a \\ stands for itself",
    "quoted scalar": _CLOSE,
    "found a tab": _TABS,
    "cannot start any token": "quote the value, which begins with a character of YAML's own",
    "alias": "quote the value, which begins with *",
    "anchor": "quote the value, which begins with &",
    "block scalar": "quote the value, which begins with | or >",
    "a tag": "quote the value, which begins with !",
    "expected ':'": _COLON,
    "expected '-' indicator": "indent it like the other lines of its item",
    "block collection": "indent it like the other lines of its item",
    "expected ',' or ']'": "close the list with ], or quote what holds { or [",
    "expected ',' or '}'": "close the mapping with }, or quote what holds { or [",
    "flow node": "close what { or [ opened, and write a value between any two commas",
    "<document start>": "keep one document a file, and end it with the file",
    "incompatible YAML": "remove the line that begins with %",
}
"""What to do about the YAML parsers' own messages; of several that fit, the first."""


def _misplaced_value(lines: Sequence[str], mark: Mark) -> str:
    """A colon where no key can be."""
    here = lines[mark.line]
    if ": " in here[: mark.column]:
        return "quote the value, which holds a colon and a blank"
    before = next((line for line in reversed(lines[: mark.line]) if line.strip()), "")
    is_deeper = len(here) - len(here.lstrip()) > len(before) - len(before.lstrip(" -"))
    if is_deeper and re.search(r":\s+[^\s#]", before):
        return "indent it like the line before, which has its value already"
    return _COLON


def _misplaced_key(here: str, column: int) -> str:
    """Something where another key of a mapping, or its end, was expected."""
    before, rest = here[:column].rstrip(), here[column:]
    if before.endswith(("}", "]")):
        return "quote the whole value, which begins with { or ["
    if before.endswith(('"', "'")):
        return "put the whole value in quotation marks that it does not hold itself"
    if rest.startswith(("}", "]")):
        return "remove it: no { or [ is open here"
    if rest.startswith("-"):
        return "indent this - like that of the other items, each of which needs one"
    return "indent it like the other keys of its mapping"


def _remedy(message: str, lines: Sequence[str], mark: Mark) -> str:
    here = lines[mark.line]
    if here.startswith("```"):
        return "remove the lines with ``` around the text"
    if here[mark.column : mark.column + 1] == "\t":
        return _TABS
    if "mapping values" in message:
        return _misplaced_value(lines, mark)
    if "parsing a block mapping" in message:
        return _misplaced_key(here, mark.column)
    remedies = (remedy for words, remedy in _WORDS.items() if words in message)
    return next(remedies, "quote the value, or indent the line like those around it")


def yaml_mistake(error: yaml.MarkedYAMLError, octets: bytes, last: Any) -> tuple[Mark, str, str]:
    """Where to look, what the parser says, and what to do; `last` is the last event before the error."""
    message = ", ".join(part for part in (error.context, error.problem) if part)
    mark: Mark = error.problem_mark or error.context_mark or _At(0, 0)
    # Line breaks as YAML has them; the end of the text may count as a line of its own.
    lines = [*re.split("\r\n|[\n\r\x85\u2028\u2029]", octets.decode("utf-8").removeprefix("\ufeff")), ""]
    first = min(mark.line, mark.line - 1 if error.context_mark is None else error.context_mark.line)
    for number in range(max(first, 0), mark.line + 1):
        if (found := _ODD_BLANK.search(lines[number])) is not None:
            return _At(number, found.start(1)), message, f"write a plain blank in place of U+{ord(found[1]):04X}"
    if getattr(last, "style", None) in {'"', "'"} and last.start_mark.line < last.end_mark.line:
        # It ended where the next value was to begin, and what follows there is no YAML any more.
        began: Mark = last.start_mark
        return began, message, _CLOSE
    remedy = _remedy(message, lines, mark)
    return (error.context_mark if remedy is _CLOSE and error.context_mark else mark), message, remedy
