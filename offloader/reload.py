"""Takes over what has changed on disk while a process runs: each part by itself, whole or not at all.

Files are looked at every few seconds, whatever they are (Kubernetes swaps links); a file that is being
written is left alone until two looks agree. SIGHUP has everything read at once. What cannot be used changes
nothing: the old stays, the log says which field is wrong, and `calls_offloader_config_last_reload_successful`
is 0. An error that nobody foresaw is told in the same way, and costs no other part anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from foundation.clock import Clock
from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from offloader.errors import StoreError

LOOK_EVERY_S: Final = 2.0
_UNFORESEEN: Final = "an error that nobody foresaw; what was read before is in force"

log = get_logger()

Commit = Callable[[], None]
Stamp = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read and found good."""

    changed: tuple[str, ...]
    """Names of the settings that are not as they were; empty: nothing to take over."""
    commit: Commit
    """Takes it over, on the loop. What fails all the same leaves the old in force."""


class Part(Protocol):
    """Something on disk that a running process takes over."""

    name: str
    eager: bool
    """It is read at the start as well: jobs are given what was good last."""

    def files(self) -> Sequence[Path]:
        """Where it is read from, now."""

    def load(self) -> Loaded:
        """Read and check it. Blocks. Raises ConfigError, StoreError."""


class Reloads:
    """How the last reading of each part ended: for metrics and tests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: dict[str, tuple[bool, float]] = {}
        self.failures: Counter[str] = Counter()
        """Since the start, by part: files that could not be used, and errors that nobody foresaw."""

    def begin(self, part: str) -> None:
        """It was read at the start of the process."""
        self.failures[part] = 0
        self.tell(part, good=True)

    def tell(self, part: str, *, good: bool) -> None:
        """It was read again."""
        self.failures[part] += not good
        before = self._ended.get(part, (False, 0.0))[1]
        self._ended[part] = (good, self._clock.utc_now().timestamp() if good else before)

    @property
    def ended(self) -> Mapping[str, tuple[bool, float]]:
        """By part: whether it could be used, and when one could last, in seconds since the epoch."""
        return self._ended


class Reloader:
    """One per process; `run` it as a task."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        reloads: Reloads,
        on_changed: Callable[[str, tuple[str, ...]], None] = lambda part, changed: None,
    ) -> None:
        """`on_changed`: is told of each part that was taken over, and what of it."""
        self._parts = parts
        self._reloads = reloads
        self._on_changed = on_changed
        self._asked = asyncio.Event()
        self._taken: dict[str, Stamp | None] = {}
        """Of the files as they were read last; None: they could not even be looked at."""
        self._seen: dict[str, Stamp] = {}
        for part in parts:
            reloads.begin(part.name)

    def ask(self) -> None:
        """Read everything now; for the loop's signal handler."""
        self._asked.set()

    async def run(self) -> None:
        """Look until cancelled. What goes wrong with one part is told, and ends nothing."""
        for part in self._parts:
            stamp = self._taken[part.name] = await self._stamp(part)
            if part.eager and stamp is not None:
                await self._take(part, first=True)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            for part in self._parts:
                await self._look(part, asked=asked)

    async def _look(self, part: Part, *, asked: bool) -> None:
        stamp = await self._stamp(part, asked=asked)
        settled = self._seen.get(part.name) == stamp
        if stamp is None:
            self._taken[part.name] = None  # read again when it can be looked at
            return
        self._seen[part.name] = stamp
        if not asked and (stamp == self._taken[part.name] or not settled):
            return
        self._taken[part.name] = stamp
        await self._take(part)

    async def _stamp(self, part: Part, *, asked: bool = False) -> Stamp | None:
        """None: the files cannot be looked at, which is told once, and whenever somebody asks."""
        try:
            return await asyncio.to_thread(_stamp, part)
        except Exception:
            if asked or self._taken.get(part.name, ()) is not None:
                self._reloads.tell(part.name, good=False)
                log.exception("config.not_reloaded", part=part.name, reason=_UNFORESEEN)
            return None

    async def _take(self, part: Part, *, first: bool = False) -> None:
        try:
            loaded = await asyncio.to_thread(part.load)
            if loaded.changed:
                loaded.commit()
        except (ConfigError, StoreError) as error:
            self._reloads.tell(part.name, good=False)
            log.error("config.not_reloaded", part=part.name, reason=str(error))
            return
        except Exception:
            self._reloads.tell(part.name, good=False)
            log.exception("config.not_reloaded", part=part.name, reason=_UNFORESEEN)
            return
        self._reloads.tell(part.name, good=True)
        if first or not loaded.changed:
            return
        self._taken[part.name] = await self._stamp(part)  # it may be other files now
        log.info("config.reloaded", part=part.name, changed=list(loaded.changed))
        try:
            self._on_changed(part.name, loaded.changed)
        except Exception:  # it is in force, and only not told
            self._reloads.failures[part.name] += 1
            log.exception("config.change_not_told", part=part.name)


def _stamp(part: Part) -> Stamp:
    return tuple(_stamp_of(path) for path in part.files())


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    """Of what the path leads to; other rights are a change, too."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mode, *times)
