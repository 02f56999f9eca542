"""`jwsgate check`: recorded requests are decided as they were when they were sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

import material
from jwsgate.adapters.flow_files import Recording
from jwsgate.cli import main
from recordings import Sent, flow_file, har_file

LONG_AGO = 1_600_000_000.5
CLIENT = "check-client"
KEY = material.private_key("p256", "check")
POLICY = """\
routes:
  - {name: orders, path: "/orders/**"}
  - {name: once, path: /once, single_use: true}
  - {name: signed, path: /signed, jws: {detached: true}}
  - {name: shadow, path: /shadow, mode: report}
  - {name: small, path: /small, max_body_octets: 3}
"""


def sent(
    path: str = "/orders/17",
    *,
    at: float = LONG_AGO,
    exp: float = LONG_AGO + 60,
    key: material.PrivateKey = KEY,
    token: str | None = None,
    body: bytes = b"",
    **claims: object,
) -> Sent:
    """A request whose JWS was good at the time."""
    token = token or material.jws(key, {"exp": int(exp), "iat": int(LONG_AGO), **claims})
    headers = [("Host", "api.example"), ("X-IBM-Client-Id", CLIENT), ("jwt", token)]
    if body:
        headers.append(("Content-Length", str(len(body))))
    return Sent(path, at, headers, "POST" if body else "GET", body)


def detached(body: bytes) -> str:
    """A JWS without its payload."""
    first, _, last = material.jws(KEY, payload=body).split(".")
    return f"{first}..{last}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Portal and policy; the certificate was valid at the time of the recordings, and is not any more."""
    place = tmp_path_factory.mktemp("check")
    pem = material.certificate(KEY, "check", from_days=-9000, to_days=-100)
    (place / "portal.yaml").write_text(material.portal_yaml([material.Application("shop", (CLIENT,), pem)]))
    (place / "policy.yaml").write_text(POLICY)
    return place


def check(folder: Path, *arguments: str | Path) -> Result:
    """The command with the portal and the policy."""
    files = ("--portal", folder / "portal.yaml", "--policy", folder / "policy.yaml")
    return CliRunner().invoke(main, ["check", *map(str, (*files, *arguments))])


REQUESTS = (
    (sent(), "allowed"),
    (sent(at=LONG_AGO + 60), "jws_expired"),
    (sent(at=LONG_AGO - 10), "jws_not_yet_valid"),
    (sent(key=material.private_key("p256", "stranger")), "signature_mismatch"),
    (sent("/once", jti="a"), "allowed"),
    (sent("/once", jti="a"), "jws_replayed"),
    (sent("/once", jti="b"), "allowed"),
    (sent("/signed", token=detached(b"body"), body=b"body"), "allowed"),
    (sent("/signed", token=detached(b"body"), body=b"other"), "signature_mismatch"),
    (sent("/small", body=b"1234"), "body_too_large"),
    (sent("/shadow", at=LONG_AGO + 60), "would_reject jws_expired"),
    (sent("/elsewhere"), "route_unknown"),
    (sent("/orders//17"), "request_unsafe"),
)


@pytest.mark.parametrize("write", [flow_file, har_file])
def test_decisions(folder: Path, tmp_path: Path, write: Callable[[Iterable[Sent]], bytes]) -> None:
    """Each at its own time, with its body, in the order in which they came."""
    flows, report = tmp_path / "recording", tmp_path / "report.json"
    flows.write_bytes(write([request for request, _ in REQUESTS]))
    result = check(folder, flows, "--report", report)
    told = json.loads(report.read_text())
    decided = [
        "allowed" if each["reason"] is None else f"would_reject {each['reason']}".removeprefix(
            "" if each["decision"] == "would_reject" else "would_reject "
        )
        for each in told["requests"]
    ]  # fmt: skip
    assert decided == [expected for _, expected in REQUESTS]
    assert [each["time"] for each in told["requests"]][:2] == ["2020-09-13T12:26:40.500Z", "2020-09-13T12:27:40.500Z"]
    assert told["counts"] == {"allowed": 4, "rejected": 8, "would_reject": 1, "unlisted": 0}
    assert (result.exit_code, told["passed"]) == (1, False)
    assert result.output.splitlines()[-1] == "13 requests: 4 allowed, 8 rejected, 1 would be rejected; 8 findings"


def test_all_is_well(folder: Path, tmp_path: Path) -> None:
    """Exit code 0, and one line."""
    (tmp_path / "flows").write_bytes(flow_file([sent()] * 3))
    result = check(folder, tmp_path / "flows")
    assert (result.exit_code, result.output) == (
        0,
        "3 requests: 3 allowed, 0 rejected, 0 would be rejected; 0 findings\n",
    )


def test_no_report_holds_a_jws(folder: Path, tmp_path: Path) -> None:
    """Not even where the client put it into the path, in any of the formats."""
    token = material.jws(material.private_key("p256", "stranger"), {"exp": 1})
    odd = Sent(f"/orders/{token}?t={token}", LONG_AGO, [("X-IBM-Client-Id", CLIENT), ("jwt", token)], "G\x1b\ufffeT")
    (tmp_path / "flows").write_bytes(flow_file([odd, sent()]))
    names = ("report.xml", "report.json", "report.sarif", "github=annotations", "report.txt")
    reports = [word for name in names for word in ("--report", f"{name.partition('=')[0]}={tmp_path / 'annotations'}"
                                                   if "=" in name else str(tmp_path / name))]  # fmt: skip
    result = check(folder, tmp_path / "flows", *reports)
    assert result.exit_code == 1
    for name in names:
        text = (tmp_path / name.rpartition("=")[2]).read_text()
        assert "request_unsafe" in text
        assert "\x1b" not in text
        for part in token.split("."):
            assert part not in text
            assert part not in result.output


def test_formats_name_request_and_reason(folder: Path, tmp_path: Path) -> None:
    """JUnit, SARIF and annotations each say which request was rejected, and why."""
    flows = tmp_path / "flows.mitm"
    flows.write_bytes(flow_file([sent(), sent("/orders/<18>%25", at=LONG_AGO + 60)]))
    # `<` may stand in no path, so that the core refuses it; the other one shows what XML does with such texts.
    flows.write_bytes(flow_file([sent(), sent("/orders/18&amp;", at=LONG_AGO + 60)]))
    reports = [tmp_path / name for name in ("junit.xml", "r.sarif")]
    result = check(
        folder, flows, *(word for path in reports for word in ("--report", path)), "--report", "github=-"
    )  # fmt: skip
    why = "rejected: jws_expired: exp has passed"
    root = ElementTree.fromstring(reports[0].read_text())
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "2", "1")
    cases = root.findall("testsuite[@name='requests']/testcase")
    assert [case.get("classname") for case in cases] == ["shop", "shop"]
    assert cases[1].get("name") == f"GET /orders/18&amp; ({flows}: flow 2)"
    (failure,) = root.iter("failure")
    assert (failure.get("type"), failure.get("message")) == ("jws_expired", why)
    assert (failure.text or "").splitlines() == [
        why,
        "The JWS expired just now (2020-09-13 12:27:40 UTC); it was made 1 minute ago, for 1 minute: kept too long, or "
        "the client's clock is 1 minute slow",
        "What to do: Make a new JWS for each call or shortly before exp, and keep the client's clock right.",
        "More: docs/reasons.md#jws_expired",
    ]
    sarif = json.loads(reports[1].read_text())
    (found,) = sarif["runs"][0]["results"]
    assert found["ruleId"] == "jws_expired"
    assert why in found["message"]["text"]
    assert found["ruleId"] in {rule["id"] for rule in sarif["runs"][0]["tool"]["driver"]["rules"]}
    assert result.output == (
        f"::error file={str(flows).replace(':', '%3A').replace(',', '%2C')},title=jwsgate jws_expired::"
        f"{flows}: flow 2: GET /orders/18&amp; (shop): {why}\n"
    )


EXPECTATIONS = """\
expectations:
  - name: orders may be read
    request: {path: "/orders/{id}", method: GET, application: shop}
    expect: allowed
  - name: an old JWS is refused
    request: {path: /orders/18}
    expect: jws_expired
    times: 2
  - name: odd paths are refused
    request: {path: /orders//17}
    expect: request_unsafe
"""


def test_expectations_met(folder: Path, tmp_path: Path) -> None:
    """What is expected to be rejected is no finding."""
    (tmp_path / "expect.yaml").write_text(EXPECTATIONS)
    old = sent("/orders/18", at=LONG_AGO + 60)
    (tmp_path / "flows").write_bytes(flow_file([sent(), old, sent("/orders//17"), old]))
    result = check(folder, tmp_path / "flows", "--expect", tmp_path / "expect.yaml")
    assert (result.exit_code, result.output) == (
        0,
        "4 requests: 1 allowed, 3 rejected, 0 would be rejected, 3 of 3 expectations met; 0 findings\n",
    )


def test_expectations_not_met(folder: Path, tmp_path: Path) -> None:
    """Each is told with its place; a request that does otherwise than expected is a finding even when allowed."""
    expect = tmp_path / "expect.yaml"
    expect.write_text(EXPECTATIONS + "  - {name: closed, request: {route: once}, expect: jws_missing}\n")
    (tmp_path / "flows").write_bytes(flow_file([sent("/once", jti="c"), sent("/orders/18", at=LONG_AGO + 60)]))
    result = check(folder, tmp_path / "flows", "--expect", expect, "--fail-on", "none", "--report", tmp_path / "r.xml")
    flow = f"{tmp_path / 'flows'}: flow 1: GET /once (shop)"
    assert (result.exit_code, result.output.splitlines()) == (
        1,
        [
            f"{flow}: allowed, not jws_missing as expected by 'closed' ({expect}:12) [decision-unexpected]",
            f"{expect}:2:5: orders may be read: expected allowed at least once, found it 0 times [expectation-unmet]",
            f"{expect}:5:5: an old JWS is refused: expected jws_expired 2 times, found it 1 times [expectation-unmet]",
            f"{expect}:9:5: odd paths are refused: expected request_unsafe at least once, found it 0 times"
            " [expectation-unmet]",
            f"{expect}:12:5: closed: expected jws_missing at least once, found it 0 times [expectation-unmet]",
            "2 requests: 1 allowed, 1 rejected, 0 would be rejected, 0 of 4 expectations met; 5 findings",
        ],
    )
    assert ElementTree.parse(tmp_path / "r.xml").getroot().get("failures") == "5"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("expectations: []\n", "1:15: expectations: is empty"),
        ("expectations:\n  - {name: a, request: {}, expect: allowed}\n", "2:24: expectations[0].request: says nothing"),
        ("expectations:\n  - {name: a, request: {pth: /a}, expect: allowed}\n", "2:25: expectations[0].request.pth"),
        ("expectations:\n  - {name: a, request: {path: a}, expect: allowed}\n", "2:31: expectations[0].request.path"),
        ("expectations:\n  - {name: a, request: {path: /*}, expect: allowed}\n", "2:31: expectations[0].request.path"),
        ("expectations:\n  - {name: a, request: {path: /a}, expect: denied}\n", "2:44: expectations[0].expect"),
        ("expectations:\n  - {name: a, name: b}\n", "2:15: expectations[0].name: is a repeated key"),
        ("- [", "is not YAML"),
    ],
    ids=["empty", "nothing-said", "misspelled", "no-path", "star", "no-decision", "repeated", "no-yaml"],
)  # fmt: skip
def test_bad_expectations(folder: Path, tmp_path: Path, text: str, told: str) -> None:
    """They are told with their place, and nothing is decided."""
    (tmp_path / "expect.yaml").write_text(text)
    result = check(folder, tmp_path / "flows", "--expect", tmp_path / "expect.yaml")
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize("end", [1, 200, -1, -2], ids=["first-octet", "in-the-first", "but-one", "but-two"])
def test_cut_flows(folder: Path, tmp_path: Path, end: int) -> None:
    """The position is told, what came before is decided, and the run fails."""
    whole, first = flow_file([sent(), sent("/orders/18", at=LONG_AGO + 60)]), len(flow_file([sent()]))
    (tmp_path / "flows").write_bytes(whole[:end])
    result = check(folder, tmp_path / "flows", "--report", tmp_path / "junit.xml")
    assert result.exit_code == 2
    place = f"octet {first}, after 1 flows" if end < 0 else "octet 0, from its beginning"
    assert f"is cut short or damaged at {place} (record it again" in result.output
    assert f"{1 if end < 0 else 0} requests:" in result.output
    assert "is cut short or damaged" in (tmp_path / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (b"99999999999999:", "damaged at octet 0"),
        (b"999999999999:a}", "damaged at octet 0"),
        (b"3:abc,", "damaged at octet 0"),
        (b"0:}", "damaged at octet 0"),
        (b"5:hello", "damaged at octet 0"),
        (b"\x00\xff", "damaged at octet 0"),
        (b"0:~", "damaged at octet 0"),
        (b"{", "damaged at line 1, column 2, after 0 entries"),
        (b"{}", "it has no log.entries"),
        (b"[1]", "it has no log.entries"),
        (b'{"log": {"entries": {}}}', "it has no log.entries"),
        (b'{"log": {"entries": [1]}}', "is no HAR at entry 1"),
        (b'{"log": {"entries": [\xff', "not UTF-8 at octet 21"),
        (b"[" * 100_000, "it has no log.entries"),
        (b'{"log": {"entries": [' + b"[" * 100_000, "damaged at line 1, column 22, after 0 entries"),
        (b'{"log": {"entries": []}} {', "damaged at line 1, column 26, after 0 entries"),
        (b'{"log": {"entries": [],}}', "damaged at line 1, column 24, after 0 entries"),
        (b"", "no request came"),
    ],
    ids=[
        "long-prefix", "longer-than-the-file", "text", "empty-map", "no-type", "binary", "null", "brace", "no-log",
        "list", "no-list", "no-entry", "latin-1", "deep-list", "deep-entry", "goes-on", "comma", "empty",
    ],
)  # fmt: skip
def test_no_recording(folder: Path, tmp_path: Path, octets: bytes, told: str) -> None:
    """Whatever it is, one line says where it is wrong."""
    (tmp_path / "flows").write_bytes(octets)
    result = check(folder, tmp_path / "flows")
    assert result.exit_code == (2 if octets else 1)
    assert told in result.output
    assert "Traceback" not in result.output


def test_cut_har(folder: Path, tmp_path: Path) -> None:
    """What came before the cut is decided, and line and column are told."""
    whole = har_file([sent(), sent("/orders/18", at=LONG_AGO + 60), sent()])
    cut = whole[: whole.rindex(b"postData") if b"postData" in whole else whole.rindex(b"request")]
    (tmp_path / "a.har").write_bytes(cut)
    result = check(folder, tmp_path / "a.har")
    assert result.exit_code == 2
    assert f"damaged at line {cut.count(10) + 1}, column" in result.output
    assert "after 2 entries" in result.output
    assert "2 requests: 1 allowed, 1 rejected" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--report", "a.pdf", "flows"], 2, "does not tell the format"),
        ([], 2, "Missing argument 'FLOWS...'"),
        (["--fail-on", "all", "flows"], 2, "'all'"),
        (["no-such-file"], 2, "cannot be read: No such file or directory"),
        (["."], 2, "cannot be read: Is a directory"),
        (["--expect", "no-such-file", "flows"], 2, "does not exist"),
        (["--report", "no/such/folder/r.xml", "flows"], 2, "cannot be written"),
    ],
    ids=["format", "no-flows", "fail-on", "missing", "folder", "expect", "report"],
)
def test_usage(folder: Path, arguments: list[str], code: int, told: str) -> None:
    """Exit code 2 for wrong usage and for files that cannot be used: 1 is for findings alone."""
    result = check(folder, *arguments)
    assert (result.exit_code, told in result.output) == (code, True), result.output


@pytest.mark.parametrize("option", ["--portal", "--policy"])
def test_unusable_portal_and_policy(folder: Path, tmp_path: Path, option: str) -> None:
    """They are no findings either; 1 is also for a report that cannot be written in the end."""
    (tmp_path / "flows").write_bytes(flow_file([sent()]))
    (tmp_path / "bad.yaml").write_text("a: [")
    result = check(folder, tmp_path / "flows", option, tmp_path / "bad.yaml")
    assert (result.exit_code, "bad.yaml:" in result.output) == (2, True), result.output
    assert check(folder, tmp_path / "flows", "--report", "text=/dev/full").exit_code == 1


@pytest.mark.parametrize(
    ("url", "counted"),
    [
        ("https://api.example/orders/17#part", "1 allowed, 0 rejected"),
        ("http://api.example/orders/17?a=b#/route?x", "1 allowed, 0 rejected"),
        ("WSS://api.example/orders/17", "1 allowed, 0 rejected"),
        ("https://api.example#part", "0 allowed, 1 rejected"),
        ("https://api.example/orders/1 7", "0 allowed, 1 rejected"),
        ("data:image/png;base64,AAAA", None),
        ("blob:https://api.example/orders/17", None),
        ("about:blank", None),
        ("chrome-extension://x/orders/17", None),
    ],
    ids=["fragment", "query", "wss", "no-path", "blank", "data", "blob", "about", "extension"],
)  # fmt: skip
def test_urls_of_browsers(folder: Path, tmp_path: Path, url: str, counted: str | None) -> None:
    """Fragments were not sent; what did not go over HTTP is passed over and counted, and what follows is decided."""
    har = json.loads(har_file([sent(), sent()]))
    har["log"]["entries"][0]["request"]["url"] = url
    (tmp_path / "a.har").write_text(json.dumps(har))
    result = check(folder, tmp_path / "a.har", "--fail-on", "none", "--report", f"json={tmp_path / 'r'}")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "r").read_text())["requests"]
    if counted is None:
        assert "1 records are no HTTP requests, and were passed over" in result.output
        assert [each["place"] for each in told] == [f"{tmp_path / 'a.har'}: entry 2"]
    else:
        assert "passed over" not in result.output
        assert [each["decision"] for each in told] == ["allowed" if counted[0] == "1" else "rejected", "allowed"]
        assert "#" not in told[0]["path"]


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("url", "//api.example/orders/17", "request.url is not as the format has it"),
        ("url", "https:/orders", "request.url is not as the format has it"),
        ("url", 7, "request.url is not as the format has it"),
        ("url", None, "request.url is missing, or a part of it"),
        ("method", 7, "request.method is not as the format has it"),
        ("headers", [{"name": "a"}], "request.headers is missing, or a part of it"),
        ("headers", 7, "request.headers is not as the format has it"),
        ("postData", {"text": "%", "encoding": "base64"}, "request.postData is not as the format has it"),
    ],
    ids=["no-scheme", "no-host", "number", "no-url", "method", "header", "headers", "base64"],
)  # fmt: skip
def test_odd_member_is_named(folder: Path, tmp_path: Path, member: str, value: object, told: str) -> None:
    """Of the entry where reading ends."""
    har = json.loads(har_file([sent(), sent()]))
    request = har["log"]["entries"][1]["request"]
    request[member] = value
    if value is None:
        del request[member]
    (tmp_path / "a.har").write_text(json.dumps(har))
    result = check(folder, tmp_path / "a.har")
    assert (result.exit_code, f"is no HAR at entry 2: {told}" in result.output) == (2, True), result.output
    assert "1 requests: 1 allowed" in result.output


def test_odd_time_is_named(folder: Path, tmp_path: Path) -> None:
    """Beside the members of the request."""
    (tmp_path / "a.har").write_bytes(har_file([sent()]).replace(b'"startedDateTime": "2', b'"startedDateTime": "x'))
    assert "entry 1: startedDateTime is not as" in check(folder, tmp_path / "a.har").output


@pytest.mark.parametrize("write", [flow_file, har_file])
def test_position_moves(tmp_path: Path, write: Callable[[Iterable[Sent]], bytes]) -> None:
    """With each request, from near the beginning to the end, for both kinds of files."""
    (tmp_path / "recording").write_bytes(write([sent()] * 50))
    recording = Recording(tmp_path / "recording")
    places = [recording.position for _ in recording]
    assert places == sorted(set(places))
    assert places[0] < recording.size / 10
    assert recording.size * 0.9 < places[-1] <= recording.size == recording.position


def test_body_that_was_not_recorded(folder: Path, tmp_path: Path) -> None:
    """It is never taken for an empty one."""
    har = json.loads(har_file([sent("/signed", token=detached(b""), body=b"body")]))
    del har["log"]["entries"][0]["request"]["postData"]
    (tmp_path / "a.har").write_text(json.dumps(har))
    result = check(folder, tmp_path / "a.har")
    assert "internal_error: the decision needs the body, which the recording does not hold" in result.output


def test_schema(folder: Path) -> None:
    """The JSON Schema knows what the reader knows."""
    schema = json.loads(CliRunner().invoke(main, ["schema", "expectations"]).output)
    validator = Draft202012Validator(schema)
    good = {"expectations": [{"name": "a", "request": {"path": "/a"}, "expect": "allowed", "times": 1}]}
    assert validator.is_valid(good)
    assert not validator.is_valid({"expectations": [{"name": "a", "request": {"pth": "/a"}, "expect": "allowed"}]})
