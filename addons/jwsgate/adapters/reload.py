"""Hot reload: changed files are taken up while requests are served; until they are good, what is in force stays.

Rule 1. Files are read when they have stayed the same for a moment and nobody is writing to them, or when somebody asks
        for it, and what was read is taken up only if they are still the same afterwards: never a mixture of two states.
        Who keeps a file open for writing without writing to it does not hold it up for longer than some seconds.
Rule 2. Reading happens off the event loop: small files in a thread, large ones in a process of their own.
Rule 3. An export that looks as if its end were missing is refused, and so is one whose last application could do more
        than it can now, without the file saying so: see core/cut_short.py.
Rule 4. Whatever goes wrong is logged and counted, and the snapshot in force stays in force.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Protocol

from jwsgate.core.decision import Snapshot
from jwsgate.core.portal_diff import diff_steps
from jwsgate.files.handover import LENGTH_OCTETS, PROGRAM, Assembly, order
from jwsgate.files.loading import load_snapshot
from jwsgate.files.portal_file import cut_short
from jwsgate.files.problems import ProblemsFound, Unfit, printable
from jwsgate.files.reading import FilesState, being_written, size_of, state_of, state_of_folders

__all__ = ["Outcome", "Reloader", "Target"]

logger = logging.getLogger(__name__)

_INTERVAL: Final = 0.2
"""Seconds between two looks at the files, and how long they must have stayed the same."""
_WRITER_SECONDS: Final = 3
"""How long files that stay the same are left unread while somebody has one of them open for writing."""
_SMALL_OCTETS: Final = 256 * 1024
"""Read within some 20 ms; a process takes longer to start."""
_READING_SECONDS: Final = 600
_PAUSE_SECONDS: Final = 0.001
"""Between two pieces of what a process hands over, for the requests' sake."""


type Outcome = Literal["loaded", "unchanged", "refused"]


class Target(Protocol):
    """What a reloader keeps up to date."""

    snapshot: Snapshot | None
    seen: FilesState
    """The state of the files before the snapshot in force was read, as `state_of` tells it."""

    @property
    def paths(self) -> tuple[Path, list[Path]]:
        """Portal and policies."""
        ...

    def check(self, snapshot: Snapshot) -> None:
        """Raises `Unfit` for a snapshot that cannot be taken up."""
        ...

    def take_up(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force, from the next request on."""
        ...


class ReadingFailed(Exception):
    """The process that read the files came to no result."""


async def read_apart(portal: Path, policies: list[Path]) -> Snapshot:
    """Read a snapshot in a process of its own.

    Raises:
        ProblemsFound: when the files cannot be used.
        ReadingFailed: when the process ended without a result.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assembly = Assembly()
    try:
        if process.stdin is None or process.stdout is None:
            raise ReadingFailed("has no pipes")
        process.stdin.write(order(portal, policies, time.time()))
        async with asyncio.timeout(_READING_SECONDS):
            while assembly.snapshot is None:
                length = int.from_bytes(await process.stdout.readexactly(LENGTH_OCTETS))
                assembly.take(await process.stdout.readexactly(length))
                await asyncio.sleep(_PAUSE_SECONDS)
        return assembly.snapshot
    except (asyncio.IncompleteReadError, ConnectionError):
        raise ReadingFailed(f"ended with {await process.wait()}") from None
    except TimeoutError:
        raise ReadingFailed(f"took more than {_READING_SECONDS} s") from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _check_whole(snapshot: Snapshot, before: Snapshot | None, *, strict: bool) -> None:
    """Raises `ProblemsFound` for what may be only a part of what was to be read."""
    if problems := cut_short(snapshot.portal, None if before is None else before.portal, strict=strict):
        raise ProblemsFound(problems)


class Reloader:
    """Watches the files of a target, and reads them when they change or when it is asked to; `told` of each outcome."""

    def __init__(self, target: Target, told: Callable[[Outcome], None]) -> None:
        self._target = target
        self._told = told
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pending: FilesState = []
        self._pending_since = 0.0
        self._writer: Path | None = None
        """The file that somebody has open for writing while it was read."""
        self._tried: tuple[FilesState, FilesState] | None = None
        """The state of files and folders that were tried last, if they were no good: a missing file may come."""
        self._failure = ""
        self._interval = _INTERVAL

    def start(self, *, watch: bool = True) -> None:
        """Begin, in the running event loop. Without `watch`, files are read only when asked for."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(watch), name="jwsgate reload")

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def request(self) -> None:
        """Read the files now, whether or not they have changed."""
        self._asked.set()

    async def _run(self, watch: bool) -> None:
        while True:
            try:
                async with asyncio.timeout(self._interval if watch else None):
                    await self._asked.wait()
            except TimeoutError:
                pass
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                await self._look(asked)
            except Exception as error:
                self._fail(type(error).__name__)

    async def _look(self, asked: bool) -> None:
        if self._target.snapshot is None:
            return  # nothing was in force yet, so that there is nothing to go by
        started = time.perf_counter()
        paths = self._target.paths
        files, folders = await self._state(with_folders=True)
        writer = None
        if not asked:
            tried = (files, folders) == self._tried
            if files == self._target.seen or (tried and self._writer is None):
                self._pending = []
                return
            if files != self._pending:
                self._pending, self._pending_since = files, started  # until it stays
                return
            writer = await asyncio.to_thread(being_written, *paths)
            if writer is not None and (tried or started < self._pending_since + _WRITER_SECONDS):
                return
        self._tell_of_writer(writer)
        failure = ""
        try:
            snapshot = await self._read(*paths)
            self._target.check(snapshot)
            # While somebody may be going to write more, nothing doubtful is taken up, even if it always was so.
            await asyncio.to_thread(_check_whole, snapshot, self._target.snapshot, strict=writer is not None)
        except ProblemsFound as error:
            failure = f"{len(error.problems)} problems:\n{error}"
        except Unfit as error:
            failure = f"{error} ({error.remedy})"
        except (ReadingFailed, OSError) as error:
            failure = f"the process that read the files {error}"
        if (await self._state())[0] != files or self._target.paths != paths:
            if asked:
                self._asked.set()
            return  # they changed meanwhile, so that this may be half of one state and half of another
        if failure:
            self._tried = files, folders
            self._fail(failure, again=asked)
        else:
            await self._take_up(snapshot, files, time.perf_counter() - started)

    async def _state(self, *, with_folders: bool = False) -> tuple[FilesState, FilesState]:
        """What files and folders are like; a look at many takes so long that it is not taken as often."""
        paths = self._target.paths
        references = () if self._target.snapshot is None else self._target.snapshot.files

        def look() -> tuple[FilesState, FilesState]:
            folders = state_of_folders(*paths) if with_folders else []
            return state_of(*paths, references), folders

        started = time.perf_counter()
        found = await asyncio.to_thread(look)
        self._interval = max(_INTERVAL, 20 * (time.perf_counter() - started))
        return found

    async def _read(self, portal: Path, policies: list[Path]) -> Snapshot:
        if await asyncio.to_thread(size_of, portal, policies) <= _SMALL_OCTETS:
            return await asyncio.to_thread(load_snapshot, portal, policies, time.time())
        return await read_apart(portal, policies)

    def _tell_of_writer(self, writer: Path | None) -> None:
        if writer is not None and writer != self._writer:
            logger.warning(
                "jwsgate: reading files that stayed the same for %d s, though %s is still open for writing somewhere",
                _WRITER_SECONDS,
                printable(str(writer)),
            )
        self._writer = writer

    def _fail(self, why: str, *, again: bool = False) -> None:
        self._told("refused")
        if why == self._failure and not again:
            return  # it is in the log already
        self._failure = why
        revision = None if self._target.snapshot is None else self._target.snapshot.revision
        logger.error("jwsgate: not reloaded, revision %s stays in force: %s", revision, why)

    async def _take_up(self, snapshot: Snapshot, files: FilesState, seconds: float) -> None:
        before = self._target.snapshot
        self._target.seen, self._tried, self._pending, self._failure = files, None, [], ""
        if before is not None and before.revision == snapshot.revision:
            self._told("unchanged")
            logger.info("jwsgate: reloaded, revision %s in force: nothing has changed", snapshot.revision)
            return
        self._target.take_up(snapshot)
        self._told("loaded")
        logger.info("jwsgate: reloaded, revision %s in force: read in %.1f s", snapshot.revision, seconds)
        if before is not None:
            await self._tell(before, snapshot)

    async def _tell(self, before: Snapshot, after: Snapshot) -> None:
        steps = diff_steps(before.portal, after.portal)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                logger.info("jwsgate: revision %s: %s", after.revision, end.value.summary())
                return
            await asyncio.sleep(0)
