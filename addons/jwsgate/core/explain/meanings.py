"""What each reason means and what mends it, for people; docs/reasons.md says the same at length."""

from dataclasses import dataclass
from typing import Final

from jwsgate.core.reasons import Reason

__all__ = ["MEANINGS", "Meaning", "reason_link", "remedy_of"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means, and what its client or operator does about it. Both are whole sentences."""

    meaning: str
    remedy: str


def reason_link(reason: Reason) -> str:
    """Where the docs tell more."""
    return f"docs/reasons.md#{reason}"


MEANINGS: Final[dict[Reason, Meaning]] = {
    Reason.ROUTE_UNKNOWN: Meaning(
        "No route of the policy has this path with this method.",
        "Correct method and path, or add a route to the policy.",
    ),
    Reason.REQUEST_UNSAFE: Meaning(
        "The request could be read in more than one way, so that gate and upstream might differ on what it is.",
        "Send a plain path without dot segments or hidden slashes, each header once, and no control characters.",
    ),
    Reason.BODY_MALFORMED: Meaning(
        "The body posted to a route that signs is not a JSON object.",
        "Post one JSON object, without repeated members.",
    ),
    Reason.HEADERS_TOO_LARGE: Meaning(
        "The request's headers are larger than the gate takes.",
        "Send fewer or shorter headers; look for a JWS or a cookie that grows.",
    ),
    Reason.BODY_TOO_LARGE: Meaning(
        "The request's body is larger than the route takes.",
        "Send a smaller body, or raise max_body_octets of the route.",
    ),
    Reason.REQUEST_TIMEOUT: Meaning(
        "The request did not arrive whole in time.",
        "Send headers and body without long pauses; look at the network in between.",
    ),
    Reason.CLIENT_ID_MISSING: Meaning(
        "The request has no client ID where the policy looks for it.",
        "Send the application's client ID in the place that the policy names.",
    ),
    Reason.CLIENT_ID_REPEATED: Meaning(
        "The request has more than one client ID.",
        "Send it once, in one place; look whether a library and the code both add it.",
    ),
    Reason.CLIENT_ID_UNKNOWN: Meaning(
        "No application of the portal export has this client ID.",
        "Send a client ID of the developer portal as it stands there, or renew the portal export.",
    ),
    Reason.APPLICATION_DISABLED: Meaning(
        "The application is disabled or suspended in the portal.",
        "Enable the application in the developer portal, and renew the portal export.",
    ),
    Reason.ROUTE_NOT_ALLOWED: Meaning(
        "The policy does not let this application call this route.",
        "Call with an application that may, or let the policy's applications name the route.",
    ),
    Reason.CERTIFICATE_MISSING: Meaning(
        "The application has no certificate registered.",
        "Register the application's certificate in the developer portal, and renew the portal export.",
    ),
    Reason.CERTIFICATE_UNUSABLE: Meaning(
        "The registered certificate does not chain to the CA that the policy demands, or is revoked.",
        "Register a certificate of that CA, or renew the CA file and the revocation list.",
    ),
    Reason.CERTIFICATE_EXPIRED: Meaning(
        "The registered certificate has expired.",
        "Make a new certificate, register it in the developer portal, and sign with its key.",
    ),
    Reason.CERTIFICATE_NOT_YET_VALID: Meaning(
        "The registered certificate is not valid yet.",
        "Wait for its time, register one that is valid now, or correct the gate's clock.",
    ),
    Reason.CLIENT_CERTIFICATE_MISSING: Meaning(
        "The route demands a TLS client certificate, and the connection has none.",
        "Connect with the application's certificate and key (curl: --cert and --key).",
    ),
    Reason.CLIENT_CERTIFICATE_MISMATCH: Meaning(
        "The TLS client certificate is none that the application registered and can use now.",
        "Connect with the certificate that is registered in the developer portal.",
    ),
    Reason.JWS_MISSING: Meaning(
        "The request has no JWS where the policy looks for it.",
        "Send the JWS in the place that the policy names.",
    ),
    Reason.JWS_REPEATED: Meaning(
        "The request has more than one JWS.",
        "Send it once, in one place; look whether a library and the code both add it.",
    ),
    Reason.JWS_TOO_LARGE: Meaning(
        "The JWS is longer than the policy allows.",
        "Put fewer claims into it, or raise max_octets of the route.",
    ),
    Reason.JWS_MALFORMED: Meaning(
        "The JWS is not in the strict compact form, or its JOSE header cannot be read.",
        "Send three base64url segments joined by dots, as they were made, with a JOSE header that has an alg.",
    ),
    Reason.HEADER_PARAMETER_UNSUPPORTED: Meaning(
        "The JOSE header has crit, b64, zip or enc, which ask for what the gate does not do.",
        "Make the JWS without that header parameter; b64 needs a route with a detached, unencoded JWS.",
    ),
    Reason.ALGORITHM_NOT_ALLOWED: Meaning(
        "The registered key, the policy or the application does not allow the JWS's algorithm.",
        "Sign with an algorithm of the registered key that the policy allows.",
    ),
    Reason.SIGNATURE_MISMATCH: Meaning(
        "The signature was not made over this JWS by the key of the registered certificate.",
        "Sign with the key of the registered certificate, and send the JWS unchanged.",
    ),
    Reason.CLAIMS_MALFORMED: Meaning(
        "The payload is not a JSON object, or a claim is not of the type that it has to be.",
        "Sign one JSON object, with times as numbers of seconds and names as texts.",
    ),
    Reason.CLAIM_MISSING: Meaning(
        "A claim or header parameter that the policy demands is missing.",
        "Add the claim before signing.",
    ),
    Reason.CLAIM_MISMATCH: Meaning(
        "A claim or header parameter has another value than the policy demands.",
        "Sign the value that the policy names, letter for letter.",
    ),
    Reason.JWS_EXPIRED: Meaning(
        "The time in exp has come or passed.",
        "Make a new JWS for each call or shortly before exp, and keep the client's clock right.",
    ),
    Reason.JWS_NOT_YET_VALID: Meaning(
        "The time in iat or nbf lies ahead.",
        "Keep the client's clock right (NTP); a few seconds can be forgiven with claims.leeway in the policy.",
    ),
    Reason.JWS_REPLAYED: Meaning(
        "The route takes each jti once, and this one was used before, or no more can be remembered.",
        "Make a new JWS with a new jti for each request, retries included.",
    ),
    Reason.BINDING_MISMATCH: Meaning(
        "The JWS was made for another request: method, path, URL or the digest of the body differ.",
        "Make the JWS for the very request that it is sent with, over the body's octets as they are sent.",
    ),
    Reason.POLICY_UNAVAILABLE: Meaning(
        "The gate has no portal export and policy loaded.",
        "Look into the gate's log for the problem in its files; clients can do nothing.",
    ),
    Reason.AUDIT_UNAVAILABLE: Meaning(
        "The decision could not be written to the audit log, and the route demands that it is.",
        "Make room for the audit file; clients can only try again.",
    ),
    Reason.INTERNAL_ERROR: Meaning(
        "Something broke inside the gate, which then refuses.",
        "Look into the gate's log, and report it; clients can only try again.",
    ),
}


def remedy_of(reason: Reason) -> str:
    """What mends it."""
    return MEANINGS[reason].remedy
