"""What every job's process does: logs, signals, metrics lines, files with pid and exit code.

The job's own part is one coroutine; how it ends decides the exit code (calls-plugin.md 9).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
import uvloop

from callclient.plugin_api import PluginApi
from foundation.logs import configure_logs, get_logger
from foundation.process_stats import read_family_stats
from foundation.shutdown import Shutdown, shutdown_on_signals
from foundation.spans import current_span
from jobs import job_directory, manifest
from jobs.copies.job_copy import JobCopy
from jobs.own_deadline import arm_own_kill, own_deadline
from jobs.settings import JobSettings
from jobs.site_api import site_api
from jobs.status import JobType, StatusReporter
from jobs.tracing import figures, traced_job

METRICS_INTERVAL_S = 10.0
_PROGRESS_INTERVAL_S = 1.0
_BEFORE_KILL_S = 10.0
T = TypeVar("T")


class StartFailed(Exception):
    """The job could not begin; the message is one plain sentence for the people in the call.

    Reported as `failed`; the exit code is 0, because the report is the result (trap 48).
    """


class Interrupted(Exception):
    """A second signal, or the end of the grace: what is not published yet stays in the job's directory."""


@dataclass(slots=True)
class JobContext:
    """What the harness gives a job."""

    settings: JobSettings
    api: PluginApi
    status: StatusReporter
    shutdown: Shutdown
    log: structlog.typing.FilteringBoundLogger
    started_at: float = field(default_factory=time.monotonic)
    metrics: dict[str, int | float] = field(default_factory=dict)
    """The job's own figures for the metrics line; the job replaces values as it likes."""
    copy: JobCopy = field(init=False)
    """Of the job's directory, elsewhere; or none."""
    _last_progress: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.copy = JobCopy(self.settings)

    async def report_started(self) -> None:
        """Tell the plugin, and the log how long it took. Raises ApiError."""
        await self.status.started()
        # What was imported stays: the collector stops the event loop less if it need not look at that.
        gc.freeze()
        self.log.info("started", joined_after_s=round(time.monotonic() - self.started_at, 3))

    def progress(self, stage: str, done: int, total: int) -> None:
        """A line for whoever waits: stage is upload, transcribe or publish; at most one a second."""
        now = time.monotonic()
        if done < total and now - self._last_progress.get(stage, 0.0) < _PROGRESS_INTERVAL_S:
            return
        self._last_progress[stage] = now
        self.log.info("progress", stage=stage, done=done, total=total)

    async def unless_hurried(self, work: Awaitable[T]) -> T:
        """Finish `work`, which may take minutes, unless a second signal comes or the grace ends (trap 47).

        Raises:
            Interrupted: `work` was cancelled.
        """
        working = asyncio.ensure_future(work)
        hurry = asyncio.create_task(self.shutdown.hurry.wait(), name="hurry")
        try:
            await asyncio.wait([working, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Interrupted("there is no time left; `salvage` can finish the job")
            return await working
        finally:
            hurry.cancel()
            working.cancel()


Job = Callable[[JobContext], Awaitable[None]]


def run_job(job: Job, settings: JobSettings, *, job_type: JobType) -> int:
    """Run the job to its end; returns the exit code.

    0: done, or could not start and said so. 1: something recorded was not published; it is kept in the
    job's directory.
    """
    configure_logs(level=os.environ.get("LOG_LEVEL") or "info")
    structlog.contextvars.bind_contextvars(job_id=settings.job_id, call_id=settings.call_id)
    arm_own_kill(settings)
    with traced_job(settings, job_type=job_type), _process_files(job_type):
        code = uvloop.run(_run(job, settings, job_type))
        _write(_exit_code_file(job_type), str(code))
        if job_directory.is_unfinished(settings.directory):
            manifest.seal(settings.directory, "ended")
    return code


async def _run(job: Job, settings: JobSettings, job_type: JobType) -> int:
    log = get_logger(component=job_type)
    async with site_api(settings) as api:
        with shutdown_on_signals() as shutdown, own_deadline(settings, shutdown):
            context = JobContext(
                settings=settings,
                api=api,
                status=StatusReporter(api, settings, job_type),
                shutdown=shutdown,
                log=log,
            )
            helpers = [
                asyncio.create_task(_log_metrics(context), name="metrics"),
                asyncio.create_task(context.copy.run(), name="copy"),
            ]
            grace = asyncio.create_task(_hurry_before_kill(context), name="grace")
            try:
                return await _outcome(job, context)
            finally:
                for helper in helpers:
                    helper.cancel()
                await asyncio.wait(helpers)
                await context.copy.finish(hurry=shutdown.hurry)
                grace.cancel()
                await asyncio.wait([grace])
                log_metrics(context, final=True)


async def _outcome(job: Job, context: JobContext) -> int:
    try:
        _check_media_stack(context.settings)
        await job(context)
    except StartFailed as error:
        context.log.error("start.failed", reason=str(error))
        context.metrics["start_failed"] = 1
        current_span().failed(type(error).__name__)
        await context.status.failed(str(error))
        return 0
    except Exception as error:
        context.log.exception("job.failed")
        current_span().failed(type(error).__name__)
        return 1
    return 0


def _check_media_stack(settings: JobSettings) -> None:
    if settings.livekit_url:
        raise StartFailed(
            "the call is on LiveKit (livekit_url is set): this job can only join calls on an rtcd"
        )


async def _log_metrics(context: JobContext) -> None:
    while True:
        await asyncio.sleep(METRICS_INTERVAL_S)
        log_metrics(context)


async def _hurry_before_kill(context: JobContext) -> None:
    """Whoever asked for the end kills when the grace has passed: end before, with everything told."""
    await context.shutdown.requested.wait()
    grace_s = context.settings.stop_grace_s
    await asyncio.sleep(grace_s - min(_BEFORE_KILL_S, grace_s / 2))
    if not context.shutdown.hurry.is_set():
        context.log.warning("grace.over", stop_grace_s=grace_s)
        context.shutdown.request()


def log_metrics(context: JobContext, *, final: bool = False) -> None:
    """The line that the job service collects (docs/job-contract.md)."""
    stats = read_family_stats()  # a speech engine has a process of its own
    if final:
        current_span().note(figures(context.metrics) | {"calls.cpu_s": round(stats.cpu_s, 3)})
    context.log.info(
        "metrics",
        cpu_s=round(stats.cpu_s, 3),
        rss_bytes=stats.rss_bytes,
        peak_rss_bytes=stats.peak_rss_bytes,
        final=final,
        **context.metrics,
        **context.copy.figures(),
    )


@contextlib.contextmanager
def _process_files(job_type: JobType) -> Iterator[None]:
    """The pid file of the reference's containers; elsewhere /tmp belongs to everybody, so none."""
    if not Path("/.dockerenv").exists():
        yield
        return
    pid_file = Path(f"/tmp/{_program(job_type)}.pid")  # nosec B108  # the contract names it; job-contract.md
    _write(pid_file, str(os.getpid()))
    try:
        yield
    finally:
        pid_file.unlink(missing_ok=True)


def _exit_code_file(job_type: JobType) -> Path | None:
    in_container = Path("/.dockerenv").exists()
    return Path(f"/tmp/{_program(job_type)}.ecode") if in_container else None  # nosec B108  # the contract names it


def _program(job_type: JobType) -> str:
    return "recorder" if job_type == "recording" else "transcriber"


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text)
    except OSError as error:
        sys.stderr.write(f"{path}: cannot be written: {error.strerror}\n")
