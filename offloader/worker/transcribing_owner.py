"""The owner of a job's tracks: the worker whose host was in the call.

It keeps sound, states and results until the job has them all, offers tracks through the broker, and offers
again what a lost worker had. A job that does not ask any more is forgotten, and so is everything of it.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends.remote.wire import DOOR_KEY_PURPOSE, is_door_key
from offloader.errors import BackendError, OffloaderError
from offloader.models import JOB_ID
from offloader.store.secret_key import Cipher
from offloader.worker.transcribing_files import TRACK_NAME, TrackFiles
from offloader.worker.transcribing_state import ClaimAnswer, JobTracks

_EVERY_S: Final = 1.0
_FORGOTTEN_S: Final = 600.0
"""A job asks every few seconds; one that does not is gone, and `salvage` makes its transcript."""
_BROKER_AWAY_S: Final = 5.0
_LONGEST_LOOK_S: Final = 30.0
_OF_A_JOB: Final = re.compile(
    rf"/tasks/(?P<job>{JOB_ID.pattern})(/{TRACK_NAME.pattern}/(audio|result|withdraw))?"
)

Offer = Callable[[str, str], Awaitable[None]]
"""`(job_id, track)`: put a message into the broker. Raises BackendError."""

log = get_logger()


class UnknownTracks(OffloaderError):
    """No such job has handed in tracks, or it has all of them back."""


class NotHandedIn(OffloaderError):
    """The sound of a track that is to be transcribed is not there; the text names it."""


def job_token(cipher: Cipher, job_id: str) -> str:
    """What a job shows at its own worker's door; good for its own tracks only."""
    return _job_tokens(cipher, job_id)[0]


def _job_tokens(cipher: Cipher, job_id: str) -> list[str]:
    """Of each secret key: a job keeps the one that it was started with."""
    keys = cipher.accepted_texts(DOOR_KEY_PURPOSE)
    purpose = f"transcribe tasks:{job_id}".encode()
    return [hmac.new(key.encode(), purpose, "sha256").hexdigest() for key in keys]


class TrackOwner:
    """Lives on the event loop; `run` it, and give its routes to the door (`transcribing_door`)."""

    def __init__(
        self,
        directory: Path,
        *,
        cipher: Cipher,
        offer: Offer,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = TrackFiles(directory)
        self._cipher = cipher
        self._offer = offer
        self._now_s = now_s
        self._jobs: dict[str, JobTracks] = {}
        self._asked_s: dict[str, float] = {}
        """When each job was last heard of; it is one from its first part of sound on."""
        self._news: dict[str, asyncio.Event] = {}
        self._writing = asyncio.Lock()
        """One write at a time, and none into what is being removed."""

    def variables(self, job_id: str, *, url: str) -> dict[str, str]:
        """For the environment of a transcribing job on this worker, whose door is at `url`."""
        return {
            "TRANSCRIBE_TASKS_URL": f"{url}/tasks/{job_id}",
            "TRANSCRIBE_TASKS_TOKEN": job_token(self._cipher, job_id),
        }

    def admits(self, path: str, token: str) -> bool:
        """Whether `token` is the door's key, or a job's and `path` is of its own tracks."""
        if is_door_key(self._cipher, token):
            return True
        match = _OF_A_JOB.fullmatch(path)
        if match is None:
            return False
        given = token.encode("latin-1", "replace")
        tokens = _job_tokens(self._cipher, match["job"])
        return any(hmac.compare_digest(given, each.encode()) for each in tokens)

    # the job's own requests

    async def receive(self, job_id: str, track: str, part: bytes, *, start: int) -> int:
        """A part of a track's sound. Raises OutOfOrder, OSError."""
        path = self._files.audio(job_id, track)
        async with self._writing:
            self._asked_s[job_id] = self._now_s()  # also of what was forgotten meanwhile
            return await asyncio.to_thread(self._files.append, path, part, start=start)

    async def begin(self, job_id: str, pieces: Mapping[str, int]) -> None:
        """All is there: offer it. The same once more changes nothing.

        Raises:
            NotHandedIn: a track's sound is not there.
            BackendError: the broker takes nothing now.
            OSError: the states cannot be written.
        """
        self._asked_s[job_id] = self._now_s()
        if job_id in self._jobs:
            return
        for name in pieces:
            if not self._files.audio(job_id, name).exists():
                raise NotHandedIn(f"{name}: its sound is not there")
        job = JobTracks.begun(pieces, now_s=self._now_s())
        async with self._writing:
            if job_id in self._jobs:
                return
            await asyncio.to_thread(self._files.save, job_id, job.documents())
            self._jobs[job_id] = job
        try:
            for name in job.due(now_s=self._now_s()):
                await self._offer(job_id, name)
        except BackendError:
            await self.forget(job_id)  # the job shall do it itself, at once
            raise
        log.info("tracks.offered", job_id=job_id, tracks=len(pieces))

    async def look(
        self, job_id: str, *, after: int, wait_s: float
    ) -> tuple[int, list[dict[str, Any]]]:
        """Version and tracks of a job, when newer than `after`, else after `wait_s`.

        Raises:
            UnknownTracks: there is no such job.
        """
        job = self._known(job_id)
        self._asked_s[job_id] = self._now_s()
        if job.version <= after:
            news = self._news.setdefault(job_id, asyncio.Event())
            try:
                async with asyncio.timeout(min(wait_s, _LONGEST_LOOK_S)):
                    await news.wait()
            except TimeoutError:
                pass
            job = self._known(job_id)
        tracks = [
            {
                "name": track.name,
                "state": track.phase.value,
                "done": track.done,
                "worker": track.worker,
                "reason": track.reason,
            }
            for track in job.tracks.values()
        ]
        return job.version, tracks

    async def withdraw(self, job_id: str, track: str) -> bool:
        """See `JobTracks.withdraw`. Raises UnknownTracks."""
        withdrawn = self._known(job_id).withdraw(track)
        await self._changed(job_id)
        return withdrawn

    async def forget(self, job_id: str) -> None:
        """Remove everything of a job. Idempotent."""
        self._jobs.pop(job_id, None)
        self._asked_s.pop(job_id, None)
        self._tell(job_id)
        self._news.pop(job_id, None)
        async with self._writing:
            await asyncio.to_thread(self._files.remove, job_id)

    # other workers' requests

    async def claim(self, job_id: str, track: str, *, claim: str, worker: str) -> ClaimAnswer:
        """A worker wants it."""
        job = self._jobs.get(job_id)
        if job is None:
            return ClaimAnswer.OVER
        verdict = job.claim(track, claim=claim, worker=worker, now_s=self._now_s())
        if verdict is ClaimAnswer.GRANTED:
            log.info("track.claimed", job_id=job_id, track=track, worker=worker)
            await self._changed(job_id)
        return verdict

    def pieces(self, job_id: str, track: str) -> int:
        """How many a track has; 0: there is no such track."""
        job = self._jobs.get(job_id)
        return job.tracks[track].pieces if job is not None and track in job.tracks else 0

    def beat(self, job_id: str, track: str, *, claim: str, done: int) -> bool:
        """A worker is at it still. False: it may stop."""
        job = self._jobs.get(job_id)
        if job is None or not job.beat(track, claim=claim, done=done, now_s=self._now_s()):
            return False
        self._tell(job_id)
        return True

    async def failed(
        self, job_id: str, track: str, *, claim: str, reason: str, ending: bool
    ) -> None:
        """A worker could not do it, or gives it back because it is `ending`."""
        if (job := self._jobs.get(job_id)) is not None:
            log.warning("track.failed", job_id=job_id, track=track, reason=reason)
            job.fail(track, claim=claim, reason=reason, now_s=self._now_s(), ending=ending)
            await self._changed(job_id)

    async def result_part(
        self, job_id: str, track: str, part: bytes, *, claim: str, start: int, last: bool
    ) -> bool:
        """A part of a result; with the last one the track is done. False: nobody needs it.

        Raises:
            OutOfOrder, OSError: the part is not taken.
        """
        job = self._jobs.get(job_id)
        if job is None or not job.needs(track):
            return False
        job.beat(track, claim=claim, done=job.tracks[track].done, now_s=self._now_s())
        path = self._files.coming(job_id, track, claim)
        async with self._writing:
            if self._jobs.get(job_id) is not job:
                return False
            await asyncio.to_thread(self._files.append, path, part, start=start)
            if last:
                # Each result is complete, so it does not matter which of two stays.
                await asyncio.to_thread(path.replace, self._files.result(job_id, track))
        if last:
            job.finish(track)
            log.info("track.done", job_id=job_id, track=track)
            await self._changed(job_id)
        return True

    # both

    async def audio(self, job_id: str, track: str) -> AsyncIterator[bytes]:
        """A track's sound. Raises UnknownTracks, OSError."""
        self._known(job_id)
        async for chunk in self._chunks(self._files.audio(job_id, track)):
            yield chunk

    async def result(self, job_id: str, track: str) -> AsyncIterator[bytes]:
        """A track's result. Raises UnknownTracks, OSError (there is none)."""
        self._known(job_id)
        async for chunk in self._chunks(self._files.result(job_id, track)):
            yield chunk

    async def restore(self) -> None:
        """Take up what an earlier process left; before anybody may come in."""
        now_s = self._now_s()
        for job_id, documents in (await asyncio.to_thread(self._files.saved)).items():
            try:
                self._jobs[job_id] = JobTracks.restored(documents, now_s=now_s)
                self._asked_s[job_id] = now_s
            except (ValueError, KeyError, TypeError):
                await asyncio.to_thread(self._files.remove, job_id)

    async def run(self) -> None:
        """Watch over all of it until cancelled."""
        while True:
            try:
                await self.look_after()
            except Exception:
                log.exception("tracks.round_failed")
            await asyncio.sleep(_EVERY_S)

    async def look_after(self) -> None:
        """Once: offer what is due, notice who is silent, forget whom nobody asks about."""
        now_s = self._now_s()
        for job_id, asked_s in list(self._asked_s.items()):
            if now_s - asked_s > _FORGOTTEN_S:
                log.warning("tracks.forgotten", job_id=job_id)
                await self.forget(job_id)
        for job_id, job in list(self._jobs.items()):
            for name in job.lose_the_silent(now_s=now_s):
                log.warning("track.worker_lost", job_id=job_id, track=name)
                await self._changed(job_id)
            for name in job.due(now_s=now_s):
                try:
                    await self._offer(job_id, name)
                except BackendError as error:
                    log.warning("track.not_offered", job_id=job_id, reason=str(error))
                    job.offer_again(name, at_s=now_s + _BROKER_AWAY_S)

    def _known(self, job_id: str) -> JobTracks:
        job = self._jobs.get(job_id)
        if job is None:
            raise UnknownTracks(f"no tracks of job {job_id}")
        return job

    async def _changed(self, job_id: str) -> None:
        """Keep and tell it."""
        self._tell(job_id)
        async with self._writing:  # one after another, each with what holds by then
            if (job := self._jobs.get(job_id)) is None:
                return
            try:
                await asyncio.to_thread(self._files.save, job_id, job.documents())
            except OSError as error:  # a restart would only have something done twice
                log.warning("tracks.not_saved", job_id=job_id, reason=error.strerror)

    def _tell(self, job_id: str) -> None:
        if (news := self._news.pop(job_id, None)) is not None:
            news.set()

    async def _chunks(self, path: Path) -> AsyncIterator[bytes]:
        chunks = self._files.read(path)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield chunk
