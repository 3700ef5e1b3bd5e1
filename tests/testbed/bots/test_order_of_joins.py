"""Who starts a call is its host: so the host's bot joins before the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callclient.events import CallEvent, Joined
from foundation.clock import SystemClock
from testbed.bots.bot import Bot, Stage
from testbed.bots.faults import Faults
from testbed.bots.world import User
from testbed.scenario import Join
from testbed.truth import TruthLog

begun: list[str] = []


class FakeClient:
    def __init__(self, config) -> None:
        self._name = config.auth_token
        self._let_in = asyncio.Event()

    async def run(self) -> None:
        begun.append(self._name)
        self._let_in.set()

    async def events(self) -> AsyncIterator[CallEvent]:
        await self._let_in.wait()
        yield Joined(f"session-{self._name}")

    async def leave(self) -> None:
        pass


@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")])
async def test_the_host_s_bot_joins_first(monkeypatch, tmp_path: Path, names) -> None:
    monkeypatch.setattr("testbed.bots.bot.CallClient", FakeClient)
    begun.clear()
    truth = TruthLog(tmp_path / "truth.jsonl")
    stage = Stage(
        site_url="http://127.0.0.1:8065",
        channel_id="c" * 26,
        clips={},
        truth=truth,
        clock=SystemClock(),
        faults=Faults(),
        zero=asyncio.get_running_loop().create_future(),
        over=asyncio.Event(),
        host="alice",
        opened=asyncio.Event(),
        report=lambda told: None,
    )
    stage.over.set()
    stage.zero.set_result(0)
    async with asyncio.timeout(25), asyncio.TaskGroup() as tasks:
        for name in names:
            user = User(name, f"id-{name}", name, name, "", "")
            bot = Bot(user, stage, [Join(0, name)], rtp_stands_while_muted=False)
            tasks.create_task(bot.run())
    truth.close()
    assert begun == ["alice", "bob"]
