"""A backend whose jobs are simulated: nothing runs, but they launch, write logs, stop and end as jobs do.

Nothing of it can be said of real jobs: what those cost their host is measured elsewhere (docs/scaling.md).
What the service does for them is the real thing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from offloader.backends.base import Artifact, LaunchRequest, Observation, Phase, Places, Rescued
from offloader.errors import BackendError, LaunchFailed
from offloader.models import JobType, Workload

NAME: Final = "simulated"
_STARTED: Final = b'{"event":"started","joined_after_s":0.4}\n'
_METRICS: Final = (
    b'{"event":"metrics","timestamp":"2026-01-01T09:00:00Z","cpu_s":12.5,"rss_bytes":150000000,'
    b'"written_bytes":9000000,"participants":8,"packets_lost":3,"frames":6000}\n'
)
_TALK: Final = b'{"event":"segment.written","timestamp":"2026-01-01T09:00:00Z","number":17}\n'
_LOG: Final = _STARTED + (_TALK * 8 + _METRICS) * 12
"""About the two minutes of a job's log that a look at its end finds: 9 KB."""


class SimulatedBackend:
    """See `Backend`. A job runs until it is stopped."""

    name = NAME
    ends_with_service = False

    def __init__(self, *, launch_s: float = 0.05, start_s: float = 0.5) -> None:
        """`launch_s`: what a launch takes; `start_s`: after which a job is seen running."""
        self._launch_s = launch_s
        self._start_s = start_s
        self._began_s: dict[str, float] = {}
        """Of the jobs launched here; others run since ever."""
        self._stopped: set[str] = set()

    async def prepare(self, runners: Sequence[str]) -> None:
        return None

    async def launch(self, request: LaunchRequest) -> Workload:
        await asyncio.sleep(self._launch_s)
        self._began_s[request.job_id] = time.monotonic()
        return self.workload(request.job_id)

    @staticmethod
    def workload(job_id: str) -> Workload:
        """Of any job; the size of its reference is that of a real one."""
        return Workload(
            NAME, {"job_id": job_id, "type": "recording", "image": "calls-recorder:v1.0.0"}
        )

    async def poll(self, workload: Workload) -> Observation:
        job_id = str(workload.reference["job_id"])
        if job_id in self._stopped:
            return Observation(Phase.EXITED, exit_code=0)
        age_s = time.monotonic() - self._began_s.get(job_id, -self._start_s)
        return Observation(Phase.STARTING if age_s < self._start_s else Phase.RUNNING)

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        self._stopped.add(str(workload.reference["job_id"]))

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        yield _LOG if tail_bytes is None else _LOG[-tail_bytes:]

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        yield _LOG

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        return []

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        raise BackendError(f"no file {name}")
        yield b""

    async def remove(self, workload: Workload) -> None:
        self._began_s.pop(str(workload.reference["job_id"]), None)

    async def erase(self, workload: Workload) -> None:
        return None

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        raise LaunchFailed("a simulated job leaves nothing")

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        raise LaunchFailed("a simulated job leaves nothing")

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        raise LaunchFailed("a simulated job leaves nothing")

    async def lower(self, workload: Workload) -> None:
        return None

    async def place(self) -> str:
        return ""

    async def places(self) -> Places | None:
        return None

    async def workers(self) -> Mapping[str, bool] | None:
        return None

    async def check_usable(self) -> None:
        return None

    async def free_disk_bytes(self) -> int | None:
        return None

    async def adopt(self) -> Mapping[str, Workload]:
        return {job_id: self.workload(job_id) for job_id in self._began_s}

    async def aclose(self) -> None:
        return None
