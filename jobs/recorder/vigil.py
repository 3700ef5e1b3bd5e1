"""Watches over a recording while it runs, and says honestly what was wrong with the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Final, Protocol

from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger
from jobs.recorder.watchdogs import Watchdogs

_LOOK_EVERY_S: Final = 1.0
_NS: Final = 1_000_000_000
_log = get_logger(component="recording")


class Watched(Protocol):
    """What is looked at: `jobs.recorder.watcher.CallWatcher`."""

    @property
    def participants(self) -> int: ...

    @property
    def sending(self) -> int: ...

    packets: int

    def media_lost_s(self, now_ns: int) -> float: ...


async def keep_vigil(
    watched: Watched,
    *,
    end: Callable[[str], None],
    metrics: MutableMapping[str, int | float],
    clock: Clock | None = None,
) -> None:
    """Until cancelled. `end` is told why the recording should end; `metrics` are for the metrics line."""
    clock = clock or SystemClock()
    dogs = Watchdogs(now_ns=clock.monotonic_ns())
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        now_ns = clock.monotonic_ns()
        found = dogs.look(
            now_ns,
            participants=watched.participants,
            sending=watched.sending,
            packets=watched.packets,
        )
        for finding in found:
            match finding.kind:
                case "alone":
                    alone_s = round((now_ns - finding.since_ns) / _NS)
                    end(f"nobody has been in the call for {alone_s} s")
                case "no_media":
                    _log.warning("media.none", unmuted_or_sharing=watched.sending)
                case "media_again":
                    _log.info("media.again", missing_s=round(dogs.no_media_ns / _NS, 1))
        metrics["media_lost_s"] = round(watched.media_lost_s(now_ns), 1)
        metrics["media_none_s"] = round(dogs.no_media_ns / _NS, 1)
        metrics["tasks"] = len(asyncio.all_tasks())
