"""Private keys to sign with, from the files of clients: PEM, DER, PKCS #12 or OpenSSH's format, encrypted or not."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from jwcrypto.jwa import JWA

from jwsgate.core.certificates import CertificateError, signing_key

from .problems import Unfit

__all__ = ["SigningKey", "read_signing_key"]

_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_FORMATS = "give a private key in PEM, DER or PKCS #12, or in the format of OpenSSH"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs, wherever the key itself is."""

    algorithms: tuple[str, ...]
    """What the key can sign by; the usual one first."""
    sign: Callable[[str, bytes], bytes]
    """From an algorithm and a signing input to the signature."""
    public_key: Any
    """The public half, as `cryptography` has it."""
    certificate: x509.Certificate | None = None
    """The one that came with the key."""


def _sign(jwk: Any, alg: str, signing_input: bytes) -> bytes:
    algorithm: Any = JWA.signing_alg(alg)
    signature: bytes = algorithm.sign(jwk, signing_input)
    return signature


def _pem_certificate(octets: bytes, public_key: Any) -> x509.Certificate | None:
    if b"BEGIN CERTIFICATE" not in octets:
        return None
    try:
        found = x509.load_pem_x509_certificates(octets)
    except ValueError:
        return None
    return next((certificate for certificate in found if certificate.public_key() == public_key), None)


def _load(octets: bytes, password: bytes | None) -> tuple[Any, x509.Certificate | None]:
    """Key and certificate; raises TypeError where a password is missing, ValueError for all else."""
    if _OPENSSH in octets:
        return serialization.load_ssh_private_key(octets, password), None
    if b"-----BEGIN" in octets:
        key = serialization.load_pem_private_key(octets, password)
        return key, _pem_certificate(octets, key.public_key())
    try:
        return serialization.load_der_private_key(octets, password), None
    except ValueError:
        return pkcs12.load_key_and_certificates(octets, password)[:2]


def _loaded(octets: bytes, password: Callable[[], bytes]) -> tuple[Any, x509.Certificate | None]:
    try:
        return _load(octets, None)
    except TypeError:
        pass  # it is encrypted, and says so
    except Exception:
        # A PKCS #12 file does not say whether it is encrypted or broken.
        if b"-----BEGIN" in octets or not octets.startswith(b"\x30"):
            raise Unfit("holds no private key that can be read", _FORMATS) from None
    secret = password()
    try:
        return _load(octets, secret)
    except Exception:
        raise Unfit("cannot be opened with this password, or is damaged", "give the password of the key file") from None


def read_signing_key(octets: bytes, password: Callable[[], bytes]) -> SigningKey:
    """The private key in a file. `password` is asked only where one is needed.

    Raises:
        Unfit: when there is none that can sign.
    """
    key, certificate = _loaded(octets, password)
    if key is None:
        raise Unfit("holds no private key", _FORMATS)
    try:
        usable = signing_key(key)
    except CertificateError as error:
        raise Unfit(str(error), error.remedy) from None
    return SigningKey(usable.algorithms, partial(_sign, usable.jwk), key.public_key(), certificate)
