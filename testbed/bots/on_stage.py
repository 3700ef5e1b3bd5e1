"""Bots of this process in one call, from the first join to the last leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from foundation.clock import SystemClock
from foundation.groups import unwrapped
from testbed.bots.bot import Bot, BotError, Drift, Stage
from testbed.bots.faults import Faults
from testbed.bots.voice import beep_packets, silence_packet
from testbed.bots.world import User
from testbed.scenario import Event, Join
from testbed.speech.clips import Clip
from testbed.truth import TruthLog

_JOIN_LIMIT_S: Final = 40.0


@dataclass(frozen=True, slots=True)
class Player:
    """Somebody's time in the call. The same person may come again later."""

    user: User
    events: Sequence[Event]
    """The first one is the join, in order of time."""
    rtp_stands_while_muted: bool = False
    drift: Drift = field(default_factory=Drift)


@asynccontextmanager
async def on_stage(
    players: Sequence[Player],
    *,
    site_url: str,
    channel_id: str,
    host: str,
    clips: Mapping[str, Sequence[Clip]],
    truth_file: Path,
) -> AsyncIterator[Stage]:
    """The early ones are in, and all wait for `Stage.zero`; at the block's end everybody leaves.

    `host` is the name of the bot that joins first; `clips` are by name.

    Raises:
        BotError: somebody did not get in, or the call ended early.
        CallError: the call could not be joined or was lost.
    """
    for player in players:
        assert isinstance(player.events[0], Join), f"{player.user.name}: should join first"
    missing = {player.user.name for player in players if player.events[0].at_s <= 0}
    assert missing, "nobody to wait for"
    everybody_in = asyncio.Event()

    def told(record: dict[str, Any]) -> None:
        if record["event"] == "joined":
            missing.discard(record["bot"])
            if not missing:
                everybody_in.set()

    silence_packet(), beep_packets()  # encoded once; not in the middle of the call
    truth = TruthLog(truth_file)
    stage = Stage(
        site_url=site_url,
        channel_id=channel_id,
        clips={name: list(own) for name, own in clips.items()},
        truth=truth,
        clock=SystemClock(),
        faults=Faults(),
        zero=asyncio.get_running_loop().create_future(),
        over=asyncio.Event(),
        host=host,
        opened=asyncio.Event(),
        report=told,
    )
    try:
        with unwrapped(Exception):
            async with asyncio.TaskGroup() as tasks:
                for player in players:
                    bot = Bot(
                        player.user,
                        stage,
                        player.events,
                        rtp_stands_while_muted=player.rtp_stands_while_muted,
                        drift=player.drift,
                    )
                    tasks.create_task(bot.run(), name=player.user.name)
                await _all_in(everybody_in, missing)
                yield stage
                stage.over.set()
    finally:
        truth.close()


async def _all_in(everybody_in: asyncio.Event, missing: set[str]) -> None:
    try:
        async with asyncio.timeout(_JOIN_LIMIT_S):
            await everybody_in.wait()
    except TimeoutError:
        names = ", ".join(sorted(missing))
        raise BotError(f"{names}: not in the call after {_JOIN_LIMIT_S:g} s") from None
