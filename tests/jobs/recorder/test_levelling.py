"""Quiet and loud speakers come nearer to each other, slowly, and nothing else is changed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs.recorder.levelling import Leveller

BLOCK = 960


def speech(dbfs: float) -> np.ndarray:
    at = np.arange(BLOCK) / 48_000
    return (10 ** (dbfs / 20) * math.sqrt(2) * np.sin(2 * np.pi * 500 * at)).astype(np.float32)


def after(leveller: Leveller, dbfs: float, seconds: float) -> float:
    """How loud it is in the end, dBFS."""
    for _ in range(round(seconds * 50)):
        out = leveller.apply(speech(dbfs))
    return 10 * math.log10(float(np.mean(np.square(out))))


def test_a_quiet_and_a_loud_speaker_come_nearer() -> None:
    quiet, loud = after(Leveller(), -36, 10), after(Leveller(), -12, 10)
    assert quiet > -36 + 6
    assert loud < -12 - 3
    assert quiet < loud, "who speaks up is still louder"


def test_speech_of_common_loudness_is_hardly_touched() -> None:
    assert after(Leveller(), -21, 10) == pytest.approx(-21, abs=0.2)


def test_the_gain_has_bounds() -> None:
    leveller = Leveller()
    after(leveller, -44, 20)
    assert leveller.gain_db == pytest.approx(8, abs=0.1)


def test_the_gain_moves_slower_than_voices_do() -> None:
    leveller = Leveller()
    after(leveller, -36, 1)
    assert 0 < leveller.gain_db <= 3.001


def test_a_noisy_room_is_not_raised_on_its_own_account() -> None:
    leveller = Leveller()
    assert after(leveller, -55, 10) == pytest.approx(-55, abs=0.01)
    assert leveller.gain_db == 0


def test_a_pause_keeps_the_gain_and_the_change_has_no_step() -> None:
    leveller = Leveller()
    after(leveller, -36, 10)
    gain_db = leveller.gain_db
    after(leveller, -90, 5)
    assert leveller.gain_db == gain_db
    ones = np.ones(BLOCK, np.float32) * 0.05
    out = np.concatenate([leveller.apply(ones) for _ in range(20)])
    assert np.abs(np.diff(out)).max() < 0.001
