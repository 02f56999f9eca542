"""Numbers of one worker, which other processes may read while it counts, and after it died.

Of prometheus-client's own way for several processes, measured with 0.26: it is chosen for a whole process before the
library is imported, leaves files for each process that ever ran, breaks every scrape after a process was killed while
it made its file, and ends a worker with SIGBUS when the disk is full. Here each worker has a number of its own, and
whoever takes a dead worker's place goes on where that one stopped.

Rule 1. A worker has two files: N.keys, one line of JSON for each key, only ever appended to, and N.numbers, as many
        doubles in the same order. All of it is allocated at start, so that counting can meet no full disk.
Rule 2. A key is on file before its number is used; whoever reads stops at a line that is not complete.
Rule 3. One process writes a worker's files. Nothing has to be locked: a number is stored by one move of 8 octets.
"""

import contextlib
import errno
import json
import mmap
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["CAPACITY", "Key", "MetricCells", "read_cells"]

type Key = tuple[str, ...]
"""The name of a metric and the values of its labels."""

CAPACITY: Final = 8192
"""Numbers of one worker."""
_OCTETS: Final = CAPACITY * 8


def _keys_in(text: bytes) -> Iterator[tuple[Key, int]]:
    """Each key of a `.keys` file, and the offset of the octet after its line."""
    end = 0
    for line in text.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        yield tuple(json.loads(line)), end


def _append(log: int, line: bytes) -> None:
    before = os.fstat(log).st_size
    if os.write(log, line) != len(line):
        os.ftruncate(log, before)
        raise OSError(errno.ENOSPC, "no room for one more metric")


class MetricCells:
    """Numbers by key. `numbers[cell(key)] += 1` counts; look cells up once, as that may write."""

    def __init__(self, directory: Path | None = None, worker: int = 0) -> None:
        """In memory, or in a worker's files in a directory, going on with what is there.

        Raises:
            OSError: when the files cannot be made, or the disk has no room for them.
        """
        self._cells: dict[Key, int] = {}
        self._log: int | None = None
        if directory is None:
            self.numbers = memoryview(bytearray(_OCTETS)).cast("d")
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        numbers = os.open(directory / f"{worker}.numbers", flags, 0o600)
        try:
            os.posix_fallocate(numbers, 0, _OCTETS)
            self.numbers = memoryview(mmap.mmap(numbers, _OCTETS)).cast("d")
        finally:
            os.close(numbers)
        path = directory / f"{worker}.keys"
        self._log = os.open(path, flags | os.O_APPEND, 0o600)
        end = 0
        for key, after in _keys_in(path.read_bytes()):
            self._cells[key] = len(self._cells)
            end = after
        os.ftruncate(self._log, end)

    def __len__(self) -> int:
        return len(self._cells)

    def items(self) -> list[tuple[Key, float]]:
        """Every key with its number."""
        return [(key, self.numbers[cell]) for key, cell in list(self._cells.items())]

    def cell(self, key: Key) -> int:
        """Where in `numbers` a key has its number, which is 0.0 at first.

        Raises:
            OSError: when there is no room for one more key.
        """
        cell = self._cells.get(key)
        if cell is None:
            cell = len(self._cells)
            if cell >= CAPACITY:
                raise OSError(errno.ENOSPC, "no room for one more metric")
            if self._log is not None:
                _append(self._log, json.dumps(key).encode() + b"\n")
            self._cells[key] = cell
        return cell

    def close(self) -> None:
        """Stop writing; the files stay for those who read them."""
        if self._log is not None:
            os.close(self._log)
            self._log = None


def read_cells(directory: Path) -> Iterator[tuple[Key, float]]:
    """The numbers of all workers that ever wrote there, dead ones too; a key comes once for each of them."""
    for path in sorted(directory.glob("*.keys")):
        numbers = array("d")
        with contextlib.suppress(FileNotFoundError):
            keys = [key for key, _ in _keys_in(path.read_bytes())]
            octets = path.with_suffix(".numbers").read_bytes()
            numbers.frombytes(octets[: len(octets) // 8 * 8])
            yield from zip(keys, numbers, strict=False)
