"""CORS (Fetch standard, section 3.3): preflights answered by the gate, and headers that let browsers show answers.

Rule 1. A preflight is OPTIONS with one Origin and one Access-Control-Request-Method, and without a body. No other
        request passes without a JWS; the preflight itself never reaches the upstream, so that nothing can hide in it.
Rule 2. On a route with `cors` the gate alone says what browsers may do: the upstream's own CORS headers are replaced.
Rule 3. Nothing of the request is echoed but an Origin that equals one of the policy's.
"""

from dataclasses import dataclass
from typing import Final

from .facts import RequestFacts
from .upstream import Headers

__all__ = ["Cors", "is_cors_header", "requested_method"]

_OWN: Final = frozenset(
    {b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers"}
)


def is_cors_header(name: bytes) -> bool:
    """Whether a response header is one of those that only the gate may send."""
    return len(name) >= 27 and name.lower() in _OWN


def _only(headers: Headers, wanted: bytes) -> bytes | None:
    found = [value for name, value in headers if len(name) == len(wanted) and name.lower() == wanted]
    return found[0].strip(b" \t") if len(found) == 1 else None


def requested_method(facts: RequestFacts) -> str | None:
    """The method that a true preflight asks for; None when the request is no preflight."""
    if facts.method != "OPTIONS":
        return None
    method = _only(facts.headers, b"access-control-request-method")
    if not method or not method.isalpha() or not _only(facts.headers, b"origin"):
        return None
    for name, value in facts.headers:
        lower = name.lower()
        if lower == b"transfer-encoding" or (lower == b"content-length" and value.strip(b" \t") != b"0"):
            return None
    return method.decode("ascii")


@dataclass(frozen=True, slots=True)
class Cors:
    """What browsers may do. `origins` None means every origin, which never goes with `credentials`."""

    origins: frozenset[bytes] | None
    headers: tuple[str, ...] = ()
    """Request headers that scripts may send."""
    expose: tuple[str, ...] = ()
    """Response headers that scripts may read."""
    credentials: bool = False
    max_age: int = 600
    """How long a browser may remember a preflight, in seconds."""

    def response_headers(self, request: Headers) -> Headers:
        """What goes with every response of the route, errors too, to a request with these headers."""
        vary = ((b"vary", b"Origin"),)
        origin = _only(request, b"origin")
        if origin is None or (self.origins is not None and origin not in self.origins):
            return vary
        allowed = b"*" if self.origins is None else origin
        made = [(b"access-control-allow-origin", allowed), *vary]
        if self.credentials:
            made.append((b"access-control-allow-credentials", b"true"))
        if self.expose:
            made.append((b"access-control-expose-headers", ", ".join(self.expose).encode("ascii")))
        return tuple(made)

    def preflight_headers(self, request: Headers, method: str) -> Headers:
        """What goes with the answer to a preflight besides; nothing when its origin is none of the policy's."""
        if len(self.response_headers(request)) == 1:
            return ()
        allowed = [(b"access-control-allow-methods", method.encode("ascii"))]
        if self.headers:
            allowed.append((b"access-control-allow-headers", ", ".join(self.headers).encode("ascii")))
        return (*allowed, (b"access-control-max-age", str(self.max_age).encode("ascii")))
