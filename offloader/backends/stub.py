"""A backend for tests: keeps its own books instead of running anything."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from offloader.backends.base import (
    Artifact,
    LaunchRequest,
    Observation,
    Phase,
    Places,
    Rescued,
)
from offloader.errors import BackendError, FilesGone, FilesOutOfReach, LaunchFailed
from offloader.models import JobType, Workload


@dataclass
class StubBackend:
    """See `Backend`. Nothing runs: tests say what is observed, and read what was asked."""

    name: str = "stub"
    ends_with_service: bool = True
    launched: dict[str, LaunchRequest] = field(default_factory=dict)
    observations: dict[str, Observation] = field(default_factory=dict)
    stopped: list[tuple[str, float]] = field(default_factory=list)
    """Job and grace of each wish that changed anything."""
    removed: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    unreachable: str = ""
    """Why nothing can be removed now."""
    left_behind: str = ""
    """Why files of what is removed stay somewhere."""
    prepared: list[Sequence[str]] = field(default_factory=list)
    log: bytes = b""
    refuse: str = ""
    """Why the next launches fail."""
    strangers: tuple[str, ...] = ()
    """Jobs that `adopt` finds besides those launched here."""
    salvaged: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """Job and variables of each salvage; its observation is under `<job>/salvage-<number>`."""
    retranscribed: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """Job and variables of each; its observation is under `<job>/again-<number>`."""
    gone: set[str] = field(default_factory=set)
    """Jobs whose files are."""
    rescued: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    """Job, result and variables of each rescue; its observation is under `<job>/rescue-<number>`."""
    lowered: list[str] = field(default_factory=list)
    free_disk: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    """What every job has left."""
    lives_at: str = ""
    room: Places | None = None
    hosts: Mapping[str, bool] | None = None
    unusable: str = ""
    """Why no job could be launched now."""

    async def prepare(self, runners: Sequence[str]) -> None:
        self.prepared.append(runners)

    async def launch(self, request: LaunchRequest) -> Workload:
        if self.refuse:
            raise LaunchFailed(self.refuse)
        self.launched[request.job_id] = request
        self.observations[request.job_id] = Observation(Phase.RUNNING)
        return Workload(self.name, {"id": request.job_id})

    async def poll(self, workload: Workload) -> Observation:
        return self.observations[str(workload.reference["id"])]

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        job_id = str(workload.reference["id"])
        if all(grace_s < earlier for known, earlier in self.stopped if known == job_id):
            self.stopped.append((job_id, grace_s))

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        yield self.log

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        given = 0
        while True:
            running = (await self.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING)
            if given < len(self.log):
                new, given = self.log[given:], len(self.log)
                yield new
            if not running:
                return
            await asyncio.sleep(0.01)

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        return [
            Artifact(name, len(content), f"{zlib.crc32(content):x}")
            for name, content in sorted(self.files.items())
        ]

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        if name not in self.files:
            raise BackendError(f"no file {name}")
        yield self.files[name][start:]

    async def remove(self, workload: Workload) -> None:
        job_id = str(workload.reference["id"])
        if self.observations[job_id].phase is Phase.RUNNING:
            raise BackendError("it still runs")
        if self.unreachable:
            raise BackendError(self.unreachable)
        self.removed.append(job_id)
        if self.left_behind:
            raise FilesOutOfReach(self.left_behind)

    async def erase(self, workload: Workload) -> None:
        if self.unreachable:
            raise BackendError(self.unreachable)
        self.erased.append(str(workload.reference["id"]))

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        if self.refuse:
            raise LaunchFailed(self.refuse)
        job_id = str(workload.reference["id"])
        if job_id in self.gone:
            raise FilesGone(f"{job_id}: nothing is left")
        self.salvaged.append((job_id, variables))
        salvage_id = f"{job_id}/salvage-{len(self.salvaged)}"
        self.observations[salvage_id] = Observation(Phase.RUNNING)
        return Workload(self.name, {"id": salvage_id})

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        if self.refuse:
            raise LaunchFailed(self.refuse)
        job_id = str(workload.reference["id"])
        self.rescued.append((job_id, result, variables))
        rescue_id = f"{job_id}/rescue-{len(self.rescued)}"
        self.observations[rescue_id] = Observation(Phase.RUNNING)
        return Rescued(workload, Workload(self.name, {"id": rescue_id}))

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        if self.refuse:
            raise LaunchFailed(self.refuse)
        job_id = str(workload.reference["id"])
        self.retranscribed.append((job_id, variables))
        again_id = f"{job_id}/again-{len(self.retranscribed)}"
        self.observations[again_id] = Observation(Phase.RUNNING)
        return Workload(self.name, {"id": again_id})

    async def lower(self, workload: Workload) -> None:
        self.lowered.append(str(workload.reference["id"]))

    async def place(self) -> str:
        return self.lives_at

    async def places(self) -> Places | None:
        return self.room

    async def workers(self) -> Mapping[str, bool] | None:
        return self.hosts

    async def check_usable(self) -> None:
        if self.unusable:
            raise BackendError(self.unusable)

    async def free_disk_bytes(self) -> int | None:
        return self.free_disk

    async def adopt(self) -> Mapping[str, Workload]:
        for job_id in self.strangers:
            self.observations.setdefault(job_id, Observation(Phase.RUNNING))
        ids = (*self.launched, *self.strangers)
        return {job_id: Workload(self.name, {"id": job_id}) for job_id in ids}

    async def aclose(self) -> None:
        return None

    def exit(self, job_id: str, code: int | None = 0, **facts: Any) -> None:
        self.observations[job_id] = Observation(Phase.EXITED, exit_code=code, **facts)
