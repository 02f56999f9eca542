"""Policies as files: our own YAML format, its schema, and the way from it to routes."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from jwcrypto.jwk import JWK
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from .algorithms import ALGORITHMS_BY_KEY, KeyKind
from .certificates import CertificateError, load_private_key
from .claims import ClaimRules
from .documents import Document
from .jws import DEFAULT_MAX_OCTETS
from .policy import (
    Action,
    Forward,
    PathPattern,
    PatternError,
    RespondClaims,
    Route,
    RouteConflict,
    Router,
    Sign,
    Source,
)
from .problems import Location, Problem
from .shapes import Shape, check_shape

__all__ = ["PolicyShape", "build_routes"]

type ReadKey = Callable[[str], bytes]
"""Reads a key file that a policy refers to; raises `ValueError` with "message; remedy"."""

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # spelled out for mypy and the schema; a test holds it equal to algorithms.ALGORITHMS

_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$"  # RFC 9110 section 5.6.2


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


OneOrMore = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class SourceShape(Shape):
    """The one place of a request that holds a value: a header or a query parameter."""

    header: Annotated[str, Field(pattern=_HEADER_NAME)] | None = None
    """Name of the HTTP header."""
    query: Annotated[str, Field(min_length=1)] | None = None
    """Name of the query parameter."""
    scheme: Annotated[str, Field(pattern=_HEADER_NAME)] | None = None
    """Authentication scheme that stands before the value in the header, such as Bearer."""

    @model_validator(mode="after")
    def _one_place(self) -> "SourceShape":
        if self.header and self.query:
            raise ValueError("names a header and a query parameter; keep one, so that one place holds the value")
        if self.scheme and self.query:
            raise ValueError("has a scheme for a query parameter; only a header has one")
        return self


class JwsShape(SourceShape):
    """Where the JWS is, and how large it may be."""

    max_octets: Annotated[int, Field(ge=256, le=1_048_576)] = DEFAULT_MAX_OCTETS
    """Longest compact JWS in octets."""


class ClaimsShape(Shape):
    """What the claims must say. Times are whole seconds."""

    required: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=lambda: ["exp"])
    """Claims that must be there."""
    leeway: Annotated[int, Field(ge=0, le=3600)] = 0
    """Seconds of clock difference to forgive on exp, nbf and iat."""
    max_lifetime: Annotated[int, Field(ge=1)] | None = None
    """Longest time from iat to exp, in seconds; makes both required."""
    issuer: OneOrMore | None = None
    """Accepted values of iss."""
    audience: OneOrMore | None = None
    """Accepted values of aud; one is enough."""
    subject: OneOrMore | None = None
    """Accepted values of sub."""
    client_id_claim: Annotated[str, Field(min_length=1)] | None = None
    """Claim that must equal the client ID of the request."""
    typ: OneOrMore | None = None
    """Accepted values of the header parameter typ."""


class SignShape(Shape):
    """Sign the posted JSON members: a stand-in for a client, for demos and tests."""

    key: Annotated[str, Field(min_length=1)]
    """File of the private key in PEM, relative to this policy."""
    algorithm: Algorithm = "RS256"
    """The header parameter alg."""
    issuer: str
    """The claim iss."""
    audience: str
    """The claim aud."""
    lifetime: Annotated[int, Field(ge=1, le=31_536_000)] = 3600
    """Seconds from iat to exp."""


class DemandsShape(Shape):
    """What a request must bring."""

    client_id: SourceShape | None = None
    """Where the client ID is; header X-IBM-Client-Id if not said."""
    jws: JwsShape | None = None
    """Where the JWS is; header jwt if not said."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] | None = None
    """Algorithms allowed, out of those that the registered key can verify; all of those if not said."""
    claims: ClaimsShape | None = None
    """Rules on claims; a key said here replaces the same key of the defaults."""


class RouteShape(DemandsShape):
    """One set of paths and methods."""

    path: Annotated[str, Field(min_length=1)]
    """Path with {templates} for single segments and perhaps /** at the end."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """Name in logs and metrics; the path if not said."""
    methods: Annotated[list[Annotated[str, Field(pattern=r"^[A-Z]+$")]], Field(min_length=1)] | None = None
    """Methods in capitals; all if not said. HEAD is not part of GET."""
    forward: bool | None = None
    """Send the request upstream: what happens if nothing else is said."""
    respond: Literal["claims"] | None = None
    """Answer the verified claims in place of an upstream."""
    sign: SignShape | None = None
    """Answer a JWS over the posted members in place of an upstream."""

    @model_validator(mode="after")
    def _one_action(self) -> "RouteShape":
        if self.forward is False:
            raise ValueError("says forward: false; say respond or sign, or remove the route to refuse its requests")
        if sum(map(bool, (self.forward, self.respond, self.sign))) > 1:
            raise ValueError("has more than one of forward, respond, sign; keep one")
        return self


class PolicyShape(Shape):
    """A policy: what to protect, and what to demand. Requests that match no route are refused."""

    model_config = ConfigDict(title="jwsgate policy")

    defaults: DemandsShape = Field(default_factory=DemandsShape)
    """What holds for every route that does not say otherwise."""
    routes: Annotated[list[RouteShape], Field(min_length=1)]
    """The most specific route wins: plain segments before templates before /**."""


def _source(shapes: tuple[SourceShape | None, SourceShape | None], default: str) -> Source:
    for shape in shapes:
        if shape is not None and shape.header is not None:
            return Source("header", shape.header, shape.scheme)
        if shape is not None and shape.query is not None:
            return Source("query", shape.query)
    return Source("header", default)


def _max_octets(shapes: tuple[JwsShape | None, JwsShape | None]) -> int:
    for shape in shapes:
        if shape is not None and "max_octets" in shape.model_fields_set:
            return shape.max_octets
    return DEFAULT_MAX_OCTETS


def _claim_rules(route: ClaimsShape | None, defaults: ClaimsShape | None) -> ClaimRules:
    said: dict[str, Any] = {}
    for shape in (defaults, route):
        if shape is not None:
            said |= {name: getattr(shape, name) for name in shape.model_fields_set}
    rules = ClaimsShape(**said)
    return ClaimRules(
        required=tuple(rules.required),
        leeway=rules.leeway,
        max_lifetime=rules.max_lifetime,
        issuer=tuple(rules.issuer or ()),
        audience=tuple(rules.audience or ()),
        subject=tuple(rules.subject or ()),
        client_id_claim=rules.client_id_claim,
        typ=tuple(rules.typ or ()),
    )


def _key_kind(key: JWK) -> KeyKind | None:
    if key.get("kty") == "RSA":
        return KeyKind.RSA
    try:
        return KeyKind(str(key.get("crv")))
    except ValueError:
        return None


def _sign_action(shape: SignShape, read_key: ReadKey) -> Sign:
    """Raises ValueError with "message; remedy" when the key does not serve."""
    pem = read_key(shape.key)
    try:
        key = load_private_key(pem)
    except CertificateError as error:
        raise ValueError(f"{error}; {error.remedy}") from None
    kind = _key_kind(key)
    algorithms = ALGORITHMS_BY_KEY.get(kind, ()) if kind else ()
    if shape.algorithm not in algorithms:
        raise ValueError(f"is a key that cannot sign {shape.algorithm}; use {' or '.join(algorithms) or 'another key'}")
    return Sign(key, shape.algorithm, shape.issuer, shape.audience, shape.lifetime)


def build_routes(document: Document, router: Router, read_key: ReadKey) -> list[Problem]:
    """Add the routes of one policy to the router; every problem in it is returned."""
    problems = list(document.problems)
    shape, shape_problems = check_shape(PolicyShape, document)
    problems += shape_problems
    findings: list[tuple[Location, str, str]] = []
    if shape is None:
        return problems
    for index, route in enumerate(shape.routes):
        place: Location = ("routes", index)
        action: Action = RespondClaims() if route.respond else Forward()
        if route.sign is not None:
            try:
                action = _sign_action(route.sign, read_key)
            except ValueError as error:
                message, _, remedy = str(error).partition("; ")
                findings.append(((*place, "sign", "key"), message, remedy))
        try:
            pattern = PathPattern.parse(route.path)
        except PatternError as error:
            findings.append(((*place, "path"), str(error), "see the README on paths"))
            continue
        algorithms = route.algorithms or shape.defaults.algorithms
        try:
            router.add(
                Route(
                    name=route.name or route.path,
                    pattern=pattern,
                    methods=frozenset(route.methods) if route.methods else None,
                    client_id=_source((route.client_id, shape.defaults.client_id), "X-IBM-Client-Id"),
                    jws=_source((route.jws, shape.defaults.jws), "jwt"),
                    max_jws_octets=_max_octets((route.jws, shape.defaults.jws)),
                    algorithms=frozenset(algorithms) if algorithms else None,
                    claims=_claim_rules(route.claims, shape.defaults.claims),
                    action=action,
                )
            )
        except RouteConflict as error:
            findings.append(
                (
                    (*place, "path"),
                    f"matches the same requests as route {error.other}",
                    "give them different methods",
                )
            )
    return problems + document.problem_list(findings)
