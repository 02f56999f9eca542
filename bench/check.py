#!/usr/bin/env python
"""How fast `jwsgate check` decides a recording, against how fast mitmdump alone reads it.

    .venv/bin/python bench/check.py [--flows 10000] [--rounds 5] [--quick]

Each request has a JWS of its own, so that each signature is verified: one recording by ES256 and one by RS256, each as
flows that mitmproxy saved and as a HAR file. The two commands take turns, as whole processes, start included; `check`
draws its progress bar on a terminal, mitmdump has nothing to show. The ratio is that of their median times.
"""

import argparse
import io
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from mitmproxy import http
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from jwsgate.testing.applications import ClientApplication, portal_export

BIN = Path(sys.executable).parent
GOAL = 1.5
ALGORITHMS = ("ES256", "RS256")
KINDS = ("flows", "HAR")

type Recorded = list[tuple[str, float, list[tuple[str, str]]]]
"""Paths, times and headers."""


def requests(client: ClientApplication, count: int) -> Recorded:
    """Requests with a JWS each."""
    fields = [("Host", "bench"), ("Accept", "application/json"), ("User-Agent", "bench/1.0")]
    return [(f"/{number}", time.time(), [*fields, *client.headers().items()]) for number in range(count)]


def flow_file(recorded: Recorded) -> bytes:
    """Flows as mitmdump saves them."""
    file = io.BytesIO()
    writer = FlowWriter(file)
    flow = tflow.tflow(resp=True)
    for path, moment, headers in recorded:
        flow.request.path = path
        flow.request.headers = http.Headers([(name.encode(), value.encode()) for name, value in headers])
        flow.request.timestamp_start = moment
        writer.add(flow)
    return file.getvalue()


def har_file(recorded: Recorded) -> bytes:
    """A HAR file as browsers export it."""
    timings = {"send": 0, "wait": 1, "receive": 0}
    nothing = {"cookies": [], "headersSize": -1, "bodySize": 0, "httpVersion": "HTTP/1.1"}
    response = {
        **{"status": 200, "statusText": "OK", "headers": [], "redirectURL": ""},
        **{"content": {"size": 2, "mimeType": "text/plain", "text": "ok"}, **nothing},
    }
    entries = [
        {
            "startedDateTime": datetime.fromtimestamp(moment, UTC).isoformat(),
            "time": 1,
            "request": {
                "method": "GET",
                "url": f"http://bench{path}",
                "headers": [{"name": name, "value": value} for name, value in headers],
                "queryString": [],
                **nothing,
            },
            "response": response,
            "cache": {},
            "timings": timings,
        }
        for path, moment, headers in recorded
    ]
    return json.dumps(
        {"log": {"version": "1.2", "creator": {"name": "bench", "version": "1"}, "entries": entries}}
    ).encode()


def seconds(command: list[str], home: str) -> tuple[float, bytes]:
    """How long a command takes, which must succeed, and what it shows on its terminal."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def watch() -> None:
        try:
            while octets := os.read(ours, 65536):
                shown.append(octets)
        except OSError:
            pass  # the other end is closed

    watcher = threading.Thread(target=watch)
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"HOME": home}) as process:
        os.close(theirs)
        watcher.start()
        output, _ = process.communicate()
    taken = time.perf_counter() - started
    watcher.join()
    os.close(ours)
    if process.returncode:
        sys.exit((output + b"".join(shown))[-500:].decode("utf-8", "replace"))
    return taken, b"".join(shown)


def measure(place: Path, name: str, recording: bytes, rounds: int) -> tuple[float, float]:
    """Median seconds of mitmdump and of `check`."""
    file = place / name
    file.write_bytes(recording)
    files = ["--portal", str(place / "portal.yaml"), "--policy", str(place / "policy.yaml")]
    read, decided = [], []
    for _ in range(rounds):
        read.append(seconds([str(BIN / "mitmdump"), "-q", "-nr", str(file)], str(place))[0])
        taken, bar = seconds([str(BIN / "jwsgate"), "check", str(file), *files], str(place))
        if b"100%" not in bar:
            sys.exit("jwsgate check drew no progress bar; its time would not count")
        decided.append(taken)
    return statistics.median(read), statistics.median(decided)


def main() -> None:
    """Print the times and the ratios; exit code 1 when `check` is slower than promised."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only look that it runs; the numbers say nothing")
    arguments = parser.parse_args()
    count, rounds = (1500, 1) if arguments.quick else (arguments.flows, arguments.rounds)
    print(f"{'recording':<12} {'mitmdump -nr':>12} {'jwsgate check':>14} {'requests/s':>11} {'ratio':>6}")
    worst = 0.0
    for algorithm in ALGORITHMS:
        client = ClientApplication.make("bench", algorithm=algorithm)
        recorded = requests(client, count)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "portal.yaml").write_text(portal_export([client]))
            (place / "policy.yaml").write_text("routes: [{path: /**}]\n")
            for kind, write in zip(KINDS, (flow_file, har_file), strict=True):
                read, decided = measure(place, f"recording.{kind.lower()}", write(recorded), rounds)
                worst = max(worst, decided / read)
                what = f"{algorithm} {kind}"
                print(f"{what:<12} {read:10.2f} s {decided:12.2f} s {count / decided:11.0f} {decided / read:6.2f}")
    print(f"jwsgate check takes at most {worst:.2f} of mitmdump's time; at most {GOAL} was promised")
    sys.exit(not arguments.quick and worst > GOAL)


if __name__ == "__main__":
    main()
