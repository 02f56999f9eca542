"""How each proxy asks `jwsgate serve` about a request, and how it wants to be answered.

Rule 1. A listener speaks one dialect. Method and target of the request are read from the one place where its proxy
        puts them, in the one spelling that the proxy writes; whatever looks like it besides is a denial.
Rule 2. What a policy demands and a dialect cannot do is refused by name when the policy is loaded (`check_policy`).
Rule 3. Headers that only the gate may send upstream are set by the proxy from the answer, whatever the client sent. No
        proxy can be asked whether it does; whoever configures it declares them, and a policy with others is refused.
        Only over gRPC does the answer itself say what becomes of each header (`sets_all`).
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from jwsgate.core.answers import TRANSACTION_HEADER, Reply
from jwsgate.core.decision import Allowed, Snapshot
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Forward, Route
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.sources import Source, stripped
from jwsgate.core.upstream import Headers, dropped_name, lines_of
from jwsgate.files.problems import Unfit

__all__ = ["DIALECTS", "Dialect", "Question", "Tongue", "check_policy", "denied"]

_TRANSACTION: Final = TRANSACTION_HEADER.encode()
_PARTIAL: Final = b"x-envoy-auth-partial-body"
_REMOVE: Final = b"x-envoy-auth-headers-to-remove"
# What the `auth-url` of ingress-nginx says of itself (nginx.tmpl of kubernetes/ingress-nginx).
_SENT_FROM: Final = b"x-sent-from"
_INGRESS_NGINX: Final = b"nginx-ingress-controller"
_JSON: Final = "application/json"
_MOST_NAMES: Final = 1000
_NONE: Final[Collection[bytes]] = ()


@dataclass(slots=True)
class Question:
    """What a proxy asks, as it came: one HTTP request. `peer` is the proxy's address, or the client's if it is told."""

    method: str
    target: bytes
    headers: Headers
    body: bytes = b""
    peer: str = ""


def _permission(transaction_id: bytes, lines: bytes, removed: Collection[bytes]) -> bytes:
    if removed:
        lines += lines_of(((_REMOVE, b",".join(sorted(removed))),))
    return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n%b: %b\r\n%b\r\n" % (_TRANSACTION, transaction_id, lines)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a proxy writes what, and what it understands.

    `method`, `target` and `address` are the headers that hold those of the client's request, exactly as the proxy
    spells them; without the first two the question's own method and target are the client's.
    """

    name: str
    denial: Callable[[Reply, Headers, bool], bytes]
    """Writes the answer to a request that must not pass; the last argument is whether the question was HEAD."""
    method: bytes = b""
    target: bytes = b""
    address: bytes = b""
    permission: Callable[[bytes, bytes, Collection[bytes]], bytes] = _permission
    """Writes the answer that lets a request pass: the transaction ID, the lines to set, and what to take off."""
    sets_all: bool = False
    """Whether each answer itself has the proxy set and take off headers, so that none need to be declared."""

    @property
    def is_envoy(self) -> bool:
        """Whether the question is the request itself, and the answer says what becomes of its headers and its body."""
        return not self.method


def _unsafe(detail: str) -> Rejection:
    return Rejection(Reason.REQUEST_UNSAFE, detail)


def _places(route: Route) -> Iterator[Source]:
    for source in (route.client_id, route.jws):
        yield source
        yield from source.others


class Tongue:
    """A dialect under one snapshot: makes facts of questions and octets of decisions."""

    def __init__(self, dialect: Dialect, sets: frozenset[bytes], snapshot: Snapshot) -> None:
        """`sets` are the headers that the proxy sets from each answer, in lower case."""
        self._dialect, self._sets = dialect, sets
        self._dropped = frozenset(snapshot.router.dropped_headers)
        own = {each: dropped_name(each) for each in (dialect.method, dialect.target, dialect.address) if each}
        places = [place for route in snapshot.router for place in _places(route)]
        self._own = frozenset(own)
        self._sources = frozenset(dropped_name(place.exact) for place in places if place.place == "header")
        self._watched = self._dropped | frozenset(own.values())
        if dialect.is_envoy:
            self._watched |= self._sources | {_PARTIAL}
        self._unwatched: set[bytes] = set()
        """Names of other headers seen before: to look them up is cheaper than to fold them."""

    def read(self, question: Question) -> RequestFacts:
        """The request that a proxy asks about.

        Raises:
            Rejection: `request_unsafe` when the question is not in the dialect.
        """
        return self._asked(question) if self._dialect.is_envoy else self._told(question)

    def _watches(self, name: bytes, value: bytes) -> bool:
        if name.lower() == _SENT_FROM:
            if value == _INGRESS_NGINX:
                # It hands on what clients write into the headers that are read here.
                raise _unsafe("the auth-url of ingress-nginx asks, which speaks no dialect")
            return False
        if dropped_name(name) in self._watched:
            return True
        if len(self._unwatched) < _MOST_NAMES:
            self._unwatched.add(name)
        return False

    def _asked(self, question: Question) -> RequestFacts:
        """From a proxy whose question is the request itself."""
        fields: list[tuple[bytes, bytes]] = []
        for field in question.headers:
            name, value = field
            if name in self._unwatched or not self._watches(name, value):
                fields.append(field)
            elif name.lower() != _PARTIAL:
                # Envoy joins what was repeated; no client ID and no JWS has a comma.
                values = value.split(b",") if dropped_name(name) in self._sources else [value]
                fields += [(name, each) for each in values]
        return RequestFacts(question.method, question.target, tuple(fields), question.peer)

    def _told(self, question: Question) -> RequestFacts:
        """From a proxy that tells the request in headers of its own."""
        own, unwatched = self._own, self._unwatched
        fields: list[tuple[bytes, bytes]] = []
        told: dict[bytes, bytes] = {}
        for field in question.headers:
            name, value = field
            if name in own:
                if name in told:
                    raise _unsafe("a header of the proxy is repeated")
                told[name] = value
            elif name in unwatched or not self._watches(name, value):
                fields.append(field)
            elif name.lower() not in self._sets:
                raise _unsafe("a header imitates one that only the proxy or the gate may send")
        dialect = self._dialect
        method, target = told.get(dialect.method), told.get(dialect.target)
        if not method or not target:
            raise _unsafe("the proxy does not say which request it asks about")
        if method == b"CONNECT":
            # Caddy tells `/` and sends the authority upstream.
            raise _unsafe("the request asks for a tunnel")
        if b",/" in target:
            raise _unsafe("the proxy names more than one target")
        peer = told[dialect.address].decode("latin-1") if dialect.address in told else question.peer
        return RequestFacts(method.decode("latin-1"), target, tuple(fields), peer)

    def body(self, question: Question) -> bytes | None:
        """The whole body of the client's request; None when the proxy did not pass it on.

        An empty one is none: Envoy says nothing of it, whether or not it was told to pass bodies on.
        """
        values = [value for name, value in question.headers if name.lower() == _PARTIAL]
        return question.body if self._dialect.is_envoy and values == [b"false"] and question.body else None

    def allow(self, allowed: Allowed, facts: RequestFacts, transaction_id: str) -> bytes:
        """The answer that lets a request pass."""
        lines, removed = allowed.lines, _NONE
        if self._dialect.is_envoy:
            changed, removed = self._changes(allowed, facts)
            lines += lines_of(changed)
        return self._dialect.permission(transaction_id.encode("ascii"), lines, removed)

    def _changes(self, allowed: Allowed, facts: RequestFacts) -> tuple[Headers, Collection[bytes]]:
        """The cookie without what was in it, and what Envoy is to take off the request."""
        added = {name.lower() for name, _ in allowed.added} | {_TRANSACTION.lower()}
        removed = {name.lower() for name, _ in facts.headers if dropped_name(name) in self._dropped} - added
        changed: Headers = ()
        if allowed.would_reject is None and (upstream := allowed.route.upstream) is not None and upstream.strip_jws:
            _, kept = stripped(allowed.route.jws, facts.target, facts.headers)
            gone = [field for field in facts.headers if field not in kept]
            removed |= {name.lower() for name, _ in gone}
            cookies = [value for name, value in kept if name.lower() == b"cookie"]
            if b"cookie" in removed and cookies:
                removed.remove(b"cookie")
                changed = ((b"cookie", b"; ".join(cookies)),)
        return changed, removed


def denied(dialect: Dialect, reply: Reply, transaction_id: str, method: str = "") -> bytes:
    """The answer that ends a request; `method` is that of the question."""
    headers: Headers = ((_TRANSACTION, transaction_id.encode("ascii")),)
    if reply.challenge is not None:
        headers += ((b"WWW-Authenticate", reply.challenge.encode("ascii")),)
    return dialect.denial(reply, headers, method == "HEAD")


def _response(status: int, headers: Headers, body: bytes = b"", *, is_head: bool = False) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % field for field in headers])
    head = b"HTTP/1.1 %d \r\ncache-control: no-store\r\n%bcontent-length: %d\r\n\r\n" % (status, lines, len(body))
    return head if is_head else head + body


def _plain_denial(reply: Reply, headers: Headers, is_head: bool) -> bytes:
    headers = (*headers, (b"content-type", reply.content_type.encode("ascii")))
    return _response(reply.status, headers, reply.body, is_head=is_head)


def _envoy_denial(reply: Reply, headers: Headers, is_head: bool) -> bytes:
    # Envoy takes a 5xx for a fault of the service, and drops the body. What is to be 50N is 49N here, and becomes
    # 50N again by the mapper of local replies in Envoy's configuration.
    status = reply.status if reply.status < 500 else min(reply.status - 10, 499)
    headers = (*headers, (b"content-type", reply.content_type.encode("ascii")))
    return _response(status, headers, reply.body, is_head=is_head)


def _nginx_denial(reply: Reply, headers: Headers, is_head: bool) -> bytes:
    # auth_request knows 401 and 403 only, and no body; the `error_page` of each makes the answer of these headers.
    status = 401 if reply.content_type == _JSON else 403
    told = ((b"X-Jwsgate-Status", str(reply.status).encode("ascii")), (b"X-Jwsgate-Body", reply.body))
    return _response(status, (*headers, *told), is_head=is_head)


_ORIGINAL: Final = b"X-Original-Method", b"X-Original-URI", b"X-Original-Address"
# HAProxy has the names of all headers so.
_ORIGINAL_IN_LOWER_CASE: Final = b"x-original-method", b"x-original-uri", b"x-original-address"
_FORWARDED: Final = b"X-Forwarded-Method", b"X-Forwarded-Uri"
DIALECTS: Final = {
    dialect.name: dialect
    for dialect in (
        Dialect("nginx", _nginx_denial, *_ORIGINAL),
        Dialect("envoy", _envoy_denial),
        Dialect("traefik", _plain_denial, *_FORWARDED, b"X-Forwarded-For"),
        Dialect("caddy", _plain_denial, *_FORWARDED, b"X-Original-Address"),
        Dialect("haproxy", _plain_denial, *_ORIGINAL_IN_LOWER_CASE),
    )
}
"""The dialects by their names."""


_IN_THE_PROXY: Final = "let the proxy do it, or use jwsgate run"


def _impossible(route: Route, dialect: Dialect) -> Iterator[tuple[str, str]]:
    """What of a route cannot be had, each with the remedy."""
    if not isinstance(route.action, Forward):
        yield "sign or respond", "use jwsgate run, which answers requests itself"
    if route.cors is not None:
        yield "cors", _IN_THE_PROXY
    if route.websocket:
        yield "websocket", "use jwsgate run"
    if route.max_body_octets is not None:
        yield "max_body_octets", "limit bodies in the proxy, such as by client_max_body_size of nginx"
    if route.client_certificate is not None:
        yield "client_certificate", "use jwsgate run"
    if not dialect.is_envoy and (route.detached or (route.bindings is not None and route.bindings.body is not None)):
        yield "a JWS over the body", "use --dialect envoy, whose proxy passes the body on, or jwsgate run"
    if route.upstream is not None and route.upstream.strip_jws:
        places = {place.place for place in (route.jws, *route.jws.others)}
        if not dialect.is_envoy or "query" in places:
            yield "upstream.strip_jws", "use --dialect envoy and a header or cookie, or jwsgate run"


def check_policy(snapshot: Snapshot, dialect: Dialect, sets: frozenset[bytes]) -> None:
    """Whether a dialect can do what a policy demands; `sets` as for `Tongue`.

    Raises:
        Unfit: naming what it cannot do.
    """
    declared = {dropped_name(name) for name in sets}
    if not dialect.sets_all and (missing := sorted(snapshot.router.dropped_headers - declared)):
        names = ", ".join(name.decode("ascii") for name in missing)
        raise Unfit(
            f"the header {names} that the policy tells the upstream could be written by clients",
            f"have {dialect.name} set it from the answer, and say so with --proxy-sets",
        )
    for route in snapshot.router:
        for each in (route, *(() if route.narrowed is None else route.narrowed.routes)):
            for what, remedy in _impossible(each, dialect):
                raise Unfit(f"{what} of route {route.name!r} cannot be had behind {dialect.name}", remedy)
