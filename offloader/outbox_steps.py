"""How far the retries of an unpublished result are, as pure steps from one entry to the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from offloader.backends.base import Observation, Phase
from offloader.models import Job, OutboxEntry, Publication, StopReason, Workload

LONGEST_WAIT: Final = timedelta(hours=6)
SALVAGE_REFUSED: Final = 3
"""Exit code: the site answered, and no later attempt will get another answer (docs/job-contract.md 4)."""
NOBODY_ELSE_KNOWN: Final = 4
"""Exit code: the copies' store does not tell who else may publish."""
STILL_LIVES: Final = 5
"""Exit code of a rescue: the copy still grows."""
_LIVES_WAIT: Final = timedelta(minutes=1)
_OUT_OF_REACH_WAIT: Final = timedelta(minutes=10)
_REFUSALS: Final = 3
"""So often in a row, hours apart, before it is believed."""


def entry_of(job: Job) -> OutboxEntry:
    """Its retries so far; the beginning when there were none."""
    return job.outbox or OutboxEntry()


def site_url_of(job: Job) -> str:
    """The Mattermost that the job belongs to."""
    return str(job.spec.input_data.get("site_url") or "")


def published(job: Job, *, now: datetime) -> Job:
    """Nothing of its result is left to be published."""
    entry = replace(entry_of(job), publication=Publication.PUBLISHED, next_at=None, detail="")
    # What is left of its files is another size now.
    return replace(job, unpublished=False, outbox=entry, published_at=now, left_bytes=None)


def wait_after(attempts: int) -> timedelta:
    """One minute, two, four … up to six hours."""
    return min(timedelta(minutes=1 << min(attempts - 1, 16)), LONGEST_WAIT)


def wait(entry: OutboxEntry, *, at: datetime) -> OutboxEntry:
    """The next attempt is not before `at`."""
    return replace(entry, publication=Publication.WAITING, next_at=at)


def failed(entry: OutboxEntry, *, detail: str, now: datetime) -> OutboxEntry:
    """An attempt came to nothing."""
    attempts = entry.attempts + 1
    return replace(
        entry,
        publication=Publication.WAITING,
        attempts=attempts,
        next_at=now + wait_after(attempts),
        detail=detail,
    )


def lives(entry: OutboxEntry, *, detail: str, now: datetime) -> OutboxEntry:
    """The job itself is still at it, so that was no attempt: once it is dead, or has published, it shows."""
    return replace(entry, publication=Publication.WAITING, next_at=now + _LIVES_WAIT, detail=detail)


def out_of_reach(entry: OutboxEntry, *, detail: str, now: datetime) -> OutboxEntry:
    """Nothing can be tried here, so that was no attempt, and no age gives it up."""
    at = now + _OUT_OF_REACH_WAIT
    return replace(entry, publication=Publication.WAITING, next_at=at, detail=detail)


def running(entry: OutboxEntry, *, workload: Workload) -> OutboxEntry:
    """An attempt is under way."""
    return replace(entry, publication=Publication.RUNNING, workload=workload, next_at=None)


def given_up(entry: OutboxEntry, *, detail: str) -> OutboxEntry:
    """Nobody tries any more."""
    return replace(entry, publication=Publication.UNPUBLISHABLE, next_at=None, detail=detail)


def judged(entry: OutboxEntry, *, job: Job, observation: Observation, now: datetime) -> OutboxEntry:
    """After an attempt that left something."""
    if observation.phase is Phase.EXITED:
        entry = replace(entry, vouched=False)
    if observation.exit_code == STILL_LIVES:
        detail = "its copy still grows: the job lives, out of this service's reach"
        return lives(entry, detail=detail, now=now)
    if observation.exit_code == NOBODY_ELSE_KNOWN:
        detail = "the store of its copy does not tell whether somebody else publishes it"
        # Only of a job that was seen to end, and was never rescued, it is known that nobody else does.
        vouched = not entry.copied and job.stop_reason is not StopReason.LOST
        return failed(replace(entry, vouched=vouched), detail=detail, now=now)
    if observation.exit_code == 0:
        # The salvage ended well and kept the files: an answer was lost, and a second try could post twice.
        detail = "its post may exist already: look into the channel before publishing it by hand"
        return given_up(entry, detail=detail)
    if observation.exit_code == SALVAGE_REFUSED and entry.attempts + 1 >= _REFUSALS:
        return given_up(
            replace(entry, attempts=entry.attempts + 1), detail="its channel or post is gone"
        )
    code = observation.exit_code
    detail = observation.detail or (
        "the attempt's process is lost" if code is None else f"the attempt ended with code {code}"
    )
    return failed(entry, detail=detail, now=now)
