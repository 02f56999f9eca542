"""Keys of API Connect's steps that the gate does not read: which of them it may pass over, and which it has to tell of.

Rule 1. What only steers how the product talked to its backend is passed over: that is for whoever stands before the
        upstream now. So is a key that is empty, which is how exports write what is not set.
Rule 2. What changes what is forwarded, signed or answered is told of, and may be ignored by name (`invoke.verb`).
Rule 3. What says who may pass cannot be ignored, but where x-jwsgate says something else in its place.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from .problems import Finding, KeyLocation

__all__ = ["REPLACED", "UNIGNORABLE", "ignorable", "remedy_of", "with_mapping", "without_known"]

UNIGNORABLE: Final = frozenset({"jwt-validate", "throw", "operation-switch"})
"""The steps that say who may pass."""
REPLACED: Final[Mapping[str, tuple[str, ...]]] = {
    "iss-claim": ("issuer", "issuer_pattern"),
    "aud-claim": ("audience", "audience_pattern"),
    "jwt": ("header", "query", "cookie"),
}
"""Keys of jwt-validate that can be ignored only where x-jwsgate says one of these of the claims or the JWS instead."""
_PATTERNS: Final = frozenset({"iss-claim", "aud-claim"})
_IGNORABLE: Final[Mapping[str, frozenset[str] | None]] = {
    "invoke": None,
    "jwt-generate": None,
    # The key is the registered certificate's whatever is said, and what is encrypted is never let pass.
    "jwt-validate": frozenset({"jws-crypto", "jws-jwk", "jwe-crypto", "jwe-jwk", *REPLACED}),
    "throw": frozenset(),
    "operation-switch": frozenset(),
    "switch": frozenset(),
    "if": frozenset(),
    "set-variable": frozenset(),
}
"""Which keys of a step can be ignored; None: all."""
_EMPTY: Final[tuple[Any, ...]] = ("", None, [], {})
_ABOUT: Final = frozenset({"version", "title", "description"})


class _Key(NamedTuple):
    """What is told of a key that has a value, unless the value changes nothing."""

    message: str
    changes_nothing: Callable[[Any], bool] = lambda _: False


def _lists_nothing(*types: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, dict) and value.get("type") in types and value.get("values") in _EMPTY

    return check


_BLOCK: Final = ("blocklist", "blacklist")
_ALLOW: Final = ("allowlist", "whitelist")
_STEERS: Final = frozenset({
    "timeout", "tls-profile", "http-version", "use-http-10", "cache-key", "cache-response", "cache-putpost-response",
    "cache-ttl", "stop-on-error", "chunked-uploads", "persistent-connection", "graphql-send-type", "compression",
    "follow-redirects", "inject-proxy-headers", "decode-request-params", "encode-plus-char", "keep-payload",
})  # fmt: skip
"""Keys of invoke that are passed over, whatever they say."""
_TOLD: Final[Mapping[str, Mapping[str, _Key]]] = {
    "invoke": {
        "header-control": _Key("takes headers off, which the gate does not", _lists_nothing(*_BLOCK)),
        # An allow list without values is what the designer writes.
        "parameter-control": _Key(
            "takes query parameters off, which the gate does not", _lists_nothing(*_BLOCK, *_ALLOW)
        ),
        "backend-type": _Key(
            "sends bodies of one kind only, which the gate does not see to", lambda value: value in ("detect", "binary")
        ),
        "websocket-upgrade": _Key("opens WebSockets, which the gate does not here", lambda value: value == "false"),
        "username": _Key("signs in at the backend, which the gate does not"),
        "password": _Key("signs in at the backend, which the gate does not"),
        "output": _Key("keeps the response for other steps, and the gate passes it on as it is"),
    },
    "jwt-validate": {
        "jwe-crypto": _Key("decrypts, and the gate lets no encrypted JWT pass"),
        "jwe-jwk": _Key("decrypts, and the gate lets no encrypted JWT pass"),
    },
    "jwt-generate": {
        "sub-claim": _Key("sets sub, and the gate signs what is posted"),
        "jti-claim": _Key("adds a jti, and the gate signs what is posted", lambda value: value == "false"),
        "custom-kid-value-jws": _Key("sets kid, which the gate does not"),
        "jws-jwk": _Key("signs with the key of a variable, which the gate does not have"),
        **dict.fromkeys(
            ("jwe-enc", "jwe-jwk", "jwe-alg", "jwe-crypto", "custom-kid-value-jwe"),
            _Key("encrypts, which the gate does not"),
        ),
    },
}
_UNSET_WHEN_EMPTY: Final[Mapping[str, frozenset[str]]] = {
    "jwt-validate": frozenset({"jwt", "output-claims", "jws-crypto", "jws-jwk"}),
    "jwt-generate": frozenset({"jws-crypto"}),
}
"""Keys that the gate reads, where it takes an empty one for an absent one, as the product does."""


def ignorable(word: str) -> bool:
    """Whether a word of `ignore` may stand there: a step, a key of a step as `step.key`, or any other name."""
    step, dot, key = word.partition(".")
    if not dot:
        return word not in UNIGNORABLE
    keys = _IGNORABLE.get(step)
    return keys is None or key in keys


def remedy_of(step: str, key: str, instead: str = "remove it") -> str:
    """What to do about a key of a step that can be ignored."""
    return f"{instead}, or if nothing depends on it say x-jwsgate: {{ignore: [{step}.{key}]}}"


def with_mapping(step: str, finding: Finding) -> Finding:
    """A finding of a step's shape; where it is an unknown key that can be ignored, with how to do so."""
    location, message, remedy = finding
    if isinstance(location, KeyLocation) and _IGNORABLE.get(step, ()) is None:
        return location, message, remedy_of(step, str(location[0]), remedy)
    return finding


def without_known(step: str, body: Any, ignored: frozenset[str]) -> tuple[Any, list[Finding]]:
    """What a step says, without the keys that the gate passes over, those ignored, and those that it tells of."""
    if not isinstance(body, dict):
        return body, []
    kept: dict[str, Any] = {}
    findings: list[Finding] = []
    told = _TOLD.get(step, {})
    unset = _UNSET_WHEN_EMPTY.get(step, ())
    for key, value in body.items():
        if key in ignored or (step == "invoke" and key in _STEERS) or (key in _ABOUT and value is None):
            continue
        if step == "jwt-validate" and key in _PATTERNS and value in _EMPTY:
            findings.append(((key,), "is empty", remedy_of(step, key, "write a pattern")))
        elif key in told:
            if value not in _EMPTY and not told[key].changes_nothing(value):
                findings.append((KeyLocation((key,)), told[key].message, remedy_of(step, key)))
        elif key not in unset or value not in _EMPTY:
            kept[key] = value
    return kept, findings
