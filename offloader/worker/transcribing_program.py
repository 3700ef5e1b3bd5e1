"""Runs the transcriber's program on one track: a child of the worker, after live calls in priority.

It has limits of its own and knows nothing but a directory. Its standard input is its lifeline: a worker
that is killed takes it along. Of its output only how far it is and why it failed are looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from foundation.logs import get_logger
from foundation.process_stats import read_process_stats
from offloader.backends.cpu_priority import POST_CALL
from offloader.backends.process_observation import MEMORY_TEXTS
from offloader.backends.shim import job_group
from offloader.backends.shim.process_table import session_rss_bytes

BUNDLE_NAME: Final = "track.tar"
RESULT_NAME: Final = "result.json"
_MEMORY_CHECK_S: Final = 1.0
_LINE_BYTES: Final = 1 << 16
_MOST_RESULT_BYTES: Final = 64 << 20
_SECONDS_PER_TRACK: Final = 900.0
"""For loading the largest model from the slowest disk."""
_SECONDS_PER_PIECE: Final = 300.0
"""Ten times what 30 s of speech take the largest model on one slow core."""

log = get_logger()


class ProgramFailed(Exception):
    """There is no result; the text says why."""


class TrackProgram:
    """Starts one child per track."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        variables: Mapping[str, str],
        memory_max_bytes: int = 0,
        make_group: Callable[[str], Path | None] = lambda name: None,
    ) -> None:
        """`command`: of the transcriber; `track DIRECTORY` is added. `variables`: all of its environment.
        `memory_max_bytes`: of the child and all it starts; 0: no limit. `make_group`: a control group for a
        child, by a name of its own; None: there are none here."""
        self._command = tuple(command)
        self._variables = dict(variables)
        self._memory_max_bytes = memory_max_bytes
        self._make_group = make_group

    async def run(
        self, directory: Path, *, pieces: int, on_progress: Callable[[int], None]
    ) -> bytes:
        """The result of the bundle in `directory`. Cancelled, it leaves no process behind.

        Raises:
            ProgramFailed: there is none.
            OSError: the program cannot be started, or its result not be read.
        """
        group = await asyncio.to_thread(self._make_group, directory.name)
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "track",
            str(directory),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env=self._variables,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        output = _Output(on_progress)
        reading = asyncio.create_task(output.read(process), name="track-output")
        limit_s = _SECONDS_PER_TRACK + pieces * _SECONDS_PER_PIECE
        try:
            _yield_to_calls(process.pid, group)
            async with asyncio.timeout(limit_s):
                await self._watch(process)
        except TimeoutError:
            raise ProgramFailed(f"it took longer than {limit_s:g} s") from None
        finally:
            reason = await _end(process, group)
            await reading
        reason = reason or output.reason
        return await asyncio.to_thread(_result, directory, process.returncode, reason)

    async def _watch(self, process: Process) -> None:
        """Until it has ended. Raises ProgramFailed: it uses too much memory."""
        ending = asyncio.create_task(process.wait(), name="track-process")
        try:
            while not (await asyncio.wait([ending], timeout=_MEMORY_CHECK_S))[0]:
                if not self._memory_max_bytes:
                    continue
                used = await asyncio.to_thread(_resident_bytes, process.pid)
                if used > self._memory_max_bytes:
                    most = self._memory_max_bytes
                    raise ProgramFailed(
                        f"it used {used} bytes of memory: at most {most} are allowed"
                    )
        finally:
            ending.cancel()


class _Output:
    """Lines of JSON (docs/job-contract.md 5), and whatever libraries print."""

    def __init__(self, on_progress: Callable[[int], None]) -> None:
        self.reason = ""
        self._on_progress = on_progress

    async def read(self, process: Process) -> None:
        """To the end of it."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than any of ours
                continue
            if not line:
                return
            with suppress(ValueError):
                self._take(json.loads(line))

    def _take(self, entry: Any) -> None:
        if not isinstance(entry, dict):
            return
        if entry.get("event") == "progress" and isinstance(entry.get("done"), int):
            self._on_progress(entry["done"])
        elif entry.get("event") == "track.failed":
            self.reason = str(entry.get("reason"))


def _yield_to_calls(pid: int, group: Path | None) -> None:
    with suppress(OSError):  # it has ended already
        if group is not None:
            (group / "cgroup.procs").write_text(str(pid))
        os.setpriority(os.PRIO_PROCESS, pid, POST_CALL.nice)


async def _end(process: Process, group: Path | None) -> str:
    """Whatever is left of it; why the kernel ended it, if it did."""
    if process.returncode is None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()
    if group is None:
        return ""
    killed = job_group.killed_for_memory(str(group))
    job_group.kill(str(group))
    await asyncio.to_thread(job_group.remove, str(group))
    return MEMORY_TEXTS.get(killed or "", "")


def _resident_bytes(pid: int) -> int:
    """Of a session's leader and everything in it."""
    with suppress(ProcessLookupError):
        return read_process_stats(pid).rss_bytes + session_rss_bytes(pid)
    return 0


def _result(directory: Path, exit_code: int | None, reason: str) -> bytes:
    """Raises ProgramFailed, OSError."""
    if exit_code != 0:
        raise ProgramFailed(reason or f"it ended with exit code {exit_code}")
    path = directory / RESULT_NAME
    if path.stat().st_size > _MOST_RESULT_BYTES:
        raise ProgramFailed(f"its result has more than {_MOST_RESULT_BYTES} bytes")
    return path.read_bytes()
