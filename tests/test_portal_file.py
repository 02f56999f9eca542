"""Portal exports as people and portals write them: what is read, and what is refused with which words."""

from __future__ import annotations

import base64
import hashlib
import json
import textwrap
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

import material
from jwsgate.core.portal import Portal, usable_certificates
from jwsgate.files.problems import Unfit
from unit_material import (
    CLIENT_ID,
    OTHER_CLIENT_ID,
    Place,
    chain,
    der_of,
    good_portal,
    places,
    portal_problems,
    read_portal,
)

KEY = material.private_key("p256")
PEM = material.certificate(KEY)
THUMBPRINT = hashlib.sha256(der_of(PEM)).hexdigest()


def export(*applications: Mapping[str, Any]) -> str:
    """An export as JSON."""
    return json.dumps({"total_results": len(applications), "results": list(applications)})


def one_application(**fields: Any) -> str:
    """An export of one application with one credential and some fields more."""
    return export({"name": "a", "credentials": [{"client_id": CLIENT_ID}], **fields})


def thumbprints(portal: Portal) -> list[list[str]]:
    """The registered certificates of each application."""
    return [[certificate.thumbprint for certificate in app.certificates] for app in portal.applications]


# Fields


def test_application_fields() -> None:
    """A whole application, in the shape that the portal gives it, with much that is of no use here."""
    text = f"""\
total_results: 1
results:
  - type: app
    api_version: 2.0.0
    id: 5b4c8b0e-8f0e-4a52-9d0b-0c9a2f6d7a11
    name: orders
    title: Orders for über
    summary:
    state: enabled
    lifecycle_state: production
    client_id: {CLIENT_ID}
    client_secret: wrong-place-for-a-secret
    redirect_endpoints: []
    application_public_certificate_entry: |
{textwrap.indent(PEM, "      ")}
    org_url: /api/orgs/1
    credentials:
      - {{id: x, client_id: {CLIENT_ID}, name: c, client_secret_hashed: aGFzaA==}}
      - {{id: y, client_id: {OTHER_CLIENT_ID}}}
    metadata: {{a: b}}
    is_suspended: false
    created_at: 2020-01-01T00:00:00.000Z
"""
    (application,) = good_portal(text).applications
    expected = ("orders", "Orders for über", True, (CLIENT_ID, OTHER_CLIENT_ID), THUMBPRINT)
    assert expected == (
        application.name,
        application.title,
        application.enabled,
        application.client_ids,
        application.certificates[0].thumbprint,
    )


def test_secrets_are_not_kept() -> None:
    """No client secret, hashed or not, is part of what was read."""
    text = one_application(
        client_secret="hush-1", credentials=[{"client_id": CLIENT_ID, "client_secret_hashed": "hush-2"}]
    )
    assert "hush" not in repr(good_portal(text))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"name": "n", "title": "t"}, ("n", "t"), id="both"),
        pytest.param({"name": "n"}, ("n", "n"), id="name-only"),
        pytest.param({"title": "t"}, ("t", "t"), id="title-only"),
        pytest.param({"name": None, "title": "t"}, ("t", "t"), id="null-name"),
        pytest.param({}, ("", ""), id="neither"),
    ],
)
def test_names(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    """Name and title stand in for each other."""
    (application,) = good_portal(export(fields)).applications
    assert expected == (application.name, application.title)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, True, id="nothing-said"),
        pytest.param({"state": "enabled"}, True, id="enabled"),
        pytest.param({"state": "disabled"}, False, id="disabled"),
        pytest.param({"state": "pending"}, False, id="pending"),
        pytest.param({"is_suspended": False}, True, id="not-suspended"),
        pytest.param({"is_suspended": True}, False, id="suspended"),
        pytest.param({"state": "enabled", "is_suspended": True}, False, id="enabled-but-suspended"),
        pytest.param({"state": "disabled", "is_suspended": False}, False, id="disabled-not-suspended"),
        pytest.param({"state": "enabled", "lifecycle_state": "development"}, True, id="development"),
    ],
)
def test_enabled(fields: dict[str, Any], expected: bool) -> None:
    """Only an enabled application that is not suspended may call."""
    (application,) = good_portal(one_application(**fields)).applications
    assert expected == application.enabled


@pytest.mark.parametrize("state", ["Enabled", "ENABLED", "archived", "true", ""])
def test_unknown_state(state: str) -> None:
    """A state that nobody knows is neither taken for enabled nor for disabled."""
    (problem,) = portal_problems(one_application(state=state))
    expected = ("results[0].state", "is not one of the known values", "use 'enabled', 'disabled' or 'pending'")
    assert expected == (problem.path, problem.message, problem.remedy)


def test_suspended_must_be_a_boolean() -> None:
    """What is neither true nor false is a problem."""
    (problem,) = portal_problems("results:\n  - is_suspended: perhaps\n")
    expected = (2, 19, "results[0].is_suspended", "is neither true nor false")
    assert expected == (problem.line, problem.column, problem.path, problem.message)


def test_no_application() -> None:
    """A portal without applications is one."""
    assert tuple(good_portal("results: []").applications) == ()


# Client IDs


@pytest.mark.parametrize(
    "client_id",
    [
        "0123456",
        "123",
        "2020-01-01",
        "2020-01-01T00:00:00Z",
        "yes",
        "off",
        "true",
        "1e5",
        "0x1F",
        "0o17",
        "1_000",
        "12:30:45",
        ".inf",
        "=",
        "479b3df9380e4bda8cc192718c88f9cd",
        "00000000000000000000000000000000",
        "12345678901234567890123456789012",
        "with inner space",
        "grüße-日本",
    ],
)
@pytest.mark.parametrize("field", ["client_id: {}", "credentials: [{{client_id: {}}}]"], ids=["own", "credential"])
def test_unquoted_client_ids_stay_text(field: str, client_id: str) -> None:
    """The client sends text, so the client ID is the text that was written."""
    portal = good_portal(f"results:\n  - {field.format(client_id)}\n")
    assert [client_id] == list(portal.by_client_id)


@pytest.mark.parametrize("written", ["null", "~", "", "Null"])
def test_null_client_id_of_a_credential_is_a_problem(written: str) -> None:
    """A credential without a client ID is a mistake, and its ID is not the text null."""
    (problem,) = portal_problems(f"results:\n  - credentials:\n      - client_id: {written}\n")
    expected = ("results[0].credentials[0].client_id", "is empty", 3)
    assert expected == (problem.path, problem.message, problem.line)


@pytest.mark.parametrize("written", ["null", "~", ""])
def test_null_client_id_of_an_application_is_none(written: str) -> None:
    """An application of which only the credentials have client IDs may say so with null."""
    portal = good_portal(f"results:\n  - client_id: {written}\n    credentials: [{{client_id: {CLIENT_ID}}}]\n")
    assert list(portal.by_client_id) == [CLIENT_ID]


def test_quoted_null_is_a_client_id() -> None:
    """Quoted, null is four letters."""
    assert list(good_portal('results:\n  - credentials: [{client_id: "null"}]').by_client_id) == ["null"]


@pytest.mark.parametrize(
    ("credential", "path", "message"),
    [
        pytest.param({}, "results[0].credentials[0].client_id", "is missing", id="missing"),
        pytest.param({"client_id": ""}, "results[0].credentials[0].client_id", "is empty", id="empty"),
        pytest.param({"client_id": ["x"]}, "results[0].credentials[0].client_id", "is not text", id="list"),
        pytest.param({"client_id": {}}, "results[0].credentials[0].client_id", "is not text", id="mapping"),
        pytest.param("x", "results[0].credentials[0]", "is not a mapping", id="no-mapping"),
        pytest.param(
            {"client_id": " x"},
            "results[0].credentials[0].client_id",
            "has white space at an end or a control character",
            id="space-before",
        ),
        pytest.param(
            {"client_id": "x\n"},
            "results[0].credentials[0].client_id",
            "has white space at an end or a control character",
            id="line-feed-after",
        ),
        pytest.param(
            {"client_id": "   "},
            "results[0].credentials[0].client_id",
            "has white space at an end or a control character",
            id="spaces-only",
        ),
        pytest.param(
            {"client_id": "x\u001b[2Jy"},
            "results[0].credentials[0].client_id",
            "has white space at an end or a control character",
            id="escape-inside",
        ),
        pytest.param(
            {"client_id": "x\u202ey"},
            "results[0].credentials[0].client_id",
            "has white space at an end or a control character",
            id="right-to-left-override",
        ),
    ],
)
def test_client_ids_that_cannot_be(credential: Any, path: str, message: str) -> None:
    """No header could carry these, or nobody meant them."""
    (problem,) = portal_problems(export({"credentials": [credential]}))
    assert (path, message) == (problem.path, problem.message)
    assert str(problem).isprintable()


@pytest.mark.parametrize("credentials", ["null", "[]", ""])
def test_application_without_credentials(credentials: str) -> None:
    """An application that nobody can call as yet is no mistake."""
    portal = good_portal(f"results:\n  - name: a\n    credentials: {credentials}\n")
    assert [application.client_ids for application in portal.applications] == [()]


def test_application_repeats_its_credential() -> None:
    """Some exports show the client ID of a credential at the application as well: one client ID."""
    portal = good_portal(one_application(client_id=CLIENT_ID))
    assert [application.client_ids for application in portal.applications] == [(CLIENT_ID,)]


def test_many_credentials() -> None:
    """Each credential identifies its application, in the order of the file."""
    portal = good_portal(export({"credentials": [{"client_id": f"c{n}"} for n in range(5)]}))
    assert [application.client_ids for application in portal.applications] == [("c0", "c1", "c2", "c3", "c4")]


def test_client_ids_are_compared_exactly() -> None:
    """Leading zeros, letter case and spaces inside make different client IDs."""
    ids = ["0123", "123", "abc", "ABC", "a b", "ab"]
    portal = good_portal(export(*({"name": n, "credentials": [{"client_id": n}]} for n in ids)))
    assert ids == list(portal.by_client_id)
    assert ids == [application.name for application in portal.by_client_id.values()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "results:\n  - credentials: [{client_id: x}]\n  - credentials: [{client_id: x}]\n",
            [(3, 31, "results[1].credentials[0].client_id", "results[0].credentials[0].client_id")],
            id="two-applications",
        ),
        pytest.param(
            "results:\n  - client_id: x\n  - client_id: x\n",
            [(3, 16, "results[1].client_id", "results[0].client_id")],
            id="two-applications-own",
        ),
        pytest.param(
            "results:\n  - client_id: x\n  - credentials: [{client_id: x}]\n",
            [(3, 31, "results[1].credentials[0].client_id", "results[0].client_id")],
            id="own-and-anothers-credential",
        ),
        pytest.param(
            "results:\n  - credentials: [{client_id: x}]\n  - client_id: x\n",
            [(3, 16, "results[1].client_id", "results[0].credentials[0].client_id")],
            id="credential-and-anothers-own",
        ),
        pytest.param(
            "results:\n  - credentials: [{client_id: x}, {client_id: x}]\n",
            [(2, 47, "results[0].credentials[1].client_id", "results[0].credentials[0].client_id")],
            id="two-credentials-of-one-application",
        ),
        pytest.param(
            "results:\n  - client_id: 0123\n  - {client_id: '0123'}\n  - {client_id: \"0123\"}\n",
            [
                (3, 17, "results[1].client_id", "results[0].client_id"),
                (4, 17, "results[2].client_id", "results[0].client_id"),
            ],
            id="three-applications",
        ),
        pytest.param(
            "results:\n  - {state: disabled, client_id: x}\n  - {is_suspended: true, client_id: x}\n",
            [(3, 37, "results[1].client_id", "results[0].client_id")],
            id="disabled-ones-too",
        ),
        pytest.param(
            "results:\n  - {title: é日本, client_id: ü}\n  - {title: 😀, client_id: ü}\n",
            [(3, 27, "results[1].client_id", "results[0].client_id")],
            id="after-multi-byte",
        ),
    ],
)
def test_repeated_client_ids(text: str, expected: list[Place]) -> None:
    """A client ID names one application only: all others are problems, each at its place."""
    found = portal_problems(text)
    assert [(*place[:3], f"is the client ID of {place[3]} too") for place in expected] == places(found)
    assert {problem.remedy for problem in found} == {"a client ID names one credential: remove one"}


def test_repeated_client_id_behind_the_applications_own() -> None:
    """That the application shows the client ID too does not make two credentials of one."""
    text = "results:\n  - client_id: x\n    credentials: [{client_id: x}, {client_id: x}]\n"
    assert [place[:3] for place in places(portal_problems(text))] == [(3, 47, "results[0].credentials[1].client_id")]


# Certificates


def squeezed(pem: str) -> str:
    """The base64 within PEM, on one line."""
    return "".join(pem.splitlines()[1:-1])


LEAF, CA = chain()

ENCODINGS: dict[str, Callable[[str], str]] = {
    "pem": str,
    "no-final-newline": str.strip,
    "crlf": lambda pem: pem.replace("\n", "\r\n"),
    "cr": lambda pem: pem.replace("\n", "\r"),
    "markers-without-newlines": lambda pem: pem.replace("\n", ""),
    "spaces-for-newlines": lambda pem: pem.replace("\n", " "),
    "literal-backslash-n": lambda pem: pem.replace("\n", "\\n"),
    "literal-backslash-r-n": lambda pem: pem.replace("\n", "\\r\\n"),
    "spaces-stripped": lambda pem: pem.replace(" ", ""),
    "spaces-and-newlines-stripped": lambda pem: pem.replace(" ", "").replace("\n", ""),
    "bare-base64": squeezed,
    "bare-base64-in-lines": lambda pem: "\n".join(pem.splitlines()[1:-1]),
    "white-space-around": lambda pem: f"\n\t {pem} \n\n",
    "indented": lambda pem: textwrap.indent(pem, "    "),
    "blank-lines-between": lambda pem: pem.replace("\n", "\n\n"),
    "text-before": lambda pem: f"Certificate:\n    Data: grüße\n{pem}",
    "bag-attributes-before": lambda pem: f"Bag Attributes\n    localKeyID: 01\nsubject=CN = x\n{pem}",
    "text-after": lambda pem: f"{pem}\nexported by hand\n",
    "trusted-label": lambda pem: pem.replace("BEGIN CERT", "BEGIN X509 CERT").replace("END CERT", "END X509 CERT"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_certificate_encodings(encoding: str) -> None:
    """Each spelling of a certificate seen in the field is the same certificate."""
    entry = ENCODINGS[encoding](PEM)
    assert thumbprints(good_portal(one_application(application_public_certificate_entry=entry))) == [[THUMBPRINT]]


@pytest.mark.parametrize(
    "encoding", ["pem", "crlf", "markers-without-newlines", "literal-backslash-n", "spaces-stripped"]
)
def test_chain_encodings(encoding: str) -> None:
    """Of a chain the first certificate counts, in each spelling that can hold several."""
    entry = ENCODINGS[encoding](LEAF + CA)
    expected = [[hashlib.sha256(der_of(LEAF)).hexdigest()]]
    assert expected == thumbprints(good_portal(one_application(application_public_certificate_entry=entry)))


def test_literal_block_of_yaml() -> None:
    """In YAML a certificate is a literal block, as a person pastes it."""
    text = f"results:\n  - application_public_certificate_entry: |\n{textwrap.indent(PEM, '      ')}"
    assert thumbprints(good_portal(text)) == [[THUMBPRINT]]


def test_folded_block_of_yaml() -> None:
    """A folded block makes spaces of the newlines."""
    text = f"results:\n  - application_public_certificate_entry: >\n{textwrap.indent(PEM, '      ')}"
    assert thumbprints(good_portal(text)) == [[THUMBPRINT]]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="absent"),
        pytest.param("application_public_certificate_entry: null", id="null"),
        pytest.param("application_public_certificate_entry:", id="nothing"),
        pytest.param("application_public_certificate_entry: ''", id="empty"),
        pytest.param("application_public_certificate_entry: '  '", id="blank"),
        pytest.param('application_public_certificate_entry: "\\r\\n"', id="newline"),
        pytest.param("application_public_certificate_entry: |\n\n", id="empty-block"),
    ],
)
def test_no_certificate(line: str) -> None:
    """Absent and empty both mean that none is registered, which is for the request to find out."""
    assert thumbprints(good_portal(f"results:\n  - name: a\n    {line}\n")) == [[]]


@pytest.mark.parametrize("days", [(-9.0, -1.0), (1.0, 9.0)], ids=["expired", "not-yet-valid"])
def test_certificates_out_of_time_are_read(days: tuple[float, float]) -> None:
    """Whether a certificate is valid is asked at each request, not when the file is read."""
    pem = material.certificate(KEY, from_days=days[0], to_days=days[1])
    portal = good_portal(one_application(application_public_certificate_entry=pem))
    assert [[hashlib.sha256(der_of(pem)).hexdigest()]] == thumbprints(portal)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param("cert23456", "is not an X.509 certificate", id="word"),
        pytest.param("hello, world", "is not base64", id="words"),
        pytest.param("cert", "is not an X.509 certificate", id="word-of-four-letters"),
        pytest.param("0", "is not an X.509 certificate", id="digit"),
        pytest.param(squeezed(PEM)[:201], "is base64 cut short", id="bare-base64-cut-within-four"),
        pytest.param("null-ish", "is not base64", id="hyphen"),
        pytest.param("https://example.com/cert.pem", "is not base64", id="url"),
        pytest.param("/etc/ssl/cert.pem", "is not base64", id="path"),
        pytest.param(squeezed(PEM)[:-8], "is not an X.509 certificate", id="bare-base64-cut-short"),
        pytest.param(squeezed(PEM)[:-5] + "A", "is not an X.509 certificate", id="bare-base64-changed"),
        pytest.param(PEM[:-30], "is PEM cut short", id="pem-without-end"),
        pytest.param(PEM[30:], "is PEM cut short", id="pem-without-begin"),
        pytest.param(PEM + "-----BEGIN CERTIFICATE-----\nMII", "is PEM cut short", id="second-cut-short"),
        pytest.param(PEM.replace("MII", "!!!"), "is not base64", id="pem-around-no-base64"),
        pytest.param(
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "is not base64", id="pem-around-nothing"
        ),
        pytest.param("-----", "is PEM cut short", id="dashes"),
        pytest.param(material.public_pem(KEY), "is a PUBLIC KEY, not a certificate", id="public-key"),
        pytest.param(
            base64.b64encode(material.public_der(KEY)).decode(), "is not an X.509 certificate", id="bare-public-key"
        ),
        pytest.param(
            PEM.replace("CERTIFICATE-", "CERTIFICATE REQUEST-"),
            "is a CERTIFICATE REQUEST, not a certificate",
            id="request",
        ),
        pytest.param(CA + LEAF, "is followed by a certificate that did not issue it", id="chain-upside-down"),
        pytest.param(PEM + LEAF, "is followed by a certificate that did not issue it", id="two-certificates"),
        pytest.param(
            material.certificate(material.private_key("rsa", "short", 1024)),
            "holds an RSA key of 1024 bits",
            id="rsa-1024",
        ),
    ],
)
def test_garbage_for_a_certificate(entry: str, message: str) -> None:
    """What is no usable certificate is a problem of the file, told without repeating the text."""
    (problem,) = portal_problems(one_application(application_public_certificate_entry=entry))
    assert ("results[0].application_public_certificate_entry", message) == (problem.path, problem.message)
    assert problem.remedy not in {"", "correct it"}


def test_garbage_is_placed() -> None:
    """The place of a bad certificate is where the entry begins."""
    text = f"results:\n  - {{name: é, application_public_certificate_entry: {PEM[40:60]}}}\n  - name: b\n"
    ((line, column, path, _),) = places(portal_problems(text))
    assert (line, column, path) == (2, 53, "results[0].application_public_certificate_entry")


# Private keys

PRIVATE = material.private_pem(KEY)

KEY_SPELLINGS: dict[str, str] = {
    "pkcs8": PRIVATE,
    "rsa": PRIVATE.replace("PRIVATE", "RSA PRIVATE"),
    "ec": PRIVATE.replace("PRIVATE", "EC PRIVATE"),
    "dsa": PRIVATE.replace("PRIVATE", "DSA PRIVATE"),
    "encrypted": PRIVATE.replace("PRIVATE", "ENCRYPTED PRIVATE"),
    "openssh": PRIVATE.replace("PRIVATE", "OPENSSH PRIVATE"),
    "after-the-certificate": PEM + PRIVATE,
    "before-the-certificate": PRIVATE + PEM,
    "spaces-stripped": PRIVATE.replace(" ", ""),
    "spaces-and-newlines-stripped": PRIVATE.replace(" ", "").replace("\n", ""),
    "newlines-stripped": PRIVATE.replace("\n", ""),
    "crlf": PRIVATE.replace("\n", "\r\n"),
    "literal-backslash-n": PRIVATE.replace("\n", "\\n"),
    "without-end": PRIVATE[:60],
    "without-begin": PRIVATE[40:],
    "text-around": f"my key:\n{PRIVATE}\nplease",
}


def key_export(where: str, text: str) -> tuple[str, str]:
    """An export that holds a text at some place, and the path of that place."""
    base: dict[str, Any] = {"name": "a", "credentials": [{"client_id": CLIENT_ID}]}
    match where:
        case "entry":
            return export(base | {"application_public_certificate_entry": text}), (
                "results[0].application_public_certificate_entry"
            )
        case "known-field":
            return export(base | {"title": text}), "results[0].title"
        case "unknown-field":
            return export(base | {"notes": text}), "results[0].notes"
        case "unknown-deep":
            return export(base | {"metadata": {"a": ["b", {"c": text}]}}), "results[0].metadata.a[1].c"
        case "credential":
            return export(base | {"credentials": [{"client_id": CLIENT_ID, "title": text}]}), (
                "results[0].credentials[0].title"
            )
        case "top":
            return json.dumps({"results": [base], "notes": text}), "notes"
        case "same-name-elsewhere":
            return export(base | {"metadata": {"application_public_certificate_entry": text}}), (
                "results[0].metadata.application_public_certificate_entry"
            )
        case _:
            return json.dumps({"results": [base], "application_public_certificate_entry": text}), (
                "application_public_certificate_entry"
            )


@pytest.mark.parametrize("spelling", KEY_SPELLINGS)
@pytest.mark.parametrize("where", ["entry", "known-field", "unknown-field", "unknown-deep"])
def test_private_key_spellings(where: str, spelling: str) -> None:
    """A private key is seen in every spelling, in known fields and in unknown ones; it is never repeated."""
    text, path = key_export(where, KEY_SPELLINGS[spelling])
    (problem,) = portal_problems(text)
    assert (path, "holds a private key") == (problem.path, problem.message)
    assert "treat the key as disclosed" in problem.remedy
    assert "MI" not in str(problem)


@pytest.mark.parametrize("where", ["credential", "top", "same-name-elsewhere", "same-name-at-top"])
def test_private_key_places(where: str) -> None:
    """A private key is seen wherever it stands, whatever the field is called."""
    text, path = key_export(where, PRIVATE)
    (problem,) = portal_problems(text)
    assert (path, "holds a private key") == (problem.path, problem.message)


def test_private_key_as_key_of_a_mapping() -> None:
    """A text pasted to the wrong side of the colon is a disclosed key all the same."""
    found = portal_problems(one_application(metadata={PRIVATE: "a"}))
    assert [problem.message for problem in found] == ["holds a private key"]
    assert "MI" not in "".join(map(str, found))


def test_private_key_behind_escapes() -> None:
    """Escapes of JSON and YAML hide nothing."""
    text = one_application(notes=PRIVATE).replace("PRIVATE", "\\u0050RIV\\u0041TE")
    assert [problem.message for problem in portal_problems(text)] == ["holds a private key"]


def test_private_key_beside_shape_problems() -> None:
    """A file that is wrong in other ways as well still has its private key told."""
    text = export({"state": "unknown", "application_public_certificate_entry": PRIVATE})
    assert {"is not one of the known values", "holds a private key"} == {
        problem.message for problem in portal_problems(text)
    }


def test_private_key_beside_a_file_reference() -> None:
    """The entry is looked at even where a file stands in its place."""
    text = one_application(
        application_public_certificate_entry=PRIVATE, application_public_certificate_file="client.crt"
    )
    assert "holds a private key" in {problem.message for problem in portal_problems(text, lambda _: PEM)}


def test_private_key_in_a_referenced_file() -> None:
    """A file that holds key and certificate is no certificate's file."""
    text = one_application(application_public_certificate_file="both.pem")
    (problem,) = portal_problems(text, lambda _: PEM + PRIVATE)
    expected = ("results[0].application_public_certificate_file", "holds a private key")
    assert expected == (problem.path, problem.message)


@pytest.mark.parametrize("text", ["PRIVATE", "PRIVATE KEY", "my PRIVATE app", "-----BEGIN PRIVATE"])
def test_talk_of_private_keys_is_no_key(text: str) -> None:
    """An application may be called so."""
    assert (text, text) == (
        good_portal(one_application(name=text)).applications[0].name,
        good_portal(one_application(title=text)).applications[0].title,
    )


# File references


def test_referenced_file() -> None:
    """A file named in place of the entry is read, by the name that was written."""
    asked: list[str] = []

    def read(name: str) -> str:
        asked.append(name)
        return PEM

    portal = good_portal(one_application(application_public_certificate_file="sub/client.crt"), read)
    assert asked == ["sub/client.crt"]
    assert thumbprints(portal) == [[THUMBPRINT]]


@pytest.mark.parametrize("entry", ["", "null", "''"], ids=["nothing", "null", "empty"])
def test_referenced_file_beside_an_empty_entry(entry: str) -> None:
    """An empty entry beside a file is no contradiction."""
    text = (
        "results:\n"
        f"  - application_public_certificate_entry: {entry}\n"
        "    application_public_certificate_file: client.crt\n"
    )
    assert thumbprints(good_portal(text, lambda _: PEM)) == [[THUMBPRINT]]


def test_referenced_file_beside_an_entry() -> None:
    """Both at once leave open which one counts."""
    text = one_application(application_public_certificate_entry=PEM, application_public_certificate_file="client.crt")
    (problem,) = portal_problems(text, lambda _: PEM)
    expected = (
        "results[0].application_public_certificate_file",
        "stands beside application_public_certificate_entry",
        "keep one of the two",
    )
    assert expected == (problem.path, problem.message, problem.remedy)


def test_referenced_file_that_cannot_be_read() -> None:
    """The reader's words become the problem's, at the place of the name."""

    def read(_name: str) -> str:
        raise Unfit("names 'é', which does not exist", "check the path")

    text = "results:\n  - name: a\n    application_public_certificate_file: é\n"
    (problem,) = portal_problems(text, read)
    expected = (3, 42, "results[0].application_public_certificate_file", "names 'é', which does not exist")
    assert [expected] == places([problem])
    assert problem.remedy == "check the path"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("cert23456", "is not an X.509 certificate", id="word"),
        pytest.param(PEM[:-30], "is PEM cut short", id="cut-short"),
        pytest.param(material.public_pem(KEY), "is a PUBLIC KEY, not a certificate", id="public-key"),
        pytest.param("", "names 'x', which is empty", id="empty"),
        pytest.param("\n \n", "names 'x', which is empty", id="blank"),
    ],
)
def test_referenced_file_of_garbage(content: str, message: str) -> None:
    """Garbage in a file is told as garbage in an entry is."""
    (problem,) = portal_problems(one_application(application_public_certificate_file="x"), lambda _: content)
    assert ("results[0].application_public_certificate_file", message) == (problem.path, problem.message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param(["a"], "is not text", id="list"),
        pytest.param({}, "is not text", id="mapping"),
    ],
)
def test_referenced_file_without_a_name(name: Any, message: str) -> None:
    """A name must be there and be text."""
    (problem,) = portal_problems(one_application(application_public_certificate_file=name))
    assert ("results[0].application_public_certificate_file", message) == (problem.path, problem.message)


# Several certificates, and algorithms

RENEWED = material.certificate(KEY, "renewed")
RENEWED_THUMBPRINT = hashlib.sha256(der_of(RENEWED)).hexdigest()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"application_public_certificates": [{"entry": RENEWED}]}, [RENEWED_THUMBPRINT], id="one-entry"),
        pytest.param({"application_public_certificates": [{"file": "x"}]}, [RENEWED_THUMBPRINT], id="one-file"),
        pytest.param(
            {"application_public_certificate_entry": PEM, "application_public_certificates": [{"entry": RENEWED}]},
            [THUMBPRINT, RENEWED_THUMBPRINT],
            id="beside-the-entry",
        ),
        pytest.param(
            {"application_public_certificates": [{"entry": PEM}, {"file": "x"}]},
            [THUMBPRINT, RENEWED_THUMBPRINT],
            id="entry-and-file",
        ),
        pytest.param(
            {"application_public_certificate_entry": PEM, "application_public_certificates": [{"entry": PEM}]},
            [THUMBPRINT],
            id="the-same-twice",
        ),
        pytest.param({"application_public_certificates": []}, [], id="empty-list"),
        pytest.param({"application_public_certificates": None}, [], id="null"),
    ],
)
def test_several_certificates(fields: dict[str, Any], expected: list[str]) -> None:
    """While one is replaced, both are registered; the same one counts once."""
    assert [expected] == thumbprints(good_portal(one_application(**fields), lambda _: RENEWED))


@pytest.mark.parametrize(
    ("item", "path", "message"),
    [
        pytest.param({}, "", "needs either entry or file", id="neither"),
        pytest.param({"entry": PEM, "file": "x"}, "", "needs either entry or file", id="both"),
        pytest.param({"entry": ""}, "", "needs either entry or file", id="empty-entry"),
        pytest.param({"entry": None}, ".entry", "is empty", id="null-entry"),
        pytest.param({"file": ""}, ".file", "is empty", id="empty-file-name"),
        pytest.param({"entry": "cert23456"}, ".entry", "is not an X.509 certificate", id="garbage"),
        pytest.param({"entry": PRIVATE}, ".entry", "holds a private key", id="private-key"),
        pytest.param({"file": "private"}, ".file", "holds a private key", id="private-key-in-a-file"),
        pytest.param({"entri": PEM}, ".entri", "is not a known key", id="unknown-key"),
        pytest.param(PEM, "", "is not a mapping", id="text"),
    ],
)
def test_further_certificates_that_cannot_be(item: Any, path: str, message: str) -> None:
    """Each item of the list is told as the single entry is."""
    found = portal_problems(one_application(application_public_certificates=[item]), lambda _: PRIVATE)
    assert (f"results[0].application_public_certificates[0]{path}", message) in {
        (problem.path, problem.message) for problem in found
    }


def test_blank_further_certificate_is_a_slip() -> None:
    """Our own list has no empty fields of a portal's form to be patient with."""
    (problem,) = portal_problems(one_application(application_public_certificates=[{"entry": " \n"}]))
    assert problem.path.startswith("results[0].application_public_certificates[0]")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({}, None, id="not-said"),
        pytest.param({"application_jws_algorithms": ["ES256"]}, {"ES256"}, id="one"),
        pytest.param({"application_jws_algorithms": ["ES256", "RS256"]}, {"ES256", "RS256"}, id="two"),
    ],
)
def test_algorithms(said: dict[str, Any], expected: set[str] | None) -> None:
    """An application's own narrowing; not said, the policy's stands."""
    assert expected == good_portal(one_application(**said)).applications[0].algorithms


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param([], "is empty", id="empty-list"),
        pytest.param("ES256", "is not a list", id="text"),
        pytest.param(["none"], "is not one of the known values", id="none"),
        pytest.param(["HS256"], "is not one of the known values", id="hmac"),
        pytest.param(None, "is empty", id="null"),
    ],
)
def test_algorithms_that_cannot_be(said: Any, message: str) -> None:
    """A narrowing that names nothing, or nothing known, must not come to allow everything."""
    (problem,) = portal_problems(one_application(application_jws_algorithms=said))
    assert problem.path.startswith("results[0].application_jws_algorithms")
    assert message == problem.message


# Whole files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [(1, 1, "(document)", "is empty")], id="empty"),
        pytest.param("# nothing\n", [(1, 1, "(document)", "is empty")], id="comment"),
        pytest.param("hello", [(1, 1, "(document)", "is not a mapping")], id="text"),
        pytest.param("{}", [(1, 1, "results", "is missing")], id="no-results"),
        pytest.param("products: []\n", [(1, 1, "results", "is missing")], id="another-shape"),
        pytest.param("results:\n", [(1, 9, "results", "is empty")], id="results-of-nothing"),
        pytest.param("results: none", [(1, 10, "results", "is not a list")], id="results-of-text"),
        pytest.param("results: {name: a}", [(1, 10, "results", "is not a list")], id="results-of-mapping"),
        pytest.param("results: [a]", [(1, 11, "results[0]", "is not a mapping")], id="application-of-text"),
        pytest.param("results:\n  -\n", [(2, 4, "results[0]", "is empty")], id="application-of-nothing"),
        pytest.param(
            "results: [{credentials: x}]",
            [(1, 25, "results[0].credentials", "is not a list")],
            id="credentials-of-text",
        ),
        pytest.param("results: [{name: [a]}]", [(1, 18, "results[0].name", "is not text")], id="name-of-list"),
        pytest.param("results: []\nresults: []\n", [(2, 1, "results", "is a repeated key")], id="repeated-results"),
        pytest.param(
            "results: [{client_id: a, client_id: b}]",
            [(1, 26, "results[0].client_id", "is a repeated key")],
            id="repeated-client-id-key",
        ),
        pytest.param("results: [&x {client_id: a}]", [(1, 11, "results[0]", "has an anchor")], id="anchor"),
        pytest.param(
            "results: []\n---\nresults: []\n", [(2, 1, "(document)", "holds a second document")], id="two-documents"
        ),
    ],
)
def test_files_that_are_no_export(text: str, expected: list[Place]) -> None:
    """Files of another kind, or none at all, are told as such."""
    assert expected == places(portal_problems(text))


def test_problems_of_syntax_and_of_shape_are_told_together() -> None:
    """A repeated key does not hide a wrong state."""
    text = "results:\n  - {name: a, name: b}\n  - state: on\n"
    expected = [
        (2, 15, "results[0].name", "is a repeated key"),
        (3, 12, "results[1].state", "is not one of the known values"),
    ]
    assert expected == places(portal_problems(text))


def test_all_problems_are_told_together() -> None:
    """Shape, client IDs, certificates, files and keys: whoever mends a file wants to hear it once."""

    def read(_name: str) -> str:
        raise Unfit("names 'gone.crt', which does not exist", "check the path")

    text = f"""\
results:
  - name: a
    state: on
  - client_id: x
    application_public_certificate_entry: cert23456
  - client_id: x
    application_public_certificate_file: gone.crt
  - notes: {json.dumps(PRIVATE)}
  - credentials: [{{}}]
"""
    expected = [
        (3, 12, "results[0].state", "is not one of the known values"),
        (5, 43, "results[1].application_public_certificate_entry", "is not an X.509 certificate"),
        (6, 16, "results[2].client_id", "is the client ID of results[1].client_id too"),
        (7, 42, "results[2].application_public_certificate_file", "names 'gone.crt', which does not exist"),
        (8, 12, "results[3].notes", "holds a private key"),
        (9, 19, "results[4].credentials[0].client_id", "is missing"),
    ]
    assert expected == places(portal_problems(text, read))


def test_problems_of_sound_shape_are_told_together() -> None:
    """The same without an error of shape."""
    text = f"""\
results:
  - client_id: x
    application_public_certificate_entry: cert23456
  - client_id: x
  - notes: {json.dumps(PRIVATE)}
  - client_id: " y"
"""
    expected = [
        (3, 43, "results[0].application_public_certificate_entry", "is not an X.509 certificate"),
        (4, 16, "results[1].client_id", "is the client ID of results[0].client_id too"),
        (5, 12, "results[2].notes", "holds a private key"),
        (6, 16, "results[3].client_id", "has white space at an end or a control character"),
    ]
    assert expected == places(portal_problems(text))


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_export(indent: int | None, ascii_only: bool) -> None:
    """JSON with nulls, numbers and booleans, as the toolkit's `--format json` writes it."""
    text = json.dumps(
        {
            "total_results": 2,
            "results": [
                {
                    "name": "a",
                    "title": "grüße 日本",
                    "summary": None,
                    "state": "enabled",
                    "is_suspended": False,
                    "client_id": None,
                    "credentials": [{"client_id": CLIENT_ID, "expires_in": 3600, "x": 1.5}],
                    "application_public_certificate_entry": PEM,
                    "metadata": {},
                },
                {
                    "name": "b",
                    "is_suspended": True,
                    "credentials": [{"client_id": OTHER_CLIENT_ID}],
                    "application_public_certificate_entry": None,
                },
            ],
        },
        indent=indent,
        ensure_ascii=ascii_only,
    )
    portal = good_portal(text)
    assert [(app.title, app.enabled) for app in portal.applications] == [("grüße 日本", True), ("b", False)]
    assert thumbprints(portal) == [[THUMBPRINT], []]


def test_json_export_with_emoji() -> None:
    """Titles hold emoji, and most JSON writers escape them as two surrogates."""
    assert good_portal(one_application(title="😀")).applications[0].title == "😀"


def test_yaml_and_json_are_the_same_export() -> None:
    """The same data in both forms makes the same portal."""
    applications = [
        material.Application("a", ("one", "0123"), PEM),
        material.Application("b", ("three",), "", "disabled"),
    ]
    from_json = export(
        {
            "name": "a",
            "title": "a",
            "state": "enabled",
            "credentials": [{"client_id": "one"}, {"client_id": "0123"}],
            "application_public_certificate_entry": PEM,
        },
        {"name": "b", "state": "disabled", "credentials": [{"client_id": "three"}]},
    )
    assert good_portal(material.portal_yaml(applications)) == good_portal(from_json)


def test_a_problem_leaves_no_portal() -> None:
    """An export with one bad application is not used in part."""
    portal, problems = read_portal(export({"client_id": "a"}, {"client_id": "b", "state": "x"}))
    assert portal is None
    assert len(problems) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('results: [{"\\e[31m": 1, "\\e[31m": 2}]', id="key"),
        pytest.param('results: [{state: "\\r\\n\\e]0;owned\\a"}]', id="state"),
        pytest.param('results: [{client_id: "\\0"}, {client_id: "\\0"}]', id="client-id"),
        pytest.param('results: [{application_public_certificate_file: "\\e[2J"}]', id="file-name"),
        pytest.param('results: [{"\\u202e": "-----BEGIN PRIVATE KEY-----"}]', id="path-of-a-private-key"),
        pytest.param('results: [{application_public_certificate_entry: "\\e[2J"}]', id="certificate"),
    ],
)
def test_problems_print_no_control_character(text: str) -> None:
    """Nothing of a broken export steers a terminal."""

    def read(name: str) -> str:
        raise Unfit(f"names {name}, which does not exist", "check the path")

    found = portal_problems(text, read)
    assert found
    assert all(str(problem).isprintable() for problem in found)


@pytest.mark.parametrize(
    "key", ["application_jws_algorithm", "application_jws_algs", "application_public_certificates_"]
)
def test_misspelt_extension_is_told(key: str) -> None:
    """A limit that is misspelt would be none; other unknown keys are the portal's own."""
    problems = portal_problems(f"results: [{{{key}: [RS256], credentials: [{{client_id: a}}]}}]")
    assert [key in problem.message for problem in problems] == [True]


def test_shape_problems_hide_no_others() -> None:
    """Of an application with one, all that is sound is checked as well, each at its own place."""
    text = """\
results:
  - client_id: one
    state: on
    application_public_certificate_entry: cert23456
    application_jws_algorithm: [RS256]
    credentials: [{name: x}, {client_id: two}, {client_id: "a "}]
    application_public_certificates:
      - {entry: a, file: b}
      - {entry: cert23456}
  - client_id: two
  - [x]
"""
    problems = portal_problems(text)
    assert places(problems)[1:] == [
        (3, 12, "results[0].state", "is not one of the known values"),
        (4, 43, "results[0].application_public_certificate_entry", "is not an X.509 certificate"),
        (6, 19, "results[0].credentials[0].client_id", "is missing"),
        (6, 60, "results[0].credentials[2].client_id", "has white space at an end or a control character"),
        (8, 9, "results[0].application_public_certificates[0]", "needs either entry or file"),
        (9, 17, "results[0].application_public_certificates[1].entry", "is not an X.509 certificate"),
        (10, 16, "results[1].client_id", "is the client ID of results[0].credentials[1].client_id too"),
        (11, 5, "results[2]", "is not a mapping"),
    ]
    assert "application_jws_algorithm," in problems[0].message


# When certificates are used


def day(text: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        pytest.param({"not_before": "2090-01-31"}, (day("2090-01-31T00:00:00Z"), None), id="from-a-day"),
        pytest.param({"not_after": "2020-01-31"}, (None, day("2020-01-31T23:59:59Z")), id="to-a-day-included"),
        pytest.param(
            {"not_before": "2020-01-31T12:00:00+01:00", "not_after": "2090-01-31T12:00:00Z"}, (None, None), id="wider"
        ),
        pytest.param({"not_after": "2020-01-31t12:00:00.5Z"}, (None, day("2020-01-31T12:00:00.5Z")), id="fraction"),
        pytest.param({"not_before": "2020-01-31", "not_after": "2020-01-31"}, None, id="one-day"),
    ],
)
@pytest.mark.parametrize("where", ["list", "entry"])
def test_use_windows(window: dict[str, str], expected: tuple[float | None, float | None] | None, where: str) -> None:
    """A window narrows when a certificate is used, and never widens it."""
    (plain,) = good_portal(one_application(application_public_certificate_entry=PEM)).applications[0].certificates
    if where == "list":
        text = one_application(application_public_certificates=[{"entry": PEM, **window}])
    else:
        fields = {f"application_public_certificate_{name}": value for name, value in window.items()}
        text = one_application(application_public_certificate_entry=PEM, **fields)
    (found,) = good_portal(text).applications[0].certificates
    if expected is None:
        expected = plain.not_before, day("2020-01-31T23:59:59Z")
    assert (found.not_before, found.not_after) == (
        plain.not_before if expected[0] is None else expected[0],
        plain.not_after if expected[1] is None else expected[1],
    )
    assert found.thumbprint == plain.thumbprint


def test_rotation_hands_over() -> None:
    """Around the end of the old certificate and the start of the new one, exactly the right ones are usable."""
    other = material.certificate(material.private_key("p256", "next"))
    now = int(time.time())
    at = [datetime.fromtimestamp(now + seconds, UTC).isoformat() for seconds in (100, 200)]
    text = one_application(
        application_public_certificate_entry=PEM,
        application_public_certificate_not_after=at[1],
        application_public_certificates=[{"entry": other, "not_before": at[0]}],
    )
    (application,) = good_portal(text).applications
    old, new = (certificate.thumbprint for certificate in application.certificates)
    for moment, usable in {0: {old}, 99: {old}, 100: {old, new}, 200: {old, new}, 201: {new}}.items():
        found = usable_certificates(application, now + moment)
        assert (moment, {certificate.thumbprint for certificate in found}) == (moment, usable)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        pytest.param({"not_after": "tomorrow"}, "is not a time", id="word"),
        pytest.param({"not_after": "2027-01-31T12:00:00"}, "is not a time", id="no-zone"),
        pytest.param({"not_after": "2027-02-30"}, "is not a time", id="no-such-day"),
        pytest.param({"not_after": "99999-01-01"}, "is not a time", id="far-away"),
        pytest.param({"not_after": 1801353600}, "is not a time", id="number"),
        pytest.param({"not_after": None}, "is empty", id="null"),
        pytest.param({"not_after": ""}, "is not a time", id="empty"),
        pytest.param({"notafter": "2027-01-31"}, "is not a known key", id="misspelt"),
        pytest.param(
            {"not_before": "2027-02-01", "not_after": "2027-01-31"}, "has not_after before not_before", id="order"
        ),
    ],
)
def test_use_windows_that_cannot_be(window: dict[str, Any], message: str) -> None:
    """A window that cannot be read must not be taken for none."""
    (problem,) = portal_problems(one_application(application_public_certificates=[{"entry": PEM, **window}]))
    assert message in problem.message


@pytest.mark.parametrize("name", ["not_before", "not_after"])
@pytest.mark.parametrize("value", ["soon", None, ""])
def test_use_window_of_the_entry_that_cannot_be(name: str, value: Any) -> None:
    """The same beside the portal's own field."""
    fields = {f"application_public_certificate_{name}": value}
    (problem,) = portal_problems(one_application(application_public_certificate_entry=PEM, **fields))
    assert problem.path.endswith(name)


def test_one_certificate_with_two_windows() -> None:
    """Registered twice with different times: which one counts is nobody's guess."""
    further = [{"entry": PEM, "not_after": "2027-01-31"}]
    text = one_application(application_public_certificate_entry=PEM, application_public_certificates=further)
    (problem,) = portal_problems(text)
    assert problem.message == "is the certificate of results[0].application_public_certificate_entry, with other times"
