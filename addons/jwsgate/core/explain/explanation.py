"""Why a request was decided as it was, step by step, for people: what `decide` said, and how that came about.

The decision is that of decision.py, made here anew or handed in; this module only tells of it. What it prints holds
JOSE header and claims, but neither signatures nor any other HTTP header's value.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from jwsgate.core.decision import Allowed, AwaitsBody, Rejected, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.jws import CompactJws, attach, parse_compact
from jwsgate.core.policy import Route
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.sources import single_value, stripped, with_value
from jwsgate.core.spelling import lenient_object
from jwsgate.core.strict_json import StrictJsonError, parse_object
from jwsgate.core.wording import TIME_CLAIMS, ago, as_number, moment, shown, value_text

from .account import account_of
from .case import Case, Step
from .meanings import MEANINGS, reason_link
from .mistakes import mistake_of
from .signers import called

__all__ = ["Explanation", "Outcome", "explain", "render_text", "to_json"]

type Outcome = Literal["allowed", "rejected", "would_reject", "awaits_body"]

_MOST_MENDED: Final = 3
_WIDTH: Final = 16


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and how it came about. `reason` is None unless the request is, or would be, rejected."""

    outcome: Outcome
    reason: Reason | None
    headline: str
    """The mistake, in one line."""
    remedy: str
    link: str
    """Where the docs tell more of the reason."""
    detail: str
    method: str
    path: str
    at: float
    """When it was decided, in Unix seconds."""
    steps: tuple[Step, ...]
    header: Mapping[str, Any] | None
    """The JOSE header, as it was sent."""
    claims: Mapping[str, Any] | None
    verified: bool
    """Whether the signature was verified, so that header and claims are the application's."""
    once_mended: str = ""
    """What comes of the JWS, once what `headline` names is mended."""


def _text_of(facts: RequestFacts, route: Route | None) -> bytes | None:
    if route is None:
        return None
    try:
        return single_value(facts, route.jws, Reason.JWS_MISSING, Reason.JWS_REPEATED)
    except Rejection:
        return None


def _read(text: bytes | None, route: Route | None, body: bytes | None) -> CompactJws | None:
    if text is None or route is None:
        return None
    try:
        jws = parse_compact(text, route.max_jws_octets, detached=route.detached, unencoded=route.unencoded)
    except Rejection:
        return None
    return attach(jws, body or b"") if route.detached else jws


def _claims(jws: CompactJws | None, route: Route | None) -> dict[str, Any] | None:
    if jws is None or (route is not None and route.detached):
        return None
    try:
        return parse_object(jws.payload)
    except StrictJsonError:
        return None


def _found_route(snapshot: Snapshot, facts: RequestFacts) -> Route | None:
    try:
        return snapshot.router.find(facts.method, facts.target)
    except Rejection:
        return None


def _outcome(decision: Allowed | Rejected | AwaitsBody) -> Outcome:
    match decision:
        case Rejected():
            return "rejected"
        case AwaitsBody():
            return "awaits_body"
        case Allowed():
            return "allowed" if decision.would_reject is None else "would_reject"


def _unloaded(facts: RequestFacts, now: float, detail: str) -> Explanation:
    reason = Reason.POLICY_UNAVAILABLE
    path = shown(facts.target.partition(b"?")[0].decode("latin-1"))
    meaning = MEANINGS[reason]
    return Explanation(
        outcome="rejected",
        reason=reason,
        headline=meaning.meaning,
        remedy=meaning.remedy,
        link=reason_link(reason),
        detail=detail,
        method=shown(facts.method, 20),
        path=path,
        at=now,
        steps=(),
        header=None,
        claims=None,
        verified=False,
    )


def explain(
    snapshot: Snapshot | None,
    facts: RequestFacts,
    now: float,
    body: bytes | None = None,
    decided: Allowed | Rejected | None = None,
    searched: int = 2000,
) -> Explanation:
    """Explain the decision on one request at the time `now` (Unix seconds).

    `body` is the request's whole body, None where it is not known. `decided` is the decision of a gate that knew more,
    such as which `jti` were used; without it, the request is decided here.
    `searched` is how many applications are searched for the one that signed, of which a thousand take some 0.1 seconds.
    """
    return _explain(snapshot, facts, now, body, decided, searched, _MOST_MENDED)


def _explain(
    snapshot: Snapshot | None,
    facts: RequestFacts,
    now: float,
    body: bytes | None,
    decided: Allowed | Rejected | None,
    searched: int,
    mendable: int,
) -> Explanation:
    decision = decided or decide(snapshot, facts, now)
    if snapshot is None:
        return _unloaded(facts, now, decision.detail if isinstance(decision, Rejected) else "")
    if isinstance(decision, AwaitsBody) and body is not None:
        decision = decide_body(decision, body)
    route = decision.route or _found_route(snapshot, facts)
    text = _text_of(facts, route)
    jws = _read(text, route, body)
    case = Case(
        snapshot, facts, now, decision, route, decision.application, text, jws, _claims(jws, route), searched
    )  # fmt: skip
    steps = account_of(case)
    segments = (text or b"").split(b".")
    explanation = Explanation(
        outcome=_outcome(decision),
        reason=None,
        headline=_allowed_text(case),
        remedy="",
        link="",
        detail="",
        method=shown(facts.method, 20),
        path=case.path,
        at=now,
        steps=steps,
        header=_public(lenient_object(segments[0]) if len(segments) > 1 else None),
        claims=_public(case.claims if case.claims is not None else _unread_claims(segments)),
        verified=any(step.name == "signature" and step.ok for step in steps),
    )
    rejected = case.rejected
    if rejected is None:
        return explanation
    failed = next((step for step in steps if step.ok is False), Step("decision", False))
    mistake = mistake_of(case, failed, body)
    mended = ""
    if mistake.mended is not None and route is not None and mendable:
        retry = _with_jws(facts, route, mistake.mended)
        mended = _once_mended(_explain(snapshot, retry, now, body, None, searched, mendable - 1))
    return replace(
        explanation,
        reason=rejected.reason,
        headline=mistake.headline,
        remedy=_sentence(mistake.remedy),
        link=reason_link(rejected.reason),
        detail=rejected.detail,
        once_mended=mended,
    )


def _public(value: Any) -> Any:
    """A JSON value without the private parts of keys (RFC 7518 section 6), which are never shown again."""
    match value:
        case dict():
            private = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} if "kty" in value else set()
            return {name: "(removed)" if name in private else _public(inner) for name, inner in value.items()}
        case list():
            return [_public(inner) for inner in value]
        case _:
            return value


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".") + "."


def _unread_claims(segments: list[bytes]) -> dict[str, Any] | None:
    return lenient_object(segments[1]) if len(segments) == 3 else None


def _with_jws(facts: RequestFacts, route: Route, text: bytes) -> RequestFacts:
    target, headers = stripped(route.jws, facts.target, facts.headers)
    return with_value(
        facts._replace(target=target, headers=headers), route.jws, text.decode("utf-8", "surrogateescape")
    )


def _once_mended(explanation: Explanation) -> str:
    if explanation.reason is None:
        return "the request would be allowed"
    more = f"; {explanation.once_mended}" if explanation.once_mended else ""
    return f"{explanation.reason}: {explanation.headline}{more}"


def _allowed_text(case: Case) -> str:
    match case.decision:
        case Allowed(preflight=str()):
            return "The CORS preflight is answered by the gate itself"
        case Allowed(certificate=None):
            return "The route asks for no JWS"
        case Allowed(certificate=certificate) if certificate is not None and case.application is not None:
            return f"Signed by {shown(certificate.subject)}, the certificate of {called(case.application)}"
        case AwaitsBody():
            return "All is good so far, but the decision needs the body"
        case _:
            return ""


# For people and programs

_WORDS: Final[dict[Outcome, str]] = {
    "allowed": "Allowed",
    "rejected": "Rejected",
    "would_reject": "Would be rejected (the route is in report mode)",
    "awaits_body": "Undecided",
}


def _step_lines(step: Step) -> list[str]:
    head = f"  {'ok' if step.ok else 'FAILED':<8}{step.name:<{_WIDTH}}"
    if step.ok:
        return [f"{head}{step.found}".rstrip()]
    indent = " " * (10 + _WIDTH)
    return [
        f"{head}found: {step.found or 'nothing'}",
        *([f"{indent}expected: {step.expected}"] if step.expected else []),
    ]


def _claim_line(name: str, value: Any, at: float) -> str:
    when = as_number(value) if name in {*TIME_CLAIMS, "auth_time"} else None
    words = "" if when is None or abs(when) > 1e11 else f"  {moment(when)}, {ago(when, at)}"
    return f"  {shown(name, 40)}: {value_text(value)}{words}"


def render_text(explanation: Explanation) -> str:
    """The account as lines for people; the first names the mistake."""
    reason = f" ({explanation.reason})" if explanation.reason else ""
    lines = [f"{_WORDS[explanation.outcome]}{reason}: {explanation.headline}"]
    if explanation.remedy:
        lines.append(f"What to do: {explanation.remedy}")
    if explanation.once_mended:
        lines.append(f"Once mended: {explanation.once_mended}")
    if explanation.link:
        lines.append(f"More: jwsgate explain --reason {explanation.reason} ({explanation.link})")
    lines += ["", f"{explanation.method} {explanation.path} at {moment(explanation.at)}"]
    for step in explanation.steps:
        lines += [] if step.ok is None else _step_lines(step)
    if left := [step.name for step in explanation.steps if step.ok is None]:
        lines.append(f"  not reached: {', '.join(left)}")
    if explanation.header is not None:
        lines += ["", f"JOSE header: {value_text(explanation.header, 500)}"]
    if explanation.claims is not None:
        lines += ["", f"Claims ({'verified' if explanation.verified else 'not verified'}):"]
        lines += [_claim_line(name, value, explanation.at) for name, value in explanation.claims.items()]
    return "\n".join(lines) + "\n"


def to_json(explanation: Explanation) -> str:
    """The account as one JSON object on several lines; times are Unix seconds."""
    return json.dumps(asdict(explanation), indent=2) + "\n"
