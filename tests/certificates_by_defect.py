"""Certificates named by what is wrong, or merely odd, with them, and the texts in which they reach a portal.

Everything is made anew on each run, so that nothing expires and no private key is ever committed. Certificates
are put together octet by octet (RFC 5280 section 4.1), because no library makes most of these.

`python tests/certificates_by_defect.py DIRECTORY` writes them all, to look at with `openssl x509 -text`.
"""

from __future__ import annotations

import base64
import functools
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import prod
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from material import PrivateKey, private_key, private_pem, public_der, public_pem

__all__ = ["BY_DEFECT", "certificate_around", "certificate_der", "pem"]

BY_DEFECT: dict[str, Callable[[], str]] = {}
"""Every text by its name; calling the value makes it."""

RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
RSASSA_PSS = "1.2.840.113549.1.1.10"
EC_PUBLIC_KEY = "1.2.840.10045.2.1"


def defect(make: Callable[[], str]) -> Callable[[], str]:
    """Enter a maker under its own name, with hyphens."""
    BY_DEFECT[make.__name__.replace("_", "-")] = make
    return make


# DER (ITU-T X.690), as much of it as a certificate needs


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element around its parts."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def integer(value: int) -> bytes:
    """INTEGER."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    octets = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        octets += bytes(reversed(groups))
    return tlv(0x06, bytes(octets))


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE."""
    return tlv(0x30, *parts)


def bits(octets: bytes) -> bytes:
    """BIT STRING of whole octets."""
    return tlv(0x03, b"\0", octets)


def spki(algorithm: bytes, key: bytes) -> bytes:
    """SubjectPublicKeyInfo."""
    return sequence(algorithm, bits(key))


def rsa_spki(modulus: int, exponent: int) -> bytes:
    """An RSA public key of any numbers, sensible or not."""
    return spki(sequence(oid(RSA_ENCRYPTION), tlv(0x05)), sequence(integer(modulus), integer(exponent)))


def ec_spki(parameters: bytes, point: bytes) -> bytes:
    """An EC public key with any parameters and any octets for the point."""
    return spki(sequence(oid(EC_PUBLIC_KEY), parameters), point)


def spki_of_ed25519(key: bytes) -> bytes:
    """An Ed25519 public key of any octets."""
    return spki(sequence(oid("1.3.101.112")), key)


def name(common_name: str) -> bytes:
    """A distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]).public_bytes()


def time(moment: datetime) -> bytes:
    """UTCTime up to 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5)."""
    if moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


@dataclass(frozen=True)
class Signer:
    """Who signs a certificate, and how."""

    key: PrivateKey
    digest: hashes.HashAlgorithm | None
    algorithm: bytes

    def sign(self, octets: bytes) -> bytes:
        """The signature over the part to be signed."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            assert self.digest is not None
            return self.key.sign(octets, padding.PKCS1v15(), self.digest)
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(octets)
        assert self.digest is not None
        return self.key.sign(octets, ec.ECDSA(self.digest))


@functools.cache
def helper_ca() -> Signer:
    """A CA that signs whatever it is given; Ed25519, because it signs thousands of certificates."""
    return Signer(private_key("ed25519", "helper CA"), None, sequence(oid("1.3.101.112")))


def self_signer(key: PrivateKey) -> Signer:
    """The key itself as signer, with SHA-256."""
    if isinstance(key, rsa.RSAPrivateKey):
        return Signer(key, hashes.SHA256(), sequence(oid("1.2.840.113549.1.1.11"), tlv(0x05)))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Signer(key, None, sequence(oid("1.3.101.112")))
    return Signer(key, hashes.SHA256(), sequence(oid("1.2.840.10045.4.3.2")))


def extension(value: x509.ExtensionType, critical: bool = True) -> bytes:
    """One extension."""
    flag = tlv(0x01, b"\xff") if critical else b""
    return sequence(oid(value.oid.dotted_string), flag, tlv(0x04, value.public_bytes()))


def key_usage(**usages: bool) -> bytes:
    """A keyUsage extension with just these bits set."""
    unset = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return extension(x509.KeyUsage(**unset | usages))


def basic_constraints(ca: bool) -> bytes:
    """A basicConstraints extension."""
    return extension(x509.BasicConstraints(ca=ca, path_length=None))


def certificate_der(
    public_key_info: bytes,
    signer: Signer | None = None,
    *,
    subject: str | bytes = "client",
    issuer: str | None = None,
    from_days: float = -1,
    to_days: float = 365,
    extensions: Sequence[bytes] = (),
    tampered: bool = False,
    version: int = 2,
) -> bytes:
    """A certificate around any SubjectPublicKeyInfo; issuer and subject are the same unless told.

    A subject given as octets is a whole Name in DER.
    """
    signer = signer or helper_ca()
    subject_name = name(subject) if isinstance(subject, str) else subject
    now = datetime.now(UTC)
    to_be_signed = sequence(
        tlv(0xA0, integer(version)),
        integer(x509.random_serial_number()),
        signer.algorithm,
        name(issuer) if issuer else subject_name,
        sequence(time(now + timedelta(days=from_days)), time(now + timedelta(days=to_days))),
        subject_name,
        public_key_info,
        tlv(0xA3, sequence(*extensions)) if extensions else b"",
    )
    signature = signer.sign(to_be_signed)
    if tampered:
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    return sequence(to_be_signed, signer.algorithm, bits(signature))


def pem(der: bytes, label: str = "CERTIFICATE") -> str:
    """PEM (RFC 7468)."""
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


def certificate_around(public_key_info: bytes) -> str:
    """A certificate as PEM around a public key whose private half is not at hand, signed by the helper CA."""
    return pem(certificate_der(public_key_info))


def good_der(**changes: object) -> bytes:
    """A self-signed P-256 certificate in which nothing is wrong but the changes."""
    key = private_key("p256", "by defect")
    return certificate_der(public_der(key), self_signer(key), **changes)  # type: ignore[arg-type]


@defect
def nothing_wrong() -> str:
    """The certificate that all others are compared with."""
    return pem(good_der())


# Keys


@functools.cache
def rsa_modulus(size: int = 2048) -> int:
    """A good modulus."""
    key = private_key("rsa", "by defect", max(size, 1024))
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.public_key().public_numbers().n


@defect
def rsa_512() -> str:
    """RSA with 512 bits; the modulus need not be a good one, nothing may come to use it."""
    return certificate_around(rsa_spki((1 << 511) | (1 << 99) | 1, 65537))


@defect
def rsa_768() -> str:
    """RSA with 768 bits."""
    return certificate_around(rsa_spki((1 << 767) | (1 << 99) | 1, 65537))


@defect
def rsa_1024() -> str:
    """RSA with 1024 bits, self-signed."""
    key = private_key("rsa", "by defect", 1024)
    return pem(certificate_der(public_der(key), self_signer(key)))


@defect
def rsa_2047() -> str:
    """One bit short of the least size of RFC 7518 section 3.3."""
    return certificate_around(rsa_spki((1 << 2046) | (1 << 99) | 1, 65537))


@defect
def rsa_16392() -> str:
    """A modulus that OpenSSL refuses to verify with."""
    return certificate_around(rsa_spki((1 << 16391) | (1 << 99) | 1, 65537))


@defect
def rsa_roca() -> str:
    """A modulus that is a power of 65537 modulo every small prime, as CVE-2017-15361 makes them."""
    primorial = prod(n for n in range(2, 168) if all(n % divisor for divisor in range(2, n)))
    residue = pow(65537, 1234567, primorial)
    # Below 2**2048 the multiples of the primorial lie closer than 2**225.
    return certificate_around(rsa_spki((1 << 2047) // primorial * primorial + primorial + residue, 65537))


@defect
def rsa_modulus_even() -> str:
    """A modulus with the factor 2."""
    return certificate_around(rsa_spki(rsa_modulus() & ~1, 65537))


@defect
def rsa_exponent_1() -> str:
    """e = 1: every padded message is its own signature."""
    return certificate_around(rsa_spki(rsa_modulus(), 1))


@defect
def rsa_exponent_3() -> str:
    """e = 3, the exponent of Bleichenbacher's 2006 forgery."""
    return certificate_around(rsa_spki(rsa_modulus(), 3))


@defect
def rsa_exponent_17() -> str:
    """e = 17, the next common small one."""
    return certificate_around(rsa_spki(rsa_modulus(), 17))


@defect
def rsa_exponent_even() -> str:
    """An even e, which has no inverse."""
    return certificate_around(rsa_spki(rsa_modulus(), 65538))


@defect
def rsa_exponent_as_long_as_modulus() -> str:
    """An e of 2048 bits makes each verification a hundred times as dear."""
    return certificate_around(rsa_spki(rsa_modulus(), rsa_modulus() - 2))


@defect
def rsa_4096_exponent_over_64_bits() -> str:
    """OpenSSL refuses e over 64 bits with moduli over 3072 bits, but only when it verifies."""
    return certificate_around(rsa_spki((1 << 4095) | (1 << 99) | 1, (1 << 64) + 13))


@defect
def rsa_pss_key() -> str:
    """The key is marked id-RSASSA-PSS: it may make PSS signatures and no others (RFC 4055 section 1.2)."""
    key = private_key("rsa", "by defect")
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.public_key().public_numbers()
    info = spki(sequence(oid(RSASSA_PSS)), sequence(integer(numbers.n), integer(numbers.e)))
    return pem(certificate_der(info, self_signer(key)))


# The base points of curves that are not allowed serve as public keys on them.
_P192 = "188da80eb03090f67cbf20eb43a18800f4ff0afd82ff101207192b95ffc8da78631011ed6b24cdd573f977a11e794811"
_P224 = (
    "b70e0cbd6bb4bf7f321390b94a03c1d356c21122343280d6115c1d21bd376388b5f723fb4c22dfe6cd4375a05a07476444d5819985007e34"
)
_SECP256K1 = (
    "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)
_BRAINPOOL_P256 = (
    "8bd2aeb9cb7e57cb2c4b482ffc81b7afb9de27e1e3bd23c23a4453bd9ace3262"
    "547ef835c3dac4fd97f8461a14611dc9c27745132ded8e545c1d54c72f046997"
)


@defect
def ec_p192() -> str:
    """P-192."""
    return certificate_around(ec_spki(oid("1.2.840.10045.3.1.1"), bytes.fromhex("04" + _P192)))


@defect
def ec_p224() -> str:
    """P-224, for which JOSE has no algorithm."""
    return certificate_around(ec_spki(oid("1.3.132.0.33"), bytes.fromhex("04" + _P224)))


@defect
def ec_secp256k1() -> str:
    """secp256k1, which goes with ES256K (RFC 8812) only."""
    return certificate_around(ec_spki(oid("1.3.132.0.10"), bytes.fromhex("04" + _SECP256K1)))


@defect
def ec_brainpool() -> str:
    """brainpoolP256r1: as long as P-256, another curve."""
    return certificate_around(ec_spki(oid("1.3.36.3.3.2.8.1.1.7"), bytes.fromhex("04" + _BRAINPOOL_P256)))


@defect
def ec_point_off_the_curve() -> str:
    """A point that does not satisfy the curve's equation."""
    return certificate_around(ec_spki(oid("1.2.840.10045.3.1.7"), b"\4" + bytes(63) + b"\1"))


@defect
def ec_point_at_infinity() -> str:
    """The neutral element as public key."""
    return certificate_around(ec_spki(oid("1.2.840.10045.3.1.7"), b"\0"))


@defect
def ec_compressed_point() -> str:
    """A compressed point, which RFC 5480 section 2.2 allows."""
    key = private_key("p256", "by defect")
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    return certificate_around(ec_spki(oid("1.2.840.10045.3.1.7"), point))


_P256_PRIME = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def _explicit_p256(generator: bytes) -> bytes:
    """P-256 spelled out (SEC 1 section C.2), with any generator."""
    return sequence(
        integer(1),
        sequence(oid("1.2.840.10045.1.1"), integer(_P256_PRIME)),
        sequence(tlv(0x04, (_P256_PRIME - 3).to_bytes(32)), tlv(0x04, _P256_B.to_bytes(32))),
        tlv(0x04, generator),
        integer(_P256_ORDER),
        integer(1),
    )


def _point(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


@defect
def ec_explicit_parameters() -> str:
    """P-256 written out in numbers, which RFC 5480 section 2.1.1 forbids in certificates."""
    base_point = _point(ec.derive_private_key(1, ec.SECP256R1()))
    return certificate_around(ec_spki(_explicit_p256(base_point), _point(private_key("p256", "by defect"))))


@defect
def ec_explicit_parameters_other_generator() -> str:
    """P-256 with the public key itself as generator (CVE-2020-0601): its private key is 1."""
    point = _point(private_key("p256", "by defect"))
    return certificate_around(ec_spki(_explicit_p256(point), point))


@defect
def ec_without_parameters() -> str:
    """An EC key that does not say its curve."""
    return certificate_around(ec_spki(b"", _point(private_key("p256", "by defect"))))


@defect
def ed448_key() -> str:
    """Ed448."""
    key = ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()
    return certificate_around(spki(sequence(oid("1.3.101.113")), key))


@defect
def ed25519_wrong_length() -> str:
    """An Ed25519 key of 31 octets."""
    return certificate_around(spki_of_ed25519(bytes(range(31))))


@defect
def ed25519_identity_key() -> str:
    """The neutral element as public key: one signature fits every message, and anybody can write it down."""
    return certificate_around(spki_of_ed25519(bytes([1, *bytes(31)])))


@defect
def ed25519_small_order_key() -> str:
    """A point of order 8 as public key: anybody finds a signature for any message within eight tries."""
    point = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    return certificate_around(spki_of_ed25519(bytes.fromhex(point)))


@defect
def x25519_key() -> str:
    """X25519 agrees on keys and signs nothing."""
    key = x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()
    return certificate_around(spki(sequence(oid("1.3.101.110")), key))


_DSA = """
MIIBvzCCATMGByqGSM44BAEwggEmAoGBAOvU2+bHj+JMqJRnu51ZaeKlDQsD/23I7A+SrjjaQTzUg3iP98OYhRs6G6LYr8bli4BQXy/2ruYrXxbopYsT
kTQZSXHKS3ymHqanXBZLkrd4hrb0QPegE+kBQIHZcqtweRldYBgwJXvlzUaGBiWx/in6Sc04wsAuZr3TU/tBOHOXAh0A0w3vUTnFKKJlvnFKtmRSXq+2
V8qGb0kdC7eV9QKBgDcv40p9iaATn1unGki5ChMYLLC1fRYLG/kBUc4F4oirTOb47xljc27nod9IO6GYY/I87aFmPhh6GXZd/V7iWSC+w/rqhDK2V52i
4yItLZkuTiuyolsr1UX7gMp1gqjQB94ZgTPfUsouajqCAE9R9NX8+JBrktFvxqoKze2cq5/sA4GFAAKBgQCytNiGQ6mspC0e1ORqU1qdKuf5CE8NI8Fl
gBpECJFQ+3kHp6sSH3EuDAK1J2Glar5nXEexQAwz5TfU79YY3Ev6w0RaOFZRG+FLxGkboywCpyUVggeFNGVO/XcA5sFhZQHZGCLnkQEtCvqpAHMlg694
UVFXb25Dm/CM+XNKrALh3w==
"""
"""A DSA key by `openssl dsaparam 1024`, because making its parameters takes seconds."""


@defect
def dsa_key() -> str:
    """DSA."""
    return certificate_around(base64.b64decode(_DSA))


@defect
def ml_dsa_key() -> str:
    """ML-DSA-44: post-quantum, and not among the algorithms."""
    return certificate_around(spki(sequence(oid("2.16.840.1.101.3.4.3.17")), bytes(1312)))


@defect
def unknown_key_type() -> str:
    """A key algorithm that nobody knows."""
    return certificate_around(spki(sequence(oid("1.3.6.1.4.1.99999.1")), bytes(32)))


# Use and time


@defect
def key_usage_without_digital_signature() -> str:
    """keyUsage is there and leaves out digitalSignature (RFC 5280 section 4.2.1.3)."""
    return pem(good_der(extensions=[key_usage(key_encipherment=True, key_agreement=True)]))


@defect
def key_usage_with_digital_signature() -> str:
    """keyUsage as it should be."""
    return pem(good_der(extensions=[key_usage(digital_signature=True), basic_constraints(False)]))


@defect
def key_usage_only_certificate_signing() -> str:
    """A self-signed CA whose key may sign certificates and nothing else."""
    return pem(good_der(extensions=[key_usage(key_cert_sign=True), basic_constraints(True)]))


@defect
def version_12() -> str:
    """A version of X.509 that there is not."""
    return pem(good_der(version=11))


@defect
def extension_repeated() -> str:
    """The same extension twice with different contents (RFC 5280 section 4.2 forbids it)."""
    usages = [key_usage(key_encipherment=True), key_usage(digital_signature=True)]
    return pem(good_der(extensions=usages))


@defect
def extension_broken() -> str:
    """A keyUsage that is no BIT STRING."""
    return pem(good_der(extensions=[sequence(oid("2.5.29.15"), tlv(0x04, integer(5)))]))


@defect
def self_signed_ca_true() -> str:
    """What `openssl req -x509` makes: self-signed with CA:TRUE, common for clients."""
    return pem(good_der(extensions=[basic_constraints(True)]))


def _chain() -> tuple[bytes, bytes, bytes]:
    """Leaf, intermediate CA, root."""
    root_key, middle_key = private_key("p256", "root"), private_key("p256", "intermediate")
    root = certificate_der(
        public_der(root_key), self_signer(root_key), subject="root", extensions=[basic_constraints(True)]
    )
    middle = certificate_der(
        public_der(middle_key),
        self_signer(root_key),
        subject="intermediate",
        issuer="root",
        extensions=[basic_constraints(True), key_usage(digital_signature=True, key_cert_sign=True)],
    )
    leaf = certificate_der(
        public_der(private_key("p256", "by defect")),
        self_signer(middle_key),
        subject="leaf",
        issuer="intermediate",
        extensions=[basic_constraints(False)],
    )
    return leaf, middle, root


@defect
def ca_issued_by_another() -> str:
    """An intermediate CA's certificate: not the client's own."""
    return pem(_chain()[1])


@defect
def chain_ca_first() -> str:
    """The chain upside down."""
    return "".join(map(pem, reversed(_chain())))


@defect
def chain_leaf_first() -> str:
    """The chain as it should be."""
    return "".join(map(pem, _chain()))


@defect
def chain_leaf_first_without_root() -> str:
    """The chain as servers send it."""
    return "".join(map(pem, _chain()[:2]))


@defect
def chain_with_a_gap() -> str:
    """The intermediate CA is missing."""
    leaf, _, root = _chain()
    return pem(leaf) + pem(root)


@defect
def two_unrelated_certificates() -> str:
    """Old and new certificate pasted into one field."""
    return pem(good_der(subject="old")) + pem(good_der(subject="new"))


@defect
def expired() -> str:
    """Ended yesterday."""
    return pem(good_der(from_days=-9, to_days=-1))


@defect
def not_yet_valid() -> str:
    """Begins tomorrow."""
    return pem(good_der(from_days=1, to_days=9))


@defect
def ends_before_it_begins() -> str:
    """Valid at no time at all."""
    return pem(good_der(from_days=1, to_days=-1))


@defect
def valid_until_9999() -> str:
    """No well-defined end (RFC 5280 section 4.1.2.5)."""
    days = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - datetime.now(UTC)).total_seconds() / 86400
    return pem(good_der(to_days=days))


# The subject


def odd_name(tag: int, content: bytes) -> bytes:
    """A distinguished name whose common name has any tag and content."""
    return sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(tag, content))))


@defect
def subject_of_no_string_type() -> str:
    """The common name is a RELATIVE-OID, which no string type of RFC 5280 section 4.1.2.4 is."""
    return pem(good_der(subject=odd_name(0x0D, b"client")))


@defect
def subject_not_utf8() -> str:
    """The common name claims to be UTF-8 and is not."""
    return pem(good_der(subject=odd_name(0x0C, b"\xff\xfe")))


@defect
def subject_not_utf8_and_ca() -> str:
    """The same in a self-signed CA, where subject and issuer are compared."""
    return pem(good_der(subject=odd_name(0x0C, b"\xff\xfe"), extensions=[basic_constraints(True)]))


@defect
def subject_not_utf8_in_chain() -> str:
    """The same in the second certificate of a chain, where it is compared with the issuer of the first."""
    return pem(good_der()) + subject_not_utf8()


@defect
def subject_with_control_characters() -> str:
    """A common name that would steer a terminal or forge a line of a log."""
    return pem(good_der(subject=odd_name(0x0C, b"client\n\x1b[2J\0")))


@defect
def subject_empty() -> str:
    """No subject at all, which RFC 5280 section 4.1.2.6 allows to leaf certificates."""
    return pem(good_der(subject=sequence()))


# The certificate's own signature


@defect
def tampered_self_signature() -> str:
    """The last bit of the signature on the certificate is flipped."""
    return pem(good_der(tampered=True))


@defect
def signed_with_sha1() -> str:
    """sha1WithRSAEncryption."""
    key = private_key("rsa", "by defect")
    signer = Signer(key, hashes.SHA1(), sequence(oid("1.2.840.113549.1.1.5"), tlv(0x05)))
    return pem(certificate_der(public_der(key), signer))


@defect
def signed_with_md5() -> str:
    """md5WithRSAEncryption."""
    key = private_key("rsa", "by defect")
    signer = Signer(key, hashes.MD5(), sequence(oid("1.2.840.113549.1.1.4"), tlv(0x05)))
    return pem(certificate_der(public_der(key), signer))


@defect
def signed_with_an_unknown_algorithm() -> str:
    """The issuer's signature algorithm is not known here; nothing depends on it."""
    key = private_key("p256", "by defect")
    signer = Signer(key, hashes.SHA256(), sequence(oid("1.3.6.1.4.1.99999.2")))
    return pem(certificate_der(public_der(key), signer))


# Not a certificate


@defect
def private_key_pasted_along() -> str:
    """PKCS #8 after the certificate, as in many .pem files."""
    return pem(good_der()) + private_pem(private_key("p256", "by defect"))


@defect
def private_key_pasted_before() -> str:
    """The traditional form before the certificate."""
    key = private_key("rsa", "by defect").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return key.decode() + pem(good_der())


@defect
def private_key_without_line_breaks() -> str:
    """Spaces and line breaks stripped by the portal, from the labels too."""
    return private_key_pasted_along().replace("\n", "").replace(" ", "")


@defect
def private_key_encrypted() -> str:
    """A private key with a pass phrase is one all the same."""
    encrypted = private_key("p256", "by defect").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    return pem(good_der()) + encrypted.decode()


@defect
def private_key_only() -> str:
    """The wrong file."""
    return private_pem(private_key("p256", "by defect"))


@defect
def private_key_bare_base64() -> str:
    """PKCS #8 in base64 without PEM markers."""
    key = private_key("p256", "by defect").private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.b64encode(key).decode()


@defect
def public_key_only() -> str:
    """SubjectPublicKeyInfo as PEM."""
    return public_pem(private_key("p256", "by defect"))


@defect
def public_key_bare_base64() -> str:
    """SubjectPublicKeyInfo in base64 without PEM markers."""
    return base64.b64encode(public_der(private_key("p256", "by defect"))).decode()


@defect
def certificate_request() -> str:
    """A CSR (RFC 2986)."""
    request = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    )
    signed = request.sign(private_key("p256", "by defect"), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _pkcs7(encoding: serialization.Encoding) -> bytes:
    return pkcs7.serialize_certificates([x509.load_der_x509_certificate(good_der())], encoding)


@defect
def pkcs7_pem() -> str:
    """A certificate inside PKCS #7, as Windows exports .p7b."""
    return _pkcs7(serialization.Encoding.PEM).decode()


@defect
def pkcs7_bare_base64() -> str:
    """PKCS #7 in base64 without PEM markers."""
    return base64.b64encode(_pkcs7(serialization.Encoding.DER)).decode()


@defect
def pkcs7_under_the_label_of_a_certificate() -> str:
    """Some programs label PKCS #7 as CERTIFICATE."""
    return pem(_pkcs7(serialization.Encoding.DER))


@defect
def revocation_list() -> str:
    """A CRL."""
    now = datetime.now(UTC)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")]))
        .last_update(now)
        .next_update(now + timedelta(days=1))
        .sign(private_key("p256", "by defect"), hashes.SHA256())
    )
    return crl.public_bytes(serialization.Encoding.PEM).decode()


@defect
def openssh_public_key() -> str:
    """What ssh-keygen makes."""
    key = private_key("ed25519", "by defect").public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


@defect
def jwk() -> str:
    """A JSON Web Key."""
    return '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'


# Damaged texts


@defect
def truncated_before_its_end_marker() -> str:
    """The last line is missing."""
    return nothing_wrong().partition("-----END")[0]


@defect
def truncated_inside_base64() -> str:
    """The last two lines of base64 are missing, the markers are there."""
    lines = nothing_wrong().splitlines()
    return "\n".join([*lines[:-3], lines[-1]])


@defect
def truncated_bare_base64() -> str:
    """Cut off inside a group of four."""
    return base64.b64encode(good_der()).decode()[:-3]


@defect
def truncated_second_of_chain() -> str:
    """The chain's second certificate was cut off by a length limit."""
    return chain_leaf_first_without_root()[:-40]


@defect
def truncated_second_of_chain_inside_marker() -> str:
    """The length limit fell into the second begin marker."""
    leaf, middle, _ = _chain()
    return pem(leaf) + pem(middle)[:14]


@defect
def octets_after_the_der() -> str:
    """Something follows the certificate inside the base64."""
    return pem(good_der() + b"\0")


@defect
def base64_with_a_foreign_character() -> str:
    """A character that base64 does not have."""
    text = nothing_wrong()
    return text[:100] + "!" + text[101:]


@defect
def trusted_certificate() -> str:
    """What `openssl x509 -trustout` writes: OpenSSL's own notes follow the certificate inside the base64."""
    notes = sequence(sequence(oid("1.3.6.1.5.5.7.3.2")))
    return pem(good_der() + notes, "TRUSTED CERTIFICATE")


@defect
def base64url() -> str:
    """The alphabet of JOSE in place of base64."""
    der = b""
    while not {"+", "/"} & set(base64.b64encode(der).decode()):
        der = good_der()
    return base64.urlsafe_b64encode(der).decode()


@defect
def labels_differ() -> str:
    """BEGIN and END do not belong together."""
    return nothing_wrong().replace("END CERTIFICATE", "END PUBLIC KEY")


@defect
def dashes_by_a_word_processor() -> str:
    """Typographic dashes."""
    return nothing_wrong().replace("--", "\N{EN DASH}")


@defect
def garbage() -> str:
    """Seen in a real portal."""
    return "cert23456"


@defect
def empty_markers() -> str:
    """Markers around nothing."""
    return "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"


@defect
def empty() -> str:
    """Nothing."""
    return ""


@defect
def white_space() -> str:
    """Nothing that can be seen."""
    return " \n\t\n"


@defect
def name_of_a_file() -> str:
    """The path where the content should be."""
    return "/home/tester/client.crt"


@defect
def html() -> str:
    """An error page saved as certificate."""
    return "<!DOCTYPE html><html><body>404 Not Found</body></html>"


@defect
def text_around() -> str:
    """What `openssl x509 -text` and the exports of PKCS #12 files write around the PEM."""
    return f"Bag Attributes\n    friendlyName: client\nsubject=CN = client\n{nothing_wrong()}\nend of file\n"


def main(directory: str) -> None:
    """Write every text to a file of its own."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for defect_name, make in BY_DEFECT.items():
        (folder / f"{defect_name}.pem").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
