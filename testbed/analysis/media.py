"""Reads a recording: its sound as samples, its pictures one by one, both on the file's own time line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

ANALYSIS_HZ: Final = 16_000
"""Enough for speech and a 1 kHz beep, and quick to correlate."""

Samples = NDArray[np.float32]
Rgb = NDArray[np.uint8]
"""height × width × 3."""


class MediaError(ValueError):
    """A recording cannot be read, or lacks a stream; the message names the file."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono, ±1."""

    samples: Samples
    rate_hz: int
    start_s: float = 0.0
    """Recording time of the first sample."""

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.samples) / self.rate_hz

    def index(self, at_s: float) -> int:
        """The sample at a recording time; may lie outside."""
        return round((at_s - self.start_s) * self.rate_hz)

    def between(self, start_s: float, end_s: float) -> Sound:
        """A part, cut to what there is."""
        first = min(max(self.index(start_s), 0), len(self.samples))
        last = min(max(self.index(end_s), first), len(self.samples))
        return Sound(self.samples[first:last], self.rate_hz, self.start_s + first / self.rate_hz)


def read_sound(path: Path, *, rate_hz: int = ANALYSIS_HZ) -> Sound:
    """The sound of a recording; gaps in its time stamps become silence.

    Raises:
        MediaError: no such file, not media, or no sound in it.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    blocks: list[tuple[float, Samples]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(f"{path}: has no sound")
            for frame in container.decode(container.streams.audio[0]):
                blocks += [_block(part) for part in resampler.resample(frame)]
            blocks += [_block(part) for part in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: cannot be read: {error}") from error
    if not blocks:
        raise MediaError(f"{path}: its sound is empty")
    start_s = blocks[0][0]
    ends = [round((at_s - start_s) * rate_hz) + len(samples) for at_s, samples in blocks]
    total = np.zeros(max(ends), np.float32)
    for end, (_, samples) in zip(ends, blocks, strict=True):
        total[end - len(samples) : end] = samples
    return Sound(total, rate_hz, start_s)


def iter_pictures(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """Every picture with its recording time, s. Raises MediaError as `read_sound` does."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(f"{path}: has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.time is not None:
                    yield frame.time, frame
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: cannot be read: {error}") from error


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The brightness plane of a YUV frame, height × width."""
    plane: Any = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width]


def rgb(frame: av.VideoFrame) -> Rgb:
    """A frame as a viewer sees it."""
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _block(frame: av.AudioFrame) -> tuple[float, Samples]:
    values = frame.to_ndarray().reshape(-1).astype(np.float32)
    return float(frame.time or 0.0), values
