"""The signing proxy: what it refuses to start with, what it signs, and what it never does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons, tflow

import material
from core_gate import application, certificate_of
from jwsgate.adapters.seal import install
from jwsgate.adapters.signer import Signer
from jwsgate.core.decision import Allowed, Rejected, Snapshot, decide
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Router
from jwsgate.core.portal import Portal
from jwsgate.files.loading import read_all
from unit_material import good_files

KEY = material.private_key("p256", "signer")
POLICY = """\
routes:
  - {name: orders, path: "/orders/**", claims: {required: [exp, sub], client_id_claim: azp}}
  - {name: rsa, path: /rsa, algorithms: [RS256]}
  - {name: health, path: /health, open: true}
"""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """What is needed to sign for requests to api.example."""
    (tmp_path / "client.key").write_text(material.private_pem(KEY))
    (tmp_path / "policy.yaml").write_text(POLICY)
    return {
        "listen_host": "127.0.0.1",
        "jwsgate_sign_key": str(tmp_path / "client.key"),
        "jwsgate_sign_client_id": "client",
        "jwsgate_sign_policy": [str(tmp_path / "policy.yaml")],
        "jwsgate_sign_hosts": ["API.example"],
        "jwsgate_sign_claims": '{"sub": "me", "exp": 1}',
        "jwsgate_sign_unattended": True,
    }


@pytest.fixture
def signer() -> Iterator[tuple[Signer, taddons.context]]:
    """The add-on in a master, not started."""
    made = Signer()
    with taddons.context(Proxyserver(), made) as context:
        yield made, context


def started(signer: tuple[Signer, taddons.context], options: dict[str, Any]) -> Signer:
    """The add-on with its options."""
    signer[1].options.update(**options)
    signer[0].start(signer[1].master)
    return signer[0]


def a_flow(path: str = "/orders/1", host: str = "api.example", headers: tuple[tuple[bytes, bytes], ...] = ()) -> Any:
    """A request as it arrives."""
    flow = tflow.tflow()
    flow.request.host, flow.request.path, flow.request.headers = host, path, http.Headers(headers)
    flow.live = True
    return flow


def decided(flow: http.HTTPFlow, policy: str) -> Allowed | Rejected:
    """What the gate of that policy makes of the request as it goes on."""
    _, router, problems = read_all(None, [Path(policy)], 0)
    assert (problems, isinstance(router, Router)) == ([], True)
    snapshot = Snapshot(Portal((application("client", certificate_of(KEY)),)), router, "revision")
    data = flow.request.data
    decision = decide(snapshot, RequestFacts("GET", data.path, data.headers.fields), time.time())
    assert isinstance(decision, Allowed | Rejected)
    return decision


def test_signs_as_the_policy_demands(signer: tuple[Signer, taddons.context], options: dict[str, Any]) -> None:
    """Claims of the user, those of the route, fresh times; marked so that nobody overlooks it."""
    flow = a_flow(headers=((b"jwt", b"stale"), (b"X-IBM-Client-Id", b"other"), (b"Accept", b"*/*")))
    started(signer, options).request(flow)
    decision = decided(flow, options["jwsgate_sign_policy"][0])
    assert isinstance(decision, Allowed), decision
    assert (decision.claims["sub"], decision.claims["azp"]) == ("me", "client")
    assert decision.claims["exp"] - decision.claims["iat"] == 60
    assert flow.request.headers.fields[0] == (b"Accept", b"*/*")
    assert (flow.marked, flow.comment) == (
        ":lock_with_ink_pen:", "SIGNED by this proxy for client: ES256, route 'orders'",
    )  # fmt: skip


def test_signs_anew(signer: tuple[Signer, taddons.context], options: dict[str, Any]) -> None:
    """What is replayed gets another JWS, in place of the last one."""
    addon, flow = started(signer, options), a_flow()
    addon.request(flow)
    first = flow.request.headers.get_all("jwt")
    addon.request(flow)
    second = flow.request.headers.get_all("jwt")
    assert (len(first), len(second), first != second) == (1, 1, True)


@pytest.mark.parametrize(
    ("path", "host"),
    [("/orders/1", "evil.example"), ("/orders/1", "api.example.evil"), ("/elsewhere", "api.example"),
     ("/health", "api.example")],
    ids=["other-host", "longer-host", "no-route", "open"],
)  # fmt: skip
def test_leaves_alone(signer: tuple[Signer, taddons.context], options: dict[str, Any], path: str, host: str) -> None:
    """A JWS is only for the hosts that were named, whatever the Host header says, and where it is asked for."""
    flow = a_flow(path, host, ((b"Host", b"api.example"),))
    started(signer, options).request(flow)
    assert flow.request.headers.fields == ((b"Host", b"api.example"),)
    assert (flow.marked, flow.response) == ("", None)


@pytest.mark.parametrize(
    ("path", "why"),
    [("/rsa", "route 'rsa' allows no algorithm of this key"), ("/orders//1", "the path has an empty segment")],
    ids=["algorithm", "unsafe"],
)
def test_what_cannot_be_signed_does_not_go_on(
    signer: tuple[Signer, taddons.context], options: dict[str, Any], path: str, why: str
) -> None:
    """It is answered here, with the reason."""
    flow = a_flow(path)
    started(signer, options).request(flow)
    assert flow.response.status_code == 502
    assert why in json.loads(flow.response.content)["why"]
    assert flow.marked == ":no_entry:"


def test_fault_does_not_go_on(
    signer: tuple[Signer, taddons.context], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when something of ours breaks."""

    def breaks(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("jwsgate.adapters.signer.signed_request", breaks)
    flow = a_flow()
    started(signer, options).request(flow)
    assert flow.response.status_code == 502


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"jwsgate_sign_key": ""}, "jwsgate_sign_key"),
        ({"jwsgate_sign_client_id": ""}, "jwsgate_sign_client_id"),
        ({"jwsgate_sign_policy": []}, "jwsgate_sign_policy"),
        ({"jwsgate_sign_key": "/no/such.key"}, "does not exist"),
        ({"jwsgate_sign_key": __file__}, "is not a private key"),
        ({"jwsgate_sign_policy": [__file__]}, "test_signer.py:"),
        ({"jwsgate_sign_hosts": []}, "name the hosts to sign for"),
        ({"jwsgate_sign_claims": "[1]"}, "is no JSON object"),
        ({"jwsgate_sign_lifetime": 3601}, "1 to 3600 seconds"),
        ({"jwsgate_sign_unattended": False}, "where somebody looks on"),
        ({"listen_host": ""}, "any address of this machine would be signed for"),
        ({"listen_host": "0.0.0.0"}, "0.0.0.0 would be signed for"),
        ({"mode": ["regular@192.0.2.1:8080"]}, "192.0.2.1 would be signed for"),
        ({"mode": ["transparent"]}, "use regular, upstream or reverse"),
        ({"stream_large_bodies": "1"}, "stream_large_bodies"),
    ],
    ids=[
        "no-key", "no-client-id", "no-policy", "missing-key", "bad-key", "bad-policy", "no-hosts", "bad-claims",
        "long-lifetime", "unattended", "any-address", "all-addresses", "own-address", "transparent", "streaming",
    ],
)  # fmt: skip
def test_refused_at_start(
    signer: tuple[Signer, taddons.context], options: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    """What is missing or would sign for others is told, and nothing is signed."""
    with pytest.raises(exceptions.OptionsError, match=told.replace(".", r"\.")):
        started(signer, options | change)
    flow = a_flow()
    signer[0].request(flow)
    assert "jwt" not in flow.request.headers


def test_refused_while_running(signer: tuple[Signer, taddons.context], options: dict[str, Any]) -> None:
    """mitmproxy puts the options back, and what was in force goes on."""
    started(signer, options)
    with pytest.raises(exceptions.OptionsError):
        signer[1].options.update(jwsgate_sign_hosts=[])
    flow = a_flow(host="evil.example")
    signer[0].request(flow)
    assert "jwt" not in flow.request.headers


def test_reverse_mode_names_its_host(signer: tuple[Signer, taddons.context], options: dict[str, Any]) -> None:
    """The one host and port that everything goes to."""
    started(signer, options | {"mode": ["reverse:https://up.example"], "jwsgate_sign_hosts": []})
    for port, is_signed in ((443, True), (8443, False)):
        flow = a_flow(host="up.example")
        flow.request.port = port
        signer[0].request(flow)
        assert ("jwt" in flow.request.headers) == is_signed


def test_never_beside_a_gate(options: dict[str, Any], tmp_path: Path) -> None:
    """Whichever comes first, the second does not start: the gate would verify what its own process signed."""
    portal, policy = good_files(tmp_path)
    gate_options = {"jwsgate_portal": str(portal), "jwsgate_policy": [str(policy)]}
    with taddons.context(Proxyserver()) as context:
        gate = install(context.master)
        context.options.update(**gate_options)
        gate.start()
        signer = Signer()
        context.master.addons.add(signer)
        context.options.update(**options)
        with pytest.raises(exceptions.OptionsError, match="a gate runs in this process"):
            signer.start(context.master)
        flow = a_flow()
        signer.request(flow)
        assert "jwt" not in flow.request.headers
    with taddons.context(Proxyserver(), Signer()) as context:
        gate = install(context.master)
        context.options.update(**gate_options)
        with pytest.raises(exceptions.OptionsError, match="this process signs requests"):
            gate.start()
        assert gate.state.snapshot is None
