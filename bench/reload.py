#!/usr/bin/env python
"""What taking up a changed portal export costs the requests that are served meanwhile.

    .venv/bin/python bench/reload.py [--sizes 10000,100000] [--rate 100] [--form yaml]

A real gate in front of an upstream, under a steady load: requests start at fixed times, whether or not the ones before
are answered, and each latency counts from when its request was due. First comes a quiet stretch, then the export is
replaced by one in which an application is different, and the load goes on until the gate says that it has taken it up,
and two seconds more. Both stretches are of one run; the difference of their 99th percentiles is the cost.
"""

import argparse
import asyncio
import base64
import datetime
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from portal import write

CLIENT_ID = "bench-client"


@dataclass
class Client:
    """One client application."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

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
        head = f"GET /{number} HTTP/1.1\r\nHost: bench\r\nX-IBM-Client-Id: {CLIENT_ID}\r\njwt: "
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

    def __init__(self, client: Client, port: int, rate: float) -> None:
        self.latencies: list[tuple[float, float]] = []
        self.failures = 0
        self._client = client
        self._port = port
        self._rate = rate
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(self, number: int, due: float) -> None:
        """One request."""
        try:
            pair = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            pair[1].write(self._client.request(number))
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

    def percentile(self, start: float, end: float, of: float) -> float:
        """Milliseconds within which so many percent of the requests due in a stretch were answered."""
        found = sorted(latency for due, latency in self.latencies if start <= due < end)
        return found[min(len(found) - 1, int(len(found) * of / 100))] * 1000


def resident(pid: int) -> float:
    """MiB of a process."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024  # type: ignore[index]


async def wait_for(log: Path, text: str, seconds: float = 150) -> None:
    """Wait until the gate says so."""
    deadline = time.monotonic() + seconds
    while text not in log.read_text():
        if time.monotonic() > deadline:
            raise SystemExit(f"the gate did not say {text!r}:\n{log.read_text()[-2000:]}")
        await asyncio.sleep(0.05)


def with_client(path: Path, client: Client, title: str, target: Path) -> None:
    """The export with the bench's own application added; `title` makes it another one."""
    entry = client.certificate()
    fields = {"type": "app", "name": "bench", "title": title, "state": "enabled", "client_id": CLIENT_ID}
    with path.open() as old, target.open("w") as new:
        for line in old:
            if path.suffix == ".json":
                before, total, rest = line.partition('"total_results": ')
                count, rest = rest.split(",", 1)
                added = json.dumps(fields | {"application_public_certificate_entry": entry})
                new.write(f"{before}{total}{int(count) + 1},{rest.rstrip().removesuffix(']}')}, {added}]}}\n")
                return
            if line.startswith("total_results:"):
                line = f"total_results: {int(line.split()[1]) + 1}\n"  # noqa: PLW2901
            new.write(line)
        pem = "".join(f"      {one}\n" for one in entry.splitlines())
        new.write("  - " + "".join(f"    {name}: {value}\n" for name, value in fields.items()).lstrip())
        new.write(f"    application_public_certificate_entry: |\n{pem}")


async def bench(folder: Path, source: Path, rate: float, quiet: float) -> dict[str, float]:
    """One export. Milliseconds of latency (quiet: before the change), seconds until it was taken up, MiB held."""
    client = Client()
    portal, changed = folder / f"portal{source.suffix}", folder / "changed"
    with_client(source, client, "before", portal)
    with_client(source, client, "after", changed)
    (folder / "policy.yaml").write_text("routes: [{path: /**}]\n")
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    with log.open("w") as file:
        gate = subprocess.Popen(
            [
                *(sys.executable, "-m", "jwsgate", "run", "--listen", f"127.0.0.1:{port}"),
                *("--upstream", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"),
                *("--portal", portal, "--policy", folder / "policy.yaml"),
                *("--set", f"confdir={folder}"),
            ],
            stdout=file,
            stderr=file,
        )
    try:
        await wait_for(log, "listening on")
        load = Load(client, port, rate)
        stop = asyncio.Event()
        running = asyncio.create_task(load.run(stop))
        await asyncio.sleep(2)
        before = resident(gate.pid)
        start = time.perf_counter()
        await asyncio.sleep(quiet)
        change = time.perf_counter()
        await asyncio.to_thread(changed.replace, portal)
        await wait_for(log, "reloaded, revision")
        taken_up = time.perf_counter()
        await wait_for(log, "1 changed (after)")
        await asyncio.sleep(2)
        end = time.perf_counter()
        stop.set()
        await running
        calm, busy = (load.percentile(*stretch, 99) for stretch in ((start, change), (change, end)))
        middle = statistics.median(latency for due, latency in load.latencies if start <= due < change) * 1000
        worst = load.percentile(change, end, 100)
        return {
            "requests": len(load.latencies),
            "lost": load.failures,
            "quiet_p50": middle,
            "quiet_p99": calm,
            "reload_p99": busy,
            "reload_worst": worst,
            "seconds": taken_up - change,
            "before_mib": before,
            "after_mib": resident(gate.pid),
        }
    finally:
        gate.terminate()
        gate.wait()
        server.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--quiet", type=float, default=10, help="seconds of the quiet stretch")
    parser.add_argument("--form", default="yaml", choices=["yaml", "json"], help="of the export")
    options = parser.parse_args()
    print("                                           milliseconds                                      MiB")
    print("applications  requests  lost  median      p99  p99 reload    diff     worst  taken up s    before   after")
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            source = dict(zip(("yaml", "json"), write(Path(folder), size), strict=True))[options.form]
            found = asyncio.run(bench(Path(folder), source, options.rate, options.quiet))
        middle, calm, busy = found["quiet_p50"], found["quiet_p99"], found["reload_p99"]
        print(
            f"{size:>12,}{found['requests']:>10}{found['lost']:>6}{middle:>10.1f}{calm:>10.1f}{busy:>12.1f}"
            f"{busy - calm:>+8.1f}{found['reload_worst']:>10.1f}{found['seconds']:>12.1f}"
            f"{found['before_mib']:>10.0f}{found['after_mib']:>8.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
