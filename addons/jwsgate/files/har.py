"""HAR files (HTTP Archive 1.2), as browsers and proxies write them: the requests in them."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from jwsgate.core.facts import RequestFacts
from jwsgate.core.recorded import RecordedRequest

from .problems import Unfit

__all__ = ["har_requests", "request_of_entry"]

_REMEDY: Final = "export it again; what came before was read"
_ENTRIES: Final = re.compile(r'"entries"\s*:\s*\[')
_BETWEEN: Final = re.compile(r"[\s,]*")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*([^#]*)")


def _octets(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    return text.encode("utf-8", "surrogatepass")


def _time(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _target(url: str) -> bytes:
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError
    target = match[1]
    return _octets(target if target.startswith("/") else "/" + target)


def _body(request: dict[str, Any]) -> bytes | None:
    posted = request.get("postData")
    if posted is None:
        return None if request.get("bodySize", 0) > 0 else b""
    if "text" not in posted:
        return None  # only the parameters of a form: how they were spelled is lost
    if posted.get("encoding", posted.get("_encoding")) == "base64":
        return base64.b64decode(posted["text"], validate=True)
    return _octets(posted["text"])


def request_of_entry(entry: Any, place: str) -> RecordedRequest:
    """The request of one entry.

    Raises:
        Unfit: when it lacks what the format demands.
    """
    try:
        request = entry["request"]
        headers = tuple(
            (_octets(header["name"]), _octets(header["value"]))
            for header in request["headers"]
            if not header["name"].startswith(":")  # browsers list the pseudo-headers of HTTP/2 too
        )
        method = request["method"]
        if not isinstance(method, str):
            raise TypeError
        facts = RequestFacts(method, _target(request["url"]), headers)
        return RecordedRequest(place, _time(entry["startedDateTime"]), facts, _body(request))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise Unfit(
            f"is no HAR at {place}: method, url, headers or startedDateTime is missing or odd", _REMEDY
        ) from None


def _entries(text: str) -> Iterator[Any]:
    try:
        entries = json.loads(text)["log"]["entries"]
    except (json.JSONDecodeError, RecursionError) as error:
        yield from _sound_entries(text, error)
        return
    except (KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise Unfit("is no HAR: it has no log.entries", "name a HAR file, or flows saved by mitmproxy")
    yield from entries


def _sound_entries(text: str, error: Exception) -> Iterator[Any]:
    """The entries of a broken file as far as they are sound; then raises `Unfit`."""
    start = _ENTRIES.search(text)
    index, count, decoder = (start.end() if start else len(text)), 0, json.JSONDecoder()
    while (index := _BETWEEN.match(text, index).end()) < len(text) and text[index] != "]":  # type: ignore[union-attr]
        try:
            entry, index = decoder.raw_decode(text, index)
        except (json.JSONDecodeError, RecursionError) as here:
            error = here
            break
        count += 1
        yield entry
    line, column = (error.lineno, error.colno) if isinstance(error, json.JSONDecodeError) else (0, 0)
    raise Unfit(f"is cut short or damaged at line {line}, column {column}, after {count} entries", _REMEDY)


def har_requests(octets: bytes) -> Iterator[RecordedRequest]:
    """The requests of a HAR file, in its order.

    Raises:
        Unfit: at the first place that cannot be read; what came before has been handed out.
    """
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfit(f"is no HAR: it is not UTF-8 at octet {error.start}", "export it again") from None
    for number, entry in enumerate(_entries(text)):
        yield request_of_entry(entry, f"entry {number + 1}")
