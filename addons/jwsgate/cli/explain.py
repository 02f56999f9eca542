"""`jwsgate explain`."""

import datetime
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

import click

from jwsgate.core.cors import requested_method
from jwsgate.core.decision import Rejected, Snapshot
from jwsgate.core.explain import MEANINGS, Explanation, explain, render_text, to_json
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Route, Sign
from jwsgate.core.reasons import Reason, Rejection
from jwsgate.core.recorded import RecordedGate
from jwsgate.core.sources import with_value
from jwsgate.files.curl_command import curl_text, read_curl, split_url
from jwsgate.files.loading import load_snapshot
from jwsgate.files.pages import section
from jwsgate.files.problems import ProblemsFound, Unfit, printable

from .colors import colored
from .manual import Manual
from .options import FILES, given_files, policy_option, portal_option

__all__ = ["explain_command"]

_SEARCHED: Final = 100_000
"""How many applications are searched for the one that signed; whoever asks here can wait some seconds."""
_RELATIVE: Final = re.compile(r"([+-])([0-9]{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COLORS: Final = {"allowed": "green", "rejected": "red", "would_reject": "yellow", "awaits_body": "yellow"}


def _seconds(number: int) -> float:
    """Unix seconds, unless they are those of another unit, as Java and JavaScript have them."""
    for factor, unit in ((10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")):
        if 10**9 <= number // factor < 10**10:
            raise click.BadParameter(f"is in {unit}; in Unix seconds: {number // factor}")
    return float(number)


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if not value:
        return None
    now = time.time()  # noqa: TID251 - the command line is where the clock is
    if match := _RELATIVE.fullmatch(value):
        return now + int(match[1] + match[2]) * _SECONDS[match[3]]
    try:
        if value.isascii() and value.isdigit():
            return _seconds(int(value))
        at = datetime.datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter("write 2026-01-31T12:00:00Z, Unix seconds, or -3d, +90m, -30s from now") from None


def _header(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> list[tuple[bytes, bytes]]:
    headers = []
    for value in values:
        name, colon, text = value.partition(":")
        if not colon or not name:
            raise click.BadParameter("write 'Name: value'")
        headers.append((name.encode("utf-8", "surrogateescape"), text.strip(" ").encode("utf-8", "surrogateescape")))
    return headers


def _given(jws: str) -> str:
    """The JWS of the command line, or of standard input without its last line break."""
    text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape") if jws == "-" else jws
    return text.removesuffix("\n").removesuffix("\r")


def _some_route(snapshot: Snapshot) -> Route:
    for route in snapshot.router:
        if not route.open and not isinstance(route.action, Sign):
            return route
    raise click.UsageError("The policy has no route that takes a JWS; say which request is meant, with --path.")


def _assumed(snapshot: Snapshot, method: str | None) -> tuple[str, bytes]:
    """Method and path of a request that the policy's first route takes, for who says nothing of either."""
    route = _some_route(snapshot)
    path = "/" + "/".join("x" if segment is None else segment for segment in route.pattern.segments)
    method = method or ("GET" if route.methods is None or "GET" in route.methods else min(route.methods))
    click.echo(f"explain: without --path, the request is taken for {method} {path} ({route.name})", err=True)
    return method, path.encode("ascii")


def _composed(
    snapshot: Snapshot,
    client_id: str | None,
    jws: str | None,
    method: str | None,
    target: str | None,
    headers: Sequence[tuple[bytes, bytes]],
) -> RequestFacts:
    """A request with client ID and JWS where the policy looks for them."""
    if target is None:
        method, path = _assumed(snapshot, method)
    else:
        method, path = method or "GET", target.encode("utf-8", "surrogateescape")
    host = () if any(name.lower() == b"host" for name, _ in headers) else ((b"Host", b"localhost"),)
    facts = RequestFacts(method, path, (*host, *headers))
    try:
        route = snapshot.router.find(facts.method, facts.target)
    except Rejection:
        route = None
    if route is not None:
        for source, value in ((route.client_id, client_id), (route.jws, jws)):
            facts = facts if value is None else with_value(facts, source, value)
    return facts


def _loaded(files: tuple[Path, list[Path]], now: float) -> Snapshot:
    try:
        return load_snapshot(*files, now, keep_chains=True)
    except ProblemsFound as error:
        click.echo(f"explain: portal and policy cannot be used:\n{error}", err=True)
        sys.exit(2)


def _recorded(path: Path, entry: int | None, files: tuple[Path, list[Path]], at: float | None) -> Explanation:
    """One request of a recording, decided by a gate that has seen all before it; raises `Unfit`.

    A refused preflight is told only where no call was refused: it is the call that is asked about.
    """
    from jwsgate.adapters.flow_files import Recording  # noqa: PLC0415 - mitmproxy is slow to import

    snapshot = gate = first = preflight = None
    for recorded in Recording(path):
        request = recorded if at is None else replace(recorded, time=at)
        if snapshot is None or gate is None:
            snapshot = _loaded(files, request.time)
            gate = RecordedGate(snapshot)
        decision = gate.decide(request)
        first = first or (request, decision)
        refused = isinstance(decision, Rejected) or decision.would_reject is not None
        if entry is None and refused and requested_method(request.facts) is not None:
            preflight = preflight or (request, decision)
        elif (entry is None and refused) or request.place.endswith(f" {entry}"):
            first = preflight = request, decision
            break
    else:
        if first is None or entry is not None:
            raise Unfit(f"has no request {entry or 1}", "jwsgate check lists them with their numbers")
    request, decision = preflight or first
    click.echo(f"explain: {path}: {request.place}", err=True)
    # Without its body nothing is decided, which is no fault of the gate.
    decided = None if request.body is None else decision
    return explain(snapshot, request.facts, request.time, request.body, decided, _SEARCHED)


def _tell_reason(reason: Reason) -> None:
    """What docs/reasons.md says of it; where that page is not there, the words that it has in common with the code."""
    meaning = MEANINGS[reason]
    text = section("reasons.md", reason) or f"{meaning.meaning}\n\n**To mend it:** {meaning.remedy}"
    click.echo(f"{reason}\n\n{text}")


def _tell(explanation: Explanation, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(explanation), nl=False)
    else:
        first, rest = render_text(explanation).split("\n", 1)
        click.echo(f"{colored(first, _COLORS[explanation.outcome])}\n{rest}", nl=False)
    if explanation.outcome == "awaits_body":
        click.echo("explain: the decision depends on the body; give it with --body FILE", err=True)
        sys.exit(2)
    sys.exit(int(explanation.outcome != "allowed"))


@click.command(
    "explain",
    cls=Manual,
    examples={
        'jwsgate explain --portal portal.yaml --policy policy.yaml --client-id ID "$JWS"': "A JWS at hand.",
        "jwsgate explain --portal portal.yaml --policy policy.yaml --curl call.txt --at -1h": "A call of an hour ago.",
        "jwsgate explain --portal portal.yaml --policy policy.yaml --har browser.har": "What a browser recorded.",
        "jwsgate explain --reason jws_expired": "What a reason of a log means.",
    },
    exit_codes={
        0: "the request would be allowed",
        1: "it would be rejected, also where its route is in report mode; or what it prints cannot be written",
        2: "called wrongly, or files that cannot be used",
    },
)
@portal_option
@policy_option
@click.option(
    "--client-id", envvar="JWSGATE_CLIENT_ID", show_envvar=True, metavar="ID", help="The client ID that is sent."
)
@click.option("--method", metavar="METHOD", help="Method of the request; if not said, GET.")
@click.option(
    "--path", metavar="PATH", help="Path of the request, with its query; if not said, one of the first route."
)
@click.option("--url", metavar="URL", help="URL of the request, in place of --path.")
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    callback=_header,
    help="A header that is sent besides; may be given more than once.",
)
@click.option("--body", type=click.File("rb"), help="File with the body, for routes that sign it or bind it.")
@click.option(
    "--curl",
    type=click.File("rb"),
    help="File with a curl command, whose request is explained; - is standard input.",
)
@click.option(
    "--flow",
    "--har",
    "recording",
    metavar="FILE",
    type=FILES,
    help="Flows that mitmproxy saved (mitmdump -w), or a HAR file of a browser; one of its requests is explained.",
)
@click.option(
    "--entry",
    metavar="N",
    type=click.IntRange(1),
    help="Which request of the recording; if not said, the first that is refused. What came before it counts for "
    "single_use.",
)
@click.option(
    "--at",
    metavar="TIME",
    callback=_moment,
    help="When it is decided: 2026-01-31T12:00:00Z, Unix seconds, or -3d, +90m from now; if not said, now, and for "
    "recordings when they were made.",
)
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    metavar="REASON",
    help="Tell what a reason means, such as jws_expired, and what mends it; no request is explained then.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.argument("jws", required=False)
def explain_command(
    portal: str | None,
    policies: tuple[str, ...],
    client_id: str | None,
    method: str | None,
    path: str | None,
    url: str | None,
    headers: list[tuple[bytes, bytes]],
    body: BinaryIO | None,
    curl: BinaryIO | None,
    recording: str | None,
    entry: int | None,
    at: float | None,
    reason: str | None,
    as_json: bool,
    jws: str | None,
) -> None:
    """Tell why a request is allowed or rejected, step by step.

    The request is made of --client-id and JWS (- reads standard input), or is that of --curl or --flow. The first line
    names the mistake. Signatures, and headers other than the two that the policy names, are never printed.
    """
    if reason is not None:
        _tell_reason(Reason(reason))
        return
    if sum(given is not None for given in (jws, curl, recording)) > 1:
        raise click.UsageError("Give one of: a JWS, --curl, --flow.")
    if url is not None and path is not None:
        raise click.UsageError("Give --url or --path, not both.")
    files = given_files(portal, policies)
    now = time.time() if at is None else at  # noqa: TID251 - the command line is where the clock is
    try:
        if recording is not None:
            _tell(_recorded(Path(recording), entry, files, at), as_json)
        snapshot = _loaded(files, now)
        octets = None if body is None else body.read()
        if curl is not None:
            facts, sent = read_curl(curl_text(curl.read()))
            octets = sent if octets is None else octets
            facts = facts._replace(headers=(*facts.headers, *headers))
        else:
            text = None if jws is None else _given(jws)
            facts = _composed(snapshot, client_id, text, method, split_url(url)[1] if url else path, headers)
        _tell(explain(snapshot, facts, now, octets, searched=_SEARCHED), as_json)
    except Unfit as error:
        what = recording or ("the curl command" if curl is not None else "the command line")
        click.echo(printable(f"explain: {what} {error} ({error.remedy})"), err=True)
        sys.exit(2)
