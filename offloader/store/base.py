"""The ports behind which the service keeps what must outlive it.

`JobStore` keeps jobs and says which replica watches over which, `SecretStore` the jobs' tokens (encrypted),
`AnswerStore` the answers to repeated requests. Clients and their sessions are behind `clientauth`'s ports.
All of them, opened together: `offloader.store.stores.open_stores`.

Every store passes `tests/contract/test_store_contract.py` unchanged. All methods raise `StoreError` when the
database cannot be used; the next call tries again. A cancelled write has happened or has not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from offloader.models import Job, JobState, JobType

LEASE_TTL_S: Final = 12.0
"""A replica that is gone for so long loses its jobs: with one look per second, the survivors have taken over
within 15 s."""
HOST_LOST_AFTER_S: Final = 60.0
"""How long after the end of its lease a job that is bound to its host waits for the service of that host to
come back (a restart, an upgrade) before another replica may declare it lost."""
ANSWERS_KEPT: Final = timedelta(hours=24)
"""How long a repeated request gets the first answer."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who watches over jobs, and for how long without being heard of."""

    owner: str
    """This process, unlike any other."""
    ttl_s: float = LEASE_TTL_S
    host: str = ""
    """Where this process's workloads live, when only processes of that host can reach them."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a replica watches over until its lease ends."""

    live: Sequence[Job]
    """Its live jobs, oldest first."""
    unpublished: Sequence[Job]
    """Its finished jobs with a result of which no post surely exists, oldest first."""
    taken: frozenset[str] = frozenset()
    """IDs of those that were nobody's or another replica's just before."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a listing."""

    jobs: Sequence[Job]
    """Newest first."""
    next: str | None
    """Cursor of the next, older page; None: there is none."""


class JobStore(Protocol):
    """Keeps jobs. Each method is atomic, also against other processes on the same database."""

    async def reserve(
        self,
        job: Job,
        *,
        admits: Callable[[Sequence[Job], Job], bool],
        lease: Lease | None = None,
    ) -> None:
        """Add `job` if `admits(live jobs, job)` says so; nobody is admitted in between.

        `lease`: who watches over it from now on, and on which host; None: nobody in particular.

        Raises:
            CapacityReached: it said no.
        """

    async def get(self, job_id: str) -> Job | None:
        """The job, or None."""

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Store `change(present job)` and return it; what `change` raises leaves the job as it was.

        Raises:
            JobNotFound: no such job.
        """

    async def live(self) -> Sequence[Job]:
        """Every job that has not finished, oldest first."""

    async def finished_before(self, moment: datetime) -> Sequence[Job]:
        """Finished jobs that stopped before `moment`, oldest first."""

    async def unpublished(self) -> Sequence[Job]:
        """Finished jobs that left a result of which no post surely exists, oldest first."""

    async def list_jobs(
        self,
        *,
        client_id: str | None = None,
        job_type: JobType | None = None,
        state: JobState | None = None,
        since: datetime | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """A page of jobs, newest first.

        `client_id`: only its own; None: everybody's. `since`: created then or later. `before`: `next` of an
        earlier page with the same filters; jobs that come or go in between move nothing else.

        Raises:
            InvalidCursor: `before` did not come from here.
        """

    async def delete(self, job_id: str) -> None:
        """Forget the job and its token; the newest token of its client for the site is kept. Idempotent."""

    async def claim(self, lease: Lease, *, take: bool = True) -> Claim:
        """Renew what `lease.owner` watches over, and (`take`) take over what nobody does any more.

        A job of another host is taken only when it has been nobody's for `HOST_LOST_AFTER_S`, and only while
        it is live: whoever gets it can do nothing but declare it lost. Its files stay where they are.
        """

    async def release(self, owner: str) -> None:
        """`owner` watches over nothing any more: others may take over at once. Idempotent."""


class SecretStore(Protocol):
    """Keeps the jobs' `auth_token`s, encrypted. What cannot be decrypted (another key) counts as absent."""

    async def put_secret(self, job_id: str, client_id: str, site_url: str, auth_token: str) -> None:
        """Keep the token that came with a job; a second one for the same job replaces the first."""

    async def secret(self, job_id: str) -> str | None:
        """The job's token, or None."""

    async def newest_secret(self, client_id: str, site_url: str) -> str | None:
        """The token that the client sent last for that site, with whatever job, or None."""

    async def forget_secret(self, job_id: str) -> None:
        """Forget the job's token. Idempotent."""


class AnswerStore(Protocol):
    """Which job answered which `Idempotency-Key` of which client, for `ANSWERS_KEPT`."""

    async def remember_answer(self, client_id: str, key: str, job_id: str) -> str:
        """Bind `key` to `job_id` unless it is bound already; returns the job that it is bound to.

        Of several concurrent calls exactly one gets its own `job_id` back: bind first, then create the job.
        """

    async def answer_of(self, client_id: str, key: str) -> str | None:
        """The job that the key is bound to, or None."""

    async def forget_answer(self, client_id: str, key: str, job_id: str) -> None:
        """Unbind the key if it is bound to `job_id`: the job did not come to be. Idempotent."""
