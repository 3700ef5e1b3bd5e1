from __future__ import annotations

import asyncio
import itertools

import av
import numpy as np
import pytest

from callclient.publish import LocalTrack
from foundation.clock import SystemClock
from rtc.rtp import parse_rtp
from rtc.vp8 import descriptor_length, is_key_frame
from testbed.analysis.media import luma, rgb
from testbed.analysis.pictures import corners_present
from testbed.bots.picture import CORNERS, FLASH_FRAMES, FRAMES_PER_S, Picture, flashes
from testbed.bots.screen import ScreenEncoder, share_screen

WHOLE = (0.0, 0.0, 1280.0, 720.0)


def _frame(index: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(Picture().frame(index), format="yuv420p")


def test_all_corners_show_in_every_frame_flash_included() -> None:
    for index in (0, 1, 5):
        assert sorted(corners_present(rgb(_frame(index)), WHOLE)) == sorted(CORNERS)


def test_the_flash_is_in_the_first_frames_of_each_second_only() -> None:
    middle = [int(luma(_frame(index))[360, 640]) for index in range(2 * FRAMES_PER_S)]
    assert [value > 200 for value in middle] == [flashes(i) for i in range(2 * FRAMES_PER_S)]
    assert sum(flashes(i) for i in range(FRAMES_PER_S)) == FLASH_FRAMES


def test_every_frame_differs_from_the_one_before() -> None:
    picture = Picture()
    for index in range(5, 9):
        assert not np.array_equal(picture.frame(index), picture.frame(index + 1))


def test_vp8_keeps_what_the_checks_look_for() -> None:
    encoder = ScreenEncoder()
    decoder = av.CodecContext.create("libvpx", "r")
    frames = [encoder.encode(index, key_frame=index in (9, 13)) for index in range(9, 16)]
    assert [is_key_frame(frame) for frame in frames] == [i in (0, 4) for i in range(7)]
    decoded = [picture for frame in frames for picture in decoder.decode(av.Packet(frame))]
    assert [int(luma(picture)[360, 640]) > 180 for picture in decoded] == [
        flashes(index) for index in range(9, 16)
    ]
    for picture in decoded:
        assert sorted(corners_present(rgb(picture), WHOLE)) == sorted(CORNERS)


async def test_rtp_time_is_the_capture_time_and_a_wanted_key_frame_comes() -> None:
    clock = SystemClock()
    packets: list[bytes] = []
    flashed: list[int] = []
    track = LocalTrack(
        ssrc=1,
        payload_type=96,
        clock_rate_hz=90_000,
        audio_level_id=None,
        send_rtp=packets.append,
    )
    zero_ns = clock.monotonic_ns() - 850_000_000  # so that the first second begins soon
    sharing = asyncio.create_task(
        share_screen(track, clock=clock, zero_ns=zero_ns, on_flash=flashed.append)
    )
    while not flashed:
        await asyncio.sleep(0.01)
    sent_before = len(packets)
    track.key_frame_requested()
    while not any(_is_key(packet) for packet in packets[sent_before:]):
        await asyncio.sleep(0.01)
    sharing.cancel()
    await asyncio.gather(sharing, return_exceptions=True)

    assert _is_key(packets[0])
    assert (flashed[0] - zero_ns) % 1_000_000_000 in (0, 100_000_000)
    headers = [parse_rtp(packet) for packet in packets]
    times = [header.timestamp for header in headers if header is not None and header.marker]
    steps = [(b - a) % 2**32 for a, b in itertools.pairwise(times)]
    assert all(step % 9000 == 0 and step > 0 for step in steps)


def _is_key(packet: bytes) -> bool:
    header = parse_rtp(packet)
    assert header is not None
    payload = packet[header.payload_start : header.payload_end]
    first = payload[0] & 0x10 != 0
    return first and is_key_frame(payload[descriptor_length(payload) :])


def test_colours_are_the_same_after_the_way_through_yuv() -> None:
    picture = rgb(_frame(5))
    for (x, y), colour in {
        (60, 60): CORNERS["top-left"],
        (1220, 660): CORNERS["bottom-right"],
    }.items():
        assert picture[y, x].tolist() == pytest.approx(list(colour), abs=4)
