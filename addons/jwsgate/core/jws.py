"""Compact JWS (RFC 7515 section 7.1): the strict reading, then the verification, never the other way round.

Rule 1. Size before anything else; then the shape; then base64url in its one canonical spelling.
Rule 2. The JOSE header is a strict JSON object and asks for nothing that this module does not do.
Rule 3. No header parameter ever finds a key: `jwk`, `jku`, `x5u` and `kid` are not looked at.
Rule 4. The payload is handed out unread; nobody looks at it before `verify` has returned.
Rule 5. Detached content and `b64: false` are read only where the caller says so; nothing of the JWS turns them on.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from jwcrypto.jwa import JWA

from .algorithms import ALGORITHMS
from .certificates import RegisteredCertificate
from .reasons import Reason, Rejection
from .strict_json import StrictJsonError, parse_object

__all__ = ["DEFAULT_MAX_OCTETS", "CompactJws", "JoseHeader", "attach", "parse_compact", "payload_of", "verify"]

DEFAULT_MAX_OCTETS: Final = 16384

_BASE64URL: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_PADDING: Final = (b"", b"===", b"==", b"=")
_LAST_CHARACTERS: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
"""Which last characters leave no bits over, by the length of the segment modulo 4."""

_REFUSED_PARAMETERS: Final = ("crit", "b64", "zip", "enc")
_STRING_PARAMETERS: Final = ("alg", "typ", "cty", "kid")
_KID: Final = re.compile(rb'"kid"[ \t\r\n]*+:[ \t\r\n]*+"([ !#-Z^-z|~]*+)"')
"""A `kid` that stands for itself in a JSON string; without brackets, which `parse_object` counts wherever they are."""
_SHORT: Final = 384
"""Octets of a JOSE header up to which it is remembered."""
_HEX_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")

_VERIFIERS: Final[dict[str, Any]] = {name: JWA.signing_alg(name) for name in ALGORITHMS}
"""jwcrypto's algorithm objects; they hold no state, so that one each is enough."""


@dataclass(frozen=True, slots=True)
class JoseHeader:
    """The header parameters that matter here; all others are ignored as RFC 7515 section 4 asks."""

    alg: str
    typ: str | None
    certificate_thumbprints: tuple[str, ...]
    """What `x5t#S256` and the first of `x5c` say of the signer's certificate, as lower-case hex."""
    unencoded: bool = False
    """RFC 7797: `b64` is false, and the payload was signed as it is."""


class CompactJws(NamedTuple):
    """One JWS, read but not verified. A tuple, as that is cheaper to make than a frozen dataclass."""

    header: JoseHeader
    payload: bytes
    signing_input: bytes
    signature: bytes


def _malformed(detail: str) -> Rejection:
    return Rejection(Reason.JWS_MALFORMED, detail)


def _decode_segment(segment: bytes, name: str) -> bytes:
    """The octets of a segment of base64url characters, which must be the one spelling of its octets.

    RFC 4648 section 3.5: the last character may carry bits that decoders drop. They must be zero, so that what
    was decoded encodes to the same segment again.
    """
    rest = len(segment) % 4
    if rest == 1:
        raise _malformed(f"the {name} is not base64url")
    if rest and segment[-1] not in _LAST_CHARACTERS[rest]:
        raise _malformed(f"the {name} is not in the canonical form of base64url")
    return binascii.a2b_base64(segment.translate(_TO_STANDARD) + _PADDING[rest])


def _thumbprint_of_x5t(value: object) -> str:
    """RFC 7515 section 4.1.8: base64url of the SHA-256 of the certificate's DER."""
    if not isinstance(value, str):
        raise _malformed("x5t#S256 is not a string")
    if _HEX_SHA256.fullmatch(value):
        raise _malformed("x5t#S256 is written in hex; RFC 7515 section 4.1.8 asks for base64url of the 32 octets")
    try:
        octets = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("x5t#S256 is not base64url") from None
    if len(octets) != 32 or base64.urlsafe_b64encode(octets).rstrip(b"=").decode() != value:
        raise _malformed("x5t#S256 is not the base64url of 32 octets")
    return octets.hex()


def _thumbprint_of_x5c(value: object) -> str:
    """RFC 7515 section 4.1.6: an array of standard base64 DER, the signer's certificate first."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise _malformed("x5c is not an array of strings")
    try:
        der = base64.b64decode(value[0], validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("x5c is not base64") from None
    return hashlib.sha256(der).hexdigest()


@lru_cache(maxsize=1024)
def _short_header(octets: bytes, unencoded: bool) -> JoseHeader:
    # Clients send the same few JOSE headers again and again; exceptions are not cached, so neither are attacks.
    return _read_header(octets, unencoded)


def _without_kid(octets: bytes) -> bytes:
    """The octets of a JOSE header with its `kid` emptied, in which alone the headers of many clients differ.

    Nothing else that `_read_header` looks at changes: what is taken out is the inside of a string, or the whole is no
    JSON either way; and that string is the value of a member whose name ends in `kid`.
    """
    found = _KID.search(octets)
    return octets if found is None else octets[: found.start(1)] + octets[found.end(1) :]


def _is_unencoded(members: dict[str, Any]) -> bool:
    """RFC 7797 section 6: `b64` counts only when `crit` names it; anything else beside it is refused."""
    return members.get("b64") is False and members.get("crit") == ["b64"]


def _read_header(octets: bytes, unencoded_allowed: bool) -> JoseHeader:
    try:
        members = parse_object(octets)
    except StrictJsonError as error:
        raise _malformed(f"the JOSE header is refused: {error}") from None
    unencoded = unencoded_allowed and _is_unencoded(members)
    for name in _REFUSED_PARAMETERS:
        if name in members and not (unencoded and name in {"crit", "b64"}):
            raise Rejection(Reason.HEADER_PARAMETER_UNSUPPORTED, f"the JOSE header has {name}")
    if "alg" not in members:
        raise _malformed("the JOSE header has no alg")
    for name in _STRING_PARAMETERS:
        if name in members and not isinstance(members[name], str):
            raise _malformed(f"the header parameter {name} is not a string")
    thumbprints = []
    if "x5t#S256" in members:
        thumbprints.append(_thumbprint_of_x5t(members["x5t#S256"]))
    if "x5c" in members:
        thumbprints.append(_thumbprint_of_x5c(members["x5c"]))
    return JoseHeader(members["alg"], members.get("typ"), tuple(thumbprints), unencoded)


def parse_compact(
    text: bytes, max_octets: int = DEFAULT_MAX_OCTETS, *, detached: bool = False, unencoded: bool = False
) -> CompactJws:
    """Read a compact JWS without any key.

    With `detached`, the payload's segment must be empty (RFC 7515 appendix F) and `attach` must follow;
    `unencoded` then also takes `b64: false` (RFC 7797).

    Raises:
        Rejection: `jws_too_large`, `jws_malformed` or `header_parameter_unsupported`.
    """
    if len(text) > max_octets:
        raise Rejection(Reason.JWS_TOO_LARGE, f"the JWS has more than {max_octets} octets")
    header_segment, _, rest = text.partition(b".")
    payload_segment, _, signature_segment = rest.partition(b".")
    if text.translate(None, _BASE64URL) != b".." or not header_segment or not signature_segment:
        raise _malformed("the JWS is not three base64url segments joined by dots")
    if detached and payload_segment:
        raise _malformed("the JWS holds its payload, and the policy asks for a detached one")
    header_octets = _decode_segment(header_segment, "JOSE header")
    if len(header_octets) <= _SHORT:
        header = _short_header(_without_kid(header_octets), detached and unencoded)
    else:
        header = _read_header(header_octets, detached and unencoded)
    return CompactJws(
        header=header,
        payload=_decode_segment(payload_segment, "payload"),
        signing_input=text[: -len(signature_segment) - 1],
        signature=_decode_segment(signature_segment, "signature"),
    )


def payload_of(text: bytes) -> bytes:
    """The payload of a compact JWS that `parse_compact` has read before."""
    return _decode_segment(text.split(b".")[1], "payload")


def attach(jws: CompactJws, payload: bytes) -> CompactJws:
    """A detached JWS with the payload that it was made over, ready to verify."""
    header_segment = jws.signing_input.partition(b".")[0]
    signed = payload if jws.header.unencoded else base64.urlsafe_b64encode(payload).rstrip(b"=")
    return jws._replace(payload=payload, signing_input=header_segment + b"." + signed)


def verify(jws: CompactJws, certificate: RegisteredCertificate, allowed: Collection[str] | None = None) -> None:
    """Verify a JWS with one registered certificate (RFC 7515 section 5.2).

    `allowed` narrows the algorithms that the certificate's key can verify; None leaves them all.
    Whether the certificate is valid now is the caller's question.

    Raises:
        Rejection: `algorithm_not_allowed` or `signature_mismatch`.
    """
    alg = jws.header.alg
    key = certificate.key
    if alg not in key.algorithms:
        raise Rejection(
            Reason.ALGORITHM_NOT_ALLOWED,
            f"the registered {key.kind} key verifies {', '.join(key.algorithms)} only",
        )
    if allowed is not None and alg not in allowed:
        raise Rejection(Reason.ALGORITHM_NOT_ALLOWED, f"the policy allows {', '.join(sorted(allowed))} only")
    for thumbprint in jws.header.certificate_thumbprints:
        if thumbprint != certificate.thumbprint:
            raise Rejection(
                Reason.SIGNATURE_MISMATCH, "x5t#S256 or x5c names another certificate than the registered one"
            )
    if len(jws.signature) != key.signature_octets:
        # jwcrypto halves whatever length it is given and so takes over-long ECDSA signatures.
        raise Rejection(Reason.SIGNATURE_MISMATCH, f"a signature by this key has exactly {key.signature_octets} octets")
    verifier = _VERIFIERS[alg]
    try:
        verifier.verify(key, jws.signing_input, jws.signature)
    except InvalidSignature:
        raise Rejection(
            Reason.SIGNATURE_MISMATCH, "the signature was not made by the registered certificate's key"
        ) from None
