"""faster-whisper (CTranslate2): int8 on the CPU, float16 on a CUDA device when there is one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from foundation.logs import get_logger
from jobs.transcriber.engines.base import (
    EngineError,
    EngineInfo,
    EngineLoadError,
    Recognition,
    Word,
)
from jobs.transcriber.engines.devices import AUTOMATIC, candidates
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.engines.languages import code_of

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
_CAREFUL_BEAMS: Final = 5
_MAX_HINT_TOKENS: Final = 64
"""Of the vocabulary, and of the names; 100 tokens cost 35 ms with base."""
_WHISPER_VOCABULARY: Final = 50_000
"""All of OpenAI's models know at least so many tokens."""
_log = get_logger(component="faster-whisper")


class FasterWhisperEngine:
    """One model in memory, shared by all speakers; `workers` calls run in parallel on it."""

    def __init__(
        self,
        model_dir: Path,
        *,
        workers: int,
        threads_per_worker: int,
        compute_type: str = AUTOMATIC,
        hints: CallHints | None = None,
        second_opinion: bool = True,
    ) -> None:
        """Load the model. Blocks for tenths of a second to seconds.

        `compute_type`: one of `devices.COMPUTE_TYPES`. `hints`: read before each piece.
        `second_opinion`: doubtful final texts are heard once more; random weights always leave doubts.

        Raises:
            EngineLoadError: the directory holds no CTranslate2 Whisper model.
        """
        # It tells every piece of audio at INFO.
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        for device, chosen in candidates(compute_type):
            try:
                self._model: Any = _load(
                    model_dir,
                    device=device,
                    compute_type=chosen,
                    # Never 0: that means four threads, whatever the machine has.
                    cpu_threads=threads_per_worker,
                    num_workers=workers,
                )
                break
            except (RuntimeError, ValueError, OSError) as error:
                if device == "cpu":
                    raise EngineLoadError(
                        f"cannot load the model in {model_dir}: {error}"
                    ) from error
                # A driver without its libraries, no memory left …: slower is better than nothing.
                _log.warning("cuda.unusable", error_type=type(error).__name__, reason=str(error))
        multilingual = bool(self._model.model.is_multilingual)
        self._info = EngineInfo(
            name="faster-whisper",
            model=model_dir.name,
            device=device,
            compute_type=chosen,
            workers=workers,
            threads_per_worker=threads_per_worker,
            multilingual=multilingual,
            detects_language=multilingual,
        )
        self._hints = hints or CallHints()
        self._second_opinion = second_opinion
        # Models of a few words were never told anything: to them a prompt is noise.
        self._takes_hints = self._model.hf_tokenizer.get_vocab_size() >= _WHISPER_VOCABULARY

    @property
    def info(self) -> EngineInfo:
        return self._info

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        """See `SpeechEngine.transcribe`. A doubtful text is heard once more, with care and without hints."""
        # The library reports an empty list by a warning in numpy; there is nothing to hear anyway.
        if len(audio) < _RATE_HZ // 20:
            return Recognition((), language or "")
        spoken = self._language(language)
        result = self._transcribe(audio, language=spoken, beams=1, hints=self._hint_tokens())
        if not (result.doubtful and self._second_opinion):
            return result
        again = self._transcribe(audio, language=spoken, beams=_CAREFUL_BEAMS, hints=())
        return max(result, again, key=_plausibility)

    def _transcribe(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        beams: int,
        hints: tuple[int, ...],
    ) -> Recognition:
        try:
            segments, found = self._model.transcribe(
                audio,
                language=language,
                beam_size=beams,
                temperature=0.0,
                initial_prompt=hints or None,
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

    def detect_language(self, audio: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """See `SpeechEngine.detect_language`."""
        if not self._info.detects_language or len(audio) < _RATE_HZ // 20:
            return ()
        try:
            _, _, probabilities = self._model.detect_language(audio)
        except (RuntimeError, ValueError, IndexError) as error:
            raise EngineError(f"{type(error).__name__} in faster-whisper") from error
        return tuple((code, float(probability)) for code, probability in probabilities)

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
            hints = self._hint_tokens()
            prompt = [tokenizer.sot_prev, *hints] if hints else []
            prompt += tokenizer.sot_sequence
            if not complete:
                # With timestamps the text is better, but words that are still being said are held back.
                prompt.append(tokenizer.no_timestamps)
            result = self._model.model.generate(
                encoded,
                [prompt],
                beam_size=1,
                max_length=_max_length(len(audio) / _RATE_HZ, prompt=len(prompt)),
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
        if not self._info.multilingual:
            return "en"
        return (code_of(wanted) or wanted) if wanted else None

    def _hint_tokens(self) -> tuple[int, ...]:
        """The end of what is to be told, as the models want it: of the vocabulary and of the names."""
        if not self._takes_hints:
            return ()
        hints = self._hints.now
        return tuple(
            token
            for text in (hints.hotwords, hints.prompt)
            if text
            for token in self._model.hf_tokenizer.encode(f" {text}", add_special_tokens=False).ids[
                :_MAX_HINT_TOKENS
            ]
        )


def _padded(features: NDArray[np.float32], context_s: float) -> NDArray[np.float32]:
    """Zeros behind, in feature space, up to the context asked for: an even number of frames."""
    wanted = round(min(context_s, _MAX_CONTEXT_S) * _FRAMES_PER_S)
    frames = max(wanted, features.shape[-1])
    frames = min(frames + frames % 2, round(_MAX_CONTEXT_S * _FRAMES_PER_S))
    missing = max(0, frames - features.shape[-1])
    return np.pad(features[:, :frames], ((0, 0), (0, missing))).astype(np.float32)


def _max_length(seconds: float, *, prompt: int) -> int:
    """CTranslate2 generates at most half of `max_length` tokens, and the prompt counts too."""
    tokens = round(_TOKENS_PER_S * (seconds + 1))
    return min(_MAX_LENGTH, max(2 * tokens, prompt + tokens))


def _load(model_dir: Path, **options: Any) -> Any:
    """A model that has computed something: CUDA's libraries are looked for only then."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(model_dir), local_files_only=True, **options)
    if options["device"] != "cpu":
        model.encode(np.zeros((model.model.n_mels, _FRAMES_PER_S), np.float32))
    return model


def _plausibility(result: Recognition) -> tuple[bool, float]:
    """To repeat oneself is worse than to be unsure."""
    return result.compression_ratio <= 2.4, result.mean_log_probability
