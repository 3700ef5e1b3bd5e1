"""Jobs as containers of a Docker Engine.

Nothing about a job is kept here: its container and its volume, found by name or label, tell everything, so
any process of the service can watch, stop, salvage and remove it. The modules beside this one hold the parts;
this one puts them behind the port of `base.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from docker.errors import APIError

from foundation.logs import get_logger
from offloader.backends.base import Artifact, LaunchRequest, Observation, Phase, Rescued
from offloader.backends.docker.container import (
    CA_PATH,
    POST_CALL_CPU_SHARES,
    plan_container,
)
from offloader.backends.docker.engine import Engine, EngineError
from offloader.backends.docker.images import Images
from offloader.backends.docker.launching import find, launch, make_volume, next_salvage, remove
from offloader.backends.docker.logs import LogFollower, read_log, read_tail
from offloader.backends.docker.observation import (
    is_running,
    may_not_have_run,
    observe,
    was_killed,
)
from offloader.backends.docker.options import BACKEND, DockerOptions, Reference
from offloader.backends.docker.stopping import Stopper
from offloader.backends.docker.volume import (
    first_result,
    has_unpublished,
    holds_files,
    list_artifacts,
    read_artifact,
)
from offloader.backends.environment import deadline_variables, job_environment
from offloader.errors import FilesGone, LaunchFailed
from offloader.models import JobType, Workload
from offloader.settings import JobsSettings

_FOLLOW_EVERY_S: Final = 0.5
_COMPLAINT_BYTES: Final = 4096
_USABLE_LIMIT_S: Final = 2.0
_RESULT_VARIABLES: Final = {
    JobType.RECORDING: "RECORDING_ID",
    JobType.TRANSCRIBING: "TRANSCRIPTION_ID",
}
_RESULT: Final = re.compile(r"[a-z0-9]{26}")

log = get_logger()


class DockerBackend:
    """See `Backend`. Calls of the engine run in threads and end within their time-outs."""

    name = BACKEND
    ends_with_service = False

    def __init__(self, options: DockerOptions, *, environ: Mapping[str, str]) -> None:
        self._options = options
        self._engine = Engine(host=options.docker.host, environ=environ)
        self._images = Images(self._engine, policy=options.docker.pull_policy)
        self._stopper = Stopper()
        self._repeated: dict[str, LogFollower] = {}
        """Of the containers whose lines go into the service's log."""

    def retune(self, jobs: JobsSettings) -> None:
        """From now on, jobs are launched by these."""
        self._options.surroundings.network = jobs.network
        self._options.images.patterns = jobs.runner_images

    def trust(self, ca: bytes) -> None:
        """The content of jobs.ca_cert_file, from now on."""
        self._options.surroundings.good_ca = ca

    async def prepare(self, runners: Sequence[str]) -> None:
        await self._images.prepare([self._options.images.image(runner) for runner in runners])

    async def launch(self, request: LaunchRequest) -> Workload:
        environment = job_environment(request.input_data)
        if environment.dropped:
            fields = environment.dropped_fields
            log.warning("job.variables_dropped", job_id=request.job_id, **fields)
        name = self._options.images.image(request.runner, request.job_type)
        result = environment.variables.get(_RESULT_VARIABLES[request.job_type], "")
        reference = Reference(request.job_id, request.job_type, name)
        deadline = deadline_variables(
            max_duration_s=request.max_duration_s, stop_grace_s=self._options.stop_grace_s
        )
        variables = {**environment.variables, **request.added, **deadline}
        return await self._launch(reference, variables, command=(), result=result)

    async def poll(self, workload: Workload) -> Observation:
        return await self._engine.call(partial(self._poll, reference=Reference.of(workload)))

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        reference = Reference.of(workload)
        await self._engine.call(partial(self._stopper.stop, reference=reference, grace_s=grace_s))

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        container = Reference.of(workload).container
        if tail_bytes is not None:
            read = partial(read_tail, container=container, tail_bytes=tail_bytes)
            if tail := await self._engine.call(read):
                yield tail
            return
        async for chunk in self._chunks(partial(read_log, container=container)):
            yield chunk

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        reference = Reference.of(workload)
        follower = LogFollower(reference.container)
        while True:
            running = await self._engine.call(partial(_may_write, reference=reference))
            while chunk := await self._engine.call(follower.read):
                yield chunk
            if not running:
                return
            await asyncio.sleep(_FOLLOW_EVERY_S)

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        return await self._engine.call(partial(list_artifacts, reference=Reference.of(workload)))

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        reference = Reference.of(workload)
        read = partial(read_artifact, reference=reference, name=name, start=start)
        async for chunk in self._chunks(read):
            yield chunk

    async def remove(self, workload: Workload) -> None:
        reference = Reference.of(workload)
        await self._engine.call(partial(remove, reference=reference))
        self._stopper.forget(reference)
        self._repeated.pop(reference.container, None)

    async def erase(self, workload: Workload) -> None:
        """A volume that a container names cannot go without it, nor can that without its log."""
        reference = Reference.of(workload)
        if await self._engine.call(partial(holds_files, reference=reference)):
            await self.remove(workload)

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        job = Reference.of(workload)
        directory = await self._engine.call(partial(first_result, reference=job))
        if directory is None:
            raise FilesGone(f"{job.container}: nothing is left to be published")
        return await self._launch_within(job, variables, command=("salvage", directory))

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        job = Reference.of(workload)
        image = job.image or self._options.images.image("", job_type)
        job = replace(job, image=image, result=result)
        await self._engine.call(partial(make_volume, reference=job, options=self._options))
        attempt = await self._launch_within(job, variables, command=("rescue", result))
        return Rescued(job.workload(), attempt)

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        job = Reference.of(workload)
        if await self._engine.call(partial(_has_volume, reference=job)):
            return await self._launch_within(job, variables, command=("retranscribe",))
        raise LaunchFailed(f"{job.container}: nothing of the job is left")

    async def lower(self, workload: Workload) -> None:
        await self._engine.call(partial(_lower, reference=Reference.of(workload)))

    async def place(self) -> str:
        return await self._engine.call(_identity)

    async def places(self) -> None:
        return None

    async def workers(self) -> None:
        return None

    async def check_usable(self) -> None:
        await self._engine.call(_ping, timeout_s=2 * _USABLE_LIMIT_S)

    async def free_disk_bytes(self) -> int | None:
        try:
            return await self._engine.call(_free_disk)
        except EngineError:
            return None

    async def adopt(self) -> Mapping[str, Workload]:
        found = await self._engine.call(partial(find, options=self._options))
        return {job_id: reference.workload() for job_id, reference in found.items()}

    async def aclose(self) -> None:
        self._engine.close()

    async def _launch_within(
        self, job: Reference, variables: Mapping[str, str], *, command: Sequence[str]
    ) -> Workload:
        """A container of the job's image on the job's volume, after its end."""
        number = await self._engine.call(partial(next_salvage, reference=job))
        attempt = Reference(job.job_id, job.job_type, job.image, salvage=number)
        return await self._launch(attempt, variables, command=command, result=job.result)

    async def _launch(
        self,
        reference: Reference,
        given: Mapping[str, str],
        *,
        command: Sequence[str],
        result: str,
    ) -> Workload:
        surroundings = self._options.surroundings
        ca = await asyncio.to_thread(surroundings.read_ca)
        variables = surroundings.variables(given, ca_path=CA_PATH if ca is not None else None)
        if site_url := variables.get("SITE_URL"):
            surroundings.check_reachable(site_url, network_mode=self._options.network_mode)
        try:
            image = await self._images.for_launch(reference.image)
        except EngineError as error:
            raise LaunchFailed(str(error)) from error
        if image.own:
            variables |= surroundings.copies() | surroundings.tracing()
        if image.own and _RESULT.fullmatch(result):
            # Only of our own images is it known where they leave their result.
            reference = Reference(
                reference.job_id,
                reference.job_type,
                reference.image,
                result=result,
                salvage=reference.salvage,
            )
        plan = plan_container(
            reference,
            own=image.own,
            variables=variables,
            command=command,
            options=self._options,
        )
        await self._engine.call(partial(launch, plan=plan, ca=ca, options=self._options))
        return reference.workload()

    def _poll(self, engine: Engine, reference: Reference) -> Observation:
        container = engine.container(reference.container)
        if container is None:
            self._stopper.forget(reference)
            left = not reference.salvage and has_unpublished(engine, reference)
            return Observation(Phase.LOST, detail="its container is gone", unpublished=left)
        if self._options.docker.output_logs:
            self._repeat_output(engine, reference)
        if is_running(container):
            self._stopper.kill_when_due(engine, reference)
            return Observation(Phase.RUNNING)
        tail = b""
        if may_not_have_run(container):
            tail = read_tail(engine, reference.container, _COMPLAINT_BYTES)
        ours = was_killed(container) and self._stopper.was_killed(engine, reference)
        now = datetime.now(UTC)
        observation = observe(container, now=now, killed_after_grace=ours, log_tail=tail)
        if observation.phase is not Phase.EXITED:
            return observation
        self._stopper.forget(reference)
        left = not reference.salvage and has_unpublished(engine, reference)
        return Observation(
            observation.phase,
            exit_code=observation.exit_code,
            stopped_at=observation.stopped_at,
            detail=observation.detail,
            unpublished=left,
        )

    def _repeat_output(self, engine: Engine, reference: Reference) -> None:
        follower = self._repeated.setdefault(reference.container, LogFollower(reference.container))
        while new := follower.read(engine):
            for line in new.splitlines():
                text = line.decode(errors="replace")
                log.info("job.output", job_id=reference.job_id, line=text)

    async def _chunks(self, start: Callable[[Engine], Iterator[bytes]]) -> AsyncIterator[bytes]:
        """What a blocking generator gives, one chunk per visit to a thread."""
        chunks = start(self._engine)
        try:
            while chunk := await self._engine.call(lambda _: next(chunks, b"")):
                yield chunk
        finally:
            close = getattr(chunks, "close", lambda: None)
            await self._engine.call(lambda _: close())


def _may_write(engine: Engine, reference: Reference) -> bool:
    container = engine.container(reference.container)
    return container is not None and container["State"]["Status"] not in ("exited", "dead")


def _has_volume(engine: Engine, reference: Reference) -> bool:
    return engine.volume(reference.volume) is not None


def _lower(engine: Engine, reference: Reference) -> None:
    container = engine.container(reference.container)
    if container is None or not is_running(container):
        return
    try:
        engine.client.update_container(reference.container, cpu_shares=POST_CALL_CPU_SHARES)
    except APIError as error:
        log.warning("job.not_lowered", job_id=reference.job_id, error=str(error.explanation))


def _ping(engine: Engine) -> None:
    engine.client.get(engine.url("/_ping"), timeout=_USABLE_LIMIT_S).raise_for_status()


def _identity(engine: Engine) -> str:
    """The same for everybody who uses the engine, and after its restart."""
    identity = str(engine.client.info().get("ID") or "")
    return f"engine {identity}" if identity else ""


def _free_disk(engine: Engine) -> int | None:
    """Known when the engine is on this host and its directory can be seen."""
    if not engine.address.startswith("unix:"):
        return None
    root = str(engine.client.info().get("DockerRootDir") or "")
    return shutil.disk_usage(root).free if root and os.path.isdir(root) else None
