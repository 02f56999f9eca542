"""Changes to portal exports in place: only lines that have to change do, so that comments and order stay.

Whatever was changed is read again before anything is written, and must mean exactly what was asked for.
"""

import base64
import contextlib
import datetime
import json
import math
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from jwsgate.core.certificates import CertificateError, check_certificate, registered_certificate
from jwsgate.core.packed import outlines
from jwsgate.core.portal import Application
from jwsgate.core.portal_diff import diff_portals

from .documents import looks_like_json, must_be_json
from .loading import read_portal
from .portal_builder import Origin
from .portal_file import PortalReading
from .problems import Location, ProblemsFound, Unfit, path_text

__all__ = ["Selected", "is_last_usable", "others_with", "register", "retire", "select"]

_DAY: Final = 86400
_LIST: Final = "application_public_certificates"
_ENTRY: Final = "application_public_certificate_entry"
_FLOW: Final = (
    "the application is written in braces",
    "write it in lines of its own (block style) first, or edit it by hand",
)


@dataclass(frozen=True, slots=True)
class Selected:
    """One application of a portal, with all that is known of the portal."""

    path: Path
    reading: PortalReading
    number: int
    """Of the application among those of the portal."""

    @property
    def application(self) -> Application:
        """The application as the gate takes it."""
        return self.reading.portal.applications[self.number]

    @property
    def origin(self) -> Origin:
        """Where it stands."""
        return self.reading.builder.origins[self.number]


def select(path: Path, name: str) -> Selected:
    """The application with a client ID, a name or a title.

    Raises:
        ProblemsFound: when the portal cannot be used.
        Unfit: when there is no such application, or more than one.
    """
    reading = read_portal(path)
    if reading.problems:
        raise ProblemsFound(reading.problems)
    number = reading.portal.index.get(name.encode("utf-8", "replace"))
    applications = reading.portal.applications
    numbers = [number] if number is not None else []
    numbers = numbers or [n for n, one in enumerate(applications) if name in {one.name, one.title}]
    if len(numbers) != 1:
        found = "no application has" if not numbers else f"{len(numbers)} applications have"
        raise Unfit(f"{found} the client ID, name or title {name!r}", "jwsgate portal list shows them")
    return Selected(path, reading, numbers[0])


def _time_text(time: float) -> str:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _pem(der: bytes) -> str:
    body = base64.b64encode(der).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def register(selected: Selected, text: str, now: float, *, overlap: float | None = None) -> str:
    """Register a certificate beside those that the application has. Returns its thumbprint.

    With `overlap` (seconds), the others are not used after that time any more.

    Raises:
        Unfit: when the certificate cannot be registered, or the file cannot be edited.
        OSError: when the file cannot be written.
    """
    try:
        ders = check_certificate(text)
    except CertificateError as error:
        raise Unfit(f"the certificate {error}", error.remedy) from None
    certificate = registered_certificate(ders)
    if any(one.thumbprint == certificate.thumbprint for one in selected.application.certificates):
        raise Unfit("the certificate is registered already", "nothing to do")
    if certificate.not_after < now:
        raise Unfit("the certificate has expired", "register one that is valid")
    last = None if overlap is None else float(int(now + overlap))
    end = None if last is None else _time_text(last)
    entry = "".join(map(_pem, ders))
    replaced = [
        place
        for (place, _), one in zip(selected.origin.registrations, selected.application.certificates, strict=True)
        if last is not None and one.not_after > last
    ]
    if replaced and last is not None and certificate.not_before > last + 1:
        days = math.ceil((certificate.not_before - now) / _DAY)
        raise Unfit(
            f"the certificate is not valid before {_time_text(certificate.not_before)}, and the former ones would not"
            f" be used after {end}",
            f"say --overlap {days}d or more, or leave it out",
        )
    kept = _ends(selected.application)
    if last is not None:
        kept = {thumbprint: min(old, last) for thumbprint, old in kept.items()}

    def edit_json(application: dict[str, Any]) -> None:
        for place in replaced:
            _holder(application, place, selected.origin)[_end_key(place)] = end
        further = application.get(_LIST)
        application[_LIST] = [*(further or []), {"entry": entry}]

    def edit_yaml(lines: _Lines) -> None:
        for place in replaced:
            lines.set_beside(place, _end_key(place), f'"{end}"')
        lines.append_item(selected.origin.location, entry)

    _edit(selected, edit_json, edit_yaml, kept | {certificate.thumbprint: certificate.not_after})
    return certificate.thumbprint


def retire(selected: Selected, thumbprint: str) -> str:
    """Remove the certificate whose thumbprint begins so. Returns its whole thumbprint.

    Raises:
        Unfit: when there is no such certificate, more than one, or the file cannot be edited.
        OSError: when the file cannot be written.
    """
    wanted = re.sub(r"[\s:]", "", thumbprint).lower()
    pairs = zip(selected.origin.registrations, selected.application.certificates, strict=True)
    found = [(place, one) for (place, _), one in pairs if wanted and one.thumbprint.startswith(wanted)]
    if len(found) != 1:
        some = "none" if not found else "more than one"
        raise Unfit(f"{some} of its certificates has a thumbprint that begins with {thumbprint!r}", "say it whole")
    place, certificate = found[0]
    location = selected.origin.location

    def edit_json(application: dict[str, Any]) -> None:
        if place[len(location)] == _LIST:
            del application[_LIST][place[len(location) + 1]]
        else:
            del application[str(place[-1])]

    def edit_yaml(lines: _Lines) -> None:
        only = len([one for one, _ in selected.origin.registrations if _LIST in one]) == 1
        if place[len(location)] != _LIST:
            lines.remove_key(place)
        elif only:
            lines.remove_key((*location, _LIST))
        else:
            lines.remove_item(place[:-1])

    kept = _ends(selected.application)
    del kept[certificate.thumbprint]
    _edit(selected, edit_json, edit_yaml, kept)
    return certificate.thumbprint


def others_with(selected: Selected, thumbprint: str) -> list[str]:
    """The titles, or places, of the other applications that have a certificate, so that each can sign for the other."""
    applications = selected.reading.portal.applications
    return [
        applications[number].title or path_text(origin.location)
        for number, (found, origin) in enumerate(
            zip(outlines(applications), selected.reading.builder.origins, strict=True)
        )
        if origin is not selected.origin and any(one.thumbprint == thumbprint for one in found.certificates)
    ]


def is_last_usable(selected: Selected, thumbprint: str, now: float) -> bool:
    """Whether without a certificate, of those that can be used at `now` (Unix seconds), the application has none."""
    usable = [one.thumbprint for one in selected.application.certificates if one.not_before <= now <= one.not_after]
    return usable == [thumbprint]


def _ends(application: Application) -> dict[str, float]:
    """When the use of each certificate ends."""
    return {str(one.thumbprint): one.not_after for one in application.certificates}


def _end_key(place: Location) -> str:
    return "not_after" if _LIST in place else f"{_ENTRY.removesuffix('_entry')}_not_after"


def _holder(application: dict[str, Any], place: Location, origin: Origin) -> Any:
    """The mapping in which a certificate stands."""
    holder: Any = application
    for step in place[len(origin.location) : -1]:
        holder = holder[step]
    return holder


# Files


def _edit(
    selected: Selected,
    edit_json: Callable[[dict[str, Any]], None],
    edit_yaml: "Callable[[_Lines], None]",
    expected: dict[str, float],
) -> None:
    file = selected.origin.file
    octets = selected.reading.documents[file].octets
    text = octets.decode("utf-8")
    if must_be_json(file) or looks_like_json(octets):
        new = _edited_json(text, selected.origin.location, edit_json)
    else:
        lines = _Lines(text)
        edit_yaml(lines)
        new = lines.text()
    _verify(selected, new.encode("utf-8"), expected)
    _replace(Path(file), octets, new.encode("utf-8"))


def _edited_json(text: str, location: Location, edit: Callable[[dict[str, Any]], None]) -> str:
    try:
        # Numbers keep their text, which says more than a value does: 1.50, 1E5.
        mark = secrets.token_hex(16)
        marked = mark.__add__
        whole = json.loads(text.removeprefix("\ufeff"), parse_float=marked, parse_int=marked)
    except ValueError:
        raise Unfit(*_FLOW) from None  # YAML that begins as JSON does
    application: Any = whole
    for step in location:
        application = application[step]
    edit(application)
    indent = re.search(r"\n( +|\t+)\S", text)
    end = "\n" if text.endswith("\n") else ""
    new = json.dumps(whole, indent=indent[1] if indent else None, ensure_ascii=text.isascii())
    return re.sub(f'"{mark}([^"]*)"', r"\1", new) + end


def _verify(selected: Selected, octets: bytes, expected: dict[str, float]) -> None:
    reading = read_portal(selected.path, {selected.origin.file: octets})
    if reading.problems:
        raise Unfit(f"the result would have a problem: {reading.problems[0]}", "edit the file by hand")
    diff = diff_portals(selected.reading.portal, reading.portal)
    exact = not diff.added and not diff.removed and len(diff.changed) == 1
    if not exact or _ends(diff.changed[0].after) != expected:
        raise Unfit("the result would not be what was asked for", "edit the file by hand")


def _replace(path: Path, before: bytes, after: bytes) -> None:
    """Put the file in place at once and whole; its rights stay."""
    path = Path(os.path.realpath(path))
    if path.read_bytes() != before:
        raise Unfit(f"{path} was changed meanwhile", "try again")
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after)
            file.flush()
            status = path.stat()
            os.fchmod(descriptor, status.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class _Lines:
    """The lines of a YAML file and where its values stand; changes are made from the end, so that places stay true."""

    def __init__(self, text: str) -> None:
        self._break = "\r\n" if "\r\n" in text else "\n"
        self._lines = text.replace("\r\n", "\n").split("\n")
        # The strict reader has been through it: no alias, no depth, no second document.
        self._root: Any = yaml.compose(text.replace("\r\n", "\n"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._changes: list[tuple[int, int, list[str]]] = []

    def text(self) -> str:
        """The text with all changes."""
        # From the end; of several at one place, the last first.
        for _, (start, end, new) in sorted(enumerate(self._changes), key=lambda c: (c[1][0], c[0]), reverse=True):
            self._lines[start:end] = new
        return self._break.join(self._lines)

    def _pair(self, location: Location) -> tuple[Any, Any]:
        """Key (None in a list) and value of a location."""
        key, node = None, self._root
        for step in location:
            if isinstance(step, int):
                key, node = None, node.value[step]
            else:
                key, node = next((k, v) for k, v in node.value if k.value == step)
            if getattr(node, "flow_style", False) and isinstance(node, yaml.CollectionNode) and node.value:
                raise Unfit(*_FLOW)
        return key, node

    def _end(self, node: Any, indent: int) -> int:
        """The line after a value, without the comments and blank lines that belong to what follows."""
        end: int = node.end_mark.line + (1 if node.end_mark.column > 0 and not _at_line_start(node) else 0)
        end = min(max(end, node.start_mark.line + 1), len(self._lines))
        while end - 1 > node.start_mark.line and _is_filling(self._lines[end - 1], indent):
            end -= 1
        return end

    def set_beside(self, place: Location, name: str, value: str) -> None:
        """Give the mapping in which a value stands a key more, or another value for it."""
        mapping = self._pair(place[:-1])[1]
        key, node = self._pair(place)
        for other, old in mapping.value:
            if other.value == name:
                self._changes.append(
                    (other.start_mark.line, self._end(old, other.start_mark.column), [
                        self._lines[other.start_mark.line][: other.start_mark.column] + f"{name}: {value}"
                    ])
                )  # fmt: skip
                return
        column = key.start_mark.column
        end = self._end(node, column)
        self._changes.append((end, end, [" " * column + f"{name}: {value}"]))

    def append_item(self, location: Location, entry: str) -> None:
        """Register a certificate at the end of an application's list, which is made if need be."""
        mapping = self._pair(location)[1]
        for key, node in mapping.value:
            if key.value == _LIST and node.value:
                self._pair((*location, _LIST))
                column = node.start_mark.column
                end = self._end(node.value[-1], column)
                self._changes.append((end, end, _item(column, entry)))
                return
            if key.value == _LIST:
                self.remove_key((*location, _LIST))
        column = mapping.value[0][0].start_mark.column
        end = self._end(mapping.value[-1][1], column)
        self._changes.append((end, end, [" " * column + f"{_LIST}:", *_item(column + 2, entry)]))

    def remove_key(self, location: Location) -> None:
        """Remove a key with its value."""
        key, node = self._pair(location)
        line, column = key.start_mark.line, key.start_mark.column
        before = self._lines[line][:column]
        if before.strip():
            # The first key of a list item stands behind the dash; a key that is not there means nothing.
            siblings = self._pair(location[:-1])[1].value
            if len(siblings) < 2:
                raise Unfit("the application has no other key", "edit the file by hand")
            second = siblings[1][0].start_mark
            moved = before + self._lines[second.line][second.column :]
            self._changes.append((line, second.line + 1, [*self._lines[self._end(node, column) : second.line], moved]))
        else:
            self._changes.append((line, self._end(node, column), []))

    def remove_item(self, location: Location) -> None:
        """Remove an item of a list."""
        node = self._pair(location)[1]
        line, column = node.start_mark.line, node.start_mark.column
        self._changes.append((line, self._end(node, column - 2), []))


def _at_line_start(node: Any) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _is_filling(line: str, indent: int) -> bool:
    text = line.strip()
    return not text or (text.startswith("#") and len(line) - len(line.lstrip()) <= indent)


def _item(column: int, entry: str) -> list[str]:
    return [" " * column + "- entry: |", *(" " * (column + 4) + line for line in entry.splitlines())]
