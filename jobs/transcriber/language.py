"""Which language each speaker speaks: fixed, or found out among those that are allowed, and doubted again.

People keep to their language mostly, so one is settled per speaker once it is sure; a piece that the model
understands badly in it, and every few minutes any piece, is listened to anew.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jobs.transcriber.engines.base import EngineError, Recognition, SpeechEngine
from jobs.transcriber.engines.languages import code_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RATE_HZ: Final = 16_000
_SURE: Final = 0.7
_ENOUGH_S: Final = 2.0
"""Shorter pieces settle nothing: a "no" is said in many languages."""
_LOW_LOG_PROBABILITY: Final = -0.8
_CHECK_AGAIN_S: Final = 120.0
"""Of a speaker's speech. A wrong language can sound right to a model: it then translates."""
_MAX_TRIED: Final = 4


@dataclass(slots=True)
class _Speaker:
    language: str = ""
    """Settled; empty: not yet."""
    since_check_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


class SpokenLanguages:
    """One call's speakers. Thread-safe: `recognise` runs in the engine's threads."""

    def __init__(self, engine: SpeechEngine, *, allowed: Sequence[str] = ()) -> None:
        """`allowed`: nobody speaks anything else, and one alone is not doubted; empty: anything goes."""
        self._engine = engine
        self._fixed = allowed[0] if len(allowed) == 1 else ""
        self._allowed = tuple(allowed)
        self._lock = threading.Lock()
        self._speakers: dict[str, _Speaker] = {}

    def of(self, speaker: str) -> str:
        """The language fixed or settled; empty: not known (yet)."""
        if self._fixed:
            return self._fixed
        with self._lock:
            known = self._speakers.get(speaker)
            return known.language if known is not None else ""

    def recognise(self, speaker: str, audio: NDArray[np.float32]) -> Recognition:
        """The final text of a piece in its language.

        Raises:
            EngineError: as the engine does; of the language's fault alone it is not raised.
        """
        if self._fixed or not self._engine.info.multilingual:
            return self._engine.transcribe(audio, language=self._fixed or None)
        if not self._engine.info.detects_language:
            return self._try_out(speaker, audio)
        length_s = len(audio) / _RATE_HZ
        settled = self._settled(speaker, length_s)
        language = settled or self._detect(speaker, audio) or self.of(speaker)
        result = self._engine.transcribe(audio, language=language or None)
        if settled and _is_low(result):
            other = self._detect(speaker, audio)
            if other and other != settled:
                result = _better(result, self._quietly(audio, other))
        self._heard(speaker, result.language, length_s)
        return result

    def _settled(self, speaker: str, length_s: float) -> str:
        """The speaker's language, unless it is time to listen anew."""
        with self._lock:
            known = self._speakers.setdefault(speaker, _Speaker())
            known.since_check_s += length_s
            if known.since_check_s >= _CHECK_AGAIN_S and length_s >= _ENOUGH_S:
                known.since_check_s = 0.0
                return ""
            return known.language

    def _detect(self, speaker: str, audio: NDArray[np.float32]) -> str:
        """The likeliest allowed one; settles it when it is sure. Empty: the engine has no idea."""
        try:
            found = self._engine.detect_language(audio)
        except EngineError:
            return ""  # the text may succeed all the same
        codes = {code_of(language): language for language in self._allowed}
        heard = [
            (codes.get(code_of(code), code), probability)
            for code, probability in found
            if not codes or code_of(code) in codes
        ]
        if not heard:
            return self._allowed[0] if self._allowed else ""
        language, probability = heard[0]
        total = sum(p for _, p in heard)
        share = probability / total if total > 0 else 0.0
        settles = share >= _SURE and len(audio) >= _ENOUGH_S * _RATE_HZ
        with self._lock:
            known = self._speakers.setdefault(speaker, _Speaker())
            if settles:
                known.language = language
            elif known.language:
                return known.language  # no good reason to change it
        return language

    def _try_out(self, speaker: str, audio: NDArray[np.float32]) -> Recognition:
        """For engines that find no language out: the settled one, and when it fits badly the others."""
        length_s = len(audio) / _RATE_HZ
        settled = self._settled(speaker, 0.0)
        order = [settled] if settled else []
        order += [language for language in self._allowed if language != settled]
        if not order:
            result = self._engine.transcribe(audio, language=None)
        else:
            result = self._engine.transcribe(audio, language=order[0])
            chosen = order[0]
            enough = length_s >= _ENOUGH_S
            for language in order[1:_MAX_TRIED] if enough else ():
                if settled and result.words and not _is_low(result):
                    break
                other = self._quietly(audio, language)
                if _better(result, other) is other:
                    result, chosen = other, language
            if enough and result.words and not _is_low(result):
                with self._lock:
                    self._speakers.setdefault(speaker, _Speaker()).language = chosen
        self._heard(speaker, result.language, length_s)
        return result

    def _quietly(self, audio: NDArray[np.float32], language: str) -> Recognition:
        """A second try that fails is no failure: there is a first one."""
        try:
            return self._engine.transcribe(audio, language=language)
        except EngineError:
            return Recognition((), language, mean_log_probability=-10.0)

    def _heard(self, speaker: str, language: str, length_s: float) -> None:
        """Without a sure moment a language settles by being heard for longer than twice the others."""
        code = code_of(language)
        if not code or length_s < _ENOUGH_S:
            return
        with self._lock:
            known = self._speakers.setdefault(speaker, _Speaker())
            known.seconds[code] = known.seconds.get(code, 0.0) + length_s
            if not known.language:
                others = sum(known.seconds.values()) - known.seconds[code]
                if known.seconds[code] > 10.0 + 2 * others:
                    known.language = code


def _is_low(result: Recognition) -> bool:
    return bool(result.words) and (
        result.doubtful or result.mean_log_probability < _LOW_LOG_PROBABILITY
    )


def _better(first: Recognition, second: Recognition) -> Recognition:
    """The second one has to be clearly better: by a tenth of log probability."""
    if not second.words:
        return first
    if not first.words:
        return second
    repeats = first.compression_ratio > 2.4, second.compression_ratio > 2.4
    if repeats[0] != repeats[1]:
        return second if repeats[0] else first
    better = second.mean_log_probability > first.mean_log_probability + 0.1
    return second if better else first
