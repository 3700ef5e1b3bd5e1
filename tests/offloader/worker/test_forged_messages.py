"""Whoever writes into the broker starts nothing: not by forging, changing, moving or dressing up messages."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import ContentDisallowed

from offloader.backends.base import LaunchRequest
from offloader.backends.celery.app import celery_app, durable_queue
from offloader.backends.celery.messages import (
    CARD_COMMAND,
    LAUNCH_TASK,
    LaunchOrder,
    card_context,
    launch_queue,
)
from offloader.backends.remote.wire import seal, unseal
from offloader.models import JobType
from offloader.setting_celery import CelerySettings
from offloader.store.secret_key import Cipher
from offloader.worker.celery_thread import CeleryThread
from offloader.worker.lanes import Lane, Verdict
from offloader.worker.transcribing_messages import TRANSCRIBE_TASK, TrackOffer

CIPHER, OTHER = Cipher("k" * 32), Cipher("x" * 32)
A, B = "a" * 12, "b" * 12
ORDER = LaunchOrder.of(
    LaunchRequest(A, JobType.RECORDING, "runner:1", {"auth_token": "hush"}, 3600),
    claim_url="http://replica:4545",
)
OFFER = TrackOffer("http://owner:4546", "voice-1")
CARD = {"name": "w1"}
Read = Callable[[Cipher, str, str], object]


def _card(cipher: Cipher, text: str, nonce: str) -> object:
    return unseal(cipher, text, context=card_context(nonce))


KINDS: dict[str, tuple[Callable[[Cipher, str], str], Read]] = {
    LAUNCH_TASK: (ORDER.sealed, LaunchOrder.unsealed),
    TRANSCRIBE_TASK: (OFFER.sealed, TrackOffer.unsealed),
    CARD_COMMAND: (lambda cipher, nonce: seal(cipher, CARD, context=card_context(nonce)), _card),
}
"""Everything that goes through the broker: how it is sealed for a job (a card for its question), and read."""


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_counts_but_the_very_one_that_was_sealed_for_this_job(kind: str) -> None:
    make, read = KINDS[kind]
    good = make(CIPHER, A)
    assert read(CIPHER, good, A) is not None
    assert read(CIPHER, make(OTHER, A), A) is None, "forged with another key"
    assert read(CIPHER, good, B) is None, "played back for another one"
    for other in KINDS.keys() - {kind}:
        assert read(CIPHER, KINDS[other][0](CIPHER, A), A) is None, f"made of a {other}"
    for text in ("", "{}", "null", '{"job_type": "recording"}', "AAAA", "\ud800", "é"):
        assert read(CIPHER, text, A) is None, "not sealed at all"


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_of_a_message_can_be_changed(kind: str) -> None:
    make, read = KINDS[kind]
    data = base64.urlsafe_b64decode(make(CIPHER, A))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert read(CIPHER, base64.urlsafe_b64encode(changed).decode(), A) is None, place
        assert read(CIPHER, base64.urlsafe_b64encode(data[:place]).decode(), A) is None, place


class Bomb:
    """What it is unpickled to is a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self._path), "w")


@pytest.mark.slow
async def test_a_worker_takes_json_and_its_own_tasks_and_nothing_else(
    redis_server: Any, tmp_path: Path, publisher: Any
) -> None:
    taken: list[str] = []
    asked: list[Any] = []

    async def take(message_id: str, arguments: Any) -> Verdict:
        taken.append(message_id)
        return Verdict.DONE

    queue, elsewhere = durable_queue(launch_queue("calls", JobType.RECORDING)), durable_queue("spy")
    lane = Lane("recording", LAUNCH_TASK, (queue.name,), take, at_once=1)
    app = celery_app(CelerySettings(broker_url=redis_server.url))
    celery = CeleryThread(
        app,
        node_name="worker@w1",
        lanes=[lane],
        commands={CARD_COMMAND: lambda arguments: asked.append(arguments) or {}},
    )
    celery.start()
    celery.open("recording")
    send = publisher(redis_server.url)
    await send.send_raw(LAUNCH_TASK, queue, "first", job_id=A, sealed="")
    await _until(lambda: taken == ["first"])
    bomb = tmp_path / "pickled"
    with send._app.connection_for_write() as connection:
        producer = connection.Producer()
        pickled = pickle.dumps([[], {"x": Bomb(bomb)}, {}])
        strange = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
        headers = {
            "task": LAUNCH_TASK,
            "id": "pickle",
            "lang": "py",
            "argsrepr": "",
            "kwargsrepr": "",
        }
        for exchange in (queue.exchange, app.control.mailbox.exchange):
            await asyncio.to_thread(
                producer.publish,
                pickled,
                exchange=exchange,
                routing_key=queue.routing_key,
                headers=headers,
                **strange,
            )
    with send._app.connection_for_write() as connection:
        await asyncio.to_thread(
            connection.Producer().publish,
            zlib.compress(json.dumps([[], {"job_id": A}, {}]).encode()),
            exchange=queue.exchange,
            routing_key=queue.routing_key,
            content_type="application/json",
            content_encoding="utf-8",
            headers=headers | {"id": "inflated", "compression": "application/x-gzip"},
        )
    nested = {"task": LAUNCH_TASK, "args": [], "kwargs": {"job_id": A, "sealed": ""}}
    given = {"task": nested, "it": [[]]}
    await asyncio.to_thread(
        send._app.send_task, "celery.starmap", kwargs=given, queue=queue, task_id="of-celery"
    )
    follower = send._app.signature(LAUNCH_TASK, kwargs={}).set(queue=elsewhere.name)
    await asyncio.to_thread(
        send._app.send_task,
        LAUNCH_TASK,
        kwargs={"job_id": A},
        queue=queue,
        task_id="leads",
        link=[follower],
        chain=[follower],
    )
    for name, arguments, given in (("positional", [1], {}), ("named", [], {"request": 1})):
        await asyncio.to_thread(
            send._app.send_task,
            LAUNCH_TASK,
            arguments,
            given | {"job_id": A},
            queue=queue,
            task_id=name,
            link_error=[follower],
        )
    await send.send_raw(LAUNCH_TASK, queue, "last", job_id=A, sealed="")
    await _until(lambda: "last" in taken)
    await asyncio.to_thread(send.ask, CARD_COMMAND, {"nonce": "n"})
    async with asyncio.timeout(25):
        await celery.stop()
    assert taken == ["first", "leads", "positional", "named", "last"]
    assert (asked, bomb.exists()) == ([{"nonce": "n"}], False)
    with app.connection_for_read() as connection:
        bound = elsewhere(connection.default_channel)
        assert await asyncio.to_thread(bound.get, no_ack=True) is None, "sent in the worker's name"
    app.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(25):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_an_answer_that_is_no_json_is_not_read_by_the_service(
    redis_server: Any, tmp_path: Path
) -> None:
    """The other way: what comes to the queue of replies."""
    app = celery_app(CelerySettings(broker_url=redis_server.url), patience_s=5.0)
    bomb = tmp_path / "pickled"

    def ask() -> list[Any]:
        with app.connection_for_write() as connection:
            mailbox = app.control.mailbox
            queue = mailbox.reply_queue(connection.default_channel)
            queue.declare()
            for content_type in ("application/x-python-serialize", "application/x-yaml"):
                connection.Producer().publish(
                    pickle.dumps(Bomb(bomb)),
                    exchange=mailbox.reply_exchange,
                    routing_key=mailbox.oid,
                    content_type=content_type,
                    content_encoding="binary",
                    headers={"ticket": "forged"},
                )
            try:
                return app.control.broadcast(
                    CARD_COMMAND, reply=True, timeout=0.3, connection=connection
                )
            except ContentDisallowed as error:
                return [type(error).__name__]

    told = await asyncio.to_thread(ask)
    assert not bomb.exists()
    assert told in ([], ["ContentDisallowed"])
    app.close()
