"""A broker that goes away in mid-call, or is read by strangers: nothing is lost, doubled or learnt."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from kombu import Connection, Exchange, Queue

from testbed.brokers import BrokerMissing, RabbitHost, RabbitServer, RedisServer
from testbed.certificates import Certificates, make_certificates
from testbed.fleet import Fleet, Host, Service

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

AWAY_S = 60.0
FROZEN_S = 20.0
"""Connections stay, and nobody answers: time-outs are all there is."""
REFUSED_S = 20.0
"""A launch that cannot be, from the request to its answer; the plugin waits a minute."""
CANARIES = ("canary-token-7f3a", "canary-call-of-ada", "canary-new-token-91")
BOTH = pytest.mark.parametrize("fleet", ["redis_server", "rabbitmq"], indirect=True)


async def _pair(fleet: Fleet, *, slots: int = 2) -> tuple[Service, Host, Host]:
    service, one, two = await asyncio.gather(
        fleet.start_service(JOBS_ADMISSIONWAITS="0"),
        fleet.start_worker("one", slots=slots),
        fleet.start_worker("two", slots=slots),
    )
    await service.knows_places(2 * slots)
    return service, one, two


@pytest.mark.parametrize(
    ("fleet", "how", "away_s"),
    [
        ("redis_server", "stopped", AWAY_S),
        ("rabbitmq", "stopped", AWAY_S),
        ("redis_server", "frozen", FROZEN_S),
    ],
    indirect=["fleet"],
)
async def test_a_broker_that_is_away_for_a_minute_costs_no_job_and_doubles_none(
    fleet: tuple[Fleet, Any], how: str, away_s: float
) -> None:
    hosts, broker = fleet
    service, one, two = await _pair(hosts)
    calls = ["a", "b", "c"]
    ids = [await service.create(call) for call in calls]
    for job_id in ids:
        await service.in_state(job_id, "running")
    took = {job_id: host for host in (one, two) for job_id in host.jobs()}

    away, back = (broker.stop, broker.start) if how == "stopped" else (broker.freeze, broker.thaw)
    await asyncio.to_thread(away)
    gone_s = time.monotonic()
    try:
        refused = await service.ask("refused")
        assert refused.status_code == httpx.codes.INTERNAL_SERVER_ERROR
        assert "what runs jobs cannot be reached" in refused.text  # shown to people in the call
        assert time.monotonic() - gone_s < REFUSED_S

        took[ids[0]].finish(ids[0])
        ended = await service.in_state(ids[0], "finished")
        assert ended["stop_reason"] == "completed", "an end is seen all the same"
        answer = await service.http.post(f"/jobs/{ids[1]}/stop")
        assert answer.status_code == httpx.codes.ACCEPTED
        stopped = await service.in_state(ids[1], "finished")
        assert stopped["stop_reason"] == "requested", "and a stop arrives"

        while time.monotonic() - gone_s < away_s:
            assert (await service.details(ids[2]))["state"] == "running"
            await asyncio.sleep(1)
    finally:
        await asyncio.to_thread(back)

    assert (await service.details(ids[2]))["state"] == "running"
    await service.knows_places(4)
    again = await _created(service, "d")
    await service.in_state(again, "running")
    for job_id in (ids[2], again):
        host = next(host for host in (one, two) if job_id in host.jobs())
        host.finish(job_id)
        assert (await service.in_state(job_id, "finished"))["stop_reason"] == "completed"
    assert {call: hosts.runs_of(call) for call in [*calls, "d"]} == dict.fromkeys([*calls, "d"], 1)
    assert hosts.runs_of("refused") == 0, "a launch that was refused is not made up for"


async def _created(service: Service, call_id: str) -> str:
    """As soon as launches go again: its connection may be found dead only now."""
    async with asyncio.timeout(30):
        while (answer := await service.ask(call_id)).status_code != httpx.codes.OK:
            await asyncio.sleep(0.5)
    return str(answer.json()["id"])


@BOTH
async def test_who_reads_all_that_goes_through_the_broker_learns_no_token(
    fleet: tuple[Fleet, Any],
) -> None:
    hosts, broker = fleet
    leaves_a_result = "mkdir -p $DATA_DIR/r1; echo {} > $DATA_DIR/r1/job.json; exit 1"
    script = f'if [ "$0" = salvage ]; then rm -r "$1"; exit 0; fi; {leaves_a_result}'
    with _overheard(broker) as overheard:
        service, worker = await asyncio.gather(
            hosts.start_service(), hosts.start_worker("one", script=script)
        )
        await service.knows_places(1)
        token, name, new_token = CANARIES
        job_id = await service.create("call", auth_token=token, call_title=name)
        ended = await service.in_state(job_id, "finished")
        assert ended["unpublished"]
        published = await service.http.post(
            f"/jobs/{job_id}/republish", json={"auth_token": new_token}
        )
        assert published.status_code == httpx.codes.ACCEPTED, published.text

        async with asyncio.timeout(25):
            while (await service.details(job_id))["unpublished"]:
                await asyncio.sleep(0.1)
    text = overheard.text()
    assert job_id in text
    assert '"sealed"' in text, "it did overhear the launch, and could read as much"
    for secret in (*CANARIES, hosts.secret_key):
        assert secret not in text
    for log in (service.log, worker.log):
        for secret in (*CANARIES, hosts.secret_key):
            assert secret not in log.read_text(errors="replace")


@pytest.fixture(params=["redis", "rabbitmq"])
def guarded_broker(
    request: pytest.FixtureRequest, tmp_path: Path, engine_missing: Callable[[str, str], None]
) -> Iterator[tuple[str, Certificates]]:
    """The URL of a broker that speaks TLS alone, with a certificate of a private authority."""
    tls = make_certificates(tmp_path / "tls", address="127.0.0.1")
    try:
        if request.param == "redis":
            server: RedisServer | RabbitServer = RedisServer(tmp_path / "redis", tls=tls)
        else:
            server = RabbitServer(tmp_path / "rabbitmq", tls=tls)
    except BrokerMissing as error:
        engine_missing(request.param, str(error))
        raise AssertionError from None
    server.start()
    if isinstance(server, RedisServer):
        yield server.url, tls
        server.stop()
    else:
        yield server.new_host().url, tls
        server.end()


async def test_behind_tls_with_a_private_authority_a_job_runs_and_is_watched(
    guarded_broker: tuple[str, Certificates], tmp_path: Path
) -> None:
    url, tls = guarded_broker
    async with Fleet(tmp_path / "fleet", broker_url=url, tls=tls) as hosts:
        service, host = await asyncio.gather(hosts.start_service(), hosts.start_worker("one"))
        assert (service.url[:8], host.url[:8]) == ("https://", "https://")
        await service.knows_places(1)
        job_id = await service.create("call")
        await service.in_state(job_id, "running")
        host.finish(job_id)
        assert (await service.in_state(job_id, "finished"))["stop_reason"] == "completed"
        password = urlsplit(url).password or ""
        assert password
        for member in (service, host):
            assert f":{password}@" not in member.log.read_text(errors="replace")


class Overheard:
    """All that went through a broker, as far as it can be read."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self) -> str:
        """Bodies that are Base64 too, as kombu writes them into Redis."""
        return "\n".join(self.parts) + "\n".join(_decoded(part) for part in self.parts)


def _decoded(part: str) -> str:
    found = []
    for word in part.replace("\\", "").replace(",", '"').split('"'):
        if len(word) >= 16:
            try:
                found.append(base64.b64decode(word, validate=True).decode(errors="replace"))
            except ValueError:
                continue
    return "\n".join(found)


@contextmanager
def _overheard(broker: Any) -> Iterator[Overheard]:
    overheard = Overheard()
    over = threading.Event()
    ready = threading.Event()
    listen = _listen_to_redis if isinstance(broker, RedisServer) else _listen_to_rabbitmq
    thread = threading.Thread(target=listen, args=(broker, overheard, ready, over))
    thread.start()
    try:
        assert ready.wait(20)
        yield overheard
    finally:
        over.set()
        thread.join()


def _listen_to_redis(
    broker: RedisServer, overheard: Overheard, ready: threading.Event, over: threading.Event
) -> None:
    parts = urlsplit(broker.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=1) as client:
        client.sendall(b"MONITOR\r\n")
        ready.set()
        buffer = b""
        while not over.is_set():
            try:
                buffer += client.recv(65536)
            except TimeoutError:
                continue
            *lines, buffer = buffer.split(b"\r\n")
            overheard.parts += [line.decode(errors="replace") for line in lines]


def _listen_to_rabbitmq(
    broker: RabbitHost, overheard: Overheard, ready: threading.Event, over: threading.Event
) -> None:
    """Its firehose: a copy of each message published and delivered."""
    broker.control("trace_on")
    trace = Exchange("amq.rabbitmq.trace", type="topic", passive=True, durable=True)
    queue = Queue("overheard", trace, routing_key="#", auto_delete=True)

    def keep(body: Any, message: Any) -> None:
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        told = content.decode(errors="replace") if isinstance(content, bytes) else content
        overheard.parts.append(f"{told} {message.headers}")
        message.ack()

    with Connection(broker.url) as connection:
        with connection.Consumer(queue, callbacks=[keep], accept=None, on_decode_error=None):
            ready.set()
            while not over.is_set():
                try:
                    connection.drain_events(timeout=0.5)
                except TimeoutError:
                    continue
