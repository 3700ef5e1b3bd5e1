"""Live captions of a meeting: ours beside the reference's algorithm on the same audio, engine and cores.

    python -m benchmarks.bench_captions [--seconds 28] [--only ours] [--keep DIR]

Bots, SFU, stand-in, recorder and transcriber run on two cores; the cost of a `base` model is burnt as CPU
(benchmarks/captions/burning.py). One JSON line per way and phase, at the end a table and which figures were
asked for and missed. The default takes about four minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.captions.course import Measured, measure
from benchmarks.captions.talk import SPEAKERS, make_talk
from callclient.errors import CallError
from foundation.groups import unwrapped
from foundation.logs import configure_logs
from testbed.bots.bot import BotError
from testbed.hosted_call import CallFailed
from testbed.processes import ProcessDied, StartFailed
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips

WAYS: Final = ("ours", "reference")
_CORES: Final = 2
_VOICES: Final = ("alice", "bob", "carol")
_FAILURES: Final = (CallFailed, BotError, CallError, StartFailed, ProcessDied)


def main() -> int:
    """Exit code 1: a way could not be measured, or with --check ours is not as good as asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_captions", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=28.0, help="of turns in the first phase")
    parser.add_argument("--only", choices=WAYS, help="one way alone")
    parser.add_argument("--keep", type=Path, help="an empty directory for logs and truth")
    parser.add_argument("--check", action="store_true", help="fail when ours misses a figure")
    options = parser.parse_args()
    configure_logs(level="error")
    # Children inherit it: everything shares the same two cores, whatever the machine has.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    clips = _clips()
    talk = make_talk(clips, seconds=options.seconds)
    results: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="captions-") as scratch:
        for way in WAYS if options.only is None else (options.only,):
            try:
                with unwrapped(*_FAILURES):
                    directory = (options.keep or Path(scratch)).resolve() / way
                    results[way] = asyncio.run(measure(way, talk, clips, directory))
            except _FAILURES as error:
                print(f"bench-captions: {way}: {error}", file=sys.stderr)
                return 1
            for row in _rows(way, results[way]):
                print(json.dumps({"bench": "captions", **row}), flush=True)
    _print_table(results)
    missed = _missed(results["ours"]) if "ours" in results else []
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed and options.check else 0


def _clips() -> dict[str, list[Clip]]:
    """All sentences for everybody, each beginning elsewhere: nobody repeats himself within half a minute."""
    found = load_clips(CLIPS_DIRECTORY, speakers=_VOICES)
    everything = [clip for voice in _VOICES for clip in found[voice]]
    return {
        name: everything[2 * number :] + everything[: 2 * number]
        for number, name in enumerate(SPEAKERS)
    }


def _rows(way: str, measured: Measured) -> list[dict[str, Any]]:
    figures = measured.figures
    rows = [
        {
            "way": way,
            **asdict(phase),
            "flicker": round(phase.flicker, 3),
            "cpu_s_per_s": round(measured.cpu_s_per_s[phase.name], 2),
            "backlog_s": round(measured.backlog_s[phase.name], 1),
            "rss_mb": round(measured.rss_mb[phase.name]),
        }
        for phase in measured.phases
    ]
    keep = ("caption", "live_captions", "speech", "segments", "packets_dropped")
    call = {
        "way": way,
        "name": "the call",
        "others_cpu_s_per_s": round(measured.others_cpu_s_per_s, 2),
        "most_messages_per_s": measured.most_messages_per_s,
        "longest_message": measured.longest_message,
        **{key: value for key, value in figures.items() if key.startswith(keep)},
    }
    return [_rounded(row) for row in (*rows, call)]


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}


def _print_table(results: dict[str, Measured]) -> None:
    print(
        "\n| | | partial p50 | p95 | final p50 | p95 | any word p50 | p95 | words lost | taken back per word "
        "| CPU s/s | waiting at most | memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for way, measured in results.items():
        for phase in measured.phases:
            lags = (
                phase.partial_p50_s,
                phase.partial_p95_s,
                phase.final_p50_s,
                phase.final_p95_s,
                phase.word_p50_s,
                phase.word_p95_s,
            )
            cells = [way, phase.name, *("–" if s is None else f"{s:.2f} s" for s in lags)]
            cells += [f"{phase.lost} of {phase.words}", f"{phase.flicker:.2f}"]
            cells += [f"{measured.cpu_s_per_s[phase.name]:.2f}"]
            cells += [f"{measured.backlog_s[phase.name]:.1f} s"]
            cells += [f"{measured.rss_mb[phase.name]:.0f} MB"]
            print(f"| {' | '.join(cells)} |")


def _missed(ours: Measured) -> list[str]:
    """What was asked for and is not so."""
    few, four, _, after = ours.phases
    asked = [
        ("partial p50, 1-2 talking", few.partial_p50_s, 0.6),
        ("final p95, 1-2 talking", few.final_p95_s, 1.6),
        ("final p95, 4 at once", four.final_p95_s, 2.2),
        ("partial p50, 10 s after the crowd", after.partial_p50_s, 0.6),
        ("final p95, 10 s after the crowd", after.final_p95_s, 1.6),
        ("messages in a second", float(ours.most_messages_per_s), 10.0),
        ("characters of a message", float(ours.longest_message), 120.0),
    ]
    texts = [
        f"{what} {value if value is None else round(value, 2)}, asked: {limit:g}"
        for what, value, limit in asked
        if value is None or value > limit
    ]
    nothing = ("live_captions_window_dropped", "caption_lines_dropped", "packets_dropped")
    dropped = {name: count for name in nothing if (count := ours.figures.get(name, 0))}
    return [*texts, *(f"{name} {count}, asked: 0" for name, count in dropped.items())]


if __name__ == "__main__":
    sys.exit(main())
