"""Call clients before a double of the original SFU: the client's media half, without a plugin between."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvicorn
from fastapi import FastAPI

from callclient.client import CallClient, CallClientConfig
from callclient.events import CallEvent, Joined, TrackAdded, TrackEnded
from callclient.media import CallMedia
from callclient.publish import LocalTrack
from callclient.receive.tracks import EncodedFrame, RemoteTrack, TrackSource
from rtc import calls_dc, vp8
from rtc.sdp import Msid
from rtc.sections import LocalMedia
from sfu.media_port import SessionConfig
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad
from testbed.bots.world import World, read_world
from testbed.plugin.app import create_app
from testbed.plugin.job_service import PluginSettings
from testbed.plugin.rtcd import Credentials
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.control import create_double_app
from testbed.rtcd_double.puppet import PuppetTrack
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.server import DoubleServer

SILENCE = bytes([0xF8, 0xFF, 0xFE])  # 20 ms of Opus silence
_PATIENCE_S = 25.0
_LOOK_AGAIN_S = 0.005


class MediaSide(Protocol):
    """What a guest needs of a server, ours or the double."""

    async def join(self, config: SessionConfig, send: Callable[[Any], None]) -> None: ...

    async def handle(self, session_id: str, message: RtcMessage) -> None: ...

    async def leave(self, session_id: str) -> None: ...


@dataclass
class Guest:
    """A real client; keeps books of what it heard."""

    server: Any
    session_id: str
    media: CallMedia
    running: asyncio.Task[None]
    events: list[CallEvent]
    vad: list[RtcType] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    hold: set[str] = field(default_factory=set)
    """Descriptions of these types (`offer`, `answer`) are kept back from the server."""
    held: list[RtcMessage] = field(default_factory=list)
    sent: list[tuple[str, str]] = field(default_factory=list)
    """Descriptions that the client sent over the WebSocket."""

    @property
    def book(self) -> Book:
        """What the double saw of it."""
        book: Book = self.server.books[self.session_id]
        return book

    @property
    def tracks(self) -> list[RemoteTrack]:
        """Those that were added and have not ended."""
        ended = [e.track for e in self.events if isinstance(e, TrackEnded)]
        added = [e.track for e in self.events if isinstance(e, TrackAdded)]
        return [track for track in added if track not in ended]

    async def track(self, number: int = 1) -> RemoteTrack:
        """The last of so many tracks, once they are there."""
        await eventually(lambda: len(self.tracks) >= number)
        return self.tracks[number - 1]

    async def tell(self, kind: RtcType, value: dict[str, str] | None = None) -> None:
        """As the plugin does."""
        data = json.dumps(value).encode() if value else b""
        await self.server.handle(self.session_id, RtcMessage(kind, self.session_id, data))

    async def publish(self, kind: Any, stream_id: str) -> LocalTrack:
        media = LocalMedia(
            Msid(stream_id, secrets.token_hex(6)), secrets.randbits(32), self.session_id
        )
        return await self.media.publish(kind, media)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for a condition that has no event; the test's own time limit is a longer one."""
    async with asyncio.timeout(_PATIENCE_S):
        while not condition():
            await asyncio.sleep(_LOOK_AGAIN_S)


async def heard(source: PuppetTrack, track: RemoteTrack, payload: bytes) -> EncodedFrame:
    """Send a payload until a frame with it comes out of the client."""
    async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as tasks:

        async def talk() -> None:
            while True:
                source.send(payload)
                await asyncio.sleep(_LOOK_AGAIN_S)

        talking = tasks.create_task(talk())
        async for frame in track.frames():
            if frame.payload == payload:
                talking.cancel()
                return frame
    raise AssertionError("the track ended")


def show(source: PuppetTrack, number: int, *, key: bool) -> None:
    """Send a made-up VP8 frame of several packets."""
    frame = bytes([0x10 if key else 0x11, number & 0xFF, 0]) + bytes(3000)
    payloads = vp8.packetize(frame, picture_id=number)
    for index, payload in enumerate(payloads):
        source.send(payload, marker=index == len(payloads) - 1)


@asynccontextmanager
async def guest(server: Any, name: str, **config: bool) -> AsyncIterator[Guest]:
    """Join, connect, leave in the end. `config`: av1_support, dc_signaling."""
    session_id = name.ljust(26, "x")
    sending: set[asyncio.Task[None]] = set()
    events: list[CallEvent] = []

    def to_server(kind: str, sdp: str) -> None:
        me.sent.append((kind, sdp))
        data = json.dumps({"type": kind, "sdp": sdp}).encode()
        message = RtcMessage(RtcType.SDP, session_id, data)
        if kind in me.hold:
            me.held.append(message)
            return
        task = asyncio.ensure_future(server.handle(session_id, message))
        sending.add(task)
        task.add_done_callback(sending.discard)

    def from_server(message: Rtc | Vad | Close) -> None:
        match message:
            case Rtc(inner) if inner.type is RtcType.SDP:
                media.description_received(*calls_dc.read_sdp_json(inner.data))
            case Rtc(inner) if inner.type is RtcType.ICE:
                line = json.loads(inner.data)["candidate"]["candidate"]
                task = asyncio.ensure_future(media.candidate_received(line))
                sending.add(task)
                task.add_done_callback(sending.discard)
            case Vad(inner):
                me.vad.append(inner.type)
            case Close():
                me.closed.set()

    media = CallMedia(
        own_session_id=session_id,
        send_description=to_server,
        emit=events.append,
        connect_timeout_s=5,
    )
    running = asyncio.create_task(media.run())
    me = Guest(server, session_id, media, running, events)
    await server.join(
        SessionConfig("group", "call", f"user-{name}", session_id, **config), from_server
    )
    try:
        await media.offer()
        async with asyncio.timeout(_PATIENCE_S):
            await media.ready.wait()
        yield me
    finally:
        await server.leave(session_id)
        running.cancel()
        await asyncio.wait([running])
        await media.close()


@dataclass
class Lobby:
    """Starts doubles and lets guests in."""

    stack: AsyncExitStack

    async def double(self, **script: Any) -> DoubleServer:
        """A double with a script of its own."""
        server = DoubleServer(Script(**script), connect_timeout_s=5)
        await server.start()
        self.stack.push_async_callback(server.close)
        return server

    async def enter(self, server: Any, name: str = "listener", **config: bool) -> Guest:
        return await self.stack.enter_async_context(guest(server, name, **config))


@dataclass
class Site:
    """A stand-in, the double behind it, and who is in the call."""

    double: DoubleServer
    url: str
    world: World
    stack: AsyncExitStack

    async def join(self, name: str, *, url: str = "", **config: Any) -> Caller:
        """Join as a person; may fail. `url`: by another way than the direct one."""
        client = CallClient(
            CallClientConfig(
                site_url=url or self.url,
                auth_token=self.world.users[name].token,
                channel_id=self.world.channel_id,
                **config,
            )
        )
        caller = Caller(client, asyncio.create_task(client.run()))
        reading = asyncio.create_task(caller.read())
        self.stack.push_async_callback(caller.go, reading)
        return caller


@dataclass
class Caller:
    """One real client."""

    client: CallClient
    running: asyncio.Task[None]
    events: list[CallEvent] = field(default_factory=list)

    async def read(self) -> None:
        async for event in self.client.events():
            self.events.append(event)

    def sources(self) -> list[TrackSource]:
        return [e.track.source for e in self.events if isinstance(e, TrackAdded)]

    @property
    def joined(self) -> bool:
        return any(isinstance(event, Joined) for event in self.events)

    async def go(self, reading: asyncio.Task[None]) -> None:
        await self.client.leave()
        await asyncio.wait([self.running, reading])


@pytest.fixture
async def start_site(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    """Start a stand-in before a double with this script."""
    async with AsyncExitStack() as stack:

        async def start(**script: Any) -> Site:
            double = DoubleServer(Script(**script), connect_timeout_s=5)
            await double.start()
            stack.push_async_callback(double.close)
            rtcd_url = await stack.enter_async_context(serving(create_double_app(double)))
            app = create_app(
                rtcd_url=rtcd_url,
                rtcd_credentials=Credentials.of_url(rtcd_url),
                job_service_url="http://127.0.0.1:9",
                data_dir=tmp_path,
                settings=PluginSettings(site_url="http://127.0.0.1"),
            )
            url = await stack.enter_async_context(serving(app))
            return Site(double, url, read_world(tmp_path / "world.json"), stack)

        yield start


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The URL of an application on a free port."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server._serve())
    while not server.started:
        assert not task.done(), "the application did not start"
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def lobby() -> AsyncIterator[Lobby]:
    """Everybody leaves and every double closes in the end."""
    async with AsyncExitStack() as stack:
        yield Lobby(stack)


@pytest.fixture
def tools() -> Any:
    """The helpers of this file, for tests that cannot import it."""

    class Tools:
        silence = SILENCE
        until = staticmethod(eventually)
        heard = staticmethod(heard)
        show = staticmethod(show)
        guest = staticmethod(guest)
        pause = staticmethod(asyncio.sleep)

    return Tools
