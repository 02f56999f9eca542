"""What is wrong with the spelling of a JWS: the usual slips by which a good JWS arrives as something else.

Looked at only after the decision has refused it, and only for people: nothing here ever makes a JWS pass.
"""

import base64
import binascii
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .strict_json import StrictJsonError, parse_object
from .wording import Mistake, shown

__all__ = [
    "base64url_text", "disclosed", "holds_private_key", "is_placeholder", "lenient_object", "lenient_octets",
    "spelling_mistake", "thumbprint_in", "without_invisible", "without_scheme",
]  # fmt: skip

_SCHEME: Final = re.compile(rb"\s*(bearer|jwt|jws|token|dpop)[ \t:=]+(?=\S)", re.IGNORECASE)
_INVISIBLE: Final = {
    "\u00a0": "a no-break space",
    "\u200b": "a zero-width space",
    "\u200c": "a zero-width non-joiner",
    "\u200d": "a zero-width joiner",
    "\u2060": "a word joiner",
    "\u00ad": "a soft hyphen",
    "\ufeff": "a byte order mark",
}
"""What documents, chats and editors put into a text, and nobody sees."""
_CURLY_QUOTES: Final = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb"
_PRIVATE_PEM: Final = re.compile(rb"PRIVATE\s*KEY\s*-----")
_PRIVATE_MEMBER: Final = re.compile(rb"""["'][dk]["']\s*:""")
_SEVERAL: Final = re.compile(rb"[,;\s]+")
_FILE: Final = re.compile(rb"@[\w./~ -]{1,200}|[\w./~-]{0,200}\.(?:txt|jwt|jws|token|pem|key)")
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
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


def is_placeholder(text: str) -> bool:
    """Whether a text is the name of a variable that was not filled in."""
    return _PLACEHOLDER.fullmatch(text.encode("utf-8", "replace")) is not None


def without_scheme(text: bytes) -> bytes:
    """A text without the word for an authentication scheme before it, in whatever spelling."""
    match = _SCHEME.match(text)
    return text if match is None else text[match.end() :]


def without_invisible(text: str) -> tuple[str, str]:
    """A text without the characters that nobody sees, and what they are called; no name where there are none."""
    names = [name for character, name in _INVISIBLE.items() if character in text]
    return text.translate(dict.fromkeys(map(ord, _INVISIBLE))), " and ".join(names)


def _is_compact(text: bytes) -> bool:
    return text.count(b".") == 2 and lenient_object(text.split(b".")[0]) is not None


def _copied(text: bytes) -> Mistake | None:
    """Characters of a document or a chat that the JWS went through."""
    try:
        given = text.decode("utf-8")
    except UnicodeDecodeError:
        given = text.decode("latin-1")
    if given.isascii():
        return None
    if "\u2026" in given:
        return _abbreviated()
    plain, names = without_invisible(given)
    if any(quote in plain for quote in _CURLY_QUOTES):
        plain = plain.translate(dict.fromkeys(map(ord, _CURLY_QUOTES)))
        names = " and ".join(filter(None, ["typographic quotes", names]))
    if not names:
        return None
    remedy = "copy it from where it was made, as plain text"
    return Mistake(
        f"The JWS has {names} in it, as texts have that were copied from a document or a chat",
        remedy,
        plain.encode("utf-8"),
    )


def _abbreviated() -> Mistake:
    return Mistake("The JWS is abbreviated: dots stand in place of a part of it", "copy the whole JWS")


def _several(text: bytes) -> Mistake | None:
    parts = [part for part in _SEVERAL.split(text) if part]
    if len(parts) < 2 or not all(map(_is_compact, parts)):
        return None
    between = "commas" if b"," in text else "semicolons" if b";" in text else "white space"
    if len(set(parts)) == 1:
        remedy = "send it once; look whether a library and the code both add it"
        return Mistake(f"The JWS stands {len(parts)} times in one value, with {between} between", remedy, parts[0])
    return Mistake(f"There are {len(parts)} JWS in one value, with {between} between", "send one of them")


def _wrapped(text: bytes) -> Mistake | None:
    spaces = _SPACE.findall(text)
    if not spaces or (len(spaces) < 2 and text.count(b".") != 2):
        return None
    lines = any(b"\n" in space or b"\r" in space for space in spaces)
    what = "The JWS is wrapped over several lines" if lines else "The JWS has white space inside"
    remedy = "send it on one line: `tr -d '[:space:]'`, or base64 without line breaks (`base64 -w0`)"
    return Mistake(what, remedy, _SPACE.sub(b"", text))


def _scheme(text: bytes, scheme: str | None) -> Mistake | None:
    """A word before the JWS; `scheme` is the one that the policy has there, and that was taken off already."""
    if (match := _SCHEME.match(text)) is None:
        return None
    word = match[1].decode("ascii")
    if scheme is not None:
        what = "stands twice" if word.lower() == scheme.lower() else f"stands between {scheme} and the JWS"
        headline = f"The word {word!r} {what}" + (" in front of the JWS" if what == "stands twice" else "")
        return Mistake(headline, f"write {scheme}, one blank, and the JWS", text[match.end() :])
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
    if holds_private_key(text):
        return disclosed("the JWS")
    if text.startswith(b"{") and text.count(b'"'):
        return _json_document(text)
    if b"-----BEGIN" in text:
        return Mistake(
            "A PEM file was sent in place of a JWS", "sign with the key; neither key nor certificate is sent"
        )
    if _PLACEHOLDER.fullmatch(text):
        name = shown(text.decode("latin-1"), 40)
        return Mistake(f"A placeholder was sent in place of the JWS: {name}", "fill in the variable before it is sent")
    if _FILE.fullmatch(text) and not _is_compact(text):
        name = shown(text.decode("latin-1"), 40)
        remedy = "send what the file holds; no header takes @file"
        return Mistake(f"The name of a file was sent in place of the JWS: {name}", remedy)
    return None


def disclosed(what: str) -> Mistake:
    """An alarm, which shows nothing of the key."""
    return Mistake(
        f"A PRIVATE KEY was sent in place of {what}, and has to be taken for disclosed",
        "make a new pair of keys and register its certificate; sign with the key, which never leaves the client",
    )


def _json_document(text: bytes) -> Mistake:
    try:
        members = parse_object(text)
    except StrictJsonError:
        members = {}
    if "kty" in members or "keys" in members:
        return Mistake("A public key (JWK) was sent in place of the JWS", "sign with the key; no key is sent")
    if b'"signature' in text or b'"protected"' in text:
        remedy = "serialize it in the compact form (RFC 7515 section 7.1): header.payload.signature"
        return Mistake("The JWS is in the JSON serialization, not the compact one", remedy, _compact_of(text))
    for name, value in members.items():
        if isinstance(value, str) and _is_compact(value.encode("utf-8")):
            remedy = f"take it out of the document (`jq -r .{shown(name, 40)}`), and send it alone"
            what = f"The JWS is still in a JSON document, as its member {shown(name, 40)}"
            return Mistake(what, remedy, value.encode("utf-8"))
    return Mistake("The claims were sent as JSON, without being signed", "sign them: send a compact JWS")


def holds_private_key(text: bytes) -> bool:
    """Whether a text is a private key, as PEM or as a JWK in base64 or not, however it was cut or bent.

    RFC 7518 section 6: `d` is the private part of RSA and of curves, `k` a secret.
    """
    if b"{" not in text:
        text = (lenient_octets(text) or b"") + text
    return _PRIVATE_PEM.search(text) is not None or (b"kty" in text and _PRIVATE_MEMBER.search(text) is not None)


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
    header = lenient_object(parts[0])
    if b"..." in text:
        return _abbreviated()
    if len(parts) == 5 and header is not None and "enc" in header:
        remedy = "sign the claims (JWS) in place of encrypting them; no key to decrypt with is registered"
        return Mistake("It is a JWE (encrypted, five segments), not a JWS", remedy)
    if len(parts) == 1:
        return _one_segment(text)
    if text.endswith((b",", b";")) or (len(parts) == 4 and not parts[3]):
        return Mistake("There is punctuation behind the JWS", _SEND, text.rstrip(b",;. "))
    if len(parts) in {2, 3} and (len(parts) == 2 or not parts[2]) and header is not None:
        if str(header.get("alg")).lower() == "none":
            return Mistake("The JWS is not signed at all: alg is none", "sign it with the application's private key")
        return Mistake("The JWS has no signature; it was cut off, or never signed", _SEND)
    return None if len(parts) == 3 else _miscounted(len(parts))


def _miscounted(count: int) -> Mistake:
    return Mistake(f"It is no compact JWS: it has {count} segment{'' if count == 1 else 's'} in place of three", _SEND)


def _one_segment(text: bytes) -> Mistake:
    inner = lenient_octets(text) or b""
    if inner.count(b".") == 2:
        return Mistake("The JWS is base64-encoded a second time", "send it as it was made", inner)
    if _HEX.fullmatch(text) and _is_compact(plain := bytes.fromhex(text.decode("ascii"))):
        return Mistake("The JWS is written in hex", "send it as it was made", plain)
    return _miscounted(1)


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


type _Look = Callable[[bytes], Mistake | None]
_BEFORE: Final[tuple[_Look, ...]] = _other_document, _copied, _quoted, _several
_BEHIND: Final[tuple[_Look, ...]] = (
    _wrapped, _escaped, _segments, _standard_base64, _odd_character, _thumbprint_spelling, _bad_segment,
)  # fmt: skip


def spelling_mistake(text: bytes, scheme: str | None = None) -> Mistake | None:
    """The first slip in the spelling of a JWS; None when nothing usual is seen.

    `scheme` is the authentication scheme that the policy has before the JWS, and that `text` comes without.
    """
    looks: tuple[_Look, ...] = *_BEFORE, partial(_scheme, scheme=scheme), *_BEHIND
    for look in looks:
        if (mistake := look(text)) is not None:
            return mistake
    return None
