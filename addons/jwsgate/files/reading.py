"""Reads portal exports, policies, what they refer to, and TLS files, as octets; all of them are opened here."""

import fcntl
import os
import signal
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from .documents import MAX_OCTETS
from .portal_file import Source
from .problems import Problem, ProblemsFound, Unfit

__all__ = [
    "FilesState",
    "References",
    "being_written",
    "last_change",
    "portal_folder",
    "portal_sources",
    "read_named",
    "read_octets",
    "size_of",
    "state_of",
    "state_of_folders",
]

_MAX_REFERENCE_OCTETS: Final = 65536
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_ROUGHLY: Final = f"{MAX_OCTETS // 2**20} MiB"


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


def read_octets(path: Path) -> bytes:
    """Raises `ProblemsFound`."""
    try:
        return _read_regular(path, MAX_OCTETS)
    except _TooLarge:
        raise ProblemsFound([Problem(str(path), 0, 0, "(file)", f"is larger than {_ROUGHLY}", "split it")]) from None
    except (OSError, ValueError) as error:
        message, remedy = _why(error)
        raise ProblemsFound([Problem(str(path), 0, 0, "(file)", message, remedy)]) from None


def read_named(path: Path, limit: int) -> bytes:
    """Raises `Unfit`, with a message that reads on from the name of the file."""
    try:
        return _read_regular(path, limit)
    except (OSError, ValueError) as error:
        raise Unfit(*_why(error)) from None


class References:
    """Reads the files that documents refer to, and remembers them, and their octets for the revision."""

    def __init__(self) -> None:
        self.octets: list[bytes] = []
        self.paths: list[str] = []

    def read(self, base: Path, name: str, limit: int = _MAX_REFERENCE_OCTETS) -> bytes:
        """Raises `Unfit`."""
        self.paths.append(str(base.parent / name))
        try:
            octets = _read_regular(base.parent / name, limit)
        except (OSError, ValueError) as error:
            message, remedy = _why(error)
            raise Unfit(f"names {name!r}, which {message}", remedy) from None
        self.octets.append(octets)
        return octets

    def read_inside(self, folder: Path, base: Path, name: str) -> str:
        """As `read`, but nothing outside the portal's folder: an export may come from somebody else."""
        if not _is_inside(base.parent / name, folder):
            raise Unfit(f"names {name!r}, which is outside the export's folder", "put the certificate beside it")
        try:
            return self.read(base, name).decode("ascii")
        except UnicodeDecodeError:
            raise Unfit(f"names {name!r}, which is not PEM", "convert it with openssl x509 -inform der") from None


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        # Path.resolve raises for a loop of links in Python 3.12; here opening it tells what is wrong.
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):
        return False


def _files_of(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """The exports in a folder and the folders in it, in the order of their names. Hidden ones are passed over."""

    def unreadable(error: OSError) -> None:
        problems.append(Problem(str(error.filename), 0, 0, "(folder)", *_why(error)))

    # What a ConfigMap shows are links to files below a hidden folder.
    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (path := Path(place, name)).is_symlink():
                message = "is a link to a folder, which is not followed"
                problems.append(Problem(str(path), 0, 0, "(folder)", message, "put the folder itself here"))
        for name in sorted(files):
            if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                yield Path(place, name)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - for a name that no file can have, Path.is_dir raises in some versions


def portal_folder(portal: Path) -> Path:
    """The folder that files named by a portal must be in."""
    return portal if _is_folder(portal) else portal.parent


def portal_sources(portal: Path) -> tuple[list[Source], list[Problem]]:
    """The files of a portal, which is one file, or all .yaml, .yml and .json files in and below a folder."""
    problems: list[Problem] = []
    if not _is_folder(portal):
        try:
            return [Source(str(portal), read_octets(portal))], []
        except ProblemsFound as error:
            return [], list(error.problems)
    sources: list[Source] = []
    room = MAX_OCTETS
    for path in _files_of(portal, problems):
        if not _is_inside(path, portal):
            message = "is a link that leads out of the folder"
            problems.append(Problem(str(path), 0, 0, "(file)", message, "put the file itself here"))
            continue
        try:
            sources.append(Source(str(path), read_octets(path)))
        except ProblemsFound as error:
            problems += error.problems
            continue
        room -= len(sources[-1].octets)
        if room < 0:
            problems.append(Problem(str(portal), 0, 0, "(folder)", f"holds more than {_ROUGHLY}", "split it"))
            break
    if not sources and not problems:
        message, remedy = "holds no .yaml, .yml or .json file", "put the portal exports here"
        problems.append(Problem(str(portal), 0, 0, "(folder)", message, remedy))
    return sources, problems


def _state(path: str | Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - takes what no Path can be made of
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _named_files(portal: Path, policies: Iterable[Path]) -> list[Path]:
    return [*(_files_of(portal, []) if _is_folder(portal) else [portal]), *policies]


type FilesState = list[tuple[str, object]]


def state_of(portal: Path, policies: Sequence[Path], references: Iterable[str]) -> FilesState:
    """Another value when one of these files may have changed, by whatever way they were put there."""
    files: list[str | Path] = [*_named_files(portal, policies), *references]
    return [(str(path), _state(path)) for path in files]


def state_of_folders(portal: Path, policies: Iterable[Path]) -> FilesState:
    """Another value when a file came into one of the folders that these files are in, or went."""
    folders = {path.parent for path in _named_files(portal, policies)} | {portal_folder(portal)}
    return [(str(folder), _state(folder)) for folder in sorted(folders)]


def last_change(portal: Path, policies: Iterable[Path]) -> float:
    """When one of these files was changed or put in its place last, in Unix seconds."""
    found = filter(None, map(_state, _named_files(portal, policies)))
    return max((state[4] for state in found), default=0) / 1e9


def size_of(portal: Path, policies: Iterable[Path]) -> int:
    """How many octets these files have together."""
    return sum(found[2] for path in _named_files(portal, policies) if (found := _state(path)) is not None)


def being_written(portal: Path, policies: Iterable[Path]) -> Path | None:
    """One of these files that somebody has open for writing, as far as the system tells.

    It tells through read leases (fcntl(2)), which it gives to the files' owner and to root only, and not on every
    file system.
    """
    return next(filter(_has_writer, _named_files(portal, policies)), None)


def _has_writer(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        # Whoever opens the file while the lease is there has this process told so by a signal, which else would end it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)  # and the lease goes with it
    return False
