"""What systemd is told, over real sockets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jwsgate.adapters.systemd import notify, watchdog_seconds, without_systemd


@pytest.fixture(params=["path", "abstract"])
def receiver(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket that NOTIFY_SOCKET names, of either kind."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@jwsgate-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0") if name.startswith("@") else name)
        receiver.settimeout(5)
        yield receiver


def test_notify(receiver: socket.socket) -> None:
    """One datagram, a line for each."""
    notify("READY=1", "STATUS=serving, revision é")
    assert receiver.recv(4096).decode() == "READY=1\nSTATUS=serving, revision é"


def test_reloading_says_when(receiver: socket.socket) -> None:
    """As Type=notify-reload asks for, by the clock that systemd reads."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1")
    first, second = receiver.recv(4096).decode().split("\n")
    name, value = second.split("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize("name", [None, "", "vsock:2:1", "relative", "/no/such/socket", "@", "/" + "x" * 200])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    """Nothing happens, and nothing is raised."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify("READY=1")


def test_full_receiver_is_not_waited_for(receiver: socket.socket) -> None:
    """A systemd that reads nothing holds nobody up."""
    for _ in range(10_000):
        notify("WATCHDOG=1")
    assert receiver.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("microseconds", "process", "expected"),
    [
        pytest.param(None, None, None, id="not-set"),
        pytest.param("500000", None, 0.5, id="for-anybody"),
        pytest.param("500000", "own", 0.5, id="for-us"),
        pytest.param("500000", "1", None, id="for-another"),
        pytest.param("0", None, None, id="zero"),
        pytest.param("soon", None, None, id="nonsense"),
    ],
)
def test_watchdog(
    monkeypatch: pytest.MonkeyPatch, microseconds: str | None, process: str | None, expected: float | None
) -> None:
    """Only what is meant for this process counts."""
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", process)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(os.getpid()) if value == "own" else value)
    assert watchdog_seconds() == expected


def test_without_systemd() -> None:
    """Nothing of it is left, and everything else is."""
    given = {"NOTIFY_SOCKET": "/a", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "PATH": "/bin"}
    assert without_systemd(given) == {"PATH": "/bin"}
