"""How a job's process ends, and what its log tells on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callclient.plugin_api import ApiError
from jobs import harness
from jobs.harness import JobContext, StartFailed, run_job
from jobs.settings import JobSettings

ID = "abcdefghijklmnopqrstuvwxy"
SETTINGS = JobSettings(
    site_url="http://127.0.0.1:1",
    call_id=ID + "c",
    post_id=ID + "p",
    job_id=ID + "r",
    auth_token=ID + "s",
    data_dir=Path("/nowhere"),
)


@pytest.fixture(autouse=True)
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was reported as failed."""
    texts: list[str] = []

    async def failed(self: object, text: str) -> None:
        texts.append(text)

    monkeypatch.setattr("jobs.status.StatusReporter.failed", failed)
    return texts


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in found if line["event"] == event]


def test_a_finished_job_exits_0_and_its_last_line_has_its_figures(capsys, reported) -> None:
    async def job(context: JobContext) -> None:
        context.metrics["frames"] = 7

    assert run_job(job, SETTINGS, job_type="recording") == 0
    (line,) = lines(capsys, "metrics")
    assert line["final"] is True
    assert line["frames"] == 7
    assert line["cpu_s"] >= 0
    assert line["peak_rss_bytes"] >= line["rss_bytes"] > 0
    assert line["job_id"] == SETTINGS.job_id
    assert reported == []


@pytest.mark.documents("a-job-that-cannot-go-on")
def test_a_failed_start_is_reported_and_exits_0_and_its_figures_tell(
    capsys, reported, documented
) -> None:
    async def job(context: JobContext) -> None:
        raise StartFailed("call is full")

    assert run_job(job, SETTINGS, job_type="recording") == 0
    assert reported == ["call is full"]
    written = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (line,) = (line for line in written if line["event"] == "metrics")
    assert line["start_failed"] == 1
    (line,) = (line for line in written if line["level"] == "error")
    assert line["reason"] == "call is full"
    documented("a-job-that-cannot-go-on", line["event"])


@pytest.mark.documents("a-job-that-cannot-go-on/2")
def test_anything_else_exits_1_without_a_report_and_with_its_traceback(
    capsys, reported, documented
) -> None:
    async def job(context: JobContext) -> None:
        raise ApiError("POST recordings: refused with HTTP 403", status=403, retryable=False)

    assert run_job(job, SETTINGS, job_type="recording") == 1
    assert reported == []
    (line,) = lines(capsys, "job.failed")
    assert "HTTP 403" in json.dumps(line)
    documented("a-job-that-cannot-go-on/2", line["event"])


def test_a_signal_asks_politely_and_the_second_one_hurries() -> None:
    seen: list[bool] = []

    async def job(context: JobContext) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await context.shutdown.requested.wait()
        seen.append(context.shutdown.hurry.is_set())
        os.kill(os.getpid(), signal.SIGTERM)
        await context.shutdown.hurry.wait()

    assert run_job(job, SETTINGS, job_type="recording") == 0
    assert seen == [False]


def test_metrics_come_every_ten_seconds(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness.METRICS_INTERVAL_S == 10
    monkeypatch.setattr(harness, "METRICS_INTERVAL_S", 0.01)

    told: list[bool] = []
    log_metrics = harness.log_metrics

    def count(context: JobContext, *, final: bool = False) -> None:
        told.append(final)
        log_metrics(context, final=final)

    monkeypatch.setattr(harness, "log_metrics", count)

    async def job(context: JobContext) -> None:
        async with asyncio.timeout(25):
            while len(told) < 3:
                await asyncio.sleep(0.01)

    run_job(job, SETTINGS, job_type="transcribing")
    found = lines(capsys, "metrics")
    assert len(found) > 3
    assert [line["final"] for line in found][-2:] == [False, True]


def test_progress_is_told_at_most_once_a_second_but_its_end_always(capsys, monkeypatch) -> None:
    assert harness._PROGRESS_INTERVAL_S == 1
    monkeypatch.setattr(harness, "_PROGRESS_INTERVAL_S", 25.0)  # this process may have to wait

    async def job(context: JobContext) -> None:
        for done in range(101):
            context.progress("upload", done, 100)
        context.progress("publish", 0, 1)

    run_job(job, SETTINGS, job_type="recording")
    told = [(line["stage"], line["done"]) for line in lines(capsys, "progress")]
    assert told == [("upload", 0), ("upload", 100), ("publish", 0)]


def test_the_token_is_in_no_line(capsys) -> None:
    async def job(context: JobContext) -> None:
        context.log.info("settings", settings=repr(context.settings))
        raise RuntimeError("x")

    run_job(job, SETTINGS, job_type="recording")
    assert SETTINGS.auth_token not in capsys.readouterr().err


def test_before_the_grace_is_over_the_job_is_hurried_so_that_it_can_tell_its_end(capsys) -> None:
    seen: list[bool] = []

    async def job(context: JobContext) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await context.shutdown.requested.wait()
        seen.append(context.shutdown.hurry.is_set())
        await context.shutdown.hurry.wait()

    assert run_job(job, replace(SETTINGS, stop_grace_s=1), job_type="recording") == 0
    assert seen == [False]
    assert lines(capsys, "grace.over")
