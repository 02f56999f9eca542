"""Follows the assembly of an API definition for one operation, and tells what a request must bring to come through.

Whatever is not understood is a finding, and a document with one is not used.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .api_step_keys import UNIGNORABLE, remedy_of, with_mapping, without_known
from .conditions import evaluate
from .openapi import Operation, operation_key
from .openapi_shapes import (
    IfShape,
    InvokeShape,
    JwtGenerateShape,
    JwtValidateShape,
    OperationSwitchShape,
    SetVariableShape,
    SwitchShape,
)
from .problems import Finding, KeyLocation, Location
from .shapes import Shape, check_shape

__all__ = ["UNCHANGED_BODY", "Flow", "Value"]

_RESERVED: Final = ("request.", "message.", "client.", "api.", "system.", "plan.", "error.", "session.", "application.")
_WHOLE_REFERENCE: Final = re.compile(r"\$\(([^()]+)\)")
_CALLER: Final = frozenset({"client-security", "user-security", "oauth"})
"""Steps that say who calls, by other means than a JWS."""
_FORWARDED: Final = re.compile(r"\$\((?:target-url|request\.path|api\.operation\.path)\)")


class Value(NamedTuple):
    """What a variable holds: a `text`, what another `variable` held at first, the `claims`, the `jws`, or `unknown`."""

    kind: str
    text: str = ""


UNCHANGED_BODY: Final = frozenset({Value("variable", "request.body"), Value("variable", "message.body")})


def _holds(names: frozenset[str], value: Any) -> bool:
    """Whether a step of one of the names stands anywhere in the value."""
    if isinstance(value, dict):
        return not names.isdisjoint(value) or any(_holds(names, inner) for inner in value.values())
    return isinstance(value, list) and any(_holds(names, inner) for inner in value)


class Flow:
    """What the steps come to for one operation. After `run`, look at `findings` before anything else."""

    def __init__(self, operation: Operation, ignore: frozenset[str], shapes: dict[Any, Any]) -> None:
        self.findings: list[Finding] = []
        self.validate: tuple[Location, JwtValidateShape, Value] | None = None
        """The place of the jwt-validate step, what it says, and where its JWS comes from."""
        self.key: Value | None = None
        """What `jws-jwk` held."""
        self.generate: tuple[Location, JwtGenerateShape, tuple[str, str]] | None = None
        """The place of the jwt-generate step, what it says, and the texts of iss and aud."""
        self.left_out: dict[str, Location] = {}
        """Keys of the jwt-validate step that are ignored, with their places."""
        self.caller: str | None = None
        """The name of a step that says who calls, or has one in it, and is not followed."""
        self.invoke: Location | None = None
        self.throw: Location | None = None
        self._operation = operation
        self._known = operation.known()
        self._ignore = ignore
        self._shapes = shapes
        self._variables: dict[str, Value] = {}
        self._steps: Final[dict[str, Callable[[Any, Location], None]]] = {
            "operation-switch": self._operation_switch,
            "switch": self._switch,
            "if": self._if,
            "set-variable": self._set_variable,
            "jwt-validate": self._jwt_validate,
            "jwt-generate": self._jwt_generate,
            "invoke": self._invoke,
            "throw": self._throw,
        }

    def value(self, name: str) -> Value:
        """What a variable holds now."""
        return self._variables.get(name, Value("variable", name))

    def _find(self, place: Location, message: str, remedy: str) -> None:
        self.findings.append((place, message, remedy))

    def _shape[S: Shape](self, kind: type[S], body: Any, place: Location) -> S | None:
        """The step's shape; every operation that comes by shares it, unless it ignores other keys."""
        step = str(place[-1])
        ignored = frozenset(word.removeprefix(f"{step}.") for word in self._ignore if word.startswith(f"{step}."))
        if (place, ignored) not in self._shapes:
            kept, told = without_known(step, body, ignored)
            shape, found = check_shape(kind, kept)
            told += [with_mapping(step, finding) for finding in found]
            # A KeyLocation stays one below the step's own place.
            self._shapes[place, ignored] = (
                shape,
                [(type(location)((*place, *location)), message, remedy) for location, message, remedy in told],
            )
        shape, findings = self._shapes[place, ignored]
        self.findings += findings
        return shape if isinstance(shape, kind) else None

    def run(self, steps: Any, place: Location) -> None:
        """Follow a list of steps."""
        if not isinstance(steps, list):
            self._find(place, "is not a list", "write a list of steps, one - a line")
            return
        for index, step in enumerate(steps):
            if self.throw is not None:
                return
            if not (isinstance(step, dict) and len(step) == 1):
                self._find((*place, index), "is not one step", "write each step as - name: and what belongs to it")
                continue
            [(name, body)] = step.items()
            self._step(name, body, (*place, index, name))

    def _step(self, name: str, body: Any, place: Location) -> None:
        ignored = name in self._ignore
        if ignored and name not in {"switch", "if", "set-variable"}:
            if _holds(UNIGNORABLE, {name: body}):
                self._find(KeyLocation(place), "says who may pass, and cannot be ignored", "take it from ignore")
            self._left_out_caller(name, body)
            return
        if self.invoke is not None and not ignored:
            message = "comes after invoke, and the gate passes the upstream's response on as it is"
            mapped = f"remove it, or say x-jwsgate: {{ignore: [{name}]}}"
            remedy = "move it before invoke" if name in UNIGNORABLE else mapped
            self._find(KeyLocation(place), message, remedy)
        if name in self._steps:
            self._steps[name](body, place)
        else:
            message = "is a step that the gate cannot carry out"
            self._find(
                KeyLocation(place),
                message,
                f"remove it, or if nothing depends on it say x-jwsgate: {{ignore: [{name}]}}",
            )

    def _operation_switch(self, body: Any, place: Location) -> None:
        shape = self._shape(OperationSwitchShape, body, place)
        if shape is None:
            return
        cases = self._shapes.get((place, "cases"))
        if cases is None:
            cases = self._shapes[place, "cases"] = {}
            for index, case in enumerate(shape.case):
                for named in case.operations:
                    cases.setdefault(operation_key(named), index)
        chosen = {cases[key] for key in self._operation.names() if key in cases}
        if len(chosen) > 1:
            self._find(place, "has one operation in two cases, by its ID and by verb and path", "keep one")
        elif chosen:
            [index] = chosen
            self.run(shape.case[index].execute, (*place, "case", index, "execute"))
        else:
            self.run(shape.otherwise, (*place, "otherwise"))

    def _left_out_caller(self, name: str, body: Any) -> None:
        if _holds(_CALLER, {name: body}):
            self.caller = name

    def _undecided(self, name: str, body: Any, place: Location) -> None:
        message = "is a condition that only a request decides"
        remedy = "ask for request.verb or api.operation.path"
        self._left_out_caller(name, body)
        if _holds(UNIGNORABLE, body):
            self._find(place, f"{message}, before steps that say who may pass", remedy)
        elif name not in self._ignore:
            self._find(place, message, f"{remedy}, or say x-jwsgate: {{ignore: [{name}]}}")

    def _switch(self, body: Any, place: Location) -> None:
        shape = self._shape(SwitchShape, body, place)
        if shape is None:
            return
        for index, case in enumerate(shape.case):
            here = (*place, "case", index)
            if case.otherwise is not None and case.condition is None and case.execute is None:
                self.run(case.otherwise, (*here, "otherwise"))
                return
            if case.condition is None or case.execute is None or case.otherwise is not None:
                self._find(here, "is no case", "write condition and execute, or otherwise alone")
                return
            holds = evaluate(case.condition, self._known)
            if holds is None:
                self._undecided("switch", body, (*here, "condition"))
                return
            if holds:
                self.run(case.execute, (*here, "execute"))
                return
        self.run(shape.otherwise, (*place, "otherwise"))

    def _if(self, body: Any, place: Location) -> None:
        shape = self._shape(IfShape, body, place)
        if shape is None:
            return
        holds = evaluate(shape.condition, self._known)
        if holds is None:
            self._undecided("if", body, (*place, "condition"))
        elif holds:
            self.run(shape.execute, (*place, "execute"))

    def _may_set(self, name: str, place: Location) -> bool:
        """Whether a variable is one that only later steps see, or that the gate answers anyway."""
        if not name.startswith(_RESERVED) or name == "message.body":
            return True
        if "set-variable" not in self._ignore:
            message = f"changes {name}, which the gate does not"
            self._find(place, message, "remove it, or say x-jwsgate: {ignore: [set-variable]}")
        return False

    def _set_variable(self, body: Any, place: Location) -> None:
        shape = self._shape(SetVariableShape, body, place)
        for index, action in enumerate(shape.actions if shape is not None else ()):
            here = (*place, "actions", index)
            if action.set is None or action.value is None or action.add is not None or action.clear is not None:
                if "set-variable" not in self._ignore:
                    remedy = "write set and value, or say x-jwsgate: {ignore: [set-variable]}"
                    self._find(here, "is no plain assignment", remedy)
                for name in (action.set, action.add, action.clear):
                    if name is not None:
                        self._variables[name] = Value("unknown")
            elif self._may_set(action.set, (*here, "set")):
                whole = _WHOLE_REFERENCE.fullmatch(action.value)
                if whole:
                    self._variables[action.set] = self.value(whole[1])
                else:
                    self._variables[action.set] = Value("unknown" if "$(" in action.value else "text", action.value)

    def _jwt_validate(self, body: Any, place: Location) -> None:
        shape = self._shape(JwtValidateShape, body, place)
        if shape is None:
            return
        if self.validate is not None:
            self._find(KeyLocation(place), "is a second one on the way of a request", "keep one jwt-validate")
        if self.generate is not None:
            self._find(KeyLocation(place), "comes after jwt-generate", "keep one of the two for an operation")
        for key, value in body.items():
            if f"jwt-validate.{key}" in self._ignore and value:
                self.left_out[key] = (*place, key)
        self.validate = place, shape, self.value(shape.jwt)
        self.key = None if shape.jws_jwk is None else self.value(shape.jws_jwk)
        if self._may_set(shape.output_claims, (*place, "output-claims")):
            self._variables[shape.output_claims] = Value("claims")

    def _jwt_generate(self, body: Any, place: Location) -> None:
        shape = self._shape(JwtGenerateShape, body, place)
        if shape is None:
            return
        if self.validate is not None or self.generate is not None:
            message = "comes after another jwt step"
            self._find(KeyLocation(place), message, "keep one jwt-validate or jwt-generate for an operation")
        texts = []
        for key, name in (("iss-claim", shape.iss_claim), ("aud-claim", shape.aud_claim)):
            value = self.value(name)
            if value.kind != "text":
                message = f"names {name}, which no step before it sets to a text"
                self._find((*place, key), message, f"set {name} with set-variable")
            texts.append(value.text)
        if self.value(shape.private_claims) not in UNCHANGED_BODY:
            message = "is not the posted body, and the gate signs nothing else"
            self._find((*place, "private-claims"), message, "write request.body")
        self.generate = place, shape, (texts[0], texts[1])
        if self._may_set(shape.jwt, (*place, "jwt")):
            self._variables[shape.jwt] = Value("jws")

    def _invoke(self, body: Any, place: Location) -> None:
        shape = self._shape(InvokeShape, body, place)
        if shape is None:
            return
        if shape.target_url is None:
            if "invoke.target-url" not in self._ignore:
                self._find((*place, "target-url"), "is missing", "add it")
        elif not _FORWARDED.search(shape.target_url):
            message = "is one address, and the gate forwards to --upstream under the path that came in"
            remedy = remedy_of("invoke", "target-url", "write $(target-url)$(request.path)")
            self._find((*place, "target-url"), message, remedy)
        if shape.verb is not None and shape.verb.lower() not in {"keep", self._operation.verb}:
            message = "is another method than the one that came in, which the gate keeps"
            self._find((*place, "verb"), message, remedy_of("invoke", "verb", "write keep"))
        self.invoke = place

    def _throw(self, _body: Any, place: Location) -> None:
        # Whatever it says: the gate refuses in its own words.
        self.throw = place
