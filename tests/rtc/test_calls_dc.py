"""Data-channel messages; the hex vectors are those of rtcd.md 3.3."""

from __future__ import annotations

import zlib

import pytest

from rtc.calls_dc import (
    DcError,
    DcMessage,
    DcType,
    decode,
    encode,
    pack_sdp,
    read_sdp_json,
    unpack_sdp,
)


@pytest.mark.parametrize(
    ("message", "hexadecimal"),
    [
        (DcMessage(DcType.PING), "cc01"),
        (DcMessage(DcType.PONG), "cc02"),
        (DcMessage(DcType.LOCK), "cc07"),
        (DcMessage(DcType.LOCK, True), "cc07c3"),
        (DcMessage(DcType.LOCK, False), "cc07c2"),
        (DcMessage(DcType.UNLOCK), "cc08"),
        (DcMessage(DcType.LOSS_RATE, 0.5), "cc04cb3fe0000000000000"),
        (
            DcMessage(DcType.MEDIA_MAP, {"1": {"type": "voice", "sender_id": "s1"}}),
            "cc0981a13182a474797065a5766f696365a973656e6465725f6964a27331",
        ),
    ],
)
def test_messages_are_the_bytes_that_others_write(message: DcMessage, hexadecimal: str) -> None:
    assert encode(message).hex() == hexadecimal
    assert decode(bytes.fromhex(hexadecimal)) == message


def test_a_type_as_fixint_and_a_whole_number_for_a_rate_are_accepted() -> None:
    assert decode(b"\x01") == DcMessage(DcType.PING)
    assert decode(b"\x04\x00") == DcMessage(DcType.LOSS_RATE, 0.0)


@pytest.mark.parametrize(
    "data", [b"", b"\xa1a", b"\xcc\x63", b"\x04\xc3", b"\x03\xa1a", b"\x09\x01"]
)
def test_what_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(DcError):
        decode(data)


def test_descriptions_travel_packed_and_come_back() -> None:
    assert unpack_sdp(pack_sdp("answer", "v=0")) == ("answer", "v=0")


def test_a_description_that_inflates_beyond_64_kib_is_refused_without_inflating_it() -> None:
    with pytest.raises(DcError, match="65536"):
        unpack_sdp(zlib.compress(bytes(100_000_000), 9))


def test_json_that_is_nested_too_deeply_is_refused_like_any_other_nonsense() -> None:
    with pytest.raises(DcError, match="not JSON"):
        read_sdp_json("[" * 100_000)


def test_a_description_may_be_as_large_as_the_reader_allows() -> None:
    packed = pack_sdp("offer", "x" * 70_000)
    with pytest.raises(DcError, match="larger than 65536 bytes"):
        unpack_sdp(packed)
    assert unpack_sdp(packed, limit_bytes=1 << 20) == ("offer", "x" * 70_000)
