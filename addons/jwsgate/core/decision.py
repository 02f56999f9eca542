"""The decision on one request: facts in, `Allowed`, `Rejected` or `AwaitsBody` out. No I/O, no clock, no proxy.

Rule 1. The order of the steps is fixed, and each step needs all that came before it.
Rule 2. One snapshot serves the whole decision.
Rule 3. Only `_steps`, `_client_steps` and `_body_steps` allow; every other way out, exceptions included, rejects.
Rule 4. What was allowed once under this portal and route is allowed again without the steps between, as long as the
        times of its claims and of its certificate hold, where nothing else counts (`Route.remembers`).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from .bindings import check_body_digest, check_request_bindings
from .certificates import RegisteredCertificate
from .claims import check_claims, check_typ, good_between, parse_claims
from .client_certificate import check_certificate_headers, check_client_certificate
from .cors import requested_method
from .facts import RequestFacts
from .jws import CompactJws, attach, parse_compact, payload_of, verify
from .policy import NarrowedRoutes, Route, Router, Sign
from .portal import Application, ClientId, Portal, usable_certificates
from .reasons import REPORTABLE, Reason, Rejection
from .replay import ReplayKey
from .sources import check_look_alikes, check_request, check_unread, overrides, single_value
from .upstream import Headers, fields_of, lines_of
from .verified_cache import VerifiedCache

__all__ = ["Allowed", "AwaitsBody", "Decision", "JwsCache", "Rejected", "Snapshot", "decide", "decide_body", "reported"]

_NONE_SENT: Final[dict[bytes, bytes]] = {}
_NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})
_shared: Final = lru_cache(maxsize=4096)(float)
"""One object for all who have the same time, as many JWS have one of the same second: it is soon near at hand."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that decisions depend on besides the request and the time. `revision` names the state of the files."""

    portal: Portal
    router: Router
    revision: str
    files: tuple[str, ...] = field(default=(), compare=False)
    """What portal and policies refer to, for those who look whether it has changed."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request that must not pass. `detail` is for the audit log, never for the client."""

    reason: Reason
    detail: str
    route: Route | None = None
    client_id: ClientId | None = None
    """Set once the client ID was found in the portal; never an unknown one, which is the client's text."""
    application: Application | None = None


class Allowed(NamedTuple):
    """A request that may pass, once `replay`, where set, has been used up for the first time (replay.py).

    On a `Sign` route there is no JWS, so that `payload`, `claims`, `certificate` and `alg` are empty. Where
    `would_reject` or `preflight` is set, or the route is open, nothing was verified: the client ID and the application
    are only what the request said.
    A tuple, as that is cheaper to make than a frozen dataclass; one is made for each fresh JWS. Of few objects of its
    own: where a hundred thousand are remembered, each that a request looks at is a wait for the memory.
    """

    route: Route
    application: Application | None
    client_id: ClientId | None
    replay: ReplayKey | None = None
    start: float = -math.inf
    """From when on the times of the claims and of the certificate hold, in Unix seconds."""
    end: float = math.inf
    """Before when they hold."""
    portal: Portal | None = None
    """Which the application is of, where it may be allowed again."""
    lines: bytes = b""
    """`added` as HTTP/1 writes it."""
    would_reject: Rejected | None = None
    """Why it would be rejected, were its route not in report mode."""
    preflight: str | None = None
    """The method that a CORS preflight asks for, which is answered and never goes upstream."""
    certificate: RegisteredCertificate | None = None
    alg: str | None = None
    key: bytes = b""
    """What it is remembered by, the JWS in it; empty where that is detached."""
    octets: int = 0
    """The size of its texts as the cache reckons."""
    bound: Mapping[str, Any] | None = None
    """The claims, where each request is compared with them."""
    body: bytes = b""
    """What a detached JWS was made over."""

    @property
    def payload(self) -> bytes:
        """What was signed."""
        return payload_of(self.key.split(b"\n")[1]) if self.key else self.body

    @property
    def claims(self) -> Mapping[str, Any]:
        """The claims that were signed; a detached JWS has none."""
        if self.bound is not None:
            return self.bound
        return MappingProxyType(parse_claims(self.payload)) if self.key else _NO_CLAIMS

    @property
    def added(self) -> Headers:
        """The headers to add to what is forwarded."""
        return fields_of(self.lines)


@dataclass(frozen=True, slots=True)
class AwaitsBody:
    """A request that must not pass yet: `decide_body` has to see the whole body first.

    `but_body` is set when only the body's digest is open, `jws` when the body is what was signed.
    """

    route: Route
    application: Application
    client_id: ClientId
    certificates: tuple[RegisteredCertificate, ...]
    but_body: Allowed | None
    jws: CompactJws | None


type JwsCache = VerifiedCache[bytes, Allowed]
"""By `_text_and_key`."""
type Decision = Allowed | Rejected | AwaitsBody


class _Progress:
    """What was established before a rejection, for the record of it. Without __init__: one is made each time."""

    route: Route | None = None
    client_id: ClientId | None = None
    application: Application | None = None


def _declared_length(facts: RequestFacts) -> int:
    """The content-length in octets; 0 when there is none, or one that no proxy would let come this far."""
    for name, value in facts.headers:
        if len(name) == 14 and name.lower() == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0
    return 0


def _check_extent(route: Route, facts: RequestFacts, websocket: bool) -> None:
    if websocket and not route.websocket:
        raise Rejection(Reason.REQUEST_UNSAFE, "the request asks for a WebSocket, which the route does not allow")
    if route.max_body_octets is not None and _declared_length(facts) > route.max_body_octets:
        raise Rejection(Reason.BODY_TOO_LARGE, f"content-length is above {route.max_body_octets} octets")


def _check_oddities(router: Router, route: Route, facts: RequestFacts, websocket: bool, overridden: bool) -> None:
    for method, target in overrides(facts) if overridden else ():
        if router.find(method, target) is not route:
            raise Rejection(Reason.REQUEST_UNSAFE, "a header names another method or path, which has another route")
        if route.bindings is not None and (method, target) != (facts.method, facts.target):
            raise Rejection(Reason.REQUEST_UNSAFE, "a header names another method or path than those that are bound")
    _check_extent(route, facts, websocket)


def _narrowed(
    route: Route, narrowed: NarrowedRoutes, client_id: ClientId, facts: RequestFacts, progress: _Progress
) -> Route:
    """The route as it is for the application, which is another only where the policy names the application."""
    if (number := narrowed.groups.get(client_id)) is None:
        return route
    progress.route = narrower = narrowed.routes[number]
    if narrower.barred:
        raise Rejection(Reason.ROUTE_NOT_ALLOWED, "the policy does not let the application call this route")
    _check_extent(narrower, facts, websocket=False)  # which was looked at already, and does not differ
    return narrower


def _find_application(
    portal: Portal, raw: bytes, facts: RequestFacts, route: Route, progress: _Progress
) -> tuple[ClientId, Application, Route]:
    """Who calls, and the route as it is for them."""
    found = portal.find(raw)
    if found is None:
        raise Rejection(Reason.CLIENT_ID_UNKNOWN, "no application of the portal has this client ID")
    progress.client_id, progress.application = client_id, application = found
    if not application.enabled:
        raise Rejection(Reason.APPLICATION_DISABLED, "the application is not enabled")
    if route.narrowed is not None:
        # Only now: what an application in report mode lets pass is never one that the portal has switched off.
        route = _narrowed(route, route.narrowed, client_id, facts, progress)
    return client_id, application, route


def _allowed_algorithms(route: Route, application: Application) -> frozenset[str] | None:
    if route.algorithms is None or application.algorithms is None:
        return route.algorithms if application.algorithms is None else application.algorithms
    return route.algorithms & application.algorithms


def _verify_with_any(
    jws: CompactJws, certificates: tuple[RegisteredCertificate, ...], allowed: frozenset[str] | None
) -> RegisteredCertificate:
    """Verify with the first certificate that fits; during a rotation an application has more than one."""
    rejection = None
    for certificate in certificates:
        try:
            verify(jws, certificate, allowed)
        except Rejection as error:
            # Of several, the mismatch of a signature tells more than an algorithm that another key would need.
            if rejection is None or error.reason is Reason.SIGNATURE_MISMATCH:
                rejection = error
        else:
            return certificate
    raise rejection or Rejection(Reason.INTERNAL_ERROR, "no certificate to verify with")


def _replay_key(route: Route, application: Application, claims: Mapping[str, Any], end: float) -> ReplayKey | None:
    if not route.single_use:
        return None
    jti = claims.get("jti")
    if jti is None or "exp" not in claims:
        raise Rejection(Reason.CLAIM_MISSING, "jti and exp are both needed for a JWS that is good once")
    if not isinstance(jti, str) or not jti:
        raise Rejection(Reason.CLAIMS_MALFORMED, "jti is not a text")
    # The digest has a fixed size, whatever a client makes its jti.
    digest = hashlib.sha256(jti.encode("utf-8")).hexdigest()
    # What passes a route in report mode must not use up what is good once on another.
    return ReplayKey(application.client_ids[0], f"report-{digest}" if route.report else digest, end)


def _octets(payload: bytes) -> int:
    """What the cache reckons for claims: Python objects at their worst."""
    parts = payload.count(0x2C) + payload.count(0x5B) + payload.count(0x7B)  # , [ {
    return 4 * len(payload) + 200 * parts


def _verify_fresh(
    text: bytes,
    key: bytes,
    portal: Portal,
    route: Route,
    application: Application,
    client_id: ClientId,
    certificates: tuple[RegisteredCertificate, ...],
    now: float,
) -> Allowed:
    jws = parse_compact(text, route.max_jws_octets)
    certificate = _verify_with_any(jws, certificates, _allowed_algorithms(route, application))
    claims = parse_claims(jws.payload)
    check_claims(claims, jws.header, route.claims, client_id, now)
    start, end = good_between(claims, route.claims)
    lines = b""
    bound = None if route.bindings is None else MappingProxyType(claims)
    if route.upstream is not None:
        lines = lines_of(route.upstream.headers(application, client_id, certificate, claims, jws.payload))
    return Allowed(
        route,
        application,
        client_id,
        _replay_key(route, application, claims, end),
        _shared(max(start, certificate.not_before)),
        _shared(min(end, certificate.not_after)),
        portal,
        lines,
        certificate=certificate,
        alg=jws.header.alg,
        key=key,
        octets=len(key) + len(lines) + (0 if bound is None else _octets(jws.payload)),
        bound=bound,
    )


def _text_and_key(route: Route, raw: bytes, facts: RequestFacts) -> tuple[bytes, bytes]:
    """The JWS as the request has it, and what it is remembered by.

    The key is the route, the JWS and the client ID in one: one object is found sooner than four. No other three make
    the same, as a JWS has no line break; of a text that has one, the key is empty, and nothing is kept by that.
    """
    text = single_value(facts, route.jws, Reason.JWS_MISSING, Reason.JWS_REPEATED)
    return text, b"" if b"\n" in text else b"\n".join((route.mark, text, raw))


def _preflight(router: Router, facts: RequestFacts) -> Allowed | None:
    """The answer to a preflight for a route that has CORS; None for every other request."""
    method = requested_method(facts)
    route = None if method is None else router.find(method, facts.target)
    if route is None or route.cors is None:
        return None
    return Allowed(route, None, None, preflight=method)


def _steps(
    snapshot: Snapshot, facts: RequestFacts, now: float, cache: JwsCache | None, progress: _Progress
) -> Decision:
    websocket, overridden = check_request(facts)
    router = snapshot.router
    if router.has_cors and facts.method == "OPTIONS":
        preflight = _preflight(router, facts)
        if preflight is not None:
            return preflight
    route = router.find(facts.method, facts.target)
    if route is None:
        raise Rejection(Reason.ROUTE_UNKNOWN, "no route of the policy matches method and path")
    progress.route = route
    if websocket or overridden or route.max_body_octets is not None:
        _check_oddities(router, route, facts, websocket, overridden)
    named = router.certificate_headers
    sent = check_certificate_headers(facts, named) if named else _NONE_SENT
    if route.open:
        # Nobody reads them here, but an upstream that does must not take one for another either.
        check_unread(facts, route.client_id, Reason.CLIENT_ID_MISSING, Reason.CLIENT_ID_REPEATED)
        check_unread(facts, route.jws, Reason.JWS_MISSING, Reason.JWS_REPEATED)
        return Allowed(route, None, None)
    return _client_steps(snapshot.portal, route, facts, sent, now, cache, progress)


def _client_steps(
    portal: Portal,
    route: Route,
    facts: RequestFacts,
    sent: dict[bytes, bytes],
    now: float,
    cache: JwsCache | None,
    progress: _Progress,
) -> Decision:
    raw = single_value(facts, route.client_id, Reason.CLIENT_ID_MISSING, Reason.CLIENT_ID_REPEATED)
    text, key, allowed = b"", b"", None
    if cache is not None and route.remembers:
        try:
            text, key = _text_and_key(route, raw, facts)
        except Rejection:
            text = b""  # a later step says why
        allowed = cache.get(key)
        if allowed is not None and allowed.portal is portal and allowed.start <= now < allowed.end:
            # The application is not even looked up: it cannot change under its portal.
            return allowed
    client_id, application, route = _find_application(portal, raw, facts, route, progress)
    certificates = usable_certificates(application, now, route.trust)
    if route.client_certificate is not None:
        check_client_certificate(facts, route.client_certificate, sent, certificates)
    if isinstance(route.action, Sign):
        return Allowed(route, application, client_id)
    if not text:
        text, key = _text_and_key(route, raw, facts)
        allowed = None if cache is None else cache.get(key)
    if route.detached:
        jws = parse_compact(text, route.max_jws_octets, detached=True, unencoded=route.unencoded)
        return AwaitsBody(route, application, client_id, certificates, None, jws)
    if allowed is None or not (allowed.start <= now < allowed.end and allowed.certificate in certificates):
        allowed = _verify_fresh(text, key, portal, route, application, client_id, certificates, now)
        if cache is not None:
            cache.put(key, allowed)
    if route.bindings is not None:
        check_request_bindings(allowed.claims, route.bindings, facts)
        if route.bindings.body is not None:
            return AwaitsBody(route, application, client_id, certificates, allowed, None)
    return allowed


def _body_steps(awaiting: AwaitsBody, body: bytes) -> Allowed:
    route, application, client_id = awaiting.route, awaiting.application, awaiting.client_id
    if awaiting.jws is not None:
        jws = attach(awaiting.jws, body)
        certificate = _verify_with_any(jws, awaiting.certificates, _allowed_algorithms(route, application))
        check_typ(jws.header, route.claims.typ)
        lines = b""
        if route.upstream is not None:
            lines = lines_of(route.upstream.headers(application, client_id, certificate, _NO_CLAIMS, b""))
        alg = jws.header.alg
        return Allowed(route, application, client_id, lines=lines, certificate=certificate, alg=alg, body=body)
    if awaiting.but_body is None or route.bindings is None or route.bindings.body is None:
        raise Rejection(Reason.INTERNAL_ERROR, "the body was awaited for nothing")
    check_body_digest(awaiting.but_body.claims, route.bindings.body, body)
    return awaiting.but_body


def reported(rejected: Rejected) -> Allowed | Rejected:
    """What becomes of a rejection: on a route in report mode, the request passes, for some of the reasons."""
    route = rejected.route
    if route is None or not route.report or rejected.reason not in REPORTABLE:
        return rejected
    return Allowed(route, rejected.application, rejected.client_id, would_reject=rejected)


def _checked_report(snapshot: Snapshot, rejected: Rejected, facts: RequestFacts) -> Allowed | Rejected:
    """As `reported`, after a look at what the rejection left unseen: an unsafe request never passes."""
    decision = reported(rejected)
    if isinstance(decision, Allowed):
        route = decision.route
        try:
            for source in (route.client_id, route.jws):
                check_look_alikes(facts, source)
            if route.client_certificate is not None:
                sent = check_certificate_headers(facts, snapshot.router.certificate_headers)
                check_client_certificate(facts, route.client_certificate, sent, ())
        except Rejection as rejection:
            if rejection.reason not in REPORTABLE:
                return replace(rejected, reason=rejection.reason, detail=rejection.detail)
    return decision


def _broken(error: Exception) -> Rejected:
    return Rejected(Reason.INTERNAL_ERROR, f"{type(error).__name__} inside the gate")


def decide(snapshot: Snapshot | None, facts: RequestFacts, now: float, cache: JwsCache | None = None) -> Decision:
    """Decide on one request at the time `now` (Unix seconds). The cache changes the cost, never the decision.

    Never raises an `Exception`: one inside is a `Rejected` with `internal_error`.
    """
    if snapshot is None:
        return Rejected(Reason.POLICY_UNAVAILABLE, "no portal export and policy are loaded")
    progress = _Progress()
    try:
        return _steps(snapshot, facts, now, cache, progress)
    except Rejection as rejection:
        rejected = Rejected(
            rejection.reason, rejection.detail, progress.route, progress.client_id, progress.application
        )
        if progress.route is None or not progress.route.report:
            return rejected
    except Exception as error:
        return _broken(error)
    try:
        return _checked_report(snapshot, rejected, facts)
    except Exception as error:
        return _broken(error)


def decide_body(awaiting: AwaitsBody, body: bytes) -> Allowed | Rejected:
    """Decide a request whose whole body, as raw octets, has now arrived. Never raises an `Exception`."""
    try:
        return _body_steps(awaiting, body)
    except Rejection as rejection:
        rejected = Rejected(
            rejection.reason, rejection.detail, awaiting.route, awaiting.client_id, awaiting.application
        )
    except Exception as error:
        return _broken(error)
    return reported(rejected)
