"""Names the mistake behind a rejection in one line, and what mends it."""

from collections.abc import Callable
from typing import Final

from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source
from jwsgate.core.spelling import lenient_object, spelling_mistake
from jwsgate.core.wording import Mistake

from .case import Case, Step, allowed_algorithms, place_text, usable
from .claim_mistakes import expired, malformed_claims, missing_claim, not_yet, other_claim, other_request, replayed
from .meanings import MEANINGS, remedy_of
from .request_mistakes import (
    certificate_mistake,
    disabled_application,
    elsewhere,
    is_jws,
    missing_client_id,
    preflight_mistake,
    unknown_client_id,
    unknown_route,
    unsafe_request,
)
from .signers import Signed, algorithm_mistake, signature_mistake

__all__ = ["mistake_of"]

_SEND_WHOLE: Final = "send header, payload and signature"


def _jws_missing(case: Case) -> Mistake | None:
    if case.route is None:
        return None
    found = elsewhere(case, case.route.jws, "JWS", is_jws)
    return found or Mistake(f"No JWS was sent in {place_text(case.route.jws)}", "sign one, and send it there")


def _repeated(what: str) -> Callable[[Case], Mistake | None]:
    def name(case: Case) -> Mistake | None:
        source = None if case.route is None else (case.route.jws if what == "JWS" else case.route.client_id)
        where = place_text(source) if source else "the request"
        remedy = "send it once; look whether a library and the code both add it"
        return Mistake(f"The {what} was sent more than once in {where}", remedy)

    return name


def _malformed(case: Case) -> Mistake | None:
    if case.text is None or case.route is None:
        return None
    parts = case.text.split(b".")
    if len(parts) == 3 and case.route.detached and parts[1]:
        return Mistake(
            "The JWS holds its payload, but the route takes a detached one", "leave the second segment empty"
        )
    header = lenient_object(parts[0])
    if case.text in case.snapshot.portal.index:
        places = f"the JWS in {place_text(case.route.jws)}, the client ID in {place_text(case.route.client_id)}"
        return Mistake("The client ID was sent in place of the JWS", f"send {places}")
    if (mistake := spelling_mistake(case.text, _scheme_before(case, case.route.jws))) is not None:
        return mistake
    if header is not None and "alg" not in header:
        return Mistake("The JOSE header has no alg", "write the algorithm into the header before signing")
    return None


def _scheme_before(case: Case, source: Source) -> str | None:
    """The authentication scheme of the place in which the JWS was found, if it has one."""
    for place in (source, *source.others):
        scheme = (place.scheme or "").lower().encode("ascii")
        if scheme and any(
            name.lower() == place.exact and value.strip().lower().startswith(scheme)
            for name, value in case.facts.headers
        ):
            return place.scheme
    return None


def _unsupported(case: Case) -> Mistake | None:
    header = lenient_object((case.text or b"").split(b".")[0]) or {}
    names = ", ".join(name for name in ("crit", "b64", "zip", "enc") if name in header)
    return Mistake(
        f"The JOSE header has {names}, which the gate does not take here",
        remedy_of(Reason.HEADER_PARAMETER_UNSUPPORTED),
    )


def _signed(case: Case) -> Signed | None:
    if case.jws is None or case.application is None:
        return None
    portal, claims = case.snapshot.portal, case.claims or {}
    return Signed(case.jws, case.application, usable(case), portal, case.searched, claims, case.now)


def _algorithm(case: Case) -> Mistake | None:
    signed = _signed(case)
    return algorithm_mistake(signed, allowed_algorithms(case)) if signed else None


def _signature(case: Case) -> Mistake | None:
    if case.jws is not None and not case.jws.payload and case.route is not None and not case.route.detached:
        return Mistake("The JWS is detached (its payload is empty), but the route takes a whole one", _SEND_WHOLE)
    signed = _signed(case)
    return signature_mistake(signed) if signed else None


_NAMED: Final[dict[Reason, Callable[[Case], Mistake | None]]] = {
    Reason.REQUEST_UNSAFE: unsafe_request,
    Reason.ROUTE_UNKNOWN: unknown_route,
    Reason.CLIENT_ID_MISSING: missing_client_id,
    Reason.CLIENT_ID_REPEATED: _repeated("client ID"),
    Reason.CLIENT_ID_UNKNOWN: unknown_client_id,
    Reason.APPLICATION_DISABLED: disabled_application,
    Reason.CERTIFICATE_MISSING: certificate_mistake,
    Reason.CERTIFICATE_UNUSABLE: certificate_mistake,
    Reason.CERTIFICATE_EXPIRED: certificate_mistake,
    Reason.CERTIFICATE_NOT_YET_VALID: certificate_mistake,
    Reason.JWS_MISSING: _jws_missing,
    Reason.JWS_REPEATED: _repeated("JWS"),
    Reason.JWS_MALFORMED: _malformed,
    Reason.HEADER_PARAMETER_UNSUPPORTED: _unsupported,
    Reason.ALGORITHM_NOT_ALLOWED: _algorithm,
    Reason.SIGNATURE_MISMATCH: _signature,
    Reason.CLAIMS_MALFORMED: malformed_claims,
    Reason.CLAIM_MISSING: missing_claim,
    Reason.JWS_EXPIRED: expired,
    Reason.JWS_NOT_YET_VALID: not_yet,
    Reason.JWS_REPLAYED: replayed,
}


_OF_A_PREFLIGHT: Final = frozenset({Reason.ROUTE_UNKNOWN, Reason.CLIENT_ID_MISSING, Reason.JWS_MISSING})
"""By which a preflight is refused that nobody answers."""


def mistake_of(case: Case, failed: Step, body: bytes | None) -> Mistake:
    """The mistake behind a rejection; where none is recognized, what the reason means."""
    rejected = case.rejected
    reason = Reason.INTERNAL_ERROR if rejected is None else rejected.reason
    if reason in _OF_A_PREFLIGHT and (preflight := preflight_mistake(case)) is not None:
        return preflight
    if reason is Reason.CLAIM_MISMATCH:
        named = other_claim(case, failed)
    elif reason is Reason.BINDING_MISMATCH:
        named = other_request(case, failed, body)
    else:
        name = _NAMED.get(reason)
        named = None if name is None else name(case)
    detail = "" if rejected is None or not rejected.detail else f" ({rejected.detail})"
    meaning = MEANINGS[reason].meaning.removesuffix(".")
    return named or Mistake(f"{meaning}{detail}", remedy_of(reason))
