"""Good documents read fast and piece by piece: what is irregular in any way is left to documents.py to tell.

A large export is never in memory as a whole: its lists are handed out item by item. Everything that this module
accepts means the same to `read_document`; a test holds the two against each other.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import yaml

from .documents import MAX_DEPTH, NULLS, Document, looks_like_json, must_be_json
from .problems import Location

__all__ = ["Irregular", "Unit", "ends_openly", "is_closed", "stream", "units_of"]

type Unit = tuple[Location, Any]
"""A value at the top of a document, or an item of a list there, with its location."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BLANKS: Final = frozenset(" \t\r\n")
_BLANK: Final = re.compile(r"[ \t\r\n]*")
# Escapes can spell what a search in the octets does not find; those are looked at one by one.
_PRIVATE_KEY: Final = re.compile(rb"PRIVATE(?:\s|\\.)*+KEY", re.DOTALL)
_ROOM: Final = MAX_DEPTH - 2
"""How many levels a value may have that stands in a list at the top."""


class Irregular(Exception):
    """A document that `read_document` has to read, because something in it may be wrong."""


def is_closed(octets: bytes) -> bool:
    """Whether the last line is at its end, so that no writer was interrupted within it."""
    return octets[-1:] in {b"", b"\n"} or octets[-64:].rstrip()[-1:] in {b"}", b"]"}


def ends_openly(file: str, octets: bytes) -> bool:
    """Whether the syntax of a document would not tell that the end is missing: block YAML is good at the end of any
    line, unless the last one is the mark of the end, three dots.
    """
    return not (must_be_json(file) or looks_like_json(octets) or octets[-64:].rstrip().endswith(b"\n..."))


def stream(file: str, octets: bytes) -> Iterator[Unit]:
    """The units of a document.

    Raises:
        Irregular: at any point, after which nothing that was handed out may be used.
    """
    if (b"PRIVATE" in octets and _PRIVATE_KEY.search(octets)) or octets.startswith(
        (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    ):
        raise Irregular
    if must_be_json(file) or looks_like_json(octets):
        return _json_units(octets)
    return _yaml_units(octets)


def units_of(document: Document) -> Iterator[Unit]:
    """The units of a document that was read as a whole."""
    data = document.data
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, list) and value:
                yield from (((key, index), item) for index, item in enumerate(value))
            else:
                yield (key,), value
    elif isinstance(data, list) and data:
        yield from (((index,), item) for index, item in enumerate(data))
    else:
        yield (), data


# YAML


def _yaml_units(octets: bytes) -> Iterator[Unit]:
    loader = _Parser(octets)
    next_event = loader.get_event
    try:
        next_event()
        if type(next_event()) is not yaml.DocumentStartEvent:
            raise Irregular
        root = next_event()
        _refuse_extras(root)
        if type(root) is yaml.SequenceStartEvent:
            yield from _yaml_items(next_event, ())
        elif type(root) is yaml.MappingStartEvent:
            seen = set()
            while type(event := next_event()) is not yaml.MappingEndEvent:
                key = _yaml_value(next_event, event)
                if type(event) is not yaml.ScalarEvent or event.value in seen or key == "<<":
                    raise Irregular
                key = event.value
                seen.add(key)
                event = next_event()
                if type(event) is yaml.SequenceStartEvent:
                    _refuse_extras(event)
                    yield from _yaml_items(next_event, (key,))
                else:
                    yield (key,), _yaml_value(next_event, event)
        else:
            raise Irregular
        next_event()
        if type(next_event()) is not yaml.StreamEndEvent:
            raise Irregular
    except (yaml.YAMLError, ValueError):
        raise Irregular from None
    finally:
        loader.dispose()


def _yaml_items(next_event: Any, location: Location) -> Iterator[Unit]:
    index = 0
    while type(event := next_event()) is not yaml.SequenceEndEvent:
        yield (*location, index), _yaml_value(next_event, event)
        index += 1
    if not index:
        yield location, []


def _refuse_extras(event: Any) -> None:
    if type(event) is yaml.AliasEvent or event.anchor is not None or event.tag is not None:
        raise Irregular


def _yaml_value(next_event: Any, event: Any) -> Any:  # noqa: PLR0912 - see below
    """One value. This loop sees every scalar of an export, which is why it is one loop."""
    scalar, mapping_start, sequence_start = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
    mapping_end, sequence_end = yaml.MappingEndEvent, yaml.SequenceEndEvent
    outer: list[tuple[Any, Any]] = []
    container: Any = None
    key: Any = None
    while True:
        kind = type(event)
        if kind is scalar:
            if event.tag is not None or event.anchor is not None:
                raise Irregular
            value = event.value
            style = event.style
            if style == '"' and "PRIVATE" in value:
                raise Irregular
            if type(container) is dict:
                if key is None:
                    if value in container or (value == "<<" and not style):
                        raise Irregular
                    key = value
                    event = next_event()
                    continue
                container[key] = None if not style and value in NULLS else value
                key = None
            elif container is None:
                return None if not style and value in NULLS else value
            else:
                container.append(None if not style and value in NULLS else value)
        elif kind is mapping_start or kind is sequence_start:
            if event.tag is not None or event.anchor is not None or (type(container) is dict and key is None):
                raise Irregular
            new: Any = {} if kind is mapping_start else []
            if type(container) is dict:
                container[key] = new
            elif container is not None:
                container.append(new)
            outer.append((container, None))
            if len(outer) > _ROOM:
                raise Irregular
            container, key = new, None
        elif kind is mapping_end or kind is sequence_end:
            done = container
            container = outer.pop()[0]
            key = None
            if container is None:
                return done
        else:
            raise Irregular
        event = next_event()


# JSON


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Irregular
    return members


def _no_constant(_name: str) -> NoReturn:
    raise Irregular


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_int=str, parse_float=str, parse_constant=_no_constant
)

_SCAN: Final[Any] = vars(_DECODER)["scan_once"]  # not in its type hints


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


class _Json:
    """A JSON text and how far it was read."""

    def __init__(self, octets: bytes) -> None:
        self._text = octets.decode("utf-8").removeprefix("\ufeff")
        self._scan = _SCAN
        self._index = 0

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        found = self._text[self._index : self._index + 1]
        if found in _BLANKS and (match := _BLANK.match(self._text, self._index)):
            self._index = match.end()
            found = self._text[self._index : self._index + 1]
        return found

    def take(self, characters: str) -> str:
        """The next character, which must be one of those."""
        found = self.peek()
        if not found or found not in characters:
            raise Irregular
        self._index += 1
        return found

    def value(self) -> Any:
        """The next value."""
        self.peek()
        text, start = self._text, self._index
        try:
            value, self._index = self._scan(text, start)
        except StopIteration:  # the scanner's word for "nothing here"; within a generator it would mean its end
            raise Irregular from None
        if text.count("{", start, self._index) + text.count("[", start, self._index) > _ROOM and _depth(value) > _ROOM:
            raise Irregular
        if text.find("\\u", start, self._index) >= 0:
            plain = json.dumps(value, ensure_ascii=False)
            plain.encode("utf-8")  # raises for half a surrogate pair
            if "PRIVATE" in plain:
                raise Irregular
        return value


def _json_units(octets: bytes) -> Iterator[Unit]:
    try:
        json_text = _Json(octets)
        if json_text.take("{[") == "[":
            yield from _json_items(json_text, ())
        elif json_text.peek() == "}":
            json_text.take("}")
        else:
            seen: set[str] = set()
            while True:
                key = json_text.value()
                if not isinstance(key, str) or key in seen:
                    raise Irregular
                seen.add(key)
                json_text.take(":")
                if json_text.peek() == "[":
                    json_text.take("[")
                    yield from _json_items(json_text, (key,))
                else:
                    yield (key,), json_text.value()
                if json_text.take(",}") == "}":
                    break
        if json_text.peek():
            raise Irregular
    except (ValueError, RecursionError):
        raise Irregular from None


def _json_items(json_text: _Json, location: Location) -> Iterator[Unit]:
    if json_text.peek() == "]":
        json_text.take("]")
        yield location, []
        return
    yield (*location, 0), json_text.value()
    index = 1
    while json_text.take(",]") == ",":
        yield (*location, index), json_text.value()
        index += 1
