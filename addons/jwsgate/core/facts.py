"""Facts: all that the core knows of one request, as octets, exactly as they would go upstream."""

from typing import Final, NamedTuple

__all__ = ["RequestFacts", "canonical_header_name"]

_FOLD: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_.", b"abcdefghijklmnopqrstuvwxyz--")


class RequestFacts(NamedTuple):
    """One request, free of any proxy's types. A tuple, as that is cheaper to make than a frozen dataclass.

    `target` is the origin-form request target (RFC 9112 section 3.2.1): path and query, undecoded.
    `headers` are the HTTP header fields in order, repeated ones repeated.
    `peer` is the address that the TCP connection came from, empty where it is not known.
    `client_certificate` is the TLS client certificate of the connection, whose key the client has proven to hold in
    the handshake: SHA-256 of its DER, in lower-case hex.
    """

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    peer: str = ""
    client_certificate: str | None = None


def canonical_header_name(name: bytes) -> bytes:
    """The one spelling under which look-alike HTTP header names meet.

    CGI, WSGI and several servers fold `_` (some also `.`) and `-` into one name, so that an upstream
    may read `X_IBM_Client_Id` where the gate saw no client ID at all.
    """
    return name.translate(_FOLD)
