"""Our own ear finds speech by level where the server does not tell (trap 30)."""

from __future__ import annotations

import numpy as np

from jobs.recorder.loudness import SpeechEar
from jobs.recorder.voice import PlacedBlock

PACKET = 960
MS = 48


def hear(ear: SpeechEar, level: float, *, packets: int, at: int = 0) -> list[tuple[int, bool]]:
    """Changes as (packet number, speaking)."""
    changes = []
    for number in range(packets):
        samples = np.full(PACKET, level, np.float32)
        if ear.push(PlacedBlock(at + number * PACKET, samples)):
            changes.append((number, ear.speaking))
    return changes


def test_speech_is_heard_after_three_loud_packets() -> None:
    assert hear(SpeechEar(), 0.1, packets=10) == [(2, True)]


def test_noise_below_the_threshold_is_no_speech() -> None:
    assert hear(SpeechEar(), 0.003, packets=100) == []


def test_a_click_is_no_speech() -> None:
    ear = SpeechEar()
    assert hear(ear, 0.5, packets=1) + hear(ear, 0.0, packets=5) + hear(ear, 0.5, packets=2) == []


def test_words_may_have_gaps_but_half_a_second_of_silence_ends_them() -> None:
    ear = SpeechEar()
    hear(ear, 0.1, packets=5)
    assert hear(ear, 0.0, packets=24, at=5 * PACKET) == []
    assert hear(ear, 0.0, packets=1, at=29 * PACKET) == [(0, False)]


def test_a_muted_track_sends_nothing_and_that_ends_speech_too() -> None:
    ear = SpeechEar()
    hear(ear, 0.1, packets=5)
    end = 5 * PACKET
    assert not ear.silence_until(end + 499 * MS)
    assert ear.silence_until(end + 500 * MS)
    assert not ear.speaking
    assert not ear.silence_until(end + 900 * MS), "told once"
