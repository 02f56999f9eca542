"""The log on standard output, in the lines that mitmproxy writes, for processes without mitmproxy."""

import logging
import sys

__all__ = ["log_to_stdout"]


def log_to_stdout(logger: logging.Logger) -> None:
    """Write what a logger is told, from INFO on; a line that cannot be written is dropped."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("[%(asctime)s.%(msecs)03d] %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
