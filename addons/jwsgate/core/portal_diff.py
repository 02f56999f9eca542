"""What is different between two portals, by meaning: order, spelling and files do not count."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .packed import PackedApplications
from .portal import Application, Portal

__all__ = ["Change", "PortalDiff", "diff_portals", "diff_steps"]

_STEP: Final = 500


@dataclass(frozen=True, slots=True)
class Change:
    """What became different of one application; each detail is for people."""

    before: Application
    after: Application

    def details(self) -> Iterator[str]:
        """Each difference in words."""
        before, after = self.before, self.after
        for what in ("name", "title", "catalog", "organization"):
            if getattr(before, what) != getattr(after, what):
                yield f"{what} {getattr(before, what)!r} -> {getattr(after, what)!r}"
        if (before.enabled, before.status) != (after.enabled, after.status):
            yield after.status or ("enabled" if after.enabled else "disabled")
        yield from _moved("client ID", before.client_ids, after.client_ids)
        yield from _moved(
            "certificate", [c.thumbprint for c in before.certificates], [c.thumbprint for c in after.certificates]
        )
        times = {c.thumbprint: (c.not_before, c.not_after) for c in before.certificates}
        for certificate in after.certificates:
            if times.get(certificate.thumbprint, window := (certificate.not_before, certificate.not_after)) != window:
                yield f"certificate {certificate.thumbprint} is used at other times"
        if before.algorithms != after.algorithms:
            old, new = (", ".join(sorted(one.algorithms)) if one.algorithms else "any" for one in (before, after))
            yield f"algorithms {old} -> {new}"


def _moved(what: str, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    yield from (f"{what} {one} added" for one in after if one not in before)
    yield from (f"{what} {one} removed" for one in before if one not in after)


@dataclass(frozen=True, slots=True)
class PortalDiff:
    """Applications that are in one portal only, and those that are different in the two."""

    added: tuple[Application, ...]
    removed: tuple[Application, ...]
    changed: tuple[Change, ...]

    def summary(self, most: int = 5) -> str:
        """One line; of each kind no more than `most` names."""
        parts = [
            f"{len(found)} {kind}{_names(found, most)}"
            for kind, found in (
                ("added", self.added),
                ("removed", self.removed),
                ("changed", [change.after for change in self.changed]),
            )
            if found
        ]
        return ", ".join(parts) or "no application changed"


def _names(applications: Sequence[Application], most: int) -> str:
    names = [application.title or "(unnamed)" for application in applications[:most]]
    return f" ({', '.join(names)}{', ...' if len(applications) > most else ''})"


def _keys(applications: Sequence[Application]) -> Iterator[Any]:
    """What is equal when two applications are; whatever they are kept as."""
    if isinstance(applications, PackedApplications):
        return zip(applications.records, map(_sorted, applications.client_ids), strict=True)
    return iter(applications)


def _sorted(client_ids: str) -> str:
    return "\n".join(sorted(client_ids.split("\n"))) if "\n" in client_ids else client_ids


def _unlike(
    applications: Sequence[Application], others: Sequence[Application]
) -> Generator[None, None, list[Application]]:
    """The applications that are not among the others."""
    same = set()
    for number, key in enumerate(_keys(others)):
        same.add(key)
        if number % _STEP == _STEP - 1:
            yield
    unlike = []
    for number, key in enumerate(_keys(applications)):
        if key not in same:
            unlike.append(applications[number])
        if number % _STEP == _STEP - 1:
            yield
    return unlike


def _identity(application: Application) -> tuple[str, str, str]:
    return application.catalog, application.organization, application.name


def diff_steps(before: Portal, after: Portal) -> Generator[None, None, PortalDiff]:
    """As `diff_portals`, in steps of a few milliseconds, so that others can do something in between."""
    here, there = before.applications, after.applications
    if isinstance(here, PackedApplications) != isinstance(there, PackedApplications):
        here, there = tuple(here), tuple(there)
    found = yield from _unlike(here, there)
    old = {id(application): application for application in found}
    by_client_id = {one: application for application in old.values() for one in application.client_ids}
    by_identity = {_identity(application): application for application in old.values()}
    added: list[Application] = []
    changed: list[Change] = []
    for application in (yield from _unlike(there, here)):
        former = _first(by_client_id.get(one) for one in application.client_ids) or by_identity.get(
            _identity(application)
        )
        if former is not None and old.pop(id(former), None) is not None:
            changed.append(Change(former, application))
        else:
            added.append(application)
    return PortalDiff(tuple(added), tuple(old.values()), tuple(changed))


def diff_portals(before: Portal, after: Portal) -> PortalDiff:
    """Compare two portals. An application is the same when it has a client ID in common, or else its names."""
    steps = diff_steps(before, after)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # what the generator returns


def _first(found: Iterable[Application | None]) -> Application | None:
    return next((application for application in found if application is not None), None)
