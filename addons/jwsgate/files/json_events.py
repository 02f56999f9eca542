"""Strict JSON (RFC 8259) as the events of a YAML parser, so that one reader places and refuses things for both.

Used where a position is asked for; what reads good files fast is in streams.py.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

__all__ = ["JsonMark", "NotJson", "json_events"]

_TOKEN: Final = re.compile(
    r"[ \t\r\n]*+(?:"
    r'(?P<string>"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+")'
    r"|(?P<number>-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)"
    r"|(?P<word>true|false|null)|(?P<mark>[\[\]{},:])|(?P<end>\Z))"
)
_BLANK: Final = re.compile(r"[ \t\r\n]*+")
# Characters beyond U+FFFF are written as two escapes (section 7).
_ESCAPE: Final = re.compile(
    r"\\u([Dd][89ABab][0-9A-Fa-f]{2})\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\([\"\\/bfnrt])"
)
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class JsonMark(NamedTuple):
    """A place in the text, in the form that PyYAML's marks have: line and column from 0."""

    line: int
    column: int


class NotJson(Exception):
    """The text is not JSON: where, and why."""

    def __init__(self, mark: JsonMark, message: str) -> None:
        super().__init__(message)
        self.mark = mark


def _unescaped(match: re.Match[str]) -> str:
    high, low, single, short = match.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
    return chr(int(single, 16)) if single else _SHORT.get(short, short)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._index = 0
        self._line = 0
        self._line_start = 0
        self._marked = 0

    def mark(self, index: int) -> JsonMark:
        """Only ever asked for growing indices."""
        # From the last mark on: a whole export may stand in one line.
        new = self._text.count("\n", self._marked, index)
        if new:
            self._line += new
            self._line_start = self._text.rfind("\n", self._marked, index) + 1
        self._marked = index
        return JsonMark(self._line, index - self._line_start)

    def next(self) -> tuple[str, str, JsonMark]:
        """Kind, text and place of the next token."""
        match = _TOKEN.match(self._text, self._index)
        if match is None:
            blank = _BLANK.match(self._text, self._index)
            start = blank.end() if blank else self._index
            what = "an unfinished or ill-formed string" if self._text[start] == '"' else "something that is not JSON"
            raise NotJson(self.mark(start), f"holds {what}")
        kind = match.lastgroup or ""
        self._index = match.end()
        return (match[kind] if kind == "mark" else kind), match[kind], self.mark(match.start(kind))


def json_events(text: str) -> Iterator[Any]:
    """The events of a JSON text; scalars as they are written, strings unescaped and styled as quoted.

    Raises:
        NotJson: where the text stops being JSON.
    """
    scanner = _Scanner(text)
    stack: list[str] = []
    mark: Any  # has what is asked of PyYAML's
    kind, token, mark = scanner.next()
    while True:
        # A value begins here.
        if kind in {"{", "["}:
            event = yaml.MappingStartEvent if kind == "{" else yaml.SequenceStartEvent
            yield event(None, None, True, mark, mark, flow_style=True)
            stack.append(kind)
            kind, token, mark = scanner.next()
            if kind not in {"}", "]"}:
                if stack[-1] == "{":
                    yield _key(kind, token, mark)
                    kind, token, mark = _after_colon(scanner)
                continue
        elif kind == "string":
            yield _string(token, mark)
            kind, token, mark = scanner.next()
        elif kind in {"number", "word"}:
            yield yaml.ScalarEvent(None, None, (True, False), token, mark, mark, style=None)
            kind, token, mark = scanner.next()
        else:
            raise NotJson(mark, "ends early" if kind == "end" else f"has {token} where a value belongs")
        # A value has ended here.
        while stack and kind == ("}" if stack[-1] == "{" else "]"):
            yield (yaml.MappingEndEvent if stack.pop() == "{" else yaml.SequenceEndEvent)(mark, mark)
            kind, token, mark = scanner.next()
        if not stack:
            if kind != "end":
                raise NotJson(mark, "goes on after its end")
            return
        if kind != ",":
            raise NotJson(mark, "ends early" if kind == "end" else "lacks a comma")
        kind, token, mark = scanner.next()
        if stack[-1] == "{":
            yield _key(kind, token, mark)
            kind, token, mark = _after_colon(scanner)


def _string(token: str, mark: Any) -> Any:
    value = _ESCAPE.sub(_unescaped, token[1:-1]) if "\\" in token else token[1:-1]
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise NotJson(mark, "holds half of a surrogate pair")
    return yaml.ScalarEvent(None, None, (False, True), value, mark, mark, style='"')


def _key(kind: str, token: str, mark: JsonMark) -> Any:
    if kind != "string":
        raise NotJson(mark, "ends early" if kind == "end" else "has no quoted key here")
    return _string(token, mark)


def _after_colon(scanner: _Scanner) -> tuple[str, str, JsonMark]:
    kind, _, mark = scanner.next()
    if kind != ":":
        raise NotJson(mark, "ends early" if kind == "end" else "lacks a colon")
    return scanner.next()
