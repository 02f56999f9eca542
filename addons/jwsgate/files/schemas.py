"""JSON Schemas (draft 2020-12) of both file formats, made from the models that also check the files."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

__all__ = ["schema_of"]


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a file format."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **model.model_json_schema()}
