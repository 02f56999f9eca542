"""What is asked of headers in a lean process has mitmproxy's own answers, errors included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.net.http import http1, validate
from mitmproxy.net.http.http1 import read

from jwsgate.adapters import lean_http

NAMES = st.sampled_from(
    [
        *(b"Host", b"Content-Length", b"content-length", b"CONTENT-length", b"Transfer-Encoding", b"transfer-encoding"),
        *(b"Connection", b"connection", b"Accept", b"content_length", b"bad name", b"", b"caf\xe9"),
        *(b"x" * 14, b"x" * 200),
    ]
)
VALUES = st.sampled_from(
    [
        *(b"0", b"00", b"7", b"07", b"+7", b"-1", b" 7", b"7 ", b"7,7", b"", b"\xd9\xa7"),
        *(b"9" * 18, b"9" * 19, b"9" * 5000),
        *(b"chunked", b"Chunked", b"gzip, chunked", b"gzip", b"identity", b"x", b"\xe2\x84\xaa"),
        *(b"keep-alive", b"Keep-Alive", b"close", b"Close", b"close, te", b"keep-alive, close", b"upgrade"),
    ]
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/3", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1\n", b""]
)
METHODS = st.sampled_from(["GET", "HEAD", "head", "POST", "CONNECT", "connect"])
STATUSES = st.sampled_from([100, 101, 199, 200, 204, 299, 304, 404, 502])


def outcome(function: Callable[..., Any], *arguments: Any) -> object:
    """What a call returns, with its type, or the error that it raises."""
    try:
        found = function(*arguments)
    except ValueError as error:
        return type(error), str(error)
    return type(found), found


def a_request(method: str, version: bytes, fields: list[tuple[bytes, bytes]]) -> http.Request:
    """A request with these headers only."""
    request = http.Request.make(method, "http://a.test/")
    request.data.headers = http.Headers(fields)
    request.data.http_version = version
    return request


def a_response(status: int, version: bytes, fields: list[tuple[bytes, bytes]]) -> http.Response:
    """A response with these headers only."""
    response = http.Response.make(status)
    response.data.headers = http.Headers(fields)
    response.data.http_version = version
    return response


@given(METHODS, STATUSES, FIELDS, FIELDS)
@example("GET", 200, [(b"Content-Length", b"7")], [(b"content-length", b"7"), (b"Content-Length", b"8")])
@example("POST", 200, [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"7")], [])
def test_body_size(method: str, status: int, asked: list[tuple[bytes, bytes]], told: list[tuple[bytes, bytes]]) -> None:
    """How long a body is, and when that cannot be told."""
    request, response = a_request(method, b"HTTP/1.1", asked), a_response(status, b"HTTP/1.1", told)
    assert outcome(lean_http._body_size, request) == outcome(read.expected_http_body_size, request)
    assert outcome(lean_http._body_size, request, response) == outcome(read.expected_http_body_size, request, response)


@given(VERSIONS, FIELDS)
def test_whether_a_connection_closes(version: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """By the version and the header, however it is spelled."""
    headers, text = http.Headers(fields), version.decode()
    assert lean_http._closes(text, headers) == read.connection_close(text, headers)


@given(VERSIONS)
def test_versions(version: bytes) -> None:
    """What is no version of HTTP is an error."""
    assert outcome(lean_http._check_version, version) == outcome(lean_http._original_version, version)


@given(METHODS, STATUSES, VERSIONS, FIELDS)
def test_validation(method: str, status: int, version: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """Names and framing are as strict, whatever was validated before."""
    for message in (a_request(method, version, fields), a_response(status, version, fields)):
        expected = outcome(validate.validate_headers, message)
        assert outcome(lean_http._validate, message) == expected
        assert outcome(lean_http._validate, message) == expected


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come from clients: neither many nor long ones stay, and framing never counts as known."""
    monkeypatch.setattr(lean_http, "_known_names", set())
    for number in range(2000):
        lean_http._validate(a_request("GET", b"HTTP/1.1", [(b"X-%d" % number, b"1")]))
    assert len(lean_http._known_names) == 1000
    lean_http._known_names.clear()
    lean_http._validate(a_request("GET", b"HTTP/1.1", [(b"x" * 65, b"1"), (b"Transfer-Encoding", b"chunked")]))
    lean_http._validate(a_request("GET", b"HTTP/1.1", [(b"x" * 65, b"1"), (b"Content-Length", b"1")]))
    assert lean_http._known_names == set()


def test_this_process_is_untouched() -> None:
    """No test here leaves a replacement behind for others."""
    assert http1.expected_http_body_size is read.expected_http_body_size
    assert read.raise_if_http_version_unknown is lean_http._original_version
