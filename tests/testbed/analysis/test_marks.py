from __future__ import annotations

import numpy as np
import pytest

from testbed.analysis.marks import find_beeps, flash_onsets, screen_brightness
from testbed.analysis.media import ANALYSIS_HZ, Sound
from testbed.analysis.pictures import contained
from testbed.analysis.synthetic import Simulated, mixed
from testbed.bots.picture import HEIGHT_PX, Picture
from testbed.bots.voice import beep_packets
from testbed.speech.opus_file import decode_opus, resample

_LEAD_S = 0.02


def _beep() -> np.ndarray:
    return resample(decode_opus([p for p, _ in beep_packets()]), 48_000, to_hz=ANALYSIS_HZ)


def _with_beeps(at_s: list[float], *, length_s: float, background: np.ndarray) -> Sound:
    samples = background[: round(length_s * ANALYSIS_HZ)].copy()
    beep = _beep()
    for onset_s in at_s:
        first = round((onset_s - _LEAD_S) * ANALYSIS_HZ)
        samples[first : first + len(beep)] += beep
    return Sound(samples, ANALYSIS_HZ)


def test_beeps_are_found_within_5_ms_in_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 10 * ANALYSIS_HZ).astype(np.float32)
    true_s = [1.0, 2.0, 3.017, 8.5]
    found = find_beeps(_with_beeps(true_s, length_s=10, background=noise))
    assert found == pytest.approx(true_s, abs=0.005)


def test_beeps_are_found_while_others_talk(simulated: Simulated) -> None:
    sound = Sound(resample(mixed(simulated), 48_000, to_hz=ANALYSIS_HZ), ANALYSIS_HZ)
    found = find_beeps(sound)
    for true_s in simulated.call.marks_s("beep"):
        assert min(abs(at_s - true_s) for at_s in found) < 0.005


def test_a_tone_of_half_a_second_is_no_beep() -> None:
    times_s = np.arange(2 * ANALYSIS_HZ) / ANALYSIS_HZ
    tone = 0.25 * np.sin(2 * np.pi * 1000 * times_s) * ((times_s > 0.5) & (times_s < 1.0))
    assert find_beeps(Sound(tone.astype(np.float32), ANALYSIS_HZ)) == []


def test_silence_has_no_beeps() -> None:
    assert find_beeps(Sound(np.zeros(ANALYSIS_HZ, np.float32), ANALYSIS_HZ)) == []


def test_each_flash_is_found_once_at_its_first_picture() -> None:
    levels = [(i / 10, 235.0 if i >= 10 and i % 10 in (0, 1) else 68.0) for i in range(40)]
    assert flash_onsets(levels) == [1.0, 2.0, 3.0]


def test_a_slow_change_of_brightness_is_no_flash() -> None:
    assert flash_onsets([(i / 10, 60.0 + 4 * i) for i in range(40)]) == []


def test_brightness_is_that_of_the_flash_and_not_of_its_surroundings() -> None:
    picture = Picture()
    bright, dark = picture.frame(0)[:HEIGHT_PX], picture.frame(5)[:HEIGHT_PX]
    whole = (0.0, 0.0, 1280.0, 720.0)
    assert screen_brightness(bright, whole) == 235
    assert screen_brightness(dark, whole) < 80
    assert contained(1280, 720) != whole
