#!/usr/bin/env python
"""How long a portal export takes to be loaded (read, checked, indexed, ready to serve), and how much memory.

    .venv/bin/python bench/portal.py [--sizes 10000,100000] [--rounds 3] [--check]

Held against PyYAML's `CSafeLoader` reading the same file, which checks nothing. Every contestant runs in a process of
its own, so that peaks of memory are its own too; the best of the rounds counts. Files are made anew in a temporary
folder: each application has a certificate of its own, and the fields of a real one. Then, what a look-up costs.
With --check, a limit that is missed at 10,000 applications or more is told, and the exit code is 1.
"""

import argparse
import datetime
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from jwsgate.files.loading import load_snapshot

BASE = "https://platform.example.com/api"
LARGE, HUGE = 10_000, 100_000
MOST_RATIO = {LARGE: 1.0, HUGE: 1.2}
"""Of the time that CSafeLoader takes, from so many applications on."""
MOST_MB = 600
"""The peak of memory, from HUGE on."""
LEAST_JSON = 8
"""How many times faster JSON is loaded than CSafeLoader reads the same in YAML."""
MOST_GROWTH = 2
"""A look-up in the largest export against one in the smallest."""
CSAFE, YAML, JSON = "PyYAML CSafeLoader", "jwsgate, YAML", "jwsgate, JSON"
POLICY = "routes: [{path: /**}]\n"


def applications(count: int) -> Iterator[dict[str, Any]]:
    """Applications as API Connect exports them. Their RSA keys are random numbers: signing is not measured here."""
    chance = random.Random(count)
    ca = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench CA")])
    now = datetime.datetime.now(datetime.UTC)
    for number in range(count):
        key = rsa.RSAPublicNumbers(65537, chance.getrandbits(2048) | 1 | 1 << 2047).public_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"client {number}")])
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(number + 1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(usage, True)
            .sign(ca, hashes.SHA256())
        )
        one, two, organization = (str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(3))
        url = f"{BASE}/apps/acme/production/{organization}/{one}"
        yield {
            "type": "app",
            "api_version": "2.0.0",
            "id": one,
            "name": f"application-{number}",
            "title": f"Application {number}",
            "summary": "Orders and stock",
            "state": "enabled",
            "lifecycle_state": "production",
            "redirect_endpoints": [],
            "application_public_certificate_entry": certificate.public_bytes(serialization.Encoding.PEM).decode(),
            "app_credential_urls": [f"{url}/credentials/{two}"],
            "client_id": client_id(number),
            "metadata": {"owner": f"team-{number % 50}"},
            "created_at": "2024-03-01T10:00:00.000Z",
            "updated_at": "2024-05-01T10:00:00.000Z",
            "org_url": f"{BASE}/orgs/acme",
            "catalog_url": f"{BASE}/catalogs/acme/production",
            "consumer_org_url": f"{BASE}/consumer-orgs/acme/production/{organization}",
            "url": url,
            "credentials": [{"id": two, "client_id": client_id(number), "name": f"credential-{number}", "title": "C"}],
        }


def client_id(number: int) -> str:
    """The client ID of an application of these files."""
    return str(uuid.UUID(int=0x479B3DF9380E4BDA8CC192718C88F9CD + number))


def _yaml_lines(value: Any, indent: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, str) and "\n" in item:
            yield f"{key}: |"
            yield from (f"{indent}  {line}" for line in item.splitlines())
        elif isinstance(item, dict):
            yield f"{key}:"
            yield from (f"{indent}  {line.strip()}" for line in _yaml_lines(item, indent))
        elif isinstance(item, list) and item:
            yield f"{key}:"
            for entry in item:
                lines = [entry] if isinstance(entry, str) else list(_yaml_lines(entry, indent))
                yield from (f"{indent}  {'- ' if not n else '  '}{line}" for n, line in enumerate(lines))
        elif isinstance(item, str) and item[:1].isdigit():
            yield f"{key}: '{item}'"
        else:
            yield f"{key}: {'[]' if item == [] else item}"


def write(folder: Path, count: int) -> tuple[Path, Path]:
    """One export in YAML and in JSON. PyYAML would take minutes to write the larger ones."""
    as_yaml, as_json = folder / f"{count}.yaml", folder / f"{count}.json"
    with as_yaml.open("w") as yaml_file, as_json.open("w") as json_file:
        yaml_file.write(f"total_results: {count}\nresults:\n")
        json_file.write(f'{{"total_results": {count}, "results": [')
        for number, application in enumerate(applications(count)):
            for line_number, line in enumerate(_yaml_lines(application, "    ")):
                text = line if line.startswith("    ") else f"    {line}"
                yaml_file.write((text if line_number else f"  - {line}") + "\n")
            json_file.write((", " if number else "") + json.dumps(application))
        json_file.write("]}\n")
    return as_yaml, as_json


def contestant(kind: str, path: Path) -> dict[str, float]:
    """Load one file in this process; seconds and MiB."""
    if kind == "csafe":
        start = time.perf_counter()
        with path.open("rb") as file:
            yaml.load(file, Loader=yaml.CSafeLoader)
        seconds = time.perf_counter() - start
    else:
        policy = path.parent / "policy.yaml"
        policy.write_text(POLICY)
        start = time.perf_counter()
        snapshot = load_snapshot(path, [policy], time.time())
        seconds = time.perf_counter() - start
        assert len(snapshot.portal.applications) == int(path.stem)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "mib": peak} | ({} if kind == "csafe" else lookups(snapshot.portal))


def lookups(portal: Any) -> dict[str, float]:
    """Microseconds to find an application: the first time, when it is made ready, and then."""
    chance = random.Random(7)
    wanted = [client_id(chance.randrange(len(portal.applications))).encode() for _ in range(500)]
    found = {}
    for name in ("first", "again"):
        start = time.perf_counter()
        for _ in range(1 if name == "first" else 100):
            for octets in wanted:
                portal.find(octets)
        found[name] = (time.perf_counter() - start) / len(wanted) / (1 if name == "first" else 100) * 1e6
    return found


def measure(kind: str, path: Path, rounds: int) -> dict[str, float]:
    """The best of some runs, each in a process of its own."""
    runs = []
    for _ in range(rounds):
        command = [sys.executable, __file__, "--contestant", kind, "--file", str(path)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    return min(runs, key=lambda run: run["seconds"])


def missed(found: dict[int, dict[str, dict[str, float]]]) -> Iterator[str]:
    """The limits that were missed, by what was measured of each size."""
    sizes = sorted(size for size in found if size >= LARGE)
    for size in sizes:
        results = found[size]
        ratio = results[YAML]["seconds"] / results[CSAFE]["seconds"]
        most = MOST_RATIO[HUGE if size >= HUGE else LARGE]
        if ratio > most:
            yield f"{size:,} in YAML took {ratio:.2f} times as long as {CSAFE}, more than {most}"
        times = results[CSAFE]["seconds"] / results[JSON]["seconds"]
        if times < LEAST_JSON:
            yield f"{size:,} in JSON are only {times:.1f} times faster than {CSAFE}, not {LEAST_JSON}"
        for name in (YAML, JSON) if size >= HUGE else ():
            if (used := results[name]["mib"] * 2**20 / 1e6) > MOST_MB:
                yield f"{size:,} took {used:.0f} MB of memory ({name}), more than {MOST_MB}"
    for what in ("first", "again") if len(sizes) > 1 else ():
        few, many = (found[size][YAML][what] for size in (sizes[0], sizes[-1]))
        if many > MOST_GROWTH * few:
            yield f"a look-up ({what}) takes {many:.2f} µs in {sizes[-1]:,}, and {few:.2f} in {sizes[0]:,}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--check", action="store_true", help="end with exit code 1 when a limit is missed")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(json.dumps(contestant(options.contestant, options.file)))
        return
    print(f"{'applications':>12}  {'loaded by':<22}{'seconds':>8}{'x CSafeLoader':>15}{'peak MiB':>10}"
          f"{'first look-up':>15}{'next, µs':>10}")  # fmt: skip
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.sizes.split(",")):
            as_yaml, as_json = write(Path(folder), size)
            results = found[size] = {
                CSAFE: measure("csafe", as_yaml, options.rounds),
                YAML: measure("jwsgate", as_yaml, options.rounds),
                JSON: measure("jwsgate", as_json, options.rounds),
            }
            for name, run in results.items():
                ratio = run["seconds"] / results[CSAFE]["seconds"]
                looked = f"{run['first']:>15.1f}{run['again']:>10.2f}" if "first" in run else ""
                print(f"{size:>12,}  {name:<22}{run['seconds']:>8.2f}{ratio:>15.2f}{run['mib']:>10.0f}{looked}")
            times = [results[name]["seconds"] / results[JSON]["seconds"] for name in (CSAFE, YAML)]
            print(
                f"{size:>12,}  JSON is {times[0]:.1f} times faster than {CSAFE}, {times[1]:.1f} times than YAML",
                flush=True,
            )
    problems = list(missed(found)) if options.check else []
    for problem in problems:
        print(f"missed: {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
