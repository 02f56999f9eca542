"""The log lines that people and the README look for."""

from __future__ import annotations

import logging

import pytest

from jwsgate.adapters.decision_log import REJECTION_LEVELS, DecisionLog
from jwsgate.core.reasons import Reason
from record_material import a_record

REJECTED = a_record(transaction_id="t1", reason=Reason.JWS_MISSING, detail="no JWS where the policy says")


def lines(log: DecisionLog, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """What a rejection and an allowed request leave."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        log.record(REJECTED)
        log.record(a_record(transaction_id="t2"))
    return [(entry.levelno, entry.getMessage()) for entry in caplog.records]


def test_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The text is fixed; what is allowed has no line, as it would drown the rest."""
    assert lines(DecisionLog(), caplog) == [
        (logging.INFO, "jwsgate: t1 rejected: jws_missing: no JWS where the policy says"),
    ]


@pytest.mark.parametrize(("name", "level"), REJECTION_LEVELS.items())
def test_levels(name: str, level: int | None, caplog: pytest.LogCaptureFixture) -> None:
    """Rejections at the level that is asked for, or not at all."""
    assert [found for found, _ in lines(DecisionLog(level), caplog)] == [
        *([] if level is None else [logging.getLevelNamesMapping()[name.upper()]])
    ]
