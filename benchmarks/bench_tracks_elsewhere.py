"""How much sooner a transcript is there when several workers make it.

    python -m benchmarks.bench_tracks_elsewhere [--workers 1 2] [--sentences 30] [--even] [--check]
    python -m benchmarks.bench_tracks_elsewhere --fixed-cost 0.8 --workers 1 2 4 8 [--check]

A Redis, one worker that owns the tracks of a call, and so many others that transcribe one track at a time,
each in processes of its own on this machine; from the hand-over to the merged text. The first form runs the
bundled model, one thread for each track: it says something up to as many workers as there are idle
processors. The second one runs a made-up engine that waits a fixed time for each sentence and needs no
processor: it says what the stage itself costs, and nothing about any model. Transcribers have the priority of
work after calls, so on a machine with other work they get what that leaves over, however many they are;
`--even` (as root) gives them the priority of everything else. One JSON line for each number of
workers; with `--check` the exit code is 1 where N workers take more than 1.35 times 1/N.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import glob
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from foundation.logs import configure_logs
from testbed.brokers import RedisServer
from testbed.demo.options import BUNDLED_MODEL
from testbed.fixed_cost_track import ENGINE_NAME
from testbed.processes import descendants
from testbed.tracks_elsewhere import TrackSite, make_captures

_SLACK: Final = 1.35
_LIFT_S: Final = 0.3
_LOCAL_ENGINE: Final = "faster-whisper"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_tracks_elsewhere", description=__doc__
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--speakers", type=int, default=8)
    parser.add_argument("--sentences", type=int, default=30, help="of each speaker")
    parser.add_argument(
        "--fixed-cost", type=float, metavar="SECONDS", help="made-up engine: for each sentence"
    )
    parser.add_argument("--even", action="store_true", help="nice value 0 for the transcribers")
    parser.add_argument("--check", action="store_true", help="exit code 1 beyond the limit")
    options = parser.parse_args()
    configure_logs(level="error")
    alone_s = 0.0
    well = True
    for workers in options.workers:
        with tempfile.TemporaryDirectory(prefix="tracks-") as directory:
            result = asyncio.run(_measure(options, workers, Path(directory)))
        alone_s = alone_s or result["seconds"] * workers
        share = result["seconds"] / alone_s
        well = well and share <= _SLACK / workers and not result["by_the_job_itself"]
        print(json.dumps({**result, "share_of_first": round(share, 3)}), flush=True)
    return 0 if well or not options.check else 1


async def _measure(options: argparse.Namespace, workers: int, directory: Path) -> dict[str, Any]:
    fixed = options.fixed_cost
    broker = RedisServer(directory / "redis")
    site = TrackSite(
        directory,
        models_dir=BUNDLED_MODEL.parent,
        broker_url=broker.url,
        transcriber_command=_command(fixed),
    )
    captures = await asyncio.to_thread(
        make_captures,
        directory / "captures",
        speakers=options.speakers,
        sentences=options.sentences,
    )
    lifting = asyncio.create_task(_lift()) if options.even else None
    try:
        await asyncio.to_thread(broker.start)
        await site.start(workers)
        outcome = await site.transcribe(
            captures,
            engine=_LOCAL_ENGINE if fixed is None else ENGINE_NAME,
            model=BUNDLED_MODEL.name if fixed is None else "tiny",
        )
    finally:
        if lifting is not None:
            lifting.cancel()
        await site.stop()
        await asyncio.to_thread(broker.stop)
    return {
        "engine": "bundled model" if fixed is None else f"made up, {fixed:g} s for each sentence",
        "workers": workers,
        "tracks": options.speakers,
        "sentences": outcome.pieces,
        "sentences_with_text": len(outcome.segments),
        "by_the_job_itself": outcome.taken_back,
        "even": options.even,
        "seconds": round(outcome.seconds, 1),
        "load_before": round(os.getloadavg()[0], 1),
    }


async def _lift() -> None:
    """Every thread of this process's descendants to nice value 0, again and again."""
    while True:
        for pid in descendants(os.getpid()):
            for task in glob.glob(f"/proc/{pid}/task/*"):
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, int(Path(task).name), 0)
        await asyncio.sleep(_LIFT_S)


def _command(fixed_cost_s: float | None) -> Sequence[str]:
    if fixed_cost_s is None:
        return (sys.executable, "-m", "jobs.transcriber")
    fixed = ("-m", "testbed.fixed_cost_track", "--seconds-per-piece", str(fixed_cost_s))
    return (sys.executable, *fixed)


if __name__ == "__main__":
    sys.exit(main())
