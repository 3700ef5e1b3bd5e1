"""Packets and chunks as bytes."""

from __future__ import annotations

import random
from struct import pack

import pytest

from rtc.sctp.chunks import (
    ChunkType,
    Init,
    data_chunk,
    init_chunk,
    parameter,
    parse_forward_tsn,
    parse_init,
    parse_sack,
    read_parameters,
    sack_chunk,
)
from rtc.sctp.packet import build_packet, bundle, crc32c, is_for
from rtc.sctp.serial import unwrap_32

RFC_3720 = {
    bytes(32): "aa36918a",
    b"\xff" * 32: "43aba862",
    bytes(range(32)): "4e79dd46",
    bytes(reversed(range(32))): "5cdb3f11",
    bytes.fromhex(
        "01c00000000000000000000000000000140000000000040000000014"
        "00000018280000000000000002000000000000 00".replace(" ", "")
    ): "563a96d9",
}


@pytest.mark.parametrize(("payload", "wire"), RFC_3720.items())
def test_the_checksum_is_that_of_the_rfc(payload: bytes, wire: str) -> None:
    """RFC 3720 appendix B.4, in the order in which the bytes go out."""
    assert crc32c(payload).to_bytes(4, "little").hex() == wire


def test_the_checksum_of_a_packet_goes_out_in_the_order_of_the_rfc() -> None:
    packet = build_packet(5000, 5000, 0x01020304, b"\x0b\0\0\4")
    value = crc32c(packet[:8] + bytes(4) + packet[12:])
    assert packet[8:12] == value.to_bytes(4, "little")
    assert is_for(packet, 5000, 5000, 0x01020304, 0)


def test_data_is_laid_out_as_in_the_rfc() -> None:
    assert data_chunk(1 << 32, 3, 2, 5, 53, b"abcde").hex() == (
        "00030015" + "00000000" + "0002" + "0005" + "00000035" + "6162636465000000"
    )


def test_a_sack_comes_back_as_it_was() -> None:
    wire = sack_chunk((1 << 32) + 10, 5000, [((1 << 32) + 12, (1 << 32) + 13)], [9, 9])
    assert wire.hex() == "0300001c0000000a00001388000100020002000300000009" * 1 + ("00000009")
    assert parse_sack(wire[4:]) == (10, 5000, [(2, 3)])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        bytes(11),
        pack("!IIHH", 1, 1, 1, 0),
        pack("!IIHHHH", 1, 1, 1, 0, 0, 1),
        pack("!IIHHHH", 1, 1, 1, 0, 3, 2),
        pack("!IIHHHHHH", 1, 1, 2, 0, 5, 6, 6, 7),
        pack("!IIHH", 1, 1, 65535, 65535),
    ],
)
def test_a_sack_that_contradicts_itself_is_none(value: bytes) -> None:
    assert parse_sack(value) is None


def test_an_init_says_what_we_can_do_and_reads_back() -> None:
    init = Init(1, 2, 3, 4, 5, cookie=b"cookie", zero_checksum=True)
    wire = init_chunk(ChunkType.INIT_ACK, init)
    assert parse_init(wire[4:]) == init
    assert dict(read_parameters(wire[4:], 16)) == {
        0xC000: b"",
        0x8008: bytes([130, 192]),
        0x8001: bytes([0, 0, 0, 1]),
        7: b"cookie",
    }


def test_parameters_end_at_the_first_that_does_not_fit() -> None:
    good = parameter(1, b"abc")
    for bad in (b"\0\1", b"\0\1\0\0", b"\0\1\0\3", b"\0\1\0\x09abcd"):
        assert list(read_parameters(good + bad)) == [(1, b"abc")]


def test_forward_tsn_reads_its_streams() -> None:
    assert parse_forward_tsn(pack("!IHHHH", 9, 1, 2, 3, 4)) == (9, [(1, 2), (3, 4)])
    assert parse_forward_tsn(b"\0\0\0") is None


def test_bundles_are_full_but_never_over_the_packet_size() -> None:
    dice = random.Random(4)
    sizes = [4 * dice.randrange(1, 287) for _ in range(300)]
    chunks = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    bodies = bundle(chunks)
    assert b"".join(bodies) == b"".join(chunks)
    assert max(map(len, bodies)) <= 1148
    starts = {sum(sizes[:number]): size for number, size in enumerate(sizes)}
    end = 0
    for body in bodies[:-1]:
        end += len(body)
        assert len(body) + starts[end] > 1148  # the next chunk was too long for it
    assert bundle([]) == []


@pytest.mark.parametrize(
    ("wire", "near", "value"),
    [
        (0, (1 << 32) - 1, 1 << 32),
        ((1 << 32) - 1, 1 << 32, (1 << 32) - 1),
        (5, 5, 5),
        ((1 << 32) - 1, 0, -1),
        (3, (7 << 32) + 1, (7 << 32) + 3),
    ],
)
def test_numbers_unwrap_to_the_nearest(wire: int, near: int, value: int) -> None:
    assert unwrap_32(wire, near) == value
