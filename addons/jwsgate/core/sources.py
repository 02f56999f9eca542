"""Where a request carries its client ID and its JWS: exactly one place, in exactly one spelling."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final, Literal
from urllib.parse import quote

from .facts import RequestFacts, canonical_header_name
from .reasons import Reason, Rejection
from .request_target import query_values, without_query_value

__all__ = [
    "Source",
    "check_look_alikes",
    "check_request",
    "check_unread",
    "overrides",
    "single_value",
    "stripped",
    "with_value",
]

# RFC 9110 section 9.1 has methods case-sensitive, but some upstreams fold them, past a route for POST alone.
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
_NO_HOST: Final = re.compile(rb"[, /@]")
_MAX_HEADER_OCTETS: Final = 2 * 1024 * 1024  # twice the largest JWS that a policy can allow
_CONNECTION_OPTIONS: Final = frozenset({b"keep-alive", b"close", b"te", b""})
_COOKIES: Final = re.compile(rb"[;,]")
_HOP: Final = frozenset({b"upgrade", b"connection"})
_METHOD_HEADERS: Final = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
_PATH_HEADERS: Final = frozenset({b"x-original-url", b"x-rewrite-url"})
_OVERRIDES: Final = _METHOD_HEADERS | _PATH_HEADERS
_OVERRIDE_LENGTHS: Final = frozenset(map(len, _OVERRIDES))
_LENGTHS: Final = _OVERRIDE_LENGTHS | {len(b"host")} | set(map(len, _HOP))
"""Of the names of headers that every request is looked through for."""
_AUTHORITY: Final = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


type Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The one place in a request that holds a value.

    `scheme` is the authentication scheme that stands before the value (RFC 9110 section 11.4), such as Bearer.
    Where there are `others`, exactly one of all these places must hold it.
    """

    place: Literal["header", "query", "cookie"]
    name: str
    scheme: str | None = None
    others: tuple["Source", ...] = ()
    exact: bytes = field(init=False, repr=False)
    canonical: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact", self.name.encode("utf-8").lower())
        object.__setattr__(self, "canonical", canonical_header_name(self.exact))


def _unsafe(detail: str) -> Rejection:
    return Rejection(Reason.REQUEST_UNSAFE, detail)


def check_request(facts: RequestFacts) -> tuple[bool, bool]:
    """Refuse what an upstream might read differently, whichever route it belongs to.

    Returns whether the request asks for a WebSocket (RFC 6455 section 4.1), which only some routes allow, and whether
    it has `overrides`.

    Raises:
        Rejection: `request_unsafe`.
    """
    if facts.method not in _METHODS and not _METHOD.fullmatch(facts.method):
        raise _unsafe("the method is not a token in capitals")
    headers = facts.headers
    octets = b"".join(chain.from_iterable(headers))
    size = len(octets)
    if size > _MAX_HEADER_OCTETS:
        raise _unsafe("the headers are too large")
    if len(octets.translate(None, _CONTROLS)) != size:
        raise _unsafe("a header holds a control character")
    is_plain, has_overrides, hosts = True, False, 0
    for name, value in headers:
        # Lengths first: this loop runs for each header of each request.
        length = len(name)
        if length not in _LENGTHS:
            continue
        if length == 4:
            if name.lower() == b"host":
                hosts += 1
                if hosts > 1 or _NO_HOST.search(value):
                    # RFC 9112 section 3.2: the upstream might serve another host than the one that was meant.
                    raise _unsafe("the Host header is repeated or malformed")
        elif length in _OVERRIDE_LENGTHS:
            has_overrides = has_overrides or canonical_header_name(name) in _OVERRIDES
        elif name.lower() in _HOP:
            is_plain = False
    return not is_plain and _asks_for_websocket(facts), has_overrides


def overrides(facts: RequestFacts) -> Iterator[tuple[str, bytes]]:
    """Method and target as upstreams have them that prefer a header to the request line."""
    for name, value in facts.headers:
        canonical, text = canonical_header_name(name), value.strip(b" \t")
        if canonical in _METHOD_HEADERS:
            yield text.decode("latin-1").upper(), facts.target
        elif canonical in _PATH_HEADERS:
            authority = _AUTHORITY.match(text)
            yield facts.method, text if authority is None else text[authority.end() :]


def _asks_for_websocket(facts: RequestFacts) -> bool:
    upgrades: list[bytes] = []
    connection: set[bytes] = set()
    for name, value in facts.headers:
        match name.lower():
            case b"upgrade":
                upgrades.append(value)
            case b"connection":
                if len(value) > 256:
                    raise _unsafe("the Connection header is too long")
                connection.update(option.strip(b" \t").lower() for option in value.split(b","))
            case _:
                pass
    if not upgrades and connection <= _CONNECTION_OPTIONS:
        return False
    if not connection - {b"upgrade"} <= _CONNECTION_OPTIONS:
        # An upstream drops the headers named here (RFC 9110 section 7.6.1), after the gate relied on them.
        raise _unsafe("the Connection header names other headers")
    _check_websocket(facts, upgrades, connection)
    return True


def _check_websocket(facts: RequestFacts, upgrades: list[bytes], connection: set[bytes]) -> None:
    # After a 101 to any other upgrade the connection is a tunnel in which no further request would be seen.
    if [value.strip(b" \t").lower() for value in upgrades] != [b"websocket"] or b"upgrade" not in connection:
        raise _unsafe("the request asks for a protocol upgrade")
    if facts.method != "GET" or any(name.lower() in _FRAMING for name, _ in facts.headers):
        raise _unsafe("the request asks for a WebSocket with another method than GET, or with a body")


def _cookie_values(facts: RequestFacts, source: Source) -> list[bytes]:
    """The values of a cookie (RFC 6265 section 4.2), in order; raises `Rejection`."""
    values = []
    alike = 0
    for name, value in facts.headers:
        if len(name) == 6 and name.lower() == b"cookie":
            for pair in value.split(b";"):
                key, equals, text = pair.strip(b" \t").partition(b"=")
                if equals and key == source.name.encode("ascii"):
                    values.append(text)
            # Older servers part cookies at commas too, and white space and case are not everywhere what they are here.
            keys = (part.partition(b"=")[0].strip() for part in _COOKIES.split(value))
            alike += sum(canonical_header_name(key) == source.canonical for key in keys)
    if alike != len(values):
        raise _unsafe(f"a cookie imitates {source.name}")
    return values


def _query_values(facts: RequestFacts, source: Source) -> list[bytes]:
    return query_values(facts.target, source.name)


_READERS: Final[dict[str, Callable[[RequestFacts, Source], list[bytes]]]] = {
    "query": _query_values,
    "cookie": _cookie_values,
}


def _hides_scheme(facts: RequestFacts, place: Source) -> bool:
    """Whether a header does not begin with its scheme, but holds it: readers who look for it anywhere find a value."""
    if place.scheme is None:
        return False
    scheme = place.scheme.lower().encode("ascii")
    found = [value.strip(b" \t").lower() for name, value in facts.headers if name.lower() == place.exact]
    return any(scheme in value and value != scheme for value in found)


def _one_of(facts: RequestFacts, source: Source, missing: Reason, repeated: Reason) -> bytes:
    found = None
    for place in (replace(source, others=()), *source.others):
        try:
            value = single_value(facts, place, missing, repeated)
        except Rejection as rejection:
            if rejection.reason is not missing:
                raise
            if _hides_scheme(facts, place):
                raise _unsafe(f"the header {place.name} hides {place.scheme}") from None
        else:
            if found is not None:
                raise Rejection(repeated, f"{place.place} {place.name} is not the only place that holds it")
            found = value
    if found is None:
        raise Rejection(missing, "none of the places that the policy names holds it")
    return found


def single_value(facts: RequestFacts, source: Source, missing: Reason, repeated: Reason) -> bytes:
    """The one value of a source, white space at its ends removed; never empty.

    Raises:
        Rejection: `missing`, `repeated`, or `request_unsafe` for a header that only looks like the source's.
    """
    if source.others:
        return _one_of(facts, source, missing, repeated)
    value, count = b"", 0
    if source.place == "header":
        exact = source.exact
        length = len(exact)
        for name, octets in facts.headers:
            if len(name) == length:
                if name.lower() == exact:
                    value = octets
                    count += 1
                elif canonical_header_name(name) == source.canonical:
                    raise _unsafe(f"a header imitates {source.name} with other punctuation")
    else:
        values = _READERS[source.place](facts, source)
        value, count = values[0] if values else b"", len(values)
    if count != 1:
        if count:
            raise Rejection(repeated, f"{source.place} {source.name} is repeated")
        raise Rejection(missing, f"{source.place} {source.name} is missing")
    value = value.strip(b" \t")
    if source.scheme is not None:
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != source.scheme.lower().encode("ascii"):
            raise Rejection(missing, f"{source.place} {source.name} does not carry {source.scheme}")
        value = value.lstrip(b" ")
    if not value:
        raise Rejection(missing, f"{source.place} {source.name} is empty")
    return value


def check_look_alikes(facts: RequestFacts, source: Source) -> None:
    """Refuse what only looks like a source's header, parameter or cookie, whatever else there is of it.

    Raises:
        Rejection: `request_unsafe`.
    """
    for place in (replace(source, others=()), *source.others):
        try:
            single_value(facts, place, Reason.JWS_MISSING, Reason.JWS_REPEATED)
        except Rejection as rejection:
            if rejection.reason is Reason.REQUEST_UNSAFE:
                raise


def check_unread(facts: RequestFacts, source: Source, missing: Reason, repeated: Reason) -> None:
    """Refuse what the source would be refused for where nobody reads it, as on an open route; it may be missing.

    Raises:
        Rejection: `repeated`, also for values joined by a comma in one header, or `request_unsafe`.
    """
    try:
        value = single_value(facts, source, missing, repeated)
    except Rejection as rejection:
        if rejection.reason is not missing:
            raise
        if _hides_scheme(facts, source):
            raise _unsafe(f"the header {source.name} hides {source.scheme}") from None
    else:
        # Where it is read, a joined value is the name of nobody, or no JWS.
        if b"," in value:
            raise Rejection(repeated, f"{source.place} {source.name} holds several values")


def _holds(source: Source, name: bytes, value: bytes) -> bool:
    if canonical_header_name(name) != source.canonical:
        return False
    scheme = value.strip(b" \t").partition(b" ")[0]
    return source.scheme is None or scheme.lower() == source.scheme.lower().encode("ascii")


def _without_cookie(source: Source, headers: Headers) -> Headers:
    wanted = source.name.encode("ascii")
    kept = []
    for header in headers:
        pairs = header[1].split(b";") if header[0].lower() == b"cookie" else []
        others = [pair for pair in pairs if pair.partition(b"=")[0].strip(b" \t") != wanted]
        if len(others) == len(pairs):
            kept.append(header)
        elif others:
            kept.append((header[0], b";".join(others).lstrip(b" \t")))
    return tuple(kept)


def stripped(source: Source, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Request target and headers without what a source holds; everything else is kept octet for octet."""
    for place in (source, *source.others):
        match place.place:
            case "header":
                headers = tuple(field for field in headers if not _holds(place, *field))
            case "cookie":
                headers = _without_cookie(place, headers)
            case "query":
                target = without_query_value(target, place.name)
    return target, headers


def with_value(facts: RequestFacts, source: Source, value: str) -> RequestFacts:
    """The request with a value where a source looks for it first; surrogates stand for octets that are no text."""
    octets = value.encode("utf-8", "surrogateescape")
    name = source.name.encode("utf-8")
    match source.place:
        case "header":
            scheme = b"" if source.scheme is None else source.scheme.encode("ascii") + b" "
            return facts._replace(headers=(*facts.headers, (name, scheme + octets)))
        case "cookie":
            return facts._replace(headers=(*facts.headers, (b"Cookie", name + b"=" + octets)))
        case "query":
            mark = b"&" if b"?" in facts.target else b"?"
            return facts._replace(target=facts.target + mark + f"{quote(name)}={quote(octets)}".encode("ascii"))
