"""Steps `broker` and `workers`: what Redis and RabbitMQ say, and who answers through them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis
from aiohttp import web

from offloader.backends.remote.wire import WorkerCard
from offloader.doctor import broker, broker_rabbitmq, broker_redis, workers
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.step import Context
from offloader.version import BUILD_VERSION
from testbed.fleet import Fleet

Examined = Callable[..., Context]
One = Callable[[Sequence[Finding], str], Finding]
KEY = "k" * 32
URL = "redis://127.0.0.1:6379/0"
INFO = {"redis_version": "7.0.15", "maxmemory": 0, "used_memory": 1000}
KEPT = {"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}


@pytest.fixture
def brokered(examined: Examined) -> Callable[..., Context]:
    def make(url: str, **environ: str) -> Context:
        own = {"JOBS_APITYPE": "celery", "JOBS_CELERY_BROKERURL": url, "OFFLOADER_SECRET_KEY": KEY}
        own["JOBS_CELERY_ALLOWINSECUREBROKER"] = "true"
        return examined(**(own | {"JOBS_COPIESURL": "s3://b"} | environ))

    return make


async def test_without_celery_both_are_skipped(examined: Examined, one: One) -> None:
    assert one(await broker.look(examined()), "broker_not_used").verdict is Verdict.SKIPPED
    assert one(await workers.look(examined()), "workers_not_used").verdict is Verdict.SKIPPED


# Redis


async def test_a_real_redis_is_judged_by_what_it_is_set_to(
    brokered: Callable[..., Context], redis_server: Any, one: One, codes: Callable[..., list[str]]
) -> None:
    context = brokered(redis_server.url)
    assert codes(await broker.look(context)) == [
        "broker_answers",
        "broker_keeps",
        "broker_persistent",
    ]

    _configure(redis_server.url, "appendonly", "no")
    assert one(await broker.look(context), "broker_forgets").verdict is Verdict.NOTE

    _configure(redis_server.url, "maxmemory-policy", "allkeys-lru")
    assert one(await broker.look(context), "broker_evicts").verdict is Verdict.WARNING

    _configure(redis_server.url, "maxmemory-policy", "noeviction")
    _configure(redis_server.url, "maxmemory", "1")
    found = await broker.look(context)
    assert "maxmemory" in one(found, "broker_refuses_writes").cause
    assert one(found, "broker_memory_low").verdict is Verdict.WARNING


def _configure(url: str, name: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.config_set(name, value)


async def test_a_redis_that_takes_nothing_is_a_failure_with_its_reason(
    brokered: Callable[..., Context], redis_server: Any, tmp_path: Path, one: One
) -> None:
    context = brokered(redis_server.url)
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        found = await broker.look(context)
        assert "a replica" in one(found, "broker_refuses_writes").cause
        client.execute_command("REPLICAOF", "NO", "ONE")

        (tmp_path / "redis" / "dump.rdb").mkdir()  # nothing can be renamed to that
        client.config_set("save", "3600 1")
        client.bgsave()
        async with asyncio.timeout(20):
            while client.info("persistence")["rdb_last_bgsave_status"] != "err":
                await asyncio.sleep(0.02)
        found = await broker.look(context)
        assert one(found, "broker_save_failed").verdict is Verdict.WARNING
        assert "snapshots" in one(found, "broker_refuses_writes").cause
        client.config_set("save", "")

        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-@write")
        reader = redis_server.url.replace("redis://", "redis://reader:pw@")
        found = await broker.look(brokered(reader))
        assert "lacks a right" in one(found, "broker_refuses_writes").cause

        client.config_set("requirepass", "hidden-word")
        assert "wants a password" in one(await broker.look(context), "broker_unreachable").cause
        wrong = brokered(redis_server.url.replace("redis://", "redis://:other-word@"))
        found = await broker.look(wrong)
        assert "password are wrong" in one(found, "broker_unreachable").cause
        assert "other-word" not in str([each.document() for each in found])


async def test_a_user_who_may_not_see_the_settings_is_no_failure(
    brokered: Callable[..., Context], redis_server: Any, codes: Callable[..., list[str]]
) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "guest", "on", ">pw", "~*", "+@all", "-config")
    url = redis_server.url.replace("redis://", "redis://guest:pw@")
    assert codes(await broker.look(brokered(url))) == ["broker_answers", "broker_settings_unseen"]


@pytest.mark.parametrize(
    ("info", "settings", "refusal", "code", "verdict"),
    [
        ({"redis_version": "5.0.14"}, KEPT, "", "broker_too_old", Verdict.FAILURE),
        (
            {"rdb_last_bgsave_status": "err"},
            KEPT | {"save": "60 1"},
            "",
            "broker_save_failed",
            Verdict.WARNING,
        ),
        ({}, KEPT, "READONLY You can't write", "broker_refuses_writes", Verdict.FAILURE),
        ({}, KEPT, "MISCONF Redis is configured", "broker_refuses_writes", Verdict.FAILURE),
        ({}, KEPT, "NOPERM this user", "broker_refuses_writes", Verdict.FAILURE),
    ],
)
def test_what_no_redis_of_a_test_does_is_judged_too(
    info: Mapping[str, Any],
    settings: Mapping[str, str],
    refusal: str,
    code: str,
    verdict: Verdict,
    one: One,
) -> None:
    found = one(list(broker_redis.judge(URL, INFO | info, settings, refusal=refusal)), code)
    assert (found.verdict, bool(found.cause), bool(found.fix)) == (verdict, True, True)


@pytest.mark.parametrize(
    ("url", "code", "cause"),
    [
        ("redis://:hidden-word@127.0.0.1:1/0", "broker_unreachable", "it does not run"),
        ("redis://:hidden-word@h/0?socket_timeout=x", "broker_unreachable", "an option in the URL"),
        ("amqp://me:hidden-word@127.0.0.1:1//", "broker_unreachable", "it does not run"),
        ("redis://:hidden-word@none.invalid:1/0", "broker_without_tls", "unencrypted"),
        ("redis://none.invalid:1/0", "broker_open", "whoever reaches it"),
    ],
)
async def test_a_broker_out_of_reach_is_told_without_its_password(
    url: str, code: str, cause: str, brokered: Callable[..., Context], one: One
) -> None:
    found = await broker.look(brokered(url))
    assert cause in one(found, code).cause
    assert "hidden-word" not in str([each.document() for each in found])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("HELLO must be called with the client already authenticated", "it wants a password"),
        ("Error 111 connecting: Connection refused.", "it does not run, or listens elsewhere"),
        ("Authentication required.", "it wants a password"),
        ("(0, 0): (403) ACCESS_REFUSED - Login was refused", "user or password are wrong"),
        ("NOT_ALLOWED - vhost x not found", "there is no such virtual host"),
        ("certificate verify failed", "its certificate is not trusted"),
        ("Connection reset by peer", "one side speaks TLS"),
        ("Name or service not known", "its name is not known"),
        ("Timeout connecting to server", "a firewall that drops"),
        ("something new", "no job can be handed"),
    ],
)
def test_a_librarys_words_lead_to_a_cause(text: str, cause: str) -> None:
    assert broker.unreachable(URL, OSError(text)).cause.startswith(cause)


def test_a_password_in_a_librarys_words_is_left_out() -> None:
    url = "redis://:hidden-word@h:1/0"
    told = broker.unreachable(url, OSError(f"cannot use {url}")).document()
    assert "hidden-word" not in str(told)


# RabbitMQ


@pytest.mark.slow
@pytest.mark.timeout(300)  # it may be the first to start one
async def test_a_real_rabbitmq_is_judged_by_its_queues(
    brokered: Callable[..., Context], rabbitmq: Any, codes: Callable[..., list[str]], one: One
) -> None:
    context = brokered(rabbitmq.url)
    found = await broker.look(context)
    assert codes(found) == ["broker_answers", "broker_no_queue", "broker_no_queue", "broker_takes"]

    _declare(rabbitmq.url, "calls.recording", durable=True)
    _declare(rabbitmq.url, "calls.transcribing", durable=False)
    found = await broker.look(context)

    assert one(found, "broker_persistent").what == "queue calls.recording"
    wrong = one(found, "broker_queue_not_durable")
    assert (wrong.what, wrong.verdict) == ("queue calls.transcribing", Verdict.FAILURE)


def _declare(url: str, name: str, *, durable: bool) -> None:
    with kombu.Connection(url) as connection:  # type: ignore[attr-defined, no-untyped-call]  # no types
        connection.default_channel.queue_declare(name, durable=durable, auto_delete=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_rabbitmq_without_memory_confirms_nothing(
    brokered: Callable[..., Context], rabbitmq: Any, hurry: Callable[..., None], one: One
) -> None:
    hurry(broker_rabbitmq, _TIMEOUT_S=1.0)
    context = brokered(rabbitmq.url)
    set_memory = functools.partial(rabbitmq._server.control, "set_vm_memory_high_watermark")
    set_memory("0.0000001")
    try:
        async with asyncio.timeout(15):  # until it has looked
            while "broker_takes" in [each.code for each in await broker.look(context)]:
                pass
        found = one(await broker.look(context), "broker_refuses_writes")
    finally:
        set_memory("0.4")
    assert "memory or disk" in found.cause


# Workers

CARD = WorkerCard("one", "http://127.0.0.1:1", BUILD_VERSION, ("gpu",), 4, 0, 0, 1, False, None, "")


@asynccontextmanager
async def door(date: str | None = None) -> AsyncIterator[str]:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(headers={} if date is None else {"Date": date})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def cards_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """These workers answer the broadcast."""

    def use(*cards: WorkerCard) -> None:
        async def answer(_: Any) -> Sequence[WorkerCard]:
            return cards

        monkeypatch.setattr("offloader.backends.celery.broker.Broker.cards", answer)

    return use


async def test_nobody_on_a_real_broker_is_a_failure(
    brokered: Callable[..., Context], redis_server: Any, one: One
) -> None:
    assert (
        one(await workers.look(brokered(redis_server.url)), "workers_none").verdict
        is Verdict.FAILURE
    )


async def test_without_the_key_nobody_is_asked(brokered: Callable[..., Context], one: One) -> None:
    context = brokered(URL, OFFLOADER_SECRET_KEY="")
    assert one(await workers.look(context), "workers_no_key").verdict is Verdict.SKIPPED


@pytest.mark.slow
async def test_without_the_broker_nobody_is_asked(
    brokered: Callable[..., Context], one: One
) -> None:
    gone = brokered("redis://127.0.0.1:1/0")
    assert one(await workers.look(gone), "workers_unknown").verdict is Verdict.SKIPPED


async def test_a_live_worker_with_an_open_door_and_our_clock_is_ok(
    brokered: Callable[..., Context], cards_of: Callable[..., None]
) -> None:
    async with door() as url:
        cards_of(replace(CARD, url=url))
        found = await workers.look(brokered(URL))
    assert [f.code for f in found] == ["workers_live", "workers_clock"]


@pytest.fixture
async def workers_of(redis_server: Any, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Workers as processes on a real Redis."""
    async with Fleet(tmp_path / "fleet", broker_url=redis_server.url) as fleet:
        yield fleet


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_workers_tell_what_they_can_and_who_cannot_is_named(
    brokered: Callable[..., Context], workers_of: Fleet, redis_server: Any, one: One
) -> None:
    async with door("Wed, 21 Oct 2015 07:28:00 GMT") as late:
        good, *_ = await asyncio.gather(
            workers_of.start_worker("good"),
            workers_of.start_worker("full", JOBS_MINFREEDISK="900TiB", WORKER_URL=late),
            workers_of.start_worker("shut", WORKER_URL="http://127.0.0.1:1"),
        )
        context = brokered(
            redis_server.url,
            OFFLOADER_SECRET_KEY=workers_of.secret_key,
            JOBS_CELERY_LABELS='{"transcribing": "tpu"}',
        )
        async with asyncio.timeout(25):
            while len(found := await workers.look(context)) < 7:
                pass

    def of(name: str) -> list[Finding]:
        return [each for each in found if each.what.endswith(f"worker {name}")]

    assert [each.code for each in of("good")] == ["workers_live", "workers_clock"]
    assert one(of("good"), "workers_live").data["url"] == good.url
    assert one(of("full"), "workers_cannot").verdict is Verdict.FAILURE
    assert one(of("shut"), "workers_door_shut").verdict is Verdict.FAILURE
    assert one(of("full"), "workers_clock_off").verdict is Verdict.WARNING
    assert one(found, "workers_no_taker").what == "transcribing jobs"


@pytest.mark.parametrize(
    ("changes", "code", "verdict"),
    [
        ({"usable": "not enough disk"}, "workers_cannot", Verdict.FAILURE),
        ({"draining": True}, "workers_draining", Verdict.NOTE),
        ({"version": "v0.0.1"}, "workers_other_version", Verdict.NOTE),
        ({}, "workers_door_shut", Verdict.FAILURE),
        ({"only_labelled": True}, "workers_no_taker", Verdict.FAILURE),
    ],
)
async def test_what_a_worker_cannot_is_told(
    changes: Mapping[str, Any],
    code: str,
    verdict: Verdict,
    brokered: Callable[..., Context],
    cards_of: Callable[..., None],
) -> None:
    cards_of(replace(CARD, **changes))
    found = [f for f in await workers.look(brokered(URL)) if f.code == code]
    assert found
    assert {f.verdict for f in found} == {verdict}


async def test_a_label_that_no_worker_has_is_a_failure(
    brokered: Callable[..., Context], cards_of: Callable[..., None], one: One
) -> None:
    cards_of(CARD)
    context = brokered(URL, JOBS_CELERY_LABELS='{"transcribing": "tpu"}')
    found = one(await workers.look(context), "workers_no_taker")
    assert found.fix == ('worker.labels = ["tpu"]',)


async def test_another_clock_is_a_warning(
    brokered: Callable[..., Context], cards_of: Callable[..., None], one: One
) -> None:
    async with door("Wed, 21 Oct 2015 07:28:00 GMT") as url:
        cards_of(replace(CARD, url=url))
        found = one(await workers.look(brokered(URL)), "workers_clock_off")
    assert found.data["off_s"] < -1e8
