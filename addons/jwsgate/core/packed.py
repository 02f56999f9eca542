"""Checked applications in little room: a hundred thousand of them are some octets each until one is asked for.

An application as objects takes some kilobytes and, for its key, some fifty microseconds; so only those that call
are ever made into objects, and the garbage collector never sees the others.
"""

import marshal
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, overload

from .certificates import CertificateOutline, RegisteredCertificate, outline, registered_certificate
from .portal import Application, ClientId

__all__ = [
    "Grant",
    "Names",
    "Outline",
    "PackedApplications",
    "Registration",
    "grant",
    "names",
    "outlines",
    "pack",
    "with_organization",
]

_MOST_MADE: Final = 131_072
"""Some two kilobytes each; fewer would be made anew again and again where as many applications call by turns."""


class Registration(NamedTuple):
    """A certificate that `check_certificate` has passed, and when it is to be used (Unix seconds; None: no limit)."""

    ders: tuple[bytes, ...]
    use_from: float | None = None
    use_until: float | None = None


class Outline(NamedTuple):
    """What is known of an application without making its keys."""

    name: str
    enabled: bool
    certificates: Sequence[CertificateOutline | RegisteredCertificate]


class Grant(NamedTuple):
    """What decides over what an application may do, without making its keys."""

    name: str
    title: str
    status: str
    windows: dict[bytes, tuple[float | None, float | None]]
    """When each certificate, as DER, is to be used."""
    algorithms: tuple[str, ...] | None
    catalog: str
    organization: str


class Names(NamedTuple):
    """What an application is known by."""

    client_ids: Sequence[str]
    name: str
    title: str
    catalog: str
    organization: str


def pack(
    name: str,
    title: str,
    status: str,
    registrations: Sequence[Registration],
    algorithms: Sequence[str] | None = None,
    catalog: str = "",
    organization: str = "",
) -> bytes:
    """One application, all but its client IDs. Its status is as in `Application`."""
    certificates = tuple([tuple(registration) for registration in registrations])
    limits = None if algorithms is None else tuple(algorithms)
    return marshal.dumps((name, title, status, certificates, limits, catalog, organization))


def with_organization(record: bytes, organization: str) -> bytes:
    """The same application in a consumer organization of that name."""
    return marshal.dumps((*marshal.loads(record)[:-1], organization))  # noqa: S302 - written by pack


class PackedApplications(Sequence[Application]):
    """Applications that are made when they are asked for; the same one each time, as long as it is in use."""

    def __init__(self, records: Sequence[bytes], client_ids: Sequence[str], *, keep_chains: bool = False) -> None:
        self.records = records
        """Made by `pack`."""
        self.client_ids = client_ids
        """Of each application, one a line."""
        self.keep_chains = keep_chains
        """Whether certificates come with the chain that a CA check needs."""
        self._made: dict[int, Application] = {}

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, number: int) -> Application: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Application]: ...
    def __getitem__(self, number: int | slice) -> Application | Sequence[Application]:
        if isinstance(number, slice):
            return [self._make(n) for n in range(*number.indices(len(self)))]
        made = self._made.get(number)
        if made is None:
            made = self._make(number)
            if len(self._made) >= _MOST_MADE:
                del self._made[next(iter(self._made))]
            self._made[number] = made
        return made

    def __iter__(self) -> Iterator[Application]:
        return map(self._make, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # as a list

    def _make(self, number: int) -> Application:
        # Only what `pack` wrote is read here, in the same interpreter.
        record = marshal.loads(self.records[number])  # noqa: S302 - see above
        name, title, status, certificates, algorithms, catalog, organization = record
        return Application(
            name=name,
            title=title,
            enabled=status == "enabled",
            status=status,
            client_ids=tuple(map(ClientId, self.client_ids[number].splitlines())),
            certificates=tuple(
                registered_certificate(ders, keep_chain=self.keep_chains, use_from=use_from, use_until=use_until)
                for ders, use_from, use_until in certificates
            ),
            algorithms=None if algorithms is None else frozenset(algorithms),
            catalog=catalog,
            organization=organization,
        )


def outlines(applications: Iterable[Application]) -> Iterator[Outline]:
    """All applications in outline, for those who go through many."""
    if not isinstance(applications, PackedApplications):
        for application in applications:
            yield Outline(application.name, application.enabled, application.certificates)
        return
    for record in applications.records:
        name, _, status, certificates, *_ = marshal.loads(record)  # noqa: S302 - written by pack
        yield Outline(name, status == "enabled", [outline(*certificate) for certificate in certificates])


def grant(record: bytes) -> Grant:
    """What a packed application may do."""
    name, title, status, certificates, *others = marshal.loads(record)  # noqa: S302 - written by pack
    return Grant(name, title, status, {ders[0]: (start, end) for ders, start, end in certificates}, *others)


def names(applications: Iterable[Application]) -> Iterator[Names]:
    """What all applications are known by, for those who go through many."""
    if not isinstance(applications, PackedApplications):
        for each in applications:
            yield Names(each.client_ids, each.name, each.title, each.catalog, each.organization)
        return
    for record, client_ids in zip(applications.records, applications.client_ids, strict=True):
        name, title, _, _, _, catalog, organization = marshal.loads(record)  # noqa: S302 - written by pack
        yield Names(client_ids.splitlines(), name, title, catalog, organization)
