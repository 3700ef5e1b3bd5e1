"""One process of a local engine, from its start to its end: what is sent to it and what comes back.

It has a process group of its own, so that a signal to the job's leaves it alone, no secrets in its
environment, and ends when the other end of its socket does.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.transcriber.engines.base import EngineError, EngineInfo, EngineLoadError
from jobs.transcriber.engines.hints import Hints

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_PROGRAM: Final = "jobs.transcriber.engines.process_main"
_LIMITS_S: Final = {"hypothesise": 55.0, "transcribe": 880.0, "detect_language": 280.0}
"""For answers; less than the limits of the jobs that make the calls (`captions`, `transcript`)."""
_TAKE_LIMIT_S: Final = 20
"""For a request to be taken, which a process does at once unless it hangs with everything it has."""
_END_LIMIT_S: Final = 10.0
"""For a killed process to be gone; one that waits for a disk or a device may take longer."""
HELD_BACK: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Blocked from the first moment of the process until it ignores them."""
_SECRET: Final = re.compile(
    r"(AWS|AZURE|OPENAI|SPEECH)_.*|TRANSCRIBE_API_OPTIONS|.*(TOKEN|SECRET|PASSWORD|CREDENTIAL|API_KEY).*"
    r"|.*_PROXY",
    re.IGNORECASE,
)
"""Variables that a process without network has no use for; a proxy's may hold a password."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which engine the process is to load: the arguments of `FasterWhisperEngine`."""

    model_dir: Path
    workers: int
    threads_per_worker: int
    compute_type: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a `SpeechEngine`'s method."""

    number: int
    method: str
    hints: Hints = field(repr=False)
    arguments: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    number: int
    result: Any = field(repr=False)
    error: str = ""
    """Text of the EngineError; empty: there is a result."""


class Died(Exception):
    """The process ended before it answered."""

    def __init__(self, *, by_other_call: bool = False) -> None:
        """`by_other_call`: it was ended because it did not do what another call wanted."""
        super().__init__()
        self.by_other_call = by_other_call


class Child:
    """Start it, `load`, `ask` from any thread, `end`."""

    def __init__(self) -> None:
        """Raises OSError: no process can be started."""
        ours, theirs = Pipe()
        try:
            with socket.socket(fileno=os.dup(ours.fileno())) as end:
                limit = struct.pack("@ll", _TAKE_LIMIT_S, 0)  # a timeval, socket(7)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            with theirs:
                self._process = _start(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        self._connection: Connection = ours
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._pending: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._given_up = False
        """A call was not taken or not answered in time."""
        self.dead = False
        """Asks nothing any more; every call knows it."""
        self._reader = threading.Thread(target=self._read, name="engine-answers", daemon=True)
        self._reads = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None: it runs."""
        return self._process.poll()

    def load(self, recipe: Recipe, *, limit_s: float) -> EngineInfo:
        """Have the model loaded. Blocks; once, before `ask`. Raises EngineLoadError: it has ended then."""
        try:
            info = self._load(recipe, limit_s)
            self._reader.start()
        except BaseException as error:
            self.dead = True
            self._process.kill()
            self._process.wait()
            self._connection.close()
            if isinstance(error, RuntimeError):  # no more threads
                raise EngineLoadError(str(error)) from None
            raise
        self._reads = True
        return info

    def _load(self, recipe: Recipe, limit_s: float) -> EngineInfo:
        try:
            self._connection.send(recipe)
            if not self._connection.poll(limit_s):
                raise EngineLoadError(
                    f"the model in {recipe.model_dir} was not loaded within {limit_s:g} s"
                )
            told = self._connection.recv()
        except (EOFError, OSError):
            raise EngineLoadError(
                f"the engine's process ended while it loaded the model in {recipe.model_dir}"
            ) from None
        if isinstance(told, EngineInfo):
            return told
        raise EngineLoadError(str(told))

    def ask(self, method: str, hints: Hints, arguments: dict[str, Any]) -> Any:
        """Raises Died; EngineError: the engine's own, or no answer in time."""
        future: Future[Any] = Future()
        with self._lock:
            if self.dead:
                raise Died
            number = next(self._numbers)
            self._pending[number] = future
        try:
            with self._sending:
                self._connection.send(Request(number, method, hints, arguments))
        except OSError as error:
            self._given_up = self._given_up or isinstance(error, BlockingIOError)
            self.end()  # before the next attempt: by then everybody has to know that it is dead
            raise Died from None
        limit_s = _LIMITS_S[method]
        try:
            return future.result(limit_s)
        except TimeoutError:
            self._given_up = True
            self._process.kill()
            raise EngineError(f"no answer within {limit_s:g} s") from None

    def kill(self) -> None:
        """Waits for nothing, from any thread."""
        self._process.kill()

    def end(self) -> None:
        """Idempotent; nothing of it is left. Blocks, and not from its own thread."""
        self._process.kill()
        if self._reads:
            self._reader.join(_END_LIMIT_S)

    def _read(self) -> None:
        try:
            while True:
                answer: Answer = self._connection.recv()
                with self._lock:
                    future = self._pending.pop(answer.number, None)
                if future is None:
                    continue
                if answer.error:
                    future.set_exception(EngineError(answer.error))
                else:
                    future.set_result(answer.result)
        except Exception:  # noqa: BLE001 - the end of it, or of its wits
            self._process.kill()
            self._process.wait()
        with self._lock:
            self.dead = True
            pending, self._pending = list(self._pending.values()), {}
        with self._sending:
            self._connection.close()
        for future in pending:
            future.set_exception(Died(by_other_call=self._given_up))


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process that only computes may know."""
    return {name: value for name, value in environ.items() if not _SECRET.fullmatch(name)}


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    # A process begins with the signal mask of the thread that starts it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        return subprocess.Popen(
            # -P: what lies in the working directory is no module.
            [sys.executable, "-P", "-m", _PROGRAM, str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            process_group=0,
            env=without_secrets(os.environ),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
