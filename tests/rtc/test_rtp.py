"""RTP, Opus and VP8 on bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc import opus, rtp, vp8


def test_a_packet_reads_back_with_its_extension_and_payload() -> None:
    packet = rtp.build_rtp(
        b"payload",
        payload_type=111,
        sequence=65535,
        timestamp=2**32 - 1,
        ssrc=7,
        marker=True,
        extensions=((1, b"\x10"), (5, b"ab")),
    )
    header = rtp.parse_rtp(packet)
    assert header is not None
    assert (header.marker, header.payload_type, header.sequence) == (True, 111, 65535)
    assert (header.timestamp, header.ssrc) == (2**32 - 1, 7)
    assert packet[header.payload_start : header.payload_end] == b"payload"
    assert rtp.header_extension(packet, 1) == b"\x10"
    assert rtp.header_extension(packet, 5) == b"ab"
    assert rtp.header_extension(packet, 2) is None


def test_rewriting_changes_ssrc_and_payload_type_and_strips_extensions_and_padding() -> None:
    original = rtp.build_rtp(
        b"media", payload_type=96, sequence=9, timestamp=90, ssrc=1, extensions=((3, b"x"),)
    )
    padded = bytes([original[0] | 0x20]) + original[1:] + bytes([0, 0, 3])
    header = rtp.parse_rtp(padded)
    assert header is not None
    rewritten = rtp.rewrite_rtp(padded, header, ssrc=2, payload_type=45)
    expected = rtp.build_rtp(b"media", payload_type=45, sequence=9, timestamp=90, ssrc=2)
    assert rewritten == expected


@given(st.binary(max_size=80))
def test_no_bytes_make_the_readers_raise(data: bytes) -> None:
    rtp.parse_rtp(data)
    rtp.header_extension(data, 3)
    opus.packet_samples(data)


@pytest.mark.parametrize(("bits", "start"), [(16, 65530), (32, 2**32 - 5)])
def test_counters_unwrap_over_the_end_and_tolerate_reordering(bits: int, start: int) -> None:
    unwrapper = rtp.Unwrapper(bits)
    order = [0, 1, 3, 2, 4, 10, 9, 11]
    unwrapped = [unwrapper.unwrap((start + offset) % 2**bits) for offset in order]
    assert [value - start for value in unwrapped] == order


@pytest.mark.parametrize(
    ("toc", "rest", "samples"),
    [
        (0xF8, b"", 960),  # CELT 20 ms, one frame
        (0xFC, b"", 960),
        (0x08, b"x", 960),  # SILK narrow band 20 ms
        (0x09, b"xy", 1920),  # two frames
        (0x0B, b"\x03xyz", 2880),  # three frames, counted
        (0xE0, b"", 120),  # CELT 2.5 ms
        (0x1B, b"\x3f", 0),  # 63 × 60 ms is not a legal packet
    ],
)
def test_opus_packets_tell_their_length(toc: int, rest: bytes, samples: int) -> None:
    assert opus.packet_samples(bytes([toc]) + rest) == samples


@given(st.binary(min_size=1, max_size=5000), st.integers(0, 32767))
def test_a_vp8_frame_survives_packetizing(frame: bytes, picture_id: int) -> None:
    payloads = vp8.packetize(frame, picture_id=picture_id)
    assert [vp8.starts_frame(p) for p in payloads] == [True] + [False] * (len(payloads) - 1)
    assert b"".join(p[vp8.descriptor_length(p) :] for p in payloads) == frame


@pytest.mark.parametrize(
    ("payload", "length"),
    [
        (b"\x10", 1),
        (b"\x90\x80\x01", 3),
        (b"\x90\x80\x81\x02", 4),
        (b"\x90\xf0\x81\x02\x03\x04", 6),
    ],
)
def test_vp8_descriptors_of_every_form_are_measured(payload: bytes, length: int) -> None:
    assert vp8.descriptor_length(payload) == length


@pytest.mark.parametrize("payload", [b"", b"\x90", b"\x90\x80", b"\x90\x80\x81", b"\x90\xe0\x01"])
def test_a_cut_off_vp8_descriptor_is_an_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match="VP8 payload"):
        vp8.descriptor_length(payload)
