"""The course of a soak: the product up, bots in, recorded, stopped, the post's file fetched.

Without a transcription: the recorder is alone with the call. The bots run in this process.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from foundation.clock import SystemClock
from testbed.analysis.call import Call
from testbed.bots.bot import Drift
from testbed.bots.on_stage import Player, on_stage
from testbed.hosted_call import HostedCall, hosted_call
from testbed.job_watch import JobProcess
from testbed.plugin.job_service import QUALITIES, RecordingQuality
from testbed.ports import Ports
from testbed.scenario import Event
from testbed.soaks.loss import LossyPort
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips
from testbed.truth import read_truth

_NS: Final = 1_000_000_000
_GO_DELAY_NS: Final = 300_000_000
_SPARE_MINUTES: Final = 5


@dataclass(frozen=True, slots=True)
class Stay:
    """Somebody's time in the call. The same person may come again later."""

    bot: str
    events: tuple[Event, ...]
    """The first one is the join, in order of time."""
    drift: Drift = field(default_factory=Drift)
    rtp_stands_while_muted: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """What is to be recorded."""

    stays: tuple[Stay, ...]
    end_s: float
    """When the host stops the recording."""
    loss: float = 0.0
    """Share of the SFU's packets that are lost."""
    cameras: bool = False
    quality: str = "medium"
    """The recording's profile (calls-plugin.md 6.3)."""

    @property
    def profile(self) -> RecordingQuality:
        return QUALITIES[self.quality]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of it."""

    call: Call
    path: Path
    width_px: int
    height_px: int
    packets_passed: int
    """From the SFU to anybody; counted when there is loss."""
    packets_lost: int


Sampled = Callable[[JobProcess, float], None]
"""Called with the recorder and the time since its start, s, while the call goes on."""


async def record(
    course: Course,
    output: Path,
    *,
    sampled: Sampled = lambda job, at_s: None,
    sample_every_s: float = 10.0,
) -> Recorded:
    """Record it into `output`, in which logs stay; takes as long as the call.

    The plugin's longest recording is made to allow for it.

    Raises:
        CallFailed, ThreadError: a step took too long, or was refused.
        LossUnavailable: no iptables, or not the right to use it.
        PortTaken, StartFailed, ProcessDied: a server did not come up, or is gone.
        CallError, BotError: as `on_stage` says.
    """
    ports = Ports.free()
    path, truth_file = output / "recording.mp4", output / "truth.jsonl"
    async with (
        LossyPort(ports.media, loss=course.loss) as network,
        hosted_call(
            output,
            ports=ports,
            quality=course.quality,
            max_recording_minutes=max(60, math.ceil(course.end_s / 60) + _SPARE_MINUTES),
        ) as call,
    ):
        await call.configure(EnableVideo=course.cameras)
        names = sorted({stay.bot for stay in course.stays})
        async with on_stage(
            [_player(call, stay) for stay in course.stays],
            site_url=call.stack.settings.site_url,
            channel_id=call.channel_id,
            host=call.world.host,
            clips=await asyncio.to_thread(load_clips, CLIPS_DIRECTORY, speakers=names),
            truth_file=truth_file,
        ) as stage:
            await call.start_recording()
            zero_ns = stage.clock.monotonic_ns() + _GO_DELAY_NS
            stage.zero.set_result(zero_ns)
            end_ns = zero_ns + round(course.end_s * _NS)
            await _sample_until(end_ns, call, sampled, sample_every_s)
            recording = await call.stop_recording()
        await call.download_recording(path)
    told = await asyncio.to_thread(read_truth, truth_file)
    recorded = Call(
        told,
        call.world.users,
        zero_ns=told.monotonic_ns(recording["start_at"]),
        end_ns=told.monotonic_ns(recording["end_at"]),
    )
    profile = course.profile
    return Recorded(recorded, path, profile.width, profile.height, network.passed, network.lost)


def _player(call: HostedCall, stay: Stay) -> Player:
    return Player(
        call.world.users[stay.bot],
        stay.events,
        rtp_stands_while_muted=stay.rtp_stands_while_muted,
        drift=stay.drift,
    )


async def _sample_until(
    end_ns: int, call: HostedCall, sampled: Sampled, sample_every_s: float
) -> None:
    clock, begun_ns = SystemClock(), SystemClock().monotonic_ns()
    while (rest_s := (end_ns - clock.monotonic_ns()) / _NS) > 0:
        await asyncio.sleep(min(rest_s, sample_every_s))
        for job in call.stack.jobs():
            sampled(job, (clock.monotonic_ns() - begun_ns) / _NS)
