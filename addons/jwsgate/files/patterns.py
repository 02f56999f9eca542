"""Patterns of claims, as API Connect has them (PCRE), in an engine whose time is linear in the text."""

import re
from typing import Any, Final

from jwsgate.core.claims import Matching

from .problems import Unfit

__all__ = ["texts_of_pattern"]

_MAX_LENGTH: Final = 1000
_PLAIN: Final = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\[^A-Za-z0-9\s])+")


def _listed(pattern: str) -> tuple[str, ...] | None:
    """The texts of a pattern that only lists them, such as `^(tvo|acme\\.example)$`; None of any other."""
    inner = pattern.removeprefix("^")
    if inner.endswith("$") and not inner.endswith("\\$"):
        inner = inner[:-1]
    if "|" in inner:
        if not (inner.startswith("(") and inner.endswith(")")):
            # In ^a|b$ each anchor belongs to one side only.
            if inner != pattern:
                return None
        else:
            inner = inner[1:-1].removeprefix("?:")
    parts = inner.split("|")
    if not all(_PLAIN.fullmatch(part) for part in parts):
        return None
    return tuple(re.sub(r"\\(.)", r"\1", part) for part in parts)


def _engine() -> Any:
    try:
        import re2  # noqa: PLC0415 - an extra; most policies need no patterns
    except ImportError:
        raise Unfit("is a pattern, which needs google-re2", "pip install 'jwsgate[api-connect]'") from None
    return re2


def texts_of_pattern(pattern: str) -> tuple[str, ...] | Matching:
    """The texts that a pattern allows. It has to match the whole of a text, as if it stood between ^ and $.

    Raises:
        Unfit: when no engine with a bound on its time can run it.
    """
    if "$(" in pattern:
        raise Unfit("refers to a variable", "write the value out")
    if len(pattern) > _MAX_LENGTH:
        raise Unfit(f"is a pattern of more than {_MAX_LENGTH} characters", "write a shorter one")
    listed = _listed(pattern)
    if listed is not None:
        return listed
    if not (pattern.isascii() and pattern.isprintable()):
        raise Unfit("is a pattern with characters beyond printable ASCII", "list the texts: first|second")
    re2 = _engine()
    options = re2.Options()
    options.log_errors = False
    try:
        return Matching(re2.compile(pattern, options).fullmatch)
    except re2.error as error:
        why = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        remedy = "write it without look-around, back-references, atomic groups and possessive repetition"
        raise Unfit(f"is a pattern that cannot run in bounded time: {why}", remedy) from None
