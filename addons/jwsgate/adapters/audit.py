"""The audit log: one line of JSON for each decision, in a file or on standard output.

Rule 1. A line is pure ASCII of at most 4,096 octets (PIPE_BUF), written by one `write` to an appending descriptor:
        neither in a file nor in a pipe do lines of several workers mix.
Rule 2. A line is there as a whole, or `record` raises: what a full disk cut short is taken back.
Rule 3. Nothing waits: a pipe whose reader does not keep up is an OSError, as a full disk is.
Rule 4. No line holds a JWS. What looks like one in the client's method or path is replaced, also when it is cut or
        percent-encoded.
"""

import contextlib
import errno
import os
import select
import stat
import sys
import time
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Final

from jwsgate.core.redaction import CUT, redacted
from jwsgate.files.problems import Unfit

from .records import DecisionRecord

__all__ = ["STANDARD_OUTPUT", "AuditLog"]

STANDARD_OUTPUT: Final = "-"
_MAX_LINE_OCTETS: Final = 4096
_MAX_CHARACTERS: Final = (256, 64, 16)
"""Of each text; the next one where a line of mostly escapes would be too long. With the last one none can be."""
_LOOKS: Final = 4
_SECONDS_BETWEEN_LOOKS: Final = 0.005


def _text(text: str | None, characters: int) -> str:
    if text is None:
        return "null"
    return quoted(text if len(text) <= characters else text[:characters] + CUT)


class AuditLog:
    """A `RecordSink` that writes to a file, made with mode 0600 where there is none, or to standard output."""

    def __init__(self, path: str) -> None:
        """Opens `path`; `-` is standard output.

        Raises:
            Unfit: when it cannot be written to.
        """
        self._path = path
        self._second = 0
        self._second_text = ""
        self._descriptor = self._open()
        self._look_at_descriptor()

    def _open(self) -> int:
        remedy = "name a file that the gate may write, or - for standard output"
        if self._path == STANDARD_OUTPUT:
            # Where it was closed at start, its number may by now be that of a client's connection.
            if sys.__stdout__ is None:
                raise Unfit("the audit log cannot be written: standard output is closed", remedy)
            return os.dup(sys.__stdout__.fileno())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            descriptor = os.open(Path(self._path).expanduser(), flags, 0o600)
        except (OSError, RuntimeError, ValueError) as error:
            said = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
            if isinstance(error, OSError) and error.errno == errno.ENXIO:
                said = "nothing reads from it"  # a pipe, or a socket
            raise Unfit(f"the audit log {self._path!r} cannot be written: {said}", remedy) from None
        if stat.S_ISBLK(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Unfit(f"the audit log {self._path!r} cannot be written: it is a disk", remedy)
        return descriptor

    def _look_at_descriptor(self) -> None:
        self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        # Standard output's non-blocking mode belongs to all who share it, so that it is asked and not set.
        self._writable = select.poll()
        self._writable.register(self._descriptor, select.POLLOUT)
        self._torn = self._is_file and self._path != STANDARD_OUTPUT and not self._ends_with_newline()
        """Whether the last line was cut short and could not be taken back; the next one then begins with a newline."""

    def _ends_with_newline(self) -> bool:
        # A process that was killed, or lost its power, may have left half a line behind. Another worker's line shows
        # in parts, too, while it is being written: only what stays half is torn.
        path = Path(self._path).expanduser()
        for attempt in range(_LOOKS):
            if attempt:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            try:
                with path.open("rb") as file:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) == b"\n":
                        return True
            except OSError:
                return True  # empty, or not for us to read
        return False

    def reopen(self) -> None:
        """Open the file anew, after logrotate moved it away. Standard output stays as it is.

        Raises:
            Unfit: when that fails; what was open before stays in use.
        """
        if self._path == STANDARD_OUTPUT:
            return
        try:
            descriptor = self._open()
        except Unfit as unfit:
            raise Unfit(f"{unfit}; the one opened before stays in use", unfit.remedy) from None
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._look_at_descriptor()

    def close(self) -> None:
        """Close the descriptor; `record` raises from now on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def record(self, record: DecisionRecord) -> None:
        """Write a decision.

        Raises:
            OSError: when the line could not be written as a whole, or not at once.
        """
        line = self._line(record)
        if self._torn:
            line = b"\n" + line
        if not self._is_file and not self._writable.poll(0):
            raise BlockingIOError(errno.EAGAIN, "the reader of the audit log does not keep up")
        written = os.write(self._descriptor, line)
        if written < len(line):
            self._mend(line, written)
        self._torn = False

    def _mend(self, line: bytes, written: int) -> None:
        """After a part of a line was written: write the rest, or take it back and raise OSError."""
        if not self._is_file:
            # A pipe takes a line or nothing; a terminal or a socket may take its rest.
            self._torn = True
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            return
        # Another worker's line may come next, so that the rest must not be written later.
        self._torn = True
        with contextlib.suppress(OSError):
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if os.fstat(self._descriptor).st_size == end:
                os.ftruncate(self._descriptor, end - written)
                os.lseek(self._descriptor, end - written, os.SEEK_SET)
                self._torn = line.startswith(b"\n")
        raise OSError(errno.ENOSPC, f"{written} of {len(line)} octets of an audit line were written")

    def _line(self, record: DecisionRecord) -> bytes:
        for characters in _MAX_CHARACTERS:
            line = self._line_of(record, characters)
            if len(line) < _MAX_LINE_OCTETS:  # one more for the newline after a torn line
                break
        return line

    def _line_of(self, record: DecisionRecord, n: int) -> bytes:
        second, microsecond = divmod(round(record.time * 1_000_000), 1_000_000)
        if second != self._second or not self._second_text:
            self._second, self._second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        reason = record.reason
        return (
            f'{{"time":"{self._second_text}.{microsecond:06d}Z"'
            f',"transaction_id":{_text(record.transaction_id, n)}'
            f',"client_id":{_text(record.client_id, n)}'
            f',"application":{_text(record.application, n)}'
            f',"route":{_text(record.route, n)}'
            f',"decision":"{record.outcome}"'
            f',"reason":{"null" if reason is None else quoted(reason.value)}'
            f',"detail":{_text(record.detail, n)}'
            f',"thumbprint":{_text(record.thumbprint, n)}'
            f',"alg":{_text(record.alg, n)}'
            f',"duration_us":{round(record.duration * 1_000_000)}'
            f',"method":{quoted(redacted(record.method, n))}'
            f',"path":{quoted(redacted(record.path, n))}'
            f',"peer":{_text(record.peer, n)}'
            f',"trace_id":{_text(record.trace_id, n)}'
            f',"cached":{"true" if record.cached else "false"}}}\n'
        ).encode("ascii")
