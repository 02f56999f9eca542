"""What `addons/jws_gate.py` hands to mitmproxy."""

import logging
from typing import Final

from mitmproxy import exceptions
from mitmproxy.addonmanager import Loader

from .seal import install

__all__ = ["addons"]

logger = logging.getLogger(__name__)


class _ScriptEntry:
    """What the script hands to mitmproxy; the gate itself goes into the chain on its own (rule 3 of gate.py)."""

    name = "jwsgate-script"

    def load(self, loader: Loader) -> None:
        gate = install(loader.master)
        try:
            gate.start()
        except exceptions.OptionsError as error:
            # mitmproxy does not start after an ERROR in the log. Raised here, it would start, and say nothing.
            logger.error(str(error))


addons: Final = [_ScriptEntry()]
