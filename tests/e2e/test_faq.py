"""The answers of docs/faq.md, each against a gate with the policies that stand there."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import material
from docs_material import ROOT, blocks
from jwsgate.testing import Answer, ClientApplication, Gate, portal_export, start_gate
from unit_material import der_of

pytestmark = pytest.mark.e2e

CLIENT = ClientApplication.make("client", algorithm="ES256")
OTHER = ClientApplication.make("other", algorithm="ES256")


@pytest.fixture(scope="module")
def faq_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate with all policies of the page, in front of an upstream that echoes."""
    folder = tmp_path_factory.mktemp("faq")
    for block in blocks((ROOT / "docs/faq.md").read_text("utf-8")):
        if block.verb == "file":
            (folder / block.words[0]).write_text(block.text)
    # Where no route matches, the first policy that says how to answer speaks: so this one is the last.
    first, *others = sorted(folder.glob("*.yaml"), key=lambda path: path.name == "rfc.yaml")
    options = [word for path in others for word in ("--policy", str(path))]
    with start_gate(None, [CLIENT, OTHER], first, options) as gate:
        yield gate


@pytest.fixture
def gate(faq_gate: Gate) -> Gate:
    """The gate without the decisions of other tests."""
    return faq_gate.from_now()


def seen(answer: Answer, name: str) -> list[str]:
    """The values of a header that reached the upstream, in whatever spelling."""
    assert answer.status == 200, answer.body
    headers: list[tuple[str, str]] = answer.json()["headers"]
    return [value for key, value in headers if key.lower().replace("_", "-").replace(".", "-") == name.lower()]


def portal_command(*arguments: str) -> str:
    """What `jwsgate portal` prints."""
    command = [sys.executable, "-m", "jwsgate", "portal", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(gate: Gate, headers: dict[str, str], reason: str | None) -> None:
    """Ask until it is decided so; the page promises a second, and a busy machine gets more."""
    deadline = time.monotonic() + 10
    while True:
        gate.request("GET", "/leeway/1", headers)
        if gate.reasons()[-1] == reason:
            return
        assert time.monotonic() < deadline, gate.reasons()
        time.sleep(0.05)


def test_rotation(gate: Gate, tmp_path: Path) -> None:
    """Two keys side by side; a retired one is refused at once, what it had signed and was verified before included."""
    renewed = CLIENT.renewed()
    _, certificate = renewed.write(tmp_path)
    old, new = CLIENT.headers(), renewed.headers()
    wait_for(gate, old, None)
    portal_command("register", "--portal", str(gate.portal), CLIENT.client_id, str(certificate), "--overlap", "14d")
    wait_for(gate, new, None)
    wait_for(gate, old, None)
    thumbprint = hashlib.sha256(der_of(CLIENT.certificates[0])).hexdigest()
    portal_command("retire", "--portal", str(gate.portal), CLIENT.client_id, thumbprint)
    wait_for(gate, old, "signature_mismatch")
    wait_for(gate, new, None)
    gate.portal.write_text(portal_export([CLIENT, OTHER]))
    wait_for(gate, old, None)


def test_warning_before_expiry(tmp_path: Path) -> None:
    """`jwsgate lint` and `jwsgate portal list` tell."""
    portal = tmp_path / "portal.yaml"
    ending = ClientApplication.make("ending", algorithm="ES256", valid_to=timedelta(days=20, hours=1))
    portal.write_text(portal_export([CLIENT, ending]))
    command = [sys.executable, "-m", "jwsgate", "lint", "--portal", str(portal), "--expires-within"]
    assert subprocess.run([*command, "10"], check=False, capture_output=True).returncode == 0
    done = subprocess.run([*command, "30"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "expires" in done.stdout
    (line,) = [line for line in portal_command("list", "--portal", str(portal)).splitlines() if "ending" in line]
    assert line.endswith(" 20")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param({"x5c": [base64.b64encode(der_of(CLIENT.certificates[0])).decode()]}, None, id="own-x5c"),
        pytest.param(
            {"x5c": [base64.b64encode(der_of(OTHER.certificates[0])).decode()]}, "signature_mismatch", id="other-x5c"
        ),
        pytest.param({"jwk": {"kty": "oct", "k": "AAAA"}}, None, id="jwk"),
    ],
)
def test_certificates_in_the_jws(gate: Gate, header: dict[str, Any], reason: str | None) -> None:
    """They decide nothing, and must not contradict."""
    gate.request("GET", "/leeway/1", CLIENT.headers(header=header))
    assert gate.reasons() == [reason]


def test_algorithms_without_a_key(gate: Gate) -> None:
    """Neither `none` nor an HMAC by the certificate."""
    claims = material.compact_json(material.default_claims())
    pem = CLIENT.certificates[0].encode()
    for jws in (
        material.unsigned({"alg": "none"}, claims),
        material.unsigned({"alg": "none"}, claims, b"x" * 64),
        material.jws(pem, algorithm="HS256"),
    ):
        gate.request("GET", "/leeway/1", CLIENT.headers() | {"jwt": jws})
    assert gate.reasons() == ["jws_malformed", "algorithm_not_allowed", "algorithm_not_allowed"]


def test_refused_by_default(gate: Gate) -> None:
    """Nothing passes for want of something; the profile says what is answered."""
    headers = CLIENT.headers()
    named = {"X-IBM-Client-Id": CLIENT.client_id}
    answers = [
        gate.request("GET", path, given)
        for path, given in [("/leeway/1", named), ("/rfc/1", named), ("/rfc/1", {}), ("/unknown", headers)]
    ]
    assert [answer.status for answer in answers] == [500, 401, 401, 404]
    assert answers[1].headers["WWW-Authenticate"].startswith("Bearer")
    assert answers[1].headers["Content-Type"] == "application/problem+json"
    assert gate.reasons() == ["jws_missing", "jws_missing", "client_id_missing", "route_unknown"]
    assert [decision["transaction_id"] for decision in gate.decisions()] == [
        answer.headers["X-Global-Transaction-ID"] for answer in answers
    ]


def test_leeway(gate: Gate) -> None:
    """So many seconds, and none without it."""
    for path in ("/leeway/1", "/rfc/1"):
        gate.request("GET", path, CLIENT.headers({"exp": int(time.time()) - 15}))
    gate.request("GET", "/leeway/1", CLIENT.headers({"exp": int(time.time()) - 45}))
    assert gate.reasons() == [None, "jws_expired", "jws_expired"]


def test_large(gate: Gate) -> None:
    """16 KiB, or what the route says."""
    for path, octets in (("/rfc/1", 12_000), ("/rfc/1", 12_600), ("/large/1", 20_000), ("/large/1", 23_000)):
        gate.request("GET", path, CLIENT.headers({"padding": "x" * (octets - 300)}))
    assert gate.reasons() == [None, "jws_too_large", None, "jws_too_large"]


def test_one_application(gate: Gate) -> None:
    """More is demanded of one than of another."""
    for application, lifetime in ((CLIENT, 300), (OTHER, 300), (OTHER, 60)):
        gate.request("GET", "/narrow/1", application.headers(lifetime=lifetime))
    assert gate.reasons() == [None, "claim_mismatch", None]


def test_mistake_in_a_file(gate: Gate) -> None:
    """It is told with its place, and changes nothing."""
    good = gate.portal.read_text()
    gate.portal.write_text(good.replace("state: enabled", "state: enabeld"))
    deadline = time.monotonic() + 10
    while "not reloaded" not in gate.log():
        assert time.monotonic() < deadline, gate.log()
        time.sleep(0.05)
    assert re.search(r"portal\.yaml:\d+:\d+: results\[0\]\.state.*: ", gate.log())
    gate.request("GET", "/leeway/1", CLIENT.headers())
    assert gate.reasons() == [None]
    gate.portal.write_text(good)


@pytest.mark.parametrize("path", ["/told/../once/1", "/leeway%2f1", "/once//1", "/leeway/%2e%2e/once/1", "/once;a/1"])
def test_spellings(gate: Gate, path: str) -> None:
    """What an upstream might read otherwise is refused."""
    assert gate.request("GET", path, CLIENT.headers()).status == 400
    assert gate.reasons() == ["request_unsafe"]


def test_once(gate: Gate) -> None:
    """A `jti` is good once there, and often elsewhere."""
    headers = CLIENT.headers()
    for path in ("/leeway/1", "/leeway/1", "/once/1", "/once/1"):
        gate.request("GET", path, headers)
    assert gate.reasons() == [None, None, None, "jws_replayed"]


def test_bound(gate: Gate) -> None:
    """To method, path and the octets of the body."""
    body = b'{"a":1,"b":2}'
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
    headers = CLIENT.headers({"htm": "POST", "path": "/bound/1", "body_hash": digest})
    for method, path, sent in (
        ("POST", "/bound/1", body),
        ("PUT", "/bound/1", body),
        ("POST", "/bound/2", body),
        ("POST", "/bound/1", b'{"b":2,"a":1}'),
    ):
        gate.request(method, path, headers, sent)
    assert gate.reasons() == [None, *["binding_mismatch"] * 3]


def test_told(gate: Gate) -> None:
    """The JWS is taken off, and only what was verified is told; forged headers reach no route."""
    forged = {"X-Subject": "eve", "X_Subject": "eve", "X.SUBJECT": "eve", "x-caller": "eve"}
    answer = gate.request("GET", "/told/1", CLIENT.headers({"sub": "ann"}) | forged)
    assert [seen(answer, name) for name in ("jwt", "X-Subject", "X-Caller")] == [[], ["ann"], [CLIENT.client_id]]
    answer = gate.request("GET", "/leeway/1", CLIENT.headers({"sub": "ann"}) | forged)
    assert [len(seen(answer, name)) for name in ("jwt", "X-Subject", "X-Caller")] == [1, 0, 0]


def test_browser(gate: Gate) -> None:
    """The gate answers a preflight; whoever only says so needs a JWS."""
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    answer = gate.request("OPTIONS", "/browser/1", preflight)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert gate.request("GET", "/browser/1", preflight).status == 401


def test_report_mode(gate: Gate) -> None:
    """It passes, and is told."""
    assert gate.request("GET", "/report/1").json()["path"] == "/report/1"
    (decision,) = gate.decisions()
    assert (decision["decision"], decision["reason"]) == ("would_reject", "client_id_missing")
