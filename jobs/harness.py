"""What every job's process does: logs, signals, metrics lines, files with pid and exit code.

The job's own part is one coroutine; how it ends decides the exit code (calls-plugin.md 9).
"""

from __future__ import annotations

import asyncio
import contextlib
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
from foundation.process_stats import read_process_stats
from foundation.shutdown import Shutdown, shutdown_on_signals
from jobs.settings import JobSettings
from jobs.status import JobType, StatusReporter

METRICS_INTERVAL_S = 10.0
_PROGRESS_INTERVAL_S = 1.0
T = TypeVar("T")


class StartFailed(Exception):
    """The job could not begin; the message is one plain sentence for the people in the call.

    Reported as `failed`; the exit code is 0, because the report is the result (trap 48).
    """


class Interrupted(Exception):
    """A second signal: what is not published yet stays in the job's directory."""


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
    _last_progress: dict[str, float] = field(default_factory=dict)

    async def report_started(self) -> None:
        """Tell the plugin, and the log how long it took. Raises ApiError."""
        await self.status.started()
        self.log.info("started", joined_after_s=round(time.monotonic() - self.started_at, 3))

    def progress(self, stage: str, done: int, total: int) -> None:
        """A line for whoever waits: stage is upload, transcribe or publish; at most one a second."""
        now = time.monotonic()
        if done < total and now - self._last_progress.get(stage, 0.0) < _PROGRESS_INTERVAL_S:
            return
        self._last_progress[stage] = now
        self.log.info("progress", stage=stage, done=done, total=total)

    async def unless_hurried(self, work: Awaitable[T]) -> T:
        """Finish `work`, which may take minutes, unless a second signal comes (trap 47).

        Raises:
            Interrupted: it came; `work` was cancelled.
        """
        working = asyncio.ensure_future(work)
        hurry = asyncio.create_task(self.shutdown.hurry.wait(), name="hurry")
        try:
            await asyncio.wait([working, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Interrupted("a second signal came; `salvage` can finish the job")
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
    with _process_files(job_type):
        code = uvloop.run(_run(job, settings, job_type))
        _write(_exit_code_file(job_type), str(code))
    return code


async def _run(job: Job, settings: JobSettings, job_type: JobType) -> int:
    log = get_logger(component=job_type)
    async with PluginApi(
        site_url=settings.site_url, auth_token=settings.auth_token, ca_file=settings.ca_file
    ) as api:
        with shutdown_on_signals() as shutdown:
            context = JobContext(
                settings=settings,
                api=api,
                status=StatusReporter(api, settings, job_type),
                shutdown=shutdown,
                log=log,
            )
            metrics = asyncio.create_task(_log_metrics(context), name="metrics")
            try:
                return await _outcome(job, context)
            finally:
                metrics.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await metrics
                log_metrics(context, final=True)


async def _outcome(job: Job, context: JobContext) -> int:
    try:
        await job(context)
    except StartFailed as error:
        context.log.error("start.failed", reason=str(error))
        await context.status.failed(str(error))
        return 0
    except Exception:
        context.log.exception("job.failed")
        return 1
    return 0


async def _log_metrics(context: JobContext) -> None:
    while True:
        await asyncio.sleep(METRICS_INTERVAL_S)
        log_metrics(context)


def log_metrics(context: JobContext, *, final: bool = False) -> None:
    """The line that the job service collects (docs/job-contract.md)."""
    stats = read_process_stats()
    context.log.info(
        "metrics",
        cpu_s=round(stats.cpu_s, 3),
        rss_bytes=stats.rss_bytes,
        peak_rss_bytes=stats.peak_rss_bytes,
        final=final,
        **context.metrics,
    )


@contextlib.contextmanager
def _process_files(job_type: JobType) -> Iterator[None]:
    """The pid file of the reference's containers; elsewhere /tmp belongs to everybody, so none."""
    if not Path("/.dockerenv").exists():
        yield
        return
    pid_file = Path(f"/tmp/{_program(job_type)}.pid")
    _write(pid_file, str(os.getpid()))
    try:
        yield
    finally:
        pid_file.unlink(missing_ok=True)


def _exit_code_file(job_type: JobType) -> Path | None:
    in_container = Path("/.dockerenv").exists()
    return Path(f"/tmp/{_program(job_type)}.ecode") if in_container else None


def _program(job_type: JobType) -> str:
    return "recorder" if job_type == "recording" else "transcriber"


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text)
    except OSError as error:
        sys.stderr.write(f"{path}: cannot be written: {error.strerror}\n")
