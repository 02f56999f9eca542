"""What a run was made on and with."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from cryptography.hazmat.backends.openssl import backend
from proxy import which

from e2e import proxies

__all__ = ["machine", "run", "software"]

ROOT = Path(__file__).resolve().parents[2]


def run(command: str, *, whole: bool) -> dict[str, Any]:
    """When, and of which state of the project."""
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD").strip()
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", ".", ":!docs").strip()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit or "unknown",
        "changed": bool(changed),
        "command": command,
        "whole": whole,
    }


def machine() -> dict[str, Any]:
    """Processor, system and memory."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": platform.machine() if model is None else model[1],
        "cores": len(os.sched_getaffinity(0)),
        "virtual": re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None,
        "memory_gb": 0 if total is None else round(int(total[1]) * 1024 / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def software() -> list[tuple[str, str, str]]:
    """Who, in which version, and what verifies its signatures; what is not installed is left out."""
    python = [f"Python {platform.python_version()}"]
    for package in (*("cryptography", "mitmproxy", "uvloop", "httptools", "aiohttp", "pyjwt", "uvicorn", "granian"),):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            python.append(f"{package} {importlib.metadata.version(package)}")
    ours = "jwsgate, the ASGI apps, the home-made gate"
    found = [(ours, ", ".join(python), _library(backend.openssl_version_text()))]
    if (haproxy := which("haproxy")) is not None:
        said = _said(haproxy, "-vv")
        running = re.search(r"^Running on OpenSSL version : (.*)$", said, re.MULTILINE)
        found.append(("HAProxy", _version(said), "" if running is None else _library(running[1])))
    if proxies.has_envoy():
        # 9fa…/1.40.0/Clean/RELEASE/BoringSSL
        said = _said(proxies.program("envoy"), "--version")
        found.append(("Envoy", _version(said), said.strip().rpartition("/")[2]))
    if (nginx := which("nginx")) is not None:
        found.append(("nginx, as proxy and as upstream", _version(_said(nginx, "-v")), ""))
    return found


def _library(text: str) -> str:
    """`OpenSSL 3.0.19 27 Jan 2026` without its date."""
    return " ".join(text.split()[:2])


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+\.\d+", text)
    return "" if found is None else found[0]


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""
