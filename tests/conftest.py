"""What holds for all tests."""

from __future__ import annotations

import signal

import pytest


def _heed_signals() -> None:
    """`nohup`, and `&` in a script, leave signals ignored for all that is started, so for gates that they end."""
    for number, usual in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_configure(config: pytest.Config) -> None:
    """mitmproxy and its libraries use deprecated names; with `filterwarnings = error` they could not be imported."""
    _heed_signals()
    config.addinivalue_line("filterwarnings", r"ignore::DeprecationWarning:(mitmproxy|ldap3|pyasn1|pyparsing)\b")
    # Hypothesis looks at every module there is; the console's library warns of those that it has moved.
    config.addinivalue_line("filterwarnings", r"ignore:urwid\.\w+ is moved to:DeprecationWarning")
