from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from offloader.errors import IllegalTransition
from offloader.models import TRANSITIONS, Job, JobSpec, JobState, JobType

NEXT = {
    "pending": {"starting", "finished"},
    "starting": {"running", "stopping", "finished"},
    "running": {"stopping", "finished"},
    "stopping": {"finished"},
    "finished": set(),
}


def job(state: JobState, **input_data: str) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, input_data)
    return Job("abcdef012345", "client", spec, datetime(2026, 1, 1, tzinfo=UTC), state=state)


@pytest.mark.parametrize("before", JobState)
@pytest.mark.parametrize("after", JobState)
def test_a_job_moves_only_along_the_table(before: JobState, after: JobState) -> None:
    if after.value in NEXT[before.value]:
        assert job(before).moved_to(after).state is after
    else:
        with pytest.raises(IllegalTransition, match=f"from {before} to {after}"):
            job(before).moved_to(after)


def test_every_state_leads_to_finished_and_none_leads_back() -> None:
    order = list(JobState)
    for state, followers in TRANSITIONS.items():
        assert all(order.index(follower) > order.index(state) for follower in followers)
        assert state is JobState.FINISHED or JobState.FINISHED in followers


def test_jobs_of_one_client_call_and_post_share_a_call_key() -> None:
    recording = job(JobState.RUNNING, call_id="c", post_id="p")
    other_client = replace(recording, client_id="other")
    assert recording.call_key == replace(recording, id="543210fedcba").call_key
    assert recording.call_key != other_client.call_key
    assert recording.call_key != job(JobState.RUNNING, call_id="c", post_id="q").call_key


def test_a_job_without_call_or_post_is_a_call_of_its_own() -> None:
    lonely = job(JobState.RUNNING, call_id="c")
    assert lonely.call_key != replace(lonely, id="543210fedcba").call_key
