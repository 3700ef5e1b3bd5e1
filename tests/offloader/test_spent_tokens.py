"""A token is kept as long as somebody may need it, and not a round longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foundation.clock import ManualClock
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    OutboxEntry,
    Publication,
    Retranscription,
    RetranscriptionState,
)
from offloader.spent_tokens import SETTLES_S, erase_spent_tokens
from offloader.store.memory import MemoryJobStore, MemorySecretStore

SITE = "http://mattermost"
NOON = ManualClock().utc_now()


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryJobStore()
        self.secrets = MemorySecretStore(clock=self.clock)

    async def job(
        self, job_id: str, *, client: str = "ann", keep_audio: Any = None, **state: Any
    ) -> None:
        """One that has ended and published everything, but for `state`; its token is kept."""
        data = {"site_url": SITE, "auth_token": "***", "keep_audio": keep_audio}
        spec = JobSpec(JobType.TRANSCRIBING, "r", 60, data)
        made = Job(job_id, client, spec, NOON, state=JobState.FINISHED, stopped_at=NOON)
        await self.store.reserve(replace(made, **state), admits=lambda *_: True)
        await self.secrets.put_secret(job_id, client, SITE, f"token-{job_id}")

    async def kept(self, *, after_s: float = SETTLES_S) -> set[str]:
        self.clock.advance(seconds=after_s)
        await erase_spent_tokens(store=self.store, secrets=self.secrets)
        return {holder.job_id for holder in await self.secrets.holders()}


@pytest.fixture
def bench() -> Bench:
    return Bench()


WISH = Retranscription("again-1", {}, publish=True, requested_at=NOON)


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ({}, False),
        ({"state": JobState.RUNNING, "stopped_at": None}, True),
        ({"unpublished": True}, True),
        ({"unpublished": True, "outbox": OutboxEntry(Publication.RUNNING)}, True),
        ({"unpublished": True, "outbox": OutboxEntry(Publication.UNPUBLISHABLE)}, False),
        ({"outbox": OutboxEntry(Publication.PUBLISHED)}, False),
        ({"retranscription": WISH}, True),
        ({"retranscription": replace(WISH, state=RetranscriptionState.DONE)}, False),
        ({"keep_audio": "true"}, True),
        ({"keep_audio": False}, False),
    ],
)
async def test_a_token_goes_once_its_jobs_result_is_posted_or_refused_for_good(
    bench: Bench, state: dict[str, Any], kept: bool
) -> None:
    await bench.job("j1", **state)
    assert bool(await bench.kept()) is kept


async def test_what_may_heal_another_result_of_the_same_client_and_site_stays(bench: Bench) -> None:
    await bench.job("waits", unpublished=True)
    await bench.job("newer")
    await bench.job("elsewhere", client="bob")
    assert await bench.kept() == {"waits", "newer"}
    await bench.store.change("waits", lambda job: replace(job, unpublished=False))
    assert await bench.kept() == set()


async def test_a_token_that_outlived_its_job_goes_when_nobody_waits_for_it(bench: Bench) -> None:
    await bench.secrets.put_secret("gone", "ann", SITE, "t")
    assert await bench.kept() == set()


async def test_a_token_that_is_given_by_hand_stays_until_the_wish_to_publish_with_it_is_stored(
    bench: Bench,
) -> None:
    await bench.job("j1", unpublished=True, outbox=OutboxEntry(Publication.UNPUBLISHABLE))
    bench.clock.advance(seconds=SETTLES_S)
    await bench.secrets.put_secret("j1", "ann", SITE, "by hand")
    assert await bench.kept(after_s=1) == {"j1"}
    waits = OutboxEntry(Publication.WAITING)
    await bench.store.change("j1", lambda job: replace(job, outbox=waits))
    assert await bench.kept() == {"j1"}


async def test_however_many_are_needed_on_the_others_are_reached(bench: Bench) -> None:
    """A thousand with kept voices fill the first page that the store gives."""
    for number in range(1001):
        await bench.job(f"a{number:04d}", keep_audio="true")
    await bench.job("z")
    kept = await bench.kept()
    assert "z" not in kept
    assert len(await bench.secrets.holders(limit=2000)) == 1001
