"""Clients, their keys and certificates, and the JWS that they send."""

import datetime
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from proxy import POLICY

import material
from e2e.estate import Files

__all__ = ["ALG", "BITS", "Estate", "new_keys", "sign"]

ALG, BITS = "RS256", 2048


def new_keys(count: int) -> list[str]:
    """So many private keys as PEM."""
    return [material.private_pem(material.private_key("rsa", f"peer {number}", BITS)) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Estate:
    """Clients with their keys, and the files that each contestant wants of them."""

    directory: Path
    count: int
    keys: Sequence[str]

    def client(self, number: int) -> str:
        """A client ID; also the `kid` of the client's JWS."""
        return f"00000000-0000-4000-8000-{number:012d}"

    def key_file(self, number: int) -> Path:
        """The public key of a client."""
        return self.directory / f"key-{number % len(self.keys)}.pem"

    @property
    def files(self) -> Files:
        """Portal and policy of jwsgate."""
        return Files(self.directory, self.directory / "portal.json", self.directory / "policy.yaml")

    def write(self) -> None:
        """Portal, policy, public keys."""
        ca = ec.generate_private_key(ec.SECP256R1())
        publics = [serialization.load_pem_private_key(key.encode(), None).public_key() for key in self.keys]
        for number, public in enumerate(publics):
            pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            self.key_file(number).write_bytes(pem)
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench CA")])
        applications = []
        for number in range(self.count):
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"client {number}")])
            certificate = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer)
                .public_key(publics[number % len(publics)])  # type: ignore[arg-type]
                .serial_number(number + 1)
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=365))
                .sign(ca, hashes.SHA256())
            )
            pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
            applications.append(
                {
                    "name": f"application-{number}",
                    "title": f"Application {number}",
                    "state": "enabled",
                    "client_id": self.client(number),
                    "application_public_certificate_entry": pem,
                }
            )
        self.files.portal.write_text(json.dumps({"total_results": self.count, "results": applications}))
        unfit = "    client_id_claim: azp\n", "  - {name: whoami, path: /whoami, respond: claims}\n"
        policy = POLICY
        for line in unfit:
            policy = policy.replace(line, "")
        self.files.policy.write_text(policy)


def _claims(**more: object) -> dict[str, object]:
    now = int(time.time())
    return {"iss": "tvo", "aud": "the world", "exp": now + 7200, "iat": now, **more}


def _signed(order: tuple[Estate, int, int]) -> list[str]:
    estate, start, stop = order
    keys = [serialization.load_pem_private_key(pem.encode(), None) for pem in estate.keys]
    lines = []
    for number in range(start, stop):
        client = number % estate.count
        header = {"alg": ALG, "kid": estate.client(client)}
        jws = material.jws(keys[client % len(keys)], _claims(n=number), header=header)  # type: ignore[arg-type]
        lines.append(f"{estate.client(client)} {jws}\n")
    return lines


def sign(estate: Estate, file: Path, count: int, first: int = 0) -> Path:
    """A file of so many JWS, the clients in turn: lines of client ID and JWS."""
    last = first + count
    orders = [(estate, at, min(at + 500, last)) for at in range(first, last, 500)]
    with ProcessPoolExecutor(2) as pool, file.open("w") as lines:
        for made in pool.map(_signed, orders):
            lines.writelines(made)
    return file
