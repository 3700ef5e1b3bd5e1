"""What has been told, so that a cause is told once in an hour, by one of all replicas, also over restarts.

Whoever wants to tell binds the cause's current hour in the store that all replicas share, where exactly one
of several gets it; and looks at the hour before, in which it may have been told a minute ago.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from foundation.logs import get_logger
from offloader.errors import StoreError
from offloader.notify.causes import Cause
from offloader.store.base import AnswerStore

EVERY: Final = timedelta(hours=1)
_NOBODY: Final = ""
"""No client has an empty ID (job-service.md 2): under it the store keeps what is ours, and the admin's."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is to tell."""

    ours: bool
    last: datetime | None
    """When the cause was told, if it was within the hour and not by us now."""


class Told:
    """One per process."""

    def __init__(self, answers: AnswerStore) -> None:
        self._answers = answers
        self._last: dict[Cause, datetime] = {}
        """As this process knows it: for when the store cannot be asked."""

    async def turn(self, cause: Cause, now: datetime) -> Turn:
        """May this process tell of `cause` now? Who is given the turn has to take it."""
        last = self._last.get(cause)
        if last is not None and now - last < EVERY:
            return Turn(False, last)
        try:
            last = await self._bind(cause, now)
        except StoreError as error:
            # Better twice than never: the database may be the very trouble.
            log.warning("notify.not_shared", cause=cause.value, error=str(error))
            last = None
        self._last[cause] = last or now
        return Turn(last is None, last)

    async def _bind(self, cause: Cause, now: datetime) -> datetime | None:
        """When somebody else has told of it within the hour; None: now it is ours."""
        hour = int(now.timestamp()) // 3600
        before = _moment(await self._answers.answer_of(_NOBODY, key_of(cause, hour - 1)))
        if before is not None and now - before < EVERY:
            return before
        ours = f"{int(now.timestamp())}-{secrets.token_hex(8)}"
        bound = await self._answers.remember_answer(_NOBODY, key_of(cause, hour), ours)
        return None if bound == ours else _moment(bound)


def key_of(cause: Cause, hour: int) -> str:
    """Under which the store keeps who has told of `cause` in that hour since the epoch."""
    # With spaces, which no Idempotency-Key has: the admin has no ID, either.
    return f"notify {cause.value} {hour}"


def _moment(bound: str | None) -> datetime | None:
    return datetime.fromtimestamp(int(bound.split("-")[0]), UTC) if bound else None
