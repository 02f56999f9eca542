"""`jwsgate lint`: every rule by an export that breaks it, every format, every exit code."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

import material
from jwsgate import cli
from jwsgate.files.lint import RULES, LintFinding, lint

KEY = material.private_key("p256")
GOOD = material.certificate(KEY)
OTHER = material.certificate(material.private_key("p256", "other"))
EXPIRED = material.certificate(material.private_key("p256", "old"), from_days=-9, to_days=-1)
SOON = material.certificate(material.private_key("p256", "soon"), to_days=10)
LATER = material.certificate(material.private_key("p256", "later"), from_days=5)


def special_certificate(*, ca: bool = False, sha1: bool = False) -> str:
    """A self-signed RSA certificate of a kind to be warned of."""
    key: Any = material.private_key("rsa", f"{ca}{sha1}")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "special")])
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 5)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca, None), True)
    )
    certificate = builder.sign(key, hashes.SHA256())
    der = certificate.public_bytes(serialization.Encoding.DER)
    if sha1:  # no signature is asked for here: both algorithm identifiers are exchanged
        der = der.replace(bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105"))
        certificate = x509.load_der_x509_certificate(der)
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def write(folder: Path, *applications: dict[str, Any], **more: Any) -> Path:
    """An export as indented JSON."""
    path = folder / "portal.json"
    path.write_text(json.dumps({"results": list(applications), **more}, indent=1))
    return path


def app(name: str, certificate: str | None = GOOD, **fields: Any) -> dict[str, Any]:
    """One application."""
    entry = {} if certificate is None else {"application_public_certificate_entry": certificate}
    return {"name": name, "client_id": f"id-{name}", **entry, **fields}


def run(*arguments: object) -> Result:
    """`jwsgate lint` in this process."""
    return CliRunner().invoke(
        cli.main, ["lint", *map(str, arguments)], env={"JWSGATE_PORTAL": "", "JWSGATE_POLICY": ""}
    )


def found(path: Path, days: int = 30) -> list[LintFinding]:
    """What lint finds now."""
    return lint(path, [], time.time(), days)


def test_what_may_not_be_read_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As whatever else is wrong with a file: it is no wrong call of the command."""
    path = write(tmp_path, app("one"))

    def refuse(*_arguments: object, **_named: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as forbidden:
        forbidden.setattr(os, "open", refuse)
        forbidden.setattr(os, "access", lambda *_arguments, **_named: False)
        result = run("--portal", path)
    assert (result.exit_code, "may not be read (give this user the right to read it)" in result.output) == (1, True)


def test_nothing_to_mend(tmp_path: Path) -> None:
    """A good export has no findings."""
    result = run("--portal", write(tmp_path, app("a"), app("b", OTHER)))
    assert (result.exit_code, result.output) == (0, "nothing to mend\n")


WARNED: list[Any] = [
    pytest.param([app("a", EXPIRED)], "certificate-expired", "entry", id="expired"),
    pytest.param([app("a", SOON)], "certificate-expires-soon", "entry", id="soon"),
    pytest.param([app("a", LATER)], "certificate-not-yet-valid", "entry", id="later"),
    pytest.param([app("a", None)], "certificate-missing", "results[0]", id="missing"),
    pytest.param([app("a", "")], "certificate-missing", "results[0].application_public", id="empty"),
    pytest.param([app("a"), app("b")], "certificate-shared", "results[1]", id="shared"),
    pytest.param([app("a", special_certificate(sha1=True))], "certificate-sha1", "entry", id="sha1"),
    pytest.param([app("a", special_certificate(ca=True))], "certificate-of-ca", "entry", id="ca"),
    pytest.param([app("a", client_id=None)], "client-id-missing", "results[0]", id="no-client-id"),
    pytest.param(
        [app("a", EXPIRED, application_public_certificates=[{"entry": GOOD}])],
        "certificate-left-over",
        "entry",
        id="left-over",
    ),
    pytest.param(
        [app("a"), {"type": "credential", "client_id": "x", "app_url": "/apps/gone"}],
        "credential-unused",
        "results[1]",
        id="orphan",
    ),
    pytest.param([app("a", "cert23456")], "certificate-unusable", "entry", id="garbage"),
    pytest.param([app("a", material.private_pem(KEY))], "private-key", "entry", id="private-key"),
    pytest.param([app("a"), app("b", OTHER, client_id="id-a")], "client-id", "results[1].client_id", id="repeated"),
    pytest.param([app("a", state="on")], "portal-shape", "results[0].state", id="state"),
]


@pytest.mark.parametrize(("applications", "rule", "path"), WARNED)
def test_rules(tmp_path: Path, applications: list[dict[str, Any]], rule: str, path: str) -> None:
    """Each rule has its export, and nothing else is told of that."""
    (finding,) = found(write(tmp_path, *applications))
    assert finding.rule == RULES[rule]
    assert path in finding.problem.path
    assert finding.problem.line > 1
    assert finding.problem.remedy


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("results: [", "syntax", id="syntax"),
        pytest.param("results: [&x {}]\n", "syntax", id="anchor"),
        pytest.param("total_results: 5\nresults: []\n", "portal-incomplete", id="pages"),
        pytest.param(None, "file-unreadable", id="no-file"),
    ],
)
def test_rules_of_files(tmp_path: Path, text: str | None, rule: str) -> None:
    """What is wrong with the file itself."""
    path = tmp_path / "portal.yaml"
    if text is not None:
        path.write_text(text)
    assert [finding.rule.name for finding in found(path) if finding.rule.level == "error"] == [rule]


@pytest.mark.parametrize("key", ["clientid", "client-id", "cliend_id"])
def test_misspelt_client_id(tmp_path: Path, key: str) -> None:
    """Other keys of applications and credentials are the portal's; one that is nearly right is told of."""
    (missing,) = found(write(tmp_path, app("a", client_id=None) | {key: "x"}))
    assert (missing.rule.name, missing.problem.remedy) == ("client-id-missing", f"write client_id in place of {key}")
    (missing,) = found(write(tmp_path, app("a", credentials=[{key: "x"}])))
    assert (missing.rule.name, missing.problem.remedy) == ("client-id", f"write client_id in place of {key}")


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        ({"entry": OTHER, "not_afer": "2090-01-01"}, "portal-shape"),
        ({"entry": OTHER, "not_after": "soon"}, "portal-shape"),
        ({"entry": "cert23456"}, "certificate-unusable"),
        ({"file": "gone.pem"}, "certificate-unusable"),
    ],
)
def test_what_is_wrong_around_a_certificate(tmp_path: Path, item: dict[str, str], rule: str) -> None:
    """A certificate is unusable for what it is itself."""
    (finding,) = found(write(tmp_path, app("a", application_public_certificates=[item])))
    assert finding.rule.name == rule


APART = {"type": "credential", "client_id": "x", "app_url": "/apps/b"}


@pytest.mark.parametrize("fault", [{"state": "on"}, {"application_public_certificate_entry": "x"}, {"credentials": 5}])
def test_credentials_of_a_broken_application_are_used(tmp_path: Path, fault: dict[str, Any]) -> None:
    """To remove them would be wrong."""
    rules = [finding.rule.name for finding in found(write(tmp_path, app("b", url="/apps/b", **fault), APART))]
    assert len(rules) == 1
    assert rules != ["credential-unused"]


@pytest.mark.parametrize("text", ["results: [", "total_results: 9\nresults: []\n", "results: [&x {}]\n", None])
def test_no_credential_is_unused_while_something_is_not_read(tmp_path: Path, text: str | None) -> None:
    """Its application may be there."""
    write(tmp_path, APART)
    apps = tmp_path / "apps.yaml"
    if text is None:
        apps.symlink_to(tmp_path / "gone")
    else:
        apps.write_text(text)
    assert "credential-unused" not in {finding.rule.name for finding in found(tmp_path)}
    apps.unlink()
    assert {"credential-unused"} == {finding.rule.name for finding in found(tmp_path)}


@pytest.mark.parametrize("text", ["results:\n  - name: a", "results:\n  - {state: enabled}\n  - name: b\n"])
def test_an_export_that_may_be_cut_short(tmp_path: Path, text: str) -> None:
    """A warning, for it may as well be whole."""
    path = tmp_path / "portal.yaml"
    path.write_text(text)
    assert "portal-cut-short" in {finding.rule.name for finding in found(path) if finding.rule.level == "warning"}


def test_disabled_applications_may_be_without(tmp_path: Path) -> None:
    """Nobody calls with a disabled application, so that it needs nothing."""
    assert found(write(tmp_path, app("a", None, state="disabled"), app("b", EXPIRED, is_suspended=True))) == []


@pytest.mark.parametrize(("days", "expected"), [(9, []), (11, ["certificate-expires-soon"])])
def test_expiry_within_days(tmp_path: Path, days: int, expected: list[str]) -> None:
    """How early a warning comes is up to the user."""
    assert [finding.rule.name for finding in found(write(tmp_path, app("a", SOON)), days)] == expected


@pytest.mark.parametrize(
    ("entry", "until", "others", "expected"),
    [
        pytest.param(GOOD, 4, [LATER], ["certificate-gap"], id="gap"),
        pytest.param(GOOD, 6, [LATER], [], id="none"),
        pytest.param(GOOD, 4, [LATER, OTHER], [], id="filled"),
        pytest.param(LATER, None, [], ["certificate-not-yet-valid"], id="gap-now"),
    ],
)
def test_gaps(tmp_path: Path, entry: str, until: int | None, others: list[str], expected: list[str]) -> None:
    """What counts is whether there is a certificate at each time, not how long the last one is valid."""
    end = {} if until is None else {"application_public_certificate_not_after": day(until)}
    further = {"application_public_certificates": [{"entry": other} for other in others]} if others else {}
    findings = found(write(tmp_path, app("a", entry, **end, **further)), days=0)
    assert [finding.rule.name for finding in findings] == expected
    if expected == ["certificate-gap"]:
        message = f"is not used after {day(4)}, and the next certificate not before {day(5)}"
        assert (findings[0].problem.path[-5:], findings[0].problem.message) == ("entry", message)


def day(days: int) -> str:
    """A day so many days from now."""
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%d")


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ({"title": "T"}, {"title": "U"}, "T"),
        ({"title": "T", "consumer_org_url": "/orgs/o"}, {"title": "T", "consumer_org_url": "/orgs/p"}, "T of o"),
        ({"title": "T"}, {"title": "T"}, "T at results[0]"),
        ({"name": None}, {"name": None}, "the application at results[0]"),
    ],
)
def test_shared_keys_are_told_by_application(
    tmp_path: Path, first: dict[str, str], second: dict[str, str], name: str
) -> None:
    """Titles may be equal; the same key twice in one application is not shared."""
    further = {"application_public_certificates": [{"entry": material.certificate(KEY, "again")}]}
    (finding,) = found(write(tmp_path, app("a") | first, app("b") | second))
    assert finding.rule.name == "certificate-shared"
    assert finding.problem.message == f"has the key of {name} too: each can sign for the other"
    assert found(write(tmp_path, app("a", **further))) == []


def test_next_certificate_ends_the_warning(tmp_path: Path) -> None:
    """Once the next certificate is registered, nobody needs to be warned."""
    assert found(write(tmp_path, app("a", SOON, application_public_certificates=[{"entry": OTHER}]))) == []


def test_policies_are_linted(tmp_path: Path) -> None:
    """Policies alone, and beside a portal; each problem has its rule and its place."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("routes:\n  - path: /a\n    metods: [GET]\n")
    result = run("--policy", policy)
    assert result.exit_code == 1
    assert (
        f"{policy}:3:5: error: routes[0].metods: is not a known key (did you mean methods?) [policy]" in result.output
    )
    result = run("--policy", policy, "--portal", write(tmp_path, app("a", None)))
    assert "1 error, 1 warning\n" in result.output


DOUBTFUL: list[Any] = [
    pytest.param(
        "methods: [GTE]", "method-unregistered", "3:15", "is no registered method (did you mean GET?)", id="method"
    ),
    pytest.param(
        "methods: [PURGE, PUT]",
        "method-unregistered",
        "3:15",
        "is no registered method (correct it, if clients do not send it just so)",
        id="method-of-caches",
    ),
    pytest.param(
        "jws: {header: authorization}",
        "scheme-missing",
        "3:19",
        "is taken whole, with any Bearer that stands before the value (add scheme: Bearer)",
        id="jws-without-scheme",
    ),
    pytest.param(
        "client_id: {query: a, also: [{header: Authorization}]}",
        "scheme-missing",
        "3:43",
        "is taken whole, with any Bearer that stands before the value (add scheme: Bearer)",
        id="client-id-without-scheme",
    ),
    pytest.param(
        "claims: {issuer: 'https://.*'}",
        "claim-pattern",
        "3:22",
        "looks like a pattern, and is compared as the text 'https://.*' "
        "(list the values that are meant, or say issuer_pattern)",
        id="issuer-pattern",
    ),
    pytest.param(
        "claims: {audience: [a, ^b]}",
        "claim-pattern",
        "3:28",
        "looks like a pattern, and is compared as the text '^b' "
        "(list the values that are meant, or say audience_pattern)",
        id="audience-pattern",
    ),
    pytest.param(
        "claims: {max_lifetime: 60, leeway: 300}",
        "leeway-long",
        "3:40",
        "forgives 300 seconds, more than the 60 that a JWS may live (say a smaller leeway)",
        id="leeway",
    ),
    pytest.param(
        "claims: {max_lifetime: 5}\ndefaults: {claims: {leeway: 60}}",
        "leeway-long",
        "3:28",
        "forgives 60 seconds, more than the 5 that a JWS may live (say a smaller leeway)",
        id="leeway-of-the-defaults",
    ),
]


@pytest.mark.parametrize(("said", "rule", "place", "told"), DOUBTFUL)
def test_what_was_hardly_meant(tmp_path: Path, said: str, rule: str, place: str, told: str) -> None:
    """A warning, for it can be meant: the place, what it is, and what to write."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"routes:\n  - path: /a\n    {said}\n")
    (finding,) = lint(None, [policy], time.time(), 1)
    assert (finding.rule.name, finding.rule.level) == (rule, "warning")
    assert str(finding.problem).startswith(f"{policy}:{place}: ")
    assert str(finding.problem).endswith(f": {told}")


@pytest.mark.parametrize(
    "said",
    [
        "methods: [GET, PROPFIND, REPORT]",
        "jws: {header: Authorization, scheme: DPoP}",
        "claims: {issuer: 'https://a.example/b?c=d', audience: 'https://[::1]', subject: auth0|a, typ: at+jwt}",
        "claims: {max_lifetime: 60, leeway: 60}",
        "claims: {leeway: 60}",
    ],
)
def test_what_may_be_meant(tmp_path: Path, said: str) -> None:
    """Nothing is told of what is as common."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"routes:\n  - path: /a\n    {said}\n")
    assert lint(None, [policy], time.time(), 1) == []


def test_three_broken_applications_can_be_mended_from_the_messages(tmp_path: Path) -> None:
    """Each message names file, line, column, application and what to do; done in turn, nothing is left."""
    path = tmp_path / "portal.yaml"
    squeezed = GOOD.replace("\n", "")
    text = f"""\
results:
  - title: Orders  # the first
    client_id: one
    application_public_certificate_entry: {squeezed[:-60]}
  - title: Stock
    state: enable
    client_id: two
  - title: Billing
    client_id: one
    application_public_certificate_entry: |
{"".join(f"      {line}{chr(10)}" for line in OTHER.splitlines())}"""
    path.write_text(text)
    result = run("--portal", path, "--fail-on", "error")
    assert result.exit_code == 1
    entry = "application_public_certificate_entry"
    assert result.output.splitlines() == [
        f"{path}:4:43: error: results[0].{entry} (Orders): is PEM cut short "
        "(paste the certificate again, from BEGIN to END) [certificate-unusable]",
        f"{path}:6:12: error: results[1].state (Stock): is not one of the known values "
        "(use 'enabled', 'disabled' or 'pending') [portal-shape]",
        f"{path}:9:16: error: results[2].client_id (Billing): is the client ID of results[0].client_id too "
        "(a client ID names one credential: remove one) [client-id]",
        "3 errors, 0 warnings",
    ]
    lines = text.splitlines(keepends=True)
    lines[3] = f"    {entry}: {squeezed}\n"
    lines[5] = "    state: enabled\n"
    lines[8] = "    client_id: three\n"
    path.write_text("".join(lines))
    result = run("--portal", path, "--fail-on", "error")
    assert result.exit_code == 0
    assert "certificate-missing" in result.output


# What is known already

OPEN = """\
routes:
  - {path: /health, open: true}
  - {path: /status, name: status, open: true, methods: [PURGE]}
"""


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        pytest.param([], 3, id="nothing"),
        pytest.param(["route-open"], 1, id="rule"),
        pytest.param(["route-open@/health"], 2, id="rule-of-the-route-by-path"),
        pytest.param(["route-open@status"], 2, id="rule-of-the-route-by-name"),
        pytest.param(["route-open@/status"], 3, id="a-path-is-no-name-where-there-is-one"),
        pytest.param(["route-open", "method-unregistered@status"], 0, id="two"),
    ],
)
def test_warnings_are_left_out(tmp_path: Path, ignored: list[str], left: int) -> None:
    """What is meant to be so is not told, and does not count."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(OPEN)
    options = [word for each in ignored for word in ("--ignore", each)]
    data = json.loads(run("--policy", policy, "--format", "json", *options).output)
    assert (data["errors"], data["warnings"]) == (0, left)
    assert run("--policy", policy, *options).exit_code == bool(left)


def test_warnings_of_an_application_are_left_out(tmp_path: Path) -> None:
    """By its name, and no other's."""
    path = write(tmp_path, app("a", None), app("b", None))
    result = run("--portal", path, "--ignore", "certificate-missing@a")
    assert "(b)" in result.output
    assert "(a)" not in result.output


@pytest.mark.parametrize(
    ("ignored", "told"),
    [
        ("route-opened", "'route-opened' is no rule"),
        ("policy", "policy is an error, which does not go away by being known"),
        ("route-open@", "name the route or the application behind route-open@"),
    ],
)
def test_what_cannot_be_left_out(tmp_path: Path, ignored: str, told: str) -> None:
    """A slip in the option, and errors."""
    result = run("--policy", tmp_path / "policy.yaml", "--ignore", ignored)
    assert result.exit_code == 2
    assert told in result.output


def test_the_schema_key_of_editors(tmp_path: Path) -> None:
    """Both kinds of files may say where their schema is."""
    for name, text in (("policy", "routes: [{path: /a}]"), ("portal", "results: []")):
        (tmp_path / f"{name}.yaml").write_text(f"$schema: {name}.schema.json\n{text}\n")
    result = run("--policy", tmp_path / "policy.yaml", "--portal", tmp_path / "portal.yaml")
    assert (result.exit_code, result.output) == (0, "nothing to mend\n")


# Formats and exit codes


def test_exit_codes(tmp_path: Path) -> None:
    """0: nothing, 1: findings, 2: called wrongly."""
    warned = write(tmp_path, app("a", None))
    assert run("--portal", warned).exit_code == 1
    assert run("--portal", warned, "--fail-on", "error").exit_code == 0
    assert run("--portal", tmp_path / "gone.yaml", "--fail-on", "error").exit_code == 1
    assert run().exit_code == 2
    assert run("--portal", warned, "--format", "xml").exit_code == 2
    assert run("--portal", warned, "--expires-within", "soon").exit_code == 2


def test_json_format(tmp_path: Path) -> None:
    """Programs get every field."""
    path = write(tmp_path, app("a", None))
    data = json.loads(run("--portal", path, "--format", "json").output)
    assert data == {
        "findings": [
            {
                "rule": "certificate-missing",
                "level": "warning",
                "file": str(path),
                "line": 3,
                "column": 3,
                "path": "results[0]",
                "application": "a",
                "message": "has no certificate registered: its requests are refused",
                "remedy": "register its certificate",
            }
        ],
        "errors": 0,
        "warnings": 1,
    }


def test_sarif_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code scanning gets rules, and places relative to the checkout."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, app("a", None), app("b", "cert23456"))
    data = json.loads(run("--portal", "portal.json", "--format", "sarif").output)
    assert data["version"] == "2.1.0"
    (one,) = data["runs"]
    rules = {rule["id"]: rule for rule in one["tool"]["driver"]["rules"]}
    assert rules.keys() == RULES.keys()
    assert [(result["ruleId"], result["level"]) for result in one["results"]] == [
        ("certificate-missing", "warning"),
        ("certificate-unusable", "error"),
    ]
    place = one["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "portal.json"}, "region": {"startLine": 3, "startColumn": 3}}


def test_github_format(tmp_path: Path) -> None:
    """Annotations, from which nothing in the export can break out."""
    path = write(tmp_path, app("a", None, title="100%\n::error::x"))
    (line,) = run("--portal", path, "--format", "github").output.splitlines()
    assert line.startswith(f"::warning file={path},line=3,col=3,title=jwsgate certificate-missing::results[0] (100%25")
    assert "\\n::error::x" in line


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_no_secret_in_any_format(tmp_path: Path, form: str) -> None:
    """A broken export is told of without its secrets."""
    path = write(tmp_path, app("a", "cert23456", client_secret="s3cr3t-v4lue", client_secret_hashed="h4sh3d-v4lue"))
    output = run("--portal", path, "--format", form).output
    assert "v4lue" not in output


def test_rules_are_listed() -> None:
    """`--rules` names each rule."""
    result = run("--rules")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == len(RULES)
