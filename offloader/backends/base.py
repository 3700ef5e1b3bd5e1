"""The port behind which jobs run: launch, poll, stop, logs, remove, adopt.

A backend keeps nothing that a restart may lose: everything it needs to find a workload again is in the
`Workload`, which the service stores, or can be found on the backend itself (`adopt`). Every backend
passes `tests/contract/test_backend_contract.py` unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from offloader.models import JobType, Workload


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What a backend is told about a job."""

    job_id: str
    job_type: JobType
    runner: str
    """Image name as the client wrote it; a backend without images goes by `job_type`."""
    input_data: Mapping[str, Any] = field(repr=False)
    """With its secrets; they must reach the job and nothing else."""
    max_duration_s: int = 0
    """After which the service will stop it; the job is told, so that it ends also when no service runs.
    0: it has none."""
    added: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that the job gets from us, over what the client says."""


class Phase(Enum):
    """What a backend can see of a workload."""

    STARTING = "starting"
    """Launched; the job's own process is not there yet."""
    RUNNING = "running"
    EXITED = "exited"
    """Ended, and how is known."""
    LOST = "lost"
    """Gone without a trace of how it ended."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a workload."""

    phase: Phase
    exit_code: int | None = None
    """With EXITED: the job's exit code, 128 + n after signal n; None when it never ran."""
    stopped_at: datetime | None = None
    """With EXITED: when."""
    detail: str = ""
    """A sentence for the admin, where there is something to say."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """With EXITED, where known: `total_cpu_s`, `max_rss_bytes` of the job and its own children."""
    unpublished: bool = False
    """With EXITED and LOST: it left a result of which no post surely exists (docs/job-contract.md 4)."""
    stale: bool = False
    """It is what an earlier look saw: where the workload is, nobody answers just now."""
    former: bool = False
    """With LOST: another backend made it, which is not configured any more; nothing here can look at it."""


@dataclass(frozen=True, slots=True)
class Places:
    """What the hosts that are there now have room for."""

    calls: int
    """At the same time, each with a recording and a transcription."""
    hosts: int
    """`jobs.post_call_slots` is for each of them."""
    least_disk_bytes: int | None = None
    """Free on that host which has least; None: unknown."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a job left."""

    name: str
    """Its path below the job's DATA_DIR, with `/` between the parts."""
    size_bytes: int
    version: str = ""
    """Visible ASCII, another one whenever the content may be another; empty: nothing can tell."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job that is finished from the copy of its files."""

    workload: Workload
    """Of the job from now on: here its files will be, and their salvage and removal."""
    attempt: Workload
    """What makes them again and publishes them."""


class Backend(Protocol):
    """Runs jobs. Every method may be called from any process that holds the reference, at any time.

    Cancelling a method leaves the workload as it is or as asked, never half-way unknown: a later `poll`
    or `adopt` tells. All raise `BackendError` when the backend itself cannot be used.
    """

    name: str
    """As in `jobs.api_type` and `Workload.backend`."""
    ends_with_service: bool
    """On a polite shutdown the service stops these workloads and waits; others are left for adoption."""

    async def prepare(self, runners: Sequence[str]) -> None:
        """Make the named images present, within two minutes. Idempotent."""

    async def launch(self, request: LaunchRequest) -> Workload:
        """Start a job; return as soon as it is on its way, not when it is up.

        Raises:
            LaunchFailed: nothing was started and nothing is left behind.
        """

    async def poll(self, workload: Workload) -> Observation:
        """Look at a workload. Before its start is seen: STARTING. Of one that is removed: LOST."""

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        """Ask it to end, and see that it is killed after `grace_s`, also when this service dies meanwhile.

        Returns at once. Repeating it changes nothing, but a clearly shorter grace asks again and moves
        the kill forward. Of an ended workload: does nothing.
        """

    def logs(self, workload: Workload, *, tail_bytes: int | None = None) -> AsyncIterator[bytes]:
        """What the job wrote so far, oldest first; only about the last `tail_bytes` when given."""

    def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        """The log from its beginning and on as it is written; ends when the workload has ended and everything
        was given out. Where the backend dropped a part meanwhile, a line of its own says so.

        `following.follow_by_reading` does it for a backend that has nothing better.
        """

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        """The plain files below the workload's DATA_DIR, by name. None once it is removed."""

    def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        """A file that `artifacts` names from byte `start` on, in chunks of at most 1 MiB.

        Raises:
            BackendError: with the first chunk: there is no such file. Links are never followed.
        """

    async def remove(self, workload: Workload) -> None:
        """Delete everything the workload left. Idempotent.

        Raises:
            BackendError: it still runs.
            FilesOutOfReach: its files are where nobody gets at them; everything else is removed.
        """

    async def erase(self, workload: Workload) -> None:
        """Delete the files below the workload's DATA_DIR, when it has ended. Its log stays where the backend
        keeps that elsewhere; so does everything where it left no files. Idempotent.

        Raises:
            BackendError: it still runs, or its files are out of reach.
        """

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        """Run `salvage DIR` of the job's own program on what an ended workload left.

        `variables` (AUTH_TOKEN, SITE_URL) are all it gets beside the backend's own. The result is polled,
        stopped and read like any workload, lives within the first one and is removed with it; whether
        anything is still unpublished is told by polling the first one again.

        Raises:
            FilesGone: nothing of it is left, or it is out of reach for good; `rescue` may help.
            LaunchFailed: nothing was started.
            WorkloadBusy: another salvage or retranscription of it runs still.
        """

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        """Run `rescue RESULT` of the job's own program, wherever this backend runs workloads: `workload`, of
        which the files are gone, may be of another host that nobody can reach.

        `result`: the ID by which the copy is found (docs/copies.md). `variables` as for `salvage`; like that,
        it lives within the job's workload. Where a backend keeps no files, those that it makes are gone with
        it; then there is the copy still.

        Raises:
            LaunchFailed: nothing was started; says so where this backend cannot do it.
            WorkloadBusy: an earlier attempt runs still.
        """

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        """Run `retranscribe` of the job's own program on what an ended workload kept.

        `variables` say all it needs to know (docs/job-contract.md 4) beside the backend's own. The result is
        polled, stopped and read like any workload, runs at the priority of work after calls, lives within the
        first one and is removed with it.

        Raises:
            LaunchFailed: nothing was started; says so where this backend cannot do it at all.
            WorkloadBusy: another salvage or retranscription of it runs still.
        """

    async def lower(self, workload: Workload) -> None:
        """The workload's call is over: from now on it yields its CPU to those of live calls. Idempotent;
        does nothing where it cannot."""

    async def place(self) -> str:
        """Where the workloads live: only a service that names the same place can watch them, and another
        can do nothing but call them lost. Empty: every service can."""

    async def places(self) -> Places | None:
        """Room on the hosts that this backend knows of; None: it knows of none, the settings alone count."""

    async def workers(self) -> Mapping[str, bool] | None:
        """By name, whether each host that was heard of within a day can be reached now; not those that ended
        as they were told to. None: it knows of no hosts."""

    async def check_usable(self) -> None:
        """Whether a job could be launched now, as far as that can be told within a second or two.

        Raises:
            BackendError: it could not; the text says why.
        """

    async def free_disk_bytes(self) -> int | None:
        """Room for new files where workloads of this backend keep theirs; None: unknown."""

    async def adopt(self) -> Mapping[str, Workload]:
        """Every workload this backend finds, by job ID, ended ones included.

        For a service that starts again: a job whose launch was not stored, and leftovers of no job.
        """

    async def aclose(self) -> None:
        """Let go of connections; workloads run on. Idempotent."""
