"""The gate against vectors that others published: the JOSE RFCs, NIST, the IETF, djb, Project Wycheproof.

Each vector's public key is put into a certificate, and the vector verified under it. The counts are asserted, so
that no family can pass by being empty; docs/conformance.md tells them.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from joserfc import jws as reference
from joserfc.jwk import ECKey, OKPKey, RSAKey

import material
from certificates_by_defect import certificate_around, spki_of_ed25519
from core_gate import KINDS, application, certificate_of, decision_on, reason_of, request_with, snapshot_of
from jwsgate.core.certificates import CertificateError, RegisteredCertificate, read_certificate
from jwsgate.core.decision import Allowed, decide
from jwsgate.core.jws import CompactJws, JoseHeader, attach, parse_compact, verify
from jwsgate.core.reasons import Reason, Rejection
from raw_vectors import FAMILIES, NOT_JWS, WYCHEPROOF, Vector, run_files, vectors_of

RFC_VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "jose_rfcs.json").read_text(encoding="ascii")
)["vectors"]
VERIFIED = [vector for vector in RFC_VECTORS if vector["expect"] == "verified"]
REFUSED = [vector for vector in RFC_VECTORS if vector["expect"] == "refused"]


# The JOSE RFCs


def number(text: str) -> int:
    """A Base64urlUInt (RFC 7518 section 2)."""
    return int.from_bytes(material.unb64url(text))


def certificate_of_jwk(jwk: dict[str, str]) -> RegisteredCertificate:
    """A certificate around the public key of an RFC, put together without any JOSE library."""
    match jwk["kty"]:
        case "RSA":
            key: Any = rsa.RSAPublicNumbers(number(jwk["e"]), number(jwk["n"])).public_key()
        case "EC":
            curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[jwk["crv"]]
            key = ec.EllipticCurvePublicNumbers(number(jwk["x"]), number(jwk["y"]), curve).public_key()
        case _:
            return read_certificate(certificate_around(spki_of_ed25519(material.unb64url(jwk["x"]))))
    return read_certificate(certificate_around(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))


def test_counts_of_the_jose_vectors() -> None:
    """Eleven examples are under keys that a certificate can hold, thirty-three are not or have another form."""
    assert len(VERIFIED) == 11
    assert len(REFUSED) == 33
    assert Counter(vector["alg"] for vector in VERIFIED) == {"RS256": 4, "ES256": 3, "ES512": 2, "PS384": 1, "EdDSA": 1}
    assert len({vector["id"] for vector in RFC_VECTORS}) == 44
    assert all(not {"d", "p", "q", "dp", "dq", "qi", "k"} & vector["key"].keys() for vector in VERIFIED)


@pytest.mark.parametrize("vector", VERIFIED, ids=[vector["id"] for vector in VERIFIED])
def test_jose_example_verifies(vector: dict[str, Any]) -> None:
    """The RFC's own token under a certificate of the RFC's own key; one altered octet and it fails."""
    certificate = certificate_of_jwk(vector["key"])
    text = vector["jws"].encode()
    verify(parse_compact(text), certificate)
    assert parse_compact(text).header.alg == vector["alg"]
    for position in (0, text.index(b".") + 1, text.rindex(b".") + 1):
        with pytest.raises(Rejection):
            verify(parse_compact(material.altered(vector["jws"], position).encode()), certificate)


@pytest.mark.parametrize("vector", VERIFIED, ids=[vector["id"] for vector in VERIFIED])
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_jose_example_is_transcribed_right(vector: dict[str, Any]) -> None:
    """joserfc reads the same payload out of it."""
    kinds: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    key = kinds[vector["key"]["kty"]].import_key(vector["key"])
    read = reference.deserialize_compact(vector["jws"], key, algorithms=[vector["alg"]])
    assert read.payload == parse_compact(vector["jws"].encode()).payload


@pytest.mark.parametrize("vector", VERIFIED, ids=[vector["id"] for vector in VERIFIED])
def test_jose_example_verifies_detached(vector: dict[str, Any]) -> None:
    """The same with its payload detached (RFC 7515 appendix F)."""
    header, payload, signature = vector["jws"].split(".")
    detached = parse_compact(f"{header}..{signature}".encode(), detached=True)
    verify(attach(detached, material.unb64url(payload)), certificate_of_jwk(vector["key"]))
    with pytest.raises(Rejection):
        verify(attach(detached, material.unb64url(payload) + b" "), certificate_of_jwk(vector["key"]))


@pytest.mark.parametrize("vector", VERIFIED, ids=[vector["id"] for vector in VERIFIED])
def test_jose_example_fails_under_other_certificates(vector: dict[str, Any]) -> None:
    """Under a certificate of any other key it is nothing."""
    for kind in KINDS:
        with pytest.raises(Rejection):
            verify(parse_compact(vector["jws"].encode()), certificate_of(material.private_key(kind)))


@pytest.mark.parametrize("vector", REFUSED, ids=[vector["id"] for vector in REFUSED])
def test_jose_example_is_refused(vector: dict[str, Any]) -> None:
    """What is no compact JWS under a certificate's key is refused for the reason that the data file tells."""
    assert vector["why"]
    for kind in KINDS:
        assert vector["reason"] == reason_of(decision_on(vector["jws"], material.private_key(kind)))


@pytest.mark.parametrize("identity", ["rfc7515-a2", "rfc7515-a3", "rfc7515-a6-1", "rfc7515-a6-2", "rfc7515-a7-1"])
def test_jose_example_passes_the_whole_gate_in_its_time(identity: str) -> None:
    """The JWT of RFC 7515 appendix A passes until the second before its exp of 2011."""
    vector = next(vector for vector in VERIFIED if vector["id"] == identity)
    certificate = certificate_of_jwk(vector["key"])
    then = dataclasses.replace(certificate, not_before=1_300_000_000, not_after=1_400_000_000)
    snapshot = snapshot_of(application("client", then))
    allowed = decide(snapshot, request_with(vector["jws"]), 1_300_819_379)
    assert isinstance(allowed, Allowed)
    assert allowed.claims == {"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": True}
    assert reason_of(decide(snapshot, request_with(vector["jws"]), 1_300_819_380)) is Reason.JWS_EXPIRED


# Raw signatures


@functools.cache
def certificate_or_refusal(public_key: bytes) -> RegisteredCertificate | str:
    """The certificate around a vector's key, or why the gate does not take the key."""
    try:
        return read_certificate(certificate_around(public_key))
    except CertificateError as error:
        return str(error)


def assert_key_is_weak(public_key: bytes, message: str) -> None:
    """A refused key is one that our stricter rules name: RSA under 2048 bits, or with an exponent under 65537."""
    key = load_der_public_key(public_key)
    assert isinstance(key, rsa.RSAPublicKey)
    exponent = key.public_numbers().e
    if key.key_size < 2048:
        assert f"RSA key of {key.key_size} bits" in message
    else:
        assert exponent < 65537
        assert f"exponent {exponent}" in message


SMALL_ORDER = {
    bytes.fromhex(point)
    for point in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
}
"""The eight points of Ed25519 that have a small order; as public keys they verify what anybody writes."""


def is_valid_under_jws_parameters(vector: Vector) -> bool:
    """Wycheproof's one test whose signature is invalid only because its group's salt is 0, and not 32 as in PS256."""
    return bool(re.fullmatch(r"rsa_pss_2048_sha256_mgf1_0(_params)?_test\.json \d+ s_len changed to 32", vector.name))


def outcome(vector: Vector) -> str:
    """What became of a vector, in one word or two; asserts that it became what its authors say."""
    if vector.signature is None:
        assert vector.verdict == "invalid"
        return "no JWS form"
    certificate = certificate_or_refusal(vector.public_key)
    if isinstance(certificate, str) and vector.algorithm == "EdDSA":
        assert vector.public_key[-32:] in SMALL_ORDER, vector.name
        assert vector.verdict != "valid", vector.name
        return "left open" if vector.verdict == "acceptable" else "refused"
    if isinstance(certificate, str):
        assert_key_is_weak(vector.public_key, certificate)
        return "key refused"
    jws = CompactJws(
        header=JoseHeader(vector.algorithm, None, ()),
        payload=vector.message,
        signing_input=vector.message,
        signature=vector.signature,
    )
    try:
        verify(jws, certificate)
        verified = True
    except Rejection as rejection:
        assert rejection.reason is Reason.SIGNATURE_MISMATCH, vector.name
        verified = False
    if vector.other_parameters:
        assert not verified, vector.name
        return "other parameters refused"
    if vector.verdict == "acceptable":
        return "left open"
    if is_valid_under_jws_parameters(vector):
        assert verified, vector.name
        return "verified"
    assert verified is (vector.verdict == "valid"), vector.name
    return "verified" if verified else "refused"


COUNTS: dict[str, dict[str, int]] = {
    "NIST RSA PKCS #1 verification": {"verified": 9, "refused": 42, "key refused": 219},
    "NIST RSA PKCS #1 generation": {"key refused": 150},
    "NIST RSA-PSS verification": {"refused": 43, "other parameters refused": 9, "key refused": 218},
    "NIST RSA-PSS generation": {"key refused": 150},
    "NIST ECDSA verification": {"verified": 9, "refused": 36},
    "NIST ECDSA generation": {"verified": 45},
    "RFC 6979 ECDSA": {"verified": 6, "refused": 6},
    "Ed25519 by its authors": {"verified": 1024},
    "Wycheproof RSA PKCS #1": {"verified": 84, "refused": 3005, "left open": 12, "key refused": 5},
    "Wycheproof RSA PKCS #1 generation": {"verified": 72, "key refused": 46},
    "Wycheproof RSA-PSS": {"verified": 777, "refused": 674, "other parameters refused": 755},
    "Wycheproof ECDSA IEEE P1363": {"verified": 597, "refused": 263},
    "Wycheproof ECDSA DER": {"verified": 600, "refused": 232, "no JWS form": 698},
    "Wycheproof Ed25519": {"verified": 117, "refused": 64, "left open": 29},
}
"""What must become of the vectors of each family."""


def test_every_family_has_its_counts() -> None:
    """No family is run without counts, nor counted without being run."""
    assert set(FAMILIES) == set(COUNTS)
    assert sum(sum(counts.values()) for counts in COUNTS.values()) == 9996


@pytest.mark.parametrize("family", FAMILIES)
def test_raw_signatures(family: str) -> None:
    """Every vector becomes what its authors say, but where our stricter rules say otherwise and why."""
    assert COUNTS[family] == Counter(map(outcome, vectors_of(family)))


@pytest.mark.parametrize(
    ("algorithm", "verified", "refused"),
    [
        ("RS256", 55, 1013),
        ("RS384", 55, 1018),
        ("RS512", 55, 1016),
        ("PS256", 319, 612),
        ("PS384", 192, 168),
        ("PS512", 266, 701),
        ("ES256", 367, 178),
        ("ES384", 407, 176),
        ("ES512", 483, 183),
        ("EdDSA", 1141, 64),
    ],
)
def test_every_algorithm_is_exercised(algorithm: str, verified: int, refused: int) -> None:
    """Each of the ten has vectors that verify and vectors that must not."""
    outcomes = Counter(
        outcome(vector) for family in FAMILIES for vector in vectors_of(family) if vector.algorithm == algorithm
    )
    assert (verified, refused) == (outcomes["verified"], outcomes["refused"] + outcomes["other parameters refused"])


def test_every_signature_file_of_wycheproof_is_run_or_told_why_not() -> None:
    """A new file of a newer package is noticed."""
    files = {path.name for path in WYCHEPROOF.glob("*.json")}
    run = run_files()
    explained = {file for file in files if any(re.fullmatch(pattern, file) for pattern in NOT_JWS)}
    assert not run & explained
    assert files == run | explained
    assert (len(run), len(explained)) == (41, 62)


def test_left_open_vectors() -> None:
    """What Wycheproof leaves open: a missing NULL is refused as strictly as RFC 8017 allows."""
    left_open = [vector for vector in vectors_of("Wycheproof RSA PKCS #1") if vector.verdict == "acceptable"]
    assert len(left_open) == 12
    for vector in left_open:
        certificate = certificate_or_refusal(vector.public_key)
        assert isinstance(certificate, RegisteredCertificate)
        assert vector.signature is not None
        header = JoseHeader(vector.algorithm, None, ())
        with pytest.raises(Rejection):
            verify(CompactJws(header, vector.message, vector.message, vector.signature), certificate)


def test_certificates_of_the_pss_parameter_files() -> None:
    """Their keys are marked id-RSASSA-PSS: no PKCS #1 algorithm goes with them."""
    keys = {vector.public_key for vector in vectors_of("Wycheproof RSA-PSS")}
    algorithms = Counter(
        certificate.key.algorithms
        for certificate in map(certificate_or_refusal, keys)
        if isinstance(certificate, RegisteredCertificate)
    )
    assert len(algorithms) > 1
    assert {"RS256" in names for names in algorithms} == {True, False}


def test_base64_of_the_vectors_is_standard() -> None:
    """The data file holds what the RFCs print: base64url without padding, nothing decoded and encoded again."""
    for vector in VERIFIED:
        for segment in vector["jws"].split("."):
            assert material.b64url(base64.urlsafe_b64decode(segment + "==")) == segment
