"""The decision on one request: facts in, `Allowed` or `Rejected` out. No I/O, no clock, no proxy.

Rule 1. The order of the steps is fixed, and each step needs all that came before it.
Rule 2. One snapshot serves the whole decision.
Rule 3. Only the last line of `_steps` allows; every other way out, exceptions included, is a rejection.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .certificates import RegisteredCertificate, Thumbprint
from .claims import check_claims, parse_claims
from .facts import RequestFacts, canonical_header_name
from .jws import CompactJws, parse_compact, verify
from .policy import Route, Router, Sign, Source
from .portal import Application, ClientId, Portal, usable_certificates
from .reasons import Reason, Rejection
from .request_target import path_segments, query_values

__all__ = ["Allowed", "Decision", "Rejected", "Snapshot", "decide"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that decisions depend on besides the request and the time. `revision` names the state of the files."""

    portal: Portal
    router: Router
    revision: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """A request that may pass. On a `Sign` route there is no JWS, so `payload`, `claims`, `thumbprint` are empty."""

    route: Route
    application: Application
    client_id: ClientId
    payload: bytes
    claims: Mapping[str, Any]
    thumbprint: Thumbprint | None
    alg: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request that must not pass. `detail` is for the audit log, never for the client."""

    reason: Reason
    detail: str
    route: Route | None = None
    client_id: ClientId | None = None
    """Set once the client ID was found in the portal; never an unknown one, which is the client's text."""


type Decision = Allowed | Rejected


class _Progress:
    """What was established before a rejection, for the record of it."""

    __slots__ = ("client_id", "route")

    def __init__(self) -> None:
        self.route: Route | None = None
        self.client_id: ClientId | None = None


_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CONNECTION_OPTIONS: Final = frozenset({b"keep-alive", b"close", b"te", b""})


def _check_connection(facts: RequestFacts) -> None:
    for name, value in facts.headers:
        lower = name.lower()
        if lower == b"upgrade":
            # After a 101 the connection is a tunnel in which no further request would be seen.
            raise Rejection(Reason.REQUEST_UNSAFE, "the request asks for a protocol upgrade")
        if lower == b"connection":
            options = {option.strip().lower() for option in value.split(b",")}
            if not options <= _CONNECTION_OPTIONS:
                # An upstream drops the headers named here (RFC 9110 section 7.6.1), after the gate relied on them.
                raise Rejection(Reason.REQUEST_UNSAFE, "the Connection header names other headers")
        if _CONTROL.search(value):
            raise Rejection(Reason.REQUEST_UNSAFE, "a header value holds a control character")


def _single(facts: RequestFacts, source: Source, missing: Reason, repeated: Reason) -> bytes:
    """The one value of a source, white space at its ends removed."""
    if source.place == "query":
        values = query_values(facts.target, source.name)
    else:
        exact = source.name.encode("ascii").lower()
        canonical = canonical_header_name(exact)
        values = []
        for name, value in facts.headers:
            if canonical_header_name(name) == canonical:
                if name.lower() != exact:
                    raise Rejection(Reason.REQUEST_UNSAFE, f"a header imitates {source.name} with other punctuation")
                values.append(value)
    if not values:
        raise Rejection(missing, f"{source.place} {source.name} is missing")
    if len(values) > 1:
        raise Rejection(repeated, f"{source.place} {source.name} is repeated")
    value = values[0].strip(b" \t")
    if source.scheme is not None:
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != source.scheme.lower().encode("ascii"):
            raise Rejection(missing, f"{source.place} {source.name} does not carry {source.scheme}")
        value = value.lstrip(b" ")
    if not value:
        raise Rejection(missing, f"{source.place} {source.name} is empty")
    return value


def _find_application(portal: Portal, raw: bytes) -> tuple[ClientId, Application]:
    try:
        client_id = ClientId(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise Rejection(Reason.CLIENT_ID_UNKNOWN, "the client ID is not UTF-8") from None
    application = portal.by_client_id.get(client_id)
    if application is None:
        raise Rejection(Reason.CLIENT_ID_UNKNOWN, "no application of the portal has this client ID")
    if not application.enabled:
        raise Rejection(Reason.APPLICATION_DISABLED, "the application is not enabled")
    return client_id, application


def _verify_with_any(
    jws: CompactJws, certificates: tuple[RegisteredCertificate, ...], route: Route
) -> RegisteredCertificate:
    """Verify with the first certificate that fits; during a rotation an application has more than one."""
    rejection = None
    for certificate in certificates:
        try:
            verify(jws, certificate, route.algorithms)
        except Rejection as error:
            # The most telling rejection is the one of the certificate that came furthest.
            if rejection is None or error.reason is Reason.SIGNATURE_MISMATCH:
                rejection = error
        else:
            return certificate
    raise rejection or Rejection(Reason.INTERNAL_ERROR, "no certificate to verify with")


def _steps(snapshot: Snapshot, facts: RequestFacts, now: float, progress: _Progress) -> Allowed:
    _check_connection(facts)
    route = snapshot.router.match(facts.method, path_segments(facts.target))
    if route is None:
        raise Rejection(Reason.ROUTE_UNKNOWN, "no route of the policy matches method and path")
    progress.route = route
    raw_client_id = _single(facts, route.client_id, Reason.CLIENT_ID_MISSING, Reason.CLIENT_ID_REPEATED)
    client_id, application = _find_application(snapshot.portal, raw_client_id)
    progress.client_id = client_id
    certificates = usable_certificates(application, now)
    if isinstance(route.action, Sign):
        return Allowed(route, application, client_id, b"", {}, None, None)
    raw_jws = _single(facts, route.jws, Reason.JWS_MISSING, Reason.JWS_REPEATED)
    jws = parse_compact(raw_jws, route.max_jws_octets)
    certificate = _verify_with_any(jws, certificates, route)
    claims = parse_claims(jws.payload)
    check_claims(claims, jws.header, route.claims, client_id, now)
    return Allowed(route, application, client_id, jws.payload, claims, certificate.thumbprint, jws.header.alg)


def decide(snapshot: Snapshot | None, facts: RequestFacts, now: float) -> Decision:
    """Decide on one request at the time `now` (Unix seconds).

    Never raises an `Exception`: one inside is a `Rejected` with `internal_error`.
    """
    if snapshot is None:
        return Rejected(Reason.POLICY_UNAVAILABLE, "no portal export and policy are loaded")
    progress = _Progress()
    try:
        return _steps(snapshot, facts, now, progress)
    except Rejection as rejection:
        return Rejected(rejection.reason, rejection.detail, progress.route, progress.client_id)
    except Exception as error:
        return Rejected(Reason.INTERNAL_ERROR, f"{type(error).__name__} inside the gate", progress.route)
