"""What a client may rely on whichever SFU is there: ours, or the original as the double plays it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from callclient.publish import LocalTrack
from callclient.receive.tracks import RemoteTrack, TrackSource
from rtc import vp8
from sfu.messages import RtcType
from sfu.server import SfuServer
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.server import DoubleServer


@pytest.fixture(params=["ours", "double"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A media plane on a free port of loopback."""
    started: Any
    if request.param == "ours":
        started = SfuServer(bind_addresses=["127.0.0.1"], udp_port=0, connect_timeout_s=5)
    else:
        started = DoubleServer(Script(), connect_timeout_s=5)
    await started.start()
    yield started
    await started.close()


async def talk(track: LocalTrack, *, packets: int, payload: bytes, first: int = 0) -> None:
    for number in range(first, first + packets):
        level = 20 if number // 10 % 2 else 120
        track.send(payload, rtp_timestamp=number * 960, marker=False, audio_level=level)
        await asyncio.sleep(0.001)


async def first_frame(track: RemoteTrack, payload: bytes) -> None:
    async for frame in track.frames():
        if frame.payload == payload:
            return


def picture(track: LocalTrack, number: int) -> None:
    payloads = vp8.packetize(bytes([0x10, number, 0]) + bytes(3000), picture_id=number)
    for index, payload in enumerate(payloads):
        track.send(payload, rtp_timestamp=number * 6000, marker=index == len(payloads) - 1)


async def test_everybody_hears_everybody_else_and_nobody_hears_oneself(
    server: Any, lobby: Any, tools: Any
) -> None:
    guests = [await lobby.enter(server, name) for name in ("alice", "bob", "carol")]
    for guest in guests:
        await talk(await guest.publish("audio", "stream"), packets=3, payload=tools.silence)
    everybody = {guest.session_id for guest in guests}
    await tools.until(lambda: all(len(guest.tracks) == 2 for guest in guests))
    for guest in guests:
        assert {t.session_id for t in guest.tracks} == everybody - {guest.session_id}
        assert {t.source for t in guest.tracks} == {TrackSource.VOICE}


async def test_a_latecomer_gets_the_tracks_that_are_there(
    server: Any, lobby: Any, tools: Any
) -> None:
    alice = await lobby.enter(server, "alice")
    await talk(await alice.publish("audio", "stream"), packets=3, payload=tools.silence)
    bob = await lobby.enter(server, "bob")
    assert (await bob.track()).session_id == alice.session_id


async def test_who_published_before_receives_in_the_same_section(
    server: Any, lobby: Any, tools: Any
) -> None:
    """A section that the client opened is free for what the SFU has to send."""
    alice, bob = await lobby.enter(server, "alice"), await lobby.enter(server, "bob")
    voices = [await guest.publish("audio", "stream") for guest in (alice, bob)]
    for voice in voices:
        voice.send(tools.silence, rtp_timestamp=0, marker=False)
    for guest, others_voice in ((alice, voices[1]), (bob, voices[0])):
        hearing = asyncio.create_task(first_frame(await guest.track(), b"\x08hello"))
        while not hearing.done():
            await talk(others_voice, packets=5, payload=b"\x08hello", first=10)
        assert guest.media._peer.negotiation.sections[1].local is not None
    assert len(alice.media._peer.negotiation.sections) == 2


async def test_a_muted_publisher_is_not_forwarded(server: Any, lobby: Any, tools: Any) -> None:
    alice, bob = await lobby.enter(server, "alice"), await lobby.enter(server, "bob")
    voice = await alice.publish("audio", "stream")
    await talk(voice, packets=3, payload=tools.silence)
    track = await bob.track()
    await alice.tell(RtcType.MUTE)
    await talk(voice, packets=20, first=100, payload=b"\x08muted")
    await alice.tell(RtcType.UNMUTE)
    hearing = asyncio.create_task(collect(track, b"\x08open"))
    number = 200
    while not hearing.done():
        await talk(voice, packets=5, first=number, payload=b"\x08open")
        number += 5
    assert b"\x08muted" not in hearing.result()


async def collect(track: RemoteTrack, until: bytes) -> list[bytes]:
    payloads = []
    async for frame in track.frames():
        payloads.append(frame.payload)
        if frame.payload == until:
            break
    return payloads


async def test_voice_activity_is_told_and_ends_with_a_mute(
    server: Any, lobby: Any, tools: Any
) -> None:
    alice = await lobby.enter(server, "alice")
    await talk(await alice.publish("audio", "stream"), packets=80, payload=tools.silence)
    await tools.until(lambda: alice.vad)
    await alice.tell(RtcType.MUTE)
    assert alice.vad == [RtcType.VOICE_ON, RtcType.VOICE_OFF]


async def test_a_screen_comes_goes_and_comes_again_in_one_section(
    server: Any, lobby: Any, tools: Any
) -> None:
    alice, bob = await lobby.enter(server, "alice"), await lobby.enter(server, "bob")
    for stream in ("first", "second"):
        await alice.tell(RtcType.SCREEN_ON, {"screenStreamID": stream})
        screen = await alice.publish("video", stream)
        picture(screen, 1)
        track = await bob.track()
        assert track.source is TrackSource.SCREEN
        # Nobody can be sure of a key frame unless it is asked for, by the receiver or the SFU.
        await tools.until(lambda screen=screen: screen.key_frame_wanted)
        picture(screen, 2)
        assert (await anext(aiter(track.frames()))).keyframe
        await alice.tell(RtcType.SCREEN_OFF)
        alice.media.unpublish(screen.ssrc)
        await tools.until(lambda: not bob.tracks)
    assert [s.kind for s in bob.media._peer.negotiation.sections] == ["application", "video"]


async def test_the_sound_of_a_screen_is_no_voice(server: Any, lobby: Any, tools: Any) -> None:
    alice, bob = await lobby.enter(server, "alice"), await lobby.enter(server, "bob")
    await alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    for stream in ("screen", "microphone"):
        track = await alice.publish("audio", stream)
        await talk(track, packets=3, payload=tools.silence)
    await tools.until(lambda: len(bob.tracks) == 2)
    assert {t.source for t in bob.tracks} == {TrackSource.SCREEN_AUDIO, TrackSource.VOICE}


async def test_a_speaker_who_leaves_ends_by_the_word_of_the_plugin_only(
    server: Any, lobby: Any, tools: Any
) -> None:
    bob = await lobby.enter(server, "bob")
    alice = await lobby.enter(server, "alice")
    await talk(await alice.publish("audio", "stream"), packets=3, payload=tools.silence)
    track = await bob.track()
    await server.leave(alice.session_id)
    assert bob.tracks == [track]
    bob.media.participant_left(alice.session_id)
    assert bob.tracks == []
