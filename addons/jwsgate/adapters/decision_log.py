"""One line in the log for each rejection, for people who watch the gate; audit.py keeps account of all decisions."""

import logging
from typing import Final

from .records import DecisionRecord

__all__ = ["REJECTION_LEVELS", "DecisionLog"]

logger = logging.getLogger(__name__)

REJECTION_LEVELS: Final[dict[str, int | None]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": None,
}
"""The values of `--rejection-log-level`."""


class DecisionLog:
    """A `RecordSink`. Nothing that the client sent is logged: an unprintable octet could break the log, or forge it."""

    def __init__(self, rejection_level: int | None = logging.INFO) -> None:
        """`rejection_level` None leaves them out."""
        self._rejection_level = rejection_level

    def record(self, record: DecisionRecord) -> None:
        """Log a rejection. Never raises, as `logging` tells its own faults on standard error."""
        if record.reason is not None and self._rejection_level is not None:
            logger.log(
                self._rejection_level,
                "jwsgate: %s %s: %s: %s",
                record.transaction_id,
                "would be rejected" if record.reported else "rejected",
                record.reason,
                record.detail,
            )
