"""Events arrive: at least once, in the order of each job, from one replica at a time, for a day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from offloader.errors import StoreError
from offloader.models import JobState
from offloader.webhooks import delivery as module
from offloader.webhooks.delivery import Delivery, wait_s

A, B = "a" * 12, "b" * 12
STATES = ["pending", "starting", "running", "stopping"]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database's time is the test's; what is slept through in between is short."""
    for name in ("_RENEW_EVERY_S", "_LOOK_EVERY_S", "_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.01)


@asynccontextmanager
async def delivering(site: Any, receivers: Any, *, owner: str = "us") -> AsyncIterator[Delivery]:
    made = Delivery(site.queue, receivers, clock=site.clock, owner=owner)
    site.store.on_change(made.job_changed)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.end()
        async with asyncio.timeout(20):
            await task


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


async def _waits(site: Any, name: str) -> int:
    count, _ = await site.queue.waiting(name)
    return int(count)


async def test_each_state_of_a_job_arrives_once_in_order_at_every_receiver(
    site: Any, receivers: Any
) -> None:
    await site.add(A, states=1)
    async with delivering(site, receivers) as delivery:
        await site.add(B)
        for state in (JobState.RUNNING, JobState.STOPPING):
            await site.store.change(A, lambda job, to=state: job.moved_to(to))
        await site.store.change(A, lambda job: job)
        for receiver in receivers.values():
            await until(lambda receiver=receiver: len(receiver.got) == 5)
            assert [state for job, state in receiver.got if job == A] == STATES
            assert (B, "pending") in receiver.got
            assert len(set(receiver.ids)) == 5
        await until(lambda: delivery.counts.total() == 10)
    assert set(receivers["one"].ids) == set(receivers["two"].ids)
    assert [await _waits(site, name) for name in receivers] == [0, 0]


async def test_a_change_that_is_not_stored_is_not_told_and_one_that_is_no_state_neither(
    site: Any,
) -> None:
    await site.add(A)

    def fails(job: Any) -> Any:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await site.store.change(A, fails)
    await site.store.change(A, lambda job: replace(job, detail="a word"))
    assert await _waits(site, "one") == 1


async def test_a_refused_event_holds_up_its_own_job_and_its_own_receiver_only(
    site: Any, receivers: Any
) -> None:
    broken = True
    one = receivers["one"]
    one.refuses = lambda event: broken and (event["job_id"], event["state"]) == (A, "starting")
    async with delivering(site, receivers) as delivery:
        await site.add(A, states=3)
        await site.add(B, states=3)
        await until(lambda: len(receivers["two"].got) == 8)
        await until(lambda: [state for job, state in one.got if job == B] == STATES)
        await until(lambda: delivery.counts["one", "failed"] > 0)
        assert [state for job, state in one.got if job == A] == ["pending"]
        failed = delivery.counts["one", "failed"]
        assert failed == 1, "not again before its time"
        site.clock.advance(seconds=7)
        await until(lambda: delivery.counts["one", "failed"] == 2)
        broken = False
        site.clock.advance(seconds=13)
        await until(lambda: delivery.counts["one", "delivered"] == 8)
    assert [state for job, state in one.got if job == A] == STATES


async def test_what_a_process_did_not_get_rid_of_the_next_one_delivers_under_the_same_id(
    site: Any, receivers: Any
) -> None:
    await site.add(A)
    one = receivers["one"]
    remove, site.queue.remove = site.queue.remove, Gone().remove  # it cannot note what it did
    async with delivering(site, receivers):
        await until(lambda: len(one.got) > 0)
    site.queue.remove, before = remove, len(one.got)
    async with delivering(site, receivers, owner="next"):
        await asyncio.sleep(0.05)
        assert len(one.got) == before, "the turn of the other one has not ended"
        site.clock.advance(seconds=module.TURN_S + 1)
        await until(lambda: len(one.got) > before)
    assert len(set(one.ids)) == 1


async def test_one_replica_delivers_and_another_goes_on_when_it_ends(
    site: Any, receivers: Any
) -> None:
    others = {name: type(receiver)() for name, receiver in receivers.items()}
    async with delivering(site, receivers, owner="first") as first:
        await until(lambda: first._ours())
        async with delivering(site, others, owner="second"):
            await site.add(A)
            await until(lambda: len(receivers["one"].got) == 1)
            await site.add(B)
            async with asyncio.timeout(20):
                # Its queue knows, too: what it does not know to have arrived, the other one would send again.
                while [len(one.got) for one in receivers.values()] != [2, 2] or any(
                    [await _waits(site, name) for name in receivers]
                ):
                    await asyncio.sleep(0.005)
            assert [other.got for other in others.values()] == [[], []]
            gone = first._queue = Gone()  # its database is away from here
            await until(lambda: "take_turn" in gone.asked)  # none that is under way renews it later
            site.clock.advance(seconds=module.TURN_S + 1)
            await site.store.change(A, lambda job: job.moved_to(JobState.STARTING))
            await until(lambda: others["one"].got == [(A, "starting")])
    assert len(receivers["one"].got) == 2


class Gone:
    """Nothing can be asked of it."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)

        async def refused(*_: Any, **__: Any) -> Any:
            raise StoreError("database x: connection refused")

        return refused


async def test_who_ends_breaks_off_attempts_and_does_not_call_them_failed(
    site: Any, receivers: Any
) -> None:
    begun = asyncio.Event()

    async def hangs(event_id: str, body: str) -> None:
        begun.set()
        await asyncio.sleep(3600)

    hanging = type(receivers["one"])()
    hanging.send = hangs
    await site.add(A)
    async with delivering(site, {"one": hanging}) as delivery:
        async with asyncio.timeout(20):
            await begun.wait()
    assert delivery.counts.total() == 0
    await delivery.end_turn()
    async with delivering(site, receivers, owner="next"):
        await until(lambda: receivers["one"].got == [(A, "pending")])


async def test_an_attempt_that_could_outlast_the_turn_is_not_begun(
    site: Any, receivers: Any
) -> None:
    delivery = Delivery(site.queue, receivers, clock=site.clock, owner="us")
    delivery._turn_ends_ns = site.clock.monotonic_ns() + round(1.9 * module.ATTEMPT_S * 1e9)
    await site.add(A)
    await delivery._some("one")
    assert receivers["one"].attempts == 0
    delivery._turn_ends_ns += round(module.ATTEMPT_S * 1e9)
    await delivery._some("one")
    assert receivers["one"].attempts == 1


async def test_after_a_day_an_event_is_given_up_counted_and_the_next_one_told(
    site: Any, receivers: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    one = receivers["one"]
    one.refuses = lambda event: event["state"] == "pending"
    await site.add(A)
    async with delivering(site, receivers) as delivery:
        await until(lambda: delivery.counts["one", "failed"] == 1)
        site.clock.advance(seconds=23.9 * 3600)
        await until(lambda: delivery.counts["one", "failed"] == 2)
        await site.store.change(A, lambda job: job.moved_to(JobState.STARTING))
        site.clock.advance(seconds=0.2 * 3600)
        await until(lambda: one.got == [(A, "starting")])
        assert delivery.counts["one", "given_up"] == 1
        assert delivery.counts["two", "given_up"] == 0
    told = "".join(capfd.readouterr())
    assert told.count("webhook.not_delivered") == 1, "said once, not with each attempt"
    assert "webhook.events_lost" in told


async def test_of_too_many_the_oldest_are_dropped_and_counted(
    site: Any, receivers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    await site.add(A, states=3)
    await site.add(B, states=3)
    async with delivering(site, {"one": receivers["one"]}) as delivery:
        await until(lambda: delivery.counts["one", "dropped"] == 5)
        await until(lambda: len(receivers["one"].got) == 3)
    assert receivers["one"].got == [(B, state) for state in STATES[1:]]


async def test_what_waits_for_a_receiver_that_is_configured_no_more_goes_after_a_day(
    site: Any, receivers: Any
) -> None:
    await site.add(A)
    async with delivering(site, {"one": receivers["one"]}):
        await until(lambda: len(receivers["one"].got) == 1)
        assert await _waits(site, "two") == 1
        site.clock.advance(seconds=24.1 * 3600)
        async with asyncio.timeout(20):
            while await _waits(site, "two"):
                await asyncio.sleep(0.005)


def test_waits_grow_to_an_hour_and_are_not_all_in_step() -> None:
    assert 4 <= wait_s(0) <= 6
    assert 8 <= wait_s(1) <= 12
    for attempts in (10, 100, 10_000):
        assert 0.8 * 3600 <= wait_s(attempts) <= 1.2 * 3600
    assert len({wait_s(3) for _ in range(9)}) > 1
