"""TLS of the gate: its own certificate and how it is renewed, plaintext refused, upstreams verified."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import material
from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import P256, Files, credentials, write_files
from e2e.gates import Door, Gate
from e2e.http_client import Connection, NoResponse, Tls, exchange, h2_exchange, request_octets, tls_context
from e2e.upstream import RecordingUpstream
from feature_material import DAY, Issued, issue

pytestmark = pytest.mark.e2e

NOW = time.time()
SOON = 10.0
"""Seconds in which a new certificate must show; it is looked for once a second."""


def issued(name: str, issuer: Issued | None = None, **options: Any) -> Issued:
    """A certificate that is good during these tests."""
    return issue(name, issuer, **{"start": NOW - 30 * DAY, "end": NOW + 30 * DAY, **options})


def for_address(name: str, issuer: Issued, address: str = "127.0.0.1") -> Issued:
    """The certificate of a server at an address."""
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    return issued(name, issuer, extensions=[(names, False)])


def pair(*chain: Issued) -> str:
    """A chain and the key of its first certificate, as one file."""
    return "".join(each.pem for each in chain) + material.private_pem(chain[0].key)


ROOT = issued("tls-root", ca=True)
MIDDLE = issued("tls-middle", ROOT, ca=True)
FIRST = for_address("tls-first", MIDDLE)
SECOND = for_address("tls-second", MIDDLE)
OTHER_ROOT = issued("tls-other-root", ca=True)


def shown(port: int) -> bytes:
    """The certificate that a new connection gets, as DER."""
    with Connection(port, tls=True) as connection:
        found = connection.secured.getpeercert(binary_form=True)
        assert found is not None
        return found


def der(certificate: Issued) -> bytes:
    """The certificate as DER."""
    return certificate.certificate.public_bytes(Encoding.DER)


def wait_until_shown(port: int, certificate: Issued) -> None:
    """Wait until new connections get a certificate."""
    deadline = time.monotonic() + SOON
    while shown(port) != der(certificate):
        assert time.monotonic() < deadline, "the new certificate does not show"
        time.sleep(0.05)


@contextlib.contextmanager
def tls_gate(
    door: Door, home: Path, upstream: RecordingUpstream, files: Files, certificate: Path | None, *more: str
) -> Iterator[Gate]:
    """A gate at either door, told its certificate and further options: `--name[=value]` of `jwsgate run`."""
    words = ([f"--tls-cert={certificate}"] if certificate else []) + list(more)
    told: dict[str, Any] = {"arguments": words}
    if door != "jwsgate run":
        settings = [word.removeprefix("--").partition("=") for word in words]
        told = {"options": [f"jwsgate_{name.replace('-', '_')}={value or 'true'}" for name, _, value in settings]}
    with gates.running(
        lambda port: gates.command(
            door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy, **told
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
        wait=False,
    ) as gate:
        gate.wait_for_log("listening", seconds=20)
        yield gate
        assert gate.process.poll() is None, gate.log()
    assert "Traceback" not in gate.log()


# The own certificate


def test_chain_and_versions(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """A client that trusts the root alone verifies the gate, in both versions of TLS and of HTTP; no older TLS."""
    files = write_files(tmp_path / "files")
    own = tmp_path / "gate.pem"
    own.write_text(pair(FIRST, MIDDLE))
    with tls_gate(door, home, upstream, files, own) as gate:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cadata=ROOT.pem)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the default of Python 3.13, which wants key identifiers
            context.minimum_version = context.maximum_version = version
            with (
                socket.create_connection(("127.0.0.1", gate.port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as wire,
            ):
                assert wire.getpeercert(binary_form=True) == der(FIRST)
        assert exchange(gate.port, "GET", "/a", credentials(P256), tls=True).status == 200
        lower = [(name.lower(), value) for name, value in credentials(P256)]
        assert h2_exchange(gate.port, "GET", "/a", lower).status == 200
        assert exchange(gate.port, "GET", "/a", credentials(P256)).status == 200
        old = tls_context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            exchange(gate.port, "GET", "/a", credentials(P256), tls=Tls(old))
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(
    door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """By tickets; and not past a renewal of the certificate."""
    files = write_files(tmp_path / "files")
    own = tmp_path / "gate.pem"
    own.write_text(pair(FIRST))
    context = tls_context()
    context.minimum_version = context.maximum_version = version
    with tls_gate(door, home, upstream, files, own) as gate:
        with Connection(gate.port, tls=Tls(context)) as connection:
            assert connection.exchange("GET", "/a", credentials(P256)).status == 200
            session = connection.secured.session
        for renewed in (False, True):
            if renewed:
                own.write_text(pair(SECOND))
                wait_until_shown(gate.port, SECOND)
            with Connection(gate.port, tls=Tls(context, session)) as connection:
                assert connection.exchange("GET", "/a", credentials(P256)).status == 200
                assert connection.secured.session_reused is not renewed


def test_own_certificate_in_mitmweb(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The user interfaces show the same."""
    files = write_files(tmp_path / "files")
    own = tmp_path / "gate.pem"
    own.write_text(pair(FIRST))
    more = ["--ui=web", "--set=web_open_browser=false", f"--set=web_port={gates.free_port()}", "--tls-only"]
    with tls_gate("jwsgate run", home, upstream, files, own, *more) as gate:
        assert shown(gate.port) == der(FIRST)
        assert exchange(gate.port, "GET", "/a", credentials(P256), tls=True).status == 200
        with pytest.raises(NoResponse):
            exchange(gate.port, "GET", "/a", credentials(P256))
    upstream.only_request()


def in_place(path: Path, text: str) -> None:
    """Written over."""
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    """As careful programs do it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def by_config_map(path: Path, text: str) -> None:
    """As Kubernetes does it: the file is a link into a folder, which is a link that is replaced."""
    data = path.parent / f"..{time.monotonic_ns()}"
    data.mkdir()
    (data / path.name).write_text(text)
    link = path.parent / "..data_tmp"
    link.symlink_to(data.name)
    link.rename(path.parent / "..data")
    if not path.is_symlink():
        path.unlink(missing_ok=True)
        path.symlink_to(Path("..data") / path.name)


@pytest.mark.parametrize("write", [in_place, by_rename, by_config_map])
def test_renewal_under_open_connections(
    door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    """New connections get the new certificate, and the open ones go on. Broken files change nothing, and are told."""
    files = write_files(tmp_path / "files")
    own = tmp_path / "gate.pem"
    write(own, pair(FIRST))
    with tls_gate(door, home, upstream, files, own) as gate, Connection(gate.port, tls=True) as kept:
        assert kept.exchange("GET", "/a", credentials(P256)).status == 200
        assert shown(gate.port) == der(FIRST)
        problems = 0
        for broken, message in (
            (pair(SECOND)[:-40], "holds no private key"),
            (SECOND.pem, "holds no private key"),
            (SECOND.pem + material.private_pem(FIRST.key), "does not fit"),
            ("", "holds no certificate"),
        ):
            write(own, broken)
            before = gate.log().count(message)
            deadline = time.monotonic() + SOON
            while gate.log().count(message) == before and message not in gate.log():
                assert shown(gate.port) == der(FIRST)
                assert time.monotonic() < deadline, gate.log()
                time.sleep(0.05)
            problems += 1
            assert shown(gate.port) == der(FIRST)
        write(own, pair(SECOND))
        wait_until_shown(gate.port, SECOND)
        assert kept.exchange("GET", "/a", credentials(P256)).status == 200
        assert "taken up anew" in gate.log()
        own.unlink()
        deadline = time.monotonic() + SOON
        while "does not exist" not in gate.log():
            assert shown(gate.port) == der(SECOND)
            assert time.monotonic() < deadline, gate.log()
            time.sleep(0.05)
        assert gate.log().count("the one before stays") <= problems + 1
    assert len(upstream.requests) == 2


def test_renewal_by_signal(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """SIGHUP takes it up without a connection."""
    files = write_files(tmp_path / "files")
    own = tmp_path / "gate.pem"
    own.write_text(pair(FIRST))
    with tls_gate("jwsgate run", home, upstream, files, own) as gate:
        own.write_text(pair(SECOND))
        os.kill(gate.process.pid, signal.SIGHUP)
        gate.wait_for_log("taken up anew")
        assert shown(gate.port) == der(SECOND)


# TLS only


@pytest.mark.parametrize("own", [True, False], ids=["own", "issued"])
def test_tls_only(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path, own: bool) -> None:
    """Plaintext is closed without an answer, whatever it says; TLS goes on as ever."""
    files = write_files(tmp_path / "files")
    pem = tmp_path / "gate.pem"
    pem.write_text(pair(FIRST))
    good = request_octets("GET", "/a", credentials(P256))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with tls_gate(door, home, upstream, files, pem if own else None, "--tls-only") as gate:
        for octets in (
            good,
            preface,
            b"CONNECT a:443 HTTP/1.1\r\n\r\n",
            b"G",
            b"\x16\x03",
            b"\x00" * 64,
            b"SSH-2.0-x\r\n",
        ):
            with Connection(gate.port) as connection:
                connection.send(octets)
                assert connection.read_to_end() == b"", octets
        assert gate.log().count("without TLS") == 7
        upstream.assert_untouched()
        assert exchange(gate.port, "GET", "/a", credentials(P256), tls=True).status == 200
        assert_rejected(exchange(gate.port, "GET", "/a", tls=True), "client_id_missing")
        if door == "jwsgate run":
            assert "(https only)" in gate.log()
    upstream.only_request()


def test_tls_only_from_the_environment(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """As all options."""
    files = write_files(tmp_path / "files")
    with (
        gates.running(
            lambda port: gates.command(
                "jwsgate run", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy
            ),
            env=gates.environment(home, extra={"JWSGATE_TLS_ONLY": "1"}),
            directory=tmp_path,
            name="jwsgate run",
            wait=False,
        ) as gate,
    ):
        gate.wait_for_log("(https only)", seconds=20)
        with pytest.raises(NoResponse):
            exchange(gate.port, "GET", "/a", credentials(P256))
    upstream.assert_untouched()


# The upstream's certificate


@contextlib.contextmanager
def secured_upstream(directory: Path, *chain: Issued) -> Iterator[RecordingUpstream]:
    """An upstream that speaks TLS."""
    file = directory / f"{chain[0].name}.pem"
    file.write_text(pair(*chain))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    with RecordingUpstream(context) as upstream:
        yield upstream


@pytest.mark.parametrize(
    ("chain", "passes"),
    [
        pytest.param((FIRST, MIDDLE), True, id="verified"),
        pytest.param((for_address("tls-stranger", OTHER_ROOT),), False, id="another-ca"),
        pytest.param((for_address("tls-elsewhere", MIDDLE, "127.0.0.9"), MIDDLE), False, id="another-host"),
        pytest.param((issued("tls-self-signed"),), False, id="self-signed"),
        pytest.param((issued("tls-expired", MIDDLE, end=NOW - 60), MIDDLE), False, id="expired"),
    ],
)
def test_upstream_is_verified(home: Path, tmp_path: Path, chain: tuple[Issued, ...], passes: bool) -> None:
    """Against the CA file alone; an upstream that does not verify gets no request."""
    files = write_files(tmp_path / "files")
    ca = tmp_path / "ca.pem"
    ca.write_text(ROOT.pem)
    with (
        secured_upstream(tmp_path, *chain) as upstream,
        tls_gate("jwsgate run", home, upstream, files, None, f"--upstream-ca={ca}") as gate,
    ):
        for tls in (False, True):  # what a client says in its own handshake is nothing to the upstream's certificate
            response = exchange(gate.port, "GET", "/a", credentials(P256), tls=tls)
            if passes:
                assert response.status == 200
                assert upstream.only_request().target == b"/a"
                upstream.clear()
            else:
                assert response.status >= 500
                upstream.assert_no_request()


def refused(home: Path, directory: Path, *arguments: str, upstream: str = "https://127.0.0.1:9") -> str:
    """What `jwsgate run` says when it does not start, and has bound no port."""
    files = write_files(directory / "files")
    finished = gates.run_to_end(
        lambda port: gates.command(
            "jwsgate run",
            upstream=upstream,
            port=port,
            portal=files.portal,
            policy=files.policy,
            arguments=arguments,
        ),
        env=gates.environment(home),
        directory=directory,
    )
    assert (finished.returncode, finished.bound) == (1, frozenset())
    assert "Traceback" not in finished.output
    return finished.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param("", "holds no CA certificate", id="empty"),
        pytest.param("nonsense", "holds no CA certificate", id="nonsense"),
        pytest.param(material.private_pem(FIRST.key), "holds no CA certificate", id="a-key"),
    ],
)
def test_unusable_upstream_ca(home: Path, tmp_path: Path, content: str | None, message: str) -> None:
    """Told at start, with the file's name."""
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    output = refused(home, tmp_path, f"--upstream-ca={ca}")
    assert message in output
    assert str(ca) in output


def test_upstream_ca_without_tls(home: Path, tmp_path: Path) -> None:
    """It would verify nothing."""
    ca = tmp_path / "ca.pem"
    ca.write_text(ROOT.pem)
    assert "https://" in refused(home, tmp_path, f"--upstream-ca={ca}", upstream="http://127.0.0.1:9")


@pytest.mark.parametrize("option", ["ssl_insecure=true", "ciphers_client=none"])
def test_unsafe_tls_options(home: Path, tmp_path: Path, option: str) -> None:
    """Refused by name."""
    own = tmp_path / "gate.pem"
    own.write_text(pair(FIRST))
    output = refused(home, tmp_path, f"--tls-cert={own}", "--set", option)
    assert option.partition("=")[0] in output or "cipher" in output


def test_unusable_own_certificate(home: Path, tmp_path: Path) -> None:
    """Told at start; every kind of defect is in tests/test_tls_files.py."""
    own = tmp_path / "gate.pem"
    own.write_text(FIRST.pem)
    assert "holds no private key" in refused(home, tmp_path, f"--tls-cert={own}")
