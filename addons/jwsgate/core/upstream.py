"""What the upstream is told of who called, in HTTP headers, and what is taken off the request.

Rule 1. Only what was verified is told: the headers are made together with `Allowed`, from nothing else.
Rule 2. Every header that any route adds is dropped from what came in, in every spelling, on every route, so that
        nobody but the gate can write it. So are look-alikes of the headers that frame a message.
Rule 3. A value reads back in one way: what is no printable ASCII, and `%` itself, is written as % and two hex digits
        (of its UTF-8). What is no text, number or truth value, or too long, is refused.
"""

import base64
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_from_bytes

from .certificates import RegisteredCertificate
from .portal import Application, ClientId
from .reasons import Reason, Rejection

__all__ = [
    "MAX_JSON_OCTETS",
    "MAX_VALUE_OCTETS",
    "TRANSACTION_HEADER",
    "Headers",
    "Upstream",
    "dropped_name",
    "fields_of",
    "lines_of",
    "without",
]

type Headers = tuple[tuple[bytes, bytes], ...]

TRANSACTION_HEADER: Final = "X-Global-Transaction-ID"
MAX_VALUE_OCTETS: Final = 1024
"""Longest value of a header made from one claim, as it is sent."""
MAX_JSON_OCTETS: Final = 8192
"""Longest base64url of all claims; servers commonly take 8 KiB for a header line."""
_PLAIN: Final = bytes(octet for octet in range(0x20, 0x7F) if octet != 0x25)
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PUNCTUATION: Final = bytes(octet for octet in range(256) if not chr(octet).isascii() or not chr(octet).isalnum())
_FRAMING: Final = frozenset(
    b"connection content-length expect host http2-settings keep-alive proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
"""Headers that say where a message ends, whose it is, and what becomes of its connection."""
_FOLD: Final = bytes.maketrans(_LETTERS + _PUNCTUATION, _LETTERS.lower() + b"-" * len(_PUNCTUATION))


def lines_of(headers: Headers) -> bytes:
    """The headers as HTTP/1 writes them (RFC 9112 section 5); they have no control characters."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])


def fields_of(lines: bytes) -> Headers:
    """The headers of which `lines_of` made these lines."""
    return tuple([(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])])


def dropped_name(name: bytes) -> bytes:
    """The one spelling under which every header meets that an upstream might read as the same.

    CGI makes `_` of anything that is neither letter nor digit.
    """
    return name.translate(_FOLD)


def without(headers: Headers, names: Set[bytes]) -> Headers:
    """The headers but for those whose `dropped_name` is among `names`, and but for look-alikes of framing headers.

    A proxy passes `Transfer_Encoding` on as any other header, and an upstream that folds names frames the body by it.
    """
    return tuple(
        field
        for field in headers
        if (folded := field[0].translate(_FOLD)) not in names and (folded not in _FRAMING or field[0].lower() == folded)
    )


def _encoded(text: str) -> bytes:
    octets = text.encode("utf-8")
    # A blank at either end would be cut off on the way.
    inner = quote_from_bytes(octets, safe=_PLAIN) if octets.strip(b" ") == octets else ""
    return (inner or quote_from_bytes(octets, safe=_PLAIN.replace(b" ", b""))).encode("ascii")


def _claim_value(name: str, value: object) -> bytes:
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            text = value
        case int() | float() if math.isfinite(value):
            text = repr(value)
        case _:
            raise Rejection(Reason.CLAIMS_MALFORMED, f"{name} is no single value, which a header could carry")
    encoded = _encoded(text)
    if len(encoded) > MAX_VALUE_OCTETS:
        raise Rejection(Reason.CLAIMS_MALFORMED, f"{name} is longer than a header may be")
    return encoded


@dataclass(frozen=True, slots=True)
class Upstream:
    """Names of the headers to add; empty where nothing of the kind is told."""

    strip_jws: bool = False
    """Whether the JWS is taken off what is forwarded."""
    claims: tuple[tuple[str, str], ...] = ()
    """Pairs of header and claim; a claim that is absent adds no header."""
    claims_json: str = ""
    """Header for the base64url of the whole payload, as it was signed."""
    application: str = ""
    organization: str = ""
    client_id: str = ""
    thumbprint: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every header that may be added."""
        single = self.claims_json, self.application, self.organization, self.client_id, self.thumbprint
        return tuple(filter(None, (*(header for header, _ in self.claims), *single)))

    def headers(
        self,
        application: Application,
        client_id: ClientId,
        certificate: RegisteredCertificate,
        claims: Mapping[str, Any],
        payload: bytes,
    ) -> Headers:
        """The headers to add for a verified JWS.

        Raises:
            Rejection: `claims_malformed` when a claim, or all of them, cannot be carried in a header.
        """
        made = [(header, _claim_value(name, claims[name])) for header, name in self.claims if name in claims]
        if self.claims_json:
            text = base64.urlsafe_b64encode(payload).rstrip(b"=")
            if len(text) > MAX_JSON_OCTETS:
                raise Rejection(Reason.CLAIMS_MALFORMED, "the claims are longer than a header may be")
            made.append((self.claims_json, text))
        made += [
            (header, _encoded(text))
            for header, text in (
                (self.application, application.name),
                (self.organization, application.organization),
                (self.client_id, client_id),
                (self.thumbprint, certificate.thumbprint),
            )
            if header and text
        ]
        return tuple((name.encode("ascii"), value) for name, value in made)
