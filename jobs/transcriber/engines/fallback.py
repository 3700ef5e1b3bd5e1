"""A service's substitute: what it does not do is done here, with a local model loaded when it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from foundation.logs import get_logger
from jobs.transcriber.engines.base import (
    EngineError,
    EngineInfo,
    Recognition,
    SpeechEngine,
    close_engine,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(component="fallback")


class FallbackEngine:
    """`first`, and whatever `load` gives for the pieces at which it fails."""

    def __init__(self, first: SpeechEngine, load: Callable[[], SpeechEngine]) -> None:
        """`load` blocks, raises EngineLoadError, and is called once, at the first failure."""
        self._first = first
        self._load = load
        self._loading = threading.Lock()
        self._second: SpeechEngine | None = None
        self._closed = False
        self.pieces = 0
        """Done by the substitute."""

    @property
    def info(self) -> EngineInfo:
        return self._first.info

    def close(self) -> None:
        """See `close_engine`. No substitute is loaded any more."""
        self._closed = True
        for engine in (self._first, self._second):
            if engine is not None:
                close_engine(engine)

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """See `SpeechEngine.transcribe`."""
        try:
            return self._first.transcribe(audio, language=language)
        except EngineError as error:
            _log.warning("speech.fallback", reason=str(error))
        result = self._substitute().transcribe(audio, language=language)
        self.pieces += 1
        return result

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """See `SpeechEngine.hypothesise`: of `first` alone, a caption that comes late helps nobody."""
        return self._first.hypothesise(
            audio, language=language, context_s=context_s, complete=complete
        )

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """See `SpeechEngine.detect_language`."""
        return self._first.detect_language(audio)

    def _substitute(self) -> SpeechEngine:
        with self._loading:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._second is None:
                self._second = self._load()
                if self._closed:
                    close_engine(self._second)
            return self._second
