"""The command beside the gate: signals, exit codes, environment, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions

from jwsgate.adapters.command import Command, command_environment, inherited_environment
from jwsgate.adapters.forward_proxy import ca_bundle, proxy_environment

WAITS = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")


async def _ended(
    arguments: tuple[str, ...], during: Callable[[Command], Awaitable[None]] | None = None, seconds: float = 5
) -> tuple[Command, int]:
    """A command that has run to its end, and how often that was told."""
    told: list[None] = []
    command = Command(arguments, seconds, lambda: told.append(None))
    command.start(os.environ)
    if during is not None:
        await asyncio.sleep(0.1)
        await during(command)
    async with asyncio.timeout(10):
        while command.code is None:
            await asyncio.sleep(0.01)
    return command, len(told)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 42"), 42),
        (("sh", "-c", "kill -9 $$"), 137),
        (("/no/such/program",), 127),
        (("/etc/passwd",), 126),
        (("a\0b",), 126),
    ],
    ids=["good", "own-code", "killed", "missing", "no-program", "nul"],
)
def test_exit_codes(arguments: tuple[str, ...], code: int) -> None:
    """As a shell has them, and the end is always told, once."""
    command, told = asyncio.run(_ended(arguments))
    assert (command.code, told) == (code, 1)


def test_second_signal_kills() -> None:
    """A command that does not listen ends all the same."""

    async def twice(command: Command) -> None:
        command._hand_on(signal.SIGTERM)
        command._hand_on(signal.SIGTERM)

    command, told = asyncio.run(_ended(WAITS, twice, seconds=60))
    assert (command.code, told) == (137, 1)


def test_deadline_kills() -> None:
    """So does one that does not end in time."""

    async def once(command: Command) -> None:
        command._hand_on(signal.SIGTERM)

    command, _ = asyncio.run(_ended(WAITS, once, seconds=0.2))
    assert command.code == 137


def test_signal_before_the_start() -> None:
    """A command that must not begin does not."""

    async def main() -> Command:
        command = Command(("true",), 5, lambda: None)
        command._hand_on(signal.SIGTERM)
        command.start(os.environ)
        await asyncio.sleep(0.05)
        return command

    assert asyncio.run(main()).code == 143


def test_signal_while_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs already, but nobody can hand a signal on to it yet: it is not lost."""
    ready = tmp_path / "ready"
    script = f"trap 'exit 7' TERM; touch {ready}; while :; do sleep 0.02; done"
    start = asyncio.create_subprocess_exec
    commands: list[Command] = []

    async def start_slowly(*arguments: Any, **more: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **more)
        while not ready.exists():
            await asyncio.sleep(0.01)
        commands[0]._hand_on(signal.SIGTERM)
        return process

    async def main() -> None:
        commands.append(Command(("sh", "-c", script), 5, lambda: None))
        commands[0].start(os.environ)
        async with asyncio.timeout(10):
            while commands[0].code is None:
                await asyncio.sleep(0.01)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_slowly)
    asyncio.run(main())
    assert commands[0].code == 7


def test_gate_that_ends_first() -> None:
    """The command is not left behind, and the exit code says that the gate broke."""

    async def end(command: Command) -> None:
        await command.end()

    command, _ = asyncio.run(_ended(WAITS, end, seconds=0.2))
    assert command.code == 3


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1")],
    ids=["loopback", "any", "any-ipv6"],
)
def test_environment(host: str, url: str) -> None:
    """The gate's URL is one that can be reached; what systemd told the gate is not for the command."""
    caller = {"HTTP_PROXY": "http://p", "NOTIFY_SOCKET": "/n", "no_proxy": "a"}
    made = command_environment(caller, host, 1, https=False, ca_file=None)
    reached = url.removeprefix("http://").rpartition(":")[0].strip("[]")
    assert made == {
        "HTTP_PROXY": "http://p",
        "JWSGATE_URL": url,
        "NO_PROXY": reached,
        "no_proxy": f"a,{reached}",
    }


def test_environment_behind_a_proxy() -> None:
    """Nothing that the caller says leads past the gate, in either case of the names."""
    caller = {"http_proxy": "http://p", "ALL_PROXY": "socks5://p", "NO_PROXY": "127.0.0.1,*", "SSL_CERT_FILE": "/c"}
    made = proxy_environment(inherited_environment(caller | {"NOTIFY_SOCKET": "/n", "A": "b"}), "[::1]:1", bundle="/b")
    assert made == {
        "A": "b",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://[::1]:1"),
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://[::1]:1"),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
        **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), "/b"),
    }


def test_ca_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller trusts, and the gate; gone when it is closed; what cannot be read is told."""
    ours, theirs, callers = (tmp_path / f"{name}.pem" for name in ("ours", "theirs", "callers"))
    ours.write_text("ours\n")
    theirs.write_text("theirs\n")
    callers.write_text("callers\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(theirs))
    with ca_bundle(ours, {"REQUESTS_CA_BUNDLE": str(callers), "CURL_CA_BUNDLE": "/nowhere"}) as bundle:
        assert Path(bundle.name).read_text().split() == ["theirs", "callers", "ours"]
    assert not Path(bundle.name).exists()
    with pytest.raises(exceptions.OptionsError, match="No such file"):
        ca_bundle(tmp_path / "none.pem", {})
