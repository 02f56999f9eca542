"""Client texts for logs and reports: short, and without anything that looks like a JWS."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["CUT", "redacted"]

CUT: Final = "…"
_REDACTED: Final = "(JWS removed)"
_BASE64URL_AND_DOTS: Final = re.compile(r"[A-Za-z0-9_.-]+")


def _redact(text: str, *, cut: bool) -> str:
    """A text without what looks like a compact JWS; where the text was cut, without what may begin one at its end."""

    def replaced(match: re.Match[str]) -> str:
        run = match[0]
        start = run.find("eyJ")  # {" in base64url, as every JOSE header begins
        if start < 0 or (run.count(".", start) < 2 and not (cut and match.end() == len(text))):
            return run
        return run[:start] + _REDACTED

    return _BASE64URL_AND_DOTS.sub(replaced, text)


def redacted(text: str, characters: int) -> str:
    """What the client wrote, at most so many characters of it. It costs the same however long the text is."""
    cut = len(text) > characters
    kept = text[:characters] if cut else text
    if "%" in kept:
        plain = unquote_to_bytes(kept.encode("utf-8", "replace")).decode("latin-1")
        if _redact(plain, cut=cut) != plain:
            return _REDACTED
    if "eyJ" in kept:
        kept = _redact(kept, cut=cut)
    return kept + CUT if cut else kept
