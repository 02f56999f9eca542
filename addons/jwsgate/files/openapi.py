"""What an OpenAPI 2 or 3 document itself says: its operations, and how each is secured."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from .openapi_shapes import SecuritySchemeShape
from .problems import Finding, KeyLocation, Location, path_text
from .shapes import check_shape

__all__ = ["OpenApi", "Operation", "mapping", "operation_key", "route_path"]

_VERBS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_TOP: Final = frozenset({
    "swagger", "openapi", "info", "host", "basePath", "schemes", "consumes", "produces", "paths", "definitions",
    "parameters", "responses", "securityDefinitions", "security", "tags", "externalDocs", "servers", "components",
    "webhooks",
})  # fmt: skip
_PATH: Final = frozenset({"parameters", "summary", "description", *_VERBS})
_OPERATION: Final = frozenset({
    "tags", "summary", "description", "externalDocs", "operationId", "consumes", "produces", "parameters",
    "responses", "schemes", "deprecated", "security", "requestBody", "callbacks",
})  # fmt: skip
_REST: Final = re.compile(r"\{([+*])[A-Za-z_][A-Za-z0-9_-]*\}|\*")
_CLIENT_ID: Final = frozenset({"x-ibm-client-id", "client_id"})


def mapping(value: Any) -> dict[str, Any]:
    """The value, if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _path_of(server: Any) -> str | None:
    """The path of an OpenAPI 3 server's URL, None when it has none that can be read."""
    url = mapping(server).get("url")
    try:
        return urlsplit(url).path if isinstance(url, str) else None
    except ValueError:
        return None


def operation_key(named: Any) -> tuple[str, ...] | None:
    """An operation as an operation-switch names it, by verb and path or by its ID; None of anything else."""
    match named:
        case {"verb": str(verb), "path": str(path), **other} if not other:
            return verb.lower(), path
        case str(name):
            return (name,)
        case _:
            return None


def route_path(path: str) -> str:
    """A path as a policy has it: at its end `{+name}` and `*` stand for one segment or more, `{*name}` for any number.

    What `{+name}` and `{*name}` mean is from API Connect's "Defining Paths for a REST API". It has no bare `*`, which
    is read as the narrower of the two.
    """
    start, _, last = path.rpartition("/")
    rest = _REST.fullmatch(last)
    if rest is None:
        return path
    return f"{start}/**" if rest[1] == "*" else f"{start}/{{rest}}/**"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the document; `path` without the base path."""

    verb: str
    path: str
    base: str
    name: str | None

    def names(self) -> set[tuple[str, ...]]:
        """What an operation-switch may call it."""
        return {(self.verb, self.path)} | ({(self.name,)} if self.name is not None else set())

    def known(self) -> Mapping[str, str]:
        """What conditions may ask for."""
        verb = self.verb.upper()
        values = {
            "request.verb": verb, "$httpVerb()": verb, "api.operation.path": self.path, "$operationPath()": self.path,
        }  # fmt: skip
        if self.name is not None:
            values |= {"api.operation.id": self.name, "$operationID()": self.name}
        if not {"{", "*"} & {*self.base, *self.path}:
            values["request.path"] = self.base + self.path
        return values


class OpenApi:
    """The document's operations, with their places and what each says; whatever is wrong goes to `findings`."""

    def __init__(self, data: dict[str, Any], findings: list[Finding]) -> None:
        self.operations: list[tuple[Location, Operation, dict[str, Any]]] = []
        self._data = data
        self._findings = findings
        self._schemes, self._schemes_place = self._find_schemes()

    def _find(self, place: Location, message: str, remedy: str) -> None:
        self._findings.append((place, message, remedy))

    def _unknown_keys(self, data: dict[str, Any], known: frozenset[str], place: Location) -> None:
        for key in data:
            if key not in known and not key.startswith("x-"):
                self._find(KeyLocation((*place, key)), "is not a known key here", "correct it, or remove it")

    def _find_schemes(self) -> tuple[dict[str, Any], Location]:
        if "swagger" in self._data:
            return mapping(self._data.get("securityDefinitions")), ("securityDefinitions",)
        components = mapping(self._data.get("components"))
        return mapping(components.get("securitySchemes")), ("components", "securitySchemes")

    def _base_path(self) -> str:
        place: Location = ("basePath",)
        found: list[object] = [self._data.get("basePath", "")]
        if "swagger" not in self._data:
            servers, place = self._data.get("servers", [{"url": ""}]), ("servers",)
            found = [_path_of(server) for server in servers] if isinstance(servers, list) else [None]
        base = found[0] if found else None
        if found.count(base) != len(found):
            self._find(place, "have different paths", "keep one of them")
        if not isinstance(base, str) or (base and not base.startswith("/")):
            self._find(place, "is no path", "begin it with a slash")
            return ""
        return base.removesuffix("/")

    def read(self) -> None:
        """Find the operations."""
        self._unknown_keys(self._data, _TOP, ())
        for key, version in (("swagger", "2.0"), ("openapi", "3.")):
            if key in self._data and not str(self._data[key]).startswith(version):
                self._find((key,), "is no version that is known here", "export it as OpenAPI 2.0 or 3")
        base = self._base_path()
        paths = self._data.get("paths")
        if not isinstance(paths, dict) or not paths:
            self._find(("paths",), "has no path", "export the API with its paths")
            return
        names: set[str | None] = set()
        for path, item in paths.items():
            place: Location = ("paths", path)
            if path.startswith("x-"):
                continue
            if not path.startswith("/"):
                self._find(KeyLocation(place), "is no path", "begin it with a slash")
            if not isinstance(item, dict):
                self._find(place, "is not a mapping", "write the verbs with their operations")
                continue
            self._unknown_keys(item, _PATH, place)
            for verb in _VERBS:
                if verb not in item:
                    continue
                operation = item[verb]
                if not isinstance(operation, dict):
                    self._find((*place, verb), "is not a mapping", "write the operation")
                    continue
                self._unknown_keys(operation, _OPERATION, (*place, verb))
                name = operation.get("operationId")
                if "operationId" in operation and (not isinstance(name, str) or name in names):
                    message = "is no text that only this operation has"
                    self._find((*place, verb, "operationId"), message, "give each operation its own")
                    name = None
                names.add(name)
                self.operations.append(((*place, verb), Operation(verb, path, base, name), operation))

    def is_secured(self, said: dict[str, Any]) -> bool:
        """Whether an operation asks for anything at all of whoever calls it."""
        return bool(said.get("security", self._data.get("security")))

    def client_id(
        self, place: Location, said: dict[str, Any], ignore: frozenset[str], *, elsewhere: bool
    ) -> tuple[Location, Any] | None:
        """The place of the one security definition that names the client ID, and the source that it says; None with a
        finding, or when none names it and it is said `elsewhere`."""
        where = (*place, "security") if "security" in said else ("security",)
        required = said.get("security", self._data.get("security"))
        if not isinstance(required, list) or len(required) > 1 or not isinstance(required[0], dict):
            self._find(where, "is not one requirement", "keep one: the client ID is in one place")
            return None
        sources = []
        for name in required[0]:
            here = (*self._schemes_place, name)
            if name not in self._schemes:
                self._find((*where, 0, name), "is not defined", f"define it in {path_text(self._schemes_place)}")
                continue
            scheme, findings = check_shape(SecuritySchemeShape, self._schemes[name])
            if scheme is None:
                self._findings += [((*here, *each), message, remedy) for each, message, remedy in findings]
            elif (
                scheme.type == "apiKey"
                and scheme.name is not None
                and scheme.place in {"header", "query"}
                and (scheme.key_type or scheme.name.lower()) in {"client_id", *_CLIENT_ID}
            ):
                sources.append((here, {scheme.place: scheme.name}))
            elif name not in ignore:
                message = "is nothing that the gate can check"
                self._find(here, message, f"remove it from security, or say x-jwsgate: {{ignore: [{name}]}}")
        if len(sources) > 1:
            self._find(where, "asks for the client ID twice", "name one apiKey in header or query")
        elif not sources and not elsewhere:
            remedy = "name one apiKey with x-key-type: client_id, or say x-jwsgate: {client_id: {header: …}}"
            self._find(where, "does not ask for the client ID", remedy)
        return sources[0] if len(sources) == 1 else None
