"""Registered certificates: from the text in a portal export to a key that can verify.

The text area of the developer portal validates nothing, so every encoding seen in the field is read here,
and everything that cannot serve is refused with a message that says what to do.
What is *not* checked: who issued the certificate. Registration in the portal is the trust anchor.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final, NewType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwcrypto.jwk import JWK

from .algorithms import ALGORITHMS_BY_KEY, KeyKind, signature_octets

__all__ = [
    "MIN_RSA_BITS",
    "CertificateError",
    "RegisteredCertificate",
    "Thumbprint",
    "VerificationKey",
    "holds_private_key",
    "load_private_key",
    "read_certificate",
]

Thumbprint = NewType("Thumbprint", str)
"""SHA-256 over a certificate's DER, in lower-case hex."""

MIN_RSA_BITS: Final = 2048  # RFC 7518 section 3.3
_MAX_RSA_BITS: Final = 16384  # a verification with a larger modulus costs milliseconds of CPU

_BLOCK: Final = re.compile(r"-----BEGIN\s*([A-Z0-9 ]*?)\s*-----(.*?)-----END\s*([A-Z0-9 ]*?)\s*-----", re.DOTALL)
_BARE_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_RSASSA_PSS: Final = x509.ObjectIdentifier("1.2.840.113549.1.1.10")
# The primes up to 167 for which 65537 does not generate every residue, so that a look at the residue tells.
_ROCA_PRIMES: Final = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_POWERS: Final = {prime: frozenset(pow(65537, n, prime) for n in range(prime)) for prime in _ROCA_PRIMES}
_CURVES: Final = {"secp256r1": KeyKind.P256, "secp384r1": KeyKind.P384, "secp521r1": KeyKind.P521}


class CertificateError(ValueError):
    """A certificate that cannot be registered. `remedy` says what its owner should do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key with all that its algorithms need, prepared once so that a request pays nothing."""

    kind: KeyKind
    bits: int
    signature_octets: int
    algorithms: tuple[str, ...]
    """The `alg` values that this key can verify."""
    jwk: JWK = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RegisteredCertificate:
    """One certificate of an application. Times are Unix seconds, both ends included (RFC 5280 section 4.1.2.5)."""

    thumbprint: Thumbprint
    subject: str
    not_before: float
    not_after: float
    key: VerificationKey
    chain: tuple[bytes, ...] = field(default=(), repr=False, compare=False)
    """The DER of the certificate and of those registered behind it; kept only where a CA is asked about."""


def holds_private_key(text: str) -> bool:
    """Whether a text carries a PEM private key of any kind, in any of the spellings that PEM gets in the field."""
    return bool(re.search(r"PRIVATE\s*KEY\s*-----", text))


def _decode(body: str) -> bytes:
    compact = re.sub(r"\s+", "", body)
    if not _BARE_BASE64.fullmatch(compact):
        raise CertificateError("is not base64", "paste the certificate again, from BEGIN to END, unchanged")
    try:
        return base64.b64decode(compact, validate=True)
    except binascii.Error:
        raise CertificateError("is base64 cut short", "paste the certificate again, from BEGIN to END") from None


def _blocks(text: str) -> list[bytes]:
    """The DER of each certificate in the text, in order."""
    if holds_private_key(text):
        raise CertificateError(
            "holds a private key",
            "remove it, treat the key as disclosed, make a new pair, and register only the certificate",
        )
    text = text.replace("\\r", "\n").replace("\\n", "\n").strip()
    if "-----" not in text:
        return [_decode(text)]
    ders = []
    end = 0
    for block in _BLOCK.finditer(text):
        label = block[1].replace(" ", "")
        if label not in {"CERTIFICATE", "X509CERTIFICATE", "TRUSTEDCERTIFICATE"} or block[3].replace(" ", "") != label:
            raise CertificateError(
                f"is a {block[1] or 'PEM block'}, not a certificate",
                "register the X.509 certificate (BEGIN CERTIFICATE)",
            )
        ders.append(_decode(block[2]))
        end = block.end()
    if not ders or "-----" in text[end:]:
        raise CertificateError("is PEM cut short", "paste the certificate again, from BEGIN to END")
    return ders


def _has_roca_fingerprint(modulus: int) -> bool:
    """Whether a modulus looks as if made by the faulty Infineon library: then its primes, and so the modulus,
    are powers of 65537 modulo each small prime (Nemec et al., "The Return of Coppersmith's Attack", section 3.4).
    """
    return all(modulus % prime in powers for prime, powers in _ROCA_POWERS.items())


def _verification_key(certificate: x509.Certificate) -> VerificationKey:
    refuse = f"use RSA of at least {MIN_RSA_BITS} bits, P-256, P-384, P-521 or Ed25519"
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError, TypeError):
        raise CertificateError("holds a kind of key that is not supported", refuse) from None
    match key:
        case rsa.RSAPublicKey():
            exponent = key.public_numbers().e
            if not MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
                raise CertificateError(f"holds an RSA key of {key.key_size} bits", refuse)
            if exponent < 65537 or exponent % 2 == 0:
                raise CertificateError(f"holds an RSA key with exponent {exponent}", "make a key with exponent 65537")
            if _has_roca_fingerprint(key.public_numbers().n):
                raise CertificateError(
                    "holds an RSA key with the ROCA weakness (CVE-2017-15361)", "make a new key with other software"
                )
            kind, bits = KeyKind.RSA, key.key_size
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                raise CertificateError(f"holds a key on the curve {key.curve.name}", refuse)
            kind, bits = _CURVES[key.curve.name], key.key_size
        case ed25519.Ed25519PublicKey():
            kind, bits = KeyKind.ED25519, 256
        case _:
            raise CertificateError(f"holds a {type(key).__name__}, which is not supported", refuse)
    algorithms = ALGORITHMS_BY_KEY[kind]
    if certificate.public_key_algorithm_oid == _RSASSA_PSS:
        # The certificate limits its key to RSASSA-PSS (RFC 4055 section 1.2), though it loads like any RSA key.
        algorithms = tuple(name for name in algorithms if name.startswith("PS"))
    return VerificationKey(kind, bits, signature_octets(kind, bits), algorithms, _jwk(key))


def _jwk(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> JWK:
    # jwcrypto keeps the parsed key beside the JWK, so that no request parses it again.
    return JWK.from_pyca(key)


def _load(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed lazily by cryptography: touch what is needed, so that a fault shows here and not in a request.
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.extensions)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        raise CertificateError("is not an X.509 certificate", "register the certificate itself, as PEM") from None
    return certificate


def _check_use(certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca and (
            certificate.subject != certificate.issuer
        ):
            raise CertificateError("is the certificate of a CA", "register the client's own certificate, leaf first")
    except x509.ExtensionNotFound:
        pass
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise CertificateError(
            "has a keyUsage without digitalSignature", "issue it with keyUsage digitalSignature (RFC 5280)"
        )


def read_certificate(text: str, *, keep_chain: bool = False) -> RegisteredCertificate:
    """Read the certificate, or the chain with the leaf first, that an application registered.

    Accepted: PEM with or without line breaks or spaces, CRLF, literal backslash-n, bare base64 of the DER.
    Expired and not yet valid certificates are read: whether one is valid is asked at each request.

    Raises:
        CertificateError: with a message that reads on from "the certificate …".
    """
    ders = _blocks(text)
    certificates = [_load(der) for der in ders]
    leaf = certificates[0]
    _check_use(leaf)
    for upper, lower in zip(certificates[1:], certificates, strict=False):
        if lower.issuer != upper.subject:
            raise CertificateError(
                "is followed by a certificate that did not issue it",
                "order the chain leaf first, each issued by the next",
            )
    key = _verification_key(leaf)
    try:
        subject = leaf.subject.rfc4514_string()
    except ValueError:
        subject = ""
    return RegisteredCertificate(
        thumbprint=Thumbprint(hashlib.sha256(ders[0]).hexdigest()),
        subject=subject,
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        key=key,
        chain=tuple(ders) if keep_chain else (),
    )


def load_private_key(pem: bytes) -> JWK:
    """Read an unencrypted PEM private key for signing.

    Raises:
        CertificateError: when it cannot be used.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise CertificateError(f"is a {type(key).__name__}, which is not supported", "use RSA, EC or Ed25519")
        return JWK.from_pyca(key)
    except CertificateError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("is not a private key in PEM without a password", "write it as PKCS #8 PEM") from None
