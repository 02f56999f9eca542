"""A client that cannot sign yet, a proxy that signs for it, and a gate that cannot tell the difference."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import material
from e2e import gates
from e2e.estate import KEYS, P256, write_files
from e2e.http_client import exchange
from e2e.mitmweb import Web
from e2e.upstream import RecordingUpstream

pytestmark = pytest.mark.e2e

SCRIPT = gates.ADDONS / "jws_sign.py"
POLICY = """\
routes:
  - {name: once, path: /once, single_use: true, bind: {method: htm, body: {claim: digest}}}
  - {name: everything, path: /**}
"""


def signing(folder: Path, upstream: str, port: int, *more: str) -> list[str]:
    """The command line of a signing proxy, without the program."""
    return [
        *("-s", str(SCRIPT), "--mode", f"reverse:{upstream}@127.0.0.1:{port}"),
        *("--set", f"jwsgate_sign_key={folder / 'client.key'}", "--set", f"jwsgate_sign_client_id={P256}"),
        *("--set", f"jwsgate_sign_policy={folder / 'policy.yaml'}", *more),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Portal, policy and the client's key."""
    place = write_files(tmp_path_factory.mktemp("signing"), policy=POLICY).directory
    (place / "client.key").write_text(material.private_pem(KEYS[P256]))
    return place


@pytest.fixture(scope="module")
def web(home: Path, folder: Path, session_upstream: RecordingUpstream) -> Iterator[Web]:
    """mitmweb that signs, in front of a gate that enforces."""
    env, page = gates.environment(home), gates.free_port()
    policy, portal = folder / "policy.yaml", folder / "portal.yaml"
    mitmweb = str(Path(sys.executable).parent / "mitmweb")
    more = ("--set", f"web_port={page}", "--set", "web_open_browser=false", "--set", "web_password=secret")
    with (
        gates.running(
            lambda port: gates.command(
                "jwsgate run", upstream=session_upstream.url, port=port, portal=portal, policy=policy
            ),
            env=env,
            directory=folder,
            name="gate",
        ) as gate,
        gates.running(
            lambda port: [mitmweb, *signing(folder, f"http://127.0.0.1:{gate.port}", port, *more)],
            env=env,
            directory=folder,
            name="mitmweb",
        ) as proxy,
    ):
        yield Web(proxy, f"http://127.0.0.1:{page}", "secret")
        assert "Traceback" not in proxy.log() + gate.log()


def test_signed_for_and_marked(web: Web, upstream: RecordingUpstream) -> None:
    """A plain request passes the gate, digest of the body and all; the list of flows says who signed it."""
    upstream.clear()
    answer = exchange(web.gate.port, "POST", "/once", [], b'{"order": 17}')
    assert answer.status == 200
    assert [request.body for request in upstream.requests] == [b'{"order": 17}']
    flow = web.flow("/once")
    assert flow["marked"] == "🔏"
    assert flow["comment"] == f"SIGNED by this proxy for {P256}: ES256, route 'once'"


def test_replay_is_signed_anew(web: Web, upstream: RecordingUpstream) -> None:
    """Each jti is good once, so that only a fresh JWS passes."""
    assert exchange(web.gate.port, "POST", "/once", [], b"1").status == 200
    upstream.clear()
    flow = web.flow("/once")
    web.call(f"/flows/{flow['id']}/replay", {}, "POST")
    upstream.wait_for_requests(1)
    assert [request.body for request in upstream.requests] == [b"1"]


def test_said_loudly(web: Web) -> None:
    """At the start, in the log."""
    assert re.search(f"SIGNING requests to 127.0.0.1:[0-9]+ for the client ID {P256}: whoever", web.gate.log())


@pytest.mark.parametrize("first", ["signer", "gate"])
def test_never_in_the_process_of_a_gate(
    home: Path, folder: Path, upstream: RecordingUpstream, tmp_path: Path, first: str
) -> None:
    """Whichever script comes first, mitmdump does not start: the gate would verify what was signed beside it."""
    gate = ["-s", str(gates.SCRIPT)]
    both = [
        *("--set", f"jwsgate_portal={folder / 'portal.yaml'}", "--set", f"jwsgate_policy={folder / 'policy.yaml'}"),
        *("--set", "jwsgate_sign_unattended=true"),
    ]
    program = str(Path(sys.executable).parent / "mitmdump")

    def argv(port: int) -> list[str]:
        signer = signing(folder, upstream.url, port)
        return [program, *(gate if first == "gate" else []), *signer, *(gate if first == "signer" else []), *both]

    done = gates.run_to_end(argv, env=gates.environment(home), directory=tmp_path)
    assert done.returncode == 1
    assert "start them apart" in done.output
    upstream.assert_untouched()
