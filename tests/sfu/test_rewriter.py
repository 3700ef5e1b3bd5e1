"""Sequence numbers and timestamps as one receiver sees them, whatever the publisher does."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from rtc.rtcp import SenderReport
from rtc.rtp import parse_rtp
from sfu.forwarding.rewriter import DROPPED, SequenceRewriter, Source, translate_timestamp

_MS = 1_000_000
_LOW, _HIGH = 100, 200


def _unpacked(mapped: int) -> tuple[int, int] | None:
    return None if mapped == DROPPED else (mapped >> 32, mapped & 0xFFFFFFFF)


def _rewriter(sequence: int = 1000, timestamp: int = 90_000) -> SequenceRewriter:
    return SequenceRewriter(clock_rate_hz=90_000, ssrc=_LOW, sequence=sequence, timestamp=timestamp)


def test_the_numbers_of_the_first_source_stay() -> None:
    rewriter = _rewriter(65535, 2**32 - 1)
    assert _unpacked(rewriter.map(65535, 2**32 - 1)) == (65535, 2**32 - 1)
    assert _unpacked(rewriter.map(0, 2999)) == (0, 2999)


def test_other_numbers_to_begin_with_are_used() -> None:
    rewriter = SequenceRewriter(
        clock_rate_hz=90_000,
        ssrc=_LOW,
        sequence=7,
        timestamp=90,
        first_sequence=65535,
        first_timestamp=2**32 - 10,
    )
    assert rewriter.next_sequence == 65535
    assert _unpacked(rewriter.map(7, 90)) == (65535, 2**32 - 10)
    assert _unpacked(rewriter.map(8, 100)) == (0, 0)


def test_what_map_returns_is_the_middle_of_a_header() -> None:
    rewriter = _rewriter()
    packet = bytearray(12)
    struct.pack_into("!QI", packet, 0, 0x80 << 56 | 0xE0 << 48 | rewriter.map(1000, 90_000), 0xABCD)
    header = parse_rtp(bytes(packet))
    assert header is not None
    assert (header.marker, header.payload_type, header.ssrc) == (True, 96, 0xABCD)
    assert (header.sequence, header.timestamp) == (1000, 90_000)


def test_holes_stay_and_late_packets_go_into_them() -> None:
    rewriter = _rewriter()
    numbers = [1000, 1003, 1001, 1002, 1004]
    assert [rewriter.map(number, 0) >> 32 for number in numbers] == numbers


def test_what_came_before_the_first_packet_is_dropped() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    assert rewriter.map(999, 87_000) == DROPPED


def test_a_switch_goes_on_with_the_next_number_and_the_time_that_went_by() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    rewriter.map(1001, 93_000)
    rewriter.switch(_HIGH, 40_000, 5_000_000, elapsed_ns=50 * _MS)
    assert rewriter.source_ssrc == _HIGH
    assert _unpacked(rewriter.map(40_000, 5_000_000)) == (1002, 93_000 + 4500)
    assert _unpacked(rewriter.map(40_001, 5_003_000)) == (1003, 97_500 + 3000)
    assert rewriter.timestamp_offset == (97_500 - 5_000_000) % 2**32


def test_a_switch_never_gives_a_new_picture_the_time_of_the_one_before() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    rewriter.switch(_HIGH, 0, 0, elapsed_ns=-5 * _MS)
    assert _unpacked(rewriter.map(0, 0)) == (1001, 90_001)


def test_at_a_switch_the_senders_clock_is_better_than_arrival_times() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    # Both layers are captured together; the high one's packet wavered by 30 ms on its way.
    low = SenderReport(_LOW, ntp=10 << 32, rtp_timestamp=45_000)
    high = SenderReport(_HIGH, ntp=(10 << 32) + (1 << 31), rtp_timestamp=7_000)
    same = translate_timestamp(10_000, source=high, target=low, clock_rate_hz=90_000)
    assert same == 45_000 + 45_000 + 3_000
    rewriter.switch(_HIGH, 0, 10_000, elapsed_ns=63 * _MS, same_moment=same)
    assert _unpacked(rewriter.map(0, 10_000)) == (1001, 93_000)


def test_a_senders_clock_that_is_more_than_a_second_off_is_not_believed() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    rewriter.switch(_HIGH, 0, 10_000, elapsed_ns=50 * _MS, same_moment=90_000 + 200_000)
    assert _unpacked(rewriter.map(0, 10_000)) == (1001, 94_500)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-(10**6), 10**6),
    st.integers(-(10**6), 10**6),
)
def test_translating_to_another_clock_and_back_is_the_same_moment(
    timestamp: int, target_timestamp: int, since: int, apart_ticks: int
) -> None:
    ntp = 3_900_000_000 << 32
    source = SenderReport(1, ntp, (timestamp - since) % 2**32)
    target = SenderReport(2, ntp + (apart_ticks << 32) // 90_000, target_timestamp)
    there = translate_timestamp(timestamp, source=source, target=target, clock_rate_hz=90_000)
    back = translate_timestamp(there, source=target, target=source, clock_rate_hz=90_000)
    assert (back - timestamp + 1) % 2**32 <= 2


def test_late_packets_of_the_layer_that_was_left_fill_their_holes_only() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    rewriter.map(1002, 93_000)
    rewriter.switch(_HIGH, 40_000, 0, elapsed_ns=33 * _MS)
    rewriter.map(40_000, 0)
    assert _unpacked(rewriter.map_late(_LOW, 1001, 93_000)) == (1001, 93_000)
    assert rewriter.map_late(_LOW, 1003, 96_000) == DROPPED
    assert rewriter.map_late(_LOW, 999, 87_000) == DROPPED
    assert rewriter.map_late(_HIGH, 40_001, 3_000) == DROPPED
    assert rewriter.map(39_999, 0) == DROPPED


def test_numbers_of_the_layer_before_do_not_count_for_the_new_one() -> None:
    rewriter = _rewriter()
    for number in range(1000, 1010):
        rewriter.map(number, 0)
    rewriter.switch(_HIGH, 1005, 0, elapsed_ns=33 * _MS)
    rewriter.map(1005, 0)
    assert rewriter.map(1004, 0) == DROPPED


def test_going_back_and_forth_between_layers_stays_one_stream() -> None:
    rewriter = _rewriter()
    expected = 1000
    low, high = 1000, 40_000
    for _ in range(100):
        for _ in range(5):
            assert rewriter.map(low & 0xFFFF, low * 3000) >> 32 == expected & 0xFFFF
            low, high, expected = low + 1, high + 2, expected + 1
        rewriter.switch(_HIGH, high & 0xFFFF, high * 3000 % 2**32, elapsed_ns=33 * _MS)
        for _ in range(5):
            assert rewriter.map(high & 0xFFFF, high * 3000 % 2**32) >> 32 == expected & 0xFFFF
            low, high, expected = low + 1, high + 1, expected + 1
        rewriter.switch(_LOW, low & 0xFFFF, low * 3000 % 2**32, elapsed_ns=33 * _MS)
    assert rewriter.generation == 200


def test_dropped_packets_leave_no_hole() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    for sequence in (1001, 1002, 1003):
        rewriter.drop(sequence)
    assert rewriter.next_sequence == 1001
    assert _unpacked(rewriter.map(1004, 102_000)) == (1001, 102_000)
    assert _unpacked(rewriter.map(1006, 108_000)) == (1003, 108_000)
    assert _unpacked(rewriter.map(1005, 105_000)) == (1002, 105_000)


def test_a_late_packet_from_among_the_dropped_ones_is_dropped_too() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    rewriter.drop(1002)
    rewriter.drop(1004)
    rewriter.map(1005, 0)
    assert rewriter.map(1003, 0) == DROPPED
    assert (
        rewriter.map(1001, 0) >> 32 == 1001
    )  # lost before the first dropped one: its hole was kept
    assert rewriter.to_source(1002) == Source(_LOW, 1005, 0, 0)


def test_a_late_packet_to_drop_changes_nothing() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 90_000)
    rewriter.map(1002, 90_000)
    rewriter.drop(1001)
    rewriter.drop(1002)
    assert rewriter.map(1003, 0) >> 32 == 1003


def test_dropping_a_whole_hour_is_one_step() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 0)
    for sequence in range(1001, 181_001):
        rewriter.drop(sequence & 0xFFFF)
    assert rewriter.map(181_001 & 0xFFFF, 5) >> 32 == 1001


def test_a_jump_of_the_sender_leaves_no_hole_in_either_direction() -> None:
    rewriter = _rewriter()
    numbers = [1000, 1001, 30_000, 30_001, 10, 11, 45_000, 45_001]
    assert [rewriter.map(n, 0) >> 32 for n in numbers] == list(range(1000, 1008))
    assert [rewriter.to_source(1000 + n) for n in range(8)] == [
        Source(_LOW, n, 0, 0) for n in numbers
    ]


def test_a_restart_a_little_behind_is_understood_after_some_packets() -> None:
    rewriter = _rewriter()
    for number in range(1000, 1500):
        rewriter.map(number, 0)
    mapped = [rewriter.map(number, 0) for number in range(800, 1200)]
    assert mapped[:100].count(DROPPED) == 100
    assert [m >> 32 for m in mapped[100:]] == list(range(1500, 1800))


def test_a_jump_while_dropping_leaves_no_hole() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 0)
    rewriter.drop(1001)
    rewriter.drop(40_000)
    assert rewriter.map(40_001, 0) >> 32 == 1001
    rewriter.drop(40_002)
    assert rewriter.map(7, 0) >> 32 == 1002


def test_a_nack_is_told_which_packet_of_which_layer_it_was() -> None:
    rewriter = _rewriter(65_534)
    for sequence in (65_534, 65_535, 0):
        rewriter.map(sequence, 90_000)
    rewriter.switch(_HIGH, 500, 0, elapsed_ns=10 * _MS)
    rewriter.map(500, 0)
    rewriter.drop(501)
    rewriter.map(502, 3000)
    offset = rewriter.timestamp_offset
    assert [rewriter.to_source(n) for n in (65_534, 65_535, 0, 1, 2)] == [
        Source(_LOW, 65_534, 0, 0),
        Source(_LOW, 65_535, 0, 0),
        Source(_LOW, 0, 0, 0),
        Source(_HIGH, 500, offset, 1),
        Source(_HIGH, 502, offset, 1),
    ]


def test_a_nack_for_what_was_never_sent_finds_nothing() -> None:
    rewriter = _rewriter()
    rewriter.map(1000, 0)
    assert rewriter.to_source(999) is None
    assert rewriter.to_source(1001) is None
    assert rewriter.to_source(30_000) is None


def test_memory_is_bounded_and_what_is_forgotten_is_not_mapped_wrongly() -> None:
    rewriter = _rewriter()
    for number in range(1000, 1400, 2):
        rewriter.map(number, 0)
        rewriter.drop(number + 1)
    assert rewriter.to_source(1000) is None
    assert rewriter.to_source(1199) == Source(_LOW, 1398, 0, 0)


@given(
    st.integers(0, 65535),
    st.lists(st.tuples(st.sampled_from("mmmmmdls"), st.integers(0, 65535)), max_size=120),
)
def test_the_receiver_sees_one_stream_whatever_happens(
    first: int, steps: list[tuple[str, int]]
) -> None:
    """m: forward, d: drop, l: lose, s: switch. Numbers ascend by one for each that was not dropped."""
    rewriter = SequenceRewriter(clock_rate_hz=90_000, ssrc=1, sequence=first, timestamp=0)
    source, ssrc, expected = first, 1, first
    lost, dropping = 0, False
    sent: dict[int, tuple[int, int]] = {}
    time = newest_time = 0
    for kind, start in steps:
        time = (time + 3000) & 0xFFFFFFFF
        if kind == "s":
            ssrc, source, time = ssrc + 1, start, start * 7
            lost, dropping = 0, False
            rewriter.switch(ssrc, start, time, elapsed_ns=33 * _MS)
            continue
        if kind == "m":
            expected += lost
            mapped = rewriter.map(source & 0xFFFF, time)
            assert mapped >> 32 == expected & 0xFFFF
            assert (mapped - newest_time) & 0xFFFFFFFF < 2**31
            newest_time = mapped & 0xFFFFFFFF
            sent[expected & 0xFFFF] = (ssrc, source & 0xFFFF)
            expected += 1
            lost, dropping = 0, False
        elif kind == "d":
            rewriter.drop(source & 0xFFFF)
            # What is lost before the first dropped packet leaves a hole, among them it does not matter.
            expected += 0 if dropping else lost
            lost, dropping = 0, True
        else:
            lost += 1
        source += 1
    for out, (ssrc, number) in list(sent.items())[-20:]:
        found = rewriter.to_source(out)
        assert found is None or (found.ssrc, found.sequence) == (ssrc, number)
