"""How long the recorder waits for the decoding process: by what that process does, not by the clock alone.

A process that has a question to answer computes, or would like to: on a busy host it waits for a processor
or for the disk, which proc(5) tells (R, D). Asleep (S) or stopped (T) for more than a moment, it waits
for what will never come.
"""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from typing import Final

_LOOK_MS: Final = 50
_HUNG_MS: Final = 300
_ASLEEP: Final = frozenset("STt")
"""Interruptible sleep; stopped by a signal or a tracer."""


class Impatient(Exception):
    """Enough: the message is `hung` or `no answer`."""


class Patience:
    """For one question. What is waited counts look by look, none for more than it was to take: when the whole
    host stands still, or the recorder alone does, the process had no time either."""

    def __init__(self, pid: int, limit_s: float, *, starting: bool = False) -> None:
        """`limit_s`: in all, whatever it does; `starting`: it may sleep, over files that are far away."""
        self._stat = Path(f"/proc/{pid}/stat")
        self._limit_ms = limit_s * 1000
        self._starting = starting
        self._waited_ms = self._asleep_ms = 0
        self._cpu_ticks = -1

    def wait(self, end: socket.socket, event: int) -> None:
        """Return when there is something to read (POLLIN) or room to write (POLLOUT). Blocks.

        Raises:
            Impatient: nothing will come any more.
        """
        poll = select.poll()
        poll.register(end, event)
        while True:
            began_ns = time.monotonic_ns()
            if poll.poll(_LOOK_MS):
                self._asleep_ms = 0
                return
            self.look(time.monotonic_ns() - began_ns)

    def look(self, waited_ns: int) -> None:
        """After another `waited_ns` without anything. Raises Impatient."""
        counted_ms = min(waited_ns // 1_000_000, _LOOK_MS)
        self._waited_ms += counted_ms
        self._asleep_ms = self._asleep_ms + counted_ms if self._is_asleep() else 0
        if self._asleep_ms >= _HUNG_MS and not self._starting:
            raise Impatient("hung")
        if self._waited_ms >= self._limit_ms:
            raise Impatient("no answer")

    def _is_asleep(self) -> bool:
        """And has not computed since the look before; False where the system does not tell."""
        try:
            text = self._stat.read_text()
        except OSError:
            return False
        # The command name in field 2 may hold spaces and brackets: count fields after the last one.
        state, *fields = text[text.rindex(")") + 2 :].split()
        cpu_ticks, before = int(fields[10]) + int(fields[11]), self._cpu_ticks
        self._cpu_ticks = cpu_ticks
        return state in _ASLEEP and cpu_ticks == before
