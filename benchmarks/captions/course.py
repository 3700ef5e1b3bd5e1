"""One measured call: the product up, eight bots in, recorded, captioned by its own job, on the same cores.

Captions are timed where a server gets them: at the stand-in's socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.captions.judging import Caption, PhaseResult, judge
from benchmarks.captions.talk import SPEAKERS, Phase, Talk
from foundation.process_stats import read_process_stats
from testbed.bots.bot import Stage
from testbed.bots.on_stage import Player, on_stage
from testbed.bots.world import World
from testbed.hosted_call import CallFailed, HostedCall, hosted_call
from testbed.polling import until
from testbed.speech.clips import Clip
from testbed.truth import Utterance, read_truth

_MODELS: Final = Path(__file__).parents[2] / "models"
_LIMIT_S: Final = 40.0
_GO_DELAY_NS: Final = 500_000_000
_SETTLE_S: Final = 1.5
"""After the end of the plan: the transcriber's last line of figures."""
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of captioning."""

    phases: Sequence[PhaseResult]
    cpu_s_per_s: Mapping[str, float]
    """Of the transcriber, by phase."""
    backlog_s: Mapping[str, float]
    """Largest audio of a speaker that waited, by phase."""
    rss_mb: Mapping[str, float]
    """Largest memory of the transcriber, by phase."""
    others_cpu_s_per_s: float
    """SFU, recorder, stand-in, job service and bots, all through the talk."""
    most_messages_per_s: int
    longest_message: int
    """Characters."""
    figures: Mapping[str, Any]
    """The transcriber's own last ones."""


async def measure(
    way: str, talk: Talk, clips: Mapping[str, list[Clip]], directory: Path
) -> Measured:
    """Takes as long as the talk and a few seconds. Raises what `hosted_call` and `on_stage` raise."""
    truth_file = directory / "truth.jsonl"
    async with (
        hosted_call(directory) as call,
        on_stage(
            _players(call.world, talk),
            site_url=call.stack.settings.site_url,
            channel_id=call.channel_id,
            host=SPEAKERS[0],
            clips=clips,
            truth_file=truth_file,
        ) as stage,
    ):
        await call.start_recording()
        measured = await _Run(way, talk, directory, call, stage).measure()
        await call.press_stop()
    return measured


class _Run:
    def __init__(
        self, way: str, talk: Talk, directory: Path, call: HostedCall, stage: Stage
    ) -> None:
        self._way = way
        self._talk = talk
        self._directory = directory
        self._call = call
        self._stage = stage

    async def measure(self) -> Measured:
        stage = self._stage
        log = self._directory / "logs" / "transcriber.log"
        process = await self._start_transcriber(log)
        try:
            await self._until_started(process, log)
            zero_ns = stage.clock.monotonic_ns() + _GO_DELAY_NS
            stage.zero.set_result(zero_ns)
            await _sleep_until(stage, zero_ns)
            self._call.stack.sample()
            others_s = self._others_cpu_s()
            cpu_s: dict[str, float] = {}
            for phase in self._talk.phases:
                await _sleep_until(stage, zero_ns + round(phase.start_s * _NS))
                begun_s = _cpu_s(process, log)
                await _sleep_until(stage, zero_ns + round(phase.end_s * _NS))
                used_s = _cpu_s(process, log) - begun_s
                cpu_s[phase.name] = used_s / (phase.end_s - phase.start_s)
            await _sleep_until(stage, zero_ns + round((self._talk.end_s + _SETTLE_S) * _NS))
            self._call.stack.sample()
            others_s = (self._others_cpu_s() - others_s) / self._talk.end_s
            captions = (await self._call.http.get("/testbed/captions")).raise_for_status().json()
        finally:
            # Its final text would take as long as it takes; captions are over.
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return self._judge(captions, log, zero_ns=zero_ns, cpu_s=cpu_s, others_s=others_s)

    async def _start_transcriber(self, log: Path) -> asyncio.subprocess.Process:
        answer = await self._call.http.post("/testbed/spare_jobs", json={"type": "transcribing"})
        job = answer.raise_for_status().json()
        self._job_id = job["job_id"]
        settings = self._call.stack.settings
        document = json.loads(settings.world_file.read_text(encoding="utf-8"))
        environment = {
            **{key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ},
            "PYTHONUNBUFFERED": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "SITE_URL": settings.site_url,
            "CALL_ID": job["channel_id"],
            "POST_ID": job["post_id"],
            "AUTH_TOKEN": document["bot"]["token"],
            "TRANSCRIPTION_ID": job["job_id"],
            "DATA_DIR": str(self._directory / "work" / "captioned"),
            "MODELS_DIR": str(_MODELS),
            "MODEL_SIZE": "base",
            "LIVE_CAPTIONS_ON": "true",
            "LIVE_CAPTIONS_MODEL_SIZE": "base",
        }
        with log.open("ab") as file:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.captions.transcriber",
                self._way,
                env=environment,
                cwd=Path(__file__).parents[2],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    async def _until_started(self, process: asyncio.subprocess.Process, log: Path) -> None:
        async def started() -> bool:
            state = (await self._call.http.get(f"/testbed/spare_jobs/{self._job_id}")).json()
            if state["err"] or process.returncode is not None:
                raise CallFailed(f"the transcriber did not start; see {log}")
            return bool(state["start_at"])

        what = f"the transcriber's start, see {log}"
        await until(started, what, limit_s=_LIMIT_S, failure=CallFailed)

    def _judge(
        self,
        captions: Sequence[Mapping[str, Any]],
        log: Path,
        *,
        zero_ns: int,
        cpu_s: Mapping[str, float],
        others_s: float,
    ) -> Measured:
        told = read_truth(self._directory / "truth.jsonl")
        got = [
            Caption(
                (told.monotonic_ns(caption["at_ms"]) - zero_ns) / _NS,
                told.sessions[caption["session_id"]],
                caption["text"],
            )
            for caption in captions
        ]
        said: dict[str, list[Utterance]] = {}
        for utterance in told.utterances:
            said.setdefault(utterance.bot, []).append(utterance)
        lines = _metrics(log, zero_s=zero_ns / _NS + told.epoch_offset_ns / _NS)
        phases = self._talk.phases
        return Measured(
            phases=judge(got, said, phases, zero_ns=zero_ns),
            cpu_s_per_s=cpu_s,
            backlog_s=_largest(lines, phases, "caption_backlog_s"),
            rss_mb={
                name: value / 2**20 for name, value in _largest(lines, phases, "rss_bytes").items()
            },
            others_cpu_s_per_s=others_s,
            most_messages_per_s=_most_per_s([caption.at_s for caption in got]),
            longest_message=max((len(caption.text) for caption in got), default=0),
            figures=lines[-1][1] if lines else {},
        )

    def _others_cpu_s(self) -> float:
        """Everybody but the transcriber; the bots live in this process."""
        return sum(p.cpu_s for p in self._call.stack.figures()) + read_process_stats().cpu_s


def _players(world: World, talk: Talk) -> list[Player]:
    """Two sessions of each user: the stand-in knows four people, and a session is what talks."""
    # The host presses record, so that one begins the call.
    users = [world.users[world.host], *(u for u in world.users.values() if u.name != world.host)]
    return [
        Player(replace(users[number % len(users)], name=name), talk.events[name])
        for number, name in enumerate(SPEAKERS)
    ]


async def _sleep_until(stage: Stage, at_ns: int) -> None:
    await asyncio.sleep(max(0.0, (at_ns - stage.clock.monotonic_ns()) / _NS))


def _cpu_s(process: asyncio.subprocess.Process, log: Path) -> float:
    try:
        return read_process_stats(process.pid).cpu_s
    except ProcessLookupError:
        raise CallFailed(f"the transcriber ended early; see {log}") from None


def _metrics(log: Path, *, zero_s: float) -> list[tuple[float, dict[str, Any]]]:
    """The job's lines of figures with their call time; `zero_s`: call time 0 as seconds of the epoch."""
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get("event") == "metrics":
                found.append((_epoch_s(record) - zero_s, record))
    return found


def _epoch_s(record: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(str(record["time"])).timestamp()


def _largest(
    lines: Sequence[tuple[float, Mapping[str, Any]]], phases: Sequence[Phase], key: str
) -> dict[str, float]:
    return {
        phase.name: max(
            (
                float(record.get(key, 0))
                for at_s, record in lines
                if phase.start_s <= at_s <= phase.end_s + 2.0
            ),
            default=0.0,
        )
        for phase in phases
    }


def _most_per_s(times_s: Sequence[float]) -> int:
    ordered = sorted(times_s)
    return max(
        (sum(1 for other in ordered if at_s <= other < at_s + 1.0) for at_s in ordered), default=0
    )
