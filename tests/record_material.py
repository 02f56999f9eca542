"""A decision record for the tests of those who keep them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jwsgate.adapters.records import DecisionRecord


def a_record(**members: Any) -> DecisionRecord:
    """An allowed request, with whatever is to be replaced."""
    usual: dict[str, Any] = {
        "time": 1_900_000_000.25,
        "duration": 0.000_083,
        "transaction_id": "0123456789abcdef01234567",
        "method": "GET",
        "path": "/orders/17",
        "peer": "127.0.0.1",
        "route": "orders",
        "client_id": "479b3df9-380e-4bda-8cc1-92718c88f9cd",
        "application": "shop",
        "thumbprint": "ab" * 32,
        "alg": "ES256",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    return DecisionRecord(**{**usual, **members})


def open_descriptors() -> int:
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size in a folder; the test is skipped where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def python_command(code: str, *arguments: str | Path) -> list[str]:
    """Runs code in a process of its own, with the modules of the tests in reach."""
    return [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}", *map(str, arguments)]


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(python_command(code, *arguments), check=False, capture_output=True, text=True, timeout=60)
