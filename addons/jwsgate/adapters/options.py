"""The gate's options as mitmproxy knows them, and their way to the gate's state and to who keeps account."""

from collections.abc import Sequence
from typing import Any, Final

from mitmproxy import exceptions
from mitmproxy.addonmanager import Loader

from jwsgate.files.problems import ProblemsFound, Unfit
from jwsgate.files.tally import FAIL_ON

from .accounts import Accounts
from .decision_log import REJECTION_LEVELS
from .state import MEMORY, CannotTakeUp, GateState
from .unsafe_options import unsafe_options

__all__ = ["add_options", "take_up_options"]


def add_options(loader: Loader) -> None:
    """Tell mitmproxy of the options read here."""
    loader.add_option("jwsgate_portal", str, "", "Portal export: the applications and their certificates.")
    loader.add_option("jwsgate_policy", Sequence[str], [], "Policy files: routes and what each demands.")
    loader.add_option(
        "jwsgate_replay_store",
        str,
        MEMORY,
        "Where single_use routes remember what was used: memory (this process), or redis://HOST[:PORT][/DB].",
    )
    loader.add_option("jwsgate_watch", bool, True, "Read portal and policies anew when their files change.")
    loader.add_option("jwsgate_audit", str, "", "File for one JSON line per decision; - is standard output.")
    loader.add_option(
        "jwsgate_rejection_log_level",
        str,
        "info",
        "Log level of rejections; off leaves them out.",
        choices=list(REJECTION_LEVELS),
    )
    loader.add_option("jwsgate_report", Sequence[str], [], "Reports to write at the end, by ending or as FORMAT=PATH.")
    loader.add_option("jwsgate_expect", str, "", "File with what is expected to be decided.")
    loader.add_option("jwsgate_fail_on", str, "none", "Requests for which the exit code is 1.", choices=list(FAIL_ON))

    loader.add_option(
        "jwsgate_max_header_octets", int, 65536, "Largest head of an HTTP/1 request (first line and headers)."
    )
    loader.add_option("jwsgate_header_seconds", int, 20, "How long the head of an HTTP/1 request may take.")
    loader.add_option(
        "jwsgate_body_seconds",
        int,
        20,
        "How long a body that is held until it is whole may take, and a second more for each 1,000 octets of it.",
    )


_LEAST: Final = {"jwsgate_max_header_octets": 256, "jwsgate_header_seconds": 1, "jwsgate_body_seconds": 1}
"""With less than this, no request could be answered."""


def take_up_options(options: Any, state: GateState, accounts: Accounts) -> None:
    """Refuse unsafe options, load the files when they were named anew, open replay store and audit log.

    Raises:
        mitmproxy.exceptions.OptionsError: and mitmproxy puts the previous options back.
    """
    if found := unsafe_options(options):
        raise exceptions.OptionsError("the gate would be open with these options:\n" + "\n".join(found))
    for name, least in _LEAST.items():
        if getattr(options, name) < least:
            raise exceptions.OptionsError(f"{name}={getattr(options, name)} lets no request in; give {least} or more")
    policies, expect, fail_on = options.jwsgate_policy, options.jwsgate_expect, options.jwsgate_fail_on
    try:
        accounts.report.configure(options.jwsgate_report, expect, fail_on, policies[0] if policies else "")
        accounts.report.snapshot = lambda: state.snapshot
    except ProblemsFound as error:
        raise exceptions.OptionsError(f"jwsgate_expect: {error}") from None
    except Unfit as error:
        raise exceptions.OptionsError(f"jwsgate_report: {error} ({error.remedy})") from None
    try:
        state.configure(options.jwsgate_portal, options.jwsgate_policy, options.jwsgate_replay_store)
        accounts.configure(options.jwsgate_audit, options.jwsgate_rejection_log_level)
    except CannotTakeUp as error:
        raise exceptions.OptionsError(str(error)) from None
    except Unfit as error:
        raise exceptions.OptionsError(f"jwsgate_audit: {error} ({error.remedy})") from None
