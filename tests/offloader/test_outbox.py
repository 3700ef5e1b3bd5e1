"""Results that could not be published are tried again until they are, or cannot be."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog

from foundation.clock import ManualClock
from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError, FormerBackend, NothingToPublish, StoreError
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    Publication,
    StopReason,
    Workload,
)
from offloader.outbox import FIRST_WAIT, Outbox
from offloader.outbox_steps import LONGEST_WAIT, entry_of, wait_after
from offloader.store.memory import MemoryJobStore

SITE = "http://mattermost"


class Tokens:
    def __init__(self) -> None:
        self.known: dict[tuple[str, str], str] = {("ann", SITE): "token-1"}
        self.keys: dict[str, dict[str, str]] = {}

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        return self.known.get((client_id, site_url))

    async def variables(self, job_id: str) -> dict[str, str]:
        return self.keys.get(job_id, {})


class Bench:
    """An outbox whose salvages the test ends."""

    def __init__(self, *, slots: int = 2, max_age: timedelta | None = timedelta(days=14)) -> None:
        self.clock = ManualClock()
        self.store = MemoryJobStore()
        self.backend = StubBackend()
        self.tokens = Tokens()
        self.outbox = Outbox(
            store=self.store,
            backend=self.backend,
            tokens=self.tokens,
            clock=self.clock,
            max_age=max_age,
            slots=slots,
        )

    async def leave_result(self, job_id: str = "j1", *, client_id: str = "ann") -> None:
        """A job that ended and left something."""
        request = LaunchRequest(job_id, JobType.RECORDING, "r", {})
        workload = await self.backend.launch(request)
        self.backend.exit(job_id, 1, unpublished=True)
        spec = JobSpec(JobType.RECORDING, "r", 60, {"site_url": SITE, "auth_token": "***"})
        now = self.clock.utc_now()
        job = Job(
            job_id,
            client_id,
            spec,
            now,
            state=JobState.FINISHED,
            stop_reason=StopReason.CRASHED,
            stopped_at=now,
            exit_code=1,
            workload=workload,
            unpublished=True,
        )
        await self.store.reserve(job, admits=lambda *_: True)
        await self.outbox.check()

    async def after(self, wait: timedelta) -> None:
        self.clock.advance(seconds=wait.total_seconds())
        await self.outbox.check()

    async def salvage_ends(self, code: int | None, *, left: bool = True) -> None:
        job_id = f"{self.backend.salvaged[-1][0]}"
        self.backend.exit(f"{job_id}/salvage-{len(self.backend.salvaged)}", code)
        self.backend.exit(job_id, 1, unpublished=left)
        await self.outbox.check()

    async def job(self, job_id: str = "j1") -> Job:
        job = await self.store.get(job_id)
        assert job is not None
        return job

    async def publication(self, job_id: str = "j1") -> Publication:
        return entry_of(await self.job(job_id)).publication


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_first_attempt_comes_soon_with_the_clients_newest_token(bench: Bench) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT - timedelta(seconds=1))
    assert bench.backend.salvaged == []
    await bench.after(timedelta(seconds=1))
    assert bench.backend.salvaged == [("j1", {"AUTH_TOKEN": "token-1", "SITE_URL": SITE})]
    assert await bench.publication() is Publication.RUNNING


@pytest.mark.documents("a-lost-job-that-is-back")
async def test_a_lost_job_that_is_found_running_is_left_to_publish_by_itself(
    bench: Bench, documented: Any
) -> None:
    await bench.leave_result()
    await bench.store.change("j1", lambda job: replace(job, stop_reason=StopReason.LOST))
    bench.backend.observations["j1"] = Observation(Phase.RUNNING)
    await bench.after(FIRST_WAIT)
    for _ in range(10):
        entry = entry_of(await bench.job())
        assert entry.attempts == 0
        documented("a-lost-job-that-is-back", entry.detail)
        await bench.after(timedelta(minutes=1))
    bench.backend.exit("j1", 0, unpublished=False)
    await bench.after(timedelta(minutes=1))
    assert await bench.publication() is Publication.PUBLISHED
    assert not (await bench.job()).unpublished
    assert bench.backend.salvaged == []


async def test_a_lost_job_that_has_ended_with_something_left_is_salvaged(bench: Bench) -> None:
    await bench.leave_result()
    await bench.store.change("j1", lambda job: replace(job, stop_reason=StopReason.LOST))
    await bench.after(FIRST_WAIT)
    assert len(bench.backend.salvaged) == 1


async def test_a_lost_job_that_crashed_and_left_nothing_there_has_published_nothing(
    bench: Bench,
) -> None:
    await bench.leave_result()
    await bench.store.change("j1", lambda job: replace(job, stop_reason=StopReason.LOST))
    bench.backend.exit("j1", 137, unpublished=False)
    bench.backend.gone.add("j1")
    await bench.after(FIRST_WAIT)
    assert await bench.publication() is Publication.WAITING
    assert (await bench.job()).unpublished


async def test_a_published_result_is_done(bench: Bench) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    await bench.salvage_ends(0, left=False)
    job = await bench.job()
    assert not job.unpublished
    assert entry_of(job).publication is Publication.PUBLISHED
    await bench.after(timedelta(days=1))
    assert len(bench.backend.salvaged) == 1


async def test_failures_are_repeated_with_growing_waits(bench: Bench) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    for attempt in range(1, 6):
        await bench.salvage_ends(1)
        assert len(bench.backend.salvaged) == attempt
        await bench.after(wait_after(attempt) - timedelta(seconds=1))
        assert len(bench.backend.salvaged) == attempt
        await bench.after(timedelta(seconds=1))
        assert len(bench.backend.salvaged) == attempt + 1
    assert [wait_after(n) for n in (1, 2, 3)] == [timedelta(minutes=m) for m in (1, 2, 4)]
    assert wait_after(50) == LONGEST_WAIT


async def test_a_fresh_token_of_the_same_client_and_site_is_tried_at_once(bench: Bench) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    await bench.salvage_ends(1)
    bench.tokens.known["ann", SITE] = "token-2"
    for client_id, site_url in (("ben", SITE), ("ann", "http://elsewhere")):
        await bench.outbox.heal(client_id=client_id, site_url=site_url)
    await bench.outbox.check()
    assert len(bench.backend.salvaged) == 1, "not theirs"
    await bench.outbox.heal(client_id="ann", site_url=SITE)
    await bench.outbox.check()
    assert bench.backend.salvaged[-1] == ("j1", {"AUTH_TOKEN": "token-2", "SITE_URL": SITE})


@pytest.mark.documents("no-token-is-known")
async def test_without_any_token_the_result_waits_and_says_why(
    bench: Bench, documented: Any
) -> None:
    await bench.leave_result(client_id="zoe")
    await bench.after(FIRST_WAIT)
    entry = entry_of(await bench.job())
    assert bench.backend.salvaged == []
    assert entry.publication is Publication.WAITING
    documented("no-token-is-known", entry.detail)


@pytest.mark.documents("its-site-is-not-served-any-more")
async def test_no_token_goes_to_a_site_that_the_admin_does_not_allow_any_more(
    bench: Bench, documented: Any
) -> None:
    bench.outbox = Outbox(
        store=bench.store,
        backend=bench.backend,
        tokens=bench.tokens,
        clock=bench.clock,
        max_age=None,
        slots=2,
        refusal=lambda url: f"is {url!r}, which is not among them" if url == SITE else "",
    )
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    entry = entry_of(await bench.job())
    assert bench.backend.salvaged == []
    assert entry.publication is Publication.WAITING
    assert repr(SITE) in entry.detail
    documented("its-site-is-not-served-any-more", entry.detail)


@pytest.mark.documents("its-channel-or-post-is-gone")
async def test_refusals_for_good_end_it_when_repeated_and_the_files_stay(
    bench: Bench, documented: Any
) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    for attempt in range(1, 4):
        assert await bench.publication() is Publication.RUNNING
        await bench.salvage_ends(3)
        await bench.after(wait_after(attempt))
    assert await bench.publication() is Publication.UNPUBLISHABLE
    documented("its-channel-or-post-is-gone", entry_of(await bench.job()).detail)
    assert (await bench.job()).unpublished
    assert bench.backend.removed == []


@pytest.mark.documents("its-post-may-exist-already")
async def test_a_lost_answer_is_never_answered_with_a_second_post(
    bench: Bench, documented: Any
) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    await bench.salvage_ends(0, left=True)
    await bench.after(timedelta(days=1))
    assert len(bench.backend.salvaged) == 1
    documented("its-post-may-exist-already", entry_of(await bench.job()).detail)


@pytest.mark.documents("not-published-in-time")
async def test_what_is_too_old_is_given_up(bench: Bench, documented: Any) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    await bench.salvage_ends(1)
    await bench.after(timedelta(days=15))
    await bench.salvage_ends(1)
    entry = entry_of(await bench.job())
    assert entry.publication is Publication.UNPUBLISHABLE
    assert "within 14 days;" in entry.detail
    documented("not-published-in-time", entry.detail)
    await bench.after(timedelta(days=1))
    assert len(bench.backend.salvaged) == 2


async def test_only_so_many_are_tried_at_a_time() -> None:
    bench = Bench(slots=2)
    for number in range(5):
        await bench.leave_result(f"j{number}")
    await bench.after(FIRST_WAIT)
    assert len(bench.backend.salvaged) == 2
    await bench.outbox.check()
    assert len(bench.backend.salvaged) == 2


async def test_an_attempt_that_cannot_be_started_counts_and_is_repeated(bench: Bench) -> None:
    await bench.leave_result()
    bench.backend.refuse = "no such image"
    await bench.after(FIRST_WAIT)
    entry = entry_of(await bench.job())
    assert (entry.attempts, entry.detail) == (1, "no such image")
    bench.backend.refuse = ""
    await bench.after(wait_after(1))
    assert await bench.publication() is Publication.RUNNING


async def test_an_attempt_of_an_earlier_process_is_followed_to_its_end(bench: Bench) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    bench.outbox = Outbox(
        store=bench.store,
        backend=bench.backend,
        tokens=bench.tokens,
        clock=bench.clock,
        max_age=None,
        slots=1,
    )
    await bench.outbox.check()
    assert len(bench.backend.salvaged) == 1
    await bench.salvage_ends(0, left=False)
    assert await bench.publication() is Publication.PUBLISHED


@pytest.mark.documents("an-attempt-that-is-lost")
async def test_a_lost_attempt_is_repeated(bench: Bench, documented: Any) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)
    bench.backend.observations["j1/salvage-1"] = Observation(Phase.LOST)
    await bench.outbox.check()
    documented("an-attempt-that-is-lost", entry_of(await bench.job()).detail)
    assert await bench.publication() is Publication.WAITING


async def test_republishing_by_hand_works_after_giving_up_but_not_for_nothing(
    bench: Bench,
) -> None:
    await bench.leave_result()
    await bench.after(timedelta(days=20))
    await bench.salvage_ends(1)
    assert await bench.publication() is Publication.UNPUBLISHABLE
    await bench.outbox.republish(await bench.job())
    await bench.outbox.check()
    assert await bench.publication() is Publication.RUNNING
    await bench.salvage_ends(0, left=False)
    with pytest.raises(NothingToPublish, match="j1"):
        await bench.outbox.republish(await bench.job())


async def test_the_oldest_age_counts_what_is_still_tried(bench: Bench) -> None:
    assert await bench.outbox.oldest_age() == timedelta(0)
    await bench.leave_result()
    bench.clock.advance(seconds=100)
    assert await bench.outbox.oldest_age() == timedelta(seconds=100)


async def test_an_attempt_that_cannot_be_looked_at_is_complained_about_once_a_minute(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.leave_result()
    await bench.after(FIRST_WAIT)

    async def poll(_: object) -> Observation:
        raise BackendError("the engine is down")

    monkeypatch.setattr(bench.backend, "poll", poll)
    with structlog.testing.capture_logs() as lines:
        for _ in range(61):
            await bench.outbox.check()
            bench.clock.advance(seconds=1)
    assert len(lines) == 2


@pytest.mark.documents("a-defect-of-the-outbox")
async def test_what_goes_wrong_with_one_job_keeps_no_other_from_its_attempt(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(slots=1)
    await bench.leave_result("j1")
    await bench.leave_result("j2")
    salvage = bench.backend.salvage

    async def odd(workload: Workload, **told: Any) -> Workload:
        if workload.reference["id"] == "j1":
            raise KeyError("job_id")
        return await salvage(workload, **told)

    monkeypatch.setattr(bench.backend, "salvage", odd)
    with structlog.testing.capture_logs() as lines:
        await bench.after(FIRST_WAIT)
        await bench.outbox.check()
    assert [job_id for job_id, _ in bench.backend.salvaged] == ["j2"]
    assert [line["job_id"] for line in lines if line["log_level"] == "error"] == ["j1"]
    entry = entry_of(await bench.job("j1"))
    assert (entry.publication, entry.attempts) == (Publication.WAITING, 1)
    documented("a-defect-of-the-outbox", entry.detail)


async def test_an_attempt_that_can_never_be_looked_at_takes_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(slots=1)
    await bench.leave_result("j1")
    await bench.after(FIRST_WAIT)
    poll = bench.backend.poll

    async def odd(workload: Workload) -> Observation:
        if str(workload.reference["id"]).startswith("j1"):
            raise ValueError("no number")
        return await poll(workload)

    monkeypatch.setattr(bench.backend, "poll", odd)
    with structlog.testing.capture_logs() as lines:
        await bench.leave_result("j2")
        for _ in range(60):
            bench.clock.advance(seconds=1)
            await bench.outbox.check()
    assert [job_id for job_id, _ in bench.backend.salvaged] == ["j1", "j2"]
    assert await bench.publication("j1") is Publication.RUNNING, "which may have posted"
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "outbox.job_failed"
    ] * 2


async def test_a_job_that_is_deleted_meanwhile_ends_neither_a_round_nor_a_healing(
    bench: Bench,
) -> None:
    await bench.leave_result("j1")
    await bench.leave_result("j2")
    listed = await bench.store.unpublished()
    bench.clock.advance(seconds=FIRST_WAIT.total_seconds())
    await bench.store.delete("j1")
    with structlog.testing.capture_logs() as lines:
        await bench.outbox.check(listed)
    assert await bench.publication("j2") is Publication.RUNNING
    assert "error" not in {line["log_level"] for line in lines}


async def test_a_fresh_token_heals_also_what_comes_after_a_deleted_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.leave_result("j1")
    await bench.leave_result("j2")
    listed = await bench.store.unpublished()
    await bench.store.delete("j1")

    async def earlier() -> Any:
        return listed

    monkeypatch.setattr(bench.store, "unpublished", earlier)
    await bench.outbox.heal(client_id="ann", site_url=SITE)
    assert entry_of(await bench.job("j2")).next_at == bench.clock.utc_now()


async def test_a_database_that_is_away_ends_the_round_and_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.leave_result()

    async def away(*_: object) -> Job:
        raise StoreError("the database is away")

    monkeypatch.setattr(bench.store, "change", away)
    with pytest.raises(StoreError):
        await bench.after(FIRST_WAIT)


@pytest.mark.documents("a-job-of-a-former-backend")
async def test_what_a_former_backend_keeps_is_named_not_tried_and_never_given_up(
    bench: Bench, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.leave_result("j1")
    former = Workload("process", {"directory": "/nowhere/j1"})
    await bench.store.change("j1", lambda job: replace(job, workload=former))
    poll = bench.backend.poll
    error = FormerBackend("process", "docker")

    async def seen(workload: Workload) -> Observation:
        if workload == former:
            return Observation(Phase.LOST, detail=str(error), unpublished=True, former=True)
        return await poll(workload)

    monkeypatch.setattr(bench.backend, "poll", seen)
    with structlog.testing.capture_logs() as lines:
        await bench.after(FIRST_WAIT)
        for _ in range(30):
            await bench.after(timedelta(days=1))
    entry = entry_of(await bench.job("j1"))
    assert (entry.publication, entry.attempts) == (Publication.WAITING, 0)
    assert (await bench.job("j1")).unpublished
    documented("a-job-of-a-former-backend", entry.detail)
    assert [line["event"] for line in lines] == ["outbox.out_of_reach"]


async def test_an_attempt_of_a_former_backend_waits_for_that_and_takes_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(slots=1)
    await bench.leave_result("j1")
    await bench.after(FIRST_WAIT)
    poll, out_of_reach = bench.backend.poll, True

    async def seen(workload: Workload) -> Observation:
        if out_of_reach and str(workload.reference["id"]).startswith("j1"):
            return Observation(Phase.LOST, detail="out of reach", unpublished=True, former=True)
        return await poll(workload)

    monkeypatch.setattr(bench.backend, "poll", seen)
    await bench.leave_result("j2")
    for _ in range(30):
        await bench.after(timedelta(days=1))
    entry = entry_of(await bench.job("j1"))
    assert (entry.publication, entry.detail) == (Publication.RUNNING, "out of reach")
    assert [job_id for job_id, _ in bench.backend.salvaged] == ["j1", "j2"]
    # It is configured again, and tells that the files stayed though the attempt ended well.
    out_of_reach = False
    bench.backend.exit("j1/salvage-1", 0)
    await bench.outbox.check()
    assert await bench.publication("j1") is Publication.UNPUBLISHABLE, "never posted twice"
