"""Which lost packets are asked for again, how often, and what is never done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.nack import NackGenerator

_MS = 1_000_000


def _after(generator: NackGenerator, sequences: list[int], now_ns: int = 0) -> NackGenerator:
    for sequence in sequences:
        generator.received(sequence & 0xFFFF, now_ns)
    return generator


def test_packets_in_order_ask_for_nothing() -> None:
    generator = _after(NackGenerator(), [65534, 65535, 0, 1])
    assert generator.due(0) == []
    assert not generator.key_frame_needed


def test_a_hole_is_asked_for_at_once_across_the_wrap_around_in_ascending_order() -> None:
    generator = _after(NackGenerator(), [65533, 1, 3])
    assert generator.due(0) == [65534, 65535, 0, 2]


def test_what_is_still_missing_is_asked_for_again_after_the_interval() -> None:
    generator = _after(NackGenerator(repeat_ns=100 * _MS), [0, 3])
    assert generator.due(0) == [1, 2]
    assert generator.due(99 * _MS) == []
    generator.received(1, 99 * _MS)
    assert generator.due(100 * _MS) == [2]
    assert generator.due(200 * _MS) == [2]


def test_a_packet_that_is_only_out_of_order_is_not_asked_for() -> None:
    generator = _after(NackGenerator(min_age_ns=20 * _MS), [0, 2])
    assert generator.due(10 * _MS) == []
    generator.received(1, 15 * _MS)
    assert generator.due(1_000 * _MS) == []
    _after(generator, [4], 1_000 * _MS)
    assert generator.due(1_020 * _MS) == [3]


def test_asking_ends_after_the_last_try_and_a_key_frame_is_needed() -> None:
    generator = _after(NackGenerator(max_tries=3, repeat_ns=100 * _MS), [0, 2])
    asked = [generator.due(tick * 100 * _MS) for tick in range(3)]
    assert asked == [[1], [1], [1]]
    assert not generator.key_frame_needed
    assert generator.due(300 * _MS) == []
    assert generator.key_frame_needed
    assert (generator.given_up, generator.missing) == (1, 0)


def test_what_falls_out_of_the_window_is_given_up() -> None:
    generator = _after(NackGenerator(window=8), [0, 2])
    assert generator.due(0) == [1]
    _after(generator, list(range(3, 11)))
    assert generator.due(1_000 * _MS) == []
    assert generator.key_frame_needed


@pytest.mark.parametrize("jump", [600, 20_000, 32_767])
def test_a_jump_ahead_beyond_the_window_asks_for_a_key_frame_and_no_packet(jump: int) -> None:
    generator = _after(NackGenerator(window=512), [0, 2, 2 + jump, 3 + jump, 5 + jump])
    assert generator.key_frame_needed
    assert generator.due(0) == [(4 + jump) & 0xFFFF]


def test_a_restart_behind_the_window_is_believed_with_the_second_packet() -> None:
    generator = _after(NackGenerator(), [40_000, 40_002, 10_000])
    assert generator.due(0) == [40_001]
    assert not generator.key_frame_needed
    _after(generator, [10_001, 10_003])
    assert generator.key_frame_needed
    assert generator.due(0) == [10_002]


def test_a_stray_old_number_changes_nothing() -> None:
    generator = _after(NackGenerator(), [40_000, 10_000, 40_001, 9_000, 40_002])
    assert generator.due(0) == []
    assert not generator.key_frame_needed


def test_a_key_frame_ends_the_asking_for_what_was_before_it() -> None:
    generator = _after(NackGenerator(), [0, 2, 4, 6])
    generator.key_frame(4)
    assert generator.due(0) == [5]


def test_duplicates_and_late_packets_that_nobody_misses_are_harmless() -> None:
    generator = _after(NackGenerator(), [10, 11, 11, 9, 10, 13, 12, 12, 13])
    assert generator.due(0) == []
    assert generator.given_up == 0


@given(st.lists(st.integers(0, 65535), max_size=200))
def test_no_numbers_make_a_storm(sequences: list[int]) -> None:
    generator = NackGenerator(window=64)
    for tick, sequence in enumerate(sequences):
        generator.received(sequence, tick * _MS)
        wanted = generator.due(tick * _MS)
        assert len(wanted) <= 64
        assert generator.missing <= 64


@given(
    st.integers(0, 65535),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=300),
)
def test_with_repetitions_that_arrive_nothing_stays_missing(
    first: int, fates: list[tuple[bool, bool]]
) -> None:
    """Of each packet: is it lost, and is its first repetition lost too?"""
    generator = NackGenerator()
    generator.received(first, 0)
    now_ns = 0
    lost_again = set()
    for index, (lost, repetition_lost) in enumerate(fates, start=1):
        now_ns += 10 * _MS
        if not lost:
            generator.received((first + index) & 0xFFFF, now_ns)
        elif repetition_lost:
            lost_again.add((first + index) & 0xFFFF)
        if index % 10 == 0:
            for sequence in generator.due(now_ns):
                if sequence in lost_again:
                    lost_again.discard(sequence)
                else:
                    generator.received(sequence, now_ns)
    generator.received((first + len(fates) + 1) & 0xFFFF, now_ns)
    for _ in range(3):
        now_ns += 100 * _MS
        for sequence in generator.due(now_ns):
            generator.received(sequence, now_ns)
    assert (generator.missing, generator.given_up) == (0, 0)
    assert not generator.key_frame_needed
