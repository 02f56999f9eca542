"""Rules on claims (RFC 7519 section 4.1), checked only after the signature was verified."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .jws import JoseHeader
from .reasons import Reason, Rejection
from .strict_json import StrictJsonError, parse_object

__all__ = [
    "LATEST_TIME",
    "ClaimRules",
    "Matching",
    "check_claims",
    "check_typ",
    "good_between",
    "media_type",
    "parse_claims",
]

LATEST_TIME: Final = 253_402_300_799
"""31 December 9999: the last second that every date library can name. Milliseconds taken for seconds
land beyond it, so that a client's slip does not become a JWS that never expires."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The texts that a pattern matches whole; stands in a rule where otherwise the allowed texts do.

    `fullmatch` comes from outside and must take time linear in the text's length: the text is the client's.
    """

    fullmatch: Callable[[str], object]

    def __contains__(self, text: object) -> bool:
        # What a pattern means beyond printable ASCII (line ends, case, octets or characters) differs between engines.
        return isinstance(text, str) and text.isascii() and text.isprintable() and bool(self.fullmatch(text))


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What a route demands of the claims. Durations are whole seconds; an empty tuple demands nothing."""

    required: tuple[str, ...] = ("exp",)
    leeway: int = 0
    max_lifetime: int | None = None
    issuer: tuple[str, ...] | Matching = ()
    audience: tuple[str, ...] | Matching = ()
    subject: tuple[str, ...] = ()
    client_id_claim: str | None = None
    typ: tuple[str, ...] = ()


def parse_claims(payload: bytes) -> dict[str, Any]:
    """The payload as a JSON object.

    Raises:
        Rejection: `claims_malformed`.
    """
    try:
        return parse_object(payload)
    except StrictJsonError as error:
        raise Rejection(Reason.CLAIMS_MALFORMED, f"the payload is refused: {error}") from None


def _numeric_date(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2) in Unix seconds, None when absent.

    bool is an int in Python, 1e400 reads as infinity, and 10**400 fits no float: each is refused here.
    """
    if name not in claims:
        return None
    value = claims[name]
    if type(value) is int and 0 <= value <= LATEST_TIME:
        return value  # nearly always
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{name} is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{name} is not a finite number")
    if value > LATEST_TIME:
        raise Rejection(
            Reason.CLAIMS_MALFORMED,
            f"{name} lies beyond the year 9999; it may be in milliseconds, not seconds",
        )
    if value < -LATEST_TIME:
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{name} lies too far in the past to be a time")
    return value


def _check_times(claims: Mapping[str, Any], rules: ClaimRules, now: float) -> None:
    exp = _numeric_date(claims, "exp")
    nbf = _numeric_date(claims, "nbf")
    iat = _numeric_date(claims, "iat")
    # RFC 7519 section 4.1.4: not accepted *on* or after exp; section 4.1.5: accepted from nbf on.
    if exp is not None and now >= exp + rules.leeway:
        raise Rejection(Reason.JWS_EXPIRED, "exp has passed")
    if nbf is not None and now < nbf - rules.leeway:
        raise Rejection(Reason.JWS_NOT_YET_VALID, "nbf lies ahead")
    if iat is not None and now < iat - rules.leeway:
        raise Rejection(Reason.JWS_NOT_YET_VALID, "iat lies ahead")
    if rules.max_lifetime is not None:
        if exp is None or iat is None:
            raise Rejection(Reason.CLAIM_MISSING, "exp and iat are both needed to know the lifetime")
        if exp - iat > rules.max_lifetime:
            raise Rejection(Reason.CLAIM_MISMATCH, f"exp lies more than {rules.max_lifetime} seconds after iat")


def good_between(claims: Mapping[str, Any], rules: ClaimRules) -> tuple[float, float]:
    """From when on, and before when, `check_claims` finds the times of these claims good (Unix seconds).

    For claims that have passed it once, so that a second look needs only the clock.
    """
    start = max(claims.get("nbf", -math.inf), claims.get("iat", -math.inf))
    return start - rules.leeway, claims.get("exp", math.inf) + rules.leeway


def _check_one_of(claims: Mapping[str, Any], name: str, allowed: tuple[str, ...] | Matching) -> None:
    if not allowed:
        return
    if name not in claims:
        raise Rejection(Reason.CLAIM_MISSING, f"{name} is missing")
    if not isinstance(claims[name], str):
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{name} is not a string")
    if claims[name] not in allowed:
        raise Rejection(Reason.CLAIM_MISMATCH, f"{name} is not one of the values that the policy names")


def _check_audience(claims: Mapping[str, Any], allowed: tuple[str, ...] | Matching) -> None:
    """RFC 7519 section 4.1.3: a string, or an array of strings of which one is enough."""
    if "aud" in claims:
        aud = claims["aud"]
        if type(aud) is str and aud in allowed:
            return  # nearly always
        values = aud if isinstance(aud, list) else [aud]
        if not values or not all(isinstance(value, str) for value in values):
            raise Rejection(Reason.CLAIMS_MALFORMED, "aud is neither a string nor a list of strings")
        if allowed and not any(value in allowed for value in values):
            raise Rejection(Reason.CLAIM_MISMATCH, "aud is not one of the values that the policy names")
    elif allowed:
        raise Rejection(Reason.CLAIM_MISSING, "aud is missing")


def media_type(typ: str) -> str:
    """The one spelling of a header parameter typ."""
    return typ.lower().removeprefix("application/")


def check_typ(header: JoseHeader, allowed: tuple[str, ...]) -> None:
    """RFC 7515 section 4.1.9: a media type; "application/" may be left out, and case does not matter.

    Raises:
        Rejection: `claim_missing` or `claim_mismatch`.
    """
    if not allowed:
        return
    if header.typ is None:
        raise Rejection(Reason.CLAIM_MISSING, "the header parameter typ is missing")
    if media_type(header.typ) not in {media_type(value) for value in allowed}:
        raise Rejection(Reason.CLAIM_MISMATCH, "typ is not one of the values that the policy names")


def check_claims(claims: Mapping[str, Any], header: JoseHeader, rules: ClaimRules, client_id: str, now: float) -> None:
    """Check verified claims against the rules of a route at the time `now` (Unix seconds).

    Raises:
        Rejection: `claims_malformed`, `claim_missing`, `claim_mismatch`, `jws_expired` or `jws_not_yet_valid`.
    """
    for name in rules.required:
        if name not in claims:
            raise Rejection(Reason.CLAIM_MISSING, f"{name} is missing")
    _check_times(claims, rules, now)
    _check_one_of(claims, "iss", rules.issuer)
    _check_one_of(claims, "sub", rules.subject)
    _check_audience(claims, rules.audience)
    if rules.client_id_claim is not None:
        if rules.client_id_claim not in claims:
            raise Rejection(Reason.CLAIM_MISSING, f"{rules.client_id_claim} is missing")
        if claims[rules.client_id_claim] != client_id:
            raise Rejection(Reason.CLAIM_MISMATCH, f"{rules.client_id_claim} is not the client ID of the request")
    check_typ(header, rules.typ)
