"""Mistakes in a request before its JWS comes into play: path, client ID, application, registered certificate."""

import difflib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final
from urllib.parse import unquote_to_bytes

from jwsgate.core.cors import requested_method
from jwsgate.core.facts import canonical_header_name
from jwsgate.core.policy import Route
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.request_target import path_segments
from jwsgate.core.sources import Source
from jwsgate.core.spelling import (
    disclosed,
    holds_private_key,
    is_placeholder,
    lenient_object,
    lenient_octets,
    spelling_mistake,
    without_invisible,
    without_scheme,
)
from jwsgate.core.wording import Mistake, ago, moment, shown

from .case import Case, certificate_text, place_text
from .meanings import remedy_of
from .signers import called

__all__ = [
    "certificate_mistake", "disabled_application", "elsewhere", "is_jws", "missing_client_id", "preflight_mistake",
    "unknown_client_id", "unknown_route", "unsafe_request",
]  # fmt: skip

_WRAPPING: Final = " \"'`<>{}"
_LEAST_PART: Final = 8
"""So many characters of a client ID are enough to know it by."""
_LONGEST: Final = 200
"""Of a client ID that is compared with others, which takes time with each character."""


def _plain_values(case: Case) -> Iterator[tuple[str, str]]:
    """Where values stand in the request, with the values that a client ID or a JWS could be."""
    for name, value in case.facts.headers:
        text = value.decode("latin-1").strip()
        if name.lower() == b"cookie":
            for pair in text.split(";"):
                key, _, inner = pair.strip().partition("=")
                yield f"cookie {shown(key, 40)}", inner
        else:
            yield f"header {shown(name.decode('latin-1'), 40)}", text
    for field in case.facts.target.partition(b"?")[2].decode("latin-1").split("&"):
        key, _, inner = field.partition("=")
        yield f"query {shown(key, 40)}", inner


def is_jws(text: str) -> bool:
    """Whether a text, after Bearer or the like or not, looks like a compact JWS."""
    bare = without_scheme(text.encode("latin-1"))
    header = lenient_object(bare.split(b".")[0])
    return bare.count(b".") == 2 and header is not None and "alg" in header


def elsewhere(case: Case, source: Source, what: str, is_it: Callable[[str], bool]) -> Mistake | None:
    """A value that stands in another place of the request than where the policy looks for it."""
    for place, value in _plain_values(case):
        if is_it(value):
            remedy = f"send it in {place_text(source)}"
            if place.lower() == f"{source.place} {source.name}".lower():
                bare = value.partition(" ")[0] if " " in value else ""
                found = f"after the word {shown(bare, 20)!r}" if bare else "without the authentication scheme"
                return Mistake(f"The {what} is in {place}, but {found}", remedy)
            return Mistake(f"The {what} is in {place}, where nobody looks for it", remedy)
    return None


def unsafe_request(case: Case) -> Mistake | None:
    """A header that makes a request unsafe."""
    route = case.route
    for name, value in case.facts.headers:
        if any(octet < 0x20 and octet != 0x09 for octet in value):
            if route is not None and canonical_header_name(name) == route.jws.canonical:
                return spelling_mistake(value)
            label = shown(name.decode("latin-1"), 40)
            return Mistake(f"The header {label} holds a control character, such as a line break", "remove it")
        for source in (route.client_id, route.jws) if route else ():
            if canonical_header_name(name) == source.canonical and name.lower() != source.exact:
                label = shown(name.decode("latin-1"), 40)
                return Mistake(f"The header is called {label}, not {source.name}", f"call it {source.name}")
    return None


def preflight_mistake(case: Case) -> Mistake | None:
    """A browser's question before a request from a script, where the route does not answer it."""
    method = requested_method(case.facts)
    if method is None:
        return None
    try:
        route = case.snapshot.router.find(method, case.facts.target)
    except Rejection:
        return None
    if route is None or route.cors is not None:
        return None
    origin = next(value.decode("latin-1") for name, value in case.facts.headers if name.lower() == b"origin")
    return Mistake(
        f"It is a browser's CORS preflight for {shown(method, 20)}, and the route {shown(route.name)} has no cors",
        f"give the route cors with origins: [{shown(origin.strip())}], so that the gate answers preflights itself",
    )


def unknown_route(case: Case) -> Mistake:
    """What differs from the routes that there are."""
    try:
        segments = path_segments(case.facts.target)
    except Rejection:
        return Mistake("No route has this path", remedy_of(Reason.ROUTE_UNKNOWN))
    router, method = case.snapshot.router, shown(case.facts.method, 20)
    routes = [route for route in router if route.methods and router.match(min(route.methods), segments) is route]
    if routes:
        has = ", ".join(sorted({m for route in routes for m in route.methods or ()}))
        return Mistake(
            f"The path {case.path} has no route for the method {method}, only for {has}", f"call it with {has}"
        )
    slash = segments[:-1] if segments[-1] == "" else (*segments, "")
    if slash and router.match(case.facts.method, slash) is not None:
        less = "without" if segments[-1] == "" else "with"
        return Mistake(
            f"No route has the path {case.path}; there is one {less} a slash at its end", f"call it {less} it"
        )
    for cut in range(1, len(segments)):
        if router.match(case.facts.method, segments[cut:]) is not None:
            rest = "/" + "/".join(segments[cut:])
            return Mistake(
                f"No route has the path {case.path}; there is one for {shown(rest)}", "leave out the beginning"
            )
    patterns = {_pattern(route): route for route in router}
    near = difflib.get_close_matches(case.path, patterns, 1, 0.6)
    what = f"No route has the path {case.path}"
    return Mistake(f"{what}; the nearest is {near[0]}" if near else what, remedy_of(Reason.ROUTE_UNKNOWN))


def _pattern(route: Route) -> str:
    segments = ["{…}" if segment is None else segment for segment in route.pattern.segments]
    return "/" + "/".join([*segments, *(["**"] if route.pattern.prefix else [])])


# The application


def missing_client_id(case: Case) -> Mistake | None:
    """A client ID in the wrong place, or none."""
    if case.route is None:
        return None
    index = case.snapshot.portal.index
    known = elsewhere(case, case.route.client_id, "client ID", lambda value: value.encode("latin-1") in index)
    return known or Mistake(f"No client ID was sent in {place_text(case.route.client_id)}", "send the client ID there")


def unknown_client_id(case: Case) -> Mistake | None:
    """How a client ID differs from those of the portal."""
    sent = "" if case.route is None else _sent(case, case.route.client_id)
    portal = case.snapshot.portal
    bare = sent.strip(_WRAPPING)[:_LONGEST]
    remedy = remedy_of(Reason.CLIENT_ID_UNKNOWN)
    for how, mend, spelled in _spellings(sent[:_LONGEST]):
        if spelled in portal.index:
            return Mistake(f"The client ID {how}", mend)
    if is_placeholder(sent):
        name = shown(sent, 40)
        return Mistake(
            f"A placeholder was sent in place of the client ID: {name}", "fill in the variable before it is sent"
        )
    if holds_private_key(sent.encode("latin-1")):
        return disclosed("the client ID")
    if is_jws(sent):
        return Mistake(
            "A JWS was sent in place of the client ID", f"send it in {place_text(case.route.jws)}" if case.route else ""
        )
    applications = list(islice(portal.applications, case.searched))
    for application in applications:
        if bare and bare in {application.name, application.title}:
            right = ", ".join(application.client_ids) or "none"
            return Mistake(
                f"The application's name was sent in place of its client ID: {shown(bare)}", f"send {shown(right)}"
            )
    ids = [client_id for application in applications for client_id in application.client_ids]
    folded = bare.replace("-", "").casefold()
    for client_id in ids:
        if client_id.replace("-", "").casefold() == folded:
            return Mistake(
                f"The client ID differs from {shown(client_id)} in case or dashes", "send it as it is in the portal"
            )
    if len(bare) >= _LEAST_PART and (whole := next((i for i in ids if bare in i), None)) is not None:
        return Mistake(f"Only a part of the client ID {shown(whole)} was sent: {shown(bare)}", "send it whole")
    near = difflib.get_close_matches(bare, ids[:2000], 1, 0.85)
    if near:
        return Mistake(f"No application has the client ID {shown(sent)}; {shown(near[0])} is much like it", remedy)
    return Mistake(f"No application has the client ID {shown(sent)}", remedy)


def _spellings(sent: str) -> Iterator[tuple[str, str, bytes]]:
    """What a client ID may have been before something was done to it, with what that was and what mends it."""
    octets = sent.encode("latin-1")
    as_it_is = "send it as it is in the portal, and nothing else"
    yield "is wrapped in quotes or brackets", "send it without them", sent.strip(_WRAPPING).encode("latin-1")
    text, names = without_invisible(octets.decode("utf-8", "replace"))
    if not names:
        text, names = without_invisible(sent)
    how = f"has {names} in it, as texts have that were copied from a document or a chat"
    yield how, "write it anew", text.strip().encode("utf-8", "replace")
    yield "is URL-escaped", as_it_is, unquote_to_bytes(octets)
    for mark in "=:":
        before, found, after = sent.partition(mark)
        if found:
            yield f"has {shown(before + mark, 40)} in front of it", as_it_is, after.strip().encode("latin-1")
    parts = {part.strip() for part in sent.split(",")}
    if "," in sent and len(parts) == 1:
        once = "send it once; look whether a library and the code both add it"
        yield "stands more than once in one value, with commas between", once, parts.pop().encode("latin-1")
    yield "is base64-encoded", as_it_is, lenient_octets(octets) or b""


def _sent(case: Case, source: Source) -> str:
    for name, value in case.facts.headers:
        if source.place == "header" and name.lower() == source.exact:
            return value.decode("latin-1").strip(" \t")
    names = {f"{source.place} {source.name}"}
    return next((value for place, value in _plain_values(case) if place in names), "")


def certificate_mistake(case: Case) -> Mistake | None:
    """What is wrong with the registered certificates."""
    if case.application is None or case.rejected is None:
        return None
    certificates, reason = case.application.certificates, case.rejected.reason
    match reason:
        case Reason.CERTIFICATE_MISSING:
            return Mistake(
                f"No certificate is registered for the application {called(case.application)}", remedy_of(reason)
            )
        case Reason.CERTIFICATE_EXPIRED:
            last = max(certificates, key=lambda certificate: certificate.not_after)
            when = f"{ago(last.not_after, case.now)} ({moment(last.not_after)})"
            return Mistake(f"The registered certificate expired {when}: {shown(last.subject)}", remedy_of(reason))
        case Reason.CERTIFICATE_NOT_YET_VALID:
            first = min(certificates, key=lambda certificate: certificate.not_before)
            when = f"{ago(first.not_before, case.now)} ({moment(first.not_before)})"
            return Mistake(f"The registered certificate counts only {when}: {shown(first.subject)}", remedy_of(reason))
        case _:
            detail = case.rejected.detail
            return Mistake(
                f"{detail[:1].upper()}{detail[1:]}: {certificate_text(certificates[0], case.now)}", remedy_of(reason)
            )


def disabled_application(case: Case) -> Mistake | None:
    """Which application is switched off."""
    if case.application is None:
        return None
    return Mistake(
        f"The application {called(case.application)} is disabled or suspended in the portal",
        remedy_of(Reason.APPLICATION_DISABLED),
    )
