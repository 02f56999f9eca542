"""One contestant measured once: started anew, warmed, driven with seen and with fresh JWS, looked at and stopped."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy import BODY, NGINX, Broken, ask, cpu_seconds, pinned, which

from e2e import gates

from .clients import Estate, sign
from .contestants import Contestant, Where, running

__all__ = ["CONNECTIONS", "Bench", "Disturbed", "Measured", "Round", "bench_of", "two_cores"]

PATH = "/orders/17?page=2"
CONNECTIONS = 32
MOST_ATTEMPTS = 4

_LUA = """\
local requests, sent, seed = {{}}, {first}, {seed}
local only
function setup(thread) only = thread; only:set("ran_out", 0) end
function init()
    for line in io.lines("{file}") do
        local client, jws = line:match("(%S+) (%S+)")
        wrk.headers["X-IBM-Client-Id"], wrk.headers["jwt"] = client, jws
        requests[#requests + 1] = wrk.format()
    end
    math.randomseed(seed)
end
function request()
    sent = sent + 1
    if {random} then return requests[math.random(#requests)] end
    if {once} and sent > #requests then
        if {stop} then wrk.thread:stop() else ran_out = 1 end
    end
    return requests[(sent - 1) % #requests + 1]
end
function done(summary, latency)
    local e = summary.errors
    print(string.format('measured {{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f, '
        .. '"ran_out": %d}}', summary.requests, summary.duration / 1e6, e.status,
        e.connect + e.read + e.write + e.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        only:get("ran_out")))
end
"""


class Disturbed(Exception):
    """Something else ran on the machine and set the pace."""


@dataclass(slots=True)
class Measured:
    """What wrk saw in one measurement, and what it took.

    `p50` and `p99` in milliseconds, `cpu` and `load_cpu` in seconds: what the contestant used of its core, and what wrk
    and the upstream used of theirs. `hits` is the share of the JWS that it knew, where it tells.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    cpu: float
    load_cpu: float
    hits: float | None = None


@dataclass(slots=True)
class Round:
    """All of one contestant from its start to its end; memory in MB, `start` in seconds.

    `seen` and `fresh` are over all connections, `single` has seen JWS over one. The service alone holds `started_mb`
    before its first request and `called_mb` when each client has called; it is 0 for those that are no service.
    """

    seen: Measured
    single: Measured
    fresh: Measured
    start: float
    peak_mb: float
    started_mb: float
    called_mb: float

    def told(self) -> dict[str, object]:
        """For performance.json."""
        numbers = asdict(self)
        for load in ("seen", "single", "fresh"):
            numbers[load] = {name: _short(value) for name, value in numbers[load].items()}
        return {name: _short(value) for name, value in numbers.items()}


def _short(value: object) -> object:
    return round(value, 5) if isinstance(value, float) else value


def _lua(value: bool) -> str:
    return "true" if value else "false"


def two_cores() -> tuple[int, int]:
    """The core of the contestants, and that of wrk and the upstream."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Broken("two cores are needed: one for the contestant, one for wrk and nginx")
    return cores[1], cores[0]


@dataclass(slots=True)
class Bench:
    """Clients, their JWS and the upstream, which all measurements with so many clients share."""

    estate: Estate
    core: int
    load_core: int
    upstream: gates.Gate
    seen: Path
    fresh: Path
    seconds: int
    least_core: float
    """Share of a core below which something else must have run."""
    stops: bool
    """Whether a measurement may end when it has no fresh JWS left, in place of the run."""
    asked: int = 0
    repeated: int = 0

    def arrived(self) -> int:
        """How many requests the upstream has seen, these questions left out."""
        self.asked += 1
        found = re.search(r"requests\n\s*\d+ \d+ (\d+)", ask(self.upstream.port, "/bench-status", {})[1])
        if found is None:
            raise Broken("nginx tells no numbers")
        return int(found[1]) - self.asked

    def settled(self) -> int:
        """What has arrived upstream, once no request is on its way any more."""
        arrived = -1
        while (now := self.arrived()) != arrived:
            arrived = now
            time.sleep(0.1)
        return arrived

    def load_cpu(self) -> float:
        """The CPU time that the upstream and all wrk so far have used."""
        used = os.times()
        return used.children_user + used.children_system + cpu_seconds(self.upstream.process.pid)

    def wrk(
        self, contestant: Contestant, file: Path, seconds: int, connections: int, how: Mapping[str, object]
    ) -> Measured:
        """One run of wrk, looked through."""
        script = self.estate.directory / "load.lua"
        usual = {"file": file, "first": 0, "seed": 1, "random": "false", "once": "false", "stop": "false"}
        script.write_text(_LUA.format(**usual | how))
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
        before, cpu, load = self.settled(), contestant.cpu(), self.load_cpu()
        done = subprocess.run(
            pinned(self.load_core, ["wrk", *options, f"http://127.0.0.1:{contestant.port}{PATH}"]),
            capture_output=True,
            text=True,
            check=False,
        )
        cpu, load = contestant.cpu() - cpu, self.load_cpu() - load
        found = re.search(r"^measured (.*)$", done.stdout, re.MULTILINE)
        if found is None:
            raise Broken(f"wrk failed on {contestant.name}:\n{done.stdout}{done.stderr}")
        told = json.loads(found[1])
        faults = {name: told.pop(name) for name in ("refused", "broken", "ran_out")}
        measured = Measured(**told, cpu=cpu, load_cpu=load)
        arrived = self.settled() - before
        if any(faults.values()) or not measured.requests:
            raise Broken(f"{contestant.name}: {faults} {measured}")
        if not measured.requests <= arrived <= measured.requests + connections:
            raise Broken(f"{contestant.name}: {measured}, {arrived} arrived upstream")
        return measured

    def warm(self, contestant: Contestant) -> None:
        """Send every seen JWS once."""
        sent = 0
        while sent < self.estate.count:
            sent += self.wrk(contestant, self.seen, 1, CONNECTIONS, {"first": sent}).requests

    def loaded(self, contestant: Contestant, file: Path, how: Mapping[str, object]) -> Measured:
        """Measure once over all connections.

        Raises:
            Disturbed: when neither core was busy.
        """
        before = contestant.counters and contestant.counters()
        measured = self.wrk(contestant, file, self.seconds, CONNECTIONS, how)
        if max(measured.cpu, measured.load_cpu) / measured.seconds < self.least_core:
            raise Disturbed(f"{contestant.name} {measured}")
        if contestant.counters is not None and before is not None:
            hits, misses = (after - earlier for after, earlier in zip(contestant.counters(), before, strict=True))
            measured.hits = hits / (hits + misses)
        return measured

    def probe(self, contestant: Contestant) -> None:
        """Look that a good request passes, and that a forged and another client's JWS do not."""
        with self.seen.open() as lines:
            client, jws = lines.readline().split()
        other = self.estate.client(1)
        head, payload, last = jws.split(".")
        forged = ".".join([head, payload, last[:-8] + last[-8:][::-1]])
        for who, what, passes in (
            (client, jws, True),
            (client, forged, contestant.forges),
            (other, jws, contestant.mixes),
        ):
            status, body = ask(contestant.port, PATH, {"X-IBM-Client-Id": who, "jwt": what})
            if (status == 200 and body == BODY) is not passes:
                raise Broken(f"{contestant.name} answers {status} {body!r}, should pass: {passes}")

    def _once(self, name: str, number: int) -> Round:
        with running(name, Where(self.estate, self.core, self.upstream.port)) as contestant:
            started = contestant.service_memory()
            self.probe(contestant)
            self.warm(contestant)
            called = contestant.service_memory()
            random = {"random": "true", "seed": number + 1}
            seen = self.loaded(contestant, self.seen, random)
            single = self.wrk(contestant, self.seen, 1, 1, random)
            once = {"once": _lua(not contestant.again), "stop": _lua(self.stops)}
            fresh = self.loaded(contestant, self.fresh, once)
            self.probe(contestant)
            peak = contestant.memory("VmHWM")
            return Round(seen, single, fresh, contestant.start_seconds, peak, started, called)

    def measure(self, name: str, number: int) -> Round:
        """Measure a contestant from its start to its end, anew when something else took the core."""
        for attempt in range(MOST_ATTEMPTS):
            try:
                return self._once(name, number)
            except Disturbed as error:
                self.repeated += 1
                if attempt == MOST_ATTEMPTS - 1:
                    raise Broken(f"something else keeps this machine busy: {error}") from None
        raise AssertionError


@contextlib.contextmanager
def bench_of(
    directory: Path, count: int, fresh: int, keys: Sequence[str], seconds: int, least_core: float, stops: bool = False
) -> Iterator[Bench]:
    """Clients, JWS and the upstream. `fresh` is how many fresh JWS a measurement finds at most."""
    core, load_core = two_cores()
    directory.mkdir()
    estate = Estate(directory, count, keys)
    estate.write()
    seen = sign(estate, directory / "seen", count)
    unseen = sign(estate, directory / "fresh", fresh, count)
    config = directory / "upstream.conf"

    def nginx(port: int) -> list[str]:
        config.write_text(NGINX.format(directory=directory, port=port, body=BODY))
        program = which("nginx") or "nginx"
        return pinned(load_core, [program, "-p", str(directory), "-e", f"{directory}/nginx.log", "-c", str(config)])

    with gates.running(nginx, env=os.environ, directory=directory, name="nginx") as upstream:
        yield Bench(estate, core, load_core, upstream, seen, unseen, seconds, least_core, stops)
