"""Order and loss of one SSRC."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callclient.receive.jitter import BufferedPacket, JitterBuffer
from rtc.rtp import RtpHeader

MS = 1_000_000
WAIT_NS = 100 * MS
PAUSE_NS = 300 * MS


def buffer_of(sound: bool = True, **options: int) -> JitterBuffer:
    return JitterBuffer(max_wait_ns=WAIT_NS, pause_ns=PAUSE_NS if sound else None, **options)


def push(buffer: JitterBuffer, sequence: int, at_ms: int, *, hold: bool = False) -> list[int]:
    header = RtpHeader(False, 111, sequence & 0xFFFF, sequence * 960, 1, 12, 12)
    number = buffer.number(header.sequence)
    released = buffer.flush() if buffer.jumps(number, at_ms * MS) else []
    packet = BufferedPacket(number, header, b"", at_ms * MS)
    return numbers(released + buffer.add(packet, hold=hold))


def numbers(packets: list[BufferedPacket]) -> list[int]:
    return [packet.header.sequence for packet in packets]


def test_packets_in_order_are_released_at_once() -> None:
    buffer = buffer_of()
    assert [push(buffer, n, n * 20) for n in range(5)] == [[0], [1], [2], [3], [4]]


def test_a_swapped_pair_comes_out_in_order() -> None:
    buffer = buffer_of()
    assert push(buffer, 0, 0) == [0]
    assert push(buffer, 2, 20) == []
    assert push(buffer, 1, 21) == [1, 2]
    assert buffer.lost == 0


def test_one_lost_packet_costs_one_packet_and_a_bounded_wait() -> None:
    buffer = buffer_of()
    push(buffer, 0, 0)
    for n in range(2, 6):
        assert push(buffer, n, n * 20) == []
    assert buffer.give_up(139 * MS) == []
    released = buffer.give_up(140 * MS)
    assert numbers(released) == [2, 3, 4, 5]
    assert [packet.lost_before for packet in released] == [1, 0, 0, 0]
    assert buffer.lost == 1


def test_the_wait_is_counted_from_the_first_packet_behind_the_hole_not_from_a_repaired_one() -> (
    None
):
    buffer = buffer_of()
    push(buffer, 0, 0)
    push(buffer, 3, 20)
    push(buffer, 2, 110)
    assert numbers(buffer.give_up(120 * MS)) == [2, 3]


def test_a_late_packet_is_counted_and_not_used() -> None:
    buffer = buffer_of()
    push(buffer, 0, 0)
    push(buffer, 2, 20)
    buffer.give_up(200 * MS)
    assert push(buffer, 1, 201) == []
    assert push(buffer, 1, 202) == []
    assert push(buffer, 2, 203) == []
    assert (buffer.late, buffer.lost, buffer.duplicate) == (1, 1, 2)


def test_a_jump_after_a_pause_is_a_mute_and_no_loss() -> None:
    buffer = buffer_of()
    push(buffer, 10, 0)
    assert push(buffer, 310, 6000) == [310]
    assert (buffer.lost, buffer.gaps) == (0, 1)


def test_a_mute_is_no_loss_even_if_the_packet_before_it_was_lost() -> None:
    buffer = buffer_of()
    push(buffer, 10, 0)
    assert push(buffer, 12, 40) == []
    assert push(buffer, 40, 600) == [12, 40]
    assert (buffer.lost, buffer.gaps) == (1, 1)


def test_a_mute_while_the_first_packets_of_a_spurt_are_held_is_no_loss() -> None:
    """Somebody presses the button twice within the time for which a spurt is looked at."""
    buffer = buffer_of()
    push(buffer, 10, 0, hold=True)
    push(buffer, 11, 20, hold=True)
    assert push(buffer, 40, 600, hold=True) == [10, 11]
    push(buffer, 41, 620, hold=True)
    assert numbers(buffer.flush()) == [40, 41]
    assert (buffer.lost, buffer.gaps) == (0, 1)


def test_a_new_start_of_the_sender_while_packets_are_held_is_no_loss() -> None:
    buffer = buffer_of()
    push(buffer, 10, 0, hold=True)
    assert push(buffer, 20_000, 20, hold=True) == [10]
    assert numbers(buffer.flush()) == [20_000]
    assert (buffer.lost, buffer.restarts) == (0, 1)


def test_held_packets_that_overtook_each_other_are_no_jump() -> None:
    buffer = buffer_of()
    push(buffer, 12, 0, hold=True)
    push(buffer, 10, 400, hold=True)
    push(buffer, 13, 800, hold=True)
    assert numbers(buffer.ready()) == [10]
    assert (buffer.gaps, buffer.restarts) == (0, 0)


def test_in_pictures_a_gap_after_a_pause_is_loss_because_still_screens_pause_too() -> None:
    buffer = buffer_of(sound=False)
    push(buffer, 10, 0)
    assert push(buffer, 12, 6000) == []
    [packet] = buffer.give_up(6100 * MS)
    assert packet.lost_before == 1


def test_a_restarted_sender_is_followed_and_what_waited_is_released_first() -> None:
    buffer = buffer_of()
    push(buffer, 100, 0)
    push(buffer, 102, 20)
    assert push(buffer, 40000, 40) == [102, 40000]
    assert push(buffer, 40001, 60) == [40001]
    assert buffer.restarts == 1


def test_packets_that_overtook_the_first_one_are_put_before_it_while_it_is_held() -> None:
    buffer = buffer_of()
    for sequence in (7, 5, 6):
        assert push(buffer, sequence, 0, hold=True) == []
    assert numbers(buffer.ready()) == [5, 6, 7]
    assert push(buffer, 8, 10) == [8]


def test_a_full_buffer_gives_up_what_it_waits_for() -> None:
    buffer = buffer_of(capacity=10)
    push(buffer, 0, 0)
    released = [push(buffer, n, 1) for n in range(2, 13)]
    assert released[-1] == list(range(2, 13))
    assert (buffer.lost, buffer.waiting) == (1, 0)


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=120))
def test_whatever_arrives_is_released_at_most_once_and_in_order(
    arrivals: list[tuple[int, bool]],
) -> None:
    buffer = buffer_of()
    released: list[int] = []
    for index, (sequence, hold) in enumerate(arrivals):
        released += push(buffer, sequence, index * 5, hold=hold)
        if not hold:
            released += numbers(buffer.give_up(index * 5 * MS))
    released += numbers(buffer.flush())
    assert released == sorted(set(released))
    assert set(released) <= {sequence for sequence, _ in arrivals}
    assert buffer.waiting == 0
