"""The JSON Schemas: valid as such, and of one mind with the loaders."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from jwsgate.files.documents import read_document
from jwsgate.files.environment import filled
from jwsgate.files.policy_shapes import PolicyShape
from jwsgate.files.portal_shapes import PortalShape
from jwsgate.files.problems import Location
from jwsgate.files.schemas import policy_schema, schema_of
from jwsgate.files.shapes import check_shape
from unit_material import good_portal, policy_problems

POLICY_SCHEMA = policy_schema()
PORTAL_SCHEMA = schema_of(PortalShape)
SCHEMAS = pytest.mark.parametrize("schema", [POLICY_SCHEMA, PORTAL_SCHEMA], ids=["policy", "portal"])


def errors(schema: dict[str, Any], text: str) -> list[str]:
    """What an editor shows for a file."""
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


@SCHEMAS
def test_schemas_are_schemas(schema: dict[str, Any]) -> None:
    """They name their dialect and are valid by it."""
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


@SCHEMAS
def test_every_property_is_described(schema: dict[str, Any]) -> None:
    """An editor shows a line of help for each key."""
    shapes = [schema, *schema["$defs"].values()]
    bare = [
        (shape.get("title"), name)
        for shape in shapes
        for name, entry in shape.get("properties", {}).items()
        if not entry.get("description") and "$ref" not in entry
    ]
    assert bare == []


def test_policy_schema_knows_all_keys() -> None:
    """A key that the gate would refuse is underlined in the editor."""
    shapes = [POLICY_SCHEMA, *POLICY_SCHEMA["$defs"].values()]
    assert all(shape["additionalProperties"] is False for shape in shapes if shape.get("type") == "object")


def test_portal_schema_lets_other_keys_be() -> None:
    """Another product's format has many more keys, wherever it is not our own extension."""
    text = "{total_results: 1, results: [{name: a, url: b, credentials: [{client_id: c, url: d}]}]}"
    assert errors(PORTAL_SCHEMA, text) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("routes: [{path: /a}]", id="shortest"),
        pytest.param("routes: [{path: /a, methods: [GET], forward: true}]", id="forward"),
        pytest.param("routes: [{path: /a, claims: {issuer: tvo, audience: [a, b], required: []}}]", id="one-or-more"),
        pytest.param("routes: [{path: /a, jws: {header: Authorization, scheme: Bearer, max_octets: 256}}]", id="jws"),
        pytest.param("defaults: {algorithms: [RS256]}\nroutes: [{path: /a, respond: claims}]", id="defaults"),
    ],
)
def test_good_policies(text: str) -> None:
    """What the gate reads, the editor accepts."""
    assert policy_problems(text) == []
    assert errors(POLICY_SCHEMA, text) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{}", id="no-routes"),
        pytest.param("routes: []", id="empty-routes"),
        pytest.param("routes: [{}]", id="no-path"),
        pytest.param("routes: [{path: ''}]", id="empty-path"),
        pytest.param("routes: [{path: /a, method: [GET]}]", id="unknown-key"),
        pytest.param("routes: [{path: /a, claims: {leway: 5}}]", id="unknown-key-deep"),
        pytest.param("routes: [{path: /a, methods: GET}]", id="no-list"),
        pytest.param("routes: [{path: /a, methods: [get]}]", id="small-method"),
        pytest.param("routes: [{path: /a, methods: []}]", id="empty-methods"),
        pytest.param("routes: [{path: /a, algorithms: [none]}]", id="algorithm-none"),
        pytest.param("routes: [{path: /a, claims: {leeway: 86400}}]", id="too-large"),
        pytest.param("routes: [{path: /a, claims: {leeway: 30s}}]", id="no-number"),
        pytest.param("routes: [{path: /a, jws: {header: 'a b'}}]", id="header-name"),
        pytest.param("routes: [{path: /a, respond: payload}]", id="unknown-value"),
        pytest.param("routes: [{path: /a, claims: {issuer: ''}}]", id="empty-issuer"),
        pytest.param("routes: [{path: /a, claims: {audience: [a, '']}}]", id="empty-audience-in-list"),
        pytest.param("routes: [{path: /a, claims: {issuer: }}]", id="nothing-behind-a-key"),
        pytest.param("routes: [{path: /a, claims: }]", id="nothing-behind-a-mapping"),
    ],
)
def test_bad_policies(text: str) -> None:
    """What the gate refuses for its shape, the editor underlines."""
    assert policy_problems(text)
    assert errors(POLICY_SCHEMA, text)


@pytest.mark.parametrize("client_id", ["abc", "0123456", "123", "1e5", "0x1F", "yes"])
def test_portal_schema_takes_unquoted_client_ids(client_id: str) -> None:
    """A schema-checking editor types unquoted values, which the loader does not: it must not underline them."""
    text = f"results: [{{name: {client_id}, credentials: [{{client_id: {client_id}}}]}}]"
    assert [client_id] == list(good_portal(text).by_client_id)
    assert errors(PORTAL_SCHEMA, text) == []


# {env: NAME}

WHOLE: Any = yaml.safe_load("""\
$schema: policy.schema.json
defaults:
  client_id: {header: X-IBM-Client-Id, also: [{query: client}]}
  jws: {header: Authorization, scheme: Bearer, max_octets: 4096, also: [{cookie: jwt}]}
  algorithms: [ES256]
  claims:
    {required: [exp], leeway: 5, max_lifetime: 60, issuer: a, audience: [a, b], subject: s, client_id_claim: z, typ: t}
  bind: {method: m, path: p, url: u, base_url: "https://a.example", body: {claim: d, algorithm: sha-256, encoding: hex}}
  single_use: true
  certificates: {ca_file: ca.pem, crl_file: ca.crl}
  max_body_octets: 5
  audit_failure: deny
  client_certificate: required
  cors: {origins: ["https://a.example"], headers: [X-A], expose: [X-B], credentials: true, max_age: 5}
  mode: report
  upstream:
    strip_jws: true
    claims: {X-Subject: sub}
    claims_json: X-Json
    application: X-Application
    organization: X-Organization
    client_id: X-Id
    thumbprint: X-Print
errors: {profile: rfc, overrides: {jws_missing: {status: 401, message: a, information: b}}}
routes:
  - {path: /a, name: a, methods: [GET], websocket: true, forward: true}
  - {path: /b, open: true}
  - {path: /p, claims: {issuer_pattern: a+, audience_pattern: b+}}
  - {path: /c, respond: claims, client_certificate: {header: X-C, format: xfcc, from: [10.0.0.0/8]}}
  - {path: /d, sign: {key: k, algorithm: RS256, issuer: i, audience: a, lifetime: 5}}
  - {path: /e, jws: {header: j, detached: true, unencoded: true}}
applications:
  - {client_id: a, application: b, organization: c, catalog: [d], routes: [a], algorithms: [ES256], claims: {leeway: 1},
     jws: {max_octets: 256}, max_body_octets: 1, mode: report}
tests:
  - {name: n, request: {method: GET, path: /a, headers: {A: b}, body: c}, client_id: x, application: a, organization: b,
     catalog: c, certificate: true, sign: {algorithm: RS256, claims: {a: b}, typ: t, other_key: true},
     at: "2026-01-31T12:00:00Z", expect: allowed, route: a}
  - {name: n, request: {path: /a}, jws: j, expect: jws_malformed}
""")
"""Every key of the format."""


def places_in(value: Any, place: Location = ()) -> Iterator[tuple[Location, Any]]:
    """All places of a document, with what stands there."""
    yield place, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places_in(inner, (*place, key))


def test_whole_document_is_whole() -> None:
    """Both like it, and no key is missing in it."""
    assert errors(POLICY_SCHEMA, json.dumps(WHOLE)) == []
    shapes = [POLICY_SCHEMA, *(shape for name, shape in POLICY_SCHEMA["$defs"].items() if name != "FromEnvironment")]
    known = {
        name for shape in shapes for each in (shape, *shape.get("anyOf", ())) for name in each.get("properties", ())
    }
    assert known - {place[-1] for place, _ in places_in(WHOLE) if place} == set()


def test_variables_are_taken_where_the_loader_takes_them() -> None:
    """In the place of each single value, and of nothing else; never within the examples."""
    validator = jsonschema.Draft202012Validator(POLICY_SCHEMA)
    differ, taken = [], 0
    for place, value in places_in(WHOLE):
        document = copy.deepcopy(WHOLE)
        if not place:
            continue
        holder = document
        for step in place[:-1]:
            holder = holder[step]
        holder[place[-1]] = {"env": "NAME"}
        text = json.dumps(document)
        # A word that serves wherever a single text may stand in place of a list or a mapping.
        said = "required" if isinstance(value, dict | list) else json.dumps(value).strip('"')
        data = filled(read_document("policy.json", text.encode()), {"NAME": said}).data
        shape, _ = check_shape(PolicyShape, data)
        taken += shape is not None
        if (shape is not None) != validator.is_valid(document):
            differ.append(place)
    assert (differ, taken > 80) == ([], True)
