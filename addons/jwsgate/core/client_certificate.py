"""Client certificates of mutual TLS (RFC 8705, self-signed method), besides the JWS and never in its place.

The handshake proves that the client holds the key; which certificate it has to be is what the portal says. Who
issued it is not asked. Where a balancer ends TLS, a header carries the certificate on. Anybody can write a header:
it counts only from the addresses that the policy lists, and is refused from all others, on every route.
"""

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from .certificates import RegisteredCertificate
from .facts import RequestFacts, canonical_header_name
from .reasons import Reason, Rejection

__all__ = [
    "CertificateFormat",
    "CertificateHeader",
    "ClientCertificate",
    "check_certificate_headers",
    "check_client_certificate",
]

type CertificateFormat = Literal["rfc9440", "url-encoded-pem", "base64-der", "xfcc"]
type Network = IPv4Network | IPv6Network

_MAX_VALUE_OCTETS: Final = 65536
_BLOCK: Final = rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]++)-----END CERTIFICATE-----\s*+"
_CHAIN: Final = re.compile(_BLOCK + rb"(?:" + _BLOCK.replace(b"(", b"(?:", 1) + rb")*+")
_RFC9440: Final = re.compile(rb":([A-Za-z0-9+/]++={0,2}):")
# One element of pairs; a second one, after a comma, is what another proxy, or the client, had put there before.
_XFCC_PAIR: Final = rb"([A-Za-z]++)=(\"(?:[^\"\\]|\\.)*+\"|[^\",;=\\]*+)"
_XFCC: Final = re.compile(_XFCC_PAIR + rb"(?:;" + _XFCC_PAIR + rb")*+")
_SHA256: Final = re.compile(rb"[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class CertificateHeader:
    """The header in which balancers at the addresses in `networks` pass the client certificate on."""

    name: str
    format: CertificateFormat
    networks: tuple[Network, ...]
    exact: bytes = field(init=False, repr=False)
    canonical: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact", self.name.encode("ascii").lower())
        object.__setattr__(self, "canonical", canonical_header_name(self.exact))

    def trusts(self, peer: str) -> bool:
        """Whether the header counts from the address that the TCP connection came from."""
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # how a listener on [::] sees IPv4
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The demand for a client certificate: on the TLS connection itself or, where `header` is set, in that header."""

    header: CertificateHeader | None = None


def _unsafe(detail: str) -> Rejection:
    return Rejection(Reason.REQUEST_UNSAFE, detail)


def check_certificate_headers(
    facts: RequestFacts, headers: Mapping[bytes, Collection[CertificateHeader]]
) -> dict[bytes, bytes]:
    """Refuse forged headers, whichever route the request has, since its upstream may rely on them.

    `headers` are all those that the policies name, by their canonical name. Returns the values that were sent, by the
    name in lower case.

    Raises:
        Rejection: `request_unsafe` when one comes from elsewhere than the policies list, twice, or only looks alike.
    """
    values: dict[bytes, bytes] = {}
    seen = set()
    for name, value in facts.headers:
        canonical = canonical_header_name(name)
        if (known := headers.get(canonical)) is None:
            continue
        about = next(iter(known)).name
        if not any(header.trusts(facts.peer) for header in known):
            raise _unsafe(f"header {about} comes from an address that the policy does not list")
        if not any(header.exact == name.lower() for header in known):
            raise _unsafe(f"a header imitates {about} with other punctuation")
        if canonical in seen:
            raise _unsafe(f"header {about} is repeated")
        seen.add(canonical)
        values[name.lower()] = value.strip(b" \t")
    return values


def _der(text: bytes) -> str:
    return hashlib.sha256(b64decode(re.sub(rb"\s+", b"", text), validate=True)).hexdigest()


def _thumbprint(header: CertificateHeader, value: bytes) -> str:
    """SHA-256 of the certificate in a header's value, in hex; raises `Rejection`."""
    try:
        if len(value) <= _MAX_VALUE_OCTETS:
            match header.format:
                case "rfc9440":
                    if match := _RFC9440.fullmatch(value):
                        return _der(match[1])
                case "url-encoded-pem":
                    # As nginx and AWS write it: "+" stands for itself, and the chain follows the certificate.
                    if match := _CHAIN.fullmatch(unquote_to_bytes(value)):
                        return _der(match[1])
                case "base64-der":
                    return _der(value)
                case "xfcc":
                    if _XFCC.fullmatch(value):
                        found = [text for name, text in re.findall(_XFCC_PAIR, value) if name.lower() == b"hash"]
                        if len(found) == 1 and _SHA256.fullmatch(found[0]):
                            return str(found[0].lower(), "ascii")
    except binascii.Error:
        pass
    raise _unsafe(f"header {header.name} is not of the form {header.format}")


def check_client_certificate(
    facts: RequestFacts,
    demand: ClientCertificate,
    sent: Mapping[bytes, bytes],
    certificates: Collection[RegisteredCertificate],
) -> None:
    """Compare the client certificate with those of the application that can be used now.

    `sent` is what `check_certificate_headers` found.

    Raises:
        Rejection: `client_certificate_missing`, `client_certificate_mismatch`, or `request_unsafe` for a header that
            cannot be read or comes from elsewhere than this route lists.
    """
    header = demand.header
    if header is None:
        if facts.client_certificate is None:
            raise Rejection(Reason.CLIENT_CERTIFICATE_MISSING, "the connection has no TLS client certificate")
        thumbprint = facts.client_certificate
    else:
        value = sent.get(header.exact, b"")
        if value and not header.trusts(facts.peer):
            raise _unsafe(f"header {header.name} comes from an address that the route does not list")
        if not value:
            raise Rejection(Reason.CLIENT_CERTIFICATE_MISSING, f"header {header.name} is missing or empty")
        thumbprint = _thumbprint(header, value)
    if not any(certificate.thumbprint == thumbprint for certificate in certificates):
        raise Rejection(
            Reason.CLIENT_CERTIFICATE_MISMATCH, "the TLS client certificate is none that the application can use now"
        )
