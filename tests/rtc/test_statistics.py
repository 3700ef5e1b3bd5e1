"""What reports say of loss, jitter and the round trip (RFC 3550)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtc.rtcp import ReportBlock, SenderReport, parse_rtcp
from rtc.statistics import ReceiveStatistics, SendStatistics

_MS = 1_000_000


def _fed(sequences: list[int], clock_rate_hz: int = 48_000) -> ReceiveStatistics:
    statistics = ReceiveStatistics(5, clock_rate_hz)
    for index, sequence in enumerate(sequences):
        statistics.received(sequence & 0xFFFF, 960 * index, 20 * _MS * index)
    return statistics


def test_nothing_received_reports_nothing() -> None:
    assert ReceiveStatistics(5, 48_000).report(0) == ReportBlock(5, 0, 0, 0, 0, 0, 0)


def test_the_highest_number_counts_cycles_and_late_packets_fill_holes() -> None:
    report = _fed([65534, 65535, 1, 0, 2]).report(0)
    assert report.highest_sequence == (1 << 16) | 2
    assert (report.packets_lost, report.fraction_lost) == (0, 0)


def test_the_fraction_is_of_the_time_since_the_report_before_and_the_total_stays() -> None:
    statistics = _fed([0, 1, 2, 4])
    first = statistics.report(0)
    assert (first.fraction_lost, first.packets_lost) == (256 // 5, 1)
    for sequence in (5, 6, 8, 10):
        statistics.received(sequence, 960 * sequence, 20 * _MS * sequence)
    second = statistics.report(0)
    assert (second.fraction_lost, second.packets_lost) == (256 * 2 // 6, 3)
    third = statistics.report(0)
    assert (third.fraction_lost, third.packets_lost) == (0, 3)


def test_duplicates_make_the_loss_negative_and_the_fraction_zero() -> None:
    report = _fed([0, 1, 1, 1]).report(0)
    assert (report.fraction_lost, report.packets_lost) == (0, -2)


def test_a_single_stray_number_is_not_believed_and_two_in_a_row_are_a_restart() -> None:
    statistics = _fed([10, 11, 30000, 12])
    assert (statistics.packets_received, statistics.packets_lost) == (3, 0)
    statistics.received(40000, 0, 0)
    statistics.received(40001, 960, 20 * _MS)
    report = statistics.report(0)
    assert (report.highest_sequence, report.packets_lost) == (40001, 0)


def test_jitter_follows_the_formula_of_the_rfc() -> None:
    statistics = ReceiveStatistics(5, 8000)
    transits = [0, 8, 0, 16, 16, 40]  # ticks of 125 µs
    expected = 0.0
    for index, transit in enumerate(transits):
        statistics.received(index, 160 * index, (160 * index + transit) * 125_000)
        if index:
            expected += (abs(transit - transits[index - 1]) - expected) / 16
    assert abs(statistics.jitter_ticks - expected) <= 1
    assert statistics.jitter_ticks > 0


def test_jitter_does_not_mind_that_the_timestamp_wraps() -> None:
    statistics = ReceiveStatistics(5, 48_000)
    for index in range(20):
        statistics.received(index, (2**32 - 5000 + 960 * index) % 2**32, 20 * _MS * index)
    assert statistics.jitter_ticks == 0


def test_a_restart_of_the_senders_clock_is_no_jitter() -> None:
    statistics = ReceiveStatistics(5, 48_000)
    statistics.received(0, 1000, 0)
    statistics.received(1, 3_000_000_000, 20 * _MS)
    assert statistics.jitter_ms == 0


def test_a_report_refers_to_the_newest_sender_report() -> None:
    statistics = _fed([0])
    statistics.sender_report(0x1122_3344_5566_7788, 1_000 * _MS)
    report = statistics.report(1_500 * _MS)
    assert report.last_sender_report == 0x3344_5566
    assert report.delay_ticks == 0x8000


@given(st.lists(st.integers(0, 65535), max_size=50))
def test_any_numbers_give_a_report_that_can_be_sent(sequences: list[int]) -> None:
    report = _fed(sequences).report(0)
    assert 0 <= report.fraction_lost <= 255
    assert -(2**23) <= report.packets_lost < 2**23
    assert 0 <= report.highest_sequence < 2**32


def test_the_round_trip_is_what_is_left_without_the_receivers_delay() -> None:
    sender = SendStatistics(5)
    sender.packets, sender.octets = 7, 700
    packet = sender.sender_report(ntp=0x1122_3344_5566_7788, rtp_timestamp=90, now_ns=10_000 * _MS)
    assert list(parse_rtcp(packet)) == [
        SenderReport(5, 0x1122_3344_5566_7788, 90, packets=7, octets=700)
    ]
    block = ReportBlock(5, 64, 9, 0, 0, last_sender_report=0x3344_5566, delay_ticks=0x8000)
    assert sender.reported(block, 10_540 * _MS) == 40 * _MS
    assert (sender.fraction_lost, sender.packets_lost) == (0.25, 9)


def test_a_round_trip_below_zero_or_of_an_unknown_report_is_not_believed() -> None:
    sender = SendStatistics(5)
    sender.sender_report(ntp=7 << 16, rtp_timestamp=0, now_ns=0)
    assert sender.reported(ReportBlock(5, 0, 0, 0, 0, 7, 0x10000), 900 * _MS) == 0
    assert sender.reported(ReportBlock(5, 0, 0, 0, 0, 8, 0), 900 * _MS) is None
    assert sender.reported(ReportBlock(5, 0, 0, 0, 0, 0, 0), 900 * _MS) is None


def test_only_the_newest_reports_are_remembered() -> None:
    sender = SendStatistics(5)
    for second in range(1, 8):
        sender.sender_report(ntp=second << 32, rtp_timestamp=0, now_ns=second * 1_000 * _MS)
    round_trips = [
        sender.reported(ReportBlock(5, 0, 0, 0, 0, second << 16, 0), 8_000 * _MS)
        for second in range(1, 8)
    ]
    assert round_trips == [None, None, None, 4_000 * _MS, 3_000 * _MS, 2_000 * _MS, 1_000 * _MS]
