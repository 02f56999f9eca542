"""Request targets: one reading, or none."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwsgate.core.policy import Router
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.request_target import path_segments, query_values
from unit_material import route


def refusal(target: bytes) -> Rejection:
    """The rejection of a target."""
    with pytest.raises(Rejection) as caught:
        path_segments(target)
    return caught.value


@pytest.mark.parametrize(
    ("target", "segments"),
    [
        pytest.param(b"/", ("",), id="root"),
        pytest.param(b"/a", ("a",), id="segment"),
        pytest.param(b"/a/", ("a", ""), id="trailing-slash"),
        pytest.param(b"/a/b", ("a", "b"), id="segments"),
        pytest.param(b"/a?b=c", ("a",), id="query"),
        pytest.param(b"/a?", ("a",), id="empty-query"),
        pytest.param(b"/?a", ("",), id="root-with-query"),
        pytest.param(b"/a?b?c/../d//e", ("a",), id="anything-in-query"),
        pytest.param(b"/a?b=%00%2F..", ("a",), id="escapes-in-query"),
        pytest.param(b"/%61", ("a",), id="escaped-letter"),
        pytest.param(b"/%7e%2D%5f%2E1", ("~-_.1",), id="escaped-unreserved"),
        pytest.param(b"/%c3%a9", ("%C3%A9",), id="small-hex"),
        pytest.param(b"/%C3%A9", ("%C3%A9",), id="large-hex"),
        pytest.param(b"/a%20b", ("a%20b",), id="escaped-space"),
        pytest.param(b"/a%3Fb", ("a%3Fb",), id="escaped-question-mark"),
        pytest.param(b"/a%23b", ("a%23b",), id="escaped-hash"),
        pytest.param(b"/%2525", ("%2525",), id="escaped-percent"),
        pytest.param(b"/%252F", ("%252F",), id="escaped-escape-of-a-slash"),
        pytest.param(b"/...", ("...",), id="three-dots"),
        pytest.param(b"/.a/a./..a", (".a", "a.", "..a"), id="dots-and-letters"),
        pytest.param(b"/!$&'()*+,=:@", ("!$&'()*+,=:@",), id="reserved-in-segments"),
    ],
)
def test_segments(target: bytes, segments: tuple[str, ...]) -> None:
    """Paths that every upstream reads alike, normalised (RFC 3986 section 6.2.2)."""
    assert segments == path_segments(target)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"a", id="no-slash"),
        pytest.param(b"*", id="asterisk-form"),
        pytest.param(b"?a", id="query-only"),
        pytest.param(b"http://evil/a", id="absolute-form"),
        pytest.param(b"evil:80", id="authority-form"),
        pytest.param(b"//evil/a", id="double-slash-at-start"),
        pytest.param(b"/a//b", id="double-slash"),
        pytest.param(b"/a//", id="double-slash-at-end"),
        pytest.param(b"//", id="two-slashes"),
        pytest.param(b"/.", id="dot"),
        pytest.param(b"/..", id="dots"),
        pytest.param(b"/./", id="dot-and-slash"),
        pytest.param(b"/a/../b", id="dots-inside"),
        pytest.param(b"/a/..?b", id="dots-before-query"),
        pytest.param(b"/%2e", id="escaped-dot"),
        pytest.param(b"/%2E%2e", id="escaped-dots"),
        pytest.param(b"/.%2e/a", id="half-escaped-dots"),
        pytest.param(b"/a/..;x/b", id="dots-with-parameter"),
        pytest.param(b"/a/.;/b", id="dot-with-empty-parameter"),
        pytest.param(b"/%2e%2e;x=y", id="escaped-dots-with-parameter"),
        pytest.param(b"/%252e%252e", id="escaped-escape-of-dots"),
        pytest.param(b"/a/..%252fb", id="dots-and-escaped-escape-of-a-slash"),
        pytest.param(b"/a/..%255cb", id="dots-and-escaped-escape-of-a-backslash"),
        pytest.param(b"/a%2fb", id="escaped-slash"),
        pytest.param(b"/a%2Fb", id="escaped-slash-large-hex"),
        pytest.param(b"/%2F", id="escaped-slash-alone"),
        pytest.param(b"/a%5cb", id="escaped-backslash"),
        pytest.param(b"/..%5c", id="dots-and-escaped-backslash"),
        pytest.param(b"/a\\b", id="backslash"),
        pytest.param(b"/a%00", id="escaped-nul"),
        pytest.param(b"/a%0a", id="escaped-line-feed"),
        pytest.param(b"/a%0d%0aX:1", id="escaped-crlf"),
        pytest.param(b"/a%09", id="escaped-tab"),
        pytest.param(b"/a%1f", id="escaped-control-character"),
        pytest.param(b"/a%7F", id="escaped-delete"),
        pytest.param(b"/a\x00", id="nul"),
        pytest.param(b"/a\n", id="line-feed-at-end"),
        pytest.param(b"/a\r\nX: 1", id="crlf"),
        pytest.param(b"/a b", id="space"),
        pytest.param(b"/a ", id="space-at-end"),
        pytest.param(b"/a\tb", id="tab"),
        pytest.param(b"/a\x7f", id="delete"),
        pytest.param(b"/a#b", id="hash"),
        pytest.param(b"/a#", id="hash-at-end"),
        pytest.param(b"/a?b#c", id="hash-in-query"),
        pytest.param(b"/a?b c", id="space-in-query"),
        pytest.param(b"/a?b\n", id="line-feed-after-query"),
        pytest.param(b"/a?\x00", id="nul-in-query"),
        pytest.param(b"/a?\xe9", id="latin-1-in-query"),
        pytest.param(b"/a?\x7f", id="delete-in-query"),
        pytest.param(b"/%", id="percent"),
        pytest.param(b"/%4", id="half-an-escape"),
        pytest.param(b"/%zz", id="no-escape"),
        pytest.param(b"/%u002e", id="escape-of-microsoft"),
        pytest.param(b"/\xe9", id="latin-1"),
        pytest.param("/é".encode(), id="utf-8"),
        pytest.param(b'/"', id="quotation-mark"),
        pytest.param(b"/<a>", id="angle-brackets"),
        pytest.param(b"/a|b", id="bar"),
        pytest.param(b"/^", id="caret"),
        pytest.param(b"/`", id="backtick"),
        pytest.param(b"/[a]", id="brackets"),
        pytest.param(b"/{a}", id="braces"),
    ],
)
def test_refused(target: bytes) -> None:
    """What servers, proxies and frameworks are known to read in more than one way."""
    rejection = refusal(target)
    assert rejection.reason is Reason.REQUEST_UNSAFE
    assert rejection.detail.isprintable()


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/admin", id="plain"),
        pytest.param(b"/%61dmin", id="escaped"),
        pytest.param(b"/admin?x", id="query"),
        pytest.param(b"/x/../admin", id="dots"),
        pytest.param(b"/./admin", id="dot"),
        pytest.param(b"//admin", id="double-slash"),
        pytest.param(b"/x/..;/admin", id="dots-with-parameter"),
        pytest.param(b"/%2e/admin", id="escaped-dot"),
        pytest.param(b"/x%2f..%2fadmin", id="escaped-slashes"),
        pytest.param(b"/x/..%5cadmin", id="escaped-backslash"),
        pytest.param(b"/admin%00", id="escaped-nul"),
        pytest.param(b"/admin#x", id="hash"),
    ],
)
def test_no_spelling_leads_past_a_route(target: bytes) -> None:
    """What an upstream may take for /admin does not fall to a laxer route."""
    router = Router()
    router.add(route("/admin", name="admin"))
    router.add(route("/**", name="rest"))
    try:
        found = router.match("GET", path_segments(target))
    except Rejection as rejection:
        assert rejection.reason is Reason.REQUEST_UNSAFE
    else:
        assert found is not None
        assert found.name == "admin"


@given(st.lists(st.text("abcXYZ019-_~é日 ?#%&=+:@!$'()*,", min_size=1), min_size=1, max_size=5))
def test_escaped_segments_are_found_again(segments: list[str]) -> None:
    """Segments that a client escapes come out as they went in, however it escapes them."""
    for safe in ("", "!$&'()*+,=:@"):
        seen = path_segments("".join(f"/{quote(segment, safe=safe)}" for segment in segments).encode())
        assert segments == [unquote_to_bytes(segment).decode() for segment in seen]


@given(
    st.binary(max_size=20).map(b"/".__add__)
    | st.text("/.;%2eEfF5cC0a?#\\{} ", max_size=14).map(lambda text: f"/{text}".encode())
)
def test_any_target(target: bytes) -> None:
    """Whatever the octets: safe segments or `request_unsafe`, and never another exception."""
    try:
        segments = path_segments(target)
    except Rejection as rejection:
        assert rejection.reason is Reason.REQUEST_UNSAFE
        return
    assert "" not in segments[:-1]
    for segment in segments:
        decoded = unquote_to_bytes(segment)
        assert segment.isascii()
        assert segment not in {".", ".."}
        assert decoded not in {b".", b".."}
        assert not set(decoded) & {0, 10, 13, ord("/"), ord("\\")}
    assert segments == path_segments(b"/" + "/".join(segments).encode()), "normalising twice changes nothing"


# Queries


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(b"", [], id="none"),
        pytest.param(b"?", [], id="empty"),
        pytest.param(b"?a=1", [b"1"], id="one"),
        pytest.param(b"?a=1&a=2", [b"1", b"2"], id="repeated"),
        pytest.param(b"?b=1&a=2&c=3", [b"2"], id="among-others"),
        pytest.param(b"?a", [b""], id="without-value"),
        pytest.param(b"?a=", [b""], id="empty-value"),
        pytest.param(b"?ab=1&ba=1", [], id="whole-name"),
        pytest.param(b"?%61=1", [b"1"], id="escaped-name"),
        pytest.param(b"?a=%31%2B", [b"1+"], id="escaped-value"),
        pytest.param(b"?a=1+2", [b"1 2"], id="plus-is-space"),
        pytest.param(b"?a=b=c", [b"b=c"], id="equals-sign-in-value"),
        pytest.param(b"?&&a=1&", [b"1"], id="empty-fields"),
        pytest.param(b"?a=%FF", [b"\xff"], id="not-utf-8"),
        pytest.param(b"?x=?a=1", [], id="second-question-mark"),
        pytest.param(b"?a=1&%61=2", [b"1", b"2"], id="repeated-by-escape"),
    ],
)
def test_query_values(query: bytes, expected: list[bytes]) -> None:
    """Every value of one parameter, decoded; that there is more than one is for the caller to see."""
    assert expected == query_values(b"/a" + query, "a")


@pytest.mark.parametrize("query", [b"?a=1;a=2", b"?a=1;b=2", b"?b=1;a=2"])
def test_semicolons_do_not_hide_a_parameter(query: bytes) -> None:
    """Some servers split queries at semicolons as well: no value there may be taken for the one."""
    try:
        found = query_values(b"/" + query, "a")
    except Rejection as rejection:
        assert rejection.reason == Reason.REQUEST_UNSAFE
    else:
        assert found not in ([b"1"], [b"2"])


def test_name_with_letters_beyond_ascii() -> None:
    """A policy may name any parameter."""
    assert query_values(b"/?%C3%A9=1", "é") == [b"1"]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "é", "a b"]), st.text(st.characters(codec="utf-8"))), max_size=6))
def test_any_query(fields: list[tuple[str, str]]) -> None:
    """What a client encodes is read again, in order."""
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields)
    for wanted in ("a", "é", "a b"):
        expected = [value.encode() for name, value in fields if name == wanted]
        assert expected == query_values(f"/?{query}".encode(), wanted)
