"""How the errors of a shape are told: place, message and remedy for people who write files by hand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import BaseModel, Field, model_validator

from jwsgate.files.documents import Document, read_document
from jwsgate.files.problems import Problem, Unfit
from jwsgate.files.shapes import Shape, TolerantShape, check_shape


def checked_document[M: BaseModel](model: type[M], document: Document) -> tuple[M | None, list[Problem]]:
    """A document as a model, or the problems with their places."""
    shape, findings = check_shape(model, document.data)
    return shape, document.problem_list(findings)


class Inner(Shape):
    """A mapping in a mapping."""

    word: str = "none"
    count: Annotated[int, Field(ge=1, le=9)] = 1
    flag: bool = False
    kind: Literal["red", "green"] = "red"
    code: Annotated[str, Field(pattern=r"^[A-F]+$")] | None = None
    words: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _no_clash(self) -> Inner:
        if self.word == "clash":
            raise Unfit("clashes with itself", "use another word")
        if self.word == "bare":
            raise ValueError("is bare")
        return self


class Outer(Shape):
    """The whole document."""

    inner: Inner = Field(default_factory=Inner)
    items: list[Inner] = Field(default_factory=list)
    needed: str


class Loose(TolerantShape):
    """A mapping of another product."""

    name: str | None = None


def told(text: str) -> Problem:
    """The one problem that a document has."""
    checked, problems = checked_document(Outer, read_document("file.yaml", text.encode()))
    assert checked is None
    (problem,) = problems
    return problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "needed: a\ninner: {wird: b}",
            (2, "inner.wird", "is not a known key", "did you mean word?"),
            id="unknown-key-near-one",
        ),
        pytest.param(
            "needed: a\nitems:\n  - {wrods: [b]}",
            (3, "items[0].wrods", "is not a known key", "did you mean words?"),
            id="unknown-key-in-list",
        ),
        pytest.param(
            "needed: a\nzzzzzzz: b",
            (2, "zzzzzzz", "is not a known key", "known here: inner, items, needed"),
            id="unknown-key-far-from-all",
        ),
        pytest.param("inner: {}", (1, "needed", "is missing", "add it"), id="missing"),
        pytest.param(
            "needed: a\ninner: {kind: blue}",
            (2, "inner.kind", "is not one of the known values", "use 'red' or 'green'"),
            id="unknown-value",
        ),
        pytest.param(
            "needed: a\ninner: {count: 0}", (2, "inner.count", "is too small", "use at least 1"), id="too-small"
        ),
        pytest.param(
            "needed: a\ninner: {count: 10}", (2, "inner.count", "is too large", "use at most 9"), id="too-large"
        ),
        pytest.param(
            "needed: a\ninner: {count: many}",
            (2, "inner.count", "is not a whole number", "write digits only"),
            id="not-a-number",
        ),
        pytest.param(
            "needed: a\ninner: {count: 1.5}",
            (2, "inner.count", "is not a whole number", "write digits only"),
            id="fraction",
        ),
        pytest.param(
            "needed: a\ninner: {count: 1e400}",
            (2, "inner.count", "is not a whole number", "write digits only"),
            id="float-beyond-all",
        ),
        pytest.param(
            f"needed: a\ninner: {{count: {'9' * 5000}}}",
            (2, "inner.count", "is too large a number", "write a smaller one"),
            id="5000-digits",
        ),
        pytest.param(
            "needed: a\ninner: {count: [1]}",
            (2, "inner.count", "is not a whole number", "write digits only"),
            id="list-for-number",
        ),
        pytest.param(
            "needed: a\ninner: {flag: perhaps}",
            (2, "inner.flag", "is neither true nor false", "write true or false"),
            id="not-a-boolean",
        ),
        pytest.param(
            "needed: a\ninner: {flag: []}",
            (2, "inner.flag", "is neither true nor false", "write true or false"),
            id="list-for-boolean",
        ),
        pytest.param(
            "needed: a\ninner: {code: abc}",
            (2, "inner.code", "is not of the right form", "it must match ^[A-F]+$"),
            id="wrong-form",
        ),
        pytest.param(
            'needed: a\ninner: {code: "ABC\\n"}',
            (2, "inner.code", "is not of the right form", "it must match ^[A-F]+$"),
            id="line-feed-after-the-right-form",
        ),
        pytest.param(
            "needed: a\ninner: {words: []}",
            (2, "inner.words", "is empty", "add at least one item"),
            id="empty-list",
        ),
        pytest.param(
            'needed: a\ninner: {words: [b, ""]}',
            (2, "inner.words[1]", "is empty", "write a value"),
            id="empty-text",
        ),
        pytest.param(
            "needed: a\ninner: {words: b}",
            (2, "inner.words", "is not a list", "write a list, one - a line"),
            id="text-for-list",
        ),
        pytest.param(
            "needed: a\nitems: {}",
            (2, "items", "is not a list", "write a list, one - a line"),
            id="mapping-for-list",
        ),
        pytest.param(
            "needed: a\nitems: [b]",
            (2, "items[0]", "is not a mapping", "write key: value pairs, such as word: …"),
            id="text-for-mapping",
        ),
        pytest.param(
            "needed: a\ninner: [b]",
            (2, "inner", "is not a mapping", "write key: value pairs, such as word: …"),
            id="list-for-mapping",
        ),
        pytest.param(
            "needed: [a]",
            (1, "needed", "is not text", "write one plain value, in quotes if it begins with { or ["),
            id="list-for-text",
        ),
        pytest.param(
            "needed: {a: b}",
            (1, "needed", "is not text", "write one plain value, in quotes if it begins with { or ["),
            id="mapping-for-text",
        ),
        pytest.param("needed: null", (1, "needed", "is empty", "write a value, or remove the key"), id="null-for-text"),
        pytest.param(
            "needed: a\ninner:",
            (2, "inner", "is empty", "write a value, or remove the key"),
            id="nothing-for-mapping",
        ),
        pytest.param(
            "needed: a\ninner: {flag: ~}",
            (2, "inner.flag", "is empty", "write a value, or remove the key"),
            id="null-for-boolean",
        ),
        pytest.param(
            "needed: a\ninner: {word: clash}",
            (2, "inner", "clashes with itself", "use another word"),
            id="own-check",
        ),
        pytest.param(
            "needed: a\ninner: {word: bare}", (2, "inner", "is bare", "correct it"), id="own-check-without-remedy"
        ),
        pytest.param(
            "hello",
            (1, "(document)", "is not a mapping", "write key: value pairs, such as needed: …"),
            id="text-document",
        ),
        pytest.param(
            "- a",
            (1, "(document)", "is not a mapping", "write key: value pairs, such as needed: …"),
            id="list-document",
        ),
        pytest.param(
            "é: 1\nneeded: a",
            (1, "é", "is not a known key", "known here: inner, items, needed"),
            id="unknown-multi-byte-key",
        ),
    ],
)
def test_told(text: str, expected: tuple[int, str, str, str]) -> None:
    """Each kind of slip: where it is, what it is, and what to write instead."""
    problem = told(text)
    assert expected == (problem.line, problem.path, problem.message, problem.remedy)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        pytest.param("needed: [a]", 9, id="block-value"),
        pytest.param("{needed: a, inner: {count: x}}", 28, id="flow-value"),
        pytest.param("{needed: 日本, inner: {count: x}}", 29, id="after-multi-byte"),
        pytest.param('{needed: a, inner: {words: [é, ""]}}', 32, id="list-item"),
        pytest.param("{needed: a, items: [{}, {kind: blue}]}", 32, id="in-second-item"),
        pytest.param("{inner: {word: a}}", 1, id="missing-key-is-placed-at-its-mapping"),
    ],
)
def test_column(text: str, column: int) -> None:
    """A wrong value is placed where it begins, counted in characters; a missing one at the mapping that lacks it."""
    assert (1, column) == (told(text).line, told(text).column)


def test_empty_document() -> None:
    """An empty file is told as such, and not to be mended by removing a key that is not there."""
    problem = told("# nothing\n")
    expected = (1, 1, "(document)", "is empty")
    assert expected == (problem.line, problem.column, problem.path, problem.message)
    assert "remove the key" not in problem.remedy
    assert "write key: value pairs" in problem.remedy


def test_unknown_key_with_block_value_is_placed_at_the_key() -> None:
    """A slip in a key is on the key's line, not on the line where its value begins."""
    assert told("needed: a\ninnr:\n  word: b\n").line == 2


def test_all_problems_are_told() -> None:
    """One pass tells every problem of the shape."""
    text = b"inner: {count: 0, flag: x}\nitems: [{kind: b}]\nzz: 1"
    checked, problems = checked_document(Outer, read_document("f", text))
    assert checked is None
    expected = {"inner.count", "inner.flag", "needed", "items[0].kind", "zz"}
    assert expected == {problem.path for problem in problems}


def test_good_document() -> None:
    """A good document is typed from text, and what is not said has its default."""
    text = b"needed: 0123\ninner: {count: '7', flag: true, words: [a]}\n"
    checked, problems = checked_document(Outer, read_document("f", text))
    assert problems == []
    assert Outer(needed="0123", inner=Inner(count=7, flag=True, words=["a"])) == checked


def test_tolerant_shape_ignores_other_keys() -> None:
    """Another product's format has many more keys."""
    checked, problems = checked_document(Loose, read_document("f", b"{name: a, title: b, more: {c: [d]}}"))
    assert problems == []
    assert Loose(name="a") == checked


@pytest.mark.parametrize(("model", "field"), [(Inner(), "word"), (Loose(), "name")], ids=["strict", "tolerant"])
def test_shapes_are_frozen(model: Any, field: str) -> None:
    """What was checked stays as it was checked."""
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        setattr(model, field, "other")
