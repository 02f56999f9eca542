"""The format of policy files: what is known in them, what each key means, and which values it takes."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from jwsgate.core.jws import DEFAULT_MAX_OCTETS

from .case_shapes import CaseShape
from .policy_parts import CorsShape, ErrorsShape, UpstreamShape
from .policy_values import claim_of_method, claim_of_path, method, network, place_header
from .problems import Unfit
from .shapes import DIGITS, HEADER_NAME, METHOD, SCHEME, URL, Algorithm, Shape

__all__ = [
    "CERTIFICATE_REQUIRED",
    "NO_CERTIFICATE",
    "ApplicationShape",
    "BindShape",
    "ClaimsShape",
    "ClientCertificateShape",
    "DemandsShape",
    "JwsShape",
    "PolicyShape",
    "RouteShape",
    "SignShape",
    "SourceShape",
    "TrustShape",
]

_PLACES: Final = {"header": "header", "query": "query parameter", "cookie": "cookie"}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


OneOrMore = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            ]
        }
    ),
]


class PlaceShape(Shape):
    """A place of a request that holds a value: a header, a query parameter or a cookie."""

    header: Annotated[str, Field(pattern=HEADER_NAME), AfterValidator(place_header)] | None = None
    """Name of the HTTP header."""
    query: Annotated[str, Field(min_length=1)] | None = None
    """Name of the query parameter."""
    cookie: Annotated[str, Field(pattern=HEADER_NAME)] | None = None
    """Name of the cookie."""
    scheme: Annotated[str, Field(pattern=SCHEME)] | None = None
    """Authentication scheme that stands before the value in the header, such as Bearer."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = [name for name in ("header", "query", "cookie") if getattr(self, name)]
        if len(places) > 1:
            message = f"names a {_PLACES[places[0]]} and a {_PLACES[places[1]]}"
            raise Unfit(message, "keep one, and list the other under also; exactly one may then hold the value")
        if self.scheme and places and places != ["header"]:
            raise Unfit(f"has a scheme for a {_PLACES[places[0]]}", "only a header has one")
        return self


class SourceShape(PlaceShape):
    """The one place of a request that holds a value: a header, a query parameter or a cookie."""

    also: Annotated[list[PlaceShape], Field(min_length=1)] | None = None
    """Other places that may hold it instead; a request in which more than one does is refused."""

    @model_validator(mode="after")
    def _also_elsewhere(self) -> Self:
        for place in self.also or ():
            if not (place.header or place.query or place.cookie):
                raise Unfit("lists a place that is none", "name its header, query or cookie")
        return self


class JwsShape(SourceShape):
    """Where the JWS is, and how large it may be."""

    max_octets: Annotated[int, Field(ge=256, le=1_048_576), DIGITS] = DEFAULT_MAX_OCTETS
    """Longest compact JWS in octets."""
    detached: bool = False
    """The JWS has an empty payload segment and signs the request's body (RFC 7515 appendix F)."""
    unencoded: bool = False
    """A detached JWS may sign the body as it is, with b64 false (RFC 7797)."""

    @model_validator(mode="after")
    def _unencoded_is_detached(self) -> "JwsShape":
        if self.unencoded and not self.detached:
            raise Unfit("is unencoded but not detached", "add detached: true")
        return self


class ListedClaimsShape(Shape):
    """What the claims must say, where one can tell of two of these which is stricter. Times are whole seconds."""

    required: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=lambda: ["exp"])
    """Claims that must be there."""
    leeway: Annotated[int, Field(ge=0, le=3600), DIGITS] = 0
    """Seconds of clock difference to forgive on exp, nbf and iat."""
    max_lifetime: Annotated[int, Field(ge=1), DIGITS] | None = None
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


class ClaimsShape(ListedClaimsShape):
    """What the claims must say. Times are whole seconds."""

    issuer_pattern: Annotated[str, Field(min_length=1)] | None = None
    """In place of issuer: a pattern (RE2) that the whole of iss must match, printable ASCII only."""
    audience_pattern: Annotated[str, Field(min_length=1)] | None = None
    """In place of audience: a pattern (RE2) that the whole of aud, or of one of its values, must match."""

    @model_validator(mode="after")
    def _values_or_pattern(self) -> "ClaimsShape":
        for name in ("issuer", "audience"):
            if getattr(self, name) is not None and getattr(self, f"{name}_pattern") is not None:
                raise Unfit(f"says {name} and {name}_pattern", "keep one")
        return self


class BodyDigestShape(Shape):
    """A claim with the digest of the body's raw octets."""

    claim: Annotated[str, Field(min_length=1)]
    """Name of the claim."""
    algorithm: Literal["sha-256", "sha-384", "sha-512"] = "sha-256"
    """Digest algorithm."""
    encoding: Literal["base64url", "base64", "hex"] = "base64url"
    """How the claim writes the digest."""


class BindShape(Shape):
    """Claims that must equal parts of the request."""

    method: Annotated[str, Field(min_length=1), AfterValidator(claim_of_method)] | None = None
    """Claim that must equal the method, such as htm."""
    path: Annotated[str, Field(min_length=1), AfterValidator(claim_of_path)] | None = None
    """Claim that must equal the path, as sent and without the query."""
    url: Annotated[str, Field(min_length=1)] | None = None
    """Claim that must equal base_url and the path, without the query, such as htu."""
    base_url: Annotated[str, Field(pattern=URL)] | None = None
    """Scheme and authority under which clients know the API."""
    body: BodyDigestShape | None = None
    """Claim with the digest of the body."""

    @model_validator(mode="after")
    def _bind_something(self) -> "BindShape":
        if self.url and not self.base_url:
            raise Unfit("binds the URL without base_url", "add base_url: https://HOST")
        if not (self.method or self.path or self.url or self.body):
            raise Unfit("binds nothing", "name a claim for method, path, url or body")
        return self


class TrustShape(Shape):
    """A CA that registered certificates must chain to."""

    ca_file: Annotated[str, Field(min_length=1)]
    """PEM file of the CA certificates, relative to this policy."""
    crl_file: Annotated[str, Field(min_length=1)] | None = None
    """File of the revocation lists of every CA in the chains; never fetched, and stale lists refuse."""


class ClientCertificateShape(Shape):
    """The header in which a balancer that ends TLS passes the client certificate on."""

    header: Annotated[str, Field(pattern=HEADER_NAME)]
    """Name of the header; the balancer must set or remove it on every request."""
    format: Literal["rfc9440", "url-encoded-pem", "base64-der", "xfcc"]
    """What is in it: RFC 9440 Client-Cert, PEM as of nginx and AWS, base64 of the DER, or Envoy's Hash."""
    networks: Annotated[
        list[Annotated[Any, BeforeValidator(network), WithJsonSchema({"type": "string"})]],
        Field(min_length=1, alias="from"),
    ]
    """The balancers' addresses, such as 10.0.0.0/8; from any other the header is refused, on every route."""

    @model_validator(mode="wrap")
    @classmethod
    def _words(
        cls, value: object, handler: ModelWrapValidatorHandler["ClientCertificateShape"]
    ) -> "ClientCertificateShape":
        if isinstance(value, str):
            if value not in _WORDS:
                raise Unfit("is not one of the known words", "write required or none, or header, format and from")
            return _WORDS[value]
        if isinstance(value, dict) and "header" not in value and {"ca_file", "crl_file"} & value.keys():
            message = "names a CA, which is not asked of the certificate of a connection"
            raise Unfit(message, "write certificates: {ca_file: …} for the registered one, and here required")
        return handler(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": ["required", "none"]}, handler.resolve_ref_schema(handler(core_schema))]}


CERTIFICATE_REQUIRED: Final = ClientCertificateShape.model_construct(header="", format="rfc9440", networks=[])
"""The TLS client certificate of the connection."""
NO_CERTIFICATE: Final = ClientCertificateShape.model_construct(header="", format="rfc9440", networks=[])
"""None, whatever the defaults demand."""
_WORDS: Final = {"required": CERTIFICATE_REQUIRED, "none": NO_CERTIFICATE}


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
    lifetime: Annotated[int, Field(ge=1, le=31_536_000), DIGITS] = 3600
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
    bind: BindShape | None = None
    """Claims that tie the JWS to this one request."""
    single_use: bool | None = None
    """Each jti of an application is good once; a JWS then needs jti and exp."""
    certificates: TrustShape | None = None
    """A CA that the registered certificate must chain to, besides being registered."""
    max_body_octets: Annotated[int, Field(ge=0, le=1_099_511_627_776), DIGITS] | None = None
    """Largest body in octets; if not said, no limit for what is streamed, and 10 MiB where the body is signed."""
    audit_failure: Literal["deny", "continue"] | None = None
    """What becomes of an allowed request whose audit record cannot be written; deny if not said."""
    client_certificate: ClientCertificateShape | None = None
    """required: the TLS client certificate must be a registered one, besides the JWS; none; or the header it is in."""
    cors: CorsShape | None = None
    """Answer the preflights of browsers, and let them show errors."""
    mode: Literal["enforce", "report"] | None = None
    """report: requests without a good JWS pass, and are logged and counted as would_reject; enforce if not said."""
    upstream: UpstreamShape | None = None
    """What the upstream is told of the caller, and whether the JWS is taken off."""


_NOT_WHEN_OPEN: Final = (
    "client_id", "jws", "algorithms", "claims", "bind", "single_use", "certificates", "client_certificate", "mode",
)  # fmt: skip


class RouteShape(DemandsShape):
    """One set of paths and methods."""

    path: Annotated[str, Field(min_length=1)]
    """Path with {templates} for single segments and perhaps /** at the end."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """Name in logs and metrics; the path if not said."""
    methods: (
        Annotated[list[Annotated[str, Field(pattern=METHOD), BeforeValidator(method)]], Field(min_length=1)] | None
    ) = None
    """Methods in capitals; all if not said. HEAD is not part of GET."""
    websocket: bool | None = None
    """Let the request open a WebSocket, which is decided once, by its handshake."""
    open: bool | None = None
    """Let every request pass, without a client ID and without a JWS."""
    forward: bool | None = None
    """Send the request upstream: what happens if nothing else is said."""
    respond: Literal["claims"] | None = None
    """Answer the verified claims in place of an upstream."""
    sign: SignShape | None = None
    """Answer a JWS over the posted members in place of an upstream."""

    @model_validator(mode="after")
    def _one_action(self) -> "RouteShape":
        if self.forward is False:
            raise Unfit("says forward: false", "say respond or sign, or remove the route to refuse its requests")
        if sum(map(bool, (self.forward, self.respond, self.sign))) > 1:
            raise Unfit("has more than one of forward, respond, sign", "keep one")
        if self.open:
            if self.respond or self.sign:
                raise Unfit("is open and answers by itself, without a JWS to answer from", "forward instead")
            unused = [name for name in _NOT_WHEN_OPEN if getattr(self, name) is not None]
            if unused:
                raise Unfit(f"is open, so that {unused[0]} is never looked at", f"remove open or {unused[0]}")
        if self.websocket and (self.respond or self.sign):
            raise Unfit("has a websocket that nobody would answer", "remove it, or forward the requests")
        return self


class LimitsShape(Shape):
    """How large a JWS may be."""

    max_octets: Annotated[int, Field(ge=256, le=1_048_576), DIGITS]
    """Longest compact JWS in octets."""


_SELECTORS: Final = ("client_id", "application", "organization", "catalog")


class ApplicationShape(Shape):
    """Some applications of which more is demanded on the routes of this policy, or which are in report mode."""

    client_id: OneOrMore | None = None
    """Client IDs: the applications that have them, whichever of theirs a request brings."""
    application: OneOrMore | None = None
    """Names or titles of applications, which their developers choose."""
    organization: OneOrMore | None = None
    """Names of consumer organizations; with others of these four keys, all that is said must be so."""
    catalog: OneOrMore | None = None
    """Names of catalogs."""
    routes: OneOrMore | None = None
    """Names of the routes that they may call; every other answers 403."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] | None = None
    """Algorithms, out of those that the routes allow."""
    claims: ListedClaimsShape | None = None
    """Rules on claims besides those of the routes, or stricter."""
    jws: LimitsShape | None = None
    """A lower limit for the JWS."""
    max_body_octets: Annotated[int, Field(ge=0, le=1_099_511_627_776), DIGITS] | None = None
    """A lower limit for bodies."""
    mode: Literal["enforce", "report"] | None = None
    """report, by client_id only: their requests pass without a good JWS on these routes; enforce: even where a route is
    in report mode."""

    @model_validator(mode="after")
    def _says_who_and_what(self) -> "ApplicationShape":
        if not self.model_fields_set.intersection(_SELECTORS):
            raise Unfit("names no application", f"say {', '.join(_SELECTORS[:-1])} or {_SELECTORS[-1]}")
        if not self.model_fields_set.difference(_SELECTORS):
            raise Unfit("demands nothing", "say routes, algorithms, claims, jws, max_body_octets or mode")
        if self.mode == "report" and self.client_id is None:
            raise Unfit(
                "has mode: report for whoever takes such a name in the portal",
                "name the client_id, which nobody can take",
            )
        return self


class PolicyShape(Shape):
    """A policy: what to protect, and what to demand. Requests that match no route are refused."""

    model_config = ConfigDict(title="jwsgate policy")

    defaults: DemandsShape = Field(default_factory=DemandsShape)
    """What holds for every route that does not say otherwise."""
    errors: ErrorsShape | None = None
    """What rejected clients are told; of several policies, the first that says so speaks where no route matches."""
    routes: Annotated[list[RouteShape], Field(min_length=1)]
    """The most specific route wins: plain segments before templates before /**."""
    applications: list[ApplicationShape] = Field(default_factory=list)
    """What is demanded of single applications besides; never less than their routes demand."""
    tests: list[CaseShape] = Field(default_factory=list)
    """Example requests and the decisions expected on them, for jwsgate lint --run-tests."""
    schema_for_editors: str | None = Field(None, alias="$schema")
    """Where editors find the schema of this file; not read."""
