"""What is allowed in a policy, but should be known, or was most likely not meant."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final

from jwsgate.core.packed import names
from jwsgate.core.portal import Portal

from .policy_applications import narrowing_of
from .policy_shapes import ApplicationShape, ClaimsShape, DemandsShape, ListedClaimsShape, RouteShape
from .policy_values import METHODS
from .problems import Finding, Location
from .shapes import check_shape, sound_items

__all__ = ["Told", "policy_doubts"]

type Told = tuple[str, Finding]
"""The name of a rule, and what it found."""

_USUAL: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PATTERN: Final = re.compile(r"[*|\\]|\.\+|\[[^:\]]*\]|\(\?|^\^|\$$")


def _methods(route: RouteShape, place: Location) -> Iterator[Told]:
    for index, method in enumerate(route.methods or ()):
        if method not in METHODS:
            near = difflib.get_close_matches(method, _USUAL, n=1, cutoff=0.6)
            remedy = f"did you mean {near[0]}?" if near else "correct it, if clients do not send it just so"
            yield "method-unregistered", ((*place, "methods", index), "is no registered method", remedy)


def _schemes(shape: DemandsShape, place: Location) -> Iterator[Told]:
    for key, source in (("client_id", shape.client_id), ("jws", shape.jws)):
        for where, each in (
            ((key,), source),
            *(((key, "also", index), other) for index, other in enumerate((source and source.also) or ())),
        ):
            if each is not None and (each.header or "").lower() == "authorization" and each.scheme is None:
                message = "is taken whole, with any Bearer that stands before the value"
                yield "scheme-missing", ((*place, *where, "header"), message, "add scheme: Bearer")


def _patterns(claims: ListedClaimsShape, place: Location) -> Iterator[Told]:
    for key, values in (("issuer", claims.issuer or ()), ("audience", claims.audience or ())):
        for index, value in enumerate(values):
            if _PATTERN.search(value):
                where = (*place, key, index) if len(values) > 1 else (*place, key)
                message = f"looks like a pattern, and is compared as the text {value!r}"
                remedy = "list the values that are meant"
                if isinstance(claims, ClaimsShape):
                    remedy += f", or say {key}_pattern"
                yield "claim-pattern", (where, message, remedy)


def _claims(shape: DemandsShape, place: Location, defaults: ClaimsShape | None) -> Iterator[Told]:
    claims = shape.claims
    if claims is None:
        return
    place = (*place, "claims")
    yield from _patterns(claims, place)
    said = claims.model_fields_set
    rules = {
        name: getattr(claims if name in said or defaults is None else defaults, name)
        for name in ("leeway", "max_lifetime")
    }
    if said & rules.keys() and rules["max_lifetime"] is not None and rules["leeway"] > rules["max_lifetime"]:
        message = f"forgives {rules['leeway']} seconds, more than the {rules['max_lifetime']} that a JWS may live"
        yield "leeway-long", ((*place, *sorted(said & rules.keys())[:1]), message, "say a smaller leeway")


def _demands(shape: DemandsShape, place: Location, defaults: ClaimsShape | None) -> Iterator[Told]:
    if shape.mode == "report":
        message = "lets requests pass without a good JWS"
        yield "route-report", ((*place, "mode"), message, "say mode: enforce once all clients sign")
    if isinstance(shape, RouteShape):
        if shape.open:
            message = "lets every request pass, without a client ID and without a JWS"
            yield "route-open", ((*place, "open"), message, "remove it unless this path is for everybody")
        yield from _methods(shape, place)
    yield from _schemes(shape, place)
    yield from _claims(shape, place, defaults)


def policy_doubts(said: Any, portal: Portal | None) -> Iterator[Told]:
    """What of a policy's data should be known, with the rule that it goes by; of a broken policy, of what is sound."""
    data = said if isinstance(said, dict) else {}
    defaults, _ = check_shape(DemandsShape, data.get("defaults", {}))
    if defaults is not None:
        yield from _demands(defaults, ("defaults",), None)
    for number, route in sound_items(RouteShape, data.get("routes")):
        yield from _demands(route, ("routes", number), None if defaults is None else defaults.claims)
    for number, entry in sound_items(ApplicationShape, data.get("applications")):
        place = ("applications", number)
        if entry.mode == "report":
            message = "lets whoever sends such a client ID pass without a good JWS"
            yield "application-report", ((*place, "mode"), message, "remove it once the client signs")
        if entry.claims is not None:
            yield from _patterns(entry.claims, (*place, "claims"))
        narrowing = narrowing_of(entry)
        if portal is not None and not any(map(narrowing.concerns, names(portal.applications))):
            message = "concerns no application of the portal export"
            yield "application-unknown", (place, message, "correct the name, or remove the entry")
