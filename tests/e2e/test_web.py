"""mitmweb in front of a gate: what a person sees of its decisions, and that nothing done there opens anything."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

import material
from e2e import gates, pictures
from e2e.browser import browser
from e2e.estate import KEYS, NO_CERTIFICATE, P256, RSA, Files, credentials
from e2e.http_client import exchange
from e2e.mitmweb import Web
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def web(
    home: Path, files: Files, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web]:
    """The gate with mitmweb, and a request of each kind."""
    port = gates.free_port()
    with gates.running(
        lambda listen: gates.command(
            "jwsgate run",
            upstream=session_upstream.url,
            port=listen,
            portal=files.portal,
            policy=files.policy,
            options=[f"web_port={port}", "web_open_browser=false", "web_password=secret"],
            arguments=["--ui", "web"],
        ),
        env=gates.environment(home),
        directory=tmp_path_factory.mktemp("web"),
        name="mitmweb",
    ) as gate:
        exchange(gate.port, "GET", "/orders/good", credentials())
        for path in ("/orders/unsigned", "/orders/edited"):
            exchange(gate.port, "GET", path, [("X-IBM-Client-Id", RSA)])
        old = material.jws(KEYS[RSA], {"iat": int(time.time()) - 90_000, "exp": int(time.time()) - 86_400})
        exchange(gate.port, "GET", "/orders/expired", credentials(RSA, old))
        exchange(gate.port, "GET", "/orders/unregistered", credentials(NO_CERTIFICATE, old))
        exchange(gate.port, "POST", "/orders/foreign", credentials(RSA, material.jws(KEYS[P256])), b"{}")
        yield Web(gate, f"http://127.0.0.1:{port}", "secret")
    assert "Traceback" not in gate.log()


@pytest.mark.parametrize(
    ("path", "marked", "comment"),
    [
        ("/orders/good", "✅", "allowed: rsa, RS256, certificate "),
        ("/orders/unsigned", "⛔", "jws_missing: header jwt is missing"),
        ("/orders/expired", "⛔", "jws_expired: exp has passed"),
        ("/orders/unregistered", "⛔", "certificate_missing: "),
        ("/orders/foreign", "⛔", "algorithm_not_allowed: "),
    ],
    ids=["good", "unsigned", "expired", "unregistered", "foreign"],
)
def test_marks_and_comments(web: Web, path: str, marked: str, comment: str) -> None:
    """Every decision shows in the list of flows."""
    flow = web.flow(path)
    assert flow["marked"] == marked
    assert flow["comment"].startswith(comment)


def content(web: Web, path: str, message: str = "response", view: str = "auto") -> dict[str, str]:
    """A body as mitmweb shows it."""
    found: dict[str, str] = web.call(f"/flows/{web.flow(path)['id']}/{message}/content/{view}.json")
    return found


def test_content_view(web: Web) -> None:
    """Denied responses explain themselves; for all others the account is there for the choosing."""
    denied = content(web, "/orders/expired")
    assert denied["view_name"] == "JWS gate"
    assert denied["text"].startswith("Rejected (jws_expired): The JWS expired 1 day ago")
    assert content(web, "/orders/good")["view_name"] != "JWS gate"
    chosen = content(web, "/orders/good", view="jws%20gate")
    assert chosen["text"].startswith("Allowed: ")
    posted = content(web, "/orders/foreign", "request", "jws%20gate")
    assert "Rejected (algorithm_not_allowed)" in posted["text"]


def test_explain_and_applications(web: Web) -> None:
    """The commands answer what the page shows."""
    lines = web.command("jwsgate.explain", f"@{web.flow('/orders/expired')['id']}")
    assert isinstance(lines, list), lines
    assert lines[0].startswith("Rejected (jws_expired): The JWS expired 1 day ago")
    applications = web.command("jwsgate.applications")
    assert re.fullmatch(rf"rsa: client IDs {RSA}; certificates: 36[45] days left", applications[0])
    assert "no-certificate: client IDs" in "\n".join(applications)


def test_reload(web: Web) -> None:
    """Portal and policy are read anew."""
    seen = web.gate.log().count("reloaded, revision")
    assert web.command("jwsgate.reload") is None
    web.gate.wait_for_log("reloaded, revision", seen + 1)


def test_replay_is_decided_anew(web: Web, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """A denied request stays denied when it is replayed, or signed with another key; signed with its own it passes."""
    flow = web.flow("/orders/expired")
    upstream.clear()
    for number, key in enumerate((None, material.private_key("rsa", "stranger"), KEYS[RSA])):
        if key is not None:
            file = tmp_path / f"{number}.key"
            file.write_text(material.private_pem(key))
            assert web.command("jwsgate.sign", f"@{flow['id']}", str(file)) is None
        before = web.gate.log().count("rejected:")
        web.call(f"/flows/{flow['id']}/replay", {}, "POST")
        if key is not KEYS[RSA]:
            web.gate.wait_for_log("rejected:", before + 1)
            assert web.flow("/orders/expired")["marked"] == "⛔"
            upstream.assert_untouched()
    passed = web.until("/orders/expired", lambda flow: flow["marked"] == "✅")
    assert passed["response"]["status_code"] == 200
    assert [request.target for request in upstream.requests] == [b"/orders/expired"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["~all", "/no/such.key"], "does not exist"),
        (["~all", __file__], "is not a private key"),
        (["~u nowhere", __file__], "no request was named"),
    ],
    ids=["missing", "no-key", "no-request"],
)
def test_bad_keys(web: Web, arguments: list[str], told: str) -> None:
    """What is wrong is told, without a traceback."""
    assert told in web.command("jwsgate.sign", *arguments)


def test_edited_decision_opens_nothing(web: Web, upstream: RecordingUpstream) -> None:
    """Whatever is written on a flow, marks and comments or another target, its replay is decided by what it is."""
    upstream.clear()
    flow = web.flow("/orders/edited")
    web.call(f"/flows/{flow['id']}", {"marked": ":white_check_mark:", "comment": "allowed: rsa"}, "PUT")
    web.call(f"/flows/{flow['id']}", {"request": {"headers": [["X-IBM-Client-Id", RSA], ["jwt", "a.b.c"]]}}, "PUT")
    before = web.gate.log().count("rejected: jws_malformed")
    web.call(f"/flows/{flow['id']}/replay", {}, "POST")
    web.gate.wait_for_log("rejected: jws_malformed", before + 1)
    upstream.assert_untouched()
    with contextlib.suppress(urllib.error.HTTPError):
        web.call("/options", {"stream_large_bodies": "1"}, "PUT")
    assert exchange(web.gate.port, "POST", "/orders/x", [("X-IBM-Client-Id", RSA)], b"x" * 9).status == 500
    upstream.assert_untouched()


REASONS = {
    "/orders/good": "allowed: rsa, RS256, certificate ",
    "/orders/unsigned": "jws_missing: header jwt is missing",
    "/orders/unregistered": "certificate_missing: the application has no certificate registered",
    "/orders/foreign": "algorithm_not_allowed: ",
}


def test_in_a_browser(web: Web, tmp_path: Path) -> None:
    """In a real browser the list says why requests were refused, and a refused one explains itself, all to be seen."""
    flows = web.call("/flows")
    with browser(tmp_path) as page:
        rows = f"document.querySelectorAll('td.col-comment').length >= {len(flows)}"
        page.show(f"{web.url}/?token={web.token}#/flows", 1280, 720, until=rows)
        paths, comments = page.visible_lines("td.col-path"), page.visible_lines("td.col-comment")
        for path, comment in REASONS.items():
            ((seen, told),) = [row for row in zip(paths, comments, strict=True) if path in row[0]]
            assert seen.startswith("✅http" if path == "/orders/good" else "⛔http")  # painted at the cell's right
            assert told.startswith(comment)
        shown = f"{web.url}/?token={web.token}#/flows/{web.flow('/orders/unregistered')['id']}/response"
        page.show(shown, 1500, 800, until="document.body.innerText.includes('not reached')")
        # Beside the account there is room for the reason at least.
        comments = page.visible_lines("td.col-comment")
        assert {comment.partition(":")[0] for comment in REASONS.values()} <= {
            each.partition(":")[0] for each in comments
        }
        (account,) = page.visible_lines(".contentview pre")
        assert "".join(account.split()) == "".join(content(web, "/orders/unregistered")["text"].split())
        assert account.startswith("Rejected (certificate_missing): ")
        assert "What to do: " in account
        assert "FAILED  certificate" in account


def test_pictures_of_the_docs(tmp_path: Path) -> None:
    """The script that makes them does."""
    pictures.make(tmp_path, gates.free_port(), gates.free_port(), gates.free_port())
    for name in ("mitmweb.png", "mitmweb-detail.png"):
        octets = (tmp_path / name).read_bytes()
        assert octets.startswith(b"\x89PNG\r\n")
        assert (gates.ROOT / "docs" / name).read_bytes()[16:24] == octets[16:24]  # width and height


def read_until(terminal: int, text: str, seconds: float = 20) -> str:
    """What a terminal shows until it shows a text, without what steers it."""
    shown, deadline = "", time.monotonic() + seconds
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            octets = os.read(terminal, 65536).decode("utf-8", "replace")
            shown += re.sub(r"\x1b[\[()][0-9;?]*[A-Za-z]?", "", octets)
    return shown


def test_console(home: Path, files: Files, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """On a terminal, keys bring the account of the request in focus, the applications, a JWS, and the files anew."""
    (tmp_path / "client.key").write_text(material.private_pem(KEYS[RSA]))
    port = gates.free_port()
    argv = gates.command(
        "jwsgate run", upstream=upstream.url, port=port, portal=files.portal, policy=files.policy,
        arguments=["--ui", "console"],
    )  # fmt: skip
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
    env = gates.environment(home, extra={"TERM": "xterm"})
    with subprocess.Popen(argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        try:
            read_until(ours, f":{port}]")
            deadline = time.monotonic() + 10
            while not gates.listening(process, port):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert exchange(port, "GET", "/orders/unsigned", [("X-IBM-Client-Id", RSA)]).status == 500
            read_until(ours, "⛔")
            os.write(ours, b"y")
            read_until(ours, "Rejected (jws_missing): No JWS was sent in header jwt")
            os.write(ours, b"q")
            os.write(ours, b"T")
            read_until(ours, f"rsa: client IDs {RSA}; certificates: 36")
            upstream.assert_untouched()
            os.write(ours, b"q")
            os.write(ours, b"Y")
            read_until(ours, "jwsgate.sign @focus")
            os.write(ours, str(tmp_path / "client.key").encode() + b"\r")
            os.write(ours, b"r")
            read_until(ours, "✅")
            assert [request.target for request in upstream.requests] == [b"/orders/unsigned"]
            os.write(ours, b"N")
            os.write(ours, b"E")  # mitmproxy's key for its log
            read_until(ours, "jwsgate: reloaded, revision")
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)
