"""Who has which track: claims, silence, failures, results."""

from __future__ import annotations

import json

import pytest

from offloader.worker.transcribing_state import (
    MOST_FAILURES,
    SILENT_S,
    ClaimAnswer,
    JobTracks,
    TrackPhase,
)

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture
def job() -> JobTracks:
    return JobTracks.begun({"voice-1": 3, "voice-2": 5}, now_s=100.0)


def _claim(job: JobTracks, *, claim: str = ONE, worker: str = "a", now_s: float = 100.0):
    return job.claim("voice-1", claim=claim, worker=worker, now_s=now_s)


def test_a_track_is_one_workers_and_asking_again_changes_nothing(job: JobTracks) -> None:
    assert _claim(job) is ClaimAnswer.GRANTED
    assert _claim(job) is ClaimAnswer.GRANTED
    assert _claim(job, claim=TWO, worker="b") is ClaimAnswer.TAKEN


def test_a_silent_workers_track_is_offered_again_and_its_late_result_counts(
    job: JobTracks,
) -> None:
    job.due(now_s=100.0)
    _claim(job)
    assert job.beat("voice-1", claim=ONE, done=2, now_s=105.0)
    assert job.lose_the_silent(now_s=105.0 + SILENT_S) == []
    late_s = 105.1 + SILENT_S
    assert job.lose_the_silent(now_s=late_s) == ["voice-1"]
    assert "voice-1" in job.due(now_s=late_s)
    assert _claim(job, claim=TWO, worker="b", now_s=late_s) is ClaimAnswer.GRANTED
    assert not job.beat("voice-1", claim=ONE, done=3, now_s=late_s)
    assert job.tracks["voice-1"].done == 0
    assert job.needs("voice-1")
    job.finish("voice-1")  # of the first one, who was only slow
    assert not job.needs("voice-1")
    assert not job.beat("voice-1", claim=TWO, done=1, now_s=late_s)


def test_a_worker_that_was_only_late_has_its_track_again_while_nobody_else_has(
    job: JobTracks,
) -> None:
    _claim(job)
    late_s = 100.1 + SILENT_S
    job.lose_the_silent(now_s=late_s)
    assert not job.beat("voice-1", claim=TWO, done=3, now_s=late_s)
    assert job.beat("voice-1", claim=ONE, done=3, now_s=late_s)
    track = job.tracks["voice-1"]
    assert (track.phase, track.worker, track.done) == (TrackPhase.CLAIMED, "a", 3)
    assert _claim(job, claim=TWO, worker="b", now_s=late_s) is ClaimAnswer.TAKEN
    assert job.lose_the_silent(now_s=late_s + SILENT_S) == []


def test_who_gave_a_track_back_does_not_get_it_by_a_late_beat(job: JobTracks) -> None:
    _claim(job)
    job.fail("voice-1", claim=ONE, reason="ends", now_s=100.0, ending=True)
    assert not job.beat("voice-1", claim=ONE, done=3, now_s=101.0)


def test_who_failed_at_a_track_does_not_get_it_again(job: JobTracks) -> None:
    _claim(job)
    job.fail("voice-1", claim=ONE, reason="no model", now_s=101.0)
    assert _claim(job, claim=TWO) is ClaimAnswer.TAKEN
    assert _claim(job, claim=TWO, worker="b") is ClaimAnswer.GRANTED


def test_a_worker_that_ends_gives_its_track_back_at_once_and_without_blame(job: JobTracks) -> None:
    for _ in range(2 * MOST_FAILURES):
        job.due(now_s=100.0)
        assert _claim(job) is ClaimAnswer.GRANTED
        job.fail("voice-1", claim=ONE, reason="it ends", now_s=100.0, ending=True)
        assert "voice-1" in job.due(now_s=100.0)


def test_after_some_failures_the_job_has_to_do_it_itself(job: JobTracks) -> None:
    for number in range(MOST_FAILURES):
        assert job.tracks["voice-1"].phase is TrackPhase.WAITING
        _claim(job, worker=f"w{number}")
        job.fail("voice-1", claim=ONE, reason="it crashed", now_s=101.0)
    assert job.tracks["voice-1"].phase is TrackPhase.FAILED
    assert _claim(job, worker="fresh") is ClaimAnswer.OVER


def test_offers_are_repeated_at_growing_intervals_while_nobody_comes(job: JobTracks) -> None:
    offered_s = [now_s for now_s in range(100, 2000) if "voice-1" in job.due(now_s=float(now_s))]
    assert offered_s == [100, 110, 130, 170, 250, 410, 730, 1050, 1370, 1690]


def test_what_is_withdrawn_is_nobodys_and_what_is_claimed_cannot_be(job: JobTracks) -> None:
    assert job.withdraw("voice-2")
    assert job.claim("voice-2", claim=ONE, worker="a", now_s=100.0) is ClaimAnswer.OVER
    _claim(job)
    assert not job.withdraw("voice-1")


def test_every_change_that_the_job_sees_has_a_version_of_its_own(job: JobTracks) -> None:
    versions = [job.version]
    _claim(job)
    versions.append(job.version)
    job.beat("voice-1", claim=ONE, done=1, now_s=101.0)
    versions.append(job.version)
    job.beat("voice-1", claim=ONE, done=1, now_s=102.0)  # nothing new
    assert job.version == versions[-1]
    job.finish("voice-1")
    versions.append(job.version)
    assert versions == sorted(set(versions))


def test_a_restart_keeps_all_of_it_and_gives_workers_time_to_be_heard(job: JobTracks) -> None:
    _claim(job)
    job.finish("voice-2")
    documents = json.loads(json.dumps(job.documents()))
    again = JobTracks.restored(documents, now_s=5.0)
    assert again.documents() == job.documents()
    assert again.lose_the_silent(now_s=5.0 + SILENT_S) == []
    assert again.beat("voice-1", claim=ONE, done=1, now_s=6.0)
