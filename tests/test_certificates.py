"""Registered certificates: every text that reaches a portal, by its defect."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import UTC

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

import material
from certificates_by_defect import BY_DEFECT, certificate_around, rsa_modulus, rsa_spki
from core_gate import NOW, application, decision_on, good_claims, reason_of, request_with, signed, snapshot_of
from jwsgate.core.algorithms import KeyKind
from jwsgate.core.certificates import CertificateError, holds_private_key, load_private_key, read_certificate
from jwsgate.core.decision import decide
from jwsgate.core.reasons import Reason

KEY = material.private_key("p256", "by defect")

READ = {
    "nothing-wrong": KeyKind.P256,
    "ec-compressed-point": KeyKind.P256,
    "rsa-pss-key": KeyKind.RSA,
    # cryptography compares every number with those of the curve, so that the key means the same.
    "ec-explicit-parameters": KeyKind.P256,
    "key-usage-with-digital-signature": KeyKind.P256,
    "self-signed-ca-true": KeyKind.P256,
    "chain-leaf-first": KeyKind.P256,
    "chain-leaf-first-without-root": KeyKind.P256,
    "expired": KeyKind.P256,
    "not-yet-valid": KeyKind.P256,
    "ends-before-it-begins": KeyKind.P256,
    "valid-until-9999": KeyKind.P256,
    # Who signed a certificate, and how, is not asked: registration is the trust anchor.
    "tampered-self-signature": KeyKind.P256,
    "signed-with-sha1": KeyKind.RSA,
    "signed-with-md5": KeyKind.RSA,
    "signed-with-an-unknown-algorithm": KeyKind.P256,
    "text-around": KeyKind.P256,
    "subject-with-control-characters": KeyKind.P256,
    "subject-empty": KeyKind.P256,
    "subject-of-no-string-type": KeyKind.P256,
    "subject-not-utf8": KeyKind.P256,
    "subject-not-utf8-and-ca": KeyKind.P256,
}
"""The texts that are read, and the kind of key in them."""

REFUSED = {
    "rsa-512": "RSA key of 512 bits",
    "rsa-768": "RSA key of 768 bits",
    "rsa-1024": "RSA key of 1024 bits",
    "rsa-2047": "RSA key of 2047 bits",
    "rsa-16392": "RSA key of 16392 bits",
    "rsa-roca": "ROCA",
    "rsa-modulus-even": "RSA key",
    "rsa-exponent-1": "exponent 1|key that cannot be read",  # which cryptography 50 refuses itself
    "rsa-exponent-3": "exponent 3",
    "rsa-exponent-17": "exponent 17",
    "rsa-exponent-even": "exponent 65538|key that cannot be read",
    "rsa-exponent-as-long-as-modulus": "exponent",
    "rsa-4096-exponent-over-64-bits": "exponent",
    "ec-p192": "curve secp192r1",
    "ec-p224": "curve secp224r1",
    "ec-secp256k1": "curve secp256k1",
    "ec-brainpool": "curve brainpoolP256r1",
    "ec-point-off-the-curve": "key",
    "ec-point-at-infinity": "key",
    "ec-explicit-parameters-other-generator": "key",
    "ec-without-parameters": "",
    "ed448-key": "Ed448",
    "ed25519-wrong-length": "key",
    "ed25519-identity-key": "key",
    "ed25519-small-order-key": "key",
    "x25519-key": "X25519",
    "dsa-key": "DSA",
    "ml-dsa-key": "key|MLDSA",
    "unknown-key-type": "key",
    "key-usage-without-digital-signature": "keyUsage without digitalSignature",
    "key-usage-only-certificate-signing": "keyUsage without digitalSignature",
    "version-12": "not an X.509 certificate",
    "extension-repeated": "not an X.509 certificate",
    "extension-broken": "not an X.509 certificate",
    "subject-not-utf8-in-chain": "",
    "ca-issued-by-another": "CA",
    "chain-ca-first": "did not issue it",
    "chain-with-a-gap": "did not issue it",
    "two-unrelated-certificates": "did not issue it",
    "private-key-pasted-along": "private key",
    "private-key-pasted-before": "private key",
    "private-key-without-line-breaks": "private key",
    "private-key-encrypted": "private key",
    "private-key-only": "private key",
    "private-key-bare-base64": "",
    "public-key-only": "PUBLIC KEY",
    "public-key-bare-base64": "not an X.509 certificate",
    "certificate-request": "CERTIFICATE REQUEST",
    "pkcs7-pem": "PKCS7",
    "pkcs7-bare-base64": "not an X.509 certificate",
    "pkcs7-under-the-label-of-a-certificate": "not an X.509 certificate",
    "revocation-list": "X509 CRL",
    "openssh-public-key": "not base64",
    "jwk": "not base64",
    "truncated-before-its-end-marker": "cut short",
    "truncated-inside-base64": "not an X.509 certificate",
    "truncated-bare-base64": "cut short",
    "truncated-second-of-chain": "cut short",
    "truncated-second-of-chain-inside-marker": "cut short",
    "octets-after-the-der": "not an X.509 certificate",
    "trusted-certificate": "TRUSTED",
    "base64-with-a-foreign-character": "not base64",
    "base64url": "not base64",
    "labels-differ": "PUBLIC KEY",
    "dashes-by-a-word-processor": "",
    "garbage": "",
    "empty-markers": "",
    "empty": "",
    "white-space": "",
    "name-of-a-file": "",
    "html": "",
}
"""The texts that are refused, and what the message has to name, as a regular expression."""


def test_every_defect_is_expected_somewhere() -> None:
    """No text of the generator is left without a test, and no expectation without a text."""
    assert set(BY_DEFECT) == READ.keys() | REFUSED.keys()
    assert not READ.keys() & REFUSED.keys()


@pytest.mark.parametrize(("defect", "kind"), READ.items(), ids=READ)
def test_is_read(defect: str, kind: KeyKind) -> None:
    """These texts give a certificate whose thumbprint is the SHA-256 of the first DER in the text."""
    text = BY_DEFECT[defect]()
    certificate = read_certificate(text)
    assert kind is certificate.key.kind
    first = x509.load_pem_x509_certificates(text.encode())[0]
    assert hashlib.sha256(first.public_bytes(Encoding.DER)).hexdigest() == certificate.thumbprint
    assert first.not_valid_before_utc.timestamp() == certificate.not_before
    assert first.not_valid_after_utc.timestamp() == certificate.not_after


@pytest.mark.parametrize(("defect", "message"), REFUSED.items(), ids=REFUSED)
def test_is_refused(defect: str, message: str) -> None:
    """These texts give one kind of exception, with a message that names the defect and a remedy."""
    with pytest.raises(CertificateError) as caught:
        read_certificate(BY_DEFECT[defect]())
    assert re.search(message, str(caught.value))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("defect", [name for name in REFUSED if name.startswith("private-key")])
def test_messages_hold_no_secret(defect: str) -> None:
    """Nothing of a private key is repeated in what is printed about it."""
    text = BY_DEFECT[defect]()
    with pytest.raises(CertificateError) as caught:
        read_certificate(text)
    words = re.findall(r"[A-Za-z0-9+/]{16,}", text)
    assert words
    assert not any(word in f"{caught.value} {caught.value.remedy}" for word in words)


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        ("expired", Reason.CERTIFICATE_EXPIRED),
        ("not-yet-valid", Reason.CERTIFICATE_NOT_YET_VALID),
        ("ends-before-it-begins", Reason.CERTIFICATE_NOT_YET_VALID),
        ("nothing-wrong", None),
        ("tampered-self-signature", None),
        ("self-signed-ca-true", None),
        ("valid-until-9999", None),
        ("ec-compressed-point", None),
        ("ec-explicit-parameters", None),
    ],
)
def test_decision_under_odd_certificates(defect: str, reason: Reason | None) -> None:
    """A JWS by the certificate's own key passes only while the certificate is valid."""
    certificate = read_certificate(BY_DEFECT[defect]())
    assert reason is reason_of(decision_on(signed(KEY), certificate))


def test_certificate_that_ends_before_it_begins_is_never_good() -> None:
    """Whatever the clock says."""
    certificate = read_certificate(BY_DEFECT["ends-before-it-begins"]())
    token = signed(KEY, good_claims(exp=NOW + 999_999_999, iat=0))
    for now in (
        certificate.not_after - 1,
        certificate.not_after,
        NOW,
        certificate.not_before,
        certificate.not_before + 1,
    ):
        assert reason_of(decision_on(token, certificate, now)) is not None


def test_validity_includes_both_ends() -> None:
    """RFC 5280 section 4.1.2.5: notBefore and notAfter themselves are still inside."""
    certificate = read_certificate(BY_DEFECT["nothing-wrong"]())
    token = signed(KEY, {"exp": NOW + 999_999_999})
    assert [
        reason_of(decision_on(token, certificate, now))
        for now in (
            certificate.not_before - 1,
            certificate.not_before,
            certificate.not_after,
            certificate.not_after + 1,
        )
    ] == [Reason.CERTIFICATE_NOT_YET_VALID, None, None, Reason.CERTIFICATE_EXPIRED]


# Encodings: facts of the field, every one of them seen in an export


def _pem() -> str:
    return BY_DEFECT["nothing-wrong"]()


def _body(text: str) -> str:
    return "".join(line for line in text.splitlines() if not line.startswith("-----"))


ENCODINGS: dict[str, Callable[[str], str]] = {
    "pem": lambda text: text,
    "pem-without-last-line-break": str.rstrip,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "cr-only": lambda text: text.replace("\n", "\r"),
    "no-line-break-at-all": lambda text: text.replace("\n", ""),
    "spaces-for-line-breaks": lambda text: text.replace("\n", " "),
    "no-spaces-in-the-markers": lambda text: text.replace("\n", "").replace(" ", ""),
    "no-spaces-in-the-markers-but-line-breaks": lambda text: text.replace(" ", ""),
    "literal-backslash-n": lambda text: text.replace("\n", "\\n"),
    "literal-backslash-r-backslash-n": lambda text: text.replace("\n", "\\r\\n"),
    "bare-base64-on-one-line": _body,
    "bare-base64-with-line-breaks": lambda text: "\n".join(text.splitlines()[1:-1]),
    "bare-base64-with-crlf": lambda text: "\r\n".join(text.splitlines()[1:-1]),
    "bare-base64-with-literal-backslash-n": lambda text: "\\n".join(text.splitlines()[1:-1]),
    "indented": lambda text: "".join(f"    {line}\n" for line in text.splitlines()),
    "tabs-and-blank-lines": lambda text: text.replace("\n", "\t\n\n"),
    "white-space-around": lambda text: f"\n\n  {text}  \n\n",
    "lines-of-76": lambda text: (
        "-----BEGIN CERTIFICATE-----\n" + "\n".join(re.findall(".{1,76}", _body(text))) + "\n-----END CERTIFICATE-----"
    ),
    "label-x509-certificate": lambda text: text.replace("CERTIFICATE", "X509 CERTIFICATE"),
    "no-break-spaces": lambda text: text.replace("\n", "\N{NO-BREAK SPACE}\n"),
    "byte-order-mark": lambda text: "\N{ZERO WIDTH NO-BREAK SPACE}" + text,
}
"""What portals, editors and shells make of one PEM."""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(encoding: str) -> None:
    """Each spelling reads as the same certificate."""
    text = _pem()
    assert read_certificate(text) == read_certificate(ENCODINGS[encoding](text))


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "bare" not in name and name != "lines-of-76"])
def test_encodings_of_a_chain(encoding: str) -> None:
    """A chain reads as its leaf in every spelling that has markers."""
    text = BY_DEFECT["chain-leaf-first"]()
    assert read_certificate(text) == read_certificate(ENCODINGS[encoding](text))


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "bare" not in name and name != "lines-of-76"])
@pytest.mark.parametrize("defect", ["private-key-pasted-along", "private-key-pasted-before", "private-key-encrypted"])
def test_private_keys_show_in_every_encoding(defect: str, encoding: str) -> None:
    """However a paste is mangled, the private key in it is noticed."""
    text = ENCODINGS[encoding](BY_DEFECT[defect]().replace("CERTIFICATE", "CERTIFICATE"))
    assert holds_private_key(text)
    with pytest.raises(CertificateError, match="private key"):
        read_certificate(text)


def test_public_texts_hold_no_private_key() -> None:
    """The search for private keys finds none where there is none."""
    for defect in READ:
        assert not holds_private_key(BY_DEFECT[defect]())


# Keys at the edge


@pytest.mark.parametrize(
    ("kind", "key_kind", "bits"),
    [
        ("rsa", KeyKind.RSA, 2048),
        ("p256", KeyKind.P256, 256),
        ("p384", KeyKind.P384, 384),
        ("p521", KeyKind.P521, 521),
        ("ed25519", KeyKind.ED25519, 256),
    ],
)
def test_supported_keys(kind: material.KeyKind, key_kind: KeyKind, bits: int) -> None:
    """Each supported kind is read, with its algorithms and its length of signature."""
    key = read_certificate(material.certificate(material.private_key(kind))).key
    assert (key_kind, bits) == (key.kind, key.bits)
    assert material.ALGORITHM_OF[kind] in key.algorithms
    assert len(material.signature(material.private_key(kind), material.ALGORITHM_OF[kind], b"")) == key.signature_octets


@pytest.mark.parametrize("exponent", [65537, 65539, 2**32 + 1, 2**63 + 29])
def test_rsa_exponents_that_serve(exponent: int) -> None:
    """Odd exponents from 65537 up, within what OpenSSL verifies with at every size."""
    assert read_certificate(certificate_around(rsa_spki(rsa_modulus(), exponent))).key.bits == 2048


@pytest.mark.parametrize("bits", [2048, 2049, 2056, 3072, 4096, 8192, 16384])
def test_rsa_sizes_that_serve(bits: int) -> None:
    """Any size between the least of RFC 7518 and the greatest that OpenSSL takes, in octets rounded up."""
    key = read_certificate(certificate_around(rsa_spki((1 << (bits - 1)) | (1 << 99) | 1, 65537))).key
    assert (bits, (bits + 7) // 8) == (key.bits, key.signature_octets)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_pss_key_makes_only_pss_signatures(algorithm: str) -> None:
    """RFC 4055 section 1.2: a key marked id-RSASSA-PSS must never be used with another scheme."""
    certificate = read_certificate(BY_DEFECT["rsa-pss-key"]())
    token = signed(material.private_key("rsa", "by defect"), algorithm=algorithm)
    expected = None if algorithm.startswith("PS") else Reason.ALGORITHM_NOT_ALLOWED
    assert expected is reason_of(decision_on(token, certificate))


def test_thumbprints_differ_for_one_key() -> None:
    """A renewed certificate over the same key is another certificate."""
    assert read_certificate(_pem()).thumbprint != read_certificate(_pem()).thumbprint


def test_key_is_not_printed() -> None:
    """The representation of a certificate is short enough for a log and names no key object."""
    assert "JWK" not in repr(read_certificate(_pem()))


def test_times_are_utc() -> None:
    """The machine's time zone plays no part."""
    certificate = read_certificate(_pem())
    loaded = x509.load_pem_x509_certificate(_pem().encode())
    assert abs(loaded.not_valid_before_utc.astimezone(UTC).timestamp() - certificate.not_before) < 60


@settings(deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda octets: base64.b64encode(octets).decode())))
def test_any_text_gives_a_certificate_or_the_one_exception(text: str) -> None:
    """No text of a portal's field raises anything but CertificateError."""
    with pytest.raises(CertificateError):
        read_certificate(text)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_one_changed_octet_gives_a_certificate_or_the_one_exception(position: int, octet: int) -> None:
    """Damage anywhere in the DER gives another certificate or CertificateError, and never the same thumbprint."""
    original = base64.b64decode(_body(_FIXED))
    position %= len(original)
    damaged = original[:position] + bytes([octet]) + original[position + 1 :]
    try:
        certificate = read_certificate(base64.b64encode(damaged).decode())
    except CertificateError:
        return
    assert (damaged == original) is (certificate.thumbprint == hashlib.sha256(original).hexdigest())


_FIXED = BY_DEFECT["key-usage-with-digital-signature"]()


def test_damaged_certificates_do_not_let_others_in() -> None:
    """A certificate damaged in any one octet, where it still reads, verifies its own key's JWS or none."""
    original = base64.b64decode(_body(_FIXED))
    token, foreign = signed(KEY), signed(material.private_key("p256", "foreign"))
    read = 0
    for position in range(0, len(original), 3):
        damaged = original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :]
        try:
            certificate = read_certificate(base64.b64encode(damaged).decode())
        except CertificateError:
            continue
        read += 1
        snapshot = snapshot_of(application("client", certificate))
        assert reason_of(decide(snapshot, request_with(foreign), NOW)) is not None
        assert reason_of(decide(snapshot, request_with(token), NOW)) is not Reason.INTERNAL_ERROR
    assert read > 20


# Private keys for the /sign stand-in


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521", "ed25519"])
def test_private_keys_for_signing(kind: material.KeyKind) -> None:
    """PKCS #8 PEM of each kind serves."""
    assert load_private_key(material.private_pem(material.private_key(kind)).encode()).jwk.has_private


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(BY_DEFECT["public-key-only"]().encode(), id="public-key"),
        pytest.param(BY_DEFECT["nothing-wrong"]().encode(), id="certificate"),
        pytest.param(
            BY_DEFECT["private-key-encrypted"]().partition("\n-----END CERTIFICATE-----\n")[2].encode(), id="encrypted"
        ),
        pytest.param(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", id="broken"),
    ],
)
def test_what_is_no_private_key(pem: bytes) -> None:
    """All else gives the one exception."""
    with pytest.raises(CertificateError, match="private key"):
        load_private_key(pem)
