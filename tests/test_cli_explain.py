"""`jwsgate explain`: from a curl command, an argument or standard input to an account and an exit code."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

import material
from feature_material import CLIENT_ID, NOW, OTHER_CLIENT_ID, certificate_for
from jwsgate import cli
from jwsgate.cli import explain as explain_module
from jwsgate.core.explain import MEANINGS
from jwsgate.core.facts import RequestFacts
from jwsgate.core.reasons import Reason
from recordings import Sent, flow_file, har_file
from test_mistakes import MISTAKES, OTHER, RSA, Call, claims

POLICY = """
routes:
  - path: /orders/{id}
    methods: [GET, PUT]
    claims:
      required: [exp, iat]
      issuer: my-client
      audience: "https://api.example/"
      max_lifetime: 3600
      client_id_claim: azp
  - path: /status
  - {path: '/once/{id}', single_use: true}
  - path: /signed
    jws: {header: x-jws, detached: true}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that name the portal and the policy of test_mistakes, in files."""
    folder = tmp_path_factory.mktemp("explain")
    portal, policy = folder / "portal.yaml", folder / "policy.yaml"
    portal.write_text(
        material.portal_yaml(
            [
                material.Application(
                    "shop", (CLIENT_ID,), certificate_for(RSA, "client").pem, fields={"title": "Shop"}
                ),
                material.Application(
                    "other", (OTHER_CLIENT_ID,), certificate_for(OTHER, "other").pem, fields={"title": "Other"}
                ),
                material.Application("bare", ("bare-client",), fields={"title": "Bare"}),
            ]
        )
        .replace("    title: shop\n", "")
        .replace("    title: other\n", "")
        .replace("    title: bare\n", "")
    )
    policy.write_text(POLICY)
    return ["--portal", str(portal), "--policy", str(policy)]


def explain(files: list[str], *arguments: str, given: str | bytes | None = None, at: str = str(NOW)) -> Result:
    """One call; an exception that does not become an exit code is a failure."""
    line = ["explain", *files, "--at", at, *arguments]
    octets = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else given
    result = CliRunner().invoke(cli.main, line, input=octets, prog_name="jwsgate")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def curl_of(facts: RequestFacts) -> str:
    """A request as a curl command."""
    words = ["curl", "-sk", "-X", facts.method, f"https://api.example{facts.target.decode()}"]
    for name, value in facts.headers:
        words += ["-H", f"{name.decode()}: {value.decode('utf-8', 'surrogateescape')}"]
    return shlex.join(words)


PLAIN = [
    name
    for name, (_, make) in MISTAKES.items()
    if (call := make()).key is RSA
    and call
    == Call(
        **{
            name: getattr(call, name)
            for name in ("claims", "header", "sign", "spell", "client_id", "method", "target", "name", "extra")
        }
    )
]
"""The mistakes of the request alone; the others need another portal or policy."""


def test_most_mistakes_are_plain() -> None:
    """The selection below is no empty one."""
    assert len(PLAIN) >= 50


@pytest.mark.parametrize("name", PLAIN)
def test_mistakes_in_curl_commands(files: list[str], name: str) -> None:
    """The first line of the command's output names the mistake, and the exit code is 1."""
    words, make = MISTAKES[name]
    result = explain(files, "--curl", "-", given=curl_of(make().facts()))
    assert (result.exit_code, result.stderr) == (1, "")
    assert words in result.stdout.splitlines()[0]


@pytest.mark.parametrize("name", ["certificate's PEM", "certificate's DER", "public key's PEM"])
def test_certificate_as_shared_secret(files: list[str], name: str) -> None:
    """A portal that is read from files still has the certificate itself, which clients take for a secret."""
    certificate = certificate_for(RSA, "client")
    secret = {
        "certificate's PEM": certificate.pem.encode(),
        "certificate's DER": certificate.certificate.public_bytes(Encoding.DER),
        "public key's PEM": material.public_pem(RSA).encode(),
    }[name]
    call = Call(header={"alg": "HS256"}, sign=lambda signed: material.signature(secret, "HS256", signed))
    result = explain(files, "--curl", "-", given=curl_of(call.facts()))
    assert f"Signed with HS256, with the registered {name} as the shared secret" in result.stdout.splitlines()[0]


def test_allowed(files: list[str]) -> None:
    """A good call is explained too, with exit code 0; JSON has the same."""
    command = curl_of(Call().facts())
    result = explain(files, "--curl", "-", given=command)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Allowed: Signed by CN=client, the certificate of 'Shop'\n")
    told = json.loads(explain(files, "--curl", "-", "--json", given=command).stdout)
    assert (told["outcome"], told["reason"], told["claims"]["azp"]) == ("allowed", None, CLIENT_ID)
    assert [step["ok"] for step in told["steps"]] == [True] * len(told["steps"])


@pytest.mark.parametrize("line_break", ["", "\n", "\r\n"], ids=["none", "lf", "crlf"])
def test_jws_of_standard_input(files: list[str], line_break: str) -> None:
    """The line break that a shell leaves at the end is no part of the JWS; one more is a mistake."""
    token = Call().token()
    line = ["--client-id", CLIENT_ID, "--path", "/orders/1"]
    assert explain(files, *line, "-", given=token + line_break).exit_code == 0
    assert explain(files, *line, token).exit_code == 0
    assert "wrapped" in explain(files, *line, "-", given=f"{token[:9]}\n{token[9:]}\n").stdout.splitlines()[0]


def test_request_of_the_first_route(files: list[str]) -> None:
    """Who says no path has one of the first route, and is told so."""
    result = explain(files, "--client-id", CLIENT_ID, Call().token())
    assert result.exit_code == 0
    assert result.stderr == "explain: without --path, the request is taken for GET /orders/x (/orders/{id})\n"


def test_url_method_and_header(files: list[str]) -> None:
    """The parts of a request may be given one by one."""
    line = ["--client-id", CLIENT_ID, "--url", "https://api.example/orders/1?a=b", "--method", "POST", Call().token()]
    assert "has no route for the method POST" in explain(files, *line).stdout
    line = ["--client-id", CLIENT_ID, "--path", "/orders/1", "--header", "Authorization: Bearer " + Call().token()]
    assert "The JWS is in header Authorization" in explain(files, *line).stdout


@pytest.mark.parametrize(
    ("at", "first"),
    [
        pytest.param("2030-03-17T17:46:40Z", "Allowed", id="utc"),
        pytest.param("2030-03-17T18:46:40+01:00", "Allowed", id="zone"),
        pytest.param("2030-03-17T17:46:40", "Allowed", id="no-zone-is-utc"),
        pytest.param("2030-03-20T17:56:40Z", "Rejected (jws_expired): The JWS expired 3 days ago", id="later"),
        pytest.param("-3d", "Rejected (certificate_not_yet_valid)", id="relative"),
    ],
)
def test_at(files: list[str], at: str, first: str) -> None:
    """Any time may be asked about."""
    assert explain(files, "--curl", "-", given=curl_of(Call().facts()), at=at).stdout.startswith(first)


def test_now(files: list[str]) -> None:
    """Without --at it is now; this test is good until 2030."""
    assert time.time() < NOW - 31 * 86400
    result = CliRunner().invoke(cli.main, ["explain", *files, "--curl", "-"], input=curl_of(Call().facts()))
    assert result.stdout.startswith("Rejected (certificate_not_yet_valid)")


def test_body(files: list[str], tmp_path: Path) -> None:
    """A detached JWS needs the body, of the curl command or of a file; without it nothing is decided."""
    (tmp_path / "body").write_bytes(b'{"a":1}')
    first, payload, last = material.jws(RSA, payload=b'{"a":1}').split(".")
    assert payload
    call = f"curl https://api.example/signed -H 'X-IBM-Client-Id: {CLIENT_ID}' -H 'x-jws: {first}..{last}' "
    assert explain(files, "--curl", "-", given=call + """-d '{"a":1}'""").exit_code == 0
    assert "signature_mismatch" in explain(files, "--curl", "-", given=call + """-d '{"a":2}'""").stdout
    unknown = explain(files, "--curl", "-", given=call + "-d @body")
    assert unknown.exit_code == 2
    assert "give it with --body FILE" in unknown.stderr
    assert explain(files, "--curl", "-", "--body", str(tmp_path / "body"), given=call + "-d @body").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--at", "tomorrow", "x"], "write 2026-01-31T12:00:00Z", id="time"),
        pytest.param(["--at", "1795998061000", "x"], "is in milliseconds; in Unix seconds: 1795998061", id="milli"),
        pytest.param(["--at", "1795998061000000000", "x"], "is in nanoseconds; in Unix seconds: 1795998061", id="nano"),
        pytest.param(["--at", "9" * 30, "x", "--client-id", "a"], "", id="huge-time"),
        pytest.param(["--curl", "-", "x"], "Give one of: a JWS, --curl, --flow.", id="both"),
        pytest.param(["--url", "http://a/", "--path", "/", "x"], "Give --url or --path, not both.", id="url-and-path"),
        pytest.param(["--url", "http://[", "x"], "has a URL that cannot be read", id="url"),
        pytest.param(["--header", "x", "y"], "write 'Name: value'", id="header"),
        pytest.param(["--curl", "-"], "the curl command does not begin with curl", id="no-curl"),
        pytest.param(["--curl", "/nowhere"], "No such file", id="no-file"),
        pytest.param(["--policy", "/nowhere.yaml", "x"], "portal and policy cannot be used", id="no-policy"),
    ],
)
def test_usage(files: list[str], arguments: list[str], words: str) -> None:
    """Wrong usage is told in a line, and the exit code is 2 (a time that no calendar has is none of it)."""
    result = explain(files, *arguments, given="wget x")
    assert result.exit_code == (2 if words else 1)
    assert words in result.stderr


@pytest.mark.parametrize(("option", "code"), [("--client-id", 1), ("--path", 1), ("--header", 0)])
def test_octets_that_are_no_text(files: list[str], option: str, code: int) -> None:
    """What came from a command line with other octets than UTF-8 is explained as it came."""
    line = ["--client-id", CLIENT_ID, "--path", "/status", option, "/a:\udcff"]
    assert explain(files, *line, Call().token()).exit_code == code


@pytest.mark.parametrize("jws", ["\udcff.b.c", "-x", "", "a" * 100_000], ids=["surrogate", "dash", "empty", "long"])
def test_any_text_is_explained(files: list[str], jws: str) -> None:
    """Whatever stands in the place of the JWS, there is an account of it."""
    result = explain(files, "--client-id", CLIENT_ID, "--path", "/status", "--", jws)
    assert result.exit_code == 1
    assert result.stdout.startswith("Rejected (jws_")


@pytest.mark.parametrize("reason", Reason)
def test_reason(reason: Reason) -> None:
    """What the page says of a reason, without any file of the gate."""
    result = CliRunner().invoke(cli.main, ["explain", "--reason", reason.value])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{reason}\n\n{MEANINGS[reason].meaning}\n\n**To mend it:** ")
    assert "\nAnswer: " in result.stdout
    assert result.stdout.count("Answer: ") == 1


def test_reason_without_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the page is not there, its first words are still those of the code."""
    monkeypatch.setattr(explain_module, "section", lambda *_: None)
    result = CliRunner().invoke(cli.main, ["explain", "--reason", "jws_expired"])
    meaning = MEANINGS[Reason.JWS_EXPIRED]
    assert result.stdout == f"jws_expired\n\n{meaning.meaning}\n\n**To mend it:** {meaning.remedy}\n"


def test_account_names_the_command(files: list[str]) -> None:
    """The account says how to read more, in an installation too."""
    result = explain(files, "--client-id", CLIENT_ID, "--path", "/status", "x")
    assert "\nMore: jwsgate explain --reason jws_malformed (docs/reasons.md#jws_malformed)\n" in result.stdout


# Recordings


@pytest.fixture(scope="module")
def requests() -> list[Sent]:
    """A good call, one that is refused, and the good one again, which single_use refuses."""
    good = replace(claims(jti="one"), key=RSA).facts()
    calls = [good, claims(exp=NOW - 60, iat=NOW - 600).facts(), good]
    texts = [[(name.decode(), value.decode()) for name, value in facts.headers] for facts in calls]
    return [Sent("/once/17", NOW + number, fields) for number, fields in enumerate(texts)]


@pytest.fixture(scope="module", params=["flow", "har"])
def recording(request: pytest.FixtureRequest, requests: list[Sent], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The requests in a file of each kind."""
    path = tmp_path_factory.mktemp("recording") / f"calls.{request.param}"
    path.write_bytes(flow_file(requests) if request.param == "flow" else har_file(requests))
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        pytest.param([], "Rejected (jws_expired): The JWS expired 1 minute ago", id="first-refused"),
        pytest.param(["--entry", "1"], "Allowed: Signed by CN=client", id="entry"),
        pytest.param(["--entry", "2"], "Rejected (jws_expired): The JWS expired 1 minute ago", id="refused"),
        pytest.param(["--entry", "3"], 'Rejected (jws_replayed): The JWS was used before: its jti "one"', id="again"),
        pytest.param(["--at", "+1d"], "Rejected (certificate_not_yet_valid)", id="at"),
    ],
)
def test_recordings(files: list[str], recording: str, arguments: list[str], first: str) -> None:
    """A request of a recording is explained as of when it was sent, and by a gate that saw those before it."""
    line = ["explain", *files, "--flow", recording, *arguments]
    result = CliRunner().invoke(cli.main, line, prog_name="jwsgate")
    assert result.stdout.startswith(first), result.output
    assert result.exit_code == (0 if first.startswith("Allowed") else 1)


def test_refused_call_comes_before_its_preflight(files: list[str], requests: list[Sent], tmp_path: Path) -> None:
    """A page's preflight is refused too where the policy says nothing of CORS; it is told where no call was refused."""
    asks = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET")]
    preflight = Sent("/once/17", NOW, asks, "OPTIONS")
    path = tmp_path / "page.har"
    for calls, told in ((requests[:2], "Rejected (jws_expired)"), (requests[:1], "Rejected (client_id_missing)")):
        path.write_bytes(har_file([preflight, *calls]))
        assert explain(files, "--har", str(path)).stdout.startswith(told)
        assert explain(files, "--har", str(path), "--entry", "1").stdout.startswith("Rejected (client_id_missing)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--entry", "9"], "has no request 9", id="entry"),
        pytest.param(["x"], "Give one of: a JWS, --curl, --flow.", id="jws"),
    ],
)
def test_recording_usage(files: list[str], recording: str, arguments: list[str], words: str) -> None:
    """What is not there is told."""
    result = explain(files, "--har", recording, *arguments)
    assert (result.exit_code, words in result.stderr) == (2, True)


def test_no_recording(files: list[str]) -> None:
    """Nor is a file that is none."""
    result = explain(files, "--flow", __file__)
    assert (result.exit_code, "is cut short or damaged" in result.stderr) == (2, True)
