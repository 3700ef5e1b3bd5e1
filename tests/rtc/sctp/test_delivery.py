"""Messages between two associations over links of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from rtc.sctp.timings import MAX_MESSAGE_BYTES, SEND_BUFFER_BYTES

BINARY = 53
SIZES = [1, 2, 3, 4, 5, 1131, 1132, 1133, 2264, 2265, 20_000, MAX_MESSAGE_BYTES]
MS = 1_000_000
FAR_FUTURE_NS = 1 << 62


def some_messages(seed: int, count: int = 60) -> list[bytes]:
    dice = random.Random(seed)
    return [dice.randbytes(dice.choice([1, 2, 40, 1132, 1133, 5000])) for _ in range(count)]


def send_all(link: Any, messages: list[bytes], **options: Any) -> None:
    for message in messages:
        assert link.a.association.send(0, BINARY, message, **options)
        assert link.b.association.send(1, BINARY, message, **options)


@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_any_size_arrives_whole_both_ways(link: Any, size: int) -> None:
    message = random.Random(size).randbytes(size)
    send_all(link, [message])
    link.run()
    assert link.a.messages == link.b.messages == [message]


def test_a_message_over_the_limit_is_not_taken(link: Any) -> None:
    assert not link.a.association.send(0, BINARY, bytes(MAX_MESSAGE_BYTES + 1))
    assert link.a.association.buffered_bytes == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_everything_arrives_in_order_over_a_bad_link(
    make_link: Callable[..., Any], seed: int, loss: float
) -> None:
    link = make_link(seed=seed, loss=loss, doubled=0.1, jitter_ns=30 * MS)
    link.a.association.connect(link.now_ns)
    link.b.association.connect(link.now_ns)
    messages = some_messages(seed)
    send_all(link, messages)
    link.run()
    assert link.a.messages == link.b.messages == messages
    assert link.due_ns == FAR_FUTURE_NS
    assert link.a.association.buffered_bytes == link.b.association.buffered_bytes == 0


@pytest.mark.parametrize("seed", range(4))
def test_unordered_messages_all_arrive_once_over_a_bad_link(
    make_link: Callable[..., Any], seed: int
) -> None:
    link = make_link(seed=seed, jitter_ns=30 * MS).connect()
    link.loss, link.doubled = 0.3, 0.1
    messages = some_messages(seed)
    send_all(link, messages, unordered=True)
    link.run()
    assert sorted(link.a.messages) == sorted(link.b.messages) == sorted(messages)


@pytest.mark.parametrize("before", [0, 1, 5])
def test_tsns_wrap_around_amid_loss(make_link: Callable[..., Any], before: int) -> None:
    first = (1 << 32) - before
    link = make_link(seed=3, loss=0.2, jitter_ns=20 * MS, tsns=(first % (1 << 32), first - 1))
    link.a.association.connect(link.now_ns)
    messages = some_messages(before)
    send_all(link, messages)
    link.run()
    assert link.a.messages == link.b.messages == messages


def test_stream_sequence_numbers_wrap_around(link: Any) -> None:
    expected = 70_000
    for start in range(0, expected, 5000):
        for number in range(start, start + 5000):
            assert link.a.association.send(0, BINARY, number.to_bytes(3))
        link.run()
        assert [int.from_bytes(m) for m in link.b.messages] == list(range(start, start + 5000))
        link.b.events.clear()
        link.a.sent.clear()
        link.b.sent.clear()


def test_a_lost_packet_of_one_stream_holds_up_no_other(link: Any) -> None:
    link.lose = lambda packet: b"first" in packet
    link.a.association.send(0, BINARY, b"first")
    link.flush()
    link.a.association.send(0, BINARY, b"second")
    link.a.association.send(2, BINARY, b"elsewhere" * 400)
    link.a.association.send(0, BINARY, b"at once" * 400, unordered=True)
    link.run(for_s=0.1)
    assert link.b.messages == [b"elsewhere" * 400, b"at once" * 400]
    link.lose = lambda packet: False
    link.run()
    assert link.b.messages[2:] == [b"first", b"second"]


def test_a_client_that_acknowledges_nothing_fills_a_bounded_buffer(link: Any) -> None:
    link.lose = lambda packet: True
    taken = 0
    while link.a.association.send(0, BINARY, bytes(10)):
        taken += 1
        link.flush()
    assert 1000 < taken < SEND_BUFFER_BYTES // 100
    assert link.a.association.buffered_bytes <= SEND_BUFFER_BYTES


def test_an_outage_is_survived_with_few_packets(link: Any) -> None:
    link.lose = lambda packet: True
    link.a.association.send(0, BINARY, b"late")
    link.run(for_s=60)
    assert 10 < len(link.a.sent) < 25
    link.lose = lambda packet: False
    link.run(for_s=4.5)
    assert link.b.messages == [b"late"]


def test_a_question_its_answer_and_their_sacks_are_three_packets(link: Any, chunks: Any) -> None:
    link.a.association.send(0, BINARY, b"ping")
    link.run(for_s=0.011)
    link.b.association.send(0, BINARY, b"pong")
    link.run()
    assert link.a.chunks_sent() == [["DATA"], ["SACK"]]
    assert link.b.chunks_sent() == [["SACK", "DATA"]]
    assert link.a.messages == [b"pong"]


def test_nothing_is_due_when_nothing_is_outstanding(link: Any) -> None:
    assert link.due_ns == FAR_FUTURE_NS
    link.a.association.send(0, BINARY, b"x")
    assert link.a.association.due_ns == FAR_FUTURE_NS  # not before it is sent
    link.flush()
    assert link.a.association.due_ns < FAR_FUTURE_NS
    link.run()
    assert link.due_ns == FAR_FUTURE_NS


def test_no_packet_is_larger_than_datagrams_may_be(link: Any) -> None:
    send_all(link, [bytes(50_000)])
    for end in (link.a, link.b):
        end.association.send(0, BINARY, bytes(1120))
        end.association.send(0, BINARY, bytes(12))
    link.run()
    assert max(len(packet) for end in (link.a, link.b) for _, packet in end.sent) <= 1160


def test_a_long_message_takes_few_round_trips(link: Any) -> None:
    began_ns = link.now_ns
    link.a.association.send(0, BINARY, bytes(65_536))
    while not link.b.messages:
        link.run(for_s=0.005)
    assert link.now_ns - began_ns <= 5 * 20 * MS


def test_one_lost_packet_in_a_flight_is_sent_again_before_its_timer(link: Any) -> None:
    dropped: list[bytes] = []

    def lose_one(packet: bytes) -> bool:
        if not dropped and len(packet) > 1000:
            dropped.append(packet)
            return True
        return False

    link.lose = lose_one
    began_ns = link.now_ns
    link.a.association.send(0, BINARY, bytes(20_000))
    while not link.b.messages:
        link.run(for_s=0.005)
    assert link.now_ns - began_ns < 100 * MS
    copies = [packet for _, packet in link.a.sent if packet == dropped[0]]
    assert len(copies) == 2
