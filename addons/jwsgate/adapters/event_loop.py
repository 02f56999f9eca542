"""The event loop of a sidecar: uvloop's, where there is one for the system."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["new_event_loop"]

if sys.platform == "win32":
    new_event_loop = asyncio.new_event_loop
else:
    import uvloop

    class _Loop(uvloop.Loop):
        def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
            if factory is None:
                super().set_task_factory(None)
                return

            # uvloop always passes it on; before Python 3.14, asyncio's eager factory, which mitmproxy sets, has none.
            def called(*args: Any, eager_start: bool | None = None, **keywords: Any) -> Any:
                if eager_start is not None:
                    keywords["eager_start"] = eager_start
                return factory(*args, **keywords)

            super().set_task_factory(called)

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """A loop for `asyncio.run`."""
        return _Loop()
