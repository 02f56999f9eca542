"""What looks as if the end of a portal export were missing, though what there is of it is good.

Block YAML is good at the end of any line. So the application that such a file ends with may lack what came next: that
it is suspended, or until when a certificate is to be used. What tells is the portal in force, if there is one.
"""

from collections.abc import Iterator, Set
from typing import Final, NamedTuple

from .packed import Grant, PackedApplications, grant
from .portal import FileEnd, Portal

__all__ = ["DECIDING", "LIMITS", "Doubt", "doubts"]

LIMITS: Final = ("state", "is_suspended")
"""Keys without which an application may do more."""
DECIDING: Final = frozenset({*LIMITS, "name", "title", "catalog_url", "consumer_org", "consumer_org_url"})
"""Keys of which `FileEnd.said` tells."""

_MAY_BE: Final = "the file may have been cut short"
_COMPLETE: Final = "complete the file; if it is whole, say so with a last line of three dots"


class Doubt(NamedTuple):
    """One reason to think that a file was cut short; the message reads on from the file's or the path's name."""

    end: FileEnd
    path: str
    message: str
    remedy: str


def doubts(portal: Portal, before: Portal | None = None, *, strict: bool = False) -> Iterator[Doubt]:
    """All doubts about a portal made of files, by itself or, with `before`, as what is to replace that one.

    What was as doubtful in the portal before is no doubt, unless `strict`.
    """
    formers = {} if before is None else {end.file: end for end in before.ends}
    for end in portal.ends:
        former = formers.get(end.file)
        known = None if strict else former
        if not end.is_closed and (known is None or known.is_closed):
            message = f"ends in the middle of a line: {_MAY_BE}"
            yield Doubt(end, "(file)", message, "end it with a line break")
        if former is not None and end.organizations < former.organizations and end.nameless > former.nameless:
            message = f"has no name any more for organizations of its applications: {_MAY_BE}"
            yield Doubt(end, "consumer_orgs", message, _COMPLETE)
        gains = {}
        if before is not None and end.number >= 0:
            applications = _packed(portal)
            client_ids = applications.client_ids[end.number].splitlines()
            numbers = {before.index.get(one.encode("utf-8")) for one in client_ids}
            gains = dict(_gains(applications, _packed(before), end, numbers))
            if numbers == {None}:
                known = None  # the application is new, and nothing tells what it could do before
        for key in sorted(end.lacking - (frozenset() if known is None else known.lacking) - gains.keys()):
            message = f"has no {key}, which all others have: {_MAY_BE}"
            yield Doubt(end, end.path, message, f"complete the file, or write {key}: here")
        for key, message in gains.items():
            remedy = f"complete the file, or write {key}: here" if key in LIMITS else _COMPLETE
            yield Doubt(end, end.path, f"{message}: {_MAY_BE}", remedy)


def _packed(portal: Portal) -> PackedApplications:
    if not isinstance(portal.applications, PackedApplications):
        raise TypeError
    return portal.applications


def _gains(
    here: PackedApplications, there: PackedApplications, end: FileEnd, numbers: Set[int | None]
) -> Iterator[tuple[str, str]]:
    """By what the last application could do more than it can now, without the file saying so: key and message.

    `numbers` are those that its client IDs have in the portal in force; None is for one that is new there.
    """
    record = here.records[end.number]
    if numbers == {None} and "state" not in end.said and grant(record).status == "enabled":
        yield "state", "comes last, is new and has no state, and would be enabled"
    for number in numbers:
        if number is not None and there.records[number] != record:
            now, after = grant(there.records[number]), grant(record)
            yield from _enabled(now, after, end)
            yield from _wider(now, after, end)
            yield from _elsewhere(now, after, end)


def _enabled(now: Grant, after: Grant, end: FileEnd) -> Iterator[tuple[str, str]]:
    if after.status != "enabled":
        return
    for key, stops in (("state", now.status.startswith(("disabled", "pending"))),
                       ("is_suspended", now.status.endswith("suspended"))):  # fmt: skip
        if stops and key not in end.said:
            yield key, f"has no {key} any more, and would be enabled"


def _wider(now: Grant, after: Grant, end: FileEnd) -> Iterator[tuple[str, str]]:
    if now.algorithms is not None and after.algorithms is None:
        yield "algorithms", "has no application_jws_algorithms any more, and could use others"
    for der, (start, until) in after.windows.items():
        if der not in now.windows:
            # Half a file name may be the name of another file.
            if not end.is_closed:
                yield "certificate", "has another certificate, and no line break behind it"
            continue
        old_start, old_until = now.windows[der]
        for key, lost, moved in (
            ("not_before", old_start is not None and start is None, (start or 0) < (old_start or 0)),
            ("not_after", old_until is not None and until is None, until is not None and until > (old_until or until)),
        ):
            # Half a time may be another time.
            if lost or (moved and not end.is_closed):
                yield key, f"has no {key} as before for one of its certificates, which would be used for longer"


def _elsewhere(now: Grant, after: Grant, end: FileEnd) -> Iterator[tuple[str, str]]:
    """Names by which a policy may narrow what the application can do."""
    named_twice = now.name != now.title
    for key, changed in (
        ("name", named_twice and now.name != after.name),
        ("title", named_twice and now.title != after.title),
        ("catalog_url", now.catalog not in {"", after.catalog}),
    ):
        if changed and key not in end.said:
            yield key, f"has no {key} any more"
    if now.organization not in {"", after.organization} and end.said.isdisjoint({"consumer_org", "consumer_org_url"}):
        yield "consumer_org_url", "has no consumer_org_url any more"
