"""What the log says of an upstream that fails: enough to see it and its cause, and not a line for each request."""

import logging
from typing import Final

from jwsgate.files.problems import printable

__all__ = ["UpstreamLog"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN: Final = 1.0


class UpstreamLog:
    """Logs a failure at once, and those of the second after it as a number, with the next one that comes later."""

    def __init__(self) -> None:
        self._next = 0.0
        self._untold = 0

    def failed(self, now: float, transaction_id: str, cause: str) -> None:
        """Take note of a request that the upstream did not answer.

        Args:
            now: The monotonic time in seconds.
            transaction_id: What the client was told.
            cause: In words; may hold what the upstream sent.
        """
        if now < self._next:
            self._untold += 1
            return
        more = f" ({self._untold} more were not told of)" if self._untold else ""
        logger.warning("jwsgate: %s no answer from upstream: %s%s", transaction_id, printable(cause), more)
        self._next, self._untold = now + _SECONDS_BETWEEN, 0
