"""Jobs as batch/v1 Jobs of a cluster.

Scheduling, deadlines and kills are Kubernetes' work. Nothing about a job is kept here alone: its Job, its
pod, its folder, found by label or name, tell everything, so any process of the service can watch, stop and
remove it. What a pod takes with it is saved before: its log in the job's folder, its end in an annotation of
the Job.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger
from offloader.backends.base import Artifact, LaunchRequest, Observation, Phase, Rescued
from offloader.backends.environment import deadline_variables, job_environment
from offloader.backends.kubernetes.api import JOBS, KubernetesApi
from offloader.backends.kubernetes.files import JobFolders, in_threads
from offloader.backends.kubernetes.job_logs import JobLogs
from offloader.backends.kubernetes.launching import Launcher, delete_job
from offloader.backends.kubernetes.log_keeper import LogKeeper
from offloader.backends.kubernetes.manifest import DATA_DIR
from offloader.backends.kubernetes.observation import parse_time, told_to_stop
from offloader.backends.kubernetes.options import (
    BACKEND,
    STOPPED,
    KubernetesOptions,
    Reference,
)
from offloader.backends.kubernetes.prepull import prepull
from offloader.backends.kubernetes.view import ClusterView
from offloader.backends.process_output import list_artifacts, read_artifact
from offloader.errors import BackendError, FilesGone, LaunchFailed, WorkloadBusy
from offloader.models import JobType, Workload
from offloader.settings import JobsSettings

_CLEARLY_SOONER_S: Final = 1.0
_USABLE_LIMIT_S: Final = 2.0

log = get_logger()


class KubernetesBackend:
    """See `Backend`."""

    name = BACKEND
    ends_with_service = False

    def __init__(
        self,
        options: KubernetesOptions,
        *,
        environ: Mapping[str, str],
        clock: Clock | None = None,
    ) -> None:
        self._options = options
        settings = options.kubernetes
        self._api = KubernetesApi(
            kubeconfig=settings.kubeconfig, namespace=settings.namespace, environ=environ
        )
        self._folders = JobFolders(options)
        self._view = ClusterView(self._api, options, clock or SystemClock())
        self._keeper = LogKeeper(self._api, max_bytes=settings.log_max_bytes, pod_of=self._view.pod)
        self._logs = JobLogs(keeper=self._keeper, folders=self._folders, view=self._view)
        self._launcher = Launcher(self._api, options, folders=self._folders, view=self._view)

    def retune(self, jobs: JobsSettings) -> None:
        """From now on, jobs are launched by these."""
        self._options.surroundings.network = jobs.network
        self._options.images.patterns = jobs.runner_images

    def trust(self, ca: bytes) -> None:
        """The content of jobs.ca_cert_file, from now on."""
        self._options.surroundings.good_ca = ca

    async def prepare(self, runners: Sequence[str]) -> None:
        """As many nodes as the admin wants pull now, the others when a pod comes, as under the reference."""
        await prepull(self._api, self._options, runners)

    async def launch(self, request: LaunchRequest) -> Workload:
        environment = job_environment(request.input_data)
        if environment.dropped:
            fields = environment.dropped_fields
            log.warning("job.variables_dropped", job_id=request.job_id, **fields)
        image = self._options.images.image(request.runner, request.job_type)
        file = self._options.gives_file(image)
        reference = Reference(request.job_id, request.job_type, image, file=file)
        deadline = deadline_variables(
            max_duration_s=request.max_duration_s, stop_grace_s=self._options.stop_grace_s
        )
        variables = {**environment.variables, **request.added, **deadline}
        await self._launcher.launch(reference, variables, max_duration_s=request.max_duration_s)
        return reference.workload()

    async def poll(self, workload: Workload) -> Observation:
        reference = Reference.of(workload)
        await self._view.watched()
        job = await self._view.job(reference.name)
        if job is None:
            left = await self._folders.left(reference)
            return Observation(Phase.LOST, detail="its Job is gone", unpublished=left)
        await self._view.make_sure(job)
        self._logs.keep(reference)
        seen = self._view.seen(job)
        if seen.phase not in (Phase.EXITED, Phase.LOST):
            return seen
        try:
            await self._view.write_down(job, seen)
        except BackendError as error:
            if seen.exit_code is None:
                raise  # it may begin still, as long as nothing forbids it
            log.warning("job.end_not_written_down", job=reference.name, error=str(error))
        if self._keeper.is_busy(reference.name):
            # Its log is read when it has ended: the rest of it is on its way, and nobody waits for that here.
            return Observation(Phase.RUNNING)
        return dataclasses.replace(seen, unpublished=await self._folders.left(reference))

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        reference = Reference.of(workload)
        await self._view.watched()
        job = await self._view.job(reference.name)
        if job is None or self._view.has_ended(job):
            return
        self._logs.keep(reference)
        pod = self._view.pod(reference.name)
        if not told_to_stop(job):
            marks: dict[str, Any] = {
                "metadata": {"annotations": {STOPPED: self._view.now().isoformat()}}
            }
            if pod is None:
                # Whether a pod is on its way is known to the cluster alone: it shall not have one.
                marks["spec"] = {"suspend": True}
            await self._view.change(reference.name, marks)
            pod = self._view.pod(reference.name)
        if pod is None:
            return
        grace = max(math.ceil(grace_s), 1)  # 0 would forget the pod without waiting for its end
        due_at = parse_time(pod["metadata"].get("deletionTimestamp"))
        if due_at is not None:
            left_s = (due_at - self._view.now()).total_seconds()
            if left_s <= grace + _CLEARLY_SOONER_S:
                return
        await self._view.end_pod(pod, grace_s=grace)

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        async for chunk in self._logs.read(Reference.of(workload), tail_bytes=tail_bytes):
            yield chunk

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        async def is_running() -> bool:
            return (await self.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING)

        reference = Reference.of(workload)
        async for chunk in self._logs.follow(reference, is_running=is_running):
            yield chunk

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        return await asyncio.to_thread(list_artifacts, self._folders.data(Reference.of(workload)))

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        data = self._folders.data(Reference.of(workload))
        async for chunk in in_threads(read_artifact(data, name, start=start)):
            yield chunk

    async def remove(self, workload: Workload) -> None:
        reference = Reference.of(workload)
        await self._view.watched()
        names = [reference.name]
        if not reference.salvage:
            names += [attempt.name for attempt in await self._attempts(reference)]
        found = [job for name in names if (job := await self._view.job(name)) is not None]
        for job in found:
            if not self._view.has_ended(job):
                raise BackendError(f"{job['metadata']['name']}: the job still runs")
        for job in found:
            await delete_job(self._api, job)
        for name in names:
            await self._keeper.forget(name)
            self._view.forget(name)
            await self._folders.remove(name)
        if not reference.salvage:
            self._folders.check_reached(reference)

    async def erase(self, workload: Workload) -> None:
        """Where they are on its pod's emptyDir, they go with the pod; its log is kept here."""
        reference = Reference.of(workload)
        await self._view.watched()
        found = []
        for each in (reference, *await self._attempts(reference)):
            if (job := await self._view.job(each.name)) is not None:
                if not self._view.has_ended(job):
                    raise BackendError(f"{each.name}: the job still runs")
                found.append((each, job))
        self._folders.check_reached(reference)
        if self._folders.hold_files:
            await self._folders.erase(reference)
            return
        for each, job in found:
            await self._logs.catch_up(each)
            await delete_job(self._api, job)
            self._view.forget(each.name)

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        job = Reference.of(workload)
        try:
            result = await self._folders.first_result(job)
        except BackendError as error:  # on an emptyDir, or out of this service's reach
            raise FilesGone(str(error)) from error
        if result is None:
            raise FilesGone(f"{job.name}: nothing is left to be published")
        command = ("salvage", f"{DATA_DIR}/{result}")
        return await self._launch_within(job, job_type, variables, command=command)

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        job = Reference.of(workload)
        if self._folders.hold_files:
            await self._folders.make(job.job_name)
        command = ("rescue", result)
        return Rescued(
            workload, await self._launch_within(job, job_type, variables, command=command)
        )

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        job = Reference.of(workload)
        try:
            data = self._folders.data(job)
        except BackendError as error:  # which no later attempt changes
            raise LaunchFailed(str(error)) from error
        if not await asyncio.to_thread(data.is_dir):
            raise LaunchFailed(f"{job.name}: nothing of the job is left")
        return await self._launch_within(job, job_type, variables, command=("retranscribe",))

    async def lower(self, workload: Workload) -> None:
        """A pod's share of the CPU is its request; only clusters from 1.33 on could change it."""

    async def place(self) -> str:
        return f"kubernetes {await self._api.address()} {self._options.kubernetes.instance}"

    async def places(self) -> None:
        return None

    async def workers(self) -> None:
        return None

    async def check_usable(self) -> None:
        await self._api.list(
            JOBS, selector=self._options.selector, limit=1, timeout_s=_USABLE_LIMIT_S
        )

    async def free_disk_bytes(self) -> int | None:
        claim = self._options.kubernetes.claim_dir
        if claim is None:
            return None
        try:
            return (await asyncio.to_thread(shutil.disk_usage, claim)).free
        except OSError:
            return None

    async def adopt(self) -> Mapping[str, Workload]:
        await self._view.watched()
        found: dict[str, Workload] = {}
        for reference in self._view.references():
            if not reference.salvage:
                found[reference.job_id] = reference.workload()
        # A folder without a Job: somebody deleted that, or its time to live was over.
        for name in await self._folders.names():
            folder = Reference.of_folder(name)
            if folder is not None:
                found.setdefault(folder.job_id, folder.workload())
        return found

    async def aclose(self) -> None:
        await self._view.aclose()
        await self._keeper.aclose()
        await self._api.aclose()

    async def _launch_within(
        self,
        job: Reference,
        job_type: JobType,
        variables: Mapping[str, str],
        *,
        command: Sequence[str],
    ) -> Workload:
        """A Job of the job's image on the job's files, after its end. The one before it goes, but not before
        its number has a successor."""
        await self._view.watched()
        attempts = await self._attempts(job)
        for earlier in attempts:
            if not self._view.has_ended(await self._view.job(earlier.name)):
                raise WorkloadBusy(f"{job.name}: another attempt on its files is under way")
        number = max((earlier.salvage for earlier in attempts), default=0) + 1
        image = job.image or self._options.images.image("", job_type)
        file = job.file if job.image else self._options.gives_file(image)
        attempt = Reference(job.job_id, job.job_type, image, salvage=number, file=file)
        await self._launcher.launch(attempt, variables, command=command)
        for earlier in attempts:
            try:
                await self.remove(earlier.workload())
            except BackendError as error:  # with the next one, or with the job
                log.warning("job.attempt_not_removed", job=earlier.name, error=str(error))
        return attempt.workload()

    async def _attempts(self, job: Reference) -> list[Reference]:
        """Salvages and retranscriptions of a job, also those of which only the log is left."""
        found = {attempt.name: attempt for attempt in await self._folders.attempts(job)}
        for attempt in self._view.references():
            if attempt.salvage and attempt.job_id == job.job_id:
                found[attempt.name] = attempt
        return list(found.values())
