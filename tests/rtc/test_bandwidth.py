"""The estimate of what a receiver can take, over a simulated bottleneck."""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.bandwidth import BandwidthEstimator
from rtc.rtcp import TransportFeedback, parse_rtcp
from rtc.sent_history import SentHistory
from rtc.transport_cc import FeedbackBuilder

_MS = 1_000_000
_S = 1_000_000_000
_PACKET_BYTES = 1000
_FEEDBACK_NS = 100 * _MS


@dataclass
class _Link:
    """A bottleneck with a queue in front, then a fixed delay; feedback comes back over the same delay."""

    capacity_bps: int
    queue_s: float = 0.3
    delay_ns: int = 25 * _MS
    jitter_ns: int = 0
    loss: float = 0.0
    randomness: random.Random = field(default_factory=lambda: random.Random(1))
    bunch_ns: int = 1
    """Packets are handed over at multiples of this only, as some radio links do."""
    free_ns: int = 0
    dropped: int = 0

    def arrival_ns(self, now_ns: int, size: int) -> int | None:
        """When a packet sent now arrives; None: it is lost."""
        start_ns = max(now_ns, self.free_ns)
        if start_ns - now_ns > self.queue_s * _S or self.randomness.random() < self.loss:
            self.dropped += 1
            return None
        self.free_ns = start_ns + size * 8 * _S // self.capacity_bps
        wavering = self.randomness.randint(-self.jitter_ns, self.jitter_ns)
        arrival_ns = self.free_ns + self.delay_ns + wavering
        return -(-arrival_ns // self.bunch_ns) * self.bunch_ns


class _Path:
    """A sender, a link and a receiver, with the real feedback between them."""

    def __init__(self, link: _Link, estimator: BandwidthEstimator | None = None) -> None:
        self.link = link
        self.estimator = estimator or BandwidthEstimator()
        self.now_ns = 10 * _S
        self.estimates: list[int] = []
        self._history = SentHistory()
        self._builder = FeedbackBuilder(sender_ssrc=1)
        self._events: list[tuple[int, int, object]] = []
        self._next_packet_ns = self._next_feedback_ns = self.now_ns
        self._number = 0

    def run(self, seconds: float, rate_bps: Callable[[int], float]) -> list[int]:
        """Send `rate_bps(estimate)` for a while; returns the estimates, ten for each second."""
        end_ns = self.now_ns + int(seconds * _S)
        start = len(self.estimates)
        while self.now_ns < end_ns:
            next_ns = min(self._next_packet_ns, self._next_feedback_ns)
            while self._events and self._events[0][0] <= next_ns:
                at_ns, _, event = heapq.heappop(self._events)
                self._handle(event, at_ns)
            self.now_ns = next_ns
            if next_ns == self._next_packet_ns:
                self._send(rate_bps)
            else:
                self._next_feedback_ns += _FEEDBACK_NS
                for packet in self._builder.build():
                    self._later(next_ns + self.link.delay_ns, packet)
                self.estimates.append(self.estimator.estimate_bps)
        return self.estimates[start:]

    def _send(self, rate_bps: Callable[[int], float]) -> None:
        number = self._history.sent(_PACKET_BYTES, self.now_ns)
        arrival_ns = self.link.arrival_ns(self.now_ns, _PACKET_BYTES)
        if arrival_ns is not None:
            self._later(arrival_ns, number)
        interval_s = _PACKET_BYTES * 8 / rate_bps(self.estimator.estimate_bps)
        self._next_packet_ns += int(interval_s * _S)

    def _later(self, at_ns: int, event: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (at_ns, self._number, event))

    def _handle(self, event: object, at_ns: int) -> None:
        if isinstance(event, int):
            self._builder.record(event, at_ns)
            return
        assert isinstance(event, bytes)
        for message in parse_rtcp(event):
            assert isinstance(message, TransportFeedback)
            self.estimator.feedback(self._history.acknowledge(message.body), at_ns)


def _all_of_it(estimate_bps: int) -> float:
    return estimate_bps


def test_it_begins_low_and_stays_there_without_feedback() -> None:
    estimator = BandwidthEstimator()
    assert estimator.estimate_bps == 250_000
    assert estimator.feedback([], 0) == 250_000


@pytest.mark.parametrize("capacity_bps", [400_000, 1_000_000, 3_000_000])
def test_it_rises_to_near_the_capacity_and_stays_without_filling_the_queue(
    capacity_bps: int,
) -> None:
    path = _Path(_Link(capacity_bps))
    path.run(15, _all_of_it)
    estimates = path.run(20, _all_of_it)
    assert max(estimates) < 1.15 * capacity_bps
    assert min(estimates) > 0.6 * capacity_bps
    assert sum(estimates) / len(estimates) > 0.8 * capacity_bps
    assert path.link.dropped == 0


def test_it_does_not_rise_above_its_maximum() -> None:
    path = _Path(_Link(50_000_000), BandwidthEstimator(max_bps=1_000_000))
    assert max(path.run(15, _all_of_it)) == 1_000_000


def test_within_two_seconds_of_a_drop_of_the_capacity_it_is_below_and_not_far() -> None:
    path = _Path(_Link(3_000_000))
    path.run(20, _all_of_it)
    path.link.capacity_bps = 600_000
    estimates = path.run(5, _all_of_it)
    assert max(estimates[20:]) < 1.1 * 600_000
    assert min(estimates) > 0.6 * 600_000


def test_a_capacity_that_comes_back_is_found_again() -> None:
    path = _Path(_Link(3_000_000))
    path.run(20, _all_of_it)
    path.link.capacity_bps = 600_000
    path.run(5, _all_of_it)
    path.link.capacity_bps = 3_000_000
    assert max(path.run(20, _all_of_it)) > 2_000_000


def test_a_source_that_cannot_send_less_is_noticed_too() -> None:
    """A high layer of 2.5 Mb/s on a path of 1: the estimate falls, whatever is sent."""
    path = _Path(_Link(1_000_000))
    path.estimator.set_target(2_500_000)
    assert path.estimator.estimate_bps == 2_500_000
    estimates = path.run(2, lambda _: 2_500_000)
    assert estimates[-1] < 1_000_000


def test_a_queue_too_short_to_show_delay_is_noticed_by_loss() -> None:
    path = _Path(_Link(3_000_000, queue_s=0.01))
    path.run(20, _all_of_it)
    path.link.capacity_bps = 600_000
    estimates = path.run(5, _all_of_it)
    assert estimates[20] < 1.4 * 600_000
    assert path.estimator.loss_based_bps < 1.4 * 600_000


@pytest.mark.parametrize("seed", range(3))
def test_two_percent_of_random_loss_hold_nothing_down(seed: int) -> None:
    path = _Path(_Link(10_000_000, loss=0.02, randomness=random.Random(seed)))
    path.run(18, _all_of_it)
    assert min(path.run(20, _all_of_it)) == 3_750_000


def test_near_the_capacity_it_grows_in_small_steps() -> None:
    path = _Path(_Link(3_000_000))
    path.run(20, _all_of_it)
    seconds = path.run(20, _all_of_it)[::10]
    steps = [after / before for before, after in pairwise(seconds) if before > 2_700_000]
    assert max(steps) < 1.04


def test_after_heavy_loss_a_path_with_two_percent_is_used_again() -> None:
    path = _Path(_Link(10_000_000, loss=0.2))
    path.estimator.set_target(2_000_000)
    path.run(10, _all_of_it)
    path.link.loss = 0.02
    assert path.run(30, _all_of_it)[-1] > 2_000_000


def test_loss_of_packets_from_before_a_step_down_is_not_counted_again() -> None:
    estimator = BandwidthEstimator()
    estimator.set_target(2_000_000)
    sent_ns, now_ns = 0, 1 * _S
    results = [(n, 1000, sent_ns, None if n % 2 else now_ns) for n in range(40)]
    assert estimator.feedback(list(results), now_ns) == 1_500_000
    for _ in range(8):
        now_ns += 100 * _MS
        estimate = estimator.feedback(list(results), now_ns)
    assert estimate >= 1_500_000
    results = [(n, 1000, now_ns, None if n % 2 else now_ns) for n in range(40)]
    assert estimator.feedback(list(results), now_ns + 100 * _MS) < 1_400_000


def test_heavy_random_loss_brings_it_down() -> None:
    path = _Path(_Link(10_000_000, loss=0.2))
    path.estimator.set_target(3_000_000)
    assert path.run(10, _all_of_it)[-1] < 1_000_000


@pytest.mark.parametrize("rate_bps", [100_000, 400_000, 2_000_000])
def test_jitter_of_five_milliseconds_starves_nobody(rate_bps: int) -> None:
    path = _Path(_Link(10_000_000, jitter_ns=5 * _MS))
    path.run(20, lambda _: rate_bps)
    assert min(path.run(20, lambda _: rate_bps)) > 3_000_000


@pytest.mark.parametrize("rate_bps", [400_000, 3_000_000])
def test_packets_that_are_handed_over_in_bunches_are_no_congestion(rate_bps: int) -> None:
    path = _Path(_Link(10_000_000, bunch_ns=90 * _MS))
    assert path.run(20, lambda _: rate_bps)[-1] > 3_000_000


def test_jitter_of_twenty_milliseconds_does_not_hold_it_at_the_bottom() -> None:
    """The threshold adapts to the noise."""
    path = _Path(_Link(10_000_000, jitter_ns=20 * _MS))
    path.run(30, lambda _: 400_000)
    assert min(path.run(30, lambda _: 400_000)) > 450_000


def test_a_little_that_is_sent_without_any_trouble_lets_it_grow_within_fifteen_seconds() -> None:
    """So that a receiver of a quiet low layer is tried with the high one."""
    path = _Path(_Link(10_000_000))
    assert path.run(15, lambda _: 100_000)[-1] > 2_500_000


def test_a_pause_of_a_minute_changes_nothing() -> None:
    path = _Path(_Link(2_000_000))
    before = path.run(20, _all_of_it)[-1]
    path.now_ns += 60 * _S
    path._next_packet_ns = path._next_feedback_ns = path.now_ns
    after = path.run(5, _all_of_it)
    assert after[0] < 1.1 * before
    assert min(after) > 0.6 * 2_000_000


def test_the_round_trip_and_what_arrives_are_known() -> None:
    path = _Path(_Link(10_000_000))
    path.run(5, lambda _: 1_000_000)
    assert path.estimator.acked_bps == pytest.approx(1_000_000, rel=0.05)
    assert 50 * _MS < path.estimator.rtt_ns < 75 * _MS


def test_the_same_arrivals_on_another_clock_give_the_same_estimate() -> None:
    def estimate(offset_ns: int) -> list[int]:
        estimator = BandwidthEstimator()
        estimates = []
        for tick in range(100):
            first = tick * 10
            results = [
                (n, 1200, n * 10 * _MS, n * 10 * _MS + n * n * 1000 + offset_ns)
                for n in range(first, first + 10)
            ]
            estimates.append(estimator.feedback(list(results), (first + 12) * 10 * _MS))
        return estimates

    assert estimate(0) == estimate(86_400 * _S)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),  # chunk and count are those of so many small or large deltas
            st.integers(0, 2**24 - 1),
            st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=60),
        ),
        max_size=20,
    )
)
def test_no_feedback_makes_it_fail_or_leave_its_limits(
    feedbacks: list[tuple[int, int, list[int]]],
) -> None:
    estimator, history = BandwidthEstimator(), SentHistory()
    now_ns = 0
    for step, reference, deltas in feedbacks:
        first = None
        for _ in deltas:
            number = history.sent(1200, now_ns)
            first = number if first is None else first
            now_ns += step * 4 * _MS
        head = struct.pack("!HHIH", first, len(deltas), reference << 8, 2 << 13 | len(deltas))
        body = head + b"".join(delta.to_bytes(2, signed=True) for delta in deltas)
        results = history.acknowledge(body)
        assert len(results) == len(deltas)
        assert 250_000 <= estimator.feedback(results, now_ns) <= 3_750_000
