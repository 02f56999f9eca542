"""sd_notify(3): tells systemd, or whoever else set NOTIFY_SOCKET, how the gate is; without it, nothing."""

import os
import socket
import time
from contextlib import suppress
from typing import Final

__all__ = ["notify", "watchdog_seconds", "without_systemd"]

_SECONDS: Final = 1.0


def notify(*lines: str) -> None:
    """Send a notification. Never fails, and hardly waits: the gate does not depend on being heard."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    if "RELOADING=1" in lines:
        # Type=notify-reload wants to know that this is no old message.
        lines = (*lines, f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    address = "\0" + place[1:] if place.startswith("@") else place
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # Ten datagrams fill the receiver's queue; of a change it hears once, of all else again.
        sender.settimeout(_SECONDS if any(line.endswith("ING=1") or line == "READY=1" for line in lines) else 0.0)
        sender.sendto("\n".join(lines).encode("utf-8", "replace"), address)


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear WATCHDOG=1; None when it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or not int(microseconds):
        return None
    return (
        int(microseconds) / 1_000_000 if os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()) else None
    )


def without_systemd(environment: dict[str, str]) -> dict[str, str]:
    """An environment for processes that systemd is not to hear of, nor to count on."""
    names = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
    return {name: value for name, value in environment.items() if name not in names}
