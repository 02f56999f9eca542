"""Files in, a snapshot out: the only module that reads portal exports, policies and what they refer to."""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from jwsgate.core.decision import Snapshot
from jwsgate.core.policy import Router
from jwsgate.core.portal import Portal
from jwsgate.core.trust import Trust

from .documents import MAX_OCTETS, Document, read_document
from .policy_file import asks_for_ca, build_routes
from .portal_file import build_portal
from .problems import Problem, ProblemsFound, Unfit
from .trust_files import build_trust, read_ca_bundle, read_revocation_lists

__all__ = ["load_snapshot"]

_MAX_REFERENCE_OCTETS: Final = 65536
_MAX_BUNDLE_OCTETS: Final = 64 * 1024 * 1024


class _TooLarge(OSError):
    """More octets than the limit."""


def _why(error: Exception) -> tuple[str, str]:
    match error:
        case ValueError():
            return "is not a file name", "check the path"
        case FileNotFoundError():
            return "does not exist", "check the path"
        case PermissionError():
            return "may not be read", "give this user the right to read it"
        case IsADirectoryError():
            return "is a folder", "name a file"
        case _:
            why = error.strerror if isinstance(error, OSError) else None
            return f"cannot be read: {why or type(error).__name__}", "check the path"


def _read_regular(path: Path, limit: int) -> bytes:
    # O_NONBLOCK: opening a FIFO or a device must not hang the gate.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not stat.S_ISREG(mode):
            raise OSError(0, "it is not a regular file")
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise _TooLarge(0, f"it is larger than {limit} octets")
        # As much as was there: read() makes room for all that it is asked for, and a file that grows is reloaded.
        octets = file.read(size)
    return octets


def _document(path: Path) -> Document:
    try:
        octets = _read_regular(path, MAX_OCTETS)
    except _TooLarge:
        raise ProblemsFound([Problem(str(path), 0, 0, "(file)", "is larger than 512 MiB", "split it")]) from None
    except (OSError, ValueError) as error:
        message, remedy = _why(error)
        raise ProblemsFound([Problem(str(path), 0, 0, "(file)", message, remedy)]) from None
    return read_document(str(path), octets)


class _References:
    """Reads the files that documents refer to, and remembers their octets for the revision."""

    def __init__(self) -> None:
        self.octets: list[bytes] = []

    def read(self, base: Path, name: str, limit: int = _MAX_REFERENCE_OCTETS) -> bytes:
        """Raises `Unfit`."""
        try:
            octets = _read_regular(base.parent / name, limit)
        except (OSError, ValueError) as error:
            message, remedy = _why(error)
            raise Unfit(f"names {name!r}, which {message}", remedy) from None
        self.octets.append(octets)
        return octets

    def read_inside(self, base: Path, name: str) -> str:
        """As `read`, but nothing outside the folder of `base`: an export may come from somebody else."""
        folder = base.parent.resolve()
        try:
            # Path.resolve raises for a loop of links in Python 3.12; here opening it tells what is wrong.
            inside = Path(os.path.realpath(folder / name)).is_relative_to(folder)
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise Unfit(f"names {name!r}, which is outside the export's folder", "put the certificate beside it")
        try:
            return self.read(base, name).decode("ascii")
        except UnicodeDecodeError:
            raise Unfit(f"names {name!r}, which is not PEM", "convert it with openssl x509 -inform der") from None


class _PolicyReferences:
    """What one policy refers to, relative to its own place."""

    def __init__(self, policy: Path, references: _References, portal: Portal, now: float) -> None:
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
    """Load a portal export and policies, at the time `now` (Unix seconds; certificate chains depend on it).

    Raises:
        ProblemsFound: with every problem of every file.
    """
    problems: list[Problem] = []
    digest = hashlib.sha256()
    references = _References()

    policies: list[tuple[Path, Document]] = []
    for path in policy_paths:
        try:
            policies.append((path, _document(path)))
        except ProblemsFound as error:
            problems += error.problems

    portal = None
    try:
        document = _document(portal_path)
        digest.update(document.octets)
        portal, found = build_portal(
            document,
            lambda name: references.read_inside(portal_path, name),
            keep_chains=any(asks_for_ca(policy) for _, policy in policies),
        )
        problems += found
    except ProblemsFound as error:
        problems += error.problems

    router = Router()
    for path, policy in policies:
        digest.update(policy.octets)
        problems += build_routes(policy, router, _PolicyReferences(path, references, portal or Portal(()), now))

    if problems or portal is None:
        raise ProblemsFound(problems)
    for octets in references.octets:
        digest.update(octets)
    return Snapshot(portal, router, digest.hexdigest()[:12])
