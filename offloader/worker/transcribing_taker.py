"""A worker that transcribes others' tracks: from the message to the text in the owner's hands."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from foundation.logs import get_logger
from offloader.store.secret_key import Cipher
from offloader.worker.lanes import Verdict
from offloader.worker.transcribing_client import NotWanted, OwnersDoor, OwnerUnreachable
from offloader.worker.transcribing_messages import TrackOffer
from offloader.worker.transcribing_program import BUNDLE_NAME, ProgramFailed

BEAT_S: Final = 3.0
_OWNER_AWAY_S: Final = 60.0
"""After that the job does it itself, or is gone."""

_ACKNOWLEDGED_S: Final = 1200.0
"""RabbitMQ closes a channel whose message is unacknowledged for half an hour (its consumer_timeout). What
takes longer is sent again by the owner, should it be lost."""
_FAREWELL_S: Final = 2.0

log = get_logger()


class Program(Protocol):
    """`transcribing_program.TrackProgram`."""

    async def run(self, directory: Path, *, pieces: int, on_progress: Any) -> bytes: ...


class TrackTaker:
    """Lives on the event loop. How many at once is the lane's business."""

    def __init__(
        self,
        directory: Path,
        *,
        slots: int,
        program: Program,
        owners: OwnersDoor,
        cipher: Cipher,
        changed: Callable[[], None],
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        """`directory`: for the sound, as long as it is transcribed; this worker's alone. `slots`: tracks at
        the same time. `changed`: whether there is room may have changed. `closed`: take no more messages, and
        return when that holds."""
        self._directory = directory
        self._slots = slots
        self._program = program
        self._owners = owners
        self._cipher = cipher
        self._changed = changed
        self._closed = closed
        self._ended = asyncio.Event()
        self._works: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Tracks at work now."""
        return len(self._works)

    @property
    def has_room(self) -> bool:
        return self.running < self._slots

    async def until_idle(self) -> None:
        """Nothing is at work."""
        while self.running:
            self._ended.clear()
            await self._ended.wait()

    def clear(self) -> None:
        """Remove what an earlier process left. Blocks."""
        shutil.rmtree(self._directory, ignore_errors=True)

    async def take(self, message_id: str, arguments: Mapping[str, Any]) -> Verdict:
        """Transcribe the track of a message, if there is room and nobody else does. Whatever becomes of it,
        the message is done with: the owner sends another one for a track that is not transcribed."""
        if not self.has_room:
            await self._closed()
            return Verdict.NO_ROOM
        work = asyncio.create_task(self._take(arguments), name="taken-track")
        self._works.add(work)
        work.add_done_callback(self._over)
        self._changed()
        try:
            await asyncio.wait([work], timeout=_ACKNOWLEDGED_S)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            raise
        return Verdict.DONE

    async def aclose(self) -> None:
        """Give up what is at work: others do it."""
        works = list(self._works)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    def _over(self, work: asyncio.Task[None]) -> None:
        self._works.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("track.broken_off", error=type(error).__name__, exc_info=error)
        self._ended.set()
        self._changed()

    async def _take(self, arguments: Mapping[str, Any]) -> None:
        job_id = str(arguments.get("job_id", ""))
        offer = TrackOffer.unsealed(self._cipher, str(arguments.get("sealed", "")), job_id)
        if offer is None:
            log.error(
                "track.unreadable",
                job_id=job_id[:64],
                reason="sealed with another OFFLOADER_SECRET_KEY, or damaged",
            )
            return
        claim = uuid.uuid4().hex
        url = f"{offer.owner_url}/tasks/{job_id}/{offer.track}"
        try:
            pieces = await self._owners.claim(url, claim)
            if pieces is not None:
                await self._transcribe(url, claim, pieces)
                log.info("track.handed_in", job_id=job_id, track=offer.track, pieces=pieces)
        except NotWanted:
            log.info("track.not_wanted", job_id=job_id, track=offer.track)
        except OwnerUnreachable as error:
            log.warning("track.owner_away", job_id=job_id, track=offer.track, reason=str(error))
        except ProgramFailed as error:
            log.error("track.failed", job_id=job_id, track=offer.track, reason=str(error))
        finally:
            await asyncio.to_thread(shutil.rmtree, self._directory / claim, ignore_errors=True)

    async def _transcribe(self, url: str, claim: str, pieces: int) -> None:
        """Raises NotWanted, OwnerUnreachable, ProgramFailed."""
        work = _Work()
        working = asyncio.create_task(self._work(url, claim, pieces, work), name="track")
        beating = asyncio.create_task(self._beat(url, claim, work), name="track-beats")
        try:
            await asyncio.wait([working, beating], return_when=asyncio.FIRST_COMPLETED)
            await (working if working.done() else beating)
        except ProgramFailed as error:
            await self._owners.give_up(url, claim, str(error))
            raise
        except asyncio.CancelledError:
            with suppress(OwnerUnreachable, TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self._owners.give_up(url, claim, "its worker ends", ending=True)
            raise
        finally:
            for task in (working, beating):
                task.cancel()
            await asyncio.wait([working, beating])

    async def _work(self, url: str, claim: str, pieces: int, work: _Work) -> None:
        directory = self._directory / claim
        try:
            directory.mkdir(mode=0o700, parents=True)
            await self._owners.fetch(url, directory / BUNDLE_NAME)
            result = await self._program.run(directory, pieces=pieces, on_progress=work.got_to)
        except OSError as error:
            raise ProgramFailed(error.strerror or type(error).__name__) from error
        await self._owners.hand_in(url, claim, result)

    async def _beat(self, url: str, claim: str, work: _Work) -> None:
        """Never returns. Raises NotWanted, OwnerUnreachable."""
        loop = asyncio.get_running_loop()
        answered_s = loop.time()
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._owners.beat(url, claim, work.done)
                answered_s = loop.time()
            except OwnerUnreachable:
                if loop.time() - answered_s > _OWNER_AWAY_S:
                    raise


class _Work:
    """How far it is."""

    def __init__(self) -> None:
        self.done = 0

    def got_to(self, done: int) -> None:
        self.done = done
