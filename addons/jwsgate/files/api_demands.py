"""What a jwt-validate step demands, in the words of a policy.

What x-jwsgate says beside it adds to that and never takes its place, unless the step's own word is ignored by name.
"""

import re
from collections.abc import Mapping, Set
from typing import Any, Final

from jwsgate.core.claims import Matching

from .api_assembly import Flow
from .api_step_keys import REPLACED, remedy_of
from .openapi import mapping
from .openapi_shapes import JwtValidateShape
from .patterns import texts_of_pattern
from .problems import Finding, Location, Unfit

__all__ = ["demands"]

_HEADER: Final = re.compile(r"request\.headers\.(.+)")


class _Demands:
    def __init__(self, own: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.findings: list[Finding] = []
        self._own = own
        self._defaults = defaults

    def _find(self, place: Location, message: str, remedy: str) -> None:
        self.findings.append((place, message, remedy))

    def jws(self, step: Location, shape: JwtValidateShape, flow: Flow) -> dict[str, Any] | None:
        """Where the JWS is; None when that is not the step's to say, or with findings."""
        if flow.validate is None or "jwt" in flow.left_out:
            return None
        source = flow.validate[2]
        header = _HEADER.fullmatch(source.text)
        if source.kind != "variable" or header is None:
            message = f"names {shape.jwt}, which is not one header of the request"
            remedy = "write request.headers.NAME, or say x-jwsgate: {jws: {header: …}, ignore: [jwt-validate.jwt]}"
            self._find((*step, "jwt"), message, remedy)
            return None
        said = dict(mapping(self._own.get("jws")))
        for each, place in ((said, "at the operation"), (mapping(self._defaults.get("jws")), "at the top")):
            if each.keys() - {"max_octets"}:
                message = f"gets its JWS from {shape.jwt}, but x-jwsgate {place} says of jws more than max_octets"
                self._find((*step, "jwt"), message, "remove that, or say ignore: [jwt-validate.jwt] beside it")
        scheme = {"scheme": "Bearer"} if header[1].lower() == "authorization" else {}
        return {**said, "header": header[1], **scheme}

    def check_replaced(self, left_out: Mapping[str, Location]) -> None:
        """What is ignored of who may pass, x-jwsgate has to say in its place."""
        for key, place in left_out.items():
            name = "jws" if key == "jwt" else "claims"
            said = {*mapping(self._own.get(name)), *mapping(self._defaults.get(name))}
            words = REPLACED.get(key, ())
            if words and said.isdisjoint(words):
                message = "says who may pass, and cannot be ignored without something in its place"
                self._find(place, message, f"say x-jwsgate: {{{name}: {{{words[0]}: …}}}}")

    def check_key(
        self, step: Location, shape: JwtValidateShape, flow: Flow, ignore: Set[str], registered: str | None
    ) -> None:
        """The key has to be the registered certificate's."""
        if shape.jws_crypto is not None and "jws-crypto" not in ignore:
            message = "names one key for all, and the gate verifies with each application's registered certificate"
            self._find((*step, "jws-crypto"), message, remedy_of("jwt-validate", "jws-crypto", "write jws-jwk"))
        if flow.key is None:
            return
        if flow.key.kind == "text" or str(shape.jws_jwk).startswith("{"):
            message = "is a fixed key, and the gate verifies with each application's registered certificate"
            instead = "let clients sign with the keys that they registered"
            self._find((*step, "jws-jwk"), message, remedy_of("jwt-validate", "jws-jwk", instead))
        elif registered is None or (registered != shape.jws_jwk and flow.key != flow.value(registered)):
            message = f"names {shape.jws_jwk}, which need not be the registered certificate's key"
            remedy = f"if it is, say x-jwsgate: {{registered_certificate: {shape.jws_jwk}}}"
            self._find((*step, "jws-jwk"), message, remedy)

    def claims(self, step: Location, shape: JwtValidateShape) -> dict[str, Any]:
        """Rules on claims, beside those of x-jwsgate."""
        claims = dict(mapping(self._own.get("claims")))
        defaults = mapping(self._defaults.get("claims"))
        if "required" not in claims and "required" not in defaults:
            claims["required"] = []  # as in API Connect: exp counts where it is present
        for rule, key, pattern in (
            ("issuer", "iss-claim", shape.iss_claim), ("audience", "aud-claim", shape.aud_claim),
        ):  # fmt: skip
            if pattern is None:
                continue
            for said in (rule, f"{rule}_pattern"):
                if said in claims or said in defaults:
                    message = f"says what x-jwsgate says as {said}"
                    self._find((*step, key), message, f"remove one of the two, or say ignore: [jwt-validate.{key}]")
            try:
                texts = texts_of_pattern(pattern)
            except Unfit as error:
                instead = f"{{claims: {{{rule}: …}}, ignore: [jwt-validate.{key}]}}"
                self._find((*step, key), str(error), f"{error.remedy}; or say x-jwsgate: {instead}")
                continue
            if isinstance(texts, Matching):
                claims[f"{rule}_pattern"] = pattern
            else:
                claims[rule] = list(texts)
        return claims


def demands(
    flow: Flow, own: Mapping[str, Any], defaults: Mapping[str, Any], ignore: Set[str], registered: str | None
) -> tuple[dict[str, Any], list[Finding]]:
    """What the flow's jwt-validate step demands, beside x-jwsgate's `own` words at the operation and the `defaults`."""
    if flow.validate is None:
        return {}, []
    step, shape, _ = flow.validate
    made = _Demands(own, defaults)
    made.check_key(step, shape, flow, ignore, registered)
    made.check_replaced(flow.left_out)
    jws = made.jws(step, shape, flow)
    claims = made.claims(step, shape)
    return ({} if jws is None else {"jws": jws}) | {"claims": claims}, made.findings
