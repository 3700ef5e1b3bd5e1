"""Single steps of the demo that need no state of their own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from testbed.analysis.call import Call
from testbed.demo.conversation import CallFailed, Conversation
from testbed.demo.show import JobProgress
from testbed.demo.thread import Results
from testbed.job_watch import JobProcess, log_events
from testbed.polling import until
from testbed.servers import read_line
from testbed.stack import Stack
from testbed.truth import read_truth

_WATCH_MOMENT_S: Final = 1.5
_LOG_LIMIT_S: Final = 5.0
_RESULT_NAMES: Final = (
    "recording.mp4",
    "transcript.vtt",
    "transcript.txt",
    "captions.jsonl",
    "truth.jsonl",
    "summary.json",
)


async def while_watched(
    stack: Stack, work: Coroutine[Any, Any, tuple[Call, Results]]
) -> tuple[Call, Results]:
    """The result of `work`, unless a needed process dies first; the death explains any other error."""
    working = asyncio.create_task(work, name="demo")
    watching = asyncio.create_task(stack.watch(), name="watch")
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        if working.done() and not working.cancelled() and working.exception() is not None:
            # The work often notices a second before the watch does.
            await asyncio.wait([watching], timeout=_WATCH_MOMENT_S)
        if watching.done():
            await watching
        return await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def listen(bots: asyncio.subprocess.Process, conversation: Conversation) -> None:
    """Tell the conversation what the bots print, until they end."""
    assert bots.stdout is not None
    async for line in bots.stdout:
        record = read_line(line)
        if record is not None:
            await conversation.tell(record)


def command(bots: asyncio.subprocess.Process, word: str) -> None:
    """`go` or `leave`."""
    assert bots.stdin is not None
    bots.stdin.write(f"{word}\n".encode())


def show_progress(stack: Stack, bars: JobProgress) -> None:
    """What the jobs' logs tell of uploads and transcription."""
    for job in stack.jobs():
        for record in log_events(job, "progress"):
            bars.update(job.name, record["stage"], int(record["done"]), int(record["total"]))


def with_whole_truth(call: Call, truth_file: Path) -> Call:
    """The call as seen at the stop, with what the bots wrote until they left."""
    return replace(call, truth=read_truth(truth_file))


async def joined_after_s(job: JobProcess) -> float:
    """From the job's log, which tells it a moment after the plugin knows."""

    async def logged() -> dict[str, Any] | None:
        return next(log_events(job, "started"), None)

    record = await until(
        logged, f"the start in the {job.name}'s log", limit_s=_LOG_LIMIT_S, failure=CallFailed
    )
    return float(record["joined_after_s"])


def make_room(output: Path, work_dir: Path, logs: Path) -> None:
    """Remove what an earlier run left; nothing else in the output directory is touched."""
    for directory in (work_dir, logs):
        shutil.rmtree(directory, ignore_errors=True)
    for name in _RESULT_NAMES:
        (output / name).unlink(missing_ok=True)
    work_dir.mkdir(parents=True, mode=0o700)
    logs.mkdir()
