"""What inputs made to exhaust the gate cost: CPU of one decision in milliseconds, and the memory at its peak.

    .venv/bin/python bench/abuse.py [MOST_SECONDS]

The inputs are those of tests/abuse.py. One that takes longer than MOST_SECONDS (5) is stopped and marked.
"""

import contextlib
import signal
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from abuse import CERTIFICATE_TEXTS, REQUESTS, SNAPSHOTS
from core_gate import NOW, reason_of
from jwsgate.core.certificates import CertificateError, read_certificate
from jwsgate.core.decision import decide


class TooLong(Exception):
    """The time is over."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise TooLong


def cost(call: Callable[[], object], most_seconds: int) -> str:
    """CPU and memory of a call; the CPU of the best of three, or of the one that was stopped."""
    best = float("inf")
    signal.alarm(most_seconds)
    try:
        for _ in range(3):
            start = time.process_time()
            call()
            best = min(best, time.process_time() - start)
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
    except TooLong:
        return f"over {most_seconds} s" if best == float("inf") else f"{best * 1000:9.2f} ms"
    finally:
        signal.alarm(0)
        tracemalloc.stop()
    return f"{best * 1000:9.2f} ms {peak / 1000:10.0f} kB"


def main(most_seconds: int = 5) -> None:
    """Print one line for each input."""
    signal.signal(signal.SIGALRM, _stop)
    for name, make in REQUESTS.items():
        abuse = make()
        snapshot = SNAPSHOTS[abuse.policy]
        reason = reason_of(decide(snapshot, abuse.facts, NOW)) or "allowed"
        told = cost(lambda snapshot=snapshot, facts=abuse.facts: decide(snapshot, facts, NOW), most_seconds)
        sys.stdout.write(f"{name:42} {abuse.octets:9} octets {told:>24}  {reason}\n")
    for name, make_text in CERTIFICATE_TEXTS.items():
        text = make_text()

        def read(text: str = text) -> None:
            with contextlib.suppress(CertificateError):
                read_certificate(text)

        sys.stdout.write(f"{name:42} {len(text):9} octets {cost(read, most_seconds):>24}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
