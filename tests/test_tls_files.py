"""The files that TLS needs, and what is told of those that do not serve."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

import material
from feature_material import DAY, NOW, Issued, issue
from jwsgate.files.problems import Unfit
from jwsgate.files.tls_files import check_ca_file, read_identity

CA = issue("tls-ca", ca=True)
LEAF = issue("tls-leaf", CA)
KEY = material.private_pem(LEAF.key)


def encrypted(form: PrivateFormat) -> str:
    """The key of the leaf with a password."""
    return LEAF.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")).decode()


def traditional(issued: Issued) -> str:
    """The key as OpenSSL wrote it before PKCS #8."""
    return issued.key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, material.serialization.NoEncryption()
    ).decode()


RSA = issue("tls-rsa", kind="rsa")
ED25519 = issue("tls-ed25519", kind="ed25519")


@pytest.mark.parametrize(
    ("content", "length"),
    [
        pytest.param(LEAF.pem + KEY, 1, id="certificate-first"),
        pytest.param(KEY + LEAF.pem, 1, id="key-first"),
        pytest.param(LEAF.pem + CA.pem + KEY, 2, id="chain"),
        pytest.param(LEAF.pem + KEY + CA.pem, 2, id="key-between"),
        pytest.param("Bag Attributes\n" + LEAF.pem + "Key Attributes: <None>\n" + KEY, 1, id="text-between"),
        pytest.param((LEAF.pem + KEY).replace("\n", "\r\n"), 1, id="crlf"),
        pytest.param(LEAF.pem + traditional(LEAF), 1, id="traditional-ec"),
        pytest.param(RSA.pem + traditional(RSA), 1, id="traditional-rsa"),
        pytest.param(ED25519.pem + material.private_pem(ED25519.key), 1, id="ed25519"),
    ],
)
def test_identities(tmp_path: Path, content: str, length: int) -> None:
    """Every order in which people put the parts together."""
    path = tmp_path / "gate.pem"
    path.write_bytes(content.encode())
    identity = read_identity(path, NOW)
    assert len(identity.chain) == length
    assert identity.chain[0].public_key() == identity.key.public_key()


OLD = issue("tls-old", end=NOW - 1)
FUTURE = issue("tls-future", start=NOW + 1)
UNFIT = [
    pytest.param(LEAF.pem, "no private key", id="no-key"),
    pytest.param(KEY, "no certificate", id="no-certificate"),
    pytest.param("", "no certificate", id="empty"),
    pytest.param("nonsense", "no certificate", id="nonsense"),
    pytest.param(LEAF.pem[:-50] + KEY, "no certificate", id="certificate-cut-short"),
    pytest.param(LEAF.pem + KEY[:-30], "no private key", id="key-cut-short"),
    pytest.param(LEAF.pem + KEY.replace("M", "N", 1), "cannot be read", id="key-garbled"),
    pytest.param(LEAF.pem + KEY + KEY, "more than one", id="two-keys"),
    pytest.param(LEAF.pem + encrypted(PrivateFormat.PKCS8), "password", id="encrypted"),
    pytest.param(LEAF.pem + encrypted(PrivateFormat.TraditionalOpenSSL), "password", id="encrypted-traditional"),
    pytest.param(LEAF.pem + material.private_pem(CA.key), "does not fit", id="another-key"),
    pytest.param(CA.pem + LEAF.pem + KEY, "does not fit", id="chain-upside-down"),
    pytest.param(OLD.pem + material.private_pem(OLD.key), "expired", id="expired"),
    pytest.param(FUTURE.pem + material.private_pem(FUTURE.key), "not valid yet", id="not-yet-valid"),
]


@pytest.mark.parametrize(("content", "message"), UNFIT)
def test_unfit_identities(tmp_path: Path, content: str, message: str) -> None:
    """Each with what is wrong, and what to do."""
    path = tmp_path / "gate.pem"
    path.write_text(content)
    with pytest.raises(Unfit, match=message) as caught:
        read_identity(path, NOW)
    assert caught.value.remedy
    assert "PRIVATE" not in str(caught.value)


def test_order_is_told_apart_from_a_foreign_key(tmp_path: Path) -> None:
    """When the certificate of the key is there, it only has to come first."""
    path = tmp_path / "gate.pem"
    path.write_text(CA.pem + LEAF.pem + KEY)
    with pytest.raises(Unfit) as caught:
        read_identity(path, NOW)
    assert "first" in caught.value.remedy


def test_both_ends_of_the_time(tmp_path: Path) -> None:
    """RFC 5280 section 4.1.2.5: both included."""
    path = tmp_path / "gate.pem"
    one = issue("tls-short", start=NOW, end=NOW + DAY)
    path.write_text(one.pem + material.private_pem(one.key))
    for now in (NOW, NOW + DAY):
        assert read_identity(path, now).chain


@pytest.mark.parametrize("name", ["missing.pem", ".", "gate.pem/x", "\0", "fifo"])
def test_what_is_no_file(tmp_path: Path, name: str) -> None:
    """Told, and nothing waited for."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gate.pem").touch()
    for read in (check_ca_file, lambda path: read_identity(path, NOW)):
        with pytest.raises(Unfit) as caught:
            read(tmp_path / name)
        assert caught.value.remedy


def test_too_large(tmp_path: Path) -> None:
    """No certificate needs a megabyte."""
    path = tmp_path / "gate.pem"
    path.write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(Unfit, match="larger"):
        read_identity(path, NOW)


def test_ca_files(tmp_path: Path) -> None:
    """One or more certificates in PEM."""
    path = tmp_path / "ca.pem"
    path.write_text(CA.pem + LEAF.pem)
    check_ca_file(path)
    for content in ("", "nonsense", KEY):
        path.write_text(content)
        with pytest.raises(Unfit, match="no CA certificate"):
            check_ca_file(path)
