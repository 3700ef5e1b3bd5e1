"""What clients ask for on the WebSocket: the calls actions (section 2)."""

from __future__ import annotations

import json
from typing import Any

from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import DcError
from sfu.messages import RtcType
from testbed.plugin.call import Call, Session
from testbed.plugin.calls import Calls
from testbed.plugin.hub import Connection
from testbed.plugin.joining import Joining
from testbed.plugin.metrics import PluginMetrics
from testbed.plugin.server_clock import monotonic_s, now_ms


class Actions:
    """Performs them; failures are silent but for the join's (trap 8)."""

    def __init__(self, calls: Calls, metrics: PluginMetrics) -> None:
        self.captions: list[dict[str, Any]] = []
        """Every caption that was broadcast, with its time, for the checks."""
        self.metrics: list[str] = []
        """The names of the `metric` actions."""
        self._counted = metrics
        self._calls = calls
        self._joining = Joining(calls)
        self._log = get_logger(component="actions")

    async def perform(self, connection: Connection, name: str, data: Any) -> None:
        """One action of one connection."""
        data = data if isinstance(data, dict) else {}
        self._counted.came(name)
        calls, call = self._calls, self._calls.current
        if name == "join":
            await self._joining.join(connection, data)
            return
        if name == "reconnect":
            self._joining.reconnect(connection, data)
            return
        if name == "call_state":
            if call is not None and data.get("channelID") == call.channel_id:
                state = calls.state_event(call)
                calls.hub.to_connection(connection.connection_id, "call_state", state)
            return
        session = calls.session_of(connection)
        if session is None or call is None or not calls.may_act(session, monotonic_s()):
            return
        if name == "leave":
            calls.leave(session)
        else:
            self._in_call(call, session, name, data)

    def _in_call(self, call: Call, session: Session, name: str, data: dict[str, Any]) -> None:
        calls = self._calls
        match name:
            case "sdp":
                self._sdp(session, data.get("data"))
            case "ice":
                calls.to_sfu(session, RtcType.ICE, _text(data).encode())
            case "mute" | "unmute":
                session.unmuted = name == "unmute"
                calls.to_sfu(session, RtcType.UNMUTE if session.unmuted else RtcType.MUTE)
                calls.tell_participants(call, f"user_{name}d", session.who())
            case "screen_on":
                self._screen_on(call, session, _text(data))
            case "screen_off":
                self._screen_off(call, session)
            case "video_on" | "video_off":
                session.video = name == "video_on"
                kind = RtcType.VIDEO_ON if session.video else RtcType.VIDEO_OFF
                calls.to_sfu(session, kind, _text(data).encode())
                calls.tell_participants(call, f"user_{name}", session.who())
            case "raise_hand" | "unraise_hand":
                session.raised_hand = now_ms() if name == "raise_hand" else 0
                event = session.who() | {"raised_hand": session.raised_hand}
                calls.tell_participants(call, f"user_{name}", event)
            case "react":
                self._react(call, session, _text(data))
            case "caption":
                self._caption(call, session, data)
            case "metric":
                self.metrics.append(str(data.get("metric_name", "")))
                if session.user is self._calls.world.bot:
                    self._counted.reported(self.metrics[-1])

    def _sdp(self, session: Session, packed: Any) -> None:
        if not isinstance(packed, bytes):
            self._log.warning("sdp.refused", reason="not msgpack bin")
            return
        try:
            kind, sdp = calls_dc.unpack_sdp(packed)
        except DcError as error:
            self._log.warning("sdp.refused", reason=str(error))
            return
        description = json.dumps({"type": kind, "sdp": sdp}).encode()
        self._calls.to_sfu(session, RtcType.SDP, description)

    def _screen_on(self, call: Call, session: Session, text: str) -> None:
        if call.screen_session_id:
            self._log.warning("screen_on.refused", reason="somebody shares already")
            return
        call.screen_session_id = session.session_id
        self._calls.to_sfu(session, RtcType.SCREEN_ON, text.encode())
        self._calls.tell_participants(call, "user_screen_on", session.who())

    def _screen_off(self, call: Call, session: Session) -> None:
        if call.screen_session_id != session.session_id:
            return
        call.screen_session_id = ""
        self._calls.to_sfu(session, RtcType.SCREEN_OFF)
        self._calls.tell_participants(call, "user_screen_off", session.who())

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
        self._calls.tell_participants(call, "user_reacted", event)

    def _caption(self, call: Call, session: Session, data: dict[str, Any]) -> None:
        speaker = call.sessions.get(str(data.get("session_id")))
        if session.user is not self._calls.world.bot or speaker is None:
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
        self._counted.captioned(data["new_audio_len_ms"])
        self.captions.append(event | {"at_ms": now_ms()})
        self._calls.tell_participants(call, "caption", event)


def _text(data: dict[str, Any]) -> str:
    value = data.get("data")
    return value if isinstance(value, str) else ""
