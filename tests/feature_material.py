"""What the tests of the gate's features share: routes, snapshots and requests; CAs and revocation lists; Redis."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import material
from e2e.gates import free_port
from jwsgate.core.certificates import RegisteredCertificate, read_certificate
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, Rejected, Snapshot
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import PathPattern, Route, Router
from jwsgate.core.portal import Application, ClientId, Portal
from jwsgate.core.reasons import Reason
from jwsgate.core.sources import Source

NOW = 1_900_000_000
"""The time of most decisions; the certificates below are good around it, whatever the day of the test run."""
DAY = 86_400
CLIENT_ID = "479b3df9-380e-4bda-8cc1-92718c88f9cd"
OTHER_CLIENT_ID = "1ab8edee-1d57-43ff-8e0c-4ae28a386b47"

CLIENT_ID_SOURCE = Source("header", "X-IBM-Client-Id")
JWS_SOURCE = Source("header", "jwt")


# Certificates


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _digest(key: material.PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


CA_BASIC = x509.BasicConstraints(ca=True, path_length=None)


def key_usage(*, cert_sign: bool = False, crl_sign: bool = False, signature: bool = False) -> x509.KeyUsage:
    """A keyUsage with only what is said."""
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, eq=False)
class Issued:
    """A certificate with its private key, and so one that can issue others."""

    name: str
    key: material.PrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def registered(self, *chain: Issued) -> RegisteredCertificate:
        """As an application registers it, with the chain kept."""
        return read_certificate(self.pem + "".join(upper.pem for upper in chain), keep_chain=True)


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    kind: material.KeyKind = "p256",
    key: material.PrivateKey | None = None,
    ca: bool = False,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
    start: float = NOW - 30 * DAY,
    end: float = NOW + 365 * DAY,
) -> Issued:
    """Issue a certificate, self-signed when nobody issues it; `extensions` replace the usual ones."""
    key = key or material.private_key(kind, f"feature-{name}")
    if extensions is None:
        extensions = [(CA_BASIC, True)] if ca else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer.name if issuer else name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(start))
        .not_valid_after(_time(end))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer else key
    return Issued(name, key, builder.sign(signer, _digest(signer)))


def revocation_list(
    issuer: Issued,
    revoked: Collection[Issued] = (),
    *,
    signer: material.PrivateKey | None = None,
    start: float = NOW - DAY,
    end: float = NOW + DAY,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> x509.CertificateRevocationList:
    """A revocation list of an issuer, signed by its key unless another is given."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_name(issuer.name))
        .last_update(_time(start))
        .next_update(_time(end))
    )
    for each in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(each.certificate.serial_number)
            .revocation_date(_time(start))
            .build()
        )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    key = signer or issuer.key
    return builder.sign(key, _digest(key))


def lists_pem(*lists: x509.CertificateRevocationList) -> str:
    """Revocation lists as one PEM file."""
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in lists)


# Routes, snapshots and requests


@functools.cache
def certificate_for(key: material.PrivateKey, name: str = "client", start: float = -30, end: float = 365) -> Issued:
    """A self-signed certificate over a key, good from and to so many days from NOW."""
    return issue(name, key=key, start=NOW + start * DAY, end=NOW + end * DAY)


def a_route(path: str = "/**", methods: Collection[str] | None = None, **demands: Any) -> Route:
    """A route; unless told, the client ID and the JWS are in their usual headers."""
    return Route(
        name=f"{path} route",
        pattern=PathPattern.parse(path),
        methods=None if methods is None else frozenset(methods),
        client_id=demands.pop("client_id", CLIENT_ID_SOURCE),
        jws=demands.pop("jws", JWS_SOURCE),
        **demands,
    )


def an_application(
    *certificates: Issued | RegisteredCertificate,
    client_ids: Sequence[str] = (CLIENT_ID,),
    enabled: bool = True,
    algorithms: Collection[str] | None = None,
) -> Application:
    """An application of the portal."""
    return Application(
        name="app",
        title="App",
        enabled=enabled,
        client_ids=tuple(map(ClientId, client_ids)),
        certificates=tuple(each.registered() if isinstance(each, Issued) else each for each in certificates),
        algorithms=None if algorithms is None else frozenset(algorithms),
    )


def a_snapshot(applications: Sequence[Application], *routes: Route) -> Snapshot:
    """A snapshot; without routes it has the one that takes everything."""
    router = Router()
    for route in routes or (a_route(),):
        router.add(route)
    return Snapshot(Portal(tuple(applications)), router, "test")


def a_request(
    token: str | None = None,
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    target: bytes = b"/orders/1",
    client_id: str | None = CLIENT_ID,
) -> RequestFacts:
    """A request with the usual two headers, unless they are None, and further ones."""
    fields: list[tuple[bytes, bytes]] = [(b"Host", b"gate.test")]
    if client_id is not None:
        fields.append((b"X-IBM-Client-Id", client_id.encode()))
    if token is not None:
        fields.append((b"jwt", token.encode()))
    return RequestFacts(method, target, (*fields, *headers))


def good_claims(**claims: Any) -> dict[str, Any]:
    """Claims that are good at NOW, with whatever is to be added or replaced."""
    return {"iss": "tvo", "exp": NOW + 600, "iat": NOW, **claims}


def detached(
    key: material.PrivateKey, body: bytes, *, unencoded: bool = False, header: Mapping[str, Any] | None = None
) -> str:
    """A compact JWS with an empty payload segment that signs a body (RFC 7515 appendix F, RFC 7797)."""
    algorithm = material.algorithm_of(key)
    members = {"alg": algorithm, **({"b64": False, "crit": ["b64"]} if unencoded else {}), **(header or {})}
    first = material.b64url(material.compact_json(members)).encode()
    payload = body if unencoded else material.b64url(body).encode()
    signature = material.signature(key, algorithm, first + b"." + payload)
    return f"{first.decode()}..{material.b64url(signature)}"


def reason_of(decision: Decision) -> Reason | str:
    """Why a request was rejected; a word of ours where it was not."""
    match decision:
        case Rejected():
            return decision.reason
        case AwaitsBody():
            return "awaits body"
        case Allowed():
            return "allowed"


# Redis


def redis_server() -> str:
    """The program; a test without it is skipped, but fails where the tests decide over a change."""
    program = shutil.which("redis-server")
    if program is not None:
        return program
    message = "redis-server is not installed: apt-get install redis-server (Debian package redis-server)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@dataclass
class Redis:
    """A Redis of the test's own, on a free loopback port, that keeps nothing on disk."""

    port: int
    process: subprocess.Popen[bytes]
    directory: Path
    options: Sequence[str] = field(default_factory=tuple)

    @property
    def url(self) -> str:
        """What a gate is given."""
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *words: str) -> bytes:
        """The raw reply to one command, read without any client library."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
            parts = [word.encode() for word in words]
            wire.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            wire.shutdown(socket.SHUT_WR)
            octets = b""
            while more := wire.recv(1 << 16):
                octets += more
            return octets

    def keys(self) -> list[str]:
        """All keys."""
        lines = self.ask("KEYS", "*").split(b"\r\n")[1:]
        return sorted(line.decode() for line in lines[1::2])

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def running_redis(*options: str, at: int | None = None) -> Iterator[Redis]:
    """Run a Redis, on a port of its own unless told; stop it, and only it, in the end."""
    program = redis_server()
    with tempfile.TemporaryDirectory(prefix="jwsgate-redis-") as directory:
        for _ in range(5):
            port = at or free_port()
            process = subprocess.Popen(
                [
                    *(program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                    *("--dir", directory, "--maxmemory-policy", "noeviction", *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            redis = Redis(port, process, Path(directory), options)
            try:
                if _wait_until_answering(redis):
                    yield redis
                    return
            finally:
                redis.kill()
    raise AssertionError("redis-server does not start")


def _wait_until_answering(redis: Redis) -> bool:
    deadline = time.monotonic() + 20
    while redis.process.poll() is None:
        assert time.monotonic() < deadline, "redis-server does not answer"
        with contextlib.suppress(OSError):
            if redis.ask("PING").startswith((b"+PONG", b"-NOAUTH")):
                return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    before = time.monotonic()
    call()
    return time.monotonic() - before
