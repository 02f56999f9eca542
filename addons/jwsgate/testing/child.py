"""`jwsgate`, for as long as the process that started it: it stops when its standard input ends."""

import os
import signal
import threading

from jwsgate.__main__ import main


def _stop_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    main()
