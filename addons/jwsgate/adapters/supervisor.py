"""`jwsgate run --workers N`: binds the port once, and keeps N processes that serve it.

Imports nothing of mitmproxy, so that it starts fast and stays small. Each worker is the same command line anew (exec,
no fork) with the sockets and a pipe among its descriptors.

Rule 1. The first worker starts alone: what is wrong with files or options is told once, and ends everything.
Rule 2. A worker that dies, or is not heard of, is replaced: at once, then after growing pauses. When none is left
        that serves and the replacements die too, the supervisor ends, so that whoever started it can see.
Rule 3. Files are read anew by one worker first, which tells what is wrong; the others follow when it took them up.
Rule 4. No worker outlives the supervisor: its end of the pipe closes, whatever ended it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .listening import Address, CannotListen, bind, bind_sockets, inherited_sockets
from .plain_log import write_log
from .signals import listen, stop_listening
from .systemd import notify, watchdog_seconds, without_systemd
from .worker import HANG_SECONDS, Shared, worker_environment

__all__ = ["supervise", "usable_cores"]

logger = logging.getLogger(__name__)

_START_SECONDS: Final = 120.0
_RELOAD_SECONDS: Final = 900.0
_QUICK_SECONDS: Final = 5.0
_MOST_QUICK_DEATHS: Final = 5
_LONGEST_PAUSE: Final = 30.0
_KILL_AFTER_SECONDS: Final = 5.0
"""Beyond the deadline that the workers keep themselves."""


def usable_cores() -> int:
    """The cores that this process may use, by its affinity and by the quota of its control group."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, -(-int(quota) // int(period))))
    return cores


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    process: asyncio.subprocess.Process
    pipe: socket.socket
    started: float
    heard: float
    revision: str = ""
    ready: bool = False
    unread: bytes = b""
    announced: list[str] = field(default_factory=list)
    reloading: asyncio.Future[bool] | None = None
    """Becomes whether it took the files up."""


class _Supervisor:
    def __init__(self, command: Sequence[str], count: int, shared: Shared, drain_seconds: float) -> None:
        self._command, self._count, self._shared, self._drain_seconds = command, count, shared, drain_seconds
        self._workers: list[_Worker] = []
        self._over = asyncio.Event()
        self._first_ready = asyncio.Event()
        self._announced = False
        self._code = 0
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        handlers = {
            signal.SIGINT: self._stop,
            signal.SIGTERM: self._stop,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._reopen,
        }
        listen(handlers)
        keepers = [loop.create_task(self._keep(number)) for number in range(self._count)]
        beat = loop.create_task(self._beat())
        try:
            await self._over.wait()
            for each in self._shared.sockets:
                each.close()
            for worker in self._workers:
                self._signal(worker, signal.SIGTERM)
            await asyncio.wait(keepers, timeout=self._drain_seconds + _KILL_AFTER_SECONDS)
        finally:
            for worker in self._workers:
                self._signal(worker, signal.SIGKILL)
            await asyncio.gather(*keepers)
            beat.cancel()
            stop_listening(*handlers)
        return self._code

    # Workers

    async def _keep(self, number: int) -> None:
        """Have one worker, until the end."""
        if number:
            await _first(self._first_ready, self._over)
        deaths = 0
        while not self._over.is_set():
            try:
                worker = await self._start(number)
            except OSError as error:
                why, quick = f"cannot be started: {error.strerror}", True
            else:
                status = await self._attend(worker)
                if self._over.is_set():
                    return
                why = f"(process {worker.process.pid}) {_ended(status)}"
                quick = not worker.ready or asyncio.get_running_loop().time() - worker.started < _QUICK_SECONDS
                if status > 0 and not self._first_ready.is_set():
                    self._give_up(status)  # it has said why
                    return
            deaths = deaths + 1 if quick else 0
            if deaths >= _MOST_QUICK_DEATHS and not any(each.ready for each in self._workers):
                logger.error("jwsgate: worker %d %s; that was so %d times in a row, giving up", number, why, deaths)
                self._give_up(3 if self._announced else 1)
                return
            pause = min(_LONGEST_PAUSE, 0.25 * 2**deaths) if deaths > 1 else 0.0
            logger.error("jwsgate: worker %d %s; replaced %s", number, why, f"in {pause:g} s" if pause else "at once")
            self._tell_state()
            await _first(self._over, seconds=pause)

    async def _start(self, number: int) -> _Worker:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *self._shared.descriptors],
                env=without_systemd({**os.environ, **worker_environment(number, theirs, self._shared)}),
                # Ctrl-C of a terminal goes to all of a group: it is the supervisor's to pass on, once.
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        worker = _Worker(number, process, ours, loop.time(), loop.time())
        self._workers.append(worker)
        loop.add_reader(ours, self._read, worker)
        return worker

    async def _attend(self, worker: _Worker) -> int:
        """Wait for a worker's end; returns its exit status, negative for a signal."""
        if self._over.is_set():
            self._signal(worker, signal.SIGTERM)  # the end came while it was started
        status = await worker.process.wait()
        self._read(worker)
        asyncio.get_running_loop().remove_reader(worker.pipe)
        worker.pipe.close()
        self._workers.remove(worker)
        self._settle(worker, False)
        return status

    @staticmethod
    def _signal(worker: _Worker, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            worker.process.send_signal(number)

    def _read(self, worker: _Worker) -> None:
        try:
            octets = worker.pipe.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            asyncio.get_running_loop().remove_reader(worker.pipe)
            return
        *lines, worker.unread = (worker.unread + octets).split(b"\n")
        for line in lines:
            word, _, text = line.decode("utf-8", "replace").partition(" ")
            self._heed(worker, word, text)

    def _heed(self, worker: _Worker, word: str, text: str) -> None:
        worker.heard = asyncio.get_running_loop().time()
        match word:
            case "announce":
                worker.announced.append(text)
            case "ready":
                worker.ready, worker.revision = True, text
                self._first_ready.set()
                self._tell_state()
                self._follow(worker)
            case "reloaded" | "refused":
                worker.revision = text
                if worker.reloading is None:
                    self._follow(worker)  # it saw by itself that files had changed
                self._settle(worker, word == "reloaded")
            case _:
                pass  # to have said anything is enough

    def _follow(self, worker: _Worker) -> None:
        """Have all read the files that one has read since: one gate, one revision."""
        if self._reload_again or any(each.revision != worker.revision for each in self._workers if each.ready):
            self._reload()

    def _tell_state(self) -> None:
        ready = [worker for worker in self._workers if worker.ready]
        if len(ready) == self._count and not self._announced:
            self._announced = True
            for line in ready[0].announced:
                logger.info("%s", line)
            logger.info("jwsgate: %d workers serve", self._count)
            notify("READY=1")
        revisions = ", ".join(sorted({worker.revision for worker in ready}))
        notify(f"STATUS={len(ready)} of {self._count} workers ready, revision {revisions or 'none'}")
        for worker in self._workers:
            with suppress(OSError):
                worker.pipe.send(b"serving %d %d\n" % (len(ready), self._count))

    async def _beat(self) -> None:
        """Look for workers that hang, and tell systemd that this process does not."""
        loop = asyncio.get_running_loop()
        watchdog = watchdog_seconds()
        period = 1.0 if watchdog is None else min(1.0, watchdog / 2)
        last = loop.time()
        while True:
            if watchdog is not None and self._announced:
                notify("WATCHDOG=1")
            now = loop.time()
            for worker in self._workers:
                if now - last > period + 2:
                    worker.heard = now  # it is this process that was stopped: what they said is still to be read
                elif now - worker.heard > (HANG_SECONDS if worker.ready else _START_SECONDS):
                    logger.error("jwsgate: worker %d (process %d) hangs", worker.number, worker.process.pid)
                    self._signal(worker, signal.SIGKILL)
            last = now
            await asyncio.sleep(period)

    # Signals

    def _stop(self) -> None:
        if self._over.is_set():
            for worker in self._workers:
                self._signal(worker, signal.SIGKILL)
            return
        logger.info("jwsgate: stopping; requests in flight have %g s to finish", self._drain_seconds)
        notify("STOPPING=1", "STATUS=requests in flight are being finished")
        self._over.set()

    def _reopen(self) -> None:
        for worker in self._workers:
            if worker.ready:
                self._signal(worker, signal.SIGUSR1)

    def _give_up(self, code: int) -> None:
        self._code = code
        self._over.set()

    def _reload(self) -> None:
        self._reload_again = True
        if self._reloading is None and self._first_ready.is_set() and not self._over.is_set():
            self._reloading = asyncio.get_running_loop().create_task(self._reload_all())

    async def _reload_all(self) -> None:
        try:
            while self._reload_again and not self._over.is_set():
                self._reload_again = False
                notify("RELOADING=1")
                ready = [worker for worker in self._workers if worker.ready]
                if ready and await self._reload_one(ready[0]):
                    await asyncio.gather(*map(self._reload_one, ready[1:]))
                else:
                    self._reopen()  # the audit file and the certificate have nothing to do with it
                notify("READY=1")
                self._tell_state()
                if len({worker.revision for worker in self._workers if worker.ready}) > 1:
                    logger.warning("jwsgate: the workers have different revisions until good files are read by all")
        finally:
            self._reloading = None

    async def _reload_one(self, worker: _Worker) -> bool:
        worker.reloading = asyncio.get_running_loop().create_future()
        self._signal(worker, signal.SIGHUP)
        try:
            return await asyncio.wait_for(worker.reloading, _RELOAD_SECONDS)
        except TimeoutError:
            return False
        finally:
            worker.reloading = None

    @staticmethod
    def _settle(worker: _Worker, taken_up: bool) -> None:
        if worker.reloading is not None and not worker.reloading.done():
            worker.reloading.set_result(taken_up)


async def _first(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until one of the events is set, or so long."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def supervise(
    command: Sequence[str],
    count: int,
    listen: Address,
    admin: tuple[str, int] | None,
    drain_seconds: float,
    socket_mode: int = 0o660,
    *,
    stdout_is_taken: bool = False,
) -> int:
    """Run `count` workers, each by `command`, until SIGINT or SIGTERM. Returns the exit code.

    `socket_mode` is for a Unix socket. `stdout_is_taken` has the log go to standard error.
    0: ended as asked. 1: could not start, as the port or what the first worker met. 3: the workers kept dying.
    """
    write_log(logger, stdout_is_taken=stdout_is_taken)
    logger.propagate = False

    async def main(shared: Shared) -> int:
        return await _Supervisor(command, count, shared, drain_seconds).run()

    try:
        sockets = inherited_sockets() or bind(listen, socket_mode)
        if admin is None:
            return asyncio.run(main(Shared(sockets)))
        admin_sockets = bind_sockets(*admin)
    except CannotListen as error:
        sys.stderr.write(f"jwsgate: {error}\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="jwsgate-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(main(Shared(sockets, admin_sockets, Path(folder))))
