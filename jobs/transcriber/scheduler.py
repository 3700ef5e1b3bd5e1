"""Who gets the speech engine next: a few workers, several sources of work in a fixed order of priority.

Work is pulled when a worker is free, never pushed into a queue, so a job is always made from the newest
audio and nothing can pile up here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from foundation.logs import get_logger

_log = get_logger(component="scheduler")


class SpeechJob(Protocol):
    """One call of an engine and what follows from it."""

    @property
    def limit_s(self) -> float:
        """A call that takes longer hangs, see `workers`."""

    def run(self) -> None:
        """Do the work; in a worker thread. May raise."""

    def settle(self, error: Exception | None, *, cost_s: float) -> None:
        """Take the result over, or learn that `run` raised; on the event loop, exactly once."""


class WorkSource(Protocol):
    """Knows what is worth doing."""

    def next_job(self, now_s: float) -> SpeechJob | None:
        """The most urgent job that may start now, or None. A job handed out counts as running."""


Execute = Callable[[SpeechJob], Awaitable[None]]


class SpeechScheduler:
    """Runs jobs of the sources, the first source's first. Call `notify` whenever a source has news."""

    def __init__(
        self, sources: Sequence[WorkSource], *, workers: int, execute: Execute | Executor
    ) -> None:
        """`execute` runs a job without blocking the loop: an executor, or a test's substitute."""
        self._sources = tuple(sources)
        self._workers = workers
        self._execute: Execute = _in_executor(execute) if isinstance(execute, Executor) else execute
        self._news = asyncio.Event()
        self._running = 0
        self.jobs_done = 0
        self.jobs_failed = 0

    @property
    def running(self) -> int:
        """Jobs at work now."""
        return self._running

    def notify(self) -> None:
        """Something may have become due."""
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                while self._running < self._workers:
                    job = self._pick()
                    if job is None:
                        break
                    self._running += 1
                    group.create_task(self._do(job), name="speech-job")
                await self._news.wait()

    def _pick(self) -> SpeechJob | None:
        now_s = asyncio.get_running_loop().time()
        for source in self._sources:
            job = source.next_job(now_s)
            if job is not None:
                return job
        return None

    async def _do(self, job: SpeechJob) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        failure: Exception | None = None
        try:
            await self._execute(job)
            self.jobs_done += 1
        except Exception as error:  # noqa: BLE001 - whatever an engine throws costs this job only
            self.jobs_failed += 1
            failure = error
            _log.warning("speech_job.failed", error_type=type(error).__name__)
        finally:
            self._running -= 1
            self._news.set()
        job.settle(failure, cost_s=loop.time() - started_s)


def _in_executor(executor: Executor) -> Execute:
    async def execute(job: SpeechJob) -> None:
        await asyncio.get_running_loop().run_in_executor(executor, job.run)

    return execute
