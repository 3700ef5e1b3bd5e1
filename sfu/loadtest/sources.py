"""Synthetic media in valid RTP, paced by others. Pure.

A source is asked for what is due and says when it wants to be asked next.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from sfu.loadtest.payloads import VP8_DELTA_FRAME, VP8_KEY_FRAME, opus_packet
from sfu.loadtest.plan import AUDIO_PACKETS_PER_S
from sfu.loadtest.stamp import MAGIC, STAMP, STAMP_BYTES, Window

_NS: Final = 1_000_000_000
_AUDIO_INTERVAL_NS: Final = _NS // AUDIO_PACKETS_PER_S
_AUDIO_TICKS: Final = 960
_VIDEO_CLOCK_HZ: Final = 90_000
_PACING_FACTOR: Final = 2.5
"""A frame's packets leave at 2.5 times the stream's rate, as browsers pace them."""
_HISTORY_PACKETS: Final = 512
_HEADER: Final = struct.Struct("!BBHII")
_SEQUENCE_AND_TIME: Final = struct.Struct("!HI")

SendRtp = Callable[[bytes], None]


class _Source:
    """What voice and video have in common: the packet's frame and its books."""

    def __init__(self, *, track: int, ssrc: int, send: SendRtp, window: Window) -> None:
        self.track = track
        self.ssrc = ssrc
        self._send = send
        self._window = window
        self.sequence = 0
        self.started_ns = 0
        self.packets = self.bytes = 0
        """In the window."""
        self.octets = 0
        """Payload bytes since the start, for sender reports."""
        self.timestamp = random.getrandbits(32)
        self._rtp_sequence = random.getrandbits(15)
        self.stopped = False

    def _stamp_and_send(self, packet: bytearray, now_ns: int) -> None:
        if not self.started_ns:
            self.started_ns = now_ns
        _SEQUENCE_AND_TIME.pack_into(packet, 2, self._rtp_sequence, self.timestamp)
        STAMP.pack_into(
            packet,
            len(packet) - STAMP_BYTES,
            MAGIC,
            self.track,
            self.sequence,
            now_ns,
            self.started_ns,
        )
        if self._window.start_ns <= now_ns < self._window.end_ns:
            self.packets += 1
            self.bytes += len(packet)
        self.sequence += 1
        self._rtp_sequence = (self._rtp_sequence + 1) & 0xFFFF
        self.octets += len(packet) - _HEADER.size
        self._keep_and_send(bytes(packet))

    def _keep_and_send(self, packet: bytes) -> None:
        self._send(packet)


class VoiceSource(_Source):
    """50 Opus packets a second with audio levels that a voice activity detector takes for talk."""

    clock_rate_hz = 48_000

    def __init__(
        self,
        *,
        track: int,
        ssrc: int,
        payload_type: int,
        level_id: int | None,
        payload_bytes: int,
        send: SendRtp,
        window: Window,
    ) -> None:
        """`level_id`: the negotiated id of ssrc-audio-level (RFC 6464), or None."""
        super().__init__(track=track, ssrc=ssrc, send=send, window=window)
        head = bytearray(_HEADER.pack(0x80, payload_type, 0, 0, ssrc))
        self._level_at = 0
        if level_id is not None:
            head[0] |= 0x10
            self._level_at = len(head) + 5
            head += struct.pack("!HHBBH", 0xBEDE, 1, level_id << 4, 0, 0)
        self._packet = head + opus_packet(payload_bytes)

    def send_due(self, now_ns: int, due_ns: int) -> int | None:
        """Send what is due now; returns when to ask again, None for never."""
        if self.stopped:
            return None
        if self._level_at:
            self._packet[self._level_at] = 20 if self.sequence // 10 % 2 else 120
        self._stamp_and_send(self._packet, now_ns)
        self.timestamp = (self.timestamp + _AUDIO_TICKS) & 0xFFFFFFFF
        return due_ns + _AUDIO_INTERVAL_NS


class VideoSource(_Source):
    """A VP8 stream by its outside (RFC 7741): frames, picture ids, key frames when asked for."""

    clock_rate_hz = _VIDEO_CLOCK_HZ

    def __init__(
        self,
        *,
        track: int,
        ssrc: int,
        payload_type: int,
        packet_bytes: int,
        rate_bps: int,
        frames_per_s: int,
        send: SendRtp,
        window: Window,
    ) -> None:
        super().__init__(track=track, ssrc=ssrc, send=send, window=window)
        self._payload_type = payload_type
        head = _HEADER.pack(0x80, payload_type, 0, 0, ssrc)
        descriptor = bytes([0x80, 0x80, 0, 0])  # extended, with a picture id of 15 bits
        self._packet = bytearray(head + descriptor)
        self._packet += random.randbytes(packet_bytes - len(self._packet))
        self._packets_per_frame = rate_bps / 8 / packet_bytes / frames_per_s
        self._packet_interval_ns = round(packet_bytes * 8 * _NS / (rate_bps * _PACING_FACTOR))
        self._frame_interval_ns = _NS // frames_per_s
        self._frame_ticks = _VIDEO_CLOCK_HZ // frames_per_s
        self._frames = 0
        self._left_in_frame = 0
        self._frame_due_ns = 0
        self._key_frame_wanted = True
        self._history: deque[bytes] = deque(maxlen=_HISTORY_PACKETS)
        self.key_frames = 0
        self.repeated = 0

    def request_key_frame(self) -> None:
        """The next frame shall be one."""
        self._key_frame_wanted = True

    def repeat(self, rtp_sequences: Iterable[int]) -> None:
        """Send again what the SFU asks for, as far as it is still there."""
        wanted = {sequence.to_bytes(2) for sequence in rtp_sequences}
        for packet in [packet for packet in self._history if packet[2:4] in wanted]:
            self.repeated += 1
            self._send(packet)

    def _keep_and_send(self, packet: bytes) -> None:
        self._history.append(packet)
        self._send(packet)

    def send_due(self, now_ns: int, due_ns: int) -> int | None:
        """Send what is due now; returns when to ask again, None for never."""
        if self.stopped:
            return None
        first = self._left_in_frame == 0
        packet = self._packet
        if first:
            self._begin_frame(due_ns)
        self._left_in_frame -= 1
        last = self._left_in_frame == 0
        packet[1] = self._payload_type | (0x80 if last else 0)
        self._stamp_and_send(packet, now_ns)
        packet[12] = 0x80
        return self._frame_due_ns if last else due_ns + self._packet_interval_ns

    def _begin_frame(self, due_ns: int) -> None:
        per_frame = self._packets_per_frame
        sent = int(self._frames * per_frame)
        self._left_in_frame = max(1, int((self._frames + 1) * per_frame) - sent)
        self._frames += 1
        self._frame_due_ns = due_ns + self._frame_interval_ns
        self.timestamp = (self.timestamp + self._frame_ticks) & 0xFFFFFFFF
        packet = self._packet
        packet[12] = 0x90  # start of partition 0
        packet[14:16] = (0x8000 | self._frames & 0x7FFF).to_bytes(2)
        frame = VP8_KEY_FRAME if self._key_frame_wanted else VP8_DELTA_FRAME
        self.key_frames += self._key_frame_wanted
        self._key_frame_wanted = False
        packet[16 : 16 + len(frame)] = frame


Source = VoiceSource | VideoSource
