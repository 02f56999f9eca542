"""The gate against two other verifiers, on tokens mutated by structure.

Properties, for every input: exactly one decision and no exception; allowed only what the client's own key has
signed, in the very spelling that it was signed in (ECDSA's twin aside); what the gate allows, a verifier made of
bare `cryptography` and joserfc accept as well; a cache of verified JWS changes nothing.

JWSGATE_MUTATOR_SECONDS says how long to go on, 3 when not set. Seeds are fixed, so that a longer run begins
with the shorter one; only the keys are new each time, and a failure prints what is needed without them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
import warnings
from collections import Counter
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws as reference
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

import material
from core_gate import ALGORITHM_KEYS, KINDS, NOW, application, certificate_of, reason_of, request_with, snapshot_of
from jwsgate.core.decision import Allowed, AwaitsBody, Rejected, decide, decide_body
from jwsgate.core.reasons import Reason
from jwsgate.core.verified_cache import VerifiedCache
from mutator import MUTATIONS, RESIGNED, Genuine, genuine, mutated, twin

SECONDS = float(os.environ.get("JWSGATE_MUTATOR_SECONDS", "3"))

CERTIFICATES = {kind: material.certificate(material.private_key(kind)) for kind in KINDS}
SNAPSHOT = snapshot_of(*(application(kind, certificate_of(material.private_key(kind))) for kind in KINDS))
DETACHED = snapshot_of(
    *(application(kind, certificate_of(material.private_key(kind))) for kind in KINDS),
    jws={"header": "jwt", "detached": True},
)


# The second verifiers


def strictly_decoded(segment: str) -> bytes | None:
    """The octets of a segment; None unless it is the one way to write them."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", segment) or len(segment) % 4 == 1:
        return None
    octets = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    return octets if base64.urlsafe_b64encode(octets).decode().rstrip("=") == segment else None


def verifies_with_bare_cryptography(text: bytes, pem: str, body: bytes | None = None) -> bool:
    """RFC 7515 section 5.2 by hand, sharing nothing with the package; with a body, the payload is detached."""
    try:
        parts = text.decode("ascii").split(".")
    except UnicodeDecodeError:
        return False
    if len(parts) != 3:
        return False
    if body is not None:
        if parts[1]:
            return False
        parts[1] = base64.urlsafe_b64encode(body).decode().rstrip("=")
    header, payload, signature = map(strictly_decoded, parts)
    if header is None or payload is None or signature is None:
        return False
    alg = json.loads(header)["alg"]
    signed = f"{parts[0]}.{parts[1]}".encode()
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}.get(alg[2:])
    try:
        match key, alg[:2]:
            case ed25519.Ed25519PublicKey(), "Ed" if alg == "EdDSA":
                key.verify(signature, signed)
            case rsa.RSAPublicKey(), "RS" if digest:
                key.verify(signature, signed, padding.PKCS1v15(), digest)
            case rsa.RSAPublicKey(), "PS" if digest:
                key.verify(signature, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
            case ec.EllipticCurvePublicKey(), "ES" if digest:
                assert alg == {256: "ES256", 384: "ES384", 521: "ES512"}[key.key_size]
                half = (key.key_size + 7) // 8
                assert len(signature) == 2 * half
                r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
                key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
            case _:
                return False
    except (InvalidSignature, AssertionError):
        return False
    return True


def _joserfc_key(kind: material.KeyKind) -> RSAKey | ECKey | OKPKey:
    public = x509.load_pem_x509_certificate(CERTIFICATES[kind].encode()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if kind == "rsa":
        return RSAKey.import_key(pem)
    return OKPKey.import_key(pem) if kind == "ed25519" else ECKey.import_key(pem)


JOSERFC_KEYS = {kind: _joserfc_key(kind) for kind in KINDS}


def payload_by_joserfc(text: bytes, kind: material.KeyKind) -> bytes | None:
    """What joserfc reads out of a token; None when it does not accept it."""
    registry = JWSRegistry(algorithms=list(ALGORITHM_KEYS), strict_check_header=False)
    registry.max_header_length = 100_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "EdDSA" has another name since RFC 9864
        try:
            return bytes(reference.deserialize_compact(text, JOSERFC_KEYS[kind], registry=registry).payload)
        except (JoseError, ValueError):
            return None


def test_second_verifiers_can_say_no() -> None:
    """Neither accepts an altered token, so that their yes means something."""
    for algorithm, kind in ALGORITHM_KEYS.items():
        token = genuine(Random(1), algorithm)
        altered = material.altered(token.text, token.text.rindex(".") - 3).encode()
        assert verifies_with_bare_cryptography(token.text.encode(), CERTIFICATES[kind])
        assert payload_by_joserfc(token.text.encode(), kind) == token.payload
        assert not verifies_with_bare_cryptography(altered, CERTIFICATES[kind])
        assert payload_by_joserfc(altered, kind) is None


# The properties


class Run:
    """What was signed so far, and what became of it."""

    def __init__(self) -> None:
        self.signed: dict[str, set[bytes]] = {kind: set() for kind in KINDS}
        self.cache: VerifiedCache[Any, Any] = VerifiedCache(max_entries=50)
        self.decisions: Counter[tuple[str, str]] = Counter()

    def enter(self, token: Genuine, text: str) -> None:
        """Remember a token as signed by its client's key, and its twin with it."""
        kind = ALGORITHM_KEYS[token.algorithm]
        self.signed[kind].add(text.encode())
        other = twin(Genuine(token.algorithm, token.key, token.header, token.payload, text))
        if other is not None:
            self.signed[kind].add(other.encode())

    def check(self, name: str, text: bytes, client: material.KeyKind) -> Allowed | Rejected:
        """Decide on one input and hold every property against the outcome."""
        told = f"{name}: client {client}, token {text!r}, certificate {CERTIFICATES[client]!r}"
        decision = decide(SNAPSHOT, request_with(text, client), NOW)
        assert isinstance(decision, Allowed | Rejected), told
        reason = reason_of(decision)
        assert reason is not Reason.INTERNAL_ERROR, told
        again = decide(SNAPSHOT, request_with(text, client), NOW, self.cache)
        assert reason is reason_of(again), f"with a cache: {told}"
        self.decisions[name, "allowed" if reason is None else "rejected"] += 1
        if isinstance(decision, Allowed):
            sent = text.strip(b" \t")  # RFC 9110 section 5.5: white space around a field value is no part of it
            assert sent in self.signed[client], f"another spelling: {told}"
            assert verifies_with_bare_cryptography(sent, CERTIFICATES[client]), f"bare cryptography says no: {told}"
            assert payload_by_joserfc(sent, client) == decision.payload, f"joserfc says otherwise: {told}"
        return decision


def resigned_text(run: Run, random: Random, token: Genuine, names: list[str]) -> bytes:
    """A mutated token, entered as signed when the right key signed it."""
    signing = [name for name in names if name in RESIGNED][-1:]
    if signing:
        text = MUTATIONS[signing[0]](random, token)
        assert isinstance(text, str)
        run.enter(token, text)
        token = Genuine(token.algorithm, token.key, token.header, token.payload, text)
    return mutated(random, token, [name for name in names if name not in RESIGNED])


def one_round(run: Run, seed: str, algorithm: str, names: list[str]) -> None:
    """A genuine token, which must be let in, and a mutation of it, which is held against the properties."""
    random = Random(seed)
    token = genuine(random, algorithm)
    run.enter(token, token.text)
    kind = ALGORITHM_KEYS[algorithm]
    assert isinstance(run.check("genuine", token.text.encode(), kind), Allowed)
    text = resigned_text(run, random, token, names)
    label = "+".join(names) if len(names) == 1 else "several"
    decision = run.check(label, text, kind)
    if names[0].startswith("harmless") and len(names) == 1:
        assert isinstance(decision, Allowed), text
    stranger = random.choice([other for other in KINDS if other != kind])
    assert isinstance(run.check("under another client", text, stranger), Rejected)


@pytest.mark.timeout(SECONDS + 120)
def test_mutated_tokens() -> None:
    """Each mutation under each algorithm, and then mixtures of them until the time is over."""
    run = Run()
    for name in MUTATIONS:
        for algorithm in ALGORITHM_KEYS:
            one_round(run, f"{name} {algorithm}", algorithm, [name])
    end = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < end:
        number += 1
        random = Random(number)
        names = random.sample(list(MUTATIONS), random.choice([1, 1, 2, 3]))
        one_round(run, f"round {number}", random.choice(list(ALGORITHM_KEYS)), names)
    assert set(MUTATIONS) <= {name for name, _ in run.decisions}
    assert run.decisions["genuine", "allowed"] == 10 * len(MUTATIONS) + number
    assert run.decisions["genuine", "rejected"] == 0
    assert run.decisions["under another client", "allowed"] == 0
    assert run.decisions["signature_twin", "allowed"] >= 3
    assert min(count for (name, _), count in run.decisions.items() if name in MUTATIONS) > 0
    print(f"{sum(run.decisions.values())} decisions on {number} random rounds")
    for (name, outcome), count in sorted(run.decisions.items()):
        print(f"{count:8} {outcome:9} {name}")


def test_mutations_that_sign_nothing_are_never_let_in() -> None:
    """Those that change a token without the key are all rejected, the twin of ECDSA aside."""
    run = Run()
    for name in set(MUTATIONS) - RESIGNED - {"signature_twin"}:
        for algorithm in ("RS256", "ES256", "EdDSA"):
            for seed in range(5):
                random = Random(f"{name} {algorithm} {seed}")
                token = genuine(random, algorithm)
                run.enter(token, token.text)
                text = mutated(random, token, [name])
                if text.strip(b" \t") != token.text.encode():
                    assert isinstance(run.check(name, text, ALGORITHM_KEYS[algorithm]), Rejected), (name, text)


# Detached content


def test_mutated_detached_tokens() -> None:
    """The same properties where the body is what was signed (RFC 7515 appendix F)."""
    allowed = rejected = 0
    for number in range(400):
        random = Random(f"detached {number}")
        algorithm = random.choice(list(ALGORITHM_KEYS))
        kind = ALGORITHM_KEYS[algorithm]
        token = genuine(random, algorithm)
        body = random.choice([b"", token.payload, random.randbytes(40)])
        header, _, signature = material.jws(token.key, header=token.header, payload=body, algorithm=algorithm).split(
            "."
        )
        good = f"{header}..{signature}"
        other = twin(Genuine(algorithm, token.key, token.header, body, good))
        sent_body = random.choice([body, body, body + b" ", body[:-1], b"", material.b64url(body).encode()])
        sent = good.encode()
        if random.random() < 0.6:
            name = random.choice(sorted(set(MUTATIONS) - RESIGNED))
            changed = MUTATIONS[name](random, Genuine(algorithm, token.key, token.header, body, good))
            sent = changed if isinstance(changed, bytes) else changed.encode()
        decision = decide(DETACHED, request_with(sent, kind), NOW)
        if isinstance(decision, AwaitsBody):
            decision = decide_body(decision, sent_body)
        told = f"{number}: {sent!r} {sent_body!r}"
        assert isinstance(decision, Allowed | Rejected), told
        assert reason_of(decision) is not Reason.INTERNAL_ERROR, told
        stripped = sent.strip(b" \t").decode("latin-1")
        expected = stripped in {good, other} and sent_body == body
        assert isinstance(decision, Allowed) is expected, told
        if expected:
            assert verifies_with_bare_cryptography(stripped.encode(), CERTIFICATES[kind], body), told
        allowed, rejected = allowed + expected, rejected + (not expected)
    assert allowed > 50
    assert rejected > 200
