"""What happens in the soaks' calls makes sense, and what is found in them is judged strictly."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from testbed.job_watch import JobProcess
from testbed.scenario import (
    Event,
    Join,
    Leave,
    Mute,
    Plan,
    ShareScreen,
    StopScreen,
    Unmute,
    validated,
)
from testbed.soaks.course import Course
from testbed.soaks.figures import Sample, Sampler, rss_limit_bytes
from testbed.soaks.lively import lively_course
from testbed.soaks.offsets import MarkPair
from testbed.soaks.sync import SyncResult, sync_course


def shares(course: Course) -> list[tuple[float, float]]:
    events = sorted((e for s in course.stays for e in s.events), key=lambda e: e.at_s)
    starts = [e.at_s for e in events if isinstance(e, ShareScreen)]
    stops = [e.at_s for e in events if isinstance(e, StopScreen)]
    return list(zip(starts, stops, strict=True))


@pytest.mark.parametrize("course", [sync_course(1), sync_course(10), lively_course(2)])
def test_everybody_acts_in_order_and_only_while_in_the_call(course: Course) -> None:
    stays: dict[str, list[tuple[Event, ...]]] = defaultdict(list)
    for stay in course.stays:
        validated(Plan("stay", stay.events, course.end_s))
        stays[stay.bot].append(stay.events)
    for own in stays.values():
        for before, after in pairwise(own):
            assert isinstance(before[-1], Leave)
            assert isinstance(after[0], Join)
            assert before[-1].at_s + 0.5 < after[0].at_s
    for (_, stop_s), (start_s, _) in pairwise(shares(course)):
        assert stop_s < start_s, "nobody else may share meanwhile"


def test_the_sync_course_has_all_that_makes_it_hard() -> None:
    course = sync_course(10)
    assert course.loss == 0.05
    assert len(shares(course)) == 2
    drifts = {(s.drift.sound_ppm, s.drift.picture_ppm) for s in course.stays}
    assert {(100, -100), (-100, 100)} <= drifts
    assert {s.rtp_stands_while_muted for s in course.stays} == {True, False}
    for stay in course.stays:
        assert sum(isinstance(e, Mute) for e in stay.events) >= 20
        assert sum(isinstance(e, Unmute) for e in stay.events) >= 20


GOOD = SyncResult(
    tuple(MarkPair(n, n, n + 0.01, n + 0.005) for n in range(100)), (), 100.0, 1000, 0, 0
)


def with_pairs(count: int, **changes: float | None) -> SyncResult:
    changed = [replace(p, **changes) for p in GOOD.pairs[:count]]
    return replace(GOOD, pairs=(*changed, *GOOD.pairs[count:]))


def test_a_good_recording_has_no_complaint() -> None:
    assert GOOD.complaints() == []
    assert GOOD.public()["offset"] == {
        "count": 100,
        "median_ms": 5.0,
        "p99_ms": 5.0,
        "worst_ms": 5.0,
    }


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (with_pairs(11, flash_s=None), "11 of 100 flashes missing"),
        (with_pairs(11, beep_s=None), "11 of 100 beeps missing"),
        (replace(GOOD, pairs=()), "no beep was found with its flash"),
        (
            replace(
                GOOD, pairs=tuple(replace(p, flash_s=p.flash_true_s + 0.03) for p in GOOD.pairs)
            ),
            "median offset 25.0 ms",
        ),
        (
            replace(
                GOOD,
                pairs=tuple(
                    replace(p, flash_s=p.flash_true_s + 0.06) if n % 40 == 0 else p
                    for n, p in enumerate(GOOD.pairs)
                ),
            ),
            "p99 offset 55.0 ms",
        ),
    ],
)
def test_what_is_not_good_enough_is_named(result: SyncResult, complaint: str) -> None:
    assert result.complaints() == [complaint]
    assert result.public()["good"] is False


MB = 1 << 20


def sampler(**last: int) -> Sampler:
    """Twenty samples, the last five of them with other values."""
    made = Sampler()
    for number in range(20):
        sample = Sample(number * 3.0, 130 * MB, number * 0.2, 20, 5, 22, (number + 1) * 30_000)
        made.samples.append(replace(sample, **last) if number >= 15 else sample)
    return made


def test_a_recorder_that_stays_small_has_no_complaint() -> None:
    assert sampler().complaints() == []
    assert sampler().public()["cpu_per_s"] == pytest.approx(0.0667, abs=0.001)


@pytest.mark.parametrize(
    ("last", "complaint"),
    [
        ({"rss_bytes": 138 * MB}, "rss_bytes grew"),
        ({"descriptors": 30}, "descriptors grew"),
        ({"threads": 8}, "threads grew"),
        ({"tasks": 40}, "tasks grew"),
        ({"file_bytes": 900_000}, "the file did not grow"),
    ],
)
def test_what_grows_is_named(last: dict[str, int], complaint: str) -> None:
    assert sampler(**last).complaints()[0].startswith(complaint)


def test_memory_above_the_limit_is_a_complaint_though_it_does_not_grow() -> None:
    made = sampler()
    made.samples[7] = replace(made.samples[7], rss_bytes=150_000_001)
    assert made.complaints() == ["rss_bytes was 150000001, more than 150000000"]


@pytest.mark.parametrize(("height_px", "limit_mb"), [(720, 150), (1080, 200)])
def test_a_larger_picture_may_take_more_memory(height_px: int, limit_mb: int) -> None:
    assert rss_limit_bytes(height_px) == limit_mb * 1_000_000


def test_two_samples_close_together_say_nothing_about_growth() -> None:
    made = sampler()
    made.samples.append(replace(made.samples[-1], at_s=made.samples[-1].at_s + 0.2))
    assert made.complaints() == []


def test_lost_sound_is_a_complaint() -> None:
    made = sampler()
    made.metrics = {"audio_late_s": 0.4, "audio_dropped_s": 0.0}
    assert made.complaints() == ["audio_late_s is 0.4"]


def test_a_recorder_that_is_gone_has_no_sample(tmp_path: Path) -> None:
    made = Sampler()
    made.take(JobProcess("recorder", tmp_path, 2**22 + 1, None), 1.0)
    made.take(JobProcess("recorder", tmp_path, None, None), 1.0)
    assert made.samples == []
    assert made.complaints() == ["0 samples: too few to judge"]
