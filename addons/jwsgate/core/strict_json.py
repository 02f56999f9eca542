"""JSON objects for JOSE headers and claims, without the leniencies that let two readers differ.

RFC 7515 section 4 and RFC 7519 section 4 leave a choice on duplicate member names: here they are refused,
as are NaN and Infinity (not JSON), lone surrogates (not text), a byte order mark, and deep nesting.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

__all__ = ["MAX_DEPTH", "StrictJsonError", "parse_object"]

MAX_DEPTH: Final = 32
"""Deepest nesting accepted; claims have no honest use for more, and parsers recurse."""

# Possessive, so that neither time nor memory goes into ways back.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]++|[\]}]++', re.DOTALL)


class StrictJsonError(ValueError):
    """The octets are not one JSON object in the strict form; the message is a fixed text."""


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("a member name is repeated")
    return members


def _refuse_constant(_name: str) -> NoReturn:
    raise StrictJsonError("NaN and Infinity are not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
_scan: Final[Callable[[str, int], tuple[Any, int]]] = vars(_DECODER)["scan_once"]  # unknown to type checkers


def _too_deep(octets: bytes) -> bool:
    if octets.count(0x5B) + octets.count(0x7B) <= MAX_DEPTH:
        return False
    depth = 0
    for token in _TOKENS.finditer(octets):
        start, end = token.span()
        first = octets[start : start + 1]
        if first in b"[{":
            depth += end - start
            if depth > MAX_DEPTH:
                return True
        elif first in b"]}":
            depth -= end - start
    return False


def _value(text: str) -> Any:
    # What begins and ends without white space, as nearly all does, needs none looked for.
    if text[:1] == "{":
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            pass  # of which the decoder makes an error
        else:
            if end == len(text):
                return value
    return _DECODER.decode(text)


def parse_object(octets: bytes) -> dict[str, Any]:
    """Parse octets as one JSON object.

    Raises:
        StrictJsonError: for anything else; never another exception.
    """
    if _too_deep(octets):
        raise StrictJsonError("nested too deeply")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise StrictJsonError("not UTF-8") from None
    try:
        value = _value(text)
        if "\\u" in text:
            # An escaped lone surrogate parses, but cannot be written, logged or compared as text.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except StrictJsonError:
        raise
    except UnicodeEncodeError:
        raise StrictJsonError("a string holds a lone surrogate") from None
    except ValueError:
        # JSONDecodeError, or Python's refusal of integers over 4300 digits.
        raise StrictJsonError("not JSON") from None
    if not isinstance(value, dict):
        raise StrictJsonError("not a JSON object")
    return value
