"""The ears of a call: captures first, mutes noticed by time, one bad track costs only itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from foundation.clock import ManualClock
from jobs.transcriber.capture import CapturedTrack, TrackIdentity
from jobs.transcriber.capture_store import CaptureStore
from jobs.transcriber.listening import Ear, UtteranceEnded, UtteranceEvent
from jobs.transcriber.live import LiveListener, LiveVoice
from jobs.transcriber.vad import load_silero


class Room:
    """A listener on a clock that the test moves, with what it heard."""

    def __init__(self, directory: Path, zero_ns: int) -> None:
        self.clock = ManualClock()
        self.clock.advance(seconds=(zero_ns - self.clock.monotonic_ns()) / 1e9)
        self.zero_ns = zero_ns
        self.ended: dict[str, list[UtteranceEnded]] = {}
        self.pool = ThreadPoolExecutor(2)
        self.store = CaptureStore(directory, executor=self.pool)
        self.listener = LiveListener(
            clock=self.clock, zero_ns=zero_ns, executor=self.pool, on_event=self._heard
        )
        self._reading: list[asyncio.Task[None]] = []

    def _heard(self, voice: LiveVoice, event: UtteranceEvent) -> None:
        if isinstance(event, UtteranceEnded):
            self.ended.setdefault(voice.session_id, []).append(event)

    def add(self, track, make_ear=None) -> LiveVoice:
        identity = TrackIdentity(track.track_id, track.session_id, "user")
        voice = LiveVoice(track, self.store.open(identity), make_ear or partial(Ear, load_silero()))
        self.listener.add(voice)
        self._reading.append(asyncio.create_task(voice.read(zero_ns=self.zero_ns)))
        return voice

    async def finish(self) -> None:
        self.listener.finish()
        async with asyncio.timeout(25):
            await self.listener.run()
            await asyncio.gather(*self._reading)
        self.pool.shutdown()


@pytest.fixture
def room(tmp_path: Path, peer) -> Room:
    return Room(tmp_path, peer.zero_ns)


async def _deliver(room: Room, peer, track, packets) -> None:
    """At the time at which they would have come."""
    peer.say(track, packets)
    end_ns = room.zero_ns + packets[-1].end_ns
    room.clock.advance(seconds=max(0, end_ns - room.clock.monotonic_ns()) / 1e9)
    await asyncio.sleep(0)
    await room.listener._tick()


async def test_a_mute_in_mid_sentence_ends_it_when_its_packets_are_overdue(
    clips, peer, room: Room
) -> None:
    track = peer.add_voice("bob")
    room.add(track)
    await _deliver(room, peer, track, clips["bob"].packets()[:50])
    assert room.ended == {}
    for _ in range(3):
        room.clock.advance(seconds=0.1)
        await room.listener._tick()
    assert room.ended == {}, "a packet may be late by so much"
    for _ in range(8):
        room.clock.advance(seconds=0.1)
        await room.listener._tick()
    (utterance,) = room.ended["session-bob"]
    assert utterance.end_ns == pytest.approx(1.0e9, abs=0.1e9)
    track.end()
    await room.finish()


async def test_an_ear_that_fails_is_replaced_and_the_others_hear_on(
    clips, peer, room: Room
) -> None:
    class Deaf(Ear):
        def hear(self, packets):
            raise ZeroDivisionError

    ears = [Deaf(load_silero()), Ear(load_silero())]
    bad, good = peer.add_voice("alice"), peer.add_voice("bob")
    voice = room.add(bad, lambda: ears.pop(0))
    room.add(good)
    for name, track in (("alice", bad), ("bob", good)):
        peer.say(track, clips[name].packets()[:150])
    await asyncio.sleep(0)
    await room.listener._tick()
    for name, track in (("alice", bad), ("bob", good)):
        peer.say(track, clips[name].packets()[150:])
        track.end()
    await room.finish()
    assert voice.ear_failures == 1
    assert len(room.ended["session-bob"]) == 4
    assert len(room.ended["session-alice"]) >= 2


async def test_every_packet_is_captured_whatever_the_ear_does(
    clips, peer, room: Room, tmp_path: Path
) -> None:
    track = peer.add_voice("bob", track_id="../weird/track")
    voice = room.add(track)
    peer.say(track, clips["bob"].packets(start_ns=-1_000_000_000))
    track.end()
    await room.finish()
    room.store._executor = ThreadPoolExecutor(1)
    await room.store.flush()
    room.store._executor.shutdown()
    assert voice.capture.path.parent == tmp_path
    captured = list(CapturedTrack(voice.capture.path).packets())
    assert [p.payload for p in captured] == list(clips["bob"].payloads[50:])
    assert captured[0].call_ns == 0


def test_a_track_offered_again_gets_its_own_file(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, executor=ThreadPoolExecutor(1))
    identity = TrackIdentity("track", "session", "user")
    names = [store.open(identity).path.name for _ in range(3)]
    assert names == ["user_track.ogg", "user_track_2.ogg", "user_track_3.ogg"]
