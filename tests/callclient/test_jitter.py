"""Order, loss and repair requests of one SSRC."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callclient.receive.jitter import BufferedPacket, JitterBuffer
from rtc.rtp import RtpHeader

MS = 1_000_000
WAIT_NS = 100 * MS


def header(sequence: int) -> RtpHeader:
    return RtpHeader(False, 111, sequence & 0xFFFF, sequence * 960, 1, 12, 12)


def push(buffer: JitterBuffer, sequence: int, at_ms: int) -> list[int]:
    return numbers(buffer.push(header(sequence), b"", at_ms * MS))


def numbers(packets: list[BufferedPacket]) -> list[int]:
    return [packet.header.sequence for packet in packets]


def test_packets_in_order_are_released_at_once() -> None:
    buffer = JitterBuffer(max_wait_ns=WAIT_NS)
    assert [push(buffer, n, n * 20) for n in range(5)] == [[0], [1], [2], [3], [4]]


def test_a_swapped_pair_comes_out_in_order() -> None:
    buffer = JitterBuffer(max_wait_ns=WAIT_NS)
    assert push(buffer, 0, 0) == [0]
    assert push(buffer, 2, 20) == []
    assert push(buffer, 1, 21) == [1, 2]
    assert buffer.lost == 0


def test_one_lost_packet_costs_one_packet_and_a_bounded_wait() -> None:
    buffer = JitterBuffer(max_wait_ns=WAIT_NS)
    push(buffer, 0, 0)
    for n in range(2, 6):
        assert push(buffer, n, n * 20) == []
    assert buffer.give_up(139 * MS) == []
    released = buffer.give_up(140 * MS)
    assert numbers(released) == [2, 3, 4, 5]
    assert [packet.lost_before for packet in released] == [1, 0, 0, 0]
    assert buffer.lost == 1


def test_a_late_packet_is_counted_and_not_used() -> None:
    buffer = JitterBuffer(max_wait_ns=WAIT_NS)
    push(buffer, 0, 0)
    push(buffer, 2, 20)
    buffer.give_up(200 * MS)
    assert push(buffer, 1, 201) == []
    assert (buffer.late, buffer.lost) == (1, 1)


def test_a_jump_after_a_pause_is_a_mute_and_no_loss() -> None:
    buffer = JitterBuffer(max_wait_ns=WAIT_NS)
    push(buffer, 10, 0)
    assert push(buffer, 310, 6000) == [310]
    assert buffer.lost == 0


def test_a_restarted_sender_is_followed_and_what_waited_is_released_first() -> None:
    buffer = JitterBuffer(max_wait_ns=WAIT_NS)
    push(buffer, 100, 0)
    push(buffer, 102, 20)
    assert push(buffer, 40000, 40) == [102, 40000]
    assert push(buffer, 40001, 60) == [40001]


def test_missing_packets_are_asked_for_at_once_then_again_and_not_for_ever() -> None:
    buffer = JitterBuffer(max_wait_ns=10_000 * MS)
    push(buffer, 65535, 0)
    push(buffer, 65536 + 2, 20)
    assert buffer.wanted(20 * MS) == [0, 1]
    assert buffer.wanted(50 * MS) == []
    assert buffer.wanted(80 * MS) == [0, 1]
    push(buffer, 65536, 90)
    assert [buffer.wanted(at * MS) for at in (140, 200, 260, 320, 380)] == [[1], [1], [1], [], []]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=120))
def test_whatever_arrives_is_released_at_most_once_and_in_order(arrivals: list[int]) -> None:
    buffer = JitterBuffer(max_wait_ns=WAIT_NS)
    released: list[int] = []
    for index, sequence in enumerate(arrivals):
        packets = buffer.push(header(sequence), b"", index * 5 * MS)
        released += [p.sequence for p in packets + buffer.give_up(index * 5 * MS)]
    released += [p.sequence for p in buffer.release_all()]
    assert released == sorted(set(released))
    assert set(released) <= set(arrivals)
