"""The port to speech engines: 16 kHz mono float32 in, words with times and probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class EngineError(Exception):
    """The engine could not do its work on this piece of audio; the next piece may be fine."""


class EngineLoadError(EngineError):
    """The engine cannot be used at all; the message says what is missing and what there is."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is and can do."""

    name: str
    """The library, such as `faster-whisper`."""
    model: str
    """Name of the model's directory."""
    device: str
    compute_type: str
    workers: int
    """Calls that run at the same time; more wait."""
    threads_per_worker: int
    multilingual: bool


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it would stand in a text, without surrounding spaces, with its punctuation."""

    text: str
    start_s: float
    """From the first sample of the audio given."""
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was understood in one piece of audio."""

    words: tuple[Word, ...]
    language: str
    """ISO 639-1 code; the one asked for, or the one found."""
    mean_log_probability: float = 0.0
    """Mean over tokens; below -1 the text is doubtful."""
    compression_ratio: float = 1.0
    """Bytes over zlib's bytes; above 2.4 the text repeats itself."""
    no_speech_probability: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def doubtful(self) -> bool:
        """By Whisper's own limits for decoding again."""
        return self.mean_log_probability < -1.0 or self.compression_ratio > 2.4


class SpeechEngine(Protocol):
    """Both methods block for the model's time and may be called from several threads at once."""

    @property
    def info(self) -> EngineInfo: ...

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """The final text of one utterance of at most 30 s, as good as the engine can.

        `language` None: find it out. No speech gives no words.

        Raises:
            EngineError: this piece could not be done.
        """

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """The text of an utterance, fast: greedy, one pass. Not `complete`: it still goes on, and the end of
        the audio may cut a word in two.

        `context_s`: the model hears at least that much, padded with nothing (30 is what Whisper was
        trained on, 10 costs a seventh of it).

        Raises:
            EngineError: this piece could not be done.
        """
