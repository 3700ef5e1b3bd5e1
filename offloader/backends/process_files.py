"""What is in a process job's directory, and whether the processes named there still run.

Files: docs/job-contract.md 6. A process is known by ID, start time and boot, so an ID that the system
has given to somebody else is never taken for the job's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offloader.backends.shim import job_group
from offloader.backends.shim.capped_log import tail_name
from offloader.backends.shim.json_file import FORMAT
from offloader.backends.shim.process_table import boot_id, start_ticks
from offloader.errors import BackendError
from offloader.models import JobType

_TAIL_NUMBER = re.compile(r"job\.tail\.([0-9]+)\.log")
_CHUNK_BYTES = 256 * 1024
_KNOWN_FORMATS = range(max(FORMAT - 1, 1), FORMAT + 1)
LOG_CUT = b'{"event":"log.cut","reason":"the log reached its largest size"}\n'
"""Stands where the middle of a log was dropped."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of this or an earlier boot."""

    pid: int
    start_ticks: int
    boot_id: str

    @property
    def alive(self) -> bool:
        """It runs, and it is the same process. A zombie does not run."""
        return (
            self.pid > 0 and self.boot_id == boot_id() and start_ticks(self.pid) == self.start_ticks
        )

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; False when it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True


@dataclass(frozen=True, slots=True)
class ShimFile:
    """`shim.json`."""

    shim: ProcessIdentity
    child: ProcessIdentity | None
    """None: not started yet."""
    kill_at_monotonic_s: float | None
    """When the shim will kill the child; None: it was not told to stop."""
    job_type: JobType
    group: Path | None = None
    """The job's control group; None: it has none of its own."""

    def kill_job(self) -> None:
        """Kill the child and all that is found of what it has started."""
        if self.group is not None:
            job_group.kill(str(self.group))
        if self.child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)


def read_json(path: Path) -> dict[str, Any] | None:
    """The document, or None when there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_shim_file(directory: Path) -> ShimFile | None:
    """`shim.json` of a job's directory, or None.

    Raises:
        BackendError: a later release has made the directory; nothing in it is touched then.
    """
    document = read_json(directory / "shim.json")
    if document is None:
        return None
    if (found := document.get("format", 1)) not in _KNOWN_FORMATS:
        raise BackendError(
            f"{directory}: has format {found!r}, this release knows {FORMAT}: start the release that "
            "began the job again, or a later one"
        )
    try:
        return ShimFile(
            shim=_identity(document, "shim"),
            child=_identity(document, "child") if document["child_pid"] else None,
            kill_at_monotonic_s=document["kill_at_monotonic_s"],
            job_type=JobType(document["job_type"]),
            group=Path(document["cgroup"]) if document.get("cgroup") else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _identity(document: Mapping[str, Any], who: str) -> ProcessIdentity:
    ticks = int(document[f"{who}_start_ticks"] or 0)
    return ProcessIdentity(int(document[f"{who}_pid"]), ticks, str(document["boot_id"]))


def kill_session(shim: ProcessIdentity) -> int:
    """Kill what is left in the session of a shim that is gone; how many processes.

    The session's ID stays taken while it has members, so members found under it are ours, unless a
    process that got the shim's ID leads it now.
    """
    if shim.pid <= 1 or shim.boot_id != boot_id() or start_ticks(shim.pid) is not None:
        return 0
    killed = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) == shim.pid and start_ticks(int(name)) is not None:
                    os.kill(int(name), signal.SIGKILL)
                    killed += 1
            except (ProcessLookupError, PermissionError):
                continue
    return killed


def has_unpublished(directory: Path) -> bool:
    """Whether a result is left: a job removes its own directory when its post surely exists."""
    return any(directory.glob("data/*/job.json"))


def remove_tree(directory: Path) -> None:
    """Delete a directory and everything in it; one that is gone is fine. Raises BackendError."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BackendError(f"cannot remove {directory}: {error.strerror}") from error


def log_files(directory: Path) -> list[Path]:
    """The job's log, oldest file first."""
    tails = [directory / tail_name(number) for number in log_numbers(directory)]
    return [directory / "job.log", *tails]


def log_numbers(directory: Path) -> list[int]:
    """The numbers of the tail files that are there, oldest first."""
    matches = (_TAIL_NUMBER.fullmatch(name) for name in _names(directory))
    return sorted(int(match[1]) for match in matches if match)


def read_log(directory: Path, *, tail_bytes: int | None) -> Iterator[bytes]:
    """The log in chunks; a line tells where the middle was dropped. Blocks: read it in a thread."""
    files = log_files(directory)
    skip = 0
    if tail_bytes is not None:
        skip = max(sum(_size(path) for path in files) - tail_bytes, 0)
    for index, path in enumerate(files):
        size = _size(path)
        if index == 1 and path.name != tail_name(1) and not skip:
            yield LOG_CUT
        if skip >= size:
            skip -= size
            continue
        try:
            with path.open("rb") as file:
                file.seek(skip)
                skip = 0
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            continue  # the shim rotated meanwhile


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
