"""The bundled model with the cost of a real one: what `base` would compute is burnt as CPU, not slept.

The table was measured with a model of base's dimensions (int8, one thread, 2 vCPU Xeon with AVX-512; random
weights, fixed numbers of tokens). What the small model costs itself comes on top.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from jobs.transcriber.engines.base import EngineInfo, Recognition, SpeechEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CONTEXT_S: Final = (0.0, 5.0, 10.0, 15.0, 30.0)
_ENCODE_S: Final = (0.01, 0.037, 0.09, 0.216, 0.88)
_SHORT_S: Final = 10.0
_FULL_S: Final = 30.0
_FIXED_S: Final = (0.024, 0.047)
"""Of one `generate`, with 10 and with 30 s of context."""
_TOKEN_S: Final = (0.0042, 0.009)
_ALIGN_S: Final = 0.026
_ALIGN_TOKEN_S: Final = 0.0007
_TOKENS_PER_WORD: Final = 1.3
_BLOCK: Final = bytes(1 << 20)
"""One hash of it takes about a millisecond, without the GIL, as a model's kernels."""
_RATE_HZ: Final = 16_000


def base_cost_s(*, context_s: float, words: int) -> float:
    """CPU seconds of one pass with base: encode, generate greedily, align."""
    tokens = _TOKENS_PER_WORD * words + 2
    between = (_SHORT_S, _FULL_S)
    fixed_s = float(np.interp(context_s, between, _FIXED_S))
    token_s = float(np.interp(context_s, between, _TOKEN_S))
    encode_s = float(np.interp(context_s, _CONTEXT_S, _ENCODE_S))
    return encode_s + fixed_s + tokens * (token_s + _ALIGN_TOKEN_S) + _ALIGN_S


def burn(cpu_s: float) -> None:
    """Use so much CPU time of this thread, however long that takes on a busy machine."""
    until_ns = time.thread_time_ns() + round(cpu_s * 1e9)
    while time.thread_time_ns() < until_ns:
        hashlib.sha256(_BLOCK)


class BurningEngine:
    """A `SpeechEngine` around another one."""

    def __init__(self, engine: SpeechEngine) -> None:
        self._engine = engine

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """The final text: always in full context."""
        result = self._engine.transcribe(audio, language=language)
        burn(base_cost_s(context_s=_FULL_S, words=len(result.words)))
        return result

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """A caption: the context is cut as it is for the real one."""
        result = self._engine.hypothesise(
            audio, language=language, context_s=context_s, complete=complete
        )
        heard_s = min(_FULL_S, max(context_s, len(audio) / _RATE_HZ))
        burn(base_cost_s(context_s=heard_s, words=len(result.words)))
        return result

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        return self._engine.detect_language(audio)
