from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from offloader.backends.base import Observation, Phase
from offloader.lifecycle import observed, told_to_stop
from offloader.models import Job, JobSpec, JobState, JobType, StopReason

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(state: JobState, reason: StopReason | None = None) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {})
    return Job("abcdef012345", "client", spec, NOW, state=state, stop_reason=reason)


@pytest.mark.parametrize(
    ("exit_code", "told", "reason"),
    [
        (0, None, StopReason.COMPLETED),
        (3, None, StopReason.CRASHED),
        (137, None, StopReason.CRASHED),
        (None, None, StopReason.START_FAILED),
        (0, StopReason.MAX_DURATION, StopReason.MAX_DURATION),
        (137, StopReason.REQUESTED, StopReason.REQUESTED),
    ],
)
def test_why_a_job_ended(
    exit_code: int | None, told: StopReason | None, reason: StopReason
) -> None:
    before = job(JobState.STOPPING if told else JobState.RUNNING, told)
    ended_at = NOW + timedelta(seconds=7)
    observation = Observation(Phase.EXITED, exit_code, ended_at, "why", {"total_cpu_s": 2.0})
    after = observed(before, observation, figures={"cpu_s": 1.0}, now=NOW + timedelta(seconds=9))
    assert (after.state, after.stop_reason, after.exit_code) == (
        JobState.FINISHED,
        reason,
        exit_code,
    )
    assert (after.stopped_at, after.detail) == (ended_at, "why")
    assert after.figures == {"cpu_s": 1.0, "total_cpu_s": 2.0}


@pytest.mark.parametrize("told", [None, StopReason.REQUESTED])
def test_a_job_that_vanished_is_lost_whatever_it_was_told(told: StopReason | None) -> None:
    before = job(JobState.STOPPING if told else JobState.RUNNING, told)
    after = observed(before, Observation(Phase.LOST), figures={}, now=NOW)
    assert (after.stop_reason, after.stopped_at, after.exit_code) == (StopReason.LOST, NOW, None)


@pytest.mark.parametrize(
    ("state", "phase", "after"),
    [
        (JobState.STARTING, Phase.STARTING, JobState.STARTING),
        (JobState.STARTING, Phase.RUNNING, JobState.RUNNING),
        (JobState.RUNNING, Phase.RUNNING, JobState.RUNNING),
        (JobState.STOPPING, Phase.RUNNING, JobState.STOPPING),
        (JobState.FINISHED, Phase.RUNNING, JobState.FINISHED),
        (JobState.FINISHED, Phase.LOST, JobState.FINISHED),
    ],
)
def test_what_is_seen_of_a_job_that_goes_on(state: JobState, phase: Phase, after: JobState) -> None:
    assert observed(job(state), Observation(phase), figures={}, now=NOW).state is after


def test_the_first_reason_to_stop_stays() -> None:
    stopping = told_to_stop(job(JobState.RUNNING), reason=StopReason.MAX_DURATION)
    assert told_to_stop(stopping, reason=StopReason.REQUESTED) is stopping


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.FINISHED])
def test_a_job_that_runs_nowhere_cannot_be_told_to_stop(state: JobState) -> None:
    assert told_to_stop(job(state), reason=StopReason.REQUESTED).state is state
