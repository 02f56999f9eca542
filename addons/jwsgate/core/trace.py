"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to."""

import re
from typing import Final

__all__ = ["parse_traceparent", "trace_id_of"]

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL)
_NO_TRACE: Final = b"0" * 32
_NO_PARENT: Final = b"0" * 16


def parse_traceparent(value: bytes) -> str | None:
    """The trace ID of a `traceparent` header's value, 32 hex digits; None when the value is invalid.

    Version 00 is exactly version, trace ID, parent ID and flags. Of a higher version these four are read, and
    whatever follows them after a dash is left alone (section 4, Versioning of traceparent); ff is no version.
    """
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent_id, more = match.groups()
    if version == b"ff" or trace_id == _NO_TRACE or parent_id == _NO_PARENT or (version == b"00" and more is not None):
        return None
    return trace_id.decode("ascii")


def trace_id_of(headers: tuple[tuple[bytes, bytes], ...]) -> str | None:
    """The trace ID of a request's HTTP headers; None unless there is exactly one `traceparent`, and that valid."""
    values = [value for name, value in headers if len(name) == 11 and name.lower() == b"traceparent"]
    return parse_traceparent(values[0]) if len(values) == 1 else None
