"""The test material itself, checked with a JOSE library that has no part in making it."""

from __future__ import annotations

import pytest
import yaml
from cryptography import x509
from joserfc import jws as reference
from joserfc.jwk import ECKey, OKPKey, RSAKey

import material


@pytest.mark.parametrize("kind", list(material.ALGORITHM_OF))
def test_signatures_are_good(kind: material.KeyKind) -> None:
    """joserfc verifies what `jws` signs, for each kind of key, and refuses it once altered."""
    key = material.private_key(kind)
    imported: RSAKey | OKPKey | ECKey
    match kind:
        case "rsa":
            imported = RSAKey.import_key(material.public_pem(key))
        case "ed25519":
            imported = OKPKey.import_key(material.public_pem(key))
        case _:
            imported = ECKey.import_key(material.public_pem(key))
    # The name of RFC 9864, because joserfc warns of the older "EdDSA".
    algorithm = "Ed25519" if kind == "ed25519" else material.ALGORITHM_OF[kind]
    token = material.jws(key, payload=b'{ "a": 1 }', algorithm=algorithm)
    assert reference.deserialize_compact(token, imported, algorithms=[algorithm]).payload == b'{ "a": 1 }'
    with pytest.raises(Exception, match="bad_signature"):
        reference.deserialize_compact(material.altered(token, token.index(".") + 2), imported, algorithms=[algorithm])


def test_portal_export_is_yaml() -> None:
    """The hand-made YAML reads back: certificate whole, empty entry told from absent one."""
    pem = material.certificate(material.private_key("ed25519"))
    text = material.portal_yaml(
        [
            material.Application("a", ("one", "two"), pem),
            material.Application("b", ("three",), ""),
            material.Application("c", ("four",), state="disabled"),
        ]
    )
    first, second, third = yaml.safe_load(text)["results"]
    assert pem == first["application_public_certificate_entry"]
    assert [credential["client_id"] for credential in first["credentials"]] == ["one", "two"]
    assert second["application_public_certificate_entry"] == ""
    assert "application_public_certificate_entry" not in third
    assert third["state"] == "disabled"


def test_certificate_windows() -> None:
    """Certificates have the validity asked for and carry the key's public half."""
    key = material.private_key("p256")
    loaded = x509.load_pem_x509_certificate(material.certificate(key, from_days=-9, to_days=-2).encode())
    assert round((loaded.not_valid_after_utc - loaded.not_valid_before_utc).total_seconds() / 86400) == 7
    assert key.public_key() == loaded.public_key()
