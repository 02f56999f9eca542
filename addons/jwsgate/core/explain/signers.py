"""Who, or what, made a signature that does not fit: other keys that are registered, and what is left to suspect.

All this comes after the decision has refused the JWS, and only for people: nothing here ever makes a JWS pass.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from jwsgate.core.algorithms import ALGORITHMS
from jwsgate.core.certificates import RegisteredCertificate
from jwsgate.core.jws import CompactJws
from jwsgate.core.portal import Application, Portal
from jwsgate.core.wording import Mistake, ago, moment, shown

from .slips import (
    algorithm_used,
    digest_named,
    fits,
    length_mistake,
    mixed_up,
    own_key_mistake,
    secret_used,
    signed_something,
)

__all__ = ["Signed", "algorithm_mistake", "called", "signature_mistake"]

_HMAC_OCTETS: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
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
        if fits(signed.jws, certificate):
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
    signers = [certificate for certificate in signed.usable if fits(signed.jws, certificate)]
    if signers:
        return _wrongly_named(named, signers[0])
    if not named or named <= {certificate.thumbprint for certificate in signed.usable}:
        return None
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


def _wrongly_named(named: set[str], signer: RegisteredCertificate) -> Mistake:
    """The signature is good, and only the thumbprint in the header is not that of the key that signed."""
    things = [digest_named(thumbprint, signer) for thumbprint in named]
    thing = next(filter(None, things), None)
    remedy = f"name {_name(signer)}, or leave the parameter out"
    if thing is not None:
        return Mistake(
            f"The signature is good, but x5t#S256 is the digest of the {thing}, not of the certificate's DER", remedy
        )
    which = "another certificate than the registered one"
    return Mistake(f"The signature is good, but x5t#S256 or x5c names {which}", remedy)


_CHANGED: Final = "send header and payload octet for octet as they were signed; a JWS cannot be edited, only made anew"


def signature_mistake(signed: Signed) -> Mistake:
    """Why a signature does not match; at worst, what is left to suspect."""
    jws = signed.jws
    if any(fits(jws, certificate) for certificate in signed.usable) and (named := _named_certificate(signed)):
        return named
    for certificate in signed.usable:
        if (mistake := own_key_mistake(jws, certificate)) is not None:
            return mistake
    mistake = _other_signer(signed) or _named_certificate(signed) or length_mistake(jws, signed.usable)
    if mistake is not None:
        return mistake
    by_own = any(signed_something(jws, certificate.key.public_key) is not None for certificate in signed.usable)
    if by_own or jws.header.certificate_thumbprints:
        by = "Signed by the registered key, but" if by_own else "It seems that"
        return Mistake(f"{by} header or payload were changed after signing: the signature fits other octets", _CHANGED)
    newest = max(signed.usable, key=lambda certificate: certificate.not_before)
    suspect = (
        f"Signed with a key that {_nobody(signed)} has registered, or header or payload were changed after signing"
    )
    if signed.now - newest.not_before < _NEW_FOR:
        since = ago(newest.not_before, signed.now)
        return Mistake(
            f"{suspect}; the registered certificate is new ({since}): perhaps with the former key",
            f"sign with the key of {_name(newest)}, and send header and payload as they were signed",
        )
    return Mistake(suspect, f"sign with the key of {_name(newest)}, or register the certificate of the key that signs")


# The algorithm


def _said_otherwise(signed: Signed) -> Mistake | None:
    """The registered key made the signature, by another algorithm than the header says."""
    for certificate in signed.usable:
        if (used := algorithm_used(signed.jws, certificate)) is not None:
            return mixed_up(signed.jws.header.alg, used)
    return None


def _shared_secret(signed: Signed, alg: str) -> Mistake:
    if (otherwise := _said_otherwise(signed)) is not None:
        return otherwise
    remedy = (
        f"sign with the private key, and {signed.usable[0].key.algorithms[0]}; a JWS is never verified with a secret"
    )
    has = len(signed.jws.signature)
    if has != _HMAC_OCTETS[alg]:
        how = f"whose signatures have {_HMAC_OCTETS[alg]} octets, but this one has {has}: it is of another algorithm"
        return Mistake(f"The JOSE header says alg {alg}, {how}", remedy)
    for certificate in signed.usable:
        if (name := secret_used(signed.jws, certificate, signed.application.client_ids)) is not None:
            return Mistake(f"Signed with {alg}, with the {name} as the shared secret", remedy)
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
    if (other := _said_otherwise(signed) or _other_signer(signed)) is not None:
        return other
    kinds = " and ".join(dict.fromkeys(f"{c.key.kind}" for c in signed.usable))
    if not any(alg in certificate.key.algorithms for certificate in signed.usable):
        return Mistake(f"Signed with {alg}, but the registered certificate holds a key of the kind {kinds}", remedy)
    return Mistake(f"Signed with {alg}, which the policy or the application does not allow", remedy)
