"""Client applications as a portal has them registered, with the private keys that only their developers have."""

import datetime
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import yaml
from cryptography.hazmat.primitives.serialization import Encoding
from jwcrypto.jwk import JWK

from jwsgate.core.algorithms import ALGORITHMS
from jwsgate.core.key_pairs import PrivateKey, make_key, private_pem, self_signed
from jwsgate.core.signing import detached, sign_compact

__all__ = ["ClientApplication", "portal_export"]

_NAMESPACE: Final = uuid.UUID("5b4c8b0e-8f0e-4a52-9d0b-0c9a2f6d7a11")
_DAY: Final = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClientApplication:
    """An application of the portal, its private key, and the certificates that it registered."""

    name: str
    client_id: str
    algorithm: str
    key: PrivateKey
    certificates: tuple[str, ...]
    """PEM; those that are registered, so that none is an application without a certificate."""
    state: str = "enabled"

    @classmethod
    def make(
        cls,
        name: str = "test-client",
        *,
        algorithm: str = "RS256",
        client_id: str | None = None,
        valid_from: datetime.timedelta = -_DAY,
        valid_to: datetime.timedelta = 365 * _DAY,
        state: str = "enabled",
    ) -> Self:
        """An application with a new key for an algorithm (RS256 … PS512, ES256, ES384, ES512, EdDSA).

        Its certificate is self-signed, and valid from and to these distances from now: a negative `valid_to` makes one
        that has expired. The client ID follows from the name if not said. `state` is the portal's: `enabled`,
        `disabled` or `pending`.

        Raises:
            ValueError: when there is no such algorithm.
        """
        if algorithm not in ALGORITHMS:
            raise ValueError(f"no algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
        key = make_key(algorithm)
        now = datetime.datetime.now(datetime.UTC)
        certificate = self_signed(key, name, now + valid_from, now + valid_to)
        return cls(
            name=name,
            client_id=client_id or str(uuid.uuid5(_NAMESPACE, name)),
            algorithm=algorithm,
            key=key,
            certificates=(certificate.public_bytes(Encoding.PEM).decode("ascii"),),
            state=state,
        )

    @property
    def key_pem(self) -> str:
        """The private key as unencrypted PKCS #8 PEM."""
        return private_pem(self.key).decode("ascii")

    def without_certificate(self) -> Self:
        """The same application before it registered anything."""
        return replace(self, certificates=())

    def renewed(self) -> Self:
        """The same application with a new key, whose certificate is registered beside those it had."""
        new = type(self).make(self.name, algorithm=self.algorithm)
        return replace(self, key=new.key, certificates=(*self.certificates, *new.certificates))

    def sign(
        self,
        claims: Mapping[str, Any] | None = None,
        *,
        lifetime: int = 300,
        header: Mapping[str, Any] | None = None,
        body: bytes | None = None,
    ) -> str:
        """A compact JWS by the application's key.

        Claims are `iat`, `exp` (`lifetime` seconds later) and `jti`, and yours beside or in place of them; one that is
        None is left out. `header` adds header parameters; an `alg` among them has to be one of the key's. With `body`
        the JWS is detached, and signs that.
        """
        now = int(time.time())
        content = {"iat": now, "exp": now + lifetime, "jti": uuid.uuid4().hex} | dict(claims or {})
        content = {name: value for name, value in content.items() if value is not None}
        payload = json.dumps(content).encode("utf-8") if body is None else body
        parameters = {"alg": self.algorithm} | dict(header or {})
        jws = sign_compact(JWK.from_pyca(self.key), parameters, payload).decode("ascii")
        return jws if body is None else detached(jws)

    def headers(
        self,
        claims: Mapping[str, Any] | None = None,
        *,
        client_id_header: str = "X-IBM-Client-Id",
        jws_header: str = "jwt",
        **signing: Any,
    ) -> dict[str, str]:
        """The two HTTP headers of a request that a gate lets pass; `signing` goes to `sign`."""
        return {client_id_header: self.client_id, jws_header: self.sign(claims, **signing)}

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write the private key, readable by its owner alone, and the newest certificate. Returns both paths.

        Raises:
            OSError: when they cannot be written.
        """
        key, certificate = directory / f"{self.name}.key", directory / f"{self.name}.crt"
        key.touch(0o600)
        key.chmod(0o600)  # where it was there already
        key.write_text(self.key_pem, "ascii")
        certificate.write_text(self.certificates[-1] if self.certificates else "", "ascii")
        return key, certificate


def _entry(application: ClientApplication) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "app",
        "id": str(uuid.uuid5(_NAMESPACE, application.client_id)),
        "name": application.name,
        "title": application.name,
        "state": application.state,
        "credentials": [{"name": f"{application.name}-credential", "client_id": application.client_id}],
    }
    if application.certificates:
        first, *others = application.certificates
        entry["application_public_certificate_entry"] = first
        if others:
            entry["application_public_certificates"] = [{"entry": other} for other in others]
    return entry


def portal_export(applications: Iterable[ClientApplication]) -> str:
    """A portal export with these applications, as YAML."""
    entries = [_entry(application) for application in applications]
    return yaml.safe_dump({"total_results": len(entries), "results": entries}, sort_keys=False)
