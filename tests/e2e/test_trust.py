"""Certificates that must chain to a CA, at both doors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import Files, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Header, exchange, h2_exchange
from e2e.upstream import RecordingUpstream
from feature_material import DAY, Issued, issue, lists_pem, revocation_list

pytestmark = pytest.mark.e2e

NOW = time.time()


def issued(name: str, issuer: Issued | None = None, **options: object) -> Issued:
    """A certificate that is good during these tests."""
    return issue(name, issuer, **{"start": NOW - 30 * DAY, "end": NOW + 30 * DAY, **options})  # type: ignore[arg-type]


ROOT = issued("root", ca=True)
MIDDLE = issued("middle", ROOT, ca=True)
REVOKED_MIDDLE = issued("revoked-middle", ROOT, ca=True)
OTHER_ROOT = issued("other-root", ca=True)
BLIND_MIDDLE = issued("blind-middle", ROOT, ca=True)

CLIENTS: dict[str, list[Issued]] = {
    "chained": [issued("chained", MIDDLE), MIDDLE],
    "direct": [issued("direct", ROOT)],
    "rsa": [issued("rsa", ROOT, kind="rsa")],
    "revoked": [issued("revoked", MIDDLE), MIDDLE],
    "under-revoked": [issued("under-revoked", REVOKED_MIDDLE), REVOKED_MIDDLE],
    "self-signed": [issued("self-signed")],
    "wrong-ca": [issued("wrong-ca", OTHER_ROOT), OTHER_ROOT],
    "no-chain": [issued("no-chain", MIDDLE)],
    "no-list": [issued("no-list", BLIND_MIDDLE), BLIND_MIDDLE],
    "by-a-leaf": [issued("by-a-leaf", issued("direct", ROOT)), issued("direct", ROOT)],
}
GOOD = ["chained", "direct", "rsa"]
BAD = [name for name in CLIENTS if name not in GOOD]

POLICY = """\
routes:
  - path: /ca/**
    certificates: {ca_file: ca.pem, crl_file: ca.crl}
  - path: /body/**
    certificates: {ca_file: ca.pem, crl_file: ca.crl}
    jws: {header: jwt, detached: true}
  - path: /free/**
"""


def credentials(name: str) -> list[Header]:
    """The headers of a request that is good but, perhaps, for the certificate."""
    return [("X-IBM-Client-Id", name), ("jwt", material.jws(CLIENTS[name][0].key))]


def trust_files(directory: Path, *, stale_in: float = DAY) -> Files:
    """A gate's files, with revocation lists that go stale in so many seconds."""
    portal = material.portal_yaml(
        [material.Application(name, (name,), "".join(each.pem for each in chain)) for name, chain in CLIENTS.items()]
    )
    files = write_files(directory, portal, POLICY)
    now = time.time()
    lists = lists_pem(
        revocation_list(ROOT, [REVOKED_MIDDLE], start=now - 60, end=now + stale_in),
        revocation_list(MIDDLE, [CLIENTS["revoked"][0]], start=now - 60, end=now + stale_in),
        revocation_list(REVOKED_MIDDLE, start=now - 60, end=now + stale_in),
        revocation_list(OTHER_ROOT, start=now - 60, end=now + stale_in),
    )
    (directory / "ca.pem").write_text(ROOT.pem)
    (directory / "ca.crl").write_text(lists)
    return files


@pytest.fixture(scope="module")
def trust_gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate that asks a CA."""
    files = trust_files(tmp_path_factory.mktemp("trust"))
    with gates.running(
        lambda port: gates.command(
            door, upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate
        alive = gate.process.poll() is None
    assert alive, gate.log()
    assert "Traceback" not in gate.log(), gate.log()


@pytest.mark.parametrize("name", GOOD)
def test_under_the_ca(trust_gate: Gate, upstream: RecordingUpstream, name: str) -> None:
    """Who is under the CA, directly or over a registered intermediate, passes."""
    assert exchange(trust_gate.port, "GET", "/ca/1", credentials(name)).status == 200
    upstream.only_request()


@pytest.mark.parametrize("name", BAD)
def test_not_under_the_ca(trust_gate: Gate, upstream: RecordingUpstream, name: str) -> None:
    """Everybody else is told that the certificate cannot be used, and passes where no CA is asked about."""
    for tls in (False, True):
        response = exchange(trust_gate.port, "POST", "/ca/1", credentials(name), b"body", tls=tls)
        assert_rejected(response, "certificate_unusable")
    lower: list[Header] = [(key.lower(), value) for key, value in credentials(name)]
    assert_rejected(h2_exchange(trust_gate.port, "POST", "/ca/1", lower, b"body"), "certificate_unusable")
    assert_rejected(exchange(trust_gate.port, "POST", "/body/1", credentials(name), b"x"), "certificate_unusable")
    upstream.assert_untouched()
    assert exchange(trust_gate.port, "GET", "/free/1", credentials(name)).status == 200
    upstream.only_request()


def test_answer_does_not_tell_why(trust_gate: Gate) -> None:
    """Revoked, self-signed and of another CA get the same answer; the log knows the difference."""
    answers = {exchange(trust_gate.port, "GET", "/ca/1", credentials(name)).body for name in BAD}
    assert len(answers) == 1
    trust_gate.wait_for_log("certificate_unusable: the registered certificate or a CA above it is revoked")
    trust_gate.wait_for_log("certificate_unusable: the registered certificate does not chain to the CA of the policy")


def test_certificate_is_judged_before_the_jws(trust_gate: Gate, upstream: RecordingUpstream) -> None:
    """A revoked client learns that it is revoked, with whatever JWS or none."""
    for headers in ([("X-IBM-Client-Id", "revoked")], [("X-IBM-Client-Id", "revoked"), ("jwt", "garbage")]):
        assert_rejected(exchange(trust_gate.port, "GET", "/ca/1", headers), "certificate_unusable")
    upstream.assert_untouched()


def test_lists_go_stale_while_the_gate_runs(
    door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """When a revocation list's time is over, everybody is refused at once, a JWS in the cache too."""
    files = trust_files(tmp_path, stale_in=8)
    stale_at = time.time() + 8
    with gates.running(
        lambda port: gates.command(door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy),
        env=gates.environment(home),
        directory=tmp_path,
        name=door,
    ) as gate:
        headers = credentials("chained")
        assert exchange(gate.port, "GET", "/ca/1", headers).status == 200
        time.sleep(max(0.0, stale_at + 1 - time.time()))
        upstream.clear()
        assert_rejected(exchange(gate.port, "GET", "/ca/1", headers), "certificate_unusable")
        upstream.assert_untouched()
        assert exchange(gate.port, "GET", "/free/1", headers).status == 200


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("ca.pem", "no certificate", id="ca"),
        pytest.param("ca.pem", None, id="no-ca"),
        pytest.param("ca.crl", "no list", id="list"),
        pytest.param("ca.crl", None, id="no-list"),
    ],
)
def test_broken_file_prevents_the_start(
    door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path, file: str, content: str | None
) -> None:
    """A CA or list that cannot be used is told with its place in the policy, and the gate does not start."""
    files = trust_files(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    finished = gates.run_to_end(
        lambda port: gates.command(door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy),
        env=gates.environment(home),
        directory=tmp_path,
    )
    assert finished.returncode == 1
    key = "ca_file" if file == "ca.pem" else "crl_file"
    assert "policy.yaml:3:" in finished.output
    assert f"routes[0].certificates.{key}: names '{file}'" in finished.output
    assert "Traceback" not in finished.output
    upstream.assert_untouched()
