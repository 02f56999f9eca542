"""What a rejected client must be told, written down here once more and not taken from the package."""

from __future__ import annotations

import re
from typing import Final

from e2e.http_client import Response

_UNAUTHORIZED: Final = (401, "Unauthorized", "Invalid client id or secret.")

ANSWERS: Final[dict[str, tuple[int, str, str]]] = {
    "route_unknown": (404, "Not Found", "No resources match requested URI"),
    "request_unsafe": (400, "Bad Request", "request is ambiguous or malformed"),
    "headers_too_large": (431, "Request Header Fields Too Large", "request headers are too large"),
    "body_too_large": (413, "Payload Too Large", "request body is too large"),
    "request_timeout": (408, "Request Timeout", "request did not arrive in time"),
    "backside": (500, "Internal Server Error", "Failed to establish a backside connection"),
    "body_malformed": (400, "Bad Request", "body is not a JSON object"),
    "client_id_missing": _UNAUTHORIZED,
    "client_id_repeated": _UNAUTHORIZED,
    "client_id_unknown": _UNAUTHORIZED,
    "application_disabled": _UNAUTHORIZED,
    "route_not_allowed": (403, "Forbidden", "Not registered to plan"),
    "certificate_missing": (500, "Internal Error", "application doesn't have a client cert registered"),
    "certificate_unusable": (500, "Internal Error", "application's client cert cannot be used"),
    "certificate_expired": (500, "Internal Error", "application's client cert has expired"),
    "certificate_not_yet_valid": (500, "Internal Error", "application's client cert is not yet valid"),
    "client_certificate_missing": (401, "Unauthorized", "TLS client certificate is missing"),
    "client_certificate_mismatch": (401, "Unauthorized", "TLS client certificate isn't the application's"),
    "jws_missing": (500, "Internal Error", "JWS is missing"),
    "jws_repeated": (500, "Internal Error", "JWS is repeated"),
    "jws_too_large": (500, "Internal Error", "JWS is too large"),
    "jws_malformed": (500, "Internal Error", "JWS is malformed"),
    "header_parameter_unsupported": (500, "Internal Error", "JWS has an unsupported header parameter"),
    "algorithm_not_allowed": (500, "Internal Error", "JWS algorithm is not allowed"),
    "signature_mismatch": (
        500,
        "Internal Error",
        "JWS signature doesn't match the application's client cert",
    ),
    "claims_malformed": (500, "Internal Error", "JWS claims are malformed"),
    "claim_missing": (500, "Internal Error", "JWS lacks a required claim"),
    "claim_mismatch": (500, "Internal Error", "JWS claim doesn't match"),
    "jws_expired": (500, "Internal Error", "JWS has expired"),
    "jws_replayed": (500, "Internal Error", "JWS has been used before"),
    "binding_mismatch": (500, "Internal Error", "JWS doesn't belong to this request"),
    "jws_not_yet_valid": (500, "Internal Error", "JWS is not yet valid"),
    "policy_unavailable": (500, "Internal Error", "policy is not available"),
    "internal_error": (500, "Internal Error", "the gate could not decide"),
}
TRANSACTION_ID: Final = re.compile(r"[0-9a-f]{24}")


def body_of(reason: str) -> bytes:
    """The body of a rejection, octet for octet."""
    status, message, information = ANSWERS[reason]
    return (f'{{ "httpCode":"{status}", "httpMessage":"{message}", "moreInformation":"{information}" }}').encode()


def assert_rejected(response: Response, *reasons: str, head: bool = False) -> None:
    """The response is the rejection for one of the reasons, whole and exact."""
    allowed = [(ANSWERS[reason][0], b"" if head else body_of(reason)) for reason in reasons]
    assert (response.status, response.body) in allowed
    assert response.value("content-type") == "application/json"
    assert TRANSACTION_ID.fullmatch(response.value("X-Global-Transaction-ID"))
