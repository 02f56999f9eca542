"""`jwsgate sign`."""

import hashlib
import json
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from jwsgate.core.algorithms import ALGORITHMS
from jwsgate.core.facts import RequestFacts
from jwsgate.core.policy import Route
from jwsgate.core.portal import Portal
from jwsgate.core.reasons import Rejection
from jwsgate.core.signing import base64url, compose
from jwsgate.core.signing import detached as without_payload
from jwsgate.core.sources import Source, with_value
from jwsgate.core.strict_json import StrictJsonError, parse_object
from jwsgate.core.wording import TIME_CLAIMS
from jwsgate.files.curl_command import split_url
from jwsgate.files.loading import policy_router, read_policy
from jwsgate.files.problems import ProblemsFound, Unfit, printable
from jwsgate.files.reading import read_octets
from jwsgate.files.signing_keys import SigningKey, read_signing_key

from .manual import Manual
from .options import policy_option

__all__ = ["sign_command"]

_PASSWORD: Final = "JWSGATE_KEY_PASSWORD"  # noqa: S105 - the name of a variable
_CLIENT_ID, _JWS = Source("header", "X-IBM-Client-Id"), Source("header", "jwt")


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False  # octets of the command line that are no UTF-8
    return True


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.removesuffix(":"):
        raise Unfit(f"{text!r} is no claim", "write name=text, or name:=JSON")
    if not name.endswith(":"):
        return name, int(value) if name in TIME_CLAIMS and value.isascii() and value.isdigit() else value
    try:
        members = parse_object(b'{"value":' + value.encode("utf-8") + b"}")
    except StrictJsonError:
        members = {}
    if list(members) != ["value"]:
        raise Unfit(f"{text!r} holds no JSON", "write name=text, or name:=JSON")
    return name[:-1], members["value"]


def _claims(file: BinaryIO | None, texts: Sequence[str], lifetime: int, jti: bool) -> dict[str, Any]:
    try:
        claims = {} if file is None else parse_object(file.read())
    except StrictJsonError as error:
        raise Unfit(f"the claims are refused: {error}", "give one JSON object") from None
    claims |= dict(map(_claim, texts))
    now = int(time.time())  # noqa: TID251 - the command line is where the clock is
    issued = claims.get("iat", now)
    claims.setdefault("iat", now)
    if not isinstance(issued, int | float):
        raise Unfit("iat is no number", "leave it out, or give Unix seconds")
    claims.setdefault("exp", int(issued) + lifetime)
    if jti:
        claims.setdefault("jti", str(uuid.uuid4()))
    return claims


def _payload(claims: dict[str, Any]) -> bytes:
    try:
        return json.dumps(claims, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError:
        # 1e400 is a JSON number, but reads as infinity, which no JSON can say.
        raise Unfit("the claims hold something that cannot be written as JSON", "correct it") from None


def _password(file: BinaryIO | None) -> Callable[[], bytes]:
    def ask() -> bytes:
        if file is not None:
            return file.read().removesuffix(b"\n").removesuffix(b"\r")
        if (known := os.environ.get(_PASSWORD)) is not None:
            return known.encode("utf-8", "surrogateescape")
        if not sys.stderr.isatty():
            raise Unfit("needs a password", f"give it with --password-file or {_PASSWORD}")
        typed: str = click.prompt("Password of the key", hide_input=True, err=True)
        return typed.encode("utf-8")

    return ask


@contextmanager
def _opened(name: str, password: Callable[[], bytes]) -> Iterator[SigningKey]:
    """The key of a file or a token; what is wrong with it is told with its name."""
    try:
        if name.startswith("pkcs11:"):
            from jwsgate.adapters.pkcs11 import token_key  # noqa: PLC0415 - an optional extra

            with token_key(name, password) as key:
                yield key
        else:
            yield read_signing_key(read_octets(Path(name)), password)
    except ProblemsFound as error:
        (problem,) = error.problems
        raise Unfit(f"{name}: {problem.message}", problem.remedy) from None
    except Unfit as error:
        raise Unfit(f"{name.partition('?')[0]}: {error}", error.remedy) from None


def _signed(
    key: str,
    password: Callable[[], bytes],
    cert: BinaryIO | None,
    x5t: bool,
    alg: str | None,
    header: dict[str, Any],
    payload: bytes,
) -> str:
    with _opened(key, password) as signer:
        name = alg or signer.algorithms[0]
        if name not in signer.algorithms:
            raise Unfit(f"the key cannot sign by {name}", f"it can by {', '.join(signer.algorithms)}")
        header = {"alg": name, **header}
        if x5t or cert is not None:
            header["x5t#S256"] = _thumbprint(signer, cert)
        return compose(header, payload, partial(signer.sign, name)).decode("ascii")


def _thumbprint(key: SigningKey, file: BinaryIO | None) -> str:
    certificate = key.certificate
    if file is not None:
        octets = file.read()
        try:
            load = x509.load_pem_x509_certificate if b"-----BEGIN" in octets else x509.load_der_x509_certificate
            certificate = load(octets)
        except ValueError:
            raise Unfit("--cert holds no certificate", "give the registered certificate, in PEM") from None
    if certificate is None:
        raise Unfit("--x5t needs the certificate", "give it with --cert")
    if certificate.public_key() != key.public_key:
        raise Unfit("the certificate is not that of the key", "give the certificate that belongs to the key")
    return base64url(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()).decode("ascii")


def _route(policies: Sequence[str], facts: RequestFacts) -> Route | None:
    """The route that the policies have for the request; None without a policy."""
    for name in policies:
        path = Path(name)
        router = policy_router(path, read_policy(path), Portal(()), time.time())  # noqa: TID251 - see above
        if router is None:
            raise Unfit(f"{name} has problems", f"run: jwsgate lint --policy {shlex.quote(name)}")
        try:
            route = router.find(facts.method, facts.target)
        except Rejection as rejection:
            raise Unfit(f"the URL cannot be called: {rejection.detail}", "correct it") from None
        if route is not None:
            return route
    if policies:
        raise Unfit("no policy has a route for this method and URL", "correct --method or the URL")
    return None


def _curl(
    url: str, method: str | None, client_id: str | None, policies: Sequence[str], jws: str, body: str | None
) -> str:
    """A curl command that sends the JWS where the policy looks for it."""
    try:
        host, target = split_url(url)
    except Unfit as error:
        raise Unfit(f"--curl {error}", error.remedy) from None
    facts = RequestFacts(method or ("GET" if body is None else "POST"), target.encode("utf-8"), ())
    route = _route(policies, facts)
    sent = with_value(facts, route.jws if route else _JWS, jws)
    if client_id is None:
        click.echo("sign: without --client-id the command sends none, and the gate refuses it", err=True)
    else:
        sent = with_value(sent, route.client_id if route else _CLIENT_ID, client_id)
    scheme = url.partition("://")[0] if "://" in url else "http"
    words = ["curl", "-sS", *(["-X", facts.method] if method else [])]
    for name, value in sorted(sent.headers):
        words += ["-H", f"{name.decode()}: {value.decode()}"]
    if body is not None:
        words += ["--data-binary", f"@{body}"]
    return shlex.join([*words, f"{scheme}://{host}{sent.target.decode()}"])


@click.command(
    "sign",
    cls=Manual,
    examples={
        "jwsgate sign --key client.key aud=orders --jti": "A JWS with iat and exp, good for five minutes.",
        "jwsgate sign --key client.p12 --x5t --client-id ID --curl https://api.example/orders": "A ready curl command.",
        "jwsgate sign --key client.key --claims claims.json 'scope:=[1,2]'": "Claims of a file, and one more.",
    },
    exit_codes={
        0: "signed",
        1: "what it prints cannot be written",
        2: "called wrongly, or a key or claims that cannot be used",
    },
)
@click.option(
    "--key",
    envvar="JWSGATE_KEY",
    show_envvar=True,
    metavar="FILE|pkcs11:URI",
    required=True,
    help="Private key in PEM, DER, PKCS #12 or OpenSSH's format, or in a token (RFC 7512; needs 'jwsgate[pkcs11]').",
)
@click.option(
    "--password-file",
    envvar="JWSGATE_PASSWORD_FILE",
    show_envvar=True,
    type=click.File("rb"),
    help=f"File with the password of the key, or the PIN of the token; otherwise {_PASSWORD} has it, or it is asked "
    "for. It is never taken from the command line.",
)
@click.option("--claims", type=click.File("rb"), help="File with the claims as a JSON object; - is standard input.")
@click.option(
    "--lifetime",
    envvar="JWSGATE_LIFETIME",
    show_envvar=True,
    metavar="SECONDS",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Time from iat to exp, where the claims have none.",
)
@click.option("--jti", is_flag=True, help="Add a jti, a random UUID, so that the JWS is good for single_use.")
@click.option(
    "--alg", type=click.Choice(ALGORITHMS), help="Algorithm; if not said, the usual one of the key (RS256, ES256, …)."
)
@click.option("--typ", metavar="TEXT", help="Header parameter typ, such as JWT.")
@click.option("--kid", metavar="TEXT", help="Header parameter kid; the gate ignores it.")
@click.option("--x5t", is_flag=True, help="Add x5t#S256, the thumbprint of the certificate.")
@click.option("--cert", type=click.File("rb"), help="The certificate for --x5t, where it is not in the key's file.")
@click.option(
    "--detached",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Sign this body in place of claims, and print a detached JWS (RFC 7515 appendix F).",
)
@click.option("--curl", metavar="URL", help="Print a curl command that calls this URL with the JWS.")
@click.option("--method", metavar="METHOD", help="Method of the curl command; if not said, GET, or POST with a body.")
@click.option(
    "--client-id",
    envvar="JWSGATE_CLIENT_ID",
    show_envvar=True,
    metavar="ID",
    help="Client ID that the curl command sends.",
)
@policy_option
@click.argument("claim", nargs=-1)
def sign_command(
    key: str,
    password_file: BinaryIO | None,
    claims: BinaryIO | None,
    lifetime: int,
    jti: bool,
    alg: str | None,
    typ: str | None,
    kid: str | None,
    x5t: bool,
    cert: BinaryIO | None,
    detached: str | None,
    curl: str | None,
    method: str | None,
    client_id: str | None,
    policies: tuple[str, ...],
    claim: tuple[str, ...],
) -> None:
    """Sign claims, and print the JWS or a curl command.

    CLAIM is name=text, or name:=JSON for numbers, truth values, lists and objects. iat and exp are added.

    The curl command sends client ID and JWS where the policy's route for the URL looks for them; without --policy, in
    the headers X-IBM-Client-Id and jwt.
    """
    if detached is not None and (claims is not None or claim or jti):
        raise click.UsageError("--detached signs the body; it goes with no claims.")
    if not all(text is None or _is_text(text) for text in (typ, kid, curl, method, client_id, *claim)):
        raise click.UsageError("What stands on the command line is no UTF-8.")
    try:
        payload = _payload(_claims(claims, claim, lifetime, jti)) if detached is None else Path(detached).read_bytes()
        header = {name: value for name, value in (("typ", typ), ("kid", kid)) if value is not None}
        jws = _signed(key, _password(password_file), cert, x5t, alg, header, payload)
        if detached is not None:
            jws = without_payload(jws)
        click.echo(jws if curl is None else _curl(curl, method, client_id, policies, jws, detached))
    except ProblemsFound as error:
        click.echo(f"sign: the policy cannot be used:\n{error}", err=True)
        sys.exit(2)
    except Unfit as error:
        click.echo(printable(f"sign: {error} ({error.remedy})"), err=True)
        sys.exit(2)
