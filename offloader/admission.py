"""How many calls run now, and whether one more job fits: pure, so that every store applies it alike.

`max_concurrent_jobs` counts calls. The plugin starts a recording and then its transcription; refusing the
second leaves a half-alive recording behind (calls-plugin.md, trap 46). So jobs of the same client, call
and post are one unit, and a job whose unit already holds a place for it never needs another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from offloader.models import CallKey, Job


def calls_in_progress(live: Iterable[Job]) -> int:
    """Places held by `live` jobs.

    Two live jobs of the same type for one call (a recording started again while the last one still
    uploads) hold two places.
    """
    jobs_of_type = Counter((job.call_key, job.spec.type) for job in live)
    places: dict[CallKey, int] = {}
    for (key, _), count in jobs_of_type.items():
        places[key] = max(places.get(key, 0), count)
    return sum(places.values())


def admits(live: Sequence[Job], candidate: Job, *, limit: int) -> bool:
    """Whether `candidate` may start beside `live`: it fits, or it needs no further place."""
    now = calls_in_progress(live)
    then = calls_in_progress([*live, candidate])
    return then <= limit or then == now
