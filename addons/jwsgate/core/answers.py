"""What a rejected client is told: one table from reason to status and fixed text.

Profile `api-connect`: the body of API Connect v5, inner spaces included. Profile `rfc`: the status and challenge of
RFC 6750 and problem details (RFC 9457). Nothing of the request is echoed by either.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, Literal

from .reasons import REPORTABLE, Reason
from .upstream import TRANSACTION_HEADER

__all__ = [
    "ANSWERS",
    "API_CONNECT",
    "BACKSIDE",
    "LAST_RESORT_BODY",
    "TRANSACTION_HEADER",
    "Answer",
    "Override",
    "Profile",
    "Reply",
    "reply_table",
]

type Profile = Literal["api-connect", "rfc"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, `httpMessage` and `moreInformation` of one reason."""

    status: int
    message: str
    information: str

    @property
    def body(self) -> bytes:
        """The JSON body, exactly as API Connect v5 spaces it."""
        message, information = json.dumps(self.message), json.dumps(self.information)
        return (f'{{ "httpCode":"{self.status}", "httpMessage":{message}, "moreInformation":{information} }}').encode(
            "ascii"
        )


@dataclass(frozen=True, slots=True)
class Override:
    """What a policy says of one reason; None leaves the profile's own."""

    status: int | None = None
    message: str | None = None
    information: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one reason, ready to be sent."""

    status: int
    body: bytes
    content_type: str
    challenge: str | None = None
    """The value of `WWW-Authenticate` (RFC 6750 section 3)."""


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
    Reason.ROUTE_NOT_ALLOWED: Answer(403, "Forbidden", "Not registered to plan"),
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


# RFC 6750 section 3.1: no error code where the request brings nothing to authenticate with.
_MISSING: Final = frozenset({Reason.CLIENT_ID_MISSING, Reason.JWS_MISSING, Reason.CLIENT_CERTIFICATE_MISSING})
_REPEATED: Final = frozenset({Reason.CLIENT_ID_REPEATED, Reason.JWS_REPEATED})
_FORBIDDEN: Final = frozenset(
    {
        Reason.APPLICATION_DISABLED,
        Reason.ROUTE_NOT_ALLOWED,
        Reason.CERTIFICATE_MISSING,
        Reason.CERTIFICATE_UNUSABLE,
        Reason.CERTIFICATE_EXPIRED,
        Reason.CERTIFICATE_NOT_YET_VALID,
    }
)
"""Nothing that the client could send instead would help."""


def _rfc_status(reason: Reason) -> int:
    if reason in _REPEATED:
        return 400
    if reason in _FORBIDDEN:
        return 403
    if reason in REPORTABLE:
        return 401
    return 503 if reason in {Reason.POLICY_UNAVAILABLE, Reason.AUDIT_UNAVAILABLE} else ANSWERS[reason].status


def _challenge(reason: Reason) -> str:
    return "Bearer" if reason in _MISSING else 'Bearer error="invalid_token"'


def _reply(reason: Reason, profile: Profile, override: Override) -> Reply:
    usual = ANSWERS[reason]
    status = override.status or (usual.status if profile == "api-connect" else _rfc_status(reason))
    information = usual.information if override.information is None else override.information
    if profile == "api-connect":
        # Its words for another status are its own; where the status alone was changed they would contradict it.
        message = usual.message if status == usual.status else HTTPStatus(status).phrase
        message = message if override.message is None else override.message
        return Reply(status, replace(usual, status=status, message=message, information=information).body, _JSON)
    title = HTTPStatus(status).phrase if override.message is None else override.message
    problem = {"type": "about:blank", "title": title, "status": status, "detail": information}
    return Reply(status, json.dumps(problem).encode("ascii"), _PROBLEM, _challenge(reason) if status == 401 else None)


def reply_table(profile: Profile, overrides: Mapping[Reason, Override]) -> Mapping[Reason, Reply]:
    """The answer to every reason."""
    return {reason: _reply(reason, profile, overrides.get(reason, Override())) for reason in Reason}


_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"

API_CONNECT: Final = reply_table("api-connect", {})
"""What is answered unless a policy says otherwise."""
