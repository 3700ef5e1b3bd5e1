"""Load is shed at once and taken on again step by step."""

from __future__ import annotations

from jobs.transcriber.shedding import LoadShedder


def test_the_level_follows_the_longest_wait() -> None:
    levels = [LoadShedder().observe(wait_s, now_s=0) for wait_s in (0, 1, 1.1, 2.1, 6.1)]
    assert levels == [0, 0, 1, 2, 3]


def test_it_falls_one_step_after_five_calm_seconds() -> None:
    shedder = LoadShedder()
    shedder.observe(7, now_s=0)
    seen = [shedder.observe(0, now_s=second) for second in range(1, 18)]
    assert seen == [3] * 5 + [2] * 5 + [1] * 5 + [0] * 2


def test_a_wait_near_the_limit_is_not_calm() -> None:
    shedder = LoadShedder()
    shedder.observe(1.5, now_s=0)
    for second in range(1, 20):
        assert shedder.observe(0.6, now_s=second) == 1
