"""The real thing: SFU, job service, stand-in and eight participants as processes, the recorder measured.

The call begins before the recording and everything flows: what is measured is the whole job, from SRTP to the
file on disk. The shim that looks after the job's process is counted with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.recorder_cost.cases import Case
from benchmarks.recorder_cost.measure import Cost, measure, started_at_s, tree
from foundation.process_stats import read_process_stats
from testbed.hosted_call import CallFailed, hosted_call
from testbed.job_watch import log_events
from testbed.stack import Stack

_JOIN_LIMIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One recording."""

    cost: Cost
    """Shim included, but in `rss_mb` and `once_mb`."""
    start_to_started_s: float
    """From the recorder's process to the plugin's `start_at`."""
    peak_rss_mb: float
    """The recorder's and its decoding process's, each in its whole life so far, added up: at most so much was
    resident at once, and libraries that both have are counted twice."""
    figures: dict[str, Any]
    """Its last metrics line."""


async def measure_ours(
    case: Case, film: Path | None, directory: Path, *, warm_up_s: float, seconds: float
) -> Measured:
    """Record `case` in a real call. Raises CallFailed, or what `hosted_call` raises."""
    async with (
        hosted_call(directory, quality=case.quality) as call,
        _senders(call.stack, film),
    ):
        state = await call.start_recording()
        job = call.stack.jobs()[0]
        pid = job.pid
        if pid is None:
            raise CallFailed(f"no process of the recorder in {job.directory}")
        start_s = state["start_at"] / 1000 - started_at_s(pid)
        await asyncio.sleep(warm_up_s)
        shim = _parent(pid)
        cost = await measure([shim], seconds, beside=[shim], count_pages=True)
        if pid not in tree([shim]):
            raise CallFailed(f"the recorder ended early; see {job.log}")
        peak_rss_mb = sum(read_process_stats(one).peak_rss_bytes for one in tree([pid])) / 2**20
        await call.press_stop()
        await call.all_jobs_ended()
        figures = list(log_events(job, "metrics"))[-1]
    return Measured(cost, start_s, peak_rss_mb, figures)


@asynccontextmanager
async def _senders(stack: Stack, film: Path | None) -> AsyncIterator[None]:
    arguments = ["benchmarks.recorder_cost.senders", "--site-url", stack.settings.site_url]
    arguments += ["--world", str(stack.settings.world_file)]
    arguments += ["--screen", str(film)] if film is not None else []
    process = await stack.start_talker("senders", arguments)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(_JOIN_LIMIT_S):
            if (await process.stdout.readline()).strip() != b"joined":
                raise CallFailed(f"the senders did not join; see {stack.log_of('senders')}")
    except TimeoutError:
        raise CallFailed(f"the senders did not join; see {stack.log_of('senders')}") from None
    try:
        yield
    finally:
        stack.release("senders")
        process.stdin.close()


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[1])
