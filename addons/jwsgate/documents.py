"""Strict YAML (and so JSON): plain data out of octets, with the position of every value at hand.

Works on libyaml's event stream, which neither recurses nor constructs anything. Refused are what makes one
YAML text mean two things or cost more than it shows: duplicate keys, anchors, aliases, merge keys, tags,
deep nesting, several documents. Scalars stay text: what `0123` or `yes` means is for the schema to say.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from .problems import Location, Problem, ProblemsFound, path_text

__all__ = ["MAX_DEPTH", "MAX_OCTETS", "Document", "read_document"]

MAX_DEPTH: Final = 32
MAX_OCTETS: Final = 512 * 1024 * 1024
_MAX_PROBLEMS: Final = 100
# JSON writes characters beyond U+FFFF as two escapes (RFC 8259 section 7), which YAML does not know.
_PAIR: Final = re.compile(rb"\\u([Dd][89ABab][0-9A-Fa-f]{2})\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})

# The pure Python parser gives the same events, for the rare machine whose PyYAML was built without libyaml.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content: None, text, lists and dicts, and nothing else."""

    file: str
    data: Any
    octets: bytes = field(repr=False)
    problems: tuple[Problem, ...] = ()
    """What the YAML reader refused; a document that has any must not be used."""

    def locate(self, locations: Collection[Location]) -> dict[Location, tuple[int, int]]:
        """Line and column of values, from 1. Reads the octets again, so ask once for all of them.

        For a location that the document does not have, the position of the nearest one above it.
        """
        wanted = {location[:length] for location in locations for length in range(len(location) + 1)}
        reader = _Reader(self.file, wanted)
        reader.read(self.octets)
        found = {}
        for location in locations:
            length = len(location)
            while location[:length] not in reader.positions and length:
                length -= 1
            found[location] = reader.positions.get(location[:length], (1, 1))
        return found

    def problem_list(self, findings: list[tuple[Location, str, str]]) -> list[Problem]:
        """Problems from (location, message, remedy) findings."""
        if not findings:
            return []
        positions = self.locate({location for location, _, _ in findings})
        return [
            Problem(self.file, *positions[location], path_text(location), message, remedy)
            for location, message, remedy in findings
        ]


class _Reader:
    def __init__(self, file: str, wanted: Collection[Location] = ()) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.positions: dict[Location, tuple[int, int]] = {}
        self._wanted = wanted

    def _problem(self, mark: Any, location: Location, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, path_text(location), message, remedy))
        if len(self.problems) >= _MAX_PROBLEMS:
            raise ProblemsFound(self.problems)

    def _pair(self, match: re.Match[bytes]) -> bytes:
        if self._wanted:
            return b"a" * 12  # only positions count, so that the length must stay
        high, low = int(match[1], 16), int(match[2], 16)
        return b"\\U%08X" % (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))

    def _events(self, octets: bytes) -> Iterator[Any]:
        loader = _Parser(_PAIR.sub(self._pair, octets) if octets.lstrip()[:1] in {b"{", b"["} else octets)
        try:
            while (event := loader.get_event()) is not None and not isinstance(event, yaml.StreamEndEvent):
                yield event
        finally:
            loader.dispose()

    def read(self, octets: bytes) -> Any:
        try:
            return self._read(octets)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            message = ", ".join(part for part in (error.context, error.problem) if part)
            self.problems.append(
                Problem(self.file, line, column, "(document)", f"is not YAML: {message}", "mend the syntax here")
            )
        except yaml.reader.ReaderError as error:
            before = octets[: error.position] if isinstance(error.position, int) else b""
            line = before.count(b"\n") + 1
            self.problems.append(
                Problem(
                    self.file,
                    line,
                    len(before) - before.rfind(b"\n"),
                    "(document)",
                    "holds a character that YAML does not allow",
                    "remove the control character",
                )
            )
        raise ProblemsFound(self.problems)

    def _read(self, octets: bytes) -> Any:
        root: Any = None
        documents = 0
        # One entry for each open collection: (container, location, pending key).
        stack: list[list[Any]] = []
        for event in self._events(octets):
            kind = type(event)
            if kind is yaml.StreamStartEvent or kind is yaml.DocumentEndEvent:
                continue
            mark = event.start_mark
            if kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    self._problem(mark, (), "holds a second document", "keep one document a file")
                    raise ProblemsFound(self.problems)
                continue
            if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                stack.pop()
                continue

            top = stack[-1] if stack else None
            is_key = top is not None and type(top[0]) is dict and top[2] is None
            value, location = self._node(event, kind, mark, top, is_key)
            if location in self._wanted:
                self.positions.setdefault(location, (mark.line + 1, mark.column + 1))
            if top is not None and is_key:
                top[2] = value
                continue
            if top is None:
                root = value
            elif type(top[0]) is dict:
                top[0][top[2]] = value
                top[2] = None
            else:
                top[0].append(value)
            if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                if len(stack) >= MAX_DEPTH:
                    self._problem(mark, (), f"is nested more than {MAX_DEPTH} deep", "flatten it")
                    raise ProblemsFound(self.problems)
                stack.append([value, location, None])
        return root

    def _node(
        self, event: Any, kind: type[Any], mark: Any, top: list[Any] | None, is_key: bool
    ) -> tuple[Any, Location]:
        """The value that an event begins, and its location."""
        if top is not None and is_key:
            return self._key(event, kind, mark, top), (*top[1], "(key)")
        location: Location
        if top is None:
            location = ()
        elif type(top[0]) is dict:
            location = (*top[1], top[2])
        else:
            location = (*top[1], len(top[0]))
        self._refuse_extras(event, kind, mark, location)
        if kind is yaml.ScalarEvent:
            return (None if not event.style and event.value in _NULLS else event.value), location
        if kind is yaml.MappingStartEvent:
            return {}, location
        if kind is yaml.SequenceStartEvent:
            return [], location
        return None, location  # an alias, refused above

    def _refuse_extras(self, event: Any, kind: type[Any], mark: Any, location: Location) -> None:
        if kind is yaml.AliasEvent:
            self._problem(mark, location, "is an alias", "write the value out")
        elif event.anchor is not None:
            self._problem(mark, location, "has an anchor", "remove it; aliases are not read")
        elif event.tag is not None:
            self._problem(mark, location, "has a tag", "remove it; types come from the schema")

    def _key(self, event: Any, kind: type[Any], mark: Any, top: list[Any]) -> str:
        container, location, _ = top
        if kind is not yaml.ScalarEvent:
            # What a collection as key would do to the positions of all that follows is not worth knowing.
            self._problem(mark, location, "has a key that is no plain text", "use plain text as key")
            raise ProblemsFound(self.problems)
        key: str = event.value
        self._refuse_extras(event, kind, mark, (*location, key))
        if key == "<<" and not event.style:
            self._problem(mark, (*location, key), "is a merge key", "write the members out")
        elif key in container:
            self._problem(mark, (*location, key), "is a repeated key", "keep one of them")
        return key


def read_document(file: str, octets: bytes) -> Document:
    """Read one YAML or JSON document. `file` is the name used in problems.

    Raises:
        ProblemsFound: when the octets cannot be read as YAML at all; lesser problems are in the document.
    """
    if len(octets) > MAX_OCTETS:
        raise ProblemsFound([Problem(file, 1, 1, "(document)", "is larger than 512 MiB", "split it")])
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError as error:
        before = octets[: error.start]
        raise ProblemsFound(
            [
                Problem(
                    file,
                    before.count(b"\n") + 1,
                    len(before) - before.rfind(b"\n"),
                    "(document)",
                    "is not UTF-8",
                    "save it as UTF-8",
                )
            ]
        ) from None
    reader = _Reader(file)
    data = reader.read(octets)
    return Document(file, data, octets, tuple(reader.problems))
