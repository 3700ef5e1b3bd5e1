"""Frames out of packets."""

from __future__ import annotations

from callclient.receive.depacketize import OpusDepacketizer, Vp8Depacketizer
from callclient.receive.jitter import BufferedPacket
from callclient.receive.tracks import EncodedFrame
from rtc import vp8
from rtc.rtp import RtpHeader

MS = 1_000_000


def packet(
    payload: bytes, *, timestamp: int = 0, marker: bool = False, lost_before: int = 0
) -> BufferedPacket:
    header = RtpHeader(marker, 96, 0, timestamp, 1, 0, len(payload))
    return BufferedPacket(0, header, payload, timestamp // 90 * MS, lost_before)


def picture(number: int, *, key: bool, size: int = 3000) -> tuple[bytes, list[BufferedPacket]]:
    frame = bytes([0x10 if key else 0x11]) + bytes([number]) * size
    payloads = vp8.packetize(frame, picture_id=number)
    last = len(payloads) - 1
    return frame, [
        packet(p, timestamp=number * 9000, marker=index == last) for index, p in enumerate(payloads)
    ]


def feed(depacketizer: Vp8Depacketizer, packets: list[BufferedPacket]) -> list[EncodedFrame]:
    frames = [depacketizer.push(p) for p in packets]
    return [frame for frame in frames if frame is not None]


def test_a_picture_is_put_together_from_its_packets() -> None:
    frame, packets = picture(1, key=True)
    [result] = feed(Vp8Depacketizer(), packets)
    assert result.payload == frame
    assert result.keyframe


def test_a_picture_with_a_hole_is_dropped_and_the_next_one_tells_of_the_loss() -> None:
    depacketizer = Vp8Depacketizer()
    _, broken = picture(1, key=True)
    whole, packets = picture(2, key=False)
    damaged = [broken[0], packet(broken[2].payload, timestamp=9000, marker=True, lost_before=1)]
    assert feed(depacketizer, damaged) == []
    [result] = feed(depacketizer, packets)
    assert result.payload == whole
    assert result.lost_before >= 1
    assert not result.keyframe


def test_a_picture_without_its_end_does_not_leak_into_the_next() -> None:
    depacketizer = Vp8Depacketizer()
    _, first = picture(1, key=True)
    whole, second = picture(2, key=True)
    assert feed(depacketizer, first[:-1]) == []
    [result] = feed(depacketizer, second)
    assert result.payload == whole


def test_broken_payloads_are_loss_and_no_crash() -> None:
    depacketizer = Vp8Depacketizer()
    assert depacketizer.push(packet(b"")) is None
    assert depacketizer.push(packet(b"\x90")) is None
    [result] = feed(depacketizer, picture(3, key=True)[1])
    assert result.lost_before == 2


def test_empty_opus_packets_are_passed_over() -> None:
    depacketizer = OpusDepacketizer()
    assert depacketizer.push(packet(b"")) is None
    frame = depacketizer.push(packet(b"\xf8\xff\xfe", timestamp=960))
    assert frame is not None
    assert frame.duration_ns == 20 * MS
