"""A model on recordings with known texts: which size, which context for captions.

    make test-model MODELS_DIR=… [MODEL_ARGS="--model small --context 8 10 15 30 --language de FILE…"]

Each FILE is one speaker, any audio, and its text lies beside it under the same name with `.txt`. Without
files the bundled clips are taken, which only the bundled model understands. Prints word errors of the
transcript, then word errors and lag of captions for each length of context. Times are those of this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.speech_accuracy.hearing import LiveResult, LiveRun, offline
from benchmarks.speech_accuracy.scores import Score
from benchmarks.speech_accuracy.speech import SpokenWord, Track, to_packets
from jobs.transcriber.captions import CaptionOptions
from jobs.transcriber.engines.base import EngineLoadError, Recognition, SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine, plan_workers
from jobs.transcriber.vad import load_silero
from testbed.analysis.speech import split_words
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips
from testbed.speech.opus_file import RATE_HZ, read_samples

CONTEXTS_S = (8.0, 10.0, 15.0, 30.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 2 when the model or a file cannot be used."""
    options = _parse(arguments)
    workers, threads = plan_workers(options.threads)
    try:
        model_dir = find_model(options.models_dir, options.model)
        began_s = time.perf_counter()
        engine = load_engine(model_dir, workers=workers, threads_per_worker=threads)
        loaded_s = time.perf_counter() - began_s
        tracks = [read_track(path) for path in options.files] or bundled_tracks()
    except (EngineLoadError, OSError, ValueError, av.FFmpegError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    words = sum(len(track.words) for track in tracks)
    sys.stdout.write(
        f"{model_dir.name}: loaded in {loaded_s:.1f} s, {workers} worker(s) of {threads} thread(s); "
        f"{len(tracks)} file(s), {_seconds(tracks):.0f} s, {words} words\n\n"
        f"{'':24}{'word errors':>12}{'partial lag p50, p95':>23}{'final lag p50, p95':>21}"
        f"{'model time':>12}\n"
    )
    _tell_transcript(tracks, engine, options.language)
    for context_s in options.context:
        _tell_captions(tracks, engine, options.language, context_s)
    return 0


def read_track(path: Path) -> Track:
    """A recording, as a browser would send it.

    Raises:
        OSError, ValueError: sound or text cannot be read.
    """
    text = path.with_suffix(".txt")
    if not text.is_file():
        raise ValueError(f"{path}: its text should be in {text}")
    words = split_words(text.read_text(encoding="utf-8"))
    if not words:
        raise ValueError(f"{text}: holds no words")
    packets = to_packets(read_samples(path))
    return Track(path.stem, tuple(SpokenWord(word, -1.0) for word in words), tuple(packets))


def bundled_tracks() -> list[Track]:
    """The clips of the demo, one speaker after the other."""
    clips = load_clips(CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))
    pause = np.zeros(RATE_HZ, np.float32)
    tracks = []
    for name, own in clips.items():
        words = [SpokenWord(word, -1.0) for clip in own for word in split_words(clip.text)]
        sound = np.concatenate([part for clip in own for part in (clip.samples, pause)])
        tracks.append(Track(name, tuple(words), tuple(to_packets(sound))))
    return tracks


def _tell_transcript(tracks: Sequence[Track], engine: SpeechEngine, language: str | None) -> None:
    score = Score()
    began_s = time.perf_counter()
    for track in tracks:
        with tempfile.TemporaryDirectory(prefix="trial-") as directory:
            segments = offline(
                *([track],),
                engine=_Speaking(engine, language),
                ear_model=load_silero(),
                directory=Path(directory),
            )
        score.add_text(track.words, " ".join(segment.text for segment in segments))
    share = (time.perf_counter() - began_s) / _seconds(tracks)
    sys.stdout.write(f"{'transcript':24}{score.wer:12.1%}{'':44}{share:10.2f} s/s\n")


def _tell_captions(
    tracks: Sequence[Track], engine: SpeechEngine, language: str | None, context_s: float
) -> None:
    score, all_lags = Score(), LiveResult()
    began_s = time.perf_counter()
    for track in tracks:
        # The true cost on this machine moves the call's clock.
        options = CaptionOptions(language=language, context_s=context_s)
        live = LiveRun(
            [track], engine=engine, ear_model=load_silero(), options=options, cost_s=None
        ).run()
        score.add_text(track.words, live.text(track.name))
        all_lags.partial_lags_s += live.partial_lags_s
        all_lags.final_lags_s += live.final_lags_s
    share = (time.perf_counter() - began_s) / _seconds(tracks)
    sys.stdout.write(
        f"{f'captions, context {context_s:g} s':24}{score.wer:12.1%}"
        f"{_percentiles(all_lags.partial_lags_s):>23}{_percentiles(all_lags.final_lags_s):>21}"
        f"{share:10.2f} s/s\n"
    )


class _Speaking:
    """An engine that is always told the language; everything else is the engine's."""

    def __init__(self, engine: SpeechEngine, language: str | None) -> None:
        self._engine = engine
        self._language = language
        self.info = engine.info
        self.hypothesise = engine.hypothesise
        self.detect_language = engine.detect_language

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        return self._engine.transcribe(audio, language=self._language or language)


def _percentiles(lags_s: Sequence[float]) -> str:
    if not lags_s:
        return "–"
    return f"{np.percentile(lags_s, 50):.2f}, {np.percentile(lags_s, 95):.2f} s"


def _seconds(tracks: Sequence[Track]) -> float:
    return sum(track.packets[-1].end_ns for track in tracks if track.packets) / 1e9


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speech_accuracy.trial")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument(
        "--models-dir", type=Path, default=Path(os.environ.get("MODELS_DIR") or "/models")
    )
    parser.add_argument("--model", default="base", help="a folder of it (base)")
    parser.add_argument("--language", default=None, help="ISO 639 code; default: found out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=float, nargs="+", default=CONTEXTS_S, help="seconds")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
