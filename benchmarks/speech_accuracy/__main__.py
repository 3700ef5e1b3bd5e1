"""The benchmark of accuracy: one JSON line for each case, a table at the end; exit code 1 over a limit."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.job_environment import run_as_a_job
from benchmarks.speech_accuracy.hearing import LiveRun, offline
from benchmarks.speech_accuracy.scores import Score, rightly_attributed
from benchmarks.speech_accuracy.speech import (
    Speakers,
    Track,
    no_speech,
    to_packets,
    with_losses,
    with_noise,
)
from jobs.transcriber.captions import CaptionOptions
from jobs.transcriber.engines.base import SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine
from jobs.transcriber.vad import load_silero

_MODELS: Final = Path(__file__).parents[2] / "models"
_NAMES: Final = ("alice", "bob")
_COST_S: Final = 0.15
"""A hypothesis of base on ten seconds of context takes about so long."""
_SNR_DB: Final = 20.0
_STREAMING_MORE: Final = 0.04
_END_P50_S: Final = 0.15
_END_P90_S: Final = 0.45
_NOBODY: Final = "nobody speaks"


def _cases(words: int, seed: int) -> dict[str, list[Track]]:
    """Two people each; only in the last case do they talk at the same time."""
    speakers = Speakers(seed)

    def tracks(*, share: float = 0.0, snr_db: float | None = None) -> list[Track]:
        made = []
        for number, name in enumerate(_NAMES):
            sound, spoken = speakers.talk(name, words=-(-words // 2))
            if snr_db is not None:
                sound = with_noise(sound, snr_db=snr_db, seed=seed + number)
            packets = to_packets(sound)
            if share:
                packets = with_losses(packets, share=share, seed=seed + number)
            made.append(Track(name, tuple(spoken), tuple(packets)))
        return made

    return {
        "clean": _one_after_the_other(tracks()),
        "5 % loss": _one_after_the_other(tracks(share=0.05)),
        f"noise, {_SNR_DB:g} dB": _one_after_the_other(tracks(snr_db=_SNR_DB)),
        "cross-talk": tracks(),
    }


def _one_after_the_other(tracks: list[Track]) -> list[Track]:
    moved: list[Track] = []
    start_ns = 0
    for track in tracks:
        packets = tuple(replace(p, call_ns=p.call_ns + start_ns) for p in track.packets)
        words = tuple(replace(w, end_s=w.end_s + start_ns / 1e9) for w in track.words)
        moved.append(Track(track.name, words, packets))
        start_ns = packets[-1].end_ns
    return moved


def _measure(case: str, tracks: list[Track], engine: SpeechEngine) -> dict[str, Any]:
    began_s = time.perf_counter()
    ear_model = load_silero()
    with tempfile.TemporaryDirectory(prefix="accuracy-") as directory:
        segments = offline(tracks, engine=engine, ear_model=ear_model, directory=Path(directory))
    options = CaptionOptions()
    live = LiveRun(
        tracks, engine=engine, ear_model=ear_model, options=options, cost_s=_COST_S
    ).run()
    final, streamed = Score(), Score()
    for track in tracks:
        own = [segment for segment in segments if segment.session_id == track.name]
        final.add_segments(track.words, own)
        streamed.add_text(track.words, live.text(track.name))
    return {
        "case": case,
        "words": final.words,
        "offline_wer": round(final.wer, 4),
        "streaming_wer": round(streamed.wer, 4),
        "speakers_right": rightly_attributed(tracks, segments),
        "word_end_p50_s": round(final.end_error_s(50), 3),
        "word_end_p90_s": round(final.end_error_s(90), 3),
        "took_s": round(time.perf_counter() - began_s, 1),
    }


def _too_bad(result: dict[str, Any]) -> bool:
    return bool(
        result["streaming_wer"] > result["offline_wer"] + _STREAMING_MORE
        or result["speakers_right"] < 1
        or result["word_end_p50_s"] > _END_P50_S
        or result["word_end_p90_s"] > _END_P90_S
    )


def _invented(engine: SpeechEngine) -> dict[str, Any]:
    """Words found where nobody speaks."""
    counts: dict[str, int] = {}
    ear_model = load_silero()
    for name, sound in no_speech().items():
        track = Track("alice", (), tuple(to_packets(sound)))
        with tempfile.TemporaryDirectory(prefix="accuracy-") as directory:
            segments = offline(
                [track], engine=engine, ear_model=ear_model, directory=Path(directory)
            )
        run = LiveRun(
            [track],
            engine=engine,
            ear_model=ear_model,
            options=CaptionOptions(),
            cost_s=_COST_S,
        )
        live = run.run().text("alice").split()
        counts[name] = sum(len(segment.words) for segment in segments) + len(live)
    return {"case": _NOBODY, "words_invented": counts}


def main() -> int:
    run_as_a_job()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speech_accuracy")
    parser.add_argument("--quick", action="store_true", help="150 words for each case")
    parser.add_argument("--words", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--only", help="one case: the beginning of its name, or `nobody speaks`")
    options = parser.parse_args()
    engine = load_engine(find_model(_MODELS, "whisper-words-ct2"), workers=1, threads_per_worker=1)
    over = False
    only = options.only or ""
    for case, tracks in _cases(150 if options.quick else options.words, options.seed).items():
        if not case.startswith(only):
            continue
        result = _measure(case, tracks, engine)
        over = over or _too_bad(result)
        _tell(result)
    if _NOBODY.startswith(only):
        invented = _invented(engine)
        _tell(invented)
        over = over or any(invented["words_invented"].values())
    return int(over)


def _tell(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
