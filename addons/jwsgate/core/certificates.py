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
from typing import Final, NamedTuple, NewType, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwcrypto.jwk import JWK

from .public_keys import PublicKeyError, SigningKey, VerificationKey, check_public_key, verification_key

__all__ = [
    "CertificateError",
    "CertificateOutline",
    "RegisteredCertificate",
    "Thumbprint",
    "check_certificate",
    "holds_private_key",
    "load_private_key",
    "outline",
    "read_certificate",
    "registered_certificate",
    "signing_key",
]

Thumbprint = NewType("Thumbprint", str)
"""SHA-256 over a certificate's DER, in lower-case hex."""

_DISCLOSED: Final = "remove it, treat the key as disclosed, make a new pair, and register only the certificate"
_MAX_CHARACTERS: Final = 65536
# What nearly every entry of a large export looks like; all else takes the longer way.
_USUAL_PEM: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----\n"
    r"((?:[A-Za-z0-9+/]{64}\n)*+(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?)"
    r"\n-----END CERTIFICATE-----\n?"
)
_BARE_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DER_START: Final = "MI"
"""How the base64 of a SEQUENCE of more than 127 octets begins, as every certificate does (X.690)."""
_RSASSA_PSS: Final = x509.ObjectIdentifier("1.2.840.113549.1.1.10")


class CertificateError(ValueError):
    """A certificate that cannot be registered. `remedy` says what its owner should do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


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


class CertificateOutline(NamedTuple):
    """What a certificate is known by and when it is used, without its key, which takes ten times as long to make."""

    thumbprint: Thumbprint
    not_before: float
    not_after: float


def holds_private_key(text: str) -> bool:
    """Whether a text carries a PEM private key of any kind, in any of the spellings that PEM gets in the field."""
    return bool(re.search(r"PRIVATE\s*KEY\s*-----", text))


def _decode(body: str) -> bytes:
    compact = "".join(body.split())
    if not _BARE_BASE64.fullmatch(compact):
        raise CertificateError("is not base64", "paste the certificate again, from BEGIN to END, unchanged")
    try:
        return base64.b64decode(compact, validate=True)
    except binascii.Error:
        if not compact.startswith(_DER_START):
            raise CertificateError("is not an X.509 certificate", "paste one, from BEGIN to END") from None
        raise CertificateError("is base64 cut short", "paste the certificate again, from BEGIN to END") from None


def _label(marker: str, verb: str) -> str | None:
    """The label of a marker such as `BEGIN CERTIFICATE`; None when it is another marker."""
    text = " ".join(marker.split())
    return text.removeprefix(verb).strip() if text.startswith(verb) else None


def _blocks(text: str) -> list[bytes]:
    """The DER of each certificate in the text, in order."""
    if len(text) > _MAX_CHARACTERS:
        raise CertificateError(f"is longer than {_MAX_CHARACTERS} characters", "register one certificate, or its chain")
    if usual := _USUAL_PEM.fullmatch(text):
        return [binascii.a2b_base64(usual[1])]  # the pattern leaves nothing to be lenient about
    if holds_private_key(text):
        raise CertificateError("holds a private key", _DISCLOSED)
    text = text.replace("\\r", "\n").replace("\\n", "\n").strip()
    # What stands between dashes: text, BEGIN …, base64, END …, text, BEGIN …, and so on.
    _, *parts = text.split("-----")
    if not parts:
        return [_decode(text)]
    ders = []
    for begin, body, end in zip(parts[0::4], parts[1::4], parts[2::4], strict=False):
        for label in (_label(begin, "BEGIN"), _label(end, "END")):
            if label is None:
                raise CertificateError("is PEM cut short", "paste the certificate again, from BEGIN to END")
            if label.replace(" ", "") not in {"CERTIFICATE", "X509CERTIFICATE"}:
                raise CertificateError(
                    f"is a {label[:40] or 'PEM block'}, not a certificate",
                    "register the X.509 certificate (BEGIN CERTIFICATE)",
                )
        ders.append(_decode(body))
    if len(parts) % 4:
        raise CertificateError("is PEM cut short", "paste the certificate again, from BEGIN to END")
    return ders


def _check_key(certificate: x509.Certificate) -> None:
    try:
        check_public_key(certificate.public_key())
    except PublicKeyError as error:
        raise CertificateError(str(error), error.remedy) from None
    except (UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        raise CertificateError("holds a key that cannot be read", "make a new key and certificate") from None


def _is_private_key(der: bytes) -> bool:
    try:
        serialization.load_der_private_key(der, password=None)
    except TypeError:
        return True  # one with a password
    except Exception:
        return False
    return True


def _load(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed lazily by cryptography: touch what is needed, so that a fault shows here and not in a request.
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.extensions)
    except Exception:
        # cryptography raises a kind of its own for each way in which DER can be broken.
        if _is_private_key(der):
            raise CertificateError("holds a private key", _DISCLOSED) from None
        raise CertificateError("is not an X.509 certificate", "register the certificate itself, as PEM") from None
    return certificate


def _issued(upper: x509.Certificate, lower: x509.Certificate) -> bool | None:
    """Whether the names say that one certificate issued the other; None where they cannot be read."""
    try:
        return upper.subject == lower.issuer
    except (ValueError, KeyError):
        return None


def _subject(certificate: x509.Certificate) -> str:
    """For people; empty where it cannot be read, as no decision rests on it."""
    try:
        return certificate.subject.rfc4514_string()
    except (ValueError, KeyError):
        return ""


def _check_use(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        value = extension.value
        # `openssl req -x509` calls every self-signed certificate a CA, so that those are clients' own.
        if type(value) is x509.BasicConstraints and value.ca and _issued(certificate, certificate) is False:
            raise CertificateError("is the certificate of a CA", "register the client's own certificate, leaf first")
        if type(value) is x509.KeyUsage and not value.digital_signature:
            raise CertificateError(
                "has a keyUsage without digitalSignature", "issue it with keyUsage digitalSignature (RFC 5280)"
            )


def check_certificate(text: str) -> tuple[bytes, ...]:
    """The DER of a certificate, or of a chain with the leaf first, that is fit to be registered.

    Accepted: PEM with or without line breaks or spaces, CRLF, literal backslash-n, bare base64 of the DER.
    Expired and not yet valid certificates are accepted: whether one is valid is asked at each request.

    Raises:
        CertificateError: with a message that reads on from "the certificate …".
    """
    ders = _blocks(text)
    certificates = [_load(der) for der in ders]
    _check_use(certificates[0])
    for upper, lower in zip(certificates[1:], certificates, strict=False):
        if not _issued(upper, lower):
            raise CertificateError(
                "is followed by a certificate that did not issue it",
                "order the chain leaf first, each issued by the next",
            )
    _check_key(certificates[0])
    return tuple(ders)


def outline(
    ders: tuple[bytes, ...], use_from: float | None = None, use_until: float | None = None
) -> CertificateOutline:
    """The outline of a chain that `check_certificate` has passed; its times narrowed to when it is to be used."""
    leaf = x509.load_der_x509_certificate(ders[0])
    not_before, not_after = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return CertificateOutline(
        Thumbprint(hashlib.sha256(ders[0]).hexdigest()),
        not_before if use_from is None else max(not_before, use_from),
        not_after if use_until is None else min(not_after, use_until),
    )


def registered_certificate(
    ders: tuple[bytes, ...],
    *,
    keep_chain: bool = False,
    use_from: float | None = None,
    use_until: float | None = None,
) -> RegisteredCertificate:
    """The certificate of a chain that `check_certificate` has passed; its times narrowed to when it is to be used."""
    leaf = x509.load_der_x509_certificate(ders[0])
    # id-RSASSA-PSS limits a key to RSASSA-PSS (RFC 4055 section 1.2), though it loads like any RSA key.
    only_pss = leaf.public_key_algorithm_oid == _RSASSA_PSS
    thumbprint, not_before, not_after = outline(ders, use_from, use_until)
    return RegisteredCertificate(
        thumbprint=thumbprint,
        subject=_subject(leaf),
        not_before=not_before,
        not_after=not_after,
        key=verification_key(leaf.public_key(), only_pss=only_pss),
        chain=ders if keep_chain else (),
    )


def read_certificate(text: str, *, keep_chain: bool = False) -> RegisteredCertificate:
    """Read the certificate, or the chain with the leaf first, that an application registered.

    Raises:
        CertificateError: as `check_certificate` does.
    """
    return registered_certificate(check_certificate(text), keep_chain=keep_chain)


def signing_key(key: object) -> SigningKey:
    """A private key of `cryptography` for signing; the same demands hold as on registered keys.

    Raises:
        CertificateError: when it cannot be used.
    """
    private = cast(rsa.RSAPrivateKey, key)  # or one of the other kinds
    try:
        public = verification_key(private.public_key())
    except PublicKeyError as error:
        raise CertificateError(str(error), error.remedy) from None
    return SigningKey(public.algorithms, JWK.from_pyca(private))


def load_private_key(pem: bytes) -> SigningKey:
    """Read an unencrypted PEM private key for signing.

    Raises:
        CertificateError: when it cannot be used.
    """
    try:
        return signing_key(serialization.load_pem_private_key(pem, password=None))
    except CertificateError:
        raise
    except Exception:
        # As for certificates: cryptography raises many kinds for broken files.
        raise CertificateError("is not a private key in PEM without a password", "write it as PKCS #8 PEM") from None
