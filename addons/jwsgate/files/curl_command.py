"""A curl command line as the request that curl would send, as far as the gate looks at it.

Nothing is run, no variable is expanded and no file that the command names is read: the text is somebody else's.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlsplit

from jwsgate.core.facts import RequestFacts

from .problems import Unfit

__all__ = ["read_curl", "split_url"]

_LONG: Final = {
    "request": "X", "header": "H", "data": "d", "data-ascii": "d", "data-binary": "d", "cookie": "b", "get": "G",
    "head": "I", "user-agent": "A", "referer": "e", "form": "F", "user": "u", "upload-file": "T",
}  # fmt: skip
"""Long options that have a short one which is read here."""
_OWN_VALUE: Final = frozenset({"data-raw", "data-urlencode", "json", "url", "oauth2-bearer", "form-string"})
_SKIPPED_SHORT: Final = frozenset("cCDEhKmoPQrtUwxyYz")
"""Options with a value that has no part in the request."""
_SKIPPED_LONG: Final = frozenset({
    "abstract-unix-socket", "aws-sigv4", "cacert", "capath", "cert", "cert-type", "ciphers", "config",
    "connect-timeout", "connect-to", "continue-at", "cookie-jar", "curves", "dns-servers", "dump-header",
    "expect100-timeout", "ftp-port", "happy-eyeballs-timeout-ms", "hostpubmd5", "interface", "keepalive-time", "key",
    "key-type", "limit-rate", "local-port", "max-filesize", "max-redirs", "max-time", "noproxy", "output",
    "output-dir", "pass", "pinnedpubkey", "proto", "proto-default", "proxy", "proxy-header", "proxy-user", "quote",
    "range", "rate", "resolve", "retry", "retry-delay", "retry-max-time", "socks5", "speed-limit", "speed-time",
    "stderr", "telnet-option", "time-cond", "tls-max", "tls13-ciphers", "trace", "trace-ascii", "unix-socket",
    "variable", "write-out",
})  # fmt: skip
_CONTINUATION: Final = re.compile(r"\\\r?\n")
_PIECE: Final = re.compile(
    r"(?P<space>[ \t\r\n]++)|(?P<plain>[^ \t\r\n'\"\\]++)|'(?P<single>[^']*+)'"
    r"|\"(?P<double>(?:[^\"\\]|\\.)*+)\"|\\(?P<one>.)",
    re.DOTALL,
)
"""What a shell's word is made of. `shlex` reads the same, but takes minutes for megabytes."""
_IN_DOUBLE: Final = re.compile(r'\\(["\\])')
_ANSI_C: Final = re.compile(r"\$'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_ANSI_ESCAPE: Final = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS: Final = {
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "e": "\x1b",
    "E": "\x1b",
}
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass
class _Call:
    method: str | None = None
    url: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    usual_type: str = _FORM
    query: bool = False
    head: bool = False
    unknown_body: bool = False


def _ansi_c(match: re.Match[str]) -> str:
    def plain(escape: re.Match[str]) -> str:
        octet, point, octal, letter = escape.groups()
        if letter is not None:
            return _LETTERS.get(letter, letter)
        return chr(int(octet or point or octal, 8 if octal else 16))

    return shlex.quote(_ANSI_ESCAPE.sub(plain, match[1]))


def _split(text: str) -> list[str]:
    words: list[str] = []
    pieces: list[str] = []
    at = 0
    while match := _PIECE.match(text, at):
        at = match.end()
        if match.lastgroup != "space":
            piece = match[match.lastgroup or 0]
            pieces.append(_IN_DOUBLE.sub(r"\1", piece) if match.lastgroup == "double" else piece)
        elif pieces:
            words.append("".join(pieces))
            pieces = []
    if at < len(text):
        what = "no escaped character" if text[at] == "\\" else "no closing quotation"
        raise Unfit(f"cannot be split into words: {what}", "give one whole curl command")
    return [*words, "".join(pieces)] if pieces else words


def _words(text: str) -> list[str]:
    if '^"' in text:
        raise Unfit("is quoted for the Windows command prompt", "copy it as cURL (bash)")
    words = _split(_ANSI_C.sub(_ansi_c, _CONTINUATION.sub(" ", text)))
    if not words or words[0].rpartition("/")[2] not in {"curl", "curl.exe"}:
        raise Unfit("does not begin with curl", "give one whole curl command")
    return words[1:]


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Option and value; the option is a letter where it has one, and empty for a URL."""
    rest = iter(words)

    def following(option: str) -> str:
        value = next(rest, None)
        if value is None:
            raise Unfit(f"ends after {option}, which needs a value", "give one whole curl command")
        return value

    for word in rest:
        if word in {"|", ";", "&&", "||", "&", ">"}:
            return
        if word in {"--next", "-:"}:
            raise Unfit("makes several requests (--next)", "give one of them")
        if word.startswith("--"):
            name = _LONG.get(word[2:], word[2:])
            takes_value = name in _OWN_VALUE or name in _SKIPPED_LONG or (len(name) == 1 and name not in "GI")
            yield name, following(word) if takes_value else ""
        elif word.startswith("-") and len(word) > 1:
            for at, letter in enumerate(word[1:], 2):
                if letter in "XHdbAeFuT" or letter in _SKIPPED_SHORT:
                    yield letter, word[at:] or following(f"-{letter}")
                    break
                yield letter, ""
        else:
            yield "", word


def _take_data(call: _Call, option: str, value: str) -> None:
    if option == "data-urlencode":
        name, equals, content = value.partition("=")
        if "@" in name or (not equals and value.startswith("@")):
            call.unknown_body = True
        call.data.append(f"{name}={quote_plus(content)}" if equals and name else quote_plus(content or value))
        return
    if value.startswith("@") and option != "data-raw":
        call.unknown_body = True
    if option == "json":
        call.usual_type = "application/json"
        call.headers.append(("Accept", "application/json"))
    call.data.append(value)


def _take_header(call: _Call, value: str) -> None:
    if value.startswith("@"):
        raise Unfit("takes headers from a file (-H @…)", "write them out")
    name, colon, text = value.partition(":")
    if colon:
        call.headers.append((name, text.lstrip(" ")))
    elif value.endswith(";"):
        call.headers.append((value[:-1], ""))


def _take(call: _Call, option: str, value: str) -> None:
    match option:
        case "" | "url":
            call.url = call.url or value
        case "X":
            call.method = value
        case "H":
            _take_header(call, value)
        case "d" | "data-raw" | "data-urlencode" | "json":
            _take_data(call, option, value)
        case "b" if "=" in value:
            call.headers.append(("Cookie", value))
        case "A":
            call.headers.append(("User-Agent", value))
        case "u":
            call.headers.append(("Authorization", "Basic"))  # who it is has no part in any decision
        case "oauth2-bearer":
            call.headers.append(("Authorization", f"Bearer {value}"))
        case "F" | "form-string" | "T":
            call.unknown_body = True
            call.method = call.method or ("PUT" if option == "T" else "POST")
        case "G":
            call.query = True
        case "I":
            call.head = True
        case _:
            pass  # nothing that the gate would see


def _octets(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # octets that are no UTF-8 stay what they were
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def split_url(url: str) -> tuple[str, str]:
    """The host and the request target of a URL, whose scheme may be left out; raises `Unfit`."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:
        raise Unfit("has a URL that cannot be read", "write https://HOST/PATH") from None
    return parts.netloc.rpartition("@")[2], (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def read_curl(text: str) -> tuple[RequestFacts, bytes | None]:
    """The request of a curl command line, and its body; None where only a file holds it.

    Raises:
        Unfit: when it is none that can be read.
    """
    call = _Call()
    for option, value in _options(_words(text)):
        _take(call, option, value)
    if call.url is None:
        raise Unfit("has no URL", "give one whole curl command")
    host, target = split_url(call.url)
    body = "&".join(call.data)
    if call.query and body:
        target += f"{'&' if '?' in target else '?'}{body}"
    sends_body = bool(call.data) and not call.query
    method = call.method or ("HEAD" if call.head else "POST" if sends_body else "GET")
    given = {name.lower() for name, _ in call.headers}
    headers = [] if "host" in given else [("Host", host)]
    headers += call.headers
    octets = _octets(body) if sends_body else b""
    if sends_body and not call.unknown_body:
        usual = [("Content-Type", call.usual_type), ("Content-Length", str(len(octets)))]
        headers += [header for header in usual if header[0].lower() not in given]
    fields = tuple((_octets(name), _octets(value)) for name, value in headers)
    return RequestFacts(method, _octets(target), fields), None if call.unknown_body else octets
