"""The add-ons of mitmproxy that a sidecar leaves out, and has after all when one of their options is set.

Rule 1. What is set takes effect, if only on responses, or is refused by name.
Rule 2. They come between the gate and its seal, as all others do, so that none of them opens anything.
"""

import importlib
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, Final

from mitmproxy import exceptions

from .dispatch import seal_manager
from .unsafe_options import STICKY

__all__ = ["add_owners", "check_effective", "check_known"]

_OWNERS: Final = {
    "anticache": ("anticache", "AntiCache"),
    "anticomp": ("anticomp", "AntiComp"),
    "block_global": ("block", "Block"),
    "block_private": ("block", "Block"),
    "hardump": ("savehar", "SaveHar"),
    "keep_alt_svc_header": ("update_alt_svc", "UpdateAltSvc"),
    "modify_body": ("modifybody", "ModifyBody"),
    "modify_headers": ("modifyheaders", "ModifyHeaders"),
    "proxyauth": ("proxyauth", "ProxyAuth"),
    "save_stream_file": ("save", "Save"),
    "save_stream_filter": ("save", "Save"),
    "scripts": ("script", "ScriptLoader"),
    "upstream_auth": ("upstream_auth", "UpstreamAuth"),
}
"""The module and the class of the add-on that an option belongs to."""
_PASSED_OVER: Final = "mitmproxy passes over requests that have an answer, as each has until the gate lets it go; "
_REFUSED: Final = {
    "block_list": _PASSED_OVER + "leave the path out of the policy's routes",
    "map_local": _PASSED_OVER + "let the upstream answer",
    "map_remote": "it changes where a request goes after it was decided; remove it",
    "stickyauth": f"{STICKY}; remove it",
    "stickycookie": f"{STICKY}; remove it",
}
_REFUSED_BEGINNINGS: Final[dict[str | tuple[str, ...], str]] = {
    "server_replay": "it replaces the gate's answers by recorded ones; remove it",
    "client_replay": "it sends requests of no client; remove it",
    ("rfile", "readfile_", "dumper_", "flow_detail", "keepserving", "command_history", "export_", "onboarding"): (
        "it is for people who look at flows; --ui web shows them"
    ),
    ("intercept", "view_", "web_", "console_"): "it is of a user interface; start with --ui web",
    ("dns_", "strip_ech"): "it is for DNS, which no gate forwards; remove it",
}


def _why_refused(name: str) -> str | None:
    return next((why for beginning, why in _REFUSED_BEGINNINGS.items() if name.startswith(beginning)), None)


def check_effective(names: Collection[str]) -> None:
    """Refuse what could do nothing beside a gate, or harm, whichever add-ons there are.

    Raises:
        mitmproxy.exceptions.OptionsError: for the first such option of `names`.
    """
    for name in names:
        if name in _REFUSED:
            raise exceptions.OptionsError(f"--set {name}: {_REFUSED[name]}")


def add_owners(master: Any, names: Collection[str]) -> None:
    """Give a sidecar's master the add-ons that the options `names` belong to; before the gate is installed.

    Raises:
        mitmproxy.exceptions.OptionsError: for options that a sidecar cannot have.
    """
    for name in names:
        if name not in master.options and (why := _why_refused(name)) is not None:
            raise exceptions.OptionsError(f"--set {name}: {why}")
    if "scripts" in names:
        seal_manager(master.addons, fixed=False)  # scripts come and go beneath their loader
    for module, kind in dict.fromkeys(owner for name, owner in _OWNERS.items() if name in names):
        # Each is slow to import, and most sidecars have none.
        master.addons.add(getattr(importlib.import_module(f"mitmproxy.addons.{module}"), kind)())
    if "block_global" in master.options and "block_global" not in names:
        master.options.update(block_global=False)  # as it is in a sidecar without this add-on


def check_known(opts: Any) -> None:
    """After all options were set, none may be left that nobody has.

    Raises:
        mitmproxy.exceptions.OptionsError: which names the first one, and what may have been meant.
    """
    for name in sorted(opts.deferred):
        near = get_close_matches(name, {*opts.keys(), *_OWNERS}, 1)
        remedy = f"did you mean {near[0]}?" if near else "check the spelling"
        raise exceptions.OptionsError(f"--set {name}: mitmproxy has no such option; {remedy}")
