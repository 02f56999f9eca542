"""Public keys fit to verify with: which kinds are taken, and the weak ones of each kind that are not."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwcrypto.jwk import JWK

from .algorithms import ALGORITHMS_BY_KEY, KeyKind, signature_octets

__all__ = [
    "MIN_RSA_BITS",
    "PublicKeyError",
    "SigningKey",
    "VerificationKey",
    "check_public_key",
    "verification_key",
]

MIN_RSA_BITS: Final = 2048  # RFC 7518 section 3.3
_MAX_RSA_BITS: Final = 16384  # the larger the modulus, the slower each verification
_MAX_EXPONENT_BITS: Final = 64  # OpenSSL's own limit for large moduli; a long exponent makes verification slow

_CURVES: Final = {"secp256r1": KeyKind.P256, "secp384r1": KeyKind.P384, "secp521r1": KeyKind.P521}

# The primes up to 167 for which 65537 does not generate every residue, so that a look at the residue tells.
_ROCA_PRIMES: Final = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_POWERS: Final = {prime: frozenset(pow(65537, n, prime) for n in range(prime)) for prime in _ROCA_PRIMES}
_ROCA_PRODUCT: Final = math.prod(_ROCA_PRIMES)

_P25519: Final = 2**255 - 19
_ED25519_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_ED25519_SMALL_ORDER: Final = frozenset(
    {0, 1, _P25519 - 1, _P25519, _P25519 + 1, _ED25519_ORDER_8, _P25519 - _ED25519_ORDER_8}
)
"""The y coordinates, canonical or not, of the eight points of small order (RFC 8032 section 8.9 speaks of them)."""

_SUPPORTED: Final = f"use RSA of at least {MIN_RSA_BITS} bits, P-256, P-384, P-521 or Ed25519"


class PublicKeyError(ValueError):
    """A public key that is not taken; reads on from "the certificate …". `remedy` says what to do."""

    def __init__(self, message: str, remedy: str = _SUPPORTED) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key with all that its algorithms need, prepared once so that a request pays nothing.

    Takes the place of a JWK where jwcrypto verifies, which wants `get_op_key` and `crv`: a JWK is another kilobyte,
    dear to make, and looks its constraints up in dicts at each use.
    """

    kind: KeyKind
    bits: int
    signature_octets: int
    algorithms: tuple[str, ...]
    """The `alg` values that this key can verify."""
    public_key: Any = field(repr=False, compare=False)
    """The key as an object of `cryptography`."""

    def get_op_key(self, operation: str, curve: str | None = None) -> Any:
        """As that of a JWK; `curve` is what an ECDSA algorithm needs.

        Raises:
            ValueError: when the key is not fit for it.
        """
        if operation != "verify" or (curve is not None and curve != self.kind):
            raise ValueError(f"a public {self.kind} key cannot {operation}" + (f" on {curve}" if curve else ""))
        return self.public_key

    def __getitem__(self, name: str) -> str:
        if name != "crv":
            raise KeyError(name)
        return self.kind  # which is named as RFC 7518 section 6.2.1.1 and RFC 8037 section 2 name curves


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the `alg` values that it can sign."""

    algorithms: tuple[str, ...]
    jwk: JWK = field(repr=False, compare=False)


def _has_roca_fingerprint(modulus: int) -> bool:
    """Whether a modulus looks as if made by the faulty Infineon library (CVE-2017-15361): then its primes, and so
    the modulus, are powers of 65537 modulo each small prime (Nemec et al., "The Return of Coppersmith's Attack").
    """
    residue = modulus % _ROCA_PRODUCT  # one long division; the rest are short ones
    return all(residue % prime in powers for prime, powers in _ROCA_POWERS.items())


def _check_rsa(key: rsa.RSAPublicKey) -> int:
    numbers = key.public_numbers()
    bits = key.key_size
    if not MIN_RSA_BITS <= bits <= _MAX_RSA_BITS:
        raise PublicKeyError(f"holds an RSA key of {bits} bits")
    if numbers.n % 2 == 0:
        raise PublicKeyError("holds an RSA key with an even modulus", "make a new key")
    if numbers.e < 65537 or numbers.e % 2 == 0 or numbers.e.bit_length() > _MAX_EXPONENT_BITS:
        named = numbers.e if numbers.e.bit_length() <= _MAX_EXPONENT_BITS else f"of {numbers.e.bit_length()} bits"
        raise PublicKeyError(f"holds an RSA key with exponent {named}", "make a key with exponent 65537")
    if _has_roca_fingerprint(numbers.n):
        raise PublicKeyError(
            "holds an RSA key with the ROCA weakness (CVE-2017-15361)", "make a new key with other software"
        )
    return bits


def _check_ed25519(key: ed25519.Ed25519PublicKey) -> None:
    # For such a key anyone can make signatures that hold for every message.
    if int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1) in _ED25519_SMALL_ORDER:
        raise PublicKeyError("holds an Ed25519 key of small order, for which anyone can sign", "make a new key")


def check_public_key(key: object) -> tuple[KeyKind, int]:
    """The kind and size in bits of a public key of `cryptography` that is fit to verify with.

    Raises:
        PublicKeyError: when the kind is not taken, or the key is weak.
    """
    match key:
        case rsa.RSAPublicKey():
            return KeyKind.RSA, _check_rsa(key)
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                raise PublicKeyError(f"holds a key on the curve {key.curve.name}")
            return _CURVES[key.curve.name], key.key_size
        case ed25519.Ed25519PublicKey():
            _check_ed25519(key)
            return KeyKind.ED25519, 256
        case _:
            raise PublicKeyError(f"holds a {type(key).__name__}, which is not supported")


def verification_key(key: object, *, only_pss: bool = False) -> VerificationKey:
    """Prepare a public key of `cryptography`. `only_pss` leaves an RSA key the PS algorithms only.

    Raises:
        PublicKeyError: when the kind is not taken, or the key is weak.
    """
    kind, bits = check_public_key(key)
    algorithms = ALGORITHMS_BY_KEY[kind]
    if only_pss:
        algorithms = tuple(name for name in algorithms if name.startswith("PS"))
    return VerificationKey(kind, bits, signature_octets(kind, bits), algorithms, key)
