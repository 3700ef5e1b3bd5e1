"""Workers on real brokers: a message becomes a job, once, where there is room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from offloader.backends.base import LaunchRequest
from offloader.backends.celery.app import celery_app, durable_queue
from offloader.backends.celery.messages import (
    CARD_COMMAND,
    LAUNCH_TASK,
    LaunchOrder,
    card_context,
    launch_queue,
)
from offloader.backends.remote.wire import WorkerCard, unseal
from offloader.backends.stub import StubBackend
from offloader.errors import LaunchFailed
from offloader.models import JobType
from offloader.setting_celery import CelerySettings
from offloader.store.secret_key import Cipher
from offloader.worker.celery_thread import CeleryThread
from offloader.worker.lanes import Lane, Verdict

CIPHER = Cipher("k" * 32)
PATIENCE_S = 25.0
RECORDINGS = durable_queue(launch_queue("calls", JobType.RECORDING))
A, B, C, D = ("a" * 12, "b" * 12, "c" * 12, "d" * 12)


@pytest.fixture(
    params=[
        "redis_server",
        pytest.param("rabbitmq", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ]
)
def broker(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


async def test_a_message_becomes_a_job_of_the_workers_own_backend(
    broker, replica, start_worker, publisher
) -> None:
    site = await start_worker(broker.url)
    await publisher(broker.url).send(A)
    await replica.until(lambda: bool(replica.outcomes))
    assert replica.asked == [(A, "w1")]
    assert replica.outcomes[A] == {"workload": {"backend": "stub", "reference": {"id": A}}}
    assert site.backend.launched[A].input_data["auth_token"] == "hush"
    card = await site.door.card()
    assert (card.recording, card.transcribing, card.slots) == (1, 0, 2)


@pytest.mark.slow
async def test_a_worker_that_got_the_new_key_first_or_last_takes_jobs_all_the_while(
    broker, replica, start_worker, publisher
) -> None:
    old, new = "k" * 32, "n" * 32
    first = await start_worker(broker.url, OFFLOADER_SECRET_KEY=f"{new},{old}")
    send = publisher(broker.url)
    await send.send(A)  # by a service with the old key alone
    await replica.until(lambda: A in replica.outcomes)
    assert (await first.door.card()).recording == 1
    assert first.backend.launched[A].input_data["auth_token"] == "hush"
    first.worker.cipher.use((old,))
    await send.send(B)
    await replica.until(lambda: B in replica.outcomes)


@pytest.mark.slow
async def test_workers_are_heard_by_remote_control_and_take_no_other_command(
    broker, replica, start_worker, publisher
) -> None:
    site = await start_worker(broker.url, WORKER_LABELS='["gpu"]')
    send = publisher(broker.url)
    await send.send(A)
    await replica.until(lambda: bool(replica.outcomes))  # so it is connected
    for command in ("shutdown", "cancel_consumer", "active"):
        await asyncio.to_thread(send.tell, command)
    [reply] = await asyncio.to_thread(send.ask, CARD_COMMAND, {"nonce": "n1"})
    [(node, answer)] = reply.items()
    card = WorkerCard.of(unseal(CIPHER, answer["sealed"], context=card_context("n1")))
    assert (node, card.name, card.url, card.labels) == ("worker@w1", "w1", site.url, ("gpu",))
    await send.send(B)
    await replica.until(lambda: B in replica.outcomes)


async def test_what_one_worker_has_no_room_for_another_gets_at_once(
    broker, replica, start_worker, publisher
) -> None:
    small = await start_worker(broker.url, name="small", slots=1)
    send = publisher(broker.url)
    await send.send(A)
    await replica.until(lambda: A in replica.outcomes)
    for job_id in (B, C):
        await send.send(job_id)
    large = await start_worker(broker.url, name="large", slots=2)
    await replica.until(lambda: {B, C} <= set(replica.outcomes))
    assert (set(small.backend.launched), set(large.backend.launched)) == ({A}, {B, C})


@pytest.mark.slow
async def test_a_burst_fills_every_place_and_no_more(
    broker, replica, start_worker, publisher
) -> None:
    sites = [await start_worker(broker.url, name=f"w{n}", slots=3) for n in (1, 2)]
    send = publisher(broker.url)
    jobs = [f"{number:012x}" for number in range(7)]
    await asyncio.gather(*(send.send(job_id) for job_id in jobs))
    await replica.until(lambda: len(replica.outcomes) == 6)
    [waiting] = set(jobs) - set(replica.outcomes)
    assert [len(site.backend.launched) for site in sites] == [3, 3]
    ended = next(iter(sites[1].backend.launched))
    sites[1].backend.exit(ended)
    await replica.until(lambda: waiting in replica.outcomes)
    assert waiting in sites[1].backend.launched
    assert all("workload" in outcome for outcome in replica.outcomes.values())


@pytest.mark.slow
async def test_a_job_whose_call_is_over_gives_up_its_place(
    redis_server, replica, start_worker, publisher
) -> None:
    site = await start_worker(redis_server.url, slots=1)
    send = publisher(redis_server.url)
    for job_id in (A, B):
        await send.send(job_id)
    await replica.until(lambda: bool(replica.outcomes))
    [first] = site.backend.launched
    await site.door.lower((await site.door.adopt())[first])
    await replica.until(lambda: len(replica.outcomes) == 2)
    card = await site.door.card()
    assert (card.recording, site.worker.house.jobs) == (1, 2)


@pytest.mark.slow
async def test_a_broker_that_was_away_costs_no_message_and_no_job(
    broker, replica, start_worker, publisher
) -> None:
    site = await start_worker(broker.url)
    send = publisher(broker.url)
    await send.send(A)
    await replica.until(lambda: A in replica.outcomes)
    await asyncio.to_thread(broker.stop)
    await asyncio.sleep(1.5)  # the outage itself
    assert (await site.door.card()).recording == 1
    await asyncio.to_thread(broker.start)
    await send.send(B)
    await replica.until(lambda: B in replica.outcomes)
    assert replica.asked == [(A, "w1"), (B, "w1")]


@pytest.mark.slow
async def test_a_worker_that_ends_in_mid_launch_leaves_the_message_to_another(
    broker, replica, start_worker, publisher
) -> None:
    never = asyncio.Event()
    replica.hold = never
    send = publisher(broker.url)
    async with AsyncExitStack() as first:
        await start_worker(broker.url, name="first", stack=first)
        await send.send(A)
        await replica.until(lambda: bool(replica.asked))
    replica.hold = None
    never.set()
    second = await start_worker(broker.url, name="second")
    await replica.until(lambda: A in replica.outcomes)
    assert set(second.backend.launched) == {A}


async def test_what_an_ending_worker_gives_back_it_does_not_take_again(broker, publisher) -> None:
    """What is given back frees its place, and a free place opens its lane."""
    taken: list[str] = []

    async def take(message_id: str, arguments: Mapping[str, Any]) -> Verdict:
        taken.append(message_id)
        try:
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            celery.open("recording")
            if message_id == "slow":
                await asyncio.sleep(0.5)

    lane = Lane("recording", LAUNCH_TASK, (RECORDINGS.name,), take, at_once=2)
    app = celery_app(CelerySettings(broker_url=broker.url))
    celery = CeleryThread(app, node_name="worker@w1", lanes=[lane], commands={})
    celery.start()
    celery.open("recording")
    send = publisher(broker.url)
    for message_id in ("quick", "slow"):
        await send.send(A, message_id=message_id)
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < 2:
            await asyncio.sleep(0.02)
        await celery.stop()
    assert (sorted(taken), celery.alive) == (["quick", "slow"], False)
    with app.connection_for_read() as connection:
        queue = RECORDINGS(connection.default_channel)
        left = [await asyncio.to_thread(queue.get, no_ack=True) for _ in taken]
    assert {message.properties["correlation_id"] for message in left} == {"quick", "slow"}
    app.close()


@pytest.mark.slow
async def test_a_job_that_is_anothers_is_left_alone(
    redis_server, replica, start_worker, publisher
) -> None:
    replica.granted[A] = "http://another.example"
    site = await start_worker(redis_server.url)
    send = publisher(redis_server.url)
    await send.send(A)
    await send.send(B)
    await replica.until(lambda: B in replica.outcomes)
    await replica.until(lambda: site.worker.house.jobs == 1)
    assert (set(site.backend.launched), set(replica.outcomes)) == ({B}, {B})


@pytest.mark.slow
async def test_a_launch_that_fails_is_told_and_holds_no_place(
    redis_server, replica, start_worker, publisher
) -> None:
    class Refusing(StubBackend):
        async def launch(self, request: LaunchRequest) -> Any:
            raise LaunchFailed("no such program")

    site = await start_worker(redis_server.url, slots=1, backend=Refusing())
    send = publisher(redis_server.url)
    for job_id in (A, B):
        await send.send(job_id)
    await replica.until(lambda: len(replica.outcomes) == 2)
    assert set(map(str, replica.outcomes.values())) == {"{'error': 'no such program'}"}
    await replica.until(lambda: site.worker.house.jobs == 0)


async def test_messages_that_cannot_be_used_are_dropped_and_never_shown(
    redis_server, replica, start_worker, publisher, caplog, capfd
) -> None:
    caplog.set_level(logging.DEBUG)
    await start_worker(redis_server.url)
    send = publisher(redis_server.url)
    forged = LaunchOrder(JobType.RECORDING, "runner", {"auth_token": "hush"}, 0, replica.url)
    sealed = forged.sealed(Cipher("x" * 32), A)
    await send.send_raw(LAUNCH_TASK, RECORDINGS, job_id=A, sealed=sealed)
    good = await send.send(B)
    await send.send_raw(LAUNCH_TASK, RECORDINGS, job_id=A, sealed=good)
    await send.send_raw("calls.unknown", RECORDINGS, secret="hush-unknown")
    await send.send_raw(LAUNCH_TASK, RECORDINGS, strange="hush-strange")
    await asyncio.to_thread(send.send_body, RECORDINGS, "hush-body")
    await send.send(C)
    await replica.until(lambda: {B, C} <= set(replica.outcomes))
    assert {job_id for job_id, _ in replica.asked} == {B, C}
    shown = caplog.text + "".join(capfd.readouterr())
    for content in ("hush", sealed, good):
        assert content not in shown


@pytest.mark.slow
async def test_a_draining_worker_takes_nothing_and_waits_for_its_jobs(
    redis_server, replica, start_worker, publisher
) -> None:
    site = await start_worker(redis_server.url)
    send = publisher(redis_server.url)
    await send.send(A)
    await replica.until(lambda: A in replica.outcomes)
    hurry = asyncio.Event()
    draining = asyncio.create_task(site.worker.drain(hurry=hurry))
    await replica.until(lambda: site.worker.house.card.draining)
    await send.send(B)
    other = await start_worker(redis_server.url, name="other")
    await replica.until(lambda: B in replica.outcomes)
    assert set(other.backend.launched) == {B}
    assert (draining.done(), site.backend.stopped) == (False, [])
    hurry.set()
    await replica.until(lambda: site.backend.stopped == [(A, 300.0)])
    site.backend.exit(A)
    async with asyncio.timeout(25):
        await draining


@pytest.mark.slow
async def test_a_frozen_broker_does_not_keep_a_worker_from_ending(
    redis_server, replica, start_worker, publisher
) -> None:
    async with AsyncExitStack() as stack:
        await start_worker(redis_server.url, stack=stack)
        await publisher(redis_server.url).send(A)
        await replica.until(lambda: A in replica.outcomes)
        redis_server.freeze()
        async with asyncio.timeout(15):
            await stack.aclose()
    redis_server.thaw()
