"""Problems: defects of a file, each with its place and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Finding", "KeyLocation", "Location", "Problem", "ProblemsFound", "Unfit", "path_text", "printable"]

type Location = tuple[str | int, ...]
"""Where a value stands in a document: mapping keys and sequence indices from the top."""


class KeyLocation(tuple[str | int, ...]):
    """The location of a value where the problem is its key, so that the key's position is told."""

    __slots__ = ()


type Finding = tuple[Location, str, str]
"""Location, message and remedy of a problem whose line and column are not known yet."""


class Unfit(ValueError):
    """A value that does not serve: a message, and what to do. Knows no place; whoever catches it does."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def printable(text: str) -> str:
    """The text for a terminal or a log: keys and values of a broken file must not steer the one or forge the other."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def path_text(location: Location) -> str:
    """A location as people write it: `results[0].credentials[1].client_id`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "(document)"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One defect. Line and column count from 1, columns in characters; 0 where a file has no lines to name."""

    file: str
    line: int
    column: int
    path: str
    message: str
    remedy: str

    @property
    def place(self) -> str:
        """`file:line:column`, or the file alone where it has no lines to name."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        return printable(f"{self.place}: {self.path}: {self.message} ({self.remedy})")


class ProblemsFound(Exception):
    """Files that cannot be used, with every problem found in them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))
