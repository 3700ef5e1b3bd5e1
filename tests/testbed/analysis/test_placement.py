from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest

from testbed.analysis.media import ANALYSIS_HZ, Sound
from testbed.analysis.placement import Placement, drift_s, place
from testbed.analysis.synthetic import Damage, Simulated
from testbed.speech.clips import Clip
from testbed.speech.opus_file import resample

Clips = Mapping[str, Sequence[Clip]]
PlaceAll = Callable[[Simulated, Damage], tuple[Placement, ...]]


def test_every_sentence_is_found_to_the_millisecond_overlap_included(
    simulated: Simulated, place_all: PlaceAll
) -> None:
    placements = place_all(simulated, Damage())
    starts = sorted((p.true_s, p.bot) for p in placements)
    assert any(b - a < 2 and one != two for (a, one), (b, two) in pairwise(starts))
    for placement in placements:
        assert placement.error_s == pytest.approx(0, abs=0.001)


def test_a_late_track_is_late_by_what_it_is_late_and_the_others_are_not(
    simulated: Simulated, place_all: PlaceAll
) -> None:
    for placement in place_all(simulated, Damage(late_s={"bob": 0.3})):
        expected = 0.3 if placement.bot == "bob" else 0.0
        assert placement.error_s == pytest.approx(expected, abs=0.002)


def test_what_follows_a_missing_second_is_a_second_early(
    simulated: Simulated, place_all: PlaceAll
) -> None:
    placements = place_all(simulated, Damage(lost_second_s=12.0))
    for placement in placements:
        if placement.true_s > 13:
            assert placement.error_s == pytest.approx(-1.0, abs=0.002)
        elif placement.true_s < 8:
            assert placement.error_s == pytest.approx(0.0, abs=0.002)


def test_drift_is_what_a_bots_errors_span(simulated: Simulated, place_all: PlaceAll) -> None:
    drifts = drift_s(place_all(simulated, Damage(stretch={"alice": 0.004})))
    assert drifts["alice"] == pytest.approx(0.004 * (20.0 - 1.5), abs=0.02)
    assert drifts["bob"] < 0.002


def test_a_sentence_that_was_not_recorded_is_not_found(
    simulated: Simulated, place_all: PlaceAll
) -> None:
    silent = Simulated(
        simulated.call,
        {bot: voice * (bot != "bob") for bot, voice in simulated.voices.items()},
    )
    for placement in place_all(silent, Damage()):
        assert (placement.found_s is None) == (placement.bot == "bob")


def test_another_sentence_of_the_same_voice_is_not_taken_for_it(clips: Clips) -> None:
    said, asked = clips["carol"][0], clips["carol"][3]
    samples = np.zeros(5 * ANALYSIS_HZ, np.float32)
    heard = resample(said.samples, 48_000, to_hz=ANALYSIS_HZ)
    samples[ANALYSIS_HZ : ANALYSIS_HZ + len(heard)] = heard
    placement = place(
        Sound(samples, ANALYSIS_HZ),
        bot="carol",
        clip=asked.name,
        clip_samples=resample(asked.samples, 48_000, to_hz=ANALYSIS_HZ),
        true_s=1.0,
    )
    assert placement.found_s is None
