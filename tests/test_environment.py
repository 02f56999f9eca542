"""Values from the environment: only where the file says so, and never missing unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_gate import NOW
from jwsgate.files.documents import read_document
from jwsgate.files.environment import filled
from jwsgate.files.loading import load_snapshot
from unit_material import good_files, problems_in

POLICY = "routes:\n  - path: /a\n    claims: {issuer: {env: ISSUER}, max_lifetime: {env: LIFETIME}}\n"


def test_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text and a number; another value is another revision."""
    portal, policy = good_files(tmp_path)
    policy.write_text(POLICY)
    monkeypatch.setenv("LIFETIME", "60")
    revisions = set()
    for issuer in ("one", "two: {x}"):
        monkeypatch.setenv("ISSUER", issuer)
        snapshot = load_snapshot(portal, [policy], NOW)
        (route,) = snapshot.router
        assert (route.claims.issuer, route.claims.max_lifetime) == ((issuer,), 60)
        revisions.add(snapshot.revision)
    assert len(revisions) == 2


@pytest.mark.parametrize("value", [None, ""])
def test_missing_variables(value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a problem at its place; an empty one is no value."""
    portal, policy = good_files(tmp_path)
    policy.write_text(POLICY)
    for name in ("ISSUER", "LIFETIME"):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    found = problems_in(lambda: load_snapshot(portal, [policy], NOW))
    assert [(problem.line, problem.path, problem.message) for problem in found] == [
        (3, "routes[0].claims.issuer", "takes the variable 'ISSUER', which is not set"),
        (3, "routes[0].claims.max_lifetime", "takes the variable 'LIFETIME', which is not set"),
    ]


def test_nothing_else_is_replaced() -> None:
    """No mapping with more keys, nothing in the examples, and no text."""
    text = (
        b"a: ['%HOME%', /a/$count, $1, '{a}', {env: HOME, x: y}, env]\ntests: [{headers: {env: HOME, b: '${HOME}'}}]\n"
    )
    document = read_document("policy.yaml", text)
    assert filled(document, {"HOME": "/root"}).data == document.data


@pytest.mark.parametrize(
    ("value", "placeholder"),
    [
        ("${HOME}", "${HOME}"),
        ("https://${HOME}/a", "${HOME}"),
        ("${HOME:-a}", "${HOME:-a}"),
        ("$HOME", "$HOME"),
        ("'{{ HOME }}'", "{{ HOME }}"),
        ("'{{.HOME}}'", "{{.HOME}}"),
    ],
)
def test_placeholders_of_others(value: str, placeholder: str) -> None:
    """They would be taken for the value itself, which no JWS has."""
    (problem,) = problems_in(
        lambda: filled(read_document("policy.yaml", f"a:\n- b\n- {value}\n".encode()), {"HOME": "x"})
    )
    assert (problem.line, problem.path) == (3, "a[1]")
    assert problem.message == f"has the placeholder {placeholder}, which nobody fills in"
    assert problem.remedy == "write {env: HOME} in place of the whole value"
