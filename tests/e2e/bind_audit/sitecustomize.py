"""Notes every port that this process binds a socket to. Put on the path of a gate by the tests only.

A listener that is open for a moment is easily missed from outside; the interpreter's audit events miss none.
"""

import os
import sys
from pathlib import Path
from typing import Any


def _install() -> None:
    place = os.environ.get("JWSGATE_TEST_BIND_LOG")
    if place is None:
        return
    log = Path(place).open("a", buffering=1, encoding="ascii")  # noqa: SIM115 - open as long as we live

    def audit(event: str, args: tuple[Any, ...]) -> None:
        # Unix sockets have a text for an address; the ones of interest have a pair or more.
        if event == "socket.bind" and isinstance(args[1], tuple):
            log.write(f"{args[1][1]}\n")

    sys.addaudithook(audit)


_install()
