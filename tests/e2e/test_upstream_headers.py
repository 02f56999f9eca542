"""What arrives at the upstream besides the request, at both doors: who called, and nothing that the caller forged."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import KEYS, P256, RSA, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Header, exchange, h2_exchange
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e

POLICY = """\
defaults:
  jws: {header: jwt, also: [{query: jwt}, {cookie: jwt}]}
routes:
  - path: /told/**
    upstream:
      strip_jws: true
      claims: {X-Sub: sub}
      claims_json: X-Claims
      application: X-App
      organization: X-Org
      client_id: X-Caller
      thumbprint: X-Thumbprint
  - path: /**
"""


@pytest.fixture(scope="module")
def telling_gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate with a route that tells everything, and one that tells nothing."""
    files = write_files(tmp_path_factory.mktemp("told"), policy=POLICY)
    with gates.running(
        lambda port: gates.command(
            door, upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate


def token(**claims: object) -> str:
    """A good JWS of the application p256."""
    return material.jws(KEYS[P256], material.default_claims(**claims))


FORGED: list[Header] = [
    *(("X-Sub", "root"), ("x_sub", "root"), ("X.SUB", "root"), ("x-Claims", "e30"), ("X_App", "root")),
    *(("X-Org", "root"), ("x.caller", "root"), ("X-THUMBPRINT", "00"), ("X-Global_Transaction-ID", "0")),
]
NAMES = {"xsub", "xclaims", "xapp", "xorg", "xcaller", "xthumbprint"}


def folded(name: str) -> str:
    """A header's name as a careless upstream reads it."""
    return "".join(filter(str.isalnum, name.lower()))


@pytest.mark.parametrize("tls", [False, True], ids=["http1", "http2"])
def test_upstream_is_told_what_was_verified(telling_gate: Gate, upstream: RecordingUpstream, tls: bool) -> None:
    """Once each, and whatever the caller wrote there is gone; so is the JWS."""
    jws = token(sub="alice\r\nX-Admin: 1")
    headers: list[Header] = [("X-IBM-Client-Id", P256), ("jwt", jws), *FORGED]
    if tls:
        lower = [(name.lower(), value) for name, value in headers]
        assert h2_exchange(telling_gate.port, "GET", "/told/1", lower).status == 200
    else:
        assert exchange(telling_gate.port, "GET", "/told/1", headers).status == 200
    request = upstream.only_request()
    found = {folded(name.decode()): value.decode() for name, value in request.headers}
    names = [folded(name.decode()) for name, _ in request.headers]
    assert all(names.count(name) == 1 for name in NAMES - {"xorg"})
    payload = base64.urlsafe_b64decode(jws.split(".")[1] + "==")
    assert base64.urlsafe_b64decode(found["xclaims"] + "==") == payload
    assert (found["xsub"], found["xapp"], found["xcaller"]) == ("alice%0D%0AX-Admin: 1", "p256", P256)
    assert "xorg" not in found
    assert "jwt" not in found
    assert len(found["xglobaltransactionid"]) == 24
    assert jws.encode() not in upstream.octets


def test_forged_headers_are_dropped_on_other_routes(telling_gate: Gate, upstream: RecordingUpstream) -> None:
    """An upstream that trusts X-Sub trusts it everywhere."""
    headers = [*credentials(RSA), *FORGED]
    assert exchange(telling_gate.port, "GET", "/other", headers).status == 200
    request = upstream.only_request()
    assert NAMES.isdisjoint(folded(name.decode()) for name, _ in request.headers)
    assert len(request.values("jwt")) == 1


def test_jws_is_taken_off_the_query(telling_gate: Gate, upstream: RecordingUpstream) -> None:
    """And the rest of the target goes upstream octet for octet."""
    target = f"/told/a%20b?x=%41+1&jwt={token()}&y="
    assert exchange(telling_gate.port, "GET", target, [("X-IBM-Client-Id", P256)]).status == 200
    assert upstream.only_request().target == b"/told/a%20b?x=%41+1&y="


def test_jws_is_taken_off_the_cookies(telling_gate: Gate, upstream: RecordingUpstream) -> None:
    """The other cookies stay."""
    headers = [("X-IBM-Client-Id", P256), ("Cookie", f"a=1; jwt={token()}; b=2")]
    assert exchange(telling_gate.port, "GET", "/told/1", headers).status == 200
    assert upstream.only_request().values("cookie") == [b"a=1; b=2"]


def test_large_upload_is_told_too(telling_gate: Gate, upstream: RecordingUpstream) -> None:
    """A body that is passed on as it comes is released earlier, on another way."""
    body = b"x" * 300_000
    target = f"/told/1?jwt={token(sub='bob')}"
    headers: list[Header] = [("X-IBM-Client-Id", P256), ("X-Sub", "root")]
    assert exchange(telling_gate.port, "POST", target, headers, body).status == 200
    request = upstream.only_request()
    assert (request.target, request.body, request.values("x-sub")) == (b"/told/1", body, [b"bob"])


@pytest.mark.parametrize("value", [["a"], "x" * 2000, None], ids=["list", "long", "null"])
def test_what_cannot_be_told_is_refused(telling_gate: Gate, upstream: RecordingUpstream, value: object) -> None:
    """And nothing of it arrives."""
    headers: list[Header] = [("X-IBM-Client-Id", P256), ("jwt", token(sub=value))]
    assert_rejected(exchange(telling_gate.port, "GET", "/told/1", headers), "claims_malformed")
    upstream.assert_no_request()


def test_two_places_are_refused(telling_gate: Gate, upstream: RecordingUpstream) -> None:
    """The same JWS in the header and in the query."""
    jws = token()
    headers: list[Header] = [("X-IBM-Client-Id", P256), ("jwt", jws)]
    assert_rejected(exchange(telling_gate.port, "GET", f"/x?jwt={jws}", headers), "jws_repeated")
    upstream.assert_no_request()
