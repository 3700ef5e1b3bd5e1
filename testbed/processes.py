"""Processes that cannot get away: everything started here, and whatever that starts, is taken down.

The calling process becomes a child subreaper (prctl(2)), so that orphans, even those in sessions of their
own, stay its descendants and are found in /proc.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_S: Final = 0.05
_KILL_LIMIT_S: Final = 5.0


class StartFailed(Exception):
    """A process ended before it was ready, or was not ready in time; the message names its log."""

    def __init__(self, text: str, *, log: Path | None = None) -> None:
        super().__init__(text)
        self.log = log


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended although it was needed."""

    who: str
    how: str
    """Such as `was killed by SIGKILL` or `ended with exit code 1`."""
    log: Path

    def __str__(self) -> str:
        return f"{self.who} {self.how}; see {self.log}"


class ProcessDied(Exception):
    """A needed process is gone."""

    def __init__(self, death: Death) -> None:
        super().__init__(str(death))
        self.death = death


class Family:
    """All descendants of this process that were not there when it was made."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot become a child subreaper")
        self._strangers = descendants(os.getpid())
        self._own: dict[int, asyncio.subprocess.Process] = {}

    async def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        talks: bool = False,
    ) -> asyncio.subprocess.Process:
        """Start a process in a session of its own (a Ctrl-C is ours to handle, not its).

        Standard error goes to `log`, and so does standard output unless the process `talks` to us.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        pipe = asyncio.subprocess.PIPE
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                stdin=pipe if talks else asyncio.subprocess.DEVNULL,
                stdout=pipe if talks else file,
                stderr=file,
                start_new_session=True,
            )
        self._own[process.pid] = process
        return process

    def alive(self) -> dict[int, str]:
        """Descendants that run, by process id, with what they are; adopted zombies are reaped."""
        found = descendants(os.getpid())
        for pid in found - self._strangers - set(self._own):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return {
            pid: command_line(pid)
            for pid in found - self._strangers
            if process_state(pid) not in ("Z", "X", "")
        }

    async def take_down(self, *, grace_s: float, hurry: asyncio.Event | None = None) -> list[str]:
        """SIGTERM to everybody, SIGKILL after `grace_s` or when `hurry` is set; returns who had to be killed.

        Safe to call again. Not to be cancelled: a killed process takes milliseconds.
        """
        for pid in self.alive():
            send_signal(pid, signal.SIGTERM)
        deadline_s = time.monotonic() + grace_s
        while self.alive() and time.monotonic() < deadline_s:
            if hurry is not None and hurry.is_set():
                break
            await asyncio.sleep(_POLL_S)
        killed: dict[int, str] = {}
        deadline_s = time.monotonic() + _KILL_LIMIT_S
        # Again and again: a process may have been forked while we were looking.
        while (left := self.alive()) and time.monotonic() < deadline_s:
            killed = left | killed  # one that is just dying has no command line any more
            for pid in left:
                send_signal(pid, signal.SIGKILL)
            await asyncio.sleep(_POLL_S)
        for process in self._own.values():
            await process.wait()
        return list(killed.values())


def descendants(root: int) -> set[int]:
    """Process ids of all children of `root`, and theirs, zombies included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            parent = _stat_field(int(entry), 1)
            if parent:
                children.setdefault(int(parent), []).append(int(entry))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        fresh = [pid for pid in children.get(waiting.pop(), []) if pid not in found]
        found.update(fresh)
        waiting += fresh
    return found


def process_state(pid: int) -> str:
    """One letter (proc(5)): R, S, D, Z, …; empty when there is no such process."""
    return _stat_field(pid, 0)


def command_line(pid: int) -> str:
    """The command of a process, for a person."""
    try:
        parts = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(parts[:4]).decode(errors="replace").strip()


def describe_exit(returncode: int) -> str:
    """How a process ended, for a person; negative codes are signals."""
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process, gone or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _stat_field(pid: int, index: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    # The command name may hold spaces and brackets: count after the last one.
    return text[text.rindex(")") + 2 :].split()[index]
