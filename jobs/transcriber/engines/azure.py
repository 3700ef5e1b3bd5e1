"""Azure Speech, by the REST API for short audio (at most 60 s), in the cloud or as an on-premises container.

https://learn.microsoft.com/azure/ai-services/speech-service/rest-speech-to-text-short
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.transcriber.engines.base import EngineError, EngineInfo, Recognition, Word
from jobs.transcriber.engines.languages import code_of, locale_of
from jobs.transcriber.engines.service import ServiceError, SpeechService, to_wav
from jobs.transcriber.engines.word_times import timed_text

PATH: Final = "/speech/recognition/conversation/cognitiveservices/v1"
_TICKS_PER_S: Final = 10_000_000
_RATE_HZ: Final = 16_000
_CONTENT_TYPE: Final = "audio/wav; codecs=audio/pcm; samplerate=16000"
_NOTHING_SAID: Final = frozenset({"NoMatch", "InitialSilenceTimeout", "BabbleTimeout"})


class AzureEngine:
    """A `SpeechEngine` for final texts; it wants a language with each piece and finds none out."""

    def __init__(self, service: SpeechService, *, at_once: int) -> None:
        self._service = service
        self._info = EngineInfo.of_service("azure", "conversation", at_once=at_once)

    @property
    def info(self) -> EngineInfo:
        return self._info

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """See `SpeechEngine.transcribe`; `language` None means English."""
        spoken = language or "en"
        answer = self._service.post(
            PATH,
            params={
                "language": locale_of(spoken),
                "format": "detailed",
                "wordLevelTimestamps": "true",
                "profanity": "raw",
            },
            headers={"Content-Type": _CONTENT_TYPE, "Accept": "application/json"},
            content=to_wav(audio),
        )
        try:
            return _recognition(answer, code_of(spoken), len(audio) / _RATE_HZ)
        except (TypeError, ValueError, KeyError, AttributeError):
            text = "azure: the answer is not as documented"
            raise ServiceError(text, status=200, retryable=False) from None

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """Not offered (`info.captions`)."""
        raise EngineError("azure does no live captions")

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """Not offered (`info.detects_language`)."""
        return ()


def _recognition(answer: dict[str, Any], language: str, audio_s: float) -> Recognition:
    status = answer["RecognitionStatus"]
    if status in _NOTHING_SAID:
        return Recognition((), language, no_speech_probability=1.0)
    if status != "Success":
        raise ServiceError("azure: it could not recognise this", status=200, retryable=False)
    best = max(answer["NBest"], key=lambda entry: float(entry["Confidence"]), default=None)
    if best is None:
        return Recognition((), language, no_speech_probability=1.0)
    confidence = min(max(float(best["Confidence"]), 1e-4), 1.0)
    timed = [
        Word(str(word["Word"]), *_span_s(word), float(word.get("Confidence", confidence)))
        for word in best.get("Words") or ()
    ]
    start_s, end_s = _span_s(answer)
    words = timed_text(str(best["Display"]), timed, start_s=start_s, end_s=min(end_s, audio_s))
    return Recognition(words, language, mean_log_probability=float(np.log(confidence)))


def _span_s(entry: dict[str, Any]) -> tuple[float, float]:
    """Offset and Duration are in units of 100 ns."""
    start_s = int(entry["Offset"]) / _TICKS_PER_S
    return start_s, start_s + int(entry["Duration"]) / _TICKS_PER_S
