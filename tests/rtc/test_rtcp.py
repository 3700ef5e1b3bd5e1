"""RTCP on bytes: every message both ways, and what hostile input may not do."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc import rtcp
from rtc.ntp import ntp_from_unix, unix_from_ntp

_BLOCK = rtcp.ReportBlock(
    ssrc=9,
    fraction_lost=12,
    packets_lost=-3,
    highest_sequence=(2 << 16) | 56,
    jitter_ticks=78,
    last_sender_report=0xB705_2000,
    delay_ticks=0x0005_4000,
)


def test_a_sender_report_reads_back_with_its_counters_and_blocks() -> None:
    packet = rtcp.build_sender_report(
        ssrc=1, ntp=5 << 32, rtp_timestamp=48000, packets=2**32 + 7, octets=9, blocks=[_BLOCK]
    )
    assert list(rtcp.parse_rtcp(packet)) == [
        rtcp.SenderReport(1, 5 << 32, 48000, packets=7, octets=9, reports=(_BLOCK,))
    ]


def test_a_sender_report_has_the_octets_of_rfc_3550() -> None:
    packet = rtcp.build_sender_report(
        ssrc=0x11223344, ntp=0x83AA7E80_80000000, rtp_timestamp=0xA0B0C0D0, packets=1, octets=160
    )
    assert packet.hex() == "80c8000611223344" + "83aa7e8080000000" + "a0b0c0d0" + "00000001000000a0"


def test_a_compound_packet_gives_its_messages_in_order() -> None:
    compound = (
        rtcp.build_receiver_report(ssrc=1, blocks=[_BLOCK])
        + rtcp.build_source_name(ssrc=1, cname="ab")
        + rtcp.build_pli(sender_ssrc=1, media_ssrc=9)
        + rtcp.build_goodbye(ssrcs=[1, 2])
    )
    assert list(rtcp.parse_rtcp(compound)) == [
        rtcp.ReceiverReport(1, (_BLOCK,)),
        rtcp.SourceName(1, "ab"),
        rtcp.KeyFrameRequest(1, 9),
        rtcp.Goodbye((1, 2)),
    ]


@pytest.mark.parametrize("length", range(9))
def test_a_name_of_any_length_ends_on_a_whole_word(length: int) -> None:
    packet = rtcp.build_source_name(ssrc=7, cname="x" * length)
    assert len(packet) % 4 == 0
    assert packet[-1] == 0
    assert list(rtcp.parse_rtcp(packet)) == [rtcp.SourceName(7, "x" * length)]


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="256 bytes; wanted at most 255"):
        rtcp.build_source_name(ssrc=7, cname="x" * 256)


def test_names_of_several_chunks_and_other_items_are_told_apart() -> None:
    first = struct.pack("!I", 1) + b"\x02\x01n" + b"\x01\x01a" + b"\x00\x00"  # NAME, CNAME, end
    second = (
        struct.pack("!I", 2) + b"\x01\x02bc" + bytes(4)
    )  # ends on a word: a word of nulls follows
    third = struct.pack("!I", 3) + b"\x01\x01d" + bytes(1)
    body = first + second + third
    packet = struct.pack("!BBH", 0x83, 202, len(body) // 4) + body
    assert list(rtcp.parse_rtcp(packet)) == [
        rtcp.SourceName(1, "a"),
        rtcp.SourceName(2, "bc"),
        rtcp.SourceName(3, "d"),
    ]


@given(st.integers(0, 65535), st.sets(st.integers(0, 200), min_size=1, max_size=40))
def test_a_nack_names_exactly_the_missing_packets(first: int, offsets: set[int]) -> None:
    missing = [(first + offset) & 0xFFFF for offset in sorted(offsets)]
    [message] = rtcp.parse_rtcp(rtcp.build_nack(sender_ssrc=1, media_ssrc=2, sequences=missing))
    assert isinstance(message, rtcp.Nack)
    assert list(message.sequences) == missing


def test_a_nack_with_thousands_of_numbers_is_cut() -> None:
    body = struct.pack("!II", 1, 2) + b"\x00\x05\xff\xff" * 360
    packet = struct.pack("!BBH", 0x81, 205, len(body) // 4) + body
    [message] = rtcp.parse_rtcp(packet)
    assert isinstance(message, rtcp.Nack)
    assert len(message.sequences) == rtcp.MAX_NACK_SEQUENCES


def test_each_entry_of_a_fir_is_a_key_frame_request_with_its_command_number() -> None:
    body = struct.pack("!IIIB3xIB3x", 1, 0, 77, 4, 78, 5)
    packet = struct.pack("!BBH", 0x84, 206, len(body) // 4) + body
    assert list(rtcp.parse_rtcp(packet)) == [
        rtcp.KeyFrameRequest(1, 77, 4),
        rtcp.KeyFrameRequest(1, 78, 5),
    ]


def test_a_remb_tells_its_bit_rate_and_sources() -> None:
    # As Chromium writes it: exponent 6, mantissa 0x2 << 16 | 0xDC6C, one source.
    body = bytes.fromhex("000000010000000052454d42011adc6c1234abcd")
    packet = struct.pack("!BBH", 0x8F, 206, len(body) // 4) + body
    bitrate = 0x2DC6C << 6
    assert list(rtcp.parse_rtcp(packet)) == [rtcp.ReceiverEstimate(1, bitrate, (0x1234ABCD,))]


@pytest.mark.parametrize("length", [8, 9, 10, 11])
def test_transport_feedback_of_any_length_is_filled_up_and_read_back(length: int) -> None:
    packet = rtcp.build_transport_feedback(sender_ssrc=1, media_ssrc=2, body=b"\x07" * length)
    assert len(packet) % 4 == 0
    assert packet[0] == (0x8F if length == 8 else 0xAF)
    assert list(rtcp.parse_rtcp(packet)) == [rtcp.TransportFeedback(1, 2, b"\x07" * length)]


def test_padding_is_no_content_and_only_the_last_packet_has_it() -> None:
    pli = rtcp.build_pli(sender_ssrc=1, media_ssrc=9)
    padded = struct.pack("!BBH", 0xA1, 206, 3) + pli[4:] + b"\x00\x00\x00\x04"
    assert list(rtcp.parse_rtcp(pli + padded)) == [rtcp.KeyFrameRequest(1, 9)] * 2
    assert list(rtcp.parse_rtcp(padded + pli)) == []


def test_what_is_unknown_or_broken_inside_is_skipped_and_the_rest_is_read() -> None:
    pli = rtcp.build_pli(sender_ssrc=1, media_ssrc=9)
    unknown = struct.pack("!BBHI", 0x80, 207, 1, 1)
    short_report = struct.pack("!BBHI", 0x9F, 201, 1, 1)  # claims 31 blocks and has none
    assert list(rtcp.parse_rtcp(unknown + short_report + pli)) == [rtcp.KeyFrameRequest(1, 9)]


@pytest.mark.parametrize(
    "broken",
    [
        bytes([0x41]) + b"\xce\x00\x02" + bytes(8),  # version 1
        struct.pack("!BBH", 0x81, 206, 100) + bytes(8),  # longer than the datagram
        b"\x81\xce\x00",
    ],
)
def test_reading_ends_where_the_next_packet_cannot_be_found(broken: bytes) -> None:
    pli = rtcp.build_pli(sender_ssrc=1, media_ssrc=9)
    assert list(rtcp.parse_rtcp(pli + broken + pli)) == [rtcp.KeyFrameRequest(1, 9)]


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    list(rtcp.parse_rtcp(data))


@given(
    st.lists(
        st.tuples(st.integers(0, 63), st.integers(198, 208), st.binary(max_size=60), st.booleans()),
        max_size=5,
    )
)
def test_no_well_framed_packets_make_the_reader_raise(
    packets: list[tuple[int, int, bytes, bool]],
) -> None:
    compound = b""
    for first, kind, content, remb in packets:
        body = b"REMB".join((content[:8], content[8:])) if remb else content
        body += bytes(-len(body) % 4)
        compound += struct.pack("!BBH", 0x80 | first, kind, len(body) // 4) + body
    assert len(list(rtcp.parse_rtcp(compound))) <= len(compound)


def test_ntp_time_counts_from_1900_in_binary_fractions() -> None:
    assert ntp_from_unix(1_500_000_000) == (2_208_988_801 << 32) + (1 << 31)
    assert unix_from_ntp((2_208_988_801 << 32) + (1 << 31)) == 1_500_000_000


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_ntp_time_converts_back_within_a_nanosecond(unix_ns: int) -> None:
    assert 0 <= unix_ns - unix_from_ntp(ntp_from_unix(unix_ns)) <= 1
