"""The pytest plugin as its users have it: pytest runs of their own, with real gates."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.e2e
pytest_plugins = "pytester"

CONFTEST = """
import sys

def pytest_collection_finish(session):
    assert "mitmproxy" not in sys.modules

def pytest_unconfigure(config):
    assert "mitmproxy" not in sys.modules
"""

USER_TESTS = """
import ssl
import urllib.request
from datetime import timedelta
from pathlib import Path
import pytest
from jwsgate.testing import ClientApplication

def test_echo(jwsgate_gate, jwsgate_application):
    answer = jwsgate_gate.request("POST", "/orders", jwsgate_application.headers({"sub": "a"}), b"body")
    assert answer.status == 200
    assert (answer.json()["path"], answer.json()["body"]) == ("/orders", "body")
    (decision,) = jwsgate_gate.decisions()
    assert (decision["decision"], decision["reason"], decision["path"]) == ("allowed", None, "/orders")
    assert decision["application"] == jwsgate_application.name
    assert decision["transaction_id"] == answer.headers["X-Global-Transaction-ID"]

def test_only_decisions_of_this_test(jwsgate_gate):
    assert jwsgate_gate.decisions() == []
    assert jwsgate_gate.log() == ""
    assert jwsgate_gate.request("GET", "/orders").status == 401
    assert jwsgate_gate.reasons() == ["client_id_missing"]
    assert "rejected: client_id_missing" in jwsgate_gate.log()

def test_https(jwsgate_gate, jwsgate_application):
    context = ssl.create_default_context(cafile=jwsgate_gate.ca_file)
    request = urllib.request.Request(jwsgate_gate.https_url + "/orders", headers=jwsgate_application.headers())
    with urllib.request.urlopen(request, context=context) as response:
        assert response.status == 200

def test_key_files(jwsgate_key_file, jwsgate_certificate_file, jwsgate_application):
    assert jwsgate_key_file.read_text() == jwsgate_application.key_pem
    assert jwsgate_certificate_file.read_text() == jwsgate_application.certificates[0]

def test_gate_files(jwsgate_portal_file, jwsgate_policy_file, jwsgate_application):
    assert jwsgate_application.client_id in jwsgate_portal_file.read_text()
    assert "routes:" in jwsgate_policy_file.read_text()

class TestOwnApp:
    @pytest.fixture
    def expired(self):
        return ClientApplication.make("expired", algorithm="EdDSA", valid_to=timedelta(hours=-1))

    @pytest.fixture
    def jwsgate_applications(self, jwsgate_application, expired):
        return [jwsgate_application, expired]

    @pytest.fixture
    def jwsgate_policy(self, tmp_path):
        path = tmp_path / "own.yaml"
        path.write_text("routes: [{path: /own/**, claims: {audience: own}}]")
        return path

    @pytest.fixture
    def jwsgate_upstream(self):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
            return [b"own"]
        return app

    @pytest.fixture
    def jwsgate_options(self):
        return ["--rejection-log-level", "off"]

    def test_own(self, jwsgate_gate, jwsgate_application, expired):
        good = {"aud": "own"}
        assert jwsgate_gate.request("GET", "/own/a", jwsgate_application.headers(good)).body == b"own"
        jwsgate_gate.request("GET", "/own/a", jwsgate_application.headers())
        jwsgate_gate.request("GET", "/own/a", expired.headers(good))
        jwsgate_gate.request("GET", "/other", jwsgate_application.headers(good))
        assert jwsgate_gate.reasons() == [None, "claim_missing", "certificate_expired", "route_unknown"]
        assert jwsgate_gate.log() == ""

def test_the_usual_gate_again(jwsgate_gate, jwsgate_application):
    assert jwsgate_gate.request("GET", "/own/a", jwsgate_application.headers()).json()["upstream"] == "echo"
"""

FAILING_TESTS = """
import pytest

def test_fails(jwsgate_gate):
    jwsgate_gate.request("GET", "/orders")
    assert jwsgate_gate.reasons() == []

class TestBadPolicy:
    @pytest.fixture
    def jwsgate_policy(self):
        return "routes: [{paht: /**}]"

    def test_bad_policy(self, jwsgate_gate):
        pass
"""


@pytest.fixture(autouse=True)
def _inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors there too, and settings that would steer a gate do not reach it."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makeconftest(CONFTEST)
    monkeypatch.setenv("JWSGATE_AUDIT", "/nowhere/audit")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")


def test_fixtures(pytester: pytest.Pytester) -> None:
    """Two gates for seven tests: in front of an echo and of the user's own application."""
    pytester.makepyfile(USER_TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=7)


def test_failures(pytester: pytest.Pytester) -> None:
    """A failing test shows what the gate has logged meanwhile, a policy with a mistake its place and remedy."""
    pytester.makepyfile(FAILING_TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*GateFailed: the gate does not start:*", "*policy.yaml:1:11: routes[[]0].paht: *"])
    result.stdout.fnmatch_lines(["*Captured jwsgate log teardown*", "*rejected: client_id_missing*"])


def test_listed(pytester: pytest.Pytester) -> None:
    """The fixtures are described for those who look them up."""
    listed = pytester.runpytest_subprocess("--fixtures").stdout.str()
    for name in ("jwsgate_gate", "jwsgate_upstream", "jwsgate_policy", "jwsgate_application"):
        assert re.search(rf"\n{name}( \[session scope\])? -- .*\n    [A-Z]", listed)


def test_no_orphans(pytester: pytest.Pytester) -> None:
    """The gate ends when the tests' process is killed."""
    script = "from jwsgate.testing import start_gate\nwith start_gate(None, []) as gate: print(gate.port); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=pytester.path
    ) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            break
        assert time.monotonic() < deadline, f"a gate still listens on {port}"
        time.sleep(0.02)
