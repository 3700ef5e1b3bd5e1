"""One decoding process, from its start to its end: what it is asked and what it answers. Blocking."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from foundation.logs import get_logger
from jobs.recorder.decoding.patience import Impatient, Patience
from jobs.recorder.decoding.wire import ANSWER, DECODERS, FRAME, GREETING, QUESTION, Ask, Verdict

_PROGRAM: Final = (
    "import sys, runpy\n"
    "sys.path[:] = sys.argv[3:]\n"
    "runpy.run_module('jobs.recorder.decoding.child', run_name='__main__')\n"
)
_START_LIMIT_S: Final = 10.0
_ANSWER_LIMIT_S: Final = 3.0
_END_LIMIT_S: Final = 5.0
_MOST_GREETING: Final = 4096
_log = get_logger(component="decoder")


class ProcessLost(Exception):
    """It ended, hung, or answered nonsense; the message says which, without anything of a participant."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To one question (`wire.ANSWER`)."""

    verdict: Verdict
    taken: int
    shown: int
    place: int
    width: int
    height: int


class DecodingProcess:
    """`frames`, `picture` and `forget` one after another, from any thread; then `end`.

    It has no token, nothing else in its environment, no descriptors but its socket and the shared memory, and
    takes everything else from itself (`confinement`) before the first question.
    """

    def __init__(self, memory_number: int) -> None:
        """Starts it, and does not wait. Raises OSError: no process can be started."""
        self._end, theirs = socket.socketpair()
        self._end.setblocking(False)
        self._started_s = time.monotonic()
        self.greeted = False
        """It has started and confined itself."""
        here = [os.path.abspath(entry) for entry in sys.path]
        numbers = (theirs.fileno(), memory_number)
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_options(), "-c", _PROGRAM, *map(str, numbers), *here],
                env={"MALLOC_ARENA_MAX": "1"},
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                process_group=0,  # a signal to the job's group is not meant for it
            )
        except BaseException:
            self._end.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended_by_itself(self) -> bool:
        """Nothing was to be done for a while."""
        return self._process.poll() == 0

    def frames(self, track: int, frames: Sequence[tuple[str, bytes]], slot: int | None) -> Answer:
        """Decode: FFmpeg's name of the decoder and the bytes of each. Raises ProcessLost."""
        parts = [FRAME.pack(DECODERS.index(name), len(data)) + data for name, data in frames]
        return self._ask(Ask.FRAMES, len(frames), slot, track, b"".join(parts))

    def picture(self, data: bytes, slot: int) -> Answer:
        """A user's picture as a small square. Raises ProcessLost."""
        return self._ask(Ask.PICTURE, 1, slot, 0, data)

    def forget(self, track: int) -> None:
        """It is over. Raises ProcessLost."""
        self._send(QUESTION.pack(Ask.FORGET, 0, -1, track, 0), self._patience())

    def kill(self) -> None:
        """From any thread; `end` has to follow."""
        self._process.kill()

    def end(self) -> int:
        """At once; its exit code, negative for a signal."""
        self._end.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_LIMIT_S)
        return self._process.returncode or 0

    def _ask(self, ask: Ask, count: int, slot: int | None, track: int, data: bytes) -> Answer:
        number = -1 if slot is None else slot
        self._await_greeting()
        patience = self._patience()
        self._send(QUESTION.pack(ask, count, number, track, len(data)) + data, patience)
        answer = self._receive(ANSWER.size, patience)
        try:
            verdict, *numbers = ANSWER.unpack(answer)
            return Answer(Verdict(verdict), *numbers)
        except ValueError:
            raise ProcessLost("nonsense") from None

    def _await_greeting(self) -> None:
        if self.greeted:
            return
        patience = Patience(self.pid, _START_LIMIT_S, starting=True)
        (size,) = GREETING.unpack(self._receive(GREETING.size, patience))
        refused = json.loads(self._receive(min(size, _MOST_GREETING), patience))
        if refused:
            _log.warning("decoder.unconfined", refused=refused)
        self.greeted = True
        took_s = round(time.monotonic() - self._started_s, 3)
        _log.info("decoder.started", process=self.pid, ready_after_s=took_s)

    def _patience(self) -> Patience:
        return Patience(self.pid, _ANSWER_LIMIT_S)

    def _send(self, data: bytes, patience: Patience) -> None:
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[self._end.send(left) :]
                except BlockingIOError:
                    patience.wait(self._end, select.POLLOUT)
        except Impatient as reason:
            raise ProcessLost(str(reason)) from None
        except OSError:
            raise ProcessLost("ended") from None

    def _receive(self, size: int, patience: Patience) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        try:
            while left:
                try:
                    count = self._end.recv_into(left)
                except BlockingIOError:
                    patience.wait(self._end, select.POLLIN)
                    continue
                if count == 0:
                    raise ProcessLost("ended")
                left = left[count:]
        except Impatient as reason:
            raise ProcessLost(str(reason)) from None
        except OSError:
            raise ProcessLost("ended") from None
        return data


def _options() -> list[str]:
    """Neither the environment nor the user's site directory says what is loaded. Compiled modules are kept as
    the recorder keeps its own: compiling anew takes 4 MiB and as long as all the rest of the start."""
    return ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
