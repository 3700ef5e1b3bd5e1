"""Counting what comes and goes says the same as counting everything anew."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from offloader.admission import AdmissionPolicy, calls_in_progress, writing_bytes_per_s
from offloader.errors import DiskTooFull
from offloader.models import Job, JobSpec, JobState, JobType
from offloader.occupancy import Occupancy

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)


def job(number: int, call: int, job_type: JobType) -> Job:
    data = {"call_id": f"c{call}", "post_id": "p", "video_rate": 1000 + call}
    spec = JobSpec(job_type, "runner", 60 * (1 + call), data)
    created_at = NOW - timedelta(seconds=number)
    return Job(f"{number:012x}", "ann", spec, created_at, state=JobState.RUNNING)


def counted(live: list[Job], candidate: Job, *, policy: AdmissionPolicy) -> bool:
    slots = policy.post_call_slots
    now = calls_in_progress(live, post_call_slots=slots)
    then = calls_in_progress([*live, candidate], post_call_slots=slots)
    return then <= policy.max_calls or then == now


@pytest.mark.parametrize("seed", range(8))
def test_whoever_follows_the_jobs_admits_as_whoever_counts_them_all(seed: int) -> None:
    chance = random.Random(seed)
    policy = AdmissionPolicy(6, post_call_slots=2, min_free_disk_bytes=1000)
    occupancy, live, answers = Occupancy(), [], []
    for number in range(200):
        what = chance.random()
        if live and what < 0.3:
            live.pop(chance.randrange(len(live)))
        elif live and what < 0.5:
            place = chance.randrange(len(live))
            live[place] = replace(live[place], post_call=not live[place].post_call)
        candidate = job(number, chance.randrange(8), chance.choice(list(JobType)))
        answer = counted(live, candidate, policy=policy)
        assert occupancy.admits(live, candidate, policy=policy) is answer
        answers.append(answer)
        if answer:
            live.append(candidate)
    assert {True, False} == set(answers)


def _still_to_write_bytes(job: Job, *, now: datetime) -> int:
    remaining_s = 0.0 if job.post_call else max((job.deadline_at - now).total_seconds(), 0.0)
    return round(writing_bytes_per_s(job.spec.type, job.spec.input_data) * remaining_s)


def test_disk_is_counted_as_it_is_without_following() -> None:
    live = [job(number, number % 7, JobType(kind)) for number, kind in enumerate(JobType)]
    live.append(replace(live[0], id="f" * 12, post_call=True))
    occupancy, policy = Occupancy(), AdmissionPolicy(9, min_free_disk_bytes=10**6)
    candidate = job(9, 3, JobType.RECORDING)
    for now in (NOW, NOW + timedelta(seconds=59), NOW + timedelta(hours=1)):
        kwargs = {"policy": policy, "free_bytes": 0, "now": now}
        with pytest.raises(DiskTooFull) as found:
            occupancy.check_disk(live, candidate, **kwargs)
        expected = DiskTooFull(
            free_bytes=0,
            reserved_bytes=sum(_still_to_write_bytes(one, now=now) for one in live),
            wanted_bytes=_still_to_write_bytes(candidate, now=now),
            min_free_bytes=10**6,
        )
        assert str(found.value) == str(expected)
    plenty = {"policy": policy, "free_bytes": 10**12, "now": NOW}
    occupancy.check_disk(live, candidate, **plenty)
