"""The local engine in a process of its own: native code that crashes, hangs or is killed takes no call along.

It is the first to go when memory runs out. When it dies it is started again and counted, and what it was
doing is done once more; only what kills it again and again is given up. A call that takes too long ends the
process too, and costs its own piece alone. One that cannot be started is no fault of any piece.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from foundation.logs import get_logger
from jobs.transcriber.engines.base import (
    EngineError,
    EngineInfo,
    EngineLoadError,
    EngineUnavailable,
    Recognition,
)
from jobs.transcriber.engines.child import Child, Died, Recipe
from jobs.transcriber.engines.hints import CallHints

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ATTEMPTS: Final = 3
"""At a piece during which the process dies; it may have been another piece's fault once or twice."""
_INTERRUPTIONS: Final = 10
"""Of a piece, by other calls that hang: they are not its fault, but have to end some time."""
_LOAD_LIMIT_S: Final = 600.0
_RELOAD_LIMIT_S: Final = 200.0
"""What was loaded before lies in memory as a rule."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 4.0
"""Between starts that fail; what takes the memory may be gone by then."""
_log = get_logger(component="engine-process")


class Restarts:
    """How often engines' processes were started again, all of a job's together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self) -> None:
        """One more; from any thread."""
        with self._lock:
            self.count += 1


class EngineProcess:
    """A `SpeechEngine`. The process ends with `close`, with this object, and with its parent."""

    def __init__(
        self, recipe: Recipe, *, hints: CallHints | None = None, restarts: Restarts | None = None
    ) -> None:
        """Start it and load the model. Blocks for tenths of a second to seconds.

        Raises:
            EngineLoadError: the model cannot be loaded, or no process be started.
        """
        self._recipe = recipe
        self._hints = hints or CallHints()
        self._restarts = restarts or Restarts()
        self._starting = threading.Lock()
        self._alone = threading.Lock()
        """Held by a second attempt: what kills the process must not take somebody else's last one."""
        self._failed_starts = 0
        """In a row."""
        self._rests = False
        """Its process was ended by `rest`; guarded by `_starting`."""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        """Of `_children` and `_closing`: what is started is ended."""
        self._children: list[Child] = []
        """The one that is used, or being started."""
        # Wherever the collector runs, the event loop's thread or the child's own: nothing waits there.
        weakref.finalize(self, _kill, self._children)
        self._info = self._start(_LOAD_LIMIT_S)

    def close(self) -> None:
        """End the process; calls raise EngineError from now on. Blocks. Idempotent; from any thread."""
        with self._lock:
            self._closing.set()
            children = list(self._children)
        for child in children:
            child.end()

    def rest(self) -> None:
        """End the process, and start it again at the next call, when there is one. Blocks."""
        with self._starting:
            if not self._closing.is_set():
                self._rests = True
                self._children[0].end()

    @property
    def info(self) -> EngineInfo:
        return self._info

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """See `SpeechEngine.transcribe`."""
        result: Recognition = self._call("transcribe", audio=audio, language=language)
        return result

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """See `SpeechEngine.hypothesise`."""
        result: Recognition = self._call(
            "hypothesise",
            audio=audio,
            language=language,
            context_s=context_s,
            complete=complete,
        )
        return result

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """See `SpeechEngine.detect_language`."""
        if not self._info.detects_language:
            return ()
        result: tuple[tuple[str, float], ...] = self._call("detect_language", audio=audio)
        return result

    def _call(self, method: str, **arguments: Any) -> Any:
        attempts = interruptions = 0
        not_started: EngineLoadError | None = None
        while attempts < _ATTEMPTS and interruptions < _INTERRUPTIONS:
            with self._alone if attempts else nullcontext():
                try:
                    return self._running().ask(method, self._hints.now, arguments)
                except EngineLoadError as error:
                    not_started = error
                    attempts += 1
                except Died as death:
                    if death.by_other_call:
                        interruptions += 1
                    else:
                        attempts += 1
            if self._closing.is_set():
                raise EngineError("the engine is closed")
        if not_started is not None:
            raise EngineUnavailable(str(not_started))
        if interruptions == _INTERRUPTIONS:
            raise EngineUnavailable(f"interrupted {interruptions} times by calls that hang")
        raise EngineError(f"the engine's process ended {_ATTEMPTS} times over this piece")

    def _running(self) -> Child:
        """Raises EngineLoadError."""
        with self._starting:
            child = self._children[0]
            if not child.dead:
                return child
            child.end()
            if self._failed_starts:
                pause_s = _FIRST_PAUSE_S * 2 ** min(self._failed_starts - 1, 10)
                self._closing.wait(min(pause_s, _LONGEST_PAUSE_S))
            if not self._rests:
                self._restarts.add()
                count = self._restarts.count
                _log.error("engine.restarted", exit_code=child.exit_code, restarts=count)
            try:
                self._start(_RELOAD_LIMIT_S)
            except EngineLoadError as error:
                self._failed_starts += 1
                _log.error("engine.not_started", in_a_row=self._failed_starts, reason=str(error))
                raise
            self._failed_starts, self._rests = 0, False
            return self._children[0]

    def _start(self, limit_s: float) -> EngineInfo:
        """Raises EngineLoadError."""
        with self._lock:
            if self._closing.is_set():
                raise EngineLoadError("the engine is closed")
            try:
                child = Child()
            except OSError as error:
                raise EngineLoadError(
                    f"no process for the engine can be started: {error.strerror}"
                ) from error
            self._children[:] = [child]
        return child.load(self._recipe, limit_s=limit_s)


def _kill(children: list[Child]) -> None:
    for child in children:
        child.kill()
