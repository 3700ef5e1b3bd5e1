"""The plugin's core: sessions come and go, actions change the call, everybody hears of it (sections 2, 3)."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import DcError
from sfu.messages import Close, Join, Leave, Message, Rtc, RtcMessage, RtcType, Vad
from testbed.plugin.call import RECORDING, Call, Session
from testbed.plugin.faults import Faults
from testbed.plugin.hub import Connection, Hub
from testbed.plugin.posts import Archive, Post
from testbed.plugin.rate_limit import RateLimit
from testbed.plugin.rtcd import RtcdClient
from testbed.plugin.world import User, World

RECONNECT_GRACE_S = 10.0
"""How long a session lives without its WebSocket (section 1.5)."""
CALL_END_GRACE_S = 5.0
"""How long sessions have to leave a call that the host ended (section 3.2)."""


def now_ms() -> int:
    """The server's clock."""
    return time.time_ns() // 1_000_000


class Calls:
    """All calls of the stand-in (one channel, so one at a time)."""

    def __init__(
        self, *, world: World, hub: Hub, archive: Archive, rtcd: RtcdClient, faults: Faults
    ) -> None:
        self.world = world
        self.hub = hub
        self.archive = archive
        self.faults = faults
        self.current: Call | None = None
        self.captions: list[dict[str, Any]] = []
        """Every caption that was broadcast, with its time, for the checks."""
        self.metrics: list[str] = []
        self._rtcd = rtcd
        self._by_connection: dict[str, Session] = {}
        self._limits: dict[str, RateLimit] = {}
        self._grace: dict[str, asyncio.Task[None]] = {}
        self._call_ends: set[asyncio.Task[None]] = set()
        self._log = get_logger(component="calls")
        self.on_session_ended: Any = None
        """`(call, session)`; set by the job lifecycle."""

    @property
    def session_ids(self) -> list[str]:
        return list(self.current.sessions) if self.current is not None else []

    # WebSocket actions

    async def action(self, connection: Connection, name: str, data: Any) -> None:
        """One calls action; failures are silent but for the join's (trap 8)."""
        data = data if isinstance(data, dict) else {}
        if name == "join":
            await self._join(connection, data)
            return
        if name == "reconnect":
            self._reconnect(connection, data)
            return
        if name == "call_state":
            if self.current is not None and data.get("channelID") == self.current.channel_id:
                state = self._state_event(self.current)
                self.hub.to_connection(connection.connection_id, "call_state", state)
            return
        session = self._by_connection.get(connection.connection_id)
        if session is None or self.current is None:
            return
        if not self._limits[session.session_id].allow(time.monotonic()):
            return
        if name == "leave":
            self._end_session(session, tell_sfu=True)
            return
        self._session_action(self.current, session, name, data)

    def _session_action(
        self, call: Call, session: Session, name: str, data: dict[str, Any]
    ) -> None:
        match name:
            case "sdp":
                self._sdp(session, data.get("data"))
            case "ice":
                self._to_sfu(session, RtcType.ICE, _text(data).encode())
            case "mute" | "unmute":
                session.unmuted = name == "unmute"
                self._to_sfu(session, RtcType.UNMUTE if session.unmuted else RtcType.MUTE)
                self.tell_participants(call, f"user_{name}d", _who(session))
            case "screen_on":
                self._screen_on(call, session, _text(data))
            case "screen_off":
                self._screen_off(call, session)
            case "video_on" | "video_off":
                session.video = name == "video_on"
                kind = RtcType.VIDEO_ON if session.video else RtcType.VIDEO_OFF
                self._to_sfu(session, kind, _text(data).encode())
                self.tell_participants(call, f"user_{name}", _who(session))
            case "raise_hand" | "unraise_hand":
                session.raised_hand = now_ms() if name == "raise_hand" else 0
                event = _who(session) | {"raised_hand": session.raised_hand}
                self.tell_participants(call, f"user_{name}", event)
            case "react":
                self._react(call, session, _text(data))
            case "caption":
                self._caption(call, session, data)
            case "metric":
                self.metrics.append(str(data.get("metric_name", "")))

    # joining and leaving

    async def _join(self, connection: Connection, data: dict[str, Any]) -> None:
        channel_id = data.get("channelID")
        if not isinstance(channel_id, str) or not channel_id:
            self._log.warning("join.without_channel")
            return
        user = connection.user
        refusal = self._refusal(connection, channel_id, str(data.get("jobID") or ""))
        if refusal:
            error = {"data": refusal, "connID": connection.connection_id}
            self.hub.to_connection(connection.connection_id, "error", error)
            return
        call = self.current or self._start_call(channel_id, user)
        session = Session(
            connection.connection_id,
            connection.connection_id,
            user,
            job_id=str(data.get("jobID") or "") if user is self.world.bot else "",
        )
        call.sessions[session.session_id] = session
        self._by_connection[connection.connection_id] = session
        self._limits[session.session_id] = RateLimit(rate_per_s=10, burst=100)
        job = call.job_by_id(session.job_id)
        if job is not None:
            job.bot_session_id = session.session_id
        self._rtcd.send(
            Join(
                call_id=call.call_id,
                user_id=user.user_id,
                session_id=session.session_id,
                channel_id=channel_id,
                av1_support=bool(data.get("av1Support")),
                dc_signaling=bool(data.get("dcSignaling")),
            )
        )
        self.hub.to_connection(
            connection.connection_id, "join", {"connID": connection.connection_id}
        )
        if user is not self.world.bot:
            joined = {"user_id": user.user_id, "session_id": session.session_id}
            self.hub.to_channel(channel_id, "user_joined", joined)
        recording = call.active_job(RECORDING)
        if user is self.world.bot and recording is not None:
            # A transcriber that comes late still learns the recording's start (section 3.4).
            self.job_state(call, recording.state())
        self.hub.to_user(user.user_id, "call_state", self._state_event(call))

    def _refusal(self, connection: Connection, channel_id: str, job_id: str) -> str:
        if self.faults.refuse_join:
            return self.faults.refuse_join
        if channel_id != self.world.channel_id:
            return "forbidden"
        if connection.connection_id in self._by_connection:
            return "session is already connected"
        if self.current is not None and self.current.ended_by_host:
            return "call has ended"
        user = connection.user
        if user is self.world.bot:
            if self.current is None:
                return (
                    "no job in progress"
                    if job_id
                    else ("JobID should not be empty for bot connections")
                )
            return self.current.join_refusal(self.world.bot, user, job_id)
        return ""

    def _start_call(self, channel_id: str, user: User) -> Call:
        start_at = now_ms()
        post = self.archive.add_post(
            Post("custom_calls", "", start_at, props={"title": "", "start_at": start_at})
        )
        call = Call(channel_id, user.user_id, user.user_id, start_at, post.post_id)
        self.current = call
        self.hub.to_channel(
            channel_id,
            "call_start",
            {
                "id": call.call_id,
                "channelID": channel_id,
                "start_at": start_at,
                "thread_id": call.post_id,
                "post_id": call.post_id,
                "owner_id": call.owner_id,
                "host_id": call.host_id,
            },
        )
        self._log.info("call.started", call_id=call.call_id)
        return call

    def _reconnect(self, connection: Connection, data: dict[str, Any]) -> None:
        """No answer either way (trap 12)."""
        session_id = data.get("originalConnID")
        previous = data.get("prevConnID")
        call = self.current
        session = call.sessions.get(session_id) if call and isinstance(session_id, str) else None
        if (
            session is None
            or data.get("channelID") != self.world.channel_id
            or session.user is not connection.user
            or session.connection_id != previous
            or session.session_id not in self._grace
        ):
            self._log.warning("reconnect.refused")
            return
        self._grace.pop(session.session_id).cancel()
        session.connection_id = connection.connection_id
        self._by_connection[connection.connection_id] = session

    def connection_lost(self, connection: Connection) -> None:
        """The session has 10 s to come back; its media goes on meanwhile."""
        session = self._by_connection.pop(connection.connection_id, None)
        if session is None:
            return

        async def give_up() -> None:
            await asyncio.sleep(RECONNECT_GRACE_S)
            self._grace.pop(session.session_id, None)
            self._end_session(session, tell_sfu=True)

        task = asyncio.create_task(give_up(), name="reconnect-grace")
        self._grace[session.session_id] = task

    def end_session(self, session_id: str) -> None:
        """The SFU says that a session has ended."""
        session = self.current.sessions.get(session_id) if self.current is not None else None
        if session is not None:
            self._end_session(session, tell_sfu=False)

    def _end_session(self, session: Session, *, tell_sfu: bool) -> None:
        call = self.current
        if call is None or call.sessions.pop(session.session_id, None) is None:
            return
        self._by_connection.pop(session.connection_id, None)
        self._limits.pop(session.session_id, None)
        grace = self._grace.pop(session.session_id, None)
        if grace is not None and grace is not asyncio.current_task():
            grace.cancel()
        if tell_sfu:
            self._rtcd.send(Leave(session.session_id))
        if call.screen_session_id == session.session_id:
            call.screen_session_id = call.screen_stream_id = ""
            # No keys at all when the sharer left (trap 5).
            self.tell_participants(call, "user_screen_off", {})
        if session.user is not self.world.bot:
            left = {"user_id": session.user.user_id, "session_id": session.session_id}
            self.hub.to_channel(call.channel_id, "user_left", left)
            self._pass_the_host_on(call, session)
        if self.on_session_ended is not None:
            self.on_session_ended(call, session)
        if not call.sessions:
            self._end_call(call)

    def _pass_the_host_on(self, call: Call, left: Session) -> None:
        people = call.people(self.world.bot)
        if left.user.user_id != call.host_id or any(s.user.user_id == call.host_id for s in people):
            return
        call.host_id = people[0].user.user_id if people else ""
        event = {"hostID": call.host_id, "call_id": call.call_id}
        self.tell_participants(call, "call_host_changed", event)

    def _end_call(self, call: Call) -> None:
        self.archive.posts[call.post_id].props["end_at"] = now_ms()
        self.current = None
        self._log.info("call.ended", call_id=call.call_id)

    def end_for_all(self) -> None:
        """The host ends the call for everybody: who does not leave is closed (section 3.2, `call_end`)."""
        call = self.current
        if call is None or call.ended_by_host:
            return
        call.ended_by_host = True
        self.hub.to_channel(call.channel_id, "call_end", {})

        async def close_the_rest() -> None:
            await asyncio.sleep(CALL_END_GRACE_S)
            for session in list(call.sessions.values()):
                self._end_session(session, tell_sfu=True)

        task = asyncio.create_task(close_the_rest(), name="call-end")
        self._call_ends.add(task)
        task.add_done_callback(self._call_ends.discard)

    # media

    def _sdp(self, session: Session, packed: Any) -> None:
        if not isinstance(packed, bytes):
            self._log.warning("sdp.refused", reason="not msgpack bin")
            return
        try:
            kind, sdp = calls_dc.unpack_sdp(packed)
        except DcError as error:
            self._log.warning("sdp.refused", reason=str(error))
            return
        self._to_sfu(session, RtcType.SDP, json.dumps({"type": kind, "sdp": sdp}).encode())

    def _screen_on(self, call: Call, session: Session, text: str) -> None:
        if call.screen_session_id:
            self._log.warning("screen_on.refused", reason="somebody shares already")
            return
        call.screen_session_id = session.session_id
        self._to_sfu(session, RtcType.SCREEN_ON, text.encode())
        self.tell_participants(call, "user_screen_on", _who(session))

    def _screen_off(self, call: Call, session: Session) -> None:
        if call.screen_session_id != session.session_id:
            return
        call.screen_session_id = ""
        self._to_sfu(session, RtcType.SCREEN_OFF)
        self.tell_participants(call, "user_screen_off", _who(session))

    def _react(self, call: Call, session: Session, text: str) -> None:
        try:
            emoji = json.loads(text)
        except ValueError:
            return
        event = {
            "user_id": session.user.user_id,
            "session_id": session.session_id,
            "emoji": emoji,
            "timestamp": now_ms(),
        }
        self.tell_participants(call, "user_reacted", event)

    def _caption(self, call: Call, session: Session, data: dict[str, Any]) -> None:
        speaker = call.sessions.get(str(data.get("session_id")))
        if session.user is not self.world.bot or speaker is None:
            return
        text = data.get("text")
        if not isinstance(text, str) or not isinstance(data.get("new_audio_len_ms"), float | int):
            return
        event = {
            "channel_id": call.channel_id,
            "user_id": speaker.user.user_id,
            "session_id": speaker.session_id,
            "text": text,
        }
        self.captions.append(event | {"at_ms": now_ms()})
        self.tell_participants(call, "caption", event)

    def _to_sfu(self, session: Session, kind: RtcType, data: bytes = b"") -> None:
        self._rtcd.send(Rtc(RtcMessage(kind, session.session_id, data)))

    async def from_sfu(self, message: Message) -> None:
        """One message of the SFU."""
        match message:
            case Rtc(inner):
                session = self._find(inner.session_id)
                if session is not None:
                    signal = {"data": inner.data.decode(), "connID": session.session_id}
                    await self.faults.delay_signal()
                    self.hub.to_connection(session.connection_id, "signal", signal)
            case Vad(inner):
                session = self._find(inner.session_id)
                if session is not None and self.current is not None:
                    name = "voice_on" if inner.type is RtcType.VOICE_ON else "voice_off"
                    self.tell_participants(self.current, f"user_{name}", _who(session))
            case Close(session_id):
                self.end_session(session_id)

    async def close(self) -> None:
        """End the waits for lost connections and ended calls."""
        waits = [*self._grace.values(), *self._call_ends]
        for wait in waits:
            wait.cancel()
        if waits:
            await asyncio.wait(waits)

    # telling

    def _find(self, session_id: str) -> Session | None:
        return self.current.sessions.get(session_id) if self.current is not None else None

    def _state_event(self, call: Call) -> dict[str, Any]:
        state = json.dumps(call.state(self.world.bot))  # a string (trap 6)
        return {"channel_id": call.channel_id, "call": state}

    def tell_participants(self, call: Call, name: str, data: dict[str, Any]) -> None:
        """Scope *part*."""
        user_ids = {session.user.user_id for session in call.people(self.world.bot)}
        self.hub.to_participants(call.channel_id, user_ids, name, data)

    def job_state(self, call: Call, state: dict[str, Any]) -> None:
        """`call_job_state`; the call is named by its channel (section 0)."""
        event = {"callID": call.channel_id, "jobState": state}
        self.tell_participants(call, "call_job_state", event)


def _who(session: Session) -> dict[str, Any]:
    return {"userID": session.user.user_id, "session_id": session.session_id}


def _text(data: dict[str, Any]) -> str:
    value = data.get("data")
    return value if isinstance(value, str) else ""
