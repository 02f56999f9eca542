"""What both harnesses share: fuzzing with atheris, or plain replaying of files without it."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

__all__ = ["inputs", "main", "replay"]


def inputs(paths: Iterable[Path]) -> list[Path]:
    """The files named, and those in the folders named."""
    found: list[Path] = []
    for path in paths:
        found += sorted(inner for inner in path.iterdir() if inner.is_file()) if path.is_dir() else [path]
    return found


def replay(one_input: Callable[[bytes], None], paths: Iterable[Path]) -> int:
    """Give each file to a harness, and say how many there were."""
    files = inputs(paths)
    for file in files:
        one_input(file.read_bytes())
    return len(files)


def main(one_input: Callable[[bytes], None], atheris: ModuleType | None) -> None:
    """`--replay PATH…` replays; anything else goes to libFuzzer."""
    if sys.argv[1:2] == ["--replay"]:
        count = replay(one_input, map(Path, sys.argv[2:]))
        sys.stdout.write(f"{count} inputs, no finding\n")
        return
    if atheris is None:
        sys.exit("atheris is not installed; `--replay PATH` works without it")
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
