"""Policies as files: our own YAML format, its schema, and the way from it to routes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, Protocol

from cryptography import x509
from jwcrypto.jwk import JWK
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from .algorithms import ALGORITHMS_BY_KEY, KeyKind
from .bindings import Bindings, BodyDigest
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
)
from .problems import Location, Problem
from .shapes import Algorithm, Shape, check_shape
from .sources import Source
from .trust import Trust

__all__ = ["PolicyReferences", "PolicyShape", "build_routes"]


class PolicyReferences(Protocol):
    """What a policy refers to; each method raises `ValueError` with "message; remedy"."""

    def read_key(self, name: str) -> bytes:
        """The octets of a private key file."""
        ...

    def read_ca(self, name: str) -> Sequence[x509.Certificate]:
        """The certificates of a CA bundle."""
        ...

    def read_crl(self, name: str) -> Sequence[x509.CertificateRevocationList]:
        """The lists of a CRL file."""
        ...

    def trust(self, ca: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList] | None) -> Trust:
        """The trust in the portal's certificates."""
        ...


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
    detached: bool = False
    """The JWS has an empty payload segment and signs the request's body (RFC 7515 appendix F)."""
    unencoded: bool = False
    """A detached JWS may sign the body as it is, with b64 false (RFC 7797)."""

    @model_validator(mode="after")
    def _unencoded_is_detached(self) -> "JwsShape":
        if self.unencoded and not self.detached:
            raise ValueError("is unencoded but not detached; add detached: true")
        return self


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

    method: Annotated[str, Field(min_length=1)] | None = None
    """Claim that must equal the method, such as htm."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """Claim that must equal the path, as sent and without the query."""
    url: Annotated[str, Field(min_length=1)] | None = None
    """Claim that must equal base_url and the path, without the query, such as htu."""
    base_url: Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+$")] | None = None
    """Scheme and authority under which clients know the API."""
    body: BodyDigestShape | None = None
    """Claim with the digest of the body."""

    @model_validator(mode="after")
    def _bind_something(self) -> "BindShape":
        if self.url and not self.base_url:
            raise ValueError("binds the URL without base_url; add base_url: https://HOST")
        if not (self.method or self.path or self.url or self.body):
            raise ValueError("binds nothing; name a claim for method, path, url or body")
        return self


class TrustShape(Shape):
    """A CA that registered certificates must chain to."""

    ca_file: Annotated[str, Field(min_length=1)]
    """PEM file of the CA certificates, relative to this policy."""
    crl_file: Annotated[str, Field(min_length=1)] | None = None
    """File of the revocation lists of every CA in the chains; never fetched, and stale lists refuse."""


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
    bind: BindShape | None = None
    """Claims that tie the JWS to this one request."""
    single_use: bool | None = None
    """Each jti of a client ID is good once, until its exp."""
    certificates: TrustShape | None = None
    """A CA that the registered certificate must chain to, besides being registered."""


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


def _source(shapes: Iterable[SourceShape | None], default: str) -> Source:
    for shape in shapes:
        if shape is not None and shape.header is not None:
            return Source("header", shape.header, shape.scheme)
        if shape is not None and shape.query is not None:
            return Source("query", shape.query)
    return Source("header", default)


def _jws_shape(route: JwsShape | None, defaults: JwsShape | None) -> JwsShape:
    """What a route says of its JWS, completed from the defaults."""
    said: dict[str, Any] = {}
    for shape in (defaults, route):
        if shape is not None:
            new = {name: getattr(shape, name) for name in shape.model_fields_set}
            if new.keys() & {"header", "query"}:
                # Another place replaces the whole of the former one.
                said = {name: value for name, value in said.items() if name not in {"header", "query", "scheme"}}
            said |= new
    return JwsShape(**said)


def _bindings(shape: BindShape | None) -> Bindings | None:
    if shape is None:
        return None
    body = None
    if shape.body is not None:
        body = BodyDigest(shape.body.claim, shape.body.algorithm, shape.body.encoding)
    return Bindings(shape.method, shape.path, shape.url, shape.base_url or "", body)


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


def _sign_action(shape: SignShape, read_key: Callable[[str], bytes]) -> Sign:
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


class _Builder:
    """Turns one policy's shapes into routes, and collects what is wrong with them."""

    def __init__(self, defaults: DemandsShape, references: PolicyReferences) -> None:
        self.findings: list[tuple[Location, str, str]] = []
        self._defaults = defaults
        self._references = references

    def _find(self, place: Location, error: ValueError) -> None:
        message, _, remedy = str(error).partition("; ")
        self.findings.append((place, message, remedy))

    def _action(self, shape: RouteShape, place: Location) -> Action:
        if shape.sign is not None:
            try:
                return _sign_action(shape.sign, self._references.read_key)
            except ValueError as error:
                self._find((*place, "sign", "key"), error)
        return RespondClaims() if shape.respond else Forward()

    def _trust(self, shape: RouteShape, place: Location) -> Trust | None:
        trust = shape.certificates or self._defaults.certificates
        if trust is None:
            return None
        if shape.certificates is None:
            place = ("defaults",)
        ca = lists = None
        try:
            ca = self._references.read_ca(trust.ca_file)
        except ValueError as error:
            self._find((*place, "certificates", "ca_file"), error)
        try:
            lists = self._references.read_crl(trust.crl_file) if trust.crl_file else None
        except ValueError as error:
            self._find((*place, "certificates", "crl_file"), error)
        return self._references.trust(ca, lists) if ca is not None else None

    def _check_detached(self, shape: RouteShape, jws: JwsShape, place: Location) -> None:
        """A detached JWS signs the body, so that there are no claims to speak of."""
        if not jws.detached:
            return
        for name in ("claims", "bind", "single_use"):
            if getattr(shape, name):
                self.findings.append(((*place, name), "cannot be checked on a detached JWS", "remove it here"))
        if shape.respond:
            self.findings.append(
                ((*place, "respond"), "has no claims to answer from a detached JWS", "forward instead")
            )

    def route(self, shape: RouteShape, place: Location) -> Route | None:
        """A route, or None with its problems in `findings`."""
        action = self._action(shape, place)
        trust = self._trust(shape, place)
        defaults = self._defaults
        jws = _jws_shape(shape.jws, defaults.jws)
        self._check_detached(shape, jws, place)
        try:
            pattern = PathPattern.parse(shape.path)
        except PatternError as error:
            self.findings.append(((*place, "path"), str(error), "write it like /orders/{id} or /orders/**"))
            return None
        algorithms = shape.algorithms or defaults.algorithms
        attached = not jws.detached
        single_use = shape.single_use if shape.single_use is not None else defaults.single_use
        return Route(
            name=shape.name or shape.path,
            pattern=pattern,
            methods=frozenset(shape.methods) if shape.methods else None,
            client_id=_source((shape.client_id, defaults.client_id), "X-IBM-Client-Id"),
            jws=_source((jws,), "jwt"),
            max_jws_octets=jws.max_octets,
            algorithms=frozenset(algorithms) if algorithms else None,
            claims=_claim_rules(shape.claims, defaults.claims),
            bindings=_bindings(shape.bind or defaults.bind) if attached else None,
            single_use=bool(single_use) and attached,
            detached=jws.detached,
            unencoded=jws.unencoded,
            trust=trust,
            action=action,
        )


def build_routes(document: Document, router: Router, references: PolicyReferences) -> list[Problem]:
    """Add the routes of one policy to the router; every problem in it is returned."""
    problems = list(document.problems)
    shape, shape_problems = check_shape(PolicyShape, document)
    problems += shape_problems
    if shape is None:
        return problems
    builder = _Builder(shape.defaults, references)
    for index, route_shape in enumerate(shape.routes):
        place: Location = ("routes", index)
        route = builder.route(route_shape, place)
        if route is None:
            continue
        try:
            router.add(route)
        except RouteConflict as error:
            message = f"matches the same requests as route {error.other}"
            builder.findings.append(((*place, "path"), message, "give them different methods"))
    return problems + document.problem_list(list(dict.fromkeys(builder.findings)))
