"""One suite for every door: the same requests to the gate in mitmdump, to `jwsgate run`, and to proxies asking
`jwsgate serve`, with the same decisions, told in the same words.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import material
from e2e import gates, test_main_job, test_path_confusion
from e2e.answers import ANSWERS, TRANSACTION_ID, assert_rejected, body_of
from e2e.estate import (
    EMPTY_CERTIFICATE,
    EXPIRED_CERTIFICATE,
    FUTURE_CERTIFICATE,
    KEYS,
    NO_CERTIFICATE,
    P256,
    P384,
    RSA,
    Files,
    credentials,
    write_files,
)
from e2e.http_client import Connection, H2Connection, Header, NoResponse, exchange
from e2e.proxies import PROXIES, Guarded, guarded
from e2e.upstream import BODY, RecordingUpstream
from jwsgate.core.reasons import Reason

pytestmark = pytest.mark.e2e

DOORS = (*gates.DOORS, *PROXIES)
ANY = "/orders/7?full=yes"

POLICY = f"""\
applications:
  - {{client_id: {P384}, routes: [get]}}
routes:
  - {{name: get, path: "/only/get", methods: [GET]}}
  - name: narrow
    path: "/narrow/**"
    client_id: {{header: X-Partner}}
    jws: {{header: X-Partner-JWS, max_octets: 1000}}
    algorithms: [RS256]
    claims: {{required: [exp, order], leeway: 30, issuer: tvo, audience: the world}}
  - name: bound
    path: "/bound/**"
    bind: {{method: htm, url: htu, base_url: "https://api.example"}}
  - {{name: once, path: "/once/**", single_use: true}}
  - {{name: open, path: /open, open: true}}
  - {{name: shadow, path: "/shadow/**", mode: report}}
  - {{name: query, path: "/query/**", client_id: {{query: client_id}}, jws: {{query: token}}}}
  - {{name: bearer, path: "/bearer/**", jws: {{header: Authorization, scheme: Bearer}}}}
  - {{name: told, path: "/told/**", upstream: {{claims: {{X-Subject: sub}}}}}}
  - {{name: chained, path: "/chained/**", certificates: {{ca_file: ca.pem}}}}
  - {{name: everything, path: "/orders/**"}}
  - {{name: any, path: "/any/**", open: true}}
"""


@pytest.fixture(scope="session")
def door_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = write_files(tmp_path_factory.mktemp("doors"), policy=POLICY)
    (files.directory / "ca.pem").write_text(material.certificate(material.private_key("rsa", "stranger"), "ca"))
    return files


@pytest.fixture(scope="session", params=DOORS, ids=lambda door: door.removesuffix(" -s").replace(" ", "-"))
def guard(
    request: pytest.FixtureRequest,
    home: Path,
    door_files: Files,
    session_upstream: RecordingUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guarded]:
    """Each door, open as long as its tests run."""
    door, directory = request.param, tmp_path_factory.mktemp("door")
    with contextlib.ExitStack() as stack:
        if door in PROXIES:
            place = stack.enter_context(
                guarded(
                    door,
                    upstream=session_upstream.port,
                    files=door_files,
                    home=home,
                    directory=directory,
                    arguments=["--audit", str(directory / "audit.jsonl")],
                )
            )
        else:
            gate = stack.enter_context(
                gates.running(
                    lambda port: gates.command(
                        door,
                        upstream=session_upstream.url,
                        port=port,
                        portal=door_files.portal,
                        policy=door_files.policy,
                    ),
                    env=gates.environment(home),
                    directory=directory,
                    name=door,
                )
            )
            place = Guarded(gate, gate, "")
        yield place
        assert place.service.process.poll() is None, place.service.log()
    assert "Traceback" not in place.service.log()


def rejected(
    guard: Guarded, upstream: RecordingUpstream, headers: list[Header], *reasons: str, target: str = ANY
) -> None:
    assert_rejected(exchange(guard.port, "GET", target, headers), *reasons)
    upstream.assert_untouched()


def passed(
    guard: Guarded,
    upstream: RecordingUpstream,
    headers: list[Header],
    target: str = ANY,
    method: str = "GET",
    body: bytes = b"",
) -> dict[bytes, list[bytes]]:
    """Expect a request to pass; returns the headers that arrived, by their names in lower case."""
    response = exchange(guard.port, method, target, headers, body)
    assert (response.status, response.body) == (200, b"" if method == "HEAD" else BODY), response
    request = upstream.only_request()
    assert (request.method, request.target, request.body) == (method, target.encode(), body)
    arrived: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        arrived.setdefault(name.lower(), []).append(value)
    # The client and the upstream are told the same.
    (transaction,) = arrived[b"x-global-transaction-id"]
    if guard.proxy.door != "traefik":  # which tells clients nothing of what the service says
        assert response.value("x-global-transaction-id") == transaction.decode()
    assert TRANSACTION_ID.fullmatch(transaction.decode())
    return arrived


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        pytest.param("GET", "/orders/a/b%20c;p=1/~x,y?q=%2F%2F..&jwt=x", b"", id="odd"),
        pytest.param("POST", "/orders/octets?", bytes(range(256)), id="octets"),
        pytest.param("PUT", "/orders/a+b", b"\r\n\r\nGET /x HTTP/1.1\r\n\r\n", id="request-in-body"),
        pytest.param("DELETE", "/orders/x/", b"", id="delete"),
        pytest.param("OPTIONS", "/orders/x", b"", id="options"),
        pytest.param("PROPFIND", "/orders/x", b"<a/>", id="unusual"),
        pytest.param("HEAD", "/orders/x", b"", id="head"),
    ],
)
def test_good_requests_pass(guard: Guarded, upstream: RecordingUpstream, method: str, target: str, body: bytes) -> None:
    """Method, target, body and headers arrive as they were sent."""
    headers: list[Header] = [*credentials(), ("X-Latin", b"caf\xe9"), ("Accept", "text/plain")]
    arrived = passed(guard, upstream, headers, target, method, body)
    for name, value in headers:
        assert arrived[name.lower().encode()] == [value if isinstance(value, bytes) else value.encode()]


_IMITATED = {"underscores", "underscores-too", "half-and-half"}


@pytest.mark.parametrize(("reason", "headers"), [case for case in test_main_job.CLIENT_IDS if case.id not in _IMITATED])
def test_client_id_rejected(guard: Guarded, upstream: RecordingUpstream, reason: str, headers: list[Header]) -> None:
    """Without exactly one known, enabled client ID nothing passes, however good the JWS."""
    client_id = str(headers[-1][1]) if headers else RSA
    # Envoy joins what is repeated, so that the two look alike behind it: either way 401 with one text.
    rejected(guard, upstream, [*headers, ("jwt", material.jws(KEYS.get(client_id, KEYS[RSA])))], reason)


@pytest.mark.parametrize("headers", [[("X_IBM_Client_Id", RSA)], [("X-IBM-Client-Id", RSA), ("X_IBM_Client_Id", P256)]])
def test_imitated_client_id(guard: Guarded, upstream: RecordingUpstream, headers: list[Header]) -> None:
    """A look-alike of the client ID is refused, or never gets anywhere: nginx takes it off before anybody sees it."""
    headers = [*headers, ("jwt", material.jws(KEYS[RSA]))]
    if guard.proxy.door == "nginx" and len(headers) == 3:
        arrived = passed(guard, upstream, headers)
        assert arrived[b"x-ibm-client-id"] == [RSA.encode()]
        assert b"x_ibm_client_id" not in arrived
    else:
        rejected(guard, upstream, headers, "request_unsafe", "client_id_missing")


@pytest.mark.parametrize(("reason", "headers"), test_main_job.TOKENS)
def test_jws_spelling_rejected(
    guard: Guarded, upstream: RecordingUpstream, reason: str, headers: Callable[[], list[Header]]
) -> None:
    """Exactly one compact JWS in its one spelling, or nothing passes."""
    reasons = [reason]
    if guard.proxy.door.startswith("envoy") and reason == "jws_malformed":
        reasons.append("jws_repeated")  # it joins with a comma what was repeated, and a JWS has none
    rejected(guard, upstream, [("X-IBM-Client-Id", RSA), *headers()], *reasons)


@pytest.mark.parametrize(("header", "reasons"), test_main_job.ALG_HEADERS)
def test_jose_header_rejected(
    guard: Guarded, upstream: RecordingUpstream, header: dict[str, Any] | bytes, reasons: list[str]
) -> None:
    """JOSE headers that are not plain do not pass, though the right key signed them."""
    headers = credentials(RSA, material.jws(KEYS[RSA], header=header, algorithm="RS256"))
    rejected(guard, upstream, headers, *reasons)


def stranger(**options: Any) -> str:
    """A JWS by a key that nobody has registered."""
    return material.jws(material.private_key("rsa", "stranger"), **options)


REST: list[Any] = [
    pytest.param("certificate_missing", lambda: credentials(NO_CERTIFICATE, material.jws(KEYS[RSA])), id="certificate"),
    pytest.param(
        "certificate_missing", lambda: credentials(EMPTY_CERTIFICATE, material.jws(KEYS[RSA])), id="empty-certificate"
    ),
    pytest.param("certificate_expired", lambda: credentials(EXPIRED_CERTIFICATE), id="expired-certificate"),
    pytest.param("certificate_not_yet_valid", lambda: credentials(FUTURE_CERTIFICATE), id="future-certificate"),
    pytest.param("algorithm_not_allowed", lambda: credentials(P256, material.jws(KEYS[RSA])), id="other-kind-of-key"),
    pytest.param(
        "algorithm_not_allowed",
        lambda: credentials(RSA, material.jws(material.public_pem(KEYS[RSA]).encode(), algorithm="HS256")),
        id="public-key-for-a-secret",
    ),
    pytest.param("algorithm_not_allowed", lambda: credentials(RSA, none()), id="none"),
    pytest.param("signature_mismatch", lambda: credentials(RSA, stranger()), id="stranger"),
    pytest.param(
        "signature_mismatch", lambda: credentials(RSA, material.altered(material.jws(KEYS[RSA]), -9)), id="altered"
    ),
    pytest.param("route_not_allowed", lambda: credentials(P384), id="route-of-others"),
]


def none() -> str:
    """A JWS that says it needs no signature, and has one."""
    payload = material.compact_json(material.default_claims())
    return material.jws(KEYS[RSA], header={"alg": "none"}, payload=payload, algorithm="RS256")


@pytest.mark.parametrize(("reason", "headers"), REST)
def test_others_rejected(
    guard: Guarded, upstream: RecordingUpstream, reason: str, headers: Callable[[], list[Header]]
) -> None:
    """Certificates that count for nothing, keys of others, and routes of others."""
    rejected(guard, upstream, headers(), reason)


def test_application_has_its_own_route(guard: Guarded, upstream: RecordingUpstream) -> None:
    """Whom the policy leaves one route passes there."""
    passed(guard, upstream, credentials(P384), "/only/get")


@pytest.mark.parametrize(("key", "header"), list(test_main_job.forged_headers()))
def test_header_names_no_key(
    guard: Guarded, upstream: RecordingUpstream, key: material.PrivateKey, header: dict[str, Any]
) -> None:
    """A key that the JOSE header brings along is never used."""
    reasons = ("signature_mismatch", "header_parameter_unsupported", "jws_malformed")
    rejected(guard, upstream, credentials(RSA, material.jws(key, header=header)), *reasons)


@pytest.mark.parametrize(("payload", "reasons"), list(test_main_job.payloads()))
def test_claims_rejected(guard: Guarded, upstream: RecordingUpstream, payload: bytes, reasons: list[str]) -> None:
    """Claims that are expired, not yet valid, or no claims at all do not pass, well signed as they are."""
    rejected(guard, upstream, credentials(RSA, material.jws(KEYS[RSA], payload=payload)), *reasons)


@pytest.mark.parametrize(
    ("reason", "headers"), [case for case in test_main_job.NARROW if not str(case.id).endswith("-imitated")]
)
def test_route_rules_reject(
    guard: Guarded, upstream: RecordingUpstream, reason: str, headers: Callable[[], list[Header]]
) -> None:
    """Each rule of a route rejects on its own."""
    rejected(guard, upstream, headers(), reason, target="/narrow/x")


def test_chain_of_certificates(guard: Guarded, upstream: RecordingUpstream) -> None:
    """A certificate of another CA than the policy's."""
    rejected(guard, upstream, credentials(), "certificate_unusable", target="/chained/x")


ELSEWHERE = {
    Reason.BODY_MALFORMED,  # of the action sign
    Reason.BODY_TOO_LARGE,  # test_large_body and test_serve.py
    Reason.HEADERS_TOO_LARGE,
    Reason.REQUEST_TIMEOUT,
    Reason.CLIENT_CERTIFICATE_MISSING,  # `jwsgate run` alone
    Reason.CLIENT_CERTIFICATE_MISMATCH,
    Reason.POLICY_UNAVAILABLE,  # no door opens without files
    Reason.AUDIT_UNAVAILABLE,  # test_serve_process.py
    Reason.INTERNAL_ERROR,
}
"""Reasons that do not come from what a request says, or not behind every door."""


def test_every_reason_at_every_door() -> None:
    """Each reason that can be had at every door is asked for here, at every door."""
    lists = (test_main_job.CLIENT_IDS, test_main_job.TOKENS, test_main_job.NARROW, REST)
    asked = {case.values[0] for cases in lists for case in cases}
    asked |= {reason for case in (*test_main_job.ALG_HEADERS, *test_main_job.payloads()) for reason in case.values[1]}
    asked |= {"certificate_unusable", "binding_mismatch", "jws_replayed", "request_unsafe", "route_unknown"}  # below
    assert asked == set(Reason) - ELSEWHERE


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/nowhere", id="unknown"),
        pytest.param("/only/get/more", id="beneath"),
        pytest.param("/", id="root"),
    ],
)
def test_unknown_routes(guard: Guarded, upstream: RecordingUpstream, target: str) -> None:
    """What no route matches is not found, with a good JWS too."""
    rejected(guard, upstream, credentials(), "route_unknown", target=target)


@pytest.mark.parametrize(
    "target",
    [
        "/orders/../only/get",
        "/orders/%2e%2e/only/get",
        "/orders//x",
        "/orders/a%2Fb",
        "/orders/a%5Cb",
        "/orders/..;/only/get",
    ],
)
def test_unsafe_targets(guard: Guarded, upstream: RecordingUpstream, target: str) -> None:
    """A path that an upstream may read otherwise does not pass."""
    rejected(guard, upstream, credentials(), "request_unsafe", target=target)


@pytest.mark.parametrize("guard", PROXIES, indirect=True)
def test_path_is_what_was_decided_on(guard: Guarded, upstream: RecordingUpstream) -> None:
    """Whatever a proxy makes of an odd path, it tells the service, octet for octet, what it sends upstream."""
    answered = 0
    for odd in itertools.chain(*test_path_confusion.CORPUS.values()):
        target = b"/any" + odd if odd.startswith(b"/") else odd
        with contextlib.suppress(NoResponse):
            answered += exchange(guard.port, "GET", target).body == BODY
    upstream.settle()
    arrived = {request.values("X-Global-Transaction-ID")[0].decode(): request.target for request in upstream.requests}
    assert len(arrived) == len(upstream.requests) == answered > 50
    lines = (guard.service.directory.parent / "audit.jsonl").read_text().splitlines()
    decided = {record["transaction_id"]: record["path"].encode() for record in map(json.loads, lines)}
    assert [
        (decided[each], target) for each, target in arrived.items() if decided[each] != target.partition(b"?")[0]
    ] == []


@pytest.mark.parametrize("guard", PROXIES, indirect=True)
def test_tunnels_rejected(guard: Guarded, upstream: RecordingUpstream) -> None:
    """CONNECT has another kind of target, which proxies tell as they like."""
    for target in ("gate.test:80", "/any/x", "/", "http://gate.test/any/x"):
        assert exchange(guard.port, "CONNECT", target, credentials()).status in {400, 404, 405, 501}
    upstream.assert_untouched()


@pytest.mark.parametrize("guard", ["haproxy", "traefik", "envoy", "envoy-grpc"], indirect=True)
def test_http2_in_front(guard: Guarded, upstream: RecordingUpstream) -> None:
    """HAProxy has the target of HTTP/2 in two forms; decided on is the one that goes upstream, in each proxy."""
    lower: list[Header] = [(name.lower(), value) for name, value in credentials()]
    with H2Connection(guard.port, tls=False) as connection:
        for target in ("/nowhere", "//orders/7", "/orders/../open"):
            response = connection.read(connection.start("GET", target, lower, ends=True))
            assert_rejected(response, "route_unknown", "request_unsafe")
        upstream.assert_untouched()
        assert connection.read(connection.start("GET", ANY, lower, ends=True)).status == 200
    assert upstream.only_request().target == ANY.encode()


@pytest.mark.parametrize("guard", ["haproxy", "caddy"], indirect=True)
def test_connection_header(guard: Guarded, upstream: RecordingUpstream) -> None:
    """It can neither take off what the gate tells the upstream, nor open a tunnel past the gate."""
    for name in ("X-Subject", "close, X-Global-Transaction-ID", "jwt"):
        rejected(guard, upstream, [*credentials(), ("Connection", name)], "request_unsafe", "jws_missing")
    for protocol in ("h2c", "websocket"):
        headers: list[Header] = [("Connection", "Upgrade"), ("Upgrade", protocol), ("Sec-WebSocket-Version", "13")]
        headers.append(("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
        rejected(guard, upstream, [*credentials(), *headers], "request_unsafe")


@pytest.mark.parametrize("guard", ["traefik"], indirect=True)
def test_connection_header_taken_off(guard: Guarded, upstream: RecordingUpstream) -> None:
    """Traefik does not tell the service of an upgrade, and would open a tunnel; what else is named does no harm."""
    token = material.jws(KEYS[RSA], material.default_claims(sub="tvo"))
    for name in ("X-Subject", "close, X-Global-Transaction-ID", "X-Forwarded-Uri, X-Forwarded-Method"):
        arrived = passed(guard, upstream, [*credentials(RSA, token), ("Connection", name)], "/told/x")
        assert arrived[b"x-subject"] == [b"tvo"]
        upstream.clear()
    rejected(guard, upstream, [*credentials(), ("Connection", "jwt")], "jws_missing")
    for protocol in ("h2c", "websocket"):
        headers: list[Header] = [("Connection", "Upgrade"), ("Upgrade", protocol), ("Sec-WebSocket-Version", "13")]
        arrived = passed(guard, upstream, [*credentials(), *headers])
        assert not arrived.keys() & {b"upgrade", b"connection"}
        upstream.clear()


def test_methods_are_those_of_the_client(guard: Guarded, upstream: RecordingUpstream) -> None:
    """A route for GET alone is none for POST, whatever headers say of methods."""
    for name in ("X-HTTP-Method-Override", "X-Original-Method", "X-Forwarded-Method"):
        response = exchange(guard.port, "POST", "/only/get", [*credentials(), (name, "GET")])
        assert_rejected(response, "route_unknown")
    upstream.assert_untouched()
    passed(guard, upstream, credentials(), "/only/get")


def test_large_body(guard: Guarded, upstream: RecordingUpstream) -> None:
    """No size of bodies is too much, unless somebody says so."""
    passed(guard, upstream, credentials(), "/orders/large", "POST", b"x" * 2_000_000)


HEAD = b"POST /orders/7 HTTP/1.1\r\nHost: gate.test\r\n"
WITH_WORDS = ("nginx", "envoy", "envoy-grpc")
"""Proxies that can be told what to say of requests that they do not understand."""


@pytest.mark.parametrize("guard", PROXIES, indirect=True)
@pytest.mark.parametrize(
    ("reason", "octets"),
    [
        pytest.param("request_unsafe", HEAD + b"Content-Length: x\r\n\r\n", id="length"),
        pytest.param("request_unsafe", HEAD + b"Transfer-Encoding: gzip\r\n\r\n", id="coding"),
        pytest.param("request_unsafe", HEAD + b"X Y: z\r\n\r\n", id="name"),
        pytest.param("headers_too_large", HEAD + b"X: " + b"y" * 1_200_000 + b"\r\n\r\n", id="large"),
    ],
)
def test_refused_by_the_proxy_itself(guard: Guarded, upstream: RecordingUpstream, reason: str, octets: bytes) -> None:
    """What a proxy refuses without asking is told in the gate's words where its configuration can have them."""
    with Connection(guard.port) as connection:
        with contextlib.suppress(OSError):  # it may have heard enough
            connection.send(octets)
        response = connection.read()
    if guard.proxy.door in WITH_WORDS:
        assert (response.status, response.body) == (ANSWERS[reason][0], body_of(reason))
        assert response.value("content-type") == "application/json"
    else:
        assert response.status in {400, 431, 501}
    upstream.assert_untouched()


@pytest.mark.parametrize("guard", PROXIES, indirect=True)
def test_options_of_the_server(guard: Guarded, upstream: RecordingUpstream) -> None:
    """`OPTIONS *` is no request for the API, wherever it ends."""
    response = exchange(guard.port, "OPTIONS", "*", credentials())
    assert (response.status, response.body) in {
        "nginx": [(400, body_of("request_unsafe"))],
        "haproxy": [(400, body_of("request_unsafe"))],
        "caddy": [(200, b"")],
        "traefik": [(200, b"")],
    }.get(guard.proxy.door, [(404, body_of("route_unknown"))])
    upstream.assert_untouched()


@pytest.mark.parametrize("guard", ["envoy", "envoy-grpc"], indirect=True)
def test_upgrade_rejected(guard: Guarded, upstream: RecordingUpstream) -> None:
    """Envoy refuses upgrades itself, in the words of the gate; its own denials are no less told as they are."""
    headers: list[Header] = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    headers.append(("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
    response = exchange(guard.port, "GET", ANY, [*credentials(), *headers])
    assert (response.status, response.body) == (400, body_of("request_unsafe"))
    upstream.assert_untouched()


def test_each_request_of_a_connection(guard: Guarded, upstream: RecordingUpstream) -> None:
    """What one request was granted is nothing to the next on the same connection."""
    with Connection(guard.port) as connection:
        for _ in range(2):
            assert connection.exchange("GET", "/told/x", credentials()).status == 200
            assert_rejected(connection.exchange("GET", ANY, [("X-IBM-Client-Id", RSA)]), "jws_missing")
    assert [request.target for request in upstream.requests] == [b"/told/x"] * 2


def test_rules_of_routes(guard: Guarded, upstream: RecordingUpstream) -> None:
    """Claims, algorithms and places of a route's own."""

    def partner(**claims: Any) -> list[Header]:
        token = material.jws(KEYS[RSA], material.default_claims(**claims))
        return [("X-Partner", RSA), ("X-Partner-JWS", token)]

    rejected(guard, upstream, partner(), "claim_missing", target="/narrow/x")
    rejected(guard, upstream, partner(order=1, iss="other"), "claim_mismatch", target="/narrow/x")
    rejected(guard, upstream, partner(order=1, pad="x" * 900), "jws_too_large", target="/narrow/x")
    rejected(guard, upstream, credentials(), "client_id_missing", target="/narrow/x")
    passed(guard, upstream, partner(order=1), "/narrow/x")


def test_bindings(guard: Guarded, upstream: RecordingUpstream) -> None:
    """A JWS for one method and URL is good for no other."""

    def bound(method: str, url: str) -> list[Header]:
        return credentials(RSA, material.jws(KEYS[RSA], material.default_claims(htm=method, htu=url)))

    good = "https://api.example/bound/a"
    rejected(guard, upstream, bound("POST", good), "binding_mismatch", target="/bound/a?b=c")
    rejected(guard, upstream, bound("GET", "https://api.example/bound/b"), "binding_mismatch", target="/bound/a?b=c")
    passed(guard, upstream, bound("GET", good), "/bound/a?b=c")


def test_single_use(guard: Guarded, upstream: RecordingUpstream) -> None:
    """A jti passes once."""
    headers = credentials()
    passed(guard, upstream, headers, "/once/x")
    upstream.clear()
    rejected(guard, upstream, headers, "jws_replayed", target="/once/x")


def test_open_and_reported(guard: Guarded, upstream: RecordingUpstream) -> None:
    """What the policy leaves open passes without a JWS, and what it only reports passes with a bad one."""
    passed(guard, upstream, [], "/open")
    upstream.clear()
    passed(guard, upstream, [("X-IBM-Client-Id", "nobody")], "/shadow/x")
    guard.service.wait_for_log("would be rejected: client_id_unknown")


def test_query_and_scheme(guard: Guarded, upstream: RecordingUpstream) -> None:
    """Credentials in the query, and behind an authentication scheme."""
    token = material.jws(KEYS[RSA])
    passed(guard, upstream, [], f"/query/x?client_id={RSA}&token={token}")
    upstream.clear()
    target = f"/query/x?client_id={RSA}&token={token}&token={token}"
    rejected(guard, upstream, [], "jws_repeated", target=target)
    passed(guard, upstream, [("X-IBM-Client-Id", RSA), ("Authorization", f"Bearer {token}")], "/bearer/x")


SPOOFED: list[Header] = [
    ("X-Forwarded-Uri", "/open"),
    ("X-Forwarded-Method", "OPTIONS"),
    ("X-Original-Method", "DELETE"),
    ("X-Original-URI", "/open"),
    ("X-Original-Address", "10.0.0.1"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-Host", "other.test"),
    ("X-Forwarded-Proto", "https"),
    ("X-Real-IP", "10.0.0.1"),
    ("Forwarded", "for=10.0.0.1;host=other.test"),
    ("x-envoy-original-path", "/open"),
    ("x-envoy-auth-partial-body", "false"),
    ("x-envoy-auth-headers-to-remove", "jwt"),
    ("X-Jwsgate-Status", "200"),
    ("X-Jwsgate-Body", "hello"),
]


def test_spoofed_metadata(guard: Guarded, upstream: RecordingUpstream) -> None:
    """What clients write into the headers that proxies use changes no decision, one by one and all together."""
    for spoofed in (*([each] for each in SPOOFED), SPOOFED, [*SPOOFED, *SPOOFED]):
        passed(guard, upstream, [*spoofed, *credentials()])
        upstream.clear()
        rejected(guard, upstream, [*spoofed, ("X-IBM-Client-Id", RSA)], "jws_missing")
        rejected(guard, upstream, [*spoofed, *credentials(P256, material.jws(KEYS[RSA]))], "algorithm_not_allowed")


@pytest.mark.parametrize("name", ["X-Original-URI", "X-Forwarded-Uri", "X-Original-Method", "X-Forwarded-Method"])
def test_spoofed_spellings(guard: Guarded, upstream: RecordingUpstream, name: str) -> None:
    """Spelled so that it may be read as one that proxies use, it is refused, or changes nothing."""
    value = "/open" if "UR" in name.upper() else "OPTIONS"
    for spelled in (name.replace("-", "_"), name.replace("-", "."), name.lower(), name.replace("-", "_", 1)):
        for headers in ([(spelled, value)], [(spelled, value), (name, value)]):
            response = exchange(guard.port, "GET", ANY, [*headers, *credentials()])
            if response.status == 200:
                request = upstream.only_request()
                assert (request.method, request.target) == ("GET", ANY.encode())
            else:
                assert_rejected(response, "request_unsafe")
            upstream.clear()
            rejected(guard, upstream, [*headers, ("X-IBM-Client-Id", RSA)], "jws_missing", "request_unsafe")


@pytest.mark.parametrize("guard", PROXIES, indirect=True)
def test_address_in_the_audit_log(guard: Guarded, upstream: RecordingUpstream) -> None:
    """It is the client's, as the proxy sees it, whatever the client says of itself."""
    spoofed: list[Header] = [(name, value) for name, value in SPOOFED if "10.0.0.1" in str(value)]
    transaction = passed(guard, upstream, [*spoofed, *credentials()])[b"x-global-transaction-id"][0].decode()
    lines = (guard.service.directory.parent / "audit.jsonl").read_text().splitlines()
    (record,) = (each for each in map(json.loads, lines) if each["transaction_id"] == transaction)
    assert record["peer"] == "127.0.0.1"


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("guard", [each for each in DOORS if each != "haproxy"], indirect=True)
def test_trailers_stay_behind(guard: Guarded, upstream: RecordingUpstream, announced: bool) -> None:
    """What only the gate may tell the upstream does not get there after the body either."""
    headers = [*credentials(), ("Transfer-Encoding", "chunked")]
    if announced:
        headers += [("TE", "trailers"), ("Trailer", "X-Subject")]
    for target in ("/told/x", "/orders/x"):
        octets = b"3\r\nabc\r\n0\r\nX-Subject: spoof\r\n\r\n"
        response = exchange(guard.port, "POST", target, headers, octets)
        assert response.status == 200, response
        assert upstream.only_request().body == b"abc"
        assert b"spoof" not in upstream.octets
        upstream.clear()


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL"])
def test_other_targets_rejected(guard: Guarded, upstream: RecordingUpstream, name: str) -> None:
    """A header by which some servers take the request for another one is refused."""
    rejected(guard, upstream, [(name, "/open"), *credentials()], "request_unsafe")


@pytest.mark.parametrize("name", ["X-Subject", "x-subject", "X_Subject", "X_SUBJECT", "X-GLOBAL-TRANSACTION-ID"])
@pytest.mark.parametrize(
    ("target", "told"),
    [
        pytest.param("/told/x", [b"tvo"], id="told"),
        pytest.param("/orders/x", [], id="other-route"),
        pytest.param("/open", [], id="open"),
        pytest.param("/shadow/x", [], id="reported"),
    ],
)
def test_spoofed_identity(
    guard: Guarded, upstream: RecordingUpstream, name: str, target: str, told: list[bytes]
) -> None:
    """Headers that tell the upstream who called are the gate's alone, on every route and in every spelling."""
    claims = material.default_claims(sub="tvo")
    headers = [(name, "spoofed"), *credentials(RSA, material.jws(KEYS[RSA], claims)), (name, "again")]
    arrived = passed(guard, upstream, headers, target)
    found = [value for key, values in arrived.items() if key.replace(b"_", b"-") == b"x-subject" for value in values]
    assert found == told
    assert b"spoofed" not in b"".join(value for values in arrived.values() for value in values)


def test_upstream_gone(
    guard: Guarded, tmp_path: Path, home: Path, door_files: Files, upstream: RecordingUpstream
) -> None:
    """Denials say nothing of proxies: only the gate's words, and no server's name but Envoy's own."""
    response = exchange(guard.port, "GET", ANY, [])
    assert_rejected(response, "client_id_missing")
    assert "mitmproxy" not in str(response.headers).lower()
