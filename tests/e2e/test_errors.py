"""Problem details and a policy's own words on the wire, at both doors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import gates
from e2e.estate import P256, write_files
from e2e.gates import Door, Gate
from e2e.http_client import exchange
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e

POLICY = """\
errors:
  profile: rfc
  overrides: {jws_malformed: {status: 422, message: Odd, information: 'is "odd"'}}
routes:
  - path: /a
"""


@pytest.fixture(scope="module")
def rfc_gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate that answers as the RFCs say."""
    files = write_files(tmp_path_factory.mktemp("rfc"), policy=POLICY)
    with gates.running(
        lambda port: gates.command(
            door, upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate


def test_challenge(rfc_gate: Gate, upstream: RecordingUpstream) -> None:
    """A 401 with `WWW-Authenticate` and problem details."""
    response = exchange(rfc_gate.port, "GET", "/a", [("X-IBM-Client-Id", P256)])
    assert (response.status, response.value("www-authenticate")) == (401, "Bearer")
    assert response.value("content-type") == "application/problem+json"
    expected = {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "JWS is missing"}
    assert response.json() == expected
    upstream.assert_no_request()


def test_override(rfc_gate: Gate, upstream: RecordingUpstream) -> None:
    """The policy's own status and words, as JSON."""
    response = exchange(rfc_gate.port, "GET", "/a", [("X-IBM-Client-Id", P256), ("jwt", "x")])
    assert response.status == 422
    assert response.json() == {"type": "about:blank", "title": "Odd", "status": 422, "detail": 'is "odd"'}
    assert response.values("www-authenticate") == []
    upstream.assert_no_request()


def test_no_route(rfc_gate: Gate) -> None:
    """A request without a route is answered in the same way; HEAD without a body."""
    response = exchange(rfc_gate.port, "GET", "/b")
    assert (response.status, response.json()["status"]) == (404, 404)
    assert exchange(rfc_gate.port, "HEAD", "/b").body == b""
