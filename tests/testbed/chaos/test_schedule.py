"""Kills are spread evenly over the stages, and a seed says when."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from testbed.chaos.schedule import LENGTH_S, STAGES, JobKind, plan_kills

JOBS: tuple[JobKind, ...] = ("recorder", "transcriber")


@pytest.mark.parametrize(("job", "kills"), [("recorder", 50), ("transcriber", 30)])
def test_every_stage_gets_five_and_a_polite_one(job: JobKind, kills: int) -> None:
    plan = plan_kills(job, kills=kills, seed=1, terms=len(STAGES[job]))
    by_signal = Counter((kill.stage, kill.signal) for kill in plan)
    for stage in STAGES[job]:
        assert by_signal[stage, signal.SIGKILL] >= 5
        assert by_signal[stage, signal.SIGTERM] == 1


def test_only_the_stages_that_are_asked_for_are_hit() -> None:
    plan = plan_kills("recorder", kills=5, seed=1, terms=2, stages=("remux", "call"))
    assert [kill.stage for kill in plan if kill.signal is signal.SIGKILL][:3] == [
        "remux",
        "call",
        "remux",
    ]
    assert [kill.stage for kill in plan if kill.signal is signal.SIGTERM] == ["remux", "call"]


@pytest.mark.parametrize("job", JOBS)
def test_a_seed_says_it_all(job: JobKind) -> None:
    assert plan_kills(job, kills=20, seed=7, terms=2) == plan_kills(job, kills=20, seed=7, terms=2)
    assert plan_kills(job, kills=20, seed=7, terms=2) != plan_kills(job, kills=20, seed=8, terms=2)


@pytest.mark.parametrize("job", JOBS)
def test_kills_fall_everywhere_in_their_stage(job: JobKind) -> None:
    plan = plan_kills(job, kills=600, seed=1, terms=0)
    for stage in STAGES[job]:
        length_s = LENGTH_S[job][stage]
        offset_s = 1.0 if stage == "call" else 0.0
        shares = [(k.after_s - offset_s) / length_s for k in plan if k.stage == stage]
        assert min(shares) < 0.1
        assert max(shares) > 0.9
