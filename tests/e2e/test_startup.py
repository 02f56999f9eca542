"""What cannot be right is refused before the gate listens: files with problems, and options that would open it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.answers import assert_rejected
from e2e.estate import KEYS, POLICY, RSA, Files, applications, credentials, write_files
from e2e.gates import Door, Finished
from e2e.http_client import exchange
from e2e.upstream import BODY, RecordingUpstream
from material import Application

pytestmark = pytest.mark.e2e

PROBLEM = re.compile(
    r"^(?P<file>/.+?)(?::(?P<line>\d+):(?P<column>\d+))?: (?P<path>\S.*?): (?P<message>.+) \((?P<remedy>.+)\)$",
    re.MULTILINE,
)
PORTAL = material.portal_yaml(applications()[:2])


@dataclass(frozen=True, slots=True)
class Found:
    """One problem as the gate printed it."""

    file: str
    line: int
    """0 where the file as a whole is meant, and no line is printed."""
    path: str
    message: str
    remedy: str


def problems(finished: Finished) -> list[Found]:
    """The problems printed, in their order."""
    return [
        Found(Path(m["file"]).name, int(m["line"] or 0), m["path"], m["message"], m["remedy"])
        for m in PROBLEM.finditer(finished.output)
    ]


def start(
    door: Door,
    home: Path,
    upstream: RecordingUpstream,
    files: Files,
    options: Sequence[str] = (),
    mode: str | None = None,
) -> Finished:
    """Start a gate that is to refuse."""
    return gates.run_to_end(
        lambda port: gates.command(
            door,
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=options,
            mode=mode and mode.format(port=port, upstream=upstream.port),
        ),
        env=gates.environment(home),
        directory=files.directory,
    )


def assert_refused(door: Door, finished: Finished, upstream: RecordingUpstream) -> None:
    """Exit code 1, nothing sent, no traceback for the user to read; and no listener at any moment.

    But mitmdump loads scripts and binds its port at about the same time, and looks for errors only then. What
    comes in at that moment is denied: see test_fail_open_traps.
    """
    assert finished.returncode == 1, finished.output
    if door == "jwsgate run":
        assert finished.bound == frozenset(), finished.output
    assert "Traceback" not in finished.output
    upstream.assert_untouched()


# Files. Both doors load them by the same code, so that one door takes all cases, and both a choice of them.


def line_of(text: str, mark: str) -> int:
    """The number of the first line that holds the mark."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if mark in line)


def entry(text: str) -> str:
    """Where the certificate of the application with that credential stands."""
    return rf"results\[{text}\]\.application_public_certificate_entry"


TWO_KEYS = PORTAL.replace("    name: rsa\n", "    name: rsa\n    name: rsa-again\n")
CONTENTS = material.portal_yaml(
    [
        Application("app-a", ("one",), "cert23456"),
        Application("app-b", ("two", "one"), material.private_pem(KEYS[RSA])),
        Application("app-c", ("three",), material.certificate(KEYS[RSA], "rsa") + material.private_pem(KEYS[RSA])),
        Application("app-d", ("four",), material.public_pem(KEYS[RSA])),
        Application("app-e", ("five",), material.certificate(material.private_key("rsa", "weak", 1024), "weak")),
        Application("app-f", ("six",), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        Application("app-g", ("seven",), fields={"redirect_endpoints": json.dumps(material.private_pem(KEYS[RSA]))}),
    ]
)
SHAPES = """\
results:
  - name: a
    state: perhaps
    credentials: none
  - just text
  - {name: b, credentials: [{name: c}, {client_id: ""}]}
"""
POLICY_SHAPES = """\
default: {}
routes:
  - {path: /a, metods: [GET]}
  - path: /b
    claims:
      leway: 5
  - {path: /c, algorithms: [HS256]}
  - {path: /d, algorithms: [none]}
  - {path: /e, algorithms: []}
  - {path: /f, claims: {leeway: soon}}
  - {path: /g, respond: claims, sign: {key: demo-client.key, issuer: a, audience: b}}
  - {path: /h, methods: [get]}
  - {name: nowhere}
"""
POLICY_CONTENTS = """\
routes:
  - {path: a/b}
  - {path: /a/../b}
  - {path: "/a/{x}"}
  - {path: "/a/{y}"}
  - {path: /b, sign: {key: no.key, issuer: a, audience: b}}
  - {path: /c, sign: {key: policy.yaml, issuer: a, audience: b}}
"""

# Text of the portal, text of the policy, and for each problem its file, line, path and what is said of it.
type Problems = list[tuple[str, int, str, str]]
BAD_FILES: list[object] = [
    pytest.param(
        "results: [\n",
        "routes:\n  - {path: /a\n",
        [("portal.yaml", 2, r"", r"YAML"), ("policy.yaml", 3, r"", r"YAML")],
        id="broken-yaml",
    ),
    pytest.param(
        "results:\n\t- a\n",
        "routes: []\n",
        [("portal.yaml", 2, r"", r"YAML"), ("policy.yaml", 1, r"routes", r"")],
        id="tab-and-no-routes",
    ),
    pytest.param("", "", [("portal.yaml", 1, r"", r""), ("policy.yaml", 1, r"", r"")], id="empty"),
    pytest.param(
        "results: 5\n",
        "routes: /a\n",
        [("portal.yaml", 1, r"results", r""), ("policy.yaml", 1, r"routes", r"")],
        id="wrong-type",
    ),
    pytest.param("products: []\n", POLICY, [("portal.yaml", 1, r"results", r"")], id="no-results"),
    pytest.param(
        TWO_KEYS,
        POLICY.replace("methods: [GET]", "methods: [GET]\n    methods: [POST]"),
        [
            ("portal.yaml", line_of(TWO_KEYS, "rsa-again"), r"results\[0\]\.name", r"repeated"),
            ("policy.yaml", line_of(POLICY, "methods: [GET]") + 1, r"routes\[1\]\.methods", r"repeated"),
        ],
        id="duplicate-keys",
    ),
    pytest.param(
        SHAPES,
        POLICY_SHAPES,
        [
            ("portal.yaml", 3, r"results\[0\]\.state", r"enabled"),
            ("portal.yaml", 4, r"results\[0\]\.credentials", r""),
            ("portal.yaml", 5, r"results\[1\]", r""),
            ("portal.yaml", 6, r"results\[2\]\.credentials\[0\]\.client_id", r""),
            ("portal.yaml", 6, r"results\[2\]\.credentials\[1\]\.client_id", r""),
            ("policy.yaml", 1, r"default", r"defaults"),
            ("policy.yaml", 3, r"routes\[0\]\.metods", r"methods"),
            ("policy.yaml", 6, r"routes\[1\]\.claims\.leway", r"leeway"),
            ("policy.yaml", 7, r"routes\[2\]\.algorithms\[0\]", r""),
            ("policy.yaml", 8, r"routes\[3\]\.algorithms\[0\]", r""),
            ("policy.yaml", 9, r"routes\[4\]\.algorithms", r""),
            ("policy.yaml", 10, r"routes\[5\]\.claims\.leeway", r""),
            ("policy.yaml", 11, r"routes\[6\]", r"respond|sign"),
            ("policy.yaml", 12, r"routes\[7\]\.methods", r""),
            ("policy.yaml", 13, r"routes\[8\]", r"path"),
        ],
        id="shapes",
    ),
    pytest.param(
        CONTENTS,
        POLICY_CONTENTS,
        [
            ("portal.yaml", 9, entry("0"), r""),
            ("portal.yaml", line_of(CONTENTS, "id: app-b-1"), r"results\[1\]\.cred.*client_id", r"results\[0\]"),
            ("portal.yaml", line_of(CONTENTS, "name: app-b") + 3, entry("1"), r"private key"),
            ("portal.yaml", line_of(CONTENTS, "name: app-c") + 3, entry("2"), r"private key"),
            ("portal.yaml", line_of(CONTENTS, "name: app-d") + 3, entry("3"), r""),
            ("portal.yaml", line_of(CONTENTS, "name: app-e") + 3, entry("4"), r"1024|2048"),
            ("portal.yaml", line_of(CONTENTS, "name: app-f") + 3, entry("5"), r""),
            ("portal.yaml", line_of(CONTENTS, "name: app-g") + 3, r"results\[6\]\.redirect_endpoints", r"private key"),
            ("policy.yaml", 2, r"routes\[0\]\.path", r"slash"),
            ("policy.yaml", 3, r"routes\[1\]\.path", r"dot"),
            ("policy.yaml", 5, r"routes\[3\]\.path", r"/a/\{x\}|routes\[2\]"),
            ("policy.yaml", 6, r"routes\[4\]\.sign\.key", r"no\.key"),
            ("policy.yaml", 7, r"routes\[5\]\.sign\.key", r""),
        ],
        id="contents",
    ),
    pytest.param(
        PORTAL,
        "routes:\n  - path: /a\n    claims: {issuer: {env: NOT_SET_ANYWHERE}}\n",
        [("policy.yaml", 3, r"routes\[0\]\.claims\.issuer", r"'NOT_SET_ANYWHERE', which is not set set it, or write")],
        id="variable-not-set",
    ),
    pytest.param(
        "results: &a [*a]\n",
        "routes: !!python/object/apply:os.system [id]\n",
        [("portal.yaml", 1, r"results", r"anchor|alias"), ("policy.yaml", 1, r"routes", r"tag")],
        id="alias-and-tag",
    ),
    pytest.param(
        "results: " + "[" * 100_000,
        "routes: " + "[" * 100_000,
        [("portal.yaml", 1, r"", r"nested|YAML"), ("policy.yaml", 1, r"", r"nested|YAML")],
        id="deep",
    ),
]


@pytest.mark.parametrize(("portal", "policy", "expected"), BAD_FILES)
def test_bad_files(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, portal: str, policy: str, expected: Problems
) -> None:
    """Each problem of both files is named at once, with its place and what to do, and the gate does not start."""
    finished = start("jwsgate run", home, upstream, write_files(tmp_path, portal, policy))
    assert_refused("jwsgate run", finished, upstream)
    found = problems(finished)
    for file, line, path, text in expected:
        assert any(
            (each.file, each.line) == (file, line)
            and re.search(path, each.path)
            and re.search(text, f"{each.path} {each.message} {each.remedy}")
            for each in found
        ), f"no problem at {file}:{line}: {path}: {text}\n{finished.output}"
    assert len(found) == len(set(found))


def test_private_key_is_not_printed(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """A private key that somebody pasted into the portal does not show in the log too."""
    pem = material.private_pem(KEYS[RSA])
    portal = material.portal_yaml([Application("a", ("one",), pem)])
    finished = start("jwsgate run", home, upstream, write_files(tmp_path, portal))
    assert_refused("jwsgate run", finished, upstream)
    assert not [line for line in pem.splitlines()[1:-1] if line in finished.output]


def no_file(path: Path) -> None:
    """Take the file away."""
    path.unlink()


def folder(path: Path) -> None:
    """A folder in place of the file: unreadable for everybody, root too."""
    path.unlink()
    path.mkdir()


def not_text(path: Path) -> None:
    """Octets that are no UTF-8."""
    path.write_bytes(b"results: [\xff\xfe]\n")


def nul(path: Path) -> None:
    """A character that YAML does not allow."""
    path.write_bytes(b"results: [a\x00b]\n")


@pytest.mark.parametrize("spoil", [no_file, folder, not_text, nul])
def test_unreadable_files(
    home: Path, upstream: RecordingUpstream, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Files that cannot be read at all are named, both of them, and the gate does not start."""
    files = write_files(tmp_path)
    spoil(files.portal)
    spoil(files.policy)
    finished = start("jwsgate run", home, upstream, files)
    assert_refused("jwsgate run", finished, upstream)
    assert [each.file for each in problems(finished)] == ["policy.yaml", "portal.yaml"]


def test_both_doors_refuse_bad_files(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Either door prints all problems of both files in one go and does not start."""
    finished = start(door, home, upstream, write_files(tmp_path, SHAPES, POLICY_CONTENTS))
    assert_refused(door, finished, upstream)
    assert {each.file for each in problems(finished)} == {"portal.yaml", "policy.yaml"}
    assert len(problems(finished)) >= 8


def test_nothing_of_the_shell_gets_into_the_output(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Text of a broken file is printed so that it can neither steer a terminal nor forge a line."""
    policy = 'routes:\n  - {path: /a, "\\e[2Jx\\nfake.yaml:1:1: y": 1}\n'
    finished = start("jwsgate run", home, upstream, write_files(tmp_path, policy=policy))
    assert_refused("jwsgate run", finished, upstream)
    assert "\x1b[2J" not in finished.output
    assert not re.search(r"^fake\.yaml", finished.output, re.MULTILINE)


def test_two_good_files_do_start(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The files that the bad ones are made from are good: the refusals above mean something."""
    files = write_files(tmp_path, PORTAL)
    with gates.running(
        lambda port: gates.command(door, upstream=upstream.url, port=port, portal=files.portal, policy=files.policy),
        env=gates.environment(home),
        directory=tmp_path,
        name=door,
    ) as gate:
        assert exchange(gate.port, "GET", "/", credentials()).body == BODY
    assert gate.process.returncode == 0
    assert "Traceback" not in gate.log()


# Options


UNSAFE_OPTIONS = [
    "stream_large_bodies=1",
    "ignore_hosts=.",
    "allow_hosts=x",
    "tcp_hosts=.",
    "udp_hosts=.",
    "validate_inbound_headers=false",
    "map_remote=|.|http://127.0.0.1:9/",
]


@pytest.mark.parametrize("option", UNSAFE_OPTIONS)
def test_unsafe_option(door: Door, home: Path, upstream: RecordingUpstream, files: Files, option: str) -> None:
    """An option under which requests would pass unseen is refused by name."""
    finished = start(door, home, upstream, files, [option])
    assert_refused(door, finished, upstream)
    assert option.partition("=")[0] in finished.output


def test_server_replay(door: Door, home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Recorded answers would stand in for the gate's: refused."""
    recorded = tmp_path / "flows"
    recorded.touch()
    finished = start(door, home, upstream, write_files(tmp_path), [f"server_replay={recorded}"])
    assert_refused(door, finished, upstream)
    assert "server_replay" in finished.output


@pytest.mark.parametrize(
    "mode",
    [
        "reverse:tcp://127.0.0.1:{upstream}@127.0.0.1:{port}",
        "reverse:tls://127.0.0.1:{upstream}@127.0.0.1:{port}",
        "reverse:dns://127.0.0.1:{upstream}@127.0.0.1:{port}",
        "socks5@127.0.0.1:{port}",
        "transparent@127.0.0.1:{port}",
        "dns@127.0.0.1:{port}",
    ],
)
def test_unsafe_mode(home: Path, upstream: RecordingUpstream, files: Files, mode: str) -> None:
    """A mode in which connections pass that are not HTTP is refused."""
    finished = start("mitmdump -s", home, upstream, files, mode=mode)
    if finished.returncode == -signal.SIGSEGV:
        # mitmproxy opens its DNS server before it asks anybody; ended at once, that crashes now and then.
        finished = replace(finished, returncode=1)
    assert_refused("mitmdump -s", finished, upstream)
    assert mode.partition(":")[0].partition("@")[0] in finished.output


@pytest.mark.parametrize("option", ["no_such_option=1", "jwsgate_polcy=x", "stream_large_body=1"])
def test_unknown_option(home: Path, upstream: RecordingUpstream, files: Files, option: str) -> None:
    """`jwsgate run` refuses an option that nobody knows, where mitmdump would keep silent."""
    finished = start("jwsgate run", home, upstream, files, [option])
    assert_refused("jwsgate run", finished, upstream)
    assert f"--set {option.partition('=')[0]}: mitmproxy has no such option" in finished.output


def test_unknown_option_that_is_nearly_one(home: Path, upstream: RecordingUpstream, files: Files) -> None:
    """What may have been meant is named, also where the sidecar has it only on demand."""
    finished = start("jwsgate run", home, upstream, files, ["modify_header=/~s/X-A/b"])
    assert_refused("jwsgate run", finished, upstream)
    assert "--set modify_header: mitmproxy has no such option; did you mean modify_headers?" in finished.output


REFUSED_BY_THE_SIDECAR = {
    "map_remote=|.|http://127.0.0.1:9/": "it changes where a request goes",
    "server_replay_nopop=true": "it replaces the gate's answers",
    "client_replay=x": "it sends requests of no client",
    "stickycookie=~all": "it sends what one client was given with the requests of another",
    "stickyauth=~all": "it sends what one client was given with the requests of another",
    "block_list=:~all:444": "leave the path out of the policy's routes",
    "map_local=|.|/etc/hostname": "let the upstream answer",
    "flow_detail=2": "--ui web shows them",
    "dns_use_hosts_file=false": "it is for DNS",
}


@pytest.mark.parametrize(("option", "said"), REFUSED_BY_THE_SIDECAR.items())
def test_option_that_a_sidecar_cannot_have(
    home: Path, upstream: RecordingUpstream, files: Files, option: str, said: str
) -> None:
    """It is refused by its name, with the reason."""
    finished = start("jwsgate run", home, upstream, files, [option])
    assert_refused("jwsgate run", finished, upstream)
    assert f"--set {option.partition('=')[0]}: " in finished.stderr
    assert said in finished.stderr


SCRIPT = """
import asyncio

async def requestheaders(flow):
    await asyncio.sleep(0)
    flow.response = None

def request(flow):
    flow.response = None
    flow.request.stream = True

def response(flow):
    flow.response.headers["X-Script"] = "mine"
"""


def test_options_of_addons_that_a_sidecar_leaves_out(
    home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path
) -> None:
    """They take effect when they are set, all of them together, and nothing unverified passes."""
    script, flows = tmp_path / "script.py", tmp_path / "flows"
    script.write_text(SCRIPT)
    options = [
        "anticache=true",
        "block_private=false",
        "keep_alt_svc_header=true",
        "modify_headers=/~s/X-Modified/yes",
        "modify_body=/~s/^./!",
        f"save_stream_file={flows}",
        f"scripts={script}",
        "upstream_auth=user:secret",
    ]
    with gates.running(
        lambda port: gates.command(
            "jwsgate run",
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=options,
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run",
    ) as gate:
        upstream.clear()
        for headers in ([], credentials(RSA, "x.y.z"), credentials(RSA, material.jws(material.private_key("p256")))):
            for body in (b"", b"small", b"x" * 200_000):
                assert exchange(gate.port, "POST", "/", headers, body).status in (401, 500)
        upstream.assert_untouched()
        good = [*credentials(), ("If-None-Match", "x")]
        response = exchange(gate.port, "POST", "/", good, b"body")
        assert response.status == 200
        assert response.body == b"!" + BODY[1:]
        assert (response.value("X-Modified"), response.value("X-Script")) == ("yes", "mine")
        request = upstream.only_request()
        assert request.values("If-None-Match") == []
        assert request.values("Authorization") == [b"Basic dXNlcjpzZWNyZXQ="]
    assert "Traceback" not in gate.log()
    assert flows.stat().st_size > 0


def test_proxyauth(home: Path, upstream: RecordingUpstream, files: Files, tmp_path: Path) -> None:
    """A user and password are asked for besides the JWS, not in place of it."""
    with gates.running(
        lambda port: gates.command(
            "jwsgate run",
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=["proxyauth=user:secret"],
        ),
        env=gates.environment(home),
        directory=tmp_path,
        name="jwsgate run",
    ) as gate:
        upstream.clear()
        login = ("Authorization", "Basic dXNlcjpzZWNyZXQ=")
        assert exchange(gate.port, "GET", "/", credentials()).status == 401
        assert_rejected(exchange(gate.port, "GET", "/", [login]), "client_id_missing")
        upstream.assert_untouched()
        assert exchange(gate.port, "GET", "/", [*credentials(), login]).status == 200


@pytest.mark.parametrize("option", ["body_size_limit=plenty", "listen_port=x"])
def test_wrong_option_value(door: Door, home: Path, upstream: RecordingUpstream, files: Files, option: str) -> None:
    """An option with a value of the wrong type is refused."""
    finished = start(door, home, upstream, files, [option])
    assert_refused(door, finished, upstream)


REFUSED_VALUES = [
    ("jwsgate_max_header_octets=-1", "jwsgate_max_header_octets=-1 lets no request in; give 256 or more"),
    ("jwsgate_max_header_octets=0", "jwsgate_max_header_octets=0 lets no request in"),
    ("jwsgate_header_seconds=0", "jwsgate_header_seconds=0 lets no request in; give 1 or more"),
    ("jwsgate_body_seconds=-5", "jwsgate_body_seconds=-5 lets no request in; give 1 or more"),
]


@pytest.mark.parametrize(("option", "said"), REFUSED_VALUES)
def test_limit_that_lets_nothing_in(
    door: Door, home: Path, upstream: RecordingUpstream, files: Files, option: str, said: str
) -> None:
    """A gate that could answer no request does not start."""
    finished = start(door, home, upstream, files, [option])
    assert_refused(door, finished, upstream)
    assert said in finished.output


@pytest.mark.parametrize(
    ("url", "option", "said"),
    [
        ("http", "server=false", "--set server=false: a gate has to listen"),
        ("https", "ssl_verify_upstream_trusted_ca=/nonexistent", "--set ssl_verify_upstream_trusted_ca /nonexistent: "),
        ("http", "ssl_verify_upstream_trusted_ca=/etc/hostname", "verifies nothing for an upstream without TLS"),
        ("https", "ssl_verify_upstream_trusted_confdir=/nonexistent", "/nonexistent: there is no such folder"),
    ],
)
def test_what_would_only_show_later(
    home: Path, upstream: RecordingUpstream, files: Files, url: str, option: str, said: str
) -> None:
    """What mitmproxy itself would find out with the first request, or pass over, is refused at start."""
    finished = gates.run_to_end(
        lambda port: gates.command(
            "jwsgate run",
            upstream=f"{url}://127.0.0.1:{upstream.port}",
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=[option],
        ),
        env=gates.environment(home),
        directory=files.directory,
    )
    assert_refused("jwsgate run", finished, upstream)
    assert said in finished.output


def test_problems_are_told_under_one_name(home: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """The list of what is wrong with the files begins with the program's name, once."""
    finished = start("jwsgate run", home, upstream, write_files(tmp_path, policy="routes: []\n"))
    assert finished.stderr.startswith("jwsgate: 1 problem:\n")


@pytest.mark.parametrize("missing", ["--portal", "--policy", "--upstream"])
def test_missing_argument(home: Path, upstream: RecordingUpstream, files: Files, missing: str) -> None:
    """`jwsgate run` does not start without what it needs, and says what that is."""

    def argv(port: int) -> list[str]:
        whole = gates.command("jwsgate run", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy)
        at = whole.index(missing)
        return whole[:at] + whole[at + 2 :]

    finished = gates.run_to_end(argv, env=gates.environment(home), directory=files.directory)
    assert finished.returncode in (1, 2)
    assert finished.bound == frozenset()
    assert missing in finished.output
    assert "Traceback" not in finished.output


def test_script_without_its_options(home: Path, upstream: RecordingUpstream, files: Files) -> None:
    """`mitmdump -s` without portal and policy does not start as a plain open proxy."""
    finished = gates.run_to_end(
        lambda port: gates.command(
            "mitmdump -s", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy
        )[:5],
        env=gates.environment(home),
        directory=files.directory,
    )
    assert_refused("mitmdump -s", finished, upstream)
    assert "jwsgate_portal" in finished.output


def test_misspelt_option_of_the_script(home: Path, upstream: RecordingUpstream, files: Files) -> None:
    """`mitmdump -s` with a misspelt jwsgate option does not start either, though mitmproxy says nothing of it."""
    finished = gates.run_to_end(
        lambda port: [
            word.replace("jwsgate_policy=", "jwsgate_polcy=")
            for word in gates.command(
                "mitmdump -s", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy
            )
        ],
        env=gates.environment(home),
        directory=files.directory,
    )
    assert_refused("mitmdump -s", finished, upstream)
    assert "jwsgate_policy" in finished.output


def test_busy_port(door: Door, home: Path, upstream: RecordingUpstream, files: Files) -> None:
    """On a port that is taken the gate does not start, and says why."""
    finished = gates.run_to_end(
        lambda _: gates.command(
            door, upstream=upstream.url, port=upstream.port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=files.directory,
    )
    assert finished.returncode == 1
    assert "in use" in finished.output
    assert "Traceback" not in finished.output


# Either overruled or harmless. `jwsgate run` refuses the first two: one opens connections, one it does not know.
HARMLESS_OPTIONS = [
    "connection_strategy=eager",
    "anticomp=true",
    "keep_host_header=true",
    "http2=false",
    "body_size_limit=1m",
    "store_streamed_bodies=true",
]


def test_permitted_options_open_nothing(door: Door, home: Path, upstream: RecordingUpstream, files: Files) -> None:
    """Options that are not refused leave the gate closed, all of them together."""
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=HARMLESS_OPTIONS[2:] if door == "jwsgate run" else HARMLESS_OPTIONS,
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        for tls in (False, True):
            for headers in ([], credentials(RSA, "x.y.z"), [("Host", "mitm.it")]):
                response = exchange(gate.port, "POST", "/", headers, b"body", tls=tls)
                assert_rejected(response, "client_id_missing", "jws_malformed")
        upstream.assert_untouched()
        assert exchange(gate.port, "POST", "/", credentials(), b"body").body == BODY
        assert upstream.only_request().body == b"body"


def test_policy_of_the_bench_is_the_shared_one() -> None:
    """The policy that the other tests rely on names each kind of route once."""
    assert [POLICY.count(word) for word in ("sign:", "respond:", "/**")] == [1, 1, 2]
