"""Envoy's `ext_authz` over gRPC: `CheckRequest` to a question, and what is decided to `CheckResponse`.

The messages are Envoy's own, from xds-protos (`jwsgate[grpc]`). Rule 1. A message without octets would be a yes to
Envoy; none is ever made. Rule 2. What Envoy has to mend before it can tell it is not looked at: a body counts only as
octets (`pack_as_bytes`).
"""

from collections.abc import Collection
from typing import Any, Final

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from jwsgate.core.answers import TRANSACTION_HEADER, Reply
from jwsgate.core.upstream import Headers, fields_of

from .dialects import Dialect, Question

__all__ = ["ENVOY_GRPC", "read_question"]

_TRANSACTION: Final = TRANSACTION_HEADER.encode("ascii")
_OVERWRITE: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_PERMISSION_DENIED: Final = 7  # of google.rpc.Code


def read_question(octets: bytes, peer: str) -> Question:
    """The question in a `CheckRequest`; `peer` is Envoy's address.

    Raises:
        ValueError: when it is none, or holds what is no UTF-8 where that belongs.
    """
    try:
        attributes = CheckRequest.FromString(octets).attributes
    except Exception as error:  # protobuf's DecodeError is a plain Exception
        raise ValueError("no CheckRequest") from error
    http = attributes.request.http
    # With encode_raw_headers the headers are there as they came; else Envoy joins what is repeated, with commas.
    raw = http.header_map.headers
    told = [(each.key, each.raw_value) for each in raw] or [(k, v.encode()) for k, v in http.headers.items()]
    headers = []
    for name, value in told:
        if name[:1] != ":":
            headers.append((name.encode(), value))
        elif name == ":authority":
            headers.append((b"host", value))
    client = attributes.source.address.socket_address.address
    return Question(http.method, http.path.encode(), tuple(headers), http.raw_body, client or peer)


def _set(headers: Any, name: bytes, value: bytes) -> None:
    option = headers.add(append_action=_OVERWRITE)
    option.header.key = name.decode("ascii")
    if value.isascii():
        option.header.value = value.decode("ascii")
    else:
        option.header.raw_value = value


def _permission(transaction_id: bytes, lines: bytes, removed: Collection[bytes]) -> bytes:
    response = CheckResponse()
    answer = response.ok_response
    _set(answer.headers, _TRANSACTION, transaction_id)
    _set(answer.response_headers_to_add, _TRANSACTION, transaction_id)
    for name, value in fields_of(lines):
        _set(answer.headers, name, value)
    answer.headers_to_remove.extend([name.decode("ascii") for name in sorted(removed)])
    return bytes(response.SerializeToString())


def _denial(reply: Reply, headers: Headers, _is_head: bool) -> bytes:
    response = CheckResponse()
    response.status.code = _PERMISSION_DENIED
    answer = response.denied_response
    answer.status.code = reply.status
    answer.body = reply.body.decode()
    content_type = reply.content_type.encode("ascii")
    for name, value in (*headers, (b"content-type", content_type), (b"cache-control", b"no-store")):
        _set(answer.headers, name, value)
    return bytes(response.SerializeToString())


ENVOY_GRPC: Final = Dialect("envoy-grpc", _denial, permission=_permission, sets_all=True)
"""Apart from the other dialects, as only it needs protobuf."""
