"""Engine calls that raise, hang or come back late: each costs its job only, until too many hang."""

from __future__ import annotations

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from jobs.transcriber.engines.base import EngineError
from jobs.transcriber.workers import EngineStuck, EngineThreads


class Job:
    """Runs `work` in the thread; hangs until `go` when it has none."""

    def __init__(self, work=None, *, limit_s: float = 20.0) -> None:
        self.limit_s = limit_s
        self.go = threading.Event()
        self.thread = ""
        self._work = work or self.go.wait

    def run(self) -> None:
        self.thread = threading.current_thread().ident
        self._work()

    def settle(self, error, *, cost_s) -> None:
        raise NotImplementedError


def fail(error: BaseException):
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.fixture
async def threads():
    made = EngineThreads(workers=1)
    yield made
    made.close()


async def test_a_thread_is_used_again_after_a_call_that_raised(threads) -> None:
    first, second = Job(fail(EngineError("on purpose"))), Job(lambda: None)
    with pytest.raises(EngineError, match="on purpose"):
        await threads.execute(first)
    await threads.execute(second)
    assert first.thread == second.thread
    assert threads.replaced == 0


async def test_what_would_end_a_thread_is_an_error_of_its_job(threads) -> None:
    with pytest.raises(EngineError, match="SystemExit"):
        await threads.execute(Job(fail(SystemExit(1))))
    await threads.execute(Job(lambda: None))


async def test_a_hanging_call_is_left_behind_counted_and_another_thread_goes_on(threads) -> None:
    stuck, next_one = Job(limit_s=0.02), Job(lambda: None)
    with pytest.raises(EngineStuck, match=r"within 0\.02 s"):
        await threads.execute(stuck)
    await threads.execute(next_one)
    assert threads.replaced == 1
    assert next_one.thread != stuck.thread
    stuck.go.set()


@pytest.mark.documents("a-part-of-a-job-that-fails/5", "a-part-of-a-job-that-fails/6")
async def test_an_engine_that_hangs_again_and_again_is_given_up_until_a_call_comes_back(
    threads, documented
) -> None:
    stuck = [Job(limit_s=0.02) for _ in range(2)]
    with capture_logs() as lines:
        for job in stuck:
            with pytest.raises(EngineStuck):
                await threads.execute(job)
        await threads.until_gone()
    documented("a-part-of-a-job-that-fails/5", lines[0]["event"])
    documented("a-part-of-a-job-that-fails/6", lines[-1]["event"])
    waiting = asyncio.ensure_future(threads.execute(Job(lambda: None)))
    await asyncio.sleep(0)
    assert not waiting.done()
    stuck[0].go.set()
    await waiting
    stuck[1].go.set()


async def test_a_cancelled_call_keeps_its_thread_until_it_is_over(threads) -> None:
    job = Job()
    running = asyncio.ensure_future(threads.execute(job))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    other = Job(lambda: None)
    await threads.execute(other)
    assert other.thread != job.thread
    job.go.set()
