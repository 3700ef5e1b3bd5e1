"""What the SFU is told of the connection: measured, or nothing."""

from __future__ import annotations

import pytest

from callclient.network_reports import NetworkReports, StreamCounters
from rtc.calls_dc import DcMessage, DcType


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def test_loss_and_jitter_are_those_since_the_last_report() -> None:
    reports = NetworkReports()
    first = [StreamCounters("a", 90, 10, 0.010), StreamCounters("b", 100, 0, 0.030)]
    assert reports.messages(first, rtt_s=0.05) == [
        DcMessage(DcType.LOSS_RATE, 0.05),
        DcMessage(DcType.ROUND_TRIP_TIME, 0.05),
        DcMessage(DcType.JITTER, pytest.approx((0.9 + 3.0) / 190)),
    ]
    second = [StreamCounters("a", 165, 35, 0.020), StreamCounters("b", 100, 0, 0.030)]
    assert reports.messages(second, rtt_s=None) == [
        DcMessage(DcType.LOSS_RATE, 0.25),
        DcMessage(DcType.JITTER, 0.020),  # only of what flowed
    ]


def test_what_nobody_measured_is_not_reported() -> None:
    assert NetworkReports().messages([], rtt_s=None) == []


def test_packets_that_came_after_all_are_no_negative_loss() -> None:
    reports = NetworkReports()
    reports.messages([StreamCounters("a", 90, 10, 0.0)], rtt_s=None)
    [loss, _] = reports.messages([StreamCounters("a", 110, 8, 0.0)], rtt_s=None)
    assert loss == DcMessage(DcType.LOSS_RATE, 0.0)


def test_a_ping_and_its_pong_measure_the_way_where_ice_has_not() -> None:
    clock = Clock()
    reports = NetworkReports(clock)
    reports.pinged()
    clock.now_ns += 30_000_000
    reports.ponged()
    assert reports.messages([], rtt_s=None) == [DcMessage(DcType.ROUND_TRIP_TIME, 0.03)]
    assert reports.messages([], rtt_s=0.01) == [DcMessage(DcType.ROUND_TRIP_TIME, 0.01)]


def test_an_answer_to_nothing_measures_nothing() -> None:
    reports = NetworkReports()
    reports.ponged()
    assert reports.messages([], rtt_s=None) == []
