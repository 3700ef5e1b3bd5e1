"""The shim: a tiny process that owns one job's process, its log and its exit code.

Run as `python -I -S shim.py …` by the process backend, in a session of its own; standard library only,
and nothing slow is imported, so that it is up in some 15 ms. It outlives the service: whoever comes later
reads `shim.json` and `exit.json` in the job's directory. Files and signals: docs/job-contract.md 6.

The log keeps its first half (`job.log`) and its newest part (`job.tail.N.log`, the two highest N): the
start says what the job was told, the end why it died.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import Any

_CHUNK_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 64 * 1024
"""A file that has reached its limit still takes this much of a line that does not end."""
_LEFTOVERS_TIMEOUT_S = 2.0
_MEMORY_CHECK_S = 1.0
"""A job that leaks takes longer than this to hurt its neighbours; a look costs about a millisecond."""
_PR_SET_CHILD_SUBREAPER = 36


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22); None: gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def session_rss_bytes(session_id: int) -> int:
    """Resident memory of all processes of a session but its leader (proc(5), fields 6 and 24), bytes.

    Pages that several of them share count more than once.
    """
    pages = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == session_id:
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session_id:
            pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")


def boot_id() -> str:
    """Changes at each boot: process IDs and ticks of another boot mean nothing. Empty: not to be had."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def write_json(path: str, document: dict[str, Any], *, durable: bool = False) -> None:
    """Replace `path` at once: a reader sees the old or the new document, `durable` also after a power cut."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(document, file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


class CappedLog:
    """Writes `job.log` and, when that holds half of the cap, `job.tail.1.log`, `job.tail.2.log`, …

    Of the tail files, a quarter of the cap each, the two newest are kept. A disk that is full costs log
    lines, never the job: they are counted.
    """

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._tail = 0
        self._open()
        self.dropped_bytes = 0

    def write(self, data: bytes) -> None:
        """Append; files change at the first line end past their share."""
        while data:
            room = max(self._limit_bytes - self._size, 0)
            end = data.find(b"\n", room) + 1 if len(data) > room else 0
            if not end and self._size + len(data) >= self._limit_bytes + _LONGEST_LINE_BYTES:
                end = len(data)
            if not end:
                self._append(data)
                return
            self._append(data[:end])
            self._next_file()
            data = data[end:]

    def close(self) -> None:
        os.close(self._fd)

    @property
    def _limit_bytes(self) -> int:
        return self._cap_bytes // (4 if self._tail else 2)

    def _open(self) -> None:
        name = tail_name(self._tail) if self._tail else "job.log"
        self._fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._size = 0

    def _next_file(self) -> None:
        os.close(self._fd)
        self._tail += 1
        if self._tail > 2:
            oldest = tail_name(self._tail - 2)
            self.dropped_bytes += os.path.getsize(oldest)
            os.unlink(oldest)
        self._open()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError:
                self.dropped_bytes += len(view)
                return
            self._size += written
            view = view[written:]


def tail_name(number: int) -> str:
    return f"job.tail.{number}.log"


class Shim:
    """Starts the child, forwards the wish to stop, kills after the grace, reports the end."""

    def __init__(
        self,
        command: list[str],
        *,
        identity: dict[str, Any],
        log: CappedLog,
        grace_s: float,
        memory_max_bytes: int = 0,
    ) -> None:
        """`memory_max_bytes`: of the job and everything it started together; 0: no limit."""
        self._command = command
        self._memory_max_bytes = memory_max_bytes
        self._memory_check_at_s = time.monotonic()
        self._memory_excess_bytes = 0
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
        _become_subreaper()
        output_fd, child_output_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self._child = self._spawn(child_output_fd)
        except OSError as error:
            text = f"cannot start {self._command[0]}: {error.strerror}"
            self._write_exit(exit_code=None, error=text)
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

    def _spawn(self, output_fd: int) -> int:
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
                self._kill_group()
            self._check_memory()

    def _check_memory(self) -> None:
        """Kill a job that uses too much: the host's own OOM killer might choose another one."""
        if not self._memory_max_bytes or time.monotonic() < self._memory_check_at_s:
            return
        self._memory_check_at_s = time.monotonic() + _MEMORY_CHECK_S
        used = session_rss_bytes(os.getpid())
        if used > self._memory_max_bytes:
            self._memory_excess_bytes = used
            self._kill_group()

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
        _signal(self._child, signal.SIGTERM)

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
        self._kill_group()
        _, status, usage = os.wait4(self._child, 0)
        leftovers = _kill_leftovers()
        _drain(output_fd, self._log)
        self._log.close()
        code = os.waitstatus_to_exitcode(status)
        self._write_exit(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            killed_after_grace=self._killed,
            killed_leftovers=leftovers,
            killed_at_rss_bytes=self._memory_excess_bytes or None,
            total_cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            max_rss_bytes=usage.ru_maxrss * 1024,
            log_dropped_bytes=self._log.dropped_bytes,
        )

    def _kill_group(self) -> None:
        _signal(-self._child, signal.SIGKILL)

    def _write_identity(self, *, child_pid: int | None) -> None:
        document = {
            **self._identity,
            "boot_id": boot_id(),
            "shim_pid": os.getpid(),
            "shim_start_ticks": start_ticks(os.getpid()),
            "child_pid": child_pid,
            "child_start_ticks": child_pid and start_ticks(child_pid),
            "kill_at_monotonic_s": self._kill_at_s,
            "started_at_s": self._started_at_s,
        }
        write_json("shim.json", document)

    def _write_exit(self, **facts: Any) -> None:
        times = {"started_at_s": self._started_at_s, "stopped_at_s": time.time()}
        write_json("exit.json", {**facts, **times}, durable=True)


def _become_subreaper() -> None:
    """Adopt what the child's own children leave behind, also from sessions of their own (prctl(2))."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        return  # they end up with the system's first process: outside the group, nobody kills them


def _kill_leftovers() -> int:
    """Kill and reap every process that is a child of this one by now; how many there were."""
    killed: set[int] = set()
    deadline_s = time.monotonic() + _LEFTOVERS_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            fresh = _own_children() - killed
            for child in fresh:
                _signal(child, signal.SIGKILL)
            killed |= fresh
            time.sleep(0.005)
    return len(killed)


def _own_children() -> set[int]:
    me = os.getpid()
    children = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == me:
                children.add(int(name))
    return children


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


def _signal(pid: int, number: signal.Signals) -> None:
    """Signal a process, or with a negative ID a process group; one that is gone needs none."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def main(arguments: list[str]) -> None:
    """`shim.py OPTIONS-AS-JSON command…`, with the job's environment."""
    options = json.loads(arguments[0])
    os.umask(0o077)
    os.chdir(options["directory"])
    os.closerange(3, 256)  # nothing of the service may stay open because a job runs
    identity = {"job_id": options["job_id"], "job_type": options["job_type"]}
    log = CappedLog(options["log_max_bytes"])
    Shim(
        arguments[1:],
        identity=identity,
        log=log,
        grace_s=options["grace_s"],
        memory_max_bytes=options.get("memory_max_bytes", 0),
    ).run()


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # nothing is left to tidy up, and whoever waits for this process waits less
