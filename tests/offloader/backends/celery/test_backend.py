"""The celery backend: exactly one worker gets a job, and what is lost is said so, in time and by name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from offloader.backends.base import Observation, Phase, Places
from offloader.backends.celery.board import Claim
from offloader.backends.remote.client import DoorUnreachable
from offloader.errors import BackendError, FilesGone, FilesOutOfReach, LaunchFailed
from offloader.models import JobType, Workload

pytestmark = pytest.mark.looptime

JOB = "a" * 12


def now_s() -> float:
    return asyncio.get_running_loop().time()


def unsettled(workload: Workload) -> Workload:
    """Another job of the same worker, which has not told yet what it calls it."""
    return Workload("celery", {**workload.reference, "local": "", "job_id": "b" * 12})


async def test_the_worker_that_took_a_job_is_in_its_workload(site) -> None:
    at = site("w1", "w2")
    workload = await at.backend.launch(at.request())
    assert workload == Workload(
        "celery",
        {
            "job_id": JOB,
            "worker": "w1",
            "url": "http://w1:4546",
            "local": '{"backend": "process", "reference": {"id": "aaaaaaaaaaaa"}}',
        },
    )
    assert at.hosts[0].backend.launched[JOB].input_data == {"auth_token": "hush"}
    assert (await at.backend.poll(workload)).phase is Phase.RUNNING
    [(_, queue, sealed)] = at.broker.published
    assert queue == "calls.recording"
    assert "hush" not in sealed
    assert at.claim(JOB, at.workers["w2"]) is Claim.TAKEN


async def test_jobs_of_a_type_go_where_the_admin_wants_them(site) -> None:
    at = site("w1", JOBS_CELERY_LABELS='{"transcribing": "gpu"}', JOBS_CELERY_QUEUEPREFIX="s2")
    await at.backend.launch(at.request(job_type=JobType.TRANSCRIBING))
    assert at.broker.published[0][1] == "s2.transcribing.gpu"


@pytest.mark.documents("no-worker-took-the-job")
async def test_a_job_that_no_worker_takes_fails_in_time_and_says_why(
    site, make_card, documented
) -> None:
    at = site("w1")
    at.broker.deliver = None
    at.hosts[0].card = make_card("w1", draining=True)
    with pytest.raises(LaunchFailed, match=r"within 10 s \(calls.recording\)") as refused:
        await at.backend.launch(at.request())
    documented("no-worker-took-the-job", str(refused.value))
    assert now_s() < 12
    assert at.claim(JOB, at.hosts[0]) is Claim.GONE, "nobody may start it later"


async def test_a_claim_while_the_reason_is_looked_for_is_refused(site) -> None:
    at = site("w1", JOBS_CELERY_CLAIMWAITS="1")
    at.broker.deliver = None
    at.broker.answers_after_s = 3
    launching = asyncio.create_task(at.backend.launch(at.request()))
    await asyncio.sleep(2)
    assert not launching.done()
    assert at.claim(JOB, at.hosts[0]) is Claim.GONE
    with pytest.raises(LaunchFailed):
        await launching


async def test_without_a_broker_a_launch_fails_by_its_name(site) -> None:
    at = site("w1")
    at.broker.down = True
    with pytest.raises(LaunchFailed, match="the broker redis://b cannot be used"):
        await at.backend.launch(at.request())
    assert now_s() < 5
    assert at.claim(JOB, at.hosts[0]) is Claim.GONE


@pytest.mark.documents("a-worker-that-cannot-start-it")
async def test_a_worker_that_cannot_start_the_job_says_why(site, documented) -> None:
    at = site("w1")

    async def refuse(job_id: str, _order: Any) -> None:
        at.claim(job_id, at.hosts[0])
        at.backend.board.settle(job_id, "jobs_dir: no space left")

    at.broker.deliver = refuse
    with pytest.raises(LaunchFailed) as refused:
        await at.backend.launch(at.request())
    documented("a-worker-that-cannot-start-it", str(refused.value))


@pytest.mark.documents("a-stop-while-it-is-launched")
async def test_a_launch_that_takes_long_is_told_by_its_worker_later(site, documented) -> None:
    at = site("w1")

    async def slow(job_id: str, order: Any) -> None:
        at.claim(job_id, at.hosts[0])
        await asyncio.sleep(100)
        at.backend.board.settle(job_id, await at.hosts[0].backend.launch(order.request(job_id)))

    at.broker.deliver = slow
    workload = await at.backend.launch(at.request())
    assert now_s() < 20
    assert workload.reference["local"] == ""
    assert (await at.backend.poll(workload)).phase is Phase.STARTING
    with pytest.raises(BackendError) as refused:
        await at.backend.stop(workload, grace_s=5)
    documented("a-stop-while-it-is-launched", str(refused.value))
    await asyncio.sleep(100)
    assert (await at.backend.poll(workload)).phase is Phase.RUNNING
    other = at.replica()
    assert (await other.poll(workload)).phase is Phase.RUNNING, "by asking the worker"
    await other.aclose()


async def test_a_slow_launch_that_fails_never_ran(site) -> None:
    at = site("w1")

    async def slow(job_id: str, _order: Any) -> None:
        at.claim(job_id, at.hosts[0])
        await asyncio.sleep(100)
        at.backend.board.settle(job_id, "the image cannot be had")

    at.broker.deliver = slow
    workload = await at.backend.launch(at.request())
    await asyncio.sleep(100)
    assert await at.backend.poll(workload) == Observation(
        Phase.EXITED, detail="the image cannot be had"
    )


@pytest.mark.documents("a-worker-that-knows-nothing-of-it")
async def test_a_job_that_its_worker_never_knows_is_lost_in_the_end(site, documented) -> None:
    at = site("w1")

    async def forget(job_id: str, _order: Any) -> None:
        at.claim(job_id, at.hosts[0])

    at.broker.deliver = forget
    workload = await at.backend.launch(at.request())
    began_s = now_s()
    while (seen := await at.backend.poll(workload)).phase is Phase.STARTING:
        await asyncio.sleep(1)
    assert seen == Observation(Phase.LOST, detail=seen.detail)
    documented("a-worker-that-knows-nothing-of-it", seen.detail)
    assert now_s() - began_s < 200


@pytest.mark.documents("its-worker-has-not-been-heard-of")
async def test_a_dead_worker_is_noticed_within_fifteen_seconds_and_named(site, documented) -> None:
    at = site("w1", "w2")
    workload = await at.backend.launch(at.request())
    assert (await at.backend.poll(workload)).phase is Phase.RUNNING
    at.hosts[0].dead = True
    died_s = now_s()
    while (seen := await at.backend.poll(workload)).phase is Phase.RUNNING:
        await asyncio.sleep(1)
    assert now_s() - died_s <= 15
    assert seen.phase is Phase.LOST
    assert seen.unpublished
    assert seen.detail.startswith("its worker w1 has not been heard of since 2026-01-31 ")
    documented("its-worker-has-not-been-heard-of", seen.detail)
    with pytest.raises(FilesGone):
        await at.backend.salvage(workload, job_type=JobType.RECORDING, variables={})
    with pytest.raises(FilesOutOfReach):  # nothing else of it is left
        await at.backend.remove(workload)


async def test_a_broker_that_is_away_for_a_minute_loses_nothing(site) -> None:
    at = site("w1")
    workload = await at.backend.launch(at.request())
    at.broker.down = True
    for _ in range(60):
        assert (await at.backend.poll(workload)).phase is Phase.RUNNING
        await asyncio.sleep(1)
    at.broker.down = False
    for _ in range(20):
        assert (await at.backend.poll(workload)).phase is Phase.RUNNING
        await asyncio.sleep(1)
    assert len(at.broker.published) == 1


async def test_while_neither_broker_nor_door_answers_nobody_is_called_lost(site) -> None:
    """It may be this service that is cut off."""
    at = site("w1")
    workload = await at.backend.launch(at.request())
    await at.backend.poll(workload)
    at.broker.down = at.hosts[0].door_shut = True
    seen: list[str] = []
    for _ in range(60):
        try:
            seen.append((await at.backend.poll(workload)).phase.value)
        except BackendError:
            seen.append("unknown")
        await asyncio.sleep(1)
    assert set(seen) == {"running", "unknown"}
    assert seen[:5] == ["running"] * 5
    at.broker.down = at.hosts[0].door_shut = False
    await asyncio.sleep(5)
    assert (await at.backend.poll(workload)).phase is Phase.RUNNING


async def test_a_worker_whose_door_alone_is_shut_is_not_lost(site) -> None:
    at = site("w1")
    workload = await at.backend.launch(at.request())
    await at.backend.poll(workload)
    at.hosts[0].door_shut = True
    await asyncio.sleep(60)
    for operation in (
        at.backend.stop(workload, grace_s=5),
        at.backend.remove(workload),
        at.backend.artifacts(workload),
    ):
        with pytest.raises(BackendError, match="the worker at http://w1:4546 cannot be reached"):
            await operation
    for begin in (at.backend.salvage, at.backend.retranscribe):
        with pytest.raises(DoorUnreachable):  # which is tried again, other than a LaunchFailed
            await begin(workload, job_type=JobType.RECORDING, variables={})


@pytest.mark.documents("a-worker-that-cannot-be-reached/3")
async def test_a_worker_that_hangs_delays_nothing_for_longer_than_a_question(
    site, documented
) -> None:
    """It accepts connections and never answers: a salvage or a removal would wait for half a minute each."""
    at = site("w1")
    workload = await at.backend.launch(at.request())
    await at.backend.poll(workload)
    at.hosts[0].dead = at.hosts[0].hangs = True
    hung_s = now_s()
    with pytest.raises(DoorUnreachable) as hanging:
        await at.backend.poll(unsettled(workload))
    documented("a-worker-that-cannot-be-reached/3", str(hanging.value))
    assert now_s() - hung_s < 6
    await asyncio.sleep(15)
    began_s = now_s()
    with pytest.raises(FilesGone):
        await at.backend.salvage(workload, job_type=JobType.RECORDING, variables={})
    with pytest.raises(FilesOutOfReach):
        await at.backend.remove(workload)
    assert now_s() - began_s < 6


async def test_a_worker_whom_only_the_broker_does_not_hear_is_worked_with(site) -> None:
    at = site("w1", "w2")
    workload = await at.backend.launch(at.request())
    at.hosts[0].backend.exit(JOB, 1)
    at.broker.workers = at.hosts[1:]
    await asyncio.sleep(30)
    await at.backend.salvage(workload, job_type=JobType.RECORDING, variables={})
    await at.backend.remove(workload)
    assert at.hosts[0].backend.removed == [JOB]


async def test_a_job_is_starting_as_long_as_its_worker_launches_and_cannot_say(site) -> None:
    at = site("w1")

    async def forget(job_id: str, _order: Any) -> None:
        at.claim(job_id, at.hosts[0])

    at.broker.deliver = forget
    workload = await at.backend.launch(at.request())
    at.hosts[0].backend.busy = True
    for _ in range(40):
        assert (await at.backend.poll(workload)).phase is Phase.STARTING
        await asyncio.sleep(10)
    at.hosts[0].backend.busy = False
    assert (await at.backend.poll(workload)).phase is Phase.STARTING
    await asyncio.sleep(200)
    assert (await at.backend.poll(workload)).phase is Phase.LOST


async def test_a_service_that_starts_beside_a_dead_worker_waits_before_it_judges(site) -> None:
    at = site("w1", "w2")
    workload = await at.backend.launch(at.request())
    at.hosts[0].dead = True
    later = at.replica()
    began_s = now_s()
    with pytest.raises(BackendError):
        await later.poll(workload)
    while now_s() - began_s < 15:
        try:
            seen = await later.poll(workload)
            break
        except BackendError:
            await asyncio.sleep(1)
    assert seen.phase is Phase.LOST
    assert now_s() - began_s >= 12
    assert "since this service started" in seen.detail
    await later.aclose()


@pytest.mark.documents("a-worker-that-does-not-say-what-it-has", "a-record-that-no-worker-wrote")
async def test_while_one_worker_does_not_say_what_it_has_nobody_knows_what_is_missing(
    site, documented
) -> None:
    at = site("w1", "w2")
    at.workers["w2"].door_shut = True
    with pytest.raises(BackendError) as missing:
        await at.backend.adopt()
    documented("a-worker-that-does-not-say-what-it-has", str(missing.value))
    with pytest.raises(BackendError) as strange:
        await at.backend.poll(Workload("celery", {}))
    documented("a-record-that-no-worker-wrote", str(strange.value))
    at.workers["w2"].dead = True
    await asyncio.sleep(20)
    assert await at.backend.adopt() == {}


async def test_a_job_that_was_granted_and_never_stored_is_found_on_its_worker(site) -> None:
    at = site("w1", "w2")
    await at.backend.launch(at.request())
    at.workers["w2"].backend.strangers = ("b" * 12,)
    later = at.replica()
    found = await later.adopt()
    assert {job_id: workload.reference["worker"] for job_id, workload in found.items()} == {
        JOB: "w1",
        "b" * 12: "w2",
    }
    assert (await later.poll(found[JOB])).phase is Phase.RUNNING
    await later.aclose()


async def test_what_cannot_be_known_without_a_broker_is_an_error(site) -> None:
    at = site("w1")
    at.broker.down = True
    for ask in (at.backend.adopt, at.backend.places, at.backend.check_usable):
        with pytest.raises(BackendError, match="redis://b"):
            await ask()


async def test_room_and_disk_are_those_of_all_workers_that_take_jobs(site) -> None:
    at = site("w1", "w2")
    assert await at.backend.places() == Places(calls=4, hosts=2, least_disk_bytes=100)
    assert await at.backend.free_disk_bytes() == 200
    assert await at.backend.workers() == {"w1": True, "w2": True}
    await at.backend.check_usable()


async def test_every_replica_reaches_the_same_workloads(site) -> None:
    at = site("w1")
    other = at.replica()
    assert await at.backend.place() == await other.place() == "celery/calls"
    await other.aclose()


async def test_images_are_made_present_on_all_hosts_and_one_is_enough(site) -> None:
    at = site("w1", "w2")
    await at.backend.prepare(["runner:1"])
    assert [host.backend.prepared for host in at.hosts] == [[["runner:1"]]] * 2
    at.hosts[0].door_shut = True
    await at.backend.prepare(["runner:1"])
    at.hosts[1].door_shut = True
    with pytest.raises(BackendError, match="cannot be reached"):
        await at.backend.prepare(["runner:1"])


async def test_a_door_through_which_something_is_read_counts_as_used(site) -> None:
    at = site("w1")
    workload = await at.backend.launch(at.request())
    at.hosts[0].backend.log = b"one"
    following = at.backend.follow(workload)
    assert await anext(following) == b"one"
    [door] = at.made
    await asyncio.sleep(700)
    await at.backend.adopt()
    assert not door.closed
    await following.aclose()


async def test_what_works_on_a_jobs_files_is_at_the_same_worker(site) -> None:
    at = site("w1")
    workload = await at.backend.launch(at.request())
    at.hosts[0].backend.exit(JOB, 1)
    salvage = await at.backend.salvage(
        workload, job_type=JobType.RECORDING, variables={"AUTH_TOKEN": "new"}
    )
    assert salvage.reference["worker"] == "w1"
    assert at.hosts[0].backend.salvaged == [(JOB, {"AUTH_TOKEN": "new"})]
    assert (await at.backend.poll(salvage)).phase is Phase.RUNNING
    await at.backend.lower(salvage)
    assert at.hosts[0].backend.lowered == [f"{JOB}/salvage-1"]


async def test_what_a_dead_worker_had_is_rescued_on_the_idlest_other(site, make_card) -> None:
    at = site("w1", "w2", "w3")
    workload = await at.backend.launch(at.request())
    at.hosts[0].dead = True
    at.hosts[1].card = make_card("w2", recording=2)
    await asyncio.sleep(20)
    rescue = {"job_type": JobType.RECORDING, "result": "r1", "variables": {"AUTH_TOKEN": "new"}}
    rescued = await at.backend.rescue(workload, **rescue)
    assert rescued.workload.reference["worker"] == rescued.attempt.reference["worker"] == "w3"
    assert (await at.backend.poll(rescued.attempt)).phase is Phase.RUNNING
    at.hosts[2].dead = True
    at.hosts[1].card = make_card("w2", draining=True)
    await asyncio.sleep(20)
    with pytest.raises(LaunchFailed, match="w2 is draining"):
        await at.backend.rescue(workload, **rescue)


@pytest.mark.parametrize(
    "reference", [{}, {"job_id": "j", "worker": "w", "url": "u", "local": "{"}]
)
async def test_a_workload_of_another_form_is_refused_by_name(site, reference) -> None:
    at = site("w1")
    with pytest.raises(BackendError, match="no workload of the celery backend"):
        await at.backend.poll(Workload("celery", reference))
