"""Whether one more job fits beside thousands: they are counted once, then as they come and go.

What jobs hold is said in `admission`. Stores give out the same object for a job that has not changed, so what
has changed since the last look is found by comparing identities, a tenth of a microsecond each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from offloader.admission import AdmissionPolicy, writing_bytes_per_s
from offloader.errors import DiskTooFull
from offloader.models import CallKey, Job, JobType

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A live job, and what admission asks of it."""

    job: Job
    key: CallKey
    bytes_per_s: int
    deadline_s: float


class Occupancy:
    """One per entrance; `live` is always everything that lives."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._count: Counter[tuple[CallKey, JobType]] = Counter()
        """Jobs in their calls; those whose call is over are counted when asked."""
        self._places = 0
        self._over: dict[str, _Kept] = {}

    def admits(self, live: Sequence[Job], candidate: Job, *, policy: AdmissionPolicy) -> bool:
        """Whether `candidate` may start beside `live`: it fits, or it needs no further place."""
        self._follow(live)
        over = sorted(self._over.values(), key=lambda kept: kept.job.created_at)
        holding = [kept.key for kept in over[policy.post_call_slots :]]
        more = Counter((kept.key, kept.job.spec.type) for kept in over[policy.post_call_slots :])
        now = self._places + sum(
            self._places_of(key, more) - self._places_of(key) for key in set(holding)
        )
        key = candidate.call_key
        before = self._places_of(key, more)
        more[key, candidate.spec.type] += 1
        then = now + self._places_of(key, more) - before
        return then <= policy.max_calls or then == now

    def check_disk(
        self,
        live: Sequence[Job],
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
        self._follow(live)
        now_s = (now - _EPOCH).total_seconds()
        reserved = _still_to_write(self._kept.values(), now_s)
        wanted = _still_to_write([_kept(candidate)], now_s)
        if free_bytes - reserved - wanted < policy.min_free_disk_bytes:
            raise DiskTooFull(
                free_bytes=free_bytes,
                reserved_bytes=reserved,
                wanted_bytes=wanted,
                min_free_bytes=policy.min_free_disk_bytes,
            )

    def _follow(self, live: Sequence[Job]) -> None:
        kept = self._kept
        for job in live:
            known = kept.get(job.id)
            if known is None or known.job is not job:
                if known is not None:
                    self._remove(known)
                self._add(_kept(job))
        if len(kept) > len(live):
            ids = {job.id for job in live}
            for gone in [known for job_id, known in kept.items() if job_id not in ids]:
                self._remove(gone)

    def _add(self, kept: _Kept) -> None:
        job = kept.job
        self._kept[job.id] = kept
        if job.post_call:
            self._over[job.id] = kept
        else:
            self._change(kept, 1)

    def _remove(self, kept: _Kept) -> None:
        del self._kept[kept.job.id]
        if self._over.pop(kept.job.id, None) is None:
            self._change(kept, -1)

    def _change(self, kept: _Kept, step: int) -> None:
        before = self._places_of(kept.key)
        slot = (kept.key, kept.job.spec.type)
        self._count[slot] += step
        if not self._count[slot]:
            del self._count[slot]
        self._places += self._places_of(kept.key) - before

    def _places_of(self, key: CallKey, more: Counter[tuple[CallKey, JobType]] | None = None) -> int:
        """Of one call: as many as it has jobs of one type."""
        more = more if more is not None else Counter()
        return max(self._count[key, kind] + more[key, kind] for kind in JobType)


def _kept(job: Job) -> _Kept:
    rate = 0 if job.post_call else writing_bytes_per_s(job.spec.type, job.spec.input_data)
    return _Kept(job, job.call_key, rate, (job.deadline_at - _EPOCH).total_seconds())


def _still_to_write(jobs: Iterable[_Kept], now_s: float) -> int:
    return round(
        sum(
            kept.bytes_per_s * (kept.deadline_s - now_s) for kept in jobs if kept.deadline_s > now_s
        )
    )
