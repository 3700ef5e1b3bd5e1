"""A published track and what its receivers get of it (rtcd.md 3.4, 3.8)."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable
from enum import Enum

from rtc.ntp import ntp_from_unix
from rtc.rtcp import build_sender_report
from rtc.rtp import RtpHeader
from rtc.sdp import MediaKind, Msid
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.layers import RateMonitor
from testbed.rtcd_double.packets import readdressed, with_extension, without_extensions
from testbed.rtcd_double.script import Script

_NS = 1_000_000_000
_CLOCK_RATE_HZ = {"opus": 48_000, "VP8": 90_000, "AV1": 90_000}
_ID_CHARACTERS = string.ascii_lowercase + string.digits


class TrackType(Enum):
    """First part of an outgoing track's id."""

    VOICE = "voice"
    SCREEN = "screen"
    SCREEN_AUDIO = "screen-audio"
    VIDEO = "video"

    @property
    def kind(self) -> MediaKind:
        return "audio" if self in (TrackType.VOICE, TrackType.SCREEN_AUDIO) else "video"


class Published:
    """One SSRC of one publisher."""

    def __init__(
        self,
        *,
        session_id: str,
        type_: TrackType,
        codec: str,
        ssrc: int,
        rid: str,
        request_key_frame: Callable[[int], None],
        script: Script,
    ) -> None:
        """`request_key_frame(ssrc)` sends a PLI to the publisher, without any limit."""
        self.session_id = session_id
        self.type = type_
        self.codec = codec
        self.ssrc = ssrc
        self.rid = rid
        copies = script.video_copies if type_.kind == "video" else 1
        self._track_ids = [f"{type_.value}_{session_id}_{_random_id()}" for _ in range(copies)]
        self.enabled = True
        """False while its voice is muted: nothing is forwarded, and sequence numbers are missing then."""
        self.receivers: list[Outgoing] = []
        self.rate = RateMonitor(script.high_window_s if rid == "h" else script.low_window_s)
        self.request_key_frame = request_key_frame

    def new_msid(self) -> Msid:
        """For one receiver: any of the equivalent outgoing tracks."""
        return Msid(self.session_id, secrets.choice(self._track_ids))

    def receive(self, packet: bytes, header: RtpHeader, now_ns: int) -> None:
        """Forward one packet."""
        self.rate.push(len(packet), now_ns)
        if self.enabled:
            for receiver in self.receivers:
                receiver.forward(packet, header)


class Outgoing:
    """One receiver's copy: own SSRC and payload type; numbers and timestamps pass as they are."""

    def __init__(
        self,
        published: Published,
        msid: Msid,
        *,
        script: Script,
        book: Book,
        send: Callable[[bytes], None],
        next_transport_number: Callable[[], int],
    ) -> None:
        """`send` takes an RTP packet in clear."""
        self.published = published
        self.msid = msid
        self.ssrc = secrets.randbits(32)
        self._script = script
        self._book = book
        self._send = send
        self._next_transport_number = next_transport_number
        self._payload_type = 0
        self._transport_cc_id: int | None = None
        self._repeats = False
        self._buffer: dict[int, tuple[int, bytes]] = {}
        self._lost: set[int] = set()
        self._last: tuple[int, int] | None = None
        self._packets = self._octets = 0

    def bind(self, *, payload_type: int, transport_cc_id: int | None, repeats: bool) -> None:
        """The client agreed; packets flow from now on. `repeats`: NACK was negotiated."""
        self._payload_type = payload_type
        self._transport_cc_id = transport_cc_id
        self._repeats = repeats
        self.published.receivers.append(self)

    def unbind(self) -> None:
        if self in self.published.receivers:
            self.published.receivers.remove(self)

    def forward(self, packet: bytes, header: RtpHeader) -> None:
        is_audio = self.published.type.kind == "audio"
        if not (is_audio and self._script.keeps_audio_extensions):
            packet = without_extensions(packet, header)
        packet = readdressed(packet, ssrc=self.ssrc, payload_type=self._payload_type)
        self._last = (header.timestamp, time.monotonic_ns())
        self._packets += 1
        self._octets += header.payload_end - header.payload_start
        if self._repeats:
            self._buffer[header.sequence % self._script.nack_buffer_packets] = (
                header.sequence,
                packet,
            )
            if header.sequence in self._script.lost_packets - self._lost:
                self._lost.add(header.sequence)
                self._next_transport_number()
                return
        self._write(packet)

    def repeat(self, sequences: list[int]) -> None:
        """Answer a NACK on the same SSRC; what has left the buffer stays lost."""
        for sequence in sequences:
            kept = self._buffer.get(sequence % self._script.nack_buffer_packets)
            if kept is not None and kept[0] == sequence:
                self._book.repeated_packets += 1
                self._write(kept[1])

    def sender_report(self) -> bytes | None:
        """RTCP SR for now; None before the first packet."""
        if self._last is None:
            return None
        timestamp, sent_ns = self._last
        clock_rate_hz = _CLOCK_RATE_HZ[self.published.codec]
        elapsed = (time.monotonic_ns() - sent_ns) * clock_rate_hz // _NS
        return build_sender_report(
            ssrc=self.ssrc,
            ntp=ntp_from_unix(time.time_ns()),
            rtp_timestamp=timestamp + elapsed,
            packets=self._packets,
            octets=self._octets,
        )

    def _write(self, packet: bytes) -> None:
        if self._transport_cc_id is not None:
            number = self._next_transport_number() & 0xFFFF
            packet = with_extension(packet, self._transport_cc_id, number.to_bytes(2))
        self._send(packet)


def _random_id() -> str:
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))
