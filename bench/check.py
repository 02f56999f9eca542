#!/usr/bin/env python
"""How fast `jwsgate check` decides a recording, against how fast mitmdump alone reads it.

    .venv/bin/python bench/check.py [--flows 10000] [--rounds 5]

Each flow has a JWS of its own, so that each signature is verified. The two commands take turns, as whole processes,
start included; the ratio is that of their median times.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mitmproxy import http
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow
from reload import CLIENT_ID, Client

BIN = Path(sys.executable).parent
GOAL = 1.5


def recording(client: Client, count: int) -> bytes:
    """Flows as mitmdump saves them."""
    file = io.BytesIO()
    writer = FlowWriter(file)
    flow = tflow.tflow(resp=True)
    for number in range(count):
        head, *lines = client.request(number).decode().strip().split("\r\n")
        fields = [(b"Accept", b"application/json"), (b"User-Agent", b"bench/1.0")]
        fields += [tuple(part.strip().encode() for part in line.split(":", 1)) for line in lines]
        flow.request.path, flow.request.headers = head.split(" ")[1], http.Headers(fields)
        flow.request.timestamp_start = time.time()
        writer.add(flow)
    return file.getvalue()


def seconds(command: list[str], home: str) -> float:
    """How long a command takes, which must succeed."""
    environment = os.environ | {"HOME": home}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    taken = time.perf_counter() - started
    if done.returncode:
        sys.exit((done.stdout + done.stderr)[-500:])
    return taken


def main() -> None:
    """Print the times and the ratio; exit code 1 when `check` is slower than promised."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    client = Client()
    times: dict[str, list[float]] = {"mitmdump -nr": [], "jwsgate check": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        flows = place / "flows.mitm"
        pem = "".join(f"      {line}\n" for line in client.certificate().splitlines())
        (place / "portal.yaml").write_text(
            f"results:\n  - name: bench\n    state: enabled\n    credentials: [{{client_id: {CLIENT_ID}}}]\n"
            f"    application_public_certificate_entry: |\n{pem}"
        )
        flows.write_bytes(recording(client, arguments.flows))
        (place / "policy.yaml").write_text("routes: [{path: /**}]\n")
        commands = {
            "mitmdump -nr": [str(BIN / "mitmdump"), "-q", "-nr", str(flows)],
            "jwsgate check": [
                *(str(BIN / "jwsgate"), "check", str(flows)),
                *("--portal", str(place / "portal.yaml"), "--policy", str(place / "policy.yaml")),
            ],
        }
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                times[name].append(seconds(command, folder))
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:<14} {median:6.2f} s  {arguments.flows / median:8.0f} flows/s  (fastest {min(taken):.2f} s)")
    ratio = statistics.median(times["jwsgate check"]) / statistics.median(times["mitmdump -nr"])
    print(f"jwsgate check takes {ratio:.2f} of mitmdump's time; at most {GOAL} was promised")
    sys.exit(ratio > GOAL)


if __name__ == "__main__":
    main()
