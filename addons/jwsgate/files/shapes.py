"""What both file formats share: pydantic models as schema, and its errors told as problems.

pydantic checks and types the values and prints the JSON Schema, so that the two cannot differ.
"""

import difflib
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from .problems import Finding, KeyLocation, Location, Unfit

__all__ = ["Algorithm", "Shape", "TolerantShape", "check_shape", "sound_items"]


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # spelled out for mypy and the schema; a test holds it equal to algorithms.ALGORITHMS


class Shape(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_empty_key(cls, value: object) -> object:
        # "issuer:" with nothing behind it is a slip, and must not lift what the defaults ask for.
        if value is None:
            raise Unfit("is empty", "write a value, or remove the key")
        return value


class TolerantShape(BaseModel):
    """A mapping of another product's format, which has many more keys than are used here."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    for step in location:
        if isinstance(step, int):
            continue
        if step not in model.model_fields:
            return None
        inner = _models_in(model.model_fields[step].annotation)
        if not inner:
            return None
        model = inner[0]
    return model


def _nearest(model: type[BaseModel], location: Location) -> str:
    owner = _model_at(model, location[:-1])
    if owner is None:
        return "remove it"
    names = [field.alias or name for name, field in owner.model_fields.items()]
    close = difflib.get_close_matches(str(location[-1]), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}"


_EXPECTED = {
    "string_type": ("is not text", "write one plain value"),
    "list_type": ("is not a list", "write a list, one - a line"),
    "tuple_type": ("is not a list", "write a list, one - a line"),
    "model_type": ("is not a mapping", "write key: value pairs"),
    "model_attributes_type": ("is not a mapping", "write key: value pairs"),
    "dict_type": ("is not a mapping", "write key: value pairs"),
    "bool_parsing": ("is neither true nor false", "write true or false"),
    "bool_type": ("is neither true nor false", "write true or false"),
    "int_parsing": ("is not a whole number", "write digits only"),
    "int_type": ("is not a whole number", "write digits only"),
    "int_parsing_size": ("is too large a number", "write a smaller one"),
}


def _location(error: Any) -> Location:
    location: Location = tuple(error["loc"])
    # In a mapping whose keys are the author's own, such a key can be the problem.
    return KeyLocation(location[:-1]) if location and location[-1] == "[key]" else location


def _tell(model: type[BaseModel], error: Any) -> Finding:
    location = _location(error)
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return KeyLocation(location), "is not a known key", _nearest(model, location)
        case "missing":
            return location, "is missing", "add it"
        case "literal_error" | "enum":
            return location, "is not one of the known values", f"use {context['expected']}"
        case "greater_than_equal":
            return location, "is too small", f"use at least {context['ge']}"
        case "less_than_equal":
            return location, "is too large", f"use at most {context['le']}"
        case "too_short":
            return location, "is empty", "add at least one item"
        case "string_too_short":
            return location, "is empty", "write a value"
        case "string_pattern_mismatch":
            return location, "is not of the right form", f"it must match {context['pattern']}"
        case "value_error":
            cause = context["error"]
            return location, str(cause), cause.remedy if isinstance(cause, Unfit) else "correct it"
        case kind if kind in _EXPECTED:
            if error["input"] is None:
                return (
                    location,
                    "is empty",
                    f"remove the key or {_EXPECTED[kind][1]}" if location else _EXPECTED[kind][1],
                )
            return location, *_EXPECTED[kind]
        case _:
            return location, error["msg"], "correct it"


def check_shape[M: BaseModel](model: type[M], data: object) -> tuple[M | None, list[Finding]]:
    """The data as a model, or every problem of its shape."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [_tell(model, item) for item in error.errors(include_url=False)]


def sound_items[M: BaseModel](model: type[M], items: object) -> list[tuple[int, M]]:
    """Of a list whose document is broken somewhere, the items that are sound, so that more of it can be checked."""
    found = []
    for index, item in enumerate(items if isinstance(items, list) else ()):
        shape, _ = check_shape(model, item)
        if shape is not None:
            found.append((index, shape))
    return found
