"""faster-whisper (CTranslate2): int8 on the CPU, float16 on a CUDA device when there is one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.transcriber.engines.base import (
    EngineError,
    EngineInfo,
    EngineLoadError,
    Recognition,
    Word,
)

_RATE_HZ: Final = 16_000
_MAX_CONTEXT_S: Final = 30.0
_FRAMES_PER_S: Final = 100
_MAX_LENGTH: Final = 448
_TOKENS_PER_S: Final = 8
"""Nobody speaks faster; bounds a model that has begun to repeat itself."""
_PUNCTUATION_BEFORE: Final = "\"'“¿([{-"
_PUNCTUATION_AFTER: Final = "\"'.。,，!！?？:：”)]}、"
_MAX_INITIAL_TIMESTAMP: Final = 50
"""In units of 20 ms: the first word begins within a second, as the models were trained."""
_NO_SPEECH_PROBABILITY: Final = 0.6


class FasterWhisperEngine:
    """One model in memory, shared by all speakers; `workers` calls run in parallel on it."""

    def __init__(self, model_dir: Path, *, workers: int, threads_per_worker: int) -> None:
        """Load the model. Blocks for tenths of a second to seconds.

        Raises:
            EngineLoadError: the directory holds no CTranslate2 Whisper model.
        """
        import ctranslate2
        from faster_whisper import WhisperModel

        # It tells every piece of audio at INFO.
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        cuda = ctranslate2.get_cuda_device_count() > 0
        device, compute_type = ("cuda", "float16") if cuda else ("cpu", "int8")
        try:
            self._model: Any = WhisperModel(
                str(model_dir),
                device=device,
                compute_type=compute_type,
                # Never 0: that means four threads, whatever the machine has.
                cpu_threads=threads_per_worker,
                num_workers=workers,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineLoadError(f"cannot load the model in {model_dir}: {error}") from error
        self._info = EngineInfo(
            name="faster-whisper",
            model=model_dir.name,
            device=device,
            compute_type=compute_type,
            workers=workers,
            threads_per_worker=threads_per_worker,
            multilingual=bool(self._model.model.is_multilingual),
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """See `SpeechEngine.transcribe`."""
        try:
            # The library reports an empty list by a warning in numpy; there is nothing to hear anyway.
            if len(audio) < _RATE_HZ // 20:
                return Recognition((), language or "")
            segments, found = self._model.transcribe(
                audio,
                language=self._language(language),
                beam_size=1,
                temperature=0.0,
                # Utterances come from several people in turn: the last text is no help, and errors spread.
                condition_on_previous_text=False,
                word_timestamps=True,
                vad_filter=False,
            )
            segments = list(segments)
        except (RuntimeError, ValueError, IndexError) as error:
            raise EngineError(f"{type(error).__name__} in faster-whisper") from error
        words = tuple(
            Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))
            for segment in segments
            for word in segment.words or ()
            if word.word.strip()
        )
        return Recognition(
            words=words,
            language=found.language,
            mean_log_probability=min((s.avg_logprob for s in segments), default=0.0),
            compression_ratio=max((s.compression_ratio for s in segments), default=1.0),
            no_speech_probability=max((s.no_speech_prob for s in segments), default=1.0),
        )

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        """See `SpeechEngine.hypothesise`; uses the model's encode, generate and align directly."""
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens

        audio = audio[: round(_MAX_CONTEXT_S * _RATE_HZ)]
        if len(audio) < _RATE_HZ // 20:
            return Recognition((), language or "")
        try:
            features = self._model.feature_extractor(audio)
            frames = features.shape[-1]
            encoded = self._model.encode(_padded(features, context_s))
            spoken = self._language(language)
            if spoken is None:
                token, _ = self._model.model.detect_language(encoded)[0][0]
                spoken = token[2:-2]
            tokenizer = Tokenizer(
                self._model.hf_tokenizer,
                self._model.model.is_multilingual,
                task="transcribe",
                language=spoken,
            )
            prompt = list(tokenizer.sot_sequence)
            if not complete:
                # With timestamps the text is better, but words that are still being said are held back.
                prompt.append(tokenizer.no_timestamps)
            result = self._model.model.generate(
                encoded,
                [prompt],
                beam_size=1,
                max_length=_max_length(len(audio) / _RATE_HZ),
                return_scores=True,
                return_no_speech_prob=True,
                suppress_blank=True,
                suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
                max_initial_timestamp_index=_MAX_INITIAL_TIMESTAMP,
            )[0]
            tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
            words = self._align(tokenizer, tokens, encoded, frames)
        except (RuntimeError, ValueError, IndexError) as error:
            raise EngineError(f"{type(error).__name__} in faster-whisper") from error
        count = len(result.sequences_ids[0])
        mean = float(result.scores[0]) * count / (count + 1) if count else 0.0
        if result.no_speech_prob > _NO_SPEECH_PROBABILITY and mean < -1.0:
            words = ()
        text = tokenizer.decode(tokens)
        return Recognition(
            words=words,
            language=spoken,
            mean_log_probability=mean,
            compression_ratio=get_compression_ratio(text) if text else 1.0,
            no_speech_probability=float(result.no_speech_prob),
        )

    def _align(
        self, tokenizer: Any, tokens: list[int], encoded: Any, frames: int
    ) -> tuple[Word, ...]:
        from faster_whisper.transcribe import merge_punctuations

        if not tokens:
            return ()
        timed = self._model.find_alignment(tokenizer, [tokens], encoded, frames)[0]
        merge_punctuations(timed, _PUNCTUATION_BEFORE, _PUNCTUATION_AFTER)
        return tuple(
            Word(
                word["word"].strip(),
                float(word["start"]),
                float(word["end"]),
                float(word["probability"]),
            )
            for word in timed
            if word["word"].strip()
        )

    def _language(self, wanted: str | None) -> str | None:
        return wanted if self._info.multilingual else "en"


def _padded(features: NDArray[np.float32], context_s: float) -> NDArray[np.float32]:
    """Zeros behind, in feature space, up to the context asked for: an even number of frames."""
    wanted = round(min(context_s, _MAX_CONTEXT_S) * _FRAMES_PER_S)
    frames = max(wanted, features.shape[-1])
    frames = min(frames + frames % 2, round(_MAX_CONTEXT_S * _FRAMES_PER_S))
    missing = max(0, frames - features.shape[-1])
    return np.pad(features[:, :frames], ((0, 0), (0, missing))).astype(np.float32)


def _max_length(seconds: float) -> int:
    """CTranslate2 generates at most half of `max_length` tokens, so ask for twice as many."""
    return min(_MAX_LENGTH, 2 * round(_TOKENS_PER_S * (seconds + 1)))
