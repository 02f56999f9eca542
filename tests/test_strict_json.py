"""JSON objects in the one form that two readers cannot understand differently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jwsgate.core.strict_json import MAX_DEPTH, StrictJsonError, parse_object


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """An object of this depth, its own level counted."""
    return b'{"a":' + opening * (depth - 1) + closing * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        pytest.param(b"{}", {}, id="empty"),
        pytest.param(b' \t\r\n{ "a" : 1 } \n', {"a": 1}, id="white-space-around"),
        pytest.param(
            b'{"iss":"tvo","exp":1531300344,"iat":1531296744}',
            {"iss": "tvo", "exp": 1531300344, "iat": 1531296744},
            id="claims",
        ),
        pytest.param(
            b'{"a":[1,-2.5,1e3,true,false,null,{"b":""}]}',
            {"a": [1, -2.5, 1e3, True, False, None, {"b": ""}]},
            id="every-type",
        ),
        pytest.param(b'{"a":{"x":1},"b":{"x":1}}', {"a": {"x": 1}, "b": {"x": 1}}, id="same-name-in-two-objects"),
        pytest.param(b'{"a":1,"A":2}', {"a": 1, "A": 2}, id="names-differ-in-case"),
        pytest.param('{"ключ":"значение €"}'.encode(), {"ключ": "значение €"}, id="utf-8"),
        pytest.param(b'{"a":"\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}, id="escaped-surrogate-pair"),
        pytest.param(b'{"a":"\\u0000\\u001f"}', {"a": "\0\x1f"}, id="escaped-control-characters"),
        pytest.param(b'{"":""}', {"": ""}, id="empty-name"),
    ],
)
def test_objects_are_read(octets: bytes, value: dict[str, Any]) -> None:
    """Ordinary JSON objects come out as Python reads them."""
    assert value == parse_object(octets)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b'{"a":1,"a":1}', id="same-value"),
        pytest.param(b'{"alg":"none","alg":"RS256"}', id="last-would-win"),
        pytest.param(b'{"a":1,"\\u0061":2}', id="one-of-them-escaped"),
        pytest.param(b'{"a":{"b":1,"b":2}}', id="nested-object"),
        pytest.param(b'{"a":[{"b":1,"b":2}]}', id="object-in-array"),
        pytest.param(b'{"":1,"":2}', id="empty-name"),
        pytest.param(b'{"a":1,"b":2,"a":3}', id="not-adjacent"),
    ],
)
def test_duplicate_members_are_refused(octets: bytes) -> None:
    """RFC 7515 section 4 and RFC 7519 section 4: member names must be unique."""
    with pytest.raises(StrictJsonError, match="repeated"):
        parse_object(octets)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("template", ['{"exp":%s}', '{"a":[%s]}', '{"a":{"b":%s}}', "%s"])
def test_constants_that_are_not_json_are_refused(template: str, constant: str) -> None:
    """RFC 8259 section 6 knows no NaN and no infinities."""
    with pytest.raises(StrictJsonError):
        parse_object((template % constant).encode())


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="utf-8"),
        pytest.param('{"a":1}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"a":1}'.encode("utf-32"), id="utf-32"),
        pytest.param('{"a":1}'.encode("utf-16-le"), id="utf-16-le-without-mark"),
        pytest.param('{"a":1}'.encode("utf-16-be"), id="utf-16-be-without-mark"),
        pytest.param('{"a":1}'.encode("utf-32-be"), id="utf-32-be-without-mark"),
    ],
)
def test_byte_order_marks_and_other_encodings(octets: bytes) -> None:
    """Only UTF-8 without a mark is read (RFC 8259 section 8.1)."""
    with pytest.raises(StrictJsonError):
        parse_object(octets)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b'{"a":"\xff"}', id="octet-ff"),
        pytest.param(b'{"a":"\xc0\x80"}', id="overlong-nul"),
        pytest.param(b'{"a":"\xc0\xa2"}', id="overlong-quote"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="encoded-surrogate"),
        pytest.param(b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}', id="cesu-8-pair"),
        pytest.param(b'{"a":"\xf4\x90\x80\x80"}', id="beyond-unicode"),
        pytest.param(b'{"a":"\xe2\x82"}', id="cut-short"),
        pytest.param(b'{"\xff":1}', id="in-a-name"),
    ],
)
def test_broken_utf8_is_refused(octets: bytes) -> None:
    """Octets that are no UTF-8 are no JSON."""
    with pytest.raises(StrictJsonError, match="UTF-8"):
        parse_object(octets)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b'{"a":"\\ud800"}', id="high"),
        pytest.param(b'{"a":"\\udc00"}', id="low"),
        pytest.param(b'{"a":"\\udc00\\ud800"}', id="wrong-order"),
        pytest.param(b'{"a":"x\\ud800y"}', id="in-text"),
        pytest.param(b'{"\\ud800":1}', id="in-a-name"),
        pytest.param(b'{"a":[{"b":"\\udfff"}]}', id="nested"),
        pytest.param(b'{"a":"\\uD800"}', id="upper-case"),
        pytest.param(b'{"a":"\\\\\\ud800"}', id="after-an-escaped-backslash"),
    ],
)
def test_lone_surrogates_are_refused(octets: bytes) -> None:
    """An escaped lone surrogate parses, but cannot be written, logged or compared as text."""
    with pytest.raises(StrictJsonError, match="surrogate"):
        parse_object(octets)


def test_backslash_u_that_is_no_escape() -> None:
    """An escaped backslash before `ud800` is text and no surrogate."""
    assert parse_object(b'{"a":"\\\\ud800"}') == {"a": "\\ud800"}


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"  ", id="white-space"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'[{"exp":1}]', id="array-of-an-object"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"1", id="number"),
        pytest.param(b"true", id="true"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"a":1', id="cut-short"),
        pytest.param(b'{"a":1}}', id="closed-twice"),
        pytest.param(b'{"a":1}{"a":1}', id="two-objects"),
        pytest.param(b'{"a":1} x', id="text-after"),
        pytest.param(b'{"a":1}\0', id="nul-after"),
        pytest.param(b'\0{"a":1}', id="nul-before"),
        pytest.param(b'{"a":1,}', id="trailing-comma"),
        pytest.param(b'{"a":[1,]}', id="trailing-comma-in-array"),
        pytest.param(b"{'a':1}", id="single-quotes"),
        pytest.param(b"{a:1}", id="name-without-quotes"),
        pytest.param(b'{"a":1}//', id="comment"),
        pytest.param(b'{/**/"a":1}', id="comment-inside"),
        pytest.param(b'{"a":01}', id="leading-zero"),
        pytest.param(b'{"a":+1}', id="plus-sign"),
        pytest.param(b'{"a":.5}', id="no-digit-before-the-point"),
        pytest.param(b'{"a":1.}', id="no-digit-after-the-point"),
        pytest.param(b'{"a":0x10}', id="hexadecimal"),
        pytest.param(b'{"a":1_000}', id="underscore"),
        pytest.param('{"a":\N{ARABIC-INDIC DIGIT ONE}}'.encode(), id="digit-of-another-script"),
        pytest.param(b'{"a":"\t"}', id="bare-tab-in-a-string"),
        pytest.param(b'{"a":"\n"}', id="bare-line-break-in-a-string"),
        pytest.param(b'{"a":"\0"}', id="bare-nul-in-a-string"),
        pytest.param(b'{"a":"\\x41"}', id="escape-that-json-lacks"),
        pytest.param(b'{"a":"\\u12"}', id="escape-cut-short"),
        pytest.param(b'{"a" 1}', id="no-colon"),
        pytest.param(b'{"a":1 "b":2}', id="no-comma"),
        pytest.param(b'\xc2\xa0{"a":1}', id="no-break-space-before"),
        pytest.param(b'{"a":\x0b1}', id="vertical-tab"),
    ],
)
def test_what_is_no_json_object_is_refused(octets: bytes) -> None:
    """Everything that RFC 8259 does not call an object, the leniencies of other parsers among it."""
    with pytest.raises(StrictJsonError):
        parse_object(octets)


def test_integers_of_many_digits() -> None:
    """Python refuses over 4300 digits with a ValueError of its own; here it is the same refusal as all others."""
    assert parse_object(b'{"a":%s}' % (b"9" * 4300))["a"] == 10**4300 - 1
    with pytest.raises(StrictJsonError, match="not JSON"):
        parse_object(b'{"a":%s}' % (b"9" * 5000))
    with pytest.raises(StrictJsonError, match="not JSON"):
        parse_object(b'{"a":-%s}' % (b"9" * 5000))


def test_float_beyond_range_reads_as_infinity() -> None:
    """1e400 is JSON; Python reads infinity, and the claims refuse it where a time is meant."""
    assert parse_object(b'{"a":1e400}') == {"a": float("inf")}


@pytest.mark.parametrize(
    ("opening", "closing"),
    [pytest.param(b"[", b"]", id="arrays"), pytest.param(b'{"a":', b"}", id="objects")],
)
def test_depth_limit(opening: bytes, closing: bytes) -> None:
    """MAX_DEPTH levels are read, one more is refused."""
    fill = b"0" if opening != b"[" else b""
    deepest = b'{"a":' + opening * (MAX_DEPTH - 1) + fill + closing * (MAX_DEPTH - 1) + b"}"
    assert "a" in parse_object(deepest)
    deeper = b'{"a":' + opening * MAX_DEPTH + fill + closing * MAX_DEPTH + b"}"
    with pytest.raises(StrictJsonError, match="deep"):
        parse_object(deeper)


def test_depth_counts_levels_not_brackets() -> None:
    """Many brackets side by side are no depth, and brackets inside strings are none at all."""
    assert len(parse_object(b'{"a":[' + b"[]," * 500 + b"[]]}")["a"]) == 501
    assert parse_object(b'{"a":"' + b"[{" * 500 + b'"}') == {"a": "[{" * 500}
    assert parse_object(b'{"a":"\\"' + b"[" * 500 + b'\\\\"}') == {"a": '"' + "[" * 500 + "\\"}
    assert parse_object(b'{"' + b"[" * 500 + b'":1}') == {"[" * 500: 1}


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b'{"a":"' + b"]" * 99 + b'","b":' + b"[" * 40 + b"]" * 40 + b"}", id="closers-in-a-string"),
        pytest.param(b'{"a":"\\"]","b":' + b"[" * 40 + b"]" * 40 + b"}", id="escaped-quote"),
        pytest.param(b'{"a":"\\\\","b":' + b"[" * 40 + b"]" * 40 + b"}", id="escaped-backslash-before-quote"),
        pytest.param(b"]" * 100 + b"[" * 100, id="closers-first"),
        pytest.param(b"[" * 100_000, id="never-closed"),
        pytest.param(nested(100_000), id="closed"),
        pytest.param(nested(100_000, b'{"a":', b"}"), id="objects"),
        pytest.param(b'{"a' + b"[" * 100_000, id="inside-a-string-never-closed"),
    ],
)
def test_depth_cannot_be_hidden(octets: bytes) -> None:
    """However the brackets are dressed, neither recursion nor a wrong count comes of it."""
    with pytest.raises(StrictJsonError):
        parse_object(octets)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _JSON, max_size=5)


@settings(deadline=None)
@given(_OBJECTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_every_object_survives(value: dict[str, Any], ascii_only: bool, indent: int | str | None) -> None:
    """Whatever can be written as JSON reads back, escaped or not, indented or not."""
    assert value == parse_object(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode())


_PIECES = rb"""{ } [ ] " : , \ \u d800 dc00 a 1 e - . 0 NaN Infinity null true "a" {"a":""".split()
_PIECES += [b" ", b"\n", b"\xff", b"\xef\xbb\xbf", b"\0"]
_ALMOST_JSON = st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=60), _ALMOST_JSON, _ALMOST_JSON.map(lambda octets: b'{"a":' + octets + b"}")))
@example(b'{"a":' + b"1" * 4301 + b"}")
def test_any_octets_give_an_object_or_the_one_exception(octets: bytes) -> None:
    """Never another exception; and what is read, `json` reads the same."""
    try:
        value = parse_object(octets)
    except StrictJsonError:
        return
    assert json.loads(octets) == value
    assert octets[:1] in b"{ \t\r\n"
