"""Why a request was rejected: stable machine codes, used in audit records, metrics and the docs."""

import enum
from typing import Final

__all__ = ["REPORTABLE", "Reason", "Rejection"]


class Reason(enum.StrEnum):
    """One code for each way a request can be rejected.

    The value is part of the public interface: it never changes its meaning.
    """

    ROUTE_UNKNOWN = "route_unknown"
    REQUEST_UNSAFE = "request_unsafe"
    BODY_MALFORMED = "body_malformed"
    HEADERS_TOO_LARGE = "headers_too_large"
    BODY_TOO_LARGE = "body_too_large"
    REQUEST_TIMEOUT = "request_timeout"

    CLIENT_ID_MISSING = "client_id_missing"
    CLIENT_ID_REPEATED = "client_id_repeated"
    CLIENT_ID_UNKNOWN = "client_id_unknown"
    APPLICATION_DISABLED = "application_disabled"

    ROUTE_NOT_ALLOWED = "route_not_allowed"

    CERTIFICATE_MISSING = "certificate_missing"
    CERTIFICATE_UNUSABLE = "certificate_unusable"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"

    CLIENT_CERTIFICATE_MISSING = "client_certificate_missing"
    CLIENT_CERTIFICATE_MISMATCH = "client_certificate_mismatch"

    JWS_MISSING = "jws_missing"
    JWS_REPEATED = "jws_repeated"
    JWS_TOO_LARGE = "jws_too_large"
    JWS_MALFORMED = "jws_malformed"
    HEADER_PARAMETER_UNSUPPORTED = "header_parameter_unsupported"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    SIGNATURE_MISMATCH = "signature_mismatch"
    CLAIMS_MALFORMED = "claims_malformed"
    CLAIM_MISSING = "claim_missing"
    CLAIM_MISMATCH = "claim_mismatch"
    JWS_EXPIRED = "jws_expired"
    JWS_NOT_YET_VALID = "jws_not_yet_valid"
    JWS_REPLAYED = "jws_replayed"
    BINDING_MISMATCH = "binding_mismatch"

    POLICY_UNAVAILABLE = "policy_unavailable"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    INTERNAL_ERROR = "internal_error"


REPORTABLE: Final = frozenset(
    reason
    for reason in Reason
    if reason.startswith(("client_", "application_", "certificate_", "jws_", "claim", "signature_"))
    or reason
    in {
        Reason.ROUTE_NOT_ALLOWED,
        Reason.HEADER_PARAMETER_UNSUPPORTED,
        Reason.ALGORITHM_NOT_ALLOWED,
        Reason.BINDING_MISMATCH,
    }
)
"""What a route in report mode lets pass: all that says who called, and nothing that says what the request is."""


class Rejection(Exception):
    """Raised inside the core to end a decision; `decision.decide` turns it into a `Rejected`.

    `detail` is for the audit log only. It is a fixed text or made of values from the portal and the
    policy, never of octets that the client sent, so that no log can be forged through it.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
