"""Bindings: claims that tie a JWS to the one request it was made for. Off unless a route asks for them."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .facts import RequestFacts
from .reasons import Reason, Rejection

__all__ = ["DIGESTS", "Bindings", "BodyDigest", "check_body_digest", "check_request_bindings"]

DIGESTS: Final[dict[str, Any]] = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}


@dataclass(frozen=True, slots=True)
class BodyDigest:
    """A claim that holds the digest of the body's raw octets, as they arrive (RFC 9530 names the digests)."""

    claim: str
    algorithm: str = "sha-256"
    encoding: Literal["base64url", "base64", "hex"] = "base64url"


@dataclass(frozen=True, slots=True)
class Bindings:
    """Names of the claims that must equal parts of the request; None leaves a part unbound.

    `url` is compared as RFC 9449 section 4.3 does `htu`: `base_url` and the path, without the query.
    """

    method: str | None = None
    path: str | None = None
    url: str | None = None
    base_url: str = ""
    body: BodyDigest | None = None


def _bound(claims: Mapping[str, Any], name: str) -> str:
    if name not in claims:
        raise Rejection(Reason.CLAIM_MISSING, f"{name} is missing")
    value = claims[name]
    if not isinstance(value, str):
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{name} is not a string")
    return value


def check_request_bindings(claims: Mapping[str, Any], bindings: Bindings, facts: RequestFacts) -> None:
    """Compare claims with method, path and URL, octet for octet.

    Raises:
        Rejection: `claim_missing`, `claims_malformed` or `binding_mismatch`.
    """
    path = facts.target.partition(b"?")[0].decode("latin-1")
    for name, expected in (
        (bindings.method, facts.method),
        (bindings.path, path),
        (bindings.url, bindings.base_url + path),
    ):
        if name is not None and _bound(claims, name) != expected:
            raise Rejection(Reason.BINDING_MISMATCH, f"{name} is not that of this request")
    if bindings.body is not None:
        _bound(claims, bindings.body.claim)


def _expected_digest(text: str, digest: BodyDigest) -> bytes:
    try:
        match digest.encoding:
            case "hex":
                octets = binascii.unhexlify(text)
                spelling = octets.hex() if text == text.lower() else octets.hex().upper()
            case "base64":
                octets = base64.b64decode(text, validate=True)
                spelling = base64.b64encode(octets).decode()
            case "base64url":
                octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
                spelling = base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    except (ValueError, binascii.Error):
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{digest.claim} is not {digest.encoding}") from None
    if spelling != text:
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{digest.claim} is not in the canonical form of {digest.encoding}")
    return octets


def check_body_digest(claims: Mapping[str, Any], digest: BodyDigest, body: bytes) -> None:
    """Compare a claim with the digest of the body's raw octets; no body is a body of no octets.

    Raises:
        Rejection: `claim_missing`, `claims_malformed` or `binding_mismatch`.
    """
    expected = _expected_digest(_bound(claims, digest.claim), digest)
    if not hmac.compare_digest(expected, DIGESTS[digest.algorithm](body).digest()):
        raise Rejection(Reason.BINDING_MISMATCH, f"{digest.claim} is not the {digest.algorithm} of this body")
