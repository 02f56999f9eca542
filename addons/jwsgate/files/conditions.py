"""Conditions of API Connect's `switch` and `if` steps, as far as the operation alone decides them."""

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["evaluate"]

_MAX_LENGTH: Final = 2000
_MAX_DEPTH: Final = 20
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>\"[^\"\\\n]*\"|'[^'\\\n]*')|(?P<name>\$?[A-Za-z_][\w.\-]*(?:\(\))?)"
    r"|(?P<operator>===|!==|==|!=|=|&&|\|\||!|\(|\)))"
)


class _Unreadable(Exception):
    """Not one of the conditions that are understood here."""


def _tokens(text: str) -> list[str]:
    found = []
    index = 0
    text = text.strip()
    while index < len(text):
        match = _TOKEN.match(text, index)
        if match is None or len(text) > _MAX_LENGTH:
            raise _Unreadable
        found.append(match.group().strip())
        index = match.end()
    return found


class _Parser:
    """Or, and, not, comparison, each with Kleene's third value None for what only a request can tell."""

    def __init__(self, tokens: list[str], known: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._known = known
        self._depth = 0

    def _next(self) -> str:
        if not self._tokens:
            raise _Unreadable
        return self._tokens.pop(0)

    def _take(self, *wanted: str) -> bool:
        if self._tokens and self._tokens[0] in wanted:
            self._tokens.pop(0)
            return True
        return False

    def whole(self) -> bool | None:
        value = self._or()
        if self._tokens:
            raise _Unreadable
        return value

    def _or(self) -> bool | None:
        values = [self._and()]
        while self._take("||", "or"):
            values.append(self._and())
        return True if True in values else None if None in values else False

    def _and(self) -> bool | None:
        values = [self._not()]
        while self._take("&&", "and"):
            values.append(self._not())
        return False if False in values else None if None in values else True

    def _not(self) -> bool | None:
        negated = False
        while self._take("!"):
            negated = not negated
        if self._take("("):
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise _Unreadable
            value = self._or()
            if not self._take(")"):
                raise _Unreadable
            self._depth -= 1
        else:
            value = self._comparison(negated)
        return value if value is None else value is not negated

    def _comparison(self, negated: bool) -> bool | None:
        left = self._next()
        operator = self._next()
        right = self._next()
        # To JavaScript a single = assigns; in JSONata, whose functions have a $, it compares.
        if operator not in {"===", "==", "!==", "!="} and not (operator == "=" and left.startswith("$")):
            raise _Unreadable
        if negated:
            raise _Unreadable  # !a === b compares the negation of a
        if right[0] not in "'\"":
            left, right = right, left
        if right[0] not in "'\"" or left[0] in "'\"()!=&|":
            raise _Unreadable
        value, text = self._known.get(left), right[1:-1]
        # How the product spells a method is taken to be upper case; whoever writes it otherwise may mean otherwise.
        if value is None or (left in {"request.verb", "$httpVerb()"} and not text.isupper()):
            return None
        return (value == text) is not operator.startswith("!")


def evaluate(condition: str, known: Mapping[str, str]) -> bool | None:
    """What a condition comes to with these values, None when they do not decide it or it is not understood."""
    try:
        return _Parser(_tokens(condition), known).whole()
    except _Unreadable:
        return None
