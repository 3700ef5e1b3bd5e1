"""The ports behind which the service keeps what must outlive it.

`JobStore` keeps jobs and says which replica watches over which, `SecretStore` the jobs' tokens (encrypted),
`AnswerStore` the answers to repeated requests. Clients and their sessions are behind `clientauth`'s ports.
All of them, opened together: `offloader.store.stores.open_stores`.

Every store passes `tests/contract/test_store_contract.py` unchanged. All methods raise `StoreError` when the
database cannot be used; the next call tries again. A cancelled write has happened or has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
DELETED_KEPT: Final = timedelta(days=365)
"""How long it is known of a deleted job that some of its files may come back."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who watches over jobs, and for how long without being heard of."""

    owner: str
    """This process, unlike any other."""
    ttl_s: float = LEASE_TTL_S
    host: str = ""
    """Where this process's workloads live (`Backend.place`); empty: every process can reach them."""
    directories: str = ""
    """The host whose job directories it can reach besides: of a former backend, perhaps."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Of the jobs that it can watch over."""
        return ("", self.host, self.directories)


def is_elsewhere(job: Job, lease: Lease | None) -> bool:
    """It ran on another host than ours."""
    return lease is not None and job.host not in lease.hosts


@dataclass(frozen=True, slots=True)
class Claim:
    """What a replica watches over until its lease ends."""

    live: Sequence[Job]
    """Its live jobs, oldest first."""
    unpublished: Sequence[Job]
    """Its finished jobs with a result of which no post surely exists, oldest first."""
    retranscribing: Sequence[Job] = ()
    """Its finished jobs whose kept audio waits to be, or is being, transcribed again, oldest first."""
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

    async def with_files(self) -> Sequence[Job]:
        """Finished jobs of which files may be left, oldest first."""

    async def to_delete(self) -> Sequence[Job]:
        """Jobs that somebody wants deleted, and of which not everything could be reached."""

    async def unpublished_bytes(self) -> int:
        """Size of all unpublished results, as far as it is known."""

    async def retranscribing(self) -> Sequence[Job]:
        """Finished jobs whose kept audio waits to be, or is being, transcribed again, oldest first."""

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
        """A page of jobs, newest first.

        `client_id`, `registration`: only theirs, and what is unmarked; None: everybody's. `since`: created
        then or later. `before`: `next` of an earlier page with the same filters; jobs that come or go in
        between move nothing else.

        Raises:
            InvalidCursor: `before` did not come from here.
        """

    async def delete(self, job_id: str, *, files_left: bool = False) -> None:
        """Forget the job, its variables and its token; the newest token of its client for the site is kept.
        `files_left`: some of it are where nobody gets at them now, so `was_deleted` remembers it for a year.
        Idempotent."""

    async def was_deleted(self, job_id: str) -> bool:
        """Whether it was deleted with files left somewhere."""

    async def claim(self, lease: Lease, *, take: bool = True) -> Claim:
        """Renew what `lease.owner` watches over, and (`take`) take over what nobody does any more.

        A job of another host is taken only when it has been nobody's for `HOST_LOST_AFTER_S`, and only while
        it is live or is to be transcribed again: whoever gets it can do nothing but declare that lost. Its
        files stay where they are, and what it has not published is never another host's.
        """

    async def release(self, owner: str) -> None:
        """`owner` watches over nothing any more: others may take over at once. Idempotent."""


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """Whose a kept token is."""

    job_id: str
    place: tuple[str, str, str]
    """Client, registration and site: for whom it is good."""
    put_at_ms: int
    """When it was put there, on the store's clock: tells it from one that takes its place."""


class SecretStore(Protocol):
    """Keeps the jobs' `auth_token`s and other secret variables, encrypted. What cannot be decrypted (another
    key) counts as absent."""

    async def put_secret(
        self,
        job_id: str,
        client_id: str,
        site_url: str,
        auth_token: str,
        *,
        registration: str = "",
    ) -> None:
        """Keep the token that came with a job; a second one for the same job replaces the first."""

    async def secret(self, job_id: str) -> str | None:
        """The job's token, or None."""

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        """The token that this registration of the client sent last for that site, with whatever job, or
        None."""

    async def holders(
        self, *, least_age_s: float = 0.0, after: str = "", limit: int = 1000
    ) -> Sequence[TokenHolder]:
        """Ended jobs with a token, and those whose token outlived them, by ID, those greater than
        `after`. Live ones may be among them. `least_age_s`: of the token, not of the job."""

    async def forget_secret(self, job_id: str, *, held: TokenHolder | None = None) -> None:
        """Forget the job's token. Idempotent. `held`: only if it is still that one, and still its."""

    async def put_variables(self, job_id: str, variables: Mapping[str, str]) -> None:
        """Keep what names the job's speech service, until the job is deleted; replaces what was kept."""

    async def variables(self, job_id: str) -> Mapping[str, str]:
        """What was kept for the job; empty when nothing was."""

    def fingerprint(self, variables: Mapping[str, str]) -> str:
        """64 hexadecimal digits that tell equal variables from others, and nobody without the key anything
        about them. Another key, other fingerprints."""


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
