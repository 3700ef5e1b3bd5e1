"""Messages on the calls data channel (calls-plugin.md 4.4, rtcd.md 3.3): MessagePack values back to back."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack

CHANNEL_LABEL = "calls-dc"
MAX_INFLATED_SDP_BYTES = 65536


class DcError(ValueError):
    """A data-channel or SDP message cannot be read."""


class DcTooLarge(DcError):
    """It is larger than it may be."""


class DcType(IntEnum):
    PING = 1
    PONG = 2
    SDP = 3
    LOSS_RATE = 4
    ROUND_TRIP_TIME = 5
    JITTER = 6
    LOCK = 7
    UNLOCK = 8
    MEDIA_MAP = 9


@dataclass(frozen=True, slots=True)
class DcMessage:
    """`payload`: bytes for SDP, float for 4–6, bool or None for LOCK, dict for MEDIA_MAP, else None."""

    type: DcType
    payload: Any = None


def encode(message: DcMessage) -> bytes:
    """Bytes of one message; the type is written as `cc NN` as the Go side does."""
    head = bytes([0xCC, message.type])
    if message.payload is None:
        return head
    packed: bytes = msgpack.packb(message.payload, use_bin_type=True)
    return head + packed


def decode(data: bytes) -> DcMessage:
    """Read one message; numbers of 4–6 may come as whole numbers (a JavaScript client sends 0 as one).

    Raises:
        DcError: not MessagePack, unknown type, or a payload of the wrong kind.
    """
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 20)
    try:
        unpacker.feed(data)
        values = list(unpacker)
    except (ValueError, msgpack.UnpackException) as error:
        raise DcError(f"data-channel message is not MessagePack: {error}") from error
    if not values or not isinstance(values[0], int):
        raise DcError("data-channel message does not start with a type number")
    try:
        kind = DcType(values[0])
    except ValueError:
        raise DcError(f"unexpected data-channel message type {values[0]}") from None
    payload = values[1] if len(values) > 1 else None
    if kind in (DcType.LOSS_RATE, DcType.ROUND_TRIP_TIME, DcType.JITTER):
        if isinstance(payload, bool) or not isinstance(payload, int | float):
            raise DcError(f"{kind.name} should carry a number")
        payload = float(payload)
        if not math.isfinite(payload):
            raise DcError(f"{kind.name} should carry a finite number")
    elif kind is DcType.SDP and not isinstance(payload, bytes):
        raise DcError("SDP should carry bytes")
    elif kind is DcType.MEDIA_MAP and not isinstance(payload, dict):
        raise DcError("MEDIA_MAP should carry a map")
    return DcMessage(kind, payload)


def pack_sdp(kind: str, text: str) -> bytes:
    """zlib of `{"type","sdp"}`: how descriptions travel from clients and on the data channel."""
    return zlib.compress(json.dumps({"type": kind, "sdp": text}).encode())


def unpack_sdp(data: bytes, *, limit_bytes: int = MAX_INFLATED_SDP_BYTES) -> tuple[str, str]:
    """`(type, sdp)` of a packed description.

    `limit_bytes`: inflated; the default is the plugin's for what clients send (calls-plugin.md 2).

    Raises:
        DcTooLarge: more than the limit; no more than that is inflated.
        DcError: not zlib, or not such JSON.
    """
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise DcError(f"SDP is not zlib data: {error}") from error
    return read_sdp_json(text, limit_bytes=limit_bytes)


def read_sdp_json(text: bytes | str, *, limit_bytes: int | None = None) -> tuple[str, str]:
    """`(type, sdp)` of `{"type","sdp"}`. Raises DcTooLarge, DcError."""
    if limit_bytes is not None and len(text) > limit_bytes:
        raise DcTooLarge(f"SDP is larger than {limit_bytes} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DcError("SDP message is not JSON") from error
    if not isinstance(value, dict):
        raise DcError("SDP message should be an object")
    kind, sdp = value.get("type"), value.get("sdp")
    if kind not in ("offer", "answer") or not isinstance(sdp, str):
        raise DcError("SDP message should have a type of offer or answer, and sdp as text")
    return kind, sdp
