"""Where a request carries its client ID and its JWS: exactly one place, in exactly one spelling."""

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Literal

from .facts import RequestFacts, canonical_header_name
from .reasons import Reason, Rejection
from .request_target import query_values

__all__ = ["Source", "check_request", "single_value"]

# RFC 9110 section 9.1 has methods case-sensitive, but some upstreams fold them, past a route for POST alone.
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
_NO_HOST: Final = re.compile(rb"[, /@]")
_MAX_HEADER_OCTETS: Final = 2 * 1024 * 1024  # twice the largest JWS that a policy can allow
_CONNECTION_OPTIONS: Final = frozenset({b"keep-alive", b"close", b"te", b""})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Source:
    """The one place in a request that holds a value.

    `scheme` is the authentication scheme that stands before the value (RFC 9110 section 11.4), such as Bearer.
    """

    place: Literal["header", "query"]
    name: str
    scheme: str | None = None
    exact: bytes = field(init=False, repr=False)
    canonical: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact", self.name.encode("utf-8").lower())
        object.__setattr__(self, "canonical", canonical_header_name(self.exact))


def _unsafe(detail: str) -> Rejection:
    return Rejection(Reason.REQUEST_UNSAFE, detail)


def check_request(facts: RequestFacts) -> bool:
    """Refuse what an upstream might read differently, whichever route it belongs to.

    Returns whether the request asks for a WebSocket (RFC 6455 section 4.1), which only some routes allow.

    Raises:
        Rejection: `request_unsafe`.
    """
    if facts.method not in _METHODS and not _METHOD.fullmatch(facts.method):
        raise _unsafe("the method is not a token in capitals")
    size = hosts = 0
    upgrades: list[bytes] = []
    connection: set[bytes] = set()
    for name, value in facts.headers:
        # Lengths first: this loop runs for each header of each request.
        length = len(name)
        size += length + len(value)
        if length == 4 and name.lower() == b"host":
            hosts += 1
            if hosts > 1 or _NO_HOST.search(value):
                # RFC 9112 section 3.2: the upstream might serve another host than the one that was meant.
                raise _unsafe("the Host header is repeated or malformed")
        elif length == 7 and name.lower() == b"upgrade":
            upgrades.append(value)
        elif length == 10 and name.lower() == b"connection":
            if len(value) > 256:
                raise _unsafe("the Connection header is too long")
            connection.update(option.strip(b" \t").lower() for option in value.split(b","))
    if size > _MAX_HEADER_OCTETS:
        raise _unsafe("the headers are too large")
    octets = b"".join(chain.from_iterable(facts.headers))
    if len(octets.translate(None, _CONTROLS)) != size:
        raise _unsafe("a header holds a control character")
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


def single_value(facts: RequestFacts, source: Source, missing: Reason, repeated: Reason) -> bytes:
    """The one value of a source, white space at its ends removed; never empty.

    Raises:
        Rejection: `missing`, `repeated`, or `request_unsafe` for a header that only looks like the source's.
    """
    values = []
    if source.place == "query":
        values = query_values(facts.target, source.name)
    else:
        exact = source.exact
        length = len(exact)
        for name, value in facts.headers:
            if len(name) == length:
                if name.lower() == exact:
                    values.append(value)
                elif canonical_header_name(name) == source.canonical:
                    raise _unsafe(f"a header imitates {source.name} with other punctuation")
    if not values:
        raise Rejection(missing, f"{source.place} {source.name} is missing")
    if len(values) > 1:
        raise Rejection(repeated, f"{source.place} {source.name} is repeated")
    value = values[0].strip(b" \t")
    if source.scheme is not None:
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != source.scheme.lower().encode("ascii"):
            raise Rejection(missing, f"{source.place} {source.name} does not carry {source.scheme}")
        value = value.lstrip(b" ")
    if not value:
        raise Rejection(missing, f"{source.place} {source.name} is empty")
    return value
