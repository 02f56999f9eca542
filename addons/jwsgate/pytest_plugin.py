"""Fixtures for pytest, there in every project that has jwsgate installed; `-p no:jwsgate` leaves them out.

Nothing but pytest is imported before the first of them is asked for.
"""

# ruff: noqa: PLC0415 - see above

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import App, ClientApplication, Gate, GatePool


@pytest.fixture(scope="session")
def jwsgate_application() -> "ClientApplication":
    """A client application with an RSA key and a registered certificate; `.headers(claims)` signs a request."""
    from .testing import ClientApplication

    return ClientApplication.make()


@pytest.fixture
def jwsgate_applications(jwsgate_application: "ClientApplication") -> "Sequence[ClientApplication]":
    """The applications of the portal export. Override it to have others than `jwsgate_application`."""
    return [jwsgate_application]


@pytest.fixture
def jwsgate_policy() -> str | Path:
    """The policy: text, or the path of your own. Override it; this one asks for `exp` and `iat` on every path."""
    from .testing import DEFAULT_POLICY

    return DEFAULT_POLICY


@pytest.fixture
def jwsgate_upstream() -> "App":
    """What stands behind the gate: a URL, or a WSGI or ASGI callable. Override it; this one echoes requests as JSON."""
    return None


@pytest.fixture
def jwsgate_options() -> Sequence[str]:
    """Further options of `jwsgate run`, such as `["--tls-only"]`. Override it to have some."""
    return ()


@pytest.fixture
def jwsgate_key_file(jwsgate_application: "ClientApplication", tmp_path: Path) -> Path:
    """The private key of `jwsgate_application` as a PEM file, for clients that read theirs from one."""
    return jwsgate_application.write(tmp_path)[0]


@pytest.fixture
def jwsgate_certificate_file(jwsgate_application: "ClientApplication", tmp_path: Path) -> Path:
    """The certificate of `jwsgate_application` as a PEM file."""
    return jwsgate_application.write(tmp_path)[1]


@pytest.fixture
def jwsgate_portal_file(jwsgate_applications: "Sequence[ClientApplication]", tmp_path: Path) -> Path:
    """A portal export with `jwsgate_applications`, for tests that start a gate of their own."""
    from .testing import portal_export

    path = tmp_path / "portal.yaml"
    path.write_text(portal_export(jwsgate_applications), "utf-8")
    return path


@pytest.fixture
def jwsgate_policy_file(jwsgate_policy: str | Path, tmp_path: Path) -> Path:
    """`jwsgate_policy` as a file."""
    if isinstance(jwsgate_policy, Path):
        return jwsgate_policy
    path = tmp_path / "policy.yaml"
    path.write_text(jwsgate_policy, "utf-8")
    return path


@pytest.fixture(scope="session")
def jwsgate_gates() -> "Iterator[GatePool]":
    """Starts gates that run until the session ends: `jwsgate_gates.start(app, applications, policy, options)`."""
    from .testing import GatePool

    with GatePool() as pool:
        yield pool


@pytest.fixture
def jwsgate_gate(
    request: pytest.FixtureRequest,
    jwsgate_gates: "GatePool",
    jwsgate_upstream: "App",
    jwsgate_applications: "Sequence[ClientApplication]",
    jwsgate_policy: str | Path,
    jwsgate_options: Sequence[str],
) -> "Iterator[Gate]":
    """A running gate: `.url`, `.https_url`, `.ca_file`, `.request(…)`, and this test's `.decisions()` and `.log()`.

    Tests whose upstream, applications, policy and options are the same share one process. When a test fails, the report
    shows what the gate has logged meanwhile.
    """
    gate = jwsgate_gates.shared(jwsgate_upstream, jwsgate_applications, jwsgate_policy, jwsgate_options)
    yield gate
    request.node.add_report_section("teardown", "jwsgate log", gate.log())
