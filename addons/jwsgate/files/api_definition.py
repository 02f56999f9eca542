"""From an API definition of API Connect to the data of a policy.

A definition is turned into the data of a policy of our own, each part with its place in the definition, so that all
that a policy is checked for holds here too, and so that it can be written out. What cannot be turned is a problem.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from jwsgate.core.claims import Matching

from .api_assembly import UNCHANGED_BODY, UNIGNORABLE, Flow
from .openapi import OpenApi, Operation, mapping, operation_key
from .openapi_shapes import DocumentExtension, Extension, JwtValidateShape, OperationExtension
from .patterns import texts_of_pattern
from .problems import Finding, KeyLocation, Location, Unfit
from .shapes import check_shape

__all__ = ["TranslatedPolicy", "translate"]

_EXTENSION: Final = "x-jwsgate"
_CONFIGURATION: Final = frozenset({
    "gateway", "enforced", "phase", "testable", "type", "cors", "properties", "catalogs", "categories",
    "activity-log", "assembly", "application-authentication",
})  # fmt: skip
_LISTS: Final = ("applications", "tests")
_HEADER: Final = re.compile(r"request\.headers\.(.+)")


def _raw(shape: Extension, said: Any) -> dict[str, Any]:
    """The demands that an extension says, typed, for a policy of our own."""
    left_out = {
        "sign", "ignore", "registered_certificate", "prefix", "forward", "respond", "client_certificate",
        *_LISTS,
    }  # fmt: skip
    data: dict[str, Any] = shape.model_dump(by_alias=True, exclude_unset=True, exclude=left_out)
    if shape.client_certificate is not None:
        data["client_certificate"] = said["client_certificate"]  # all text, which its words and networks are not
    return data


@dataclass(slots=True)
class TranslatedPolicy:
    """A definition as data of a policy."""

    defaults: dict[str, Any] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Its applications and tests, if it has any."""
    origins: dict[Location, Location] = field(default_factory=dict)
    """Where in the definition a part of the data comes from; the longest known start of a location counts."""
    findings: list[Finding] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """The data of the policy."""
        defaults = {"defaults": self.defaults} if self.defaults else {}
        return {**defaults, "routes": self.routes, **self.lists}

    def origin(self, location: Location) -> Location:
        """The place in the definition of what stands at a location of the data."""
        for length in range(len(location), 0, -1):
            if (start := self.origins.get(tuple(location[:length]))) is not None:
                return (*start, *location[length:])
        return ()


class _Translator:
    def __init__(self, data: Any) -> None:
        self.policy = TranslatedPolicy()
        self._data = mapping(data)
        self._extension = self._extension_at(DocumentExtension, self._data.get(_EXTENSION, {}), (_EXTENSION,))
        self._openapi = OpenApi(self._data, self.policy.findings)
        self._operations = self._openapi.operations
        self._places: set[Location] = set()
        self._shapes: dict[Location, Any] = {}

    def _find(self, place: Location, message: str, remedy: str) -> None:
        self.policy.findings.append((place, message, remedy))

    def _extension_at[S: Extension](self, kind: type[S], said: Any, place: Location) -> S:
        shape, findings = check_shape(kind, said)
        for location, message, remedy in findings:
            self._find(type(location)((*place, *location)), message, remedy)
        return kind() if shape is None else shape

    def _check_everywhere(self, value: Any, place: Location) -> None:
        """Slips by which a demand would be passed over: an extension in a place where nobody looks for it, and an
        operation-switch that names operations which the document does not have."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._check_everywhere(item, (*place, index))
        if not isinstance(value, dict):
            return
        for key, inner in value.items():
            looks_like_it = re.sub("[-_]", "", key.lower()).startswith("xjwsgate")
            if looks_like_it and (key != _EXTENSION or (place and place not in self._places)):
                message = "counts at the top and at operations only, as x-jwsgate"
                self._find(KeyLocation((*place, key)), message, "move it there")
            if key == "operation-switch":
                self._check_cases(mapping(inner).get("case"), (*place, key, "case"))
            self._check_everywhere(inner, (*place, key))

    def _check_cases(self, cases: Any, place: Location) -> None:
        known = {key for _, operation, _ in self._operations for key in operation.names()}
        seen = set()
        for index, case in enumerate(cases if isinstance(cases, list) else ()):
            operations = mapping(case).get("operations")
            for number, named in enumerate(operations if isinstance(operations, list) else ()):
                here = (*place, index, "operations", number)
                key = operation_key(named)
                if key not in known:
                    self._find(here, "is no operation of this document", "name one by verb and path, as under paths")
                elif key in seen:
                    self._find(here, "stands in two cases", "keep one")
                seen.add(key)

    def run(self) -> TranslatedPolicy:
        self._openapi.read()
        self._places = {place for place, _, _ in self._operations}
        self._check_everywhere(self._data, ())
        configuration = self._data.get("x-ibm-configuration")
        if not isinstance(configuration, dict):
            remedy = "export the API from API Connect with its assembly"
            self._find(("x-ibm-configuration",), "is missing, so that nothing says what to demand", remedy)
            return self.policy
        ignore = frozenset(self._extension.ignore or ())
        for key in configuration.keys() - _CONFIGURATION - ignore:
            self._find(
                KeyLocation(("x-ibm-configuration", key)),
                "is nothing that the gate carries out",
                f"remove it, or ignore {key}",
            )
        assembly = mapping(configuration.get("assembly"))
        for key in assembly.keys() - {"execute"} - ignore:
            if assembly[key] != []:
                message = "is not carried out: the gate answers what it refuses in its own words"
                self._find(
                    KeyLocation(("x-ibm-configuration", "assembly", key)),
                    message,
                    f"remove it, or say x-jwsgate: {{ignore: [{key}]}}",
                )
        self._defaults(configuration)
        routed = set()
        for place, operation, said in self._operations:
            if self._operation(place, operation, said, assembly.get("execute")):
                routed.add(operation.path)
        for place, operation, _ in self._operations:
            if operation.path not in routed and not self.policy.findings:
                # Beside another method of its path, an operation without route is refused. Alone it might fall to
                # the /** of another policy.
                self._find(KeyLocation(place), "always comes to throw", "remove it: what has no route is refused")
        return self.policy

    def _defaults(self, configuration: dict[str, Any]) -> None:
        said = mapping(self._data.get(_EXTENSION))
        self.policy.defaults = _raw(self._extension, said)
        self.policy.origins["defaults",] = (_EXTENSION,)
        for name in _LISTS:
            if said_list := getattr(self._extension, name):
                self.policy.lists[name] = [each.model_dump(by_alias=True, exclude_unset=True) for each in said_list]
                self.policy.origins[name,] = (_EXTENSION, name)
        if "client_id" in self.policy.defaults:
            self._find((_EXTENSION, "client_id"), "is what securityDefinitions say", "remove it here")
        asked = configuration.get("application-authentication", [])
        place: Location = ("x-ibm-configuration", "application-authentication")
        words = set()
        for item in asked if isinstance(asked, list) else [asked]:
            if item != {"certificate": "false"}:
                words.add("certificate" if item in ("certificate", {"certificate": "true"}) else "")
        if words - {"certificate"}:
            self._find(place, "is not known", "write certificate: true")
        if words:
            self.policy.defaults.setdefault("client_certificate", "required")
        for where, extension in self._extensions():
            if words and extension.get("client_certificate") == "none":
                message = "contradicts application-authentication"
                self._find((*where, "client_certificate"), message, "remove one of the two")

    def _extensions(self) -> Iterator[tuple[Location, dict[str, Any]]]:
        yield (_EXTENSION,), mapping(self._data.get(_EXTENSION))
        for place, _, said in self._operations:
            yield (*place, _EXTENSION), mapping(said.get(_EXTENSION))

    def _operation(self, place: Location, operation: Operation, said: dict[str, Any], steps: Any) -> bool:
        """Add the operation's route. False when it never comes through, or with findings."""
        where = (*place, _EXTENSION)
        extension = self._extension_at(OperationExtension, said.get(_EXTENSION, {}), where)
        ignore = frozenset(self._extension.ignore or ()) | frozenset(extension.ignore or ())
        for at, each in (((_EXTENSION,), self._extension), (where, extension)):
            for word in UNIGNORABLE.intersection(each.ignore or ()):
                self._find((*at, "ignore"), f"names {word}, which says who may pass", "take it out")
        client_id = self._openapi.client_id(place, said, ignore)
        flow = Flow(operation, ignore, self._shapes)
        flow.run(steps, ("x-ibm-configuration", "assembly", "execute"))
        self.policy.findings += flow.findings
        if client_id is None or flow.throw is not None:
            return False
        route = {
            "name": operation.name or f"{operation.verb} {operation.path}",
            "path": (self._extension.prefix or "").removesuffix("/") + operation.base + operation.path,
            "methods": [operation.verb.upper()],
            "client_id": client_id[1],
        }
        index = len(self.policy.routes)
        origins = {(): where, ("client_id",): client_id[0], ("path",): place, ("name",): place, ("methods",): place}
        extra = _raw(extension, mapping(said.get(_EXTENSION)))
        if "client_id" in extra:
            self._find((*where, "client_id"), "is what securityDefinitions say", "remove it here")
        # Of steps that are not understood, what they come to is not worth telling.
        action = {} if flow.findings else self._action(flow, extension, place, where)
        if flow.generate is not None:
            step, shape, (issuer, audience) = flow.generate
            key = extension.sign or self._extension.sign
            if key is None:
                message = "names a Crypto Key, which the gate does not have"
                self._find((*step, "jws-crypto"), message, "say x-jwsgate: {sign: {key: FILE}}")
                return False
            action = {"sign": {
                "key": key.key, "algorithm": shape.jws_alg, "issuer": issuer, "audience": audience,
                "lifetime": shape.exp_claim,
            }}  # fmt: skip
            origins["sign",] = step
            origins["sign", "key"] = (*(where if extension.sign else (_EXTENSION,)), "sign", "key")
        elif flow.validate is not None:
            origins["jws",] = (*flow.validate[0], "jwt")
            extra |= self._demands(flow, extra, extension)
        self.policy.routes.append(route | extra | action)
        self.policy.origins |= {("routes", index, *key): value for key, value in origins.items()}
        return True

    def _action(self, flow: Flow, extension: OperationExtension, place: Location, where: Location) -> dict[str, Any]:
        """What becomes of a request that has come through."""
        body = flow.value("message.body").kind
        mapped = extension.forward is not None or extension.respond is not None
        if flow.generate is not None:
            if mapped:
                self._find(where, "forwards or responds where a jwt-generate step signs", "keep one of the two")
            elif body != "jws" and extension.sign is None:
                message = "makes a JWS that does not become the response"
                remedy = "set message.body to it, or say x-jwsgate: {sign: {key: FILE}} at the operation"
                self._find(KeyLocation(flow.generate[0]), message, remedy)
            return {}
        if extension.sign is not None:
            self._find((*where, "sign"), "has no jwt-generate step that would sign", "remove it here")
        if flow.validate is None and not mapped:
            message = "comes to no jwt-validate, and the gate lets nothing pass without a JWS"
            remedy = "add the step, or say x-jwsgate: {forward: true} to demand the JWS in the header jwt"
            self._find(KeyLocation(place), message, remedy)
        if extension.respond is not None:
            return {"respond": "claims"}
        if extension.forward is not None:
            return {"forward": True}
        if flow.invoke is not None and flow.value("message.body") in UNCHANGED_BODY:
            return {"forward": True}
        if flow.invoke is None and body == "claims":
            return {"respond": "claims"}
        message = "comes neither to invoke nor to the claims as response"
        remedy = "say x-jwsgate: {forward: true} or {respond: claims} at the operation"
        self._find(KeyLocation(place), message, remedy)
        return {}

    def _demands(self, flow: Flow, extra: dict[str, Any], extension: Extension) -> dict[str, Any]:
        """What a jwt-validate step demands, beside what the operation's extension says."""
        if flow.validate is None:
            return {}
        step, shape, source = flow.validate
        header = _HEADER.fullmatch(source.text)
        if source.kind != "variable" or header is None:
            message = f"names {shape.jwt}, which is not one header of the request"
            self._find((*step, "jwt"), message, "write request.headers.NAME")
            return {}
        jws = dict(mapping(extra.get("jws")))
        for jws_said, place in ((jws, "at the operation"), (mapping(self.policy.defaults.get("jws")), "at the top")):
            if jws_said.keys() - {"max_octets"}:
                message = f"gets its JWS from {shape.jwt}, but x-jwsgate {place} says of jws more than max_octets"
                self._find((*step, "jwt"), message, "remove one of the two")
        jws["header"] = header[1]
        if header[1].lower() == "authorization":
            jws["scheme"] = "Bearer"
        self._check_key(flow, step, shape, extension)
        return {"jws": jws, "claims": self._claims(step, shape, extra)}

    def _check_key(self, flow: Flow, step: Location, shape: JwtValidateShape, extension: Extension) -> None:
        ignore = {*(self._extension.ignore or ()), *(extension.ignore or ())}
        if shape.jws_crypto is not None and "jws-crypto" not in ignore:
            message = "names one key for all, and the gate verifies with each application's registered certificate"
            remedy = "write jws-jwk, or say x-jwsgate: {ignore: [jws-crypto]}"
            self._find((*step, "jws-crypto"), message, remedy)
        registered = extension.registered_certificate or self._extension.registered_certificate
        if flow.key is not None and (
            registered is None or flow.key != flow.value(registered) or flow.key.kind == "text"
        ):
            message = f"names {shape.jws_jwk}, which need not be the registered certificate's key"
            remedy = f"if it is, say x-jwsgate: {{registered_certificate: {shape.jws_jwk}}}"
            self._find((*step, "jws-jwk"), message, remedy)

    def _claims(self, step: Location, shape: JwtValidateShape, extra: dict[str, Any]) -> dict[str, Any]:
        claims = dict(mapping(extra.get("claims")))
        defaults = mapping(self.policy.defaults.get("claims"))
        if "required" not in claims and "required" not in defaults:
            claims["required"] = []  # as in API Connect: exp counts where it is present
        for rule, key, pattern in (
            ("issuer", "iss-claim", shape.iss_claim), ("audience", "aud-claim", shape.aud_claim),
        ):  # fmt: skip
            if pattern is None:
                continue
            for said in (rule, f"{rule}_pattern"):
                if said in claims or said in defaults:
                    self._find((*step, key), f"says what x-jwsgate says as {said}", "remove one of the two")
            try:
                texts = texts_of_pattern(pattern)
            except Unfit as error:
                self._find((*step, key), str(error), error.remedy)
                continue
            if isinstance(texts, Matching):
                claims[f"{rule}_pattern"] = pattern
            else:
                claims[rule] = list(texts)
        return claims


def translate(data: Any) -> TranslatedPolicy:
    """Turn the content of an API definition into a policy. One with `findings` must not be used."""
    return _Translator(data).run()
