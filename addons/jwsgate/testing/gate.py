"""A real gate, `jwsgate run` in a process of its own, in front of the application under test."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from .applications import ClientApplication, portal_export
from .serving import App, serve

__all__ = ["DEFAULT_POLICY", "Answer", "Gate", "GateFailed", "start_gate"]

DEFAULT_POLICY: Final = """\
defaults:
  claims: {required: [exp, iat], max_lifetime: 3600, leeway: 5}
routes:
  - {name: everything, path: /**}
"""

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_LISTENING: Final = re.compile(r"listening on \S+:([0-9]+) ")


class GateFailed(Exception):
    """The gate did not start, or ended by itself; the text is its log."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, from the gate or through it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Gate:
    """A running gate."""

    port: int
    directory: Path
    """Where its log, audit file, portal export and CA are."""
    log_from: int = 0
    decisions_from: int = 0

    @property
    def url(self) -> str:
        """Where it answers, by http."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def https_url(self) -> str:
        """Where it answers by https; clients have to trust `ca_file`."""
        return f"https://localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The CA certificate, PEM, behind `https_url`."""
        return self.directory / "ca" / "mitmproxy-ca-cert.pem"

    @property
    def portal(self) -> Path:
        """The portal export; the gate follows its changes."""
        return self.directory / "portal.yaml"

    def log(self) -> str:
        """What the gate has logged since this object was made."""
        return (self.directory / "log").read_bytes()[self.log_from :].decode("utf-8", "replace")

    def decisions(self) -> list[dict[str, Any]]:
        """Its decisions since this object was made, oldest first, as the audit log has them.

        A decision is there before its request is forwarded or answered. Members are, among others, `decision`
        (`allowed`, `rejected`), `reason`, `detail`, `application`, `route`, `method`, `path` and `transaction_id`.
        """
        lines = (self.directory / "audit").read_bytes()[self.decisions_from :].splitlines()
        return [json.loads(line) for line in lines if line]

    def reasons(self) -> list[str | None]:
        """The reason of each of those decisions; None for what was allowed."""
        return [decision["reason"] for decision in self.decisions()]

    def from_now(self) -> Self:
        """The same gate with neither log nor decisions yet."""
        sizes = ((self.directory / name).stat().st_size for name in ("log", "audit"))
        return replace(self, log_from=next(sizes), decisions_from=next(sizes))

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request to the gate, for tests that have no client at hand.

        Raises:
            OSError, http.client.HTTPException: when no response comes back.
        """
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


def _environment() -> dict[str, str]:
    """The caller's, without what would steer the gate."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JWSGATE_", "MITMPROXY_")) and not name.lower().endswith("_proxy")
    }


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        ended = process.poll() is not None or time.monotonic() > deadline
        text = log.read_text("utf-8", "replace")
        if match := _LISTENING.search(text):
            return int(match[1])
        if ended:
            raise GateFailed(f"the gate does not start:\n{text}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def start_gate(
    app: App,
    applications: Iterable[ClientApplication],
    policy: str | Path = DEFAULT_POLICY,
    options: Sequence[str] = (),
) -> Iterator[Gate]:
    """Run a gate on a free port of loopback, ready when the context opens, and stopped when it closes.

    `app` is what stands behind it: a URL, a WSGI or ASGI callable, or None for an upstream that echoes. `policy` is the
    text of a policy, or the path of your own. `options` are further ones of `jwsgate run`. The process ends also when
    that of the tests is killed.

    Raises:
        GateFailed: it did not start, or did not live to the end.
        RuntimeError: the application could not be served.
    """
    with (
        tempfile.TemporaryDirectory(prefix="jwsgate-") as name,
        serve(app) as upstream,
        (Path(name) / "log").open("wb") as log,
    ):
        directory = Path(name)
        gate = Gate(0, directory)
        gate.portal.write_text(portal_export(applications), "utf-8")
        (directory / "audit").touch()
        if isinstance(policy, str):
            (directory / "policy.yaml").write_text(policy, "utf-8")
            policy = directory / "policy.yaml"
        command = [
            *(sys.executable, "-P", "-m", "jwsgate.testing.child", "run"),
            *("--upstream", upstream, "--listen", "127.0.0.1:0", "--drain-seconds", "1"),
            *("--portal", str(gate.portal), "--policy", str(policy.absolute()), "--audit", str(directory / "audit")),
            *("--set", f"confdir={directory / 'ca'}", *options),
        ]
        process = subprocess.Popen(command, env=_environment(), stdin=subprocess.PIPE, stdout=log, stderr=log)
        with process:
            try:
                yield replace(gate, port=_wait_for_port(process, directory / "log"))
                if process.poll() is not None:
                    raise GateFailed(f"the gate ended with {process.returncode}:\n{gate.log()}")
            finally:
                _stop(process)
