"""Whatever speaks OpenAI's `POST /v1/audio/transcriptions`: OpenAI, and servers on one's own machines.

https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.transcriber.engines.base import EngineError, EngineInfo, Recognition, Word
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.engines.languages import code_of
from jobs.transcriber.engines.service import ServiceError, SpeechService, to_wav
from jobs.transcriber.engines.word_times import timed_text

PATH: Final = "audio/transcriptions"
_RATE_HZ: Final = 16_000
_MAX_PROMPT_CHARACTERS: Final = 600
"""Whisper reads 224 tokens of it and forgets the beginning of a longer one."""


class OpenAIEngine:
    """A `SpeechEngine` for final texts, and for captions if `captions` says that it is near enough."""

    def __init__(
        self,
        service: SpeechService,
        *,
        model: str,
        hints: CallHints,
        at_once: int,
        captions: bool = False,
    ) -> None:
        self._service = service
        self._hints = hints
        # OpenAI's models after Whisper have no word times and refuse to be asked for them.
        self._timed = not model.startswith("gpt-")
        self._info = EngineInfo.of_service(
            "openai/whisper", model, at_once=at_once, captions=captions
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """See `SpeechEngine.transcribe`; with `language` None the service finds it out."""
        asked = code_of(language) if language else ""
        fields: dict[str, Any] = {
            "model": self._info.model,
            "response_format": "verbose_json" if self._timed else "json",
            "temperature": "0",
        }
        if self._timed:
            fields["timestamp_granularities[]"] = ["word", "segment"]
        if asked:
            fields["language"] = asked
        if prompt := self._hints.now.text[-_MAX_PROMPT_CHARACTERS:]:
            fields["prompt"] = prompt
        answer = self._service.post(
            PATH, data=fields, files={"file": ("speech.wav", to_wav(audio), "audio/wav")}
        )
        try:
            return _recognition(answer, asked, len(audio) / _RATE_HZ)
        except (TypeError, ValueError, KeyError, AttributeError):
            text = "openai/whisper: the answer is not as documented"
            raise ServiceError(text, status=200, retryable=False) from None

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """See `SpeechEngine.hypothesise`; the same request as for a final text."""
        if not self._info.captions:
            raise EngineError("openai/whisper does no live captions here")
        return self.transcribe(audio, language=language)

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """Not offered (`info.detects_language`)."""
        return ()


def _recognition(answer: dict[str, Any], asked: str, audio_s: float) -> Recognition:
    segments = answer.get("segments") or []
    probability = float(np.exp(_mean(segments, "avg_logprob", -0.7)))
    timed = [
        Word(
            str(word["word"]).strip(),
            float(word["start"]),
            float(word["end"]),
            float(word.get("probability", probability)),
        )
        for word in answer.get("words") or ()
    ]
    if not timed:
        timed = [word for segment in segments for word in _spread(segment, probability)]
    words = timed_text(str(answer["text"]).strip(), timed, start_s=0.0, end_s=audio_s)
    return Recognition(
        words=words,
        language=code_of(str(answer.get("language") or "")) or asked,
        mean_log_probability=min(
            (float(s["avg_logprob"]) for s in _having(segments, "avg_logprob")), default=0.0
        ),
        compression_ratio=max(
            (float(s["compression_ratio"]) for s in _having(segments, "compression_ratio")),
            default=1.0,
        ),
        no_speech_probability=max(
            (float(s["no_speech_prob"]) for s in _having(segments, "no_speech_prob")), default=0.0
        ),
    )


def _spread(segment: dict[str, Any], probability: float) -> tuple[Word, ...]:
    start_s, end_s = float(segment["start"]), float(segment["end"])
    words = timed_text(str(segment["text"]), (), start_s=start_s, end_s=end_s)
    return tuple(Word(word.text, word.start_s, word.end_s, probability) for word in words)


def _having(segments: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Compatible servers leave out what they do not know."""
    return [segment for segment in segments if segment.get(key) is not None]


def _mean(segments: list[dict[str, Any]], key: str, default: float) -> float:
    values = [float(segment[key]) for segment in _having(segments, key)]
    return sum(values) / len(values) if values else default
