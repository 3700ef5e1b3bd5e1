"""One job process: started, followed through its stages by its log, killed, and finished by `salvage`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from testbed.chaos.ground import Ground
from testbed.chaos.schedule import SLOWED, STAGES, JobKind, Kill

_BEGINS: Final[Mapping[JobKind, Mapping[str, str]]] = {
    "recorder": {
        "started": "call",
        "call.over": "stop",
        "recording.written": "remux",
        "recording.ready": "upload",
        "progress publish": "publish",
    },
    "transcriber": {
        "started": "call",
        "call.over": "hang-up",
        "captures.complete": "decode",
        "transcript.ready": "publish",
    },
}
"""Log event (of `progress` with its stage) to the stage that begins with it."""
_HALTED_S: Final = 0.018
_MOVING_S: Final = 0.002
"""Of slow motion: how long the job stands still and goes on by turns."""
_LIMIT_S: Final = 90.0
_SALVAGE_LIMIT_S: Final = 120.0


@dataclass(slots=True)
class Story:
    """What became of one job."""

    job_id: str
    wish: Kill | None
    hit: str = ""
    """The stage in which the signal came; empty: it had ended before."""
    zero_ms: int = 0
    """0: it never started."""
    stop_ns: int = 0
    """When it was asked to stop, on the monotonic clock; 0: never."""
    kill_ns: int = 0
    exit_code: int | None = None
    salvage_code: int | None = None
    """None: there was nothing to salvage."""
    salvage_s: float = 0.0
    left: tuple[str, ...] = ()
    """Files in its directory at the very end."""
    posts: tuple[dict[str, Any], ...] = ()
    complaints: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    """What judging has measured."""


class Victim:
    """A job's process. `start`, then anything else."""

    def __init__(self, ground: Ground, environ: Mapping[str, str]) -> None:
        self._ground = ground
        self._environ = dict(environ)
        self.job_id = ground.job_id(environ)
        self.stage = "join"
        self._reached = {stage: asyncio.Event() for stage in STAGES[ground.job]}
        self._reached["join"].set()
        self.figures: dict[str, float] = {}
        """Of the job's newest metrics line."""
        self._log = ground.stack.settings.log_dir / f"{ground.job}-{self.job_id}.log"

    @property
    def directory(self) -> Path:
        return Path(self._environ["DATA_DIR"]) / self.job_id

    def children(self) -> list[int]:
        """Processes that the job has started and that run. Blocks for a moment."""
        return children_of(self._process.pid)

    @property
    def over(self) -> bool:
        return self._process.returncode is not None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._ground.program,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        self._following = asyncio.create_task(self._follow(), name="victim-log")

    async def reached(self, stage: str) -> bool:
        """Wait for a stage; False: the process ended without it."""
        waiting = asyncio.create_task(self._reached[stage].wait())
        async with asyncio.timeout(_LIMIT_S):
            await asyncio.wait([waiting, self._following], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return self._reached[stage].is_set()

    def send(self, number: signal.Signals) -> bool:
        """False: it has ended already."""
        if self._process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return True

    @contextlib.asynccontextmanager
    async def slow_motion(self) -> AsyncIterator[None]:
        """Within the block the job gets a tenth of its time, if so much; afterwards it goes on as ever."""
        halting = asyncio.create_task(self._halt_again_and_again(), name="slow-motion")
        try:
            yield
        finally:
            halting.cancel()
            await asyncio.gather(halting, return_exceptions=True)
            self.send(signal.SIGCONT)

    async def _halt_again_and_again(self) -> None:
        while self.send(signal.SIGSTOP):
            await asyncio.sleep(_HALTED_S)
            self.send(signal.SIGCONT)
            await asyncio.sleep(_MOVING_S)

    async def ended(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        async with asyncio.timeout(_LIMIT_S):
            await self._following
            return await self._process.wait()

    async def finish(self) -> None:
        """Whatever happened, no process is left."""
        if self._process.returncode is None:
            self._process.kill()
        await self._following
        await self._process.wait()

    async def salvage(self) -> int:
        """Finish it in another process, with the newest token; its exit code."""
        environ = self._environ | {"AUTH_TOKEN": self._ground.token}
        with await asyncio.to_thread(self._log.open, "ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._ground.program,
                "salvage",
                str(self.directory),
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )
        try:
            async with asyncio.timeout(_SALVAGE_LIMIT_S):
                return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _follow(self) -> None:
        assert self._process.stderr is not None
        begins = _BEGINS[self._ground.job]
        with await asyncio.to_thread(self._log.open, "wb") as log:
            async for line in self._process.stderr:
                log.write(line)
                record = _record(line)
                if record.get("event") == "metrics":
                    self.figures = {
                        key: value for key, value in record.items() if type(value) in (int, float)
                    }
                stage = begins.get(_event(record))
                if stage is not None and not self._reached[stage].is_set():
                    self.stage = stage
                    self._reached[stage].set()


async def kill_one(ground: Ground, kill: Kill) -> Story:
    """Start a job, kill it as planned, salvage it; all but the judgement."""
    environ = await ground.new_job()
    victim = Victim(ground, environ)
    story = Story(victim.job_id, kill)
    await victim.start()
    stopping = asyncio.create_task(_stop_in_time(ground, victim, kill, story))
    try:
        async with contextlib.AsyncExitStack() as until_killed:
            if await victim.reached(kill.stage):
                if kill.stage in SLOWED:
                    await until_killed.enter_async_context(victim.slow_motion())
                await asyncio.sleep(kill.after_s)
            # First the clock: what came later may be lost.
            story.kill_ns = time.monotonic_ns()
            if victim.send(kill.signal):
                story.hit = victim.stage
        story.exit_code = await victim.ended()
        if story.hit:
            story.hit = victim.stage if kill.signal is signal.SIGKILL else story.hit
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await victim.finish()
    await finish_story(ground, victim, story)
    return story


async def finish_story(ground: Ground, victim: Victim, story: Story) -> None:
    """Salvage what is left, and note what is there then."""
    story.zero_ms = await ground.zero_ms(victim.job_id)
    if await asyncio.to_thread((victim.directory / "job.json").exists):
        began_s = time.monotonic()
        story.salvage_code = await victim.salvage()
        story.salvage_s = time.monotonic() - began_s
    story.left = await asyncio.to_thread(_names, victim.directory)
    story.posts = tuple(await ground.posts_of(victim.job_id))


async def _stop_in_time(ground: Ground, victim: Victim, kill: Kill, story: Story) -> None:
    if kill.stage not in ("join", "call") and await victim.reached("call"):
        await asyncio.sleep(kill.call_s)
        story.stop_ns = time.monotonic_ns()
        await ground.stop(victim.job_id)


def _names(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in directory.glob("*"))) if directory.exists() else ()


def children_of(pid: int) -> list[int]:
    """By proc(5)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            text = stat.read_text(encoding="utf-8", errors="replace")
            if int(text[text.rindex(")") + 2 :].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _event(record: Mapping[str, Any]) -> str:
    event = str(record.get("event"))
    return f"progress {record.get('stage')}" if event == "progress" else event
