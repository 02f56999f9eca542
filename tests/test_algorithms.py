"""The table of signature algorithms."""

from __future__ import annotations

from typing import get_args

import pytest

from jwsgate.core.algorithms import ALGORITHMS, ALGORITHMS_BY_KEY, KeyKind, signature_octets
from jwsgate.files.shapes import Algorithm


def test_the_ten_algorithms() -> None:
    """Exactly these: a change of this list is a change of what the gate trusts."""
    expected = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
    assert expected == set(ALGORITHMS)
    assert len(ALGORITHMS) == len(expected)


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        (KeyKind.RSA, "RS256 RS384 RS512 PS256 PS384 PS512"),
        (KeyKind.P256, "ES256"),
        (KeyKind.P384, "ES384"),
        (KeyKind.P521, "ES512"),
        (KeyKind.ED25519, "EdDSA"),
    ],
)
def test_each_key_has_its_own_algorithms(kind: KeyKind, algorithms: str) -> None:
    """RFC 7518 sections 3.3 to 3.5, RFC 8037 section 3.1: no algorithm goes with two kinds of key."""
    assert set(algorithms.split()) == set(ALGORITHMS_BY_KEY[kind])


def test_every_kind_of_key_is_in_the_table() -> None:
    """A kind without algorithms would be a certificate that can be registered and never used."""
    assert set(KeyKind) == set(ALGORITHMS_BY_KEY)
    assert all(ALGORITHMS_BY_KEY.values())


@pytest.mark.parametrize("name", ["none", "None", "NONE", "HS256", "HS384", "HS512", "RSA1_5", "ES256K", "", "rs256"])
def test_dangerous_and_unknown_names_are_absent(name: str) -> None:
    """RFC 8725 sections 2.1 and 3.1: `none` and the HMAC family cannot even be configured; names have one case."""
    assert name not in ALGORITHMS


def test_policy_files_name_the_same_algorithms() -> None:
    """The literal in the policy's schema is the table."""
    assert set(ALGORITHMS) == set(get_args(Algorithm))


@pytest.mark.parametrize(
    ("kind", "bits", "octets"),
    [
        pytest.param(KeyKind.RSA, 2048, 256, id="rsa-2048"),
        pytest.param(KeyKind.RSA, 2049, 257, id="rsa-2049"),
        pytest.param(KeyKind.RSA, 2055, 257, id="rsa-2055"),
        pytest.param(KeyKind.RSA, 2056, 257, id="rsa-2056"),
        pytest.param(KeyKind.RSA, 3072, 384, id="rsa-3072"),
        pytest.param(KeyKind.RSA, 4096, 512, id="rsa-4096"),
        pytest.param(KeyKind.P256, 256, 64, id="es256"),
        pytest.param(KeyKind.P384, 384, 96, id="es384"),
        pytest.param(KeyKind.P521, 521, 132, id="es512"),
        pytest.param(KeyKind.ED25519, 256, 64, id="eddsa"),
    ],
)
def test_signature_lengths(kind: KeyKind, bits: int, octets: int) -> None:
    """RFC 8017 section 8, RFC 7518 section 3.4, RFC 8032 section 5.1.6."""
    assert octets == signature_octets(kind, bits)
