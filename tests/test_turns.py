"""Tests get the company they ask for: any, one more of its kind, none."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.turns import Company, Phases, turn

ALLOWED = {
    Company.ANY: {Company.ANY: 4, Company.PAIRED: 0, Company.ALONE: 0},
    Company.PAIRED: {Company.ANY: 0, Company.PAIRED: 2, Company.ALONE: 0},
    Company.ALONE: {Company.ANY: 0, Company.PAIRED: 0, Company.ALONE: 1},
}
"""How many of each kind run at most while one of the first runs, itself included."""


class Stage:
    """Who runs at the same time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.together: list[Counter[Company]] = []
        self._running: Counter[Company] = Counter()
        self._most: Counter[Company] = Counter()
        self._changed = threading.Condition()

    def run(self, company: Company, *, until: int = 1, limit_s: float = 0.0) -> bool:
        """Take a turn and stay until `until` of its kind have been there at once; False: not in `limit_s`."""
        with turn(company, self.directory):
            with self._changed:
                self._running[company] += 1
                self._most |= self._running
                self.together.append(+self._running)
                self._changed.notify_all()
                met = self._changed.wait_for(lambda: self._most[company] >= until, limit_s)
            with self._changed:
                self._running[company] -= 1
        return met


@pytest.mark.parametrize(("company", "many"), [(Company.ANY, 4), (Company.PAIRED, 2)])
def test_as_many_run_together_as_may(company: Company, many: int, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with ThreadPoolExecutor(many) as pool:
        turns = [pool.submit(stage.run, company, until=many, limit_s=20) for _ in range(many)]
        assert all(one.result() for one in turns)


def test_nobody_gets_company_that_it_cannot_have(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    kinds = [*Company, Company.PAIRED, Company.PAIRED, Company.ANY] * 8
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda kind: stage.run(kind, until=9, limit_s=0.005), kinds))
    assert len(stage.together) == len(kinds), "everybody had a turn"
    for running, kind, other in itertools.product(stage.together, Company, Company):
        if running[kind]:
            assert running[other] <= ALLOWED[kind][other], running


def test_nobody_goes_on_to_the_next_kind_before_all_have_ended_this_one(tmp_path: Path) -> None:
    order: list[tuple[Company, int]] = []
    begun = threading.Barrier(3)

    def process(number: int) -> None:
        phases = Phases()
        for kind in Company:
            phases.enter(kind, tmp_path)
            if kind is Company.ANY:
                begun.wait(20)
            for _ in range(5):
                phases.enter(kind, tmp_path)  # the next test
                order.append((kind, number))
        phases.leave()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(process, range(3)))
    assert [kind for kind, _ in order] == [kind for kind in Company for _ in range(15)]


def test_who_has_left_holds_nobody_up(tmp_path: Path) -> None:
    gone, other = Phases(), Phases()
    gone.enter(Company.ANY, tmp_path)
    gone.leave()
    gone.leave()
    other.enter(Company.ALONE, tmp_path)
    other.leave()
