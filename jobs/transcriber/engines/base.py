"""The port to speech engines: 16 kHz mono float32 in, words with times and probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EngineError(Exception):
    """The engine could not do its work on this piece of audio; the next piece may be fine."""


class EngineLoadError(EngineError):
    """The engine cannot be used at all; the message says what is missing and what there is."""


class EngineUnavailable(EngineError):
    """There is no engine just now, which is no fault of the piece; later there may be one."""


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
    detects_language: bool = False
    """`detect_language` answers; else a language has to be named, or the engine finds it out by itself."""
    captions: bool = True
    """Fast and cheap enough for `hypothesise` while people speak."""
    remote: bool = False
    """Waits for a network instead of computing here."""

    @classmethod
    def of_service(
        cls, name: str, model: str, *, at_once: int, captions: bool = False
    ) -> EngineInfo:
        """Of an engine that asks somebody else's, by at most `at_once` requests at a time."""
        return cls(
            name=name,
            model=model,
            device="remote",
            compute_type="",
            workers=at_once,
            threads_per_worker=0,
            multilingual=True,
            captions=captions,
            remote=True,
        )


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
    """ISO 639 code; the one asked for, or the one found."""
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
    """The methods block for the model's time and may be called from several threads at once.

    A language is an ISO 639 code, or a locale such as `de-AT` of which engines use what they know.
    """

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

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """Languages and their probabilities, the likeliest first; nothing unless `info.detects_language`.

        Raises:
            EngineError: this piece could not be done.
        """


@runtime_checkable
class _Closing(Protocol):
    def close(self) -> None: ...


@runtime_checkable
class _Resting(Protocol):
    def rest(self) -> None: ...


def rest_engine(engine: SpeechEngine) -> None:
    """Give its memory back until the next call, if it can: for one that may not be needed. Blocks."""
    if isinstance(engine, _Resting):
        engine.rest()


def close_engine(engine: SpeechEngine) -> None:
    """Give back what the engine holds, if it holds anything that outlives it. Blocks. Idempotent."""
    if isinstance(engine, _Closing):
        engine.close()
