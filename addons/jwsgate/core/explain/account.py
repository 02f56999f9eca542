"""The account of a decision: its steps in their order, what each found and what it expected.

Nothing is decided here. Which step failed follows from the decision alone, and where one reason may come from several
rules on claims, the decision's own code is asked again with fewer of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from jwsgate.core.certificates import RegisteredCertificate
from jwsgate.core.claims import ClaimRules, Matching, check_claims
from jwsgate.core.client_certificate import check_certificate_headers, check_client_certificate
from jwsgate.core.decision import Allowed, AwaitsBody, Rejected
from jwsgate.core.policy import Route, Sign
from jwsgate.core.portal import Application
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.sources import check_unread
from jwsgate.core.wording import TIME_CLAIMS, ago, as_number, moment, shown, span, value_text

from .case import Case, Step, allowed_algorithms, certificate_text, place_text, usable

__all__ = ["account_of"]

_STEP_OF: Final[dict[Reason, str]] = {
    Reason.HEADERS_TOO_LARGE: "request",
    Reason.BODY_TOO_LARGE: "request",
    Reason.REQUEST_TIMEOUT: "request",
    Reason.ROUTE_UNKNOWN: "route",
    Reason.CLIENT_ID_MISSING: "client ID",
    Reason.CLIENT_ID_REPEATED: "client ID",
    Reason.CLIENT_ID_UNKNOWN: "client ID",
    Reason.APPLICATION_DISABLED: "application",
    Reason.ROUTE_NOT_ALLOWED: "application",
    Reason.CERTIFICATE_MISSING: "certificate",
    Reason.CERTIFICATE_UNUSABLE: "certificate",
    Reason.CERTIFICATE_EXPIRED: "certificate",
    Reason.CERTIFICATE_NOT_YET_VALID: "certificate",
    Reason.CLIENT_CERTIFICATE_MISSING: "TLS certificate",
    Reason.CLIENT_CERTIFICATE_MISMATCH: "TLS certificate",
    Reason.JWS_MISSING: "JWS",
    Reason.JWS_REPEATED: "JWS",
    Reason.JWS_TOO_LARGE: "JWS",
    Reason.JWS_MALFORMED: "JWS",
    Reason.HEADER_PARAMETER_UNSUPPORTED: "JWS",
    Reason.ALGORITHM_NOT_ALLOWED: "algorithm",
    Reason.SIGNATURE_MISMATCH: "signature",
    Reason.JWS_EXPIRED: "times",
    Reason.JWS_NOT_YET_VALID: "times",
    Reason.JWS_REPLAYED: "single use",
    Reason.BINDING_MISMATCH: "binding",
    Reason.BODY_MALFORMED: "body",
    Reason.POLICY_UNAVAILABLE: "gate",
    Reason.AUDIT_UNAVAILABLE: "gate",
    Reason.INTERNAL_ERROR: "gate",
}
"""The reasons that only one step has; those of claims, and `request_unsafe`, come from several."""


# Which step failed


def _fails(check: Callable[[], object]) -> Reason | None:
    try:
        check()
    except Rejection as rejection:
        return rejection.reason
    return None


def _certificate_check(case: Case, route: Route) -> Reason | None:
    def check() -> None:
        sent = check_certificate_headers(case.facts, case.snapshot.router.certificate_headers)
        if route.client_certificate is not None and case.application is not None:
            check_client_certificate(case.facts, route.client_certificate, sent, usable(case))

    return _fails(check)


def _unsafe_step(case: Case, rejected: Rejected) -> str:
    if rejected.route is None:
        return "request"
    if _certificate_check(case, rejected.route) is Reason.REQUEST_UNSAFE:
        return "TLS certificate"
    if rejected.route.open:
        reasons = Reason.CLIENT_ID_MISSING, Reason.CLIENT_ID_REPEATED
        fails = _fails(partial(check_unread, case.facts, rejected.route.client_id, *reasons))
        return "JWS" if fails is None else "client ID"
    return "client ID" if rejected.client_id is None else "JWS"


def _claim_rules(rules: ClaimRules) -> Iterator[tuple[str, ClaimRules]]:
    """The rules that a policy has, in the order of `check_claims`, each with all that come before it."""
    so_far = ClaimRules(required=rules.required, leeway=rules.leeway)
    yield "times", so_far
    for name, field in (
        ("lifetime", "max_lifetime"), ("issuer", "issuer"), ("subject", "subject"), ("audience", "audience"),
        ("client ID claim", "client_id_claim"), ("typ", "typ"),
    ):  # fmt: skip
        if (value := getattr(rules, field)) not in (None, ()):
            so_far = replace(so_far, **{field: value})
            yield name, so_far


def _claim_step(case: Case, rejected: Rejected) -> str:
    route, jws, claims = rejected.route, case.jws, case.claims
    if route is None or jws is None or rejected.client_id is None or route.detached:
        return "binding" if rejected.reason is Reason.CLAIMS_MALFORMED else "typ"
    if claims is None:
        return "claims"
    client_id = rejected.client_id
    for name, rules in _claim_rules(route.claims):
        reason = _fails(lambda r=rules: check_claims(claims, jws.header, r, client_id, case.now))  # type: ignore[misc]  # of the default
        if reason is not None:
            return "claims" if name == "times" and reason is Reason.CLAIM_MISSING else name
    if route.upstream is not None and _fails(lambda: _told_upstream(case, route)) is not None:
        return "upstream"
    jti = claims.get("jti")
    if route.single_use and not (isinstance(jti, str) and jti and "exp" in claims):
        return "jti"
    return "binding"


def _told_upstream(case: Case, route: Route) -> None:
    certificates = usable(case)
    if route.upstream and case.application and case.decision.client_id and case.claims is not None and certificates:
        payload = case.jws.payload if case.jws else b""
        route.upstream.headers(case.application, case.decision.client_id, certificates[0], case.claims, payload)


def _failed_step(case: Case, rejected: Rejected) -> str:
    if rejected.reason is Reason.REQUEST_UNSAFE:
        return _unsafe_step(case, rejected)
    return _STEP_OF.get(rejected.reason) or _claim_step(case, rejected)


# What each step found and expected


def _request(case: Case) -> tuple[str, str]:
    return f"{shown(case.facts.method, 20)} {case.path}", "one that can be read in one way only, and not too large"


def _route(case: Case) -> tuple[str, str]:
    if case.route is not None:
        return shown(case.route.name), f"one for {shown(case.facts.method, 20)} {case.path}"
    names = [shown(route.name, 60) for route in case.snapshot.router]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return "none", f"one of the policy's routes: {', '.join(names[:5])}{more}"


def _client_id(case: Case, route: Route) -> tuple[str, str]:
    known = case.decision.client_id
    return shown(known) if known else "", f"one that the portal has, in {place_text(route.client_id)}"


def _application(application: Application) -> tuple[str, str]:
    state = "enabled" if application.enabled else "disabled"
    return f"{shown(application.title or application.name or '(unnamed)')}, {state}", "an enabled application"


def _certificates(case: Case, application: Application) -> tuple[str, str]:
    found = "; ".join(certificate_text(certificate, case.now) for certificate in application.certificates)
    trust = case.route.trust if case.route else None
    expected = f"one that is valid at {moment(case.now)}"
    return found or "none", f"{expected}, chains to the policy's CA and is not revoked" if trust else expected


def _jws(case: Case, route: Route) -> tuple[str, str]:
    kind = "detached JWS" if route.detached else "compact JWS"
    expected = f"one {kind} of at most {route.max_jws_octets} octets in {place_text(route.jws)}"
    return f"{len(case.text)} octets" if case.text is not None else "", expected


def _algorithm(case: Case, certificates: Sequence[RegisteredCertificate]) -> tuple[str, str]:
    allowed = allowed_algorithms(case)
    names = [n for c in certificates for n in c.key.algorithms if allowed is None or n in allowed]
    found = shown(case.jws.header.alg, 40) if case.jws else ""
    return found, " or ".join(dict.fromkeys(names)) or "none that both the registered key and the policy have"


def _signature(case: Case, certificates: Sequence[RegisteredCertificate]) -> tuple[str, str]:
    octets = f"{len(case.jws.signature)} octets" if case.jws else ""
    match case.decision:
        case Allowed(certificate=RegisteredCertificate() as by):
            octets += f", made by {shown(by.subject)}"
        case _:
            pass
    names = " or ".join(f"{shown(c.subject)} (SHA-256 {c.thumbprint[:16]}…)" for c in certificates)
    return octets, f"made by the key of {names}"


def _values(allowed: tuple[str, ...] | Matching) -> str:
    return "a match of the policy's pattern" if isinstance(allowed, Matching) else " or ".join(map(value_text, allowed))


def _times(case: Case, rules: ClaimRules) -> tuple[str, str]:
    claims = case.claims or {}
    times = [(name, value) for name in TIME_CLAIMS if (value := as_number(claims.get(name))) is not None]
    found = ", ".join(f"{name} {ago(value, case.now)} ({moment(value)})" for name, value in times)
    leeway = f", {span(rules.leeway)} forgiven" if rules.leeway else ""
    return found or "no exp, nbf or iat", f"at {moment(case.now)}: exp ahead, nbf and iat not ahead{leeway}"


def _lifetime(case: Case, rules: ClaimRules) -> tuple[str, str]:
    claims = case.claims or {}
    exp, iat = as_number(claims.get("exp")), as_number(claims.get("iat"))
    found = "no exp and iat" if exp is None or iat is None else f"{exp - iat} seconds from iat to exp"
    return found, f"at most {rules.max_lifetime} seconds"


def _claim(case: Case, name: str) -> str:
    claims = case.claims or {}
    return value_text(claims[name]) if name in claims else "absent"


def _claim_texts(case: Case, route: Route, step: str) -> tuple[str, str]:
    rules = route.claims
    match step:
        case "claims":
            found = "no JSON object" if case.claims is None else ", ".join(shown(name, 40) for name in case.claims)
            return found or "none", " with ".join(filter(None, ("a JSON object", ", ".join(rules.required))))
        case "times":
            return _times(case, rules)
        case "lifetime":
            return _lifetime(case, rules)
        case "client ID claim":
            name = rules.client_id_claim or ""
            return f"{name} {_claim(case, name)}", f"the client ID, {shown(case.decision.client_id or '')}"
        case "typ":
            typ = case.jws.header.typ if case.jws else None
            return "absent" if typ is None else shown(typ), _values(rules.typ)
        case _:
            claim, allowed = {
                "issuer": ("iss", rules.issuer), "subject": ("sub", rules.subject), "audience": ("aud", rules.audience),
            }[step]  # fmt: skip
            return f"{claim} {_claim(case, claim)}", _values(allowed)


def _binding(case: Case, route: Route) -> tuple[str, str]:
    bindings = route.bindings
    if bindings is None:
        return "", ""
    named = [name for name in (bindings.method, bindings.path, bindings.url) if name]
    found = [f"{name} {_claim(case, name)}" for name in named]
    path = case.facts.target.partition(b"?")[0].decode("latin-1")
    expected = [
        f"{name} {value_text(value)}"
        for name, value in (
            (bindings.method, case.facts.method), (bindings.path, path), (bindings.url, bindings.base_url + path)
        )
        if name
    ]  # fmt: skip
    if bindings.body is not None:
        found.append(f"{bindings.body.claim} {_claim(case, bindings.body.claim)}")
        expected.append(f"{bindings.body.claim}: the {bindings.body.algorithm} of the body in {bindings.body.encoding}")
    return ", ".join(found), ", ".join(expected)


type _Texts = tuple[str, Callable[[], tuple[str, str]]]


def _plan(case: Case) -> Iterator[_Texts]:
    """The steps that this request has to pass, with what tells of each."""
    yield "request", lambda: _request(case)
    yield "route", lambda: _route(case)
    route = case.route
    if route is None or route.open or (isinstance(case.decision, Allowed) and case.decision.preflight):
        return
    yield "client ID", lambda: _client_id(case, route)
    application = case.application
    yield "application", lambda: _application(application) if application else ("", "")
    yield "certificate", lambda: _certificates(case, application) if application else ("", "")
    if route.client_certificate is not None:
        found = case.facts.client_certificate or "none on the connection"
        where = f"in header {route.client_certificate.header.name}" if route.client_certificate.header else "in TLS"
        yield "TLS certificate", lambda: (found, f"one of the application's certificates, {where}")
    if isinstance(route.action, Sign):
        return
    certificates = usable(case)
    yield "JWS", lambda: _jws(case, route)
    yield "algorithm", lambda: _algorithm(case, certificates)
    yield "signature", lambda: _signature(case, certificates)
    if route.detached:
        if route.claims.typ:
            yield "typ", lambda: _claim_texts(case, route, "typ")
        return
    for name in ("claims", *(name for name, _ in _claim_rules(route.claims))):
        yield name, lambda n=name: _claim_texts(case, route, n)  # type: ignore[misc]  # of the default
    if route.upstream is not None:
        yield "upstream", lambda: ("", "claims that fit into the headers for the upstream")
    if route.single_use:
        yield "jti", lambda: (_claim(case, "jti"), "a text, and an exp beside it")
    if route.bindings is not None:
        yield "binding", lambda: _binding(case, route)
    if route.single_use:
        yield "single use", lambda: ("", "not used before; only a running gate remembers what was")


def account_of(case: Case) -> tuple[Step, ...]:
    """All steps of the decision, up to the one that failed and on to those that were not reached."""
    rejected = case.rejected
    failed = None if rejected is None else _failed_step(case, rejected)
    plan = list(_plan(case))
    if failed is not None and failed not in [name for name, _ in plan]:
        plan.insert(0 if failed == "gate" else len(plan), (failed, lambda: ("", "")))
    steps: list[Step] = []
    ok: bool | None = True
    for name, texts in plan:
        if ok is None:
            steps.append(Step(name, None))
            continue
        if isinstance(case.decision, AwaitsBody) and name == ("signature" if case.decision.jws else "binding"):
            ok = None
            steps.append(Step(name, None))
            continue
        found, expected = texts()
        if name == failed and rejected is not None:
            ok = None
            steps.append(Step(name, False, "; ".join(filter(None, (found, rejected.detail))), expected))
        else:
            steps.append(Step(name, ok, found, expected))
    return tuple(steps)
