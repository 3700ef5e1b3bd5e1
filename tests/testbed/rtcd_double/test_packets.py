"""What the double does to packets."""

from __future__ import annotations

import struct

import pytest

from rtc.rtp import build_rtp, header_extension, parse_rtp
from testbed.rtcd_double.packets import (
    extension_elements,
    nacked,
    readdressed,
    rtcp_parts,
    transport_feedback,
    with_extension,
    without_extensions,
)

PACKET = build_rtp(
    b"payload",
    payload_type=109,
    sequence=65535,
    timestamp=1 << 31,
    ssrc=1,
    marker=True,
    extensions=((3, b"\x55"), (9, b"abcd")),
)


def test_only_ssrc_and_payload_type_change() -> None:
    changed = readdressed(PACKET, ssrc=0xDEADBEEF, payload_type=111)
    header = parse_rtp(changed)
    assert header is not None
    assert (header.ssrc, header.payload_type, header.marker) == (0xDEADBEEF, 111, True)
    assert (header.sequence, header.timestamp) == (65535, 1 << 31)
    assert changed[12:] == PACKET[12:]


def test_video_loses_all_extensions_and_nothing_else() -> None:
    header = parse_rtp(PACKET)
    assert header is not None
    plain = without_extensions(PACKET, header)
    assert plain == build_rtp(
        b"payload", payload_type=109, sequence=65535, timestamp=1 << 31, ssrc=1, marker=True
    )


@pytest.mark.parametrize(
    ("number", "value", "expected"),
    [
        (5, b"\x01\x02", {3: b"\x55", 9: b"abcd", 5: b"\x01\x02"}),
        (9, b"\x01\x02", {3: b"\x55", 9: b"\x01\x02"}),
        (20, b"\x01\x02", {3: b"\x55", 9: b"abcd", 20: b"\x01\x02"}),
    ],
    ids=["added", "collides", "two-byte"],
)
def test_the_transport_wide_number_joins_the_publishers_extensions(
    number: int, value: bytes, expected: dict[int, bytes]
) -> None:
    packet = with_extension(PACKET, number, value)
    assert dict(extension_elements(packet)) == expected
    assert header_extension(packet, number) == value
    header = parse_rtp(packet)
    assert header is not None
    assert packet[header.payload_start : header.payload_end] == b"payload"


def test_a_packet_without_extensions_gets_its_first_one() -> None:
    packet = build_rtp(b"x", payload_type=0, sequence=0, timestamp=0, ssrc=0)
    assert dict(extension_elements(with_extension(packet, 5, b"\x00\x07"))) == {5: b"\x00\x07"}


def test_a_nack_names_packets_by_first_and_mask() -> None:
    body = struct.pack("!IIHHHH", 1, 77, 65534, 0b101, 9, 0)
    assert nacked(body) == (77, [65534, 65535, 1, 9])


@pytest.mark.parametrize(
    ("chunks", "count", "expected"),
    [
        ([0x2000 | 100], 100, (100, 0)),
        ([100], 100, (0, 100)),
        ([0xC000 | 0b01_00_10_01_01_01_01], 7, (6, 1)),
        ([0x8000 | 0b10000000000001], 14, (2, 12)),
        ([0x8000 | 0b11111111111111], 3, (3, 0)),
    ],
    ids=["run received", "run lost", "two-bit", "one-bit", "cut off"],
)
def test_transport_feedback_is_counted(
    chunks: list[int], count: int, expected: tuple[int, int]
) -> None:
    head = struct.pack("!IIHHI", 1, 2, 10, count, 0)
    assert transport_feedback(head + b"".join(struct.pack("!H", c) for c in chunks)) == expected


def test_compound_packets_are_taken_apart_and_a_broken_end_is_left_out() -> None:
    pli = struct.pack("!BBHII", 0x81, 206, 2, 1, 2)
    cut = struct.pack("!BBH", 0x80, 201, 7)
    assert list(rtcp_parts(pli + pli + cut)) == [(206, 1, pli[4:])] * 2
