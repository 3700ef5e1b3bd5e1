"""Looks at the service every quarter of a minute and writes a line when something has changed for the worse,
and one when all is well again. Keeps count of failed jobs that nobody has been told of yet.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.models import Job, JobType, StopReason
from offloader.notify.causes import PATIENCE, Cause, Look, troubles
from offloader.notify.told import Told

_LOOK_EVERY_S: Final = 15.0
_REMIND_AFTER: Final = timedelta(hours=24)
_WELL_PATIENCE: Final = timedelta(minutes=1)
"""So long nothing may be wrong before all is said to be well."""
_FAILURES: Final = frozenset({StopReason.CRASHED, StopReason.LOST, StopReason.START_FAILED})
_OF_TYPE: Final = {
    JobType.RECORDING: Cause.RECORDING_FAILED,
    JobType.TRANSCRIBING: Cause.TRANSCRIPTION_FAILED,
}
_NOUNS: Final = {
    Cause.RECORDING_FAILED: ("a recording", "recordings"),
    Cause.TRANSCRIPTION_FAILED: ("a transcription", "transcriptions"),
}
_NOT_BEGUN: Final = "not begun"

log = get_logger()


@dataclass(slots=True)
class _Trouble:
    """A state that is bad."""

    since: datetime
    told_at: datetime | None = None
    """By whichever replica."""


@dataclass(slots=True)
class _Failed:
    """Jobs of a type that failed and of which nobody has been told."""

    reasons: Counter[str] = field(default_factory=Counter)
    last_job: str = ""


class Notifier:
    """One per process; `run` it in a task."""

    def __init__(
        self,
        *,
        look: Callable[[], Awaitable[Look]],
        told: Told,
        say: Callable[[str], None],
        clock: Clock,
        where: str,
    ) -> None:
        """`say` takes a line, without waiting. `where`: how this service is called in it."""
        self._look = look
        self._told = told
        self._say = say
        self._clock = clock
        self._where = where
        self._troubles: dict[Cause, _Trouble] = {}
        self._failed: dict[Cause, _Failed] = {}
        self._open_since: datetime | None = None
        """When a trouble was told last, until it is told that all is well."""
        self._well_since: datetime | None = None

    def job_changed(self, before: Job | None, after: Job) -> None:
        """See `offloader.store.observed.Observer`."""
        if after.live or before is None or not before.live:
            return
        reason = after.stop_reason.value if after.stop_reason in _FAILURES else ""
        if not reason and after.figures.get("start_failed"):
            reason = _NOT_BEGUN
        if reason:
            failed = self._failed.setdefault(_OF_TYPE[after.spec.type], _Failed())
            failed.reasons[reason] += 1
            failed.last_job = after.id

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.check()
            except Exception:  # a defect in one look must not end the telling of all others
                log.exception("notify.check_failed")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def check(self) -> None:
        """One look."""
        now = self._clock.utc_now()
        # First what is known already: the look may fail, or take long.
        for cause, failed in list(self._failed.items()):
            if (await self._told.turn(cause, now)).ours:
                del self._failed[cause]
                self._write(":x:", _sentence(cause, failed))
        bad = troubles(await self._look(), now=now)
        for cause in self._troubles.keys() - bad.keys():
            del self._troubles[cause]
        for cause, text in bad.items():
            trouble = self._troubles.setdefault(cause, _Trouble(now))
            if now - trouble.since >= PATIENCE.get(cause, timedelta(0)):
                await self._tell(cause, trouble, text, now)
        await self._tell_if_well(now)

    async def _tell(self, cause: Cause, trouble: _Trouble, text: str, now: datetime) -> None:
        if trouble.told_at is not None and now - trouble.told_at < _REMIND_AFTER:
            return
        turn = await self._told.turn(cause, now)
        if turn.ours:
            self._write(":warning:", text)
            trouble.told_at = now
        elif turn.last is not None and turn.last >= trouble.since:
            trouble.told_at = turn.last  # another replica has told of this very trouble
        else:
            return  # later, if it lasts
        self._open_since = max(self._open_since or trouble.told_at, trouble.told_at)

    async def _tell_if_well(self, now: datetime) -> None:
        if self._troubles:
            self._well_since = None
            return
        self._well_since = self._well_since or now
        if self._open_since is None or now - self._well_since < _WELL_PATIENCE:
            return
        turn = await self._told.turn(Cause.WELL_AGAIN, now)
        if turn.ours:
            self._write(":white_check_mark:", "all is well again.")
        elif turn.last is None or turn.last < self._open_since:
            return  # it was told before this trouble: the next time is in an hour at most
        self._open_since = None

    def _write(self, mark: str, text: str) -> None:
        self._say(f"{mark} Calls job service `{self._where}`: {text}")


def _sentence(cause: Cause, failed: _Failed) -> str:
    one, many = _NOUNS[cause]
    count = failed.reasons.total()
    job = failed.last_job
    advice = f"`offloader jobs show {job}` says why and what to do."
    if count == 1:
        (reason,) = failed.reasons
        return f"{one} failed ({reason}). {advice}"
    reasons = ", ".join(f"{n} {reason}" for reason, n in failed.reasons.most_common())
    return f"{count} {many} failed ({reasons}); of the last one {advice}"
