"""The format of a policy's `tests`: example requests, and what is to be decided on them."""

import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from jwsgate.core.reasons import Reason

from .problems import Unfit
from .shapes import METHOD, Algorithm, Shape

__all__ = ["CaseRequestShape", "CaseShape", "Expected", "SignedShape"]


def _moment(text: str) -> str:
    try:
        aware = datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise Unfit("is no time", "write it like 2026-01-31T12:00:00Z")
    return text


def _expected(text: str) -> str:
    word, _, reason = text.partition(" ")
    if text in {"allowed", *Reason} or (word == "would_reject" and reason in {*Reason}):
        return text
    raise Unfit("is no decision", "write allowed, a reason of docs/reasons.md, or would_reject and a reason")


Expected = Annotated[str, AfterValidator(_expected)]


class CaseRequestShape(Shape):
    """The request, besides the client ID and the JWS, which are put where the policy looks for them."""

    method: Annotated[str, Field(pattern=METHOD)] = "GET"
    """Method in capitals."""
    path: Annotated[str, Field(pattern=r"^/")]
    """Path, and perhaps a query."""
    headers: dict[str, str] = Field(default_factory=dict)
    """HTTP headers; a client ID or a JWS of your own too."""
    body: str = ""
    """The body, as text."""


class SignedShape(Shape):
    """A JWS that is signed for the test, with iat of the time of the request and exp a minute later."""

    algorithm: Algorithm = "RS256"
    """Algorithm, and so the kind of the test's key."""
    claims: Annotated[dict[str, Any], WithJsonSchema({"type": "object", "additionalProperties": True})] = Field(
        default_factory=dict
    )
    """More claims. A text +N or -N is seconds from the time of the request; null takes a claim out."""
    typ: Annotated[str, Field(min_length=1)] | None = None
    """The header parameter typ."""
    other_key: bool = False
    """Sign with a key that the application did not register."""


class CaseShape(Shape):
    """One example request with the decision that is expected on it."""

    name: Annotated[str, Field(min_length=1)]
    """What is shown when it fails."""
    request: CaseRequestShape
    """The request."""
    client_id: str = "test-client"
    """Client ID of the one application that there is; empty: none is sent."""
    application: str = "test"
    """Name of that application."""
    organization: str = ""
    """Its consumer organization."""
    catalog: str = ""
    """Its catalog."""
    certificate: bool = True
    """Whether the application has registered a certificate, which is also that of the TLS connection."""
    sign: SignedShape | None = None
    """Sign a JWS; neither this nor jws: none is sent."""
    jws: Annotated[str, Field(min_length=1)] | None = None
    """A JWS as it is to be sent."""
    at: Annotated[str, AfterValidator(_moment)] = "2026-01-31T12:00:00Z"
    """Time of the request."""
    expect: Expected
    """allowed, a reason, or would_reject and a reason."""
    route: Annotated[str, Field(min_length=1)] | None = None
    """Name of the route that the request must have."""

    @model_validator(mode="after")
    def _one_jws(self) -> "CaseShape":
        if self.sign is not None and self.jws is not None:
            raise Unfit("has a JWS and one to be signed", "keep one")
        return self
