"""Clients come, rotate, are disabled and go, snapshots are swapped, the clock moves: against a model of a few lines.

After every step each request sent so far is decided anew, with and without a cache that lives through it all, and
must come out as the model says. Removing a client and passing exp never turn a rejection into an admission.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import material
from core_gate import NOW, application, certificate_of, reason_of, request_with, snapshot_of
from jwsgate.core.decision import Snapshot, decide
from jwsgate.core.reasons import Reason
from jwsgate.core.verified_cache import VerifiedCache

KEYS: dict[str, material.KeyKind] = {
    "p256 one": "p256",
    "p256 two": "p256",
    "ed25519 one": "ed25519",
    "p384 one": "p384",
}
CLIENTS = ("alpha", "beta", "gamma")


@dataclass
class ModelCertificate:
    """A key and when it counts."""

    label: str
    not_before: int
    not_after: int


@dataclass
class ModelClient:
    """What the portal says of a client."""

    enabled: bool = True
    certificates: list[ModelCertificate] = field(default_factory=list)


@dataclass(frozen=True)
class Sent:
    """A request once sent: by whom, with whose key, and how."""

    client: str
    label: str
    nbf: int | None
    exp: int
    altered: bool
    text: str


type Portal = dict[str, ModelClient]


def expected(portal: Portal, sent: Sent, now: int) -> Reason | None:
    """What the gate must say: the whole model."""
    client = portal.get(sent.client)
    if client is None:
        return Reason.CLIENT_ID_UNKNOWN
    if not client.enabled:
        return Reason.APPLICATION_DISABLED
    if not client.certificates:
        return Reason.CERTIFICATE_MISSING
    usable = [c for c in client.certificates if c.not_before <= now <= c.not_after]
    if not usable:
        early = any(now < c.not_before for c in client.certificates)
        return Reason.CERTIFICATE_NOT_YET_VALID if early else Reason.CERTIFICATE_EXPIRED
    if sent.altered or sent.label not in {c.label for c in usable}:
        same_kind = any(KEYS[c.label] == KEYS[sent.label] for c in usable)
        return Reason.SIGNATURE_MISMATCH if same_kind else Reason.ALGORITHM_NOT_ALLOWED
    if now >= sent.exp:
        return Reason.JWS_EXPIRED
    if sent.nbf is not None and now < sent.nbf:
        return Reason.JWS_NOT_YET_VALID
    return None


def built(portal: Portal) -> Snapshot:
    """The model's portal as the gate knows it."""
    applications = []
    for client_id, client in portal.items():
        certificates = [
            dataclasses.replace(
                certificate_of(material.private_key(KEYS[c.label], c.label)),
                not_before=c.not_before,
                not_after=c.not_after,
            )
            for c in client.certificates
        ]
        applications.append(application(client_id, *certificates, enabled=client.enabled))
    return snapshot_of(*applications)


class Gate(RuleBasedStateMachine):
    """The machine: `draft` is the portal as edited, `published` the snapshot that the gate has loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.draft: Portal = {}
        self.published: Portal = {}
        self.snapshot = built({})
        self.cache: VerifiedCache[Any, Any] = VerifiedCache(max_entries=4)
        self.sent: list[Sent] = []

    @initialize()
    def begin(self) -> None:
        """One client with one certificate is there from the start, so that most runs admit something."""
        self.draft["alpha"] = ModelClient(certificates=[ModelCertificate("p256 one", NOW - 1000, NOW + 1000)])
        self.publish()

    def outcomes(self) -> list[Reason | None]:
        """The decision on each request sent so far, as of now."""
        return [reason_of(decide(self.snapshot, request_with(sent.text, sent.client), self.now)) for sent in self.sent]

    @rule(
        client=st.sampled_from(CLIENTS),
        label=st.sampled_from(list(KEYS)),
        start=st.integers(-200, 200),
        length=st.integers(0, 500),
    )
    def register(self, client: str, label: str, start: int, length: int) -> None:
        """An application with one certificate; one of that name is replaced."""
        certificate = ModelCertificate(label, self.now + start, self.now + start + length)
        self.draft[client] = ModelClient(certificates=[certificate])

    @rule(
        client=st.sampled_from(CLIENTS),
        label=st.sampled_from(list(KEYS)),
        start=st.integers(-200, 200),
        overlap=st.booleans(),
    )
    def rotate(self, client: str, label: str, start: int, overlap: bool) -> None:
        """A new certificate in place of the old ones, or beside them for a while."""
        if client in self.draft:
            kept = self.draft[client].certificates if overlap else []
            self.draft[client].certificates = [
                *kept,
                ModelCertificate(label, self.now + start, self.now + start + 300),
            ][-3:]

    @rule(client=st.sampled_from(CLIENTS))
    def remove_certificates(self, client: str) -> None:
        """The portal's field is emptied."""
        if client in self.draft:
            self.draft[client].certificates = []

    @rule(client=st.sampled_from(CLIENTS), enabled=st.booleans())
    def enable_or_disable(self, client: str, enabled: bool) -> None:
        """The application's state is changed."""
        if client in self.draft:
            self.draft[client].enabled = enabled

    @rule()
    def publish(self) -> None:
        """The snapshot is swapped."""
        self.published = copy.deepcopy(self.draft)
        self.snapshot = built(self.published)

    @rule(client=st.sampled_from(CLIENTS))
    def remove_client(self, client: str) -> None:
        """A client is removed and nothing else: what was rejected stays rejected, and the client is out."""
        self.draft = copy.deepcopy(self.published)
        before = self.outcomes()
        self.draft.pop(client, None)
        self.publish()
        after = self.outcomes()
        for sent, old, new in zip(self.sent, before, after, strict=True):
            assert not (old is not None and new is None), sent
            assert new is Reason.CLIENT_ID_UNKNOWN or sent.client != client, sent

    @rule(seconds=st.integers(-50, 200))
    def step_clock(self, seconds: int) -> None:
        """Time goes by; now and then a clock is set back."""
        self.now += seconds

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def pass_exp(self, data: st.DataObject) -> None:
        """The clock reaches the exp of a request, which is then rejected whatever it was before."""
        chosen = data.draw(st.sampled_from(self.sent))
        self.now = max(self.now, chosen.exp)
        for sent, outcome in zip(self.sent, self.outcomes(), strict=True):
            assert outcome is not None or self.now < sent.exp, sent

    @rule(
        client=st.sampled_from([*CLIENTS, "never registered"]),
        label=st.sampled_from(list(KEYS)),
        lifetime=st.integers(-20, 300),
        delay=st.none() | st.integers(-20, 100),
        altered=st.booleans(),
    )
    def send(self, client: str, label: str, lifetime: int, delay: int | None, altered: bool) -> None:
        """A request with any key: valid, early, expired, foreign or altered."""
        exp = self.now + lifetime
        nbf = None if delay is None else self.now + delay
        claims = {"exp": exp} if nbf is None else {"exp": exp, "nbf": nbf}
        text = material.jws(material.private_key(KEYS[label], label), claims)
        if altered:
            text = material.altered(text, text.rindex(".") + 5)
        self.sent = [*self.sent, Sent(client, label, nbf, exp, altered, text)][-10:]

    @precondition(lambda self: any(client.enabled and client.certificates for client in self.published.values()))
    @rule(data=st.data(), lifetime=st.integers(1, 300))
    def send_good(self, data: st.DataObject, lifetime: int) -> None:
        """A request that is good as long as the client's certificate is."""
        names = [name for name, client in self.published.items() if client.enabled and client.certificates]
        client = data.draw(st.sampled_from(names))
        certificate = data.draw(st.sampled_from(self.published[client].certificates))
        self.send(client, certificate.label, lifetime, None, False)

    @invariant()
    def gate_agrees_with_model(self) -> None:
        """Every request sent so far comes out as the model says, with a cache and without."""
        for sent in self.sent:
            facts = request_with(sent.text, sent.client)
            reason = expected(self.published, sent, self.now)
            assert reason is reason_of(decide(self.snapshot, facts, self.now)), sent
            assert reason is reason_of(decide(self.snapshot, facts, self.now, self.cache)), sent


TestGate = Gate.TestCase
TestGate.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_model_knows_every_outcome() -> None:
    """A walk by hand through each answer of the model, so that none of its lines is dead."""
    gate = Gate()
    gate.begin()
    seen = set()

    def look() -> None:
        gate.gate_agrees_with_model()
        seen.update(gate.outcomes())

    gate.send("alpha", "p256 one", 100, None, False)
    gate.send("alpha", "p256 one", 100, 50, False)
    gate.send("alpha", "p256 two", 100, None, False)
    gate.send("alpha", "ed25519 one", 100, None, False)
    gate.send("alpha", "p256 one", 100, None, True)
    gate.send("never registered", "p256 one", 100, None, False)
    look()
    gate.step_clock(100)
    look()
    gate.step_clock(2000)
    look()
    gate.step_clock(-4000)
    look()
    gate.step_clock(6000)
    gate.rotate("alpha", "p256 two", 100, True)
    gate.publish()
    look()
    gate.enable_or_disable("alpha", False)
    look()
    gate.publish()
    look()
    gate.enable_or_disable("alpha", True)
    gate.remove_certificates("alpha")
    gate.publish()
    look()
    assert seen == {
        None,
        Reason.CLIENT_ID_UNKNOWN,
        Reason.APPLICATION_DISABLED,
        Reason.CERTIFICATE_MISSING,
        Reason.CERTIFICATE_EXPIRED,
        Reason.CERTIFICATE_NOT_YET_VALID,
        Reason.SIGNATURE_MISMATCH,
        Reason.ALGORITHM_NOT_ALLOWED,
        Reason.JWS_EXPIRED,
        Reason.JWS_NOT_YET_VALID,
    }
