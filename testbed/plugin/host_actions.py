"""What a host may do to others: the routes `host/{…}` of a call (sections 3.2, 5.7).

Most are requests to the other's client, which then does it itself; only a removal is enforced.
"""

from __future__ import annotations

from typing import Any

from testbed.plugin.call import Call, Session
from testbed.plugin.calls import Calls
from testbed.plugin.jobs import RequestRefused


class HostActions:
    """Performs them on the calls."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def perform(self, call: Call | None, user_id: str, action: str, body: dict[str, Any]) -> None:
        """`body` is what the request carried, empty for none. Raises RequestRefused."""
        if call is None or user_id != call.host_id:
            raise RequestRefused(400, "no permissions")
        match action:
            case "end":
                self._calls.end_for_all()
            case "make":
                call.host_id = str(body.get("new_host_id") or "")
                event = {"hostID": call.host_id, "call_id": call.call_id}
                self._calls.tell_participants(call, "call_host_changed", event)
            case "mute":
                self._ask(call, "host_mute", _session(call, body))
            case "mute-others":
                for session in call.people(self._calls.world.bot):
                    if session.unmuted and session.user.user_id != user_id:
                        self._ask(call, "host_mute", session)
            case "screen-off":
                self._ask(call, "host_screen_off", _session(call, body))
            case "lower-hand":
                session = _session(call, body)
                more = {"call_id": call.call_id, "host_id": user_id}
                self._ask(call, "host_lower_hand", session, more)
            case "remove":
                self._calls.remove(call, _session(call, body))
            case _:
                raise RequestRefused(400, "invalid action")

    def _ask(
        self, call: Call, name: str, session: Session, more: dict[str, str] | None = None
    ) -> None:
        """To all connections of that user."""
        event = {"channel_id": call.channel_id, "session_id": session.session_id}
        self._calls.hub.to_user(session.user.user_id, name, event | (more or {}))


def _session(call: Call, body: dict[str, Any]) -> Session:
    session = call.sessions.get(str(body.get("session_id") or ""))
    if session is None:
        raise RequestRefused(400, "session not found")
    return session
