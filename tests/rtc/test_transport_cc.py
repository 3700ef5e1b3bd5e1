"""Transport-wide feedback: the draft's format bit by bit, and what survives loss, reordering, wrap-around."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.rtcp import TransportFeedback, parse_rtcp
from rtc.sent_history import SentHistory
from rtc.transport_cc import FeedbackBuilder, parse_feedback

_MS = 1_000_000
_64_MS = 64 * _MS


def _bodies(builder: FeedbackBuilder) -> list[bytes]:
    bodies = []
    for packet in builder.build():
        [message] = parse_rtcp(packet)
        assert isinstance(message, TransportFeedback)
        bodies.append(message.body)
    return bodies


def _built(arrivals: list[tuple[int, int]]) -> list[bytes]:
    builder = FeedbackBuilder(sender_ssrc=1, media_ssrc=2)
    for number, arrival_ns in arrivals:
        builder.record(number, arrival_ns)
    return _bodies(builder)


def test_a_feedback_has_the_octets_of_the_draft() -> None:
    # Reference time 2 (128 ms); 10 came 1 ms later, 11 is lost, 12 came 300 ms after 10, 13 1 ms before 12.
    start = 2 * _64_MS + 1 * _MS
    builder = FeedbackBuilder(sender_ssrc=0x01020304, media_ssrc=0x05060708)
    builder.record(10, start)
    builder.record(12, start + 300 * _MS)
    builder.record(13, start + 299 * _MS)
    [packet] = builder.build()
    assert packet.hex() == (
        "afcd0006"  # padded, FMT 15, PT 205, six words follow
        "0102030405060708"
        "000a0004"  # base 10, four packets
        "00000200"  # reference time 2, feedback 0
        "d280"  # two-bit vector: small, not received, large, large
        "0404b0fffc"  # 1 ms, 300 ms, -1 ms
        "01"  # padding
    )


def test_numbers_of_feedbacks_count_up_and_turn() -> None:
    builder = FeedbackBuilder(sender_ssrc=1)
    counts = []
    for number in range(260):
        builder.record(number, number * _MS)
        [body] = _bodies(builder)
        counts.append(body[7])
    assert counts == [*range(256), 0, 1, 2, 3]


def _body(chunks: list[int], count: int, deltas: bytes, *, base: int = 5) -> bytes:
    return struct.pack(f"!HHI{len(chunks)}H", base, count, 7 << 8 | 9, *chunks) + deltas


@pytest.mark.parametrize(
    ("chunk", "count", "large", "received"),
    [
        # The figures of sections 3.1.3 and 3.1.4, the last one with 10 for the 11 that became reserved.
        (0b0_00_0000011011101, 221, [], []),
        (0b0_01_0000000011000, 24, [], list(range(24))),
        (0b0_10_0000000011000, 24, list(range(24)), list(range(24))),
        (0b1_0_01111100011100, 14, [], [1, 2, 3, 4, 5, 9, 10, 11]),
        (0b1_1_00100101010000, 7, [1], [1, 2, 3, 4]),
    ],
)
def test_the_drafts_example_chunks_are_read_as_it_explains_them(
    chunk: int, count: int, large: list[int], received: list[int]
) -> None:
    deltas = b"".join(b"\x00\x04" if number in large else b"\x04" for number in received)
    feedback = parse_feedback(_body([chunk], count, deltas))
    assert feedback is not None
    assert (feedback.base, feedback.count) == (5, count)
    assert (feedback.reference, feedback.feedback_count) == (7, 9)
    assert feedback.received == [(number, 4 * (n + 1)) for n, number in enumerate(received)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        _body([], 0, b"")[:7],
        _body([], 1, b""),  # no chunk
        _body([0x2003], 3, b"\x01\x01"),  # a delta is missing
        _body([0x4001], 1, b"\x01"),  # half a large delta
        _body([0xC000 | 2 << 12], 1, b"\x01"),
        _body([0x6001], 1, b"\x01"),  # reserved symbol in a run
        _body([0b1_1_00110101010000], 7, bytes(9)),  # and in a vector
        _body([0x2000, 0x2001], 1, b"\x01"),  # an empty run
    ],
)
def test_malformed_feedback_is_refused(body: bytes) -> None:
    assert parse_feedback(body) is None
    history = SentHistory()
    history.sent(100, 0)
    assert history.acknowledge(body) == []
    assert history.malformed == 1


def test_what_stands_behind_the_last_packet_in_a_vector_does_not_count() -> None:
    feedback = parse_feedback(_body([0x8000 | 0x3FFF], 3, bytes(3)))
    assert feedback is not None
    assert [number for number, _ in feedback.received] == [0, 1, 2]


def test_a_claim_of_65535_packets_costs_no_more_than_its_octets() -> None:
    feedback = parse_feedback(_body([0x1FFF] * 9, 65535, b""))
    assert feedback is not None
    assert feedback.received == []


@given(st.binary(max_size=120))
def test_no_bytes_make_the_reader_raise(body: bytes) -> None:
    feedback = parse_feedback(body)
    assert feedback is None or len(feedback.received) <= min(len(body), feedback.count)
    history = SentHistory(16)
    for _ in range(40):
        history.sent(1, 0)
    assert len(history.acknowledge(body)) <= 16


_ARRIVALS = st.lists(
    st.tuples(st.integers(1, 25), st.integers(-30_000, 900_000)), min_size=1, max_size=300
)


@given(_ARRIVALS, st.integers(0, 65535), st.randoms(use_true_random=False))
def test_every_arrival_comes_back_within_a_tick_and_everything_else_is_lost(
    steps: list[tuple[int, int]], first: int, randomness: random.Random
) -> None:
    arrivals: dict[int, int] = {}
    number, arrival_ns = first, 10**12
    for step, delay_us in steps:
        arrivals[number] = max(arrival_ns, 0)
        number += step
        arrival_ns += delay_us * 1000
    order = list(arrivals)
    if len(order) > 1:  # the first one stays in front: what came before the first packet is unknown
        tail = order[1:]
        randomness.shuffle(tail)
        order = [order[0], *tail]
    told: dict[int, int] = {}
    covered = 0
    for body in _built([(n & 0xFFFF, arrivals[n]) for n in order]):
        assert len(body) <= 1180
        feedback = parse_feedback(body)
        assert feedback is not None
        assert feedback.base == (first + covered) & 0xFFFF
        for offset, ticks in feedback.received:
            told[first + covered + offset] = feedback.reference * _64_MS + ticks * 250_000
        covered += feedback.count
    assert covered == max(arrivals) - first + 1
    assert {n: t // 250_000 * 250_000 for n, t in arrivals.items()} == told


def test_a_span_of_time_that_a_delta_cannot_tell_is_split() -> None:
    bodies = _built([(0, 0), (1, 9_000 * _MS), (2, 9_001 * _MS)])
    feedbacks = [parse_feedback(body) for body in bodies]
    assert [(f.base, f.count) for f in feedbacks if f] == [(0, 1), (1, 2)]


def test_no_feedback_is_larger_than_a_datagram() -> None:
    """Every 20th packet arrives, each 10 ms apart: a run, a vector and a delta for each."""
    builder = FeedbackBuilder(sender_ssrc=1)
    for number in range(0, 8000, 20):
        builder.record(number, number * 500_000)
    packets = builder.build()
    assert len(packets) > 1
    assert max(len(packet) for packet in packets) <= 1200


def test_losses_between_two_feedbacks_are_told_by_the_second() -> None:
    builder = FeedbackBuilder(sender_ssrc=1)
    builder.record(65533, 0)
    builder.build()
    builder.record(2, _MS)
    [body] = _bodies(builder)
    feedback = parse_feedback(body)
    assert feedback is not None
    assert (feedback.base, feedback.count) == (65534, 5)
    assert [offset for offset, _ in feedback.received] == [4]


def test_late_packets_are_told_apart_and_nothing_twice() -> None:
    builder = FeedbackBuilder(sender_ssrc=1)
    for number in (1, 4, 6):
        builder.record(number, number * _MS)
    builder.build()
    for number in (3, 2, 5, 7):
        builder.record(number, 10 * _MS)
    feedbacks = [parse_feedback(body) for body in _bodies(builder)]
    assert [(f.base, f.count, len(f.received)) for f in feedbacks if f] == [
        (2, 2, 2),
        (5, 1, 1),
        (7, 1, 1),
    ]


def test_a_packet_from_before_the_first_one_is_told_too() -> None:
    bodies = _built([(0, 5 * _MS), (65535, 6 * _MS)])
    feedback = parse_feedback(bodies[0])
    assert feedback is not None
    assert (feedback.base, feedback.count) == (65535, 2)


def test_a_duplicate_counts_with_its_first_arrival() -> None:
    [body] = _built([(0, 0), (1, _MS), (1, 50 * _MS)])
    feedback = parse_feedback(body)
    assert feedback is not None
    assert feedback.received == [(0, 0), (1, 4)]


def test_nothing_new_is_no_feedback() -> None:
    builder = FeedbackBuilder(sender_ssrc=1)
    assert builder.build() == []
    builder.record(0, 0)
    assert len(builder.build()) == 1
    assert builder.build() == []


def test_a_jump_of_the_counter_is_a_restart_not_loss() -> None:
    builder = FeedbackBuilder(sender_ssrc=1)
    builder.record(0, 0)
    builder.build()
    builder.record(20_000, _MS)
    feedbacks = [parse_feedback(body) for body in _bodies(builder)]
    assert [(f.base, f.count) for f in feedbacks if f] == [(20_000, 1)]


def test_arrivals_that_nobody_reports_do_not_pile_up() -> None:
    builder = FeedbackBuilder(sender_ssrc=1)
    for number in range(3000):
        builder.record(number, number * _MS)
    assert builder.dropped == 3000 - 2048


def test_what_hostile_numbers_can_cause_is_bounded() -> None:
    builder = FeedbackBuilder(sender_ssrc=1)
    for index in range(5000):
        builder.record(index * 3989 & 0xFFFF, index * _MS)
    packets = builder.build()
    assert builder.dropped >= 5000 - 2048
    assert len(packets) < 64
    assert sum(len(packet) for packet in packets) < 12_000


def test_the_history_numbers_packets_and_tells_what_became_of_each() -> None:
    history = SentHistory()
    assert [history.sent(100 + n, n * _MS) for n in range(4)] == [0, 1, 2, 3]
    [body] = _built([(0, 640 * _MS), (2, 645 * _MS)])
    assert history.acknowledge(body) == [
        (0, 100, 0, 640 * _MS),
        (1, 101, 1 * _MS, None),
        (2, 102, 2 * _MS, 645 * _MS),
    ]


def test_the_history_goes_on_over_the_end_of_the_numbers() -> None:
    history = SentHistory(16)
    for n in range(65534):
        history.sent(1, n)
    numbers = [history.sent(7, n) for n in range(4)]
    assert numbers == [65534, 65535, 0, 1]
    [body] = _built([(n, 0) for n in numbers])
    assert [r[:3] for r in history.acknowledge(body)] == [(n, 7, i) for i, n in enumerate(numbers)]


def test_a_history_that_begins_later_knows_nothing_of_what_was_sent_before() -> None:
    history = SentHistory(first=65535)
    assert [history.sent(100, n) for n in range(2)] == [65535, 0]
    [body] = _built([(n & 0xFFFF, 0) for n in range(65530, 65537)])
    assert [r[:3] for r in history.acknowledge(body)] == [(65535, 100, 0), (0, 100, 1)]


def test_a_packet_is_told_as_received_once_and_may_be_lost_before() -> None:
    history = SentHistory()
    for n in range(3):
        history.sent(100, n)
    builder = FeedbackBuilder(sender_ssrc=1)
    builder.record(0, 0)
    builder.record(2, 0)
    [first] = _bodies(builder)
    builder.record(1, 0)
    [late] = _bodies(builder)
    assert [r[3] is None for r in history.acknowledge(first)] == [False, True, False]
    assert history.acknowledge(first) == []
    assert history.acknowledge(late) == [(1, 100, 1, 0)]
    assert history.acknowledge(late) == []


def test_feedback_on_packets_that_are_forgotten_or_were_never_sent_is_passed_over() -> None:
    history = SentHistory(16)
    for n in range(20):
        history.sent(100, n)
    [body] = _built([(n, 0) for n in range(30)])
    assert [r[0] for r in history.acknowledge(body)] == list(range(4, 20))
    assert history.acknowledge(_body([0x2001], 1, b"\x00", base=40_000)) == []


def test_the_reference_time_goes_on_when_its_24_bits_turn() -> None:
    history = SentHistory()
    for _ in range(2):
        history.sent(100, 0)
    before = (0x1000000 - 1) * _64_MS
    builder = FeedbackBuilder(sender_ssrc=1)
    received = []
    for number, arrival_ns in ((0, before), (1, before + _64_MS)):
        builder.record(number, arrival_ns)
        [body] = _bodies(builder)
        received += [r[3] for r in history.acknowledge(body)]
    assert received == [before, before + _64_MS]


def test_feedback_that_was_overtaken_has_earlier_arrival_times() -> None:
    history = SentHistory()
    for _ in range(2):
        history.sent(100, 0)
    builder = FeedbackBuilder(sender_ssrc=1)
    bodies = []
    for number, arrival_ns in ((0, 10 * _64_MS), (1, 12 * _64_MS)):
        builder.record(number, arrival_ns)
        bodies += _bodies(builder)
    assert history.acknowledge(bodies[1]) == [(1, 100, 0, 12 * _64_MS)]
    assert history.acknowledge(bodies[0]) == [(0, 100, 0, 10 * _64_MS)]


@pytest.mark.parametrize("capacity", [0, 100, 65536])
def test_a_capacity_that_is_no_power_of_two_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity is {capacity}; wanted a power of 2"):
        SentHistory(capacity)
