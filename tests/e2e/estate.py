"""The estate that most end-to-end tests share: applications, their keys, a portal export and a policy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import material
from e2e import http_client
from e2e.gates import ROOT
from material import Application

RSA = "479b3df9-380e-4bda-8cc1-92718c88f9cd"
NO_CERTIFICATE = "1ab8edee-1d57-43ff-8e0c-4ae28a386b47"
EMPTY_CERTIFICATE = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e01"
P256 = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e02"
P384 = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e03"
P521 = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e04"
ED25519 = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e05"
DISABLED = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e06"
PENDING = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e07"
EXPIRED_CERTIFICATE = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e08"
FUTURE_CERTIFICATE = "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e09"
ALL_DIGITS = "0123456"
TWO_CREDENTIALS = ("c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e0a", "c1c5b2a0-0d0f-4f6c-9a51-7b7a6d2f0e0b")

KEYS: dict[str, material.PrivateKey] = {
    RSA: material.private_key("rsa"),
    P256: material.private_key("p256"),
    P384: material.private_key("p384"),
    P521: material.private_key("p521"),
    ED25519: material.private_key("ed25519"),
    DISABLED: material.private_key("p256", "disabled"),
    PENDING: material.private_key("p256", "pending"),
    EXPIRED_CERTIFICATE: material.private_key("p256", "expired"),
    FUTURE_CERTIFICATE: material.private_key("p256", "future"),
    ALL_DIGITS: material.private_key("p256", "digits"),
    TWO_CREDENTIALS[0]: material.private_key("ed25519", "two"),
    TWO_CREDENTIALS[1]: material.private_key("ed25519", "two"),
}
"""The private key behind each client ID that has a certificate."""

# The routes of the demo, as the project has them; but here every JWS must have an exp, the validated ones too.
_SIGNVALIDATE, _found, _ = (ROOT / "policies" / "signvalidate.yaml").read_text().partition("  # Everything else")
assert _found
POLICY = _SIGNVALIDATE.replace("../certs/", "").replace("required: []", "required: [exp]")
POLICY += """\
  - name: narrow
    path: "/narrow/**"
    client_id: {header: X-Partner}
    jws: {header: X-Partner-JWS, max_octets: 1000}
    algorithms: [RS256]
    claims: {required: [exp, order], leeway: 30, issuer: tvo, audience: the world}
  - name: everything
    path: "/**"
"""

HTTP_POLICY = """\
routes:
  - {name: socket, path: "/socket/**", websocket: true}
  - {name: small, path: "/small/**", max_body_octets: 1000}
  - {name: medium, path: "/medium/**", max_body_octets: 200000}
  - {name: nothing, path: "/nothing/**", max_body_octets: 0}
  - {name: signed, path: "/signed/**", jws: {detached: true}}
  - {name: once, path: "/once/**", single_use: true}
  - {name: claims, path: "/claims", respond: claims}
  - {name: open, path: "/open/**", open: true}
  - {name: everything, path: "/**"}
"""
"""Routes that differ in how bodies and connections are treated."""


def applications() -> list[Application]:
    """The applications of the shared portal."""

    def good(name: str, *client_ids: str, state: str = "enabled") -> Application:
        return Application(name, client_ids, material.certificate(KEYS[client_ids[0]], name), state)

    return [
        good("rsa", RSA),
        good("p256", P256),
        good("p384", P384),
        good("p521", P521),
        good("ed25519", ED25519),
        good("disabled", DISABLED, state="disabled"),
        good("pending", PENDING, state="pending"),
        good("digits", ALL_DIGITS),
        good("two", *TWO_CREDENTIALS),
        Application("no-certificate", (NO_CERTIFICATE,)),
        Application("empty-certificate", (EMPTY_CERTIFICATE,), ""),
        Application(
            "expired-certificate",
            (EXPIRED_CERTIFICATE,),
            material.certificate(KEYS[EXPIRED_CERTIFICATE], "expired", from_days=-9, to_days=-1),
        ),
        Application(
            "future-certificate",
            (FUTURE_CERTIFICATE,),
            material.certificate(KEYS[FUTURE_CERTIFICATE], "future", from_days=1, to_days=9),
        ),
    ]


@dataclass(frozen=True, slots=True)
class Files:
    """A directory with a portal export, a policy, and the key that the sign route uses."""

    directory: Path
    portal: Path
    policy: Path


def write_files(directory: Path, portal: str | None = None, policy: str = POLICY) -> Files:
    """Write the files of a gate; the shared ones unless told otherwise."""
    directory.mkdir(parents=True, exist_ok=True)
    files = Files(directory, directory / "portal.yaml", directory / "policy.yaml")
    files.portal.write_text(material.portal_yaml(applications()) if portal is None else portal)
    files.policy.write_text(policy)
    key = directory / "demo-client.key"
    key.write_text(material.private_pem(KEYS[RSA]))
    key.chmod(0o600)
    return files


def credentials(client_id: str = RSA, token: str | None = None) -> list[http_client.Header]:
    """The two headers of a good request, the JWS fresh unless one is given."""
    if token is None:
        token = material.jws(KEYS[client_id], material.default_claims(jti=os.urandom(8).hex()))
    return [("X-IBM-Client-Id", client_id), ("jwt", token)]
