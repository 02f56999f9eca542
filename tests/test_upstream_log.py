"""What the log says of a failing upstream."""

from __future__ import annotations

import logging

import pytest

from jwsgate.adapters.upstream_log import UpstreamLog


def test_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """The first failure is told at once with its cause; those of the same second as a number, with the next."""
    log = UpstreamLog()
    for now, transaction in ((5.0, "a"), (5.1, "b"), (5.9, "c"), (6.0, "d"), (9.0, "e")):
        log.failed(now, transaction, "refused")
    assert [record.getMessage() for record in caplog.records] == [
        "jwsgate: a no answer from upstream: refused",
        "jwsgate: d no answer from upstream: refused (2 more were not told of)",
        "jwsgate: e no answer from upstream: refused",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_upstream_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """What it sent may be part of the cause."""
    UpstreamLog().failed(1.0, "a", "bad line: x\n[12:00:00] jwsgate: all is well\x1b[2J")
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()
