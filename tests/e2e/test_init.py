"""The README that `jwsgate init` makes, followed as its reader would, in front of a real gate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2e import gates
from e2e.test_docs import following

pytestmark = pytest.mark.e2e


def test_readme(tmp_path: Path, home: Path) -> None:
    """Every command does what the README says, and the log of the gate has the one refusal."""
    folder = tmp_path / "my folder"
    subprocess.run(
        [sys.executable, "-m", "jwsgate", "init", str(folder), "--alg", "ES256"],
        env=gates.environment(home),
        check=True,
        capture_output=True,
    )
    with following(folder / "README.md", folder, home) as reader:
        assert reader.log("gate").count("rejected: jws_missing") == 1
