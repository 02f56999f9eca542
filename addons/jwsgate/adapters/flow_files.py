"""Recordings: flows that mitmproxy saved, and HAR files."""

import hashlib
import math
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from mitmproxy.io import compat, tnetstring

from jwsgate.core.facts import RequestFacts
from jwsgate.core.recorded import RecordedRequest
from jwsgate.files.documents import looks_like_json
from jwsgate.files.har import har_requests
from jwsgate.files.problems import ProblemsFound, Unfit
from jwsgate.files.reading import read_octets

__all__ = ["Recording"]

_MAX_PREFIX: Final = 12
_REMEDY: Final = "record it again; what came before was read"


class _NoFlow(Exception):
    """What stands here is no flow."""


def _load(file: BinaryIO, size: int) -> Any:
    """The next value of a file with so many octets; raises `_NoFlow` or EOFError."""
    prefix = b""
    while (octet := file.read(1)).isdigit() and len(prefix) < _MAX_PREFIX:
        prefix += octet
    if not prefix and not octet:
        raise EOFError
    # The length is checked first: reading makes room for as much as it says.
    if octet != b":" or not prefix or int(prefix) >= size - file.tell():
        raise _NoFlow
    octets = file.read(int(prefix))
    return tnetstring.parse(file.read(1)[0], memoryview(octets))


def _thumbprint(connection: Any) -> str | None:
    certificates = connection["certificate_list"]
    if not certificates:
        return None
    pem = certificates[0].decode("ascii") if isinstance(certificates[0], bytes) else certificates[0]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def _request_of(state: Any, place: str) -> RecordedRequest:
    request, connection = state["request"], state["client_conn"]
    headers = tuple((bytes(name), bytes(value)) for name, value in request["headers"])
    method, path, content, time = request["method"], request["path"], request["content"], request["timestamp_start"]
    if not (isinstance(method, bytes) and isinstance(path, bytes) and isinstance(content, bytes | None)):
        raise _NoFlow
    if not (isinstance(time, float | int) and math.isfinite(time)):
        raise _NoFlow
    peer = str(connection["peername"][0]) if connection["peername"] else ""
    facts = RequestFacts(method.decode("latin-1"), path, headers, peer, _thumbprint(connection))
    return RecordedRequest(place, float(time), facts, content)


class Recording:
    """One file. Iterating gives its requests in their order, and may raise `Unfit` where it cannot be read on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """In octets, once iteration has begun."""
        self.position = 0
        """How many of them were read so far."""
        self.others = 0
        """How many flows or entries were no HTTP requests, and passed over."""

    def __iter__(self) -> Iterator[RecordedRequest]:
        try:
            file = self.path.open("rb", buffering=1 << 20)
            self.size = self.path.stat().st_size
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no file name"
            raise Unfit(f"cannot be read: {why}", "check the path") from None
        with file:
            if looks_like_json(file.read(64)):
                yield from self._entries()
            else:
                file.seek(0)
                yield from self._flows(file)
        self.position = self.size

    def _entries(self) -> Iterator[RecordedRequest]:
        for position, request in har_requests(self._whole()):
            self.position = position
            if request is None:
                self.others += 1
            else:
                yield request

    def _whole(self) -> bytes:
        try:
            return read_octets(self.path)
        except ProblemsFound as error:
            (problem,) = error.problems
            raise Unfit(problem.message, problem.remedy) from None

    def _flows(self, file: BinaryIO) -> Iterator[RecordedRequest]:
        number = 0
        while True:
            start = file.tell()
            number += 1
            place = f"flow {number}"
            try:
                state: Any = compat.migrate_flow(_load(file, self.size))
                request = _request_of(state, place) if state.get("type") == "http" else None
            except EOFError:
                return
            except (_NoFlow, ValueError, TypeError, LookupError, AttributeError, RecursionError):
                rest = f"after {number - 1} flows" if number > 1 else "from its beginning"
                raise Unfit(f"is cut short or damaged at octet {start}, {rest}", _REMEDY) from None
            self.position = file.tell()
            if request is None:
                self.others += 1
            else:
                yield request
