"""Jobs as plain processes of this host, each under a shim that outlives the service.

The default without containers, and what the demo uses. The shim (`shim.py`) owns the job's process, its
log and its exit code; this module starts shims and reads what they leave, so a restarted service adopts
every job by process ID and start time. Jobs see a clean environment and a directory of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from offloader.backends.base import Artifact, LaunchRequest, Observation, Phase, Rescued
from offloader.backends.cgroup import GroupLimits, JobGroups, claim
from offloader.backends.cpu_priority import POST_CALL
from offloader.backends.environment import deadline_variables, job_environment
from offloader.backends.own_input import forget_input
from offloader.backends.process_files import (
    ProcessIdentity,
    has_unpublished,
    kill_session,
    read_json,
    read_log,
    read_shim_file,
    remove_tree,
)
from offloader.backends.process_groups import take_groups
from offloader.backends.process_launch import Launcher, is_worked_on
from offloader.backends.process_observation import exited
from offloader.backends.process_output import LogFollower, list_artifacts, read_artifact
from offloader.backends.process_reference import (
    BACKEND,
    NOBODY,
    directory_of_a_job,
    own_directory,
    process_workload,
    shim_of,
)
from offloader.backends.process_shim import await_shim_file, end_group, kill_when_due
from offloader.backends.shim.json_file import write_json
from offloader.backends.surroundings import Surroundings
from offloader.errors import BackendError
from offloader.hosts import host_id
from offloader.models import JOB_ID, JobType, Workload
from offloader.settings import JobsSettings, ProcessSettings

_CLEARLY_SOONER_S: Final = 1.0
_FOLLOW_EVERY_S: Final = 0.5

log = get_logger()


class ProcessBackend:
    """See `Backend`. One directory per job under `jobs_dir`; blocking work runs in threads."""

    name = BACKEND
    ends_with_service = True

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        environ: Mapping[str, str],
        surroundings: Surroundings | None = None,
        claim_groups: Callable[[GroupLimits], JobGroups] = claim,
    ) -> None:
        """`claim_groups`: how to come by control groups; raises NotDelegated where there are none.

        Raises:
            BackendError: jobs cannot have the user that the settings name.
        """
        self._settings = settings
        self._claim_groups = claim_groups
        self._claimed = False
        self._launcher = Launcher(settings, environ=environ, surroundings=surroundings)
        self._own_shims: set[int] = set()
        """Shims that are children of this process and not reaped yet."""
        self._told: dict[Path, float] = {}
        """When each job that this process told to stop will be killed, on the host's monotonic clock."""
        self._stopping = threading.Lock()

    def retune(self, jobs: JobsSettings) -> None:
        """From now on, jobs are launched by these."""
        self._launcher.retune(jobs)

    def trust(self, ca: bytes) -> None:
        """The content of jobs.ca_cert_file, from now on."""
        self._launcher.trust(ca)

    async def prepare(self, runners: Sequence[str]) -> None:
        """Nothing to fetch: the jobs' programs are on this host."""

    async def launch(self, request: LaunchRequest) -> Workload:
        environment = job_environment(request.input_data)
        if environment.dropped:
            fields = environment.dropped_fields
            log.warning("job.variables_dropped", job_id=request.job_id, **fields)
        deadline = deadline_variables(
            max_duration_s=request.max_duration_s, stop_grace_s=self._settings.stop_grace_s
        )
        variables = {**environment.variables, **request.added, **deadline}
        return await asyncio.to_thread(self._launch, request, variables)

    async def poll(self, workload: Workload) -> Observation:
        return await asyncio.to_thread(self._poll, workload)

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        await asyncio.to_thread(self._stop, workload, grace_s)

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        chunks = read_log(self._directory(workload), tail_bytes=tail_bytes)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield chunk

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        follower = LogFollower(self._directory(workload))
        while True:
            phase = (await self.poll(workload)).phase
            while chunk := await asyncio.to_thread(follower.read):
                yield chunk
            if phase in (Phase.EXITED, Phase.LOST):
                return
            await asyncio.sleep(_FOLLOW_EVERY_S)

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        return await asyncio.to_thread(list_artifacts, self._directory(workload) / "data")

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        chunks = read_artifact(self._directory(workload) / "data", name, start=start)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield chunk

    async def remove(self, workload: Workload) -> None:
        directory = self._directory(workload)
        await self._check_ended(workload, directory)
        self._told.pop(directory, None)
        await asyncio.to_thread(remove_tree, directory)

    async def erase(self, workload: Workload) -> None:
        directory = self._directory(workload)
        await self._check_ended(workload, directory)
        await asyncio.to_thread(remove_tree, directory / "data")

    async def _check_ended(self, workload: Workload, directory: Path) -> None:
        observation = await self.poll(workload)
        runs = observation.phase in (Phase.STARTING, Phase.RUNNING)
        if runs or await asyncio.to_thread(is_worked_on, directory):
            raise BackendError(f"{directory}: the job still runs")

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        return await asyncio.to_thread(self._salvage, workload, job_type, variables)

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        return await asyncio.to_thread(self._rescue, workload, job_type, result, variables)

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        return await asyncio.to_thread(self._retranscribe, workload, job_type, variables)

    async def lower(self, workload: Workload) -> None:
        await asyncio.to_thread(self._lower, workload)

    async def place(self) -> str:
        return host_id()

    async def places(self) -> None:
        return None

    async def workers(self) -> None:
        return None

    async def check_usable(self) -> None:
        jobs_dir = self._settings.jobs_dir
        if not await asyncio.to_thread(os.access, jobs_dir, os.R_OK | os.W_OK | os.X_OK):
            raise BackendError(f"jobs.process.jobs_dir: cannot write to {jobs_dir}")

    async def free_disk_bytes(self) -> int | None:
        try:
            return (await asyncio.to_thread(shutil.disk_usage, self._settings.jobs_dir)).free
        except OSError:
            return None

    async def adopt(self) -> Mapping[str, Workload]:
        return await asyncio.to_thread(self._find)

    async def aclose(self) -> None:
        self._reap()
        if self._launcher.groups is not None:
            await asyncio.to_thread(self._launcher.groups.release)

    @property
    def groups(self) -> JobGroups | None:
        """For what this process does itself beside the jobs; None: there are none (yet)."""
        return self._launcher.groups

    def _launch(self, request: LaunchRequest, variables: Mapping[str, str]) -> Workload:
        return self._watched(*self._launcher.launch(request, variables))

    def _salvage(
        self, workload: Workload, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        salvage = self._launcher.salvage
        return self._watched(*salvage(self._directory(workload), job_type, variables))

    def _rescue(
        self, workload: Workload, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        directory = directory_of_a_job(workload)
        here, started = self._launcher.rescue(directory.name, job_type, result, variables)
        if here != directory:
            workload = process_workload(here, NOBODY)
        return Rescued(workload, self._watched(*started))

    def _retranscribe(
        self, workload: Workload, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        retranscribe = self._launcher.retranscribe
        return self._watched(*retranscribe(self._directory(workload), job_type, variables))

    def _directory(self, workload: Workload) -> Path:
        return own_directory(workload, self._settings.jobs_dir)

    def _watched(self, directory: Path, shim: ProcessIdentity) -> Workload:
        self._own_shims.add(shim.pid)
        return process_workload(directory, shim)

    def _lower(self, workload: Workload) -> None:
        directory = self._directory(workload)
        files = await_shim_file(directory, shim_of(workload, directory))
        if files is not None and files.child is not None and files.child.alive:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PGRP, files.child.pid, POST_CALL.nice)
            if files.group is not None and self._launcher.groups is not None:
                with contextlib.suppress(OSError):
                    self._launcher.groups.prioritize(files.group, POST_CALL)

    def _poll(self, workload: Workload) -> Observation:
        directory = self._directory(workload)
        shim = shim_of(workload, directory)
        if not directory.exists():
            return Observation(Phase.LOST, detail="its directory is gone")
        alive = shim.alive  # looked at before exit.json: the shim writes that before it ends
        if not alive:
            self._reap()
        exit_document = read_json(directory / "exit.json")
        if exit_document is not None:
            self._forget_input(directory)
            return replace(exited(exit_document), unpublished=has_unpublished(directory))
        files = read_shim_file(directory)
        child = files.child if files is not None else None
        if alive:
            return Observation(Phase.RUNNING if child is not None else Phase.STARTING)
        if files is not None and child is not None and child.alive:
            kill_when_due(directory, files)
            return Observation(
                Phase.RUNNING, detail="its shim is gone; its log and exit code are lost"
            )
        killed = kill_session(shim)
        if killed:
            log.warning("job.leftovers_killed", directory=str(directory), processes=killed)
        self._forget_input(directory)
        return Observation(
            Phase.LOST,
            detail=end_group(files) or "its processes are gone without an exit code",
            unpublished=has_unpublished(directory),
        )

    def _forget_input(self, directory: Path) -> None:
        """Of a job that ended before it took it."""
        with contextlib.suppress(OSError):  # it goes with the directory
            forget_input(directory)

    def _stop(self, workload: Workload, grace_s: float) -> None:
        directory = self._directory(workload)
        shim = shim_of(workload, directory)
        if (directory / "exit.json").exists() or not directory.exists():
            return
        kill_at_s = time.monotonic() + grace_s
        files = await_shim_file(directory, shim)
        child = files.child if files is not None else None
        told = files.kill_at_monotonic_s if files is not None else None
        if not shim.alive:
            told = (read_json(directory / "stop.json") or {}).get("kill_at_monotonic_s")
        with self._stopping:
            # A second signal means "hurry" to a job, so a wish that the shim has not confirmed yet counts.
            told = min(t for t in (told, self._told.get(directory), math.inf) if t is not None)
            if told <= kill_at_s + _CLEARLY_SOONER_S:
                return
            wish = {"kill_at_monotonic_s": kill_at_s, "grace_s": grace_s}
            write_json(str(directory / "stop.json"), wish)
            if shim.signal(signal.SIGTERM) or (child and child.signal(signal.SIGTERM)):
                self._told[directory] = kill_at_s

    def _find(self) -> Mapping[str, Workload]:
        found: dict[str, Workload] = {}
        try:
            self._settings.jobs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            text = f"jobs.process.jobs_dir: cannot make {self._settings.jobs_dir}: {error.strerror}"
            raise BackendError(text) from error
        self._launcher.open_way()
        if not self._claimed:
            self._claimed = True
            self._launcher.groups = take_groups(self._settings, self._claim_groups)
        for directory in self._settings.jobs_dir.iterdir():
            if JOB_ID.fullmatch(directory.name) and directory.is_dir():
                found[directory.name] = process_workload(directory, _shim_in(directory))
        return found

    def _reap(self) -> None:
        for pid in tuple(self._own_shims):
            try:
                gone = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                gone = True
            if gone:
                self._own_shims.discard(pid)


def _shim_in(directory: Path) -> ProcessIdentity:
    """One that a later release has made is found as well: looking at it says what is to be done."""
    try:
        files = read_shim_file(directory)
    except BackendError:
        return NOBODY
    return files.shim if files is not None else NOBODY
