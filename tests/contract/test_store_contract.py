"""What every job store promises (offloader/store/base.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clientauth.sessions import MemorySessionStore, SessionStore, StoredSession
from clientauth.store import (
    ClientExists,
    ClientStore,
    ClientUnknown,
    MemoryClientStore,
    StoredClient,
)
from foundation.clock import ManualClock
from offloader.errors import CapacityReached, InvalidCursor, JobNotFound
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    OutboxEntry,
    Publication,
    Retranscription,
    RetranscriptionState,
    StopReason,
    Workload,
)
from offloader.store.base import (
    ANSWERS_KEPT,
    HOST_LOST_AFTER_S,
    AnswerStore,
    JobStore,
    Lease,
    SecretStore,
)
from offloader.store.memory import MemoryAnswerStore, MemoryJobStore, MemorySecretStore
from offloader.store.stores import open_stores

NOON = datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC)


def job(number: int, **changes: object) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {"call_id": "c", "n": [1, None, "ü"]})
    plain = Job(f"{number:012x}", "client", spec, NOON + timedelta(seconds=number))
    return replace(plain, **changes)


def always(_live: object, _job: object) -> bool:
    return True


@dataclass
class Stores:
    """One kind of store."""

    jobs: JobStore
    clients: ClientStore
    sessions: SessionStore
    secrets: SecretStore
    answers: AnswerStore
    clock: ManualClock


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    clock = ManualClock(utc=NOON)
    if request.param == "memory":
        yield Stores(
            MemoryJobStore(clock=clock),
            MemoryClientStore(),
            MemorySessionStore(clock=clock),
            MemorySecretStore(clock=clock),
            MemoryAnswerStore(clock=clock),
            clock,
        )
        return
    source = str(tmp_path / "store.db")
    if request.param == "postgres":
        source = request.getfixturevalue("postgres").new_database()
    async with open_stores(source, environ={}, state_dir=tmp_path, clock=clock) as opened:
        yield Stores(
            opened.jobs, opened.clients, opened.sessions, opened.secrets, opened.answers, clock
        )


@pytest.fixture
def store(stores: Stores) -> JobStore:
    return stores.jobs


@pytest.fixture
def clients(stores: Stores) -> ClientStore:
    return stores.clients


@pytest.fixture
def sessions(stores: Stores) -> SessionStore:
    return stores.sessions


async def test_a_job_comes_back_as_it_was_stored(store: JobStore) -> None:
    full = job(
        1,
        state=JobState.FINISHED,
        stop_reason=StopReason.CRASHED,
        stopped_at=NOON,
        exit_code=3,
        detail="why",
        workload=Workload("process", {"directory": "/x", "shim_pid": 7}),
        figures={"cpu_s": 1.5},
        output_data={"file": "y"},
        unpublished=True,
        host="here",
        registration="r" * 64,
        wish_hash="w" * 64,
        hold="case 7",
        published_at=NOON,
        erased_at=NOON,
        deletion_at=NOON,
        left_bytes=1 << 40,
    )
    for wanted in (full, job(2)):
        await store.reserve(wanted, admits=always)
        assert await store.get(wanted.id) == wanted


async def test_an_unknown_job_is_none_and_cannot_be_changed(store: JobStore) -> None:
    assert await store.get("nothing") is None
    with pytest.raises(JobNotFound):
        await store.change("nothing", lambda job: job)
    await store.delete("nothing")


async def test_what_is_refused_is_not_stored(store: JobStore) -> None:
    with pytest.raises(CapacityReached):
        await store.reserve(job(1), admits=lambda _live, _job: False)
    assert await store.get(job(1).id) is None


async def test_admission_sees_the_live_jobs_and_the_candidate(store: JobStore) -> None:
    await store.reserve(job(2), admits=always)
    await store.reserve(job(1), admits=always)
    await store.reserve(job(3, state=JobState.FINISHED), admits=always)
    seen: list[object] = []
    await store.reserve(
        job(4), admits=lambda live, new: bool(seen.extend([list(live), new])) or True
    )
    assert seen == [[job(1), job(2)], job(4)]


async def test_nobody_is_admitted_between_the_look_and_the_reservation(store: JobStore) -> None:
    async def attempt(number: int) -> bool:
        try:
            await store.reserve(job(number), admits=lambda live, _job: len(live) < 10)
        except CapacityReached:
            return False
        return True

    admitted = await asyncio.gather(*(attempt(number) for number in range(100)))
    assert sum(admitted) == 10
    assert len(await store.live()) == 10


async def test_concurrent_changes_do_not_overwrite_each_other(store: JobStore) -> None:
    await store.reserve(job(1), admits=always)

    def one_more(before: Job) -> Job:
        return replace(before, exit_code=(before.exit_code or 0) + 1)

    await asyncio.gather(*(store.change(job(1).id, one_more) for _ in range(20)))
    changed = await store.get(job(1).id)
    assert changed is not None
    assert changed.exit_code == 20


async def test_a_change_that_raises_leaves_the_job_as_it_was(store: JobStore) -> None:
    await store.reserve(job(1), admits=always)

    def refuse(_job: Job) -> Job:
        raise LookupError

    with pytest.raises(LookupError):
        await store.change(job(1).id, refuse)
    assert await store.get(job(1).id) == job(1)
    assert await store.change(job(1).id, lambda job: replace(job, detail="new")) == job(
        1, detail="new"
    )


async def test_finished_jobs_are_found_by_the_time_of_their_end(store: JobStore) -> None:
    for number, minutes in ((1, 9), (2, 3), (3, 30)):
        ended = NOON + timedelta(minutes=minutes)
        await store.reserve(job(number, state=JobState.FINISHED, stopped_at=ended), admits=always)
    await store.reserve(job(4), admits=always)
    found = await store.finished_before(NOON + timedelta(minutes=10))
    assert [job.id for job in found] == [job(2).id, job(1).id]


async def test_results_that_wait_for_publication_are_found_with_their_retries(
    store: JobStore,
) -> None:
    entry = OutboxEntry(
        Publication.RUNNING, 3, NOON, Workload("process", {"directory": "/x"}), "refused"
    )
    ended = {"state": JobState.FINISHED, "unpublished": True, "post_call": True}
    late = job(1, **ended, stopped_at=NOON + timedelta(hours=2), outbox=entry)
    early = job(2, **ended, stopped_at=NOON + timedelta(hours=1))
    clean = job(3, state=JobState.FINISHED, stopped_at=NOON)
    for each in (late, early, clean, job(4, unpublished=True)):
        await store.reserve(each, admits=always)
    assert list(await store.unpublished()) == [early, late]


async def test_wishes_to_transcribe_again_are_found_until_they_are_fulfilled(
    store: JobStore,
) -> None:
    wish = Retranscription(
        "again-1",
        {"MODEL": "small", "VOCABULARY": "ü"},
        publish=True,
        requested_at=NOON,
        state=RetranscriptionState.RUNNING,
        workload=Workload("process", {"directory": "/x"}),
        detail="d",
    )
    ended = {"state": JobState.FINISHED, "stopped_at": NOON}
    running = job(1, **ended, retranscription=wish)
    done = replace(wish, state=RetranscriptionState.DONE, ended_at=NOON, exit_code=0)
    for each in (running, job(2, **ended, retranscription=done), job(3, **ended), job(4)):
        await store.reserve(each, admits=always)
    assert list(await store.retranscribing()) == [running]
    assert (await store.get(job(2).id)) == job(2, **ended, retranscription=done)
    lease = Lease("one", ttl_s=12)
    claimed = await store.claim(lease)
    assert [each.id for each in claimed.retranscribing] == [running.id]
    assert list(claimed.unpublished) == []
    assert list((await store.claim(Lease("two", ttl_s=12))).retranscribing) == []
    await store.change(running.id, lambda present: replace(present, retranscription=done))
    assert list((await store.claim(lease)).retranscribing) == []


async def test_a_deleted_job_is_gone(store: JobStore) -> None:
    await store.reserve(job(1), admits=always)
    await store.delete(job(1).id)
    assert await store.get(job(1).id) is None
    assert list(await store.live()) == []


async def test_clients_are_kept_once(clients: ClientStore) -> None:
    assert await clients.get("a") is None
    await clients.put("a", "hash")
    with pytest.raises(ClientExists):
        await clients.put("a", "other")
    assert await clients.get("a") == "hash"
    await clients.delete("a")
    await clients.delete("a")
    assert await clients.get("a") is None


async def test_of_several_clients_of_one_name_exactly_one_wins(clients: ClientStore) -> None:
    async def attempt(number: int) -> bool:
        try:
            await clients.put("a", f"hash {number}")
        except ClientExists:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(number) for number in range(10)))) == 1


async def test_a_client_can_get_another_key_and_clients_are_listed(clients: ClientStore) -> None:
    with pytest.raises(ClientUnknown):
        await clients.replace("a", "hash")
    for client_id in ("b", "a"):
        await clients.put(client_id, "hash")
    await clients.replace("a", "other")
    assert (await clients.get("a"), await clients.get("b")) == ("other", "hash")
    assert list(await clients.ids()) == ["a", "b"]
    assert await clients.count() == 2


async def test_a_registration_keeps_its_mark_until_it_gets_another(clients: ClientStore) -> None:
    assert await clients.find("a") is None
    await clients.put("a", "hash", registration="one")
    first = await clients.find("a")
    assert first == StoredClient("hash", "one")
    await clients.settle("a", first, registration="two")
    await clients.settle("a", first, registration="three")  # it is not there any more
    assert await clients.find("a") == StoredClient("hash", "two")
    await clients.replace("a", "other", registration="four")
    assert await clients.find("a") == StoredClient("other", "four")


async def test_a_client_has_one_session_which_ends(stores: Stores, sessions: SessionStore) -> None:
    await sessions.put("a", "first", lifetime_s=600)
    await sessions.put("a", "second", lifetime_s=600)
    await sessions.put("b", "third", lifetime_s=900)
    assert await sessions.get("first") is None
    assert await sessions.get("second") == StoredSession("a", expired=False)
    stores.clock.advance(seconds=600)
    assert await sessions.get("second") == StoredSession("a", expired=True)
    assert await sessions.get("third") == StoredSession("b", expired=False)
    await sessions.delete("second")
    await sessions.delete_of("b")
    await sessions.delete("second")
    await sessions.delete_of("b")
    assert await sessions.get("second") is None
    assert await sessions.get("third") is None


async def test_of_several_logins_at_once_one_token_lives(sessions: SessionStore) -> None:
    await asyncio.gather(*(sessions.put("a", f"t{n}", lifetime_s=60) for n in range(10)))
    found = [await sessions.get(f"t{number}") for number in range(10)]
    assert sum(session is not None for session in found) == 1


# Listings


async def test_a_listing_has_the_newest_first_and_goes_on_where_it_ended(store: JobStore) -> None:
    for number in (3, 1, 2, 5, 4):
        await store.reserve(job(number), admits=always)
    first = await store.list_jobs(limit=2)
    assert list(first.jobs) == [job(5), job(4)]
    await store.reserve(job(6), admits=always)
    await store.delete(job(4).id)
    second = await store.list_jobs(limit=2, before=first.next)
    assert list(second.jobs) == [job(3), job(2)]
    third = await store.list_jobs(limit=2, before=second.next)
    assert (list(third.jobs), third.next) == ([job(1)], None)


async def test_jobs_of_one_moment_are_all_listed(store: JobStore) -> None:
    jobs = [job(number, created_at=NOON) for number in range(1, 6)]
    for each in jobs:
        await store.reserve(each, admits=always)
    seen: list[Job] = []
    cursor: str | None = None
    while not seen or cursor:
        page = await store.list_jobs(limit=2, before=cursor)
        seen += page.jobs
        cursor = page.next
    assert seen == jobs[::-1]


async def test_a_page_that_ends_with_the_last_job_has_no_next(store: JobStore) -> None:
    for number in (1, 2):
        await store.reserve(job(number), admits=always)
    assert (await store.list_jobs(limit=2)).next is None
    assert list((await store.list_jobs(limit=0 + 1)).jobs) == [job(2)]


async def test_a_listing_can_be_narrowed(store: JobStore) -> None:
    other = JobSpec(JobType.TRANSCRIBING, "runner", 60, {})
    transcribing = job(2, spec=other)
    ended = job(3, client_id="b", state=JobState.FINISHED, stopped_at=NOON)
    for each in (job(1), transcribing, ended):
        await store.reserve(each, admits=always)

    async def listed(**filters: object) -> list[Job]:
        return list((await store.list_jobs(**filters)).jobs)

    assert await listed(client_id="client") == [transcribing, job(1)]
    assert await listed(client_id="nobody") == []
    assert await listed(job_type=JobType.TRANSCRIBING) == [transcribing]
    assert await listed(state=JobState.FINISHED) == [ended]
    assert await listed(since=NOON + timedelta(seconds=2)) == [ended, transcribing]


@pytest.mark.parametrize("cursor", ["", "nonsense", "!", "LjE=", "MQ==", "MS4=", "é", "eC54"])
async def test_a_cursor_from_elsewhere_is_refused(store: JobStore, cursor: str) -> None:
    with pytest.raises(InvalidCursor, match="should be `next`"):
        await store.list_jobs(before=cursor)


# Leases

ONE = Lease("one", ttl_s=12)
TWO = Lease("two", ttl_s=12)


async def test_a_reserved_job_is_watched_by_its_owner_alone(store: JobStore) -> None:
    await store.reserve(job(1), admits=always, lease=ONE)
    theirs = await store.claim(TWO)
    assert (list(theirs.live), theirs.taken) == ([], frozenset())
    own = await store.claim(ONE)
    assert (list(own.live), own.taken) == ([job(1)], frozenset())


async def test_a_lease_that_is_renewed_does_not_end(stores: Stores, store: JobStore) -> None:
    await store.reserve(job(1), admits=always, lease=ONE)
    for _ in range(10):
        stores.clock.advance(seconds=5)
        assert list((await store.claim(ONE)).live) == [job(1)]
        assert list((await store.claim(TWO)).live) == []


async def test_a_survivor_takes_over_when_the_lease_has_ended(
    stores: Stores, store: JobStore
) -> None:
    for number in (1, 2):
        await store.reserve(job(number), admits=always, lease=ONE)
    stores.clock.advance(seconds=11.9)
    assert list((await store.claim(TWO)).live) == []
    stores.clock.advance(seconds=0.1)
    taken = await store.claim(TWO)
    assert list(taken.live) == [job(1), job(2)]
    assert taken.taken == {job(1).id, job(2).id}
    assert (await store.claim(TWO)).taken == frozenset()
    assert list((await store.claim(ONE)).live) == [], "it finds that it has lost them"


async def test_an_owner_that_was_only_slow_keeps_what_nobody_took(
    stores: Stores, store: JobStore
) -> None:
    await store.reserve(job(1), admits=always, lease=ONE)
    stores.clock.advance(seconds=100)
    own = await store.claim(ONE)
    assert (list(own.live), own.taken) == ([job(1)], frozenset())
    assert list((await store.claim(TWO)).live) == []


async def test_what_is_released_is_free_at_once(store: JobStore) -> None:
    await store.reserve(job(1), admits=always, lease=ONE)
    await store.release("two")
    assert list((await store.claim(TWO)).live) == []
    await store.release("one")
    await store.release("one")
    assert list((await store.claim(TWO)).live) == [job(1)]


async def test_whoever_is_about_to_end_takes_nothing(store: JobStore) -> None:
    await store.reserve(job(1), admits=always, lease=ONE)
    await store.reserve(job(2), admits=always)
    assert list((await store.claim(ONE, take=False)).live) == [job(1)]
    assert (await store.claim(TWO)).taken == {job(2).id}


async def test_of_several_replicas_exactly_one_gets_each_job(
    stores: Stores, store: JobStore
) -> None:
    for number in range(1, 9):
        await store.reserve(job(number), admits=always, lease=ONE)
    stores.clock.advance(seconds=20)
    claims = await asyncio.gather(*(store.claim(Lease(f"r{n}", ttl_s=12)) for n in range(5)))
    got = [each.id for claim in claims for each in claim.live]
    assert sorted(got) == [job(number).id for number in range(1, 9)]


async def test_a_clock_that_was_set_back_keeps_no_job_from_its_survivors(store: JobStore) -> None:
    hour_ahead = replace(ONE, ttl_s=3600 + 12)
    await store.reserve(job(1), admits=always, lease=hour_ahead)
    assert list((await store.claim(TWO)).live) == [job(1)]


async def test_unpublished_results_are_watched_like_live_jobs(
    stores: Stores, store: JobStore
) -> None:
    await store.reserve(job(1), admits=always, lease=ONE)
    ended = {"state": JobState.FINISHED, "stopped_at": NOON}
    await store.change(job(1).id, lambda job: replace(job, **ended, unpublished=True))
    await store.reserve(job(2, **ended), admits=always, lease=ONE)
    own = await store.claim(ONE)
    assert ([each.id for each in own.unpublished], list(own.live)) == ([job(1).id], [])
    assert list((await store.claim(TWO)).unpublished) == []
    stores.clock.advance(seconds=12)
    assert [each.id for each in (await store.claim(TWO)).unpublished] == [job(1).id]


async def test_a_change_leaves_the_lease_as_it_is(stores: Stores, store: JobStore) -> None:
    await store.reserve(job(1), admits=always, lease=replace(ONE, host="here"))
    changed = await store.change(job(1).id, lambda job: replace(job, detail="new"))
    assert changed.host == "here"
    assert list((await store.claim(TWO)).live) == []
    assert list((await store.claim(replace(ONE, host="here"))).live) == [changed]


async def test_a_job_of_another_host_waits_for_it_and_is_then_anybodys_to_give_up(
    stores: Stores, store: JobStore
) -> None:
    await store.reserve(job(1), admits=always, lease=Lease("one", ttl_s=12, host="here"))
    stores.clock.advance(seconds=12 + HOST_LOST_AFTER_S - 0.1)
    there = Lease("two", ttl_s=12, host="there")
    assert list((await store.claim(there)).live) == []
    stores.clock.advance(seconds=0.1)
    taken = await store.claim(there)
    assert [(each.id, each.host) for each in taken.live] == [(job(1).id, "here")]


async def test_a_restarted_service_of_the_host_is_first(stores: Stores, store: JobStore) -> None:
    await store.reserve(job(1), admits=always, lease=Lease("one", ttl_s=12, host="here"))
    await store.release("one")
    there, again = Lease("two", host="there"), Lease("three", host="here")
    assert list((await store.claim(there)).live) == []
    assert [each.id for each in (await store.claim(again)).live] == [job(1).id]


async def test_job_directories_of_its_host_are_watched_over_by_a_service_whose_jobs_live_elsewhere(
    stores: Stores, store: JobStore
) -> None:
    left = job(1, state=JobState.FINISHED, stopped_at=NOON, unpublished=True)
    await store.reserve(left, admits=always, lease=Lease("one", host="here"))
    await store.reserve(job(2), admits=always, lease=Lease("one", host="here"))
    await store.release("one")
    for lease in (Lease("two", host="engine"), Lease("three", host="engine", directories="there")):
        claim = await store.claim(lease)
        assert [*claim.live, *claim.unpublished] == []
    claim = await store.claim(Lease("four", host="engine", directories="here"))
    assert [each.id for each in (*claim.unpublished, *claim.live)] == [job(1).id, job(2).id]


async def test_files_of_a_lost_host_are_left_to_it(stores: Stores, store: JobStore) -> None:
    left = job(1, state=JobState.FINISHED, stopped_at=NOON, unpublished=True)
    await store.reserve(left, admits=always, lease=Lease("one", ttl_s=12, host="here"))
    stores.clock.advance(seconds=86400)
    assert list((await store.claim(Lease("two", host="there"))).unpublished) == []
    back = await store.claim(Lease("three", host="here"))
    assert [each.id for each in back.unpublished] == [left.id]


async def test_a_wish_for_a_lost_hosts_audio_is_anybodys_to_give_up_but_not_before_it_had_its_time(
    stores: Stores, store: JobStore
) -> None:
    left = job(1, state=JobState.FINISHED, stopped_at=NOON, unpublished=True)
    await store.reserve(left, admits=always, lease=Lease("one", ttl_s=12, host="here"))
    stores.clock.advance(seconds=86400)
    asked = stores.clock.utc_now()
    wish = Retranscription("again-1", {}, publish=False, requested_at=asked)
    await store.change(left.id, lambda present: replace(present, retranscription=wish))
    there = Lease("two", ttl_s=12, host="there")
    stores.clock.advance(seconds=HOST_LOST_AFTER_S - 0.1)
    assert list((await store.claim(there)).retranscribing) == []
    stores.clock.advance(seconds=0.1)
    taken = await store.claim(there)
    assert [(each.id, each.host) for each in taken.retranscribing] == [(left.id, "here")]
    assert list(taken.unpublished) == [], "its files are on its host"


# Tokens and answers


async def test_who_has_a_token_is_told_page_by_page_and_never_the_token(
    stores: Stores,
) -> None:
    secrets = stores.secrets
    await secrets.put_secret("j1", "ann", "http://one", "t1", registration="mark")
    await secrets.put_secret("j2", "bob", "http://two", "t2")
    holders = await secrets.holders()
    assert [(holder.job_id, holder.place) for holder in holders] == [
        ("j1", ("ann", "mark", "http://one")),
        ("j2", ("bob", "", "http://two")),
    ]
    assert [holder.job_id for holder in await secrets.holders(limit=1)] == ["j1"]
    assert [holder.job_id for holder in await secrets.holders(after="j1")] == ["j2"]
    assert not await secrets.holders(after="j2")
    await secrets.forget_secret("j1")
    assert [holder.job_id for holder in await secrets.holders()] == ["j2"]


async def test_a_token_that_takes_anothers_place_is_as_young_as_it_is_and_not_forgotten_for_it(
    stores: Stores,
) -> None:
    secrets = stores.secrets
    await secrets.put_secret("j1", "ann", "http://one", "old")
    stores.clock.advance(seconds=60)
    (old,) = await secrets.holders(least_age_s=60)
    await secrets.put_secret("j1", "ann", "http://one", "new")
    assert not await secrets.holders(least_age_s=60)
    await secrets.forget_secret("j1", held=old)
    assert await secrets.secret("j1") == "new"
    (new,) = await secrets.holders()
    await secrets.forget_secret("j1", held=replace(new, place=("ann", "mark", "http://one")))
    assert await secrets.secret("j1") == "new", (
        "it was another registration's when it was looked at"
    )
    await secrets.forget_secret("j1", held=new)
    assert await secrets.secret("j1") is None


async def test_the_newest_token_of_a_client_and_site_is_found(stores: Stores) -> None:
    secrets = stores.secrets
    await secrets.put_secret("j1", "a", "https://x", "old")
    await stores.jobs.reserve(job(2), admits=always)
    await secrets.put_secret(job(2).id, "a", "https://x", "new")
    await secrets.put_secret("j3", "a", "https://y", "elsewhere")
    await secrets.put_secret("j4", "b", "https://x", "another's")
    assert await secrets.newest_secret("a", "https://x") == "new"
    assert await secrets.secret(job(2).id) == "new"
    assert await secrets.newest_secret("b", "https://y") is None
    await secrets.put_secret(job(2).id, "a", "https://x", "newer")
    assert await secrets.secret(job(2).id) == "newer"
    await secrets.forget_secret("j3")
    await secrets.forget_secret("j3")
    assert await secrets.secret("j3") is None
    assert await secrets.newest_secret("a", "https://y") is None
    await secrets.put_secret("j5", "a", "https://x", "a stranger's", registration="other")
    assert await secrets.newest_secret("a", "https://x", registration="other") == "a stranger's"
    assert await secrets.newest_secret("a", "https://x") == "newer"


async def test_keys_of_a_speech_service_are_kept_as_long_as_their_job(stores: Stores) -> None:
    secrets = stores.secrets
    await stores.jobs.reserve(job(1), admits=always)
    assert await secrets.variables(job(1).id) == {}
    await secrets.put_variables(job(1).id, {"A": "old"})
    await secrets.put_variables(job(1).id, {"B": "k3y ü"})
    assert await secrets.variables(job(1).id) == {"B": "k3y ü"}
    assert await secrets.variables(job(2).id) == {}
    assert await secrets.secret(job(1).id) is None, "it is no token"


async def test_a_key_is_bound_to_its_first_job_for_a_day(stores: Stores) -> None:
    answers = stores.answers
    assert await answers.answer_of("a", "key") is None
    assert await answers.remember_answer("a", "key", "j1") == "j1"
    assert await answers.remember_answer("a", "key", "j2") == "j1"
    assert await answers.remember_answer("b", "key", "j3") == "j3"
    assert await answers.answer_of("a", "key") == "j1"
    stores.clock.advance(seconds=ANSWERS_KEPT.total_seconds())
    assert await answers.answer_of("a", "key") is None
    assert await answers.remember_answer("a", "key", "j4") == "j4"


async def test_a_key_is_free_again_when_its_job_did_not_come_to_be(stores: Stores) -> None:
    answers = stores.answers
    await answers.remember_answer("a", "key", "j1")
    await answers.forget_answer("a", "key", "j2")
    assert await answers.answer_of("a", "key") == "j1"
    await answers.forget_answer("a", "key", "j1")
    assert await answers.remember_answer("a", "key", "j2") == "j2"


async def test_of_several_requests_with_one_key_exactly_one_is_the_first(stores: Stores) -> None:
    jobs = [f"j{number}" for number in range(10)]
    got = await asyncio.gather(
        *(stores.answers.remember_answer("a", "key", job_id) for job_id in jobs)
    )
    assert len(set(got)) == 1


@pytest.mark.parametrize("text", ["a\0b", "x" * 5000, "ü😀"])
async def test_no_text_from_outside_breaks_a_store(stores: Stores, text: str) -> None:
    assert await stores.jobs.get(text) is None
    with pytest.raises(JobNotFound):
        await stores.jobs.change(text, lambda job: job)
    assert await stores.clients.get(text) is None
    assert await stores.secrets.secret(text) is None
    assert await stores.answers.remember_answer("a", text, "j1") == "j1"
    await stores.jobs.reserve(job(1), admits=always)
    await stores.jobs.change(job(1).id, lambda job: replace(job, detail=text))
