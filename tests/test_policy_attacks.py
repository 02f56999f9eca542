"""Attempts to get past a policy by what it offers: report mode, open routes, narrowing, several places, variables."""

from __future__ import annotations

from pathlib import Path

import pytest

import material
from core_gate import NOW, application, certificate_of, request_with, signed
from jwsgate.core.decision import Allowed, Rejected, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.portal import Portal
from jwsgate.files.documents import read_document
from jwsgate.files.environment import filled
from jwsgate.files.lint import lint
from unit_material import policy_problems, read_policy

KEY = material.private_key("p256")


def outcome(policy: str, facts: RequestFacts) -> str:
    """The route that a request passes by, or why it does not."""
    router, problems = read_policy(policy)
    assert problems == []
    decision = decide(Snapshot(Portal((application("client", certificate_of(KEY)),)), router, "r"), facts, NOW)
    if isinstance(decision, Rejected):
        return decision.reason
    assert isinstance(decision, Allowed)
    return decision.route.name


# Headers that some upstreams prefer to the request line

OPEN = """\
routes:
  - {name: open, path: "/open/**", open: true}
  - {name: read, path: "/orders/{id}", methods: [GET, HEAD]}
  - {name: write, path: "/orders/{id}", methods: [PUT, DELETE], claims: {required: [exp, admin]}}
"""


@pytest.mark.parametrize("name", [b"X-Original-URL", b"X-Rewrite-Url", b"x_original_url", b"X.Rewrite.URL"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"/open/y", "open"),
        (b"https://api.example/open/y?z", "open"),
        (b"/orders/7", "request_unsafe"),
        (b"http://x/orders/7", "request_unsafe"),
        (b"HTTP://x/orders/7", "request_unsafe"),
        (b"/nowhere", "request_unsafe"),
        (b"/open/../orders/7", "request_unsafe"),
        (b"orders/7", "request_unsafe"),
        (b"", "request_unsafe"),
    ],
)
def test_another_path_in_a_header(name: bytes, value: bytes, expected: str) -> None:
    """An upstream that goes by it must have the same route; a header that repeats the path is nobody's concern."""
    assert outcome(OPEN, RequestFacts("GET", b"/open/x", ((name, value),))) == expected


@pytest.mark.parametrize("name", [b"X-HTTP-Method-Override", b"x-http-method", b"X_Method_Override"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"HEAD", "read"), (b" get ", "read"), (b"DELETE", "request_unsafe"), (b"delete", "request_unsafe"),
     (b"\xe9", "request_unsafe"), (b"POST", "request_unsafe")],
    ids=["same", "small", "stricter", "stricter-small", "none", "no-route"],
)  # fmt: skip
def test_another_method_in_a_header(name: bytes, value: bytes, expected: str) -> None:
    """A JWS that is good for reading does not delete."""
    facts = request_with(signed(KEY))
    facts = facts._replace(target=b"/orders/7", headers=(*facts.headers, (name, value)))
    assert outcome(OPEN, facts) == expected


# Several places

ALSO = "routes: [{name: a, path: /**, jws: {header: Authorization, scheme: Bearer, also: [{cookie: jwt}]}}]\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "a"),
        (b"Basic dTpw", "a"),
        (b"Bearer", "a"),
        (b"Bearer forged", "jws_repeated"),
        (b"Bearer\tforged", "request_unsafe"),
        (b"bearer:forged", "request_unsafe"),
        (b"Basic dTpw, Bearer forged", "request_unsafe"),
        (b"xBearer forged", "request_unsafe"),
    ],
    ids=repr,
)
def test_second_value_behind_another_scheme(value: bytes | None, expected: str) -> None:
    """The verified JWS is in the cookie; no reader may find one that was not verified in the other place."""
    headers = [(b"X-IBM-Client-Id", b"client"), (b"Cookie", b"jwt=" + signed(KEY).encode())]
    headers += [] if value is None else [(b"Authorization", value)]
    assert outcome(ALSO, RequestFacts("GET", b"/x", tuple(headers))) == expected


# Report mode

REPORT = """\
routes:
  - {name: shadow, path: "/shadow/**", mode: report, upstream: {client_id: X-Caller}}
  - {name: strict, path: "/**", upstream: {claims: {X-Role: role}}}
"""


@pytest.mark.parametrize(
    "headers",
    [
        ((b"X-Original-URL", b"/strict"),),
        ((b"X-IBM-Client-Id", b"client"), (b"X_IBM_Client_Id", b"other")),
        ((b"Connection", b"jwt"),),
        ((b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"h2c"), (b"Connection", b"upgrade")),
    ],
    ids=repr,
)
def test_report_mode_is_no_way_around_safety(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """What could be read as something else is refused as ever."""
    assert outcome(REPORT, RequestFacts("GET", b"/shadow/x", headers)) == "request_unsafe"


# Lint and variables


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", "1", "'true'", "{env: OPEN}"])
def test_lint_tells_of_every_spelling_of_open(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a policy says it, and wherever the word comes from."""
    monkeypatch.setenv("OPEN", "on")
    path = tmp_path / "policy.yaml"
    path.write_text(f"routes: [{{path: /a, open: {word}}}]\n")
    assert [finding.rule.name for finding in lint(None, [path], NOW, 1)] == ["route-open"]


@pytest.mark.parametrize("value", ["{open: true}", "[a, b]", "*", "&a", "a\nopen: true", "null", "~", "{env: OTHER}"])
def test_value_of_a_variable_is_one_text(value: str) -> None:
    """It never becomes a list, a mapping, nothing at all, or a reference to another one."""
    document = read_document("policy.yaml", b"routes: [{path: /a, claims: {issuer: {env: NAME}}}]\n")
    data = filled(document, {"NAME": value, "OTHER": "x"}).data
    assert data == {"routes": [{"path": "/a", "claims": {"issuer": value}}]}


def test_contradiction_of_the_own_route_is_told() -> None:
    """An application that could call nothing at all, as its entry fits no route, does not pass unnoticed."""
    text = "routes: [{path: /a, algorithms: [RS256]}]\napplications: [{client_id: a, algorithms: [ES256]}]\n"
    assert [problem.path for problem in policy_problems(text)] == ["applications[0].algorithms"]


BOUND = """\
routes:
  - {name: bound, path: "/orders/{id}", bind: {path: path}}
"""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"X-Original-URL", b"/orders/7", "bound"),
        (b"X-Original-URL", b"/orders/8", "request_unsafe"),
        (b"X-HTTP-Method-Override", b"GET", "bound"),
        (b"X-HTTP-Method-Override", b"DELETE", "request_unsafe"),
    ],
)
def test_another_request_than_the_bound_one(name: bytes, value: bytes, expected: str) -> None:
    """A JWS bound to one path says nothing of another, though it has the same route."""
    request = request_with(signed(KEY, {"exp": NOW + 60, "path": "/orders/7"}))
    facts = request._replace(target=b"/orders/7", headers=(*request.headers, (name, value)))
    assert outcome(BOUND, facts) == expected
