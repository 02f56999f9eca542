"""`jwsgate portal`: the developer portal's part for those who have none at hand."""

import datetime
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from jwsgate.core.certificates import RegisteredCertificate
from jwsgate.core.portal import Application, Portal
from jwsgate.core.portal_diff import diff_portals
from jwsgate.files.loading import read_portal
from jwsgate.files.portal_edit import Selected, is_last_usable, others_with, register, retire, select
from jwsgate.files.portal_file import PortalReading
from jwsgate.files.problems import ProblemsFound, Unfit, path_text, printable

from .manual import Manual

__all__ = ["portal_group"]

_EXIT_CODES = {0: "done", 1: "the export cannot be used, or has no such application", 2: "called wrongly"}
_DAY = 86400
_DURATION = re.compile(r"([0-9]{1,5})(d|h|m)")
_SECONDS = {"d": 86400, "h": 3600, "m": 60}


@click.group("portal")
def portal_group() -> None:
    """Look into a portal export and register certificates in it."""


def _portal_option[**P](command: Callable[P, None]) -> Callable[P, None]:
    return click.option(
        "--portal",
        envvar="JWSGATE_PORTAL",
        show_envvar=True,
        metavar="PATH",
        required=True,
        help="Portal export: a file, or a folder of them.",
    )(command)


def _telling[**P](command: Callable[P, None]) -> Callable[P, None]:
    """A command whose failures are told in words."""

    @wraps(command)
    def told(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except ProblemsFound as error:
            raise click.ClickException(f"the portal cannot be used:\n{error}") from None
        except Unfit as error:
            raise click.ClickException(printable(f"{error} ({error.remedy})")) from None
        except OSError as error:
            if error.filename is None:
                raise  # what is printed cannot be written
            raise click.ClickException(printable(f"{error.filename}: {error.strerror}")) from None

    return told


def _now() -> float:
    return time.time()  # noqa: TID251 - no decision depends on it


def _load(path: str) -> PortalReading:
    reading = read_portal(Path(path))
    if reading.problems:
        raise ProblemsFound(reading.problems)
    return reading


def _date(when: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "never"


def _days(certificate: RegisteredCertificate, now: float) -> str:
    if now < certificate.not_before:
        return f"from {_date(certificate.not_before)}"
    left = int((certificate.not_after - now) // _DAY)
    return "expired" if certificate.not_after < now else str(left)


def _title(application: Application) -> str:
    return application.title or "(unnamed)"


def _rows(portal: Portal, now: float) -> Iterator[Sequence[str]]:
    for application in portal.applications:
        certificates = application.certificates
        first = (
            _title(application),
            application.status,
            "/".join(filter(None, (application.catalog, application.organization))),
        )
        for number in range(max(1, len(application.client_ids), len(certificates))):
            one = certificates[number] if number < len(certificates) else None
            yield (
                *(first if number == 0 else ("", "", "")),
                application.client_ids[number] if number < len(application.client_ids) else "",
                one.thumbprint[:16] if one else "" if number else "none",
                _days(one, now) if one else "",
            )


def _as_data(reading: PortalReading, number: int, now: float) -> dict[str, Any]:
    application = reading.portal.applications[number]
    raw = reading.raw(reading.builder.origins[number])
    return {
        "name": application.name,
        "title": application.title,
        "enabled": application.enabled,
        "state": application.status,
        "catalog": application.catalog,
        "organization": application.organization,
        "lifecycle_state": raw.get("lifecycle_state"),
        "metadata": raw.get("metadata"),
        "client_ids": list(application.client_ids),
        "algorithms": sorted(application.algorithms) if application.algorithms else None,
        "certificates": [
            {
                "thumbprint": certificate.thumbprint,
                "subject": certificate.subject,
                "key": f"{certificate.key.kind} {certificate.key.bits}",
                "not_before": _date(certificate.not_before),
                "not_after": _date(certificate.not_after),
                "days_left": int((certificate.not_after - now) // _DAY),
            }
            for certificate in application.certificates
        ],
    }


@portal_group.command(
    "list",
    cls=Manual,
    examples={
        "jwsgate portal list --portal portal.yaml": "A table, for people.",
        "jwsgate portal list --portal exports --format json | jq '.[].client_ids'": "The same for programs.",
    },
    exit_codes=_EXIT_CODES,
)
@_portal_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to tell: for people or for programs.",
)
@_telling
def list_command(portal: str, form: str) -> None:
    """List applications and their certificates.

    With client IDs, thumbprints, and the days that certificates have left.
    """
    now, found = _now(), _load(portal)
    if form == "json":
        numbers = range(len(found.portal.applications))
        click.echo(json.dumps([_as_data(found, number, now) for number in numbers], indent=2))
        return
    heads = ("application", "state", "organization", "client ID", "thumbprint", "days left")
    rows = [heads, *([printable(cell) for cell in row] for row in _rows(found.portal, now))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@portal_group.command(
    "show",
    cls=Manual,
    examples={"jwsgate portal show --portal portal.yaml 479b3df9-380e-4bda-8cc1-92718c88f9cd": "By client ID."},
    exit_codes=_EXIT_CODES,
)
@_portal_option
@click.argument("application")
@_telling
def show_command(portal: str, application: str) -> None:
    """Show one application, and where it stands.

    APPLICATION is a client ID, a name or a title.
    """
    selected = select(Path(portal), application)
    origin = selected.origin
    place = selected.reading.documents[origin.file].locate([origin.location])[origin.location]
    data = _as_data(selected.reading, selected.number, _now())
    data["at"] = f"{origin.file}:{place[0]}:{place[1]}: {path_text(origin.location)}"
    click.echo(json.dumps(data, indent=2))


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = _DURATION.fullmatch(value)
    if match is None:
        raise click.BadParameter("write a number of days, hours or minutes: 14d, 12h, 30m")
    return int(match[1]) * _SECONDS[match[2]]


@portal_group.command(
    "register",
    cls=Manual,
    examples={
        "jwsgate portal register --portal portal.yaml orders next.pem --overlap 14d": "Both are good for 14 days.",
        "openssl x509 -in next.der -inform der | jwsgate portal register --portal portal.yaml orders -": "From a pipe.",
    },
    exit_codes=_EXIT_CODES,
)
@_portal_option
@click.argument("application")
@click.argument("certificate", type=click.File("r", encoding="ascii", errors="replace"))
@click.option(
    "--overlap",
    metavar="TIME",
    callback=_seconds,
    help="After this time (14d, 12h, 30m) its former certificates are not used any more; if not said, they stay good.",
)
@_telling
def register_command(portal: str, application: str, certificate: Any, overlap: float | None) -> None:
    """Register a certificate for an application.

    APPLICATION is a client ID, a name or a title, CERTIFICATE a PEM file, or - for standard input. It comes beside
    those that the application has. The export is changed in place, at once and whole; comments and order stay.
    """
    selected = select(Path(portal), application)
    thumbprint = register(selected, certificate.read(), _now(), overlap=overlap)
    click.echo(f"registered {thumbprint} for {_called(selected)}")
    if others := others_with(selected, thumbprint):
        _note(f"{', '.join(others)} has it too: each can sign for the other")


@portal_group.command(
    "retire",
    cls=Manual,
    examples={"jwsgate portal retire --portal portal.yaml orders 3f9a": "The one whose thumbprint begins so."},
    exit_codes=_EXIT_CODES,
)
@_portal_option
@click.argument("application")
@click.argument("thumbprint")
@_telling
def retire_command(portal: str, application: str, thumbprint: str) -> None:
    """Remove a certificate of an application.

    APPLICATION is a client ID, a name or a title, THUMBPRINT the beginning of one that `jwsgate portal list` shows.
    """
    selected = select(Path(portal), application)
    whole = retire(selected, thumbprint)
    click.echo(f"retired {whole} of {_called(selected)}")
    if is_last_usable(selected, whole, _now()):
        _note("that was the last one that can be used now: requests of the application are refused")


def _note(text: str) -> None:
    click.echo(printable(f"note: {text}"), err=True)


def _called(selected: Selected) -> str:
    return printable(selected.application.title or "the application")


def _besides(before: PortalReading, after: PortalReading) -> dict[Sequence[str], tuple[str, Sequence[str]]]:
    """What is different in what the gate does not read: by its client IDs, an application's title and details."""
    found: dict[Sequence[str], tuple[str, Sequence[str]]] = {}
    for application, origin in zip(after.portal.applications, after.builder.origins, strict=True):
        numbers = (before.portal.index.get(one.encode("utf-8")) for one in application.client_ids)
        number = next((one for one in numbers if one is not None), None)
        if number is not None:
            old, new = before.raw(before.builder.origins[number]), after.raw(origin)
            details = [
                f"{key} {old.get(key)!r} -> {new.get(key)!r}"
                for key in ("lifecycle_state", "metadata")
                if old.get(key) != new.get(key)
            ]
            if details:
                found[application.client_ids] = _title(application), details
    return found


@portal_group.command(
    "diff",
    cls=Manual,
    examples={"jwsgate portal diff yesterday.yaml portal.yaml": "Who came, who went, whose certificates changed."},
    exit_codes={0: "they mean the same", 1: "they differ, or one cannot be used", 2: "called wrongly"},
)
@click.argument("before")
@click.argument("after")
@_telling
def diff_command(before: str, after: str) -> None:
    """Compare two exports by meaning.

    BEFORE and AFTER are files, or folders of them.
    """
    old, new = _load(before), _load(after)
    diff, besides = diff_portals(old.portal, new.portal), _besides(old, new)
    for sign, applications in (("+", diff.added), ("-", diff.removed)):
        for application in applications:
            click.echo(
                printable(
                    f"{sign} {application.title or '(unnamed)'} ({', '.join(application.client_ids) or 'no client ID'})"
                )
            )
    differ = bool(diff.added or diff.removed or diff.changed or besides)
    for change in diff.changed:
        details = [*change.details(), *besides.pop(change.after.client_ids, ("", ()))[1]]
        click.echo(printable(f"~ {_title(change.after)}: {'; '.join(details)}"))
    for title, more in besides.values():
        click.echo(printable(f"~ {title}: {'; '.join(more)}"))
    sys.exit(differ)
