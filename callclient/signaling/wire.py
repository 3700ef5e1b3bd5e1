"""Frames of the Mattermost WebSocket (calls-plugin.md 1.2, 2, 3): read and written, not interpreted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgpack

ACTION_PREFIX = "custom_com.mattermost.calls_"
MAX_FRAME_BYTES = 8192
"""The server closes the connection on a larger client frame."""
MAX_PACKED_SDP_BYTES = MAX_FRAME_BYTES - 128
"""What is left of it for a deflated description."""
_INT64 = 2**63


class WireError(ValueError):
    """A frame cannot be read, or would be too large to send."""


@dataclass(frozen=True, slots=True)
class WireEvent:
    """A server event; calls events come without their prefix."""

    name: str
    is_call_event: bool
    data: dict[str, Any]
    broadcast: dict[str, Any] = field(default_factory=dict)

    def channel_id(self) -> str:
        """The channel it is about, by the first place that names one (calls-plugin.md 3.1), or empty."""
        for value in (
            self.broadcast.get("channel_id"),
            self.data.get("channelID"),
            self.data.get("channel_id"),
            self.data.get("callID"),
        ):
            if isinstance(value, str) and value:
                return value
        return ""

    def connection_id(self) -> str:
        """The connection it is for, or empty."""
        for value in (self.broadcast.get("connection_id"), self.data.get("connID")):
            if isinstance(value, str) and value:
                return value
        return ""

    def text(self, key: str) -> str:
        """A text member of the data, or empty."""
        value = self.data.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """A numeric member of the data as a whole number, or 0."""
        return whole_number(self.data.get(key))


@dataclass(frozen=True, slots=True)
class WireReply:
    """The answer to a core action."""

    seq_reply: int
    status: str
    data: dict[str, Any]


def whole_number(value: object) -> int:
    """A JSON number as a whole one; 0 for everything else, also for what Go's int64 does not hold: no server
    means that, and sums with fractions would fail."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if -_INT64 <= value < _INT64 else 0  # NaN is neither


def parse_frame(frame: str | bytes) -> WireEvent | WireReply | None:
    """Read a server frame; None for one that is neither event nor reply.

    Raises:
        WireError: not a JSON object.
    """
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise WireError("server frame is not JSON") from error
    if not isinstance(value, dict):
        raise WireError("server frame is not an object")
    data = value.get("data")
    data = data if isinstance(data, dict) else {}
    if "event" in value:
        name = str(value["event"])
        broadcast = value.get("broadcast")
        return WireEvent(
            name=name.removeprefix(ACTION_PREFIX),
            is_call_event=name.startswith(ACTION_PREFIX),
            data=data,
            broadcast=broadcast if isinstance(broadcast, dict) else {},
        )
    if isinstance(value.get("seq_reply"), int):
        return WireReply(value["seq_reply"], str(value.get("status", "")), data)
    return None


def call_action(name: str, seq: int, data: dict[str, Any] | None) -> str:
    """A calls action as a text frame. Raises WireError above 8 KiB."""
    return _limited(json.dumps({"action": ACTION_PREFIX + name, "seq": seq, "data": data}))


def core_action(name: str, seq: int, data: dict[str, Any] | None = None) -> str:
    """A Mattermost action as a text frame."""
    return _limited(json.dumps({"action": name, "seq": seq, "data": data}))


def sdp_action(seq: int, packed: bytes) -> bytes:
    """The `sdp` action: a binary frame with MessagePack *bin* inside, the only form the server takes
    (trap 9). Raises WireError above 8 KiB."""
    frame: bytes = msgpack.packb(
        {"action": f"{ACTION_PREFIX}sdp", "seq": seq, "data": {"data": packed}}, use_bin_type=True
    )
    if len(frame) > MAX_FRAME_BYTES:
        raise WireError(f"sdp frame of {len(frame)} bytes is above {MAX_FRAME_BYTES}")
    return frame


def _limited(frame: str) -> str:
    size = len(frame.encode())
    if size > MAX_FRAME_BYTES:
        raise WireError(f"frame of {size} bytes is above {MAX_FRAME_BYTES}")
    return frame
