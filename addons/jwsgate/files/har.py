"""HAR files (HTTP Archive 1.2), as browsers and proxies write them: the requests in them."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from json.decoder import JSONDecodeError
from typing import Any, Final

from jwsgate.core.facts import RequestFacts
from jwsgate.core.recorded import RecordedRequest

from .problems import Unfit

__all__ = ["har_requests", "request_of_entry"]

_REMEDY: Final = "export it again; what came before was read"
_BLANK: Final = re.compile(r"[ \t\r\n]*+")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HTTP: Final = ("http", "https", "ws", "wss")
"""Schemes whose requests go over HTTP; browsers record those of pages and extensions too (`data:`, `blob:`, …)."""
_URL: Final = re.compile(r"[A-Za-z]+://[^/?#]*([^#]*)(?:#.*)?", re.DOTALL)
_DECODER: Final = json.JSONDecoder()


def _octets(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    return text.encode("utf-8", "surrogatepass")


def _time(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _target(url: str) -> bytes:
    """Path and query. A fragment is the page's own, and was not sent (RFC 3986, section 3.5)."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError
    target = match[1]
    return _octets(target if target.startswith("/") else "/" + target)


def _is_http(url: str) -> bool:
    scheme = _SCHEME.match(url)
    return scheme is None or scheme[1].lower() in _HTTP


def _method(request: dict[str, Any]) -> str:
    method = request["method"]
    if not isinstance(method, str):
        raise TypeError
    return method


def _headers(request: dict[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (_octets(header["name"]), _octets(header["value"]))
        for header in request["headers"]
        if not header["name"].startswith(":")  # browsers list the pseudo-headers of HTTP/2 too
    )


def _body(request: dict[str, Any]) -> bytes | None:
    posted = request.get("postData")
    if posted is None:
        return None if request.get("bodySize", 0) > 0 else b""
    if "text" not in posted:
        return None  # only the parameters of a form: how they were spelled is lost
    if posted.get("encoding", posted.get("_encoding")) == "base64":
        return base64.b64decode(posted["text"], validate=True)
    return _octets(posted["text"])


def request_of_entry(entry: Any, place: str) -> RecordedRequest | None:
    """The request of one entry; None for one that did not go over HTTP, as its URL's scheme says.

    Raises:
        Unfit: when it lacks what the format demands.
    """

    def part[T](name: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except KeyError:
            odd = "is missing, or a part of it"
        except (TypeError, ValueError, AttributeError, OverflowError):
            odd = "is not as the format has it"
        raise Unfit(f"is no HAR at {place}: {name} {odd}", _REMEDY)

    request = part("request", lambda: entry["request"])
    if not part("request.url", lambda: _is_http(request["url"])):
        return None
    facts = RequestFacts(
        part("request.method", lambda: _method(request)),
        part("request.url", lambda: _target(request["url"])),
        part("request.headers", lambda: _headers(request)),
    )
    time = part("startedDateTime", lambda: _time(entry["startedDateTime"]))
    return RecordedRequest(place, time, facts, part("request.postData", lambda: _body(request)))


class _Reader:
    """A JSON text, read value by value, so that a long one need not be in memory twice, nor be whole."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.index = 0

    def next(self) -> str:
        """The character that comes next; empty at the end."""
        self.index = _BLANK.match(self.text, self.index).end()  # type: ignore[union-attr]  # it always matches
        return self.text[self.index : self.index + 1]

    def take(self, *wanted: str) -> str:
        """Step over one of these characters; raises JSONDecodeError."""
        if (found := self.next()) not in wanted or not found:
            raise JSONDecodeError(f"no {wanted[0]}", self.text, self.index)
        self.index += 1
        return found

    def value(self) -> Any:
        """Raises JSONDecodeError, at the value's beginning also where it is nested too deeply."""
        self.next()
        try:
            value, self.index = _DECODER.raw_decode(self.text, self.index)
        except RecursionError:
            raise JSONDecodeError("nested too deeply", self.text, self.index) from None
        return value

    def values(self) -> Iterator[Any]:
        """Those of the list that begins here."""
        self.take("[")
        if self.next() == "]":
            self.index += 1
            return
        more = ","
        while more == ",":
            yield self.value()
            more = self.take(",", "]")

    def members(self) -> Iterator[Any]:
        """The names in the object that begins here; who asks for the next one has read the value."""
        self.take("{")
        if self.next() == "}":
            self.index += 1
            return
        more = ","
        while more == ",":
            name = self.value()
            self.take(":")
            yield name
            more = self.take(",", "}")


def _entries(reader: _Reader) -> Iterator[Any]:
    """The entries of `log`; raises JSONDecodeError, and `Unfit` when there are none in it."""
    found = False
    if reader.next() == "{":
        for name in reader.members():
            if name != "log" or reader.next() != "{":
                reader.value()
                continue
            for inner in reader.members():
                if inner == "entries" and reader.next() == "[":
                    found = True
                    yield from reader.values()
                else:
                    reader.value()
        if reader.next():
            raise JSONDecodeError("more than one value", reader.text, reader.index)
    if not found:
        raise Unfit("is no HAR: it has no log.entries", "name a HAR file, or flows saved by mitmproxy")


def har_requests(octets: bytes) -> Iterator[tuple[int, RecordedRequest | None]]:
    """The requests of a HAR file, in its order, each with about how many octets were read so far.

    None in place of a request is an entry that did not go over HTTP.

    Raises:
        Unfit: at the first place that cannot be read; what came before has been handed out.
    """
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfit(f"is no HAR: it is not UTF-8 at octet {error.start}", "export it again") from None
    reader, count = _Reader(text), 0
    try:
        for entry in _entries(reader):
            count += 1
            request = request_of_entry(entry, f"entry {count}")
            yield len(octets) * reader.index // len(text), request
    except JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Unfit(f"is cut short or damaged at {where}, after {count} entries", _REMEDY) from None
