"""What mitmweb and the console show of decisions, and the commands that they get. It only looks: it decides nothing."""

import logging
import re
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import mitmproxy.types
from mitmproxy import command, contentviews, exceptions, flow, hooks, http
from mitmproxy.addonmanager import Loader

from jwsgate.core.certificates import CertificateError, load_private_key
from jwsgate.core.decision import Allowed, AwaitsBody, Decision, Rejected, Snapshot
from jwsgate.core.explain import explain, render_text
from jwsgate.core.facts import RequestFacts
from jwsgate.core.on_behalf import claims_of, signed_request
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.sources import single_value
from jwsgate.files.problems import ProblemsFound, printable
from jwsgate.files.reading import read_octets

from .random_pool import random_hex

__all__ = ["CONSOLE_KEYS", "DecisionView"]

logger = logging.getLogger(__name__)

CONSOLE_KEYS: Final = (
    ("y", "jwsgate.explain @focus", "Why the gate decided as it did"),
    ("Y", "console.command jwsgate.sign @focus ", "Sign this request with a key file, to be replayed"),
    ("N", "jwsgate.reload", "Have the gate read portal and policy anew"),
    ("T", "jwsgate.applications", "The applications that the gate knows"),
)
"""Key, command and help; none of them is a key of mitmproxy's own where flows are shown."""
_CONTEXTS: Final = ("flowlist", "flowview")
_MOST_LISTED: Final = 1000
_WIDTH: Final = 88
"""What the half of a window shows of a line, in characters; neither mitmweb nor the console breaks lines."""
_STEP_LINE: Final = re.compile(r"  (?:ok    |FAILED)  .{16}| {26}|  ")


class _Gate(Protocol):
    """What is asked of the gate."""

    state: Any
    tls: Any
    reloader: Any

    def decision_on(self, flow: http.HTTPFlow) -> Decision | None:
        """The decision on a flow so far."""
        ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """A request as it came, before anything of it was changed, and what was in force then."""

    facts: RequestFacts
    snapshot: Snapshot | None
    time: float


def _comment(allowed: Allowed) -> str:
    if allowed.preflight is not None:
        why = "a CORS preflight"
    elif allowed.route.open:
        why = f"the route {allowed.route.name!r} is open"
    else:
        who = allowed.application.title or allowed.application.name if allowed.application else "nobody"
        how = f", {allowed.alg}, certificate {allowed.certificate.thumbprint[:16]}…" if allowed.certificate else ""
        why = f"{who}{how}"
    return printable(f"allowed: {why}")


def _wrapped(text: str) -> str:
    """An account with lines of at most `_WIDTH`; what goes on in another line is indented as the line's own text is."""
    lines = []
    for line in text.splitlines():
        step = _STEP_LINE.match(line)
        indent = " " * (step.end() if step else 2)
        lines += textwrap.wrap(line, _WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return "\n".join(lines) + "\n"


class _ExplanationView(contentviews.Contentview):
    """The content view: in place of a denied response's body by itself, on all others when it is chosen."""

    def __init__(self, view: "DecisionView") -> None:
        self._view = view

    @property
    def name(self) -> str:
        return "JWS gate"

    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        text = self._view.account(metadata.flow)
        if text is None:
            raise ValueError("the gate has made no decision on this flow")
        return text

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        decision = self._view.decision(metadata.flow)
        if decision is None:
            return -1
        is_answer = isinstance(metadata.http_message, http.Response)
        return 10 if is_answer and isinstance(decision, Rejected) else 0


class DecisionView:
    """Marks and comments what is allowed too, explains decisions, and has commands for people who look on."""

    name = "jwsgate-ui"

    def __init__(self, master: Any, gate: _Gate) -> None:
        self._master = master
        self._gate = gate
        self._seen: WeakKeyDictionary[http.HTTPFlow, _Seen] = WeakKeyDictionary()

    def load(self, _loader: Loader) -> None:
        contentviews.add(_ExplanationView(self))
        if (page := getattr(self._master, "app", None)) is not None:  # only mitmweb has one
            from .web_page import widen_comments  # noqa: PLC0415 - the console has no use for it

            widen_comments(page)
        keymap: Any = getattr(self._master, "keymap", None)
        for key, bound, about in CONSOLE_KEYS if keymap is not None else ():  # only the console has one
            contexts = [context for context in _CONTEXTS if keymap.get(context, key) is None]
            if contexts and keymap.get("global", key) is None:
                keymap.add(key, bound, contexts, about)

    # What is shown

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if self._gate.decision_on(flow) is None:
            return
        data = flow.request.data
        facts = RequestFacts(
            data.method.decode("latin-1"), data.path, data.headers.fields, *self._gate.tls.peer_facts(flow)
        )
        self._seen[flow] = _Seen(facts, self._gate.state.snapshot, time.time())

    def response(self, flow: http.HTTPFlow) -> None:
        decision = self._gate.decision_on(flow)
        if isinstance(decision, AwaitsBody):
            decision = decision.but_body
        if isinstance(decision, Allowed) and decision.would_reject is None:
            flow.marked = ":white_check_mark:"
            flow.comment = _comment(decision)

    def decision(self, shown: flow.Flow | None) -> Decision | None:
        """The decision on a flow; None for what the gate has not decided, as flows from a file."""
        return self._gate.decision_on(shown) if isinstance(shown, http.HTTPFlow) else None

    def account(self, shown: flow.Flow | None) -> str | None:
        """Why a flow was decided as it was; None when it was not."""
        decision = self.decision(shown)
        if decision is None or not isinstance(shown, http.HTTPFlow) or (seen := self._seen.get(shown)) is None:
            return None
        decided = None if isinstance(decision, AwaitsBody) else decision
        return _wrapped(render_text(explain(seen.snapshot, seen.facts, seen.time, shown.request.raw_content, decided)))

    # Commands

    @command.command("jwsgate.explain")
    def explain(self, flow: flow.Flow) -> Sequence[str]:
        """Why the gate decided as it did."""
        text = self.account(flow)
        if text is None:
            raise exceptions.CommandError("the gate has made no decision on this flow")
        return text.splitlines()

    @command.command("jwsgate.sign")
    def sign(self, flows: Sequence[flow.Flow], key: mitmproxy.types.Path) -> None:
        """Put a fresh JWS on requests, signed with a private key in PEM, so that they can be replayed."""
        if not flows:
            raise exceptions.CommandError("no request was named")
        signer = _load_key(Path(key).expanduser())
        snapshot: Snapshot | None = self._gate.state.snapshot
        for each in flows:
            if snapshot is None or not isinstance(each, http.HTTPFlow):
                raise exceptions.CommandError("only requests can be signed, once a policy is loaded")
            data = each.request.data
            facts = RequestFacts(data.method.decode("latin-1"), data.path, data.headers.fields)
            try:
                route = snapshot.router.find(facts.method, facts.target)
                if route is None:
                    raise exceptions.CommandError("no route of the policy matches method and path")
                raw = single_value(facts, route.client_id, Reason.CLIENT_ID_MISSING, Reason.CLIENT_ID_REPEATED)
            except Rejection as rejection:
                raise exceptions.CommandError(f"cannot be signed: {rejection.detail}") from None
            usable = [name for name in signer.algorithms if route.algorithms is None or name in route.algorithms]
            if not usable:
                raise exceptions.CommandError(f"route {route.name!r} allows no algorithm of this key")
            body = each.request.raw_content or b""
            client_id = raw.decode("utf-8", "replace")
            signed = signed_request(
                facts,
                route,
                signer.jwk,
                usable[0],
                claims_of(facts, route),
                client_id,
                body,
                time.time(),
                random_hex(16),
            )
            each.backup()
            data.path, each.request.headers.fields = signed.target, signed.headers
        self._master.addons.trigger(hooks.UpdateHook(flows))
        logger.info("jwsgate: signed %d requests; replay them to see what is decided", len(flows))

    @command.command("jwsgate.reload")
    def reload(self) -> None:
        """Read portal and policy anew."""
        self._gate.reloader.request()

    @command.command("jwsgate.applications")
    def applications(self) -> Sequence[str]:
        """The applications that the gate knows, with their client IDs and certificates."""
        snapshot: Snapshot | None = self._gate.state.snapshot
        if snapshot is None:
            raise exceptions.CommandError("no portal export is loaded")
        lines = []
        for number, application in enumerate(snapshot.portal.applications):
            if number == _MOST_LISTED:
                lines.append(f"… and {len(snapshot.portal.applications) - number} more (jwsgate portal list)")
                break
            days = [int((each.not_after - time.time()) // 86400) for each in application.certificates]
            certificates = ", ".join(f"{left} days left" for left in days) or "none"
            state = "" if application.enabled else " (not enabled)"
            ids = ", ".join(application.client_ids) or "none"
            name = application.title or application.name
            lines.append(printable(f"{name}{state}: client IDs {ids}; certificates: {certificates}"))
        return lines


def _load_key(path: Path) -> Any:
    try:
        return load_private_key(read_octets(path))
    except ProblemsFound as error:
        raise exceptions.CommandError(str(error)) from None
    except CertificateError as error:
        raise exceptions.CommandError(f"{path}: {error} ({error.remedy})") from None
