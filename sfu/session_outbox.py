"""What a session says: over the plugin's WebSocket, or over its client's data channel (rtcd.md 3.2, 3.3)."""

from __future__ import annotations

import json

from rtc import calls_dc
from rtc.calls_dc import DcMessage, DcType
from rtc.sctp import DataChannel
from sfu.media_port import SessionConfig, SessionOutlet
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad


class SessionOutbox:
    """Knows the wire forms and which way each message takes; nothing here blocks."""

    def __init__(self, config: SessionConfig, outlet: SessionOutlet) -> None:
        self._config = config
        self.outlet = outlet
        """Where messages for the plugin go; replaced when its connection is."""
        self.channel: DataChannel | None = None
        """The client's, once open."""

    def description(self, kind: str, text: str, *, over_channel: bool) -> None:
        """An offer or answer. The channel is taken only while it is open."""
        if over_channel and self.channel is not None and self.channel.open:
            self.on_channel(DcMessage(DcType.SDP, calls_dc.pack_sdp(kind, text)))
        else:
            data = json.dumps({"type": kind, "sdp": text}).encode()
            self.outlet(Rtc(self._message(RtcType.SDP, data)))

    def candidate(self, line: str) -> None:
        """One of our candidates, as pion's JSON has it."""
        init = {
            "candidate": f"candidate:{line}",
            "sdpMid": "",
            "sdpMLineIndex": 0,
            "usernameFragment": None,
        }
        data = json.dumps({"type": "candidate", "candidate": init}).encode()
        self.outlet(Rtc(self._message(RtcType.ICE, data)))

    def voice(self, active: bool) -> None:
        self.outlet(Vad(self._message(RtcType.VOICE_ON if active else RtcType.VOICE_OFF)))

    def close(self) -> None:
        """The session's last message."""
        self.outlet(Close(session_id=self._config.session_id))

    def on_channel(self, message: DcMessage) -> None:
        """Dropped while the channel is not open."""
        if self.channel is not None:
            self.channel.send(calls_dc.encode(message))

    def pong_text(self) -> None:
        """What old mobile clients wait for (rtcd.md 3.3)."""
        if self.channel is not None:
            self.channel.send("pong")

    def _message(self, kind: RtcType, data: bytes = b"") -> RtcMessage:
        config = self._config
        return RtcMessage(
            type=kind,
            session_id=config.session_id,
            data=data,
            group_id=config.group_id,
            user_id=config.user_id,
            call_id=config.call_id,
        )


def json_text(data: bytes, key: str) -> str:
    """A text member of a JSON object, or empty."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    text = value.get(key) if isinstance(value, dict) else None
    return text if isinstance(text, str) else ""
