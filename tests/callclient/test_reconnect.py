"""A lost WebSocket: noticed, found again, or given up (calls-plugin.md 1.5, traps 11–13); on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import pytest

from callclient.errors import NotAuthenticated, SignalingFailed
from callclient.signaling.backoff import STEADY_S, Backoff
from callclient.signaling.connection import SignalingConnection
from callclient.signaling.liveness import Liveness
from callclient.signaling.socket import Endpoint, SocketLost
from callclient.signaling.wire import WireEvent

pytestmark = pytest.mark.looptime


@dataclass
class Client:
    connection: SignalingConnection
    running: asyncio.Task[Any]
    changes: list[tuple[str, float]]
    events: list[WireEvent] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.changes]


@asynccontextmanager
async def joined(mattermost: Any, clock: Any, *, limit_s: float = 30.0) -> AsyncIterator[Client]:
    """A connection with a session."""
    async with connected(mattermost, clock, limit_s=limit_s) as client:
        await client.connection.until_hello()
        client.connection.keep_session()
        yield client


@asynccontextmanager
async def connected(mattermost: Any, clock: Any, *, limit_s: float = 30.0) -> AsyncIterator[Client]:
    changes: list[tuple[str, float]] = []
    events: list[WireEvent] = []

    async def on_event(event: WireEvent) -> None:
        events.append(event)

    def changed(name: str) -> None:
        changes.append((name, asyncio.get_running_loop().time()))

    connection = SignalingConnection(
        Endpoint("http://site", "token"),
        channel_id="channel",
        reconnect_limit_s=limit_s,
        on_event=on_event,
        on_lost=lambda: changed("lost"),
        on_restored=lambda: changed("restored"),
        open_socket=mattermost.open,
        clock=clock,
        backoff=Backoff(chance=lambda: 0.5),
    )
    running: asyncio.Task[Any] = asyncio.create_task(connection.run())
    try:
        yield Client(connection, running, changes, events)
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("away_s", [3, 8])
async def test_after_some_seconds_without_a_websocket_the_session_goes_on(
    mattermost: Any, loop_clock: Any, away_s: float
) -> None:
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(60)
        mattermost.lose()
        await asyncio.sleep(away_s)
        mattermost.come_back()
        await asyncio.sleep(2.5)
        assert client.names == ["lost", "restored"]
        lost_s, restored_s = (at_s for _, at_s in client.changes)
        assert away_s <= restored_s - lost_s < 10, "the session would be gone"
        first, second = mattermost.sockets[1].frames[:2]
        assert first["action"].endswith("_reconnect")
        assert first["data"] == {
            "channelID": "channel",
            "originalConnID": "conn0",
            "prevConnID": "conn0",
        }
        assert "call_state" in mattermost.sockets[1].actions
        assert second["action"] in ("ping", "custom_com.mattermost.calls_call_state")


def test_whoever_is_back_after_8_s_was_asked_before_the_server_gave_the_session_up_whatever_chance_says() -> (
    None
):
    backoff = Backoff(chance=lambda: 1.0)
    asked_at_s = list(accumulate(backoff.next_s() for _ in range(20)))
    assert any(8.6 < at_s < 10 for at_s in asked_at_s)
    assert max(b - a for a, b in pairwise(asked_at_s)) <= 1.25


async def test_each_reconnect_names_the_session_and_the_connection_before_it(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock):
        for _ in range(2):
            await asyncio.sleep(60)
            mattermost.sockets[-1].close_by_server()
            await asyncio.sleep(0.1)
        assert [
            (s.frames[0]["data"]["originalConnID"], s.frames[0]["data"]["prevConnID"])
            for s in mattermost.sockets[1:]
        ] == [("conn0", "conn0"), ("conn0", "conn1")]


async def test_the_first_attempt_is_made_at_once_and_the_next_ones_wait_longer_and_longer(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock):
        await asyncio.sleep(60)
        mattermost.lose()
        await asyncio.sleep(9)
    attempts = [at_s - 60 for at_s in mattermost.attempts_at_s[1:]]
    waits = [round(b - a, 3) for a, b in pairwise(attempts)]
    assert attempts[0] == pytest.approx(0, abs=0.01)
    assert waits == [0.625] + 7 * [1.125]


async def test_away_for_longer_than_the_limit_is_the_end_with_the_reason(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock, limit_s=10) as client:
        await asyncio.sleep(60)
        mattermost.lose()
        with pytest.raises(SignalingFailed, match=r"away for more than 10 s: Connection refused"):
            await client.running
        assert 60 + 7.5 < asyncio.get_running_loop().time() <= 60 + 10.01


async def test_a_dead_connection_is_noticed_and_replaced_while_the_session_still_lives(
    mattermost: Any, loop_clock: Any
) -> None:
    """Neither end is told when a cable is pulled or a NAT forgets: only silence tells (trap 13)."""
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(61)
        mattermost.sockets[0].dead = True
        await asyncio.sleep(7)
        assert client.names == ["lost", "restored"]
        assert 4 <= client.changes[0][1] - 61 <= 6
        assert mattermost.sockets[0].aborted, "a farewell would wait for an answer"


async def test_eight_seconds_in_which_nothing_comes_through_are_survived(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(60)
        mattermost.pull_the_cable()
        await asyncio.sleep(8)
        mattermost.come_back()
        await asyncio.sleep(6)
        assert client.names == ["lost", "restored"]


async def test_a_connection_with_life_in_it_is_never_given_up(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(600)
        assert client.changes == []
        assert len(mattermost.sockets) == 1


async def test_who_leaves_while_the_socket_breaks_does_not_wait_for_another_one(
    mattermost: Any, loop_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(mattermost, loop_clock) as client:

        async def lost_when_cancelled(frame: str | bytes) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise SocketLost("closed meanwhile") from None

        monkeypatch.setattr(mattermost.sockets[0], "send", lost_when_cancelled)
        client.connection.control("raise_hand", None)
        await asyncio.sleep(1)
        client.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.running
    assert len(mattermost.sockets) == 1


def test_a_host_that_stood_still_does_not_blame_the_server() -> None:
    liveness = Liveness()
    assert liveness.tick()  # however long the sleep before it was
    liveness.heard()
    assert [liveness.tick() for _ in range(3)] == [True, True, False]


async def test_a_server_that_throws_everybody_out_again_is_not_asked_without_a_pause(
    mattermost: Any, loop_clock: Any
) -> None:
    mattermost.on_action["call_state"] = lambda socket, data: socket.close_by_server()
    async with joined(mattermost, loop_clock):
        await asyncio.sleep(60)
        mattermost.sockets[0].close_by_server()
        await asyncio.sleep(20)
    assert 5 < len(mattermost.attempts_at_s) < 22  # about one in a second


def test_a_connection_that_lived_for_a_while_starts_the_waits_anew() -> None:
    backoff = Backoff(chance=lambda: 0.0)
    assert [backoff.next_s() for _ in range(6)] == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    backoff.lived(STEADY_S - 0.1)
    assert backoff.next_s() == 1.0
    backoff.lived(STEADY_S)
    assert backoff.next_s() == 0.0


async def test_before_there_is_a_session_a_loss_is_the_end(
    mattermost: Any, loop_clock: Any
) -> None:
    async with connected(mattermost, loop_clock) as client:
        await client.connection.until_hello()
        mattermost.lose()
        with pytest.raises(SignalingFailed, match="lost before the join was answered"):
            await client.running


async def test_a_missing_hello_means_that_the_token_is_not_accepted(
    mattermost: Any, loop_clock: Any
) -> None:
    mattermost.silent = True
    async with connected(mattermost, loop_clock) as client:
        with pytest.raises(NotAuthenticated, match="does not accept the job's token"):
            await client.running
        assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.1)


async def test_what_was_queued_while_away_goes_out_afterwards_but_captions_grow_old(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(60)
        mattermost.lose()
        await asyncio.sleep(0.1)
        client.connection.caption({"session_id": "s", "text": "old", "new_audio_len_ms": 1.0})
        client.connection.control("raise_hand", None)
        await asyncio.sleep(6)
        client.connection.caption({"session_id": "s", "text": "new", "new_audio_len_ms": 1.0})
        mattermost.come_back()
        await asyncio.sleep(3)
        assert mattermost.sockets[1].actions == ["reconnect", "raise_hand", "call_state", "caption"]
        texts = [(frame.get("data") or {}).get("text") for frame in mattermost.sockets[1].frames]
        assert [text for text in texts if text] == ["new"]
        assert client.connection.captions_dropped == 1


async def test_a_message_that_met_a_closed_socket_is_sent_by_the_next_one(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(60)
        mattermost.sockets[0].closed = True  # it refuses, though nothing was read of it yet
        client.connection.control("unmute", None)
        await asyncio.sleep(3)
        assert "unmute" in mattermost.sockets[1].actions


async def test_a_frame_too_large_for_the_server_is_dropped_and_the_next_one_goes_out(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        client.connection.caption({"session_id": "s", "text": "x" * 9000, "new_audio_len_ms": 1.0})
        client.connection.description(b"x" * 9000)
        client.connection.control("mute", None)
        await asyncio.sleep(1)
        assert mattermost.sockets[0].actions == ["mute"]
        assert client.connection.frames_refused == 2
        assert not client.running.done()


async def test_more_to_say_than_the_server_takes_for_minutes_is_the_end_of_the_stay(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        for _ in range(512):
            client.connection.control("mute", None)
        with pytest.raises(SignalingFailed, match="512 signaling messages"):
            client.connection.control("mute", None)


async def test_an_answer_would_go_out_at_once_only_with_a_socket_a_free_way_and_a_small_frame(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(60)
        connection = client.connection
        assert connection.takes_now(b"x" * 8000)
        assert not connection.takes_now(b"x" * 8100)
        for _ in range(100):
            connection.control("mute", None)
        assert not connection.takes_now(b"x")
        await asyncio.sleep(30)
        mattermost.lose()
        await asyncio.sleep(0.1)
        assert not connection.takes_now(b"x")


async def test_everything_goes_out_within_the_server_s_limit_and_joins_overtake_captions(
    mattermost: Any, loop_clock: Any
) -> None:
    async with joined(mattermost, loop_clock) as client:
        await asyncio.sleep(60)
        for number in range(50):
            client.connection.caption({"session_id": "s", "text": str(number)})
        for _ in range(100):
            client.connection.control("mute", None)
        await asyncio.sleep(16)
        socket = mattermost.sockets[0]
        calls = [
            at_s
            for value, at_s in zip(socket.frames, socket.at_s, strict=True)
            if value["action"] != "ping"
        ]
        assert socket.actions[:100] == ["mute"] * 100
        allowed, tokens, last_s = 0, 100.0, calls[0]
        for at_s in calls:  # the server's own bucket: 10/s, burst 100
            tokens = min(100.0, tokens + (at_s - last_s) * 10) - 1
            last_s = at_s
            allowed += tokens >= 0
        assert allowed == len(calls) > 100
