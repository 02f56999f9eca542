"""Applications and credentials of one or several exports, put together into one portal.

Client secrets, hashed or not, are never read into anything.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from jwsgate.core.certificates import CertificateError, check_certificate
from jwsgate.core.cut_short import DECIDING, LIMITS
from jwsgate.core.packed import PackedApplications, Registration, pack, with_organization
from jwsgate.core.portal import FileEnd, Portal

from .portal_items import OF_APPLICATIONS, is_credential, is_list_of_credentials, last_segment, list_of, plain_path
from .portal_shapes import ApplicationShape, CredentialShape, Kept, check_application, is_empty
from .problems import Finding, Location, Unfit, path_text
from .shapes import check_shape
from .streams import Irregular, Unit

__all__ = ["Origin", "PortalBuilder", "ReadReference"]

type ReadReference = Callable[[str, str], str]
"""Reads the text of a file, given the document that refers to it and the name; raises `Unfit`."""

_ANY_TIME: Final = (None, None)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an application came from, for those who tell people about it."""

    file: str
    location: Location
    registrations: list[tuple[Location, Registration]]
    credentials: list[tuple[str, Location, str]]
    """File, location and client ID."""


def _numbered[T](key: str, items: Sequence[T], kept: Kept) -> Iterable[tuple[int, T]]:
    """The items of a list with their numbers in the file."""
    return zip(kept[key], items, strict=True) if key in kept else enumerate(items)


class PortalBuilder:
    """Takes in one file after the other. Quick and without a word of explanation, unless `thorough`."""

    def __init__(self, read_reference: ReadReference, *, keep_chains: bool = False, thorough: bool = False) -> None:
        self.findings: dict[str, list[Finding]] = {}
        """What is wrong, by file; when thorough, for otherwise the first thing wrong raises `Irregular`."""
        self.origins: list[Origin] = []
        """One for each application, when thorough."""
        self.orphans: list[tuple[str, Location, str]] = []
        """Credentials whose application is in none of the files: file, location, client ID."""
        self.lacks_pages = False
        """Whether a file says that there are more applications."""
        self._read_reference = read_reference
        self._keep_chains = keep_chains
        self._thorough = thorough
        self._file = ""
        self._records: list[bytes] = []
        self._client_ids: list[str] = []
        self._index: dict[bytes, int] = {}
        self._owners: dict[str, list[tuple[str, Location, int]]] = {}
        self._urls: list[object] = []
        self._organizations: dict[str, str] = {}
        self._by_url: dict[int, str] = {}
        self._apart: list[tuple[str, Location, CredentialShape]] = []
        self._pages: list[tuple[str, tuple[str, str, str, int], int]] = []
        self._ends: list[FileEnd] = []

    def _find(self, location: Location, message: str, remedy: str, file: str | None = None) -> None:
        if not self._thorough:
            raise Irregular
        self.findings.setdefault(file or self._file, []).append((location, message, remedy))

    def _shape[S: (ApplicationShape, CredentialShape)](
        self, kind: type[S], value: object, location: Location
    ) -> S | None:
        if not self._thorough:
            try:
                return kind.model_validate(value)
            except ValidationError:
                raise Irregular from None
        shape, findings = check_shape(kind, value)
        self._find_all(location, findings)
        return shape

    def _find_all(self, location: Location, findings: list[Finding]) -> None:
        for place, message, remedy in findings:
            self._find((*location, *place), message, remedy)

    # Files

    def add(self, file: str, units: Iterable[Unit], end: FileEnd | None = None) -> None:
        """Take in one file; `end` is its end if the syntax would not tell that more should follow."""
        self._file = file
        rest: dict[str, Any] = {}
        count = 0
        first: Any = None
        said: Counter[str] = Counter()
        last: dict[str, Any] | None = None
        for location, value in units:
            last = None
            top = location[0] if location else None
            if value == [] and top is None:
                rest[""] = value
            elif top is None:
                empty = value is None
                self._find((), "is empty" if empty else "is not a mapping", "write the applications below results:")
                return
            elif len(location) == 2 and top not in {"results", "apps"}:
                rest.setdefault(str(top), []).append(value)
            elif len(location) == 1 and isinstance(top, str):
                rest[top] = value
            else:
                rest.setdefault(str(top) if len(location) == 2 else "", [])
                if not count:
                    first = value
                count += 1
                if self._item(value, location):
                    said.update(key for key in LIMITS if key in value)
                    said[""] += 1
                    last = value
        number = len(self._records)
        self._rest(rest, count, first)
        if end is None:
            return
        if len(self._records) > number:
            last, location = rest, ()
        if last is not None:
            others = said[""] - 1
            lacking = [key for key in LIMITS if 0 < others == said[key] and key not in last]
            end = replace(
                end,
                path=path_text(location),
                number=len(self._records) - 1,
                # What stands last in a line without an end may be half of it.
                said=DECIDING.intersection(list(last)[: None if end.is_closed else -1]),
                lacking=frozenset(lacking),
            )
        self._ends.append(end)

    def _rest(self, rest: dict[str, Any], count: int, first: Any) -> None:
        """What a file has at its top besides applications; or the one application that it is."""
        for key in ("results", "apps"):
            if key in rest and not isinstance(rest[key], list):
                empty = rest[key] is None
                self._find((key,), "is empty" if empty else "is not a list", "write a list, one - a line")
        total = rest.get("total_results")
        if "results" in rest and isinstance(total, str) and total.isascii() and total.isdigit():
            self._pages.append((self._file, (*list_of(self._file, first), int(total[:9])), count))
        if not rest.keys().isdisjoint({"results", "apps", "consumer_orgs"}) or is_list_of_credentials(rest):
            self._snapshot(rest)
        elif is_credential(rest):
            self._credential(rest, ())
        elif rest.get("type") == "app" or ("type" not in rest and not OF_APPLICATIONS.isdisjoint(rest)):
            self._application(rest, ())
        elif not count and rest.keys().isdisjoint({"type", "", "$schema"}):
            self._find(("results",), "is missing", "add it")

    def _snapshot(self, rest: dict[str, Any]) -> None:
        """The other lists of a portal snapshot."""
        for key in ("credentials", "app_credentials"):
            items = rest.get(key)
            for index, item in enumerate(items if isinstance(items, list) else ()):
                self._credential(item, (key, index))
        organizations = rest.get("consumer_orgs")
        for item in organizations if isinstance(organizations, list) else ():
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                self._organizations[plain_path(item.get("url"))] = item["name"]

    def _item(self, item: Any, location: Location) -> bool:
        """Take in an item of a list; whether it is an application."""
        kind = item.get("type", "app") if isinstance(item, dict) else "app"
        if is_credential(item):
            self._credential(item, location)
        elif kind == "app":
            self._application(item, location)
            return isinstance(item, dict)
        return False  # subscriptions, products and the like: a folder may hold more than applications

    # Applications

    def _application(self, value: Any, location: Location) -> None:
        shape, kept = self._application_shape(value, location)
        if shape is None:
            return
        number = len(self._records)
        found = self._found_client_ids(shape, location, kept)
        client_ids: list[str] = []
        for place, client_id in found:
            self._claim(place, client_id, number)
            if client_id not in client_ids:
                client_ids.append(client_id)
        registrations = self._registrations(shape, location, kept)
        self._records.append(
            pack(
                shape.name or shape.title or "",
                shape.title or shape.name or "",
                shape.status,
                [registration for _, registration in registrations],
                shape.application_jws_algorithms,
                last_segment(shape.catalog_url),
                self._organization(shape, number),
            )
        )
        self._client_ids.append("\n".join(client_ids))  # no client ID has a line break: see _claim
        self._urls.append(shape.url)
        if self._thorough:
            self.origins.append(Origin(self._file, location, registrations, [(self._file, *one) for one in found]))

    def _application_shape(self, value: Any, location: Location) -> tuple[ApplicationShape | None, Kept]:
        """An application; of one with problems all that is sound, for there may be more to tell of."""
        if not self._thorough:
            return self._shape(ApplicationShape, value, location), {}
        shape, kept, findings = check_application(value)
        self._find_all(location, findings)
        return shape, kept

    def _found_client_ids(self, shape: ApplicationShape, location: Location, kept: Kept) -> list[tuple[Location, str]]:
        """Every client ID that an application itself shows, with its place."""
        own, credentials = shape.client_id, shape.credentials or ()
        if not self._thorough and shape.app_credentials is None:
            ids = [credential.client_id for credential in credentials]
            if len(ids) > 1 and len(set(ids)) < len(ids):
                raise Irregular
            return [((), client_id) for client_id in ([own, *ids] if own and own not in ids else ids)]
        found = [((*location, "client_id"), own)] if own else []
        found += [
            ((*location, "credentials", index, "client_id"), credential.client_id)
            for index, credential in _numbered("credentials", credentials, kept)
        ]
        for index, item in enumerate(shape.app_credentials if isinstance(shape.app_credentials, list) else ()):
            place: Location = (*location, "app_credentials", index)
            # A snapshot may have URLs here in place of the credentials.
            credential = self._shape(CredentialShape, item, place) if isinstance(item, dict) else None
            if credential is not None:
                found.append(((*place, "client_id"), credential.client_id))
        return found

    def _organization(self, shape: ApplicationShape, number: int) -> str:
        expanded = shape.consumer_org.get("name") if isinstance(shape.consumer_org, dict) else None
        if isinstance(expanded, str):
            return expanded
        if isinstance(shape.consumer_org_url, str):
            self._by_url[number] = shape.consumer_org_url
        return last_segment(shape.consumer_org_url)

    def _claim(self, place: Location, client_id: str, number: int) -> None:
        if client_id != client_id.strip() or not client_id.isprintable():
            self._find(place, "has white space at an end or a control character", "remove it")
        octets = client_id.encode("utf-8")
        owner = self._index.setdefault(octets, number)
        if not self._thorough:
            if owner != number:
                raise Irregular
            return
        others = self._owners.setdefault(client_id, [])
        for file, other, other_number in others:
            # The application itself repeats the client ID of one of its credentials in some exports.
            if other_number != number or len(other) == len(place):
                where = path_text(other) + (f" in {file}" if file != self._file else "")
                self._find(place, f"is the client ID of {where} too", "a client ID names one credential: remove one")
                break
        others.append((self._file, place, number))

    # Certificates

    def _registrations(
        self, shape: ApplicationShape, location: Location, kept: Kept
    ) -> list[tuple[Location, Registration]]:
        entry, file = shape.application_public_certificate_entry, shape.application_public_certificate_file
        place: Location = (*location, "application_public_certificate_entry")
        if file is None and shape.application_public_certificates is None and shape.window == _ANY_TIME:
            registration = self._from_entry(entry, place)  # as nearly always
            return [] if registration is None else [(place, registration)]
        file_place: Location = (*location, "application_public_certificate_file")
        if entry and file:
            self._find(file_place, "stands beside application_public_certificate_entry", "keep one of the two")
        window = shape.window
        if is_empty(window):
            self._find((*location, "application_public_certificate_not_after"), "is before not_before", "exchange them")
        found = [(place, self._from_entry(entry, place)), (file_place, self._from_file(file, file_place))]
        if window != _ANY_TIME:
            found = [(place, one and Registration(one.ders, *window)) for place, one in found]
        key = "application_public_certificates"
        for index, further in _numbered(key, shape.application_public_certificates or (), kept):
            place = (*location, key, index)
            if further.entry is not None and not further.entry.strip():
                self._find((*place, "entry"), "is blank", "put the certificate there")
            for name, ders in (
                ("entry", self._from_entry(further.entry, (*place, "entry"))),
                ("file", self._from_file(further.file, (*place, "file"))),
            ):
                found.append(((*place, name), ders and Registration(ders.ders, *further.window)))
        unique: dict[bytes, tuple[Location, Registration]] = {}
        for place, registration in found:
            if registration is not None:
                former = unique.setdefault(registration.ders[0], (place, registration))
                if former[1][1:] != registration[1:]:
                    message = f"is the certificate of {path_text(former[0])}, with other times"
                    self._find(place, message, "register each certificate once")
        return list(unique.values())

    def _from_entry(self, text: str | None, place: Location) -> Registration | None:
        if text is None or not text.strip():
            return None  # the portal's field was left empty
        try:
            ders = check_certificate(text)
        except CertificateError as error:
            self._find(place, str(error), error.remedy)
            return None
        return Registration(ders if self._keep_chains else ders[:1])

    def _from_file(self, name: str | None, place: Location) -> Registration | None:
        if name is None:
            return None
        try:
            text = self._read_reference(self._file, name)
        except Unfit as error:
            self._find(place, str(error), error.remedy)
            return None
        if not text.strip():
            self._find(place, f"names {name!r}, which is empty", "put the certificate into it")
        return self._from_entry(text, place)

    # Credentials that stand apart

    def _credential(self, item: Any, location: Location) -> None:
        shape = self._shape(CredentialShape, item, location)
        if shape is not None:
            self._apart.append((self._file, location, shape))

    def _join(self) -> None:
        numbers: dict[str, int] = {}
        for number, url in enumerate(self._urls if self._apart else ()):
            path = plain_path(url)
            if path and numbers.setdefault(path, number) != number:
                origin = self.origins[number] if self._thorough else None
                place, file = (origin.location, origin.file) if origin else ((), None)
                self._find((*place, "url"), "is the URL of another application too", "keep one of the two", file)
        for file, location, shape in self._apart:
            self._file = file
            # A credential's own URL lies beneath that of its application, should it not name it.
            url = shape.app_url or (shape.url.partition("/credentials/")[0] if isinstance(shape.url, str) else "")
            number = numbers.get(plain_path(url), -1)
            if number < 0:
                self.orphans.append((file, location, shape.client_id))
            elif shape.client_id not in (own := self._client_ids[number].splitlines()):
                self._claim((*location, "client_id"), shape.client_id, number)
                self._client_ids[number] = "\n".join([*own, shape.client_id])
                if self._thorough:
                    self.origins[number].credentials.append((file, (*location, "client_id"), shape.client_id))

    def _check_pages(self) -> None:
        short = [page for page in self._pages if page[2] < page[1][-1]]
        present: Counter[tuple[str, str, str, int]] = Counter()
        for _, pages, count in short:
            present[pages] += count
        for file, pages, count in short:
            if present[pages] < (total := pages[-1]):
                self.lacks_pages = True
                message = f"is {total}, but only {count} follow: pages are missing, or the file was cut short"
                self._find(("total_results",), message, "export all pages, into one file or beside this one", file)

    # The end

    def portal(self) -> Portal:
        """All of it, once every file is in; of use only when nothing was found wrong."""
        self._join()
        self._check_pages()
        nameless = len(self._by_url)
        if self._organizations:
            for number, url in self._by_url.items():
                if name := self._organizations.get(plain_path(url)):
                    self._records[number] = with_organization(self._records[number], name)
                    nameless -= 1
        known = len(self._organizations)
        ends = [replace(end, nameless=nameless, organizations=known) for end in self._ends]
        applications = PackedApplications(self._records, self._client_ids, keep_chains=self._keep_chains)
        return Portal(applications, self._index, tuple(ends))
