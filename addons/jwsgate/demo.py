"""The demo of `./run_proxy.sh`: keys and certificates made on first run, and an upstream that echoes."""

import datetime
import http.server
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .adapters.launcher import RunSettings
from .core.key_pairs import make_key, private_pem, self_signed
from .echo import EchoHandler

__all__ = ["demo_settings", "ensure_pair", "start_echo_upstream"]

_PROJECT: Final = Path(__file__).resolve().parents[2]
_LIFETIME: Final = datetime.timedelta(days=825)
_RENEW_BEFORE: Final = datetime.timedelta(days=7)


def _write(path: Path, octets: bytes, mode: int) -> None:
    # Never there half-written, and a private key never readable by others, not even for a moment.
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        os.fchmod(descriptor, mode)
    Path(name).replace(path)


def _usable(key_path: Path, certificate_path: Path, now: datetime.datetime) -> bool:
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (OSError, ValueError, TypeError):
        return False
    return key.public_key() == certificate.public_key() and now + _RENEW_BEFORE < certificate.not_valid_after_utc


def ensure_pair(key_path: Path, certificate_path: Path, name: str, hosts: Sequence[str] = ()) -> bool:
    """Make a key and a self-signed certificate unless a usable pair is there. Returns whether it made one.

    With `hosts` the certificate is a TLS server's, and its file holds the key too; both names may be the same.

    Raises:
        OSError: when the files cannot be written.
    """
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - no decision depends on it
    if _usable(key_path, certificate_path, now):
        return False
    key = make_key("RS256")
    certificate = self_signed(key, name, now - datetime.timedelta(minutes=5), now + _LIFETIME, hosts)
    key_pem, certificate_pem = private_pem(key), certificate.public_bytes(serialization.Encoding.PEM)
    if key_path == certificate_path:
        _write(key_path, key_pem + certificate_pem, 0o600)
    else:
        _write(key_path, key_pem, 0o600)
        _write(certificate_path, certificate_pem, 0o644)
    return True


def start_echo_upstream() -> str:
    """Start the echo upstream on a free port of loopback; it ends with the process. Returns its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EchoHandler)
    threading.Thread(target=server.serve_forever, name="echo upstream", daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def demo_settings(settings: RunSettings) -> RunSettings:
    """What `jwsgate run` needs for the demo; what the user named himself stays.

    Raises:
        OSError: when this is no checkout of the project, or `certs/` cannot be written.
    """
    certs = _PROJECT / "certs"
    if not (certs / "portal.yaml").is_file():
        raise FileNotFoundError("the demo needs a checkout of the project; use --upstream, --portal and --policy")
    ensure_pair(certs / "demo-client.key", certs / "demo-client.crt", "jwsgate demo client")
    gate = certs / "demo-gate.pem"
    ensure_pair(gate, gate, "localhost", ("localhost", "127.0.0.1", "::1"))
    return replace(
        settings,
        upstream=settings.upstream or start_echo_upstream(),
        portal=settings.portal or str(certs / "portal.yaml"),
        policies=settings.policies or (str(_PROJECT / "policies" / "signvalidate.yaml"),),
        tls_certificate=settings.tls_certificate or str(gate),
        mitmproxy_options=(f"confdir={certs / 'mitmproxy'}", *settings.mitmproxy_options),
    )
