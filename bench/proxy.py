#!/usr/bin/env python
"""What the gate costs a proxy: requests/s as multiples of bare mitmdump, latency and memory, all in one run.

    .venv/bin/python bench/proxy.py [--rounds 5] [--seconds 4] [--connections 16] [--check] [--quick]
    .venv/bin/python bench/proxy.py --memory [--requests 200000] [--megabytes 1000] [--check] [--quick]

Needs Linux, two cores, and the Debian packages wrk and nginx-light. Every contestant is a process of its own, alone
on one core; nginx, which answers from memory, and wrk share the other. Each round measures every contestant once,
in turn and each round beginning with another, over connections that are kept alive. "x bare" is the median over the
rounds of a contestant's requests/s divided by bare mitmdump's of the same round, with the least and the most of them.
All requests are alike but for the JWS (RS256, 2048 bits). `jwsgate run` writes its log to a file, `mitmdump -q` writes
none. One contestant more, which has no limit, is `jwsgate run` with an audit log and metrics, as in production.

"core" is the share of its core that the proxy used while it was measured. When that is below 90%, something else ran
on the machine and set the pace; such a measurement is repeated, which is told, and in the end the run fails.
"CPU us" is the proxy's CPU time for one request in microseconds, which such disturbance changes least.

Nothing is printed of a run in which a response was not what it had to be, or in which the upstream saw another number
of requests than were allowed.

--memory prints what `jwsgate run` holds after 20,000 fresh JWS and after --requests requests, and what a large upload
and a large download through an allowed route add to it at their peak.

--check exits with 1 when a limit is missed.
"""

import argparse
import contextlib
import http.client
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import serialization

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import material
from e2e import gates
from jwsgate.core.answers import ANSWERS
from jwsgate.core.reasons import Reason

PROGRAMS = {"wrk": "wrk", "nginx": "nginx-light"}
"""Each program needed, and its Debian package."""

CLIENT_ID = "479b3df9-380e-4bda-8cc1-92718c88f9cd"
CLAIMS = {"iss": "tvo", "aud": "the world", "azp": CLIENT_ID}
BODY = '{"order": 17, "state": "shipped"}'
PATH = "/orders/17?page=2"
AUDITED = "jwsgate run, fresh, audit and metrics"

LEAST_CORE, MOST_ATTEMPTS = 0.9, 4
MOST_GROWTH_MB, MOST_BODY_MB = 5, 20
MEGABYTE = 1_000_000

POLICY = """\
defaults:
  client_id: {header: X-IBM-Client-Id}
  jws: {header: jwt, max_octets: 16384}
  algorithms: [RS256, ES256]
  claims:
    required: [exp, iat, iss, aud]
    leeway: 5
    max_lifetime: 7200
    issuer: [tvo, another]
    audience: the world
    client_id_claim: azp
routes:
  - {name: orders, path: /orders, methods: [GET, POST]}
  - {name: order, path: "/orders/{id}", methods: [GET, PUT, DELETE]}
  - {name: items, path: "/orders/{id}/items/{item}", bind: {method: htm, url: htu, base_url: "https://api.example"}}
  - {name: files, path: /files/**, methods: [GET, PUT]}
  - {name: payments, path: /payments/**, methods: [POST], single_use: true}
  - {name: whoami, path: /whoami, respond: claims}
"""

NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    server {{
        listen 127.0.0.1:{port};
        default_type application/json;
        location / {{ return 200 '{body}'; }}
        location = /bench-status {{ stub_status; }}
    }}
}}
"""

# One thread. `sent` is how many requests the script made; "ran_out" in place of using a JWS twice.
LUA = """\
wrk.headers["X-IBM-Client-Id"] = "{client_id}"
wrk.headers["jwt"] = "{jws}"
local only
function setup(thread)
    only = thread
    only:set("sent", 0)
    only:set("ran_out", 0)
end
{request}
function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        'measured {{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f, '
            .. '"sent": %d, "ran_out": %d}}',
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, only:get("sent"), only:get("ran_out")))
end
"""
LUA_FRESH = """\
local requests = {{}}
function init()
    local number = 0
    for line in io.lines("{file}") do
        number = number + 1
        if number > {start} and number <= {stop} then
            wrk.headers["jwt"] = line
            requests[#requests + 1] = wrk.format()
        end
    end
end
function request()
    if sent >= #requests and not {again} then ran_out = 1 end
    sent = sent + 1
    return requests[({first} + sent - 1) % #requests + 1]
end
"""


class Broken(Exception):
    """The run proves nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What wrk saw in one measurement, and the CPU time in seconds that the proxy used; p50 and p99 in milliseconds."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50: float
    p99: float
    sent: int
    ran_out: int
    cpu: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def core(self) -> float:
        """The share of its core that the proxy used."""
        return self.cpu / self.seconds


@dataclass(slots=True)
class FreshJws:
    """A file of good JWS, no two alike, one a line; more are signed when they are needed."""

    file: Path
    key_pem: str
    count: int = 0

    def ensure(self, count: int) -> None:
        """Sign until there are so many, on all cores."""
        starts = range(self.count, count, 500)
        if not starts:
            return
        with ProcessPoolExecutor() as pool, self.file.open("a") as lines:
            for made in pool.map(signed, [self.key_pem] * len(starts), starts):
                lines.writelines(f"{jws}\n" for jws in made)
        self.count = starts[-1] + 500


def signed(key_pem: str, start: int) -> list[str]:
    """500 JWS that are good for two hours."""
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    return [good_jws(key, t=number) for number in range(start, start + 500)]  # type: ignore[arg-type]


def good_jws(key: material.PrivateKey, **claims: object) -> str:
    """A JWS as the policy wants it."""
    now = int(time.time())
    return material.jws(key, {**CLAIMS, "exp": now + 7200, "iat": now, **claims})


@dataclass(slots=True)
class Contestant:
    """One proxy under one load. `jws` is None when each request has one of its own."""

    name: str
    process: gates.Gate
    jws: str | None
    least: float | None = None
    """The multiple of bare mitmdump that --check asks for."""
    allowed: bool = True
    taken: int = 0
    """How many fresh JWS this process has been sent."""
    fastest: float = 3000.0
    """Requests/s, for the number of JWS to sign."""
    rounds: list[Measured] = field(default_factory=list)
    single: list[Measured] = field(default_factory=list)
    """At one connection."""


@dataclass(slots=True)
class Bench:
    """The place, the upstream and the tokens that all measurements share."""

    directory: Path
    cores: tuple[int, int]
    """The core of the proxy, and that of nginx and wrk."""
    upstream: gates.Gate
    fresh: FreshJws
    seen: str
    forged: str
    questions: int = 0
    least_core: float = LEAST_CORE
    repeated: int = 0

    def arrived(self) -> int:
        """How many requests the upstream has seen, these questions left out; only differences mean anything."""
        self.questions += 1
        text = ask(self.upstream.port, "/bench-status", {})[1]
        numbers = re.search(r"requests\n\s*\d+ \d+ (\d+)", text)
        if numbers is None:
            raise Broken(f"nginx tells no numbers: {text}")
        return int(numbers[1]) - self.questions

    def measure(self, contestant: Contestant, connections: int, seconds: int, again: int = 0) -> Measured:
        """One measurement, looked through; with `again`, so many fresh JWS are sent over and over."""
        request = ""
        if contestant.jws is None:
            start = 0 if again else contestant.taken
            stop = again or start + int(contestant.fastest * (seconds + 0.5) * 1.5)
            self.fresh.ensure(stop)
            places = {"file": self.fresh.file, "start": start, "stop": stop}
            places |= {"first": contestant.taken if again else 0, "again": str(bool(again)).lower()}
            request = LUA_FRESH.format(**places)
        script = self.directory / "load.lua"
        script.write_text(LUA.format(client_id=CLIENT_ID, jws=contestant.jws or "", request=request))
        before = self.arrived()
        measured = self._wrk(contestant, script, connections, seconds)
        contestant.taken += measured.sent
        contestant.fastest = max(contestant.fastest, measured.rate)
        self._look_through(contestant, measured, self._settled() - before, connections)
        return measured

    def measure_busy(self, contestant: Contestant, connections: int, seconds: int) -> Measured:
        """A measurement in which the proxy had its core to itself; see the module's docstring."""
        for _ in range(MOST_ATTEMPTS):
            measured = self.measure(contestant, connections, seconds)
            if measured.core >= self.least_core:
                return measured
            self.repeated += 1
        raise Broken(f"something else keeps this machine busy: {contestant.name} used {measured.core:.0%} of its core")

    def _wrk(self, contestant: Contestant, script: Path, connections: int, seconds: int) -> Measured:
        pid = contestant.process.process.pid
        url = f"http://127.0.0.1:{contestant.process.port}{PATH}"
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
        before = cpu_seconds(pid)
        done = subprocess.run(
            pinned(self.cores[1], ["wrk", *options, url]), capture_output=True, text=True, check=False
        )
        cpu = cpu_seconds(pid) - before
        found = re.search(r"^measured (.*)$", done.stdout, re.MULTILINE)
        if done.returncode or found is None:
            raise Broken(f"wrk failed on {contestant.name}:\n{done.stdout}{done.stderr}")
        return Measured(**json.loads(found[1]), cpu=cpu)

    def _settled(self) -> int:
        """What arrived upstream, once no request is on its way any more."""
        arrived = -1
        while (now := self.arrived()) != arrived:
            arrived = now
            time.sleep(0.2)
        return arrived

    def _look_through(self, contestant: Contestant, measured: Measured, arrived: int, connections: int) -> None:
        told = f"{contestant.name}: {measured}, {arrived} arrived upstream"
        if contestant.process.process.poll() is not None:
            raise Broken(f"the proxy ended: {told}\n{contestant.process.log()[-2000:]}")
        if not measured.requests or measured.broken:
            raise Broken(f"connections broke: {told}")
        if measured.ran_out:
            raise Broken(f"there were too few fresh JWS: {told}")
        if contestant.allowed:
            # When the time is over, each connection may have a request on its way.
            if measured.refused or not measured.requests <= arrived <= measured.requests + connections:
                raise Broken(f"not every request was forwarded: {told}")
        elif measured.refused != measured.requests or arrived:
            raise Broken(f"not every request was denied: {told}")

    def probe(self, contestant: Contestant, gated: bool) -> None:
        """Look that the proxy answers in full what it should, and that a gate is one."""
        port = contestant.process.port
        for jws, allowed in ((contestant.jws or self.seen, contestant.allowed), (self.forged, not gated)):
            expected = (200, BODY)
            if not allowed:
                answer = ANSWERS[Reason.SIGNATURE_MISMATCH]
                expected = (answer.status, answer.body.decode())
            found = ask(port, PATH, headers(jws))
            if found != expected:
                raise Broken(f"{contestant.name} answers {found}, not {expected}\n{contestant.process.log()[-2000:]}")


def headers(jws: str) -> dict[str, str]:
    """Those of an application's request."""
    return {"X-IBM-Client-Id": CLIENT_ID, "jwt": jws}


def ask(port: int, path: str, fields: dict[str, str]) -> tuple[int, str]:
    """Status and body of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=fields)
        response = connection.getresponse()
        return response.status, response.read().decode()


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """A command that runs on one core alone."""
    return ["taskset", "--cpu-list", str(core), *command]


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used, kernel's part included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, name: str) -> float:
    """VmRSS (now) or VmHWM (peak) of a process."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise Broken(f"/proc/{pid}/status has no {name}")
    return int(found[1]) * 1024 / MEGABYTE


@contextlib.contextmanager
def bench_running(directory: Path) -> Iterator[Bench]:
    """Files and upstream of a run."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise Broken("two cores are needed: one for the proxy, one for wrk and nginx")
    key = material.private_key("rsa")
    applications = [
        material.Application("signing-application", (CLIENT_ID,), material.certificate(key)),
        material.Application("application-without-certificate", ("1ab8edee-1d57-43ff-8e0c-4ae28a386b47",)),
    ]
    (directory / "portal.yaml").write_text(material.portal_yaml(applications))
    (directory / "policy.yaml").write_text(POLICY)
    config = directory / "nginx.conf"

    def nginx(port: int) -> list[str]:
        config.write_text(NGINX.format(directory=directory, port=port, body=BODY))
        return pinned(
            cores[0],
            [which("nginx") or "nginx", "-p", str(directory), "-e", f"{directory}/nginx.log", "-c", str(config)],
        )

    with gates.running(nginx, env=os.environ, directory=directory, name="nginx") as upstream:
        fresh = FreshJws(directory / "fresh.jws", material.private_pem(key))
        forged = good_jws(material.private_key("rsa", "another"))
        yield Bench(directory, (cores[1], cores[0]), upstream, fresh, good_jws(key), forged)


@contextlib.contextmanager
def proxy(bench: Bench, door: str, upstream_port: int, audited: bool = False) -> Iterator[gates.Gate]:
    """A proxy on its core: "bare", or one of the doors of tests/e2e/gates.py; perhaps with audit log and metrics."""
    home = Path(tempfile.mkdtemp(dir=bench.directory))
    upstream = f"http://127.0.0.1:{upstream_port}"

    def argv(port: int) -> list[str]:
        if door == "bare":
            mitmdump = str(Path(sys.executable).parent / "mitmdump")
            return pinned(bench.cores[0], [mitmdump, "-q", "--mode", f"reverse:{upstream}@127.0.0.1:{port}"])
        files = {"portal": bench.directory / "portal.yaml", "policy": bench.directory / "policy.yaml"}
        arguments = ["-q"] if door == "mitmdump -s" else []
        if audited:
            arguments += ["--audit", str(home / "audit.jsonl"), "--admin", "127.0.0.1:0"]
        return pinned(bench.cores[0], gates.command(door, upstream=upstream, port=port, arguments=arguments, **files))

    environment = gates.environment(home)
    del environment["PYTHONUNBUFFERED"]  # for the tests, which read logs; it costs a system call a line
    with gates.running(argv, env=environment, directory=home, name=door) as gate:
        yield gate


# Speed


def compare(bench: Bench, rounds: int, seconds: int, connections: int) -> list[str]:
    """Measure all contestants and print the table. Returns what misses its limit."""
    loads: list[tuple[str, str, str | None, float | None, bool]] = [
        ("bare mitmdump", "bare", bench.seen, None, True),
        ("jwsgate run, JWS seen before", "jwsgate run", bench.seen, 2.5, True),
        ("jwsgate run, fresh JWS", "jwsgate run", None, 2.0, True),
        ("jwsgate run, denied: bad signature", "jwsgate run", bench.forged, 2.5, False),
        (AUDITED, "jwsgate run", None, None, True),
        ("mitmdump -s, JWS seen before", "mitmdump -s", bench.seen, 0.97, True),
        ("mitmdump -s, fresh JWS", "mitmdump -s", None, 0.92, True),
    ]
    with contextlib.ExitStack() as stack:
        contestants = []
        for name, door, jws, least, allowed in loads:
            process = stack.enter_context(proxy(bench, door, bench.upstream.port, audited=name == AUDITED))
            contestants.append(Contestant(name, process, jws, least, allowed))
        for contestant in contestants:
            bench.probe(contestant, gated=contestant is not contestants[0])
            bench.measure(contestant, connections, 1)  # to warm up
        for number in range(rounds):
            first = number % len(contestants)
            for contestant in contestants[first:] + contestants[:first]:
                note(f"round {number + 1} of {rounds}: {contestant.name}")
                contestant.rounds.append(bench.measure_busy(contestant, connections, seconds))
                contestant.single.append(bench.measure(contestant, 1, max(1, seconds // 2)))
        for contestant in contestants:
            bench.probe(contestant, gated=contestant is not contestants[0])
        note("")
        missed = print_table(contestants)
    if bench.repeated:
        print(f"repeated because something else ran on the machine: {bench.repeated} measurements")
    return missed


def print_table(contestants: Sequence[Contestant]) -> list[str]:
    """One line for each contestant. Returns what misses its limit."""
    bare, missed = contestants[0], []
    print(
        f"{'':38}{'requests/s':>10}{'x bare':>8}{'least-most':>12}{'core':>6}{'CPU us':>8}{'p50 ms':>8}{'p99 ms':>8}"
        f"{'peak MB':>9}"
    )
    for each in contestants:
        ratios = [mine.rate / base.rate for mine, base in zip(each.rounds, bare.rounds, strict=True)]
        ratio = statistics.median(ratios)
        print(
            f"{each.name:38}{statistics.median(one.rate for one in each.rounds):10.0f}{ratio:8.2f}"
            f"{f'{min(ratios):.2f}-{max(ratios):.2f}':>12}{statistics.median(one.core for one in each.rounds):6.0%}"
            f"{statistics.median(one.cpu / one.requests for one in each.rounds) * 1e6:8.0f}"
            f"{statistics.median(one.p50 for one in each.single):8.2f}"
            f"{statistics.median(one.p99 for one in each.single):8.2f}"
            f"{memory_mb(each.process.process.pid, 'VmHWM'):9.1f}"
        )
        if each.least is not None and ratio < each.least:
            missed.append(f"{each.name}: {ratio:.2f} x bare is less than {each.least}")
    rates = [one.rate for one in bare.rounds]
    print(f"bare mitmdump itself: {min(rates):.0f} to {max(rates):.0f} requests/s over the rounds")
    return missed


def note(text: str) -> None:
    """Tell on a terminal what is being done."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")


# Memory


class BulkUpstream(BaseHTTPRequestHandler):
    """Takes and gives large bodies without holding them, and counts what it took."""

    protocol_version = "HTTP/1.1"
    octets = 0
    taken: list[int]

    def do_PUT(self) -> None:
        """Read the body."""
        expected = left = int(self.headers["Content-Length"])
        while left and (piece := self.rfile.read(min(left, MEGABYTE))):
            left -= len(piece)
        self.taken.append(expected - left)
        self.answer(0)

    def do_GET(self) -> None:
        """Send a body."""
        self.answer(self.octets)

    def answer(self, octets: int) -> None:
        """Send a response of so many octets."""
        self.send_response(200)
        self.send_header("Content-Length", str(octets))
        self.end_headers()
        for piece in pieces(octets):
            self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def pieces(octets: int) -> Iterator[bytes]:
    """A body in pieces of a megabyte."""
    for start in range(0, octets, MEGABYTE):
        yield bytes(min(MEGABYTE, octets - start))


def check_growth(bench: Bench, first: int, last: int, connections: int, seconds: int) -> list[str]:
    """Print the memory after `first` fresh JWS and after `last` requests. Returns what misses its limit."""
    with proxy(bench, "jwsgate run", bench.upstream.port) as process:
        fresh = Contestant("jwsgate run, fresh JWS", process, None)
        others = [
            Contestant("jwsgate run, JWS seen before", process, bench.seen),
            Contestant("jwsgate run, denied: bad signature", process, bench.forged, allowed=False),
        ]
        bench.probe(fresh, gated=True)
        count = measured_at = 0
        sizes: list[float] = []
        while len(sizes) < 2:
            # The memory of verified JWS is full after the first part; all later ones must be verified anew as well.
            load = [fresh, *others][measured_at % 3 if sizes else 0]
            measured_at += bool(sizes)
            count += bench.measure(load, connections, seconds, again=first).requests
            note(f"{count} of {last} requests")
            if count >= (last if sizes else first):
                sizes.append(memory_mb(process.process.pid, "VmRSS"))
                note("")
                print(f"jwsgate run holds {sizes[-1]:.1f} MB after {count} requests")
        peak = memory_mb(process.process.pid, "VmHWM")
    growth = sizes[1] - sizes[0]
    print(f"jwsgate run grew by {growth:.1f} MB between them; its peak was {peak:.1f} MB")
    return [f"{growth:.1f} MB of growth are more than {MOST_GROWTH_MB}"] if growth > MOST_GROWTH_MB else []


def check_bodies(bench: Bench, megabytes: int) -> list[str]:
    """Print what a large upload and a large download add to the memory. Returns what misses its limit."""
    octets, missed = megabytes * MEGABYTE, []
    for name in ("upload", "download"):
        handler = type("Handler", (BulkUpstream,), {"octets": octets, "taken": []})
        with (
            ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
            proxy(bench, "jwsgate run", server.server_address[1]) as process,
        ):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                added, took = body_cost(bench, process, octets if name == "upload" else 0, octets, handler.taken)
            finally:
                server.shutdown()
        print(f"{name} of {megabytes} MB: {added:.1f} MB added at the peak, {took:.1f} s")
        if added >= MOST_BODY_MB:
            missed.append(f"{name}: {added:.1f} MB added are not less than {MOST_BODY_MB}")
    return missed


def body_cost(
    bench: Bench, process: gates.Gate, upload: int, download: int, taken: Sequence[int]
) -> tuple[float, float]:
    """The memory in MB that one upload, or one download when `upload` is 0, adds at its peak; and its seconds."""
    pid = process.process.pid
    if ask(process.port, "/files/large", headers(bench.forged))[0] == 200:
        raise Broken("a bad signature was let through")
    transfer(process.port, headers(bench.seen), 1, 0)  # whatever the first upload takes for good
    # Makes the peak what is held now: proc(5).
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before, start = memory_mb(pid, "VmRSS"), time.monotonic()
    received = transfer(process.port, headers(bench.seen), upload, download)
    took = time.monotonic() - start
    if taken[1:] != ([upload] if upload else []) or received != (0 if upload else download):
        raise Broken(f"the bodies did not arrive in full: {taken} up, {received} down\n{process.log()[-2000:]}")
    return memory_mb(pid, "VmHWM") - before, took


def transfer(port: int, fields: dict[str, str], upload: int, download: int) -> int:
    """Send a body, or with none get one. Returns the octets that the response brought."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        if upload:
            connection.request("PUT", "/files/large", pieces(upload), {**fields, "Content-Length": str(upload)})
        else:
            connection.request("GET", "/files/large", headers=fields)
        response = connection.getresponse()
        if response.status != 200:
            raise Broken(f"{'upload' if upload else 'download'}: status {response.status} {response.read(500)!r}")
        received = 0
        while piece := response.read(MEGABYTE):
            received += len(piece)
        return received


def missing_packages() -> str:
    """The Debian packages to install first, separated by spaces."""
    return " ".join(package for program, package in PROGRAMS.items() if which(program) is None)


def which(program: str) -> str | None:
    """The path of a program; Debian's nginx lies where only root looks."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def about(bench: Bench, arguments: argparse.Namespace) -> str:
    """What was measured with what."""
    load = f"{arguments.connections} connections"
    if not arguments.memory:
        load = f"{arguments.rounds} rounds of {arguments.seconds} s, {load} (p50, p99: one)"
    return (
        f"mitmproxy {importlib.metadata.version('mitmproxy')}, Python {platform.python_version()}; {load}; "
        f"the proxy on core {bench.cores[0]}, nginx and wrk on core {bench.cores[1]}"
    )


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of one measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--memory", action="store_true", help="measure memory in place of speed")
    parser.add_argument("--requests", type=int, default=200_000, help="for --memory")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the bodies of --memory")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is missed")
    parser.add_argument("--quick", action="store_true", help="only see that it works; the numbers mean nothing")
    arguments = parser.parse_args()
    first = min(20_000, arguments.requests // 2)
    if arguments.quick:
        arguments.rounds = arguments.seconds = 1
        first, arguments.requests, arguments.megabytes = 500, 2_000, 20
    if missing := missing_packages():
        sys.exit(f"bench/proxy.py needs wrk and nginx: apt-get install {missing}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("bench/proxy.py: ended by a signal"))
    try:
        with tempfile.TemporaryDirectory(prefix="jwsgate-bench-") as place, bench_running(Path(place)) as bench:
            print(about(bench, arguments))
            if arguments.quick:
                bench.least_core = 0.0
            if arguments.memory:
                missed = check_growth(bench, first, arguments.requests, arguments.connections, arguments.seconds)
                missed += check_bodies(bench, arguments.megabytes)
            else:
                missed = compare(bench, arguments.rounds, arguments.seconds, arguments.connections)
    except (Broken, AssertionError, OSError, http.client.HTTPException) as error:
        note("")
        sys.exit(f"bench/proxy.py: no numbers from a broken run: {error}")
    for line in missed:
        print(f"missed: {line}")
    if arguments.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
