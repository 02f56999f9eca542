"""Slips of signing: a signature by the right key that is spelled, made or declared in a way that does not verify.

Each guess is put to `jws.verify` itself or, where a slip is outside JOSE, to the same key. All this comes after the
decision has refused the JWS, and only for people: nothing here ever makes a JWS pass.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509 import load_der_x509_certificate

from jwsgate.core.algorithms import KeyKind
from jwsgate.core.certificates import RegisteredCertificate
from jwsgate.core.jws import CompactJws, verify
from jwsgate.core.reasons import Rejection
from jwsgate.core.spelling import lenient_octets
from jwsgate.core.wording import Mistake, shown

__all__ = [
    "algorithm_used", "digest_named", "fits", "length_mistake", "mixed_up", "own_key_mistake", "secret_used",
    "signed_something",
]  # fmt: skip

_DIGESTS: Final[dict[str, Any]] = {"SHA-256": hashes.SHA256, "SHA-384": hashes.SHA384, "SHA-512": hashes.SHA512}
_WHAT_IS_SIGNED: Final = "sign the ASCII octets of header.payload as they are sent (RFC 7515 section 5.1)"
_RAW: Final = "put the two integers r and s one after the other, each at the curve's length (RFC 7518 section 3.4)"
_ENCODED: Final = "encode the octets of the signature in base64url, once"
_MD5_INFO: Final = bytes.fromhex("3020300c06082a864886f70d020505000410")
"""What RFC 8017 section 9.2 has before an MD5 in a signature."""
_ZEROS_LOST: Final = 4
"""So many octets may a signature be short of for its leading zeros; each is a chance of 1 to 256."""
_SPKI: Final = serialization.PublicFormat.SubjectPublicKeyInfo
_DER, _PEM = serialization.Encoding.DER, serialization.Encoding.PEM


def fits(jws: CompactJws, certificate: RegisteredCertificate) -> bool:
    """Whether the certificate's key verifies the JWS, whatever certificate its header names."""
    bare = jws._replace(header=replace(jws.header, certificate_thumbprints=()))
    try:
        verify(bare, certificate)
    except Rejection:
        return False
    return True


# What was signed


def _inputs(jws: CompactJws) -> Iterator[tuple[str, bytes]]:
    """What is signed by mistake in place of header.payload."""
    given = jws.signing_input
    first, _, second = given.partition(b".")
    header = lenient_octets(first) or b""
    yield "with a line break at its end (`echo` adds one, `printf %s` does not)", given + b"\n"
    yield "with a line break of Windows at its end", given + b"\r\n"
    yield "without the dot between the two", first + second
    yield "as UTF-16, in which each character has two octets", given.decode("latin-1").encode("utf-16-le")
    yield "before base64url, as header.payload of plain JSON", header + b"." + jws.payload
    yield "without the header: the payload alone, before base64url", jws.payload
    yield "without the header: the payload alone", second
    if (padded := _padded(first) + b"." + _padded(second)) != given:
        yield "with = as padding, which was then removed", padded
    for name, digest in (("SHA-256", hashlib.sha256), ("SHA-384", hashlib.sha384), ("SHA-512", hashlib.sha512)):
        yield f"hashed twice: its {name} was signed, which signing then hashed again", digest(given).digest()
        yield f"hashed twice: the hex of its {name} was signed", digest(given).hexdigest().encode("ascii")


def _padded(segment: bytes) -> bytes:
    return segment + b"=" * (-len(segment) % 4)


# How the signature is spelled


def _encoded_signatures(signature: bytes) -> Iterator[tuple[str, bytes]]:
    with suppress(ValueError):
        yield "the base64url of its hex", bytes.fromhex(signature.decode("ascii"))
    if (inner := lenient_octets(signature)) is not None:
        yield "base64-encoded twice", inner


def _raw_signatures(signature: bytes, octets: int) -> Iterator[tuple[str, bytes]]:
    """An ECDSA signature as it has to be, from one in another form."""
    half = octets // 2
    with suppress(ValueError, OverflowError):
        r, s = decode_dss_signature(signature)
        yield "is in DER (as OpenSSL writes it), not in the raw form r‖s of JOSE", r.to_bytes(half) + s.to_bytes(half)
    if len(signature) == octets:
        r_octets, s_octets = signature[:half], signature[half:]
        yield "has r and s in the wrong order", s_octets + r_octets
        yield "has r and s in little-endian, not with the highest octet first", r_octets[::-1] + s_octets[::-1]
        yield "is in little-endian as a whole, not with the highest octet first", signature[::-1]
    missing = octets - len(signature)
    if 0 < missing <= _ZEROS_LOST:
        lost = f"has {len(signature)} octets in place of {octets}: leading zeros of r or s were left out"
        for at in range(half - missing, half + 1):
            yield lost, signature[:at].rjust(half, b"\0") + signature[at:].rjust(half, b"\0")


def _respelled(jws: CompactJws, certificate: RegisteredCertificate) -> Mistake | None:
    """A good signature in another spelling than that of JOSE."""
    key, signature = certificate.key, jws.signature

    def good(octets: bytes) -> bool:
        return fits(jws._replace(signature=octets), certificate)

    on_curve = isinstance(key.public_key, ec.EllipticCurvePublicKey)
    if on_curve:
        for how, octets in _raw_signatures(signature, key.signature_octets):
            if good(octets):
                return Mistake(f"The ECDSA signature {how}", _RAW)
    elif isinstance(key.public_key, rsa.RSAPublicKey) and good(signature.rjust(key.signature_octets, b"\0")):
        how = f"has {len(signature)} octets in place of {key.signature_octets}: leading zeros were left out"
        return Mistake(f"The signature {how}", "write it at the length of the key's modulus (RFC 8017 section 8.2.1)")
    for how, inner in _encoded_signatures(signature):
        if good(inner):
            return Mistake(f"The signature is {how}", _ENCODED)
        for form, octets in _raw_signatures(inner, key.signature_octets) if on_curve else ():
            if good(octets):
                return Mistake(f"The signature is {how}, and {form}", f"{_RAW}; {_ENCODED}")
    return None


def length_mistake(jws: CompactJws, certificates: Iterable[RegisteredCertificate]) -> Mistake | None:
    """A signature of another length than any that these keys make, told to be cut off where no key makes it."""
    lengths = sorted({certificate.key.signature_octets for certificate in certificates})
    has = len(jws.signature)
    if has in lengths:
        return None
    how = "made with another key" if has > max(lengths) else "cut off"
    if has in _USUAL_OCTETS and has < max(lengths):
        how = "made with another key, or cut off"
    good = " or ".join(map(str, lengths))
    return Mistake(
        f"The signature has {has} octets; {shown(jws.header.alg)} with the registered key has {good}: it was {how}",
        "sign with the key of the registered certificate, and send the signature whole",
    )


_USUAL_OCTETS: Final = frozenset({32, 48, 64, 96, 128, 132, 256, 384, 512})
"""Of signatures by a shared secret, on a curve, and with RSA."""


# By which algorithm


def algorithm_used(jws: CompactJws, certificate: RegisteredCertificate) -> str | None:
    """Another algorithm than the header names, by which the key made the signature."""
    for alg in certificate.key.algorithms:
        if alg != jws.header.alg and fits(jws._replace(header=replace(jws.header, alg=alg)), certificate):
            return alg
    return None


def mixed_up(said: str, used: str) -> Mistake:
    """The header names one algorithm, and the signature is of another."""
    kind = ""
    if said[:2] != used[:2] and {said[:2], used[:2]} == {"RS", "PS"}:
        kind = " (RSASSA-PSS and PKCS #1 v1.5 mixed up)"
    remedy = f"write alg {used} into the header before signing"
    if said[:2] in {"RS", "PS"}:
        remedy += f", or sign as {shown(said)}"
    return Mistake(f"The JOSE header says alg {shown(said)}, but it was signed as {used}{kind}", remedy)


def own_key_mistake(jws: CompactJws, certificate: RegisteredCertificate) -> Mistake | None:
    """What was done wrong with the right key; None where it is another key's signature, or nothing usual."""
    if (respelled := _respelled(jws, certificate)) is not None:
        return respelled
    key = certificate.key
    if len(jws.signature) != key.signature_octets:
        return None
    if (used := algorithm_used(jws, certificate)) is not None:
        return mixed_up(jws.header.alg, used)
    for how, signing_input in _inputs(jws):
        if fits(jws._replace(signing_input=signing_input), certificate):
            return Mistake(f"The signature is good, but what was signed is not header.payload: {how}", _WHAT_IS_SIGNED)
    return _outside_jose(jws, key.kind, key.public_key)


# Outside JOSE


def _holds(check: Callable[[], object]) -> bool:
    try:
        check()
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _outside_jose(jws: CompactJws, kind: KeyKind, key: Any) -> Mistake | None:
    """Signatures by the right key in a way that no JWS algorithm has."""
    signature, signed = jws.signature, jws.signing_input
    all_digests = {**_DIGESTS, "SHA-1": hashes.SHA1}
    if isinstance(key, rsa.RSAPublicKey):
        for name, digest in all_digests.items():
            for mask, mask_name in ((digest, name), (hashes.SHA1, "SHA-1")):
                pss = padding.PSS(padding.MGF1(mask()), padding.PSS.AUTO)
                if _holds(partial(key.verify, signature, signed, pss, digest())):
                    return Mistake(
                        f"Signed with RSASSA-PSS, but not with the salt length or mask of {shown(jws.header.alg)} "
                        f"({name}, mask by {mask_name})",
                        "set the salt to the length of the digest and MGF1 to the same digest (RFC 7518 section 3.5)",
                    )
        return _other_pkcs1(signed, signed_something(jws, key))
    if isinstance(key, ec.EllipticCurvePublicKey):
        half = len(signature) // 2
        r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        for name, digest in all_digests.items():
            if _holds(partial(_verify_ecdsa, key, r, s, signed, digest())):
                return Mistake(
                    f"Signed on the curve {kind} with {name}, where {shown(jws.header.alg)} has another digest",
                    "sign with the digest of the algorithm (RFC 7518 section 3.4)",
                )
    return None


def _verify_ecdsa(key: ec.EllipticCurvePublicKey, r: int, s: int, signed: bytes, digest: hashes.HashAlgorithm) -> None:
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))


def signed_something(jws: CompactJws, key: Any) -> bytes | None:
    """What the key signed, of which only RSA PKCS #1 v1.5 lets one see anything: a digest and, before it, its name."""
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    try:
        return key.recover_data_from_signature(jws.signature, padding.PKCS1v15(), None)
    except (InvalidSignature, ValueError, TypeError):
        return None


def _other_pkcs1(signed: bytes, inside: bytes | None) -> Mistake | None:
    if inside is None:
        return None
    remedy = "sign with SHA-256 (RS256)"
    sha1 = hashlib.sha1(signed, usedforsecurity=False).digest()
    md5 = hashlib.md5(signed, usedforsecurity=False).digest()
    if len(inside) > len(sha1) and inside.endswith(sha1):
        return Mistake("Signed with SHA-1, which no JWS algorithm uses", remedy)
    if inside == _MD5_INFO + md5:
        return Mistake("Signed with MD5, which no JWS algorithm uses", remedy)
    if inside in {digest(signed).digest() for digest in (hashlib.sha256, hashlib.sha384, hashlib.sha512)}:
        return Mistake(
            "Signed without the name of the digest: the bare digest was encrypted with the private key",
            "sign with RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2), which writes the digest's name before it",
        )
    return None


# By a secret, and by the name of a certificate


def _secrets(certificate: RegisteredCertificate) -> Iterator[tuple[str, bytes]]:
    """What a client has of its certificate, and may take for a secret."""
    key = certificate.key.public_key
    for der in certificate.chain[:1]:
        yield "registered certificate's DER", der
        yield "registered certificate's PEM", load_der_x509_certificate(der).public_bytes(_PEM)
    yield "registered public key's PEM", key.public_bytes(_PEM, _SPKI)
    yield "registered public key's DER", key.public_bytes(_DER, _SPKI)
    yield "registered certificate's thumbprint", certificate.thumbprint.encode("ascii")


def secret_used(jws: CompactJws, certificate: RegisteredCertificate, client_ids: Iterable[str]) -> str | None:
    """What everybody may know, and was used as the secret of an HMAC."""
    digest = f"sha{jws.header.alg[2:]}"
    ids = [("client ID", client_id.encode("utf-8")) for client_id in client_ids]
    for name, secret in (*_secrets(certificate), *ids):
        for spelled in (secret, secret.rstrip(b"\n"), secret.replace(b"\n", b"\r\n")):
            if hmac.compare_digest(hmac.new(spelled, jws.signing_input, digest).digest(), jws.signature):
                return name
    return None


def digest_named(thumbprint: str, certificate: RegisteredCertificate) -> str | None:
    """What else of this certificate a wrong thumbprint (lower-case hex) is the SHA-256 of."""
    if thumbprint == certificate.thumbprint:
        return None
    named = bytes.fromhex(thumbprint)
    for name, octets in _secrets(certificate):
        if named in {hashlib.sha256(octets).digest(), hashlib.sha256(octets.rstrip(b"\n")).digest()}:
            return name
    return None
