"""What the gate changes of an allowed request that goes upstream, and of the response that comes back."""

from collections.abc import Set
from typing import Final

from mitmproxy import ctx, http
from mitmproxy.proxy import mode_specs

from jwsgate.core.answers import TRANSACTION_HEADER
from jwsgate.core.cors import Cors, is_cors_header
from jwsgate.core.decision import Allowed
from jwsgate.core.sources import stripped
from jwsgate.core.upstream import Headers, without

__all__ = ["is_agreed_websocket", "prepare_request", "prepare_response"]

_TRANSACTION_NAME: Final = TRANSACTION_HEADER.encode()
_TRANSACTION_LOWER: Final = _TRANSACTION_NAME.lower()


def prepare_request(flow: http.HTTPFlow, allowed: Allowed, dropped: Set[bytes], transaction_id: str) -> None:
    """Make an allowed request what goes upstream.

    Headers in `dropped` go, as only the gate may send them, and so does the JWS where the policy says so, which can
    change the path; what the policy tells the upstream comes in, and the framing is made plain.
    """
    request = flow.request
    fields = without(request.headers.fields, dropped)
    if allowed.route.upstream is not None and allowed.route.upstream.strip_jws:
        request.data.path, fields = stripped(allowed.route.jws, request.data.path, fields)
    request.headers.fields = (*fields, *allowed.added, (_TRANSACTION_NAME, transaction_id.encode()))
    request.trailers = None
    is_binary = request.is_http2 or request.is_http3
    if isinstance(flow.client_conn.proxy_mode, mode_specs.ReverseMode) and not is_binary:
        # "GET http://other/ HTTP/1.1" would reach the upstream with another host than its Host header's.
        request.authority = ""
    body = request.raw_content
    if is_binary and body is not None and (body or "content-length" in request.headers):
        # Without its length, an HTTP/1 upstream would read the body as a second request that nobody decided;
        # with another one, it would wait, or take the next request for the rest of this one.
        request.headers["content-length"] = str(len(body))


def prepare_response(response: http.Response, cors: Cors | None, asked: Headers, transaction_id: str) -> None:
    """Give a response the transaction ID, and the CORS headers that the request with the headers `asked` is owed."""
    headers = response.data.headers
    kept = tuple(field for field in headers.fields if field[0].lower() != _TRANSACTION_LOWER)
    headers.fields = (*kept, (_TRANSACTION_NAME, transaction_id.encode()))
    if cors is not None:
        kept = tuple(field for field in headers.fields if not is_cors_header(field[0]))
        headers.fields = kept + cors.response_headers(asked)


def is_agreed_websocket(flow: http.HTTPFlow) -> bool:
    """Whether a 101 is the answer to a request for a WebSocket, and mitmproxy will treat it as one."""
    request, response = flow.request.headers, flow.response.headers if flow.response else http.Headers()
    is_agreed = response.get("upgrade", "").lower() == request.get("upgrade", "").lower() == "websocket"
    return is_agreed and request.get("sec-websocket-version") == "13" and bool(ctx.options.websocket)
