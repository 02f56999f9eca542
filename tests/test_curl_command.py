"""Curl commands as people copy them: the request that curl would send, or words on why nobody can tell."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jwsgate.files.curl_command import curl_text, read_curl
from jwsgate.files.curl_options import FLAGS, SHORT_FLAGS, SHORT_WITH_VALUE, WITH_VALUE
from jwsgate.files.problems import Unfit


@pytest.mark.parametrize(
    ("text", "method", "target", "headers", "body"),
    [
        pytest.param("curl http://h/p", "GET", "/p", "Host: h", b"", id="plain"),
        pytest.param("curl h:8080", "GET", "/", "Host: h:8080", b"", id="no-scheme"),
        pytest.param("curl -sXPUT 'http://u:p@h/p?q=1#f'", "PUT", "/p?q=1", "Host: h", b"", id="letters-together"),
        pytest.param("curl -I http://h/", "HEAD", "/", "Host: h", b"", id="head"),
        pytest.param(
            "curl --location --request POST 'http://h/p' \\\n  --header 'A: b' \\\n  --data-raw 'x=@y'",
            "POST", "/p", "Host: h|A: b|Content-Type: application/x-www-form-urlencoded|Content-Length: 4", b"x=@y",
            id="postman",
        ),
        pytest.param(
            "curl 'http://h/p' -H 'content-type: text/plain' --data-binary $'a\\nb\\u0021\\x41\\'' --compressed",
            "POST", "/p", "Host: h|content-type: text/plain|Content-Length: 6", b"a\nb!A'", id="browser",
        ),
        pytest.param(
            "curl http://h/p -G -d a=1 --data-urlencode 'b=c d'", "GET", "/p?a=1&b=c+d", "Host: h", b"", id="get"
        ),
        pytest.param(
            "curl --json '{}' http://h", "POST", "/",
            "Host: h|Accept: application/json|Content-Type: application/json|Content-Length: 2", b"{}", id="json",
        ),
        pytest.param(
            "curl -b 'jwt=a' -u me:secret --oauth2-bearer t -A x -Hhost:g http://h", "GET", "/",
            "Cookie: jwt=a|Authorization: Basic|Authorization: Bearer t|User-Agent: x|host: g", b"", id="headers",
        ),
        pytest.param("curl -d @f http://h", "POST", "/", "Host: h", None, id="file"),
        pytest.param("curl -F a=b http://h", "POST", "/", "Host: h", None, id="form"),
        pytest.param("curl http://h -X GET --data-raw 'a=5$' -H 'A: b'", "GET", "/",
            "Host: h|A: b|Content-Type: application/x-www-form-urlencoded|Content-Length: 4", b"a=5$", id="dollar"),
        pytest.param("""curl http://h -H "A: b$'c'" """, "GET", "/", "Host: h|A: b$'c'", b"", id="dollar-in-quotes"),
        pytest.param("curl http://h -H 'A: b\\\nc'", "GET", "/", "Host: h|A: b\\\nc", b"", id="backslash-in-quotes"),
        pytest.param("curl --netrc-file n --etag-save e --dns-ipv4-addr ::1 http://h/p", "GET", "/p", "Host: h", b"",
            id="options-with-a-value"),
        pytest.param("curl http://h/x --request-target /p?q", "GET", "/p?q", "Host: h", b"", id="request-target"),
        pytest.param("curl 'http://h/p?a' --url-query 'b=c d' --url-query +e=%20", "GET", "/p?a&b=c+d&e=%20", "Host: h",
            b"", id="url-query"),
        pytest.param("curl http://h/p -H 'A: b'; echo", "GET", "/p", "Host: h|A: b", b"", id="semicolon"),
        pytest.param("curl http://h/p|jq .", "GET", "/p", "Host: h", b"", id="pipe"),
        pytest.param("curl http://h/p >out 2>x -H A:b 2>&1", "GET", "/p", "Host: h|A: b", b"", id="redirections"),
        pytest.param("$ curl http://h/p", "GET", "/p", "Host: h", b"", id="prompt"),
        pytest.param("#!/bin/sh\n# my call\ncurl http://h/p # here", "GET", "/p", "Host: h", b"", id="comments"),
        pytest.param("cd x && time A=b curl http://h/p", "GET", "/p", "Host: h", b"", id="not-first"),
        pytest.param("JWS=a.b.c\nexport ID='d e'\ncurl http://h/p -H \"jwt: $JWS\" -H \"X: ${ID}\"", "GET", "/p",
            "Host: h|jwt: a.b.c|X: d e", b"", id="variables-of-the-text"),
        pytest.param("curl http://h/p\n  -H 'A: b'\n  -H 'C: d'", "GET", "/p", "Host: h|A: b|C: d", b"",
            id="lost-continuations"),
        pytest.param("curl http://h/p \\ \n -H 'A: b' ^\n -H 'C: d' `\n -H 'E: f'", "GET", "/p",
            "Host: h|A: b|C: d|E: f", b"", id="continuations"),
        pytest.param("curl http://h/p \\\n> -H 'A: b'", "GET", "/p", "Host: h|A: b", b"", id="continuation-prompt"),
        pytest.param("curl http://h/p -H 'X-A:' -H 'Host:' -H 'X-B;'", "GET", "/p", "X-B: ", b"", id="headers-removed"),
        pytest.param("curl -T f http://h/", "PUT", "/", "Host: h", None, id="upload"),
        pytest.param(
            "/usr/bin/curl -o out --cacert ca.pem -m 5 --retry 3 -w '%{http_code}' http://h/a | jq .", "GET", "/a",
            "Host: h", b"", id="options-without-a-part",
        ),
    ],
)  # fmt: skip
def test_curl(text: str, method: str, target: str, headers: str, body: bytes | None) -> None:
    """The request that curl sends."""
    facts, octets = read_curl(text)
    told = "|".join(f"{name.decode()}: {value.decode()}" for name, value in facts.headers)
    assert (method, target, headers, body) == (facts.method, facts.target.decode(), told, octets)


def test_octets_of_ansi_c_quotes() -> None:
    r"""In bash, \x is an octet and \u a character, whatever lies between."""
    facts, body = read_curl(r"""curl http://h -H $'A: \xc3\xa9\u00e9\303\251é\q\ud800' -d $'\xff'""")
    assert facts.headers[1][1] == "éééé\\q".encode() + b"\xed\xa0\x80"
    assert body == b"\xff"


@pytest.mark.parametrize(
    "read",
    [
        pytest.param("curl http://h/é".encode(), id="utf-8"),
        pytest.param("\ufeffcurl http://h/é".encode(), id="byte-order-mark"),
        pytest.param("curl http://h/é\r\n".encode("utf-16"), id="powershell"),
        pytest.param("\ufeffcurl http://h/é".encode("utf-16-be"), id="big-endian"),
    ],
)
def test_encodings(read: bytes) -> None:
    """Of the files that editors and PowerShell write."""
    assert read_curl(curl_text(read))[0].target == "/é".encode()


def test_octets_that_are_no_text() -> None:
    """What is no UTF-8 comes through as it was."""
    assert read_curl(curl_text(b"curl http://h/\xff"))[0].target == b"/\xff"


def test_options_are_told_apart() -> None:
    """No option stands in both lists, and each letter is one of them."""
    assert not WITH_VALUE & FLAGS
    assert set(SHORT_WITH_VALUE.values()) <= WITH_VALUE
    assert not SHORT_FLAGS & set(SHORT_WITH_VALUE)


def test_megabytes_do_not_take_minutes() -> None:
    """A call with a large body, as browsers copy it, or a JWS gone wrong."""
    facts, _ = read_curl("curl http://h -H 'a: " + "b" * 5_000_000 + "'")
    assert len(facts.headers[1][1]) == 5_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "does not begin with curl", id="empty"),
        pytest.param("curl", "has no URL", id="nothing"),
        pytest.param("curl 'http://h", "cannot be split into words", id="quote"),
        pytest.param("curl http://h -H", "ends after -H", id="cut"),
        pytest.param("curl http://h --next http://i", "several requests", id="next"),
        pytest.param("curl http://h -H @f", "takes headers from a file", id="headers-of-a-file"),
        pytest.param('curl ^"http://h^"', "Windows", id="cmd"),
        pytest.param("curl http://h --netrc-fil x", "has the option --netrc-fil, which is not known here", id="typo"),
        pytest.param("curl -9 http://h", "has the option -9, which is not known here", id="letter"),
        pytest.param("curl --header='A: b' http://h", "has --header=, and curl has no --option=value", id="equals"),
        pytest.param("curl --url=http://h", "has --url=, and curl has no --option=value", id="url-equals"),
        pytest.param("curl --request=GET http://h", "has --request=, and curl has no", id="request-equals"),
        pytest.param("curl --expand-url '{{u}}'", "--expand-url, which takes variables of curl's own", id="expand"),
        pytest.param("curl -K f http://h", "takes options from a file", id="config"),
        pytest.param("curl http://h --url-query @f", "takes a query from a file", id="query-of-a-file"),
        pytest.param("curl http://h http://i", "has two URLs, http://h and http://i", id="two-urls"),
        pytest.param("curl http://h\ncurl http://i", "holds several calls of curl", id="two-lines"),
        pytest.param("curl http://h; curl http://i", "holds several calls of curl", id="two-calls"),
        pytest.param("curl \u2013H 'A: b' http://h", "has a dash in place of a hyphen", id="dash"),
        pytest.param("curl \u201chttp://h\u201d", "has typographic quotes or blanks in it", id="quotes"),
        pytest.param("curl\u00a0-H 'A: b' http://h", "does not begin with curl", id="no-break-space"),
        pytest.param('curl http://h -H "jwt: $JWS"', r"holds \$JWS, whose value only your shell knows", id="variable"),
        pytest.param("curl http://h/$ID", r"holds \$ID, whose value only your shell knows", id="bare-variable"),
        pytest.param('curl "http://h?price=5$1"', r"holds \$1, and explain runs nothing", id="parameter"),
        pytest.param(
            'curl http://h -H "jwt: $(jwsgate sign --key client.key)"',
            r"holds \$\(jwsgate sign --key client.key\), and explain runs nothing",
            id="substitution",
        ),
        pytest.param("curl http://h -H jwt:`cat jwt`", "holds `cat jwt`, and explain runs nothing", id="backticks"),
        pytest.param(
            'JWS=$(jwsgate sign --key "client.key" sub=me)\ncurl http://h -H "jwt: $JWS"',
            r"holds \$\(jwsgate sign --key",
            id="two-line-form",
        ),
        pytest.param("curl http://h?a=1&b=2 -H 'A: b'", "has a & in its URL at which a shell ends", id="ampersand"),
    ],
)
def test_no_curl(text: str, message: str) -> None:
    """What cannot be read is told, not guessed at."""
    with pytest.raises(Unfit, match=message):
        read_curl(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["curl", "http://h/", "-H", "-d", "--json", "-X", "$'\\ud800'", "'", "\\", "a: b", "-", "--"])
    )
)
def test_any_curl_command(words: list[str]) -> None:
    """Whatever the text, a request or words on what is wrong with it."""
    with contextlib.suppress(Unfit):
        read_curl(" ".join(["curl", *words]))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_as_curl_command(text: str) -> None:
    """The same for any characters."""
    for before in ("", "curl http://h/ -H "):
        with contextlib.suppress(Unfit):
            read_curl(before + text)
