"""TLS between client and gate: the gate's own certificate, client certificates, and no plaintext where that is asked.

mitmproxy makes its TLS contexts for one connection after the other. Here one context is shared by all connections
as long as certificate and policy stay the same, so that clients can resume their sessions; a new context has new
ticket keys, so that no session outlives what it was established under. OpenSSL keeps the client's certificate within
the session: a resumed connection has the one that was proven when the session began.

Which certificate a client has proven to hold is asked of OpenSSL itself. mitmproxy's list of a connection's
certificates leaves out what it cannot parse, so that its first one may be any that the client has merely sent along.
"""

import logging
import os
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from mitmproxy import certs, connection, ctx, exceptions, http, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.addons.tlsconfig import AppData, alpn_select_callback
from mitmproxy.net import tls as net_tls
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers import modes, quic
from OpenSSL import SSL

from jwsgate.files.problems import Unfit
from jwsgate.files.tls_files import Identity, read_identity

__all__ = ["GateTls", "RefusedLayer"]

logger = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 1.0
_UNSETTLED_SECONDS: Final = 2.0
"""A file as young as this may change once more without its time showing it."""
_SHAPING: Final = (
    "jwsgate_tls_cert",
    "tls_version_client_min",
    "tls_version_client_max",
    "ciphers_client",
    "tls_ecdh_curve_client",
)
"""The options that make a context what it is."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption only


class RefusedLayer(layer.Layer):
    """Closes the connection, and reads nothing from it."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


def _server_context(ask: bool, chain_file: Path | None = None, chain: tuple[certs.Cert, ...] = ()) -> SSL.Context:
    """A context as mitmproxy makes it under its options, but one of our own, whose sessions can be resumed."""
    options = ctx.options
    made: SSL.Context = net_tls.create_client_proxy_context.__wrapped__(  # without its cache: it is changed below
        method=net_tls.Method.TLS_SERVER_METHOD,
        min_version=net_tls.Version[options.tls_version_client_min],
        max_version=net_tls.Version[options.tls_version_client_max],
        cipher_list=(options.ciphers_client or _CIPHERS).split(":"),
        ecdh_curve=net_tls.get_curve(options.tls_ecdh_curve_client),
        chain_file=chain_file,
        alpn_select_callback=alpn_select_callback,
        request_client_cert=ask,
        extra_chain_certs=chain,
        dhparams=None,
    )
    # Without it OpenSSL refuses to resume what has a client certificate. Sessions are kept in the clients' tickets.
    made.set_session_id(b"jwsgate")
    made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return made


class _OwnCertificate:
    """The certificate of a file with its contexts. Taken up anew when the file changes; a file that cannot be used
    is told, and what was there before stays."""

    def __init__(self, path: Path) -> None:
        """Raises `Unfit`."""
        self._path = path
        self._stamp: object = None
        self._checked = time.monotonic()
        self._problem = ""
        self.identity: Identity | None = None
        self._read()

    def context(self, ask: bool) -> SSL.Context:
        """The context of the certificate as it is now, looked at no more than once a second."""
        if time.monotonic() - self._checked >= _CHECK_SECONDS:
            self.check()
        return self._contexts[ask]

    def check(self) -> None:
        """Take up a changed file."""
        self._checked = time.monotonic()
        try:
            self._read()
            self._problem = ""
        except Unfit as error:
            problem = f"TLS certificate {self._path}: {error} ({error.remedy})"
            if problem != self._problem:
                logger.error("jwsgate: %s; the one before stays", problem)
            self._problem = problem

    def _read(self) -> None:
        # Of what a symbolic link leads to: Kubernetes replaces the link. Taken before reading, never after.
        try:
            found = os.stat(self._path)  # noqa: PTH116 - the one call that tells of all of them
            stamp = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            if stamp == self._stamp:
                return
            self._stamp = None if time.time() - found.st_mtime < _UNSETTLED_SECONDS else stamp
        except (OSError, ValueError):
            self._stamp = None  # what is wrong is told by the reading
        identity = read_identity(self._path, time.time())
        if self.identity is not None and identity.chain == self.identity.chain:
            return
        self._contexts = {ask: self._make(identity, ask) for ask in (False, True)}
        if self.identity is not None:
            logger.info("jwsgate: TLS certificate %s taken up anew", self._path)
        self.identity = identity

    def _make(self, identity: Identity, ask: bool) -> SSL.Context:
        made = _server_context(ask, chain=tuple(certs.Cert(upper) for upper in identity.chain[1:]))
        try:
            made.use_certificate(identity.chain[0])
            made.use_privatekey(identity.key)  # type: ignore[arg-type]  # any other kind fails
        except (SSL.Error, TypeError):
            raise Unfit("holds a certificate or key that OpenSSL does not use", "make a stronger one") from None
        return made


class GateTls:
    """Stands before mitmproxy's own TLS add-on, which leaves alone what is settled here.

    `asks` tells whether the policy in force demands a TLS client certificate anywhere.
    """

    name = "jwsgate-tls"

    def __init__(self, asks: Callable[[], bool]) -> None:
        self.verifies_upstream = False
        """Whether mitmproxy's ssl_insecure is refused."""
        self._asks = asks
        self._started = False
        self._own: _OwnCertificate | None = None
        self._own_options: tuple[object, ...] = ()
        self._issued: WeakKeyDictionary[certs.Cert, SSL.Context] = WeakKeyDictionary()
        self._thumbprints: WeakKeyDictionary[connection.Client, str] = WeakKeyDictionary()

    # Options

    def load(self, loader: Loader) -> None:
        loader.add_option("jwsgate_tls_cert", str, "", "PEM file of the certificate to show, its chain and its key.")
        loader.add_option("jwsgate_tls_only", bool, False, "Close connections that do not begin with TLS.")

    def start(self) -> None:
        """Take up the options, once all are known.

        Raises:
            mitmproxy.exceptions.OptionsError: when they cannot be used.
        """
        self._started = True
        self.configure(ctx.options.keys())

    def configure(self, updated: Set[str]) -> None:
        """Take up the certificate when it was named anew.

        Raises:
            mitmproxy.exceptions.OptionsError: and mitmproxy puts the previous options back.
        """
        if not self._started:
            return
        options = ctx.options
        if self.verifies_upstream and options.ssl_insecure:
            message = "ssl_insecure: true lets anybody answer in place of the upstream; use --upstream-ca"
            raise exceptions.OptionsError(message)
        shaping = tuple(getattr(options, name, None) for name in _SHAPING)  # none of them in a master without TLS
        if shaping[1] is not None and net_tls.Version[shaping[1]] in net_tls.INSECURE_TLS_MIN_VERSIONS:
            message = f"tls_version_client_min: {shaping[1]} is broken; use TLS1_2 or TLS1_3"
            raise exceptions.OptionsError(message)
        if shaping == self._own_options:
            return
        path = Path(os.path.expanduser(options.jwsgate_tls_cert))  # noqa: PTH111 - it leaves unknown users alone
        try:
            own = _OwnCertificate(path) if options.jwsgate_tls_cert else None
        except Unfit as error:
            raise exceptions.OptionsError(f"TLS certificate {path}: {error} ({error.remedy})") from None
        except RuntimeError as error:
            raise exceptions.OptionsError(str(error)) from None  # mitmproxy's, of ciphers, versions and curves
        self._own, self._own_options = own, shaping
        self._issued.clear()

    def reload(self) -> None:
        """Take up a changed certificate at once; without this it is within a second, by the next connection."""
        if self._own is not None:
            self._own.check()

    # Connections

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        try:
            refused = ctx.options.jwsgate_tls_only and self._is_plaintext(nextlayer)
        except BaseException:
            nextlayer.layer = RefusedLayer(nextlayer.context)
            raise
        if refused:
            logger.info("jwsgate: a connection without TLS was closed")
            nextlayer.layer = RefusedLayer(nextlayer.context)

    def _is_plaintext(self, nextlayer: layer.NextLayer) -> bool:
        client = nextlayer.context.client
        return (
            client.transport_protocol == "tcp"
            and not client.tls
            and not net_tls.starts_like_tls_record(nextlayer.data_client())
        )

    def tls_start_client(self, tls_start: tls.TlsData) -> None:
        ask = self._asks() or ctx.options.request_client_cert
        if tls_start.ssl_conn is not None or tls_start.is_dtls or (self._own is None and not ask):
            return
        shared = self._own.context(ask) if self._own is not None else self._issued_context(tls_start.context)
        made = SSL.Connection(shared)
        # As mitmproxy does it: no HTTP/2 to a proxy that the client reaches by TLS.
        is_proxy = len(tls_start.context.layers) == 2 and isinstance(tls_start.context.layers[0], modes.HttpProxy)
        made.set_app_data(
            AppData(
                client_alpn=b"http/1.1" if is_proxy else tls_start.conn.alpn,
                server_alpn=tls_start.context.server.alpn,
                http2=ctx.options.http2,
            )
        )
        made.set_accept_state()
        tls_start.ssl_conn = made

    def _issued_context(self, conn_context: context.Context) -> SSL.Context:
        """A context that asks for a client certificate, for the certificate that mitmproxy's CA issues."""
        issuer: Any = ctx.master.addons.get("tlsconfig")
        entry: certs.CertStoreEntry = issuer.get_cert(conn_context)
        if (made := self._issued.get(entry.cert)) is None:
            made = _server_context(True, entry.chain_file)
            made.use_certificate(entry.cert.to_cryptography())
            made.use_privatekey(entry.privatekey)
            self._issued[entry.cert] = made
        return made

    def quic_start_client(self, tls_start: quic.QuicTlsData) -> None:
        """The own certificate over HTTP/3, for which mitmproxy opens a port beside that of reverse:https."""
        if tls_start.settings is not None or self._own is None or self._own.identity is None:
            return
        self._own.context(ask=False)  # which looks for a changed file
        identity: Any = self._own.identity
        offers = [alpn for alpn in (tls_start.conn.alpn, tls_start.context.server.alpn) if alpn]
        tls_start.settings = quic.QuicTlsSettings(
            alpn_protocols=[alpn.decode("ascii") for alpn in offers or tls_start.conn.alpn_offers],
            certificate=identity.chain[0],
            certificate_chain=list(identity.chain[1:]),
            certificate_private_key=identity.key,
        )

    def tls_established_client(self, data: tls.TlsData) -> None:
        client: Any = data.conn
        self._thumbprints.pop(client, None)  # of an outer connection, when there is TLS within TLS
        certificate = data.ssl_conn.get_peer_certificate() if data.ssl_conn is not None else None
        if certificate is not None:
            self._thumbprints[client] = certificate.digest("sha256").replace(b":", b"").lower().decode("ascii")

    def peer_facts(self, flow: http.HTTPFlow) -> tuple[str, str | None]:
        """The address that a request came from, and the thumbprint of its TLS client certificate."""
        client = flow.client_conn
        if flow.is_replay is not None or client.peername is None:
            return "", None  # what a file says of a connection proves nothing
        return client.peername[0], self._thumbprints.get(client)
