"""Runs the `tests` of policies: example requests against the routes, with keys made for the run and no portal.

What only a running gate knows is left out: whether a `jti` was used before, and the CA of `certificates`.
"""

import datetime
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from jwcrypto.jwk import JWK

from jwsgate.core.certificates import RegisteredCertificate, read_certificate
from jwsgate.core.decision import AwaitsBody, Rejected, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.key_pairs import PrivateKey, make_key, self_signed
from jwsgate.core.policy import Route, Router
from jwsgate.core.portal import Application, ClientId, Portal
from jwsgate.core.reasons import Rejection
from jwsgate.core.signing import detached, sign_compact
from jwsgate.core.sources import with_value

from .api_connect import policy_data
from .case_shapes import CaseShape, SignedShape
from .lint import RULES, LintFinding
from .loading import policy_router, read_policy
from .policy_shapes import PolicyShape
from .problems import Finding, ProblemsFound
from .shapes import check_shape

__all__ = ["run_policy_tests"]

_RELATIVE = re.compile(r"[+-][0-9]{1,9}")
_DAY = datetime.timedelta(days=1)


@cache
def _key(algorithm: str, other: bool) -> PrivateKey:
    return make_key(algorithm)


@cache
def _certificate(algorithm: str, at: datetime.datetime) -> RegisteredCertificate:
    made = self_signed(_key(algorithm, False), "policy test", at - _DAY, at + _DAY)
    return read_certificate(made.public_bytes(serialization.Encoding.PEM).decode("ascii"))


def _typed(value: Any, now: int) -> Any:
    """A value of a policy, whose scalars are all text, as JSON has it."""
    if isinstance(value, dict):
        return {name: _typed(inner, now) for name, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner, now) for inner in value]
    if not isinstance(value, str):
        return value
    if _RELATIVE.fullmatch(value):
        return now + int(value)
    try:
        return json.loads(value)
    except ValueError:
        return value


def _signed(shape: SignedShape, route: Route | None, body: bytes, now: int) -> str:
    claims: dict[str, Any] = {"iat": now, "exp": now + 60, **_typed(shape.claims, now)}
    claims = {name: value for name, value in claims.items() if value is not None}
    header = {"alg": shape.algorithm} | ({} if shape.typ is None else {"typ": shape.typ})
    key = JWK.from_pyca(_key(shape.algorithm, shape.other_key))
    is_detached = route is not None and route.detached
    jws = sign_compact(key, header, body if is_detached else json.dumps(claims).encode("utf-8")).decode("ascii")
    return detached(jws) if is_detached else jws


def _application(case: CaseShape, *certificates: RegisteredCertificate) -> Application:
    return Application(
        name=case.application, title=case.application, enabled=True, certificates=certificates,
        client_ids=(ClientId(case.client_id or "test-client"),), organization=case.organization, catalog=case.catalog,
    )  # fmt: skip


def _run(case: CaseShape, router: Router) -> tuple[str, str | None]:
    """What is decided, and the name of the route."""
    at = datetime.datetime.fromisoformat(case.at).astimezone(datetime.UTC)
    now = int(at.timestamp())
    body = case.request.body.encode("utf-8")
    headers = [(name.encode("utf-8"), value.encode("utf-8")) for name, value in case.request.headers.items()]
    if body:
        headers.append((b"Content-Length", str(len(body)).encode()))
    facts = RequestFacts(case.request.method, case.request.path.encode("utf-8"), tuple(headers))
    try:
        route = router.find(facts.method, facts.target)
    except Rejection:
        route = None
    certificate = _certificate(case.sign.algorithm if case.sign else "ES256", at)
    application = _application(case, *((certificate,) if case.certificate else ()))
    if route is not None:
        if case.client_id:
            facts = with_value(facts, route.client_id, case.client_id)
        jws = case.jws or (_signed(case.sign, route, body, now) if case.sign else None)
        if jws is not None:
            facts = with_value(facts, route.jws, jws)
    if case.certificate:
        facts = facts._replace(client_certificate=certificate.thumbprint)
    decision = decide(Snapshot(Portal((application,)), router, "test"), facts, now)
    if isinstance(decision, AwaitsBody):
        decision = decide_body(decision, body)
    name = decision.route.name if decision.route else None
    if isinstance(decision, Rejected):
        return decision.reason, name
    return "allowed" if decision.would_reject is None else f"would_reject {decision.would_reject.reason}", name


def _run_all(path: Path, now: float) -> tuple[list[LintFinding], int]:
    """What ended in another way, and how many tests there were to run."""
    try:
        document = read_policy(path)
    except ProblemsFound:
        return [], 0
    data, place_of = policy_data(document)
    shape, _ = check_shape(PolicyShape, data)
    if shape is None:
        return [], 0
    routers: dict[Application | None, Router | None] = {}
    rule = RULES["policy-test"]
    findings: list[Finding] = []
    for number, case in enumerate(shape.tests):
        # Routes differ between applications only where the policy names some.
        application = _application(case) if shape.applications else None
        if application not in routers:
            portal = Portal(() if application is None else (application,))
            routers[application] = policy_router(path, document, portal, now)
        if (router := routers[application]) is None:
            return [], 0  # what is wrong with it is told already
        decided, route = _run(case, router)
        place = ("tests", number)
        if decided != case.expect:
            message = f"{case.name!r}: {decided} was decided, not {case.expect}"
            findings.append((place_of((*place, "expect")), message, "correct the routes, or what is expected of them"))
        elif case.route is not None and route != case.route:
            message = f"{case.name!r}: the route is {route or 'none'}, not {case.route}"
            findings.append((place_of((*place, "route")), message, "correct the routes, or the name"))
    if not shape.tests and policy_router(path, document, Portal(()), now) is not None:
        rule = RULES["policy-test-missing"]
        findings.append(((), "has no tests, so that nothing of it was tried", "write some under tests"))
    return [LintFinding(rule, problem) for problem in document.problem_list(findings)], len(shape.tests)


def run_policy_tests(policies: Sequence[Path], now: float) -> tuple[list[LintFinding], int]:
    """A finding for each test of the policies that ends in another way than it expects, each policy by itself, and for
    each policy without tests; and how many tests were run."""
    ran = [_run_all(path, now) for path in policies]
    return [finding for findings, _ in ran for finding in findings], sum(number for _, number in ran)
