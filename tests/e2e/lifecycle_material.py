"""What the tests of the gate's life share: gates with one worker or more, their processes, and clients that go on."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import material
from e2e import gates
from e2e.estate import KEYS, P256, Files
from e2e.gates import Gate
from e2e.http_client import Connection, Header, NoResponse, Response
from e2e.upstream import RecordingUpstream


def arguments_for(workers: int, *more: str) -> list[str]:
    """The arguments for so many workers; a single one is the way of the gate without a supervisor."""
    return [*(["--workers", str(workers)] if workers > 1 else []), *more]


@contextlib.contextmanager
def started(
    home: Path,
    upstream: RecordingUpstream,
    files: Files,
    *arguments: str,
    workers: int = 1,
    extra: Mapping[str, str] | None = None,
    pythonpath: Sequence[Path] = (),
    output: int | None = None,
    options: Sequence[str] = (),
) -> Iterator[Gate]:
    """A gate that has said that it listens."""
    with gates.running(
        lambda port: gates.command(
            "jwsgate run",
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=options,
            arguments=arguments_for(workers, *arguments),
        ),
        env=gates.environment(home, extra=extra, pythonpath=pythonpath),
        directory=files.directory,
        name="jwsgate run",
        output=output,
    ) as gate:
        if output is None:
            gate.wait_for_log("listening on")
        yield gate


def send_signal(gate: Gate, number: signal.Signals = signal.SIGTERM) -> None:
    """Signal the process that was started, as its user would."""
    gate.process.send_signal(number)


def children(process: int) -> list[int]:
    """The living children of a process."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and fields[0] != "Z":
                found.append(int(place.parent.name))
    return sorted(found)


def is_alive(process: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def ends(gate: Gate, seconds: float = 15) -> int:
    """The exit code of a gate that is to end now."""
    return gate.process.wait(seconds)


@dataclass
class Tally:
    """What came of the requests of a load."""

    responses: list[tuple[str, Response]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Connections that were cut, or refused, with what was under way."""


class Load:
    """Clients that send requests one after the other, each on a connection that it keeps, until told to stop.

    `kinds` are the headers of each kind of request by a name; each client sends them in turn.
    """

    def __init__(
        self, port: int, kinds: Mapping[str, Callable[[], list[Header]]], clients: int = 4, pause: float = 0.0
    ) -> None:
        self.tally = Tally()
        self._pause = pause
        self._port, self._kinds = port, kinds
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Tally:
        for thread in self._threads:
            thread.start()
        return self.tally

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self, number: int) -> None:
        kinds = itertools.islice(itertools.cycle(self._kinds.items()), number, None)
        while not self._stopped.is_set():
            try:
                with Connection(self._port) as connection:
                    while not self._stopped.is_set():
                        kind, headers = next(kinds)
                        time.sleep(self._pause)
                        response = connection.exchange("GET", f"/load/{kind}", headers())
                        self.tally.responses.append((kind, response))
                        if "close" in response.values("connection"):
                            break
            except (NoResponse, OSError) as error:
                self.tally.lost.append(repr(error))
                time.sleep(0.01)


# Made when the tests are collected, and used a long time after.
_LOAD_CLAIMS = material.default_claims(jti="load", exp=int(time.time()) + 86400)
GOOD_TOKEN = material.jws(KEYS[P256], _LOAD_CLAIMS)
STRANGERS_TOKEN = material.jws(material.private_key("p256", "stranger"), _LOAD_CLAIMS)
LOAD_KINDS: dict[str, Callable[[], list[Header]]] = {
    "good": lambda: [("X-IBM-Client-Id", P256), ("jwt", GOOD_TOKEN)],
    "forged": lambda: [("X-IBM-Client-Id", P256), ("jwt", STRANGERS_TOKEN)],
    "nothing": list,
}
"""Cheap to make, so that the load is the gate's."""


LOAD_STATUSES = {("good", 200), ("forged", 500), ("nothing", 401)}
"""What each of them is answered."""


def assert_each_right(
    tally: Tally, upstream: RecordingUpstream, fewest: int, expected: Set[tuple[str, int]] = LOAD_STATUSES
) -> None:
    """All were answered as expected, and the upstream saw those alone that were allowed, as often as that."""
    assert len(tally.responses) >= fewest, f"only {len(tally.responses)} requests, {tally.lost[:3]}"
    assert {(kind, response.status) for kind, response in tally.responses} == expected
    allowed = Counter(kind for kind, response in tally.responses if response.status == 200)
    arrived = Counter(request.target.decode().removeprefix("/load/") for request in upstream.requests)
    assert set(arrived) == set(allowed)
    assert 0 <= arrived.total() - allowed.total() <= len(tally.lost)  # an answer may be lost on its way back
    assert not upstream.malformed


def descriptors(process: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{process}/fd"))  # noqa: PTH208 - the names alone


def threads(process: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{process}/task"))  # noqa: PTH208 - the names alone


def resident_kib(process: int) -> int:
    """The memory of a process that is in RAM."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
