"""What the call's events make of the scene."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from callclient import events
from callclient.plugin_api import UserProfile
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from callclient.state import CallState
from jobs.recorder.inbox import Inbox, SceneChange, TrackFrame, TrackOver
from jobs.recorder.scene import Scene
from jobs.recorder.watcher import CallWatcher

S = 1_000_000_000


class Source:
    async def profile(self, channel_id: str, session_id: str) -> UserProfile:
        return UserProfile(f"u-{session_id}", session_id, session_id.title(), "Test")

    async def users_by_ids(self, user_ids: list[str]) -> list[UserProfile]:
        return []

    async def user_image(self, user_id: str) -> bytes:
        return b""


class Call:
    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.state = CallState()
        self.inbox = Inbox()
        self.watcher = CallWatcher(
            self.state, self.inbox, Source(), tasks, channel_id="c", face=bytes
        )
        self.items: list[object] = []

    async def joined(self, *names: str) -> None:
        for name in names:
            self.state.join(name, f"u-{name}")
            self.watcher.event_came(events.ParticipantJoined(name, f"u-{name}"))
        await self.looked_up()

    async def looked_up(self) -> None:
        """Whoever was seen so far has a name, or has none."""
        async with asyncio.timeout(25):
            while any(task.get_name() == "profile" for task in self.watcher._running):
                await asyncio.sleep(0.001)

    def host(self, user_id: str) -> None:
        self.state.host_user_id = user_id
        self.watcher.event_came(events.HostChanged(user_id))

    @property
    def change(self) -> SceneChange:
        while (item := self.inbox.get()) is not None:
            self.items.append(item)
        return next(i for i in reversed(self.items) if isinstance(i, SceneChange))

    @property
    def scene(self) -> Scene:
        return self.change.scene


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    async with asyncio.TaskGroup() as tasks:
        call = Call(tasks)
        yield call
        call.watcher.close()


async def test_a_reaction_is_seen_for_ten_seconds_by_the_name_of_who_reacted(call) -> None:
    await call.joined("ann")
    call.watcher.event_came(events.Reacted("ann", "tada", "1f389", "", 1))
    change = call.change
    (reaction,) = change.scene.reactions
    assert (reaction.name, reaction.emoji.text) == ("Ann Test", "🎉")
    assert change.scene.at(change.time_ns + 9 * S).tiles[0].reaction == reaction.emoji
    later = change.scene.at(change.time_ns + 10 * S)
    assert later.reactions == ()
    assert later.tiles[0].reaction is None


async def test_a_new_host_is_announced_but_not_the_first_one(call) -> None:
    await call.joined("ann", "ben")
    call.host("u-ann")
    assert call.scene.notices == ()
    call.host("u-ben")
    change = call.change
    assert [(n.name, n.text) for n in change.scene.notices] == [("Ben Test", "is now the host")]
    assert change.scene.at(change.time_ns + 5 * S).notices == ()
    call.host("")
    assert len(call.scene.notices) == 1


async def test_who_was_removed_is_named_though_they_are_gone(call) -> None:
    await call.joined("ann", "ben")
    call.watcher.event_came(events.ParticipantRemoved("ben", "u-ben"))
    call.state.leave("ben")
    call.watcher.event_came(events.ParticipantLeft("ben", "u-ben"))
    assert [(n.name, n.text) for n in call.scene.notices] == [
        ("Ben Test", "was removed from the call")
    ]
    assert len(call.scene.tiles) == 1


async def test_a_lost_connection_is_told_after_two_seconds_until_it_is_back(call) -> None:
    await call.joined("ann")
    call.watcher.event_came(events.SignalingLost())
    change = call.change
    since_ns = change.time_ns
    assert change.scene.lost_s(since_ns + S) is None
    assert change.scene.lost_s(since_ns + 7 * S) == 7
    assert change.scene.next_change_ns(since_ns + 7 * S) == since_ns + 8 * S
    call.watcher.event_came(events.SignalingRestored())
    assert call.scene.lost_s(since_ns + 9 * S) is None


async def test_who_only_the_state_names_is_looked_up_too(call) -> None:
    call.state.join("ann", "u-ann")
    call.watcher.event_came(events.CallStateReceived())
    await call.looked_up()
    assert [tile.person.short_name for tile in call.scene.tiles] == ["Ann T."]


async def test_cameras_are_read_like_screens(call) -> None:
    track = RemoteTrack(
        track_id="video_ann_x", session_id="ann", source=TrackSource.VIDEO, codec=Codec.VP8
    )
    call.watcher.event_came(events.TrackAdded(track))
    track.deliver(EncodedFrame(b"x", 1, 0, True, 0))
    async with asyncio.timeout(25):
        while (item := call.inbox.get()) is None:
            await asyncio.sleep(0.001)
    assert isinstance(item, TrackFrame)
    track.end()


async def test_at_most_fifty_reactions_are_kept(call) -> None:
    await call.joined("ann")
    for _ in range(70):
        call.watcher.event_came(events.Reacted("ann", "tada", "1f389", "", 1))
    assert len(call.scene.reactions) == 50


async def test_lost_media_are_marked_from_the_last_packet_on_and_counted(call) -> None:
    await call.joined("ann")
    since_ns = time.monotonic_ns() - 2 * S
    call.watcher.event_came(events.MediaLost(since_ns))
    assert call.scene.lost_s(since_ns + 7 * S) == 7
    assert call.watcher.media_lost_s(since_ns + 7 * S) == 7
    call.watcher.event_came(events.MediaRestored(since_ns + 9 * S))
    assert call.scene.lost_s(since_ns + 10 * S) is None
    assert call.watcher.media_lost_s(since_ns + 20 * S) == 9


async def test_what_is_lost_longer_is_what_is_marked(call) -> None:
    await call.joined("ann")
    call.watcher.event_came(events.SignalingLost())
    signaling_ns = call.change.time_ns
    call.watcher.event_came(events.MediaLost(signaling_ns - 3 * S))
    assert call.scene.lost_since_ns == signaling_ns - 3 * S
    call.watcher.event_came(events.MediaRestored(signaling_ns))
    assert call.scene.lost_since_ns == signaling_ns


async def test_who_should_be_heard_or_seen_is_counted(call) -> None:
    await call.joined("ann", "ben", "cy")
    assert (call.watcher.participants, call.watcher.sending) == (3, 0)
    call.state.participants["ann"] = replace(call.state.participants["ann"], muted=False)
    call.state.screen_session_id = "ben"
    assert call.watcher.sending == 2


async def test_what_it_cannot_make_sense_of_is_passed_over(
    call, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nonsense(*arguments: object) -> UserProfile:
        raise TypeError("no profile")

    async def broken():
        yield EncodedFrame(b"", 1, 0, True, 0)
        raise TypeError("no frame")

    with monkeypatch.context() as patch:
        patch.setattr("jobs.recorder.watcher.build_scene", nonsense)
        await call.joined("ann")
    with monkeypatch.context() as patch:
        patch.setattr(Source, "profile", nonsense)
        await call.joined("ben")
    track = RemoteTrack(track_id="t", session_id="ann", source=TrackSource.VOICE, codec=Codec.OPUS)
    monkeypatch.setattr(RemoteTrack, "frames", lambda track: broken())
    call.watcher.event_came(events.TrackAdded(track))
    await call.joined("cleo")
    assert [tile.session_id for tile in call.scene.tiles] == ["ann", "cleo"]
    assert TrackOver(track) in call.items
