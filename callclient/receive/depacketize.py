"""From ordered packets to encoded frames: one Opus packet each, or whole pictures. Pure."""

from __future__ import annotations

from typing import Final, Protocol

from callclient.receive.av1 import Av1Depacketizer
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
            return Vp8Depacketizer(statistics)
        case Codec.AV1:
            return Av1Depacketizer(statistics)


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


class Vp8Depacketizer:
    """Collects a picture from its first packet to the marker; a picture with a hole is dropped."""

    def __init__(self, statistics: TrackStatistics) -> None:
        self._statistics = statistics
        self._parts: list[bytes] = []
        self._first: BufferedPacket | None = None
        self._bytes = 0
        self._lost = 0

    def push(self, packet: BufferedPacket) -> Assembled | None:
        payload = packet.payload
        if packet.lost_before:
            self._drop(packet.lost_before)
        if not payload:  # padding, by which senders probe the network
            return None
        try:
            descriptor_bytes = vp8.descriptor_length(payload)
        except ValueError:
            descriptor_bytes = len(payload)
        if descriptor_bytes == len(payload):  # a decoder takes a picture of nothing for the end
            self._drop(1)
            self._statistics.drop("malformed")
            return None
        if self._first is None or packet.timestamp != self._first.timestamp:
            if self._parts:
                self._drop(1)
            if not vp8.starts_frame(payload):
                self._lost += 1
                self._statistics.drop("incomplete")
                return None
            self._first = packet
        self._parts.append(payload[descriptor_bytes:])
        self._bytes += len(payload)
        if self._bytes > MAX_FRAME_BYTES:
            self._drop(1, reason="oversized")
            return None
        return self._finish(self._first) if packet.header.marker else None

    def _finish(self, first: BufferedPacket) -> Assembled:
        payload = b"".join(self._parts)
        frame = Assembled(
            payload, first.sequence, first.timestamp, keyframe=vp8.is_key_frame(payload)
        )
        frame.lost, self._lost = self._lost, 0
        self._parts, self._bytes, self._first = [], 0, None
        return frame

    def _drop(self, lost: int, *, reason: str = "incomplete") -> None:
        self._lost += lost
        if self._parts:
            self._statistics.drop(reason, len(self._parts))
        self._parts, self._bytes, self._first = [], 0, None
