"""From a policy file to routes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cryptography import x509
from pydantic import ValidationError

from jwsgate.core.answers import API_CONNECT, Reply
from jwsgate.core.bindings import Bindings, BodyDigest
from jwsgate.core.certificates import CertificateError, load_private_key
from jwsgate.core.client_certificate import CertificateHeader, ClientCertificate
from jwsgate.core.packed import Names
from jwsgate.core.policy import (
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
from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source
from jwsgate.core.trust import Trust
from jwsgate.core.upstream import Upstream

from .documents import Document
from .policy_applications import Narrower
from .policy_claims import claim_rules
from .policy_parts import ErrorsShape, UpstreamShape, cors_of, reply_table_of, upstream_of
from .policy_shapes import (
    CERTIFICATE_REQUIRED,
    NO_CERTIFICATE,
    ApplicationShape,
    BindShape,
    ClientCertificateShape,
    DemandsShape,
    JwsShape,
    PolicyShape,
    RouteShape,
    SignShape,
    SourceShape,
    TrustShape,
)
from .policy_sources import check_apart, check_headers, jws_shape, source_of
from .problems import Finding, Location, Problem, Unfit
from .shapes import check_shape, sound_items

__all__ = ["PolicyReferences", "add_routes", "asks_for_ca", "build_routes"]


class PolicyReferences(Protocol):
    """What a policy refers to; each method raises `Unfit`."""

    def read_key(self, name: str) -> bytes:
        """The octets of a private key file."""
        ...

    def read_ca(self, name: str) -> Sequence[x509.Certificate]:
        """The certificates of a CA bundle."""
        ...

    def read_crl(self, name: str) -> Sequence[x509.CertificateRevocationList]:
        """The lists of a CRL file."""
        ...

    def trust(
        self, ca: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList] | None
    ) -> Trust | None:
        """The trust in the portal's certificates."""
        ...

    def applications(self) -> Iterable[Names]:
        """The portal's applications."""
        ...

    def policy_of(self, route: Route) -> str:
        """The name of the earlier policy that a route is of; empty for a route of this one."""
        ...


def _merged[S: BindShape | TrustShape | UpstreamShape](kind: type[S], defaults: S | None, route: S | None) -> S | None:
    """What the defaults ask for, with the keys that a route says itself in place of theirs."""
    if defaults is None or route is None:
        return route or defaults
    said = [{name: getattr(shape, name) for name in shape.model_fields_set} for shape in (defaults, route)]
    return kind(**said[0] | said[1])


def _said[V](route: V | None, defaults: V | None) -> V | None:
    """What a route says, else the defaults."""
    return defaults if route is None else route


def _bindings(shape: BindShape | None) -> Bindings | None:
    if shape is None:
        return None
    body = None
    if shape.body is not None:
        body = BodyDigest(shape.body.claim, shape.body.algorithm, shape.body.encoding)
    return Bindings(shape.method, shape.path, shape.url, shape.base_url or "", body)


def _client_certificate(shape: ClientCertificateShape | None) -> ClientCertificate | None:
    if shape is None or shape is NO_CERTIFICATE:
        return None
    if shape is CERTIFICATE_REQUIRED:
        return ClientCertificate()
    return ClientCertificate(CertificateHeader(shape.header, shape.format, tuple(shape.networks)))


def _sign_action(shape: SignShape, read_key: Callable[[str], bytes]) -> Sign:
    """Raises `Unfit` when the key does not serve."""
    try:
        key = load_private_key(read_key(shape.key))
    except CertificateError as error:
        raise Unfit(str(error), error.remedy) from None
    if shape.algorithm not in key.algorithms:
        raise Unfit(f"is a key that cannot sign {shape.algorithm}", f"use {' or '.join(key.algorithms)}")
    return Sign(key.jwk, shape.algorithm, shape.issuer, shape.audience, shape.lifetime)


class _Builder:
    """Turns one policy's shapes into routes, and collects what is wrong with them."""

    def __init__(self, defaults: DemandsShape, references: PolicyReferences, errors: Mapping[Reason, Reply]) -> None:
        self.findings: list[Finding] = []
        self._defaults = defaults
        self._references = references
        self._errors = errors

    def _find(self, place: Location, error: Unfit) -> None:
        self.findings.append((place, str(error), error.remedy))

    def _said_at(self, shape: RouteShape, place: Location, *keys: str) -> Location:
        """The place of the first of the keys that a route says itself, or else that its defaults say."""
        for said, start in ((shape, place), (self._defaults, ("defaults",))):
            for key in keys:
                if getattr(said, key) is not None:
                    return (*start, key)
        return place

    def _action(self, shape: RouteShape, place: Location) -> Action:
        if shape.sign is not None:
            try:
                return _sign_action(shape.sign, self._references.read_key)
            except Unfit as error:
                self._find((*place, "sign", "key"), error)
        return RespondClaims() if shape.respond else Forward()

    def _trust(self, shape: RouteShape, place: Location) -> Trust | None:
        trust = _merged(TrustShape, self._defaults.certificates, shape.certificates)
        if trust is None:
            return None
        if shape.certificates is None:
            place = ("defaults",)
        ca = lists = None
        try:
            ca = self._references.read_ca(trust.ca_file)
        except Unfit as error:
            self._find((*place, "certificates", "ca_file"), error)
        try:
            lists = self._references.read_crl(trust.crl_file) if trust.crl_file else None
        except Unfit as error:
            self._find((*place, "certificates", "crl_file"), error)
        return self._references.trust(ca, lists) if ca is not None else None

    def _report(self, shape: RouteShape, place: Location) -> bool:
        """Whether a route is in report mode."""
        report = _said(shape.mode, self._defaults.mode) == "report" and not shape.open
        if report and (shape.respond or shape.sign):
            message = "cannot be report on a route that answers itself, which has nothing to answer then"
            where = place if shape.mode is None else (*place, "mode")
            self.findings.append((where, message if shape.mode else f"mode {message}", "say mode: enforce here"))
        return report

    def _upstream(
        self, shape: RouteShape, jws: JwsShape, client_id: Source, jws_source: Source, place: Location
    ) -> Upstream | None:
        if shape.open and shape.upstream is not None and shape.upstream.model_fields_set - {"strip_jws"}:
            message = "has nobody to tell of on an open route"
            self.findings.append(((*place, "upstream"), message, "leave strip_jws alone"))
        if shape.respond or shape.sign:
            if shape.upstream is not None:
                self.findings.append(((*place, "upstream"), "does nothing on a route that answers itself", "remove it"))
            return None
        said = place if shape.upstream is not None else ("defaults",)
        try:
            merged = _merged(UpstreamShape, self._defaults.upstream, shape.upstream)
        except ValidationError as error:
            cause = error.errors()[0].get("ctx", {}).get("error")
            self.findings.append(((*place, "upstream"), f"does not fit the defaults: {cause}", "give each its own"))
            return None
        if merged is None:
            return None
        for name in ("claims", "claims_json"):
            if jws.detached and getattr(merged, name):
                message = "cannot be had from a detached JWS, which has no claims"
                own = shape.upstream is not None and name in shape.upstream.model_fields_set
                where = (*said, "upstream", name) if own else place
                self.findings.append((where, message, f"move {name} to the routes that can have it"))
        upstream = upstream_of(merged)
        try:
            check_headers(upstream, client_id, jws_source)
        except Unfit as error:
            self._find(self._said_at(shape, place, "upstream", "jws", "client_id"), error)
        return upstream

    def _check_detached(self, shape: RouteShape, jws: JwsShape, place: Location) -> None:
        """A detached JWS signs the body, so that there are no claims to speak of."""
        if not jws.detached:
            return
        for name in ("bind", "single_use"):
            if getattr(shape, name):
                self.findings.append(((*place, name), "cannot be checked on a detached JWS", "remove it here"))
        if shape.claims is not None and shape.claims.model_fields_set - {"typ"}:
            message = "cannot be checked on a detached JWS, which has no claims"
            self.findings.append(((*place, "claims"), message, "remove it here, or leave typ alone"))
        for name in ("bind", "single_use"):
            # A route can say single_use: false; there is no such word for bind.
            if getattr(self._defaults, name) and getattr(shape, name) is None:
                message = f"has a detached JWS, for which the {name} of the defaults cannot be checked"
                self.findings.append((place, message, f"move {name} from the defaults to the routes that can have it"))
        if shape.respond:
            self.findings.append(
                ((*place, "respond"), "has no claims to answer from a detached JWS", "forward instead")
            )

    def route(self, shape: RouteShape, place: Location) -> Route | None:
        """A route, or None with its problems in `findings`."""
        action = self._action(shape, place)
        trust = self._trust(shape, place)
        defaults = self._defaults
        try:
            jws = jws_shape(shape.jws, defaults.jws)
            jws_source = source_of(jws, "jwt")
        except Unfit as error:
            self._find((*place, "jws"), error)
            return None
        try:
            client_id = source_of(shape.client_id or defaults.client_id or SourceShape(), "X-IBM-Client-Id")
        except Unfit as error:
            self._find((*place, "client_id"), error)
            return None
        if not (shape.open or shape.sign):
            try:
                check_apart(client_id, jws_source)
            except Unfit as error:
                self._find(self._said_at(shape, place, "client_id", "jws"), error)
        self._check_detached(shape, jws, place)
        if shape.sign is not None:
            for name in ("bind", "single_use", "claims", "jws"):
                if getattr(shape, name):
                    self.findings.append(((*place, name), "does nothing on a route that signs", "remove it here"))
        try:
            pattern = PathPattern.parse(shape.path)
        except PatternError as error:
            self.findings.append(((*place, "path"), str(error), error.remedy))
            return None
        claims, found = claim_rules(shape.claims, defaults.claims, place)
        self.findings += found
        cors = shape.cors or defaults.cors
        algorithms = shape.algorithms or defaults.algorithms
        attached = not jws.detached
        single_use = _said(shape.single_use, defaults.single_use)
        return Route(
            name=shape.name or shape.path,
            pattern=pattern,
            methods=frozenset(shape.methods) if shape.methods else None,
            client_id=client_id,
            jws=jws_source,
            max_jws_octets=jws.max_octets,
            algorithms=frozenset(algorithms) if algorithms else None,
            claims=claims,
            bindings=_bindings(_merged(BindShape, defaults.bind, shape.bind)) if attached else None,
            single_use=bool(single_use) and attached,
            detached=jws.detached,
            unencoded=jws.unencoded,
            trust=trust,
            websocket=bool(shape.websocket),
            max_body_octets=_said(shape.max_body_octets, defaults.max_body_octets),
            audit_failure=_said(shape.audit_failure, defaults.audit_failure) or "deny",
            client_certificate=_client_certificate(shape.client_certificate or defaults.client_certificate),
            open=bool(shape.open),
            cors=None if cors is None else cors_of(cors, (client_id, jws_source)),
            errors=self._errors,
            upstream=self._upstream(shape, jws, client_id, jws_source, place),
            report=self._report(shape, place),
            action=action,
        )


def asks_for_ca(document: Document) -> bool:
    """Whether a policy may ask for a CA behind registered certificates; known before the portal is read."""

    def within(value: object) -> bool:
        if isinstance(value, dict):
            return "ca_file" in value or any(map(within, value.values()))
        return isinstance(value, list) and any(map(within, value))

    return within(document.data)


type _Numbered[S] = list[tuple[int, S]]


def _readable(data: Any) -> tuple[DemandsShape, _Numbered[RouteShape], _Numbered[ApplicationShape], list[Finding]]:
    """Defaults, routes, applications and findings; of a broken document, what of it is sound."""
    shape, findings = check_shape(PolicyShape, data)
    if shape is not None:
        return shape.defaults, list(enumerate(shape.routes)), list(enumerate(shape.applications)), []
    data = data if isinstance(data, dict) else {}
    defaults, _ = check_shape(DemandsShape, data.get("defaults", {}))
    applications = sound_items(ApplicationShape, data.get("applications"))
    return defaults or DemandsShape(), sound_items(RouteShape, data.get("routes")), applications, findings


def _mappings(data: Any) -> list[tuple[int, dict[str, Any]]]:
    """All routes with their numbers, broken ones too."""
    routes = data.get("routes") if isinstance(data, dict) else ()
    return [pair for pair in enumerate(routes) if isinstance(pair[1], dict)] if isinstance(routes, list) else []


def _names(data: Any) -> set[str]:
    """The names of all routes."""
    return {name for _, route in _mappings(data) if isinstance(name := route.get("name", route.get("path")), str)}


def _names_given_twice(data: Any) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for number, route in _mappings(data):
        if isinstance(name := route.get("name"), str) and first.setdefault(name, number) != number:
            message = f"is the name of routes[{first[name]}] too, so that logs and metrics mix the two"
            yield ("routes", number, "name"), message, "give each its own, or none: then its path is its name"


def _errors(data: Any) -> Mapping[Reason, Reply] | None:
    """What a policy says of its answers, if it is sound."""
    data = data if isinstance(data, dict) else {}
    shape, _ = check_shape(ErrorsShape, data["errors"]) if "errors" in data else (None, [])
    return None if shape is None else reply_table_of(shape)


def add_routes(data: Any, router: Router, references: PolicyReferences) -> list[Finding]:
    """Add the routes of a policy's data to the router."""
    defaults, shapes, applications, findings = _readable(data)
    errors = _errors(data)
    if errors is not None and router.errors is API_CONNECT:
        router.errors = errors
    builder = _Builder(defaults, references, API_CONNECT if errors is None else errors)
    routes: list[Route] = []
    narrower = Narrower(applications, references.applications() if applications else ())
    for index, route_shape in shapes:
        place: Location = ("routes", index)
        route = builder.route(route_shape, place)
        if route is None:
            continue
        routes.append(route)
        try:
            router.add(narrower.narrowed(route))
        except RouteConflict as error:
            others = (each for each in router if each.name == error.other and each.pattern == route.pattern)
            file = next(filter(None, map(references.policy_of, others)), "")
            message = f"matches the same requests as route {error.other}{file and f' of {file}'}"
            builder.findings.append(((*place, "path"), message, "give them different methods"))
    router.reported.update(narrower.reported())
    return [*findings, *builder.findings, *narrower.findings(routes, _names(data))]


def build_routes(document: Document, router: Router, references: PolicyReferences) -> list[Problem]:
    """Add the routes of one policy to the router; every problem in it is returned."""
    findings = [*add_routes(document.data, router, references), *_names_given_twice(document.data)]
    return [*document.problems, *document.problem_list(findings)]
