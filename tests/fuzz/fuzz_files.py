"""Fuzzing harness for the files that the gate reads: see README.md beside this file.

The first octet of an input, a digit, chooses what the rest is: a portal export, a policy, or the text of a certificate.
"""

import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import atheris
except ImportError:  # replaying needs no atheris
    atheris = None

with atheris.instrument_imports(include=["jwsgate"]) if atheris else contextlib.nullcontext():
    from jwsgate.core.certificates import CertificateError, holds_private_key, read_certificate
    from jwsgate.core.policy import Router
    from jwsgate.files.api_connect import build_api_routes, is_api_definition
    from jwsgate.files.documents import Document, read_document
    from jwsgate.files.policy_file import build_routes
    from jwsgate.files.portal_file import Source, build_portal, read_thoroughly
    from jwsgate.files.problems import Problem, ProblemsFound, Unfit

import replay

from core_gate import NoFiles


def _no_text(_file: str, _name: str) -> str:
    raise Unfit("names a file, and there is none", "name none")


def _told(problems: list[Problem], octets: bytes) -> None:
    lines = octets.count(b"\n") + octets.count(b"\r") + 2
    for problem in problems:
        assert "\n" not in str(problem)
        assert problem.message
        assert problem.remedy
        assert 0 <= problem.line <= lines, problem


def _portal(octets: bytes) -> None:
    portal, problems = build_portal([Source("fuzz.yaml", octets)], _no_text)
    _told(problems, octets)
    assert (portal is None) is bool(problems)
    if portal is not None:
        # What the fast reading accepts, the thorough one finds no fault with, and reads alike.
        thorough = read_thoroughly([Source("fuzz.yaml", octets)], _no_text)
        assert not thorough.problems
        assert thorough.portal == portal
        assert thorough.portal.index == portal.index


def _policy(document: Document) -> None:
    router = Router()
    build = build_api_routes if is_api_definition(document) else build_routes
    problems = build(document, router, NoFiles())
    _told(problems, document.octets)
    assert problems or len(router)


def _certificate(text: str) -> None:
    try:
        certificate = read_certificate(text)
    except CertificateError as error:
        assert error.remedy
        return
    assert not holds_private_key(text)
    assert certificate.key.algorithms


def one_input(data: bytes) -> None:
    """Read one input; raises when a property is broken."""
    mode, rest = ((data[0] - 48) % 3, data[1:]) if data else (0, b"")
    if mode == 2:
        _certificate(rest.decode("utf-8", "replace"))
        return
    if mode == 0:
        _portal(rest)
        return
    try:
        document = read_document("fuzz.yaml", rest)
    except ProblemsFound as error:
        assert error.problems
        return
    _policy(document)


if __name__ == "__main__":
    replay.main(one_input, atheris)
