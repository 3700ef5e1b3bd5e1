"""The recording's file: H.264 and AAC in an MP4 that can be played whenever its writer dies.

While recording it is written in fragments of a second, each on its way to the disk when it is complete;
`finish_mp4` makes the ordinary MP4 with the index in front out of it, also from one that was cut off.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from jobs.recorder.compositor import Planes
from jobs.recorder.settings import RecorderSettings
from jobs.recorder.voice import RATE_HZ, Samples

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

VIDEO_CLOCK_HZ: Final = 90_000
AUDIO_BLOCK: Final = 1024
"""Samples of one AAC frame."""
_KEY_FRAME_EVERY: Final = 4 * VIDEO_CLOCK_HZ
"""How far a player may have to go back to jump somewhere."""
_CRASH_SAFE: Final = {
    "movflags": "hybrid_fragmented",
    "frag_duration": "1000000",  # µs
    "flush_packets": "1",  # PyAV keeps 256 KB back otherwise
}
_INDEX_IN_FRONT: Final = {"movflags": "faststart"}


class Mp4Error(Exception):
    """The file cannot be written or read; the message names it."""


class Mp4Writer:
    """Encodes and writes. Blocking; owned by one thread. Every method raises Mp4Error."""

    def __init__(self, path: Path, settings: RecorderSettings) -> None:
        self.path = path
        self.frames = 0
        self.key_frames = 0
        self._closed = False
        self._last_key: int | None = None
        self.samples = 0
        """Written so far."""
        try:
            self._container = av.open(str(path), "w", format="mp4", options=_CRASH_SAFE)
            self._video = self._add_video(settings)
            self._audio = self._add_audio(settings)
            # Opens both encoders and writes the header: what is missing is known before `started`.
            self._container.start_encoding()
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise Mp4Error(f"{path}: cannot be written: {error}") from error

    def write_picture(self, planes: Planes, *, ticks: int, duration: int) -> None:
        """A frame to be shown from `ticks` on (1/90000 s since the start of the recording), for
        `duration` ticks if nothing follows."""
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = ticks, Fraction(1, VIDEO_CLOCK_HZ)
        frame.colorspace, frame.color_range = Colorspace.ITU601, ColorRange.MPEG
        if self._last_key is None or ticks - self._last_key >= _KEY_FRAME_EVERY:
            frame.pict_type = PictureType.I
            self._last_key = ticks
            self.key_frames += 1
        self.frames += 1
        try:
            for packet in self._video.encode(frame):
                packet.duration = duration
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise Mp4Error(f"{self.path}: a picture was not written: {error}") from error

    def write_sound(self, samples: Samples) -> None:
        """The next samples, up to AUDIO_BLOCK of them; fewer only at the very end."""
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[None, :]), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = RATE_HZ, self.samples
        frame.time_base = Fraction(1, RATE_HZ)
        self.samples += len(samples)
        try:
            self._mux_sound(self._audio.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise Mp4Error(f"{self.path}: sound was not written: {error}") from error

    def close(self) -> None:
        """Write what the encoders hold back and end the file; idempotent, also after a failure."""
        if self._closed or not (self.frames or self.samples):
            return  # FFmpeg crashes when it ends a file that was given nothing
        self._closed = True  # a second flush of an encoder ends the process, not the file
        try:
            try:
                # The same goes for an encoder.
                if self.frames:
                    self._container.mux(self._video.encode(None))
                if self.samples:
                    self._mux_sound(self._audio.encode(None))
            finally:
                self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise Mp4Error(f"{self.path}: was not ended: {error}") from error

    def _mux_sound(self, packets: list[av.Packet[AudioStream]]) -> None:
        for packet in packets:
            # The encoder's run-in lies before zero. In fragments there is no edit list that could hide it:
            # kept, it would move everything by 21 ms.
            if packet.pts is not None and packet.pts >= 0:
                self._container.mux(packet)

    def _add_video(self, settings: RecorderSettings) -> VideoStream:
        stream = self._container.add_stream("libx264")
        context = stream.codec_context
        context.width, context.height = settings.width_px, settings.height_px
        context.pix_fmt = "yuv420p"
        context.framerate = Fraction(settings.frame_rate)
        context.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        stream.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        context.thread_count = 1
        context.max_b_frames = 0
        context.gop_size = 100_000  # key frames come by time, see write_picture
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.options = {
            "preset": settings.video_preset,
            "tune": "zerolatency",
            "crf": "23",
            # A ceiling, not a target: a grid that stands still needs a twentieth of it.
            "maxrate": f"{settings.video_rate_kbps}k",
            "bufsize": f"{2 * settings.video_rate_kbps}k",
            "forced-idr": "1",
        }
        return stream

    def _add_audio(self, settings: RecorderSettings) -> AudioStream:
        stream = self._container.add_stream("aac", rate=RATE_HZ)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "fltp"
        stream.codec_context.bit_rate = settings.audio_rate_kbps * 1000
        return stream


def finish_mp4(source: Path, target: Path) -> None:
    """Copy `source`, which may be cut off, into an ordinary MP4 with the index in front.

    `target` appears only when it is complete. Blocks.

    Raises:
        Mp4Error: `source` holds nothing that can be played, or `target` cannot be written.
    """
    temporary = target.with_name(target.name + ".tmp")
    try:
        with (
            av.open(str(source)) as container,
            av.open(str(temporary), "w", format="mp4", options=_INDEX_IN_FRONT) as out,
        ):
            streams = {s.index: out.add_stream_from_template(s) for s in container.streams}
            packets = 0
            for packet in container.demux():
                if packet.dts is None:
                    continue
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
                packets += 1
        if not packets:
            raise Mp4Error(f"{source}: holds nothing that can be played")
        temporary.replace(target)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise Mp4Error(f"{source}: cannot be finished: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
