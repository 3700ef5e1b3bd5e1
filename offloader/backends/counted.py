"""A backend whose failures are counted; everything else is the backend behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

from offloader.backends.base import Artifact, Backend, LaunchRequest, Observation, Places, Rescued
from offloader.errors import BackendError
from offloader.models import JobType, Workload

_OPERATIONS = (
    *("prepare", "launch", "poll", "stop", "logs", "follow", "artifacts", "read_artifact"),
    *(
        "remove",
        "erase",
        "salvage",
        "rescue",
        "retranscribe",
        "lower",
        "place",
        "places",
        "workers",
        "check_usable",
        "free_disk_bytes",
    ),
    "adopt",
)
"""They are told from the start, as 0: a rise from nothing is none to who watches."""


class CountedBackend:
    """See `Backend`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.failures: Counter[str] = Counter(dict.fromkeys(_OPERATIONS, 0))
        """How often each operation raised BackendError."""
        self.name = backend.name
        self.ends_with_service = backend.ends_with_service

    async def prepare(self, runners: Sequence[str]) -> None:
        with self._counting("prepare"):
            await self._backend.prepare(runners)

    async def launch(self, request: LaunchRequest) -> Workload:
        with self._counting("launch"):
            return await self._backend.launch(request)

    async def poll(self, workload: Workload) -> Observation:
        with self._counting("poll"):
            return await self._backend.poll(workload)

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        with self._counting("stop"):
            await self._backend.stop(workload, grace_s=grace_s)

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        with self._counting("logs"):
            async for chunk in self._backend.logs(workload, tail_bytes=tail_bytes):
                yield chunk

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        with self._counting("follow"):
            async for chunk in self._backend.follow(workload):
                yield chunk

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        with self._counting("artifacts"):
            return await self._backend.artifacts(workload)

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        with self._counting("read_artifact"):
            async for chunk in self._backend.read_artifact(workload, name, start=start):
                yield chunk

    async def remove(self, workload: Workload) -> None:
        with self._counting("remove"):
            await self._backend.remove(workload)

    async def erase(self, workload: Workload) -> None:
        with self._counting("erase"):
            await self._backend.erase(workload)

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        with self._counting("salvage"):
            return await self._backend.salvage(workload, job_type=job_type, variables=variables)

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        with self._counting("rescue"):
            return await self._backend.rescue(
                workload, job_type=job_type, result=result, variables=variables
            )

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        with self._counting("retranscribe"):
            return await self._backend.retranscribe(
                workload, job_type=job_type, variables=variables
            )

    async def lower(self, workload: Workload) -> None:
        with self._counting("lower"):
            await self._backend.lower(workload)

    async def place(self) -> str:
        with self._counting("place"):
            return await self._backend.place()

    async def places(self) -> Places | None:
        with self._counting("places"):
            return await self._backend.places()

    async def workers(self) -> Mapping[str, bool] | None:
        with self._counting("workers"):
            return await self._backend.workers()

    async def check_usable(self) -> None:
        with self._counting("check_usable"):
            await self._backend.check_usable()

    async def free_disk_bytes(self) -> int | None:
        with self._counting("free_disk_bytes"):
            return await self._backend.free_disk_bytes()

    async def adopt(self) -> Mapping[str, Workload]:
        with self._counting("adopt"):
            return await self._backend.adopt()

    async def aclose(self) -> None:
        await self._backend.aclose()

    @contextmanager
    def _counting(self, operation: str) -> Iterator[None]:
        try:
            yield
        except BackendError:
            self.failures[operation] += 1
            raise
