"""The newest packets of a published track."""

from __future__ import annotations

import pytest

from rtc.rtp import build_rtp
from sfu.forwarding.history import PacketHistory


def _packet(sequence: int) -> bytes:
    return build_rtp(b"media", payload_type=96, sequence=sequence, timestamp=0, ssrc=1)


def test_a_kept_packet_comes_back_as_the_very_same_bytes() -> None:
    history = PacketHistory(4)
    packet = _packet(65535)
    history.put(65535, packet)
    assert history.get(65535) is packet


def test_the_oldest_makes_room_and_the_numbers_may_wrap() -> None:
    history = PacketHistory(4)
    for sequence in (65533, 65534, 65535, 0, 1):
        history.put(sequence, _packet(sequence))
    found = [history.get(sequence) is not None for sequence in (65533, 65534, 65535, 0, 1)]
    assert found == [False, True, True, True, True]


def test_a_number_that_is_lost_is_not_taken_for_the_one_in_its_place() -> None:
    history = PacketHistory(4)
    history.put(3, _packet(3))
    assert history.get(7) is None
    assert history.get(2) is None


def test_nothing_is_left_after_clearing() -> None:
    history = PacketHistory(4)
    history.put(3, _packet(3))
    history.clear()
    assert history.get(3) is None
    history.put(4, _packet(4))
    assert history.get(4) == _packet(4)


@pytest.mark.parametrize("capacity", [0, 100, 65536])
def test_a_capacity_that_is_no_power_of_two_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity is {capacity}; wanted a power of 2"):
        PacketHistory(capacity)
