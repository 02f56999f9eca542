"""Policies: routes, what each demands, and which route a request belongs to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from jwcrypto.jwk import JWK

from .answers import API_CONNECT, Reply
from .bindings import Bindings
from .claims import ClaimRules
from .client_certificate import CertificateHeader, ClientCertificate
from .cors import Cors
from .jws import DEFAULT_MAX_OCTETS
from .portal import ClientId
from .reasons import Reason, Rejection
from .request_target import loose_segments, path_segments
from .sources import Source
from .trust import Trust
from .upstream import TRANSACTION_HEADER, Upstream, dropped_name

__all__ = [
    "Action",
    "Forward",
    "NarrowedRoutes",
    "PathPattern",
    "PatternError",
    "RespondClaims",
    "Route",
    "RouteConflict",
    "Router",
    "Sign",
]

_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-F]{2})+")
_TEMPLATE: Final = re.compile(r"\{[A-Za-z_][A-Za-z0-9_-]*\}")
_COLON_TEMPLATE: Final = re.compile(r"^:([A-Za-z_][A-Za-z0-9_-]*).*")
_NOT_OF_PATHS: Final = re.compile(r"[{}<>?#\\]|%(?![0-9A-Fa-f]{2})")
_ASCII_ESCAPE: Final = re.compile("%[0-7]")
_NO_NAME: Final = "no route can name it: write a {template} in its place, or end the path with /** before it"


class PatternError(ValueError):
    """A path pattern that cannot be used; message and remedy are for the policy's author."""

    def __init__(self, message: str, remedy: str = "write it like /orders/{id} or /orders/**") -> None:
        super().__init__(message)
        self.remedy = remedy


class RouteConflict(ValueError):
    """Two routes that match the same requests; `other` is the earlier one's name."""

    def __init__(self, other: str) -> None:
        super().__init__(f"matches the same requests as {other}")
        self.other = other


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request upstream."""


@dataclass(frozen=True, slots=True)
class RespondClaims:
    """Answer the verified claims, octet for octet as they were signed."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Answer a JWS over the posted members: the demo's stand-in for a client (API Connect `jwt-generate`).

    `lifetime` is in seconds.
    """

    key: JWK = field(repr=False, compare=False)
    algorithm: str
    issuer: str
    audience: str
    lifetime: int = 3600


type Action = Forward | RespondClaims | Sign


def _spelled(text: str, index: int) -> str:
    """How to write one segment of a path, so that it is as requests are matched."""
    parts = text.split("/")
    octets = unquote_to_bytes(parts[index + 1].encode("utf-8", "replace"))
    parts[index + 1] = quote(octets, safe="-._~!$&'()*+,=:@")
    return _NO_NAME if _ASCII_ESCAPE.search(parts[index + 1]) else f"write {'/'.join(parts)}"


def _reachable(part: str, text: str, index: int) -> str:
    """A literal segment, if a request can have it: requests are matched with unreserved characters decoded."""
    if not _LITERAL.fullmatch(part):
        message = f"has the segment {part!r}, which is neither plain text nor one {{template}}"
        raise PatternError(message) if _NOT_OF_PATHS.search(part) else PatternError(message, _spelled(text, index))
    try:
        normal = path_segments(b"/" + part.encode("ascii"))
    except Rejection as rejection:
        raise PatternError(f"has the segment {part}, which no request can have: {rejection.detail}") from None
    if normal != (part,):
        raise PatternError(f"has the segment {part}, which is matched as {normal[0]}", _spelled(text, index))
    if _ASCII_ESCAPE.search(part):
        message = f"has the segment {part}, which upstreams read in more than one way"
        raise PatternError(message, _spelled(text, index))
    if ";" in part:
        raise PatternError(f"has the segment {part}; what follows a ; is not matched", "leave out what follows the ;")
    return part


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A path with `{templates}` for single segments and perhaps `/**` at its end for all beneath it."""

    segments: tuple[str | None, ...]
    """The literal segments; None where a template stands."""
    prefix: bool

    @classmethod
    def parse(cls, text: str) -> "PathPattern":
        """Read a pattern such as `/{org}/{catalog}/signvalidate/validate` or `/orders/**`.

        Raises:
            PatternError: when the text is no such pattern.
        """
        if not text.startswith("/"):
            raise PatternError("does not begin with a slash")
        parts = text[1:].split("/")
        prefix = parts[-1] == "**"
        if prefix:
            parts.pop()
        segments: list[str | None] = []
        for index, part in enumerate(parts):
            if _TEMPLATE.fullmatch(part):
                if part in parts[:index]:
                    raise PatternError(f"has the template {part} twice", "give each a name of its own")
                segments.append(None)
            elif part == "" and index == len(parts) - 1 and not prefix:
                segments.append("")
            elif part in {"", ".", ".."}:
                raise PatternError("has an empty or a dot segment, which no request can have")
            elif _COLON_TEMPLATE.match(part):
                remedy = "/".join(_COLON_TEMPLATE.sub(r"{\1}", each) for each in text.split("/"))
                message = f"has the segment {part}, which would be matched as it stands"
                raise PatternError(message, f"write {remedy}")
            elif "*" in part:
                raise PatternError("has a * that is not /** at its end")
            else:
                segments.append(_reachable(part, text, index))
        return cls(tuple(segments), prefix)

    @property
    def rank(self) -> tuple[list[bool], bool]:
        """Greater for the more specific of two patterns that match a path, a slash at its end left aside."""
        plain = self.segments[:-1] if self.segments[-1:] == ("",) else self.segments
        return [segment is not None for segment in plain], not self.prefix

    def matches(self, segments: tuple[str, ...]) -> bool:
        """Whether the normalised segments of a path fit."""
        count = len(self.segments)
        if len(segments) < count or (len(segments) > count and not self.prefix):
            return False
        pairs = zip(segments, self.segments, strict=False)
        return all(segment == wanted if wanted is not None else segment != "" for segment, wanted in pairs)


_NUMBERS: Final = count()


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One matched set of paths and methods, and what it demands. `methods` None means every method.

    Compared by identity: a route is one of its snapshot's, which the verified-JWS cache relies on.
    """

    name: str
    pattern: PathPattern
    methods: frozenset[str] | None
    client_id: Source
    jws: Source
    max_jws_octets: int = DEFAULT_MAX_OCTETS
    algorithms: frozenset[str] | None = None
    claims: ClaimRules = field(default_factory=ClaimRules)
    bindings: Bindings | None = None
    single_use: bool = False
    """Whether each `jti` is good once."""
    detached: bool = False
    """Whether the JWS is detached (RFC 7515 appendix F) and signs the body; it then has no claims to check."""
    unencoded: bool = False
    """Whether a detached JWS may have `b64: false` (RFC 7797)."""
    trust: Trust | None = None
    websocket: bool = False
    """Whether a WebSocket may be opened, which is decided once, by its handshake."""
    max_body_octets: int | None = None
    """Largest body; None leaves it to whoever holds or streams it."""
    audit_failure: Literal["deny", "continue"] = "deny"
    """What becomes of an allowed request whose record cannot be kept."""
    client_certificate: ClientCertificate | None = None
    open: bool = False
    """Whether every request passes, without a client ID or a JWS."""
    cors: Cors | None = None
    errors: Mapping[Reason, Reply] = field(default_factory=lambda: API_CONNECT, repr=False)
    """What a rejected client is told."""
    upstream: Upstream | None = None
    report: bool = False
    """Whether requests pass that would be rejected for who called (`reasons.REPORTABLE`), and are only reported."""
    action: Action = field(default_factory=Forward)
    barred: bool = False
    """Whether nobody may call it; said of what a route is for some applications."""
    narrowed: "NarrowedRoutes | None" = None
    """What it is for some applications."""
    mark: bytes = field(init=False, repr=False)
    """Which no other route of this process has."""
    remembers: bool = field(init=False)
    """Whether a JWS that passed will do so again, whatever else there is of the request, until its time is over."""

    def __post_init__(self) -> None:
        others = self.bindings, self.trust, self.client_certificate, self.narrowed
        depends = (
            self.open or self.detached or isinstance(self.action, Sign) or any(each is not None for each in others)
        )
        object.__setattr__(self, "remembers", not depends)
        object.__setattr__(self, "mark", b"%x" % next(_NUMBERS))


class NarrowedRoutes(NamedTuple):
    """One route as it is for applications of which a policy demands more, made when the policy is loaded."""

    groups: Mapping[ClientId, int]
    """Which of the routes is meant; all routes of a policy share it."""
    routes: tuple[Route, ...]


class _Node:
    """One level of the route tree: what may follow a common start of paths."""

    __slots__ = ("exact", "literals", "prefixed", "template")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.template: _Node | None = None
        self.exact: list[Route] = []
        self.prefixed: list[Route] = []


def _by_method(routes: list[Route], method: str) -> Route | None:
    fallback = None
    for route in routes:
        if route.methods is None:
            fallback = route
        elif method in route.methods:
            return route
    return fallback


class Router:
    """Finds the most specific route: literal before template before prefix, the longer prefix first.

    A path is walked down a tree of segments, so that most routes are never looked at.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self._routes: list[Route] = []
        self.asks_client_certificate = False
        """Whether any route demands one of the TLS connection."""
        self.errors = API_CONNECT
        """What a client is told whose request has no route."""
        self.has_cors = False
        """Whether any route answers preflights."""
        self.dropped_headers = {dropped_name(TRANSACTION_HEADER.encode())}
        """Every header that is added to what any route forwards, as `upstream.dropped_name` spells it."""
        self.certificate_headers: dict[bytes, list[CertificateHeader]] = {}
        """The headers that any route takes it from, by their canonical name."""
        self.reported: set[ClientId] = set()
        """The client IDs of applications that a policy has in report mode, on whichever route."""
        self._found: dict[tuple[str, bytes], Route | None] = {}

    def add(self, route: Route) -> None:
        """Add a route.

        Raises:
            RouteConflict: when an earlier route matches the same paths and one of the same methods.
        """
        node = self._root
        for segment in route.pattern.segments:
            if segment is None:
                node.template = node.template or _Node()
                node = node.template
            else:
                node = node.literals.setdefault(segment, _Node())
        siblings = node.prefixed if route.pattern.prefix else node.exact
        for other in siblings:
            both = {None} if route.methods is other.methods else (route.methods or set()) & (other.methods or set())
            if both:
                raise RouteConflict(other.name)
        if (demand := route.client_certificate) is not None:
            if demand.header is None:
                self.asks_client_certificate = True
            else:
                self.certificate_headers.setdefault(demand.header.canonical, []).append(demand.header)
        self.has_cors = self.has_cors or route.cors is not None
        if route.upstream is not None:
            self.dropped_headers.update(dropped_name(name.encode("ascii")) for name in route.upstream.names)
        self._found.clear()
        siblings.append(route)
        self._routes.append(route)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)

    def find(self, method: str, target: bytes) -> Route | None:
        """The route for a method and a request target; None when there is none.

        Raises:
            Rejection: `request_unsafe` when the target could be read in more than one way.
        """
        key = method, target
        try:
            return self._found[key]
        except KeyError:
            route = self._unambiguous(method, path_segments(target))
        # Clients call the same few targets; what is remembered is bounded in number and in length.
        if len(target) + len(method) <= 256:
            if len(self._found) >= 4096:
                self._found.clear()
            self._found[key] = route
        return route

    def forget_found(self) -> None:
        """Forget the targets seen before; for those who measure."""
        self._found.clear()

    def _unambiguous(self, method: str, segments: tuple[str, ...]) -> Route | None:
        """The route, refused where an upstream that reads the path more liberally would see another one."""
        route = self.match(method, segments)
        loose = loose_segments(segments)
        if loose != segments and self.match(method, loose) is not route:
            raise Rejection(Reason.REQUEST_UNSAFE, "decoded, or without path parameters, the path has another route")
        if route is not None:
            # Whoever wants the two apart writes a route for each. Its methods do not matter: a POST must not slip past
            # a strict GET either.
            toggled = loose[:-1] if loose[-1] == "" else (*loose, "")
            others = self._match(self._root, toggled, 0)
            if others and others[0].pattern.rank > route.pattern.rank:
                raise Rejection(Reason.REQUEST_UNSAFE, "but for a slash at its end, the path has another route")
        return route

    def match(self, method: str, segments: tuple[str, ...]) -> Route | None:
        """The route for a method and the normalised segments of a path; None when there is none.

        The most specific path is found first. When none of its routes has the method, there is no route:
        a HEAD or a PUT must not slip past a strict GET to a lax `/**`.
        """
        return _by_method(self._match(self._root, segments, 0), method)

    def _match(self, node: _Node, segments: tuple[str, ...], index: int) -> list[Route]:
        # Depth is bounded by the longest pattern of the policy, whatever the request's path.
        if index == len(segments):
            return node.exact or node.prefixed
        segment = segments[index]
        found: list[Route] = []
        if (child := node.literals.get(segment)) is not None:
            found = self._match(child, segments, index + 1)
        if not found and node.template is not None and segment:
            found = self._match(node.template, segments, index + 1)
        return found or node.prefixed
