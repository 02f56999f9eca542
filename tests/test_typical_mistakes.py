"""Typical mistakes in a policy of two routes, each with all that its author is told: place, problem, remedy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from jwsgate.files.loading import load_snapshot
from unit_material import problems_in

POLICY = """\
defaults:
  claims:
    required: [exp, iat]
    max_lifetime: 3600
routes:
  - path: /orders/{id}
    methods: [GET, PUT]
    algorithms: [RS256]
  - path: /health
    open: true
"""

METHODS, ALGORITHMS, OPEN = "    methods: [GET, PUT]\n", "    algorithms: [RS256]\n", "    open: true\n"
ALL_ALGORITHMS = "'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512' or 'EdDSA'"
COLON = "write key: value, with a colon and a blank, here or in the line before"
LIKE = "write it like /orders/{id} or /orders/**"
NO_NAME = "no route can name it: write a {template} in its place, or end the path with /** before it"
LIST = "write a list, one - a line"

ROUTE_KEYS = (
    "client_id, jws, algorithms, claims, bind, single_use, certificates, max_body_octets, audit_failure, "
    "client_certificate, cors, mode, upstream, path, name, methods, websocket, open, forward, respond, sign"
)

# What of the policy is replaced, by what, and what is told then, but for the name of the file.
MISTAKES = [
    # Syntax
    (
        "routes:\n",
        "routes\n",
        f"6:9: (document): is not YAML: while scanning a simple key, could not find expected ':' ({COLON})",
    ),
    (
        "path: /health",
        "path /health",
        f"10:9: (document): is not YAML: mapping values are not allowed in this context ({COLON})",
    ),
    (
        METHODS,
        METHODS.replace("    ", "\t"),
        "7:1: (document): is not YAML: while scanning a plain scalar, found a tab character that violates indentation "
        "(indent with blanks, not with tabs)",
    ),
    (
        METHODS,
        METHODS.replace("    ", "   "),
        "7:4: (document): is not YAML: while parsing a block collection, did not find expected '-' indicator "
        "(indent it like the other lines of its item)",
    ),
    (
        "[GET, PUT]",
        "[GET, PUT",
        "8:15: (document): is not YAML: while parsing a flow sequence, did not find expected ',' or ']' "
        "(close the list with ], or quote what holds { or [)",
    ),
    (
        "    algorithms: [RS256]\n  - path",
        "    path",
        "8:5: routes[0].path: is a repeated key (keep one of them, or begin another item with -)",
    ),
    (
        ALGORITHMS,
        "    claims: &rules {leeway: 5}\n",
        "8:13: routes[0].claims: has an anchor (remove it; aliases are not read)",
    ),
    (
        "path: /health",
        'path: "/health',
        "9:11: (document): is not YAML: while scanning a quoted scalar, found unexpected end of stream "
        "(close the quotation marks that begin here)",
    ),
    (
        "path: /orders/{id}",
        "path: {org}/orders",
        "6:16: (document): is not YAML: while parsing a block mapping, did not find expected key "
        "(quote the whole value, which begins with { or [)",
    ),
    (
        "path: /orders/{id}",
        "path: */orders",
        "6:12: (document): is not YAML: while scanning an alias, did not find expected alphabetic or numeric character "
        "(quote the value, which begins with *)",
    ),
    (
        "  - path: /health",
        "- path: /health",
        "9:1: (document): is not YAML: while parsing a block mapping, did not find expected key "
        "(indent this - like that of the other items, each of which needs one)",
    ),
    (
        METHODS,
        METHODS.replace("    ", "\u00a0   "),
        "7:1: (document): is not YAML: while parsing a block mapping, did not find expected key "
        "(write a plain blank in place of U+00A0)",
    ),
    (
        METHODS,
        METHODS.replace("m", "\u00a0m"),
        "7:5: routes[0].\\xa0methods: is not a known key (did you mean methods?)",
    ),
    # Keys
    ("methods:", "method:", "7:5: routes[0].method: is not a known key (did you mean methods?)"),
    (ALGORITHMS, "    claims: {iss: tvo}\n", "8:14: routes[0].claims.iss: is not a known key (did you mean issuer?)"),
    (ALGORITHMS, "    max_lifetime: 60\n", "8:5: routes[0].max_lifetime: is not a known key (put it under claims)"),
    (ALGORITHMS, "    scopes: [read]\n", f"8:5: routes[0].scopes: is not a known key (known here: {ROUTE_KEYS})"),
    (ALGORITHMS, "    auth: none\n", f"8:5: routes[0].auth: is not a known key (known here: {ROUTE_KEYS})"),
    (ALGORITHMS, "    opne: true\n", f"8:5: routes[0].opne: is not a known key (known here: {ROUTE_KEYS})"),
    (
        ALGORITHMS,
        "    errors: {profile: rfc}\n",
        "8:5: routes[0].errors: is not a known key (put it at the top of the file)",
    ),
    (
        OPEN,
        "    open: true\napplications:\n  - {name: billing, client_id: a, algorithms: [RS256]}\n",
        "12:6: applications[0].name: is not a known key (did you mean application?)",
    ),
    # Paths
    ("path: /health", "path: health", f"9:11: routes[1].path: does not begin with a slash ({LIKE})"),
    (
        "path: /health",
        "path: https://api.example/health",
        f"9:11: routes[1].path: does not begin with a slash ({LIKE})",
    ),
    ("/orders/{id}", "/orders/*", f"6:11: routes[0].path: has a * that is not /** at its end ({LIKE})"),
    (
        "/orders/{id}",
        "/orders/<id>",
        f"6:11: routes[0].path: has the segment '<id>', which is neither plain text nor one {{template}} ({LIKE})",
    ),
    (
        "/orders/{id}",
        "/orders/:id",
        "6:11: routes[0].path: has the segment :id, which would be matched as it stands (write /orders/{id})",
    ),
    (
        "/orders/{id}",
        "/a/{id}/b/{id}",
        "6:11: routes[0].path: has the template {id} twice (give each a name of its own)",
    ),
    (
        "/orders/{id}",
        "/my orders/{id}",
        "6:11: routes[0].path: has the segment 'my orders', which is neither plain text nor one {template} "
        f"({NO_NAME})",
    ),
    (
        "/orders/{id}",
        "/my%20orders/{id}",
        f"6:11: routes[0].path: has the segment my%20orders, which upstreams read in more than one way ({NO_NAME})",
    ),
    (
        "/orders/{id}",
        "/a%3Ab/{id}",
        "6:11: routes[0].path: has the segment a%3Ab, which upstreams read in more than one way (write /a:b/{id})",
    ),
    (
        "/orders/{id}",
        "/bücher/{id}",
        "6:11: routes[0].path: has the segment 'bücher', which is neither plain text nor one {template} "
        "(write /b%C3%BCcher/{id})",
    ),
    (
        "/orders/{id}",
        "/b%c3%bccher/{id}",
        "6:11: routes[0].path: has the segment 'b%c3%bccher', which is neither plain text nor one {template} "
        "(write /b%C3%BCcher/{id})",
    ),
    (
        "/orders/{id}",
        "{id}",
        "6:11: routes[0].path: is not text (write one plain value, in quotes if it begins with { or [)",
    ),
    (
        "path: /health\n    open: true",
        "path: /orders/{number}\n    methods: [GET]",
        "9:11: routes[1].path: matches the same requests as route /orders/{id} (give them different methods)",
    ),
    (
        "/orders/{id}\n    methods: [GET, PUT]\n    algorithms: [RS256]\n  - path",
        "/orders/{id}\n    name: a\n  - name: a\n    path",
        "8:11: routes[1].name: is the name of routes[0] too, so that logs and metrics mix the two "
        "(give each its own, or none: then its path is its name)",
    ),
    # Values
    ("[GET, PUT]", "GET", f"7:14: routes[0].methods: is not a list ({LIST})"),
    ("[GET, PUT]", "[get]", "7:15: routes[0].methods[0]: is not of the right form (write it in capitals, such as GET)"),
    ("[RS256]", "[HS256]", f"8:18: routes[0].algorithms[0]: is not one of the known values (use {ALL_ALGORITHMS})"),
    ("3600", "1h", "4:19: defaults.claims.max_lifetime: is not a whole number (write digits only)"),
    ("    max_lifetime: 3600", "    leeway: 86400", "4:13: defaults.claims.leeway: is too large (use at most 3600)"),
    (
        "    max_lifetime: 3600",
        "    issuer:",
        "4:12: defaults.claims.issuer: is empty (write a value, or remove the key)",
    ),
    (ALGORITHMS, "    jws: jwt\n", "8:10: routes[0].jws: is not a mapping (write key: value pairs, such as header: …)"),
    (
        ALGORITHMS,
        "    jws: {header: Authorization Bearer}\n",
        "8:19: routes[0].jws.header: is not of the right form "
        "(write a name without blanks and colons, such as X-IBM-Client-Id)",
    ),
    (
        ALGORITHMS,
        "    claims: {issuer: {env: NOT_SET_ANYWHERE}}\n",
        "8:22: routes[0].claims.issuer: takes the variable 'NOT_SET_ANYWHERE', which is not set "
        "(set it, or write the value here)",
    ),
    (
        "3600",
        "${LIFETIME}",
        "4:19: defaults.claims.max_lifetime: has the placeholder ${LIFETIME}, which nobody fills in "
        "(write {env: LIFETIME} in place of the whole value)",
    ),
    (
        ALGORITHMS,
        "    claims: {issuer: 'https://${HOST}'}\n",
        "8:22: routes[0].claims.issuer: has the placeholder ${HOST}, which nobody fills in "
        "(write {env: HOST} in place of the whole value)",
    ),
    (
        ALGORITHMS,
        "    upstream: {claims: {sub: X-Subject}}\n",
        "8:15: routes[0].upstream: sends a claim X-Subject as the header sub (write the header first: X-Subject: sub)",
    ),
    (
        ALGORITHMS,
        "    mode: dry-run\n",
        "8:11: routes[0].mode: is not one of the known values (use 'enforce' or 'report')",
    ),
    (
        ALGORITHMS,
        "    certificates: {ca_file: ca.pem}\n",
        "8:29: routes[0].certificates.ca_file: names 'ca.pem', which does not exist (check the path)",
    ),
    (
        "[GET, PUT]",
        "[ALL]",
        "7:15: routes[0].methods[0]: is no method: ALL is nothing that a client sends "
        "(leave methods out: then all are meant)",
    ),
    (
        "[GET, PUT]",
        '["*"]',
        "7:15: routes[0].methods[0]: is no method: * is nothing that a client sends "
        "(leave methods out: then all are meant)",
    ),
    ("3600", "3_00", "4:19: defaults.claims.max_lifetime: is not a whole number (write digits only)"),
    ("3600", "0300", "4:19: defaults.claims.max_lifetime: is not a whole number (write digits only)"),
    ("3600", "300.0", "4:19: defaults.claims.max_lifetime: is not a whole number (write digits only)"),
    (
        ALGORITHMS,
        '    jws: {header: Authorization, scheme: "Bearer "}\n',
        "8:42: routes[0].jws.scheme: is not of the right form (write the word alone, such as Bearer)",
    ),
    (
        ALGORITHMS,
        "    jws: {header: Host}\n",
        "8:19: routes[0].jws.header: is a header with a meaning of its own (write another header, such as jwt)",
    ),
    (
        ALGORITHMS,
        "    client_id: {header: Content-Length}\n",
        "8:25: routes[0].client_id.header: is a header with a meaning of its own (write another header, such as jwt)",
    ),
    (
        ALGORITHMS,
        "    jws: {header: jwt, also: [{header: Cookie}]}\n",
        "8:40: routes[0].jws.also[0].header: is a header with a meaning of its own (write cookie: and its name)",
    ),
    (
        ALGORITHMS,
        '    cors: {origins: ["https://*.example"]}\n',
        "8:22: routes[0].cors.origins[0]: is compared as text, and no origin has a * in it "
        "(list each origin, or write * alone for all)",
    ),
    (
        ALGORITHMS,
        "    bind: {method: POST}\n",
        "8:20: routes[0].bind.method: is a method, and no name of a claim "
        "(name the claim that holds the method, such as htm)",
    ),
    (
        ALGORITHMS,
        "    bind: {path: /orders}\n",
        "8:18: routes[0].bind.path: is a path, and no name of a claim "
        "(name the claim that holds the path, such as path)",
    ),
    (
        ALGORITHMS,
        "    upstream: {claims: {Authorization: sub}}\n",
        "8:25: routes[0].upstream.claims.Authorization: is a header with a meaning of its own "
        "(write another name, such as X-Subject)",
    ),
    (
        ALGORITHMS,
        "    client_certificate: {ca_file: ca.pem}\n",
        "8:25: routes[0].client_certificate: names a CA, which is not asked of the certificate of a connection "
        "(write certificates: {ca_file: …} for the registered one, and here required)",
    ),
    (
        ALGORITHMS,
        "    upstream: {claims: [sub]}\n",
        "8:24: routes[0].upstream.claims: is not a mapping (write key: value pairs, such as X-Subject: sub)",
    ),
    (
        "defaults:\n",
        "errors: {overrides: {jws_expired: 401}}\ndefaults:\n",
        "1:35: errors.overrides.jws_expired: is not a mapping (write key: value pairs, such as status: …)",
    ),
    # What does not go together
    (
        ALGORITHMS,
        "    client_id: {header: jwt}\n",
        "8:16: routes[0].client_id: has client ID and JWS in the same header jwt (give each its own)",
    ),
    (
        ALGORITHMS,
        "    upstream: {claims: {JWT: sub}}\n",
        "8:15: routes[0].upstream: writes the header JWT, in which the client sends its JWS "
        "(write another name, such as X-Subject)",
    ),
    (
        ALGORITHMS,
        "    upstream: {claims: {X-IBM-Client-ID: azp}}\n",
        "8:15: routes[0].upstream: writes the header X-IBM-Client-ID, in which the client sends its client ID "
        "(write another name, such as X-Subject)",
    ),
    (
        ALGORITHMS,
        "    jws: {header: jwt, query: jwt}\n",
        "8:10: routes[0].jws: names a header and a query parameter "
        "(keep one, and list the other under also; exactly one may then hold the value)",
    ),
    (
        OPEN,
        "    open: true\n    algorithms: [RS256]\n",
        "9:5: routes[1]: is open, so that algorithms is never looked at (remove open or algorithms)",
    ),
    (
        ALGORITHMS,
        "    bind: {url: htu}\n",
        "8:11: routes[0].bind: binds the URL without base_url (add base_url: https://HOST)",
    ),
    (
        OPEN,
        "    open: true\napplications:\n  - {application: billing, algorithms: [ES256]}\n",
        "12:40: applications[0].algorithms: names ES256, which route '/orders/{id}' does not allow "
        "(take it out, or list other routes under routes: more than a route allows is said at the route)",
    ),
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A portal export without applications, and where the policy will be."""
    (tmp_path / "portal.yaml").write_text("results: []\n")
    return tmp_path / "portal.yaml", tmp_path / "policy.yaml"


def test_the_policy_is_good(files: tuple[Path, Path]) -> None:
    """Before anything is replaced."""
    files[1].write_text(POLICY)
    assert len(load_snapshot(files[0], [files[1]], time.time()).router) == 2


@pytest.mark.parametrize(("old", "new", "told"), MISTAKES, ids=[told.partition(" (")[0] for _, _, told in MISTAKES])
def test_typical_mistake(files: tuple[Path, Path], old: str, new: str, told: str) -> None:
    """One mistake, one line: where it is, what is wrong, and what to do."""
    assert POLICY.count(old) == 1
    files[1].write_text(POLICY.replace(old, new), encoding="utf-8")
    (problem,) = problems_in(lambda: load_snapshot(files[0], [files[1]], time.time()))
    assert str(problem) == f"{files[1]}:{told}"
