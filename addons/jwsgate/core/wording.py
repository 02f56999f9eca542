"""How an account of a decision puts things for people: times in words, values that cannot steer a terminal."""

import datetime
import json
import math
from dataclasses import dataclass
from typing import Any, Final

from .redaction import redacted

__all__ = ["TIME_CLAIMS", "Mistake", "ago", "as_number", "moment", "shown", "span", "value_text"]

TIME_CLAIMS: Final = ("exp", "nbf", "iat")
_UNITS: Final = (("year", 31_557_600), ("day", 86_400), ("hour", 3_600), ("minute", 60))
_YEARS_FROM: Final = 2 * 31_557_600
_LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake that was recognized: what it is, in one line, and what mends it."""

    headline: str
    remedy: str
    mended: bytes | None = None
    """The JWS as it has to be sent, where no key is needed to mend it."""


def span(seconds: float) -> str:
    """A duration in its largest unit, rounded down: `3 days`, `42 seconds`."""
    seconds = abs(seconds)
    if not math.isfinite(seconds):
        return "endlessly long"
    for unit, size in _UNITS:
        if seconds >= (_YEARS_FROM if unit == "year" else size):
            return _count(int(seconds // size), unit)
    return _count(int(seconds), "second")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def ago(when: float, now: float) -> str:
    """A time as seen from `now` (Unix seconds both): `3 days ago`, `in 2 hours`, `just now`."""
    if abs(when - now) < 1:
        return "just now"
    return f"{span(now - when)} ago" if when < now else f"in {span(when - now)}"


def moment(when: float) -> str:
    """A time (Unix seconds) in UTC: `2026-11-23 20:00:00 UTC`."""
    try:
        return datetime.datetime.fromtimestamp(math.floor(when), datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "a time that no calendar has"


def shown(text: str, longest: int = _LONGEST) -> str:
    """The client's text, safe to print, cut to a length, and without a JWS."""
    cut = redacted(text, longest)
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in cut
    )


def value_text(value: Any, longest: int = _LONGEST) -> str:
    """A JSON value on one line, safe to print and cut to a length."""
    return shown(json.dumps(value, ensure_ascii=False, default=str), longest)


def as_number(value: object) -> float | None:
    """A JSON number that can be reckoned with; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        return None
    return value
