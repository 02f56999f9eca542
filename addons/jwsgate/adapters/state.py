"""What is in force: the snapshot, what was verified under it, and what was used up; and how options change it."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from jwsgate.core.decision import JwsCache, Snapshot
from jwsgate.core.replay import MemoryReplayStore, ReplayStore
from jwsgate.core.verified_cache import VerifiedCache
from jwsgate.files.loading import load_snapshot
from jwsgate.files.portal_file import cut_short
from jwsgate.files.problems import ProblemsFound, Unfit, printable
from jwsgate.files.reading import FilesState, being_written, last_change, state_of

from .replay_redis import RedisReplayStore

__all__ = ["MEMORY", "CannotTakeUp", "GateState"]

logger = logging.getLogger("jwsgate")

MEMORY: Final = "memory"
"""The replay store of one process."""

_QUIET_SECONDS: Final = 0.2
"""How long files must have stayed the same to be read at the start."""
_PATIENCE_SECONDS: Final = 3
"""How long the start waits for that."""

type _Names = tuple[str, tuple[str, ...]]
"""The files of a snapshot, as the options name them."""


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)  # no such user; as a path it is then told to be missing


def _wait_until_quiet(portal: Path, policies: Sequence[Path]) -> None:
    """Leave those who are writing the files some time to end; what they wrote by then may look whole."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline and (
        abs(time.time() - last_change(portal, policies)) < _QUIET_SECONDS or being_written(portal, policies) is not None
    ):
        time.sleep(_QUIET_SECONDS / 4)


def _list_of(error: ProblemsFound) -> str:
    count = len(error.problems)
    return f"jwsgate: {count} problem{'s' if count > 1 else ''}:\n{error}"


def _warn(snapshot: Snapshot) -> None:
    """Say loudly what passes without a JWS."""
    report = "REPORT MODE, requests pass without a good JWS"
    for warning, found in (
        (f"{report} on the routes", [route.name for route in snapshot.router if route.report]),
        (f"{report} from the client IDs", sorted(snapshot.router.reported)),
        ("OPEN, every request passes on the routes", [route.name for route in snapshot.router if route.open]),
    ):
        if found:
            more = f" and {len(found) - 20} more" if len(found) > 20 else ""
            logger.warning("jwsgate: %s %s%s", warning, printable(", ".join(map(repr, found[:20]))), more)


class CannotTakeUp(Exception):
    """What was asked for cannot be used; the message says why, and what to do about it."""


class GateState:
    """Changes as a whole or not at all: all that can be refused comes before anything is taken up."""

    def __init__(
        self, cache: JwsCache | None = None, fits: Callable[[Snapshot], None] = lambda _snapshot: None
    ) -> None:
        """`fits` raises `Unfit` for a snapshot whose policy asks for what the server cannot do."""
        self.snapshot: Snapshot | None = None
        self.cache: JwsCache = VerifiedCache() if cache is None else cache
        self._fits = fits
        self.replay_store: ReplayStore = MemoryReplayStore()
        self._replay_store_name = MEMORY
        self._loaded_from: _Names | None = None
        self.seen: FilesState = []
        self._before: tuple[_Names | None, Snapshot | None] = None, None
        self.is_alone = True
        """Whether no other process serves the same port, so that what this one remembers is all there is."""

    def configure(self, portal: str, policies: Sequence[str], replay_store: str) -> None:
        """Load the files when they are named anew, and open the replay store.

        Raises:
            CannotTakeUp: and nothing has changed.
        """
        names = portal, tuple(policies)
        snapshot = self.snapshot if names == self._loaded_from else self._load(names, replay_store)
        store = self._open_replay_store(replay_store)
        self._demand_fit(snapshot, replay_store)
        if snapshot is not self.snapshot:
            self._before = self._loaded_from, self.snapshot
            self._loaded_from = names
            self._take_up(snapshot)
        self._replay_store_name, self.replay_store = store

    @property
    def paths(self) -> tuple[Path, list[Path]]:
        """Portal and policies of the snapshot in force."""
        portal, policies = self._loaded_from or ("", ())
        return _path(portal), [_path(policy) for policy in policies]

    def check(self, snapshot: Snapshot) -> None:
        """Whether a snapshot can be taken up.

        Raises:
            Unfit: when the policy asks for what this gate, as it was started, cannot do.
        """
        self._check(snapshot, self._replay_store_name)

    def _demand_fit(self, snapshot: Snapshot | None, store: str) -> None:
        try:
            self._check(snapshot, store)
        except Unfit as error:
            raise CannotTakeUp(f"{error} ({error.remedy})") from None

    def _check(self, snapshot: Snapshot | None, store: str) -> None:
        if snapshot is None:
            return
        self._fits(snapshot)
        if self.is_alone or store != MEMORY:
            return
        if once := [route.name for route in snapshot.router if route.single_use]:
            raise Unfit(
                f"single_use of route {once[0]!r} would let each jti through once per worker",
                "let the workers share what was used, --replay-store redis://HOST/0, or run a single worker",
            )

    @property
    def revision(self) -> str | None:
        """The revision in force."""
        return None if self.snapshot is None else self.snapshot.revision

    def take_up(self, snapshot: Snapshot) -> None:
        """Put a newly read snapshot in force, from the next request on."""
        if self.snapshot is None or snapshot.revision != self.snapshot.revision:
            self._take_up(snapshot)

    def _take_up(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot
        if snapshot is not None:
            _warn(snapshot)
        self.cache.clear()  # the old entries can never be met again

    def _open_replay_store(self, name: str) -> tuple[str, ReplayStore]:
        if name == self._replay_store_name:
            return name, self.replay_store
        try:
            return name, MemoryReplayStore() if name == MEMORY else RedisReplayStore(name)
        except Unfit as error:
            raise CannotTakeUp(f"jwsgate_replay_store: {error} ({error.remedy})") from None

    def _load(self, names: _Names, store: str) -> Snapshot | None:
        portal, policies = names
        if not portal or not policies:
            raise CannotTakeUp("jwsgate needs both its files: --set jwsgate_portal=PATH --set jwsgate_policy=PATH")
        try:
            paths = _path(portal), [_path(policy) for policy in policies]
            if self.snapshot is None:
                _wait_until_quiet(*paths)
            before = state_of(*paths, ())
            snapshot = load_snapshot(*paths, time.time())
        except ProblemsFound as error:
            if names == self._before[0]:
                # refused options are put back: what was in force with them is so again, whatever the files say.
                logger.error(_list_of(error))
                return self._before[1]
            raise CannotTakeUp(_list_of(error)) from None
        self._demand_fit(snapshot, store)  # before anything is said of it
        # What it refers to is only known now; had that changed since, the revision could not have been known either.
        self.seen = [*before, *state_of(*paths, snapshot.files)[len(before) :]]
        logger.info(
            "jwsgate: revision %s: %d applications, %d routes",
            snapshot.revision,
            len(snapshot.portal.applications),
            len(snapshot.router),
        )
        if found := cut_short(snapshot.portal):
            logger.warning("jwsgate: read all the same, portal-cut-short:\n%s", ProblemsFound(found[:20]))
        return snapshot
