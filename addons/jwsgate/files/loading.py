"""Files in, a snapshot out."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography import x509

from jwsgate.core.decision import Snapshot
from jwsgate.core.packed import Names, names
from jwsgate.core.policy import Route, Router
from jwsgate.core.portal import Portal
from jwsgate.core.trust import Trust

from .api_connect import build_api_routes, convert, is_api_definition
from .documents import Document, read_document
from .environment import filled
from .policy_file import PolicyReferences, asks_for_ca, build_routes
from .portal_file import PortalReading, Source, build_portal, read_thoroughly
from .problems import Problem, ProblemsFound, Unfit
from .reading import References, portal_folder, portal_sources, read_octets
from .trust_files import build_trust, read_ca_bundle, read_revocation_lists

__all__ = ["convert_policy", "load_snapshot", "policy_router", "read_all", "read_policy", "read_portal"]

_MAX_BUNDLE_OCTETS: Final = 64 * 1024 * 1024


class _PolicyReferences:
    """What one policy refers to, relative to its own place."""

    def __init__(
        self, policy: Path, references: References, portal: Portal, now: float, earlier: Mapping[Route, str]
    ) -> None:
        self._policy = policy
        self._references = references
        self._portal = portal
        self._now = now
        self._earlier = earlier

    def read_key(self, name: str) -> bytes:
        return self._references.read(self._policy, name)

    def read_ca(self, name: str) -> Sequence[x509.Certificate]:
        return _named(name, read_ca_bundle, self._references.read(self._policy, name, _MAX_BUNDLE_OCTETS))

    def read_crl(self, name: str) -> Sequence[x509.CertificateRevocationList]:
        return _named(name, read_revocation_lists, self._references.read(self._policy, name, _MAX_BUNDLE_OCTETS))

    def trust(
        self, ca: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList] | None
    ) -> Trust | None:
        certificates = [c for application in self._portal.applications for c in application.certificates]
        return build_trust(ca, lists, certificates, self._now)

    def applications(self) -> Iterable[Names]:
        return names(self._portal.applications)

    def policy_of(self, route: Route) -> str:
        return self._earlier.get(route, "")


class _WithoutTrust(_PolicyReferences):
    """The same, without the CA that a policy may ask for."""

    def trust(self, *_: object) -> None:
        return None


def _named[T](name: str, read: Callable[[bytes], T], octets: bytes) -> T:
    try:
        return read(octets)
    except Unfit as error:
        raise Unfit(f"names {name!r}, which {error}", error.remedy) from None


def read_policy(path: Path) -> Document:
    """A policy with the values that it takes from the environment; API Connect's definitions take none.

    Raises:
        ProblemsFound: with every problem of its syntax, and every variable that is not set.
    """
    document = read_document(str(path), read_octets(path))
    return document if is_api_definition(document) else filled(document, os.environ)


def _build(document: Document, router: Router, references: PolicyReferences) -> list[Problem]:
    build = build_api_routes if is_api_definition(document) else build_routes
    return build(document, router, references)


def _build_all(
    policies: Iterable[tuple[Path, Document]], router: Router, references: References, portal: Portal, now: float
) -> list[Problem]:
    problems: list[Problem] = []
    earlier: dict[Route, str] = {}
    for path, document in policies:
        problems += _build(document, router, _PolicyReferences(path, references, portal, now, earlier))
        earlier |= {route: str(path) for route in router if route not in earlier}
    return problems


def _read_policies(paths: Sequence[Path], problems: list[Problem]) -> list[tuple[Path, Document]]:
    policies: list[tuple[Path, Document]] = []
    for path in paths:
        try:
            policies.append((path, read_policy(path)))
        except ProblemsFound as error:
            problems += error.problems
    return policies


def load_snapshot(
    portal_path: Path, policy_paths: Sequence[Path], now: float, *, keep_chains: bool = False
) -> Snapshot:
    """Load a portal, which is a file or a folder of files, and policies, at the time `now` (Unix seconds; certificate
    chains depend on it). `keep_chains` keeps the certificates themselves too where no policy asks for a CA, for those
    who tell of them.

    Raises:
        ProblemsFound: with every problem of every file.
    """
    problems: list[Problem] = []
    digest = hashlib.sha256()
    references = References()
    policies = _read_policies(policy_paths, problems)

    portal = None
    sources, found = portal_sources(portal_path)
    problems += found
    if sources:
        for source in sources:
            digest.update(source.octets)
        keep_chains = keep_chains or any(asks_for_ca(policy) for _, policy in policies)
        portal, found = build_portal(sources, _reader(portal_path, references), keep_chains=keep_chains)
        problems += found
    del sources

    router = Router()
    for _, policy in policies:
        digest.update(policy.octets)
        if b"env" in policy.octets:
            digest.update(repr(policy.data).encode("utf-8", "replace"))  # with the values of variables
    problems += _build_all(policies, router, references, portal or Portal(()), now)

    if problems or portal is None:
        raise ProblemsFound(problems)
    for octets in references.octets:
        digest.update(octets)
    return Snapshot(portal, router, digest.hexdigest()[:12], tuple(references.paths))


def policy_router(path: Path, document: Document, portal: Portal, now: float) -> Router | None:
    """The routes of one policy by itself, without the CA that it may ask for; None when it has problems."""
    router = Router()
    return None if _build(document, router, _WithoutTrust(path, References(), portal, now, {})) else router


def _reader(portal: Path, references: References) -> Callable[[str, str], str]:
    folder = portal_folder(portal)
    return lambda file, name: references.read_inside(folder, Path(file), name)


def read_portal(path: Path, instead: Mapping[str, bytes] | None = None) -> PortalReading:
    """A portal with the places of everything in it and all its problems; `instead` of some files' octets, others."""
    sources, problems = portal_sources(path)
    if instead:
        sources = [Source(source.file, instead.get(source.file, source.octets)) for source in sources]
    reading = read_thoroughly(sources, _reader(path, References()), keep_chains=True)
    found = sorted({*problems, *reading.problems})
    return replace(reading, problems=found, is_partial=reading.is_partial or bool(problems))


def read_all(
    portal_path: Path | None, policy_paths: Sequence[Path], now: float
) -> tuple[PortalReading | None, Router, list[Problem]]:
    """As `load_snapshot`, but with the places of everything, for those who tell people about it; None: no portal."""
    problems: list[Problem] = []
    references = References()
    policies = _read_policies(policy_paths, problems)
    reading = None
    if portal_path is not None:
        reading = read_portal(portal_path)
        problems += reading.problems
    portal = reading.portal if reading is not None and not problems else Portal(())
    router = Router()
    problems += _build_all(policies, router, references, portal, now)
    return reading, router, problems


def convert_policy(path: Path, now: float) -> str:
    """An API definition of API Connect as the text of a policy of our own.

    Raises:
        ProblemsFound: with every problem of the file, or when it is no API definition.
    """
    document = read_document(str(path), read_octets(path))
    if not is_api_definition(document) and not document.problems:
        found = (), "is no API definition: it has neither swagger: nor openapi:", "name an export of API Connect"
        raise ProblemsFound(document.problem_list([found]))
    return convert(document, _PolicyReferences(path, References(), Portal(()), now, {}))
