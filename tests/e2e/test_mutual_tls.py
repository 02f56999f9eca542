"""Mutual TLS: the JWS, and besides it the TLS client certificate that the application registered."""

from __future__ import annotations

import base64
import os
import signal
import ssl
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

import material
from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import ED25519, KEYS, NO_CERTIFICATE, P256, P384, P521, RSA, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Connection, Header, Response, Tls, exchange, h2_exchange, tls_context
from e2e.upstream import RecordingUpstream
from feature_material import CA_BASIC, DAY, issue

pytestmark = pytest.mark.e2e

POLICY = """\
defaults: {client_certificate: required}
routes:
  - path: /mutual/**
  - path: /claims
    respond: claims
  - path: /body/**
    jws: {header: jwt, detached: true}
  - path: /free/**
    client_certificate: none
  - path: /rfc9440/**
    client_certificate: {header: Client-Cert, format: rfc9440, from: [127.0.0.1]}
  - path: /pem/**
    client_certificate: {header: X-Client-Cert, format: url-encoded-pem, from: ["::1", 127.0.0.0/31]}
  - path: /der/**
    client_certificate: {header: X-Client-Der, format: base64-der, from: [127.0.0.1]}
  - path: /xfcc/**
    client_certificate: {header: X-Forwarded-Client-Cert, format: xfcc, from: [127.0.0.1]}
"""
NAMES = {RSA: "rsa", P256: "p256", P384: "p384", P521: "p521", ED25519: "ed25519"}
STRANGER = "stranger"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
BALANCER = "127.0.0.1"
ELSEWHERE = "127.0.0.2"


def certificate_of(client_id: str) -> str:
    """The certificate of an application as PEM, or one that nobody registered."""
    if client_id == STRANGER:
        return material.certificate(material.private_key("p256", STRANGER), STRANGER)
    return material.certificate(KEYS[client_id], NAMES[client_id])


@dataclass(frozen=True, slots=True)
class Clients:
    """Where clients' certificates and keys are."""

    directory: Path

    def context(
        self, client_id: str | None = None, *, protocol: str = "http/1.1", version: ssl.TLSVersion | None = None
    ) -> ssl.SSLContext:
        """A context that shows the certificate of an application, or none."""
        context = tls_context(protocol)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if client_id is not None:
            key = material.private_key("p256", STRANGER) if client_id == STRANGER else KEYS[client_id]
            file = self.directory / f"{client_id}.pem"
            file.write_text(certificate_of(client_id) + material.private_pem(key))
            context.load_cert_chain(file)
        return context

    def tls(self, client_id: str | None = None, **options: Any) -> Tls:
        """How to connect with the certificate of an application, or none."""
        return Tls(self.context(client_id, **options))


def lower(headers: Iterable[Header]) -> list[Header]:
    """As HTTP/2 has header names."""
    return [(name.lower(), value) for name, value in headers]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Clients:
    """The clients of these tests."""
    return Clients(tmp_path_factory.mktemp("clients"))


def gate_certificate(path: Path, label: str = "gate") -> Path:
    """A certificate for the gate, and its key, in one file."""
    key = material.private_key("p256", label)
    path.write_text(material.certificate(key, label) + material.private_pem(key))
    return path


def arguments(door: Door, own: Path | None) -> dict[str, Any]:
    """How either door is told its certificate."""
    if own is None:
        return {}
    return (
        {"arguments": ["--tls-cert", str(own)]} if door == "jwsgate run" else {"options": [f"jwsgate_tls_cert={own}"]}
    )


@pytest.fixture(scope="module", params=["own", "issued"])
def mutual_gate(
    request: pytest.FixtureRequest,
    door: Door,
    home: Path,
    session_upstream: RecordingUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gate]:
    """A gate with its own certificate, and one whose certificate mitmproxy's CA issues."""
    files = write_files(tmp_path_factory.mktemp("mutual"), policy=POLICY)
    own = gate_certificate(files.directory / "gate.pem") if request.param == "own" else None
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=session_upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            **arguments(door, own),
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate
        alive = gate.process.poll() is None
    assert alive, gate.log()
    assert "Traceback" not in gate.log()


# The certificate of the connection


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client_id", NAMES, ids=NAMES.values())
def test_registered_certificate_passes(
    mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients, client_id: str, version: ssl.TLSVersion
) -> None:
    """Every kind of key, in both versions of TLS."""
    tls = clients.tls(client_id, version=version)
    assert exchange(mutual_gate.port, "GET", "/mutual/a", credentials(client_id), tls=tls).status == 200
    assert upstream.only_request().target == b"/mutual/a"


@pytest.mark.parametrize("client_id", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_registered_certificate_passes_in_h2(
    mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients, client_id: str
) -> None:
    """Over HTTP/2 too."""
    tls = clients.tls(client_id, protocol="h2")
    assert h2_exchange(mutual_gate.port, "GET", "/mutual/a", lower(credentials(client_id)), tls=tls).status == 200
    upstream.only_request()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        pytest.param(P384, "client_certificate_mismatch", id="another-application"),
        pytest.param(STRANGER, "client_certificate_mismatch", id="unregistered"),
        pytest.param(None, "client_certificate_missing", id="none"),
    ],
)
def test_other_certificates_are_refused(
    mutual_gate: Gate,
    upstream: RecordingUpstream,
    clients: Clients,
    shown: str | None,
    reason: str,
    version: ssl.TLSVersion,
) -> None:
    """However good the JWS is, and whatever the route does with it."""
    tls = clients.tls(shown, version=version)
    for target in ("/mutual/a", "/claims", "/body/a"):
        assert_rejected(exchange(mutual_gate.port, "GET", target, credentials(P256), tls=tls), reason)
    tls = clients.tls(shown, version=version, protocol="h2")
    assert_rejected(h2_exchange(mutual_gate.port, "GET", "/mutual/a", lower(credentials(P256)), tls=tls), reason)
    upstream.assert_untouched()


def test_plaintext_is_refused(mutual_gate: Gate, upstream: RecordingUpstream) -> None:
    """There is no certificate without TLS."""
    response = exchange(mutual_gate.port, "GET", "/mutual/a", credentials(P256))
    assert_rejected(response, "client_certificate_missing")
    upstream.assert_untouched()


def test_the_certificate_replaces_no_jws(mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients) -> None:
    """Both are needed, and what is wrong with the certificate on record is told first."""
    tls = clients.tls(P256)
    named = [("X-IBM-Client-Id", P256)]
    assert_rejected(exchange(mutual_gate.port, "GET", "/mutual/a", named, tls=tls), "jws_missing")
    forged = credentials(P256, material.jws(KEYS[P384], header={"alg": "ES384"}))
    assert_rejected(exchange(mutual_gate.port, "GET", "/mutual/a", forged, tls=tls), "algorithm_not_allowed")
    without = credentials(NO_CERTIFICATE, material.jws(KEYS[P256]))
    assert_rejected(exchange(mutual_gate.port, "GET", "/mutual/a", without, tls=tls), "certificate_missing")
    upstream.assert_untouched()


def test_a_verified_jws_does_not_lend_its_certificate(
    mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients
) -> None:
    """The very JWS that has just passed, sent again by others: the cache skips no certificate."""
    good = credentials(P256)
    assert exchange(mutual_gate.port, "GET", "/mutual/a", good, tls=clients.tls(P256)).status == 200
    upstream.clear()
    for shown, reason in ((P384, "client_certificate_mismatch"), (None, "client_certificate_missing")):
        assert_rejected(exchange(mutual_gate.port, "GET", "/mutual/a", good, tls=clients.tls(shown)), reason)
    assert_rejected(exchange(mutual_gate.port, "GET", "/mutual/a", good), "client_certificate_missing")
    upstream.assert_untouched()


def test_a_route_without_the_demand(mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients) -> None:
    """Certificates do not matter there: any, none, plaintext."""
    for tls in (clients.tls(STRANGER), clients.tls(), False):
        assert exchange(mutual_gate.port, "GET", "/free/a", credentials(P256), tls=tls).status == 200
    assert len(upstream.requests) == 3


def test_a_certificate_sent_along_proves_nothing(
    mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients, tmp_path: Path
) -> None:
    """A client that shows another application's certificate behind its own."""
    chain = tmp_path / "chain.pem"
    key = material.private_key("p256", STRANGER)
    chain.write_text(certificate_of(STRANGER) + certificate_of(P256) + material.private_pem(key))
    context = tls_context()
    context.load_cert_chain(chain)
    response = exchange(mutual_gate.port, "GET", "/mutual/a", credentials(P256), tls=Tls(context))
    assert_rejected(response, "client_certificate_mismatch")
    upstream.assert_untouched()


def test_a_certificate_sent_along_behind_an_unreadable_one(
    mutual_gate: Gate, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """mitmproxy drops a certificate that it cannot parse, and has the next one in its place as the first."""
    leaf = issue(STRANGER, extensions=[(CA_BASIC, True)], start=time.time() - DAY, end=time.time() + DAY)
    der = leaf.certificate.public_bytes(Encoding.DER)
    critical = bytes.fromhex("0603551d130101ff")  # OpenSSL takes any octet but 0 for true, strict DER only 0xff
    assert der.count(critical) == 1
    weird = ssl.DER_cert_to_PEM_cert(der.replace(critical, critical[:-1] + b"\x01"))
    chain = tmp_path / "chain.pem"
    chain.write_text(weird + certificate_of(P256) + material.private_pem(leaf.key))
    context = tls_context()
    context.load_cert_chain(chain)
    response = exchange(mutual_gate.port, "GET", "/mutual/a", credentials(P256), tls=Tls(context))
    assert_rejected(response, "client_certificate_mismatch")
    upstream.assert_untouched()


# Sessions


def first_session(port: int, tls: Tls, client_id: str = P256) -> tuple[Response, ssl.SSLSession]:
    """One request on a full handshake, and the session to resume."""
    with Connection(port, tls=tls) as connection:
        response = connection.exchange("GET", "/mutual/a", credentials(client_id))
        assert not connection.secured.session_reused
        session = connection.secured.session
        assert session is not None
        return response, session


def resumed(port: int, tls: Tls, session: ssl.SSLSession, client_id: str = P256) -> Response:
    """One request on a resumed session."""
    with Connection(port, tls=Tls(tls.context, session)) as connection:
        response = connection.exchange("GET", "/mutual/a", credentials(client_id))
        assert connection.secured.session_reused, "not resumed, so that nothing is shown"
        return response


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client_id", [RSA, P256, ED25519], ids=["rsa", "p256", "ed25519"])
def test_resumed_session_keeps_its_certificate(
    mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients, version: ssl.TLSVersion, client_id: str
) -> None:
    """A resumed connection has the certificate that the session began with, and so passes for it alone."""
    tls = clients.tls(client_id, version=version)
    response, session = first_session(mutual_gate.port, tls, client_id)
    assert response.status == 200
    assert resumed(mutual_gate.port, tls, session, client_id).status == 200
    assert len(upstream.requests) == 2
    upstream.clear()
    assert_rejected(resumed(mutual_gate.port, tls, session, P384), "client_certificate_mismatch")
    upstream.assert_untouched()


@pytest.mark.parametrize("version", VERSIONS)
def test_resumed_session_without_certificate(
    mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients, version: ssl.TLSVersion
) -> None:
    """What began without a certificate has none later."""
    tls = clients.tls(version=version)
    response, session = first_session(mutual_gate.port, tls)
    assert_rejected(response, "client_certificate_missing")
    assert_rejected(resumed(mutual_gate.port, tls, session), "client_certificate_missing")
    upstream.assert_untouched()


# The header of a balancer


def base64_der(client_id: str) -> str:
    """The certificate as one line of base64."""
    return "".join(certificate_of(client_id).splitlines()[1:-1])


def in_header(form: str, client_id: str) -> Header:
    """A certificate as a balancer passes it on."""
    pem = certificate_of(client_id)
    match form:
        case "rfc9440":
            return "Client-Cert", f":{base64_der(client_id)}:"
        case "pem":
            return "X-Client-Cert", urllib.parse.quote(pem, safe="")
        case "der":
            return "X-Client-Der", base64_der(client_id)
        case _:
            digest = load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()
            return "X-Forwarded-Client-Cert", f'By=spiffe://x/y;Hash={digest};Subject="CN=a,O=\\"b;Hash=c\\""'


FORMS = ["rfc9440", "pem", "der", "xfcc"]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "h2"])
@pytest.mark.parametrize("form", FORMS)
def test_header_of_a_listed_balancer(mutual_gate: Gate, upstream: RecordingUpstream, form: str, tls: bool) -> None:
    """It counts as though the client had shown the certificate here."""

    def sent(client_id: str, *headers: Header) -> Response:
        fields = [*credentials(client_id), *headers]
        if not tls:
            return exchange(mutual_gate.port, "GET", f"/{form}/a", fields)
        return h2_exchange(mutual_gate.port, "GET", f"/{form}/a", lower(fields))

    assert sent(P256, in_header(form, P256)).status == 200
    assert upstream.only_request().target == f"/{form}/a".encode()
    upstream.clear()
    assert_rejected(sent(P256, in_header(form, P384)), "client_certificate_mismatch")
    assert_rejected(sent(P256, in_header(form, STRANGER)), "client_certificate_mismatch")
    assert_rejected(sent(P256), "client_certificate_missing")
    assert_rejected(sent(P256, (in_header(form, P256)[0], "")), "client_certificate_missing")
    upstream.assert_untouched()


@pytest.mark.parametrize("secured", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("form", FORMS)
def test_header_of_anybody_else(
    mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients, form: str, secured: bool
) -> None:
    """Refused on every route, also beside a good client certificate and a forwarded address."""
    own = clients.context(P256) if secured else None
    forged = [
        *credentials(P256),
        in_header(form, P256),
        ("X-Forwarded-For", BALANCER),
        ("Forwarded", f"for={BALANCER}"),
    ]
    for target in (f"/{form}/a", "/mutual/a", "/free/a", "/claims"):
        response = exchange(mutual_gate.port, "GET", target, forged, tls=Tls(own, source=ELSEWHERE))
        # The one network of two addresses has the other as well.
        assert_rejected(response, "request_unsafe")
    upstream.assert_untouched()


def test_a_client_certificate_is_no_header(mutual_gate: Gate, upstream: RecordingUpstream, clients: Clients) -> None:
    """Where the header is demanded, the certificate of the connection is that of the balancer."""
    for source in (BALANCER, ELSEWHERE):
        tls = Tls(clients.context(P256), source=source)
        assert_rejected(
            exchange(mutual_gate.port, "GET", "/pem/a", credentials(P256), tls=tls), "client_certificate_missing"
        )
    upstream.assert_untouched()


@pytest.mark.parametrize("source", [BALANCER, ELSEWHERE])
@pytest.mark.parametrize("target", ["/pem/a", "/free/a"])
@pytest.mark.parametrize("name", ["X_Client_Cert", "X.Client.Cert", "x-client_cert", "X-CLIENT.CERT"], ids=str)
def test_look_alikes(mutual_gate: Gate, upstream: RecordingUpstream, name: str, target: str, source: str) -> None:
    """An upstream may fold them into the header; alone or beside it, from the balancer too."""
    true_header = in_header("pem", P256)
    alike = (name, in_header("pem", P256)[1])
    for headers in ([alike], [true_header, alike], [alike, true_header]):
        response = exchange(mutual_gate.port, "GET", target, [*credentials(P256), *headers], tls=Tls(source=source))
        assert_rejected(response, "request_unsafe")
    upstream.assert_untouched()


@pytest.mark.parametrize("second", ["X-Client-Cert", "x-client-cert", "X-CLIENT-CERT"])
def test_repeated(mutual_gate: Gate, upstream: RecordingUpstream, second: str) -> None:
    """In whatever case, on the route and on all others; the balancer's is one of the two, and nobody knows which."""
    first = in_header("pem", P384)
    again = (second, in_header("pem", P256)[1])
    for target in ("/pem/a", "/free/a"):
        for pair in ([first, again], [again, first], [again, again]):
            response = exchange(mutual_gate.port, "GET", target, [*credentials(P256), *pair])
            assert_rejected(response, "request_unsafe")
    upstream.assert_untouched()


def test_other_case_is_the_same_header(mutual_gate: Gate, upstream: RecordingUpstream) -> None:
    """HTTP header names have no case."""
    header = ("x-CLIENT-cert", in_header("pem", P256)[1])
    assert exchange(mutual_gate.port, "GET", "/pem/a", [*credentials(P256), header]).status == 200
    upstream.only_request()


def test_the_balancer_on_other_routes(mutual_gate: Gate, upstream: RecordingUpstream) -> None:
    """It sets the header on all requests, and the upstream gets it."""
    header = in_header("pem", P384)
    assert exchange(mutual_gate.port, "GET", "/free/a", [*credentials(P256), header]).status == 200
    assert upstream.only_request().values("X-Client-Cert") == [str(header[1]).encode()]


DER = base64_der(P256)
PEM = urllib.parse.quote(certificate_of(P256), safe="")
MALFORMED = [
    pytest.param("/pem/a", "X-Client-Cert", "garbage", id="garbage"),
    pytest.param("/pem/a", "X-Client-Cert", DER, id="der-for-pem"),
    pytest.param("/pem/a", "X-Client-Cert", PEM[:-20], id="cut-short"),
    pytest.param("/pem/a", "X-Client-Cert", PEM + "%00", id="nul-behind"),
    pytest.param("/pem/a", "X-Client-Cert", "x" + PEM, id="text-before"),
    pytest.param("/pem/a", "X-Client-Cert", f"{PEM},{PEM}", id="joined-by-comma"),
    pytest.param("/pem/a", "X-Client-Cert", PEM.replace("CERTIFICATE", "PRIVATE%20KEY"), id="other-label"),
    pytest.param("/rfc9440/a", "Client-Cert", DER, id="without-colons"),
    pytest.param("/rfc9440/a", "Client-Cert", f":{DER}:;a=b", id="parameters"),
    pytest.param("/rfc9440/a", "Client-Cert", f":{DER}:, :{DER}:", id="list"),
    pytest.param("/rfc9440/a", "Client-Cert", f":{DER[:-3]}:", id="bad-padding"),
    pytest.param("/rfc9440/a", "Client-Cert", "::", id="no-octets"),
    pytest.param("/der/a", "X-Client-Der", f"{DER},{DER}", id="two-of-base64"),
    pytest.param("/der/a", "X-Client-Der", DER + "=", id="too-much-padding"),
    pytest.param("/der/a", "X-Client-Der", b"\xff\xfe", id="beyond-ascii"),
    pytest.param("/xfcc/a", "X-Forwarded-Client-Cert", "By=a", id="no-hash"),
    pytest.param("/xfcc/a", "X-Forwarded-Client-Cert", f"Hash={'a' * 63}", id="short-hash"),
]


@pytest.mark.parametrize(("target", "name", "value"), MALFORMED)
def test_malformed_values(
    mutual_gate: Gate, upstream: RecordingUpstream, target: str, name: str, value: str | bytes
) -> None:
    """From the listed balancer itself."""
    response = exchange(mutual_gate.port, "GET", target, [*credentials(P256), (name, value)])
    assert_rejected(response, "request_unsafe")
    upstream.assert_untouched()


def test_two_elements_of_envoy(mutual_gate: Gate, upstream: RecordingUpstream) -> None:
    """Envoy that appends lets the client's own element stand before its own."""
    name, value = in_header("xfcc", P256)
    _, other = in_header("xfcc", P384)
    twice = str(value).replace("Subject", f"Hash={'0' * 64};Subject")
    for text in (f"{value},{other}", f"{other},{value}", twice):
        response = exchange(mutual_gate.port, "GET", "/xfcc/a", [*credentials(P256), (name, text)])
        assert_rejected(response, "request_unsafe")
    upstream.assert_untouched()


def test_a_chain_behind_the_certificate(mutual_gate: Gate, upstream: RecordingUpstream) -> None:
    """AWS sends the chain, the client's certificate first; "+" stands for itself there."""
    chain = urllib.parse.quote(certificate_of(P256) + certificate_of(P384), safe="+=/")
    send = [*credentials(P256), ("X-Client-Cert", chain)]
    assert exchange(mutual_gate.port, "GET", "/pem/a", send).status == 200
    upstream.only_request()
    upstream.clear()
    send = [*credentials(P384), ("X-Client-Cert", chain)]
    assert_rejected(exchange(mutual_gate.port, "GET", "/pem/a", send), "client_certificate_mismatch")
    upstream.assert_untouched()


def test_der_is_what_is_compared() -> None:
    """The base64 of these tests is that of the certificate."""
    assert load_pem_x509_certificate(certificate_of(P256).encode()).public_bytes(Encoding.DER) == base64.b64decode(DER)


# A policy that comes to demand certificates


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("has_own", [True, False], ids=["own", "issued"])
def test_demand_that_comes_with_a_new_policy(
    home: Path, upstream: RecordingUpstream, clients: Clients, tmp_path: Path, version: ssl.TLSVersion, has_own: bool
) -> None:
    """The listener asks for certificates from then on. Connections and sessions from before have none."""
    files = write_files(tmp_path / "files", policy="routes: [{path: /mutual/**}]")
    own = gate_certificate(tmp_path / "gate.pem") if has_own else None
    tls = clients.tls(P256, version=version)
    with gates.running(
        lambda port: gates.command(
            "jwsgate run",
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            **arguments("jwsgate run", own),
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run",
    ) as gate:
        with Connection(gate.port, tls=tls) as kept:
            assert kept.exchange("GET", "/mutual/a", credentials(P256)).status == 200
            session = kept.secured.session
            files.policy.write_text("routes: [{path: /mutual/**, client_certificate: required}]")
            os.kill(gate.process.pid, signal.SIGHUP)
            gate.wait_for_log("reloaded")
            upstream.clear()
            assert_rejected(kept.exchange("GET", "/mutual/a", credentials(P256)), "client_certificate_missing")
            upstream.assert_untouched()
        with Connection(gate.port, tls=Tls(tls.context, session)) as connection:
            assert connection.exchange("GET", "/mutual/a", credentials(P256)).status == 200
            assert not connection.secured.session_reused
        upstream.only_request()
