"""The fuzzing harnesses, run without atheris over their seed corpus."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parent / "fuzz"


def harness(name: str) -> ModuleType:
    """A harness as module; it lies in a folder of its own."""
    sys.path.insert(0, str(FUZZ))
    try:
        spec = importlib.util.spec_from_file_location(name, FUZZ / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FUZZ))
    return module


TOKEN, FILES = harness("fuzz_token"), harness("fuzz_files")


def seeds(folder: str, at_least: int) -> list[Any]:
    """The files of a corpus, which must be there."""
    paths = sorted((FUZZ / "corpus" / folder).iterdir())
    assert len(paths) >= at_least
    return [pytest.param(path, id=path.name) for path in paths]


@pytest.mark.parametrize("path", seeds("token", 20))
def test_token_corpus(path: Path) -> None:
    """No seed or former finding breaks a property of decisions."""
    TOKEN.one_input(path.read_bytes())


@pytest.mark.parametrize("path", seeds("files", 15))
def test_files_corpus(path: Path) -> None:
    """No seed or former finding breaks a property of the readers of files."""
    FILES.one_input(path.read_bytes())


@settings(deadline=None)
@given(st.integers(0, 4), st.binary(max_size=100))
def test_token_harness_takes_any_octets(mode: int, octets: bytes) -> None:
    """The harness itself never fails on an input, the empty one included."""
    TOKEN.one_input(b"")
    TOKEN.one_input(b"%d%s" % (mode, octets))


@settings(deadline=None)
@given(
    st.integers(0, 2),
    st.one_of(st.binary(max_size=100), st.text("{}[]:,-&*!?|>'\"% \n#ab01<", max_size=60).map(str.encode)),
)
def test_files_harness_takes_any_octets(mode: int, octets: bytes) -> None:
    """The same for files, with what YAML is made of."""
    FILES.one_input(b"")
    FILES.one_input(b"%d%s" % (mode, octets))


@pytest.mark.parametrize(("name", "folder"), [("fuzz_token", "token"), ("fuzz_files", "files")])
def test_replay_as_a_command(name: str, folder: str) -> None:
    """`--replay` as the README tells it."""
    done = subprocess.run(
        [sys.executable, FUZZ / f"{name}.py", "--replay", FUZZ / "corpus" / folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("inputs, no finding\n")
