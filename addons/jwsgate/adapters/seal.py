"""The end of the add-on chain, and how the gate is put into a master; the rules are in gate.py."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from mitmproxy import dns, http, tcp, udp
from mitmproxy.net.dns import response_codes
from mitmproxy.proxy import layer, layers
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook, HttpRequestHook

from .dispatch import SealedAddonManager, seal_manager
from .exchange import LAST_RESORT, STANDING
from .gate import JwsGate
from .http_layers import adopt

__all__ = ["Seal", "install"]


def _raw_layers() -> tuple[type[layer.Layer], ...]:
    return layers.TCPLayer, layers.UDPLayer, layers.DNSLayer, layers.RawQuicLayer


class Seal:
    """Stands last in the chain: keeps the denial on until here, and takes it off from what the gate allowed."""

    name = "jwsgate-seal"

    def __init__(self, gate: JwsGate) -> None:
        self._gate = gate

    def _is_from_file(self, flow: http.HTTPFlow) -> bool:
        return not flow.live and flow not in self._gate.watched

    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        if self._is_from_file(flow):
            return None
        try:
            self.close_first(flow)
            return self._gate.seal(flow)
        except BaseException as error:
            flow.response = http.Response.make(*LAST_RESORT)
            self._gate.fail(flow, error, "sealing")
        return None

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        if self._is_from_file(flow):
            return None
        flow.request.trailers = None  # they came after the decision
        found = flow.response
        try:
            if self._gate.is_released(flow):
                return None  # its body has gone upstream as it came
            flow.response = STANDING
            return self._gate.release(flow, found)
        except BaseException as error:
            flow.response = http.Response.make(*LAST_RESORT)
            self._gate.fail(flow, error, "releasing")
        return None

    def close_first(self, flow: http.HTTPFlow) -> None:
        """`close` for the first hook, after which the denial of what may still be released goes on standing."""
        self.close(flow, may_stand=self._gate.is_open)

    def close(self, flow: http.HTTPFlow, may_stand: Callable[[http.HTTPFlow], bool] = lambda _flow: False) -> None:
        """Deny what other add-ons have opened; runs after the whole chain too, however that ended."""
        if self._is_from_file(flow):
            return
        try:
            must_close = self._gate.must_close(flow) or (flow.response is STANDING and not may_stand(flow))
            released = self._gate.is_released(flow)
        except BaseException as error:
            must_close, released = True, False
            self._gate.fail(flow, error, "sealing")
        if must_close:
            flow.response = http.Response.make(*LAST_RESORT)
        if flow.response is not None or not released:
            flow.request.stream = False  # mitmproxy breaks when it is to stream a request that has its answer

    # What is not HTTP has no client ID and no JWS, so it does not pass.

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        if isinstance(nextlayer.layer, _raw_layers()) and nextlayer.context.client.transport_protocol == "tcp":
            nextlayer.layer = layers.HttpLayer(nextlayer.context, HTTPMode.transparent)
        adopt(nextlayer.layer, self._gate)

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        flow.messages[-1].content = b""

    def udp_message(self, flow: udp.UDPFlow) -> None:
        flow.messages[-1].content = b""

    def dns_request(self, flow: dns.DNSFlow) -> None:
        flow.response = flow.request.fail(response_codes.REFUSED)


def install(master: Any) -> JwsGate:
    """Put the gate first and its seal last in a master's chain. It denies everything until `start` has succeeded."""
    manager = master.addons
    if (present := manager.get(JwsGate.name)) is not None:
        return cast(JwsGate, present)
    gate = JwsGate()
    seal = Seal(gate)
    manager.chain.insert(0, gate)
    manager.register(gate)
    manager.chain.insert(1, gate.tls)
    manager.register(gate.tls)
    if manager.get("view") is not None:  # mitmweb or the console
        from .ui import DecisionView  # noqa: PLC0415 - slow to import, and a sidecar has no use for it

        manager.add(DecisionView(master, gate))
    manager.add(seal)
    sealed = manager if isinstance(manager, SealedAddonManager) else seal_manager(manager, fixed=False)
    sealed.trusted = gate, seal
    sealed.last = {HttpRequestHeadersHook.name: seal.close_first, HttpRequestHook.name: seal.close}
    sealed.forget_lookups()
    return gate
