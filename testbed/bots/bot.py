"""One bot: joins, does what the plan says at its time, reports what it saw."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from callclient.client import CallClient, CallClientConfig
from callclient.events import CallEnded, CaptionReceived, JobStateChanged, Joined
from callclient.publish import LocalTrack
from foundation.clock import Clock
from foundation.logs import get_logger
from testbed.bots.faults import Faults, use_wrong_key
from testbed.bots.pacing import DriftingClock, Grid, sleep_until, ticks
from testbed.bots.picture import camera_frame
from testbed.bots.screen import share_screen
from testbed.bots.voice import TICK_NS, VoiceSource
from testbed.bots.world import User
from testbed.scenario import (
    Event,
    Mute,
    RaiseHand,
    React,
    Say,
    ShareScreen,
    StartCamera,
    StopCamera,
    StopScreen,
    Unmute,
)
from testbed.speech.clips import Clip
from testbed.truth import TruthLog

_NS = 1_000_000_000
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Drift:
    """How wrong a bot's devices run, parts per million; sound card and camera have clocks of their own."""

    sound_ppm: float = 0.0
    picture_ppm: float = 0.0


class BotError(Exception):
    """A bot could not do its part."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What all bots share."""

    site_url: str
    channel_id: str
    clips: dict[str, list[Clip]]
    truth: TruthLog
    clock: Clock
    faults: Faults
    zero: asyncio.Future[int]
    """Time 0 of the plan on the monotonic clock, ns; whole seconds of every bot's clock follow from it."""
    over: asyncio.Event
    """Everybody may go home."""
    host: str
    """Name of the bot that joins first: who starts a call is its host."""
    opened: asyncio.Event
    """The host is in the call."""
    report: Report
    """Tells the owner of the bots, one JSON object at a time."""


class Bot:
    """Made for one call. `run` once."""

    def __init__(
        self,
        user: User,
        stage: Stage,
        events: Sequence[Event],
        *,
        rtp_stands_while_muted: bool,
        drift: Drift = Drift(),
    ) -> None:
        """`events` are this bot's own, the first one its join."""
        self._user = user
        self._stage = stage
        self._events = events
        self._drift = drift
        self._client = CallClient(
            CallClientConfig(
                site_url=stage.site_url, auth_token=user.token, channel_id=stage.channel_id
            )
        )
        self._joined = asyncio.Event()
        self._voice = VoiceSource(
            rtp_offset=random.getrandbits(32), rtp_stands_while_muted=rtp_stands_while_muted
        )
        self._workers: asyncio.TaskGroup | None = None
        self._voice_task: asyncio.Task[None] | None = None
        self._screen_task: asyncio.Task[None] | None = None
        self._camera_task: asyncio.Task[None] | None = None
        self._log = get_logger(component="bot", user_id=user.user_id)

    async def run(self) -> None:
        """From the join to the leave.

        Raises:
            CallError: the call could not be joined or was lost.
            BotError: the call ended before the plan did.
        """
        join = self._events[0]
        if join.at_s > 0:
            await self._wait_for(join)
        elif self._user.name != self._stage.host:
            await self._stage.opened.wait()
        async with asyncio.TaskGroup() as tasks:
            self._workers = tasks
            tasks.create_task(self._client.run(), name=f"{self._user.name}-call")
            tasks.create_task(self._read_events(), name=f"{self._user.name}-events")
            await self._joined.wait()
            if self._user.name == self._stage.host:
                self._stage.opened.set()
            await self._perform()
            for task in (self._voice_task, self._screen_task, self._camera_task):
                if task is not None:
                    task.cancel()
            await self._client.leave()

    async def _perform(self) -> None:
        """The plan; a bot that does not leave by plan stays until everything is over."""
        for event in self._events[1:]:
            await self._wait_for(event)
            match event:
                case Unmute():
                    await self._unmute()
                case Mute():
                    await self._mute()
                case Say(clip=number):
                    own = self._stage.clips[self._user.name]
                    self._voice.say(own[number % len(own)])
                case ShareScreen():
                    await self._share_screen()
                case StopScreen():
                    await self._stop_screen()
                case StartCamera():
                    await self._start_camera()
                case StopCamera():
                    await self._stop_camera()
                case React():
                    await self._client.react(name="tada", unified="1f389")
                case RaiseHand(raised=raised):
                    await self._client.raise_hand(raised)
                case _:  # Leave
                    self._mark_left()
                    return
        await self._stage.over.wait()
        self._mark_left()

    async def _wait_for(self, event: Event) -> None:
        zero_ns = await asyncio.shield(self._stage.zero)
        await sleep_until(self._stage.clock, zero_ns + round(event.at_s * _NS))

    # what a bot does

    async def _unmute(self) -> None:
        if self._voice_task is None:
            assert self._workers is not None
            track = await self._client.publish_voice()
            if self._user.name in self._stage.faults.wrong_key:
                use_wrong_key(self._client)
            self._voice_task = self._workers.create_task(
                self._send_voice(track), name=f"{self._user.name}-voice"
            )
        await self._client.set_muted(False)
        self._voice.muted = False
        self._mark("unmute")

    async def _mute(self) -> None:
        self._voice.muted = True
        self._mark("mute")
        await self._client.set_muted(True)

    async def _share_screen(self) -> None:
        assert self._workers is not None
        track, _ = await self._client.start_screen()
        zero_ns = await self._stage.zero
        clock = DriftingClock(self._stage.clock, zero_ns=zero_ns, ppm=self._drift.picture_ppm)
        self._mark("screen_start")
        self._screen_task = self._workers.create_task(
            share_screen(
                track,
                clock=clock,
                zero_ns=zero_ns,
                on_flash=lambda at_ns: self._flashed(clock.true_ns(at_ns)),
            ),
            name=f"{self._user.name}-screen",
        )

    async def _stop_screen(self) -> None:
        self._voice.beeping = False
        if self._screen_task is not None:
            self._screen_task.cancel()
            self._screen_task = None
        self._mark("screen_stop")
        await self._client.stop_screen()

    async def _start_camera(self) -> None:
        assert self._workers is not None
        track = await self._client.start_camera()
        sending = share_screen(
            track,
            clock=self._stage.clock,
            zero_ns=await self._stage.zero,
            on_flash=lambda at_ns: None,
            draw=camera_frame,
        )
        self._camera_task = self._workers.create_task(sending, name=f"{self._user.name}-camera")

    async def _stop_camera(self) -> None:
        if self._camera_task is not None:
            self._camera_task.cancel()
            self._camera_task = None
        await self._client.stop_camera()

    async def _send_voice(self, track: LocalTrack) -> None:
        """Every 20 ms, from a whole tick of the common clock on."""
        stage = self._stage
        author = stage.faults.author(self._user.name)
        delay_ns = round(stage.faults.delay_s.get(self._user.name, 0) * _NS)
        true_grid = Grid(await stage.zero, TICK_NS)
        clock = DriftingClock(stage.clock, zero_ns=true_grid.zero_ns, ppm=self._drift.sound_ppm)
        async for tick in ticks(clock, Grid(true_grid.zero_ns + delay_ns, TICK_NS)):
            packet = self._voice.packet(tick)
            if packet is None:
                continue
            track.send(
                packet.payload,
                rtp_timestamp=packet.rtp_timestamp,
                marker=packet.marker,
                audio_level=packet.level,
            )
            if packet.starts is not None:
                stage.truth.utterance(author, packet.starts, clock.true_ns(true_grid.at_ns(tick)))
            if packet.beep_tick is not None:
                beep_ns = clock.true_ns(true_grid.at_ns(packet.beep_tick))
                stage.truth.mark("beep", self._user.name, beep_ns)

    # what a bot sees

    async def _read_events(self) -> None:
        async for event in self._client.events():
            match event:
                case Joined(session_id=session_id):
                    self._mark("join", session_id=session_id)
                    self._joined.set()
                    self._tell("joined", session_id=session_id)
                case CaptionReceived(session_id=session_id, text=text):
                    now_ns = self._stage.clock.monotonic_ns()
                    self._tell("caption", session_id=session_id, text=text, received_ns=now_ns)
                case JobStateChanged():
                    self._tell(
                        "job_state",
                        kind=event.kind.value,
                        init_at_ms=event.init_at_ms,
                        start_at_ms=event.start_at_ms,
                        end_at_ms=event.end_at_ms,
                        error=event.error,
                    )
                case CallEnded(reason=reason) if not self._stage.over.is_set():
                    raise BotError(f"the call ended for {self._user.name}: {reason}")

    def _flashed(self, at_ns: int) -> None:
        self._stage.truth.mark("flash", self._user.name, at_ns)
        self._voice.beeping = True

    def _mark(self, kind: Any, **more: str) -> None:
        self._stage.truth.mark(kind, self._user.name, self._stage.clock.monotonic_ns(), **more)

    def _mark_left(self) -> None:
        self._log.info("bot.leaving")
        self._mark("leave")

    def _tell(self, event: str, **fields: Any) -> None:
        self._stage.report({"event": event, "bot": self._user.name, **fields})
