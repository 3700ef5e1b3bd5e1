"""After the call: each speaker's sound to whoever transcribes it, and the texts back into the backlog.

Nothing depends on anybody out there. What nobody begins with, what fails, what comes back damaged or from
another model, and everything when the door does not answer, goes back to the job's own engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Final, Protocol, TypeVar

from foundation.error_place import place
from foundation.logs import get_logger
from foundation.retry import Backoff, retry
from jobs.transcriber.engines.base import EngineInfo
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.models import engine_used
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.tasks_door import DoorError, TasksDoor, TrackState
from jobs.transcriber.track_bundle import BundleError, TrackTask, pack, read_result
from jobs.transcriber.transcript import Segment, Share, TranscriptBacklog

_LOOK_S: Final = 5.0
"""So long one look at the states waits for news."""
SILENCE_S: Final = 60.0
"""What nobody has begun with by then the job begins with itself, one speaker after another."""
_DOOR_AWAY_S: Final = 30.0
_STANDSTILL_S: Final = 1200.0
"""Somebody has it and lives, but no piece was finished: a piece takes 15 minutes at most."""
_PAUSE_S: Final = 1.0
_BACKOFF: Final = Backoff(attempts=4, first_wait_s=0.5)
_log = get_logger(component="handover")

T = TypeVar("T")


class Door(Protocol):
    """`jobs.transcriber.tasks_door.TasksDoor`. Every method raises DoorError."""

    async def upload(self, track: str, bundle: IO[bytes]) -> None: ...
    async def begin(self, tracks: list[tuple[str, int]]) -> None: ...
    async def look(self, *, after: int, wait_s: float) -> tuple[int, list[TrackState]]: ...
    async def result(self, track: str) -> bytes: ...
    async def withdraw(self, track: str) -> bool: ...
    async def end(self) -> None: ...


class HandOver:
    """Of one job. `run` once."""

    def __init__(
        self,
        open_door: Callable[[], AbstractAsyncContextManager[Door]],
        *,
        task: Callable[[], TrackTask],
        engine: Mapping[str, str],
        directory: Path,
        silence_s: float = SILENCE_S,
    ) -> None:
        """`task`: how to transcribe, as of the end of the call. `engine`: the job's own, whose text alone
        may stand beside its own text. `directory`: for a second copy of a speaker's sound, for seconds."""
        self._open_door = open_door
        self._task = task
        self._engine = engine
        self._directory = directory
        self._silence_s = silence_s
        self._out: dict[str, Share] = {}
        self._states: dict[str, TrackState] = {}
        self._quiet_since_s: dict[str, float] = {}
        """When a track last got on, on the event loop's clock."""
        self.taken_back = 0
        """Pieces that came back undone."""

    @property
    def done_elsewhere(self) -> int:
        """Pieces of tracks that are not through yet."""
        return sum(self._states[name].done for name in self._out if name in self._states)

    async def run(self, backlog: TranscriptBacklog, *, on_news: Callable[[], None]) -> None:
        """Hand out what waits; returns when all of it is done or back in `backlog`.

        `on_news` is called when the backlog has got something, and whenever somebody may want to know how
        far it is.
        """
        shares = backlog.hand_out()
        self._out = {f"voice-{number}": share for number, share in enumerate(shares, 1)}
        if not self._out:
            return
        try:
            async with self._open_door() as door:
                await self._hand_in(door, backlog)
                on_news()
                await self._collect(door, backlog, on_news)
                with suppress(DoorError):
                    await door.end()
        except DoorError as error:
            _log.warning("handover.given_up", tracks=len(self._out), reason=str(error))
        except Exception as error:  # noqa: BLE001 - a defect; the job can do it all by itself
            kind = type(error).__name__
            _log.error("handover.failed", tracks=len(self._out), error=kind, at=place(error))
        finally:
            for name in list(self._out):
                self._take_back(backlog, name)
            on_news()

    async def _hand_in(self, door: Door, backlog: TranscriptBacklog) -> None:
        """Raises DoorError: not everything is there."""
        task = self._task()
        for name, share in list(self._out.items()):
            try:
                bundle = await asyncio.to_thread(
                    pack, task, share.captures(), directory=self._directory
                )
            except OSError as error:
                _log.warning("handover.not_packed", track=name, reason=error.strerror)
                self._take_back(backlog, name)
                continue
            with bundle:
                await _insist(partial(door.upload, name, bundle))
        tracks = [(name, len(share.pieces)) for name, share in self._out.items()]
        if tracks:
            await _insist(partial(door.begin, tracks))
            _log.info("handover.begun", tracks=len(tracks), pieces=backlog.handed_out)
        now_s = asyncio.get_running_loop().time()
        self._quiet_since_s = dict.fromkeys(self._out, now_s)

    async def _collect(
        self, door: Door, backlog: TranscriptBacklog, on_news: Callable[[], None]
    ) -> None:
        """Raises DoorError: it has been away for too long."""
        loop = asyncio.get_running_loop()
        version, answered_s = 0, loop.time()
        while self._out:
            try:
                version, states = await door.look(after=version, wait_s=_LOOK_S)
            except DoorError as error:
                if not error.retryable or loop.time() - answered_s > _DOOR_AWAY_S:
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            answered_s = loop.time()
            for state in states:
                if state.name in self._out:
                    await self._learn(door, backlog, state)
            if backlog.idle:
                with suppress(DoorError):  # the next look tells whether it is gone
                    await self._begin_with_one(door, backlog)
            on_news()

    async def _learn(self, door: Door, backlog: TranscriptBacklog, state: TrackState) -> None:
        name, now_s = state.name, asyncio.get_running_loop().time()
        known = self._states.get(name)
        if known is None or (known.state, known.done) != (state.state, state.done):
            self._quiet_since_s[name] = now_s
        self._states[name] = state
        if state.state == "done":
            await self._take_over(door, backlog, name)
        elif state.state in ("failed", "withdrawn"):
            _log.warning("handover.track_failed", track=name, reason=state.reason)
            self._take_back(backlog, name)
        elif now_s - self._quiet_since_s[name] > _STANDSTILL_S:
            _log.warning("handover.track_stands_still", track=name)
            self._take_back(backlog, name)

    async def _take_over(self, door: Door, backlog: TranscriptBacklog, name: str) -> None:
        share = self._out[name]
        try:
            content = await _insist(partial(door.result, name))
            result = await asyncio.to_thread(read_result, content)
            _check(result.segments, share)
        except (DoorError, BundleError) as error:
            _log.warning("handover.result_unusable", track=name, reason=str(error))
            self._take_back(backlog, name)
            return
        if result.engine != dict(self._engine):
            _log.warning("handover.other_engine", track=name, model=result.engine.get("model"))
            self._take_back(backlog, name)
            return
        del self._out[name]
        backlog.take_over(share, result.segments)

    async def _begin_with_one(self, door: Door, backlog: TranscriptBacklog) -> None:
        """The own engine has nothing to do; a speaker has waited for long, so that one is served here."""
        now_s = asyncio.get_running_loop().time()
        for name in reversed(self._out):
            state = self._states.get(name)
            waits = state is None or state.state == "waiting"
            if waits and now_s - self._quiet_since_s[name] >= self._silence_s:
                if await door.withdraw(name):
                    _log.info("handover.begun_here", track=name)
                    self._take_back(backlog, name)
                return

    def _take_back(self, backlog: TranscriptBacklog, name: str) -> None:
        share = self._out.pop(name)
        self.taken_back += len(share.pieces)
        backlog.take_back(share)


def hand_over_of(
    settings: TranscriberSettings, hints: CallHints, engine: EngineInfo
) -> HandOver | None:
    """As `settings` say; None: they name nobody."""
    if not settings.tasks_url or not settings.tasks_token:
        return None

    def task() -> TrackTask:
        return TrackTask(
            model=settings.model_size,
            compute_type=settings.compute_type,
            threads=settings.num_threads,
            languages=settings.languages,
            hints=hints.now,
        )

    return HandOver(
        partial(TasksDoor, settings.tasks_url, settings.tasks_token, ca_file=settings.ca_file),
        task=task,
        engine=engine_used(settings, engine),
        directory=settings.directory,
    )


def _check(segments: list[Segment], share: Share) -> None:
    """Raises BundleError: it is the text of something else."""
    strangers = {(s.session_id, s.user_id) for s in segments} - share.sessions
    times = {piece.utterance.onset_ns for piece in share.pieces}
    if strangers or len(segments) > len(share.pieces):
        raise BundleError("the result speaks of other tracks")
    if any(segment.start_ns not in times for segment in segments):
        raise BundleError("the result speaks of other times")


async def _insist(request: Callable[[], Awaitable[T]]) -> T:
    """Raises DoorError."""
    return await retry(
        request,
        backoff=_BACKOFF,
        retryable=lambda error: isinstance(error, DoorError) and error.retryable,
    )
