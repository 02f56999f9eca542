"""The mitmproxy adapter: facts out of a flow, the core's decision into it.

mitmproxy forwards a request whenever an add-on raises, so everything here is arranged to be closed at rest:

Rule 1. `requestheaders` puts a denial on the flow before anything else, and nothing there takes it off.
Rule 2. Only `request` takes it off, as its last step, when the decision allowed exactly this request.
        Whatever raises in either hook leaves a denial behind.
Rule 3. The gate stands first in the chain, so that no other add-on can end the chain before it, and apart
        from the script that brought it, so that a broken or deleted script does not take it away.
Rule 4. `Seal` stands last and denies what other add-ons opened.
Rule 5. Decisions are kept beside the flows, never on them: recorded flows bring metadata of their own.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from mitmproxy import ctx, dns, exceptions, http, tcp, udp
from mitmproxy.addonmanager import Loader
from mitmproxy.net.dns import response_codes
from mitmproxy.proxy import layer, layers, mode_specs
from mitmproxy.proxy.layers.http import HTTPMode

from .answers import ANSWERS, LAST_RESORT_BODY, TRANSACTION_HEADER
from .decision import Allowed, AwaitsBody, Decision, JwsCache, Rejected, Snapshot, decide, decide_body
from .facts import RequestFacts, canonical_header_name
from .loading import load_snapshot
from .policy import Forward, RespondClaims, Sign
from .problems import ProblemsFound
from .reasons import Reason, Rejection
from .replay import MemoryReplayStore, ReplayKey, ReplayStore, check_replay
from .replay_redis import RedisReplayStore
from .signing import sign_posted_claims
from .unsafe_options import unsafe_options
from .verified_cache import VerifiedCache

__all__ = ["JwsGate", "Seal", "addons", "install"]

logger = logging.getLogger(__name__)

_JSON: Final = "application/json"
_JOSE: Final = "application/jose"  # RFC 7515 section 9.2.1
_LAST_RESORT: Final = (500, LAST_RESORT_BODY, ((b"content-type", b"application/json"),))
_MAX_POSTED_OCTETS: Final = 65536
_MEMORY: Final = "memory"
_OPTIONS: Final = {"jwsgate_portal", "jwsgate_policy"}


@dataclass(slots=True)
class _Record:
    """What the gate knows of one flow: the decision, and the request that it was made for."""

    decision: Decision
    transaction_id: str
    decided_on: tuple[object, ...]
    answer: http.Response | None = None
    """Ours, in place of an upstream's; None when the request may go on."""
    released: bool = False


def _identity(flow: http.HTTPFlow) -> tuple[object, ...]:
    """What must not change between the decision and the forwarding."""
    data = flow.request.data
    return data.method, data.path, data.scheme, data.host, data.port


def _response(status: int, body: bytes, content_type: str, record: _Record, method: str) -> http.Response:
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        TRANSACTION_HEADER: record.transaction_id,
    }
    # RFC 9110 section 9.3.2: no content for HEAD; mitmproxy would write it on the wire.
    return http.Response.make(status, b"" if method == "HEAD" else body, headers)


def _denial(reason: Reason, record: _Record, method: str) -> http.Response:
    answer = ANSWERS[reason]
    return _response(answer.status, answer.body, _JSON, record, method)


class JwsGate:
    """Decides each request. Add it with `install`, which puts it where nothing gets past it."""

    name = "jwsgate"

    def __init__(self) -> None:
        self._started = False
        self._snapshot: Snapshot | None = None
        self._loaded_from: tuple[str, tuple[str, ...]] | None = None
        self._cache: JwsCache = VerifiedCache()
        self._replay_store: ReplayStore = MemoryReplayStore()
        self._replay_store_name = _MEMORY
        self._records: WeakKeyDictionary[http.HTTPFlow, _Record] = WeakKeyDictionary()

    # Options

    def load(self, loader: Loader) -> None:
        loader.add_option("jwsgate_portal", str, "", "Portal export: the applications and their certificates.")
        loader.add_option("jwsgate_policy", Sequence[str], [], "Policy files: routes and what each demands.")
        loader.add_option(
            "jwsgate_replay_store",
            str,
            _MEMORY,
            "Where single_use routes remember what was used: memory (this process), or redis://HOST[:PORT][/DB].",
        )
        # With "eager", mitmproxy connects upstream for requests that will be denied.
        ctx.options.update(connection_strategy="lazy")

    def start(self) -> None:
        """Take up the options, once all are known.

        Raises:
            mitmproxy.exceptions.OptionsError: when they or the files cannot be used.
        """
        self._started = True
        self.configure(ctx.options.keys())

    def configure(self, updated: Set[str]) -> None:
        """Refuse unsafe options, load the files when they were named anew.

        Raises:
            mitmproxy.exceptions.OptionsError: and mitmproxy puts the previous options back.
        """
        if not self._started:
            return  # mitmproxy calls for each option while it learns of them, one by one
        if found := unsafe_options(ctx.options):
            raise exceptions.OptionsError("the gate would be open with these options:\n" + "\n".join(found))
        if self._snapshot is None or _OPTIONS & updated:
            self._load()
        self._open_replay_store(ctx.options.jwsgate_replay_store)

    def _open_replay_store(self, name: str) -> None:
        if name == self._replay_store_name:
            return
        try:
            self._replay_store = MemoryReplayStore() if name == _MEMORY else RedisReplayStore(name)
        except ValueError as error:
            raise exceptions.OptionsError(f"jwsgate_replay_store: {error}") from None
        self._replay_store_name = name

    def _load(self) -> None:
        portal, policies = ctx.options.jwsgate_portal, tuple(ctx.options.jwsgate_policy)
        if (portal, policies) == self._loaded_from:
            return  # mitmproxy calls again when it puts refused options back
        if not portal or not policies:
            raise exceptions.OptionsError(
                "jwsgate needs both its files: --set jwsgate_portal=PATH --set jwsgate_policy=PATH"
            )
        try:
            snapshot = load_snapshot(
                Path(portal).expanduser(), [Path(policy).expanduser() for policy in policies], time.time()
            )
        except ProblemsFound as error:
            count = len(error.problems)
            raise exceptions.OptionsError(f"jwsgate: {count} problem{'s' if count > 1 else ''}:\n{error}") from None
        self._snapshot = snapshot
        self._cache = VerifiedCache()  # the old entries can never be met again
        self._loaded_from = portal, policies
        logger.info(
            "jwsgate: revision %s: %d applications, %d routes",
            snapshot.revision,
            len(snapshot.portal.applications),
            len(snapshot.router),
        )

    # The two hooks that decide

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live:
            return  # read from a file: nothing is forwarded
        # Nothing of ours is called before the denial stands, so that nothing of ours can prevent it.
        flow.response = http.Response.make(*_LAST_RESORT)
        flow.request.stream = False
        try:
            self._records.pop(flow, None)
            self._decide(flow)
        except BaseException as error:
            flow.response = http.Response.make(*_LAST_RESORT)
            logger.error("jwsgate: %s while deciding; denied", type(error).__name__)

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        if not flow.live:
            return None
        flow.response = http.Response.make(*_LAST_RESORT)
        try:
            record = self._records[flow]
            if isinstance(record.decision, AwaitsBody):
                self._settle(flow, record, decide_body(record.decision, flow.request.raw_content or b""))
            if isinstance(record.decision, Allowed) and record.decision.replay is not None:
                # Only this one waits; mitmproxy awaits what a hook returns.
                return self._release_once(flow, record, record.decision.replay)
            flow.response = self._release(flow, record)
        except BaseException as error:
            flow.response = http.Response.make(*_LAST_RESORT)
            logger.error("jwsgate: %s while releasing; denied", type(error).__name__)
        return None

    async def _release_once(self, flow: http.HTTPFlow, record: _Record, key: ReplayKey) -> None:
        try:
            await check_replay(self._replay_store, key, time.time())
            flow.response = self._release(flow, record)
        except Rejection as rejection:
            self._settle(flow, record, Rejected(rejection.reason, rejection.detail))
        except BaseException as error:
            flow.response = http.Response.make(*_LAST_RESORT)
            logger.error("jwsgate: %s while asking the replay store; denied", type(error).__name__)
            if not isinstance(error, Exception):
                raise  # a cancelled task must end; the denial stands

    def _decide(self, flow: http.HTTPFlow) -> None:
        request = flow.request.data
        facts = RequestFacts(request.method.decode("latin-1"), request.path, request.headers.fields)
        # The clock of the machine is read in this module, and the core is given the time.
        decision = decide(self._snapshot, facts, time.time(), self._cache)
        record = _Record(decision, secrets.token_hex(12), _identity(flow))
        self._settle(flow, record, decision)
        self._records[flow] = record

    def _settle(self, flow: http.HTTPFlow, record: _Record, decision: Decision) -> None:
        """Take note of a decision; a rejection puts its answer on the flow and into the log."""
        record.decision = decision
        if isinstance(decision, Rejected):
            record.answer = flow.response = _denial(decision.reason, record, flow.request.method)
            flow.marked = ":no_entry:"
            flow.comment = f"jwsgate: {decision.reason}: {decision.detail}"
            # Nothing that the client sent is logged: an unprintable octet could break the log, or forge it.
            logger.info("jwsgate: %s rejected: %s: %s", record.transaction_id, decision.reason, decision.detail)

    def _release(self, flow: http.HTTPFlow, record: _Record) -> http.Response | None:
        """The answer in place of an upstream's, or None to let the request go on."""
        decision = record.decision
        if isinstance(decision, Rejected):
            return record.answer
        if isinstance(decision, AwaitsBody) or _identity(flow) != record.decided_on:
            changed = Rejected(Reason.INTERNAL_ERROR, "the request was changed after its decision")
            self._settle(flow, record, changed)
            return record.answer
        match decision.route.action:
            case Forward():
                self._prepare_upstream(flow, record)
            case RespondClaims():
                record.answer = _response(200, decision.payload, _JSON, record, flow.request.method)
            case Sign() as action:
                record.answer = self._sign(flow, action, record)
        logger.info("jwsgate: %s allowed on route %s", record.transaction_id, decision.route.name)
        record.released = True
        return record.answer

    def _sign(self, flow: http.HTTPFlow, action: Sign, record: _Record) -> http.Response:
        body = flow.request.raw_content or b""
        try:
            if len(body) > _MAX_POSTED_OCTETS:
                raise Rejection(Reason.BODY_MALFORMED, f"the body has more than {_MAX_POSTED_OCTETS} octets")
            jws = sign_posted_claims(action, body, time.time())
        except Rejection as rejection:
            return _denial(rejection.reason, record, flow.request.method)
        return _response(200, jws, _JOSE, record, flow.request.method)

    def _prepare_upstream(self, flow: http.HTTPFlow, record: _Record) -> None:
        request = flow.request
        ours = canonical_header_name(TRANSACTION_HEADER.encode())
        kept = tuple(field for field in request.headers.fields if canonical_header_name(field[0]) != ours)
        request.headers.fields = (*kept, (TRANSACTION_HEADER.encode(), record.transaction_id.encode()))
        request.trailers = None
        if isinstance(flow.client_conn.proxy_mode, mode_specs.ReverseMode) and not (
            request.is_http2 or request.is_http3
        ):
            # "GET http://other/ HTTP/1.1" would reach the upstream with another host than its Host header's.
            request.authority = ""
        if (request.is_http2 or request.is_http3) and request.raw_content:
            # Without a length, an HTTP/1 upstream would read the body as a second request that nobody decided.
            request.headers["content-length"] = str(len(request.raw_content))

    # What Seal asks

    def closes(self, flow: http.HTTPFlow) -> http.Response | None:
        """The denial that must stand on a flow which other add-ons have opened; None when all is well."""
        record = self._records.get(flow)
        if record is None:
            return http.Response.make(*_LAST_RESORT)
        if record.answer is not None:
            return None if flow.response is record.answer else record.answer
        if flow.response is None and not (record.released and _identity(flow) == record.decided_on):
            return http.Response.make(*_LAST_RESORT)
        return None

    # Responses

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live or flow.response is None:
            return
        if flow.response.status_code == 101:
            # No upgrade was asked for (decision.py refuses them): this would be a tunnel past the gate.
            flow.kill()
        elif (record := self._records.get(flow)) is not None:
            flow.response.headers[TRANSACTION_HEADER] = record.transaction_id


def _raw_layers() -> tuple[type[layer.Layer], ...]:
    return layers.TCPLayer, layers.UDPLayer, layers.DNSLayer, layers.RawQuicLayer


class Seal:
    """Stands last in the chain, and closes what any other add-on may have opened."""

    name = "jwsgate-seal"

    def __init__(self, gate: JwsGate) -> None:
        self._gate = gate

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.request.stream = False
        if flow.live and flow.response is None:
            flow.response = http.Response.make(*_LAST_RESORT)

    def request(self, flow: http.HTTPFlow) -> None:
        if not flow.live:
            return
        try:
            closing = self._gate.closes(flow)
        except BaseException as error:
            closing = http.Response.make(*_LAST_RESORT)
            logger.error("jwsgate: %s while sealing; denied", type(error).__name__)
        if closing is not None:
            flow.response = closing

    # What is not HTTP has no client ID and no JWS, so it does not pass.

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        if isinstance(nextlayer.layer, _raw_layers()) and nextlayer.context.client.transport_protocol == "tcp":
            nextlayer.layer = layers.HttpLayer(nextlayer.context, HTTPMode.transparent)

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
    manager.chain.insert(0, gate)
    manager.register(gate)
    manager.add(Seal(gate))
    return gate


class _ScriptEntry:
    """What the script hands to mitmproxy; the gate itself goes into the chain on its own (rule 3)."""

    name = "jwsgate-script"

    def load(self, loader: Loader) -> None:
        gate = install(loader.master)
        try:
            gate.start()
        except exceptions.OptionsError as error:
            # mitmproxy does not start after an ERROR in the log. Raised here, it would start, and say nothing.
            logger.error(str(error))


addons: Final = [_ScriptEntry()]
