"""The main job once more at both doors, with sign and validate from the sample of an API Connect definition."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import material
from e2e import gates, test_main_job
from e2e.estate import KEYS, POLICY, RSA, write_files
from e2e.gates import Door, Gate
from e2e.upstream import RecordingUpstream
from unit_material import ROOT

pytestmark = pytest.mark.e2e

# The very tests of the main job; collected here, they get the gate of this module.
SAME = {
    name: test
    for name, test in vars(test_main_job).items()
    if name.startswith("test_") and "gate" in inspect.signature(test).parameters
}
globals().update(SAME)


def rest_of_policy() -> str:
    """The shared policy without the two routes that the definition has."""
    start = POLICY.index("  - name: upstream-sign")
    assert POLICY[:start].count("- name: ") == 2
    return "routes:\n" + POLICY[start:]


@pytest.fixture(scope="module")
def gate(
    door: Door, home: Path, session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """A gate with the definition as one policy, and the rest of the shared policy as another."""
    folder = tmp_path_factory.mktemp("api-connect")
    files = write_files(folder / "policies", policy=rest_of_policy())
    definition = Path(shutil.copy(ROOT / "policies" / "signvalidate-api-connect.yaml", folder / "policies"))
    # The one thing that the shared policy demands beyond the original, and the sample does not.
    definition.write_text(definition.read_text() + "  claims: {required: [exp]}\n")
    (folder / "certs").mkdir()
    (folder / "certs" / "demo-client.key").write_text(material.private_pem(KEYS[RSA]))
    more = ["--policy", str(definition)] if door == "jwsgate run" else ["--set", f"jwsgate_policy={definition}"]
    with gates.running(
        lambda port: gates.command(
            door,
            upstream=session_upstream.url,
            port=port,
            portal=files.portal,
            policy=files.policy,
            arguments=more,
        ),
        env=gates.environment(home),
        directory=folder,
        name=door,
    ) as gate:
        yield gate
        alive = gate.process.poll() is None
    assert alive, f"the gate did not live to the end:\n{gate.log()}"
    _, found, after = gate.log().partition("Traceback")
    assert not found, after[:5000]


def test_the_main_job_is_here() -> None:
    """Sign and validate among it: a rename must not leave this module empty."""
    assert {"test_signed_token_validates", "test_validate_answers_the_signed_octets"} <= SAME.keys()
    assert len(SAME) > 40
