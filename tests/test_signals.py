"""Signals after an event loop has stopped listening to them: nothing is printed, and nothing ends early."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, os, signal, sys
from jwsgate.adapters.signals import listen, stop_listening

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
heard = []

def all_of_them():
    for number in NUMBERS:
        os.kill(os.getpid(), number)

class Loop(asyncio.SelectorEventLoop):
    def _close_self_pipe(self):
        super()._close_self_pipe()
        all_of_them()  # between the two halves of its end

async def main():
    listen({number: lambda number=number: heard.append(number) for number in NUMBERS})
    all_of_them()
    await asyncio.sleep(0.05)
    if sys.argv[1] == "deaf":
        stop_listening(*NUMBERS)

asyncio.run(main(), loop_factory=Loop)
if sys.argv[1] == "deaf":
    all_of_them()
print(*sorted(heard))
"""


def run(way: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, way], capture_output=True, text=True, timeout=60, check=False)


def test_deaf_after_the_end() -> None:
    """Each was heard before, none after; exit code 0 and nothing on stderr."""
    ended = run("deaf")
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["1", "2", "15"], "")


def test_otherwise_there_is_a_traceback() -> None:
    """What asyncio does by itself; else the test above proves nothing."""
    assert "Exception ignored" in run("listening").stderr
