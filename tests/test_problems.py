"""Problems: their order, their text, and that the text can be printed anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwsgate.files.problems import Location, Problem, ProblemsFound, path_text


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param((), "(document)", id="whole-document"),
        pytest.param(("routes",), "routes", id="top-key"),
        pytest.param((0,), "[0]", id="top-item"),
        pytest.param((0, "path"), "[0].path", id="key-in-item"),
        pytest.param(("results", 0, "credentials", 1, "client_id"), "results[0].credentials[1].client_id", id="deep"),
        pytest.param(("a", 0, 12), "a[0][12]", id="list-in-list"),
        pytest.param(("defaults", "jws"), "defaults.jws", id="key-in-key"),
    ],
)
def test_path_text(location: Location, expected: str) -> None:
    """A location reads as people write it."""
    assert expected == path_text(location)


def test_problem_text() -> None:
    """File, line and column first, as editors and CI jump to; the remedy last."""
    problem = Problem("portal.yaml", 12, 7, "results[0].state", "is not one of the known values", "use 'enabled'")
    expected = "portal.yaml:12:7: results[0].state: is not one of the known values (use 'enabled')"
    assert expected == str(problem)


def test_problem_without_a_line() -> None:
    """A file that is not there has no line to jump to."""
    problem = Problem("portal.yaml", 0, 0, "(file)", "does not exist", "check the path")
    assert str(problem) == "portal.yaml: (file): does not exist (check the path)"


def test_printable_text_is_kept() -> None:
    """Letters beyond ASCII, spaces and quotation marks are readable text and stay."""
    assert str(Problem("é.yaml", 1, 1, "grüße 日本", "'ω'", "…")) == "é.yaml:1:1: grüße 日本: 'ω' (…)"


@pytest.mark.parametrize(
    ("character", "escaped"),
    [
        pytest.param("\x1b", "\\x1b", id="escape"),
        pytest.param("\n", "\\n", id="line-feed"),
        pytest.param("\r", "\\r", id="carriage-return"),
        pytest.param("\t", "\\t", id="tab"),
        pytest.param("\0", "\\x00", id="nul"),
        pytest.param("\x08", "\\x08", id="backspace"),
        pytest.param("\x7f", "\\x7f", id="delete"),
        pytest.param("\x85", "\\x85", id="next-line"),
        pytest.param("\x9b", "\\x9b", id="c1-csi"),
        pytest.param("\u2028", "\\u2028", id="line-separator"),
        pytest.param("\u202e", "\\u202e", id="right-to-left-override"),
        pytest.param("\ufeff", "\\ufeff", id="byte-order-mark"),
        pytest.param("\udc80", "\\udc80", id="lone-surrogate"),
    ],
)
def test_control_characters_are_escaped(character: str, escaped: str) -> None:
    """Nothing of a broken file steers a terminal or forges a log line, wherever it stands."""
    text = f"a{character}b"
    expected = f"a{escaped}b"
    assert f"{expected}:1:2: {expected}: {expected} ({expected})" == str(Problem(text, 1, 2, text, text, text))


@given(st.text(alphabet=st.characters()))
def test_problem_text_is_always_one_printable_line(text: str) -> None:
    """Whatever a file holds: one line, printable, and encodable."""
    printed = str(Problem(text, 1, 1, text, text, text))
    assert printed.isprintable()
    assert printed.encode("utf-8")


def test_problems_are_sorted_and_told_once() -> None:
    """By file, then line, then column, as numbers; the same problem found twice is one."""
    a9, a10, a10_later, b1 = (
        Problem("a", 9, 5, "p", "m", "r"),
        Problem("a", 10, 2, "p", "m", "r"),
        Problem("a", 10, 11, "p", "m", "r"),
        Problem("b", 1, 1, "p", "m", "r"),
    )
    assert (a9, a10, a10_later, b1) == ProblemsFound([b1, a10_later, a10, a9, a10]).problems


def test_exception_text_is_one_line_a_problem() -> None:
    """The exception's text is what a command prints."""
    error = ProblemsFound([Problem("b\n", 1, 1, "p", "m", "r"), Problem("a", 1, 1, "p", "m", "r")])
    assert str(error) == "a:1:1: p: m (r)\nb\\n:1:1: p: m (r)"
