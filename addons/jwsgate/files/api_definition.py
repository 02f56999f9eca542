"""From an API definition of API Connect to the data of a policy.

A definition is turned into the data of a policy of our own, each part with its place in the definition, so that all
that a policy is checked for holds here too, and so that it can be written out. What cannot be turned is a problem.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from jwsgate.core.policy import PathPattern, PatternError

from .api_assembly import UNCHANGED_BODY, Flow
from .api_demands import demands
from .api_step_keys import ignorable
from .openapi import OpenApi, Operation, mapping, operation_key, route_path
from .openapi_shapes import DocumentExtension, Extension, OperationExtension
from .problems import Finding, KeyLocation, Location
from .shapes import check_shape

__all__ = ["TranslatedPolicy", "translate"]

_EXTENSION: Final = "x-jwsgate"
_CONFIGURATION: Final = frozenset({
    "gateway", "enforced", "phase", "testable", "type", "cors", "properties", "catalogs", "categories",
    "activity-log", "assembly", "application-authentication", "buffering", "compatibility",
})  # fmt: skip
_LISTS: Final = ("applications", "tests")


def _raw(shape: Extension, said: Any) -> dict[str, Any]:
    """The demands that an extension says, typed, for a policy of our own."""
    left_out = {
        "sign", "ignore", "registered_certificate", "prefix", "forward", "respond", "open", "client_certificate",
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
        self._shapes: dict[Any, Any] = {}
        self._certificate_demanded = False

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
                f"remove it, or if nothing depends on it say x-jwsgate: {{ignore: [{key}]}}",
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
        asked = configuration.get("application-authentication", [])
        place: Location = ("x-ibm-configuration", "application-authentication")
        words = set()
        for item in asked if isinstance(asked, list) else [asked]:
            if item != {"certificate": "false"}:
                words.add("certificate" if item in ("certificate", {"certificate": "true"}) else "")
        if words - {"certificate"}:
            self._find(place, "is not known", "write certificate: true")
        self._certificate_demanded = bool(words)
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
            for word in each.ignore or ():
                if not ignorable(word):
                    self._find((*at, "ignore"), f"names {word}, which cannot be ignored", "take it out")
        extra = _raw(extension, mapping(said.get(_EXTENSION)))
        flow = Flow(operation, ignore, self._shapes)
        flow.run(steps, ("x-ibm-configuration", "assembly", "execute"))
        self.policy.findings += flow.findings
        if flow.throw is not None:
            return False
        client_id = self._client_id(place, said, extra, ignore)
        callers = extension.open is not None or self._openapi.is_secured(said) or self._said_client_id(place, extra)
        route: dict[str, Any] = {
            "name": operation.name or f"{operation.verb} {operation.path}",
            "path": (self._extension.prefix or "").removesuffix("/") + operation.base + route_path(operation.path),
            "methods": [operation.verb.upper()],
        }
        origins = {(): where, ("path",): place, ("name",): place, ("methods",): place}
        fits = self._path_fits(route["path"], place)
        if extension.open is not None and self._may_be_open(flow, said, where):
            route["open"] = True
        elif client_id is not None:
            route["client_id"] = client_id[1]
            origins["client_id",] = client_id[0]
        index = len(self.policy.routes)
        # Of steps that are not understood, or that nobody can come by, what they come to is not worth telling.
        action = {} if flow.findings or not callers else self._action(flow, extension, place, where)
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
            if "jwt" not in flow.left_out:
                origins["jws",] = (*flow.validate[0], "jwt")
            registered = extension.registered_certificate or self._extension.registered_certificate
            demanded, found = demands(flow, extra, self.policy.defaults, ignore, registered)
            extra |= demanded
            self.policy.findings += found
        if fits:
            self.policy.routes.append(route | extra | action)
            self.policy.origins |= {("routes", index, *key): value for key, value in origins.items()}
        return fits

    def _said_client_id(self, place: Location, extra: dict[str, Any]) -> list[Location]:
        """Where x-jwsgate says where the client ID is."""
        said = ((*place, _EXTENSION), extra), ((_EXTENSION,), self.policy.defaults)
        return [(*at, "client_id") for at, data in said if "client_id" in data]

    def _client_id(
        self, place: Location, said: dict[str, Any], extra: dict[str, Any], ignore: frozenset[str]
    ) -> tuple[Location, Any] | None:
        """Where the document says that the client ID is, and what; None where only x-jwsgate says so, or nobody."""
        elsewhere = self._said_client_id(place, extra)
        if self._openapi.is_secured(said):
            found = self._openapi.client_id(place, said, ignore, elsewhere=bool(elsewhere))
            for at in elsewhere if found is not None else ():
                self._find(at, "is what securityDefinitions say", "remove it here")
            return found
        if not elsewhere and "open" not in mapping(said.get(_EXTENSION)):
            message = "is without security, so that everybody may call it"
            remedy = (
                "say x-jwsgate at the operation: {open: true} to let everybody pass, or {client_id: {header: …}} to "
                "demand a client ID"
            )
            self._find((*place, "security") if "security" in said else place, message, remedy)
        return None

    def _path_fits(self, path: str, place: Location) -> bool:
        """Whether a path can be a route's."""
        try:
            PathPattern.parse(path)
        except PatternError as error:
            remedy = "write it like /orders/{id}, with {+name}, {*name} or * at its end alone"
            self._find(KeyLocation(place[:2]), str(error), remedy)
            return False
        return True

    def _may_be_open(self, flow: Flow, said: dict[str, Any], where: Location) -> bool:
        """Whether the document demands nothing that would be lost on an open route."""
        remedy = "remove open, and say client_id: {header: …} to demand a client ID and a JWS"
        found = []
        if self._openapi.is_secured(said):
            found.append(("lets everybody pass where security asks for a client ID", "remove it here"))
        for step in (flow.validate, flow.generate):
            if step is not None:
                found.append((f"opens an operation that comes to {step[0][-1]}", remedy))
        if flow.caller is not None:
            found.append((f"opens an operation that comes to {flow.caller}, which says who calls", remedy))
        if self._certificate_demanded:
            found.append(("contradicts application-authentication", "remove one of the two"))
        for message, instead in found:
            self._find((*where, "open"), message, instead)
        return not found

    def _action(self, flow: Flow, extension: OperationExtension, place: Location, where: Location) -> dict[str, Any]:
        """What becomes of a request that has come through."""
        body = flow.value("message.body").kind
        mapped = extension.forward is not None or extension.respond is not None
        forward = extension.forward or self._extension.forward
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
        if flow.validate is None and not (mapped or forward or extension.open):
            message = "comes to no jwt-validate, and the gate lets nothing pass without a JWS"
            remedy = "add the step, or say x-jwsgate: {forward: true} to demand the JWS in the header jwt"
            self._find(KeyLocation(place), message, remedy)
        if extension.respond is not None:
            return {"respond": "claims"}
        if forward:
            return {"forward": True}
        if flow.invoke is not None and flow.value("message.body") in UNCHANGED_BODY:
            return {"forward": True}
        if flow.invoke is None and body == "claims":
            return {"respond": "claims"}
        message = "comes neither to invoke nor to the claims as response"
        remedy = "say x-jwsgate: {forward: true} or {respond: claims} at the operation"
        self._find(KeyLocation(place), message, remedy)
        return {}


def translate(data: Any) -> TranslatedPolicy:
    """Turn the content of an API definition into a policy. One with `findings` must not be used."""
    return _Translator(data).run()
