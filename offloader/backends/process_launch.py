"""Starts jobs and salvages of the process backend: a directory, a clean environment, a shim. Blocks."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from offloader.backends import shim as shim_module
from offloader.backends.base import LaunchRequest
from offloader.backends.process_files import ProcessIdentity, remove_tree
from offloader.backends.surroundings import Surroundings
from offloader.errors import LaunchFailed
from offloader.models import JobType
from offloader.settings import ProcessSettings

_SHIM_PATH: Final = os.path.abspath(shim_module.__file__)
_INHERITED: Final = ("PATH", "LANG", "TZ", "HOME", "SSL_CERT_FILE")
_SALVAGE: Final = re.compile(r"salvage-([0-9]+)")


class Launcher:
    """Everything that turns settings into running shims."""

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        environ: Mapping[str, str],
        surroundings: Surroundings | None = None,
    ) -> None:
        self._settings = settings
        self._surroundings = surroundings
        self._inherited = {name: environ[name] for name in _INHERITED if name in environ}

    def launch(
        self, request: LaunchRequest, variables: Mapping[str, str]
    ) -> tuple[Path, ProcessIdentity]:
        """Start a job; its directory and its shim.

        Raises:
            LaunchFailed: nothing was started and nothing is left behind.
        """
        directory = self._settings.jobs_dir / request.job_id
        _make(directory / "data")
        shim = self._start(
            directory,
            job_id=request.job_id,
            job_type=request.job_type,
            command=self._command(request.job_type),
            variables=variables,
            data_dir=directory / "data",
        )
        return directory, shim

    def salvage(
        self, job_directory: Path, *, job_type: JobType, variables: Mapping[str, str]
    ) -> tuple[Path, ProcessIdentity]:
        """Start `salvage DIR` on the first result that the job left, in a directory within the job's own.

        Raises:
            LaunchFailed: there is nothing to salvage, or it cannot be started.
        """
        results = sorted(path.parent for path in job_directory.glob("data/*/job.json"))
        if not results:
            raise LaunchFailed(f"{job_directory}: nothing is left to be published")
        numbers = (_SALVAGE.fullmatch(path.name) for path in job_directory.iterdir())
        number = max((int(match[1]) for match in numbers if match), default=0) + 1
        directory = job_directory / f"salvage-{number}"
        _make(directory)
        shim = self._start(
            directory,
            job_id=job_directory.name,
            job_type=job_type,
            command=[*self._command(job_type), "salvage", str(results[0])],
            variables=variables,
            data_dir=job_directory / "data",
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
    ) -> ProcessIdentity:
        options = {
            "directory": str(directory),
            "job_id": job_id,
            "job_type": job_type.value,
            "grace_s": self._settings.stop_grace_s,
            "log_max_bytes": self._settings.log_max_bytes,
            "memory_max_bytes": self._settings.memory_max_bytes,
        }
        arguments = [sys.executable, "-I", "-S", _SHIM_PATH, json.dumps(options)]
        if self._surroundings is not None:
            ca_file = self._surroundings.network.ca_cert_file
            ca_path = str(ca_file) if ca_file is not None else None
            variables = self._surroundings.variables(variables, ca_path=ca_path)
        environment = {**variables, **self._fixed_variables(job_type, data_dir)}
        try:
            pid = _spawn_shim([*arguments, *command], environment, directory)
        except (OSError, ValueError) as error:
            remove_tree(directory)
            reason = getattr(error, "strerror", None) or str(error)
            raise LaunchFailed(f"cannot start the job's process: {reason}") from error
        ticks = shim_module.start_ticks(pid) or 0
        return ProcessIdentity(pid, ticks, shim_module.boot_id())

    def _command(self, job_type: JobType) -> Sequence[str]:
        if job_type is JobType.RECORDING:
            return self._settings.recorder_command
        return self._settings.transcriber_command

    def _fixed_variables(self, job_type: JobType, data_dir: Path) -> dict[str, str]:
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
        if job_type is JobType.TRANSCRIBING:
            # The encoder maps and unmaps 72 MB of attention buffers per call; huge pages save the
            # page faults: 20-28 % of its time (measured with base and int8 on two threads).
            fixed["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        return fixed


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True)
        directory.parent.chmod(0o700)
    except OSError as error:
        raise LaunchFailed(f"cannot make {directory}: {error.strerror}") from error


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
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGINT),
    )
