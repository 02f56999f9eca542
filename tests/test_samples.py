"""The project's own files: samples that load, schemas that are current, tables that are complete."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml

from jwsgate.cli import main
from jwsgate.core.algorithms import ALGORITHMS
from jwsgate.core.answers import ANSWERS
from jwsgate.core.reasons import Reason
from jwsgate.demo import ensure_pair
from jwsgate.files.api_connect import policy_data
from jwsgate.files.documents import read_document
from jwsgate.files.loading import load_snapshot
from jwsgate.files.policy_tests import run_policy_tests
from jwsgate.files.shapes import Algorithm
from unit_material import ROOT

POLICIES = sorted((ROOT / "policies").glob("*.yaml"))
OWN_POLICIES = [path for path in POLICIES if not path.name.endswith("-api-connect.yaml")]
"""Those in the format of our own, which the schema describes."""
PORTALS = sorted((ROOT / "certs").glob("*.yaml"))
SCHEMAS = {"policy": ROOT / "policies" / "policy.schema.json", "portal": ROOT / "certs" / "portal.schema.json"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples as a first run finds them, with the demo's keys made."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("certs", "policies"):
        (folder / name).mkdir()
        for file in (ROOT / name).glob("*.yaml"):
            shutil.copy(file, folder / name)
    ensure_pair(folder / "certs" / "demo-client.key", folder / "certs" / "demo-client.crt", "demo")
    return folder


def test_there_are_samples() -> None:
    """The next tests have something to look at."""
    assert POLICIES
    assert PORTALS


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.name)
@pytest.mark.parametrize("portal", PORTALS, ids=lambda path: path.name)
def test_samples_load(checkout: Path, portal: Path, policy: Path) -> None:
    """Each policy with each export."""
    snapshot = load_snapshot(checkout / "certs" / portal.name, [checkout / "policies" / policy.name], time.time())
    assert len(snapshot.router) >= 1
    assert snapshot.portal.applications


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.name)
def test_samples_have_tests_that_pass(checkout: Path, policy: Path) -> None:
    """Each sample shows what it does by examples."""
    data, _ = policy_data(read_document(policy.name, policy.read_bytes()))
    assert len(data["tests"]) >= 3
    assert run_policy_tests([checkout / "policies" / policy.name], time.time()) == ([], len(data["tests"]))


def test_the_demo_is_the_original(checkout: Path) -> None:
    """The two client IDs of the original, one with a certificate and one without; its two paths."""
    snapshot = load_snapshot(
        checkout / "certs" / "portal.yaml", [checkout / "policies" / "signvalidate.yaml"], time.time()
    )
    expected = {"479b3df9-380e-4bda-8cc1-92718c88f9cd": 1, "1ab8edee-1d57-43ff-8e0c-4ae28a386b47": 0}
    assert expected == {
        client_id: len(application.certificates) for client_id, application in snapshot.portal.by_client_id.items()
    }
    found = [
        snapshot.router.match(method, ("tvo", "sandbox", "signvalidate", name))
        for method, name in (("POST", "sign"), ("GET", "validate"), ("GET", "sign"))
    ]
    assert [route.name if route else None for route in found] == ["sign", "validate", "upstream-sign"]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_committed_schemas_are_current(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The committed file is what `jwsgate schema` prints."""
    with pytest.raises(SystemExit):
        main(["schema", kind])
    assert capsys.readouterr().out == SCHEMAS[kind].read_text()


@pytest.mark.parametrize(
    ("kind", "path"),
    [*(("policy", path) for path in OWN_POLICIES), *(("portal", path) for path in PORTALS)],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_samples_validate_in_editors(kind: str, path: Path) -> None:
    """As an editor reads them: with YAML's own types, and by the schema that the first line names."""
    schema = json.loads(SCHEMAS[kind].read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))
    first, _, _ = path.read_text().partition("\n")
    assert f"# yaml-language-server: $schema={SCHEMAS[kind].name}" == first


def test_no_private_key_is_committed() -> None:
    """Samples hold no key; those of the demo are made on first run and ignored."""
    for path in (*POLICIES, *PORTALS, *SCHEMAS.values()):
        assert "PRIVATE KEY" not in path.read_text()
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"*.key", "/certs/demo-*"} <= set(ignored)


def test_algorithms_of_the_formats() -> None:
    """The formats know exactly the algorithms that the gate can verify."""
    assert get_args(Algorithm) == ALGORITHMS


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_answered(reason: Reason) -> None:
    """By a row of the one table."""
    assert reason in ANSWERS
