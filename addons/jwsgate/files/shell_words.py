"""The commands of a piece of shell script, as words: what people copy when they are asked for a curl command.

Nothing is run and no environment is looked at: the text is somebody else's. A variable has a value only where the text
itself gives it one; what only a shell could know makes its command unfit.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from jwsgate.core.wording import shown

from .problems import Unfit

__all__ = ["Command", "commands", "octets"]

_WHOLE: Final = "give one whole curl command"
_PASTE: Final = 'paste the value in its place, or give the JWS as the argument: jwsgate explain … "$JWS"'
_TEXT: Final = re.compile(r"[^ \t\r\n'\"\\$`^|&;<>]++")
"""What a word is made of besides quotes and escapes. `shlex` reads the same, but takes minutes for megabytes."""
_SPACE: Final = re.compile(r"[ \t\r]++")
_COMMENT: Final = re.compile(r"#[^\n]*+")
_CONTINUATION: Final = re.compile(r"[\\^`][ \t]*+\r?\n(?:> )?")
"""Of a shell, of the Windows command prompt and of PowerShell, and what a terminal shows before the next line."""
_SINGLE: Final = re.compile(r"'([^']*+)'")
_ANSI_C: Final = re.compile(r"\$'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_ANSI_ESCAPE: Final = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|[uU]([0-9A-Fa-f]{1,8})|([0-7]{1,3})|(.))", re.DOTALL)
_DOUBLE: Final = re.compile(r'\$?"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_IN_DOUBLE: Final = re.compile(
    r"(?P<text>[^\\$`]++)|\\(?P<one>[\"\\$`])|\\\r?\n|(?P<sign>[$`])|(?P<backslash>\\)", re.DOTALL
)
_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_EXPANSION: Final = re.compile(r"\$(?:\((?:[^()]|\([^()]*\))*\)?|\{[^}]*\}?|[0-9@*#?$!])|`[^`]*`?")
_REDIRECTION: Final = re.compile(r"(?:&>>?|<<<|<<-?|<>|>>|>\||[<>])(?:&(?:\d|-))?")
_END: Final = re.compile(r"&&|\|\||\|&|[|&;\n]")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_OPTION: Final = re.compile(r"[ \t\r]*+-")
_PROMPT: Final = re.compile(r"[$%] +")
_BEFORE_A_COMMAND: Final = frozenset({"time", "sudo", "command", "exec", "env", "nohup", "export", "readonly", "local"})
_LETTERS: Final = {
    "n": b"\n", "r": b"\r", "t": b"\t", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v", "e": b"\x1b", "E": b"\x1b",
    "'": b"'", '"': b'"', "\\": b"\\", "?": b"?",
}  # fmt: skip
_COPIED: Final = re.compile("[\u2018\u2019\u201c\u201d\u00a0\u200b]")


@dataclass
class Command:
    """One command: its words, without assignments and the like before them."""

    words: list[str] = field(default_factory=list)
    unfit: Unfit | None = None
    """What is in it that only a shell knows, or that no shell would read as it was meant."""


def octets(text: str) -> bytes:
    """The octets that a text was read from."""
    try:
        return text.encode("utf-8", "surrogateescape")  # octets that are no UTF-8 stay what they were
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _ansi_c(text: str) -> str:
    r"""What bash makes of `$'…'`, in which \x is an octet and \u a character."""
    made, at = bytearray(), 0
    for escape in _ANSI_ESCAPE.finditer(text):
        octet, point, octal, letter = escape.groups()
        made += octets(text[at : escape.start()])
        if letter is not None:
            made += _LETTERS.get(letter) or b"\\" + octets(letter)
        elif point is not None:
            made += chr(min(int(point, 16), 0x10FFFF)).encode("utf-8", "surrogatepass")
        else:
            made.append(int(octet or octal, 16 if octet else 8) & 0xFF)
        at = escape.end()
    made += octets(text[at:])
    return made.decode("utf-8", "surrogateescape")


class _Script:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._word: list[str] | None = None
        """The pieces of the word that is being read; None between words."""
        self._command = Command()
        self._skips_word = False
        """Whether the next word is that of a redirection."""
        self._variables: dict[str, str | Unfit] = {}
        self._commands: list[Command] = []

    def read(self) -> list[Command]:
        while self._at < len(self._text):
            self._step()
        self._end_command()
        return self._commands

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match

    def _step(self) -> None:
        """Read on by a piece of a word, or by what stands between words."""
        if self._take(_CONTINUATION):
            return
        if self._take(_SPACE):
            self._end_word()
        elif self._word is None and (self._take(_COMMENT) or (not self._command.words and self._take(_PROMPT))):
            return
        elif match := self._take(_TEXT):
            self._add_plain(match[0])
        elif match := self._take(_SINGLE):
            self._add(match[1])
        elif match := self._take(_ANSI_C):
            self._add(_ansi_c(match[1]))
        elif match := self._take(_DOUBLE):
            self._add_double(match[1])
        elif match := self._take(_REDIRECTION):
            self._redirect(match[0])
        elif match := self._take(_END):
            self._end(match)
        else:
            self._add_special()

    def _add(self, piece: str) -> None:
        self._word = self._word or []
        self._word.append(piece)

    def _unfit(self, message: str, remedy: str) -> None:
        self._command.unfit = self._command.unfit or Unfit(message, remedy)

    def _add_plain(self, text: str) -> None:
        if _COPIED.search(text):
            what = "has typographic quotes or blanks in it, as texts have that were copied from a document or a chat"
            self._unfit(what, "copy it as plain text, or write the quotes anew")
        self._add(text)

    def _add_double(self, text: str) -> None:
        """What stands between double quotes, where only some characters mean anything."""
        self._add("")
        at = 0
        while piece := _IN_DOUBLE.match(text, at):
            at = piece.end()
            if piece["sign"]:
                at = self._expand(text, piece.start())
            else:
                self._add(piece["text"] or piece["one"] or piece["backslash"] or "")

    def _add_special(self) -> None:
        """An escaped character, or what a shell would put something else for."""
        character = self._text[self._at]
        if character in "'\"":
            raise Unfit("cannot be split into words: no closing quotation", _WHOLE)
        if character == "\\":
            if self._at + 1 == len(self._text):
                raise Unfit("cannot be split into words: no escaped character", _WHOLE)
            self._add(self._text[self._at + 1])
            self._at += 2
        elif character == "^":
            self._add(character)
            self._at += 1
        else:
            self._at = self._expand(self._text, self._at)

    def _expand(self, text: str, at: int) -> int:
        """Take up what a shell puts for `$…` or a backtick; answers where it ends."""
        if match := _VARIABLE.match(text, at):
            value = self._variables.get(match[1] or match[2])
            if value is None:
                self._unfit(f"holds {match[0]}, whose value only your shell knows", _PASTE)
            elif isinstance(value, Unfit):
                self._unfit(str(value), value.remedy)
            else:
                self._add(value)
        elif match := _EXPANSION.match(text, at):
            self._unfit(f"holds {shown(match[0], 60)}, and explain runs nothing", _PASTE)
        else:
            self._add(text[at])
        self._add("")
        return match.end() if match else at + 1

    def _redirect(self, operator: str) -> None:
        if self._word is not None and "".join(self._word).isdigit():
            self._word = None  # the number of a file descriptor
        self._end_word()
        self._skips_word = not operator[-1].isdigit() and not operator.endswith("&-")

    def _end(self, match: re.Match[str]) -> None:
        before = "".join(self._word or ())
        after = self._text[match.end() : match.end() + 1]
        if match[0] == "&" and "?" in before and after.strip():
            self._unfit("has a & in its URL at which a shell ends the command", "put the URL into quotes")
        self._end_word()
        if match[0] != "\n" or not self._goes_on():
            self._end_command()

    def _goes_on(self) -> bool:
        """Whether the next line begins with an option, so that only its backslash was lost."""
        return bool(self._command.words) and _OPTION.match(self._text, self._at) is not None

    def _end_word(self) -> None:
        if self._word is None:
            return
        if not self._skips_word:
            self._command.words.append("".join(self._word))
        self._word, self._skips_word = None, False

    def _end_command(self) -> None:
        self._end_word()
        command, self._command = self._command, Command()
        words = command.words
        assigned = []
        while words and ((match := _ASSIGNMENT.fullmatch(words[0])) or words[0] in _BEFORE_A_COMMAND):
            assigned += [match] if match else []
            del words[0]
        if words:
            self._commands.append(command)
            return
        for match in assigned:
            self._variables[match[1]] = command.unfit or match[2]


def commands(text: str) -> list[Command]:
    """The commands, in order, without those that only give variables a value.

    Raises:
        Unfit: where a quotation or an escape has no end.
    """
    return _Script(text).read()
