"""The command line: what it takes, what it refuses with which exit code, and what it hands on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import material
from docs_material import unknown_options
from jwsgate import __version__, cli, demo
from jwsgate.adapters import launcher
from jwsgate.adapters.launcher import RunSettings
from jwsgate.files.portal_shapes import PortalShape
from jwsgate.files.schemas import policy_schema, schema_of
from unit_material import ROOT, good_files

MINIMAL = ["--upstream", "http://127.0.0.1:9000", "--portal", "portal.yaml", "--policy", "policy.yaml"]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> list[RunSettings]:
    """The settings that `run` was called with; nothing is started, and nobody's environment plays a part."""
    seen: list[RunSettings] = []

    def take(settings: RunSettings) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(launcher, "run", take)
    for name in [name for name in os.environ if name.startswith("JWSGATE_")]:
        monkeypatch.delenv(name)
    return seen


def invoke(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    """One call of the command line; an exception that it does not turn into an exit code is a failure."""
    result = CliRunner().invoke(cli.main, list(arguments), env=env, prog_name="jwsgate")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    """`jwsgate run` with what it needs and more."""
    return invoke("run", *MINIMAL, *arguments, env=env)


# Help


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help(arguments: list[str]) -> None:
    """What the command is, and its subcommands, each with a line."""
    result = invoke(*arguments)
    assert result.exit_code == 0
    for name in cli.main.commands:
        assert re.search(rf"^  {name} +\S", result.output, re.MULTILINE)


def commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands beneath a group, groups too, with their names."""
    for name, command in group.commands.items():
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


COMMANDS = list(commands(cli.main))


@pytest.mark.parametrize(("names", "command"), COMMANDS, ids=[" ".join(names) for names, _ in COMMANDS])
def test_help_of_commands(names: tuple[str, ...], command: click.Command) -> None:
    """All that a newcomer asks: what it is for, every option with a text, examples that fit, and exit codes."""
    result = invoke(*names, "--help")
    assert (result.exit_code, result.output) == (0, invoke(*names, "-h").output)
    assert command.help
    assert command.get_short_help_str(60)[-3:] != "...", "the first line is too long for a list of commands"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.help.endswith(".")
            assert parameter.opts[0] in result.output
    if not isinstance(command, click.Group):
        assert "Exit codes:" in result.output
    assert unknown_options(result.output) == []


def test_no_command() -> None:
    """Without a command the help is shown, as an error."""
    result = invoke()
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_version() -> None:
    """The version of the package."""
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"jwsgate, version {__version__}\n")


@pytest.mark.parametrize(
    "parameter",
    [parameter for parameter in cli.run_command.params if isinstance(parameter, click.Option)],
    ids=lambda parameter: parameter.opts[0].lstrip("-"),
)
def test_every_option_is_an_environment_variable(parameter: click.Option) -> None:
    """`--some-name` is JWSGATE_SOME_NAME, and the help says so."""
    expected = "JWSGATE_" + parameter.opts[0].removeprefix("--").replace("-", "_").upper()
    assert expected == parameter.envvar
    assert parameter.show_envvar


def test_environment_variables_mean_the_same_everywhere() -> None:
    """One that is set for one command must be no error to another."""
    meant: dict[object, set[object]] = {}
    for _, command in COMMANDS:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.envvar:
                choices = tuple(parameter.type.choices) if isinstance(parameter.type, click.Choice) else ()
                meant.setdefault(parameter.envvar, set()).add((choices, parameter.multiple))
    assert len(meant) > 20
    assert {name: kinds for name, kinds in meant.items() if len(kinds) > 1} == {}


# Options


def test_minimal(settings: list[RunSettings]) -> None:
    """Three options are enough; the gate listens on loopback."""
    assert run().exit_code == 0
    expected = RunSettings(
        upstream="http://127.0.0.1:9000",
        listen_host="127.0.0.1",
        listen_port=8443,
        portal="portal.yaml",
        policies=("policy.yaml",),
    )
    assert [expected] == settings


def test_all_options(settings: list[RunSettings]) -> None:
    """Every option arrives."""
    result = run(
        *("--listen", "[::1]:0", "--policy", "second.yaml", "--tls-cert", "gate.pem", "--ui", "web"),
        *("--replay-store", "redis://cache/1", "--no-watch", "--set", "a=b", "--set", "c=d=e f"),
        *("--workers", "1", "--drain-seconds", "5"),
    )
    assert result.exit_code == 0
    expected = RunSettings(
        upstream="http://127.0.0.1:9000",
        listen_host="::1",
        listen_port=0,
        portal="portal.yaml",
        policies=("policy.yaml", "second.yaml"),
        tls_certificate="gate.pem",
        ui="web",
        replay_store="redis://cache/1",
        watch=False,
        drain_seconds=5,
        mitmproxy_options=("a=b", "c=d=e f"),
    )
    assert [expected] == settings


ENVIRONMENT = {
    "JWSGATE_UPSTREAM": "https://api.example",
    "JWSGATE_LISTEN": "0.0.0.0:80",
    "JWSGATE_PORTAL": "p.yaml",
    "JWSGATE_POLICY": "q.yaml",
    "JWSGATE_TLS_CERT": "t.pem",
    "JWSGATE_UI": "console",
    "JWSGATE_REPLAY_STORE": "redis://cache",
    "JWSGATE_WORKERS": "1",
    "JWSGATE_DRAIN_SECONDS": "0",
    "JWSGATE_SET": "a=b",
}


def test_environment(settings: list[RunSettings]) -> None:
    """Everything from the environment, nothing on the command line."""
    assert invoke("run", env=ENVIRONMENT).exit_code == 0
    expected = RunSettings(
        upstream="https://api.example",
        listen_host="0.0.0.0",
        listen_port=80,
        portal="p.yaml",
        policies=("q.yaml",),
        tls_certificate="t.pem",
        ui="console",
        replay_store="redis://cache",
        drain_seconds=0,
        mitmproxy_options=("a=b",),
    )
    assert [expected] == settings


def test_command_line_before_environment(settings: list[RunSettings]) -> None:
    """What is said last counts, and the command line is said last."""
    assert run("--listen", "127.0.0.1:1", "--ui", "none", env=ENVIRONMENT).exit_code == 0
    (seen,) = settings
    expected = ("http://127.0.0.1:9000", "127.0.0.1", "portal.yaml", ("policy.yaml",), "none")
    assert expected == (seen.upstream, seen.listen_host, seen.portal, tuple(seen.policies), seen.ui)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("JWSGATE_PORTAL", "/my files/portal.yaml", id="portal"),
        pytest.param("JWSGATE_POLICY", "/my files/policy.yaml", id="policy"),
        pytest.param("JWSGATE_SET", "certs=*=/my files/gate.pem", id="set"),
    ],
)
def test_spaces_in_the_environment(settings: list[RunSettings], name: str, value: str) -> None:
    """A path with a space is one path."""
    assert invoke("run", env=ENVIRONMENT | {name: value}).exit_code == 0
    (seen,) = settings
    assert value in {seen.portal, *seen.policies, *seen.mitmproxy_options}


def test_several_policies_in_the_environment(settings: list[RunSettings]) -> None:
    """Several policies fit into the one variable, joined as PATH is or by white space."""
    seen = []
    for separator in (os.pathsep, " ", "\n"):
        settings.clear()
        invoke("run", env=ENVIRONMENT | {"JWSGATE_POLICY": f"a.yaml{separator}b.yaml"})
        seen += [tuple(each.policies) for each in settings]
    assert ("a.yaml", "b.yaml") in seen


@pytest.mark.parametrize("name", ["JWSGATE_UPSTREAM", "JWSGATE_LISTEN", "JWSGATE_UI"])
def test_bad_values_from_the_environment(name: str, settings: list[RunSettings]) -> None:
    """They are checked as those of the command line are, and the variable is named."""
    result = invoke("run", env=ENVIRONMENT | {name: "nonsense"})
    assert result.exit_code == 2
    assert name in result.output or f"--{name.removeprefix('JWSGATE_').lower()}" in result.output
    assert settings == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("127.0.0.1:8443", ("127.0.0.1", 8443), id="ipv4"),
        pytest.param("[::1]:8443", ("::1", 8443), id="ipv6"),
        pytest.param("localhost:0", ("localhost", 0), id="name-and-any-port"),
        pytest.param("0.0.0.0:65535", ("0.0.0.0", 65535), id="highest-port"),
    ],
)
def test_listen(settings: list[RunSettings], value: str, expected: tuple[str, int]) -> None:
    """Host and port."""
    assert run("--listen", value).exit_code == 0
    assert [expected] == [(seen.listen_host, seen.listen_port) for seen in settings]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("8443", id="port-only"),
        pytest.param("localhost", id="host-only"),
        pytest.param("127.0.0.1:", id="no-port"),
        pytest.param("127.0.0.1:https", id="service-name"),
        pytest.param("127.0.0.1:65536", id="port-too-high"),
        pytest.param("127.0.0.1:-1", id="negative-port"),
        pytest.param("127.0.0.1:+1", id="signed-port"),
        pytest.param("127.0.0.1: 80", id="space"),
        pytest.param("127.0.0.1:8_0", id="underscore"),
        pytest.param("127.0.0.1:٨٠", id="arabic-digits"),
        pytest.param("127.0.0.1:" + "9" * 5000, id="port-of-5000-digits"),
        pytest.param("http://127.0.0.1:8443/", id="url"),
        pytest.param("::1", id="ipv6-without-port"),
    ],
)
def test_bad_listen(settings: list[RunSettings], value: str) -> None:
    """Everything else is told, with an example."""
    result = run("--listen", value)
    assert result.exit_code == 2
    assert "HOST:PORT" in result.output
    assert settings == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("http://127.0.0.1:9000", "http://127.0.0.1:9000", id="http"),
        pytest.param("https://api.example", "https://api.example", id="https-without-port"),
        pytest.param("https://api.example/", "https://api.example", id="trailing-slash"),
        pytest.param("http://[::1]:80", "http://[::1]:80", id="ipv6"),
        pytest.param("http://localhost:65535", "http://localhost:65535", id="highest-port"),
    ],
)
def test_upstream(settings: list[RunSettings], value: str, expected: str) -> None:
    """Scheme, host, perhaps a port."""
    assert run("--upstream", value).exit_code == 0
    assert [expected] == [seen.upstream for seen in settings]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("127.0.0.1:9000", id="no-scheme"),
        pytest.param("localhost", id="host-only"),
        pytest.param("localhost:9000", id="host-and-port"),
        pytest.param("ftp://a", id="other-scheme"),
        pytest.param("tcp://a:80", id="tcp"),
        pytest.param("http://", id="no-host"),
        pytest.param("http://:80", id="port-only"),
        pytest.param("http:///path", id="path-only"),
        pytest.param("http:/a", id="one-slash"),
        pytest.param("http://a/path", id="path"),
        pytest.param("http://a//", id="two-slashes"),
        pytest.param("http://a?b", id="query"),
        pytest.param("http://a#b", id="fragment"),
        pytest.param("http://a?", id="empty-query"),
        pytest.param("http://a#", id="empty-fragment"),
        pytest.param("http://user@a", id="user"),
        pytest.param("http://user:secret@a", id="user-and-password"),
        pytest.param("http://:secret@a", id="password-only"),
        pytest.param("http://@a", id="empty-user"),
        pytest.param("http://a:0", id="port-zero"),
        pytest.param("http://a:65536", id="port-too-high"),
        pytest.param("http://a:x", id="port-of-letters"),
        pytest.param("http://a:-1", id="negative-port"),
        pytest.param("http://a b", id="space"),
        pytest.param("http://[::1", id="half-an-ipv6-address"),
        pytest.param("http://a@127.0.0.1:8443@b", id="two-at-signs"),
    ],
)
def test_bad_upstream(settings: list[RunSettings], value: str) -> None:
    """Everything else is told, with an example."""
    result = run("--upstream", value)
    assert result.exit_code == 2
    assert "http://HOST[:PORT]" in result.output
    assert settings == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["--no-such-option"], "No such option", id="unknown-option"),
        pytest.param(["--upstrem", "http://a"], "upstream", id="misspelled-option"),
        pytest.param(["--ui", "gtk"], "'gtk'", id="unknown-choice"),
        pytest.param(["--upstream"], "requires an argument", id="no-value"),
        pytest.param(["no-such-program"], "no command 'no-such-program'", id="extra-argument"),
    ],
)
def test_usage_errors(settings: list[RunSettings], arguments: Sequence[str], text: str) -> None:
    """Exit code 2, and what is wrong."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert settings == []


def test_unknown_command() -> None:
    """Exit code 2."""
    result = invoke("serv")
    assert result.exit_code == 2
    assert "No such command 'serv'" in result.output


@pytest.mark.parametrize("missing", ["--upstream", "--portal", "--policy"])
def test_missing_options(settings: list[RunSettings], missing: str) -> None:
    """The option is named, and the demo is, for those who wanted to look around."""
    at = MINIMAL.index(missing)
    result = invoke("run", *MINIMAL[:at], *MINIMAL[at + 2 :])
    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in result.output
    assert "./run_proxy.sh" in result.output
    assert settings == []


@pytest.mark.parametrize("name", ["--portal", "--policy"])
def test_empty_options(settings: list[RunSettings], name: str) -> None:
    """An empty value, as an unset variable of a shell script leaves it, is as good as none."""
    at = MINIMAL.index(name)
    result = invoke("run", *MINIMAL[:at], name, "", *MINIMAL[at + 2 :])
    assert result.exit_code == 2
    assert name in result.output
    assert settings == []


@pytest.mark.parametrize("code", [0, 1])
def test_exit_code_of_the_gate(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """What the gate returns is the exit code."""
    monkeypatch.setattr(launcher, "run", lambda settings: code)
    assert code == run().exit_code


@pytest.mark.parametrize("value", ["-1", "86401", "soon", "nan", "inf", "1.5"])
def test_bad_drain_seconds(settings: list[RunSettings], value: str) -> None:
    """Whole seconds, a day at most."""
    assert run("--drain-seconds", value).exit_code == 2
    assert settings == []


def test_workers(monkeypatch: pytest.MonkeyPatch, settings: list[RunSettings]) -> None:
    """Several are a supervisor's, whose workers are this command line again; what it returns is the exit code."""
    asked: list[tuple[object, ...]] = []

    def supervise(*arguments: object, stdout_is_taken: bool) -> int:
        asked.append((*arguments, stdout_is_taken))
        return 3

    monkeypatch.setattr("jwsgate.cli.run.supervise", supervise)
    result = run("--workers", "4", "--listen", "[::1]:1", "--admin", "127.0.0.1:2", "--drain-seconds", "7")
    assert result.exit_code == 3
    assert asked == [([sys.executable, *sys.orig_argv[1:]], 4, ("::1", 1), ("127.0.0.1", 2), 7, False)]
    assert settings == []
    monkeypatch.setenv("JWSGATE_WORKER", "{}")
    assert run("--workers", "4").exit_code == 0
    assert len(settings) == 1


# The demo


def test_demo(monkeypatch: pytest.MonkeyPatch, settings: list[RunSettings]) -> None:
    """`--demo` completes what was said."""
    asked: list[RunSettings] = []
    ready = RunSettings("http://127.0.0.1:1", "127.0.0.1", 8443, "p", ("q",))

    def complete(said: RunSettings) -> RunSettings:
        asked.append(said)
        return ready

    monkeypatch.setattr(demo, "demo_settings", complete)
    assert invoke("run", "--demo", "--ui", "web", "--listen", "127.0.0.1:5").exit_code == 0
    assert [ready] == settings
    assert [(said.upstream, said.ui, said.listen_port) for said in asked] == [("", "web", 5)]


def test_demo_that_cannot_start(monkeypatch: pytest.MonkeyPatch, settings: list[RunSettings]) -> None:
    """A folder that cannot be written is told in one line."""

    def refuse(_settings: RunSettings) -> RunSettings:
        raise PermissionError(13, "Permission denied", "/certs/demo-client.key")

    monkeypatch.setattr(demo, "demo_settings", refuse)
    result = invoke("run", "--demo")
    assert result.exit_code == 1
    assert result.output.startswith("Error: the demo cannot start: ")
    assert len(result.output.splitlines()) == 1
    assert settings == []


# Schemas


@pytest.mark.parametrize(
    ("kind", "schema"), [("portal", schema_of(PortalShape)), ("policy", policy_schema())], ids=["portal", "policy"]
)
def test_schema(kind: str, schema: object) -> None:
    """The schema as JSON, indented, with a final newline."""
    result = invoke("schema", kind)
    assert result.exit_code == 0
    assert schema == json.loads(result.output)
    assert result.output.startswith('{\n  "$schema": ')
    assert result.output.endswith("\n}\n")


@pytest.mark.parametrize("arguments", [[], ["routes"], ["portal", "policy"]])
def test_schema_usage(arguments: list[str]) -> None:
    """One of the two."""
    assert invoke("schema", *arguments).exit_code == 2


# Real processes


def process(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """`python -m jwsgate` as a process of its own, which has to end by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JWSGATE_")}
    return subprocess.run(
        [sys.executable, "-m", "jwsgate", *arguments],
        cwd=cwd,
        env=clean | {"HOME": str(cwd)} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with good files."""
    good_files(tmp_path)
    return tmp_path


def test_module_and_script_are_the_same() -> None:
    """`python -m jwsgate` and `jwsgate` say the same."""
    script = Path(sys.executable).with_name("jwsgate")
    outputs = [
        re.sub(r"\S*jwsgate(?=,)|Usage: .*? \[", "", text)
        for text in (
            process("--help").stdout,
            subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout,
        )
    ]
    assert outputs[0].splitlines()[1:] == outputs[1].splitlines()[1:]
    assert "Commands:" in outputs[0]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--version"], 0, id="version"),
        pytest.param(["run", "--help"], 0, id="help"),
        pytest.param(["schema", "policy"], 0, id="schema"),
        pytest.param(["run", "--no-such-option"], 2, id="unknown-option"),
        pytest.param(["run"], 2, id="missing-options"),
        pytest.param(["run", "--listen", "nonsense"], 2, id="bad-listen"),
        pytest.param(["run", "--upstream", "nonsense"], 2, id="bad-upstream"),
    ],
)
def test_exit_codes_of_processes(arguments: list[str], code: int) -> None:
    """Output goes to stdout, complaints to stderr, without a traceback."""
    done = process(*arguments)
    assert code == done.returncode
    assert bool(done.stdout) == (code == 0)
    assert bool(done.stderr) == (code != 0)
    assert "Traceback" not in done.stderr


def test_schema_of_a_process_is_json() -> None:
    """To be redirected into a file."""
    assert json.loads(process("schema", "portal").stdout)["title"] == "jwsgate portal export"


def test_problems_end_the_process(folder: Path) -> None:
    """Broken files: exit 1, every problem with its place, and no traceback."""
    (folder / "portal.yaml").write_text('results: [{state: "\\e[31m"}, {client_id: null, credentials: [{}]}]')
    (folder / "policy.yaml").write_text("routes:\n  - path: a\n")
    done = process("run", *MINIMAL, "--listen", "127.0.0.1:0", cwd=folder)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if ".yaml:" in line]
    expected = [
        "policy.yaml:2:11: routes[0].path: does not begin with a slash",
        "portal.yaml:1:19: results[0].state: is not one of the known values",
        "portal.yaml:1:62: results[1].credentials[0].client_id: is missing",
    ]
    assert expected == [line.partition(" (")[0] for line in lines]
    assert "3 problems" in done.stderr
    assert "\x1b[31m" not in done.stderr


def test_missing_files_end_the_process(tmp_path: Path) -> None:
    """Files that are not there: exit 1, both named."""
    done = process("run", *MINIMAL, "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name in ("portal.yaml", "policy.yaml"):
        assert f"\n{name}: (file): does not exist (check the path)\n" in done.stderr


def test_environment_of_a_process(folder: Path) -> None:
    """The environment is enough, here to fail with."""
    (folder / "policy.yaml").write_text("routes: []")
    done = process(
        "run",
        cwd=folder,
        JWSGATE_UPSTREAM="http://127.0.0.1:9",
        JWSGATE_LISTEN="127.0.0.1:0",
        JWSGATE_PORTAL="portal.yaml",
        JWSGATE_POLICY="policy.yaml",
    )
    assert done.returncode == 1
    assert "policy.yaml:1:9: routes: is empty" in done.stderr


@pytest.mark.parametrize(
    ("option", "text"),
    [
        pytest.param("stream_large_bodies=1m", "stream_large_bodies", id="unsafe"),
        pytest.param("connection_strategy=eager", "connection_strategy", id="eager"),
        pytest.param("no_such_option=1", "no_such_option", id="unknown"),
        pytest.param("nonsense", "nonsense", id="without-value"),
        pytest.param("listen_port=many", "listen_port", id="wrong-type"),
        pytest.param("mode=socks5", "use --upstream", id="mode"),
    ],
)
def test_mitmproxy_options_of_a_process(folder: Path, option: str, text: str) -> None:
    """Options that open the gate, and options that mitmproxy does not know, end it before it listens."""
    done = process("run", *MINIMAL, "--listen", "127.0.0.1:0", "--set", option, cwd=folder)
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert "listening" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param(material.private_pem(material.private_key("rsa")), id="key-only"),
        pytest.param(material.certificate(material.private_key("rsa")), id="certificate-only"),
    ],
)
def test_bad_tls_certificate_of_a_process(folder: Path, content: str | None) -> None:
    """A TLS certificate that cannot serve ends the gate with a word, not with each client's handshake."""
    if content is not None:
        (folder / "gate.pem").write_text(content)
    with subprocess.Popen(
        [sys.executable, "-m", "jwsgate", "run", *MINIMAL, "--listen", "127.0.0.1:0", "--tls-cert", "gate.pem"],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            output, _ = running.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            running.kill()
            output, _ = running.communicate()
            pytest.fail(f"the gate went on:\n{output}")
    assert running.returncode == 1
    assert "gate.pem" in output
    assert "Traceback" not in output


# A command beside the gate, and reports


def test_command(settings: list[RunSettings]) -> None:
    """All after -- is the command's, and rejections then are findings."""
    assert run("--report", "junit.xml", "--", "sh", "-c", "true", "--ui", "web").exit_code == 0
    assert settings[0].command == ("sh", "-c", "true", "--ui", "web")
    assert (settings[0].reports, settings[0].fail_on, settings[0].ui) == (("junit.xml",), "reject", "none")


def test_reports_from_the_environment(settings: list[RunSettings]) -> None:
    """Several stand on lines of their own; without a command, findings have to be asked for."""
    env = {"JWSGATE_REPORT": "a b.xml\ngithub=-\n", "JWSGATE_EXPECT": "e.yaml"}
    assert run(env=env).exit_code == 0
    assert (settings[0].reports, settings[0].expect, settings[0].fail_on) == (("a b.xml", "github=-"), "e.yaml", "none")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["--workers", "2", "--", "true"], "--workers is for production", id="workers-command"),
        pytest.param(["--workers", "2", "--report", "a.xml"], "--workers is for production", id="workers-report"),
        pytest.param(["--workers", "2", "--expect", "a.yaml"], "--workers is for production", id="workers-expect"),
        pytest.param(["--workers", "2", "--fail-on", "reject"], "--workers is for production", id="workers-fail-on"),
        pytest.param(["--ui", "console", "--", "true"], "both want the terminal", id="console"),
        pytest.param(["--report", "a.pdf"], "does not tell the format", id="format"),
        pytest.param(["--", "no-such-program"], "no command 'no-such-program'", id="no-command"),
        pytest.param(["--", __file__], "is not executable; chmod +x", id="no-program"),
    ],
)
def test_command_usage(settings: list[RunSettings], arguments: Sequence[str], text: str) -> None:
    """What cannot be had together is refused by its name."""
    result = run(*arguments)
    assert (result.exit_code, text in result.output, settings) == (2, True, []), result.output
