"""Reading the files in a process of its own, and handing the snapshot over in pieces.

The parser of a large export would hold the interpreter for seconds, and could end the process with a fault of its
own. Here it does so elsewhere, and what comes back is taken in between two requests, piece by piece.
"""

import io
import json
import marshal
import pickle
import sys
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from jwcrypto.jwk import JWK

from jwsgate.core.decision import Snapshot
from jwsgate.core.packed import PackedApplications
from jwsgate.core.portal import Portal

from .loading import load_snapshot
from .problems import Problem, ProblemsFound

__all__ = ["LENGTH_OCTETS", "PROGRAM", "Assembly", "main", "order"]

LENGTH_OCTETS: Final = 8
"""Each piece is preceded by its length, in so many octets, the first the highest."""
_PIECE: Final = 64
"""Applications a piece; one takes about a kilobyte."""

PROGRAM: Final = """\
import json, os, sys
os.nice(10)
order = json.loads(sys.stdin.buffer.readline())
sys.path[:] = order["path"]
from jwsgate.files.handover import main
main(order, sys.stdout.buffer)
"""
"""What the process runs, wherever the package was imported from."""


def order(portal: Path, policies: list[Path], now: float) -> bytes:
    """What the process is to do, for its standard input."""
    names = {"portal": str(portal), "policies": [str(path) for path in policies]}
    return json.dumps({"path": sys.path, **names, "now": now}).encode("ascii") + b"\n"


def _make_jwk(members: dict[str, Any]) -> JWK:
    return JWK(**members)


def _make_mapping(members: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(members)  # a type whose own name pickle does not find


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, JWK):  # it keeps the key as an object of OpenSSL
            return _make_jwk, (value.export(as_dict=True),)
        if isinstance(value, MappingProxyType):
            return _make_mapping, (dict(value),)
        return NotImplemented


def _pieces(snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    applications = snapshot.portal.applications
    if not isinstance(applications, PackedApplications):
        raise TypeError
    rest = io.BytesIO()
    _Pickler(rest).dump((snapshot.router, snapshot.revision, snapshot.files, snapshot.portal.ends))
    yield "snapshot", rest.getvalue(), applications.keep_chains
    for start in range(0, len(applications), _PIECE):
        piece = slice(start, start + _PIECE)
        yield "applications", list(applications.records[piece]), list(applications.client_ids[piece])
    yield ("end",)


def main(what: dict[str, Any], out: BinaryIO) -> None:
    """Read the files and write the pieces."""
    try:
        policies = [Path(path) for path in what["policies"]]
        snapshot = load_snapshot(Path(what["portal"]), policies, what["now"])
        pieces = _pieces(snapshot)
    except ProblemsFound as error:
        pieces = iter([("problems", [astuple(problem) for problem in error.problems])])
    for piece in pieces:
        octets = marshal.dumps(piece)
        out.write(len(octets).to_bytes(LENGTH_OCTETS))
        out.write(octets)
    out.flush()


class Assembly:
    """The other end: takes the pieces in, one by one."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        """All of it, once the last piece is in."""
        self._rest: tuple[Any, ...] = ()
        self._keep_chains = False
        self._records: list[bytes] = []
        self._client_ids: list[str] = []
        self._index: dict[bytes, int] = {}

    def take(self, octets: bytes) -> None:
        """Take in one piece.

        Raises:
            ProblemsFound: when the files cannot be used.
        """
        # Both are written by `main` above, by the same interpreter, through a pipe that nobody else has.
        kind, *content = marshal.loads(octets)  # noqa: S302 - see above
        match kind:
            case "snapshot":
                self._rest = pickle.loads(content[0])  # noqa: S301 - see above
                self._keep_chains = content[1]
            case "applications":
                records, client_ids = content
                for number, lines in enumerate(client_ids, len(self._records)):
                    for client_id in lines.splitlines():
                        self._index[client_id.encode("utf-8")] = number
                self._records += records
                self._client_ids += client_ids
            case "end":
                applications = PackedApplications(self._records, self._client_ids, keep_chains=self._keep_chains)
                router, revision, files, ends = self._rest
                self.snapshot = Snapshot(Portal(applications, self._index, ends), router, revision, files)
            case _:
                raise ProblemsFound(Problem(*fields) for fields in content[0])
