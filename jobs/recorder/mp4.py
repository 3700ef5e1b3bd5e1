"""The recording's file: H.264 and AAC in an MP4 that can be played whenever its writer dies.

While recording it is written in fragments of a twentieth of a second, each on its way to the disk when it is
complete; `finish_mp4` makes the ordinary MP4 with the index in front out of it, also from one that was cut
off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import av
import numpy as np
from av.stream import Stream
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from jobs.recorder.chapters import Chapter, chapters
from jobs.recorder.encoder_choice import X264
from jobs.recorder.encoders import VIDEO_CLOCK_HZ, VideoEncoding, set_up, tell_failure
from jobs.recorder.moments import Moment
from jobs.recorder.planes import Planes, frame_of
from jobs.recorder.settings import RecorderSettings
from jobs.recorder.voice import RATE_HZ, Samples

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container.core import Chapter as ChapterEntry

AUDIO_BLOCK: Final = 1024
"""Samples of one AAC frame."""
AAC: Final = {"aac_coder": "fast"}
"""40 % of the time of FFmpeg's default, and nearer to what was said (docs/performance.md)."""
_KEY_FRAME_EVERY: Final = 4 * VIDEO_CLOCK_HZ
"""How far a player may have to go back to jump somewhere."""
_CRASH_SAFE: Final = {
    # Fragments to the end and no index after them: `hybrid_fragmented` would keep an entry of every packet in
    # memory until then (23 MB an hour), and `finish_mp4` makes an index anyway.
    "movflags": "empty_moov+default_base_moof+skip_trailer",
    "frag_duration": "50000",  # µs; a kill costs that and what the recording stays behind the call
    # 0: sound always waits for the next picture. Else FFmpeg, when pictures are late, ends fragments in the
    # middle of one, puts the next too early, and in the end aborts the process (`next_dts >= 0` in movenc.c).
    "max_interleave_delta": "0",
    "flush_packets": "1",  # PyAV keeps 256 KB back otherwise
}
_INDEX_IN_FRONT: Final = {"movflags": "faststart"}


class Mp4Error(Exception):
    """The file cannot be written or read; the message names it."""


class Mp4Writer:
    """Encodes and writes. Blocking; owned by one thread. Every method raises Mp4Error."""

    def __init__(self, path: Path, settings: RecorderSettings, *, encoder: str = X264) -> None:
        """`encoder`: FFmpeg's name of the one to begin with; x264 takes over when it fails."""
        self.path = path
        self._settings = settings
        self.frames = 0
        self.key_frames = 0
        self._closed = False
        self._last_key: int | None = None
        self.samples = 0
        """Written so far."""
        try:
            try:
                self._open(settings, encoder)
            except (av.FFmpegError, ValueError) as error:
                if encoder == X264:
                    raise
                tell_failure(encoder, reason=str(error))
                self._open(settings, X264)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise Mp4Error(f"{path}: cannot be written: {error}") from error

    def write_picture(self, planes: Planes, *, ticks: int, duration: int) -> None:
        """A frame to be shown from `ticks` on (1/90000 s since the start of the recording), for
        `duration` ticks if nothing follows.

        No frame may follow later than that: when a block of sound ends a fragment, FFmpeg puts the next
        frame at the latest at the end of the one before, whatever its time. Earlier is no harm.
        """
        frame = frame_of(planes)
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

    def ease(self, *, lighter: bool, smaller: bool) -> None:
        """Encode with the least trouble, or at half the size, or as asked again; from the next picture on."""
        asked = self._settings
        shrink = 2 if smaller else 1
        changed = self._video.change(
            replace(
                asked,
                video_preset="ultrafast" if lighter else asked.video_preset,
                quality="medium" if lighter else asked.quality,
                width_px=asked.width_px // shrink // 2 * 2,
                height_px=asked.height_px // shrink // 2 * 2,
            )
        )
        if changed:
            self._last_key = None

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

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the one that encodes the pictures now."""
        return self._video.name

    @property
    def fell_back(self) -> bool:
        """Did another encoder than x264 fail in mid-call?"""
        return self._video.fell_back

    def close(self) -> None:
        """Write what the encoders hold back and end the file; idempotent, also after a failure."""
        if self._closed or not (self.frames or self.samples):
            return  # FFmpeg crashes when it ends a file that was given nothing
        self._closed = True  # a second flush of an encoder ends the process, not the file
        try:
            try:
                self._container.mux(self._video.flush())
                if self.samples:  # or the encoder ends the process
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

    def _open(self, settings: RecorderSettings, encoder: str) -> None:
        self._container = av.open(str(self.path), "w", format="mp4", options=_CRASH_SAFE)
        stream = cast(VideoStream, self._container.add_stream(encoder))
        set_up(stream.codec_context, settings)
        stream.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        self._video = VideoEncoding(stream, settings)
        self._audio = self._add_audio(settings)
        # Opens both encoders and writes the header: what is missing is known before `started`.
        self._container.start_encoding()
        self._container.start_encoding()

    def _add_audio(self, settings: RecorderSettings) -> AudioStream:
        stream = self._container.add_stream("aac", rate=RATE_HZ, options=AAC)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "fltp"
        stream.codec_context.bit_rate = settings.audio_rate_kbps * 1000
        return stream


def finish_mp4(source: Path, target: Path, *, moments: Sequence[Moment] = ()) -> None:
    """Copy `source`, which may be cut off, into an ordinary MP4 with the index in front, and with chapters
    where `moments` give reason for them.

    `target` appears only when it is complete. Blocks.

    Raises:
        Mp4Error: `source` holds nothing that can be played, or `target` cannot be written.
    """
    temporary = target.with_name(target.name + ".tmp")
    try:
        with (
            source.open("rb") as file,
            av.open(_Forwards(file), "r", format="mp4") as container,
            av.open(str(temporary), "w", format="mp4", options=_INDEX_IN_FRONT) as out,
        ):
            streams = {s.index: out.add_stream_from_template(s) for s in container.streams}
            packets, sound_end_s, end_s = 0, 0.0, 0.0
            last: av.Packet[Stream] | None = None
            for packet in container.demux():
                if packet.dts is None:
                    continue
                packets += 1
                pictures = packet.stream.type == "video"
                packet.stream = streams[packet.stream.index]
                if not pictures:
                    sound_end_s = max(sound_end_s, _end_s(packet))
                    out.mux(packet)
                    continue
                if last is not None:
                    out.mux(last)
                last = packet
            if last is not None:
                _end_with_sound(last, sound_end_s)
                end_s = _end_s(last)
                out.mux(last)
            end_s = max(end_s, sound_end_s)
            # Written with the index, when all pictures and sound are in the file.
            out.set_chapters(
                [_chapter(n, c) for n, c in enumerate(chapters(moments, duration_s=end_s))]
            )
        if not packets:
            raise Mp4Error(f"{source}: holds nothing that can be played")
        _bring_to_disk(temporary)  # the source goes when the target is there
        temporary.replace(target)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise Mp4Error(f"{source}: cannot be finished: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def begins_well(path: Path) -> bool:
    """Can its first picture be decoded? Blocks."""
    try:
        with path.open("rb") as file, av.open(_Forwards(file), "r", format="mp4") as container:
            return next(container.decode(video=0), None) is not None
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return False


class _Forwards:
    """A file that cannot be sought in: FFmpeg looks for no index then, and makes none of the fragments, which
    takes time with their number squared (three hours: 1.4 s instead of 6.4)."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


def _bring_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end_with_sound(last: av.Packet[Stream], sound_end_s: float) -> None:
    """The last picture was said to last as long as the next one could take to come: there is none."""
    if sound_end_s:
        shown_s = sound_end_s - float((last.dts or 0) * last.time_base)
        last.duration = max(1, min(last.duration or 1, round(shown_s / last.time_base)))


def _end_s(packet: av.Packet[Stream]) -> float:
    return float(((packet.dts or 0) + (packet.duration or 0)) * packet.time_base)


def _chapter(number: int, chapter: Chapter) -> ChapterEntry:
    return {
        "id": number,
        "start": round(chapter.start_s * 1000),
        "end": round(chapter.end_s * 1000),
        "time_base": Fraction(1, 1000),
        "metadata": {"title": chapter.title},
    }
