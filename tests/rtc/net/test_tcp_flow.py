"""Datagrams over one TCP connection (RFC 4571)."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable

import pytest

from rtc.net.tcp_flow import BACKLOG_BYTES, FrameReader, TcpFlow
from rtc.srtp import MAX_PACKET_BYTES

Pairs = Callable[[], tuple[socket.socket, socket.socket]]


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


async def read_frames(sock: socket.socket, count: int) -> list[bytes]:
    reader, frames = FrameReader(), list[bytes]()
    async with asyncio.timeout(25):
        while len(frames) < count:
            data = await asyncio.get_running_loop().sock_recv(sock, 3000)
            if not data:
                break
            frames += reader.push(data)
    return frames


def test_frames_come_out_the_same_however_the_stream_is_cut() -> None:
    dice = random.Random(5)
    lengths = [0, 1, 2, 255, 256, 1200, MAX_PACKET_BYTES, 0, 7]
    frames = [dice.randbytes(length) for length in lengths]
    stream = framed(*frames)
    for largest in (1, 2, 3, 50, 1500, len(stream)):
        reader, found, at = FrameReader(), list[bytes](), 0
        while at < len(stream):
            size = dice.randint(1, largest)
            found += reader.push(stream[at : at + size])
            at += size
        assert found == frames
        assert reader.rest == b""


def test_the_start_of_a_frame_is_kept() -> None:
    reader = FrameReader()
    assert reader.push(framed(b"one") + b"\x00\x05tw") == [b"one"]
    assert reader.rest == b"\x00\x05tw"
    assert reader.push(b"o!!") == [b"two!!"]


def test_a_frame_that_is_no_packet_of_ours_is_refused_at_its_length() -> None:
    with pytest.raises(ValueError, match="a frame of 2049 bytes, wanted at most 2048"):
        FrameReader().push((MAX_PACKET_BYTES + 1).to_bytes(2, "big"))


class Kept:
    """A flow and what it tells."""

    def __init__(self, sock: socket.socket) -> None:
        self.frames: list[bytes] = []
        self.closed = 0
        self.flow = TcpFlow(
            sock, reader=FrameReader(), on_frame=self.frame, on_closed=self.was_closed
        )

    def frame(self, frame: bytes) -> None:
        self.frames.append(frame)

    def was_closed(self) -> None:
        self.closed += 1


async def test_frames_pass_both_ways(tcp_pair: Pairs, until) -> None:
    near, far = tcp_pair()
    one, two = Kept(near), Kept(far)
    buffer = bytearray(b"first")
    one.flow.send(memoryview(buffer))
    buffer[:] = b"XXXXX"  # the fan-out uses its buffer again at once
    one.flow.send(b"")
    two.flow.send(b"back")
    await until(lambda: len(two.frames) == 2 and one.frames)
    assert two.frames == [b"first", b""]
    assert one.frames == [b"back"]
    one.flow.close()
    await until(lambda: two.closed)


async def test_a_slow_reader_gets_whole_frames_and_misses_counted_ones(tcp_pair: Pairs) -> None:
    near, far = tcp_pair()
    for end, option in ((near, socket.SO_SNDBUF), (far, socket.SO_RCVBUF)):
        end.setsockopt(socket.SOL_SOCKET, option, 65536)
    kept = Kept(near)
    packets = [number.to_bytes(4, "big") * 300 for number in range(1000)]
    for packet in packets:
        kept.flow.send(packet)
    assert kept.flow.dropped > 0
    assert kept.flow._backlog_bytes <= BACKLOG_BYTES
    arriving = len(packets) - kept.flow.dropped
    assert await read_frames(far, arriving) == packets[:arriving]  # the late ones are dropped
    kept.flow.send(b"and on")
    assert await read_frames(far, 1) == [b"and on"]
    assert kept.flow._backlog_bytes == 0
    kept.flow.close()


async def test_the_end_of_the_other_side_is_told_once(tcp_pair: Pairs, until) -> None:
    near, far = tcp_pair()
    kept = Kept(near)
    far.sendall(framed(b"last words") + b"\x00\x09half")
    far.close()
    await until(lambda: kept.closed)
    kept.flow.send(b"too late")
    kept.flow.close()
    await asyncio.sleep(0.01)
    assert (kept.frames, kept.closed) == ([b"last words"], 1)


async def test_a_reset_while_sending_is_the_end_too(tcp_pair: Pairs, until) -> None:
    near, far = tcp_pair()
    kept = Kept(near)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    for _ in range(3):
        kept.flow.send(b"x" * 1000)
    assert kept.closed == 0  # never out of `send`: that is the fan-out's loop
    await until(lambda: kept.closed)
    assert kept.flow.closed


async def test_a_reset_while_a_backlog_waits_is_the_end_too(tcp_pair: Pairs, until) -> None:
    near, far = tcp_pair()
    kept = Kept(near)
    while not kept.flow._backlog:
        kept.flow.send(bytes(2000))
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    await until(lambda: kept.closed)
    assert kept.closed == 1


async def test_what_is_not_framed_ends_the_flow(tcp_pair: Pairs, until) -> None:
    near, far = tcp_pair()
    kept = Kept(near)
    far.sendall(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: kept.closed)
    assert kept.frames == []


async def test_close_in_the_callback_ends_the_frames_and_tells_nobody(
    tcp_pair: Pairs, until
) -> None:
    near, far = tcp_pair()
    kept = Kept(near)

    def one_is_enough(frame: bytes) -> None:
        kept.frames.append(frame)
        kept.flow.close()

    kept.flow._on_frame = one_is_enough
    far.sendall(framed(b"1", b"2", b"3"))
    await until(lambda: kept.frames)
    assert (kept.frames, kept.closed) == ([b"1"], 0)
