"""The codec against bytes that rtcd's own code wrote, and against what must be refused (rtcd.md 2.2, 8)."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.messages import (
    Close,
    Hello,
    Join,
    Leave,
    Message,
    MessageError,
    Reconnect,
    Rtc,
    RtcMessage,
    RtcType,
    Vad,
    decode,
    encode,
)

HELLO = "a568656c6c6f 81 a8636c69656e744944 a26331"
CLOSE = "a5636c6f7365 81 a973657373696f6e4944 a27331"
JOIN = "a46a6f696e 81 aa617631537570706f7274 c3"
# As above with other members: every text is a str, never a bin, or Go cannot build its typed map.
HELLO_WITH_CONNECTION = "a568656c6c6f 82 a8636c69656e744944 a26331 a6636f6e6e4944 a26e31"
LEAVE = "a56c65617665 81 a973657373696f6e4944 a27331"
RECONNECT = "a97265636f6e6e656374 81 a973657373696f6e4944 a27331"
RTC_MUTE = (
    "a3727463 85 a867726f75705f6964 a0 a7757365725f6964 a0 aa73657373696f6e5f6964 a27331"
    "a763616c6c5f6964 a0 a474797065 03"
)
RTC_ICE = (
    "a3727463 86 a867726f75705f6964 a0 a7757365725f6964 a0 aa73657373696f6e5f6964 a27331"
    "a763616c6c5f6964 a0 a474797065 01 a464617461 c4027b7d"
)


def frame(kind: Any, body: Any) -> bytes:
    packed: bytes = msgpack.packb(kind) + msgpack.packb(body)
    return packed


def rtc_frame(**changes: Any) -> bytes:
    """An rtc message of session s1; a member set to `...` is left out."""
    body = {"group_id": "", "user_id": "", "session_id": "s1", "call_id": "", "type": 3} | changes
    return frame("rtc", {key: value for key, value in body.items() if value is not ...})


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (HELLO, Hello(client_id="c1", conn_id="")),
        (CLOSE, Close("s1")),
        (JOIN, Join(call_id="", user_id="", session_id="", av1_support=True)),
        (RTC_MUTE, Rtc(RtcMessage(RtcType.MUTE, "s1"))),
        (RTC_ICE, Rtc(RtcMessage(RtcType.ICE, "s1", b"{}"))),
    ],
)
def test_frames_of_the_original_are_read(vector: str, message: Message) -> None:
    assert decode(bytes.fromhex(vector)) == message


@pytest.mark.parametrize(
    ("message", "vector"),
    [
        (Hello("c1", "n1"), HELLO_WITH_CONNECTION),
        (Leave("s1"), LEAVE),
        (Reconnect("s1"), RECONNECT),
        (Close("s1"), CLOSE),
        (Rtc(RtcMessage(RtcType.MUTE, "s1")), RTC_MUTE),
        (Rtc(RtcMessage(RtcType.ICE, "s1", b"{}")), RTC_ICE),
    ],
)
def test_frames_are_written_byte_for_byte_as_the_original_writes_them(
    message: Message, vector: str
) -> None:
    assert encode(message) == bytes.fromhex(vector)


def test_an_empty_type_without_data_is_a_frame_but_no_message() -> None:
    with pytest.raises(MessageError, match="message type '' is not known"):
        decode(bytes.fromhex("a0 c0"))


@pytest.mark.parametrize(
    ("message", "kind", "body"),
    [
        (Hello("client", "connection"), "hello", {"clientID": "client", "connID": "connection"}),
        (
            Join("call", "user", "session", "channel", av1_support=True, dc_signaling=False),
            "join",
            {
                "callID": "call",
                "userID": "user",
                "sessionID": "session",
                "channelID": "channel",
                "av1Support": True,
                "dcSignaling": False,
            },
        ),
        (Leave("session"), "leave", {"sessionID": "session"}),
        (Reconnect("session"), "reconnect", {"sessionID": "session"}),
        (Close("session"), "close", {"sessionID": "session"}),
        (
            Vad(RtcMessage(RtcType.VOICE_ON, "session", b"", "group", "user", "call")),
            "vad",
            {
                "group_id": "group",
                "user_id": "user",
                "session_id": "session",
                "call_id": "call",
                "type": 7,
            },
        ),
    ],
)
def test_a_frame_is_two_values_back_to_back_a_name_and_a_map(
    message: Message, kind: str, body: dict[str, Any]
) -> None:
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(encode(message))
    assert list(unpacker) == [kind, body]
    assert decode(encode(message)) == message


def test_the_numbers_of_the_rtc_types_are_the_wires() -> None:
    assert {kind.name: kind.value for kind in RtcType} == {
        "ICE": 1,
        "SDP": 2,
        "MUTE": 3,
        "UNMUTE": 4,
        "SCREEN_ON": 5,
        "SCREEN_OFF": 6,
        "VOICE_ON": 7,
        "VOICE_OFF": 8,
        "VIDEO_ON": 9,
        "VIDEO_OFF": 10,
    }


@given(
    st.builds(
        RtcMessage,
        type=st.sampled_from(RtcType),
        session_id=st.text(min_size=1),
        data=st.binary(max_size=300),
        group_id=st.text(),
        user_id=st.text(),
        call_id=st.text(),
    )
)
def test_every_rtc_message_comes_back_as_it_went(message: RtcMessage) -> None:
    assert decode(encode(Rtc(message))) == Rtc(message)
    assert decode(encode(Vad(message))) == Vad(message)


def test_an_rtc_message_may_be_an_array_of_six() -> None:
    body = ["group", "user", "session", "call", 2, b"sdp"]
    expected = RtcMessage(RtcType.SDP, "session", b"sdp", "group", "user", "call")
    assert decode(frame("rtc", body)) == Rtc(expected)
    assert decode(frame("rtc", [*body[:5], None])) == Rtc(
        RtcMessage(RtcType.SDP, "session", b"", "group", "user", "call")
    )


@pytest.mark.parametrize("length", [0, 5, 7])
def test_an_array_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(MessageError, match=r"rtc\.type"):
        decode(frame("rtc", ["g", "u", "s", "c", 2, b"", b""][:length]))


def test_only_session_type_and_data_are_needed_inbound_and_the_rest_is_skipped() -> None:
    body = {"session_id": "s1", "type": 2, "data": b"x", "new": {"a": [1, None]}, 7: "odd key"}
    assert decode(frame("rtc", body)) == Rtc(RtcMessage(RtcType.SDP, "s1", b"x"))


def test_a_join_may_leave_everything_out_because_the_media_plane_says_what_is_missing() -> None:
    body = {"sessionID": "s1", "channelID": None, "av1Support": None, "other": 1}
    assert decode(frame("join", body)) == Join(call_id="", user_id="", session_id="s1")


def test_a_group_in_a_join_is_not_even_read() -> None:
    with_group = decode(frame("join", {"sessionID": "s1", "groupID": "somebody-else"}))
    assert with_group == decode(frame("join", {"sessionID": "s1"}))


@pytest.mark.parametrize("kind", ["leave", "reconnect", "close"])
@pytest.mark.parametrize("body", [None, {}, {"sessionID": None}, {"sessionID": ""}, {None: None}])
def test_a_map_with_nil_or_nothing_in_it_is_refused_and_ends_nothing(kind: str, body: Any) -> None:
    with pytest.raises(MessageError, match=rf"{kind}\.sessionID"):
        decode(frame(kind, body))


@pytest.mark.parametrize("kind", ["leave", "reconnect", "close"])
@pytest.mark.parametrize("value", [b"s1", 1, True, ["s1"], {"s1": "s1"}])
def test_a_session_id_that_is_no_str_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(MessageError, match=rf"{kind}\.sessionID: should be a text"):
        decode(frame(kind, {"sessionID": value}))


@pytest.mark.parametrize("key", ["clientID", "connID"])
def test_a_hello_with_bin_instead_of_str_is_refused(key: str) -> None:
    with pytest.raises(MessageError, match=rf"hello\.{key}: should be a text"):
        decode(frame("hello", {"clientID": "c", "connID": "n"} | {key: b"x"}))


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("callID", b"x", "a text"),
        ("userID", 5, "a text"),
        ("sessionID", [], "a text"),
        ("channelID", True, "a text"),
        ("av1Support", 1, "true or false"),
        ("dcSignaling", "true", "true or false"),
    ],
)
def test_a_join_names_the_member_of_a_wrong_kind(key: str, value: Any, wanted: str) -> None:
    with pytest.raises(MessageError, match=rf"join\.{key}: should be {wanted}"):
        decode(frame("join", {key: value}))


@pytest.mark.parametrize("number", [0, 11, -1, 2**40, True, 1.0, "1", None, [1], {}, b"\x01", ...])
def test_an_rtc_type_that_is_not_a_number_from_1_to_10_is_refused(number: Any) -> None:
    with pytest.raises(MessageError, match=r"rtc\.type = .*: should be 1 to 10"):
        decode(rtc_frame(type=number))


@pytest.mark.parametrize("data", ["text", "", 0, False, [], {}])
def test_rtc_data_that_is_not_bin_is_refused_even_when_it_is_empty(data: Any) -> None:
    with pytest.raises(MessageError, match=r"rtc\.data: should be bin"):
        decode(rtc_frame(data=data))


def test_rtc_data_may_be_nil() -> None:
    assert decode(rtc_frame(data=None)) == Rtc(RtcMessage(RtcType.MUTE, "s1"))


@pytest.mark.parametrize("session_id", ["", None, ...])
def test_an_rtc_message_without_a_session_is_refused(session_id: Any) -> None:
    with pytest.raises(MessageError, match=r"rtc\.session_id: should not be empty"):
        decode(rtc_frame(session_id=session_id))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xa3rtc",  # no data
        msgpack.packb(["rtc", {"session_id": "s1", "type": 3}]),  # with an array around
        msgpack.packb({"rtc": {"session_id": "s1", "type": 3}}),  # with a map around
        rtc_frame() + b"\xc0",  # a third value
        rtc_frame()[:-1],  # cut off
        frame(b"rtc", {"session_id": "s1", "type": 3}),
        frame(None, None),
        frame(3, {}),
        b"not messagepack at all",
    ],
)
def test_what_is_not_a_name_and_its_data_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="frame should be a type and its data"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xc1", id="never used code"),
        pytest.param(b"\xa5leave\x81\xa9sessionID\xa1\xff", id="not UTF-8"),
        pytest.param(b"\xa5leave\x81\xa9sessionID\xa3\xed\xa0\x80", id="surrogate"),
        pytest.param(b"\xa4join\x81\x90\xc0", id="array as a key"),
        pytest.param(b"\xa4join\x81\x80\xc0", id="map as a key"),
        pytest.param(b"\xa3rtc" + b"\x91" * 5000 + b"\xc0", id="deep nesting"),
        pytest.param(b"\xa3rtc\xdd\xff\xff\xff\xff", id="announces 2**32 values"),
        pytest.param(rtc_frame(data=bytes(1 << 20)), id="larger than 1 MiB"),
    ],
)
def test_bytes_that_are_not_messagepack_raise_nothing_but_a_message_error(data: bytes) -> None:
    with pytest.raises(MessageError, match="frame is not MessagePack"):
        decode(data)


@given(st.binary(max_size=60))
def test_no_bytes_make_the_decoder_raise_anything_else(data: bytes) -> None:
    for prefix in (b"", b"\xa3rtc", b"\xa4join", b"\xa5leave"):
        with contextlib.suppress(MessageError):
            decode(prefix + data)


@pytest.mark.parametrize("kind", ["", "Join", "rtc2", "sdp"])
def test_an_unknown_type_is_named(kind: str) -> None:
    with pytest.raises(MessageError, match=f"message type '{kind}' is not known"):
        decode(frame(kind, {}))
