"""What the user interfaces get beside the gate: keys of their own, and a JWS that a route accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flowfilter
from mitmproxy.test import tflow
from mitmproxy.tools.console import defaultkeys, keymap
from mitmproxy.utils import emoji

import material
from core_gate import NOW, application, certificate_of, router
from jwsgate.adapters import ui
from jwsgate.adapters.ui import CONSOLE_KEYS, DecisionView
from jwsgate.core.certificates import load_private_key
from jwsgate.core.decision import Allowed, AwaitsBody, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts
from jwsgate.core.on_behalf import claims_of, signed_request
from jwsgate.core.portal import Portal

KEY = material.private_key("p256", "ui")


class _Console:
    """As much of the console as add-ons see."""

    def __init__(self) -> None:
        self.keymap = keymap.Keymap(self)
        defaultkeys.map(self.keymap)


def test_keys_collide_with_none() -> None:
    """None is mitmproxy's, where flows are shown or everywhere; all are there afterwards."""
    console: Any = _Console()
    before = {(context, key) for context in keymap.Contexts for key in console.keymap.keys[context]}
    for key, _, _ in CONSOLE_KEYS:
        for context in ("flowlist", "flowview", "global", "commonkey"):
            assert (context, key) not in before
    DecisionView(console, Any).load(Any)  # type: ignore[arg-type]
    for key, bound, _ in CONSOLE_KEYS:
        for context in ("flowlist", "flowview"):
            assert console.keymap.get(context, key).command == bound
    assert all(console.keymap.keys[context][key] for context, key in before)


def test_own_keys_stay() -> None:
    """A key that somebody bound before is left to them."""
    console: Any = _Console()
    console.keymap.add("y", "console.exit", ["flowlist"], "mine")
    DecisionView(console, Any).load(Any)  # type: ignore[arg-type]
    assert console.keymap.get("flowlist", "y").command == "console.exit"
    assert console.keymap.get("flowview", "y").command == "jwsgate.explain @focus"


def test_marks_are_known() -> None:
    """mitmproxy shows them as signs, not as text."""
    assert {":white_check_mark:", ":no_entry:", ":warning:"} <= emoji.emoji.keys()


def test_long_lines_are_broken() -> None:
    """So that none goes on beyond the window; what follows stands under the text of its own line."""
    words = " ".join(["word"] * 40)
    lines = (
        f"Rejected (x): {words}", "", f"  ok      certificate     {words}", f"  FAILED  times           found: {words}",
        f"{'':26}expected: {words}", f"  sub: {'a' * 200}", "  ok      claims          a-b  c",
    )  # fmt: skip
    text = "".join(f"{line}\n" for line in lines)
    broken = ui._wrapped(text).splitlines()
    assert max(map(len, broken)) <= 88
    assert "".join(broken).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    indents = [len(line) - len(line.lstrip()) for line in broken]
    assert indents == [0, 2, 2, 0, 2, 26, 26, 26, 2, 26, 26, 26, 26, 26, 26, 26, 2, 2, 2, 2]
    assert broken[-1] == lines[-1]


DEMANDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "claims": {
        "claims": {
            "required": ["exp", "iat", "jti"],
            "issuer": ["a", "b"],
            "audience": "c",
            "subject": "d",
            "client_id_claim": "azp",
            "typ": "at+jwt",
            "max_lifetime": 60,
        }
    },
    "bindings": {
        "bind": {"method": "htm", "path": "p", "url": "htu", "base_url": "https://api", "body": {"claim": "digest"}}
    },
    "hex": {"bind": {"body": {"claim": "d", "algorithm": "sha-512", "encoding": "hex"}}},
    "base64": {"bind": {"body": {"claim": "d", "encoding": "base64"}}},
    "detached": {"jws": {"header": "sig", "detached": True}},
    "single-use": {"single_use": True},
    "bearer": {"jws": {"header": "Authorization", "scheme": "Bearer"}, "client_id": {"query": "client_id"}},
    "query": {"jws": {"query": "token"}},
    "cookie": {"jws": {"cookie": "token"}},
}


@pytest.mark.parametrize("demands", DEMANDS.values(), ids=DEMANDS)
@pytest.mark.parametrize("old", [None, "stale.e30.x", "no JWS"], ids=["unsigned", "stale", "garbage"])
def test_signed_request_is_allowed(demands: dict[str, Any], old: str | None) -> None:
    """Whatever the route demands, and whatever the request brought before."""
    snapshot = Snapshot(Portal((application("client", certificate_of(KEY)),)), router(**demands), "revision")
    (route,) = snapshot.router
    headers = ((b"Host", b"h"), *(((b"jwt", old.encode()),) if old else ()))
    facts = RequestFacts("GET", b"/protected?a=b", headers)
    signer = load_private_key(material.private_pem(KEY).encode())
    body = b'{"a": 1}'
    signed = signed_request(facts, route, signer.jwk, "ES256", {"x": 1, "nbf": NOW + 9}, "client", body, NOW, "one")
    decision = decide(snapshot, signed, NOW)
    if isinstance(decision, AwaitsBody):
        decision = decide_body(decision, body)
    assert isinstance(decision, Allowed), decision
    if not route.detached:
        assert (decision.claims["x"], decision.claims["jti"], decision.claims.get("nbf")) == (1, "one", None)


def test_claims_are_taken_over() -> None:
    """What the JWS held before, unverified; nothing where it cannot be read."""
    (route,) = router()
    token = material.jws(KEY, {"sub": "me"})
    assert claims_of(RequestFacts("GET", b"/protected", ((b"jwt", token.encode()),)), route) == {"sub": "me"}
    for text in (b"", b"a.b.c", b"a.b", json.dumps({}).encode()):
        assert claims_of(RequestFacts("GET", b"/protected", ((b"jwt", text),)), route) == {}


@pytest.mark.parametrize(
    ("recipe", "marked", "comment"),
    [
        ("~marker no_entry", ":no_entry:", ""),
        ("~marker warning", ":warning:", ""),
        ("~marker white_check", ":white_check_mark:", ""),
        ("~comment jws_expired", "", "jws_expired: exp has passed"),
        ('~comment "allowed: shop"', "", "allowed: shop, RS256"),
    ],
    ids=["refused", "would-reject", "allowed", "reason", "application"],
)
def test_filters_of_the_docs(recipe: str, marked: str, comment: str) -> None:
    """Each finds what it is said to find, and nothing else."""
    assert f"`{recipe}`" in (Path(__file__).parents[1] / "docs" / "interception.md").read_text()
    matches: Any = flowfilter.parse(recipe)
    flow = tflow.tflow()
    assert not matches(flow)
    flow.marked, flow.comment = marked, comment
    assert matches(flow)
