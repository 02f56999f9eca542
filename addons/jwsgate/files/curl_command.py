"""A curl command line as the request that curl would send, as far as the gate looks at it.

Nothing is run, no variable is expanded and no file that the command names is read: the text is somebody else's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlsplit

from jwsgate.core.facts import RequestFacts
from jwsgate.core.wording import shown

from .curl_options import FLAGS, SHORT_FLAGS, SHORT_WITH_VALUE, WITH_VALUE
from .problems import Unfit
from .shell_words import commands, octets

__all__ = ["curl_text", "read_curl", "split_url"]

_WHOLE: Final = "give one whole curl command"
_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2212"
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass
class _Call:
    method: str | None = None
    url: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    usual_type: str = _FORM
    queries: list[str] = field(default_factory=list)
    target: str | None = None
    """In place of that of the URL."""
    removed: set[str] = field(default_factory=set)
    """Headers of curl's own that are not sent."""
    query: bool = False
    head: bool = False
    unknown_body: bool = False


def curl_text(read: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 as PowerShell's `>` writes it; byte order marks are taken off."""
    if read.startswith((b"\xff\xfe", b"\xfe\xff")):
        return read.decode("utf-16", "replace")
    return read.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _words(text: str) -> list[str]:
    if '^"' in text:
        raise Unfit("is quoted for the Windows command prompt", "copy it as cURL (bash)")
    found = [each for each in commands(text) if each.words[0].rpartition("/")[2] in {"curl", "curl.exe"}]
    if not found:
        raise Unfit("does not begin with curl", _WHOLE)
    if len(found) > 1:
        raise Unfit("holds several calls of curl", "give one of them")
    if found[0].unfit is not None:
        raise found[0].unfit
    return found[0].words[1:]


def _long(name: str, following: Callable[[str], str]) -> tuple[str, str]:
    """A long option with its value, which is empty where it takes none."""
    if name in WITH_VALUE:
        return name, following(f"--{name}")
    if name in FLAGS or name.removeprefix("no-") in FLAGS:
        return name, ""
    before, equals, _ = name.partition("=")
    if equals and before in WITH_VALUE:
        raise Unfit(
            f"has --{before}=, and curl has no --option=value", f"write --{before} and a blank before the value"
        )
    if name.startswith("expand-"):
        raise Unfit(f"has --{shown(name, 40)}, which takes variables of curl's own", "write the value out")
    raise Unfit(f"has the option --{shown(name, 40)}, which is not known here", "write it out in full, or leave it out")


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Option and value; the option is empty for a URL."""
    rest = iter(words)

    def following(option: str) -> str:
        value = next(rest, None)
        if value is None:
            raise Unfit(f"ends after {option}, which needs a value", _WHOLE)
        return value

    for word in rest:
        if word[:1] and word[:1] in _DASHES:
            raise Unfit(f"has a dash in place of a hyphen: {shown(word, 20)}", "write the option with -")
        if word.startswith("--") and len(word) > 2:
            yield _long(word[2:], following)
        elif word.startswith("-") and len(word) > 1:
            yield from _short(word, following)
        else:
            yield "", word


def _short(word: str, following: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """What one word of letters holds: flags, and at its end an option with a value."""
    for at, letter in enumerate(word[1:], 2):
        if letter in SHORT_WITH_VALUE:
            yield SHORT_WITH_VALUE[letter], word[at:] or following(f"-{letter}")
            return
        if letter not in SHORT_FLAGS:
            raise Unfit(f"has the option -{shown(letter)}, which is not known here", "leave it out, or correct it")
        yield {"G": "get", "I": "head", ":": "next"}.get(letter, letter), ""


def _is_of_a_file(value: str) -> bool:
    return "@" in value.partition("=")[0]


def _urlencoded(value: str) -> str:
    """`name=content` with its content URL-encoded, as --data-urlencode and --url-query have it."""
    name, equals, content = value.partition("=")
    if not equals:
        return quote_plus(octets(value))
    return f"{name}={quote_plus(octets(content))}" if name else quote_plus(octets(content))


def _take_data(call: _Call, option: str, value: str) -> None:
    if option == "data-urlencode":
        call.unknown_body = call.unknown_body or _is_of_a_file(value)
        call.data.append(_urlencoded(value))
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
    if colon and not text.strip(" "):
        call.removed.add(name.lower())  # as curl has it: no such header is sent
    elif colon:
        call.headers.append((name, text.lstrip(" ")))
    elif value.endswith(";"):
        call.headers.append((value[:-1], ""))


def _headers(option: str, value: str) -> list[tuple[str, str]]:
    """What an option of another kind sends, as far as the gate sees it."""
    match option:
        case "cookie" if "=" in value:
            return [("Cookie", value)]
        case "user-agent":
            return [("User-Agent", value)]
        case "user":
            return [("Authorization", "Basic")]  # who it is has no part in any decision
        case "oauth2-bearer":
            return [("Authorization", f"Bearer {value}")]
        case _:
            return []


def _take_url(call: _Call, option: str, value: str) -> None:
    match option:
        case "request-target":
            call.target = value
        case "url-query" if value.startswith("+"):
            call.queries.append(value[1:])
        case "url-query" if _is_of_a_file(value):
            raise Unfit("takes a query from a file (--url-query @…)", "write it out")
        case "url-query":
            call.queries.append(_urlencoded(value))
        case _ if call.url is not None:
            raise Unfit(f"has two URLs, {shown(call.url, 60)} and {shown(value, 60)}", "give one of them")
        case _:
            call.url = value


def _take(call: _Call, option: str, value: str) -> None:
    match option:
        case "" | "url" | "url-query" | "request-target":
            _take_url(call, option, value)
        case "next" | "config":
            what = "makes several requests (--next)" if option == "next" else "takes options from a file (-K)"
            raise Unfit(what, _WHOLE)
        case "request":
            call.method = value
        case "header":
            _take_header(call, value)
        case "data" | "data-ascii" | "data-binary" | "data-raw" | "data-urlencode" | "json":
            _take_data(call, option, value)
        case "form" | "form-string" | "upload-file":
            call.unknown_body = True
            call.method = call.method or ("PUT" if option == "upload-file" else "POST")
        case "get":
            call.query = True
        case "head":
            call.head = True
        case _:
            call.headers += _headers(option, value)


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
        raise Unfit("has no URL", _WHOLE)
    host, target = split_url(call.url)
    body = "&".join(call.data)
    for query in (*call.queries, *([body] if call.query and body else [])):
        target += f"{'&' if '?' in target else '?'}{query}"
    target = call.target or target
    sends_body = bool(call.data) and not call.query
    method = call.method or ("HEAD" if call.head else "POST" if sends_body else "GET")
    given = {name.lower() for name, _ in call.headers} | call.removed
    headers = [] if "host" in given else [("Host", host)]
    headers += call.headers
    sent = octets(body) if sends_body else b""
    if sends_body and not call.unknown_body:
        usual = [("Content-Type", call.usual_type), ("Content-Length", str(len(sent)))]
        headers += [header for header in usual if header[0].lower() not in given]
    fields = tuple((octets(name), octets(value)) for name, value in headers)
    return RequestFacts(method, octets(target), fields), None if call.unknown_body else sent
