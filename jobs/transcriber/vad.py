"""Voice activity: Silero's model on carried state, an energy gate before it, a hysteresis after it.

Nothing here is run twice over the same audio, so the cost per second of speech is constant, and a silent
track costs nothing. The model is the ONNX file that faster-whisper brings along.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

CHUNK_SAMPLES: Final = 512
"""The model's unit at 16 kHz: 32 ms."""
_CONTEXT_SAMPLES: Final = 64
_STATE_SHAPE: Final = (1, 1, 128)


class SpeechModel(Protocol):
    """What the detector needs of the model; a test may play it."""

    def run(
        self, windows: NDArray[np.float32], state: tuple[NDArray[np.float32], NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Probabilities of speech, shape (n,), for windows of shape (n, 64 + 512), and the new state."""


class SileroModel:
    """Silero VAD v6. One instance serves all tracks and threads; it blocks for about 0.1 ms per window."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # The defaults start a spinning thread per core: forty times the cost of the model itself.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._session: Any = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def run(
        self, windows: NDArray[np.float32], state: tuple[NDArray[np.float32], NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32]]]:
        probabilities, h, c = self._session.run(
            None, {"input": windows, "h": state[0], "c": state[1]}
        )
        return probabilities.reshape(-1), (h, c)


@cache
def load_silero() -> SileroModel:
    """The shared model, loaded at the first call. Blocks."""
    # Not imported: its engine lives in another process, and this one saves the memory.
    package = find_spec("faster_whisper")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("faster-whisper, whose package holds the voice detector's model")
    assets = Path(package.origin).parent / "assets"
    return SileroModel(assets / "silero_vad_v6.onnx")


@dataclass(frozen=True, slots=True)
class VadOptions:
    """When speech begins and ends."""

    threshold: float = 0.5
    """Probability from which a chunk counts as speech (Silero's default)."""
    end_threshold: float = 0.35
    """Below this a chunk counts as silence; between the two nothing changes (Silero's default)."""
    min_speech_chunks: int = 2
    """So many in a row open an utterance: a click of 32 ms is not speech."""
    endpoint_s: float = 0.4
    """Silence that ends an utterance. Shorter cuts sentences, longer makes captions late."""
    long_utterance_s: float = 20.0
    """From here on a pause of `short_pause_s` is enough."""
    short_pause_s: float = 0.1
    max_utterance_s: float = 29.0
    """Cut here without any pause: a speech model hears 30 s at once."""
    gate_dbfs: float = -60.0
    """Quieter chunks are silence without asking the model; rooms hum louder, speech is far above."""
    forget_s: float = 1.0
    """Gated silence after which the model's state starts afresh."""


@dataclass(frozen=True, slots=True)
class SpeechStart:
    at_samples: int
    """First sample of the utterance, counted from the detector's first."""


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    at_samples: int
    """Where the silence began that ended it."""


class VoiceActivityDetector:
    """Streaming detector of one track: push samples, get starts and ends. Blocks for the model's time."""

    def __init__(self, model: SpeechModel, options: VadOptions | None = None) -> None:
        self.options = options or VadOptions()
        self._model = model
        self._gate_energy = CHUNK_SAMPLES * 10 ** (self.options.gate_dbfs / 10)
        self._rest = np.zeros(0, np.float32)
        self._position = 0
        self._reset_model()
        self._gated_chunks = 0
        self._candidate: int | None = None
        self._candidate_chunks = 0
        self._start: int | None = None
        self._silence_from: int | None = None

    @property
    def speaking(self) -> bool:
        """An utterance is open."""
        return self._start is not None

    @property
    def undecided_from(self) -> int:
        """First sample that may still become part of an utterance: keep audio from here on."""
        return self._position if self._candidate is None else self._candidate

    def push(self, samples: NDArray[np.float32]) -> list[SpeechStart | SpeechEnd]:
        """Take samples (16 kHz mono, any number) and report what they decide."""
        audio = np.concatenate([self._rest, samples]) if self._rest.size else samples
        count = len(audio) // CHUNK_SAMPLES
        self._rest = audio[count * CHUNK_SAMPLES :].copy()
        chunks = audio[: count * CHUNK_SAMPLES].reshape(count, CHUNK_SAMPLES)
        found: list[SpeechStart | SpeechEnd] = []
        for probability in self._probabilities(chunks):
            found += self._decide(probability)
            self._position += CHUNK_SAMPLES
        return found

    def break_off(self) -> list[SpeechStart | SpeechEnd]:
        """The stream is interrupted: end an open utterance where its speech ended and start afresh.

        The samples not yet filling a chunk are skipped; positions go on.
        """
        end = self._silence_from if self._silence_from is not None else self._position
        found: list[SpeechStart | SpeechEnd] = [SpeechEnd(end)] if self._start is not None else []
        self._position += len(self._rest)
        self._rest = np.zeros(0, np.float32)
        self._start = self._candidate = self._silence_from = None
        self._candidate_chunks = 0
        self._reset_model()
        return found

    def _reset_model(self) -> None:
        self._state = (np.zeros(_STATE_SHAPE, np.float32), np.zeros(_STATE_SHAPE, np.float32))
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)

    def _probabilities(self, chunks: NDArray[np.float32]) -> Iterator[float]:
        """One probability per chunk; neighbouring loud chunks share one call of the model."""
        loud = np.einsum("ij,ij->i", chunks, chunks) >= self._gate_energy
        begin = 0
        while begin < len(chunks):
            end = begin
            while end < len(chunks) and loud[end] == loud[begin]:
                end += 1
            if loud[begin]:
                yield from self._ask(chunks[begin:end])
            else:
                yield from self._skip(chunks[begin:end])
            begin = end

    def _ask(self, chunks: NDArray[np.float32]) -> list[float]:
        if self._gated_chunks * CHUNK_SAMPLES >= self.options.forget_s * 16_000:
            self._state = (np.zeros(_STATE_SHAPE, np.float32), np.zeros(_STATE_SHAPE, np.float32))
        self._gated_chunks = 0
        windows = np.empty((len(chunks), _CONTEXT_SAMPLES + CHUNK_SAMPLES), np.float32)
        windows[:, _CONTEXT_SAMPLES:] = chunks
        windows[0, :_CONTEXT_SAMPLES] = self._context
        windows[1:, :_CONTEXT_SAMPLES] = chunks[:-1, -_CONTEXT_SAMPLES:]
        probabilities, self._state = self._model.run(windows, self._state)
        self._context = chunks[-1, -_CONTEXT_SAMPLES:].copy()
        return [float(p) for p in probabilities]

    def _skip(self, chunks: NDArray[np.float32]) -> list[float]:
        self._gated_chunks += len(chunks)
        self._context = chunks[-1, -_CONTEXT_SAMPLES:].copy()
        return [0.0] * len(chunks)

    def _decide(self, probability: float) -> list[SpeechStart | SpeechEnd]:
        if self._start is None:
            return self._look_for_start(probability)
        return self._look_for_end(probability)

    def _look_for_start(self, probability: float) -> list[SpeechStart | SpeechEnd]:
        if probability < self.options.threshold:
            self._candidate, self._candidate_chunks = None, 0
            return []
        if self._candidate is None:
            self._candidate = self._position
        self._candidate_chunks += 1
        if self._candidate_chunks < self.options.min_speech_chunks:
            return []
        self._start, self._candidate, self._candidate_chunks = self._candidate, None, 0
        self._silence_from = None
        return [SpeechStart(self._start)]

    def _look_for_end(self, probability: float) -> list[SpeechStart | SpeechEnd]:
        assert self._start is not None
        after = self._position + CHUNK_SAMPLES
        if probability >= self.options.threshold:
            self._silence_from = None
        elif probability < self.options.end_threshold and self._silence_from is None:
            self._silence_from = self._position
        length_s = (after - self._start) / 16_000
        is_long = length_s >= self.options.long_utterance_s
        needed_s = self.options.short_pause_s if is_long else self.options.endpoint_s
        silence_s = 0.0 if self._silence_from is None else (after - self._silence_from) / 16_000
        if silence_s >= needed_s:
            end = self._silence_from
        elif length_s >= self.options.max_utterance_s:
            end = after
        else:
            return []
        self._start = self._silence_from = None
        assert end is not None
        return [SpeechEnd(end)]
