"""Who, or what, made a signature that does not fit: the usual slips of signing, told apart by trying them.

Each guess is put to `jws.verify` itself or, where a slip is outside JOSE, to the same key. All this comes after the
decision has refused the JWS, and only for people: nothing here ever makes a JWS pass.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509 import load_der_x509_certificate

from jwsgate.core.algorithms import ALGORITHMS, KeyKind
from jwsgate.core.certificates import RegisteredCertificate
from jwsgate.core.jws import CompactJws, verify
from jwsgate.core.portal import Application, Portal
from jwsgate.core.reasons import Rejection
from jwsgate.core.spelling import lenient_octets
from jwsgate.core.wording import Mistake, ago, moment, shown

__all__ = ["Signed", "algorithm_mistake", "called", "signature_mistake"]

_DIGESTS: Final[dict[str, Any]] = {"SHA-256": hashes.SHA256, "SHA-384": hashes.SHA384, "SHA-512": hashes.SHA512}
_WHAT_IS_SIGNED: Final = "sign the ASCII octets of header.payload as they are sent (RFC 7515 section 5.1)"
_NEW_FOR: Final = 7 * 86_400


class Signed(NamedTuple):
    """A JWS that was read, and whose it is said to be."""

    jws: CompactJws
    application: Application
    usable: Sequence[RegisteredCertificate]
    """The certificates of the application that count at `now`."""
    portal: Portal
    searched: int
    """How many of its applications are searched for the key that signed."""
    claims: dict[str, Any]
    """As they stand in the payload, unverified; empty where they cannot be read."""
    now: float


def _fits(jws: CompactJws, certificate: RegisteredCertificate) -> bool:
    bare = jws._replace(header=replace(jws.header, certificate_thumbprints=()))
    try:
        verify(bare, certificate)
    except Rejection:
        return False
    return True


def _name(certificate: RegisteredCertificate) -> str:
    return f"{shown(certificate.subject)} (SHA-256 {certificate.thumbprint[:16]}…)"


def called(application: Application) -> str:
    """What people call an application, in quotes."""
    return repr(shown(application.title or application.name or "(unnamed)"))


# Which key


def _other_certificates(signed: Signed) -> Iterator[tuple[Application, RegisteredCertificate]]:
    own = [c for c in signed.application.certificates if c not in signed.usable]
    yield from ((signed.application, certificate) for certificate in own)
    for application in islice(signed.portal.applications, signed.searched):
        if application.client_ids != signed.application.client_ids:
            yield from ((application, certificate) for certificate in application.certificates)


def _nobody(signed: Signed) -> str:
    if len(signed.portal.applications) > signed.searched:
        return f"none of the first {signed.searched} applications"
    return "no application"


def _other_signer(signed: Signed) -> Mistake | None:
    for application, certificate in _other_certificates(signed):
        if _fits(signed.jws, certificate):
            if application is signed.application:
                return _retired(certificate, signed.now)
            return _stranger(signed, application, certificate)
    return None


def _retired(certificate: RegisteredCertificate, now: float) -> Mistake:
    if now < certificate.not_before:
        headline = (
            f"Signed with the application's next key, whose certificate counts {ago(certificate.not_before, now)}"
        )
        remedy = f"go on signing with the present key until {moment(certificate.not_before)}"
    else:
        ended = ago(certificate.not_after, now)
        headline = f"Signed with the application's former key, whose certificate ended {ended}: the key was rotated"
        remedy = "sign with the key of the certificate that is registered now"
    return Mistake(f"{headline}: {_name(certificate)}", remedy)


def _stranger(signed: Signed, other: Application, certificate: RegisteredCertificate) -> Mistake:
    whose = f"{called(other)} (client ID {shown(', '.join(other.client_ids))})"
    own = called(signed.application)
    if any(value in other.client_ids for value in signed.claims.values() if isinstance(value, str)):
        return Mistake(
            f"The client ID is that of application {own}, but the JWS was made and signed by {whose}",
            "send the client ID of the application that signs",
        )
    return Mistake(
        f"Signed with another application's key: that of {whose}, not that of {own}",
        f"sign with the key of {own}, or send the client ID that goes with {_name(certificate)}",
    )


def _named_certificate(signed: Signed) -> Mistake | None:
    """What x5t#S256 or x5c say of a certificate that is none of those that count."""
    named = set(signed.jws.header.certificate_thumbprints)
    if not named or named <= {certificate.thumbprint for certificate in signed.usable}:
        return None
    if any(_fits(signed.jws, certificate) for certificate in signed.usable):
        return Mistake(
            "The signature is good, but x5t#S256 or x5c names another certificate than the registered one",
            f"name {', '.join(_name(certificate) for certificate in signed.usable)}, or leave the parameter out",
        )
    for application, certificate in _other_certificates(signed):
        if certificate.thumbprint in named:
            if application is signed.application:
                return _retired(certificate, signed.now)
            return Mistake(
                f"x5t#S256 or x5c names the certificate of application {called(application)}",
                f"sign with the key of {called(signed.application)}, and name its certificate",
            )
    return Mistake(
        f"x5t#S256 or x5c names a certificate that {_nobody(signed)} has registered",
        "register that certificate in the developer portal, or sign with the key of the registered one",
    )


# How it was signed


def _inputs(jws: CompactJws) -> Iterator[tuple[str, bytes]]:
    """What is signed by mistake in place of header.payload."""
    given = jws.signing_input
    first, _, second = given.partition(b".")
    header = lenient_octets(first) or b""
    yield "with a line break at its end (`echo` adds one, `printf %s` does not)", given + b"\n"
    yield "before base64url, as header.payload of plain JSON", header + b"." + jws.payload
    yield "without the header: the payload alone, before base64url", jws.payload
    yield "without the header: the payload alone", second
    yield "with = as padding, which was then removed", _padded(first) + b"." + _padded(second)
    for name, digest in (("SHA-256", hashlib.sha256), ("SHA-384", hashlib.sha384), ("SHA-512", hashlib.sha512)):
        yield f"hashed twice: its {name} was signed, which signing then hashed again", digest(given).digest()
        yield f"hashed twice: the hex of its {name} was signed", digest(given).hexdigest().encode("ascii")


def _padded(segment: bytes) -> bytes:
    return segment + b"=" * (-len(segment) % 4)


def _spelled_signatures(signature: bytes, octets: int) -> Iterator[tuple[str, str, bytes]]:
    raw = "put the two integers r and s one after the other, each at the curve's length (RFC 7518 section 3.4)"
    with suppress(ValueError, OverflowError):
        r, s = decode_dss_signature(signature)
        half = octets // 2
        yield (
            "The ECDSA signature is in DER (as OpenSSL writes it), not in the raw form r‖s of JOSE",
            raw,
            (r.to_bytes(half) + s.to_bytes(half)),
        )
    encoded = "encode the octets of the signature in base64url, once"
    with suppress(ValueError):
        yield "The signature is the base64url of its hex", encoded, bytes.fromhex(signature.decode("ascii"))
    if (inner := lenient_octets(signature)) is not None:
        yield "The signature is base64-encoded twice", encoded, inner


def _own_key_mistake(jws: CompactJws, certificate: RegisteredCertificate) -> Mistake | None:
    key = certificate.key
    for headline, remedy, signature in _spelled_signatures(jws.signature, key.signature_octets):
        if _fits(jws._replace(signature=signature), certificate):
            return Mistake(headline, remedy)
    if len(jws.signature) != key.signature_octets:
        return None
    for alg in key.algorithms:
        if alg != jws.header.alg and _fits(jws._replace(header=replace(jws.header, alg=alg)), certificate):
            return _mixed_up(jws.header.alg, alg)
    for how, signing_input in _inputs(jws):
        if _fits(jws._replace(signing_input=signing_input), certificate):
            return Mistake(f"The signature is good, but what was signed is not header.payload: {how}", _WHAT_IS_SIGNED)
    return _outside_jose(jws, key.kind, certificate.key.public_key)


def _mixed_up(said: str, used: str) -> Mistake:
    kind = ""
    if said[:2] != used[:2] and {said[:2], used[:2]} == {"RS", "PS"}:
        kind = " (RSASSA-PSS and PKCS #1 v1.5 mixed up)"
    return Mistake(
        f"The JOSE header says alg {shown(said)}, but it was signed as {used}{kind}",
        f"write alg {used} into the header before signing, or sign as {shown(said)}",
    )


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
        sha1 = hashes.SHA1()  # noqa: S303 - to recognize it, never to let it pass
        if _holds(partial(key.verify, signature, signed, padding.PKCS1v15(), sha1)):
            return Mistake("Signed with SHA-1, which no JWS algorithm uses", "sign with SHA-256 (RS256)")
    elif isinstance(key, ec.EllipticCurvePublicKey):
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


def _signed_something_else(jws: CompactJws, certificate: RegisteredCertificate) -> bool:
    """Whether the key made this signature over something else, which only RSA PKCS #1 v1.5 lets one see."""
    key = certificate.key.public_key
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    return any(
        _holds(partial(key.recover_data_from_signature, jws.signature, padding.PKCS1v15(), digest()))
        for digest in _DIGESTS.values()
    )


_CHANGED: Final = "send header and payload octet for octet as they were signed; a JWS cannot be edited, only made anew"


def signature_mistake(signed: Signed) -> Mistake:
    """Why a signature does not match; at worst, what is left to suspect."""
    jws = signed.jws
    for certificate in signed.usable:
        if (mistake := _own_key_mistake(jws, certificate)) is not None:
            return mistake
    mistake = _other_signer(signed) or _named_certificate(signed)
    if mistake is not None:
        return mistake
    if any(_signed_something_else(jws, certificate) for certificate in signed.usable) or (
        jws.header.certificate_thumbprints
    ):
        by = "Signed by the registered key, but" if not jws.header.certificate_thumbprints else "It seems that"
        return Mistake(f"{by} header or payload were changed after signing: the signature fits other octets", _CHANGED)
    newest = max(signed.usable, key=lambda certificate: certificate.not_before)
    if signed.now - newest.not_before < _NEW_FOR:
        since = ago(newest.not_before, signed.now)
        return Mistake(
            f"Signed with a key that is not registered; its certificate is new ({since}): perhaps with the former key",
            f"sign with the key of {_name(newest)}",
        )
    return Mistake(
        f"Signed with a key that {_nobody(signed)} has registered, or header or payload were changed after signing",
        f"sign with the key of {_name(newest)}, or register the certificate of the key that signs",
    )


# The algorithm


def _secrets(certificate: RegisteredCertificate) -> Iterator[tuple[str, bytes]]:
    key = certificate.key.public_key
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    for der in certificate.chain[:1]:
        yield "certificate's DER", der
        yield "certificate's PEM", load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    yield "public key's PEM", key.public_bytes(serialization.Encoding.PEM, spki)
    yield "public key's DER", key.public_bytes(serialization.Encoding.DER, spki)
    yield "certificate's thumbprint", certificate.thumbprint.encode("ascii")


def _shared_secret(signed: Signed, alg: str) -> Mistake:
    remedy = (
        f"sign with the private key, and {signed.usable[0].key.algorithms[0]}; a JWS is never verified with a secret"
    )
    digest = f"sha{alg[2:]}"
    for certificate in signed.usable:
        for name, secret in _secrets(certificate):
            for spelled in (secret, secret.rstrip(b"\n")):
                made = hmac.new(spelled, signed.jws.signing_input, digest).digest()
                if hmac.compare_digest(made, signed.jws.signature):
                    return Mistake(f"Signed with {alg}, with the registered {name} as the shared secret", remedy)
    return Mistake(f"Signed with {alg}, an algorithm with a shared secret, not with the private key", remedy)


def algorithm_mistake(signed: Signed, allowed: frozenset[str] | None) -> Mistake:
    """Why an algorithm is not allowed. `allowed` is what policy and portal leave; None: all that the key has."""
    alg = signed.jws.header.alg
    possible = [
        name
        for certificate in signed.usable
        for name in certificate.key.algorithms
        if allowed is None or name in allowed
    ]
    remedy = (
        f"sign with {' or '.join(dict.fromkeys(possible))}" if possible else "register a key that the policy allows"
    )
    if alg.lower() == "none":
        return Mistake("The JWS is not signed: alg is none", remedy)
    if alg in {"HS256", "HS384", "HS512"}:
        return _shared_secret(signed, alg)
    if alg not in ALGORITHMS:
        if alg.upper() in ALGORITHMS or alg.lower() == "eddsa":
            return Mistake(f"alg is written {shown(alg, 20)!r}; names of algorithms are case-sensitive", remedy)
        return Mistake(f"alg {shown(alg, 20)!r} is no algorithm for a registered certificate", remedy)
    if (other := _other_signer(signed)) is not None:
        return other
    kinds = " and ".join(dict.fromkeys(f"{c.key.kind}" for c in signed.usable))
    if not any(alg in certificate.key.algorithms for certificate in signed.usable):
        return Mistake(f"Signed with {alg}, but the registered certificate holds a key of the kind {kinds}", remedy)
    return Mistake(f"Signed with {alg}, which the policy or the application does not allow", remedy)
