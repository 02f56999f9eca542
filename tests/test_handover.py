"""Handing a snapshot over from one process to another: the same snapshot, in pieces."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

import material
from core_gate import NoFiles
from jwsgate.core.decision import Allowed, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.packed import PackedApplications
from jwsgate.core.policy import Router
from jwsgate.core.portal_diff import diff_portals
from jwsgate.files.documents import read_document
from jwsgate.files.handover import LENGTH_OCTETS, Assembly, main, order
from jwsgate.files.loading import load_snapshot
from jwsgate.files.policy_file import build_routes
from jwsgate.files.problems import ProblemsFound

POLICY = """\
defaults: {claims: {required: [exp], issuer: [a, b]}, algorithms: [ES256]}
routes:
  - path: /orders/{id}
    bind: {method: htm, body: {claim: hash}}
  - path: /files/**
    single_use: true
  - {path: /sign, sign: {key: client.key, algorithm: ES256, issuer: i, audience: a}}
  - {path: /detached, jws: {header: x, detached: true}}
"""
KEY = material.private_key("p256")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A portal of 200 applications and a policy that uses all there is."""
    applications = [
        material.Application(f"app-{n}", (f"id-{n}", f"other-{n}"), material.certificate(KEY) if n % 3 else "")
        for n in range(200)
    ]
    (tmp_path / "portal.yaml").write_text(material.portal_yaml(applications))
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "client.key").write_text(material.private_pem(KEY))
    return tmp_path


def pieces(folder: Path) -> list[bytes]:
    """What the reading process writes."""
    out = io.BytesIO()
    main(json.loads(order(folder / "portal.yaml", [folder / "policy.yaml"], time.time())), out)
    octets, found = out.getvalue(), []
    while octets:
        length = int.from_bytes(octets[:LENGTH_OCTETS])
        found.append(octets[LENGTH_OCTETS : LENGTH_OCTETS + length])
        octets = octets[LENGTH_OCTETS + length :]
    return found


def handed_over(folder: Path) -> Snapshot:
    """The snapshot at the other end."""
    assembly = Assembly()
    for piece in pieces(folder):
        assert assembly.snapshot is None
        assembly.take(piece)
    assert assembly.snapshot is not None
    return assembly.snapshot


def test_the_same_snapshot(folder: Path) -> None:
    """Applications, client IDs, routes, revision and files are those of a reading here."""
    here = load_snapshot(folder / "portal.yaml", [folder / "policy.yaml"], time.time())
    there = handed_over(folder)
    assert isinstance(there.portal.applications, PackedApplications)
    assert there.portal == here.portal
    assert there.portal.index == here.portal.index
    assert (there.revision, there.files) == (here.revision, here.files)
    assert repr(list(there.router)) == repr(list(here.router))  # each is equal to itself alone
    diff = diff_portals(here.portal, there.portal)
    assert not (diff.added or diff.removed or diff.changed)


def test_it_decides(folder: Path) -> None:
    """A request is decided by it, and routes are found in it."""
    snapshot = handed_over(folder)
    token = material.jws(KEY, material.default_claims(iss="a", jti="1"))
    headers = ((b"X-IBM-Client-Id", b"other-100"), (b"jwt", token.encode()))
    decision = decide(snapshot, RequestFacts("GET", b"/files/x", headers), time.time())
    assert isinstance(decision, Allowed)
    assert decision.application.name == "app-100"


def test_problems_are_handed_over(folder: Path) -> None:
    """Every problem of every file, the same as here."""
    (folder / "client.key").unlink()
    portal = folder / "portal.yaml"
    portal.write_text(portal.read_text().replace("state: enabled", "state: on", 2))
    with pytest.raises(ProblemsFound) as here:
        load_snapshot(portal, [folder / "policy.yaml"], time.time())
    with pytest.raises(ProblemsFound) as there:
        handed_over(folder)
    assert len(there.value.problems) == 3
    assert there.value.problems == here.value.problems


def test_no_snapshot_before_the_last_piece(folder: Path) -> None:
    """A process that dies on the way leaves nothing that could be taken up."""
    found = pieces(folder)
    for count in range(len(found)):
        assembly = Assembly()
        for piece in found[:count]:
            assembly.take(piece)
        assert assembly.snapshot is None


def test_what_a_policy_says_besides(tmp_path: Path) -> None:
    """Headers for the upstream, report mode, CORS, open routes and answers come through as they are."""
    policy = """\
errors: {profile: rfc, overrides: {jws_missing: {status: 403}}}
routes:
  - {path: /a, upstream: {claims: {X-Sub: sub}}, mode: report, jws: {header: a, also: [{cookie: b}]}}
  - {path: /b, cors: {origins: ["https://a.example"]}}
  - {path: /c, open: true}
"""
    here = Router()
    assert build_routes(read_document("policy.yaml", policy.encode()), here, NoFiles()) == []
    (tmp_path / "portal.yaml").write_text(material.portal_yaml([]))
    (tmp_path / "policy.yaml").write_text(policy)
    there = handed_over(tmp_path).router
    for name in ("upstream", "report", "jws", "cors", "open", "errors"):
        assert [getattr(route, name) for route in there] == [getattr(route, name) for route in here]
    assert (there.errors, there.dropped_headers, there.has_cors) == (here.errors, here.dropped_headers, True)
