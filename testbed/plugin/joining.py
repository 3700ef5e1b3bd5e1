"""How sessions come into a call: a join, with the call it may start, and a reconnect (1.5, 2.1, 3.4)."""

from __future__ import annotations

import asyncio
from typing import Any

from foundation.logs import get_logger
from sfu.messages import Join, Reconnect
from testbed.plugin.call import RECORDING, Call, Session
from testbed.plugin.calls import Calls
from testbed.plugin.hub import Connection
from testbed.plugin.posts import Post
from testbed.plugin.rtcd import RtcdError
from testbed.plugin.server_clock import now_ms
from testbed.plugin.spare_jobs import spare_joined
from testbed.plugin.world import User


class Joining:
    """Adds sessions to the calls."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._one_at_a_time = asyncio.Lock()
        """Two who join at once must not start two calls."""
        self._log = get_logger(component="joining")

    async def join(self, connection: Connection, data: dict[str, Any]) -> None:
        """A refusal is told to the connection; a join without a channel is not (section 2.1)."""
        channel_id = data.get("channelID")
        if not isinstance(channel_id, str) or not channel_id:
            self._log.warning("join.without_channel")
            return
        job_id = str(data.get("jobID") or "")
        async with self._one_at_a_time:
            refusal = self._refusal(connection, channel_id, job_id)
            if not refusal and self._calls.current is None:
                refusal = await self._start_call(channel_id, connection.user)
            call = self._calls.current
            if refusal or call is None:
                error = {"data": refusal, "connID": connection.connection_id}
                self._calls.hub.to_connection(connection.connection_id, "error", error)
                return
            self._add(call, connection, job_id, data)

    def _add(self, call: Call, connection: Connection, job_id: str, data: dict[str, Any]) -> None:
        calls, user = self._calls, connection.user
        is_bot = user is calls.world.bot
        session = Session(
            connection.connection_id,
            connection.connection_id,
            user,
            job_id=job_id if is_bot else "",
        )
        calls.add(call, session)
        job = call.job_by_id(session.job_id)
        if job is not None:
            job.bot_session_id = session.session_id
        join = Join(
            call_id=call.call_id,
            user_id=user.user_id,
            session_id=session.session_id,
            channel_id=call.channel_id,
            av1_support=bool(data.get("av1Support")),
            dc_signaling=bool(data.get("dcSignaling")),
        )
        calls.sfus.send(call.sfu_address, join)
        hub = calls.hub
        hub.to_connection(connection.connection_id, "join", {"connID": connection.connection_id})
        if not is_bot:
            joined = {"user_id": user.user_id, "session_id": session.session_id}
            hub.to_channel(call.channel_id, "user_joined", joined)
        if job is not None and job.job_id in call.spares:
            spare_joined(calls, call, job)
        recording = call.active_job(RECORDING)
        if is_bot and recording is not None:
            # A transcriber that comes late still learns the recording's start (section 3.4).
            calls.job_state(call, recording.state())
        hub.to_user(user.user_id, "call_state", calls.state_event(call))

    def _refusal(self, connection: Connection, channel_id: str, job_id: str) -> str:
        calls, user = self._calls, connection.user
        if calls.faults.refuse_join:
            return calls.faults.refuse_join
        if channel_id != calls.world.channel_id:
            return "forbidden"
        if calls.session_of(connection) is not None:
            return "session is already connected"
        call = calls.current
        if call is not None and call.ended_by_host:
            return "call has ended"
        if user is not calls.world.bot:
            return ""
        if call is not None:
            return call.join_refusal(calls.world.bot, user, job_id)
        return "no job in progress" if job_id else "JobID should not be empty for bot connections"

    async def _start_call(self, channel_id: str, user: User) -> str:
        """Why it cannot be started, or empty."""
        calls = self._calls
        try:
            sfu_address = await calls.sfus.host_for_new_call()
        except RtcdError as error:
            return str(error)
        start_at = now_ms()
        post = calls.archive.add_post(
            Post("custom_calls", "", start_at, props={"title": "", "start_at": start_at})
        )
        call = Call(channel_id, user.user_id, user.user_id, start_at, post.post_id, sfu_address)
        calls.current = call
        event = {
            "id": call.call_id,
            "channelID": channel_id,
            "start_at": start_at,
            "thread_id": call.post_id,
            "post_id": call.post_id,
            "owner_id": call.owner_id,
            "host_id": call.host_id,
        }
        calls.hub.to_channel(channel_id, "call_start", event)
        self._log.info("call.started", call_id=call.call_id)
        return ""

    def reconnect(self, connection: Connection, data: dict[str, Any]) -> None:
        """No answer either way (trap 12)."""
        session_id, call = data.get("originalConnID"), self._calls.current
        session = call.sessions.get(session_id) if call and isinstance(session_id, str) else None
        if (
            call is None
            or session is None
            or data.get("channelID") != self._calls.world.channel_id
            or session.user is not connection.user
            or session.connection_id != data.get("prevConnID")
            or not self._calls.take_over(session, connection)
        ):
            self._log.warning("reconnect.refused")
            return
        # The SFU may know another connection of the plugin for it (rtcd.md 4.5).
        self._calls.sfus.send(call.sfu_address, Reconnect(session.session_id))
