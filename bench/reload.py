#!/usr/bin/env python
"""What taking up a changed portal export costs the requests that are served meanwhile.

    .venv/bin/python bench/reload.py [--sizes 10000,100000] [--rate 300] [--clients 1000] [--quiet 20]
                                [--form yaml|json] [--check]

A real gate in front of an upstream, under a steady load: requests start at fixed times, whether or not the ones before
are answered, and each latency counts from when its request was due. First comes a quiet stretch, then the export is
replaced by one in which an application is different, and the load goes on until the gate says that it has taken it up,
and some seconds more. Both stretches are of one run; the difference of their 99th percentiles is the cost. Many client
applications call by turns, so that after the change nothing is remembered of any of them. Memory is that of the gate
and of the process that reads for it, together. With --check, a limit that is missed is told, and the exit code is 1.
"""

import argparse
import asyncio
import base64
import contextlib
import datetime
import functools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from portal import write

MOST_RISE_MS = 50
"""Of the 99th percentile, by the reload."""
SECONDS_AFTER = 5
"""How long the load goes on after the reload."""


@dataclass
class Client:
    """One client application."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @functools.cached_property
    def certificate(self) -> str:
        """Its certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), 1, now, now + datetime.timedelta(days=1))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def request(self, number: int) -> bytes:
        """A request with a JWS of its own."""
        now = int(time.time())
        parts = ({"alg": "ES256"}, {"exp": now + 600, "iat": now, "jti": str(number)})
        text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
        r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(hashes.SHA256())))
        signature = base64.urlsafe_b64encode(r.to_bytes(32) + s.to_bytes(32)).rstrip(b"=")
        head = f"GET /{number} HTTP/1.1\r\nHost: bench\r\nX-IBM-Client-Id: {self.name}\r\njwt: "
        return head.encode() + text + b"." + signature + b"\r\n\r\n"


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers 200 to everything."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


class Load:
    """Requests at fixed times over kept connections; seconds from when each was due to its answer."""

    def __init__(self, clients: list[Client], port: int, rate: float) -> None:
        self.latencies: list[tuple[float, float]] = []
        self.failures = 0
        self._clients = clients
        self._port = port
        self._rate = rate
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(self, number: int, due: float) -> None:
        """One request."""
        try:
            pair = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            pair[1].write(self._clients[number % len(self._clients)].request(number))
            head = await pair[0].readuntil(b"\r\n\r\n")
            body = await pair[0].readexactly(int(re.search(rb"(?i)content-length: *(\d+)", head)[1]))  # type: ignore[index]
            self._idle.append(pair)
            self.failures += not (head.startswith(b"HTTP/1.1 200") and body == b"ok")
        except (OSError, EOFError):
            self.failures += 1
        self.latencies.append((due, time.perf_counter() - due))

    async def run(self, until: asyncio.Event) -> None:
        """Go on until told."""
        tasks = set()
        start = time.perf_counter()
        number = 0
        while not until.is_set():
            due = start + number / self._rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self.one(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)

    def count(self, start: float, end: float) -> int:
        """How many requests were due in a stretch."""
        return sum(start <= due < end for due, _ in self.latencies)

    def percentile(self, start: float, end: float, of: float) -> float:
        """Milliseconds within which so many percent of the requests due in a stretch were answered."""
        found = sorted(latency for due, latency in self.latencies if start <= due < end)
        return found[min(len(found) - 1, int(len(found) * of / 100))] * 1000


def resident(pid: int) -> float:
    """MiB of a process and those that it started."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    total = 0.0
    for one in pids:
        with contextlib.suppress(OSError):  # it has ended
            if found := re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{one}/status").read_text()):
                total += int(found[1]) / 1024
    return total


class Memory:
    """The most memory that a process and those it started had at one time."""

    def __init__(self, pid: int) -> None:
        self.peak = 0.0
        self._pid = pid

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            self.peak = max(self.peak, resident(self._pid))
            await asyncio.sleep(0.05)


async def wait_for(log: Path, text: str, seconds: float = 150) -> None:
    """Wait until the gate says so."""
    deadline = time.monotonic() + seconds
    while text not in log.read_text():
        if time.monotonic() > deadline:
            raise SystemExit(f"the gate did not say {text!r}:\n{log.read_text()[-2000:]}")
        await asyncio.sleep(0.05)


def with_clients(path: Path, clients: list[Client], title: str, target: Path) -> None:
    """The export with the bench's own applications added; `title` makes one of them another one."""
    added = [
        {"type": "app", "name": client.name, "title": title if client is clients[0] else client.name}
        | {"state": "enabled", "client_id": client.name, "application_public_certificate_entry": client.certificate}
        for client in clients
    ]
    with path.open() as old, target.open("w") as new:
        for line in old:
            if path.suffix == ".json":
                before, total, rest = line.partition('"total_results": ')
                count, rest = rest.split(",", 1)
                more = ", ".join(map(json.dumps, added))
                whole = rest.rstrip().removesuffix("]}")
                new.write(f"{before}{total}{int(count) + len(clients)},{whole}, {more}]}}\n")
                return
            if line.startswith("total_results:"):
                line = f"total_results: {int(line.split()[1]) + len(clients)}\n"  # noqa: PLW2901
            new.write(line)
        for fields in added:
            *plain, (key, pem) = fields.items()
            new.write("  - " + "".join(f"    {name}: {value}\n" for name, value in plain).lstrip())
            new.write(f"    {key}: |\n" + "".join(f"      {one}\n" for one in pem.splitlines()))


async def bench(folder: Path, source: Path, rate: float, quiet: float, count: int = 1000) -> dict[str, float]:
    """One export, with so many clients. Milliseconds of latency (quiet: before the change), seconds until it was taken
    up, MiB held.
    """
    clients = [Client(f"bench-{number}") for number in range(count)]
    portal, changed = folder / f"portal{source.suffix}", folder / "changed"
    with_clients(source, clients, "before", portal)
    with_clients(source, clients, "after", changed)
    (folder / "policy.yaml").write_text("routes: [{path: /**}]\n")
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    log = folder / "log"
    with log.open("w") as file:
        gate = subprocess.Popen(
            [
                *(sys.executable, "-m", "jwsgate", "run", "--listen", "127.0.0.1:0"),
                *("--upstream", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"),
                *("--portal", portal, "--policy", folder / "policy.yaml"),
                *("--set", f"confdir={folder}"),
            ],
            stdout=file,
            stderr=file,
        )
    try:
        await wait_for(log, " for http://")  # the end of the line that says where it listens
        port = int(re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text())[1])  # type: ignore[index]
        load = Load(clients, port, rate)
        stop = asyncio.Event()
        running = asyncio.create_task(load.run(stop))
        await asyncio.sleep(2)
        before = resident(gate.pid)
        start = time.perf_counter()
        await asyncio.sleep(quiet)
        memory = Memory(gate.pid)
        watching = asyncio.create_task(memory.watch())
        change = time.perf_counter()
        await asyncio.to_thread(changed.replace, portal)
        await wait_for(log, "reloaded, revision")
        taken_up = time.perf_counter()
        await wait_for(log, "1 changed (after)")
        await asyncio.sleep(SECONDS_AFTER)
        end = time.perf_counter()
        stop.set()
        await running
        watching.cancel()
        calm, busy = (load.percentile(*stretch, 99) for stretch in ((start, change), (change, end)))
        middle = statistics.median(latency for due, latency in load.latencies if start <= due < change) * 1000
        worst = load.percentile(change, end, 100)
        return {
            "requests": len(load.latencies),
            "before": load.count(start, change),
            "while": load.count(change, end),
            "lost": load.failures,
            "quiet_p50": middle,
            "quiet_p99": calm,
            "reload_p99": busy,
            "reload_worst": worst,
            "seconds": taken_up - change,
            "before_mib": before,
            "peak_mib": memory.peak,
            "after_mib": resident(gate.pid),
        }
    finally:
        gate.terminate()
        gate.wait()
        server.close()


def missed(size: int, lost: int, rise: float) -> Iterator[str]:
    """The limits that were missed at one size."""
    if lost:
        yield f"{lost} requests were lost at {size:,} applications"
    if rise >= MOST_RISE_MS:
        yield f"the 99th percentile rose by {rise:.1f} ms at {size:,} applications, not by less than {MOST_RISE_MS}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--rate", type=float, default=300, help="requests a second")
    parser.add_argument("--clients", type=int, default=1000, help="applications that call")
    parser.add_argument("--quiet", type=float, default=20, help="seconds of the quiet stretch")
    parser.add_argument("--form", default="yaml", choices=["yaml", "json"], help="of the export")
    parser.add_argument("--check", action="store_true", help="end with exit code 1 when a limit is missed")
    options = parser.parse_args()
    print(f"{'requests':>28}{'milliseconds':>56}{'MiB':>38}")
    print(f"{'applications':>12}{'before':>8}{'while':>8}{'lost':>6}{'median':>10}{'p99':>10}{'p99 reload':>12}"
          f"{'diff':>8}{'worst':>10}{'taken up s':>12}{'before':>10}{'peak':>8}{'after':>8}")  # fmt: skip
    problems = []
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            source = dict(zip(("yaml", "json"), write(Path(folder), size), strict=True))[options.form]
            found = asyncio.run(bench(Path(folder), source, options.rate, options.quiet, options.clients))
        calm, busy = found["quiet_p99"], found["reload_p99"]
        print(
            f"{size:>12,}{found['before']:>8}{found['while']:>8}{found['lost']:>6}{found['quiet_p50']:>10.1f}"
            f"{calm:>10.1f}{busy:>12.1f}{busy - calm:>+8.1f}{found['reload_worst']:>10.1f}{found['seconds']:>12.1f}"
            f"{found['before_mib']:>10.0f}{found['peak_mib']:>8.0f}{found['after_mib']:>8.0f}",
            flush=True,
        )
        problems += missed(size, int(found["lost"]), busy - calm)
    for problem in problems if options.check else ():
        print(f"missed: {problem}")
    sys.exit(bool(options.check and problems))


if __name__ == "__main__":
    main()
