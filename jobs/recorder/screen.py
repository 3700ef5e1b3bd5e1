"""A shared screen's or camera's track: VP8 or AV1 frames to pictures, whole ones only."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callclient.receive.tracks import Codec, EncodedFrame
from foundation.logs import get_logger
from jobs.recorder.decoding.decoder import FrameDecoder
from jobs.recorder.decoding.limits import BATCH_FRAMES

if TYPE_CHECKING:
    import av

_log = get_logger(component="screen")
_PENDING: Final = 64
"""Frames that wait for their time; more than any source sends within the recorder's latency."""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class ScreenPicture:
    """A decoded frame. BT.601 limited range, the only matrix VP8 knows (RFC 6386 section 9.2)."""

    time_ns: int
    frame: av.VideoFrame


class ScreenTrack:
    """Decodes one track, each frame when its time has come: pictures of a large screen that wait would take
    3 MB each. Blocking; owned by one thread.

    After a loss nothing is shown until the next key frame: the last whole picture stays instead of a
    damaged one. So it is when the decoder was lost.
    """

    def __init__(self, decoder: FrameDecoder, owner: str = "") -> None:
        """`owner`: whom it is put down to when the decoder is lost by one of its frames."""
        self._decoder = decoder
        self._owner = owner
        self._number = next(_numbers) % 2**32
        self._generation = decoder.generation
        self._codec = self._decoder_codec = Codec.VP8
        """Of the newest frame that came, and of the newest that was decoded."""
        self._whole = False
        self._pending: deque[tuple[Codec, EncodedFrame]] = deque()
        self.interrupted = False
        """What was decoded before is lost with the decoder; no picture has come since."""
        self.frames_decoded = 0
        self.frames_broken = 0

    @property
    def shut_out(self) -> bool:
        """Nothing of it is decoded any more."""
        return self._decoder.shut_out(self._owner)

    @property
    def wants_key_frame(self) -> bool:
        """Nothing more can be decoded before a key frame comes (trap 23)."""
        self._notice_loss()
        return not self._whole and not self.shut_out

    def push(self, frame: EncodedFrame) -> None:
        """Remember a frame, or skip it while a key frame is missing."""
        self._notice_loss()
        if self.shut_out:
            return
        codec = frame.codec or self._codec
        if codec is not self._codec:
            self._codec, self._whole = codec, False
        if frame.lost_before and not frame.keyframe:
            self._whole = False
        if not self._whole and not frame.keyframe:
            return
        if not self._whole:
            self._decoder.wake()
        self._whole = True
        self._pending.append((codec, frame))
        if len(self._pending) > _PENDING:
            self._decode(1)  # later ones refer to it; its picture is nobody's

    def skip(self) -> None:
        """A frame is left out: nothing after it can be decoded before a key frame comes."""
        self._whole = False

    def next_time_ns(self) -> int | None:
        """When the next picture was captured; None if none waits."""
        return self._pending[0][1].time_ns if self._pending else None

    def take(self, until_ns: int) -> ScreenPicture | None:
        """The newest picture that is due, None if there is no new one."""
        newest = None
        while due := self._due(until_ns):
            newest = self._decode(due) or newest
        return newest

    def close(self) -> None:
        """Nothing of it will be decoded any more."""
        self._decoder.forget(self._number)

    def _due(self, until_ns: int) -> int:
        """How many frames, of those that are decoded at once."""
        self._notice_loss()
        first = itertools.islice(self._pending, BATCH_FRAMES)
        return sum(1 for _ in itertools.takewhile(lambda item: item[1].time_ns <= until_ns, first))

    def _decode(self, count: int) -> ScreenPicture | None:
        frames = [self._pending.popleft() for _ in range(count)]
        decoded = self._decoder.decode(
            self._number, self._owner, [(codec, frame.payload) for codec, frame in frames]
        )
        if not decoded.good:
            self.frames_broken += 1
            self._pending.extendleft(reversed(frames[max(decoded.taken, 1) :]))
            self._skip_to_key_frame()
        if decoded.taken and frames[decoded.taken - 1][0] is not self._decoder_codec:
            self._decoder_codec = frames[decoded.taken - 1][0]
            _log.info("video.codec", codec=self._decoder_codec.value)
        self.frames_decoded += decoded.shown
        if decoded.picture is None:
            return None  # not meant to be shown
        self.interrupted = False
        return ScreenPicture(frames[decoded.place][1].time_ns, decoded.picture)

    def _notice_loss(self) -> None:
        if self._generation != self._decoder.generation:
            self._generation = self._decoder.generation
            self.interrupted = self.interrupted or self.frames_decoded > 0
            self._skip_to_key_frame()

    def _skip_to_key_frame(self) -> None:
        while self._pending and not self._pending[0][1].keyframe:
            self._pending.popleft()
        self._whole = self._whole and bool(self._pending)
