"""The files of deploy/ that no program here can run: held against schemas and against the package's own options.

Those of proxies are run with theirs in tests/e2e.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from jwsgate.cli import main

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted(folder for folder in (DEPLOY / "kubernetes").iterdir() if folder.is_dir())
DIALECTS = next(option.type.choices for option in main.commands["serve"].params if option.name == "dialect")
FOLDERS = [pytest.param(folder, id=folder.name) for folder in KUBERNETES]


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """The objects of a kustomization."""
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((folder / name).read_text())


def pods(folder: Path) -> Iterator[dict[str, Any]]:
    """The pods that a kustomization has run."""
    return (each["spec"]["template"]["spec"] for each in documents(folder) if each["kind"] == "Deployment")


def gates(folder: Path) -> list[dict[str, Any]]:
    """The containers that run the gate."""
    every = [one for pod in pods(folder) for kind in ("initContainers", "containers") for one in pod.get(kind, [])]
    return [one for one in every if one["name"] == "jwsgate"]


def parsed(arguments: list[str]) -> dict[str, Any]:
    """What the command line makes of arguments; raises when it does not know them."""
    command = main.commands[arguments[0]]
    return command.make_context(arguments[0], arguments[1:]).params


@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_are_valid(folder: Path) -> None:
    """Every object is what the schema of Kubernetes says, strictly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own imports
        kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (PyPI)")
    version = kubernetes_validate.latest_version()
    count = 0
    for document in documents(folder):
        kubernetes_validate.validate(document, version, strict=True)
        count += 1
    assert count >= 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomization_renders(folder: Path) -> None:
    """kubectl makes of it the same objects, valid still, and a map of the files under the name that pods mount."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl (Debian: kubernetes-client)")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rendered = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    written = {(each["kind"], each["metadata"]["name"]) for each in documents(folder)}
    assert rendered.keys() == written | {("ConfigMap", "jwsgate")}
    assert rendered["ConfigMap", "jwsgate"]["data"] == {
        name: (folder / name).read_text() for name in ("portal.yaml", "policy.yaml")
    }
    mounted = [
        volume["configMap"]["name"]
        for (kind, _), each in rendered.items()
        if kind == "Deployment"
        for volume in each["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    ]
    assert mounted == ["jwsgate"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own imports
        kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (PyPI)")
    for each in rendered.values():
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomization_has_its_files(folder: Path) -> None:
    """Every file that it names is there, and every file there is named."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    named = {*kustomization["resources"], *(f for each in kustomization["configMapGenerator"] for f in each["files"])}
    assert {path.name for path in folder.iterdir()} == named | {"kustomization.yaml"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_gate_is_started_with_what_it_knows(folder: Path) -> None:
    """The arguments are those of the command line; files, probes and times fit together."""
    (gate,) = gates(folder)
    options = parsed(gate["args"])
    mounts = {mount["mountPath"]: mount for mount in gate["volumeMounts"]}
    assert mounts["/etc/jwsgate"].keys() == {"name", "mountPath", "readOnly"}  # a subPath would never change
    for path in (options["portal"], *options["policies"]):
        assert (folder / Path(path).name).is_file()
        assert str(Path(path).parent) in mounts
    ports = {port["name"]: port["containerPort"] for port in gate["ports"]}
    assert options["admin"][1] == ports["admin"]
    assert options["listen"][1] in ports.values()
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert gate[probe]["httpGet"] == {"path": path, "port": "admin"}
    (pod,) = pods(folder)
    assert pod["terminationGracePeriodSeconds"] > options["drain_seconds"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_restricted(folder: Path) -> None:
    """What the pod security standard `restricted` asks for, and a root file system that cannot be written."""
    for pod in pods(folder):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            expected = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["securityContext"] == expected


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_load(folder: Path) -> None:
    """The portal and the policy that come with it are good."""
    command = [sys.executable, "-m", "jwsgate", "lint"]
    arguments = ["--portal", str(folder / "portal.yaml"), "--policy", str(folder / "policy.yaml")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_container_file() -> None:
    """It copies what is there, installs extras that there are, and runs as nobody. Not built here."""
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
    (extras,) = re.findall(r'"\.\[(.*)\]"', text)
    known = re.findall(r"^([a-z-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(known)
    stages = text.split("\nFROM ")
    assert "USER 65532:65532" in stages[-1]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_container_has_what_dialects_need(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever extra the command line asks for when nothing is installed is in the container."""
    (extras,) = re.findall(r'"\.\[(.*)\]"', (DEPLOY / "Containerfile").read_text())
    missing = {"uvloop", "httptools", "h2", "envoy.service.auth.v3"}
    asked = []
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    for _ in range(3):
        said = CliRunner().invoke(main, ["serve", "--dialect", dialect, "--portal", "no.yaml", "--policy", "no.yaml"])
        (extra,) = re.findall(r"jwsgate\[(.*)\]", said.output) or [""]
        if not extra:
            break
        asked.append(extra)
        missing -= {"serve": {"uvloop", "httptools"}, "grpc": {"h2", "envoy.service.auth.v3"}}[extra]
    assert asked == (["serve", "grpc"] if dialect == "envoy-grpc" else ["serve"])
    assert set(asked) <= set(extras.split(","))


def test_systemd_unit(tmp_path: Path) -> None:
    """systemd takes it without a word, and the command line knows its options."""
    text = (DEPLOY / "systemd" / "jwsgate-serve.service").read_text()
    (command,) = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", text, re.MULTILINE)
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert parsed(arguments)["dialect"] == "nginx"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    unit = tmp_path / "jwsgate-serve.service"
    unit.write_text(text.replace(program, str(Path(sys.executable).parent / "jwsgate")))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_options_are_looked_at() -> None:
    """An option that is none is noticed by what these tests rely on."""
    with pytest.raises(click.UsageError):
        parsed(["serve", "--dialect=nginx", "--no-such-option=1"])
