"""Expectations: which requests are to come, and what is to be decided on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from jwsgate.core.policy import PathPattern, PatternError
from jwsgate.core.reasons import Rejection
from jwsgate.core.request_target import path_segments

from .case_shapes import Expected
from .documents import read_document
from .problems import ProblemsFound, Unfit
from .reading import read_octets
from .shapes import Shape, check_shape

__all__ = ["Expectation", "ExpectationsShape", "read_expectations"]


def _pattern(text: str) -> PathPattern | None:
    """None for a path that no route can have, and a request may be refused for."""
    try:
        return PathPattern.parse(text)
    except PatternError as error:
        if text.startswith("/") and not set(text) & set("{}*"):
            return None
        raise Unfit(str(error), error.remedy) from None


def _path(text: str) -> str:
    _pattern(text)
    return text


class RequestsShape(Shape):
    """Which requests an expectation is about; all that is said must fit."""

    method: Annotated[str, Field(pattern=r"^[A-Z]+$")] | None = None
    """Method in capitals."""
    path: Annotated[str, AfterValidator(_path)] | None = None
    """Path, without a query, with {templates} for single segments and perhaps /** at the end."""
    client_id: Annotated[str, Field(min_length=1)] | None = None
    """Client ID, which must be in the portal export."""
    application: Annotated[str, Field(min_length=1)] | None = None
    """Name of the application."""
    route: Annotated[str, Field(min_length=1)] | None = None
    """Name of the route."""

    @model_validator(mode="after")
    def _says_something(self) -> "RequestsShape":
        if not self.model_fields_set:
            raise Unfit("says nothing of the requests", "name a path, method, client_id, application or route")
        return self


class ExpectationShape(Shape):
    """What is to be decided on some requests. A request that several are about has to fulfil one of them."""

    name: Annotated[str, Field(min_length=1)]
    """What is shown when it is not met."""
    request: RequestsShape
    """Which requests it is about."""
    expect: Expected
    """allowed, a reason, or would_reject and a reason."""
    times: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """How many requests must be decided so; at least one if not said."""


class ExpectationsShape(Shape):
    """What a test run or a recording must show."""

    model_config = ConfigDict(title="jwsgate expectations")

    expectations: Annotated[list[ExpectationShape], Field(min_length=1)]
    """Each must be met."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation, with its place."""

    shape: ExpectationShape
    pattern: PathPattern | None
    file: str
    line: int
    column: int

    def is_about(
        self, method: str, path: str, client_id: str | None, application: str | None, route: str | None
    ) -> bool:
        """Whether it is about such a request; `path` is as it was sent, each octet a character."""
        said = self.shape.request
        return (
            (said.method is None or said.method == method)
            and (said.client_id is None or said.client_id == client_id)
            and (said.application is None or said.application == application)
            and (said.route is None or said.route == route)
            and (said.path is None or said.path == path or self._fits(path))
        )

    def _fits(self, path: str) -> bool:
        try:
            return self.pattern is not None and self.pattern.matches(path_segments(path.encode("latin-1")))
        except (Rejection, UnicodeEncodeError):
            return False


def read_expectations(path: Path) -> tuple[Expectation, ...]:
    """Read a file of expectations.

    Raises:
        ProblemsFound: with every problem of it.
    """
    document = read_document(str(path), read_octets(path))
    shape, findings = check_shape(ExpectationsShape, document.data)
    problems = [*document.problems, *document.problem_list(findings)]
    if problems or shape is None:
        raise ProblemsFound(problems)
    places = document.locate([("expectations", number) for number in range(len(shape.expectations))])
    return tuple(
        Expectation(each, _pattern(each.request.path) if each.request.path else None, str(path), *places[location])
        for each, location in zip(shape.expectations, places, strict=True)
    )
