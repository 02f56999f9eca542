"""From what a policy says of claims to the rules that the core checks."""

from typing import Any, Final

from jwsgate.core.claims import ClaimRules, Matching

from .patterns import texts_of_pattern
from .policy_shapes import ClaimsShape
from .problems import Finding, Location, Unfit

__all__ = ["claim_rules"]

_WITH_PATTERN: Final = ("issuer", "audience")


def claim_rules(
    route: ClaimsShape | None, defaults: ClaimsShape | None, place: Location
) -> tuple[ClaimRules, list[Finding]]:
    """The rules of the route at that place; a key said there replaces the same key of the defaults. With findings, the
    rules must not be used."""
    said: dict[str, Any] = {}
    places: dict[str, Location] = {}
    for shape, where in ((defaults, ("defaults",)), (route, place)):
        if shape is None:
            continue
        new = {name: getattr(shape, name) for name in shape.model_fields_set}
        for name in _WITH_PATTERN:
            # Values and a pattern are two spellings of one rule: either replaces the other.
            if not new.keys().isdisjoint({name, f"{name}_pattern"}):
                said.pop(name, None)
                said.pop(f"{name}_pattern", None)
        said |= new
        places |= {name: (*where, "claims", name) for name in new}
    rules = ClaimsShape(**said)
    findings: list[Finding] = []
    one_of: dict[str, tuple[str, ...] | Matching] = {}
    for name in _WITH_PATTERN:
        pattern = getattr(rules, f"{name}_pattern")
        try:
            one_of[name] = tuple(getattr(rules, name) or ()) if pattern is None else texts_of_pattern(pattern)
        except Unfit as error:
            findings.append((places[f"{name}_pattern"], str(error), error.remedy))
    made = ClaimRules(
        required=tuple(rules.required),
        leeway=rules.leeway,
        max_lifetime=rules.max_lifetime,
        subject=tuple(rules.subject or ()),
        client_id_claim=rules.client_id_claim,
        typ=tuple(rules.typ or ()),
        **one_of,
    )
    return made, findings
