"""`jwsgate sign`: what it prints is verified by another library, by the gate's decision, and by a real curl's words."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pty
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

import material
from core_gate import ALGORITHM_KEYS, KINDS, certificate_of
from feature_material import CLIENT_ID, a_route, a_snapshot, an_application
from jwsgate import cli
from jwsgate.core.decision import Allowed, AwaitsBody, decide, decide_body
from jwsgate.files.curl_command import read_curl

PASSWORD = "correct horse ünïcode"
PLAIN = serialization.NoEncryption()
SEALED = serialization.BestAvailableEncryption(PASSWORD.encode())


def sign(*arguments: str, given: bytes | None = None, env: Mapping[str, str] | None = None) -> Result:
    """One call; an exception that does not become an exit code is a failure."""
    result = CliRunner().invoke(cli.main, ["sign", *arguments], input=given, env=env, prog_name="jwsgate")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def signed(*arguments: str, given: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
    """The JWS that a call prints, and nothing else."""
    result = sign(*arguments, given=given, env=env)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.removesuffix("\n")


def claims_of(token: str, key: material.PrivateKey) -> dict[str, Any]:
    """The claims, verified by PyJWT."""
    algorithm = jwt.get_unverified_header(token)["alg"]
    claims: dict[str, Any] = jwt.decode(
        token, key.public_key(), [algorithm], options={"verify_aud": False, "verify_iat": False, "verify_exp": False}
    )
    return claims


def leaf(kind: material.KeyKind) -> x509.Certificate:
    """The certificate over the key of a kind."""
    return x509.load_pem_x509_certificate(material.certificate(material.private_key(kind)).encode())


def written(folder: Path, form: str, kind: material.KeyKind = "p256") -> Path:
    """A key in a file of a form."""
    key = material.private_key(kind)
    octets = {
        "pem": lambda: material.private_pem(key).encode(),
        "pem-with-certificate": lambda: "".join((material.certificate(key), material.private_pem(key))).encode(),
        "traditional": lambda: key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN
        ),
        "der": lambda: key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, PLAIN),
        "encrypted": lambda: key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, SEALED),
        "encrypted-der": lambda: key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, SEALED
        ),
        "openssh": lambda: key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, PLAIN),
        "encrypted-openssh": lambda: key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, SEALED
        ),
        "p12": lambda: pkcs12.serialize_key_and_certificates(b"client", key, leaf(kind), None, SEALED),
        "p12-open": lambda: pkcs12.serialize_key_and_certificates(b"client", key, leaf(kind), None, PLAIN),
    }[form]()
    path = folder / f"{kind}.{form}"
    path.write_bytes(octets)
    return path


FORMS = [
    "pem", "pem-with-certificate", "traditional", "der", "encrypted", "encrypted-der", "openssh", "encrypted-openssh",
    "p12", "p12-open",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_keys(tmp_path: Path, form: str) -> None:
    """Every form in which clients keep their key; the password comes from the environment."""
    path = written(tmp_path, form)
    token = signed("--key", str(path), "sub=me", env={"JWSGATE_KEY_PASSWORD": PASSWORD})
    assert claims_of(token, material.private_key("p256"))["sub"] == "me"


@pytest.mark.parametrize("algorithm", ALGORITHM_KEYS)
def test_algorithms(tmp_path: Path, algorithm: str) -> None:
    """Each algorithm that the gate verifies, by a key that has it; without --alg it is the usual one of the key."""
    key = material.private_key(ALGORITHM_KEYS[algorithm])
    path = written(tmp_path, "pem", ALGORITHM_KEYS[algorithm])
    token = signed("--key", str(path), "--alg", algorithm)
    assert jwt.get_unverified_header(token) == {"alg": algorithm}
    usual = jwt.get_unverified_header(signed("--key", str(path)))["alg"]
    assert usual == {"rsa": "RS256"}.get(ALGORITHM_KEYS[algorithm], algorithm)
    snapshot = a_snapshot([an_application(certificate_of(key))])
    facts, _ = read_curl(f"curl http://h/ -H 'jwt: {token}' -H 'X-IBM-Client-Id: {CLIENT_ID}'")
    assert isinstance(decide(snapshot, facts, time.time()), Allowed)


def test_claims(tmp_path: Path) -> None:
    """Of a file, then name=text and name:=JSON; iat, exp and jti are added where they are not there."""
    path = str(written(tmp_path, "pem"))
    key = material.private_key("p256")
    before = int(time.time())
    claims = claims_of(signed("--key", path, "aud=x=y", 'n:={"a":[1,true]}', "iss="), key)
    assert before <= claims["iat"] <= time.time()
    assert claims == {"aud": "x=y", "n": {"a": [1, True]}, "iss": "", "iat": claims["iat"], "exp": claims["iat"] + 300}
    (tmp_path / "claims.json").write_text('{"aud": "a", "iss": "i"}')
    claims = claims_of(signed("--key", path, "--claims", str(tmp_path / "claims.json"), "aud=b", "--jti"), key)
    assert (claims["aud"], claims["iss"], len(claims["jti"])) == ("b", "i", 36)
    again = claims_of(signed("--key", path, "--jti"), key)["jti"]
    assert again != claims["jti"]
    claims = claims_of(signed("--key", path, "--claims", "-", "iat=5", "--lifetime", "7", given=b'{"jti": "own"}'), key)
    assert claims == {"jti": "own", "iat": 5, "exp": 12}
    assert claims_of(signed("--key", path, "exp=5", "nbf=6"), key).items() >= {"exp": 5, "nbf": 6}.items()


def test_header_parameters(tmp_path: Path) -> None:
    """typ, kid and x5t#S256, which is base64url of the certificate's SHA-256, from the key's file or --cert."""
    expected = base64.urlsafe_b64encode(hashlib.sha256(leaf("p256").public_bytes(serialization.Encoding.DER)).digest())
    token = signed("--key", str(written(tmp_path, "p12-open")), "--typ", "at+jwt", "--kid", "k1", "--x5t")
    header = {"alg": "ES256", "typ": "at+jwt", "kid": "k1", "x5t#S256": expected.rstrip(b"=").decode()}
    assert jwt.get_unverified_header(token) == header
    (tmp_path / "crt").write_text(material.certificate(material.private_key("p256")))
    token = signed("--key", str(written(tmp_path, "pem")), "--cert", str(tmp_path / "crt"))
    assert jwt.get_unverified_header(token)["x5t#S256"] == header["x5t#S256"]


@pytest.mark.parametrize("form", ["encrypted", "encrypted-der", "p12"])
@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        pytest.param([], {}, "JWSGATE_KEY_PASSWORD", id="none"),
        pytest.param([], {"JWSGATE_KEY_PASSWORD": "wrong"}, "cannot be opened with this password", id="wrong"),
    ],
)
def test_password_missing_or_wrong(
    tmp_path: Path, form: str, arguments: list[str], env: dict[str, str], words: str
) -> None:
    """Without a terminal nobody is asked, and the message says what to do."""
    result = sign("--key", str(written(tmp_path, form)), *arguments, env=env)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_password_file(tmp_path: Path) -> None:
    """A file has the password, with or without a line break."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    token = signed("--key", str(written(tmp_path, "encrypted")), "--password-file", str(tmp_path / "password"))
    assert claims_of(token, material.private_key("p256"))


def test_password_is_asked_for(tmp_path: Path) -> None:
    """At a terminal the password is typed, and not shown."""
    command = [sys.executable, "-m", "jwsgate", "sign", "--key", str(written(tmp_path, "encrypted")), "sub=me"]
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        command, stdin=other_end, stdout=subprocess.PIPE, stderr=other_end, text=True, start_new_session=True
    )
    shown = b""
    while b":" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, PASSWORD.encode() + b"\n")
    token, _ = process.communicate(timeout=30)
    os.set_blocking(terminal, False)
    with contextlib.suppress(OSError):
        shown += os.read(terminal, 1024)
    os.close(terminal)
    os.close(other_end)
    assert shown.startswith(b"Password of the key:")
    assert PASSWORD.encode() not in shown
    assert claims_of(token.strip(), material.private_key("p256"))["sub"] == "me"


def test_password_is_no_argument() -> None:
    """No option takes a password, which everybody could read in the list of processes."""
    names = {name for parameter in cli.main.commands["sign"].params for name in parameter.opts}
    assert {name for name in names if "pass" in name or "pin" in name} == {"--password-file"}


def test_curl(tmp_path: Path) -> None:
    """The command is quoted so that a shell gives the words back, whatever is in them."""
    path = str(written(tmp_path, "pem"))
    line = signed("--key", path, "--curl", "https://h/a?x='$(id)'&b=1", "--client-id", 'it\'s "me" $HOME')
    words = shlex.split(line)
    assert words[0] == "curl"
    assert words[-1] == "https://h/a?x='$(id)'&b=1"
    assert 'X-IBM-Client-Id: it\'s "me" $HOME' in words
    (token,) = (word.removeprefix("jwt: ") for word in words if word.startswith("jwt: "))
    assert claims_of(token, material.private_key("p256"))


def test_curl_without_client_id(tmp_path: Path) -> None:
    """Such a command is printed, for somebody to complete, but not without a word: it cannot pass."""
    result = sign("--key", str(written(tmp_path, "pem")), "--curl", "https://h/a")
    assert result.exit_code == 0
    assert result.stdout.startswith("curl -sS -H 'jwt: ey")
    assert result.stderr == "sign: without --client-id the command sends none, and the gate refuses it\n"


def test_curl_where_the_policy_says(tmp_path: Path) -> None:
    """With a policy, client ID and JWS go where its route for the URL looks for them."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "routes:\n"
        "  - {path: /a, methods: [PUT], client_id: {query: client_id}, jws: {header: Authorization, scheme: Bearer}}\n"
        "  - {path: /b, jws: {cookie: token}}\n"
    )
    arguments = ["--key", str(written(tmp_path, "pem")), "--client-id", "c", "--policy", str(policy)]
    words = shlex.split(signed(*arguments, "--method", "PUT", "--curl", "http://h/a"))
    assert words[:4] == ["curl", "-sS", "-X", "PUT"]
    assert words[5].startswith("Authorization: Bearer ey")
    assert words[-1] == "http://h/a?client_id=c"
    words = shlex.split(signed(*arguments, "--curl", "http://h/b"))
    assert words[3].startswith("Cookie: token=ey")
    result = sign(*arguments, "--curl", "http://h/c")
    assert (result.exit_code, "no policy has a route" in result.stderr) == (2, True)


def test_detached(tmp_path: Path) -> None:
    """The body is signed, and the curl command sends that very file."""
    body = tmp_path / "body.bin"
    body.write_bytes(b"\0\n{}")
    key = material.private_key("p256")
    line = signed(
        "--key", str(written(tmp_path, "pem")), "--detached", str(body), "--curl", "http://h/", "--client-id", CLIENT_ID
    )
    assert shlex.split(line)[-3:-1] == ["--data-binary", f"@{body}"]
    facts, _ = read_curl(line)
    decision = decide(a_snapshot([an_application(certificate_of(key))], a_route(detached=True)), facts, time.time())
    assert isinstance(decision, AwaitsBody)
    assert isinstance(decide_body(decision, body.read_bytes()), Allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_algorithm(tmp_path: Path, kind: material.KeyKind) -> None:
    """An algorithm of another kind of key is refused, with those that there are."""
    result = sign("--key", str(written(tmp_path, "pem", kind)), "--alg", "PS512" if kind == "p256" else "ES256")
    assert result.exit_code == 2
    assert "the key cannot sign by" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--key", "/nowhere"], "/nowhere: does not exist", id="no-file"),
        pytest.param(["--key", "KEY", "sub"], "'sub' is no claim", id="claim"),
        pytest.param(["--key", "KEY", "=x"], "'=x' is no claim", id="nameless-claim"),
        pytest.param(["--key", "KEY", "n:={"], "holds no JSON", id="json"),
        pytest.param(["--key", "KEY", 'n:=1,"m":2'], "holds no JSON", id="json-that-breaks-out-holds-more"),
        pytest.param(["--key", "KEY", "n:=1e400"], "cannot be written as JSON", id="infinity"),
        pytest.param(["--key", "KEY", "n=\udcff"], "no UTF-8", id="claim-of-octets"),
        pytest.param(["--key", "KEY", "--kid", "\udcff"], "no UTF-8", id="kid-of-octets"),
        pytest.param(["--key", "KEY", "--curl", "http://h/\udcff"], "no UTF-8", id="url-of-octets"),
        pytest.param(["--key", "KEY", "iat=soon"], "iat is no number", id="iat"),
        pytest.param(["--key", "KEY", "--claims", "-"], "the claims are refused", id="claims"),
        pytest.param(["--key", "KEY", "--x5t"], "--x5t needs the certificate", id="x5t"),
        pytest.param(["--key", "KEY", "--cert", "KEY"], "--cert holds no certificate", id="cert"),
        pytest.param(["--key", "KEY", "--cert", "OTHER"], "is not that of the key", id="other-cert"),
        pytest.param(["--key", "OTHER"], "no private key", id="certificate-as-key"),
        pytest.param(["--key", "KEY", "--curl", "http://["], "URL that cannot be read", id="url"),
        pytest.param(["--key", "KEY", "--detached", "KEY", "a=b"], "goes with no claims", id="detached-claims"),
        pytest.param(["--key", "KEY", "--curl", "http://h", "--policy", "KEY"], "policy", id="policy"),
        pytest.param(["--key", "pkcs11:token=a"], "names no module-path or no object", id="pkcs11"),
        pytest.param(["--key", "pkcs11:object=a?module-path=/x&pin-value=1234"], "holds the PIN", id="pin"),
    ],
)
def test_usage(tmp_path: Path, arguments: list[str], words: str) -> None:
    """What cannot be done is told in words, with exit code 2, and no key material."""
    key = written(tmp_path, "pem")
    other = tmp_path / "other.crt"
    other.write_text(material.certificate(material.private_key("p384")))
    result = sign(*[{"KEY": str(key), "OTHER": str(other)}.get(a, a) for a in arguments], given=b"[]")
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert "1234" not in result.stderr
    assert "PRIVATE KEY" not in result.stderr
