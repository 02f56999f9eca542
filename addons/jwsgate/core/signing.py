"""The demo's stand-in for a client: a JWS over claims, as API Connect's `jwt-generate` makes it."""

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from jwcrypto.jwa import JWA
from jwcrypto.jwk import JWK

from .policy import Sign
from .reasons import Reason, Rejection
from .strict_json import StrictJsonError, parse_object

__all__ = ["base64url", "compose", "detached", "sign_compact", "sign_posted_claims"]


def base64url(octets: bytes) -> bytes:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def _compact_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def compose(header: dict[str, Any], payload: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A compact JWS (RFC 7515 section 7.1) with a signature that somebody else makes over the signing input."""
    signing_input = base64url(_compact_json(header)) + b"." + base64url(payload)
    return signing_input + b"." + base64url(sign(signing_input))


def sign_compact(key: JWK, header: dict[str, Any], payload: bytes) -> bytes:
    """A compact JWS by the algorithm that the header names."""
    algorithm: Any = JWA.signing_alg(header["alg"])
    return compose(header, payload, partial(algorithm.sign, key))


def detached(jws: str) -> str:
    """A compact JWS without its payload, which is the body then (RFC 7515 appendix F)."""
    first, _, last = jws.split(".")
    return f"{first}..{last}"


def sign_posted_claims(action: Sign, body: bytes, now: float) -> bytes:
    """Sign iss, aud, exp, iat, then the posted members; posted ones of those four names are dropped.

    Header `{"alg":…}` alone, times in whole seconds, as the original did. An empty body posts no members.

    Raises:
        Rejection: `body_malformed`.
    """
    try:
        posted = parse_object(body) if body.strip() else {}
    except StrictJsonError as error:
        raise Rejection(Reason.BODY_MALFORMED, f"the body is refused: {error}") from None
    issued_at = int(now)
    claims: dict[str, Any] = {
        "iss": action.issuer,
        "aud": action.audience,
        "exp": issued_at + action.lifetime,
        "iat": issued_at,
    }
    claims |= {name: value for name, value in posted.items() if name not in claims}
    try:
        payload = _compact_json(claims)
    except ValueError:
        # 1e400 is a JSON number, but reads as infinity, which no JSON can say.
        raise Rejection(Reason.BODY_MALFORMED, "the body holds a number that cannot be written") from None
    return sign_compact(action.key, {"alg": action.algorithm}, payload)
