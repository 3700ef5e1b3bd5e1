"""The plugin's core: the call, its sessions and their ends; everybody hears of it (sections 2, 3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

from foundation.logs import get_logger
from sfu.messages import Close, Leave, Message, Rtc, RtcMessage, RtcType, Vad
from testbed.plugin.call import Call, Session
from testbed.plugin.faults import Faults
from testbed.plugin.hub import Connection, Hub
from testbed.plugin.posts import Archive
from testbed.plugin.rate_limit import RateLimit
from testbed.plugin.server_clock import now_ms
from testbed.plugin.world import World

RECONNECT_GRACE_S = 10.0
"""How long a session lives without its WebSocket (section 1.5)."""
CALL_END_GRACE_S = 5.0
"""How long sessions have to leave a call that the host ended (section 3.2)."""
REMOVAL_GRACE_S = 3.0
"""How long a session has to leave that the host removed (section 3.2, `host_removed`)."""


class SfuHosts(Protocol):
    """The SFUs behind the plugin's one name (rtcd.md 4.2); see testbed.plugin.rtcd_hosts."""

    async def host_for_new_call(self) -> str:
        """The address that a new call stays with. Raises RtcdError."""

    def send(self, address: str, message: Message) -> None:
        """Queue a message for the SFU there."""


class Calls:
    """All calls of the stand-in (one channel, so one at a time)."""

    def __init__(
        self, *, world: World, hub: Hub, archive: Archive, sfus: SfuHosts, faults: Faults
    ) -> None:
        self.world = world
        self.hub = hub
        self.archive = archive
        self.sfus = sfus
        self.faults = faults
        self.current: Call | None = None
        self.on_session_ended: Callable[[Call, Session], None] | None = None
        """Set by the job lifecycle."""
        self._by_connection: dict[str, Session] = {}
        self._limits: dict[str, RateLimit] = {}
        self._grace: dict[str, asyncio.Task[None]] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._log = get_logger(component="calls")

    # sessions

    def session_of(self, connection: Connection) -> Session | None:
        """Who speaks on this connection; None before a join."""
        return self._by_connection.get(connection.connection_id)

    def may_act(self, session: Session, now_s: float) -> bool:
        """Its message limit (section 2); what is above it is dropped."""
        return self._limits[session.session_id].allow(now_s)

    def add(self, call: Call, session: Session) -> None:
        """A session has joined."""
        call.sessions[session.session_id] = session
        self._by_connection[session.connection_id] = session
        self._limits[session.session_id] = RateLimit(rate_per_s=10, burst=100)

    def take_over(self, session: Session, connection: Connection) -> bool:
        """Its lost connection is replaced; False if it was not waiting for that."""
        grace = self._grace.pop(session.session_id, None)
        if grace is None:
            return False
        grace.cancel()
        session.connection_id = connection.connection_id
        self._by_connection[connection.connection_id] = session
        return True

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

    def leave(self, session: Session) -> None:
        """It says that it goes."""
        self._end_session(session, tell_sfu=True)

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
            self.sfus.send(call.sfu_address, Leave(session.session_id))
        if call.screen_session_id == session.session_id:
            call.screen_session_id = ""
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

        self._end_later(call, None, CALL_END_GRACE_S)

    def remove(self, call: Call, session: Session) -> None:
        """The host sends one session out: who does not leave is closed (section 3.2, `host_removed`)."""
        event = {
            "call_id": call.call_id,
            "channel_id": call.channel_id,
            "session_id": session.session_id,
            "user_id": session.user.user_id,
        }
        self.tell_participants(call, "host_removed", event)
        self._end_later(call, session, REMOVAL_GRACE_S)

    def _end_later(self, call: Call, only: Session | None, grace_s: float) -> None:
        async def end() -> None:
            await asyncio.sleep(grace_s)
            for session in list(call.sessions.values()):
                if only is None or session is only:
                    self._end_session(session, tell_sfu=True)

        task = asyncio.create_task(end(), name="forced-end")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    # the SFU

    def to_sfu(self, session: Session, kind: RtcType, data: bytes = b"") -> None:
        """Pass something of a session on to the SFU that its call stays with."""
        if self.current is not None:
            message = Rtc(RtcMessage(kind, session.session_id, data))
            self.sfus.send(self.current.sfu_address, message)

    async def from_sfu(self, message: Message) -> None:
        """One message of an SFU."""
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
                    self.tell_participants(self.current, f"user_{name}", session.who())
            case Close(session_id):
                session = self._find(session_id)
                if session is not None:
                    self._end_session(session, tell_sfu=False)

    async def close(self) -> None:
        """End the waits for lost connections and ended calls."""
        waits = [*self._grace.values(), *self._ends]
        for wait in waits:
            wait.cancel()
        if waits:
            await asyncio.wait(waits)

    def _find(self, session_id: str) -> Session | None:
        return self.current.sessions.get(session_id) if self.current is not None else None

    # telling

    def state_event(self, call: Call) -> dict[str, Any]:
        """`call_state`'s data."""
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
