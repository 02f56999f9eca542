"""Fuzzing harness for the decision on one token: see README.md beside this file.

The first octet of an input, a digit, chooses what the rest is: the token as it comes; a JOSE header, a line feed, and a
payload that the right key signs; the same detached; the same with the signature's octets from the input; a JOSE
header, a target and a client ID.
"""

import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import atheris
except ImportError:  # replaying needs no atheris
    atheris = None

with atheris.instrument_imports(include=["jwsgate", "json"]) if atheris else contextlib.nullcontext():
    from jwsgate.core.decision import Allowed, AwaitsBody, Rejected, decide, decide_body
    from jwsgate.core.facts import RequestFacts
    from jwsgate.core.reasons import Reason
    from jwsgate.core.verified_cache import VerifiedCache

import replay

import material
from core_gate import NOW, application, certificate_of, request_with, snapshot_of

KEY = material.private_key("ed25519", "fuzz")
APPLICATION = application("client", certificate_of(KEY))
SNAPSHOT = snapshot_of(APPLICATION)
DETACHED = snapshot_of(APPLICATION, jws={"header": "jwt", "detached": True, "unencoded": True})
CACHE: VerifiedCache = VerifiedCache(max_entries=100)


def _decided(facts: RequestFacts, signed: bool) -> None:
    decision = decide(SNAPSHOT, facts, NOW)
    assert isinstance(decision, Allowed | Rejected)
    assert isinstance(decision, Allowed) is isinstance(decide(SNAPSHOT, facts, NOW, CACHE), Allowed)
    if isinstance(decision, Allowed):
        assert signed, "allowed without a signature"
    else:
        assert decision.reason is not Reason.INTERNAL_ERROR, decision.detail


def _detached(text: str, body: bytes) -> None:
    header, _, signature = text.split(".")
    decision = decide(DETACHED, request_with(f"{header}..{signature}"), NOW)
    if isinstance(decision, AwaitsBody):
        decision = decide_body(decision, body)
    assert isinstance(decision, Allowed | Rejected)
    if isinstance(decision, Rejected):
        assert decision.reason is not Reason.INTERNAL_ERROR, decision.detail


def one_input(data: bytes) -> None:
    """Decide on one input; raises when a property is broken."""
    mode, rest = ((data[0] - 48) % 5, data[1:]) if data else (0, b"")
    first, _, second = rest.partition(b"\n")
    match mode:
        case 0:
            _decided(request_with(rest), signed=False)
        case 1:
            _decided(request_with(material.jws(KEY, header=first, payload=second)), signed=True)
        case 2:
            _detached(material.jws(KEY, header=first, payload=second), second)
        case 3:
            _decided(request_with(material.unsigned(first, b'{"exp":9999999999}', second)), signed=False)
        case _:
            facts = request_with(material.unsigned(b'{"alg":"EdDSA"}', b"{}", bytes(64)), second)
            _decided(RequestFacts(facts.method, first, facts.headers), signed=False)


if __name__ == "__main__":
    replay.main(one_input, atheris)
