"""The outside of a recording: boxes, streams, size, rates, length. No decoding."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from testbed.analysis.media import MediaError


@dataclass(frozen=True, slots=True)
class Mp4Structure:
    """What is in an MP4 file."""

    boxes: tuple[str, ...]
    """Top-level boxes in order."""
    video_codecs: tuple[str, ...]
    audio_codecs: tuple[str, ...]
    width_px: int
    height_px: int
    pixel_format: str
    frame_times_s: tuple[float, ...]
    """Presentation times of all pictures, sorted."""
    duration_s: float
    video_duration_s: float
    audio_duration_s: float
    size_bytes: int

    @property
    def index_in_front(self) -> bool:
        """Playback can begin before the whole file is there."""
        return (
            "moov" in self.boxes
            and "mdat" in self.boxes
            and self.boxes.index("moov") < self.boxes.index("mdat")
        )

    @property
    def most_frames_in_a_second(self) -> int:
        """In any window of one second; a window of exactly one second may touch one frame more."""
        return most_in_a_second(self.frame_times_s)


def read_mp4(path: Path) -> Mp4Structure:
    """Read the structure of `path`.

    Raises:
        MediaError: not an MP4 file, or without a picture or a sound.
    """
    boxes = _top_level_boxes(path)
    try:
        with av.open(str(path)) as container:
            videos, audios = container.streams.video, container.streams.audio
            if not videos or not audios:
                raise MediaError(f"{path}: should have a picture and a sound")
            ends = {videos[0].index: 0.0, audios[0].index: 0.0}
            times_s: list[float] = []
            for packet in container.demux(videos[0], audios[0]):
                if packet.pts is None or packet.time_base is None:
                    continue
                at_s = float(packet.pts * packet.time_base)
                length_s = float((packet.duration or 0) * packet.time_base)
                ends[packet.stream.index] = max(ends[packet.stream.index], at_s + length_s)
                if packet.stream.index == videos[0].index:
                    times_s.append(at_s)
            return Mp4Structure(
                boxes=tuple(boxes),
                video_codecs=tuple(stream.codec_context.name for stream in videos),
                audio_codecs=tuple(stream.codec_context.name for stream in audios),
                width_px=videos[0].codec_context.width,
                height_px=videos[0].codec_context.height,
                pixel_format=videos[0].codec_context.pix_fmt or "",
                frame_times_s=tuple(sorted(times_s)),
                duration_s=(container.duration or 0) / av.time_base,
                video_duration_s=ends[videos[0].index],
                audio_duration_s=ends[audios[0].index],
                size_bytes=path.stat().st_size,
            )
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: cannot be read: {error}") from error


def most_in_a_second(times_s: Sequence[float]) -> int:
    """The largest number of times within half-open windows of one second; `times_s` sorted."""
    most, first = 0, 0
    for last, at_s in enumerate(times_s):
        # A millisecond of slack: time stamps are rounded to the track's time scale.
        while at_s - times_s[first] >= 1.0 - 0.001:
            first += 1
        most = max(most, last - first + 1)
    return most


def _top_level_boxes(path: Path) -> list[str]:
    boxes: list[str] = []
    try:
        with path.open("rb") as file:
            while len(header := file.read(8)) == 8:
                size, name = struct.unpack(">I4s", header)
                boxes.append(name.decode("ascii", errors="replace"))
                if size == 1:
                    size = struct.unpack(">Q", file.read(8))[0] - 8
                if size < 8:  # 0: up to the end of the file
                    break
                file.seek(size - 8, 1)
    except (OSError, struct.error) as error:
        raise MediaError(f"{path}: cannot be read: {error}") from error
    return boxes
