"""A crowd that comes and goes around one listener: does anything of the call client pile up?

    python -m testbed.crowd --minutes 10 --report crowd.json

Publishers are puppets of the rtcd double, which as the original never uses a section of a speaker again
(`--reuses-sections` for one that does). The listener is the product's media half. JSON lines tell how it
goes; the exit code is 1 when something leaked, an answer was too large or somebody was not heard.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop

from callclient.events import CallEvent, TrackAdded, TrackEnded
from callclient.media import CallMedia
from callclient.receive.tracks import RemoteTrack
from foundation.logs import configure_logs
from foundation.process_stats import read_process_stats
from rtc import calls_dc
from sfu.media_port import SessionConfig
from sfu.messages import Rtc, RtcMessage, RtcType
from testbed.crowd_report import Plan as Plan  # part of this module's interface
from testbed.crowd_report import Report
from testbed.rtcd_double.puppet import Puppet, PuppetTrack
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.server import DoubleServer

_SESSION_ID: Final = "listener".ljust(26, "x")
_PACKET_S: Final = 0.02
_SPEECH: Final = bytes([0x08]) + bytes(80)
_LOOK_S: Final = 5.0
_HEARD_WITHIN_S: Final = 5.0
"""So long after somebody's first packet the listener must hear them: others may be announced first."""


class Listener:
    """One real client before the double; knows when it first heard whom."""

    def __init__(self, server: DoubleServer, tasks: asyncio.TaskGroup, plan: Plan) -> None:
        self.heard_s: dict[str, float] = {}
        """By session, of those who are in the call."""
        self.tracks = 0
        """That were added and have not ended."""
        self.readers = 0
        self.media = CallMedia(
            own_session_id=_SESSION_ID,
            send_description=self._to_server,
            emit=self._event,
            connect_timeout_s=10,
        )
        self._server = server
        self._tasks = tasks
        self._plan = plan

    async def join(self) -> None:
        """Until the data channel is open."""
        self._running = self._tasks.create_task(self.media.run(), name="listener")
        config = SessionConfig(
            "group", "call", "user", _SESSION_ID, dc_signaling=self._plan.dc_signaling
        )
        await self._server.join(config, self._from_server)
        await self.media.offer()
        async with asyncio.timeout(10):
            await self.media.ready.wait()

    async def leave(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        await self.media.close()
        await self._server.leave(_SESSION_ID)

    def _to_server(self, kind: str, sdp: str) -> None:
        data = json.dumps({"type": kind, "sdp": sdp}).encode()
        message = RtcMessage(RtcType.SDP, _SESSION_ID, data)
        self._tasks.create_task(self._server.handle(_SESSION_ID, message))

    def _from_server(self, message: object) -> None:
        if not isinstance(message, Rtc):
            return
        inner = message.message
        if inner.type is RtcType.SDP:
            self.media.description_received(*calls_dc.read_sdp_json(inner.data))
        elif inner.type is RtcType.ICE:
            line = json.loads(inner.data)["candidate"]["candidate"]
            self._tasks.create_task(self.media.candidate_received(line))

    def _event(self, event: CallEvent) -> None:
        if isinstance(event, TrackAdded):
            self.tracks += 1
            self._tasks.create_task(self._read(event.track))
        elif isinstance(event, TrackEnded):
            self.tracks -= 1

    async def _read(self, track: RemoteTrack) -> None:
        self.readers += 1
        async for _ in track.frames():
            self.heard_s.setdefault(track.session_id, time.monotonic())
        self.readers -= 1


@dataclass(slots=True)
class Person:
    """A publisher."""

    puppet: Puppet
    voice: PuppetTrack
    spoke_s: float
    """When the first packet went out."""

    @property
    def session_id(self) -> str:
        return self.puppet.config.session_id


class Crowd:
    """Runs a plan once."""

    def __init__(self, plan: Plan, *, tell: Callable[[dict[str, float]], None]) -> None:
        """`tell` gets a sample every few seconds."""
        self._plan = plan
        self._tell = tell
        self._people: deque[Person] = deque()
        self._waits_s: list[float] = []
        self._report = Report()

    async def run(self) -> Report:
        """Play it; look at what is left."""
        script = Script(reuses_dead_audio=self._plan.reuses_sections, queued_tracks=1000)
        self._server = DoubleServer(script, connect_timeout_s=10)
        await self._server.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._listener = Listener(self._server, tasks, self._plan)
                await self._listener.join()
                talking = tasks.create_task(self._talk())
                try:
                    await self._play()
                finally:
                    talking.cancel()
                await self._empty()
                await self._listener.leave()
        finally:
            await self._server.close()
        self._finish()
        return self._report

    async def _play(self) -> None:
        plan = self._plan
        for _ in range(plan.publishers):
            self._enter()
        await self._until_all_heard()
        before = self._sample()
        began_s, cpu_s = time.monotonic(), read_process_stats().cpu_s
        for number in range(1, int(plan.duration_s * plan.replaced_per_s) + 1):
            due_s = began_s + number / plan.replaced_per_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._exit()
            self._enter()
        await self._until_all_heard()
        elapsed_s = time.monotonic() - began_s
        after = self._sample()
        report = self._report
        report.cpu_share = (read_process_stats().cpu_s - cpu_s) / elapsed_s
        report.tasks_grown = int(after["tasks"] - before["tasks"])
        report.descriptors_grown = int(after["descriptors"] - before["descriptors"])
        report.memory_grown_bytes = int(after["rss_bytes"] - before["rss_bytes"])

    def _enter(self) -> None:
        puppet = self._server.puppet(f"p{self._report.came}x")
        voice = puppet.voice()
        voice.send(_SPEECH)
        self._people.append(Person(puppet, voice, time.monotonic()))
        self._report.came += 1

    def _exit(self) -> None:
        """Whoever is there longest goes, as the plugin tells it."""
        person = self._people.popleft()
        self._count(person)
        person.puppet.leave()
        self._listener.media.participant_left(person.session_id)

    def _count(self, person: Person) -> None:
        heard_s = self._listener.heard_s.pop(person.session_id, None)
        if heard_s is not None:
            self._waits_s.append(heard_s - person.spoke_s)
            self._report.heard += 1

    async def _talk(self) -> None:
        began_s, tick = time.monotonic(), 0
        while True:
            for index, person in enumerate(self._people):
                if index < self._plan.talkers or (tick + index) % 50 == 0:
                    person.voice.send(_SPEECH)
            tick += 1
            if tick % int(_LOOK_S / _PACKET_S) == 0:
                sample = self._sample()
                self._report.samples.append(sample)
                self._tell(sample)
            await asyncio.sleep(max(0.0, began_s + tick * _PACKET_S - time.monotonic()))

    async def _until_all_heard(self) -> None:
        limit_s = _HEARD_WITHIN_S + 0.1 * len(self._people)
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            if all(person.session_id in self._listener.heard_s for person in self._people):
                return
            await asyncio.sleep(0.1)

    async def _empty(self) -> None:
        while self._people:
            self._exit()
        await asyncio.sleep(0.5)  # readers get the end of their tracks
        self._report.tracks_left = self._listener.tracks
        self._report.readers_left = self._listener.readers

    def _sample(self) -> dict[str, float]:
        report, book = self._report, self._server.books[_SESSION_ID]
        if book.offers:
            report.sections = book.offers[-1].count("\r\nm=")
            largest = max(book.answers, key=len, default="")
            packed = len(calls_dc.pack_sdp("answer", largest))
            report.largest_answer_bytes = max(report.largest_answer_bytes, packed)
            # The double keeps all texts: those of a long run would look like a leak.
            book.offers[:-1] = [""] * (len(book.offers) - 1)
            book.answers[:-1] = [""] * (len(book.answers) - 1)
        return {
            "came": report.came,
            "sections": report.sections,
            "tasks": len(asyncio.all_tasks()) - self._listener.readers,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "rss_bytes": read_process_stats().rss_bytes,
        }

    def _finish(self) -> None:
        report, book = self._report, self._server.books[_SESSION_ID]
        report.offers = len(book.offers)
        report.unanswered = len(book.offers) - len(book.answers)
        report.refused_answers = len(book.failed_answers)
        report.dropped_changes = len(book.dropped_changes)
        report.answer_p50_ms = 1000 * _quantile(book.answer_delays_s, 0.5)
        report.answer_p99_ms = 1000 * _quantile(book.answer_delays_s, 0.99)
        report.answer_max_ms = 1000 * _quantile(book.answer_delays_s, 1.0)
        report.first_packet_to_heard_p99_s = _quantile(self._waits_s, 0.99)


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="testbed.crowd", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--publishers", type=int, default=100)
    parser.add_argument("--replaced-per-s", type=float, default=1.0)
    parser.add_argument("--talkers", type=int, default=8)
    parser.add_argument("--reuses-sections", action="store_true")
    parser.add_argument("--report", type=Path, help="write the report as JSON to this file")
    arguments = parser.parse_args()
    configure_logs(level="error")
    plan = Plan(
        duration_s=arguments.minutes * 60,
        publishers=arguments.publishers,
        replaced_per_s=arguments.replaced_per_s,
        talkers=arguments.talkers,
        reuses_sections=arguments.reuses_sections,
    )
    report = uvloop.run(Crowd(plan, tell=lambda s: print(json.dumps(s), flush=True)).run())
    complaints = report.complaints(plan)
    document = {"plan": asdict(plan)} | asdict(report) | {"complaints": complaints}
    if arguments.report is not None:
        arguments.report.write_text(json.dumps(document, indent=1))
    print(json.dumps({key: value for key, value in document.items() if key != "samples"}))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
