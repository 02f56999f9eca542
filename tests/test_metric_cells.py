"""Numbers that outlive their process."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jwsgate.adapters.metric_cells import CAPACITY, MetricCells, read_cells
from record_material import open_descriptors, run_python, small_disk


def test_in_memory() -> None:
    """Each has its own numbers, 0 at first."""
    one, two = MetricCells(), MetricCells()
    one.numbers[one.cell(("a", "x"))] += 2
    assert one.items() == [(("a", "x"), 2.0)]
    assert two.items() == []
    assert two.numbers[two.cell(("a", "x"))] == 0


def test_sum_of_workers(tmp_path: Path) -> None:
    """A reader meets each key once for each worker, at any time."""
    for worker in (0, 1):
        cells = MetricCells(tmp_path, worker)
        cells.numbers[cells.cell(("a",))] = 1 + worker
        cells.numbers[cells.cell(("é\n", "\ud800"))] = 10
    assert sorted(read_cells(tmp_path)) == [
        (("a",), 1.0),
        (("a",), 2.0),
        (("é\n", "\ud800"), 10.0),
        (("é\n", "\ud800"), 10.0),
    ]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


KILLED = """
import json, os, signal, sys
from pathlib import Path
from jwsgate.adapters.metric_cells import MetricCells
cells = MetricCells(Path(sys.argv[1]), 7)
cells.numbers[cells.cell(("a",))] += 5
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_worker(tmp_path: Path) -> None:
    """What it counted is there to the last; who takes its place goes on with it."""
    done = run_python(KILLED, tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert list(read_cells(tmp_path)) == [(("a",), 5.0)]
    cells = MetricCells(tmp_path, 7)
    cells.numbers[cells.cell(("b",))] += 1
    cells.numbers[cells.cell(("a",))] += 1
    assert list(read_cells(tmp_path)) == [(("a",), 6.0), (("b",), 1.0)]


@pytest.mark.parametrize("left", [b"", b'["b"', b'["b"]'], ids=["nothing", "half", "all-but-its-end"])
def test_killed_while_writing_a_key(left: bytes, tmp_path: Path) -> None:
    """Half a key is no key, to readers and to who comes after."""
    cells = MetricCells(tmp_path, 0)
    cells.numbers[cells.cell(("a",))] = 1
    cells.close()
    with (tmp_path / "0.keys").open("ab") as file:
        file.write(left)
    assert list(read_cells(tmp_path)) == [(("a",), 1.0)]
    again = MetricCells(tmp_path, 0)
    again.numbers[again.cell(("c",))] = 2
    assert list(read_cells(tmp_path)) == [(("a",), 1.0), (("c",), 2.0)]


def test_killed_while_making_its_files(tmp_path: Path) -> None:
    """Empty or missing files do not break the scrape."""
    (tmp_path / "0.numbers").touch()
    (tmp_path / "1.keys").touch()
    (tmp_path / "2.keys").write_bytes(b'["a"]\n')
    (tmp_path / "3.keys").write_bytes(b'["a"]\n')
    (tmp_path / "3.numbers").write_bytes(b"abc")
    assert list(read_cells(tmp_path)) == []


def test_full(tmp_path: Path) -> None:
    """One key too many is an OSError, and what is there goes on."""
    cells = MetricCells()
    for number in range(CAPACITY):
        cells.cell((str(number),))
    for _ in range(2):
        with pytest.raises(OSError, match="no room") as caught:
            cells.cell(("more",))
        assert caught.value.errno == errno.ENOSPC
    cells.numbers[cells.cell(("0",))] += 1
    assert len(cells) == CAPACITY


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    with small_disk(tmp_path / "small", "128k") as folder:
        yield folder


COUNTING = """
import json, sys
from pathlib import Path
from jwsgate.adapters.metric_cells import CAPACITY, MetricCells
folder = Path(sys.argv[1])
cells = MetricCells(folder, 0)
cells.cell(("a",))
try:
    with (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
for number in range(CAPACITY):
    cells.numbers[number] += 1
refused = 0
for number in range(1000):
    try:
        cells.cell((str(number) * 50,))
    except OSError:
        refused += 1
(folder / "ballast").unlink()
after = cells.cell(("after",))
cells.numbers[after] = 3
print(json.dumps([refused > 0, MetricCells(folder, 0).cell(("after",)) == after]))
"""


def test_full_disk(disk: Path) -> None:
    """It can count on when the disk is full (no SIGBUS); a new key is an OSError and leaves no half line."""
    done = run_python(COUNTING, disk)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [True, True]
    assert dict(read_cells(disk))[("after",)] == 3


def test_no_room_at_start(disk: Path) -> None:
    """Then the worker does not start."""
    (disk / "ballast").write_bytes(bytes(96 * 1024))
    descriptors = open_descriptors()
    with pytest.raises(OSError, match="No space left"):
        MetricCells(disk, 0)
    assert open_descriptors() == descriptors
