"""Verified JWS seen before, so that a client's second request costs no signature.

Rule 1. The key is the exact text of the JWS, the client ID and the route; a route belongs to one snapshot,
        so that a changed policy or portal never meets an old entry.
Rule 2. An entry is used only while its certificate is still usable and the times of its claims still hold.
Rule 3. Only what passed every rule is kept. Bindings and replay are no part of it: they are checked each time.
Rule 4. Bounded in entries and in octets; the oldest goes first, as it is likely to expire first.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Entry", "VerifiedCache"]

_ENTRY_OVERHEAD: Final = 2048
"""Octets reckoned for an entry besides its texts: keys, links, the objects of a few claims."""


class Entry(Protocol):
    """What is kept; frozen, since several requests share it."""

    @property
    def octets(self) -> int:
        """The size of its texts."""


class VerifiedCache[K, E: Entry]:
    """Not for several threads at once. `max_entries` 0 switches it off."""

    def __init__(self, max_entries: int = 10_000, max_octets: int = 32 * 1024 * 1024) -> None:
        self._entries: OrderedDict[K, E] = OrderedDict()  # a dict is slow to give up its oldest entry
        self._max_entries = max_entries
        self._max_octets = max_octets
        self.octets = 0
        self.stored = 0
        """How many entries were ever handed in: each is a JWS that had to be verified."""
        # The entry of a key, whether or not its times still hold. The dict's own method: it runs for each request.
        self.get: Callable[[K], E | None] = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, entry: E) -> None:
        """Keep an entry, and drop others as the bounds ask."""
        self.stored += 1
        size = entry.octets + _ENTRY_OVERHEAD
        if size > self._max_octets or self._max_entries < 1:
            return
        self.discard(key)
        entries = self._entries
        entries[key] = entry
        self.octets += size
        while len(entries) > self._max_entries or self.octets > self._max_octets:
            _, dropped = entries.popitem(last=False)
            self.octets -= dropped.octets + _ENTRY_OVERHEAD

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()
        self.octets = 0

    def discard(self, key: K) -> None:
        """Forget an entry, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.octets -= entry.octets + _ENTRY_OVERHEAD
