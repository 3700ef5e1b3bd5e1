"""A shared screen's track: VP8 frames to pictures, whole ones only."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import av

from callclient.receive.tracks import EncodedFrame

_PENDING: Final = 64
"""Decoded pictures that wait for their time; more than any source sends within the recorder's latency."""


@dataclass(frozen=True, slots=True)
class ScreenPicture:
    """A decoded frame. BT.601 limited range, the only matrix VP8 knows (RFC 6386 section 9.2)."""

    time_ns: int
    frame: av.VideoFrame


class ScreenTrack:
    """Decodes one track. Blocking; owned by one thread.

    After a loss nothing is shown until the next key frame: the last whole picture stays instead of a
    damaged one.
    """

    def __init__(self) -> None:
        codec = av.CodecContext.create("vp8", "r")
        assert isinstance(codec, av.VideoCodecContext)
        codec.thread_count = 1
        self._codec = codec
        self._whole = False
        self._pending: deque[ScreenPicture] = deque(maxlen=_PENDING)
        self.frames_decoded = 0
        self.frames_broken = 0

    @property
    def wants_key_frame(self) -> bool:
        """Nothing can be decoded before a key frame comes (trap 23)."""
        return not self._whole

    def push(self, frame: EncodedFrame) -> None:
        """Decode a frame, or skip it while a key frame is missing."""
        if frame.lost_before and not frame.keyframe:
            self._whole = False
        if not self._whole and not frame.keyframe:
            return
        try:
            decoded = self._codec.decode(av.Packet(frame.payload))
        except av.FFmpegError:
            self.frames_broken += 1
            self._whole = False
            return
        self._whole = True
        for picture in decoded:
            assert isinstance(picture, av.VideoFrame)
            self.frames_decoded += 1
            self._pending.append(ScreenPicture(frame.time_ns, picture))

    def next_time_ns(self) -> int | None:
        """When the next picture was captured; None if none waits."""
        return self._pending[0].time_ns if self._pending else None

    def take(self, until_ns: int) -> ScreenPicture | None:
        """The newest picture that is due, None if there is no new one."""
        newest = None
        while self._pending and self._pending[0].time_ns <= until_ns:
            newest = self._pending.popleft()
        return newest
