"""`python -m jwsgate`, and what the command `jwsgate` calls."""

import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def _open_missing_streams() -> None:
    # A socket that came to have one of these numbers would get what is printed.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def main() -> NoReturn:
    """Run the command line; whatever happens, no traceback is left for the user."""
    # Until somebody handles it: Python's own way would be a traceback in whatever is being imported.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_missing_streams()
    code: int | str | None = 1
    try:
        from .cli import main as command_line  # noqa: PLC0415 - see above

        command_line(prog_name="jwsgate")
    except SystemExit as end:
        code = end.code
    except OSError as error:
        sys.stderr.write(f"jwsgate: {error.filename or 'cannot write what was asked for'}: {error.strerror or error}\n")
    try:
        sys.stdout.flush()
    except OSError:
        # Python tries once more at its end, and would print what came of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
