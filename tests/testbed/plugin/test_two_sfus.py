"""Two real SFU processes behind one name, real clients in the calls (rtcd.md 4.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from callclient.client import CallClient, CallClientConfig
from callclient.events import Joined
from testbed.browser.meeting import Meeting, started_meeting

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

_A, _B = "127.0.0.1", "127.0.0.2"
_TIMEOUT_S = 25.0


@pytest.fixture
async def meeting(tmp_path: Path) -> AsyncIterator[Meeting]:
    async with started_meeting(tmp_path, sfu_addresses=(_A, _B)) as running:
        yield running


@contextlib.asynccontextmanager
async def _in_call(meeting: Meeting, name: str) -> AsyncIterator[None]:
    """`name` is in the call with media connected; leaves in the end."""
    token = meeting.world["users"][name]["token"]
    config = CallClientConfig(meeting.url, token, meeting.world["channel_id"])
    client = CallClient(config)
    running = asyncio.create_task(client.run())
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async for event in client.events():
                if isinstance(event, Joined):
                    break
        yield
        await client.leave()
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        while not await condition():
            await asyncio.sleep(0.1)


async def test_calls_are_spread_flagged_hosts_keep_theirs_and_a_dead_one_gets_none(
    meeting: Meeting,
) -> None:
    assert set(await meeting.hosts()) == {_A, _B}
    async with _in_call(meeting, "alice"):
        first = (await meeting.call())["sfu_address"]
        other = _B if first == _A else _A
        meeting.name_sfus([other])

        async def is_flagged() -> bool:
            return bool((await meeting.hosts())[first]["flagged"])

        await _until(is_flagged)
        async with _in_call(meeting, "bob"):  # a call never changes its host
            call = await meeting.call()
            assert (call["sfu_address"], len(call["sessions"])) == (first, 2)
    await _until_empty(meeting)
    async with _in_call(meeting, "alice"):
        assert (await meeting.call())["sfu_address"] == other
    await _until_empty(meeting)

    meeting.name_sfus([first, other])
    meeting.sfus[other].kill()

    async def is_alone() -> bool:
        hosts = await meeting.hosts()
        return not hosts[first]["flagged"] and not hosts.get(other, {}).get("connected")

    await _until(is_alone)
    async with _in_call(meeting, "alice"):
        assert (await meeting.call())["sfu_address"] == first


async def _until_empty(meeting: Meeting) -> None:
    async def is_over() -> bool:
        return not (await meeting.call())["active"]

    await _until(is_over)
