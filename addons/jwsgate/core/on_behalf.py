"""Requests signed in the place of a client that cannot do so yet: for development, never on a route that enforces."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from jwcrypto.jwk import JWK

from .bindings import DIGESTS, BodyDigest
from .facts import RequestFacts
from .policy import Route
from .reasons import Reason, Rejection
from .signing import detached, sign_compact
from .sources import Source, single_value, stripped, with_value
from .spelling import lenient_object

__all__ = ["claims_of", "signed_request"]


def claims_of(facts: RequestFacts, route: Route) -> dict[str, Any]:
    """The claims of the JWS that a request brings, unverified; none where there is no JWS that can be read."""
    try:
        text = single_value(facts, route.jws, Reason.JWS_MISSING, Reason.JWS_REPEATED)
    except Rejection:
        return {}
    segments = text.split(b".")
    return (lenient_object(segments[1]) if len(segments) == 3 else None) or {}


def _digest(digest: BodyDigest, body: bytes) -> str:
    octets: bytes = DIGESTS[digest.algorithm](body).digest()
    match digest.encoding:
        case "hex":
            return octets.hex()
        case "base64":
            return base64.b64encode(octets).decode("ascii")
        case "base64url":
            return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _demanded(route: Route, facts: RequestFacts, client_id: str, body: bytes) -> dict[str, Any]:
    """What the route demands of the claims, where that leaves no choice."""
    rules, bindings = route.claims, route.bindings
    claims: dict[str, Any] = {}
    for name, allowed in (("iss", rules.issuer), ("aud", rules.audience), ("sub", rules.subject)):
        if isinstance(allowed, tuple) and allowed:
            claims[name] = allowed[0]
    if rules.client_id_claim is not None:
        claims[rules.client_id_claim] = client_id
    if bindings is not None:
        path = facts.target.partition(b"?")[0].decode("latin-1")
        bound = {bindings.method: facts.method, bindings.path: path, bindings.url: bindings.base_url + path}
        claims |= {name: value for name, value in bound.items() if name is not None}
        if bindings.body is not None:
            claims[bindings.body.claim] = _digest(bindings.body, body)
    return claims


def _replaced(facts: RequestFacts, source: Source, value: str) -> RequestFacts:
    target, headers = stripped(source, facts.target, facts.headers)
    cleaned = RequestFacts(facts.method, target, headers, facts.peer, facts.client_certificate)
    return with_value(cleaned, source, value)


def signed_request(
    facts: RequestFacts,
    route: Route,
    key: JWK,
    algorithm: str,
    claims: Mapping[str, Any],
    client_id: str,
    body: bytes,
    now: float,
    jti: str,
    lifetime: int = 300,
) -> RequestFacts:
    """The request with a client ID and a fresh JWS in place of what it brought of both.

    The JWS holds `claims`, then what the route demands of them, and the times.

    Args:
        facts: The request.
        route: Where the JWS has to be, and what it has to hold.
        key: A private key.
        algorithm: Which the key can sign.
        claims: Those of the application.
        client_id: The application's.
        body: The whole body.
        now: Unix seconds.
        jti: One that was never used.
        lifetime: Seconds from `iat` to `exp`; the route's `max_lifetime` where that is less.

    Raises:
        ValueError: for claims that cannot be written as JSON.
    """
    header = {"alg": algorithm} | ({"typ": route.claims.typ[0]} if route.claims.typ else {})
    if route.detached:
        jws = detached(sign_compact(key, header, body).decode("ascii"))
    else:
        issued_at = int(now)
        lifetime = min(lifetime, route.claims.max_lifetime or lifetime)
        kept = {name: value for name, value in claims.items() if name != "nbf"}
        made = _demanded(route, facts, client_id, body)
        times = {"iat": issued_at, "exp": issued_at + lifetime, "jti": jti}
        payload = json.dumps(kept | made | times, separators=(",", ":"), allow_nan=False).encode("ascii")
        jws = sign_compact(key, header, payload).decode("ascii")
    return _replaced(_replaced(facts, route.client_id, client_id), route.jws, jws)
