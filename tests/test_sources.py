"""Where a request carries its values: one place, one spelling, nothing that two readers read differently."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import material
from feature_material import (
    CLIENT_ID,
    CLIENT_ID_SOURCE,
    NOW,
    a_request,
    a_route,
    a_snapshot,
    an_application,
    certificate_for,
    good_claims,
    reason_of,
)
from jwsgate.core.decision import decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.sources import Source, check_request, single_value

MISSING, REPEATED = Reason.CLIENT_ID_MISSING, Reason.CLIENT_ID_REPEATED
UNSAFE = Reason.REQUEST_UNSAFE
HEADER_CAP = 2 * 1024 * 1024
QUERY = Source("query", "client_id")
BEARER = Source("header", "Authorization", "Bearer")
KEY = material.private_key("ed25519", "feature-client")

type Fields = list[tuple[bytes, bytes]]


def facts(fields: Fields | None = None, *, method: str = "GET", target: bytes = b"/x") -> RequestFacts:
    """A request with just these headers."""
    return RequestFacts(method, target, tuple(fields or ()))


def value_in(request: RequestFacts, source: Source) -> bytes | Reason:
    """The value of a source, or why there is none."""
    try:
        return single_value(request, source, MISSING, REPEATED)
    except Rejection as rejection:
        return rejection.reason


def check(request: RequestFacts) -> Reason | None:
    """Why a request is refused whatever its route; None when it is not."""
    try:
        check_request(request)
    except Rejection as rejection:
        return rejection.reason
    return None


# Headers


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"X-IBM-Client-Id", id="as-documented"),
        pytest.param(b"x-ibm-client-id", id="lower"),
        pytest.param(b"X-IBM-CLIENT-ID", id="upper"),
        pytest.param(b"x-Ibm-cLIENT-iD", id="mixed"),
    ],
)
def test_header_name_in_any_case(name: bytes) -> None:
    """RFC 9110 section 5.1: header names are case-insensitive."""
    assert value_in(facts([(b"Host", b"h"), (name, b"abc")]), CLIENT_ID_SOURCE) == b"abc"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"abc", b"abc", id="plain"),
        pytest.param(b" \t abc\t ", b"abc", id="outer-white-space"),
        pytest.param(b"a b\tc", b"a b\tc", id="inner-white-space"),
        pytest.param(b"", MISSING, id="empty"),
        pytest.param(b" \t ", MISSING, id="white-space-only"),
        pytest.param(b"a,b", b"a,b", id="comma-joined-is-one-value"),
        pytest.param(b"\xa0abc\xa0", b"\xa0abc\xa0", id="latin-1-space-stays"),
        pytest.param(b"\x0babc\x0c", b"\x0babc\x0c", id="other-white-space-stays"),
        pytest.param(b'"abc"', b'"abc"', id="quotes-stay"),
    ],
)
def test_header_value(value: bytes, expected: bytes | Reason) -> None:
    """Only optional white space is removed (RFC 9110 section 5.6.3), and only at the ends."""
    assert value_in(facts([(b"X-IBM-Client-Id", value)]), CLIENT_ID_SOURCE) == expected


def test_header_missing() -> None:
    """No header, or only others, is missing."""
    others = [(b"X-IBM-Client-Idx", b"a"), (b"XIBMClientId", b"b"), (b"IBM-Client-Id", b"c"), (b"X-IBM-Client", b"d")]
    assert value_in(facts(), CLIENT_ID_SOURCE) == MISSING
    assert value_in(facts(others), CLIENT_ID_SOURCE) == MISSING


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(b"X-IBM-Client-Id", b"a"), (b"X-IBM-Client-Id", b"b")], id="two-values"),
        pytest.param([(b"X-IBM-Client-Id", b"a"), (b"X-IBM-Client-Id", b"a")], id="same-value"),
        pytest.param([(b"X-IBM-Client-Id", b"a"), (b"Host", b"h"), (b"x-ibm-client-id", b"b")], id="other-case"),
        pytest.param([(b"X-IBM-Client-Id", b"a"), (b"X-IBM-Client-Id", b"")], id="one-empty"),
        pytest.param([(b"X-IBM-Client-Id", b""), (b"X-IBM-Client-Id", b"")], id="both-empty"),
        pytest.param([(b"X-IBM-Client-Id", b"a")] * 100, id="hundred"),
    ],
)
def test_header_repeated(fields: Fields) -> None:
    """Twice is refused, even where both say the same: which one counts would be the upstream's guess."""
    assert value_in(facts(fields), CLIENT_ID_SOURCE) == REPEATED


LOOK_ALIKES = [
    b"X_IBM_Client_Id",
    b"X-IBM-Client_Id",
    b"X.IBM.Client.Id",
    b"x.ibm-client_id",
    b"X_IBM-CLIENT-ID",
]


@pytest.mark.parametrize("imitation", LOOK_ALIKES, ids=lambda name: name.decode())
@pytest.mark.parametrize("order", ["alone", "before", "after"])
def test_look_alike_headers(imitation: bytes, order: str) -> None:
    """CGI and WSGI fold these into the same variable as the true header, so that any of them is refused."""
    true: Fields = [] if order == "alone" else [(b"X-IBM-Client-Id", b"abc")]
    false: Fields = [(imitation, b"victim")]
    fields = false + true if order == "before" else true + false
    assert value_in(facts(fields), CLIENT_ID_SOURCE) == UNSAFE


@pytest.mark.parametrize(
    ("name", "sent", "expected"),
    [
        pytest.param("x_client", b"x_client", b"abc", id="underscore-itself"),
        pytest.param("x_client", b"X_CLIENT", b"abc", id="underscore-upper"),
        pytest.param("x_client", b"x-client", UNSAFE, id="hyphen-for-underscore"),
        pytest.param("x.client", b"x.client", b"abc", id="dot-itself"),
        pytest.param("x.client", b"x_client", UNSAFE, id="underscore-for-dot"),
        pytest.param("jwt", b"jwt", b"abc", id="no-punctuation"),
        pytest.param("jwt", b"jwt-", MISSING, id="longer"),
        pytest.param("jwt", b"j-wt", MISSING, id="other"),
    ],
)
def test_source_name_with_punctuation(name: str, sent: bytes, expected: bytes | Reason) -> None:
    """A policy's own name may have any punctuation; the others imitate it."""
    assert value_in(facts([(sent, b"abc")]), Source("header", name)) == expected


def test_header_source_reads_no_query() -> None:
    """A query parameter of that name is not the header."""
    assert value_in(facts(target=b"/x?X-IBM-Client-Id=abc"), CLIENT_ID_SOURCE) == MISSING


# Query parameters


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(b"/x?client_id=abc", b"abc", id="alone"),
        pytest.param(b"/x?a=1&client_id=abc&b=2", b"abc", id="between"),
        pytest.param(b"/x?client%5Fid=abc", b"abc", id="name-encoded"),
        pytest.param(b"/x?%63%6c%69ent_id=%61%62%63", b"abc", id="both-encoded"),
        pytest.param(b"/x?client_id=a+b%20c%2B", b"a b c+", id="plus-is-space"),
        pytest.param(b"/x?client_id=a=b", b"a=b", id="second-equals"),
        pytest.param(b"/x?client_id=a?b", b"a?b", id="second-question-mark"),
        pytest.param(b"/x", MISSING, id="no-query"),
        pytest.param(b"/x?", MISSING, id="empty-query"),
        pytest.param(b"/x?client_id", MISSING, id="no-equals"),
        pytest.param(b"/x?client_id=", MISSING, id="empty"),
        pytest.param(b"/x?client_id=%20%09", MISSING, id="white-space"),
        pytest.param(b"/x?Client_Id=abc", UNSAFE, id="other-case"),
        pytest.param(b"/x?client-id=abc", UNSAFE, id="hyphen"),
        pytest.param(b"/x?client_id=a&client_id[]=b", UNSAFE, id="as-php-reads-lists"),
        pytest.param(b"/client_id=abc", MISSING, id="in-the-path"),
        pytest.param(b"/x?client_id=a&client_id=b", REPEATED, id="repeated"),
        pytest.param(b"/x?client_id=a&client_id=a", REPEATED, id="repeated-alike"),
        pytest.param(b"/x?client_id=a&client_id", REPEATED, id="repeated-without-equals"),
        pytest.param(b"/x?client_id=a&client%5fid=b", REPEATED, id="repeated-encoded"),
        pytest.param(b"/x?client_id=a&client_id=", REPEATED, id="repeated-empty"),
        pytest.param(b"/x?client_id=a;client_id=b", UNSAFE, id="semicolon-as-separator"),
        pytest.param(b"/x?x=1;client_id=b&client_id=a", UNSAFE, id="semicolon-as-separator-before"),
        pytest.param(b"/x?client_id=a%26client_id=b", b"a&client_id=b", id="encoded-ampersand"),
        pytest.param(b"/x?client_id=a,b", b"a,b", id="comma"),
        pytest.param(b"/x?client_id=%ff", b"\xff", id="not-utf-8"),
        pytest.param(b"/x?client_id=%zz", Reason.REQUEST_UNSAFE, id="not-an-escape"),
    ],
)
def test_query_value(target: bytes, expected: bytes | Reason) -> None:
    """One parameter, decoded as forms are, its name compared exactly."""
    assert value_in(facts(target=target), QUERY) == expected


def test_query_source_reads_no_header() -> None:
    """A header of that name is not the parameter, nor is it in its way."""
    fields = [(b"client_id", b"header"), (b"client-id", b"header")]
    assert value_in(facts(fields), QUERY) == MISSING
    assert value_in(facts(fields, target=b"/x?client_id=query"), QUERY) == b"query"


# Schemes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"Bearer abc", b"abc", id="usual"),
        pytest.param(b"bearer abc", b"abc", id="lower"),
        pytest.param(b"BEARER abc", b"abc", id="upper"),
        pytest.param(b"Bearer   abc ", b"abc", id="more-spaces"),
        pytest.param(b"Bearer a b", b"a b", id="inner-space"),
        pytest.param(b"Bearer", MISSING, id="scheme-only"),
        pytest.param(b"Bearer ", MISSING, id="scheme-and-space"),
        pytest.param(b"abc", MISSING, id="no-scheme"),
        pytest.param(b"Basic abc", MISSING, id="other-scheme"),
        pytest.param(b"Bearerabc", MISSING, id="no-space"),
        pytest.param(b"Bearer\tabc", MISSING, id="tab-for-space"),
        pytest.param(b"Bearer: abc", MISSING, id="colon"),
        pytest.param(b"Bearer=abc", MISSING, id="equals"),
        pytest.param(b"xBearer abc", MISSING, id="longer-scheme"),
        pytest.param(b"Bearer, abc", MISSING, id="comma"),
        pytest.param(b"", MISSING, id="empty"),
    ],
)
def test_scheme(value: bytes, expected: bytes | Reason) -> None:
    """RFC 9110 section 11.4: the scheme in any case, spaces, the value."""
    assert value_in(facts([(b"Authorization", value)]), BEARER) == expected


@pytest.mark.parametrize("other", [b"Bearer def", b"Basic Zm9v", b""], ids=["bearer", "basic", "empty"])
def test_scheme_repeated(other: bytes) -> None:
    """Two Authorization headers are refused even when only one of them has the scheme."""
    assert value_in(facts([(b"Authorization", b"Bearer abc"), (b"authorization", other)]), BEARER) == REPEATED


def test_doubled_scheme_is_no_jws() -> None:
    """`Bearer Bearer x` leaves a value with a space, which no JWS has."""
    route = a_route(jws=BEARER)
    snapshot = a_snapshot([an_application(certificate_for(KEY))], route)
    token = material.jws(KEY, good_claims())
    good = a_request(None, (b"Authorization", b"Bearer " + token.encode()))
    doubled = a_request(None, (b"Authorization", b"Bearer Bearer " + token.encode()))
    assert reason_of(decide(snapshot, good, NOW)) == "allowed"
    assert reason_of(decide(snapshot, doubled, NOW)) == Reason.JWS_MALFORMED


# Through the whole decision


@pytest.mark.parametrize(
    ("client_id", "token", "expected"),
    [
        pytest.param("{id}", "{jws}", "allowed", id="good"),
        pytest.param(" {id}\t", "\t{jws} ", "allowed", id="outer-white-space"),
        pytest.param("{id},{id}", "{jws}", Reason.CLIENT_ID_UNKNOWN, id="client-ids-joined"),
        pytest.param("{id}, {id}", "{jws}", Reason.CLIENT_ID_UNKNOWN, id="client-ids-joined-with-space"),
        pytest.param("{ID}", "{jws}", Reason.CLIENT_ID_UNKNOWN, id="client-id-in-capitals"),
        pytest.param("{id}\u00a0", "{jws}", Reason.CLIENT_ID_UNKNOWN, id="no-break-space"),
        pytest.param("", "{jws}", Reason.CLIENT_ID_MISSING, id="client-id-empty"),
        pytest.param("{id}", "{jws},{jws}", Reason.JWS_MALFORMED, id="jws-joined"),
        pytest.param("{id}", "{jws}, {jws}", Reason.JWS_MALFORMED, id="jws-joined-with-space"),
        pytest.param("{id}", "Bearer {jws}", Reason.JWS_MALFORMED, id="jws-with-scheme"),
        pytest.param("{id}", '"{jws}"', Reason.JWS_MALFORMED, id="jws-in-quotes"),
        pytest.param("{id}", " \t", Reason.JWS_MISSING, id="jws-blank"),
    ],
)
def test_spellings_in_a_decision(client_id: str, token: str, expected: Reason | str) -> None:
    """Joined, decorated or re-cased values never stand for the value itself."""
    good = material.jws(KEY, good_claims())
    request = a_request(
        token.replace("{jws}", good),
        client_id=client_id.replace("{id}", CLIENT_ID).replace("{ID}", CLIENT_ID.upper()),
    )
    assert reason_of(decide(a_snapshot([an_application(certificate_for(KEY))]), request, NOW)) == expected


def test_client_id_that_is_not_utf8() -> None:
    """Octets that are no text are nobody's client ID."""
    request = a_request("a.b.c", (b"X-IBM-Client-Id", b"\xff\xfe"), client_id=None)
    snapshot = a_snapshot([an_application(certificate_for(KEY))])
    assert reason_of(decide(snapshot, request, NOW)) == Reason.CLIENT_ID_UNKNOWN


# What is refused on every route


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"keep-alive", None, id="keep-alive"),
        pytest.param(b"close", None, id="close"),
        pytest.param(b"Close", None, id="case"),
        pytest.param(b"TE, close", None, id="te"),
        pytest.param(b" keep-alive ,\tTE ", None, id="white-space"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b",,", None, id="empty-members"),
        pytest.param(b"X-IBM-Client-Id", UNSAFE, id="client-id"),
        pytest.param(b"close, jwt", UNSAFE, id="jws"),
        pytest.param(b"jwt,close", UNSAFE, id="jws-first"),
        pytest.param(b"keep-alive, X-Anything", UNSAFE, id="any-other"),
        pytest.param(b"upgrade", UNSAFE, id="upgrade"),
        pytest.param(b"close;q=1", UNSAFE, id="parameter"),
        pytest.param(b"close jwt", UNSAFE, id="space-separated"),
        pytest.param(b"\xa0close", UNSAFE, id="latin-1-space"),
        pytest.param(b'"close"', UNSAFE, id="quoted"),
    ],
)
@pytest.mark.parametrize("name", [b"Connection", b"connection", b"CONNECTION"], ids=lambda name: name.decode())
def test_connection_header(name: bytes, value: bytes, expected: Reason | None) -> None:
    """RFC 9110 section 7.6.1: an upstream drops what Connection names, after the gate relied on it."""
    assert check(facts([(b"Host", b"h"), (name, value)])) == expected


def test_second_connection_header_counts_too() -> None:
    """Each Connection header is looked at, not only the first."""
    assert check(facts([(b"Connection", b"close"), (b"connection", b"jwt")])) == UNSAFE


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"], ids=lambda name: name.decode())
@pytest.mark.parametrize("value", [b"websocket", b"h2c", b"foo/1, bar", b""], ids=lambda value: value.decode() or "-")
def test_upgrade(name: bytes, value: bytes) -> None:
    """After a 101 no request would be seen any more; an empty Upgrade is refused like any other."""
    assert check(facts([(name, value)])) == UNSAFE


HANDSHAKE: Fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(HANDSHAKE, id="plain"),
        pytest.param([(b"connection", b"keep-alive, uPGRADE"), (b"UPGRADE", b"WebSocket")], id="other-case"),
        pytest.param(
            [(b"Connection", b"keep-alive"), (b"Connection", b"\tupgrade "), HANDSHAKE[1]], id="two-connections"
        ),
        pytest.param([HANDSHAKE[0], (b"Upgrade", b" websocket\t")], id="white-space"),
    ],
)
def test_websocket_is_told(fields: Fields) -> None:
    """A handshake is neither refused nor taken for an ordinary request: the route has to say."""
    assert check_request(facts(fields)) == (True, False)


@pytest.mark.parametrize(
    "fields", [[], [(b"Connection", b"keep-alive")], [(b"Connection", b"")], [(b"Sec-WebSocket-Version", b"13")]]
)
def test_other_requests_are_no_websocket(fields: Fields) -> None:
    """Without Upgrade and Connection: upgrade there is no WebSocket."""
    assert check_request(facts(fields)) == (False, False)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        pytest.param("GET", [HANDSHAKE[0]], id="no-upgrade"),
        pytest.param("GET", [HANDSHAKE[1]], id="no-connection"),
        pytest.param("GET", [HANDSHAKE[1], (b"Connection", b"close")], id="connection-says-other"),
        pytest.param("GET", [*HANDSHAKE, HANDSHAKE[1]], id="upgrade-twice"),
        pytest.param("GET", [HANDSHAKE[0], (b"Upgrade", b"websocket, h2c")], id="two-protocols"),
        pytest.param("GET", [HANDSHAKE[0], (b"Upgrade", b"websocket/13")], id="with-version"),
        pytest.param("GET", [HANDSHAKE[0], (b"Upgrade", b"")], id="nothing"),
        pytest.param("GET", [HANDSHAKE[1], (b"Connection", b"upgrade, jwt")], id="connection-names-more"),
        pytest.param("GET", [*HANDSHAKE, (b"Content-Length", b"0")], id="content-length"),
        pytest.param("GET", [*HANDSHAKE, (b"transfer-encoding", b"chunked")], id="transfer-encoding"),
        pytest.param("POST", HANDSHAKE, id="post"),
        pytest.param("HEAD", HANDSHAKE, id="head"),
        pytest.param("CONNECT", HANDSHAKE, id="connect"),
    ],
)
def test_other_upgrades(method: str, fields: Fields) -> None:
    """Whatever is not quite a WebSocket handshake is refused on every route."""
    assert check(facts(fields, method=method)) == UNSAFE


@pytest.mark.parametrize("octet", [octet for octet in [*range(0x20), 0x7F] if octet != 0x09], ids=lambda o: f"{o:#04x}")
@pytest.mark.parametrize("where", ["start", "middle", "end", "name", "other-header"])
def test_control_characters(octet: int, where: str) -> None:
    """NUL, CR, LF, DEL and all the others: in no name, no value, no header of any request."""
    bad = bytes([octet])
    fields: Fields = {
        "start": [(b"jwt", bad + b"abc")],
        "middle": [(b"jwt", b"a" + bad + b"bc")],
        "end": [(b"jwt", b"abc" + bad)],
        "name": [(b"jw" + bad + b"t", b"abc")],
        "other-header": [(b"jwt", b"abc"), (b"X-Comment", bad)],
    }[where]
    assert check(facts(fields)) == UNSAFE


def test_tab_and_high_octets_pass() -> None:
    """TAB is white space, and octets from 0x80 on are opaque (RFC 9110 section 5.5)."""
    value = b"\t" + bytes([*range(0x20, 0x7F), *range(0x80, 0x100)])
    assert check(facts([(b"X-Comment", value)])) is None


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH"]
)
def test_known_methods(method: str) -> None:
    """Every registered method passes this step, known to the gate or not."""
    assert check(facts(method=method)) is None


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("", id="empty"),
        pytest.param(" ", id="space"),
        pytest.param("GET ", id="space-after"),
        pytest.param(" GET", id="space-before"),
        pytest.param("GE T", id="space-inside"),
        pytest.param("GET\t", id="tab"),
        pytest.param("GET\n", id="newline"),
        pytest.param("GET\r\nX: y", id="crlf"),
        pytest.param("GET\x00", id="nul"),
        pytest.param("GET/x", id="slash"),
        pytest.param("GET,POST", id="comma"),
        pytest.param('"GET"', id="quotes"),
        pytest.param("G\u00c9T", id="latin-1"),
        pytest.param("(GET)", id="parentheses"),
        pytest.param("GET:", id="colon"),
        pytest.param("get", id="lower-case"),
        pytest.param("Get", id="mixed-case"),
        pytest.param("propfind", id="unknown-in-lower-case"),
    ],
)
def test_odd_methods(method: str) -> None:
    """What is no token, or not in capitals, is read differently by different upstreams."""
    assert check(facts(method=method)) == UNSAFE


@pytest.mark.parametrize("method", ["post", "Post", "pOST"])
def test_route_for_one_method_is_not_passed_by_in_another_case(method: str) -> None:
    """The strict route for POST cannot be left for a lax one by writing `post`.

    Methods are case-sensitive, but several servers write them in capitals: to them this is a POST.
    """
    strict = a_route("/orders/**", ["POST"], single_use=True)
    snapshot = a_snapshot([an_application(certificate_for(KEY))], strict, a_route("/**"))
    token = material.jws(KEY, good_claims())
    assert reason_of(decide(snapshot, a_request(token, method="POST"), NOW)) == Reason.CLAIM_MISSING
    assert reason_of(decide(snapshot, a_request(token, method="GET"), NOW)) == Reason.ROUTE_UNKNOWN
    assert reason_of(decide(snapshot, a_request(token, method=method), NOW)) in {UNSAFE, Reason.ROUTE_UNKNOWN}


@pytest.mark.parametrize(
    ("extra", "expected"), [(0, None), (1, UNSAFE)], ids=["as-large-as-allowed", "one-octet-too-many"]
)
@pytest.mark.parametrize("count", [1, 1000], ids=["one-header", "many-headers"])
def test_cap_on_all_headers(count: int, extra: int, expected: Reason | None) -> None:
    """Names and values of all headers together have a bound, exact to the octet."""
    size = HEADER_CAP // count
    fields = [(b"x" * 8, b"y" * (size - 8))] * count
    missing = HEADER_CAP - size * count
    fields.append((b"z", b"y" * (missing + extra - 1)))
    if missing + extra == 0:
        fields.pop()
    total = sum(len(name) + len(value) for name, value in fields)
    assert total == HEADER_CAP + extra
    assert check(facts(fields)) == expected


# Properties

_SEPARATORS = re.compile(rb"[-_.]")
NAMES = st.one_of(
    st.sampled_from([b"X-IBM-Client-Id", *LOOK_ALIKES, b"x-ibm-client-id", b"jwt", b"Host", b"X-IBM-Client-I"]),
    st.binary(max_size=20),
)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=12)), max_size=6))
@example([(b"X-IBM-Client-Id", b"a"), (b"X_IBM_Client_Id", b"b")])
@example([(b"X_IBM_Client_Id", b"b"), (b"X-IBM-Client-Id", b"a")])
def test_header_value_is_the_only_candidate(fields: Fields) -> None:
    """A value comes out only when one header alone could be taken for the source, and it is spelled exactly."""
    folded = [(_SEPARATORS.sub(b"-", name).lower(), name, value) for name, value in fields]
    candidates = [(name, value) for fold, name, value in folded if fold == b"x-ibm-client-id"]
    found = value_in(facts(fields), CLIENT_ID_SOURCE)
    exact = [value for name, value in candidates if name.lower() == b"x-ibm-client-id"]
    if len(candidates) == len(exact) == 1 and exact[0].strip(b" \t"):
        assert found == exact[0].strip(b" \t")
    elif not candidates:
        assert found == MISSING
    else:
        assert found in {MISSING, REPEATED, UNSAFE}
        assert (found == UNSAFE) == (len(exact) != len(candidates))


@given(
    st.text(max_size=8),
    st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=4),
    st.binary(max_size=30),
)
def test_any_octets_give_a_value_or_a_rejection(method: str, fields: Fields, query: bytes) -> None:
    """Whatever the octets, nothing but a `Rejection` is ever raised."""
    request = facts(fields, method=method, target=b"/x?" + query)
    assert check(request) in {None, UNSAFE}
    for source in (CLIENT_ID_SOURCE, QUERY, BEARER):
        assert value_in(request, source) != b""


@given(st.lists(st.sampled_from([b"client_id=a", b"client%5fid=b", b"x=1", b"client_id", b"Client_id=c", b""])))
def test_query_counts_every_spelling_of_the_name(fields: list[bytes]) -> None:
    """However the name is escaped, a second parameter of that name is a repetition."""
    count = sum(field in {b"client_id=a", b"client%5fid=b", b"client_id"} for field in fields)
    found = value_in(facts(target=b"/x?" + b"&".join(fields)), QUERY)
    if b"Client_id=c" in fields:
        assert found == UNSAFE
    elif count > 1:
        assert found == REPEATED
    elif count == 0 or b"client_id" in fields:
        assert found == MISSING
    else:
        assert found in {b"a", b"b"}
