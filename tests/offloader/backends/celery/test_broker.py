"""The service at real brokers: what it publishes is there, and a broker that is away is named in time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from kombu import Connection

from offloader.backends.base import LaunchRequest
from offloader.backends.celery.app import celery_app
from offloader.backends.celery.broker import Broker
from offloader.backends.celery.messages import LAUNCH_TASK, LaunchOrder, card_context
from offloader.backends.remote.wire import seal
from offloader.errors import BackendError
from offloader.models import JobType
from offloader.setting_celery import CelerySettings
from offloader.store.secret_key import Cipher

CIPHER = Cipher("k" * 32)
JOB = "a" * 12
QUEUE = "calls.recording"
ORDER = LaunchOrder.of(
    LaunchRequest(JOB, JobType.RECORDING, "runner:1", {"auth_token": "hush"}, 3600),
    claim_url="http://replica:4545",
)


@pytest.fixture(
    params=[
        "redis_server",
        pytest.param("rabbitmq", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ]
)
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], Broker]]:
    made: list[Broker] = []

    def to(url: str) -> Broker:
        made.append(Broker(CelerySettings(broker_url=url), cipher=CIPHER))
        return made[-1]

    yield to
    for broker in made:
        await broker.aclose()


def waiting(url: str) -> list[Any]:
    """The messages in the queue, taken out of it."""
    with Connection(url) as connection:
        channel = connection.channel()
        return list(iter(lambda: channel.basic_get(QUEUE, no_ack=True), None))


async def test_a_launch_waits_in_its_queue_and_shows_nobody_what_it_is(server, connect) -> None:
    broker = connect(server.url)
    sealed = ORDER.sealed(CIPHER, JOB)
    await broker.publish(JOB, sealed, queue=QUEUE)
    [message] = await asyncio.to_thread(waiting, server.url)
    assert message.content_type == "application/json"
    assert message.headers["task"] == LAUNCH_TASK
    arguments, keywords, _ = json.loads(message.body)
    assert (arguments, keywords) == ([], {"job_id": JOB, "sealed": sealed})
    assert sealed not in str(message.headers), "what tools show of a task"
    assert "hush" not in f"{message.body!r} {message.headers} {message.properties}"


@pytest.mark.slow
async def test_a_broker_that_was_away_is_used_again_by_itself(server, connect) -> None:
    broker = connect(server.url)
    await broker.publish(JOB, ORDER.sealed(CIPHER, JOB), queue=QUEUE)
    assert await broker.cards() == []
    await asyncio.to_thread(server.stop)
    for ask in (broker.publish(JOB, "sealed", queue=QUEUE), broker.cards()):
        async with asyncio.timeout(20):
            with pytest.raises(BackendError, match=r"^the broker (redis|amqp)://"):
                await ask
    await asyncio.to_thread(server.start)
    await broker.publish("b" * 12, "sealed", queue=QUEUE)
    assert await broker.cards() == []
    messages = await asyncio.to_thread(waiting, server.url)
    assert [json.loads(message.body)[1]["job_id"] for message in messages] == [JOB, "b" * 12]


@pytest.mark.slow
async def test_a_broker_that_answers_nobody_holds_nobody_up(redis_server, connect) -> None:
    broker = connect(redis_server.url)
    assert await broker.cards() == []
    await asyncio.to_thread(redis_server.freeze)
    async with asyncio.timeout(20):
        asked = await asyncio.gather(
            *(broker.publish(JOB, "sealed", queue=QUEUE) for _ in range(20)),
            broker.cards(),
            return_exceptions=True,
        )
    assert {type(each) for each in asked} == {BackendError}
    await asyncio.to_thread(redis_server.thaw)
    async with asyncio.timeout(20):
        while True:
            try:
                await broker.publish(JOB, "sealed", queue=QUEUE)
                break
            except BackendError:
                continue


@pytest.mark.documents("the-broker-cannot-be-used")
async def test_a_password_is_not_in_the_name_of_a_broker_that_is_away(connect, documented) -> None:
    with pytest.raises(BackendError) as caught:
        await connect("redis://:hush@127.0.0.1:1/0").cards()
    documented("the-broker-cannot-be-used", str(caught.value))
    assert "hush" not in str(caught.value)


async def test_cards_that_nobody_with_the_key_has_sealed_count_for_nothing(
    connect, make_card, monkeypatch
) -> None:
    broker = connect("redis://127.0.0.1:1/0")
    true = make_card("w1").document()

    def answers(nonce: str) -> list[object]:
        here, before = card_context(nonce), card_context("of the question before")
        return [
            {"sealed": seal(CIPHER, true, context=here)},
            {"sealed": seal(Cipher("x" * 32), true, context=here)},
            {"sealed": seal(CIPHER, make_card("w2").document(), context=before)},
            {"sealed": seal(CIPHER, true, context=("launch", JOB))},
            {"sealed": seal(CIPHER, {"name": "w4"}, context=here)},
            {"error": "no such command"},
            true,
            None,
        ]

    monkeypatch.setattr(broker, "_ask", answers)
    assert [card.name for card in await broker.cards()] == ["w1"]


def test_messages_are_json_and_certificates_are_checked() -> None:
    conf = celery_app(CelerySettings(broker_url="amqps://u:p@broker:5671//")).conf
    assert conf.accept_content == ["json"]
    assert (conf.broker_use_ssl["cert_reqs"], conf.broker_use_ssl["server_hostname"]) == (
        *(2, "broker"),
    )
    assert celery_app(CelerySettings(broker_url="rediss://b:1/0")).conf.broker_use_ssl == {
        "ssl_cert_reqs": 2
    }
    assert celery_app(CelerySettings(queue_prefix="s2")).conf.control_exchange == "s2.control"


@pytest.mark.documents("the-broker-does-not-answer")
async def test_a_broker_that_hangs_is_named_in_time(connect, documented, monkeypatch) -> None:
    broker = connect("redis://:hush@127.0.0.1:1/0")
    monkeypatch.setattr("offloader.backends.celery.broker._ASK_S", 0.01)
    let_go = threading.Event()
    monkeypatch.setattr(broker, "_ask", lambda _: let_go.wait(20))
    with pytest.raises(BackendError) as silent:
        await broker.cards()
    let_go.set()
    documented("the-broker-does-not-answer", str(silent.value))
