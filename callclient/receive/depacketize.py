"""From ordered packets to encoded frames: one Opus packet each, or whole VP8 pictures. Pure."""

from __future__ import annotations

from typing import Protocol

from callclient.receive.jitter import BufferedPacket
from callclient.receive.tracks import Codec, EncodedFrame
from callclient.timeline.track_clock import TrackClock
from rtc import opus, vp8

_NS = 1_000_000_000
MAX_FRAME_BYTES = 4 * 1024 * 1024


class Depacketizer(Protocol):
    """Takes the packets of one SSRC in order."""

    def push(self, packet: BufferedPacket) -> EncodedFrame | None:
        """The frame that this packet completes, if any."""


def depacketizer_for(codec: Codec) -> Depacketizer:
    return OpusDepacketizer() if codec is Codec.OPUS else Vp8Depacketizer()


class OpusDepacketizer:
    """Each packet is a frame; empty ones (some clients send them while muted) are passed over."""

    def __init__(self) -> None:
        self._clock = TrackClock(opus.CLOCK_RATE_HZ)
        self._lost = 0

    def push(self, packet: BufferedPacket) -> EncodedFrame | None:
        self._lost += packet.lost_before
        samples = opus.packet_samples(packet.payload)
        if samples == 0:
            return None
        lost, self._lost = self._lost, 0
        return EncodedFrame(
            payload=packet.payload,
            time_ns=self._clock.place(packet.header.timestamp, packet.arrival_ns),
            duration_ns=samples * _NS // opus.CLOCK_RATE_HZ,
            keyframe=True,
            lost_before=lost,
        )


class Vp8Depacketizer:
    """Collects a picture from its first packet to the marker; a picture with a hole is dropped."""

    def __init__(self) -> None:
        self._clock = TrackClock(90_000)
        self._parts: list[bytes] = []
        self._timestamp: int | None = None
        self._arrival_ns = 0
        self._bytes = 0
        self._lost = 0

    def push(self, packet: BufferedPacket) -> EncodedFrame | None:
        payload = packet.payload
        try:
            descriptor_bytes = vp8.descriptor_length(payload)
        except ValueError:
            self._drop(1)
            return None
        if packet.lost_before:
            self._drop(packet.lost_before)
        if packet.header.timestamp != self._timestamp:
            if self._parts:
                self._drop(1)
            if not vp8.starts_frame(payload):
                self._lost += 1
                return None
            self._timestamp = packet.header.timestamp
            self._arrival_ns = packet.arrival_ns
        self._parts.append(payload[descriptor_bytes:])
        self._bytes += len(payload)
        if self._bytes > MAX_FRAME_BYTES:
            self._drop(1)
            return None
        return self._finish() if packet.header.marker else None

    def _finish(self) -> EncodedFrame:
        frame = b"".join(self._parts)
        time_ns = self._clock.place(self._timestamp or 0, self._arrival_ns)
        lost, self._lost = self._lost, 0
        self._parts, self._bytes, self._timestamp = [], 0, None
        return EncodedFrame(
            payload=frame,
            time_ns=time_ns,
            duration_ns=0,
            keyframe=vp8.is_key_frame(frame),
            lost_before=lost,
        )

    def _drop(self, lost: int) -> None:
        self._lost += lost
        self._parts, self._bytes, self._timestamp = [], 0, None
