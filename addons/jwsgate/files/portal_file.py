"""Portal exports: every shape in which API Connect hands out its applications, made into one portal.

A file is one page or the whole of `GET …/apps`, the reply for a single application, a list, a portal snapshot, or
what the toolkit prints; a portal is one file or several. Applications and credentials that stand apart are joined.
"""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jwsgate.core.certificates import holds_private_key
from jwsgate.core.cut_short import doubts
from jwsgate.core.portal import FileEnd, Portal

from .documents import Document, read_document
from .portal_builder import Origin, PortalBuilder, ReadReference
from .problems import Finding, Location, Problem, ProblemsFound
from .streams import Irregular, ends_openly, is_closed, stream, units_of

__all__ = ["PortalReading", "Source", "build_portal", "cut_short", "read_thoroughly"]

_PRIVATE_KEY_REMEDY: Final = "remove it, treat the key as disclosed, and register only the certificate"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a portal, by its name in problems."""

    file: str
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PortalReading:
    """All that was found in the files of a portal, for those who tell people about it."""

    builder: PortalBuilder
    portal: Portal
    documents: dict[str, Document]
    problems: list[Problem]
    is_partial: bool
    """Whether some of it was not read or not exported, so that what seems to be nowhere may be there."""

    def raw(self, origin: Origin) -> Any:
        """An application as its file has it."""
        value: Any = self.documents[origin.file].data
        for step in origin.location:
            value = value[step]
        return value


def _private_keys(value: object, location: Location) -> list[Location]:
    """Every place in the export that holds a private key, whatever the field is called."""
    match value:
        case str():
            return [location] if holds_private_key(value) else []
        case dict():
            in_keys = [location for key in value if holds_private_key(key)]
            return in_keys + [found for key, item in value.items() for found in _private_keys(item, (*location, key))]
        case list():
            return [found for index, item in enumerate(value) for found in _private_keys(item, (*location, index))]
        case _:
            return []


def _findings_of_document(document: Document, found: list[Finding]) -> list[Finding]:
    # Where a certificate is read, a private key in its place was found already.
    told = {location for location, message, _ in found if "private key" in message}
    return [
        (place, "holds a private key", _PRIVATE_KEY_REMEDY)
        for place in _private_keys(document.data, ())
        if place not in told
    ]


def _end_of(source: Source) -> FileEnd | None:
    """The end of a file, unless its syntax would tell that it is missing."""
    octets = source.octets
    if not ends_openly(source.file, octets):
        return None
    start = octets.rfind(b"\n", 0, len(octets) - 1) + 1
    column = len(octets[start:].rstrip(b"\r\n").decode("utf-8", "replace")) + 1
    return FileEnd(source.file, octets.count(b"\n", 0, start) + 1, column, is_closed(octets))


def cut_short(portal: Portal, before: Portal | None = None, *, strict: bool = False) -> list[Problem]:
    """What looks as if the end of a file were missing, as `doubts` finds it, though what there is of it is good."""
    return [
        Problem(doubt.end.file, doubt.end.line, doubt.end.column, doubt.path, doubt.message, doubt.remedy)
        for doubt in doubts(portal, before, strict=strict)
    ]


def read_thoroughly(
    sources: Sequence[Source], read_reference: ReadReference, *, keep_chains: bool = False
) -> PortalReading:
    """Read the files of a portal with the places of everything in them, and find every problem."""
    builder = PortalBuilder(read_reference, keep_chains=keep_chains, thorough=True)
    documents: dict[str, Document] = {}
    problems: list[Problem] = []
    is_partial = False
    for source in sources:
        try:
            document = read_document(source.file, source.octets)
        except ProblemsFound as error:
            problems += error.problems
            is_partial = True
            continue
        documents[source.file] = document
        builder.add(source.file, units_of(document), _end_of(source))
    portal = builder.portal()
    is_partial = is_partial or builder.lacks_pages or any(document.problems for document in documents.values())
    for file, document in documents.items():
        found = builder.findings.get(file, [])
        found += _findings_of_document(document, found)
        own = [*document.problems, *document.problem_list(found)]
        problems += own
    return PortalReading(builder, portal, documents, problems, is_partial)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    # The fast reading makes no cycles; the garbage collector would only walk over what is kept, again and again.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def build_portal(
    sources: Sequence[Source], read_reference: ReadReference, *, keep_chains: bool = False
) -> tuple[Portal | None, list[Problem]]:
    """The portal of some files, or every problem in them. `keep_chains` keeps what a CA check needs."""
    builder = PortalBuilder(read_reference, keep_chains=keep_chains)
    try:
        with _no_collection():
            for source in sources:
                builder.add(source.file, stream(source.file, source.octets), _end_of(source))
            return builder.portal(), []
    except Irregular:
        pass
    del builder
    # Something is wrong, or unusual. The second reading is the one that decides, and explains.
    reading = read_thoroughly(sources, read_reference, keep_chains=keep_chains)
    return (None if reading.problems else reading.portal), reading.problems
