"""Frames out of packets: Opus and VP8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callclient.receive.depacketize import Depacketizer, OpusDepacketizer, depacketizer_for
from callclient.receive.frames import Assembled
from callclient.receive.jitter import BufferedPacket
from callclient.receive.tracks import Codec, TrackStatistics
from rtc import vp8
from rtc.rtp import RtpHeader

CELT_20MS = b"\xf8\xff\xfe"


def packet(
    payload: bytes, *, timestamp: int = 0, marker: bool = False, lost_before: int = 0
) -> BufferedPacket:
    header = RtpHeader(marker, 96, 0, timestamp, 1, 0, len(payload))
    return BufferedPacket(0, header, payload, 0, timestamp, lost_before)


def picture(number: int, *, key: bool, size: int = 3000) -> tuple[bytes, list[BufferedPacket]]:
    frame = bytes([0x10 if key else 0x11]) + bytes([number]) * size
    payloads = vp8.packetize(frame, picture_id=number)
    last = len(payloads) - 1
    return frame, [
        packet(p, timestamp=number * 9000, marker=index == last) for index, p in enumerate(payloads)
    ]


def feed(depacketizer: Depacketizer, packets: list[BufferedPacket]) -> list[Assembled]:
    frames = [depacketizer.push(p) for p in packets]
    return [frame for frame in frames if frame is not None]


@pytest.fixture
def statistics() -> TrackStatistics:
    return TrackStatistics()


def test_a_picture_is_put_together_from_its_packets(statistics: TrackStatistics) -> None:
    frame, packets = picture(1, key=True)
    [result] = feed(depacketizer_for(Codec.VP8, statistics), packets)
    assert result.payload == frame
    assert result.keyframe
    assert statistics.packets_dropped == {}


def test_a_picture_with_a_hole_is_dropped_and_the_next_one_tells_of_the_loss(
    statistics: TrackStatistics,
) -> None:
    depacketizer = depacketizer_for(Codec.VP8, statistics)
    _, broken = picture(1, key=True)
    whole, packets = picture(2, key=False)
    damaged = [broken[0], packet(broken[2].payload, timestamp=9000, marker=True, lost_before=1)]
    assert feed(depacketizer, damaged) == []
    [result] = feed(depacketizer, packets)
    assert result.payload == whole
    assert result.lost >= 1
    assert not result.keyframe
    assert statistics.packets_dropped == {"incomplete": 2}


def test_a_picture_without_its_end_does_not_leak_into_the_next(
    statistics: TrackStatistics,
) -> None:
    depacketizer = depacketizer_for(Codec.VP8, statistics)
    _, first = picture(1, key=True)
    whole, second = picture(2, key=True)
    assert feed(depacketizer, first[:-1]) == []
    [result] = feed(depacketizer, second)
    assert result.payload == whole


@pytest.mark.parametrize("payload", [b"\x90", b"\x10", b"\x90\x80\x01"])
def test_payloads_that_are_broken_or_hold_nothing_are_loss_and_no_crash(
    statistics: TrackStatistics, payload: bytes
) -> None:
    depacketizer = depacketizer_for(Codec.VP8, statistics)
    assert depacketizer.push(packet(payload)) is None
    [result] = feed(depacketizer, picture(3, key=True)[1])
    assert result.lost == 1
    assert statistics.packets_dropped == {"malformed": 1}


def test_a_broken_packet_takes_its_picture_with_it(statistics: TrackStatistics) -> None:
    depacketizer = depacketizer_for(Codec.VP8, statistics)
    _, [first, second, *_] = picture(1, key=True)
    damaged = [first, second, packet(b"\x90", timestamp=9000, marker=True)]
    assert feed(depacketizer, damaged) == []
    assert statistics.packets_dropped == {"malformed": 3}
    [result] = feed(depacketizer, picture(2, key=True)[1])
    assert result.lost == 1


def test_padding_with_which_senders_probe_the_network_is_no_loss(
    statistics: TrackStatistics,
) -> None:
    depacketizer = depacketizer_for(Codec.VP8, statistics)
    feed(depacketizer, picture(1, key=True)[1])
    assert depacketizer.push(packet(b"", timestamp=9000)) is None
    [result] = feed(depacketizer, picture(2, key=False)[1])
    assert result.lost == 0


def test_empty_opus_packets_are_passed_over(statistics: TrackStatistics) -> None:
    depacketizer = OpusDepacketizer(statistics)
    assert depacketizer.push(packet(b"")) is None
    frame = depacketizer.push(packet(CELT_20MS, timestamp=960))
    assert frame is not None
    assert frame.samples == 960
    assert statistics.packets_dropped == {}


def test_lost_sound_is_as_long_as_what_the_lost_packets_held(statistics: TrackStatistics) -> None:
    depacketizer = OpusDepacketizer(statistics)
    depacketizer.push(packet(CELT_20MS, timestamp=0))
    frame = depacketizer.push(packet(CELT_20MS, timestamp=3 * 960, lost_before=2))
    assert frame is not None
    assert (frame.lost, frame.lost_samples) == (2, 1920)


@pytest.mark.parametrize(("jump", "lost", "samples"), [(20, 0, 0), (20, 1, 960), (1, 3, 0)])
def test_silence_in_which_nothing_was_sent_is_not_concealed(
    jump: int, lost: int, samples: int, statistics: TrackStatistics
) -> None:
    depacketizer = OpusDepacketizer(statistics)
    depacketizer.push(packet(CELT_20MS, timestamp=0))
    frame = depacketizer.push(packet(CELT_20MS, timestamp=jump * 960, lost_before=lost))
    assert frame is not None
    assert frame.lost_samples == samples


@given(
    st.lists(
        st.tuples(st.binary(max_size=40), st.integers(0, 3), st.booleans(), st.integers(0, 2)),
        max_size=40,
    )
)
def test_nothing_that_comes_over_the_wire_raises(
    packets: list[tuple[bytes, int, bool, int]],
) -> None:
    for codec in (Codec.VP8, Codec.OPUS):
        depacketizer = depacketizer_for(codec, TrackStatistics())
        for payload, timestamp, marker, lost in packets:
            depacketizer.push(packet(payload, timestamp=timestamp, marker=marker, lost_before=lost))
