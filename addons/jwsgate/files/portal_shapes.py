"""The shape of portal exports: what is read of them, as pydantic models."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from .problems import Finding, Unfit
from .shapes import Algorithm, Shape, TolerantShape, check_shape, sound_items

__all__ = [
    "ApplicationShape",
    "CertificateShape",
    "CredentialShape",
    "Kept",
    "PortalShape",
    "check_application",
    "is_empty",
    "unix_seconds",
]

# A schema-checking editor types an unquoted 0123 by YAML's rules; here it is the text 0123.
Text = Annotated[str, WithJsonSchema({"type": ["string", "integer", "number", "boolean"]})]


def unix_seconds(text: str, *, end: bool) -> float:
    """An RFC 3339 time, or a date (its first second, or with `end` its last), as Unix seconds; raises `Unfit`."""
    try:
        if len(text) == 10:
            day = datetime.datetime.combine(datetime.date.fromisoformat(text), datetime.time(), datetime.UTC)
            return day.timestamp() + (86399 if end else 0)
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        return time.timestamp()
    except (ValueError, OverflowError):
        raise Unfit("is not a time", "write 2027-01-31 or 2027-01-31T12:00:00Z") from None


def _checked_time(value: str | None) -> str | None:
    if value is not None:
        unix_seconds(value, end=False)
    return value


def _window(start: str | None, end: str | None) -> tuple[float | None, float | None]:
    return (
        None if start is None else unix_seconds(start, end=False),
        None if end is None else unix_seconds(end, end=True),
    )


def is_empty(window: tuple[float | None, float | None]) -> bool:
    """Whether a window ends before it begins."""
    start, end = window
    return start is not None and end is not None and end < start


class CredentialShape(TolerantShape):
    """One credential of an application."""

    client_id: Annotated[Text, Field(min_length=1)]
    """What the client sends in X-IBM-Client-Id."""
    app_url: str | None = None
    """The URL of its application, where credentials stand apart from applications."""
    url: Any = None
    """Its own URL, beneath that of its application."""


class CertificateShape(Shape):
    """Extension: one of several certificates of an application; either its text or its file."""

    entry: Text | None = None
    """The certificate as text, like application_public_certificate_entry."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """The certificate's file, inside the folder of this export."""
    not_before: str | None = None
    """It is not used before this time, an RFC 3339 time or a date (UTC); its own validity holds as well."""
    not_after: str | None = None
    """It is not used after this time, an RFC 3339 time or a date (UTC, that day included)."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "CertificateShape":
        if bool(self.entry) == bool(self.file):
            raise Unfit("needs either entry or file", "keep one of the two")
        return self

    @field_validator("not_before", "not_after")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        return _checked_time(value)

    @model_validator(mode="after")
    def _in_order(self) -> "CertificateShape":
        if is_empty(self.window):
            raise Unfit("has not_after before not_before", "exchange the two")
        return self

    @property
    def window(self) -> tuple[float | None, float | None]:
        """When it is to be used, in Unix seconds."""
        return _window(self.not_before, self.not_after)


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
    application_public_certificate_not_before: str | None = None
    """Extension: neither entry nor file are used before this time, an RFC 3339 time or a date (UTC)."""
    application_public_certificate_not_after: str | None = None
    """Extension: neither entry nor file are used after this time, or this day (UTC)."""
    application_public_certificates: list[CertificateShape] | None = None
    """Extension: further certificates, so that one can be replaced while both are good."""
    application_jws_algorithms: Annotated[list[Algorithm], Field(min_length=1)] | None = None
    """Extension: the algorithms that this application may use, out of those that the policy allows."""
    url: Any = None
    """Its URL, which credentials that stand apart refer to."""
    catalog_url: Any = None
    """The URL of its catalog."""
    consumer_org_url: Any = None
    """The URL of its consumer organization."""
    consumer_org: Any = None
    """Its consumer organization, where the export was made with expand=consumer_org."""
    app_credentials: Any = None
    """Credentials, as a portal snapshot has them."""

    @model_validator(mode="before")
    @classmethod
    def _no_misspelt_extension(cls, data: Any) -> Any:
        # Other keys are the portal's business; one that begins like ours and is not ours would limit nothing.
        for key in data if isinstance(data, dict) else ():
            if key[:12] == "application_" and (
                key.startswith(("application_jws", "application_public_certificate")) and key not in cls.model_fields
            ):
                known = ", ".join(name for name in cls.model_fields if name.startswith("application_"))
                raise Unfit(f"has {key}, which is not a known key", f"known here: {known}")
        return data

    @field_validator(
        "application_jws_algorithms",
        "application_public_certificate_not_before",
        "application_public_certificate_not_after",
        mode="before",
    )
    @classmethod
    def _no_empty_extension(cls, value: object) -> object:
        # A portal writes null for its own fields. Here it is a slip, and must not lift a limit.
        if value is None:
            raise Unfit("is empty", "write a value, or remove the key")
        return value

    @field_validator("application_public_certificate_not_before", "application_public_certificate_not_after")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        return _checked_time(value)

    @property
    def status(self) -> str:
        """State and suspension in one, as `Application.status` has them."""
        if not self.is_suspended:
            return self.state
        return "suspended" if self.state == "enabled" else f"{self.state}, suspended"

    @property
    def window(self) -> tuple[float | None, float | None]:
        """When entry and file are to be used, in Unix seconds."""
        return _window(self.application_public_certificate_not_before, self.application_public_certificate_not_after)


type Kept = Mapping[str, Sequence[int]]
"""Of lists that were not kept as a whole, which items were."""


def check_application(value: object) -> tuple[ApplicationShape | None, Kept, list[Finding]]:
    """An application and every problem of its shape; of one that has some, what is sound, to look for others in it."""
    shape, findings = check_shape(ApplicationShape, value)
    kept: Kept = {}
    for _ in range(2):  # a misspelt key of ours hides the other problems from the first look
        if shape is None and isinstance(value, dict):
            sound, kept = _sound_part(value, findings)
            shape, more = check_shape(ApplicationShape, sound)
            findings += more
    return shape, kept, findings


def _sound_part(value: dict[str, Any], findings: list[Finding]) -> tuple[dict[str, Any], Kept]:
    bad = {location[0] for location, _, _ in findings if location}
    sound = {key: item for key, item in value.items() if key in ApplicationShape.model_fields and key not in bad}
    kept = {}
    lists: tuple[tuple[str, type[BaseModel]], ...] = (
        ("credentials", CredentialShape),
        ("application_public_certificates", CertificateShape),
    )
    for key, kind in lists:
        if key in bad:
            kept[key] = [number for number, _ in sound_items(kind, value.get(key))]
            sound[key] = [value[key][number] for number in kept[key]]
    return sound, kept


class PortalShape(TolerantShape):
    """An export of the applications of a developer portal. It may also be one application, or a list of them."""

    model_config = ConfigDict(title="jwsgate portal export")

    total_results: Any = None
    """How many applications there are; more than follow means that pages are missing."""
    results: list[ApplicationShape] | None = None
    """The applications, as GET …/apps answers them; credentials, as GET …/credentials answers them."""
    apps: list[ApplicationShape] | None = None
    """The applications of a portal snapshot."""
    credentials: list[CredentialShape] | None = None
    """The credentials of a portal snapshot, joined to applications by app_url."""
    consumer_orgs: list[dict[str, Any]] | None = None
    """The consumer organizations of a portal snapshot."""
