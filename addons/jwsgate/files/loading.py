"""Files in, a snapshot out."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from jwsgate.core.decision import Snapshot
from jwsgate.core.policy import Router
from jwsgate.core.portal import Portal
from jwsgate.core.trust import Trust

from .documents import Document, read_document
from .policy_file import asks_for_ca, build_routes
from .portal_file import build_portal
from .problems import Problem, ProblemsFound, Unfit
from .reading import References, portal_folder, portal_sources, read_octets
from .trust_files import build_trust, read_ca_bundle, read_revocation_lists

__all__ = ["load_snapshot"]

_MAX_BUNDLE_OCTETS: Final = 64 * 1024 * 1024


class _PolicyReferences:
    """What one policy refers to, relative to its own place."""

    def __init__(self, policy: Path, references: References, portal: Portal, now: float) -> None:
        self._policy = policy
        self._references = references
        self._portal = portal
        self._now = now

    def read_key(self, name: str) -> bytes:
        return self._references.read(self._policy, name)

    def read_ca(self, name: str) -> Sequence[x509.Certificate]:
        return _named(name, read_ca_bundle, self._references.read(self._policy, name, _MAX_BUNDLE_OCTETS))

    def read_crl(self, name: str) -> Sequence[x509.CertificateRevocationList]:
        return _named(name, read_revocation_lists, self._references.read(self._policy, name, _MAX_BUNDLE_OCTETS))

    def trust(self, ca: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList] | None) -> Trust:
        certificates = [c for application in self._portal.applications for c in application.certificates]
        return build_trust(ca, lists, certificates, self._now)


def _named[T](name: str, read: Callable[[bytes], T], octets: bytes) -> T:
    try:
        return read(octets)
    except Unfit as error:
        raise Unfit(f"names {name!r}, which {error}", error.remedy) from None


def load_snapshot(portal_path: Path, policy_paths: Sequence[Path], now: float) -> Snapshot:
    """Load a portal, which is a file or a folder of files, and policies, at the time `now` (Unix seconds; certificate
    chains depend on it).

    Raises:
        ProblemsFound: with every problem of every file.
    """
    problems: list[Problem] = []
    digest = hashlib.sha256()
    references = References()

    policies: list[tuple[Path, Document]] = []
    for path in policy_paths:
        try:
            policies.append((path, read_document(str(path), read_octets(path))))
        except ProblemsFound as error:
            problems += error.problems

    portal = None
    sources, found = portal_sources(portal_path)
    problems += found
    if sources:
        for source in sources:
            digest.update(source.octets)
        folder = portal_folder(portal_path)
        portal, found = build_portal(
            sources,
            lambda file, name: references.read_inside(folder, Path(file), name),
            keep_chains=any(asks_for_ca(policy) for _, policy in policies),
        )
        problems += found
    del sources

    router = Router()
    for path, policy in policies:
        digest.update(policy.octets)
        problems += build_routes(policy, router, _PolicyReferences(path, references, portal or Portal(()), now))

    if problems or portal is None:
        raise ProblemsFound(problems)
    for octets in references.octets:
        digest.update(octets)
    return Snapshot(portal, router, digest.hexdigest()[:12])
