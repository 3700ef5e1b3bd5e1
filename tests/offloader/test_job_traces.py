"""The trace of a job as the service makes it, at a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from offloader.backends.environment import job_environment
from offloader.backends.surroundings import Surroundings
from offloader.secrets import masked
from offloader.settings import load_settings
from testbed.otlp_receiver import OtlpReceiver, otlp_receiver

Start = Callable[..., Awaitable[Any]]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
async def ended() -> AsyncIterator[AsyncExitStack]:
    """Services started in it have ended, and sent their spans, when it is closed."""
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_job_is_one_trace_from_the_request_to_its_end(
    start: Start, receiver: OtlpReceiver, ended: AsyncExitStack
) -> None:
    service = await start(stack=ended, TRACING_OTLPENDPOINT=receiver.url)
    headers = service.basic("plugin") | {"traceparent": CALLER}
    body = {
        "type": "recording",
        "runner": "mattermost/calls-recorder:v0.8.13",
        "max_duration_sec": 3600,
        "input_data": {"call_id": "c", "post_id": "p", "auth_token": "hidden-token"},
    }
    answer = await service.http.post("/jobs", json=body, headers=headers)
    assert answer.status_code == 200
    job_id = answer.json()["id"]
    service.clock.advance(seconds=2)
    await service.check()
    service.clock.advance(seconds=60)
    service.backend.exit(job_id, 137)
    await service.check()
    await ended.aclose()

    request = receiver.one("POST /jobs", service="calls-offloader")
    assert f"00-{request.trace_id}-{request.parent_id}-01" == CALLER
    handed = service.backend.launched[job_id].input_data["traceparent"]
    assert handed == f"00-{request.trace_id}-{request.span_id}-01"
    names = ("admission", "launch", "start", "job")
    inner = {name: receiver.one(name) for name in names}
    assert {span.trace_id for span in inner.values()} == {request.trace_id}
    assert {span.parent_id for span in inner.values()} == {request.span_id}
    assert len(receiver.spans) == 5
    assert request.attributes == {"calls.job.id": job_id, "calls.job.type": "recording"}
    assert (inner["start"].end_ns - inner["start"].start_ns) / 1e9 == 2
    assert (inner["job"].end_ns - inner["job"].start_ns) / 1e9 == 62
    assert (inner["job"].failed, inner["job"].message) == (True, "crashed")
    assert inner["job"].attributes["process.exit.code"] == 137
    assert not any(text in receiver.told for text in (b"hidden-token", b"plugin"))


async def test_a_result_that_is_published_later_is_part_of_the_trace(
    start: Start, receiver: OtlpReceiver, ended: AsyncExitStack
) -> None:
    service = await start(stack=ended, TRACING_OTLPENDPOINT=receiver.url)
    job_id = await service.create_job()
    await service.check()
    service.backend.exit(job_id, 1, unpublished=True)
    await service.check()
    for code, left in ((1, True), (0, False)):
        service.clock.advance(seconds=7200)
        await service.check()  # the attempt begins
        service.clock.advance(seconds=5)
        number = len(service.backend.salvaged)
        service.backend.exit(f"{job_id}/salvage-{number}", code)
        service.backend.exit(job_id, 1, unpublished=left)
        await service.check()
        await service.check()
    await ended.aclose()
    failed, done = receiver.named("republish")
    request = receiver.one("POST /jobs")
    assert {failed.parent_id, done.parent_id} == {request.span_id}
    assert (failed.failed, failed.message) == (True, "waiting")
    assert (done.failed, done.attributes["calls.attempts"]) == (False, 1)
    assert (done.end_ns - done.start_ns) / 1e9 == 5
    assert receiver.one("job").attributes["calls.unpublished"] is True


async def test_a_refused_job_s_trace_says_where_it_ended(
    start: Start, receiver: OtlpReceiver, ended: AsyncExitStack
) -> None:
    service = await start(
        stack=ended, TRACING_OTLPENDPOINT=receiver.url, JOBS_MAXCONCURRENTJOBS="1"
    )
    await service.create_job()
    answer = await service.post_job(input_data={"call_id": "other", "post_id": "other"})
    assert answer.status_code == 500
    await ended.aclose()
    (admission,) = [span for span in receiver.named("admission") if span.failed]
    (request,) = [span for span in receiver.named("POST /jobs") if span.failed]
    assert admission.parent_id == request.span_id
    assert {admission.message, request.message} == {"CapacityReached"}


async def test_a_repeated_request_is_the_same_whatever_traces_it_is_part_of(
    start: Start, receiver: OtlpReceiver, ended: AsyncExitStack
) -> None:
    service = await start(stack=ended, TRACING_OTLPENDPOINT=receiver.url)
    headers = service.basic("plugin") | {"Idempotency-Key": "once"}
    body = {
        "type": "recording",
        "runner": "mattermost/calls-recorder:v0.8.13",
        "max_duration_sec": 3600,
        "input_data": {"call_id": "c", "post_id": "p"},
    }
    first = await service.http.post("/jobs", json=body, headers=headers)
    again = await service.http.post("/jobs", json=body, headers=headers | {"traceparent": CALLER})
    assert first.json()["id"] == again.json()["id"]


async def test_without_a_collector_a_job_s_input_stays_as_it_came(
    start: Start, ended: AsyncExitStack
) -> None:
    service = await start(stack=ended)
    job_id = await service.create_job()
    assert "traceparent" not in service.backend.launched[job_id].input_data
    assert "traceparent" not in (await service.get_job(job_id))["input_data"]


async def test_a_collector_that_is_gone_keeps_no_job_from_starting(
    start: Start, ended: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    service = await start(stack=ended, TRACING_OTLPENDPOINT="http://127.0.0.1:1")
    await service.create_job()
    async with asyncio.timeout(15):  # the limit is three seconds
        await ended.aclose()


def test_no_client_says_where_a_job_sends_its_spans() -> None:
    given = {"otel_exporter_otlp_endpoint": "http://elsewhere", "TraceParent": CALLER}
    made = job_environment(given)
    assert made.dropped == ("OTEL_EXPORTER_OTLP_ENDPOINT",)
    assert made.variables == {"TRACEPARENT": CALLER}


def test_jobs_of_ours_are_told_of_the_collector_with_its_keys_and_without_our_files() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/etc/of/this/host.pem",
        "OTEL_SERVICE_NAME": "me",
        "TRACING_JOBSOTLPENDPOINT": "http://from-jobs:4318/",
        "OTHER": "x",
    }
    settings = load_settings(Path("none.toml"), environ)
    assert settings.tracing.endpoint == "http://collector:4318/v1/traces"
    assert Surroundings(settings.jobs.network).tracing() == {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://from-jobs:4318/v1/traces",
    }
    assert "x-key=secret" not in repr(settings)
    assert (
        masked({"OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret"})["OTEL_EXPORTER_OTLP_HEADERS"]
        == "***"
    )


async def test_a_client_s_own_trace_in_the_input_gives_way_however_it_is_written(
    start: Start, receiver: OtlpReceiver, ended: AsyncExitStack
) -> None:
    service = await start(stack=ended, TRACING_OTLPENDPOINT=receiver.url)
    job_id = await service.create_job(input_data={"TraceParent": CALLER, "call_id": "c"})
    await ended.aclose()
    given = job_environment(service.backend.launched[job_id].input_data).variables
    request = receiver.one("POST /jobs")
    assert given["TRACEPARENT"].startswith(f"00-{request.trace_id}-{request.span_id}-")
    assert "TraceParent" not in service.backend.launched[job_id].input_data


async def test_stages_without_an_end_are_forgotten(
    start: Start,
    receiver: OtlpReceiver,
    ended: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("offloader.job_traces._MOST_STAGES", 1)
    service = await start(stack=ended, TRACING_OTLPENDPOINT=receiver.url)
    for number in range(2):
        await service.create_job(input_data={"call_id": f"c{number}"})
    await service.check()
    await ended.aclose()
    assert len(receiver.named("start")) == 1
