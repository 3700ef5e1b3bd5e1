"""Every sample of every voice is in the mix exactly once and exactly at its place."""

from __future__ import annotations

import numpy as np

from jobs.recorder.mixer import Mixer, soft_limited
from jobs.recorder.voice import PlacedBlock


def block(position: int, length: int, value: float) -> PlacedBlock:
    return PlacedBlock(position, np.full(length, value, np.float32))


def test_overlapping_voices_are_added_to_the_sample() -> None:
    mixer = Mixer(window=100)
    mixer.add(block(10, 20, 0.25))
    mixer.add(block(25, 10, 0.5))
    out = mixer.take(40)
    expected = np.zeros(40)
    expected[10:30] += 0.25
    expected[25:35] += 0.5
    np.testing.assert_allclose(out, expected)


def test_the_window_moves_on_without_a_seam() -> None:
    mixer = Mixer(window=50)
    taken = []
    for start in range(0, 300, 30):
        mixer.add(PlacedBlock(start, np.arange(start, start + 30, dtype=np.float32) / 1000))
        taken.append(mixer.take(30))
    np.testing.assert_allclose(np.concatenate(taken), np.arange(300) / 1000)
    assert mixer.position == 300


def test_silence_is_taken_where_nobody_spoke_and_nothing_is_heard_twice() -> None:
    mixer = Mixer(window=10)
    mixer.add(block(0, 10, 0.5))
    assert mixer.take(10).all()
    assert not mixer.take(10).any()


def test_what_lies_before_the_start_is_cut_off_and_not_counted_as_late() -> None:
    mixer = Mixer(window=100)
    mixer.add(block(-15, 20, 0.5))
    assert list(np.flatnonzero(mixer.take(50))) == [0, 1, 2, 3, 4]
    assert mixer.samples_late == 0


def test_late_sound_loses_only_its_late_part_and_is_counted() -> None:
    mixer = Mixer(window=100)
    mixer.take(40)
    mixer.add(block(30, 20, 0.5))
    assert list(np.flatnonzero(mixer.take(50))) == list(range(10))
    assert mixer.samples_late == 10


def test_sound_far_ahead_of_the_window_is_counted_not_kept() -> None:
    mixer = Mixer(window=100)
    mixer.add(block(90, 20, 0.5))
    mixer.add(block(10_000, 20, 0.5))
    assert mixer.samples_far == 30


def test_quiet_sound_is_untouched_and_loud_sound_never_passes_one() -> None:
    quiet = np.linspace(-0.8, 0.8, 101, dtype=np.float32)
    np.testing.assert_array_equal(soft_limited(quiet), quiet)
    loud = np.linspace(-4, 4, 1001, dtype=np.float32)
    bent = soft_limited(loud)
    assert np.abs(bent).max() <= 1.0
    assert (np.diff(bent) >= 0).all(), "louder stays louder"
