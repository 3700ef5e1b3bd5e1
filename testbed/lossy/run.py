"""One call, several listeners at once, each behind weather of its own; their verdicts."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from callclient.publish import LocalTrack
from callclient.receive.latency import CAPTIONS, RECORDING, LatencyBudget
from rtc.sdp import MediaKind, Msid
from rtc.sections import LocalMedia
from sfu.messages import RtcType
from sfu.server import SfuServer
from testbed.lossy import iptables
from testbed.lossy.listener import Listener
from testbed.lossy.member import Member
from testbed.lossy.proxy import LossyProxy
from testbed.lossy.sources import ScreenSource, VoiceSource, voice_packets
from testbed.lossy.standstill import Standstill
from testbed.lossy.verdict import ScreenVerdict, VoiceVerdict, judge_screen, judge_voice
from testbed.lossy.weather import Weather

_NS: Final = 1_000_000_000
_DRAIN_S: Final = 1.5
_BURST_EVERY_S: Final = 6.0
BUDGETS: Final[dict[str, LatencyBudget]] = {"RECORDING": RECORDING, "CAPTIONS": CAPTIONS}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one listener goes through."""

    loss: float
    jitter_ms: int
    budget: str = "RECORDING"
    """A key of BUDGETS."""

    @property
    def weather(self) -> Weather:
        """Both ways. Where there is loss there are bursts of it too."""
        every_s = _BURST_EVERY_S if self.loss else 0.0
        return Weather(self.loss, self.jitter_ms, burst_every_s=every_s)

    def __str__(self) -> str:
        return f"{self.loss:.0%} loss, {self.jitter_ms} ms jitter, {self.budget}"


@dataclass(slots=True)
class CellReport:
    """What came of it."""

    cell: Cell
    voices: dict[str, VoiceVerdict] = field(default_factory=dict)
    screen: ScreenVerdict | None = None
    """None: it was not looked at."""
    missing: list[str] = field(default_factory=list)
    """Publishers of whom nothing came at all."""
    standstill_s: float = 0.0
    """For so long at most the bench was not served; all allowances are wider by it."""

    def complaints(self) -> list[str]:
        """What is not as it should be; empty when all is well."""
        found = [f"{name} was not heard" for name in self.missing]
        budget = BUDGETS[self.cell.budget]
        placed = (
            budget is RECORDING
        )  # what cannot wait cannot be placed as well (docs/receiving.md)
        still_s = self.standstill_s
        in_time = self.cell.jitter_ms / 1000 + still_s < budget.audio_wait_s
        for name, voice in self.voices.items():
            complaints = voice.complaints(placed=placed, in_time=in_time, still_s=still_s)
            found += [f"{name}: {text}" for text in complaints]
        if self.screen is not None:
            found += [f"screen: {text}" for text in self.screen.complaints(still_s=still_s)]
        return found


VOICES: Final = {
    "alice": VoiceSource(seed=1),
    "bob": VoiceSource(seed=2, talk_s=4.0, mute_s=1.5),
}


async def run_cells(
    cells: Sequence[Cell], *, seconds: float, seed: int, by_iptables: bool = False
) -> list[CellReport]:
    """All at once, in one call; they must have the same loss if iptables does it.

    Raises:
        TimeoutError: somebody could not join, in fair weather.
        RuntimeError: iptables refused.
    """
    for source in VOICES.values():
        voice_packets(source.seed)  # encoded before anybody waits for it
    server = SfuServer(bind_addresses=["127.0.0.1"], udp_port=0)
    await server.start()
    try:
        return await _Run(server, cells, seed, by_iptables=by_iptables).run(seconds)
    finally:
        await server.close()


class _Run:
    def __init__(
        self, server: SfuServer, cells: Sequence[Cell], seed: int, *, by_iptables: bool
    ) -> None:
        self._server = server
        self._cells = cells
        self._seed = seed
        self._by_iptables = by_iptables
        self._screen = ScreenSource()
        self._publishers: dict[str, Member] = {}
        self._listeners: list[Listener] = []
        self._senders: list[asyncio.Task[None]] = []
        self._standstill = Standstill()

    async def run(self, seconds: float) -> list[CellReport]:
        async with AsyncExitStack() as stack:
            try:
                await self._gather()
                for number, (cell, listener) in enumerate(
                    zip(self._cells, self._listeners, strict=True)
                ):
                    await self._change_weather(stack, cell, listener.proxy, number)
                zero_ns = await self._publish()
                watch = self._standstill.watch()
                self._senders.append(asyncio.create_task(watch, name="standstill"))
                await asyncio.sleep(seconds)
                end_ns = time.monotonic_ns()
                await self._hush()
                await asyncio.sleep(_DRAIN_S)
            finally:
                await self._hush()
                for listener in self._listeners:
                    await listener.leave()
                for publisher in self._publishers.values():
                    await publisher.leave()
        loop = asyncio.get_running_loop()
        return [
            await loop.run_in_executor(None, self._judge, cell, listener, zero_ns, end_ns)
            for cell, listener in zip(self._cells, self._listeners, strict=True)
        ]

    async def _gather(self) -> None:
        for name in (*VOICES, "carol"):
            self._publishers[name] = member = Member(self._server, name)
            await member.join()
        for number, cell in enumerate(self._cells):
            listener = Listener(
                self._server,
                f"listener{number}",
                LossyProxy(self._server.udp_port),
                latency=BUDGETS[cell.budget],
                screen=self._screen if cell.budget == "RECORDING" else None,
            )
            self._listeners.append(listener)
            await listener.join()

    async def _change_weather(
        self, stack: AsyncExitStack, cell: Cell, proxy: LossyProxy, number: int
    ) -> None:
        weather = cell.weather
        if self._by_iptables:
            losing = iptables.losing(self._server.udp_port, proxy.back_port, cell.loss)
            await stack.enter_async_context(losing)
            weather = Weather(0.0, cell.jitter_ms, burst_every_s=weather.burst_every_s)
        proxy.begin(weather, weather, seed=1000 * self._seed + number)

    async def _publish(self) -> int:
        """Returns when the time of all sources began."""
        tracks = {name: await self._offer(name, "audio") for name in VOICES}
        carol = self._publishers["carol"]
        carol.say(RtcType.SCREEN_ON, {"screenStreamID": "carol-stream"})
        screen = await self._offer("carol", "video")
        zero_ns = time.monotonic_ns() + _NS // 10
        works = [VOICES[name].send(track, zero_ns) for name, track in tracks.items()]
        for work in (*works, self._screen.send(screen, zero_ns)):
            self._senders.append(asyncio.create_task(work, name="source"))
        return zero_ns

    async def _offer(self, name: str, kind: MediaKind) -> LocalTrack:
        ssrc = secrets.randbits(32)
        local = LocalMedia(Msid(f"{name}-stream", f"{name}-{kind}"), ssrc, name)
        return await self._publishers[name].media.publish(kind, local)

    async def _hush(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.cancel()
        if senders:
            await asyncio.wait(senders)

    def _judge(self, cell: Cell, listener: Listener, zero_ns: int, end_ns: int) -> CellReport:
        report = CellReport(cell, standstill_s=self._standstill.longest_s)
        for name, source in VOICES.items():
            session_id = self._publishers[name].session_id
            verdict = judge_voice(listener, session_id, source, zero_ns)
            if verdict is None:
                report.missing.append(name)
            else:
                report.voices[name] = verdict
        track = listener.screen_track
        if track is not None:
            # A burst that has just ended needs time to be judged.
            until_ns = end_ns - round(1.5 * _NS)
            bursts = cell.weather.bursts_ns(listener.proxy.begun_ns, until_ns)
            report.screen = judge_screen(
                listener.pictures, bursts, zero_ns, len(self._screen.frames)
            )
            report.screen.repaired = track.statistics.packets_repaired
            report.screen.lost = track.statistics.packets_lost
            report.screen.key_frames_asked = track.statistics.key_frames_requested
        elif cell.budget == "RECORDING":
            report.missing.append("carol")
        return report
