"""The log, in the lines that mitmproxy writes, for processes without mitmproxy."""

import logging
import sys

__all__ = ["write_log"]


def write_log(logger: logging.Logger, *, stdout_is_taken: bool) -> None:
    """Write what a logger is told, from INFO on; a line that cannot be written is dropped.

    It goes to standard output, or to standard error where the former is to have the lines of the audit log alone.
    """
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr if stdout_is_taken else sys.stdout)
    handler.setFormatter(logging.Formatter("[%(asctime)s.%(msecs)03d] %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
