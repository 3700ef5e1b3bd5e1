"""Starts jobs and salvages of the process backend: a directory, a clean environment, a shim. Blocks."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from offloader.backends import cpu_priority, shim
from offloader.backends.base import LaunchRequest
from offloader.backends.cgroup import JobGroups
from offloader.backends.cpu_priority import CpuPriority
from offloader.backends.own_input import (
    INPUT_VARIABLE,
    OTHERS_NAME,
    forget_input,
    is_own_command,
    write_input,
)
from offloader.backends.process_files import ProcessIdentity, read_shim_file, remove_tree
from offloader.backends.process_user import PASSAGE, JobUser
from offloader.backends.shim.process_table import boot_id, start_ticks
from offloader.backends.surroundings import Surroundings
from offloader.errors import FilesGone, LaunchFailed, WorkloadBusy
from offloader.models import JobType
from offloader.settings import JobsSettings, ProcessSettings

_SHIM_PATH: Final = os.path.dirname(os.path.abspath(shim.__file__))
_INHERITED: Final = ("PATH", "LANG", "TZ", "HOME", "SSL_CERT_FILE")
_SALVAGE: Final = re.compile(r"salvage-([0-9]+)")

log = get_logger()


class Launcher:
    """Everything that turns settings into running shims."""

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        environ: Mapping[str, str],
        surroundings: Surroundings | None = None,
    ) -> None:
        """Raises BackendError: jobs cannot have the user that the settings name."""
        self._settings = settings
        self._surroundings = surroundings
        self._inherited = {name: environ[name] for name in _INHERITED if name in environ}
        self._user = JobUser.named(settings.user) if settings.user else None
        self.groups: JobGroups | None = None
        """Where jobs get control groups of their own; None: nowhere."""

    def retune(self, jobs: JobsSettings) -> None:
        """From now on, jobs are launched by these."""
        if self._surroundings is not None:
            self._surroundings.network = jobs.network

    def trust(self, ca: bytes) -> None:
        """The content of jobs.ca_cert_file, from now on."""
        if self._surroundings is not None:
            self._surroundings.good_ca = ca

    def launch(
        self, request: LaunchRequest, variables: Mapping[str, str]
    ) -> tuple[Path, ProcessIdentity]:
        """Start a job; its directory and its shim.

        Raises:
            LaunchFailed: nothing was started and nothing is left behind.
        """
        directory = self._settings.jobs_dir / request.job_id
        _make(directory)
        try:
            self._make_data(directory)
        except LaunchFailed:
            remove_tree(directory)
            raise
        shim = self._start(
            directory,
            job_id=request.job_id,
            job_type=request.job_type,
            command=self._command(request.job_type),
            variables=variables,
            data_dir=directory / "data",
            priority=cpu_priority.LIVE[request.job_type],
        )
        return directory, shim

    def salvage(
        self, job_directory: Path, job_type: JobType, variables: Mapping[str, str]
    ) -> tuple[Path, ProcessIdentity]:
        """Start `salvage DIR` on the first result that the job left, in a directory within the job's own.

        Raises:
            FilesGone: there is nothing to salvage.
            LaunchFailed: it cannot be started.
            WorkloadBusy: an earlier salvage or retranscription runs still.
        """
        results = sorted(path.parent for path in job_directory.glob("data/*/job.json"))
        if not results:
            raise FilesGone(f"{job_directory}: nothing is left to be published")
        arguments = ["salvage", str(results[0])]
        return self._start_within(job_directory, arguments, job_type, variables)

    def rescue(
        self, job_id: str, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> tuple[Path, tuple[Path, ProcessIdentity]]:
        """Start `rescue RESULT`, in a directory within the one that the job has, or would have, on this host;
        that one, and as for a salvage.

        Raises:
            LaunchFailed: it cannot be started.
            WorkloadBusy: an earlier attempt runs still.
        """
        job_directory = self._settings.jobs_dir / job_id
        if not (job_directory / "data").is_dir():
            _make(job_directory, exist_ok=True)
            self._make_data(job_directory)
        arguments = ["rescue", result]
        return job_directory, self._start_within(job_directory, arguments, job_type, variables)

    def retranscribe(
        self, job_directory: Path, job_type: JobType, variables: Mapping[str, str]
    ) -> tuple[Path, ProcessIdentity]:
        """Start `retranscribe`, in a directory within the job's own.

        Raises:
            LaunchFailed: the job's files are gone, or it cannot be started.
            WorkloadBusy: an earlier salvage or retranscription runs still.
        """
        if not (job_directory / "data").is_dir():
            raise LaunchFailed(f"{job_directory}: nothing of the job is left")
        return self._start_within(job_directory, ["retranscribe"], job_type, variables)

    def open_way(self) -> None:
        """Let the jobs' user pass to `jobs_dir`. Raises BackendError: a directory above is closed."""
        if self._user is not None:
            self._user.check_way(self._settings.jobs_dir)

    def _make_data(self, job_directory: Path) -> None:
        """The job's own directory."""
        data = job_directory / "data"
        try:
            if self._user is None:
                data.mkdir(mode=0o700)
            else:
                self._user.make_directory(data)
                job_directory.chmod(PASSAGE)
        except OSError as error:
            raise LaunchFailed(f"cannot make {data}: {error.strerror}") from error

    def _start_within(
        self,
        job_directory: Path,
        arguments: Sequence[str],
        job_type: JobType,
        variables: Mapping[str, str],
    ) -> tuple[Path, ProcessIdentity]:
        """The job's program with `arguments`, on the job's files, after its end."""
        earlier = _attempts(job_directory)
        if any(_runs(path) for path in earlier.values()):
            raise WorkloadBusy(f"{job_directory}: something works on its files still")
        for path in earlier.values():  # of one that nobody stored, and that never took it
            with suppress(OSError):
                forget_input(path)
        number = max(earlier, default=0) + 1
        directory = job_directory / f"salvage-{number}"
        _make(directory)
        shim = self._start(
            directory,
            job_id=job_directory.name,
            job_type=job_type,
            command=[*self._command(job_type), *arguments],
            variables=variables,
            data_dir=job_directory / "data",
            priority=cpu_priority.POST_CALL,
        )
        return directory, shim

    def _start(
        self,
        directory: Path,
        *,
        job_id: str,
        job_type: JobType,
        command: Sequence[str],
        variables: Mapping[str, str],
        data_dir: Path,
        priority: CpuPriority,
    ) -> ProcessIdentity:
        options: dict[str, str | int | float | bool] = {
            "directory": str(directory),
            "job_id": job_id,
            "job_type": job_type.value,
            "grace_s": self._settings.stop_grace_s,
            "log_max_bytes": self._settings.log_max_bytes,
            "memory_max_bytes": self._settings.memory_max_bytes,
            "nice": priority.nice,
            **self._group_options(directory, priority),
        }
        environment = self.fixed_variables(job_type, data_dir)
        try:
            # Of an earlier configuration's user, perhaps: whose files they are can work on them.
            user = JobUser.owner_of(data_dir)
            if user is not None:
                environment["HOME"] = user.home
                options |= {"uid": user.uid, "gid": user.gid}
                directory.chmod(PASSAGE)
            if (around := self._surroundings) is not None:
                variables = around.variables(variables, ca_path=_ca_path(around, directory, user))
                variables |= around.copies() | around.tracing()
            if is_own_command(command):
                environment[INPUT_VARIABLE] = str(_tell(directory, variables, user))
            else:
                environment = {**variables, **environment}
            arguments = [sys.executable, "-I", "-S", _SHIM_PATH, json.dumps(options)]
            pid = _spawn_shim([*arguments, *command], environment, directory)
        except (OSError, ValueError) as error:
            remove_tree(directory)
            reason = getattr(error, "strerror", None) or str(error)
            raise LaunchFailed(f"cannot start the job's process: {reason}") from error
        return ProcessIdentity(pid, start_ticks(pid) or 0, boot_id())

    def _group_options(self, directory: Path, priority: CpuPriority) -> dict[str, str | bool]:
        """A group for the job; none costs its limits, and never the job."""
        if self.groups is None:
            return {}
        name = "-".join(directory.relative_to(self._settings.jobs_dir).parts)
        try:
            group = self.groups.make(name, priority)
        except OSError as error:
            log.warning("job.no_group", directory=str(directory), error=str(error))
            return {}
        return {
            "group": str(group),
            "group_limits_memory": self.groups.limits_memory,
            "home_group": str(self.groups.home),
        }

    def _command(self, job_type: JobType) -> Sequence[str]:
        if job_type is JobType.RECORDING:
            return self._settings.recorder_command
        return self._settings.transcriber_command

    def fixed_variables(self, job_type: JobType, data_dir: Path) -> dict[str, str]:
        """What a program of ours finds in its environment, whatever the client says."""
        fixed = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            **self._inherited,
            "DATA_DIR": str(data_dir),
            # Nothing that lands in the working directory may be imported.
            "PYTHONSAFEPATH": "1",
            # BLAS would start a spinning thread per core; the jobs bring their own threads, and
            # faster-whisper's thread count is always given explicitly, which overrides OMP's.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        if self._settings.models_dir:
            fixed["MODELS_DIR"] = self._settings.models_dir
        if job_type is JobType.RECORDING:
            # Large pictures pass through every thread; a heap for each thread keeps its own peak.
            fixed["MALLOC_ARENA_MAX"] = "1"
        if job_type is JobType.TRANSCRIBING:
            # The encoder maps and unmaps 72 MB of attention buffers per call; huge pages save the
            # page faults: 20-28 % of its time (measured with base and int8 on two threads).
            fixed["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        return fixed


def is_worked_on(job_directory: Path) -> bool:
    """Whether an attempt on the files of an ended job runs. Blocks; raises as `read_shim_file`."""
    return job_directory.is_dir() and any(_runs(path) for path in _attempts(job_directory).values())


def _attempts(job_directory: Path) -> dict[int, Path]:
    return {
        int(match[1]): path
        for path in job_directory.iterdir()
        if (match := _SALVAGE.fullmatch(path.name))
    }


def _runs(directory: Path) -> bool:
    """Whether the workload of this directory has not ended yet."""
    files = read_shim_file(directory)
    if files is None or (directory / "exit.json").exists():
        return False
    return files.shim.alive or (files.child is not None and files.child.alive)


def _ca_path(around: Surroundings, directory: Path, user: JobUser | None) -> str | None:
    """Where the job finds the CA file: what was good when it was started stays its own."""
    file = around.network.ca_cert_file
    if file is None or around.good_ca is None:
        return None if file is None else str(file)
    own = directory / "ca.pem"
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as copy:
        copy.write(around.good_ca)
        if user is not None:
            os.fchown(descriptor, user.uid, user.gid)
    return str(own)


def _make(directory: Path, *, exist_ok: bool = False) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise LaunchFailed(f"cannot make {directory}: {error.strerror}") from error


def _tell(directory: Path, variables: Mapping[str, str], user: JobUser | None) -> Path:
    """The file with a job's input. Raises OSError."""
    if user is None:
        return write_input(directory, variables)
    own = user.make_directory(directory / OTHERS_NAME)
    return write_input(own, variables, owner=(user.uid, user.gid))


def _spawn_shim(command: list[str], environment: Mapping[str, str], directory: Path) -> int:
    complaints = str(directory / "shim.log")
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, complaints, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        ],
        setsid=True,
        # Kept until the shim can pass them on: a stop may come before it does anything at all.
        setsigmask=(signal.SIGTERM, signal.SIGINT),
        setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGINT),
    )
