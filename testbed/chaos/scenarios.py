"""What else can happen to a job: server away, token revoked, disk full, speech engine killed, SFU gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from testbed.chaos.ground import Ground
from testbed.chaos.schedule import STAGES, JobKind
from testbed.chaos.victim import Story, Victim, finish_story

_CALL_S: Final = 6.0
_DISK_BYTES: Final = 48 << 20
_SMALL_BYTES: Final = 20 << 20
"""What others write on the disk: less than the recorder's reserve is left then."""
_PIECE_S: Final = 4.0
"""The bots' longest sentence and pause: after so long with a halted engine a piece is in its hands."""


async def play(name: str, ground: Ground, *, down_s: float) -> Story:
    """One of them; what it has to come to beyond what every job has to is in the story's complaints."""
    return await _SCENARIOS[ground.job][name](ground, down_s)


async def _down(ground: Ground, down_s: float) -> Story:
    """Mattermost is away from the upload on; it comes back within the job's patience."""
    victim, story = await _recorded(ground)
    await victim.reached(STAGES[ground.job][-2])
    await ground.faults(refuse_bot_status=502)
    began_s = time.monotonic()
    await asyncio.sleep(down_s)
    gone = victim.over
    await ground.faults(refuse_bot_status=0)
    story.exit_code = await victim.ended()
    story.figures["away_s"] = round(time.monotonic() - began_s, 1)
    await _finish(ground, victim, story)
    if gone or story.salvage_code is not None:
        story.complaints.append("the job itself should have waited and published")
    return story


async def _revoked(ground: Ground, _: float) -> Story:
    """A restart of the plugin: kept, and published with the next token."""
    victim, story = await _recorded(ground, before_stop=ground.renew_token)
    story.exit_code = await victim.ended()
    if story.exit_code != 1:
        story.complaints.append(f"ended with code {story.exit_code}, 1 is wanted")
    story.exit_code = 0
    await _finish(ground, victim, story)
    if story.salvage_code is None:
        story.complaints.append("nothing was kept")
    return story


async def _full(ground: Ground, _: float) -> Story:
    """The disk runs full in mid-call: a recording ends well, says so, and what there is is published."""
    async with _small_disk(ground) as disk:
        victim = Victim(ground, await ground.new_job(DATA_DIR=str(disk)))
        story = Story(victim.job_id, None)
        await victim.start()
        try:
            await victim.reached("call")
            await asyncio.sleep(_CALL_S)
            await asyncio.to_thread(_fill, disk / "others", _SMALL_BYTES)
            story.stop_ns = time.monotonic_ns()
            story.exit_code = await victim.ended()
        finally:
            await victim.finish()
        told = await ground.error_of(victim.job_id)
        if "disk is full" not in told:
            story.complaints.append(f"people were told {told!r}")
        if story.exit_code != 1:
            story.complaints.append(f"ended with code {story.exit_code}, 1 is wanted")
        story.exit_code = 0
        await finish_story(ground, victim, story)
        return story


async def _full_of_voices(ground: Ground, _: float) -> Story:
    """Nothing at all is left in mid-call: everything that is said is transcribed and published, and told."""
    async with _small_disk(ground) as disk:
        victim = Victim(ground, await ground.new_job(DATA_DIR=str(disk)))
        story = Story(victim.job_id, None)
        await victim.start()
        try:
            await victim.reached("call")
            await asyncio.sleep(_CALL_S)
            await asyncio.to_thread(_fill_up, disk / "others")
            await asyncio.sleep(_CALL_S)
            story.stop_ns = time.monotonic_ns()
            await ground.stop(victim.job_id)
            story.exit_code = await victim.ended()
        finally:
            await victim.finish()
        _expect(story, victim, capture_write_errors=range(1, 1000), packets_dropped=range(1))
        await finish_story(ground, victim, story)
        return story


async def _engine(ground: Ground, _: float) -> Story:
    """The engine's process is killed in the middle of a piece, in the call and after it: no word is lost."""
    victim = Victim(ground, await ground.new_job())
    story = Story(victim.job_id, None)
    await victim.start()
    try:
        await victim.reached("call")
        await asyncio.sleep(_CALL_S)
        await _signal_engine(victim, signal.SIGSTOP)
        await asyncio.sleep(_PIECE_S)
        await _signal_engine(victim, signal.SIGKILL)
        await asyncio.sleep(_CALL_S)
        await _signal_engine(victim, signal.SIGSTOP)
        await asyncio.sleep(_PIECE_S)
        story.stop_ns = time.monotonic_ns()
        await ground.stop(victim.job_id)
        await victim.reached("decode")
        await _signal_engine(victim, signal.SIGKILL)
        story.exit_code = await victim.ended()
    finally:
        await victim.finish()
    _expect(story, victim, speech_engine_restarts=range(2, 3), segments_failed=range(1))
    await finish_story(ground, victim, story)
    if story.salvage_code is not None:
        story.complaints.append("the job itself should have gone on")
    return story


async def _sfu_gone(ground: Ground, _: float) -> Story:
    """The call's media is gone for good: what was recorded is published without being asked for."""
    victim = Victim(ground, await ground.new_job())
    story = Story(victim.job_id, None)
    await victim.start()
    try:
        await victim.reached("call")
        await asyncio.sleep(_CALL_S)
        story.stop_ns = time.monotonic_ns()
        ground.stack.release("bots")  # they lose their call too
        await ground.stack.crash("sfu")
        if not await victim.reached(STAGES[ground.job][2]):
            story.complaints.append("it never noticed")
        story.exit_code = await victim.ended()
    finally:
        await victim.finish()
    story.figures["noticed_after_s"] = round((time.monotonic_ns() - story.stop_ns) / 1e9, 1)
    await finish_story(ground, victim, story)
    return story


_Play = Callable[[Ground, float], Awaitable[Story]]
_SCENARIOS: Final[Mapping[JobKind, Mapping[str, _Play]]] = {
    "recorder": {
        "down": _down,
        "full": _full,
        "revoked": _revoked,
        "sfu-gone": _sfu_gone,
    },
    "transcriber": {
        "engine": _engine,
        "down": _down,
        "full": _full_of_voices,
        "revoked": _revoked,
        "sfu-gone": _sfu_gone,
    },
}
NAMES: Final[Mapping[JobKind, tuple[str, ...]]] = {
    job: tuple(played) for job, played in _SCENARIOS.items()
}
"""In this order: nothing goes on after the last one."""
SPOIL_OTHERS: Final = frozenset({"revoked", "sfu-gone"})
"""What no other job lives through."""


async def _recorded(
    ground: Ground, *, before_stop: Callable[[], Awaitable[None]] | None = None
) -> tuple[Victim, Story]:
    """A job that was stopped after some seconds of call, and is at its work after the call."""
    victim = Victim(ground, await ground.new_job())
    story = Story(victim.job_id, None)
    await victim.start()
    await victim.reached("call")
    await asyncio.sleep(_CALL_S)
    if before_stop is not None:
        await before_stop()
    story.stop_ns = time.monotonic_ns()
    await ground.stop(victim.job_id)
    return victim, story


async def _finish(ground: Ground, victim: Victim, story: Story) -> None:
    await victim.finish()
    await finish_story(ground, victim, story)


async def _signal_engine(victim: Victim, number: signal.Signals) -> None:
    for pid in await asyncio.to_thread(victim.children):
        os.kill(pid, number)


def _expect(story: Story, victim: Victim, **wanted: range) -> None:
    """Complain of figures in the job's summary that are not as they should be."""
    for name, allowed in wanted.items():
        value = victim.figures.get(name)
        if value not in allowed:
            story.complaints.append(f"the summary has {name}={value}")
        story.figures[name] = -1.0 if value is None else value


@asynccontextmanager
async def _small_disk(ground: Ground) -> AsyncIterator[Path]:
    disk = ground.stack.settings.work_dir / "disk"
    await asyncio.to_thread(_mount, disk)
    try:
        yield disk
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(disk)], check=True)


def _mount(directory: Path) -> None:
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(directory)]
    subprocess.run(command, check=True, capture_output=True)


def _fill(path: Path, size_bytes: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    finally:
        os.close(descriptor)


def _fill_up(path: Path) -> None:
    """To the last page, whatever others write meanwhile."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for part_bytes in (1 << 20, 1 << 12):
            with suppress(OSError):
                while os.write(descriptor, bytes(part_bytes)) == part_bytes:
                    pass
    finally:
        os.close(descriptor)


def possible(job: JobKind) -> tuple[str, ...]:
    """Those that can be played here: a small disk needs root and `mount`."""
    may_mount = os.geteuid() == 0 and shutil.which("mount") is not None
    return tuple(name for name in NAMES[job] if name != "full" or may_mount)
