"""What holds for all tests."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """mitmproxy and its libraries use deprecated names; with `filterwarnings = error` they could not be imported."""
    config.addinivalue_line("filterwarnings", r"ignore::DeprecationWarning:(mitmproxy|ldap3|pyasn1|pyparsing)\b")
    # Hypothesis looks at every module there is; the console's library warns of those that it has moved.
    config.addinivalue_line("filterwarnings", r"ignore:urwid\.\w+ is moved to:DeprecationWarning")
