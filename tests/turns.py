"""Which tests run beside which, when several processes run them.

Most run beside each other. A test marked `alone` runs with nothing beside it: it judges times, or what the
whole machine spends. One marked `paired` judges a call in real time, which leaves most of a machine of two
cores idle: one more of its kind may run beside it, and nothing else.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import itertools
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, TextIO

import pytest

_HALVES: Final = ("left.lock", "right.lock")
_GATE: Final = "gate.lock"
_POLL_S: Final = 0.02
_MANY: Final = 100
"""Tests of one file, which one process runs."""


class Company(enum.Enum):
    """Beside what a test runs."""

    ANY = "any"
    PAIRED = "paired"
    ALONE = "alone"


def company_of(item: pytest.Item) -> Company:
    """By its markers."""
    if item.get_closest_marker("alone"):
        return Company.ALONE
    return Company.PAIRED if item.get_closest_marker("paired") else Company.ANY


@contextlib.contextmanager
def turn(company: Company, directory: Path) -> Iterator[None]:
    """Wait for the company, among all processes that use `directory`, and hold it.

    The machine has two halves. Most tests share both; who is paired has one, whichever is free, to itself;
    who is alone has both.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / _GATE).open("w") as gate,
        (directory / _HALVES[0]).open("w") as left,
        (directory / _HALVES[1]).open("w") as right,
    ):
        # Through the gate one after the other: who wants to be alone must not wait for ever.
        fcntl.flock(gate, fcntl.LOCK_EX)
        held = _take(company, left, right)
        fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            for half in held:
                fcntl.flock(
                    half, fcntl.LOCK_UN
                )  # a process that a test forked may have it open, too


def _take(company: Company, left: TextIO, right: TextIO) -> tuple[TextIO, ...]:
    if company is not Company.PAIRED:
        kind = fcntl.LOCK_EX if company is Company.ALONE else fcntl.LOCK_SH
        fcntl.flock(left, kind)
        fcntl.flock(right, kind)
        return left, right
    while True:
        for half in (left, right):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(half, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return (half,)
        time.sleep(_POLL_S)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with whole processes, and those with very many tests, first: they take longest, and would be
    waited for in the end. Files with tests that want less company last, by how little."""
    many = Counter(item.path for item in items)
    first = {item.path for item in items if item.get_closest_marker("e2e")}
    first |= {path for path, count in many.items() if count >= _MANY}
    order = list(Company)
    little: dict[Path, int] = {}
    for item in items:
        little[item.path] = max(little.get(item.path, 0), order.index(company_of(item)))
    items.sort(key=lambda item: (little[item.path], item.path not in first))


class Phases:
    """Where this process is in that order, for the others to know."""

    def __init__(self) -> None:
        self._phase: Company | None = None
        self._held: TextIO | None = None

    def enter(self, company: Company, directory: Path) -> None:
        """Wait until nobody has tests of an earlier kind. Nobody goes on to a later one while we are here."""
        if company is self._phase:
            return
        directory.mkdir(parents=True, exist_ok=True)
        held = _phase_lock(directory, company)
        fcntl.flock(held, fcntl.LOCK_SH)
        self.leave()  # now that the new one is held: nobody finds us between two of them
        self._phase, self._held = company, held
        for earlier in itertools.takewhile(lambda kind: kind is not company, Company):
            with _phase_lock(directory, earlier) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)

    def leave(self) -> None:
        """Idempotent."""
        if self._held is not None:
            fcntl.flock(self._held, fcntl.LOCK_UN)
            self._held.close()
        self._phase = self._held = None


def _phase_lock(directory: Path, company: Company) -> TextIO:
    return (directory / f"{company.value}.phase.lock").open("w")


_phases = Phases()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """The wait for a turn counts for no time limit."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    directory, company = item.config.rootpath / ".pytest_cache", company_of(item)
    _phases.enter(company, directory)
    try:
        with turn(company, directory):
            return (yield)
    finally:
        if nextitem is None:
            _phases.leave()
