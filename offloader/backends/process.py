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
import re
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends import shim as shim_module
from offloader.backends.base import Artifact, LaunchRequest, Observation, Phase
from offloader.backends.environment import job_environment
from offloader.backends.process_files import (
    ProcessIdentity,
    ShimFile,
    has_unpublished,
    kill_session,
    read_json,
    read_log,
    read_shim_file,
    remove_tree,
)
from offloader.backends.process_launch import Launcher
from offloader.backends.process_output import LogFollower, list_artifacts, read_artifact
from offloader.backends.surroundings import Surroundings
from offloader.errors import BackendError
from offloader.models import JobType, Workload
from offloader.settings import ProcessSettings

_JOB_ID: Final = re.compile(r"[a-z0-9-]{12,63}")
_SHIM_START_S: Final = 2.0
"""How long `stop` waits for a shim that is just starting to be able to take a signal (usual: 15 ms)."""
_CLEARLY_SOONER_S: Final = 1.0
_FOLLOW_EVERY_S: Final = 0.5
_POST_CALL_NICE: Final = 10
"""Post-call work gets about a tenth of what a live job next to it gets."""

log = get_logger()


class ProcessBackend:
    """See `Backend`. One directory per job under `jobs_dir`; blocking work runs in threads."""

    name = "process"
    ends_with_service = True

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        environ: Mapping[str, str],
        surroundings: Surroundings | None = None,
    ) -> None:
        self._settings = settings
        self._launcher = Launcher(settings, environ=environ, surroundings=surroundings)
        self._own_shims: set[int] = set()
        """Shims that are children of this process and not reaped yet."""
        self._told: dict[Path, float] = {}
        """When each job that this process told to stop will be killed, on the host's monotonic clock."""
        self._stopping = threading.Lock()

    async def prepare(self, runners: Sequence[str]) -> None:
        """Nothing to fetch: the jobs' programs are on this host."""

    async def launch(self, request: LaunchRequest) -> Workload:
        environment = job_environment(request.input_data)
        if environment.dropped:
            log.warning(
                "job.variables_dropped", job_id=request.job_id, names=list(environment.dropped)
            )
        return await asyncio.to_thread(self._launch, request, environment.variables)

    async def poll(self, workload: Workload) -> Observation:
        return await asyncio.to_thread(self._poll, workload)

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        await asyncio.to_thread(self._stop, workload, grace_s)

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        chunks = read_log(_directory(workload), tail_bytes=tail_bytes)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield chunk

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        follower = LogFollower(_directory(workload))
        while True:
            phase = (await self.poll(workload)).phase
            while chunk := await asyncio.to_thread(follower.read):
                yield chunk
            if phase in (Phase.EXITED, Phase.LOST):
                return
            await asyncio.sleep(_FOLLOW_EVERY_S)

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        return await asyncio.to_thread(list_artifacts, _directory(workload) / "data")

    async def read_artifact(self, workload: Workload, name: str) -> AsyncIterator[bytes]:
        chunks = read_artifact(_directory(workload) / "data", name)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield chunk

    async def remove(self, workload: Workload) -> None:
        observation = await self.poll(workload)
        if observation.phase in (Phase.STARTING, Phase.RUNNING):
            raise BackendError(f"{_directory(workload)}: the job still runs")
        self._told.pop(_directory(workload), None)
        await asyncio.to_thread(remove_tree, _directory(workload))

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        return await asyncio.to_thread(self._salvage, workload, job_type, variables)

    async def lower(self, workload: Workload) -> None:
        await asyncio.to_thread(self._lower, workload)

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

    def _launch(self, request: LaunchRequest, variables: Mapping[str, str]) -> Workload:
        directory, shim = self._launcher.launch(request, variables)
        self._own_shims.add(shim.pid)
        return _workload(directory, shim)

    def _salvage(
        self, workload: Workload, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        directory, shim = self._launcher.salvage(
            _directory(workload), job_type=job_type, variables=variables
        )
        self._own_shims.add(shim.pid)
        salvage = _workload(directory, shim)
        self._lower(salvage)
        return salvage

    def _lower(self, workload: Workload) -> None:
        files = _await_shim_file(_directory(workload), _shim_identity(workload))
        if files is not None and files.child is not None and files.child.alive:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PGRP, files.child.pid, _POST_CALL_NICE)

    def _poll(self, workload: Workload) -> Observation:
        directory = _directory(workload)
        shim = _shim_identity(workload)
        if not directory.exists():
            return Observation(Phase.LOST, detail="its directory is gone")
        alive = shim.alive  # looked at before exit.json: the shim writes that before it ends
        if not alive:
            self._reap()
        exit_document = read_json(directory / "exit.json")
        if exit_document is not None:
            return replace(_exited(exit_document), unpublished=has_unpublished(directory))
        files = read_shim_file(directory)
        child = files.child if files is not None else None
        if alive:
            return Observation(Phase.RUNNING if child is not None else Phase.STARTING)
        if child is not None and child.alive:
            self._kill_when_due(directory, child)
            return Observation(
                Phase.RUNNING, detail="its shim is gone; its log and exit code are lost"
            )
        killed = kill_session(shim)
        if killed:
            log.warning("job.leftovers_killed", directory=str(directory), processes=killed)
        return Observation(
            Phase.LOST,
            detail="its processes are gone without an exit code",
            unpublished=has_unpublished(directory),
        )

    def _stop(self, workload: Workload, grace_s: float) -> None:
        directory, shim = _directory(workload), _shim_identity(workload)
        if (directory / "exit.json").exists() or not directory.exists():
            return
        kill_at_s = time.monotonic() + grace_s
        files = _await_shim_file(directory, shim)
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
            shim_module.write_json(str(directory / "stop.json"), wish)
            if shim.signal(signal.SIGTERM) or (child and child.signal(signal.SIGTERM)):
                self._told[directory] = kill_at_s

    def _kill_when_due(self, directory: Path, child: ProcessIdentity) -> None:
        """Do the shim's duty for a child that has lost it."""
        stop = read_json(directory / "stop.json")
        if stop is not None and time.monotonic() >= float(stop["kill_at_monotonic_s"]):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def _find(self) -> Mapping[str, Workload]:
        found: dict[str, Workload] = {}
        try:
            self._settings.jobs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            text = f"jobs.process.jobs_dir: cannot make {self._settings.jobs_dir}: {error.strerror}"
            raise BackendError(text) from error
        for directory in self._settings.jobs_dir.iterdir():
            if _JOB_ID.fullmatch(directory.name) and directory.is_dir():
                files = read_shim_file(directory)
                identity = files.shim if files is not None else ProcessIdentity(0, 0, "")
                found[directory.name] = _workload(directory, identity)
        return found

    def _reap(self) -> None:
        for pid in tuple(self._own_shims):
            try:
                gone = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                gone = True
            if gone:
                self._own_shims.discard(pid)


def _await_shim_file(directory: Path, shim: ProcessIdentity) -> ShimFile | None:
    """`shim.json`, which tells that signals are caught; a shim that is just starting gets a moment."""
    give_up_s = time.monotonic() + _SHIM_START_S
    while (files := read_shim_file(directory)) is None:
        if not shim.alive or time.monotonic() > give_up_s:
            return None
        time.sleep(0.01)
    return files


def _exited(document: Mapping[str, Any]) -> Observation:
    code = document.get("exit_code")
    number = document.get("signal")
    detail = str(document.get("error") or "")
    if number is not None:
        code = 128 + int(number)
        detail = f"ended by signal {number}"
    if size := document.get("killed_at_rss_bytes"):
        detail = f"killed at {size / 2**20:.0f} MiB: jobs.process.memory_max is less"
    if document.get("killed_after_grace"):
        detail = "killed: it did not end within the grace"
    return Observation(
        Phase.EXITED,
        exit_code=code,
        stopped_at=datetime.fromtimestamp(document["stopped_at_s"], UTC),
        detail=detail,
        usage={
            name: float(document[name])
            for name in ("total_cpu_s", "max_rss_bytes")
            if name in document
        },
    )


def _workload(directory: Path, shim: ProcessIdentity) -> Workload:
    reference: dict[str, str | int] = {
        "directory": str(directory),
        "shim_pid": shim.pid,
        "shim_start_ticks": shim.start_ticks,
        "boot_id": shim.boot_id,
    }
    return Workload(ProcessBackend.name, reference)


def _directory(workload: Workload) -> Path:
    return Path(str(workload.reference["directory"]))


def _shim_identity(workload: Workload) -> ProcessIdentity:
    reference = workload.reference
    return ProcessIdentity(
        int(reference["shim_pid"]), int(reference["shim_start_ticks"]), str(reference["boot_id"])
    )
