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


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a job left."""

    name: str
    """Its path below the job's DATA_DIR, with `/` between the parts."""
    size_bytes: int


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

    def read_artifact(self, workload: Workload, name: str) -> AsyncIterator[bytes]:
        """A file that `artifacts` names, in chunks of at most 1 MiB.

        Raises:
            BackendError: with the first chunk: there is no such file. Links are never followed.
        """

    async def remove(self, workload: Workload) -> None:
        """Delete everything the workload left. Idempotent.

        Raises:
            BackendError: it still runs.
        """

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        """Run `salvage DIR` of the job's own program on what an ended workload left.

        `variables` (AUTH_TOKEN, SITE_URL) are all it gets beside the backend's own. The result is polled,
        stopped and read like any workload, lives within the first one and is removed with it; whether
        anything is still unpublished is told by polling the first one again.

        Raises:
            LaunchFailed: nothing was started.
        """

    async def lower(self, workload: Workload) -> None:
        """The workload's call is over: from now on it yields its CPU to those of live calls. Idempotent;
        does nothing where it cannot."""

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
