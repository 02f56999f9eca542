"""The core of the gate without any proxy, file or clock, for the tests: a snapshot, requests, decisions."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import material
from jwsgate.core.certificates import RegisteredCertificate, read_certificate
from jwsgate.core.decision import Allowed, Decision, Rejected, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.jws import CompactJws, parse_compact, verify
from jwsgate.core.packed import Names
from jwsgate.core.policy import Route, Router
from jwsgate.core.portal import Application, ClientId, Portal
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.files.documents import read_document
from jwsgate.files.policy_file import build_routes
from jwsgate.files.problems import Unfit

__all__ = [
    "ALGORITHM_KEYS",
    "KINDS",
    "NOW",
    "NoFiles",
    "application",
    "certificate_of",
    "decision_on",
    "good_claims",
    "reason_of",
    "reason_of_compact",
    "reason_of_verify",
    "request_with",
    "router",
    "signed",
    "snapshot_of",
]

NOW = int(time.time())
"""The time of all decisions that do not say another, and of all claims; it stands still during a test run."""

KINDS: tuple[material.KeyKind, ...] = ("rsa", "p256", "p384", "p521", "ed25519")

ALGORITHM_KEYS: dict[str, material.KeyKind] = {
    "RS256": "rsa",
    "RS384": "rsa",
    "RS512": "rsa",
    "PS256": "rsa",
    "PS384": "rsa",
    "PS512": "rsa",
    "ES256": "p256",
    "ES384": "p384",
    "ES512": "p521",
    "EdDSA": "ed25519",
}
"""The ten algorithms, spelled out here so that a row lost in the package's own table is noticed."""


def good_claims(**claims: Any) -> dict[str, Any]:
    """Claims that are good at NOW, with whatever is to be added or replaced."""
    return {"iss": "tvo", "aud": "the world", "exp": NOW + 600, "iat": NOW, **claims}


def signed(
    key: material.PrivateKey | bytes,
    claims: Mapping[str, Any] | None = None,
    *,
    header: Mapping[str, Any] | bytes | None = None,
    payload: bytes | None = None,
    algorithm: str | None = None,
) -> str:
    """A compact JWS as by `material.jws`, whose claims are good at NOW unless they are told."""
    return material.jws(
        key, good_claims() if claims is None else claims, header=header, payload=payload, algorithm=algorithm
    )


class NoFiles:
    """What a policy refers to, when it refers to no files: to name one is a problem of the policy."""

    def _none(self, name: str) -> NoReturn:
        raise Unfit(f"names {name!r}, and there are no files", "name none")

    read_key = read_ca = read_crl = _none

    def trust(self, *_: object) -> NoReturn:
        """Never reached, as no CA can be read."""
        raise AssertionError

    def applications(self) -> Iterable[Names]:
        """None."""
        return ()

    def policy_of(self, route: Route) -> str:
        """There are no earlier ones."""
        return ""


@functools.cache
def certificate_of(key: material.PrivateKey) -> RegisteredCertificate:
    """The certificate of `material` for a key, as the package reads it."""
    return read_certificate(material.certificate(key))


def application(client_id: str, *certificates: RegisteredCertificate, enabled: bool = True) -> Application:
    """One application with one client ID."""
    return Application(
        name=client_id,
        title=client_id,
        enabled=enabled,
        client_ids=(ClientId(client_id),),
        certificates=certificates,
    )


def router(**demands: Any) -> Router:
    """One route, GET /protected, with demands as a policy file writes them."""
    policy = {"routes": [{"path": "/protected", "methods": ["GET"], **demands}]}
    made = Router()
    problems = build_routes(read_document("policy.json", json.dumps(policy).encode()), made, NoFiles())
    assert problems == []
    return made


def snapshot_of(*applications: Application, **demands: Any) -> Snapshot:
    """A snapshot with these applications and the one route."""
    return Snapshot(Portal(applications), router(**demands), "revision")


def request_with(token: str | bytes | None, client_id: str | bytes = "client") -> RequestFacts:
    """A request that carries a client ID and, unless None, a JWS."""
    octets = client_id.encode() if isinstance(client_id, str) else client_id
    headers = [(b"Host", b"api.example.com"), (b"X-IBM-Client-Id", octets)]
    if token is not None:
        headers.append((b"jwt", token.encode() if isinstance(token, str) else token))
    return RequestFacts(method="GET", target=b"/protected", headers=tuple(headers))


def decision_on(
    token: str | bytes | None,
    key: material.PrivateKey | RegisteredCertificate,
    now: float = NOW,
    **demands: Any,
) -> Decision:
    """The decision on a token sent by the one client, who registered this key."""
    registered = certificate_of(key) if isinstance(key, _PRIVATE_KEYS) else key
    return decide(snapshot_of(application("client", registered), **demands), request_with(token), now)


_PRIVATE_KEYS = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)


def reason_of(decision: Decision) -> Reason | None:
    """Why a decision rejects; None when it allows."""
    if isinstance(decision, Allowed):
        return None
    assert isinstance(decision, Rejected)
    return decision.reason


def _reason(call: Callable[[], object]) -> Reason:
    with pytest.raises(Rejection) as caught:
        call()
    return caught.value.reason


def reason_of_compact(token: str | bytes) -> Reason:
    """Why `parse_compact` refuses a token, without any key."""
    return _reason(lambda: parse_compact(token.encode() if isinstance(token, str) else token))


def reason_of_verify(jws: CompactJws, certificate: RegisteredCertificate) -> Reason:
    """Why `verify` refuses a JWS."""
    return _reason(lambda: verify(jws, certificate))
