"""The trace of a job's own process, at a real receiver."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callclient.plugin_api import ApiError
from foundation.spans import step
from jobs import job_directory
from jobs import tracing as tracing_module
from jobs.harness import JobContext, StartFailed, run_job
from jobs.settings import JobSettings, read_common
from jobs.tracing import now_ns, rescue_environment, traced_salvage
from testbed.otlp_receiver import OtlpReceiver, otlp_receiver

ID = "abcdefghijklmnopqrstuvwxy"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SETTINGS = JobSettings(
    site_url="http://127.0.0.1:1",
    call_id=ID + "c",
    post_id=ID + "p",
    job_id=ID + "r",
    auth_token=ID + "s",
    traceparent=f"00-{TRACE}-{SPAN}-01",
)


@pytest.fixture(autouse=True)
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    async def failed(self: object, text: str) -> None:
        return

    monkeypatch.setattr("jobs.status.StatusReporter.failed", failed)
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    return replace(SETTINGS, data_dir=tmp_path)


def test_a_job_is_a_child_of_whoever_started_it_with_its_figures(
    settings: JobSettings, receiver: OtlpReceiver
) -> None:
    async def job(context: JobContext) -> None:
        context.metrics["frames"] = 7
        with step("recording"):
            await asyncio.create_task(inside())

    async def inside() -> None:
        with step("upload"):
            await asyncio.sleep(0)

    assert run_job(job, settings, job_type="recording") == 0
    whole = receiver.one("recording job", service="calls-recorder")
    assert (whole.trace_id, whole.parent_id, whole.failed) == (TRACE, SPAN, False)
    assert whole.attributes["calls.figure.frames"] == 7
    assert whole.attributes["calls.cpu_s"] >= 0
    recording, upload = receiver.one("recording"), receiver.one("upload")
    assert (recording.parent_id, upload.parent_id) == (whole.span_id, recording.span_id)
    told = receiver.told
    for secret in (settings.auth_token, settings.site_url, settings.call_id):
        assert secret.encode() not in told


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StartFailed("bob's call is full"), 0),
        (ApiError("POST https://chat/x: refused", status=403, retryable=False), 1),
    ],
)
def test_a_job_that_failed_names_the_kind_of_error_alone(
    settings: JobSettings, receiver: OtlpReceiver, error: Exception, code: int
) -> None:
    async def job(context: JobContext) -> None:
        raise error

    assert run_job(job, settings, job_type="transcribing") == code
    whole = receiver.one("transcribing job", service="calls-transcriber")
    assert (whole.failed, whole.message) == (True, type(error).__name__)
    assert not any(text in receiver.told for text in (b"bob", b"chat"))


def test_a_silent_collector_holds_up_no_job(
    settings: JobSettings, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing_module, "_CLOSE_S", 0.2)
    receiver.silent = threading.Event()

    async def job(context: JobContext) -> None:
        for _ in range(1000):
            with step("upload"):
                await asyncio.sleep(0)

    began_s = time.monotonic()
    assert run_job(job, settings, job_type="recording") == 0
    assert time.monotonic() - began_s < 15  # its limit is 0.2 s, the collector's silence 20 s


def test_who_finishes_a_dead_job_is_part_of_its_trace_and_linked_to_it(
    settings: JobSettings, receiver: OtlpReceiver
) -> None:
    async def job(context: JobContext) -> None:
        await asyncio.to_thread(job_directory.create, settings, base_name="x")

    run_job(job, settings, job_type="recording")
    loaded, _ = job_directory.load(
        JobSettings, settings.directory, {"AUTH_TOKEN": settings.auth_token}, overrides={}
    )
    assert loaded.traceparent == settings.traceparent
    with traced_salvage(loaded, settings.directory, {}, job_type="recording"):
        pass
    began_ns = now_ns() - 30_000_000_000
    rescuing = rescue_environment({}, began_ns=began_ns)
    with traced_salvage(loaded, settings.directory, rescuing, job_type="recording"):
        pass
    job_span = receiver.one("recording job")
    for name in ("salvage", "rescue"):
        span = receiver.one(name, service="calls-recorder")
        assert (span.trace_id, span.parent_id) == (TRACE, SPAN)
        assert span.links == (job_span.span_id,)
    assert receiver.one("rescue").start_ns == began_ns


def test_a_job_that_is_not_traced_leaves_nothing_of_it_on_disk(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    job_directory.create(settings, base_name="x")
    assert "span" not in json.loads((settings.directory / "job.json").read_text())
    assert job_directory.span_of(settings.directory) == ""


@pytest.mark.parametrize("text", ["", "rubbish", f"00-{TRACE}-{SPAN}"])
def test_a_traceparent_of_no_use_is_none(text: str) -> None:
    environ = {
        "SITE_URL": "http://chat",
        "CALL_ID": ID + "c",
        "POST_ID": ID + "p",
        "RECORDING_ID": ID + "r",
        "AUTH_TOKEN": ID + "s",
        "TRACEPARENT": text,
    }
    assert read_common(environ, job_id_variable="RECORDING_ID").traceparent == ""


@pytest.mark.parametrize("began", ["soon", "²", "-1", "9" * 5000])
def test_a_moment_that_is_none_keeps_no_dead_job_from_being_finished(
    settings: JobSettings, receiver: OtlpReceiver, began: str
) -> None:
    with traced_salvage(
        settings, settings.directory, {"RESCUE_BEGAN_NS": began}, job_type="recording"
    ):
        pass
    assert receiver.one("salvage").parent_id == SPAN
