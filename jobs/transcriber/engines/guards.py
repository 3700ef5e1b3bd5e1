"""What a speech model says although nobody said it: noticed by its own figures, and left out.

Whisper was trained on subtitles. On silence, noise and music it repeats itself, thanks for watching, or reads
out its prompt. The limits are Whisper's own where it has one (Radford et al. 2022, section 4.5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foundation.logs import get_logger
from jobs.transcriber.engines.base import (
    EngineInfo,
    Recognition,
    SpeechEngine,
    Word,
    close_engine,
    rest_engine,
)
from jobs.transcriber.engines.hints import CallHints

_RATE_HZ: Final = 16_000
_BLOCK_SAMPLES: Final = _RATE_HZ // 10
_SILENT_DBFS: Final = -60.0
"""As in the voice detector's gate: nothing in the piece is louder."""
_NO_SPEECH: Final = 0.6
_LOG_PROBABILITY: Final = -1.0
_COMPRESSION: Final = 2.4
_MAX_WORDS_PER_S: Final = 8.0
"""The fastest talkers reach 6."""
_REPEATS: Final = 4
"""So many in a row of the same words are a stuck decoder, if other figures say so too."""
_LONGEST_PHRASE: Final = 10
_ECHO_WORDS: Final = 3
_NEVER_SAID: Final = re.compile(
    r"amara\.?org|untertitel(ung)? (im auftrag|des zdf|der)|sous-?titr(es|age)|subtitles by|captions? by|"
    r"legendas? pela|sottotitoli (e|a cura|creati)|ondertitel(d|ing)|napisy (stworzone|by)|"
    r"субтитры (сделал|создавал|подогнал)|字幕|www\.\S+\.(com|org)",
    re.IGNORECASE,
)
"""Credits of the subtitles that models learned from."""
_SELDOM_SAID: Final = frozenset(
    {
        "thank you", "thanks", "thanks for watching", "thank you for watching", "thank you very much",
        "please subscribe", "like and subscribe", "see you next time", "see you in the next video",
        "you", "bye", "bye bye", "the end", "music", "applause", "vielen dank", "danke", "tschüss",
        "danke fürs zuschauen", "merci", "merci d'avoir regardé cette vidéo", "gracias",
        "gracias por ver el video", "suscríbete", "obrigado", "grazie", "grazie a tutti", "dank u wel",
        "спасибо за просмотр", "продолжение следует", "ご視聴ありがとうございました", "谢谢观看",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "시청해주셔서 감사합니다",
    }
)  # fmt: skip
"""People say some of these; a model that is unsure of them made them up."""
_log = get_logger(component="guards")


class GuardedEngine:
    """A `SpeechEngine` that keeps its engine's inventions to itself."""

    def __init__(self, engine: SpeechEngine, *, hints: CallHints | None = None) -> None:
        self._engine = engine
        self._hints = hints or CallHints()
        self.rejected = 0
        """Pieces of which words were left out."""

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def close(self) -> None:
        """See `close_engine`."""
        close_engine(self._engine)

    def rest(self) -> None:
        """See `rest_engine`."""
        rest_engine(self._engine)

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """See `SpeechEngine.transcribe`."""
        if is_silent(audio):
            return Recognition((), language or "", no_speech_probability=1.0)
        result = self._engine.transcribe(audio, language=language)
        kept = self._judged(result, audio)
        if len(kept.words) < len(
            result.words
        ):  # of hypotheses it would be told several times a second
            _log.info("speech.rejected", words=len(result.words) - len(kept.words))
        return kept

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """See `SpeechEngine.hypothesise`."""
        if is_silent(audio):
            return Recognition((), language or "", no_speech_probability=1.0)
        result = self._engine.hypothesise(
            audio, language=language, context_s=context_s, complete=complete
        )
        return self._judged(result, audio)

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """See `SpeechEngine.detect_language`."""
        return self._engine.detect_language(audio)

    def _judged(self, result: Recognition, audio: NDArray[np.float32]) -> Recognition:
        kept = believable(result, audio_s=len(audio) / _RATE_HZ, prompt=self._hints.now.text)
        if len(kept.words) < len(result.words):
            self.rejected += 1
        return kept


def is_silent(audio: NDArray[np.float32]) -> bool:
    """No tenth of a second in it is as loud as the quietest speech."""
    if not len(audio):
        return True
    limit = 10 ** (_SILENT_DBFS / 10)
    return all(
        float(np.mean(np.square(audio[at : at + _BLOCK_SAMPLES]))) < limit
        for at in range(0, len(audio), _BLOCK_SAMPLES)
    )


def believable(result: Recognition, *, audio_s: float, prompt: str = "") -> Recognition:
    """`result` without the words that nobody said. Pure."""
    words = result.words
    if not words:
        return result
    if result.no_speech_probability > _NO_SPEECH and result.mean_log_probability < _LOG_PROBABILITY:
        return replace(result, words=())
    text = " ".join(_bare(word.text) for word in words)
    unsure = (
        result.no_speech_probability > 0.3
        or result.mean_log_probability < -0.8
        or float(np.mean([word.probability for word in words])) < 0.4
    )
    if _NEVER_SAID.search(result.text) and len(words) <= 15:
        return replace(result, words=())
    if unsure and (text in _SELDOM_SAID or _is_echo(text, prompt)):
        return replace(result, words=())
    stuck = result.compression_ratio > _COMPRESSION or len(words) > _MAX_WORDS_PER_S * (
        audio_s + 0.5
    )
    return replace(result, words=without_loops(words)) if stuck else result


def without_loops(words: Sequence[Word]) -> tuple[Word, ...]:
    """Phrases of up to ten words that are said four times and more in a row are said once."""
    bare = [_bare(word.text) for word in words]
    kept: list[Word] = []
    at = 0
    while at < len(words):
        length, repeats = _loop_at(bare, at)
        kept += words[at : at + length]
        at += length * repeats
    return tuple(kept)


def _loop_at(bare: Sequence[str], at: int) -> tuple[int, int]:
    """The shortest phrase that loops here and how often; (1, 1): none does."""
    for length in range(1, _LONGEST_PHRASE + 1):
        phrase = bare[at : at + length]
        repeats = 1
        while bare[at + repeats * length : at + (repeats + 1) * length] == phrase:
            repeats += 1
        if repeats >= _REPEATS:
            return length, repeats
    return 1, 1


def _is_echo(text: str, prompt: str) -> bool:
    """Three words or more, all in the order in which the prompt has them."""
    spoken = text.split()
    if len(spoken) < _ECHO_WORDS:
        return False
    told = " ".join(_bare(word) for word in prompt.split())
    return f" {text} " in f" {told} "


def _bare(text: str) -> str:
    return text.strip(" .,!?…;:\"'“”«»()[]♪-。！？、，").casefold()
