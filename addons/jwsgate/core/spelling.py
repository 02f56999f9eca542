"""What is wrong with the spelling of a JWS: the usual slips by which a good JWS arrives as something else.

Looked at only after the decision has refused it, and only for people: nothing here ever makes a JWS pass.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Final

from .strict_json import StrictJsonError, parse_object
from .wording import Mistake, shown

__all__ = ["base64url_text", "lenient_object", "lenient_octets", "spelling_mistake", "thumbprint_in"]

_SCHEME: Final = re.compile(rb"\s*(bearer|jwt|jws|token|dpop)[ \t:=]+(?=\S)", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(
    rb"\$\{?\w+\}?|\{\{?\s*[\w.]+\s*\}?\}|%\w+%|<[^>]{0,64}>|undefined|null|none|nil|\[object \w+\]", re.IGNORECASE
)
_QUOTES: Final = b"\"'`"
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
_ODD: Final = re.compile(rb"[^A-Za-z0-9_.-]")
_STANDARD: Final = re.compile(rb"[A-Za-z0-9+/=._-]*")
_SPACE: Final = re.compile(rb"\s+")
_HEX_THUMBPRINT: Final = re.compile(r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}")
_SEGMENTS: Final = ("JOSE header", "payload", "signature")
_SEND: Final = "send the JWS as it was made: three base64url segments joined by dots, and nothing else"


def lenient_octets(segment: bytes) -> bytes | None:
    """The octets of a segment in any of the spellings of base64; None when it is none."""
    text = segment.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def base64url_text(octets: bytes) -> str:
    """The one spelling of octets that a JWS has for them."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def lenient_object(segment: bytes) -> dict[str, Any] | None:
    """The JSON object in a segment; None when there is none."""
    octets = lenient_octets(segment)
    try:
        return None if octets is None else parse_object(octets)
    except StrictJsonError:
        return None


def thumbprint_in(value: object) -> str | None:
    """The SHA-256 that somebody wrote into `x5t#S256` in hex or another spelling, in lower-case hex."""
    if not isinstance(value, str):
        return None
    if _HEX_THUMBPRINT.fullmatch(value):
        return value.replace(":", "").lower()
    octets = lenient_octets(value.encode("utf-8"))
    if octets is not None and len(octets) == 32:
        return octets.hex()
    text = (octets or b"").decode("latin-1")
    return text.replace(":", "").lower() if _HEX_THUMBPRINT.fullmatch(text) else None


def _wrapped(text: bytes) -> Mistake | None:
    spaces = _SPACE.findall(text)
    if not spaces or (len(spaces) < 2 and text.count(b".") != 2):
        return None
    lines = any(b"\n" in space or b"\r" in space for space in spaces)
    what = "The JWS is wrapped over several lines" if lines else "The JWS has white space inside"
    remedy = "send it on one line: `tr -d '[:space:]'`, or base64 without line breaks (`base64 -w0`)"
    return Mistake(what, remedy, _SPACE.sub(b"", text))


def _scheme(text: bytes) -> Mistake | None:
    if (match := _SCHEME.match(text)) is None:
        return None
    word = match[1].decode("ascii")
    return Mistake(
        f"The word {word!r} was left in front of the JWS",
        "send the bare JWS, as the policy names no authentication scheme for this place",
        text[match.end() :],
    )


def _quoted(text: bytes) -> Mistake | None:
    if text.startswith((b"b'", b'b"')):
        remedy = "decode the octets to text before they are sent: jws.decode('ascii')"
        return Mistake("The JWS is a printed Python bytes object: b'…'", remedy, text[2:].strip(_QUOTES))
    if text[:1] in (b'"', b"'", b"`") or text[-1:] in (b'"', b"'", b"`"):
        remedy = "remove them; whoever takes the JWS out of a JSON document must parse it (`jq -r`)"
        return Mistake("There are quotes around the JWS", remedy, text.strip(_QUOTES))
    return None


def _other_document(text: bytes) -> Mistake | None:
    if text.startswith(b"{") and text.count(b'"'):
        if b'"signature' in text or b'"protected"' in text:
            remedy = "serialize it in the compact form (RFC 7515 section 7.1): header.payload.signature"
            return Mistake("The JWS is in the JSON serialization, not the compact one", remedy, _compact_of(text))
        return Mistake("The claims were sent as JSON, without being signed", "sign them: send a compact JWS")
    if b"-----BEGIN" in text:
        return Mistake(
            "A PEM file was sent in place of a JWS", "sign with the key; neither key nor certificate is sent"
        )
    if _PLACEHOLDER.fullmatch(text):
        name = shown(text.decode("latin-1"), 40)
        return Mistake(f"A placeholder was sent in place of the JWS: {name}", "fill in the variable before it is sent")
    return None


def _compact_of(text: bytes) -> bytes | None:
    try:
        members = parse_object(text)
    except StrictJsonError:
        return None
    signatures = members.get("signatures", [members])
    one = signatures[0] if isinstance(signatures, list) and len(signatures) == 1 else None
    parts = [one.get("protected"), members.get("payload"), one.get("signature")] if isinstance(one, dict) else []
    if not parts or not all(isinstance(part, str) for part in parts):
        return None
    return ".".join(map(str, parts)).encode("utf-8")


def _escaped(text: bytes) -> Mistake | None:
    if not _ESCAPE.search(text):
        return None
    plain = _ESCAPE.sub(lambda match: bytes([int(match[0][1:], 16)]), text)
    return Mistake("The JWS is URL-escaped", "send it as it is: base64url and dots need no escaping", plain)


def _segments(text: bytes) -> Mistake | None:
    parts = text.split(b".")
    if len(parts) == 5:
        remedy = "sign the claims (JWS) in place of encrypting them; no key to decrypt with is registered"
        return Mistake("It is a JWE (encrypted, five segments), not a JWS", remedy)
    if len(parts) == 1 and (inner := lenient_octets(text)) is not None and inner.count(b".") == 2:
        return Mistake("The JWS is base64-encoded a second time", "send it as it was made", inner)
    if text.endswith((b",", b";")):
        return Mistake("There is punctuation behind the JWS", _SEND, text.rstrip(b",; "))
    header = lenient_object(parts[0])
    if len(parts) in {2, 3} and (len(parts) == 2 or not parts[2]) and header is not None:
        if str(header.get("alg")).lower() == "none":
            return Mistake("The JWS is not signed at all: alg is none", "sign it with the application's private key")
        return Mistake("The JWS has no signature; it was cut off, or never signed", _SEND)
    if len(parts) != 3:
        count = f"{len(parts)} segment{'' if len(parts) == 1 else 's'} in place of three"
        return Mistake(f"It is no compact JWS: it has {count}", _SEND)
    return None


def _standard_base64(text: bytes) -> Mistake | None:
    if not _STANDARD.fullmatch(text) or not _ODD.search(text):
        return None
    url = text.translate(bytes.maketrans(b"+/", b"-_"), b"=")
    remedy = "encode each segment in base64url (RFC 7515 section 2): - and _ in place of + and /, and no padding"
    return Mistake("The JWS is written in standard base64 (+, / or =), not in base64url", remedy, url)


def _odd_character(text: bytes) -> Mistake | None:
    if (match := _ODD.search(text)) is None:
        return None
    octet = match[0][0]
    what = repr(chr(octet)) if 0x20 < octet < 0x7F else f"octet {octet:#04x}"
    return Mistake(f"Character {match.start() + 1} of the JWS is {what}, which base64url does not have", _SEND)


def _thumbprint_spelling(text: bytes) -> Mistake | None:
    header = lenient_object(text.split(b".")[0])
    value = None if header is None else header.get("x5t#S256")
    if value is None or (thumbprint := thumbprint_in(value)) is None:
        return None
    octets = bytes.fromhex(thumbprint)
    good = base64url_text(octets)
    if value == good:
        return None
    how = "in hex" if _HEX_THUMBPRINT.fullmatch(value) else "in another spelling"
    if len(value) > 80 and how != "in hex":
        how = "as the base64 of its hex"
    remedy = f"write base64url of the 32 octets (RFC 7515 section 4.1.8): {good}; or leave x5t#S256 out"
    return Mistake(f"x5t#S256 gives the certificate's thumbprint {how}, not as base64url of its octets", remedy)


def _bad_segment(text: bytes) -> Mistake | None:
    for name, segment in zip(_SEGMENTS, text.split(b"."), strict=False):
        octets = lenient_octets(segment)
        if octets is None:
            return Mistake(f"The {name} was cut: its length is none that base64url has", _SEND)
        if base64url_text(octets).encode("ascii") != segment:
            return Mistake(f"The last character of the {name} was changed or cut", _SEND)
        if name == "JOSE header" and lenient_object(segment) is None:
            return Mistake("The first segment is no JSON object, so it is no JOSE header", _SEND)
    return None


_LOOKS: Final[tuple[Callable[[bytes], Mistake | None], ...]] = (
    _other_document, _quoted, _scheme, _wrapped, _escaped, _segments, _standard_base64, _odd_character,
    _thumbprint_spelling, _bad_segment,
)  # fmt: skip


def spelling_mistake(text: bytes) -> Mistake | None:
    """The first slip in the spelling of a JWS; None when nothing usual is seen."""
    for look in _LOOKS:
        if (mistake := look(text)) is not None:
            return mistake
    return None
