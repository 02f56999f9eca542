"""The `tests` of a policy: run, and told at their place when they end in another way."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from core_gate import NOW
from jwsgate.cli import main
from jwsgate.files.policy_tests import run_policy_tests
from unit_material import policy_problems

ROUTES = """\
routes:
  - {name: orders, path: "/orders/{id}", methods: [GET], claims: {required: [exp, role], max_lifetime: 600}}
  - {name: signed, path: /signed, jws: {header: x-jws, detached: true}}
  - {name: mtls, path: /mtls, client_certificate: required}
  - {name: shadow, path: /shadow, mode: report}
  - {name: query, path: /query, client_id: {query: client}, jws: {query: jwt}}
  - {name: cookie, path: /cookie, jws: {cookie: jwt}}
  - {name: bearer, path: /bearer, jws: {header: Authorization, scheme: Bearer}}
  - {name: open, path: /open, open: true}
tests:
"""


def outcome(folder: Path, *cases: str) -> list[tuple[str, str]]:
    """The places and messages of what fails."""
    policy = folder / "policy.yaml"
    policy.write_text(ROUTES + "".join(f"  - {{name: a, {case}}}\n" for case in cases))
    assert policy_problems(policy.read_text()) == []
    return [(found.problem.path, found.problem.message) for found in run_policy_tests([policy], NOW)[0]]


@pytest.mark.parametrize(
    ("case", "decided"),
    [
        ("request: {path: /orders/1}, sign: {claims: {role: admin}}", "allowed"),
        ("request: {path: /orders/1}, sign: {}", "claim_missing"),
        ("request: {path: /orders/1}, sign: {claims: {role: a, exp: +601}}", "claim_mismatch"),
        ("request: {path: /orders/1}, sign: {claims: {role: a, exp: -1}}", "jws_expired"),
        ("request: {path: /orders/1}, sign: {claims: {role: a, exp: null}}", "claim_missing"),
        ("request: {path: /orders/1}, sign: {claims: {role: a, exp: soon}}", "claims_malformed"),
        ("request: {path: /orders/1}, sign: {claims: {role: a}, other_key: true}", "signature_mismatch"),
        ("request: {path: /orders/1}", "jws_missing"),
        ("request: {path: /orders/1}, client_id: ''", "client_id_missing"),
        ("request: {path: /orders/1}, jws: a.b.c", "jws_malformed"),
        ("request: {path: /orders/1}, certificate: false, sign: {}", "certificate_missing"),
        ("request: {path: /orders/1, method: POST}, sign: {}", "route_unknown"),
        ("request: {path: /orders/../open}, sign: {}", "request_unsafe"),
        ("request: {path: /signed, method: POST, body: hello}, sign: {algorithm: EdDSA}", "allowed"),
        ("request: {path: /mtls}, sign: {algorithm: ES384}", "allowed"),
        ("request: {path: /shadow}", "would_reject jws_missing"),
        ("request: {path: /query}, sign: {algorithm: ES256}", "allowed"),
        ("request: {path: '/query?a=1'}, sign: {algorithm: ES512}", "allowed"),
        ("request: {path: /cookie}, sign: {algorithm: PS256}", "allowed"),
        ("request: {path: /bearer}, sign: {algorithm: ES256}", "allowed"),
        ("request: {path: /bearer, headers: {Authorization: Basic x}}, sign: {algorithm: ES256}", "jws_repeated"),
        ("request: {path: /open}, client_id: ''", "allowed"),
    ],
)
def test_decisions(case: str, decided: str, tmp_path: Path) -> None:
    """What is expected passes; anything else is told with what was decided."""
    case = case.replace("sign: {}", "sign: {algorithm: ES256}").replace("{claims", "{algorithm: ES256, claims")
    other = "binding_mismatch"
    assert outcome(tmp_path, f"{case}, expect: {decided}", f"{case}, expect: {other}") == [
        ("tests[1].expect", f"'a': {decided} was decided, not {other}")
    ]


def test_routes_are_compared(tmp_path: Path) -> None:
    """By their names, where the test says one."""
    case = "request: {path: /open}, expect: allowed"
    found = outcome(tmp_path, f"{case}, route: open", f"{case}, route: orders")
    assert found == [("tests[1].route", "'a': the route is open, not orders")]


@pytest.mark.parametrize(
    ("case", "path", "message"),
    [
        ("request: {path: /a}, expect: alowed", "expect", "is no decision"),
        ("request: {path: /a}", "expect", "is missing"),
        ("request: {path: a}, expect: allowed", "request.path", "is not of the right form"),
        ("request: {path: /a}, expect: allowed, at: today", "at", "is no time"),
        ("request: {path: /a}, expect: allowed, at: '2026-01-01T00:00:00'", "at", "is no time"),
        ("request: {path: /a}, expect: allowed, sign: {}, jws: a", "", "has a JWS and one to be signed"),
    ],
)
def test_mistakes(case: str, path: str, message: str) -> None:
    """Told when the policy is read, at their place."""
    (problem,) = policy_problems(f"routes:\n  - path: /a\ntests:\n  - {{name: a, {case}}}\n")
    assert (f"tests[0]{'.' if path else ''}{path}", message) == (problem.path, problem.message)


@pytest.mark.parametrize(("expect", "code"), [("jws_missing", 0), ("allowed", 1)])
def test_command(expect: str, code: int, tmp_path: Path) -> None:
    """`jwsgate lint --run-tests` fails with file, line and rule; without the option nothing is run."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"routes:\n  - path: /a\ntests:\n  - {{name: a, request: {{path: /a}}, expect: {expect}}}\n")
    done = CliRunner().invoke(main, ["lint", "--policy", str(policy), "--run-tests"])
    assert done.exit_code == code
    assert done.stderr == "1 test ran\n"
    assert (f"{policy}:4:" in done.output and "[policy-test]" in done.output) == bool(code)
    assert CliRunner().invoke(main, ["lint", "--policy", str(policy)]).exit_code == 0


def test_broken_policies_are_not_run(tmp_path: Path) -> None:
    """What is wrong with them is told by lint itself."""
    policy = tmp_path / "policy.yaml"
    for text in ("routes: []\n", "[", "routes:\n  - {path: /a, sign: {key: none, issuer: a, audience: b}}\n"):
        policy.write_text(text)
        assert run_policy_tests([policy, tmp_path / "none.yaml"], NOW) == ([], 0)


def test_policies_without_tests(tmp_path: Path) -> None:
    """To run what there is not says nothing of a policy, which must not look like success."""
    for name, tests in (("one", "[]"), ("two", "[{name: a, request: {path: /a}, expect: jws_missing}]")):
        (tmp_path / f"{name}.yaml").write_text(f"routes: [{{path: /a}}]\ntests: {tests}\n")
    findings, count = run_policy_tests([tmp_path / "one.yaml", tmp_path / "two.yaml"], NOW)
    (found,) = findings
    assert (found.rule.name, found.rule.level, found.problem.file) == (
        "policy-test-missing", "warning", str(tmp_path / "one.yaml"),
    )  # fmt: skip
    assert count == 1
