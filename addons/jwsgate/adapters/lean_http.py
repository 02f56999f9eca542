"""What mitmproxy asks of the headers of each message several times over, answered at once for usual messages.

Each function leaves whatever is not usual to the original, so that strictness and errors are mitmproxy's
(tests/test_lean_http.py holds them against each other).
"""

from collections.abc import Callable
from typing import Any, Final

import mitmproxy.proxy.layers.http
from mitmproxy import http
from mitmproxy.net.http import http1, validate
from mitmproxy.net.http.http1 import read

__all__ = ["lean_http"]

_original_size: Final[Callable[..., int | None]] = read.expected_http_body_size
_original_close: Final[Callable[..., bool]] = read.connection_close
_original_version: Final[Any] = read.raise_if_http_version_unknown
_original_validate: Final[Any] = validate.validate_headers

_FRAMING: Final = {b"content-length", b"transfer-encoding"}
_MOST_NAMES, _MOST_OCTETS, _MOST_DIGITS = 1000, 64, 18
_known_names: set[bytes] = set()
"""Names of headers, as they were spelled, that are well formed and say nothing of the body."""


def _is_plain(length: bytes) -> bool:
    return length.isdigit() and len(length) <= _MOST_DIGITS and (length[0] != 0x30 or length == b"0")


def _body_size(request: http.Request, response: http.Response | None = None) -> int | None:
    if response is None:
        data: Any = request.data
    else:
        data = response.data
        status = data.status_code
        if status < 200 or status in {204, 304} or request.data.method.upper() in {b"HEAD", b"CONNECT"}:
            return _original_size(request, response)
    length = None
    for name, value in data.headers.fields:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            if length is not None or not _is_plain(value):
                return _original_size(request, response)
            length = value
        elif size == 17 and name.lower() == b"transfer-encoding":
            return _original_size(request, response)
    if length is not None:
        return int(length)
    return 0 if response is None else -1


def _closes(http_version: str, headers: http.Headers) -> bool:
    found = None
    for name, value in headers.fields:
        if len(name) == 10 and name.lower() == b"connection":
            if found is not None:
                return _original_close(http_version, headers)
            found = value
    if found == b"keep-alive":
        return False
    if found is None and http_version == "HTTP/1.1":
        return False
    return _original_close(http_version, headers)


def _check_version(http_version: bytes) -> None:
    if http_version != b"HTTP/1.1":
        _original_version(http_version)


def _validate(message: http.Message) -> None:
    fields = message.data.headers.fields
    length = None
    for name, value in fields:
        if name in _known_names:
            continue
        if length is not None or len(name) != 14 or name.lower() != b"content-length" or not _is_plain(value):
            break
        length = value
    else:
        return
    _original_validate(message)
    if len(_known_names) < _MOST_NAMES:
        _known_names.update(name for name, _ in fields if len(name) <= _MOST_OCTETS and name.lower() not in _FRAMING)


def lean_http() -> None:
    """Put these in place of mitmproxy's, for the whole process."""
    layer = mitmproxy.proxy.layers.http
    for module, name, replacement in (
        (http1, "expected_http_body_size", _body_size),
        (layer, "expected_http_body_size", _body_size),
        (http1, "connection_close", _closes),
        (read, "raise_if_http_version_unknown", _check_version),
        (layer, "validate_headers", _validate),
    ):
        getattr(module, name)  # another version of mitmproxy may have another
        setattr(module, name, replacement)
