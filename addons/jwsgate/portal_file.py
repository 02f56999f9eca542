"""Portal exports as files: the reply of `GET …/apps?expand=credentials`, in YAML or JSON.

Client secrets, hashed or not, are never read into anything.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from .certificates import CertificateError, RegisteredCertificate, holds_private_key, read_certificate
from .documents import Document
from .portal import Application, ClientId, Portal
from .problems import Location, Problem, path_text
from .shapes import TolerantShape, check_shape

__all__ = ["PortalShape", "build_portal"]

type ReadReference = Callable[[str], str]
"""Reads the text of a file that a document refers to; raises `ValueError` with "message; remedy"."""

# A schema-checking editor types an unquoted 0123 by YAML's rules; here it is the text 0123.
Text = Annotated[str, WithJsonSchema({"type": ["string", "integer", "number", "boolean"]})]


class CredentialShape(TolerantShape):
    """One credential of an application."""

    client_id: Annotated[Text, Field(min_length=1)]
    """What the client sends in X-IBM-Client-Id."""


class ApplicationShape(TolerantShape):
    """One application, as API Connect names its fields; all others are ignored."""

    name: Text | None = None
    """The name in URLs."""
    title: Text | None = None
    """The name shown to people."""
    state: Literal["enabled", "disabled", "pending"] = "enabled"
    """Only an enabled application may call."""
    is_suspended: bool = False
    """A suspended application may not call."""
    client_id: Text | None = None
    """A client ID of the application itself, besides its credentials."""
    credentials: list[CredentialShape] | None = None
    """Each credential identifies the application."""
    application_public_certificate_entry: Text | None = None
    """The X.509 certificate as pasted into the portal: PEM, or base64 of the DER. Absent or empty: none."""
    application_public_certificate_file: Annotated[str, Field(min_length=1)] | None = None
    """Extension: the certificate's file, inside the folder of this export, in place of the entry."""


class PortalShape(TolerantShape):
    """An export of the applications of a developer portal."""

    model_config = ConfigDict(title="jwsgate portal export")

    results: list[ApplicationShape]
    """The applications."""


class _Builder:
    def __init__(self, document: Document, read_reference: ReadReference) -> None:
        self.findings: list[tuple[Location, str, str]] = []
        self._owners: dict[str, Location] = {}
        self._read_reference = read_reference
        self._document = document

    def application(self, shape: ApplicationShape, location: Location) -> Application:
        found = [((*location, "client_id"), shape.client_id)] if shape.client_id else []
        found += [
            ((*location, "credentials", index, "client_id"), credential.client_id)
            for index, credential in enumerate(shape.credentials or ())
        ]
        client_ids: list[ClientId] = []
        for place, client_id in found:
            self._claim(place, client_id)
            if client_id not in client_ids:
                client_ids.append(ClientId(client_id))
        return Application(
            name=shape.name or shape.title or "",
            title=shape.title or shape.name or "",
            enabled=shape.state == "enabled" and not shape.is_suspended,
            client_ids=tuple(client_ids),
            certificates=self._certificates(shape, location),
        )

    def _claim(self, place: Location, client_id: str) -> None:
        if client_id != client_id.strip() or not client_id.isprintable():
            self.findings.append((place, "has white space at an end or a control character", "remove it"))
        other = self._owners.setdefault(client_id, place)
        # The application itself repeats the client ID of one of its credentials in some exports.
        if other != place and (other[:2] != place[:2] or len(other) == len(place)):
            self.findings.append(
                (
                    place,
                    f"is the client ID of {path_text(other)} too",
                    "a client ID names one credential: remove one",
                )
            )

    def _certificates(self, shape: ApplicationShape, location: Location) -> tuple[RegisteredCertificate, ...]:
        place: Location = (*location, "application_public_certificate_entry")
        text = shape.application_public_certificate_entry
        if shape.application_public_certificate_file is not None:
            place = (*location, "application_public_certificate_file")
            if text:
                self.findings.append(
                    (place, "stands beside application_public_certificate_entry", "keep one of the two")
                )
                return ()
            try:
                text = self._read_reference(shape.application_public_certificate_file)
            except ValueError as error:
                message, _, remedy = str(error).partition("; ")
                self.findings.append((place, message, remedy))
                return ()
        if text is None or not text.strip():
            return ()
        try:
            return (read_certificate(text),)
        except CertificateError as error:
            self.findings.append((place, str(error), error.remedy))
            return ()


def _private_keys(value: object, location: Location) -> list[Location]:
    """Every place in the export that holds a private key, whatever the field is called."""
    match value:
        case str():
            return [location] if holds_private_key(value) else []
        case dict():
            return [found for key, item in value.items() for found in _private_keys(item, (*location, key))]
        case list():
            return [found for index, item in enumerate(value) for found in _private_keys(item, (*location, index))]
        case _:
            return []


def build_portal(document: Document, read_reference: ReadReference) -> tuple[Portal | None, list[Problem]]:
    """The portal of one export, or every problem in it."""
    problems = list(document.problems)
    shape, shape_problems = check_shape(PortalShape, document)
    problems += shape_problems
    builder = _Builder(document, read_reference)
    if b"PRIVATE" in document.octets:
        entry = "application_public_certificate_entry"
        builder.findings += [
            (
                place,
                "holds a private key",
                "remove it, treat the key as disclosed, and register only the certificate",
            )
            for place in _private_keys(document.data, ())
            if place[-1] != entry or shape is None
        ]
    applications: tuple[Application, ...] = ()
    if shape is not None:
        applications = tuple(
            builder.application(application, ("results", index)) for index, application in enumerate(shape.results)
        )
    problems += document.problem_list(builder.findings)
    if problems:
        return None, problems
    return Portal(applications), []
