"""The one table of signature algorithms: which key may use which, and how long its signature is.

`none` and the HMAC family are absent on purpose: they cannot be configured at all (RFC 8725 section 3.1).
"""

import enum
from typing import Final

__all__ = ["ALGORITHMS", "ALGORITHMS_BY_KEY", "KeyKind", "signature_octets"]


class KeyKind(enum.StrEnum):
    """The kinds of public key that a registered certificate may hold."""

    RSA = "RSA"
    P256 = "P-256"
    P384 = "P-384"
    P521 = "P-521"
    ED25519 = "Ed25519"


ALGORITHMS_BY_KEY: Final[dict[KeyKind, tuple[str, ...]]] = {
    KeyKind.RSA: ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),  # RFC 7518 sections 3.3, 3.5
    KeyKind.P256: ("ES256",),  # RFC 7518 section 3.4: each ES algorithm names one curve
    KeyKind.P384: ("ES384",),
    KeyKind.P521: ("ES512",),
    KeyKind.ED25519: ("EdDSA",),  # RFC 8037 section 3.1
}

ALGORITHMS: Final[tuple[str, ...]] = tuple(name for names in ALGORITHMS_BY_KEY.values() for name in names)

_FIXED_SIGNATURE_OCTETS: Final = {
    KeyKind.P256: 64,
    KeyKind.P384: 96,
    KeyKind.P521: 132,
    KeyKind.ED25519: 64,
}


def signature_octets(kind: KeyKind, key_bits: int) -> int:
    """The exact length of a signature in octets.

    RSA: the modulus length (RFC 8017 sections 8.1.2, 8.2.2); ECDSA: both integers at the curve's
    octet length (RFC 7518 section 3.4); Ed25519: 64 (RFC 8032 section 5.1.6).
    """
    if kind is KeyKind.RSA:
        return (key_bits + 7) // 8
    return _FIXED_SIGNATURE_OCTETS[kind]
