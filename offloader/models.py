"""The words of the job service: what a job is, which states it passes, why it ended.

Frozen values without any knowledge of HTTP, SQL or containers. Times are aware UTC datetimes; the wire
turns them into epoch milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from offloader.errors import IllegalTransition

JOB_ID: Final = re.compile(r"[a-z0-9-]{12,63}")
"""A job's ID: ours, or one of the reference's kubernetes mode. Good as a part of a path."""
UNMARKED: Final = ""
"""In place of a registration's mark: of the admin, or of a client when an earlier release took it. That one
may run beside this one during an upgrade, or come back; so it is the present registration's of that name."""


class JobType(StrEnum):
    """The wire's names (job-service.md 1)."""

    RECORDING = "recording"
    TRANSCRIBING = "transcribing"


class JobState(StrEnum):
    """Where a job is; moves only along `TRANSITIONS`."""

    PENDING = "pending"
    """Admitted: it holds its place while the backend launches it."""
    STARTING = "starting"
    """Launched; its own process has not been seen running."""
    RUNNING = "running"
    """The backend saw the job's own process run."""
    STOPPING = "stopping"
    """It was asked to end and may still upload."""
    FINISHED = "finished"
    """Nothing of it runs any more; `stop_reason` says why."""


class StopReason(StrEnum):
    """Why a job ended. Decided once, when it is told to stop or is found ended."""

    COMPLETED = "completed"
    """It ended by itself with exit code 0."""
    REQUESTED = "requested"
    """Somebody, or the service's own shutdown, asked for it."""
    MAX_DURATION = "max_duration"
    """`max_duration_sec` had passed."""
    CRASHED = "crashed"
    """It ended by itself with another exit code or a signal."""
    START_FAILED = "start_failed"
    """It never ran."""
    LOST = "lost"
    """It is gone, and nothing tells how it ended."""


TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        JobState.PENDING: frozenset({JobState.STARTING, JobState.FINISHED}),
        JobState.STARTING: frozenset({JobState.RUNNING, JobState.STOPPING, JobState.FINISHED}),
        JobState.RUNNING: frozenset({JobState.STOPPING, JobState.FINISHED}),
        JobState.STOPPING: frozenset({JobState.FINISHED}),
        JobState.FINISHED: frozenset(),
    }
)
"""The only moves there are. States go forward, never back."""

LIVE_STATES: Final = frozenset(JobState) - {JobState.FINISHED}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the client asked for, validated."""

    type: JobType
    runner: str
    max_duration_s: int
    input_data: Mapping[str, Any]
    """Secret values are `***`: the real ones travel beside it (`secrets.py`) and are never stored."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A plain, saved reference to what a backend started; any later process can poll it."""

    backend: str
    reference: Mapping[str, str | int]
    """The backend's own business; JSON values only."""


@dataclass(frozen=True, slots=True)
class CallKey:
    """What makes a recording and its transcription one unit of admission."""

    client_id: str
    call_id: str
    post_id: str


class Publication(StrEnum):
    """What became of a result that its job could not publish."""

    WAITING = "waiting"
    """Its next attempt has a time."""
    RUNNING = "running"
    """An attempt is under way."""
    PUBLISHED = "published"
    UNPUBLISHABLE = "unpublishable"
    """Not tried any more: refused for good, too old, or perhaps posted already. The files are kept as long as
    those of a failed job."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """How far the retries of an unpublished result are."""

    publication: Publication = Publication.WAITING
    attempts: int = 0
    next_at: datetime | None = None
    """With WAITING: not before."""
    workload: Workload | None = None
    """The newest attempt; kept for its log."""
    detail: str = ""
    """One sentence for the admin about the last attempt."""
    copied: bool = False
    """Its files are gone with their host; a copy of them was there, and attempts begin with it."""
    vouched: bool = False
    """Nobody could tell who else publishes it; this service knows of nobody, and lets it go on."""


class RetranscriptionState(StrEnum):
    """How far a transcript that is made again is."""

    WAITING = "waiting"
    """For room among the work after calls."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Retranscription:
    """The newest wish to transcribe a job's kept audio again, and what became of it."""

    name: str
    """Of the folder with its results, below `artifacts/` in the job's own; equal wishes have equal names."""
    options: Mapping[str, str]
    """Variables that differ from the job's own; no secret among them."""
    publish: bool
    requested_at: datetime
    state: RetranscriptionState = RetranscriptionState.WAITING
    ended_at: datetime | None = None
    workload: Workload | None = None
    exit_code: int | None = None
    detail: str = ""
    """One sentence for whoever asked for it."""
    stop: bool = False
    """Somebody wants it to end now."""

    @property
    def under_way(self) -> bool:
        return self.state in (RetranscriptionState.WAITING, RetranscriptionState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """One job and everything known about it."""

    id: str
    """12 hexadecimal digits."""
    client_id: str
    """Its owner; empty for jobs of the admin."""
    spec: JobSpec
    created_at: datetime
    state: JobState = JobState.PENDING
    stop_reason: StopReason | None = None
    stopped_at: datetime | None = None
    exit_code: int | None = None
    """Of the job's process; a signal n counts as 128 + n. None: unknown or not ended."""
    detail: str = ""
    """One sentence for the admin about an end that was not clean."""
    workload: Workload | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    """The last metrics the job reported, kept when it finishes."""
    output_data: Mapping[str, Any] = field(default_factory=dict)
    unpublished: bool = False
    """It ended and left a result of which no post surely exists: its directory is the outbox."""
    post_call: bool = False
    """Its call is over: what it still does (transcribe, upload) has given up the call's place."""
    outbox: OutboxEntry | None = None
    """The retries, once it is unpublished."""
    host: str = ""
    """Where its workload and files are, when only services of that host, or of that Docker Engine, can reach
    them."""
    retranscription: Retranscription | None = None
    """The newest transcript from its kept audio."""
    registration: str = UNMARKED
    """Mark of the owner's registration (`clientauth`): whoever registers the same name with another key does
    not get the job."""
    wish_hash: str = ""
    """Keyed hash of what its client sent, secrets included; empty where nobody asked for one."""
    hold: str = ""
    """Why nothing of it may be removed, neither by a sweep nor by a wish; empty: it may."""
    published_at: datetime | None = None
    """Since when nothing of its result is left to be published; None: something is, or nobody took note."""
    erased_at: datetime | None = None
    """When it was decided to remove its files here; its record and log may stay longer."""
    deletion_at: datetime | None = None
    """When somebody wanted it deleted, while not everything of it could be reached."""
    left_bytes: int | None = None
    """Size of the files that it left; 0: they are removed. None: not looked at yet."""

    @property
    def live(self) -> bool:
        """It holds a place, and something of it may run."""
        return self.state is not JobState.FINISHED

    @property
    def retranscribing(self) -> bool:
        """A transcript from its kept audio waits or is being made: its files are needed."""
        return self.retranscription is not None and self.retranscription.under_way

    @property
    def retranscribing_now(self) -> bool:
        """Its kept audio is being transcribed again just now."""
        wish = self.retranscription
        return wish is not None and wish.state is RetranscriptionState.RUNNING

    @property
    def deadline_at(self) -> datetime:
        """When it is told to stop."""
        return self.created_at + timedelta(seconds=self.spec.max_duration_s)

    @property
    def call_key(self) -> CallKey:
        """Jobs of equal keys serve the same call; without call and post ID a job is a call of its own."""
        call_id = str(self.spec.input_data.get("call_id") or "")
        post_id = str(self.spec.input_data.get("post_id") or "")
        if not (call_id and post_id):
            return CallKey(self.client_id, "", self.id)
        return CallKey(self.client_id, call_id, post_id)

    def moved_to(self, state: JobState, **changes: Any) -> Job:
        """This job in `state`, with other fields changed.

        Raises:
            IllegalTransition: `TRANSITIONS` has no such move.
        """
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"job {self.id} cannot go from {self.state} to {state}")
        return replace(self, state=state, **changes)
