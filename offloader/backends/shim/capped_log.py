"""The job's log with a largest size: its start says what the job was told, its end why it died."""

from __future__ import annotations

import os

_LONGEST_LINE_BYTES = 64 * 1024
"""A file that has reached its limit still takes this much of a line that does not end."""


class CappedLog:
    """Writes `job.log` and, when that holds half of the cap, `job.tail.1.log`, `job.tail.2.log`, …

    Of the tail files, a quarter of the cap each, the two newest are kept. A disk that is full costs log
    lines, never the job: they are counted.
    """

    def __init__(self, cap_bytes: int, directory: str = "", *, continued_at: int = -1) -> None:
        """`directory`: where the files are; empty: here. `continued_at`: number of the newest file (0:
        `job.log`), to go on writing there; -1: begin anew."""
        self._cap_bytes = cap_bytes
        self._directory = directory
        self._tail = max(continued_at, 0)
        self._open(os.O_APPEND if continued_at >= 0 else os.O_TRUNC)
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

    def _open(self, flag: int = os.O_TRUNC) -> None:
        path = self._path(tail_name(self._tail) if self._tail else "job.log")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _next_file(self) -> None:
        os.close(self._fd)
        self._tail += 1
        if self._tail > 2:
            oldest = self._path(tail_name(self._tail - 2))
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
    """Of the tail file with this number, from 1."""
    return f"job.tail.{number}.log"
