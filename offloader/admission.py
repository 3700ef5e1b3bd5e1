"""How many calls run now, and whether one more job fits: pure, so that every store applies it alike.

`max_concurrent_jobs` counts calls. The plugin starts a recording and then its transcription; refusing the
second leaves a half-alive recording behind (calls-plugin.md, trap 46). So jobs of the same client, call
and post are one unit, and a job whose unit already holds a place for it never needs another.

A job whose call is over (it transcribes or uploads) has given up its place, but only so many at a time:
the ones beyond `post_call_slots` hold theirs, or a busy evening would pile up without end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from offloader.errors import DiskTooFull
from offloader.models import CallKey, Job, JobType

_DEFAULT_RECORDING_KBPS: Final = 1500 + 64
"""The recorder's defaults (calls-plugin.md 9.1)."""
_RECORDING_COPIES: Final = 2
"""At the end the file is copied once, with its index in front."""
_CAPTURE_KBPS: Final = 320
"""Opus of about eight voices that talk at once; more talk than any meeting has."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """The limits."""

    max_calls: int
    post_call_slots: int = 0
    min_free_disk_bytes: int | None = None
    """What admitted jobs must leave free at their ends; None: not looked at."""


def calls_in_progress(live: Iterable[Job], *, post_call_slots: int = 0) -> int:
    """Places held by `live` jobs.

    Two live jobs of the same type for one call (a recording started again while the last one still
    uploads and holds its place) hold two places.
    """
    jobs_of_type = Counter(
        (job.call_key, job.spec.type) for job in _holding(live, post_call_slots=post_call_slots)
    )
    places: dict[CallKey, int] = {}
    for (key, _), count in jobs_of_type.items():
        places[key] = max(places.get(key, 0), count)
    return sum(places.values())


def admits(live: Sequence[Job], candidate: Job, *, policy: AdmissionPolicy) -> bool:
    """Whether `candidate` may start beside `live`: it fits, or it needs no further place."""
    slots = policy.post_call_slots
    now = calls_in_progress(live, post_call_slots=slots)
    then = calls_in_progress([*live, candidate], post_call_slots=slots)
    return then <= policy.max_calls or then == now


def check_disk(
    live: Iterable[Job],
    candidate: Job,
    *,
    policy: AdmissionPolicy,
    free_bytes: int | None,
    now: datetime,
) -> None:
    """Admit disk like cores: what live jobs may still write is taken already.

    Raises:
        DiskTooFull: with the numbers.
    """
    if policy.min_free_disk_bytes is None or free_bytes is None:
        return
    reserved = sum(still_to_write_bytes(job, now=now) for job in live)
    wanted = still_to_write_bytes(candidate, now=now)
    if free_bytes - reserved - wanted < policy.min_free_disk_bytes:
        raise DiskTooFull(
            free_bytes=free_bytes,
            reserved_bytes=reserved,
            wanted_bytes=wanted,
            min_free_bytes=policy.min_free_disk_bytes,
        )


def still_to_write_bytes(job: Job, *, now: datetime) -> int:
    """At most: bit rate × remaining time."""
    if job.post_call:
        return 0
    remaining = max(job.deadline_at - now, timedelta(0))
    if job.spec.type is JobType.RECORDING:
        data = job.spec.input_data
        kbps = _number(data.get("video_rate")) + _number(data.get("audio_rate"))
        rate_kbps = _RECORDING_COPIES * (kbps or _DEFAULT_RECORDING_KBPS)
    else:
        rate_kbps = _CAPTURE_KBPS
    return round(rate_kbps * 125 * remaining.total_seconds())


def _holding(live: Iterable[Job], *, post_call_slots: int) -> list[Job]:
    """The jobs that hold places: all but the oldest `post_call_slots` whose call is over."""
    jobs = list(live)
    over = sorted((job for job in jobs if job.post_call), key=lambda job: job.created_at)
    free = {job.id for job in over[:post_call_slots]}
    return [job for job in jobs if job.id not in free]


def _number(value: object) -> int:
    """Overridden inputs are texts (calls-plugin.md, trap 40)."""
    try:
        return max(int(str(value)), 0)
    except ValueError:
        return 0
