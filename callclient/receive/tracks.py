"""A remote track: what somebody in the call publishes, as encoded frames placed in time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum

from foundation.channel import Channel, Overflow


class TrackSource(Enum):
    """What a track carries (calls-plugin.md 4.6)."""

    VOICE = "voice"
    SCREEN = "screen"
    SCREEN_AUDIO = "screen-audio"
    VIDEO = "video"

    @property
    def is_audio(self) -> bool:
        return self in (TrackSource.VOICE, TrackSource.SCREEN_AUDIO)


class Codec(Enum):
    """Codecs the SFU forwards."""

    OPUS = "opus"
    VP8 = "VP8"


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One Opus packet, or one whole VP8 frame."""

    payload: bytes
    """As the decoder wants it: RTP and VP8 payload headers are gone."""
    time_ns: int
    """When its first sample was captured, on this host's monotonic clock (as well as the receiver can
    know; see callclient.timeline). Never goes back within a track."""
    duration_ns: int
    """Audio: length of the packet by its TOC byte (RFC 6716 section 3.1). Video: 0."""
    keyframe: bool
    """Audio: always True."""
    lost_before: int
    """Packets lost for good between the frame before and this one: conceal or expect damage."""


@dataclass(slots=True)
class TrackStatistics:
    """Counters of one track since it was added."""

    packets_received: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    """Arrived after their place was given up; not used."""
    packets_duplicate: int = 0
    frames_delivered: int = 0
    frames_dropped: int = 0
    """Dropped because the reader of the track was too slow."""
    key_frames_requested: int = 0
    jitter_ms: float = 0.0
    """Interarrival jitter (RFC 3550 section 6.4.1)."""


class RemoteTrack:
    """Frames of one published track. Exactly one reader iterates `frames()`."""

    def __init__(
        self,
        *,
        track_id: str,
        session_id: str,
        source: TrackSource,
        codec: Codec,
        request_key_frame: Callable[[], None] | None = None,
        capacity: int = 512,
    ) -> None:
        self.track_id = track_id
        self.session_id = session_id
        """Who publishes it."""
        self.source = source
        self.codec = codec
        self.statistics = TrackStatistics()
        self._request_key_frame = request_key_frame
        self._frames: Channel[EncodedFrame] = Channel(capacity, overflow=Overflow.DROP_OLDEST)

    def request_key_frame(self) -> None:
        """Ask the publisher for a key frame; cheap to repeat, at most one a second reaches the wire."""
        if self._request_key_frame is not None:
            self._request_key_frame()

    def frames(self) -> AsyncIterator[EncodedFrame]:
        """The frames in order, from when the track was added until it ends.

        A reader that falls behind by more than the capacity loses the oldest frames
        (`statistics.frames_dropped`).
        """
        return self._frames

    def deliver(self, frame: EncodedFrame) -> None:
        """Hand a frame to the reader (called by the receive path, or by a test)."""
        if self._frames.closed:
            return
        self._frames.offer(frame)
        self.statistics.frames_delivered += 1
        self.statistics.frames_dropped = self._frames.statistics().dropped

    def end(self) -> None:
        """No more frames will come; idempotent."""
        self._frames.close()
