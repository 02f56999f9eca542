"""Policies as their authors write them: what each key means, and what a slip is answered with."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, x25519

import material
from jwsgate.core.algorithms import ALGORITHMS
from jwsgate.core.bindings import Bindings, BodyDigest
from jwsgate.core.claims import ClaimRules
from jwsgate.core.jws import DEFAULT_MAX_OCTETS
from jwsgate.core.policy import Forward, RespondClaims, Route, Sign
from jwsgate.files.problems import Unfit
from jwsgate.files.shapes import Algorithm
from unit_material import Place, places, policy_problems, policy_routes, read_policy

KEYS: dict[str, bytes] = {
    f"{kind}.key": material.private_pem(material.private_key(kind)).encode() for kind in material.ALGORITHM_OF
}


def key_file(name: str) -> bytes:
    """The key files that the policies here name."""
    return KEYS[name]


def only(text: str) -> Route:
    """The route of a policy that has one."""
    (route,) = policy_routes(text, key_file)
    return route


def one_route(more: str = "", path: str = "/a") -> str:
    """A policy of one route with more keys, as flow mapping."""
    return f"routes:\n  - {{path: {path}{', ' if more else ''}{more}}}\n"


# What the keys mean


def test_shortest_policy() -> None:
    """A path is enough; everything else has the defaults of API Connect."""
    route = only("routes:\n  - path: /**\n")
    expected = ("/**", None, "header", "X-IBM-Client-Id", None, "header", "jwt", None)
    assert expected == (
        route.name,
        route.methods,
        route.client_id.place,
        route.client_id.name,
        route.client_id.scheme,
        route.jws.place,
        route.jws.name,
        route.jws.scheme,
    )
    assert (DEFAULT_MAX_OCTETS, None, ClaimRules(), Forward()) == (
        route.max_jws_octets,
        route.algorithms,
        route.claims,
        route.action,
    )


def test_whole_policy() -> None:
    """Every key said."""
    route = only("""\
defaults:
  client_id: {query: client_id}
routes:
  - path: /{org}/orders/**
    name: orders
    methods: [GET, POST]
    client_id: {header: X-Partner}
    jws: {header: Authorization, scheme: Bearer, max_octets: 1000}
    algorithms: [RS256, EdDSA]
    claims:
      required: [exp, jti]
      leeway: 30
      max_lifetime: 600
      issuer: tvo
      audience: [the world, all]
      subject: [s]
      client_id_claim: azp
      typ: JWT
    respond: claims
""")
    methods = frozenset({"GET", "POST"})
    expected: Any = ("orders", (None, "orders"), True, methods, "X-Partner", ("Authorization", "Bearer"), 1000)
    assert expected == (
        route.name,
        route.pattern.segments,
        route.pattern.prefix,
        route.methods,
        route.client_id.name,
        (route.jws.name, route.jws.scheme),
        route.max_jws_octets,
    )
    assert (frozenset({"RS256", "EdDSA"}), RespondClaims()) == (route.algorithms, route.action)
    rules = ClaimRules(
        required=("exp", "jti"),
        leeway=30,
        max_lifetime=600,
        issuer=("tvo",),
        audience=("the world", "all"),
        subject=("s",),
        client_id_claim="azp",
        typ=("JWT",),
    )
    assert rules == route.claims


def test_defaults_hold_for_each_route() -> None:
    """What a route does not say, the defaults say."""
    text = """\
defaults:
  client_id: {query: client_id}
  jws: {header: X-JWS, max_octets: 500}
  algorithms: [ES256]
  claims: {leeway: 7, issuer: tvo}
routes:
  - path: /a
  - path: /b
    client_id: {header: X-Other}
    jws: {max_octets: 900}
    algorithms: [RS256]
    claims: {issuer: [x, y]}
  - path: /c
    jws: {query: jws}
    claims: {required: []}
"""
    seen = [
        (
            (route.client_id.place, route.client_id.name),
            (route.jws.place, route.jws.name, route.max_jws_octets),
            route.algorithms,
            (route.claims.required, route.claims.leeway, route.claims.issuer),
        )
        for route in policy_routes(text)
    ]
    expected: Any = [
        (("query", "client_id"), ("header", "X-JWS", 500), {"ES256"}, (("exp",), 7, ("tvo",))),
        (("header", "X-Other"), ("header", "X-JWS", 900), {"RS256"}, (("exp",), 7, ("x", "y"))),
        (("query", "client_id"), ("query", "jws", 500), {"ES256"}, ((), 7, ("tvo",))),
    ]
    assert expected == seen


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param("", ("exp",), id="nothing-said"),
        pytest.param("claims: {}", ("exp",), id="no-rule-said"),
        pytest.param("claims: {leeway: 5}", ("exp",), id="another-rule-said"),
        pytest.param("claims: {required: []}", (), id="none-required"),
        pytest.param("claims: {required: [jti]}", ("jti",), id="another-required"),
    ],
)
def test_exp_is_required_unless_the_policy_says_otherwise(claims: str, expected: tuple[str, ...]) -> None:
    """A JWS that never expires passes only where a policy names what is required, without exp."""
    assert expected == only(one_route(claims)).claims.required


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("", Forward(), id="nothing"),
        pytest.param("forward: true", Forward(), id="forward"),
        pytest.param("forward: yes", Forward(), id="forward-yes"),
        pytest.param("respond: claims", RespondClaims(), id="respond"),
    ],
)
def test_actions(said: str, expected: object) -> None:
    """What happens to a request that passes."""
    assert expected == only(one_route(said)).action


@pytest.mark.parametrize(("kind", "algorithm"), material.ALGORITHM_OF.items())
def test_sign(kind: str, algorithm: str) -> None:
    """Each kind of key can sign, by an algorithm that goes with it."""
    sign = f"sign: {{key: {kind}.key, algorithm: {algorithm}, issuer: tvo, audience: the world, lifetime: 60}}"
    action = only(one_route(sign)).action
    assert isinstance(action, Sign)
    expected = (algorithm, "tvo", "the world", 60)
    assert expected == (action.algorithm, action.issuer, action.audience, action.lifetime)
    assert action.key.has_private


def test_sign_defaults() -> None:
    """RS256 and an hour, as in the original."""
    action = only(one_route("sign: {key: rsa.key, issuer: a, audience: b}")).action
    assert isinstance(action, Sign)
    assert (action.algorithm, action.lifetime) == ("RS256", 3600)


def test_private_key_is_not_in_the_text_of_a_route() -> None:
    """A route that is logged shows no key."""
    route = only(one_route("sign: {key: p256.key, issuer: a, audience: b, algorithm: ES256}"))
    action = route.action
    assert isinstance(action, Sign)
    assert action.key.export(as_dict=True)["d"] not in repr(route)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("issuer: 0123", ("0123",), id="unquoted-digits"),
        pytest.param("issuer: yes", ("yes",), id="unquoted-yes"),
        pytest.param("issuer: 2020-01-01", ("2020-01-01",), id="unquoted-date"),
        pytest.param('issuer: "null"', ("null",), id="quoted-null"),
        pytest.param("issuer: [a, 1.0]", ("a", "1.0"), id="list"),
    ],
)
def test_accepted_values_stay_text(said: str, expected: tuple[str, ...]) -> None:
    """Claims are compared with what was written."""
    assert expected == only(one_route(f"claims: {{{said}}}")).claims.issuer


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        pytest.param("/a", "", id="no-methods"),
        pytest.param("/a", "methods: [GET]", id="get"),
        pytest.param("/a/", "", id="trailing-slash"),
        pytest.param("/", "", id="root"),
        pytest.param("/**", "", id="everything"),
        pytest.param("/a/{b}/c/{d-e}/**", "", id="templates"),
        pytest.param("/a%C3%A9/~b.c-d_e", "", id="escapes-and-unreserved"),
        pytest.param("/a:b@c=d,e+f!g", "", id="reserved-in-segments"),
    ],
)
def test_good_paths(path: str, methods: str) -> None:
    """Paths that requests can have."""
    assert path == only(f"routes: [{{path: '{path}'{', ' + methods if methods else ''}}}]").name


def test_algorithms_of_the_file_format() -> None:
    """The format knows exactly the algorithms that the gate can verify."""
    assert get_args(Algorithm) == ALGORITHMS


def test_routes_of_several_policies_meet_in_one_router() -> None:
    """A second file conflicts with the first as two routes of one file do."""
    router, problems = read_policy("routes: [{path: /a, name: first}]", file="one.yaml")
    assert problems == []
    (problem,) = read_policy("routes: [{path: /b}, {path: /a}]", router=router, file="two.yaml")[1]
    expected = ("two.yaml", "routes[1].path", "matches the same requests as route first")
    assert expected == (problem.file, problem.path, problem.message)
    assert len(router) == 2


# Slips


MISTAKES = [
    # Keys
    pytest.param(
        "route:\n  - path: /a\nroutes: [{path: /b}]\n",
        ("route", "is not a known key", "did you mean routes?"),
        id="route-for-routes",
    ),
    pytest.param(
        "routes: [{path: /a}]\ndefault: {}\n",
        ("default", "is not a known key", "did you mean defaults?"),
        id="default-for-defaults",
    ),
    pytest.param(
        one_route("algorithm: [RS256]"),
        ("routes[0].algorithm", "is not a known key", "did you mean algorithms?"),
        id="algorithm-for-algorithms",
    ),
    pytest.param(
        one_route("claim: {}"),
        ("routes[0].claim", "is not a known key", "did you mean claims?"),
        id="claim-for-claims",
    ),
    pytest.param(
        one_route("client-id: {}"),
        ("routes[0].client-id", "is not a known key", "did you mean client_id?"),
        id="hyphen-for-underscore",
    ),
    pytest.param(
        one_route("Methods: [GET]"),
        ("routes[0].Methods", "is not a known key", "did you mean methods?"),
        id="capital-letter",
    ),
    pytest.param(
        one_route("claims: {leway: 5}"),
        ("routes[0].claims.leway", "is not a known key", "did you mean leeway?"),
        id="misspelled-claim-rule",
    ),
    pytest.param(
        "defaults: {claims: {audiance: x}}\nroutes: [{path: /a}]\n",
        ("defaults.claims.audiance", "is not a known key", "did you mean audience?"),
        id="misspelled-rule-in-defaults",
    ),
    pytest.param(
        one_route("jws: {headr: jwt}"),
        ("routes[0].jws.headr", "is not a known key", "did you mean header?"),
        id="misspelled-source",
    ),
    pytest.param(
        one_route("sign: {kye: a, key: rsa.key, issuer: a, audience: b}"),
        ("routes[0].sign.kye", "is not a known key", "did you mean key?"),
        id="misspelled-sign-key",
    ),
    pytest.param(
        "defaults: {path: /a}\nroutes: [{path: /a}]\n",
        ("defaults.path", "is not a known key", None),
        id="path-in-defaults",
    ),
    pytest.param(
        one_route("claims: {max_octets: 5}"),
        ("routes[0].claims.max_octets", "is not a known key", None),
        id="max-octets-in-claims",
    ),
    pytest.param("defaults: {}\n", ("routes", "is missing", "add it"), id="no-routes"),
    pytest.param("routes: []\n", ("routes", "is empty", "add at least one item"), id="empty-routes"),
    pytest.param("routes:\n  - name: a\n", ("routes[0].path", "is missing", "add it"), id="no-path"),
    pytest.param(
        one_route("sign: {key: rsa.key, issuer: a}"),
        ("routes[0].sign.audience", "is missing", "add it"),
        id="sign-without-audience",
    ),
    pytest.param(
        one_route("sign: {issuer: a, audience: b}"),
        ("routes[0].sign.key", "is missing", "add it"),
        id="sign-without-key",
    ),
    # Types
    pytest.param(
        "routes:\n  path: /a\n", ("routes", "is not a list", "write a list, one - a line"), id="routes-without-dash"
    ),
    pytest.param(
        "routes:\n  - /a\n",
        ("routes[0]", "is not a mapping", "write key: value pairs, such as path: …"),
        id="route-without-key",
    ),
    pytest.param("routes:\n", ("routes", "is empty", "write a value, or remove the key"), id="routes-of-nothing"),
    pytest.param(
        "defaults:\nroutes: [{path: /a}]\n",
        ("defaults", "is empty", "write a value, or remove the key"),
        id="defaults-of-nothing",
    ),
    pytest.param(
        one_route("methods: []"), ("routes[0].methods", "is empty", "add at least one item"), id="empty-methods"
    ),
    pytest.param(
        one_route("methods: [GET, 'POST,PUT']"),
        ("routes[0].methods[1]", "is not of the right form", "write it in capitals, such as GET"),
        id="methods-in-one-text",
    ),
    pytest.param(
        one_route("algorithms: RS256"),
        ("routes[0].algorithms", "is not a list", "write a list, one - a line"),
        id="one-algorithm",
    ),
    pytest.param(
        one_route("algorithms: []"), ("routes[0].algorithms", "is empty", "add at least one item"), id="no-algorithm"
    ),
    pytest.param(
        one_route("claims: {required: exp}"),
        ("routes[0].claims.required", "is not a list", "write a list, one - a line"),
        id="one-required-claim",
    ),
    pytest.param(
        one_route('claims: {required: [""]}'),
        ("routes[0].claims.required[0]", "is empty", "write a value"),
        id="empty-required-claim",
    ),
    pytest.param(
        one_route("claims: [exp]"),
        ("routes[0].claims", "is not a mapping", "write key: value pairs, such as required: …"),
        id="claims-as-list",
    ),
    pytest.param(
        one_route("client_id: X-IBM-Client-Id"),
        ("routes[0].client_id", "is not a mapping", "write key: value pairs, such as header: …"),
        id="client-id-as-text",
    ),
    pytest.param(one_route("name: [a]"), ("routes[0].name", "is not text", None), id="name-as-list"),
    pytest.param(
        one_route("forward: perhaps"),
        ("routes[0].forward", "is neither true nor false", "write true or false"),
        id="forward-perhaps",
    ),
    pytest.param(
        one_route("sign: true"),
        ("routes[0].sign", "is not a mapping", "write key: value pairs, such as key: …"),
        id="sign-true",
    ),
    # Values
    pytest.param(
        one_route("algorithms: [none]"),
        ("routes[0].algorithms[0]", "is not one of the known values", None),
        id="algorithm-none",
    ),
    pytest.param(
        one_route("algorithms: [rs256]"),
        ("routes[0].algorithms[0]", "is not one of the known values", None),
        id="algorithm-in-small-letters",
    ),
    pytest.param(
        one_route("respond: payload"),
        ("routes[0].respond", "is not one of the known values", "use 'claims'"),
        id="respond-payload",
    ),
    pytest.param(
        one_route("claims: {leeway: -1}"),
        ("routes[0].claims.leeway", "is too small", "use at least 0"),
        id="leeway-negative",
    ),
    pytest.param(
        one_route("claims: {leeway: 30s}"),
        ("routes[0].claims.leeway", "is not a whole number", "write digits only"),
        id="leeway-with-unit",
    ),
    pytest.param(
        one_route("claims: {leeway: 0.5}"),
        ("routes[0].claims.leeway", "is not a whole number", "write digits only"),
        id="leeway-fraction",
    ),
    pytest.param(
        one_route("claims: {max_lifetime: 0}"),
        ("routes[0].claims.max_lifetime", "is too small", "use at least 1"),
        id="no-lifetime",
    ),
    pytest.param(
        one_route("claims: {max_lifetime: 1e3}"),
        ("routes[0].claims.max_lifetime", "is not a whole number", "write digits only"),
        id="lifetime-in-powers-of-ten",
    ),
    pytest.param(
        one_route("jws: {max_octets: 100}"),
        ("routes[0].jws.max_octets", "is too small", "use at least 256"),
        id="jws-too-small",
    ),
    pytest.param(
        one_route("jws: {max_octets: 10000000}"),
        ("routes[0].jws.max_octets", "is too large", "use at most 1048576"),
        id="jws-too-large",
    ),
    pytest.param(
        one_route("jws: {max_octets: 16K}"),
        ("routes[0].jws.max_octets", "is not a whole number", "write digits only"),
        id="jws-size-with-unit",
    ),
    pytest.param(
        one_route("sign: {key: rsa.key, issuer: a, audience: b, lifetime: 0}"),
        ("routes[0].sign.lifetime", "is too small", "use at least 1"),
        id="sign-lifetime-zero",
    ),
    pytest.param(
        one_route("jws: {header: 'jwt:'}"),
        ("routes[0].jws.header", "is not of the right form", None),
        id="colon-in-header-name",
    ),
    pytest.param(
        one_route("jws: {header: ''}"), ("routes[0].jws.header", "is not of the right form", None), id="no-header-name"
    ),
    pytest.param(
        one_route('jws: {header: "jwt\\n"}'),
        ("routes[0].jws.header", "is not of the right form", None),
        id="line-feed-after-header-name",
    ),
    pytest.param(
        one_route("jws: {header: größe}"),
        ("routes[0].jws.header", "is not of the right form", None),
        id="umlaut-in-header-name",
    ),
    pytest.param(
        one_route("client_id: {query: ''}"),
        ("routes[0].client_id.query", "is empty", "write a value"),
        id="no-query-name",
    ),
    pytest.param(
        one_route("jws: {header: Authorization, scheme: 'Bearer '}"),
        ("routes[0].jws.scheme", "is not of the right form", None),
        id="space-after-scheme",
    ),
    pytest.param(
        one_route("claims: {issuer: ''}"),
        ("routes[0].claims.issuer[0]", "is empty", "write a value"),
        id="empty-issuer",
    ),
    pytest.param(
        one_route("claims: {audience: {a: b}}"),
        ("routes[0].claims.audience", "is not a list", "write a list, one - a line"),
        id="audience-as-mapping",
    ),
    pytest.param(
        one_route("claims: {client_id_claim: ''}"),
        ("routes[0].claims.client_id_claim", "is empty", "write a value"),
        id="empty-claim-name",
    ),
    pytest.param("routes: [{path: ''}]", ("routes[0].path", "is empty", "write a value"), id="empty-path"),
    pytest.param(one_route('name: ""'), ("routes[0].name", "is empty", "write a value"), id="empty-name"),
    # Combinations
    pytest.param(
        one_route("jws: {query: jwt, scheme: Bearer}"),
        ("routes[0].jws", "has a scheme for a query parameter", "only a header has one"),
        id="scheme-in-query",
    ),
    pytest.param(
        one_route("forward: true, respond: claims"),
        ("routes[0]", "has more than one of forward, respond, sign", "keep one"),
        id="two-actions",
    ),
    pytest.param(
        one_route("respond: claims, sign: {key: rsa.key, issuer: a, audience: b}"),
        ("routes[0]", "has more than one of forward, respond, sign", "keep one"),
        id="respond-and-sign",
    ),
    pytest.param(
        one_route("forward: false"),
        (
            "routes[0]",
            "says forward: false",
            "say respond or sign, or remove the route to refuse its requests",
        ),
        id="forward-false",
    ),
    # Detached, bound, used once, chained
    pytest.param(
        one_route("jws: {unencoded: true}"),
        ("routes[0].jws", "is unencoded but not detached", "add detached: true"),
        id="unencoded-but-not-detached",
    ),
    pytest.param(
        one_route("jws: {detached: true}, claims: {leeway: 5}"),
        (
            "routes[0].claims",
            "cannot be checked on a detached JWS, which has no claims",
            "remove it here, or leave typ alone",
        ),
        id="claims-of-a-detached-jws",
    ),
    pytest.param(
        one_route("jws: {detached: true}, single_use: true"),
        ("routes[0].single_use", "cannot be checked on a detached JWS", "remove it here"),
        id="single-use-of-a-detached-jws",
    ),
    pytest.param(
        one_route("jws: {detached: true}, respond: claims"),
        ("routes[0].respond", "has no claims to answer from a detached JWS", "forward instead"),
        id="claims-answered-from-a-detached-jws",
    ),
    pytest.param(
        one_route("bind: {}"),
        ("routes[0].bind", "binds nothing", "name a claim for method, path, url or body"),
        id="bind-of-nothing",
    ),
    pytest.param(
        one_route("bind: {url: htu}"),
        ("routes[0].bind", "binds the URL without base_url", "add base_url: https://HOST"),
        id="url-without-base",
    ),
    pytest.param(
        one_route("bind: {url: htu, base_url: 'https://host/path'}"),
        ("routes[0].bind.base_url", "is not of the right form", None),
        id="base-url-with-path",
    ),
    pytest.param(
        one_route("bind: {url: htu, base_url: 'https://host/'}"),
        ("routes[0].bind.base_url", "is not of the right form", None),
        id="base-url-with-slash",
    ),
    pytest.param(
        one_route("bind: {body: sha-256}"),
        ("routes[0].bind.body", "is not a mapping", "write key: value pairs, such as claim: …"),
        id="body-digest-as-text",
    ),
    pytest.param(
        one_route("bind: {body: {claim: b, algorithm: md5}}"),
        ("routes[0].bind.body.algorithm", "is not one of the known values", "use 'sha-256', 'sha-384' or 'sha-512'"),
        id="body-digest-md5",
    ),
    pytest.param(
        one_route("single_use: once"),
        ("routes[0].single_use", "is neither true nor false", "write true or false"),
        id="single-use-once",
    ),
    pytest.param(one_route("certificates: {}"), ("routes[0].certificates.ca_file", "is missing", "add it"), id="no-ca"),
    pytest.param(
        one_route("certificates: ca.pem"),
        ("routes[0].certificates", "is not a mapping", "write key: value pairs, such as ca_file: …"),
        id="ca-as-text",
    ),
    # Bodies, WebSockets, lost records
    pytest.param(
        one_route("max_body_octets: -1"),
        ("routes[0].max_body_octets", "is too small", "use at least 0"),
        id="body-limit-negative",
    ),
    pytest.param(
        one_route("max_body_octets: 1099511627777"),
        ("routes[0].max_body_octets", "is too large", "use at most 1099511627776"),
        id="body-limit-above-a-tebibyte",
    ),
    pytest.param(
        one_route("max_body_octets: 10 MiB"),
        ("routes[0].max_body_octets", "is not a whole number", "write digits only"),
        id="body-limit-with-unit",
    ),
    pytest.param(
        one_route("max_body_octets: true"),
        ("routes[0].max_body_octets", "is not a whole number", "write digits only"),
        id="body-limit-true",
    ),
    pytest.param(
        "defaults: {max_body_octets: 1.5}\n" + one_route(),
        ("defaults.max_body_octets", "is not a whole number", "write digits only"),
        id="body-limit-of-the-defaults",
    ),
    pytest.param(
        one_route("audit_failure: allow"),
        ("routes[0].audit_failure", "is not one of the known values", "use 'deny' or 'continue'"),
        id="audit-failure-allow",
    ),
    pytest.param(
        "defaults: {audit_failure: Deny}\n" + one_route(),
        ("defaults.audit_failure", "is not one of the known values", "use 'deny' or 'continue'"),
        id="audit-failure-in-capitals",
    ),
    pytest.param(
        one_route("websocket: maybe"),
        ("routes[0].websocket", "is neither true nor false", "write true or false"),
        id="websocket-maybe",
    ),
    pytest.param(
        "defaults: {websocket: true}\n" + one_route(),
        ("defaults.websocket", "is not a known key", None),
        id="websocket-for-all-routes",
    ),
    pytest.param(
        one_route("websocket: true, respond: claims"),
        ("routes[0]", "has a websocket that nobody would answer", "remove it, or forward the requests"),
        id="websocket-answered-with-claims",
    ),
    pytest.param(
        one_route("websocket: true, sign: {key: rsa.key, issuer: a, audience: b}"),
        ("routes[0]", "has a websocket that nobody would answer", "remove it, or forward the requests"),
        id="websocket-answered-with-a-jws",
    ),
    # Paths
    pytest.param(
        one_route(path="'https://api.example.com/a'"),
        ("routes[0].path", "does not begin with a slash", None),
        id="url-for-path",
    ),
    pytest.param(
        one_route(path="/a//b"),
        ("routes[0].path", "has an empty or a dot segment, which no request can have", None),
        id="double-slash",
    ),
    pytest.param(
        one_route(path="/a/../b"),
        ("routes[0].path", "has an empty or a dot segment, which no request can have", None),
        id="dots",
    ),
    pytest.param(
        one_route(path="/a//**"),
        ("routes[0].path", "has an empty or a dot segment, which no request can have", None),
        id="double-slash-before-prefix",
    ),
    pytest.param(
        one_route(path="/a/*"), ("routes[0].path", "has a * that is not /** at its end", None), id="single-star"
    ),
    pytest.param(
        one_route(path="/**/a"),
        ("routes[0].path", "has a * that is not /** at its end", None),
        id="stars-in-the-middle",
    ),
    pytest.param(
        one_route(path="/a**"), ("routes[0].path", "has a * that is not /** at its end", None), id="stars-without-slash"
    ),
    pytest.param(
        one_route(path="'/{a}b'"),
        ("routes[0].path", "has the segment '{a}b', which is neither plain text nor one {template}", None),
        id="template-with-rest",
    ),
    pytest.param(
        one_route(path="'/{}'"),
        ("routes[0].path", "has the segment '{}', which is neither plain text nor one {template}", None),
        id="template-without-name",
    ),
    pytest.param(
        one_route(path="'/{+a}'"),
        ("routes[0].path", "has the segment '{+a}', which is neither plain text nor one {template}", None),
        id="template-of-rfc-6570",
    ),
    pytest.param(
        one_route(path="/v1/a?b=c"),
        ("routes[0].path", "has the segment 'a?b=c', which is neither plain text nor one {template}", None),
        id="query-in-path",
    ),
    pytest.param(
        one_route(path="'/a b'"),
        ("routes[0].path", "has the segment 'a b', which is neither plain text nor one {template}", None),
        id="space-in-path",
    ),
    pytest.param(
        one_route(path="/é"),
        ("routes[0].path", "has the segment 'é', which is neither plain text nor one {template}", None),
        id="letter-that-must-be-escaped",
    ),
    pytest.param(
        one_route(path="/a%2"),
        ("routes[0].path", "has the segment 'a%2', which is neither plain text nor one {template}", None),
        id="half-an-escape",
    ),
    pytest.param(
        one_route(path="'^/a$'"), ("routes[0].path", "does not begin with a slash", None), id="regular-expression"
    ),
    # Conflicts
    pytest.param(
        "routes: [{path: /a, name: first}, {path: /a}]",
        ("routes[1].path", "matches the same requests as route first", "give them different methods"),
        id="same-path",
    ),
    pytest.param(
        "routes: [{path: '/{a}/b'}, {path: '/{c}/b'}]",
        ("routes[1].path", "matches the same requests as route /{a}/b", "give them different methods"),
        id="same-path-other-template-name",
    ),
    pytest.param(
        "routes: [{path: /a, methods: [GET, PUT]}, {path: /a, methods: [PUT]}]",
        ("routes[1].path", "matches the same requests as route /a", "give them different methods"),
        id="one-method-in-both",
    ),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_mistakes(text: str, expected: tuple[str, str, str | None]) -> None:
    """Each typical slip is one problem, with its path, what is wrong, and what to do."""
    (problem,) = policy_problems(text, key_file)
    path, message, remedy = expected
    assert (path, message) == (problem.path, problem.message)
    assert (remedy or problem.remedy) == problem.remedy
    assert problem.remedy not in {"", "correct it"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("routes:\n  - path: /a\n    methods: [GET, get]\n", [(3, 20)], id="flow-item"),
        pytest.param(
            "routes:\n  - path: /a\n    algorithms:\n      - RS256\n      - none\n", [(5, 9)], id="block-item"
        ),
        pytest.param("routes:\n  - path: a\n", [(2, 11)], id="bad-path"),
        pytest.param("routes:\n  - name: é日本\n    path: é\n", [(3, 11)], id="bad-path-after-multi-byte"),
        pytest.param("routes: [{name: é日本, path: é}]\n", [(1, 28)], id="bad-path-in-flow-after-multi-byte"),
        pytest.param("routes:\r\n  - path: /a\r\n    claims: {leeway: x}\r\n", [(3, 22)], id="crlf"),
        pytest.param("\ufeffroutes: [{path: a}]", [(1, 17)], id="byte-order-mark"),
        pytest.param("routes:\n  - name: a\n  - name: b\n", [(2, 5), (3, 5)], id="missing-keys"),
        pytest.param("routes:\n  - path: /a\n  - path: /b\n  - path: /a\n", [(4, 11)], id="conflict-at-the-later"),
        pytest.param("routes:\n  - path: /a\n    forward: false\n", [(2, 5)], id="own-check-at-the-route"),
        pytest.param('{"routes": [{"path": "/a", "methods": "GET"}]}', [(1, 39)], id="json"),
        pytest.param("routes: [{path: /a, path: /b}]", [(1, 21)], id="repeated-key"),
        pytest.param("routes: [{path: &x /a}]", [(1, 17)], id="anchor"),
    ],
)
def test_places(text: str, expected: list[tuple[int, int]]) -> None:
    """Line and column lead to the value, in characters."""
    assert expected == [(problem.line, problem.column) for problem in policy_problems(text)]


# What would open the gate in silence


@pytest.mark.parametrize(
    ("said", "path"),
    [
        pytest.param("methods:", "routes[0].methods", id="methods"),
        pytest.param("algorithms:", "routes[0].algorithms", id="algorithms"),
        pytest.param("claims:", "routes[0].claims", id="claims"),
        pytest.param("claims: {required: }", "routes[0].claims.required", id="required"),
        pytest.param("claims: {issuer: }", "routes[0].claims.issuer", id="issuer"),
        pytest.param("claims: {audience: null}", "routes[0].claims.audience", id="audience"),
        pytest.param("claims: {subject: ~}", "routes[0].claims.subject", id="subject"),
        pytest.param("claims: {typ: }", "routes[0].claims.typ", id="typ"),
        pytest.param("claims: {max_lifetime: }", "routes[0].claims.max_lifetime", id="max-lifetime"),
        pytest.param("claims: {client_id_claim: }", "routes[0].claims.client_id_claim", id="client-id-claim"),
        pytest.param("jws:", "routes[0].jws", id="jws"),
        pytest.param("client_id:", "routes[0].client_id", id="client-id"),
        pytest.param("bind:", "routes[0].bind", id="bind"),
        pytest.param("bind: {method: htm, body: }", "routes[0].bind.body", id="body-digest"),
        pytest.param("single_use:", "routes[0].single_use", id="single-use"),
        pytest.param("max_body_octets:", "routes[0].max_body_octets", id="max-body-octets"),
        pytest.param("audit_failure:", "routes[0].audit_failure", id="audit-failure"),
        pytest.param("websocket:", "routes[0].websocket", id="websocket"),
        pytest.param("certificates:", "routes[0].certificates", id="certificates"),
        pytest.param("jws: {header: }", "routes[0].jws.header", id="header"),
        pytest.param("sign:", "routes[0].sign", id="sign"),
        pytest.param("respond:", "routes[0].respond", id="respond"),
    ],
)
def test_a_key_without_value_is_a_slip(said: str, path: str) -> None:
    """`methods:` with its items commented out must not mean every method, nor `issuer:` any issuer."""
    text = f"defaults: {{claims: {{issuer: tvo}}}}\nroutes:\n  - path: /a\n    {said}\n"
    (problem,) = policy_problems(text, key_file)
    assert (path, "is empty") == (problem.path, problem.message)


@pytest.mark.parametrize("rule", ["issuer", "audience", "subject", "typ"])
def test_an_empty_list_of_accepted_values_is_a_slip(rule: str) -> None:
    """A list of nothing accepts nothing; it must not come to accept everything."""
    (problem,) = policy_problems(one_route(f"claims: {{{rule}: []}}"))
    assert (f"routes[0].claims.{rule}", "is empty") == (problem.path, problem.message)


@pytest.mark.parametrize("defaults", ["", "defaults: {jws: {header: Authorization}}\n"], ids=["alone", "with-defaults"])
def test_a_scheme_is_not_dropped(defaults: str) -> None:
    """`scheme` without its header is either joined to the header of the defaults or a problem."""
    text = f"{defaults}routes:\n  - path: /a\n    jws: {{scheme: Bearer}}\n"
    router, problems = read_policy(text)
    assert problems or [route.jws.scheme for route in router] == ["Bearer"]


@pytest.mark.parametrize(
    ("defaults", "jws"),
    [
        pytest.param("{query: jws}", "{scheme: Bearer}", id="scheme-to-a-query"),
        pytest.param("{detached: true, unencoded: true}", "{detached: false}", id="unencoded-left-over"),
        pytest.param("{detached: true}", "{detached: false, header: x}", id="attached-again"),
    ],
)
def test_a_route_that_does_not_fit_the_defaults(defaults: str, jws: str) -> None:
    """What is sound in each part but not together is a problem at the route, or joined; never another exception."""
    text = f"defaults: {{jws: {defaults}}}\nroutes:\n  - path: /a\n    jws: {jws}\n"
    router, problems = read_policy(text)
    assert len(router) == (0 if problems else 1)
    assert all((problem.line, problem.path) == (4, "routes[0].jws") for problem in problems)


@pytest.mark.parametrize("name", ["bind", "single_use"])
def test_defaults_that_a_detached_route_cannot_keep(name: str) -> None:
    """What the defaults ask for is not dropped in silence: a detached JWS has no claims to bind or to use up."""
    value = {"bind": "{method: htm}", "single_use": "true"}[name]
    text = f"defaults: {{{name}: {value}}}\nroutes: [{{path: /a, jws: {{detached: true}}}}]\n"
    _, problems = read_policy(text)
    assert [("routes[0]", name in problem.message) for problem in problems] == [("routes[0]", True)]


def test_defaults_that_a_detached_route_may_have() -> None:
    """Claim rules of the defaults are for the other routes, and a route may say that single_use is not for it."""
    text = "defaults: {single_use: true, claims: {required: [exp]}}\n"
    (route,) = policy_routes(text + "routes: [{path: /a, jws: {detached: true}, single_use: false}]\n")
    assert (route.detached, route.single_use) == (True, False)


def test_bindings_are_merged_by_key() -> None:
    """A route that binds one part more keeps what the defaults bind."""
    text = "defaults: {bind: {method: htm, body: {claim: b}}}\nroutes: [{path: /a, bind: {path: p}}]\n"
    (route,) = policy_routes(text)
    assert route.bindings == Bindings("htm", "p", None, "", BodyDigest("b"))


@pytest.mark.parametrize("name", ["bind", "single_use", "claims", "jws"])
def test_demands_on_a_route_that_signs(name: str) -> None:
    """They would do nothing there, and say so."""
    value = {"bind": "{method: m}", "single_use": "true", "claims": "{leeway: 1}", "jws": "{header: x}"}[name]
    sign = "{key: k, issuer: i, audience: a}"
    pem = material.private_pem(material.private_key("rsa")).encode()
    _, problems = read_policy(f"routes: [{{path: /a, sign: {sign}, {name}: {value}}}]\n", lambda _: pem)
    assert "does nothing on a route that signs" in {problem.message for problem in problems}


def test_bindings() -> None:
    """Every part of a request can be bound, in a route or in the defaults."""
    bind = "{method: htm, path: p, url: htu, base_url: 'https://api.example:8443', body: {claim: b, encoding: hex}}"
    expected = Bindings("htm", "p", "htu", "https://api.example:8443", BodyDigest("b", "sha-256", "hex"))
    first = only(one_route(f"bind: {bind}"))
    second = only(f"defaults: {{bind: {bind}}}\nroutes: [{{path: /a}}]")
    assert [expected] * 2 == [first.bindings, second.bindings]


@pytest.mark.parametrize(
    ("defaults", "route", "expected"),
    [
        pytest.param("", "", False, id="not-said"),
        pytest.param("", "single_use: true", True, id="route"),
        pytest.param("single_use: true", "", True, id="defaults"),
        pytest.param("single_use: true", "single_use: false", False, id="lifted"),
    ],
)
def test_single_use(defaults: str, route: str, expected: bool) -> None:
    """A route may ask for it, or lift what the defaults ask for."""
    text = f"defaults: {{{defaults}}}\nroutes: [{{path: /a{', ' + route if route else ''}}}]"
    assert expected == only(text).single_use


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/a%41", id="escaped-letter"),
        pytest.param("/admin%2Dx", id="escaped-hyphen"),
        pytest.param("/%7Ea", id="escaped-tilde"),
        pytest.param("/a%2Fb", id="escaped-slash"),
        pytest.param("/a%5Cb", id="escaped-backslash"),
        pytest.param("/a%00", id="escaped-nul"),
        pytest.param("/%2E%2E", id="escaped-dots"),
        pytest.param("/..;a", id="dots-with-parameter"),
    ],
)
def test_paths_that_no_request_can_have(path: str) -> None:
    """Requests are matched normalised, so that such a route would never be used, and a laxer one would."""
    ((_, _, where, _),) = places(policy_problems(one_route(path=f"'{path}'")))
    assert where == "routes[0].path"


# Keys to sign with


def pem_of(key: Any) -> bytes:
    """A private key of a kind that no JWS is signed with."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    octets: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return octets


def encrypted_pem() -> bytes:
    """A key behind a password."""
    encryption = serialization.BestAvailableEncryption(b"password")
    return material.private_key("p256").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


NO_KEY = "is not a private key in PEM without a password"


@pytest.mark.parametrize(
    ("pem", "algorithm", "message", "remedy"),
    [
        pytest.param(b"", "RS256", NO_KEY, "write it as PKCS #8 PEM", id="empty"),
        pytest.param(b"\xff\x00", "RS256", NO_KEY, "write it as PKCS #8 PEM", id="octets"),
        pytest.param(KEYS["rsa.key"][:200], "RS256", NO_KEY, "write it as PKCS #8 PEM", id="cut-short"),
        pytest.param(encrypted_pem(), "ES256", NO_KEY, "write it as PKCS #8 PEM", id="password"),
        pytest.param(
            material.public_pem(material.private_key("rsa")).encode(),
            "RS256",
            NO_KEY,
            "write it as PKCS #8 PEM",
            id="public-key",
        ),
        pytest.param(
            material.certificate(material.private_key("rsa")).encode(),
            "RS256",
            NO_KEY,
            "write it as PKCS #8 PEM",
            id="certificate",
        ),
        pytest.param(
            KEYS["rsa.key"],
            "ES256",
            "is a key that cannot sign ES256",
            "use RS256 or RS384 or RS512 or PS256 or PS384 or PS512",
            id="rsa-key-for-es256",
        ),
        pytest.param(KEYS["p256.key"], "RS256", "is a key that cannot sign RS256", "use ES256", id="p256-for-rs256"),
        pytest.param(KEYS["p256.key"], "ES384", "is a key that cannot sign ES384", "use ES256", id="p256-for-es384"),
        pytest.param(KEYS["p521.key"], "ES256", "is a key that cannot sign ES256", "use ES512", id="p521-for-es256"),
        pytest.param(
            KEYS["ed25519.key"], "ES256", "is a key that cannot sign ES256", "use EdDSA", id="ed25519-for-es256"
        ),
    ],
)
def test_keys_that_do_not_serve(pem: bytes, algorithm: str, message: str, remedy: str) -> None:
    """Told when the policy is loaded, and not at the first request."""
    text = one_route(f"sign: {{key: a.key, algorithm: {algorithm}, issuer: a, audience: b}}")
    (problem,) = policy_problems(text, lambda _: pem)
    assert ("routes[0].sign.key", message, remedy) == (problem.path, problem.message, problem.remedy)
    assert "MII" not in str(problem)


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(pem_of(x25519.X25519PrivateKey.generate()), id="x25519"),
        pytest.param(pem_of(dsa.generate_private_key(2048)), id="dsa"),
        pytest.param(material.private_pem(material.private_key("rsa", "short", 1024)).encode(), id="rsa-1024"),
    ],
)
def test_keys_whose_certificate_cannot_be_registered(pem: bytes) -> None:
    """What no application could register a certificate for is no key to sign with."""
    text = one_route("sign: {key: a.key, issuer: a, audience: b}")
    (problem,) = policy_problems(text, lambda _: pem)
    assert problem.path == "routes[0].sign.key"


def test_key_file_that_cannot_be_read() -> None:
    """The reader's words become the problem's, at the place of the name."""

    def read(_name: str) -> bytes:
        raise Unfit("names 'a.key', which does not exist", "check the path")

    text = "routes:\n  - path: /a\n    sign:\n      key: a.key\n      issuer: a\n      audience: b\n"
    (problem,) = policy_problems(text, read)
    assert places([problem]) == [(4, 12, "routes[0].sign.key", "names 'a.key', which does not exist")]
    assert problem.remedy == "check the path"


# Whole files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [(1, 1, "(document)", "is empty")], id="empty"),
        pytest.param("# nothing\n", [(1, 1, "(document)", "is empty")], id="comment"),
        pytest.param("/**", [(1, 1, "(document)", "is not a mapping")], id="text"),
        pytest.param("- path: /a\n", [(1, 1, "(document)", "is not a mapping")], id="list-of-routes"),
        pytest.param(
            "routes: [{path: /a}]\n---\nroutes: [{path: /b}]\n",
            [(2, 1, "(document)", "holds a second document")],
            id="two-documents",
        ),
        pytest.param(
            "routes:\n- path: /a\n  claims: &c {leeway: 1}\n- path: /b\n  claims: *c\n",
            [(3, 11, "routes[0].claims", "has an anchor"), (5, 11, "routes[1].claims", "is an alias")],
            id="aliases",
        ),
        pytest.param(
            "routes:\n- path: /a\n  <<: {name: b}\n", [(3, 3, "routes[0].<<", "is a merge key")], id="merge-key"
        ),
        pytest.param("routes: !!seq [{path: /a}]", [(1, 9, "routes", "has a tag")], id="tag"),
    ],
)
def test_files_that_are_no_policy(text: str, expected: list[Place]) -> None:
    """Files of another kind, or in a YAML that is refused, are told as such."""
    found = places(policy_problems(text))
    assert (
        expected == [place for place in found if place[2:] != ("routes[0].<<", "is not a known key")][: len(expected)]
    )
    assert len(found) <= len(expected) + 1


def test_all_problems_are_told_together() -> None:
    """Syntax, shape, paths, conflicts and keys: whoever mends a file wants to hear it once."""
    text = """\
defaults: {algorithms: [none]}
routes:
  - path: /a
  - path: b
    name: x
    name: y
  - path: /a
  - path: /c
    methods: get
  - path: /d
    sign: {key: p256.key, issuer: a, audience: b}
  - {}
"""
    expected = [
        (1, 25, "defaults.algorithms[0]", "is not one of the known values"),
        (4, 11, "routes[1].path", "does not begin with a slash"),
        (6, 5, "routes[1].name", "is a repeated key"),
        (7, 11, "routes[2].path", "matches the same requests as route /a"),
        (9, 14, "routes[3].methods", "is not a list"),
        (11, 17, "routes[4].sign.key", "is a key that cannot sign RS256"),
        (12, 5, "routes[5].path", "is missing"),
    ]
    assert expected == places(policy_problems(text, key_file))


def test_problems_of_sound_shape_are_told_together() -> None:
    """The same without an error of shape."""
    text = """\
routes:
  - path: /a
  - path: b
  - path: /a
  - path: /d
    sign: {key: p256.key, issuer: a, audience: b}
"""
    expected = [
        (3, 11, "routes[1].path", "does not begin with a slash"),
        (4, 11, "routes[2].path", "matches the same requests as route /a"),
        (6, 17, "routes[3].sign.key", "is a key that cannot sign RS256"),
    ]
    assert expected == places(policy_problems(text, key_file))


def test_json_policy() -> None:
    """A policy may be JSON."""
    text = '{"routes": [{"path": "/a", "methods": ["GET"], "claims": {"leeway": 5, "required": []}, "forward": true}]}'
    route = only(text)
    expected: Any = (frozenset({"GET"}), 5, ())
    assert expected == (route.methods, route.claims.leeway, route.claims.required)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('routes: [{path: /a, "\\e[31m": 1}]', id="key"),
        pytest.param('routes: [{path: "\\e[31m"}]', id="path"),
        pytest.param('routes: [{path: "/\\r\\n"}]', id="segment"),
        pytest.param('routes: [{path: /a, name: "x\\ny"}, {path: /a}]', id="name"),
        pytest.param('routes: [{path: /a, methods: ["\\0"]}]', id="method"),
        pytest.param('{"\\u202e": 1}', id="top-key"),
    ],
)
def test_problems_print_no_control_character(text: str) -> None:
    """Nothing of a broken policy steers a terminal."""
    found = policy_problems(text)
    assert found
    assert all(str(problem).isprintable() for problem in found)


@pytest.mark.parametrize(
    ("defaults", "route", "expected"),
    [
        pytest.param("", "", (False, None, "deny"), id="unsaid"),
        pytest.param("", "websocket: true", (True, None, "deny"), id="websocket"),
        pytest.param("", "websocket: false", (False, None, "deny"), id="no-websocket"),
        pytest.param("", "max_body_octets: 0", (False, 0, "deny"), id="no-body"),
        pytest.param("max_body_octets: 5", "", (False, 5, "deny"), id="limit-for-all"),
        pytest.param("max_body_octets: 5", "max_body_octets: 0", (False, 0, "deny"), id="less-for-one"),
        pytest.param("max_body_octets: 5", "max_body_octets: 1099511627776", (False, 1 << 40, "deny"), id="more"),
        pytest.param("audit_failure: continue", "", (False, None, "continue"), id="continue-for-all"),
        pytest.param("audit_failure: continue", "audit_failure: deny", (False, None, "deny"), id="deny-for-one"),
    ],
)
def test_bodies_websockets_and_lost_records(defaults: str, route: str, expected: tuple[bool, int | None, str]) -> None:
    """What a route says comes before the defaults, a zero too; unsaid, nothing is opened or let go on."""
    found = only(f"defaults: {{{defaults}}}\n" + one_route(route))
    assert expected == (found.websocket, found.max_body_octets, found.audit_failure)


# One place for two values


JWS_ALSO = "jws: {header: Authorization, scheme: Bearer, also: [{header: jwt}]}"


@pytest.mark.parametrize(
    ("said", "path"),
    [
        pytest.param("client_id: {header: jwt}", "routes[0].client_id", id="one-header"),
        pytest.param("jws: {header: x_ibm.client-id}", "routes[0].jws", id="in-another-spelling"),
        pytest.param("client_id: {query: a}\n    jws: {query: a}", "routes[0].client_id", id="one-parameter"),
        pytest.param(
            "client_id: {header: a, scheme: Basic}\n    jws: {header: a, scheme: Bearer}",
            "routes[0].client_id",
            id="two-schemes-and-nowhere-else",
        ),
        pytest.param(
            f"client_id: {{header: Authorization}}\n    {JWS_ALSO}",
            "routes[0].client_id",
            id="with-the-scheme-of-the-JWS",
        ),
    ],
)
def test_client_id_and_jws_are_apart(said: str, path: str) -> None:
    """No request could bring both in one place."""
    (problem,) = policy_problems(f"routes:\n  - path: /a\n    {said}\n")
    assert problem.path == path
    assert problem.message.startswith("has client ID and JWS in the same ")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(f"client_id: {{header: Authorization, scheme: Basic}}\n    {JWS_ALSO}", id="two-schemes"),
        pytest.param("client_id: {query: jwt}", id="header-and-parameter"),
        pytest.param("client_id: {header: jwt}\n    open: true", id="open"),
    ],
)
def test_one_name_for_both_where_it_can_be(said: str) -> None:
    """Two places are apart that only share a name, or that a scheme tells apart; an open route looks at neither."""
    problems = policy_problems(f"routes:\n  - path: /a\n    {said}\n")
    assert [problem.message for problem in problems if "in the same" in problem.message] == []


def test_one_place_for_both_in_the_defaults_is_told_once() -> None:
    """There, and not at each route."""
    text = "defaults: {client_id: {header: jwt}, upstream: {thumbprint: jwt}}\nroutes: [{path: /a}, {path: /b}]\n"
    assert [(problem.path, problem.column) for problem in policy_problems(text)] == [
        ("defaults.client_id", 23), ("defaults.upstream", 48),
    ]  # fmt: skip


def test_the_client_id_may_be_told_in_its_own_header() -> None:
    """Verified, in place of what came in."""
    assert policy_problems("routes: [{path: /a, upstream: {client_id: x-ibm-client-id}}]\n") == []
