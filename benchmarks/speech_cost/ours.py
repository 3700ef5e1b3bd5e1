"""Our pipeline on one stretch of sound, with a clock around everything that CTranslate2 computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.transcriber.audio import VoiceDecoder
from jobs.transcriber.capture import VoicePacket
from jobs.transcriber.engines.faster_whisper import FasterWhisperEngine
from jobs.transcriber.engines.guards import GuardedEngine
from jobs.transcriber.listening import Ear
from jobs.transcriber.vad import load_silero
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips

SECONDS = 29.0
"""Of speech: what fits into one window of the model."""
_PACKET_NS = 20_000_000


def speech_packets() -> list[VoicePacket]:
    """Alice's sentences again and again."""
    clips = load_clips(CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))["alice"]
    payloads = cycle([payload for clip in clips for payload in clip.packets])
    count = round(SECONDS * 1e9) // _PACKET_NS
    return [VoicePacket(next(payloads), n * _PACKET_NS, _PACKET_NS) for n in range(count)]


class TimedKernels:
    """Stands in for `ctranslate2.models.Whisper`; adds up the time that its calls take."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.busy_s = 0.0
        self.windows = 0
        """Texts generated."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        if name not in ("encode", "generate", "align", "detect_language"):
            return value

        def timed(*args: Any, **options: Any) -> Any:
            begin_s = time.perf_counter()
            self.windows += name == "generate"
            try:
                return value(*args, **options)
            finally:
                self.busy_s += time.perf_counter() - begin_s

        return timed


def _to_the_end(find_alignment: Callable[..., Any]) -> Callable[..., Any]:
    """With random weights words seem to end anywhere, and what follows would be heard as another window."""

    def found(tokenizer: Any, tokens: Any, encoded: Any, frames: int, *more: Any) -> Any:
        alignments = find_alignment(tokenizer, tokens, encoded, frames, *more)
        for words in alignments:
            words[-1]["end"] = frames / 100
        return alignments

    return found


class Ours:
    """The engine as a job uses it, with or without parallel workers."""

    def __init__(self, model_dir: Path, *, workers: int, threads_per_worker: int) -> None:
        engine = FasterWhisperEngine(
            model_dir,
            workers=workers,
            threads_per_worker=threads_per_worker,
            compute_type="int8",
            # Random words are always doubtful; a second attempt would be a second piece of work.
            second_opinion=False,
        )
        self.kernels = TimedKernels(engine._model.model)
        engine._model.model = self.kernels
        engine._model.find_alignment = _to_the_end(engine._model.find_alignment)
        self._engine = GuardedEngine(engine)
        self._workers = workers
        self._packets = speech_packets()
        self._sound = sound()

    def piece(self) -> None:
        """Sound to text: features, the model, word times, guards."""
        self._engine.transcribe(self._sound, language="en")

    def track(self) -> None:
        """Opus to text: decoding, voice activity, decoding again as from a capture, the model."""
        ear = Ear(load_silero())
        ear.hear(self._packets)
        ear.close()
        self._engine.transcribe(VoiceDecoder().decode(self._packets), language="en")

    def tracks(self, count: int) -> None:
        """Several people's, by as many threads as there are workers."""
        with ThreadPoolExecutor(self._workers) as pool:
            for done in [pool.submit(self.track) for _ in range(count)]:
                done.result()

    def timed(self, work: Callable[[], None]) -> tuple[float, float]:
        """(all, inside CTranslate2) in seconds; the second one counts only without parallel workers."""
        self.kernels.busy_s, self.kernels.windows = 0.0, 0
        begin_s = time.perf_counter()
        work()
        return time.perf_counter() - begin_s, self.kernels.busy_s


def sound() -> NDArray[np.float32]:
    """The same sound at 16 kHz, for others."""
    return VoiceDecoder().decode(speech_packets())
