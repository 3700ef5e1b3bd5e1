"""A WebSocket that is cut in mid-call, in real time: what is still heard, and how it ends (section 1.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from callclient.errors import MediaFailed
from callclient.events import ParticipantLeft, SignalingLost, SignalingRestored, TrackAdded
from callclient.publish import LocalTrack
from callclient.receive.tracks import RemoteTrack

pytestmark = pytest.mark.slow


class Cable:
    """TCP to the site that can be cut: every connection ends, and nobody gets a new one."""

    def __init__(self, site_url: str) -> None:
        parts = urlsplit(site_url)
        self._site = (str(parts.hostname), int(parts.port or 0))
        self._server: asyncio.Server | None = None
        self._port = 0
        self._carrying: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def plug(self) -> None:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(reader, writer))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

        self._server = await asyncio.start_server(accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        carrying = list(self._carrying)
        for task in carrying:
            task.cancel()
        if carrying:
            await asyncio.wait(carrying)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site_reader, site_writer = await asyncio.open_connection(*self._site)
        try:
            await asyncio.gather(_pump(reader, site_writer), _pump(site_reader, writer))
        finally:
            for one in (writer, site_writer):
                one.close()
                with suppress(ConnectionError):
                    await one.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Speaker:
    """Counts aloud, fifty times a second."""

    def __init__(self, track: LocalTrack) -> None:
        self.said = 0
        self._track = track

    async def talk(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while True:
            payload = bytes([0x08]) + self.said.to_bytes(4, "big")
            self._track.send(payload, rtp_timestamp=self.said * 960, marker=False)
            self.said += 1
            await asyncio.sleep(began_s + self.said * 0.02 - loop.time())


async def hear(track: RemoteTrack, numbers: list[int]) -> None:
    async for frame in track.frames():
        number = int.from_bytes(frame.payload[1:], "big")
        numbers.append(number)  # as it comes: others look on


@pytest.fixture
async def speaking() -> AsyncIterator[Any]:
    """`await speaking(caller)`: let a caller count until the end of the test."""
    tasks: list[asyncio.Task[None]] = []

    async def speak(caller: Any) -> Speaker:
        speaker = Speaker(await caller.client.publish_voice())
        await caller.client.set_muted(False)
        tasks.append(asyncio.create_task(speaker.talk()))
        return speaker

    yield speak
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def tracks(caller: Any) -> list[RemoteTrack]:
    return [event.track for event in caller.events if isinstance(event, TrackAdded)]


@pytest.mark.parametrize(("away_s", "dc_signaling"), [(3, False), (3, True), (8, False), (8, True)])
async def test_a_cut_of_some_seconds_costs_not_one_packet(
    start_site: Any, tools: Any, speaking: Any, away_s: float, dc_signaling: bool
) -> None:
    site = await start_site()
    cable = Cable(site.url)
    await cable.plug()
    alice = await site.join("alice")
    listener = await site.join("bob", url=cable.url, dc_signaling=dc_signaling)
    await tools.until(lambda: alice.joined and listener.joined)
    voice = await speaking(alice)
    await tools.until(lambda: tracks(listener))
    numbers: list[int] = []
    hearing = [asyncio.create_task(hear(tracks(listener)[0], numbers))]
    await tools.until(lambda: numbers)
    first = numbers[0]

    await cable.cut()
    newcomer_numbers: list[int] = []
    if dc_signaling:  # whose offers need no WebSocket: even a new voice is heard at once
        carol = await site.join("carol")
        await tools.until(lambda: carol.joined)
        await speaking(carol)
        await tools.until(lambda: len(tracks(listener)) == 2)
        hearing.append(asyncio.create_task(hear(tracks(listener)[1], newcomer_numbers)))
        await tools.until(lambda: newcomer_numbers)
    await asyncio.sleep(away_s)
    await cable.plug()
    await tools.until(lambda: any(isinstance(e, SignalingRestored) for e in listener.events))
    await asyncio.sleep(3)  # for longer than the session would have lived on

    last = voice.said
    await tools.until(lambda: numbers[-1] >= last)
    assert numbers == list(range(first, numbers[-1] + 1))
    if dc_signaling:
        assert newcomer_numbers == list(range(newcomer_numbers[0], newcomer_numbers[-1] + 1))
        assert len(listener.client.state.participants) == 3
    assert not listener.running.done()
    assert sum(isinstance(e, SignalingLost) for e in listener.events) == 1
    assert not any(isinstance(e, ParticipantLeft) for e in listener.events)
    assert not site.double.books[listener.client.session_id].failed_answers
    await cable.cut()
    for task in hearing:
        task.cancel()
    await asyncio.wait(hearing)


async def test_after_15_s_everything_is_there_that_came_before_the_server_gave_the_session_up(
    start_site: Any, tools: Any, speaking: Any
) -> None:
    site = await start_site()
    cable = Cable(site.url)
    await cable.plug()
    alice = await site.join("alice")
    listener = await site.join("bob", url=cable.url)
    await tools.until(lambda: alice.joined and listener.joined)
    voice = await speaking(alice)
    await tools.until(lambda: tracks(listener))
    numbers: list[int] = []
    hearing = asyncio.create_task(hear(tracks(listener)[0], numbers))
    await tools.until(lambda: numbers)

    loop = asyncio.get_running_loop()
    cut_s, said_at_cut = loop.time(), voice.said
    await cable.cut()
    with pytest.raises(MediaFailed, match="closed the connection"):
        async with asyncio.timeout(15):
            await listener.running
    assert 9.5 < loop.time() - cut_s < 12
    await hearing  # the track has ended
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[-1] - said_at_cut > 9.5 * 50
