"""Portal exports as files: the reply of `GET …/apps?expand=credentials`, in YAML or JSON.

Client secrets, hashed or not, are never read into anything.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from jwsgate.core.certificates import CertificateError, RegisteredCertificate, holds_private_key, read_certificate
from jwsgate.core.portal import Application, ClientId, Portal

from .documents import Document
from .problems import Finding, Location, Problem, Unfit, path_text
from .shapes import Algorithm, Shape, TolerantShape, check_shape, sound_items

__all__ = ["PortalShape", "build_portal"]

type ReadReference = Callable[[str], str]
"""Reads the text of a file that a document refers to; raises `Unfit`."""

# A schema-checking editor types an unquoted 0123 by YAML's rules; here it is the text 0123.
Text = Annotated[str, WithJsonSchema({"type": ["string", "integer", "number", "boolean"]})]


class CredentialShape(TolerantShape):
    """One credential of an application."""

    client_id: Annotated[Text, Field(min_length=1)]
    """What the client sends in X-IBM-Client-Id."""


class CertificateShape(Shape):
    """Extension: one of several certificates of an application; either its text or its file."""

    entry: Text | None = None
    """The certificate as text, like application_public_certificate_entry."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """The certificate's file, inside the folder of this export."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "CertificateShape":
        if bool(self.entry) == bool(self.file):
            raise Unfit("needs either entry or file", "keep one of the two")
        return self


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
    application_public_certificates: list[CertificateShape] | None = None
    """Extension: further certificates, so that one can be replaced while both are good."""
    application_jws_algorithms: Annotated[list[Algorithm], Field(min_length=1)] | None = None
    """Extension: the algorithms that this application may use, out of those that the policy allows."""

    @model_validator(mode="before")
    @classmethod
    def _no_misspelt_extension(cls, data: Any) -> Any:
        # Other keys are the portal's business; one that begins like ours and is not ours would limit nothing.
        for key in data if isinstance(data, dict) else ():
            if key.startswith(("application_jws", "application_public_certificate")) and key not in cls.model_fields:
                known = ", ".join(name for name in cls.model_fields if name.startswith("application_"))
                raise Unfit(f"has {key}, which is not a known key", f"known here: {known}")
        return data

    @field_validator("application_jws_algorithms", mode="before")
    @classmethod
    def _no_empty_extension(cls, value: object) -> object:
        # A portal writes null for its own fields. Here it is a slip, and must not lift a limit.
        if value is None:
            raise Unfit("is empty", "write a value, or remove the key")
        return value


class PortalShape(TolerantShape):
    """An export of the applications of a developer portal."""

    model_config = ConfigDict(title="jwsgate portal export")

    results: list[ApplicationShape]
    """The applications."""


class _Builder:
    def __init__(self, read_reference: ReadReference, keep_chains: bool) -> None:
        self.findings: list[Finding] = []
        self._owners: dict[str, list[Location]] = {}
        self._read_reference = read_reference
        self._keep_chains = keep_chains

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
            algorithms=frozenset(shape.application_jws_algorithms) if shape.application_jws_algorithms else None,
        )

    def _claim(self, place: Location, client_id: str) -> None:
        if client_id != client_id.strip() or not client_id.isprintable():
            self.findings.append((place, "has white space at an end or a control character", "remove it"))
        others = self._owners.setdefault(client_id, [])
        for other in others:
            # The application itself repeats the client ID of one of its credentials in some exports.
            if other[:2] != place[:2] or len(other) == len(place):
                message = f"is the client ID of {path_text(other)} too"
                self.findings.append((place, message, "a client ID names one credential: remove one"))
                break
        others.append(place)

    def _certificates(self, shape: ApplicationShape, location: Location) -> tuple[RegisteredCertificate, ...]:
        entry, file = shape.application_public_certificate_entry, shape.application_public_certificate_file
        place: Location = (*location, "application_public_certificate_entry")
        file_place: Location = (*location, "application_public_certificate_file")
        if entry and file:
            self.findings.append(
                (file_place, "stands beside application_public_certificate_entry", "keep one of the two")
            )
        found = [self._from_entry(entry, place), self._from_file(file, file_place)]
        for index, further in enumerate(shape.application_public_certificates or ()):
            place = (*location, "application_public_certificates", index)
            if further.entry is not None and not further.entry.strip():
                self.findings.append(((*place, "entry"), "is blank", "put the certificate there"))
            found.append(self._from_entry(further.entry, (*place, "entry")))
            found.append(self._from_file(further.file, (*place, "file")))
        by_thumbprint = {certificate.thumbprint: certificate for certificate in found if certificate is not None}
        return tuple(by_thumbprint.values())

    def _from_entry(self, text: str | None, place: Location) -> RegisteredCertificate | None:
        if text is None or not text.strip():
            return None  # the portal's field was left empty
        try:
            return read_certificate(text, keep_chain=self._keep_chains)
        except CertificateError as error:
            self.findings.append((place, str(error), error.remedy))
            return None

    def _from_file(self, name: str | None, place: Location) -> RegisteredCertificate | None:
        if name is None:
            return None
        try:
            text = self._read_reference(name)
        except Unfit as error:
            self.findings.append((place, str(error), error.remedy))
            return None
        if not text.strip():
            self.findings.append((place, f"names {name!r}, which is empty", "put the certificate into it"))
        return self._from_entry(text, place)


_PRIVATE_KEY_REMEDY: Final = "remove it, treat the key as disclosed, and register only the certificate"


def _private_keys(value: object, location: Location) -> list[Location]:
    """Every place in the export that holds a private key, whatever the field is called."""
    match value:
        case str():
            return [location] if holds_private_key(value) else []
        case dict():
            in_keys = [location for key in value if holds_private_key(key)]
            return in_keys + [found for key, item in value.items() for found in _private_keys(item, (*location, key))]
        case list():
            return [found for index, item in enumerate(value) for found in _private_keys(item, (*location, index))]
        case _:
            return []


def _readable(document: Document) -> tuple[list[tuple[int, ApplicationShape]], list[Finding]]:
    """Numbered applications and findings; of a broken document, the applications that are sound."""
    shape, findings = check_shape(PortalShape, document.data)
    if shape is not None:
        return list(enumerate(shape.results)), []
    data = document.data if isinstance(document.data, dict) else {}
    return sound_items(ApplicationShape, data.get("results")), findings


def build_portal(
    document: Document, read_reference: ReadReference, *, keep_chains: bool = False
) -> tuple[Portal | None, list[Problem]]:
    """The portal of one export, or every problem in it. `keep_chains` keeps what a CA check needs."""
    shapes, findings = _readable(document)
    builder = _Builder(read_reference, keep_chains)
    applications = tuple(builder.application(shape, ("results", index)) for index, shape in shapes)
    found = findings + builder.findings
    # Where a certificate is read, a private key in its place was found already.
    told = {location for location, message, _ in found if "private key" in message}
    found += [
        (place, "holds a private key", _PRIVATE_KEY_REMEDY)
        for place in _private_keys(document.data, ())
        if place not in told
    ]
    problems = [*document.problems, *document.problem_list(found)]
    return (None if problems else Portal(applications)), problems
