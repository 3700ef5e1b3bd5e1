"""Speaking or not, from levels alone: window, thresholds, hold time (rtcd.md 3.10)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sfu.forwarding.voice_activity import VoiceActivity

PACKET_NS = 20_000_000
SECOND_NS = 1_000_000_000


class Voice:
    """A publisher's packets, one each 20 ms; keeps what was told and when."""

    def __init__(self, start_ns: int = 0) -> None:
        self.activity = VoiceActivity()
        self.now_ns = start_ns
        self.changes: list[tuple[bool, int]] = []

    def send(self, levels: Iterable[int]) -> list[bool]:
        """Push levels; the changes that came of them."""
        before = len(self.changes)
        for level in levels:
            changed = self.activity.push(level, self.now_ns)
            if changed is not None:
                assert changed == self.activity.active
                self.changes.append((changed, self.now_ns))
            self.now_ns += PACKET_NS
        return [change for change, _ in self.changes[before:]]


def alternating(low: int, high: int, count: int = 50) -> list[int]:
    return [low if number % 2 else high for number in range(count)]


SPEECH = alternating(20, 120)


def test_nothing_is_decided_before_the_window_is_full() -> None:
    voice = Voice()
    assert voice.send(SPEECH[:49]) == []
    assert not voice.activity.active
    assert voice.send(SPEECH[49:]) == [True]
    assert voice.activity.active


@pytest.mark.parametrize("level", [0, 30, 127])
def test_a_steady_level_however_loud_is_no_speech(level: int) -> None:
    voice = Voice()
    assert voice.send([level] * 200) == []
    assert not voice.activity.active


@pytest.mark.parametrize(
    ("low", "high", "speaks"),
    [
        (50, 70, False),  # deviation 10.1, rounded 10: not above 10
        (50, 71, True),  # mean 60.5 rounded, deviation 10.6, rounded 11
        (50, 72, True),  # deviation 11.1
    ],
)
def test_speech_begins_when_the_rounded_deviation_is_above_10(
    low: int, high: int, speaks: bool
) -> None:
    assert Voice().send(alternating(low, high)) == ([True] if speaks else [])


def test_the_deviation_is_that_of_a_sample() -> None:
    """Divided by 49 the deviation of the second is 10.54, divided by 50 it would be 10.43."""
    assert Voice().send([0] * 48 + [5, 74]) == []  # 10.48
    assert Voice().send([0] * 48 + [10, 74]) == [True]


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (50, 58, False),  # deviation 4.04, rounded 4: not below 4
        (50, 57, False),  # 3.57, rounded 4
        (50, 56, True),  # 3.03
    ],
)
def test_speech_ends_when_the_rounded_deviation_is_below_4(low: int, high: int, ends: bool) -> None:
    voice = Voice()
    assert voice.send(SPEECH) == [True]
    voice.now_ns += 10 * SECOND_NS
    assert voice.send(alternating(low, high, 120)) == ([False] if ends else [])


def test_between_the_thresholds_nothing_changes() -> None:
    between = alternating(50, 62)  # deviation 6.1
    silent, speaking = Voice(), Voice()
    assert silent.send(between) == []
    assert speaking.send(SPEECH) == [True]
    speaking.now_ns += 10 * SECOND_NS
    assert speaking.send(between * 3) == []
    assert speaking.activity.active


def test_speech_lasts_at_least_two_seconds_from_its_begin() -> None:
    voice = Voice()
    voice.send(SPEECH)
    assert voice.send([127] * 200) == [False]
    (_, began_ns), (_, ended_ns) = voice.changes
    assert ended_ns - began_ns == 2 * SECOND_NS


def test_the_hold_time_counts_from_the_begin_and_not_from_the_last_word() -> None:
    voice = Voice()
    voice.send(SPEECH * 4)  # 3 s of it after the begin
    silence_ns = voice.now_ns
    assert voice.send([127] * 100) == [False]
    assert voice.changes[1][1] - silence_ns < SECOND_NS  # the window is all that it waits for


def test_each_change_is_told_once_and_speech_can_begin_again() -> None:
    voice = Voice()
    assert voice.send(SPEECH * 4 + [127] * 200 + SPEECH * 4 + [127] * 200) == [
        *(True, False, True, False),
    ]


def test_only_the_newest_second_counts() -> None:
    voice = Voice()
    assert voice.send([127] * 500 + [127] * 49) == []
    assert voice.send(SPEECH) == [True]
    assert voice.changes[0][1] < voice.now_ns - 40 * PACKET_NS  # a few loud packets are enough


def test_the_voice_bit_of_the_extension_is_not_part_of_the_level() -> None:
    flagged_now_and_then = [60, 60 | 0x80, 60 | 0x80, 60] * 50
    assert Voice().send(flagged_now_and_then) == []


def test_a_reset_forgets_levels_and_state() -> None:
    voice = Voice()
    voice.send(SPEECH)
    voice.activity.reset()
    assert not voice.activity.active
    assert voice.send(SPEECH[:49]) == []
    assert voice.send(SPEECH[49:]) == [True]
