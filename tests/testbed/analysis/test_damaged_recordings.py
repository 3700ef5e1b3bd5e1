"""The checks of a recording: a faithful one passes, each kind of damage fails the check that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from testbed.analysis.evidence import RecordingEvidence
from testbed.analysis.synthetic import Damage

Examine = Callable[[Damage], RecordingEvidence]
FailedChecks = Callable[[RecordingEvidence], set[str]]


def test_a_faithful_recording_passes_every_check(
    faithful: RecordingEvidence, failed_checks: FailedChecks
) -> None:
    assert failed_checks(faithful) == set()


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        pytest.param(Damage(late_s={"bob": 0.3}), "every voice in its place", id="late-track"),
        pytest.param(Damage(stretch={"alice": 0.004}), "no drift", id="drift"),
        pytest.param(Damage(lost_second_s=10.0), "every voice in its place", id="lost-second"),
    ],
)
def test_damaged_sound_fails_the_check_that_names_it(
    with_sound_of: Examine, failed_checks: FailedChecks, damage: Damage, check: str
) -> None:
    assert check in failed_checks(with_sound_of(damage))


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        pytest.param(Damage(picture_late_s=0.15), "sound and picture together", id="late-picture"),
        pytest.param(Damage(no_ring=frozenset({"alice"})), "speaking rings", id="lost-ring"),
        pytest.param(Damage(ring_always=frozenset({"bob"})), "speaking rings", id="stuck-ring"),
        pytest.param(Damage(no_name=frozenset({"carol"})), "names on the tiles", id="no-name"),
        pytest.param(Damage(screen_stays=True), "shared screen", id="screen-stays"),
        pytest.param(Damage(screen_cropped=True), "shared screen", id="screen-cropped"),
    ],
)
def test_damaged_pictures_fail_the_check_that_names_it(
    examine: Examine, failed_checks: FailedChecks, damage: Damage, check: str
) -> None:
    assert check in failed_checks(examine(damage))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"boxes": ("ftyp", "mdat", "moov")}, "streams of the recording"),
        ({"width_px": 1920}, "streams of the recording"),
        ({"pixel_format": "yuv444p"}, "streams of the recording"),
        ({"audio_codecs": ("aac", "aac")}, "streams of the recording"),
        ({"video_codecs": ("hevc",)}, "streams of the recording"),
        ({"frame_times_s": tuple(i / 13 for i in range(26))}, "streams of the recording"),
        ({"audio_duration_s": 22.9}, "length of the recording"),
        ({"video_duration_s": 24.1}, "length of the recording"),
    ],
)
def test_a_wrong_structure_fails_the_check_that_names_it(
    faithful: RecordingEvidence,
    failed_checks: FailedChecks,
    changes: dict[str, object],
    check: str,
) -> None:
    structure = replace(faithful.structure, **changes)
    assert failed_checks(replace(faithful, structure=structure)) == {check}


def test_rings_that_were_hardly_judged_are_no_success(
    faithful: RecordingEvidence, failed_checks: FailedChecks
) -> None:
    watched = replace(faithful.watched, looks=faithful.watched.looks[:4])
    assert "speaking rings" in failed_checks(replace(faithful, watched=watched))
