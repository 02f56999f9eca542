"""The request target (RFC 9112 section 3.2.1), read so that the gate and any upstream mean the same path.

What an upstream might read differently is not guessed at but refused: dot segments, empty segments,
encoded slashes, backslashes and control characters, `#`, and octets that no URL may hold.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from .reasons import Reason, Rejection

__all__ = ["path_segments", "query_values"]

_MAX_PATH_OCTETS: Final = 8192
_MAX_QUERY_OCTETS: Final = 131072
_MAX_QUERY_FIELDS: Final = 1000
_PATH: Final = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]++|%[0-9A-Fa-f]{2})*+")
_QUERY: Final = re.compile(rb"[!-\"$-~]*")
_ESCAPED: Final = re.compile(rb"(?:[^%]++|%[0-9A-Fa-f]{2})*+")
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
    # A segment such as "..;x" is a dot segment to servers that know path parameters.
    if any(segment.partition(";")[0] in {".", ".."} for segment in segments):
        raise _unsafe("the path has a dot segment")
    return segments


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
        if unquote_to_bytes(key.replace(b"+", b" ")) == wanted:
            values.append(unquote_to_bytes(value.replace(b"+", b" ")))
    return values
