"""What it costs that video is decoded in a process of its own: the same frames there and here, by turns.

One JSON line per case. CPU is user + system of both processes for each second of video, median of the rounds;
latency is that of one picture, from asking to having it; memory is what the decoding process adds.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from callclient.receive.tracks import EncodedFrame
from foundation.logs import configure_logs
from foundation.process_stats import read_process_stats
from jobs.recorder.decoding.decoder import Decoder, FrameDecoder
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.screen import ScreenTrack

_ROUNDS: Final = 5
_SECONDS: Final = 8
_RATE: Final = 15
_NS: Final = 1_000_000_000
_CASES: Final = (
    ("1 × 720p15", 1, 1280, 720),
    ("4 × 720p15", 4, 1280, 720),
    ("8 × 720p15", 8, 1280, 720),
    ("1 × 1080p15", 1, 1920, 1080),
)


@dataclass(slots=True)
class Cost:
    """Of some rounds."""

    cpu_s_per_s: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    rss_mib: float = 0.0
    pss_mib: float = 0.0
    """Of the decoding process, at its end."""


def main() -> None:
    configure_logs(level="error")  # what is refused here is meant to be
    for name, tracks, width, height in _CASES:
        frames = list(_camera(width, height))
        here, there = Cost(), Cost()
        for _ in range(_ROUNDS):
            _measure(LocalDecoder(), frames, tracks, here)
            decoder = Decoder()
            decoder.face(b"")  # started before the time counts
            _measure(decoder, frames, tracks, there)
            decoder.close()
        ours, theirs = (statistics.median(cost.cpu_s_per_s) for cost in (there, here))
        line = {
            "bench": "isolation",
            "case": name,
            "cpu_s_per_s": round(ours, 4),
            "cpu_s_per_s_in_process": round(theirs, 4),
            "ratio": round(ours / theirs, 2),
            "latency_ms": _spread(there.latency_ms),
            "latency_ms_in_process": _spread(here.latency_ms),
            "child_rss_mib": round(there.rss_mib),
            "child_pss_mib": round(there.pss_mib),
        }
        print(json.dumps(line, ensure_ascii=False))
    print(json.dumps(_start()))


def _measure(decoder: FrameDecoder, frames: list[bytes], tracks: int, cost: Cost) -> None:
    videos = [ScreenTrack(decoder) for _ in range(tracks)]
    child = getattr(decoder, "process_id", None)
    before = _cpu_s(child)
    for number, payload in enumerate(frames):
        at_ns = number * _NS // _RATE
        for video in videos:
            video.push(EncodedFrame(payload, at_ns, 0, number == 0, 0))
            began_s = time.perf_counter()
            picture = video.take(at_ns)
            cost.latency_ms.append((time.perf_counter() - began_s) * 1000)
            assert picture is not None
    cost.cpu_s_per_s.append((_cpu_s(child) - before) / _SECONDS)
    if child is not None:
        cost.rss_mib = read_process_stats(child).rss_bytes / 2**20
        cost.pss_mib = _pss_mib(child)


def _start() -> dict[str, object]:
    """Of the process alone, until it has answered."""
    took, spent = [], []
    for _ in range(_ROUNDS):
        before, began_s = _children_s(), time.perf_counter()
        decoder = Decoder()
        decoder.face(b"")
        took.append((time.perf_counter() - began_s) * 1000)
        decoder.close()
        spent.append(_children_s() - before)
    return {
        "bench": "isolation",
        "case": "start",
        "ms": round(statistics.median(took)),
        "cpu_s": round(statistics.median(spent), 3),
    }


def _cpu_s(child: int | None) -> float:
    """To a hundredth of a second for the child."""
    return time.process_time() + (0 if child is None else read_process_stats(child).cpu_s)


def _children_s() -> float:
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _spread(values: list[float]) -> dict[str, float]:
    ranked = sorted(values)
    return {
        "p50": round(ranked[len(ranked) // 2], 2),
        "p99": round(ranked[len(ranked) * 99 // 100], 2),
    }


def _camera(width: int, height: int) -> Iterator[bytes]:
    """Noise that moves slowly over a grey ground, as of a camera."""
    codec = av.CodecContext.create("libvpx", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.bit_rate, codec.gop_size = Fraction(1, _RATE), 1_500_000, 100_000
    codec.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    rows = height * 3 // 2
    coarse = np.random.default_rng(2).integers(90, 160, (rows // 8 + 1, width // 8), dtype=np.uint8)
    noise = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:rows]
    for number in range(_SECONDS * _RATE):
        planes = np.roll(noise, 2 * number, axis=1)
        planes[height:] = 128
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, _RATE)
        yield from (bytes(packet) for packet in codec.encode(frame))


if __name__ == "__main__":
    main()
