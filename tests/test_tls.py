"""The TLS add-on, with real handshakes between it and a client in one process."""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from mitmproxy import connection, exceptions, tls
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.proxy import commands, context, events, layer, mode_specs
from mitmproxy.proxy.layers import modes, quic
from mitmproxy.test import taddons, tflow
from OpenSSL import SSL

import material
from feature_material import DAY, Issued, issue
from jwsgate.adapters.tls import GateTls, RefusedLayer

NOW = time.time()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def issued(name: str, **options: Any) -> Issued:
    """A certificate that is good now."""
    return issue(name, **{"start": NOW - DAY, "end": NOW + DAY, **options})


FIRST, SECOND, CLIENT = issued("unit-first"), issued("unit-second"), issued("unit-client")


def pair(one: Issued) -> str:
    """A certificate and its key as one file."""
    return one.pem + material.private_pem(one.key)


@dataclass
class Bench:
    """The add-on with mitmproxy's own behind it, and what is around them."""

    tls: GateTls
    options: Any
    context: Any
    directory: Path
    asks: bool = False
    alpn: list[bytes] = field(default_factory=list)

    def client(self) -> connection.Client:
        """A connection that has just been accepted."""
        return connection.Client(
            peername=("10.1.2.3", 4711),
            sockname=("127.0.0.1", 8443),
            timestamp_start=NOW,
            state=connection.ConnectionState.OPEN,
        )

    def start(self, client: connection.Client, *, dtls: bool = False) -> SSL.Connection | None:
        """What the add-on answers the hook with."""
        client.proxy_mode = mode_specs.ProxyMode.parse("reverse:http://127.0.0.1:9")
        data = tls.TlsData(client, context.Context(client, self.options), is_dtls=dtls)
        self.tls.tls_start_client(data)
        return data.ssl_conn

    def handshake(
        self,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        shows: Issued | None = None,
        session: ssl.SSLSession | None = None,
        client_context: ssl.SSLContext | None = None,
    ) -> Finished:
        """A whole handshake, and a few octets for the tickets to come through."""
        client = self.client()
        server = self.start(client)
        assert server is not None
        theirs = client_context or ssl.create_default_context()
        theirs.check_hostname = False
        theirs.verify_mode = ssl.CERT_NONE
        theirs.minimum_version = theirs.maximum_version = version
        theirs.set_alpn_protocols(["h2", "http/1.1"])
        if shows is not None:
            file = self.directory / f"{shows.name}.pem"
            file.write_text(pair(shows))
            theirs.load_cert_chain(file)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = theirs.wrap_bio(incoming, outgoing, server_hostname="gate.test", session=session)
        done = False
        for _ in range(6):
            try:
                if not done:
                    ours.do_handshake()
                    done = True
                    ours.write(b"octets")
                ours.read(16)
            except ssl.SSLWantReadError:
                pass
            if outgoing.pending:
                server.bio_write(outgoing.read())
            try:
                server.do_handshake()
                server.recv(16)
                server.sendall(b"answer")
            except SSL.WantReadError:
                pass
            with contextlib.suppress(SSL.WantReadError):
                incoming.write(server.bio_read(1 << 16))
        assert done
        self.tls.tls_established_client(tls.TlsData(client, context.Context(client, self.options), server))
        return Finished(client, ours, theirs)

    def thumbprint(self, client: connection.Client) -> str | None:
        """What the add-on knows of a connection's certificate."""
        flow = tflow.tflow()
        flow.client_conn = client
        assert self.tls.peer_facts(flow)[0] == "10.1.2.3"
        return self.tls.peer_facts(flow)[1]


@dataclass(frozen=True)
class Finished:
    """A handshake that is done."""

    client: connection.Client
    wire: ssl.SSLObject
    context: ssl.SSLContext

    @property
    def shown(self) -> bytes | None:
        """The gate's certificate as DER."""
        return self.wire.getpeercert(binary_form=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The add-on before it has a certificate."""
    made = GateTls(lambda: found.asks)
    with taddons.context(made, TlsConfig(), loadcore=False) as around:
        around.options.update(confdir=str(tmp_path / "confdir"))
        found = Bench(made, around.options, around, tmp_path)
        made.start()
        yield found


def own(bench: Bench, one: Issued = FIRST) -> Path:
    """Give the gate its own certificate."""
    path = bench.directory / "gate.pem"
    path.write_text(pair(one))
    bench.options.update(jwsgate_tls_cert=str(path))
    return path


def later(bench: Bench, monkeypatch: pytest.MonkeyPatch, seconds: float = 2.0) -> None:
    """Let time pass for what looks at the clock."""
    now = time.monotonic() + seconds
    monkeypatch.setattr("jwsgate.adapters.tls.time", SimpleNamespace(time=time.time, monotonic=lambda: now))


def der(one: Issued) -> bytes:
    """The certificate as DER."""
    return one.certificate.public_bytes(Encoding.DER)


# Contexts


def test_without_anything_to_do(bench: Bench) -> None:
    """mitmproxy goes on as ever."""
    assert bench.start(bench.client()) is None


def test_one_context_for_all(bench: Bench) -> None:
    """Made once, and anew only for another certificate, or other demands."""
    path = own(bench)
    first = bench.start(bench.client())
    again = bench.start(bench.client())
    assert first is not None
    assert again is not None
    assert first.get_context() is again.get_context()
    bench.asks = True
    asking = bench.start(bench.client())
    assert asking is not None
    assert asking.get_context() is not first.get_context()
    path.write_text(pair(SECOND))
    bench.tls.reload()
    renewed = bench.start(bench.client())
    assert renewed is not None
    assert renewed.get_context() is not asking.get_context()


def test_one_context_for_each_issued_certificate(bench: Bench) -> None:
    """For the same name the same."""
    bench.asks = True
    first, again = bench.start(bench.client()), bench.start(bench.client())
    other = bench.client()
    other.sni = "other.test"
    second = bench.start(other)
    assert first is not None
    assert again is not None
    assert second is not None
    assert first.get_context() is again.get_context()
    assert first.get_context() is not second.get_context()


def test_what_another_add_on_has_settled(bench: Bench) -> None:
    """Stays, and so does DTLS, which the gate does not guard."""
    own(bench)
    theirs = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD))
    client = bench.client()
    data = tls.TlsData(client, context.Context(client, bench.options), theirs)
    bench.tls.tls_start_client(data)
    assert data.ssl_conn is theirs
    assert bench.start(bench.client(), dtls=True) is None


@pytest.mark.parametrize(("http2", "expected"), [(True, "h2"), (False, "http/1.1")])
def test_alpn(bench: Bench, http2: bool, expected: str) -> None:
    """As mitmproxy's http2 says."""
    own(bench)
    bench.options.update(http2=http2)
    assert bench.handshake().wire.selected_alpn_protocol() == expected


def test_alpn_of_a_proxy_reached_by_tls(bench: Bench) -> None:
    """HTTP/1.1, as mitmproxy knows no CONNECT in HTTP/2."""
    own(bench)
    client = bench.client()
    around = context.Context(client, bench.options)
    modes.HttpProxy(around)
    layer.NextLayer(around)
    around.layers.append(RefusedLayer(context.Context(client, bench.options)))
    data = tls.TlsData(client, around)
    bench.tls.tls_start_client(data)
    assert data.ssl_conn is not None
    assert data.ssl_conn.get_app_data()["client_alpn"] == b"http/1.1"


def test_http3(bench: Bench) -> None:
    """The own certificate there too, renewed as well; mitmproxy's where there is none."""
    client = bench.client()
    client.alpn_offers = [b"h3"]
    for has_own, one in ((False, FIRST), (True, FIRST), (True, SECOND)):
        if has_own:
            own(bench, one)
            bench.tls.reload()
        data = quic.QuicTlsData(client, context.Context(client, bench.options))
        bench.tls.quic_start_client(data)
        if not has_own:
            assert data.settings is None
            continue
        assert data.settings is not None
        assert data.settings.certificate == one.certificate
        assert data.settings.alpn_protocols == ["h3"]
        settings = data.settings
        bench.tls.quic_start_client(data)
        assert data.settings is settings


# Client certificates


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("has_own", [True, False], ids=["own", "issued"])
def test_certificate_and_resumption(bench: Bench, version: ssl.TLSVersion, has_own: bool) -> None:
    """The certificate of a full handshake, and of every one that resumes it."""
    bench.asks = True
    if has_own:
        own(bench)
    first = bench.handshake(version, CLIENT)
    assert bench.thumbprint(first.client) == CLIENT.registered().thumbprint
    again = bench.handshake(version, session=first.wire.session, client_context=first.context)
    assert again.wire.session_reused
    assert bench.thumbprint(again.client) == CLIENT.registered().thumbprint
    without = bench.handshake(version)
    assert bench.thumbprint(without.client) is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("change", ["demand", "certificate", "option"])
def test_sessions_do_not_outlive_a_change(bench: Bench, version: ssl.TLSVersion, change: str) -> None:
    """A session from before a demand has no certificate: the next connection begins anew, and is asked for one."""
    path = own(bench)
    bench.asks = change != "demand"
    first = bench.handshake(version, CLIENT)
    assert (bench.thumbprint(first.client) is None) is (change == "demand")
    match change:
        case "demand":
            bench.asks = True
        case "certificate":
            path.write_text(pair(SECOND))
            bench.tls.reload()
        case _:
            bench.options.update(ciphers_client="ECDHE+AESGCM")
    again = bench.handshake(version, session=first.wire.session, client_context=first.context)
    assert not again.wire.session_reused
    assert bench.thumbprint(again.client) == CLIENT.registered().thumbprint


def test_mitmproxys_own_option_asks_too(bench: Bench) -> None:
    """request_client_cert, with or without a policy that demands it."""
    bench.options.update(request_client_cert=True)
    assert bench.thumbprint(bench.handshake(shows=CLIENT).client) is not None


def test_tls_within_tls(bench: Bench) -> None:
    """Of the outer connection's certificate nothing is left in the inner one."""
    bench.asks = True
    outer = bench.handshake(shows=CLIENT).client
    assert bench.thumbprint(outer) is not None
    for inner in (bench.start(outer), None):
        bench.tls.tls_established_client(tls.TlsData(outer, context.Context(outer, bench.options), inner))
        assert bench.thumbprint(outer) is None


def test_replayed_flows_come_from_nobody(bench: Bench) -> None:
    """A recording says where it came from, and proves nothing."""
    bench.asks = True
    flow = tflow.tflow()
    flow.client_conn = bench.handshake(shows=CLIENT).client
    flow.is_replay = "request"
    assert bench.tls.peer_facts(flow) == ("", None)
    flow = tflow.tflow()
    flow.client_conn = bench.client()
    flow.client_conn.peername = None  # type: ignore[assignment]
    assert bench.tls.peer_facts(flow) == ("", None)


# Renewal


def test_looked_for_once_a_second(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next connection, and no earlier."""
    later(bench, monkeypatch, 0)
    path = own(bench)
    path.write_text(pair(SECOND))
    assert bench.handshake().shown == der(FIRST)
    later(bench, monkeypatch)
    assert bench.handshake().shown == der(SECOND)


def test_a_change_that_no_time_shows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written again within one tick of the file system's clock, with the same size."""
    path = own(bench)
    stamp = path.stat()
    frozen = SimpleNamespace(
        **{
            name: getattr(stamp, name)
            for name in ("st_dev", "st_ino", "st_size", "st_mtime", "st_mtime_ns", "st_ctime_ns")
        }
    )
    monkeypatch.setattr("jwsgate.adapters.tls.os", SimpleNamespace(stat=lambda _: frozen))
    bench.tls.reload()
    path.write_text(pair(SECOND))
    bench.tls.reload()
    assert bench.handshake().shown == der(SECOND)


def test_an_unchanged_file_is_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has settled."""
    path = own(bench)
    settled = SimpleNamespace(time=lambda: time.time() + 10, monotonic=time.monotonic)
    monkeypatch.setattr("jwsgate.adapters.tls.time", settled)
    bench.tls.reload()
    reads = []
    monkeypatch.setattr("jwsgate.adapters.tls.read_identity", lambda *_: reads.append(path))
    bench.tls.reload()
    assert reads == []


BROKEN = {
    "half": pair(SECOND)[:-60],
    "empty": "",
    "another-key": SECOND.pem + material.private_pem(FIRST.key),
    "expired": pair(issue("unit-expired", start=NOW - DAY, end=NOW - 1)),
    "weak": None,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_files_change_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, tmp_path: Path, broken: str
) -> None:
    """They are told, once; what is good again counts, also when it is the old one."""
    path = own(bench)
    text = BROKEN[broken]
    if text is None:
        text = pair(issued("unit-weak", key=material.private_key("rsa", "unit-weak", 1024)))
    path.write_text(text)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            bench.tls.reload()
    (record,) = [each for each in caplog.records if each.name.startswith("jwsgate")]
    assert record.levelno == logging.ERROR
    assert str(path) in record.message
    assert "PRIVATE" not in record.message
    assert bench.handshake().shown == der(FIRST)
    path.write_text(pair(FIRST))
    bench.tls.reload()
    path.write_text(pair(SECOND))
    bench.tls.reload()
    assert bench.handshake().shown == der(SECOND)


def test_reload_without_a_certificate(bench: Bench) -> None:
    """There is nothing to reload."""
    bench.tls.reload()
    assert bench.start(bench.client()) is None


# Options


@pytest.mark.parametrize("name", ["missing.pem", "weak.pem", "\0"])
def test_unusable_certificate(bench: Bench, name: str) -> None:
    """Refused by the file's name; what was there before stays."""
    own(bench)
    key = material.private_key("rsa", "unit-weak", 1024)
    (bench.directory / "weak.pem").write_text(pair(issued("unit-weak", key=key)))
    with pytest.raises(exceptions.OptionsError, match="TLS certificate"):
        bench.options.update(jwsgate_tls_cert=str(bench.directory / name))
    assert bench.handshake().shown == der(FIRST)


def test_certificate_taken_away(bench: Bench) -> None:
    """mitmproxy's CA issues one again."""
    own(bench)
    bench.options.update(jwsgate_tls_cert="")
    assert bench.start(bench.client()) is None


def test_cipher_that_is_none(bench: Bench) -> None:
    """Told, and not taken up."""
    own(bench)
    with pytest.raises(exceptions.OptionsError, match="cipher"):
        bench.options.update(ciphers_client="none")
    assert bench.handshake().shown == der(FIRST)


def test_ssl_insecure(bench: Bench) -> None:
    """Refused where the launcher says so, also while it runs; a plain add-on leaves it to its user."""
    bench.options.update(ssl_insecure=True)
    bench.options.update(ssl_insecure=False)
    bench.tls.verifies_upstream = True
    with pytest.raises(exceptions.OptionsError, match="ssl_insecure"):
        bench.options.update(ssl_insecure=True)
    assert bench.options.ssl_insecure is False


def test_old_tls(bench: Bench) -> None:
    """Nothing below 1.2."""
    for version in ("TLS1", "TLS1_1", "SSL3", "UNBOUNDED"):
        bench.options.__dict__["_options"]["tls_version_client_min"].set(version)
        with pytest.raises(exceptions.OptionsError, match="tls_version_client_min"):
            bench.tls.configure({"tls_version_client_min"})


# TLS only


def asked(bench: Bench, octets: bytes, *, secured: bool = False, udp: bool = False) -> layer.NextLayer:
    """The question what comes next on a connection."""
    client = bench.client()
    client.tls = secured
    if udp:
        client.transport_protocol = "udp"
    around = context.Context(client, bench.options)
    question = layer.NextLayer(around)
    question.events.append(events.DataReceived(client, octets))
    bench.tls.next_layer(question)
    return question


HELLO = b"\x16\x03\x01\x02\x00\x01"


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"\x16", b"\x16\x03", b"\x16\x02\x01"]
)
def test_plaintext_is_closed(bench: Bench, octets: bytes) -> None:
    """Only where it is asked for; what is not TLS from the first octets is plaintext."""
    assert asked(bench, octets).layer is None
    bench.options.update(jwsgate_tls_only=True)
    refused = asked(bench, octets).layer
    assert isinstance(refused, RefusedLayer)
    (command,) = refused.handle_event(events.Start())
    assert isinstance(command, commands.CloseConnection)
    assert list(refused.handle_event(events.DataReceived(refused.context.client, octets))) == []
    assert list(refused.handle_event(events.ConnectionClosed(refused.context.client))) == []


def test_tls_goes_on(bench: Bench) -> None:
    """So does what is within TLS, and QUIC, which has TLS of its own."""
    bench.options.update(jwsgate_tls_only=True)
    assert asked(bench, HELLO).layer is None
    assert asked(bench, b"GET / HTTP/1.1\r\n\r\n", secured=True).layer is None
    assert asked(bench, b"\xc0", udp=True).layer is None


def test_a_fault_closes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """mitmproxy goes on after an exception: by then the connection is refused."""
    bench.options.update(jwsgate_tls_only=True)
    monkeypatch.setattr(GateTls, "_is_plaintext", None)
    client = bench.client()
    question = layer.NextLayer(context.Context(client, bench.options))
    with pytest.raises(TypeError):
        bench.tls.next_layer(question)
    assert isinstance(question.layer, RefusedLayer)
