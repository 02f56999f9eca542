"""JSON Schemas (draft 2020-12) of both file formats, made from the models that also check the files."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from .case_shapes import CaseShape
from .policy_shapes import PolicyShape

__all__ = ["policy_schema", "schema_of"]

_SINGLE: Final = frozenset({"string", "integer", "boolean"})
_ABOUT: Final = frozenset({"title", "description", "default"})
_VARIABLE: Final = {
    "additionalProperties": False,
    "description": "The value of a variable of the environment, read when the policy is loaded.",
    "properties": {"env": {"description": "Name of the variable.", "minLength": 1, "type": "string"}},
    "required": ["env"],
    "title": "FromEnvironment",
    "type": "object",
}
_REFERENCE: Final = {"$ref": "#/$defs/FromEnvironment"}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a file format."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **model.model_json_schema()}


def _is_single(schema: dict[str, Any]) -> bool:
    return schema.get("type") in _SINGLE or "enum" in schema


def _fillable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `{env: NAME}` for each single value in it, and without empty values, which are refused."""
    made = dict(schema)
    if "properties" in made:
        made["properties"] = {name: _fillable(inner) for name, inner in made["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _fillable(made[key])
    if isinstance(inner := schema.get("additionalProperties"), dict) and _is_single(inner):
        # {env: NAME} would be taken for a reference here as well, which no mapping can come from.
        made["not"] = {"maxProperties": 1, "properties": {"env": {"type": "string"}}, "required": ["env"]}
    if "anyOf" in made:
        choices = [_fillable(each) for each in made["anyOf"] if each != {"type": "null"}]
        flat = [each for choice in choices for each in choice.get("anyOf", [choice])]
        flat = [each for number, each in enumerate(flat) if each not in flat[:number]]
        made = {**made, "anyOf": flat} if len(flat) > 1 else {**flat[0], **made}
        if len(flat) == 1:
            del made["anyOf"]
        if made.get("default", ...) is None:
            del made["default"]
    elif _is_single(made):
        about = {key: value for key, value in made.items() if key in _ABOUT}
        value = {key: value for key, value in made.items() if key not in _ABOUT}
        made = {"anyOf": [value, _REFERENCE], **about}
    return made


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of policies, which take single values from the environment, but for those of `tests`."""
    schema = schema_of(PolicyShape)
    examples = {CaseShape.__name__, *CaseShape.model_json_schema()["$defs"]}
    tests = schema["properties"].pop("tests")
    shapes = {name: shape if name in examples else _fillable(shape) for name, shape in schema["$defs"].items()}
    made = _fillable({**schema, "$defs": {**shapes, "FromEnvironment": _VARIABLE}})
    made["properties"]["tests"] = tests
    return made
