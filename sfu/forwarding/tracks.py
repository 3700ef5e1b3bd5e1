"""A published track (up) and its copies to the receivers (down)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from rtc.negotiation import Section
from rtc.rtp import RtpHeader, rewrite_rtp
from rtc.sdp import MediaKind

KEY_FRAME_INTERVAL_NS = 1_000_000_000
"""At most one PLI a second goes to a publisher for each of its SSRCs (rtcd.md 3.8)."""
HISTORY_PACKETS = 256
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class TrackType(Enum):
    """What a track carries; the first part of its id (rtcd.md 3.4)."""

    VOICE = "voice"
    SCREEN = "screen"
    SCREEN_AUDIO = "screen-audio"
    VIDEO = "video"

    @property
    def kind(self) -> MediaKind:
        return "audio" if self in (TrackType.VOICE, TrackType.SCREEN_AUDIO) else "video"


class DownTrack:
    """One receiver's copy: own SSRC and payload type, the same sequence numbers and timestamps."""

    def __init__(
        self, *, up: UpTrack, section: Section, ssrc: int, send: Callable[[bytes], None]
    ) -> None:
        self.up = up
        self.section = section
        self.ssrc = ssrc
        self.payload_type = 0
        self._send = send
        self.packets_sent = 0
        self.packets_repeated = 0

    def forward(self, packet: bytes, header: RtpHeader) -> None:
        self._send(rewrite_rtp(packet, header, ssrc=self.ssrc, payload_type=self.payload_type))
        self.packets_sent += 1

    def repeat(self, sequences: tuple[int, ...]) -> None:
        """Answer a NACK from the publisher's history; what is gone from it stays lost."""
        for sequence in sequences:
            kept = self.up.history.get(sequence)
            if kept is not None:
                self.forward(*kept)
                self.packets_repeated += 1


@dataclass(slots=True)
class History:
    """The newest packets of a track by sequence number, for retransmission."""

    capacity: int = HISTORY_PACKETS
    _slots: dict[int, tuple[int, bytes, RtpHeader]] = field(default_factory=dict)

    def put(self, packet: bytes, header: RtpHeader) -> None:
        self._slots[header.sequence % self.capacity] = (header.sequence, packet, header)

    def get(self, sequence: int) -> tuple[bytes, RtpHeader] | None:
        slot = self._slots.get(sequence % self.capacity)
        return (slot[1], slot[2]) if slot is not None and slot[0] == sequence else None


class UpTrack:
    """What one session publishes under one SSRC."""

    def __init__(
        self,
        *,
        session_id: str,
        type_: TrackType,
        ssrc: int,
        codec: str,
        request_key_frame: Callable[[int], None],
    ) -> None:
        self.session_id = session_id
        self.type = type_
        self.ssrc = ssrc
        self.codec = codec
        self.track_id = f"{type_.value}_{session_id}_{_short_id()}"
        self.enabled = True
        """False while the publisher is muted: nothing is forwarded, not even silence."""
        self.downs: list[DownTrack] = []
        self.history = History()
        self.packets_received = 0
        self._request_key_frame = request_key_frame
        self._key_frame_asked_ns = -KEY_FRAME_INTERVAL_NS

    @property
    def kind(self) -> MediaKind:
        return self.type.kind

    def receive(self, packet: bytes, header: RtpHeader) -> None:
        """Forward a packet to everybody who has it subscribed."""
        self.packets_received += 1
        if not self.enabled:
            return
        if self.kind == "video":
            self.history.put(packet, header)
        for down in self.downs:
            down.forward(packet, header)

    def request_key_frame(self, now_ns: int) -> None:
        """Ask the publisher, unless it was asked within the last second."""
        if now_ns - self._key_frame_asked_ns >= KEY_FRAME_INTERVAL_NS:
            self._key_frame_asked_ns = now_ns
            self._request_key_frame(self.ssrc)


def _short_id() -> str:
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
