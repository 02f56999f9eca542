#!/usr/bin/env python
"""What one decision costs, as multiples of the bare signature verification, all measured in one run.

    .venv/bin/python bench/decide.py [--alg RS256] [--rounds 15] [--tokens 300] [--routes 10000]

Needs the test extra (joserfc, PyJWT). Each round runs every contestant once, in turn; the medians are printed.
The other libraries parse, verify and check exp, iat, iss and aud; `decide` does all of that and routes, reads
the headers, finds the application and its certificate, and checks that nothing in the request is ambiguous.
"""

import argparse
import base64
import datetime
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import joserfc.jwk
import joserfc.jwt
import jwcrypto.jwk
import jwcrypto.jwt
import jwt as pyjwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from jwsgate.core.certificates import read_certificate
from jwsgate.core.claims import ClaimRules
from jwsgate.core.decision import Allowed, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import PathPattern, Route, Router
from jwsgate.core.portal import Application, ClientId, Portal
from jwsgate.core.signing import sign_compact
from jwsgate.core.sources import Source
from jwsgate.core.verified_cache import VerifiedCache

CLIENT_ID = "479b3df9-380e-4bda-8cc1-92718c88f9cd"
CURVES: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
HASHES: dict[str, Any] = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}


def new_key(alg: str) -> Any:
    """A private key for an algorithm."""
    if alg in CURVES:
        return ec.generate_private_key(CURVES[alg]())
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def certificate_pem(key: Any) -> str:
    """A self-signed certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def bare_verifier(alg: str, public_key: Any) -> Callable[[bytes, bytes], None]:
    """The verification alone, by cryptography, on a signature in the form that it takes."""
    if alg == "EdDSA":
        return lambda message, signature: public_key.verify(signature, message)
    digest = HASHES[alg[2:]]()
    if alg.startswith("ES"):
        return lambda message, signature: public_key.verify(signature, message, ec.ECDSA(digest))
    pad: Any = padding.PKCS1v15()
    if alg.startswith("PS"):
        pad = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return lambda message, signature: public_key.verify(signature, message, pad, digest)


def split_for_bare(alg: str, token: bytes) -> tuple[bytes, bytes]:
    """Message and signature for the bare verifier."""
    message, _, text = token.rpartition(b".")
    signature = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if alg.startswith("ES"):
        half = len(signature) // 2
        numbers = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        signature = encode_dss_signature(*numbers)
    return message, signature


def a_router(routes: int) -> Router:
    """A router whose last route takes the benchmark's requests."""
    router = Router()
    source = {"client_id": Source("header", "X-IBM-Client-Id"), "jws": Source("header", "jwt")}
    rules = ClaimRules(required=("exp", "iat"), issuer=("tvo",), audience=("the world",))
    for number in range(routes):
        path = f"/api-{number % 100}/resource-{number}/{{id}}/part"
        router.add(Route(path, PathPattern.parse(path), frozenset({"GET", "POST"}), claims=rules, **source))
    router.add(Route("all", PathPattern.parse("/**"), None, claims=rules, **source))
    return router


def request(token: bytes, target: bytes) -> RequestFacts:
    """A request as curl sends it."""
    headers = (
        (b"Host", b"api.example"),
        (b"User-Agent", b"curl/8.5.0"),
        (b"Accept", b"*/*"),
        (b"X-IBM-Client-Id", CLIENT_ID.encode()),
        (b"jwt", token),
    )
    return RequestFacts("GET", target, headers)


def race(contestants: dict[str, Callable[[], None]], rounds: int, items: int) -> dict[str, float]:
    """The median cost of one item in microseconds, each contestant once a round."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / items * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def compare_libraries(alg: str, rounds: int, tokens: int) -> None:
    """Print the table of contestants."""
    key = new_key(alg)
    pem = certificate_pem(key)
    portal = Portal((Application("a", "a", True, (ClientId(CLIENT_ID),), (read_certificate(pem),)),))
    snapshot = Snapshot(portal, a_router(3), "bench")
    now = int(time.time())
    signer = jwcrypto.jwk.JWK.from_pyca(key)
    made = [
        sign_compact(
            signer,
            {"alg": alg},
            json.dumps({"iss": "tvo", "aud": "the world", "exp": now + 3600, "iat": now, "t": number}).encode(),
        )
        for number in range(tokens)
    ]
    requests = [request(token, b"/orders/17?page=2") for token in made]
    texts = [token.decode() for token in made]
    bare = bare_verifier(alg, key.public_key())
    raw = [split_for_bare(alg, token) for token in made]
    cache = VerifiedCache(max_entries=tokens)

    def run_bare() -> None:
        for message, signature in raw:
            bare(message, signature)

    def run_decide() -> None:
        for facts in requests:
            if not isinstance(decide(snapshot, facts, now), Allowed):
                raise SystemExit("a good JWS was rejected")

    def run_cached() -> None:
        for facts in requests:
            if not isinstance(decide(snapshot, facts, now, cache), Allowed):
                raise SystemExit("a good JWS was rejected")

    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    joserfc_key = joserfc.jwk.import_key(public_pem, {"EdDSA": "OKP"}.get(alg, "EC" if alg in CURVES else "RSA"))
    joserfc_rules = joserfc.jwt.JWTClaimsRegistry(
        exp={"essential": True},
        iat={"essential": True},
        iss={"essential": True, "value": "tvo"},
        aud={"essential": True, "value": "the world"},
    )
    jwcrypto_key = jwcrypto.jwk.JWK.from_pyca(key.public_key())
    jwcrypto_rules = {"exp": None, "iat": None, "iss": "tvo", "aud": "the world"}

    def run_joserfc() -> None:
        for text in texts:
            joserfc_rules.validate(joserfc.jwt.decode(text, joserfc_key, algorithms=[alg]).claims)

    def run_pyjwt() -> None:
        required = {"require": ["exp", "iat", "iss", "aud"]}
        for text in texts:
            pyjwt.decode(text, key.public_key(), algorithms=[alg], audience="the world", issuer="tvo", options=required)

    def run_jwcrypto() -> None:
        for text in texts:
            jwcrypto.jwt.JWT(jwt=text, key=jwcrypto_key, algs=[alg], check_claims=jwcrypto_rules, expected_type="JWS")

    run_cached()  # so that every JWS of the next runs was seen before
    medians = race(
        {
            "bare cryptography verify": run_bare,
            "jwsgate decide, fresh JWS": run_decide,
            "jwsgate decide, JWS seen before": run_cached,
            "joserfc": run_joserfc,
            "PyJWT": run_pyjwt,
            "jwcrypto JWT": run_jwcrypto,
        },
        rounds,
        tokens,
    )
    base = medians["bare cryptography verify"]
    fresh = medians["jwsgate decide, fresh JWS"]
    print(f"{alg}, {tokens} different JWS, median of {rounds} rounds")
    print(f"{'':34}{'microseconds':>14}{'x bare':>9}{'x fresh':>9}")
    for name, median in medians.items():
        print(f"{name:34}{median:14.1f}{median / base:9.2f}{median / fresh:9.3f}")


def measure_routes(routes: int, rounds: int) -> tuple[int, dict[str, dict[str, float]]]:
    """How many paths were looked up; microseconds for one among 10 and among so many routes, none seen before."""
    few, many = a_router(10), a_router(routes)
    numbers = range(0, routes, max(1, routes // 500))
    # As many different paths for either, so that both meet texts that they have not seen before.
    targets = [f"/api-{number % 100}/resource-{number}/{number + 7}/part".encode() for number in numbers]
    few_targets = [f"/api-{n % 10}/resource-{n % 10}/{number + 7}/part".encode() for n, number in enumerate(numbers)]

    def run_find(router: Router, paths: list[bytes]) -> Callable[[], None]:
        def finds() -> None:
            router.forget_found()
            for path in paths:
                router.find("GET", path)

        return finds

    def run_match(router: Router, paths: list[bytes]) -> Callable[[], None]:
        segments = [tuple(path.decode()[1:].split("/")) for path in paths]

        def matches() -> None:
            for path in segments:
                router.match("GET", path)

        return matches

    ways = {"reading the path and matching it": run_find, "matching alone": run_match}
    return len(targets), {
        title: race({"10": run(few, few_targets), str(routes): run(many, targets)}, rounds, len(targets))
        for title, run in ways.items()
    }


def compare_routes(routes: int, rounds: int) -> None:
    """Print how matching grows with the number of routes."""
    paths, found = measure_routes(routes, rounds)
    for title, medians in found.items():
        base = medians["10"]
        print(f"{title} among N routes, {paths} different paths, median of {rounds} rounds")
        for name, median in medians.items():
            print(f"{name:>10} routes {median:10.2f} microseconds {median / base:6.2f} x")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alg", default="RS256", choices=["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--routes", type=int, help="compare matching among this many routes instead")
    arguments = parser.parse_args()
    if arguments.routes:
        compare_routes(arguments.routes, arguments.rounds)
    else:
        compare_libraries(arguments.alg, arguments.rounds, arguments.tokens)


if __name__ == "__main__":
    main()
