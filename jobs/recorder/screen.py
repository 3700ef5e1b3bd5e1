"""A shared screen's track: VP8 or AV1 frames to pictures, whole ones only."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import av

from callclient.receive.decoders import DECODERS
from callclient.receive.tracks import Codec, EncodedFrame
from foundation.logs import get_logger

_log = get_logger(component="screen")
_PENDING: Final = 64
"""Frames that wait for their time; more than any source sends within the recorder's latency."""


@dataclass(frozen=True, slots=True)
class ScreenPicture:
    """A decoded frame. BT.601 limited range, the only matrix VP8 knows (RFC 6386 section 9.2)."""

    time_ns: int
    frame: av.VideoFrame


class ScreenTrack:
    """Decodes one track, each frame when its time has come: pictures of a large screen that wait would take
    3 MB each. Blocking; owned by one thread.

    After a loss nothing is shown until the next key frame: the last whole picture stays instead of a
    damaged one.
    """

    def __init__(self) -> None:
        self._codec = Codec.VP8
        """Of the newest frame."""
        self._decoder_codec = self._codec
        self._decoder = _decoder(self._codec)
        self._whole = False
        self._pending: deque[tuple[Codec, EncodedFrame]] = deque()
        self.frames_decoded = 0
        self.frames_broken = 0

    @property
    def wants_key_frame(self) -> bool:
        """Nothing more can be decoded before a key frame comes (trap 23)."""
        return not self._whole

    def push(self, frame: EncodedFrame) -> None:
        """Remember a frame, or skip it while a key frame is missing."""
        codec = frame.codec or self._codec
        if codec is not self._codec:
            self._codec, self._whole = codec, False
        if frame.lost_before and not frame.keyframe:
            self._whole = False
        if not self._whole and not frame.keyframe:
            return
        self._whole = True
        self._pending.append((codec, frame))
        if len(self._pending) > _PENDING:
            self._decode_next()  # later ones refer to it; its picture is nobody's

    def skip(self) -> None:
        """A frame is left out: nothing after it can be decoded before a key frame comes."""
        self._whole = False

    def next_time_ns(self) -> int | None:
        """When the next picture was captured; None if none waits."""
        return self._pending[0][1].time_ns if self._pending else None

    def take(self, until_ns: int) -> ScreenPicture | None:
        """The newest picture that is due, None if there is no new one."""
        newest = None
        while self._pending and self._pending[0][1].time_ns <= until_ns:
            newest = self._decode_next() or newest
        return newest

    def _decode_next(self) -> ScreenPicture | None:
        codec, frame = self._pending.popleft()
        if codec is not self._decoder_codec:
            self._decoder_codec, self._decoder = codec, _decoder(codec)
            _log.info("video.codec", codec=codec.value)
        try:
            decoded = self._decoder.decode(av.Packet(frame.payload))
        except av.FFmpegError:
            self.frames_broken += 1
            self._skip_to_key_frame()
            return None
        self.frames_decoded += len(decoded)
        if not decoded:
            return None  # not meant to be shown
        assert isinstance(decoded[-1], av.VideoFrame)
        return ScreenPicture(frame.time_ns, decoded[-1])

    def _skip_to_key_frame(self) -> None:
        while self._pending and not self._pending[0][1].keyframe:
            self._pending.popleft()
        self._whole = self._whole and bool(self._pending)


def _decoder(codec: Codec) -> av.VideoCodecContext:
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    return decoder
