"""The WebSocket protocol between the plugin and the SFU (rtcd.md 2.2): types and codec, no transport.

One binary frame holds two MessagePack values back to back, a type and its data, with nothing around them.
Used by both ends: the SFU's control plane and the testbed's plugin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack


class MessageError(ValueError):
    """A frame cannot be read; the message names what is wrong with it."""


class RtcType(IntEnum):
    """`type` of an rtc message."""

    ICE = 1
    SDP = 2
    MUTE = 3
    UNMUTE = 4
    SCREEN_ON = 5
    SCREEN_OFF = 6
    VOICE_ON = 7
    VOICE_OFF = 8
    VIDEO_ON = 9
    VIDEO_OFF = 10


@dataclass(frozen=True, slots=True)
class RtcMessage:
    """A message of or to one session."""

    type: RtcType
    session_id: str
    data: bytes = b""
    group_id: str = ""
    user_id: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of the SFU on each connection."""

    client_id: str
    conn_id: str


@dataclass(frozen=True, slots=True)
class Join:
    """Make a session."""

    call_id: str
    user_id: str
    session_id: str
    channel_id: str = ""
    av1_support: bool = False
    dc_signaling: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """End a session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Send this session's messages to the connection that this came by."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Rtc:
    """Signaling of a session, both ways."""

    message: RtcMessage


@dataclass(frozen=True, slots=True)
class Vad:
    """Voice activity of a session began or ended (types VOICE_ON, VOICE_OFF)."""

    message: RtcMessage


@dataclass(frozen=True, slots=True)
class Close:
    """The session has ended, for whatever reason."""

    session_id: str


Message = Hello | Join | Leave | Reconnect | Rtc | Vad | Close


def encode(message: Message) -> bytes:
    """Bytes of one frame."""
    match message:
        case Hello(client_id, conn_id):
            return _frame("hello", {"clientID": client_id, "connID": conn_id})
        case Join():
            return _frame(
                "join",
                {
                    "callID": message.call_id,
                    "userID": message.user_id,
                    "sessionID": message.session_id,
                    "channelID": message.channel_id,
                    "av1Support": message.av1_support,
                    "dcSignaling": message.dc_signaling,
                },
            )
        case Leave(session_id):
            return _frame("leave", {"sessionID": session_id})
        case Reconnect(session_id):
            return _frame("reconnect", {"sessionID": session_id})
        case Close(session_id):
            return _frame("close", {"sessionID": session_id})
        case Rtc(inner):
            return _frame("rtc", _rtc_map(inner))
        case Vad(inner):
            return _frame("vad", _rtc_map(inner))


def decode(data: bytes) -> Message:
    """Read one frame.

    Raises:
        MessageError: not two MessagePack values, unknown type, or members missing or of a wrong kind.
    """
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 20, strict_map_key=False)
    try:
        unpacker.feed(data)
        values = list(unpacker)
    # TypeError: a map or an array as the key of a map
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MessageError(f"frame is not MessagePack: {type(error).__name__}") from error
    if len(values) != 2 or not isinstance(values[0], str):
        raise MessageError("frame should be a type and its data")
    kind, body = values
    match kind:
        case "rtc":
            return Rtc(_rtc_message(body))
        case "vad":
            return Vad(_rtc_message(body))
        case "join":
            return Join(
                call_id=_text(body, kind, "callID"),
                user_id=_text(body, kind, "userID"),
                session_id=_text(body, kind, "sessionID"),
                channel_id=_text(body, kind, "channelID"),
                av1_support=_flag(body, kind, "av1Support"),
                dc_signaling=_flag(body, kind, "dcSignaling"),
            )
        case "hello":
            return Hello(_text(body, kind, "clientID"), _text(body, kind, "connID"))
        case "leave":
            return Leave(_required(body, kind, "sessionID"))
        case "reconnect":
            return Reconnect(_required(body, kind, "sessionID"))
        case "close":
            return Close(_required(body, kind, "sessionID"))
        case _:
            raise MessageError(f"message type {kind!r} is not known")


def _frame(kind: str, body: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(kind) + msgpack.packb(body, use_bin_type=True)
    return packed


def _rtc_map(message: RtcMessage) -> dict[str, Any]:
    body: dict[str, Any] = {
        "group_id": message.group_id,
        "user_id": message.user_id,
        "session_id": message.session_id,
        "call_id": message.call_id,
        "type": int(message.type),
    }
    if message.data:
        body["data"] = message.data
    return body


def _rtc_message(body: Any) -> RtcMessage:
    if isinstance(body, list) and len(body) == 6:  # the Go side's decoder takes an array as well
        keys = ("group_id", "user_id", "session_id", "call_id", "type", "data")
        body = dict(zip(keys, body, strict=True))
    number: Any = body.get("type") if isinstance(body, dict) else None
    if type(number) is not int or not 1 <= number <= 10:  # True and 1.0 equal 1
        raise MessageError(f"rtc.type = {number!r}: should be 1 to 10")
    data = body.get("data")
    if not isinstance(data, bytes | None):
        raise MessageError("rtc.data: should be bin")
    return RtcMessage(
        type=RtcType(number),
        session_id=_required(body, "rtc", "session_id"),
        data=data or b"",
        group_id=_text(body, "rtc", "group_id"),
        user_id=_text(body, "rtc", "user_id"),
        call_id=_text(body, "rtc", "call_id"),
    )


def _text(body: Any, kind: str, key: str) -> str:
    value = body.get(key, "") if isinstance(body, dict) else None
    if value is None and isinstance(body, dict):
        return ""
    if not isinstance(value, str):
        raise MessageError(f"{kind}.{key}: should be a text")
    return value


def _required(body: Any, kind: str, key: str) -> str:
    value = _text(body, kind, key)
    if not value:
        raise MessageError(f"{kind}.{key}: should not be empty")
    return value


def _flag(body: Any, kind: str, key: str) -> bool:
    value = body.get(key, False) if isinstance(body, dict) else None
    if not isinstance(value, bool | None):
        raise MessageError(f"{kind}.{key}: should be true or false")
    return bool(value)
