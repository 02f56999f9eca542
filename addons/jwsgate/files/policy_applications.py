"""From the `applications` of a policy to its routes as they are for these applications."""

import difflib
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace

from jwsgate.core.narrowing import Narrowing, excess, narrowed
from jwsgate.core.packed import Names
from jwsgate.core.policy import NarrowedRoutes, Route
from jwsgate.core.portal import ClientId

from .policy_shapes import ApplicationShape
from .problems import Finding

__all__ = ["Narrower", "narrowing_of"]

_ONLY_NARROWS = "take it out, or list other routes under routes: more than a route allows is said at the route"


def _set(values: Sequence[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def narrowing_of(shape: ApplicationShape) -> Narrowing:
    """The shape as the core has it."""
    claims = shape.claims
    said = {} if claims is None else {name: getattr(claims, name) for name in claims.model_fields_set}
    return Narrowing(
        client_ids=_set(shape.client_id),
        names=_set(shape.application),
        organizations=_set(shape.organization),
        catalogs=_set(shape.catalog),
        routes=_set(shape.routes),
        algorithms=_set(shape.algorithms),
        claims={name: tuple(value) if isinstance(value, list) else value for name, value in said.items()},
        max_jws_octets=None if shape.jws is None else shape.jws.max_octets,
        max_body_octets=shape.max_body_octets,
        mode=shape.mode,
    )


class Narrower:
    """Makes the routes of one policy narrower for the applications that it names."""

    def __init__(self, shapes: Iterable[tuple[int, ApplicationShape]], applications: Iterable[Names]) -> None:
        self._narrowings = {number: narrowing_of(shape) for number, shape in shapes}
        self._groups: dict[tuple[int, ...], int] = {}
        self._group_of: dict[ClientId, int] = {}
        self._reporting: set[int] = set()
        for application in applications if self._narrowings else ():
            found = tuple(number for number, each in self._narrowings.items() if each.concerns(application))
            if found:
                group = self._groups.setdefault(found, len(self._groups))
                self._group_of.update((ClientId(client_id), group) for client_id in application.client_ids)

    def findings(self, routes: Sequence[Route], names: Set[str]) -> Iterator[Finding]:
        """What would let more pass than the routes do; and `routes` that are none of the `names`."""
        for number, narrowing in self._narrowings.items():
            for name in sorted((narrowing.routes or frozenset()) - names):
                close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                remedy = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(names)[:20])}"
                yield ("applications", number, "routes"), f"names {name!r}, which is no route of this policy", remedy
            told: set[tuple[str, ...]] = set()
            for route in routes:
                for key, message in excess(route, narrowing):
                    if key not in told:  # of many routes, one is enough
                        told.add(key)
                        yield ("applications", number, *key), message, _ONLY_NARROWS

    def narrowed(self, route: Route) -> Route:
        """The route, with what it is for the applications that are named."""
        if not self._groups or route.open:
            return route
        made = tuple(narrowed(route, [self._narrowings[number] for number in numbers]) for numbers in self._groups)
        self._reporting |= {group for group, each in enumerate(made) if each.report and not route.report}
        return replace(route, narrowed=NarrowedRoutes(self._group_of, made))

    def reported(self) -> Iterator[ClientId]:
        """The client IDs of applications that are in report mode where others are not."""
        return (client_id for client_id, group in self._group_of.items() if group in self._reporting)
