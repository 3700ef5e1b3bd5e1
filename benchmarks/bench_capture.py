"""Hundreds of speakers for hours through the captures, as fast as it goes: memory, descriptors, disk.

    python -m benchmarks.bench_capture [--speakers 256] [--minutes 180] [--talk 0.05] [--check]

The clock is ours, the packets are made up, store, files and index are the real ones: every half second of the
call all captures are flushed. Speakers talk in spurts and are muted in between, each `--talk` of the time.
One JSON line per twelfth of the call and one at the end, for which the files are read back; `--check` makes
the limits the exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks.simulated_call import call_options, run_call
from foundation.process_stats import read_process_stats
from jobs.transcriber.capture import TrackCapture, TrackIdentity, VoicePacket, find_captures
from jobs.transcriber.capture_store import CaptureStore

_NS: Final = 1_000_000_000
_PACKET_NS: Final = 20_000_000
_STEP_NS: Final = _NS // 2
"""`capture_store` flushes so often."""
_SPURT_S: Final = (1.0, 15.0)
_PAYLOADS: Final = tuple(bytes([0x78]) + random.Random(n).randbytes(40 + 5 * n) for n in range(16))
"""Opus packets of 20 ms by their first byte, as long as those of a voice at 24 kbit/s."""
_READ_BACK: Final = 8
"""Speakers whose packets are all looked at in the end; of the others the files are opened."""
_REPORTS: Final = 12
_FLAT_MB: Final = 10.0


class _Speaker:
    """Spurts with pauses; the same for every run."""

    def __init__(self, number: int, capture: TrackCapture, *, talk: float) -> None:
        self._rng = random.Random(number)
        self._capture = capture
        self._talk = talk
        self._next_ns = round(self._rng.uniform(0.0, _SPURT_S[1] / talk) * _NS)
        self._left = self._spurt()
        self.packets = 0

    def until(self, until_ns: int) -> None:
        """Hand over what is said before."""
        while self._next_ns < until_ns:
            payload = _PAYLOADS[self.packets % len(_PAYLOADS)]
            self._capture.add(VoicePacket(payload, self._next_ns, _PACKET_NS))
            self.packets += 1
            self._next_ns += _PACKET_NS
            self._left -= 1
            if not self._left:
                self._left = self._spurt()
                pause_s = self._left * _PACKET_NS / _NS * (1 - self._talk) / self._talk
                self._next_ns += round(pause_s * self._rng.uniform(0.5, 1.5) * _NS)

    def _spurt(self) -> int:
        return round(self._rng.uniform(*_SPURT_S) * _NS / _PACKET_NS)


def main() -> int:
    """Returns the exit code."""
    parser = call_options(
        "benchmarks.bench_capture", __doc__, speakers=256, minutes=180.0, talk=0.05
    )
    return run_call(parser.parse_args(), _measure)


async def _measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    began_s, cpu_s = time.monotonic(), time.process_time()
    steps = round(options.minutes * 60 * _NS / _STEP_NS)
    states: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="disk") as disk:
        store = CaptureStore(directory, executor=disk)
        speakers = [
            _Speaker(
                number,
                store.open(TrackIdentity(f"track{number}", f"session{number}", f"user{number}")),
                talk=options.talk,
            )
            for number in range(options.speakers)
        ]
        for step in range(1, steps + 1):
            for speaker in speakers:
                speaker.until(step * _STEP_NS)
            await store.flush()
            if step % max(1, steps // _REPORTS) == 0:
                states.append(_state(step * _STEP_NS / _NS, directory, speakers))
                print(json.dumps(states[-1]), flush=True)
    lost = await asyncio.to_thread(_lost, directory, speakers)
    # The first report has everybody's buffers and the allocator's own ones already.
    growth_mb = states[-1]["rss_mb"] - states[0]["rss_mb"]
    more_files = states[-1]["descriptors"] - states[0]["descriptors"]
    return {
        **states[-1],
        "speakers": options.speakers,
        "minutes": options.minutes,
        "wall_s": round(time.monotonic() - began_s, 1),
        "cpu_per_call_s": round((time.process_time() - cpu_s) / (options.minutes * 60), 4),
        "rss_growth_mb": round(growth_mb, 1),
        "packets_lost": lost,
        "write_errors": store.write_errors,
        "well": not lost and not store.write_errors and growth_mb <= _FLAT_MB and more_files <= 0,
    }


def _state(call_s: float, directory: Path, speakers: list[_Speaker]) -> dict[str, Any]:
    gc.collect()
    stats = read_process_stats()
    files = [path.stat().st_size for path in directory.iterdir()]
    return {
        "call_s": round(call_s),
        "packets": sum(speaker.packets for speaker in speakers),
        "rss_mb": round(stats.rss_bytes / 1e6, 1),
        "peak_rss_mb": round(stats.peak_rss_bytes / 1e6, 1),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "files": len(files),
        "disk_mb": round(sum(files) / 1e6, 1),
    }


def _lost(directory: Path, speakers: list[_Speaker]) -> int:
    """Packets that cannot be read again, of some; and all of those whose file is not there."""
    numbers = {
        int(capture.identity.track_id.removeprefix("track")): capture
        for capture in find_captures(directory)
    }
    lost = 0
    for number, speaker in enumerate(speakers):
        if number not in numbers:
            lost += speaker.packets
        elif number < _READ_BACK:
            lost += speaker.packets - sum(1 for _ in numbers[number].packets())
    return lost


if __name__ == "__main__":
    sys.exit(main())
