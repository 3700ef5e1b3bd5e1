"""When a line is written and when not: on a clock that the test moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from foundation.clock import ManualClock
from offloader.condition import Capacity
from offloader.errors import StoreError
from offloader.models import Job, JobSpec, JobState, JobType, StopReason, Workload
from offloader.notify.causes import Cause, Look, troubles
from offloader.notify.notifier import Notifier
from offloader.notify.told import Told
from offloader.store.base import AnswerStore
from offloader.store.memory import MemoryAnswerStore

GIB = 2**30


def capacity(**changes: Any) -> Capacity:
    values: dict[str, Any] = {
        "limit": 2,
        "calls_in_progress": 0,
        "jobs": 0,
        "draining": False,
        "free_disk_bytes": 50 * GIB,
        "min_free_disk_bytes": GIB,
    }
    return Capacity(**(values | changes))


WELL = Look(capacity())
FULL = Look(capacity(calls_in_progress=2))
NO_BACKEND = Look(capacity(), backend_fault="the docker backend cannot be used: alice's socket")


class Replica:
    """One process of the service."""

    def __init__(self, clock: ManualClock, answers: AnswerStore, name: str = "host-1") -> None:
        self.clock = clock
        self.look = WELL
        self.lines: list[str] = []
        self.notifier = Notifier(
            look=self._look, told=Told(answers), say=self.lines.append, clock=clock, where=name
        )

    async def _look(self) -> Look:
        return self.look

    def job_ends(self, reason: StopReason, *, job_type: JobType, figures: dict[str, float]) -> None:
        spec = JobSpec(job_type, "runner", 60, {"auth_token": "***"})
        now = self.clock.utc_now()
        running = Job(
            "abcdef012345", "alice", spec, now, JobState.RUNNING, workload=Workload("x", {})
        )
        ended = running.moved_to(
            JobState.FINISHED,
            stop_reason=reason,
            stopped_at=now,
            figures=figures,
            detail="of alice",
        )
        self.notifier.job_changed(None, running)
        self.notifier.job_changed(running, ended)
        self.notifier.job_changed(ended, ended)

    def fails(self, reason: StopReason = StopReason.CRASHED) -> None:
        self.job_ends(reason, job_type=JobType.RECORDING, figures={})

    async def lives(self, *, minutes: float) -> list[str]:
        """What it says within that time, looking four times a minute."""
        before = len(self.lines)
        for _ in range(round(minutes * 4)):
            await self.notifier.check()
            self.clock.advance(seconds=15)
        return self.lines[before:]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def answers(clock: ManualClock) -> AnswerStore:
    return MemoryAnswerStore(clock=clock)


@pytest.fixture
def replica(clock: ManualClock, answers: AnswerStore) -> Replica:
    return Replica(clock, answers)


def end_of(line: str) -> str:
    return line.partition("`: ")[2]


async def test_where_all_is_well_nothing_is_said(replica: Replica) -> None:
    replica.job_ends(StopReason.COMPLETED, job_type=JobType.RECORDING, figures={})
    replica.job_ends(StopReason.REQUESTED, job_type=JobType.TRANSCRIBING, figures={})
    assert await replica.lives(minutes=120) == []


async def test_a_failed_recording_is_told_at_once_with_its_job_and_nobody_s_name(
    replica: Replica,
) -> None:
    replica.fails()
    (line,) = await replica.lives(minutes=30)
    assert line == (
        ":x: Calls job service `host-1`: a recording failed (crashed). "
        "`offloader jobs show abcdef012345` says why and what to do."
    )


async def test_further_failures_within_the_hour_are_added_up_in_one_line(replica: Replica) -> None:
    replica.fails()
    await replica.lives(minutes=1)
    replica.fails(StopReason.LOST)
    replica.fails()
    replica.fails()
    assert await replica.lives(minutes=58) == []
    (line,) = await replica.lives(minutes=5)
    assert "3 recordings failed (2 crashed, 1 lost); of the last one" in line
    assert await replica.lives(minutes=180) == []


async def test_recordings_and_transcriptions_are_causes_of_their_own(replica: Replica) -> None:
    replica.fails()
    replica.job_ends(
        StopReason.COMPLETED, job_type=JobType.TRANSCRIBING, figures={"start_failed": 1}
    )
    said = await replica.lives(minutes=1)
    assert [end_of(line).partition(")")[0] for line in said] == [
        "a recording failed (crashed",
        "a transcription failed (not begun",
    ]


async def test_a_state_is_told_when_it_lasts_and_once_until_it_is_over(replica: Replica) -> None:
    replica.look = FULL
    assert await replica.lives(minutes=5) == []
    (line,) = await replica.lives(minutes=20 * 60)
    assert "no place for a further recording (2 in use)" in line
    replica.look = WELL
    (line,) = await replica.lives(minutes=30)
    assert line == ":white_check_mark: Calls job service `host-1`: all is well again."
    assert await replica.lives(minutes=180) == []


async def test_all_is_well_only_after_a_minute_without_trouble(replica: Replica) -> None:
    replica.look = NO_BACKEND
    assert len(await replica.lives(minutes=5)) == 1
    for _ in range(3):
        replica.look = WELL
        assert await replica.lives(minutes=0.75) == []
        replica.look = NO_BACKEND
        assert await replica.lives(minutes=0.25) == []
    replica.look = WELL
    assert len(await replica.lives(minutes=2)) == 1


async def test_what_is_full_for_a_moment_is_nobody_s_business(replica: Replica) -> None:
    for _ in range(10):
        replica.look = FULL
        assert await replica.lives(minutes=4) == []
        replica.look = WELL
        assert await replica.lives(minutes=4) == []


async def test_what_comes_and_goes_is_told_once_in_an_hour_at_most(replica: Replica) -> None:
    told: list[tuple[float, str]] = []
    for minute in range(0, 6 * 60, 6):
        replica.look = NO_BACKEND if minute % 12 == 0 else WELL
        told += [(minute, end_of(line)) for line in await replica.lives(minutes=6)]
    for words in ("what runs the jobs", "all is well again"):
        at = [minute for minute, line in told if line.startswith(words)]
        assert 5 <= len(at) <= 6
        assert all(later - earlier >= 60 for earlier, later in pairwise(at))


async def test_all_is_well_only_when_nothing_is_wrong_any_more(replica: Replica) -> None:
    replica.look = Look(capacity(calls_in_progress=2), workers={"a": False, "b": True})
    assert len(await replica.lives(minutes=10)) == 2
    replica.look = FULL
    assert await replica.lives(minutes=30) == []
    replica.look = WELL
    (line,) = await replica.lives(minutes=5)
    assert "all is well again" in line


async def test_a_failed_recording_alone_is_not_followed_by_all_is_well(replica: Replica) -> None:
    replica.fails()
    assert len(await replica.lives(minutes=120)) == 1


async def test_a_trouble_that_lasts_is_told_again_the_next_day(replica: Replica) -> None:
    replica.look = NO_BACKEND
    said = await replica.lives(minutes=49 * 60)
    assert len(said) == 3


async def test_of_several_replicas_one_tells(clock: ManualClock, answers: AnswerStore) -> None:
    replicas = [Replica(clock, answers, f"host-{n}") for n in (1, 2, 3)]
    said: Counter[str] = Counter()
    for minute in range(4 * 60):
        bad = minute < 90 or 100 <= minute < 200
        for replica in replicas:
            replica.look = NO_BACKEND if bad else WELL
            before = len(replica.lines)
            await replica.notifier.check()
            said.update(end_of(line) for line in replica.lines[before:])
        clock.advance(seconds=60)
    assert set(said.values()) == {2}
    assert len(said) == 2


async def test_replicas_on_both_sides_of_a_full_hour_tell_once(
    clock: ManualClock, answers: AnswerStore
) -> None:
    first, second = Replica(clock, answers), Replica(clock, answers)
    clock.advance(seconds=3590)
    first.fails()
    await first.notifier.check()
    clock.advance(seconds=20)
    second.fails()
    await second.notifier.check()
    assert (len(first.lines), len(second.lines)) == (1, 0)
    assert len(await second.lives(minutes=61)) == 1


async def test_a_restart_does_not_tell_again(clock: ManualClock, answers: AnswerStore) -> None:
    before = Replica(clock, answers)
    before.look = NO_BACKEND
    assert len(await before.lives(minutes=10)) == 1
    after = Replica(clock, answers)
    after.look = NO_BACKEND
    assert await after.lives(minutes=40) == []


class NoStore(MemoryAnswerStore):
    async def answer_of(self, client_id: str, key: str) -> str | None:
        raise StoreError("gone")


async def test_without_the_database_each_replica_counts_for_itself(clock: ManualClock) -> None:
    replica = Replica(clock, NoStore(clock=clock))
    replica.look = Look()
    said = await replica.lives(minutes=70)
    assert [end_of(line) for line in said] == [
        "the database cannot be used; nobody gets a recording."
    ]


async def test_without_the_database_failures_are_told_once_in_an_hour_too(
    clock: ManualClock,
) -> None:
    replica = Replica(clock, NoStore(clock=clock))
    said = 0
    for _ in range(3):
        replica.fails()
        said += len(await replica.lives(minutes=10))
    assert said == 1
    assert len(await replica.lives(minutes=40)) == 1


async def test_a_trouble_that_returns_and_lasts_is_told_when_its_hour_is_over(
    replica: Replica,
) -> None:
    replica.look = FULL
    assert len(await replica.lives(minutes=6)) == 1
    replica.look = WELL
    await replica.lives(minutes=2)
    replica.look = FULL
    assert len(await replica.lives(minutes=50)) == 0
    assert len(await replica.lives(minutes=10)) == 1


def causes(look: Look, clock: ManualClock) -> set[Cause]:
    return set(troubles(look, now=clock.utc_now()))


def looks() -> Iterator[tuple[Look, set[Cause]]]:
    now = ManualClock().utc_now()
    yield WELL, set()
    yield Look(), {Cause.DATABASE_UNREACHABLE}
    yield Look(backend_fault="x"), {Cause.BACKEND_UNREACHABLE}
    yield FULL, {Cause.NO_CAPACITY}
    yield Look(capacity(calls_in_progress=2, draining=True)), set()
    yield NO_BACKEND, {Cause.BACKEND_UNREACHABLE}
    yield Look(capacity(limit=0), backend_fault="x"), {Cause.BACKEND_UNREACHABLE}
    yield Look(capacity(free_disk_bytes=2 * GIB - 1)), {Cause.DISK_LOW}
    yield Look(capacity(free_disk_bytes=2 * GIB)), set()
    yield Look(capacity(least_disk_bytes=2 * GIB - 1)), {Cause.DISK_LOW}
    yield Look(capacity(free_disk_bytes=1, min_free_disk_bytes=None)), set()
    yield Look(capacity(), oldest_result=timedelta(minutes=15)), set()
    yield Look(capacity(), oldest_result=timedelta(minutes=16)), {Cause.RESULT_WAITS}
    yield Look(capacity(), workers={"a": True}), set()
    yield Look(capacity(), workers={"a": True, "b": False}), {Cause.WORKER_LOST}
    yield Look(capacity(), certificate_end=now + timedelta(days=15)), set()
    yield Look(capacity(), certificate_end=now + timedelta(days=13)), {Cause.CERTIFICATE_ENDS}
    yield Look(capacity(), certificate_end=now - timedelta(days=1)), {Cause.CERTIFICATE_ENDS}


@pytest.mark.parametrize(("look", "expected"), list(looks()))
def test_what_is_bad(look: Look, expected: set[Cause], clock: ManualClock) -> None:
    assert causes(look, clock) == expected


def test_no_line_has_a_name_or_a_reason_of_others(clock: ManualClock) -> None:
    look = Look(
        capacity(calls_in_progress=2, free_disk_bytes=1),
        backend_fault="alice",
        workers={"alice": False},
        oldest_result=timedelta(hours=1),
        certificate_end=clock.utc_now(),
    )
    assert "alice" not in "".join(troubles(look, now=clock.utc_now()).values())


async def test_a_failed_recording_is_told_also_where_nobody_can_look(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> Look:
        raise RuntimeError

    monkeypatch.setattr(replica.notifier, "_look", broken)
    replica.fails()
    with pytest.raises(RuntimeError):
        await replica.notifier.check()
    assert len(replica.lines) == 1
