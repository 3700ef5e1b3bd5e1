"""One process of the load test: its share of the participants, told what to do by JSON lines.

Standard input: first what to simulate, then the commands `join`, `measure`, `finish`. Standard output: the
events `ready`, `progress` (five times a second), `report`, `failed`. The end of the input ends the process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import uvloop

from foundation.groups import unwrapped
from foundation.logs import configure_logs
from sfu.loadtest.histogram import Histogram
from sfu.loadtest.pacer import Pacer
from sfu.loadtest.participant import Participant
from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.shared import Shared
from sfu.loadtest.signaling import PluginConnection, SignalingError
from sfu.messages import Close, Message, Rtc

_PROGRESS_INTERVAL_S: Final = 0.2
_CLOSING_AT_ONCE: Final = 50
_CLOSE_TIMEOUT_S: Final = 15.0


class Worker:
    """All participants of this process. `run` once."""

    def __init__(self, plan: LoadPlan, numbers: list[int]) -> None:
        self._plan = plan
        self._connection = PluginConnection(
            plan.url,
            client_id=plan.client_id,
            auth_key=plan.auth_key,
            on_message=self._message_received,
        )
        self._shared = Shared(plan, self._connection, Pacer())
        self._participants = {
            participant.session_id: participant
            for participant in (Participant(plan.participant(n), self._shared) for n in numbers)
        }
        self._started = 0
        self._lateness_joining = Histogram()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self, commands: AsyncIterator[dict[str, Any]]) -> None:
        """Until `finish` or the end of the commands.

        Raises:
            SignalingError: the SFU cannot be driven.
        """
        await self._connection.open()
        try:
            with unwrapped(SignalingError):
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    helpers = [
                        tasks.create_task(self._connection.run(), name="plugin-connection"),
                        tasks.create_task(self._shared.pacer.run(), name="pacer"),
                        tasks.create_task(self._tell_progress(), name="progress"),
                    ]
                    _tell({"event": "ready", "pid": os.getpid()})
                    joining = await self._obey(commands)
                    if joining is not None:
                        joining.cancel()
                    await self._leave()
                    for helper in helpers:
                        helper.cancel()
        finally:
            await self._connection.close()

    async def _obey(self, commands: AsyncIterator[dict[str, Any]]) -> asyncio.Task[None] | None:
        joining: asyncio.Task[None] | None = None
        async for command in commands:
            match command["command"]:
                case "join":
                    assert self._tasks is not None
                    joining = self._tasks.create_task(self._join_all(command["start_ns"]))
                case "measure":
                    # What the joins have left must not be searched again and again.
                    gc.collect()
                    gc.freeze()
                    window = self._shared.window
                    window.start_ns, window.end_ns = command["start_ns"], command["end_ns"]
                    self._lateness_joining = self._shared.pacer.lateness
                    self._shared.pacer.lateness = Histogram()
                case "finish":
                    _tell(self.report())
                    break
        return joining

    async def _join_all(self, start_ns: int) -> None:
        assert self._tasks is not None
        plan = self._plan
        for participant in self._participants.values():
            place = participant.part.number - plan.first_user * plan.calls
            due_ns = start_ns + round(place / plan.join_rate * 1e9)
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            self._tasks.create_task(participant.run(), name="participant-run")
            self._started += 1

    async def _leave(self) -> None:
        # Everything at once would only measure time-outs at a big SFU.
        gate = asyncio.Semaphore(_CLOSING_AT_ONCE)

        async def leave(participant: Participant) -> None:
            async with gate:
                participant.leave()
                await participant.close()

        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S), asyncio.TaskGroup() as tasks:
                for participant in self._participants.values():
                    tasks.create_task(leave(participant), name="participant-leave")
        except TimeoutError:
            sys.stderr.write(f"not everybody could leave within {_CLOSE_TIMEOUT_S:g} s\n")
        await self._connection.flush(2.0)

    def _message_received(self, message: Message) -> None:
        match message:
            case Rtc(inner):
                participant = self._participants.get(inner.session_id)
                if participant is not None:
                    participant.message_received(inner)
            case Close(session_id):
                participant = self._participants.get(session_id)
                if participant is not None:
                    participant.closed_by_server()

    async def _tell_progress(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_INTERVAL_S)
            everybody = self._participants.values()
            _tell(
                {
                    "event": "progress",
                    "joined": sum(p.joined for p in everybody),
                    "failed": sum(p.failure is not None for p in everybody),
                    "settled": self._started == len(everybody)
                    and all(p.settled for p in everybody),
                }
            )

    def report(self) -> dict[str, Any]:
        """All figures of this process; tracks by number, over all their receivers here."""
        shared = self._shared
        received: dict[int, Counter[str]] = {}
        sent: dict[int, dict[str, int]] = {}
        failures: Counter[str] = Counter()
        foreign = misdelivered = joined = 0
        for participant in self._participants.values():
            if participant.failure is not None:
                failures[participant.failure] += 1
            foreign += participant.receiver.foreign
            misdelivered += participant.receiver.misdelivered
            for source in participant.sources:
                sent[source.track] = {"packets": source.packets, "bytes": source.bytes}
            if not participant.joined:
                continue
            joined += 1
            totals = participant.receiver.totals()
            for track in participant.expected:
                books = received.setdefault(track, Counter())
                books["receivers"] += 1
                books["never_heard"] += track not in totals
                books.update(totals.get(track, {}))
        return {
            "event": "report",
            "joined": joined,
            "failures": failures,
            "refused": shared.refused,
            "foreign": foreign,
            "misdelivered": misdelivered,
            "sent": sent,
            "received": received,
            "delays": shared.delays.to_json(),
            "lateness": shared.pacer.lateness.to_json(),
            "lateness_joining": self._lateness_joining.to_json(),
            "timings": {name: h.to_json() for name, h in shared.timings.items()},
        }


def _tell(event: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


async def _lines() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        yield json.loads(line)


async def _main() -> int:
    commands = _lines()
    task = await anext(commands)
    if task["cpus"]:
        os.sched_setaffinity(0, task["cpus"])
    plan = LoadPlan.from_json(task["plan"])
    try:
        numbers = list(plan.share(task["process"], task["processes"]))
        await Worker(plan, numbers).run(commands)
    except SignalingError as error:
        _tell({"event": "failed", "reason": str(error)})
        return 1
    return 0


def main() -> int:
    """Entry point of the process."""
    configure_logs(level="error", json=False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket for each participant
    return uvloop.run(_main())


if __name__ == "__main__":
    sys.exit(main())
