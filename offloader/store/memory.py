"""The stores in memory, for tests: the same promises, nothing kept.

Nothing in them awaits, so every method is atomic.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from foundation.clock import Clock, SystemClock, epoch_ms
from offloader.errors import CapacityReached, JobNotFound
from offloader.models import UNMARKED, Job, JobState, JobType
from offloader.store.base import (
    ANSWERS_KEPT,
    DELETED_KEPT,
    HOST_LOST_AFTER_S,
    Claim,
    JobPage,
    Lease,
    TokenHolder,
)
from offloader.store.cursor import Cursor
from offloader.store.secret_key import Cipher


@dataclass(frozen=True, slots=True)
class _Hold:
    owner: str
    until: datetime


class MemoryJobStore:
    """See `JobStore`."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._jobs: dict[str, Job] = {}
        self._holds: dict[str, _Hold] = {}
        self._deleted: dict[str, datetime] = {}

    async def reserve(
        self,
        job: Job,
        *,
        admits: Callable[[Sequence[Job], Job], bool],
        lease: Lease | None = None,
    ) -> None:
        if not admits(self._live(), job):
            raise CapacityReached
        if lease is not None:
            job = replace(job, host=lease.host)
            self._hold(job.id, lease)
        self._jobs[job.id] = job

    async def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        if job_id not in self._jobs:
            raise JobNotFound(job_id)
        self._jobs[job_id] = change(self._jobs[job_id])
        return self._jobs[job_id]

    async def live(self) -> Sequence[Job]:
        return self._live()

    async def finished_before(self, moment: datetime) -> Sequence[Job]:
        stopped = [(job.stopped_at, job) for job in self._jobs.values() if not job.live]
        early = [(at, job) for at, job in stopped if at is not None and at < moment]
        return [job for _, job in sorted(early, key=lambda pair: pair[0])]

    async def unpublished(self) -> Sequence[Job]:
        return self._unpublished()

    async def with_files(self) -> Sequence[Job]:
        left = [job for job in self._jobs.values() if not job.live and job.left_bytes != 0]
        return sorted(left, key=lambda job: job.stopped_at or job.created_at)

    async def to_delete(self) -> Sequence[Job]:
        return [job for job in self._jobs.values() if job.deletion_at is not None]

    async def unpublished_bytes(self) -> int:
        return sum(job.left_bytes or 0 for job in self._unpublished())

    async def retranscribing(self) -> Sequence[Job]:
        return self._retranscribing()

    async def list_jobs(
        self,
        *,
        client_id: str | None = None,
        registration: str | None = None,
        job_type: JobType | None = None,
        state: JobState | None = None,
        since: datetime | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        cursor = None if before is None else Cursor.parse(before)
        found = [
            job
            for job in self._jobs.values()
            if (client_id is None or job.client_id == client_id)
            and (registration is None or job.registration in (registration, UNMARKED))
            and (job_type is None or job.spec.type is job_type)
            and (state is None or job.state is state)
            and (since is None or job.created_at >= since)
            and (cursor is None or Cursor.of(job) < cursor)
        ]
        found.sort(key=Cursor.of, reverse=True)
        return JobPage(found[:limit], str(Cursor.of(found[limit - 1])) if found[limit:] else None)

    async def delete(self, job_id: str, *, files_left: bool = False) -> None:
        self._jobs.pop(job_id, None)
        self._holds.pop(job_id, None)
        if files_left:
            self._deleted[job_id] = self._clock.utc_now()

    async def was_deleted(self, job_id: str) -> bool:
        deleted_at = self._deleted.get(job_id)
        return deleted_at is not None and self._clock.utc_now() - deleted_at < DELETED_KEPT

    async def claim(self, lease: Lease, *, take: bool = True) -> Claim:
        taken = set()
        unpublished = [job for job in self._unpublished() if job.host in lease.hosts]
        again = self._retranscribing()
        for job in {job.id: job for job in (*self._live(), *unpublished, *again)}.values():
            hold = self._holds.get(job.id)
            if hold is not None and hold.owner == lease.owner:
                self._hold(job.id, lease)
            elif take and self._may_take(job, hold, lease):
                self._hold(job.id, lease)
                taken.add(job.id)
        return Claim(
            live=[job for job in self._live() if self._held(job, lease)],
            unpublished=[job for job in unpublished if self._held(job, lease)],
            retranscribing=[job for job in again if self._held(job, lease)],
            taken=frozenset(taken),
        )

    async def release(self, owner: str) -> None:
        now = self._clock.utc_now()
        for job_id, hold in self._holds.items():
            if hold.owner == owner:
                self._holds[job_id] = _Hold("", now)

    def _live(self) -> list[Job]:
        live = [job for job in self._jobs.values() if job.live]
        return sorted(live, key=lambda job: job.created_at)

    def _unpublished(self) -> list[Job]:
        left = [job for job in self._jobs.values() if not job.live and job.unpublished]
        return sorted(left, key=lambda job: job.stopped_at or job.created_at)

    def _retranscribing(self) -> list[Job]:
        again = [job for job in self._jobs.values() if not job.live and job.retranscribing]
        return sorted(again, key=lambda job: job.stopped_at or job.created_at)

    def _hold(self, job_id: str, lease: Lease) -> None:
        until = self._clock.utc_now() + timedelta(seconds=lease.ttl_s)
        self._holds[job_id] = _Hold(lease.owner, until)

    def _held(self, job: Job, lease: Lease) -> bool:
        hold = self._holds.get(job.id)
        return hold is not None and hold.owner == lease.owner

    def _may_take(self, job: Job, hold: _Hold | None, lease: Lease) -> bool:
        free_for = self._clock.utc_now() - (hold.until if hold else job.created_at)
        held = hold is not None and hold.owner and free_for < timedelta(0)
        # An end that is too far away was written before the clock was set back.
        if held and -free_for <= timedelta(seconds=2 * lease.ttl_s):
            return False
        if job.host in lease.hosts:
            return True
        if job.retranscription is not None and job.retranscribing:  # nobody watched over it before
            free_for = min(free_for, self._clock.utc_now() - job.retranscription.requested_at)
        return free_for >= timedelta(seconds=HOST_LOST_AFTER_S)


class MemorySecretStore:
    """See `SecretStore`."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._secrets: dict[str, tuple[str, str, str, str]] = {}
        self._put_at_ms: dict[str, int] = {}
        self._variables: dict[str, Mapping[str, str]] = {}
        self._cipher = Cipher(secrets.token_urlsafe(32))

    async def put_secret(
        self,
        job_id: str,
        client_id: str,
        site_url: str,
        auth_token: str,
        *,
        registration: str = "",
    ) -> None:
        self._secrets.pop(job_id, None)
        self._secrets[job_id] = (client_id, registration, site_url, auth_token)
        self._put_at_ms[job_id] = epoch_ms(self._clock.utc_now())

    async def secret(self, job_id: str) -> str | None:
        found = self._secrets.get(job_id)
        return found and found[3]

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        for *owner, site, auth_token in reversed(self._secrets.values()):
            if (owner, site) == ([client_id, registration], site_url):
                return auth_token
        return None

    async def holders(
        self, *, least_age_s: float = 0.0, after: str = "", limit: int = 1000
    ) -> Sequence[TokenHolder]:
        until_ms = epoch_ms(self._clock.utc_now()) - round(least_age_s * 1000)
        kept = [
            TokenHolder(job_id, row[:3], self._put_at_ms[job_id])
            for job_id, row in sorted(self._secrets.items())
            if job_id > after and self._put_at_ms[job_id] <= until_ms
        ]
        return kept[:limit]

    async def forget_secret(self, job_id: str, *, held: TokenHolder | None = None) -> None:
        if held is None or held in await self.holders(limit=len(self._secrets)):
            self._secrets.pop(job_id, None)

    async def put_variables(self, job_id: str, variables: Mapping[str, str]) -> None:
        self._variables[job_id] = dict(variables)

    async def variables(self, job_id: str) -> Mapping[str, str]:
        return self._variables.get(job_id, {})

    def fingerprint(self, variables: Mapping[str, str]) -> str:
        return self._cipher.fingerprint(json.dumps(dict(variables), sort_keys=True))


class MemoryAnswerStore:
    """See `AnswerStore`."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._answers: dict[tuple[str, str], tuple[str, datetime]] = {}

    async def remember_answer(self, client_id: str, key: str, job_id: str) -> str:
        now = self._clock.utc_now()
        self._answers = {k: v for k, v in self._answers.items() if v[1] > now}
        return self._answers.setdefault((client_id, key), (job_id, now + ANSWERS_KEPT))[0]

    async def answer_of(self, client_id: str, key: str) -> str | None:
        job_id, until = self._answers.get((client_id, key), ("", self._clock.utc_now()))
        return job_id if until > self._clock.utc_now() else None

    async def forget_answer(self, client_id: str, key: str, job_id: str) -> None:
        if self._answers.get((client_id, key), ("",))[0] == job_id:
            del self._answers[client_id, key]
