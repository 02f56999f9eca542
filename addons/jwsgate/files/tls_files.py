"""Reads what TLS needs: the gate's own certificate with its key, and the CA of an upstream."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from .problems import Unfit
from .reading import read_named
from .trust_files import read_ca_bundle

__all__ = ["Identity", "check_ca_file", "read_identity"]

_MAX_OCTETS: Final = 1024 * 1024
_MAX_BUNDLE_OCTETS: Final = 64 * 1024 * 1024
_KEY: Final = re.compile(rb"-----BEGIN ((?:[A-Z]+ )?)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """What a TLS server shows: its certificate, those that lead to its CA, and the key of the first."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes = field(repr=False)


def _key(pem: bytes) -> PrivateKeyTypes:
    blocks = [match[0] for match in _KEY.finditer(pem)]
    if not blocks:
        raise Unfit("holds no private key", "append it: cat certificate.pem key.pem >both.pem")
    if len(blocks) > 1:
        raise Unfit("holds more than one private key", "keep the one of the first certificate")
    try:
        return serialization.load_pem_private_key(blocks[0], password=None)
    except TypeError:
        raise Unfit("holds a private key with a password", "write it without: openssl pkey -in key.pem") from None
    except Exception:
        # cryptography raises many kinds for broken keys.
        raise Unfit("holds a private key that cannot be read", "write it as PKCS #8 PEM") from None


def read_identity(path: Path, now: float) -> Identity:
    """The certificate chain, leaf first, and the private key of one PEM file, to be shown at `now` (Unix seconds).

    Raises:
        Unfit: with a message that reads on from the name of the file.
    """
    pem = read_named(path, _MAX_OCTETS)
    try:
        chain = x509.load_pem_x509_certificates(pem)
        keys = [certificate.public_key() for certificate in chain]
    except (ValueError, UnsupportedAlgorithm):
        raise Unfit("holds no certificate in PEM that can be read", "write it as PEM, its chain behind it") from None
    key = _key(pem)
    fits = [public == key.public_key() for public in keys]
    if not fits[0]:
        remedy = "put the certificate of the key first" if any(fits) else "use the key that it was made with"
        raise Unfit("holds a private key that does not fit its first certificate", remedy)
    if now > chain[0].not_valid_after_utc.timestamp():
        raise Unfit("holds a certificate that has expired", "renew it")
    if now < chain[0].not_valid_before_utc.timestamp():
        raise Unfit("holds a certificate that is not valid yet", "check the clock, or use the one before")
    return Identity(tuple(chain), key)


def check_ca_file(path: Path) -> None:
    """Raises `Unfit` when a file holds no CA certificates to verify with; the message reads on from its name."""
    read_ca_bundle(read_named(path, _MAX_BUNDLE_OCTETS))
