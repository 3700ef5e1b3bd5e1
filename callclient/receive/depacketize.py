"""From ordered packets to encoded frames: one Opus packet each, or whole pictures. Pure."""

from __future__ import annotations

from typing import Final, Protocol

from callclient.receive.av1 import Av1Picture
from callclient.receive.frames import MAX_FRAME_BYTES, Assembled
from callclient.receive.jitter import BufferedPacket
from callclient.receive.tracks import Codec, TrackStatistics
from rtc import opus, vp8

_LONGEST_GAP_SAMPLES: Final = 5760


class Depacketizer(Protocol):
    """Takes the packets of one SSRC in order."""

    def push(self, packet: BufferedPacket) -> Assembled | None:
        """The frame that this packet completes, if any."""


def depacketizer_for(codec: Codec, statistics: TrackStatistics) -> Depacketizer:
    """`statistics` gets what is dropped, and why."""
    match codec:
        case Codec.OPUS:
            return OpusDepacketizer(statistics)
        case Codec.VP8:
            return PictureDepacketizer(Vp8Picture, statistics)
        case Codec.AV1:
            return PictureDepacketizer(Av1Picture, statistics)


class OpusDepacketizer:
    """Each packet is a frame; empty ones (some clients send them while muted) are passed over.

    Silence is no loss: with DTX and after a mute the numbers go on and only the timestamps jump.
    """

    def __init__(self, statistics: TrackStatistics) -> None:
        self._statistics = statistics
        self._lost = 0
        self._end: int | None = None
        """Timestamp at which the frame before ended."""
        self._samples = 0
        """Of the frame before."""

    def push(self, packet: BufferedPacket) -> Assembled | None:
        self._lost += packet.lost_before
        payload = packet.payload
        samples = opus.packet_samples(payload)
        if samples == 0:
            if payload:
                self._statistics.drop("malformed")
            return None
        frame = Assembled(payload, packet.sequence, packet.timestamp, keyframe=True)
        frame.samples = samples
        if self._lost:
            frame.lost = self._lost
            frame.lost_samples = self._missing(packet.timestamp, samples)
            frame.repairs_loss = opus.has_redundancy(payload)
            self._lost = 0
        self._end = packet.timestamp + samples
        self._samples = samples
        return frame

    def _missing(self, timestamp: int, samples: int) -> int:
        """How much sound the lost packets held: never more than lies between the frames around them."""
        if self._end is None:
            return 0
        at_most = self._lost * min(self._samples or samples, _LONGEST_GAP_SAMPLES)
        return min(max(0, timestamp - self._end), at_most)


class PictureParts(Protocol):
    """What has come of one picture: the half of the work that differs by codec. Payloads are not empty."""

    def __init__(self) -> None: ...

    @staticmethod
    def begins(payload: bytes) -> bool:
        """Can it be the first packet of a picture?"""

    def add(self, payload: bytes) -> None:
        """Take one more packet. Raises ValueError where it is malformed."""

    def whole(self) -> tuple[bytes, bool] | None:
        """What a decoder takes, and whether decoding can begin with it; None: a part is missing."""


class Vp8Picture:
    """A VP8 frame (RFC 7741); see `PictureParts`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    @staticmethod
    def begins(payload: bytes) -> bool:
        return vp8.starts_frame(payload)

    def add(self, payload: bytes) -> None:
        descriptor_bytes = vp8.descriptor_length(payload)
        if descriptor_bytes == len(payload):  # a decoder takes a picture of nothing for the end
            raise ValueError("VP8 payload holds a descriptor and nothing else")
        self._parts.append(payload[descriptor_bytes:])

    def whole(self) -> tuple[bytes, bool]:
        payload = b"".join(self._parts)
        return payload, vp8.is_key_frame(payload)


class PictureDepacketizer:
    """Collects a picture from its first packet to the marker; a picture with a hole is dropped."""

    def __init__(self, codec: type[PictureParts], statistics: TrackStatistics) -> None:
        self._codec = codec
        self._statistics = statistics
        self._parts: PictureParts = codec()
        self._first: BufferedPacket | None = None
        """Of the picture that is being collected."""
        self._packets = 0
        self._bytes = 0
        self._lost = 0

    def push(self, packet: BufferedPacket) -> Assembled | None:
        payload = packet.payload
        if packet.lost_before:
            self._drop(packet.lost_before)
        if not payload:  # padding, by which senders probe the network
            return None
        if self._first is None or packet.timestamp != self._first.timestamp:
            if self._first is not None:
                self._drop(1)
            if not self._codec.begins(payload):
                self._lost += 1
                self._statistics.drop("incomplete")
                return None
            self._first = packet
        self._packets += 1
        self._bytes += len(payload)
        if self._bytes > MAX_FRAME_BYTES:
            self._drop(1, reason="oversized")
            return None
        try:
            self._parts.add(payload)
        except ValueError:
            self._drop(1, reason="malformed")
            return None
        return self._finish(self._first) if packet.header.marker else None

    def _finish(self, first: BufferedPacket) -> Assembled | None:
        picture = self._parts.whole()
        if picture is None:
            self._drop(1)
            return None
        payload, keyframe = picture
        frame = Assembled(payload, first.sequence, first.timestamp, keyframe=keyframe)
        frame.lost, self._lost = self._lost, 0
        self._reset()
        return frame

    def _drop(self, lost: int, *, reason: str = "incomplete") -> None:
        self._lost += lost
        if self._packets:
            self._statistics.drop(reason, self._packets)
        self._reset()

    def _reset(self) -> None:
        self._parts, self._first = self._codec(), None
        self._packets = self._bytes = 0
