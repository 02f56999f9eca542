"""Random octets of the operating system, taken in advance: a system call for each ID costs more than the ID."""

import os
from typing import Final

__all__ = ["random_hex"]

_OCTETS: Final = 4096
_pool = bytearray()
os.register_at_fork(after_in_child=_pool.clear)


def random_hex(octets: int) -> str:
    """As many random octets in hex; no octet is given out twice. For one thread."""
    if len(_pool) < octets:
        _pool.extend(os.urandom(_OCTETS))
    taken = _pool[-octets:]
    del _pool[-octets:]
    return taken.hex()
