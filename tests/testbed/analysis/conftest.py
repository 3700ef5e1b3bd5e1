"""A short call without a network, whose every answer is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from testbed.analysis.call import Call
from testbed.analysis.checks import check_recording
from testbed.analysis.evidence import (
    RecordingEvidence,
    RecordingWish,
    examine_recording,
    place_sentences,
)
from testbed.analysis.media import ANALYSIS_HZ, Sound
from testbed.analysis.placement import Placement
from testbed.analysis.synthetic import Damage, Simulated, mixed, simulate, write_recording
from testbed.scenario import SHORT
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips
from testbed.speech.opus_file import resample

Clips = Mapping[str, Sequence[Clip]]
Examine = Callable[[Damage], RecordingEvidence]
WISH = RecordingWish(width_px=1280, height_px=720, frame_rate=10)


@pytest.fixture(scope="session")
def clips() -> Clips:
    return load_clips(CLIPS_DIRECTORY, speakers=SHORT.bots)


@pytest.fixture(scope="session")
def simulated(clips: Clips) -> Simulated:
    return simulate(SHORT, clips)


@pytest.fixture(scope="session")
def call(simulated: Simulated) -> Call:
    return simulated.call


@pytest.fixture(scope="session")
def place_all(clips: Clips) -> Callable[[Simulated, Damage], tuple[Placement, ...]]:
    """Look for every sentence in the sound of a call with damage."""

    def place(simulated: Simulated, damage: Damage) -> tuple[Placement, ...]:
        samples = resample(mixed(simulated, damage), 48_000, to_hz=ANALYSIS_HZ)
        return place_sentences(Sound(samples, ANALYSIS_HZ), simulated.call, clips)

    return place


@pytest.fixture(scope="session")
def examine(
    simulated: Simulated, clips: Clips, tmp_path_factory: pytest.TempPathFactory
) -> Examine:
    """Measure a recording file with damage."""

    def measure(damage: Damage) -> RecordingEvidence:
        path = tmp_path_factory.mktemp("recording") / "recording.mp4"
        write_recording(path, simulated, damage)
        return examine_recording(path, simulated.call, clips, WISH)

    return measure


@pytest.fixture(scope="session")
def faithful(examine: Examine) -> RecordingEvidence:
    """What a good recording shows."""
    return examine(Damage())


@pytest.fixture(scope="session")
def failed_checks(call: Call) -> Callable[[RecordingEvidence], set[str]]:
    """Names of the checks that fail."""
    return lambda evidence: {c.name for c in check_recording(evidence, call, WISH) if not c.ok}


@pytest.fixture(scope="session")
def with_sound_of(
    faithful: RecordingEvidence,
    simulated: Simulated,
    place_all: Callable[[Simulated, Damage], tuple[Placement, ...]],
) -> Examine:
    """A good recording whose sound has damage; quicker than a file."""
    return lambda damage: replace(faithful, placements=place_all(simulated, damage))
