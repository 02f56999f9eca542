"""Mistakes in the claims of a JWS, and in what binds it to one request."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from jwsgate.core.bindings import DIGESTS
from jwsgate.core.claims import Matching
from jwsgate.core.reasons import Reason
from jwsgate.core.spelling import base64url_text, lenient_object, spelling_mistake
from jwsgate.core.wording import TIME_CLAIMS, Mistake, ago, as_number, moment, shown, span, value_text

from .case import Case, Step
from .meanings import remedy_of

__all__ = [
    "expired", "malformed_claims", "missing_claim", "not_yet", "other_claim", "other_request", "replayed",
]  # fmt: skip

_SKEW: Final = 600
"""Up to so many seconds, a time ahead is taken for a clock that is wrong by a little."""
_SLOW: Final = 1800
"""Up to so many seconds ago, a JWS that has expired may be one of a clock that is slow."""
_FARTHEST_ZONE: Final = 15 * 3600
_OTHER_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "exp": ("expires", "expiry", "expiration", "expires_at", "expiresat", "exp_time", "validuntil"),
    "iat": ("issued_at", "issuedat", "issued", "created", "created_at", "createdat", "timestamp"),
    "nbf": ("not_before", "notbefore", "valid_from", "validfrom"),
    "jti": ("jwt_id", "id", "nonce"),
}  # fmt: skip
_TRAILING_COMMA: Final = re.compile(r",(\s*[}\]])")


def _is_zone(seconds: float) -> bool:
    """Whether two clocks differ as local time and UTC do: by whole half hours, give or take a minute."""
    return 1800 <= seconds + 60 <= _FARTHEST_ZONE and abs(seconds - round(seconds / 1800) * 1800) <= 60


def _payload_mistake(payload: bytes) -> Mistake | None:
    """How a payload came about that is no JSON object."""
    if payload.startswith(b"\xef\xbb\xbf"):
        return Mistake("The payload begins with a byte order mark", "write the JSON as UTF-8 without one")
    if payload.startswith((b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{")):
        return Mistake("The payload is UTF-16, not UTF-8", "encode the JSON as UTF-8 before base64url")
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        what = f"The payload is not UTF-8: its octet {error.start + 1} is {payload[error.start]:#04x}"
        return Mistake(what, "encode the JSON as UTF-8 before base64url")
    if text.startswith("{'"):
        return Mistake(
            "The payload is a printed Python dict (single quotes), not JSON", "write the claims with json.dumps"
        )
    if "=" in text and not text.startswith(("{", "[", '"')):
        return Mistake("The payload is a form (name=value), not JSON", "write the claims as a JSON object")
    value = _lenient_json(text)
    if value is not None:
        return _no_object(value, payload)
    if _lenient_json(_TRAILING_COMMA.sub(r"\1", text)) is not None:
        return Mistake("The payload has a comma behind its last member, which JSON does not have", "remove the comma")
    return None


def _lenient_json(text: str) -> Any:
    """What Python makes of it, with NaN and repeated members; None where it makes nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _no_object(value: Any, payload: bytes) -> Mistake | None:
    """What is wrong with JSON that is none of the strict form."""
    if isinstance(value, str):
        again = " holding the claims, which were encoded as JSON twice" if _lenient_json(value) is not None else ""
        return Mistake(f"The payload is a JSON text{again}", "encode the claims as JSON once: an object, not a text")
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "a single value"
        return Mistake(f"The payload is {what}, not an object of claims", "sign one JSON object")
    odd = [name for name, member in value.items() if isinstance(member, float) and not math.isfinite(member)]
    if odd:
        return Mistake(f"{shown(odd[0], 40)} is NaN or Infinity, which JSON does not have", "write a number")
    name = next((name for name in value if payload.count(json.dumps(name).encode("ascii")) > 1), None)
    if name is not None:
        return Mistake(f"The payload has the member {shown(name, 40)} more than once", "write each claim once")
    return None


def malformed_claims(case: Case) -> Mistake | None:
    """Times in another unit or type, or a payload that is no object of claims."""
    if case.claims is None:
        if case.jws is not None and spelling_mistake(case.jws.payload) is None and case.jws.payload.count(b".") == 2:
            return Mistake("The payload is itself a JWS; it was signed twice", "sign the claims once")
        return None if case.jws is None else _payload_mistake(case.jws.payload)
    for name in TIME_CLAIMS:
        value = case.claims.get(name)
        number = as_number(value)
        for factor, unit in ((1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")):
            if number is not None and abs(number / factor - case.now) < 20 * 31_557_600:
                told = f"{moment(number / factor)} if read so"
                return Mistake(
                    f"{name} is in {unit}, not seconds: {value_text(value)} ({told})", f"divide {name} by {factor:.0f}"
                )
        if isinstance(value, str):
            what = (
                "a number written as text" if value.strip().lstrip("-").isdigit() else "a text, not a number of seconds"
            )
            return Mistake(
                f"{name} is {what}: {value_text(value, 40)}", f"write {name} as a JSON number of Unix seconds"
            )
        if name in case.claims and number is None:
            sent = value_text(value, 40)
            return Mistake(
                f"{name} is {sent}, not a number of seconds", f"write {name} as a JSON number, or leave it out"
            )
    return None


def missing_claim(case: Case) -> Mistake | None:
    """Which claim is missing, and what stands in its place."""
    rejected, route = case.rejected, case.route
    if rejected is None or route is None or case.claims is None:
        return None
    detail = rejected.detail
    name = next((n for n in (*route.claims.required, "iss", "sub", "aud", "jti") if detail == f"{n} is missing"), None)
    if name is None:
        return Mistake(f"A claim is missing: {detail}", remedy_of(Reason.CLAIM_MISSING))
    headline = f"The claim {name} is missing"
    header = lenient_object((case.text or b"").split(b".")[0]) or {}
    if name in header:
        return Mistake(f"{headline}: it is in the JOSE header, not in the payload", "move it into the payload")
    for outer, inner in case.claims.items():
        if isinstance(inner, dict) and name in inner:
            what = f"{headline}: it is inside of {shown(outer, 40)}, one level too deep"
            return Mistake(what, f"sign the claims themselves, without {shown(outer, 40)} around them")
    alike = [other for other in case.claims if other.lower() in {name, *_OTHER_NAMES.get(name, ())}]
    if alike:
        return Mistake(f"{headline}; {shown(alike[0], 40)} stands in its place", f"call it {name}")
    return Mistake(headline, f"add {name} before signing" + (" (Unix seconds)" if name in TIME_CLAIMS else ""))


def _near(value: str, allowed: tuple[str, ...]) -> str:
    """How a value differs from one that is allowed, when it does by little."""
    for good in allowed:
        for how, alike in (
            ("in case", value.casefold() == good.casefold()),
            ("in a slash at its end", value.rstrip("/") == good.rstrip("/")),
            ("in white space", value.split() == good.split()),
            ("in http or https", value.partition("://")[2] == good.partition("://")[2] != ""),
        ):
            if alike:
                return f", which differs from {value_text(good)} only {how}"
    return ""


def other_claim(case: Case, failed: Step) -> Mistake | None:
    """How a claim differs from what the policy demands."""
    if case.route is None or case.claims is None:
        return None
    rules = case.route.claims
    if failed.name == "lifetime":
        exp, iat = as_number(case.claims.get("exp")) or 0, as_number(case.claims.get("iat")) or 0
        long = f"{span(exp - iat)}, of which the policy allows {span(rules.max_lifetime or 0)}"
        return Mistake(f"The JWS lives too long: from iat to exp are {long}", "set exp nearer to iat")
    if failed.name == "client ID claim" and rules.client_id_claim:
        sent = value_text(case.claims.get(rules.client_id_claim))
        return Mistake(
            f"The claim {rules.client_id_claim} is {sent}, not the client ID of the request",
            "sign the client ID that is sent",
        )
    if failed.name == "typ":
        typ = value_text(case.jws.header.typ if case.jws else None)
        return Mistake(
            f"typ is {typ}; the policy demands {failed.expected}", f"write typ {failed.expected} into the header"
        )
    name, allowed = {"issuer": ("iss", rules.issuer), "subject": ("sub", rules.subject)}.get(
        failed.name, ("aud", rules.audience)
    )
    value: Any = case.claims.get(name)
    values = value if isinstance(value, list) else [value]
    near = "" if isinstance(allowed, Matching) else "".join(_near(str(each), allowed) for each in values[:5])
    headline = f"The claim {name} is {value_text(value)}{near}"
    return Mistake(
        headline if near else f"{headline}; the policy demands {failed.expected}", f"sign {name} {failed.expected}"
    )


def expired(case: Case) -> Mistake | None:
    """When the JWS ended, or why it never was good."""
    exp = as_number((case.claims or {}).get("exp"))
    iat = as_number((case.claims or {}).get("iat"))
    if exp is None:
        return None
    remedy = remedy_of(Reason.JWS_EXPIRED)
    if exp < 10_000_000:
        return Mistake(
            f"exp is {value_text(exp)}: a duration, not the time at which the JWS ends",
            "set exp to iat + that many seconds",
        )
    if iat is not None and exp <= iat:
        return Mistake("The JWS expired before it was made: exp is not after iat", "set exp to iat and some minutes")
    if iat is None:
        return Mistake(f"The JWS expired {ago(exp, case.now)} ({moment(exp)})", remedy)
    headline = f"The JWS expired {ago(exp, case.now)} ({moment(exp)}); it was made {ago(iat, case.now)}"
    age = case.now - iat
    if _is_zone(age):
        # As it is for whoever is west of Greenwich; a JWS may have just this age, too.
        headline += f", for {span(exp - iat)}: kept too long, or local time was taken for UTC"
        return Mistake(headline, f"{remedy[:-1]}; make times from UTC, as Unix seconds know no time zone")
    slow = f": kept too long, or the client's clock is {span(age)} slow" if age <= _SLOW else ""
    return Mistake(f"{headline}, for {span(exp - iat)}{slow}", remedy)


def not_yet(case: Case) -> Mistake | None:
    """By how much the client's clock is ahead."""
    ahead = [
        (number, name) for name in ("iat", "nbf") if (number := as_number((case.claims or {}).get(name))) is not None
    ]
    if not ahead:
        return None
    when, name = max(ahead)
    by = when - case.now
    remedy = remedy_of(Reason.JWS_NOT_YET_VALID)
    if by <= _SKEW:
        return Mistake(f"The client's clock is {span(by)} ahead of the gate's: {name} lies in the future", remedy)
    if _is_zone(by):
        zone = "local time was taken for UTC"
        return Mistake(
            f"{name} lies {span(by + 60)} ahead: {zone}", "make times from UTC: Unix seconds know no time zone"
        )
    return Mistake(f"The JWS counts only {ago(when, case.now)}: {name} is {moment(when)}", remedy)


def other_request(case: Case, failed: Step, body: bytes | None) -> Mistake | None:
    """What the JWS was made for in place of this request."""
    bindings = case.route.bindings if case.route else None
    if bindings is None or case.claims is None:
        return None
    path = case.facts.target.partition(b"?")[0].decode("latin-1")
    for name, expected in (
        (bindings.method, case.facts.method),
        (bindings.path, path),
        (bindings.url, bindings.base_url + path),
    ):
        if name is not None and (value := case.claims.get(name)) != expected:
            near = _near(str(value), (expected,)) or f", not {value_text(expected)}"
            return Mistake(
                f"The JWS was made for another request: {name} is {value_text(value)}{near}",
                "make a JWS for each request",
            )
    if bindings.body is not None and body is not None:
        digest = DIGESTS[bindings.body.algorithm]
        value = str(case.claims.get(bindings.body.claim))
        for how, other in _other_bodies(body):
            octets = digest(other).digest()
            if value in {octets.hex(), base64url_text(octets)}:
                return Mistake(
                    f"{bindings.body.claim} is the digest of the body {how}", "digest the octets that are sent"
                )
        return Mistake(
            f"The body is not the one that was signed: {bindings.body.claim} is the digest of another", failed.expected
        )
    return None


def _other_bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "without the line break at its end", body.rstrip(b"\r\n")
    yield "with a line break at its end, which was not sent", body + b"\n"
    yield "as an empty one", b""


def replayed(case: Case) -> Mistake | None:
    """Which jti was used before."""
    jti = value_text((case.claims or {}).get("jti"))
    return Mistake(f"The JWS was used before: its jti {jti} is good once", remedy_of(Reason.JWS_REPLAYED))
