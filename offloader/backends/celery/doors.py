"""The workers' doors as the service uses them: one client for each, and one look at many jobs at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from offloader.backends.base import Observation, Phase
from offloader.backends.remote.client import DoorUnreachable, RemoteBackend
from offloader.backends.remote.wire import workload_document
from offloader.errors import BackendError
from offloader.models import Workload

_FRESH_S: Final = 0.5
"""A look is good for all who ask in that time: a round over all jobs asks each worker once or twice."""
_AGAIN_AFTER_S: Final = 1.0
"""A door at which nobody answered is not tried again before."""
_WATCHED_S: Final = 15.0
"""A job that nobody has asked for since is not looked at any more."""
_UNUSED_S: Final = 600.0

Look = Observation | BackendError
Connect = Callable[[str], RemoteBackend]


@dataclass(slots=True)
class _Watched:
    """A workload of the worker's own backend, and what was seen of it."""

    workload: Workload
    asked_s: float
    looked_s: float = -1.0
    """When the worker was asked; -1: never, or what it said is of no use to others any more."""
    look: Look | None = None
    request: int = 0
    """Number of the request that told it."""


class Door:
    """One worker's. Lives on the event loop."""

    def __init__(self, backend: RemoteBackend, *, heard: Callable[[], None]) -> None:
        """`heard` is called whenever somebody answers at it."""
        self.backend = backend
        self.used_s = _now_s()
        self.streams = 0
        """Logs and files that are being read."""
        self._heard = heard
        self._watched: dict[str, _Watched] = {}
        self._changes = 0
        """How often the worker was told something: what it saw before may not be true any more."""
        self._requests = 0
        self._looking: asyncio.Task[None] | None = None
        self._failure: tuple[float, BackendError] | None = None

    async def look(self, workload: Workload) -> Observation:
        """What the worker sees of it: now, or half a second ago, if nobody changed anything since.

        Raises:
            DoorUnreachable: nobody answers, or did a second ago.
            BackendError: the worker could not look.
        """
        asked_s = self.used_s = _now_s()
        key = _key(workload)
        watched = self._watched.setdefault(key, _Watched(workload, asked_s))
        watched.asked_s = asked_s
        wanted = self._requests + 1  # one that is under way may have asked before something changed
        while not (watched.request >= wanted or self._is_known(watched, asked_s)):
            if self._looking is None:
                self._looking = asyncio.create_task(self._look(), name="celery-look")
            await asyncio.shield(self._looking)
        if watched.request < wanted and self._failure is not None:
            raise self._failure[1]
        if isinstance(watched.look, BackendError):
            raise watched.look
        assert watched.look is not None
        return watched.look

    def last(self, workload: Workload) -> Observation | None:
        """What was last seen of it, while somebody asks for it; None: nothing."""
        watched = self._watched.get(_key(workload))
        look = None if watched is None else watched.look
        return look if isinstance(look, Observation) else None

    def changed(self) -> None:
        """The worker was told something: the next look is a new one, also at others that live in the same
        files."""
        self._changes += 1
        for watched in self._watched.values():
            watched.looked_s = -1.0

    async def aclose(self) -> None:
        """Idempotent."""
        if (looking := self._looking) is not None:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
        await self.backend.aclose()

    def _is_known(self, watched: _Watched, asked_s: float) -> bool:
        if self._failure is not None:
            if self._failure[0] > asked_s - _AGAIN_AFTER_S:
                return True
            self._failure = None
        return watched.looked_s >= 0 and watched.looked_s > asked_s - _FRESH_S

    async def _look(self) -> None:
        began_s = _now_s()
        for key, watched in list(self._watched.items()):
            if watched.asked_s < began_s - _WATCHED_S:
                del self._watched[key]
        asked = list(self._watched.values())
        changes = self._changes
        self._requests += 1
        request = self._requests
        try:
            looks = await self.backend.poll_many([watched.workload for watched in asked])
        except BackendError as error:
            if not isinstance(error, DoorUnreachable):
                self._heard()
            self._failure = (_now_s(), error)
            return
        finally:
            self._looking = None
        self._heard()
        self._failure = None
        # What one has left unpublished may have changed by the end of another that worked on its files.
        ended = any(_ends(watched.look, look) for watched, look in zip(asked, looks, strict=True))
        still_good = self._changes == changes and not ended
        for watched, look in zip(asked, looks, strict=True):
            watched.look, watched.request = look, request
            watched.looked_s = began_s if still_good else -1.0


@dataclass(slots=True)
class Doors:
    """All of them, by URL."""

    connect: Connect
    heard: Callable[[str], None]
    """Called with the URL of a door at which somebody answered."""
    _doors: dict[str, Door] = field(default_factory=dict)

    def at(self, url: str) -> Door:
        """The door there."""
        door = self._doors.get(url)
        if door is None:
            door = self._doors[url] = Door(self.connect(url), heard=lambda: self.heard(url))
        door.used_s = _now_s()
        return door

    async def close_unused(self) -> None:
        """Let go of those that nobody needs any more: workers in containers have new addresses each time."""
        for url, door in list(self._doors.items()):
            if not door.streams and door.used_s < _now_s() - _UNUSED_S:
                del self._doors[url]
                await door.aclose()

    async def aclose(self) -> None:
        """Idempotent."""
        while self._doors:
            _, door = self._doors.popitem()
            await door.aclose()


def _key(workload: Workload) -> str:
    document = workload_document(workload)
    return f"{document['backend']} {sorted(document['reference'].items())}"


def _has_ended(look: Look | None) -> bool:
    return isinstance(look, Observation) and look.phase in (Phase.EXITED, Phase.LOST)


def _ends(before: Look | None, now: Look) -> bool:
    return _has_ended(now) and not _has_ended(before)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
