"""The mitmproxy adapter, hook by hook: the rules at the head of gate.py, with others' add-ons in the chain."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import hashlib
import json
import logging
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import exceptions, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.net.dns import response_codes
from mitmproxy.proxy import layer, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook, HttpRequestHook, HttpResponseHeadersHook
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow, tutils

import material
from jwsgate.adapters import gate as gate_module
from jwsgate.adapters.addon import addons
from jwsgate.adapters.gate import JwsGate
from jwsgate.adapters.seal import Seal, install
from jwsgate.core.answers import ANSWERS, LAST_RESORT_BODY
from jwsgate.core.reasons import Reason
from unit_material import CLIENT_ID, OTHER_CLIENT_ID

KEY = material.private_key("p256")
HEADER = "X-Global-Transaction-ID"

PORTAL = material.portal_yaml(
    [
        material.Application("good", (CLIENT_ID,), material.certificate(KEY)),
        material.Application("bare", (OTHER_CLIENT_ID,)),
    ]
)
POLICY = """\
routes:
  - {name: sign, path: /sign, methods: [POST], sign: {key: a.key, algorithm: ES256, issuer: tvo, audience: all}}
  - {name: validate, path: /validate, respond: claims}
  - {name: once, path: /once, single_use: true}
  - {name: bound, path: /bound, bind: {body: {claim: digest}}}
  - {name: rest, path: /rest/**}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A mitmproxy master with the gate in it."""

    context: taddons.context
    gate: JwsGate
    folder: Path

    def trigger(self, hook: Any) -> None:
        """Run one hook through all add-ons."""
        self.context.master.event_loop.run_until_complete(self.context.master.addons.trigger_event(hook))

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """The first of the two hooks that decide."""
        self.trigger(HttpRequestHeadersHook(flow))

    def request(self, flow: http.HTTPFlow) -> None:
        """The second."""
        self.trigger(HttpRequestHook(flow))

    def both(self, flow: http.HTTPFlow) -> http.HTTPFlow:
        """A request that came in whole."""
        self.requestheaders(flow)
        self.request(flow)
        return flow

    def add_last(self, other: object) -> None:
        """Another add-on at the end of the chain but before the seal, as those of the command line are."""
        manager = self.context.master.addons
        manager.add(other)
        seal = manager.get(Seal.name)
        manager.chain.remove(seal)
        manager.chain.append(seal)


def master(*others: object) -> taddons.context:
    """A mitmproxy master without the gate, with the add-on that has the options of a proxy."""
    return taddons.context(Proxyserver(), *others)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A gate that has loaded its files."""
    (tmp_path / "portal.yaml").write_text(PORTAL)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "a.key").write_text(material.private_pem(KEY))
    with master() as context:
        gate = install(context.master)
        context.options.update(
            jwsgate_portal=str(tmp_path / "portal.yaml"), jwsgate_policy=[str(tmp_path / "policy.yaml")]
        )
        gate.start()
        yield Proxy(context, gate, tmp_path)


def token(**claims: Any) -> str:
    """A good JWS."""
    return material.jws(KEY, material.default_claims(**claims))


def a_flow(
    path: str = "/rest/1",
    *,
    method: str = "GET",
    client_id: str | None = CLIENT_ID,
    jws: str | None = "good",
    body: bytes = b"",
    more: tuple[tuple[bytes, bytes], ...] = (),
    **request: Any,
) -> http.HTTPFlow:
    """A request, good unless told otherwise."""
    headers = [(b"Host", b"api.example")]
    if client_id is not None:
        headers.append((b"X-IBM-Client-Id", client_id.encode()))
    if jws is not None:
        headers.append((b"jwt", (token() if jws == "good" else jws).encode()))
    flow: http.HTTPFlow = tflow.tflow(
        req=tutils.treq(
            method=method.encode(),
            path=path.encode(),
            headers=http.Headers((*headers, *more)),
            content=body,
            **request,
        )
    )
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:http://127.0.0.1:9000")
    return flow


def answered(flow: http.HTTPFlow) -> tuple[int, bytes] | None:
    """Status and body that a flow will be answered with; None when it goes upstream."""
    return (flow.response.status_code, flow.response.raw_content or b"") if flow.response else None


def answer_of(reason: Reason) -> tuple[int, bytes]:
    """What a reason is answered with."""
    return ANSWERS[reason].status, ANSWERS[reason].body


LAST_RESORT = (500, LAST_RESORT_BODY)


# What passes


def test_good_request_goes_upstream(proxy: Proxy) -> None:
    """Without an answer of ours, with the transaction ID, with all else as it was."""
    flow = a_flow(method="PUT", body=b"body", more=((b"A", b"1"), (b"a", b"2")))
    before = flow.request.headers.fields
    proxy.both(flow)
    assert answered(flow) is None
    *kept, (name, value) = flow.request.headers.fields
    assert before == tuple(kept)
    assert (name, len(value)) == (HEADER.encode(), 24)
    assert int(value, 16) >= 0
    assert (flow.request.method, flow.request.path, flow.request.raw_content) == ("PUT", "/rest/1", b"body")
    assert (flow.marked, flow.comment, flow.metadata) == ("", "", {})


def test_response_carries_the_same_transaction_id(proxy: Proxy) -> None:
    """What went upstream and what comes back are told by one ID."""
    flow = proxy.both(a_flow())
    flow.response = tutils.tresp(headers=http.Headers(((HEADER.encode(), b"forged"),)))
    proxy.trigger(HttpResponseHeadersHook(flow))
    assert [flow.request.headers[HEADER]] == flow.response.headers.get_all(HEADER)


def test_transaction_ids_differ(proxy: Proxy) -> None:
    """Each request has its own."""
    flows = [proxy.both(a_flow()) for _ in range(50)]
    assert len({flow.request.headers[HEADER] for flow in flows}) == 50


@pytest.mark.parametrize("name", [b"X-Global-Transaction-ID", b"x_global_transaction_id", b"X.Global-Transaction_ID"])
def test_forged_transaction_id_is_dropped(proxy: Proxy, name: bytes) -> None:
    """The client's own, in any spelling that an upstream may take for it."""
    flow = proxy.both(a_flow(more=((name, b"forged"), (name, b"twice"))))
    values = [value for _, value in flow.request.headers.fields]
    assert answered(flow) is None
    assert b"forged" not in values
    assert b"twice" not in values


def test_claims_are_answered(proxy: Proxy) -> None:
    """Octet for octet as they were signed."""
    payload = b'{ "z": 1.0,\n "exp" : 99999999999, "a":"\\u00e9" }'
    flow = proxy.both(a_flow("/validate", jws=material.jws(KEY, payload=payload)))
    assert (200, payload) == answered(flow)
    assert flow.response is not None
    assert flow.response.headers["content-type"] == "application/json"
    assert flow.response.headers["cache-control"] == "no-store"
    assert len(flow.response.headers[HEADER]) == 24


def test_signed_token_validates(proxy: Proxy) -> None:
    """What /sign answers, /validate takes."""
    signed = proxy.both(a_flow("/sign", method="POST", jws=None, body=b'{"t":"t"}'))
    assert signed.response is not None
    assert (signed.response.status_code, signed.response.headers["content-type"]) == (200, "application/jose")
    body = signed.response.raw_content or b""
    validated = answered(proxy.both(a_flow("/validate", jws=body.decode())))
    assert validated is not None
    assert (validated[0], list(json.loads(validated[1]))) == (200, ["iss", "aud", "exp", "iat", "t"])


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{", b"\xff", b'{"a":1,"a":2}', b'{"a":"' + b"x" * 65536 + b'"}'],
    ids=["list", "cut-short", "not-utf-8", "repeated-member", "too-large"],
)
def test_bodies_that_cannot_be_signed(proxy: Proxy, body: bytes) -> None:
    """Told with 400; sizes have an end."""
    flow = proxy.both(a_flow("/sign", method="POST", jws=None, body=body))
    assert answer_of(Reason.BODY_MALFORMED) == answered(flow)


def test_body_at_the_limit_is_signed(proxy: Proxy) -> None:
    """65536 octets are fine."""
    body = b'{"a":"' + b"x" * (65536 - 8) + b'"}'
    flow = proxy.both(a_flow("/sign", method="POST", jws=None, body=body))
    assert flow.response is not None
    assert flow.response.status_code == 200


# What is refused


REFUSED: list[Any] = [
    pytest.param({"path": "/elsewhere"}, Reason.ROUTE_UNKNOWN, id="route-unknown"),
    pytest.param({"path": "/rest/../a"}, Reason.REQUEST_UNSAFE, id="request-unsafe"),
    pytest.param({"client_id": None}, Reason.CLIENT_ID_MISSING, id="client-id-missing"),
    pytest.param({"more": ((b"x-ibm-client-id", b"b"),)}, Reason.CLIENT_ID_REPEATED, id="client-id-repeated"),
    pytest.param({"client_id": "nobody"}, Reason.CLIENT_ID_UNKNOWN, id="client-id-unknown"),
    pytest.param({"client_id": OTHER_CLIENT_ID}, Reason.CERTIFICATE_MISSING, id="certificate-missing"),
    pytest.param({"jws": None}, Reason.JWS_MISSING, id="jws-missing"),
    pytest.param({"jws": "a.b"}, Reason.JWS_MALFORMED, id="jws-malformed"),
    pytest.param(
        {"jws": material.jws(material.private_key("p256", "other"))}, Reason.SIGNATURE_MISMATCH, id="signature-mismatch"
    ),
    pytest.param({"jws": material.jws(KEY, material.default_claims(exp=1))}, Reason.JWS_EXPIRED, id="jws-expired"),
    pytest.param({"more": ((b"Upgrade", b"websocket"),)}, Reason.REQUEST_UNSAFE, id="upgrade"),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED)
def test_refused(proxy: Proxy, given: dict[str, Any], reason: Reason) -> None:
    """The answer of the reason, exactly; the reason in mitmproxy's own list; nothing sent."""
    flow = a_flow(**given)
    before = flow.request.headers.fields
    proxy.both(flow)
    assert answer_of(reason) == answered(flow)
    assert flow.response is not None
    assert flow.response.headers["content-type"] == "application/json"
    assert flow.response.headers["content-length"] == str(len(ANSWERS[reason].body))
    assert len(flow.response.headers[HEADER]) == 24
    assert flow.marked == ":no_entry:"
    assert flow.comment.startswith(f"{reason}: ")
    assert before == flow.request.headers.fields


@pytest.mark.parametrize(("given", "reason"), REFUSED)
def test_head_is_answered_without_a_body(proxy: Proxy, given: dict[str, Any], reason: Reason) -> None:
    """RFC 9110 section 9.3.2: the status alone."""
    assert (ANSWERS[reason].status, b"") == answered(proxy.both(a_flow(**given, method="HEAD")))


def test_head_of_claims(proxy: Proxy) -> None:
    """The same for answers that are none of refusal."""
    assert answered(proxy.both(a_flow("/validate", method="HEAD"))) == (200, b"")


@pytest.mark.parametrize(("given", "reason"), REFUSED)
def test_log_lines(proxy: Proxy, caplog: pytest.LogCaptureFixture, given: dict[str, Any], reason: Reason) -> None:
    """One line each, with transaction ID and reason."""
    caplog.set_level(logging.INFO, logger="jwsgate")
    flow = proxy.both(a_flow(**given))
    assert flow.response is not None
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("jwsgate")]
    assert line.startswith(f"jwsgate: {flow.response.headers[HEADER]} rejected: {reason}: ")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"client_id": "evil\x1b[31m"}, id="client-id"),
        pytest.param({"path": "/evil%0aline"}, id="path"),
        pytest.param({"path": "/rest/evil\udce9".encode("utf-8", "replace").decode()}, id="path-of-letters"),
        pytest.param({"jws": "evil.evil.evil"}, id="jws"),
        pytest.param({"jws": material.jws(KEY, header=b'{"alg":"evil"}')}, id="algorithm"),
        pytest.param({"jws": material.jws(KEY, {"exp": "evil"})}, id="claim"),
        pytest.param({"method": "EVIL", "path": "/evil"}, id="method"),
        pytest.param({"more": ((b"evil", b"evil\r\nevil"),)}, id="header"),
        pytest.param({"more": ((b"evil\xe9", b"\xe9"),)}, id="latin-1"),
    ],
)
def test_nothing_of_the_client_is_logged(proxy: Proxy, caplog: pytest.LogCaptureFixture, given: dict[str, Any]) -> None:
    """No octet of the request stands in the log, the comment or the answer."""
    caplog.set_level(logging.DEBUG)
    flow = proxy.both(a_flow(**given))
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("jwsgate")]
    texts += [flow.comment, (flow.response.raw_content or b"").decode() if flow.response else ""]
    assert "evil" not in "".join(texts).lower()
    assert all(text.isprintable() for text in texts)


# A denial stands first


def test_denial_stands_after_the_first_hook(proxy: Proxy) -> None:
    """Even a good request is denied until its last octet was seen."""
    flow = a_flow()
    proxy.requestheaders(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize("path", ["/validate", "/sign", "/once", "/bound"])
def test_denial_stands_whatever_the_route(proxy: Proxy, path: str) -> None:
    """For each kind of route."""
    flow = a_flow(path, method="POST")
    proxy.requestheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 500


def test_streaming_is_switched_off(proxy: Proxy) -> None:
    """A streamed body would reach the upstream before the second hook."""
    flow = a_flow()
    flow.request.stream = True
    proxy.requestheaders(flow)
    assert flow.request.stream is False


ERRORS: list[Any] = [
    pytest.param(Exception("x"), id="exception"),
    pytest.param(RecursionError(), id="recursion"),
    pytest.param(MemoryError(), id="memory"),
    pytest.param(exceptions.AddonHalt(), id="addon-halt"),
    pytest.param(exceptions.OptionsError("x"), id="options-error"),
    pytest.param(asyncio.CancelledError(), id="cancelled"),
    pytest.param(GeneratorExit(), id="generator-exit"),
    pytest.param(StopIteration(), id="stop-iteration"),
    pytest.param(UnicodeEncodeError("ascii", "é", 0, 1, "x"), id="unicode"),
    pytest.param(BaseException(), id="base-exception"),
]
ENDS: list[Any] = [
    pytest.param(KeyboardInterrupt(), id="keyboard-interrupt"),
    pytest.param(SystemExit(1), id="system-exit"),
]


def raising(error: BaseException) -> Callable[..., Any]:
    """A function that raises, whatever it is given."""

    def raise_it(*_arguments: object, **_more: object) -> Any:
        raise error

    return raise_it


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_while_deciding_denies(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """mitmproxy forwards when a hook raises; here nothing is raised, and the denial stands in both hooks."""
    monkeypatch.setattr(gate_module, "decide", raising(error))
    flow = a_flow()
    proxy.gate.requestheaders(flow)
    assert answered(flow) == LAST_RESORT
    proxy.request(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize("error", ENDS)
def test_an_end_that_was_asked_for_denies(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The process may end, but with the denial in place."""
    monkeypatch.setattr(gate_module, "decide", raising(error))
    flow = a_flow()
    with pytest.raises(type(error)):
        proxy.gate.requestheaders(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("new_transaction_id", id="transaction-id"),
        pytest.param("time", id="clock"),
        pytest.param("facts_of", id="facts"),
        pytest.param("identity_of", id="identity"),
        pytest.param("_Record", id="record"),
        pytest.param("decide", id="decision"),
    ],
)
def test_an_error_anywhere_in_the_first_hook_denies(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """Whatever breaks on the way, and though it is mended before the second hook."""

    class Broken:
        __call__ = token_hex = time = raising(RuntimeError())

    flow = a_flow()
    with monkeypatch.context() as broken:
        broken.setattr(gate_module, target, Broken())
        proxy.gate.requestheaders(flow)
        assert answered(flow) == LAST_RESORT
    proxy.request(flow)
    assert answered(flow) == LAST_RESORT


def test_an_error_in_the_log_denies(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that breaks on a rejection leaves it one."""
    monkeypatch.setattr(gate_module.logger, "info", raising(OSError("disk full")))
    flow = proxy.both(a_flow(jws=None))
    assert flow.response is not None
    assert flow.response.status_code == 500


def test_a_broken_log_of_errors_denies(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even telling of an error may take the denial off."""
    monkeypatch.setattr(gate_module, "decide", raising(RuntimeError()))
    monkeypatch.setattr(gate_module.logger, "error", raising(OSError("disk full")))
    flow = proxy.both(a_flow())
    assert answered(flow) == LAST_RESORT


def test_no_policy_denies(tmp_path: Path) -> None:
    """A gate that was not started denies everything."""
    with master() as context:
        proxy = Proxy(context, install(context.master), tmp_path)
        assert answer_of(Reason.POLICY_UNAVAILABLE) == answered(proxy.both(a_flow()))


# Only the end of the second hook takes it off, for exactly this request


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("path", ["/rest/1", "/validate"])
def test_an_error_while_releasing_denies(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, error: BaseException, path: str
) -> None:
    """An allowed request whose release breaks is denied."""
    flow = a_flow(path)
    proxy.requestheaders(flow)
    monkeypatch.setattr(JwsGate, "_prepare_upstream", raising(error))
    monkeypatch.setattr(gate_module, "gate_response", raising(error))
    proxy.request(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize("error", [RuntimeError(), OSError("disk full")], ids=["error", "os-error"])
def test_an_error_in_the_accounts_denies(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """What cannot be put on record does not pass; what the policy lets pass unrecorded is test_audit.py's matter."""
    monkeypatch.setattr(proxy.gate.accounts, "wants", lambda _decision: True)
    monkeypatch.setattr(proxy.gate.accounts, "decided", raising(error))
    assert answered(proxy.both(a_flow())) == LAST_RESORT


def test_second_hook_alone_denies(proxy: Proxy) -> None:
    """A request that the first hook never saw."""
    flow = a_flow()
    proxy.request(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda request: setattr(request, "method", "DELETE"), id="method"),
        pytest.param(lambda request: setattr(request, "path", "/rest/2"), id="path"),
        pytest.param(lambda request: setattr(request, "path", "/rest/1?admin"), id="query"),
        pytest.param(lambda request: setattr(request, "scheme", "https"), id="scheme"),
        pytest.param(lambda request: setattr(request, "host", "other.example"), id="host"),
        pytest.param(lambda request: setattr(request, "port", 1), id="port"),
    ],
)
def test_changed_requests_are_denied(proxy: Proxy, change: Callable[[http.Request], None]) -> None:
    """What was decided is what goes upstream, or nothing."""
    flow = a_flow()
    proxy.requestheaders(flow)
    change(flow.request)
    proxy.request(flow)
    assert answer_of(Reason.INTERNAL_ERROR) == answered(flow)


def test_second_decision_replaces_the_first(proxy: Proxy) -> None:
    """A flow whose headers come again is decided again."""
    flow = a_flow()
    proxy.requestheaders(flow)
    flow.request.headers.pop("jwt")
    proxy.requestheaders(flow)
    proxy.request(flow)
    assert answer_of(Reason.JWS_MISSING) == answered(flow)


def test_failed_second_decision_does_not_leave_the_first(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the second decision does not leave the first one's permission behind."""
    flow = a_flow()
    proxy.requestheaders(flow)
    monkeypatch.setattr(gate_module, "decide", raising(RuntimeError()))
    proxy.requestheaders(flow)
    proxy.request(flow)
    assert answered(flow) == LAST_RESORT


def test_jws_is_used_once(proxy: Proxy) -> None:
    """On a route that asks for it, the second use of a jti is refused, by whatever flow."""
    jws = token(jti="a")
    first, second = (proxy.both(a_flow("/once", jws=jws)) for _ in range(2))
    assert answered(first) is None
    assert answer_of(Reason.JWS_REPLAYED) == answered(second)
    assert second.marked == ":no_entry:"


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_the_replay_store_denies(proxy: Proxy, error: BaseException) -> None:
    """What cannot be remembered does not pass."""

    class Broken:
        async def first_use(self, *_arguments: object) -> bool:
            raise error

    proxy.gate.state.replay_store = Broken()
    flow = a_flow("/once", jws=token(jti="a"))
    proxy.requestheaders(flow)
    try:
        proxy.request(flow)
    except BaseException as raised:
        assert isinstance(raised, asyncio.CancelledError | RuntimeError)  # a task that is being ended
    assert flow.response is not None
    assert flow.response.status_code == 500


def test_denial_stands_while_the_replay_store_is_asked(proxy: Proxy) -> None:
    """Whatever happens meanwhile, the request is denied until the answer is there."""
    seen: list[tuple[int, bytes] | None] = []
    flow = a_flow("/once", jws=token(jti="a"))

    class Slow:
        async def first_use(self, *_arguments: object) -> bool:
            seen.append(answered(flow))
            return True

    proxy.gate.state.replay_store = Slow()
    proxy.both(flow)
    assert seen == [LAST_RESORT]
    assert answered(flow) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"the body", None, id="same"),
        pytest.param(b"the bodY", Reason.BINDING_MISMATCH, id="changed"),
        pytest.param(b"", Reason.BINDING_MISMATCH, id="none"),
    ],
)
def test_bound_bodies(proxy: Proxy, body: bytes, expected: Reason | None) -> None:
    """A JWS that names its body's digest passes with that body alone, which the second hook has."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"the body").digest()).rstrip(b"=").decode()
    flow = proxy.both(a_flow("/bound", method="POST", body=body, jws=token(digest=digest)))
    assert (answer_of(expected) if expected else None) == answered(flow)


# The gate stands first, and apart from its script


class Other:
    """Somebody's add-on."""

    name = "other"

    def __init__(self, **hooks: Callable[[http.HTTPFlow], None]) -> None:
        for name, hook in hooks.items():
            setattr(self, name, hook)


def test_gate_is_first_and_seal_last() -> None:
    """Wherever the script is named on the command line."""
    with master(Other()) as context:
        gate = install(context.master)
        chain = context.master.addons.chain
        assert chain[0] is gate
        assert isinstance(chain[-1], Seal)


def test_install_is_done_once() -> None:
    """A second script finds the gate that is there."""
    with master() as context:
        gate = install(context.master)
        length = len(context.master.addons)
        assert install(context.master) is gate
        assert length == len(context.master.addons)


def test_script_entry(tmp_path: Path) -> None:
    """What `-s addons/jws_gate.py` brings: an entry that installs the gate, and may then go."""
    (tmp_path / "portal.yaml").write_text(PORTAL)
    (tmp_path / "policy.yaml").write_text("routes: [{path: /rest/**}]")
    with master() as context:
        context.options.update_defer(
            jwsgate_portal=str(tmp_path / "portal.yaml"), jwsgate_policy=[str(tmp_path / "policy.yaml")]
        )
        (entry,) = addons
        context.master.addons.add(entry)
        gate = context.master.addons.get(JwsGate.name)
        assert gate is not entry
        proxy = Proxy(context, gate, tmp_path)
        assert answered(proxy.both(a_flow())) is None
        context.master.addons.remove(entry)
        assert context.master.addons.chain[0] is gate
        assert answer_of(Reason.JWS_MISSING) == answered(proxy.both(a_flow(jws=None)))


def test_script_without_files(caplog: pytest.LogCaptureFixture) -> None:
    """An ERROR in the log is what keeps mitmproxy from starting; should it start, all is denied."""
    with master() as context:
        context.master.addons.add(*addons)
        assert [record.levelname for record in caplog.records if record.name == "jwsgate.adapters.addon"] == ["ERROR"]
        proxy = Proxy(context, context.master.addons.get(JwsGate.name), Path())
        assert answer_of(Reason.POLICY_UNAVAILABLE) == answered(proxy.both(a_flow()))


@pytest.mark.parametrize("error", [exceptions.AddonHalt(), RuntimeError("x")], ids=["halt", "error"])
def test_other_add_ons_cannot_end_the_chain_before_the_gate(proxy: Proxy, error: Exception) -> None:
    """They stand behind it, so that the denial is there already."""
    proxy.add_last(Other(requestheaders=raising(error)))
    flow = a_flow(jws=None)
    proxy.requestheaders(flow)
    assert answer_of(Reason.JWS_MISSING) == answered(flow)


# The seal stands last


def open_up(flow: http.HTTPFlow) -> None:
    """What a careless add-on may do."""
    flow.response = None


def answer_instead(flow: http.HTTPFlow) -> None:
    """What a mock may do."""
    flow.response = http.Response.make(200, b"mock")


def stream(flow: http.HTTPFlow) -> None:
    """What a tuner may do."""
    flow.request.stream = True


@pytest.mark.parametrize("given", [{"jws": None}, {}], ids=["refused", "allowed"])
def test_seal_closes_after_the_first_hook(proxy: Proxy, given: dict[str, Any]) -> None:
    """A flow opened in the first hook is closed by its end, so that nothing is sent before the second."""
    proxy.add_last(Other(requestheaders=open_up))
    flow = a_flow(**given)
    proxy.requestheaders(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
@pytest.mark.parametrize("opens", [open_up, answer_instead], ids=["opened", "mocked"])
def test_seal_restores_a_rejection(proxy: Proxy, hook: str, opens: Callable[[http.HTTPFlow], None]) -> None:
    """A rejection stays the answer, whatever another add-on made of it."""
    proxy.add_last(Other(**{hook: opens}))
    assert answer_of(Reason.JWS_MISSING) == answered(proxy.both(a_flow(jws=None)))


@pytest.mark.parametrize("opens", [open_up, answer_instead], ids=["opened", "mocked"])
def test_seal_restores_our_own_answers(proxy: Proxy, opens: Callable[[http.HTTPFlow], None]) -> None:
    """Claims are answered by the gate, and by nobody else."""
    proxy.add_last(Other(request=opens))
    flow = proxy.both(a_flow("/validate"))
    assert flow.response is not None
    assert flow.response.status_code == 200
    assert flow.response.raw_content != b"mock"


def test_mocks_answer_what_was_allowed(proxy: Proxy) -> None:
    """What passed may be answered by another add-on in place of the upstream."""
    proxy.add_last(Other(request=answer_instead))
    assert answered(proxy.both(a_flow())) == (200, b"mock")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda flow: setattr(flow.request, "path", "/admin"), id="path"),
        pytest.param(lambda flow: setattr(flow.request, "method", "DELETE"), id="method"),
        pytest.param(lambda flow: setattr(flow.request, "host", "other.example"), id="host"),
        pytest.param(lambda flow: setattr(flow.request, "port", 1), id="port"),
        pytest.param(lambda flow: setattr(flow.request, "scheme", "https"), id="scheme"),
    ],
)
def test_seal_denies_what_was_changed_after_the_release(proxy: Proxy, change: Callable[[http.HTTPFlow], None]) -> None:
    """A later add-on cannot turn a permission into one for something else."""
    proxy.add_last(Other(request=change))
    assert answered(proxy.both(a_flow())) == LAST_RESORT


def test_seal_switches_streaming_off(proxy: Proxy) -> None:
    """A later add-on cannot have the body sent early."""
    proxy.add_last(Other(requestheaders=stream))
    flow = a_flow()
    proxy.requestheaders(flow)
    assert flow.request.stream is False


def test_seal_denies_what_the_gate_never_saw(proxy: Proxy) -> None:
    """Should the gate be gone from the chain, the seal is enough."""
    proxy.context.master.addons.chain.remove(proxy.gate)
    flow = a_flow()
    proxy.requestheaders(flow)
    assert answered(flow) == LAST_RESORT
    flow.response = None
    proxy.request(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_the_seal_denies(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The last in the chain has nobody behind it; what it broke on stays denied."""
    flow = a_flow()
    with monkeypatch.context() as broken:
        broken.setattr(JwsGate, "release", raising(error))
        proxy.both(flow)
        assert answered(flow) == LAST_RESORT
    proxy.request(flow)
    assert answered(flow) == LAST_RESORT


@pytest.mark.parametrize("error", ENDS)
def test_an_end_that_was_asked_for_in_the_seal_denies(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The process may end, but with the denial in place."""
    monkeypatch.setattr(JwsGate, "release", raising(error))
    flow = a_flow()
    proxy.requestheaders(flow)
    seal = proxy.context.master.addons.get(Seal.name)
    with pytest.raises(type(error)):
        seal.request(flow)
    assert answered(flow) == LAST_RESORT


HALTS = pytest.mark.parametrize(
    "error", [exceptions.AddonHalt(), RuntimeError("x"), asyncio.CancelledError()], ids=["halt", "error", "cancelled"]
)


@HALTS
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
@pytest.mark.parametrize("given", [{"jws": None}, {}], ids=["refused", "allowed"])
def test_opened_and_ended(proxy: Proxy, given: dict[str, Any], hook: str, error: BaseException) -> None:
    """An add-on that opens a flow and ends the chain does not keep the seal from it."""

    def open_and_end(flow: http.HTTPFlow) -> None:
        flow.response = None
        raise error

    proxy.add_last(Other(**{hook: open_and_end}))
    flow = a_flow(**given)
    with contextlib.suppress(asyncio.CancelledError):
        proxy.requestheaders(flow)
    assert flow.response is not None
    with contextlib.suppress(asyncio.CancelledError):
        proxy.request(flow)
    if isinstance(error, RuntimeError) and not given:
        assert answered(flow) in {None, LAST_RESORT}  # after an error mitmproxy goes on with the chain
    else:
        assert flow.response is not None
        assert flow.response.status_code == 500


@HALTS
def test_first_hook_that_was_ended_releases_nothing(proxy: Proxy, error: BaseException) -> None:
    """Where the first hook never came to its end, add-ons behind have not seen the request."""
    proxy.add_last(Other(requestheaders=raising(error)))
    flow = a_flow()
    with contextlib.suppress(asyncio.CancelledError):
        proxy.requestheaders(flow)
    proxy.request(flow)
    assert (None if isinstance(error, RuntimeError) else LAST_RESORT) == answered(flow)


def test_without_the_seal_nothing_passes(proxy: Proxy) -> None:
    """Should it be gone from the chain, there is nobody to take the denial off."""
    manager = proxy.context.master.addons
    manager.chain.remove(manager.get(Seal.name))
    assert answered(proxy.both(a_flow())) == LAST_RESORT


def test_failed_decisions_leave_no_traceback(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line of our own tells of it; the seal does not stumble over what the gate forgot."""
    monkeypatch.setattr(gate_module, "decide", raising(RuntimeError("secret")))
    proxy.both(a_flow())
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:1] == ["jwsgate: RuntimeError while deciding; denied"]
    assert [record.name for record in caplog.records if record.exc_info] == []
    assert "secret" not in caplog.text


# Headers that change, and flows held back


def remove_jws(flow: http.HTTPFlow) -> None:
    """A clean-up that comes too early."""
    flow.request.headers.pop("jwt", None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(remove_jws, Reason.JWS_MISSING, id="jws-removed"),
        pytest.param(
            lambda flow: flow.request.headers.add("X-IBM-Client-Id", OTHER_CLIENT_ID),
            Reason.CLIENT_ID_REPEATED,
            id="second-client-id",
        ),
        pytest.param(
            lambda flow: flow.request.headers.__setitem__("X-IBM-Client-Id", OTHER_CLIENT_ID),
            Reason.CERTIFICATE_MISSING,
            id="other-client-id",
        ),
        pytest.param(
            lambda flow: flow.request.headers.add("X_IBM_Client_Id", OTHER_CLIENT_ID),
            Reason.REQUEST_UNSAFE,
            id="look-alike",
        ),
        pytest.param(lambda flow: flow.request.headers.add("Upgrade", "foo"), Reason.REQUEST_UNSAFE, id="upgrade"),
        pytest.param(lambda flow: flow.request.headers.add("X-Trace", "1"), None, id="harmless"),
    ],
)
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_headers_changed_by_other_add_ons(
    proxy: Proxy, hook: str, change: Callable[[http.HTTPFlow], None], reason: Reason | None
) -> None:
    """What they made of the request must be allowed as well."""
    proxy.add_last(Other(**{hook: change}))
    assert (answer_of(reason) if reason else None) == answered(proxy.both(a_flow()))


def test_header_that_makes_a_request_good(proxy: Proxy) -> None:
    """An add-on cannot lend a rejected request a JWS: it was rejected."""
    jws = token()
    proxy.add_last(Other(requestheaders=lambda flow: flow.request.headers.__setitem__("jwt", jws)))
    assert answer_of(Reason.JWS_MISSING) == answered(proxy.both(a_flow(jws=None)))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        pytest.param(lambda flow: None, None, id="untouched"),
        pytest.param(remove_jws, answer_of(Reason.JWS_MISSING), id="jws-removed"),
        pytest.param(
            lambda flow: setattr(flow.request, "path", "/rest/2"), answer_of(Reason.INTERNAL_ERROR), id="path-changed"
        ),
        pytest.param(lambda flow: setattr(flow.request, "method", "DELETE"), LAST_RESORT, id="method-changed"),
    ],
)
def test_requests_edited_while_held_back(
    proxy: Proxy, edit: Callable[[http.HTTPFlow], None], expected: tuple[int, bytes] | None
) -> None:
    """Somebody at mitmweb may edit a request that is held back: what counts is what goes on afterwards."""
    proxy.add_last(Other(request=lambda flow: flow.intercept()))
    flow = a_flow()
    proxy.requestheaders(flow)

    async def hold_and_resume() -> None:
        hook = asyncio.create_task(proxy.context.master.addons.trigger_event(HttpRequestHook(flow)))
        await asyncio.sleep(0.01)
        assert answered(flow) == LAST_RESORT
        assert not hook.done()
        edit(flow)
        flow.resume()
        await asyncio.wait_for(hook, 5)

    proxy.context.master.event_loop.run_until_complete(hold_and_resume())
    assert expected == answered(flow)


def test_a_request_held_back_for_ever_is_denied(proxy: Proxy) -> None:
    """Its task ends with the connection; the denial stays."""
    proxy.add_last(Other(request=lambda flow: flow.intercept()))
    flow = a_flow()
    proxy.requestheaders(flow)

    async def hold_and_cancel() -> None:
        hook = asyncio.create_task(proxy.context.master.addons.trigger_event(HttpRequestHook(flow)))
        await asyncio.sleep(0.01)
        hook.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hook

    proxy.context.master.event_loop.run_until_complete(hold_and_cancel())
    assert answered(flow) == LAST_RESORT


# What is not HTTP


def test_raw_tcp_is_read_as_http(proxy: Proxy) -> None:
    """A connection of unknown protocol is not passed on as it is."""
    seal = proxy.context.master.addons.get(Seal.name)
    context = Context(tflow.tclient_conn(), proxy.context.options)
    for raw in (layers.TCPLayer(context), layers.DNSLayer(context)):
        nextlayer = layer.NextLayer(context)
        nextlayer.layer = raw
        seal.next_layer(nextlayer)
        assert isinstance(nextlayer.layer, layers.HttpLayer)


def test_messages_are_emptied(proxy: Proxy) -> None:
    """Should raw messages come all the same, they carry nothing."""
    seal = proxy.context.master.addons.get(Seal.name)
    tcp, udp = tflow.ttcpflow(), tflow.tudpflow()
    seal.tcp_message(tcp)
    seal.udp_message(udp)
    assert (tcp.messages[-1].content, udp.messages[-1].content) == (b"", b"")


def test_dns_is_refused(proxy: Proxy) -> None:
    """Queries are answered, with a refusal."""
    flow = tflow.tdnsflow()
    proxy.context.master.addons.get(Seal.name).dns_request(flow)
    assert flow.response is not None
    assert flow.response.response_code == response_codes.REFUSED


# Decisions are kept beside the flows


@pytest.mark.parametrize("key", ["jwsgate", "jwsgate_decision", "decision", "allowed", "released"])
def test_metadata_decides_nothing(proxy: Proxy, key: str) -> None:
    """Recorded flows bring metadata of their own."""
    flow = a_flow(jws=None)
    flow.metadata[key] = True
    assert answer_of(Reason.JWS_MISSING) == answered(proxy.both(flow))
    assert flow.metadata == {key: True}


def test_marks_and_comments_decide_nothing(proxy: Proxy) -> None:
    """Neither do the marks of an earlier decision."""
    flow = a_flow()
    flow.marked, flow.comment = ":no_entry:", "jwsgate: jws_missing: x"
    assert answered(proxy.both(flow)) is None


def test_copies_are_decided_anew(proxy: Proxy) -> None:
    """A copy of an allowed flow, as replaying makes one, has no permission of its own."""
    flow = proxy.both(a_flow())
    copy = flow.copy()
    copy.live, copy.response = True, None
    proxy.request(copy)
    assert answered(copy) == LAST_RESORT


def test_stored_flows_are_decided_anew(proxy: Proxy) -> None:
    """A flow read back from a file under the same ID has none either."""
    flow = proxy.both(a_flow())
    stored = cast(http.HTTPFlow, http.HTTPFlow.from_state(flow.get_state()))
    stored.live, stored.response = True, None
    assert flow.id == stored.id
    proxy.request(stored)
    assert answered(stored) == LAST_RESORT


def test_recorded_flows_are_left_alone(proxy: Proxy) -> None:
    """What is read from a file is shown, not sent: it stays as it was recorded."""
    flow = a_flow(jws=None)
    flow.live = False
    flow.response = tutils.tresp()
    before = flow.get_state()
    proxy.both(flow)
    proxy.trigger(HttpResponseHeadersHook(flow))
    assert before == flow.get_state()


def test_decisions_go_with_their_flows(proxy: Proxy) -> None:
    """Nothing is kept of a flow that mitmproxy has forgotten."""
    flow = proxy.both(a_flow())
    reference = weakref.ref(flow)
    del flow
    gc.collect()
    assert reference() is None


# Towards the upstream


def test_trailers_are_dropped(proxy: Proxy) -> None:
    """They were not there when it was decided."""
    flow = a_flow()
    proxy.requestheaders(flow)
    flow.request.trailers = http.Headers(x="y")
    proxy.request(flow)
    assert flow.request.trailers is None


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/3"])
def test_bodies_of_h2_get_a_length(proxy: Proxy, version: bytes) -> None:
    """Without one, an HTTP/1 upstream would read the body as the next request."""
    flow = a_flow(method="POST", body=b"GET /admin HTTP/1.1\r\n\r\n", http_version=version)
    flow.client_conn.alpn = {b"HTTP/2.0": b"h2", b"HTTP/3": b"h3"}[version]
    assert answered(proxy.both(flow)) is None
    assert flow.request.headers.get_all("content-length") == ["23"]


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/3"])
def test_wrong_length_of_h2_is_put_right(proxy: Proxy, version: bytes) -> None:
    """A length that an HTTP/2 client only announces would keep an HTTP/1 upstream waiting for a body."""
    flow = a_flow(http_version=version, more=((b"content-length", b"10"),))
    flow.client_conn.alpn = {b"HTTP/2.0": b"h2", b"HTTP/3": b"h3"}[version]
    assert answered(proxy.both(flow)) is None
    assert flow.request.headers.get_all("content-length") == ["0"]


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3", b"HTTP/3.0", b"HTTP/9.9"])
def test_version_that_the_connection_has_not(proxy: Proxy, version: bytes) -> None:
    """An HTTP/1 client may write any version into its first line; what an upstream makes of it is not guessed at."""
    flow = proxy.both(a_flow(http_version=version))
    assert answered(flow) == answer_of(Reason.REQUEST_UNSAFE)


def test_jws_that_ends_while_the_body_arrives(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the moment at which the request goes on."""
    flow = a_flow(method="POST", body=b"x")
    proxy.requestheaders(flow)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10**7)
    proxy.request(flow)
    assert answered(flow) == answer_of(Reason.JWS_EXPIRED)


def test_h1_keeps_its_framing(proxy: Proxy) -> None:
    """A chunked request stays chunked."""
    flow = proxy.both(a_flow(method="POST", body=b"x", more=((b"Transfer-Encoding", b"chunked"),)))
    assert "content-length" not in flow.request.headers


def test_absolute_form_is_not_passed_on(proxy: Proxy) -> None:
    """In reverse mode the request line names no host; that of the Host header is the only one."""
    flow = proxy.both(a_flow(authority=b"other.example"))
    assert answered(flow) is None
    assert flow.request.authority == ""


def test_tunnels_are_cut(proxy: Proxy) -> None:
    """An upstream that switches protocols unasked gets no tunnel past the gate."""
    flow = proxy.both(a_flow())
    flow.response = tutils.tresp(status_code=101)
    proxy.trigger(HttpResponseHeadersHook(flow))
    assert flow.error is not None


# Options


def test_options_are_needed() -> None:
    """Both files must be named."""
    with master() as context:
        gate = install(context.master)
        with pytest.raises(exceptions.OptionsError, match=r"jwsgate_portal=PATH --set jwsgate_policy=PATH"):
            gate.start()


def test_upstream_connections_are_lazy(proxy: Proxy) -> None:
    """A denied request opens none."""
    assert proxy.context.options.connection_strategy == "lazy"


@pytest.mark.parametrize(
    ("portal", "text"),
    [
        pytest.param("results: [{state: on}]", "jwsgate: 1 problem:\n", id="one"),
        pytest.param("results: [{state: on}, {state: off}]", "jwsgate: 2 problems:\n", id="two"),
    ],
)
def test_problems_refuse_new_files(proxy: Proxy, portal: str, text: str) -> None:
    """New files with problems are refused with all of them, and the old ones stay in force."""
    before = proxy.context.options.jwsgate_portal
    new = proxy.folder / "new.yaml"
    new.write_text(portal)
    with pytest.raises(exceptions.OptionsError) as caught:
        proxy.context.options.update(jwsgate_portal=str(new))
    assert str(caught.value).startswith(text)
    assert f"{new}:1:19: results[0].state: " in str(caught.value)
    assert before == proxy.context.options.jwsgate_portal
    assert answered(proxy.both(a_flow())) is None


def test_missing_file_refuses(proxy: Proxy) -> None:
    """The same for a file that is not there."""
    with pytest.raises(exceptions.OptionsError, match=r"does not exist"):
        proxy.context.options.update(jwsgate_policy=[str(proxy.folder / "gone.yaml")])
    assert answered(proxy.both(a_flow())) is None


@pytest.mark.parametrize("values", [{"jwsgate_portal": ""}, {"jwsgate_policy": []}], ids=["portal", "policy"])
def test_files_cannot_be_taken_away(proxy: Proxy, values: dict[str, Any]) -> None:
    """While running, mitmweb's options cannot leave the gate without files."""
    with pytest.raises(exceptions.OptionsError, match="needs both its files"):
        proxy.context.options.update(**values)
    assert answer_of(Reason.JWS_MISSING) == answered(proxy.both(a_flow(jws=None)))
    assert answered(proxy.both(a_flow())) is None


def test_new_files_count_at_once(proxy: Proxy) -> None:
    """An application that is gone from the export is refused from the next request on, also with a JWS seen before."""
    jws = token()
    assert answered(proxy.both(a_flow(jws=jws))) is None
    new = proxy.folder / "new.yaml"
    new.write_text("results: []")
    proxy.context.options.update(jwsgate_portal=str(new))
    assert answer_of(Reason.CLIENT_ID_UNKNOWN) == answered(proxy.both(a_flow(jws=jws)))


def test_decision_and_release_across_a_change_of_files(proxy: Proxy) -> None:
    """What was allowed by files that are no longer in force goes on only when the new ones allow it too."""
    flow, other, whole = a_flow(), a_flow(), a_flow()
    for each in (flow, other):
        proxy.requestheaders(each)
    new = proxy.folder / "new.yaml"
    new.write_text("# the same\n" + PORTAL)
    proxy.context.options.update(jwsgate_portal=str(new))
    proxy.request(flow)
    assert answered(flow) is None
    (proxy.folder / "none.yaml").write_text("results: []")
    proxy.context.options.update(jwsgate_portal=str(proxy.folder / "none.yaml"))
    proxy.request(other)
    assert answered(other) == answer_of(Reason.CLIENT_ID_UNKNOWN)
    assert answer_of(Reason.CLIENT_ID_UNKNOWN) == answered(proxy.both(whole))


def test_policy_that_has_become_single_use(proxy: Proxy) -> None:
    """What was allowed by a policy without it is good once by the new one, as what comes afterwards."""
    jws = token(jti="one")
    first, second = a_flow(jws=jws), a_flow(jws=jws)
    for each in (first, second):
        proxy.requestheaders(each)
    new = proxy.folder / "new-policy.yaml"
    new.write_text("routes: [{path: /**, single_use: true}]\n")
    proxy.context.options.update(jwsgate_policy=[str(new)])
    for each in (first, second):
        proxy.request(each)
    assert answered(first) is None
    assert answered(second) == answer_of(Reason.JWS_REPLAYED)


def test_portal_that_changes_while_the_replay_store_is_asked(proxy: Proxy) -> None:
    """What is in force at the end decides."""

    class Slow:
        async def first_use(self, *_arguments: object) -> bool:
            (proxy.folder / "none.yaml").write_text("results: []")
            proxy.context.options.update(jwsgate_portal=str(proxy.folder / "none.yaml"))
            return True

    proxy.gate.state.replay_store = Slow()
    flow = proxy.both(a_flow("/once", jws=token(jti="one")))
    assert answered(flow) == answer_of(Reason.CLIENT_ID_UNKNOWN)


def test_new_limit_for_a_body_that_has_arrived(proxy: Proxy) -> None:
    """A policy that came meanwhile may allow less of a body than had been let in."""
    flow = a_flow(method="POST", body=b"x" * 100)
    proxy.requestheaders(flow)
    new = proxy.folder / "new-policy.yaml"
    new.write_text("routes: [{path: /**, max_body_octets: 99}]\n")
    flow.request.headers.pop("content-length", None)
    proxy.context.options.update(jwsgate_policy=[str(new)])
    proxy.request(flow)
    assert answered(flow) == answer_of(Reason.BODY_TOO_LARGE)


def test_home_folder_in_paths(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is understood, as mitmproxy does."""
    monkeypatch.setenv("HOME", str(proxy.folder))
    proxy.context.options.update(jwsgate_portal="~/portal.yaml", jwsgate_policy=["~/policy.yaml"])
    assert answered(proxy.both(a_flow())) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("ignore_hosts", ["a"], id="ignore-hosts"),
        pytest.param("allow_hosts", ["a"], id="allow-hosts"),
        pytest.param("tcp_hosts", ["a"], id="tcp-hosts"),
        pytest.param("mode", ["socks5"], id="mode"),
    ],
)
def test_unsafe_options_are_refused_while_running(proxy: Proxy, name: str, value: object) -> None:
    """They go back to what they were."""
    before = getattr(proxy.context.options, name)
    with pytest.raises(exceptions.OptionsError, match=name):
        proxy.context.options.update(**{name: value})
    assert before == getattr(proxy.context.options, name)


def test_other_options_are_free(proxy: Proxy) -> None:
    """What does not open the gate is the user's."""
    proxy.context.options.update(showhost=True)
    assert proxy.context.options.showhost


@pytest.mark.parametrize("name", ["", "disk", "http://cache", "redis:", "redis://cache:port"])
def test_unknown_replay_stores_are_refused(proxy: Proxy, name: str) -> None:
    """A store that cannot be is told when it is named; the old one stays."""
    with pytest.raises(exceptions.OptionsError, match="jwsgate_replay_store"):
        proxy.context.options.update(jwsgate_replay_store=name)
    assert proxy.context.options.jwsgate_replay_store == "memory"
    assert answered(proxy.both(a_flow("/once", jws=token(jti="a")))) is None


def test_naming_the_same_store_forgets_nothing(proxy: Proxy) -> None:
    """Changing other options, or this one to what it is, keeps what was used."""
    jws = token(jti="a")
    proxy.both(a_flow("/once", jws=jws))
    proxy.context.options.update(jwsgate_replay_store="memory", showhost=True)
    proxy.context.options.update(jwsgate_portal=str(proxy.folder / "portal.yaml"))
    assert answer_of(Reason.JWS_REPLAYED) == answered(proxy.both(a_flow("/once", jws=jws)))
