"""The synthetic media is valid, at its rate, and tells where it comes from."""

from __future__ import annotations

from itertools import pairwise

import av
import pytest

from rtc import vp8
from rtc.opus import packet_samples
from rtc.rtp import header_extension, parse_rtp
from sfu.loadtest.payloads import opus_packet
from sfu.loadtest.sources import VideoSource, VoiceSource
from sfu.loadtest.stamp import MAGIC, STAMP, STAMP_BYTES, Window

NS = 1_000_000_000


@pytest.fixture
def sent() -> list[bytes]:
    return []


@pytest.fixture
def window() -> Window:
    window = Window()
    window.start_ns, window.end_ns = 1 * NS, 2 * NS
    return window


@pytest.fixture
def voice(sent: list[bytes], window: Window) -> VoiceSource:
    return VoiceSource(
        track=4,
        ssrc=77,
        payload_type=111,
        level_id=3,
        payload_bytes=200,
        send=sent.append,
        window=window,
    )


@pytest.fixture
def video(sent: list[bytes], window: Window) -> VideoSource:
    return VideoSource(
        track=5,
        ssrc=78,
        payload_type=96,
        packet_bytes=1200,
        rate_bps=1_600_000,
        frames_per_s=20,
        send=sent.append,
        window=window,
    )


def play(source: VoiceSource | VideoSource, *, until_ns: int) -> list[int]:
    """Do what the pacer does, exactly on time; returns the times."""
    times, due_ns = [], 0
    while due_ns < until_ns:
        times.append(due_ns)
        next_ns = source.send_due(due_ns, due_ns)
        assert next_ns is not None
        due_ns = next_ns
    return times


def test_voice_is_opus_of_20_ms_with_a_level(voice: VoiceSource, sent: list[bytes]) -> None:
    play(voice, until_ns=NS)
    assert len(sent) == 50
    headers = [parse_rtp(packet) for packet in sent]
    for packet, header in zip(sent, headers, strict=True):
        assert header is not None
        assert (header.ssrc, header.payload_type) == (77, 111)
        assert len(packet) - header.payload_start == 200
        assert packet_samples(packet[header.payload_start :]) == 960
        assert header_extension(packet, 3) in (b"\x14", b"\x78")
    timestamps = [header.timestamp for header in headers if header]
    sequences = [header.sequence for header in headers if header]
    assert {(b - a) & 0xFFFFFFFF for a, b in pairwise(timestamps)} == {960}
    assert {(b - a) & 0xFFFF for a, b in pairwise(sequences)} == {1}


def test_levels_vary_as_talk_does(voice: VoiceSource, sent: list[bytes]) -> None:
    play(voice, until_ns=NS)
    assert len({header_extension(packet, 3) for packet in sent}) == 2


def test_without_the_extension_voice_has_none(sent: list[bytes], window: Window) -> None:
    source = VoiceSource(
        track=4,
        ssrc=77,
        payload_type=111,
        level_id=None,
        payload_bytes=100,
        send=sent.append,
        window=window,
    )
    source.send_due(0, 0)
    header = parse_rtp(sent[0])
    assert header is not None
    assert (header.payload_start, len(sent[0])) == (12, 112)


def test_video_keeps_rate_and_size(video: VideoSource, sent: list[bytes]) -> None:
    play(video, until_ns=3 * NS)
    assert {len(packet) for packet in sent} == {1200}
    assert len(sent) * 1200 * 8 / 3 == pytest.approx(1_600_000, rel=0.02)


def test_the_packets_of_a_frame_are_paced(video: VideoSource) -> None:
    times = play(video, until_ns=NS)
    steps = {b - a for a, b in pairwise(times)}
    assert 2_400_000 in steps  # 1200 bytes at 2.5 times 1.6 Mb/s
    assert min(steps) == 2_400_000


def test_video_is_vp8_with_picture_ids_and_frame_ends(
    video: VideoSource, sent: list[bytes]
) -> None:
    play(video, until_ns=NS)
    frames: list[list[bytes]] = [[]]
    for packet in sent:
        frames[-1].append(packet)
        if packet[1] & 0x80:
            frames.append([])
    complete = [frame for frame in frames if frame]
    assert len(complete) == 20
    for frame in complete:
        payloads = [packet[12:] for packet in frame]
        assert [vp8.starts_frame(p) for p in payloads] == [True] + [False] * (len(frame) - 1)
        assert {vp8.descriptor_length(p) for p in payloads} == {4}
        assert len({packet[4:8] for packet in frame}) == 1  # one timestamp
    ids = [int.from_bytes(frame[0][14:16]) & 0x7FFF for frame in complete]
    assert [b - a for a, b in pairwise(ids)] == [1] * 19


def test_key_frames_come_first_and_when_asked_for(video: VideoSource, sent: list[bytes]) -> None:
    play(video, until_ns=NS // 2)
    video.request_key_frame()
    play(video, until_ns=NS // 2)
    starts = [packet for packet in sent if vp8.starts_frame(packet[12:])]
    keys = [vp8.is_key_frame(packet[16:]) for packet in starts]
    assert keys == [True] + [False] * 9 + [True] + [False] * 9
    assert video.key_frames == 2
    assert starts[0][19:22] == bytes([0x9D, 0x01, 0x2A])


def test_a_decoder_takes_the_picture(video: VideoSource, sent: list[bytes]) -> None:
    play(video, until_ns=NS)
    decoder = av.CodecContext.create("vp8", "r")
    frame, pictures = b"", []
    for packet in sent:
        frame += packet[16:]
        if packet[1] & 0x80:
            pictures += decoder.decode(av.Packet(frame))
            frame = b""
    assert [(p.width, p.height) for p in pictures] == [(640, 360)] * 20
    assert {bytes(p.planes[0])[1000] for p in pictures} == {0x60}


@pytest.mark.parametrize("size_bytes", [40, 200, 258, 259, 260, 261, 514, 515, 1200])
def test_a_decoder_takes_the_voice_at_any_size(size_bytes: int) -> None:
    packet = opus_packet(size_bytes)
    assert len(packet) == size_bytes
    stamped = packet[:-STAMP_BYTES] + bytes(range(STAMP_BYTES))
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    frames = [frame for _ in range(4) for frame in decoder.decode(av.Packet(stamped))]
    assert sum(frame.samples for frame in frames) == 4 * 960
    assert not any(frame.to_ndarray().any() for frame in frames)


def test_a_lost_video_packet_is_repeated_as_it_was(video: VideoSource, sent: list[bytes]) -> None:
    play(video, until_ns=NS)
    original = sent[30]
    video.repeat([int.from_bytes(original[2:4])])
    assert sent[-1] == original
    assert video.repeated == 1


def test_the_stamp_tells_track_number_and_times(voice: VoiceSource, sent: list[bytes]) -> None:
    play(voice, until_ns=100_000_000)
    stamps = [STAMP.unpack_from(packet, -STAMP_BYTES) for packet in sent]
    assert [stamp[:3] for stamp in stamps] == [(MAGIC, 4, number) for number in range(5)]
    assert [stamp[3] for stamp in stamps] == [number * 20_000_000 for number in range(5)]


@pytest.mark.parametrize("kind", ["voice", "video"])
def test_only_what_is_sent_in_the_window_is_counted(kind: str, request) -> None:
    source = request.getfixturevalue(kind)
    times = play(source, until_ns=3 * NS)
    within = sum(NS <= time_ns < 2 * NS for time_ns in times)
    assert source.packets == within
    assert source.bytes == within * (220 if kind == "voice" else 1200)


def test_a_stopped_source_sends_nothing_more(voice: VoiceSource, sent: list[bytes]) -> None:
    voice.stopped = True
    assert voice.send_due(0, 0) is None
    assert not sent
