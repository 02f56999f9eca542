"""The JSON Schemas: valid as such, and of one mind with the loaders."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from jwsgate.files.policy_file import PolicyShape
from jwsgate.files.portal_shapes import PortalShape
from jwsgate.files.schemas import schema_of
from unit_material import good_portal, policy_problems

POLICY_SCHEMA = schema_of(PolicyShape)
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
