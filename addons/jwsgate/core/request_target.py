"""The request target (RFC 9112 section 3.2.1), read so that the gate and any upstream mean the same path.

What an upstream might read differently is not guessed at but refused: dot segments, empty segments,
encoded slashes, backslashes and control characters, `#`, and octets that no URL may hold.
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from .facts import canonical_header_name
from .reasons import Reason, Rejection

__all__ = ["loose_segments", "path_segments", "query_values", "without_query_value"]

_MAX_PATH_OCTETS: Final = 8192
_MAX_QUERY_OCTETS: Final = 131072
_MAX_QUERY_FIELDS: Final = 1000
_PATH: Final = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]++|%[0-9A-Fa-f]{2})*+")
_QUERY: Final = re.compile(rb"[!-\"$-~]*")
_ESCAPED: Final = re.compile(rb"(?:[^%]++|%[0-9A-Fa-f]{2})*+")
_LOOSE: Final = re.compile(r"[%;]")
_SLASHES: Final = re.compile(rb"[/\\]")
_HIDDEN: Final = re.compile(rb"[\x00-\x1f\x7f/\\]")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _unsafe(detail: str) -> Rejection:
    return Rejection(Reason.REQUEST_UNSAFE, detail)


def _normal(segment: bytes) -> str:
    """Unreserved characters decoded, all other escapes in upper case (RFC 3986 section 6.2.2)."""
    if b"%" not in segment:
        return segment.decode("ascii")

    def escape(match: re.Match[bytes]) -> bytes:
        octet = int(match[1], 16)
        return bytes([octet]) if octet in _UNRESERVED else b"%%%02X" % octet

    normal = re.sub(rb"%([0-9A-Fa-f]{2})", escape, segment)
    if _HIDDEN.search(unquote_to_bytes(segment)):
        raise _unsafe("the path hides a slash, a backslash or a control character behind %")
    return normal.decode("ascii")


def path_segments(target: bytes) -> tuple[str, ...]:
    """The normalised segments of the path; a trailing slash shows as a last empty segment.

    Raises:
        Rejection: `request_unsafe` when an upstream could read the target in another way.
    """
    path, _, query = target.partition(b"?")
    if len(path) > _MAX_PATH_OCTETS:
        raise _unsafe("the path is too long")
    if not _PATH.fullmatch(path):
        raise _unsafe("the path is not a plain absolute path")
    if not _QUERY.fullmatch(query):
        raise _unsafe("the query holds octets that no URL may hold")
    segments = tuple(_normal(segment) for segment in path[1:].split(b"/"))
    if "" in segments[:-1]:
        raise _unsafe("the path has an empty segment")
    if any(segment in {".", ".."} for segment in loose_segments(segments)):
        raise _unsafe("the path has a dot segment")
    return segments


def loose_segments(segments: tuple[str, ...]) -> tuple[str, ...]:
    """The segments as the most liberal upstream reads them: ASCII decoded, path parameters and white space cut off.

    Servers decode `%3A` before they look for a handler, some of them twice, so that `%252F` parts two segments; and
    some know path parameters (RFC 3986 section 3.3).
    """
    if not any(_LOOSE.search(segment) for segment in segments):
        return segments
    return tuple(part for segment in segments for part in _loose(segment))


def _loose(segment: str) -> Iterator[str]:
    for part in _SLASHES.split(unquote_to_bytes(unquote_to_bytes(segment))):
        plain = part.partition(b";")[0].strip()
        # Octets beyond ASCII keep their escape: it is the one spelling in which a request, and a route, can have them.
        yield "".join(chr(octet) if octet < 0x80 else f"%{octet:02X}" for octet in plain)


def query_values(target: bytes, name: str) -> list[bytes]:
    """The decoded values of one query parameter, in order.

    Raises:
        Rejection: `request_unsafe` when the query cannot be decoded in one way.
    """
    wanted = name.encode()
    values = []
    query = target.partition(b"?")[2]
    if len(query) > _MAX_QUERY_OCTETS or query.count(b"&") >= _MAX_QUERY_FIELDS:
        raise _unsafe("the query is too large to look for a value in")
    if not _ESCAPED.fullmatch(query):
        # Decoders differ on a lone %; and this module's own is slow on many of them.
        raise _unsafe("the query has a % that escapes nothing")
    for field in query.split(b"&"):
        key, _, value = field.partition(b"=")
        if _form_decoded(key) == wanted:
            values.append(_form_decoded(value))
    alike = sum(_folded(_form_decoded(part.partition(b"=")[0])) == _folded(wanted) for part in re.split(b"[&;]", query))
    if alike != len(values):
        # Some servers split at ";" too, or read "client.id" and "client_id[]" as client_id.
        raise _unsafe(f"the query imitates {name} with other punctuation")
    return values


def without_query_value(target: bytes, name: str) -> bytes:
    """The request target without one query parameter; the rest of it stays octet for octet."""
    path, mark, query = target.partition(b"?")
    wanted = name.encode()
    fields = query.split(b"&")
    kept = [field for field in fields if _form_decoded(field.partition(b"=")[0]) != wanted]
    if len(kept) == len(fields):
        return target
    return path + mark + b"&".join(kept) if kept else path


def _form_decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _folded(name: bytes) -> bytes:
    return canonical_header_name(name.partition(b"[")[0].strip())
