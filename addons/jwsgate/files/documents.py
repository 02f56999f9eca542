"""Strict YAML and JSON: plain data out of octets, with the position of every value at hand.

Works on libyaml's event stream, which neither recurses nor constructs anything. Refused are what makes one
YAML text mean two things or cost more than it shows: duplicate keys, anchors, aliases, merge keys, tags,
deep nesting, several documents. Scalars stay text: what `0123` or `yes` means is for the schema to say.
"""

import codecs
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from .json_events import NotJson, json_events
from .problems import Finding, KeyLocation, Location, Problem, ProblemsFound, path_text
from .yaml_mistakes import yaml_mistake

__all__ = ["MAX_DEPTH", "MAX_OCTETS", "NULLS", "Document", "looks_like_json", "must_be_json", "read_document"]

MAX_DEPTH: Final = 32
MAX_OCTETS: Final = 512 * 1024 * 1024
_MAX_PROBLEMS: Final = 100
NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})

# The pure Python parser gives the same events, for the rare machine whose PyYAML was built without libyaml.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def looks_like_json(octets: bytes) -> bool:
    """Whether a text begins as JSON does; YAML may begin so too."""
    return octets[:64].removeprefix(codecs.BOM_UTF8).lstrip()[:1] in {b"{", b"["}


def must_be_json(file: str) -> bool:
    """Whether a file's name says that it is JSON, so that YAML in it is a mistake."""
    return file.lower().endswith(".json")


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content: None, text, lists and dicts, and nothing else."""

    file: str
    data: Any
    octets: bytes = field(repr=False)
    problems: tuple[Problem, ...] = ()
    """What the YAML reader refused; a document that has any must not be used."""

    def locate(self, locations: Collection[Location]) -> dict[Location, tuple[int, int]]:
        """Line and column of values, or of keys for `KeyLocation`, from 1.

        Reads the octets again, so ask once for all of them. For a location that the document does not have,
        the position of the nearest one above it.
        """
        wanted = {location[:length] for location in locations for length in range(len(location) + 1)}
        reader = _Reader(self.file, self.octets, wanted)
        reader.read()
        found = {}
        for location in locations:
            length = len(location)
            while location[:length] not in reader.positions and length:
                length -= 1
            found[location] = reader.positions.get(location[:length], (1, 1))
            if isinstance(location, KeyLocation):
                found[location] = reader.key_positions.get(tuple(location), found[location])
        return found

    def problem_list(self, findings: Iterable[Finding]) -> list[Problem]:
        """Findings with their places."""
        # One key location and one value location of the same path compare equal: asked for apart.
        problems = []
        for kind in (KeyLocation, tuple):
            chosen = [finding for finding in dict.fromkeys(findings) if type(finding[0]) is kind]
            positions = self.locate([location for location, _, _ in chosen]) if chosen else {}
            problems += [
                Problem(self.file, *positions[location], path_text(location), message, remedy)
                for location, message, remedy in chosen
            ]
        return problems


def _position(octets: bytes, index: int) -> tuple[int, int]:
    """Line and column, in characters and from 1, of an octet."""
    before = octets[:index]
    start = before.rfind(b"\n") + 1
    return before.count(b"\n") + 1, len(before[start:].decode("utf-8", "replace").lstrip("\ufeff")) + 1


class _Reader:
    def __init__(self, file: str, octets: bytes, wanted: Collection[Location] = ()) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.positions: dict[Location, tuple[int, int]] = {}
        self.key_positions: dict[Location, tuple[int, int]] = {}
        self._octets = octets
        self._wanted = wanted
        self._last: Any = None
        self._is_json = must_be_json(file) or looks_like_json(octets)

    def _problem(self, mark: Any, location: Location, message: str, remedy: str) -> None:
        line, column = self._place(mark)
        self.problems.append(Problem(self.file, line, column, path_text(location), message, remedy))
        if len(self.problems) >= _MAX_PROBLEMS:
            raise ProblemsFound(self.problems)

    @staticmethod
    def _place(mark: Any) -> tuple[int, int]:
        return mark.line + 1, mark.column + 1

    def _index(self, position: Any) -> int:
        """The octet of a reader error's position, which PyYAML's own parser counts in characters."""
        index = position if isinstance(position, int) else 0
        return (
            index
            if _Parser is getattr(yaml, "CSafeLoader", None)
            else len(self._octets.decode("utf-8")[:index].encode("utf-8"))
        )

    def _yaml_events(self) -> Iterator[Any]:
        loader = _Parser(self._octets)
        try:
            while (event := loader.get_event()) is not None:
                yield event
        finally:
            loader.dispose()

    def read(self) -> Any:
        if self._is_json:
            try:
                return self._read(json_events(self._octets.decode("utf-8").removeprefix("\ufeff")))
            except NotJson as error:
                if must_be_json(self.file):
                    self._not_read(
                        error.mark, f"is not JSON: {error}", "correct it, or name the file .yaml if it is YAML"
                    )
                    raise ProblemsFound(self.problems) from None
                # YAML may begin as JSON does.
                self.problems, self.positions, self.key_positions = [], {}, {}
        try:
            return self._read(self._yaml_events())
        except yaml.MarkedYAMLError as error:
            mark, message, remedy = yaml_mistake(error, self._octets, self._last)
            self._not_read(mark, f"is not YAML: {message}", remedy)
        except yaml.reader.ReaderError as error:
            place = _position(self._octets, self._index(error.position))
            message = "holds a character that YAML does not allow"
            self.problems.append(Problem(self.file, *place, "(document)", message, "remove the control character"))
        raise ProblemsFound(self.problems)

    def _not_read(self, mark: Any, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.file, *self._place(mark), "(document)", message, remedy))

    def _refuse(self, broken: bool, mark: Any, message: str, remedy: str) -> None:
        """End the reading at what makes the rest not worth reading."""
        if broken:
            self._problem(mark, (), message, remedy)
            raise ProblemsFound(self.problems)

    def _read(self, events: Iterator[Any]) -> Any:
        root: Any = None
        documents = 0
        # One entry for each open collection: (container, location, pending key).
        stack: list[list[Any]] = []
        for event in events:
            self._last, kind = event, type(event)
            if kind is yaml.StreamStartEvent or kind is yaml.DocumentEndEvent or kind is yaml.StreamEndEvent:
                continue
            mark = event.start_mark
            if kind is yaml.DocumentStartEvent:
                documents += 1
                self._refuse(documents > 1, mark, "holds a second document", "keep one document a file")
                continue
            if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                stack.pop()
                continue

            top = stack[-1] if stack else None
            is_key = top is not None and type(top[0]) is dict and top[2] is None
            if top is not None and is_key:
                top[2] = self._key(event, kind, mark, top)
                if (key_location := (*top[1], top[2])) in self._wanted:
                    self.key_positions.setdefault(key_location, self._place(mark))
                continue
            value, location = self._node(event, kind, mark, top)
            if location in self._wanted:
                self.positions.setdefault(location, self._place(mark))
            if top is None:
                root = value
            elif type(top[0]) is dict:
                top[0][top[2]] = value
                top[2] = None
            else:
                top[0].append(value)
            if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._refuse(len(stack) >= MAX_DEPTH, mark, f"is nested more than {MAX_DEPTH} deep", "flatten it")
                stack.append([value, location, None])
        return root

    def _node(self, event: Any, kind: type[Any], mark: Any, top: list[Any] | None) -> tuple[Any, Location]:
        """The value that an event begins, and its location."""
        location: Location
        if top is None:
            location = ()
        elif type(top[0]) is dict:
            location = (*top[1], top[2])
        else:
            location = (*top[1], len(top[0]))
        self._refuse_extras(event, kind, mark, location)
        if kind is yaml.ScalarEvent:
            return (None if not event.style and event.value in NULLS else event.value), location
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
            self._problem(
                mark,
                location,
                "has a key that is no plain text",
                "use plain text as key, or quote the value that begins with { or [",
            )
            raise ProblemsFound(self.problems)
        key: str = event.value
        self._refuse_extras(event, kind, mark, (*location, key))
        if key == "<<" and not event.style:
            self._problem(mark, (*location, key), "is a merge key", "write the members out")
        elif key in container:
            remedy = "keep one of them" + (
                ", or begin another item with -" if any(isinstance(step, int) for step in location) else ""
            )
            self._problem(mark, (*location, key), "is a repeated key", remedy)
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
        place = _position(octets, error.start)
        raise ProblemsFound([Problem(file, *place, "(document)", "is not UTF-8", "save it as UTF-8")]) from None
    reader = _Reader(file, octets)
    data = reader.read()
    return Document(file, data, octets, tuple(reader.problems))
