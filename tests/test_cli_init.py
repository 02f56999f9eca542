"""`jwsgate init` and `jwsgate completion`; e2e/test_init.py follows the README that is made."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core_gate import ALGORITHM_KEYS
from jwsgate import cli
from jwsgate.cli import colors

FILES = {"client.key", "client.crt", "portal.yaml", "policy.yaml", "README.md", ".gitignore"}


def jwsgate(*arguments: str) -> Result:
    """One call; an exception that does not become an exit code is a failure."""
    result = CliRunner().invoke(cli.main, list(arguments), prog_name="jwsgate")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("algorithm", ALGORITHM_KEYS)
def test_made_to_fit(tmp_path: Path, algorithm: str) -> None:
    """What the key signs is allowed by portal and policy, in which lint finds nothing."""
    folder = str(tmp_path / "a" / "b c")
    made = jwsgate("init", folder, "--alg", algorithm, "--client-id", "me.1_x")
    assert (made.exit_code, made.output) == (
        0,
        f"made 6 files for the client ID me.1_x; go on with '{folder}'/README.md\n",
    )
    files = ["--portal", f"{folder}/portal.yaml", "--policy", f"{folder}/policy.yaml"]
    assert jwsgate("lint", *files, "--run-tests").output == "3 tests ran\nnothing to mend\n"
    token = jwsgate("sign", "--key", f"{folder}/client.key", "--cert", f"{folder}/client.crt").output.strip()
    told = jwsgate("explain", *files, "--client-id", "me.1_x", "--path", "/whoami", token)
    assert told.output.startswith("Allowed: Signed by CN=client")


def test_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, nobody else reads the key, and git leaves it alone."""
    before = os.umask(0)
    try:
        jwsgate("init", str(tmp_path / "new"))
    finally:
        os.umask(before)
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES
    assert stat.S_IMODE((tmp_path / "new" / "client.key").stat().st_mode) == 0o600
    assert (tmp_path / "new" / ".gitignore").read_text() == "client.key\n"


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    """One file that is there already, a link that leads nowhere too, keeps all from being made."""
    (tmp_path / name).symlink_to("/nowhere/at/all")
    result = jwsgate("init", str(tmp_path))
    assert result.exit_code == 1
    assert f"has {name} already" in result.output
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_other_files_stay(tmp_path: Path) -> None:
    """A folder that has other files is taken as it is; client IDs differ."""
    (tmp_path / "notes.txt").write_text("mine")
    first = jwsgate("init", str(tmp_path)).output
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert jwsgate("init", str(tmp_path / "second")).output.split()[7] != first.split()[7]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["--client-id", "a b"], 2, "write letters", id="client-id"),
        pytest.param(["--client-id", "$(id)"], 2, "write letters", id="client-id-of-a-shell"),
        pytest.param(["--name", "a\nb"], 2, "printable", id="name"),
        pytest.param(["--name", "x" * 65], 2, "printable", id="long-name"),
        pytest.param(["--alg", "HS256"], 2, "HS256", id="algorithm"),
    ],
)
def test_usage(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    """What cannot be made is told."""
    result = jwsgate("init", str(tmp_path / "x"), *arguments)
    assert (result.exit_code, words in result.output) == (code, True)
    assert not (tmp_path / "x").exists()


def test_folder_that_cannot_be_made() -> None:
    """No traceback, but the file and the reason."""
    result = jwsgate("init", "/proc/none/here")
    assert result.exit_code == 1
    assert result.output.startswith("Error: /proc/none")


@pytest.mark.parametrize("name", ["Shöp: #1 & 'co'", '"quoted" {x}', "yes", "$HOME"])
def test_names_that_yaml_would_read_otherwise(tmp_path: Path, name: str) -> None:
    """Any name arrives in the portal export as it is."""
    assert jwsgate("init", str(tmp_path), "--name", name, "--alg", "ES256").exit_code == 0
    assert name in jwsgate("portal", "list", "--portal", str(tmp_path / "portal.yaml")).output


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    """A script for the shell, which its own parser takes where it is installed."""
    script = jwsgate("completion", shell).output
    assert "_JWSGATE_COMPLETE" in script
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


def test_completion_in_bash() -> None:
    """A real bash completes commands, options and values."""
    script = jwsgate("completion", "bash").output + (
        "\ncomplete_line() { COMP_WORDS=($1); COMP_CWORD=$2; COMPREPLY=(); _jwsgate_completion jwsgate; "
        'echo "${COMPREPLY[@]}"; }\n'
        'complete_line "jwsgate expl" 1\ncomplete_line "jwsgate sign --li" 2\ncomplete_line "jwsgate init --alg PS" 3\n'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["explain", "--lifetime", "PS256 PS384 PS512"]


# Colours


@pytest.mark.parametrize(
    ("terminal", "no_color", "colored"),
    [
        pytest.param(True, None, True, id="terminal"),
        pytest.param(False, None, False, id="pipe"),
        pytest.param(True, "1", False, id="no-color"),
        pytest.param(True, "", True, id="empty-no-color"),
    ],
)
def test_colors(monkeypatch: pytest.MonkeyPatch, terminal: bool, no_color: str | None, colored: bool) -> None:
    """Only on a terminal, and never with NO_COLOR."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b[" in colors.colored("text", "red")) == colored
