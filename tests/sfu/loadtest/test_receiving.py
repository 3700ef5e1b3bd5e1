"""Every packet is counted once, in its place; what is missing is asked for."""

from __future__ import annotations

import struct

import pytest

from rtc.rtcp import Nack, TransportFeedback, parse_rtcp
from rtc.rtp import build_rtp
from sfu.loadtest.histogram import Histogram
from sfu.loadtest.receiving import Receiver
from sfu.loadtest.stamp import MAGIC, SCREEN, STAMP, VOICE, Window, track_number

TALK = track_number(3, VOICE)
PICTURE = track_number(3, SCREEN)
OTHERS = track_number(9, VOICE)
SSRC = 0xABCD
RTP_START = 65_530
"""RTP sequence numbers wrap in the middle of every test."""


def packet(sequence: int, *, track: int = TALK, sent_ns: int = 500, magic: bytes = MAGIC) -> bytes:
    return build_rtp(
        bytes(20) + STAMP.pack(magic, track, sequence, sent_ns, 100),
        payload_type=111,
        sequence=RTP_START + sequence,
        timestamp=0,
        ssrc=SSRC,
    )


@pytest.fixture
def first() -> list[tuple[int, int, int]]:
    return []


@pytest.fixture
def delays() -> Histogram:
    return Histogram()


@pytest.fixture
def receiver(first: list[tuple[int, int, int]], delays: Histogram) -> Receiver:
    window = Window()
    window.start_ns, window.end_ns = 500, 1000
    return Receiver(
        expected={TALK, PICTURE},
        window=window,
        delays=delays,
        delay_every=1,
        on_first=lambda *what: first.append(what),
    )


def totals(receiver: Receiver, track: int = TALK) -> tuple[int, int, int]:
    books = receiver.totals()[track]
    return books["packets"], books["duplicates"], books["reordered"]


def test_packets_in_order_are_counted_once_each(receiver: Receiver, delays: Histogram) -> None:
    for sequence in range(20):
        receiver.packet_received(packet(sequence), 700)
    assert totals(receiver) == (20, 0, 0)
    assert receiver.totals()[TALK]["bytes"] == 20 * len(packet(0))
    assert (delays.count, delays.max_ns) == (20, 200)


def test_the_window_is_one_of_send_times(receiver: Receiver) -> None:
    for sequence, sent_ns in enumerate((499, 500, 999, 1000)):
        receiver.packet_received(packet(sequence, sent_ns=sent_ns), 5000)
    assert totals(receiver) == (2, 0, 0)


def test_a_packet_that_comes_twice_counts_once(receiver: Receiver, delays: Histogram) -> None:
    for sequence in (0, 1, 1, 2, 0):
        receiver.packet_received(packet(sequence), 700)
    assert totals(receiver) == (3, 2, 0)
    assert delays.count == 3


def test_a_late_packet_is_no_duplicate(receiver: Receiver) -> None:
    for sequence in (0, 1, 4, 3, 2, 5, 3):
        receiver.packet_received(packet(sequence), 700)
    assert totals(receiver) == (6, 1, 2)


def test_packets_older_than_the_first_count_too(receiver: Receiver) -> None:
    for sequence in (2, 0, 1, 3, 0):
        receiver.packet_received(packet(sequence), 700)
    assert totals(receiver) == (4, 1, 2)


def test_the_first_packet_of_each_track_is_told(
    receiver: Receiver, first: list[tuple[int, int, int]]
) -> None:
    for track in (TALK, TALK, PICTURE):
        receiver.packet_received(packet(0, track=track), 700)
    assert first == [(TALK, 100, 700), (PICTURE, 100, 700)]


def test_tracks_of_another_call_are_misdelivered(receiver: Receiver) -> None:
    receiver.packet_received(packet(0, track=OTHERS), 700)
    assert (receiver.misdelivered, receiver.totals()) == (1, {})


def test_packets_without_our_stamp_are_foreign(receiver: Receiver) -> None:
    for strange in (packet(0, magic=b"XXXX"), b"", b"short", STAMP.pack(MAGIC, TALK, 0, 500, 100)):
        receiver.packet_received(strange, 700)
    assert (receiver.foreign, receiver.totals()) == (4, {})


def test_missing_video_is_asked_for_by_rtp_number_until_it_comes(receiver: Receiver) -> None:
    for sequence in (0, 1, 2, 8):
        receiver.packet_received(packet(sequence, track=PICTURE), 700)
    (asked,) = [m for nack in receiver.nacks() for m in parse_rtcp(nack)]
    assert isinstance(asked, Nack)
    assert asked.media_ssrc == SSRC
    assert asked.sequences == (65_533, 65_534, 65_535, 0, 1)
    for sequence in range(3, 7):
        receiver.packet_received(packet(sequence, track=PICTURE), 700)
    (asked,) = [m for nack in receiver.nacks() for m in parse_rtcp(nack)]
    assert isinstance(asked, Nack)
    assert asked.sequences == (1,)
    assert totals(receiver, PICTURE) == (8, 0, 4)


def test_a_packet_is_asked_for_ten_times_at_most(receiver: Receiver) -> None:
    for sequence in (0, 2):
        receiver.packet_received(packet(sequence, track=PICTURE), 700)
    assert [len(receiver.nacks()) for _ in range(12)] == [1] * 10 + [0] * 2


def test_missing_voice_is_not_asked_for(receiver: Receiver) -> None:
    for sequence in (0, 2):
        receiver.packet_received(packet(sequence), 700)
    assert receiver.nacks() == []


def test_what_is_remembered_as_missing_is_bounded(receiver: Receiver) -> None:
    for sequence in (0, 1_000_000, 2_000_000):
        receiver.packet_received(packet(sequence, track=PICTURE), 700)
    assert len(receiver.tracks[PICTURE].missing) <= 4096


def test_the_report_names_the_highest_number(receiver: Receiver) -> None:
    for sequence in range(10):
        receiver.packet_received(packet(sequence), 700)
    block = receiver.tracks[TALK].report_block()
    assert (block.ssrc, block.highest_sequence) == (SSRC, RTP_START + 9)


@pytest.mark.parametrize("leading", [b"", b"\x10\xff"], ids=["first", "after another extension"])
def test_arrivals_are_reported_by_transport_wide_number(receiver: Receiver, leading: bytes) -> None:
    receiver.report_arrivals(5)
    for sequence in range(3):
        element = leading + b"\x51" + struct.pack("!H", 40 + sequence)
        element += bytes(-len(element) % 4)
        plain = packet(sequence)
        block = struct.pack("!HH", 0xBEDE, len(element) // 4) + element
        receiver.packet_received(bytes([0x90]) + plain[1:12] + block + plain[12:], 700)
    assert receiver.feedback is not None
    (feedback,) = [m for rtcp in receiver.feedback.build() for m in parse_rtcp(rtcp)]
    assert isinstance(feedback, TransportFeedback)
    assert struct.unpack_from("!HH", feedback.body) == (40, 3)
    assert totals(receiver) == (3, 0, 0)
