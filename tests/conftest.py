"""What holds for all tests."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """mitmproxy and its libraries use deprecated names; with `filterwarnings = error` they could not be imported."""
    config.addinivalue_line("filterwarnings", r"ignore::DeprecationWarning:(mitmproxy|ldap3|pyasn1|pyparsing)\b")
