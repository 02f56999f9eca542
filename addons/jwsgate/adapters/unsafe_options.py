"""mitmproxy options under which a request could pass the gate unseen, or change after it was decided."""

from collections.abc import Iterable
from typing import Any, Final

from mitmproxy.proxy import mode_specs

__all__ = ["STICKY", "unsafe_options"]

STICKY: Final = "it sends what one client was given with the requests of another"
_MUST_BE_EMPTY: Final = {
    "stream_large_bodies": "it sends bodies upstream before add-ons have seen them",
    "ignore_hosts": "it passes connections on without any hook",
    "allow_hosts": "it passes all other connections on without any hook",
    "tcp_hosts": "it passes connections on as raw TCP",
    "udp_hosts": "it passes connections on as raw UDP",
    "server_replay": "it replaces the gate's answers by recorded ones",
    "map_remote": "it changes where a request goes after it was decided",
    "stickyauth": STICKY,
    "stickycookie": STICKY,
}


def _unsafe_mode(spec: str) -> str | None:
    try:
        mode = mode_specs.ProxyMode.parse(spec)
    except ValueError:
        return None  # mitmproxy's own message is the better one
    match mode:
        case mode_specs.RegularMode() | mode_specs.UpstreamMode():
            return None
        case mode_specs.ReverseMode() if mode.scheme in ("http", "https"):
            return None
    return f"mode {spec}: the gate guards regular, upstream, reverse:http and reverse:https only"


def unsafe_options(options: Any) -> list[str]:
    """What is wrong with the options of a mitmproxy master; empty when the gate can guard under them."""
    found = [
        f"{name}: {why}; remove it"
        for name, why in _MUST_BE_EMPTY.items()
        if name in options and getattr(options, name)
    ]
    if "validate_inbound_headers" in options and not options.validate_inbound_headers:
        found.append("validate_inbound_headers: false opens the way for request smuggling; leave it true")
    if "connection_strategy" in options and options.connection_strategy != "lazy":
        found.append("connection_strategy: eager connects upstream for requests that are then denied; leave it lazy")
    modes: Iterable[str] = options.mode if "mode" in options else ()
    return found + [message for mode in modes if (message := _unsafe_mode(mode))]
