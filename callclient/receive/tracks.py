"""A remote track: what somebody in the call publishes, as encoded frames placed in time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from callclient.receive.levels import SpeechLevel
from foundation.channel import Channel, Overflow

_SOUND_FRAMES: Final = 2048
"""40 s at 20 ms: a job whose models load for half a minute hears what was said meanwhile."""
_PICTURE_FRAMES: Final = 512


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
    """Codecs the SFU forwards; values are the names in SDP."""

    OPUS = "opus"
    VP8 = "VP8"
    AV1 = "AV1"

    @property
    def clock_rate_hz(self) -> int:
        return 48_000 if self is Codec.OPUS else 90_000


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One Opus packet, one whole VP8 frame, or one AV1 temporal unit."""

    payload: bytes
    """As the decoder wants it: RTP and payload headers are gone. AV1: low-overhead bitstream format,
    beginning with a temporal delimiter."""
    time_ns: int
    """When its first sample was captured, on this host's monotonic clock (as well as the receiver can
    know; see callclient.timeline). Never goes back within a track."""
    duration_ns: int
    """Audio: length of the packet by its TOC byte (RFC 6716 section 3.1). Video: 0."""
    keyframe: bool
    """Audio: always True."""
    lost_before: int
    """Packets lost for good between the frame before and this one: conceal or expect damage. Silence in
    which nothing was sent (mute, DTX) is no loss."""
    lost_ns: int = 0
    """Audio: how much of the sound right before this frame is to be concealed."""
    repairs_loss: bool = False
    """Audio: the payload also holds the packet before it, coarsely (in-band FEC, RFC 6716 section 2.1.7);
    told only when that one was lost."""
    codec: Codec | None = None
    """None: the track's."""


@dataclass(slots=True)
class TrackStatistics:
    """Counters of one track since it was added."""

    packets_received: int = 0
    bytes_received: int = 0
    """Of payload."""
    packets_lost: int = 0
    """Given up. Those that came all the same later are in `packets_late` too."""
    packets_repaired: int = 0
    """Came after we had asked for them again."""
    packets_late: int = 0
    """Arrived after their place was given up; not used."""
    packets_duplicate: int = 0
    packets_dropped: dict[str, int] = field(default_factory=dict)
    """Not used for another reason: `malformed`, `payload_type` (not negotiated), `incomplete` (of a frame
    with a hole), `oversized`."""
    concealed_ns: int = 0
    """Sound to be concealed because its packets were lost."""
    gaps: int = 0
    """Jumps of the sequence after silence: mutes behind the original SFU."""
    restarts: int = 0
    """The sender's numbers began anew, or the SFU continued the source on another SSRC."""
    spurts: int = 0
    """How often the track was placed by arrival: at its start and when the RTP clock had stopped."""
    frames_delivered: int = 0
    frames_dropped: int = 0
    """Dropped because the reader of the track was too slow."""
    key_frames_requested: int = 0
    jitter_ms: float = 0.0
    """Interarrival jitter (RFC 3550 section 6.4.1)."""

    def drop(self, reason: str, packets: int = 1) -> None:
        """Count packets that are not used."""
        self.packets_dropped[reason] = self.packets_dropped.get(reason, 0) + packets


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
        capacity: int | None = None,
    ) -> None:
        """`capacity`: frames that wait for the reader at most; None: as many as the source needs."""
        self.track_id = track_id
        """Identity in this client. When the SFU continues a source as another track (a simulcast layer
        switch), it stays that of the first one."""
        self.session_id = session_id
        """Who publishes it."""
        self.source = source
        self.codec = codec
        """Certain from the first frame on: before that it is what was announced first."""
        self.statistics = TrackStatistics()
        self.speech = SpeechLevel()
        """Of sound: how loud, and is it speech? Whoever decodes the track and asks for it tells the levels
        (`measured`); until then it is what the publisher says, if anything."""
        self._request_key_frame = request_key_frame
        usual = _SOUND_FRAMES if source.is_audio else _PICTURE_FRAMES
        self._frames: Channel[EncodedFrame] = Channel(
            usual if capacity is None else capacity, overflow=Overflow.DROP_OLDEST
        )

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
        self.statistics.frames_dropped = self._frames.dropped

    def end(self) -> None:
        """No more frames will come; idempotent."""
        self._frames.close()
