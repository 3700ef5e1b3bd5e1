"""Joining and not joining: what belongs to our call, our connection and our job; on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from callclient import errors
from callclient.client import CallClient, CallClientConfig
from callclient.errors import JoinRefused, MediaFailed, NotAuthenticated, SignalingFailed
from callclient.events import (
    CallEnded,
    CallEvent,
    JobKind,
    JobStateChanged,
    JobStopRequested,
    ParticipantJoined,
    ParticipantRemoved,
)

pytestmark = pytest.mark.looptime
PREFIX = "custom_com.mattermost.calls_"
CHANNEL = "c" * 26
JOB = "j" * 26
BOT = "b" * 26


@dataclass
class Job:
    """A client of the bot, and what it was told."""

    client: CallClient
    running: asyncio.Task[None]
    events: list[CallEvent] = field(default_factory=list)

    async def read(self) -> None:
        async for event in self.client.events():
            self.events.append(event)

    async def end(self) -> None:
        """However it ends."""
        async with asyncio.timeout(120):
            await asyncio.wait([self.running])


@asynccontextmanager
async def job(mattermost: Any, clock: Any, **config: Any) -> AsyncIterator[Job]:
    client = CallClient(
        CallClientConfig("http://site", "token", CHANNEL, job_id=JOB, **config),
        open_socket=mattermost.open,
        clock=clock,
    )
    me = Job(client, asyncio.create_task(client.run()))
    reading = asyncio.create_task(me.read())
    try:
        yield me
    finally:
        await client.leave()
        await asyncio.wait([me.running, reading])


def refuse(reason: str) -> Any:
    def answer(socket: Any, data: dict[str, Any]) -> None:
        socket.say(PREFIX + "error", {"data": reason, "connID": socket.id}, connection_id=socket.id)

    return answer


def bot_event(socket: Any, name: str, data: dict[str, Any], channel: str = CHANNEL) -> None:
    """The bot's copy: its channel stands in the data only."""
    socket.say(PREFIX + name, {"channelID": channel} | data, user_id=BOT, channel_id="")


@pytest.mark.parametrize(
    ("reason", "kind", "plain"),
    [
        ("forbidden", errors.Forbidden, "may not enter the channel"),
        ("cannot join call in archived channel", errors.ChannelArchived, "archived"),
        ("session is already connected", errors.AlreadyConnected, "in a call already"),
        ("call has ended", errors.CallHasEnded, "has ended"),
        ("user cannot join because of limits", errors.CallFull, "the call is full"),
        ("JobID should not be empty for bot connections", errors.JobIdMissing, "no ID"),
        ("no job in progress", errors.NoJobInProgress, "no recording or transcription"),
        ("job not in progress or already started", errors.JobNotAwaited, "started already"),
        ("calls are disabled in the channel", errors.CallsDisabled, "disabled"),
        ("insufficient permissions", errors.NotPermitted, "permission"),
        ("unlicensed servers only allow calls in DMs", errors.NotLicensed, "licence"),
        ("failed to get thread", JoinRefused, "the server refuses it"),
    ],
)
async def test_each_refusal_of_a_join_is_an_error_of_its_own_in_plain_words(
    mattermost: Any, loop_clock: Any, reason: str, kind: type[JoinRefused], plain: str
) -> None:
    mattermost.on_action["join"] = refuse(reason)
    async with job(mattermost, loop_clock) as me:
        await me.end()
        error = me.running.exception()
        assert type(error) is kind
        assert isinstance(error, JoinRefused)
        assert error.reason == reason
        assert plain in str(error)
        assert reason in str(error)


async def test_a_join_names_the_channel_and_the_plugins_job_and_does_not_claim_av1(
    mattermost: Any, loop_clock: Any
) -> None:
    async with job(mattermost, loop_clock):
        await asyncio.sleep(1)
        [join] = [f for f in mattermost.sockets[0].frames if f["action"] == PREFIX + "join"]
        assert join["data"] == {
            "channelID": CHANNEL,
            "jobID": JOB,
            "av1Support": False,
            "dcSignaling": True,
        }


@pytest.mark.documents("mattermost-does-not-answer-the-join")
async def test_a_join_that_is_never_answered_fails_in_time(
    mattermost: Any, loop_clock: Any, documented: Any
) -> None:
    async with job(mattermost, loop_clock, join_timeout_s=20) as me:
        await me.end()
        assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.5)
        with pytest.raises(SignalingFailed) as unanswered:
            me.running.result()
        documented("mattermost-does-not-answer-the-join", str(unanswered.value))


@pytest.mark.documents("a-token-that-the-websocket-does-not-take")
async def test_without_a_hello_the_token_is_blamed(
    mattermost: Any, loop_clock: Any, documented: Any
) -> None:
    mattermost.silent = True
    async with job(mattermost, loop_clock) as me:
        await me.end()
        assert isinstance(me.running.exception(), NotAuthenticated)
        documented("a-token-that-the-websocket-does-not-take", str(me.running.exception()))


async def test_answers_to_other_connections_of_the_bot_are_not_ours(
    mattermost: Any, loop_clock: Any
) -> None:
    """All jobs of all calls share one user; some events name a connection, some only in their data."""
    async with job(mattermost, loop_clock, join_timeout_s=5) as me:
        await asyncio.sleep(1)
        socket = mattermost.sockets[0]
        socket.say(PREFIX + "error", {"data": "forbidden", "connID": "other"})
        socket.say(PREFIX + "error", {"data": "forbidden"}, connection_id="other")
        socket.say(PREFIX + "error", {"data": "forbidden"})
        socket.say(PREFIX + "join", {"connID": "other"}, connection_id="other")
        await asyncio.sleep(1)
        assert not me.running.done()
        assert me.client.session_id == ""
        await me.end()
        assert isinstance(me.running.exception(), SignalingFailed)


async def test_of_what_the_bot_hears_only_its_own_call_and_job_count(
    mattermost: Any, loop_clock: Any
) -> None:
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(1)
        socket = mattermost.sockets[0]
        other, someone = "o" * 26, {"session_id": "s", "user_id": "u"}
        recording = {"type": "recording", "init_at": 1, "start_at": 2, "end_at": 0, "err": ""}
        bot_event(socket, "user_joined", someone, other)
        bot_event(socket, "call_end", {}, other)
        socket.say(PREFIX + "call_job_state", {"callID": other, "jobState": recording})
        socket.say(PREFIX + "job_stop", {"job_id": "x" * 26}, user_id=BOT)
        socket.say("posted", {"channelID": CHANNEL, "session_id": "s"})
        socket.say("call_end", {"channelID": CHANNEL})  # another plugin's
        await asyncio.sleep(1)
        assert me.events == []
        bot_event(socket, "user_joined", someone)
        socket.say(PREFIX + "call_job_state", {"callID": CHANNEL, "jobState": recording})
        await asyncio.sleep(1)
        assert me.events == [
            ParticipantJoined("s", "u"),
            JobStateChanged(JobKind.RECORDING, 1, 2, 0, ""),
        ]


async def test_a_stop_that_comes_before_the_join_is_answered_is_told(
    mattermost: Any, loop_clock: Any
) -> None:
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(1)
        mattermost.sockets[0].say(PREFIX + "job_stop", {"job_id": JOB}, user_id=BOT)
        await asyncio.sleep(1)
        assert me.events == [JobStopRequested()]


async def test_the_end_for_all_is_the_last_event(mattermost: Any, loop_clock: Any) -> None:
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(1)
        bot_event(mattermost.sockets[0], "call_end", {})
        await me.end()
        me.running.result()
        assert me.events == [CallEnded("the host ended the call")]


async def test_a_call_that_simply_empties_ends_with_the_media_or_a_stop_and_without_call_end(
    mattermost: Any, loop_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no `call_end` then: the closed connection to the SFU has to do."""
    media = await _media_that_fails(monkeypatch, "the other side closed the connection")
    mattermost.on_action["join"] = lambda socket, data: socket.say(
        PREFIX + "join", {"connID": socket.id}, connection_id=socket.id
    )
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(1)
        assert not me.running.done()
        media.set_result(None)
        await me.end()
        with pytest.raises(MediaFailed, match="closed the connection"):
            me.running.result()


async def _media_that_fails(monkeypatch: pytest.MonkeyPatch, reason: str) -> asyncio.Future[None]:
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Media:
        def __init__(self, **options: Any) -> None:
            self.ready = asyncio.Event()
            self.ready.set()

        async def run(self) -> None:
            await over
            raise MediaFailed(reason)

        async def offer(self) -> None: ...

        async def close(self) -> None: ...

        def participant_left(self, session_id: str) -> None: ...

        def explain(self, text: str) -> str:
            return text

    monkeypatch.setattr("callclient.client.CallMedia", Media)
    return over


async def test_media_goes_on_while_the_websocket_is_away_and_who_left_meanwhile_has_left(
    mattermost: Any, loop_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _media_that_fails(monkeypatch, "")

    def state(*sessions: str) -> dict[str, Any]:
        entries = [{"session_id": s, "user_id": f"u-{s}", "unmuted": True} for s in sessions]
        return {"channel_id": CHANNEL, "call": json.dumps({"sessions": entries})}

    mattermost.on_action["join"] = lambda socket, data: (
        socket.say(PREFIX + "join", {"connID": socket.id}, connection_id=socket.id),
        socket.say(PREFIX + "call_state", state("alice", "bob")),
    )
    mattermost.on_action["call_state"] = lambda socket, data: socket.say(
        PREFIX + "call_state", state("alice", "carol"), connection_id=socket.id
    )
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(30)
        before = len(me.events)
        mattermost.lose()
        await asyncio.sleep(8)
        assert not me.running.done()
        mattermost.come_back()
        await asyncio.sleep(3)
        told = [str(event).partition(", muted")[0] for event in me.events[before:]]
        assert told == [
            "SignalingLost()",
            "SignalingRestored()",
            "ParticipantLeft(session_id='bob', user_id='u-bob')",
            "ParticipantJoined(session_id='carol', user_id='u-carol')",
            "MuteChanged(session_id='carol'",
            "CallStateReceived()",
        ]
        assert set(me.client.state.participants) == {"alice", "carol"}


async def test_the_end_of_the_session_shows_in_the_media_before_the_search_for_a_websocket_ends(
    mattermost: Any, loop_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 s after the loss the server closes what is left: the job has everything up to then."""
    media = await _media_that_fails(monkeypatch, "the other side closed the connection")
    mattermost.on_action["join"] = lambda socket, data: socket.say(
        PREFIX + "join", {"connID": socket.id}, connection_id=socket.id
    )
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(30)
        mattermost.lose()
        await asyncio.sleep(10)
        assert not me.running.done()
        media.set_result(None)
        await me.end()
        assert asyncio.get_running_loop().time() == pytest.approx(40, abs=0.2)


async def test_whom_a_host_removes_leaves_at_once_and_others_removal_is_only_told(
    mattermost: Any, loop_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 3 s the server would close the media: that would look like a failure."""
    await _media_that_fails(monkeypatch, "")
    mattermost.on_action["join"] = lambda socket, data: socket.say(
        PREFIX + "join", {"connID": socket.id}, connection_id=socket.id
    )
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(1)
        [socket] = mattermost.sockets
        removed = {"call_id": "x", "channel_id": CHANNEL, "user_id": "u"}
        bot_event(socket, "host_removed", removed | {"session_id": "another"})
        bot_event(socket, "host_removed", removed | {"session_id": socket.id}, channel="z" * 26)
        await asyncio.sleep(1)
        assert not me.running.done()
        bot_event(socket, "host_removed", removed | {"session_id": socket.id})
        await me.end()
        me.running.result()
        assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.2)
        assert me.events[1:] == [
            ParticipantRemoved("another", "u"),
            ParticipantRemoved(socket.id, "u"),
            CallEnded("a host removed this session from the call"),
        ]
        assert socket.actions == ["join", "leave"]


async def test_a_reply_of_the_servers_tells_what_time_it_is_there(
    mattermost: Any, loop_clock: Any
) -> None:
    mattermost.server_ms = 1_764_000_000_000
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(1)
        at_ns = me.client.server_ms_to_monotonic_ns(1_764_000_000_000)
        assert at_ns == pytest.approx(0.6e9, abs=1e8)


async def test_captions_and_metrics_go_out_as_the_bot_sends_them(
    mattermost: Any, loop_clock: Any
) -> None:
    async with job(mattermost, loop_clock) as me:
        await asyncio.sleep(1)
        await me.client.send_caption(session_id="s", text="so", new_audio_len_ms=2000)
        await me.client.send_metric("live_captions_window_dropped", session_id="s")
        await asyncio.sleep(1)
        caption, metric = mattermost.sockets[0].frames[-2:]
        if metric["action"] == "ping":
            caption, metric = mattermost.sockets[0].frames[-3:-1]
        assert caption["data"] == {"session_id": "s", "text": "so", "new_audio_len_ms": 2000.0}
        assert isinstance(caption["data"]["new_audio_len_ms"], float)
        assert metric["data"]["metric_name"] == "live_captions_window_dropped"
