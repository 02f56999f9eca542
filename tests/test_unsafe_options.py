"""mitmproxy options that would open the gate, on mitmproxy's own option managers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from mitmproxy.addons import default_addons
from mitmproxy.options import Options
from mitmproxy.optmanager import OptManager
from mitmproxy.test import taddons

from jwsgate.adapters.unsafe_options import unsafe_options


@pytest.fixture
def options() -> Iterator[Any]:
    """The options of mitmdump with all its add-ons, and the one default changed that is not safe."""
    with taddons.context(*default_addons(), loadcore=False) as context:
        context.options.update(connection_strategy="lazy")
        yield context.options


def test_defaults_are_safe(options: Any) -> None:
    """mitmdump as it comes, but for connecting upstream early."""
    assert unsafe_options(options) == []


def test_unknown_options_are_safe() -> None:
    """A master that knows fewer options lacks nothing."""
    assert unsafe_options(Options()) == []
    assert unsafe_options(OptManager()) == []


UNSAFE: list[Any] = [
    pytest.param("stream_large_bodies", "1m", id="stream-large-bodies"),
    pytest.param("ignore_hosts", ["example.com"], id="ignore-hosts"),
    pytest.param("allow_hosts", ["example.com"], id="allow-hosts"),
    pytest.param("tcp_hosts", ["example.com"], id="tcp-hosts"),
    pytest.param("udp_hosts", ["example.com"], id="udp-hosts"),
    pytest.param("map_remote", ["|//a/|//b/"], id="map-remote"),
    pytest.param("stickyauth", "~all", id="stickyauth"),
    pytest.param("stickycookie", "~all", id="stickycookie"),
    pytest.param("validate_inbound_headers", False, id="validate-inbound-headers"),
    pytest.param("connection_strategy", "eager", id="connection-strategy"),
    pytest.param("mode", ["transparent"], id="mode"),
]


@pytest.mark.parametrize(("name", "value"), UNSAFE)
def test_each_is_refused(options: Any, name: str, value: object) -> None:
    """One option, one line: its name first, why, and what to do."""
    options.update(**{name: value})
    (message,) = unsafe_options(options)
    assert message.startswith(name)
    assert ": " in message


def test_server_replay() -> None:
    """Recorded answers would replace the gate's; the option itself wants files that exist."""
    options = OptManager()
    options.add_option("server_replay", Sequence[str], [], "")
    assert unsafe_options(options) == []
    options.update(server_replay=["flows"])
    (message,) = unsafe_options(options)
    assert message.startswith("server_replay: ")


def test_all_are_told_together(options: Any) -> None:
    """Whoever mends a command line wants to hear it once."""
    values = {parameter.values[0]: parameter.values[1] for parameter in UNSAFE}
    # mitmproxy itself refuses these two together.
    del values["allow_hosts"]
    options.update(**values)
    assert len(values) == len(unsafe_options(options))


@pytest.mark.parametrize(
    "mode",
    [
        "regular",
        "regular@8080",
        "regular@127.0.0.1:0",
        "upstream:http://proxy:3128",
        "upstream:https://proxy",
        "reverse:http://127.0.0.1:9000",
        "reverse:https://example.com",
        "reverse:http://example.com@127.0.0.1:8443",
        "reverse:example.com",
    ],
)
def test_modes_under_guard(options: Any, mode: str) -> None:
    """Where all that passes is HTTP."""
    options.update(mode=[mode])
    assert unsafe_options(options) == []


@pytest.mark.parametrize(
    "mode",
    [
        "transparent",
        "socks5",
        "dns",
        "local",
        "local:curl",
        "wireguard",
        "tun",
        "reverse:tcp://example.com:80",
        "reverse:tls://example.com:443",
        "reverse:udp://example.com:53",
        "reverse:dtls://example.com:443",
        "reverse:dns://example.com",
        "reverse:quic://example.com",
        "reverse:http3://example.com",
    ],
)
def test_modes_without_guard(options: Any, mode: str) -> None:
    """Where other protocols pass, or connections are taken over by force."""
    options.update(mode=[mode])
    (message,) = unsafe_options(options)
    assert message.startswith(f"mode {mode}: ")


def test_one_unsafe_mode_among_several(options: Any) -> None:
    """Each mode listens on its own, so that one is enough to be open."""
    options.update(mode=["regular@8080", "socks5@1080", "reverse:http://example.com@8081"])
    assert len(unsafe_options(options)) == 1


def test_unreadable_mode_is_left_to_mitmproxy() -> None:
    """mitmproxy's own message is the better one."""
    options = OptManager()
    options.add_option("mode", Sequence[str], ["nonsense"], "")
    assert unsafe_options(options) == []
