"""Keys, certificates, portal exports and compact JWS for the tests.

Nothing here uses the package under test or the JOSE library it builds on: signatures are made with
`cryptography` alone, so that a fault shared by signer and verifier cannot hide.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

type KeyKind = Literal["rsa", "p256", "p384", "p521", "ed25519"]
type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ALGORITHM_OF: dict[KeyKind, str] = {
    "rsa": "RS256",
    "p256": "ES256",
    "p384": "ES384",
    "p521": "ES512",
    "ed25519": "EdDSA",
}
_CURVES: dict[str, ec.EllipticCurve] = {
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


# Keys and certificates


@functools.cache
def private_key(kind: KeyKind, label: str = "", bits: int = 2048) -> PrivateKey:
    """One private key per kind and label, made once per process because RSA keys are slow to make."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(_CURVES[kind])


def private_pem(key: PrivateKey) -> str:
    """The key as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(key: PrivateKey) -> str:
    """The public half as SubjectPublicKeyInfo PEM."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def public_der(key: PrivateKey) -> bytes:
    """The public half as SubjectPublicKeyInfo DER."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@functools.cache
def certificate(key: PrivateKey, common_name: str = "test", *, from_days: float = -1, to_days: float = 365) -> str:
    """A self-signed certificate as PEM, valid from and to so many days from now."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=from_days))
        .not_valid_after(now + timedelta(days=to_days))
        .sign(key, digest)
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


# Portal exports


@dataclass(frozen=True, slots=True)
class Application:
    """One application of a portal export."""

    name: str
    client_ids: tuple[str, ...]
    certificate: str | None = None
    """PEM or any text; an empty string is an empty entry, None leaves the field out."""
    state: str = "enabled"
    fields: Mapping[str, str] = field(default_factory=dict)
    """Further fields as ready YAML scalars."""


def portal_yaml(applications: Iterable[Application]) -> str:
    """A portal export as YAML text.

    The text is put together by hand, not dumped: client IDs stay unquoted, as people write them, so that an
    all-digit client ID meets the loader the way it does in the field.
    """
    applications = list(applications)
    lines = [f"total_results: {len(applications)}", "results:"]
    if not applications:
        lines[-1] += " []"
    for number, application in enumerate(applications):
        lines += [
            "  - type: app",
            "    api_version: 2.0.0",
            f"    id: 00000000-0000-4000-8000-{number:012d}",
            f"    name: {application.name}",
            f"    title: {application.name}",
            f"    state: {application.state}",
        ]
        lines += [f"    {name}: {value}" for name, value in application.fields.items()]
        if application.certificate == "":
            lines.append('    application_public_certificate_entry: ""')
        elif application.certificate is not None:
            lines.append("    application_public_certificate_entry: |")
            lines += [f"      {line}" for line in application.certificate.splitlines()]
        lines.append("    credentials:")
        for position, client_id in enumerate(application.client_ids):
            lines.append(
                f"      - {{id: {application.name}-{position}, client_id: {client_id}, "
                f"name: credential-{position}, title: credential-{position}}}"
            )
    return "\n".join(lines) + "\n"


# Compact JWS


def b64url(octets: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64url(segment: str) -> bytes:
    """The octets of one base64url segment."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def compact_json(value: object) -> bytes:
    """JSON without spaces, members in the order given."""
    return json.dumps(value, separators=(",", ":")).encode()


def default_claims(**claims: Any) -> dict[str, Any]:
    """Claims that are good now, with whatever is to be added or replaced."""
    now = int(time.time())
    return {"iss": "tvo", "aud": "the world", "exp": now + 600, "iat": now, **claims}


def signature(key: PrivateKey | bytes, algorithm: str, signing_input: bytes) -> bytes:
    """The raw JWS signature (RFC 7518), or for octets as key an HMAC."""
    if isinstance(key, bytes):
        return hmac.new(key, signing_input, getattr(hashlib, f"sha{algorithm[2:]}")).digest()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signing_input)
    digest = _HASHES[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm.startswith("PS"):
            return key.sign(signing_input, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return key.sign(signing_input, padding.PKCS1v15(), digest)
    r, s = decode_dss_signature(key.sign(signing_input, ec.ECDSA(digest)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


def algorithm_of(key: PrivateKey | bytes) -> str:
    """The algorithm that goes with a key when the test names none."""
    match key:
        case bytes():
            return "HS256"
        case rsa.RSAPrivateKey():
            return "RS256"
        case ed25519.Ed25519PrivateKey():
            return "EdDSA"
        case _:
            return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]


def jws(
    key: PrivateKey | bytes,
    claims: Mapping[str, Any] | None = None,
    *,
    header: Mapping[str, Any] | bytes | None = None,
    payload: bytes | None = None,
    algorithm: str | None = None,
) -> str:
    """A compact JWS, truly signed by `key`.

    `header` may be raw octets, `payload` replaces the claims by raw octets, and `algorithm` is the one really
    used to sign, which lets the header claim another.
    """
    algorithm = algorithm or algorithm_of(key)
    if header is None:
        header = {"alg": algorithm}
    header_octets = header if isinstance(header, bytes) else compact_json(header)
    if payload is None:
        payload = compact_json(default_claims() if claims is None else dict(claims))
    signing_input = f"{b64url(header_octets)}.{b64url(payload)}"
    return f"{signing_input}.{b64url(signature(key, algorithm, signing_input.encode()))}"


def unsigned(header: Mapping[str, Any] | bytes, payload: bytes, last: bytes = b"") -> str:
    """Three segments around any octets, with no signing at all."""
    header_octets = header if isinstance(header, bytes) else compact_json(header)
    return ".".join(map(b64url, (header_octets, payload, last)))


def altered(token: str, position: int, by: str | None = None) -> str:
    """The token with one character replaced, by the next of the base64url alphabet unless told."""
    position %= len(token)
    old = token[position]
    new = by or BASE64URL[(BASE64URL.index(old) + 1) % 64]
    assert new != old
    return token[:position] + new + token[position + 1 :]
