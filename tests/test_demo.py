"""The demo: keys and certificates that are there when needed, and an upstream that shows what arrived."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import material
from jwsgate import demo
from jwsgate.adapters.launcher import RunSettings
from jwsgate.core.certificates import read_certificate
from jwsgate.demo import demo_settings, ensure_pair, start_echo_upstream
from unit_material import ROOT


def mode(path: Path) -> int:
    """The rights on a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate, made just now."""
    key, certificate = tmp_path / "a.key", tmp_path / "a.crt"
    assert ensure_pair(key, certificate, "a name")
    return key, certificate


# Pairs


def test_pair_belongs_together(pair: tuple[Path, Path]) -> None:
    """The certificate is the key's, good now and for two years, and can be registered."""
    key = serialization.load_pem_private_key(pair[0].read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(pair[1].read_bytes())
    now = datetime.now(UTC)
    assert key.public_key() == certificate.public_key()
    assert certificate.not_valid_before_utc < now
    assert certificate.not_valid_after_utc > now + timedelta(days=700)
    assert certificate.subject.rfc4514_string() == "CN=a name"
    assert read_certificate(pair[1].read_text()).key.algorithms[0] == "RS256"


def test_private_key_is_private(pair: tuple[Path, Path]) -> None:
    """Nobody else reads the key; everybody may read the certificate, which holds no key."""
    assert mode(pair[0]) == 0o600
    assert mode(pair[1]) & 0o600 == 0o600
    assert "PRIVATE" not in pair[1].read_text()


def test_private_key_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """A careless umask opens nothing."""
    before = os.umask(0)
    try:
        ensure_pair(tmp_path / "a.key", tmp_path / "a.crt", "a")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a.key") == 0o600
    assert mode(tmp_path / "a.crt") == 0o644


def test_usable_pair_is_kept(pair: tuple[Path, Path]) -> None:
    """The second start changes nothing."""
    before = [path.read_bytes() for path in pair]
    assert not ensure_pair(*pair, "another name")
    assert before == [path.read_bytes() for path in pair]


def test_nothing_else_is_left(pair: tuple[Path, Path]) -> None:
    """No temporary files."""
    assert sorted(path.name for path in pair[0].parent.iterdir()) == ["a.crt", "a.key"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda key, certificate: key.unlink(), id="no-key"),
        pytest.param(lambda key, certificate: certificate.unlink(), id="no-certificate"),
        pytest.param(lambda key, certificate: key.write_text(""), id="empty-key"),
        pytest.param(lambda key, certificate: certificate.write_text("x"), id="garbage-certificate"),
        pytest.param(
            lambda key, certificate: key.write_text(material.private_pem(material.private_key("rsa"))), id="another-key"
        ),
        pytest.param(lambda key, certificate: key.write_bytes(key.read_bytes()[:500]), id="key-cut-short"),
    ],
)
def test_damaged_pair_is_made_again(pair: tuple[Path, Path], damage: object) -> None:
    """Whatever became of the files, the next start mends them."""
    damage(*pair)  # type: ignore[operator]
    assert ensure_pair(*pair, "a name")
    assert not ensure_pair(*pair, "a name")
    assert mode(pair[0]) == 0o600


@pytest.mark.parametrize(("days", "made"), [(-1, True), (6.9, True), (8, False)], ids=["expired", "soon", "good"])
def test_expiring_pair_is_made_again(tmp_path: Path, days: float, made: bool) -> None:
    """A certificate is renewed a week before its end."""
    key = material.private_key("rsa")
    paths = tmp_path / "a.key", tmp_path / "a.crt"
    paths[0].write_text(material.private_pem(key))
    paths[1].write_text(material.certificate(key, from_days=-9, to_days=days))
    assert made == ensure_pair(*paths, "a name")


def test_key_with_password_is_made_again(pair: tuple[Path, Path]) -> None:
    """A key that cannot be read without asking serves no demo."""
    key = serialization.load_pem_private_key(pair[0].read_bytes(), None)
    pair[0].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    assert ensure_pair(*pair, "a name")


def test_leftover_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    """In a container every start has the same process ID: what one left behind must not stop the next."""
    (tmp_path / f"a.key.{os.getpid()}.tmp").write_text("")
    assert ensure_pair(tmp_path / "a.key", tmp_path / "a.crt", "a")


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """Told as OSError, as documented."""
    with pytest.raises(OSError):
        ensure_pair(tmp_path / "no" / "a.key", tmp_path / "no" / "a.crt", "a")


def test_pair_of_a_server(tmp_path: Path) -> None:
    """With hosts: key and certificate in one private file, which TLS clients accept for each of the hosts."""
    path = tmp_path / "gate.pem"
    assert ensure_pair(path, path, "localhost", ("localhost", "127.0.0.1", "::1"))
    assert not ensure_pair(path, path, "localhost", ("localhost", "127.0.0.1", "::1"))
    assert mode(path) == 0o600
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path)
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


# The echo upstream


@pytest.fixture(scope="module")
def echo() -> Iterator[http.client.HTTPConnection]:
    """A connection to the echo upstream, kept for many requests."""
    parts = urlsplit(start_echo_upstream())
    assert parts.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=10)
    yield connection
    connection.close()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_echo(echo: http.client.HTTPConnection, method: str) -> None:
    """What arrived, as JSON, for any method; the connection stays."""
    echo.request(method, "/a?b=c", b"gr\xc3\xbc\xc3\x9fe", {"X-A": "1", "x-a": "2"})
    response = echo.getresponse()
    seen = json.loads(response.read())
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert ("echo", method, "/a?b=c", "grüße") == (seen["upstream"], seen["method"], seen["path"], seen["body"])
    assert [header for header in seen["headers"] if header[0].lower() == "x-a"] == [["X-A", "1"], ["x-a", "2"]]


def test_echo_of_head(echo: http.client.HTTPConnection) -> None:
    """HEAD has no body, and the next request on the connection is answered."""
    echo.request("HEAD", "/")
    assert echo.getresponse().read() == b""
    test_echo(echo, "GET")


def test_echo_of_octets(echo: http.client.HTTPConnection) -> None:
    """A body that is no text does not matter."""
    echo.request("POST", "/", b"\xff\x00")
    assert json.loads(echo.getresponse().read())["body"] == "\ufffd\0"


def test_echo_of_a_chunked_body(echo: http.client.HTTPConnection) -> None:
    """A chunked body is a body, not the start of the next request."""
    echo.request("POST", "/", iter([b"one", b"two"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    response = echo.getresponse()
    body = json.loads(response.read())["body"]
    echo.close()
    assert body == "onetwo"


# Settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without keys."""
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "portal.yaml").write_bytes((ROOT / "certs" / "portal.yaml").read_bytes())
    monkeypatch.setattr(demo, "_PROJECT", tmp_path)
    return tmp_path


PLAIN = RunSettings(upstream="", listen_host="127.0.0.1", listen_port=8443, portal="", policies=())


def test_demo_settings(project: Path) -> None:
    """Everything that the demo needs, made on the spot."""
    settings = demo_settings(PLAIN)
    assert settings.upstream.startswith("http://127.0.0.1:")
    expected = (
        str(project / "certs" / "portal.yaml"),
        (str(project / "policies" / "signvalidate.yaml"),),
        str(project / "certs" / "demo-gate.pem"),
        (f"confdir={project / 'certs' / 'mitmproxy'}",),
        ("127.0.0.1", 8443, "none"),
    )
    assert expected == (
        settings.portal,
        tuple(settings.policies),
        settings.tls_certificate,
        tuple(settings.mitmproxy_options),
        (settings.listen_host, settings.listen_port, settings.ui),
    )
    made = {path.name for path in (project / "certs").iterdir()}
    assert {"portal.yaml", "demo-client.key", "demo-client.crt", "demo-gate.pem"} == made


def test_demo_settings_leave_what_was_said(project: Path) -> None:
    """What the user named himself stays, and his mitmproxy options come last, so that they win."""
    said = RunSettings(
        upstream="http://127.0.0.1:9",
        listen_host="::1",
        listen_port=1,
        portal="p.yaml",
        policies=("q.yaml", "r.yaml"),
        tls_certificate="t.pem",
        ui="web",
        mitmproxy_options=("confdir=/x", "web_port=8081"),
    )
    settings = demo_settings(said)
    assert (f"confdir={project / 'certs' / 'mitmproxy'}", "confdir=/x", "web_port=8081") == tuple(
        settings.mitmproxy_options
    )
    names = ("upstream", "listen_host", "listen_port", "portal", "policies", "tls_certificate", "ui")
    assert [getattr(said, name) for name in names] == [getattr(settings, name) for name in names]


def test_demo_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed as a wheel there is no demo, and that is told."""
    monkeypatch.setattr(demo, "_PROJECT", tmp_path)
    with pytest.raises(FileNotFoundError, match="needs a checkout"):
        demo_settings(PLAIN)
