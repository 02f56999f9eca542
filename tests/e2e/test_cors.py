"""Browsers and open routes on the wire, at both doors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import gates
from e2e.estate import P256, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Header, exchange, h2_exchange
from e2e.upstream import Answer, RecordingUpstream

pytestmark = pytest.mark.e2e

POLICY = """\
routes:
  - path: /api/**
    methods: [GET, POST]
    cors: {origins: ["https://app.example"], credentials: true}
    upstream: {client_id: X-Caller}
  - {path: /claims, respond: claims, cors: {origins: ["*"]}}
  - {name: health, path: /health, methods: [GET], open: true}
"""
ORIGIN: Header = ("Origin", "https://app.example")
PREFLIGHT: list[Header] = [ORIGIN, ("Access-Control-Request-Method", "POST")]


@pytest.fixture(scope="module")
def browser_gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate that browsers call."""
    files = write_files(tmp_path_factory.mktemp("cors"), policy=POLICY)
    with gates.running(
        lambda port: gates.command(
            door, upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate


@pytest.mark.parametrize("version", ["http1", "http2"])
def test_preflight_is_answered(browser_gate: Gate, upstream: RecordingUpstream, version: str) -> None:
    """By the gate; not one octet of it goes upstream."""
    exchanged = exchange if version == "http1" else h2_exchange
    headers: list[Header] = [(name.lower(), value) for name, value in PREFLIGHT]
    response = exchanged(browser_gate.port, "OPTIONS", "/api/1", headers)
    assert (response.status, response.body) == (204, b"")
    assert response.value("access-control-allow-origin") == "https://app.example"
    assert response.value("access-control-allow-methods") == "POST"
    assert response.value("access-control-allow-headers") == "X-IBM-Client-Id, jwt"
    assert response.value("access-control-allow-credentials") == "true"
    upstream.assert_no_request()


@pytest.mark.parametrize(
    "headers",
    [
        [ORIGIN],
        PREFLIGHT[1:],
        [*PREFLIGHT, ORIGIN],
        [*PREFLIGHT, ("Content-Length", "0"), ("Content-Length", "0")],
        [("Origin", "https://app.example"), ("Access-Control-Request-Method", "DELETE")],
    ],
)
def test_other_options_need_a_jws(browser_gate: Gate, upstream: RecordingUpstream, headers: list[Header]) -> None:
    """What is no true preflight goes nowhere."""
    assert exchange(browser_gate.port, "OPTIONS", "/api/1", headers).status in {204, 400, 401, 404}
    upstream.assert_no_request()


def test_preflight_with_another_method(browser_gate: Gate, upstream: RecordingUpstream) -> None:
    """GET with the headers of a preflight is a GET."""
    assert exchange(browser_gate.port, "GET", "/api/1", PREFLIGHT).status == 401
    upstream.assert_no_request()


def test_errors_show_in_browsers(browser_gate: Gate) -> None:
    """To the policy's origins, and to no other."""
    response = exchange(browser_gate.port, "GET", "/api/1", [ORIGIN])
    assert (response.status, response.value("access-control-allow-origin")) == (401, "https://app.example")
    assert response.value("vary") == "Origin"
    response = exchange(browser_gate.port, "GET", "/api/1", [("Origin", "https://evil.example")])
    assert (response.status, response.values("access-control-allow-origin")) == (401, [])


def test_upstreams_own_words_are_replaced(browser_gate: Gate, upstream: RecordingUpstream) -> None:
    """An upstream that lets everybody in does not widen the policy."""
    upstream.answer_with(Answer(headers=[("Access-Control-Allow-Origin", "*"), ("X-Kept", "1")]))
    response = exchange(browser_gate.port, "GET", "/api/1", [*credentials(P256), ORIGIN])
    assert (response.value("access-control-allow-origin"), response.value("x-kept")) == ("https://app.example", "1")
    response = exchange(browser_gate.port, "GET", "/api/1", [*credentials(P256), ("Origin", "https://evil.example")])
    assert response.values("access-control-allow-origin") == []


def test_answers_of_the_gate(browser_gate: Gate) -> None:
    """Claims, for every origin."""
    response = exchange(browser_gate.port, "GET", "/claims", [*credentials(P256), ORIGIN])
    assert (response.status, response.value("access-control-allow-origin")) == (200, "*")


def test_open_route(browser_gate: Gate, upstream: RecordingUpstream) -> None:
    """It is told at start; nobody is named, whatever the caller writes; its neighbours are closed."""
    assert "OPEN, every request passes on the routes 'health'" in browser_gate.log()
    assert exchange(browser_gate.port, "GET", "/health", [("X_Caller", "root")]).status == 200
    names = {name.lower().replace(b"_", b"-") for name, _ in upstream.only_request().headers}
    assert b"x-caller" not in names
    upstream.clear()
    for method, target in (("POST", "/health"), ("GET", "/health/x"), ("GET", "/Health"), ("GET", "/health/../api/1")):
        assert exchange(browser_gate.port, method, target).status in {400, 404}
    upstream.assert_no_request()
