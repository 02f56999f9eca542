"""Routes and an application in report mode beside enforced ones, at both doors."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import ED25519, KEYS, P256, TWO_CREDENTIALS, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import exchange
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e

POLICY = """\
routes:
  - {name: enforced, path: "/**"}
  - {name: shadow, path: "/shadow/**", mode: report, max_body_octets: 1000, upstream: {client_id: X-Caller}}
  - {name: once, path: "/shadow-once/**", mode: report, single_use: true}
  - {name: signed, path: "/shadow-signed/**", mode: report, jws: {detached: true}}
  - {name: partner, path: "/partner/**"}
applications:
  - {application: ed25519, routes: [enforced, shadow], claims: {max_lifetime: {env: LIFETIME}}}
"""
POLICY += f"  - {{client_id: {TWO_CREDENTIALS[0]}, mode: report, routes: [enforced]}}\n"


@pytest.fixture(scope="module")
def shadow_gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate that enforces everywhere but beneath three paths."""
    files = write_files(tmp_path_factory.mktemp("shadow"), policy=POLICY)
    audit = files.directory / "audit.jsonl"
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=session_upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=[f"jwsgate_audit={audit}"] if door != "jwsgate run" else (),
            arguments=["--audit", str(audit)] if door == "jwsgate run" else (),
        ),
        env=gates.environment(home, extra={"LIFETIME": "599"}),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate


def last_record(gate: Gate) -> tuple[str, str | None, str]:
    """Decision, reason and route of the last line of the audit log."""
    record = json.loads(_audit_of(gate).read_text().splitlines()[-1])
    return record["decision"], record["reason"], record["route"]


def _audit_of(gate: Gate) -> Path:
    found = [folder / "audit.jsonl" for folder in (gate.directory, *gate.directory.parents)]
    return next(path for path in found if path.exists())


def test_start_says_so(shadow_gate: Gate) -> None:
    """Loudly, with the names of the routes, and of no other."""
    line, applications = [line for line in shadow_gate.log().splitlines() if "REPORT MODE" in line]
    assert "'shadow', 'once', 'signed'" in line
    assert "enforced" not in line
    assert applications.endswith(f"from the client IDs '{TWO_CREDENTIALS[0]}', '{TWO_CREDENTIALS[1]}'")


def test_request_without_a_jws_passes(shadow_gate: Gate, upstream: RecordingUpstream) -> None:
    """It is on record as what it would have been, and nobody is named to the upstream."""
    assert exchange(shadow_gate.port, "GET", "/shadow/1", [("X-Caller", "root")]).status == 200
    request = upstream.only_request()
    assert request.values("x-caller") == []
    assert last_record(shadow_gate) == ("would_reject", "client_id_missing", "shadow")
    shadow_gate.wait_for_log("would be rejected: client_id_missing")


def test_good_request_is_told(shadow_gate: Gate, upstream: RecordingUpstream) -> None:
    """As ever."""
    assert exchange(shadow_gate.port, "GET", "/shadow/1", credentials(P256)).status == 200
    assert upstream.only_request().values("x-caller") == [P256.encode()]
    assert last_record(shadow_gate) == ("allowed", None, "shadow")


@pytest.mark.parametrize("path", ["/other", "/shadowy", "/shadow%2F1", "/Shadow/1", "/shadow/../other", "//shadow/1"])
def test_other_routes_stay_closed(shadow_gate: Gate, upstream: RecordingUpstream, path: str) -> None:
    """Whatever the path looks like."""
    assert exchange(shadow_gate.port, "GET", path).status in {400, 401}
    upstream.assert_no_request()


def test_unsafe_requests_stay_refused(shadow_gate: Gate, upstream: RecordingUpstream) -> None:
    """Look-alikes, upgrades and large bodies."""
    port = shadow_gate.port
    assert_rejected(exchange(port, "GET", "/shadow/1", [("X_IBM_Client_Id", P256)]), "request_unsafe")
    assert_rejected(exchange(port, "GET", "/shadow/1", [("Connection", "X-A")]), "request_unsafe")
    assert_rejected(exchange(port, "POST", "/shadow/1", body=b"x" * 1001), "body_too_large")
    upstream.assert_no_request()
    chunks = b"800\r\n" + b"x" * 0x800 + b"\r\n0\r\n\r\n"
    chunked = exchange(port, "POST", "/shadow/1", [("Transfer-Encoding", "chunked")], chunks)
    assert_rejected(chunked, "body_too_large")
    assert upstream.requests == []


def test_second_use_passes(shadow_gate: Gate, upstream: RecordingUpstream) -> None:
    """And is reported; the same JWS is still good where it counts."""
    headers = credentials(P256, material.jws(KEYS[P256], material.default_claims(jti=os.urandom(8).hex())))
    records = []
    for _ in range(2):
        assert exchange(shadow_gate.port, "GET", "/shadow-once/1", headers).status == 200
        records.append(last_record(shadow_gate))
    assert records == [("allowed", None, "once"), ("would_reject", "jws_replayed", "once")]
    assert len(upstream.requests) == 2


def test_signed_body_that_is_another(shadow_gate: Gate, upstream: RecordingUpstream) -> None:
    """What only the whole body shows."""
    header, _, signature = material.jws(KEYS[P256], {}).split(".")
    headers = credentials(P256, f"{header}..{signature}")
    assert exchange(shadow_gate.port, "POST", "/shadow-signed/1", headers, b"other").status == 200
    assert upstream.only_request().body == b"other"
    assert last_record(shadow_gate) == ("would_reject", "signature_mismatch", "signed")


@pytest.mark.parametrize("client_id", TWO_CREDENTIALS)
def test_application_in_report_mode(shadow_gate: Gate, upstream: RecordingUpstream, client_id: str) -> None:
    """Its requests pass on the routes that its entry names, and nobody else's do."""
    port = shadow_gate.port
    assert exchange(port, "GET", "/any", [("X-IBM-Client-Id", client_id)]).status == 200
    assert upstream.only_request().target == b"/any"
    assert last_record(shadow_gate) == ("would_reject", "jws_missing", "enforced")
    assert_rejected(exchange(port, "GET", "/partner/1", credentials(client_id)), "route_not_allowed")
    assert_rejected(exchange(port, "GET", "/any", [("X-IBM-Client-Id", P256)]), "jws_missing")
    assert_rejected(exchange(port, "GET", "/any"), "client_id_missing")
    assert len(upstream.requests) == 1


def test_application_of_which_more_is_demanded(shadow_gate: Gate, upstream: RecordingUpstream) -> None:
    """It is held to it, by the value of a variable too, while others call as ever."""
    port = shadow_gate.port
    short = material.jws(KEYS[ED25519], material.default_claims(exp=int(time.time()) + 100))
    assert exchange(port, "GET", "/any", credentials(ED25519, short)).status == 200
    upstream.only_request()
    assert_rejected(exchange(port, "GET", "/any", credentials(ED25519)), "claim_mismatch")
    assert_rejected(exchange(port, "GET", "/partner/1", credentials(ED25519, short)), "route_not_allowed")
    assert exchange(port, "GET", "/partner/1", credentials(P256)).status == 200
    assert len(upstream.requests) == 2
