"""`python -m jwsgate`, and what the command `jwsgate` calls."""

import _signal  # type: ignore[import-not-found]  # it has no stubs, but is in the interpreter, where `signal` is a file
import os
import sys

__all__ = ["main"]

# Until somebody handles it: Python's own way would be a traceback in whatever is being imported.
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _open_missing_streams() -> None:
    # A socket that came to have one of these numbers would get what is printed.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def main() -> None:
    """Run the command line, and end; whatever happens, no traceback is left for the user."""
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
