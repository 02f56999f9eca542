"""What both file formats share: pydantic models as schema, and its errors told as problems.

pydantic checks and types the values and prints the JSON Schema, so that the two cannot differ.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator

from .problems import Finding, KeyLocation, Location, Unfit, path_text

__all__ = [
    "DIGITS",
    "HEADER_NAME",
    "LISTED_HEADER_NAME",
    "METHOD",
    "SCHEME",
    "URL",
    "Algorithm",
    "Shape",
    "TolerantShape",
    "check_shape",
    "misspelt",
    "sound_items",
]


HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$"  # RFC 9110 section 5.6.2
LISTED_HEADER_NAME = r"^[A-Za-z0-9!#$%&'+\-.^_`|~]+$"
METHOD = r"^[A-Z]+$"
SCHEME = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"
URL = r"^https?://[^/?#@\s]+$"
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # spelled out for mypy and the schema; a test holds it equal to algorithms.ALGORITHMS
_DIGITS: Final = re.compile("-?(0|[1-9][0-9]*)")


def _digits(value: Any) -> Any:
    # pydantic also takes 3_00, 300.0 and 0300, each of which somebody may read as another number.
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise Unfit("is not a whole number", "write digits only")
    return value


DIGITS: Final = BeforeValidator(_digits)
"""Stands behind the limits of a whole number."""


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
    is_own = False
    for step in location:
        if isinstance(step, int) or is_own:
            # Of a list, or of a mapping whose keys are the author's own, the model is that of each value.
            is_own = False
            continue
        field = model.model_fields.get(step)
        inner = _models_in(field.annotation) if field is not None else []
        if field is None or not inner:
            return None
        model, is_own = inner[0], get_origin(field.annotation) is dict
    return None if is_own else model


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


_MEANT: Final = {
    "app": "application", "iss": "issuer", "jwt": "jws", "lifetime": "max_lifetime", "name": "application",
    "title": "application", "token": "jws", "ttl": "max_lifetime", "url": "path",
}  # fmt: skip
"""What others call a key, where the key is known and its other name is not."""
_NEVER_MEANT: Final = frozenset({"audit_failure", "forward", "ignore", "mode", "open", "unencoded"})
"""Keys that let more pass: whoever wants one has to know its name, and need not be led there by another word."""


def _meant(said: str, names: list[str]) -> str:
    """The key that was most likely meant; empty if none is near enough to be sure of it."""
    if (other := _MEANT.get(said, "")) in names:
        return other
    likely = [name for name in names if name not in _NEVER_MEANT and said[:1].lower() == name[:1]]
    # The first letter is seldom the wrong one, and without it short words have much in common: auth and path.
    near = difflib.get_close_matches(said.lower(), likely, n=1, cutoff=0.65)
    return next((name for name in likely if said and name.startswith(said)), "".join(near))


def _nearest(model: type[BaseModel], location: Location) -> str:
    owner = _model_at(model, location[:-1])
    if owner is None:
        return "remove it"
    names, said = _names(owner), str(location[-1]).strip()
    if meant := _meant(said, names):
        return f"did you mean {meant}?"
    beneath = [
        name for name, field in owner.model_fields.items()
        if any(said in inner.model_fields for inner in _models_in(field.annotation))
    ]  # fmt: skip
    if beneath:
        return f"put it under {' or '.join(beneath)}"
    for length in range(len(location) - 2, -1, -1):
        above = _model_at(model, location[:length])
        if above is not None and said in _names(above) and said not in _NEVER_MEANT:
            return f"put it under {path_text(location[:length])}" if length else "put it at the top of the file"
    return f"known here: {', '.join(names)}"


def _instead(model: type[BaseModel], location: Location, given: object) -> str:
    """What to do about a key that is missing; in a mapping whose unknown keys are ignored it may be one of those."""
    owner, name = _model_at(model, location[:-1]), str(location[-1])
    if owner is None or not issubclass(owner, TolerantShape) or not isinstance(given, dict):
        return "add it"
    close = misspelt(name, given)
    return f"write {name} in place of {close}" if close else "add it"


def misspelt(name: str, given: Iterable[str]) -> str | None:
    """The key that is most likely meant to be `name`, if any is."""
    others = [key for key in given if key != name]
    return next(iter(difflib.get_close_matches(name, others, n=1, cutoff=0.8)), None)


def _example(model: type[BaseModel], location: Location) -> str:
    """A key of the mapping that is asked for, one that must be there if there is any."""
    asked = _model_at(model, location)
    if asked is not None:
        required = [field.alias or name for name, field in asked.model_fields.items() if field.is_required()]
        return f", such as {[*required, *_names(asked)][0]}: …"
    owner = _model_at(model, location[:-1])
    field = None if owner is None else owner.model_fields.get(str(location[-1]))
    examples = (field and field.examples) or []
    return "".join(f", such as {key}: {value}" for example in examples[:1] for key, value in example.items())


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


_FORMS = {
    HEADER_NAME: "write a name without blanks and colons, such as X-IBM-Client-Id",
    SCHEME: "write the word alone, such as Bearer",
    METHOD: "write it in capitals, such as GET",
    LISTED_HEADER_NAME: "write a name without blanks, colons and *, such as X-Request-Id",
    URL: "write it without a path, such as https://api.example",
    "^/": "begin it with a slash",
}


def _location(error: Any) -> Location:
    location: Location = tuple(error["loc"])
    # In a mapping whose keys are the author's own, such a key can be the problem.
    return KeyLocation(location[:-1]) if location and location[-1] == "[key]" else location


def _of_another_kind(model: type[BaseModel], location: Location, kind: str, value: object) -> tuple[str, str]:
    message, remedy = _EXPECTED[kind]
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        remedy += _example(model, location)
    if value is None:
        return "is empty", f"remove the key or {remedy}" if location else remedy
    if kind == "string_type" and isinstance(value, dict | list):
        remedy += ", in quotes if it begins with { or ["
    return message, remedy


def _tell(model: type[BaseModel], error: Any) -> Finding:
    location = _location(error)
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return KeyLocation(location), "is not a known key", _nearest(model, location)
        case "missing":
            return location, "is missing", _instead(model, location, error["input"])
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
            return (
                location,
                "is not of the right form",
                _FORMS.get(context["pattern"], f"it must match {context['pattern']}"),
            )
        case "value_error":
            cause = context["error"]
            return location, str(cause), cause.remedy if isinstance(cause, Unfit) else "correct it"
        case kind if kind in _EXPECTED:
            return location, *_of_another_kind(model, location, kind, error["input"])
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
