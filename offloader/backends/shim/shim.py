"""Starts the job's program, keeps its log, passes on the wish to stop, and reports how it ended.

In a session of its own, so that it outlives the service: whoever comes later reads `shim.json` and
`exit.json` in the job's directory.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from offloader.backends.shim import job_group
from offloader.backends.shim.capped_log import CappedLog
from offloader.backends.shim.json_file import FORMAT, write_json
from offloader.backends.shim.leftovers import become_subreaper, kill_leftovers
from offloader.backends.shim.other_user import spawn_as
from offloader.backends.shim.process_table import (
    boot_id,
    send_signal,
    session_rss_bytes,
    start_ticks,
)

_CHUNK_BYTES = 64 * 1024
_MEMORY_CHECK_S = 1.0
"""A job that leaks takes longer than this to hurt its neighbours; a look costs about a millisecond."""
_SUDDEN_GROWTH = 4
"""So many times its limit a process may ask for between two looks, mapped but unused memory included."""


class Shim:
    """Starts the child, forwards the wish to stop, kills after the grace, reports the end."""

    def __init__(
        self,
        command: list[str],
        *,
        identity: Mapping[str, object],
        log: CappedLog,
        grace_s: float,
        memory_max_bytes: int = 0,
        nice: int = 0,
        group: str | None = None,
        group_limits_memory: bool = False,
        home_group: str = "",
        user: tuple[int, int] | None = None,
    ) -> None:
        """`memory_max_bytes`: of the job and everything it started together; 0: no limit.

        `group`: the control group that the job shall run in, alone; with `group_limits_memory` the kernel
        watches over the limit, else the shim does. `home_group`: the shim's own. `user`: IDs of the user and
        the group that the job runs as; None: the shim's own.
        """
        self._user = user
        self._command = command
        self._memory_max_bytes = memory_max_bytes
        self._memory_check_at_s = time.monotonic()
        self._memory_excess_bytes = 0
        self._nice = nice
        self._group = group
        self._group_limits_memory = group_limits_memory
        self._home_group = home_group
        self._identity = identity
        self._log = log
        self._grace_s = grace_s
        self._kill_at_s: float | None = None
        """On the host's monotonic clock."""
        self._killed = False
        self._stop_wished = False
        self._started_at_s = time.time()

    def run(self) -> None:
        """Stay until the child and everything it started are gone and `exit.json` is written."""
        wake_fd = self._catch_signals()
        self._write_identity(child_pid=None)
        become_subreaper()
        output_fd, child_output_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self._child = self._start(child_output_fd)
        except OSError as error:
            text = f"cannot start {self._command[0]}: {error.strerror}"
            self._write_exit(exit_code=None, error=text)
            self._remove_group()
            return
        os.close(child_output_fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        self._write_identity(child_pid=self._child)
        self._serve(output_fd, wake_fd)
        self._end(output_fd)

    def _catch_signals(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return read_fd

    def _start(self, output_fd: int) -> int:
        """The child begins in the job's group, by way of this process: it never runs without limits."""
        self._enter_group()
        try:
            _limit_resources(self._memory_max_bytes)
            child = self._spawn(output_fd)
        finally:
            self._leave_group()
        with suppress(OSError):  # it has ended already, or the service itself may do no better
            os.setpriority(os.PRIO_PGRP, child, self._nice)
        return child

    def _enter_group(self) -> None:
        if self._group is not None:
            try:
                job_group.enter(self._group)
            except OSError:
                self._group = None
            else:
                if self._group_limits_memory:
                    self._memory_max_bytes = 0

    def _leave_group(self) -> None:
        """What is done to the job's group must not hit the shim."""
        if self._group is not None:
            try:
                job_group.enter(self._home_group)
            except OSError:
                self._group = None

    def _spawn(self, output_fd: int) -> int:
        if self._user is not None:
            uid, gid = self._user
            return spawn_as(uid, gid, self._command, output_fd=output_fd, nice=self._nice)
        return os.posix_spawnp(
            self._command[0],
            self._command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output_fd, 1),
                (os.POSIX_SPAWN_DUP2, output_fd, 2),
            ],
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGHUP, signal.SIGXFSZ),
        )

    def _serve(self, output_fd: int, wake_fd: int) -> None:
        """Copy output to the log until the child has ended; it is left unreaped."""
        sources = [output_fd, wake_fd]
        while not self._child_ended():
            wake_in_s = max(min(self._kill_in_s(), _MEMORY_CHECK_S), 0.0)
            ready, _, _ = select.select(sources, [], [], wake_in_s)
            if wake_fd in ready:
                os.read(wake_fd, 4096)
            if output_fd in ready:
                data = os.read(output_fd, _CHUNK_BYTES)
                self._log.write(data)
                if not data:
                    sources.remove(output_fd)
            if self._stop_wished:
                self._stop_wished = False
                self._write_identity(child_pid=self._child)
            if self._kill_in_s() <= 0.0:
                self._killed = True
                self._kill_at_s = None
                self._kill_all()
            self._check_memory()

    def _check_memory(self) -> None:
        """Kill a job that uses too much: the host's own OOM killer might choose another one."""
        if not self._memory_max_bytes or time.monotonic() < self._memory_check_at_s:
            return
        self._memory_check_at_s = time.monotonic() + _MEMORY_CHECK_S
        used = session_rss_bytes(os.getpid())
        if used > self._memory_max_bytes:
            self._memory_excess_bytes = used
            self._kill_all()

    def _kill_in_s(self) -> float:
        return float("inf") if self._kill_at_s is None else self._kill_at_s - time.monotonic()

    def _stop(self) -> None:
        """Signal handler: pass the wish on; the kill comes when `stop.json` or else the own grace says."""
        try:
            with open("stop.json", encoding="utf-8") as file:
                kill_at_s = float(json.load(file)["kill_at_monotonic_s"])
        except (OSError, ValueError, KeyError, TypeError):
            kill_at_s = time.monotonic() + self._grace_s
        if not self._killed:
            earliest = kill_at_s if self._kill_at_s is None else min(kill_at_s, self._kill_at_s)
            self._kill_at_s = earliest
        self._stop_wished = True
        send_signal(self._child, signal.SIGTERM)

    def _child_ended(self) -> bool:
        """Reap adopted orphans; tell whether the child itself ended, without reaping it.

        While it is a zombie its ID stays taken, so that its process group can be killed safely.
        """
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if ended is None:
                return False
            if ended.si_pid == self._child:
                return True
            os.waitpid(ended.si_pid, 0)

    def _end(self, output_fd: int) -> None:
        self._kill_all()
        _, status, usage = os.wait4(self._child, 0)
        leftovers = kill_leftovers()
        _drain(output_fd, self._log)
        self._log.close()
        code = os.waitstatus_to_exitcode(status)
        self._write_exit(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            killed_after_grace=self._killed,
            killed_leftovers=leftovers,
            killed_at_rss_bytes=self._memory_excess_bytes or None,
            killed_for_memory=self._group and job_group.killed_for_memory(self._group),
            total_cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            max_rss_bytes=usage.ru_maxrss * 1024,
            log_dropped_bytes=self._log.dropped_bytes,
        )
        self._remove_group()

    def _kill_all(self) -> None:
        if self._group is not None:
            job_group.kill(self._group)
        send_signal(-self._child, signal.SIGKILL)

    def _remove_group(self) -> None:
        if self._group is not None:
            job_group.remove(self._group)  # else the service's next start does

    def _write_identity(self, *, child_pid: int | None) -> None:
        document = {
            "format": FORMAT,
            **self._identity,
            "boot_id": boot_id(),
            "shim_pid": os.getpid(),
            "shim_start_ticks": start_ticks(os.getpid()),
            "child_pid": child_pid,
            "child_start_ticks": child_pid and start_ticks(child_pid),
            "cgroup": self._group,
            "kill_at_monotonic_s": self._kill_at_s,
            "started_at_s": self._started_at_s,
        }
        write_json("shim.json", document)

    def _write_exit(self, **facts: object) -> None:
        times = {"started_at_s": self._started_at_s, "stopped_at_s": time.time()}
        write_json("exit.json", {**facts, **times}, durable=True)


def main(arguments: list[str]) -> None:
    """`OPTIONS-AS-JSON command…`, with the job's environment; `process_launch` writes the options."""
    options = json.loads(arguments[0])
    os.umask(0o077)
    os.chdir(options["directory"])
    os.closerange(3, 256)  # nothing of the service may stay open because a job runs
    identity = {"job_id": options["job_id"], "job_type": options["job_type"]}
    Shim(
        arguments[1:],
        identity=identity,
        log=CappedLog(options["log_max_bytes"]),
        grace_s=options["grace_s"],
        memory_max_bytes=options.get("memory_max_bytes", 0),
        nice=options.get("nice", 0),
        group=options.get("group"),
        group_limits_memory=options.get("group_limits_memory", False),
        home_group=options.get("home_group", ""),
        user=(options["uid"], options["gid"]) if "uid" in options else None,
    ).run()


def _limit_resources(memory_max_bytes: int) -> None:
    """What the child inherits (setrlimit(2)). The shim itself is far below."""
    # A core dump would hold speech and the token.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_max_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _SUDDEN_GROWTH * memory_max_bytes
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _drain(fd: int, log: CappedLog) -> None:
    """Take what is still in the pipe; a stranger that holds its other end cannot keep us."""
    os.set_blocking(fd, False)
    while True:
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            return
        log.write(data)
