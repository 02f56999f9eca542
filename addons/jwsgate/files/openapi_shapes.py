"""What is read of an API Connect API definition: its steps, its security, and this gate's extension of it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from .case_shapes import CaseShape as ExampleShape
from .policy_shapes import ApplicationShape, DemandsShape, OneOrMore
from .shapes import Algorithm, Shape, TolerantShape

__all__ = [
    "ActionShape",
    "CaseShape",
    "DocumentExtension",
    "Extension",
    "IfShape",
    "InvokeShape",
    "JwtGenerateShape",
    "JwtValidateShape",
    "OperationCaseShape",
    "OperationExtension",
    "OperationSwitchShape",
    "SecuritySchemeShape",
    "SetVariableShape",
    "SwitchShape",
]

_Text = Annotated[str, Field(min_length=1)]


class SignKeyShape(Shape):
    """The key that stands for the Crypto Key of a jwt-generate step."""

    key: _Text
    """File of the private key in PEM, relative to this document."""


class Extension(DemandsShape):
    """`x-jwsgate`: demands that the document has no words for, and what stands for what the gate does not have."""

    sign: SignKeyShape | None = None
    """The key of jwt-generate steps."""
    ignore: OneOrMore | None = None
    """Steps, keys of steps as step.key, and security definitions beside the client ID, that need not be enforced."""
    registered_certificate: _Text | None = None
    """The variable that holds the registered certificate's key."""
    forward: Literal[True, "true"] | None = None
    """Send the request upstream, whatever the steps do; an operation's own word goes before that at the top."""


class DocumentExtension(Extension):
    """`x-jwsgate` at the top of the document."""

    prefix: Annotated[str, Field(pattern=r"^/")] | None = None
    """What stands before the base path, such as /{org}/{catalog}."""
    applications: list[ApplicationShape] = Field(default_factory=list)
    """As in a policy; routes have the names of their operations."""
    tests: list[ExampleShape] = Field(default_factory=list)
    """As in a policy."""


class OperationExtension(Extension):
    """`x-jwsgate` of an operation."""

    open: Literal[True, "true"] | None = None
    """Let every request pass, as an operation without security does."""
    respond: Literal["claims"] | None = None
    """Answer the verified claims, whatever the steps do."""


class SecuritySchemeShape(TolerantShape):
    """An entry of securityDefinitions or components.securitySchemes."""

    type: _Text
    place: str | None = Field(None, alias="in")
    name: str | None = None
    key_type: str | None = Field(None, alias="x-key-type")


class _StepShape(Shape):
    version: str | None = None
    title: str | None = None
    description: str | None = None


class JwtValidateShape(_StepShape):
    """Demands a JWS."""

    jwt: _Text = "request.headers.authorization"
    output_claims: _Text = Field("decoded.claims", alias="output-claims")
    iss_claim: _Text | None = Field(None, alias="iss-claim")
    aud_claim: _Text | None = Field(None, alias="aud-claim")
    jws_crypto: _Text | None = Field(None, alias="jws-crypto")
    jws_jwk: _Text | None = Field(None, alias="jws-jwk")


class JwtGenerateShape(_StepShape):
    """Makes a JWS."""

    jwt: _Text = "generated.jwt"
    iss_claim: _Text = Field(alias="iss-claim")
    aud_claim: _Text = Field(alias="aud-claim")
    exp_claim: Annotated[int, Field(ge=1, le=31_536_000)] = Field(3600, alias="exp-claim")
    private_claims: _Text = Field(alias="private-claims")
    jws_alg: Algorithm = Field(alias="jws-alg")
    jws_crypto: _Text | None = Field(None, alias="jws-crypto")


class ActionShape(Shape):
    """One action of set-variable."""

    set: _Text | None = None
    value: str | None = None
    type: str | None = None
    add: str | None = None
    clear: str | None = None


class SetVariableShape(_StepShape):
    """Sets variables."""

    actions: list[ActionShape]


class OperationCaseShape(Shape):
    """One case of an operation-switch."""

    operations: list[Any]
    execute: list[Any]


class OperationSwitchShape(_StepShape):
    """Chooses by operation."""

    case: list[OperationCaseShape]
    otherwise: list[Any] = Field(default_factory=list)


class CaseShape(Shape):
    """One case of a switch: a condition with its steps, or the steps otherwise."""

    condition: _Text | None = None
    execute: list[Any] | None = None
    otherwise: list[Any] | None = None


class SwitchShape(_StepShape):
    """Chooses by the first condition that holds."""

    case: list[CaseShape]
    otherwise: list[Any] = Field(default_factory=list)


class IfShape(_StepShape):
    """Steps under a condition."""

    condition: _Text
    execute: list[Any]


class InvokeShape(_StepShape):
    """Calls the upstream."""

    target_url: _Text | None = Field(None, alias="target-url")
    verb: str | None = None
