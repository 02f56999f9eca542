"""Values of policies that only look like what they stand for."""

import ipaddress
from typing import Any, Final

from .policy_parts import RESERVED
from .problems import Unfit

__all__ = ["METHODS", "claim_of_method", "claim_of_path", "method", "network", "place_header"]

METHODS: Final = frozenset({
    "ACL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL", "LINK", "LOCK", "MERGE",
    "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS", "ORDERPATCH", "PATCH",
    "POST", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "TRACE", "UNBIND", "UNCHECKOUT",
    "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF",
})  # fmt: skip
"""The methods that IANA has registered, as far as a policy can write them."""


def method(value: Any) -> Any:
    """What somebody wrote for every method is refused; raises `Unfit`."""
    if isinstance(value, str) and value.upper() in {"*", "ALL", "ANY"}:
        raise Unfit(f"is no method: {value} is nothing that a client sends", "leave methods out: then all are meant")
    return value


def claim_of_method(name: str) -> str:
    """The name of a claim; raises `Unfit`."""
    if name in METHODS:
        raise Unfit("is a method, and no name of a claim", "name the claim that holds the method, such as htm")
    return name


def claim_of_path(name: str) -> str:
    """The name of a claim; raises `Unfit`."""
    if name.startswith("/"):
        raise Unfit("is a path, and no name of a claim", "name the claim that holds the path, such as path")
    return name


def place_header(name: str) -> str:
    """The name of a header in which clients may send a value; raises `Unfit`."""
    if name.lower() in RESERVED - {"authorization", "proxy-authorization"}:
        remedy = "write cookie: and its name" if name.lower() == "cookie" else "write another header, such as jwt"
        raise Unfit("is a header with a meaning of its own", remedy)
    return name


def network(value: object) -> object:
    """A network that does not hold everybody; raises `Unfit`."""
    try:
        found = ipaddress.ip_network(str(value))
    except ValueError as error:
        host_bits = "host bits" in str(error)
        remedy = f"write {ipaddress.ip_network(str(value), strict=False)}" if host_bits else "write it like 10.0.0.0/8"
        raise Unfit("has bits beyond its prefix" if host_bits else "is not a network", remedy) from None
    if found.prefixlen == 0:
        raise Unfit("lets everybody write this header", "list the addresses of the balancers")
    return found
