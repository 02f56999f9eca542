"""The signals that an event loop of ours listens to, and how it stops listening."""

import asyncio
import signal
from collections.abc import Callable, Mapping

__all__ = ["listen", "stop_listening"]


def listen(handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
    """Have signals handled in the running event loop."""
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)


def stop_listening(*numbers: signal.Signals) -> None:
    """Be deaf to signals from here to the end of the process, in the running event loop.

    A loop that is closed closes its pipe before it gives up its signals: one in between would print a traceback, and
    one after that end a process by signal that has ended well.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
