"""What a rejected client is told: one table from reason to status and fixed text.

Profile `api-connect`: the body of API Connect v5, inner spaces included. Nothing of the request is echoed.
"""

from dataclasses import dataclass
from typing import Final

from .reasons import Reason
from .upstream import TRANSACTION_HEADER

__all__ = ["ANSWERS", "BACKSIDE", "LAST_RESORT_BODY", "TRANSACTION_HEADER", "Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, `httpMessage` and `moreInformation` of one reason."""

    status: int
    message: str
    information: str

    @property
    def body(self) -> bytes:
        """The JSON body, exactly as API Connect v5 spaces it; every text of the table is plain ASCII."""
        return (
            f'{{ "httpCode":"{self.status}", "httpMessage":"{self.message}", "moreInformation":"{self.information}" }}'
        ).encode("ascii")


def _unauthorized() -> Answer:
    return Answer(401, "Unauthorized", "Invalid client id or secret.")


def _internal(information: str) -> Answer:
    return Answer(500, "Internal Error", information)


ANSWERS: Final[dict[Reason, Answer]] = {
    Reason.ROUTE_UNKNOWN: Answer(404, "Not Found", "No resources match requested URI"),
    Reason.REQUEST_UNSAFE: Answer(400, "Bad Request", "request is ambiguous or malformed"),
    Reason.BODY_MALFORMED: Answer(400, "Bad Request", "body is not a JSON object"),
    Reason.HEADERS_TOO_LARGE: Answer(431, "Request Header Fields Too Large", "request headers are too large"),
    Reason.BODY_TOO_LARGE: Answer(413, "Payload Too Large", "request body is too large"),
    Reason.REQUEST_TIMEOUT: Answer(408, "Request Timeout", "request did not arrive in time"),
    Reason.CLIENT_ID_MISSING: _unauthorized(),
    Reason.CLIENT_ID_REPEATED: _unauthorized(),
    Reason.CLIENT_ID_UNKNOWN: _unauthorized(),
    Reason.APPLICATION_DISABLED: _unauthorized(),
    Reason.CERTIFICATE_MISSING: _internal("application doesn't have a client cert registered"),
    Reason.CERTIFICATE_UNUSABLE: _internal("application's client cert cannot be used"),
    Reason.CERTIFICATE_EXPIRED: _internal("application's client cert has expired"),
    Reason.CERTIFICATE_NOT_YET_VALID: _internal("application's client cert is not yet valid"),
    Reason.CLIENT_CERTIFICATE_MISSING: Answer(401, "Unauthorized", "TLS client certificate is missing"),
    Reason.CLIENT_CERTIFICATE_MISMATCH: Answer(401, "Unauthorized", "TLS client certificate isn't the application's"),
    Reason.JWS_MISSING: _internal("JWS is missing"),
    Reason.JWS_REPEATED: _internal("JWS is repeated"),
    Reason.JWS_TOO_LARGE: _internal("JWS is too large"),
    Reason.JWS_MALFORMED: _internal("JWS is malformed"),
    Reason.HEADER_PARAMETER_UNSUPPORTED: _internal("JWS has an unsupported header parameter"),
    Reason.ALGORITHM_NOT_ALLOWED: _internal("JWS algorithm is not allowed"),
    Reason.SIGNATURE_MISMATCH: _internal("JWS signature doesn't match the application's client cert"),
    Reason.CLAIMS_MALFORMED: _internal("JWS claims are malformed"),
    Reason.CLAIM_MISSING: _internal("JWS lacks a required claim"),
    Reason.CLAIM_MISMATCH: _internal("JWS claim doesn't match"),
    Reason.JWS_EXPIRED: _internal("JWS has expired"),
    Reason.JWS_NOT_YET_VALID: _internal("JWS is not yet valid"),
    Reason.JWS_REPLAYED: _internal("JWS has been used before"),
    Reason.BINDING_MISMATCH: _internal("JWS doesn't belong to this request"),
    Reason.POLICY_UNAVAILABLE: _internal("policy is not available"),
    Reason.AUDIT_UNAVAILABLE: _internal("the decision could not be recorded"),
    Reason.INTERNAL_ERROR: _internal("the gate could not decide"),
}

BACKSIDE: Final = Answer(500, "Internal Server Error", "Failed to establish a backside connection")
"""What a client is told when the upstream does not answer: API Connect's own words, without any address."""

LAST_RESORT_BODY: Final = ANSWERS[Reason.INTERNAL_ERROR].body
"""Ready-made, so that denying needs no code that could itself fail."""
