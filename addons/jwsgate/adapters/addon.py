"""What `addons/jws_gate.py` hands to mitmproxy."""

import logging
import sys
from typing import Final

from mitmproxy import exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.hooks import DoneHook

from .seal import install

__all__ = ["addons"]

logger = logging.getLogger(__name__)


class _ScriptEntry:
    """What the script hands to mitmproxy; the gate itself goes into the chain on its own (rule 3 of gate.py)."""

    name = "jwsgate-script"

    def load(self, loader: Loader) -> None:
        gate = install(loader.master)

        def end_with_findings() -> None:
            if gate.accounts.report.failed:
                sys.exit(1)

        # The script's part of the chain may be gone by then, and whoever ends the chain must come after all others.
        loader.master.addons.last[DoneHook.name] = end_with_findings
        try:
            gate.start()
        except exceptions.OptionsError as error:
            # mitmproxy does not start after an ERROR in the log. Raised here, it would start, and say nothing.
            logger.error(str(error))


addons: Final = [_ScriptEntry()]
