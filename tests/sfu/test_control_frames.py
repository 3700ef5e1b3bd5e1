"""Frames of the WebSocket that are no message, and limits (rtcd.md 2.1, 2.2, trap 2)."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from sfu.messages import (
    Close,
    Hello,
    Join,
    Message,
    Rtc,
    RtcMessage,
    RtcType,
    Vad,
)


def join(session_id: str = "s1", call_id: str = "call", **changes: Any) -> Join:
    return Join(call_id, "user", session_id, "channel", **changes)


def mute(session_id: str) -> Rtc:
    return Rtc(RtcMessage(RtcType.MUTE, session_id))


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("leave", id="text"),
        pytest.param("", id="empty text"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1\xff", id="no MessagePack"),
        pytest.param(b"\xa4join\x81\x90\xc0", id="array as a key"),
        pytest.param(b"\xa3rtc" + b"\x91" * 5000, id="deep nesting"),
        pytest.param(msgpack.packb("future") + msgpack.packb({"a": b"bytes"}), id="unknown type"),
        pytest.param(msgpack.packb("") + b"\xc0", id="empty type"),
        pytest.param(msgpack.packb("leave") + msgpack.packb({None: None}), id="nil pair"),
        pytest.param(msgpack.packb("reconnect") + b"\xc0", id="nil"),
        pytest.param(bytes((1 << 20) + 1), id="more than 1 MiB"),
        pytest.param(Hello("c", "n"), id="hello"),
        pytest.param(Vad(RtcMessage(RtcType.VOICE_ON, "s1")), id="vad"),
        pytest.param(Close("s1"), id="close"),
    ],
)
async def test_a_frame_that_is_no_message_for_the_server_is_ignored_and_ends_nothing(
    plane, frame: Message | bytes | str
) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    for _ in range(10):
        socket.send(frame)
    socket.send(mute("s1"))
    assert await socket.settle() == []
    assert plane.media.handled == [mute("s1").message]
    assert plane.media.session("s1") is not None
