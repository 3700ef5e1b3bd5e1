"""VP8 picture ids that go on when a receiver is moved to another layer (RFC 7741)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc import vp8
from sfu.forwarding.vp8_rewriter import Vp8Ids, Vp8Rewriter, read_vp8_ids

_KEY, _DELTA = b"\x10\x02\x00\x9d\x01\x2a", b"\x11\x02\x00"


def _payload(
    picture_id: int, tl0: int, key_index: int, *, frame: bytes = _DELTA, wide: bool = True
) -> bytes:
    """S = 1, extensions I, L, T and K."""
    picture = (0x8000 | picture_id).to_bytes(2) if wide else bytes([picture_id])
    return b"\x90\xf0" + picture + bytes([tl0, 0x60 | key_index]) + frame


def _ids(payload: bytes) -> Vp8Ids:
    ids = read_vp8_ids(payload, 0, len(payload))
    assert ids is not None
    return ids


def _rewritten(rewriter: Vp8Rewriter, payload: bytes, generation: int | None = None) -> bytes:
    packet = bytearray(b"header" + payload)
    assert rewriter.apply(packet, 6, _ids(payload), generation)
    assert packet[:6] == b"header"
    return bytes(packet[6:])


@pytest.mark.parametrize("wide", [True, False])
def test_the_descriptor_is_read_with_its_places(wide: bool) -> None:
    packet = b"header" + _payload(100, 7, 9, wide=wide) + b"tail"
    ids = read_vp8_ids(packet, 6, len(packet) - 4)
    assert ids is not None
    assert (ids.picture_id, ids.tl0_index, ids.key_index, ids.wide) == (100, 7, 9, wide)
    assert (ids.picture_at, ids.tl0_at, ids.key_at) == ((2, 4, 5) if wide else (2, 3, 4))


def test_a_descriptor_without_extensions_has_nothing_to_rewrite() -> None:
    payload = b"\x10" + _KEY
    ids = _ids(payload)
    assert (ids.picture_at, ids.tl0_at, ids.key_at) == (0, 0, 0)
    rewriter = Vp8Rewriter()
    rewriter.switch(_ids(_payload(5, 5, 5)), ids)
    assert _rewritten(rewriter, payload) == payload


@pytest.mark.parametrize(
    ("payload", "starts"),
    [
        (_payload(1, 0, 0, frame=_KEY), True),
        (_payload(1, 0, 0, frame=_DELTA), False),
        (b"\x10" + _KEY, True),
        (b"\x00" + _KEY, False),  # goes on with a partition
        (b"\x11" + _KEY, False),  # starts another partition
        (b"\x30" + _KEY, True),  # N bit
        (b"\x10", False),  # nothing behind the descriptor
    ],
)
def test_only_the_first_packet_of_a_key_frame_is_one(payload: bytes, starts: bool) -> None:
    assert _ids(payload).key_frame_start is starts


def test_packets_as_our_own_packetizer_makes_them_are_read() -> None:
    first, second = vp8.packetize(_KEY + bytes(1500), picture_id=0x1234)
    assert [_ids(first).key_frame_start, _ids(second).key_frame_start] == [True, False]
    assert [_ids(first).picture_id, _ids(second).picture_id] == [0x1234, 0x1234]


@given(st.binary(max_size=12))
def test_exactly_the_cut_off_descriptors_are_refused(payload: bytes) -> None:
    try:
        vp8.descriptor_length(payload)
    except ValueError:
        assert read_vp8_ids(payload, 0, len(payload)) is None
    else:
        assert read_vp8_ids(payload, 0, len(payload)) is not None


def test_nothing_is_to_be_done_before_the_first_switch() -> None:
    rewriter = Vp8Rewriter()
    assert not rewriter.active
    assert _rewritten(rewriter, _payload(5, 6, 7)) == _payload(5, 6, 7)


def test_all_indices_go_on_after_a_switch() -> None:
    rewriter = Vp8Rewriter()
    rewriter.switch(_ids(_payload(100, 50, 3)), _ids(_payload(9000, 200, 20, frame=_KEY)))
    assert rewriter.active
    assert _rewritten(rewriter, _payload(9000, 200, 20)) == _payload(101, 51, 4)
    assert _rewritten(rewriter, _payload(9001, 201, 20)) == _payload(102, 52, 4)
    rewriter.switch(_ids(_payload(9001, 201, 20)), _ids(_payload(110, 60, 4)))
    assert _rewritten(rewriter, _payload(110, 60, 4)) == _payload(103, 53, 5)


def test_indices_wrap_in_their_own_width() -> None:
    rewriter = Vp8Rewriter()
    rewriter.switch(_ids(_payload(0x7FFF, 255, 31)), _ids(_payload(5, 5, 5)))
    assert _rewritten(rewriter, _payload(5, 5, 5)) == _payload(0, 0, 0)
    narrow = Vp8Rewriter()
    narrow.switch(_ids(_payload(127, 1, 1, wide=False)), _ids(_payload(5, 5, 5, wide=False)))
    assert _rewritten(narrow, _payload(5, 5, 5, wide=False)) == _payload(0, 2, 2, wide=False)


def test_the_other_bits_beside_the_key_index_stay() -> None:
    rewriter = Vp8Rewriter()
    rewriter.switch(_ids(_payload(1, 1, 1)), _ids(_payload(1, 1, 31)))
    assert _rewritten(rewriter, _payload(1, 1, 31))[5] == 0x60 | 2


def test_late_and_repeated_packets_are_rewritten_as_at_their_time() -> None:
    rewriter = Vp8Rewriter()
    rewriter.switch(_ids(_payload(100, 0, 0)), _ids(_payload(9000, 0, 0)))
    rewriter.switch(_ids(_payload(9010, 0, 0)), _ids(_payload(500, 0, 0)))
    assert _ids(_rewritten(rewriter, _payload(99, 0, 0), 0)).picture_id == 99
    assert _ids(_rewritten(rewriter, _payload(9003, 0, 0), 1)).picture_id == 104
    assert _ids(_rewritten(rewriter, _payload(500, 0, 0), 2)).picture_id == 112


def test_packets_from_before_many_switches_are_refused() -> None:
    rewriter = Vp8Rewriter()
    ids = _ids(_payload(1, 1, 1))
    for _ in range(20):
        rewriter.switch(ids, ids)
    assert not rewriter.apply(bytearray(_payload(1, 1, 1)), 0, ids, 5)
    assert rewriter.apply(bytearray(_payload(1, 1, 1)), 0, ids, 13)
