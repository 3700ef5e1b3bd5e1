"""AV1 over RTP: temporal units out of packets."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callclient.receive.av1 import Av1Error, read_leb128, split_elements, write_leb128
from callclient.receive.decoders import can_decode
from callclient.receive.depacketize import Depacketizer, depacketizer_for
from callclient.receive.frames import Assembled
from callclient.receive.jitter import BufferedPacket
from callclient.receive.tracks import Codec, TrackStatistics
from rtc.rtp import RtpHeader

DELIMITER = b"\x12\x00"


def packet(
    payload: bytes, *, timestamp: int = 0, marker: bool = False, lost: int = 0
) -> BufferedPacket:
    header = RtpHeader(marker, 45, 0, timestamp, 1, 0, len(payload))
    return BufferedPacket(0, header, payload, 0, timestamp, lost)


def obus_of(unit: bytes) -> list[bytes]:
    """The OBUs of a temporal unit without size fields, as RTP wants them; no delimiter."""
    obus, position = [], 0
    while position < len(unit):
        first = unit[position]
        header = 2 if first & 4 else 1
        size, start = read_leb128(unit, position + header)
        if first >> 3 & 15 != 2:
            head = bytes([first & ~2]) + unit[position + 1 : position + header]
            obus.append(head + unit[start : start + size])
        position = start + size
    return obus


def packetize(obus: list[bytes], *, limit: int, counted: bool) -> list[bytes]:
    """Packets of about `limit` bytes; `counted`: with W, so that the last element has no length."""
    packets: list[tuple[int, list[bytes]]] = []
    flags, elements, used = 0, [], 0
    for obu in obus:
        rest, continues = obu, False
        while True:
            room = limit - used
            if counted and len(elements) == 3:
                room = 0
            if room <= 0:
                packets.append((flags | (0x40 if continues else 0), elements))
                flags, elements, used = (0x80 if continues else 0), [], 0
                continue
            elements.append(rest[:room])
            used += len(elements[-1])
            rest, continues = rest[room:], True
            if not rest:
                break
    packets.append((flags, elements))
    written = []
    for flags, elements in packets:
        if counted:
            body = b"".join(write_leb128(len(e)) + e for e in elements[:-1]) + elements[-1]
            written.append(bytes([flags | len(elements) << 4]) + body)
        else:
            body = b"".join(write_leb128(len(e)) + e for e in elements)
            written.append(bytes([flags]) + body)
    return written


@pytest.fixture(scope="module")
def units(engine_missing: Callable[[str, str], None]) -> list[bytes]:
    """Two sequences of temporal units of different size, by a real encoder."""
    if not can_decode(Codec.AV1):
        engine_missing("dav1d", "this FFmpeg has no libdav1d")
    made: list[bytes] = []
    for width, height in ((64, 64), (128, 96)):
        encoder = av.CodecContext.create("libsvtav1", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base = Fraction(1, 15)
        encoder.options = {"preset": "13", "svtav1-params": "pred-struct=1:rc=0:lp=1"}
        for n in range(4):
            frame = av.VideoFrame(width, height, "yuv420p")
            for index, plane in enumerate(frame.planes):
                plane.update(bytes([(40 * n + index) & 255]) * plane.buffer_size)
            frame.pts = n
            made += [bytes(p) for p in encoder.encode(frame)]
        made += [bytes(p) for p in encoder.encode(None)]
    return made


@pytest.fixture
def depacketizer() -> Depacketizer:
    return depacketizer_for(Codec.AV1, TrackStatistics())


Feed = Callable[..., list[Assembled]]


@pytest.fixture
def feed(depacketizer: Depacketizer) -> Feed:
    def give(payloads: list[bytes], *, timestamp: int = 0, lost: int = 0) -> list[Assembled]:
        frames = []
        for index, payload in enumerate(payloads):
            frames.append(
                depacketizer.push(
                    packet(
                        payload,
                        timestamp=timestamp,
                        marker=index == len(payloads) - 1,
                        lost=lost if index == 0 else 0,
                    )
                )
            )
        return [frame for frame in frames if frame is not None]

    return give


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("limit", [7, 60, 1200])
def test_what_a_real_encoder_made_comes_out_whole_and_is_decoded_through_a_change_of_size(
    limit: int, counted: bool, units: list[bytes], feed: Feed
) -> None:
    frames: list[Assembled] = []
    for number, unit in enumerate(units):
        payloads = packetize(obus_of(unit), limit=limit, counted=counted)
        frames += feed(payloads, timestamp=number * 6000)
    assert [len(frame.payload) for frame in frames] == [len(unit) for unit in units]
    assert [frame.keyframe for frame in frames] == [n % 4 == 0 for n in range(8)]
    decoder = av.CodecContext.create("libdav1d", "r")
    decoded = [picture for f in frames for picture in decoder.decode(av.Packet(f.payload))]
    decoded += decoder.decode(None)
    assert [(p.width, p.height) for p in decoded] == [(64, 64)] * 4 + [(128, 96)] * 4


def test_obus_get_their_size_and_delimiters_are_written_anew(feed: Feed) -> None:
    delimiter, padding = b"\x10", b"\x78\x00\x00"
    sequence, frame = b"\x08abc", b"\x30\x10def"
    [unit] = feed(packetize([delimiter, sequence, padding, frame], limit=99, counted=False))
    assert unit.payload == DELIMITER + b"\x0a\x03abc" + b"\x32\x04\x10def"
    assert unit.keyframe


@pytest.mark.parametrize(
    ("obus", "key"),
    [
        ([b"\x08abc", b"\x30\x10"], True),
        ([b"\x30\x10"], False),  # no sequence header: nothing to begin with
        ([b"\x08abc", b"\x30\x30"], False),  # an inter frame
        ([b"\x08abc", b"\x30\x90"], False),  # shows a frame that is known already
        ([b"\x08abc", b"\x18\x10", b"\x20xx"], True),  # header and tiles apart
        ([b"\x0c\x00abc", b"\x34\x00\x10"], True),  # with layer numbers
    ],
)
def test_decoding_can_begin_at_a_sequence_header_with_a_key_frame(
    obus: list[bytes], key: bool, feed: Feed
) -> None:
    [unit] = feed(packetize(obus, limit=99, counted=False))
    assert unit.keyframe is key


def test_a_unit_with_a_hole_is_dropped_and_the_next_one_tells_of_the_loss(feed: Feed) -> None:
    payloads = packetize([b"\x08abc", b"\x30\x10" + bytes(300)], limit=100, counted=False)
    assert len(payloads) == 4
    assert feed(payloads[:1] + payloads[1:2]) == feed([], timestamp=0) == []
    whole = packetize([b"\x30\x30rest"], limit=99, counted=True)
    [unit] = feed(whole, timestamp=3000, lost=1)
    assert unit.lost >= 1


def test_a_unit_that_begins_in_the_middle_is_no_unit(feed: Feed) -> None:
    payloads = packetize([b"\x30\x10" + bytes(300)], limit=100, counted=False)
    assert feed(payloads[1:], timestamp=3000) == []
    [unit] = feed(packetize([b"\x30\x30rest"], limit=99, counted=True), timestamp=6000)
    assert unit.lost == len(payloads) - 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\x00\x05ab",  # longer than the packet
        b"\x20\x01a",  # two announced, one there
        b"\x00\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x80",
    ],
)
def test_broken_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(Av1Error):
        split_elements(payload)


@given(st.integers(0, 2**32 - 1))
def test_lengths_are_read_as_they_are_written(value: int) -> None:
    written = write_leb128(value)
    assert read_leb128(written + b"\xff", 0) == (value, len(written))


@given(
    st.lists(
        st.tuples(st.binary(max_size=30), st.integers(0, 2), st.booleans(), st.integers(0, 1)),
        max_size=30,
    )
)
def test_nothing_that_comes_over_the_wire_raises(
    packets: list[tuple[bytes, int, bool, int]],
) -> None:
    depacketizer = depacketizer_for(Codec.AV1, TrackStatistics())
    for payload, timestamp, marker, lost in packets:
        depacketizer.push(packet(payload, timestamp=timestamp, marker=marker, lost=lost))
