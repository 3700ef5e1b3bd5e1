"""H.264 encoders: how each is set up for a recording, and the change to x264 when another one fails.

None holds a frame back (no lookahead, no B-frames): what was encoded survives a kill, and pictures stay
beside their sound. The asked bit rate is a ceiling; quality says what is used of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from foundation.logs import get_logger
from jobs.recorder.encoder_choice import HARDWARE, X264
from jobs.recorder.settings import PRESETS, RecorderSettings

if TYPE_CHECKING:
    from av.video.stream import VideoStream

VIDEO_CLOCK_HZ: Final = 90_000
_PARAMETER_SETS: Final = 31
"""Numbers of H.264 parameter sets besides 0 (ITU-T H.264 section 7.4.2.1.1)."""
_log = get_logger(component="encoder")


@dataclass(frozen=True, slots=True)
class Quality:
    """What a name in `QUALITY` stands for."""

    crf: int
    """x264's constant rate factor; the constant quality of the others is on the same scale."""
    slowest_start: str
    """x264 works at least as hard as this preset says, if the plugin's profile asks for less."""


_QUALITIES: Final[Mapping[str, Quality]] = {
    "low": Quality(28, "ultrafast"),
    "medium": Quality(23, "ultrafast"),
    "high": Quality(20, "veryfast"),
    "best": Quality(18, "faster"),
}


def preset(settings: RecorderSettings) -> str:
    """The asked one, or the one that the quality needs if that works harder."""
    asked, needed = settings.video_preset, _QUALITIES[settings.quality].slowest_start
    return min(asked, needed, key=PRESETS.index)  # the hardest first


def set_up(context: VideoCodecContext, settings: RecorderSettings) -> None:
    """Everything but opening it; `context` is one of X264 or HARDWARE."""
    context.width, context.height = settings.width_px, settings.height_px
    context.pix_fmt = _pixel_format(context.name)
    context.framerate = Fraction(settings.frame_rate)
    context.time_base = Fraction(1, VIDEO_CLOCK_HZ)
    context.max_b_frames = 0
    context.gop_size = 100_000  # key frames come by time, see Mp4Writer.write_picture
    context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    # A ceiling, not a target: a grid that stands still needs a twentieth of it.
    rate = {
        "maxrate": f"{settings.video_rate_kbps}k",
        "bufsize": f"{2 * settings.video_rate_kbps}k",
    }
    crf = _QUALITIES[settings.quality].crf
    match context.name:
        case "h264_nvenc":
            # `delay` is the number of frames it keeps back; `surfaces` has to allow for none.
            own = {"preset": "p4", "tune": "ull", "rc": "vbr", "cq": str(crf), "delay": "0"}
            own |= {"zerolatency": "1", "forced-idr": "1", "surfaces": "4"}
        case "h264_qsv":
            own = {"preset": "medium", "global_quality": str(crf), "look_ahead": "0"}
            own |= {"async_depth": "1", "forced_idr": "1"}
        case _:
            context.thread_count = 1
            own = {"preset": preset(settings), "tune": "zerolatency", "crf": str(crf)}
            own |= {"forced-idr": "1"}
    context.options = rate | own


def tell_failure(encoder: str, *, reason: str, frames: int = 0) -> None:
    """The log learns that `encoder` failed after so many frames and x264 is used."""
    _log.warning("encoder.failed", encoder=encoder, frames=frames, used=X264, reason=reason)


def prove(name: str, settings: RecorderSettings, *, frames: int) -> None:
    """Encode `frames` pictures of noise, the last as a key frame.

    Raises:
        av.FFmpegError, ValueError: it is missing, fails, keeps frames back or makes no key frame when told.
    """
    context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    set_up(context, settings)
    noise = np.random.default_rng(1)
    for number in range(frames):
        shape = settings.height_px * 3 // 2, settings.width_px
        planes = noise.integers(16, 235, shape, dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame = frame.reformat(format=context.pix_fmt or "yuv420p")
        frame.pts, frame.time_base = number * VIDEO_CLOCK_HZ, Fraction(1, VIDEO_CLOCK_HZ)
        last = number == frames - 1
        frame.pict_type = PictureType.I if last or not number else PictureType.NONE
        packets = context.encode(frame)
        if not packets:
            raise ValueError(f"{name} keeps frames back")
        if last and not packets[0].is_keyframe:
            raise ValueError(f"{name} makes no key frame when told to")


class VideoEncoding:
    """One stream of a container. Blocking; owned by one thread."""

    def __init__(self, stream: VideoStream, settings: RecorderSettings) -> None:
        """`stream` was set up by `set_up` and is opened by its container."""
        self._stream = stream
        self._settings = settings
        self._context = stream.codec_context
        self._encoded = 0
        self._successors = 0
        """Encoders since the one that began."""
        self.fell_back = False
        """Its encoder failed in mid-call and x264 goes on."""

    @property
    def name(self) -> str:
        return self._context.name

    def encode(self, frame: av.VideoFrame) -> list[av.Packet[VideoStream]]:
        """The frame's packets. Raises av.FFmpegError when x264 fails."""
        if self._context.name == X264:
            return self._packets(frame)
        try:
            packets = self._packets(frame)
            if not packets:
                raise av.error.InvalidDataError(0, "it keeps frames back")
        except (av.FFmpegError, OSError, ValueError) as error:
            self._fall_back(str(error))
            frame.pict_type = PictureType.I
            return self._packets(frame)
        return packets

    def change(self, settings: RecorderSettings) -> bool:
        """Go on with another size or preset; the next frame must be a key frame. Hardware stays as it is, and
        x264 has it so when it takes over.

        Returns whether anything changes.
        """
        self._settings = settings
        if self._context.name != X264:
            return False
        self._go_on_with_x264()
        return True

    def flush(self) -> list[av.Packet[VideoStream]]:
        """What is held back; once. Raises av.FFmpegError."""
        if not self._encoded:
            return []  # FFmpeg ends the process when an encoder is flushed that was given nothing
        try:
            return self._in_stream(self._context.encode(None))
        except av.FFmpegError:
            if self._context.name == X264:
                raise
            return []  # hardware that fails at the very end has given out every frame before

    def _packets(self, frame: av.VideoFrame) -> list[av.Packet[VideoStream]]:
        wanted = self._context.pix_fmt or frame.format.name
        size = self._context.width, self._context.height
        if (frame.format.name, (frame.width, frame.height)) != (wanted, size):
            kind, pts, base = frame.pict_type, frame.pts, frame.time_base
            frame = frame.reformat(*size, format=wanted)
            frame.pict_type, frame.pts, frame.time_base = kind, pts, base
        packets = self._context.encode(frame)
        self._encoded += 1
        return self._in_stream(packets)

    def _in_stream(self, packets: list[av.Packet[VideoStream]]) -> list[av.Packet[VideoStream]]:
        for packet in packets:
            packet.stream = self._stream
            packet.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        return packets

    def _fall_back(self, reason: str) -> None:
        tell_failure(self.name, reason=reason, frames=self._encoded)
        self._go_on_with_x264()
        self.fell_back = True

    def _go_on_with_x264(self) -> None:
        context = av.CodecContext.create(X264, "w")
        set_up(context, self._settings)
        # The file's header holds the parameters of the encoder that began: these go with every key frame, and
        # under a number of their own, or a player that seeks back takes them for the first one's.
        self._successors += 1
        number = 1 + (self._successors - 1) % _PARAMETER_SETS
        context.options = {
            **context.options,
            "x264-params": f"repeat-headers=1:sps-id={number}",
        }
        self._context, self._encoded = context, 0


def _pixel_format(encoder: str) -> str:
    return "nv12" if encoder == HARDWARE["qsv"] else "yuv420p"
