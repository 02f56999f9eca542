"""The gate as a mitmproxy add-on: facts out of a flow, the core's decision into it.

mitmproxy forwards a request whenever an add-on raises, so everything here and in seal.py is closed at rest:

Rule 1. `JwsGate` stands first in the chain. It puts a denial on the flow before anything else, then decides.
Rule 2. `Seal` stands last. Only through it the denial comes off, as the last step, when the decision allowed
        exactly the request that is about to go on. Whatever raises, halts or is missing before leaves the denial.
        After the whole chain the flow is looked at once more, whatever other add-ons did to end it early.
Rule 3. Both stand in the chain themselves, apart from the script that brought them, so that a broken or deleted
        script does not take them away.
Rule 4. Decisions are kept beside the flows, never on them: recorded flows bring metadata of their own.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import mode_specs

from jwsgate.core.answers import ANSWERS, LAST_RESORT_BODY, TRANSACTION_HEADER
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, JwsCache, Rejected, Snapshot, decide, decide_body
from jwsgate.core.facts import RequestFacts, canonical_header_name
from jwsgate.core.policy import Forward, RespondClaims, Sign
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.replay import MemoryReplayStore, ReplayStore, check_replay
from jwsgate.core.signing import sign_posted_claims
from jwsgate.core.verified_cache import VerifiedCache
from jwsgate.files.loading import load_snapshot
from jwsgate.files.problems import ProblemsFound, Unfit

from .replay_redis import RedisReplayStore
from .unsafe_options import unsafe_options

__all__ = ["LAST_RESORT", "JwsGate", "log_fault"]

logger = logging.getLogger(__name__)

_JSON: Final = "application/json"
_JOSE: Final = "application/jose"  # RFC 7515 section 9.2.1
LAST_RESORT: Final = (500, LAST_RESORT_BODY, ((b"content-type", b"application/json"),))
_MAX_POSTED_OCTETS: Final = 65536
_MEMORY: Final = "memory"

type _Names = tuple[str, tuple[str, ...]]
"""The files of a snapshot, as the options name them."""


@dataclass(slots=True)
class _Record:
    """What the gate knows of one flow: the decision, and the request that it was made for."""

    decision: Decision
    transaction_id: str
    identity: tuple[object, ...]
    headers: tuple[tuple[bytes, bytes], ...]
    denial: http.Response | None
    """What stands on the flow until `Seal` takes it off."""
    sealed: bool = False
    """Whether the first of the two hooks went through to the end of the chain."""
    released: bool = False


def _identity(flow: http.HTTPFlow) -> tuple[object, ...]:
    """What must not change between the decision and the forwarding."""
    data = flow.request.data
    return data.method, data.path, data.scheme, data.host, data.port


def _facts(flow: http.HTTPFlow) -> RequestFacts:
    data = flow.request.data
    return RequestFacts(data.method.decode("latin-1"), data.path, data.headers.fields)


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


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)  # no such user; as a path it is then told to be missing


def _is_known_version(flow: http.HTTPFlow) -> bool:
    """Whether the version is the one of the connection: an HTTP/1 client may write any number into its first line."""
    version, alpn = flow.request.data.http_version, flow.client_conn.alpn or b""
    if version in {b"HTTP/1.0", b"HTTP/1.1"} or flow.is_replay == "request":
        return True
    return (version == b"HTTP/2.0" and alpn == b"h2") or (version.startswith(b"HTTP/3") and alpn.startswith(b"h3"))


def log_fault(error: BaseException, doing: str) -> None:
    """Log what broke; to be called when the denial stands. Lets the process end where that was asked for."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        raise error
    logger.error("jwsgate: %s while %s; denied", type(error).__name__, doing)


class JwsGate:
    """Decides each request. Add it with `install`, which puts it where nothing gets past it."""

    name = "jwsgate"

    def __init__(self) -> None:
        self._started = False
        self._snapshot: Snapshot | None = None
        self._loaded_from: _Names | None = None
        self._before: tuple[_Names | None, Snapshot | None] = None, None
        self._cache: JwsCache = VerifiedCache()
        self._replay_store: ReplayStore = MemoryReplayStore()
        self._replay_store_name = _MEMORY
        self._records: WeakKeyDictionary[http.HTTPFlow, _Record] = WeakKeyDictionary()
        # Flows that came from a client. `flow.live` says so too, but other add-ons can set it.
        self.watched: WeakSet[http.HTTPFlow] = WeakSet()

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
        names = ctx.options.jwsgate_portal, tuple(ctx.options.jwsgate_policy)
        snapshot = self._snapshot if names == self._loaded_from else self._load(*names)
        # All that can be refused comes before anything is taken up.
        store = self._open_replay_store(ctx.options.jwsgate_replay_store)
        if snapshot is not self._snapshot:
            self._before = self._loaded_from, self._snapshot
            self._snapshot = snapshot
            self._loaded_from = names
            self._cache = VerifiedCache()  # the old entries can never be met again
        self._replay_store_name, self._replay_store = store

    def _open_replay_store(self, name: str) -> tuple[str, ReplayStore]:
        if name == self._replay_store_name:
            return name, self._replay_store
        try:
            return name, MemoryReplayStore() if name == _MEMORY else RedisReplayStore(name)
        except Unfit as error:
            raise exceptions.OptionsError(f"jwsgate_replay_store {error} ({error.remedy})") from None

    def _load(self, portal: str, policies: tuple[str, ...]) -> Snapshot | None:
        if not portal or not policies:
            raise exceptions.OptionsError(
                "jwsgate needs both its files: --set jwsgate_portal=PATH --set jwsgate_policy=PATH"
            )
        try:
            snapshot = load_snapshot(_path(portal), [_path(policy) for policy in policies], time.time())
        except ProblemsFound as error:
            count = len(error.problems)
            message = f"jwsgate: {count} problem{'s' if count > 1 else ''}:\n{error}"
            if (portal, policies) == self._before[0]:
                # mitmproxy puts refused options back: what was in force with them is so again, whatever the files say.
                logger.error(message)
                return self._before[1]
            raise exceptions.OptionsError(message) from None
        logger.info(
            "jwsgate: revision %s: %d applications, %d routes",
            snapshot.revision,
            len(snapshot.portal.applications),
            len(snapshot.router),
        )
        return snapshot

    # Deciding

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live:
            return  # read from a file: nothing is forwarded
        # Nothing of ours is called before the denial stands, so that nothing of ours can prevent it.
        self.watched.add(flow)
        flow.response = http.Response.make(*LAST_RESORT)
        flow.request.stream = False
        try:
            self._records.pop(flow, None)
            self._decide(flow)
        except BaseException as error:
            flow.response = http.Response.make(*LAST_RESORT)
            self.forget(flow)
            log_fault(error, "deciding")

    def _decide(self, flow: http.HTTPFlow) -> None:
        facts = _facts(flow)
        # The clock of the machine is read in this module, and the core is given the time.
        decision = decide(self._snapshot, facts, time.time(), self._cache)
        if not _is_known_version(flow):
            decision = Rejected(Reason.REQUEST_UNSAFE, "the HTTP version is not that of the connection")
        record = _Record(decision, secrets.token_hex(12), _identity(flow), facts.headers, flow.response)
        self._settle(flow, record, decision)
        self._records[flow] = record

    def _settle(self, flow: http.HTTPFlow, record: _Record, decision: Decision) -> None:
        """Take note of a decision; a rejection puts its answer on the flow and into the log."""
        record.decision = decision
        if isinstance(decision, Rejected):
            record.denial = flow.response = _denial(decision.reason, record, flow.request.method)
            flow.marked = ":no_entry:"
            flow.comment = f"jwsgate: {decision.reason}: {decision.detail}"
            # Nothing that the client sent is logged: an unprintable octet could break the log, or forge it.
            logger.info("jwsgate: %s rejected: %s: %s", record.transaction_id, decision.reason, decision.detail)

    def forget(self, flow: http.HTTPFlow) -> None:
        """Drop what was decided on a flow, so that nothing can release it any more."""
        self._records.pop(flow, None)

    # Releasing, for Seal

    def seal(self, flow: http.HTTPFlow) -> None:
        """Note that the first hook came to its end; without this note nothing is released."""
        self._records[flow].sealed = True

    def release(self, flow: http.HTTPFlow, found: http.Response | None) -> Awaitable[None] | None:
        """Let an allowed request go on, or answer it. `found` is the response that was on the flow before.

        Returns what has to be awaited first, if anything. Until it is done, the flow's response denies.
        """
        record = self._records[flow]
        if isinstance(record.decision, Rejected):
            flow.response = record.denial
        elif not record.sealed:
            self._settle(flow, record, Rejected(Reason.INTERNAL_ERROR, "another add-on ended the chain"))
        elif flow.intercepted or record.decision.route.single_use:
            return self._release_later(flow, record, found)
        else:
            self._release_now(flow, record, found)
        return None

    async def _release_later(self, flow: http.HTTPFlow, record: _Record, found: http.Response | None) -> None:
        try:
            # Somebody may edit the request while it is held back: what counts is what goes on afterwards.
            await flow.wait_for_resume()
            allowed = self._confirm(flow, record)
            if isinstance(allowed, Allowed) and allowed.replay is not None:
                await check_replay(self._replay_store, allowed.replay, time.time())
            self._go_on(flow, record, allowed, found)
        except Rejection as rejection:
            self._settle(flow, record, Rejected(rejection.reason, rejection.detail))
        except BaseException as error:
            flow.response = http.Response.make(*LAST_RESORT)
            self.forget(flow)
            log_fault(error, "asking the replay store")
            if isinstance(error, asyncio.CancelledError):
                raise  # here it is real: the task is being ended, and the denial stands

    def _release_now(self, flow: http.HTTPFlow, record: _Record, found: http.Response | None) -> None:
        decision = self._confirm(flow, record)
        if isinstance(decision, Allowed) and decision.replay is not None:
            # Only after other add-ons' changes and a new policy at once; nobody would use it up here.
            decision = Rejected(Reason.INTERNAL_ERROR, "the request was changed after its decision")
        self._go_on(flow, record, decision, found)

    def _confirm(self, flow: http.HTTPFlow, record: _Record) -> Allowed | Rejected:
        """The final decision on the request as it stands now, with its whole body."""
        decision = record.decision
        if _identity(flow) != record.identity:
            return Rejected(Reason.INTERNAL_ERROR, "the request was changed after its decision")
        if flow.request.headers.fields != record.headers:
            # Some add-ons change headers with good reason; what they made of the request must be allowed as well.
            decision = decide(self._snapshot, _facts(flow), time.time(), self._cache)
        if isinstance(decision, AwaitsBody):
            decision = decide_body(decision, flow.request.raw_content or b"")
        if isinstance(decision, Allowed) and not decision.start <= time.time() < decision.end:
            return Rejected(Reason.JWS_EXPIRED, "exp has passed while the request arrived")
        return decision

    def _go_on(
        self, flow: http.HTTPFlow, record: _Record, decision: Allowed | Rejected, found: http.Response | None
    ) -> None:
        self._settle(flow, record, decision)
        if isinstance(decision, Rejected):
            return
        answer = None
        match decision.route.action:
            case Forward():
                self._prepare_upstream(flow, record)
                if found is not record.denial:
                    answer = found  # another add-on answers an allowed request in place of the upstream
            case RespondClaims():
                answer = _response(200, decision.payload, _JSON, record, flow.request.method)
            case Sign() as action:
                answer = self._sign(flow, action, record)
        logger.info("jwsgate: %s allowed on route %s", record.transaction_id, decision.route.name)
        record.released = True
        flow.response = answer

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
        body = request.raw_content or b""
        if (request.is_http2 or request.is_http3) and (body or "content-length" in request.headers):
            # Without its length, an HTTP/1 upstream would read the body as a second request that nobody decided;
            # with another one, it would wait, or take the next request for the rest of this one.
            request.headers["content-length"] = str(len(body))

    def must_close(self, flow: http.HTTPFlow) -> bool:
        """Whether a flow is about to be forwarded that was not released as it is."""
        if flow.response is not None:
            return False
        record = self._records.get(flow)
        return record is None or not record.released or _identity(flow) != record.identity

    # Responses

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow not in self.watched or flow.response is None:
            return
        if flow.response.status_code == 101:
            # No upgrade was asked for (core/sources.py refuses them): this would be a tunnel past the gate.
            flow.kill()
        elif (record := self._records.get(flow)) is not None:
            flow.response.headers[TRANSACTION_HEADER] = record.transaction_id
