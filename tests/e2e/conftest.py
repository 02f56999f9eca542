"""What the end-to-end tests share: one home, one upstream, one portal, and one gate per door."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy.certs import CertStore

from e2e import gates
from e2e.estate import HTTP_POLICY, Files, write_files
from e2e.gates import DOORS, Door, Gate
from e2e.upstream import RecordingUpstream


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory of our own, so that nobody's ~/.mitmproxy plays a part; its CA is made once."""
    home = tmp_path_factory.mktemp("home")
    CertStore.from_store(home / ".mitmproxy", "mitmproxy", 2048)
    return home


@pytest.fixture(scope="session")
def session_upstream() -> Iterator[RecordingUpstream]:
    """The upstream that all gates of the session share."""
    with RecordingUpstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(session_upstream: RecordingUpstream) -> RecordingUpstream:
    """The shared upstream with nothing recorded yet."""
    session_upstream.clear()
    return session_upstream


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The shared portal export and policy."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session", params=DOORS, ids=["mitmdump", "jwsgate-run"])
def door(request: pytest.FixtureRequest) -> Door:
    """Each of the two ways to start the gate."""
    chosen: Door = request.param
    return chosen


@pytest.fixture(scope="session")
def gate(
    door: Door,
    home: Path,
    files: Files,
    session_upstream: RecordingUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gate]:
    """A gate that runs as long as the tests of its door do."""
    with gates.running(
        lambda port: gates.command(
            door, upstream=session_upstream.url, port=port, portal=files.portal, policy=files.policy
        ),
        env=gates.environment(home),
        directory=tmp_path_factory.mktemp("gate"),
        name=door,
    ) as gate:
        yield gate
        alive = gate.process.poll() is None
    assert alive, f"the gate did not live to the end:\n{gate.log()}"
    # Nothing that a client sends may make the gate stumble.
    _, found, after = gate.log().partition("Traceback")
    assert not found, after[:5000]


@pytest.fixture(scope="session")
def http_gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate with a route for each way of treating bodies and connections, and little patience."""
    files = write_files(tmp_path_factory.mktemp("http"), policy=HTTP_POLICY)
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=session_upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            options=["jwsgate_header_seconds=1", "jwsgate_body_seconds=4"],
        ),
        env=gates.environment(home),
        directory=files.directory,
        name=door,
    ) as gate:
        yield gate
        alive = gate.process.poll() is None
    assert alive, f"the gate did not live to the end:\n{gate.log()}"
    _, found, after = gate.log().partition("Traceback")
    assert not found, after[:5000]


@pytest.fixture
def addons_copy(tmp_path: Path) -> Path:
    """A copy of the addons directory, for the tests that damage it while the gate runs."""
    return Path(shutil.copytree(gates.ADDONS, tmp_path / "addons", ignore=shutil.ignore_patterns("__pycache__")))
