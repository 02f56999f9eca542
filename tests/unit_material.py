"""What the unit tests share: small exports and policies, routes, and ways to read the problems in files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import material
from jwsgate.core.packed import Names
from jwsgate.core.policy import Action, Forward, PathPattern, Route, Router
from jwsgate.core.portal import Portal
from jwsgate.core.sources import Source
from jwsgate.core.trust import Trust
from jwsgate.files.documents import read_document
from jwsgate.files.policy_file import build_routes
from jwsgate.files.portal_file import Source as PortalSource
from jwsgate.files.portal_file import build_portal
from jwsgate.files.problems import Problem, ProblemsFound

ROOT = Path(__file__).parents[1]
CLIENT_ID = "479b3df9-380e-4bda-8cc1-92718c88f9cd"
OTHER_CLIENT_ID = "1ab8edee-1d57-43ff-8e0c-4ae28a386b47"

POLICY = "routes:\n  - path: /**\n"
"""The shortest policy."""

type Place = tuple[int, int, str, str]
"""Line, column, path and message of a problem."""


def problems_in(call: Callable[[], object]) -> tuple[Problem, ...]:
    """The problems that a call raises."""
    with pytest.raises(ProblemsFound) as caught:
        call()
    return caught.value.problems


def places(problems: Collection[Problem]) -> list[Place]:
    """Where problems are and what they say, in the order of the file."""
    return [(problem.line, problem.column, problem.path, problem.message) for problem in sorted(problems)]


def document_problems(octets: bytes | str) -> list[Problem]:
    """Every problem of one document, whether raised or kept with it."""
    try:
        document = read_document("file.yaml", octets.encode() if isinstance(octets, str) else octets)
    except ProblemsFound as error:
        return list(error.problems)
    return sorted(document.problems)


def no_file(name: str) -> str:
    """Reads references where a test has none."""
    raise AssertionError(f"{name!r} was read")


def read_portal(
    text: str | bytes, read_reference: Callable[[str], str] = no_file
) -> tuple[Portal | None, list[Problem]]:
    """A portal export as `build_portal` has it, with syntax problems as problems too."""
    octets = text.encode() if isinstance(text, str) else text
    return build_portal([PortalSource("portal.yaml", octets)], lambda _file, name: read_reference(name))


def good_portal(text: str | bytes, read_reference: Callable[[str], str] = no_file) -> Portal:
    """The portal of an export without a problem."""
    portal, problems = read_portal(text, read_reference)
    assert problems == []
    assert portal is not None
    return portal


def portal_problems(text: str | bytes, read_reference: Callable[[str], str] = no_file) -> list[Problem]:
    """The problems of an export, in the order of the file; where there is one there must be no portal."""
    portal, problems = read_portal(text, read_reference)
    assert (portal is None) == bool(problems)
    return sorted(problems)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """What a policy may refer to here: private keys by name, and nothing else."""

    read_key: Callable[[str], bytes]

    def read_ca(self, name: str) -> Sequence[x509.Certificate]:
        """No CA bundles."""
        raise AssertionError(f"{name!r} was read")

    def read_crl(self, name: str) -> Sequence[x509.CertificateRevocationList]:
        """No revocation lists."""
        raise AssertionError(f"{name!r} was read")

    def trust(self, ca: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList] | None) -> Trust:
        """No trust."""
        raise AssertionError(f"{ca!r}, {lists!r} were used")

    def applications(self) -> Iterable[Names]:
        """None."""
        return ()

    def policy_of(self, route: Route) -> str:
        """There are no earlier ones."""
        return ""


def no_key(name: str) -> bytes:
    """Reads keys where a test has none."""
    raise AssertionError(f"{name!r} was read")


def read_policy(
    text: str | bytes,
    read_key: Callable[[str], bytes] = no_key,
    router: Router | None = None,
    file: str = "policy.yaml",
) -> tuple[Router, list[Problem]]:
    """A policy as `build_routes` has it, its routes added to a router, with syntax problems as problems too."""
    router = Router() if router is None else router
    try:
        document = read_document(file, text.encode() if isinstance(text, str) else text)
    except ProblemsFound as error:
        return router, list(error.problems)
    return router, sorted(build_routes(document, router, KeyFiles(read_key)))


def policy_problems(text: str | bytes, read_key: Callable[[str], bytes] = no_key) -> list[Problem]:
    """The problems of a policy, in the order of the file."""
    return read_policy(text, read_key)[1]


def policy_routes(text: str | bytes, read_key: Callable[[str], bytes] = no_key) -> list[Route]:
    """The routes of a policy without a problem."""
    router, problems = read_policy(text, read_key)
    assert problems == []
    return list(router)


def route(path: str, methods: Collection[str] | None = None, name: str = "", action: Action | None = None) -> Route:
    """A route that demands what all routes do."""
    return Route(
        name=name or f"{','.join(sorted(methods)) if methods else '*'} {path}",
        pattern=PathPattern.parse(path),
        methods=None if methods is None else frozenset(methods),
        client_id=Source("header", "X-IBM-Client-Id"),
        jws=Source("header", "jwt"),
        action=action or Forward(),
    )


def der_of(pem: str) -> bytes:
    """A certificate's DER."""
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def good_files(directory: Path) -> tuple[Path, Path]:
    """A good portal export and policy in a folder, with the key and certificate that they refer to."""
    key = material.private_key("p256")
    pem = material.certificate(key)
    (directory / "client.crt").write_text(pem)
    (directory / "client.key").write_text(material.private_pem(key))
    portal = directory / "portal.yaml"
    portal.write_text(
        material.portal_yaml(
            [
                material.Application("inline", (CLIENT_ID,), pem),
                material.Application(
                    "by-file", (OTHER_CLIENT_ID,), fields={"application_public_certificate_file": "client.crt"}
                ),
            ]
        )
    )
    policy = directory / "policy.yaml"
    policy.write_text(
        "defaults:\n"
        "  jws: {header: jwt, max_octets: 4096}\n"
        "  claims: {required: [exp], leeway: 5, issuer: tvo}\n"
        "routes:\n"
        "  - name: sign\n"
        "    path: /{org}/{catalog}/sign\n"
        "    methods: [POST]\n"
        "    sign: {key: client.key, algorithm: ES256, issuer: tvo, audience: the world}\n"
        "  - path: /**\n"
    )
    return portal, policy


def chain(*, lifetime_days: int = 365) -> tuple[str, str]:
    """A leaf certificate and that of the CA which issued it, both as PEM."""
    now = datetime.now(UTC)
    ca_key, leaf_key = material.private_key("p256", "unit-ca"), material.private_key("p256", "unit-leaf")
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("leaf", "ca")]
    pems = []
    for subject, key, is_ca in ((names[0], leaf_key, False), (names[1], ca_key, True)):
        pems.append(
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=lifetime_days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .sign(ca_key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
            .decode()
        )
    return pems[0], pems[1]
