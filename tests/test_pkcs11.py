"""Keys in a token: signed in a real SoftHSM, verified by another library."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

import material
from core_gate import ALGORITHM_KEYS
from test_cli_sign import sign

PIN = "4711"
MODULE = next((str(path) for path in Path("/usr/lib").glob("**/softhsm/libsofthsm2.so")), "")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A token that holds the key of each kind, as a URI without the object; skipped where SoftHSM is missing."""
    program = shutil.which("softhsm2-util")
    if program is None or not MODULE:
        message = "softhsm2-util is not installed: apt-get install softhsm2 (Debian package softhsm2)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))  # read by the module when it is loaded
        patch.setenv("JWSGATE_KEY_PASSWORD", PIN)
        util = [program, "--module", MODULE, "--pin", PIN]
        start = [*util, "--init-token", "--free", "--label", "test token", "--so-pin", "0000"]
        subprocess.run(start, check=True, capture_output=True)
        for number, kind in enumerate(("rsa", "p256", "p384", "p521", "ed25519"), 1):
            path = folder / f"{kind}.pem"
            path.write_text(material.private_pem(material.private_key(kind)))  # type: ignore[arg-type]
            load = [*util, "--import", str(path), "--token", "test token", "--label", kind, "--id", f"0{number}"]
            subprocess.run(load, check=True, capture_output=True)
        yield f"pkcs11:token=test%20token?module-path={MODULE}"


def key(token: str, name: str) -> str:
    """The URI of one key."""
    return token.replace("?", f";object={name}?")


@pytest.mark.parametrize("algorithm", ALGORITHM_KEYS)
def test_algorithms(token: str, algorithm: str) -> None:
    """The token signs by each algorithm of its keys, and the key does not leave it."""
    kind = ALGORITHM_KEYS[algorithm]
    result = sign("--key", key(token, kind), "--alg", algorithm, "sub=me")
    assert (result.exit_code, result.stderr) == (0, "")
    public = material.private_key(kind).public_key()
    assert jwt.decode(result.stdout.strip(), public, [algorithm])["sub"] == "me"


@pytest.mark.parametrize(
    ("change", "pin", "words"),
    [
        pytest.param(("object=p256", "object=none"), PIN, "has not exactly one private key 'none'", id="object"),
        pytest.param(("test%20token", "other"), PIN, "cannot be opened", id="token"),
        pytest.param((MODULE, "/nowhere.so"), PIN, "cannot be opened", id="module"),
        pytest.param(("", ""), "wrong", "cannot be opened", id="pin"),
    ],
)
def test_refusals(token: str, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], pin: str, words: str) -> None:
    """What cannot be opened is told in a line, without the PIN."""
    monkeypatch.setenv("JWSGATE_KEY_PASSWORD", pin)
    result = sign("--key", key(token, "p256").replace(*change))
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert pin not in result.stderr


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the message says how to have it."""
    monkeypatch.setitem(__import__("sys").modules, "pkcs11", None)
    result = sign("--key", "pkcs11:token=a;object=b?module-path=/x")
    assert (result.exit_code, "pip install 'jwsgate[pkcs11]'" in result.stderr) == (2, True)
