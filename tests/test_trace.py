"""W3C traceparent: only what the specification calls valid has a trace ID."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwsgate.core.trace import parse_traceparent, trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01".encode()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(GOOD, id="version-00"),
        pytest.param(f"00-{TRACE}-{PARENT}-ff".encode(), id="unknown-flags"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01".encode(), id="higher-version"),
        pytest.param(f"fe-{TRACE}-{PARENT}-01-what-will-be".encode(), id="higher-version-with-more"),
        pytest.param(f"01-{TRACE}-{PARENT}-01-".encode(), id="higher-version-with-a-dash"),
        pytest.param(f"01-{TRACE}-{PARENT}-01-\xff\n".encode("latin-1"), id="higher-version-with-octets"),
    ],
)
def test_valid(value: bytes) -> None:
    """Version 00, and what comes after it as far as it is known today."""
    assert parse_traceparent(value) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(GOOD + b"-more", id="version-00-with-more"),
        pytest.param(GOOD + b"-", id="version-00-with-a-dash"),
        pytest.param(GOOD + b" ", id="space-after"),
        pytest.param(GOOD + b"\n", id="newline-after"),
        pytest.param(b" " + GOOD, id="space-before"),
        pytest.param(GOOD.upper(), id="upper-case"),
        pytest.param(GOOD[:-1], id="short-flags"),
        pytest.param(b"0" + GOOD, id="long-version"),
        pytest.param(GOOD.replace(b"-", b"_"), id="other-separator"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01".encode(), id="version-ff"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01".encode(), id="no-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01".encode(), id="no-parent"),
        pytest.param(f"cc-{'0' * 32}-{PARENT}-01".encode(), id="higher-version-without-trace"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01.more".encode(), id="higher-version-without-a-dash"),
        pytest.param(f"cc-{TRACE}-{PARENT}-0".encode(), id="higher-version-cut"),
        pytest.param(f"00-{TRACE[:-1]}g-{PARENT}-01".encode(), id="not-hex"),
        pytest.param(b"00-" + "٣".encode() * 16 + b"-" + PARENT.encode() + b"-01", id="other-digits"),
    ],
)
def test_invalid(value: bytes) -> None:
    """Anything else has none."""
    assert parse_traceparent(value) is None


@given(st.binary(max_size=80))
def test_any_octets(value: bytes) -> None:
    """No octets raise, and an ID is 32 hex digits of the value."""
    found = parse_traceparent(value)
    assert found is None or (len(found) == 32 and int(found, 16) and value[3:35] == found.encode())


def test_header() -> None:
    """One header in any case; two of them say nothing, whatever they hold."""
    other = (b"x-other", b"1")
    assert trace_id_of(()) is None
    assert trace_id_of((other, (b"TraceParent", GOOD))) == TRACE
    assert trace_id_of(((b"traceparent", b"x"), other)) is None
    assert trace_id_of(((b"traceparent", GOOD), (b"Traceparent", GOOD))) is None
    assert trace_id_of(((b"trace_parent", GOOD),)) is None
