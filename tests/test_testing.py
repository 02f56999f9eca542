"""What `jwsgate.testing` makes: applications that the gate's own reader takes, and upstreams that answer."""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import material
from jwsgate.core.decision import AwaitsBody, Decision, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Router
from jwsgate.testing import App, ClientApplication, Gate, GateFailed, GatePool, portal_export, serve
from unit_material import POLICY, good_portal, read_policy


def decided(
    headers: dict[str, str], *registered: ClientApplication, policy: str = POLICY, body: bytes = b""
) -> Decision:
    """The decision on a request with these headers."""
    router, problems = read_policy(policy, router=Router())
    assert problems == []
    snapshot = Snapshot(good_portal(portal_export(registered)), router, "test")
    fields = [*headers.items(), ("Content-Length", str(len(body)))]
    facts = RequestFacts("POST", b"/orders", tuple((name.encode(), value.encode()) for name, value in fields))
    decision = decide(snapshot, facts, material.default_claims()["iat"])
    return decide_body(decision, body) if isinstance(decision, AwaitsBody) else decision


def reason(decision: Decision) -> str:
    """A decision in a word."""
    return str(getattr(decision, "reason", "allowed"))


@pytest.fixture(scope="module")
def application() -> ClientApplication:
    """An application with a key that is quickly made."""
    return ClientApplication.make("orders", algorithm="ES256")


@pytest.mark.parametrize("algorithm", ["PS256", "ES256", "ES384", "ES512", "EdDSA"])
def test_every_kind_of_key(algorithm: str) -> None:
    """What an application signs passes where it is registered, by every kind of key."""
    made = ClientApplication.make(algorithm=algorithm)
    assert reason(decided(made.headers(), made)) == "allowed"


def test_another_algorithm_of_the_key() -> None:
    """An RSA key signs by the algorithm that the header names."""
    made = ClientApplication.make()
    assert reason(decided(made.headers(header={"alg": "PS512"}), made)) == "allowed"


def test_unknown_algorithm() -> None:
    """The error tells which there are."""
    with pytest.raises(ValueError, match=r"HS256.*RS256, .*EdDSA"):
        ClientApplication.make(algorithm="HS256")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"state": "disabled"}, "application_disabled", id="disabled"),
        pytest.param({"valid_to": timedelta(hours=-1)}, "certificate_expired", id="expired"),
        pytest.param({"valid_from": timedelta(hours=1)}, "certificate_not_yet_valid", id="not-yet-valid"),
    ],
)
def test_defects(options: dict[str, Any], expected: str) -> None:
    """Applications that the gate turns away."""
    made = ClientApplication.make(algorithm="ES256", **options)
    assert reason(decided(made.headers(), made)) == expected


def test_registration(application: ClientApplication) -> None:
    """Nobody else's key, no certificate at all, and two certificates while a key is replaced."""
    other = ClientApplication.make("other", algorithm="ES256", client_id=application.client_id)
    assert reason(decided(other.headers(), application)) == "signature_mismatch"
    assert reason(decided(application.headers(), application.without_certificate())) == "certificate_missing"
    renewed = application.renewed()
    for each in (application, renewed):
        assert reason(decided(each.headers(), renewed)) == "allowed"
    assert reason(decided(renewed.headers(), application)) == "signature_mismatch"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param({"lifetime": -1}, "jws_expired", id="expired"),
        pytest.param({"claims": {"exp": None}}, "claim_missing", id="a-claim-left-out"),
        pytest.param({"claims": {"exp": "soon"}}, "claims_malformed", id="a-claim-replaced"),
        pytest.param({"header": {"crit": ["x"], "x": 1}}, "header_parameter_unsupported", id="a-header-parameter"),
    ],
)
def test_what_is_signed(application: ClientApplication, arguments: dict[str, Any], expected: str) -> None:
    """Claims and header parameters are the caller's."""
    assert reason(decided(application.headers(**arguments), application)) == expected


def test_detached(application: ClientApplication) -> None:
    """A JWS over the body, which it does not hold."""
    policy = "routes: [{path: /**, jws: {header: x-jws, detached: true}, client_id: {header: X-Partner}}]"
    headers = application.headers(body=b"good", client_id_header="X-Partner", jws_header="x-jws")
    assert reason(decided(headers, application, policy=policy, body=b"good")) == "allowed"
    assert reason(decided(headers, application, policy=policy, body=b"bad")) == "signature_mismatch"


def test_files(application: ClientApplication, tmp_path: Path) -> None:
    """The key is its owner's only, also where a readable file was in its place."""
    (tmp_path / "orders.key").write_text("old")
    (tmp_path / "orders.key").chmod(0o644)
    key, certificate = application.write(tmp_path)
    assert key.read_text() == application.key_pem
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert certificate.read_text() == application.certificates[0]


def test_plugin_loads_nothing() -> None:
    """pytest imports the plugin in every project: nothing of the gate or its libraries comes with it."""
    code = "import jwsgate.pytest_plugin, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pytest" in loaded
    assert not {"mitmproxy", "cryptography", "jwcrypto", "yaml", "pydantic", "click", "uvicorn"} & set(loaded)


# Which gates are shared


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The policies of the gates that run, in order of their start; without processes."""
    policies: list[str] = []
    for name in ("log", "audit"):
        (tmp_path / name).touch()

    @contextlib.contextmanager
    def start(_app: App, _applications: object, policy: str, _options: object) -> Iterator[Gate]:
        policies.append(policy)
        try:
            yield Gate(len(policies), tmp_path)
        finally:
            policies.remove(policy)
        if policy == "broken":
            raise GateFailed("it ended by itself")

    monkeypatch.setattr("jwsgate.testing.pool.start_gate", start)
    return policies


def test_gates_are_shared(running: list[str], application: ClientApplication) -> None:
    """By what they stand for; of more than four the longest unused is stopped, but none that somebody started."""
    app, other = (lambda: None), (lambda: None)
    with GatePool() as pool:
        pool.start(app, [], "own")
        assert pool.shared(app, [], "a", ()) == pool.shared(app, [], "a", [])
        pool.shared(app, [application], "applications", ())
        pool.shared(other, [], "app", ())
        pool.shared(app, [], "options", ["--tls-only"])
        assert running == ["own", "a", "applications", "app", "options"]
        pool.shared(app, [], "a", ())
        pool.shared(app, [], "fifth", ())
        assert running == ["own", "a", "app", "options", "fifth"]
    assert running == []


def test_a_broken_gate_stops_no_other(running: list[str]) -> None:
    """What one raises when it is stopped does not keep the others running."""
    with pytest.raises(GateFailed), GatePool() as pool:
        for policy in ("a", "broken", "b"):
            pool.shared(None, [], policy, ())
        pool.start(None, [], "own")
        assert len(running) == 4
    assert running == []


# Upstreams


def fetch(url: str, body: bytes | None = None) -> bytes:
    """What a URL answers."""
    with urllib.request.urlopen(url, body, timeout=10) as response:
        octets: bytes = response.read()
        return octets


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode(), body]


class Asgi:
    """An ASGI application in the shape of a framework's: an object that is called."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the path, or take part in the lifespan."""
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                self.events.append((await receive())["type"])
                await send({"type": f"lifespan.{phase}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})


async def asgi_function(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that is a function, without a lifespan."""
    await Asgi()(scope, receive, send)


async def broken_asgi(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that cannot start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def test_wsgi() -> None:
    """A WSGI callable gets path and body."""
    with serve(wsgi) as url:
        assert fetch(f"{url}/a", b"body") == b"/abody"


def test_asgi() -> None:
    """ASGI objects and functions, started and shut down."""
    app = Asgi()
    for each in (app, asgi_function):
        with serve(each) as url:
            assert fetch(f"{url}/a") == b"/a"
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]


def test_asgi_that_does_not_start() -> None:
    """It is told, and nothing hangs."""
    with pytest.raises(RuntimeError, match="did not start"), serve(broken_asgi):
        pass


def test_asgi_without_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(RuntimeError, match=r"pip install 'jwsgate\[testing\]'"), serve(asgi_function):
        pass


def test_url_and_echo() -> None:
    """A URL is given back; for want of anything else requests are echoed."""
    with serve("https://api.example") as url:
        assert url == "https://api.example"
    with serve(None) as url:
        assert json.loads(fetch(f"{url}/a"))["path"] == "/a"
