"""Parts of the format of policy files that concern what surrounds the demand for a JWS."""

import difflib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from jwsgate.core.answers import Override, Reply, reply_table
from jwsgate.core.cors import Cors
from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source
from jwsgate.core.upstream import Upstream, dropped_name

from .problems import Unfit
from .shapes import DIGITS, LISTED_HEADER_NAME, Shape

__all__ = [
    "RESERVED",
    "CorsShape",
    "ErrorsShape",
    "OwnHeader",
    "UpstreamShape",
    "cors_of",
    "reply_table_of",
    "upstream_of",
]

RESERVED: Final = frozenset({
    "accept-encoding", "access-control-request-headers", "access-control-request-method", "authorization", "connection",
    "content-encoding", "content-length", "content-type", "cookie", "expect", "forwarded", "host", "http2-settings",
    "keep-alive", "origin", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "via", "x-forwarded-for", "x-global-transaction-id",
})  # fmt: skip
"""Headers with a meaning of their own, in lower case."""


def _own_header(name: str) -> str:
    if not all(part.isalnum() and part.isascii() for part in name.split("-")):
        raise Unfit("is no name for a header of ours", "write letters, digits and -, such as X-Subject")
    if len(name) > 64:
        raise Unfit("is too long a name", "write at most 64 characters")
    if name.lower() in RESERVED or name.lower().startswith("sec-"):
        raise Unfit("is a header with a meaning of its own", "write another name, such as X-Subject")
    return name


OwnHeader = Annotated[str, Field(min_length=1), AfterValidator(_own_header)]


class UpstreamShape(Shape):
    """What the upstream is told of the verified caller; every header named here is dropped from all that comes in."""

    strip_jws: bool = False
    """Take the JWS off what is forwarded."""
    claims: dict[OwnHeader, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict, examples=[{"X-Subject": "sub"}]
    )
    """Header: claim. Texts, numbers and truth values; outside printable ASCII, and %, as % and two hex digits."""
    claims_json: OwnHeader | None = None
    """Header for all claims, as base64url of the JSON that was signed."""
    application: OwnHeader | None = None
    """Header for the name of the application."""
    organization: OwnHeader | None = None
    """Header for the name of the consumer organization, where the portal export has it."""
    client_id: OwnHeader | None = None
    """Header for the client ID."""
    thumbprint: OwnHeader | None = None
    """Header for the SHA-256 of the certificate that verified the JWS, in hex."""

    @model_validator(mode="after")
    def _header_first(self) -> "UpstreamShape":
        for header, claim in self.claims.items():
            if claim.lower().startswith("x-") > header.lower().startswith("x-"):
                raise Unfit(
                    f"sends a claim {claim} as the header {header}", f"write the header first: {claim}: {header}"
                )
        return self

    @model_validator(mode="after")
    def _no_name_twice(self) -> "UpstreamShape":
        names = [dropped_name(name.encode()) for name in upstream_of(self).names]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise Unfit(f"adds the header {name.decode()} twice", "give each its own header")
        return self


def upstream_of(shape: UpstreamShape) -> Upstream:
    """The shape as the core has it."""
    return Upstream(
        strip_jws=shape.strip_jws,
        claims=tuple(shape.claims.items()),
        claims_json=shape.claims_json or "",
        application=shape.application or "",
        organization=shape.organization or "",
        client_id=shape.client_id or "",
        thumbprint=shape.thumbprint or "",
    )


def _reason(name: str) -> str:
    if name not in {*Reason}:
        close = difflib.get_close_matches(name, [*Reason], n=1, cutoff=0.5)
        raise Unfit("is no reason", f"did you mean {close[0]}?" if close else "docs/reasons.md has them all")
    return name


def _plain_text(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise Unfit("is not printable ASCII", "write plain text of one line")
    if len(text) > 200:
        raise Unfit("is too long a text", "write at most 200 characters")
    return text


PlainText = Annotated[str, Field(min_length=1), AfterValidator(_plain_text)]


def _status(number: int) -> int:
    if number not in {status.value for status in HTTPStatus}:
        raise Unfit("is no status of HTTP", "write one that is registered, such as 401, 403, 429 or 503")
    return number


class OverrideShape(Shape):
    """What is answered to one reason, in place of the profile's own words."""

    status: Annotated[int, Field(ge=400, le=599), DIGITS, AfterValidator(_status)] | None = None
    """Status code, from 400 to 599."""
    message: PlainText | None = None
    """httpMessage, or the title of the problem details."""
    information: PlainText | None = None
    """moreInformation, or the detail of the problem details."""


class ErrorsShape(Shape):
    """What rejected clients are told."""

    profile: Literal["api-connect", "rfc"] = "api-connect"
    """api-connect: its JSON; rfc: 401 and 403 with WWW-Authenticate, and problem details (RFC 9457)."""
    overrides: dict[Annotated[str, AfterValidator(_reason)], OverrideShape] = Field(default_factory=dict)
    """Reason: status, message and information in place of the profile's."""


def reply_table_of(shape: ErrorsShape) -> Mapping[Reason, Reply]:
    """The shape as the core has it."""
    overrides = {
        Reason(name): Override(said.status, said.message, said.information) for name, said in shape.overrides.items()
    }
    return reply_table(shape.profile, overrides)


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if text != "*" and "*" in text:
        raise Unfit("is compared as text, and no origin has a * in it", "list each origin, or write * alone for all")
    if text != "*" and (
        parts.scheme not in {"http", "https"} or text != text.lower() or text != f"{parts.scheme}://{parts.netloc}"
    ):
        raise Unfit("is no origin", "write it as browsers send it, such as https://app.example")
    if not text.isascii() or not text.isprintable() or "@" in text or " " in text or (text != "*" and not parts.netloc):
        raise Unfit("is no origin", "write it as browsers send it, such as https://app.example")
    return text


_Header = Annotated[str, Field(pattern=LISTED_HEADER_NAME)]


class CorsShape(Shape):
    """CORS: the gate answers preflights, and lets browsers show its errors."""

    origins: Annotated[list[Annotated[str, AfterValidator(_origin)]], Field(min_length=1)]
    """Origins whose scripts may call, such as https://app.example; or * alone, without credentials."""
    headers: list[_Header] = Field(default_factory=list)
    """Request headers that scripts may send, besides those of the client ID and the JWS."""
    expose: list[_Header] = Field(default_factory=list)
    """Response headers that scripts may read."""
    credentials: bool = False
    """Let scripts send cookies and client certificates."""
    max_age: Annotated[int, Field(ge=0, le=86_400), DIGITS] = 600
    """Seconds for which browsers may remember a preflight."""

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> "CorsShape":
        if "*" in self.origins and len(self.origins) > 1:
            raise Unfit("names * beside other origins", "keep one or the other")
        if "*" in self.origins and self.credentials:
            raise Unfit("lets every origin use credentials", "list the origins")
        return self


def cors_of(shape: CorsShape, sources: Iterable[Source]) -> Cors:
    """The shape as the core has it; scripts may send the headers of the sources too."""
    own = [place.name for source in sources for place in (source, *source.others) if place.place == "header"]
    return Cors(
        origins=None if "*" in shape.origins else frozenset(origin.encode("ascii") for origin in shape.origins),
        headers=tuple(dict.fromkeys((*own, *shape.headers))),
        expose=("X-Global-Transaction-ID", *shape.expose),
        credentials=shape.credentials,
        max_age=shape.max_age,
    )
