"""YAML and JSON documents, fed everything that makes other loaders slow, wrong or dead.

Each test runs on libyaml's parser and on the pure Python one that stands in where libyaml is missing.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jwsgate.files import documents
from jwsgate.files.documents import MAX_DEPTH, Document, read_document
from jwsgate.files.json_events import NotJson, json_events
from jwsgate.files.problems import Location, ProblemsFound
from unit_material import Place, document_problems, places, problems_in

PARSERS = {"libyaml": getattr(yaml, "CSafeLoader", None), "pure-python": yaml.SafeLoader}
SLOW_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(params=PARSERS, autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two parsers that PyYAML may have."""
    name: str = request.param
    if PARSERS[name] is None:
        pytest.skip("PyYAML was built without libyaml")
    monkeypatch.setattr(documents, "_Parser", PARSERS[name])
    return name


def read(text: str | bytes) -> Document:
    """A document that reads, perhaps with problems."""
    return read_document("file.yaml", text.encode() if isinstance(text, str) else text)


def data(text: str | bytes) -> Any:
    """The data of a document without problems."""
    document = read(text)
    assert document.problems == ()
    return document.data


# What is read


def test_collections_and_text() -> None:
    """Block and flow style, comments, every kind of scalar: dicts, lists and text come out."""
    text = """\
# a comment
plain: some text # another
'single': 'it''s'
"double": "a\\tb\\u00e9"
literal: |
  one
  two
folded: >-
  one
  two
list:
  - a
  - [b, {c: d}]
flow: {e: [], f: {}}
"""
    expected = {
        "plain": "some text",
        "single": "it's",
        "double": "a\tbé",
        "literal": "one\ntwo\n",
        "folded": "one two",
        "list": ["a", ["b", {"c": "d"}]],
        "flow": {"e": [], "f": {}},
    }
    assert expected == data(text)


@pytest.mark.parametrize(
    "scalar",
    [
        "0123456",
        "123",
        "-0",
        "+1",
        "2020-01-01",
        "2020-01-01T10:00:00Z",
        "12:30:45",
        "yes",
        "no",
        "on",
        "off",
        "true",
        "False",
        "y",
        "1e5",
        "1.50",
        "0x1F",
        "0o17",
        "0b1",
        "1_000",
        ".inf",
        ".nan",
        "=",
        "nul",
        "nULL",
        "nullx",
    ],
)
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("a: {}", id="block-value"),
        pytest.param("- {}", id="block-item"),
        pytest.param("{{a: {}}}", id="flow-value"),
        pytest.param("[{}]", id="flow-item"),
    ],
)
def test_scalars_stay_text(scalar: str, frame: str) -> None:
    """A client ID is what was written, whatever type YAML would make of it."""
    read_value = data(frame.format(scalar))
    assert scalar == (read_value["a"] if isinstance(read_value, dict) else read_value[0])


@pytest.mark.parametrize("scalar", ["0123456", "123", "2020-01-01", "null", "~", "yes", "1e5", "0x1F"])
def test_keys_stay_text(scalar: str) -> None:
    """Keys are text too; even null is one."""
    assert {scalar: "a"} == data(f"{scalar}: a")
    assert {scalar: "a"} == data(f"{{{scalar}: a}}")


@pytest.mark.parametrize("scalar", ["null", "Null", "NULL", "~", ""])
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param("a: {}", {"a": None}, id="block-value"),
        pytest.param("- {}", [None], id="block-item"),
        pytest.param("{{a: {}, b: c}}", {"a": None, "b": "c"}, id="flow-value"),
    ],
)
def test_unquoted_null_is_none(scalar: str, frame: str, expected: Any) -> None:
    """Each spelling of null that YAML 1.1 and JSON know, the empty one too."""
    assert expected == data(frame.format(scalar))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("'null'", "null", id="single-quoted"),
        pytest.param('"null"', "null", id="double-quoted"),
        pytest.param('"~"', "~", id="quoted-tilde"),
        pytest.param("''", "", id="single-quoted-empty"),
        pytest.param('""', "", id="double-quoted-empty"),
        pytest.param("|-\n  null", "null", id="literal-block"),
        pytest.param(">-\n  null", "null", id="folded-block"),
    ],
)
def test_quoted_null_is_text(text: str, expected: str) -> None:
    """Quotation marks make text, so that an empty certificate entry is told from an absent one."""
    assert {"a": expected} == data(f"a: {text}")


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b"\n\n", None, id="blank-lines"),
        pytest.param(b"# only\n# comments\n", None, id="comments"),
        pytest.param(b"---\n", None, id="start-marker-only"),
        pytest.param(b"hello", "hello", id="plain-scalar"),
        pytest.param(b"'hello'", "hello", id="quoted-scalar"),
        pytest.param(b"--- {a: b}\n...\n", {"a": "b"}, id="both-markers"),
        pytest.param(b"%YAML 1.1\n---\na: b\n", {"a": "b"}, id="yaml-directive"),
        pytest.param(b"\xef\xbb\xbfa: b\n", {"a": "b"}, id="byte-order-mark"),
        pytest.param(b"\xef\xbb\xbf", None, id="byte-order-mark-only"),
        pytest.param(b"a: b\r\nc:\r\n  - d\r\n", {"a": "b", "c": ["d"]}, id="crlf"),
        pytest.param(b"a: b\rc: d\r", {"a": "b", "c": "d"}, id="cr"),
        pytest.param(b"a: |\r\n  b\r\n  c\r\n", {"a": "b\nc\n"}, id="crlf-in-literal-block"),
        pytest.param(b'"<<": a', {"<<": "a"}, id="quoted-merge-key-is-text"),
        pytest.param(b"a: <<", {"a": "<<"}, id="merge-indicator-as-value"),
        pytest.param("grüße: 日本 😀".encode(), {"grüße": "日本 😀"}, id="multi-byte"),
    ],
)
def test_whole_documents(octets: bytes, expected: Any) -> None:
    """What whole files may look like."""
    assert expected == data(octets)


# JSON


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"a":"b"}', {"a": "b"}, id="compact"),
        pytest.param('{"a":1,"b":-1.5e3,"c":true}', {"a": "1", "b": "-1.5e3", "c": "true"}, id="literals-stay-text"),
        pytest.param('{"a":null,"b":[null]}', {"a": None, "b": [None]}, id="null"),
        pytest.param('{"a":"null"}', {"a": "null"}, id="text-null"),
        pytest.param('{"a":[],"b":{},"c":""}', {"a": [], "b": {}, "c": ""}, id="empties"),
        pytest.param('{"":"a"}', {"": "a"}, id="empty-key"),
        pytest.param(r'{"a":"x\/y\"\\\b\f\n\r\t"}', {"a": 'x/y"\\\b\f\n\r\t'}, id="escapes"),
        pytest.param(r'{"a":"\u00e9\u65e5"}', {"a": "é日"}, id="escaped-letters"),
        pytest.param(r'{"a":"\ud83d\ude00"}', {"a": "😀"}, id="escaped-emoji"),
        pytest.param(r'{"\uD83D\uDE00":["\ud83d\ude00"]}', {"😀": ["😀"]}, id="escaped-emoji-as-key"),
        pytest.param('\ufeff{"a":"\\ud83d\\ude00"}', {"a": "😀"}, id="escaped-emoji-after-byte-order-mark"),
        pytest.param(r'{"a":"\\ud83d\\ude00"}', {"a": r"\ud83d\ude00"}, id="escaped-backslashes"),
        pytest.param('{"a":"😀"}', {"a": "😀"}, id="plain-emoji"),
        pytest.param('{\r\n  "a": "b"\r\n}\r\n', {"a": "b"}, id="crlf"),
    ],
)
def test_json(text: str, expected: Any) -> None:
    """JSON exports read as the same data; the tools that write them escape as they please."""
    assert expected == data(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a:\tb\n", {"a": "b"}, id="separation"),
        pytest.param("{\n\ta: [\n\t\tb\n\t]\n}\n", {"a": ["b"]}, id="flow"),
    ],
)
def test_tabs_are_never_misread(parser: str, text: str, expected: Any) -> None:
    """Tabs that are no block indentation are fine with libyaml; PyYAML's own parser refuses them in so many words."""
    if parser == "libyaml":
        assert expected == data(text)
    else:
        (problem,) = document_problems(text)
        assert "found character '\\t'" in problem.message


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
@SLOW_FIXTURE
@given(
    st.recursive(
        st.none() | st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF, exclude_categories=("Cc", "Zl", "Zp"))),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\"'\\#:-<é ", max_size=9), inner),
        max_leaves=12,
    )
)
def test_any_json_reads_the_same(indent: int | str | None, ascii_only: bool, value: Any) -> None:
    """What `json.dumps` writes, compact or indented, comes back: a JSON export is as good as a YAML one."""
    if not isinstance(value, dict | list):
        value = [value]
    value = json.loads(json.dumps(value).replace("\\ufeff", ""))
    assert value == data(json.dumps(value, indent=indent, ensure_ascii=ascii_only))


class _NoAliases(yaml.SafeDumper):
    """Writes repeated values out."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Never an alias."""
        return True


@pytest.mark.parametrize("flow", [True, False], ids=["flow", "block"])
@SLOW_FIXTURE
@given(
    st.recursive(
        st.none() | st.text(st.characters(codec="utf-8")) | st.sampled_from(["null", "~", "", "0123", "yes", "<<"]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_yaml_reads_the_same(flow: bool, value: Any) -> None:
    """What PyYAML writes comes back, in either style."""
    assert value == data(yaml.dump(value, Dumper=_NoAliases, default_flow_style=flow))


# What is refused, and where


REFUSED: list[Any] = [
    pytest.param("a: 1\na: 2\n", [(2, 1, "a", "is a repeated key")], id="repeated-key"),
    pytest.param(
        "a: 1\n\"a\": 2\n'a': 3\n",
        [(2, 1, "a", "is a repeated key"), (3, 1, "a", "is a repeated key")],
        id="repeated-key-quoted",
    ),
    pytest.param("{a: 1, a: 2}", [(1, 8, "a", "is a repeated key")], id="repeated-key-in-flow"),
    pytest.param('{"a":1,"a":1}', [(1, 8, "a", "is a repeated key")], id="repeated-key-in-json"),
    pytest.param('{"a":1,"\\u0061":1}', [(1, 8, "a", "is a repeated key")], id="repeated-key-escaped"),
    pytest.param(
        '{"a":"\\ud83d\\ude00","a":1}', [(1, 21, "a", "is a repeated key")], id="repeated-key-after-escaped-emoji"
    ),
    pytest.param('{"a":"😀","a":1}', [(1, 10, "a", "is a repeated key")], id="repeated-key-after-emoji"),
    pytest.param("a: [{b: 1},\n    {b: 1, b: 2}]\n", [(2, 12, "a[1].b", "is a repeated key")], id="repeated-key-deep"),
    pytest.param("é: {ü: 1, ü: 2}\n", [(1, 11, "é.ü", "is a repeated key")], id="repeated-key-after-multi-byte"),
    pytest.param("'😀': 1\r\n'😀': 2\r\n", [(2, 1, "😀", "is a repeated key")], id="repeated-key-crlf"),
    pytest.param("null: 1\nnull: 2\n", [(2, 1, "null", "is a repeated key")], id="repeated-null-key"),
    pytest.param("a:\nb:\na:\n", [(3, 1, "a", "is a repeated key")], id="repeated-key-without-values"),
    pytest.param("a: &x 1\n", [(1, 4, "a", "has an anchor")], id="anchor-on-text"),
    pytest.param("a: &x {b: 1}\n", [(1, 4, "a", "has an anchor")], id="anchor-on-mapping"),
    pytest.param("a:\n  - &x [1]\n", [(2, 5, "a[0]", "has an anchor")], id="anchor-on-list"),
    pytest.param("&x a: 1\n", [(1, 1, "a", "has an anchor")], id="anchor-on-key"),
    pytest.param("&x {a: 1}\n", [(1, 1, "(document)", "has an anchor")], id="anchor-on-document"),
    pytest.param("é: ü\nö: [日本, &x 1]\n", [(2, 9, "ö[1]", "has an anchor")], id="anchor-after-multi-byte"),
    pytest.param("a: &x 1\nb: *x\n", [(1, 4, "a", "has an anchor"), (2, 4, "b", "is an alias")], id="alias-as-value"),
    pytest.param(
        "[&x 1, *x, {b: *x}]",
        [(1, 2, "[0]", "has an anchor"), (1, 8, "[1]", "is an alias"), (1, 16, "[2].b", "is an alias")],
        id="alias-in-flow",
    ),
    pytest.param("a: *nowhere\n", [(1, 4, "a", "is an alias")], id="alias-without-anchor"),
    pytest.param("a: &x [*x]\n", [(1, 4, "a", "has an anchor"), (1, 8, "a[0]", "is an alias")], id="alias-to-itself"),
    pytest.param("*x : 1\n", [(1, 1, "(document)", "has a key that is no plain text")], id="alias-as-key"),
    pytest.param("<<: {a: 1}\n", [(1, 1, "<<", "is a merge key")], id="merge-key"),
    pytest.param("a:\n  b: 1\n  <<: [{c: 2}]\n", [(3, 3, "a.<<", "is a merge key")], id="merge-key-deep"),
    pytest.param("{é: {<<: {a: 1}}}", [(1, 6, "é.<<", "is a merge key")], id="merge-key-in-flow"),
    pytest.param(
        "a: &x {b: 1}\nc:\n  <<: *x\n",
        [(1, 4, "a", "has an anchor"), (3, 3, "c.<<", "is a merge key"), (3, 7, "c.<<", "is an alias")],
        id="merge-key-with-alias",
    ),
    pytest.param("a: !!str 1\n", [(1, 4, "a", "has a tag")], id="tag-of-yaml"),
    pytest.param("a: !local 1\n", [(1, 4, "a", "has a tag")], id="tag-local"),
    pytest.param("a: ! 1\n", [(1, 4, "a", "has a tag")], id="tag-non-specific"),
    pytest.param("a: !<tag:yaml.org,2002:int> 1\n", [(1, 4, "a", "has a tag")], id="tag-verbatim"),
    pytest.param("a: !!python/object/apply:os.system [id]\n", [(1, 4, "a", "has a tag")], id="tag-python"),
    pytest.param("a: !!binary aGk=\n", [(1, 4, "a", "has a tag")], id="tag-binary"),
    pytest.param("!!str a: 1\n", [(1, 1, "a", "has a tag")], id="tag-on-key"),
    pytest.param("é: {b: !!set {c}}\n", [(1, 8, "é.b", "has a tag")], id="tag-in-flow-after-multi-byte"),
    pytest.param(
        "%TAG ! tag:example.org,2000:\n---\n!a b\n", [(3, 1, "(document)", "has a tag")], id="tag-by-directive"
    ),
    pytest.param("[a]: 1\n", [(1, 1, "(document)", "has a key that is no plain text")], id="list-as-key"),
    pytest.param("a:\n  ? {b: 1}\n  : 2\n", [(2, 5, "a", "has a key that is no plain text")], id="mapping-as-key"),
    pytest.param("a: 1\n---\nb: 2\n", [(2, 1, "(document)", "holds a second document")], id="second-document"),
    pytest.param("---\n---\n", [(2, 1, "(document)", "holds a second document")], id="second-empty-document"),
    pytest.param(
        "a: 1\n...\n---\n{a: 1}\n", [(3, 1, "(document)", "holds a second document")], id="second-document-after-end"
    ),
    pytest.param("\ufeffa: 1\na: 2\n", [(2, 1, "a", "is a repeated key")], id="byte-order-mark-second-line"),
    pytest.param("\ufeff{a: *x}\n", [(1, 5, "a", "is an alias")], id="byte-order-mark-first-line"),
    pytest.param("a: 1\r\nb: *x\r\n", [(2, 4, "b", "is an alias")], id="crlf"),
    pytest.param("a: 1\rb: *x\r", [(2, 4, "b", "is an alias")], id="cr"),
    pytest.param("# c\n\n  # c\na: *x # c\n", [(4, 4, "a", "is an alias")], id="after-comments"),
    pytest.param("a: |\n  one\n  two\nb: *x\n", [(4, 4, "b", "is an alias")], id="after-literal-block"),
    pytest.param(
        "- a: 1\n  b: &x 2\n-\n  - *x\n- a: !t 3\n  a: 4\n",
        [
            (2, 6, "[0].b", "has an anchor"),
            (4, 5, "[1][0]", "is an alias"),
            (5, 6, "[2].a", "has a tag"),
            (6, 3, "[2].a", "is a repeated key"),
        ],
        id="all-in-one-list",
    ),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_refused(text: str, expected: list[Place]) -> None:
    """Whatever makes one text mean two things is a problem, at its place, and all of them are told."""
    assert expected == places(document_problems(text))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        pytest.param("a: 1\na: 2\n", "keep one of them", id="repeated-key"),
        pytest.param("a: &x 1\n", "remove it; aliases are not read", id="anchor"),
        pytest.param("a: *x\n", "write the value out", id="alias"),
        pytest.param("<<: {a: 1}\n", "write the members out", id="merge-key"),
        pytest.param("a: !!int 1\n", "remove it; types come from the schema", id="tag"),
        pytest.param("[a]: 1\n", "use plain text as key, or quote the value that begins with { or [", id="list-as-key"),
        pytest.param("a: 1\n---\n", "keep one document a file", id="second-document"),
        pytest.param("[" * 40, "flatten it", id="depth"),
        pytest.param("a: \x01", "remove the control character", id="control-character"),
        pytest.param(b"\xff", "save it as UTF-8", id="not-utf-8"),
    ],
)
def test_each_problem_has_its_remedy(text: str | bytes, remedy: str) -> None:
    """A problem says what to do about it."""
    (problem,) = document_problems(text)
    assert remedy == problem.remedy


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        pytest.param("a: [1, 2\n", 2, 1, id="open-list"),
        pytest.param('a: "b\n', 1, 4, id="open-quotation"),
        pytest.param("a: b: c\n", 1, 5, id="colon-in-value"),
        pytest.param("a:\n\tb: 1\n", 2, 1, id="tab-as-indent"),
        pytest.param("a: 1\n  b: 2\n", 2, 4, id="wrong-indent"),
        pytest.param("é: '日本' x\n", 1, 9, id="text-after-quotation-after-multi-byte"),
        pytest.param("a: @b\n", 1, 4, id="reserved-indicator"),
        pytest.param("a: 1\n}\n", 2, 1, id="closing-brace"),
        pytest.param("%YAML 2.0\n---\na\n", 1, 1, id="yaml-2.0"),
    ],
)
def test_syntax_errors_have_their_place(text: str, line: int, column: int) -> None:
    """What is not YAML at all is one problem more, where the parser stumbled."""
    (problem,) = document_problems(text)
    assert (line, column, "(document)") == (problem.line, problem.column, problem.path)
    assert problem.message.startswith("is not YAML: ")


COLON = "write key: value, with a colon and a blank, here or in the line before"
QUOTE = "put the whole value in quotation marks that it does not hold itself"
DASH = "indent this - like that of the other items, each of which needs one"
BEFORE = "indent it like the line before, which has its value already"
CLOSE = "close the quotation marks that begin here"


@pytest.mark.parametrize(
    ("text", "line", "column", "remedy"),
    [
        pytest.param("a: {b}/c\n", 1, 7, "quote the whole value, which begins with { or [", id="template"),
        pytest.param("a:\n  - b: 1\n- c: 2\n", 3, 1, DASH, id="dash-further-left"),
        pytest.param("a:\n    b: 1\n  - c: 2\n", 3, 3, DASH, id="first-dash-missing"),
        pytest.param(
            "a:\n  b: 1\n c: 2\n", 3, 2, "indent it like the other keys of its mapping", id="key-further-left"
        ),
        pytest.param("a:\n - b: 1\n  c: 2\n", 3, 3, "indent it like the other lines of its item", id="item"),
        pytest.param("- a: 1\n    b: 2\n", 2, 6, BEFORE, id="key-further-right"),
        pytest.param("a\n  b: 2\n", 2, 4, COLON, id="colon-missing"),
        pytest.param("a: b: c\n", 1, 5, "quote the value, which holds a colon and a blank", id="colon-in-value"),
        pytest.param('a: "b" c\n', 1, 8, QUOTE, id="text-after-quotation"),
        pytest.param("a: 'it's'\n", 1, 8, QUOTE, id="apostrophe"),
        pytest.param('a: 1\nb: "c\nd: e\n', 2, 4, CLOSE, id="open-to-the-end"),
        pytest.param('a: 1\nb: "c\nd: "e"\n', 2, 4, CLOSE, id="open-to-the-next-one"),
        pytest.param("a: '\n---\n", 1, 4, CLOSE, id="open-to-the-next-document"),
        pytest.param("a: @b\n", 1, 4, "quote the value, which begins with a character of YAML's own", id="at"),
        pytest.param("a: *\n", 1, 5, "quote the value, which begins with *", id="star"),
        pytest.param("a: & b\n", 1, 5, "quote the value, which begins with &", id="ampersand"),
        pytest.param("a: |b\n", 1, 5, "quote the value, which begins with | or >", id="bar"),
        pytest.param("a: !<b\n", 1, 7, "quote the value, which begins with !", id="exclamation-mark"),
        pytest.param("a:\n\tb: 1\n", 2, 1, "indent with blanks, not with tabs", id="tab"),
        pytest.param("a:\n\u00a0 b: 1\n  c: 2\n", 2, 1, "write a plain blank in place of U+00A0", id="indent"),
        pytest.param("a: 1\nb:\u00a0[c]\nd: 1\n", 2, 3, "write a plain blank in place of U+00A0", id="after-the-colon"),
        pytest.param("```yaml\na: 1\n```\n", 1, 1, "remove the lines with ``` around the text", id="fence"),
        pytest.param("a: 1\n}\n", 2, 1, "remove it: no { or [ is open here", id="brace"),
        pytest.param("a: [b\nc: 1\n", 2, 2, "close the list with ], or quote what holds { or [", id="list"),
        pytest.param("a: {b: ${C}}\n", 1, 9, "close the mapping with }, or quote what holds { or [", id="mapping"),
        pytest.param("a: 1\n...\nb: 2\n", 3, 1, "keep one document a file, and end it with the file", id="end"),
        pytest.param("%YAML 2.0\n---\na\n", 1, 1, "remove the line that begins with %", id="directive"),
    ],
)
def test_syntax_errors_have_their_remedy(text: str, line: int, column: int, remedy: str) -> None:
    """What most likely went wrong, where it is to be mended."""
    (problem,) = document_problems(text)
    assert (line, column, remedy) == (problem.line, problem.column, problem.remedy)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("a: [", "close what { or [ opened, and write a value between any two commas"),
        ('a: "\\d"\n', "write it in single quotation marks, in which a \\ stands for itself"),
    ],
)
def test_syntax_errors_that_the_parsers_place_differently(text: str, remedy: str) -> None:
    """The remedy is the same."""
    (problem,) = document_problems(text)
    assert remedy == problem.remedy


def test_not_json() -> None:
    """A file whose name says that it is JSON."""
    with pytest.raises(ProblemsFound) as caught:
        read_document("file.json", b'{"a": 1,}')
    assert [problem.remedy for problem in caught.value.problems] == ["correct it, or name the file .yaml if it is YAML"]


def test_syntax_error_does_not_hide_earlier_problems() -> None:
    """Problems found before the syntax breaks are told together with the break."""
    found = document_problems("a: 1\na: &x 2\nb: [\n")
    assert [(problem.line, problem.column) for problem in found] == [(2, 1), (2, 4), (4, 1)]


@pytest.mark.parametrize(
    ("octets", "line", "column"),
    [
        pytest.param(b"\xff", 1, 1, id="first-octet"),
        pytest.param(b"a: 1\nb: \xe9\n", 2, 4, id="latin-1"),
        pytest.param("a: é日".encode() + b"\xff", 1, 6, id="after-multi-byte"),
        pytest.param("é: 1\r\né: ".encode() + b"\xc3", 2, 4, id="cut-short-after-crlf"),
        pytest.param(b"a: \xed\xa0\x80", 1, 4, id="encoded-surrogate"),
        pytest.param(b"a: \xc0\xaf", 1, 4, id="over-long"),
        pytest.param("a: 1".encode("utf-16"), 1, 1, id="utf-16-with-mark"),
        pytest.param("a: 1".encode("utf-32"), 1, 1, id="utf-32-with-mark"),
        pytest.param("é: 1".encode("utf-16-le"), 1, 1, id="utf-16-without-mark"),
    ],
)
def test_not_utf8(octets: bytes, line: int, column: int) -> None:
    """Only UTF-8 is read; columns count in characters up to the first bad octet."""
    assert [(line, column, "(document)", "is not UTF-8")] == places(document_problems(octets))


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        pytest.param("a: b\0c\n", 1, 5, id="nul"),
        pytest.param("\0", 1, 1, id="nul-alone"),
        pytest.param("a: 1\nb: \x1b[2J\n", 2, 4, id="escape"),
        pytest.param('a: "\x07"\n', 1, 5, id="bell-in-quotation"),
        pytest.param("# \x08\n", 1, 3, id="backspace-in-comment"),
        pytest.param("a: \x7f\n", 1, 4, id="delete"),
        pytest.param("é: \x01\n", 1, 4, id="after-multi-byte"),
        pytest.param("a: 1\n日本: '\x01'\n", 2, 6, id="second-line-after-multi-byte"),
        pytest.param("a: 1\r\nb: \x01\r\n", 2, 4, id="after-crlf"),
        pytest.param("a: \ufffe\n", 1, 4, id="not-a-character"),
    ],
)
def test_control_characters(text: str, line: int, column: int) -> None:
    """Raw control characters are refused, NUL before all, at their place in characters."""
    expected = [(line, column, "(document)", "holds a character that YAML does not allow")]
    assert expected == places(document_problems(text))


def test_utf16_without_mark_is_refused() -> None:
    """ASCII text in UTF-16 is UTF-8 with a NUL after each letter."""
    (problem,) = document_problems("a: 1".encode("utf-16-le"))
    assert problem.message == "holds a character that YAML does not allow"


# Size and depth


def nested(shape: str, depth: int) -> str:
    """So many collections in one another."""
    match shape:
        case "flow-lists":
            return "[" * depth + "]" * depth
        case "flow-mappings":
            return "{a: " * depth + "b" + "}" * depth
        case "block-lists":
            return "- " * depth + "a"
        case "block-mappings":
            return "".join(f"{' ' * level}a:\n" for level in range(depth - 1)) + " " * depth + "a: b"
        case _:
            pairs = "[{a: " * (depth // 2)
            return pairs + ("[b]" if depth % 2 else "b") + "}]" * (depth // 2)


SHAPES = ["flow-lists", "flow-mappings", "block-lists", "block-mappings", "mixed"]


@pytest.mark.parametrize("shape", SHAPES)
def test_depth_32_is_read(shape: str) -> None:
    """The limit itself is fine."""
    value = data(nested(shape, 32))
    depth = 0
    while isinstance(value, dict | list):
        depth += 1
        value = next(iter(value.values()) if isinstance(value, dict) else iter(value), None)
    assert MAX_DEPTH == depth == 32


@pytest.mark.parametrize("shape", SHAPES)
def test_depth_33_is_refused(shape: str) -> None:
    """One more is not."""
    (problem,) = document_problems(nested(shape, 33))
    assert problem.message == "is nested more than 32 deep"


def test_depth_is_refused_at_its_place() -> None:
    """The place is where the 33rd collection opens."""
    (problem,) = document_problems("é: 1\nb: " + "[" * 32)
    assert (problem.line, problem.column) == (2, 35)


def alias_bomb() -> str:
    """Nine levels of nine aliases each: 3 billion values when walked."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(lines)


def merge_bomb() -> str:
    """Each level merges the one before twice."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000, id="open-lists"),
        pytest.param("{" * 100_000, id="open-mappings"),
        pytest.param("{a: " * 100_000, id="open-mappings-with-keys"),
        pytest.param("[{" * 100_000, id="open-both"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="closed-lists"),
        pytest.param('{"a":' * 100_000 + "1" + "}" * 100_000, id="closed-json-objects"),
        pytest.param("- " * 100_000, id="block-lists"),
        pytest.param("? " * 100_000, id="block-keys"),
        pytest.param("a:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 2000)), id="block-mappings"),
        pytest.param("a: " + "[" * 100_000, id="open-lists-in-value"),
        pytest.param("[a]: " * 10_000, id="lists-as-keys"),
        pytest.param(alias_bomb(), id="alias-bomb"),
        pytest.param(merge_bomb(), id="merge-key-bomb"),
        pytest.param("a: [" + "*x, " * 100_000 + "]", id="aliases"),
        pytest.param("".join(f"a{n}: &x{n} 1\n" for n in range(50_000)), id="anchors"),
        pytest.param("a: 1\n" * 50_000, id="repeated-keys"),
        pytest.param("---\n" * 100_000, id="documents"),
        pytest.param("a: " + "!" * 100_000, id="exclamation-marks"),
        pytest.param("*" * 100_000, id="stars"),
        pytest.param("%TAG !a! tag:a\n" * 10_000 + "---\na: 1", id="repeated-directives"),
        pytest.param('"' + "\\" * 99_999, id="open-quotation-of-backslashes"),
    ],
)
def test_bombs_are_refused_at_once(text: str) -> None:
    """Neither time nor stack: each is refused, with no more than a hundred problems."""
    assert 1 <= len(document_problems(text)) <= 100


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("[" + "a," * 100_000 + "]", 100_000, id="wide-list"),
        pytest.param("- a\n" * 100_000, 100_000, id="long-list"),
        pytest.param("".join(f"k{n}: v\n" for n in range(50_000)), 50_000, id="many-keys"),
        pytest.param("a: '" + "b" * 1_000_000 + "'", 1, id="long-text"),
        pytest.param("#" * 1_000_000 + "\na: b", 1, id="long-comment"),
    ],
)
def test_large_is_not_deep(text: str, count: int) -> None:
    """Large honest files are read."""
    assert count == len(data(text))


def test_problems_are_capped() -> None:
    """A hundred problems are enough to read; the file is given up then."""
    found = problems_in(lambda: read("".join(f"a{n}: *x\n" for n in range(1000))))
    assert len(found) == 100
    assert (found[-1].line, found[-1].column) == (100, 6)


def test_size_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond the limit is refused before it is parsed; one at the limit is read."""
    monkeypatch.setattr(documents, "MAX_OCTETS", 8)
    assert data("a: 1234\n") == {"a": "1234"}
    found = problems_in(lambda: read("a: 12345\n"))
    assert places(found) == [(1, 1, "(document)", "is larger than 512 MiB")]


# Positions


POSITIONS_TEXT = """\
# é
results:
  - name: é日本
    title: "😀 x"
    flow: {ü: [a, 日, {b: c}], d: e}
  -
    - f
text: |
  one
last: x
"""


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param((), (2, 1), id="document"),
        pytest.param(("results",), (3, 3), id="list"),
        pytest.param(("results", 0), (3, 5), id="mapping-in-list"),
        pytest.param(("results", 0, "name"), (3, 11), id="text"),
        pytest.param(("results", 0, "title"), (4, 12), id="quoted-text"),
        pytest.param(("results", 0, "flow"), (5, 11), id="flow-mapping"),
        pytest.param(("results", 0, "flow", "ü"), (5, 15), id="flow-list"),
        pytest.param(("results", 0, "flow", "ü", 1), (5, 19), id="flow-item"),
        pytest.param(("results", 0, "flow", "ü", 2, "b"), (5, 26), id="deep-in-flow"),
        pytest.param(("results", 0, "flow", "d"), (5, 34), id="after-multi-byte-in-flow"),
        pytest.param(("results", 1), (7, 5), id="list-in-list"),
        pytest.param(("results", 1, 0), (7, 7), id="item-of-list-in-list"),
        pytest.param(("text",), (8, 7), id="literal-block"),
        pytest.param(("last",), (10, 7), id="after-literal-block"),
        pytest.param(("results", 0, "absent"), (3, 5), id="absent-key"),
        pytest.param(("results", 9, "a", 3), (3, 3), id="absent-item"),
        pytest.param(("results", 0, "name", "deeper"), (3, 11), id="deeper-than-text"),
        pytest.param(("absent",), (2, 1), id="absent-at-top"),
    ],
)
@pytest.mark.parametrize("form", ["lf", "crlf", "mark"])
def test_positions(location: Location, expected: tuple[int, int], form: str) -> None:
    """Line and column of a value, in characters; of the nearest one above where there is none."""
    text = {"lf": "{}", "crlf": "{}", "mark": "\ufeff{}"}[form].format(POSITIONS_TEXT)
    document = read(text.replace("\n", "\r\n") if form == "crlf" else text)
    assert {location: expected} == document.locate([location])


def test_positions_are_found_together() -> None:
    """Many locations at once give what each gives alone."""
    document = read(POSITIONS_TEXT)
    locations: list[Location] = [("results", 0, "name"), (), ("nowhere", 1), ("last",)]
    assert {location: document.locate([location])[location] for location in locations} == document.locate(locations)


@pytest.mark.parametrize("octets", [b"", b"# comment\n"], ids=["empty", "comment"])
def test_position_in_an_empty_document(octets: bytes) -> None:
    """Where there is no value at all, the first line stands for it."""
    assert read(octets).locate([("a",)]) == {("a",): (1, 1)}


def test_position_of_repeated_key() -> None:
    """A repeated key is located at its first value."""
    assert read("a: 1\na: 2\n").locate([("a",)]) == {("a",): (1, 4)}


def test_position_after_escaped_emoji() -> None:
    """Columns count what stands in the file, not what it means."""
    document = read(r'{"a":"\ud83d\ude00","b":1}')
    assert document.locate([("b",)]) == {("b",): (1, 25)}


def test_position_of_a_key_that_looks_like_a_marker() -> None:
    """No key of a file is taken for something of the reader's own."""
    assert read("a: 1\n'(key)': 2\n").locate([("(key)",)]) == {("(key)",): (2, 10)}


def test_problem_list_places_findings() -> None:
    """Findings become problems with their places; none stay none."""
    document = read("a:\n  é: b\n")
    (problem,) = document.problem_list([(("a", "é"), "message", "remedy")])
    assert (
        problem.file,
        problem.line,
        problem.column,
        problem.path,
        problem.message,
        problem.remedy,
    ) == ("file.yaml", 2, 6, "a.é", "message", "remedy")
    assert document.problem_list([]) == []


# Nothing raw, nothing else


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"a\\e[31m\\n": 1\n"a\\e[31m\\n": 2\n', id="key"),
        pytest.param('{"\\u202e": {"\\r\\n": *x}}', id="path"),
        pytest.param('{"\\0": &x 1}', id="nul-in-key"),
    ],
)
def test_problems_print_no_control_character(text: str) -> None:
    """Escapes in keys are escaped again when a problem is printed."""
    assert all(str(problem).isprintable() for problem in document_problems(text))


def values_of(value: Any) -> list[Any]:
    """A value and all within it, keys too."""
    match value:
        case dict():
            return [value, *value, *itertools.chain.from_iterable(map(values_of, value.values()))]
        case list():
            return [value, *itertools.chain.from_iterable(map(values_of, value))]
        case _:
            return [value]


FRAGMENTS = [
    "a",
    "é",
    "😀",
    ": ",
    ":",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\n",
    "\n  ",
    "\r\n",
    "\t",
    "'",
    '"',
    "|",
    ">-",
    "#",
    " #",
    "&x ",
    "*x",
    "!",
    "!!int ",
    "!<",
    "<<: ",
    "<<",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "%TAG ! x\n",
    "@",
    "`",
    "null",
    "~",
    "\\",
    "\\x",
    "\\u12",
    "\0",
    "\x1b",
    "\x85",
    "\u2028",
    "\ufeff",
    "0",
]


@settings(SLOW_FIXTURE, max_examples=400)
@given(
    st.binary(max_size=60)
    | st.text(max_size=40).map(str.encode)
    | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(lambda parts: "".join(parts).encode())
)
def test_any_octets(octets: bytes) -> None:
    """Whatever the octets: a document of plain data, or problems with places, and never anything else."""
    try:
        document = read_document("file.yaml", octets)
    except ProblemsFound as error:
        found = error.problems
        assert found
    else:
        found = document.problems
        assert {type(value) for value in values_of(document.data)} <= {dict, list, str, type(None)}
    lines = len(octets.splitlines()) + 1
    for problem in found:
        assert 1 <= problem.line <= max(lines, octets.decode("utf-8", "replace").count("\r") + lines + 9)
        assert problem.column >= 1
        assert str(problem).isprintable()


class Watched(str):
    """Text that counts how many characters are looked at to find lines in it."""

    __slots__ = ("seen",)

    def count(self, *arguments: Any) -> int:
        self.seen = getattr(self, "seen", 0) + arguments[2] - arguments[1]
        return super().count(*arguments)

    def rfind(self, *arguments: Any) -> int:
        self.seen += arguments[2] - arguments[1]
        return super().rfind(*arguments)


@pytest.mark.parametrize("between", [", ", ",\n"], ids=["one-line", "lines"])
def test_places_in_one_line_of_json_cost_what_it_is_long(between: str) -> None:
    """Each character is looked at once or twice, in three thousand applications with an error at their end."""
    one = '{"name": "a", "state": "enabled", "credentials": [{"client_id": "x"}]}'
    text = Watched('{"results": [' + between.join([one] * 3000) + " 5]}")
    with pytest.raises(NotJson, match="lacks a comma") as error:
        list(json_events(text))
    lines = text[: text.rindex("5")].split("\n")
    assert tuple(error.value.mark) == (len(lines) - 1, len(lines[-1]))
    assert text.seen <= 2 * len(text)
