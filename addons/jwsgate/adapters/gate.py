"""The gate as a mitmproxy add-on: facts out of a flow, the core's decision into it.

mitmproxy forwards a request whenever an add-on raises, so everything here and in seal.py is closed at rest:

Rule 1. `JwsGate` stands first in the chain. It puts a denial on the flow before anything else, then decides.
Rule 2. `Seal` stands last. Only through it the denial comes off, as the last step, when the decision allowed
        exactly the request that is about to go on. Whatever raises, halts or is missing before leaves the denial.
        After the whole chain the flow is looked at once more, whatever other add-ons did to end it early.
Rule 3. Both stand in the chain themselves, apart from the script that brought them, so that a broken or deleted
        script does not take them away.
Rule 4. Decisions are kept beside the flows, never on them: recorded flows bring metadata of their own.
Rule 5. The denial comes off at the end of the second hook, when the whole body is there; at the end of the first
        only for bodies too large to be held, and only when the decision does not depend on the body.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy import connection, ctx, exceptions, http
from mitmproxy.addonmanager import Loader

from jwsgate.core.answers import API_CONNECT, Reply
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, Rejected, Snapshot, decide, decide_body, reported
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Forward, RespondClaims, Sign
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.replay import check_replay
from jwsgate.core.signing import sign_posted_claims

from .accounts import Accounts, new_transaction_id
from .exchange import (
    LAST_RESORT,
    STANDING,
    facts_of,
    gate_response,
    identity_of,
    is_large,
    peer_of,
    preflight_answer,
    version_fault,
)
from .forwarding import is_agreed_websocket, prepare_request, prepare_response
from .http_layers import http_layer_of
from .options import add_options, take_up_options
from .reload import Outcome, Reloader
from .state import GateState
from .tls import GateTls
from .upstream_log import UpstreamLog

__all__ = ["SIGNER_NAME", "JwsGate", "log_fault"]

logger = logging.getLogger(__name__)

_JSON: Final = "application/json"
_JOSE: Final = "application/jose"  # RFC 7515 section 9.2.1
SIGNER_NAME: Final = "jwsgate-signer"
"""The add-on that signs for clients, which must not be in the process of a gate."""
_MAX_POSTED_OCTETS: Final = 65536
_MAX_HELD_OCTETS: Final = 10 * 1024 * 1024
"""How much is held of a body that a decision depends on, where the policy sets no limit."""


@dataclass(slots=True)
class _Record:
    """What the gate knows of one flow: the decision, and the request that it was made for."""

    decision: Decision
    transaction_id: str
    identity: tuple[object, ...]
    headers: tuple[tuple[bytes, bytes], ...]
    snapshot: Snapshot | None
    """What it was decided by."""
    denial: http.Response | None
    """What stands on the flow until `Seal` takes it off."""
    duration: float = 0.0
    cached: bool = False
    sealed: bool = False
    """Whether the first of the two hooks went through to the end of the chain."""
    released: bool = False
    forwarded: bool = False
    """Whether it goes upstream, rather than being answered here."""
    told: bool = False
    """Whether the sinks have it."""
    dropped: Set[bytes] = frozenset()
    """The headers that only the gate may send upstream."""


def _rejected(allowed: Allowed | AwaitsBody, reason: Reason, detail: str) -> Allowed | Rejected:
    """What becomes of an allowed request that turns out to be none."""
    return reported(Rejected(reason, detail, allowed.route, allowed.client_id, allowed.application))


def log_fault(error: BaseException, doing: str) -> None:
    """Log what broke; to be called when the denial stands. Lets the process end where that was asked for."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        raise error
    logger.error("jwsgate: %s while %s; denied", type(error).__name__, doing)


class JwsGate:
    """Decides each request. Add it with `install`, which puts it where nothing gets past it."""

    name = "jwsgate"

    def __init__(self) -> None:
        self.tls = GateTls(self._asks_client_certificate)
        self._started = False
        self.state = GateState()
        self.reloader = Reloader(self.state, self._reloaded)
        self.on_reload: Callable[[Outcome], None] = lambda _outcome: None
        """Told of each reading of the files, when what is good is in force."""
        self.accounts = Accounts()
        self._upstream_log = UpstreamLog()
        self.max_header_octets = 65536
        self.header_seconds = 20.0
        self.body_seconds = 20.0
        self.draining = False
        """Whether the process is about to end, so that no connection is to be used again."""
        self._records: WeakKeyDictionary[http.HTTPFlow, _Record] = WeakKeyDictionary()
        # Flows that came from a client. `flow.live` says so too, but other add-ons can set it.
        self.watched: WeakSet[http.HTTPFlow] = WeakSet()
        self.bodyless: WeakSet[http.HTTPFlow] = WeakSet()

    # Options

    def load(self, loader: Loader) -> None:
        add_options(loader)
        # With "eager", mitmproxy connects upstream for requests that will be denied.
        ctx.options.update(connection_strategy="lazy")

    def start(self) -> None:
        """Take up the options, once all are known.

        Raises:
            mitmproxy.exceptions.OptionsError: when they or the files cannot be used.
        """
        if ctx.master.addons.get(SIGNER_NAME) is not None:
            raise exceptions.OptionsError("this process signs requests, which the gate would verify; start them apart")
        self._started = True
        self.tls.start()
        self.configure(ctx.options.keys())

    def configure(self, updated: Set[str]) -> None:
        """Take up changed options; mitmproxy calls for each one while it learns of them, one by one.

        Raises:
            mitmproxy.exceptions.OptionsError: and mitmproxy puts the previous options back.
        """
        if self._started:
            take_up_options(ctx.options, self.state, self.accounts)
            self.max_header_octets = ctx.options.jwsgate_max_header_octets
            self.header_seconds = ctx.options.jwsgate_header_seconds
            self.body_seconds = ctx.options.jwsgate_body_seconds

    def _asks_client_certificate(self) -> bool:
        snapshot = self.state.snapshot
        return snapshot is not None and snapshot.router.asks_client_certificate

    def running(self) -> None:
        self.reloader.start(watch=ctx.options.jwsgate_watch)

    def done(self) -> None:
        self.reloader.stop()
        self.accounts.report.finish()

    def _reloaded(self, outcome: Outcome) -> None:
        if self.accounts.metrics is not None:
            self.accounts.metrics.reloaded(outcome)
        self.on_reload(outcome)

    # Deciding

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live:
            return  # read from a file: nothing is forwarded
        # Nothing of ours is called before the denial stands, so that nothing of ours can prevent it.
        self.watched.add(flow)
        flow.response = STANDING
        flow.request.stream = False
        try:
            self._records.pop(flow, None)
            self._decide(flow)
        except BaseException as error:
            flow.response = STANDING
            self.fail(flow, error, "deciding")

    def _decide(self, flow: http.HTTPFlow) -> None:
        started = time.perf_counter()
        state = self.state
        facts = facts_of(flow, self.tls)
        snapshot, verified = state.snapshot, state.cache.stored
        # The clock of the machine is read in this module, and the core is given the time.
        decision = decide(snapshot, facts, time.time(), state.cache)
        if (fault := version_fault(flow)) is not None:
            decision = Rejected(Reason.REQUEST_UNSAFE, fault)
        record = _Record(decision, new_transaction_id(), identity_of(flow), facts.headers, snapshot, flow.response)
        if snapshot is not None:
            record.dropped = snapshot.router.dropped_headers
        record.cached = state.cache.stored == verified
        record.duration = time.perf_counter() - started
        self._settle(flow, record, decision)
        self._records[flow] = record

    def _settle(self, flow: http.HTTPFlow, record: _Record, decision: Decision) -> None:
        """Take note of a decision; a rejection puts its answer on the flow and into the log."""
        record.decision = decision
        if isinstance(decision, Allowed) and (would_reject := decision.would_reject) is not None:
            flow.marked = ":warning:"
            flow.comment = f"would be rejected: {would_reject.reason}: {would_reject.detail}"
        elif isinstance(decision, Rejected):
            reply = self._reply(decision)
            status, body, content_type = reply.status, reply.body, reply.content_type
            response = gate_response(status, body, content_type, record.transaction_id, flow.request.method)
            record.denial = flow.response = response
            if reply.challenge is not None:
                response.headers["WWW-Authenticate"] = reply.challenge
            flow.marked = ":no_entry:"
            flow.comment = f"{decision.reason}: {decision.detail}"
            if not record.told:
                self._tell(flow, record, decision)

    def _reply(self, rejected: Rejected) -> Reply:
        if rejected.route is not None:
            return rejected.route.errors[rejected.reason]
        return (API_CONNECT if self.state.snapshot is None else self.state.snapshot.router.errors)[rejected.reason]

    def _tell(self, flow: http.HTTPFlow, record: _Record, decision: Allowed | Rejected) -> Allowed | Rejected:
        """Have a decision put on record; returns the one that holds (`Accounts.decided`)."""
        record.told = True
        if not self.accounts.wants(decision):
            return decision
        transaction_id, seconds, cached = record.transaction_id, record.duration, record.cached
        data, client = flow.request.data, flow.client_conn
        facts = RequestFacts(data.method.decode("latin-1"), data.path, data.headers.fields, peer_of(client))
        return self.accounts.decided(facts, decision, transaction_id, time.time(), seconds, cached)

    def fail(self, flow: http.HTTPFlow, error: BaseException, doing: str) -> None:
        """Put a rejection in place of what was decided on a flow, so that nothing can release it any more."""
        before = self._records.pop(flow, None)
        log_fault(error, doing)
        with suppress(Exception):
            rejected = Rejected(Reason.INTERNAL_ERROR, f"{type(error).__name__} while {doing}")
            record = _Record(
                rejected, new_transaction_id(), (), (), None, http.Response.make(*LAST_RESORT), sealed=True
            )
            if before is None or not before.told:
                self._tell(flow, record, rejected)
            self._records[flow] = record

    # What the HTTP layers ask

    def answers_early(self, flow: http.HTTPFlow) -> bool:
        """Whether a request is denied, whatever still arrives of it, and too much may arrive to wait for it."""
        decision = self.decision_on(flow)
        if decision is not None and not isinstance(decision, Rejected):
            return False
        if decision is not None and decision.reason is Reason.BODY_TOO_LARGE:
            return True
        return "expect" in flow.request.headers or is_large(flow.request.data.headers.fields, unknown=True)

    def is_denied(self, flow: http.HTTPFlow) -> bool:
        """Whether a request is denied, whatever still arrives of it."""
        decision = self.decision_on(flow)
        return decision is None or isinstance(decision, Rejected)

    def body_limit(self, flow: http.HTTPFlow) -> int | None:
        """How many octets a body may have; None for any number."""
        record = self._records.get(flow)
        if record is None or isinstance(record.decision, Rejected):
            return _MAX_HELD_OCTETS  # it is small, or was answered early
        limit = record.decision.route.max_body_octets
        return _MAX_HELD_OCTETS if limit is None and not record.released else limit

    def refuse(self, flow: http.HTTPFlow, reason: Reason, detail: str) -> None:
        """Take an allowance back: what arrived since does not keep to it."""
        record = self._records.get(flow)
        if record is not None and not isinstance(record.decision, Rejected):
            decision = record.decision
            route, client_id, application = decision.route, decision.client_id, decision.application
            record.released = record.told = False
            self._settle(flow, record, Rejected(reason, detail, route, client_id, application))

    def transaction_id(self, flow: http.HTTPFlow) -> str | None:
        """What the decision on a flow is filed under."""
        record = self._records.get(flow)
        return None if record is None else record.transaction_id

    def decision_on(self, flow: http.HTTPFlow) -> Decision | None:
        """The decision on a flow so far, for those who show it."""
        record = self._records.get(flow)
        return None if record is None else record.decision

    def refused_by_protocol(self, client: connection.Client, reason: Reason, detail: str) -> str:
        """Keep account of a request that no decision was made on; returns its transaction ID."""
        return self.accounts.refused_by_protocol(peer_of(client), time.time(), reason, detail)

    # Releasing, for Seal

    def seal(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Note that the first hook came to its end; without this note nothing is released.

        Releases a request whose body will be passed on as it comes. Returns what has to be awaited first, if anything.
        """
        record = self._records[flow]
        record.sealed = True
        decision = record.decision
        if not isinstance(decision, Allowed) or not isinstance(decision.route.action, Forward) or flow.intercepted:
            return None
        if decision.preflight is not None:
            return None
        request = flow.request
        # HTTP/2 need not tell the size of a body; to pass it on to HTTP/1 takes our own layers.
        unknown = request.is_http2 and http_layer_of(flow.client_conn) is not None and flow not in self.bodyless
        if not is_large(request.data.headers.fields, unknown=unknown):
            return None
        return self._release(flow, record, decision, flow.response)

    def is_open(self, flow: http.HTTPFlow) -> bool:
        """Whether a request may still be released."""
        record = self._records.get(flow)
        return record is not None and not record.released and not isinstance(record.decision, Rejected)

    def is_released(self, flow: http.HTTPFlow) -> bool:
        """Whether a request is on its way already."""
        record = self._records.get(flow)
        return record is not None and record.released

    def release(self, flow: http.HTTPFlow, found: http.Response | None) -> Awaitable[None] | None:
        """Let an allowed request go on, or answer it. `found` is the response that was on the flow before.

        Returns what has to be awaited first, if anything. Until it is done, the flow's response denies.
        """
        record = self._records[flow]
        if isinstance(record.decision, Rejected):
            flow.response = record.denial
            return None
        if not record.sealed:
            self._settle(flow, record, Rejected(Reason.INTERNAL_ERROR, "another add-on ended the chain"))
            return None
        return self._release(flow, record, record.decision, found)

    def _release(
        self, flow: http.HTTPFlow, record: _Record, decision: Allowed | AwaitsBody, found: http.Response | None
    ) -> Awaitable[None] | None:
        if flow.intercepted or decision.route.single_use or self.state.snapshot is not record.snapshot:
            return self._release_later(flow, record, found)
        self._release_now(flow, record, found)
        return None

    async def _release_later(self, flow: http.HTTPFlow, record: _Record, found: http.Response | None) -> None:
        try:
            # Somebody may edit the request while it is held back: what counts is what goes on afterwards.
            await flow.wait_for_resume()
            allowed = self._confirm(flow, record)
            if isinstance(allowed, Allowed) and (replay := allowed.replay) is not None:
                snapshot = self.state.snapshot
                try:
                    await check_replay(self.state.replay_store, replay, time.time())
                except Rejection as rejection:
                    allowed = _rejected(allowed, rejection.reason, rejection.detail)
                else:
                    if self.state.snapshot is not snapshot:
                        allowed = self._confirm(flow, record)
                    if isinstance(allowed, Allowed) and allowed.replay not in (None, replay):
                        detail = "what was used up is not what is good once by the new files"
                        allowed = _rejected(allowed, Reason.INTERNAL_ERROR, detail)
            self._go_on(flow, record, allowed, found)
        except Rejection as rejection:
            self._settle(flow, record, Rejected(rejection.reason, rejection.detail))
        except BaseException as error:
            flow.response = http.Response.make(*LAST_RESORT)
            self.fail(flow, error, "asking the replay store")
            if isinstance(error, asyncio.CancelledError):
                raise  # here it is real: the task is being ended, and the denial stands

    def _release_now(self, flow: http.HTTPFlow, record: _Record, found: http.Response | None) -> None:
        decision = self._confirm(flow, record)
        if isinstance(decision, Allowed) and decision.replay is not None:
            # Only after other add-ons' changes; nobody would use it up here.
            decision = Rejected(Reason.INTERNAL_ERROR, "the request was changed after its decision")
        self._go_on(flow, record, decision, found)

    def _confirm(self, flow: http.HTTPFlow, record: _Record) -> Allowed | Rejected:
        """The final decision on the request as it stands now, with its whole body where that counts."""
        decision = record.decision
        if identity_of(flow) != record.identity:
            return Rejected(Reason.INTERNAL_ERROR, "the request was changed after its decision")
        if flow.request.headers.fields != record.headers or self.state.snapshot is not record.snapshot:
            # Some add-ons change headers with good reason; what they made of the request must be allowed as well, and
            # by the files that are in force now: an application may have been switched off while its request arrived.
            decision = self._decide_anew(flow)
        if isinstance(decision, AwaitsBody):
            if flow.request.raw_content is None:
                return Rejected(Reason.INTERNAL_ERROR, "the body is needed, and not there yet")
            decision = decide_body(decision, flow.request.raw_content)
        if isinstance(decision, Allowed) and not decision.start <= time.time() < decision.end:
            detail = "its time, or that of its certificate, ended while the request arrived"
            return _rejected(decision, Reason.JWS_EXPIRED, detail)
        return decision

    def _decide_anew(self, flow: http.HTTPFlow) -> Decision:
        decision = decide(self.state.snapshot, facts_of(flow, self.tls), time.time(), self.state.cache)
        if not isinstance(decision, Rejected):
            most, body = decision.route.max_body_octets, flow.request.raw_content
            if most is not None and body is not None and len(body) > most:
                # The layers below counted by the route that it had before.
                return _rejected(decision, Reason.BODY_TOO_LARGE, f"the body is above {most} octets")
        return decision

    def _go_on(
        self, flow: http.HTTPFlow, record: _Record, decision: Allowed | Rejected, found: http.Response | None
    ) -> None:
        answer = None
        if isinstance(decision, Allowed):
            match decision.route.action:
                case _ if decision.preflight is not None:
                    answer = preflight_answer(decision, record.headers, record.transaction_id)
                case Forward():
                    self._prepare_upstream(flow, record, decision)
                    if found is not record.denial:
                        answer = found  # another add-on answers an allowed request in place of the upstream
                case RespondClaims():
                    answer = gate_response(200, decision.payload, _JSON, record.transaction_id, flow.request.method)
                case Sign() as action:
                    try:
                        answer = self._sign(flow, action, record)
                    except Rejection as error:
                        route, client_id, application = decision.route, decision.client_id, decision.application
                        decision = Rejected(error.reason, error.detail, route, client_id, application)
        if isinstance(decision, Allowed):
            decision = self._tell(flow, record, decision)
        self._settle(flow, record, decision)
        if isinstance(decision, Allowed):
            record.released = True
            record.forwarded = answer is None
            flow.request.stream = answer is None and flow.request.raw_content is None
            flow.response = answer

    def _sign(self, flow: http.HTTPFlow, action: Sign, record: _Record) -> http.Response:
        body = flow.request.raw_content or b""
        if len(body) > _MAX_POSTED_OCTETS:
            raise Rejection(Reason.BODY_MALFORMED, f"the body has more than {_MAX_POSTED_OCTETS} octets")
        jws = sign_posted_claims(action, body, time.time())
        return gate_response(200, jws, _JOSE, record.transaction_id, flow.request.method)

    def _prepare_upstream(self, flow: http.HTTPFlow, record: _Record, decision: Allowed) -> None:
        dropped = record.dropped
        if self.state.snapshot is not None and self.state.snapshot.router.dropped_headers is not dropped:
            dropped = dropped | self.state.snapshot.router.dropped_headers  # other files since, perhaps a new decision
        path = flow.request.data.path
        prepare_request(flow, decision, dropped, record.transaction_id)
        if flow.request.data.path != path:
            record.identity = identity_of(flow)  # the JWS stood in its query

    def must_close(self, flow: http.HTTPFlow) -> bool:
        """Whether a flow is about to be forwarded that was not released as it is."""
        # mitmproxy forwards whatever has no response that counts as true, such as an empty text.
        if flow.response and isinstance(flow.response, http.Response):
            return False
        record = self._records.get(flow)
        return record is None or not (record.released and record.forwarded) or identity_of(flow) != record.identity

    # Responses

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow not in self.watched or flow.response is None:
            return
        record = self._records.get(flow)
        status = flow.response.status_code
        if status < 200 and not (status == 101 and self._is_websocket(flow, record)):
            flow.kill()  # a tunnel past the gate, or an interim answer that looks too odd to be passed over
        elif record is not None:
            route = record.decision.route
            cors = None if route is None else route.cors
            prepare_response(flow.response, cors, record.headers, record.transaction_id)
            if record.forwarded:
                flow.response.stream = is_large(flow.response.data.headers.fields, unknown=True)

    @staticmethod
    def _is_websocket(flow: http.HTTPFlow, record: _Record | None) -> bool:
        """Whether a 101 is the answer to a WebSocket that the route allows, and mitmproxy will treat it as one."""
        if record is None or not isinstance(record.decision, Allowed) or not record.decision.route.websocket:
            return False
        return is_agreed_websocket(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """A request that ended before it was complete still leaves its record."""
        record = self._records.get(flow)
        if record is not None and not record.told:
            detail = "the request is malformed, or ended before it was complete"
            self._tell(flow, record, Rejected(Reason.REQUEST_UNSAFE, detail))

    # Metrics

    def response(self, flow: http.HTTPFlow) -> None:
        if self.accounts.metrics is not None and flow in self.watched:
            self.accounts.metrics.request_finished(time.time() - flow.request.timestamp_start)

    def client_connected(self, _client: connection.Client) -> None:
        if self.accounts.metrics is not None:
            self.accounts.metrics.connection_opened()

    def client_disconnected(self, _client: connection.Client) -> None:
        if self.accounts.metrics is not None:
            self.accounts.metrics.connection_closed()

    def upstream_failed(self, transaction_id: str, cause: str) -> None:
        """Note that a client had to be told so."""
        self._upstream_log.failed(time.monotonic(), transaction_id, cause)
        if self.accounts.metrics is not None:
            self.accounts.metrics.upstream_failed()
