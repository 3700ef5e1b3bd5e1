"""Entry point: see benchmarks.speech_cost. A JSON line for each case; exit code 1: one is over its limit."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from statistics import median
from typing import Any

from benchmarks.job_environment import run_as_a_job
from benchmarks.speech_cost.ours import Ours, sound
from benchmarks.speech_cost.whisper_cpp import WhisperCpp
from tools.random_models.store import converted, ggml

_THREADS = 2
_LIMITS = {"tiny": 1.25, "base": 1.12, "small": 1.06}
_ONE_TRACK_LIMIT = 0.75
_FOUR_TRACKS_LIMIT = 0.5


def _around_kernels(size: str, rounds: int) -> dict[str, Any]:
    """From Opus to text, and from sound to text, over what CTranslate2 takes of it."""
    ours = Ours(converted(size), workers=1, threads_per_worker=_THREADS)
    ours.track()
    times = [ours.timed(ours.piece) for _ in range(rounds)]
    from_opus = [ours.timed(ours.track) for _ in range(rounds)]
    return {
        "case": f"pipeline over kernels, {size}",
        "ratio": round(median(whole / inside for whole, inside in from_opus), 3),
        "limit": _LIMITS[size],
        "ratio_from_sound": round(median(whole / inside for whole, inside in times), 3),
        "s": round(median(whole for whole, _ in from_opus), 2),
        "around_s": round(median(whole - inside for whole, inside in from_opus), 3),
        "windows": ours.kernels.windows,
    }


def _against(other: WhisperCpp, size: str, tracks: int, rounds: int) -> dict[str, Any]:
    """By turns, so that both see the same machine."""
    workers = 1 if tracks == 1 else _THREADS
    ours = Ours(converted(size), workers=workers, threads_per_worker=_THREADS // workers)
    ours.track()
    _, words = other.track()
    pairs = []
    for _ in range(rounds):
        own_s, _ = ours.timed(partial(ours.tracks, tracks))
        pairs.append((own_s, sum(other.track()[0] for _ in range(tracks))))
    return {
        "case": f"{tracks} track(s) over whisper.cpp, {size}, {_THREADS} threads",
        "ratio": round(median(own / its for own, its in pairs), 3),
        "limit": _ONE_TRACK_LIMIT if tracks == 1 else _FOUR_TRACKS_LIMIT,
        "s": round(median(own for own, _ in pairs), 2),
        "whisper_cpp_s": round(median(its for _, its in pairs), 2),
        "whisper_cpp_words": words,
        "windows": ours.kernels.windows,
    }


def main() -> int:
    run_as_a_job()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speech_cost")
    parser.add_argument("--quick", action="store_true", help="one round, without small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-whisper-cpp", action="store_true")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    results = []

    def tell(result: dict[str, Any]) -> None:
        results.append(result)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()

    for size in ("tiny", "base") if options.quick else _LIMITS:
        tell(_around_kernels(size, rounds))
    if not options.without_whisper_cpp:
        other = WhisperCpp(ggml("base"), sound(), threads=_THREADS)
        try:
            for tracks in (1, 4):
                tell(_against(other, "base", tracks, rounds))
        finally:
            other.close()
    return int(any(result["ratio"] > result["limit"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
