"""What a policy demands of single applications besides: its routes made narrower for them, and never wider.

Rule 1. Each narrowing alone must ask for no more than a route allows already; `excess` tells where one does not.
Rule 2. Of several that concern an application all hold. What they leave nothing of is barred.
Rule 3. Report mode is the one thing that lets more pass. It must be said of an application by its client ID, holds on
        the routes only that the narrowing names, and gives way to whatever else says enforce or bars the route.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from .claims import ClaimRules, media_type
from .packed import Names
from .policy import Forward, Route

__all__ = ["Narrowing", "excess", "narrowed"]

_ONE_OF: Final = ("issuer", "audience", "subject", "typ")


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Which applications are meant, and what is demanded of them besides; None where nothing is said."""

    client_ids: frozenset[str] | None = None
    names: frozenset[str] | None = None
    """Names or titles."""
    organizations: frozenset[str] | None = None
    catalogs: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    """Names of the routes that they may call."""
    algorithms: frozenset[str] | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ClaimRules`."""
    max_jws_octets: int | None = None
    max_body_octets: int | None = None
    mode: Literal["enforce", "report"] | None = None

    def concerns(self, application: Names) -> bool:
        """Whether an application is meant: all that is said must be so."""
        return all(
            wanted is None or not wanted.isdisjoint(said)
            for wanted, said in (
                (self.client_ids, application.client_ids),
                (self.names, (application.name, application.title)),
                (self.organizations, (application.organization,)),
                (self.catalogs, (application.catalog,)),
            )
        )

    def may_call(self, route: Route) -> bool:
        """Whether the route is one of theirs."""
        return self.routes is None or route.name in self.routes


def _fitting(name: str, values: Collection[str], allowed: Any) -> tuple[str, ...]:
    """Those of the values that the rule of that name lets pass already."""
    if not allowed:
        return tuple(values)
    if name == "typ":
        folded = {media_type(value) for value in allowed}
        return tuple(value for value in values if media_type(value) in folded)
    return tuple(value for value in values if value in allowed)


def excess(route: Route, narrowing: Narrowing) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a narrowing asks for more than the route allows, or for what cannot be looked at there: key and message."""
    if route.open or not narrowing.may_call(route):
        return
    rules, said = route.claims, narrowing.claims
    if route.algorithms is not None:
        for algorithm in sorted((narrowing.algorithms or frozenset()) - route.algorithms):
            yield ("algorithms",), f"names {algorithm}, which route {route.name!r} does not allow"
    if route.detached and said.keys() - {"typ"}:
        yield ("claims",), f"cannot be checked on route {route.name!r}, whose JWS is detached and has no claims"
    for name in _ONE_OF:
        values = said.get(name, ())
        for value in sorted({*values} - {*_fitting(name, values, getattr(rules, name))}):
            yield ("claims", name), f"names {value!r}, which route {route.name!r} does not allow"
    limits = (
        (("claims", "leeway"), said.get("leeway"), rules.leeway),
        (("claims", "max_lifetime"), said.get("max_lifetime"), rules.max_lifetime),
        (("jws", "max_octets"), narrowing.max_jws_octets, route.max_jws_octets),
        (("max_body_octets",), narrowing.max_body_octets, route.max_body_octets),
    )
    for key, more, limit in limits:
        if more is not None and limit is not None and more > limit:
            yield key, f"is more than the {limit} of route {route.name!r}"
    claim = said.get("client_id_claim", rules.client_id_claim)
    if rules.client_id_claim not in {None, claim}:
        yield ("claims", "client_id_claim"), f"is another than the {rules.client_id_claim!r} of route {route.name!r}"


def _least(*numbers: int | None) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def _claims(rules: ClaimRules, said: Mapping[str, Any]) -> ClaimRules | None:
    """The rules with what is said besides; None when they leave nothing that could pass."""
    changed: dict[str, Any] = {}
    for name in _ONE_OF:
        if name in said:
            changed[name] = _fitting(name, said[name], getattr(rules, name))
            if not changed[name]:
                return None
    claim = said.get("client_id_claim", rules.client_id_claim)
    if rules.client_id_claim not in {None, claim}:
        return None
    return replace(
        rules,
        required=tuple(dict.fromkeys((*rules.required, *said.get("required", ())))),
        leeway=min(rules.leeway, said.get("leeway", rules.leeway)),
        max_lifetime=_least(rules.max_lifetime, said.get("max_lifetime")),
        client_id_claim=claim,
        **changed,
    )


def _narrower(route: Route, narrowing: Narrowing) -> Route:
    algorithms = narrowing.algorithms
    if algorithms is not None and route.algorithms is not None:
        algorithms &= route.algorithms
    claims = _claims(route.claims, narrowing.claims)
    if claims is None or algorithms == frozenset() or not narrowing.may_call(route):
        return replace(route, barred=True)
    return replace(
        route,
        algorithms=route.algorithms if algorithms is None else algorithms,
        claims=claims,
        max_jws_octets=min(route.max_jws_octets, narrowing.max_jws_octets or route.max_jws_octets),
        max_body_octets=_least(route.max_body_octets, narrowing.max_body_octets),
    )


def narrowed(route: Route, narrowings: Sequence[Narrowing]) -> Route:
    """The route as it is for an application that all these narrowings concern."""
    made = route
    for narrowing in narrowings:
        made = _narrower(made, narrowing)
    modes = {narrowing.mode for narrowing in narrowings}
    report = route.report
    if "enforce" in modes:
        report = False
    elif "report" in modes and not made.barred and isinstance(route.action, Forward):
        report = True
    return replace(made, report=report)
