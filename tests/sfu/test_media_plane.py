"""The SFU's media plane with real peers: the call client's media half on the other side, no plugin."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from callclient.events import CallEvent, TrackAdded, TrackEnded
from callclient.media import CallMedia
from callclient.publish import LocalTrack
from callclient.receive.tracks import EncodedFrame, RemoteTrack, TrackSource
from rtc import calls_dc, vp8
from rtc.net.announced import Announced, Listening
from rtc.sdp import Msid
from rtc.sections import LocalMedia
from sfu.media_port import JoinError, SessionConfig
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad
from sfu.server import SfuServer
from sfu.workers.pool import WorkerPool

SILENCE = bytes([0xF8, 0xFF, 0xFE])  # 20 ms of Opus silence


Sfu = SfuServer | WorkerPool
one_or_many = pytest.mark.parametrize(
    "processes",
    [1, pytest.param(2, marks=pytest.mark.slow)],
    ids=["one process", "two workers"],
)


async def _loopback() -> list[Announced]:
    return [
        Announced("udp", "127.0.0.1", 0, "127.0.0.1"),
        Announced("tcp", "127.0.0.1", 0, "127.0.0.1"),
    ]


@asynccontextmanager
async def running_sfu(processes: int = 1) -> AsyncIterator[Sfu]:
    server: Sfu
    if processes == 1:
        server = SfuServer(bind_addresses=["127.0.0.1"], udp_port=0, connect_timeout_s=25)
    else:
        server = WorkerPool(
            processes=processes,
            announced=_loopback,
            listening=[Listening("udp", "127.0.0.1"), Listening("tcp", "127.0.0.1")],
            udp_port=0,
            tcp_port=0,
        )
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@dataclass
class Guest:
    """One participant; keeps books of what happened."""

    server: Sfu
    session_id: str
    media: CallMedia
    events: asyncio.Queue[CallEvent] = field(default_factory=asyncio.Queue)
    vad: list[RtcType] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    offers: list[str] = field(default_factory=list)

    async def tell(self, kind: RtcType, value: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode() if value else b""
        await self.server.handle(self.session_id, RtcMessage(kind, self.session_id, data))

    async def publish_voice(self) -> LocalTrack:
        return await self.media.publish("audio", local_media(self.session_id, "stream"))

    async def track(self) -> RemoteTrack:
        while True:
            event = await self.events.get()
            if isinstance(event, TrackAdded):
                return event.track

    async def track_ended(self) -> RemoteTrack:
        while True:
            event = await self.events.get()
            if isinstance(event, TrackEnded):
                return event.track


def local_media(session_id: str, stream_id: str) -> LocalMedia:
    return LocalMedia(Msid(stream_id, secrets.token_hex(6)), secrets.randbits(32), session_id)


@asynccontextmanager
async def guest(server: Sfu, name: str, *, call: str = "call") -> AsyncIterator[Guest]:
    session_id = name.ljust(26, "x")
    sent: set[asyncio.Task[None]] = set()

    def to_server(kind: str, sdp: str) -> None:
        data = json.dumps({"type": kind, "sdp": sdp}).encode()
        message = RtcMessage(RtcType.SDP, session_id, data)
        task = asyncio.ensure_future(server.handle(session_id, message))
        sent.add(task)
        task.add_done_callback(sent.discard)

    events: asyncio.Queue[CallEvent] = asyncio.Queue()
    media = CallMedia(
        own_session_id=session_id,
        send_description=to_server,
        emit=events.put_nowait,
        connect_timeout_s=25,
    )
    me = Guest(server, session_id, media, events)

    def from_server(message: Rtc | Vad | Close) -> None:
        match message:
            case Rtc(inner) if inner.type is RtcType.SDP:
                kind, sdp = calls_dc.read_sdp_json(inner.data)
                if kind == "offer":
                    me.offers.append(sdp)
                media.description_received(kind, sdp)
            case Vad(inner):
                me.vad.append(inner.type)
            case Close():
                me.closed.set()

    config = SessionConfig("group", call, f"user-{name}", session_id)
    await server.join(config, from_server)
    running = asyncio.create_task(media.run())
    try:
        await media.offer()
        async with asyncio.timeout(25):
            await media.ready.wait()
        yield me
    finally:
        await server.leave(session_id)
        running.cancel()
        await asyncio.wait([running])
        await media.close()


async def talk(
    track: LocalTrack, *, packets: int, first: int = 0, payload: bytes = SILENCE
) -> None:
    for number in range(first, first + packets):
        level = 20 if number // 10 % 2 else 120
        track.send(payload, rtp_timestamp=number * 960, marker=False, audio_level=level)
        await asyncio.sleep(0.001)


async def read(track: RemoteTrack, count: int) -> list[EncodedFrame]:
    frames: list[EncodedFrame] = []
    async for frame in track.frames():
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


@one_or_many
async def test_everybody_hears_everybody_else_and_nobody_hears_oneself(processes: int) -> None:
    async with running_sfu(processes) as server, AsyncExitStack() as stack, asyncio.timeout(25):
        alice, bob, carol = [
            await stack.enter_async_context(guest(server, name))
            for name in ("alice", "bob", "carol")
        ]
        for who, marker in ((alice, b"A"), (bob, b"B"), (carol, b"C")):
            await talk(await who.publish_voice(), packets=5, payload=bytes([0x08]) + marker * 20)
        heard: dict[str, set[str]] = {}
        for who in (alice, bob, carol):
            tracks = [await who.track(), await who.track()]
            heard[who.session_id] = {track.session_id for track in tracks}
            assert all(track.source is TrackSource.VOICE for track in tracks)
        everybody = {alice.session_id, bob.session_id, carol.session_id}
        assert heard == {me: everybody - {me} for me in everybody}


async def test_packets_pass_unchanged_and_in_order() -> None:
    async with running_sfu() as server, guest(server, "alice") as alice, asyncio.timeout(25):
        async with guest(server, "bob") as bob:
            voice = await alice.publish_voice()
            await talk(voice, packets=3)
            track = await bob.track()
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(read(track, 20))
                for number in range(3, 60):
                    payload = bytes([0x08, number]) + bytes(30)
                    voice.send(payload, rtp_timestamp=number * 960, marker=False)
                    await asyncio.sleep(0.005)
            numbers = [frame.payload[1] for frame in reading.result() if frame.payload[0] == 8]
            assert numbers == sorted(numbers)
            assert len(set(numbers)) == len(numbers) > 10


async def test_a_latecomer_gets_the_tracks_that_are_there() -> None:
    async with running_sfu() as server, guest(server, "alice") as alice, asyncio.timeout(25):
        voice = await alice.publish_voice()
        await talk(voice, packets=5)
        async with guest(server, "bob") as bob:
            track = await bob.track()
            assert track.session_id == alice.session_id


async def test_a_muted_publisher_is_not_forwarded() -> None:
    async with (
        running_sfu() as server,
        guest(server, "alice") as alice,
        asyncio.timeout(25),
    ):
        async with guest(server, "bob") as bob:
            voice = await alice.publish_voice()
            await talk(voice, packets=5)
            track = await bob.track()
            await alice.tell(RtcType.MUTE)
            await talk(voice, packets=20, first=100, payload=bytes([0x08, 1]) + bytes(20))
            await alice.tell(RtcType.UNMUTE)
            await talk(voice, packets=20, first=200, payload=bytes([0x08, 2]) + bytes(20))
            frames = await read(track, 10)
            assert {frame.payload[1] for frame in frames if frame.payload[0] == 8} == {2}


async def test_voice_activity_is_told_from_audio_levels_and_ends_with_a_mute() -> None:
    async with running_sfu() as server, guest(server, "alice") as alice, asyncio.timeout(25):
        await talk(await alice.publish_voice(), packets=80)
        while not alice.vad:
            await asyncio.sleep(0.01)
        await alice.tell(RtcType.MUTE)
        assert alice.vad == [RtcType.VOICE_ON, RtcType.VOICE_OFF]


@one_or_many
async def test_a_screen_is_announced_with_a_key_frame_and_ends_with_screen_off(
    processes: int,
) -> None:
    async with (
        running_sfu(processes) as server,
        guest(server, "alice") as alice,
        asyncio.timeout(25),
    ):
        async with guest(server, "bob") as bob:
            await alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen-stream"})
            screen = await alice.media.publish(
                "video", local_media(alice.session_id, "screen-stream")
            )
            show(screen, 0, key=True)
            track = await bob.track()
            assert track.source is TrackSource.SCREEN
            while not screen.key_frame_wanted:  # the newcomer needs one: the SFU asks by itself
                await asyncio.sleep(0.01)
            show(screen, 1, key=True)
            [frame] = await read(track, 1)
            assert frame.keyframe
            assert len(frame.payload) == 5003
            await alice.tell(RtcType.SCREEN_OFF)
            assert (await bob.track_ended()) is track


async def test_video_that_comes_before_screen_on_is_held_and_then_forwarded() -> None:
    async with running_sfu() as server, guest(server, "alice") as alice, asyncio.timeout(25):
        async with guest(server, "bob") as bob:
            screen = await alice.media.publish("video", local_media(alice.session_id, "stream-1"))
            show(screen, 0, key=True)
            await asyncio.sleep(0.05)
            await alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "stream-1"})
            show(screen, 1, key=True)
            assert (await bob.track()).source is TrackSource.SCREEN


async def test_the_second_screen_shares_the_freed_section() -> None:
    async with running_sfu() as server, guest(server, "alice") as alice, asyncio.timeout(25):
        async with guest(server, "bob") as bob:
            for stream in ("first", "second"):
                await alice.tell(RtcType.SCREEN_ON, {"screenStreamID": stream})
                screen = await alice.media.publish("video", local_media(alice.session_id, stream))
                show(screen, 0, key=True)
                await bob.track()
                await alice.tell(RtcType.SCREEN_OFF)
                alice.media.unpublish(screen.ssrc)
                await bob.track_ended()
            assert [offer.count("m=video") for offer in bob.offers] == [1, 1, 1, 1]


@one_or_many
async def test_a_speaker_who_leaves_ends_by_the_word_of_the_plugin_only(processes: int) -> None:
    async with running_sfu(processes) as server, guest(server, "bob") as bob, asyncio.timeout(25):
        async with guest(server, "alice") as alice:
            await talk(await alice.publish_voice(), packets=5)
            track = await bob.track()
        offers = len(bob.offers)
        bob.media.participant_left(track.session_id)
        assert (await bob.track_ended()) is track
        assert len(bob.offers) == offers


async def test_a_session_without_an_offer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfu.session.FIRST_OFFER_TIMEOUT_S", 0.05)
    closed = asyncio.Event()
    async with running_sfu() as server, asyncio.timeout(25):
        config = SessionConfig("group", "call", "user", "silent")
        await server.join(config, lambda m: closed.set() if isinstance(m, Close) else None)
        await closed.wait()
        assert server.sessions("group", "call") is None


@one_or_many
async def test_a_session_id_is_taken_only_once(processes: int) -> None:
    async with running_sfu(processes) as server, guest(server, "alice") as alice:
        config = SessionConfig("group", "call", "user", alice.session_id)
        with pytest.raises(JoinError, match="user session already exists"):
            await server.join(config, lambda _: None)


@pytest.mark.parametrize("missing", ["group_id", "call_id", "user_id", "session_id"])
async def test_a_join_names_the_id_that_is_missing(missing: str) -> None:
    values = dict.fromkeys(("group_id", "call_id", "user_id", "session_id"), "x") | {missing: ""}
    name = {"group_id": "GroupID", "call_id": "CallID", "user_id": "UserID"}.get(
        missing, "SessionID"
    )
    async with running_sfu() as server:
        with pytest.raises(JoinError, match=f"invalid {name} value: should not be empty"):
            await server.join(SessionConfig(**values), lambda _: None)


def show(track: LocalTrack, number: int, *, key: bool) -> None:
    """Send one made-up VP8 frame of 5003 bytes in several packets."""
    frame = bytes([0x10 if key else 0x11, 0, 0]) + bytes(5000)
    payloads = vp8.packetize(frame, picture_id=number)
    for index, payload in enumerate(payloads):
        track.send(payload, rtp_timestamp=number * 9000, marker=index == len(payloads) - 1)


@pytest.mark.slow
async def test_twenty_five_real_peers_of_five_calls_connect_and_close() -> None:
    async with running_sfu() as server, asyncio.timeout(25):
        async with AsyncExitStack() as stack:
            guests = await asyncio.gather(
                *(
                    stack.enter_async_context(guest(server, f"g{n}", call=f"call-{n % 5}"))
                    for n in range(25)
                )
            )
            assert server.session_count() == 25
            closed = [guest.closed for guest in guests]
        assert all(event.is_set() for event in closed)
        assert server.session_count() == 0
