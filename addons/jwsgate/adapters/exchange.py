"""What the gate reads from mitmproxy's flows, and the responses of its own that it puts on them."""

from typing import Any, Final

from mitmproxy import connection, http

from jwsgate.core.answers import LAST_RESORT_BODY, TRANSACTION_HEADER
from jwsgate.core.decision import Allowed
from jwsgate.core.facts import RequestFacts
from jwsgate.core.upstream import Headers

from .tls import GateTls

__all__ = [
    "LAST_RESORT",
    "STANDING",
    "facts_of",
    "gate_response",
    "identity_of",
    "is_large",
    "peer_of",
    "preflight_answer",
    "version_fault",
]

LAST_RESORT: Final = (500, LAST_RESORT_BODY, ((b"content-type", b"application/json"),))
STANDING: Final = http.Response.make(*LAST_RESORT)
"""What stands on each flow until its decision: one for all, as making one takes longer than deciding. Never sent."""
_HOLD_OCTETS: Final = 65536
"""Bodies up to this size are held until they are there; larger ones are passed on as they come."""


def preflight_answer(allowed: Allowed, asked: Headers, transaction_id: str) -> http.Response:
    """What a browser is told before it calls; what goes with every response is added later (`responseheaders`)."""
    response = http.Response.make(204, b"", {TRANSACTION_HEADER: transaction_id})
    if allowed.route.cors is not None and allowed.preflight is not None:
        response.headers.fields += allowed.route.cors.preflight_headers(asked, allowed.preflight)
    return response


def identity_of(flow: http.HTTPFlow) -> tuple[object, ...]:
    """What must not change between the decision and the forwarding."""
    data = flow.request.data
    return data.method, data.path, data.scheme, data.host, data.port


def peer_of(client: connection.Client) -> str:
    """The client's address, without its port; empty when it is not known."""
    peername: Any = client.peername  # None when the peer was gone before it could be asked
    return str(peername[0]) if peername else ""


def facts_of(flow: http.HTTPFlow, tls: GateTls) -> RequestFacts:
    """What the core decides on, as it stands on the flow now."""
    data = flow.request.data
    return RequestFacts(data.method.decode("latin-1"), data.path, data.headers.fields, *tls.peer_facts(flow))


def gate_response(status: int, body: bytes, content_type: str, transaction_id: str, method: str) -> http.Response:
    """An answer of the gate's own to a request with that method."""
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        TRANSACTION_HEADER: transaction_id,
    }
    # RFC 9110 section 9.3.2: no content for HEAD; mitmproxy would write it on the wire.
    return http.Response.make(status, b"" if method == "HEAD" else body, headers)


def version_fault(flow: http.HTTPFlow) -> str | None:
    """What is wrong with the version, if anything: an HTTP/1 client may write any number into its first line."""
    version, alpn = flow.request.data.http_version, flow.client_conn.alpn or b""
    if version == b"HTTP/1.1":
        if flow.is_replay == "request" or any(
            len(name) == 4 and name.lower() == b"host" for name, _ in flow.request.data.headers.fields
        ):
            return None
        return "the request has no Host header"  # RFC 9112 section 3.2
    if version == b"HTTP/1.0" or flow.is_replay == "request":
        return None
    if (version == b"HTTP/2.0" and alpn == b"h2") or (version.startswith(b"HTTP/3") and alpn.startswith(b"h3")):
        return None
    return "the HTTP version is not that of the connection"


def is_large(fields: Headers, *, unknown: bool) -> bool:
    """Whether a body is too large to be held; `unknown` is what to say when nothing tells its size."""
    for name, value in fields:
        if len(name) == 14 and name.lower() == b"content-length":
            return not value.isdigit() or len(value) > 19 or int(value) > _HOLD_OCTETS
        if len(name) == 17 and name.lower() == b"transfer-encoding":
            return True
    return unknown
