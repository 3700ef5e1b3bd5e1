"""What jobs hold: places for calls, and disk that they may still write. Pure; `occupancy` decides by it.

`max_concurrent_jobs` counts calls. The plugin starts a recording and then its transcription; refusing the
second leaves a half-alive recording behind (calls-plugin.md, trap 46). So jobs of the same client, call
and post are one unit, and a job whose unit already holds a place for it never needs another.

A job whose call is over (it transcribes or uploads) has given up its place, but only so many at a time:
the ones beyond `post_call_slots` hold theirs, or a busy evening would pile up without end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from offloader.models import CallKey, Job, JobType

NO_LIMIT: Final = 1 << 31
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
    """`NO_LIMIT`: as many as the backend's hosts have places for."""
    post_call_slots: int = 0
    min_free_disk_bytes: int | None = None
    """What admitted jobs must leave free at their ends; None: not looked at."""
    unpublished_quota_bytes: int | None = None
    """With so much left to be published no further call is let in; None: any."""


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


def writing_bytes_per_s(job_type: JobType, input_data: Mapping[str, object]) -> int:
    """What a job of that type may write to its disk, by its bit rates."""
    if job_type is JobType.RECORDING:
        kbps = _number(input_data.get("video_rate")) + _number(input_data.get("audio_rate"))
        return _RECORDING_COPIES * (kbps or _DEFAULT_RECORDING_KBPS) * 125
    return _CAPTURE_KBPS * 125


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
