"""Random octets of the operating system, taken in advance: a system call for each ID costs more than the ID."""

import os
from typing import Final

__all__ = ["random_hex"]

_OCTETS: Final = 4096
_pool = ""
_taken = 0


def _forget() -> None:
    global _pool  # noqa: PLW0603 - one for the process
    _pool = ""


os.register_at_fork(after_in_child=_forget)


def random_hex(octets: int) -> str:
    """As many random octets in hex, at most 4096; no octet is given out twice. For one thread."""
    global _pool, _taken  # noqa: PLW0603 - one for the process
    start, end = _taken, _taken + 2 * octets
    if end > len(_pool):
        _pool = os.urandom(_OCTETS).hex()
        start, end = 0, 2 * octets
    _taken = end
    return _pool[start:end]
