"""Frames of the Mattermost WebSocket."""

from __future__ import annotations

import json

import msgpack
import pytest

from callclient.signaling import wire
from callclient.signaling.wire import WireError, WireEvent, WireReply


def test_the_sdp_action_is_msgpack_with_bin_inside() -> None:
    frame = msgpack.unpackb(wire.sdp_action(3, b"\x78\x9c"), raw=False)
    assert frame == {
        "action": "custom_com.mattermost.calls_sdp",
        "seq": 3,
        "data": {"data": b"\x78\x9c"},
    }


def test_a_calls_action_is_json_text() -> None:
    frame = wire.call_action("join", 1, {"channelID": "c"})
    assert json.loads(frame) == {
        "action": "custom_com.mattermost.calls_join",
        "seq": 1,
        "data": {"channelID": "c"},
    }


@pytest.mark.documents(
    "a-message-that-is-too-large-for-mattermost", "a-message-that-is-too-large-for-mattermost/2"
)
def test_a_frame_above_8_kib_is_refused_before_the_server_closes_the_connection(
    documented,
) -> None:
    with pytest.raises(WireError, match="above 8192") as caption:
        wire.call_action("caption", 1, {"text": "ö" * 8000})
    documented("a-message-that-is-too-large-for-mattermost", str(caption.value))
    with pytest.raises(WireError, match="above 8192") as sdp:
        wire.sdp_action(1, bytes(8192))
    documented("a-message-that-is-too-large-for-mattermost/2", str(sdp.value))


def test_an_event_reads_with_its_scope() -> None:
    event = wire.parse_frame(
        json.dumps(
            {
                "event": "custom_com.mattermost.calls_user_muted",
                "data": {"userID": "u", "session_id": "s", "channelID": "c"},
                "broadcast": {"channel_id": "", "connection_id": ""},
                "seq": 17,
            }
        )
    )
    assert isinstance(event, WireEvent)
    assert (event.name, event.is_call_event) == ("user_muted", True)
    assert (event.channel_id(), event.connection_id()) == ("c", "")


@pytest.mark.parametrize(
    ("data", "broadcast", "channel"),
    [
        ({"channelID": "data"}, {"channel_id": "broadcast"}, "broadcast"),
        ({"channelID": "data"}, {"channel_id": ""}, "data"),
        ({"channel_id": "snake"}, {}, "snake"),
        ({"callID": "call"}, {}, "call"),
        ({}, {}, ""),
    ],
)
def test_the_channel_of_an_event_is_found_wherever_it_is(
    data: dict[str, str], broadcast: dict[str, str], channel: str
) -> None:
    assert WireEvent("x", True, data, broadcast).channel_id() == channel


def test_a_reply_is_not_an_event_and_other_frames_are_passed_over() -> None:
    reply = wire.parse_frame('{"status":"OK","data":{"server_time":5},"seq_reply":2}')
    assert reply == WireReply(2, "OK", {"server_time": 5})
    assert wire.parse_frame('{"status":"OK"}') is None


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(
            frame,
            marks=pytest.mark.documents("a-frame-of-mattermost-that-cannot-be-read"),
        )
        for frame in ("", "nonsense", b"\xff")
    ]
    + [
        pytest.param(
            "[]", marks=pytest.mark.documents("a-frame-of-mattermost-that-cannot-be-read/2")
        )
    ],
)
def test_a_frame_that_is_no_object_is_an_error(frame: str | bytes, documented) -> None:
    with pytest.raises(WireError) as refused:
        wire.parse_frame(frame)
    documented.marked(str(refused.value))


def test_numbers_are_read_as_far_as_the_server_can_mean_them() -> None:
    assert wire.whole_number(2**63 - 1) == 2**63 - 1
    assert wire.whole_number(-1.9) == -1
    for nothing in (10**400, -(10**400), 1e300, float("inf"), float("nan"), True, "1", None):
        assert wire.whole_number(nothing) == 0
