"""Where the client ID and the JWS of a route are, and what may not be in the same place."""

from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from jwsgate.core.sources import Source
from jwsgate.core.upstream import Upstream, dropped_name

from .policy_shapes import JwsShape, PlaceShape, SourceShape
from .problems import Unfit

__all__ = ["check_apart", "check_headers", "jws_shape", "source_of"]

_PLACE_KEYS: Final = frozenset({"header", "query", "cookie"})


def source_of(shape: SourceShape, default: str) -> Source:
    """The shape as the core has it; raises `Unfit` when it names no place for what it says."""
    others = tuple(_place(place, default) for place in shape.also or ())
    source = replace(_place(shape, default), others=others)
    places = [(place.place, place.name.lower()) for place in (source, *others)]
    if len({*places}) < len(places):
        raise Unfit("names a place twice", "list each place once")
    return source


def _place(shape: PlaceShape, default: str) -> Source:
    if shape.query is not None:
        return Source("query", shape.query)
    if shape.cookie is not None:
        return Source("cookie", shape.cookie)
    if shape.header is None and shape.scheme is not None:
        raise Unfit("has a scheme but no header", "name the header, such as Authorization")
    return Source("header", shape.header or default, shape.scheme)


def jws_shape(route: JwsShape | None, defaults: JwsShape | None) -> JwsShape:
    """What a route says of its JWS, completed from the defaults; raises `Unfit` when the two do not fit."""
    said: dict[str, Any] = {}
    for shape in (defaults, route):
        if shape is not None:
            new = {name: getattr(shape, name) for name in shape.model_fields_set}
            if new.keys() & _PLACE_KEYS:
                # Another place replaces the whole of the former one.
                said = {name: value for name, value in said.items() if name not in {*_PLACE_KEYS, "scheme", "also"}}
            said |= new
    try:
        return JwsShape(**said)
    except ValidationError as error:
        cause = error.errors()[0].get("ctx", {}).get("error")
        message = f"does not fit the defaults: {cause}"
        raise Unfit(message, cause.remedy if isinstance(cause, Unfit) else "say all of it here") from None


def _in_one_place(client_id: Source, jws: Source) -> bool:
    return (client_id.place, client_id.canonical) == (jws.place, jws.canonical)


def check_apart(client_id: Source, jws: Source) -> None:
    """Refuse one place for both values: of a header that is there twice neither would be read. Where either may be
    elsewhere, two schemes tell them apart.

    Raises:
        Unfit: when the two have a place in common.
    """
    alone = not (client_id.others or jws.others)
    for one in (client_id, *client_id.others):
        for other in (jws, *jws.others):
            schemes = {(each.scheme or "").lower() for each in (one, other)}
            if _in_one_place(one, other) and (alone or "" in schemes or len(schemes) == 1):
                raise Unfit(f"has client ID and JWS in the same {one.place} {one.name}", "give each its own")


def check_headers(upstream: Upstream, client_id: Source, jws: Source) -> None:
    """Refuse to tell the upstream something in a header that a client sends its client ID or its JWS in: whatever is
    told so is dropped from what comes in. Only the client ID itself may be told in its own header.

    Raises:
        Unfit: for the first such header.
    """
    for header in upstream.names:
        for source, what in ((client_id, "client ID"), (jws, "JWS")):
            own = source is client_id and header == upstream.client_id
            taken = {dropped_name(each.exact) for each in (source, *source.others) if each.place == "header"}
            if dropped_name(header.encode("ascii")) in taken and not own:
                raise Unfit(
                    f"writes the header {header}, in which the client sends its {what}",
                    "write another name, such as X-Subject",
                )
