"""A receiver that is moved between two real VP8 encodings sees one stream, and decodes every frame."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from rtc import vp8
from rtc.rtp import build_rtp, parse_rtp
from sfu.forwarding.history import PacketHistory
from sfu.forwarding.rewriter import DROPPED, SequenceRewriter
from sfu.forwarding.vp8_rewriter import Vp8Ids, Vp8Rewriter, read_vp8_ids

_MS = 1_000_000
_FRAME_TICKS = 9000
_FRAME_NS = 100 * _MS
_FRAMES = 40
_OUT_SSRC, _OUT_TYPE = 0xABCD, 96


@dataclass
class _Layer:
    """What the publisher sends under one SSRC, ten frames a second, a key frame every tenth."""

    ssrc: int
    width: int
    first_sequence: int
    first_timestamp: int
    first_picture_id: int

    def packets(self) -> Iterator[list[bytes]]:
        """The packets of one frame after the other."""
        sequence = self.first_sequence
        for index, frame in enumerate(_encoded(self.width)):
            picture_id = self.first_picture_id + index
            payloads = vp8.packetize(frame, picture_id=picture_id)
            yield [
                build_rtp(
                    payload,
                    payload_type=100,
                    sequence=(sequence := sequence + 1),
                    timestamp=self.first_timestamp + index * _FRAME_TICKS,
                    ssrc=self.ssrc,
                    marker=payload is payloads[-1],
                )
                for payload in payloads
            ]


def _encoded(width: int) -> list[bytes]:
    height = width * 9 // 16
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 10)
    encoder.gop_size = 10
    encoder.bit_rate = width * 2000
    encoder.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    blocks = np.random.default_rng(1).integers(0, 256, (height // 8 + 1, width // 8, 3))
    texture = np.kron(blocks, np.ones((8, 8, 1)))[:height].astype(np.uint8)
    frames = []
    for index in range(_FRAMES):
        picture = np.roll(texture, 4 * index, axis=1)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = index
        frames += [bytes(packet) for packet in encoder.encode(frame)]
    frames += [bytes(packet) for packet in encoder.encode(None)]
    return frames


class _Receiver:
    """The SFU's side of one receiver: moves to the wanted layer at its next key frame."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.wanted = 1
        self._rewriter: SequenceRewriter | None = None
        self._vp8 = Vp8Rewriter()
        self._newest: tuple[Vp8Ids, int] | None = None
        self._histories = {1: PacketHistory(256), 2: PacketHistory(256)}

    def forward(self, packet: bytes, now_ns: int) -> None:
        header = parse_rtp(packet)
        assert header is not None
        self._histories[header.ssrc].put(header.sequence, packet)
        ids = read_vp8_ids(packet, header.payload_start, header.payload_end)
        assert ids is not None
        if self._rewriter is None:
            self._rewriter = SequenceRewriter(
                clock_rate_hz=90_000,
                ssrc=header.ssrc,
                sequence=header.sequence,
                timestamp=header.timestamp,
            )
        elif header.ssrc != self._rewriter.source_ssrc:
            if header.ssrc != self.wanted or not ids.key_frame_start or self._newest is None:
                return
            newest_ids, newest_ns = self._newest
            self._rewriter.switch(
                header.ssrc, header.sequence, header.timestamp, elapsed_ns=now_ns - newest_ns
            )
            self._vp8.switch(newest_ids, ids)
        self._newest = (ids, now_ns)
        mapped = self._rewriter.map(header.sequence, header.timestamp)
        assert mapped != DROPPED
        self.sent.append(self._rewritten(packet, mapped, ids, None))

    def repeat(self, sequence: int) -> bytes:
        """What answers a NACK."""
        assert self._rewriter is not None
        source = self._rewriter.to_source(sequence)
        assert source is not None
        packet = self._histories[source.ssrc].get(source.sequence)
        assert packet is not None
        header = parse_rtp(packet)
        assert header is not None
        ids = read_vp8_ids(packet, header.payload_start, header.payload_end)
        assert ids is not None
        time = (header.timestamp + source.timestamp_offset) & 0xFFFFFFFF
        return self._rewritten(packet, sequence << 32 | time, ids, source.generation)

    def _rewritten(self, packet: bytes, mapped: int, ids: Vp8Ids, generation: int | None) -> bytes:
        out = bytearray(packet)
        type_byte = packet[1] & 0x80 | _OUT_TYPE
        struct.pack_into("!QI", out, 0, 0x80 << 56 | type_byte << 48 | mapped, _OUT_SSRC)
        if self._vp8.active:
            assert self._vp8.apply(out, 12, ids, generation)
        return bytes(out)


@pytest.fixture(scope="module")
def receiver() -> _Receiver:
    """Low for 1.2 s, then high for 1.2 s, then low again: wanted at moments that are no key frames."""
    low = _Layer(1, 320, 65_500, 2**32 - 20_000, 0x7FF0)
    high = _Layer(2, 640, 7, 123_456_789, 55)
    receiver = _Receiver()
    for index, (low_frame, high_frame) in enumerate(
        zip(low.packets(), high.packets(), strict=True)
    ):
        receiver.wanted = 2 if 12 <= index < 24 else 1
        both = (low_frame, high_frame) if receiver.wanted == 1 else (high_frame, low_frame)
        for packet in (*both[0], *both[1]):
            receiver.forward(packet, index * _FRAME_NS)
    return receiver


def test_numbers_have_no_hole_and_time_goes_on_evenly(receiver: _Receiver) -> None:
    headers = [header for packet in receiver.sent if (header := parse_rtp(packet))]
    assert {(h.ssrc, h.payload_type) for h in headers} == {(_OUT_SSRC, _OUT_TYPE)}
    first = headers[0].sequence
    assert [h.sequence for h in headers] == [(first + n) & 0xFFFF for n in range(len(headers))]
    times = list(dict.fromkeys(h.timestamp for h in headers))
    assert [(b - a) & 0xFFFFFFFF for a, b in pairwise(times)] == [_FRAME_TICKS] * (len(times) - 1)
    assert len(times) == _FRAMES


def test_picture_ids_grow_by_one_with_each_frame(receiver: _Receiver) -> None:
    ids = []
    for packet in receiver.sent:
        found = read_vp8_ids(packet, 12, len(packet))
        assert found is not None
        ids.append(found.picture_id)
    pictures = list(dict.fromkeys(ids))
    assert pictures == [(pictures[0] + n) & 0x7FFF for n in range(_FRAMES)]


def test_the_decoder_shows_every_frame_of_both_layers(receiver: _Receiver) -> None:
    decoder = av.CodecContext.create("vp8", "r")
    widths: list[int] = []
    parts: list[bytes] = []
    for packet in receiver.sent:
        parts.append(packet[12 + vp8.descriptor_length(packet[12:]) :])
        if packet[1] & 0x80:
            widths += [frame.width for frame in decoder.decode(av.Packet(b"".join(parts)))]
            parts = []
    assert len(widths) == _FRAMES
    # Changed at the key frames 20 and 30.
    assert widths == [320] * 20 + [640] * 10 + [320] * 10


def test_every_packet_can_be_repeated_exactly_as_it_was_sent(receiver: _Receiver) -> None:
    for packet in receiver.sent:
        header = parse_rtp(packet)
        assert header is not None
        assert receiver.repeat(header.sequence) == packet
